"""Exact multiply-accumulates (MACs) and parameters of a code, in closed form.

Both are polynomials in the 27 integers, so one set of formulas serves NumPy integers (`macs`, `params`:
exact) and torch tensors (`macs_torch`, `params_torch`: differentiable in a continuous code, and equal to
the integers on the grid). They count as the published tables do:

    macs   = sum over convolutions (k*k*c_in*c_out*h_out*w_out) + 2 * sum over batch norms (c*h*w) + bias
    params = sum over convolutions (k*k*c_in*c_out)             + 2 * sum over batch norms (c)     + bias

where the classifier is a 1x1 convolution and `bias` its bias (one per class and output pixel). The
published `flops` are MACs of the 50-class classification network for one 1x3x128x128 input, whatever
the task (except 3ddet, whose `flops` follow another rule; there the table's column is the source).

`of` gives the exact costs of any space that has a formula, NAS-Bench-201 among them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nasbench_mr import space, spaces
from nasbench_mr.arrays import Codes
from nasbench_mr.checks import at_least, positive
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.extras import requires

if TYPE_CHECKING:
    import torch

HEADS = ("classification", "segmentation")
#: What the tables' `macs` and `params` columns mean.
RESOLUTION = 128
NUM_CLASSES = 50


class Costs(NamedTuple):
    """A space's exact costs: functions of `(n, DIM)` codes to `(n,)` int64, as its tables count them."""

    macs: Callable[[object], npt.NDArray[np.int64]]
    params: Callable[[object], npt.NDArray[np.int64]]


class Relaxed(NamedTuple):
    """A space's costs in torch: functions of `(n, R)` relaxed codes to `(n,)`, differentiable."""

    macs: Callable[[torch.Tensor], torch.Tensor]
    params: Callable[[torch.Tensor], torch.Tensor]


def of(name: str | spaces.Space) -> Costs | None:
    """Return the exact costs of a search space; None where only tables know them.

    A space has a formula where it has functions `macs` and `params`.

    Args:
        name: as a task carries it, such as "nas-bench-201"; or the space itself.
    """
    own = spaces.get(name) if isinstance(name, str) else name
    if own.NAME == space.NAME:
        return Costs(macs, params)
    of_macs, of_params = getattr(own, "macs", None), getattr(own, "params", None)
    return None if of_macs is None or of_params is None else Costs(of_macs, of_params)


def relaxed(own: spaces.Space) -> Relaxed | None:
    """Return the costs of a space's relaxed codes, exact on the grid; None where there is no such formula."""
    if own.NAME == space.NAME:
        return Relaxed(macs_torch, params_torch)
    tensor = getattr(own, "cost_tensor", None)
    if tensor is None or of(own) is None:
        return None
    return Relaxed(partial(tensor, "macs"), partial(tensor, "params"))


def macs(
    codes: object,
    resolution: int | tuple[int, int] = RESOLUTION,
    num_classes: int = NUM_CLASSES,
    *,
    head: str = "classification",
    width_mult: float = 1.0,
) -> npt.NDArray[np.int64]:
    """Return the multiply-accumulates for one input image: `(n,)` int64.

    Args:
        codes: `(n, 27)` codes, or one.
        resolution: the input's side in pixels, or (height, width); at least 32.
        num_classes: outputs of the classifier, at least 1.
        head: "classification" (lowest resolution, global pooling) or "segmentation" (highest resolution,
            per pixel; the final upsampling is free).
        width_mult: scales all channels as `network.MultiResolutionNet` does.
    """
    values = scale_width(space.check(codes), width_mult)
    pixels = _Pixels.at(resolution, head)
    return _total_integers(values, _classes(num_classes), pixels)


def params(codes: object, num_classes: int = NUM_CLASSES, width_mult: float = 1.0) -> npt.NDArray[np.int64]:
    """Return the trainable parameters, `(n,)` int64, the same with a classification or segmentation head."""
    values = scale_width(space.check(codes), width_mult)
    pixels = _Pixels.at(RESOLUTION, "classification", count=False)
    return _total_integers(values, _classes(num_classes), pixels)


def macs_torch(
    codes: torch.Tensor,
    resolution: int | tuple[int, int] = RESOLUTION,
    num_classes: int = NUM_CLASSES,
    head: str = "classification",
) -> torch.Tensor:
    """`macs` of a continuous code: `(..., 27)` tensor to `(...)`, differentiable, in the input's dtype.

    float64 is exact on the grid; float32 is within 1e-5 of it, relatively.
    """
    return _total_torch(codes, _classes(num_classes), _Pixels.at(resolution, head))


def params_torch(codes: torch.Tensor, num_classes: int = NUM_CLASSES) -> torch.Tensor:
    """`params` of a continuous code: `(..., 27)` tensor to `(...)`, differentiable."""
    pixels = _Pixels.at(RESOLUTION, "classification", count=False)
    return _total_torch(codes, _classes(num_classes), pixels)


def _classes(value: int) -> int:
    """Return a number of classes as Python's own integer, whose products are exact."""
    return at_least(1, "num_classes", value)


def scale_width(codes: Codes, width_mult: float) -> npt.NDArray[np.int64]:
    """Return the codes, `(n, 27)`, all channels times `width_mult`, rounded half up, at least 1."""
    width_mult = positive("width_mult", width_mult, most=sys.float_info.max)
    scaled = codes.astype(np.int64)
    if width_mult != 1:
        dims = list(space.CHANNEL_DIMS)
        scaled[:, dims] = np.maximum(1, np.floor(scaled[:, dims] * width_mult + 0.5))
    return scaled


def scaled_parts(code: object, width_mult: float) -> space.Parts:
    """`space.split` of one code with its channels scaled by `width_mult`."""
    return space.split_values(scale_width(space.check([space.parse(code)]), width_mult)[0].tolist())


class _Pixels:
    """Output pixels of every part of the network; all ones to count parameters."""

    def __init__(self, stem: int, branches: tuple[int, ...], head: int, classifier: int):
        self.stem, self.branches, self.head, self.classifier = stem, branches, head, classifier

    @classmethod
    def at(cls, resolution: int | tuple[int, int], head: str, count: bool = True) -> _Pixels:
        sides = resolution if isinstance(resolution, tuple) else (resolution, resolution)
        if len(sides) != 2 or not all(isinstance(s, (int, np.integer)) and s >= 32 for s in sides):
            raise InvalidArgumentError(f"resolution is {resolution}; expected pixels, at least 32 on a side")
        height, width = map(int, sides)
        if head not in HEADS:
            raise InvalidArgumentError(f"head is {head!r}; expected one of {', '.join(HEADS)}")
        if not count:
            return cls(1, (1, 1, 1, 1), 1, 1)
        # A 3x3 convolution of stride 2 with padding 1 halves a side, rounding up; k in a row divide
        # it by 2^k, rounding up.
        sizes = [-(-height // 2**k) * -(-width // 2**k) for k in range(1, 6)]
        top = sizes[1] if head == "segmentation" else sizes[4]
        return cls(sizes[0], tuple(sizes[1:]), top, top if head == "segmentation" else 1)


def _total_integers(
    values: npt.NDArray[np.int64], num_classes: int, pixels: _Pixels
) -> npt.NDArray[np.int64]:
    if len(values) == 1:
        # A query's one code: Python's own integers are several times as fast as arrays of one.
        return np.array([_total(values[0].tolist(), num_classes, pixels)], np.int64)
    return np.asarray(_total(list(values.T), num_classes, pixels), np.int64)


def _total_torch(codes: torch.Tensor, num_classes: int, pixels: _Pixels) -> torch.Tensor:
    with requires("search", "the differentiable cost"):
        import torch
    total = _total(list(codes.unbind(-1)), num_classes, pixels)
    assert isinstance(total, torch.Tensor)
    return total


def _total(v: list[Any], num_classes: int, pixels: _Pixels) -> Any:
    """Return the polynomial itself; `v` holds the 27 columns (arrays, tensors or numbers)."""

    def conv(c_in: Any, c_out: Any, k: int, area: int) -> Any:
        """Return a k x k convolution and its batch norm, whose output has `area` pixels."""
        return (k * k * c_in + 2) * c_out * area

    area = pixels.branches
    i1, i2 = (v[k] for k in space.STEM)
    total = conv(3, i1, 3, pixels.stem) + conv(i1, i2, 3, area[0])
    previous = [i2]
    for stage in space.STAGES:
        b, n, c = v[stage.b], [v[k] for k in stage.n], [v[k] for k in stage.c]
        # One fusion from the previous stage's branches, b - 1 within the stage, b parallel modules.
        total = total + _fusion(previous, c, area, conv) + (b - 1) * _fusion(c, c, area, conv)
        units = sum(
            n_k * 2 * conv(c_k, c_k, 3, area[k]) for k, (n_k, c_k) in enumerate(zip(n, c, strict=True))
        )
        total = total + b * units
        previous = c
    o1 = v[space.HEAD]
    total = total + conv(sum(previous), o1, 1, pixels.head)
    return total + (o1 + 1) * num_classes * pixels.classifier


def _fusion(a: list[Any], c: list[Any], area: tuple[int, ...], conv: Any) -> Any:
    """From branches with channels `a` to branches with channels `c`; only neighbours are fused."""
    total: Any = 0
    for i, c_i in enumerate(c):
        if i >= len(a):
            total = total + conv(c[i - 1], c_i, 3, area[i])
            continue
        total = total + conv(a[i], c_i, 3, area[i])
        if i > 0:
            total = total + conv(a[i - 1], c_i, 3, area[i])
        if i + 1 < len(a):
            # 1x1 at the lower resolution, before the upsampling.
            total = total + conv(a[i + 1], c_i, 1, area[i + 1])
    return total
