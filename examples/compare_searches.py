"""Compare a search of your own with random search and evolution, and draw the regret.

    python examples/compare_searches.py --seeds 20 --out regret.svg

Runs on the embedded release; on the published tables with --release nasbench-mr --tasks seg video.
"""

from __future__ import annotations

import argparse

import numpy as np

import nasbench_mr
from nasbench_mr import plot, search
from nasbench_mr.search import plots


class Hybrid(search.Searcher):
    """Half of the time a neighbour of the best code so far, else a random code."""

    def _propose(self, n: int) -> np.ndarray:
        if len(self.values) and self.rng.random() < 0.5:
            near = self.domain.neighbors(self.codes[self.values.argmax()])
            return self.rng.permutation(near)[:n]
        return self.domain.sample(n, self.rng)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", default="mini")
    parser.add_argument("--tasks", nargs="+", default=["mini-seg", "mini-video"])
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", default="regret.svg")
    args = parser.parse_args()
    bench = nasbench_mr.load(args.release)
    found = search.compare(
        bench,
        args.tasks,
        searchers=("random", "evolution", "compare_searches.Hybrid"),
        budget=args.budget,
        seeds=args.seeds,
    )
    print(found.final().round(2).to_string())
    plot.save(plots.comparison(found), args.out)
    print(f"{args.out} has the regret over evaluations")


if __name__ == "__main__":
    main()
