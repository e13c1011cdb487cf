"""A line about work that takes a while: only on a terminal, only after a while, and gone afterwards."""

from __future__ import annotations

import io
import os
import platform
import threading
import time
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from nasbench_mr import files, progress
from nasbench_mr.errors import StorageError


class Terminal(io.StringIO):
    """Takes what would be shown."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(progress, "PATIENCE", 0.02)
    return Terminal()


def wait_for(shown: Terminal, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in shown.getvalue() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert text in shown.getvalue()


def test_long_work_is_named_and_the_line_is_cleared(terminal: Terminal) -> None:
    with redirect_stderr(terminal), progress.line("fitting"):
        wait_for(terminal, "\rfitting ... 0 s")
    assert terminal.getvalue().endswith(f"\r{' ' * len('fitting ... 0 s')}\r")


def test_short_work_shows_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 100.0)
    with redirect_stderr(terminal), progress.line("fitting"):
        pass
    assert terminal.getvalue() == ""


def test_nothing_shows_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with redirect_stderr(shown), progress.line("fitting"):
        time.sleep(0.02)
    assert shown.getvalue() == ""


def test_waiting_for_a_lock_names_it_and_its_holder(terminal: Terminal, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    entered = threading.Event()

    def second() -> None:
        with files.locked(lock):
            entered.set()

    with redirect_stderr(terminal), files.locked(lock):
        thread = threading.Thread(target=second)
        thread.start()
        wait_for(terminal, f"waiting for {lock}, which process {os.getpid()} on {platform.node()} holds")
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()


def test_no_lock_is_waited_for_without_end(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a process that hangs on a network drive: the error names it."""
    monkeypatch.setattr(files, "MAX_WAIT", 0.06)
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    message = rf"can't get .*lock: process {os.getpid()} on .* has held it for 0.001 minutes; run the same"
    with (
        redirect_stderr(terminal),
        files.locked(tmp_path / "lock"),
        pytest.raises(StorageError, match=message),
        files.locked(tmp_path / "lock"),
    ):
        pytest.fail("two are in")
    with files.locked(tmp_path / "lock"):
        pass
