"""Score a predictor of your own beside those of the package, on fixed splits.

    python examples/own_predictor.py --train 50 150

Runs on the embedded release; on the published tables with --release nasbench-mr --tasks seg video.
"""

from __future__ import annotations

import argparse

import numpy as np

import nasbench_mr
from nasbench_mr import predictors


class NearestNeighbours(predictors.Predictor):
    """Average the values of the nearest known codes, in steps of the grid.

    Args:
        neighbours: how many.
    """

    def __init__(self, seed=0, space=nasbench_mr.space, neighbours=5):
        super().__init__(seed, space)
        self.neighbours = neighbours

    def _fit(self, codes, values):
        self._codes, self._values = codes, values

    def _predict(self, codes):
        steps = np.abs((codes[:, None] - self._codes) / self.space.STEP).sum(axis=2)
        near = self._values[np.argsort(steps, axis=1)[:, : self.neighbours]]
        return np.nanmean(near, axis=1), np.nanstd(near, axis=1) + 1e-6

    def _state(self):
        return {"codes": self._codes, "values": self._values}

    def _restore(self, state):
        self._codes, self._values = state["codes"], state["values"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", default="mini")
    parser.add_argument("--tasks", nargs="+", default=["mini-seg", "mini-video"])
    parser.add_argument("--train", nargs="+", type=int, default=[50, 150])
    args = parser.parse_args()
    bench = nasbench_mr.load(args.release)
    for size in args.train:
        for name in ("own_predictor.NearestNeighbours", "ridge", "ensemble"):
            scores = predictors.evaluate(name, bench, args.tasks, train=size, seeds=2)
            means = scores.groupby("task")["kendall"].mean().round(2).to_dict()
            print(f"{size:5} codes, {name}: Kendall's tau {means}")


if __name__ == "__main__":
    main()
