"""What is detected, where, and how it is trained: `DetectionConfig`, whose defaults are those of `3ddet`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nasbench_mr.errors import InvalidArgumentError


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
