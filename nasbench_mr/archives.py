"""Tarballs: unpacking those from outside, which may be hostile, and writing ours, the same to the byte."""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, cast

from nasbench_mr import files
from nasbench_mr.errors import UnsafeFileError

#: Limits for archives: total unpacked bytes, files, and bytes of one header (a long name).
MAX_UNPACKED = 64 << 30
MAX_MEMBERS = 1_000_000
MAX_HEADER = 1 << 20

#: What reading a damaged or hostile archive raises: numbers that no file has, headers nested without end.
_DAMAGE = (
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    ArithmeticError,
    RecursionError,
)
#: How packed files start, and what opens them.
_PACKED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


def extract_tar(
    source: str | os.PathLike[str] | IO[bytes],
    target: str | os.PathLike[str],
    max_bytes: int = MAX_UNPACKED,
    *,
    max_members: int = MAX_MEMBERS,
    largest: Callable[[str], int] | None = None,
) -> None:
    """Unpack a tarball of plain files and folders, plain or packed by gzip, bzip2 or xz, into a folder.

    Args:
        max_bytes, max_members: limits of the whole.
        largest: by a member's name, how many bytes it may have.

    Raises:
        UnsafeFileError: a member is a link, a device, has an absolute path or one that leaves the folder,
            or too large, itself or with the others; also where the archive is truncated or not a tarball.
            What was unpacked before stays in `target`, which callers make with `atomic_folder`.
        StorageError: the disk is full or the folder can't be written.
    """
    name = str(getattr(source, "name", source))
    target = Path(target)
    with contextlib.ExitStack() as stack:
        if isinstance(source, (str, os.PathLike)):
            source = stack.enter_context(open(source, "rb"))
        try:
            stream = _unpacked(source)
            total = 0
            tar = stack.enter_context(tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:"))
            for count, member in enumerate(tar, start=1):
                shown = repr(member.name)
                if not (member.isfile() or member.isdir()) or member.size < 0:
                    raise UnsafeFileError(f"{name}: {shown} is a link or a device; expected plain files")
                total += member.size
                if total > max_bytes:
                    raise UnsafeFileError(f"{name}: unpacks to more than {max_bytes:,} bytes; refused")
                if largest is not None and member.size > (most := largest(member.name)):
                    raise UnsafeFileError(
                        f"{name}: {shown} has {member.size:,} bytes; expected at most {most:,}"
                    )
                if count > max_members:
                    raise UnsafeFileError(f"{name}: has more than {max_members:,} files; refused")
                if os.path.isabs(member.name) or ".." in Path(member.name).parts:
                    raise UnsafeFileError(f"{name}: {shown} is not inside the archive's folder")
                member.mtime = 0  # it may be no time that a file can have
                tar.extract(member, target, filter="data")
            stream.finish()
        except (*_DAMAGE, OSError) as error:
            if isinstance(error, UnsafeFileError):
                raise
            if isinstance(error, OSError) and error.errno in (
                errno.ENOSPC,
                errno.EDQUOT,
                errno.EROFS,
                errno.EACCES,
            ):
                with files.explained(target):
                    raise
            # Other OSErrors: a broken stream, or names that no file system has (too long, a file as folder).
            raise UnsafeFileError(f"{name}: not a complete tarball ({error})") from error


def _unpacked(packed: IO[bytes]) -> _Bounded:
    """Return the decompressed stream; tarfile's own detection would give no hold on what it reads at once."""
    start = packed.read(6)
    packed.seek(-len(start), io.SEEK_CUR)
    for magic, opener in _PACKED.items():
        if start.startswith(magic):
            return _Bounded(opener(packed))
    return _Bounded(packed)


class _Bounded:
    """A stream that is never read in large pieces: files are copied in small ones, and only the header of a
    hostile tarball asks for gigabytes."""

    def __init__(self, stream: IO[bytes]):
        self.stream = stream
        self.tell, self.seek = stream.tell, stream.seek
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise ValueError(f"it has a header of {size:,} bytes")
        self.last = self.stream.read(size)
        return self.last

    def finish(self) -> None:
        """Check that the tarball ended with its end mark, and the packed stream with its checksum; tarfile
        takes the end of the file for the end of the tarball."""
        if self.last != bytes(tarfile.BLOCKSIZE):
            raise EOFError("it ends too early")
        while self.stream.read(MAX_HEADER):
            pass


def write_tar(path: str | os.PathLike[str], members: Iterable[tuple[str, Path]]) -> None:
    """Write (name, file) pairs as a .tar.gz. The same files give the same bytes: no times, no owners."""
    with (
        files.atomic(path) as temporary,
        open(temporary, "wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, file in members:
            data = file.read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))


def pack(folder: Path, names: Iterable[str], top: str, target: str | os.PathLike[str]) -> Path:
    """Write files of a folder as a tarball and, beside it, its `.sha256`; return the tarball's path.

    Args:
        names: the files. The tarball has them in a folder `top`.
        target: a file name ending in .tar.gz, or a folder, where it becomes TOP.tar.gz.
    """
    path = Path(target)
    if path.is_dir() or not path.name.endswith(".tar.gz"):
        path = path / f"{top}.tar.gz"
    write_tar(path, [(f"{top}/{name}", folder / name) for name in sorted(names)])
    files.write_text(f"{path}.sha256", f"{files.sha256(path)}  {path.name}\n")
    return path
