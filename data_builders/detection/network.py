"""3D object detection from lidar with a multi-resolution network: PointPillars, end to end.

    net = DetectionNet(code, KITTI)
    batch = collate([augment(scene, KITTI, rng, bank) for scene in scenes], KITTI)
    maps = net(batch)
    net.loss(maps, batch).total.backward()
    found = net.decode(maps)            # a Detections for each scene

Points are gathered into pillars, encoded, and scattered to a pseudo-image seen from above; the network of
the code turns it into one map at half its resolution; an anchor head predicts boxes there (Lang et al.,
"PointPillars", CVPR 2019). `config.KITTI` is the published setting of `3ddet`; scenes and batches are in
`scenes`, anchors and what they are to predict in `targets`, the metric in `kitti_eval`. Needs the extra
`build`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench_mr.arrays import Floats
from nasbench_mr.data_builders.detection import boxes as geometry
from nasbench_mr.data_builders.detection import targets
from nasbench_mr.data_builders.detection.config import KITTI, DetectionConfig
from nasbench_mr.data_builders.detection.scenes import Batch
from nasbench_mr.network import MultiResolutionNet, initialize


@dataclass(frozen=True)
class Detections:
    """What was found in one scene, best first: `(K, 7)` boxes, `(K,)` scores in [0, 1], `(K,)` labels."""

    boxes: Floats
    scores: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]


class Losses(NamedTuple):
    """Scalars; `total` is the weighted sum of the other three."""

    total: Tensor
    classification: Tensor
    box: Tensor
    direction: Tensor


def pillarize(batch: Batch, config: DetectionConfig, training: bool) -> tuple[Tensor, Tensor]:
    """Return decorated points, sorted by pillar.

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
        """Return `(B, channels, rows, columns)` float32, channels last in memory, 0 in empty pillars."""
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
        self.register_buffer("anchors", targets.make_anchors(config), persistent=False)
        assert self.trunk.head is not None
        with torch.no_grad():
            classifier = self.trunk.head.classifier
            nn.init.normal_(classifier.weight, std=0.01)
            # Nearly all anchors are background; starting at a probability of 1% keeps the focal loss calm.
            assert classifier.bias is not None
            classifier.bias.view(groups, self.outputs)[:, : len(config.classes)] = -math.log(99)

    def forward(self, batch: Batch) -> Tensor:
        """Predictions for every anchor: `(B, G, K, h, w)` float32.

        G: classes x headings, as `targets.make_anchors`. K: class logits, box residuals
        (`targets.encode`), 2 direction logits. (h, w): `map_size`.
        """
        head = self.trunk.head
        assert head is not None
        joined = head.join(self.trunk.branches(self.encoder(batch)))  # (B, o1, h, w)
        maps: Tensor = head.classifier(joined).float()  # (B, G * K, h, w)
        return maps.reshape(len(maps), -1, self.outputs, *maps.shape[2:])

    def loss(self, maps: Tensor, batch: Batch) -> Losses:
        """Return the training loss, each scene's divided by its positive anchors, averaged over the batch.

        Equal shares of a batch on several processes therefore average to the loss of the whole.
        """
        config, classes = self.config, len(self.config.classes)
        labels, owner = targets.assign(config, self.anchors, batch.boxes, batch.labels)
        scene, group, row, column = torch.nonzero(labels >= 0, as_tuple=True)
        positives = torch.bincount(scene, minlength=len(batch)).clamp(min=1)

        wanted = labels[:, :, None] == torch.arange(classes, device=labels.device)[:, None, None]
        focal = targets.focal_loss(maps[:, :, :classes], wanted, config.focal_alpha, config.focal_gamma)
        focal = focal * (labels != targets.IGNORED)[:, :, None]
        classification = (focal.sum((1, 2, 3, 4)) / positives).mean()

        found = maps[scene, group, :, row, column]  # (P, K)
        truth = batch.boxes[scene, owner[scene, group, row, column]]  # (P, 7)
        share = 1 / (positives[scene] * len(batch))
        residual = found[:, classes : classes + 7] - targets.encode(truth, self.anchors[group, row, column])
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
        """Return detections of each scene: the best scored anchors, decoded, suppressed across classes."""
        config, classes = self.config, len(self.config.classes)
        places = maps.shape[-2] * maps.shape[-1]
        scores, labels = maps[:, :, :classes].sigmoid().max(2)  # (B, G, h, w)
        scores, labels = scores.flatten(1), labels.flatten(1)
        scores, best = scores.topk(min(config.nms_before, scores.shape[1]))  # (B, k)
        labels = labels.gather(1, best)
        scene = torch.arange(len(maps), device=maps.device)[:, None]
        found = maps.flatten(3)[scene, best // places, :, best % places]  # (B, k, K)
        boxes = targets.decode(found[..., classes : classes + 7], self.anchors.flatten(0, 2)[best])
        flipped = found[..., classes + 7 :].argmax(2)
        offset = config.direction_offset
        boxes[..., 6] = torch.remainder(boxes[..., 6] - offset, math.pi) + offset + math.pi * flipped
        table = torch.cat([boxes, scores[..., None], labels[..., None]], dim=2).double().cpu().numpy()
        return [self._pick(rows) for rows in table]

    def _pick(self, rows: Floats) -> Detections:
        # A diverged network's NaN fail both conditions.
        rows = rows[(rows[:, 7] >= self.config.score_threshold) & np.isfinite(rows).all(1)]
        kept = geometry.suppress(rows[:, :7], rows[:, 7], self.config.nms_threshold, self.config.nms_after)
        boxes = rows[kept, :7]
        boxes[:, 6] = geometry.wrap(boxes[:, 6])
        return Detections(boxes, rows[kept, 7], rows[kept, 8].astype(np.int64))
