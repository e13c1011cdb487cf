"""Sizes of Parquet's pages equal what pyarrow says of good files; bombs are refused before they unpack."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nasbench_mr import parquet_sizes, table
from nasbench_mr.errors import TableError
from nasbench_mr.parquet_sizes import Size

TEXT = ["a" * 100, "bb", "a" * 100] * 1000


def written(arrow: pa.Table, **options: Any) -> io.BytesIO:
    sink = io.BytesIO()
    pq.write_table(arrow, sink, **options)
    return sink


def test_sizes_by_hand() -> None:
    """1,000 numbers of 8 bytes in pages of 100, and three texts behind their lengths of 4 bytes."""
    numbers = pa.table({"x": np.arange(1000, dtype=np.int64)})
    options = {"use_dictionary": False, "write_batch_size": 100, "compression": "zstd"}
    (size,) = parquet_sizes.of_columns(written(numbers, data_page_size=1, data_page_version="2.0", **options))
    assert (size.values, size.plain) == (1000, True)
    assert 800 <= size.largest < 820  # and where the unknown ones are
    assert 8000 <= size.unpacked < 8200
    (size,) = parquet_sizes.of_columns(written(pa.table({"x": ["a", "bb", "ccc"]}), use_dictionary=False))
    assert size.values == 3
    assert 4 * 3 + 6 <= size.unpacked < 4 * 3 + 6 + 10


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_sizes_are_those_of_the_footer(version: str, compression: str) -> None:
    """Its sizes have the pages' headers in them, of at most 100 bytes each; here a page is 100 values."""
    arrow = pa.table({"x": np.arange(3000.0), "text": TEXT, "list": [[k, k] for k in range(3000)]})
    file = written(
        arrow, row_group_size=1000, data_page_version=version, compression=compression, data_page_size=800
    )
    about = pq.read_metadata(file)
    for k, size in enumerate(parquet_sizes.of_columns(file)):
        said = [about.row_group(group).column(k) for group in range(3)]
        assert size.values == sum(column.num_values for column in said)
        headers = sum(column.total_uncompressed_size for column in said) - size.unpacked
        assert 0 < headers < 100 * (3000 / 50 + 3)
        assert size.plain


def test_texts_that_share_their_beginnings_are_told() -> None:
    made = written(pa.table({"x": TEXT}), use_dictionary=False, column_encoding={"x": "DELTA_BYTE_ARRAY"})
    (size,) = parquet_sizes.of_columns(made)
    assert not size.plain
    assert table.read_arrow(made)["x"].to_pylist() == TEXT


def test_sizes_add_up() -> None:
    assert Size(1, 10, 10).with_(2, 30, 25, True) == Size(3, 40, 25)
    assert Size(1, 10, 10).with_(2, 30, 25, False).plain is False


def test_categories_are_their_texts() -> None:
    numbers = pa.array([5, None, 7] * 1000).dictionary_encode()
    made = pa.table({"x": pa.array(TEXT).dictionary_encode(), "n": numbers})
    found = table.read_arrow(written(made))
    assert found.schema.types == [pa.string(), pa.int64()]
    assert found["x"].to_pylist() == TEXT
    assert found["n"].to_pylist() == [5, None, 7] * 1000


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.struct([("a", pa.int8())])])
def test_nested_columns_are_refused(kind: pa.DataType) -> None:
    with pytest.raises(TableError, match=r"column 'x' is .*; expected numbers, text or lists of numbers"):
        table.read_arrow(written(pa.table({"x": pa.array([None], kind)})))


def test_cut_and_altered_anywhere() -> None:
    """Every cut and flip is a named error, or has sizes."""
    data = written(pa.table({"x": [1, 2, 3], "text": ["a", "b", "c"]})).getvalue()
    refused = 0
    for end in range(len(data)):
        with pytest.raises(TableError, match=r"is not a complete Parquet file|has a footer"):
            parquet_sizes.of_columns(io.BytesIO(data[:end]))
        altered = bytearray(data)
        altered[end] ^= 0xFF
        try:
            parquet_sizes.of_columns(io.BytesIO(altered))
        except TableError:
            refused += 1
    assert refused > 50


def test_numbers_of_parts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = written(pa.table({"x": np.arange(1000)}), row_group_size=100)
    for name, message in (("MAX_CHUNKS", "more than 3 columns in row"), ("MAX_PAGES", "more than 3 pages")):
        with monkeypatch.context() as patch:
            patch.setattr(parquet_sizes, name, 3)
            with pytest.raises(TableError, match=message):
                parquet_sizes.of_columns(made)
    monkeypatch.setattr(parquet_sizes, "MAX_FOOTER", 100)
    with pytest.raises(TableError, match=r"a footer of [\d,]+ bytes; expected at most 100"):
        parquet_sizes.of_columns(made)


# --- Bombs ----------------------------------------------------------------------------------------------


def texts() -> pa.Table:
    """Return 10 GB: a thousand times the same text of 10 MiB."""
    alike = pa.array(np.zeros(1000, np.int32))
    return pa.table({"x": pa.DictionaryArray.from_arrays(alike, pa.array(["x" * (10 << 20)]))})


def nothing() -> pa.Table:
    """Return one list of nothing, seven million times."""
    ends = pa.array([0, 7_000_000], pa.int32())
    return pa.table({"x": pa.ListArray.from_arrays(ends, pa.nulls(7_000_000, pa.int8()))})


UNPACKS = "unpacks to more than 1,073,741,824 bytes"
#: Files of at most 20 kB: what is in them, how it is written, and what is said of them.
BOMBS: dict[str, tuple[Callable[[], pa.Table], dict[str, Any], str]] = {
    "text": (texts, {"store_schema": False}, UNPACKS),
    "a dictionary that is to stay one": (texts, {}, UNPACKS),
    "list": (nothing, {}, r"1 rows, with 7,000,000 values in a column, in \d+ bytes; expected a byte"),
    "rows": (lambda: pa.table({"x": np.ones(1_000_000)}), {}, "1,000,000 rows, with 1,000,000 values in a"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_little_memory(name: str, tmp_path: Path) -> None:
    """In a process that may take 128 MB more than it has when it begins."""
    make, options, message = BOMBS[name]
    pq.write_table(make(), tmp_path / "x.parquet", compression="zstd", **options)
    assert (tmp_path / "x.parquet").stat().st_size < 20_000
    program = (
        "import resource, sys; import pyarrow.parquet; from nasbench_mr import table\n"
        "from nasbench_mr.errors import TableError\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10\n"
        "before = peak()\n"
        "try: table.read_arrow(sys.argv[1])\n"
        "except TableError as error: print(peak() - before, error)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "x.parquet"], capture_output=True, text=True, check=True
    )
    megabytes, error = found.stdout.split(" ", 1)
    assert int(megabytes) < 128
    assert re.search(message, error)


def test_a_page_larger_than_all_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One text of 5 MB in a page of its own, packed to some hundred bytes."""
    monkeypatch.setattr(table, "MAX_BYTES", 4_000_000)
    with pytest.raises(TableError, match="unpacks to more than 4,000,000 bytes"):
        table.read_arrow(written(pa.table({"x": ["x" * 5_000_000]}), compression="zstd"))
