"""What all tests share: published data where a checkout has it beside, a home each, and a small release.

Fixtures (tests can't import each other, so what they share is here):
    program            the command `nasbench-mr` of these sources
    shared             the folder of published tables and photos, or None
    home               an empty NASBENCH_MR_HOME, for every test
    read_only          makes the file system read-only for the rest of a test
    server             a file server on this machine, which can be told to misbehave
    tiny_release       the folder of a made-up release of two tasks, with seeds, a failed trial and curves
    published_release  the folder of the published tables as a release, or None
    known_release      the folder of a release whose tables are simple functions of the codes
"""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from nasbench_mr import cost, nasbench201, release, space, table, tasks

# The same examples in every run, and no time limit for one: the machine may be busy.
settings.register_profile("suite", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("suite")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
# Processes that a test starts import the sources, and the trainers that stand in for training, as it does.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(REPOSITORY), str(REPOSITORY / "tests" / "data_builders" / "building")]
    + [entry for entry in [os.environ.get("PYTHONPATH")] if entry]
)


@pytest.fixture(scope="session", autouse=True)
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the command `nasbench-mr`, first in PATH, which runs these sources."""
    path = tmp_path_factory.mktemp("bin") / "nasbench-mr"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nasbench_mr "$@"\n')
    path.chmod(0o755)
    os.environ["PATH"] = f"{path.parent}{os.pathsep}{os.environ['PATH']}"
    return path


@pytest.fixture(scope="session")
def shared() -> Path | None:
    """Return the folder with published tables and photos, or None; tests cover less without it."""
    return SHARED if (SHARED / "upstream").is_dir() else None


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty NASBENCH_MR_HOME for every test, so that none sees or touches the user's releases."""
    folder = tmp_path / "home"
    monkeypatch.setenv("NASBENCH_MR_HOME", str(folder))
    return folder


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what makes the file system read-only: from then on no file can be made."""
    real = os.open

    def refuse(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *arguments, **more)

    return lambda: monkeypatch.setattr(os, "open", refuse)


class FileServer(http.server.ThreadingHTTPServer):
    """Serves `files` by path, such as "/a.bin", with ranges and ETags.

    Attributes:
        url: the base address, without a slash at the end.
        files: path: content.
        faults: what goes wrong with the coming requests, one entry each; the others are served well:
            "status N": answers with this status, and asks for a second's patience.
            "cut N": breaks off after N bytes of the body.
            "hold N": sends N bytes of the body and waits for `gate` before the rest.
            "whole": ignores the range that is asked for. "shifted": sends another range.
            "endless": does not say how long the body is.
        requests: (path, the range asked for or None) of every request so far.
        gate: opens what "hold" holds.
        held: is set while something is held.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.requests: list[tuple[str, str | None]] = []
        self.gate, self.held = threading.Event(), threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that hangs up: that is part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FileServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.requests.append((self.path, asked))
        fault, _, number = (server.faults.pop(0) if server.faults else "").partition(" ")
        body = server.files.get(self.path)
        if fault == "status" or body is None:
            self.send_response(int(number or 404))
            self.send_header("Retry-After", "1")
            self.end_headers()
            return
        tag = f'"{hashlib.sha1(body).hexdigest()}"'
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if fault == "whole" or self.headers.get("If-Range", tag) != tag:
            start, asked = 0, None
        if fault == "shifted":
            start += 1
        self.send_response(200 if asked is None else 206 if start < len(body) else 416)
        if asked is not None:
            span = f"{start}-{len(body) - 1}" if start < len(body) else "*"
            self.send_header("Content-Range", f"bytes {span}/{len(body)}")
        data = body[start:]
        if fault != "endless":
            self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", tag)
        self.end_headers()
        self.wfile.write(data[: int(number)] if number else data)
        if fault == "hold":
            self.wfile.flush()
            server.held.set()
            server.gate.wait(60)
            self.wfile.write(data[int(number) :])


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Yield a file server on this machine, which can be told to misbehave."""
    with FileServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.gate.set()
        running.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def tiny_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the release "tiny" 1.0.0: made-up values, exact costs. Copy it before a change.

    `seg`: 61 codes, `space.sample(61, seed=0)`, seed 0 each. The first 10 also have seeds 1 and 2; the last
    one's only trial failed, so 60 codes and 80 "ok" trials can be asked. mIoU = 8 log10(macs) - 10 + noise,
    mAcc = mIoU + 8, aAcc = 90 + mIoU / 10, each rounded to 2 digits; 4 epochs, macs / 1e8 seconds in all.
    Curves: of every "ok" trial, epochs 1 to 4: the metrics, e / 4 of the final values at epoch e, and "loss".
    `video`: the first 40 of these codes, seed 0; top1 = 10 log10(params) - 40 + noise, top5 = top1 + 25. No
    curves, times unknown.
    """
    codes = space.sample(61, seed=0)
    rng = np.random.default_rng(0)
    failed = len(codes) - 1
    rows = np.array([*range(61), *range(10), *range(10)])
    seeds = np.repeat([0, 1, 2], [61, 10, 10])
    ok = rows != failed
    mious = 8 * np.log10(cost.macs(codes))[rows] - 10 + rng.normal(0, 1, len(rows))
    metrics = {"mIoU": mious, "mAcc": mious + 8, "aAcc": 90 + mious / 10}
    metrics = {name: np.where(ok, values.round(2), np.nan) for name, values in metrics.items()}
    macs = cost.macs(codes[rows])
    seg = {
        "codes": codes[rows],
        "seed": seeds,
        **metrics,
        "macs": macs,
        "params": cost.params(codes[rows]),
        "epochs": np.where(ok, 4.0, np.nan),
        "train_seconds": np.where(ok, macs / 1e8, np.nan),
        "device": ["cpu"] * len(rows),
        "status": ["ok" if good else "failed" for good in ok],
        "error": [None if good else "out of memory" for good in ok],
    }
    steps = np.tile([1, 2, 3, 4], ok.sum())
    curves = {
        "codes": np.repeat(codes[rows[ok]], 4, axis=0),
        "seed": np.repeat(seeds[ok], 4),
        "epoch": steps,
        **{name: np.repeat(values[ok], 4) * steps / 4 for name, values in metrics.items()},
        "loss": 2.0 / steps,
    }
    filmed = codes[:40]
    top1 = (10 * np.log10(cost.params(filmed)) - 40 + rng.normal(0, 1, len(filmed))).round(2)
    video = {
        "codes": filmed,
        "top1": top1,
        "top5": top1 + 25,
        "macs": cost.macs(filmed),
        "params": cost.params(filmed),
    }

    def fill(folder: Path) -> None:
        table.write(folder / "tables/seg.parquet", tasks.get("seg"), seg)
        table.write_curves(folder / "curves/seg.parquet", tasks.get("seg"), curves)
        table.write(folder / "tables/video.parquet", tasks.get("video"), video)

    target = tmp_path_factory.mktemp("releases") / "tiny"
    about = {"title": "A small made-up release", "license": "CC0-1.0"}
    chosen = [tasks.get("seg"), tasks.get("video")]
    return release.create(fill, "tiny", "1.0.0", chosen, about=about, target=target).path


@pytest.fixture(scope="session")
def published_release(shared: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Return the release "nasbench-mr" of the published tables in `shared`, or None. Not to be changed."""
    if shared is None:
        return None
    from nasbench_mr.data_builders import published

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NASBENCH_MR_HOME", str(tmp_path_factory.mktemp("published")))
        return published.import_release(shared / "upstream").path


def pytest_report_header() -> str:
    """Says once what the run covers."""
    if (SHARED / "upstream").is_dir():
        return "published tables: present"
    return "published tables: absent; tests use the embedded release and generated data only"


def share(codes: np.ndarray) -> np.ndarray:
    """Where each dimension lies between its smallest (0) and largest value (1), on average: `(n,)`."""
    return ((codes - space.LOWER) / (space.UPPER - space.LOWER)).mean(axis=1)


def cells() -> np.ndarray:
    """All 15,625 codes of NAS-Bench-201."""
    return np.stack(np.meshgrid(*[np.arange(5, dtype=np.int16)] * 6, indexing="ij"), axis=-1).reshape(-1, 6)


@pytest.fixture(scope="session")
def known_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the release "known": not to be changed.

    `seg`, `video`: 200 codes, `space.sample(200, seed=3, scheme="published")`, seed 0. With `share` the mean
    of (value - smallest) / (largest - smallest) over the dimensions: mIoU = 40 + 40 share, mAcc = mIoU + 5,
    aAcc = 90; top1 = 60 - 40 share, top5 = 90. So seg wants large networks, video small ones.
    `nas-bench-201`: all cells; Acc = 10 + 6 times the number of 3x3 convolutions (the last operation).
    """
    codes = space.sample(200, seed=3, scheme="published")
    costs = {"macs": cost.macs(codes), "params": cost.params(codes)}
    larger = 40 * share(codes)
    seg = {"mIoU": 40 + larger, "mAcc": 45 + larger, "aAcc": np.full(200, 90.0)}
    video = {"top1": 60 - larger, "top5": np.full(200, 90.0)}
    every = cells()
    cell = {
        "Acc": 10.0 + 6 * (every == len(nasbench201.OPERATIONS) - 1).sum(axis=1),
        "macs": nasbench201.macs(every),
        "params": nasbench201.params(every),
    }

    def fill(folder: Path) -> None:
        for name, columns in (
            ("seg", {"codes": codes, **seg, **costs}),
            ("video", {"codes": codes, **video, **costs}),
            ("nas-bench-201", {"codes": every, **cell}),
        ):
            table.write(folder / f"tables/{name}.parquet", tasks.get(name), columns)

    chosen = [tasks.get(name) for name in ("seg", "video", "nas-bench-201")]
    target = tmp_path_factory.mktemp("releases") / "known"
    return release.create(
        fill, "known", "1.0.0", chosen, about={"title": "Known functions"}, target=target
    ).path
