"""What a search maximises, and the codes it may ask for.

`Domain` is the set of codes: a whole space, or the codes of a table, under limits on MACs and parameters.
`Objective` adds the values: one task's metric or a weighted set of tasks, answered by a table, a surrogate
or live training. It counts evaluations and what they would have cost. A search sees a domain and the
values it is told, nothing else, so the same search runs on all three sources and on both spaces.

    objective = Objective.table(bench, "seg", max_macs=2e9)
    search = nasbench_mr.search.make("evolution", objective, seed=0)
    nasbench_mr.search.run(search, objective, budget=300)
"""

from __future__ import annotations

import importlib
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from nasbench_mr import checks, cost, spaces
from nasbench_mr.errors import (
    CodeNotFoundError,
    InfeasibleError,
    InvalidArgumentError,
    OutOfSpaceError,
    did_you_mean,
)
from nasbench_mr.tasks import Metric, Task

if TYPE_CHECKING:
    from nasbench_mr.benchmark import Benchmark

Codes = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
#: Whole numbers, or floats where some are unknown (NaN).
Costs = npt.NDArray[Any]

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


@dataclass(frozen=True)
class Measured:
    """A source's answer for n codes and m goals.

    Attributes:
        values: `(n, m)` in the metrics' own units; NaN where a training failed or diverged.
        cost: `(n,)` what measuring them costs, in `unit`.
        unit: "seconds", or "GMACs" where no one knows the seconds.
        share: of a full training, where it was for an epoch; None: the epoch over the last one.
    """

    values: Floats
    cost: Floats
    unit: str
    share: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """What an objective says of n codes.

    Attributes:
        values: `(n,)` finite, larger is better.
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
    """Task names and their weights, from any of the forms of `Tasks`; "seg,video" is two.

    Raises:
        InvalidArgumentError: there is none, one is named twice, or a weight is not positive and finite.
    """
    if isinstance(tasks, str):
        tasks = [name.strip() for name in tasks.split(",") if name.strip()]
    given = list(tasks) if isinstance(tasks, Iterable) else [None]
    if not all(isinstance(name, str) for name in given):
        raise InvalidArgumentError(f"tasks are {tasks!r}; expected names, or a mapping from names to weights")
    weights = dict(tasks) if isinstance(tasks, Mapping) else dict.fromkeys(given, 1.0)
    if not weights or len(weights) != len(given):
        raise InvalidArgumentError(f"tasks are {tasks!r}; expected distinct names, at least one")
    for key, weight in weights.items():
        number = isinstance(weight, (int, float, np.number)) and not isinstance(weight, bool)
        if not (number and weight > 0 and math.isfinite(weight)):
            raise InvalidArgumentError(f"the weight of {key!r} is {weight!r}; expected a positive number")
    return weights


def goals(bench: Benchmark, tasks: Tasks) -> tuple[Goal, ...]:
    """The terms that `tasks` names, standardised by the benchmark's tables.

    Raises:
        UnknownTaskError, UnknownMetricError: the benchmark has no such task or metric.
        InvalidArgumentError: the tasks are of different search spaces, or a task has no usable value.
    """
    found = []
    for key, weight in parse_tasks(tasks).items():
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
        found.append(Goal(key, task, metric, weight, float(values.mean()), std))
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
    return np.asarray((values - offset) @ scale)


def affine(terms: Sequence[Goal]) -> tuple[Floats, Floats]:
    """`(m,)` offsets and factors, so that the standardised objective is `(values - offset) @ factor`."""
    total = sum(goal.weight for goal in terms)
    offset = np.array([goal.mean for goal in terms])
    return offset, np.array([g.weight / total * g.metric.sign / g.std for g in terms])


class Domain:
    """The codes a search may ask for.

    Args:
        space: the search space (`spaces.get`); by default that of the 27 integers.
        codes: `(n, DIM)` distinct codes, if only these may be asked for; else the whole space.
        macs, params: `(n,)` of `codes`; needed in a space without a cost formula.
        max_macs, max_params: limits, both inclusive. MACs of the 27 integers always mean `cost.macs`: those
            of the 50-class classification network for a 1x3x128x128 input, whatever the task.
        fixed: values that some dimensions must have, by name.

    Raises:
        InfeasibleError: no code meets the limits.
        InvalidArgumentError: a limit is no positive number, or a fixed dimension does not exist.
    """

    def __init__(
        self,
        space: spaces.Space | None = None,
        codes: Codes | None = None,
        macs: Costs | None = None,
        params: Costs | None = None,
        max_macs: float | None = None,
        max_params: float | None = None,
        fixed: Mapping[str, int] | None = None,
    ):
        self.space = spaces.get("nasbench-mr") if space is None else space
        self.max_macs = checks.limit("max_macs", max_macs)
        self.max_params = checks.limit("max_params", max_params)
        self.fixed = self._parse_fixed(fixed or {})
        #: `(n, DIM)` the codes within the limits, where there is a list of them; else None.
        self.codes: Codes | None = None
        self._costs: tuple[Costs, Costs] | None = None
        self._near: dict[tuple[bytes, int], Codes] = {}
        if codes is not None:
            self._restrict(self.space.check(codes), macs, params)
        elif self.space.NAME != "nasbench-mr":
            raise InvalidArgumentError(
                f"the space {self.space.NAME!r} has no cost formula; pass the table's codes, macs and params"
            )
        else:
            smallest = self._fix(self.space.LOWER[None].copy())
            if not self._within(smallest)[0]:
                raise InfeasibleError(
                    f"no code {self._describe()}: the smallest has {self.macs(smallest)[0] / 1e9:.3g} GMACs "
                    f"and {self.params(smallest)[0] / 1e6:.3g} M parameters"
                )

    def _parse_fixed(self, fixed: Mapping[str, int]) -> dict[int, int]:
        names = self.space.NAMES
        positions = {}
        base = dict(zip(names, self.space.LOWER.tolist(), strict=True))
        for name, value in fixed.items():
            if name not in names:
                raise InvalidArgumentError(f"no dimension {name!r}: {did_you_mean(name, names)}")
            k = names.index(name)
            positions[k] = self.space.parse([*(base | {name: value}).values()])[k]
        return positions

    def _restrict(self, codes: Codes, macs: Costs | None, params: Costs | None) -> None:
        if macs is None or params is None:
            macs, params = cost.macs(codes), cost.params(codes)
        # Unknown costs (NaN) are within no limit.
        keep = np.ones(len(codes), bool)
        for costs, limit in ((macs, self.max_macs), (params, self.max_params)):
            if limit < math.inf:
                keep &= costs <= limit
        for k, value in self.fixed.items():
            keep &= codes[:, k] == value
        if not keep.any():
            known = macs[~np.isnan(macs)]
            cheapest = (
                f": the cheapest of {len(codes):,} has {known.min() / 1e9:.3g} GMACs" if len(known) else ""
            )
            raise InfeasibleError(f"no code of the table {self._describe()}{cheapest}")
        self.codes = codes[keep]
        self._costs = (macs[keep], params[keep])

    def _describe(self) -> str:
        limits = []
        if self.max_macs < math.inf:
            limits.append(f"has at most {self.max_macs / 1e9:.3g} GMACs")
        if self.max_params < math.inf:
            limits.append(f"has at most {self.max_params / 1e6:.3g} M parameters")
        limits += [f"has {self.space.NAMES[k]} = {value}" for k, value in self.fixed.items()]
        return " and ".join(limits) or "is there"

    @property
    def size(self) -> int:
        """How many codes there are; without a list of codes an upper bound, as limits are not counted."""
        return self.space.SIZE if self.codes is None else len(self.codes)

    @cached_property
    def _rows(self) -> dict[bytes, int]:
        assert self.codes is not None
        return {key: row for row, key in enumerate(keys(self.codes))}

    def rows(self, codes: Codes) -> Ints:
        """The positions of codes in the list `self.codes`; -1 for those that are not there: `(n,)`."""
        return np.array([self._rows.get(key, -1) for key in keys(codes)], np.int64)

    def macs(self, codes: Codes) -> Costs:
        """MACs of the domain's codes: `(n,)`."""
        return cost.macs(codes) if self._costs is None else self._costs[0][self._known(codes)]

    def params(self, codes: Codes) -> Costs:
        """Parameters of the domain's codes: `(n,)`."""
        return cost.params(codes) if self._costs is None else self._costs[1][self._known(codes)]

    def _known(self, codes: Codes) -> Ints:
        rows = self.rows(codes)
        if (rows < 0).any():
            raise OutOfSpaceError(f"code {codes[rows < 0][0].tolist()} is not among the domain's codes")
        return rows

    def contains(self, codes: Codes) -> npt.NDArray[np.bool_]:
        """Which codes may be asked for: `(n,)` bool."""
        if self.codes is not None:
            return self.rows(codes) >= 0
        inside = self._within(codes)
        for k, value in self.fixed.items():
            inside &= codes[:, k] == value
        return inside

    def _within(self, codes: Codes) -> npt.NDArray[np.bool_]:
        inside = np.ones(len(codes), bool)
        if self.max_macs < math.inf:
            inside &= cost.macs(codes) <= self.max_macs
        if self.max_params < math.inf:
            inside &= cost.params(codes) <= self.max_params
        return inside

    def _fix(self, codes: Codes) -> Codes:
        for k, value in self.fixed.items():
            codes[:, k] = value
        return codes

    def sample(self, n: int, rng: np.random.Generator) -> Codes:
        """`n` random codes. From a list: without repeats, all of it where `n` is larger.

        In a whole space they are uniform where that finds enough within the limits; the others are uniform
        draws shrunk towards the smallest code until they fit.
        """
        if self.codes is not None:
            return self.codes[rng.permutation(len(self.codes))[:n]]
        drawn = self._fix(self.space.sample(4 * n, rng))
        inside = self._within(drawn)
        found = drawn[inside][:n]
        if len(found) < n:
            found = np.concatenate([found, self.repair(drawn[~inside][: n - len(found)])])
        return found

    def repair(self, codes: Codes) -> Codes:
        """The nearest codes that may be asked for: `(n, DIM)`.

        From a list: the nearest one in it. In a whole space: the code itself if it is within the limits, else
        shrunk towards the smallest code just until it is.
        """
        if self.codes is not None:
            return self.codes[[int(self.distances(code).argmin()) for code in codes]]
        codes = self._fix(codes.copy())
        outside = np.flatnonzero(~self._within(codes))
        if not len(outside):
            return codes
        space = self.space
        spread = (codes[outside] - space.LOWER).astype(np.float64)
        low, high = np.zeros(len(outside)), np.ones(len(outside))
        for _ in range(8):
            middle = (low + high) / 2
            inside = self._within(self._shrunk(spread, middle))
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        codes[outside] = self._shrunk(spread, low)
        return codes

    def _shrunk(self, spread: Floats, factor: Floats) -> Codes:
        return self._fix(self.space.project(self.space.LOWER + factor[:, None] * spread))

    @cached_property
    def categorical(self) -> bool:
        """Whether the space's integers are choices without an order, which `relax` writes as one-hot."""
        return bool(self.space.relax(self.space.LOWER[None]).shape[1] > self.space.DIM)

    @cached_property
    def _points(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The list's codes as points, each coordinate scaled to the range it has in the list."""
        assert self.codes is not None
        scale = np.ptp(self.codes, axis=0).astype(np.float32)
        scale[scale == 0] = 1
        return np.asarray(self.codes / scale, np.float32), scale

    def distances(self, code: Codes) -> npt.NDArray[np.float32]:
        """L1 distances of one code to the list `self.codes`, `(n,)`; of choices, how many differ."""
        if self.categorical:
            assert self.codes is not None
            return np.asarray((self.codes != code).sum(axis=1, dtype=np.float32))
        points, scale = self._points
        return np.asarray(np.abs(points - code / scale).sum(axis=1))

    def neighbors(self, code: Codes, count: int = 24) -> Codes:
        """The codes one step away, within the limits; from a list with gaps the `count` nearest ones.

        Never `code` itself, `(DIM,)`. May be empty in a whole space under limits.
        """
        if self.codes is None:
            around = self._fix(self.space.neighbors(code))
            allowed: npt.NDArray[np.bool_] = self._within(around) & (around != code).any(axis=1)
            return around[allowed]
        # Searches come back to the same codes, and side by side many searches share a domain.
        key = (code.tobytes(), count)
        if key not in self._near:
            near = self.space.neighbors(code)
            near = near[self.contains(near)]
            if len(near) < count / 2:
                # A list with gaps: a sample of its space, not most of it.
                near = self.codes[np.argsort(self.distances(code), kind="stable")[: count + 1]]
                near = near[(near != code).any(axis=1)]
            self._near[key] = near[:count]
        return self._near[key]

    def variants(self, code: Codes) -> Codes:
        """The allowed codes that differ from `code` in one dimension, by any amount; of a list neighbors."""
        if self.codes is not None:
            return self.neighbors(code)
        space = self.space
        levels = (space.UPPER - space.LOWER) // space.STEP + 1
        dims = np.repeat(np.arange(space.DIM), levels)
        values = np.concatenate([np.arange(n) * step for n, step in zip(levels, space.STEP, strict=True)])
        around = np.repeat(code[None], len(dims), axis=0)
        around[np.arange(len(dims)), dims] = space.LOWER[dims] + values
        around = self._fix(around)
        allowed: npt.NDArray[np.bool_] = self._within(around) & (around != code).any(axis=1)
        return np.unique(around[allowed], axis=0)

    def walk(self) -> Iterator[Codes]:
        """Every code that may be asked for, `(DIM,)`, once; the smallest first."""
        if self.codes is not None:
            yield from self.codes
            return
        # No cost falls as a dimension grows, so single steps within the limits reach every allowed code.
        queue = deque([self._fix(self.space.LOWER[None].copy())[0]])
        seen = {queue[0].tobytes()}
        while queue:
            code = queue.popleft()
            yield code
            for near in self.neighbors(code):
                if near.tobytes() not in seen:
                    seen.add(near.tobytes())
                    queue.append(near)

    def mutate(self, codes: Codes, rng: np.random.Generator) -> Codes:
        """A changed copy of each code: `(n, DIM)`; from a list, one of its nearest neighbours."""
        if self.codes is not None:
            around = [self.neighbors(code) for code in codes]
            return np.array(
                [a[rng.integers(len(a))] if len(a) else c for a, c in zip(around, codes, strict=True)]
            )
        children = self._fix(self.space.mutate(codes, rng))
        for _ in range(4):
            outside = np.flatnonzero(~self._within(children))
            if not len(outside):
                return children
            children[outside] = self._fix(self.space.mutate(codes[outside], rng))
        return self.repair(children)

    def crossover(self, a: Codes, b: Codes, rng: np.random.Generator) -> Codes:
        """A mixture of each pair: `(n, DIM)`."""
        return self.repair(self.space.crossover(a, b, rng))


def keys(codes: Codes) -> list[bytes]:
    """A hashable key for each code."""
    data = np.ascontiguousarray(codes, np.int16)
    width = data.shape[1] * 2
    buffer = data.tobytes()
    return [buffer[k : k + width] for k in range(0, len(buffer), width)]


class Objective:
    """A function of codes to maximise, on a domain, that counts what it is asked.

    Make one with `Objective.table`, `Objective.surrogate` or `Objective.live`.

    Attributes:
        source: what answers.
        domain: the codes it answers for.
        goals: its terms (`combine` says how they add up).
        evaluations: full trainings asked so far; a training cut short counts as its share.
        spent: their simulated cost, in `unit` ("seconds" where the source knows them, else "GMACs").
        epochs: the points of the learning curves that may be asked for, rising; empty without curves.
    """

    def __init__(self, source: Source, domain: Domain, terms: Sequence[Goal], epochs: Sequence[int] = ()):
        self.source, self.domain, self.goals = source, domain, tuple(terms)
        self.epochs = tuple(sorted(epochs))
        self.evaluations = 0.0
        self.spent = 0.0
        self.unit = ""

    @classmethod
    def table(
        cls,
        bench: Benchmark,
        tasks: Tasks,
        max_macs: float | None = None,
        max_params: float | None = None,
        fixed: Mapping[str, int] | None = None,
    ) -> Objective:
        """The tabulated values; the domain is the codes that have one for every task.

        Raises:
            UnknownTaskError, UnknownMetricError, InvalidArgumentError: see `goals`.
            InfeasibleError: no tabulated code meets the limits.
        """
        terms = goals(bench, tasks)
        space = spaces.get(terms[0].task.space)
        source = TableSource(bench, terms)
        domain = Domain(space, source.codes, source.macs, source.params, max_macs, max_params, fixed)
        return cls(source, domain, terms, source.epochs)

    @classmethod
    def surrogate(
        cls,
        bench: Benchmark,
        tasks: Tasks,
        max_macs: float | None = None,
        max_params: float | None = None,
        fixed: Mapping[str, int] | None = None,
    ) -> Objective:
        """The release's surrogates; the domain is the whole space.

        Raises:
            SurrogateNotFoundError: the release has none for one of the tasks.
            UnknownTaskError, UnknownMetricError, InvalidArgumentError, InfeasibleError: as for `table`.
        """
        terms = goals(bench, tasks)
        return cls(
            SurrogateSource(bench, terms), whole_space(bench, terms, max_macs, max_params, fixed), terms
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
        """The values of `(n, DIM)` codes of the domain: `(n,)`, all finite.

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
        values = np.where(np.isfinite(measured.values), measured.values, self._worst)
        share = measured.share
        if share is None:
            share = 1.0 if epoch is None else epoch / self.epochs[-1]
        self.evaluations += len(codes) * share
        self.spent += float(measured.cost.sum())
        self.unit = measured.unit
        return Evaluation(combine(values, self.goals), np.full(len(codes), share), measured.cost)

    @cached_property
    def _worst(self) -> Floats:
        return np.array([worst_value(goal) for goal in self.goals])

    def best(self) -> float:
        """The largest value in the domain: known for a table, else NaN. Analysis only: nothing is charged."""
        if not isinstance(self.source, TableSource) or self.domain.codes is None:
            return math.nan
        values = self.source.measure(self.domain.codes, self.goals, None).values
        return float(combine(values, self.goals).max())


def epoch_alike(epoch: int, total: int, own: int) -> int:
    """Where a training of `own` epochs is stopped when one of `total` is stopped at `epoch`."""
    return max(1, round(epoch / total * own))


def worst_value(goal: Goal) -> float:
    """The metric's worst bound; ten standard deviations from the mean where it has none."""
    bound = goal.metric.lower if goal.metric.sign > 0 else goal.metric.upper
    return bound if bound is not None else goal.mean - goal.metric.sign * 10 * goal.std


def whole_space(
    bench: Benchmark,
    terms: Sequence[Goal],
    max_macs: float | None = None,
    max_params: float | None = None,
    fixed: Mapping[str, int] | None = None,
) -> Domain:
    """The whole space of the terms' tasks; one without a cost formula is as its table lists it."""
    space = spaces.get(terms[0].task.space)
    if space.NAME == "nasbench-mr":
        return Domain(space, None, None, None, max_macs, max_params, fixed)
    table = TableSource(bench, terms[:1])
    return Domain(space, table.codes, table.macs, table.params, max_macs, max_params, fixed)


def _whole(column: Floats) -> Costs:
    """A column of integers as such, if it has no unknown values."""
    return column.astype(np.int64) if np.isfinite(column).all() else column


class TableSource:
    """Answers from the tables, for the codes that have a value for every goal.

    Attributes:
        codes: `(n, DIM)` those codes.
        macs, params: `(n,)` their costs; NaN where the table does not know them.
        epochs: points of the learning curves that all these codes have, rising; empty without curves. With
            several terms they are in epochs of the first, and the others are stopped alike.
    """

    def __init__(self, bench: Benchmark, terms: Sequence[Goal]):
        codes = bench.codes(terms[0].task.name)
        columns = [self._column(bench, codes, goal.task.name, goal.metric.name) for goal in terms]
        values = np.stack(columns, axis=1)
        known = np.isfinite(values).all(axis=1)
        if not known.any():
            raise InvalidArgumentError(
                f"no code is tabulated for all of {', '.join(goal.key for goal in terms)}"
            )
        self.codes, self._values = codes[known], values[known]
        if terms[0].task.space == "nasbench-mr":
            self.macs: Costs = cost.macs(self.codes)
            self.params: Costs = cost.params(self.codes)
        else:
            first = terms[0].task.name
            self.macs = _whole(self._column(bench, self.codes, first, "macs"))
            self.params = _whole(self._column(bench, self.codes, first, "params"))
        seconds = [self._column(bench, self.codes, goal.task.name, "train_seconds") for goal in terms]
        self._seconds = np.stack(seconds, axis=1)
        self._rows = {key: row for row, key in enumerate(keys(self.codes))}
        self._curves = self._read_curves(bench, terms)

    @staticmethod
    def _column(bench: Benchmark, codes: Codes, task: str, name: str) -> Floats:
        column: Floats = bench.query_many(codes, task, metrics=(name,), source="table", missing="nan")[name]
        return column

    def _read_curves(self, bench: Benchmark, terms: Sequence[Goal]) -> dict[int, tuple[Floats, Floats]]:
        """By epoch of the first term: `(n, m)` values, and `(m,)` shares of the terms' full trainings."""
        curves = [self._read_curve(bench, goal) for goal in terms]
        if not all(curves):
            return {}
        totals = [max(curve) for curve in curves]
        found = {}
        for epoch in curves[0]:
            own = [epoch_alike(epoch, totals[0], total) for total in totals]
            if all(e in curve for e, curve in zip(own, curves, strict=True)):
                values = np.stack([curve[e] for e, curve in zip(own, curves, strict=True)], axis=1)
                found[epoch] = values, np.array(own) / totals
        return found

    def _read_curve(self, bench: Benchmark, goal: Goal) -> dict[int, Floats]:
        """`(n,)` values by epoch, for the epochs at which every code has been measured."""
        try:
            curves = bench.curves(goal.task.name)
        except CodeNotFoundError:
            return {}
        if goal.metric.name not in curves:
            return {}
        names = list(spaces.get(goal.task.space).NAMES)
        means = curves.groupby([*names, "epoch"])[goal.metric.name].mean().reset_index()
        rows = np.array([self._rows.get(key, -1) for key in keys(means[names].to_numpy(np.int16))])
        epochs, column = means["epoch"].to_numpy(), means[goal.metric.name].to_numpy()
        by_epoch = {}
        for epoch in np.unique(epochs).tolist():
            here = (epochs == epoch) & (rows >= 0)
            values = np.full(len(self.codes), np.nan)
            values[rows[here]] = column[here]
            if np.isfinite(values).all():
                by_epoch[epoch] = values
        return by_epoch

    @property
    def epochs(self) -> tuple[int, ...]:
        return tuple(sorted(self._curves))

    def measure(self, codes: Codes, goals: Sequence[Goal], epoch: int | None) -> Measured:
        rows = [self._rows[key] for key in keys(codes)]
        whole = self._values, np.ones(len(goals))
        values, shares = whole if epoch is None else self._curves[epoch]
        if np.isfinite(self._seconds).all():
            return Measured(values[rows], self._seconds[rows] @ shares, "seconds", float(shares.mean()))
        return Measured(values[rows], self.macs[rows] / 1e9 * shares.sum(), "GMACs", float(shares.mean()))


class SurrogateSource:
    """Answers from the release's surrogates, for any code."""

    def __init__(self, bench: Benchmark, terms: Sequence[Goal]):
        self.bench = bench
        # One question tells whether the surrogates are there.
        for goal in terms:
            bench.query(bench.codes(goal.task.name)[0], goal.task.name, source="surrogate")
        table = TableSource(bench, terms[:1]) if terms[0].task.space != "nasbench-mr" else None
        self._gmacs = None if table is None else dict(zip(keys(table.codes), table.macs / 1e9, strict=True))

    def measure(self, codes: Codes, goals: Sequence[Goal], epoch: int | None) -> Measured:
        columns = [
            self.bench.query_many(codes, goal.task.name, (goal.metric.name,), source="surrogate")[
                goal.metric.name
            ]
            for goal in goals
        ]
        gmacs = (
            cost.macs(codes) / 1e9 if self._gmacs is None else np.array([self._gmacs[k] for k in keys(codes)])
        )
        return Measured(np.stack(columns, axis=1), gmacs * len(goals), "GMACs")


def live(recipe: object, engine: str = "local", **options: Any) -> Objective:
    """An objective that trains codes by recipes and adds what it trains to a table.

    Needs the extra `build`; what `recipe`, `engine` and the options mean: `data_builders.live.live`.
    """
    builders = importlib.import_module("nasbench_mr.data_builders.building.live")
    made: Objective = builders.live(recipe, engine, **options)
    return made
