"""Measured costs: how long they take, and what the estimates are worth: `python benchmarks/measuring.py`.

A sample of the tabulated codes is measured with both runtimes, as `nasbench-mr measure --clock cpu` does, and
the time is scaled to all 2,507 published codes on two cores. The estimate of a latency from a code is fitted
on four fifths of the packaged costs and scored on the others. Part of `make bench`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import Figure, report

import nasbench_mr
from nasbench_mr.data_builders.measuring import campaign
from nasbench_mr.data_builders.measuring.measure import Setting
from nasbench_mr.measured import Estimate

COSTS = {"torch": "latency_ms@cpu", "onnx": "latency_ms@cpu:onnx"}
PUBLISHED, CORES = 2507, 2
#: Of the order in which codes are taken.
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--codes", type=int, default=16, help="that are measured (default 16)")
    args = parser.parse_args()
    costs = nasbench_mr.load("nasbench-mr-costs")
    figures, hours = [], 0.0
    for runtime, name in COSTS.items():
        codes = np.random.default_rng(SEED).permutation(costs.codes(name))
        took = seconds(codes[: args.codes], runtime) * PUBLISHED / args.codes / CORES
        hours += took / 3600
        figures.append(
            Figure(f"latency of {PUBLISHED} codes, 2 cores, {runtime}", f"{took / 60:.0f} min", "-", None)
        )
        rank = held_out(costs, name, codes)
        figures.append(
            Figure(f"estimate of {name}: held-out rank correlation", f"{rank:.3f}", ">= 0.95", rank >= 0.95)
        )
    both = Figure(f"latency of {PUBLISHED} codes, 2 cores, both", f"{hours:.2f} h", "< 3 h", hours < 3)
    report(f"Measured costs: {args.codes} codes measured, times scaled to all", [both, *figures])


def seconds(codes: np.ndarray, runtime: str) -> float:
    """Return the seconds of one core that measuring codes takes, the worker's start included."""
    # A bench is not refused on a busy machine: it tells how long, not how fast the networks are.
    setting = Setting(runtime=runtime, clock="cpu", max_spread=1e9)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        campaign.measure(codes, setting, Path(folder), count=0)
        return time.process_time() - start


def held_out(costs: nasbench_mr.Benchmark, name: str, codes: np.ndarray) -> float:
    """Return the rank correlation of the estimate with what was measured of the last fifth of the codes."""
    latency = np.asarray(costs.query_many(codes, name)["latency_ms"])
    part = len(codes) * 4 // 5
    expected = Estimate(name, codes[:part], latency[:part]).predict(codes[part:])[0][:, 0]
    return float(pd.Series(expected).corr(pd.Series(latency[part:]), method="spearman"))


if __name__ == "__main__":
    main()
