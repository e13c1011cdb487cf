"""A release, drawn: what its tables look like at a glance. Needs the extra `plot`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasbench_mr.plot import COLOURS, PAGE, across, figure, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nasbench_mr.benchmark import Benchmark


def release(bench: Benchmark) -> Figure:
    """A release at a glance: each task's objective against MACs, with the codes that nothing else beats."""
    drawn = figure(PAGE, 0.3 + 1.7 * -(-len(bench.tasks) // across(len(bench.tasks))))
    for panel, name in zip(panels(drawn, len(bench.tasks)), bench.tasks, strict=True):
        task = bench.task(name)
        metric = task.metric()
        found = bench.query_many(bench.codes(name), name, (metric.name, "macs"), source="table")
        panel.scatter(found["macs"] / 1e9, found[metric.name], s=2, linewidth=0, alpha=0.5, color=COLOURS[5])
        front = bench.pareto(name)
        panel.step(
            front["macs"] / 1e9, front[name], where="post", linewidth=1.2, color=COLOURS[1], label="best"
        )
        panel.set_xscale("log")
        panel.set_title(f"{name}: {metric.name} ({metric.unit})", fontsize=8)
    drawn.supxlabel("GMACs", fontsize=8)
    return drawn
