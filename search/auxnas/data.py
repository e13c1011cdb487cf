"""Images with several labels each, in memory: `load` reads one of `READERS`, `check` refuses bad ones.

A `LabelledSet` has the images of a split and a label of each for every task (see `aux_tasks`); `AuxData` is a
training set and a validation set. Other data comes in as a `LabelledSet` of your own; `join` puts labels
together that are in two sets, by the samples' names.

| data | labels | layout below its folder |
|---|---|---|
| indoor | segmentation, normals, depth, scene | NYUv2's, generated on first use (`aux_scenes`) |
| nyuv2 | segmentation, depth, normals, scene | nyu_depth_v2_labeled.mat, classMapping40.mat, splits.mat |
| cityscapes | segmentation, disparity | Cityscapes' own |
| camvid | segmentation, edges (of the image) | {train,val}/ and {train,val}annot/ |
| taskonomy | normals, depth, segmentation, edges, object, scene | <domain>/<building>/point_*_<domain>.png |
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr.data_builders import datasets
from nasbench_mr.data_builders.datasets import IGNORE, Array
from nasbench_mr.data_builders.datasets.base import folders, listing, read_image, read_mask
from nasbench_mr.errors import (
    DatasetError,
    InvalidArgumentError,
    UnknownNameError,
    UnknownTaskError,
    did_you_mean,
)
from nasbench_mr.extras import requires

if TYPE_CHECKING:
    import h5py

Pixels = tuple[int, int]

#: NYUv2's colour camera, for 640 x 480 pixels: focal lengths and principal point.
NYU_CAMERA = (518.857901, 519.469611, 325.582449, 253.736166)
#: Taskonomy: the folder (domain) of each label.
_DOMAINS = {
    "normals": "normal", "depth": "depth_zbuffer", "segmentation": "segment_semantic",
    "edges": "edge_texture", "object": "class_object", "scene": "class_scene",
}  # fmt: skip


@dataclass(frozen=True)
class LabelledSet:
    """Images and their labels.

    Attributes:
        name: for messages.
        ids: `n` distinct names.
        arrays: "image" `(n, H, W, 3)` uint8 RGB, and each task's labels `(n, ...)` under its name.
        classes: how many classes there are, for the tasks that have classes.
    """

    name: str
    ids: tuple[str, ...]
    arrays: Mapping[str, Array]
    classes: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The labels there are."""
        return tuple(key for key in self.arrays if key != "image")

    @property
    def size(self) -> Pixels:
        """(H, W) of the images."""
        _, height, width, _ = self.arrays["image"].shape
        return height, width

    def take(self, rows: Sequence[int]) -> LabelledSet:
        """The samples of these rows."""
        return replace(
            self,
            ids=tuple(self.ids[r] for r in rows),
            arrays={key: values[list(rows)] for key, values in self.arrays.items()},
        )


@dataclass(frozen=True)
class AuxData:
    """A training and a validation set of the same labels.

    Attributes:
        train, val: the sets.
        about: how they were read, for the record: JSON-ready.
    """

    train: LabelledSet
    val: LabelledSet
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The data's name."""
        return self.train.name

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that differ where images, labels or their order do."""
        found = hashlib.sha256()
        for part in (self.train, self.val):
            for key, values in sorted(part.arrays.items()):
                found.update(f"{key} {values.shape} {values.dtype} {part.classes.get(key)}".encode())
                found.update(np.ascontiguousarray(values).data)
        return found.hexdigest()[:16]

    def limited(self, train: int = 0, val: int = 0) -> AuxData:
        """The first `train` and `val` samples; 0 for all."""

        def first(part: LabelledSet, count: int) -> LabelledSet:
            return part.take(range(min(count, len(part)))) if count else part

        return AuxData(first(self.train, train), first(self.val, val), self.about)


def join(first: LabelledSet, second: LabelledSet) -> LabelledSet:
    """The samples that both sets name, with the labels of both; images and shared labels are the first's.

    Raises:
        DatasetError: no sample is in both.
    """
    rows = {name: row for row, name in enumerate(second.ids)}
    shared = [row for row, name in enumerate(first.ids) if name in rows]
    if not shared:
        raise DatasetError(
            f"{first.name} and {second.name} have no sample in common: {first.ids[0]!r}, ... and "
            f"{second.ids[0]!r}, ...; the auxiliary labels must be of the primary's images"
        )
    left = first.take(shared)
    right = second.take([rows[name] for name in left.ids])
    return replace(left, arrays={**right.arrays, **left.arrays}, classes={**right.classes, **left.classes})


def check(data: AuxData, tasks: Sequence[str]) -> None:
    """Checks all that training on `tasks` relies on.

    Raises:
        UnknownTaskError: no such task, or the data has no labels of it.
        DatasetError: an empty set, arrays of other shapes or types, labels whose size is not the image's,
            classes out of range, no known label.
        InvalidArgumentError: a task is named twice.
    """
    from nasbench_mr.search.auxnas import tasks as aux_tasks

    if len(set(tasks)) < len(tasks):
        raise InvalidArgumentError(f"tasks are {', '.join(tasks)}; expected distinct ones")
    for part, split in ((data.train, "train"), (data.val, "val")):
        where = f"{part.name} {split}"
        image = part.arrays.get("image")
        if image is None or image.ndim != 4 or image.shape[3] != 3 or image.dtype != np.uint8:
            found = "none" if image is None else f"{image.shape} {image.dtype}"
            raise DatasetError(f"{where}: images are {found}; expected (n, H, W, 3) uint8")
        if not len(part):
            raise DatasetError(f"{where}: no samples")
        if len(image) != len(part):
            raise DatasetError(f"{where}: {len(image)} images for {len(part)} names")
        if part.size != data.train.size:
            raise DatasetError(
                f"{where}: images of {part.size} pixels; those of train have {data.train.size}"
            )
        height, width = part.size
        for name in tasks:
            task = aux_tasks.get(name)
            if name not in part.arrays:
                raise UnknownTaskError(f"{where} has no labels of {name!r}; it has {', '.join(part.tasks)}")
            labels = part.arrays[name]
            wanted = (len(part), *({"H": height, "W": width}.get(str(s), s) for s in task.shape))
            if labels.shape != wanted:
                raise DatasetError(
                    f"{where}: labels of {name!r} have shape {labels.shape}; expected {wanted}"
                )
            if labels.dtype != task.dtype:
                raise DatasetError(
                    f"{where}: labels of {name!r} are {labels.dtype}; expected {np.dtype(task.dtype)}"
                )
            task.check(labels, part.classes.get(name), where)


# --- Readers ------------------------------------------------------------------------------------------


def load(
    name: str, root: str | os.PathLike[str], size: Pixels | None = None, limit: int = 0, **options: Any
) -> AuxData:
    """Reads a data set's training and validation sets into memory.

    Args:
        name: one of `READERS`.
        root: its folder.
        size: (H, W) that images and labels are resized to.
        limit: at most so many samples of each set; 0 for all.
        options: see the reader.

    Raises:
        UnknownNameError: no such data set.
        InvalidArgumentError: no such option, or a value of another type.
        DatasetError: files are missing or malformed.
    """
    if name not in READERS:
        raise UnknownNameError(f"no data set {name!r}: {did_you_mean(name, READERS)}")
    reader = READERS[name]
    datasets.check_options(reader, options)
    if size is not None and (len(size) != 2 or min(size) < 8):
        raise InvalidArgumentError(f"size is {size}; expected (height, width), at least 8 pixels each")
    if limit < 0:
        raise InvalidArgumentError(f"limit is {limit}; expected at least 0 samples of a set (0: all)")
    about = {"root": os.fspath(root), "size": size, "limit": limit, "options": options}
    return replace(reader(Path(root), size, limit, **options), about=about)


def nearest(values: Array, size: Pixels | None, axis: int = 0) -> Array:
    """Labels resized to `size`: each output pixel takes the input pixel at its centre.

    Args:
        values: `(..., H, W, ...)`, H at `axis`.
    """
    if size is None:
        return values
    for k, side in enumerate(size):
        old = values.shape[axis + k]
        rows = ((np.arange(side) + 0.5) * old / side).astype(int)
        values = values.take(rows, axis + k)
    return values


def _bilinear(image: Array, size: Pixels | None) -> Array:
    if size is None or image.shape[:2] == size:
        return image
    from PIL import Image

    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def _stack(rows: Sequence[Mapping[str, Array]], where: str) -> dict[str, Array]:
    """Samples as arrays `(n, ...)`, which need equal shapes."""
    for row in rows:
        for key, value in row.items():
            if value.shape != rows[0][key].shape:
                raise DatasetError(
                    f"{where}: {key!r} is {value.shape} in one sample, {rows[0][key].shape} in another; "
                    "give a size to resize to"
                )
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def normals_from_depth(
    depth: Array, camera: tuple[float, float, float, float], radius: int = 1
) -> npt.NDArray[np.float32]:
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


def _scaled(camera: tuple[float, float, float, float], size: Pixels) -> tuple[float, float, float, float]:
    """A camera for 640 x 480 pixels, at another size."""
    fx, fy, cx, cy = camera
    return fx * size[1] / 640, fy * size[0] / 480, cx * size[1] / 640, cy * size[0] / 480


def _nyuv2(root: Path, size: Pixels | None, limit: int, radius: int = 2) -> AuxData:
    """NYU Depth v2, the labelled part (Silberman et al., 2012): 795 training and 654 test images.

    MATLAB's arrays are column-major, so HDF5 shows them reversed: images (n, 3, W, H), others (n, W, H).
    Labels are mapped to 40 classes (Gupta et al., 2013) by `classMapping40.mat`; 0 is unlabelled. Where the
    file has no array `normals`, they come from the depth.

    Options:
        radius: of `normals_from_depth`.
    """
    h5py = _h5py()
    path, parts = root / "nyu_depth_v2_labeled.mat", []
    missing = [f for f in (path.name, "classMapping40.mat", "splits.mat") if not (root / f).is_file()]
    if missing:
        raise DatasetError(
            f"nyuv2 in {root} is incomplete: missing {', '.join(missing)}. Get the labelled data set and its "
            "splits from cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html and the class mapping from "
            "github.com/s-gupta/rcnn-depth, or generate data in this layout: --data indoor"
        )
    mapping = _matlab(root / "classMapping40.mat", "mapClass").astype(np.int64).ravel()
    table = np.concatenate([[IGNORE], mapping - 1]).astype(np.int64)
    if mapping.size == 0 or mapping.min() < 1 or mapping.max() > 40:
        raise DatasetError(f"{root / 'classMapping40.mat'}: mapClass must hold classes 1 to 40")
    try:
        with h5py.File(path, "r") as file:
            total = len(file["images"])
            scenes = _scenes(file)
            for split, key in (("train", "trainNdxs"), ("val", "testNdxs")):
                rows = np.sort(_matlab(root / "splits.mat", key).astype(np.int64).ravel()) - 1
                rows = rows[: limit or None]
                if not len(rows) or rows[0] < 0 or rows[-1] >= total:
                    raise DatasetError(
                        f"{root / 'splits.mat'}: {key} must hold numbers of images, 1 to {total}"
                    )
                found = [_nyu_sample(file, int(r), table, size, radius, str(path)) for r in rows]
                arrays = _stack(found, f"nyuv2 {split}")
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
        normals = normals_from_depth(depth, _scaled(NYU_CAMERA, depth.shape), radius)
    return {
        "image": _bilinear(np.ascontiguousarray(image), size),
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


def _h5py() -> Any:
    with requires("auxnas", "NYUv2's layout"):
        import h5py
    return h5py


def _matlab(path: Path, key: str) -> Array:
    """A variable of a MATLAB file, of version 7.3 (HDF5) or older."""
    h5py = _h5py()
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                return np.asarray(file[key])
        with requires("auxnas", f"{path.name}, a MATLAB file of an old version,"):
            from scipy.io import loadmat
        return np.asarray(loadmat(path)[key])
    except (OSError, KeyError, ValueError, RuntimeError, NotImplementedError) as error:
        raise DatasetError(f"{path}: no MATLAB file with {key!r} ({error})") from error


def _indoor(
    root: Path,
    size: Pixels | None,
    limit: int,
    train: int | None = None,
    val: int | None = None,
    seed: int | None = None,
) -> AuxData:
    """Generated rooms in NYUv2's layout (see `aux_scenes`), made on first use.

    Below `root` each number of scenes, seed and size has a folder of its own. A `root` that holds a set
    itself (`aux_scenes.make`) is read as it is.

    Options:
        train, val: scenes to make, 200 and 100.
        seed: of the scenes, 0.
    """
    from nasbench_mr.search.auxnas import scenes as aux_scenes

    place = root
    if not (root / "nyu_depth_v2_labeled.mat").is_file():
        counts = 200 if train is None else train, 100 if val is None else val, seed or 0
        made = size or aux_scenes.SIZE
        place = root / "{}-{}-seed{}-{}x{}".format(*counts, *made)
        if not place.exists():
            aux_scenes.make(place, *counts, made)
    elif (train, val, seed) != (None, None, None):
        raise InvalidArgumentError(f"{root} holds rooms already; train, val and seed are for making them")
    data = _nyuv2(place, size, limit)
    return AuxData(replace(data.train, name="indoor"), replace(data.val, name="indoor"))


def edges_of(image: Array, share: float = 0.15) -> npt.NDArray[np.uint8]:
    """Edges of a photo `(H, W, 3)`: the `share` of pixels with the steepest brightness, `(H, W)` 0 and 1."""
    grey = np.pad(image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32), 1, "edge")
    # Sobel: smoothed across, differences along.
    rows = grey[:-2] + 2 * grey[1:-1] + grey[2:]
    columns = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
    steep = np.hypot(rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2])
    limit = np.partition(steep.ravel(), -max(1, round(share * steep.size)))[
        -max(1, round(share * steep.size))
    ]
    edges: npt.NDArray[np.uint8] = ((steep >= limit) & (steep > 0)).astype(np.uint8)
    return edges


def _camvid(
    root: Path, size: Pixels | None, limit: int, share: float = 0.15, blocks: bool = False
) -> AuxData:
    """CamVid: 11 classes, and edges computed from the photos.

    Options:
        share: of pixels that are edges.
        blocks: blocks of the training frames validate; see `datasets.images.CamVid`.
    """
    parts = []
    for split in ("train", "val"):
        found = datasets.load("camvid", root, split, size=size, blocks=blocks)
        rows = [
            {"image": s["image"], "segmentation": s["mask"], "edges": edges_of(s["image"], share)}
            for s in (found[i] for i in range(min(len(found), limit or len(found))))
        ]
        classes = {"segmentation": len(found.classes)}
        parts.append(LabelledSet("camvid", found.ids[: len(rows)], _stack(rows, f"camvid {split}"), classes))
    return AuxData(parts[0], parts[1])


def _cityscapes(root: Path, size: Pixels | None, limit: int) -> AuxData:
    """Cityscapes: 19 classes, and disparity from `disparity/<split>/<city>/*_disparity.png`, in pixels.

    A stored value p > 0 is a disparity of (p - 1) / 256 pixels of the 2048 wide photo; resizing scales it.
    """
    parts = []
    for split in ("train", "val"):
        found = datasets.load("cityscapes", root, split, size=size)
        rows = []
        for i, name in list(enumerate(found.ids))[: limit or None]:
            path = root / "disparity" / split / name.split("_")[0] / f"{name}_disparity.png"
            if not path.is_file():
                raise DatasetError(
                    f"cityscapes {split} in {root} is incomplete: missing {path.relative_to(root)}. Get "
                    "disparity_trainvaltest.zip from cityscapes-dataset.com"
                )
            stored = _read_16bit(path)
            disparity = np.where(stored > 0, (stored - 1) / 256, 0).astype(np.float32)
            sample = found[i]
            if size is not None:
                disparity = nearest(disparity, size) * np.float32(size[1] / stored.shape[1])
            rows.append({"image": sample["image"], "segmentation": sample["mask"], "disparity": disparity})
        classes = {"segmentation": len(found.classes)}
        parts.append(
            LabelledSet("cityscapes", found.ids[: len(rows)], _stack(rows, f"cityscapes {split}"), classes)
        )
    return AuxData(parts[0], parts[1])


def _read_16bit(path: Path) -> npt.NDArray[np.float32]:
    """A 16-bit grey PNG, `(H, W)`."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode not in ("I;16", "I", "L"):
                raise DatasetError(f"{path}: an image of mode {image.mode}; expected 16-bit grey")
            return np.asarray(image).astype(np.float32)
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path}: not a readable image ({error})") from error


_TASKONOMY_NAME = re.compile(r"(point_\d+_view_\d+)_domain_\w+")


def _taskonomy(
    root: Path, size: Pixels | None, limit: int, labels: str = "normals,depth", val_share: float = 0.2
) -> AuxData:
    """Taskonomy (Zamir et al., 2018): folders `rgb`, `normal`, `depth_zbuffer`, ... of folders of buildings.

    `<building>/<domain>/` is read as well. Buildings go to validation by the SHA-256 of their names; with a
    single building, its views do. Depth is stored in 1/512 m, 65535 unknown; normals in 8 bits a channel; 0
    is an uncertain pixel of `segment_semantic`; an edge is a pixel of `edge_texture` above 1/16 of its range.

    Options:
        labels: which to read, separated by commas.
        val_share: of the buildings (or views) that validate.
    """
    wanted = [name.strip() for name in labels.split(",") if name.strip()]
    for name in wanted:
        if name not in _DOMAINS:
            raise UnknownTaskError(f"taskonomy has no labels {name!r}: {did_you_mean(name, _DOMAINS)}")
    found = {domain: _taskonomy_files(root, domain) for domain in ("rgb", *(_DOMAINS[n] for n in wanted))}
    for domain, files in found.items():
        if not files:
            raise DatasetError(
                f"taskonomy in {root} is incomplete: no files {domain}/<building>/point_*_domain_{domain}.*. "
                "Get them from github.com/StanfordVL/taskonomy"
            )
    shared = sorted(set.intersection(*(set(files) for files in found.values())))
    if not shared:
        raise DatasetError(f"taskonomy in {root}: no view has all of {', '.join(found)}")
    buildings = {building for building, _ in shared}

    def order(view: tuple[str, str]) -> str:
        key = view[0] if len(buildings) > 1 else "/".join(view)
        return hashlib.sha256(key.encode()).hexdigest()

    units = sorted({order(view) for view in shared})
    held = set(units[: max(1, round(val_share * len(units)))])
    parts = []
    for validating in (False, True):
        views = [v for v in shared if (order(v) in held) == validating][: limit or None]
        if not views:
            raise DatasetError(f"taskonomy in {root}: too few views for a training and a validation set")
        rows = []
        for view in views:
            row = {"image": read_image(found["rgb"][view], size)}
            for name in wanted:
                row[name] = _taskonomy_label(name, found[_DOMAINS[name]][view], size)
            rows.append(row)
        classes = {"segmentation": 17, "object": 1000, "scene": 365}
        ids = tuple("/".join(v) for v in views)
        parts.append(LabelledSet("taskonomy", ids, _stack(rows, "taskonomy"), classes))
    return AuxData(parts[0], parts[1])


def _taskonomy_files(root: Path, domain: str) -> dict[tuple[str, str], Path]:
    """The files of a domain, by (building, view)."""
    places = [root / domain / b for b in folders(root / domain)]
    places += [root / b / domain for b in folders(root) if (root / b / domain).is_dir()]
    files = {}
    for place in places:
        building = place.name if place.parent.name == domain else place.parent.name
        for file in listing(place, (".png", ".npy")):
            if match := _TASKONOMY_NAME.fullmatch(file.stem):
                files[building, match[1]] = file
    return files


def _taskonomy_label(name: str, path: Path, size: Pixels | None) -> Array:
    if name in ("object", "scene"):
        try:
            scores = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: not a readable array ({error})") from error
        return np.array(int(np.argmax(scores)), np.int64)
    if name == "normals":
        vectors = nearest(read_image(path), size).astype(np.float32) / 127.5 - 1
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
        return np.where(length > 0.5, vectors / np.maximum(length, 1e-6), 0).astype(np.float32)
    if name == "segmentation":
        values = read_mask(path, size)
        return np.where(values > 0, values - 1, IGNORE).astype(np.uint8)
    values = nearest(_read_16bit(path), size)
    if name == "depth":
        return np.where(values < 65535, values / 512, 0).astype(np.float32)
    return (values > 65535 / 16).astype(np.uint8)


READERS: dict[str, Callable[..., AuxData]] = {
    "indoor": _indoor,
    "nyuv2": _nyuv2,
    "cityscapes": _cityscapes,
    "camvid": _camvid,
    "taskonomy": _taskonomy,
}
