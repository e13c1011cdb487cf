"""An evaluation of predictors, drawn: scores against the number of training codes. Needs the extra `plot`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nasbench_mr import plot
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.predictors.evaluation import check_score

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def evaluation(frame: pd.DataFrame, score: str = "kendall") -> Figure:
    """Draw a score against the number of training codes: a panel for each task, a line for each predictor.

    Lines are means over the splits, bands their standard deviations.

    Raises:
        UnknownNameError: no such score.
        InvalidArgumentError: the evaluation is empty.
        MissingExtraError: matplotlib is not installed.
    """
    check_score(score)
    if frame.empty:
        raise InvalidArgumentError("the evaluation has no rows to draw")
    names = list(frame["task"].unique())
    looks = plot.styles(list(frame["predictor"].unique()))
    drawn = plot.figure(plot.PAGE, plot.height(len(names)))
    for panel, name in zip(plot.panels(drawn, len(names)), names, strict=True):
        if frame["train"].nunique() == 1:
            _bars(panel, frame[frame["task"] == name], score, looks)
            plot.title(panel, name)
            continue
        for predictor, look in looks.items():
            own = frame[(frame["task"] == name) & (frame["predictor"] == predictor)]
            groups = own.groupby("train")[score]
            mean, std = groups.mean(), groups.std().fillna(0)
            panel.plot(mean.index, mean, marker="o", markersize=2, linewidth=1, label=predictor, **look)
            low, high = mean - std, mean + std
            panel.fill_between(mean.index, low, high, color=look["color"], alpha=0.15, linewidth=0)
        plot.title(panel, name)
        plot.log_axis(panel.xaxis)
    sizes = sorted(frame["train"].unique())
    shown = "training codes; bands" if len(sizes) > 1 else f"{sizes[0]:,} training codes; whiskers"
    drawn.supxlabel(f"{shown}: one standard deviation", fontsize=8)
    drawn.supylabel(score, fontsize=8)
    plot.legend(drawn)
    return drawn


def _bars(panel: Axes, own: pd.DataFrame, score: str, looks: dict[str, dict[str, Any]]) -> None:
    """Draw one training size: a bar for each predictor, with the splits' standard deviation."""
    groups = own.groupby("predictor", sort=False)[score]
    mean, std = groups.mean(), groups.std().fillna(0)
    for k, (predictor, look) in enumerate(looks.items()):
        panel.bar(
            k, mean[predictor], 0.7, yerr=std[predictor], color=look["color"], label=predictor, capsize=2
        )
    panel.set_xticks([])
