"""Upright 3D boxes: exact rotated overlaps, suppression, points inside, projection. NumPy only.

Boxes are `(N, 7)` arrays [x, y, z, dx, dy, dz, heading] in one right-handed frame with z upwards (the
lidar's: x forward, y left): centre, then length, width and height, all in metres; heading in radians, the
angle from the x axis to the length axis, counter-clockwise seen from above. "Seen from above" (bird's-eye
view, BEV) drops z and dz. Everything is computed in float64.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nasbench_mr.arrays import Floats
from nasbench_mr.errors import InvalidArgumentError

#: What an intersection is divided by: both boxes' union, or the first box alone.
DENOMINATORS = ("union", "first")

# Corners in units of half a side, counter-clockwise, from (+x, +y).
_CORNERS = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])


def check(boxes: object) -> Floats:
    """Return boxes as an `(N, 7)` float64 array, whose sides are positive; an empty sequence is `(0, 7)`."""
    array = np.asarray(boxes, np.float64)
    if array.size == 0:
        array = array.reshape(0, 7)
    if array.ndim != 2 or array.shape[1] != 7:
        raise InvalidArgumentError(f"boxes have shape {array.shape}; expected (N, 7)")
    if not np.isfinite(array).all():
        raise InvalidArgumentError("boxes contain NaN or infinity")
    if (array[:, 3:6] <= 0).any():
        raise InvalidArgumentError("boxes have sides of 0 or less; expected lengths in metres")
    return array


def wrap(angle: npt.NDArray[np.floating]) -> Floats:
    """Angles moved by multiples of 2 pi into [-pi, pi)."""
    turns: Floats = np.floor(angle / (2 * np.pi) + 0.5)
    return np.asarray(angle, np.float64) - turns * (2 * np.pi)


def corners_bev(boxes: Floats) -> Floats:
    """Return the four corners seen from above, counter-clockwise: `(N, 7)` to `(N, 4, 2)`."""
    offsets = _CORNERS * boxes[:, None, 3:5] / 2
    return _rotate(offsets, boxes[:, 6]) + boxes[:, None, :2]


def corners(boxes: Floats) -> Floats:
    """Return the eight corners, the lower four first: `(N, 7)` to `(N, 8, 3)`."""
    ring = corners_bev(boxes)  # (N, 4, 2)
    z = boxes[:, 2, None] + boxes[:, 5, None] / 2 * np.array([-1.0, 1.0])  # (N, 2)
    lower_upper = np.repeat(z, 4, axis=1)  # (N, 8)
    return np.concatenate([np.tile(ring, (1, 2, 1)), lower_upper[..., None]], axis=2)


def _rotate(points: Floats, angle: Floats) -> Floats:
    """`(N, k, 2)` points turned counter-clockwise by `(N,)` angles."""
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y = points[..., 0], points[..., 1]
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=-1)


def intersection_bev(a: Floats, b: Floats) -> Floats:
    """Area that box a[k] and box b[k] share seen from above: `(P, 7)` and `(P, 7)` to `(P,)`, exact.

    In the frame of b, where b is |x| <= h, |y| <= w, the area is the integral over x in [-h, h] of a's
    upper outline minus its lower outline, both clamped to [-w, w]. That is the sum over a's edges, signed
    by their direction, of the integral of clamp(y(x)): a piecewise linear function with at most four
    nodes on an edge, so the trapezoid rule is exact. No case needs a tolerance: an edge along y has no
    extent in x, and one along x has equal heights at all nodes wherever they fall.
    """
    half = b[:, None, None, 3:5] / 2  # (P, 1, 1, 2)
    centred = corners_bev(a) - b[:, None, :2]
    start = _rotate(centred, -b[:, 6])  # (P, 4, 2): a's corners in b's frame
    edge = np.roll(start, -1, axis=1) - start
    # Nodes as positions t in [0, 1] on the edge: where it enters and leaves b's strip in x, and between
    # these where it crosses y = -w and y = w.
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (np.array([-1.0, 1.0])[:, None] * half - start[:, :, None]) / edge[:, :, None]  # (P, 4, 2, 2)
    t = np.sort(np.nan_to_num(t, nan=0.0, posinf=2.0, neginf=-1.0), axis=2)
    ends = np.clip(t[..., 0], 0.0, 1.0)  # (P, 4, 2)
    between = np.clip(t[..., 1], ends[..., :1], ends[..., 1:])
    nodes = np.concatenate([ends[..., :1], between, ends[..., 1:]], axis=2)  # (P, 4, 4), ascending
    x = np.clip(start[..., None, 0] + nodes * edge[..., None, 0], -half[..., 0], half[..., 0])
    y = np.clip(start[..., None, 1] + nodes * edge[..., None, 1], -half[..., 1], half[..., 1])
    # Counter-clockwise, the upper outline runs towards smaller x; hence the sign.
    area = -((x[..., 1:] - x[..., :-1]) * (y[..., 1:] + y[..., :-1]) / 2).sum((1, 2))
    bounded: Floats = np.clip(area, 0.0, np.minimum(a[:, 3] * a[:, 4], b[:, 3] * b[:, 4]))
    return bounded


def pair_overlap(a: Floats, b: Floats, over: str = "union") -> tuple[Floats, Floats]:
    """Overlaps of box a[k] with box b[k], from above and in 3D: `(P,)` and `(P,)` in [0, 1].

    Args:
        a, b: `(P, 7)` boxes.
        over: "union" for intersection over union, "first" for intersection over a; 0 where that is empty.
    """
    if over not in DENOMINATORS:
        raise InvalidArgumentError(f"over is {over!r}; expected one of {', '.join(DENOMINATORS)}")
    area = intersection_bev(a, b)
    top = np.minimum(a[:, 2] + a[:, 5] / 2, b[:, 2] + b[:, 5] / 2)
    bottom = np.maximum(a[:, 2] - a[:, 5] / 2, b[:, 2] - b[:, 5] / 2)
    volume = area * np.maximum(top - bottom, 0.0)
    return (
        _ratio(area, a[:, 3] * a[:, 4], b[:, 3] * b[:, 4], over),
        _ratio(volume, a[:, 3:6].prod(1), b[:, 3:6].prod(1), over),
    )


def _ratio(shared: Floats, a: Floats, b: Floats, over: str) -> Floats:
    whole = a + b - shared if over == "union" else a
    return np.minimum(np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0), 1.0)


def circles_meet(a: Floats, b: Floats) -> npt.NDArray[np.bool_]:
    """Whether the boxes' circumscribed circles, seen from above, meet: a cheap test before `pair_overlap`.

    `(..., 7)` arrays that broadcast against each other.
    """
    reach = (np.hypot(a[..., 3], a[..., 4]) + np.hypot(b[..., 3], b[..., 4])) / 2
    return np.asarray(np.hypot(a[..., 0] - b[..., 0], a[..., 1] - b[..., 1]) <= reach)


def overlaps(a: Floats, b: Floats, over: str = "union") -> tuple[Floats, Floats]:
    """`pair_overlap` of every box of a with every box of b: from above and in 3D, `(N, M)` each."""
    i, j = np.nonzero(circles_meet(a[:, None], b[None]))
    bev = np.zeros((len(a), len(b)))
    volume = np.zeros((len(a), len(b)))
    bev[i, j], volume[i, j] = pair_overlap(a[i], b[j], over)
    return bev, volume


def image_pair_overlap(a: Floats, b: Floats, over: str = "union") -> Floats:
    """Overlap of image box a[k] with b[k], [left, top, right, bottom] in pixels: `(P, 4)` twice to `(P,)`."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = np.maximum(sides, 0.0).prod(1)
    return _ratio(shared, (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1), over)


def suppress(
    boxes: Floats, scores: npt.NDArray[np.floating], threshold: float, keep: int | None = None
) -> npt.NDArray[np.intp]:
    """Return the boxes that greedy suppression by rotated overlap, seen from above, keeps, best first.

    Args:
        boxes: `(N, 7)`.
        scores: `(N,)`; ties go to the earlier box.
        threshold: a box goes when its intersection over union with a better kept one exceeds this.
        keep: stop after so many.
    """
    rest = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    limit = len(boxes) if keep is None else keep
    while len(rest) and len(kept) < limit:
        # A block of the best boxes settles among itself, then its survivors clear the rest at once: far
        # fewer pairs than all against all, far fewer calls than one by one.
        block, rest = rest[:_BLOCK], rest[_BLOCK:]
        clash = overlaps(boxes[block], boxes[block])[0] > threshold
        alive = np.ones(len(block), np.bool_)
        for k in range(len(block)):
            if alive[k]:
                alive[k + 1 :] &= ~clash[k, k + 1 :]
        survivors = block[alive]
        kept += survivors.tolist()
        if len(rest):
            rest = rest[~(overlaps(boxes[survivors], boxes[rest])[0] > threshold).any(0)]
    return np.array(kept[:limit], np.intp)


_BLOCK = 64


def points_inside(
    points: npt.NDArray[np.floating], boxes: Floats, margin: float = 0.0
) -> npt.NDArray[np.bool_]:
    """Return which points, `(N, 3+)`, are in which boxes, `(M, 7)`, enlarged by `margin` metres: `(M, N)`."""
    gap = np.asarray(points[:, :3], np.float64) - boxes[:, None, :3]  # (M, N, 3)
    local = _rotate(gap[..., :2], -boxes[:, 6])
    half = boxes[:, None, 3:6] / 2 + margin
    return (np.abs(local) <= half[..., :2]).all(2) & (np.abs(gap[..., 2]) <= half[..., 2])


def to_image(boxes: Floats, projection: Floats, size: tuple[int, int]) -> Floats:
    """Return the image boxes around the projected corners, clipped to the image.

    Args:
        boxes: `(N, 7)`.
        projection: `(3, 4)` from homogeneous points of the boxes' frame to homogeneous pixels; the third
            row gives the depth in metres.
        size: (height, width) of the image in pixels.

    Returns:
        `(N, 4)` [left, top, right, bottom] in pixels; all zeros for a box behind the camera.
    """
    eight = corners(boxes)
    pixels = eight @ projection[:, :3].T + projection[:, 3]  # (N, 8, 3)
    depth = pixels[..., 2:]
    # A corner behind the camera would project mirrored; at 10 cm depth it lands far outside instead.
    uv = pixels[..., :2] / np.maximum(depth, 0.1)
    limits = np.array([size[1] - 1, size[0] - 1], np.float64)
    low, high = np.clip(uv.min(1), 0, limits), np.clip(uv.max(1), 0, limits)
    visible = (depth[..., 0] > 0.1).any(axis=1, keepdims=True)
    return np.where(visible, np.concatenate([low, high], axis=1), 0.0)


def flip(
    points: npt.NDArray[np.float32], boxes: Floats, axis: str = "y"
) -> tuple[npt.NDArray[np.float32], Floats]:
    """Mirrors a scene: `axis` is the coordinate that changes sign, "x" or "y"."""
    points, boxes = points.copy(), boxes.copy()
    k = {"x": 0, "y": 1}[axis]
    points[:, k] *= -1
    boxes[:, k] *= -1
    boxes[:, 6] = wrap(-boxes[:, 6] if axis == "y" else np.pi - boxes[:, 6])
    return points, boxes


def rotate(
    points: npt.NDArray[np.float32], boxes: Floats, angle: float
) -> tuple[npt.NDArray[np.float32], Floats]:
    """Turn a scene about the z axis by `angle` radians, counter-clockwise seen from above."""
    points, boxes = points.copy(), boxes.copy()
    turn = np.array([angle])
    points[:, :2] = _rotate(points[None, :, :2].astype(np.float64), turn)[0]
    boxes[:, :2] = _rotate(boxes[None, :, :2], turn)[0]
    boxes[:, 6] = wrap(boxes[:, 6] + angle)
    return points, boxes


def scale(
    points: npt.NDArray[np.float32], boxes: Floats, factor: float
) -> tuple[npt.NDArray[np.float32], Floats]:
    """Scales a scene about the origin."""
    points, boxes = points.copy(), boxes.copy()
    points[:, :3] *= factor
    boxes[:, :6] *= factor
    return points, boxes
