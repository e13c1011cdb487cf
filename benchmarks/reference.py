"""Run each search on each task, for the reference results: `python benchmarks/reference.py WORK`.

    nice -n 19 python benchmarks/reference.py WORK               # runs what is missing, the cheapest first
    nice -n 19 python benchmarks/reference.py WORK --seeds 25    # of the slow searches, only these seeds
    python benchmarks/reference.py WORK --pack FOLDER            # what is finished, as a release

Each search and task is a comparison of its own in WORK/<task>/<search>, which `search.compare` resumes, so a
run may be stopped at any time and started again. A release that changes starts its tasks anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# A process that is nice should not take every core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import pyarrow as pa

import nasbench_mr
from nasbench_mr import release, search, table
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.release import Release
from nasbench_mr.search.comparison import ABOUT, Comparison
from nasbench_mr.search.reference import BUDGET, COLUMNS, SETTINGS, digest

#: Seconds of CPU a run on a table of 2,507 codes: 0.01 to 0.1 of the first, 4 to 12 of the others.
QUICK = ("random", "local", "evolution", "proxy", "halving", "hyperband")
SLOW = ("ncp", "tpe", "guided")
#: Those that need learning curves, which mini's tasks have.
BY_CURVES = ("halving", "hyperband")
#: Seeds of the slow searches, in rounds: all get some before one gets all.
ROUNDS = (10, 25, 50, 75, 100)


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
    bench: nasbench_mr.Benchmark,
    runs: Sequence[Comparison],
    target: Path,
    *,
    command: str,
    version: str = "1.1.0",
) -> Release:
    """Write comparisons of single tasks as the release of reference results.

    Args:
        bench: what they were run on.
        runs: each of one task and any searches, run with the settings and the budget of `search.reference`.
        target: the release's folder, which must not be there.
        command: what made them.
        version: of the release.

    Raises:
        InvalidArgumentError: a comparison was run with other settings, or it has a search twice.
    """
    by_task: dict[str, list[Comparison]] = {}
    for found in runs:
        wrong = {key: found.about[key] for key, usual in SETTINGS.items() if found.about[key] != usual}
        if wrong or found.about["budget"] != BUDGET or len(found.tasks) != 1:
            raise InvalidArgumentError(
                f"a comparison of {found.tasks} has {wrong or found.about['budget']}; expected one task, the "
                f"settings {SETTINGS} and a budget of {BUDGET}"
            )
        by_task.setdefault(found.tasks[0], []).append(found)
    versions = {
        "nasbench-mr": nasbench_mr.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    arrows = {}
    for task, comparisons in by_task.items():
        names = [name for found in comparisons for name in found.searchers]
        if len(set(names)) < len(names):
            raise InvalidArgumentError(f"a search of {names} stands there twice for {task!r}")
        frame = pd.concat([steps(found) for found in comparisons], ignore_index=True)
        counts = frame.groupby("searcher")["seed"].nunique()
        told = {
            "task": task,
            "table": digest(bench.release_of(task), task),
            "release": str(bench.release_of(task)),
            "seeds": {name: int(counts[name]) for name in names},
            "budget": BUDGET,
            **SETTINGS,
            "versions": versions,
            "command": command,
        }
        arrows[task] = _arrow(frame, told)

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
        "versions": versions,
        "command": command,
    }
    return release.create(fill, release.REFERENCE, version, [], about=about, target=target)


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
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="of the slow searches (100)")
    parser.add_argument("--tasks", nargs="+", metavar="T", help="some tasks (default: all)")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="write the release there, run nothing")
    args = parser.parse_args()
    bench = nasbench_mr.load()
    tasks = args.tasks or bench.tasks
    if args.pack is not None:
        places = [args.work / task / name for task in tasks for name in (*QUICK, *SLOW)]
        finished = [Comparison.open(place) for place in places if (place / ABOUT).is_file()]
        command = "python benchmarks/reference.py WORK"
        print(pack(bench, finished, args.pack, command=command).path)
        return
    rounds = [(name, 100) for name in QUICK]
    rounds += [(name, seeds) for seeds in ROUNDS if seeds <= args.seeds for name in SLOW]
    for name, seeds in rounds:
        for task in tasks:
            if name not in BY_CURVES or task.startswith("mini-"):
                run(bench, task, name, seeds, args.work / task / name)


def run(bench: Benchmark, task: str, name: str, seeds: int, out: Path) -> None:
    """Run what is missing of a search on a task, in this process; say how long it took."""
    start = time.process_time(), time.time()
    search.compare(bench, task, name, budget=BUDGET, seeds=seeds, out=out, workers=0)
    cpu, wall = time.process_time() - start[0], time.time() - start[1]
    print(f"{name} on {task}, {seeds} seeds: {cpu:.1f} s CPU, {wall:.0f} s", flush=True)


if __name__ == "__main__":
    main()
