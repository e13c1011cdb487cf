"""A recipe's optimiser, and its learning rate and momentum step by step. Needs the extra `build`."""

from __future__ import annotations

import math

import torch
from torch import nn

from nasbench_mr.data_builders.training.recipes import Recipe


def optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser of a network's parameters; `schedule` sets its rate."""
    decayed = [p for p in net.parameters() if p.ndim > 1 or recipe.decay_norm]
    others = [p for p in net.parameters() if not (p.ndim > 1 or recipe.decay_norm)]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True
        )
    return torch.optim.AdamW(groups, recipe.lr, betas=(recipe.momentum, 0.99), fused=True)


#: One-cycle: the rate starts at `lr` over the first and ends at that over the second; the momentum's range.
_ONE_CYCLE = (10.0, 1e4, 0.85, 0.95)


def schedule(recipe: Recipe, step: int, steps: int) -> tuple[float, float]:
    """Learning rate and momentum of a step (from 0) of all `steps`."""
    rise = recipe.warmup * steps
    down = (step - rise) / max(steps - rise, 1)
    if recipe.schedule == "onecycle":
        start, end, low, high = _ONE_CYCLE
        share = (1 - math.cos(math.pi * (step / rise if step < rise else 1 - down))) / 2
        bottom = recipe.lr / start if step < rise else recipe.lr / start / end
        return bottom + (recipe.lr - bottom) * share, high - (high - low) * share
    if step < rise:
        return recipe.lr * (step + 1) / (rise + 1), recipe.momentum
    left = (1 + math.cos(math.pi * down)) / 2 if recipe.schedule == "cosine" else (1 - down) ** 0.9
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * left, recipe.momentum


def set_rate(optimizer: torch.optim.Optimizer, rate: float, momentum: float) -> None:
    """Set what `schedule` says."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum
