"""NAS-Bench-201 as a second search space: six edges of a cell, one of five operations each.

Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020.
A code is six integers in 0..4, the index into `OPERATIONS` for each edge of `EDGES`: 5^6 = 15,625 codes.
The order of operations is that of the table published with NCP; its rows with one operation on every edge
tell which is which (nothing but "none" is at chance, 0.83% of 120 classes; only the convolutions have
parameters).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nasbench_mr import space
from nasbench_mr.arrays import Codes
from nasbench_mr.errors import OutOfSpaceError, did_you_mean

NAME = "nas-bench-201"
OPERATIONS = ("avg_pool_3x3", "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
#: (from node, to node), in the order of the integers.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NAMES = tuple(f"op{a}{b}" for a, b in EDGES)
DIM = len(EDGES)
SIZE = len(OPERATIONS) ** DIM
LOWER: npt.NDArray[np.int16] = np.zeros(DIM, np.int16)
UPPER: npt.NDArray[np.int16] = np.full(DIM, len(OPERATIONS) - 1, np.int16)
STEP: npt.NDArray[np.int16] = np.ones(DIM, np.int16)


def parse(x: object) -> tuple[int, ...]:
    """One code from whatever a user has.

    Args:
        x: as for `space.parse`: six integers, or a mapping or row of a data frame by `NAMES`; or the usual
            string "|op~0|+|op~0|op~1|+|...|".

    Raises:
        OutOfSpaceError: `x` is none of these.
    """
    values = []
    for name, value in zip(NAMES, space.values_of(x, NAMES, _parse_string), strict=True):
        number = space.integral(value)
        if number is None or not 0 <= number < len(OPERATIONS):
            raise OutOfSpaceError(f"{name} is {value!r}; expected an integer in [0, {len(OPERATIONS) - 1}]")
        values.append(number)
    return tuple(values)


def _parse_string(text: str) -> list[int]:
    if (listed := space.list_form(text)) is not None:
        return listed
    names = re.findall(r"([a-z_0-9]+)~[0-2]", text) if len(text) <= 400 else []
    expected = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
    if len(names) != DIM or text.strip() != expected.format(*names):
        shown = expected.format(*["op"] * DIM)
        raise OutOfSpaceError(f"not a cell: {text[:60]!r}; expected {shown} or {DIM} integers")
    for name in names:
        if name not in OPERATIONS:
            raise OutOfSpaceError(f"no operation {name!r}: {did_you_mean(name, OPERATIONS)}")
    return [OPERATIONS.index(name) for name in names]


def check(codes: object) -> Codes:
    """Many codes, or one, as an `(n, 6)` int16 array.

    Raises:
        OutOfSpaceError: the shape is wrong or a value is outside the space; names the first such row.
    """
    if hasattr(codes, "__array__"):
        codes = np.asarray(space.by_name(codes, NAMES))
        if codes.dtype.kind in "iu" and codes.ndim == 2 and codes.shape[1] == DIM:
            if ((codes >= LOWER) & (codes <= UPPER)).all():
                return codes.astype(np.int16, copy=False)
        elif codes.ndim == 0:
            raise OutOfSpaceError(f"codes are an (n, {DIM}) array; got shape ()")
    if not _is_many(codes):
        return np.array([parse(codes)], np.int16)
    assert isinstance(codes, (Sequence, np.ndarray))
    rows = []
    for row, code in enumerate(codes):
        try:
            rows.append(parse(code))
        except OutOfSpaceError as error:
            raise OutOfSpaceError(f"row {row}: {error}") from None
    return np.array(rows, np.int16).reshape(-1, DIM)


def _is_many(codes: object) -> bool:
    if not isinstance(codes, (Sequence, np.ndarray)) or isinstance(codes, str):
        return False
    return len(codes) == 0 or hasattr(codes[0], "__len__")


def to_string(code: object) -> str:
    """The usual cell string, "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"; `parse` reads it back."""
    a, b, c, d, e, f = (OPERATIONS[k] for k in parse(code))
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def sample(n: int, seed: int | np.random.Generator = 0) -> Codes:
    """`n` codes, uniform and independent: `(n, 6)`."""
    return np.random.default_rng(seed).integers(0, len(OPERATIONS), size=(n, DIM), dtype=np.int16)


def neighbors(code: object) -> Codes:
    """The 24 codes that differ from `code` in one edge."""
    base = np.array(parse(code), np.int16)
    moved = np.repeat(base[None], DIM * (len(OPERATIONS) - 1), axis=0)
    edge, shift = np.divmod(np.arange(len(moved)), len(OPERATIONS) - 1)
    moved[np.arange(len(moved)), edge] = (base[edge] + shift + 1) % len(OPERATIONS)
    return moved


def mutate(codes: object, rng: np.random.Generator) -> Codes:
    """One edge of each code gets another operation: `(n, 6)`."""
    children = check(codes).copy()
    rows = np.arange(len(children))
    edge = rng.integers(DIM, size=len(children))
    shift = rng.integers(1, len(OPERATIONS), size=len(children))
    children[rows, edge] = (children[rows, edge] + shift) % len(OPERATIONS)
    return children


def crossover(a: object, b: object, rng: np.random.Generator) -> Codes:
    """Each edge comes from `a` or `b` with equal probability: `(n, 6)`."""
    first, second = check(a), check(b)
    if len(first) != len(second):
        raise OutOfSpaceError(f"a has {len(first)} codes and b {len(second)}; expected as many")
    return np.where(rng.random(first.shape) < 0.5, first, second)


def relax(codes: object) -> npt.NDArray[np.float64]:
    """One-hot: `(n, 6)` codes to `(n, 30)`, the published table's embedding."""
    one_hot = np.eye(len(OPERATIONS))[check(codes)]
    return one_hot.reshape(len(one_hot), -1)


def project(x: npt.NDArray[np.floating]) -> Codes:
    """`(n, 30)` scores to the codes with each edge's highest one: `(n, 6)`."""
    best: Codes = x.reshape(len(x), DIM, len(OPERATIONS)).argmax(axis=2).astype(np.int16)
    return best
