"""Lidar scans as a detector trains on them: augmented scenes, objects to paste into them, batches.

Frames, box order and units are those of `boxes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nasbench_mr.arrays import Floats
from nasbench_mr.data_builders.detection import boxes as geometry
from nasbench_mr.data_builders.detection.config import DetectionConfig
from nasbench_mr.errors import InvalidArgumentError

#: The label of what pads a batch's boxes.
PADDING = -1


@dataclass(frozen=True)
class Scene:
    """One sample.

    Attributes:
        points: `(N, 4)` float32 x, y, z (metres, lidar frame) and reflectance in [0, 1].
        boxes: `(M, 7)` float64.
        labels: `(M,)` int64 indices of `DetectionConfig.classes`.
        others: `(K, 7)` boxes of objects of other classes: nothing is pasted into them.
    """

    points: npt.NDArray[np.float32]
    boxes: Floats
    labels: npt.NDArray[np.int64]
    others: Floats = field(default_factory=lambda: np.zeros((0, 7)))


@dataclass(frozen=True)
class Batch:
    """Scenes as tensors on one device.

    Attributes:
        points: `(N, 4)` float32, all scenes' one after another.
        sample: `(N,)` int64, each point's scene.
        boxes: `(B, M, 7)` float32, padded with zeros to the largest number of boxes (at least 1).
        labels: `(B, M)` int64, padded with `PADDING`.
    """

    points: Tensor
    sample: Tensor
    boxes: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device; asynchronous from pinned memory."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in memory from which a GPU can copy by itself; a DataLoader calls it."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(*(change(t) for t in (self.points, self.sample, self.boxes, self.labels)))


class ObjectBank:
    """Objects cut out of training scenes, for pasting into others (ground-truth sampling, as in SECOND).

    Args:
        scenes: the training set's.
        config: `paste_min_points` and the classes' `paste` are used.
    """

    def __init__(self, scenes: Iterable[Scene], config: DetectionConfig):
        self.config = config
        self._objects: list[list[tuple[Floats, npt.NDArray[np.float32]]]] = [[] for _ in config.classes]
        for scene in scenes:
            inside = geometry.points_inside(scene.points, scene.boxes)
            for box, label, mask in zip(scene.boxes, scene.labels, inside, strict=True):
                if mask.sum() >= config.paste_min_points:
                    self._objects[label].append((box, scene.points[mask]))

    def __len__(self) -> int:
        return sum(map(len, self._objects))

    def paste(self, scene: Scene, rng: np.random.Generator) -> Scene:
        """Return the scene with objects added, each where it was cut out, none over another from above."""
        boxes, labels, clouds = scene.boxes, list(scene.labels), []
        for label, (cls, objects) in enumerate(zip(self.config.classes, self._objects, strict=True)):
            wanted = min(cls.paste - int((scene.labels == label).sum()), len(objects))
            for k in rng.permutation(len(objects))[: max(wanted, 0)]:
                box, points = objects[k]
                taken = np.concatenate([boxes, scene.others])
                if (geometry.overlaps(box[None], taken)[0] > 0).any():
                    continue
                boxes = np.concatenate([boxes, box[None]])
                labels.append(label)
                clouds.append(points)
        if not clouds:
            return scene
        # What stood where an object now is would shine through it.
        free = ~geometry.points_inside(scene.points, boxes[len(scene.boxes) :]).any(0)
        points = np.concatenate([scene.points[free], *clouds])
        return Scene(points, boxes, np.array(labels, np.int64))


def augment(
    scene: Scene, config: DetectionConfig, rng: np.random.Generator, bank: ObjectBank | None = None
) -> Scene:
    """Return a training variant of the scene.

    Objects pasted, then mirrored, turned and scaled, points shuffled.
    """
    if bank is not None:
        scene = bank.paste(scene, rng)
    points, boxes = scene.points, scene.boxes
    for axis in config.flip_axes:
        if rng.random() < 0.5:
            points, boxes = geometry.flip(points, boxes, axis)
    points, boxes = geometry.rotate(points, boxes, rng.uniform(-config.rotation, config.rotation))
    points, boxes = geometry.scale(points, boxes, rng.uniform(*config.scaling))
    # The limits on points and pillars keep the first in order; shuffled, they keep a random choice.
    return Scene(rng.permutation(points), boxes, scene.labels)


def collate(scenes: Sequence[Scene], config: DetectionConfig) -> Batch:
    """Return scenes as one batch in memory, without boxes centred outside the range in x or y."""
    low, high = np.array(config.point_range[:2]), np.array(config.point_range[3:5])
    kept: list[tuple[Floats, npt.NDArray[np.int64]]] = []
    for k, scene in enumerate(scenes):
        if scene.points.ndim != 2 or scene.points.shape[1] != 4:
            raise InvalidArgumentError(f"scene {k}: points have shape {scene.points.shape}; expected (N, 4)")
        boxes = geometry.check(scene.boxes)
        labels = np.asarray(scene.labels, np.int64)
        if labels.shape != (len(boxes),) or ((labels < 0) | (labels >= len(config.classes))).any():
            raise InvalidArgumentError(
                f"scene {k}: labels are {labels.tolist()}; expected {len(boxes)} in "
                f"[0, {len(config.classes)})"
            )
        inside = ((boxes[:, :2] >= low) & (boxes[:, :2] < high)).all(1)
        kept.append((boxes[inside], labels[inside]))
    most = max([1, *(len(boxes) for boxes, _ in kept)])
    padded = np.zeros((len(scenes), most, 7), np.float32)
    labels = np.full((len(scenes), most), PADDING, np.int64)
    for k, (boxes, own) in enumerate(kept):
        padded[k, : len(boxes)], labels[k, : len(boxes)] = boxes, own
    points = np.concatenate([np.zeros((0, 4), np.float32), *(scene.points for scene in scenes)])
    sample = np.repeat(np.arange(len(scenes)), [len(scene.points) for scene in scenes])
    return Batch(*(torch.from_numpy(a) for a in (points.astype(np.float32), sample, padded, labels)))
