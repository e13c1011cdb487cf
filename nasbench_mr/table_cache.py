"""The copy of a table that a cold query maps into memory, without Parquet and without NumPy.

Importing a Parquet reader takes longer than a query. So reading a table leaves a copy of its buffers in the
cache folder, in the safetensors layout. The copy is found by the Parquet file's SHA-256, so it can't go
stale, and has a checksum of its own. Where several people share a cache folder, each has copies of their own:
one that someone else could have written is not used.
"""

from __future__ import annotations

import json
import mmap
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasbench_mr import files
from nasbench_mr.tasks import Task
from nasbench_mr.trials import COSTS, SCHEMA_VERSION, Trials

#: safetensors' names of types: their format (as in `struct`) and size.
_TYPES: dict[str, tuple[Any, int]] = {"U8": ("B", 1), "BOOL": ("?", 1), "I32": ("i", 4), "F64": ("d", 8)}


def load(path: Path, task: Task, sha256: str, cache: Path) -> Trials:
    """Return a task's trials, from the copy of its table file, which is made where there is none.

    Args:
        path: the Parquet file.
        task: whose trials these are.
        sha256: the hash that the file must have.
        cache: the folder of copies.
    """
    copy = cache / f"{sha256}-v{SCHEMA_VERSION}-{_user()}.safetensors"
    table = read_copy(copy, task, sha256)
    if table is None:
        import pyarrow as pa

        from nasbench_mr.table import read

        table = read(path, task, sha256)
        write_copy(copy, table, sha256)
        # The copy is mapped, not read: the memory that Parquet took can go back to the system.
        table = read_copy(copy, task, sha256) or table
        pa.default_memory_pool().release_unused()
    return table


def write_copy(path: Path, table: Trials, sha256: str) -> None:
    """Write the copy, unless the folder can't be written: that only costs speed."""
    kinds = {form: (kind, size) for kind, (form, size) in _TYPES.items()}
    header: dict[str, Any] = {}
    offset, checksum = 0, 0
    # Wide types first, so that every array is aligned to its size.
    ordered = sorted(table.columns.items(), key=lambda item: -item[1].itemsize)
    for name, column in ordered:
        kind, _ = kinds[column.format]
        shape = [len(table), table.width] if name == "codes" else [len(table)]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, offset + column.nbytes]}
        offset += column.nbytes
        checksum = zlib.crc32(column, checksum)
    about = {"unknown": json.dumps(table.unknown), "sha256": sha256}
    about["crc32"] = str(zlib.crc32(_text(header, about), checksum))
    text = _text(header, about)
    text += b" " * (-len(text) % 8)
    try:
        with files.atomic(path, 0o600) as temporary, open(temporary, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, column in ordered:
                file.write(column)
    except OSError:
        return


def _user() -> int:
    """Return the number of this process's user; 0 on systems that have none."""
    return os.geteuid() if hasattr(os, "geteuid") else 0


def read_copy(path: Path, task: Task, sha256: str) -> Trials | None:
    """Return the copy at `path`; None where there is none that is whole, this user's and of this table."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if hasattr(os, "geteuid") and (status.st_uid != _user() or status.st_mode & 0o022):
                return None
            raw = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        start = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(bytes(raw[8:start]))
        body = raw[start:]
        about = header.pop("__metadata__")
        if int(about.pop("crc32")) != zlib.crc32(_text(header, about), zlib.crc32(body)):
            return None
        if about["sha256"] != sha256:
            return None
        columns = {
            name: body[slice(*entry["data_offsets"])].cast(_TYPES[entry["dtype"]][0])
            for name, entry in header.items()
        }
        counted = json.loads(about["unknown"])
        unknown = {name: counted[name] for name in (*(m.name for m in task.metrics), *COSTS)}
        return Trials(header["codes"]["shape"][1], columns, unknown)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _text(header: Mapping[str, Any], about: Mapping[str, str]) -> bytes:
    return json.dumps({**header, "__metadata__": about}).encode()
