"""Ray Tune: a domain as a search space, an objective as a trainable that reports its learning curve.

    tuner = tune.Tuner(
        adapter.trainable(where), param_space=adapter.param_space(where.domain),
        tune_config=tune.TuneConfig(metric="value", mode="max", num_samples=50, scheduler=ASHAScheduler()),
    )

Each report has the "code", the "value" and the "epoch" (also Ray's "training_iteration" where every epoch was
measured). A trial that its scheduler stops ends there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nasbench_mr.domain import Domain
from nasbench_mr.extras import requires
from nasbench_mr.integrations.target import Target, dimensions, nearest
from nasbench_mr.objective import Objective

with requires("cluster", "the adapter of Ray Tune", {"ray": "2.54.1"}):
    from ray import tune


def param_space(domain: Domain) -> dict[str, Any]:
    """Return a domain's dimensions as Ray Tune knows them: integers with steps, or categories."""
    return {name: _dimension(values, choice) for name, values, choice in dimensions(domain)}


def _dimension(values: range, choice: bool) -> Any:
    if choice or len(values) == 1:
        return tune.choice([*values])
    # With a step of 1, qrandint leaves the last value out as randint does.
    if values.step == 1:
        return tune.randint(values[0], values[-1] + 1)
    return tune.qrandint(values[0], values[-1], values.step)


def trainable(*objectives: Objective) -> Callable[[dict[str, Any]], None]:
    """Return a function for `tune.Tuner`; a worker process has a copy of the objectives.

    Args:
        objectives: one, reported as "value" after each epoch of its learning curve, where there is one; or
            several on the same domain, or a front, reported once, as "value0", "value1", ...

    Raises:
        InvalidArgumentError: the domains differ.
    """
    target = Target(objectives)
    curve = target.size == 1 and bool(objectives[0].epochs)

    def run(config: dict[str, Any]) -> None:
        code = nearest(target.domain, config)
        for epoch, value in target.points(code) if curve else ():
            tune.report({"code": list(code), "value": value, "epoch": epoch})
        values = target.values(code)
        last: dict[str, Any] = {"code": list(code)}
        if len(values) == 1:
            last["value"] = values[0]
        else:
            last |= {f"value{k}": value for k, value in enumerate(values)}
        if curve:
            last["epoch"] = objectives[0].epochs[-1]
        tune.report(last)

    return run
