"""Several objectives at once: scales, hypervolume, and fronts.

Every objective is scaled so that 0 is its worst tabulated value and 1 its best, larger better; costs by their
logarithms. A hypervolume is measured from the point of all zeros: the share of the box between the worst and
the best values that a set of codes dominates. The scale is that of all tabulated codes, whatever the limits,
so it is one for a release and comparable between searches.

    hypervolume(values), growing(values)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np

from nasbench_mr.analysis import non_dominated
from nasbench_mr.arrays import Bools, ByValue, Floats, Ints
from nasbench_mr.errors import InvalidArgumentError

#: Objectives that a front may have: the time of an exact hypervolume grows fast with them.
MAX_OBJECTIVES = 4


@dataclass(frozen=True, eq=False)
class Scale(ByValue):
    """How metrics become objectives from 0 (worst) to 1 (best).

    Attributes:
        sign: `(m,)` 1 where larger is better, else -1.
        logarithmic: `(m,)` whether the logarithm counts.
        worst, best: `(m,)` of the signed values, after the logarithm.
    """

    sign: Floats
    logarithmic: Bools
    worst: Floats
    best: Floats

    @classmethod
    def of(cls, values: Floats, sign: Floats, logarithmic: Bools, names: list[str]) -> Scale:
        """Return the scale of `(n, m)` tabulated values.

        Raises:
            InvalidArgumentError: a cost is not positive, or all codes have one value.
        """
        for k, name in enumerate(names):
            least = values[:, k].min()
            if logarithmic[k] and least <= 0:
                raise InvalidArgumentError(f"{name} is {least:g} for a code; expected positive costs")
            if least == values[:, k].max():
                count, share = len(values), f"that {', '.join(names)} share"
                if count == 1:
                    raise InvalidArgumentError(
                        f"{name} is {least:g} for the only code {share}; a front needs more"
                    )
                raise InvalidArgumentError(
                    f"{name} is {least:g} for each of the {count:,} codes {share}; leave it out"
                )
        made = cls(sign, logarithmic, np.zeros(len(sign)), np.ones(len(sign)))
        signed = made(values)
        return cls(sign, logarithmic, signed.min(axis=0), signed.max(axis=0))

    def __call__(self, values: Floats) -> Floats:
        """Return `(n, m)` metrics as objectives; a value that is unknown (NaN) makes its code the worst."""
        with np.errstate(divide="ignore", invalid="ignore"):
            shown = np.where(self.logarithmic, np.log(np.where(self.logarithmic, values, 1.0)), values)
            scaled = (self.sign * shown - self.worst) / (self.best - self.worst)
        scaled[~np.isfinite(scaled).all(axis=1)] = 0.0
        return np.asarray(scaled)


def _objectives(values: object) -> Floats:
    """Return `(n, m)` objectives, checked; raise `InvalidArgumentError` for all else."""
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InvalidArgumentError(f"objectives are {values!r:.60}; expected (n, m) numbers") from None
    if found.ndim != 2 or not found.shape[1]:
        raise InvalidArgumentError(
            f"objectives have shape {found.shape}; expected (n, m): a row for each code, as in [[0.5, 0.5]]"
        )
    unknown = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(unknown):
        raise InvalidArgumentError(
            f"objectives[{unknown[0]}] is {found[unknown[0]].tolist()}; expected finite numbers: leave out "
            "what is unknown, or let a Scale count it as the worst"
        )
    return found


def front(values: Floats) -> Ints:
    """Return the rows of `(n, m)` objectives that no other row beats; of equal rows the first.

    Raises:
        InvalidArgumentError: they are not `(n, m)`, or not finite.
    """
    values = _objectives(values)
    rows = non_dominated(-values)
    _, first = np.unique(values[rows], axis=0, return_index=True)
    return np.sort(rows[first])


def hypervolume(values: Floats) -> float:
    """Return the volume that `(n, m)` objectives, larger better, dominate above all zeros: exact.

    A row with an objective of 0 or less adds nothing.

    Raises:
        InvalidArgumentError: they are not `(n, m)`, or not finite.
    """
    values = _objectives(values)
    return _volume(values[(values > 0).all(axis=1)])


def _volume(points: Floats) -> float:
    """Return the hypervolume of positive points, sliced along the last objectives until three are left."""
    if len(points) < 2 or points.shape[1] == 1:
        return float(points.prod(axis=1).max(initial=0.0))
    ordered = points[np.argsort(-points[:, -1], kind="stable")]
    if points.shape[1] == 2:
        return float(np.maximum.accumulate(ordered[:, 0]) @ -np.diff(ordered[:, 1], append=0.0))
    if points.shape[1] == 3:
        return _stacked(ordered.tolist())
    heights = -np.diff(ordered[:, -1], append=0.0)
    total, kept = 0.0, ordered[:0, :-1]
    for point, height in zip(ordered[:, :-1], heights.tolist(), strict=True):
        kept = np.vstack([kept[~(kept <= point).all(axis=1)], point])
        if height:
            total += height * _volume(kept)
    return total


def _stacked(points: list[list[float]]) -> float:
    """Return the hypervolume of positive points of three objectives, the highest third one first.

    From above, layer by layer, the area that is covered grows: a staircase, whose steps have rising `xs` and
    falling `ys` (Fonseca et al., 2006).
    """
    xs: list[float] = []
    ys: list[float] = []
    total, area, above = 0.0, 0.0, points[0][2]
    for x, y, z in points:
        total += area * (above - z)
        above = z
        at = bisect_left(xs, x)
        if at < len(xs) and ys[at] >= y:
            continue
        end = bisect_right(xs, x)
        first = end
        while first and ys[first - 1] <= y:
            first -= 1
        left = xs[first - 1] if first else 0.0
        for k in range(first, end):
            area += (xs[k] - left) * (y - ys[k])
            left = xs[k]
        area += (x - left) * (y - (ys[end] if end < len(ys) else 0.0))
        xs[first:end], ys[first:end] = [x], [y]
    return total + area * above


def gain(point: Floats, kept: Floats) -> float:
    """Return the hypervolume that a point, `(m,)`, adds to that of `(n, m)` others (While et al., 2012)."""
    if (point <= 0).any() or (kept >= point).all(axis=1).any():
        return 0.0
    limited = np.minimum(kept, point)
    limited = limited[(limited > 0).all(axis=1)]
    if limited.shape[1] > 3:
        # Most of what is cut down to the point's box lies behind the rest of it.
        above = (limited[:, None] >= limited).all(axis=2)
        before = np.tri(len(limited), k=-1, dtype=bool)
        limited = limited[~(above & (~above.T | before.T)).any(axis=0)]
    return float(point.prod()) - _volume(limited)


def growing(values: Floats) -> Floats:
    """Return the hypervolume of the first 1, 2, ..., n rows of `(n, m)` objectives: `(n,)`.

    Raises:
        InvalidArgumentError: they are not `(n, m)`, or not finite.
    """
    values = _objectives(values)
    found, total = np.empty(len(values)), 0.0
    kept = np.empty((0, values.shape[1]))
    for row, point in enumerate(values):
        more = gain(point, kept)
        if more > 0:
            total += more
            kept = np.vstack([kept[~(kept <= point).all(axis=1)], point])
        found[row] = total
    return found
