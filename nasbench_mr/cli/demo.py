"""The command `demo`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nasbench_mr import files, progress, spaces
from nasbench_mr import release as releases
from nasbench_mr.cli import command
from nasbench_mr.cli.queries import best_rows, print_results, result_rows, task_rows
from nasbench_mr.errors import MissingExtraError

if TYPE_CHECKING:
    from nasbench_mr.benchmark import Benchmark


class DemoCommand(command.Command):
    """Take a tour of the benchmark: ask its tables, search a network for two tasks, train it.

    Runs on the embedded release "mini" and needs no network. Where this build of the package has none, it
    runs on the published tables: those installed, those in ../shared/upstream, or downloaded. The search
    needs the extra "search". The training, of a task of "mini" whose data can be generated, needs "build".

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
        names = bench.comparable()
        print(f"# {bench}: the tasks, and the range of each one's objective\n")
        print(command.format_table(task_rows(bench)))
        code = tuple(bench.codes(names[0])[0].tolist())
        to_string = spaces.get(bench.task(names[0]).space).to_string
        print(f"\n# One code in every task: {to_string(code)}")
        print_results(result_rows([bench.query(code, t) for t in names]))
        task = _trained_in_seconds(bench) or ("seg" if "seg" in names else names[0])
        macs = bench.query_many(bench.codes(task), task, "macs")["macs"]
        limit = float(sorted(macs)[len(macs) // 2])
        print(f"\n# The best codes for {task} with at most {limit / 1e9:.3g} GMACs (the median)\n")
        print(command.format_table(best_rows(bench, task, bench.best(task, 3, max_macs=limit))))
        print("\n# Do good codes agree? Kendall's tau of the tasks' objectives\n")
        tau = bench.correlation()
        labels = [str(label) for label in tau]
        rows = zip(labels, tau.to_numpy().round(2).tolist(), strict=True)
        print(command.format_table([{"": a, **dict(zip(labels, row, strict=True))} for a, row in rows]))
        try:
            found = _demo_search(bench, [task, *(t for t in names if t != task)][:2], limit)
            if _trained_in_seconds(bench):
                best = bench.best(task, 1, max_macs=limit)[0].code
                _demo_training(task, {"found by NCP": found, "best tabulated": best})
        except MissingExtraError as error:
            print(f"\n{error}")


def demo_release() -> Path:
    """Return the release that the demo runs on; install it if it is not there."""
    from nasbench_mr.data_builders import published

    if (releases.EMBEDDED / releases.MANIFEST).is_file():
        return releases.EMBEDDED
    if any(name == releases.DEFAULT for name, _ in releases.installed()):
        return releases.find(releases.DEFAULT)
    local = Path("..") / "shared" / "upstream"
    folder = local if local.is_dir() else published.fetch(releases.home() / "cache" / "published")
    return published.import_release(folder).path


def _demo_search(bench: Benchmark, names: Sequence[str], limit: float) -> tuple[int, ...]:
    """Search a code for several tasks at once and print it."""
    from nasbench_mr import cost, search

    with progress.line("searching (the first time, a predictor is fitted and kept)"):
        found = search.ncp(bench, names, max_macs=limit, seed=0)
    print(f"\n# A network for {' and '.join(names)}, at most {limit / 1e9:.3g} GMACs, found by NCP\n")
    print(f"{spaces.get(bench.task(names[0]).space).to_string(found.best)}\n")
    rows = []
    for name, mean, std in zip(names, found.predicted[0].tolist(), found.std[0].tolist(), strict=True):
        best = bench.best(name, 1, max_macs=limit)[0][bench.task(name).objective]
        rows.append({"task": name, "predicted": mean, "std": std, "best tabulated": best})
    print(command.format_table(rows))
    gmacs, millions = cost.macs(found.best)[0] / 1e9, cost.params(found.best)[0] / 1e6
    print(f"\n{gmacs:.3g} GMACs, {millions:.3g} M parameters")
    return found.best


def _trained_in_seconds(bench: Benchmark) -> str | None:
    """Return a task of the release that can be trained on the spot, on data that is generated."""
    from nasbench_mr.data_builders import generate
    from nasbench_mr.data_builders.training import recipes

    for name in reversed(bench.tasks):
        if name.startswith("mini-") and recipes.get(name).dataset in generate.names():
            return name
    return None


def _demo_training(task: str, codes: Mapping[str, tuple[int, ...]]) -> None:
    """Train codes for a task, side by side, and print what they achieve."""
    from nasbench_mr.data_builders import generate
    from nasbench_mr.data_builders.building import runner
    from nasbench_mr.data_builders.building.trial import Trial
    from nasbench_mr.data_builders.training import recipes

    recipe = recipes.get(task)
    data = releases.home() / "cache" / "demo"
    print(f"\n# Trained now for {task}, with a seed that is not in the tables", flush=True)
    if not (data / recipe.dataset).is_dir():
        print(f"(first, {recipe.dataset} is generated in {data})", flush=True)
        generate.make(recipe.dataset, data / recipe.dataset, **generate.mini(recipe.dataset))
    trials = {label: Trial(code, task, seed=100) for label, code in codes.items()}
    rows = []
    scratch = files.Scratch()
    with runner.Builder(recipe, scratch.folder / "out", data=data) as builder:
        builder.run(list(trials.values()), progress=True)
        for label, trial in trials.items():
            outcome = builder.records[trial].outcome
            row = {"code": label, **outcome.metrics, "seconds": outcome.seconds, "device": outcome.device}
            rows.append(row if outcome.status == "ok" else {"code": label, "error": outcome.error})
    print()
    print_results(rows)
