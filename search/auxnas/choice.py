"""What a benchmark's tables say before a training: which tasks may help, and which code to train.

`rank_auxiliary` ranks tasks as helpers for another; `choose_code` takes a code for the primary's backbone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nasbench_mr import objective
from nasbench_mr.analysis import kendall_tau
from nasbench_mr.checks import positive
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.search.ncp import ncp

if TYPE_CHECKING:
    from nasbench_mr.benchmark import Benchmark


@dataclass(frozen=True)
class Helper:
    """What a benchmark's tables say about a task as a helper for another; see `rank_auxiliary`.

    Attributes:
        task: the candidate.
        score: mean of `correlation` and `shared`.
        correlation: Kendall's tau of the two objectives over the codes both have.
        shared: share of the primary's best codes that are also among the candidate's.
        regret: how much of the primary's objective the candidate's best code loses, in its unit.
        codes: how many codes both have.
    """

    task: str
    score: float
    correlation: float
    shared: float
    regret: float
    codes: int


def rank_auxiliary(bench: Benchmark, primary: str, top: float = 0.1) -> list[Helper]:
    """Return the tasks of the primary's space as helpers for it, the most promising first.

    Tables tell which architectures suit a task. Tasks that want the same architectures may need similar
    features, and then one's labels may help the other's training. The ranking knows nothing else: it has
    seen no training with both labels. Tasks measured on other images rank as well as any. Two settings of
    one data set come first, although the second adds nothing. Where trials are noisy or few, the ranking is
    noisy. Train with `aux_nas`, with a task and without, to find out whether it helps.

    Args:
        top: the share of codes that counts as best.

    Raises:
        UnknownTaskError: no such task.
        InvalidArgumentError: `top` is not in (0, 1], or no other task shares codes with the primary.
    """
    top = positive("top", top, "a share above 0, at most 1", 1)
    task = bench.task(primary)
    helpers = []
    for name in bench.tasks:
        other = bench.task(name)
        if name == task.name or other.space != task.space:
            continue
        codes = bench.codes(task.name)
        x, y = (
            t.metric().sign
            * bench.query_many(codes, t.name, (t.objective,), source="table", missing="nan")[t.objective]
            for t in (task, other)
        )
        known = np.isfinite(x) & np.isfinite(y)
        x, y = x[known], y[known]
        if len(x) < 2:
            continue
        count = max(1, round(top * len(x)))
        best_x, best_y = (np.argsort(-v, kind="stable")[:count] for v in (x, y))
        shared = len(np.intersect1d(best_x, best_y)) / count
        tau = kendall_tau(x, y)
        score = (tau + shared) / 2 if np.isfinite(tau) else shared / 2
        regret = float(x.max() - x[best_y[0]])
        helpers.append(Helper(name, score, tau, shared=shared, regret=regret, codes=len(x)))
    if not helpers:
        raise InvalidArgumentError(f"no other task of {bench} shares codes with {task.name!r}")
    return sorted(helpers, key=lambda h: -h.score)


def choose_code(
    bench: Benchmark,
    tasks: objective.Tasks,
    *,
    max_macs: float | None = None,
    max_params: float | None = None,
    joint: bool = False,
    seed: int = 0,
) -> tuple[int, ...]:
    """Return a code for the primary's backbone: a task's best in the table, or NCP's for one task or several.

    Args:
        tasks: tasks of the benchmark, which need not be those that are trained.
        max_macs, max_params: limits, inclusive.
        joint: let NCP find a code for all of `tasks` instead of taking the best of the only one.
        seed: of NCP.

    Raises:
        InvalidArgumentError: there are several tasks, but `joint` is not set.
    """
    names = objective.parse_tasks(tasks)
    if len(names) > 1 and not joint:
        raise InvalidArgumentError(f"a table has the best code of one task, not of {len(names)}: set joint")
    if joint:
        return ncp(bench, names, max_macs=max_macs, max_params=max_params, seed=seed).best
    return bench.best(next(iter(names)), 1, max_macs=max_macs, max_params=max_params)[0].code
