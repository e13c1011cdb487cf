"""ConfigSpace and SMAC3: a domain as a `ConfigurationSpace`, an objective as a target function.

    scenario = adapter.scenario(where, n_trials=60, seed=0)
    facade = MultiFidelityFacade(scenario, adapter.target(where, budgets=True))
    code = adapter.code(where, facade.optimize())

SMAC minimises, so a target function gives the negated value. A budget is an epoch of the learning curve.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.extras import requires
from nasbench_mr.integrations.target import Target, dimensions, nearest
from nasbench_mr.objective import Objective

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace
    from smac import Scenario

    from nasbench_mr.domain import Domain


def configspace(domain: Domain, seed: int | None = None) -> ConfigurationSpace:
    """Return a domain's dimensions as ConfigSpace knows them: ordinal, categories, and fixed values."""
    with requires("space", "the adapter of ConfigSpace", {"ConfigSpace": "1.2"}):
        from ConfigSpace import (
            CategoricalHyperparameter,
            ConfigurationSpace,
            Constant,
            OrdinalHyperparameter,
        )
    made = ConfigurationSpace(name=domain.space.NAME, seed=seed)
    for name, values, choice in dimensions(domain):
        kind = CategoricalHyperparameter if choice else OrdinalHyperparameter
        made.add(kind(name, list(values)) if len(values) > 1 else Constant(name, values[0]))
    return made


def code(where: Objective, configuration: Configuration) -> tuple[int, ...]:
    """Return the code that a configuration stands for: itself, or the nearest that may be asked for."""
    return nearest(where.domain, dict(configuration))


def scenario(where: Objective, n_trials: int, seed: int = 0, **options: Any) -> Scenario:
    """Return SMAC's scenario of an objective, with its epochs as budgets where it has a learning curve.

    Args:
        where: the objective.
        n_trials: target functions that may be called.
        seed: of SMAC's randomness.
        options: further ones of `smac.Scenario`, such as `output_directory`.

    Raises:
        MissingExtraError: SMAC3 is not installed, or too old.
    """
    with requires("smac", "the adapter of SMAC3", {"smac": "2.3"}):
        from smac import Scenario
    budgets = {"min_budget": where.epochs[0], "max_budget": where.epochs[-1]} if where.epochs else {}
    given = {"deterministic": True, **budgets, **options}
    return Scenario(configspace(where.domain, seed), n_trials=n_trials, seed=seed, **given)


def target(where: Objective, *, budgets: bool = False) -> Callable[..., float]:
    """Return what SMAC calls: a function of a configuration that gives the negated value.

    Args:
        where: the objective; its `evaluations` count what SMAC asked.
        budgets: whether it also takes a budget, as multi-fidelity facades ask: the training stops at the
            nearest epoch of the learning curve.

    Raises:
        InvalidArgumentError: budgets without a learning curve, or a front.
    """
    asked = Target([where])
    if asked.size > 1:
        raise InvalidArgumentError(
            f"SMAC minimises one value, and the objective is a front of {asked.size}; give one of its tasks, "
            "or take the adapter of Optuna, BoTorch or Ray Tune"
        )
    epochs = asked.curve.epochs if budgets else ()

    # SMAC tells from the names of the arguments what it may pass.
    def whole(config: Configuration, seed: int = 0) -> float:
        return -asked.values(code(where, config))[0]

    def short(config: Configuration, seed: int = 0, budget: float | None = None) -> float:
        epoch = epochs[-1] if budget is None else min(epochs, key=lambda each: abs(each - budget))
        if epoch == epochs[-1]:
            return whole(config)
        return -asked.stop(code(where, config), epoch)

    return short if budgets else whole
