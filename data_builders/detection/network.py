"""3D object detection from lidar with a multi-resolution network: PointPillars, end to end.

    net = DetectionNet(code, KITTI)
    batch = collate([augment(scene, KITTI, rng, bank) for scene in scenes], KITTI)
    maps = net(batch)
    net.loss(maps, batch).total.backward()
    found = net.decode(maps)            # a Detections for each scene

Points are gathered into pillars, encoded, and scattered to a pseudo-image seen from above; the network of
the code turns it into one map at half its resolution; an anchor head predicts boxes there (Lang et al.,
"PointPillars", CVPR 2019). `KITTI` is the published setting of `3ddet`; sizes, anchors and losses are all
in `DetectionConfig`. Frames, box order and units are those of `boxes`; the metric is in `kitti_eval`.
Needs the extra `build`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench_mr.data_builders.detection import boxes as geometry
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.network import MultiResolutionNet, initialize

BACKGROUND, IGNORED = -1, -2


@dataclass(frozen=True)
class AnchorClass:
    """A class and its anchors.

    Attributes:
        name: as in the annotations.
        size: length, width, height of the anchors, metres.
        bottom: height of their bottom faces in the lidar's frame, metres.
        matched: an anchor with at least this overlap with a box is positive.
        unmatched: one with less than this overlap with all boxes is background; between, it is ignored.
        paste: ground-truth sampling fills a training scene up to this many objects.
    """

    name: str
    size: tuple[float, float, float]
    bottom: float
    matched: float
    unmatched: float
    paste: int = 0


@dataclass(frozen=True)
class DetectionConfig:
    """What is detected, where, how it is trained and how boxes are picked. Defaults: KITTI as published.

    Attributes:
        classes: in the order of the label indices.
        point_range: x, y, z from (inclusive) and to (exclusive), metres; points outside are dropped, and
            so are training boxes with centres outside in x or y.
        pillar: a pillar's sides in x and y, metres; they divide the range.
        max_points: points kept in a pillar, the first in order.
        max_pillars: pillars kept in a scene when training and when testing, the first in order.
        channels: features of a pillar.
        norm_momentum: of the pillar encoder's batch norm; the published 0.01 needs thousands of steps.
        headings: of the anchors, radians.
        focal_alpha, focal_gamma: of the focal classification loss.
        weights: of the classification, box and direction losses.
        direction_offset: heading, modulo pi, that separates the two direction bins.
        score_threshold: detections below it are dropped.
        nms_threshold: overlap from above over which the lower-scored of two detections is dropped.
        nms_before, nms_after: detections a scene keeps before and after suppression.
        flip_axes: mirrored in training with probability 1/2 each: a subset of "xy".
        rotation: largest rotation in training, radians, either way.
        scaling: range of the scale in training.
        paste_min_points: objects with fewer points are not pasted.
    """

    classes: tuple[AnchorClass, ...] = (
        AnchorClass("Car", (3.9, 1.6, 1.56), -1.78, 0.6, 0.45, paste=15),
        AnchorClass("Pedestrian", (0.8, 0.6, 1.73), -0.6, 0.5, 0.35, paste=15),
        AnchorClass("Cyclist", (1.76, 0.6, 1.73), -0.6, 0.5, 0.35, paste=15),
    )
    point_range: tuple[float, float, float, float, float, float] = (0.0, -39.68, -3.0, 69.12, 39.68, 1.0)
    pillar: tuple[float, float] = (0.16, 0.16)
    max_points: int = 32
    max_pillars: tuple[int, int] = (16_000, 40_000)
    channels: int = 64
    norm_momentum: float = 0.01
    headings: tuple[float, ...] = (0.0, math.pi / 2)
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    weights: tuple[float, float, float] = (1.0, 2.0, 0.2)
    direction_offset: float = 0.78539
    score_threshold: float = 0.1
    nms_threshold: float = 0.01
    nms_before: int = 4096
    nms_after: int = 500
    flip_axes: str = "y"
    rotation: float = math.pi / 4
    scaling: tuple[float, float] = (0.95, 1.05)
    paste_min_points: int = 5

    def __post_init__(self) -> None:
        low, high = self.point_range[:3], self.point_range[3:]
        if any(a >= b for a, b in zip(low, high, strict=True)):
            raise InvalidArgumentError(f"point_range is {self.point_range}; expected lows below highs")
        for k, side in enumerate(self.pillar):
            cells = (high[k] - low[k]) / side if side > 0 else 0.5
            if abs(cells - round(cells)) > 1e-4:
                raise InvalidArgumentError(
                    f"pillar[{k}] is {side}; expected a divisor of the range, {high[k] - low[k]:g} m"
                )
        if not self.classes or not self.headings:
            raise InvalidArgumentError("expected at least one class and one anchor heading")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows (along y) and columns (along x) of the pseudo-image."""
        x, y = ((self.point_range[k + 3] - self.point_range[k]) / self.pillar[k] for k in (0, 1))
        return round(y), round(x)

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows and columns of the anchor head's maps: the grid halved, rounded up."""
        rows, columns = self.grid
        return (rows + 1) // 2, (columns + 1) // 2

    @property
    def names(self) -> tuple[str, ...]:
        """The classes' names, by label index."""
        return tuple(c.name for c in self.classes)


KITTI = DetectionConfig()


@dataclass(frozen=True)
class Scene:
    """One sample.

    Attributes:
        points: `(N, 4)` float32 x, y, z (metres, lidar frame) and reflectance in [0, 1].
        boxes: `(M, 7)` float64.
        labels: `(M,)` int64 indices of `DetectionConfig.classes`.
    """

    points: npt.NDArray[np.float32]
    boxes: geometry.Floats
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Detections:
    """What was found in one scene, best first: `(K, 7)` boxes, `(K,)` scores in [0, 1], `(K,)` labels."""

    boxes: geometry.Floats
    scores: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Scenes as tensors on one device.

    Attributes:
        points: `(N, 4)` float32, all scenes' one after another.
        sample: `(N,)` int64, each point's scene.
        boxes: `(B, M, 7)` float32, padded with zeros to the largest number of boxes (at least 1).
        labels: `(B, M)` int64, padded with `BACKGROUND`.
    """

    points: Tensor
    sample: Tensor
    boxes: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device; asynchronous from pinned memory."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in memory from which a GPU can copy by itself; a DataLoader calls it."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(*(change(t) for t in (self.points, self.sample, self.boxes, self.labels)))


class Losses(NamedTuple):
    """Scalars; `total` is the weighted sum of the other three."""

    total: Tensor
    classification: Tensor
    box: Tensor
    direction: Tensor


# Data


class ObjectBank:
    """Objects cut out of training scenes, for pasting into others (ground-truth sampling, as in SECOND).

    Args:
        scenes: the training set's.
        config: `paste_min_points` and the classes' `paste` are used.
    """

    def __init__(self, scenes: Iterable[Scene], config: DetectionConfig):
        self.config = config
        self._objects: list[list[tuple[geometry.Floats, npt.NDArray[np.float32]]]] = [
            [] for _ in config.classes
        ]
        for scene in scenes:
            inside = geometry.points_inside(scene.points, scene.boxes)
            for box, label, mask in zip(scene.boxes, scene.labels, inside, strict=True):
                if mask.sum() >= config.paste_min_points:
                    self._objects[label].append((box, scene.points[mask]))

    def __len__(self) -> int:
        return sum(map(len, self._objects))

    def paste(self, scene: Scene, rng: np.random.Generator) -> Scene:
        """The scene with objects added, each where it was cut out, none overlapping another from above."""
        boxes, labels, clouds = scene.boxes, list(scene.labels), []
        for label, (cls, objects) in enumerate(zip(self.config.classes, self._objects, strict=True)):
            wanted = min(cls.paste - int((scene.labels == label).sum()), len(objects))
            for k in rng.permutation(len(objects))[: max(wanted, 0)]:
                box, points = objects[k]
                if (geometry.overlaps(box[None], boxes)[0] > 0).any():
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
    """A training variant of the scene: objects pasted, then mirrored, turned and scaled, points shuffled."""
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
    """Scenes as one batch in memory; boxes centred outside the range in x or y are left out.

    Raises:
        InvalidArgumentError: malformed points, boxes or labels.
    """
    low, high = np.array(config.point_range[:2]), np.array(config.point_range[3:5])
    kept: list[tuple[geometry.Floats, npt.NDArray[np.int64]]] = []
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
    labels = np.full((len(scenes), most), BACKGROUND, np.int64)
    for k, (boxes, own) in enumerate(kept):
        padded[k, : len(boxes)], labels[k, : len(boxes)] = boxes, own
    points = np.concatenate([np.zeros((0, 4), np.float32), *(scene.points for scene in scenes)])
    sample = np.repeat(np.arange(len(scenes)), [len(scene.points) for scene in scenes])
    return Batch(*(torch.from_numpy(a) for a in (points.astype(np.float32), sample, padded, labels)))


# Network


def pillarize(batch: Batch, config: DetectionConfig, training: bool) -> tuple[Tensor, Tensor]:
    """Decorated points, sorted by pillar.

    Args:
        training: which of `config.max_pillars` holds.

    Returns:
        `(K, 9)` features of the points kept: x, y, z, reflectance, the offsets to the mean of the
        pillar's points in x, y, z, and to its centre in x, y (metres); and `(K,)` int64, each point's
        cell in the `(B, rows, columns)` grid, flattened; ascending.
    """
    rows, columns = config.grid
    bounds = batch.points.new_tensor(config.point_range)
    size = batch.points.new_tensor(config.pillar)
    xyz = batch.points[:, :3]
    inside = ((xyz >= bounds[:3]) & (xyz < bounds[3:])).all(1)
    points, sample = batch.points[inside], batch.sample[inside]
    column, row = ((points[:, :2] - bounds[:2]) / size).long().unbind(1)
    # Rounding may put a point just below the upper bound into the cell beyond it.
    column, row = column.clamp(max=columns - 1), row.clamp(max=rows - 1)
    cell = (sample * rows + row) * columns + column

    order = torch.argsort(cell, stable=True)
    _, pillar, counts = torch.unique_consecutive(cell[order], return_inverse=True, return_counts=True)
    start = counts.cumsum(0) - counts
    keep = torch.arange(len(order), device=order.device) - start[pillar] < config.max_points
    limit = config.max_pillars[0 if training else 1]
    if len(counts) > limit:
        # Scenes follow one another in the batch, so pillars by their first points are grouped by scene.
        first = torch.argsort(order[start])
        owner = sample[order[start[first]]]
        ahead = torch.searchsorted(owner, owner)
        rank = torch.empty_like(first)
        rank[first] = torch.arange(len(first), device=first.device) - ahead
        keep &= (rank < limit)[pillar]
    points, cell, pillar = points[order[keep]], cell[order[keep]], pillar[keep]

    mean = points.new_zeros(len(counts), 3).index_add_(0, pillar, points[:, :3])
    mean /= torch.bincount(pillar, minlength=len(counts)).clamp(min=1)[:, None]
    place = torch.stack([cell % columns, cell // columns % rows], dim=1)
    centre = bounds[:2] + (place + 0.5) * size
    return torch.cat([points, points[:, :3] - mean[pillar], points[:, :2] - centre], dim=1), cell


class PillarEncoder(nn.Module):
    """Points to the pseudo-image: linear, BN and ReLU on each point, the maximum in each pillar.

    Batch norm sees the real points only; implementations that pad every pillar to `max_points` let the
    padding into its statistics.
    """

    def __init__(self, config: DetectionConfig):
        super().__init__()
        self.config = config
        self.linear = nn.Linear(9, config.channels, bias=False)
        self.norm = nn.BatchNorm1d(config.channels, eps=1e-3, momentum=config.norm_momentum)

    def forward(self, batch: Batch) -> Tensor:
        """Returns `(B, channels, rows, columns)` float32, channels last in memory, 0 in empty pillars."""
        rows, columns = self.config.grid
        with torch.no_grad():
            points, cell = pillarize(batch, self.config, self.training)
        # bfloat16 would round coordinates to half a metre at 70 m.
        with torch.autocast(points.device.type, enabled=False):
            features = F.relu(self.norm(self.linear(points)))  # (K, C)
            image = features.new_zeros(len(batch) * rows * columns, self.config.channels)
            # After ReLU no feature is below the zeros the image starts from.
            image = image.scatter_reduce(0, cell[:, None].expand_as(features), features, "amax")
        return image.view(len(batch), rows, columns, -1).permute(0, 3, 1, 2)


class DetectionNet(nn.Module):
    """Pillar encoder, the network of a code, and an anchor head.

    The head joins the branches at the highest resolution, half of the pseudo-image's, as for
    segmentation; its classifier predicts for every anchor a score for each class, 7 box residuals and
    2 direction scores.

    Args:
        code: anything `space.parse` reads.
        config: sizes, anchors, losses.
        width_mult: scales the code's channels (not the pillars').
    """

    anchors: Tensor

    def __init__(self, code: object, config: DetectionConfig = KITTI, width_mult: float = 1.0):
        super().__init__()
        self.config = config
        self.encoder = PillarEncoder(config)
        groups = len(config.classes) * len(config.headings)
        self.outputs = len(config.classes) + 7 + 2
        self.trunk = MultiResolutionNet(
            code,
            groups * self.outputs,
            "segmentation",
            width_mult,
            in_channels=config.channels,
            stem_strides=(2, 1),
        )
        initialize(self.encoder)
        self.register_buffer("anchors", make_anchors(config), persistent=False)
        assert self.trunk.head is not None
        with torch.no_grad():
            classifier = self.trunk.head.classifier
            nn.init.normal_(classifier.weight, std=0.01)
            # Nearly all anchors are background; starting at a probability of 1% keeps the focal loss calm.
            assert classifier.bias is not None
            classifier.bias.view(groups, self.outputs)[:, : len(config.classes)] = -math.log(99)

    def forward(self, batch: Batch) -> Tensor:
        """Predictions for every anchor: `(B, G, K, h, w)` float32.

        G: classes x headings, as `make_anchors`. K: class logits, box residuals (`encode`), 2 direction
        logits. (h, w): `map_size`.
        """
        head = self.trunk.head
        assert head is not None
        joined = head.join(self.trunk.branches(self.encoder(batch)))  # (B, o1, h, w)
        maps: Tensor = head.classifier(joined).float()  # (B, G * K, h, w)
        return maps.reshape(len(maps), -1, self.outputs, *maps.shape[2:])

    def loss(self, maps: Tensor, batch: Batch) -> Losses:
        """The training loss, each scene's divided by its positive anchors, averaged over the batch.

        Equal shares of a batch on several processes therefore average to the loss of the whole.
        """
        config, classes = self.config, len(self.config.classes)
        labels, owner = assign(config, self.anchors, batch.boxes, batch.labels)
        scene, group, row, column = torch.nonzero(labels >= 0, as_tuple=True)
        positives = torch.bincount(scene, minlength=len(batch)).clamp(min=1)

        wanted = labels[:, :, None] == torch.arange(classes, device=labels.device)[:, None, None]
        focal = focal_loss(maps[:, :, :classes], wanted, config.focal_alpha, config.focal_gamma)
        focal = focal * (labels != IGNORED)[:, :, None]
        classification = (focal.sum((1, 2, 3, 4)) / positives).mean()

        found = maps[scene, group, :, row, column]  # (P, K)
        truth = batch.boxes[scene, owner[scene, group, row, column]]  # (P, 7)
        share = 1 / (positives[scene] * len(batch))
        residual = found[:, classes : classes + 7] - encode(truth, self.anchors[group, row, column])
        # The sine is blind to a turn by pi, which the direction bins tell apart.
        residual = torch.cat([residual[:, :6], residual[:, 6:].sin()], dim=1)
        distance = F.smooth_l1_loss(residual, torch.zeros_like(residual), reduction="none", beta=1 / 9)
        box = (distance.sum(1) * share).sum()

        bins = torch.remainder(truth[:, 6] - config.direction_offset, 2 * math.pi) >= math.pi
        direction = F.cross_entropy(found[:, classes + 7 :], bins.long(), reduction="none")
        direction = (direction * share).sum()
        parts = (classification, box, direction)
        total = torch.stack([w * part for w, part in zip(config.weights, parts, strict=True)]).sum()
        return Losses(total, *parts)

    @torch.no_grad()
    def decode(self, maps: Tensor) -> list[Detections]:
        """Detections of each scene: the best scored anchors, decoded, suppressed across classes."""
        config, classes = self.config, len(self.config.classes)
        places = maps.shape[-2] * maps.shape[-1]
        scores, labels = maps[:, :, :classes].sigmoid().max(2)  # (B, G, h, w)
        scores, labels = scores.flatten(1), labels.flatten(1)
        scores, best = scores.topk(min(config.nms_before, scores.shape[1]))  # (B, k)
        labels = labels.gather(1, best)
        scene = torch.arange(len(maps), device=maps.device)[:, None]
        found = maps.flatten(3)[scene, best // places, :, best % places]  # (B, k, K)
        boxes = decode(found[..., classes : classes + 7], self.anchors.flatten(0, 2)[best])
        flipped = found[..., classes + 7 :].argmax(2)
        offset = config.direction_offset
        boxes[..., 6] = torch.remainder(boxes[..., 6] - offset, math.pi) + offset + math.pi * flipped
        table = torch.cat([boxes, scores[..., None], labels[..., None]], dim=2).double().cpu().numpy()
        return [self._pick(rows) for rows in table]

    def _pick(self, rows: geometry.Floats) -> Detections:
        # A diverged network's NaN fail both conditions.
        rows = rows[(rows[:, 7] >= self.config.score_threshold) & np.isfinite(rows).all(1)]
        kept = geometry.suppress(rows[:, :7], rows[:, 7], self.config.nms_threshold, self.config.nms_after)
        boxes = rows[kept, :7]
        boxes[:, 6] = geometry.wrap(boxes[:, 6])
        return Detections(boxes, rows[kept, 7], rows[kept, 8].astype(np.int64))


# Anchors, targets and losses


def make_anchors(config: DetectionConfig) -> Tensor:
    """The anchors: `(G, h, w, 7)` float32, G = classes x headings, centred in the map's cells."""
    height, width = config.map_size
    x0, y0 = config.point_range[:2]
    x = x0 + (torch.arange(width) + 0.5) * 2 * config.pillar[0]
    y = y0 + (torch.arange(height) + 0.5) * 2 * config.pillar[1]
    groups = [
        torch.tensor([0.0, 0.0, cls.bottom + cls.size[2] / 2, *cls.size, heading])
        for cls in config.classes
        for heading in config.headings
    ]
    anchors = torch.stack(groups)[:, None, None].repeat(1, height, width, 1)  # (G, h, w, 7)
    anchors[..., 0] = x
    anchors[..., 1] = y[:, None]
    return anchors


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes as residuals to anchors, `(..., 7)` each: centre over the anchor's diagonal (z: its height),
    logarithms of the sides' ratios, heading difference."""
    scale = _scale(anchors)
    centre = (boxes[..., :3] - anchors[..., :3]) / scale
    sides = torch.log(boxes[..., 3:6] / anchors[..., 3:6])
    return torch.cat([centre, sides, boxes[..., 6:] - anchors[..., 6:]], dim=-1)


def decode(residuals: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `encode`; sides are kept below e^4 of the anchor's, so that none overflows."""
    centre = residuals[..., :3] * _scale(anchors) + anchors[..., :3]
    sides = residuals[..., 3:6].clamp(max=4).exp() * anchors[..., 3:6]
    return torch.cat([centre, sides, residuals[..., 6:] + anchors[..., 6:]], dim=-1)


def _scale(anchors: Tensor) -> Tensor:
    diagonal = torch.hypot(anchors[..., 3], anchors[..., 4])
    return torch.stack([diagonal, diagonal, anchors[..., 5]], dim=-1)


def assign(config: DetectionConfig, anchors: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which anchors answer for which boxes.

    By overlap seen from above, boxes and anchors turned to the nearest axis ("nearest BEV", as in SECOND),
    among boxes of the anchor's class. A box's best anchors are positive whatever their overlap, if any.

    Args:
        anchors: as `make_anchors` gives them.
        boxes: `(B, M, 7)`.
        labels: `(B, M)` class indices; negative for padding.

    Returns:
        `(B, G, h, w)` int64: the class index, `BACKGROUND` or `IGNORED`; and the index of the box that a
        positive anchor answers for.
    """
    x, y = anchors[0, 0, :, 0], anchors[0, :, 0, 1]
    anchor_sides = _axis_aligned(anchors[:, 0, 0]).view(len(config.classes), -1, 2)
    sides = _axis_aligned(boxes)  # (B, M, 2)
    area = sides.prod(2)[..., None, None, None]
    assigned: list[Tensor] = []
    owners: list[Tensor] = []
    for label, cls in enumerate(config.classes):
        own_sides = anchor_sides[label]  # (R, 2)
        # The anchors form a grid: their overlaps are products of overlaps along x and along y.
        along_x = _shared(boxes[..., 0], sides[..., 0], x, own_sides[:, 0])  # (B, M, R, w)
        along_y = _shared(boxes[..., 1], sides[..., 1], y, own_sides[:, 1])  # (B, M, R, h)
        shared = along_y[..., None] * along_x[..., None, :]  # (B, M, R, h, w)
        iou = shared / (area + own_sides.prod(1)[:, None, None] - shared)
        iou = iou * (labels == label)[..., None, None, None]
        best, owner = iou.max(1)  # (B, R, h, w)
        top = iou.amax((2, 3, 4), keepdim=True)
        forced = (iou == top) & (top > 0)
        owners.append(torch.where(forced.any(1), forced.int().argmax(1), owner))
        positive = (best >= cls.matched) | forced.any(1)
        rest = torch.where(best < cls.unmatched, BACKGROUND, IGNORED)
        assigned.append(torch.where(positive, label, rest))
    return torch.cat(assigned, dim=1), torch.cat(owners, dim=1)


def _axis_aligned(boxes: Tensor) -> Tensor:
    """Sides in x and y of `(..., 7)` boxes turned to the nearest axis: `(..., 2)`."""
    across = torch.remainder(boxes[..., 6] + math.pi / 4, math.pi) >= math.pi / 2
    return torch.where(across[..., None], boxes[..., 3:5].flip(-1), boxes[..., 3:5])


def _shared(centre: Tensor, side: Tensor, grid: Tensor, anchor_side: Tensor) -> Tensor:
    """Common length of `(B, M)` intervals with `(R,)` intervals at `(n,)` places: `(B, M, R, n)`."""
    low = torch.maximum((centre - side / 2)[..., None, None], grid - anchor_side[:, None] / 2)  # (B, M, R, n)
    high = torch.minimum((centre + side / 2)[..., None, None], grid + anchor_side[:, None] / 2)
    return (high - low).clamp(min=0)


def focal_loss(logits: Tensor, wanted: Tensor, alpha: float, gamma: float) -> Tensor:
    """Elementwise sigmoid focal loss (Lin et al., ICCV 2017, equation 5); `wanted` is boolean."""
    truth = wanted.to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    missed = torch.where(wanted, 1 - logits.sigmoid(), logits.sigmoid())
    return torch.where(wanted, alpha, 1 - alpha) * missed**gamma * entropy
