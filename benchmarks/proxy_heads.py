"""Do zero-cost proxies depend on the head? The published codes' are of one head: docs/costs.md.

Every 26th published code has its proxies computed with the networks of four tasks, and with another seed of
the first. Kendall's tau says how alike the ranks are, and what each task's own head gives for its metric.
A head and seed is a part, which is kept: rerun the command to resume.

    OMP_NUM_THREADS=1 python benchmarks/proxy_heads.py
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from common import at_least, done, options, parsed, start, tables

from nasbench_mr import library, space
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.cli.command import format_table
from nasbench_mr.predictors import proxy_tables, zero_cost
from nasbench_mr.predictors.base import OF_NETWORKS
from nasbench_mr.tasks import Task

#: The first is the packaged table's head; its input is that table's as well.
HEADS = (("cls-50-1000", 0), ("cls-50-1000", 1), ("seg", 0), ("video", 0), ("3ddet", 0))
SIZE = 32


def main() -> None:
    parser = options(__doc__, "proxy_heads")
    parser.add_argument("--every", type=at_least(1), default=26, metavar="N", help="of the published codes")
    args = parsed(parser)
    bench = tables()
    works = (
        (f"{head}-{seed}-{args.every}", partial(part, bench, head, seed, args.every)) for head, seed in HEADS
    )
    frame = done(args.keep, args.out, works)
    for title, rows in views(frame, bench).items():
        print(f"\n## {title}\n\n{format_table(rows)}", flush=True)


def part(bench: Benchmark, head: str, seed: int, every: int) -> pd.DataFrame:
    """Return the proxies of some codes with a head: a row for each code."""
    codes = bench.codes("seg")[::every]
    found = zero_cost.compute(codes, head, names=OF_NETWORKS, seed=seed, size=SIZE)
    return pd.DataFrame(
        {"head": head, "seed": seed, "code": [space.to_string(code) for code in codes], **found}
    )


def views(frame: pd.DataFrame, bench: Benchmark) -> dict[str, list[dict[str, Any]]]:
    """Return the tables that people read: rows by title."""
    by_head = {
        key: rows.set_index("code")[[*OF_NETWORKS]]
        for key, rows in frame.groupby(["head", "seed"], sort=False)
    }
    base_head, _ = HEADS[0]
    base = by_head[HEADS[0]]
    alike = [
        {"head": head, "seed": seed, **base.corrwith(proxies, method="kendall")}
        for (head, seed), proxies in by_head.items()
        if (head, seed) != HEADS[0]
    ]
    useful = []
    for task in map(bench.task, bench.tasks):
        heads = [
            head for head, seed in by_head if seed == 0 and _networks(library.task(head)) == _networks(task)
        ]
        if heads in ([], [base_head]):
            continue
        values = bench.query_many([*base.index], task.name, (task.objective,))[task.objective]
        metric = pd.Series(values, base.index)
        useful += [
            {"task": task.name, "head": head, **by_head[head, 0].corrwith(metric, method="kendall")}
            for head in (*heads, base_head)
        ]
    codes = np.array([space.parse(code) for code in base.index], np.int16)
    found = proxy_tables.find(library.task(base_head), library.installed())
    packaged = pd.DataFrame({name: found[name].lookup(codes, name) for name in OF_NETWORKS}, base.index)
    return {
        "As with the first head": alike,
        "As in the packaged table": [{**base.corrwith(packaged, method="kendall")}],
        "Against the task's own metric": useful,
    }


def _networks(task: Task) -> tuple[Any, ...]:
    """Return what tells a task's networks from another's."""
    return task.space, task.problem, task.num_classes, task.width_mult


if __name__ == "__main__":
    start(main)
