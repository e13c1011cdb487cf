"""Train the networks of `mini-weights`.

    python data_builders/mini/weights.py --data data --out runs/mini-weights

Those of each task's Pareto front (objective against MACs), at most twelve, seed 0, as the build that made the
rows of `mini` trained them; then `nasbench-mr weights pack` checks that their metrics are those of the rows,
and packs them. Rerun it to resume.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import nasbench_mr
from nasbench_mr import space
from nasbench_mr.data_builders.building import runner

#: Networks of a task.
MOST = 12


def front(bench: nasbench_mr.Benchmark, task: str) -> np.ndarray:
    """Return codes of a task's front, from the cheapest to the best, evenly spread: at most `(MOST, 27)`."""
    codes = bench.pareto(task)["code"].tolist()
    rows = np.unique(np.linspace(0, len(codes) - 1, MOST).round().astype(int))
    return space.check([codes[row] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="the folder of the data sets, see README.md here")
    parser.add_argument("--out", required=True, help="the build's folder")
    parser.add_argument("--tasks", nargs="+", help="(default: all of mini)")
    parser.add_argument("--workers", type=int, help="trials at once")
    args = parser.parse_args()
    bench = nasbench_mr.load("mini")
    for task in args.tasks or bench.tasks:
        runner.build(
            task,
            front(bench, task),
            seeds=1,
            out=args.out,
            progress=True,
            data=args.data,
            device="cpu",
            workers=args.workers,
            checkpoints=Path(args.out) / "checkpoints",
            keep_weights=True,
        )


if __name__ == "__main__":
    main()
