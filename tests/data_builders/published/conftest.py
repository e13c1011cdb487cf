"""What the tests of imports share.

Fixtures:
    outside      the working folder: an empty one for every test
    snapshot     reads every installed file
    unwritable   fills the disk, or makes it read-only
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest


@pytest.fixture(autouse=True)
def outside(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder of its own, for files that are named without one."""
    folder = tmp_path_factory.mktemp("work")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def snapshot(home: Path) -> Callable[[], dict[str, bytes]]:
    """Return what reads every installed file, by its place."""
    root = home / "releases"
    return lambda: {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(params=["full", "read-only"])
def unwritable(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, read_only: Callable[[], None]
) -> tuple[Callable[[], None], str]:
    """Return what fills the disk, or makes it read-only, and what is said then."""
    if request.param == "read-only":
        return read_only, "read-only; give a place"

    def no_space(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda: monkeypatch.setattr(pq, "write_table", no_space), "the disk is full; free some space"
