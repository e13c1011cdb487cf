"""A comparison of Aux-NAS's variants, drawn: the primary's metric and the gates. Needs the extra `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nasbench_mr import plot
from nasbench_mr.errors import UnknownNameError, did_you_mean
from nasbench_mr.search.auxnas.comparison import CHECKPOINT, DIRECTIONS, searched
from nasbench_mr.search.auxnas.tasks import get

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nasbench_mr.search.auxnas.comparison import AuxComparison


def runs(comparison: AuxComparison, variants: Sequence[str] = ()) -> Figure:
    """Draw the primary's objective over training, and the gates of Aux-NAS.

    Left: each variant's mean over seeds, with a band of one standard deviation. Right: the gates' mean over
    seeds, each gate a thin line and their mean a thick one, on a logarithmic scale; of several Aux-NAS, those
    of the first.

    Args:
        comparison: what was run.
        variants: those to draw (default: all).

    Raises:
        UnknownNameError: the comparison has no such variant.
    """
    for name in variants:
        if name not in comparison.runs:
            raise UnknownNameError(f"no variant {name!r}: {did_you_mean(name, [*comparison.runs])}")
    figure = plot.figure()
    metric, gates = plot.panels(figure, 2)
    objective = get(comparison.primary).objective
    finished = {name: own for name, own in comparison.done().items() if not variants or name in variants}
    if own := finished.pop(CHECKPOINT, []):
        level = np.mean([comparison.final(run) for run in own])
        metric.axhline(float(level), color="0.4", lw=0.8, ls=":", label=CHECKPOINT)
    looks = plot.styles(list(finished))
    for variant, own in finished.items():
        if not own:
            continue
        steps, values = comparison.curve(own)
        mean, look = values.mean(0), looks[variant]
        std = values.std(0, ddof=1) if len(own) > 1 else 0.0
        metric.plot(steps, mean, label=variant, linewidth=1.2, **look)
        metric.fill_between(steps, mean - std, mean + std, color=look["color"], alpha=0.15, lw=0)
    metric.set_xlabel("updates of the weights; bands: one standard deviation", fontsize=8)
    metric.set_ylabel(f"{objective.name} ({objective.unit})", fontsize=8)
    # As many columns as stand beside the other legend: about inches.
    longest = max((len(str(line.get_label())) for line in metric.lines), default=0)
    plot.legend(figure, "upper left", of=metric, columns=max(1, min(3, int(5.2 / (0.6 + 0.055 * longest)))))
    if own := next(filter(searched, finished.values()), []):
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
    plot.log_axis(gates.yaxis)
    gates.set_xlabel("updates of the weights", fontsize=8)
    gates.set_ylabel("gate", fontsize=8)
    return figure
