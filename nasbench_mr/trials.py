"""A task's trials in memory, and the copy of a table that opens without Parquet and without NumPy.

Importing NumPy takes longer than everything else that a single query does, and importing a Parquet reader
longer still. So a `Table` holds plain buffers, and its arrays are made when they are asked for. Reading a
table leaves a copy of its buffers in the cache folder, in the safetensors layout, to be mapped into memory.
The copy is found by the Parquet file's SHA-256, so it can't go stale, and has a checksum of its own.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench_mr import files
from nasbench_mr.tasks import Task

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SCHEMA_VERSION = 1
#: Numeric columns that every table has beside the metrics, and their units.
COSTS = {"macs": "multiply-accumulates", "params": "parameters", "epochs": "epochs", "train_seconds": "s"}

#: safetensors' names of types: their format (as in `struct`) and size.
_TYPES: dict[str, tuple[Any, int]] = {"U8": ("B", 1), "BOOL": ("?", 1), "I32": ("i", 4), "F64": ("d", 8)}


class Table:
    """A task's trials, as much of them as queries need.

    Attributes:
        width: numbers in a code.
        columns: memoryviews: "codes" (bytes, row by row), "seed" (int32), "ok" (bool: the status is "ok"),
            each metric and each of `COSTS` (float64; NaN where unknown).
        unknown: by metric and cost, how many rows do not know it.
    """

    def __init__(self, width: int, columns: dict[str, memoryview[Any]], unknown: dict[str, int]):
        self.width, self.columns, self.unknown = width, columns, unknown

    def __len__(self) -> int:
        return len(self.columns["ok"])

    @cached_property
    def codes(self) -> npt.NDArray[np.uint8]:
        """`(n, DIM)`."""
        return self._array("codes").reshape(-1, self.width)

    @cached_property
    def seed(self) -> npt.NDArray[np.int32]:
        """`(n,)`."""
        return self._array("seed")

    @cached_property
    def ok(self) -> npt.NDArray[np.bool_]:
        """`(n,)`, whether the trial's status is "ok"."""
        return self._array("ok")

    @cached_property
    def values(self) -> dict[str, npt.NDArray[np.float64]]:
        """`(n,)` for each metric and each of `COSTS`; NaN where unknown."""
        return {name: self._array(name) for name in self.unknown}

    def _array(self, name: str) -> npt.NDArray[Any]:
        import numpy as np

        return np.asarray(self.columns[name])


def keys(codes: bytes | memoryview[Any], width: int) -> list[bytes]:
    """The codes of a buffer, row by row, as one bytes object each; `bytes(code)` for a tuple is equal."""
    return [key for (key,) in struct.iter_unpack(f"{width}s", codes)]


def load(path: Path, task: Task, sha256: str, cache: Path) -> Table:
    """A task's trials, from the copy of its table file, which is made where there is none.

    Args:
        path: the Parquet file.
        task: whose trials these are.
        sha256: the hash that the file must have.
        cache: the folder of copies.

    Raises:
        IntegrityError, TableError, FileNotFoundError: as `table.read`.
    """
    copy = cache / f"{sha256}-v{SCHEMA_VERSION}.safetensors"
    table = read_copy(copy, task)
    if table is None:
        import pyarrow as pa

        from nasbench_mr.table import read

        table = read(path, task, sha256)
        write_copy(copy, table)
        # The copy is mapped, not read: the memory that Parquet took can go back to the system.
        table = read_copy(copy, task) or table
        pa.default_memory_pool().release_unused()
    return table


def write_copy(path: Path, table: Table) -> None:
    """Writes the copy, unless the folder can't be written: that only costs speed."""
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
    about = {"unknown": json.dumps(table.unknown)}
    about["crc32"] = str(zlib.crc32(_text(header, about), checksum))
    text = _text(header, about)
    text += b" " * (-len(text) % 8)
    try:
        with files.atomic(path) as temporary, open(temporary, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, column in ordered:
                file.write(column)
    except OSError:
        return


def read_copy(path: Path, task: Task) -> Table | None:
    """The copy at `path`, or None where there is none that is whole and about this task."""
    try:
        with open(path, "rb") as file:
            raw = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        start = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(bytes(raw[8:start]))
        body = raw[start:]
        about = header.pop("__metadata__")
        if int(about.pop("crc32")) != zlib.crc32(_text(header, about), zlib.crc32(body)):
            return None
        columns = {
            name: body[slice(*entry["data_offsets"])].cast(_TYPES[entry["dtype"]][0])
            for name, entry in header.items()
        }
        counted = json.loads(about["unknown"])
        unknown = {name: counted[name] for name in (*(m.name for m in task.metrics), *COSTS)}
        return Table(header["codes"]["shape"][1], columns, unknown)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _text(header: Mapping[str, Any], about: Mapping[str, str]) -> bytes:
    return json.dumps({**header, "__metadata__": about}).encode()
