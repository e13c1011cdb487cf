"""3D detection as a problem to train on: lidar scans in, average precision out.

`training.train` uses it for tasks of this problem; the network, its losses and augmentation are in
`detection`, the metric is in `kitti_eval`. Needs the extra `build`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nasbench_mr.data_builders.datasets import Dataset, Sample
from nasbench_mr.data_builders.detection import boxes as geometry
from nasbench_mr.data_builders.detection import kitti_eval
from nasbench_mr.data_builders.detection.config import AnchorClass, DetectionConfig
from nasbench_mr.data_builders.detection.network import DetectionNet, Detections
from nasbench_mr.data_builders.detection.scenes import Batch, ObjectBank, Scene, augment, collate
from nasbench_mr.data_builders.training import inputs, splits
from nasbench_mr.data_builders.training.inputs import Plan, Share, Stream
from nasbench_mr.data_builders.training.recipes import Recipe, tuples
from nasbench_mr.data_builders.training.splits import Folder
from nasbench_mr.data_builders.training.workload import Workload
from nasbench_mr.errors import DatasetError, RecipeError, did_you_mean


def configure(recipe: Recipe) -> DetectionConfig:
    """Return the detection settings of a recipe: `config.KITTI` with its changes, all checked."""
    known = DetectionConfig.__dataclass_fields__
    for key in recipe.detection:
        if key not in known:
            raise RecipeError(f"recipe {recipe.name!r}: detection has no {key!r}: {did_you_mean(key, known)}")
    try:
        changes = tuples(recipe.detection)
        if "classes" in changes:
            changes["classes"] = tuple(AnchorClass(**tuples(fields)) for fields in changes["classes"])
        return DetectionConfig(**changes)
    except (TypeError, AttributeError, ValueError) as error:
        raise RecipeError(f"recipe {recipe.name!r}: detection: {error}") from None


def scene(sample: Sample, classes: Sequence[str], config: DetectionConfig) -> Scene:
    """Return a data set's sample as `detection` has it: objects of the configured classes, and the others."""
    wanted = {name: k for k, name in enumerate(config.names)}
    label = np.array([wanted.get(name, -1) for name in classes], np.int64)[sample["label"]]
    boxes, kept = sample["boxes"].astype(np.float64), label >= 0
    # Regions that nobody annotated (DontCare) have no extent.
    others = boxes[~kept & (boxes[:, 3:6] > 0).all(1)]
    return Scene(sample["points"], boxes[kept], label[kept], others)


def annotation(sample: Sample, classes: Sequence[str]) -> kitti_eval.Objects:
    """Return a data set's sample as the metric has it, objects of all classes included."""
    names = [classes[k] for k in sample["label"]]
    return kitti_eval.Objects(
        names, sample["boxes"], sample["image_boxes"], sample["occlusion"], sample["truncation"]
    )


def prediction(found: Detections, sample: Mapping[str, Any], config: DetectionConfig) -> kitti_eval.Objects:
    """Return detections as the metric has them, without those outside of the image.

    Nothing is annotated there.
    """
    size = (int(sample["image_size"][0]), int(sample["image_size"][1]))
    image_boxes = geometry.to_image(found.boxes, sample["projection"].astype(np.float64), size)
    seen = ((image_boxes[:, 2:] - image_boxes[:, :2]) > 0).all(1)
    names = [config.names[k] for k in found.labels[seen]]
    return kitti_eval.Objects(names, found.boxes[seen], image_boxes[seen], scores=found.scores[seen])


def average_precisions(ap: Mapping[str, float]) -> dict[str, float]:
    """Metrics from those of `kitti_eval.evaluate`, in percent; NaN where no object counts.

    `easy`, `moderate`, `hard`: of cars in 3D, as published; `bev`: moderate, from above; `mAP`: moderate in
    3D, the mean of the classes that occur.
    """
    found = {level: ap.get(f"Car/3d/{level}", math.nan) for level in ("easy", "moderate", "hard")}
    classes = [v for k, v in ap.items() if k.endswith("/3d/moderate") and not math.isnan(v)]
    return found | {
        "bev": ap.get("Car/bev/moderate", math.nan),
        "mAP": float(np.mean(classes)) if classes else math.nan,
    }


#: The objects that a metric counts: their class (None: any that is detected), and their difficulty.
_COUNTED: dict[str, tuple[str | None, str]] = {
    "easy": ("Car", "easy"),
    "moderate": ("Car", "moderate"),
    "hard": ("Car", "hard"),
    "bev": ("Car", "moderate"),
    "mAP": (None, "moderate"),
}


class Scans(Workload):
    """3D detection; batches are `scenes.Batch`."""

    def __init__(self, recipe: Recipe, data: Folder, device: torch.device, share: Share):
        super().__init__(recipe, data, device, share)
        self.config = configure(recipe)
        self.overlap = {name: recipe.min_overlap.get(name, 0.5) for name in self.config.names}
        self.workers = 0 if recipe.resident else recipe.workers
        self.data_set: Prepared = _prepared(
            *splits.keys(recipe, data),
            recipe.train_samples,
            recipe.resident,
            self.config,
        )
        self._check_classes()
        self._check_metrics()
        read = functools.partial(_training_scene, self.data_set, self.config)
        self._stream = Stream(
            self.data_set.train,
            self.data_set.kept,
            read,
            self.workers,
            collate=functools.partial(_collate, self.config),
            device=device,
        )
        self.plan = Plan(len(self.data_set.kept), recipe.batch_size, share, recipe.epoch_samples)

    def _check_classes(self) -> None:
        """Raise `RecipeError` for classes that the data set has not, and metrics of none of the classes."""
        for name in self.config.names:
            if name not in self.data_set.classes:
                raise RecipeError(
                    f"recipe {self.recipe.name!r}: {self.recipe.dataset} has no class {name!r}: "
                    f"{did_you_mean(name, self.data_set.classes)}"
                )
        for metric in self.task.metrics:
            cls, _ = _COUNTED.get(metric.name, (None, ""))
            if cls is not None and cls not in self.config.names:
                raise RecipeError(
                    f"recipe {self.recipe.name!r}: {metric.name!r} of task {self.task.name!r} is of "
                    f"{cls!r}, and its detection is of {', '.join(self.config.names)}; add the class, or "
                    "train for a task without that metric"
                )

    def _check_metrics(self) -> None:
        """Raise `DatasetError` where the validation set has no object that a metric of the task counts."""
        missing = {m.name: _COUNTED[m.name] for m in self.task.metrics if m.name in _COUNTED}
        for sample in self.data_set.val:
            objects = annotation(sample, self.data_set.classes)
            for metric, (cls, level) in list(missing.items()):
                names = self.config.names if cls is None else (cls,)
                if any(kitti_eval.counted(objects, name, level).any() for name in names):
                    del missing[metric]
            if not missing:
                return
        metric, (cls, level) = next(iter(missing.items()))
        raise DatasetError(
            f"{self.recipe.dataset} val: no {cls or 'object of the classes'} that counts as {level} among "
            f"{len(self.data_set.val):,} scans, so {metric!r} of task {self.task.name!r} can't be measured; "
            "give other validation data, or train for a task without it"
        )

    def network(self, code: object) -> nn.Module:
        return DetectionNet(code, self.config, self.recipe.width_mult)

    def batches(self, seed: int, epoch: int) -> Iterator[Batch]:
        return (batch.to(self.device) for batch in self._stream(self.plan.epoch(seed, epoch)))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        # Under torchrun the model is wrapped, and only its forward is to be called.
        maps = model(batch)
        net = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        assert isinstance(net, DetectionNet)
        return net.loss(maps, batch).total

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, DetectionNet)
        val, classes = self.data_set.val, self.data_set.classes
        order = torch.arange(len(val))[self.share.rank :: self.share.world]
        size = self.recipe.eval_batch_size
        stream = Stream(val, None, _sample, self.workers, collate=list)
        own: list[tuple[kitti_eval.Objects, kitti_eval.Objects]] = []
        for samples in stream((i, torch.zeros(len(i), 1)) for i in torch.split(order, size) if len(i)):
            batch = collate([scene(s, classes, self.config) for s in samples], self.config)
            for found, s in zip(model.decode(model(batch.to(self.device))), samples, strict=True):
                own.append((prediction(found, s, self.config), annotation(s, classes)))
        pairs = self.share.gather(own)
        predictions, annotations = [p for p, _ in pairs], [a for _, a in pairs]
        return average_precisions(kitti_eval.evaluate(predictions, annotations, self.overlap))


@dataclass(frozen=True)
class Prepared:
    """A data set: samples, which of the training set's are used, names of classes, objects to paste."""

    train: Sequence[Sample] | Dataset
    kept: npt.NDArray[np.int64]
    val: Sequence[Sample] | Dataset
    classes: tuple[str, ...]
    bank: ObjectBank | None


@functools.lru_cache(maxsize=4)
def _prepared(
    train_key: splits.Key,
    val_key: splits.Key,
    count: int,
    resident: bool,
    config: DetectionConfig,
) -> Prepared:
    train, val = splits.opened(*train_key), splits.opened(*val_key)
    splits.check_classes(train.name, train.classes, val.classes)
    kept = inputs.choose(len(train), count)
    found: Sequence[Sample] | Dataset = train
    held: Sequence[Sample] | Dataset = val
    if resident:
        found, held, kept = [train[int(i)] for i in kept], list(val), np.arange(len(kept))
    bank = None
    if any(c.paste for c in config.classes):
        bank = ObjectBank((scene(found[int(i)], train.classes, config) for i in kept), config)
    return Prepared(found, kept, held, train.classes, bank)


def _training_scene(data: Prepared, config: DetectionConfig, sample: Sample, u: Tensor) -> Scene:
    # The sample's numbers are a seed, as pasting draws as many as it needs.
    rng = np.random.default_rng(u.numpy().view(np.uint32))
    return augment(scene(sample, data.classes, config), config, rng, data.bank)


def _sample(sample: Sample, u: Tensor) -> Sample:
    return sample


def _collate(config: DetectionConfig, scenes: list[Scene]) -> Batch:
    return collate(scenes, config)
