"""Packs: what one is on disk, and what is refused."""

from __future__ import annotations

import builtins
import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from nasbench_mr.data_builders import datasets
from nasbench_mr.errors import DatasetError, IntegrityError, StorageError

Trees = dict[str, tuple[Path, dict[str, Any]]]


@pytest.fixture
def kitti(trees: Trees) -> datasets.Dataset:
    return datasets.load("kitti", trees["kitti"][0], "train")


@pytest.fixture
def packed(kitti: datasets.Dataset, tmp_path: Path) -> Path:
    path = tmp_path / "train.safetensors"
    datasets.pack(kitti, path)
    return path


def read(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return a pack's header and what stands behind it."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def write(path: Path, header: Any, rest: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + rest)


def test_anything_that_reads_safetensors_reads_a_pack(packed: Path, kitti: datasets.Dataset) -> None:
    found = load_file(packed)
    assert json.loads(found["ids"].tobytes()) == list(kitti.ids) == ["000000", "000001", "000002", "000003"]
    assert found["shapes/points"].tolist() == [[len(s["points"]), 4] for s in kitti]
    assert found["data"].tobytes() == b"".join(v.tobytes() for s in kitti for v in s.values())
    header, _ = read(packed)
    about = header["__metadata__"]
    assert json.loads(about["options"]) == {"in_image": True}
    assert list(json.loads(about["keys"])) == list(kitti[0])
    assert json.loads(about["sha256"])["data"] == hashlib.sha256(found["data"].tobytes()).hexdigest()


@pytest.mark.skipif(sys.platform == "win32", reason="locks of other systems")
def test_a_lock_of_another_process_is_no_obstacle(packed: Path, kitti: datasets.Dataset) -> None:
    """Packs are mapped and never change, so nothing locks them, and no lock of a backup keeps anyone out."""
    import fcntl

    with open(packed, "rb+") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = datasets.Pack(packed)
        found.verify()
        assert np.array_equal(found[1]["points"], kitti[1]["points"])


def test_single_numbers_lie_together(trees: Trees, tmp_path: Path) -> None:
    """So that labels are read without touching what they belong to."""
    data = datasets.load("cifar10", trees["cifar10"][0], "val")
    datasets.pack(data, tmp_path / "val.safetensors")
    assert load_file(tmp_path / "val.safetensors")["numbers/label"].tolist() == [
        int(s["label"]) for s in data
    ]


def test_the_same_samples_give_the_same_bytes(packed: Path, kitti: datasets.Dataset, tmp_path: Path) -> None:
    datasets.pack(kitti, tmp_path / "again", workers=5)
    assert (tmp_path / "again").read_bytes() == packed.read_bytes()
    # A pack of a pack, too.
    datasets.pack(datasets.Pack(packed), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == packed.read_bytes()


class Made(datasets.Dataset):
    """Samples given as they are."""

    NAME, PROBLEM, split, classes = "hmdb51", "video", "train", ("a", "b")
    options: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, *samples: datasets.Sample):
        self.samples, self.ids = samples, tuple(f"sample {k}" for k in range(len(samples)))

    def _read(self, index: int) -> datasets.Sample:
        return self.samples[index]


def test_empty_arrays_and_odd_sizes(tmp_path: Path) -> None:
    """What follows a byte array of odd length lies at an odd place in the file."""
    samples = [
        {"clip": np.arange(n, dtype=np.uint8), "boxes": np.full((k, 7), n, np.float32), "label": np.array(k)}
        for n, k in ((3, 0), (0, 2), (5, 1))
    ]
    packed = datasets.pack(Made(*samples), tmp_path / "train.safetensors")
    for found, sample in zip(packed, samples, strict=True):
        for key, value in sample.items():
            assert np.array_equal(found[key], value)
            assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape)
    packed.verify()


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "hmdb51 train: no samples to pack"),
        ([{"clip": np.zeros(2, np.int16)}], "'clip' is int16; expected uint8, int64, float32, float64"),
        (
            [{"clip": np.zeros(2, np.uint8)}, {"clip": np.zeros((2, 2), np.uint8)}],
            "sample 1 has arrays of other",
        ),
        ([{"clip": np.zeros(2, np.uint8)}, {"image": np.zeros(2, np.uint8)}], "sample 1 has arrays of other"),
    ],
)
def test_what_cannot_be_packed_is_refused(samples: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        datasets.pack(Made(*samples), tmp_path / "packs" / "train.safetensors")
    assert not list(tmp_path.glob("packs/*"))


def test_altered_data_is_noticed(packed: Path, kitti: datasets.Dataset) -> None:
    for value, name in ((kitti[2]["points"][7].tobytes(), "data"), (b'"000002"', "ids")):
        content = bytearray(packed.read_bytes())
        content[content.index(value) + 1] ^= 1
        (packed.parent / name).write_bytes(content)
        with pytest.raises(IntegrityError, match=f"'{name}' has changed"):
            datasets.Pack(packed.parent / name).verify()


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.02, 0.5, 0.97])
def test_a_truncated_pack_is_refused(share: float, packed: Path) -> None:
    os.truncate(packed, int(os.path.getsize(packed) * share))
    with pytest.raises(DatasetError, match=r"train\.safetensors: not a complete pack"):
        datasets.Pack(packed)


def _about(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header["__metadata__"].update(changes)


@pytest.mark.parametrize(
    "change",
    [
        _about(format="another"),
        _about(classes="{"),
        _about(classes="3"),
        _about(classes="[1, 2]"),
        _about(options="[1]"),
        _about(problem="chess"),
        _about(keys="{}"),
        _about(keys="[]"),
        _about(keys='{"points": "F16"}'),
        _about(keys='{"nothing": "U8"}'),
        _about(sha256="["),
        _about(classes="[" * 100_000),
        lambda header: header["__metadata__"].pop("name"),
        lambda header: header.pop("__metadata__"),
        lambda header: header.pop("ids"),
        lambda header: header["data"].update(data_offsets=[0, 1 << 40]),
        lambda header: header["ids"].update(data_offsets=[5, 3]),
    ],
)
def test_a_pack_whose_header_contradicts_itself_is_refused(
    change: Callable[[dict[str, Any]], object], packed: Path
) -> None:
    header, rest = read(packed)
    change(header)
    write(packed, header, rest)
    with pytest.raises(DatasetError, match=r"train\.safetensors"):
        datasets.Pack(packed)


@pytest.mark.parametrize("shape", [(-1, -4), (1 << 31, 1 << 31), (1 << 62, 1 << 62), (0, 4), (7, 4)])
def test_shapes_that_do_not_fit_the_data_are_refused(shape: tuple[int, int], packed: Path) -> None:
    header, rest = read(packed)
    at = header["shapes/points"]["data_offsets"][0]
    write(packed, header, rest[:at] + np.array(shape, np.int64).tobytes() + rest[at + 16 :])
    with pytest.raises(DatasetError, match=r"train\.safetensors: not a complete pack"):
        datasets.Pack(packed)


def test_any_damage_is_an_error_or_a_pack(packed: Path) -> None:
    """Bytes changed at random, most of them in the header and the tables."""
    header, rest = read(packed)
    whole, errors = packed.read_bytes(), 0
    rng = np.random.default_rng(0)
    for k in range(300):
        content = bytearray(whole)
        end = len(content) if k % 4 == 0 else len(content) - len(rest) + header["data"]["data_offsets"][0]
        for at in rng.integers(0, end, rng.integers(1, 8)):
            content[at] = rng.integers(256)
        packed.write_bytes(content)
        try:
            list(datasets.Pack(packed))
        except DatasetError:
            errors += 1
    assert 0 < errors < 300


def test_a_full_disk_leaves_nothing(
    kitti: datasets.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = builtins.open

    def opened(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = plain(path, mode, *args, **options)
        if mode != "wb":
            return file

        class Full:
            """A file for 10,000 bytes."""

            def write(self, data: bytes) -> int:
                if file.tell() + len(data) > 10_000:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return int(file.write(data))

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def __enter__(self) -> Full:
                return self

            def __exit__(self, *error: object) -> None:
                file.close()

        return Full()

    monkeypatch.setattr(builtins, "open", opened)
    with pytest.raises(StorageError, match="the disk is full"):
        datasets.pack(kitti, tmp_path / "packs" / "train.safetensors")
    assert list((tmp_path / "packs").iterdir()) == []


def test_an_option_at_its_default_agrees_with_a_pack(trees: Trees, tmp_path: Path) -> None:
    datasets.pack(datasets.load("camvid", trees["camvid"][0], "val"), tmp_path / "val.safetensors")
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
    assert datasets.pack_name(small) != "val.safetensors"
    datasets.pack(small, tmp_path / datasets.pack_name(small))
    # What is not asked for counts as the default: a resized pack is none of the whole photos.
    with pytest.raises(
        DatasetError, match=r"packed with size=\[9, 12\]; asked for None; and its files can't"
    ):
        datasets.load("camvid", tmp_path, "val")
    whole = datasets.load("camvid", root, "val")
    assert datasets.pack_name(whole) == "val.safetensors"
    datasets.pack(whole, tmp_path / "val.safetensors")
    for options, size in (({}, whole[0]["mask"].shape), ({"size": (9, 12)}, (9, 12))):
        found = datasets.load("camvid", tmp_path, "val", **options)
        assert isinstance(found, datasets.Pack)
        assert found[0]["mask"].shape == size


def test_where_no_pack_fits_the_files_are_read(grown: Callable[[str], Path]) -> None:
    root = grown("camvid")
    datasets.pack(datasets.load("camvid", root, "val", size=(9, 12)), root / "val.safetensors")
    found = datasets.load("camvid", root, "val", size=(6, 8))
    assert not isinstance(found, datasets.Pack)
    assert found[0]["mask"].shape == (6, 8)


def test_a_failed_pack_leaves_nothing(grown: Callable[[str], Path], tmp_path: Path) -> None:
    root = grown("kitti")
    (root / "training" / "velodyne" / "000002.bin").write_bytes(b"123")
    target = tmp_path / "packs"
    with pytest.raises(DatasetError, match=r"000002\.bin: .*3 bytes"):
        datasets.pack(datasets.load("kitti", root, "train"), target / "train.safetensors")
    assert list(target.iterdir()) == []
