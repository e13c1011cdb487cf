"""The command `import`."""

from __future__ import annotations

import argparse
import math
import os
from typing import Any

from nasbench_mr import escape, progress, release
from nasbench_mr.cli import command
from nasbench_mr.cli.releases import add_surrogates, announce, with_surrogates
from nasbench_mr.errors import InvalidArgumentError


class ImportCommand(command.Command):
    """Import a local copy of the published tables, or a table of your own.

    A FOLDER has data/<setting>/trainval.pkl; settings that are not there are reported. A FILE (CSV or
    Parquet) with --task has the code's columns (i1, i2, b1, ..., o1) or one column "code", and any number of
    metrics; "seed", "macs", "params", "epochs", "train_seconds", "device", "status" and "error" where known
    ("flops" in 1e9 and "params" in 1e6, as published, are converted). What names leave open is asked for:
    the objective among several metrics, the direction of a loss or a time. Codes of a space of your own
    need its description (--space). FILE becomes a task of a new version of the release --into, or its rows
    are added to those that the task has there; nothing is left out.

    Example:
      nasbench-mr import ../NCP
      nasbench-mr import --task my-task results.csv
      nasbench-mr import --task my-task results.csv --objective acc --minimize latency --unit latency=ms
      nasbench-mr import --task sizes results.csv --space space.toml
      nasbench-mr import --task 3ddet 3ddet.csv --into nasbench-mr
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("path", help="a folder of published tables, or your file")
        add("--task", metavar="NAME", help="the task that FILE is about")
        add("--space", metavar="FILE.toml", help="what describes the space of FILE's codes, one of your own")
        add("--into", metavar="R", help='the release to extend (default: "local")')
        add("--objective", metavar="M", help="the metric to optimise; needed where FILE has several")
        add("--minimize", metavar="M", action="append", default=[], help="a metric where smaller is better")
        add("--maximize", metavar="M", action="append", default=[], help="a metric where larger is better")
        add("--unit", metavar="M=U", action="append", default=[], type=unit, help="a metric's unit")
        add(
            "--bounds",
            metavar="M=LOW:HIGH",
            action="append",
            default=[],
            type=bounds,
            help="a metric's least and largest possible value; either may be left out",
        )
        add("--ignore", metavar="C", action="append", default=[], help="a column to leave out")
        add("--trust-costs", action="store_true", help="keep macs and params that are not the codes'")
        add(
            "--unchecked",
            action="store_true",
            help="accept published tables whose hash is not the pinned one",
        )
        add("--replace", action="store_true", help="where a trial's code and seed are there, take the file's")
        add_surrogates(parser)
        command.add_json(parser)

    def resume(self, args: argparse.Namespace) -> str:
        if getattr(args, "task", None) is None:
            return "tables that were installed are kept; rerun the command to fit their surrogates"
        return super().resume(args)

    def run(self, args: argparse.Namespace) -> None:
        from nasbench_mr.data_builders import published
        from nasbench_mr.data_builders.published import published_files

        if not os.path.exists(args.path):
            raise InvalidArgumentError(f"{args.path!r} does not exist; expected a folder or a table")
        of_files = ["space", "into", "objective", "minimize", "maximize", "unit", "bounds", "ignore"]
        if args.task is None:
            why = "without --task NAME, which says that a FILE is imported"
            command.refuse_idle(args, why, *of_files, "trust_costs", "replace")
        else:
            why = "with --task NAME: they are about a folder of published tables"
            command.refuse_idle(args, why, "unchecked", "no_surrogates")
        command.check_release(args.into or ("local" if args.task else release.DEFAULT), None, None)
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
            with progress.line(f"importing {escape.terminal(args.path)}"):
                understood = published.understand(
                    args.path,
                    args.task,
                    args.into,
                    args.objective,
                    minimize=args.minimize,
                    maximize=args.maximize,
                    units=_once("--unit", args.unit),
                    bounds=_once("--bounds", args.bounds),
                    ignore=args.ignore,
                    trust_costs=args.trust_costs,
                    own_space=args.space,
                )
                told = understood.to_dict()
                made = published.install(understood, args.into, replace_trials=args.replace)
            rows = made.files[f"tables/{told['task']}.parquet"]["rows"]
            following = f"nasbench-mr best {told['task']} --release {made.name}"
            if args.json:
                return command.print_json(
                    {"release": str(made), "tasks": list(made.tasks), "missing": []}
                    | {"understood": told, "rows": rows, "next": following}
                )
            _explain(told)
            announce(made, False, [])
            if rows != told["rows"]:
                print(f"{told['task']} has {rows:,} rows now")
            print(f"next: {following}")
            return None
        announce(made, args.json, missing)
        return None


def _once(option: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return what an option gives by metric; raise where it gives two values of one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise InvalidArgumentError(
            f"{option}: {next(n for n in names if names.count(n) > 1)!r} is given twice; expected one value"
        )
    return found


def unit(text: str) -> tuple[str, str]:
    """Return the type of --unit."""
    name, mark, value = text.rpartition("=")
    if not (name and mark and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not METRIC=UNIT")
    return name, value


def bounds(text: str) -> tuple[str, tuple[float | None, float | None]]:
    """Return the type of --bounds."""
    name, _, value = text.rpartition("=")
    low, mark, high = value.partition(":")
    try:
        pair = (float(low) if low else None, float(high) if high else None)
    except ValueError:
        mark = ""
    if not (name and mark) or any(v is not None and not math.isfinite(v) for v in pair):
        raise argparse.ArgumentTypeError(f"{text!r} is not METRIC=LOW:HIGH")
    return name, pair


def _explain(told: dict[str, Any]) -> None:
    """Print what a file was taken for."""
    codes = [name for name, role in told["columns"].items() if role == "the code"]
    others = {name: role for name, role in told["columns"].items() if role != "the code"}
    low, high = ("none" if bound is None else f"{bound:g}" for bound in told["bounds"])
    goal = f"{told['objective']} ({told['direction']}), unit {told['unit']}, bounds {low} to {high}"
    lines = [
        f"{told['task']}: {told['rows']:,} rows, {told['codes']:,} codes, {told['seeds']:,} seeds",
        f"  read as: {told['form']}",
        f"  {codes[0] if len(codes) == 1 else f'{codes[0]} ... {codes[-1]}'}: the code",
        *(f"  {name}: {role}" for name, role in others.items()),
        f"  objective: {goal}",
        f"  costs: {told['costs']}",
    ]
    if told["skipped"]:
        lines += ["  skipped: " + ", ".join(f"{name} ({why})" for name, why in told["skipped"].items())]
    for line in lines:
        print(escape.terminal(line))
