"""Plots that a paper could print: what `figure` sets up, and one function for each kind of plot.

Needs the extra `plot`. Nothing here touches matplotlib's global state: a `Figure` is made without pyplot, so
plots work without a display and in threads.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nasbench_mr import files
from nasbench_mr.errors import InvalidArgumentError, missing_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


def save(drawn: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure, atomically; the ending (.png, .pdf, .svg) tells the format.

    Raises:
        InvalidArgumentError: another ending.
    """
    target = Path(path)
    kind = target.suffix.lower().removeprefix(".")
    if kind not in ("png", "pdf", "svg"):
        raise InvalidArgumentError(f"{target}: expected a name that ends in .png, .pdf or .svg")
    with files.atomic(target) as temporary:
        drawn.savefig(temporary, format=kind, dpi=200)
    return target
