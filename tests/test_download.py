"""`download`: what comes whole, what resumes, and what never appears under its name."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from nasbench_mr import cli, files, release
from nasbench_mr import download as module
from nasbench_mr.download import download
from nasbench_mr.errors import DownloadError, IntegrityError, InvalidArgumentError, StorageError

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
BLOB = hashlib.sha1(b"blob 300000\0" + CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that were to be waited for; no test waits."""
    seconds: list[float] = []
    monkeypatch.setattr(module, "_sleep", seconds.append)
    return seconds


@pytest.fixture
def url(server: Any) -> str:
    server.files["/a.bin"] = CONTENT
    return f"{server.url}/a.bin"


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("expected", [{"sha256": SHA256}, {"sha256": SHA256.upper()}, {"blob_id": BLOB}, {}])
def test_a_file_comes_whole(expected: dict[str, str], url: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    assert download(url, path, **expected) == path
    assert path.read_bytes() == CONTENT
    assert listing(path.parent) == ["a.bin"]


@pytest.mark.parametrize("fault", ["", "endless", "whole"])
def test_any_server_will_do(fault: str, url: str, server: Any, tmp_path: Path) -> None:
    server.faults = [fault]
    assert download(url, tmp_path / "a", sha256=SHA256).read_bytes() == CONTENT


def test_a_file_with_the_right_hash_needs_no_network(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    assert download("http://127.0.0.1:9/a", path, sha256=SHA256, blob_id=BLOB) == path


def test_a_file_with_another_hash_is_replaced(url: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"altered")
    assert download(url, path, sha256=SHA256).read_bytes() == CONTENT


def test_without_a_hash_nothing_is_taken_for_granted(url: str, server: Any, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    (tmp_path / "a.part").write_bytes(b"begun")
    assert download(url, path).read_bytes() == CONTENT
    assert server.requests == [("/a.bin", None)]


def test_every_attempt_goes_on_where_the_last_one_broke_off(
    url: str, server: Any, tmp_path: Path, waits: list[float]
) -> None:
    server.faults = ["cut 20000", "cut 50000", "cut 0"]
    assert download(url, tmp_path / "a", sha256=SHA256).read_bytes() == CONTENT
    # Whole chunks of 16 KiB are kept: 1, then 3 more.
    assert [asked for _, asked in server.requests] == [None, "bytes=16384-", "bytes=65536-", "bytes=65536-"]
    assert waits == [1.0, 2.0, 4.0]


def test_another_call_goes_on_too(url: str, server: Any, tmp_path: Path) -> None:
    server.faults = ["cut 20000"]
    with pytest.raises(
        DownloadError,
        match=r"in 1 attempts: Connection broken: .*; what has come is kept; rerun the command to resume",
    ):
        download(url, tmp_path / "a", sha256=SHA256, attempts=1)
    assert listing(tmp_path) == ["a.part"]
    download(url, tmp_path / "a", sha256=SHA256)
    assert server.requests[1:] == [("/a.bin", "bytes=16384-")]
    assert listing(tmp_path) == ["a"]


def test_a_part_that_is_whole_is_taken(url: str, server: Any, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT)
    download(url, tmp_path / "a", sha256=SHA256)
    assert server.requests == [("/a.bin", "bytes=300000-")]
    assert listing(tmp_path) == ["a"]


@pytest.mark.parametrize("begun", [b"x" * 1000, b"x" * 300_000, b"x" * 400_000])
@pytest.mark.parametrize("fault", ["", "whole", "shifted"])
def test_a_part_of_another_file_is_dropped(
    begun: bytes, fault: str, url: str, server: Any, tmp_path: Path
) -> None:
    (tmp_path / "a.part").write_bytes(begun)
    server.faults = [fault]
    assert download(url, tmp_path / "a", sha256=SHA256).read_bytes() == CONTENT


def test_a_file_that_changes_meanwhile_starts_again(
    url: str, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = b"changed" * 40_000

    def change(seconds: float) -> None:
        server.files["/a.bin"] = changed

    monkeypatch.setattr(module, "_sleep", change)
    server.faults = ["cut 20000"]
    # Without a hash, only the server's validator tells that the second half is of another file.
    assert download(url, tmp_path / "a").read_bytes() == changed


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_a_status_that_may_pass_is_tried_again(
    status: int, url: str, server: Any, tmp_path: Path, waits: list[float]
) -> None:
    server.faults = [f"status {status}"] * 2
    assert download(url, tmp_path / "a", sha256=SHA256).read_bytes() == CONTENT
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416])
def test_a_status_that_stays_ends_at_once(
    status: int, url: str, server: Any, tmp_path: Path, waits: list[float]
) -> None:
    server.faults = [f"status {status}"] * 2
    with pytest.raises(DownloadError, match=rf"a\.bin: HTTP {status} .*is the address right\?"):
        download(url, tmp_path / "a", sha256=SHA256)
    assert len(server.requests) == 1
    assert waits == []


def test_attempts_are_bounded_and_their_waits_too(
    url: str, server: Any, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAIT", 5.0)
    server.faults = ["status 503"] * 100
    with pytest.raises(DownloadError, match=r"in 6 attempts: HTTP 503 Service Unavailable; try later"):
        download(url, tmp_path / "a", sha256=SHA256, attempts=6)
    assert len(server.requests) == 6
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(
        DownloadError, match=r"can't download http://127\.0\.0\.1:9/a in 2 attempts: .*refused"
    ):
        download("http://127.0.0.1:9/a", tmp_path / "a", sha256=SHA256, attempts=2)
    assert listing(tmp_path) == []


def test_a_wrong_hash_is_never_kept(url: str, server: Any, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    wrong = "0" * 64
    with pytest.raises(IntegrityError, match=rf"a\.bin has sha256 {SHA256}; expected {wrong}.*mirror"):
        download(url, path, sha256=wrong)
    with pytest.raises(IntegrityError, match=rf"has git blob id {BLOB}; expected {wrong[:40]}"):
        download(url, path, sha256=SHA256, blob_id=wrong[:40])
    assert listing(tmp_path) == ["a"]
    assert path.read_bytes() == b"old"
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", ["", "endless"])
def test_size_is_bounded(fault: str, url: str, server: Any, tmp_path: Path) -> None:
    server.faults = [fault]
    with pytest.raises(IntegrityError, match="is larger than 299,999 bytes"):
        download(url, tmp_path / "a", sha256=SHA256, max_bytes=299_999)
    assert listing(tmp_path) == []
    assert download(url, tmp_path / "a", sha256=SHA256, max_bytes=300_000).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("address", "hashes", "message"),
    [
        ("ftp://example.org/a", {}, "not an http"),
        ("/etc/passwd", {}, "not an http"),
        ("http://127.0.0.1:9/a", {"sha256": "../../a"}, "expected 64 hexadecimal digits"),
        ("http://127.0.0.1:9/a", {"sha256": BLOB}, "expected 64 hexadecimal digits"),
        ("http://127.0.0.1:9/a", {"blob_id": SHA256}, "expected 40 hexadecimal digits"),
    ],
)
def test_arguments_are_checked(address: str, hashes: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        download(address, tmp_path / "a", **hashes)
    assert listing(tmp_path) == []


def test_an_address_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"can't download http://\[/"):
        download("http://[/", tmp_path / "a", sha256=SHA256)


class _FullDisk:
    """What `open` gives where nothing can be written any more."""

    def __init__(self, *arguments: object) -> None: ...

    def __enter__(self) -> _FullDisk:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def write(self, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(module, "open", _FullDisk, raising=False)
    with pytest.raises(StorageError, match=r"can't write .*a: the disk is full; free some space"):
        download(url, path, sha256=SHA256)
    assert path.read_bytes() == b"old"


def test_a_folder_that_can_not_be_written(
    url: str, server: Any, tmp_path: Path, read_only: Callable[[], None]
) -> None:
    ready = tmp_path / "ready"
    ready.write_bytes(CONTENT)
    read_only()
    with pytest.raises(StorageError, match="the file system is read-only; give a place"):
        download(url, tmp_path / "a", sha256=SHA256)
    assert download(url, ready, sha256=SHA256) == ready
    assert server.requests == []
    assert listing(tmp_path) == ["ready"]


CHILD = """
import sys
from nasbench_mr.download import download
print("started", flush=True)
download(sys.argv[1], sys.argv[2], sha256=sys.argv[3])
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    """Return a process that downloads; returns once it is about to."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "started\n"
    return child


def test_of_two_processes_one_downloads(url: str, server: Any, tmp_path: Path) -> None:
    server.faults = ["hold 1000"]
    path = tmp_path / "a"
    first = start(url, str(path), SHA256)
    assert server.held.wait(60)
    second = start(url, str(path), SHA256)
    server.gate.set()
    assert [first.wait(60), second.wait(60)] == [0, 0]
    assert server.requests == [("/a.bin", None)]
    assert path.read_bytes() == CONTENT
    assert listing(tmp_path) == ["a"]


def test_a_killed_process_leaves_its_part_and_no_lock(url: str, server: Any, tmp_path: Path) -> None:
    server.faults = ["hold 200000"]
    child = start(url, str(tmp_path / "a"), SHA256)
    assert server.held.wait(60)
    child.kill()
    child.wait(60)
    assert not (tmp_path / "a").exists()
    download(url, tmp_path / "a", sha256=SHA256)
    assert listing(tmp_path) == ["a"]


# --- nasbench-mr fetch URL ----------------------------------------------------------------------------


@pytest.fixture
def packed(tiny_release: Path, server: Any, tmp_path: Path) -> tuple[str, str]:
    """Return the address of a packed release, and its hash."""
    tarball = release.pack(release.Release.open(tiny_release), tmp_path)
    server.files["/tiny-1.0.0.tar.gz"] = tarball.read_bytes()
    return f"{server.url}/tiny-1.0.0.tar.gz", files.sha256(tarball)


def test_fetch_installs_a_packed_release(
    packed: tuple[str, str], server: Any, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, digest = packed
    server.faults = ["cut 5000"]
    assert cli.main(["fetch", url, "--sha256", digest.upper(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"release": "tiny@1.0.0", "tasks": ["seg", "video"], "missing": []}
    release.verify(release.Release.open(home / "releases" / "tiny" / "1.0.0"))
    asked = len(server.requests)
    assert cli.main(["fetch", url, "--sha256", digest]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "tiny@1.0.0: seg, video"
    assert len(server.requests) == asked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{url}"], "give --sha256 HASH, which stands in {url}.sha256"),
        (["{url}", "--sha256", "0" * 64], "expected " + "0" * 64),
        (["{url}", "--sha256", "abc"], "sha256 is 'abc'; expected 64 hexadecimal digits"),
        (["{url}.old", "--sha256", "0" * 64], "HTTP 404"),
        (["nowhere.tar.gz"], "'nowhere.tar.gz' is neither a file nor an http(s) address"),
    ],
)
def test_fetch_explains_mistakes_in_one_line(
    arguments: list[str],
    message: str,
    packed: tuple[str, str],
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["fetch", *(a.format(url=packed[0]) for a in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("nasbench-mr: ")
    assert message.format(url=packed[0]) in err
    assert not (home / "releases").exists()


# --- Certificates -------------------------------------------------------------------------------------


def test_tls_errors_are_not_tried_again_and_name_what_to_set(
    url: str, server: Any, waits: list[float], tmp_path: Path
) -> None:
    """A server without TLS stands for a proxy with a certificate of its own: both fail in the handshake."""
    with pytest.raises(DownloadError, match="REQUESTS_CA_BUNDLE"):
        download(url.replace("http:", "https:"), tmp_path / "a", sha256=SHA256)
    assert waits == []
    assert server.requests == []


def test_a_missing_file_of_certificates_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nowhere.pem"))
    with pytest.raises(DownloadError, match=r"nowhere\.pem; if a proxy .* REQUESTS_CA_BUNDLE"):
        download("https://127.0.0.1:9/a", tmp_path / "a", sha256=SHA256)


def test_a_handshake_that_breaks_off_is_tried_again(
    url: str, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt, failed = module._attempt, []

    def breaking(*arguments: Any) -> None:
        if not failed:
            failed.append(1)
            raise requests.exceptions.SSLError("EOF occurred in violation of protocol")
        attempt(*arguments)

    monkeypatch.setattr(module, "_attempt", breaking)
    assert download(url, tmp_path / "a", sha256=SHA256).read_bytes() == CONTENT
    assert len(waits) == 1
