"""What the problems differ in, as the training loop sees it: `Workload`."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nasbench_mr import tasks
from nasbench_mr.data_builders.training.inputs import Plan, Share
from nasbench_mr.data_builders.training.recipes import Recipe
from nasbench_mr.data_builders.training.splits import Folder


class Workload(abc.ABC):
    """Data, network, loss and metrics of one kind of problem.

    Args:
        recipe: of a task of this problem.
        data: the folder of the data sets.
        device: where to train.
        share: this process among those that train together.

    Attributes:
        plan: the batches of an epoch.
        fixed_shapes: whether all batches are tuples of tensors of the same shapes.
    """

    plan: Plan
    fixed_shapes = False

    def __init__(self, recipe: Recipe, data: Folder, device: torch.device, share: Share):
        self.recipe, self.data, self.device, self.share = recipe, data, device, share
        self.task = tasks.get(recipe.task)

    @abc.abstractmethod
    def network(self, code: object) -> nn.Module:
        """Return the network of a code, on the CPU, initialised from torch's global generator."""

    @abc.abstractmethod
    def batches(self, seed: int, epoch: int) -> Iterator[Any]:
        """Return the training batches of an epoch, on the device."""

    @abc.abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss of a batch."""

    @abc.abstractmethod
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the task's metrics of a network in evaluation mode, from all processes."""
