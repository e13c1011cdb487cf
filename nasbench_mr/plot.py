"""Plots that a paper could print: what `figure` sets up, and one function for each kind of plot.

Needs the extra `plot`. Nothing here touches matplotlib's global state: a `Figure` is made without pyplot, so
plots work without a display and in threads.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import files
from nasbench_mr.cli import Command, add_json, print_json
from nasbench_mr.errors import InvalidArgumentError, missing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nasbench_mr.benchmark import Benchmark
    from nasbench_mr.search.comparison import Comparison

#: Width of a page's text and of one column of two, inches.
PAGE, COLUMN = 6.8, 3.3


def figure(width: float = PAGE, height: float = 2.6) -> Figure:
    """An empty figure, inches, laid out so that nothing overlaps.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_extra("matplotlib", "plot", "plotting") from None
    return Figure(figsize=(width, height), layout="constrained")


def check_name(path: str | os.PathLike[str]) -> Path:
    """The path, if `save` can write it; to find out before hours of work.

    Raises:
        InvalidArgumentError: another ending.
    """
    target = Path(path)
    if target.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InvalidArgumentError(f"{target}: expected a name that ends in .png, .pdf or .svg")
    return target


def save(drawn: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure, atomically; the ending (.png, .pdf, .svg) tells the format.

    Raises:
        InvalidArgumentError: another ending.
    """
    target = check_name(path)
    kind = target.suffix.lower().removeprefix(".")
    with files.atomic(target) as temporary:
        drawn.savefig(temporary, format=kind, dpi=200)
    return target


#: Okabe and Ito's colours, which the colour-blind can tell apart, and dashes for print in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


def styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a dash for each name."""
    return {
        name: {"color": _COLOURS[k % len(_COLOURS)], "linestyle": _DASHES[k % len(_DASHES)]}
        for k, name in enumerate(names)
    }


def across(count: int) -> int:
    """Panels in a row: at most three, and four as two by two."""
    return 2 if count == 4 else min(3, count)


def panels(drawn: Any, count: int) -> list[Axes]:
    """`count` panels in rows; places left over stay empty."""
    columns = across(count)
    made = list(drawn.subplots(-(-count // columns), columns, squeeze=False).flat)
    for panel in made[count:]:
        panel.set_axis_off()
    for panel in made[:count]:
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    return made[:count]


def comparison(found: Comparison, band: str = "quartiles") -> Figure:
    """Regret curves, a panel for each task, above the searches' mean ranks.

    Lines are medians over the runs on a logarithmic scale that ends in zero, bands what `Comparison.curves`
    says. Below, bars join searches that the tests can't tell apart (Wilcoxon, Holm, 5%).
    """
    curves = found.curves(band)
    heights = [0.5 + 1.75 * -(-len(found.tasks) // across(len(found.tasks)))]
    if len(found.searchers) > 1:
        heights.append(0.35 + 0.16 * len(found.searchers))
    drawn = figure(PAGE, sum(heights))
    upper, *below = drawn.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    looks = styles(found.searchers)
    for panel, task in zip(panels(upper, len(found.tasks)), found.tasks, strict=True):
        here = curves[curves["task"] == task]
        for name in found.searchers:
            own = here[here["searcher"] == name]
            panel.plot(own["evaluations"], own["median"], label=name, linewidth=1.2, **looks[name])
            panel.fill_between(
                own["evaluations"],
                own["low"],
                own["high"],
                color=looks[name]["color"],
                alpha=0.15,
                linewidth=0,
            )
        _scale_regret(panel, here[["median", "low", "high"]].to_numpy())
        panel.set_title(task, fontsize=8)
        panel.set_xlim(1, found.grid[-1])
    units = sorted(set(found.about["unit"].values()))
    upper.supxlabel("evaluations", fontsize=8)
    upper.supylabel(f"regret ({', '.join(units)})", fontsize=8)
    handles, labels = upper.axes[0].get_legend_handles_labels()
    upper.legend(handles, labels, loc="outside upper center", ncols=7, fontsize=7, frameon=False)
    for lower in below:
        _draw_ranks(lower.subplots(), found, looks)
    return drawn


def _scale_regret(panel: Axes, values: np.ndarray[Any, Any]) -> None:
    """A logarithmic axis, but linear below the smallest tenth, so that no regret at all has a place."""
    positive = values[np.isfinite(values) & (values > 0)]
    if len(positive):
        threshold = 10.0 ** np.floor(np.log10(np.quantile(positive, 0.05)))
        panel.set_yscale("symlog", linthresh=threshold, linscale=0.4)
    panel.set_ylim(bottom=0)


def _draw_ranks(panel: Axes, found: Comparison, looks: dict[str, dict[str, Any]]) -> None:
    """Mean ranks over the tasks on a line, best on the left; bars join what the tests can't tell apart."""
    ranks = found.ranks().mean().sort_values()
    names = list(ranks.index)
    tests = found.tests()
    count = len(names)
    panel.set_xlim(1 - 0.02 * count, count + 0.02 * count)
    panel.set_ylim(-count - 0.2, 0.6)
    panel.spines[["left", "right", "bottom"]].set_visible(False)
    panel.xaxis.set_ticks_position("top")
    panel.set_xticks(range(1, count + 1))
    panel.set_yticks([])
    panel.tick_params(labelsize=7)
    panel.set_title(
        f"mean rank; bars: no difference at 5% (Wilcoxon over {tests.count} {tests.blocks}, Holm)", fontsize=8
    )
    for k, name in enumerate(names):
        panel.plot([ranks[name], ranks[name]], [0.6, -k - 0.5], linewidth=0.8, **looks[name])
        panel.plot([ranks[name]], [0.6], marker="o", markersize=3, clip_on=False, color=looks[name]["color"])
        panel.annotate(
            f"{name} {ranks[name]:.2f}",
            (ranks[name], -k - 0.5),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=7,
            va="center",
        )
    pairs = tests.pairs
    p = {
        frozenset(pair): float(value)
        for *pair, value in zip(pairs["a"], pairs["b"], pairs["p_holm"], strict=True)
    }
    level = 0.25
    for first, last in _groups(names, lambda a, b: p[frozenset((a, b))] > 0.05):
        panel.plot(
            [ranks[names[first]] - 0.02, ranks[names[last]] + 0.02],
            [level, level],
            color="black",
            linewidth=2.5,
        )
        level -= 0.3


def _groups(names: Sequence[str], alike: Any) -> list[tuple[int, int]]:
    """The longest runs (first, last) of names, in this order, of which every two are alike."""
    runs: list[tuple[int, int]] = []
    for first in range(len(names)):
        last = first
        while last + 1 < len(names) and all(alike(names[k], names[last + 1]) for k in range(first, last + 1)):
            last += 1
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs


def release(bench: Benchmark) -> Figure:
    """A release at a glance: each task's objective against MACs, with the codes that nothing else beats."""
    drawn = figure(PAGE, 0.3 + 1.7 * -(-len(bench.tasks) // across(len(bench.tasks))))
    for panel, name in zip(panels(drawn, len(bench.tasks)), bench.tasks, strict=True):
        task = bench.task(name)
        metric = task.metric()
        found = bench.query_many(bench.codes(name), name, (metric.name, "macs"), source="table")
        panel.scatter(found["macs"] / 1e9, found[metric.name], s=2, linewidth=0, alpha=0.5, color=_COLOURS[5])
        front = bench.pareto(name)
        panel.step(
            front["macs"] / 1e9, front[name], where="post", linewidth=1.2, color=_COLOURS[1], label="best"
        )
        panel.set_xscale("log")
        panel.set_title(f"{name}: {metric.name} ({metric.unit})", fontsize=8)
    drawn.supxlabel("GMACs", fontsize=8)
    return drawn


class Plot(Command):
    """Draw a comparison, an evaluation or a release.

    WHAT is a folder that `nasbench-mr compare --out` wrote, a Parquet file that `nasbench-mr predict-eval
    --out` wrote, or a release. The ending of --out (.png, .pdf or .svg) tells the format.

    Example:
      nasbench-mr plot comparison --out comparison.png
      nasbench-mr plot mini --out mini.pdf
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("what", metavar="WHAT", help="a comparison, an evaluation or a release")
        parser.add_argument("--out", required=True, metavar="FILE", help="the picture")
        parser.add_argument(
            "--band",
            default="quartiles",
            metavar="B",
            help="a comparison's: quartiles (default) or confidence",
        )
        parser.add_argument(
            "--score", default="kendall", metavar="S", help="an evaluation's (default: kendall)"
        )
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        path = save(self._draw(args), args.out)
        if args.json:
            return print_json({"path": str(path)})
        print(path)
        return None

    @staticmethod
    def _draw(args: argparse.Namespace) -> Figure:
        from nasbench_mr.search.comparison import ABOUT, Comparison

        if os.path.isfile(os.path.join(args.what, ABOUT)):
            return comparison(Comparison.open(args.what), args.band)
        if args.what.endswith(".parquet"):
            from nasbench_mr.predictors import evaluation

            return evaluation.draw(evaluation.read(args.what), args.score)
        from nasbench_mr.benchmark import load

        return release(load(args.what))
