"""Writing files so that nothing half-written is ever seen, and reading archives from outside.

Everything this package writes goes through `atomic` (or `atomic_folder`): written beside its place, synced,
renamed. Everything it unpacks goes through `extract_tar`.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import hashlib
import io
import lzma
import os
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from nasbench_mr.errors import IntegrityError, StorageError, UnsafeFileError

#: Limits for archives: total unpacked bytes, files, and bytes of one header (a long name).
MAX_UNPACKED = 64 << 30
MAX_MEMBERS = 1_000_000
MAX_HEADER = 1 << 20

#: How packed files start, and what opens them.
_PACKED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}

#: What the system says when a file can't be written, and what to do then.
_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the quota is used up; free some space and run the same command again",
    errno.EROFS: "the file system is read-only; set NASBENCH_MR_HOME to a folder you can write",
    errno.EACCES: "permission denied; set NASBENCH_MR_HOME to a folder you can write",
    errno.EPERM: "permission denied; set NASBENCH_MR_HOME to a folder you can write",
    errno.ENOTDIR: "a file is where a folder should be; set NASBENCH_MR_HOME to a folder you can write",
    errno.EEXIST: "a file is where a folder should be; set NASBENCH_MR_HOME to a folder you can write",
}


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends without an error.

    Until then, and if the block fails, a file of that name stays as it was.

    Raises:
        StorageError: the disk is full or the folder can't be written.
    """
    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with explained(path):
            yield temporary
            # mkstemp makes files private; give what open() would have given.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a whole file atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a whole UTF-8 file atomically."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it when the block ends without an error.

    If another process put a folder there meanwhile, that one stays and ours is dropped: the caller decides
    whether they agree. A folder that is there is never replaced.
    """
    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        with explained(path):
            yield temporary
            temporary.chmod(0o755)
            _sync_all([file for file in temporary.rglob("*") if file.is_file()])
            try:
                os.rename(temporary, path)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """One process at a time is in the block; the others wait. A process that dies gives the lock back.

    The lock is an empty file at `path`, removed at the end. Windows, and network file systems without locks,
    let all in at once: what is done in the block must be safe then too, if wasteful.

    Raises:
        StorageError: the file can't be made.
    """
    path = Path(path)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with contextlib.ExitStack() as stack:
        while True:
            with explained(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            # Whoever had the lock before has removed the file; only the one that is there counts.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    stack.callback(os.close, handle)
                    stack.callback(path.unlink, missing_ok=True)
                    break
            os.close(handle)
        yield


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns the system's "no space" and "read-only" errors into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0)
        if advice is None or isinstance(error, StorageError):
            raise
        raise StorageError(f"can't write {path}: {advice}") from error


def sync(path: Path) -> None:
    """Flushes a file or folder to disk."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except OSError:
        return  # some systems do not open folders
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _sync_all(paths: Sequence[Path]) -> None:
    """Flushes files to disk; many of them all at once, as one by one takes milliseconds each."""
    if len(paths) > 20 and hasattr(os, "sync"):
        return os.sync()
    for path in paths:
        sync(path)
    return None


def sha256(path: str | os.PathLike[str]) -> str:
    """The file's SHA-256, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: str | os.PathLike[str], expected: str, name: str | None = None) -> None:
    """Raises `IntegrityError` where the file, called `name`, has another SHA-256."""
    found = sha256(path)
    if found != expected.lower():
        raise IntegrityError(f"{name or path} has sha256 {found}; expected {expected.lower()}")


def git_blob_id(path: str | os.PathLike[str]) -> str:
    """The file's id in git: SHA-1 of "blob <size>\\0" and the content."""
    digest = hashlib.sha1(b"blob %d\0" % os.path.getsize(path), usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def extract_tar(
    source: str | os.PathLike[str] | IO[bytes], target: str | os.PathLike[str], max_bytes: int = MAX_UNPACKED
) -> None:
    """Unpacks a tarball of plain files and folders, plain or packed by gzip, bzip2 or xz, into a folder.

    Raises:
        UnsafeFileError: a member is a link, a device, has an absolute path or one that leaves the folder,
            or the whole is larger than `max_bytes`; also where the archive is truncated or is no tarball.
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
                if count > MAX_MEMBERS:
                    raise UnsafeFileError(f"{name}: has more than {MAX_MEMBERS:,} files; refused")
                if os.path.isabs(member.name) or ".." in Path(member.name).parts:
                    raise UnsafeFileError(f"{name}: {shown} is not inside the archive's folder")
                tar.extract(member, target, filter="data")
            stream.finish()
        except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, UnsafeFileError):
                raise
            if isinstance(error, OSError) and error.errno in (
                errno.ENOSPC,
                errno.EDQUOT,
                errno.EROFS,
                errno.EACCES,
            ):
                with explained(target):
                    raise
            # Other OSErrors: a broken stream, or names that no file system has (too long, a file as folder).
            raise UnsafeFileError(f"{name}: not a complete tarball ({error})") from error


def _unpacked(packed: IO[bytes]) -> _Bounded:
    """The decompressed stream; tarfile's own detection would give no hold on what it reads at once."""
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
        """Checks that the tarball ended with its end mark, and the packed stream with its checksum; tarfile
        takes the end of the file for the end of the tarball."""
        if self.last != bytes(tarfile.BLOCKSIZE):
            raise EOFError("it ends too early")
        while self.stream.read(MAX_HEADER):
            pass
