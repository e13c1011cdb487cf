"""The commands `predict-eval` and `surrogate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nasbench_mr
from nasbench_mr import predictors, release
from nasbench_mr.cli import main
from nasbench_mr.predictors import evaluation

QUICK = ["--option", "epochs=3", "--option", "members=2", "--option", "hidden=[8]"]


def test_predict_eval_prints_means_and_keeps_every_split(
    tiny_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, drawn = tmp_path / "scores.parquet", tmp_path / "scores.pdf"
    arguments = ["predict-eval", "ridge", "gp", "--release", str(tiny_release), "--train", "20", "40"]
    assert main([*arguments, "--seeds", "2", "--out", str(kept), "--plot", str(drawn)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:5] == ["task", "train", "predictor", "kendall", "spearman"]
    rows = [line.split()[:3] for line in lines[2:]]
    assert len(rows) == 8
    assert rows[0] == ["seg", "20", "ridge"]
    frame = evaluation.read(kept)
    assert len(frame) == 16
    assert drawn.read_bytes().startswith(b"%PDF")
    own = frame[(frame["task"] == "seg") & (frame["train"] == 20) & (frame["predictor"] == "ridge")]
    assert float(lines[2].split()[3]) == pytest.approx(own["kendall"].mean(), abs=0.006)


def test_predict_eval_prints_json(tiny_release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--release", str(tiny_release), "--tasks", "video", "--seeds", "2", "--json"]
    assert main(["predict-eval", *arguments, *QUICK]) == 0
    rows = json.loads(capsys.readouterr().out)
    options = {"epochs": 3, "members": 2, "hidden": [8]}
    frame = predictors.evaluate("ensemble", nasbench_mr.load(tiny_release), "video", seeds=2, options=options)
    assert [row["rmse"] for row in rows] == frame["rmse"].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rigde"], "did you mean 'ridge'"),
        (["ridge", "--score", "tau", "--plot", "x.png"], "no score 'tau'"),
        (["ridge", "--tasks", "sge"], "no task 'sge'"),
        (["ridge", "--split", "worst"], "no split 'worst'"),
        (["ridge", "--train", "5000"], "expected 2 to 48 codes"),
        (["--option", "epochs"], "expected NAME=VALUE"),
        (["--option", "epochs=many"], "expected NAME=VALUE"),
        (["--option", "wings=2"], "wings"),
        (["ridge", "--plot", "scores.bmp"], "ends in .png"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(
    arguments: list[str], message: str, tiny_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict-eval", "--release", str(tiny_release), "--seeds", "1", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_surrogates_are_fitted_and_shown(
    tiny_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["surrogate", "show", str(tiny_release)]) == 2
    assert "nasbench-mr surrogate fit tiny" in capsys.readouterr().err
    assert main(["surrogate", "fit", str(tiny_release), *QUICK]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tiny@1.0.1-local.1, scores on held-out codes:")
    assert [line.split()[0] for line in out.splitlines()[2:6]] == ["task", "-----", "seg", "video"]
    made = release.Release.open(release.find("tiny"))
    assert f"tiny@1.0.1-local.1 is in {made.path}" in out
    assert main(["surrogate", "show", "tiny", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"release": "tiny@1.0.1-local.1", "surrogates": made.about["surrogates"]}
    assert (
        main(["surrogate", "fit", "tiny", *QUICK, "--version", "2.0.0", "--release-to", str(tmp_path / "x")])
        == 0
    )
    assert str(release.Release.open(tmp_path / "x")) == "tiny@2.0.0"
    assert [version for _, version in release.installed()] == ["1.0.1-local.1"]
    assert main(["surrogate", "fit", "tiny", "--version", "x"]) == 2
    assert "release version 'x': expected MAJOR.MINOR.PATCH" in capsys.readouterr().err
    assert main(["surrogate", "fit", "tiny", "--tasks", "sge"]) == 2
    assert "no task 'sge'" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["fit", "show"])
def test_a_release_of_costs_has_nothing_to_fit(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["surrogate", action, "nasbench-mr-costs"]) == 2
    assert "there are no tasks here" in capsys.readouterr().err
    assert release.installed() == []


def test_a_cost_gets_no_surrogate(tiny_release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "latency_ms@cpu@nasbench-mr-costs"
    assert main(["surrogate", "fit", str(tiny_release), *QUICK, "--tasks", name]) == 2
    assert f"'{name}' is a measured cost, not a task of tiny@1.0.0" in capsys.readouterr().err
    assert release.installed() == []
