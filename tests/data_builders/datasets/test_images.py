"""The readers of photos: label mappings, subset rules, sizes, and damaged files."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasbench_mr.data_builders import datasets
from nasbench_mr.data_builders.datasets import opening
from nasbench_mr.data_builders.datasets.images import ImageNet
from nasbench_mr.errors import DatasetError, InvalidArgumentError

Trees = dict[str, tuple[Path, dict[str, Any]]]
#: The official table: the trainId of each labelId from 0 to 33.
TRAIN_IDS = [
    255, 255, 255, 255, 255, 255, 255, 0, 1, 255, 255, 2, 3, 4, 255, 255, 255,
    5, 255, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255, 255, 16, 17, 18,
]  # fmt: skip


def scene(root: Path, labels: np.ndarray, photo: tuple[int, int] | None = None) -> None:
    """Write a Cityscapes tree of one scene."""
    for top in ("leftImg8bit", "gtFine"):
        (root / top / "train" / "ulm").mkdir(parents=True, exist_ok=True)
    height, width = photo or labels.shape
    Image.new("RGB", (width, height)).save(root / "leftImg8bit/train/ulm/ulm_0_0_leftImg8bit.png")
    Image.fromarray(labels).save(root / "gtFine/train/ulm/ulm_0_0_gtFine_labelIds.png")


def test_cityscapes_label_ids_become_train_ids(tmp_path: Path) -> None:
    scene(tmp_path, np.arange(34, dtype=np.uint8).reshape(2, 17))
    data = datasets.load("cityscapes", tmp_path, "train")
    assert data[0]["mask"].ravel().tolist() == TRAIN_IDS
    assert data.classes[:3] == ("road", "sidewalk", "building")
    assert data.classes[11:] == (
        "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    )  # fmt: skip
    assert data.ids == ("ulm_0_0",)


def test_cityscapes_refuses_what_is_no_label(tmp_path: Path) -> None:
    scene(tmp_path, np.full((2, 3), 34, np.uint8))
    data = datasets.load("cityscapes", tmp_path, "train")
    with pytest.raises(DatasetError, match=r"labelIds\.png: label 34; expected cityscapes labels 0 to 33"):
        data[0]
    scene(tmp_path, np.zeros((2, 3), np.uint8), photo=(4, 6))
    with pytest.raises(DatasetError, match="3 x 2 pixels; its photo has 6 x 4"):
        data[0]
    scene(tmp_path, np.zeros((2, 3), np.uint16))
    with pytest.raises(DatasetError, match=r"of mode I.*; expected one 8-bit channel"):
        data[0]


def test_camvid_void_is_ignored(trees: Trees) -> None:
    root, _ = trees["camvid"]
    stored = np.array(Image.open(root / "trainannot" / "train_2.png"))
    assert set(stored.ravel()) == set(range(12))
    mask = datasets.load("camvid", root, "train")[2]["mask"]
    assert np.array_equal(mask, np.where(stored == 11, 255, stored))


def test_camvid_in_blocks_leaves_the_official_val_alone(tmp_path: Path) -> None:
    for folder in ("train", "trainannot", "val", "valannot"):
        (tmp_path / folder).mkdir()
    frames = [f"a_{k:02}" for k in range(20)] + [f"b_f{k:02}" for k in range(7)]
    for folder, names in (("train", frames), ("val", ["a_20"])):
        for name in names:
            Image.new("RGB", (4, 3)).save(tmp_path / folder / f"{name}.jpg")
            Image.new("L", (4, 3)).save(tmp_path / f"{folder}annot" / f"{name}.png")
    held = datasets.load("camvid", tmp_path, "val", blocks=True)
    # Frame k of n is in block 10 k // n; 2 and 7 are held out. Of seven: 20 // 7 = 2 and 50 // 7 = 7.
    assert held.ids == ("a_04", "a_05", "a_14", "a_15", "b_f02", "b_f05")
    rest = datasets.load("camvid", tmp_path, "train", blocks=True)
    assert sorted(rest.ids + held.ids) == frames
    assert held[0]["image"].shape == (3, 4, 3)
    assert held.options == {"blocks": True}
    assert datasets.load("camvid", tmp_path, "val").ids == ("a_20",)
    for frame in frames[1:]:
        (tmp_path / "train" / f"{frame}.jpg").unlink()
    with pytest.raises(DatasetError, match=r"sequences in train/ that are long enough for ten blocks"):
        datasets.load("camvid", tmp_path, "val", blocks=True)


def test_masks_are_resized_without_new_labels(trees: Trees) -> None:
    sample = datasets.load("camvid", trees["camvid"][0], "val", size=(9, 12))[0]
    assert sample["image"].shape == (9, 12, 3)
    assert sample["mask"].shape == (9, 12)
    whole = datasets.load("camvid", trees["camvid"][0], "val")[0]["mask"]
    # Half the size, to the nearest: each pixel is one of its four.
    blocks = whole.reshape(9, 2, 12, 2).transpose(0, 2, 1, 3).reshape(9, 12, 4)
    assert (blocks == sample["mask"][..., None]).any(-1).all()


def test_an_int_is_the_shorter_side(tmp_path: Path) -> None:
    Image.new("RGB", (90, 60)).save(tmp_path / "a.png")
    assert opening.read_image(tmp_path / "a.png", 20).shape == (20, 30, 3)
    assert opening.read_image(tmp_path / "a.png", (7, 5)).shape == (7, 5, 3)
    assert opening.image_size(tmp_path / "a.png") == (60, 90)
    for size in (0, (5, 0), (1, 2, 3), 10_000):
        with pytest.raises(InvalidArgumentError, match="size is"):
            opening.check_size(size)  # type: ignore[arg-type]


def test_imagenet_subsets_follow_the_recorded_rule(trees: Trees) -> None:
    def order(names: list[str], seed: int) -> list[str]:
        return sorted(names, key=lambda n: hashlib.sha256(f"{seed}/{n}".encode()).hexdigest())

    root, _ = trees["imagenet"]
    synsets = sorted(p.name for p in (root / "train").iterdir())
    for seed in (0, 7):
        data = datasets.load("imagenet", root, "train", classes=4, per_class=2, seed=seed)
        assert data.classes == tuple(sorted(order(synsets, seed)[:4]))
        expected = []
        for name in data.classes:
            files = [p.name for p in (root / "train" / name).iterdir()]
            expected += [f"{name}/{f}" for f in sorted(order(files, seed)[:2])]
        assert data.ids == tuple(expected)
        fewer = datasets.load("imagenet", root, "train", classes=2, per_class=1, seed=seed)
        assert set(fewer.ids) < set(data.ids)
    assert len(datasets.load("imagenet", root, "train", classes=0, per_class=0)) == 6 * 3
    with pytest.raises(DatasetError, match=r"missing 44 class folders in train \(6 found\)"):
        datasets.load("imagenet", root, "train")
    with pytest.raises(DatasetError, match=r"missing 1000 images in train/n90000000 \(3 found\)"):
        datasets.load("imagenet", root, "train", classes=6)


def test_imagenet_classes_that_are_too_small_come_last(
    grown: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = grown("imagenet")
    monkeypatch.setitem(ImageNet.PER_CLASS, "train", 3)
    before = datasets.load("imagenet", root, "train", classes=4)
    small = before.classes[1]
    next((root / "train" / small).iterdir()).unlink()
    after = datasets.load("imagenet", root, "train", classes=4)
    assert small not in after.classes
    assert len(set(before.classes) & set(after.classes)) == 3
    # The other splits have the same classes.
    assert datasets.load("imagenet", root, "val", classes=4, per_class=1).classes == after.classes


def test_cifar10_val_may_be_called_test(grown: Callable[[str], Path]) -> None:
    root = grown("cifar10")
    before = datasets.load("cifar10", root, "val")
    (root / "val").rename(root / "test")
    after = datasets.load("cifar10", root, "val")
    assert after.ids == before.ids
    assert after.classes[3] == "cat"
    assert [int(s["label"]) for s in after] == [k for k in range(10) for _ in range(2)]


def test_only_the_formats_of_photos_are_decoded(grown: Callable[[str], Path]) -> None:
    root = grown("cifar10")
    Image.new("RGB", (32, 32)).save(root / "train" / "cat" / "0001.jpg", "GIF")
    with pytest.raises(DatasetError, match=r"cat/0001\.jpg: not a readable image"):
        datasets.load("cifar10", root, "train").verify()


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n" + bytes(40), b"II*\0" + b"\xff" * 60]
)
def test_a_damaged_image_is_named(content: bytes, grown: Callable[[str], Path]) -> None:
    root = grown("cifar10")
    (root / "train" / "cat" / "0001.jpg").write_bytes(content)
    data = datasets.load("cifar10", root, "train")
    with pytest.raises(DatasetError, match=r"cat/0001\.jpg: not a readable image"):
        data[data.ids.index("cat/0001.jpg")]


def test_a_truncated_image_is_named(grown: Callable[[str], Path]) -> None:
    root = grown("cifar10")
    path = root / "train" / "dog" / "0000.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    data = datasets.load("cifar10", root, "train")
    with pytest.raises(DatasetError, match=r"dog/0000\.jpg: not a readable image"):
        data.verify()


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    """A PNG of 40,000 x 40,000 pixels, in its header at least."""
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = (40_000).to_bytes(4, "big") * 2
    # The header's checksum covers its type and its 13 bytes.
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.png: .*(pixels|exceeds limit)"):
        opening.read_mask(tmp_path / "a.png")


def test_text_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match="not a readable text"):
        opening.read_text(tmp_path / "a.txt")
    monkeypatch.setattr(opening, "MAX_TEXT", 1)
    with pytest.raises(DatasetError, match=r"a\.txt: 2 bytes; expected at most 1"):
        opening.read_text(tmp_path / "a.txt")


def test_one_photo_under_two_endings_is_refused(grown: Callable[[str], Path]) -> None:
    for name, path in (("cifar10", "train/cat/0001"), ("camvid", "train/train_1")):
        root = grown(name)
        Image.new("RGB", (32, 32)).save(root / f"{path}.png")
        with pytest.raises(
            DatasetError, match=rf"has both {path[-4:]}.* and .*; remove one|has both {path[6:]}"
        ):
            datasets.load(name, root, "train")


@pytest.mark.parametrize(
    ("name", "photo"),
    [
        ("cifar10", "{}/cat/0001.jpg"),
        ("imagenet", "{}/n90000001/n90000001_0.JPEG"),
        ("camvid", "{}/train_1.jpg"),
        ("cityscapes", "leftImg8bit/{}/altstadt/altstadt_000000_000019_leftImg8bit.png"),
    ],
)
def test_a_photo_of_both_splits_is_refused(name: str, photo: str, grown: Callable[[str], Path]) -> None:
    root = grown(name)
    target = root / photo.format("val")
    target.parent.mkdir(exist_ok=True)
    shutil.copy(root / photo.format("train"), target)
    for labels in ("{}annot/train_1.png", "gtFine/{}/altstadt/altstadt_000000_000019_gtFine_labelIds.png"):
        if (root / labels.format("train")).exists():
            (root / labels.format("val")).parent.mkdir(exist_ok=True)
            shutil.copy(root / labels.format("train"), root / labels.format("val"))
    options = {"classes": 0, "per_class": 0} if name == "imagenet" else {}
    datasets.load(name, root, "train", **options)
    with pytest.raises(DatasetError, match=f"{target.name} and .*train.* are the same photo"):
        datasets.load(name, root, "val", **options)
