"""Writing files so that nothing half-written is ever seen.

Everything this package writes goes through `atomic` (or `atomic_folder`): written beside its place, synced,
renamed. A cold query imports this module, so what only writing needs is imported there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from nasbench_mr import checks
from nasbench_mr.errors import IntegrityError, InvalidArgumentError, StorageError, UnsafeFileError

T = TypeVar("T")

#: Where files of a user without a home folder would go: nothing is there, and nothing can be written there.
NOWHERE = Path(os.devnull) / "nasbench-mr"
_FULL = "free some space and run the same command again"
_ELSEWHERE = "give a place that you can write (for the package's own folder: NASBENCH_MR_HOME)"
#: How a temporary file or folder is called, how its file is opened, and the folders that were swept of them.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.part", re.DOTALL)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_SWEPT: set[Path] = set()
#: Seconds that a process waits for a lock of another: longer than any download or import takes.
MAX_WAIT = 4 * 3600.0
#: Bytes of a file that is read as a whole, before anything of it can be checked.
MAX_SMALL = 64 << 20
#: How temporary folders begin, and the file in each that is locked as long as it is in use.
_SCRATCH, _MARK = "nasbench-mr-", "in-use"
#: What the system says when a file can't be written, and what to do then.
_ADVICE = {
    errno.ENOSPC: f"the disk is full; {_FULL}",
    errno.EDQUOT: f"the quota is used up; {_FULL}",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
    errno.EACCES: f"permission denied; {_ELSEWHERE}",
    errno.EPERM: f"permission denied; {_ELSEWHERE}",
    errno.ENOTDIR: f"a file is where a folder should be; {_ELSEWHERE}",
    errno.EEXIST: f"a file is where a folder should be; {_ELSEWHERE}",
}


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str], mode: int = 0o666) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it when the block ends without an error.

    Until then, and if the block fails, a file of that name stays as it was.

    Args:
        mode: the file's permissions, less what the process's umask takes, as `open` has them.

    Raises:
        StorageError: the disk is full or the folder can't be written.
    """
    path = Path(path)
    with _beside(path, lambda name: os.close(os.open(name, _NEW, mode))) as temporary:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)


@contextlib.contextmanager
def scratch_folder(parent: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder in `parent`, gone when the block ends (after a kill, later)."""
    with _beside(Path(parent) / "scratch", Path.mkdir) as temporary:
        yield temporary


@contextlib.contextmanager
def _beside(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """Yield a temporary file or folder beside `path`, made by `make`; remove it at the end.

    Its writer holds a lock on it. So what a killed writer leaves can be told from what is being written, and
    the next process that writes to the folder removes it.
    """
    import shutil

    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        handle = None
        while handle is None:
            temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
            with contextlib.suppress(FileExistsError):
                make(temporary)
                handle = _claim(temporary)
    try:
        with explained(path):
            yield temporary
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        if handle >= 0:
            os.close(handle)


def _claim(temporary: Path) -> int | None:
    """Return an open file that holds a lock on a path; -1 on Windows, None where the path has gone."""
    if sys.platform == "win32":
        return -1
    import fcntl

    try:
        handle = os.open(temporary, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):  # no locks on this file system: then nothing is ever removed either
        fcntl.flock(handle, fcntl.LOCK_EX)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(handle), os.stat(temporary)):
            return handle
    os.close(handle)
    return None


def _sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder; once for each folder and process."""
    if sys.platform == "win32" or folder in _SWEPT:
        return
    import fcntl
    import shutil

    _SWEPT.add(folder)
    for left in [Path(entry.path) for entry in os.scandir(folder) if _TEMPORARY.fullmatch(entry.name)]:
        with contextlib.suppress(OSError):  # it is being written, or has just gone, or is someone else's
            handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink()
            finally:
                os.close(handle)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise where a file of this name can't be written; to find out before hours of work.

    Missing folders do not matter. Nothing is written, and nothing is left behind.

    Raises:
        StorageError: a folder is there, or a file where a folder should be, or the folder can't be written.
    """
    import tempfile

    path = Path(path).absolute()
    if path.is_dir():
        raise StorageError(f"can't write {path}: a folder is there; give a file's name")
    place = next(folder for folder in path.parents if folder.exists())
    try:
        with explained(path), tempfile.TemporaryFile(dir=place):
            pass
    except StorageError:
        raise
    except OSError as error:
        # The system's own message names the file that was tried, which the user never gave.
        raise StorageError(f"can't write {path}: {error.strerror} in {place}; give another place") from error


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def read_small(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file that people or this package write, of at most `MAX_SMALL`."""
    with open(path, "rb") as file:
        data = file.read(MAX_SMALL + 1)
    if len(data) > MAX_SMALL:
        raise UnsafeFileError(f"{path} has more than {MAX_SMALL:,} bytes; refused")
    return data


def read_parts(folder: Path, what: str, parse: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    """Yield the parts of a resumable run: what `parse` makes of a folder's JSON files, by their names.

    Args:
        what: they are, for messages, such as "measurements".
        parse: raises any of Python's own errors of values for an object that is not a part.

    Raises:
        InvalidArgumentError: a file is damaged, or of something else.
    """
    for path in sorted(folder.glob("*.json")):
        data = checks.json_object(read_small(path), str(path), InvalidArgumentError)
        try:
            part = parse(data)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InvalidArgumentError(
                f"{path} is not a group of {what} ({error!r}); delete it and run again"
            ) from None
        yield part


def create(path: str | os.PathLike[str], data: bytes) -> bool:
    """Write a whole file that is not there yet; False, and nothing is changed, where there is one.

    Of several processes one succeeds. Where the file system has no hard links, one that is killed in the
    middle leaves a part of the file.

    Raises:
        StorageError: the disk is full or the folder can't be written.
    """
    path = Path(path)
    with _beside(path, lambda name: os.close(os.open(name, _NEW, 0o666))) as beside:
        beside.write_bytes(data)
        sync(beside)
        try:
            os.link(beside, path)
        except FileExistsError:
            return False
        except OSError:  # no hard links here
            try:
                with open(path, "xb") as file:
                    file.write(data)
            except FileExistsError:
                return False
        sync(path.parent)
    return True


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole UTF-8 file atomically."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, renamed to it when the block ends without an error.

    If another process put a folder there meanwhile, that one stays and ours is dropped: the caller decides
    whether they agree. A folder that is there is never replaced.
    """
    path = Path(path)
    with _beside(path, Path.mkdir) as temporary:
        yield temporary
        _sync_all([file for file in temporary.rglob("*") if file.is_file()])
        try:
            os.rename(temporary, path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        sync(path.parent)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """One process at a time is in the block; the others wait. A process that dies gives the lock back.

    Whoever waits for more than `progress.PATIENCE` seconds is told on stderr for what and for whom, also in a
    log. The lock is a small file at `path`, removed at the end.

    Raises:
        StorageError: the file can't be made, or another process has had the lock for `MAX_WAIT` seconds.
    """
    import platform

    import filelock

    from nasbench_mr import progress

    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=progress.PATIENCE)
        except filelock.Timeout:
            print(
                f"nasbench-mr: waiting for {path}, which {_holder(path)} holds ...",
                file=sys.stderr,
                flush=True,
            )
            try:
                lock.acquire(timeout=MAX_WAIT)
            except filelock.Timeout:
                raise StorageError(
                    f"can't get {path}: {_holder(path)} has held it for {MAX_WAIT / 60:.3g} minutes; run the "
                    "same command again when it has ended, or end it"
                ) from None
            print(f"nasbench-mr: got {path}", file=sys.stderr, flush=True)
    try:
        with contextlib.suppress(OSError):  # where a locked file can't be written
            path.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        # Removed while it is held: who waits for it sees that it has gone, and takes the next one.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def _holder(path: Path) -> str:
    """Return who holds a lock, as far as its file says."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:200].strip() or "another process"
    except OSError:
        return "another process"


class Scratch:
    """A temporary folder that is there as long as this object, in the process that made it or a fork of it.

    Attributes:
        folder: where it is.
        source: what it was made from, as an absolute path.
    """

    def __init__(self, source: str | os.PathLike[str] = os.curdir):
        import tempfile
        import weakref

        self.source = os.path.abspath(source)
        _sweep_scratch()
        self.folder = Path(tempfile.mkdtemp(prefix=_SCRATCH))
        mark = self.folder / "new"
        # Forks share what is open, and with it the lock: the last one that closes it removes the folder.
        handle = os.open(mark, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        _try_lock(handle, shared=True)
        with contextlib.suppress(OSError):  # Windows renames no open file
            os.rename(mark, self.folder / _MARK)
        weakref.finalize(self, _remove_scratch, self.folder, handle)

    def __reduce__(self) -> tuple[Any, ...]:
        # Elsewhere the folder is another's: whoever needs it there opens `source` again.
        return type(None), ()


def _remove_scratch(folder: Path, handle: int) -> None:
    with contextlib.suppress(OSError):
        os.close(handle)
        _remove_unused(folder, ours=True)


def _remove_unused(folder: Path, ours: bool) -> None:
    """Remove a temporary folder unless a process has it in use; one of others only where that is sure."""
    import shutil

    mark = folder / _MARK
    handle = os.open(mark if mark.exists() else folder / "new", os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        unused = _try_lock(handle, shared=False, without=ours)
    finally:
        os.close(handle)
    if unused:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep_scratch() -> None:
    """Remove this user's temporary folders whose processes were killed."""
    import tempfile

    if sys.platform == "win32":
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError):  # it is someone else's, or has just gone
            # The mark is there once its lock is.
            if folder.lstat().st_uid == os.geteuid() and (folder / _MARK).exists():
                _remove_unused(folder, ours=False)


def _try_lock(handle: int, shared: bool, without: bool = True) -> bool:
    """Lock an open file; False where another process has it, `without` where the file system has no locks."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return without
    return True


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the system's "no space" and "read-only" errors into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0)
        if NOWHERE in path.parents:
            advice = "this user has no home folder; set NASBENCH_MR_HOME to a folder that you can write"
        if advice is None or isinstance(error, StorageError) or not _about(error, path):
            raise
        raise StorageError(f"can't write {path}: {advice}") from error


def _about(error: OSError, path: Path) -> bool:
    """Whether an error is about what is written to `path`, not about another file, which is read."""
    if not isinstance(error.filename, str) or not os.path.isfile(error.filename):
        return True
    named, written = Path(error.filename).resolve(), path.resolve()
    part = any(name.startswith(f".{path.name}.") for name in named.parts)
    return part or named.is_relative_to(written) or written.is_relative_to(named)


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
    """Return the file's SHA-256, in hexadecimal."""
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: str | os.PathLike[str], expected: str, name: str | None = None) -> None:
    """Raise `IntegrityError` where the file, called `name`, has another SHA-256."""
    found = sha256(path)
    if found != expected.lower():
        raise IntegrityError(f"{name or path} has sha256 {found}; expected {expected.lower()}")


def git_blob_id(path: str | os.PathLike[str]) -> str:
    """Return the file's id in git: SHA-1 of "blob <size>\\0" and the content."""
    import hashlib

    digest = hashlib.sha1(b"blob %d\0" % os.path.getsize(path), usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
