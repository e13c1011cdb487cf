"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nasbench_mr import files
from nasbench_mr.errors import IntegrityError, StorageError, UnsafeFileError


def listing(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


# --- Writing ------------------------------------------------------------------------------------------


def test_only_one_creates_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "file"
    assert files.create(path, b"first")
    assert not files.create(path, b"second")
    assert (path.read_bytes(), [p.name for p in path.parent.iterdir()]) == (b"first", ["file"])

    def no_links(*paths: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    assert not files.create(path, b"third")
    assert files.create(tmp_path / "other", b"fourth")
    assert ((tmp_path / "other").read_bytes(), path.read_bytes()) == (b"fourth", b"first")


def test_atomic_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.txt"
    files.write_text(path, "first é")
    assert path.read_bytes() == "first é".encode()
    files.write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert listing(tmp_path) == ["deep", "deep/er", "deep/er/file.txt"]


def test_nothing_shows_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with files.atomic(path) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists()
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
    assert path.read_bytes() == b"half"


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), files.atomic(path) as temporary:
        temporary.write_bytes(b"half of the new" * (1 // 0))
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["file"]


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    files.write_bytes(tmp_path / "atomic", b"")
    with files.atomic_folder(tmp_path / "folder"):
        pass
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755


def test_atomic_folder(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    with files.atomic_folder(target) as folder:
        (folder / "x").write_text("1")
        assert not target.exists()
    assert listing(tmp_path) == ["a", "a/b", "a/b/x"]
    with pytest.raises(FileNotFoundError), files.atomic_folder(tmp_path / "c") as folder:
        (folder / "y").read_bytes()
    assert listing(tmp_path) == ["a", "a/b", "a/b/x"]


def test_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with files.atomic_folder(target) as ours:
        (ours / "x").write_text("ours")
        # Another process is faster.
        with files.atomic_folder(target) as theirs:
            (theirs / "x").write_text("theirs")
    assert (target / "x").read_text() == "theirs"
    assert listing(tmp_path) == ["folder", "folder/x"]


ERRORS = [
    (errno.ENOSPC, "the disk is full; free some space"),
    (errno.EDQUOT, "the quota is used up"),
    (errno.EROFS, "the file system is read-only; give a place"),
    (errno.EACCES, "permission denied; give a place"),
]


def raising(number: int) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def test_files_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="a file is where a folder should be"):
        files.write_bytes(tmp_path / "file" / "x", b"")


@pytest.mark.parametrize(("number", "advice"), ERRORS)
@pytest.mark.parametrize(
    "step", ["nasbench_mr.files.os.open", "nasbench_mr.files.os.replace", "pathlib.Path.mkdir"]
)
def test_the_systems_errors_become_advice(
    step: str, number: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(step, raising(number))
    with pytest.raises(StorageError, match=f"can't write .*file: {advice}"):
        files.write_bytes(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["file"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no file that is always full")
def test_the_disk_fills_while_writing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the disk is full"), files.atomic(tmp_path / "file") as temporary:
        copy_onto_a_full_disk(temporary)
    assert listing(tmp_path) == []


def copy_onto_a_full_disk(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/full")
    path.write_bytes(b"x" * 10_000)


@pytest.mark.parametrize(("number", "advice"), ERRORS)
def test_folders_get_the_same_advice(
    number: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasbench_mr.files.os.rename", raising(number))
    with pytest.raises(StorageError, match=advice), files.atomic_folder(tmp_path / "folder") as folder:
        (folder / "x").write_text("1")
    assert listing(tmp_path) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="permission denied"):
        files.write_bytes(tmp_path / "file", b"")


def test_a_file_that_cannot_be_read_is_not_the_one_that_is_written(tmp_path: Path) -> None:
    for locked in (tmp_path / "elsewhere" / "source", tmp_path / "there" / "source"):
        locked.parent.mkdir(exist_ok=True)
        locked.touch()
        with pytest.raises(PermissionError) as raised, files.atomic(tmp_path / "there" / "file"):
            raise PermissionError(errno.EACCES, "Permission denied", str(locked))
        assert not isinstance(raised.value, StorageError)
    with pytest.raises(StorageError, match="can't write"), files.atomic(tmp_path / "there" / "file") as part:
        raise PermissionError(errno.EACCES, "Permission denied", str(part))


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.atomic(tmp_path / "file"):
        (tmp_path / "nothing").read_bytes()


# --- What killed writers leave ------------------------------------------------------------------------

WRITERS = """
import sys, time
from pathlib import Path
from nasbench_mr import files

place = Path(sys.argv[2])
with {
    "file": files.atomic, "folder": files.atomic_folder, "scratch": files.scratch_folder
}[sys.argv[1]](place) as temporary:
    (temporary if temporary.is_file() else temporary / "x").write_bytes(b"half")
    print("in", flush=True)
    time.sleep(100)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
@pytest.mark.parametrize("kind", ["file", "folder", "scratch"])
def test_the_next_process_removes_what_a_killed_writer_left(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path if kind == "scratch" else tmp_path / "result"
    with subprocess.Popen([sys.executable, "-c", WRITERS, kind, place], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"in\n"
        [left] = tmp_path.iterdir()
        # As long as it lives, no one touches what it writes.
        monkeypatch.setattr(files, "_SWEPT", set())
        files.write_bytes(tmp_path / "other", b"")
        assert left.exists()
        writer.kill()
    files.write_bytes(tmp_path / "other", b"")  # once a process
    assert left.exists()
    monkeypatch.setattr(files, "_SWEPT", set())
    # A download to resume, and a user's own files, are something else.
    for other in ("result.part", ".result.part", ".notes.0123456789ab.parts"):
        (tmp_path / other).touch()
    files.write_bytes(tmp_path / "other", b"")
    assert sorted(listing(tmp_path)) == [".notes.0123456789ab.parts", ".result.part", "other", "result.part"]


def test_a_writer_whose_file_is_swept_before_it_has_its_lock_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, swept = files._claim, []

    def late(temporary: Path) -> int | None:
        if not swept:
            swept.append(temporary)
            temporary.unlink()
        return claim(temporary)

    monkeypatch.setattr(files, "_claim", late)
    files.write_bytes(tmp_path / "file", b"x")
    assert listing(tmp_path) == ["file"]
    assert swept


def test_files_have_the_permissions_that_open_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write_bytes(tmp_path / "file", b"x")
        files.create(tmp_path / "created", b"x")
        with files.atomic_folder(tmp_path / "folder"):
            pass
        with files.atomic(tmp_path / "private", 0o600) as temporary:
            assert temporary.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"file": 0o640, "created": 0o640, "folder": 0o750, "private": 0o600}


@pytest.mark.skipif(sys.platform == "win32", reason="no locks")
def test_the_next_scratch_folder_removes_those_of_killed_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But none in use, here or elsewhere, nor what only has such a name."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = (
        "import os, sys; from nasbench_mr.files import Scratch; s = Scratch()\n"
        "(s.folder / 'file').touch(); print(s.folder, flush=True); sys.stdin.read(); os._exit(9)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )
        for _ in range(2)
    ]
    folders = []
    for process in processes:
        assert process.stdout is not None
        folders.append(Path(process.stdout.readline().strip()))
    processes[0].kill()
    processes[0].wait()
    (tmp_path / "nasbench-mr-page").mkdir()
    first, second = files.Scratch(), files.Scratch()
    try:
        assert [folder.exists() for folder in folders] == [False, True]
        assert (tmp_path / "nasbench-mr-page").is_dir()
        assert first.folder.is_dir()
        assert second.folder.is_dir()
    finally:
        processes[1].communicate()
    del first, second
    gc.collect()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["nasbench-mr-page", folders[1].name])


def test_files_that_are_read_whole_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_SMALL", 10)
    (tmp_path / "small").write_bytes(b"0123456789")
    assert files.read_small(tmp_path / "small") == b"0123456789"
    (tmp_path / "large").write_bytes(b"0123456789x")
    with pytest.raises(UnsafeFileError, match="large has more than 10 bytes; refused"):
        files.read_small(tmp_path / "large")


# --- Hashes -------------------------------------------------------------------------------------------


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    digest = hashlib.sha256(b"hello\n").hexdigest()
    assert files.sha256(path) == digest
    # `printf 'hello\n' | git hash-object --stdin`
    assert files.git_blob_id(path) == "ce013625030ba8dba906f756967f9e9ca394464a"
    files.check_sha256(path, digest.upper())
    with pytest.raises(IntegrityError, match=f"the table has sha256 {digest}; expected {'0' * 64}"):
        files.check_sha256(path, "0" * 64, "the table")


# --- Locks --------------------------------------------------------------------------------------------

HOLD = """
import sys
from nasbench_mr import files
with files.locked(sys.argv[1]):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    """Another process is in: we wait until it leaves, or dies, and the lock's file is gone afterwards."""
    path = tmp_path / "deep" / "lock"
    for leave in ("end", "kill"):
        inside: list[str] = []

        def enter(seen: list[str] = inside) -> None:
            with files.locked(path):
                seen.append("in")

        with subprocess.Popen(
            [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            assert other.stdout.readline() == "in\n"
            waiting = threading.Thread(target=enter)
            waiting.start()
            waiting.join(0.1)
            assert inside == []
            if leave == "end":
                other.stdin.close()
            else:
                other.kill()
            waiting.join()
            assert inside == ["in"]
        assert not path.exists()


def test_a_place_where_nothing_can_be_written_is_named_as_the_user_gave_it() -> None:
    if not Path("/proc/self").exists():
        pytest.skip("no /proc here, in which nobody can make a file")
    with pytest.raises(StorageError, match=r"^can't write /proc/x\.png: .* in /proc; give another place$"):
        files.check_writable("/proc/x.png")
