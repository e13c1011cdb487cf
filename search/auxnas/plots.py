"""A comparison of Aux-NAS's variants, drawn: the primary's metric and the gates. Needs the extra `plot`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nasbench_mr import plot
from nasbench_mr.search.auxnas.comparison import CHECKPOINT, DIRECTIONS
from nasbench_mr.search.auxnas.tasks import get

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nasbench_mr.search.auxnas.comparison import AuxComparison


def runs(comparison: AuxComparison) -> Figure:
    """Draw the primary's objective over training, and the gates of Aux-NAS.

    Left: each variant's mean over seeds, with a band of one standard deviation. Right: the gates' mean over
    seeds, each gate a thin line and their mean a thick one, on a logarithmic scale.
    """
    figure = plot.figure()
    metric, gates = plot.panels(figure, 2)
    objective = get(comparison.primary).objective
    finished = comparison.done()
    if own := finished.pop(CHECKPOINT, []):
        level = np.mean([comparison.final(run) for run in own])
        metric.axhline(float(level), color="0.4", lw=0.8, ls=":", label=CHECKPOINT)
    looks = plot.styles(list(finished))
    for variant, own in finished.items():
        if not own:
            continue
        steps, values = comparison.curve(own)
        mean, std, look = values.mean(0), values.std(0), looks[variant]
        metric.plot(steps, mean, label=variant, linewidth=1.2, **look)
        metric.fill_between(steps, mean - std, mean + std, color=look["color"], alpha=0.15, lw=0)
    metric.set_xlabel("updates of the weights; bands: one standard deviation", fontsize=8)
    metric.set_ylabel(f"{objective.name} ({objective.unit})", fontsize=8)
    plot.legend(figure, "upper left", of=metric, columns=3)
    if own := finished.get("aux-nas", []):
        since = [0, *comparison.curve(own)[0]]
        for direction, look in plot.styles(list(DIRECTIONS)).items():
            each = comparison.gates(own, direction).mean(0)  # (evaluations + 1, gates)
            if not each.size:
                continue  # a network whose links run one way only
            gates.plot(since, each, color=look["color"], alpha=0.25, lw=0.6)
            gates.plot(since, each.mean(1), lw=2, label=f"{DIRECTIONS[direction]} (mean)", **look)
        threshold = own[0]["config"]["threshold"]
        gates.axhline(threshold, color="0.6", lw=0.8, ls=":", label="threshold of an open gate")
        plot.legend(figure, "upper right", of=gates, columns=1)
    gates.set_yscale("log")
    gates.set_xlabel("updates of the weights", fontsize=8)
    gates.set_ylabel("gate", fontsize=8)
    return figure
