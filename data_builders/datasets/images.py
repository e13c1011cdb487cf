"""Photos: readers for ImageNet folders, CIFAR-10 as an image folder, Cityscapes and CamVid."""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np

from nasbench_mr.data_builders.datasets.base import IGNORE, Reader, Sample, folders, listing
from nasbench_mr.data_builders.datasets.opening import Array, Size, check_size, read_image, read_mask
from nasbench_mr.errors import DatasetError, InvalidArgumentError

_PHOTOS = (".jpg", ".jpeg", ".png")


def _photos(folder: Path) -> list[Path]:
    """Return the photos of a folder, by name; raise `DatasetError` where only the endings of two differ."""
    found = listing(folder, _PHOTOS)
    for a, b in pairwise(sorted(found, key=lambda photo: photo.stem)):
        if a.stem == b.stem:
            raise DatasetError(f"{folder} has both {a.name} and {b.name}; remove one, as they are one photo")
    return found


def _refuse_shared(photos: Iterable[Path], root: Path, split: str) -> None:
    """Raise `DatasetError` for a photo of a split that is one of train's as well: the same name and bytes.

    Names alone say nothing: CIFAR-10's folders number the photos of each split.
    """
    for photo in photos if split != "train" else ():
        parts = ["train" if part == split else part for part in photo.relative_to(root).parts]
        twin = root.joinpath(*parts)
        try:
            same = filecmp.cmp(photo, twin, shallow=False)  # after their sizes
        except OSError:
            continue
        if same:
            raise DatasetError(
                f"{photo} and {twin} are the same photo; expected splits that share none, as a network would "
                "be tested on what it was trained on"
            )


class _Folders(Reader):
    """Classification from one folder a class."""

    PROBLEM = "classification"

    def _fill(self, files: dict[str, list[Path]], size: Size) -> None:
        """Take the classes in the order of `files`."""
        self.size = check_size(size)
        self.classes = tuple(files)
        self._samples = [(f, label) for label, of_class in enumerate(files.values()) for f in of_class]
        self.ids = tuple(f"{f.parent.name}/{f.name}" for f, _ in self._samples)
        folder = self._samples[0][0].parent.parent.name  # of the split, which may be "test" for val
        _refuse_shared((f for f, _ in self._samples), self.root, folder)

    def _read(self, index: int) -> Sample:
        file, label = self._samples[index]
        return {"image": read_image(file, self.size), "label": np.array(label, np.int64)}


class Cifar10(_Folders):
    """CIFAR-10 as an image folder. The split `val` may lie in a folder `test`, as it is often published.

    Options:
        size: resize to it.
    """

    NAME = "cifar10"
    LAYOUT = "{train,val}/<class>/*.jpg for its 10 classes, airplane to truck"
    SOURCE = "Get it with: nasbench-mr data fetch cifar10 FOLDER"
    CLASSES = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip

    def __init__(self, root: str | os.PathLike[str], split: str, size: Size = None):
        super().__init__(root, split, size=size)
        top = self.root / split
        if split == "val" and not top.is_dir() and (self.root / "test").is_dir():
            top = self.root / "test"
        files = {c: _photos(top / c) for c in self.CLASSES}
        if missing := [f"images in {top.name}/{c}" for c, found in files.items() if not found]:
            raise self.incomplete(missing)
        self._fill(files, size)


class ImageNet(_Folders):
    """A subset of ImageNet, from one folder a class (`n01440764`, ...).

    The rule of the subset, here and forever: classes are ordered by the SHA-256 of "<seed>/<class>", those
    with fewer than 1,000 images in train after all others; a class's images by that of "<seed>/<file name>".
    The first ones are taken (then sorted by name). So 10 classes are among the 50, and 100 images among the
    1,000; the seed and the numbers stand in every pack. (Of ILSVRC 2012's classes some have 732 images.)

    Options:
        classes: how many; 0 for all.
        per_class: images of each class; 0 for all. By default 1,000 of train and 50 of val.
        seed: of the rule.
        size: resize to it.
    """

    NAME = "imagenet"
    LAYOUT = "{train,val}/<class>/*.JPEG, the same class folders in both"
    SOURCE = (
        "Get ImageNet (ILSVRC 2012) from image-net.org and sort val into class folders, "
        "or generate a stand-in: nasbench-mr data make imagenet FOLDER"
    )
    #: Images of each class that are taken by default.
    PER_CLASS: ClassVar[dict[str, int]] = {"train": 1000, "val": 50}

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        *,
        classes: int = 50,
        per_class: int | None = None,
        seed: int = 0,
        size: Size = None,
    ):
        per_class = self.PER_CLASS.get(split, 0) if per_class is None else per_class
        if classes < 0 or per_class < 0:
            raise InvalidArgumentError("classes and per_class must not be negative; 0 means all")
        super().__init__(root, split, classes=classes, per_class=per_class, seed=seed, size=size)
        # The classes are those of train, so that every split numbers them alike.
        found = folders(self.root / "train")
        if len(found) < max(1, classes):
            raise self.incomplete(
                [f"{max(1, classes) - len(found)} class folders in train ({len(found)} found)"]
            )
        chosen = sorted(self._chosen(_ordered(found, seed), classes) if classes else found)
        files, missing = {}, []
        for name in chosen:
            images = {f.name: f for f in _photos(self.root / split / name)}
            if len(images) < max(1, per_class):
                wanted = f"{per_class} images" if per_class else "images"
                missing.append(f"{wanted} in {split}/{name} ({len(images)} found)")
            files[name] = [images[n] for n in sorted(_ordered(images, seed)[: per_class or None])]
        if missing:
            raise self.incomplete(missing)
        self._fill(files, size)

    @classmethod
    def defaults(cls, split: str) -> dict[str, object]:
        """As of every reader."""
        return super().defaults(split) | {"per_class": cls.PER_CLASS.get(split, 0)}

    def _chosen(self, ordered: list[str], count: int) -> list[str]:
        """Return the first classes that are large enough, then the first others."""
        large: list[str] = []
        small: list[str] = []
        for name in ordered:
            if len(large) == count:
                break
            enough = len(listing(self.root / "train" / name, _PHOTOS)) >= self.PER_CLASS["train"]
            (large if enough else small).append(name)
        return (large + small)[:count]


def _ordered(names: list[str] | dict[str, Path], seed: int) -> list[str]:
    return sorted(names, key=lambda n: hashlib.sha256(f"{seed}/{n}".encode()).digest())


class _Pairs(Reader):
    """Segmentation from pairs of a photo and a label image; `_table` maps label values to classes."""

    PROBLEM = "segmentation"
    _table: Array
    _pairs: list[tuple[Path, Path]]
    size: Size

    def _read(self, index: int) -> Sample:
        photo, annotation = self._pairs[index]
        image = read_image(photo, self.size)
        values = read_mask(annotation, self.size)
        if values.shape != image.shape[:2]:
            raise DatasetError(
                f"{annotation}: {values.shape[1]} x {values.shape[0]} pixels; "
                f"its photo has {image.shape[1]} x {image.shape[0]}"
            )
        if values.max(initial=0) >= len(self._table):
            raise DatasetError(
                f"{annotation}: label {values.max()}; expected {self.NAME} labels 0 to {len(self._table) - 1}"
            )
        return {"image": image, "mask": self._table[values]}


class CamVid(_Pairs):
    """CamVid with the usual 11 classes; label 11 (void) is ignored.

    Options:
        size: resize to it.
        blocks: both splits come from the folder `train`: each sequence is cut into ten blocks of consecutive
            frames, of which the third and the eighth validate. The official `val` is a single shot, frames
            07959 to 08159 of one sequence; they look alike, so that one tree taken for a building moves the
            whole metric.
    """

    NAME = "camvid"
    LAYOUT = "{train,val}/*.jpg (or .png) and {train,val}annot/*.png of the same names"
    SOURCE = "Get it with: nasbench-mr data fetch camvid FOLDER"
    CLASSES = (
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian",
        "bicyclist",
    )  # fmt: skip
    _table = np.array([*range(11), IGNORE], np.uint8)
    _HELD_OUT = (2, 7)

    def __init__(self, root: str | os.PathLike[str], split: str, size: Size = None, blocks: bool = False):
        super().__init__(root, split, size=size, blocks=blocks or None)
        self.size = check_size(size)
        self.classes = self.CLASSES
        folder = "train" if blocks else split
        photos = _photos(self.root / folder)
        missing = [] if photos else [f"photos in {folder}/"]
        if blocks and photos:
            photos = self._of_blocks(photos)
            missing = [] if photos else [f"sequences in {folder}/ that are long enough for ten blocks"]
        self._pairs = [(p, self.root / f"{folder}annot" / f"{p.stem}.png") for p in photos]
        labels = {f.name for f in listing(self.root / f"{folder}annot", (".png",))}
        missing += [f"{folder}annot/{a.name}" for _, a in self._pairs if a.name not in labels]
        if missing:
            raise self.incomplete(missing)
        self.ids = tuple(p.stem for p in photos)
        _refuse_shared(photos, self.root, folder)

    def _of_blocks(self, photos: list[Path]) -> list[Path]:
        """Return the photos of this split, where it is cut from sequences.

        A photo's name up to the last `_`.
        """
        sequences: dict[str, list[Path]] = {}
        for photo in photos:
            sequences.setdefault(photo.stem.rpartition("_")[0], []).append(photo)
        return [
            photo
            for frames in sequences.values()
            for k, photo in enumerate(frames)
            if (10 * k // len(frames) in self._HELD_OUT) == (self.split == "val")
        ]


class Cityscapes(_Pairs):
    """Cityscapes, fine annotations: labelIds mapped to the 19 evaluated classes, the others ignored.

    Options:
        size: resize to it.
    """

    NAME = "cityscapes"
    SPLITS = ("train", "val", "test")
    LAYOUT = (
        "leftImg8bit/<split>/<city>/*_leftImg8bit.png and gtFine/<split>/<city>/*_gtFine_labelIds.png of the "
        "same names"
    )
    SOURCE = (
        "Get leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from cityscapes-dataset.com, "
        "or generate a stand-in: nasbench-mr data make cityscapes FOLDER"
    )
    #: The evaluated classes in the order of their trainIds, with their labelIds.
    LABEL_IDS: ClassVar[dict[str, int]] = {
        "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
        "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26,
        "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
    }  # fmt: skip
    _table = np.full(34, IGNORE, np.uint8)
    _table[list(LABEL_IDS.values())] = np.arange(19)

    def __init__(self, root: str | os.PathLike[str], split: str, size: Size = None):
        super().__init__(root, split, size=size)
        self.size = check_size(size)
        self.classes = tuple(self.LABEL_IDS)
        photos, labels = self.root / "leftImg8bit" / split, self.root / "gtFine" / split
        ending, wanted = "_leftImg8bit.png", "_gtFine_labelIds.png"
        self._pairs, missing, ids = [], [], []
        for city in folders(photos):
            found = {f.name for f in listing(labels / city, (wanted.lower(),))}
            for photo in listing(photos / city, (ending.lower(),)):
                stem = photo.name[: -len(ending)]
                if stem + wanted not in found:
                    missing.append(f"gtFine/{split}/{city}/{stem}{wanted}")
                self._pairs.append((photo, labels / city / (stem + wanted)))
                ids.append(stem)
        if not ids:
            missing = [f"photos in leftImg8bit/{split}/<city>/"] + (
                [] if labels.is_dir() else [f"the folder gtFine/{split}"]
            )
        if missing:
            raise self.incomplete(missing)
        self.ids = tuple(ids)
        _refuse_shared((photo for photo, _ in self._pairs), self.root, split)
