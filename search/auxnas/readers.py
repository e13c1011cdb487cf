"""Data sets with several labels an image: `load` reads one of `READERS` into memory.

| data | labels | layout below its folder |
|---|---|---|
| indoor | segmentation, normals, depth, scene | NYUv2's, generated on first use (`scenes`) |
| nyuv2 | segmentation, depth, normals, scene | nyu_depth_v2_labeled.mat, classMapping40.mat, splits.mat |
| cityscapes | segmentation, disparity | Cityscapes' own |
| camvid | segmentation, edges (of the image) | {train,val}/ and {train,val}annot/ |
| taskonomy | normals, depth, segmentation, edges, object, scene | <domain>/<building>/point_*_<domain>.png |
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench_mr.data_builders import datasets
from nasbench_mr.data_builders.datasets import IGNORE, Array
from nasbench_mr.data_builders.datasets.base import folders, listing
from nasbench_mr.data_builders.datasets.opening import read_16bit, read_array, read_image, read_mask
from nasbench_mr.errors import (
    DatasetError,
    InvalidArgumentError,
    UnknownTaskError,
    did_you_mean,
)
from nasbench_mr.plugins import Registry
from nasbench_mr.search.auxnas import nyuv2, scenes
from nasbench_mr.search.auxnas.data import AuxData, LabelledSet, Pixels, nearest, stack

#: Taskonomy: the folder (domain) of each label.
_DOMAINS = {
    "normals": "normal", "depth": "depth_zbuffer", "segmentation": "segment_semantic",
    "edges": "edge_texture", "object": "class_object", "scene": "class_scene",
}  # fmt: skip


def load(
    name: str, root: str | os.PathLike[str], size: Pixels | None = None, limit: int = 0, **options: Any
) -> AuxData:
    """Read a data set's training and validation sets into memory.

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
    reader = READERS[name]
    datasets.check_options(reader, options)
    if size is not None and (len(size) != 2 or min(size) < 8):
        raise InvalidArgumentError(f"size is {size}; expected (height, width), at least 8 pixels each")
    if limit < 0:
        raise InvalidArgumentError(f"limit is {limit}; expected at least 0 samples of a set (0: all)")
    about = {"root": os.fspath(root), "size": size, "limit": limit, "options": options}
    return replace(reader(Path(root), size, limit, **options), about=about)


def _indoor(
    root: Path,
    size: Pixels | None,
    limit: int,
    *,
    train: int | None = None,
    val: int | None = None,
    seed: int | None = None,
) -> AuxData:
    """Return generated rooms in NYUv2's layout (see `scenes`), made on first use.

    Below `root` each number of scenes, seed and size has a folder of its own. A `root` that holds a set
    itself (`make`) is read as it is.

    Options:
        train, val: scenes to make, 200 and 100.
        seed: of the scenes, 0.
    """
    place = root
    if not (root / nyuv2.LABELLED).is_file():
        counts = 200 if train is None else train, 100 if val is None else val, seed or 0
        made = size or scenes.SIZE
        place = root / "{}-{}-seed{}-{}x{}".format(*counts, *made)
        if not place.exists():
            scenes.make(place, train=counts[0], val=counts[1], seed=counts[2], size=made)
    elif (train, val, seed) != (None, None, None):
        raise InvalidArgumentError(f"{root} holds rooms already; train, val and seed are for making them")
    data = nyuv2.read(place, size, limit)
    return AuxData(replace(data.train, name="indoor"), replace(data.val, name="indoor"))


def edges_of(image: Array, share: float = 0.15) -> npt.NDArray[np.uint8]:
    """Return the edges of a photo `(H, W, 3)`: `(H, W)`, 1 for the `share` of pixels that change most."""
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
    root: Path, size: Pixels | None, limit: int, *, share: float = 0.15, blocks: bool = False
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
        parts.append(LabelledSet("camvid", found.ids[: len(rows)], stack(rows, f"camvid {split}"), classes))
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
            stored = read_16bit(path).astype(np.float32)
            disparity = np.where(stored > 0, (stored - 1) / 256, 0).astype(np.float32)
            sample = found[i]
            if size is not None:
                disparity = nearest(disparity, size) * np.float32(size[1] / stored.shape[1])
            rows.append({"image": sample["image"], "segmentation": sample["mask"], "disparity": disparity})
        classes = {"segmentation": len(found.classes)}
        parts.append(
            LabelledSet("cityscapes", found.ids[: len(rows)], stack(rows, f"cityscapes {split}"), classes)
        )
    return AuxData(parts[0], parts[1])


_TASKONOMY_NAME = re.compile(r"(point_\d+_view_\d+)_domain_\w+")


def _taskonomy(
    root: Path, size: Pixels | None, limit: int, *, labels: str = "normals,depth", val_share: float = 0.2
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
        parts.append(LabelledSet("taskonomy", ids, stack(rows, "taskonomy"), classes))
    return AuxData(parts[0], parts[1])


def _taskonomy_files(root: Path, domain: str) -> dict[tuple[str, str], Path]:
    """Return the files of a domain, by (building, view)."""
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
        scores = read_array(path)
        if not scores.size or not np.isfinite(scores).all():
            raise DatasetError(f"{path}: scores that are missing or not finite; expected one for each class")
        return np.array(int(np.argmax(scores)), np.int64)
    if name == "normals":
        vectors = nearest(read_image(path), size).astype(np.float32) / 127.5 - 1
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
        return np.where(length > 0.5, vectors / np.maximum(length, 1e-6), 0).astype(np.float32)
    if name == "segmentation":
        values = read_mask(path, size)
        return np.where(values > 0, values - 1, IGNORE).astype(np.uint8)
    values = nearest(read_16bit(path), size).astype(np.float32)
    if name == "depth":
        return np.where(values < 65535, values / 512, 0).astype(np.float32)
    return (values > 65535 / 16).astype(np.uint8)


READERS = Registry[Callable[..., AuxData]](
    "data set",
    {
        "indoor": _indoor,
        "nyuv2": nyuv2.read,
        "cityscapes": _cityscapes,
        "camvid": _camvid,
        "taskonomy": _taskonomy,
    },
)
