"""What the tests of the command line share.

Fixtures:
    run    runs the command line in this process: exit status, stdout, stderr
    read   runs a command that must succeed, with --json, and reads what it prints
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from nasbench_mr import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: exit status, stdout, stderr."""

    def run_here(*arguments: object) -> tuple[int, str, str]:
        try:
            status = cli.main([str(a) for a in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run_here


@pytest.fixture
def read(run: Run) -> Callable[..., Any]:
    """Run a command that must succeed, with --json, and read what it prints."""

    def read_json(*arguments: object) -> Any:
        status, out, err = run(*arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    return read_json
