"""How figures are set up and written, so that a paper could print them.

What is drawn stands beside what it shows: `views.py`, `predictors/plots.py`, `search/plots.py`,
`search/auxnas/plots.py`.

Needs the extra `plot`. Nothing here touches matplotlib's global state: a `Figure` is made without pyplot, so
plots work without a display and in threads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import files
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.extras import requires

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Width of a page's text, inches.
PAGE = 6.8


def figure(width: float = PAGE, height: float = 2.6) -> Figure:
    """Return an empty figure, inches, laid out so that nothing overlaps.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with requires("plot", "plotting"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained")


def check_name(path: str | os.PathLike[str]) -> Path:
    """Return the path, if `save` can write it; to find out before hours of work.

    Raises:
        InvalidArgumentError: another ending.
    """
    target = Path(path)
    if target.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InvalidArgumentError(f"{target}: expected a name that ends in .png, .pdf or .svg")
    return target


def save(drawn: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure, atomically; the ending (.png, .pdf, .svg) tells the format.

    Raises:
        InvalidArgumentError: another ending.
    """
    target = check_name(path)
    kind = target.suffix.lower().removeprefix(".")
    with files.atomic(target) as temporary:
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


def log_axis(axis: Any) -> None:
    """Make an axis logarithmic, whose labels do not touch."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    decades = np.log10(high / low) if low > 0 else 1.0
    subs = (1.0,) if decades > 2.5 else (1.0, 3.0) if decades > 1.2 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


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
