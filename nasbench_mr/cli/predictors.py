"""The commands of the predictors: `predict-eval` and `surrogate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nasbench_mr.cli.command import (
    Command,
    add_json,
    add_option,
    add_release,
    format_table,
    open_release,
    options_of,
    print_json,
)
from nasbench_mr.errors import SurrogateNotFoundError


class PredictEval(Command):
    """Score predictors on fixed splits.

    Prints Kendall's tau and more for each task, as means over the splits; --out keeps every split's scores as
    Parquet, --plot draws them against the number of training codes. All tasks are fitted together. The splits
    depend on the codes alone: random tests on a fifth of them, fine-to-coarse trains on the smaller networks
    of the published sample and tests on the larger, best keeps the best 5% out of training.

    Example:
      nasbench-mr predict-eval ensemble ncp-mlp gbdt --tasks seg video --train 100 1000
      nasbench-mr predict-eval gp ridge --split best --out eval.parquet --plot eval.png
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        from nasbench_mr.predictors.base import names
        from nasbench_mr.predictors.evaluation import SCORES, SPLITS

        add = parser.add_argument
        add(
            "predictor",
            nargs="*",
            default=["ensemble"],
            help=f"{', '.join(names())} (default: ensemble)",
        )
        add("--tasks", nargs="+", metavar="T", help="of one search space (default: all of the first one's)")
        add("--train", nargs="+", type=int, metavar="N", help="training codes (default: all of the split)")
        add("--seeds", type=int, default=5, metavar="K", help="splits 0 to K-1 (default 5)")
        add("--split", default="random", metavar="S", help=f"{', '.join(SPLITS)} (default: random)")
        add("--out", metavar="FILE", help="keep every split's scores, as Parquet")
        add("--plot", metavar="FILE", help="draw --score; the name ends in .png, .pdf or .svg")
        add("--score", default="kendall", metavar="S", help=f"{', '.join(SCORES)} (default: kendall)")
        add_option(parser)
        add_release(parser)
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        from nasbench_mr import plot
        from nasbench_mr.predictors import evaluation, plots

        evaluation.check_score(args.score)
        if args.plot:
            plot.figure()  # Fails now where matplotlib is missing.
        frame = evaluation.evaluate(
            args.predictor,
            open_release(args),
            args.tasks,
            train=args.train,
            seeds=args.seeds,
            split=args.split,
            options=options_of(args.option),
            progress=True,
        )
        if args.out:
            evaluation.write(frame, args.out)
        if args.plot:
            plot.save(plots.evaluation(frame, args.score), args.plot)
        if args.json:
            return print_json(frame.to_dict("records"))
        shown = [*evaluation.SCORES, "fit_seconds", "predict_seconds"]
        means = frame.groupby(["task", "train", "predictor"], sort=False)[shown].mean()
        rows: list[dict[str, Any]] = means.reset_index().to_dict("records")  # type: ignore[assignment]
        print(format_table(rows))
        return None


class Surrogate(Command):
    """Fit the surrogates of a release, or print how good they are.

    A surrogate answers queries for codes that no one trained. `fit` makes a new version of the release that
    has one for each task (or for --tasks), fitted on the whole tables, with its scores on held-out codes in
    release.json; the release itself stays as it is.

    Example:
      nasbench-mr surrogate fit nasbench-mr
      nasbench-mr surrogate show
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
        fit = actions.add_parser("fit", help="make a new version of the release, with surrogates")
        fit.add_argument("--tasks", nargs="+", metavar="T", help="which (default: all)")
        fit.add_argument("--seed", type=int, default=0, metavar="K", help="of the fit (default 0)")
        fit.add_argument("--version", metavar="V", help="the new version (default: the next one)")
        fit.add_argument("--release-to", metavar="DIR", help="its new folder (default: install it)")
        add_option(fit)
        show = actions.add_parser("show", help="print the surrogates' scores on held-out codes")
        for action in (fit, show):
            action.add_argument(
                "release", nargs="?", help="a name, folder or tarball (default: the default release)"
            )
            add_json(action)

    def run(self, args: argparse.Namespace) -> None:
        from nasbench_mr.predictors.surrogates import fit_surrogates

        bench = open_release(args)
        release = bench.release
        if args.action == "fit":
            release = fit_surrogates(
                bench,
                args.tasks,
                args.seed,
                progress=True,
                version=args.version,
                target=Path(args.release_to) if args.release_to else None,
                **options_of(args.option),
            )
        about = release.about.get("surrogates", {})
        if not about:
            raise SurrogateNotFoundError(
                f"{release} has no surrogates: nasbench-mr surrogate fit {release.name}"
            )
        if args.json:
            return print_json({"release": str(release), "surrogates": about})
        rows = [{"task": task, **entry["held_out"]} for task, entry in about.items()]
        print(f"{release}, scores on held-out codes:\n")
        print(format_table(rows))
        if args.action == "fit":
            print(f"\n{release} is in {release.path}")
        return None
