"""The command `build`."""

from __future__ import annotations

import argparse
import dataclasses
import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nasbench_mr import checks, escape
from nasbench_mr import release as releases
from nasbench_mr.cli import command
from nasbench_mr.errors import InvalidArgumentError, ReleaseError

if TYPE_CHECKING:
    from nasbench_mr.data_builders.building import runner
    from nasbench_mr.data_builders.training.recipes import Recipe
    from nasbench_mr.release import Release

#: Failures that `build` prints one by one.
MAX_FAILURES = 10


class BuildCommand(command.Command):
    """Train codes for tasks and seeds, and write their tables.

    A trial is one code, trained for one task with one seed. Finished trials are in --out at once: rerun the
    command to resume, whatever stopped it. tables/ and curves/ are written at the end. A trial that fails is
    recorded with its error and tried again, up to --retries times over all runs. The report lists the failed
    trials and the command that tries them again, and the exit status is then 1. --engine ray runs on a
    cluster (docs/cluster.md).

    Example:
      nasbench-mr build mini-cls mini-seg --codes 200 --out out --dry-run
      nasbench-mr build mini-cls mini-seg --codes 200 --out out --workers 2
      nasbench-mr build seg --codes codes.txt --seeds 3 --out s3://bucket/seg --engine ray --gpus 0.5
    """

    kept = "finished trials"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        command.add_tasks(parser, "the tasks (or recipes), such as mini-cls seg", first=True)
        add(
            "--codes",
            required=True,
            metavar="FILE|N",
            help="how many codes to draw; or a file: a code on each line, or CSV or Parquet with its columns",
        )
        add("--scheme", metavar="S", help="how to draw codes: published (default), uniform, ...")
        add("--code-seed", type=command.whole, metavar="K", help="seed of the draw (default 0)")
        add(
            "--max-macs",
            type=command.amount,
            metavar="N",
            help="draw codes of at most N MACs, such as 2e9 or 2G: those of the full-width 50-class network "
            "for a 128x128 image, whatever the task",
        )
        add(
            "--seeds",
            type=command.whole,
            default=1,
            metavar="K",
            help="train each with seeds 0 to K-1 (default 1)",
        )
        add(
            "--out",
            type=command.folder_to_write,
            required=True,
            metavar="DIR",
            help="a folder, or a URI such as s3://bucket/folder",
        )
        command.add_engine(parser, "trials at once (default: as many as there is room for)")
        add(
            "--address",
            metavar="A",
            help="ray: the cluster's address (default: the one found, else a new one)",
        )
        add(
            "--gpus",
            type=command.number,
            metavar="F",
            help="ray: share of a GPU for a trial, such as 0.25 (default: one, if any)",
        )
        add("--cpus", type=command.number, metavar="F", help="ray: cores for a trial (default 1)")
        add("--data", metavar="DIR", help="the folder of the data sets (default: $NASBENCH_MR_DATA)")
        add("--device", metavar="D", help="cpu or cuda (default: a GPU where there is one)")
        add("--recipe", metavar="FILE", help="fields to override in all the recipes, JSON or TOML")
        add(
            "--set",
            action="append",
            default=[],
            metavar="FIELD=VALUE",
            help="a field to override, after --recipe",
        )
        add(
            "--time-limit",
            type=command.number,
            metavar="S",
            help="kill a trial after S seconds, reading data included",
        )
        add(
            "--retries",
            type=command.whole,
            default=2,
            metavar="N",
            help="try a failed trial N more times (default 2)",
        )
        add(
            "--checkpoints",
            type=command.folder_to_write,
            metavar="DIR",
            help="keep trials in progress there, so that a killed one resumes",
        )
        add("--trainer", metavar="M:F", help="a function of yours that trains like data_builders.train")
        add(
            "--keep-weights",
            action="store_true",
            help="keep the trained networks, as safetensors in weights/ of --out",
        )
        add("--on-epoch", metavar="M:F", help="a function of yours, called with each trial's epochs")
        add(
            "--log",
            metavar="L",
            help="log each epoch with csv (logs/ of --out), tensorboard, mlflow or wandb",
        )
        add(
            "--skip-bad",
            action="store_true",
            help="read all samples first, and leave those out that can't be read; the recipe records them",
        )
        add("--dry-run", action="store_true", help="predict the time from MACs and the trials in --out")
        add("--release", metavar="NAME@VERSION", help="make a release of all tables in --out at the end")
        add(
            "--release-to",
            type=command.folder_to_write,
            metavar="DIR",
            help="the release's new folder (default: install it)",
        )
        add("--about", metavar="FILE", help="title, license, citation, ... of the release, JSON or TOML")
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> int | None:
        from nasbench_mr.data_builders.building import runner
        from nasbench_mr.data_builders.training import recipes

        names = command.tasks_of(args)
        changes = [recipes.read(args.recipe)] if args.recipe else []
        changes.append(recipes.parse_flags(args.set))
        about = recipes.read(args.about) if args.about else {}
        name, version = command.name_and_version("--release", args.release)
        if not args.release:
            command.refuse_idle(args, "without --release NAME@VERSION", "about", "release_to")
        if args.release:
            releases.check_name(name, version)
        draw = {"seed": args.code_seed, "scheme": args.scheme, "max_macs": args.max_macs}
        draw = {key: value for key, value in draw.items() if value is not None}
        if args.codes.isdigit():
            codes = runner.draw_codes(int(args.codes), **draw)
        elif draw:
            raise InvalidArgumentError(
                f"--codes {args.codes!r} names a file; --scheme, --code-seed and --max-macs are for a number"
            )
        else:
            codes = runner.read_codes(args.codes)
        optional = ("address", "gpus", "cpus", "trainer", "on_epoch", "log")
        options = {k: getattr(args, k) for k in optional if getattr(args, k) is not None}
        chosen = [recipes.override(recipes.get(n), *changes) for n in names]
        if args.skip_bad:
            chosen = [without_bad(recipe, args.data) for recipe in chosen]
        with runner.Builder(
            chosen,
            args.out,
            args.engine,
            workers=args.workers,
            data=args.data,
            device=args.device,
            retries=args.retries,
            time_limit=args.time_limit,
            checkpoints=args.checkpoints,
            keep_weights=args.keep_weights,
            **options,
        ) as builder:
            trials = runner.plan(builder.tasks, codes, checks.seeds(args.seeds))
            if args.dry_run:
                if args.engine == "ray" and args.workers is None:
                    raise InvalidArgumentError("--dry-run with --engine ray needs --workers N")
                print_forecast(args, builder.forecast(trials, args.workers))
                return None
            if args.release and builder.pending(trials):
                command.check_release(name, version, args.release_to)
                if args.release_to is None:
                    runner.grown(name, version, builder.recipes)
            report = builder.run(trials, progress=True)
            runner.compact(builder.store, builder.tasks.values())
            failures = [builder.records[o.trial].failures for o in report.failures if o.status == "failed"]
        made = spoilt = None
        if args.release:
            target = Path(args.release_to) if args.release_to else None
            try:
                made = runner.release(args.out, name, version, about=about, target=target)
            except ReleaseError as error:
                spoilt = error
        again = shlex.join(["nasbench-mr", *args.typed])
        if failures and max(failures) > args.retries:
            again += f" --retries {max(failures)}"
        print_report(report, args.out, made, again=again, as_json=args.json)
        if spoilt is not None:
            print(f"nasbench-mr: {spoilt}", file=sys.stderr)
        return 1 if failures or spoilt else None


def without_bad(recipe: Recipe, data: str | None) -> Recipe:
    """Return the recipe without the samples that can't be read, and say which they are on stderr."""
    from nasbench_mr.data_builders.training.screening import screen

    screened, why = screen(recipe, data, progress=True)
    for error in list(why.values())[:MAX_FAILURES]:
        print(f"left out: {escape.terminal(error)}", file=sys.stderr)
    if len(why) > MAX_FAILURES:
        print(f"... and {len(why) - MAX_FAILURES} more; the recipe in --out has all", file=sys.stderr)
    return screened


def print_forecast(args: argparse.Namespace, forecast: runner.Forecast) -> None:
    """Print what a build would take."""
    from nasbench_mr.data_builders.building.runner import clock

    told = f"about {clock(forecast.seconds)} with {forecast.workers} workers"
    if math.isnan(forecast.seconds):
        told = "nothing is timed yet: train a few codes of each task first, such as --codes 8"
    command.show(args, dataclasses.asdict(forecast), f"{command.format_table(forecast.tasks)}\n\n{told}")


def print_report(report: runner.Report, out: str, made: Release | None, *, again: str, as_json: bool) -> None:
    """Print what a build did."""
    from nasbench_mr.data_builders.building.runner import clock

    if as_json:
        return command.print_json(
            {
                "out": out,
                "tasks": {name: dataclasses.asdict(counts) for name, counts in report.tasks.items()},
                "failures": [
                    {
                        "task": o.trial.task,
                        "code": o.trial.code,
                        "seed": o.trial.seed,
                        "status": o.status,
                        "error": o.error,
                    }
                    for o in report.failures
                ],
                "seconds": report.wall,
                "utilisation": report.utilisation,
                "release": made and str(made),
                "again": again if any(counts.failed for counts in report.tasks.values()) else None,
            }
        )
    rows = [{"task": name, **dataclasses.asdict(counts)} for name, counts in report.tasks.items()]
    print(command.format_table(rows))
    for outcome in report.failures[:MAX_FAILURES]:
        print(f"{outcome.status}: {outcome.trial}: {outcome.error}")
    if len(report.failures) > MAX_FAILURES:
        print(f"... and {len(report.failures) - MAX_FAILURES} more; the tables' column 'error' has all")
    failed = sum(counts.failed for counts in report.tasks.values())
    unwritten = sum(outcome.no_space for outcome in report.failures)
    unread = sum(outcome.excused for outcome in report.failures) - unwritten
    if unwritten:
        print(f"{unwritten} found no space for their files: free some first")
    if unread:
        print(f"{unread} could not read their data: repair it first")
    if failed:
        print(f"to try the {failed} failed trials again: {again}")
    if report.without_weights:
        print(
            f"{report.without_weights} of those before were trained without --keep-weights: their networks "
            "are not kept; another --out trains them again"
        )
    if report.workers:
        print(f"{clock(report.wall)}, {report.workers} workers {report.utilisation:.0%} busy")
    print(f"tables in {out}/tables" if made is None else f"{made} in {made.path}")
    return None
