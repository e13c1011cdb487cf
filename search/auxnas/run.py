"""Aux-NAS: a better primary network from auxiliary labels, at the cost of the primary alone.

`aux_nas` is the function to call (Gao et al., "Aux-NAS: Exploiting Auxiliary Labels with Negligibly Extra
Inference Cost", ICLR 2024). It trains a network for the primary task beside one for each auxiliary task, with
links between them that are searched: primary to auxiliary links may stay, since only the auxiliaries need
them; auxiliary to primary links are pushed shut. What is left is the primary network. `rank_auxiliary` says
what the tables of a benchmark know about which task may help which. docs/aux_nas.md tells the rest.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import files, objective, space
from nasbench_mr.errors import (
    DatasetError,
    IntegrityError,
    InvalidArgumentError,
    RecipeError,
    did_you_mean,
)
from nasbench_mr.extras import requires

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nasbench_mr.benchmark import Benchmark
    from nasbench_mr.search.auxnas.data import AuxData
    from nasbench_mr.search.auxnas.links import SearchNetwork

VARIANTS = ("single", "aux-head", "aux-g", "aux-nas")
BALANCES = ("sum", "pcgrad", "uncertainty", "gradnorm")


@dataclass(frozen=True)
class AuxConfig:
    """How a primary network is trained; by default as published for ViT-Base on NYUv2."""

    #: What helps: nothing, heads on the primary's backbone, links from the primary, links both ways.
    variant: str = "aux-nas"
    #: How the tasks' losses become one gradient: see `aux_training.Balance`.
    balance: str = "sum"
    #: Weights of the tasks' losses; by default 20 for normals and 1 for the others.
    weights: Mapping[str, float] = field(default_factory=dict)

    #: The network: a name of `aux_network.BACKBONES`, and options for it; other options for the auxiliaries'.
    backbone: str = "multi-resolution"
    options: Mapping[str, Any] = field(default_factory=dict)
    auxiliary_options: Mapping[str, Any] = field(default_factory=dict)
    #: Codes of the primary and of the auxiliary networks, for "multi-resolution"; "" is the primary's.
    primary_code: str = ""
    auxiliary_code: str = ""
    #: Single-task weights to start from, by task: files that earlier runs saved.
    start: Mapping[str, str] = field(default_factory=dict)

    #: Links: how far back a stage reads (k - j < reach), batch norm and ReLU after the fusion, and the gates'
    #: values at the start.
    reach: int = 3
    norm: bool = False
    gate_to_auxiliary: float = 0.5
    gate_to_primary: float = 0.001
    #: Weight of the mean gate to the primary in the gates' loss, and when it rises to that, in shares of the
    #: training.
    penalty: float = 1000.0
    penalty_period: tuple[float, float] = (0.5, 0.8)
    #: From this share of the training on, the links to the primary are gone for good, so that it learns to do
    #: without what they lent; 1: they go at the end, as published.
    cut: float = 1.0
    #: Weight of the entropy of the gates to the auxiliaries, which makes them choose; off as published.
    entropy: float = 0.0
    entropy_period: tuple[float, float] = (0.2, 0.5)
    #: A gate to the primary above it counts as open.
    threshold: float = 0.01

    #: Optimisation: Adam, poly 0.9. An epoch of Aux-NAS updates the weights on half of the training set.
    epochs: int = 100
    #: Updates of the weights; 0: as many as the epochs have.
    steps: int = 0
    batch_size: int = 20
    lr: float = 1e-4
    gate_lr: float = 1e-2
    weight_decay: float = 0.0
    #: "float32", or "bfloat16" for mixed precision.
    precision: str = "float32"
    #: Augmentation: how often images are mirrored; zoomed into, and by up to what factor; turned, and by up
    #: to how many degrees.
    flip: float = 0.5
    crop_share: float = 0.3
    zoom: float = 1.5
    rotate_share: float = 0.2
    rotate: float = 10.0
    #: Evaluate after so many steps (0: ten times in all); save a checkpoint after so many.
    eval_every: int = 0
    eval_batch_size: int = 50
    save_every: int = 200

    def __post_init__(self) -> None:
        def need(good: bool, name: str, expected: str) -> None:
            if not good:
                raise RecipeError(f"{name} is {getattr(self, name)!r}; expected {expected}")

        for each in dataclasses.fields(self):
            value, kind = getattr(self, each.name), str(each.type)
            need(_fits(value, kind), each.name, kind)
        need(self.variant in VARIANTS, "variant", ", ".join(VARIANTS))
        need(self.balance in BALANCES, "balance", ", ".join(BALANCES))
        need(self.precision in ("float32", "bfloat16"), "precision", "float32 or bfloat16")
        for name in ("reach", "epochs", "batch_size", "eval_batch_size", "save_every"):
            need(getattr(self, name) >= 1, name, "at least 1")
        for name in ("steps", "eval_every"):
            need(getattr(self, name) >= 0, name, "at least 0")
        for name in ("lr", "gate_lr"):
            need(0 < getattr(self, name) < math.inf, name, "a positive number")
        for name in ("penalty", "entropy", "weight_decay", "rotate"):
            need(0 <= getattr(self, name) < math.inf, name, "a number of at least 0")
        for name in ("flip", "crop_share", "rotate_share", "threshold"):
            need(0 <= getattr(self, name) <= 1, name, "a share, 0 to 1")
        for name in ("gate_to_auxiliary", "gate_to_primary"):
            need(0 < getattr(self, name) < 1, name, "a number between 0 and 1")
        for name in ("penalty_period", "entropy_period"):
            start, end = getattr(self, name)
            need(0 <= start < end <= 1, name, "two rising shares of the training")
        need(0 < self.cut <= 1, "cut", "a share of the training above 0, at most 1")
        need(1 <= self.zoom < math.inf, "zoom", "a factor of at least 1")
        need(all(0 <= w < math.inf for w in self.weights.values()), "weights", "numbers of at least 0")

    def digests(self) -> dict[str, str]:
        """SHA-256 by path of the files with weights to start from: a run is known by what was in them."""
        named = [Path(path) for path in self.start.values()]
        for options in (self.options, self.auxiliary_options):
            checkpoint = Path(str(options.get("checkpoint", "")))
            if "checkpoint" in options and checkpoint.is_dir():
                named += sorted(checkpoint.iterdir())
        return {str(path): files.sha256(path) for path in named if path.is_file()}

    @classmethod
    def of(cls, *changes: Mapping[str, Any]) -> AuxConfig:
        """The defaults with fields changed, later changes over earlier ones.

        Raises:
            RecipeError: an unknown field, or a value of the wrong type or out of range.
        """
        merged: dict[str, Any] = {}
        for change in changes:
            merged |= change
        types = {f.name: str(f.type) for f in dataclasses.fields(cls)}
        for key, value in merged.items():
            if key not in types:
                raise RecipeError(f"no field {key!r}: {did_you_mean(key, types)}")
            if key.endswith("_code") and not isinstance(value, str):
                merged[key] = space.to_string(value)
            elif isinstance(value, list) and types[key].startswith("tuple"):
                merged[key] = tuple(value)
            elif type(value) is int and types[key] == "float":
                merged[key] = float(value)
        return cls(**merged)


def _fits(value: object, kind: str) -> bool:
    if kind.startswith("Mapping"):
        numbers = kind.endswith("float]")
        return isinstance(value, Mapping) and all(
            isinstance(k, str) and (not numbers or type(v) in (int, float)) for k, v in value.items()
        )
    if kind.startswith("tuple"):
        return isinstance(value, tuple) and len(value) == 2 and all(type(v) in (int, float) for v in value)
    if kind == "float":
        return type(value) in (int, float)
    return type(value).__name__ == kind


@dataclass(frozen=True)
class AuxResult:
    """What `aux_nas` found.

    Attributes:
        primary, auxiliary: the tasks.
        data, data_digest: the data's name, and its `AuxData.digest`.
        config: how it was trained. start: `AuxConfig.digests` then.
        seed: of everything random.
        metrics: each task's final validation metrics; the primary's are those of the exported network.
        curve: columns "step", "seconds", "loss/<task>", "<task>/<metric>", "affinity/<auxiliary>", one row an
            evaluation; see `aux_training.Trained`.
        gates: "to_primary", "to_auxiliary": `(evaluations + 1, gates)`, the first row before training.
        edges: the gates' names, by direction.
        open_gates: the gates to the primary that ended above `config.threshold`.
        drop: how much worse each of the primary's metrics became by closing the gates to it at the end;
            negative where closing helped, empty where there were none left (`config.cut`).
        macs, params: of the exported network on one image; `macs` counts as `cost` does, and is None for
            backbones without a code.
        steps, seconds: of training. status: "ok" or "diverged".
        device: where.
    """

    primary: str
    auxiliary: tuple[str, ...]
    data: str
    data_digest: str
    config: AuxConfig
    start: dict[str, str]
    seed: int
    metrics: dict[str, dict[str, float]]
    curve: dict[str, list[float]]
    gates: dict[str, npt.NDArray[np.float64]]
    edges: dict[str, tuple[str, ...]]
    open_gates: tuple[str, ...]
    drop: dict[str, float]
    macs: int | None
    params: int
    steps: int
    seconds: float
    status: str
    device: str
    network: SearchNetwork = field(repr=False)

    def export(self) -> nn.Module:
        """The primary network alone, as an ordinary module in evaluation mode.

        For "multi-resolution" it is a `MultiResolutionNet`, the same as one that was trained alone.
        """
        return self.network.export()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the network, JSON-ready; NaN becomes None."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "network"}
        plain["config"] = dataclasses.asdict(self.config)
        plain["gates"] = {key: values.round(6).tolist() for key, values in self.gates.items()}
        strict: dict[str, Any] = json.loads(json.dumps(plain), parse_constant=lambda _: None)
        return strict

    def report(self) -> str:
        """A few lines for people: the primary's metrics, and what became of the gates."""
        values = ", ".join(f"{k} {v:.2f}" for k, v in self.metrics[self.primary].items())
        lines = [f"{self.primary} ({self.config.variant}): {values}"]
        if self.status != "ok":
            lines.append(
                f"DIVERGED after {self.steps} updates: the loss was no longer finite, and these metrics are "
                "of no use. Try a lower lr"
            )
        elif self.gates["to_primary"].size and not self.drop:
            lines.append(f"the links to the primary were cut after {self.config.cut:.0%} of the training")
        elif self.gates["to_primary"].size:
            worst = ", ".join(f"{k} {v:+.2f}" for k, v in self.drop.items())
            limit = f"{self.config.threshold:g}"
            if self.open_gates:
                found = (
                    f"{len(self.open_gates)} of {len(self.edges['to_primary'])} gates to the primary are "
                    f"still above {limit} ({'; '.join(self.open_gates[:3])}, ...)"
                )
            else:
                found = f"all gates to the primary are at most {limit}"
            lines.append(
                f"{found}; they are removed. The metrics are those without; that made them worse by: {worst}"
            )
        return "\n".join(lines)


def aux_nas(
    primary: str,
    auxiliary: str | Sequence[str],
    data: AuxData,
    config: AuxConfig | Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **changes: Any,
) -> AuxResult:
    """Trains a network for one task with the labels of others, and keeps that network alone.

    Args:
        primary: the task that counts: a name of `aux_tasks.TASKS`.
        auxiliary: the tasks that may help; the variant "single" ignores them.
        data: images with labels of all these tasks (`aux_data.load`).
        config: an `AuxConfig`, or fields of one.
        seed: of the weights, the batches and the augmentation.
        device: by default a GPU if there is one.
        out: a folder for `config.json`, `result.json`, `primary.safetensors` (the exported network's weights;
            `load_primary` reads them) and the checkpoint, from which the same call goes on after it was
            killed.
        progress: show a bar with all tasks' metrics and the open gates on stderr, if that is a terminal.
        changes: fields of the configuration, over `config`.

    Raises:
        UnknownTaskError, UnknownNameError, DatasetError, RecipeError, InvalidArgumentError: bad input, before
            training starts.
        IntegrityError: `out` has the checkpoint of another run, or a damaged one; nothing is changed there.
        MissingExtraError: torch or what the backbone needs is not installed.
    """
    config = config if isinstance(config, AuxConfig) else AuxConfig.of(config or {})
    if changes:
        config = AuxConfig.of(vars(config), changes)
    tasks, network = prepare(primary, auxiliary, data, config, seed)
    auxiliary = tuple(task.name for task in tasks[1:])
    from nasbench_mr.data_builders.training.train import choose_device
    from nasbench_mr.search.auxnas import training as aux_training

    chosen = choose_device(device)
    folder = None if out is None else Path(out)
    training = aux_training.Training(network, tasks, data, config, seed, chosen, folder)
    if folder is not None:
        about = {"primary": primary, "auxiliary": auxiliary, "seed": seed}
        read = {"name": data.name, "digest": data.digest, "pixels": data.train.size, **data.about}
        read["outputs"] = tasks[0].channels(data.train.classes.get(primary))
        text = json.dumps({**about, "data": read, "config": dataclasses.asdict(config)}, indent=2) + "\n"
        files.write_text(folder / "config.json", text)
    trained = training.run(progress)
    result = _result(trained, primary, auxiliary, data, config, training.begun, seed, chosen)
    if folder is not None:
        aux_training.save_weights(result.export(), folder / "primary.safetensors")
        files.write_text(folder / "result.json", json.dumps(result.to_dict(), indent=1) + "\n")
    return result


def prepare(
    primary: str, auxiliary: str | Sequence[str], data: AuxData, config: AuxConfig, seed: int = 0
) -> tuple[list[Any], SearchNetwork]:
    """All that is checked before a training: its tasks, the primary first, and its network.

    Raises:
        UnknownTaskError, UnknownNameError, DatasetError, InvalidArgumentError: as `aux_nas`.
    """
    names = [n.strip() for n in auxiliary.split(",")] if isinstance(auxiliary, str) else list(auxiliary)
    given = {primary, *filter(None, names)}
    names = [] if config.variant == "single" else [name for name in names if name]
    if not names and config.variant != "single":
        raise InvalidArgumentError(f"the variant {config.variant!r} needs at least one auxiliary task")
    if not isinstance(seed, int) or seed < 0:
        raise InvalidArgumentError(f"seed is {seed!r}; expected an integer, at least 0")
    with requires("auxnas", "Aux-NAS"):
        import torch  # noqa: F401
    from nasbench_mr.search.auxnas import data as aux_data
    from nasbench_mr.search.auxnas import tasks as aux_tasks
    from nasbench_mr.search.auxnas import training as aux_training

    tasks = aux_training.tasks_of(primary, names)
    aux_data.check(data, [task.name for task in tasks])
    for name in (*config.weights, *config.start):
        aux_tasks.get(name)
        if name not in given:
            raise InvalidArgumentError(
                f"weights or start have {name!r}, which is not trained; expected {' or '.join(sorted(given))}"
            )
    least = 4 if config.variant == "aux-nas" else 2
    if len(data.train) < least:
        raise DatasetError(f"{data.name}: {len(data.train)} training samples; expected at least {least}")
    return tasks, search_network(tasks, data, config, seed)


def load_primary(folder: str | os.PathLike[str]) -> nn.Module:
    """The primary network that a run kept in its folder `out`, in evaluation mode.

    Raises:
        IntegrityError: the folder has no finished run, or is damaged.
    """
    from nasbench_mr.search.auxnas import network as aux_network
    from nasbench_mr.search.auxnas import tasks as aux_tasks
    from nasbench_mr.search.auxnas import training as aux_training

    place = Path(folder)
    try:
        about = json.loads((place / "config.json").read_text("utf-8"))
        config, data = AuxConfig.of(about["config"]), about["data"]
        dense = aux_tasks.get(about["primary"]).dense
        outputs, size = int(data["outputs"]), (int(data["pixels"][0]), int(data["pixels"][1]))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise IntegrityError(f"{place} has no config.json of a run ({error})") from error
    options = dict(config.options)
    if config.backbone == "multi-resolution":
        options["code"] = config.primary_code
    network = aux_network.build(config.backbone, outputs, dense, size, **options).plain()
    aux_training.load_weights(network, place / "primary.safetensors")
    return network.eval()


def search_network(tasks: Sequence[Any], data: AuxData, config: AuxConfig, seed: int = 0) -> SearchNetwork:
    """The network that a configuration trains; the primary's first weights are the same in all variants."""
    from nasbench_mr.search.auxnas import links as aux_links
    from nasbench_mr.search.auxnas import network as aux_network
    from nasbench_mr.search.auxnas import training as aux_training

    def build(k: int) -> aux_network.Staged:
        task = tasks[k]
        options = dict(config.options) if k == 0 else {**config.options, **config.auxiliary_options}
        if config.backbone == "multi-resolution":
            options["code"] = (config.auxiliary_code if k else "") or config.primary_code or None
        outputs = task.channels(data.train.classes.get(task.name))
        staged = aux_network.build(
            config.backbone, outputs, task.dense, data.train.size, seed * 101 + k, **options
        )
        if task.name in config.start:
            aux_training.load_weights(staged.plain(), config.start[task.name])
        return staged

    primary = build(0)
    if config.variant == "single":
        return aux_links.Single(primary)
    if config.variant == "aux-head":
        import torch

        heads = [(t.channels(data.train.classes.get(t.name)), t.dense) for t in tasks[1:]]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed * 101 + 1)
            return aux_links.Shared(primary, heads)
    return aux_links.Linked(
        primary,
        [build(k) for k in range(1, len(tasks))],
        both_ways=config.variant == "aux-nas",
        gates=(config.gate_to_auxiliary, config.gate_to_primary),
        reach=config.reach,
        norm=config.norm,
    )


def _result(
    trained: Any,
    primary: str,
    auxiliary: tuple[str, ...],
    data: AuxData,
    config: AuxConfig,
    begun: dict[str, str],
    seed: int,
    device: torch.device,
) -> AuxResult:
    from nasbench_mr import cost
    from nasbench_mr.data_builders.training.train import device_name
    from nasbench_mr.search.auxnas import tasks as aux_tasks

    network = trained.network
    exported = network.export()
    edges = {
        key: tuple(
            f"{name} {edge}" for name, links in zip(auxiliary, sets, strict=False) for edge in links.edges
        )
        for key, sets in (("to_primary", network.to_primary()), ("to_auxiliary", network.to_auxiliary()))
    }
    final = trained.gates["to_primary"][-1]
    macs = None
    if config.backbone == "multi-resolution" and "stem_strides" not in config.options:
        task = aux_tasks.get(primary)
        macs = int(
            cost.macs(
                [space.parse(config.primary_code)],
                data.train.size,
                task.channels(data.train.classes.get(primary)),
                head="segmentation" if task.dense else "classification",
                width_mult=config.options.get("width_mult", 1.0),
            )[0]
        )
    return AuxResult(
        primary,
        auxiliary,
        data.name,
        data.digest,
        config,
        begun,
        seed,
        trained.metrics,
        trained.curve,
        trained.gates,
        edges,
        tuple(name for name, gate in zip(edges["to_primary"], final, strict=True) if gate > config.threshold),
        trained.drop,
        macs,
        sum(p.numel() for p in exported.parameters()),
        trained.steps,
        trained.seconds,
        "diverged" if trained.diverged else "ok",
        device_name(device),
        network,
    )


# --- What the tables say ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Helper:
    """What a benchmark's tables say about a task as a helper for another; see `rank_auxiliary`.

    Attributes:
        task: the candidate.
        score: mean of `correlation` and `shared`.
        correlation: Kendall's tau of the two objectives over the codes both have.
        shared: share of the primary's best codes that are also among the candidate's.
        regret: how much of the primary's objective the candidate's best code loses, in its unit.
        codes: how many codes both have.
    """

    task: str
    score: float
    correlation: float
    shared: float
    regret: float
    codes: int


def rank_auxiliary(bench: Benchmark, primary: str, top: float = 0.1) -> list[Helper]:
    """The tasks of the primary's space as helpers for it, the most promising first.

    Tables tell which architectures suit a task. Tasks that want the same architectures may need similar
    features, and then one's labels may help the other's training: that is all this ranking knows. It has seen
    no training with both labels; tasks measured on other images rank as well as any; two settings of one data
    set come first although the second adds nothing; and where trials are noisy or few, so is the ranking.
    Whether a task helps is found by training: `aux_nas` with and without it.

    Args:
        top: the share of codes that counts as best.

    Raises:
        UnknownTaskError: no such task.
        InvalidArgumentError: `top` is not in (0, 1], or no other task shares codes with the primary.
    """
    if not 0 < top <= 1:
        raise InvalidArgumentError(f"top is {top}; expected a share above 0, at most 1")
    from nasbench_mr.analysis import kendall_tau

    task = bench.task(primary)
    helpers = []
    for name in bench.tasks:
        other = bench.task(name)
        if name == task.name or other.space != task.space:
            continue
        codes = bench.codes(task.name)
        x, y = (
            t.metric().sign * bench.query_many(codes, t.name, (t.objective,), "table", "nan")[t.objective]
            for t in (task, other)
        )
        known = np.isfinite(x) & np.isfinite(y)
        x, y = x[known], y[known]
        if len(x) < 2:
            continue
        count = max(1, round(top * len(x)))
        best_x, best_y = (np.argsort(-v, kind="stable")[:count] for v in (x, y))
        shared = len(np.intersect1d(best_x, best_y)) / count
        tau = kendall_tau(x, y)
        score = (tau + shared) / 2 if np.isfinite(tau) else shared / 2
        helpers.append(Helper(name, score, tau, shared, float(x.max() - x[best_y[0]]), len(x)))
    if not helpers:
        raise InvalidArgumentError(f"no other task of {bench.release} shares codes with {task.name!r}")
    return sorted(helpers, key=lambda h: -h.score)


def choose_code(
    bench: Benchmark,
    tasks: objective.Tasks,
    max_macs: float | None = None,
    max_params: float | None = None,
    joint: bool = False,
    seed: int = 0,
) -> tuple[int, ...]:
    """A code for the primary's backbone: the best tabulated one of a task, or NCP's for one task or several.

    Args:
        tasks: tasks of the benchmark, which need not be those that are trained.
        max_macs, max_params: limits, inclusive.
        joint: let NCP find a code for all of `tasks` instead of taking the best of the only one.
        seed: of NCP.

    Raises:
        InvalidArgumentError: there are several tasks, but `joint` is not set.
    """
    names = objective.parse_tasks(tasks)
    if len(names) > 1 and not joint:
        raise InvalidArgumentError(f"a table has the best code of one task, not of {len(names)}: set joint")
    if joint:
        from nasbench_mr.search.ncp import ncp

        return ncp(bench, names, max_macs, max_params, seed).best
    return bench.best(next(iter(names)), 1, max_macs, max_params)[0].code
