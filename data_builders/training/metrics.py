"""What trained classifiers and segmenters are measured by, accumulated over batches.

A metric takes batches with `update`, gives percentages with `compute`, and its `state` is a tensor of counts
that adds up: over batches, and over the processes that share a validation set.
"""

from __future__ import annotations

import abc

import torch
from torch import Tensor

from nasbench_mr.data_builders.datasets import IGNORE
from nasbench_mr.errors import InvalidArgumentError


class Meter(abc.ABC):
    """A metric made of counts.

    Attributes:
        state: float64 counts; the states of several parts of a set add up to the set's.
    """

    state: Tensor

    @abc.abstractmethod
    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count one batch."""

    @abc.abstractmethod
    def compute(self) -> dict[str, float]:
        """Return the metrics of all batches so far, in percent; NaN where there were none."""


class TopK(Meter):
    """Top-1 and top-5 accuracy: `top1`, `top5`.

    A sample is correct at k when fewer than k classes score higher than its label; NaN scores are wrong.
    """

    KS = (1, 5)

    def __init__(self, device: torch.device | str = "cpu"):
        self.state = torch.zeros(1 + len(self.KS), dtype=torch.float64, device=device)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count `(B, classes)` logits and `(B,)` int64 labels."""
        own = logits.gather(1, labels[:, None])
        # "not below" instead of "above": comparisons with NaN are false, and NaN must not win.
        higher = (~(logits <= own)).sum(1)
        counts = [torch.full_like(higher, len(labels)).amax() if len(labels) else higher.sum()]
        counts += [(higher < k).sum() for k in self.KS]
        self.state += torch.stack(counts)

    def compute(self) -> dict[str, float]:
        total, *correct = self.state.tolist()
        return {
            f"top{k}": 100 * c / total if total else float("nan")
            for k, c in zip(self.KS, correct, strict=True)
        }


class Confusion(Meter):
    """Segmentation: `mIoU`, `mAcc` (means over classes) and `aAcc` (over pixels), from one confusion matrix.

    Pixels labelled `IGNORE` do not count. One that is predicted as NaN is wrong, and of no class. A class
    that is neither labelled nor predicted anywhere is left out of `mIoU`, one that is never labelled out of
    `mAcc`.
    """

    def __init__(self, num_classes: int, device: torch.device | str = "cpu"):
        if num_classes < 1:
            raise InvalidArgumentError(f"num_classes is {num_classes}; expected at least 1")
        #: Row: the label. Column: the prediction; the last is of no class, as a score was NaN.
        self.state = torch.zeros(num_classes, num_classes + 1, dtype=torch.float64, device=device)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count `(B, classes, H, W)` logits and `(B, H, W)` labels."""
        # The largest of numbers with a NaN among them is NaN, wherever it lies.
        best, predicted = logits.max(1)
        self.count(predicted.masked_fill(best.isnan(), len(self.state)), labels)

    def count(self, predicted: Tensor, labels: Tensor) -> None:
        """Count predicted classes and labels of equal shape."""
        kept = labels != IGNORE
        cells = labels[kept].long() * self.state.shape[1] + predicted[kept]
        self.state += torch.bincount(cells, minlength=self.state.numel()).view(self.state.shape)

    def compute(self) -> dict[str, float]:
        hits, labelled, predicted = self.state.diagonal(), self.state.sum(1), self.state[:, :-1].sum(0)
        union = labelled + predicted - hits
        shares = {
            "mIoU": (hits / union)[union > 0].mean(),
            "mAcc": (hits / labelled)[labelled > 0].mean(),
            "aAcc": hits.sum() / labelled.sum(),
        }
        return {name: 100 * share.item() for name, share in shares.items()}
