"""NYU Depth v2's labelled part: its reader, its camera, its MATLAB files, and normals of depth maps.

`readers.load("nyuv2", ...)` comes through here; `scenes` writes the same layout.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr.data_builders.datasets import IGNORE, Array
from nasbench_mr.errors import DatasetError
from nasbench_mr.extras import requires
from nasbench_mr.search.auxnas.data import AuxData, LabelledSet, Pixels, bilinear, nearest, stack

if TYPE_CHECKING:
    import h5py

#: Focal lengths fx, fy and principal point cx, cy, in pixels.
Camera = tuple[float, float, float, float]

#: The colour camera, for 640 x 480 pixels.
CAMERA: Camera = (518.857901, 519.469611, 325.582449, 253.736166)
#: The files of the labelled part.
LABELLED, MAPPING, SPLITS = "nyu_depth_v2_labeled.mat", "classMapping40.mat", "splits.mat"


def normals_from_depth(depth: Array, camera: Camera, radius: int = 1) -> npt.NDArray[np.float32]:
    """Unit normals `(H, W, 3)` of a depth map, towards the camera; 0 where they are unknown.

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
    """A camera for 640 x 480 pixels, at another size."""
    fx, fy, cx, cy = camera
    return fx * size[1] / 640, fy * size[0] / 480, cx * size[1] / 640, cy * size[0] / 480


def read(root: Path, size: Pixels | None, limit: int, radius: int = 2) -> AuxData:
    """NYU Depth v2, the labelled part (Silberman et al., 2012): 795 training and 654 test images.

    MATLAB's arrays are column-major, so HDF5 shows them reversed: images (n, 3, W, H), others (n, W, H).
    Labels are mapped to 40 classes (Gupta et al., 2013) by `classMapping40.mat`; 0 is unlabelled. Where the
    file has no array `normals`, they come from the depth.

    Options:
        radius: of `normals_from_depth`.
    """
    h5py = h5py_module()
    path, parts = root / LABELLED, []
    missing = [f for f in (LABELLED, MAPPING, SPLITS) if not (root / f).is_file()]
    if missing:
        raise DatasetError(
            f"nyuv2 in {root} is incomplete: missing {', '.join(missing)}. Get the labelled data set and its "
            "splits from cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html and the class mapping from "
            "github.com/s-gupta/rcnn-depth, or generate data in this layout: --data indoor"
        )
    mapping = _matlab(root / MAPPING, "mapClass").astype(np.int64).ravel()
    table = np.concatenate([[IGNORE], mapping - 1]).astype(np.int64)
    if mapping.size == 0 or mapping.min() < 1 or mapping.max() > 40:
        raise DatasetError(f"{root / 'classMapping40.mat'}: mapClass must hold classes 1 to 40")
    try:
        with h5py.File(path, "r") as file:
            total = len(file["images"])
            scenes = _scenes(file)
            for split, key in (("train", "trainNdxs"), ("val", "testNdxs")):
                rows = np.sort(_matlab(root / SPLITS, key).astype(np.int64).ravel()) - 1
                rows = rows[: limit or None]
                if not len(rows) or rows[0] < 0 or rows[-1] >= total:
                    raise DatasetError(
                        f"{root / 'splits.mat'}: {key} must hold numbers of images, 1 to {total}"
                    )
                found = [_nyu_sample(file, int(r), table, size, radius, str(path)) for r in rows]
                arrays = stack(found, f"nyuv2 {split}")
                classes = {"segmentation": 40}
                if scenes is not None:
                    arrays["scene"], classes["scene"] = scenes[0][rows], scenes[1]
                ids = tuple(f"{r + 1:04d}" for r in rows)
                parts.append(LabelledSet("nyuv2", ids, arrays, classes))
    except (OSError, KeyError, RuntimeError) as error:
        raise DatasetError(f"{path}: not NYUv2's labelled file ({error})") from error
    return AuxData(parts[0], parts[1])


def _nyu_sample(
    file: h5py.File, row: int, table: Array, size: Pixels | None, radius: int, where: str
) -> dict[str, Array]:
    image = file["images"][row].transpose(2, 1, 0)
    labels, depth = file["labels"][row].T, file["depths"][row].T.astype(np.float32)
    if image.shape[:2] != labels.shape or labels.shape != depth.shape:
        raise DatasetError(
            f"{where}: image {row + 1} has {image.shape[:2]} pixels, its labels {labels.shape}, its depth "
            f"{depth.shape}; expected equal sizes"
        )
    if labels.max(initial=0) >= len(table):
        raise DatasetError(
            f"{where}: image {row + 1} has label {labels.max()}; expected 0 to {len(table) - 1}"
        )
    if "normals" in file:
        normals = file["normals"][row].transpose(2, 1, 0).astype(np.float32)
    else:
        normals = normals_from_depth(depth, scaled(CAMERA, depth.shape), radius)
    return {
        "image": bilinear(np.ascontiguousarray(image), size),
        "segmentation": nearest(table[labels], size).astype(np.uint8),
        "depth": nearest(depth, size),
        "normals": nearest(normals, size),
    }


def _scenes(file: h5py.File) -> tuple[Array, int] | None:
    """Each image's kind of scene, and how many kinds there are; None where the file has none."""
    if "sceneTypes" not in file:
        return None
    references = np.asarray(file["sceneTypes"]).ravel()
    names = [np.asarray(file[r]).ravel().astype(np.uint16).tobytes().decode("utf-16-le") for r in references]
    kinds = sorted(set(names))
    return np.array([kinds.index(n) for n in names], np.int64), len(kinds)


def h5py_module() -> Any:
    with requires("auxnas", "NYUv2's layout"):
        import h5py
    return h5py


def _matlab(path: Path, key: str) -> Array:
    """A variable of a MATLAB file, of version 7.3 (HDF5) or older."""
    h5py = h5py_module()
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                return np.asarray(file[key])
        with requires("auxnas", f"{path.name}, a MATLAB file of an old version,"):
            from scipy.io import loadmat
        return np.asarray(loadmat(path)[key])
    except (OSError, KeyError, ValueError, RuntimeError, NotImplementedError) as error:
        raise DatasetError(f"{path}: no MATLAB file with {key!r} ({error})") from error
