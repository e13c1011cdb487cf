"""Exact costs: by hand, against a count over the network's modules, and against their torch twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nasbench_mr import cost, space
from nasbench_mr.errors import InvalidArgumentError, MissingExtraError, OutOfSpaceError
from nasbench_mr.network import MultiResolutionNet

#: All channels 8, all b and n 1: the smallest code.
SMALLEST = tuple(space.LOWER.tolist())


def test_the_smallest_code_by_hand() -> None:
    """A convolution of 8 channels has 9 * 8 * 8 + 2 * 8 = 592 parameters with its batch norm (3x3), or
    8 * 8 + 2 * 8 = 80 (1x1); its MACs are those times its output's pixels.
    """
    k3, k1 = 592, 80
    stem = 9 * 3 * 8 + 2 * 8  # 3 -> 8
    a = {2: 64**2, 4: 32**2, 8: 16**2, 16: 8**2, 32: 4**2}
    units = 2 * k3  # one residual unit
    macs = stem * a[2] + k3 * a[4]
    # Stage 1: fusion of one branch, one unit. The later ones: each branch from itself, from the higher (3x3)
    # and from the lower branch (1x1, at the lower resolution), and one new branch.
    macs += k3 * a[4] + units * a[4]
    macs += k3 * a[4] + k3 * a[8] + units * (a[4] + a[8])
    macs += (k3 * a[4] + k1 * a[8]) + 2 * k3 * a[8] + k3 * a[16] + units * (a[4] + a[8] + a[16])
    macs += (k3 * a[4] + k1 * a[8]) + (2 * k3 * a[8] + k1 * a[16]) + 2 * k3 * a[16] + k3 * a[32]
    macs += units * (a[4] + a[8] + a[16] + a[32])
    # Head: 32 -> 8 at the lowest resolution, then 8 -> 50 and its bias on one pixel.
    macs += (32 * 8 + 16) * a[32] + 8 * 50 + 50
    assert cost.macs(SMALLEST).tolist() == [macs]
    # One 3x3 of the stem; fusion paths of the stages; residual units; the head.
    params = (
        stem + k3 * (1 + 1 + 2 + 4 + 6) + k1 * (0 + 0 + 1 + 2) + units * (1 + 2 + 3 + 4) + 32 * 8 + 16 + 450
    )
    assert cost.params(SMALLEST).tolist() == [params]
    # For segmentation the head works at 1/4 of the resolution, on every pixel.
    head = (32 * 8 + 16) * (a[4] - a[32]) + 450 * (a[4] - 1)
    assert cost.macs(SMALLEST, head="segmentation").tolist() == [macs + head]


def counted(net: MultiResolutionNet, height: int, width: int) -> tuple[int, int]:
    """MACs and parameters by what a network's modules do: convolutions, bias, 2 for a batch norm's output."""
    macs = 0

    def count(module: nn.Module, _: Any, y: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] * module.kernel_size[1]
            macs += kernel * module.in_channels * y.numel() + (y.numel() if module.bias is not None else 0)
        elif isinstance(module, nn.BatchNorm2d):
            macs += 2 * y.numel()

    for module in net.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, height, width))
    return macs, sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("seed", "height", "width", "head", "classes", "width_mult"),
    [
        (0, 128, 128, "classification", 50, 1.0),
        (1, 32, 32, "classification", 10, 1.0),
        (2, 33, 97, "classification", 7, 1.0),
        (3, 50, 40, "segmentation", 19, 1.0),
        (4, 64, 96, "segmentation", 1, 1.0),
        (5, 47, 61, "classification", 50, 0.25),
        (6, 63, 35, "segmentation", 19, 0.1),
        (7, 32, 57, "classification", 50, 1.5),
        (8, 39, 64, "segmentation", 11, 0.01),
    ],
)
def test_equals_a_count_over_the_network(
    seed: int, height: int, width: int, head: str, classes: int, width_mult: float
) -> None:
    code = space.sample(1, seed)
    net = MultiResolutionNet(code[0], classes, head, width_mult)
    macs, params = counted(net, height, width)
    assert cost.macs(code, (height, width), classes, head=head, width_mult=width_mult).tolist() == [macs]
    assert cost.params(code, classes, width_mult).tolist() == [params]


def test_square_resolutions_and_defaults() -> None:
    codes = space.sample(20, seed=0)
    assert (cost.macs(codes) == cost.macs(codes, resolution=(128, 128), num_classes=50)).all()
    assert (cost.macs(codes, 96) == cost.macs(codes, (96, 96))).all()
    assert (cost.params(codes) == cost.params(codes, 50)).all()


def test_many_codes_at_once_are_each_code_by_itself() -> None:
    codes = space.sample(500, seed=0)
    macs, params = cost.macs(codes), cost.params(codes)
    assert macs.dtype == params.dtype == np.int64
    assert macs.shape == params.shape == (500,)
    assert macs.tolist() == [int(cost.macs(code)[0]) for code in codes]
    assert params.tolist() == [int(cost.params(code)[0]) for code in codes]
    assert cost.macs(codes[:0]).shape == (0,)


def test_costs_rise_in_every_dimension() -> None:
    for code in space.sample(20, seed=1):
        for other in space.neighbors(code):
            sign = np.sign((other - code).sum())
            assert np.sign(cost.macs(other) - cost.macs(code)) == [sign]
            assert np.sign(cost.params(other) - cost.params(code)) == [sign]


def test_width_is_rounded_half_up_and_at_least_one() -> None:
    scaled = cost.scale_width(np.array([SMALLEST]), 0.0625)
    assert set(scaled[0, list(space.CHANNEL_DIMS)].tolist()) == {1}  # 8 * 0.0625 = 0.5
    assert (scaled[0, list(space.DEPTH_DIMS)] == 1).all()
    assert cost.scale_width(np.array([SMALLEST]), 1.0 / 3)[0, 0] == 3  # 2.67
    assert cost.scale_width(np.array([SMALLEST]), 1e-9)[0, 0] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 31}, "resolution is 31; expected pixels, at least 32"),
        ({"resolution": (128, 16)}, "at least 32 on a side"),
        ({"resolution": 128.5}, "resolution is 128.5"),
        ({"resolution": (64, 64, 64)}, "resolution is"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"num_classes": 2.5}, "num_classes is 2.5"),
        ({"head": "video"}, "head is 'video'; expected one of classification, segmentation"),
        ({"width_mult": 0.0}, "width_mult is 0.0"),
        ({"width_mult": float("nan")}, "width_mult is nan"),
        ({"width_mult": float("inf")}, "width_mult is inf"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        cost.macs(SMALLEST, **options)


def test_bad_codes() -> None:
    with pytest.raises(OutOfSpaceError, match="row 1"):
        cost.macs(np.array([SMALLEST, (0, *SMALLEST[1:])]))
    with pytest.raises(OutOfSpaceError, match="27"):
        cost.params(SMALLEST[:-1])


# --- The torch twins ----------------------------------------------------------------------------------

OPTIONS: list[dict[str, Any]] = [{}, {"resolution": (97, 45), "num_classes": 19, "head": "segmentation"}]


@pytest.mark.parametrize("options", OPTIONS)
def test_torch_equals_the_integers_on_the_grid(options: dict[str, Any]) -> None:
    codes = space.sample(300, seed=2)
    points = torch.tensor(codes, dtype=torch.float64)
    assert cost.macs_torch(points, **options).tolist() == cost.macs(codes, **options).tolist()
    classes = options.get("num_classes", 50)
    assert cost.params_torch(points, classes).tolist() == cost.params(codes, classes).tolist()
    near = cost.macs_torch(points.float(), **options).double().numpy()
    assert np.abs(near / cost.macs(codes, **options) - 1).max() < 1e-5


def test_torch_keeps_shape_and_dtype() -> None:
    points = torch.tensor(space.sample(6, seed=0), dtype=torch.float32).reshape(2, 3, 27)
    for value in (cost.macs_torch(points), cost.params_torch(points)):
        assert value.shape == (2, 3)
        assert value.dtype == torch.float32
    assert cost.macs_torch(points[0, 0]).shape == ()


@pytest.mark.parametrize("function", [cost.macs_torch, cost.params_torch])
def test_gradients_are_finite_differences(function: Any) -> None:
    rng = np.random.default_rng(0)
    point = torch.tensor(rng.uniform(space.LOWER, space.UPPER, 27), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(point), point)
    # The cost is at most quadratic in one dimension, so central differences are exact.
    for k in range(27):
        step = torch.zeros(27, dtype=torch.float64)
        step[k] = 0.5
        difference = function(point.detach() + step) - function(point.detach() - step)
        assert gradient[k].item() == pytest.approx(difference.item(), rel=1e-9)


def test_torch_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    points = torch.ones(27)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nasbench-mr\[search\]'"):
        cost.macs_torch(points)
