"""What a run trains: its tasks and its network, checked before training starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from nasbench_mr.checks import seed as check_seed
from nasbench_mr.errors import DatasetError, IntegrityError, InvalidArgumentError
from nasbench_mr.search.auxnas import links, networks
from nasbench_mr.search.auxnas.config import AuxConfig
from nasbench_mr.search.auxnas.data import AuxData
from nasbench_mr.search.auxnas.tasks import LabelTask, check, get
from nasbench_mr.tensors import load_weights


def prepare(
    primary: str,
    auxiliary: str | Sequence[str],
    data: AuxData,
    config: AuxConfig,
    *,
    seed: int = 0,
    starts: Mapping[str, Path] | None = None,
) -> tuple[list[LabelTask], links.SearchNetwork]:
    """Check all that a training needs; return its tasks, the primary first, and its network.

    Args:
        starts: files with single-task weights by task; by default those of the configuration.
    """
    seed = check_seed(seed)
    tasks = [get(name) for name in (primary, *helpers(auxiliary, config))]
    given = {primary, *split(auxiliary)}
    check(data, [task.name for task in tasks])
    for name in (*config.weights, *config.start):
        get(name)
    for name in config.start:
        if name not in given:
            raise InvalidArgumentError(
                f"start has {name!r}, which is not trained; expected {' or '.join(sorted(given))}"
            )
    least = 4 if config.variant == "aux-nas" else 2
    if len(data.train) < least:
        raise DatasetError(f"{data.name}: {len(data.train)} training samples; expected at least {least}")
    return tasks, search_network(tasks, data, config, seed=seed, starts=starts)


def starts_of(config: AuxConfig, seed: int) -> dict[str, Path]:
    """Return the files that a configuration starts from, by task."""
    return {name: Path(path.replace("{seed}", str(seed))) for name, path in config.start.items()}


def split(names: str | Sequence[str]) -> list[str]:
    """Return names that are given as a list, or as a text with commas."""
    parts = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    return [name for name in parts if name]


def helpers(auxiliary: str | Sequence[str], config: AuxConfig) -> list[str]:
    """Return the auxiliary tasks that a variant trains; raise `InvalidArgumentError` where it lacks one."""
    names = [] if config.variant == "single" else split(auxiliary)
    if not names and config.variant != "single":
        raise InvalidArgumentError(f"the variant {config.variant!r} needs at least one auxiliary task")
    return names


def alone(task: str, config: AuxConfig, *, primary: bool) -> AuxConfig:
    """Return how stage 1 trains a task alone, with the network that the task has in stage 2."""
    weights = {name: weight for name, weight in config.weights.items() if name == task}
    own = dataclasses.replace(config.alone(), weights=weights)
    if primary or config.variant == "aux-head":
        return own
    code, options = config.auxiliary_code or own.primary_code, {**own.options, **config.auxiliary_options}
    return dataclasses.replace(own, primary_code=code, options=options)


def search_network(
    tasks: Sequence[LabelTask],
    data: AuxData,
    config: AuxConfig,
    *,
    seed: int = 0,
    starts: Mapping[str, Path] | None = None,
) -> links.SearchNetwork:
    """Return the network that a configuration trains; the primary's first weights are all variants'."""
    starts = starts_of(config, seed) if starts is None else starts

    def outputs(task: LabelTask) -> int:
        return task.channels(data.train.classes.get(task.name))

    def build(k: int) -> networks.Staged:
        task, size = tasks[k], data.train.size
        own = k > 0 and config.variant != "aux-head"
        options = {**config.options, **config.auxiliary_options} if own else dict(config.options)
        if config.backbone == "multi-resolution":
            options["code"] = (config.auxiliary_code if own else "") or config.primary_code or None
        staged = networks.build(
            config.backbone, outputs(task), task.dense, size, seed=seed * 101 + k, **options
        )
        if task.name in starts:
            try:
                load_weights(starts[task.name], staged.plain())
            except IntegrityError as error:
                code = f" {options['code']}" if "code" in options else ""
                raise IntegrityError(
                    f"can't start {task.name!r} ({config.backbone}{code}, {outputs(task)} outputs): {error}"
                ) from error
        return staged

    primary = build(0)
    if config.variant == "single":
        return links.Single(primary)
    if config.variant == "aux-head":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed * 101 + 1)
            shared = links.Shared(primary, [(outputs(task), task.dense) for task in tasks[1:]])
        for k, head in enumerate(shared.heads, start=1):
            if tasks[k].name in starts:
                head.load_state_dict(build(k).head.state_dict())
        return shared
    gates: tuple[float | None, float | None] = (1.0, None)
    if config.variant == "aux-nas":
        out, back = config.gate_to_auxiliary, config.gate_to_primary
        gates = {"both": (out, back), "to-auxiliary": (out, None), "to-primary": (None, back)}[
            config.directions
        ]
    # Random fusions are drawn by PyTorch's global generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * 101 + 1)
        return links.Linked(
            primary,
            [build(k) for k in range(1, len(tasks))],
            gates=gates,
            norm=config.norm,
            reach=config.reach,
            fusion=config.fusion,
            across=config.across_groups,
        )
