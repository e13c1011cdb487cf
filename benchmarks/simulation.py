"""Searches on a simulated clock, on the learning curves of `mini`: `python benchmarks/simulation.py`.

Four workers train at once; `halving` and `hyperband` continue a training where it stopped. Part of
`make bench`; with --plot FILE it also draws the regret.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from common import Figure, in_parallel, report

import nasbench_mr
from nasbench_mr import plot, search
from nasbench_mr.objective import Objective
from nasbench_mr.search import plots

SEARCHERS = ("random", "evolution", "halving", "hyperband")
WORKERS, SECONDS, SEEDS = 4, 400.0, 100
MARKS = (50, 100, 200, 400)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"runs of each search (default {SEEDS})")
    parser.add_argument("--plot", metavar="FILE", help="draw the regret over simulated time")
    args = parser.parse_args()
    bench = nasbench_mr.load("mini")
    asked = [(task, name, args.seeds) for task in bench.tasks for name in SEARCHERS]
    found = dict(zip(asked, in_parallel(simulated, asked), strict=True))
    took = sum(seconds for (_, name, _), (_, seconds) in found.items() if name == "halving")
    figures = [
        Figure(
            f"simulated asynchronous halving, {args.seeds} seeds on {len(bench.tasks)} tasks of mini",
            f"{took:.1f} s of a core",
            "<= 60 s",
            took <= 60,
        )
    ]
    runs: dict[str, dict[str, list[search.Simulation]]] = {}
    best = {task: Objective.table(bench, task).best() for task in bench.tasks}
    for (task, name, _), (traces, _) in found.items():
        runs.setdefault(task, {})[name] = traces
        regret = np.median([best[task] - trace.at(MARKS) for trace in traces], axis=0)
        shown = " / ".join("-" if np.isnan(value) else f"{value:.2f}" for value in regret)
        figures.append(Figure(f"{task}, {name}: median regret after {MARKS} simulated s", shown, "-", None))
    report(f"Searches on a simulated clock, {WORKERS} workers", figures)
    if args.plot:
        print(plot.save(plots.simulations(runs, best), args.plot))


def simulated(asked: tuple[str, str, int]) -> tuple[list[search.Simulation], float]:
    """Return the runs of a search on a task, one a seed, and the seconds of processor time that they took."""
    task, name, seeds = asked
    objective = Objective.table(nasbench_mr.load("mini"), task)
    start = time.process_time()
    runs = [
        search.simulate(
            search.make(name, objective, seed), objective, workers=WORKERS, seconds=SECONDS, resume=True
        )
        for seed in range(seeds)
    ]
    return runs, time.process_time() - start


if __name__ == "__main__":
    main()
