"""Run each search on each task, for the reference results: `python benchmarks/reference.py WORK`.

    nice -n 19 python benchmarks/reference.py WORK                        # all, the cheapest first
    nice -n 19 python benchmarks/reference.py WORK --only ncp --tasks seg
    python benchmarks/reference.py WORK --pack FOLDER                     # what is finished, as a release

Each search and task is a comparison of its own in WORK/<task>/<search>, which `search.compare` resumes, so a
run may be stopped at any time and started again. A release that changes starts its tasks anew. What is packed
is added to the results that are installed: of a table that is the same, they need not be run again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

# A process that is nice should not take every core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import pyarrow as pa

import nasbench_mr
from nasbench_mr import release, search, table
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.release import Release
from nasbench_mr.search import reference as results
from nasbench_mr.search.comparison import ABOUT, Comparison
from nasbench_mr.search.reference import BUDGET, COLUMNS, SETTINGS

#: Seconds of CPU a run on a table of 2,507 codes: at most 0.1 of the first six, 2 to 10 of the others.
SEARCHES = ("random", "local", "evolution", "proxy", "halving", "hyperband", "ncp", "tpe", "guided")
#: Those that need learning curves, which mini's tasks have.
BY_CURVES = ("halving", "hyperband")
SEEDS = 100
#: What results depend on: TPE is Optuna's, the predictors of NCP and `guided` are trained with torch.
LIBRARIES = ("nasbench-mr", "numpy", "optuna", "torch")


def steps(found: Comparison) -> pd.DataFrame:
    """Return the rows of a trace at which a run's best value rises, its first and its last.

    The last has the run's best code.
    """
    trace, keys = found.trace, ["task", "searcher", "seed"]
    ends = ~trace.duplicated(keys) | ~trace.duplicated(keys, keep="last")
    rises = trace["best"].notna() & (trace["best"] != trace.groupby(keys)["best"].shift())
    kept = trace[rises | ends].merge(found.runs[[*keys, "code"]], on=keys, how="left")
    final = ~kept.duplicated(keys, keep="last")
    return kept.assign(code=kept["code"].where(final, None))


def pack(
    runs: Sequence[Comparison],
    target: Path,
    *,
    command: str,
    version: str = "1.4.1",
    earlier: Release | None = None,
) -> Release:
    """Write comparisons of single tasks as the release of reference results.

    Args:
        runs: each of one task and any searches, run with the settings and the budget of `search.reference`.
        target: the release's folder, which must not be there.
        command: what made them.
        version: of the release.
        earlier: reference results to add them to: of other tasks, and other searches' of the same tables.

    Raises:
        InvalidArgumentError: a comparison was run with other settings, or a task has a search twice, or runs
            on two tables.
    """
    found = _by_task(runs)
    ours = {name: metadata.version(name) for name in LIBRARIES} | {"python": platform.python_version()}
    arrows = {}
    for task, (told, frames) in found.items():
        versions = dict.fromkeys(frames, ours)
        if task in results.tasks(earlier):
            frame, before = results.read(earlier, task)
            if before["table"] == told["table"]:
                kept = {k: own for k, own in frame.groupby("searcher", sort=False) if k not in frames}
                frames = kept | frames
                versions = {k: before["versions"][k] for k in kept} | versions
        told |= {"seeds": {k: own["seed"].nunique() for k, own in frames.items()}, "versions": versions}
        told |= {"budget": BUDGET, **SETTINGS, "command": command}
        arrows[task] = _arrow(pd.concat(frames.values(), ignore_index=True), told)
    for task in results.tasks(earlier):
        if task not in arrows:
            arrows[task] = _arrow(*results.read(earlier, task))

    def fill(folder: Path) -> None:
        for task, arrow in arrows.items():
            table.write_arrow(arrow, folder / "comparisons" / f"{task}.parquet")

    about = {
        "title": "Reference results of the searches of nasbench-mr",
        "description": (
            f"What each search finds with a budget of {BUDGET} full trainings, on the table, without limits: "
            "of each run the measurements at which its best value rose, and the last."
        ),
        "license": "MIT",
        "versions": ours,
        "command": command,
    }
    return release.create(fill, release.REFERENCE, version, [], about=about, target=target)


def _by_task(
    runs: Sequence[Comparison],
) -> dict[str, tuple[dict[str, Any], dict[str, pd.DataFrame]]]:
    """Return by task what it was run on, and the steps of each search."""
    found: dict[str, tuple[dict[str, Any], dict[str, pd.DataFrame]]] = {}
    for run in runs:
        wrong = {key: run.about[key] for key, usual in SETTINGS.items() if run.about[key] != usual}
        if wrong or run.about["budget"] != BUDGET or len(run.tasks) != 1:
            raise InvalidArgumentError(
                f"a comparison of {run.tasks} has {wrong or run.about['budget']}; expected one task, the "
                f"settings {SETTINGS} and a budget of {BUDGET}"
            )
        (task,) = run.tasks
        on = {"task": task, "table": run.about["tables"][task], "release": run.about["release"]}
        told, own = found.setdefault(task, (on, {}))
        if told["table"] != on["table"]:
            raise InvalidArgumentError(f"{run.searchers} ran on another table of {task!r}; run it again")
        for name, frame in steps(run).groupby("searcher", sort=False):
            if name in own:
                raise InvalidArgumentError(f"{name!r} stands there twice for {task!r}")
            own[str(name)] = frame
    return found


def _arrow(frame: pd.DataFrame, told: Mapping[str, Any]) -> pa.Table:
    types = {"string": pa.string(), "int32": pa.int32(), "int64": pa.int64(), "double": pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    arrow = pa.Table.from_pandas(frame[list(COLUMNS)], schema, preserve_index=False)
    return arrow.replace_schema_metadata({"nasbench_mr": json.dumps(told)})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, metavar="WORK", help="the folder of the runs")
    parser.add_argument("--only", nargs="+", choices=SEARCHES, default=SEARCHES, help="(default: all)")
    parser.add_argument("--tasks", nargs="+", metavar="T", help="some tasks (default: all)")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="write the release there, run nothing")
    args = parser.parse_args()
    bench = nasbench_mr.load()
    tasks = args.tasks or bench.tasks
    places = {(name, task): args.work / task / name for name in args.only for task in tasks}
    if args.pack is not None:
        finished = [Comparison.open(place) for place in places.values() if (place / ABOUT).is_file()]
        if not finished:
            parser.error(f"{args.work} has no finished search of {', '.join(tasks)}; run some first")
        command = "python benchmarks/reference.py WORK"
        earlier = Release.open(release.find(release.REFERENCE))
        print(pack(finished, args.pack, command=command, earlier=earlier).path)
        return
    for (name, task), place in places.items():
        if name not in BY_CURVES or task.startswith("mini-"):
            run(bench, task, name, place)


def run(bench: Benchmark, task: str, name: str, out: Path) -> None:
    """Run what is missing of a search on a task, in this process; say how long it took."""
    start = time.process_time(), time.time()
    search.compare(bench, task, name, budget=BUDGET, seeds=SEEDS, out=out, workers=0)
    cpu, wall = time.process_time() - start[0], time.time() - start[1]
    print(f"{name} on {task}: {cpu:.1f} s CPU, {wall:.0f} s", flush=True)


if __name__ == "__main__":
    main()
