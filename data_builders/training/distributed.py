"""Batch norm over the processes that train one network together. Needs the extra `build`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class _Summed(torch.autograd.Function):
    """The sum of a tensor over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the batches of all processes, on any device (torch's own needs GPUs)."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        axes = (0, *range(2, input.ndim))
        shape = (-1, *[1] * (input.ndim - 2))
        summed: Callable[[Tensor], Tensor] = _Summed.apply
        # Pillars differ in number between processes.
        count = torch.tensor(float(input.numel() / input.shape[1]), device=input.device)
        torch.distributed.all_reduce(count)
        # Two passes, as the difference of mean square and squared mean would lose digits.
        mean = summed(input.sum(axes)) / count
        centred = input - mean.view(shape)
        variance = summed((centred * centred).sum(axes)) / count
        with torch.no_grad():
            unbiased = variance * (count / (count - 1))
            for running, value in ((self.running_mean, mean), (self.running_var, unbiased)):
                assert running is not None
                running.lerp_(value, self.momentum or 0.0)
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale.view(shape) + self.bias.view(shape)

    @classmethod
    def convert(cls, module: nn.Module) -> None:
        """Make every batch norm in a module one of these."""
        for part in module.modules():
            if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                part.__class__ = cls  # type: ignore[assignment]
