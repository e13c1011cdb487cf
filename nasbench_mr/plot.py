"""How figures are set up and written, so that a paper could print them.

What is drawn stands beside what it shows: `views.py`, `predictors/plots.py`, `search/plots.py`,
`search/auxnas/plots.py`.

Needs the extra `plot`. Nothing here touches matplotlib's global state: a `Figure` is made without pyplot, so
plots work without a display and in threads.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import escape, files
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.extras import requires

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

#: Width of a page's text, inches.
PAGE = 6.8
#: Width of a title's character, and of an axis's numbers, about, inches.
_CHARACTER, _TICKS = 0.07, 0.4


def figure(width: float = PAGE, height: float = 2.6) -> Figure:
    """Return an empty figure, inches, laid out so that nothing overlaps."""
    with requires("plot", "plotting"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained")


def check_name(path: str | os.PathLike[str]) -> Path:
    """Return the path, if `save` can write it; to find out before hours of work."""
    target = Path(path)
    if target.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InvalidArgumentError(f"{target}: expected a name that ends in .png, .pdf or .svg")
    return target


def save(drawn: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure, atomically; the ending (.png, .pdf, .svg) tells the format."""
    from matplotlib import rc_context
    from matplotlib.text import Text

    target = check_name(path)
    kind = target.suffix.lower().removeprefix(".")
    for text in drawn.findobj(Text):
        # Names of tasks, metrics and units come from data: they are not formulas, and SVG can't hold some.
        text.set_parse_math(False)
        text.set_text(escape.terminal(text.get_text()))
        text.set_usetex(False)
    with files.atomic(target) as temporary, rc_context({"text.usetex": False}):
        drawn.savefig(temporary, format=kind, dpi=200)
    return target


#: Okabe and Ito's colours, which the colour-blind can tell apart, and dashes for print in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


def styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return a colour and a dash for each name."""
    return {
        name: {"color": COLOURS[k % len(COLOURS)], "linestyle": _DASHES[k % len(_DASHES)]}
        for k, name in enumerate(names)
    }


def log_axis(axis: Any, linear_below: float = 0) -> None:
    """Make an axis logarithmic, whose labels do not touch; one with a linear end has a place for zero."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, SymmetricalLogLocator

    threshold = {"linthresh": linear_below, "linscale": 0.4} if linear_below else {}
    getattr(axis.axes, f"set_{axis.axis_name}scale")("symlog" if threshold else "log", **threshold)
    low, high = axis.get_view_interval()
    low = linear_below or low
    decades = np.log10(high / low) if low > 0 else 1.0
    subs = (1.0,) if decades > 2.5 else (1.0, 3.0) if decades > 1.2 else (1.0, 2.0, 5.0)
    axis.set_major_locator(
        SymmetricalLogLocator(base=10, linthresh=linear_below, subs=subs)
        if linear_below
        else LogLocator(subs=subs)
    )
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def across(count: int) -> int:
    """Return how many panels are in a row: at most three, and four as two by two."""
    return 2 if count == 4 else min(3, count)


def height(count: int) -> float:
    """Return the height of a figure of `count` panels, inches."""
    return 0.5 + 1.7 * -(-count // across(count))


def panels(drawn: Any, count: int) -> list[Axes]:
    """Add `count` panels in rows; places left over stay empty."""
    columns = across(count)
    made = list(drawn.subplots(-(-count // columns), columns, squeeze=False).flat)
    for panel in made[count:]:
        panel.set_axis_off()
    for panel in made[:count]:
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    return made[:count]


def title(panel: Axes, text: str) -> None:
    """Put a title over a panel, in as many lines as its share of the figure's width asks for."""
    drawn = panel.figure
    place = panel.get_subplotspec()
    share = drawn.bbox.width / drawn.dpi / (1 if place is None else place.get_gridspec().ncols)
    panel.set_title(textwrap.fill(text, max(12, int((share - _TICKS) / _CHARACTER))), fontsize=8)


def legend(
    drawn: Figure | SubFigure, where: str = "upper center", *, of: Axes | None = None, columns: int = 6
) -> None:
    """Put one legend outside of all panels: of one panel, by default of the one that shows most."""
    told = [panel.get_legend_handles_labels() for panel in (drawn.axes if of is None else [of])]
    handles, labels = max(told, key=lambda pair: len(pair[0]))
    place: Any = f"outside {where}"
    drawn.legend(handles, labels, loc=place, ncols=columns, fontsize=7, frameon=False)
