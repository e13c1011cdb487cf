"""How the losses of several tasks become one gradient: `Balance`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Balance(nn.Module):
    """Make one gradient of the tasks' losses, as `AuxConfig.balance` says.

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
        """Set the gradients of `weights` (and of its own) for one loss a task.

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
        grads = gradients(losses, weights)
        shared = [k for k in range(len(weights)) if sum(g[k] is not None for g in grads) > 1]
        joined = [flat([g[k] for k in shared], [weights[k] for k in shared]) for g in grads if shared]
        projected = [g.clone() for g in joined]
        for i, own in enumerate(projected):
            for j in rng.permutation(len(joined)):
                dot = own @ joined[j]
                if j != i and dot < 0:
                    own -= dot / joined[j].square().sum().clamp(min=1e-20) * joined[j]
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
        grads = gradients(losses, weights)
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


def gradients(losses: Sequence[Tensor], weights: Sequence[nn.Parameter]) -> list[tuple[Any, ...]]:
    """Return each loss's gradients, None for the weights that it does not reach."""
    last = len(losses) - 1
    return [
        torch.autograd.grad(loss, weights, retain_graph=i < last, allow_unused=True)
        for i, loss in enumerate(losses)
    ]


def flat(grads: Sequence[Any], weights: Sequence[nn.Parameter]) -> Tensor:
    """Return gradients one after the other; zeros for the weights that have none."""
    found = [torch.zeros_like(w) if g is None else g for g, w in zip(grads, weights, strict=True)]
    return torch.cat([g.flatten() for g in found])
