"""Find one network for two tasks under a cost limit, and build it in PyTorch.

    python examples/network_for_two_tasks.py --max-macs 150e6

Runs on the embedded release; on the published tables with
--release nasbench-mr --tasks seg video --max-macs 2e9.
"""

from __future__ import annotations

import argparse

import torch

import nasbench_mr
from nasbench_mr import cost, search, space
from nasbench_mr.network import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", default="mini")
    parser.add_argument("--tasks", nargs=2, default=["mini-seg", "mini-video"])
    parser.add_argument("--max-macs", type=float, default=150e6)
    args = parser.parse_args()
    bench = nasbench_mr.load(args.release)
    found = search.ncp(bench, args.tasks, max_macs=args.max_macs, seed=0)
    print(space.to_string(found.best))
    print(f"{cost.macs(found.best)[0]:,} MACs of {args.max_macs:,.0f} allowed")
    for task, mean, std in zip(found.names, found.predicted[0], found.std[0], strict=True):
        metric = bench.task(task).objective
        best = bench.best(task, 1, max_macs=args.max_macs)[0][metric]
        print(f"{task}: {metric} {mean:.1f} +- {std:.1f} predicted, {best:.1f} is the best tabulated")
    net = build(found.best, args.tasks[0]).eval()
    with torch.no_grad():
        print(f"its output for a 64 x 80 image: {tuple(net(torch.zeros(1, 3, 64, 80)).shape)}")


if __name__ == "__main__":
    main()
