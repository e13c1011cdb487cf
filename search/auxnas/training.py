"""Training a primary network with auxiliary labels: single task, Aux-Head, Aux-G and Aux-NAS.

`Training` is what `search.aux_nas` runs. Aux-NAS alternates two steps (first order): the gates on a batch of
one random half of the training set, with a penalty on the gates to the primary; then the weights on a batch
of the other half. The halves are drawn anew each epoch. All else trains the weights on the whole set.

Everything random is a function of the seed and of the epoch or step, so a run that was killed and resumes
ends as if it had not been.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nasbench_mr import cost, space, tensors
from nasbench_mr.data_builders.training import checkpoints
from nasbench_mr.data_builders.training.optimization import schedule, set_rate
from nasbench_mr.data_builders.training.recipes import Recipe
from nasbench_mr.data_builders.training.train import device_name
from nasbench_mr.search.auxnas.balance import Balance, flat, gradients
from nasbench_mr.search.auxnas.batches import Batches
from nasbench_mr.search.auxnas.config import AuxConfig
from nasbench_mr.search.auxnas.data import AuxData
from nasbench_mr.search.auxnas.links import Linked, SearchNetwork
from nasbench_mr.search.auxnas.result import AuxResult
from nasbench_mr.search.auxnas.tasks import LabelTask


def ramp(share: float, start: float, end: float) -> float:
    """Return 0 before `start`, 1 after `end`, linear between; all are shares of the training."""
    return min(1.0, max(0.0, (share - start) / (end - start)))


def penalty(network: SearchNetwork, config: AuxConfig, share: float) -> Tensor:
    """Return what pushes the gates, at this share of the training: see `AuxConfig`."""
    total = torch.zeros((), device=next(network.parameters()).device)
    weight = config.penalty * ramp(share, *config.penalty_period)
    for links in network.to_primary():
        total = total + weight * links.gates().mean()
    if config.entropy:
        weight = config.entropy * ramp(share, *config.entropy_period)
        for links in network.to_auxiliary():
            gates = links.gates().clamp(1e-6, 1 - 1e-6)
            total = total - weight * (gates * gates.log() + (1 - gates) * (1 - gates).log()).mean()
    return total


class Training:
    """One run; it resumes from the checkpoint in `out`, if there is one.

    Args:
        network: see `links`.
        tasks: the primary first; one for each output of the network.
        data: checked (`tasks.check`).
        config: how to train.
        seed: of the batches and the augmentation.
        device: where.
        out: folder for the checkpoint; None for none.
        begun: digests of the files with weights that the network started from (`AuxConfig.digests`).

    Raises:
        InvalidArgumentError: the checkpoint is of another run.
        IntegrityError: it is damaged.
    """

    CHECKPOINT = "checkpoint.safetensors"
    #: What a checkpoint has beside tensors.
    PROGRESS = ("step", "seconds", "diverged", "curve", "gates", "running")

    def __init__(
        self,
        network: SearchNetwork,
        tasks: Sequence[LabelTask],
        data: AuxData,
        config: AuxConfig,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        out: Path | None = None,
        begun: Mapping[str, str] | None = None,
    ):
        device = torch.device(device)
        self.network, self.tasks, self.data = network.to(device), tuple(tasks), data
        self.config, self.seed, self.device, self.out = config, seed, device, out
        self.begun = dict(begun or {})
        self.train_set, self.val_set = (Batches(part, tasks, device) for part in (data.train, data.val))
        self.alphas, self.weights = network.alphas(), network.weights()
        self.bilevel = bool(self.alphas)
        part = self.train_set.count // 2 if self.bilevel else self.train_set.count
        self.batch = min(config.batch_size, part)
        self.per_epoch = part // self.batch
        self.total = config.steps or config.epochs * self.per_epoch
        self.balance = Balance(config.balance, len(self.tasks)).to(device)
        self.factors = [config.weights.get(t.name, t.weight) for t in self.tasks]
        # The part of the configuration that a recipe has as well; rates are shares of each group's own.
        self.recipe = Recipe(
            "auxnas", "", "", "", lr=1.0, schedule=config.schedule, warmup=config.warmup,
            momentum=config.momentum,
        )  # fmt: skip
        self.optimizers = {"weights": self._optimizer(config.optimizer, self._groups(), config.weight_decay)}
        if self.bilevel:
            group = {"params": self.alphas, "initial_lr": config.gate_lr}
            self.optimizers["gates"] = self._optimizer(config.gate_optimizer, [group], 0.0)
        self.step, self.seconds, self.diverged = 0, 0.0, False
        self.curve: list[dict[str, float]] = []
        self.gates: list[dict[str, list[float]]] = []
        self.running: list[list[float]] = []
        # GradNorm's place: the last layer below the heads, by its weight, not a norm's or a bias.
        self.anchor = next(p for p in reversed(network.trunk()) if p.ndim > 1)
        self._parts: checkpoints.Stateful = {
            "network": self.network,
            "balance": self.balance,
            **self.optimizers,
        }
        if out is not None and (out / self.CHECKPOINT).is_file():
            path = out / self.CHECKPOINT
            with tensors.intact(path):
                progress = checkpoints.resume(path, self._parts, self._run())
                for key in self.PROGRESS:
                    setattr(self, key, progress[key])
        self._cut()

    def _groups(self) -> list[dict[str, Any]]:
        """Return the weights with their learning rates."""
        config, groups = self.config, self.network.groups()
        groups["balance"] = [p for p in self.balance.parameters() if p.numel()]
        rates = {"heads": config.head_lr or config.lr, "links": config.link_lr or config.lr}
        return [
            {"params": own, "initial_lr": rates.get(name, config.lr)} for name, own in groups.items() if own
        ]

    def _optimizer(
        self, kind: str, groups: list[dict[str, Any]], weight_decay: float
    ) -> torch.optim.Optimizer:
        momentum = self.config.momentum
        if kind == "sgd":
            return torch.optim.SGD(groups, 1.0, momentum=momentum, weight_decay=weight_decay)
        return torch.optim.Adam(groups, 1.0, (momentum, 0.999), weight_decay=weight_decay)

    def run(self, progress: bool = False) -> AuxResult:
        """Train to the end."""
        from tqdm import tqdm

        if not self.gates:
            self.gates.append(self._gate_values())
            if self.begun:
                self._record()
        bar = tqdm(
            total=self.total,
            initial=self.step,
            unit="step",
            disable=None if progress else True,
            mininterval=0.5,
        )
        every = self.config.eval_every or max(1, self.total // 10)
        with bar:
            while self.step < self.total and not self.diverged:
                start = time.perf_counter()
                self._advance()
                self.seconds += time.perf_counter() - start
                bar.update()
                if self.step % every == 0 or self.step == self.total:
                    self._record()
                    bar.set_postfix_str(self._status())
                if self.out is not None and self.step % self.config.save_every == 0:
                    self._save()
        if not self.curve:
            self._record()  # diverged before the first evaluation
        if self.out is not None:
            self._save()
        return self._conclude()

    def _advance(self) -> None:
        """Take one step of the gates, where they are searched, and one of the weights."""
        epoch, place = divmod(self.step, self.per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.train_set.count)
        rng = np.random.default_rng([self.seed, 1, self.step])
        rows = order[place * self.batch : (place + 1) * self.batch]
        share = self.step / self.total
        for optimizer in self.optimizers.values():
            set_rate(optimizer, *schedule(self.recipe, self.step, self.total))
            for group in optimizer.param_groups:
                group["lr"] *= group["initial_lr"]
        self._cut()
        self.network.train()
        if self.bilevel:
            self._search_gates(True)
            half = self.train_set.count // 2
            losses = self._losses(order[half + place * self.batch : half + (place + 1) * self.batch], rng)
            total = torch.stack(self._weighted(losses)).sum() + penalty(self.network, self.config, share)
            grads = torch.autograd.grad(total, self.alphas)
            for alpha, grad in zip(self.alphas, grads, strict=True):
                alpha.grad = grad
            self.optimizers["gates"].step()
            self._search_gates(False)
        losses = self._losses(rows, rng)
        values = torch.stack([loss.detach() for loss in losses])
        if not bool(torch.isfinite(values).all()):
            self.diverged = True
            return
        self.optimizers["weights"].zero_grad()
        self.balance.backward(self._weighted(losses), self.weights, rng, self.anchor)
        self.optimizers["weights"].step()
        self.running.append(values.tolist())
        self.step += 1

    def _cut(self) -> None:
        """Cut the links to the primary when it is time: a function of the step, so no checkpoint has it."""
        self.network.cut = self.config.cut < 1 and self.step >= self.config.cut * self.total

    def _search_gates(self, on: bool) -> None:
        """Compute gradients for the gates, or not: the weights' steps don't need them."""
        for alpha in self.alphas:
            alpha.requires_grad_(on)

    def _losses(self, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> list[Tensor]:
        images, labels = self.train_set.get(rows, self.config, rng)
        with self._precision():
            outputs = self.network(images)
        return [t.loss(o.float(), labels[t.name]) for t, o in zip(self.tasks, outputs, strict=True)]

    def _weighted(self, losses: Sequence[Tensor]) -> list[Tensor]:
        return [factor * loss for factor, loss in zip(self.factors, losses, strict=True)]

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.precision != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    @torch.no_grad()
    def evaluate(self, model: Callable[[Tensor], Sequence[Tensor]]) -> list[dict[str, float]]:
        """Return the validation metrics of each output of `model`, in float32."""
        classes = self.data.train.classes
        meters = [t.meter(classes.get(t.name), self.device) for t in self.tasks]
        for start in range(0, self.val_set.count, self.config.eval_batch_size):
            stop = min(start + self.config.eval_batch_size, self.val_set.count)
            images, labels = self.val_set.get(np.arange(start, stop))
            for task, meter, output in zip(self.tasks, meters, model(images), strict=False):
                meter.update(output, labels[task.name])
        return [meter.compute() for meter in meters]

    def _record(self) -> None:
        self.network.eval()
        row = {"step": float(self.step), "seconds": self.seconds}
        losses = np.mean(self.running, axis=0) if self.running else np.full(len(self.tasks), np.nan)
        self.running = []
        for task, loss, metrics in zip(self.tasks, losses, self.evaluate(self.network), strict=True):
            row[f"loss/{task.name}"] = float(loss)
            row |= {f"{task.name}/{name}": value for name, value in metrics.items()}
        row |= {f"affinity/{name}": value for name, value in self.affinity().items()}
        self.curve.append(row)
        self.gates.append(self._gate_values())

    def affinity(self) -> dict[str, float]:
        """Return, by auxiliary, the cosine of its loss's gradient and the primary's at the primary's trunk.

        On the first `eval_batch_size` training images, as they are, in evaluation mode. Above 0, a step for
        one is a step for the other; NaN where one's gradient does not get there.
        """
        if len(self.tasks) == 1:
            return {}
        self._search_gates(False)
        images, labels = self.train_set.get(np.arange(min(self.config.eval_batch_size, self.train_set.count)))
        outputs = self.network.eval()(images)
        losses = [t.loss(o, labels[t.name]) for t, o in zip(self.tasks, outputs, strict=True)]
        trunk = self.network.trunk()
        pulls = [flat(grads, trunk) for grads in gradients(losses, trunk)]
        lengths = [float(g.norm()) for g in pulls]
        return {
            task.name: float(pulls[0] @ g) / (lengths[0] * length) if lengths[0] * length > 0 else math.nan
            for task, g, length in zip(self.tasks[1:], pulls[1:], lengths[1:], strict=True)
        }

    def _gate_values(self) -> dict[str, list[float]]:
        directions = {"to_primary": self.network.to_primary(), "to_auxiliary": self.network.to_auxiliary()}
        values = {
            key: [g for links in sets for g in links.gates().tolist()] for key, sets in directions.items()
        }
        if self.network.cut:
            values["to_primary"] = [0.0] * len(values["to_primary"])
        return values

    def _status(self) -> str:
        row = self.curve[-1]
        parts = [f"{t.name} {t.objective.name} {row[f'{t.name}/{t.objective.name}']:.2f}" for t in self.tasks]
        if self.gates[-1]["to_primary"]:
            values = self.gates[-1]["to_primary"]
            opened = sum(v > self.config.threshold for v in values)
            parts.append(f"open gates {opened}/{len(values)}")
        return ", ".join(parts)

    def _conclude(self) -> AuxResult:
        network, config, (primary, *helpers) = self.network.eval(), self.config, self.tasks
        exported = network.export()
        kept = self.evaluate(lambda x: (exported(x),))[0]
        metrics = dict(zip((t.name for t in self.tasks), self.evaluate(network), strict=True))
        metrics[primary.name] = kept
        drop = {}
        if isinstance(network, Linked) and network.to_primary() and not network.cut:
            network.closed = False
            opened = self.evaluate(network)[0]
            network.closed = True
            drop = {m.name: m.sign * (opened[m.name] - kept[m.name]) for m in primary.metrics}
        gates = {key: np.array([row[key] for row in self.gates], np.float64) for key in self.gates[0]}
        ends = (("to_primary", network.to_primary()), ("to_auxiliary", network.to_auxiliary()))
        edges = {
            key: tuple(f"{t.name} {e}" for t, links in zip(helpers, sets, strict=False) for e in links.edges)
            for key, sets in ends
        }
        last = zip(edges["to_primary"], gates["to_primary"][-1], strict=True)
        return AuxResult(
            primary=primary.name,
            auxiliary=tuple(t.name for t in helpers),
            data=self.data.name,
            data_digest=self.data.digest,
            config=config,
            start=self.begun,
            seed=self.seed,
            metrics=metrics,
            curve={key: [row[key] for row in self.curve] for key in self.curve[0]},
            gates=gates,
            edges=edges,
            open_gates=tuple(name for name, gate in last if gate > config.threshold),
            drop=drop,
            macs=self._macs(),
            params=sum(p.numel() for p in exported.parameters()),
            steps=self.step,
            seconds=self.seconds,
            status="diverged" if self.diverged else "ok",
            device=device_name(self.device),
            network=network,
        )

    def _macs(self) -> int | None:
        """Return the exported network's; None where it is not a code's."""
        config, primary = self.config, self.tasks[0]
        if config.backbone != "multi-resolution" or "stem_strides" in config.options or config.keeps_norms:
            return None
        found = cost.macs(
            [space.parse(config.primary_code)],
            self.data.train.size,
            primary.channels(self.data.train.classes.get(primary.name)),
            head="segmentation" if primary.dense else "classification",
            width_mult=config.options.get("width_mult", 1.0),
        )
        return int(found[0])

    def _save(self) -> None:
        assert self.out is not None
        progress = {key: getattr(self, key) for key in self.PROGRESS}
        checkpoints.save(self.out / self.CHECKPOINT, self._parts, self._run(), progress)

    def _run(self) -> dict[str, Any]:
        """Return what must be the same for a checkpoint to be this run's."""
        about = {"config": asdict(self.config), "seed": self.seed, "tasks": [t.name for t in self.tasks]}
        return {**about, "data": self.data.digest, "start": sorted(self.begun.values())}
