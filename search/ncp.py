"""NCP: codes found by following a predictor's gradients with respect to the code itself.

`ncp` is the function to call; `transfer` makes the table of codes optimised for one task and evaluated on
others. `preset="paper"` is the published algorithm (Ding et al., "Learning Versatile Neural Architectures by
Propagating Network Codes", ICLR 2022); the default goes beyond it. `docs/search.md` has them side by side.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from nasbench_mr import (
    __version__,
    cost,
    directions,
    features,
    measured,
    objective,
    plugins,
    release,
    spaces,
)
from nasbench_mr import space as multi_resolution
from nasbench_mr import tasks as registry
from nasbench_mr.arrays import ByValue, Codes, Costs, Floats, Ints, keys
from nasbench_mr.checks import at_least, finite
from nasbench_mr.checks import seed as check_seed
from nasbench_mr.domain import Domain
from nasbench_mr.errors import (
    InfeasibleError,
    InvalidArgumentError,
    StorageError,
    UnknownNameError,
    did_you_mean,
)
from nasbench_mr.extras import requires
from nasbench_mr.objective import Goal, Tasks
from nasbench_mr.search.editing import Editing, Pull, edit
from nasbench_mr.tasks import Metric, Task
from nasbench_mr.threads import torch_threads

if TYPE_CHECKING:
    from torch import Tensor

    from nasbench_mr.benchmark import Benchmark
    from nasbench_mr.predictors.base import Predictor
    from nasbench_mr.predictors.evaluation import Data

PRESETS = ("paper",)
#: Of the ridge regression of trends, in codes: little beside thousands, but features are collinear.
TREND_PENALTY = 30.0


@dataclass(frozen=True, eq=False)
class Candidates(ByValue):
    """Codes and what is known of them; row k of every array is about `codes[k]`.

    Attributes:
        codes: `(n, DIM)` int16.
        score: `(n,)` what was maximised: the lower confidence bound of the (standardised, weighted) metrics,
            plus their trend (see `ncp`).
        predicted, std: `(n, m)` in the metrics' own units, a column for each task.
        macs, params: `(n,)` exact.
    """

    codes: Codes
    score: Floats
    predicted: Floats
    std: Floats
    macs: Ints
    params: Ints


@dataclass(frozen=True, eq=False)
class Trajectory(ByValue):
    """Every step of every start; step 0 is the start itself.

    Attributes:
        codes: `(steps + 1, starts, DIM)` int16, on the grid.
        score: `(steps + 1, starts)`.
        macs: `(steps + 1, starts)` int64; -1 where unknown.
    """

    codes: npt.NDArray[np.int16]
    score: Floats
    macs: Ints


@dataclass(frozen=True, eq=False)
class NCPResult(Candidates):
    """What `ncp` found; the arrays of `Candidates` hold the best distinct codes, best first.

    With the preset "paper" they are those of its one path, the last first, since that is its answer.

    Attributes:
        best: the first of them: the best code, within the limits.
        names: the tasks, columns of `predicted` and `std`.
        trajectory: every step.
        pareto: the codes seen that no other one beats in both score and MACs, by rising MACs.
    """

    best: tuple[int, ...]
    names: tuple[str, ...]
    trajectory: Trajectory
    pareto: Candidates


def fit(
    bench: Benchmark, tasks: Tasks, seed: int = 0, predictor: str = "ensemble", **options: Any
) -> Predictor:
    """Return a predictor for `ncp`, fitted on the tables of all tasks that are comparable with `tasks`.

    Tasks help each other, so all metrics of all of them are fitted together, in columns named "task/metric".
    Kept in the cache of `release.home()`, so the same question is fitted once.
    """
    from nasbench_mr.predictors.evaluation import gather

    goals = objective.goals(bench, tasks)
    data = gather(bench, bench.comparable([goal.task.name for goal in goals]))
    known = dict(zip(data.names, np.isfinite(data.values).sum(axis=0).tolist(), strict=True))
    for goal in goals:
        values = known.get(f"{goal.task.name}/{goal.metric.name}", 0)
        if values < 2:
            raise InvalidArgumentError(
                f"values of {goal.metric.name} in the table of {goal.task.name!r}: {values}; a predictor "
                "needs at least 2"
            )
    names = [name for name, values in known.items() if values > 1]
    return _fit(bench, data, names, seed=seed, kind=predictor, options=options)


def fit_paper(bench: Benchmark, terms: Sequence[Goal], seed: int = 0) -> Predictor:
    """Return the published predictor.

    One model for each task, its main metric first, the others beside it.
    """
    from nasbench_mr.predictors.evaluation import gather

    if len({goal.task.name for goal in terms}) < len(terms):
        raise InvalidArgumentError("the paper's preset optimises one metric of a task; two are given")
    data = gather(bench, [goal.task.name for goal in terms])
    names = []
    for goal in terms:
        main = f"{goal.task.name}/{goal.metric.name}"
        beside = [n for n in data.names if n.startswith(f"{goal.task.name}/") and n != main]
        names += [main, *beside]
    return _fit(bench, data, names, seed=seed, kind="ncp-mlp", options={})


def _fit(
    bench: Benchmark, data: Data, names: list[str], *, seed: int, kind: str, options: Mapping[str, Any]
) -> Predictor:
    """Return a predictor fitted on some of the columns, or the same one from the cache."""
    from nasbench_mr import predictors

    columns = [data.names.index(name) for name in names]
    bounds = [data.bounds[k] for k in columns]
    described = {
        "tables": [
            bench.release_of(task.name).files[f"tables/{task.name}.parquet"]["sha256"] for task in data.tasks
        ],
        "columns": [names, bounds],
        "predictor": [kind, int(seed), repr(sorted(options.items())), plugins.digest(kind)],
        "versions": [__version__, _torch().__version__],
    }
    digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()
    path = release.home() / "cache" / "predictors" / f"{kind}-{digest[:32]}.npz"
    if path.is_file():
        with contextlib.suppress(InvalidArgumentError):  # Damaged: fitted again.
            return predictors.load(path)
    model = predictors.make(kind, seed=seed, space=data.space, **options)
    model.fit(data.codes, data.values[:, columns], names, bounds=bounds)
    with contextlib.suppress(StorageError):  # A cache that can't be written costs time, not the answer.
        model.save(path)
    return model


def ncp(
    source: Benchmark | Predictor,
    tasks: Tasks,
    *,
    max_macs: float | None = None,
    max_params: float | None = None,
    limits: Mapping[str, float] | None = None,
    seed: int = 0,
    preset: str | None = None,
    start: object = None,
    fixed: Mapping[str, Any] | None = None,
    starts: int = 256,
    steps: int = 70,
    caution: float = 1.0,
    trend: float = 1.0,
    polish: int = 8,
    predictor: Predictor | None = None,
    **editing: Any,
) -> NCPResult:
    """Return the code that a predictor believes best for one task, or for several jointly.

    Args:
        source: a benchmark, on whose tables a predictor is fitted (`fit`), or a predictor already fitted,
            whose names are the tasks.
        tasks: a name, several, or names with weights; measured costs such as "latency_ms@cpu" among them.
        max_macs, max_params: limits on the code's exact cost, inclusive. MACs always mean `cost.macs`.
        limits: further limits by name, such as `{"latency_ms@cpu": 20}`. Gradients follow an estimate of the
            cost; a code that was measured must be within the limit as measured.
        seed: of the starts and of the predictor that is fitted.
        preset: None, or "paper": the published algorithm, with its predictor and its one start.
        start: a code to improve; the default begins at random codes.
        fixed: dimensions to keep, by name, such as `{"i1": 16, "i2": 16}`.
        starts: codes edited at once.
        steps: gradient steps, 70 by default.
        caution: how many standard deviations the predicted mean is lowered by before it counts; 0 trusts
            the predictor.
        trend: how much the predicted mean's own trend counts beside it, times the share of noise in what is
            predicted: the function, linear in the features of codes, nearest to it over random codes. What
            an ensemble's networks all get wrong, their standard deviation does not show; codes that are good
            by the trend too hold up better when other data and another model judge them (docs/search.md).
            0 leaves it out.
        polish: rounds of search on the grid around the best codes found.
        predictor: a fitted predictor to use with a benchmark, instead of fitting one.
        editing: settings of the paper's preset, the published ones by default: see `search.editing.Editing`.

    Returns:
        The best code within the limits, and all that was seen on the way.

    Raises:
        InfeasibleError: no code meets the limits.
        UnknownTaskError, UnknownMetricError, UnknownNameError: no such task, metric or preset.
        InvalidArgumentError: a bad number, a predictor without gradients, or a setting of the paper's preset
            without it.
    """
    if preset is not None and preset not in PRESETS:
        raise UnknownNameError(f"no preset {preset!r}: {did_you_mean(preset, PRESETS)}")
    seed, starts = check_seed(seed), at_least(1, "starts", starts)
    steps, polish = at_least(1, "steps", steps), at_least(0, "polish", polish)
    caution, trend = finite("caution", caution), finite("trend", trend, least=0)
    settings = Editing.of(editing)
    idle = [name for name, value in editing.items() if value is not None]
    if idle and preset is None:
        raise InvalidArgumentError(f"{', '.join(idle)}: settings of preset='paper', which is not asked for")
    within = {"max_macs": max_macs, "max_params": max_params, "limits": limits, "fixed": fixed}
    acquisition = _acquisition(source, predictor, tasks, within, seed=seed, preset=preset, caution=caution)
    first = None if start is None else acquisition.domain.space.check(start)
    if first is not None and len(first) != 1:
        raise InvalidArgumentError(f"start holds {len(first)} codes; expected one")
    if preset == "paper":
        return _paper(acquisition, first, steps, settings)
    rng = np.random.default_rng(seed)
    random = acquisition.domain.sample(16 * max(starts, 64), rng)
    if trend:
        acquisition = acquisition.with_trend(random, trend)
    begin = _starts(acquisition, first, random, starts, rng)
    trajectory = climb(acquisition, begin, cost_limits(acquisition.domain, starts), steps)
    return _conclude(acquisition, trajectory, polish, rng)


class Model(Protocol):
    """What is followed: a `GradientPredictor`, or anything else that answers as one does."""

    names: tuple[str, ...]

    @property
    def limits(self) -> Floats: ...

    def predict(self, codes: Codes, *, bounded: bool = ...) -> tuple[Floats, Floats]: ...
    def tensor(self, x: Tensor) -> tuple[Tensor, Tensor]: ...


class _WithCosts:
    """A predictor with a column for each measured cost that is to be low as well."""

    def __init__(self, predictor: Model, costs: Mapping[str, measured.Cost]):
        self.names = (*predictor.names, *costs)
        self._predictor, self._costs = predictor, list(costs.values())

    @property
    def limits(self) -> Floats:
        """Bounds of what is predicted: `(2, m)`; costs are positive."""
        own = np.array([[0.0], [np.inf]])
        return np.concatenate([self._predictor.limits, np.repeat(own, len(self._costs), axis=1)], axis=1)

    def predict(self, codes: Codes, *, bounded: bool = True) -> tuple[Floats, Floats]:
        mean, std = self._predictor.predict(codes, bounded=bounded)
        own = [cost.estimate.predict(codes) for cost in self._costs]
        means, stds = ([columns[k] for columns in own] for k in (0, 1))
        return np.concatenate([mean, *means], 1), np.concatenate([std, *stds], 1)

    def tensor(self, x: Tensor) -> tuple[Tensor, Tensor]:
        torch = _torch()
        mean, std = self._predictor.tensor(x)
        own = [cost.estimate.tensor(x)[:, None] for cost in self._costs]
        errors = [column * cost.estimate.error for column, cost in zip(own, self._costs, strict=True)]
        return torch.cat([mean, *own], 1), torch.cat([std, *errors], 1)


@dataclass(frozen=True)
class Acquisition:
    """A predictor, what to maximise of it, and where.

    Attributes:
        predictor: a model with a column for each goal.
        goals: the terms of what to maximise.
        domain: the codes allowed.
        caution: standard deviations by which means are lowered; negative raises them.
        trend: is added to the score.
    """

    predictor: Model
    goals: tuple[Goal, ...]
    domain: Domain
    caution: float = 1.0
    trend: features.Linear | None = None

    def with_trend(self, codes: Codes, weight: float) -> Acquisition:
        """Return the same with the trend that the mean has over some codes.

        It counts `weight` times the share of noise: of the variance of what is predicted there, the part
        that the predictor's standard deviation stands for.
        """
        mean, std = self.predict(codes)
        offset, factor = self._affine
        values = (mean - offset) @ factor
        noise = np.square(std @ np.abs(factor)).mean()
        share = noise / max(noise + values.var(), 1e-12)
        linear = features.Linear.of(codes, weight * share * values, self.domain.space, TREND_PENALTY)
        return replace(self, trend=linear)

    @cached_property
    def columns(self) -> list[int]:
        """The goals' columns of the predictor."""
        return [_column(self.predictor.names, goal) for goal in self.goals]

    @cached_property
    def _affine(self) -> tuple[Floats, Floats]:
        return objective.affine(self.goals)

    def predict(self, codes: Codes) -> tuple[Floats, Floats]:
        """Return the goals' means, beyond their bounds too, and standard deviations: `(n, m)` each."""
        mean, std = self.predictor.predict(codes, bounded=False)
        return mean[:, self.columns], std[:, self.columns]

    def told(self, mean: Floats) -> Floats:
        """Return means as they are told, within bounds; what is climbed has no flat parts."""
        limits = np.array([goal.metric.limits for goal in self.goals]).T
        return np.asarray(np.clip(np.clip(mean, *self.predictor.limits[:, self.columns]), *limits))

    def score(self, codes: Codes) -> Floats:
        """Return what is maximised: `(n,)`."""
        return self._score(codes, *self.predict(codes))

    def _score(self, codes: Codes, mean: Floats, std: Floats) -> Floats:
        offset, factor = self._affine
        bound: Floats = (mean - offset) @ factor - self.caution * (std @ np.abs(factor))
        return bound if self.trend is None else bound + self.trend(codes)

    def score_tensor(self, x: Tensor) -> Tensor:
        """`score` of relaxed codes, differentiable."""
        import torch

        mean, std = self.predictor.tensor(x)
        offset, factor = (torch.from_numpy(a).to(x) for a in self._affine)
        bound = (mean[:, self.columns] - offset) @ factor - self.caution * (
            std[:, self.columns] @ factor.abs()
        )
        return bound if self.trend is None else bound + self.trend.tensor(x)

    def candidates(self, codes: Codes) -> Candidates:
        """All that is known of codes of the domain."""
        predicted, std = self.predict(codes)
        score = self._score(codes, predicted, std)
        return Candidates(
            codes=codes,
            score=score,
            predicted=self.told(predicted),
            std=std,
            macs=self.domain.macs(codes),
            params=self.domain.params(codes),
        )


def _acquisition(
    source: Benchmark | Predictor,
    predictor: Predictor | None,
    tasks: Tasks,
    within: Mapping[str, Any],
    *,
    seed: int,
    preset: str | None = None,
    caution: float = 0.0,
) -> Acquisition:
    """Return what to optimise; `within` has the limits and fixed values of its domain."""
    from nasbench_mr.predictors import GradientPredictor, Predictor

    costs: dict[str, measured.Cost] = {}
    if isinstance(source, Predictor):
        if predictor is not None:
            raise InvalidArgumentError(
                "two predictors are given; expected a benchmark and a predictor, or one"
            )
        predictor = source
        bounds = measured.limits(None, *map(within.get, ("limits", "max_macs", "max_params")))
        domain = Domain(predictor.space, **bounds.of_domain(), fixed=within.get("fixed"))
        terms = _predicted_goals(predictor, tasks, seed)
    else:
        terms = objective.goals(source, tasks)
        costs = {goal.key: source.cost(goal.task.name) for goal in terms if "@" in goal.task.name}
        domain = objective.whole_space(source, terms, **within)
        if predictor is None:
            own = [goal for goal in terms if goal.key not in costs]
            if not own:
                raise InvalidArgumentError(
                    f"{', '.join(costs)} alone: expected a task to optimise beside it; "
                    "a cost alone is least for the smallest code"
                )
            weights = {goal.key: goal.weight for goal in own}
            predictor = fit_paper(source, own, seed) if preset == "paper" else fit(source, weights, seed)
    if not isinstance(predictor, GradientPredictor):
        raise InvalidArgumentError(
            f"the predictor {predictor.kind!r} has no gradients; NCP needs 'ensemble', 'gp' or 'ncp-mlp'"
        )
    return Acquisition(_WithCosts(predictor, costs) if costs else predictor, terms, domain, caution)


def _column(names: tuple[str, ...], goal: Goal) -> int:
    """Return the predictor's column of a goal: named by its key, or "task/metric"."""
    for name in (goal.key, f"{goal.task.name}/{goal.metric.name}"):
        if name in names:
            return names.index(name)
    raise UnknownNameError(f"the predictor has no column {goal.key!r}: {did_you_mean(goal.key, names)}")


def _predicted_goals(predictor: Predictor, tasks: Tasks, seed: int) -> tuple[Goal, ...]:
    """Goals for a predictor without a benchmark: its columns, standardised over random codes.

    Registered tasks tell whether smaller is better; of others, names such as "latency" (`directions.usual`).
    What these do not tell is maximised.
    """
    mean, _ = predictor.predict(predictor.space.sample(2000, seed), bounded=False)
    terms = []
    for key, weight in objective.parse_tasks(tasks).items():
        name, _, metric = key.partition("/")
        task = registry.get(name) if name in registry.names() else None
        if task is None:
            measured = Metric(
                metric or "value", "unknown", directions.usual(metric or name) or "max", None, None
            )
            task = Task(
                name=name,
                title=name,
                dataset="",
                problem="classification",
                metrics=(measured,),
                objective=measured.name,
            )
        goal = Goal(key, task, task.metric(metric or None), weight)
        values = mean[:, _column(predictor.names, goal)]
        terms.append(replace(goal, mean=float(values.mean()), std=float(values.std()) or 1.0))
    return tuple(terms)


def _starts(
    acquisition: Acquisition, first: Codes | None, random: Codes, count: int, rng: np.random.Generator
) -> Codes:
    """Codes to begin from, all within the limits: around the user's, or random ones.

    Half of these are the best predicted of `random`; the others keep the search wide.
    """
    domain = acquisition.domain
    if first is not None:
        begin = np.repeat(domain.repair(first), count, axis=0)
        for k in range(1, 8):
            # One more change every eighth; the first eighth stays as given.
            rest = slice(count * k // 8, None)
            if len(begin[rest]):
                begin[rest] = domain.mutate(begin[rest], rng)
        return begin
    if len(random) < count:  # All that the limits leave.
        random = random[rng.integers(len(random), size=count)]
    best = np.argsort(-acquisition.score(random), kind="stable")[: (count + 1) // 2]
    return np.concatenate([random[best], random[: count // 2]])


def cost_limits(domain: Domain, count: int) -> Floats:
    """Each start's own limit on MACs: the domain's for most, lower ones for the rest, for the Pareto set."""
    top = domain.max_macs
    if domain.codes is not None and not np.isfinite(domain.macs(domain.codes)).all():
        return np.full(count, top)  # a list of which some costs are unknown, and so not limited
    if math.isinf(top):
        top = float(domain.macs(_extreme(domain, largest=True))[0])
    if top == 0:  # Formulas may give 0; where all codes cost that, no limit tells them apart.
        return np.full(count, domain.max_macs)
    bottom = float(domain.macs(_extreme(domain, largest=False))[0])
    limits = np.full(count, top)
    # Every fourth start; the geometric mean with the least cost leaves room for gradients to matter.
    lower = np.arange(3, count, 4)
    limits[lower] = np.geomspace(max(bottom, top / 64), top, len(lower) + 2)[1:-1]
    return limits


def _extreme(domain: Domain, largest: bool) -> Codes:
    """Return the most or least costly code of the domain."""
    if domain.codes is not None:
        macs = domain.macs(domain.codes)
        row = int(macs.argmax() if largest else macs.argmin())
        return domain.codes[row : row + 1]
    bounds = np.stack([domain.space.LOWER, domain.space.UPPER])
    if domain.space.NAME == multi_resolution.NAME:
        return domain.repair(bounds[int(largest)][None])
    # Formulas need not rise along a dimension.
    tried = np.concatenate([domain.repair(bounds), domain.sample(256, np.random.default_rng(0))])
    macs = domain.macs(tried)
    row = int(macs.argmax() if largest else macs.argmin())
    return tried[row : row + 1]


@torch_threads()
def climb(
    acquisition: Acquisition, begin: Codes, limits: Floats, steps: int, *, rate: float = 0.08
) -> Trajectory:
    """Follows the score's gradient from many codes at once, on the grid and within the limits.

    Each point is rounded to a code before the predictor sees it, and the gradient there moves the point
    itself (a straight-through estimate), so every step visits real codes and scores them as they are. Steps
    are Adam's. A point over its limit first loses the part of its gradient that raises the cost, then is
    moved back to the limit along the gradient of the exact cost.

    Args:
        begin: `(n, DIM)` codes.
        limits: `(n,)` each one's limit on MACs; the domain's limit on parameters holds for all.
        steps: how many.
        rate: the first step's length as a share of each dimension's range; it falls to 0 as a cosine.
    """
    torch = _torch()
    domain, space = acquisition.domain, acquisition.domain.space
    low, span, pinned = _box(domain)
    costs = _RelaxedCost(domain, limits)
    point = (torch.from_numpy(space.relax(begin)) - low) / span
    kept = point[:, pinned].clone()
    first, second = torch.zeros_like(point), torch.zeros_like(point)
    codes = np.empty((steps + 1, *begin.shape), np.int16)
    scores = np.empty((steps + 1, len(begin)))
    for step in range(steps + 1):
        codes[step] = space.project((point * span + low).numpy())
        grid = torch.from_numpy(space.relax(codes[step])).requires_grad_()
        score = acquisition.score_tensor(grid)
        scores[step] = score.detach().numpy()
        if step == steps:
            break
        (gradient,) = torch.autograd.grad(score.sum(), grid)
        gradient = gradient * span
        at = (grid.detach() - low) / span
        excess, normals = costs(grid, span)
        for over, normal in zip(excess, normals, strict=True):
            along = (gradient * normal).sum(1) / normal.square().sum(1).clamp(min=1e-12)
            gradient = gradient - ((over > -0.02) * along.clamp(min=0))[:, None] * normal
        first = 0.8 * first + 0.2 * gradient
        second = 0.95 * second + 0.05 * gradient.square()
        scaled = (first / (1 - 0.8 ** (step + 1))) / ((second / (1 - 0.95 ** (step + 1))).sqrt() + 1e-9)
        point = point + rate * 0.5 * (1 + math.cos(math.pi * step / steps)) * scaled
        for over, normal in zip(excess, normals, strict=True):
            beyond = over + (normal * (point - at)).sum(1)
            point = point - (beyond.clamp(min=0) / normal.square().sum(1).clamp(min=1e-12))[:, None] * normal
        point = point.clamp(0, 1)
        point[:, pinned] = kept
    flat = codes.reshape(-1, codes.shape[-1])
    macs = _macs_anywhere(domain, flat)
    return Trajectory(codes, scores, macs.reshape(scores.shape))


def _box(domain: Domain) -> tuple[Tensor, Tensor, list[int]]:
    """Return the relaxed space's lower corner and extent, `(R,)` each, and the coordinates that are fixed."""
    torch = _torch()
    space = domain.space
    where = spaces.columns(space)
    corners = [
        (np.zeros(c.stop - c.start), np.ones(c.stop - c.start)) if choice else (low[None], high[None])
        for c, low, high, choice in zip(where, space.LOWER, space.UPPER, space.CHOICES, strict=True)
    ]
    low, high = (np.concatenate(side) for side in zip(*corners, strict=True))
    pinned = [j for k in domain.fixed for j in range(where[k].start, where[k].stop)]
    corner, top = (torch.from_numpy(side.astype(np.float64)) for side in (low, high))
    return corner, top - corner, pinned


class _RelaxedCost:
    """How far relaxed codes are beyond the limits, as logarithms of cost / limit, and the gradients of that.

    Where formulas tell a space's costs they are exact on the grid. In a space that only lists its codes it is
    the linear function of the relaxed code nearest to their costs; what counts in the end is the listed cost.
    """

    def __init__(self, domain: Domain, limits: Floats):
        torch = _torch()
        self.parts: list[tuple[Callable[[Tensor], Tensor], Tensor]] = []
        exact = cost.relaxed(domain.space) or (None, None)
        for limit, formula, listed in (
            (limits, exact[0], domain.macs),
            (np.full(len(limits), domain.max_params), exact[1], domain.params),
        ):
            if not np.isinf(limit).all():
                function = _linear(domain, listed) if formula is None else formula
                self.parts.append((function, torch.from_numpy(limit)))
        for each in domain.limits:
            most = torch.full((len(limits),), each.most, dtype=torch.float64)
            # A list has no code of unknown cost, so what is known of it does where an estimate needs more.
            few = domain.codes is not None and each.cost.too_few
            function = _linear(domain, each.cost.known) if few else each.cost.estimate.tensor
            self.parts.append((function, most))

    def __call__(self, grid: Tensor, span: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        torch = _torch()
        excess, normals = [], []
        for function, limit in self.parts:
            # A cost of 0 is far below any limit, and its logarithm has no slope.
            over = torch.log(function(grid).clamp(min=1e-6) / limit)
            (normal,) = torch.autograd.grad(over.sum(), grid)
            excess.append(over.detach())
            normals.append(normal * span)
        return excess, normals


def _linear(domain: Domain, listed: Callable[[Codes], Costs]) -> Callable[[Tensor], Tensor]:
    torch = _torch()
    assert domain.codes is not None
    values = listed(domain.codes).astype(np.float64)
    weights = torch.from_numpy(np.linalg.lstsq(domain.space.relax(domain.codes), values, rcond=None)[0])
    least = float(values.min())

    def function(x: Tensor) -> Tensor:
        result: Tensor = (x @ weights).clamp(min=least)
        return result

    return function


def _macs_anywhere(domain: Domain, codes: Codes) -> Ints:
    """MACs of codes that may lie outside a listed domain; those, and unknown ones, count as -1."""
    if domain.codes is None:
        return domain.macs(codes)
    inside = domain.contains(codes)
    found = np.full(len(codes), np.nan)
    found[inside] = domain.macs(codes[inside])
    return np.where(np.isnan(found), -1, found).astype(np.int64)


def _conclude(
    acquisition: Acquisition, trajectory: Trajectory, polish: int, rng: np.random.Generator
) -> NCPResult:
    """Pick the best of the codes seen that are within the limits, after a last search around them."""
    codes, scores = _seen(acquisition, trajectory)
    if polish:
        codes, scores = _polish(acquisition, codes, scores, polish, rng)
    return _result(acquisition, trajectory, codes, scores, np.argsort(-scores, kind="stable"))


def _seen(acquisition: Acquisition, trajectory: Trajectory) -> tuple[Codes, Floats]:
    """Return the distinct codes of a trajectory that are exactly within the limits, the last seen first."""
    codes = trajectory.codes.reshape(-1, trajectory.codes.shape[-1])[::-1]
    _, first = np.unique(codes, axis=0, return_index=True)
    first.sort()
    first = first[acquisition.domain.contains(codes[first])]
    if not len(first):
        raise InfeasibleError(
            "no step came within the limits: try other limits or another start"
            + (", or the default preset" if trajectory.codes.shape[1] == 1 else "")
        )
    return codes[first], trajectory.score.ravel()[::-1][first]


def _result(
    acquisition: Acquisition, trajectory: Trajectory, codes: Codes, scores: Floats, order: Ints
) -> NCPResult:
    """Return the result for `codes`, of which `order` says which come first."""
    best = acquisition.candidates(codes[order[:64]])
    macs = acquisition.domain.macs(codes)
    by_macs = np.lexsort((-scores, macs))
    record = np.maximum.accumulate(scores[by_macs])
    front = by_macs[np.concatenate([[True], scores[by_macs][1:] > record[:-1]])]
    return NCPResult(
        **vars(best),
        best=tuple(best.codes[0].tolist()),
        names=tuple(goal.key for goal in acquisition.goals),
        trajectory=trajectory,
        pareto=acquisition.candidates(codes[front]),
    )


def _polish(
    acquisition: Acquisition,
    codes: Codes,
    scores: Floats,
    rounds: int,
    rng: np.random.Generator,
) -> tuple[Codes, Floats]:
    """Add the neighbours, by one dimension and by random pairs, of the eight best codes, repeatedly."""
    domain = acquisition.domain
    expanded: set[bytes] = set()
    for _ in range(rounds):
        top = codes[np.argsort(-scores, kind="stable")[:8]]
        top = top[[key not in expanded for key in keys(top)]]
        if not len(top):
            break
        expanded.update(keys(top))
        around = []
        for code in top:
            near = domain.space.neighbors(code)
            # Under a limit one dimension can only grow if another shrinks: two neighbours' changes at once.
            a, b = near[rng.integers(len(near), size=(2, 2 * len(near)))]
            around += [near, np.where(a != code, a, b)]
        found = np.unique(np.concatenate(around), axis=0)
        found = found[domain.contains(found)]
        known = set(keys(codes))
        found = found[[key not in known for key in keys(found)]]
        if not len(found):
            break
        codes = np.concatenate([codes, found])
        scores = np.concatenate([scores, acquisition.score(found)])
    return codes, scores


def _paper(acquisition: Acquisition, first: Codes | None, steps: int, settings: Editing) -> NCPResult:
    """Return what the published editing loop finds, from one code.

    The published start is every channel 64 and every b and n 2; where that exceeds a limit, the channels are
    as many as fit.
    """
    from nasbench_mr.predictors.ncp_mlp import NcpMlp

    if isinstance(acquisition.predictor, _WithCosts):
        raise InvalidArgumentError(
            "the paper's preset takes no measured cost as a task, only its own term of MACs; give a limit"
        )
    if not isinstance(acquisition.predictor, NcpMlp):
        raise InvalidArgumentError(
            f"the paper's preset needs the predictor 'ncp-mlp'; got a {type(acquisition.predictor).__name__}"
        )
    published = acquisition.predictor
    acquisition = replace(acquisition, caution=0.0)
    domain, space = acquisition.domain, acquisition.domain.space
    # Each goal's model, and its metric's position among the model's outputs.
    pulls = []
    for goal, column in zip(acquisition.goals, acquisition.columns, strict=True):
        owner = next(k for k, columns in enumerate(published.columns) if column in columns)
        pulls.append(Pull(goal, published.models[owner], published.columns[owner].index(column)))
    start = _paper_start(domain) if first is None else domain.fix(first.copy())
    visited = edit(pulls, start, _box(domain), steps, space=space, settings=settings)
    flat = visited.reshape(-1, space.DIM)
    shape = visited.shape[:2]
    trajectory = Trajectory(
        visited, acquisition.score(flat).reshape(shape), _macs_anywhere(domain, flat).reshape(shape)
    )
    seen, scores = _seen(acquisition, trajectory)
    # The published loop returns where it ends.
    return _result(acquisition, trajectory, seen, scores, np.arange(len(seen)))


def _paper_start(domain: Domain) -> Codes:
    space = domain.space
    if space.NAME != multi_resolution.NAME:
        return domain.sample(1, np.random.default_rng(0))
    code = np.full((1, space.DIM), 2, np.int16)
    channels = (space.STEP > 1).nonzero()[0]
    for width in range(64, 0, -8):
        code[:, channels] = width
        if domain.contains(domain.fix(code))[0]:
            break
    return code


@dataclass(frozen=True, eq=False)
class Transfer(ByValue):
    """Codes optimised for one task each, and what every task makes of them.

    Attributes:
        names: the tasks.
        codes: `(m, DIM)`, row i optimised for task i.
        macs, params: `(m,)`.
        predicted: `(m, m)`, row i and column j: the code of task i in task j, in j's metric.
        regret: `(m, m)`, how much worse that is than the code optimised for j, in standard deviations of j.
    """

    names: tuple[str, ...]
    codes: Codes
    macs: Ints
    params: Ints
    predicted: Floats
    regret: Floats


def transfer(
    source: Benchmark | Predictor,
    tasks: Tasks,
    *,
    max_macs: float | None = None,
    max_params: float | None = None,
    limits: Mapping[str, float] | None = None,
    seed: int = 0,
    predictor: Predictor | None = None,
    **options: Any,
) -> Transfer:
    """Optimises a code for each task alone and predicts each of them for every task.

    Args:
        options: passed on to `ncp`, with the other arguments.

    Raises:
        InvalidArgumentError: a task has a weight; alone it would have no effect. And as `ncp`.
    """
    weights = objective.parse_tasks(tasks)
    if weighted := next((name for name, weight in weights.items() if weight != 1), None):
        raise InvalidArgumentError(
            f"task {weighted!r} has a weight, which a transfer does not use: each task has a code of its own"
        )
    names = tuple(weights)
    if predictor is None:
        from nasbench_mr.predictors import Predictor

        if isinstance(source, Predictor):
            predictor = source
        elif options.get("preset") == "paper":
            predictor = fit_paper(source, objective.goals(source, names), seed)
        else:
            predictor = fit(source, names, seed)
    given = None if predictor is source else predictor
    within = {"max_macs": max_macs, "max_params": max_params, "limits": limits}
    shared = _acquisition(source, given, names, within, seed=seed)
    options |= within
    best = [ncp(source, name, seed=seed, predictor=given, **options) for name in names]
    codes = np.concatenate([result.codes[:1] for result in best])
    predicted, _ = shared.predict(codes)
    unit = np.array([goal.metric.sign / goal.std for goal in shared.goals])
    return Transfer(
        names=names,
        codes=codes,
        macs=shared.domain.macs(codes),
        params=shared.domain.params(codes),
        predicted=shared.told(predicted),
        regret=(np.diag(predicted) - predicted) * unit,
    )


def _torch() -> ModuleType:
    with requires("search", "NCP"):
        import torch
    return torch
