"""A digest of what a release's Parquet files say, whatever wrote them.

Two versions of pyarrow, other row groups or another compression give other bytes for the same table. So a
release is cited by this digest, which stands in `release.json` and which `release.verify` derives again:
SHA-256 over each task's metrics and, file by file and column by column, over every value in a fixed form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nasbench_mr.tasks import Task

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class TableDigest:
    """The size of a table and the SHA-256 of its values."""

    rows: int
    sha256: str


def digest(tasks: Iterable[Task], files: Mapping[str, TableDigest]) -> str:
    """Return the digest of a release, as 64 hexadecimal digits.

    Args:
        tasks: of the release. What their values mean counts: space, objective and each metric's name, unit
            and direction, not what is written about them for people.
        files: by name, such as "tables/seg.parquet", what `of_file` said of it.
    """
    meanings = [
        [task.name, task.space, task.objective, [[m.name, m.unit, m.direction] for m in task.metrics]]
        for task in sorted(tasks, key=lambda task: task.name)
    ]
    return hashlib.sha256(
        json.dumps([meanings, sorted((name, v.rows, v.sha256) for name, v in files.items())]).encode()
    ).hexdigest()


def of_file(path: Path) -> TableDigest:
    """Return what `of_table` says of a Parquet file."""
    from nasbench_mr.table import read_arrow

    return of_table(read_arrow(path))


def of_table(arrow: pa.Table) -> TableDigest:
    """Return the size of a table and the SHA-256 of its values.

    The order of rows counts, that of columns does not. Each column is its name and kind, then which rows are
    known (a byte each), then the values, 0 where unknown: whole numbers as int64, others as float64, both in
    little-endian order; texts by their lengths (int64) and then as UTF-8, one after the other.
    """
    found = hashlib.sha256()
    for name in sorted(arrow.column_names):
        kind, parts = _column(arrow[name])
        found.update(json.dumps([name, kind]).encode())
        for part in parts:
            found.update(part)
    return TableDigest(len(arrow), found.hexdigest())


def _column(column: pa.ChunkedArray) -> tuple[str, list[bytes]]:
    """Return the kind of a column, and what counts of it."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    known = column.is_valid().to_numpy().astype("u1").tobytes()
    if types.is_boolean(column.type) or types.is_integer(column.type):
        numbers = pc.fill_null(column.cast(pa.int64()), 0).to_numpy().astype("<i8")
        return "int64", [known, numbers.tobytes()]
    if types.is_floating(column.type):
        numbers = pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy().astype("<f8")
        return "float64", [known, numbers.tobytes()]
    texts = column.cast(pa.large_string()).cast(pa.large_binary())
    lengths = pc.fill_null(pc.binary_length(texts), 0).to_numpy().astype("<i8")
    return "text", [known, lengths.tobytes(), b"".join(texts.drop_null().to_pylist())]
