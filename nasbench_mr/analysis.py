"""Arithmetic of the views: the Pareto front, rank correlations, and the noise of seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench_mr.arrays import Floats


def non_dominated(losses: Floats) -> npt.NDArray[np.int64]:
    """Return the rows of `(n, m)` losses that no other row dominates (nowhere above, somewhere below)."""
    order = np.lexsort(losses.T[::-1])
    rows = losses[order]
    front: list[int] = []
    kept = np.empty((0, losses.shape[1]))
    for i, row in enumerate(rows):
        # In lexicographic order a row can only be dominated by an earlier one; equal rows all stay.
        worse = (kept <= row).all(axis=1) & (kept < row).any(axis=1)
        if not np.isnan(row).any() and not worse.any():
            front.append(i)
            kept = rows[front]
    return np.sort(order[front])


def spreads(values: Floats) -> tuple[float, float]:
    """Return standard deviations between codes and between the seeds of a code (analysis of variance).

    Args:
        values: `(codes, seeds)`, NaN where a code lacks a seed; each code has one at least.

    Returns:
        Between codes, with what seeds add to the variance of codes' means taken off; and between the seeds of
        a code, from the codes with several. NaN where there are too few.
    """
    counts = (~np.isnan(values)).sum(axis=1)
    freedom = (counts - 1).sum()
    if len(values) < 2 or not freedom:
        return float("nan"), float("nan")
    means = np.nansum(values, axis=1) / counts
    within = np.nansum((values - means[:, None]) ** 2) / freedom
    between = means.var(ddof=1) - within * (1 / counts).mean()
    return float(np.sqrt(max(between, 0.0))), float(np.sqrt(within))


def kendall_tau(x: Floats, y: Floats) -> float:
    """Return Kendall's tau-b of `(n,)` arrays, in O(n log^2 n) (Knight, 1966); NaN where one is constant."""
    x, y = np.asarray(x), np.asarray(y)  # a series would be indexed by its labels
    n = len(x)
    order = np.lexsort((y, x))
    x, y = x[order], y[order]
    pairs = n * (n - 1) / 2
    ties_x, ties_y = _tied_pairs(x), _tied_pairs(np.sort(y))
    new = np.concatenate([[True], (np.diff(x) != 0) | (np.diff(y) != 0)]) if n else np.empty(0, bool)
    ties_both = _tied_pairs(np.cumsum(new))
    discordant = _inversions(np.unique(y, return_inverse=True)[1])
    agreement = pairs - ties_x - ties_y + ties_both - 2 * discordant
    spread = np.sqrt((pairs - ties_x) * (pairs - ties_y))
    return float(agreement / spread) if spread else float("nan")


def correlation(x: Floats, y: Floats, method: str) -> float:
    """Return "kendall" (tau-b), "spearman" or "pearson" of two `(n,)` arrays, where both are known.

    NaN where one is constant.
    """
    import pandas as pd

    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if method == "kendall":
        return kendall_tau(x, y)
    return float(pd.DataFrame({"x": x, "y": y}).corr(method).to_numpy()[0, 1])  # type: ignore[arg-type]


def _tied_pairs(ordered: npt.NDArray[Any]) -> float:
    counts = np.diff(np.flatnonzero(np.concatenate([[True], np.diff(ordered) != 0, [True]])))
    return float((counts * (counts - 1) / 2).sum())


def _inversions(ranks: npt.NDArray[np.int64]) -> int:
    """Pairs i < j with ranks[i] > ranks[j], counted one bit of the ranks at a time."""
    total = 0
    for bit in range(int(ranks.max(initial=0)).bit_length()):
        # Pairs whose ranks agree above `bit` and differ in it, the larger one first.
        group = ranks >> (bit + 1)
        order = np.argsort(group, kind="stable")
        ones = (ranks[order] >> bit) & 1
        seen = np.cumsum(ones)
        start = np.searchsorted(group[order], group[order])
        before = seen - (seen[start] - ones[start])
        total += int(before[ones == 0].sum())
    return total
