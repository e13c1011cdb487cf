"""What experiments share: where their results go, and parts that are kept."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import common as script
import ncp_ablation as ablation
import pandas as pd
import pytest

import nasbench_mr
from nasbench_mr.errors import NasbenchMRError, UnknownTaskError


def test_a_part_of_an_experiment_does_not_replace_the_results_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = script.options("what it does", "trial")
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--data")
    found = {}
    for given in ("", "--data d", "--tasks seg", f"--tasks seg --keep {tmp_path}", f"--out {tmp_path}/a"):
        monkeypatch.setattr(sys, "argv", ["trial.py", *given.split()])
        args = script.parsed(parser)
        found[given] = (args.whole, args.out)
    assert [*found.values()] == [
        (True, script.RESULTS / "trial.parquet"),
        (True, script.RESULTS / "trial.parquet"),
        (False, Path("runs/trial/trial.parquet")),
        (False, tmp_path / "trial.parquet"),
        (True, tmp_path / "a"),
    ]


def test_a_part_that_is_kept_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says which version did it."""
    done = []

    def work(k: int) -> pd.DataFrame:
        done.append(k)
        return pd.DataFrame({"k": [k]})

    works = [("mini@1.0.0/first", lambda: work(1)), ("second", lambda: work(2))]
    script.done(tmp_path / "parts", tmp_path / "out.parquet", works[:1])
    before = nasbench_mr.__version__
    monkeypatch.setattr(nasbench_mr, "__version__", "99.0")
    frame = script.done(tmp_path / "parts", tmp_path / "out.parquet", works)
    assert done == [1, 2]
    assert frame[["k", "version"]].to_numpy().tolist() == [[1, before], [2, "99.0"]]
    assert pd.read_parquet(tmp_path / "out.parquet").equals(frame)


def test_results_of_other_tasks_and_limits_stay_beside(tmp_path: Path) -> None:
    out, keep = tmp_path / "out.parquet", tmp_path / "parts"

    def run(part: str, release: str, task: str, limit: float, value: int) -> list[list[object]]:
        row = {"release": [release], "task": [task], "limit": [limit], "value": [value]}
        frame = script.done(keep, out, [(part, lambda: pd.DataFrame(row))], ("task", "limit"))
        assert pd.read_parquet(out).equals(frame)
        return frame[["task", "limit", "value"]].to_numpy().tolist()

    assert run("a", "mini@1", "cls", 0.5, 1) == [["cls", 0.5, 1]]
    assert run("b", "mini@1", "cls", 0.25, 2) == [["cls", 0.5, 1], ["cls", 0.25, 2]]
    assert run("c", "mini@1", "cls", 0.5, 3) == [["cls", 0.25, 2], ["cls", 0.5, 3]]
    # Rows that tell no release stay as well.
    frames = [pd.DataFrame({"split": [k], "value": [k]}) for k in (0, 1)]
    for k, frame in enumerate(frames):
        script.done(keep, tmp_path / "plain.parquet", [(f"s{k}", frame.copy)], ("split",))
    assert pd.read_parquet(tmp_path / "plain.parquet")["split"].tolist() == [0, 1]
    # Another table is another experiment.
    assert run("d", "mini@2", "video", 0.5, 4) == [["video", 0.5, 4]]


def test_mistakes_in_an_experiment_end_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(main: Callable[[], None], *given: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["trial.py", *given])
        with pytest.raises(SystemExit) as ended:
            script.start(main)
        return ended.value.code, capsys.readouterr().err.splitlines()[-1]

    def main() -> None:
        parser = script.options("what it does", "trial")
        parser.add_argument("--seeds", type=script.at_least(0), nargs="+")
        parser.add_argument("--shares", type=script.fraction, nargs="+")
        script.parsed(parser)
        raise NasbenchMRError("no such task")

    def stopped() -> None:
        raise KeyboardInterrupt

    seeds, shares = "trial.py: error: argument --seeds: ", "trial.py: error: argument --shares: "
    assert ends(main, "--seeds", "0", "--shares", "1") == (2, "trial.py: no such task")
    assert ends(main, "--seeds", "0", "-1") == (2, f"{seeds}-1 is too small: expected at least 0")
    assert ends(main, "--seeds", "a") == (2, f"{seeds}'a' is not a whole number")
    assert ends(main, "--shares", "1.5") == (2, f"{shares}1.5 is not a share: expected a number from 0 to 1")
    (tmp_path / "file").touch()
    for option in ("--out", "--keep"):
        status, told = ends(main, option, str(tmp_path / "file" / "below"))
        assert (status, told[:23]) == (2, "trial.py: can't write /")
    assert ends(stopped) == (130, "trial.py: interrupted; the same command resumes")


def test_an_ablation_of_an_unknown_task_says_which_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "every_task", lambda: iter([(None, "seg"), (None, "video")]))
    monkeypatch.setattr(sys, "argv", ["ncp_ablation.py", "--tasks", "seq"])
    with pytest.raises(UnknownTaskError, match="no task 'seq': did you mean 'seg'"):
        ablation.main()
