"""Small trees of all data sets: generated ones, and hand-made ones in the layouts of CIFAR-10 and CamVid.

Fixtures:
    trees   name: (folder, reader's options); read only
    grown   copies of them, by name, to damage
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasbench_mr.data_builders import datasets, generate
from nasbench_mr.data_builders.datasets.images import CamVid, Cifar10

Tree = tuple[Path, dict[str, Any]]
#: Small ones, in which everything occurs.
MADE: dict[str, dict[str, Any]] = {
    "imagenet": {"train": 3, "val": 2, "classes": 6, "size": 24},
    "cityscapes": {"train": 4, "val": 2, "size": (48, 96)},
    "kitti": generate.mini("kitti") | {"train": 4, "val": 2, "rings": 24},
    "hmdb51": {"train": 3, "val": 1, "classes": 4, "length": 9, "size": (24, 32)},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "imagenet": {"classes": 4, "per_class": 2, "size": (24, 24)},
    "hmdb51": {"frames": 4},
}


def cifar10(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for name in Cifar10.CLASSES:
            (root / split / name).mkdir(parents=True)
            for k in range(count):
                photo = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))
                photo.save(root / split / name / f"{k:04}.jpg")


def camvid(root: Path, size: tuple[int, int] = (18, 24), ending: str = ".jpg") -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for k in range(count):
            photo = rng.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(photo).save(root / split / f"{split}_{k}{ending}")
            mask = rng.integers(0, len(CamVid.CLASSES) + 1, size, np.uint8)
            Image.fromarray(mask).save(root / f"{split}annot" / f"{split}_{k}.png")


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tree]:
    top = tmp_path_factory.mktemp("trees")
    for name, options in MADE.items():
        generate.make(name, top / name, **options)
    cifar10(top / "cifar10")
    camvid(top / "camvid")
    return {name: (top / name, OPTIONS.get(name, {})) for name in datasets.names()}


@pytest.fixture
def grown(trees: dict[str, Tree], tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        target: Path = shutil.copytree(trees[name][0], tmp_path / name)
        return target

    return copy
