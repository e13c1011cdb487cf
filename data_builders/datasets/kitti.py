"""KITTI 3D objects: lidar scans with the boxes of cars, pedestrians and cyclists.

A sample's keys; M objects in the order of the label file, N points:

| key | |
|---|---|
| `points` (N, 4) float32 | x, y, z, reflectance in [0, 1]; lidar frame: x forward, y left, z up, metres |
| `boxes` (M, 7) float32 | [x, y, z, dx, dy, dz, heading], lidar frame, as in `boxes`; 0 for DontCare |
| `label` (M,) int64 | index into `classes`: the three evaluated classes, then the others, DontCare last |
| `image_boxes` (M, 4) float64 | left, top, right, bottom, pixels of the left colour camera |
| `occlusion` (M,) int64 | 0 visible, 1 partly, 2 largely occluded, 3 unknown; -1 for DontCare |
| `truncation` (M,) float64 | share outside of the image, 0 to 1; -1 for DontCare |
| `projection` (3, 4) float32 | from homogeneous lidar points to homogeneous pixels |
| `image_size` (2,) int64 | height, width |

What limits of the metric apply to is float64, as float32 would move 0.30 or 40 pixels across a limit. Label
files give boxes in the rectified camera frame (x right, y down, z forward) by the centre of the bottom
face, height, width, length, and the rotation ry about y. In the lidar frame the heading is -ry - pi/2, and
the centre is half a height above the bottom.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nasbench_mr.arrays import Floats
from nasbench_mr.data_builders.datasets.base import Reader, Sample, listing
from nasbench_mr.data_builders.datasets.opening import Array, image_size, named, read_text
from nasbench_mr.data_builders.detection import boxes as geometry
from nasbench_mr.errors import DatasetError

CLASSES = ("Car", "Pedestrian", "Cyclist", "Van", "Person_sitting", "Truck", "Tram", "Misc", "DontCare")
DONT_CARE = CLASSES.index("DontCare")
#: Height and width where no image lies beside the scans: the most frequent size.
IMAGE_SIZE = (375, 1242)
#: A scan has about 120,000 points.
MAX_POINTS = 2_000_000
_COLUMNS = 15


@dataclass(frozen=True)
class Calibration:
    """The three matrices that matter of a `calib` file.

    Attributes:
        camera: `(3, 4)` P2, from rectified camera coordinates to pixels of the left colour image.
        rectify: `(3, 3)` R0_rect.
        lidar: `(3, 4)` Tr_velo_to_cam.
    """

    camera: Floats
    rectify: Floats
    lidar: Floats

    @property
    def to_camera(self) -> Floats:
        """`(4, 4)` from homogeneous lidar to rectified camera coordinates."""
        whole = np.eye(4)
        whole[:3] = self.rectify @ self.lidar
        return whole

    @property
    def projection(self) -> Floats:
        """`(3, 4)` from homogeneous lidar coordinates to homogeneous pixels."""
        projection: Floats = self.camera @ self.to_camera
        return projection

    def boxes(self, location: Floats, size: Floats, rotation: Floats) -> Floats:
        """Return boxes in the lidar frame, `(M, 7)`, from those of a label file.

        Args:
            location: `(M, 3)` centres of the bottom faces, rectified camera frame.
            size: `(M, 3)` height, width, length.
            rotation: `(M,)` ry.
        """
        centre = _apply(np.asarray(np.linalg.inv(self.to_camera), np.float64), location)
        centre[:, 2] += size[:, 0] / 2
        heading = geometry.wrap(-rotation - math.pi / 2)
        return np.concatenate([centre, size[:, ::-1], heading[:, None]], axis=1)

    def labels(self, boxes: Floats) -> tuple[Floats, Floats, Floats]:
        """Location, size and rotation of `(M, 7)` boxes, as a label file has them: `boxes` undone."""
        bottom = boxes[:, :3] - np.array([0.0, 0.0, 0.5]) * boxes[:, 5:6]
        return (
            _apply(self.to_camera, bottom),
            boxes[:, 5:2:-1],
            geometry.wrap(-boxes[:, 6] - math.pi / 2),
        )


def _apply(matrix: Floats, points: Floats) -> Floats:
    moved: Floats = points @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def read_calibration(path: Path) -> Calibration:
    """Read a `calib` file; raise `DatasetError` where it lacks a matrix, or one has no inverse."""
    rows = dict(line.split(":", 1) for line in read_text(path).splitlines() if ":" in line)
    matrices = []
    for key, shape in (("P2", (3, 4)), ("R0_rect", (3, 3)), ("Tr_velo_to_cam", (3, 4))):
        values = _numbers(path, key, rows.get(key, "").split())
        if values.size != math.prod(shape):
            raise DatasetError(f"{path}: {key} has {values.size} numbers; expected {math.prod(shape)}")
        matrices.append(values.reshape(shape))
    calibration = Calibration(*matrices)
    if abs(np.linalg.det(calibration.projection[:, :3])) < 1e-6:
        raise DatasetError(f"{path}: the matrices are singular; expected a camera and two rotations")
    return calibration


def _numbers(path: Path, what: str, texts: list[str]) -> Floats:
    try:
        values = np.array([float(t) for t in texts])
    except ValueError as error:
        raise DatasetError(f"{path}: {what}: {error}") from None
    if not np.isfinite(values).all() or (np.abs(values) > 1e6).any():
        raise DatasetError(f"{path}: {what} has a number that is not finite, or beyond a million")
    return values


def read_objects(path: Path, calibration: Calibration) -> Sample:
    """Read a `label_2` file: the keys of a sample that describe its objects; refuse malformed lines."""
    names, rows = [], []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        name, *texts = line.split()
        if name not in CLASSES or len(texts) != _COLUMNS - 1:
            raise DatasetError(
                f"{path}: line {number} is {line[:60]!r}; expected {_COLUMNS} columns, the first one of "
                + ", ".join(CLASSES)
            )
        values = _numbers(path, f"line {number}", texts)
        if name != "DontCare" and not (
            (values[7:10] > 0).all() and 0 <= values[0] <= 1 and values[1] in (0, 1, 2, 3)
        ):
            raise DatasetError(
                f"{path}: line {number}: expected a truncation in [0, 1], an occlusion of 0 to 3 and sizes "
                f"above 0, got {values[0]:g}, {values[1]:g} and {values[7:10].tolist()}"
            )
        names.append(name)
        rows.append(values)
    table = np.array(rows).reshape(-1, _COLUMNS - 1)
    label = np.array([CLASSES.index(n) for n in names], np.int64)
    boxes = calibration.boxes(table[:, 10:13], table[:, 7:10], table[:, 13])
    boxes[label == DONT_CARE] = 0
    return {
        "boxes": boxes.astype(np.float32),
        "label": label,
        "image_boxes": table[:, 3:7],
        "occlusion": table[:, 1].astype(np.int64),
        "truncation": table[:, 0],
    }


def read_points(path: Path) -> Array:
    """Read a `velodyne` file, `(N, 4)` float32: finite, the reflectance in [0, 1]."""
    with named(path, "point cloud"):
        size = os.path.getsize(path)
        if size and size % 4 == 0 and size <= 16 * MAX_POINTS:
            values = np.fromfile(path, "<f4").astype(np.float32, copy=False)
            points = values[: len(values) // 4 * 4].reshape(-1, 4)
            # One pass each: a NaN fails every comparison.
            if size % 16 == 0 and np.abs(points).max() < 1e4 and _reflectance(points, 1):
                return points
            raise ValueError(_why(values))
        raise ValueError(f"{size:,} bytes; expected 16 for each of 1 to {MAX_POINTS:,} points")


def _reflectance(points: Array, most: float) -> bool:
    return bool(points[:, 3].min() >= 0 and points[:, 3].max() <= most)


def _why(values: Array) -> str:
    """Return what is wrong with the numbers of a point cloud."""
    for columns in (5, 6):  # nuScenes has a ring behind the reflectance, other sensors a time too
        points = values[: len(values) // columns * columns].reshape(-1, columns)
        if points.size == values.size and np.abs(points[:, :3]).max() < 1e3 and _reflectance(points, 255):
            return f"its points have {columns} columns; expected 4: x, y, z, reflectance; keep the first four"
    if len(values) % 4:
        return f"{4 * len(values):,} bytes; expected 16 for each point"
    if not np.abs(values).max() < 1e4:
        return "a point is not finite, or farther than 10 km; the file is damaged"
    low, high = values[3::4].min(), values[3::4].max()
    hint = "; divide it by 255" if low >= 0 and high <= 255 else ""
    return f"its reflectance goes from {low:g} to {high:g}; expected 0 to 1{hint}"


class Kitti(Reader):
    """KITTI 3D object detection, the usual halves of the training set.

    Options:
        in_image: keep only the points that the camera sees, as is usual: only what it sees is annotated.
    """

    NAME = "kitti"
    PROBLEM = "detection"
    LAYOUT = (
        "ImageSets/{train,val}.txt, training/velodyne/*.bin, training/calib/*.txt, training/label_2/*.txt "
        "(and, if there are images, training/image_2/*.png)"
    )
    SOURCE = (
        "Get the Velodyne, calibration and label archives of the 3D object benchmark from "
        "cvlibs.net/datasets/kitti and the ImageSets of Chen et al., or generate a stand-in: "
        "nasbench-mr data make kitti"
    )

    def __init__(self, root: str | os.PathLike[str], split: str, in_image: bool = True):
        super().__init__(root, split, in_image=in_image)
        self.in_image = in_image
        self.classes = CLASSES
        listed = self.root / "ImageSets" / f"{split}.txt"
        if not listed.is_file():
            raise self.incomplete([f"ImageSets/{split}.txt"])
        self.ids = _listed(listed)
        for other in self.SPLITS:
            path = listed.with_name(f"{other}.txt")
            if other != split and path.is_file() and (both := sorted({*self.ids} & {*_listed(path)})):
                raise DatasetError(
                    f"{listed} and {path.name} share {len(both):,} scans, {both[0]} among them; "
                    "expected splits that share none"
                )
        missing = [] if self.ids else [f"scans in ImageSets/{split}.txt"]
        for kind, suffix in (("velodyne", ".bin"), ("calib", ".txt"), ("label_2", ".txt")):
            found = {f.name for f in listing(self.root / "training" / kind, (suffix,))}
            missing += [f"training/{kind}/{i}{suffix}" for i in self.ids if i + suffix not in found]
        if missing:
            raise self.incomplete(missing)

    def _read(self, index: int) -> Sample:
        scan, top = self.ids[index], self.root / "training"
        points = read_points(top / "velodyne" / f"{scan}.bin")
        calibration = read_calibration(top / "calib" / f"{scan}.txt")
        image = top / "image_2" / f"{scan}.png"
        size = image_size(image) if image.exists() else IMAGE_SIZE
        projection = calibration.projection.astype(np.float32)
        if self.in_image:
            points = points[_seen(points, projection, size)]
        return {
            "points": points,
            **read_objects(top / "label_2" / f"{scan}.txt", calibration),
            "projection": projection,
            "image_size": np.array(size, np.int64),
        }


def _listed(path: Path) -> tuple[str, ...]:
    """Return the scans of a list of a split."""
    found = tuple(read_text(path).split())
    if odd := [i for i in found if not i.isalnum()]:
        raise DatasetError(f"{path}: {odd[0]!r} is not a scan's number; expected six digits a line")
    if twice := [i for i, count in Counter(found).items() if count > 1]:
        raise DatasetError(f"{path}: {twice[0]} stands there twice; expected every scan once")
    return found


def _seen(points: Array, projection: Array, size: tuple[int, int]) -> Array:
    """Which points project into the image."""
    u, v, depth = projection[:, :3] @ points[:, :3].T + projection[:, 3:]
    # Multiplied out, as a division would be by zero beside the camera.
    seen: Array = (depth > 0) & (u >= 0) & (u < size[1] * depth) & (v >= 0) & (v < size[0] * depth)
    return seen
