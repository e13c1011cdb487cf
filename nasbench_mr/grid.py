"""Spaces of one's own: a grid of named dimensions, each with some values, numbers or choices.

    space = Grid("lm", {"layers": [4, 8, 12], "width": [256, 512], "bias": [True, False]})
    space = Grid.read("space.toml")
    space.parse("layers=8,width=512,bias=true")     # (1, 1, 0): a code has the values' positions

By name, in texts and in tables a code has its values; as a tuple or an array it has their positions, from 0.
Ordinal dimensions relax to one coordinate, the position; categorical ones to one for each value (one-hot).
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import formula
from nasbench_mr import space as multi_resolution
from nasbench_mr.arrays import Bools, Codes, Floats, Ints
from nasbench_mr.checks import at_least, generator
from nasbench_mr.description import Description, Dimension, Value
from nasbench_mr.errors import OutOfSpaceError, SpaceError

if TYPE_CHECKING:
    import torch

#: Costs are whole numbers that floats keep exactly.
_MAX_COST = 2.0**53
#: A text of a code is not longer than all its names and values.
_MAX_TEXT = 16_384
#: Codes whose costs are looked at when a space is made.
_TRIED = 256


class Grid:
    """A space that a description tells; it has all that `spaces.Space` asks for.

    Args:
        name: lower-case letters, digits, ".", "_" and "-".
        dimensions: by name the values, or {"values": [...], "kind": "ordinal" or "categorical"}. Numbers are
            ordinal, texts and booleans categorical where it does not say.
        costs: formulas for "macs" and "params" over the dimensions' names (`formula.Formula`); None where
            only tables know them.
        title: one line for people.

    Raises:
        SpaceError: the description is malformed, too large, or a cost is not a number from 0 to 2^53.
    """

    def __init__(
        self,
        name: str,
        dimensions: Mapping[str, Any],
        costs: Mapping[str, str] | None = None,
        title: str = "",
    ):
        self._describe(Description.of(name, dimensions, costs, title))

    def _describe(self, description: Description) -> None:
        self.description = description
        self.dimensions: tuple[Dimension, ...] = description.dimensions
        levels = np.array([len(dimension.values) for dimension in self.dimensions], np.int16)
        self.NAME = description.key
        self.NAMES = tuple(dimension.name for dimension in self.dimensions)
        self.DIM = len(self.dimensions)
        self.SIZE = math.prod(levels.tolist())
        self.LOWER: Codes = np.zeros(self.DIM, np.int16)
        self.UPPER: Codes = levels - 1
        self.STEP: Codes = np.ones(self.DIM, np.int16)
        self.CHOICES: Bools = np.array([not dimension.ordered for dimension in self.dimensions])
        for array in (self.LOWER, self.UPPER, self.STEP, self.CHOICES):
            array.setflags(write=False)
        if description.formulas:
            tried = np.concatenate([self.LOWER[None], self.UPPER[None], self.sample(_TRIED, 0)])
            for cost in description.formulas:
                self._cost(cost, tried)

    @classmethod
    def of(cls, description: Description) -> Grid:
        """Return the space that a description tells."""
        made = cls.__new__(cls)
        made._describe(description)
        return made

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Grid:
        """Return the space that a TOML file describes; raise `SpaceError`, with its name, for others."""
        try:
            return cls.of(Description.read(path))
        except SpaceError as error:
            raise error if str(path) in str(error) else SpaceError(f"{path}: {error}") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.description.to_dict(),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.NAME == other.NAME

    def __hash__(self) -> int:
        return hash(self.NAME)

    def __repr__(self) -> str:
        return f"<Grid {self.NAME}: {', '.join(self.NAMES)}>"

    # --- Codes ------------------------------------------------------------------------------------------

    def parse(self, x: object) -> tuple[int, ...]:
        """Return one code from whatever a user has.

        Args:
            x: a sequence or array of the values' positions; a mapping or a row of a data frame by `NAMES`, of
                the values; or their text, "layers=8,width=512".

        Raises:
            OutOfSpaceError: `x` is none of these, or a value is none of its dimension's.
        """
        if isinstance(x, str):
            return self._parse_text(x)
        named = isinstance(x, Mapping) or (
            hasattr(x, "__array__") and multi_resolution.by_name(x, self.NAMES) is not x
        )
        values = multi_resolution.values_of(x, self.NAMES, lambda text: list(self._parse_text(text)))
        if named:
            return tuple(self._position(k, value) for k, value in enumerate(values))
        return tuple(self._whole(k, value) for k, value in enumerate(values))

    def _whole(self, k: int, value: object) -> int:
        """Return a position, checked."""
        number = multi_resolution.integral(value)
        if number is None or not 0 <= number <= self.UPPER[k]:
            raise OutOfSpaceError(
                f"{self.NAMES[k]} is {value!r:.40}; expected an integer in [0, {self.UPPER[k]}], the "
                f"position of a value; values go by name: {self.to_string(self.LOWER.tolist())!r:.200}"
            )
        return number

    def _parse_text(self, text: str) -> tuple[int, ...]:
        parts = [part.partition("=") for part in text[:_MAX_TEXT].replace(",", " ").split()]
        if not parts or not all(mark for _, mark, _ in parts) or len(text) > _MAX_TEXT:
            raise OutOfSpaceError(
                f"not a code: {text[:60]!r}; expected values by name, such as "
                f"{self.to_string(self.LOWER.tolist())!r:.200}"
            )
        given = {name: value for name, _, value in parts}
        if len(given) < len(parts):
            raise OutOfSpaceError(f"not a code: {text[:60]!r} has a dimension twice")
        return self.parse(given)

    def _position(self, k: int, value: Any) -> int:
        """Return the position of a value, given as itself or as its text."""
        dimension = self.dimensions[k]
        at = self._texts[k].get(value.strip()) if isinstance(value, str) else None
        if at is None and not isinstance(value, str):
            at = self._positions[k].get(_key(value), self._texts[k].get(str(value)))
        if at is None:
            raise OutOfSpaceError(
                f"{dimension.name} is {value!r:.40}; expected one of {', '.join(dimension.texts)[:200]}"
            )
        return at

    @functools.cached_property
    def _texts(self) -> list[dict[str, int]]:
        return [{text: at for at, text in enumerate(d.texts)} for d in self.dimensions]

    @functools.cached_property
    def _positions(self) -> list[dict[Any, int]]:
        return [{_key(value): at for at, value in enumerate(d.values)} for d in self.dimensions]

    def check(self, codes: object) -> Codes:
        """Return many codes, or one, as an `(n, DIM)` int16 array; refuse, with its row, what is outside."""
        if hasattr(codes, "__array__"):
            array = multi_resolution.by_name(codes, self.NAMES)
            if array is not codes:  # a table, by name
                return self.by_column(np.atleast_2d(np.asarray(array, object)).T.tolist())
            codes = np.asarray(codes)
            if codes.dtype.kind in "iu" and codes.ndim == 2 and codes.shape[1] == self.DIM:
                if ((codes >= self.LOWER) & (codes <= self.UPPER)).all():
                    return codes.astype(np.int16, copy=False)
            elif codes.ndim == 0:
                raise OutOfSpaceError(f"codes are an (n, {self.DIM}) array; got shape ()")
        several = isinstance(codes, (Sequence, np.ndarray)) and not isinstance(codes, str)
        if not several or (len(codes) and not hasattr(codes[0], "__len__")):  # type: ignore[arg-type,index]
            return np.array([self.parse(codes)], np.int16)
        return self._checked(codes)  # type: ignore[arg-type]

    def by_column(self, columns: Sequence[Sequence[Any]]) -> Codes:
        """Return codes from their values, one list for each dimension: `(n, DIM)`; refuse others' values."""
        codes = np.empty((len(columns[0]), self.DIM), np.int16)
        for k, values in enumerate(columns):
            known: dict[Any, int] = {}
            for row, value in enumerate(values):
                if value not in known:
                    try:
                        known[value] = self._position(k, value)
                    except OutOfSpaceError as error:
                        raise OutOfSpaceError(f"row {row}: {error}") from None
                codes[row, k] = known[value]
        return codes

    def _checked(self, codes: Sequence[Any]) -> Codes:
        rows = []
        for row, code in enumerate(codes):
            try:
                rows.append(self.parse(code))
            except OutOfSpaceError as error:
                raise OutOfSpaceError(f"row {row}: {error}") from None
        return np.array(rows, np.int16).reshape(-1, self.DIM)

    def named(self, code: object) -> dict[str, Value]:
        """Return a code's values by name; `parse` reads them back."""
        return {d.name: d.values[at] for d, at in zip(self.dimensions, self.parse(code), strict=True)}

    def to_string(self, code: object) -> str:
        """Return the text of a code, "layers=8,width=512"; `parse` reads it back."""
        pairs = zip(self.dimensions, self.parse(code), strict=True)
        return ",".join(f"{dimension.name}={dimension.texts[at]}" for dimension, at in pairs)

    # --- Moves ------------------------------------------------------------------------------------------

    def sample(self, n: int, seed: int | np.random.Generator = 0) -> Codes:
        """Return `n` codes, uniform and independent: `(n, DIM)`."""
        n, rng = at_least(0, "n", n), generator(seed)
        return rng.integers(0, self.UPPER + 1, size=(n, self.DIM), dtype=np.int16)

    def neighbors(self, code: object) -> Codes:
        """Return the codes that differ in one dimension: by one step of an ordinal one, in any way else."""
        base = np.array(self.parse(code), np.int16)
        found = []
        for k, (levels, choice) in enumerate(zip((self.UPPER + 1).tolist(), self.CHOICES, strict=True)):
            at = int(base[k])
            moved = [(at + shift) % levels for shift in range(1, levels)] if choice else [at - 1, at + 1]
            for value in moved:
                if 0 <= value < levels:
                    near = base.copy()
                    near[k] = value
                    found.append(near)
        return np.array(found, np.int16)

    def mutate(self, codes: object, rng: np.random.Generator) -> Codes:
        """Return codes of which one dimension, drawn at random, has another value: `(n, DIM)`."""
        children = self.check(codes).copy()
        rows = np.arange(len(children))
        at = rng.integers(self.DIM, size=len(children))
        levels = self.UPPER[at] + 1
        children[rows, at] = (children[rows, at] + rng.integers(1, levels)) % levels
        return children

    def crossover(self, a: object, b: object, rng: np.random.Generator) -> Codes:
        """Return codes of which each dimension comes from `a` or `b` with equal probability: `(n, DIM)`."""
        return multi_resolution.mixed(self.check(a), self.check(b), rng)

    # --- The relaxed space ------------------------------------------------------------------------------

    @functools.cached_property
    def _columns(self) -> list[slice]:
        """Where each dimension's coordinates are among those of a relaxed code."""
        widths = np.where(self.CHOICES, self.UPPER + 1, 1)
        ends = np.cumsum(widths).tolist()
        return [slice(end - width, end) for end, width in zip(ends, widths.tolist(), strict=True)]

    def relax(self, codes: object) -> Floats:
        """Return codes as points, `(n, R)`: positions of ordinal values, one-hot of the others."""
        checked = self.check(codes)
        parts = [
            np.eye(self.UPPER[k] + 1)[checked[:, k]] if choice else checked[:, k : k + 1].astype(np.float64)
            for k, choice in enumerate(self.CHOICES)
        ]
        return np.concatenate(parts, axis=1)

    def project(self, x: npt.NDArray[np.floating]) -> Codes:
        """Return the nearest codes to `(n, R)` points: `(n, DIM)`."""
        codes = np.empty((len(x), self.DIM), np.int16)
        for k, columns in enumerate(self._columns):
            own = x[:, columns]
            codes[:, k] = own.argmax(1) if self.CHOICES[k] else np.clip(np.rint(own[:, 0]), 0, self.UPPER[k])
        return codes

    # --- Costs and features -----------------------------------------------------------------------------

    @property
    def macs(self) -> Any:
        """The function of `(n, DIM)` codes to `(n,)` multiply-accumulates; None without a formula."""
        return functools.partial(self._cost, "macs") if self.description.costs else None

    @property
    def params(self) -> Any:
        """The function of `(n, DIM)` codes to `(n,)` parameters; None without a formula."""
        return functools.partial(self._cost, "params") if self.description.costs else None

    def _cost(self, name: str, codes: object) -> Ints:
        checked = self.check(codes)
        found = self._computed(name, self.relax(checked), np)
        wrong = np.flatnonzero(~((found >= 0) & (found <= _MAX_COST)))
        if len(wrong):
            value, code = found[wrong[0]], self.to_string(checked[wrong[0]])
            why = (
                " (a division by zero, a root of a negative number, or an overflow)" if value != value else ""
            )
            raise SpaceError(
                f"the formula of {name} gives {value:g} for {code}{why}; expected a number from 0 to 2^53"
            )
        rounded: Ints = np.rint(found).astype(np.int64)
        return rounded

    def cost_tensor(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Return "macs" or "params" of `(n, R)` relaxed codes, differentiable: `(n,)`; exact on the grid."""
        import torch

        found: torch.Tensor = self._computed(name, x, torch)
        return found

    def _computed(self, name: str, x: Any, xp: Any) -> Any:
        """Return what a formula gives for `(n, R)` relaxed codes, NaN where it can't be computed: `(n,)`."""
        with np.errstate(all="ignore"):
            return self.description.formulas[name](_Points(self, x, xp))

    def features(self, x: Any, xp: Any) -> Any:
        """Return `(n, F)` features of `(n, R)` relaxed codes, arrays of `xp` (numpy or torch).

        Of an ordinal dimension the position and, where its values are positive numbers, their logarithm; of a
        categorical one the one-hot; and the logarithms of the costs, where formulas tell them.
        """
        points = _Points(self, x, xp)
        found = [x]
        logarithms = [points.interpolated(k, table)[:, None] for k, table in self._logarithms.items()]
        for name in self.description.formulas:
            found_ = xp.maximum(self._computed(name, x, xp), points.constant(1.0))
            logarithms.append(xp.log2(found_)[:, None])
        return xp.concatenate([*found, *logarithms], 1)

    @functools.cached_property
    def _logarithms(self) -> dict[int, Floats]:
        """By ordinal dimension the logarithms of its values, where all are positive numbers."""
        found = {}
        for k, dimension in enumerate(self.dimensions):
            numbers = [v for v in dimension.values if not isinstance(v, str)]
            if dimension.ordered and len(numbers) == len(dimension.values) and min(numbers) > 0:
                found[k] = np.log2(np.array(numbers, np.float64))
        return found

    @functools.cached_property
    def _numbers(self) -> list[Floats]:
        """By dimension its values as numbers; zeros where they are texts."""
        return [
            np.array([0.0 if isinstance(v, str) else float(v) for v in dimension.values])
            for dimension in self.dimensions
        ]


class _Points(formula.Values):
    """Relaxed codes `(n, R)` as a formula reads them."""

    def __init__(self, space: Grid, x: Any, xp: Any):
        self.space, self.x, self.xp = space, x, xp

    def constant(self, value: float) -> Any:
        return self.x[:, 0] * 0 + value

    def only(self, rows: Any) -> _Points:
        if self.xp is np:
            return self
        # Where takes no slope from what it leaves out, not even NaN, which a product with 0 would.
        return _Points(self.space, self.xp.where(rows[:, None], self.x, self.x.detach()), self.xp)

    def floor_divide(self, a: Any, b: Any) -> Any:
        if self.xp is np:
            return a // b
        smooth = a / b
        return (a // b).detach() + (smooth - smooth.detach())

    def power(self, base: Any, exponent: float) -> Any:
        if self.xp is not np and 0 < exponent < 1:
            base = self.xp.where(base == 0, base.detach(), base)
        return base**exponent

    def number(self, k: int) -> Any:
        table = self.space._numbers[k]
        if not self.space.CHOICES[k]:
            return self.interpolated(k, table)
        return self.x[:, self.space._columns[k]] @ self._like(table)

    def has(self, k: int, at: int) -> Any:
        own = self.x[:, self.space._columns[k]]
        if self.space.CHOICES[k]:
            return own[:, at]
        return self.interpolated(k, np.eye(len(self.space.dimensions[k].values))[at])

    def interpolated(self, k: int, table: Floats) -> Any:
        """Return an ordinal dimension's entries of a table: exact at positions, with central slopes there."""
        at = self.x[:, self.space._columns[k].start]
        whole = self.xp.round(at).clip(0, len(table) - 1)
        if self.xp is np:
            return table[whole.astype(np.int64)]
        rows = whole.detach().long()
        values, slopes = self._like(table)[rows], self._like(np.gradient(table))[rows]
        return values + slopes * (at - rows)

    def _like(self, table: Floats) -> Any:
        if self.xp is np:
            return table
        return self.xp.as_tensor(table, dtype=self.x.dtype, device=self.x.device)


def _key(value: Any) -> Any:
    """Return what a value is found by: numbers of any type by their value, booleans apart from them."""
    if isinstance(value, (bool, np.bool_)):
        return ("bool", bool(value))
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, (int, float, str)) else None


def _restored(data: Mapping[str, Any]) -> Grid:
    return Grid.of(Description.from_dict(data))
