"""The copy of a table that opens without Parquet: it says the same, or it is not used."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasbench_mr import Metric, Task, files, space, table, table_cache, tasks
from nasbench_mr.errors import IntegrityError, TableError
from nasbench_mr.trials import Trials

SEG = tasks.get("seg")
CODES = space.sample(6, seed=0)


def columns(n: int = 6) -> dict[str, Any]:
    """n trials of n codes: mIoU 10, 11, 12, ..."""
    return {"codes": CODES[:n], "mIoU": 10.0 + np.arange(n), "aAcc": 30.0 + np.arange(n)}


def same(a: Trials, b: Trials) -> bool:
    return (
        np.array_equal(a.codes, b.codes)
        and np.array_equal(a.seed, b.seed)
        and np.array_equal(a.ok, b.ok)
        and list(a.values) == list(b.values)
        and all(np.array_equal(a.values[k], b.values[k], equal_nan=True) for k in a.values)
    )


@pytest.fixture
def cached(tmp_path: Path) -> tuple[Path, str, Path, Path]:
    """Return a table with nulls, failed trials and seeds.

    Its hash, the cache's folder, and the copy in it.
    """
    path, cache = tmp_path / "seg.parquet", tmp_path / "cache"
    table.write(path, SEG, columns() | {"mAcc": [None] * 6, "seed": range(6), "status": ["ok", "failed"] * 3})
    digest = files.sha256(path)
    table_cache.load(path, SEG, digest, cache)
    (copy,) = cache.iterdir()
    return path, digest, cache, copy


def test_the_copy_says_the_same(
    cached: tuple[Path, str, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digest, cache, _ = cached
    direct = table.read(path, SEG)

    def no_parquet(*args: object) -> None:
        raise AssertionError("the copy was not used")

    monkeypatch.setattr(table, "read", no_parquet)
    read = table_cache.load(path, SEG, digest, cache)
    assert same(read, direct)
    for array in (read.codes, read.seed, read.ok, *read.values.values()):
        assert array.flags.aligned
        assert not array.flags.writeable


def test_the_copy_is_a_safetensors_file(cached: tuple[Path, str, Path, Path]) -> None:
    from safetensors.numpy import load_file

    arrays = load_file(cached[3])
    assert np.array_equal(arrays["codes"], CODES)
    assert arrays["mIoU"].tolist() == [10, 11, 12, 13, 14, 15]


def test_a_damaged_copy_is_made_again(cached: tuple[Path, str, Path, Path]) -> None:
    """Whatever byte of it changes, and wherever it is cut."""
    path, digest, cache, copy = cached
    whole, direct = copy.read_bytes(), table.read(path, SEG)
    rng = random.Random(0)
    cuts = [whole[:k] for k in (0, 4, 8, 40, len(whole) // 2, len(whole) - 1)]
    flips = []
    for k in [*range(8), *(rng.randrange(8, len(whole)) for _ in range(60))]:
        flips.append(whole[:k] + bytes([whole[k] ^ (1 << rng.randrange(8))]) + whole[k + 1 :])
    for damaged in (*cuts, *flips, b"[1]" * 100, b"\x02" + bytes(7) + b"{}", b"\x01" + bytes(7) + b"3"):
        copy.write_bytes(damaged)
        assert same(table_cache.load(path, SEG, digest, cache), direct)
        assert copy.read_bytes() == whole


def test_a_copy_of_another_file_is_not_used(cached: tuple[Path, str, Path, Path]) -> None:
    path, _, cache, _ = cached
    table.write(path, SEG, columns(3))
    assert len(table_cache.load(path, SEG, files.sha256(path), cache)) == 3


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the system has no users")
def test_a_copy_that_someone_else_could_have_written_is_not_used(
    cached: tuple[Path, str, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forged copy in a shared cache: whole, under the right name, and of values that no one measured."""
    path, digest, cache, copy = cached
    assert copy.stat().st_mode & 0o777 == 0o600
    forged = cache.parent / "forged.parquet"
    table.write(forged, SEG, columns() | {"mIoU": [99.0] * 6, "seed": range(6)})
    table_cache.write_copy(copy, table.read(forged, SEG), digest)
    assert table_cache.load(path, SEG, digest, cache).values["mIoU"][0] == 99.0  # ours would be believed
    copy.chmod(0o620)
    assert table_cache.read_copy(copy, SEG, digest) is None
    copy.chmod(0o600)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert table_cache.read_copy(copy, SEG, digest) is None
    assert table_cache.load(path, SEG, digest, cache).values["mIoU"].tolist() == [10, 11, 12, 13, 14, 15]


def test_a_copy_under_another_ones_name_is_not_used(cached: tuple[Path, str, Path, Path]) -> None:
    path, digest, cache, copy = cached
    other = path.with_name("other.parquet")
    table.write(other, SEG, columns(3))
    copy.rename(copy.with_name(copy.name.replace(digest, files.sha256(other))))
    assert len(table_cache.load(other, SEG, files.sha256(other), cache)) == 3


def test_a_copy_that_lacks_a_metric_is_not_used(cached: tuple[Path, str, Path, Path]) -> None:
    """The key is the file; the task may have been described otherwise when the copy was made."""
    path, digest, cache, _ = cached
    more = Task("seg", "S", "d", "segmentation", (*SEG.metrics, Metric("extra")), "mIoU")
    with pytest.raises(TableError, match="no column 'extra'"):
        table_cache.load(path, more, digest, cache)


def test_an_altered_file_is_neither_read_nor_copied(tmp_path: Path) -> None:
    path, cache = tmp_path / "seg.parquet", tmp_path / "cache"
    table.write(path, SEG, columns())
    digest = files.sha256(path)
    table.write(path, SEG, columns() | {"mIoU": [99.0] * 6})
    with pytest.raises(IntegrityError, match=f"seg.parquet has sha256 .*; expected {digest}"):
        table_cache.load(path, SEG, digest, cache)
    assert not cache.exists()


def test_a_cache_that_can_not_be_written_costs_only_speed(tmp_path: Path) -> None:
    path = tmp_path / "seg.parquet"
    table.write(path, SEG, columns())
    in_the_way = tmp_path / "file"
    in_the_way.write_bytes(b"")
    for _ in range(2):
        assert len(table_cache.load(path, SEG, files.sha256(path), in_the_way / "cache")) == 6
