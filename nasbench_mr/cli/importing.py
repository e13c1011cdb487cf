"""The command `import`."""

from __future__ import annotations

import argparse
import os

from nasbench_mr.cli.command import Command, add_json, check_release
from nasbench_mr.cli.releases import add_surrogates, announce, with_surrogates
from nasbench_mr.errors import InvalidArgumentError


class Import(Command):
    """Import a local copy of the published tables, or a table of your own.

    A FOLDER has data/<setting>/trainval.pkl; settings that are not there are reported. A FILE (CSV or
    Parquet) with --task has the code's columns (i1, i2, b1, ..., o1) or one column "code", and any number of
    metrics; "seed", "macs", "params", "epochs", "train_seconds", "device", "status" and "error" where known
    ("flops" in 1e9 and "params" in 1e6, as published, are converted). It becomes a task of a new version of
    the release --into, or its rows are added to those that the task has there; nothing is left out.

    Example:
      nasbench-mr import ../NCP
      nasbench-mr import --task my-task results.csv
      nasbench-mr import --task 3ddet 3ddet.csv --into nasbench-mr
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("path", help="a folder of published tables, or your file")
        parser.add_argument("--task", metavar="NAME", help="the task that FILE is about")
        parser.add_argument("--into", metavar="R", help='the release to extend (default: "local")')
        parser.add_argument(
            "--objective", metavar="M", help="the metric to optimise (default: the first one)"
        )
        parser.add_argument(
            "--minimize", metavar="M", action="append", default=[], help="a metric where smaller is better"
        )
        parser.add_argument(
            "--unchecked",
            action="store_true",
            help="accept published tables whose hash is not the pinned one",
        )
        parser.add_argument(
            "--replace", action="store_true", help="where a trial's code and seed are there, take the file's"
        )
        add_surrogates(parser)
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        from nasbench_mr import progress
        from nasbench_mr.data_builders import published
        from nasbench_mr.data_builders.published import published_files

        if not os.path.exists(args.path):
            raise InvalidArgumentError(f"{args.path!r} does not exist; expected a folder or a table")
        check_release(args.into or "local", None, None)
        if args.task is None:
            if not os.path.isdir(args.path):
                raise InvalidArgumentError(
                    f"{args.path!r} is a file: say which task it is about, --task NAME"
                )
            with progress.line("importing the published tables"):
                made = published.import_release(args.path, check=not args.unchecked)
            missing = [t for t in published_files.SETTINGS if t not in made.tasks]
            made = with_surrogates(made, args.no_surrogates)
        else:
            made = published.import_table(
                args.path,
                args.task,
                args.into,
                args.objective,
                args.minimize,
                replace_trials=args.replace,
            )
            missing = []
        announce(made, args.json, missing)
