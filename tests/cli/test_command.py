"""What commands share: tables, JSON, amounts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasbench_mr.cli.command import amount, format_table, print_json


def test_format_table() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a", "count": 1234567, "value": 1.005, "small": 0.00123456},
        {"name": "longer", "count": None, "value": float("nan"), "small": 0.0},
    ]
    assert format_table(rows).splitlines() == [
        "name        count  value    small",
        "------  ---------  -----  -------",
        "a       1,234,567   1.00  0.00123",
        "longer          -      -     0.00",
    ]
    assert format_table(rows, ["value", "name"]).splitlines()[2] == " 1.00  a"
    assert format_table([]) == "(none)"


def test_print_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({1: np.int64(3), "x": np.array([1.5, np.nan]), "y": float("inf"), "z": (True, None)})
    assert json.loads(capsys.readouterr().out) == {"1": 3, "x": [1.5, None], "y": None, "z": [True, None]}


@pytest.mark.parametrize(
    ("text", "value"), [("2e9", 2e9), ("2G", 2e9), ("1.5M", 1.5e6), ("3k", 3e3), ("7", 7), ("0", 0)]
)
def test_amounts(text: str, value: float) -> None:
    assert amount(text) == value


@pytest.mark.parametrize("text", ["", "G", "-1", "nan", "inf", "2 GB", "1e400", "0x10"])
def test_bad_amounts(text: str) -> None:
    with pytest.raises(Exception, match="is not a valid cost limit; expected at least 0"):
        amount(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", ".", "--into", "mine"], "--into has no effect without --task NAME"),
        (["import", ".", "--unit", "a=b", "--replace"], "--unit, --replace have no effect without --task"),
        (["import", "x.csv", "--task", "t", "--no-surrogates"], "--no-surrogates has no effect with --task"),
        (["import", "x.csv", "--task", "t", "--unit", "a=b", "--unit", "a=c"], "'a' is given twice"),
        (["fetch", "x.tar.gz", "--mirror", "https://a.org"], "--mirror has no effect with the URL"),
        (["pack", "mini", "--hf", "hf", "--out", "dist"], "--out has no effect with --hf"),
        (["weights", "--sha256", "0"], "--sha256 has no effect but for weights fetch"),
        (["weights", "mini", "--out", "dist"], "--out has no effect but for weights pack"),
        (["predict-eval", "ridge", "--score", "r2"], "--score has no effect without --plot"),
        (
            ["build", "mini-cls", "--codes", "1", "--out", "o", "--release-to", "r"],
            "without --release NAME@V",
        ),
        (["data", "info", "--verify", "--speed", "0"], "--verify, --speed have no effect without the NAME"),
        (["auxnas", "--rank", "mini-seg", "--out", "o", "--seed", "0"], "--seed, --out have no effect with"),
        (["auxnas", "normals", "--rank", "mini-seg"], "names the primary task; leave 'normals' out"),
        (["search", "seg", "macs", "--front", "--seed", "9"], "--seed has no effect with --front"),
        (["search", "seg", "--fixed", "i1=16,i1=32"], "'i1' is given twice"),
    ],
)
def test_what_has_no_effect_is_refused(
    arguments: list[str], message: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").touch()
    status, out, err = run(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
