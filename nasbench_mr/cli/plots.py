"""The command `plot`."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from nasbench_mr import plot, progress
from nasbench_mr.cli import command
from nasbench_mr.errors import ReleaseNotFoundError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class PlotCommand(command.Command):
    """Draw a comparison, an evaluation or a release.

    WHAT is a folder that `nasbench-mr compare --out` wrote (regret), or `nasbench-mr auxnas --compare --out`
    (the metric and the gates over training), a Parquet file that `nasbench-mr predict-eval --out` wrote, or a
    release. The --kind of a release's plot is scatter (the tasks' objectives against MACs,
    with their fronts), correlation (of the tasks), curves (of learning), or noise (codes against seeds).
    The ending of --out (.png, .pdf or .svg) tells the format.

    Example:
      nasbench-mr plot comparison --out comparison.png
      nasbench-mr plot comparison --reference --out beside.png
      nasbench-mr plot runs --out gates.svg
      nasbench-mr plot mini --kind noise --out noise.pdf
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("what", metavar="WHAT", help="a comparison, an evaluation or a release")
        add("--out", type=command.picture, required=True, metavar="FILE", help="the picture to write")
        add(
            "--band",
            metavar="B",
            help="the band of a comparison: quartiles (default) or confidence",
        )
        add(
            "--reference",
            action="store_true",
            help="draw the reference results of other searches beside a comparison, dotted",
        )
        add(
            "--kind",
            metavar="K",
            help="the kind of a release's plot: scatter (default), correlation, curves or noise",
        )
        command.add_tasks(parser, "the tasks of a release to draw (default: all)")
        add("--score", metavar="S", help="the score of an evaluation (default: kendall)")
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        with progress.line("drawing"):
            path = plot.save(self._draw(args), args.out)
        command.show(args, {"path": str(path)}, str(path))

    @staticmethod
    def _draw(args: argparse.Namespace) -> Figure:
        from nasbench_mr.search import plots as of_searches
        from nasbench_mr.search.auxnas.run import COMPARISON
        from nasbench_mr.search.comparison import ABOUT, Comparison
        from nasbench_mr.search.reference import beside

        if os.path.isfile(os.path.join(args.what, ABOUT)):
            _refuse_idle(args, "a comparison", "band", "reference")
            found = Comparison.open(args.what)
            return of_searches.comparison(
                beside(found) if args.reference else found, args.band or "quartiles"
            )
        if os.path.isfile(os.path.join(args.what, COMPARISON)):
            from nasbench_mr.search.auxnas import comparison, plots

            _refuse_idle(args, "a comparison of Aux-NAS")
            return plots.runs(comparison.AuxComparison.open(args.what))
        if args.what.endswith(".parquet"):
            from nasbench_mr.predictors import evaluation
            from nasbench_mr.predictors import plots as of_predictors

            _refuse_idle(args, "an evaluation", "score")
            return of_predictors.evaluation(evaluation.read(args.what), args.score or "kendall")
        _refuse_idle(args, f"a release (a comparison is a folder with {ABOUT})", "kind", "tasks")
        from nasbench_mr import views
        from nasbench_mr.benchmark import load

        kind = args.kind or "scatter"
        if kind not in views.KINDS:
            raise UnknownNameError(f"no plot {kind!r} of a release: {did_you_mean(kind, views.KINDS)}")
        try:
            bench = load(args.what)
        except ReleaseNotFoundError as error:
            raise ReleaseNotFoundError(
                f"{error}; nor is it a comparison (nasbench-mr compare --out writes one, or auxnas --compare)"
            ) from None
        return views.KINDS[kind](bench, args.tasks)


def _refuse_idle(args: argparse.Namespace, drawn: str, *used: str) -> None:
    """Raise for an option that is about another kind of picture."""
    others = [name for name in ("band", "reference", "kind", "tasks", "score") if name not in used]
    command.refuse_idle(args, f"here: {args.what} is drawn as {drawn}", *others)
