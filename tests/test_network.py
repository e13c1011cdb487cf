"""The networks: their heads at any input size, and the architecture of the design document, part by part."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasbench_mr import cost, network, space, tasks
from nasbench_mr.errors import InvalidArgumentError, OutOfSpaceError, UnknownTaskError
from nasbench_mr.network import Fusion, Head, MultiResolutionNet, ParallelModule, ResidualUnit, build

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
#: Its b, n and channels differ from one another.
CODE = (8, 16, 2, 1, 24, 1, 2, 1, 8, 16, 2, 1, 2, 1, 24, 8, 16, 1, 2, 1, 1, 2, 16, 8, 24, 32, 40)
SMALLEST = tuple(space.LOWER.tolist())
#: One module a stage and one unit a branch, for what depth does not matter to.
SHALLOW = tuple(1 if k in space.DEPTH_DIMS else v for k, v in enumerate(CODE))


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


# --- Heads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (63, 40)])
@pytest.mark.parametrize("head", network.HEADS)
def test_every_head(head: str, size: tuple[int, int], device: str) -> None:
    torch.manual_seed(0)
    net = MultiResolutionNet(SHALLOW, 7, head, width_mult=0.5).to(device)
    shape = (2, 3, 3, *size) if head == "video" else (2, 3, *size)
    y = net(torch.randn(shape, device=device))
    assert isinstance(y, Tensor)
    assert y.shape == ((2, 7, *size) if head == "segmentation" else (2, 7))
    assert y.isfinite().all()
    y.square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_the_bare_trunk_gives_all_branches() -> None:
    net = MultiResolutionNet(SHALLOW, head=None).eval()
    maps = net(torch.randn(1, 3, 65, 96))
    # A side is halved, rounding up: 65, 33, 17, 9, 5, 3.
    assert [tuple(m.shape) for m in maps] == [(1, 16, 17, 24), (1, 8, 9, 12), (1, 24, 5, 6), (1, 32, 3, 3)]
    assert net.head is None
    assert net.channels[-1] == (16, 8, 24, 32)


def test_video_is_the_mean_over_frames() -> None:
    torch.manual_seed(0)
    video = MultiResolutionNet(SHALLOW, 5, "video").eval()
    frame = MultiResolutionNet(SHALLOW, 5, "classification").eval()
    frame.load_state_dict(video.state_dict())
    x = torch.randn(2, 4, 3, 40, 56)
    with torch.no_grad():
        each = torch.stack([frame(x[:, t]) for t in range(4)])
        torch.testing.assert_close(video(x), each.mean(0))


@pytest.mark.parametrize("name", tasks.names())
def test_build_gives_a_tasks_network(name: str) -> None:
    task = tasks.get(name)
    if task.problem == "detection":
        with pytest.raises(InvalidArgumentError, match=f"task '{name}' is detection; expected one of"):
            build(SMALLEST, name)
        return
    if task.space != space.NAME:
        with pytest.raises(InvalidArgumentError, match=f"task '{name}' are of the space '{task.space}'"):
            build(SMALLEST, name)
        return
    net = build(SMALLEST, name)
    assert isinstance(net.head, Head)
    assert net.head.kind == task.problem
    assert net.head.classifier.out_channels == task.num_classes
    for width, built in ((task.width_mult, net), (0.25, build(SMALLEST, task, 0.25))):
        expected = cost.params([SMALLEST], task.num_classes, width)[0]
        assert sum(p.numel() for p in built.parameters()) == expected


def test_same_seed_same_network() -> None:
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        net = build(SHALLOW, "seg").eval()
        with torch.no_grad():
            outputs.append(net(torch.ones(1, 3, 32, 32)))
    assert torch.equal(outputs[0], outputs[1])


# --- Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"head": "detection"},
            "head is 'detection'; expected one of classification, segmentation, video, or",
        ),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"width_mult": 0.0}, "width_mult is 0.0"),
        ({"width_mult": -1.0}, "width_mult is -1.0"),
        ({"width_mult": math.nan}, "width_mult is nan"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        MultiResolutionNet(CODE, **options)


def test_bad_codes_and_tasks() -> None:
    with pytest.raises(OutOfSpaceError, match="i1"):
        MultiResolutionNet((7, *CODE[1:]))
    with pytest.raises(UnknownTaskError, match="did you mean 'seg'"):
        build(CODE, "segg")


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        ("classification", (1, 3, 31, 64)),
        ("segmentation", (1, 3, 64, 31)),
        ("segmentation", (3, 64, 64)),
        ("classification", (1, 2, 3, 64, 64)),
        ("video", (2, 3, 64, 64)),
        (None, (1, 3, 16, 16)),
    ],
)
def test_bad_inputs(head: str | None, shape: tuple[int, ...]) -> None:
    net = MultiResolutionNet(SMALLEST, head=head)
    with pytest.raises(InvalidArgumentError, match=r"input has shape .*at least 32"):
        net(torch.zeros(shape))


# --- The architecture ---------------------------------------------------------------------------------


def test_stem() -> None:
    net = MultiResolutionNet(CODE)
    assert [(c.in_channels, c.out_channels, c.kernel_size, c.stride) for c in convolutions(net.stem)] == [
        (3, 8, (3, 3), (2, 2)),
        (8, 16, (3, 3), (2, 2)),
    ]
    radar = MultiResolutionNet(CODE, in_channels=64, stem_strides=(2, 1))
    assert [(c.in_channels, c.stride[0]) for c in convolutions(radar.stem)] == [(64, 2), (8, 1)]


def test_only_the_classifier_has_a_bias() -> None:
    net = MultiResolutionNet(CODE)
    assert net.head is not None
    for conv in convolutions(net):
        assert (conv.bias is not None) == (conv is net.head.classifier)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == len(convolutions(net)) - 1


def test_stages() -> None:
    """Stage s: b times a fusion module, then a parallel module with n units of c channels on each branch."""
    net = MultiResolutionNet(CODE)
    before: tuple[int, ...] = (CODE[1],)
    for stage, (b, n, c) in zip(net.stages, space.split(CODE).stages, strict=True):
        modules = list(stage.children())
        assert [type(m) for m in modules] == [Fusion, ParallelModule] * b
        for fusion, parallel in zip(modules[::2], modules[1::2], strict=True):
            assert isinstance(fusion, Fusion)
            assert isinstance(parallel, ParallelModule)
            assert paths(fusion) == expected_paths(before, c)
            units = [list(branch.children()) for branch in parallel.branches]
            assert [len(u) for u in units] == list(n)
            for branch, channels in zip(units, c, strict=True):
                for unit in branch:
                    assert isinstance(unit, ResidualUnit)
                    assert [
                        (k.in_channels, k.out_channels, k.kernel_size[0]) for k in convolutions(unit)
                    ] == [(channels, channels, 3)] * 2
            before = c


def paths(fusion: Fusion) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """(from, to): (channels in, channels out, kernel, stride) of a fusion module's convolutions."""
    found = {}
    for name, path in fusion.paths.items():
        (conv,) = convolutions(path)
        start, end = map(int, name.split("_"))
        found[start, end] = (conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0])
    return found


def expected_paths(
    a: tuple[int, ...], c: tuple[int, ...]
) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """Return the same from the design document: only neighbours, new branches from the fused one above."""
    p = len(a)
    out = {}
    for i in range(len(c)):
        if i >= p:
            out[i - 1, i] = (c[i - 1], c[i], 3, 2)
        else:
            out[i, i] = (a[i], c[i], 3, 1)
            if i - 1 >= 0:
                out[i - 1, i] = (a[i - 1], c[i], 3, 2)
            if i + 1 < p:
                out[i + 1, i] = (a[i + 1], c[i], 1, 1)
    return out


def test_number_of_convolutions() -> None:
    b, n = ([CODE[k] for k, name in enumerate(space.NAMES) if name[0] == letter] for letter in "bn")
    units = b[0] * n[0] + b[1] * sum(n[1:3]) + b[2] * sum(n[3:6]) + b[3] * sum(n[6:10])
    # A fusion of s branches has 3 s - 2 paths; the first of a stage has no path up from its new branch.
    fusions = b[0] * 1 + (2 + (b[1] - 1) * 4) + (4 + 1 + (b[2] - 1) * 7) + (7 + 1 + (b[3] - 1) * 10)
    assert len(convolutions(MultiResolutionNet(CODE))) == 2 + fusions + 2 * units + 2


def plain(fusion: Fusion) -> None:
    """Make a fusion module's convolutions and norms pass on what they get."""
    for module in fusion.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.dirac_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0


def test_fusion_adds_neighbours_upsampled_by_nearest() -> None:
    """With identity convolutions, output 0 is input 0 plus input 1 upsampled, every pixel repeated 2 x 2."""
    fusion = Fusion((8, 8), (8, 8, 8)).eval()
    plain(fusion)
    torch.manual_seed(0)
    high, low = torch.rand(1, 8, 8, 12), torch.rand(1, 8, 4, 6)
    with torch.no_grad():
        first, second, third = fusion([high, low])
    torch.testing.assert_close(first, high + low.repeat_interleave(2, 2).repeat_interleave(2, 3))
    # Stride 2 takes every second pixel; the new branch comes from the fused one, not from an input.
    torch.testing.assert_close(second, low + high[..., ::2, ::2])
    torch.testing.assert_close(third, second[..., ::2, ::2])


def test_fusion_fits_odd_sizes_bilinearly() -> None:
    fusion = Fusion((8, 8), (8, 8)).eval()
    plain(fusion)
    high, low = torch.rand(1, 8, 9, 7), torch.rand(1, 8, 5, 4)
    with torch.no_grad():
        first, _ = fusion([high, low])
    up = low.repeat_interleave(2, 2).repeat_interleave(2, 3)
    resized = nn.functional.interpolate(up, (9, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(first, high + resized)


def test_residual_unit() -> None:
    torch.manual_seed(0)
    unit = ResidualUnit(8).eval()
    x = torch.randn(2, 8, 9, 9)
    with torch.no_grad():
        y = unit.bn2(unit.conv2(torch.relu(unit.bn1(unit.conv1(x)))))
        torch.testing.assert_close(unit(x), torch.relu(y + x))


@pytest.mark.parametrize("kind", network.HEADS)
def test_head_joins_all_branches(kind: str) -> None:
    """Segmentation: the highest resolution, upsampled logits; else the lowest, pooled, then classified."""
    torch.manual_seed(0)
    head = Head((8, 16, 24, 32), 40, 5, kind).eval()
    maps = [torch.randn(2, c, 16 // 2**k, 24 // 2**k) for k, c in enumerate((8, 16, 24, 32))]
    size = (16, 24) if kind == "segmentation" else (2, 3)
    joined = torch.cat([nn.functional.interpolate(m, size, mode="bilinear") for m in maps], 1)
    with torch.no_grad():
        features = head.conv(joined)
        assert features.shape == (2, 40, *size)
        if kind == "segmentation":
            logits = nn.functional.interpolate(head.classifier(features), (64, 96), mode="bilinear")
        else:
            logits = nn.functional.linear(
                features.mean((2, 3)), head.classifier.weight[:, :, 0, 0], head.classifier.bias
            )
        torch.testing.assert_close(head(maps, (64, 96)), logits)


@pytest.mark.parametrize(
    ("width_mult", "expected"), [(0.5, (4, 8, 12, 20)), (0.05, (1, 1, 1, 2)), (2.0, (16, 32, 48, 80))]
)
def test_width_mult(width_mult: float, expected: tuple[int, ...]) -> None:
    """i1 = 8, i2 = 16, c1 = 24 and o1 = 40, scaled and rounded half up, at least 1; classes stay."""
    net = MultiResolutionNet(CODE, 7, width_mult=width_mult)
    assert net.head is not None
    i1, i2 = (c.out_channels for c in convolutions(net.stem))
    (o1,) = (c.out_channels for c in convolutions(net.head.conv))
    assert (i1, i2, net.channels[0][0], o1) == expected
    assert net.head.classifier.out_channels == 7


def test_initialisation() -> None:
    """Kaiming normal, fan out: the standard deviation is sqrt(2 / (k * k * channels out))."""
    torch.manual_seed(0)
    net = MultiResolutionNet((64, 128, *CODE[2:]))
    conv = convolutions(net.stem)[1]
    expected = math.sqrt(2 / (9 * 128))
    # 73,728 weights: the standard error of the estimate is 0.26%.
    assert conv.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert abs(conv.weight.mean().item()) < 0.02 * expected
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert (m.weight == 1).all()
            assert (m.bias == 0).all()
    assert net.head is not None
    assert (net.head.classifier.bias == 0).all()
