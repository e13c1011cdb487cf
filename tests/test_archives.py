"""Tarballs from outside do no harm."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from nasbench_mr import archives
from nasbench_mr.errors import StorageError, UnsafeFileError


def listing(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def member(name: str, data: bytes = b"data", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tarball(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_good_tarballs(mode: str, tmp_path: Path) -> None:
    long = "folder/" + "n" * 200
    folder = member("folder", b"", type=tarfile.DIRTYPE, mode=0o755)
    path = tarball(tmp_path / "x.tar", folder, member(long, b"a" * 70_000), member("b/c", b""), mode=mode)
    archives.extract_tar(path, tmp_path / "out")
    assert listing(tmp_path / "out") == ["b", "b/c", "folder", long]
    assert (tmp_path / "out" / long).read_bytes() == b"a" * 70_000
    with open(path, "rb") as stream:
        archives.extract_tar(stream, tmp_path / "again")
    assert listing(tmp_path / "again") == ["b", "b/c", "folder", long]


LINK = "is a link or a device"
HOSTILE = {
    "absolute": (member("/tmp/nasbench-mr-evil"), "is not inside the archive's folder"),
    "parent": (member("../evil"), "is not inside the archive's folder"),
    "parent inside": (member("a/../../evil"), "is not inside the archive's folder"),
    "symbolic link": (member("x", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), LINK),
    "link to a parent": (member("x", b"", type=tarfile.SYMTYPE, linkname=".."), LINK),
    "hard link": (member("x", b"", type=tarfile.LNKTYPE, linkname="good"), LINK),
    "device": (member("x", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3), LINK),
    "block device": (member("x", b"", type=tarfile.BLKTYPE), LINK),
    "pipe": (member("x", b"", type=tarfile.FIFOTYPE), LINK),
    "a file as a folder": (member("good/x"), "not a complete tarball"),
    "a long name": (member("x" * 5000), "not a complete tarball"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_members(kind: str, tmp_path: Path) -> None:
    evil, message = HOSTILE[kind]
    path = tarball(tmp_path / "x.tar.gz", member("good"), evil)
    with pytest.raises(UnsafeFileError, match=message):
        archives.extract_tar(path, tmp_path / "deep" / "out")
    assert listing(tmp_path / "deep") == ["out", "out/good"]
    assert listing(tmp_path) == ["deep", "deep/out", "deep/out/good", "x.tar.gz"]
    assert not Path("/tmp/nasbench-mr-evil").exists()


def test_permissions_are_tamed(tmp_path: Path) -> None:
    path = tarball(tmp_path / "x.tar.gz", member("x", mode=0o6777, uid=12345, gid=12345))
    archives.extract_tar(path, tmp_path / "out")
    status = (tmp_path / "out" / "x").stat()
    assert status.st_mode & 0o7022 == 0
    assert status.st_uid == os.geteuid()


def test_bombs(tmp_path: Path) -> None:
    path = tarball(tmp_path / "x.tar.gz", member("a", bytes(60_000)), member("b", bytes(60_000)))
    assert path.stat().st_size < 1000
    with pytest.raises(UnsafeFileError, match="unpacks to more than 100,000 bytes; refused"):
        archives.extract_tar(path, tmp_path / "out", max_bytes=100_000)
    assert listing(tmp_path / "out") == ["a"]


def test_a_bomb_in_one_file(tmp_path: Path) -> None:
    """Its size is what the header says, and is not written before it is checked."""
    path = tarball(tmp_path / "x.tar.gz", member("a", bytes(200_000)))
    with pytest.raises(UnsafeFileError, match="unpacks to more than"):
        archives.extract_tar(path, tmp_path / "out", max_bytes=100_000)
    assert listing(tmp_path) == ["x.tar.gz"]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_in_a_header(kind: bytes, tmp_path: Path) -> None:
    """A header that takes gigabytes of memory when it is read whole."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 4 << 30
    path = tmp_path / "x.tar.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(100_000))
    with pytest.raises(UnsafeFileError, match="a header of 4,294,967,296 bytes"):
        archives.extract_tar(path, tmp_path / "out")


def pax(key: str, value: str, repeat: int = 1) -> bytes:
    """Return a tar file: extended headers, one after the other, that say this of one empty file."""
    header = tarfile.TarInfo("x")
    header.pax_headers = {key: value}
    extended = header.tobuf(tarfile.PAX_FORMAT)[:-512]
    return extended * repeat + tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT) + bytes(1024)


def test_times_that_no_file_has_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(pax("mtime", "1e300"))
    archives.extract_tar(tmp_path / "x.tar", tmp_path / "out")
    assert listing(tmp_path / "out") == ["x"]


@pytest.mark.parametrize("kind", ["nested", "long"])
def test_hostile_extended_headers(kind: str, tmp_path: Path) -> None:
    """3,000 extended headers in a row; a record that says it has 1e22 bytes."""
    data = pax("comment", "x", 3000)
    if kind == "long":
        data = pax("comment", "x" * 40)
        record = data[512 : data.index(b"\n", 512) + 1]
        long = b"1" + b"0" * 22 + b" comment=x"
        data = data.replace(record, long + b"x" * (len(record) - len(long) - 1) + b"\n")
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(UnsafeFileError, match="not a complete tarball"):
        archives.extract_tar(tmp_path / "x.tar", tmp_path / "out")


def test_limits_by_name_and_number(tmp_path: Path) -> None:
    path = tarball(tmp_path / "x.tar.gz", member("big", bytes(100)), member("small", bytes(100)))
    with pytest.raises(UnsafeFileError, match="'small' has 100 bytes; expected at most 10"):
        archives.extract_tar(path, tmp_path / "a", largest=lambda name: 10 if name == "small" else 100)
    assert listing(tmp_path / "a") == ["big"]
    with pytest.raises(UnsafeFileError, match="more than 1 files"):
        archives.extract_tar(path, tmp_path / "b", max_members=1)


def test_a_negative_size(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = b"\xff" * 11 + b"\x00"  # base 256: -256
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    (tmp_path / "x.tar").write_bytes(bytes(raw) + bytes(1024))
    with pytest.raises(UnsafeFileError):
        archives.extract_tar(tmp_path / "x.tar", tmp_path / "out")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_truncated_at_any_point(mode: str, tmp_path: Path) -> None:
    whole = tarball(
        tmp_path / "x.tar", member("a", os.urandom(3000)), member("b", os.urandom(3000)), mode=mode
    )
    data = whole.read_bytes()
    cut = tmp_path / "cut.tar"
    # A plain tarball is padded with zeros; of these, the first block is the end mark.
    needed = 2 * (512 + 3072) + 512 if mode == "w" else len(data)
    for k, end in enumerate([*range(10, needed, needed // 25), 512 + 3072, 2 * (512 + 3072), needed - 1]):
        cut.write_bytes(data[: min(end, needed - 1)])
        with pytest.raises(UnsafeFileError, match="not a complete tarball"):
            archives.extract_tar(cut, tmp_path / f"out{k}")


def test_damaged_streams(tmp_path: Path) -> None:
    """A flipped byte anywhere in the compressed stream is noticed, or harmless."""
    for name, pack in {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}.items():
        plain = tarball(tmp_path / "plain.tar", member("a", os.urandom(500)), mode="w")
        packed = bytearray(pack(plain.read_bytes()))
        for k in range(0, len(packed), 29):
            damaged = bytearray(packed)
            damaged[k] ^= 0x55
            path = tmp_path / "x.tar"
            path.write_bytes(damaged)
            try:
                archives.extract_tar(path, tmp_path / name / str(k))
            except UnsafeFileError:
                continue
            assert listing(tmp_path / name / str(k)) == ["a"]


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04 a zip", b"\x1f\x8b", b"\x1f\x8b" + b"x" * 100, bytes(100)]
)
def test_other_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(data)
    with pytest.raises(UnsafeFileError, match=r"x.tar.gz: not a complete tarball"):
        archives.extract_tar(tmp_path / "x.tar.gz", tmp_path / "out")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        archives.extract_tar(tmp_path / "x.tar.gz", tmp_path / "out")


def test_a_tarball_of_the_tar_program(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x").write_text("1")
    made = subprocess.run(["tar", "-C", tmp_path, "-czf", tmp_path / "x.tgz", "in"], check=False)
    if made.returncode == 0:
        archives.extract_tar(tmp_path / "x.tgz", tmp_path / "out")
        assert listing(tmp_path / "out") == ["in", "in/x"]


def test_a_full_disk_while_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tarball(tmp_path / "x.tar.gz", member("x"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile, "copyfileobj", full)
    with pytest.raises(StorageError, match="the disk is full"):
        archives.extract_tar(path, tmp_path / "out")
