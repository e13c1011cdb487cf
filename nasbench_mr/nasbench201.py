"""NAS-Bench-201 as a second search space: six edges of a cell, one of five operations each.

Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020.
A code is six integers in 0..4, the index into `OPERATIONS` for each edge of `EDGES`: 5^6 = 15,625 codes.
The order of operations is that of the table published with NCP; its rows with one operation on every edge
tell which is which (nothing but "none" is at chance, 0.83% of 120 classes; only the convolutions have
parameters).

Its codes are those of a grid of six choices (`grid.Grid`); what is more is the cell's text, exact costs, and
that different codes can be one network. `macs` and `params` are exact, in closed form. An edge may lead
nowhere, a node may only pass on: `canonical` and `isomorphic` tell which codes are the same.
"""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import space
from nasbench_mr.arrays import Codes
from nasbench_mr.checks import at_least
from nasbench_mr.errors import InvalidArgumentError, OutOfSpaceError, did_you_mean
from nasbench_mr.grid import Grid

NAME = "nas-bench-201"
OPERATIONS = ("avg_pool_3x3", "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
#: (from node, to node), in the order of the integers.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NAMES = tuple(f"op{a}{b}" for a, b in EDGES)
DIM = len(EDGES)
#: What the published costs are of, whatever the data set: CIFAR-100's network.
RESOLUTION = 32
NUM_CLASSES = 100
#: Channels of the three stages, of five cells each.
_CHANNELS = (16, 32, 64)
_CELLS = 5
_POOL, _NONE, _SKIP, _CONV1, _CONV3 = range(len(OPERATIONS))


class _Cells(Grid):
    """The six edges as a grid of choices, written as a cell."""

    def _parse_text(self, text: str) -> tuple[int, ...]:
        if (listed := space.list_form(text)) is not None:
            return self.parse(listed)
        names = re.findall(r"([a-z_0-9]+)~[0-2]", text) if len(text) <= 400 else []
        expected = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
        if len(names) != DIM or text.strip() != expected.format(*names):
            shown = expected.format(*["op"] * DIM)
            raise OutOfSpaceError(f"not a cell: {text[:60]!r}; expected {shown} or {DIM} integers")
        for name in names:
            if name not in OPERATIONS:
                raise OutOfSpaceError(f"no operation {name!r}: {did_you_mean(name, OPERATIONS)}")
        return tuple(OPERATIONS.index(name) for name in names)

    def _position(self, k: int, value: Any) -> int:
        number = space.integral(value)
        return super()._position(k, value) if number is None else self._whole(k, value)

    def to_string(self, code: object) -> str:
        """Return the usual cell string, "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"; `parse` reads it back."""
        a, b, c, d, e, f = (OPERATIONS[k] for k in self.parse(code))
        return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


_GRID = _Cells(NAME, dict.fromkeys(NAMES, OPERATIONS))
SIZE, LOWER, UPPER, STEP, CHOICES = _GRID.SIZE, _GRID.LOWER, _GRID.UPPER, _GRID.STEP, _GRID.CHOICES
#: What every space has (`spaces.Space`); `parse` reads integers, operations and cell strings.
parse, check, to_string = _GRID.parse, _GRID.check, _GRID.to_string
sample, neighbors, mutate, crossover = _GRID.sample, _GRID.neighbors, _GRID.mutate, _GRID.crossover
#: One-hot, `(n, 30)`: the published table's embedding; and back.
relax, project = _GRID.relax, _GRID.project


# --- Costs --------------------------------------------------------------------------------------------


def macs(
    codes: object, resolution: int = RESOLUTION, num_classes: int = NUM_CLASSES
) -> npt.NDArray[np.int64]:
    """Return the multiply-accumulates of the convolutions and the classifier for one input image: `(n,)`.

    The published figures are these, rounded to 0.01 M; unlike those of the 27 integers they leave out batch
    norms.

    Args:
        codes: `(n, 6)` codes, or one.
        resolution: the input's side in pixels, a multiple of 4; 16 for ImageNet16-120, 32 for CIFAR.
        num_classes: outputs of the classifier; 10, 100 or, for ImageNet16-120, 120.
    """
    resolution, num_classes = at_least(1, "resolution", resolution), at_least(1, "num_classes", num_classes)
    if resolution % 4:
        raise InvalidArgumentError(f"resolution is {resolution}; expected a multiple of 4")
    areas = [(resolution >> stage) ** 2 for stage in range(len(_CHANNELS))]
    fixed = 9 * 3 * _CHANNELS[0] * areas[0] + _CHANNELS[-1] * num_classes
    for (a, b), area in zip(itertools.pairwise(_CHANNELS), areas[1:], strict=True):
        fixed += (9 * a * b + 9 * b * b + a * b) * area  # two 3x3, and the 1x1 of the skip
    pixel = _CELLS * sum(c * c * area for c, area in zip(_CHANNELS, areas, strict=True))
    ones, threes = _convolutions(codes)
    return fixed + (ones + 9 * threes) * pixel


def params(codes: object, num_classes: int = NUM_CLASSES) -> npt.NDArray[np.int64]:
    """Return the trainable parameters: `(n,)`. The published figures are these, rounded to 0.001 M."""
    num_classes = at_least(1, "num_classes", num_classes)
    fixed = (27 + 2) * _CHANNELS[0] + 2 * _CHANNELS[-1] + (_CHANNELS[-1] + 1) * num_classes
    for a, b in itertools.pairwise(_CHANNELS):
        fixed += (9 * a + 2) * b + (9 * b + 2) * b + a * b
    ones, threes = _convolutions(codes)
    one, three = (_CELLS * sum((k * c + 2) * c for c in _CHANNELS) for k in (1, 9))
    return fixed + one * ones + three * threes


def _convolutions(codes: object) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many edges have the 1x1 convolution, and the 3x3 one: `(n,)` each."""
    checked = check(codes)
    ones, threes = ((checked == kind).sum(axis=1, dtype=np.int64) for kind in (_CONV1, _CONV3))
    return ones, threes


# --- Codes that are one network -----------------------------------------------------------------------


def canonical(codes: object) -> Codes:
    """Return, for each code, the first code (in lexicographic order) that is the same network: `(n, 6)`.

    Two codes are the same network if some matching of their convolutions makes their outputs one function of
    the input and of the convolutions' weights: an edge that the output does not depend on counts nothing, a
    skip passes on, and sums have no order. A convolution of nothing still adds its batch norm's bias, and one
    convolution used twice is not two. So the 15,625 codes are 5,875 networks. NAS-Bench-201's own rule
    compares strings, and finds 6,466: there the order of nested sums matters, but not which convolutions are
    shared.
    """
    checked = check(codes)
    weights = len(OPERATIONS) ** np.arange(DIM)[::-1]
    every, first = _every()
    found: Codes = every[first[checked.astype(np.int64) @ weights]]
    return found


def isomorphic(code: object) -> Codes:
    """Return all codes that are the same network as `code`, itself among them: `(m, 6)`."""
    every, first = _every()
    same: Codes = every[(every[first] == canonical([parse(code)])).all(axis=1)]
    return same


@cache
def _every() -> tuple[Codes, npt.NDArray[np.int64]]:
    """Every code in lexicographic order, `(15625, 6)`, and the position of the first that is its network."""
    every = np.array(list(itertools.product(range(len(OPERATIONS)), repeat=DIM)), np.int16)
    _, first, which = np.unique(_fingerprints(every), return_index=True, return_inverse=True)
    return every, first[which]


def _fingerprints(codes: Codes) -> npt.NDArray[np.uint64]:
    """Return a number for each code, `(n,)`, equal where codes are the same network.

    A node is a sum of 64-bit numbers, and an operation scrambles one, a convolution together with its weight.
    What is added up is a cell's value under every permutation of its convolutions' weights.
    """
    live = _live(codes)
    convolutions = live & (codes >= _CONV1)
    weights = np.random.default_rng(0).integers(1, 2**63, DIM, dtype=np.uint64)
    found = np.empty(len(codes), np.uint64)
    for mask in np.unique(convolutions, axis=0):
        rows = np.flatnonzero((convolutions == mask).all(axis=1))
        permuted = np.array(list(itertools.permutations(weights[: mask.sum()])), np.uint64)
        own = np.zeros((len(permuted), DIM), np.uint64)
        own[:, mask] = permuted
        found[rows] = _values(np.where(live, codes, _NONE)[rows], own).sum(axis=0)
    return found


def _live(codes: Codes) -> npt.NDArray[np.bool_]:
    """Which edges lead to the output: `(n, 6)`."""
    passing = codes != _NONE
    reaches = np.ones((len(codes), 4), bool)
    for node in (2, 1):
        onward = [passing[:, e] & reaches[:, b] for e, (a, b) in enumerate(EDGES) if a == node]
        reaches[:, node] = np.any(onward, axis=0)
    live: npt.NDArray[np.bool_] = passing & reaches[:, [b for _, b in EDGES]]
    return live


def _values(codes: Codes, weights: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the output `(m, n)` of n codes under each of `(m, 6)` weights of their edges."""
    zero, kinds = np.uint64(0), np.random.default_rng(1).integers(1, 2**63, len(OPERATIONS), np.uint64)
    nodes: list[npt.NDArray[np.uint64]] = [np.ones((1, len(codes)), np.uint64)]
    for node in range(1, 4):
        total = np.zeros((len(weights), len(codes)), np.uint64)
        for edge, (a, b) in enumerate(EDGES):
            if b != node:
                continue
            x, kind = nodes[a], codes[:, edge]
            pooled = np.where(x == 0, zero, _scrambled(x))  # of nothing, nothing
            convolved = _scrambled((_scrambled(x) + kinds[kind]) * (weights[:, edge, None] | np.uint64(1)))
            passed = np.where(kind == _POOL, pooled, np.where(kind == _SKIP, x, convolved))
            total = total + np.where(kind == _NONE, zero, passed)
        nodes.append(total)
    return _scrambled(nodes[-1])


def _scrambled(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the finaliser of SplitMix64: a one-to-one map of 64-bit numbers, far from linear."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))
