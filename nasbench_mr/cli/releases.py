"""The commands about releases and queries; those of the other packages are in their own `commands.py`."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench_mr import release as releases
from nasbench_mr import spaces
from nasbench_mr.cli import Command, add_json, format_table, print_json
from nasbench_mr.errors import InvalidArgumentError, MissingExtraError, OutOfSpaceError

if TYPE_CHECKING:
    from nasbench_mr.benchmark import Benchmark, Result


def add_release(parser: argparse.ArgumentParser) -> None:
    """The --release option of every command that reads one."""
    parser.add_argument(
        "--release",
        metavar="R",
        help='a name, "name@version", a folder or a tarball (default: the default release)',
    )


def open_release(args: argparse.Namespace) -> Benchmark:
    """What --release names."""
    from nasbench_mr.benchmark import load

    return load(args.release)


def amount(text: str) -> float:
    """A cost limit: "2e9", "2G", "500M", "1.5M"."""
    factor = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1:])
    try:
        value = float(text[:-1]) * factor if factor else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no amount; expected a number such as 2e9 or 2G")
    return value


def add_limits(parser: argparse.ArgumentParser) -> None:
    """--max-macs and --max-params."""
    parser.add_argument("--max-macs", type=amount, metavar="N", help="at most N MACs, such as 2e9 or 2G")
    parser.add_argument("--max-params", type=amount, metavar="N", help="at most N parameters")


def result_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Results as rows for `format_table`, costs in readable units."""
    rows = []
    for r in results:
        row: dict[str, Any] = {"task": r.task}
        row |= {name: value for name, value in r.items() if name not in ("macs", "params")}
        for name, shown, unit in (("macs", "GMACs", 1e9), ("params", "Mparams", 1e6)):
            if name in r:
                row[shown] = r[name] / unit
        row |= {"source": r.source, "seeds": len(r.seeds)}
        rows.append(row)
    return rows


def result_json(result: Result) -> dict[str, Any]:
    """A result as plain data."""
    return {
        "code": list(result.code),
        "task": result.task,
        "source": result.source,
        "values": dict(result),
        "std": dict(result.std),
        "seeds": list(result.seeds),
        "distance": result.distance,
    }


class Tasks(Command):
    """List a release's tasks, or describe one.

    Example:
      nasbench-mr tasks
      nasbench-mr tasks seg
      nasbench-mr tasks --noise --release mini
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("task", nargs="?", help="a task to describe in full")
        parser.add_argument(
            "--noise", action="store_true", help="how much codes differ, and seeds (bench.noise)"
        )
        add_release(parser)
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        bench = open_release(args)
        if args.noise:
            found = bench.noise([args.task] if args.task else None).rename_axis("task").reset_index()
            noise = [dict(zip(map(str, found), row, strict=True)) for row in found.to_numpy().tolist()]
            if args.json:
                return print_json(noise)
            return print(format_table(noise) if noise else "no task has codes with several seeds")
        if args.task:
            task = bench.task(args.task).to_dict()
            if args.json:
                return print_json(task)
            for key, value in task.items():
                if key == "metrics":
                    value = ", ".join(f"{m['name']} ({m['unit']}, {m['direction']})" for m in value)
                elif isinstance(value, tuple):
                    value = ", ".join(value)
                print(f"{key:16} {'unknown' if value is None else value}")
            return None
        rows = task_rows(bench)
        if args.json:
            return print_json({"release": str(bench.release), "tasks": rows})
        print(f"{bench.release} ({bench.release.about.get('title', bench.release.path)})\n")
        print(format_table(rows))
        return None


def task_rows(bench: Benchmark) -> list[dict[str, Any]]:
    """One row a task: its size and the range of its objective."""
    rows = []
    for name in bench.tasks:
        task = bench.task(name)
        values = bench.query_many(bench.codes(name), name, (task.objective,), source="table")[task.objective]
        rows.append(
            {
                "task": name,
                "dataset": task.dataset,
                "codes": len(values),
                "objective": task.objective,
                "min": float(values.min()) if len(values) else None,
                "mean": float(values.mean()) if len(values) else None,
                "max": float(values.max()) if len(values) else None,
            }
        )
    return rows


class Query(Command):
    """Print what a code achieves, in one task or in all.

    The code is 27 integers, or the published string. It may also be the number of a tabulated code, as #12.

    Example:
      nasbench-mr query '#0' --task seg
      nasbench-mr query 64_64-2_1_2_64-2_2_2_2_64_64-2_3_2_2_2_64_64_64-2_4_2_2_2_2_64_64_64_64-64
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("code", nargs="+", help="the code (quote it, or give its 27 integers)")
        parser.add_argument("--task", metavar="T", help="a task (default: all that can answer)")
        parser.add_argument("--source", default="auto", metavar="S", help="auto, table or surrogate")
        parser.add_argument("--seed", type=int, metavar="K", help="one seed's trial instead of the mean")
        parser.add_argument("--epoch", type=int, metavar="E", help="a point of the learning curve")
        add_release(parser)
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        bench = open_release(args)
        names = [args.task] if args.task else bench.tasks
        text = " ".join(args.code)
        code: Any = text
        if text.startswith("#"):
            code = code_of_row(bench, names[0], text)
        results, errors = [], []
        for name in names:
            try:
                results.append(bench.query(code, name, args.source, args.seed, args.epoch))
            except (LookupError, OutOfSpaceError) as error:
                errors.append(error)
        if not results:
            raise errors[0]
        if args.json:
            return print_json([result_json(r) for r in results])
        print(spaces.get(bench.task(results[0].task).space).to_string(results[0].code))
        return print_results(result_rows(results))


def code_of_row(bench: Benchmark, task: str, text: str) -> tuple[int, ...]:
    """A tabulated code (of `Benchmark.codes`), from its number as a user types it: "#12"."""
    codes = bench.codes(task)
    row = int(text[1:]) if text[1:].isdecimal() and len(text) < 12 else len(codes)
    if row >= len(codes):
        raise InvalidArgumentError(f"no code {text!r}: {task!r} has codes #0 to #{len(codes) - 1}")
    return tuple(codes[row].tolist())


def _comparable(bench: Benchmark) -> list[str]:
    """The tasks of the first one's search space."""
    return [t for t in bench.tasks if bench.task(t).space == bench.task(bench.tasks[0]).space]


def print_results(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows that may have different metrics, one table for each set of columns."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    for group in groups.values():
        print()
        print(format_table(group))


class Best(Command):
    """Print the best tabulated codes of a task under a cost limit.

    Example:
      nasbench-mr best seg -k 3 --max-macs 1G
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("task")
        parser.add_argument("-k", type=int, default=5, help="how many (default 5)")
        parser.add_argument("--metric", metavar="M", help="what to rank by (default: the task's objective)")
        add_limits(parser)
        add_release(parser)
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        bench = open_release(args)
        best = bench.best(args.task, args.k, args.max_macs, args.max_params, args.metric)
        if args.json:
            return print_json([result_json(r) for r in best])
        print(format_table(best_rows(bench, args.task, best)))
        return None


def best_rows(bench: Benchmark, task: str, best: Sequence[Result]) -> list[dict[str, Any]]:
    """Ranked results as rows that end with the code."""
    to_string = spaces.get(bench.task(task).space).to_string
    hidden = ("task", "source", "seeds")
    rows = [{k: v for k, v in row.items() if k not in hidden} for row in result_rows(best)]
    return [row | {"code": to_string(r.code)} for row, r in zip(rows, best, strict=True)]


class Verify(Command):
    """Re-hash every file of a release and derive its MACs and parameters from the codes again.

    Example:
      nasbench-mr verify nasbench-mr
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "release", nargs="?", help="a name, folder or tarball (default: the default release)"
        )
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        release = open_release(args).release
        releases.verify(release, progress=True)
        rows = sum(entry.get("rows", 0) for entry in release.files.values())
        if args.json:
            return print_json(
                {"release": str(release), "files": len(release.files), "rows": rows, "ok": True}
            )
        print(f"{release}: {len(release.files)} files and {rows:,} rows are as they should be")
        return None


class Pack(Command):
    """Write a release as a reproducible tarball with its .sha256 beside it.

    Example:
      nasbench-mr pack nasbench-mr --out dist/
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("release", nargs="?", help="a name or folder (default: the default release)")
        parser.add_argument(
            "--out", default=".", help="a folder, or a file name ending in .tar.gz (default: .)"
        )
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        path = releases.pack(open_release(args).release, args.out)
        digest = Path(f"{path}.sha256").read_text().split()[0]
        if args.json:
            return print_json({"path": str(path), "sha256": digest})
        print(f"{path}\nsha256 {digest}")
        return None


class Card(Command):
    """Print a release's dataset card, or its release.json.

    Example:
      nasbench-mr card mini
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("release", nargs="?", help="a name or folder (default: the default release)")
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        folder = open_release(args).release.path
        name = releases.MANIFEST if args.json else "DATASET_CARD.md"
        print((folder / name).read_text(encoding="utf-8").rstrip())


class Fetch(Command):
    """Download the published tables (the release "nasbench-mr"), or a packed release, and install them.

    The published files are pinned by hash, resumed where a download broke off, and kept, so a second fetch
    needs no network. With a URL (or a file), installs the release tarball found there; give its --sha256,
    which stands in the .sha256 beside it.

    Example:
      nasbench-mr fetch
      nasbench-mr fetch https://example.org/mini-1.0.0.tar.gz --sha256 8f43...
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "url", nargs="?", help="a release tarball's address (default: the published tables)"
        )
        parser.add_argument("--sha256", metavar="HASH", help="the tarball's expected hash")
        parser.add_argument(
            "--mirror", metavar="URL", help="another base address that has data/<setting>/trainval.pkl"
        )
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        if args.url:
            made = fetch_release(args.url, args.sha256)
        elif args.sha256:
            raise InvalidArgumentError("--sha256 is about a release tarball: give its URL too")
        else:
            from nasbench_mr.data_builders.published import tables as published

            folder = published.fetch(releases.home() / "cache" / "published", mirror=args.mirror)
            made = published.import_release(folder)
        announce(made, args.json)


def fetch_release(url: str, sha256: str | None) -> releases.Release:
    """Downloads and installs a packed release; the tarball stays in the cache."""
    if os.path.isfile(url):
        return releases.install(url, sha256)
    if not url.startswith(("https://", "http://")):
        raise InvalidArgumentError(f"{url!r} is neither a file nor an http(s) address")
    if sha256 is None:
        raise InvalidArgumentError(f"give --sha256 HASH, which stands in {url}.sha256")
    sha256 = sha256.lower()
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise InvalidArgumentError(f"--sha256 is {sha256!r}; expected 64 hexadecimal digits")
    from nasbench_mr.download import download

    path = releases.home() / "cache" / "downloads" / f"{sha256}.tar.gz"
    return releases.install(download(url, path, sha256=sha256), sha256)


def announce(made: releases.Release, as_json: bool, missing: Sequence[str] = ()) -> None:
    """Says what was installed."""
    if as_json:
        return print_json({"release": str(made), "tasks": list(made.tasks), "missing": list(missing)})
    print(f"{made}: {', '.join(made.tasks)}")
    if missing:
        print(f"not there: {', '.join(missing)}")
    print(f"installed in {made.path}")
    return None


class Import(Command):
    """Import a local copy of the published tables, or a table of your own.

    A FOLDER has data/<setting>/trainval.pkl; settings that are not there are reported. A FILE (CSV or
    Parquet) with --task has the code's columns (i1, i2, b1, ..., o1) or one column "code", and any number of
    metrics; "seed", "macs", "params", "epochs", "train_seconds", "device", "status" and "error" where known
    ("flops" in 1e9 and "params" in 1e6, as published, are converted). It becomes a task of a new version of
    the release --into.

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
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        from nasbench_mr.data_builders.published import tables as published

        if not os.path.exists(args.path):
            raise InvalidArgumentError(f"nothing at {args.path!r}")
        if args.task is None:
            if not os.path.isdir(args.path):
                raise InvalidArgumentError(
                    f"{args.path!r} is a file: say which task it is about, --task NAME"
                )
            made = published.import_release(args.path, check=not args.unchecked)
            missing = [t for t in published.SETTINGS if t not in made.tasks]
        else:
            made = published.import_table(args.path, args.task, args.into, args.objective, args.minimize)
            missing = []
        announce(made, args.json, missing)


class Demo(Command):
    """A tour of the benchmark: ask its tables, search a network for two tasks, train it.

    Runs on the embedded release "mini", where this build of the package has it, and then needs no network;
    else on the published tables: those installed, those in ../shared/upstream, or downloaded. The search
    needs the extra "search"; the training (of a task of "mini" whose data can be generated), "build".

    Example:
      nasbench-mr demo
      nasbench-mr demo --release nasbench-mr
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--release",
            metavar="R",
            help='a name, "name@version", a folder or a tarball (default: mini, else the published tables)',
        )

    def run(self, args: argparse.Namespace) -> None:
        from nasbench_mr.benchmark import load

        bench = load(args.release or demo_release())
        names = _comparable(bench)
        print(f"# {bench.release}: the tasks, and the range of each one's objective\n")
        print(format_table(task_rows(bench)))
        code = tuple(bench.codes(names[0])[0].tolist())
        to_string = spaces.get(bench.task(names[0]).space).to_string
        print(f"\n# One code in every task: {to_string(code)}")
        print_results(result_rows([bench.query(code, t) for t in names]))
        task = _trained_in_seconds(bench) or ("seg" if "seg" in names else names[0])
        macs = bench.query_many(bench.codes(task), task, "macs")["macs"]
        limit = float(sorted(macs)[len(macs) // 2])
        print(f"\n# The best codes for {task} with at most {limit / 1e9:.3g} GMACs (the median)\n")
        print(format_table(best_rows(bench, task, bench.best(task, 3, max_macs=limit))))
        print("\n# Do good codes agree? Kendall's tau of the tasks' objectives\n")
        tau = bench.correlation()
        labels = [str(label) for label in tau]
        rows = zip(labels, tau.to_numpy().round(2).tolist(), strict=True)
        print(format_table([{"": a, **dict(zip(labels, row, strict=True))} for a, row in rows]))
        try:
            found = _demo_search(bench, [task, *(t for t in names if t != task)][:2], limit)
            if _trained_in_seconds(bench):
                best = bench.best(task, 1, max_macs=limit)[0].code
                _demo_training(task, {"found by NCP": found, "best tabulated": best})
        except MissingExtraError as error:
            print(f"\n{error}")


def demo_release() -> Path:
    """The release the demo runs on; installed if need be."""
    from nasbench_mr.data_builders.published import tables as published

    if (releases.EMBEDDED / releases.MANIFEST).is_file():
        return releases.EMBEDDED
    if any(name == releases.DEFAULT for name, _ in releases.installed()):
        return releases.find(releases.DEFAULT)
    local = Path("..") / "shared" / "upstream"
    folder = local if local.is_dir() else published.fetch(releases.home() / "cache" / "published")
    return published.import_release(folder).path


def _demo_search(bench: Benchmark, names: Sequence[str], limit: float) -> tuple[int, ...]:
    """Searches a code for several tasks at once and prints it."""
    from nasbench_mr import cost, search

    found = search.ncp(bench, names, max_macs=limit, seed=0)
    print(f"\n# A network for {' and '.join(names)}, at most {limit / 1e9:.3g} GMACs, found by NCP\n")
    print(f"{spaces.get(bench.task(names[0]).space).to_string(found.best)}\n")
    rows = []
    for name, mean, std in zip(names, found.predicted[0].tolist(), found.std[0].tolist(), strict=True):
        best = bench.best(name, 1, limit)[0][bench.task(name).objective]
        rows.append({"task": name, "predicted": mean, "std": std, "best tabulated": best})
    print(format_table(rows))
    gmacs, millions = cost.macs(found.best)[0] / 1e9, cost.params(found.best)[0] / 1e6
    print(f"\n{gmacs:.3g} GMACs, {millions:.3g} M parameters")
    return found.best


def _trained_in_seconds(bench: Benchmark) -> str | None:
    """A task of the release that can be trained on the spot, on data that is generated."""
    from nasbench_mr.data_builders import datasets
    from nasbench_mr.data_builders.training import recipes

    for name in reversed(bench.tasks):
        if name.startswith("mini-") and recipes.get(name).dataset in datasets.made():
            return name
    return None


def _demo_training(task: str, codes: Mapping[str, tuple[int, ...]]) -> None:
    """Trains codes for a task, side by side, and prints what they achieve."""
    import tempfile

    from nasbench_mr.data_builders import datasets
    from nasbench_mr.data_builders.building import runner
    from nasbench_mr.data_builders.building.trial import Trial
    from nasbench_mr.data_builders.training import recipes

    recipe = recipes.get(task)
    data = releases.home() / "cache" / "demo"
    print(f"\n# Trained now for {task}, with a seed that the tables have not", flush=True)
    if not (data / recipe.dataset).is_dir():
        print(f"(first, {recipe.dataset} is generated in {data})", flush=True)
        datasets.make(recipe.dataset, data / recipe.dataset, **datasets.mini(recipe.dataset))
    trials = {label: Trial(code, task, seed=100) for label, code in codes.items()}
    rows = []
    with tempfile.TemporaryDirectory() as out, runner.Builder(recipe, out, data=data) as builder:
        builder.run(list(trials.values()), progress=True)
        for label, trial in trials.items():
            outcome = builder.records[trial].outcome
            row = {"code": label, **outcome.metrics, "seconds": outcome.seconds, "device": outcome.device}
            rows.append(row if outcome.status == "ok" else {"code": label, "error": outcome.error})
    print()
    print_results(rows)
