"""The commands of the predictors: `predict-eval` and `surrogate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nasbench_mr.cli import command
from nasbench_mr.errors import SurrogateNotFoundError


class PredictEvalCommand(command.Command):
    """Score predictors on fixed splits.

    Prints Kendall's tau and more for each task, as means over the splits; --out keeps every split's scores as
    Parquet, --plot draws them against the number of training codes. All tasks are fitted together. A split
    depends on the codes alone: "random" tests on a fifth of them, "fine-to-coarse" trains on the smaller
    networks of the published sample and tests on the larger ones, "best" keeps the best 5% out of training.

    Example:
      nasbench-mr predict-eval ensemble ncp-mlp gbdt --tasks seg video --train 100 1000
      nasbench-mr predict-eval gp ridge --split best --out eval.parquet --plot eval.png
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        from nasbench_mr.predictors.base import WITH_PROXIES, names
        from nasbench_mr.predictors.evaluation import SCORES, SPLITS

        add = parser.add_argument
        add(
            "predictors",
            nargs="*",
            action=command.Names,
            metavar="PREDICTOR",
            help=f"{', '.join([*names(), *WITH_PROXIES])} (default: ensemble)",
        )
        command.add_tasks(parser, "tasks of one search space (default: all of the first task's)")
        add(
            "--train",
            nargs="+",
            action=command.Sizes,
            metavar="N",
            help="training codes (default: all of the split)",
        )
        add("--seeds", type=command.whole, default=5, metavar="K", help="splits 0 to K-1 (default 5)")
        add("--split", default="random", metavar="S", help=f"{', '.join(SPLITS)} (default: random)")
        add(
            "--out",
            type=command.file_to_write(".parquet"),
            metavar="FILE",
            help="keep every split's scores, as Parquet",
        )
        add(
            "--plot",
            type=command.picture,
            metavar="FILE",
            help="draw --score; the name ends in .png, .pdf or .svg",
        )
        add("--score", metavar="S", help=f"{', '.join(SCORES)} (default: kendall)")
        command.add_option(parser)
        command.add_release(parser)
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        from nasbench_mr import plot
        from nasbench_mr.predictors import evaluation, plots

        if args.plot is None:
            command.refuse_idle(args, "without --plot, which draws it", "score")
        score = args.score or "kendall"
        evaluation.check_score(score)
        frame = evaluation.evaluate(
            args.predictors or ["ensemble"],
            command.open_release(args),
            args.tasks,
            train=args.train,
            seeds=args.seeds,
            split=args.split,
            options=command.options_of(args.option),
            progress=True,
        )
        if args.out:
            evaluation.write(frame, args.out)
        if args.plot:
            plot.save(plots.evaluation(frame, score), args.plot)
        shown = [*evaluation.SCORES, "fit_seconds", "predict_seconds"]
        means = frame.groupby(["task", "train", "predictor"], sort=False)[shown].mean()
        rows: list[dict[str, Any]] = means.reset_index().to_dict("records")  # type: ignore[assignment]
        command.show(args, frame.to_dict("records"), command.format_table(rows))


class SurrogateCommand(command.Command):
    """Fit the surrogates of a release, or print how good they are.

    A surrogate answers queries for codes that no one trained. "fit" makes a new version of the release that
    has a surrogate for each task (or for --tasks), fitted on the whole tables, with its scores on held-out
    codes in release.json. The release itself stays as it is.

    Example:
      nasbench-mr surrogate fit nasbench-mr
      nasbench-mr surrogate show
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
        fit = actions.add_parser("fit", help="make a new version of the release, with surrogates")
        command.add_tasks(fit, "tasks that get a surrogate (default: all)")
        fit.add_argument(
            "--seed", type=command.whole, default=0, metavar="K", help="seed of the fit (default 0)"
        )
        fit.add_argument("--version", metavar="V", help="the new version (default: the next one)")
        fit.add_argument(
            "--release-to",
            type=command.folder_to_write,
            metavar="DIR",
            help="its new folder (default: install it)",
        )
        command.add_option(fit)
        told = actions.add_parser("show", help="print the surrogates' scores on held-out codes")
        for action in (fit, told):
            command.add_place(action)
            command.add_json(action)

    def run(self, args: argparse.Namespace) -> None:
        from nasbench_mr.predictors.surrogates import fit_surrogates

        bench = command.open_release(args)
        release = bench.release
        if args.action == "fit":
            command.check_release(release.name, args.version, args.release_to)
            release = fit_surrogates(
                bench,
                args.tasks,
                seed=args.seed,
                progress=True,
                version=args.version,
                target=Path(args.release_to) if args.release_to else None,
                **command.options_of(args.option),
            )
        about = release.about.get("surrogates", {})
        if not about:
            bench.chosen(None)  # a release without tasks has nothing to fit
            raise SurrogateNotFoundError(
                f"{release} has no surrogates: nasbench-mr surrogate fit {release.name}"
            )
        rows = [{"task": task, **entry["held_out"]} for task, entry in about.items()]
        text = f"{release}, scores on held-out codes:\n\n{command.format_table(rows)}"
        if args.action == "fit":
            text += f"\n\n{release} is in {release.path}"
        command.show(args, {"release": str(release), "surrogates": about}, text)
