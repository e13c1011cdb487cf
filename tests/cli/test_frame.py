"""Around every command: help, mistakes in one line, exit statuses, and the program itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import nasbench_mr
from nasbench_mr import cli, space
from nasbench_mr.cli import frame
from nasbench_mr.cli.queries import TasksCommand
from nasbench_mr.errors import MissingExtraError, NasbenchMRError

STRING = space.to_string(space.sample(1, seed=0)[0])

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str, run: Run) -> None:
    status, out, err = run(command, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: nasbench-mr {command}")
    assert "\nExample:\n" in out
    assert f"\n  nasbench-mr {command}" in out


def test_help_lists_every_command_and_imports_none(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    for name, (_, _, help_line) in cli.COMMANDS.items():
        assert f"\n    {name}" in out
        assert help_line.split(",")[0] in " ".join(out.split())
    script = (
        "import sys; from nasbench_mr import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith(('nasbench_mr', 'numpy', 'torch', 'pandas'))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = [
        "nasbench_mr",
        *(f"nasbench_mr.{name}" for name in ("cli", "cli.command", "cli.frame", "errors", "escape")),
    ]
    assert done.stdout.splitlines()[-1] == str(modules)


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"nasbench-mr {nasbench_mr.__version__}\n", "")


def test_what_a_terminal_cannot_show_is_written_by_number() -> None:
    command = [sys.executable, "-m", "nasbench_mr", "query", STRING, "mini-seg", "--release", "mini"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xb1" in done.stdout  # a surrogate's ±


def test_the_package_is_the_command_as_well() -> None:
    command = [sys.executable, "-m", "nasbench_mr", "query", "1,2", "seg"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("nasbench-mr: ")


def test_errors_of_several_lines_are_printed_in_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: TasksCommand, args: object) -> None:
        raise NasbenchMRError("first\n  second")

    monkeypatch.setattr(TasksCommand, "run", fail)
    assert run("tasks") == (2, "", "nasbench-mr: first second\n")


def test_a_missing_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a command's module needs it to be imported at all."""

    def fail(name: str) -> None:
        raise MissingExtraError("building on a cluster needs 'ray': pip install 'nasbench-mr[cluster]'")

    monkeypatch.setattr(frame.importlib, "import_module", fail)
    status, out, err = run("build")
    assert (status, out) == (2, "")
    assert err == ("nasbench-mr: building on a cluster needs 'ray': pip install 'nasbench-mr[cluster]'\n")


def test_our_own_mistakes_are_not_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TasksCommand, "run", lambda self, args: [][0])
    with pytest.raises(IndexError):
        run("tasks")


def test_the_program(tiny_release: Path) -> None:
    done = subprocess.run(
        ["nasbench-mr", "query", "#0", "--task", "seg", "--release", tiny_release],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(STRING)
    done = subprocess.run(["nasbench-mr", "query", "x"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_reader_that_goes_away(tiny_release: Path) -> None:
    """As in `nasbench-mr tasks | head -1`: no complaint."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        ["nasbench-mr", "tasks", "--release", tiny_release],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: TasksCommand, args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TasksCommand, "run", stop)
    assert run("tasks") == (
        130, "", "nasbench-mr: interrupted: nothing was changed; rerun the command to start again\n",
    )  # fmt: skip
