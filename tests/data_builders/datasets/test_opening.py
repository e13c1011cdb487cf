"""The ways files are opened: admitted formats, limits, conversions, and what came instead of a file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from nasbench_mr.data_builders.datasets import opening
from nasbench_mr.errors import DatasetError, StorageError

READ: dict[str, Callable[[Path], object]] = {
    "image": opening.read_image,
    "label image": opening.read_mask,
    "depth": opening.read_16bit,
    "size": opening.image_size,
    "array": opening.read_array,
    "matlab": lambda path: opening.read_matlab(path, "x"),
}


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf\r\n<!DOCTYPE html><title>404</title>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a pointer of Git LFS"),
        (b"\x00\x01 neither", ""),
    ],
)
def test_what_came_instead_is_named(kind: str, content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"a\.png: not a readable [^(]*\({what}"):
        READ[kind](path)


@pytest.mark.parametrize("kind", READ)
def test_nothing_there_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none: not a readable"):
        READ[kind](tmp_path / "none")


def test_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf000001\r\n")  # as editors of Windows write it
    assert opening.read_text(path).split() == ["000001"]
    path.write_bytes(b"")
    assert opening.read_text(path) == ""
    path.write_text("<html><body>Not found")
    with pytest.raises(DatasetError, match=r"a\.txt: not a readable text \(it is a web page"):
        opening.read_text(path)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "EPS"])
def test_other_formats_are_refused_whatever_their_name(kind: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", kind)
    with pytest.raises(DatasetError, match="not a readable image"):
        opening.read_image(tmp_path / "a.png")


def test_images_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(opening, "MAX_PIXELS", 63)
    with pytest.raises(DatasetError, match="8 x 8 pixels; expected at most 63"):
        opening.read_image(tmp_path / "a.png")
    monkeypatch.setattr(opening, "MAX_IMAGE", 10)
    with pytest.raises(DatasetError, match="bytes; expected at most 10 for an image"):
        opening.read_image(tmp_path / "a.png")


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    """Pillow alone makes all above 255 white."""
    grey = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert opening.read_image(tmp_path / "a.png")[..., 1].tolist() == [[0, 1, 128, 255]]
    assert opening.read_16bit(tmp_path / "a.png").tolist() == grey.tolist()
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(DatasetError, match="an image of mode L; expected one 16-bit channel"):
        opening.read_16bit(tmp_path / "b.png")


def test_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6.0).reshape(2, 3))
    assert opening.read_array(path).tolist() == [[0, 1, 2], [3, 4, 5]]
    whole = path.read_bytes()
    for length in (3, 20, 127, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=r"a\.npy: not a readable NPY file"):
            opening.read_array(path)
    path.write_bytes(whole.replace(b"(2, 3)", b"(2, 3000000000000)".ljust(6)))
    with pytest.raises(DatasetError, match="not a readable NPY file"):
        opening.read_array(path)
    np.save(path, np.array(["text"]))
    with pytest.raises(DatasetError, match="it is of type <U4"):
        opening.read_array(path)
    np.savez(tmp_path / "b.npz", a=np.zeros(2))
    with pytest.raises(DatasetError, match="it does not begin as one"):
        opening.read_array(tmp_path / "b.npz")
    monkeypatch.setattr(opening, "MAX_ARRAY", 10)
    with pytest.raises(DatasetError, match="bytes; expected at most 10 for an array"):
        opening.read_array(path)


# --- HDF5 and MATLAB ----------------------------------------------------------------------------------


def test_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"] = np.arange(6).reshape(3, 2)
        file.create_dataset("packed", (4,), "f4", chunks=(2,), compression="gzip", shuffle=True)
        refs = file.create_dataset("refs", (2,), h5py.ref_dtype)
        for k in range(2):
            refs[k] = file.create_dataset(f"text{k}", data=np.array([k + 5], "u2")).ref
    with open(path, "r+b") as elsewhere:
        fcntl.flock(elsewhere, fcntl.LOCK_EX)  # as HDF5 locks a file that another process writes
        with pytest.raises(OSError, match="unable to lock"):
            h5py.File(path, "r", locking=True)
        check(path)


def check(path: Path) -> None:
    with opening.hdf5(path) as file:
        assert file.read("x").tolist() == [[0, 1], [2, 3], [4, 5]]
        assert file.read("x", 1).tolist() == [2, 3]
        assert file.read("packed").tolist() == [0] * 4
        assert [v.tolist() for v in file.referred("refs")] == [[5], [6]]
        assert ("x" in file, "y" in file) == (True, False)
        with pytest.raises(DatasetError, match=r"a\.mat: .*'y' \(there is no such data set"):
            file.read("y")


def elsewhere(file: h5py.File, folder: Path) -> None:
    """Write a data set whose bytes are those of another file."""
    (folder / "secret").write_bytes(b"password")
    file.create_dataset("x", (8,), "u1", external=[(str(folder / "secret"), 0, 8)])


def linked(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.zeros(3)
    file["x"] = h5py.ExternalLink(str(folder / "other.h5"), "x")


def virtual(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.zeros(3)
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (3,))
    file.create_virtual_dataset("x", layout)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (elsewhere, "stored in other files"),
        (linked, "it is a link"),
        (virtual, "stored in other files"),
        (
            lambda file, _: file.__setitem__("x", h5py.SoftLink("/y")),
            "there is no such data set|it is a link",
        ),
        (lambda file, _: file.create_group("x"), "it is not a data set"),
        (lambda file, _: file.__setitem__("x", "text"), "it is of type object"),
        (lambda file, _: file.create_dataset("x", (4,), "f4", compression="lzf"), "needs other libraries"),
        (
            lambda file, _: file.create_dataset("x", (1 << 20, 1 << 20), "f8", chunks=(8, 8)),
            "expected at most",
        ),
        (
            lambda file, _: file.create_dataset("x", (1 << 15, 1 << 15), "f8", chunks=(1 << 15, 1 << 14)),
            "chunks",
        ),
    ],
)
def test_what_hdf5_could_be_made_to_read_is_refused(
    make: Callable[[h5py.File, Path], Any], message: str, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file, tmp_path)
    with (
        pytest.raises(DatasetError, match=rf"a\.h5: .*({message})"),
        opening.hdf5(tmp_path / "a.h5") as found,
    ):
        found.read("x")


def test_matlab_files_of_both_kinds(tmp_path: Path) -> None:
    savemat(tmp_path / "old.mat", {"x": np.array([[3, 4]]), "y": "text"})
    assert opening.read_matlab(tmp_path / "old.mat", "x").tolist() == [[3, 4]]
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["x"] = np.array([5.0])
    assert opening.read_matlab(tmp_path / "new.mat", "x").tolist() == [5]
    with pytest.raises(DatasetError, match=r"old\.mat: .*there is no such variable"):
        opening.read_matlab(tmp_path / "old.mat", "z")
    with pytest.raises(DatasetError, match=r"old\.mat: .*it is of type <U4"):
        opening.read_matlab(tmp_path / "old.mat", "y")
    content = (tmp_path / "old.mat").read_bytes()
    (tmp_path / "cut.mat").write_bytes(content[:150])
    with pytest.raises(DatasetError, match=r"cut\.mat: not a readable MATLAB file with 'x'"):
        opening.read_matlab(tmp_path / "cut.mat", "x")


def ending(path: Path) -> Callable[[str], object]:
    """Read as a library does that crashes, hangs, or wants too much memory."""

    def read(how: str) -> object:
        if how == "crash":
            os.abort()
        while how == "hang":
            pass
        return np.ones(1 << 33)

    return read


@pytest.mark.parametrize(
    ("how", "message"),
    [("crash", "killed by SIGABRT"), ("hang", "time limit of 1 s"), ("memory", "Unable to allocate")],
)
def test_a_library_that_crashes_or_hangs_is_an_error_of_the_file(
    how: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    arguments = (tmp_path / "a", "test_opening:ending", (tmp_path,))
    with (
        pytest.raises(DatasetError, match=f"reading it failed; the file is damaged .*{message}"),
        opening.apart(*arguments, seconds=1) as ask,
    ):
        ask(how)


def test_a_named_error_passes_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="full"), opening.named(tmp_path, "image"):
        raise StorageError("full")
    with pytest.raises(DatasetError, match=r"\(KeyError\)"), opening.named(tmp_path, "image"):
        raise KeyError
