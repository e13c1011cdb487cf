"""The examples run as they are, on the embedded release."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
#: Script: small arguments, and what its output has.
SCRIPTS = {
    "compare_searches.py": (["--seeds", "3", "--budget", "60"], "regret.svg has the regret"),
    "network_for_two_tasks.py": ([], "MACs of 150,000,000 allowed"),
    "own_space.py": ([], "NCP of all codes    52."),
    "own_predictor.py": (
        ["--train", "60", "--tasks", "mini-seg"],
        "own_predictor.NearestNeighbours: Kendall",
    ),
}


def test_every_script_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*SCRIPTS}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, expected = SCRIPTS[name]
    monkeypatch.setenv("MPLBACKEND", "agg")
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert expected in done.stdout
    if name == "compare_searches.py":
        assert (tmp_path / "regret.svg").read_text().startswith("<?xml")


def test_the_notebook_runs_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells in order, in one process, without Jupyter."""
    cells = json.loads((EXAMPLES / "tour.ipynb").read_text())["cells"]
    script = tmp_path / "tour.py"
    script.write_text("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "MACs" in done.stdout
