"""A user's own tables: what is understood, and that what is wrong is said and changes nothing."""

from __future__ import annotations

import gzip
import json
import pickle
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

import nasbench_mr
from nasbench_mr import cli, cost, files, nasbench201, release, space, tasks
from nasbench_mr.data_builders import published
from nasbench_mr.errors import (
    InvalidArgumentError,
    NasbenchMRError,
    OutOfSpaceError,
    ReleaseError,
    ReleaseNotFoundError,
    StorageError,
    TableError,
    UnknownMetricError,
    UnknownTaskError,
)

Snapshot = Callable[[], dict[str, bytes]]


# --- Tables of the user's own -------------------------------------------------------------------------

CODES = space.sample(6, seed=2)
ERRORS = [60.0, 50.0, 40.0, 30.0, 20.0, 10.0]
LESS = {"minimize": ["error_rate"]}


def own(**columns: Any) -> pd.DataFrame:
    """Six trials with one metric; `columns` are added or replaced, or dropped where they are None."""
    frame = pd.DataFrame(CODES, columns=list(space.NAMES))
    frame["acc"] = [1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    for name, values in columns.items():
        if values is None:
            frame.pop(name)
        else:
            frame[name] = values
    return frame


def save(frame: pd.DataFrame, name: str = "mine.csv") -> str:
    if name.endswith(".parquet"):
        frame.to_parquet(name)
    else:
        frame.to_csv(name, index=False)
    return name


@pytest.mark.parametrize("name", ["mine.csv", "mine.parquet", "mine.txt"])
def test_a_file_becomes_a_task(name: str) -> None:
    made = published.import_table(save(own(error_rate=ERRORS), name), "mine", "local", "acc", **LESS)
    assert str(made) == "local@1.0.0-local.1"
    bench = nasbench_mr.load("local")
    task = bench.task("mine")
    assert [(m.name, m.direction, m.unit) for m in task.metrics] == [
        ("acc", "max", "unknown"),
        ("error_rate", "min", "unknown"),
    ]
    assert (task.objective, task.dataset, task.space, task.cost) == (
        "acc",
        "unknown",
        "nasbench-mr",
        "code",
    )
    assert task.provenance == f"{name}, sha256 {files.sha256(name)}"
    assert (bench.codes("mine") == CODES).all()
    result = bench.query(CODES[2], "mine")
    assert dict(result) == {
        "acc": 3.5,
        "error_rate": 40.0,
        "macs": cost.macs(CODES[2])[0],
        "params": cost.params(CODES[2])[0],
    }
    release.verify(made)


def test_what_is_known_of_a_trial_is_kept() -> None:
    frame = pd.concat([own(), own()[:2]], ignore_index=True)
    frame["seed"] = [0] * 6 + [1, 1]
    frame["epochs"] = [90.0] * 7 + [None]
    frame["train_seconds"] = np.arange(8) / 4
    frame["device"] = ["H100"] * 8
    frame["status"] = ["ok"] * 5 + ["failed", "ok", "diverged"]
    frame["error"] = [None] * 5 + ["out of memory", None, None]
    frame.loc[5, "acc"] = None
    frame["stratum"] = list("aabbccdd")
    frame["note"] = [None] * 8
    published.import_table(save(frame), "mine")
    bench = nasbench_mr.load("local")
    kept = bench.to_pandas("mine")
    for name in ("seed", "acc", "epochs", "train_seconds", "device", "status", "error", "stratum", "note"):
        expected = frame[name].astype(object).where(frame[name].notna(), None).tolist()
        assert kept[name].astype(object).where(kept[name].notna(), None).tolist() == expected
    assert bench.query(CODES[0], "mine").seeds == (0, 1)
    assert len(bench.codes("mine")) == 5


@pytest.mark.parametrize("form", [space.to_string, lambda code: ", ".join(map(str, code))])
def test_codes_may_be_one_column(form: Callable[[Any], str]) -> None:
    frame = pd.DataFrame({"acc": [1.0, 2.0, 3.0], "code": [form(code) for code in CODES[:3].tolist()]})
    published.import_table(save(frame), "mine")
    assert (nasbench_mr.load("local").codes("mine") == CODES[:3]).all()


@pytest.mark.parametrize("form", ["cells", "columns"])
def test_codes_of_the_second_space(form: str) -> None:
    cells = nasbench201.sample(4, seed=0)
    frame = pd.DataFrame(cells, columns=list(nasbench201.NAMES))
    if form == "cells":
        frame = pd.DataFrame({"code": [nasbench201.to_string(cell) for cell in cells]})
    frame["acc"] = [1.0, 2.0, 3.0, 4.0]
    made = published.import_table(save(frame), "cells")
    assert (made.tasks["cells"].space, made.tasks["cells"].cost) == ("nas-bench-201", "code")
    assert (nasbench_mr.load("local").codes("cells") == cells).all()


def test_published_units_become_counts() -> None:
    macs, params = cost.macs(CODES), cost.params(CODES)
    frame = own(flops=macs / 1e9, params=params / 1e6)
    assert published.import_table(save(frame), "mine").tasks["mine"].cost == "code"
    kept = nasbench_mr.load("local").to_pandas("mine")
    assert kept["macs"].tolist() == macs.tolist()
    assert kept["params"].tolist() == params.tolist()


def test_costs_of_another_kind_are_the_tables_own() -> None:
    made = published.import_table(save(own(macs=cost.macs(CODES, resolution=224))), "mine", trust_costs=True)
    assert made.tasks["mine"].cost == "table"
    kept = nasbench_mr.load("local").to_pandas("mine")
    assert kept["macs"].tolist() == cost.macs(CODES, resolution=224).tolist()
    assert kept["params"].isna().all()
    release.verify(made)


def test_the_objective_and_directions_can_be_told() -> None:
    frame = own(error_rate=ERRORS)
    made = published.import_table(save(frame), "mine", objective="error_rate", **LESS)
    assert made.tasks["mine"].metric().direction == "min"
    assert nasbench_mr.load("local").best("mine", 1)[0].code == tuple(CODES[5].tolist())


def test_the_recovered_table_of_3ddet(shared: Path | None) -> None:
    if shared is None:
        return
    made = published.import_table(shared / "upstream" / "3ddet_recovered.csv", "3ddet")
    frame = nasbench_mr.load(made.path).to_pandas("3ddet")
    assert len(frame) == 2507
    assert (round(frame["moderate"].mean(), 1), round(frame["moderate"].max(), 2)) == (75.6, 80.34)
    # The first line of the file: flops 13.107868, params 8.265571.
    assert (frame["macs"][0], frame["params"][0]) == (13_107_868_000, 8_265_571)
    # What its costs are of: the 19-class segmentation network whose second stem convolution has stride 1, at
    # 128x128 pixels or, for most codes, 112x112. But for the first convolution (27 MACs and 2 of its norm a
    # channel and pixel), that is the usual network at twice the side. The file has 7 digits.
    codes = frame[list(space.NAMES)].to_numpy().astype(np.int64)
    usual = {side: cost.macs(codes, 2 * side, 19, head="segmentation") for side in (128, 112)}
    macs = {side: usual[side] - 29 * codes[:, 0] * (side**2 - (side // 2) ** 2) for side in usual}
    near = {side: np.isclose(frame["macs"], macs[side], rtol=1e-5) for side in usual}
    assert (near[128].sum(), near[112].sum()) == (996, 1511)
    assert np.isclose(frame["params"], cost.params(codes, 19), rtol=1e-4).all()


def test_a_known_task_keeps_what_is_known_of_it() -> None:
    frame = own(acc=None, mIoU=[70.0, 71, 72, 73, 74, 75], mAcc=[80.0] * 6)
    made = published.import_table(save(frame), "seg", objective="mIoU")
    seg = made.tasks["seg"]
    assert (seg.metrics, seg.dataset) == (tasks.get("seg").metrics, tasks.get("seg").dataset)
    assert seg.provenance.startswith("mine.csv, sha256 ")
    kept = nasbench_mr.load("local").to_pandas("seg")
    assert kept["mIoU"].tolist() == frame["mIoU"].tolist()
    assert kept["aAcc"].isna().all()
    assert kept["macs"].tolist() == cost.macs(CODES).tolist()
    made = published.import_table(save(own(acc=None, moderate=50.0)), "kitti")
    assert "3ddet" in made.tasks
    assert nasbench_mr.load("local").to_pandas("3ddet")["macs"].isna().all()


def test_names_that_are_almost_the_same_are_one_tasks() -> None:
    published.import_table(save(own()), "mine")
    assert [*published.import_table(save(own(seed=[1] * 6)), "Mine").tasks] == ["mine"]
    with pytest.raises(UnknownTaskError, match="no task 'cityscapes': did you mean 'seg' or 'seg-4x'"):
        published.import_table(save(own()), "cityscapes")


def test_every_import_is_a_new_version(tiny_release: Path, snapshot: Snapshot) -> None:
    first = published.import_table(save(own()), "mine")
    before = snapshot()
    second = published.import_table(save(own(acc=[9.0] * 6)), "mine", replace_trials=True)
    third = published.import_table(save(own(acc=[8.0] * 6)), "other")
    assert [r.version for r in (first, second, third)] == [f"1.0.0-local.{k}" for k in (1, 2, 3)]
    assert list(third.tasks) == ["mine", "other"]
    assert {k: v for k, v in snapshot().items() if k in before} == before
    assert nasbench_mr.load("local").query(CODES[0], "mine")["acc"] == 9.0
    tiny = release.install(tiny_release)
    into = published.import_table(save(own()), "mine", into="tiny")
    assert into.version == "1.0.1-local.1"
    assert tuple(into.tasks) == (*tiny.tasks, "mine")
    named = published.import_table(save(own()), "mine", into="my-lab")
    assert str(named) == "my-lab@1.0.0-local.1"
    again = published.import_table(save(own()), "more", into="local@1.0.0-local.1")
    assert (again.version, list(again.tasks)) == ("1.0.0-local.4", ["mine", "more"])


def test_what_can_not_be_written_changes_nothing(
    unwritable: tuple[Callable[[], None], str],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    snapshot: Snapshot,
) -> None:
    published.import_table(save(own()), "mine")
    before = snapshot()
    fail, message = unwritable
    fail()
    with pytest.raises(StorageError, match=message):
        published.import_table("mine.csv", "other")
    monkeypatch.undo()
    assert snapshot() == before
    assert [p.name for p in (home / "releases" / "local").iterdir()] == ["1.0.0-local.1"]


def test_processes_that_import_at_once_lose_nothing(home: Path) -> None:
    save(own())
    script = (
        "import sys; from nasbench_mr.data_builders import published; "
        "print(published.import_table('mine.csv', sys.argv[1]).version)"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", script, name], stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    versions = sorted(child.communicate(timeout=300)[0].strip() for child in children)
    assert versions == ["1.0.0-local.1", "1.0.0-local.2"]
    assert sorted(nasbench_mr.load("local").tasks) == ["a", "b"]


def put(row: int, column: str, value: Any) -> pd.DataFrame:
    """Trials with one other cell."""
    frame = own(status="ok", seed=0).astype({column: object})
    frame.loc[row, column] = value
    return frame


TWICE = pd.concat([own(), own()[2:3]], ignore_index=True)
WRONG: dict[str, tuple[pd.DataFrame, type[NasbenchMRError], str]] = {
    "no b2": (own(b2=None), TableError, r"no column 'b2'; expected i1, .*, o1, or one column 'code'"),
    "no code": (own()[["acc"]], TableError, r"no codes: expected a column 'code', or i1, .*, o1; it has acc"),
    "no metric": (own(acc=None), TableError, "there is no metric"),
    "no rows": (own()[:0], TableError, "it has no rows"),
    "a name in other case": (own(Seed=0), TableError, "no column may be called 'Seed': did you mean 'seed'"),
    "a name that is used": (
        own(source=1.0),
        TableError,
        "'source' is there twice, or its name has another use",
    ),
    "both forms": (own(code="x"), TableError, "both a column 'code' and a column 'i1'"),
    "both costs": (own(macs=5, flops=5.0), TableError, "both a column 'macs' and a column 'flops'"),
    "text in a code": (put(3, "c1_1", "wide"), TableError, "row 3: c1_1 is 'wide'; expected a number"),
    "half a channel": (put(3, "c1_1", 48.5), TableError, r"row 3: c1_1 is 48\.5; expected a whole number"),
    "a hole in a code": (put(3, "c1_1", None), TableError, "row 3: c1_1 is empty"),
    "outside": (put(3, "c1_1", 12), OutOfSpaceError, r"row 3: code\[4\] \(c1_1\) is 12; expected a multiple"),
    "far outside": (put(3, "c1_1", 1e300), OutOfSpaceError, r"row 3: code\[4\] \(c1_1\) is 2147483648"),
    "text in a metric": (
        put(3, "acc", "low"),
        TableError,
        "row 3: acc is 'low'; expected a number",
    ),
    "infinite": (
        put(3, "acc", float("inf")),
        TableError,
        "row 3: acc is inf; expected a number, or nothing",
    ),
    "nan": (put(3, "acc", "nan"), TableError, "row 3: acc is nan; expected a number, or nothing"),
    "nothing": (put(3, "acc", None), TableError, "row 3: status is 'ok' but acc is null"),
    "an unknown status": (
        put(3, "status", "fine"),
        TableError,
        "row 3: status is 'fine'; expected one of ok",
    ),
    "half a seed": (put(3, "seed", 0.5), TableError, r"row 3: seed is 0\.5; expected a whole number"),
    "a hole in a seed": (put(3, "seed", None), TableError, "column 'seed' has nulls"),
    "a large seed": (put(3, "seed", 2**40), TableError, "column 'seed': expected int32"),
    "text in a seed": (put(3, "seed", "one"), TableError, "row 3: seed is 'one'; expected a number"),
    "twice": (TWICE, TableError, "rows 2 and 6 are the same trial"),
    "negative macs": (own(macs=[1, 2, -3, 4, 5, 6]), TableError, "row 2: macs is -3"),
    "half a parameter": (own(params=8.265571), TableError, r"row 0: params is 8\.265571; expected a whole"),
    "flops that are counts": (
        own(flops=1e9),
        TableError,
        r"row 0: flops is 1000000000; expected units of 1e\+09",
    ),
    "negative time": (own(train_seconds=-1.0), TableError, r"row 0: train_seconds is -1\.0"),
    "a bad string": (
        pd.DataFrame({"code": [space.to_string(CODES[0]), "48_48"], "acc": 1.0}),
        OutOfSpaceError,
        "row 1: not a code: '48_48'",
    ),
    "no string": (
        pd.DataFrame({"code": [space.to_string(CODES[0]), None], "acc": 1.0}),
        TableError,
        "row 1: code is empty",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_table_that_is_wrong_changes_nothing(name: str, snapshot: Snapshot) -> None:
    frame, error, message = WRONG[name]
    published.import_table(save(own(), "good.csv"), "good")
    before = snapshot()
    with pytest.raises(error, match=rf"^mine\.csv: .*{message}"):
        published.import_table(save(frame), "mine")
    assert snapshot() == before
    assert nasbench_mr.load("local").query(CODES[2], "good")["acc"] == 3.5


HEADER = ",".join((*space.NAMES, "acc"))
LINE = ",".join(map(str, CODES[0])) + ",1.5"
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a CSV file: Empty CSV file"),
    "a header alone": (HEADER.encode(), "not a CSV file: .*Empty CSV file"),
    "a header and a line end": (f"{HEADER}\n".encode(), "it has no rows"),
    "a short line": (f"{HEADER}\n{LINE}\n1,2\n".encode(), r"not a CSV file: .*Expected 28 columns, got 2"),
    "two names": (f"{HEADER},acc\n{LINE},2\n".encode(), "column 'acc' is there twice"),
    "half a UTF-16 letter": (
        f"{HEADER}\n{LINE}\n".encode("utf-16")[:-1],
        "not a CSV file: line 2 is not text in UTF-16",
    ),
    "half a gzip file": (gzip.compress(LINE.encode())[:-9], "not a complete gzip file"),
    "a pickle": (pickle.dumps([1, 2, 3]), ""),
    "zeros": (bytes(1000), ""),
    "a tail of Parquet": (b"PAR1", "is not a complete Parquet file"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_table_changes_nothing(name: str, snapshot: Snapshot) -> None:
    content, message = FILES[name]
    published.import_table(save(own(), "good.csv"), "good")
    before = snapshot()
    Path("mine.csv").write_bytes(content)
    with pytest.raises(TableError, match=rf"^mine\.csv:? {message}"):
        published.import_table("mine.csv", "mine")
    assert snapshot() == before


@pytest.mark.parametrize("start", ["\ufeff", ""])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_from_a_spreadsheet(start: str, end: str) -> None:
    Path("mine.csv").write_bytes(f"{start}{HEADER}{end}{LINE}{end}".encode())
    published.import_table("mine.csv", "mine")
    assert nasbench_mr.load("local").query(CODES[0], "mine")["acc"] == 1.5


def test_a_parquet_file_that_is_wrong_changes_nothing(snapshot: Snapshot) -> None:
    published.import_table(save(own(), "good.csv"), "good")
    before = snapshot()
    arrow = pa.Table.from_pandas(own(status="ok"))
    names = arrow.column_names

    def replaced(name: str, column: Any) -> pa.Table:
        return arrow.set_column(names.index(name), name, column)

    for wrong, message in (
        (arrow.drop_columns(["o1"]), "there is no column 'o1'"),
        (arrow.drop_columns(["acc"]), "there is no metric"),
        (arrow.append_column("acc", arrow["acc"]), "column 'acc' is there twice"),
        (replaced("i1", pa.array(["8"] * 6)), "column 'i1' is string; expected numbers"),
        (replaced("i1", pa.array([True] * 6)), "column 'i1' is bool; expected numbers"),
        (replaced("i1", pa.array([8, 8, None, 8, 8, 8])), "row 2: i1 is empty"),
        (
            replaced("i1", pa.array([2**63] * 6, pa.uint64())),
            "column 'i1': Integer value 92233",
        ),
        (replaced("acc", pa.array(["1.5"] * 6)), "column 'acc' is string; expected numbers"),
        (replaced("acc", pa.array([1.0, float("nan")] * 3)), "row 1: acc is nan; expected a number"),
        (replaced("acc", pa.array([1.0, float("-inf")] * 3)), "row 1: acc is -inf; expected a number"),
        (replaced("status", pa.array([["ok"]] * 6)), "column 'status' is list<.*; expected numbers, text or"),
        (replaced("status", pa.array(["ok", "done"] * 3)), "row 1: status is 'done'"),
        (pa.concat_tables([arrow, arrow]), "rows 0 and 6 are the same trial"),
        (arrow.slice(0, 0), "it has no rows"),
    ):
        pq.write_table(wrong, "mine.parquet")
        with pytest.raises(NasbenchMRError, match=rf"^mine\.parquet: {message}"):
            published.import_table("mine.parquet", "mine")
    pq.write_table(arrow, "mine.parquet")
    data = Path("mine.parquet").read_bytes()
    for size in (4, 100, len(data) // 2, len(data) - 1):
        Path("mine.parquet").write_bytes(data[:size])
        with pytest.raises(TableError, match=r"^mine\.parquet is not a complete Parquet file"):
            published.import_table("mine.parquet", "mine")
    assert snapshot() == before


def test_a_known_task_has_its_columns() -> None:
    frame = own(acc=None, mIoU=70.0)
    for wrong, error, message in (
        (
            frame.rename(columns={"mIoU": "miou"}),
            TableError,
            "there is no column 'mIoU', the task's objective",
        ),
        (frame.assign(macc=80.0), TableError, "task 'seg' has no column 'macc': did you mean 'mAcc'"),
        (frame.assign(mIoU=101.0), TableError, r"row 0: mIoU is 101\.0; expected a number in \[0, 100\]"),
        (frame.assign(flops=5.0), TableError, "row 0: macs is 5,000,000,000; its code has"),
    ):
        with pytest.raises(error, match=rf"^mine\.csv: {message}"):
            published.import_table(save(wrong), "seg")
    for options in ({"objective": "mAcc"}, {"minimize": ["mIoU"]}):
        with pytest.raises(InvalidArgumentError, match="'seg' is a known task"):
            published.import_table(save(frame), "seg", **options)
    assert release.installed() == []


def test_percent_signs_are_of_the_tasks_unit() -> None:
    """Fractions of a first file and percent of a second one would be one column."""
    published.import_table(save(own(acc=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])), "mine")
    later = own(acc=["80%", "81%", "82%", "83%", "84%", "85%"], seed=1)
    message = r"^mine\.csv: column 'acc' has percent signs; its unit is 'unknown' in task 'mine': give"
    with pytest.raises(TableError, match=message):
        published.import_table(save(later), "mine")
    published.import_table(save(own(acc=["10%"] * 6)), "other")
    published.import_table(save(later), "other")
    assert nasbench_mr.load("local").to_pandas("other")["acc"].tolist()[-2:] == [84.0, 85.0]


def test_errors_below_one_percent_are_what_they_say() -> None:
    low = [0.31, 0.77, 0.45, 0.5, 0.6, 0.7]
    signed = own(acc=None, error_rate=[f"{value}%" for value in low])
    published.import_table(save(signed), "signed", **LESS)
    plain = save(own(acc=None, error_rate=low))
    published.import_table(plain, "said", units={"error_rate": "percent"}, **LESS)
    bench = nasbench_mr.load("local")
    for name in ("signed", "said"):
        assert bench.task(name).metric().unit == "percent"
        assert bench.to_pandas(name)["error_rate"].tolist() == pytest.approx(low)
    # An accuracy of less than 1% is a fraction, whatever is said of it.
    with pytest.raises(
        TableError, match=r"acc is between 0\.31 and 0\.77; expected percent: multiply it by 100"
    ):
        published.import_table(save(own(acc=low)), "mine", units={"acc": "percent"})


def test_what_is_no_metric_has_no_percent_signs() -> None:
    with pytest.raises(TableError, match="column 'train_seconds' has percent signs; expected plain numbers"):
        published.import_table(save(own(train_seconds=["10%"] * 6)), "mine")


def test_what_is_asked_for_is_checked() -> None:
    save(own())
    with pytest.raises(InvalidArgumentError, match=r"no file at nowhere\.csv"):
        published.import_table("nowhere.csv", "mine")
    with pytest.raises(UnknownMetricError, match="has no metric 'ac': did you mean 'acc'"):
        published.import_table("mine.csv", "mine", objective="ac")
    with pytest.raises(UnknownMetricError, match="has no metric 'loss'"):
        published.import_table("mine.csv", "mine", minimize=["loss"])
    for name in ("../mine", "", "a b"):
        with pytest.raises(ReleaseError, match="task name"):
            published.import_table("mine.csv", name)
    with pytest.raises(ReleaseNotFoundError, match="nasbench-mr fetch"):
        published.import_table("mine.csv", "mine", into="nasbench-mr")
    for into in ("local@1.0.0", "./nowhere", "mine.csv"):
        with pytest.raises(ReleaseNotFoundError):
            published.import_table("mine.csv", "mine", into=into)
    with pytest.raises(ReleaseError, match="release name 'My Lab'"):
        published.import_table("mine.csv", "mine", into="My Lab")
    assert release.installed() == []


# --- nasbench-mr import -------------------------------------------------------------------------------


def test_import_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    save(own())
    assert cli.main(["import", "--task", "mine", "mine.csv", "--maximize", "acc", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    understood = told.pop("understood")
    assert told == {
        "release": "local@1.0.0-local.1",
        "tasks": ["mine"],
        "missing": [],
        "rows": 6,
        "next": "nasbench-mr best mine --release local",
    }
    assert (understood["rows"], understood["codes"], understood["seeds"]) == (6, 6, 1)
    assert (understood["objective"], understood["direction"]) == ("acc", "max")
    assert understood["columns"]["i1"] == "the code"
    assert (understood["costs"], understood["skipped"]) == ("computed from the codes", {})
    assert cli.main(["best", "mine", "-k", "1", "--release", "local", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["values"]["acc"] == 6.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "'nowhere' does not exist; expected a folder or a table"),
        (["mine.csv"], "'mine.csv' is a file: say which task it is about, --task NAME"),
        (["."], "has no data/<setting>/trainval.pkl"),
        (["--task", "mine", "."], ". is a folder; expected one file"),
        (["--task", "mine", "bad.csv"], "bad.csv: row 3: acc is 'high'; expected a number"),
        (["--task", "mine", "mine.csv", "--objective", "ac"], "did you mean 'acc'"),
        (["--task", "seg", "mine.csv"], "mine.csv: there is no column 'mIoU', the task's objective"),
        (["--task", "mine", "mine.csv", "--into", "nasbench-mr"], "nasbench-mr fetch"),
    ],
)
def test_import_explains_mistakes_in_one_line(
    arguments: list[str], message: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(own())
    save(put(3, "acc", "high"), "bad.csv")
    assert cli.main(["import", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("nasbench-mr: ")
    assert message in err
    assert release.installed() == []
