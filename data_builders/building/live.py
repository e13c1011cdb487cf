"""Objectives that train: any search runs on them as on a table.

    objective = nasbench_mr.data_builders.live("mini-cls", "local", max_macs=5e8)
    search = nasbench_mr.search.make("evolution", objective, seed=0)
    nasbench_mr.search.run(search, objective, budget=50, batch=4)

What is trained is added to a table, so it is never trained twice: not by a second search, nor by the same one
started again. The parts and tables are those of `runner.build`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import checks, objective, tasks
from nasbench_mr.arrays import Codes
from nasbench_mr.checks import at_least
from nasbench_mr.data_builders.building import runner
from nasbench_mr.data_builders.building.trial import Outcome, Trial, address
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.data_builders.training.recipes import Recipe
from nasbench_mr.domain import Domain
from nasbench_mr.errors import DatasetError, InvalidArgumentError, StorageError
from nasbench_mr.objective import Goal, Measured, Objective
from nasbench_mr.release import home

if TYPE_CHECKING:
    from nasbench_mr.benchmark import Benchmark

#: One recipe, several, or names with weights; "mini-seg/mAcc" names a metric other than the objective.
Recipes = str | Recipe | Sequence[str | Recipe] | Mapping[str, float]


class LiveSource:
    """The source of a live objective (`objective.Source`): trains what it is asked for.

    Args:
        builder: of all tasks, those of shorter trainings included.
        shorter: the task that a task becomes when it is trained for fewer epochs.
        seed: of all trials.
        progress: show a bar for each batch.

    Attributes:
        builder: where all that was trained is (`records`).
    """

    def __init__(
        self,
        builder: runner.Builder,
        shorter: Mapping[tuple[str, int], str],
        seed: int = 0,
        progress: bool = False,
    ):
        self.builder, self.seed, self.progress = builder, seed, progress
        self._shorter = dict(shorter)

    def measure(self, codes: Codes, goals: Sequence[Goal], epoch: int | None) -> Measured:
        names = [self._shorter.get((g.task.name, epoch or 0), g.task.name) for g in goals]
        distinct = list(dict.fromkeys(names))
        self.builder.run(runner.plan(distinct, codes, [self.seed]), self.progress)
        runner.compact(self.builder.store, [self.builder.tasks[name] for name in distinct])
        values = np.full((len(codes), len(goals)), np.nan)
        cost = np.zeros(len(codes))
        for row, code in enumerate(codes.tolist()):
            outcomes = {n: self.builder.records[Trial(tuple(code), n, self.seed)].outcome for n in distinct}
            for outcome in outcomes.values():
                if outcome.excused:
                    # A search would take it for a bad code.
                    kind = StorageError if outcome.no_space else DatasetError
                    raise kind(f"{outcome.trial}: {outcome.error}; rerun the search to resume")
            cost[row] = sum(_seconds(outcome) for outcome in outcomes.values())
            for column, (goal, name) in enumerate(zip(goals, names, strict=True)):
                if outcomes[name].status == "ok":
                    values[row, column] = outcomes[name].metrics[goal.metric.name]
        return Measured(values, cost, "seconds")

    def close(self) -> None:
        """End the workers; they start again when something is measured."""
        self.builder.close()


def _seconds(outcome: Outcome) -> float:
    return outcome.busy if outcome.seconds is None else outcome.seconds


def live(
    recipe: Recipes,
    engine: str = "local",
    *,
    out: str | os.PathLike[str] | None = None,
    max_macs: float | None = None,
    max_params: float | None = None,
    fixed: Mapping[str, int] | None = None,
    bench: Benchmark | None = None,
    epochs: Sequence[int] | None = None,
    seed: int = 0,
    progress: bool = False,
    **options: Any,
) -> Objective:
    """Return an objective that trains codes by recipes, anywhere in the space.

    Args:
        recipe: one, several, or names with weights.
        engine, options: as in `runner.Builder`, such as workers=2, data="data", time_limit=600.
        out: where results go, and are found again; by default a folder of these recipes, data and trainer in
            $NASBENCH_MR_HOME/live.
        max_macs, max_params, fixed: limits, as in `domain.Domain`.
        bench: its tables standardise the terms where there are several; without it they add up as they are.
        epochs: shorter trainings that a search may ask for, beside the recipe's own number of epochs: by
            default a half of it, a quarter, ... With several recipes, they are in epochs of the first, and
            the others are shortened alike. A shorter training has the whole schedule of the learning rate,
            and a table of its own.
        seed: of all trials.
        progress: show a bar for each batch on stderr, if that is a terminal.

    Raises:
        RecipeError: no such recipe, or two of one task.
        UnknownMetricError: the task has no such metric.
        InvalidArgumentError, InfeasibleError: a limit or a number of epochs can't be met.
    """
    terms = _terms(recipe, bench)
    full = runner.chosen(list({id(r): r for _, r in terms}.values()))
    total = next(iter(full.values())).epochs
    halves = {total >> k for k in range(1, total.bit_length())}
    points = sorted(halves if epochs is None else {at_least(1, "an epoch", epoch) for epoch in epochs})
    [seed] = checks.seeds([seed])
    if points and not 1 <= points[0] <= points[-1] <= total:
        raise InvalidArgumentError(f"epochs are {points}; expected numbers from 1 to {total}")
    shorter: dict[tuple[str, int], tuple[Recipe, tasks.Task]] = {}
    for name, own in full.items():
        for epoch in points:
            if epoch < total:
                shorter[name, epoch] = _shortened(own, objective.epoch_alike(epoch, total, own.epochs), epoch)
    if out is None:
        told = [recipe.digest for recipe in full.values()]
        # Results of other data, or of another trainer, answer for none of these.
        told += [os.path.abspath(os.path.expanduser(options["data"]))] if options.get("data") else []
        told += [address(options["trainer"])] if options.get("trainer") else []
        digest = hashlib.sha256("".join(told).encode()).hexdigest()[:12]
        out = home() / "live" / f"{'-'.join(full)}-{digest}"
    builder = runner.Builder(
        [*full.values(), *(own for own, _ in shorter.values())],
        out,
        engine,
        unregistered=[task for _, task in shorter.values()],
        **options,
    )
    domain = Domain(max_macs=max_macs, max_params=max_params, fixed=fixed)
    goals = [goal for goal, _ in terms]
    source = LiveSource(builder, {k: task.name for k, (_, task) in shorter.items()}, seed, progress)
    return Objective.live(source, goals, domain, sorted({*points, total}))


def _terms(recipe: Recipes, bench: Benchmark | None) -> list[tuple[Goal, Recipe]]:
    listed = [recipe] if isinstance(recipe, Recipe) else recipe
    given = {r.task: r for r in listed if isinstance(r, Recipe)}
    if isinstance(listed, (Mapping, str)):
        weights = objective.parse_tasks(listed)
    else:
        weights = objective.parse_tasks([r.task if isinstance(r, Recipe) else r for r in listed])
    found = []
    for key, weight in weights.items():
        name, _, metric = key.partition("/")
        own = given.get(name) or recipes.get(name)
        task = tasks.get(own.task)
        goal = Goal(key, task, task.metric(metric or None), weight)
        if bench is not None and task.name in bench.tasks and len(weights) > 1:
            [table] = objective.goals(bench, {f"{task.name}/{goal.metric.name}": weight})
            goal = replace(goal, mean=table.mean, std=table.std)
        found.append((goal, own))
    return found


def _shortened(recipe: Recipe, epochs: int, point: int) -> tuple[Recipe, tasks.Task]:
    """Return the recipe for fewer epochs, and the task that it is of."""
    task = tasks.get(recipe.task)
    name = f"{task.name}-{point}-epochs"
    shorter = replace(task, name=name, title=f"{task.title}, {epochs} epochs", recipe=name, aliases=())
    return recipes.override(recipe, {"name": name, "task": name, "epochs": epochs}), shorter
