"""One build by the real trainer, on data sets that are each damaged in another way."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nasbench_mr.data_builders import build, generate
from nasbench_mr.data_builders.building import runner
from nasbench_mr.data_builders.datasets.images import Cifar10
from nasbench_mr.data_builders.training import recipes

TINY = {"epochs": 1, "width_mult": 0.1, "train_samples": 0, "workers": 0, "batch_size": 2, "eval_every": 1}
FOLDERS = {
    "data_options": {"classes": 2, "per_class": 0},
    "train_options": {},
    "crop": [32, 32],
    "test_resize": 32,
    "test_crop": [32, 32],
}


def cut(path: Path, count: int) -> None:
    """Removes the last bytes of a file."""
    path.write_bytes(path.read_bytes()[:-count])


def write_photos(folder: Path, count: int, size: tuple[int, int]) -> None:
    folder.mkdir(parents=True)
    for k in range(count):
        pixels = np.random.default_rng(k).integers(256, size=(*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.jpg")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """imagenet is well; cifar10 has an empty class, and one file of each other data set is damaged."""
    generate.make("imagenet", tmp_path / "imagenet", train=2, val=1, classes=2)
    for split in ("train", "val"):
        for name in Cifar10.CLASSES:
            write_photos(tmp_path / "cifar10" / split / name, 1, (32, 32))
        write_photos(tmp_path / "camvid" / split, 10, (180, 240))
        masks = tmp_path / f"camvid/{split}annot"
        masks.mkdir()
        for k in range(10):
            Image.fromarray(np.zeros((180, 240), np.uint8)).save(masks / f"{k}.png")
    (tmp_path / "cifar10/train" / Cifar10.CLASSES[3] / "0.jpg").unlink()
    cut(tmp_path / "camvid/train/1.jpg", 9000)

    generate.make("cityscapes", tmp_path / "cityscapes", train=1, val=1, size=(128, 256))
    label = next((tmp_path / "cityscapes/gtFine/train").rglob("*labelIds.png"))
    Image.fromarray(np.full((128, 256), 99, np.uint8)).save(label)
    generate.make("kitti", tmp_path / "kitti", **{**generate.mini("kitti"), "train": 2, "val": 1})
    cut(next((tmp_path / "kitti/training/velodyne").glob("*.bin")), 3)
    generate.make("hmdb51", tmp_path / "hmdb51", train=2, val=1, classes=16)
    for clip in (tmp_path / "hmdb51").rglob("*.avi"):
        clip.write_bytes(clip.read_bytes()[:300])
    return tmp_path


def test_every_kind_of_damage_is_in_its_row_and_the_rest_goes_on(data: Path, tmp_path: Path) -> None:
    changes = {
        "cls-10-1000": FOLDERS,
        "cls-50-100": FOLDERS | {"lr": 1e30},
        "mini-cls": {},
        "mini-seg": {},
        "seg-4x": {},
        "mini-det3d": {},
        "mini-video": {},
    }
    chosen = [recipes.override(recipes.get(n), TINY | change) for n, change in changes.items()]
    report = build(chosen, runner.draw_codes(1), 1, tmp_path / "out", workers=1, data=data, retries=0)
    found = {o.trial.task: (o.status, o.error or "") for o in report.failures}
    expected = {
        "cls-50-100": ("diverged", "the loss is nan"),
        "mini-cls": ("failed", f"missing images in train/{Cifar10.CLASSES[3]}"),
        "mini-seg": ("failed", "1.jpg"),
        "seg-4x": ("failed", "labelIds.png"),
        "mini-det3d": ("failed", ".bin"),
        "mini-video": ("failed", ".avi"),
    }
    assert {task: status for task, (status, _) in found.items()} == {t: s for t, (s, _) in expected.items()}
    for task, (_, part) in expected.items():
        assert part in found[task][1]
    assert report.tasks["cls-10-1000"].ok == 1
    for task in changes:
        [row] = (
            pd.read_parquet(tmp_path / f"out/tables/{task}.parquet").fillna({"error": ""}).to_dict("records")
        )
        assert (row["status"], row["error"]) == found.get(task, ("ok", ""))
