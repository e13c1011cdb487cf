"""Releases: made whole or not at all, proven, packed to the byte, side by side, and never damaged."""

from __future__ import annotations

import errno
import gc
import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nasbench_mr
from nasbench_mr import NasbenchMRError, archives, cost, files, release, space, table, tasks, values
from nasbench_mr.errors import (
    IntegrityError,
    ReleaseError,
    ReleaseNotFoundError,
    StorageError,
    TableError,
    UnsafeFileError,
)
from nasbench_mr.release import Release

SEG = tasks.get("seg")


def fill_with(miou: float = 50.0, n: int = 3, **more: Any) -> Callable[[Path], object]:
    codes = space.sample(n, seed=0)
    columns = {"codes": codes, "mIoU": [miou] * n, "macs": cost.macs(codes), "params": cost.params(codes)}
    return lambda folder: table.write(folder / "tables/seg.parquet", SEG, columns | more)


def make(version: str = "1.0.0", miou: float = 50.0, name: str = "mine", **options: Any) -> Release:
    return release.create(fill_with(miou), name, version, [SEG], **options)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and its content."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def copy(tiny_release: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny release that a test may damage."""
    return Path(shutil.copytree(tiny_release, tmp_path / "copy"))


# --- Making -------------------------------------------------------------------------------------------


def test_create_installs(home: Path) -> None:
    made = make(about={"title": "Mine", "license": "MIT"})
    assert made.path == home / "releases" / "mine" / "1.0.0"
    assert str(made) == "mine@1.0.0"
    assert release.installed() == [("mine", "1.0.0")]
    assert sorted(tree(made.path)) == [
        "DATASET_CARD.md",
        "croissant.json",
        "release.json",
        "tables/seg.parquet",
    ]
    release.verify(made)
    assert nasbench_mr.load("mine").codes("seg").shape == (3, 27)


def test_the_manifest_says_everything() -> None:
    made = make(about={"title": "Mine"})
    data = json.loads((made.path / "release.json").read_text())
    assert (data["name"], data["version"], data["title"]) == ("mine", "1.0.0", "Mine")
    assert data["schema_version"] == table.SCHEMA_VERSION
    assert tasks.Task.from_dict(data["tasks"][0]) == SEG
    entry = data["files"]["tables/seg.parquet"]
    assert entry == {
        "sha256": files.sha256(made.path / "tables/seg.parquet"),
        "bytes": (made.path / "tables/seg.parquet").stat().st_size,
        "rows": 3,
    }
    assert set(data["files"]) == set(tree(made.path)) - {"release.json"}
    opened = Release.open(made.path)
    assert opened == made
    assert opened.tasks == {"seg": SEG}
    assert opened.about == {"title": "Mine"}


def test_the_card_and_croissant(copy: Path) -> None:
    card = (copy / "DATASET_CARD.md").read_text()
    assert card.startswith('---\npretty_name: "A small made-up release"\nlicense: "cc0-1.0"\n')
    assert "\n# A small made-up release (tiny@1.0.0)\n" in card
    assert "- license: CC0-1.0" in card
    metrics = "mIoU (percent), mAcc (percent), aAcc (percent)"
    assert f"| Cityscapes, 19 classes | 81 | {metrics} | mIoU, larger is better |" in card
    croissant = json.loads((copy / "croissant.json").read_text())
    assert (croissant["@type"], croissant["name"], croissant["version"]) == ("sc:Dataset", "tiny", "1.0.0")
    files_by_name = {f["name"]: f["sha256"] for f in croissant["distribution"]}
    assert files_by_name == {
        name: files.sha256(copy / name) for name in tree(copy) if name.endswith(".parquet")
    }
    (seg,) = (r for r in croissant["recordSet"] if r["name"] == "seg")
    assert [f["name"] for f in seg["field"]] == pq.read_schema(copy / "tables/seg.parquet").names
    kinds = {f["name"]: f["dataType"] for f in seg["field"]}
    assert (kinds["i1"], kinds["mIoU"], kinds["status"]) == ("sc:Integer", "sc:Float", "sc:Text")


def test_extra_columns_are_in_the_card_of_columns() -> None:
    columns = {"codes": space.sample(2), "mIoU": [1.0, 2.0], "stratum": ["coarse", "fine"]}
    made = release.create(
        lambda folder: table.write(folder / "tables/seg.parquet", SEG, columns, ["stratum"]),
        "mine", "1.0.0", [SEG],
    )  # fmt: skip
    croissant = json.loads((made.path / "croissant.json").read_text())
    assert croissant["recordSet"][0]["field"][-1]["name"] == "stratum"


def test_a_failure_while_making_leaves_nothing(home: Path) -> None:
    def fail(folder: Path) -> None:
        fill_with()(folder)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        release.create(fail, "mine", "1.0.0", [SEG])
    assert tree(home) == {}
    assert release.installed() == []


def test_the_same_again_is_fine_and_other_content_is_refused() -> None:
    first = make()
    before = tree(first.path)
    assert make() == first
    with pytest.raises(
        ReleaseError, match=r"mine@1.0.0 is already at .* with other content; nothing was changed"
    ):
        make(miou=51.0)
    with pytest.raises(ReleaseError, match="with other content"):
        make(about={"title": "Other"})
    assert tree(first.path) == before
    assert release.installed() == [("mine", "1.0.0")]


@pytest.mark.parametrize("name", ["", "Mine", "../x", "a/b", ".hidden", "a b", "x" * 65])
def test_bad_names(name: str, home: Path) -> None:
    with pytest.raises(ReleaseError, match=r"release name .*: expected lower-case letters"):
        make(name=name)
    assert not home.exists()


@pytest.mark.parametrize("version", ["", "1", "1.0", "v1.0.0", "1.0.0/..", "1.0.0-", "1.0.0 "])
def test_bad_versions(version: str) -> None:
    with pytest.raises(ReleaseError, match=r"release version .*: expected MAJOR.MINOR.PATCH"):
        make(version)


def test_a_task_without_a_table() -> None:
    with pytest.raises(ReleaseError, match=r"the task 'video' has no tables/video.parquet"):
        release.create(fill_with(), "mine", "1.0.0", [SEG, tasks.get("video")])


def test_seal_in_place(tmp_path: Path) -> None:
    fill_with()(tmp_path)
    sealed = release.seal(tmp_path, "mine", "2.0.0", [SEG], card="# My card\n")
    assert (tmp_path / "DATASET_CARD.md").read_text() == "# My card\n"
    release.verify(sealed)
    again = release.seal(tmp_path, "mine", "2.0.0", [SEG], card="# My card\n")
    assert again == sealed


# --- Versions -----------------------------------------------------------------------------------------

ORDERED = (
    "0.9.9 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-partial.6 1.0.0-partial.10 1.0.0 "
    "1.0.1-local.1 1.0.1-local.2 1.0.1-local.10 1.0.1 1.2.0 1.10.0 10.0.0"
)


def test_versions_are_ordered_as_in_semantic_versioning() -> None:
    keys = [release.version_key(v) for v in ORDERED.split(" ")]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("version", "following"),
    [
        ("1.0.0", "1.0.1-local.1"),
        ("1.0.1-local.1", "1.0.1-local.2"),
        ("1.0.1-local.9", "1.0.1-local.10"),
        ("1.0.0-partial.6", "1.0.0-partial.6.local.1"),
        ("1.0.0-partial.6.local.1", "1.0.0-partial.6.local.2"),
    ],
)
def test_next_version(version: str, following: str) -> None:
    assert release.next_version(version) == following
    assert release.version_key(version) < release.version_key(following)


def test_versions_side_by_side() -> None:
    for k, version in enumerate(("1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1")):
        make(version, miou=10.0 + k)
    assert release.installed() == [("mine", v) for v in ("1.0.0", "1.9.0", "1.10.0", "2.0.0-rc.1")]
    code = space.sample(1)[0]
    answers = {
        v: nasbench_mr.load(f"mine@{v}").query(code, "seg")["mIoU"] for v in ("1.0.0", "1.9.0", "1.10.0")
    }
    assert answers == {"1.0.0": 10.0, "1.9.0": 12.0, "1.10.0": 11.0}
    assert nasbench_mr.load("mine").release.version == "2.0.0-rc.1"


# --- Finding ------------------------------------------------------------------------------------------


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NASBENCH_MR_HOME", "~/mine")
    assert release.home() == tmp_path / "mine"
    monkeypatch.delenv("NASBENCH_MR_HOME")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert release.home() == tmp_path / "data" / "nasbench-mr"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert release.home() == tmp_path / ".local/share/nasbench-mr"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert release.home() == tmp_path / "Library/Application Support/nasbench-mr"


def test_the_embedded_release_is_as_if_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "EMBEDDED", tmp_path / "embedded")
    monkeypatch.setattr(release, "PACKAGED", {"mini": tmp_path / "embedded"})
    for spec in (None, "mini"):
        with pytest.raises(ReleaseNotFoundError, match=r"this build .* embeds none.*nasbench-mr fetch"):
            nasbench_mr.load(spec)
    make(name="mini", target=tmp_path / "embedded")
    assert release.find("mini") == release.EMBEDDED
    make(name="nasbench-mr")
    make("1.1.0", name="nasbench-mr")
    assert release.find("nasbench-mr") == release.home() / "releases/nasbench-mr/1.1.0"
    assert release.find("mini@1.0.0") == release.EMBEDDED
    make("1.0.1-local.1", name="mini")
    assert release.find("mini") == release.home() / "releases/mini/1.0.1-local.1"
    assert release.find("mini@1.0.0") == release.EMBEDDED


def test_find_by_folder(tiny_release: Path) -> None:
    assert release.find(tiny_release) == tiny_release
    assert release.find(str(tiny_release)) == tiny_release


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mime", "no release 'mime': did you mean 'mine'"),
        ("mine@2.0.0", "no release 'mine@2.0.0': did you mean 'mine@1.0.0'"),
        ("nasbench-mr", "no release 'nasbench-mr': .*; nasbench-mr fetch gets the published tables"),
        ("mini@9.9.9", "no release 'mini@9.9.9'"),
        ("zzz", "no release 'zzz': expected one of mini, .*mine"),
        ("../elsewhere", r"no release at '../elsewhere': expected a folder with release.json"),
        ("", "no release ''"),
    ],
)
def test_find_says_what_there_is(spec: str, message: str) -> None:
    make()
    with pytest.raises(ReleaseNotFoundError, match=message):
        release.find(spec)


def test_strangers_in_the_home_are_ignored(home: Path) -> None:
    make()
    root = home / "releases"
    for stranger in ("mine/notes", "mine/.1.0.1.part", ".install-x/release", "Other/1.0.0", "empty/1.0.0"):
        (root / stranger).mkdir(parents=True)
        if "empty" not in stranger:
            shutil.copyfile(root / "mine/1.0.0/release.json", root / stranger / "release.json")
    (root / "file").write_text("")
    assert release.installed() == [("mine", "1.0.0")]
    assert release.find("mine").name == "1.0.0"


# --- Opening ------------------------------------------------------------------------------------------


def edited(copy: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    data = json.loads((copy / "release.json").read_text())
    edit(data)
    (copy / "release.json").write_text(json.dumps(data))
    return copy


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no version": (lambda d: d.pop("version"), "is malformed: KeyError"),
    "no files": (lambda d: d.pop("files"), "is malformed"),
    "no digest": (lambda d: d.pop("digest"), "is malformed: KeyError"),
    "a digest that is none": (lambda d: d.update(digest="x"), "digest is 'x'; expected 64 hexadecimal"),
    "a title that is not text": (lambda d: d.update(title=[1]), "title is .1.; expected a text"),
    "surrogates that are none": (lambda d: d.update(surrogates={"seg": 3}), "surrogates is .*an object"),
    "rows that are text": (
        lambda d: d["files"]["curves/seg.parquet"].update(rows="many"), "malformed entry for 'curves/seg"),
    "bytes without end": (
        lambda d: d["files"]["curves/seg.parquet"].update(bytes=10**400), "malformed entry for 'curves/seg"),
    "no tasks": (lambda d: d.update(tasks=[]), "lists no tasks"),
    "tasks of another kind": (lambda d: d.update(tasks="seg"), "malformed"),
    "files of another kind": (lambda d: d.update(files=["tables/seg.parquet"]), "malformed"),
    "a bad name": (lambda d: d.update(name="../evil"), "release name '../evil'"),
    "a bad version": (lambda d: d.update(version="../../evil"), "release version"),
    "a number as name": (lambda d: d.update(name=3), "malformed"),
    "a newer schema": (lambda d: d.update(schema_version=99), "needs a newer nasbench-mr: pip install -U"),
    "a schema of another kind": (lambda d: d.update(schema_version="new"), "malformed"),
    "an absolute path": (lambda d: d["files"].update({"/etc/passwd": entry()}), "'/etc/passwd', which is"),
    "a path that escapes": (lambda d: d["files"].update({"a/../../b": entry()}), "not inside the release"),
    "a bad hash": (lambda d: d["files"].update({"x": entry(sha256="xyz")}), "malformed entry for 'x'"),
    "a bad size": (lambda d: d["files"].update({"x": entry(bytes=-1)}), "malformed entry for 'x'"),
    "no table": (lambda d: d["files"].pop("tables/seg.parquet"), "the task 'seg', but no table"),
    "no rows": (lambda d: d["files"]["tables/seg.parquet"].pop("rows"), "the task 'seg', but no table"),
    "a bad task": (lambda d: d["tasks"][0].update(objective="x"), "objective 'x' is not among its metrics"),
}  # fmt: skip


def entry(**change: Any) -> dict[str, Any]:
    return {"sha256": "0" * 64, "bytes": 1, **change}


@pytest.mark.parametrize("kind", EDITS)
def test_malformed_manifests(kind: str, copy: Path) -> None:
    edit, message = EDITS[kind]
    with pytest.raises(ReleaseError, match=message):
        Release.open(edited(copy, edit))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b"[" * 100_000, b'{"name": "x"}', rb'["\ud800"]']
)
def test_manifests_that_are_none(text: bytes, copy: Path) -> None:
    (copy / "release.json").write_bytes(text)
    with pytest.raises(ReleaseError, match=r"release.json"):
        Release.open(copy)


def test_folders_that_are_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ReleaseNotFoundError, match=r"is not a release: it has no release.json"):
            Release.open(folder)


def test_a_table_that_is_gone_or_altered_is_noticed_when_asked(copy: Path) -> None:
    path = copy / "tables/seg.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises((IntegrityError, TableError)):
        Release.open(copy).table("seg")
    path.unlink()
    with pytest.raises(ReleaseError, match=r"seg.parquet is missing; install the release again"):
        Release.open(copy).table("seg")
    # The altered table is not in the cache.
    path.write_bytes(data)
    assert len(Release.open(copy).table("seg")) == 81


# --- Verifying ----------------------------------------------------------------------------------------


def rewritten(copy: Path, edit: Callable[[Any], Any]) -> None:
    """Change a table and its hash in the manifest, as a careful forger would."""
    path = copy / "tables/seg.parquet"
    arrow = table.read_arrow(path)
    frame = edit(arrow.to_pandas())
    pq.write_table(pa.Table.from_pandas(frame, arrow.schema, preserve_index=False), path)
    rehashed = {"sha256": files.sha256(path), "bytes": path.stat().st_size}
    edited(copy, lambda d: d["files"]["tables/seg.parquet"].update(rehashed))


ALTERATIONS: dict[str, tuple[Callable[[Path], object], type[NasbenchMRError], str]] = {
    "one byte": (lambda p: flip(p / "tables/seg.parquet"), IntegrityError, "tables/seg.parquet has sha256"),
    "the card": (lambda p: append(p / "DATASET_CARD.md"), IntegrityError, "DATASET_CARD.md has sha256"),
    "croissant": (lambda p: append(p / "croissant.json"), IntegrityError, "croissant.json has sha256"),
    "the curves": (lambda p: flip(p / "curves/seg.parquet"), IntegrityError, "curves/seg.parquet has sha256"),
    "a missing file": (lambda p: (p / "curves/seg.parquet").unlink(), IntegrityError, "is missing"),
    "an unlisted file": (lambda p: append(p / "tables/x"), IntegrityError, "tables/x is not listed"),
    "the listed hash": (
        lambda p: edited(p, lambda d: d["files"]["tables/seg.parquet"].update(sha256="0" * 64)),
        IntegrityError, "tables/seg.parquet has sha256 .*; expected 0000"),
    "the number of rows": (
        lambda p: edited(p, lambda d: d["files"]["tables/seg.parquet"].update(rows=80)),
        IntegrityError, "has 81 rows; release.json says 80"),
    "the digest": (
        lambda p: edited(p, lambda d: d.update(digest="0" * 64)),
        IntegrityError, "its values have the digest [0-9a-f]{64}; release.json says 0000"),
    "a direction": (
        lambda p: edited(p, lambda d: d["tasks"][0]["metrics"][1].update(direction="min")),
        IntegrityError, "its values have the digest"),
    "macs": (
        lambda p: rewritten(p, lambda f: f.assign(macs=f["macs"] + (f.index == 3))),
        TableError, r"row 3: macs is \d+; its code has \d+ \(1 such rows\)"),
    "params": (
        lambda p: rewritten(p, lambda f: f.assign(params=f["params"] - 1)),
        TableError, r"row 0: params is .* \(81 such rows\)"),
    "a code": (
        lambda p: rewritten(p, lambda f: f.assign(i1=np.where(f.index == 5, 136, f["i1"]).astype("int16"))),
        TableError, r"row 5: code\[0\] \(i1\) is 136"),
    "a metric": (
        lambda p: rewritten(p, lambda f: f.assign(mIoU=f["mIoU"] + 50)), TableError, "mIoU is"),
}  # fmt: skip


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def append(path: Path) -> None:
    with open(path, "a") as file:
        file.write(" ")


@pytest.mark.parametrize("kind", ALTERATIONS)
def test_verify_notices(kind: str, copy: Path) -> None:
    alter, error, message = ALTERATIONS[kind]
    release.verify(Release.open(copy))
    alter(copy)
    with pytest.raises(error, match=message):
        release.verify(Release.open(copy))


def test_unknown_costs_are_no_error() -> None:
    made = release.create(fill_with(macs=[None] * 3), "mine", "1.0.0", [SEG])
    release.verify(made)


def test_costs_of_another_rule_are_not_derived() -> None:
    other = replace(SEG, cost="table")
    fill = fill_with(macs=[1, 2, 3])
    with pytest.raises(TableError, match="row 0: macs is 1"):
        release.verify(release.create(fill, "mine", "1.0.0", [SEG]))
    release.verify(release.create(fill, "mine", "1.0.1", [other]))


# --- Extending ----------------------------------------------------------------------------------------

VIDEO_CODES = space.sample(2, seed=9)
VIDEO = tasks.get("video")


def video() -> release.Addition:
    return release.Addition(VIDEO, table.to_arrow(VIDEO, {"codes": VIDEO_CODES, "top1": [1.0, 2.0]}))


def seg(codes: Any, miou: float, seed: int = 0, **more: Any) -> release.Addition:
    """Trials of these codes, all with one mIoU and one seed; `more` as of `table.to_arrow`."""
    columns = {"codes": codes, "seed": [seed] * len(codes), "mIoU": [miou] * len(codes)}
    columns |= {"macs": cost.macs(codes), "params": cost.params(codes)}
    return release.Addition(SEG, table.to_arrow(SEG, columns | more, [n for n in more if n == "note"]))


def test_extend_adds_a_task() -> None:
    base = make(about={"title": "Mine"})
    before = tree(base.path)
    more = release.extend(base, [video()])
    assert str(more) == "mine@1.0.1-local.1"
    assert list(more.tasks) == ["seg", "video"]
    assert more.about == {"title": "Mine"}
    assert more.files["tables/seg.parquet"] == base.files["tables/seg.parquet"]
    release.verify(more)
    assert tree(base.path) == before
    assert str(release.extend(base, [video()])) == "mine@1.0.1-local.2"


def test_extend_adds_trials_and_leaves_nothing_out(copy: Path) -> None:
    """81 trials, their curves and both surrogates stay; 5 trials go to the end of the table."""
    (copy / "surrogates").mkdir()
    for name in ("seg", "video"):
        (copy / f"surrogates/{name}.npz").write_bytes(b"a surrogate")
    scores = {"seg": {"tau": 0.7}, "video": {"tau": 0.6}}
    base = release.seal(
        copy, "tiny", "1.0.0", Release.open(copy).tasks.values(), about={"surrogates": scores}
    )
    new = space.sample(5, seed=99)
    more = release.extend(base, [seg(new, 60.0, note=["mine"] * 5)])
    release.verify(more)
    assert more.files["tables/seg.parquet"]["rows"] == 81 + 5
    old = table.read_arrow(copy / "tables/seg.parquet")
    joined = table.read_arrow(more.file("tables/seg.parquet"))
    assert joined.slice(0, 81).select(old.column_names).equals(old)
    assert joined["note"].to_pylist() == [None] * 81 + ["mine"] * 5
    bench = nasbench_mr.load("tiny")
    assert bench.query(new[4], "seg")["mIoU"] == 60.0
    assert len(bench.curves("seg")) == 80 * 4
    assert {n for n in base.files if n not in more.files} == set()
    assert more.about["surrogates"] == scores


def test_extend_refuses_a_trial_that_is_there_or_takes_its_place(copy: Path) -> None:
    """Row 2 of the table is code 2 with seed 0; a fourth seed of it repeats nothing."""
    base = Release.open(copy)
    code = nasbench_mr.load(base.path).codes("seg")[[2]]
    message = (
        r"tiny@1.0.0: tables/seg.parquet already has 1 of the 1 new trials \(the same code and seed; first "
        r"row 0\): .*--replace"
    )
    with pytest.raises(TableError, match=message):
        release.extend(base, [seg(code, 60.0)])
    assert release.installed() == []
    fourth = release.extend(base, [seg(code, 60.0, seed=3)])
    assert fourth.files["tables/seg.parquet"]["rows"] == 82
    placed = release.extend(base, [seg(code, 60.0)], replace=True)
    assert placed.files["tables/seg.parquet"]["rows"] == 81
    bench = nasbench_mr.load(placed.path)
    assert bench.query(code[0], "seg", seed=0)["mIoU"] == 60.0
    assert bench.codes("seg").tolist() == nasbench_mr.load(base.path).codes("seg").tolist()
    # The curve of the trial that was replaced would contradict it.
    assert len(bench.curves("seg")) == 79 * 4


def test_extend_adds_curves() -> None:
    """A release without curves, trials with curves of other columns: each has its own."""
    codes = space.sample(4, seed=5)
    made = make()

    def with_curve(code: Any, column: str) -> release.Addition:
        path = made.path.parent / "curve"
        steps = {"codes": np.repeat(code, 2, axis=0), "seed": [0, 0], "epoch": [1, 2]}
        curves = table.write_curves(path, SEG, steps | {"mIoU": [1.0, 2.0], column: [5.0, 4.0]})
        path.unlink()
        return replace(seg(code, 2.0), curves=curves)

    first = release.extend(made, [with_curve(codes[:1], "loss")])
    second = release.extend(first, [with_curve(codes[1:2], "rate"), video()])
    frame = nasbench_mr.load(second.path).curves("seg")
    assert frame["epoch"].tolist() == [1, 2, 1, 2]
    assert frame["loss"].tolist()[:2] == frame["rate"].tolist()[2:] == [5.0, 4.0]
    assert frame["loss"].isna().tolist() == [False, False, True, True]
    release.verify(second)


def test_extend_refuses_other_metrics_and_notes_where_trials_come_from() -> None:
    mine = replace(SEG, provenance="measured twice")
    base = release.create(fill_with(), "mine", "1.0.0", [mine])
    turned = replace(SEG, metrics=tuple(replace(m, direction="min") for m in SEG.metrics))
    with pytest.raises(ReleaseError, match=r"'seg' of mine@1.0.0 has the metrics .*mIoU \(max\).*\(min\)"):
        release.extend(base, [replace(seg(space.sample(1, seed=7), 5.0), task=turned)])
    other = replace(SEG, provenance="from a friend", cost="table", title="Other words")
    added = replace(seg(space.sample(1, seed=7), 5.0, macs=[3]), task=other)
    more = release.extend(base, [added])
    assert more.tasks["seg"] == replace(mine, provenance="measured twice; from a friend", cost="table")
    release.verify(more)


def test_extend_by_other_files() -> None:
    base = make(about={"title": "Mine"})

    def fill(folder: Path) -> None:
        files.write_bytes(folder / "surrogates/seg.npz", b"a surrogate")

    about = {"surrogates": {"seg": {}}, "title": "With a surrogate"}
    more = release.extend(base, fill=fill, about=about)
    assert more.tasks == base.tasks
    assert set(more.files) == {*base.files, "surrogates/seg.npz"}
    assert more.about == {"title": "With a surrogate", "surrogates": {"seg": {}}}


def test_extend_copies_nothing_altered(copy: Path) -> None:
    base = Release.open(copy)
    flip(copy / "tables/seg.parquet")
    for additions in ([], [seg(space.sample(1, seed=7), 5.0)]):
        with pytest.raises(IntegrityError, match=r"tiny@1.0.0: .*tables/seg.parquet has sha256"):
            release.extend(base, additions)
    (copy / "tables/seg.parquet").unlink()
    with pytest.raises(IntegrityError, match=r"tables/seg.parquet is missing"):
        release.extend(base)
    assert release.installed() == []


def test_extend_takes_the_next_version_when_another_process_was_faster() -> None:
    base = make()

    def fill(folder: Path) -> None:
        # While ours is being made, another one appears under the version that was free.
        if not (base.path.parent / "1.0.1-local.1").exists():
            make("1.0.1-local.1", miou=70.0)

    assert str(release.extend(base, [video()], fill=fill)) == "mine@1.0.1-local.2"


# --- The digest of values -----------------------------------------------------------------------------


def test_the_digest_is_of_the_values_not_of_the_bytes(copy: Path) -> None:
    """Other row groups, compression, encodings, types of text and an order of columns: the same digest."""
    before = Release.open(copy)
    path = copy / "tables/seg.parquet"
    arrow = table.read_arrow(path)
    arrow = arrow.select(arrow.column_names[::-1])
    pq.write_table(arrow, path, row_group_size=7, compression="gzip", use_dictionary=False)
    after = release.seal(copy, "tiny", "1.0.0", before.tasks.values(), about=before.about)
    assert after.files["tables/seg.parquet"]["sha256"] != before.files["tables/seg.parquet"]["sha256"]
    assert after.digest == before.digest
    at = arrow.column_names.index("status")
    for kind in (pa.large_string(), pa.dictionary(pa.int8(), pa.string())):
        other = arrow.set_column(at, "status", arrow["status"].cast(kind))
        assert values.of_table(other) == values.of_table(arrow)


def test_the_digest_follows_every_value(copy: Path) -> None:
    whole = table.read_arrow(copy / "tables/seg.parquet")
    digests = {values.of_table(whole).sha256, values.of_table(whole.take([1, 0, *range(2, 81)])).sha256}
    for k, column in enumerate(whole.columns):
        changed = column.to_pylist()
        # The failed trial's unknown values: 0 and "" are something else than unknown.
        changed[60] = ("" if pa.types.is_string(column.type) else 0) if changed[60] is None else None
        digests.add(
            values.of_table(whole.set_column(k, whole.field(k), pa.array(changed, column.type))).sha256
        )
    assert len(digests) == 2 + whole.num_columns


def test_the_digest_by_hand() -> None:
    """Two columns of two rows, the bytes that the docstring of `of_table` promises."""
    arrow = pa.table({"b": pa.array([1, None], pa.int16()), "a": pa.array(["é", ""])})
    texts = b'["a", "text"]' + b"\1\1" + (2).to_bytes(8, "little") + bytes(8) + "é".encode()
    numbers = b'["b", "int64"]' + b"\1\0" + (1).to_bytes(8, "little") + bytes(8)
    expected = hashlib.sha256(texts + numbers).hexdigest()
    assert values.of_table(arrow) == values.TableDigest(2, expected)


def test_the_digest_of_mini() -> None:
    """What the package's release is cited by: it changes only where the release does."""
    mini = Release.open(release.EMBEDDED)
    release.verify(mini)
    assert mini.digest == "e45a5a094e8fc515c5a62c612b6f6b3ca2976728f15509fc4400c1073706d7fc"


# --- Packing and installing ---------------------------------------------------------------------------


def test_pack_is_reproducible(tiny_release: Path, tmp_path: Path) -> None:
    """Other times, another folder, another order of files on disk: the same bytes."""
    first = release.pack(Release.open(tiny_release), tmp_path / "a")
    twin = tmp_path / "twin"
    for name in sorted(tree(tiny_release), reverse=True):
        (twin / name).parent.mkdir(parents=True, exist_ok=True)
        (twin / name).write_bytes((tiny_release / name).read_bytes())
        os.utime(twin / name, (10**9, 10**9))
        (twin / name).chmod(0o600)
    second = release.pack(Release.open(twin), tmp_path / "b.tar.gz")
    assert first == tmp_path / "a" / "tiny-1.0.0.tar.gz"
    assert second == tmp_path / "b.tar.gz"
    assert first.read_bytes() == second.read_bytes()
    digest, name = Path(f"{first}.sha256").read_text().split()
    assert (digest, name) == (files.sha256(first), "tiny-1.0.0.tar.gz")
    with tarfile.open(first) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == [f"tiny-1.0.0/{name}" for name in sorted(tree(tiny_release))]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


def test_pack_verifies_first(copy: Path, tmp_path: Path) -> None:
    flip(copy / "tables/seg.parquet")
    with pytest.raises(IntegrityError):
        release.pack(Release.open(copy), tmp_path / "x.tar.gz")
    assert not (tmp_path / "x.tar.gz").exists()


@pytest.fixture
def tarball(tiny_release: Path, tmp_path: Path) -> Path:
    return release.pack(Release.open(tiny_release), tmp_path / "tiny-1.0.0.tar.gz")


def test_install_from_folder_and_tarball(tiny_release: Path, tarball: Path, home: Path) -> None:
    from_tarball = release.install(tarball, files.sha256(tarball).upper())
    assert tree(from_tarball.path) == tree(tiny_release)
    assert from_tarball.path == home / "releases/tiny/1.0.0"
    assert release.install(tiny_release) == from_tarball
    shutil.rmtree(from_tarball.path)
    assert tree(release.install(tiny_release).path) == tree(tiny_release)
    assert [p.name for p in (home / "releases").iterdir()] == ["tiny"]


def test_install_from_a_tarball_without_a_folder(tiny_release: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tiny_release, arcname=".")
    assert tree(release.install(tmp_path / "x.tar").path) == tree(tiny_release)


def test_installing_a_folder_leaves_out_what_is_not_listed(copy: Path) -> None:
    (copy / ".DS_Store").write_bytes(b"")
    installed = release.install(copy)
    assert set(tree(installed.path)) == {*installed.files, "release.json"}


def test_load_in_place(tiny_release: Path, tarball: Path, home: Path) -> None:
    bench = nasbench_mr.load(tarball)
    expected = nasbench_mr.load(tiny_release)
    code = expected.codes("seg")[0]
    assert bench.query(code, "seg") == expected.query(code, "seg")
    assert bench.curves("seg").equals(expected.curves("seg"))
    assert release.installed() == []


def test_an_unpacked_folder_lives_as_long_as_what_uses_it(tarball: Path) -> None:
    bench = nasbench_mr.load(tarball)
    opened = bench.release
    del bench
    gc.collect()
    assert opened.path.is_dir()
    release.verify(opened)
    unpacked = opened.path
    sent = pickle.loads(pickle.dumps(nasbench_mr.load(opened.scratch.source)))  # type: ignore[union-attr]
    assert sent.release == replace(opened, path=sent.release.path)
    assert sent.release.path != unpacked
    del opened
    gc.collect()
    assert not unpacked.parent.exists()


FORK = """
import os, sys, nasbench_mr
from pathlib import Path
bench = nasbench_mr.load(sys.argv[1])
folder = bench.release.path
here, there = os.pipe()
child = os.fork()
if child == 0 and sys.argv[2] == "parent first":
    os.read(here, 1)                      # by now the parent has let go of it
if child == 0:
    assert len(bench.curves("seg"))
    sys.exit()
if sys.argv[2] == "parent first":
    del bench
    assert folder.is_dir()
    os.write(there, b"x")
assert os.waitpid(child, 0)[1] == 0
if sys.argv[2] == "child first":
    assert len(bench.curves("seg"))
    del bench
print(folder.parent.exists())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.parametrize("order", ["child first", "parent first"])
def test_an_unpacked_folder_outlives_a_fork(order: str, tarball: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, tarball, order], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def member(name: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


HOSTILE: dict[str, tarfile.TarInfo] = {
    "absolute path": member("/tmp/nasbench-mr-evil"),
    "parent": member("tiny-1.0.0/../../evil"),
    "symbolic link": member("tiny-1.0.0/tables", type=tarfile.SYMTYPE, linkname="/tmp"),
    "hard link": member("tiny-1.0.0/x", type=tarfile.LNKTYPE, linkname="tiny-1.0.0/release.json"),
    "device": member("tiny-1.0.0/x", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "pipe": member("tiny-1.0.0/x", type=tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("use", [release.install, nasbench_mr.load])
def test_hostile_tarballs(
    kind: str, use: Callable[[Path], object], tiny_release: Path, tmp_path: Path, home: Path
) -> None:
    installed = make()
    before = tree(home / "releases")
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(HOSTILE[kind])
        for name, data in tree(tiny_release).items():
            tar.addfile(member(f"tiny-1.0.0/{name}", size=len(data)), io.BytesIO(data))
    with pytest.raises(UnsafeFileError, match=r"evil.tar.gz: "):
        use(path)
    assert tree(home / "releases") == before
    assert release.installed() == [("mine", "1.0.0")]
    assert [p.name for p in (home / "releases").iterdir()] == ["mine"]
    assert not Path("/tmp/nasbench-mr-evil").exists()
    release.verify(installed)


def test_a_bomb(tarball: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(release, "MAX_FILES", 3)
        with pytest.raises(UnsafeFileError, match="has more than 3 files; refused"):
            release.install(tarball)
    monkeypatch.setattr(archives.extract_tar, "__defaults__", (1000,))
    with pytest.raises(UnsafeFileError, match="unpacks to more than 1,000 bytes; refused"):
        release.install(tarball)
    assert tree(home) == {}


@pytest.mark.parametrize("name", ["release.json", "DATASET_CARD.md", "LICENSE"])
def test_a_bomb_that_is_read_whole(name: str, tmp_path: Path, home: Path) -> None:
    """16 MiB and one byte, 16 kB packed, of a file that would be read into memory."""
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo(f"tiny-1.0.0/{name}")
        info.size = release.MAX_MANIFEST + 1
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(UnsafeFileError, match=rf"{name}' has 16,777,217 bytes; expected at most 16,777,216"):
        release.install(tmp_path / "x.tar.gz")
    assert tree(home) == {}


def test_a_manifest_in_a_folder_has_a_limit_too(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "MAX_MANIFEST", 1000)
    with pytest.raises(ReleaseError, match=r"release.json has [\d,]+ bytes; expected at most 1,000"):
        Release.open(copy)


def test_a_truncated_tarball(tarball: Path, home: Path) -> None:
    data = tarball.read_bytes()
    for end in (0, 10, 100, len(data) // 2, len(data) - 1):
        tarball.write_bytes(data[:end])
        with pytest.raises(UnsafeFileError, match="not a complete tarball"):
            release.install(tarball)
        assert tree(home) == {}


def test_a_wrong_hash(tarball: Path, home: Path) -> None:
    with pytest.raises(IntegrityError, match=f"has sha256 {files.sha256(tarball)}; expected {'0' * 64}"):
        release.install(tarball, "0" * 64)
    assert tree(home) == {}


def test_a_tarball_with_an_altered_file(copy: Path, tmp_path: Path, home: Path) -> None:
    flip(copy / "tables/seg.parquet")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.add(copy, arcname="tiny-1.0.0")
    with pytest.raises(IntegrityError, match=r"tables/seg.parquet has sha256"):
        release.install(tmp_path / "x.tar.gz")
    with pytest.raises(IntegrityError, match=r"tables/seg.parquet has sha256"):
        release.install(copy)
    assert tree(home) == {}


def test_a_tarball_of_something_else(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("notes/readme.txt"))
    with pytest.raises(ReleaseError, match=r"x.tar.gz is not a release: it has no release.json"):
        release.install(tmp_path / "x.tar.gz")


def test_a_manifest_without_files(tmp_path: Path) -> None:
    manifest = {"name": "x", "version": "1.0.0", "schema_version": 1, "digest": "0" * 64}
    manifest |= {"tasks": [], "files": {}}
    (tmp_path / "release.json").write_text(json.dumps(manifest))
    with pytest.raises(ReleaseError, match="lists no tasks"):
        release.install(tmp_path)


def test_nothing_to_install(tmp_path: Path) -> None:
    with pytest.raises(ReleaseNotFoundError, match=r"no release at .*missing.tar.gz"):
        release.install(tmp_path / "missing.tar.gz")
    with pytest.raises(ReleaseNotFoundError, match="is not a release"):
        release.install(tmp_path)


def test_another_release_of_that_version_stays(tarball: Path) -> None:
    release.install(tarball)
    make(name="tiny", version="1.0.1")
    other = make(name="tiny", version="1.0.0", target=tarball.parent / "other")
    before = tree(release.find("tiny@1.0.0"))
    with pytest.raises(
        ReleaseError, match=r"tiny@1.0.0 is already at .* with other content; nothing was changed"
    ):
        release.install(other.path)
    assert tree(release.find("tiny@1.0.0")) == before


@pytest.mark.parametrize("step", ["os.rename", "shutil.copyfile", "pathlib.Path.mkdir"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_disk_or_read_only_home(
    step: str, number: int, tiny_release: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    before = tree(home)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(StorageError, match="can't write"):
            release.install(tiny_release)
    assert tree(home) == before
    assert release.installed() == [("mine", "1.0.0")]
    assert not list((home / "releases").glob(".*"))


def test_concurrent_installs(tarball: Path, tiny_release: Path, home: Path) -> None:
    """Several processes install and load one release at once; all succeed, and it is whole."""
    script = (
        "import sys, nasbench_mr\n"
        "from nasbench_mr import release\n"
        "made = release.install(sys.argv[1])\n"
        "print(made, len(nasbench_mr.load('tiny').codes('seg')))\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, source],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for source in (tarball, tiny_release) * 2
    ]
    for process in running:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, "tiny@1.0.0 60\n"), err
    assert tree(home / "releases/tiny/1.0.0") == tree(tiny_release)
    assert [p.name for p in (home / "releases").iterdir()] == ["tiny"]
    assert [p.name for p in (home / "releases/tiny").iterdir()] == ["1.0.0"]
