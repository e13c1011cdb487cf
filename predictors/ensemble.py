"""`ensemble`, the default predictor: several small networks trained at once, for all columns together.

Use it unless a paper's baseline is asked for: it ranks best or close to it on every published task, fits all
tasks in the time the published predictor takes for a fraction of one, and its standard deviations are
calibrated. The networks are one batched matrix product per layer. They read `features`, share their hidden
layers between the columns, and differ in initial weights, batches, dropout and in the fold of the data each
never sees; those folds calibrate the uncertainty.
"""

from __future__ import annotations

import abc
import itertools
import math
from typing import Any

import numpy as np

from nasbench_mr import features
from nasbench_mr import space as multi_resolution
from nasbench_mr.arrays import Codes, Floats
from nasbench_mr.checks import at_least, finite, positive
from nasbench_mr.extras import requires
from nasbench_mr.npz import State
from nasbench_mr.predictors.base import GradientPredictor, Predictor, Scaler, noise_of, share
from nasbench_mr.spaces import Space
from nasbench_mr.threads import torch_threads

with requires("search", "the predictor 'ensemble'"):
    import torch
    from torch import Tensor
    from torch.nn.functional import huber_loss, silu

#: Errors beyond this, in robust standard deviations, count linearly: trainings that failed are far outliers.
_DELTA = 0.5
#: Networks of one kind, fitted to much the same data, are too alike: on held-out codes of the published
#: tables errors grow about this many times as fast as the networks' standard deviation.
_SPREAD = 2.5


class Networks(Predictor):
    """Several small networks of what `_inputs` makes of codes.

    Args:
        seed, space: see `Predictor`.
        members: networks, at least 2.
        hidden: units of each hidden layer.
        epochs: passes over the data; None for as many as make about 15 sqrt(n) steps with n codes. Few (say
            20), with few members, make the quick refits that a search in the loop wants.
        batch: codes in a step, at most.
        rate: highest learning rate; a warm-up of 15% of the steps, then a cosine down to 0.
        decay: weight decay (decoupled), divided by the number of codes (or 25, where there are fewer): a
            prior weighs less the more data there is.
        dropout: of hidden units.
    """

    def __init__(
        self,
        seed: int = 0,
        space: Space = multi_resolution,
        *,
        members: int = 8,
        hidden: tuple[int, ...] = (96, 96),
        epochs: int | None = None,
        batch: int = 128,
        rate: float = 5e-3,
        decay: float = 300.0,
        dropout: float = 0.2,
    ):
        super().__init__(seed, space)
        self.members, self.batch = at_least(2, "members", members), at_least(1, "batch", batch)
        self.hidden = tuple(at_least(1, "hidden", units) for units in hidden)
        self.epochs = None if epochs is None else at_least(1, "epochs", epochs)
        self.rate, self.dropout = positive("rate", rate), share("dropout", dropout)
        self.decay = finite("decay", decay, least=0)

    @abc.abstractmethod
    def _inputs(self, codes: Codes) -> Floats:
        """Return what the networks read of codes: `(n, F)`."""

    def _fit(self, codes: Codes, values: Floats) -> None:
        inputs = self._inputs(codes)
        self.x_scaler, self.y_scaler = Scaler.of(inputs), Scaler.robust(values)
        x = torch.tensor(self.x_scaler.apply(inputs), dtype=torch.float32)
        y = torch.tensor(self.y_scaler.apply(values), dtype=torch.float32)
        generator = torch.Generator().manual_seed(self.seed)
        # Member k never sees fold k.
        fold = torch.arange(len(x))[torch.randperm(len(x), generator=generator)] % self.members
        with torch_threads():  # the steps are too small to share
            self._train(x, y, fold, generator)
            self._calibrate(x, y, fold)

    def _train(self, x: Tensor, y: Tensor, fold: Tensor, generator: torch.Generator) -> None:
        n, members = len(x), self.members
        sizes = (x.shape[1], *self.hidden, y.shape[1])
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            uniform = torch.rand(members, fan_in, fan_out, generator=generator) * 2 - 1
            self.weights.append((uniform * math.sqrt(3 / fan_in)).requires_grad_())
            self.biases.append(torch.zeros(members, 1, fan_out).requires_grad_())
        optimizer = torch.optim.AdamW(
            [
                {"params": self.weights, "weight_decay": self.decay / max(n, 25)},
                {"params": self.biases, "weight_decay": 0.0},
            ],
            lr=self.rate,
            betas=(0.9, 0.99),
            fused=True,
        )
        batch = min(self.batch, n)
        per_epoch = n // batch
        epochs = max(1, round(15 * math.sqrt(n) / per_epoch)) if self.epochs is None else self.epochs
        steps = per_epoch * epochs
        known = torch.isfinite(y)
        y = torch.where(known, y, 0.0)
        seen = torch.arange(members)[:, None] != fold  # (members, n)
        for step in range(steps):
            if step % per_epoch == 0:
                order = torch.rand(members, n, generator=generator).argsort(1)
            for group in optimizer.param_groups:
                group["lr"] = self.rate * _schedule((step + 1) / steps)
            k = step % per_epoch * batch
            rows = order[:, k : k + batch]  # (members, batch)
            weight = known[rows] & seen.gather(1, rows)[..., None]
            error = huber_loss(self._forward(x[rows], generator), y[rows], reduction="none", delta=_DELTA)
            loss = (error * weight).sum() / (weight.sum() / members).clamp(min=1)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        for parameter in (*self.weights, *self.biases):
            parameter.requires_grad_(False)

    def _forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """`(members, n, F)` scaled features to `(members, n, m)` scaled values; dropout with a generator."""
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                x = silu(x)
                if generator is not None and self.dropout:
                    x = x * _kept(x.shape, self.dropout, generator)
            x = torch.baddbmm(bias, x, weight)
        return x

    def _calibrate(self, x: Tensor, y: Tensor, fold: Tensor) -> None:
        """Set the noise of each column so that predictions of unseen folds miss as often as they should."""
        with torch.no_grad():
            predicted = self._forward(x.expand(self.members, -1, -1))
        held_out = predicted[fold, torch.arange(len(x))].numpy()
        self.spread = np.array(_SPREAD)
        self.noise = noise_of(y.numpy() - held_out, predicted.var(0).numpy() * self.spread**2)

    def _predict(self, codes: Codes) -> tuple[Floats, Floats]:
        with torch.no_grad():
            mean, std = self._answer(torch.from_numpy(self._inputs(codes)))
        return mean.numpy(), std.numpy()

    def _answer(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations for what the networks read, in its dtype."""

        def constant(array: Floats) -> Tensor:
            return torch.as_tensor(array, dtype=inputs.dtype, device=inputs.device)

        scaled = (inputs - constant(self.x_scaler.mean)) / constant(self.x_scaler.scale)
        outputs = self._forward(scaled.float().expand(self.members, -1, -1)).to(inputs.dtype)
        std = (outputs.var(0) * float(self.spread) ** 2 + constant(self.noise) ** 2).sqrt()
        scale = constant(self.y_scaler.scale)
        return outputs.mean(0) * scale + constant(self.y_scaler.mean), std * scale

    def _state(self) -> State:
        state: dict[str, Any] = {f"weight{k}": w.cpu().numpy() for k, w in enumerate(self.weights)}
        state |= {f"bias{k}": b.cpu().numpy() for k, b in enumerate(self.biases)}
        return state | {
            **self.x_scaler.state("x"),
            **self.y_scaler.state("y"),
            "noise": self.noise,
            "spread": self.spread,
        }

    def _restore(self, state: State) -> None:
        layers = range(len(self.hidden) + 1)
        self.weights = [torch.from_numpy(state[f"weight{k}"]) for k in layers]
        self.biases = [torch.from_numpy(state[f"bias{k}"]) for k in layers]
        self.x_scaler, self.y_scaler = Scaler.restore(state, "x"), Scaler.restore(state, "y")
        self.noise, self.spread = state["noise"], state["spread"]


class Ensemble(GradientPredictor, Networks):
    """See the module; arguments as for `Networks`."""

    def _inputs(self, codes: Codes) -> Floats:
        return features.of_codes(codes, self.space)

    def tensor(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self._check_fitted()
        return self._answer(features.of_tensor(x, self.space))


def _kept(shape: torch.Size, dropout: float, generator: torch.Generator) -> Tensor:
    """Return random factors for dropout: 0 for that share of units (to 1/256), more than 1 for the others."""
    # One draw serves eight units: drawing a float for each would take a fifth of the training.
    draws = torch.empty(-(-shape.numel() // 8), dtype=torch.int64).random_(
        -(2**63), None, generator=generator
    )
    least = round(256 * dropout)
    keep = draws.view(torch.uint8)[: shape.numel()].view(shape) >= least
    return keep * (256 / (256 - least))


def _schedule(progress: float) -> float:
    """Share of the highest learning rate: up in the first 15%, then a cosine down."""
    if progress < 0.15:
        return 0.1 + 0.9 * progress / 0.15
    return 0.5 * (1 + math.cos(math.pi * (progress - 0.15) / 0.85))
