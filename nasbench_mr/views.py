"""A release, drawn: its fronts, correlations, learning curves and noise. Needs the extra `plot`.

plot.save(views.scatter(bench, ("seg", "video")), "fronts.svg")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nasbench_mr.errors import TableError
from nasbench_mr.plot import COLOURS, PAGE, figure, height, legend, log_axis, panels, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nasbench_mr.benchmark import Benchmark

#: Learning curves drawn of a task: the best and the worst codes, and some between.
_CURVES = 25
#: Ratio of the largest value to the smallest from which an axis is logarithmic.
_WIDE = 30


def scatter(bench: Benchmark, tasks: Sequence[str] | None = None) -> Figure:
    """Draw each task's objective against MACs, and the codes that no other one beats in both.

    Where no one knows the MACs of a task's codes, they stand side by side, from the worst to the best.
    """
    drawn = {}
    for name in bench.chosen(tasks):
        metric = bench.task(name).metric()
        values = bench.query_many(bench.codes(name), name, (metric.name,), source="table")[metric.name]
        drawn[name] = bench.costs_of(name) / 1e9, values
    made = figure(PAGE, height(len(drawn)))
    for panel, (name, (gmacs, values)) in zip(panels(made, len(drawn)), drawn.items(), strict=True):
        metric = bench.task(name).metric()
        title(panel, f"{name}: {metric.name} ({metric.unit})")
        if np.isnan(gmacs).all():
            ordered = metric.sign * np.sort(metric.sign * values)
            panel.scatter(np.arange(len(ordered)), ordered, s=6, linewidth=0, alpha=0.45, color=COLOURS[0])
            panel.set_xlabel("codes, the best last (MACs unknown)", fontsize=7)
            continue
        panel.scatter(gmacs, values, s=6, linewidth=0, alpha=0.45, color=COLOURS[0], label="a code")
        front = bench.pareto(name)
        panel.step(
            front["macs"] / 1e9,
            front[name],
            where="post",
            linewidth=1.2,
            color=COLOURS[1],
            label="Pareto front",
        )
        log_axis(panel.xaxis)
        # Such as milliseconds: small and large networks are told apart only by their ratio.
        if metric.upper is None and np.nanmin(values) > 0 and np.nanmax(values) > _WIDE * np.nanmin(values):
            log_axis(panel.yaxis)
    if any(np.isfinite(gmacs).any() for gmacs, _ in drawn.values()):
        made.supxlabel("GMACs", fontsize=8)
        legend(made)
    return made


def correlation(bench: Benchmark, tasks: Sequence[str] | None = None, method: str = "kendall") -> Figure:
    """Draw the rank correlation of every two tasks' objectives over the codes that they share."""
    tau = bench.correlation(method, tasks)
    names, values = [str(name) for name in tau], tau.to_numpy("float64")
    side = 1.2 + 0.42 * len(names)
    made = figure(side + 0.8, side)
    panel = made.subplots()
    shown = panel.imshow(values, vmin=-1, vmax=1, cmap="PuOr", aspect="auto")
    panel.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    panel.set_yticks(range(len(names)), names, fontsize=7)
    for row in range(len(names)):
        for column in range(len(names)):
            value = float(values[row, column])
            colour = "white" if abs(value) > 0.7 else "black"
            panel.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    bar = made.colorbar(shown, ax=panel, shrink=0.8)
    bar.set_label({"kendall": "Kendall's tau"}.get(method, method), fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return made


def curves(bench: Benchmark, tasks: Sequence[str] | None = None) -> Figure:
    """Draw learning curves of some codes of each task, from the best to the worst, over epochs."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    colours = LinearSegmentedColormap.from_list("ends", [COLOURS[4], "0.8", COLOURS[0]])

    names = bench.chosen(tasks)
    made = figure(PAGE, height(len(names)))
    for panel, name in zip(panels(made, len(names)), names, strict=True):
        task = bench.task(name)
        metric = task.metric()
        frame = bench.curves(name, ok=True)
        columns = [*frame.columns[: frame.columns.get_loc("seed")]]
        means = frame.groupby([*columns, "epoch"])[metric.name].mean().unstack("epoch")
        means = means.dropna(axis=1, how="all")
        if means.empty:
            raise TableError(f"no trial of {name} that ended well has a learning curve")
        # Where some curves end early, those that reach the end are comparable.
        last = means.columns[-1]
        ordered = means[means[last].notna()].sort_values(last, ascending=metric.sign > 0)
        picked = ordered.iloc[np.unique(np.linspace(0, len(ordered) - 1, _CURVES).astype(int))]
        for k, (_, curve) in enumerate(picked.iterrows()):
            known = curve.dropna()
            share = k / max(1, len(picked) - 1)
            panel.plot(known.index, known, linewidth=0.9, color=colours(share), marker="o", markersize=1.5)
        title(panel, f"{name}: {metric.name} ({metric.unit})")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    made.supxlabel("epoch; blue: the codes that end best, orange: worst", fontsize=8)
    return made


def noise(bench: Benchmark, tasks: Sequence[str] | None = None) -> Figure:
    """Draw, for each task with repeated trials, how far codes differ and how far seeds of one code do."""
    frame = bench.noise(bench.chosen(tasks))
    if frame.empty:
        asked = ", ".join(bench.chosen(tasks))
        raise TableError(f"no code of {asked} has two seeds; noise needs repeated trials")
    made = figure(PAGE, 0.7 + 0.45 * len(frame))
    panel = panels(made, 1)[0]
    where = np.arange(len(frame))
    for shift, (column, label) in enumerate(
        (("between", "between codes, without noise"), ("within", "between seeds of a code"))
    ):
        panel.barh(where - 0.2 + 0.4 * shift, frame[column], 0.36, color=COLOURS[shift], label=label)
    ends = frame[["between", "within"]].max(axis=1)
    for k, (end, ratio) in enumerate(zip(ends, frame["ratio"], strict=True)):
        panel.text(end, k, f"  {ratio:.1f} : 1", va="center", fontsize=7)
    panel.set_yticks(where, [str(name) for name in frame.index], fontsize=8)
    panel.invert_yaxis()  # the first task above
    panel.margins(x=0.12)
    panel.set_xlabel("standard deviation of the objective, in its unit", fontsize=8)
    legend(made)
    return made


#: Kind of plot of a release: what draws it.
KINDS: dict[str, Callable[..., Figure]] = {
    "scatter": scatter,
    "correlation": correlation,
    "curves": curves,
    "noise": noise,
}
