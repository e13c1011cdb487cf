"""How well the predictors predict, and how fast: `python benchmarks/predictors.py`, part of `make bench`.

Scores are those of `nasbench-mr predict-eval`: means over five fixed splits of 80/20 of every published task
at hand. One part is one predictor, fitted once to all tasks together; parts run in as many processes as
there are cores, five minutes in all on 2 cores; `--splits 2` takes two. `--keep FOLDER` keeps the parts:
rerun the command to resume.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from common import Figure, in_parallel, report, tables

import nasbench_mr
from nasbench_mr import predictors
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.predictors import evaluation
from nasbench_mr.predictors.surrogates import fit_surrogates

OURS, PAPER = "ensemble", "ncp-mlp"
FEW = 100

# CPU time, so that other processes disturb less.
SURROGATE = """
import sys, time, timeit
import nasbench_mr
from nasbench_mr import space
bench = nasbench_mr.load(sys.argv[1])
codes = space.sample(2000, seed=0)
code = tuple(codes[0].tolist())
one = timeit.repeat(lambda: bench.query(code, "seg"), number=100, repeat=9, timer=time.process_time)
many = timeit.repeat(lambda: bench.query_many(codes, "seg"), number=1, repeat=9, timer=time.process_time)
assert bench.query(code, "seg").source == "surrogate"
print(sorted(one)[4] / 100, len(codes) / sorted(many)[4], "torch" in sys.modules)
"""

# What a million codes take beyond what was there before; loading a model has asked it for some codes already.
MEMORY = """
import resource, sys
import numpy as np
from nasbench_mr import predictors, space
model = predictors.load(sys.argv[1])
codes = np.concatenate([space.sample(10_000, seed=k) for k in range(100)])  # drawn at once, they take more
unit = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
before = peak()
model.predict(codes)
print(peak() - before)
"""


class Part(NamedTuple):
    """A predictor to fit on so many codes (None: all) of a split."""

    predictor: str
    train: int | None
    seed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=5, metavar="K", help="splits 0 to K-1 (default 5)")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the parts' scores, and use those kept"
    )
    parser.add_argument(
        "--memory", action="store_true", help="what a million codes take in memory, and nothing else: minutes"
    )
    args = parser.parse_args()
    if args.memory:
        return report("Predictors, a million codes", memory())
    bench = tables()
    # The slow ones first, so that no core waits for one at the end.
    order = sorted(predictors.names(), key=lambda name: name != PAPER)
    parts = [Part(name, None, seed) for name in order for seed in range(args.splits)]
    parts += [Part(name, FEW, seed) for name in (PAPER, OURS) for seed in range(args.splits)]
    found = in_parallel(partial(scored, bench.release.path, args.keep), parts)
    frame = pd.concat(found, ignore_index=True)
    report(
        f"Predictors, means over {args.splits} splits",
        [*quality(frame), *speed(frame), *surrogate(bench)],
    )
    return None


def scored(release: Path, keep: Path | None, part: Part) -> pd.DataFrame:
    """Return a part's evaluation, with its CPU time for each task in "cpu_seconds"."""
    kept = keep / f"{part.predictor}-{part.train or 'all'}-{part.seed}.parquet" if keep else None
    if kept is not None and kept.is_file():
        return evaluation.read(kept)
    bench = nasbench_mr.load(release)
    start = time.process_time()
    frame = evaluation.evaluate(part.predictor, bench, train=part.train, seeds=[part.seed])
    frame["cpu_seconds"] = (time.process_time() - start) / len(frame)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        evaluation.write(frame, kept)
    return frame


def quality(frame: pd.DataFrame) -> list[Figure]:
    """Ranking and coverage against the targets, from the rows of all parts."""
    full = frame[frame["train"] > FEW]
    tau = full.pivot_table("kendall", "task", "predictor", sort=False)
    coverage = full[full["predictor"] == OURS].groupby("task")["coverage90"].mean()
    figures = []
    for task, row in tau.iterrows():
        others = row.drop(OURS)
        gain = row[OURS] - others.max()
        figures.append(
            Figure(
                f"{task}: tau of {OURS} over the best other's",
                f"{gain:+.3f} ({row[OURS]:.3f}, {others.idxmax()} {others.max():.3f})",
                ">= -0.005",
                gain >= -0.005,
            )
        )
    for label, rows, least in (
        ("80% of the codes", full, 0.008),
        (f"{FEW} codes", frame[frame["train"] == FEW], 0.03),
    ):
        means = rows.groupby("predictor")["kendall"].mean()
        gain = means[OURS] - means[PAPER]
        figures.append(
            Figure(
                f"trained on {label}, mean of tasks: tau over {PAPER}'s",
                f"{gain:+.3f} ({means[OURS]:.3f}, {means[PAPER]:.3f})",
                f">= {least}",
                gain >= least,
            )
        )
    for task, share in coverage.items():
        figures.append(
            Figure(f"{task}: 90% intervals cover", f"{share:.1%}", "85 to 95%", bool(0.85 <= share <= 0.95))
        )
    return figures


def speed(frame: pd.DataFrame) -> list[Figure]:
    """Time to fit all tasks together, against the published predictor's for one after the other."""
    full = frame[frame["train"] > FEW]
    splits = full["seed"].nunique()
    seconds = full.groupby("predictor")[["cpu_seconds", "fit_seconds"]].sum() / splits
    ours, paper = seconds.loc[OURS], seconds.loc[PAPER]
    ratio = ours / paper
    return [
        Figure(
            f"fit {OURS} to all tasks / {PAPER} task by task, CPU and wall-clock",
            f"{ratio['cpu_seconds']:.2f} ({ours['cpu_seconds']:.1f} / {paper['cpu_seconds']:.1f} s), "
            f"{ratio['fit_seconds']:.2f}",
            "<= 1",
            bool(ratio.max() <= 1),
        )
    ]


def child(script: str, argument: str) -> list[str]:
    """Return the words that a script prints in a process of its own, with one thread."""
    return subprocess.run(
        [sys.executable, "-P", "-c", script, argument],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    ).stdout.split()


def surrogate(bench: Benchmark) -> list[Figure]:
    """Return what a query costs that a release's surrogate answers.

    How long it was fitted makes no difference.
    """
    release = fit_surrogates(bench, ["seg"], epochs=1)
    output = child(SURROGATE, str(release.path))
    one, rate, torch = float(output[0]), float(output[1]), output[2] == "True"
    return [
        Figure("surrogate: query, one code", f"{one * 1e6:.0f} us", "<= 300 us", one <= 300e-6),
        Figure("surrogate: query_many", f"{rate:,.0f} codes/s", ">= 20,000", rate >= 20e3),
        Figure("surrogate: imports torch", "yes" if torch else "no", "no", not torch),
    ]


def memory(names: Sequence[str] = predictors.names()) -> list[Figure]:
    """Return what each predictor, fitted to the objective of `mini-seg`, takes to predict a million codes."""
    bench = nasbench_mr.load("mini")
    codes = bench.codes("mini-seg")
    values = bench.query_many(codes, "mini-seg", "mIoU")["mIoU"]
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = f"{folder}/{name}.npz"
            predictors.make(name).fit(codes, values).save(path)
            taken = int(child(MEMORY, path)[0])
            figures.append(Figure(f"{name}: memory", f"{taken / 1e6:,.0f} MB", "<= 1,000 MB", taken <= 1e9))
    return figures


if __name__ == "__main__":
    main()
