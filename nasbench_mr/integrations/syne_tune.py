"""Syne Tune: a task as a blackbox for simulated runs, and as the files of its blackbox repository.

    blackbox = adapter.to_blackbox(bench, "mini-seg")
    backend = UserBlackboxBackend(blackbox, elapsed_time_attr=adapter.ELAPSED)

Objectives are the task's metrics in their own units, `metric_macs` and `metric_params`, and the time since a
training began, all of them means over the table's seeds. A task without learning curves has one fidelity.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import files
from nasbench_mr.arrays import Codes
from nasbench_mr.errors import CodeNotFoundError, InvalidArgumentError, ReleaseError
from nasbench_mr.extras import requires
from nasbench_mr.integrations.target import dimensions, nearest
from nasbench_mr.objective import Objective

if TYPE_CHECKING:
    from syne_tune.blackbox_repository.blackbox_tabular import BlackboxTabular

    from nasbench_mr.benchmark import Benchmark
    from nasbench_mr.domain import Domain

#: The fidelity, and the objective that a simulated backend takes the time from.
EPOCH, ELAPSED = "epoch", "metric_elapsed_time"
_UNIFORM = {"sampler_cls": "Uniform", "sampler_kwargs": {}}


@dataclass(frozen=True)
class _Values:
    """A task's table in Syne Tune's terms.

    Attributes:
        domain: its codes.
        names: the objectives' names.
        epochs: the fidelities.
        values: `(n, 1, epochs, objectives)`.
        unit: of the elapsed time.
    """

    domain: Domain
    names: list[str]
    epochs: list[int]
    values: np.ndarray[Any, Any]
    unit: str


def to_blackbox(bench: Benchmark, task: str) -> BlackboxTabular:
    """Return a task as a blackbox that answers for any configuration: that of the nearest tabulated code.

    It knows the epochs of its `fidelity_values`; asked for another, it raises CodeNotFoundError.

    Args:
        bench: where the task is.
        task: its name.

    Raises:
        UnknownTaskError: no such task.
        MissingExtraError: Syne Tune is not installed, or too old.
    """
    with requires("syne-tune", "the adapter of Syne Tune", {"syne-tune": "0.15"}):
        from syne_tune.blackbox_repository.blackbox_tabular import BlackboxTabular
        from syne_tune.config_space import config_space_from_json_dict

    class Nearest(BlackboxTabular):  # type: ignore[misc]
        def _objective_function(
            self, configuration: Any, fidelity: Any = None, seed: int | None = None
        ) -> Any:
            if isinstance(configuration, dict):
                configuration = dict(zip(domain.space.NAMES, nearest(domain, configuration), strict=True))
            if fidelity is not None and fidelity[EPOCH] not in found.epochs:
                raise CodeNotFoundError(
                    f"{EPOCH} is {fidelity[EPOCH]}; expected one of {', '.join(map(str, found.epochs))}, at "
                    f"which {task!r} was evaluated"
                )
            return super()._objective_function(configuration, fidelity, seed)

    found = _read(bench, task)
    domain = found.domain
    import pandas as pd

    return Nearest(
        hyperparameters=pd.DataFrame(domain.codes, columns=list(domain.space.NAMES), dtype=np.int64),
        configuration_space=config_space_from_json_dict(_configurations(domain)),
        fidelity_space=config_space_from_json_dict(_fidelities(found.epochs)),
        objectives_evaluations=found.values,
        fidelity_values=np.array(found.epochs),
        objectives_names=found.names,
    )


def export_blackbox(bench: Benchmark, tasks: str | Sequence[str], folder: str | os.PathLike[str]) -> Path:
    """Write tasks as a folder of Syne Tune's blackbox repository; needs no Syne Tune.

    `syne_tune.blackbox_repository.blackbox_tabular.deserialize` reads it. Values are float32, as there.

    Args:
        bench: where the tasks are.
        tasks: names; they must share codes, epochs and metrics.
        folder: new; it is there whole or not at all.

    Raises:
        ReleaseError: there is something at `folder` already.
        InvalidArgumentError: no task is given, or the tasks have different codes, epochs or metrics.
    """
    import pandas as pd

    names = [tasks] if isinstance(tasks, str) else list(tasks)
    if not names:
        raise InvalidArgumentError(f"tasks are {tasks!r}; expected at least one of {', '.join(bench.tasks)}")
    target = Path(folder)
    if target.exists():
        raise ReleaseError(f"{target} is there already; give the name of a folder that is not")
    found = [_read(bench, name) for name in names]
    first = found[0]
    codes = _codes(first.domain)
    for name, other in zip(names, found, strict=True):
        alike = (other.names, other.epochs) == (first.names, first.epochs)
        if not (alike and np.array_equal(_codes(other.domain), codes)):
            raise InvalidArgumentError(
                f"{names[0]!r} and {name!r} have different codes, epochs or metrics; expected the same in "
                "all tasks of a folder: export each to a folder of its own"
            )
    documents = {
        "configspace.json": _configurations(first.domain),
        "fidelityspace.json": _fidelities(first.epochs),
        "metadata.json": {
            "metric_elapsed_time": ELAPSED,
            "default_metric": first.names[0],
            "resource_attr": EPOCH,
            "elapsed_time_unit": first.unit,
            "release": str(bench.release_of(names[0])),
            "objectives_names": first.names,
            "task_names": names,
        },
    }
    with files.atomic_folder(target) as made:
        for document, content in documents.items():
            files.write_text(made / document, json.dumps(content, indent=2) + "\n")
        frame = pd.DataFrame(codes, columns=list(first.domain.space.NAMES), dtype=np.int64)
        frame.to_parquet(made / "hyperparameters.parquet", index=False, compression="gzip")
        every = np.stack([each.values for each in found]).astype(np.float32)
        np.save(made / "objectives_evaluations.npy", every, allow_pickle=False)
        np.save(made / "fidelities_values.npy", np.array(first.epochs), allow_pickle=False)
    return target


def _read(bench: Benchmark, name: str) -> _Values:
    task = bench.task(name)
    columns = [Objective.table(bench, f"{task.name}/{metric.name}") for metric in task.metrics]
    first = columns[[metric.name for metric in task.metrics].index(task.objective)]
    codes = _codes(first.domain)
    if any(not np.array_equal(_codes(other.domain), codes) for other in columns):
        raise InvalidArgumentError(
            f"the metrics of {task.name!r} are known for different codes; a blackbox needs all for each"
        )
    costs = [c for c in ("macs", "params") if np.isfinite(getattr(first.domain, c)(codes)).all()]
    names = [*(f"metric_{metric.name}" for metric in task.metrics), *(f"metric_{c}" for c in costs), ELAPSED]
    epochs = list(first.epochs) or [1]
    values = np.empty((len(codes), 1, len(epochs), len(names)))
    for k, epoch in enumerate(epochs):
        # The last point of a curve is the end, whose values are exact.
        asked = None if k == len(epochs) - 1 else epoch
        for column, objective in enumerate(columns):
            # NaN where a metric has no such point of its learning curve.
            known = asked is None or asked in objective.epochs
            sign = objective.goals[0].metric.sign
            values[:, 0, k, column] = objective.measure(codes, asked).values * sign if known else np.nan
        for column, cost in enumerate(costs, start=len(columns)):
            values[:, 0, k, column] = getattr(first.domain, cost)(codes)
        values[:, 0, k, -1] = first.measure(codes, asked).cost
    return _Values(first.domain, names, epochs, values, first.unit)


def _codes(domain: Domain) -> Codes:
    assert domain.codes is not None
    return domain.codes


def _configurations(domain: Domain) -> dict[str, Any]:
    """Return a domain as Syne Tune's JSON: a range of integers, or categories."""
    found: dict[str, Any] = {}
    for name, values, choice in dimensions(domain):
        found[name] = (
            {"domain_cls": "Categorical", "domain_kwargs": {"categories": [*values]}, **_UNIFORM}
            if choice
            else _steps(values)
        )
    return found


def _fidelities(epochs: Sequence[int]) -> dict[str, Any]:
    """Return the epochs as Syne Tune's JSON: all from the first to the last, or every k-th.

    Syne Tune asks a fidelity for its upper end, which its lists of values lack: unequal steps are all.
    """
    low, high = int(epochs[0]), int(epochs[-1])
    step = int(epochs[1]) - low if len(epochs) > 1 else 1
    if step > 1 and list(epochs) == [*range(low, high + 1, step)]:
        return {EPOCH: _steps(range(low, high + 1, step))}
    return {EPOCH: {"domain_cls": "Integer", "domain_kwargs": {"lower": low, "upper": high}, **_UNIFORM}}


def _steps(values: range) -> dict[str, Any]:
    ends = {"lower": values[0], "upper": values[-1], "size": len(values)}
    return {"domain_cls": "FiniteRange", "domain_kwargs": {**ends, "log_scale": False, "cast_int": True}}
