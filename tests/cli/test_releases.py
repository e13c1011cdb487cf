"""`nasbench-mr fetch`, `verify`, `pack` and `card`."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nasbench_mr import release
from nasbench_mr.cli import releases as command
from nasbench_mr.predictors import surrogates

Run = Callable[..., tuple[int, str, str]]


def test_verify(run: Run, tiny_release: Path) -> None:
    status, out, _ = run("verify", tiny_release)
    digest = release.Release.open(tiny_release).digest
    assert (status, out) == (
        0,
        f"tiny@1.0.0: verified 5 files and 441 rows; all match\nthe digest of its values is {digest}\n",
    )
    data = json.loads(run("verify", tiny_release, "--json")[1])
    assert data == [{"release": "tiny@1.0.0", "files": 5, "rows": 441, "digest": digest, "ok": True}]


def test_pack_fetch_and_card(run: Run, tiny_release: Path, tmp_path: Path) -> None:
    """A release goes from one user to another: packed here, installed there by name."""
    packed = json.loads(run("pack", tiny_release, "--out", tmp_path / "dist", "--json")[1])
    path = tmp_path / "dist" / "tiny-1.0.0.tar.gz"
    assert packed == {"path": str(path), "sha256": Path(f"{path}.sha256").read_text().split()[0]}
    assert run("pack", tiny_release, "--out", path) == (0, f"{path}\nsha256 {packed['sha256']}\n", "")
    status, out, _ = run("fetch", path, "--sha256", packed["sha256"], "--json")
    assert status == 0
    assert json.loads(out) == {"release": "tiny@1.0.0", "tasks": ["seg", "video"], "missing": []}
    assert release.installed() == [("tiny", "1.0.0")]
    status, out, _ = run("fetch", path)
    assert out == f"tiny@1.0.0: seg, video\ninstalled in {release.home() / 'releases/tiny/1.0.0'}\n"
    assert run("card", "tiny")[1] == (tiny_release / "DATASET_CARD.md").read_text()
    assert json.loads(run("card", "tiny", "--json")[1]) == json.loads(
        (tiny_release / "release.json").read_text()
    )
    assert run("best", "seg", "--release", path)[0] == 0


def test_published_tables_get_surrogates_once_where_torch_is_installed(
    tiny_release: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = functools.partial(surrogates.fit_surrogates, epochs=1, members=2)
    monkeypatch.setattr(surrogates, "fit_surrogates", quick)
    made = release.Release.open(shutil.copytree(tiny_release, home / "releases" / "tiny" / "1.0.0"))
    assert command.with_surrogates(made, without=True) is made
    with monkeypatch.context() as patch:
        patch.setattr(command.importlib.util, "find_spec", lambda name: None)
        assert command.with_surrogates(made) is made
    fitted = command.with_surrogates(made)
    assert set(fitted.about["surrogates"]) == {"seg", "video"}
    again = command.with_surrogates(made)
    assert again.path == fitted.path
    assert release.installed() == [("tiny", "1.0.0"), ("tiny", str(fitted).partition("@")[2])]


MORE_MISTAKES: list[tuple[list[str], str]] = [
    (["tasks", "--release", "mimi"], "no release 'mimi': did you mean 'mini'?"),
    (["tasks", "--release", "nasbench-mr"], "nasbench-mr fetch gets the published tables"),
    (["tasks", "--release", "./nowhere"], "no release at './nowhere'"),
    (["verify", "nowhere"], "no release 'nowhere'"),
    (["pack", "nowhere"], "no release 'nowhere'"),
    (["card", "nowhere"], "no release 'nowhere'"),
    (["fetch", "nowhere.tar.gz"], "'nowhere.tar.gz' is neither a file nor an http(s) address"),
    (["fetch", "http://127.0.0.1:9/x.tar.gz"], "give --sha256 HASH, which stands in http://127.0.0.1:9/x.tar.gz.sha256"),
    (["fetch", "https://127.0.0.1:9/" + "x" * 5000], "give --sha256 HASH"),
    (["fetch", "http://127.0.0.1:9/x.tar.gz", "--sha256", "../../x"], "expected 64 hexadecimal digits"),
    (["fetch", "--sha256", "0" * 64], "--sha256 is for a release tarball; give its URL too"),
    (["import", "nowhere"], "'nowhere' does not exist; expected a folder or a table"),
    (["import", __file__], "is a file: say which task it is about, --task NAME"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), MORE_MISTAKES)
def test_mistakes_about_releases(arguments: list[str], message: str, run: Run) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("nasbench-mr: ")
    assert message in err
    assert err.count("\n") == 1


def test_damaged_releases(run: Run, tiny_release: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_release, tmp_path / "copy"))
    (copy / "DATASET_CARD.md").write_text("mine")
    status, out, err = run("verify", copy)
    assert (status, out) == (2, "")
    assert err.startswith("nasbench-mr: tiny@1.0.0: DATASET_CARD.md has sha256 ")
    assert run("pack", copy, "--out", tmp_path)[0] == 2
    (copy / "release.json").write_text("{")
    assert "release.json is not JSON" in run("tasks", "--release", copy)[2]
    (tmp_path / "x.tar.gz").write_bytes(b"no tarball")
    assert "not a complete tarball" in run("fetch", tmp_path / "x.tar.gz")[2]


def test_places_that_can_not_be_written(run: Run, tiny_release: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = run("pack", tiny_release, "--out", tmp_path / "file" / "x.tar.gz")
    assert status == 2
    assert err.startswith("nasbench-mr: --out: can't write ")
    assert err.count("\n") == 1
