"""Optuna: suggest codes, optimise an objective, prune by its learning curve, and read a `Trace` as a study.

where = Objective.table(bench, "mini-seg")
study = optuna.create_study(direction="maximize", pruner=optuna.pruners.HyperbandPruner())
study.optimize(adapter.objective(where, prune=True), n_trials=50)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from nasbench_mr.domain import Domain
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.extras import requires
from nasbench_mr.integrations.target import Target, nearest
from nasbench_mr.objective import Objective
from nasbench_mr.search.base import Trace
from nasbench_mr.search.tpe import distributions

with requires("search", "the adapter of Optuna", {"optuna": "4.0"}):
    import optuna


def suggest(trial: optuna.Trial, domain: Domain) -> tuple[int, ...]:
    """Return the code that a trial suggests, or the nearest that may be asked for.

    The trial's parameters stay as suggested; the code is also its attribute "code".

    Args:
        trial: as Optuna gives it.
        domain: the codes that may be asked for, such as `objective.domain`.
    """
    for name, kind in distributions(domain).items():
        if isinstance(kind, optuna.distributions.IntDistribution):
            trial.suggest_int(name, kind.low, kind.high, step=kind.step)
        elif isinstance(kind, optuna.distributions.CategoricalDistribution):
            trial.suggest_categorical(name, kind.choices)
    code = nearest(domain, trial.params)
    trial.set_user_attr("code", list(code))
    return code


def objective(
    *objectives: Objective, prune: bool = False
) -> Callable[[optuna.Trial], float | Sequence[float]]:
    """Return what `study.optimize` takes; every direction is "maximize".

    Args:
        objectives: one, or several on the same domain for a study of as many directions; a front has a
            direction for each of its terms.
        prune: report the learning curve, epoch by epoch, and stop where the study's pruner says so. Such a
            training counts as its share in the objective's `evaluations`.

    Raises:
        InvalidArgumentError: the domains differ, or there is no single learning curve to prune by. What it
            returns raises it where the study minimises, or has another number of directions.
    """
    target = Target(objectives)
    if prune:
        _ = target.curve

    def ask(trial: optuna.Trial) -> float | Sequence[float]:
        _check_directions(trial, target.size)
        code = suggest(trial, target.domain)
        for epoch, value in target.points(code) if prune else ():
            trial.report(value, epoch)
            if trial.should_prune():
                target.stop(code, epoch)
                raise optuna.TrialPruned
        values = target.values(code)
        return values[0] if len(values) == 1 else values

    return ask


def _directions(size: int) -> dict[str, Any]:
    """Return the option of `optuna.create_study` for so many values, the larger the better."""
    return {"direction": "maximize"} if size == 1 else {"directions": ["maximize"] * size}


def _check_directions(trial: optuna.Trial, size: int) -> None:
    """Raise where a trial's study minimises, as Optuna does by default: it would look for the worst code."""
    # A trial that is asked again, or fixed, has no study.
    study = getattr(trial, "study", None)
    found = ["maximize"] * size if study is None else [each.name.lower() for each in study.directions]
    if found != ["maximize"] * size:
        ((option, value),) = _directions(size).items()
        raise InvalidArgumentError(
            f"the study's directions are {found}; expected {size} times 'maximize', as the values are the "
            f"larger the better: optuna.create_study({option}={value!r})"
        )


def to_study(trace: Trace, domain: Domain, **options: Any) -> optuna.Study:
    """Return a search's `Trace` as a study, for Optuna's plots, importances and dashboard.

    Each code is a trial: complete with its value, or pruned where it was never trained to the end; values of
    shorter trainings are intermediate ones. Its attributes are the evaluations and the cost spent so far. A
    front's has a direction for each objective, and, as Optuna has it, no intermediate values.

    Args:
        trace: of `search.run`.
        domain: where the search ran.
        options: for `optuna.create_study`, such as `study_name` and `storage`.
    """
    if "direction" in options or "directions" in options:
        raise InvalidArgumentError("a trace's values are the larger the better; leave the direction out")
    kinds = distributions(domain)
    rows: dict[tuple[int, ...], list[int]] = {}
    for row, code in enumerate(trace.codes.tolist()):
        rows.setdefault(tuple(code), []).append(row)
    size = math.prod(trace.values.shape[1:])
    study = optuna.create_study(**_directions(size), **options)
    for code, own in rows.items():
        full = [row for row in own if trace.fidelity[row] == 0]
        short = [row for row in own if row not in full and size == 1]
        attributes = {
            "evaluations": float(trace.evaluations[own[-1]]),
            f"spent ({trace.unit})": float(trace.spent[own[-1]]),
        }
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE if full else optuna.trial.TrialState.PRUNED,
                values=trace.values[full[0]].reshape(size).tolist() if full else None,
                params=dict(zip(kinds, code, strict=True)),
                distributions=kinds,
                intermediate_values={int(trace.fidelity[row]): float(trace.values[row]) for row in short},
                user_attrs={"code": list(code), **attributes},
            )
        )
    return study
