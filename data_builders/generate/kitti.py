"""A generated stand-in for KITTI 3D objects: a lidar and a camera drive through streets made of boxes.

A scan is ray-cast: every ray of the lidar ends at the first surface it meets, so what stands in front hides
what stands behind. Objects are built of parts within their labelled box (a car has a body and a cabin), in
sizes spread as KITTI's are. Trees, hedges, bushes, walls, poles and bins are not labelled and must be told
apart from them. The ground slopes gently; ranges are noisy, some rays are lost, and leaves let many through.

Labels follow KITTI's rules: objects of which the camera sees nothing are not labelled; those beyond `reach`
and those that no ray meets are DontCare regions. Occlusion is the share of the object's picture that others
hide, found with rays of the camera. Calibration differs from scan to scan, as from drive to drive.

Sizes: `MINI` suits trials on a CPU: about 3,000 points and 5 labelled objects a scan in view, within a range
of [0, -12.8, -3, 25.6, 12.8, 1] m, which pillars of 0.8 m make a pseudo-image of 32 x 32; with little
`clutter` and `variety`, so that a brief training places boxes.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nasbench_mr.arrays import Floats
from nasbench_mr.data_builders.datasets.base import new_folder
from nasbench_mr.data_builders.datasets.kitti import CLASSES, IMAGE_SIZE, Calibration
from nasbench_mr.data_builders.detection import boxes as geometry
from nasbench_mr.data_builders.generate import base as generate

#: Options for scans that suit trials of seconds.
MINI: dict[str, object] = {
    "train": 400,
    "val": 200,
    "rings": 32,
    "resolution": 0.4,
    "view": 90.0,
    "reach": 26.0,
    "objects": 8.0,
    "clutter": 0.2,
    "variety": 0.4,
}

#: Height of the lidar above the ground, metres.
_HEIGHT = 1.73
_MAX_RANGE = 120.0
_GROUND_SHINE = 0.28
#: Rays an object's picture is tried with, across and down, to see how much of it is hidden.
_TRIES = 24
#: The visible share below which an object is partly occluded, largely occluded, hardly to be seen.
_VISIBLE = (0.8, 0.4, 0.1)

# Parts in units of the object's sides, from its centre: x, y, z, length, width, height.
_Parts = tuple[tuple[float, float, float, float, float, float], ...]


@dataclass(frozen=True)
class _Kind:
    """What may stand in a street.

    Attributes:
        share: how often, among the objects or among the clutter.
        size: mean length, width, height; spread: their standard deviations, metres.
        shapes: one is drawn.
        solid: probability that a ray stops at a surface of it.
        aligned: whether it stands along the road.
        shine: range of its reflectance.
    """

    share: float
    size: tuple[float, float, float]
    spread: tuple[float, float, float]
    shapes: tuple[_Parts, ...]
    solid: float = 1.0
    aligned: bool = False
    shine: tuple[float, float] = (0.1, 0.5)


_WHOLE: _Parts = ((0, 0, 0, 1, 1, 1),)
_CARS: tuple[_Parts, ...] = (
    ((0, 0, -0.17, 1, 1, 0.5), (-0.04, 0, 0.29, 0.5, 0.86, 0.42)),  # saloon
    ((0, 0, -0.16, 1, 1, 0.52), (-0.14, 0, 0.3, 0.68, 0.88, 0.4)),  # hatchback
    ((0, 0, -0.18, 1, 1, 0.5), (-0.2, 0, 0.28, 0.6, 0.9, 0.44)),  # estate
)
_WALKING: _Parts = (
    (0.28, 0.2, -0.26, 0.44, 0.3, 0.48),
    (-0.28, -0.2, -0.26, 0.44, 0.3, 0.48),
    (0, 0, 0.13, 0.45, 1, 0.34),
    (0, 0, 0.4, 0.3, 0.36, 0.2),
)
_STANDING: _Parts = ((0, 0, -0.26, 0.5, 0.6, 0.48), (0, 0, 0.13, 1, 1, 0.34), (0, 0, 0.4, 0.4, 0.36, 0.2))
_TREE: _Parts = ((0, 0, -0.25, 0.12, 0.12, 0.5), (0, 0, 0.2, 1, 1, 0.6))
_SIGN: _Parts = ((0, 0, -0.15, 1, 0.1, 0.7), (0, 0, 0.35, 1, 1, 0.3))
_CYCLIST: _Parts = (
    (0, 0, -0.3, 1, 0.14, 0.4),
    (0, 0, -0.16, 0.26, 0.6, 0.4),
    (-0.04, 0, 0.16, 0.36, 1, 0.34),
    (0.06, 0, 0.41, 0.14, 0.36, 0.18),
)
_SITTING: _Parts = ((0, 0, -0.2, 1, 1, 0.6), (-0.2, 0, 0.2, 0.5, 0.9, 0.3), (-0.2, 0, 0.42, 0.3, 0.35, 0.16))
_VAN: _Parts = ((-0.12, 0, 0.03, 0.76, 1, 0.94), (0.38, 0, -0.17, 0.24, 0.95, 0.54))
_TRUCK: _Parts = ((-0.14, 0, 0.06, 0.72, 1, 0.88), (0.37, 0, -0.08, 0.26, 0.94, 0.72))

_OBJECTS = {
    "Car": _Kind(0.55, (3.9, 1.63, 1.53), (0.4, 0.1, 0.13), _CARS, aligned=True, shine=(0.05, 0.6)),
    "Pedestrian": _Kind(0.17, (0.84, 0.66, 1.76), (0.16, 0.1, 0.1), (_WALKING, _STANDING)),
    "Cyclist": _Kind(0.13, (1.76, 0.6, 1.74), (0.16, 0.08, 0.09), (_CYCLIST,), aligned=True),
    "Van": _Kind(0.07, (5.1, 1.9, 2.2), (0.5, 0.14, 0.3), (_VAN,), aligned=True, shine=(0.05, 0.6)),
    "Person_sitting": _Kind(0.02, (0.8, 0.6, 1.27), (0.1, 0.06, 0.06), (_SITTING,)),
    "Truck": _Kind(0.03, (9.0, 2.6, 3.2), (2.0, 0.2, 0.3), (_TRUCK,), aligned=True, shine=(0.05, 0.6)),
    "Misc": _Kind(0.03, (3.0, 1.5, 1.7), (0.7, 0.3, 0.4), (_WHOLE,)),
}
_CLUTTER = {
    "pole": _Kind(0.26, (0.2, 0.2, 4.5), (0.05, 0.05, 1.0), (_WHOLE,)),
    "tree": _Kind(0.2, (2.6, 2.6, 5.0), (0.5, 0.5, 0.8), (_TREE,), 0.6),
    "bush": _Kind(0.18, (1.3, 1.1, 1.1), (0.4, 0.3, 0.3), (_WHOLE,), 0.6),
    "hedge": _Kind(0.12, (3.8, 0.9, 1.3), (1.0, 0.2, 0.3), (_WHOLE,), 0.75, aligned=True),
    "bin": _Kind(0.14, (0.6, 0.6, 1.15), (0.1, 0.1, 0.15), (_WHOLE,)),
    "sign": _Kind(0.1, (0.1, 0.8, 2.4), (0.02, 0.1, 0.2), (_SIGN,)),
}


@dataclass(frozen=True)
class _Scene:
    """What stands in a street.

    Attributes:
        names: of the objects.
        boxes: `(M, 7)` theirs.
        parts: `(P, 7)` solids that rays meet, of objects and clutter.
        owner: `(P,)` the object of each part; -1 for clutter.
        solid, shine: `(P,)`.
        slope: of the ground, along x and y.
    """

    names: list[str]
    boxes: Floats
    parts: Floats
    owner: npt.NDArray[np.int64]
    solid: Floats
    shine: Floats
    slope: Floats


def make(
    root: str | os.PathLike[str],
    train: int = 64,
    val: int = 16,
    seed: int = 0,
    *,
    rings: int = 64,
    resolution: float = 0.18,
    view: float = 360.0,
    reach: float = 60.0,
    objects: float = 14.0,
    clutter: float = 1.0,
    variety: float = 1.0,
    workers: int = 1,
    progress: bool = False,
) -> Path:
    """Make the data set in the new folder `root`.

    Args:
        train, val: scans of each split.
        seed: the same one gives the same files.
        rings: rays one above the other, from 2 degrees upwards to 24.8 downwards.
        resolution: degrees between rays of a ring.
        view: degrees around the vehicle that are scanned, centred ahead.
        reach: metres to the farthest labelled objects.
        objects: how many a street has on average; not all of them are in view.
        clutter: how much of the unlabelled things there is; 1 is about one and a half for an object.
        variety: spread of the objects' sizes and headings, 0 to 1; at 0 all cars are alike and stand along x.
        workers: processes.
        progress: show a bar on stderr, if that is a terminal.
    """
    generate.need(train, "train", 1, 500_000)
    generate.need(val, "val", 1, 500_000)
    generate.need(rings, "rings", 4, 512)
    generate.need(resolution, "resolution", 0.02, 5)
    generate.need(view, "view", 10, 360)
    generate.need(reach, "reach", 10, 100)
    generate.need(objects, "objects", 1, 100)
    generate.need(clutter, "clutter", 0, 10)
    generate.need(variety, "variety", 0, 1)
    with new_folder(root) as folder:
        for name in ("velodyne", "calib", "label_2"):
            (folder / "training" / name).mkdir(parents=True)
        (folder / "ImageSets").mkdir()
        scans = [f"{k:06}" for k in range(train + val)]
        for split, ids in (("train", scans[:train]), ("val", scans[train:])):
            (folder / "ImageSets" / f"{split}.txt").write_text("".join(f"{i}\n" for i in ids))
        elevations = np.radians(np.linspace(2.0, -24.8, rings))
        azimuths = np.radians(np.arange(-view / 2, view / 2, resolution))
        write = functools.partial(
            _write, folder / "training", seed, elevations, azimuths, reach, objects, clutter, variety
        )
        jobs = [(0, k, scans[k]) for k in range(train)] + [(1, k, scans[train + k]) for k in range(val)]
        generate.each(write, jobs, "kitti", workers=workers, progress=progress)
    return Path(root)


def _write(
    folder: Path,
    seed: int,
    elevations: Floats,
    azimuths: Floats,
    reach: float,
    objects: float,
    clutter: float,
    variety: float,
    job: tuple[int, int, str],
) -> None:
    split, index, scan = job
    rng = generate.stream(seed, split, index)
    calibration = _calibration(rng)
    scene = _street(rng, reach, objects, clutter, variety)
    points, met = _scan(rng, scene, elevations, azimuths)
    points.astype("<f4").tofile(folder / "velodyne" / f"{scan}.bin")
    (folder / "calib" / f"{scan}.txt").write_text(_calibration_text(calibration))
    hits = np.bincount(met[met >= 0], minlength=len(scene.names))
    lines = _labels(scene, calibration, hits, reach)
    (folder / "label_2" / f"{scan}.txt").write_text("".join(line + "\n" for line in lines))


# --- The street ---------------------------------------------------------------------------------------


def _street(
    rng: np.random.Generator, reach: float, objects: float, clutter: float, variety: float = 1.0
) -> _Scene:
    """Objects and clutter that do not stand in each other, more or less along a road ahead."""
    road = variety * rng.uniform(-0.3, 0.3)
    slope = rng.normal(0, 0.008, 2)
    free: list[tuple[float, float, float]] = []  # x, y, radius of what stands already
    names: list[str] = []
    boxes, parts, owner, solid, shine = [], [], [], [], []

    def place(kind: _Kind, far: float, name: str | None) -> None:
        spread = 1.0 if name is None else variety
        size = np.array(kind.size) + spread * np.clip(rng.normal(size=3), -2.5, 2.5) * kind.spread
        heading = rng.uniform(-np.pi, np.pi)
        if kind.aligned and rng.random() > 0.2 * spread:
            across = np.pi / 2 * (rng.random() < 0.12 * spread)
            heading = road + spread * rng.normal(0, 0.12) + np.pi * rng.integers(2) + across
        radius = float(np.hypot(size[0], size[1])) / 2
        for _ in range(20):
            distance = 4 + radius + (far - 4) * rng.beta(1.1, 1.3)
            bearing = rng.uniform(-0.8, 0.8)
            x, y = distance * np.cos(bearing), distance * np.sin(bearing)
            if all(np.hypot(x - a, y - b) > radius + r + 0.15 for a, b, r in free):
                break
        else:
            return
        free.append((x, y, radius))
        z = -_HEIGHT + slope @ (x, y) + size[2] / 2
        box = np.array([x, y, z, *size, geometry.wrap(np.array(heading))])
        bright = rng.uniform(*kind.shine)
        if name is not None:
            names.append(name)
            boxes.append(box)
        for part in kind.shapes[rng.integers(len(kind.shapes))]:
            parts.append(_part(box, np.array(part)))
            owner.append(len(names) - 1 if name is not None else -1)
            solid.append(kind.solid)
            shine.append(bright)

    if clutter and rng.random() < 0.6:
        # A wall along one side of the road; everything else keeps off it.
        side = rng.choice([-1.0, 1.0])
        away = reach * rng.uniform(0.4, 0.7)
        length, height = rng.uniform(0.5, 1.5) * reach, rng.uniform(1.0, 4.0)
        x, y = reach / 2 - side * away * np.sin(road), side * away * np.cos(road)
        z = -_HEIGHT + slope @ (x, y) + height / 2
        parts.append(np.array([x, y, z, length, 0.3, height, road]))
        owner.append(-1)
        solid.append(1.0)
        shine.append(rng.uniform(0.1, 0.5))
        for step in np.arange(-length / 2, length / 2 + 1):
            free.append((x + step * np.cos(road), y + step * np.sin(road), 0.6))
    wanted = 1 + rng.poisson(objects - 1)
    for name in rng.choice(list(_OBJECTS), wanted, p=_shares(_OBJECTS)):
        # Some stand beyond the reach; they are not for detecting.
        place(_OBJECTS[name], reach * 1.15, str(name))
    for name in rng.choice(list(_CLUTTER), rng.poisson(1.5 * clutter * objects), p=_shares(_CLUTTER)):
        place(_CLUTTER[name], reach * 1.3, None)
    return _Scene(
        names,
        np.array(boxes).reshape(-1, 7),
        np.array(parts).reshape(-1, 7),
        np.array(owner, np.int64),
        np.array(solid),
        np.array(shine),
        slope,
    )


def _shares(kinds: dict[str, _Kind]) -> Floats:
    shares = np.array([k.share for k in kinds.values()])
    return np.asarray(shares / shares.sum())


def _part(box: Floats, part: Floats) -> Floats:
    """Return the part of a box that is given in units of the box's sides."""
    x, y, z = part[:3] * box[3:6]
    cos, sin = np.cos(box[6]), np.sin(box[6])
    centre = box[:3] + np.array([x * cos - y * sin, x * sin + y * cos, z])
    return np.concatenate([centre, part[3:] * box[3:6], box[6:]])


# --- The lidar ----------------------------------------------------------------------------------------


def entries(origin: Floats, rays: Floats, boxes: Floats) -> Floats:
    """Return how far along each ray each box's surface is first met, `(P, ...)`; infinity where it is not.

    Args:
        origin: `(3,)` where all rays start, outside of the boxes.
        rays: `(..., 3)` directions; distances are in units of their lengths.
        boxes: `(P, 7)`.
    """
    cos, sin = np.cos(boxes[:, 6]), np.sin(boxes[:, 6])
    into = np.zeros((len(boxes), 3, 3))  # rotations into the boxes' frames
    into[:, 0, 0], into[:, 0, 1], into[:, 1, 0], into[:, 1, 1] = cos, sin, -sin, cos
    into[:, 2, 2] = 1
    start = (into @ (origin - boxes[:, :3])[..., None])[..., 0]  # (P, 3)
    along = np.tensordot(into, rays, axes=(2, -1))  # (P, 3, ...)
    wide = (slice(None), slice(None)) + (None,) * (rays.ndim - 1)
    near_far = np.array([-0.5, 0.5])[:, None, None] * boxes[None, :, 3:6] - start  # (2, P, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossed = near_far[(slice(None), *wide)] / along  # (2, P, 3, ...)
    # 0 / 0: the ray runs within a face; a miss, as NaN fails the comparison below.
    enter, leave = crossed.min(0).max(1), crossed.max(0).min(1)
    return np.asarray(np.where((enter <= leave) & (enter > 0), enter, np.inf))


def _scan(
    rng: np.random.Generator, scene: _Scene, elevations: Floats, azimuths: Floats
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return what the lidar measures: `(N, 4)` points, and `(N,)` the object each lies on, -1 for none."""
    level = np.cos(elevations)[:, None]
    rays = np.stack(
        [
            level * np.cos(azimuths),
            level * np.sin(azimuths),
            np.broadcast_to(np.sin(elevations)[:, None], (len(elevations), len(azimuths))),
        ],
        axis=-1,
    )  # (R, C, 3)
    below = rays[..., 2] - rays[..., :2] @ scene.slope
    distance = np.where(below < 0, -_HEIGHT / np.minimum(below, -1e-9), np.inf)
    # Even tarmac sends less back the flatter it is met.
    distance[rng.random(distance.shape) > np.exp(-distance / 60)] = np.inf
    part = np.full(distance.shape, -1)
    for k, box in enumerate(scene.parts):
        columns = np.flatnonzero(_across(box, azimuths))
        met = entries(np.zeros(3), rays[:, columns], box[None])[0]
        if scene.solid[k] < 1:
            met = met + rng.uniform(0, 0.3, met.shape)  # leaves, not a wall
            met[rng.random(met.shape) > scene.solid[k]] = np.inf
        closer = met < distance[:, columns]
        distance[:, columns] = np.where(closer, met, distance[:, columns])
        part[:, columns] = np.where(closer, k, part[:, columns])
    kept = (distance < _MAX_RANGE) & (rng.random(distance.shape) > 0.04)
    rays, distance, part = rays[kept], distance[kept], part[kept]
    distance = distance + rng.normal(0, 0.02, distance.shape)
    # Part -1, the ground, is the last of each list.
    shine = np.append(scene.shine, _GROUND_SHINE)[part]
    shine = np.clip(shine + rng.normal(0, 0.06, shine.shape), 0, 0.99)
    points = np.concatenate([rays * distance[:, None], np.round(shine, 2)[:, None]], axis=1)
    return points.astype(np.float32), np.append(scene.owner, -1)[part]


def _across(box: Floats, azimuths: Floats) -> npt.NDArray[np.bool_]:
    """Return the azimuths at which a box stands, seen from the origin."""
    ring = geometry.corners_bev(box[None])[0]
    middle = np.arctan2(box[1], box[0])
    reach = np.abs(geometry.wrap(np.arctan2(ring[:, 1], ring[:, 0]) - middle)).max()
    return np.asarray(np.abs(geometry.wrap(azimuths - middle)) <= reach)


# --- The camera ---------------------------------------------------------------------------------------


def _calibration(rng: np.random.Generator) -> Calibration:
    """Matrices like those of KITTI's drives: nearly ideal mounts, slightly turned and shifted."""
    focal = rng.choice([707.0493, 718.856, 721.5377])
    camera = np.array(
        [
            [focal, 0, 609.56 + rng.uniform(-6, 6), 45],
            [0, focal, 172.85 + rng.uniform(-3, 8), 0.2],
            [0, 0, 1, 0.003],
        ]
    )
    ideal = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    turned = _small_rotation(rng, 0.008) @ ideal
    shift = np.array([-0.01, -0.075, -0.28]) + rng.normal(0, 0.01, 3)
    return Calibration(camera, _small_rotation(rng, 0.008), np.concatenate([turned, shift[:, None]], axis=1))


def _small_rotation(rng: np.random.Generator, size: float) -> Floats:
    a, b, c = rng.normal(0, size, 3)
    # Cayley's transform of a skew matrix is a rotation.
    skew = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]]) / 2
    return np.asarray(np.linalg.solve(np.eye(3) - skew, np.eye(3) + skew), np.float64)


def _calibration_text(calibration: Calibration) -> str:
    """Return the file's seven lines; the other cameras stand where KITTI's stand."""
    matrices = {}
    for k, baseline in enumerate((0.0, -0.537, 0.0597, -0.473)):
        camera = calibration.camera.copy()
        if k != 2:
            camera[:, 3] = [camera[0, 0] * baseline, 0, 0]
        matrices[f"P{k}"] = camera
    matrices["R0_rect"] = calibration.rectify
    matrices["Tr_velo_to_cam"] = calibration.lidar
    matrices["Tr_imu_to_velo"] = np.eye(4)[:3] + np.array(
        [[0, 0, 0, -0.81], [0, 0, 0, 0.32], [0, 0, 0, -0.8]]
    )
    lines = (f"{k}: " + " ".join(f"{v:.12e}" for v in m.ravel()) for k, m in matrices.items())
    return "\n".join(lines) + "\n"


def _labels(
    scene: _Scene, calibration: Calibration, hits: npt.NDArray[np.int64], reach: float
) -> Sequence[str]:
    """Return the lines of the label file; `hits` are the lidar's points on each object."""
    if not scene.names:
        return []
    whole, clipped = _pictures(scene.boxes, calibration)
    sides = [(r[:, 2:] - r[:, :2]).clip(0) for r in (whole, clipped)]
    outside = 1 - sides[1].prod(1) / np.maximum(sides[0].prod(1), 1e-9)
    location, size, rotation = calibration.labels(scene.boxes)
    alpha = geometry.wrap(rotation - np.arctan2(location[:, 0], location[:, 2]))
    labelled, regions = [], []
    for k, name in enumerate(scene.names):
        if location[k, 2] < 1 or outside[k] > 0.95 or sides[1][k].min() < 2:
            continue
        visible = _visible(scene, calibration, k, clipped[k])
        where = " ".join(f"{v:.2f}" for v in clipped[k])
        if visible < _VISIBLE[2] and not hits[k]:
            continue
        if not hits[k] or np.hypot(*scene.boxes[k, :2]) > reach:
            regions.append(f"DontCare -1 -1 -10 {where} -1 -1 -1 -1000 -1000 -1000 -10")
            continue
        occlusion = sum(visible < limit for limit in _VISIBLE)
        numbers = " ".join(f"{v:.2f}" for v in (*size[k], *location[k], rotation[k]))
        labelled.append(f"{name} {outside[k]:.2f} {occlusion} {alpha[k]:.2f} {where} {numbers}")
    return labelled + regions


def _pictures(boxes: Floats, calibration: Calibration) -> tuple[Floats, Floats]:
    """Return the rectangles around the projected boxes, whole and cut to the image: `(M, 4)` each."""
    eight = geometry.corners(boxes)
    projection = calibration.projection
    pixels = eight @ projection[:, :3].T + projection[:, 3]  # (M, 8, 3)
    uv = pixels[..., :2] / np.maximum(pixels[..., 2:], 0.1)
    whole = np.concatenate([uv.min(1), uv.max(1)], axis=1)
    limit = np.array([IMAGE_SIZE[1] - 1, IMAGE_SIZE[0] - 1])
    return whole, np.clip(whole, 0, np.tile(limit, 2))


def _visible(scene: _Scene, calibration: Calibration, index: int, picture: Floats) -> float:
    """Return the share of an object's picture that nothing hides from the camera."""
    left, top, right, bottom = picture
    steps = (np.arange(_TRIES) + 0.5) / _TRIES
    u, v = np.meshgrid(left + (right - left) * steps, top + (bottom - top) * steps)
    projection = calibration.projection
    back = np.linalg.inv(projection[:, :3])
    origin = -back @ projection[:, 3]
    rays = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3) @ back.T
    own = scene.owner == index
    distance = entries(origin, rays, scene.parts[own]).min(0)
    rays, distance = rays[distance < np.inf], distance[distance < np.inf]
    if not len(rays):
        return 0.0
    # Leaves hide as much as they stop rays.
    through = np.ones(len(rays))
    others = ~own & (
        np.hypot(*scene.parts[:, :2].T) - np.hypot(*scene.parts[:, 3:5].T) / 2 < distance.max() + 5
    )
    for met, solid in zip(entries(origin, rays, scene.parts[others]), scene.solid[others], strict=True):
        through[met < distance] *= 1 - solid
    return float(through.mean())


assert set(_OBJECTS) <= set(CLASSES)
