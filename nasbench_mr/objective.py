"""What a search maximises.

`Objective` adds values to the codes of a `Domain`: one task's metric or a weighted set of tasks, answered by
a table, a surrogate or live training. It counts evaluations and what they would have cost. A search sees a
domain and the values it is told, nothing else, so the same search runs on all three sources and both spaces.

    objective = Objective.table(bench, "seg", max_macs=2e9)
    search = nasbench_mr.search.make("evolution", objective, seed=0)
    nasbench_mr.search.run(search, objective, budget=300)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from nasbench_mr import cost, measured, spaces
from nasbench_mr.arrays import ByValue, Codes, Costs, Floats, keys
from nasbench_mr.checks import positive
from nasbench_mr.domain import Domain
from nasbench_mr.errors import (
    CodeNotFoundError,
    InvalidArgumentError,
    OutOfSpaceError,
)
from nasbench_mr.fronts import MAX_OBJECTIVES, Scale, front, growing
from nasbench_mr.tasks import Metric, Task

if TYPE_CHECKING:
    from nasbench_mr.benchmark import Benchmark


#: Costs that a front may have as objectives beside tasks.
COUNTS = {"macs": "multiply-accumulates", "params": "parameters"}
#: Of a task; the sum of more would be infinite.
MAX_WEIGHT = 1e100
#: One task's name, several, or names with weights; "seg/mAcc" names a metric other than the objective.
Tasks = str | Sequence[str] | Mapping[str, float]


@dataclass(frozen=True)
class Goal:
    """One term of an objective.

    Attributes:
        key: as the user wrote it, "seg" or "seg/mAcc".
        task, metric: what it names.
        weight: its weight among the terms, positive.
        mean, std: of the metric over the task's table; each term is standardised by them.
    """

    key: str
    task: Task
    metric: Metric
    weight: float = 1.0
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True, eq=False)
class Measured(ByValue):
    """A source's answer for n codes and m goals.

    Attributes:
        values: `(n, m)` in the metrics' own units; NaN where a training failed or diverged.
        cost: `(n,)` what measuring them costs, in `unit`.
        unit: "seconds", "GMACs" where no one knows the seconds, or "trainings" where no one knows either.
        share: of a full training, where it was for an epoch; None: the epoch over the last one.
    """

    values: Floats
    cost: Floats
    unit: str
    share: float | None = None


@dataclass(frozen=True, eq=False)
class Evaluation(ByValue):
    """What an objective says of n codes.

    Attributes:
        values: `(n,)` finite, larger is better; of a front `(n, m)`, see `Objective.front`.
        evaluations: `(n,)` the share of a full training that each took.
        cost: `(n,)` what each cost, in the objective's `unit`.
    """

    values: Floats
    evaluations: Floats
    cost: Floats


class Source(Protocol):
    """Answers for codes: a table, a surrogate, or training itself (`data_builders` has one)."""

    def measure(self, codes: Codes, goals: Sequence[Goal], epoch: int | None) -> Measured:
        """Measures `(n, DIM)` codes; `epoch` asks for a point of the learning curve, None for the end."""


def parse_tasks(tasks: Tasks) -> dict[str, float]:
    """Return task names and their weights, from any of the forms of `Tasks`; "seg,video" is two."""
    if isinstance(tasks, str):
        tasks = [name.strip() for name in tasks.split(",") if name.strip()]
    given = list(tasks) if isinstance(tasks, Iterable) else [None]
    if not all(isinstance(name, str) for name in given):
        raise InvalidArgumentError(f"tasks are {tasks!r}; expected names, or a mapping from names to weights")
    weights = dict(tasks) if isinstance(tasks, Mapping) else dict.fromkeys(given, 1.0)
    if not weights or len(weights) != len(given):
        raise InvalidArgumentError(f"tasks are {tasks!r}; expected distinct names, at least one")
    kind, most = f"a positive number of at most {MAX_WEIGHT:g}", MAX_WEIGHT
    return {key: positive(f"the weight of {key!r}", weight, kind, most) for key, weight in weights.items()}


def goals(bench: Benchmark, tasks: Tasks, *, costs: bool = False) -> tuple[Goal, ...]:
    """Return the terms that `tasks` names, standardised by the benchmark's tables.

    Args:
        costs: whether "macs" and "params" are names as well: of the codes of the first task.

    Raises:
        UnknownTaskError, UnknownMetricError: the benchmark has no such task or metric.
        InvalidArgumentError: the tasks are of different search spaces, or a task has no usable value.
    """
    found: list[Goal] = []
    weights = parse_tasks(tasks)
    first = next((key for key in weights if not (costs and key in COUNTS)), None)
    for key, weight in weights.items():
        if costs and key in COUNTS:
            if first is None:
                raise InvalidArgumentError(f"{', '.join(weights)} are costs alone; expected a task as well")
            metric = Metric(key, COUNTS[key], "min", lower=0.0, upper=None)
            found.append(Goal(key, bench.task(first.partition("/")[0]), metric, weight=weight))
            continue
        name, _, metric_name = key.partition("/")
        task = bench.task(name)
        metric = task.metric(metric_name or None)
        values = bench.query_many(
            bench.codes(task.name), task.name, metrics=(metric.name,), source="table", missing="nan"
        )[metric.name]
        values = values[np.isfinite(values)]
        if not len(values):
            raise InvalidArgumentError(f"the table of {task.name!r} has no value of {metric.name!r}")
        std = float(values.std()) or 1.0
        found.append(Goal(key, task, metric, weight=weight, mean=float(values.mean()), std=std))
    if len({goal.task.space for goal in found}) > 1:
        pairs = ", ".join(f"{goal.key} ({goal.task.space})" for goal in found)
        raise InvalidArgumentError(f"tasks of different search spaces: {pairs}; expected tasks of one space")
    return tuple(found)


def combine(values: Floats, terms: Sequence[Goal]) -> Floats:
    """`(n, m)` metrics to the `(n,)` values that searches maximise.

    One goal: its metric in its own unit, negated where smaller is better. Several: the weighted mean of the
    standardised metrics, larger is better.
    """
    if len(terms) == 1:
        return values[:, 0] * terms[0].metric.sign
    offset, scale = affine(terms)
    # A matrix product would round one row otherwise than the same row among others, and ties would break.
    return np.asarray(((np.ascontiguousarray(values) - offset) * scale).sum(axis=1))


def affine(terms: Sequence[Goal]) -> tuple[Floats, Floats]:
    """`(m,)` offsets and factors, so that the standardised objective is `(values - offset) @ factor`."""
    total = sum(goal.weight for goal in terms)
    offset = np.array([goal.mean for goal in terms])
    return offset, np.array([g.weight / total * g.metric.sign / g.std for g in terms])


class Objective(ByValue):
    """A function of codes to maximise, on a domain, that counts what it is asked.

    Make one with `Objective.table`, `Objective.surrogate` or `Objective.live`.

    >>> objective = Objective.table(nasbench_mr.load("mini"), "mini-seg", max_macs=150e6)
    >>> trace = search.run(search.make("random", objective, seed=0), objective, budget=20)
    >>> objective.evaluations, bool(trace.best_value <= objective.best())
    (20.0, True)

    Attributes:
        source: what answers.
        domain: the codes it answers for.
        goals: its terms (`combine` says how they add up).
        evaluations: full trainings asked so far; a training cut short counts as its share.
        spent: their simulated cost, in `unit` ("seconds" where the source knows them; see `Measured`).
        epochs: the points of the learning curves that may be asked for, rising; empty without curves.
        scale: where its terms are a front: not added up, but each an objective from 0 (the worst tabulated
            value) to 1 (the best), costs by their logarithms (`fronts`). Its values are `(n, m)` then, and
            the best value is a hypervolume. None: one value a code.
    """

    def __init__(
        self,
        source: Source,
        domain: Domain,
        terms: Sequence[Goal],
        epochs: Sequence[int] = (),
        *,
        scale: Scale | None = None,
    ):
        self.source, self.domain, self.goals = source, domain, tuple(terms)
        self.scale = scale
        self.epochs = tuple(sorted(epochs))
        self.evaluations = 0.0
        self.spent = 0.0
        self.unit = ""

    @classmethod
    def table(
        cls,
        bench: Benchmark,
        tasks: Tasks,
        *,
        max_macs: float | None = None,
        max_params: float | None = None,
        limits: Mapping[str, float] | None = None,
        fixed: Mapping[str, Any] | None = None,
        distinct: bool = False,
        front: bool = False,
    ) -> Objective:
        """Return the tabulated values; the domain is the codes that have one for every task.

        Args:
            max_macs, max_params, limits, fixed: as `Benchmark.best` and `Domain` have them.
            front: the terms are objectives side by side; "macs" and "params" may be among them.
            distinct: of codes that are one network (isomorphic cells of NAS-Bench-201), only the first.

        Raises:
            UnknownTaskError, UnknownMetricError, InvalidArgumentError: see `goals`.
            InfeasibleError: no tabulated code meets the limits.
        """
        terms = goals(bench, tasks, costs=front)
        space = spaces.get(terms[0].task.space)
        source = TableSource(bench, terms)
        rows = source.networks() if distinct else slice(None)
        domain = Domain(
            space,
            source.codes[rows],
            macs=source.macs[rows],
            params=source.params[rows],
            **measured.limits(bench, limits, max_macs, max_params).of_domain(),
            fixed=fixed,
        )
        return cls(source, domain, terms, source.epochs, scale=_scale(terms, source) if front else None)

    @classmethod
    def surrogate(
        cls,
        bench: Benchmark,
        tasks: Tasks,
        *,
        max_macs: float | None = None,
        max_params: float | None = None,
        limits: Mapping[str, float] | None = None,
        fixed: Mapping[str, Any] | None = None,
        front: bool = False,
    ) -> Objective:
        """Return the release's surrogates; the domain is the whole space.

        Args:
            front: as for `table`; the scale is that of the tabulated values.

        Raises:
            SurrogateNotFoundError: the release has none for one of the tasks.
            UnknownTaskError, UnknownMetricError, InvalidArgumentError, InfeasibleError: as for `table`.
        """
        terms = goals(bench, tasks, costs=front)
        return cls(
            SurrogateSource(bench, terms),
            whole_space(bench, terms, max_macs=max_macs, max_params=max_params, limits=limits, fixed=fixed),
            terms,
            scale=_scale(terms, TableSource(bench, terms)) if front else None,
        )

    @classmethod
    def live(
        cls, source: Source, terms: Sequence[Goal], domain: Domain | None = None, epochs: Sequence[int] = ()
    ) -> Objective:
        """Anything that trains; `terms` say what it measures.

        A goal's mean and std may be those of a table, or stay 0 and 1 where there is one goal.

        Raises:
            InvalidArgumentError: there is no goal, or nothing that a failed training could count as: neither
                the metric's worst bound nor a table's mean and std.
        """
        if not terms:
            raise InvalidArgumentError("a live objective needs at least one goal")
        for goal in terms:
            bound = "lower" if goal.metric.sign > 0 else "upper"
            if getattr(goal.metric, bound) is None and (goal.mean, goal.std) == (0.0, 1.0):
                raise InvalidArgumentError(
                    f"the metric {goal.metric.name!r} has no {bound} bound, which a failed training would "
                    f"count as: give it one (Metric(..., {bound}=...)), or its goal a table's mean and std"
                )
        return cls(source, domain or Domain(spaces.get(terms[0].task.space)), terms, epochs)

    def evaluate(self, codes: Codes, epoch: int | None = None) -> Floats:
        """Return the values of `(n, DIM)` codes of the domain: `(n,)`, of a front `(n, m)`, all finite.

        A training that failed or diverged counts as the worst value that its metric can have.

        Args:
            epoch: a point of the learning curve; None for the end.

        Raises:
            OutOfSpaceError: a code is not in the domain.
            InvalidArgumentError: there is no such epoch.
        """
        return self.measure(codes, epoch).values

    def measure(self, codes: Codes, epoch: int | None = None) -> Evaluation:
        """`evaluate`, with what each code cost."""
        codes = self.domain.space.check(codes)
        if epoch is not None and epoch not in self.epochs:
            listed = ", ".join(map(str, self.epochs)) or "none: there are no learning curves"
            raise InvalidArgumentError(f"no epoch {epoch}; expected one of: {listed}")
        outside = ~self.domain.contains(codes)
        if outside.any():
            raise OutOfSpaceError(
                f"code {codes[outside][0].tolist()} is not in the domain: not tabulated, or beyond the limits"
            )
        measured = self.source.measure(codes, self.goals, epoch)
        share = measured.share
        if share is None:
            share = 1.0 if epoch is None else epoch / self.epochs[-1]
        self.evaluations += len(codes) * share
        self.spent += float(measured.cost.sum())
        self.unit = measured.unit
        return Evaluation(self._combined(measured.values), np.full(len(codes), share), measured.cost)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what is told of one code: (), or (m,) of a front."""
        return () if self.scale is None else (len(self.goals),)

    def _combined(self, values: Floats) -> Floats:
        """Return what is told of `(n, m)` metrics."""
        if self.scale is not None:
            return self.scale(values)
        return combine(np.where(np.isfinite(values), values, self._worst), self.goals)

    @cached_property
    def _worst(self) -> Floats:
        return np.array([worst_value(goal) for goal in self.goals])

    def best(self) -> float:
        """Return the largest value in the domain, or the hypervolume of its front: of a table, else NaN.

        Analysis only: nothing is charged.
        """
        if self.scale is not None:
            there = self.front()
            return math.nan if there is None else float(growing(self.scale(there[1]))[-1])
        found = self.best_measured()
        return math.nan if found is None else float(combine(found[1][None], self.goals)[0])

    def front(self) -> tuple[Codes, Floats] | None:
        """Return the domain's codes that no other one beats, and their `(n, m)` metrics, by the first goal.

        None where no table knows. Analysis only: nothing is charged.
        """
        if not isinstance(self.source, TableSource) or self.domain.codes is None:
            return None
        values = self.source.measure(self.domain.codes, self.goals, None).values
        scale = _scale(self.goals, self.source) if self.scale is None else self.scale
        rows = front(scale(values))
        rows = rows[np.argsort(values[rows, 0], kind="stable")]
        return self.domain.codes[rows], values[rows]

    def best_measured(self) -> tuple[tuple[int, ...], Floats] | None:
        """Return the domain's code of the largest value, and its `(m,)` metrics; None where no table knows.

        With several goals it is one code that is best jointly. Analysis only: nothing is charged.
        """
        if not isinstance(self.source, TableSource) or self.domain.codes is None:
            return None
        values = self.source.measure(self.domain.codes, self.goals, None).values
        row = int(combine(values, self.goals).argmax())
        return tuple(self.domain.codes[row].tolist()), values[row]


def _scale(terms: Sequence[Goal], table: TableSource) -> Scale:
    """Return the scale of a front's 2 to `MAX_OBJECTIVES` terms: that of the codes that the tables know."""
    if not 2 <= len(terms) <= MAX_OBJECTIVES:
        raise InvalidArgumentError(
            f"a front of {', '.join(goal.key for goal in terms)}; expected 2 to {MAX_OBJECTIVES} objectives"
        )
    names = [goal.key for goal in terms]
    sign = np.array([float(goal.metric.sign) for goal in terms])
    return Scale.of(table.values, sign, np.array([is_cost(goal) for goal in terms]), names)


def is_cost(goal: Goal) -> bool:
    """Whether a goal is a cost, "macs", "params" or a measured one such as "latency_ms@cpu"."""
    return goal.key in COUNTS or "@" in goal.task.name


def epoch_alike(epoch: int, total: int, own: int) -> int:
    """Where a training of `own` epochs is stopped when one of `total` is stopped at `epoch`."""
    return max(1, round(epoch / total * own))


def worst_value(goal: Goal) -> float:
    """Return the metric's worst bound; ten standard deviations from the mean where it has none."""
    bound = goal.metric.lower if goal.metric.sign > 0 else goal.metric.upper
    return bound if bound is not None else goal.mean - goal.metric.sign * 10 * goal.std


def whole_space(
    bench: Benchmark,
    terms: Sequence[Goal],
    *,
    max_macs: float | None = None,
    max_params: float | None = None,
    limits: Mapping[str, float] | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> Domain:
    """Return the whole space of the terms' tasks; one without a cost formula is as its table lists it.

    Of that list only the codes count whose "macs" and "params" are known, where these are among the terms.
    """
    space = spaces.get(terms[0].task.space)
    bounds = measured.limits(bench, limits, max_macs, max_params).of_domain()
    if cost.of(space) is not None:
        return Domain(space, **bounds, fixed=fixed)
    table = TableSource(bench, [terms[0], *(goal for goal in terms[1:] if goal.key in COUNTS)])
    return Domain(space, table.codes, macs=table.macs, params=table.params, **bounds, fixed=fixed)


def _whole(column: Floats) -> Costs:
    """Return a column of integers as such, if it has no unknown values."""
    return column.astype(np.int64) if np.isfinite(column).all() else column


class TableSource(ByValue, spaces.Spacious):
    """Answers from the tables, for the codes that have a value for every goal.

    Attributes:
        codes: `(n, DIM)` those codes.
        values: `(n, m)` the goals' values.
        macs, params: `(n,)` their costs; NaN where the table does not know them.
        epochs: points of the learning curves that all these codes have, rising; empty without curves. With
            several terms they are in epochs of the first, and the others are stopped alike.
    """

    def __init__(self, bench: Benchmark, terms: Sequence[Goal]):
        codes = bench.codes(terms[0].task.name)
        columns = [self._goal(bench, codes, goal) for goal in terms]
        values = np.stack(columns, axis=1)
        known = np.isfinite(values).all(axis=1)
        if not known.any():
            raise InvalidArgumentError(
                f"no code is tabulated for all of {', '.join(goal.key for goal in terms)}"
            )
        self.codes, self.values = codes[known], values[known]
        self.space = spaces.get(terms[0].task.space)
        costs = cost.of(terms[0].task.space)
        if costs is not None:
            self.macs: Costs = costs.macs(self.codes)
            self.params: Costs = costs.params(self.codes)
        else:
            first = terms[0].task.name
            self.macs = _whole(self._column(bench, self.codes, first, "macs"))
            self.params = _whole(self._column(bench, self.codes, first, "params"))
        #: `(m,)` 1 for what is trained, 0 for costs, which are known without.
        self._trained = np.array([float(not is_cost(goal)) for goal in terms])
        seconds = [
            np.zeros(len(self.codes))
            if is_cost(goal)
            else self._column(bench, self.codes, goal.task.name, "train_seconds")
            for goal in terms
        ]
        self._seconds = np.stack(seconds, axis=1)
        self._rows = {key: row for row, key in enumerate(keys(self.codes))}
        self._curves = self._read_curves(bench, terms)
        # One unit for all epochs, as their costs are added up.
        times = [self._seconds, *(seconds for _, seconds, _ in self._curves.values())]
        self._timed = all(bool(np.isfinite(seconds).all()) for seconds in times)

    def networks(self) -> npt.NDArray[np.int64]:
        """Return the row of the first code of each network, rising."""
        same = spaces.canonical(self.space, self.codes)
        return np.sort(np.unique(same, axis=0, return_index=True)[1])

    @classmethod
    def _goal(cls, bench: Benchmark, codes: Codes, goal: Goal) -> Floats:
        """Return what a goal is of codes; macs and params as limits count them."""
        exact = cost.of(goal.task.space) if goal.key in COUNTS else None
        if exact is not None:
            counts: Floats = getattr(exact, goal.key)(codes).astype(np.float64)
            return counts
        return cls._column(bench, codes, goal.task.name, goal.metric.name)

    @staticmethod
    def _column(bench: Benchmark, codes: Codes, task: str, name: str) -> Floats:
        column: Floats = bench.query_many(codes, task, metrics=(name,), source="table", missing="nan")[name]
        return column

    def _read_curves(
        self, bench: Benchmark, terms: Sequence[Goal]
    ) -> dict[int, tuple[Floats, Floats, Floats]]:
        """By epoch of the first term: `(n, m)` values and seconds, `(m,)` shares of full trainings."""
        curves = [self._read_curve(bench, goal) for goal in terms]
        if not all(curves):
            return {}
        totals = [max(curve) for curve in curves]
        found = {}
        for epoch in curves[0]:
            own = [epoch_alike(epoch, totals[0], total) for total in totals]
            if all(e in curve for e, curve in zip(own, curves, strict=True)):
                points = [curve[e] for e, curve in zip(own, curves, strict=True)]
                values, seconds = np.stack(points, axis=-1)
                shares = np.array(own) / totals
                # A curve without seconds: every epoch takes as long as any other.
                found[epoch] = values, np.where(np.isnan(seconds), self._seconds * shares, seconds), shares
        return found

    def _read_curve(self, bench: Benchmark, goal: Goal) -> dict[int, Floats]:
        """By epoch at which every code has been measured: `(2, n)` values and seconds, NaN where unknown."""
        try:
            curves = bench.curves(goal.task.name, ok=True)
        except CodeNotFoundError:
            return {}
        if goal.metric.name not in curves:
            return {}
        names = list(spaces.get(goal.task.space).NAMES)
        curves = curves if "seconds" in curves else curves.assign(seconds=np.nan)
        columns = [goal.metric.name, "seconds"]
        means = curves.groupby([*names, "epoch"])[columns].mean().reset_index()
        rows = np.array(
            [self._rows.get(key, -1) for key in keys(spaces.get(goal.task.space).check(means[names]))]
        )
        epochs, found = means["epoch"].to_numpy(), means[columns].to_numpy(np.float64).T
        by_epoch = {}
        for epoch in np.unique(epochs).tolist():
            here = (epochs == epoch) & (rows >= 0)
            points = np.full((2, len(self.codes)), np.nan)
            points[:, rows[here]] = found[:, here]
            if np.isfinite(points[0]).all():
                by_epoch[epoch] = points
        return by_epoch

    @property
    def epochs(self) -> tuple[int, ...]:
        return tuple(sorted(self._curves))

    def measure(self, codes: Codes, goals: Sequence[Goal], epoch: int | None) -> Measured:
        rows = [self._rows[key] for key in keys(codes)]
        whole = self.values, self._seconds, self._trained
        values, seconds, shares = whole if epoch is None else self._curves[epoch]
        # A cost alone is not trained, but asked.
        share = float(shares.sum() / self._trained.sum()) if self._trained.any() else 1.0
        if self._timed:
            return Measured(values[rows], seconds[rows].sum(axis=1), "seconds", share)
        if np.isfinite(self.macs).all():
            return Measured(values[rows], self.macs[rows] / 1e9 * shares.sum(), "GMACs", share)
        return Measured(values[rows], np.full(len(rows), shares.sum()), "trainings", share)


class SurrogateSource(ByValue):
    """Answers from the release's surrogates, for any code; macs and params by formula, else by the table."""

    def __init__(self, bench: Benchmark, terms: Sequence[Goal]):
        self.bench = bench
        # One question tells whether the surrogates are there, and know what is asked for.
        for goal in terms:
            known = bench.query(bench.codes(goal.task.name)[0], goal.task.name, source="surrogate")
            if goal.key not in COUNTS:
                known[goal.metric.name]

    def _compared(self) -> dict[str, Any]:
        return {"bench": str(self.bench)}

    def measure(self, codes: Codes, goals: Sequence[Goal], epoch: int | None) -> Measured:
        costs = cost.of(goals[0].task.space)
        columns = []
        for goal in goals:
            name = goal.metric.name
            if goal.key in COUNTS and costs is not None:
                columns.append(getattr(costs, name)(codes).astype(np.float64))
            else:
                source = "table" if goal.key in COUNTS else "surrogate"
                asked = self.bench.query_many(codes, goal.task.name, (name,), source=source)
                columns.append(asked[name])
        values = np.stack(columns, axis=1)
        trained = sum(not is_cost(goal) for goal in goals)
        if costs is None:
            return Measured(values, np.full(len(codes), float(trained)), "trainings")
        return Measured(values, costs.macs(codes) / 1e9 * trained, "GMACs")
