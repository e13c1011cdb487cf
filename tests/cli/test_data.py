"""`nasbench-mr data`: make, fetch, pack, info."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nasbench_mr import cli
from nasbench_mr.data_builders import datasets, generate

#: A made data set of a few samples.
SMALL = ["--train", "3", "--val", "2", "--set", "rings=16", "--set", "view=90"]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("NASBENCH_MR_DATA", str(folder))
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["data", *arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("nasbench-mr: ")
    assert error.count("\n") == 1
    return error


def test_make_pack_and_read(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    made = json.loads(run(capsys, "make", "kitti", *SMALL, "--seed", "5", "--json"))
    assert made["path"] == str(data / "kitti")
    assert [(s["split"], s["samples"], s["read from"]) for s in made["splits"]] == [
        ("train", 3, "files"),
        ("val", 2, "files"),
    ]
    raw = [s["points"].tobytes() for s in datasets.load("kitti", datasets.locate("kitti"), "train")]
    packed = json.loads(run(capsys, "pack", "kitti", "--json"))
    assert [(s["samples"], s["read from"]) for s in packed] == [
        (3, "train.safetensors"),
        (2, "val.safetensors"),
    ]
    # Beside the files, the packs are read in their place.
    found = datasets.load("kitti", datasets.locate("kitti"), "train")
    assert isinstance(found, datasets.Pack)
    assert [s["points"].tobytes() for s in found] == raw
    info = json.loads(run(capsys, "info", "kitti", "--verify", "--speed", "0.01", "--json"))
    assert info["reader options"] == {"in_image": True}
    assert info["generator options"]["rings"] == 64
    assert all(s["verified"] and s["samples/s"] > 0 for s in info["splits"])


def test_folders_and_options_can_be_given(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder, packs = tmp_path / "in", tmp_path / "packs"
    run(
        capsys,
        "make",
        "imagenet",
        str(folder),
        "--train",
        "2",
        "--val",
        "1",
        "--set",
        "classes=3",
        "--set",
        "size=20",
    )
    options = ["--set", "classes=2", "--set", "per_class=1", "--set", "size=[16,16]"]
    assert "train-" in run(capsys, "pack", "imagenet", str(folder), "--out", str(packs), *options)
    found = datasets.load("imagenet", packs, "val", classes=2, per_class=1, size=(16, 16))
    assert found[0]["image"].shape == (16, 16, 3)
    text = run(capsys, "info", "imagenet", str(packs))
    assert "{train,val}/<class>/*.JPEG" in text
    assert "classes=2 per_class=1 size=[16, 16]" in text
    # The reader's defaults want 50 classes, and info says what is missing.
    assert "missing 47 class folders in train (3 found)" in run(capsys, "info", "imagenet", str(folder))


def test_one_folder_has_the_packs_of_several_tasks(
    capsys: pytest.CaptureFixture[str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nasbench_mr.data_builders.training import splits

    run(capsys, "make", "hmdb51", "--train", "1", "--val", "1", "--set", "classes=2")
    rows = json.loads(run(capsys, "pack", "hmdb51", "--for", "video", "mini-video", "--json"))
    assert [(r["split"], r["options"]) for r in rows] == [
        (split, f"frames={frames}{size}")
        for split in ("train", "val")
        for frames, size in ((32, " size=128"), (16, ""))
    ]
    for task, frames in (("video", 32), ("mini-video", 16)):
        found = splits.split(task, "train", data)
        assert isinstance(found, datasets.Pack)
        assert len(found[0]["clip"]) == frames
    assert "'seg' reads cityscapes, not hmdb51" in refused(capsys, "pack", "hmdb51", "--for", "seg")


def test_make_describes_what_it_made(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    text = run(capsys, "make", "imagenet", "--train", "2", "--val", "1", "--set", "classes=3")
    assert "incomplete" not in text
    assert [line.split()[:3] for line in text.splitlines()[-2:]] == [["train", "6", "3"], ["val", "3", "3"]]


def test_mini_gives_the_sizes_of_mini_tasks(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    run(capsys, "make", "hmdb51", "--mini", "--train", "1", "--val", "1", "--set", "classes=2")
    clip = datasets.load("hmdb51", data / "hmdb51", "train")[0]["clip"]
    assert clip.shape[1:3] == generate.mini("hmdb51")["size"]


def test_info_lists_all(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    rows = json.loads(run(capsys, "info", "--json"))
    assert [r["data set"] for r in rows] == list(datasets.names())
    assert {r["data set"]: r["get it with"] for r in rows}["camvid"] == "data fetch"
    assert all(r["here"] is None for r in rows)
    (data / "camvid").mkdir(parents=True)
    rows = {r["data set"]: r for r in json.loads(run(capsys, "info", "--json"))}
    assert rows["camvid"]["here"] == str(data / "camvid")
    assert "kitti" in run(capsys, "info")
    assert f"not at {data / 'kitti'}" in run(capsys, "info", "kitti")


def test_what_is_not_whole_is_not_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the question the status answers it; without, what is there is listed."""
    root = tmp_path / "kitti"
    generate.make("kitti", root, **{**generate.mini("kitti"), "train": 1, "val": 1})
    assert cli.main(["data", "info", "kitti", str(root), "--verify"]) == 0
    scan = next((root / "training/velodyne").glob("*.bin"))
    scan.write_bytes(scan.read_bytes()[:30])
    for folder in (root, tmp_path / "nothing"):
        assert cli.main(["data", "info", "kitti", str(folder), "--verify"]) == 1
        assert cli.main(["data", "info", "kitti", str(folder)]) == 0
    assert "not a readable point cloud" in capsys.readouterr().out


def test_fetch_from_a_tarball(
    capsys: pytest.CaptureFixture[str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nasbench_mr.data_builders.datasets import fetch

    asked: list[Any] = []

    def stand_in(name: str, root: Path, source: str | None, progress: bool) -> Path:
        asked.append((name, root, source))
        return Path(root)

    monkeypatch.setattr(fetch, "fetch", stand_in)
    run(capsys, "fetch", "camvid", "--from", "here.tar")
    run(capsys, "fetch", "cifar10", "folder")
    assert asked == [("camvid", data / "camvid", "here.tar"), ("cifar10", "folder", None)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["make", "kity"], "did you mean 'kitti'"),
        (["make", "camvid"], "no generated data set 'camvid'"),
        (["make", "kitti", "--set", "ring=3"], "no option 'ring' here: did you mean 'rings'"),
        (["make", "kitti", "--set", "rings"], "override 'rings'; expected FIELD=VALUE"),
        (["make", "kitti", "--set", 'rings="many"'], "option rings is 'many'; expected int"),
        (["make", "kitti", "--train", "0"], "train is 0; expected 1 to"),
        (["fetch", "kitti"], "no data set 'kitti' to fetch"),
        (["fetch", "camvid", "--from", "nowhere.tar"], "no tarball nowhere.tar"),
        (["pack", "kitti"], "get one with: nasbench-mr data make kitti"),
        (["pack", "kitti", "nowhere"], "kitti train in nowhere is incomplete"),
        (["info", "kity"], "no data set 'kity'"),
    ],
)
def test_mistakes_take_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> None:
    assert message in refused(capsys, *arguments)
    assert not (data / "kitti").exists()


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for action in ((), ("make",), ("fetch",), ("pack",), ("info",)):
        assert cli.main(["data", *action, "--help"]) == 0
        assert "Example:\n  nasbench-mr data" in capsys.readouterr().out
