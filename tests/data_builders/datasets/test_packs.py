"""Packs: what one is on disk, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nasbench_mr.data_builders import datasets
from nasbench_mr.errors import DatasetError, IntegrityError

Trees = dict[str, tuple[Path, dict[str, Any]]]


@pytest.fixture
def kitti(trees: Trees) -> datasets.Dataset:
    return datasets.load("kitti", trees["kitti"][0], "train")


@pytest.fixture
def packed(kitti: datasets.Dataset, tmp_path: Path) -> Path:
    path = tmp_path / "train.h5"
    datasets.pack(kitti, path)
    return path


def test_anything_that_reads_hdf5_reads_a_pack(packed: Path, kitti: datasets.Dataset) -> None:
    sizes = [len(s["points"]) for s in kitti]
    with h5py.File(packed) as file:
        assert json.loads(file.attrs["about"])["options"] == {"in_image": True}
        assert (
            json.loads(file["ids"][()].tobytes())
            == list(kitti.ids)
            == ["000000", "000001", "000002", "000003"]
        )
        group = file["samples/points"]
        assert group["shapes"][()].tolist() == [[n, 4] for n in sizes]
        assert group["offsets"][()].tolist() == [0, *np.cumsum([4 * n for n in sizes])]
        values = np.concatenate([s["points"].ravel() for s in kitti])
        assert np.array_equal(group["data"][()], values)
        assert group.attrs["sha256"] == hashlib.sha256(values.tobytes()).hexdigest()


def test_the_same_samples_give_the_same_bytes(packed: Path, kitti: datasets.Dataset, tmp_path: Path) -> None:
    datasets.pack(kitti, tmp_path / "again.h5", workers=5)
    assert (tmp_path / "again.h5").read_bytes() == packed.read_bytes()
    # A pack of a pack, too.
    datasets.pack(datasets.Pack(packed), tmp_path / "copy.h5")
    assert (tmp_path / "copy.h5").read_bytes() == packed.read_bytes()


def test_samples_larger_than_a_chunk(tmp_path: Path) -> None:
    """4 MiB is the largest chunk; these clips have 6 MB and lie across chunks."""

    class Long(datasets.Dataset):
        NAME, PROBLEM, split, classes, ids = "hmdb51", "video", "train", ("a", "b"), ("x", "y", "z")
        options: dict[str, object] = {}  # noqa: RUF012

        def _read(self, index: int) -> datasets.Sample:
            clip = np.random.default_rng(index).integers(0, 256, (20, 250, 400, 3), np.uint8)
            return {"clip": clip, "label": np.array(index % 2)}

    packed = datasets.pack(Long(), tmp_path / "train.h5")
    for index in (2, 0, 1):
        assert np.array_equal(packed[index]["clip"], Long()[index]["clip"])
    packed.verify()


def test_altered_data_is_noticed(packed: Path, kitti: datasets.Dataset) -> None:
    value = kitti[2]["points"][7].tobytes()
    content = bytearray(packed.read_bytes())
    content[content.index(value)] ^= 1
    packed.write_bytes(content)
    with pytest.raises(IntegrityError, match="the data of 'points' has changed"):
        datasets.Pack(packed).verify()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
def test_a_truncated_pack_is_refused(share: float, packed: Path) -> None:
    os.truncate(packed, int(os.path.getsize(packed) * share))
    with pytest.raises(DatasetError, match=r"train\.h5: not a complete pack"):
        datasets.Pack(packed)


def rewrite(path: Path, change: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def _drop(name: str) -> Callable[[h5py.File], object]:
    return lambda file: file.__delitem__(name)


def _put(name: str, value: object) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.attrs.__setitem__("format", "another"),
        lambda file: file.attrs.__delitem__("about"),
        lambda file: file.attrs.__setitem__("about", "{"),
        lambda file: file.attrs.__setitem__("about", "[]"),
        _drop("ids"),
        _drop("samples"),
        _drop("samples/points/offsets"),
        _put("samples/points/offsets", np.array([0, 4, 8, 12, 1 << 40])),
        _put("samples/points/shapes", np.array([[-1, -4]] * 4)),
        _put("samples/points/shapes", np.array([[1 << 31, 1 << 31]] * 4)),
        _put("samples/points/data", np.zeros(8, "f8")),
        _put("samples/points/data", np.zeros(8, np.float32)),
        lambda file: file.move("samples", "others"),
    ],
)
def test_a_pack_that_contradicts_itself_is_refused(
    change: Callable[[h5py.File], object], packed: Path
) -> None:
    rewrite(packed, change)
    with pytest.raises(DatasetError, match=r"train\.h5"):
        datasets.Pack(packed)


def test_an_option_at_its_default_agrees_with_a_pack(trees: Trees, tmp_path: Path) -> None:
    datasets.pack(datasets.load("camvid", trees["camvid"][0], "val"), tmp_path / "val.h5")
    assert len(datasets.load("camvid", tmp_path, "val", blocks=False)) == 2
    with pytest.raises(DatasetError, match="was packed with blocks=False; asked for True"):
        datasets.load("camvid", tmp_path, "val", blocks=True)


def test_a_pack_of_something_else_is_refused(packed: Path, trees: Trees) -> None:
    with pytest.raises(DatasetError, match="is a pack of kitti train; expected kitti val"):
        datasets.load("kitti", packed, "val")
    with pytest.raises(DatasetError, match="was packed with in_image=True; asked for False"):
        datasets.load("kitti", packed.parent, "train", in_image=False)
    assert len(datasets.load("kitti", packed.parent, "train", in_image=True)) == 4


def test_a_pack_is_read_only_with_the_options_it_was_made_with(trees: Trees, tmp_path: Path) -> None:
    root = trees["camvid"][0]
    small = datasets.load("camvid", root, "val", size=(9, 12))
    assert datasets.pack_name(small) != "val.h5"
    datasets.pack(small, tmp_path / datasets.pack_name(small))
    # What is not asked for counts as the default: a resized pack is none of the whole photos.
    with pytest.raises(
        DatasetError, match=r"packed with size=\[9, 12\]; asked for None; and its files can't"
    ):
        datasets.load("camvid", tmp_path, "val")
    whole = datasets.load("camvid", root, "val")
    assert datasets.pack_name(whole) == "val.h5"
    datasets.pack(whole, tmp_path / "val.h5")
    for options, size in (({}, whole[0]["mask"].shape), ({"size": (9, 12)}, (9, 12))):
        found = datasets.load("camvid", tmp_path, "val", **options)
        assert isinstance(found, datasets.Pack)
        assert found[0]["mask"].shape == size


def test_where_no_pack_fits_the_files_are_read(grown: Callable[[str], Path]) -> None:
    root = grown("camvid")
    datasets.pack(datasets.load("camvid", root, "val", size=(9, 12)), root / "val.h5")
    found = datasets.load("camvid", root, "val", size=(6, 8))
    assert not isinstance(found, datasets.Pack)
    assert found[0]["mask"].shape == (6, 8)


def test_a_failed_pack_leaves_nothing(grown: Callable[[str], Path], tmp_path: Path) -> None:
    root = grown("kitti")
    (root / "training" / "velodyne" / "000002.bin").write_bytes(b"123")
    target = tmp_path / "packs"
    with pytest.raises(DatasetError, match=r"000002\.bin: 3 bytes"):
        datasets.pack(datasets.load("kitti", root, "train"), target / "train.h5")
    assert list(target.iterdir()) == []
