"""The commands that made the embedded release make one like it: four codes, one epoch each, few data."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import release
from nasbench_mr.cli import main
from nasbench_mr.data_builders.building import runner

MINI = Path(__file__).resolve().parents[2] / "data_builders" / "mini"
TASKS = ["mini-cls", "mini-seg", "mini-det3d", "mini-video"]


def commands() -> list[list[str]]:
    """Return the arguments of the `nasbench-mr` commands in the README, in order."""
    text = (MINI / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line)[2:] for line in re.findall(r"^\$ nasbench-mr .*$", text, re.MULTILINE)]


def replaced(words: list[str], option: str, value: str) -> list[str]:
    """Return the command with another value of an option."""
    at = words.index(option) + 1
    return [*words[:at], value, *words[at + 1 :]]


def test_the_commands_make_such_a_release(
    shared: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_builders").symlink_to(MINI.parent)
    (tmp_path / "nasbench_mr").mkdir()
    for words in commands():
        match words[:2]:
            case ["data", "fetch"]:
                if shared is None:
                    print(f"{words[2]} is not at hand: its task is left out")
                    continue
                words += ["--from", str(shared / "data" / f"{words[2]}.tar")]
            case ["data", "make"]:
                # A few samples of each class do.
                words = [*words[:-1], "--train", "8", "--val", "4", *words[-1:]]
            case ["build", _]:
                seeds = "--seeds" in words
                words = replaced(words, "--codes", "1" if seeds else "4")
                # The smallest of networks, and little data once: seconds instead of hours.
                words = [*replaced(words, "--max-macs", "20M"), "--workers", "1"]
                words += ["--set", "epochs=1", "--set", "epoch_samples=64"]
                words = replaced(words, "--seeds", "2") if seeds else words
                if shared is None:
                    words = [w for w in words if w not in ("mini-cls", "mini-seg")]
            case ["surrogate", _]:
                # A surrogate needs 20 codes; fitting one is tested with predictors.
                continue
        assert main(words) == 0, words
        if words[:2] == ["data", "fetch"]:
            for folder in {path.parent for path in Path(words[3]).rglob("*.*")}:
                for path in sorted(folder.glob("*.*"))[30:]:
                    path.unlink()
    made = release.Release.open(tmp_path / "runs" / "tables")
    release.verify(made)
    assert str(made) == "mini@1.1.0-tables"
    assert sorted(made.tasks) == sorted(TASKS if shared else TASKS[2:])
    codes = runner.draw_codes(4, 0, "graded", max_macs=20e6)
    bench = nasbench_mr.load(made.path)
    for task in bench.tasks:
        frame = bench.to_pandas(task)
        assert (len(frame), set(frame["status"]), set(frame["seed"])) == (5, {"ok"}, {0, 1})
        assert len(bench.curves(task)) == 5
        assert np.array_equal(np.sort(bench.codes(task), axis=0), np.sort(codes, axis=0))
