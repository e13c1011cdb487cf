"""Writing files so that nothing half-written is ever seen, and reading archives from outside.

Everything this package writes goes through `atomic` (or `atomic_folder`): written beside its place, synced,
renamed. Everything it unpacks goes through `extract_tar`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from nasbench_mr.errors import StorageError, UnsafeFileError

#: Limits for archives: total unpacked bytes, and files.
MAX_UNPACKED = 64 << 30
MAX_MEMBERS = 1_000_000


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
            for file in temporary.rglob("*"):
                if file.is_file():
                    sync(file)
            try:
                os.rename(temporary, path)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns the system's "no space" and "read-only" errors into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "the disk is full; free some space and run the same command again",
            errno.EDQUOT: "the quota is used up; free some space and run the same command again",
            errno.EROFS: "the file system is read-only; set NASBENCH_MR_HOME to a folder you can write",
            errno.EACCES: "permission denied; set NASBENCH_MR_HOME to a folder you can write",
            errno.EPERM: "permission denied; set NASBENCH_MR_HOME to a folder you can write",
        }.get(error.errno or 0)
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


def sha256(path: str | os.PathLike[str]) -> str:
    """The file's SHA-256, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    """Unpacks a tarball of plain files and folders into the folder `target`.

    Raises:
        UnsafeFileError: a member is a link, a device, has an absolute path or one that leaves the folder,
            or the whole is larger than `max_bytes`; also where the archive is truncated or is no tarball.
            What was unpacked before stays in `target`, which callers make with `atomic_folder`.
    """
    name = str(getattr(source, "name", source))
    target = Path(target)
    try:
        with (
            tarfile.open(source, "r:*")
            if isinstance(source, (str, os.PathLike))
            else tarfile.open(fileobj=source, mode="r:*") as tar
        ):
            total = 0
            for count, member in enumerate(tar, start=1):
                if not (member.isfile() or member.isdir()):
                    raise UnsafeFileError(
                        f"{name}: {member.name!r} is a link or a device; expected plain files"
                    )
                total += member.size
                if total > max_bytes or count > MAX_MEMBERS:
                    raise UnsafeFileError(f"{name}: unpacks to more than {max_bytes >> 20} MiB; refused")
                if os.path.isabs(member.name) or ".." in Path(member.name).parts:
                    raise UnsafeFileError(f"{name}: {member.name!r} is not inside the archive's folder")
                tar.extract(member, target, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        # A broken gzip or xz stream raises OSError, EOFError or its own error without an errno.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnsafeFileError(f"{name}: not a complete tarball ({error})") from error
    except Exception as error:
        if type(error).__module__ in ("zlib", "lzma", "_lzma"):
            raise UnsafeFileError(f"{name}: not a complete tarball ({error})") from error
        raise
