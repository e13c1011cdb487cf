"""`simulate`: a search on several workers at once, on a simulated clock.

    objective = Objective.table(bench, "mini-seg")
    run = simulate(make("halving", objective, seed=0), objective, workers=4, seconds=600)
    run.best_value, run.finish[-1], run.at([60, 300, 600])

A worker asks for a code as soon as it is free, trains it for as long as the table says that it took, and
tells the value when that time has passed. So trainings end in another order than they began, as in an
asynchronous run on a cluster, and a search learns of each only then. Hours take a fraction of a second.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np

from nasbench_mr.arrays import Codes, Floats, Ints, key
from nasbench_mr.checks import at_least, positive
from nasbench_mr.errors import ExhaustedError, InvalidArgumentError
from nasbench_mr.objective import Objective
from nasbench_mr.search.base import Searcher, Trace


@dataclass(frozen=True, eq=False)
class Simulation(Trace):
    """What a simulated run measured, in the order in which trainings ended; see `Trace` for the other arrays.

    Attributes:
        start, finish: `(n,)` when each training began and ended, in `unit` since the run's start.
        worker: `(n,)` the worker that trained it, from 0.
        workers: how many there were.
    """

    start: Floats
    finish: Floats
    worker: Ints
    workers: int

    def at(self, times: object) -> Floats:
        """Return the largest value of a full training that had ended at some times; NaN before the first.

        Of a front it is the hypervolume by then.

        Args:
            times: `(m,)` in `unit` since the start.
        """
        last = np.searchsorted(self.finish, np.asarray(times, np.float64), side="right") - 1
        if not len(self.best):
            return np.full(last.shape, math.nan)
        return np.where(last >= 0, self.best[np.maximum(last, 0)], math.nan)

    @property
    def utilisation(self) -> float:
        """Share of the workers' time, until the last training ended, that trainings took; NaN without any."""
        time = self.workers * self.finish.max(initial=0.0)
        return float((self.finish - self.start).sum() / time) if time else math.nan


def simulate(
    searcher: Searcher,
    objective: Objective,
    *,
    workers: int = 4,
    seconds: float = math.inf,
    budget: float = math.inf,
    resume: bool = False,
) -> Simulation:
    """Let a search ask an objective from several workers at once, on a simulated clock.

    Equal searches and objectives give equal runs; where trainings end at the same time, the one that began
    first is told first. What the clock counts is the objective's `unit`: seconds where its source knows them.

    Args:
        searcher: as `search.make` gives it.
        objective: what answers; its costs are how long trainings take.
        workers: trainings at once.
        seconds: when the clock stops; the search is not told of trainings that end later.
        budget: full trainings to begin, in all; shorter ones count as their share.
        resume: whether a code that is trained for longer continues where it stopped, and so takes the
            difference alone, as `halving` with checkpoints does; else it starts anew.

    Raises:
        InvalidArgumentError: a number is not positive; or there is no limit and the domain is not a list.
    """
    workers = at_least(1, "workers", workers)
    seconds, budget = positive("seconds", seconds), positive("budget", budget)
    if math.isinf(seconds) and math.isinf(budget) and objective.domain.codes is None:
        raise InvalidArgumentError("a simulation on a whole space needs a limit: give seconds, or budget")
    idle = [*range(workers)]
    #: What runs: when it ends, the order of its start, and the rest.
    running: list[tuple[float, int, _Training]] = []
    done: list[tuple[float, _Training]] = []
    trained: dict[bytes, tuple[float, float]] = {}
    now = used = 0.0
    begun = 0
    while True:
        # As `run` does: shares such as 1/3 add up to a hair less than the budget.
        while idle and used < budget - 1e-9:
            try:
                code = searcher.ask(1)
            except ExhaustedError:
                break  # `halving` may have more to ask when another training ends.
            epoch = int(searcher.fidelity[0])
            found = objective.measure(code, epoch or None)
            share, cost = float(found.evaluations[0]), float(found.cost[0])
            before = trained.get(key(code[0]), (0.0, 0.0)) if resume else (0.0, 0.0)
            trained[key(code[0])] = share, cost
            share, cost = share - before[0], max(0.0, cost - before[1])
            training = _Training(code, found.values, epoch, share, now, heapq.heappop(idle))
            heapq.heappush(running, (now + cost, begun, training))
            begun += 1
            used += share
        if not running or running[0][0] > seconds:
            break
        now, _, training = heapq.heappop(running)
        searcher.tell(training.code, training.values)
        heapq.heappush(idle, training.worker)
        done.append((now, training))
    return _simulation(done, objective, workers)


@dataclass(frozen=True, eq=False)
class _Training:
    """A training on a worker: its code, `(1, DIM)`, the values it will tell, `(1,)` or of a front `(1, m)`,
    and its share of a full one.
    """

    code: Codes
    values: Floats
    epoch: int
    share: float
    start: float
    worker: int


def _simulation(done: list[tuple[float, _Training]], objective: Objective, workers: int) -> Simulation:
    finish = np.array([time for time, _ in done])
    ended = [training for _, training in done]
    start = np.array([training.start for training in ended])
    none = np.empty((0, objective.domain.space.DIM), np.int16)
    nothing = np.empty((0, *objective.shape))
    return Simulation(
        codes=np.concatenate([none, *(training.code for training in ended)]),
        values=np.concatenate([nothing, *(training.values for training in ended)]),
        fidelity=np.array([training.epoch for training in ended], np.int64),
        evaluations=np.cumsum([training.share for training in ended]),
        spent=np.cumsum(finish - start),
        unit=objective.unit,
        start=start,
        finish=finish,
        worker=np.array([training.worker for training in ended], np.int64),
        workers=workers,
    )
