"""Run each search on each task, for the reference results: `python benchmarks/reference.py WORK`.

    nice -n 19 python benchmarks/reference.py WORK               # runs what is missing, the cheapest first
    nice -n 19 python benchmarks/reference.py WORK --seeds 25    # of the slow searches, only these seeds
    python benchmarks/reference.py WORK --pack FOLDER            # what is finished, as a release

Each search and task is a comparison of its own in WORK/<task>/<search>, which `search.compare` resumes, so a
run may be stopped at any time and started again. A release that changes starts its tasks anew.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

# A process that is nice should not take every core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import nasbench_mr
from nasbench_mr import search
from nasbench_mr.search import reference
from nasbench_mr.search.comparison import ABOUT, Comparison

#: Seconds of CPU a run on a table of 2,507 codes: 0.01 to 0.1 of the first, 4 to 12 of the others.
QUICK, SLOW = ("random", "local", "evolution", "halving"), ("ncp", "tpe", "guided")
#: Seeds of the slow searches, in rounds: all get some before one gets all.
ROUNDS = (10, 25, 50, 75, 100)


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
        print(reference.pack(bench, finished, args.pack, command=command).path)
        return
    rounds = [(name, 100) for name in QUICK]
    rounds += [(name, seeds) for seeds in ROUNDS if seeds <= args.seeds for name in SLOW]
    for name, seeds in rounds:
        for task in tasks:
            # Halving needs the learning curves of mini's tasks.
            if name != "halving" or task.startswith("mini-"):
                run(bench, task, name, seeds, args.work / task / name)


def run(bench: nasbench_mr.Benchmark, task: str, name: str, seeds: int, out: Path) -> None:
    """Run what is missing of a search on a task, in this process; say how long it took."""
    start = time.process_time(), time.time()
    search.compare(bench, task, name, budget=reference.BUDGET, seeds=seeds, out=out, workers=0)
    cpu, wall = time.process_time() - start[0], time.time() - start[1]
    print(f"{name} on {task}, {seeds} seeds: {cpu:.1f} s CPU, {wall:.0f} s", flush=True)


if __name__ == "__main__":
    main()
