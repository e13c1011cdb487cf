"""Searches, drawn: a comparison's regret curves and mean ranks, simulated runs. Needs the extra `plot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr.plot import PAGE, figure, height, legend, log_axis, panels, styles, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nasbench_mr.search.comparison import Comparison
    from nasbench_mr.search.simulation import Simulation


def comparison(found: Comparison, band: str = "quartiles") -> Figure:
    """Draw regret curves, a panel for each task, above the searches' mean ranks.

    Lines are medians over the runs on a logarithmic scale that ends in zero, bands what `Comparison.curves`
    says; those of reference results are dotted. Below, bars join searches that the tests can't tell apart
    (Wilcoxon, Holm, 5%).
    """
    curves = found.curves(band)
    heights = [height(len(found.tasks))]
    if len(found.searchers) > 1:
        heights.append(0.42 + 0.16 * len(found.searchers))
    drawn = figure(PAGE, sum(heights))
    upper, *below = drawn.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    looks = styles(found.searchers)
    for name in found.about.get("reference", ()):
        looks[name] = {"color": looks[name]["color"], "linestyle": ":"}
    for panel, task in zip(panels(upper, len(found.tasks)), found.tasks, strict=True):
        here = curves[curves["task"] == task]
        for name in found.searchers:
            own = here[here["searcher"] == name]
            lines = own[["median", "low", "high"]].to_numpy().T
            _draw_regret(panel, own["evaluations"].to_numpy(), lines, name, looks[name])
        _scale_regret(panel, here[["median", "low", "high"]].to_numpy())
        title(panel, task)
        panel.set_xlim(1, found.grid[-1])
    units = sorted(set(found.about["unit"].values()))
    shown = {"confidence": "95% confidence"}.get(band, band)
    upper.supxlabel(f"evaluations; bands: {shown}", fontsize=8)
    upper.supylabel(f"median regret ({', '.join(units)})", fontsize=8)
    legend(upper)
    for lower in below:
        _draw_ranks(lower.subplots(), found, looks)
    return drawn


def simulations(runs: Mapping[str, Mapping[str, Sequence[Simulation]]], best: Mapping[str, float]) -> Figure:
    """Draw regret over simulated time, a panel for each task: medians over the runs, and their quartiles.

    Args:
        runs: by task and search, what `simulate` returned for each seed.
        best: by task, the best value within reach.
    """
    drawn = figure(PAGE, height(len(runs)))
    looks = styles(list(dict.fromkeys(name for found in runs.values() for name in found)))
    for panel, (task, found) in zip(panels(drawn, len(runs)), runs.items(), strict=True):
        end = max(float(run.finish[-1]) for traces in found.values() for run in traces)
        times = np.linspace(0, end, 400)
        seen = []
        for name, traces in found.items():
            # Nothing trained to the end yet is worse than anything that is.
            regret = np.nan_to_num([best[task] - run.at(times) for run in traces], nan=np.inf)
            ranked = np.quantile(regret, (0.5, 0.25, 0.75), axis=0, method="nearest")
            lines = np.where(np.isfinite(ranked), ranked, np.nan)
            _draw_regret(panel, times, lines, name, looks[name])
            seen.append(lines)
        _scale_regret(panel, np.array(seen))
        title(panel, task)
        panel.set_xlim(0, end)
    units = sorted({run.unit for found in runs.values() for traces in found.values() for run in traces})
    drawn.supxlabel(f"simulated {', '.join(units)}; bands: quartiles", fontsize=8)
    drawn.supylabel("median regret", fontsize=8)
    legend(drawn)
    return drawn


def _draw_regret(
    panel: Axes, at: np.ndarray[Any, Any], lines: np.ndarray[Any, Any], name: str, look: dict[str, Any]
) -> None:
    """Draw a search's median over a band: `lines` are `(3, n)` medians, low and high ends."""
    panel.plot(at, lines[0], label=name, linewidth=1.2, **look)
    panel.fill_between(at, lines[1], lines[2], color=look["color"], alpha=0.15, linewidth=0)


def _scale_regret(panel: Axes, values: np.ndarray[Any, Any]) -> None:
    """Set a logarithmic axis, linear below the smallest tenth, so that a regret of zero has a place."""
    positive = values[np.isfinite(values) & (values > 0)]
    threshold = 1.0
    if len(positive):
        threshold = 10.0 ** np.floor(np.log10(np.quantile(positive, 0.05)))
        log_axis(panel.yaxis, linear_below=threshold)
    panel.set_ylim(bottom=-threshold / 4)  # a curve at 0 is seen above the axis


def _draw_ranks(panel: Axes, found: Comparison, looks: dict[str, dict[str, Any]]) -> None:
    """Draw mean ranks over the tasks, best on the left; bars join what the tests can't tell apart."""
    ranks = found.ranks().mean().sort_values()
    names = list(ranks.index)
    tests = found.tests()
    count = len(names)
    panel.set_xlim(1 - 0.02 * count, count + 0.02 * count)
    panel.set_ylim(-count - 0.6, 0.6)
    panel.spines[["left", "right", "bottom"]].set_visible(False)
    panel.xaxis.set_ticks_position("top")
    panel.set_xticks(range(1, count + 1))
    panel.set_yticks([])
    panel.tick_params(labelsize=7)
    title(panel, f"mean rank; bars: no difference at 5% (Wilcoxon over {tests.count} {tests.blocks}, Holm)")
    for k, name in enumerate(names):
        panel.plot([ranks[name], ranks[name]], [0.6, -k - 0.9], linewidth=0.8, **looks[name])
        panel.plot([ranks[name]], [0.6], marker="o", markersize=3, clip_on=False, color=looks[name]["color"])
        panel.annotate(
            f"{name} {ranks[name]:.2f}",
            (ranks[name], -k - 0.9),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=7,
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},  # over the lines of others
        )
    pairs = tests.pairs
    p = {
        frozenset(pair): float(value)
        for *pair, value in zip(pairs["a"], pairs["b"], pairs["p_holm"], strict=True)
    }
    level = 0.1  # below the dots
    for first, last in _groups(names, lambda a, b: p[frozenset((a, b))] > 0.05):
        panel.plot(
            [ranks[names[first]] - 0.02, ranks[names[last]] + 0.02],
            [level, level],
            color="black",
            linewidth=1.6,
        )
        level -= 0.3


def _groups(names: Sequence[str], alike: Any) -> list[tuple[int, int]]:
    """Return the longest runs (first, last) of names, in this order, of which every two are alike."""
    runs: list[tuple[int, int]] = []
    for first in range(len(names)):
        last = first
        while last + 1 < len(names) and all(alike(names[k], names[last + 1]) for k in range(first, last + 1)):
            last += 1
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs
