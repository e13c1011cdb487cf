"""`nasbench-mr plot`: comparisons, evaluations and releases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nasbench_mr
from nasbench_mr.predictors import evaluation

Run = Callable[..., tuple[int, str, str]]


def test_plot_draws_a_comparison_and_a_release(
    read: Any, run: Run, known_release: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    quick = ("--budget", "6", "--seeds", "3", "--workers", "0", "--release", known_release, "--out", kept)
    assert run("compare", "--tasks", "seg", *quick)[0] == 0
    for what, name, start in (
        (kept, "regret.png", b"\x89PNG"),
        (kept, "regret.svg", b"<?xml"),
        (known_release, "release.pdf", b"%PDF"),
    ):
        assert read("plot", what, "--out", tmp_path / name) == {"path": str(tmp_path / name)}
        assert (tmp_path / name).read_bytes().startswith(start)
    for arguments, message in (
        ((kept, "--out", tmp_path / "a.jpg"), "expected a name that ends in .png, .pdf or .svg"),
        ((kept, "--out", tmp_path / "a.png", "--band", "min"), "no band 'min'"),
        ((kept, "--out", tmp_path / "a.png", "--tasks", "seg"), "--tasks has no effect"),
        ((kept, "--out", tmp_path / "a.png", "--kind", "noise"), "--kind has no effect"),
        (("mini", "--out", tmp_path / "a.png", "--band", "min"), "--band has no effect"),
        (("mini", "--out", tmp_path / "a.png", "--score", "r2"), "mini is drawn as a release"),
        (
            (tmp_path / "nothing", "--out", tmp_path / "a.png"),
            "nor is it a comparison (nasbench-mr compare --out",
        ),
        ((tmp_path / "nothing.parquet", "--out", tmp_path / "a.png"), "nothing.parquet"),
        ((kept,), "the following arguments are required: --out"),
    ):
        status, out, err = run("plot", *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err
    assert not (tmp_path / "a.png").exists()


def test_an_evaluation_is_drawn_too(run: Run, tiny_release: Path, tmp_path: Path) -> None:
    frame = evaluation.evaluate("ridge", nasbench_mr.load(tiny_release), "seg", train=[20, 40], seeds=2)
    evaluation.write(frame, tmp_path / "scores.parquet")
    status, out, _ = run("plot", tmp_path / "scores.parquet", "--out", tmp_path / "scores.png")
    assert (status, out) == (0, f"{tmp_path / 'scores.png'}\n")
    status, _, err = run("plot", tmp_path / "scores.parquet", "--out", tmp_path / "b.png", "--score", "luck")
    assert status == 2
    assert "no score 'luck'" in err
