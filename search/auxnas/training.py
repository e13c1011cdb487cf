"""Training a primary network with auxiliary labels: single task, Aux-Head, Aux-G and Aux-NAS.

`Training` is what `search.aux_nas` runs. Aux-NAS alternates two steps (first order): the gates on a batch of
one random half of the training set, with a penalty on the gates to the primary; then the weights on a batch
of the other half. The halves are drawn anew each epoch. All else trains the weights on the whole set.

Everything random is a function of the seed and of the epoch or step, so a run that was killed and goes on
ends as if it had not been.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench_mr import files
from nasbench_mr.data_builders.datasets import IGNORE
from nasbench_mr.data_builders.training.transforms import MEAN, STD
from nasbench_mr.errors import IntegrityError
from nasbench_mr.extras import requires
from nasbench_mr.search.auxnas import tasks as aux_tasks
from nasbench_mr.search.auxnas.data import AuxData, LabelledSet
from nasbench_mr.search.auxnas.links import Linked, SearchNetwork
from nasbench_mr.search.auxnas.run import AuxConfig
from nasbench_mr.search.auxnas.tasks import LabelTask

Labels = dict[str, Tensor]


@dataclass(frozen=True)
class Trained:
    """What a training left behind.

    Attributes:
        network: the search network, in evaluation mode.
        metrics: for each task, its final metrics; the primary's are those of the exported network.
        curve: columns of the run's evaluations: "step", "seconds", the training loss of each task as
            "loss/<task>", the metrics as "<task>/<metric>", and as "affinity/<task>" how far an auxiliary and
            the primary pull the primary's weights the same way (`Training.affinity`).
        gates: by direction ("to_primary", "to_auxiliary"): `(evaluations, edges of all auxiliaries)`.
        drop: by how much each metric of the primary changed, for the worse, when its gates were closed at the
            end; empty where none were left to close.
        steps, seconds: how long the weights were trained.
        diverged: the loss was no longer finite, and training stopped.
    """

    network: SearchNetwork
    metrics: dict[str, dict[str, float]]
    curve: dict[str, list[float]]
    gates: dict[str, npt.NDArray[np.float64]]
    drop: dict[str, float]
    steps: int
    seconds: float
    diverged: bool


class Batches:
    """A labelled set on the device, and batches of it, augmented for training."""

    def __init__(self, data: LabelledSet, tasks: Sequence[LabelTask], device: torch.device):
        self.count = len(data)
        keys = ("image", *(task.name for task in tasks))
        self.tensors = {
            key: torch.from_numpy(np.ascontiguousarray(data.arrays[key])).to(device) for key in keys
        }
        self.mean, self.std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (MEAN, STD))

    def get(
        self,
        rows: npt.NDArray[np.int64],
        config: AuxConfig | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Tensor, Labels]:
        """Normalised images `(B, 3, H, W)` and labels; augmented if there is a generator."""
        index = torch.from_numpy(rows).to(self.mean.device)
        batch = {key: values[index] for key, values in self.tensors.items()}
        if config is not None and rng is not None:
            batch = augment(batch, config, rng)
        image = batch.pop("image").permute(0, 3, 1, 2).float() / 255
        return (image - self.mean) / self.std, batch


def augment(batch: Labels, config: AuxConfig, rng: np.random.Generator) -> Labels:
    """Mirrors, zooms into and turns images with their labels; normals turn with the image.

    A zoom by z shows a part 1 / z as high and wide; depth is divided by z, as the camera comes nearer.
    Disparity is multiplied. Pixels from outside become black and unknown.
    """
    count, height, width = batch["image"].shape[:3]
    u = torch.from_numpy(rng.random((count, 7), np.float32))
    flip = u[:, 0] < config.flip
    angle = torch.where(u[:, 1] < config.rotate_share, torch.deg2rad((2 * u[:, 2] - 1) * config.rotate), 0.0)
    zoom = torch.where(u[:, 3] < config.crop_share, 1 + u[:, 4] * (config.zoom - 1), 1.0)
    plain = bool((angle == 0).all() and (zoom == 1).all())
    flip, angle, zoom, u = (t.to(batch["image"].device) for t in (flip, angle, zoom, u))
    sign = torch.where(flip, -1.0, 1.0)
    if plain:
        out = {k: _mirror(v, flip) if v.ndim > 1 else v for k, v in batch.items()}
        if "normals" in out:
            out["normals"] = (
                out["normals"]
                * torch.stack([sign, torch.ones_like(sign), torch.ones_like(sign)], 1)[:, None, None]
            )
        return out
    cos, sin = angle.cos(), angle.sin()
    # From output to input coordinates, in units of half the height; then to grid_sample's [-1, 1].
    aspect = width / height
    room = 1 - 1 / zoom
    left, top = (2 * u[:, 5] - 1) * room, (2 * u[:, 6] - 1) * room
    theta = torch.stack(
        [
            torch.stack([sign * cos / zoom, -sign * sin / zoom / aspect, left], 1),
            torch.stack([sin * aspect / zoom, cos / zoom, top], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [count, 1, height, width], align_corners=False)
    inside = (grid.abs() <= 1).all(-1)  # (B, H, W)
    out = {}
    for key, value in batch.items():
        if value.ndim == 1:
            out[key] = value
            continue
        planes = value.permute(0, 3, 1, 2) if value.ndim == 4 else value[:, None]
        mode = "bilinear" if key == "image" else "nearest"
        moved = F.grid_sample(planes.float(), grid, mode, "zeros", align_corners=False)
        if key in ("segmentation", "edges"):
            moved = torch.where(inside[:, None], moved, float(IGNORE))
        elif key == "depth":
            moved = moved / zoom[:, None, None, None]
        elif key == "disparity":
            moved = moved * zoom[:, None, None, None]
        elif key == "normals":
            # An output direction (x, y) is an input one turned; invert that for what the input shows.
            c, s, m = (t[:, None, None] for t in (cos, sin, sign))
            x, y = m * moved[:, 0], moved[:, 1]
            moved = torch.stack([c * x + s * y, c * y - s * x, moved[:, 2]], 1)
        moved = moved.permute(0, 2, 3, 1) if value.ndim == 4 else moved[:, 0]
        out[key] = moved if value.is_floating_point() else moved.round().to(value.dtype)
    return out


def _mirror(values: Tensor, flip: Tensor) -> Tensor:
    """`(B, H, W, ...)` mirrored left-right where `flip` `(B,)` says so."""
    return torch.where(flip.view(-1, *[1] * (values.ndim - 1)), values.flip(2), values)


def poly(step: int, total: int, power: float = 0.9) -> float:
    """The learning rates' factor at a step."""
    return float((1 - step / total) ** power)


def ramp(share: float, start: float, end: float) -> float:
    """0 before `start`, 1 after `end`, linear between; all are shares of the training."""
    return min(1.0, max(0.0, (share - start) / (end - start)))


def penalty(network: SearchNetwork, config: AuxConfig, share: float) -> Tensor:
    """What pushes the gates, at this share of the training: see `AuxConfig`."""
    total = torch.zeros((), device=next(network.parameters()).device)
    if network.to_primary():
        closing = torch.cat([links.gates() for links in network.to_primary()]).mean()
        total = total + config.penalty * ramp(share, *config.penalty_period) * closing
    if config.entropy and network.alphas():
        gates = torch.cat([links.gates() for links in network.to_auxiliary()]).clamp(1e-6, 1 - 1e-6)
        entropy = -(gates * gates.log() + (1 - gates) * (1 - gates).log()).mean()
        total = total + config.entropy * ramp(share, *config.entropy_period) * entropy
    return total


class Balance(nn.Module):
    """How the tasks' losses become one gradient: `AuxConfig.balance`.

    sum: of the weighted losses. uncertainty: exp(-s) L / 2 + s / 2 with a learnt s for each (Kendall et al.,
    2018). pcgrad: each gradient loses what conflicts with another task's (Yu et al., 2020). gradnorm: weights
    learnt so that all tasks' gradients train at similar rates (Chen et al., 2018).
    """

    #: Exponent and learning rate of GradNorm.
    ALPHA, RATE = 1.5, 0.025

    factors: Tensor
    first: Tensor

    def __init__(self, kind: str, count: int):
        super().__init__()
        self.kind = kind
        self.log_variance = nn.Parameter(torch.zeros(count if kind == "uncertainty" else 0))
        self.register_buffer("factors", torch.ones(count if kind == "gradnorm" else 0))
        self.register_buffer("first", torch.zeros(count if kind == "gradnorm" else 0))

    def backward(
        self,
        losses: Sequence[Tensor],
        weights: Sequence[nn.Parameter],
        rng: np.random.Generator,
        anchor: nn.Parameter | None = None,
    ) -> None:
        """Sets the gradients of `weights` (and of its own) for one loss a task.

        Args:
            anchor: the weight at which GradNorm compares the tasks; by default the last that all reach.
        """
        if self.kind == "sum" or len(losses) == 1:
            torch.autograd.backward(torch.stack(list(losses)).sum())
        elif self.kind == "uncertainty":
            joined = torch.exp(-self.log_variance) * torch.stack(list(losses)) + self.log_variance
            torch.autograd.backward((0.5 * joined).sum())
        elif self.kind == "pcgrad":
            self._pcgrad(losses, weights, rng)
        else:
            self._gradnorm(losses, weights, anchor)

    def _pcgrad(
        self, losses: Sequence[Tensor], weights: Sequence[nn.Parameter], rng: np.random.Generator
    ) -> None:
        grads = _gradients(losses, weights)
        shared = [k for k in range(len(weights)) if sum(g[k] is not None for g in grads) > 1]
        flat = [_flat([g[k] for k in shared], [weights[k] for k in shared]) for g in grads] if shared else []
        projected = [g.clone() for g in flat]
        for i, own in enumerate(projected):
            for j in rng.permutation(len(flat)):
                dot = own @ flat[j]
                if j != i and dot < 0:
                    own -= dot / flat[j].square().sum().clamp(min=1e-20) * flat[j]
        for k, weight in enumerate(weights):
            own_grads = [g[k] for g in grads if g[k] is not None]
            weight.grad = own_grads[0].clone() if own_grads else None
        if shared:
            parts = sum(projected).split([weights[k].numel() for k in shared])  # type: ignore[union-attr]
            for k, part in zip(shared, parts, strict=True):
                weights[k].grad = part.view_as(weights[k]).clone()

    def _gradnorm(
        self, losses: Sequence[Tensor], weights: Sequence[nn.Parameter], anchor: nn.Parameter | None
    ) -> None:
        values = torch.stack([loss.detach() for loss in losses])
        if not bool(self.first.any()):
            self.first.copy_(values)
        grads = _gradients(losses, weights)
        for k, weight in enumerate(weights):
            own = [f * g[k] for f, g in zip(self.factors, grads, strict=True) if g[k] is not None]
            weight.grad = sum(own[1:], own[0]) if own else None
        shared = [k for k in range(len(weights)) if all(g[k] is not None for g in grads)]
        if not shared:
            return
        at = next((k for k in shared if weights[k] is anchor), shared[-1])
        norms = torch.stack([g[at].norm() for g in grads])
        rate = values / self.first.clamp(min=1e-12)
        target = (self.factors * norms).mean() * (rate / rate.mean()) ** self.ALPHA
        self.factors -= (
            self.RATE * torch.sign(self.factors * norms - target) * norms / norms.mean().clamp(min=1e-12)
        )
        self.factors.clamp_(min=0.01)
        self.factors *= len(self.factors) / self.factors.sum()


def _gradients(losses: Sequence[Tensor], weights: Sequence[nn.Parameter]) -> list[tuple[Any, ...]]:
    """Each loss's gradients, None for the weights that it does not reach."""
    last = len(losses) - 1
    return [
        torch.autograd.grad(loss, weights, retain_graph=i < last, allow_unused=True)
        for i, loss in enumerate(losses)
    ]


def _flat(grads: Sequence[Any], weights: Sequence[nn.Parameter]) -> Tensor:
    """Gradients one after the other; zeros for the weights that have none."""
    found = [torch.zeros_like(w) if g is None else g for g, w in zip(grads, weights, strict=True)]
    return torch.cat([g.flatten() for g in found])


class Training:
    """One run; it goes on from the checkpoint in `out`, if there is one.

    Args:
        network: see `aux_links`.
        tasks: the primary first; one for each output of the network.
        data: checked (`aux_data.check`).
        config: how to train.
        seed: of the batches and the augmentation.
        device: where.
        out: folder for the checkpoint; None for none.

    Raises:
        IntegrityError: the checkpoint is of another run, or damaged.
    """

    CHECKPOINT = "checkpoint.safetensors"

    def __init__(
        self,
        network: SearchNetwork,
        tasks: Sequence[LabelTask],
        data: AuxData,
        config: AuxConfig,
        seed: int,
        device: torch.device,
        out: Path | None = None,
    ):
        self.network, self.tasks, self.data = network.to(device), tuple(tasks), data
        self.config, self.seed, self.device, self.out = config, seed, device, out
        self.begun = config.digests()
        self.train_set, self.val_set = (Batches(part, tasks, device) for part in (data.train, data.val))
        self.alphas, self.weights = network.alphas(), network.weights()
        self.bilevel = bool(self.alphas)
        part = self.train_set.count // 2 if self.bilevel else self.train_set.count
        self.batch = min(config.batch_size, part)
        self.per_epoch = part // self.batch
        self.total = config.steps or config.epochs * self.per_epoch
        self.balance = Balance(config.balance, len(self.tasks)).to(device)
        self.factors = [config.weights.get(t.name, t.weight) for t in self.tasks]
        own = [*self.weights, *(p for p in self.balance.parameters() if p.numel())]
        self.optimizers = [torch.optim.Adam(own, config.lr, weight_decay=config.weight_decay)]
        self.rates = [config.lr]
        if self.bilevel:
            self.optimizers.append(torch.optim.Adam(self.alphas, config.gate_lr))
            self.rates.append(config.gate_lr)
        self.step, self.seconds, self.diverged = 0, 0.0, False
        self.curve: list[dict[str, float]] = []
        self.gates: list[dict[str, list[float]]] = []
        self.running: list[list[float]] = []
        # GradNorm's place: the last layer below the heads, by its weight, not a norm's or a bias.
        self.anchor = next(p for p in reversed(network.trunk()) if p.ndim > 1)
        self._load()
        self._cut()

    def run(self, progress: bool = False) -> Trained:
        """Trains to the end."""
        from tqdm import tqdm

        if not self.gates:
            self.gates.append(self._gate_values())
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
        """One step of the gates, where they are searched, and one of the weights."""
        epoch, place = divmod(self.step, self.per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.train_set.count)
        rng = np.random.default_rng([self.seed, 1, self.step])
        rows = order[place * self.batch : (place + 1) * self.batch]
        share = self.step / self.total
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * poly(self.step, self.total)
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
            self.optimizers[1].step()
            self._search_gates(False)
        losses = self._losses(rows, rng)
        values = torch.stack([loss.detach() for loss in losses])
        if not bool(torch.isfinite(values).all()):
            self.diverged = True
            return
        self.optimizers[0].zero_grad()
        self.balance.backward(self._weighted(losses), self.weights, rng, self.anchor)
        self.optimizers[0].step()
        self.running.append(values.tolist())
        self.step += 1

    def _cut(self) -> None:
        """Cuts the links to the primary when it is time: a function of the step, so no checkpoint has it."""
        self.network.cut = self.config.cut < 1 and self.step >= self.config.cut * self.total

    def _search_gates(self, on: bool) -> None:
        """Whether gradients are computed for the gates; the weights' steps do without."""
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
        """The validation metrics of each output of `model`, in float32."""
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
        """For each auxiliary: the cosine of its loss's gradient and the primary's, at the primary's trunk.

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
        flat = [_flat(grads, trunk) for grads in _gradients(losses, trunk)]
        lengths = [float(g.norm()) for g in flat]
        return {
            task.name: float(flat[0] @ g) / (lengths[0] * length) if lengths[0] * length > 0 else math.nan
            for task, g, length in zip(self.tasks[1:], flat[1:], lengths[1:], strict=True)
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

    def _conclude(self) -> Trained:
        network = self.network.eval()
        exported = network.export()
        primary = self.evaluate(lambda x: (exported(x),))[0]
        metrics = dict(zip((t.name for t in self.tasks), self.evaluate(network), strict=True))
        metrics[self.tasks[0].name] = primary
        drop = {}
        if isinstance(network, Linked) and network.to_primary() and not network.cut:
            network.closed = False
            opened = self.evaluate(network)[0]
            network.closed = True
            drop = {m.name: m.sign * (opened[m.name] - primary[m.name]) for m in self.tasks[0].metrics}
        curve = {key: [row[key] for row in self.curve] for key in (self.curve[0] if self.curve else ())}
        gates = {key: np.array([row[key] for row in self.gates], np.float64) for key in self.gates[0]}
        return Trained(network, metrics, curve, gates, drop, self.step, self.seconds, self.diverged)

    # --- Checkpoints ---

    def _state(self) -> dict[str, Tensor]:
        """All tensors that change, by name; those of optimizers are laid out by their parameters' order."""
        tensors = {f"network/{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"balance/{k}": v for k, v in self.balance.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            for k, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer{i}/{k}/{name}": value for name, value in state.items()}
        return tensors

    def _save(self) -> None:
        with requires("auxnas", "saving checkpoints"):
            from safetensors.torch import save
        assert self.out is not None
        progress = {
            key: getattr(self, key) for key in ("step", "seconds", "diverged", "curve", "gates", "running")
        }
        about = {"progress": json.dumps(progress), "run": self._run()}
        tensors = {k: v.detach().cpu().contiguous() for k, v in self._state().items()}
        files.write_bytes(self.out / self.CHECKPOINT, save(tensors, about))

    def _run(self) -> str:
        """What has to be the same for a checkpoint to be ours."""
        about = {"config": asdict(self.config), "seed": self.seed, "tasks": [t.name for t in self.tasks]}
        about |= {"data": self.data.digest, **({"start": self.begun} if self.begun else {})}
        return json.dumps(about, sort_keys=True)

    def _load(self) -> None:
        path = self.out / self.CHECKPOINT if self.out is not None else None
        if path is None or not path.is_file():
            return
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if about.get("run") != self._run():
                raise IntegrityError(f"{path} is of another run; give another folder, or remove it")
            self._restore(tensors, json.loads(about["progress"]))
        except (SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
            if isinstance(error, IntegrityError):
                raise
            raise IntegrityError(
                f"{path} is no complete checkpoint of this run ({error}); remove it"
            ) from error

    def _restore(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

        self.network.load_state_dict(part("network/"))
        self.balance.load_state_dict(part("balance/"))
        for i, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in part(f"optimizer{i}/").items():
                index, name = key.split("/")
                state.setdefault(int(index), {})[name] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        for key, value in progress.items():
            setattr(self, key, value)


def load_weights(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Loads weights that a run saved (`primary.safetensors`).

    Raises:
        IntegrityError: no such file, or weights of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IntegrityError(f"{path} does not hold the weights of this network ({text})") from error


def save_weights(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Writes a network's weights, atomically."""
    from safetensors.torch import save

    files.write_bytes(path, save({k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}))


def tasks_of(primary: str, auxiliary: Sequence[str]) -> list[LabelTask]:
    """The named tasks, the primary first."""
    return [aux_tasks.get(name) for name in (primary, *auxiliary)]
