"""Tables: a task's trials, as Parquet on disk and as NumPy arrays in memory.

A row is one trial: one training of one code with one seed. Columns, in order:

    the code's integers (int16, named as `space.NAMES`), `seed` (int32), the task's metrics (float64), `macs`
    and `params` (int64), `epochs` (int32), `train_seconds` (float64), `device`, `status`, `error` (string),
    then extra text columns, listed in the file's metadata (such as the published `stratum`).

Unknown is null, never 0 or -1. `status` is "ok", "diverged" or "failed"; an "ok" trial has its objective.
A curve file has the code's columns, `seed`, `epoch` (int32) and any number of float64 columns, the metrics
among them. Both carry key-value metadata (task, units, schema version), so that pandas, Polars or DuckDB can
make sense of them alone.

`read` keeps a copy of what queries need in the cache folder, in the safetensors layout, because importing a
Parquet reader takes longer than everything else a query does. The copy is found by the Parquet file's
SHA-256, so it can't go stale.
"""

from __future__ import annotations

import json
import mmap
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import files, spaces
from nasbench_mr.errors import StorageError, TableError
from nasbench_mr.tasks import Task

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
#: Limits for Parquet files: a few bytes can claim any number of rows.
MAX_ROWS = 100_000_000
MAX_COLUMNS = 1000
STATUSES = ("ok", "diverged", "failed")
#: Numeric columns that every table has beside the metrics, and their units.
COSTS = {"macs": "multiply-accumulates", "params": "parameters", "epochs": "epochs", "train_seconds": "s"}
TEXTS = ("device", "status", "error")

Floats = npt.NDArray[np.float64]
Columns = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A task's trials, as much of them as queries need.

    Attributes:
        codes: `(n, DIM)` uint8.
        seed: `(n,)` int32.
        ok: `(n,)` bool, whether the trial's status is "ok".
        values: `(n,)` float64 for each metric and each of `COSTS`; NaN where unknown.
    """

    codes: npt.NDArray[np.uint8]
    seed: npt.NDArray[np.int32]
    ok: npt.NDArray[np.bool_]
    values: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.codes)


def keys_of(codes: npt.NDArray[np.integer]) -> list[bytes]:
    """`(n, DIM)` codes (entries below 256) as one bytes object each; `bytes(code)` for a tuple is equal."""
    small = np.ascontiguousarray(codes, np.uint8)
    return small.view(f"V{small.shape[1]}").ravel().tolist()


# --- Parquet ------------------------------------------------------------------------------------------


def schema(task: Task, extra: Iterable[str] = ()) -> pa.Schema:
    """The Arrow schema of a task's table, with `extra` text columns."""
    import pyarrow as pa

    fields = [(name, pa.int16()) for name in spaces.get(task.space).NAMES]
    fields += [("seed", pa.int32())]
    fields += [(metric.name, pa.float64()) for metric in task.metrics]
    fields += [("macs", pa.int64()), ("params", pa.int64())]
    fields += [("epochs", pa.int32()), ("train_seconds", pa.float64())]
    fields += [(name, pa.string()) for name in (*TEXTS, *extra)]
    names = [name for name, _ in fields]
    if twice := [name for name in names if names.count(name) > 1]:
        raise TableError(f"task {task.name!r} would have two columns {twice[0]!r}; rename its metric")
    units = {m.name: m.unit for m in task.metrics} | COSTS
    return pa.schema(fields, _metadata(task, units, extra=list(extra)))


def curve_schema(task: Task, columns: Iterable[str]) -> pa.Schema:
    """The Arrow schema of a task's learning curves, with these float64 columns."""
    import pyarrow as pa

    fields = [(name, pa.int16()) for name in spaces.get(task.space).NAMES]
    fields += [("seed", pa.int32()), ("epoch", pa.int32())]
    fields += [(name, pa.float64()) for name in columns]
    return pa.schema(fields, _metadata(task, {m.name: m.unit for m in task.metrics}))


def _metadata(task: Task, units: Mapping[str, str], **more: object) -> dict[str, str]:
    about = {"task": task.to_dict(), "units": units, "schema_version": SCHEMA_VERSION, **more}
    return {"nasbench_mr": json.dumps(about)}


def to_arrow(task: Task, columns: Columns, extra: Iterable[str] = ()) -> pa.Table:
    """Trials as a checked Arrow table.

    Args:
        task: whose trials these are.
        columns: "codes" `(n, DIM)` and any of the table's other columns, `(n,)` each; NaN and None mean
            unknown. `seed` is 0, `status` "ok" and everything else unknown where it is not given.
        extra: names of the text columns to keep beside the usual ones.

    Raises:
        TableError: see `check`.
        OutOfSpaceError: a code is outside the space.
    """
    wanted = schema(task, extra)
    for name in columns:
        if name not in (*wanted.names, "codes"):
            raise TableError(f"task {task.name!r} has no column {name!r}; expected {', '.join(wanted.names)}")
    codes = spaces.get(task.space).check(columns["codes"])
    n = len(codes)
    given = {"seed": np.zeros(n, np.int32), "status": ["ok"] * n, **columns, "codes": codes}
    table = _assemble(task, given, wanted)
    check(table, task)
    return table


def _assemble(task: Task, columns: Columns, wanted: pa.Schema) -> pa.Table:
    """Columns, with the codes as one array, as an Arrow table; those that are not given are null."""
    import pyarrow as pa

    space = spaces.get(task.space)
    codes = space.check(columns["codes"])
    given = {**columns, **dict(zip(space.NAMES, codes.T, strict=True))}
    arrays = []
    for field in wanted:
        values = given.get(field.name)
        if values is None:
            arrays.append(pa.nulls(len(codes), field.type))
            continue
        try:
            # from_pandas: NaN and None become null.
            arrays.append(pa.array(values, from_pandas=True).cast(field.type))
        except (pa.ArrowException, TypeError) as error:
            raise TableError(f"column {field.name!r}: expected {field.type}; {error}") from None
    lengths = {name: len(a) for name, a in zip(wanted.names, arrays, strict=True) if len(a) != len(codes)}
    if lengths:
        raise TableError(f"{len(codes)} codes, but columns of other lengths: {lengths}")
    return pa.Table.from_arrays(arrays, schema=wanted)


def check(arrow: pa.Table, task: Task, where: str = "the table") -> Table:
    """Checks columns, types and rows; returns what queries need.

    Raises:
        TableError: a column is missing, extra or of another type; a code is outside the space; a value is
            not finite or outside its metric's bounds; an "ok" trial has no objective; a status is unknown;
            two rows have the same code and seed. Names the column, and the row where there is one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    _check_columns(arrow, schema(task, _extra_columns(arrow)), where)
    codes = _check_codes(arrow, task, where)
    seed = arrow["seed"].to_numpy().astype(np.int32)
    status = pc.index_in(arrow["status"], pa.array(STATUSES)).to_numpy().astype(np.float64)
    if (unknown := np.isnan(status)).any():
        row = int(unknown.argmax())
        found = arrow["status"][row].as_py()
        raise TableError(f"{where}: row {row}: status is {found!r}; expected one of {', '.join(STATUSES)}")
    ok = status == 0
    values = {name: _check_numbers(arrow, task, name, where) for name in (*_metric_names(task), *COSTS)}
    lacking = ok & np.isnan(values[task.objective])
    if lacking.any():
        raise TableError(f"{where}: row {lacking.argmax()}: status is 'ok' but {task.objective} is null")
    _check_unique(codes, [seed], ("seed",), where)
    return Table(codes, seed, ok, values)


def check_curves(arrow: pa.Table, task: Task, where: str = "the curves") -> None:
    """Checks a curve table as `check` does a table of trials; other columns than metrics hold any number."""
    fixed = [*spaces.get(task.space).NAMES, "seed", "epoch"]
    names = [name for name in arrow.column_names if name not in fixed]
    _check_columns(arrow, curve_schema(task, names), where)
    if task.objective not in names:
        raise TableError(f"{where}: there is no column {task.objective!r}, the task's objective")
    codes = _check_codes(arrow, task, where)
    for name in _metric_names(task):
        if name in names:
            _check_numbers(arrow, task, name, where)
    steps = [arrow[name].to_numpy() for name in ("seed", "epoch")]
    if (early := steps[1] < 1).any():
        row = int(early.argmax())
        raise TableError(f"{where}: row {row}: epoch is {steps[1][row]}; epochs count from 1")
    _check_unique(codes, steps, ("seed", "epoch"), where)


def _metric_names(task: Task) -> list[str]:
    return [metric.name for metric in task.metrics]


def _check_numbers(arrow: pa.Table, task: Task, name: str, where: str) -> Floats:
    """A numeric column, checked against its bounds; NaN where it is null."""
    column: Floats = arrow[name].to_numpy().astype(np.float64)
    metric = next((m for m in task.metrics if m.name == name), None)
    bounds = (metric.lower, metric.upper) if metric else (0.0, None)
    lower, upper = (b if b is not None else s for b, s in zip(bounds, (-np.inf, np.inf), strict=True))
    known = ~arrow[name].is_null().to_numpy()
    bad = known & ~(np.isfinite(column) & (column >= lower) & (column <= upper))
    if bad.any():
        row = int(bad.argmax())
        raise TableError(
            f"{where}: row {row}: {name} is {column[row]}; expected a number in [{lower:g}, {upper:g}]"
        )
    return column


def _extra_columns(arrow: pa.Table) -> list[str]:
    about = (arrow.schema.metadata or {}).get(b"nasbench_mr", b"{}")
    try:
        extra = json.loads(about)["extra"]
        return extra if all(isinstance(name, str) for name in extra) else []
    except (ValueError, KeyError, TypeError):
        return []


def _check_columns(arrow: pa.Table, wanted: pa.Schema, where: str) -> None:
    for name in wanted.names:
        if name not in arrow.column_names:
            raise TableError(f"{where}: there is no column {name!r}; expected {', '.join(wanted.names)}")
    for name in arrow.column_names:
        if arrow.column_names.count(name) > 1 or name not in wanted.names:
            raise TableError(f"{where}: unexpected column {name!r}; expected {', '.join(wanted.names)}")
        found, expected = arrow.schema.field(name).type, wanted.field(name).type
        if found != expected:
            raise TableError(f"{where}: column {name!r} is {found}; expected {expected}")
        if name in (*wanted.names[: wanted.names.index("seed") + 1], "epoch") and arrow[name].null_count:
            raise TableError(f"{where}: column {name!r} has nulls; codes, seeds and epochs are never unknown")


def _check_codes(arrow: pa.Table, task: Task, where: str) -> npt.NDArray[np.uint8]:
    space = spaces.get(task.space)
    codes = np.empty((len(arrow), space.DIM), np.int16)
    for k, name in enumerate(space.NAMES):
        codes[:, k] = arrow[name].to_numpy()
    try:
        return space.check(codes).astype(np.uint8)
    except ValueError as error:
        raise TableError(f"{where}: {error}") from None


def _check_unique(
    codes: npt.NDArray[np.uint8], parts: list[npt.NDArray[Any]], names: tuple[str, ...], where: str
) -> None:
    # Only rows whose 64-bit hashes agree are compared in full.
    columns = [codes[:, k] for k in range(codes.shape[1])] + parts
    factors = np.random.default_rng(0).integers(1, 2**63, size=len(columns), dtype=np.uint64) | np.uint64(1)
    hashes = np.zeros(len(codes), np.uint64)
    for column, factor in zip(columns, factors, strict=True):
        hashes += column.astype(np.uint64) * factor
    order = np.argsort(hashes, kind="stable")
    twins = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    for a, b in sorted(zip(order[twins].tolist(), order[twins + 1].tolist(), strict=True)):
        if all(column[a] == column[b] for column in columns):
            shown = ", ".join(f"{name} {part[a]}" for name, part in zip(names, parts, strict=True))
            raise TableError(f"{where}: rows {a} and {b} are the same trial (code and {shown})")


def read_arrow(path: str | os.PathLike[str]) -> pa.Table:
    """A Parquet file as an Arrow table, unchecked.

    Raises:
        TableError: not a complete Parquet file.
        FileNotFoundError: no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_ROWS or file.metadata.num_columns > MAX_COLUMNS:
                raise TableError(
                    f"{path} says it has {file.metadata.num_rows:,} rows and {file.metadata.num_columns:,} "
                    f"columns; expected at most {MAX_ROWS:,} and {MAX_COLUMNS:,}"
                )
            arrow = file.read()
        # Lengths and text that a hostile file makes up would only be noticed later, and worse.
        arrow.validate(full=True)
        return arrow
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise TableError(f"{path} is not a complete Parquet file: {error}") from None


def write_arrow(arrow: pa.Table, path: str | os.PathLike[str]) -> None:
    """Writes Parquet atomically; the same rows give the same bytes."""
    import pyarrow.parquet as pq

    with files.atomic(path) as temporary:
        pq.write_table(arrow, temporary, compression="zstd")


def write(path: str | os.PathLike[str], task: Task, columns: Columns, extra: Iterable[str] = ()) -> pa.Table:
    """Checks trials (see `to_arrow`) and writes them as Parquet, atomically."""
    arrow = to_arrow(task, columns, extra)
    write_arrow(arrow, path)
    return arrow


def write_curves(path: str | os.PathLike[str], task: Task, columns: Columns) -> pa.Table:
    """Checks learning curves and writes them as Parquet, atomically.

    Args:
        columns: "codes" `(n, DIM)`, "seed" and "epoch" `(n,)`, and numeric columns, the objective among them.
    """
    names = [name for name in columns if name not in ("codes", "seed", "epoch")]
    arrow = _assemble(task, columns, curve_schema(task, names))
    check_curves(arrow, task)
    write_arrow(arrow, path)
    return arrow


def append(path: str | os.PathLike[str], task: Task, columns: Columns) -> None:
    """Adds trials to a table file, or starts it; all or nothing.

    Raises:
        TableError: a new trial is malformed, or already there.
    """
    import pyarrow as pa

    if not Path(path).exists():
        write(path, task, columns)
        return
    old = read_arrow(path)
    extra = _extra_columns(old)
    joined = pa.concat_tables([old, to_arrow(task, columns, extra)])
    check(joined, task, str(path))
    write_arrow(joined, path)


def compact(parts: Iterable[str | os.PathLike[str]], path: str | os.PathLike[str], task: Task) -> pa.Table:
    """Joins part files of trials into one table, in the order given.

    Where a trial (code and seed) is in several parts, the first "ok" one stays, else the last.

    Raises:
        TableError: a part is unreadable or malformed.
    """
    import pyarrow as pa

    tables = {str(part): read_arrow(part) for part in parts}
    extra = _extra_columns(next(iter(tables.values()))) if tables else []
    wanted = schema(task, extra)
    ordered = []
    for part, arrow in tables.items():
        _check_columns(arrow, wanted, part)
        ordered.append(arrow.select(wanted.names).cast(wanted))
    joined = pa.concat_tables(ordered) if ordered else wanted.empty_table()
    codes = _check_codes(joined, task, str(path))
    ok = np.array([status == "ok" for status in joined["status"].to_pylist()], bool)
    keep: dict[tuple[bytes, int], int] = {}
    for row, trial in enumerate(zip(keys_of(codes), joined["seed"].to_pylist(), strict=True)):
        if trial not in keep or not ok[keep[trial]]:
            keep[trial] = row
    joined = joined.take(pa.array(list(keep.values()), pa.int64())).replace_schema_metadata(wanted.metadata)
    check(joined, task, str(path))
    write_arrow(joined, path)
    return joined


# --- In memory, and its cache -------------------------------------------------------------------------


def read(
    path: str | os.PathLike[str], task: Task, sha256: str | None = None, cache: Path | None = None
) -> Table:
    """A task's trials, checked.

    Args:
        path: the Parquet file.
        task: whose trials these are.
        sha256: the hash that the file must have; with `cache`, a folder, lets the next `read` skip Parquet.

    Raises:
        IntegrityError: the file has another hash.
        TableError: see `check` and `read_arrow`.
    """
    copy = cache / f"{sha256}-v{SCHEMA_VERSION}.safetensors" if sha256 and cache else None
    table = _read_copy(copy, task) if copy else None
    if table is not None:
        return table
    arrow = read_arrow(path)
    if sha256:
        files.check_sha256(path, sha256)
    table = check(arrow, task, str(path))
    del arrow
    if copy is None:
        return table
    _write_copy(copy, table)
    import pyarrow as pa

    # The copy is mapped, not read: the memory that Parquet took can go back to the system.
    table = _read_copy(copy, task) or table
    pa.default_memory_pool().release_unused()
    return table


def _write_copy(path: Path, table: Table) -> None:
    arrays: dict[str, tuple[str, npt.NDArray[Any]]] = {
        "codes": ("U8", table.codes),
        "ok": ("BOOL", table.ok),
        "seed": ("I32", table.seed),
        **{name: ("F64", values) for name, values in table.values.items()},
    }
    header: dict[str, Any] = {}
    chunks, offset = [], 0
    # Wide types first, so that every array is aligned to its size.
    for name, (kind, array) in sorted(arrays.items(), key=lambda item: -item[1][1].itemsize):
        data = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": (offset, offset + len(data))}
        chunks.append(data)
        offset += len(data)
    body = b"".join(chunks)
    header["__metadata__"] = {"crc32": str(_checksum(header, body))}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    try:
        files.write_bytes(path, len(text).to_bytes(8, "little") + text + body)
    except (StorageError, OSError):
        return  # A folder that can't be written only costs speed.


def _read_copy(path: Path, task: Task) -> Table | None:
    """The copy at `path`, or None where there is none that fits."""
    try:
        with open(path, "rb") as file:
            raw = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        start = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(bytes(raw[8:start]))
        body = raw[start:]
        if int(header.pop("__metadata__")["crc32"]) != _checksum(header, body):
            return None
        kinds = {"U8": np.uint8, "BOOL": np.bool_, "I32": np.int32, "F64": np.float64}
        arrays = {
            name: np.frombuffer(body[slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(
                entry["shape"]
            )
            for name, entry in header.items()
        }
        codes, seed, ok = (arrays.pop(name) for name in ("codes", "seed", "ok"))
        values = {name: arrays[name] for name in (*(m.name for m in task.metrics), *COSTS)}
        return Table(codes, seed, ok, values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checksum(header: Mapping[str, Any], body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(json.dumps(header).encode()))
