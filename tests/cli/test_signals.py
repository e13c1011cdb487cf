"""Ctrl-C and SIGTERM end every command with one line, and leave no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

#: By name: a command that takes minutes, what is there once it is at work, the signal, and what it says.
LONG = {
    "build": (
        "build mini-cls --codes 500 --out out --data . --workers 2 --trainer fake_trainers:short",
        "out/parts",
        signal.SIGTERM,
        "terminated: finished trials are kept in out; rerun the command to resume",
    ),
    "ray": (
        "build mini-cls --codes 500 --out out --data . --engine ray --trainer fake_trainers:short",
        "out/parts",
        signal.SIGTERM,
        "terminated: finished trials are kept in out; rerun the command to resume",
    ),
    "compare": (
        "compare mini-seg --searchers random --budget 2 --seeds 100000 --workers 2 --out kept",
        "kept/parts",
        signal.SIGINT,
        "interrupted: finished runs are kept in kept; rerun the command to resume",
    ),
    "data": (
        "data make kitti there --train 100000 --val 10 --workers 2 --set rings=16",
        ".there.*",
        signal.SIGINT,
        "interrupted: nothing was changed; rerun the command to start again",
    ),
    "search": (
        "search mini-seg --steps 1000000",
        "home/cache/tables",
        signal.SIGINT,
        "interrupted: nothing was changed; rerun the command to start again",
    ),
}


def session(number: int) -> list[int]:
    """Return the processes that a command and its workers left, by what they say of themselves."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            mine = entry.name.isdigit() and f"NASBENCH_MR_TEST={number}".encode() in (
                entry / "environ"
            ).read_bytes().split(b"\0")
        except OSError:
            continue
        if mine and "State:\tZ" not in (entry / "status").read_text():
            found.append(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("name", LONG)
def test_a_command_that_is_stopped_says_so_in_one_line(name: str, tmp_path: Path) -> None:
    if name == "ray":
        pytest.importorskip("ray")
    line, trace, sent, said = LONG[name]
    mark = os.getpid() * 1000 + list(LONG).index(name)
    with subprocess.Popen(
        [sys.executable, "-m", "nasbench_mr", *line.split()],
        cwd=tmp_path,
        env={**os.environ, "NASBENCH_MR_TEST": str(mark), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What a shell starts in the background ignores Ctrl-C, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        try:
            deadline = time.monotonic() + 60
            while not any(tmp_path.glob(trace)) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert running.poll() is None, running.communicate()
            if sent == signal.SIGINT:
                os.killpg(running.pid, sent)  # as a terminal does
            else:
                running.send_signal(sent)
            out, err = running.communicate(timeout=60)
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
    if name == "ray":  # before, Ray may say that its cluster asks for a token, but not that it was stopped
        assert "SIGTERM" not in err
        err = err[err.find("nasbench-mr:") :]
    assert (running.returncode, out, err) == (128 + sent, "", f"nasbench-mr: {said}\n")
    deadline = time.monotonic() + 10
    while session(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session(mark) == []


def test_a_command_that_is_stopped_in_an_import_ends_with_its_status(tmp_path: Path) -> None:
    """CPython's -m ends by the signal what was interrupted inside an exec, unless it is made to forget it."""
    (tmp_path / "stopped.py").write_text("""
import sys
from nasbench_mr.cli import command, frame

class Stop(command.Command):
    "Stop."
    def run(self, args):
        exec("raise KeyboardInterrupt")

sys.exit(frame.run({"stop": ("__main__", "Stop", "stop")}, ["stop"]))
""")
    ended = subprocess.run(
        [sys.executable, "-m", "stopped", "stop"], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert ended.returncode == 128 + signal.SIGINT
    assert ended.stderr == "nasbench-mr: interrupted: nothing was changed; rerun the command to start again\n"
