"""What a detector's anchors are to predict: anchors, box residuals, which anchor answers for which box.

Boxes are `[x, y, z, dx, dy, dz, heading]` as in `boxes`. Anchors stand in groups, classes x headings.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nasbench_mr.data_builders.detection.config import DetectionConfig

BACKGROUND, IGNORED = -1, -2


def make_anchors(config: DetectionConfig) -> Tensor:
    """Return the anchors: `(G, h, w, 7)` float32, G = classes x headings, centred in the map's cells."""
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
    """Return the inverse of `encode`; sides are kept below e^4 of the anchor's, so that none overflows."""
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
    """Return the common length of `(B, M)` intervals with `(R,)` intervals at `(n,)` places.

    `(B, M, R, n)`.
    """
    low = torch.maximum((centre - side / 2)[..., None, None], grid - anchor_side[:, None] / 2)  # (B, M, R, n)
    high = torch.minimum((centre + side / 2)[..., None, None], grid + anchor_side[:, None] / 2)
    return (high - low).clamp(min=0)


def focal_loss(logits: Tensor, wanted: Tensor, alpha: float, gamma: float) -> Tensor:
    """Elementwise sigmoid focal loss (Lin et al., ICCV 2017, equation 5); `wanted` is boolean."""
    truth = wanted.to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    missed = torch.where(wanted, 1 - logits.sigmoid(), logits.sigmoid())
    return torch.where(wanted, alpha, 1 - alpha) * missed**gamma * entropy
