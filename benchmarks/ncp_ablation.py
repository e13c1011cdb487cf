"""What each setting of the published NCP does: the ablation of docs/ncp.md.

For each task of the published tables at hand and of `mini`: the published predictor, fitted on one half of
the table, guides the published loop with one setting changed at a time; LightGBM, fitted on the other half,
judges the code where the loop ends. Each table, split and task is a part, which is kept: rerun the command to
resume.

    OMP_NUM_THREADS=1 python benchmarks/ncp_ablation.py
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from common import ALL_TABLES, Figure, at_bounds, at_least, done, options, parsed, report, start, tables

import nasbench_mr
from nasbench_mr import nasbench201, predictors, search, space
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.errors import UnknownTaskError, did_you_mean
from nasbench_mr.predictors.evaluation import gather
from nasbench_mr.search.comparison import holm

#: One setting changed at a time; the first is as published.
SETTINGS: dict[str, dict[str, Any]] = {
    "as published": {},
    "rate 0.3": {"rate": 0.3},
    "rate 1": {"rate": 1.0},
    "rate 10": {"rate": 10.0},
    "target 0.03": {"target": 0.03},
    "target 0.3": {"target": 0.3},
    "cost's target 0.03": {"cost_target": 0.03},
    "cost's target 0.3": {"cost_target": 0.3},
    "without the cost": {"cost_weight": 0.0},
    "cost's weight 0.1": {"cost_weight": 0.1},
    "cost's weight 2": {"cost_weight": 2.0},
    "L1, rate 0.3": {"loss": "l1", "rate": 0.3},
    "L2": {"loss": "l2"},
    "winner takes all": {"winner": True},
    "winner takes all, rate 30": {"winner": True, "rate": 30.0},
    "rounded": {"rounded": True},
    "140 steps": {"steps": 140},
}


def main() -> None:
    parser = options(__doc__, "ncp_ablation")
    parser.add_argument("--splits", type=at_least(0), nargs="+", default=range(5), metavar="K")
    parser.add_argument("--tasks", nargs="+", metavar="T", help="(default: all)")
    args = parsed(parser)
    known = {task: bench for bench, task in every_task()}
    for task in args.tasks or ():
        if task not in known:
            raise UnknownTaskError(f"no task {task!r}: {did_you_mean(task, known)}")
    works = (
        (f"{split}-{task}", partial(part, known[task], split, task))
        for split in args.splits
        for task in args.tasks or known
    )
    frame = done(args.keep, args.out, works)
    report(
        f"The published loop's settings: {frame['task'].nunique()} tasks, {frame['split'].nunique()} splits",
        figures(frame),
    )


def every_task() -> Iterator[tuple[Benchmark, str]]:
    """Yield each task with its tables: those of `ALL_TABLES`, NAS-Bench-201 and `mini`."""
    published, mini = tables(), nasbench_mr.load("mini")
    yield from ((published, task) for task in (*ALL_TABLES, nasbench201.NAME))
    yield from ((mini, task) for task in mini.tasks)


def part(bench: Benchmark, split: int, task: str) -> pd.DataFrame:
    """Return a row for each setting: where the loop ends, in standard deviations of the table."""
    data = gather(bench, [task])
    order = np.random.default_rng(split).permutation(len(data.codes))
    guides, judges = order[: len(order) // 2], order[len(order) // 2 :]
    main, column = data.objectives()[0], data.names[data.objectives()[0]]
    sign, spread = data.tasks[0].metric().sign, float(np.nanstd(data.values[:, main]))
    own = {"seed": split, "space": data.space}
    guide = predictors.make("ncp-mlp", **own).fit(data.codes[guides], data.values[guides], data.names)
    judge = predictors.make("gbdt", **own).fit(data.codes[judges], data.values[judges][:, main], [column])
    # Operations of a cell have no order, so none of them is at a bound.
    ordered = data.space is space
    rows = []
    for name, changed in SETTINGS.items():
        out = search.ncp(guide, column, preset="paper", **changed)
        path = out.trajectory.codes[:, 0]
        believed = guide.predict(path[[0, -1]])[0][:, guide.names.index(column)]
        judged = judge.predict(path[[0, -1]])[0][:, 0]
        macs = out.trajectory.macs[[0, -1], 0]
        rows.append(
            {
                "task": task,
                "split": split,
                "setting": name,
                "believed": sign * (believed[1] - believed[0]) / spread,
                "judged": sign * (judged[1] - judged[0]) / spread,
                "macs": int(macs[1]),
                "macs_ratio": macs[1] / macs[0],
                "changed": int((path[-1] != path[0]).sum()),
                "at_bounds": at_bounds(path[-1:])[0] if ordered else float("nan"),
                "code": data.space.to_string(path[-1]),
            }
        )
    return pd.DataFrame(rows)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Return a row for each setting: means over tasks and splits, and Wilcoxon's test against the first."""
    import scipy.stats

    each = frame.groupby(["setting", "task"], sort=False)[
        ["believed", "judged", "macs_ratio", "changed", "at_bounds"]
    ].mean()
    base = each.loc["as published", "judged"]
    others = [name for name in frame["setting"].unique() if name != "as published"]
    gains = {name: each.loc[name, "judged"] - base for name in others}
    # Tasks are the blocks; the splits of one task share its codes.
    raw = [scipy.stats.wilcoxon(g).pvalue if g.any() and len(g) > 1 else 1.0 for g in gains.values()]
    corrected = dict(zip(others, holm(np.array(raw)), strict=True))
    rows = []
    for name in frame["setting"].unique():
        mean = each.loc[name].mean()
        test = f", Holm p {corrected[name]:.2g}" if name in corrected else ""
        rows.append(
            Figure(
                name,
                f"judged {mean['judged']:+.3f} (believed {mean['believed']:+.3f}), "
                f"{mean['macs_ratio']:.2f} of the start's MACs, {mean['changed']:.0f} dimensions changed, "
                f"{mean['at_bounds']:.0%} at bounds{test}",
                "-",
                None,
            )
        )
    return rows


if __name__ == "__main__":
    start(main)
