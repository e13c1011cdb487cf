"""Tables: a task's trials as Parquet.

A row is one trial: one training of one code with one seed. Columns, in order:

    the code's integers (int16, named as `space.NAMES`), `seed` (int32), the task's metrics (float64), `macs`
    and `params` (int64), `epochs` (int32), `train_seconds` (float64), `device`, `status`, `error` (string),
    then extra text columns, listed in the file's metadata (such as the published `stratum`).

Unknown is null, never 0 or -1. `status` is "ok", "diverged" or "failed"; an "ok" trial has its objective.
A curve file has the code's columns, `seed`, `epoch` (int32) and any number of float64 columns, the metrics
among them. Both carry key-value metadata (task, units, schema version), so that pandas, Polars or DuckDB can
make sense of them alone. `trials.py` holds them in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import files, parquet_sizes, spaces
from nasbench_mr.arrays import Floats, keys
from nasbench_mr.errors import TableError
from nasbench_mr.tasks import Task
from nasbench_mr.trials import COSTS, SCHEMA_VERSION, Trials

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

#: Limits for Parquet files: a few bytes can claim any number of rows.
MAX_ROWS = 100_000_000
MAX_COLUMNS = 1000
MAX_BYTES = 1 << 30
#: A file of fewer bytes than rows has no more rows than this: trials differ, so each takes some bytes.
_ALIKE = 100_000
#: Numbers that a row's list may have, on average; a code has some 30.
_LISTED = 64
#: Rows read at once.
_BATCH = 1 << 16
#: Arrow's types of values of any length.
_TEXTS = ("string", "binary", "large_string", "large_binary")
#: Bytes of a value of Parquet's types, where all have as many.
_WIDTHS = {"BYTE_ARRAY": 0, "BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 8}
STATUSES = ("ok", "diverged", "failed")
TEXTS = ("device", "status", "error")

Columns = Mapping[str, Any]


# --- Parquet ------------------------------------------------------------------------------------------


def schema(task: Task, extra: Iterable[str] = ()) -> pa.Schema:
    """Return the Arrow schema of a task's table, with `extra` text columns."""
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
    """Return the Arrow schema of a task's learning curves, with these float64 columns."""
    import pyarrow as pa

    fields = [(name, pa.int16()) for name in spaces.get(task.space).NAMES]
    fields += [("seed", pa.int32()), ("epoch", pa.int32())]
    fields += [(name, pa.float64()) for name in columns]
    return pa.schema(fields, _metadata(task, {m.name: m.unit for m in task.metrics}))


def _metadata(task: Task, units: Mapping[str, str], **more: object) -> dict[str, str]:
    about = {"task": task.to_dict(), "units": units, "schema_version": SCHEMA_VERSION, **more}
    if (described := spaces.description(task.space)) is not None:
        about["space"] = described.to_dict()  # a column holds the positions of these values
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


def check(arrow: pa.Table, task: Task, where: str = "the table") -> Trials:
    """Check columns, types and rows; return what queries need.

    Raises:
        TableError: a column is missing, extra or of another type; a code is outside the space; a value is
            not finite or outside its metric's bounds; an "ok" trial has no objective; a status is unknown;
            two rows have the same code and seed. Names the column, and the row where there is one.
    """
    _check_columns(arrow, schema(task, _extra_columns(arrow)), where)
    codes = _check_codes(arrow, task, where)
    seed = _numbers(arrow["seed"])
    ok = _check_status(arrow, where)
    values = {name: _check_numbers(arrow, task, name, where) for name in (*_metric_names(task), *COSTS)}
    lacking = ok & np.isnan(values[task.objective])
    if lacking.any():
        raise TableError(f"{where}: row {lacking.argmax()}: status is 'ok' but {task.objective} is null")
    _check_unique([*codes.T, seed], ("seed",), where)
    arrays = {"codes": np.ascontiguousarray(codes).reshape(-1), "seed": seed, "ok": ok, **values}
    columns = {name: array.data for name, array in arrays.items()}
    unknown = {name: int(np.isnan(column).sum()) for name, column in values.items()}
    return Trials(codes.shape[1], columns, unknown)


def _check_status(arrow: pa.Table, where: str) -> npt.NDArray[np.bool_]:
    """`(n,)`, whether a trial is "ok"."""
    import pyarrow as pa

    encoded = arrow["status"].dictionary_encode().chunks
    which = _numbers(pa.chunked_array([chunk.indices for chunk in encoded], pa.int32()))
    #: The different statuses; at -1, what null stands for.
    found = [*(encoded[0].dictionary.to_pylist() if encoded else []), None]
    at = np.where(np.isnan(which), -1, which).astype(np.int64)
    unknown = np.array([status not in STATUSES for status in found])[at]
    if unknown.any():
        row = int(unknown.argmax())
        expected = ", ".join(STATUSES)
        raise TableError(f"{where}: row {row}: status is {found[at[row]]!r}; expected one of {expected}")
    ok: npt.NDArray[np.bool_] = np.array([status == "ok" for status in found])[at]
    return ok


def check_curves(arrow: pa.Table, task: Task, where: str = "the curves") -> None:
    """Check a curve table as `check` does a table of trials; other columns than metrics hold any number."""
    fixed = [*spaces.get(task.space).NAMES, "seed", "epoch"]
    names = [name for name in arrow.column_names if name not in fixed]
    _check_columns(arrow, curve_schema(task, names), where)
    if task.objective not in names:
        raise TableError(f"{where}: there is no column {task.objective!r}, the task's objective")
    codes = _check_codes(arrow, task, where)
    for name in _metric_names(task):
        if name in names:
            _check_numbers(arrow, task, name, where)
    steps = [_numbers(arrow[name]) for name in ("seed", "epoch")]
    if (early := steps[1] < 1).any():
        row = int(early.argmax())
        raise TableError(f"{where}: row {row}: epoch is {steps[1][row]}; epochs count from 1")
    _check_unique([*codes.T, *steps], ("seed", "epoch"), where)


def _metric_names(task: Task) -> list[str]:
    return [metric.name for metric in task.metrics]


def _check_numbers(arrow: pa.Table, task: Task, name: str, where: str) -> Floats:
    """Return a numeric column, checked against its bounds; NaN where it is null."""
    column: Floats = _numbers(arrow[name]).astype(np.float64)
    metric = next((m for m in task.metrics if m.name == name), None)
    lower, upper = metric.limits if metric else (0.0, np.inf)
    bad = ~(np.isfinite(column) & (column >= lower) & (column <= upper))
    if arrow[name].null_count:
        bad &= ~_nulls(arrow[name])
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
    except (ValueError, KeyError, TypeError, RecursionError):
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


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return a numeric column as an array, of floats with NaN if there are nulls.

    (Arrow's own imports pandas.).
    """
    kind = column.type.to_pandas_dtype()
    parts = [
        np.frombuffer(chunk.buffers()[1], kind)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in column.chunks
        if len(chunk)
    ]
    values: npt.NDArray[Any] = np.concatenate(parts) if parts else np.empty(0, kind)
    return np.where(_nulls(column), np.nan, values) if column.null_count else values


def _nulls(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Where a column is null."""
    parts = []
    for chunk in column.chunks:
        bits = chunk.buffers()[0]
        if bits is None:
            parts.append(np.zeros(len(chunk), bool))
        else:
            known = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
            parts.append(known[chunk.offset : chunk.offset + len(chunk)] == 0)
    return np.concatenate(parts)


def _check_codes(arrow: pa.Table, task: Task, where: str) -> npt.NDArray[np.uint8]:
    """`(n, DIM)`, checked; in memory column by column, as they come from the file."""
    space = spaces.get(task.space)
    columns = np.empty((space.DIM, len(arrow)), np.int16)
    for k, name in enumerate(space.NAMES):
        columns[k] = _numbers(arrow[name])
    try:
        return space.check(columns.T).astype(np.uint8)
    except ValueError as error:
        raise TableError(f"{where}: {error}") from None


def _check_unique(columns: list[npt.NDArray[Any]], names: tuple[str, ...], where: str) -> None:
    """Raise `TableError` where two rows are equal in all columns; the last ones are called `names`."""
    # Only rows whose 64-bit hashes agree are compared in full.
    factors = np.random.default_rng(0).integers(1, 2**63, size=len(columns), dtype=np.uint64) | np.uint64(1)
    hashes = np.zeros(len(columns[0]), np.uint64)
    for column, factor in zip(columns, factors, strict=True):
        hashes += column.astype(np.uint64) * factor
    ordered = np.sort(hashes)
    if not (ordered[1:] == ordered[:-1]).any():
        return
    order = np.argsort(hashes, kind="stable")
    twins = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    for a, b in sorted(zip(order[twins].tolist(), order[twins + 1].tolist(), strict=True)):
        if all(column[a] == column[b] for column in columns):
            parts = zip(names, columns[-len(names) :], strict=True)
            shown = ", ".join(f"{name} {part[a]}" for name, part in parts)
            raise TableError(
                f"{where}: rows {a} and {b} are the same trial (code and {shown}); keep one, "
                "or give each a seed"
            )


def read_arrow(path: str | os.PathLike[str] | IO[bytes], where: str | None = None) -> pa.Table:
    """Return a Parquet file's table, its values unchecked but for what hurts their readers.

    Args:
        path: the file, or an open one.
        where: what it is called in errors.

    Raises:
        TableError: not a complete Parquet file, or one that unpacks to more than `MAX_BYTES`.
        FileNotFoundError: no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = str(path) if where is None else where
    try:
        about, columns = _check_claims(path, where)
        leaves = [about.schema.column(k) for k in range(about.num_columns)]
        # Texts come as one of each and where it stands: what they unpack to is known before they do.
        texts = [
            leaf.path
            for leaf, size in zip(leaves, columns, strict=False)
            if leaf.physical_type == "BYTE_ARRAY" and size.plain
        ]
        # Of the others a few rows at once.
        longest = max([1, *(size.largest for size in columns if not size.plain)])
        rows = min(_BATCH, MAX_BYTES // (4 * longest) + 1)
        with pq.ParquetFile(path, metadata=about, read_dictionary=texts) as file:
            batches, left = [], MAX_BYTES
            for batch in file.iter_batches(rows):
                batch.validate(full=True)  # texts that a hostile file makes up
                plain = _plain(batch, left)
                left -= left + 1 if plain is None else plain.nbytes
                if plain is None or left < 0:
                    raise TableError(f"{where} unpacks to more than {MAX_BYTES:,} bytes; refused")
                batches.append(plain)
            arrow = pa.Table.from_batches(batches, _plain_schema(file.schema_arrow))
        if arrow.num_rows != about.num_rows:
            raise TableError(f"{where} has {arrow.num_rows:,} rows, and says that it has {about.num_rows:,}")
        return arrow
    except (pa.ArrowException, OSError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise TableError(f"{where} is not a complete Parquet file: {error}") from None


def _check_claims(
    path: str | os.PathLike[str] | IO[bytes], where: str
) -> tuple[pq.FileMetaData, list[parquet_sizes.Size]]:
    """Return what a Parquet file says of itself, and of its columns' sizes, within the limits."""
    import pyarrow.parquet as pq

    about = pq.read_metadata(path)
    if about.num_rows > MAX_ROWS or about.num_columns > MAX_COLUMNS:
        raise TableError(
            f"{where} says it has {about.num_rows:,} rows and {about.num_columns:,} columns; "
            f"expected at most {MAX_ROWS:,} and {MAX_COLUMNS:,}"
        )
    _check_types(about.schema.to_arrow_schema(), where)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(path, "rb")) if isinstance(path, (str, os.PathLike)) else path
        try:
            columns = parquet_sizes.of_columns(file)
        except TableError as error:
            raise TableError(f"{where} {error}") from None
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
    values, most = max((column.values for column in columns), default=0), max(length, _ALIKE)
    if about.num_rows > most or values > most * _LISTED:
        raise TableError(
            f"{where} says it has {about.num_rows:,} rows, with {values:,} values in a column, in {length:,} "
            "bytes; expected a byte for each row"
        )
    leaves = [about.schema.column(k) for k in range(about.num_columns)]
    widths = [_WIDTHS.get(leaf.physical_type, leaf.length) for leaf in leaves]
    sizes = [max(c.unpacked, width * c.values) for c, width in zip(columns, widths, strict=False)]
    if sum(sizes) > MAX_BYTES:
        raise TableError(f"{where} unpacks to more than {MAX_BYTES:,} bytes; refused")
    return about, columns


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema with the values' types where it has dictionaries of them."""
    from pyarrow import types

    for k, field in enumerate(schema):
        if types.is_dictionary(field.type):
            schema = schema.set(k, field.with_type(field.type.value_type))
    return schema


def _check_types(schema: pa.Schema, where: str) -> None:
    """Raise `TableError` where a column is nested, but a list of numbers."""
    from pyarrow import types

    for field in schema:
        inner = getattr(field.type, "value_type", field.type)
        if types.is_nested(field.type) and not types.is_primitive(inner):
            raise TableError(
                f"{where}: column {field.name!r} is {field.type}; expected numbers, text or lists of numbers"
            )


def _plain(batch: pa.RecordBatch, most: int) -> pa.RecordBatch | None:
    """Return rows with values in the place of dictionaries; None where texts take more than `most` bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    schema, columns = _plain_schema(batch.schema), []
    for column, field in zip(batch.columns, schema, strict=True):
        if types.is_dictionary(column.type):
            if str(field.type) in _TEXTS:
                lengths = pc.binary_length(column.dictionary).cast(pa.int64())
                most -= pc.sum(lengths.take(column.indices)).as_py() or 0
                if most < 0:
                    return None
            column = column.dictionary_decode()
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def write_arrow(arrow: pa.Table, path: str | os.PathLike[str]) -> None:
    """Write Parquet atomically; the same rows give the same bytes."""
    import pyarrow.parquet as pq

    with files.atomic(path) as temporary:
        pq.write_table(arrow, temporary, compression="zstd")


def write(path: str | os.PathLike[str], task: Task, columns: Columns, extra: Iterable[str] = ()) -> pa.Table:
    """Check trials (see `to_arrow`) and write them as Parquet, atomically."""
    arrow = to_arrow(task, columns, extra)
    write_arrow(arrow, path)
    return arrow


def write_curves(path: str | os.PathLike[str], task: Task, columns: Columns) -> pa.Table:
    """Check learning curves (see `curves_to_arrow`) and write them as Parquet, atomically."""
    arrow = curves_to_arrow(task, columns)
    write_arrow(arrow, path)
    return arrow


def curves_to_arrow(task: Task, columns: Columns) -> pa.Table:
    """Return learning curves as a checked Arrow table.

    Args:
        columns: "codes" `(n, DIM)`, "seed" and "epoch" `(n,)`, and numeric columns, the objective among them.
    """
    names = [name for name in columns if name not in ("codes", "seed", "epoch")]
    arrow = _assemble(task, columns, curve_schema(task, names))
    check_curves(arrow, task)
    return arrow


def join(
    old: pa.Table, new: pa.Table, task: Task, *, replace: bool = False, where: str = "the table"
) -> pa.Table:
    """Return a task's trials with others added at the end.

    Text columns that only one of the tables has are unknown in the rows of the other.

    Args:
        replace: a new trial of a code and seed that are there takes the old one's place.
        where: what `old` is called in errors.

    Raises:
        TableError: a table is malformed; or, without `replace`, a new trial is already there.
    """
    import pyarrow as pa

    wanted = schema(task, dict.fromkeys([*_extra_columns(old), *_extra_columns(new)]))
    known = {trial: row for row, trial in enumerate(_trials(old, task, where))}
    rows = list(range(len(old)))
    twice = 0
    for row, trial in enumerate(_trials(new, task, "the new trials")):
        at = known.get(trial)
        if at is None:
            rows.append(len(old) + row)
        else:
            twice += 1
            rows[at] = len(old) + row
    if twice and not replace:
        first = next(row - len(old) for row in rows[: len(old)] if row >= len(old))
        raise TableError(
            f"{where} already has {twice:,} of the {len(new):,} new trials (the same code and seed; first "
            f"row {first}): leave them out, or put them in the place of the old ones (--replace)"
        )
    both = pa.concat_tables([_widened(arrow, wanted) for arrow in (old, new)])
    joined = both.take(pa.array(rows, pa.int64())).replace_schema_metadata(wanted.metadata)
    check(joined, task, where)
    return joined


def join_curves(old: pa.Table, new: pa.Table | None, trials: pa.Table, task: Task) -> pa.Table:
    """Return a task's learning curves with those of new trials added, in the place of any of these trials."""
    import pyarrow as pa

    added = set(_trials(trials, task, "the new trials"))
    rows = [row for row, trial in enumerate(_trials(old, task, "the curves")) if trial not in added]
    tables = [old.take(pa.array(rows, pa.int64())), *([] if new is None else [new])]
    fixed = (*spaces.get(task.space).NAMES, "seed", "epoch")
    names = dict.fromkeys(name for arrow in tables for name in arrow.column_names if name not in fixed)
    wanted = curve_schema(task, names)
    joined = pa.concat_tables([_widened(arrow, wanted) for arrow in tables])
    check_curves(joined, task)
    return joined


def without_worse(
    new: pa.Table, curves: pa.Table | None, old: pa.Table, task: Task
) -> tuple[pa.Table, pa.Table | None]:
    """Return trials, and their curves, without those that failed or diverged where `old` has a result."""
    import pyarrow as pa

    had = dict(zip(_trials(old, task, "the table"), old["status"].to_pylist(), strict=True))
    status, trials = new["status"].to_pylist(), _trials(new, task, "the new trials")
    rank = STATUSES.index
    worse = {t for t, now in zip(trials, status, strict=True) if rank(now) > rank(had.get(t, now))}

    def others(arrow: pa.Table) -> pa.Table:
        rows = [row for row, t in enumerate(_trials(arrow, task, "the new trials")) if t not in worse]
        return arrow.take(pa.array(rows, pa.int64()))

    return others(new), None if curves is None else others(curves)


def _trials(arrow: pa.Table, task: Task, where: str) -> list[tuple[bytes, int]]:
    """Return each row's code, as `arrays.keys` gives it, and seed."""
    codes = _check_codes(arrow, task, where)
    return list(zip(keys(codes), arrow["seed"].to_pylist(), strict=True))


def _widened(arrow: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Return a table with the columns of another schema; those that it lacks are unknown."""
    import pyarrow as pa

    columns = [
        arrow[field.name].cast(field.type)
        if field.name in arrow.column_names
        else pa.nulls(len(arrow), field.type)
        for field in wanted
    ]
    return pa.Table.from_arrays(columns, schema=wanted)


def supersedes(new: str, old: str) -> bool:
    """Whether a later status of a trial takes the place of an earlier one.

    What was measured stays. A divergence is a result too. What failed may yet succeed: its last failure
    counts.
    """
    return STATUSES.index(new) < STATUSES.index(old) or new == old == "failed"


def compact(parts: Mapping[str, pa.Table], task: Task) -> pa.Table:
    """Return the trials of several tables, in the order given, as one checked table.

    Where a trial (code and seed) is in several, `supersedes` says which stays.

    Args:
        parts: tables by what they are called in errors.

    Raises:
        TableError: a part is malformed.
    """
    import pyarrow as pa

    extra = _extra_columns(next(iter(parts.values()))) if parts else []
    wanted = schema(task, extra)
    ordered = []
    for part, arrow in parts.items():
        _check_columns(arrow, wanted, part)
        ordered.append(arrow.select(wanted.names).cast(wanted))
    joined = pa.concat_tables(ordered) if ordered else wanted.empty_table()
    status = joined["status"].to_pylist()
    keep: dict[tuple[bytes, int], int] = {}
    for row, trial in enumerate(_trials(joined, task, "the table")):
        if trial not in keep or supersedes(status[row], status[keep[trial]]):
            keep[trial] = row
    joined = joined.take(pa.array(list(keep.values()), pa.int64())).replace_schema_metadata(wanted.metadata)
    check(joined, task, "the table")
    return joined


def read(path: str | os.PathLike[str], task: Task, sha256: str | None = None) -> Trials:
    """Return the trials in a task's table file, checked.

    Args:
        path: the Parquet file.
        task: whose trials these are.
        sha256: the hash that the file must have.

    Raises:
        IntegrityError: the file has another hash.
        TableError: see `check` and `read_arrow`.
        FileNotFoundError: no such file.
    """
    if sha256:
        files.check_sha256(path, sha256)  # before anything parses it
    return check(read_arrow(path), task, str(path))
