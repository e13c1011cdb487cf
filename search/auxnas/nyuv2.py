"""NYU Depth v2's labelled part: its reader, its camera, its MATLAB files, and normals of depth maps.

`readers.load("nyuv2", ...)` comes through here; `scenes` writes the same layout.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench_mr.data_builders.datasets import IGNORE, Array, opening
from nasbench_mr.errors import DatasetError
from nasbench_mr.search.auxnas.data import AuxData, LabelledSet, Pixels, bilinear, nearest, stack

#: Focal lengths fx, fy and principal point cx, cy, in pixels.
Camera = tuple[float, float, float, float]

#: The colour camera, for 640 x 480 pixels.
CAMERA: Camera = (518.857901, 519.469611, 325.582449, 253.736166)
#: The files of the labelled part.
LABELLED, MAPPING, SPLITS = "nyu_depth_v2_labeled.mat", "classMapping40.mat", "splits.mat"


def normals_from_depth(depth: Array, camera: Camera, radius: int = 1) -> npt.NDArray[np.float32]:
    """Return unit normals `(H, W, 3)` of a depth map, towards the camera; 0 where they are unknown.

    On a plane, 1 / depth is linear in pixel coordinates, and its slopes give the normal. Each slope is the
    one of smaller size to either side, so that a jump in depth disturbs few pixels.

    Args:
        depth: `(H, W)` along the optical axis, metres; 0 unknown.
        camera: focal lengths fx, fy and principal point cx, cy, in pixels.
        radius: how many pixels to either side the slopes reach; more for noisy depth.
    """
    fx, fy, cx, cy = camera
    known = depth > 0
    inverse = np.where(known, 1 / np.where(known, depth, 1), np.nan).astype(np.float64)
    slopes = []
    for axis in (1, 0):
        step = np.full_like(inverse, np.nan)
        ahead = tuple(slice(radius, None) if a == axis else slice(None) for a in (0, 1))
        behind = tuple(slice(None, -radius) if a == axis else slice(None) for a in (0, 1))
        forward, backward = step.copy(), step.copy()
        forward[behind] = backward[ahead] = (inverse[ahead] - inverse[behind]) / radius
        smaller = ~(np.abs(forward) > np.abs(backward))
        smaller &= ~np.isnan(forward)
        slopes.append(np.where(smaller, forward, backward))
    u, v = slopes
    x, y = np.arange(depth.shape[1]) + 0.5 - cx, (np.arange(depth.shape[0]) + 0.5 - cy)[:, None]
    normal = -np.stack([fx * u, fy * v, inverse - x * u - y * v], axis=-1)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.nan_to_num(normal / np.where(length > 0, length, 1)).astype(np.float32)


def scaled(camera: Camera, size: Pixels) -> Camera:
    """Return a camera for 640 x 480 pixels, at another size."""
    fx, fy, cx, cy = camera
    return fx * size[1] / 640, fy * size[0] / 480, cx * size[1] / 640, cy * size[0] / 480


def read(root: Path, size: Pixels | None, limit: int, radius: int = 2) -> AuxData:
    """Read NYU Depth v2, the labelled part (Silberman et al., 2012): 795 training and 654 test images.

    MATLAB's arrays are column-major, so HDF5 shows them reversed: images (n, 3, W, H), others (n, W, H).
    Labels are mapped to 40 classes (Gupta et al., 2013) by `classMapping40.mat`; 0 is unlabelled. Where the
    file has no array `normals`, they come from the depth. The files are read in a process of its own, as
    damaged ones can crash the libraries.

    Options:
        radius: of `normals_from_depth`.
    """
    path, parts = root / LABELLED, []
    missing = [f for f in (LABELLED, MAPPING, SPLITS) if not (root / f).is_file()]
    if missing:
        raise DatasetError(
            f"nyuv2 in {root} is incomplete: missing {', '.join(missing)}. Get the labelled data set and its "
            "splits from cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html and the class mapping from "
            "github.com/s-gupta/rcnn-depth, or generate data in this layout: --data indoor"
        )
    with opening.apart(path, f"{__name__}:_reader", (root, size, radius)) as ask:
        splits, scenes = ask(None)
        for split in ("train", "val"):
            rows = splits[split][: limit or None]
            arrays = stack([ask(row) for row in rows], f"nyuv2 {split}")
            classes = {"segmentation": 40}
            if scenes is not None:
                kinds = sorted(set(scenes))
                arrays["scene"] = np.array([kinds.index(scenes[row]) for row in rows], np.int64)
                classes["scene"] = len(kinds)
            parts.append(LabelledSet("nyuv2", tuple(f"{row + 1:04d}" for row in rows), arrays, classes))
    return AuxData(parts[0], parts[1])


def _reader(root: Path, size: Pixels | None, radius: int) -> Callable[[int | None], Any]:
    """Return what runs apart: for None it gives the splits and scenes, then for a row its sample."""
    path, closing = root / LABELLED, contextlib.ExitStack()
    opened: list[tuple[opening.Hdf5, Array]] = []

    def load(row: int | None) -> Any:
        if row is None:
            file = closing.enter_context(opening.hdf5(path))
            table, splits, scenes = _contents(root, file)
            opened.append((file, table))
            return splits, scenes
        with opening.named(path, f"labelled file of NYUv2 at image {row + 1}"):
            return _sample(*opened[0], row, size=size, radius=radius)

    return load


def _contents(root: Path, file: opening.Hdf5) -> tuple[Array, dict[str, list[int]], tuple[str, ...] | None]:
    """Return the classes of labels, the rows of each split, and each image's kind of scene, if any."""
    with opening.named(root / LABELLED, "labelled file of NYUv2"):
        total, scenes = _check_shapes(file), None
        if "sceneTypes" in file:
            texts = [v.ravel().astype(np.uint16).tobytes() for v in file.referred("sceneTypes")]
            scenes = tuple(text.decode("utf-16-le") for text in texts)
            if len(scenes) != total:
                raise ValueError(f"it has {total:,} images and {len(scenes):,} kinds of scenes")
    with opening.named(root / MAPPING, "class mapping"):
        mapping = opening.whole(opening.variables(root / MAPPING)("mapClass")).ravel()
        if not len(mapping) or mapping.min() < 1 or mapping.max() > 40:
            raise ValueError("mapClass must hold classes 1 to 40")
    splits = {}
    with opening.named(root / SPLITS, "list of splits"):
        for split, key in (("train", "trainNdxs"), ("val", "testNdxs")):
            rows = np.sort(opening.whole(opening.variables(root / SPLITS)(key)).ravel()) - 1
            if not len(rows) or rows[0] < 0 or rows[-1] >= total or len(set(rows)) < len(rows):
                raise ValueError(f"{key} must hold different numbers of images, 1 to {total:,}")
            splits[split] = rows.tolist()
        if both := sorted({*splits["train"]} & {*splits["val"]}):
            raise ValueError(f"image {both[0] + 1} is in both splits; expected splits that share none")
    return np.concatenate([[IGNORE], mapping - 1]), splits, scenes


def _check_shapes(file: opening.Hdf5) -> int:
    """How many images there are; raises ValueError where the arrays do not fit each other."""
    images = file.data("images")
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.uint8 or not len(images):
        raise ValueError(f"images are {images.shape} {images.dtype}; expected (n, 3, W, H) uint8")
    total, _, width, height = images.shape
    shapes: dict[str, tuple[int, ...]] = {"labels": (total, width, height), "depths": (total, width, height)}
    if "normals" in file:
        shapes["normals"] = (total, 3, width, height)
    for name, shape in shapes.items():
        if file.data(name).shape != shape:
            raise ValueError(
                f"{name} are {file.data(name).shape}; expected {shape}, as images are {images.shape}"
            )
    return int(total)


def _sample(
    file: opening.Hdf5, table: Array, row: int, *, size: Pixels | None, radius: int
) -> dict[str, Array]:
    image = np.ascontiguousarray(file.read("images", row).transpose(2, 1, 0))
    depth = file.read("depths", row).T.astype(np.float32)
    labels = opening.whole(file.read("labels", row).T)
    if labels.min() < 0 or labels.max() >= len(table):
        raise ValueError(f"labels of {labels.min()} to {labels.max()}; expected 0 to {len(table) - 1}")
    if not np.isfinite(depth).all() or depth.min() < 0:
        raise ValueError("a depth is negative or not finite; expected metres, 0 where it is unknown")
    if "normals" in file:
        normals = file.read("normals", row).transpose(2, 1, 0).astype(np.float32)
        longest = float(np.linalg.norm(normals, axis=-1).max())
        if not longest < 1.1:
            raise ValueError(
                f"normals as long as {longest:g}; expected length 1, or 0 where they are unknown"
            )
    else:
        normals = normals_from_depth(depth, scaled(CAMERA, depth.shape), radius)
    return {
        "image": bilinear(image, size),
        "segmentation": nearest(table[labels], size).astype(np.uint8),
        "depth": nearest(depth, size),
        "normals": nearest(normals, size),
    }
