"""The published editing loop of NCP, and its settings: what `ncp(preset="paper")` runs.

Ding et al., "Learning Versatile Neural Architectures by Propagating Network Codes", ICLR 2022, and its code.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr.arrays import Codes
from nasbench_mr.checks import finite, flag, positive
from nasbench_mr.errors import UnknownNameError, did_you_mean
from nasbench_mr.extras import requires
from nasbench_mr.spaces import Space
from nasbench_mr.threads import torch_threads

if TYPE_CHECKING:
    from torch import Tensor

    from nasbench_mr.objective import Goal
    from nasbench_mr.predictors.ncp_mlp import TaskModel

#: What a step's distance to its target is measured by; the published one first.
LOSSES = ("smooth-l1", "l1", "l2")


@dataclass(frozen=True)
class Editing:
    """The settings of the published loop; the defaults are the published ones.

    Attributes:
        rate: of SGD, on the z-scored code.
        target: how far beyond its prediction each main metric's target lies, in standard deviations.
        cost_target: how far below the predicted MACs theirs lies, in standard deviations.
        cost_weight: of the MACs' loss beside a metric's; 0 leaves the cost out.
        loss: one of `LOSSES`. As the targets move along, it only scales the steps: while both are as far,
            "l1" steps 1 / target times as far as "smooth-l1", and "l2" twice as far.
        winner: whether only the dimension with the largest gradient moves in a step. The published code has
            such a switch, which nothing in it uses.
        rounded: whether the predictor sees the code rounded to the grid. What moves stays continuous.
    """

    rate: float = 3.0
    target: float = 0.1
    cost_target: float = 0.1
    cost_weight: float = 0.5
    loss: str = LOSSES[0]
    winner: bool = False
    rounded: bool = False

    def __post_init__(self) -> None:
        for name in ("rate", "target", "cost_target"):
            self._keep(name, positive(name, getattr(self, name), most=sys.float_info.max))
        self._keep("cost_weight", finite("cost_weight", self.cost_weight, least=0))
        if self.loss not in LOSSES:
            raise UnknownNameError(f"no loss {self.loss!r}: {did_you_mean(self.loss, LOSSES)}")
        for name in ("winner", "rounded"):
            self._keep(name, flag(name, getattr(self, name)))

    def _keep(self, name: str, value: float | bool) -> None:
        object.__setattr__(self, name, value)  # it is frozen for others

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Editing:
        """Return the published settings but for those given; None stands for the published one."""
        return cls(**{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Pull:
    """One task's part in the loss: `model`'s metric number `where` is pulled to where `goal` wants it."""

    goal: Goal
    model: TaskModel
    where: int


@torch_threads()
def edit(
    pulls: Sequence[Pull],
    start: Codes,
    box: tuple[Tensor, Tensor, list[int]],
    steps: int,
    *,
    space: Space,
    settings: Editing,
) -> Codes:
    """Return every step's code, `(steps + 1, n, DIM)`, the `(n, DIM)` start first, each on the grid.

    SGD on the z-scored code: each task pulls its predicted main metric beyond where it is, and its predicted
    MACs below.

    Args:
        pulls: the tasks; the first one's model sets the z-scores.
        start: where the loop begins.
        box: the relaxed space's lower corner, its extent, and the coordinates that are fixed.
        steps: how many.
        space: of the codes.
        settings: of the loop.
    """
    with requires("search", "NCP"):
        import torch
        from torch.nn import functional
    distance = {
        "smooth-l1": functional.smooth_l1_loss,
        "l1": functional.l1_loss,
        "l2": functional.mse_loss,
    }[settings.loss]
    low, span, pinned = box
    mean, scale = pulls[0].model.x_mean, pulls[0].model.x_scale
    x = torch.from_numpy(space.relax(start))
    kept = x[:, pinned].clone()
    codes = [space.project(x.numpy())]
    for _ in range(steps):
        shown = torch.from_numpy(space.relax(codes[-1])) if settings.rounded else x
        z = ((shown - mean) / scale).requires_grad_()
        loss = torch.zeros((), dtype=torch.float32)
        for pull in pulls:
            metrics, costs = pull.model(pull.model.standardise(z * scale + mean))
            main = metrics[:, pull.where]
            up = settings.target * pull.goal.metric.sign
            loss = loss + pull.goal.weight * distance(main, main.detach() + up)
            if costs.shape[1] and settings.cost_weight:
                macs = costs[:, 0]
                loss = loss + settings.cost_weight * distance(macs, macs.detach() - settings.cost_target)
        (gradient,) = torch.autograd.grad(loss, z)
        if settings.winner:
            gradient[:, pinned] = 0
            largest = gradient.abs().argmax(dim=1, keepdim=True)
            gradient = torch.zeros_like(gradient).scatter(1, largest, gradient.gather(1, largest))
        at = (x - mean) / scale if settings.rounded else z.detach()
        x = (at - settings.rate * gradient) * scale + mean
        x = torch.minimum(torch.maximum(x, low), low + span)
        x[:, pinned] = kept
        codes.append(space.project(x.numpy()))
    return np.stack(codes)
