"""What a primary or auxiliary task is: its label, loss and metrics. `get` gives one by name.

| task | label of a sample | loss | metrics, the objective first |
|---|---|---|---|
| segmentation | (H, W) uint8 classes, 255 ignored | cross-entropy | mIoU, mAcc, aAcc (pixel accuracy) |
| normals | (H, W, 3) float32 unit vectors, 0 unknown | 1 - cosine | mean, median, rmse, % within limits |
| depth | (H, W) float32 metres, 0 unknown | L1 | L1, % with a ratio below 1.25 |
| disparity | (H, W) float32 pixels, 0 unknown | L1 | as depth |
| edges | (H, W) uint8: 1 edge, 0 none, 255 ignored | balanced cross-entropy | F1 at the best threshold |
| object, scene | () int64 class, -1 unknown | cross-entropy | top1, top5 |

Normals are in the camera's frame: x right, y down, z away from the camera.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nasbench_mr import tasks as benchmark_tasks
from nasbench_mr.data_builders.datasets import IGNORE, Array
from nasbench_mr.data_builders.training.metrics import Confusion, Meter, TopK
from nasbench_mr.errors import DatasetError, InvalidArgumentError, UnknownTaskError
from nasbench_mr.plugins import Registry
from nasbench_mr.search.auxnas.data import AuxData
from nasbench_mr.tasks import Metric


class LabelTask(abc.ABC):
    """A kind of label.

    Attributes:
        name: the key of its label in a sample.
        dense: whether there is an output for each pixel, or one for the image.
        metrics: the measured ones, the objective first.
        weight: of its loss, by default; as published for segmentation and normals.
        outputs: channels of the output; None where they are the data's classes.
    """

    name: str
    dense: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]]
    weight: ClassVar[float] = 1.0
    outputs: ClassVar[int | None] = None
    #: Shape of a sample's label, "H" and "W" for the image's sides, and its type.
    shape: ClassVar[tuple[str | int, ...]] = ("H", "W")
    dtype: ClassVar[str] = "uint8"

    def __init__(self, name: str):
        self.name = name

    @property
    def objective(self) -> Metric:
        """Return the metric that the task is judged by."""
        return self.metrics[0]

    def channels(self, classes: int | None) -> int:
        """Return the outputs of a network for data of so many classes."""
        count = self.outputs if self.outputs is not None else classes
        if count is None:
            raise DatasetError(f"{self.name}: the data does not say how many classes there are")
        return count

    def check(self, labels: Array, classes: int | None, where: str) -> None:
        """Check labels `(n, ...)` of a set; here, numbers of which 0 is unknown.

        Raises:
            DatasetError: values out of range, or none known.
        """
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise DatasetError(f"{where}: labels of {self.name!r} hold NaN or infinity")
        if not labels.any():
            raise DatasetError(f"{where}: no label of {self.name!r} is known")

    @abc.abstractmethod
    def loss(self, output: Tensor, label: Tensor) -> Tensor:
        """Return the mean loss of a batch: output `(B, channels, ...)` float32, label as the module says."""

    @abc.abstractmethod
    def meter(self, classes: int | None, device: torch.device | str) -> Meter:
        """Return what accumulates the metrics of this task over batches."""


def _check_classes(name: str, labels: Array, classes: int | None, *, unknown: int, where: str) -> None:
    known = labels[labels != unknown]
    if not known.size:
        raise DatasetError(f"{where}: no label of {name!r} is known")
    low, high = int(known.min()), int(known.max())
    if classes is None or low < 0 or high >= classes:
        raise DatasetError(
            f"{where}: labels of {name!r} are {low} to {high}; expected classes 0 to {(classes or 0) - 1}, "
            f"or {unknown} for unknown"
        )


class Segmentation(LabelTask):
    """Classes of pixels."""

    metrics = benchmark_tasks.get("seg").metrics

    def check(self, labels: Array, classes: int | None, where: str) -> None:
        _check_classes(self.name, labels, classes, unknown=IGNORE, where=where)

    def loss(self, output: Tensor, label: Tensor) -> Tensor:
        # Not the mean reduction: it is NaN where all pixels are ignored.
        total = F.cross_entropy(output, label.long(), ignore_index=IGNORE, reduction="sum")
        return total / (label != IGNORE).sum().clamp(min=1)

    def meter(self, classes: int | None, device: torch.device | str) -> Meter:
        return Confusion(self.channels(classes), device)


class Normals(LabelTask):
    """Directions of surfaces."""

    metrics = (
        Metric("mean", "degrees", "min", 0, 180, description="mean angle to the label"),
        Metric("median", "degrees", "min", 0, 180, description="median angle"),
        Metric("rmse", "degrees", "min", 0, 180, description="root of the mean squared angle"),
        Metric("within_11.25", description="pixels within 11.25 degrees"),
        Metric("within_22.5", description="pixels within 22.5 degrees"),
        Metric("within_30", description="pixels within 30 degrees"),
    )
    weight = 20.0
    outputs = 3
    shape = ("H", "W", 3)
    dtype = "float32"

    def loss(self, output: Tensor, label: Tensor) -> Tensor:
        label = label.permute(0, 3, 1, 2)
        known = label.square().sum(1) > 0.25
        cosine = F.cosine_similarity(output, label, dim=1)
        return ((1 - cosine) * known).sum() / known.sum().clamp(min=1)

    def meter(self, classes: int | None, device: torch.device | str) -> Meter:
        return Angles(device)


class Angles(Meter):
    """Metrics of normals, from a histogram of angles in steps of 0.01 degrees; `state[-2:]` are sums."""

    BINS = 18000

    def __init__(self, device: torch.device | str = "cpu"):
        self.state = torch.zeros(self.BINS + 2, dtype=torch.float64, device=device)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count `(B, 3, H, W)` directions of any length and `(B, H, W, 3)` labels."""
        labels = labels.permute(0, 3, 1, 2).double()
        known = labels.square().sum(1) > 0.25
        a, b = F.normalize(logits.double(), dim=1), F.normalize(labels, dim=1)
        # atan2 of sine and cosine is exact near 0, where acos is not.
        sine, cosine = torch.linalg.cross(a, b, dim=1).norm(dim=1), (a * b).sum(1)
        angle = torch.rad2deg(torch.atan2(sine, cosine))[known]
        # NaN is as far off as can be, not the 0 that it is converted to.
        bins = (angle.nan_to_num(180.0) * (self.BINS / 180)).long().clamp(0, self.BINS - 1)
        self.state[: self.BINS] += torch.bincount(bins, minlength=self.BINS)
        self.state[-2] += angle.sum()
        self.state[-1] += angle.square().sum()

    def compute(self) -> dict[str, float]:
        counts = self.state[: self.BINS].cpu()
        total = float(counts.sum())
        if not total:
            return {m.name: math.nan for m in Normals.metrics}
        cumulative = counts.cumsum(0)
        median = float((cumulative < total / 2).sum() + 0.5) * 180 / self.BINS
        out = {
            "mean": float(self.state[-2]) / total,
            "median": median,
            "rmse": math.sqrt(float(self.state[-1]) / total),
        }
        for limit in (11.25, 22.5, 30):
            out[f"within_{limit:g}"] = 100 * float(cumulative[round(limit * self.BINS / 180) - 1]) / total
        return out


class Depth(LabelTask):
    """Distances, or anything else that is positive and judged by ratios."""

    outputs = 1
    dtype = "float32"

    def __init__(self, name: str, unit: str):
        super().__init__(name)
        self.metrics = (  # type: ignore[misc]
            Metric("L1", unit, "min", 0, None, description="mean absolute error"),
            Metric(
                "delta1",
                description="pixels where the larger of prediction and label is below 1.25 times the other",
            ),
        )

    def check(self, labels: Array, classes: int | None, where: str) -> None:
        super().check(labels, classes, where)
        if labels.min() < 0:
            raise DatasetError(f"{where}: labels of {self.name!r} are negative, down to {labels.min():g}")

    def loss(self, output: Tensor, label: Tensor) -> Tensor:
        known = label > 0
        return ((output[:, 0] - label).abs() * known).sum() / known.sum().clamp(min=1)

    def meter(self, classes: int | None, device: torch.device | str) -> Meter:
        return Ratios(device)


class Ratios(Meter):
    """Metrics of depth; `state`: how many pixels, the sum of their absolute errors, how many within 1.25."""

    def __init__(self, device: torch.device | str = "cpu"):
        self.state = torch.zeros(3, dtype=torch.float64, device=device)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count `(B, 1, H, W)` predictions and `(B, H, W)` labels."""
        known = labels > 0
        predicted, label = logits[:, 0][known].double(), labels[known].double()
        near = (predicted < 1.25 * label) & (label < 1.25 * predicted)
        self.state += torch.stack(
            [known.sum().double(), (predicted - label).abs().sum(), near.sum().double()]
        )

    def compute(self) -> dict[str, float]:
        total, error, near = self.state.tolist()
        return (
            {"L1": error / total, "delta1": 100 * near / total}
            if total
            else {"L1": math.nan, "delta1": math.nan}
        )


class Edges(LabelTask):
    """Pixels at which the image or the surface breaks."""

    metrics = (Metric("F1", description="F1 of edge pixels, at the threshold that is best over the set"),)
    outputs = 1

    def check(self, labels: Array, classes: int | None, where: str) -> None:
        _check_classes(self.name, labels, 2, unknown=IGNORE, where=where)

    def loss(self, output: Tensor, label: Tensor) -> Tensor:
        known, edge = label != IGNORE, label == 1
        # Both classes weigh the same, as in HED (Xie and Tu, 2015).
        share = edge.sum() / known.sum().clamp(min=1)
        each = F.binary_cross_entropy_with_logits(output[:, 0], edge.to(output.dtype), reduction="none")
        weight = torch.where(edge, 1 - share, share) * known
        return (each * weight).sum() / known.sum().clamp(min=1)

    def meter(self, classes: int | None, device: torch.device | str) -> Meter:
        return Thresholds(device)


class Thresholds(Meter):
    """F1 over thresholds; `state` (2, 101) counts other and edge pixels by probability, NaN first."""

    def __init__(self, device: torch.device | str = "cpu"):
        self.state = torch.zeros(2, 101, dtype=torch.float64, device=device)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count `(B, 1, H, W)` logits and `(B, H, W)` labels."""
        bins = 1 + (logits[:, 0].sigmoid() * 100).long().clamp(0, 99)
        bins[logits[:, 0].isnan()] = 0
        for kind in (0, 1):
            self.state[kind] += torch.bincount(bins[labels == kind], minlength=101)

    def compute(self) -> dict[str, float]:
        # Pixels at or above each threshold.
        false, true = self.state[:, 1:].flip(1).cumsum(1)
        edges = self.state[1].sum()
        f1 = 2 * true / (true + false + edges)
        return {"F1": 100 * float(f1.max()) if edges else math.nan}


class Classes(LabelTask):
    """A class for the whole image."""

    dense = False
    shape = ()
    dtype = "int64"
    metrics = benchmark_tasks.get("cls-50-1000").metrics

    def check(self, labels: Array, classes: int | None, where: str) -> None:
        _check_classes(self.name, labels, classes, unknown=-1, where=where)

    def loss(self, output: Tensor, label: Tensor) -> Tensor:
        total = F.cross_entropy(output, label, ignore_index=-1, reduction="sum")
        return total / (label >= 0).sum().clamp(min=1)

    def meter(self, classes: int | None, device: torch.device | str) -> Meter:
        return _KnownTopK(device)


class _KnownTopK(TopK):
    def update(self, logits: Tensor, labels: Tensor) -> None:
        super().update(logits[labels >= 0], labels[labels >= 0])


TASKS = Registry[LabelTask](
    "label task",
    {
        task.name: task
        for task in (
            Segmentation("segmentation"),
            Normals("normals"),
            Depth("depth", "metres"),
            Depth("disparity", "pixels"),
            Edges("edges"),
            Classes("object"),
            Classes("scene"),
        )
    },
    UnknownTaskError,
)


def get(name: str) -> LabelTask:
    """Return the task of this name; raise `UnknownTaskError` where there is none."""
    return TASKS[name]


def check(data: AuxData, names: Sequence[str]) -> None:
    """Check all that training on the tasks of these names relies on.

    Raises:
        UnknownTaskError: no such task, or the data has no labels of it.
        DatasetError: an empty set, arrays of other shapes or types, labels whose size is not the image's,
            classes out of range, no known label.
        InvalidArgumentError: a task is named twice.
    """
    if len(set(names)) < len(names):
        raise InvalidArgumentError(f"tasks are {', '.join(names)}; expected distinct ones")
    for part, split in ((data.train, "train"), (data.val, "val")):
        where = f"{part.name} {split}"
        image = part.arrays.get("image")
        if image is None or image.ndim != 4 or image.shape[3] != 3 or image.dtype != np.uint8:
            found = "none" if image is None else f"{image.shape} {image.dtype}"
            raise DatasetError(f"{where}: images are {found}; expected (n, H, W, 3) uint8")
        if not len(part):
            raise DatasetError(f"{where}: no samples")
        if len(image) != len(part):
            raise DatasetError(f"{where}: {len(image)} images for {len(part)} names")
        if part.size != data.train.size:
            raise DatasetError(
                f"{where}: images of {part.size} pixels; those of train have {data.train.size}"
            )
        height, width = part.size
        for name in names:
            task = get(name)
            if name not in part.arrays:
                raise UnknownTaskError(f"{where} has no labels of {name!r}; it has {', '.join(part.tasks)}")
            labels = part.arrays[name]
            wanted = (len(part), *({"H": height, "W": width}.get(str(s), s) for s in task.shape))
            if labels.shape != wanted:
                raise DatasetError(
                    f"{where}: labels of {name!r} have shape {labels.shape}; expected {wanted}"
                )
            if labels.dtype != task.dtype:
                raise DatasetError(
                    f"{where}: labels of {name!r} are {labels.dtype}; expected {np.dtype(task.dtype)}"
                )
            task.check(labels, part.classes.get(name), where)
