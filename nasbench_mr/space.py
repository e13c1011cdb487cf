"""The search space: the layout of the 27 integers, and everything that reads or makes codes.

A code describes one multi-resolution network (NAS-Bench-MR; Ding et al., "Learning Versatile Neural
Architectures by Propagating Network Codes", ICLR 2022):

    i1 i2 | b1 n1 c1 | b2 n2(2) c2(2) | b3 n3(3) c3(3) | b4 n4(4) c4(4) | o1

`i` are the stem's output channels, `b` a stage's number of modules, `n` a branch's number of residual
units, `c` its channels, `o` the head's channels. Within a stage all `n` come before all `c`, highest
resolution first. b and n are in 1..4; i, c and o are multiples of 8 in 8..128: 4^14 * 16^13 = 2^80 codes.

No other file knows this layout: use `STEM`, `STAGES` and `HEAD` for positions, `split` for named parts.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nasbench_mr.arrays import Codes
from nasbench_mr.checks import at_least, generator, short_seed
from nasbench_mr.checks import seed as check_seed
from nasbench_mr.errors import OutOfSpaceError, did_you_mean
from nasbench_mr.extras import requires

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

Code = tuple[int, ...]


class StagePositions(NamedTuple):
    """Positions of one stage's entries in a code."""

    b: int
    n: tuple[int, ...]
    c: tuple[int, ...]


class Parts(NamedTuple):
    """A code's values by role; `stages` holds (b, n, c) with one n and one c per branch."""

    stem: tuple[int, int]
    stages: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]
    head: int


def _layout() -> tuple[tuple[str, ...], tuple[StagePositions, ...]]:
    names = ["i1", "i2"]
    stages = []
    for s in range(1, 5):
        start = len(names)
        branches = range(1, s + 1)
        names += [f"b{s}", *(f"n{s}_{k}" for k in branches), *(f"c{s}_{k}" for k in branches)]
        n = tuple(range(start + 1, start + 1 + s))
        stages.append(StagePositions(start, n, tuple(i + s for i in n)))
    return (*names, "o1"), tuple(stages)


NAME = "nasbench-mr"
NAMES, STAGES = _layout()
STEM = (0, 1)
HEAD = len(NAMES) - 1
DIM = len(NAMES)
SIZE = 2**80

DEPTH_DIMS = tuple(i for i, name in enumerate(NAMES) if name[0] in "bn")
CHANNEL_DIMS = tuple(i for i, name in enumerate(NAMES) if name[0] in "ico")

#: `(27,)` int16: the smallest and largest value of each dimension (both allowed), and its step.
LOWER: Codes = np.array([1 if i in DEPTH_DIMS else 8 for i in range(DIM)], np.int16)
UPPER: Codes = np.array([4 if i in DEPTH_DIMS else 128 for i in range(DIM)], np.int16)
STEP: Codes = LOWER.copy()
_STEP_BITS = -STEP
#: `(27,)` bool: no dimension is a choice without an order.
CHOICES: npt.NDArray[np.bool_] = np.zeros(DIM, bool)
for _array in (LOWER, UPPER, STEP, CHOICES):
    _array.setflags(write=False)

#: The published table's three sampling strata: (number of codes, values of i, of c and o, of b, of n).
#: In "deep", one of the four b, at random, is then set to 4: every published code of it has such a b, and
#: 0.25 + 0.75 * 0.25 = 43.75% of its b are 4.
_STRATA: dict[str, tuple[int, Sequence[int], Sequence[int], Sequence[int], Sequence[int]]] = {
    "coarse": (1200, range(16, 65, 16), range(16, 129, 16), (1, 2, 3), (1, 2, 3, 4)),
    "deep": (800, range(16, 65, 16), range(16, 129, 16), (1, 2, 3, 4), (1, 2, 3, 4)),
    "fine": (500, range(8, 33, 8), range(8, 65, 8), (1, 2), (1, 2)),
}
#: For the scheme "graded": the largest width and depth that a code may have, and how often each is drawn.
_GRADES: dict[str, tuple[Sequence[int], Sequence[float]]] = {
    "width": ((8, 16, 32, 64, 128), (0.1, 0.2, 0.3, 0.25, 0.15)),
    "depth": ((1, 2, 3), (0.35, 0.45, 0.2)),
}
SCHEMES = ("uniform", "published", "graded", *_STRATA)

_PUBLISHED_FORM = re.compile(r"\d+_\d+(-\d+(_\d+)+){4}-\d+")
_LIST_FORM = re.compile(r"[\s\[(]*\d+([\s,]+\d+)*[\s\])]*")


def parse(x: object) -> Code:
    """One code, checked, from whatever a user has.

    Args:
        x: a sequence or array of 27 integers (floats with integral values are accepted), whatever NumPy reads
            as such an array (a tensor), a row of a pandas frame or a mapping, read by `NAMES`, a string in
            the published form ("48_48-1_1_4_112-2_2_1_4_128_96-...-64"; the stage number follows each b),
            or a string of 27 integers separated by commas or spaces.

    Raises:
        OutOfSpaceError: `x` is none of these, or one of its values is outside the space.
    """
    values = values_of(x, NAMES, _parse_string)
    return tuple(_parse_value(i, value) for i, value in enumerate(values))


def values_of(x: object, names: Sequence[str], from_string: Callable[[str], list[int]]) -> list[Any]:
    """Return the values of one code of a space of these dimensions, in their order, not yet checked."""
    x = by_name(x, names)
    if isinstance(x, str):
        values: list[Any] = from_string(x)
    elif isinstance(x, Mapping):
        values = _parse_mapping(x, names)
    elif hasattr(x, "__array__"):
        values = np.atleast_1d(np.asarray(x)).tolist()
    elif isinstance(x, Sequence) and not isinstance(x, bytes):
        values = list(x)
    else:
        raise OutOfSpaceError(
            f"a code is a sequence of {len(names)} integers, a mapping or a string; got {type(x).__name__}"
        )
    if len(values) != len(names):
        raise OutOfSpaceError(f"a code has {len(names)} integers; got {len(values)}")
    return values


def by_name(x: object, names: Sequence[str]) -> Any:
    """Return a table or series labelled by `names` as an array in their order, all else as it is."""
    if type(x) is np.ndarray or not hasattr(x, "__array__"):
        return x
    arrow = getattr(x, "column_names", None)
    labels = arrow or getattr(x, "columns", None)
    if labels is None:
        labels = getattr(x, "index", None)
    try:
        known = set(labels)  # type: ignore[arg-type]
    except TypeError:  # no labels, or columns that are arrays
        return x
    lacking = [name for name in names if name not in known]
    if len(lacking) == len(names):
        return x
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise OutOfSpaceError(f"the {type(x).__name__} lacks {', '.join(lacking[:3])}{more}")
    return np.asarray(x.select(list(names)) if arrow else x[list(names)])  # type: ignore[attr-defined,index]


def integral(value: object) -> int | None:
    """Return the integer that a value is, as an integer or a float; else None."""
    if type(value) is int:
        return value
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, (float, np.floating)):
        return int(value) if float(value).is_integer() else None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def _parse_value(i: int, value: Any) -> int:
    number = integral(value)
    if number is None:
        raise OutOfSpaceError(f"code[{i}] ({NAMES[i]}) is {value!r}; expected {_expected(i)}")
    if not LOWER[i] <= number <= UPPER[i] or number % STEP[i]:
        raise OutOfSpaceError(f"code[{i}] ({NAMES[i]}) is {number}; expected {_expected(i)}")
    return number


def _expected(i: int) -> str:
    return "an integer in [1, 4]" if i in DEPTH_DIMS else "a multiple of 8 in [8, 128]"


def _parse_mapping(x: Mapping[Any, Any], names: Sequence[str]) -> list[Any]:
    unknown = [key for key in x if key not in names]
    if unknown:
        raise OutOfSpaceError(f"no dimension {unknown[0]!r}: {did_you_mean(unknown[0], names)}")
    lacking = [name for name in names if name not in x]
    if lacking:
        raise OutOfSpaceError(f"the mapping lacks {', '.join(lacking)}")
    return [x[name] for name in names]


def _parse_string(text: str) -> list[int]:
    # int() of a huge digit string is slow, and no code is longer than this.
    if len(text) <= 400 and _PUBLISHED_FORM.fullmatch(text.strip()):
        stem, *stages, head = [[int(v) for v in part.split("_")] for part in text.strip().split("-")]
        values = list(stem)
        for s, (stage, numbers) in enumerate(zip(STAGES, stages, strict=True), start=1):
            if len(numbers) != 2 + 2 * len(stage.n) or numbers[1] != s:
                raise OutOfSpaceError(
                    f"stage {s} of {text.strip()!r}: expected b_{s} and then {s} n and {s} c, "
                    f"got {'_'.join(map(str, numbers))}"
                )
            values += [numbers[0], *numbers[2:]]
        return values + head
    if (listed := list_form(text)) is not None:
        return listed
    shown = text if len(text) <= 60 else text[:57] + "..."
    raise OutOfSpaceError(
        f"not a code: {shown!r}; expected i1_i2-b1_1_n_c-b2_2_n_n_c_c-b3_3_...-b4_4_...-o1 or {DIM} integers"
    )


def list_form(text: str) -> list[int] | None:
    """Return the integers of a text such as "1, 2, 3" or "[1 2 3]"; None for any other."""
    if len(text) > 400 or not _LIST_FORM.fullmatch(text):
        return None
    return [int(v) for v in re.findall(r"\d+", text)]


def check(codes: object) -> Codes:
    """Many codes as one array, checked. A single code becomes one row.

    Args:
        codes: `(n, 27)` or `(27,)` array (or what NumPy reads as one; a pandas frame by the names of its
            columns) or nested sequence of integers, or a sequence of anything `parse` reads.

    Returns:
        `(n, 27)` int16 array; the input itself where it already is one.

    Raises:
        OutOfSpaceError: the shape is wrong or a value is outside the space; names the first such row.
    """
    if hasattr(codes, "__array__"):
        codes = np.asarray(by_name(codes, NAMES))
        if codes.dtype.kind in "OSU":
            codes = codes.tolist()
    if not isinstance(codes, np.ndarray):
        if isinstance(codes, (str, Mapping)):
            return np.array([parse(codes)], np.int16)
        if not isinstance(codes, Sequence):
            raise OutOfSpaceError(f"codes are an (n, {DIM}) array; got {type(codes).__name__}")
        if len(codes) == 0:
            return np.empty((0, DIM), np.int16)
        if isinstance(codes[0], (str, Mapping, Sequence)) or getattr(codes[0], "ndim", 0) > 0:
            return np.array([_parse_row(i, code) for i, code in enumerate(codes)], np.int16)
        return np.array([parse(codes)], np.int16)
    if codes.ndim == 1:
        codes = codes[None]
    if codes.ndim != 2 or codes.shape[1] != DIM:
        raise OutOfSpaceError(f"codes are an (n, {DIM}) array; got shape {codes.shape}")
    if len(codes) == 0:
        return np.empty((0, DIM), np.int16)
    if codes.dtype == np.int16 and _all_inside(codes):
        return codes
    # NaN, infinities and values that int16 cannot hold must fail before the cast hides them.
    if np.issubdtype(codes.dtype, np.number) and not np.iscomplexobj(codes):
        with np.errstate(invalid="ignore"):
            inside = ((codes >= LOWER) & (codes <= UPPER) & (codes % STEP == 0)).all(axis=1)
        if inside.all():
            return codes.astype(np.int16)
        row = int(np.flatnonzero(~inside)[0])
    else:
        row = 0
    _parse_row(row, codes[row])
    raise OutOfSpaceError(f"codes are integers; got an array of {codes.dtype}")


def _parse_row(row: int, code: object) -> Code:
    try:
        return parse(code)
    except OutOfSpaceError as error:
        raise OutOfSpaceError(f"row {row}: {error}") from None


def _all_inside(codes: Codes) -> bool:
    # Clearing the bits below a step, a power of two, rounds down to a multiple of it.
    nearest = np.minimum(np.maximum(codes, LOWER), UPPER) & _STEP_BITS
    return bool((nearest == codes).all())


def to_string(code: object) -> str:
    """Return the published form, "i1_i2-b1_1_n_c-b2_2_n_n_c_c-...-o1"; `parse` reads it back."""
    stem, stages, head = split(code)
    parts = ["_".join(map(str, stem))]
    parts += ["_".join(map(str, (b, s, *n, *c))) for s, (b, n, c) in enumerate(stages, start=1)]
    return "-".join([*parts, str(head)])


def split(code: object) -> Parts:
    """Return a code's values by role: stem channels, (b, n, c) of each stage, head channels."""
    return split_values(parse(code))


def split_values(values: Sequence[int]) -> Parts:
    """`split` of 27 values that need not lie in the space, such as channels scaled by a width."""
    stages = tuple(
        (values[s.b], tuple(values[i] for i in s.n), tuple(values[i] for i in s.c)) for s in STAGES
    )
    return Parts((values[STEM[0]], values[STEM[1]]), stages, values[HEAD])


def sample(n: int, seed: int | np.random.Generator = 0, scheme: str = "uniform") -> Codes:
    """Random codes, drawn independently.

    Args:
        n: how many.
        seed: an integer, or a generator to draw from.
        scheme: "uniform" over all 2^80 codes; "coarse", "deep" or "fine" as one stratum of the published
            tables was drawn; "published" mixes the strata 1200 : 800 : 500, in random order; "graded" gives
            each code a largest width and depth of its own, below which it is uniform: networks of all sizes,
            most of them small, where "uniform" and the strata draw networks of much the same cost.

    Returns:
        `(n, 27)` int16 array.

    Raises:
        OutOfSpaceError: no such scheme.
        InvalidArgumentError: `n` or the seed is not a whole number, or is negative.
    """
    if scheme not in SCHEMES:
        raise OutOfSpaceError(f"no sampling scheme {scheme!r}: {did_you_mean(scheme, SCHEMES)}")
    n = at_least(0, "n", n)
    rng = generator(seed)
    if scheme == "uniform":
        return (rng.integers(1, UPPER // STEP, size=(n, DIM), endpoint=True) * STEP).astype(np.int16)
    if scheme == "graded":
        largest = np.empty((n, DIM), np.int16)
        for dims, (values, shares) in zip((CHANNEL_DIMS, DEPTH_DIMS), _GRADES.values(), strict=True):
            largest[:, dims] = rng.choice(np.array(values, np.int16), size=(n, 1), p=shares)
        return (rng.integers(1, largest // STEP, size=(n, DIM), endpoint=True) * STEP).astype(np.int16)
    if scheme != "published":
        return _sample_stratum(n, rng, scheme)
    sizes = np.array([stratum[0] for stratum in _STRATA.values()])
    which = rng.choice(len(sizes), size=n, p=sizes / sizes.sum())
    codes = np.empty((n, DIM), np.int16)
    for k, name in enumerate(_STRATA):
        codes[which == k] = _sample_stratum(int((which == k).sum()), rng, name)
    return codes


def in_stratum(codes: object, scheme: str) -> npt.NDArray[np.bool_]:
    """Which codes lie on the grid of "coarse", "deep" or "fine" (grids overlap): `(n,)` bool."""
    if scheme not in _STRATA:
        raise OutOfSpaceError(f"no stratum {scheme!r}: {did_you_mean(scheme, _STRATA)}")
    array = check(codes)
    grids = _grids(scheme)
    entries = [np.isin(array[:, k], grids[name[0]]) for k, name in enumerate(NAMES)]
    inside: npt.NDArray[np.bool_] = np.all(entries, axis=0)
    return inside


def _grids(stratum: str) -> dict[str, npt.NDArray[np.int16]]:
    """Return a stratum's values by kind of dimension: i, c, o, b, n."""
    _, i_values, c_values, b_values, n_values = _STRATA[stratum]
    kinds = {"i": i_values, "c": c_values, "o": c_values, "b": b_values, "n": n_values}
    return {kind: np.array(values, np.int16) for kind, values in kinds.items()}


def _sample_stratum(n: int, rng: np.random.Generator, name: str) -> Codes:
    grids = _grids(name)
    codes = np.empty((n, DIM), np.int16)
    for k, dim in enumerate(NAMES):
        codes[:, k] = rng.choice(grids[dim[0]], size=n)
    if name == "deep":
        deepened = rng.integers(len(STAGES), size=n)
        codes[np.arange(n), np.array([stage.b for stage in STAGES])[deepened]] = 4
    return codes


def neighbors(code: object) -> Codes:
    """All codes that differ from `code` in one dimension by one step: `(27..54, 27)` int16."""
    base = np.array(parse(code), np.int16)
    moved = np.concatenate([base + np.diag(STEP), base - np.diag(STEP)])
    return moved[((moved >= LOWER) & (moved <= UPPER)).all(axis=1)]


def mutate(codes: object, rng: np.random.Generator, rate: float = 1 / DIM) -> Codes:
    """Each dimension is redrawn, to another value, with probability `rate`; at least one always is.

    Args:
        codes: `(n, 27)`, or one code.
        rng: the generator to draw from.
        rate: in (0, 1].

    Returns:
        `(n, 27)` int16 array; no row equals its parent.
    """
    parents = check(codes)
    n = len(parents)
    if not 0 < rate <= 1:
        raise OutOfSpaceError(f"rate is {rate}; expected a probability in (0, 1]")
    redraw = rng.random((n, DIM)) < rate
    redraw[np.arange(n), rng.integers(DIM, size=n)] |= ~redraw.any(axis=1)
    levels = UPPER // STEP
    shift = rng.integers(1, levels, size=(n, DIM))
    other = ((parents // STEP - 1 + shift) % levels + 1) * STEP
    return np.where(redraw, other, parents).astype(np.int16)


def crossover(a: object, b: object, rng: np.random.Generator) -> Codes:
    """Uniform crossover: each dimension comes from `a` or `b` with equal probability; `(n, 27)` int16."""
    return mixed(check(a), check(b), rng)


def mixed(first: Codes, second: Codes, rng: np.random.Generator) -> Codes:
    """`crossover` of checked codes of any space."""
    if len(first) != len(second):
        raise OutOfSpaceError(f"a has {len(first)} codes and b {len(second)}; expected as many")
    return np.where(rng.random(first.shape) < 0.5, first, second)


def to_bits(codes: object) -> npt.NDArray[np.uint8]:
    """Return the 80-bit encoding that NASLib uses for this space.

    Each dimension is its index (value / step - 1) in binary, most significant bit first: 2 bits for b and
    n, 4 bits for channels.

    Returns:
        `(n, 80)` uint8 array of 0 and 1.
    """
    index = check(codes) // STEP - 1
    return np.concatenate([(index[:, [k]] >> shift) & 1 for k, shift in _bit_positions()], axis=1).astype(
        np.uint8
    )


def from_bits(bits: object) -> Codes:
    """Return the inverse of `to_bits`: `(n, 80)` or `(80,)` zeros and ones to `(n, 27)` int16 codes."""
    array = np.atleast_2d(np.asarray(bits))
    if array.ndim != 2 or array.shape[1] != 80 or not np.isin(array, (0, 1)).all():
        raise OutOfSpaceError(f"bits are an (n, 80) array of 0 and 1; got shape {array.shape}")
    index = np.zeros((len(array), DIM), np.int16)
    for column, (k, shift) in enumerate(_bit_positions()):
        index[:, k] |= array[:, column].astype(np.int16) << shift
    return ((index + 1) * STEP).astype(np.int16)


def _bit_positions() -> Iterator[tuple[int, int]]:
    for k in range(DIM):
        for shift in (1, 0) if k in DEPTH_DIMS else (3, 2, 1, 0):
            yield k, shift


def relax(codes: object) -> npt.NDArray[np.float64]:
    """Return the codes as points of R^27, where NCP follows gradients: `(n, 27)` float64."""
    return check(codes).astype(np.float64)


def project(x: npt.NDArray[np.floating]) -> Codes:
    """Return the nearest codes to `(n, 27)` points: each entry rounded to its step and clamped."""
    return np.clip(np.rint(x / STEP) * STEP, LOWER, UPPER).astype(np.int16)


def configspace(seed: int | None = None) -> ConfigurationSpace:
    """Return this space as ConfigSpace's `ConfigurationSpace`: 27 ordinal hyperparameters named as `NAMES`.

    `parse(configuration)` turns one of its configurations into a code.

    Raises:
        MissingExtraError: ConfigSpace is not installed.
    """
    with requires("space", "space.configspace()"):
        from ConfigSpace import ConfigurationSpace, OrdinalHyperparameter
    short = None if seed is None else short_seed(check_seed(seed))  # it takes no longer one
    space = ConfigurationSpace(name="nasbench-mr", seed=short)
    for k, name in enumerate(NAMES):
        values = range(int(LOWER[k]), int(UPPER[k]) + 1, int(STEP[k]))
        space.add(OrdinalHyperparameter(name, list(values)))
    return space
