"""The library: all that is installed as one. Which release answers, what is unknown, and what homes do."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nasbench_mr
from nasbench_mr import cost, files, library, release, space, table, tasks
from nasbench_mr.cli import main
from nasbench_mr.errors import (
    InvalidArgumentError,
    ReleaseError,
    ReleaseNotFoundError,
    StorageError,
    UnknownTaskError,
)
from nasbench_mr.release import Release
from nasbench_mr.tasks import Metric, Task

CODES = space.sample(3, seed=0)
MINI = ("mini-cls", "mini-seg", "mini-det3d", "mini-video")


def task(name: str) -> Task:
    known = {n: tasks.get(n) for n in tasks.names()}
    return known.get(name) or Task(name, name, "unknown", "unknown", (Metric("score"),), "score")


def install(name: str, values: dict[str, float], version: str = "1.0.0", **options: Any) -> Release:
    """Return a release with three codes a task, all of one value of the task's objective."""

    def fill(folder: Path) -> None:
        for each, value in values.items():
            of = task(each)
            columns = {"codes": CODES, of.objective: [value] * 3}
            columns |= {"macs": cost.macs(CODES), "params": cost.params(CODES)}
            table.write(folder / f"tables/{each}.parquet", of, columns)

    return release.create(fill, name, version, [task(each) for each in values], **options)


def answer(bench: nasbench_mr.Benchmark, name: str) -> float:
    return bench.query(CODES[0], name)[bench.task(name).objective]


# --- Which release answers ----------------------------------------------------------------------------


def test_without_a_name_all_that_is_installed_answers() -> None:
    assert set(nasbench_mr.load().tasks) == set(MINI)
    install("nasbench-mr", {"seg": 70.0, "video": 30.0})
    install("local", {"mine": 5.0}, "1.0.0-local.1")
    bench = nasbench_mr.load()
    assert bench.tasks[:2] == ("seg", "video")
    assert set(bench.tasks) == {"seg", "video", "mine", *MINI}
    assert [str(each) for each in bench.releases] == [
        "nasbench-mr@1.0.0",
        "mini@1.1.0",
        "local@1.0.0-local.1",
    ]
    assert str(bench) == "nasbench-mr@1.0.0, mini@1.1.0, local@1.0.0-local.1"
    assert (answer(bench, "seg"), answer(bench, "mine")) == (70.0, 5.0)
    assert bench.query(bench.codes("mini-seg")[0], "mini-seg").source == "table"
    assert str(bench.release_of("cityscapes")) in ("nasbench-mr@1.0.0",)


def test_what_a_user_adds_changes_no_answer_of_a_published_task() -> None:
    """However it sorts: published ones and mini, then what came whole, then a user's additions."""
    install("nasbench-mr", {"seg": 70.0})
    install("aaa", {"seg": 1.0, "shared": 2.0, "mine": 3.0}, "1.0.1-local.1")
    install("local", {"seg": 4.0, "mine": 5.0, "other": 6.0}, "9.0.0-local.1")
    install("zzz", {"seg": 7.0, "shared": 8.0})
    bench = nasbench_mr.load()
    assert {t: answer(bench, t) for t in ("seg", "shared", "mine", "other")} == {
        "seg": 70.0, "shared": 8.0, "mine": 3.0, "other": 6.0,
    }  # fmt: skip
    assert answer(nasbench_mr.load("local"), "seg") == 4.0


def test_the_newest_version_of_each_release_answers() -> None:
    install("nasbench-mr", {"seg": 70.0})
    install("nasbench-mr", {"seg": 71.0}, "1.0.1-local.1")
    install("nasbench-mr", {"seg": 10.0}, "1.0.0-altered.1")
    assert answer(nasbench_mr.load(), "seg") == 71.0
    assert answer(nasbench_mr.load("nasbench-mr@1.0.0"), "seg") == 70.0


def test_several_releases_by_name() -> None:
    install("one", {"seg": 1.0, "mine": 2.0})
    install("two", {"seg": 3.0, "video": 4.0})
    bench = nasbench_mr.load(["two", "one"])
    assert bench.tasks == ("seg", "video", "mine")
    assert [answer(bench, t) for t in bench.tasks] == [3.0, 4.0, 2.0]
    assert bench.comparable() == ["seg", "video"]
    assert bench.comparable(["mine"]) == ["mine"]
    assert bench.comparable(["video", "mine"]) == ["seg", "video", "mine"]
    assert list(bench.correlation()) == ["seg", "video"]
    with pytest.raises(InvalidArgumentError, match=r'several are open: two@1.0.0, one@1.0.0.*such as "two"'):
        bench.release  # noqa: B018
    with pytest.raises(InvalidArgumentError, match="at least one release"):
        nasbench_mr.load([])


def test_a_sent_library_does_not_change_with_what_is_installed_later() -> None:
    install("nasbench-mr", {"seg": 70.0})
    sent = pickle.dumps(nasbench_mr.load())
    install("nasbench-mr", {"seg": 71.0}, "1.1.0")
    assert answer(pickle.loads(sent), "seg") == 70.0


def test_views_curves_and_surrogates_come_from_the_release_that_answers(tiny_release: Path) -> None:
    release.install(tiny_release)
    bench = nasbench_mr.load()
    alone = nasbench_mr.load("tiny")
    assert bench.to_pandas("seg").equals(alone.to_pandas("seg"))
    assert bench.curves("seg").equals(alone.curves("seg"))
    far = space.sample(1, seed=123)[0]
    assert bench.query(far, "mini-seg").source == "surrogate"
    with pytest.raises(LookupError, match=r"tiny@1.0.0 has no surrogate .nasbench-mr surrogate fit tiny."):
        bench.query(far, "seg")


def test_a_damaged_release_is_left_out_and_said() -> None:
    broken = install("local", {"mine": 5.0})
    (broken.path / "release.json").write_text("{")
    with pytest.warns(UserWarning, match=r"left out.*is not JSON.*releases remove local@1.0.0"):
        assert set(nasbench_mr.load().tasks) == set(MINI)


# --- Unknown tasks ------------------------------------------------------------------------------------


def test_an_unknown_task_names_what_brings_it() -> None:
    bench = nasbench_mr.load()
    for typed in ("seg", "SEG"):
        with pytest.raises(
            UnknownTaskError, match=rf"no task '{typed}' here: nasbench-mr fetch brings 'seg'"
        ):
            bench.task(typed)
    with pytest.raises(UnknownTaskError, match=r"no task 'sge': did you mean 'seg'.* fetch brings 'seg'"):
        bench.query(CODES[0], "sge")
    with pytest.raises(UnknownTaskError, match=r"no task 'mini-sge': did you mean 'mini-seg'.*\?$"):
        bench.query(CODES[0], "mini-sge")
    with pytest.raises(UnknownTaskError, match=r"fetch brings 'video'; nasbench-mr fetch brings 'video-p'"):
        bench.codes("hmdb51")


def test_a_task_of_another_release_names_that_release() -> None:
    install("local", {"mine": 5.0})
    alone = nasbench_mr.load("mini")
    with pytest.raises(
        UnknownTaskError, match=r"no task 'mine' here: 'mine' is in local@1.0.0: --release local"
    ):
        alone.task("mine")
    with pytest.raises(UnknownTaskError, match=r"no task 'mien': did you mean 'mine'.*--release local"):
        alone.task("mien")
    with pytest.raises(UnknownTaskError, match=r"'mini-seg' is in mini@1.1.0: --release mini"):
        nasbench_mr.load("local").task("mini-seg")


def test_fetch_brings_every_published_task() -> None:
    from nasbench_mr.data_builders.published.published_files import SETTINGS

    assert SETTINGS == tasks.PUBLISHED


# --- Homes --------------------------------------------------------------------------------------------

HOME = """
import os, subprocess, sys
import nasbench_mr.release
os.chdir(sys.argv[1])
child = "from nasbench_mr import release; print(release.home())"
print(nasbench_mr.release.home())
print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout.strip())
"""


def test_a_relative_home_is_where_it_was_when_the_process_started(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", HOME, tmp_path / "elsewhere"], cwd=tmp_path, capture_output=True, text=True,
        check=True, env={**os.environ, "NASBENCH_MR_HOME": "here"},
    )  # fmt: skip
    assert done.stdout.split() == [str(tmp_path / "here")] * 2


def test_a_file_in_the_current_folder_never_hides_a_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_release: Path
) -> None:
    install("local", {"mine": 5.0})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").write_text("notes")
    shutil.copytree(tiny_release, tmp_path / "local")
    assert nasbench_mr.load("mini").release.path == release.EMBEDDED
    assert nasbench_mr.load("local").tasks == ("mine",)
    assert nasbench_mr.load("local@1.0.0").tasks == ("mine",)
    # What means the folder: a path.
    for spec in ("./local", Path("local")):
        assert nasbench_mr.load(spec).tasks == ("seg", "video")
    with pytest.raises(ReleaseNotFoundError, match=r"no release 'local@2.0.0'"):
        nasbench_mr.load("local@2.0.0")


def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user without a home folder."""
    monkeypatch.delenv("NASBENCH_MR_HOME")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)

    def fail(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", fail)


def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a home in which nothing can be made; a file is there, as root may write everywhere else."""
    (tmp_path / "home").write_text("")


def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a home that may not even be looked into."""
    home, listed, stat = str(tmp_path / "home"), os.listdir, os.stat

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(path, int) and os.fspath(path).startswith(home):
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return function(path, *args, **kwargs)

        return call

    monkeypatch.setattr(os, "listdir", guarded(listed))
    monkeypatch.setattr(os, "stat", guarded(stat))
    monkeypatch.setattr(os, "mkdir", guarded(os.mkdir))
    monkeypatch.setattr(os, "open", guarded(os.open))


@pytest.mark.parametrize("kind", [nowhere, read_only, foreign])
def test_homes_that_can_not_be_used_cost_no_answer(
    kind: Callable[..., None],
    tmp_path: Path,
    tiny_release: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = answer(nasbench_mr.load(tiny_release), "seg")
    shutil.rmtree(tmp_path / "home")
    kind(tmp_path, monkeypatch)
    assert set(nasbench_mr.load().tasks) == set(MINI)
    assert nasbench_mr.load("mini").query(space.LOWER, "mini-seg").source == "table"
    bench = nasbench_mr.load(tiny_release)
    assert bench.query(CODES[0], "seg", seed=0).code
    assert answer(bench, "seg") == expected
    assert main(["best", "mini-seg", "-k", "1"]) == 0
    assert main(["releases"]) == 0
    assert "mini@1.1.0 *" in capsys.readouterr().out
    with pytest.raises(StorageError, match=r"can't write .*NASBENCH_MR_HOME"):
        install("mine", {"seg": 1.0})


# --- Listing and removing -----------------------------------------------------------------------------


def test_releases_lists_what_there_is(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    made = install("local", {"seg": 1.0, "mine": 5.0})
    install("nasbench-mr", {"seg": 70.0})
    broken = install("worn", {"old": 5.0})
    (broken.path / "release.json").write_text("{")
    capsys.readouterr()
    assert main(["releases", "--json"]) == 0
    rows = {row["release"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == sorted(rows, key=lambda row: row.partition("@"))
    packaged = {str(Release.open(place)) for place in release.PACKAGED.values() if place.is_dir()}
    assert set(rows) == {"local@1.0.0", "nasbench-mr@1.0.0", "worn@1.0.0", *packaged}
    assert rows["local@1.0.0"] == {
        "release": "local@1.0.0",
        "path": str(made.path),
        "rows": 6,
        "bytes": sum(
            p.stat().st_size for p in made.path.rglob("*") if p.is_file() and p.name != "release.json"
        ),
        "tasks": ["seg", "mine"],
        "others": [],
        "answers": ["mine"],
        "digest": made.digest,
    }
    assert "is not JSON" in rows["worn@1.0.0"]["error"]
    assert main(["releases"]) == 0
    shown = capsys.readouterr()
    assert (
        f"local@1.0.0 *\n  6 rows, 0.0 MB: seg, mine*\n  digest {made.digest}\n  in {made.path}\n"
        in shown.out
    )
    assert "worn@1.0.0\n  damaged: " in shown.out


def test_releases_remove(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    install("local", {"mine": 5.0})
    install("local", {"mine": 6.0}, "1.0.1")
    assert main(["releases", "remove", "local@1.0.1"]) == 0
    assert "removed local@1.0.1" in capsys.readouterr().out
    assert answer(nasbench_mr.load(), "mine") == 5.0
    library.remove("local@1.0.0")
    assert os.listdir(home / "releases") == []
    with pytest.raises(ReleaseNotFoundError, match=r"no release 'local@1.0.0'"):
        library.remove("local@1.0.0")


def test_what_a_killed_removal_leaves_goes_with_the_next_command(home: Path) -> None:
    install("local", {"mine": 5.0})
    program = (
        "import os; from nasbench_mr import library; rename = os.rename\n"
        "os.rename = lambda *paths: (rename(*paths), os._exit(9))\n"
        "library.remove('local@1.0.0')"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert release.installed() == []
    assert len([path for path in (home / "releases").iterdir() if path.name.startswith(".")]) == 1
    files._SWEPT.clear()  # as in another process
    install("other", {"mine": 5.0})
    with files.scratch_folder(home / "releases"):
        pass
    assert sorted(os.listdir(home / "releases")) == ["local", "other"]


def test_removing_refuses_what_it_must_not() -> None:
    install("local", {"mine": 5.0})
    with pytest.raises(ReleaseError, match=r"'local' names no version; expected NAME@VERSION: local@1.0.0"):
        library.remove("local")
    with pytest.raises(ReleaseError, match="part of the package itself"):
        library.remove("mini@1.1.0")
    for spec in ("../x@1.0.0", "local@../1.0.0", "local@"):
        with pytest.raises((ReleaseNotFoundError, ReleaseError)):
            library.remove(spec)
    assert release.installed() == [("local", "1.0.0")]
    assert main(["releases", "remove"]) == 2


def test_a_tarball_is_verified_and_its_card_shown(
    tiny_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = str(release.pack(Release.open(tiny_release), tmp_path / "x.tar.gz"))
    assert main(["verify", packed]) == 0
    digest = Release.open(tiny_release).digest
    assert f"the digest of its values is {digest}" in capsys.readouterr().out
    assert main(["card", packed]) == 0
    assert "# A small made-up release (tiny@1.0.0)" in capsys.readouterr().out
    assert main(["card", packed, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == digest


# --- What is added stays ------------------------------------------------------------------------------


def test_importing_one_code_into_mini_keeps_all_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of mini's 290 trials of mini-seg, 230 codes, none goes; nor its curves and surrogates."""
    before = nasbench_mr.load("mini")
    trials = len(before.to_pandas("mini-seg"))
    path = tmp_path / "one.csv"
    path.write_text(f"code,mIoU\n{space.to_string(CODES[0])},12.5\n")
    assert main(["import", str(path), "--task", "mini-seg", "--into", "mini"]) == 0
    after = nasbench_mr.load("mini")
    assert str(after) == "mini@1.1.1-local.1"
    assert len(after.to_pandas("mini-seg")) == trials + 1
    assert after.codes("mini-seg").tolist() == [*before.codes("mini-seg").tolist(), CODES[0].tolist()]
    assert set(after.release.files) == set(before.release.files)
    assert after.release.about["surrogates"] == before.release.about["surrogates"]
    assert len(after.curves("mini-seg")) == len(before.curves("mini-seg"))
    capsys.readouterr()
    assert main(["import", str(path), "--task", "mini-seg", "--into", "mini"]) == 2
    assert "already has 1 of the 1 new trials" in capsys.readouterr().err
    path.write_text(f"code,mIoU\n{space.to_string(CODES[0])},13.5\n")
    assert main(["import", str(path), "--task", "mini-seg", "--into", "mini", "--replace"]) == 0
    assert nasbench_mr.load().query(CODES[0], "mini-seg")["mIoU"] == 13.5


def test_importing_again_adds_to_a_task_of_ones_own(tmp_path: Path) -> None:
    from nasbench_mr.data_builders.published import import_table

    for k in range(2):
        path = tmp_path / f"{k}.csv"
        path.write_text(f"code,speed\n{space.to_string(CODES[k])},{k + 1}\n")
        made = import_table(path, "mine", objective="speed" if k == 0 else None)
    assert str(made) == "local@1.0.0-local.2"
    assert [answer(nasbench_mr.load(), "mine"), len(nasbench_mr.load().codes("mine"))] == [1.0, 2]
    first, second = made.tasks["mine"].provenance.split("; ")
    assert (first[:5], second[:5]) == ("0.csv", "1.csv")


def test_locks_and_files_do_not_need_a_home() -> None:
    with pytest.raises(StorageError, match="no home folder; set NASBENCH_MR_HOME"):
        files.write_bytes(files.NOWHERE / "x", b"")
    with pytest.raises(StorageError, match="no home folder"), files.locked(files.NOWHERE / "lock"):
        pass


def test_a_task_of_two_releases_is_described_by_the_one_that_answers() -> None:
    other = replace(task("seg"), title="mine")
    columns = {"codes": CODES, "mIoU": [1.0] * 3}
    release.create(lambda f: table.write(f / "tables/seg.parquet", other, columns), "aaa", "1.0.0", [other])
    install("nasbench-mr", {"seg": 70.0})
    assert nasbench_mr.load().task("seg").title == task("seg").title
    assert nasbench_mr.load("aaa").task("seg").title == "mine"
