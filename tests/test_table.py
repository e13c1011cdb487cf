"""Tables: the schema, every check, appending and compacting, and curves."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasbench_mr import Metric, Task, arrays, cost, files, space, table, tasks, trials
from nasbench_mr.errors import IntegrityError, OutOfSpaceError, TableError

SEG = tasks.get("seg")
CODES = space.sample(6, seed=0)


def columns(n: int = 6) -> dict[str, Any]:
    """n trials of n codes: mIoU 10, 11, 12, ..."""
    return {
        "codes": CODES[:n],
        "mIoU": 10.0 + np.arange(n),
        "mAcc": 20.0 + np.arange(n),
        "aAcc": 30.0 + np.arange(n),
        "macs": cost.macs(CODES[:n]),
        "params": cost.params(CODES[:n]),
    }


def good() -> pa.Table:
    return table.to_arrow(SEG, columns())


def with_column(name: str, values: list[Any], kind: pa.DataType | None = None) -> pa.Table:
    arrow = good()
    k = arrow.column_names.index(name)
    kind = arrow.schema.field(name).type if kind is None else kind
    return arrow.set_column(k, name, pa.array(values, kind))


# --- Schema -------------------------------------------------------------------------------------------


def test_schema() -> None:
    fields = [(f.name, str(f.type)) for f in table.schema(SEG, ["stratum"])]
    assert fields == [
        *((name, "int16") for name in space.NAMES),
        ("seed", "int32"),
        *((name, "double") for name in ("mIoU", "mAcc", "aAcc")),
        ("macs", "int64"),
        ("params", "int64"),
        ("epochs", "int32"),
        ("train_seconds", "double"),
        *((name, "string") for name in ("device", "status", "error", "stratum")),
    ]


def test_a_metric_can_not_take_a_columns_name() -> None:
    for name in ("seed", "macs", "i1", "status"):
        task = Task("x", "X", "d", "classification", (Metric(name),), name)
        with pytest.raises(TableError, match=f"would have two columns '{name}'"):
            table.schema(task)


def test_a_file_explains_itself(tmp_path: Path) -> None:
    """pandas, Polars or DuckDB see the task, its units and the schema version in the file's metadata."""
    table.write(tmp_path / "seg.parquet", SEG, columns())
    about = json.loads(pq.read_metadata(tmp_path / "seg.parquet").metadata[b"nasbench_mr"])
    assert Task.from_dict(about["task"]) == SEG
    assert about["schema_version"] == table.SCHEMA_VERSION
    assert about["units"]["mIoU"] == "percent"
    assert about["units"]["macs"] == "multiply-accumulates"
    assert about["units"]["train_seconds"] == "s"
    frame = pd.read_parquet(tmp_path / "seg.parquet")
    assert list(frame.columns) == table.schema(SEG).names
    assert frame["mIoU"].tolist() == [10, 11, 12, 13, 14, 15]


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        table.write(tmp_path / name, SEG, columns())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_unknown_is_null(tmp_path: Path) -> None:
    """What is not given, NaN and None are null, and NaN in memory."""
    given_columns = columns() | {
        "mAcc": [20.0, None, float("nan"), 23.0, 24.0, 25.0],
        "epochs": [1, None, 3, 4, 5, 6],
        "error": [None, "x", None, None, None, None],
    }
    arrow = table.write(tmp_path / "t", SEG, given_columns)
    assert arrow["mAcc"].to_pylist() == [20.0, None, None, 23.0, 24.0, 25.0]
    assert arrow["epochs"].to_pylist() == [1, None, 3, 4, 5, 6]
    assert arrow["train_seconds"].null_count == arrow["device"].null_count == 6
    assert arrow["seed"].to_pylist() == [0] * 6
    assert arrow["status"].to_pylist() == ["ok"] * 6
    read = table.read(tmp_path / "t", SEG)
    assert np.isnan(read.values["mAcc"]).tolist() == [False, True, True, False, False, False]
    assert np.isnan(read.values["train_seconds"]).all()
    assert np.isnan(read.values["epochs"]).tolist() == [False, True, False, False, False, False]


@given(st.data())
def test_what_is_written_is_read(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 6))
    percent = st.floats(0, 100) | st.none()
    values: dict[str, Any] = {
        "codes": CODES[:n],
        "seed": data.draw(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=n, max_size=n)),
        "mIoU": data.draw(st.lists(st.floats(0, 100), min_size=n, max_size=n)),
        "mAcc": data.draw(st.lists(percent, min_size=n, max_size=n)),
        "train_seconds": data.draw(st.lists(st.floats(0, 1e9) | st.none(), min_size=n, max_size=n)),
        "device": data.draw(st.lists(st.text() | st.none(), min_size=n, max_size=n)),
    }
    try:
        arrow = table.to_arrow(SEG, values)
    except UnicodeEncodeError:  # half of a surrogate pair is not text
        return
    for name in ("seed", "mIoU", "mAcc", "train_seconds", "device"):
        assert arrow[name].to_pylist() == values[name]
    checked = table.check(arrow, SEG)
    assert (checked.codes == CODES[:n]).all()
    assert checked.seed.tolist() == values["seed"]


# --- Checks of what is given --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top1": [1.0] * 6}, "task 'seg' has no column 'top1'; expected i1, i2, "),
        ({"mIoU": [1.0] * 5}, "6 codes, but columns of other lengths: {'mIoU': 5}"),
        ({"mIoU": ["high"] * 6}, "column 'mIoU': expected double"),
        ({"mIoU": [[1.0]] * 6}, "column 'mIoU': expected double"),
        ({"mIoU": [object()] * 6}, "column 'mIoU': expected double"),
        ({"seed": [0.5] * 6}, "column 'seed': expected int32"),
        ({"seed": [2**40] * 6}, "column 'seed': expected int32"),
        ({"macs": [1.5] * 6}, "column 'macs': expected int64"),
        ({"macs": [-1] * 6}, r"row 0: macs is -1.0; expected a number in \[0, inf\]"),
        ({"mIoU": [1, 2, 101, 4, 5, 6]}, r"row 2: mIoU is 101.0; expected a number in \[0, 100\]"),
        ({"mIoU": [1, 2, -1e-9, 4, 5, 6]}, r"row 2: mIoU is -1e-09; expected"),
        ({"mIoU": [1, 2, float("inf"), 4, 5, 6]}, "row 2: mIoU is inf; expected"),
        ({"train_seconds": [1, 2, 3, float("inf"), 5, 6]}, "row 3: train_seconds is inf; expected"),
        ({"mIoU": [1, 2, None, 4, 5, 6]}, "row 2: status is 'ok' but mIoU is null"),
        ({"status": ["ok", "OK"] * 3}, "row 1: status is 'OK'; expected one of ok, diverged, failed"),
        ({"status": ["ok", None] * 3}, "row 1: status is None"),
        (
            {"codes": CODES[[0, 1, 2, 1, 4, 5]]},
            r"rows 1 and 3 are the same trial \(code and seed 0\); keep one, or give each a seed",
        ),
    ],
)
def test_bad_columns(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        table.to_arrow(SEG, columns() | change)


def test_bad_codes() -> None:
    codes = CODES.copy()
    codes[3, 0] = 12
    with pytest.raises(OutOfSpaceError, match=r"row 3: code\[0\] \(i1\) is 12"):
        table.to_arrow(SEG, columns() | {"codes": codes})


def test_a_failed_trial_needs_no_metrics() -> None:
    arrow = table.to_arrow(SEG, columns() | {"mIoU": [None] * 6, "status": ["failed", "diverged"] * 3})
    assert not table.check(arrow, SEG).ok.any()


def test_seeds_tell_trials_of_one_code_apart() -> None:
    arrow = table.to_arrow(SEG, columns() | {"codes": CODES[[0] * 6], "seed": range(6)})
    assert len(table.check(arrow, SEG)) == 6


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=12))
def test_duplicates_are_found(trials: list[tuple[int, int]]) -> None:
    rows = {
        "codes": CODES[[code for code, _ in trials]],
        "seed": [seed for _, seed in trials],
        "mIoU": [1.0] * len(trials),
    }
    if len(set(trials)) == len(trials):
        assert len(table.to_arrow(SEG, rows)) == len(trials)
    else:
        with pytest.raises(TableError, match="are the same trial"):
            table.to_arrow(SEG, rows)


# --- Checks of what is read ---------------------------------------------------------------------------

NAN = float("nan")
BROKEN: dict[str, tuple[Callable[[], pa.Table], str]] = {
    "missing": (lambda: good().drop_columns(["mAcc"]), "there is no column 'mAcc'; expected i1, "),
    "missing code": (lambda: good().drop_columns(["o1"]), "there is no column 'o1'"),
    "extra": (lambda: good().append_column("top1", pa.array([1.0] * 6)), "unexpected column 'top1'; exp"),
    "twice": (lambda: good().append_column("mAcc", good()["mAcc"]), "unexpected column 'mAcc'"),
    "float32": (lambda: with_column("mIoU", [1.0] * 6, pa.float32()), "'mIoU' is float; expected double"),
    "int64": (lambda: with_column("seed", [0] * 6, pa.int64()), "'seed' is int64; expected int32"),
    "text": (lambda: with_column("mIoU", ["1"] * 6, pa.string()), "'mIoU' is string; expected double"),
    "null code": (lambda: with_column("i1", [8] * 5 + [None]), "column 'i1' has nulls"),
    "null seed": (lambda: with_column("seed", [0] * 5 + [None]), "column 'seed' has nulls"),
    "null status": (lambda: with_column("status", ["ok"] * 5 + [None]), "row 5: status is None"),
    "bad status": (lambda: with_column("status", ["ok"] * 5 + ["fine"]), "row 5: status is 'fine'"),
    "bad code": (lambda: with_column("i1", [8] * 5 + [9]), r"row 5: code\[0\] \(i1\) is 9"),
    "NaN objective": (lambda: with_column("mIoU", [1.0] * 5 + [NAN]), "row 5: mIoU is nan; expected"),
    "NaN metric": (lambda: with_column("aAcc", [1.0] * 5 + [NAN]), "row 5: aAcc is nan; expected"),
    "too large": (lambda: with_column("mIoU", [1.0] * 5 + [100.1]), "row 5: mIoU is 100.1; expected"),
    "no objective": (lambda: with_column("mIoU", [1.0] * 5 + [None]), "row 5: status is 'ok' but mIoU is"),
    "duplicate": (lambda: pa.concat_tables([good(), good()]), "rows 0 and 6 are the same trial"),
    "no columns": (lambda: pa.table({}), "there is no column 'i1'"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files(kind: str, tmp_path: Path) -> None:
    make, message = BROKEN[kind]
    path = tmp_path / "seg.parquet"
    pq.write_table(make(), path)
    with pytest.raises(TableError, match=message) as raised:
        table.read(path, SEG)
    assert str(path) in str(raised.value)


def test_the_order_of_columns_does_not_matter(tmp_path: Path) -> None:
    arrow = good()
    pq.write_table(arrow.select(arrow.column_names[::-1]), tmp_path / "t")
    read = table.read(tmp_path / "t", SEG)
    assert (read.codes == CODES).all()
    assert read.values["mIoU"].tolist() == [10, 11, 12, 13, 14, 15]


def test_extra_text_columns_stay(tmp_path: Path) -> None:
    path = tmp_path / "t"
    table.write(path, SEG, columns(4) | {"stratum": ["coarse"] * 4}, extra=["stratum"])
    assert len(table.read(path, SEG)) == 4
    late = {name: values[4:] for name, values in columns().items()}
    more = table.to_arrow(SEG, late | {"note": ["a", "b"]}, ["note"])
    joined = table.join(table.read_arrow(path), more, SEG)
    assert joined["stratum"].to_pylist() == ["coarse"] * 4 + [None] * 2
    assert joined["note"].to_pylist() == [None] * 4 + ["a", "b"]


@pytest.mark.parametrize("about", [b"", b"[]", b"{", b'{"extra": 3}', b'{"extra": [3]}', b"\xff\xfe"])
def test_broken_metadata_is_not_needed(about: bytes) -> None:
    arrow = good().replace_schema_metadata({b"nasbench_mr": about})
    assert len(table.check(arrow, SEG)) == 6


# --- Hostile files ------------------------------------------------------------------------------------


def test_truncated_parquet(tmp_path: Path) -> None:
    table.write(tmp_path / "whole", SEG, columns())
    data = (tmp_path / "whole").read_bytes()
    for end in range(0, len(data), len(data) // 40):
        (tmp_path / "cut").write_bytes(data[:end])
        with pytest.raises(TableError, match="is not a complete Parquet file"):
            table.read(tmp_path / "cut", SEG)


def test_damaged_parquet(tmp_path: Path) -> None:
    """Random bytes in it get a named error, or leave a table that passes every check."""
    table.write(tmp_path / "whole", SEG, columns())
    data = (tmp_path / "whole").read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            read = table.read(tmp_path / "damaged", SEG)
        except TableError:
            refused += 1
            continue
        space.check(read.codes)
        assert ((read.values["mIoU"][read.ok] >= 0) & (read.values["mIoU"][read.ok] <= 100)).all()
    assert refused > 100


@pytest.mark.parametrize("data", [b"", b"PAR1", b"i1,i2\n8,8\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_other_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(TableError, match="is not a complete Parquet file"):
        table.read(tmp_path / "t", SEG)


def test_an_altered_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "seg.parquet"
    table.write(path, SEG, columns())
    digest = files.sha256(path)
    assert len(table.read(path, SEG, digest)) == 6
    table.write(path, SEG, columns() | {"mIoU": [99.0] * 6})
    with pytest.raises(IntegrityError, match=f"seg.parquet has sha256 .*; expected {digest}"):
        table.read(path, SEG, digest)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        table.read(tmp_path / "t", SEG)


def test_a_file_that_claims_too_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table.write(tmp_path / "t", SEG, columns())
    monkeypatch.setattr(table, "MAX_ROWS", 5)
    with pytest.raises(TableError, match="it has 6 rows and 38 columns; expected at most 5"):
        table.read(tmp_path / "t", SEG)


def test_a_small_file_of_very_many_equal_values_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 rows of a number (8 bytes) and a text (44 and 4) are 5.6 MB, of which little is on disk."""
    monkeypatch.setattr(table, "MAX_BYTES", 5_000_000)
    count = 100_000
    many = pa.table({"x": np.ones(count), "s": ["a text of 44 characters, again and again ..."] * count})
    pq.write_table(many, tmp_path / "t", compression="zstd")
    assert (tmp_path / "t").stat().st_size < 10_000
    with pytest.raises(TableError, match="t unpacks to more than 5,000,000 bytes; refused"):
        table.read_arrow(tmp_path / "t")


# --- Append and compact -------------------------------------------------------------------------------


def rows(arrow: pa.Table) -> list[tuple[int, int, float | None, str]]:
    """Return (number of the code, seed, mIoU, status) of every row."""
    numbers = {tuple(code): k for k, code in enumerate(CODES.tolist())}
    codes = zip(*(arrow[name].to_pylist() for name in space.NAMES), strict=True)
    rest = (arrow[name].to_pylist() for name in ("seed", "mIoU", "status"))
    return [(numbers[code], *values) for code, *values in zip(codes, *rest, strict=True)]  # type: ignore[misc]


def part(path: Path, trials: list[tuple[int, int, float | None, str]]) -> Path:
    """Return a part file with these trials, as `rows` gives them."""
    codes, seeds, mious, states = zip(*trials, strict=True)
    given_columns = {"codes": CODES[list(codes)], "seed": seeds, "mIoU": mious, "status": states}
    table.write(path, SEG, given_columns)
    return path


def test_join_adds_rows_at_the_end() -> None:
    old, new = good(), table.to_arrow(SEG, {"codes": CODES[[1, 0]], "seed": [1, 1], "mIoU": [60.0, 61.0]})
    joined = table.join(old, new, SEG)
    assert rows(joined) == [*rows(old), (1, 1, 60.0, "ok"), (0, 1, 61.0, "ok")]
    assert joined.schema.metadata == old.schema.metadata


def test_join_refuses_repetitions_or_puts_them_in_place() -> None:
    old = good()
    new = table.to_arrow(SEG, {"codes": CODES[[3, 1]], "seed": [9, 0], "mIoU": [60.0, 61.0]})
    with pytest.raises(TableError, match=r"the table already has 1 of the 2 new trials .*first row 1"):
        table.join(old, new, SEG)
    joined = table.join(old, new, SEG, replace=True)
    expected = rows(old)
    expected[1] = (1, 0, 61.0, "ok")
    assert rows(joined) == [*expected, (3, 9, 60.0, "ok")]


def test_compact_keeps_the_first_good_trial_else_the_last(tmp_path: Path) -> None:
    parts = [
        part(tmp_path / "1", [(0, 0, 1.0, "ok"), (1, 0, None, "failed"), (2, 0, None, "failed")]),
        part(tmp_path / "2", [(1, 0, 2.0, "ok"), (2, 0, None, "diverged"), (0, 1, 3.0, "ok")]),
        part(tmp_path / "3", [(0, 0, 9.0, "ok"), (1, 0, 9.0, "ok"), (3, 0, 4.0, "ok")]),
    ]
    joined = table.compact({str(path): table.read_arrow(path) for path in parts}, SEG)
    assert sorted(rows(joined), key=str) == sorted(
        [
            (0, 0, 1.0, "ok"),
            (1, 0, 2.0, "ok"),
            (2, 0, None, "diverged"),
            (0, 1, 3.0, "ok"),
            (3, 0, 4.0, "ok"),
        ],
        key=str,
    )
    assert json.loads(joined.schema.metadata[b"nasbench_mr"])["task"]["name"] == "seg"


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.booleans()), max_size=6), max_size=4)
)
def test_compact_is_a_merge_by_trial(tmp_path_factory: Any, parts: list[list[tuple[int, int, bool]]]) -> None:
    folder = tmp_path_factory.mktemp("parts")
    expected: dict[tuple[int, int], tuple[float | None, str]] = {}
    paths = []
    for number, drawn in enumerate(parts):
        distinct = {(code, seed): good_one for code, seed, good_one in drawn}
        written: list[tuple[int, int, float | None, str]] = []
        for (code, seed), good_one in distinct.items():
            outcome: tuple[float | None, str] = (float(number), "ok") if good_one else (None, "failed")
            written.append((code, seed, *outcome))
            if expected.get((code, seed), (None, ""))[1] != "ok":
                expected[code, seed] = outcome
        if written:
            paths.append(part(folder / str(number), written))
    joined = table.compact({str(path): table.read_arrow(path) for path in paths}, SEG)
    assert {(code, seed): (miou, status) for code, seed, miou, status in rows(joined)} == expected
    assert len(joined) == len(expected)


def test_compact_refuses_a_broken_part() -> None:
    with pytest.raises(TableError, match=r"2: there is no column 'mAcc'"):
        table.compact({"1": good(), "2": good().drop_columns(["mAcc"])}, SEG)


# --- Curves -------------------------------------------------------------------------------------------


def curve_columns() -> dict[str, Any]:
    return {
        "codes": np.repeat(CODES[:2], 3, axis=0),
        "seed": [0] * 6,
        "epoch": [1, 2, 3] * 2,
        "mIoU": [1.0, 2.0, 3.0, 4.0, None, 6.0],
        "loss": [3.0, 2.0, 1.0, float("inf"), 2.0, 1.0],
    }


def test_curves(tmp_path: Path) -> None:
    table.write_curves(tmp_path / "c", SEG, curve_columns())
    frame = pd.read_parquet(tmp_path / "c")
    assert list(frame.columns) == [*space.NAMES, "seed", "epoch", "mIoU", "loss"]
    assert frame["loss"].tolist() == curve_columns()["loss"]
    assert frame["epoch"].dtype == np.int32
    about = json.loads(pq.read_metadata(tmp_path / "c").metadata[b"nasbench_mr"])
    assert about["task"]["name"] == "seg"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mIoU": None}, "there is no column 'mIoU', the task's objective"),
        ({"mIoU": [101.0] * 6}, "row 0: mIoU is 101.0"),
        ({"mIoU": [1, 2, float("inf"), 4, 5, 6]}, "row 2: mIoU is inf"),
        ({"epoch": [1, 2, 0] * 2}, "row 2: epoch is 0; epochs count from 1"),
        ({"epoch": [1, 2, 2] * 2}, r"rows 1 and 2 are the same trial \(code and seed 0, epoch 2\)"),
        ({"epoch": None}, "column 'epoch' has nulls"),
        ({"seed": None}, "column 'seed' has nulls"),
        ({"epoch": [1, 2]}, "columns of other lengths: {'epoch': 2}"),
        ({"loss": ["high"] * 6}, "column 'loss': expected double"),
    ],
)
def test_bad_curves(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    changed = {k: v for k, v in (curve_columns() | change).items() if v is not None}
    with pytest.raises(TableError, match=message):
        table.write_curves(tmp_path / "c", SEG, changed)
    assert not (tmp_path / "c").exists()


# --- Keys, and a fresh process ------------------------------------------------------------------------


def test_keys() -> None:
    expected = [bytes(code) for code in CODES.tolist()]
    assert arrays.keys(CODES) == expected
    assert trials.keys(CODES.astype(np.uint8).tobytes(), 27) == expected
    assert trials.keys(b"", 27) == []
    assert arrays.keys(CODES[:0]) == []
    assert arrays.keys(np.asfortranarray(CODES)) == arrays.keys(CODES)


def test_checking_needs_no_import_by_others(tmp_path: Path) -> None:
    """In a fresh process, where no one else has imported a part of pyarrow."""
    table.write(tmp_path / "t", SEG, columns())
    script = (
        "import sys; from nasbench_mr import table, tasks; "
        "print(len(table.read(sys.argv[1], tasks.get('seg'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "t"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "6\n"
