"""Builds by the real trainer, on data sets that are each damaged in another way."""

import json
import pickle
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nasbench_mr import cli, workers
from nasbench_mr.data_builders import build, datasets, generate
from nasbench_mr.data_builders.building import runner
from nasbench_mr.data_builders.datasets.images import Cifar10
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.data_builders.training.screening import screen
from nasbench_mr.errors import DatasetError

TINY = {"epochs": 1, "width_mult": 0.1, "train_samples": 0, "workers": 0, "batch_size": 2, "eval_every": 1}
FOLDERS = {
    "data_options": {"classes": 2, "per_class": 0},
    "train_options": {},
    "crop": [32, 32],
    "test_resize": 32,
    "test_crop": [32, 32],
}


def cut(path: Path, count: int) -> None:
    """Remove the last bytes of a file."""
    path.write_bytes(path.read_bytes()[:-count])


def write_photos(folder: Path, count: int, size: tuple[int, int]) -> None:
    folder.mkdir(parents=True)
    for k in range(count):
        pixels = np.random.default_rng(k).integers(256, size=(*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.jpg")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """imagenet is well; cifar10 has an empty class, and one file of each other data set is damaged."""
    tmp_path = tmp_path_factory.mktemp("data")
    generate.make("imagenet", tmp_path / "imagenet", train=2, val=1, classes=2)
    for split in ("train", "val"):
        for name in Cifar10.CLASSES:
            write_photos(tmp_path / "cifar10" / split / name, 1, (32, 32))
        write_photos(tmp_path / "camvid" / split, 10, (180, 240))
        masks = tmp_path / f"camvid/{split}annot"
        masks.mkdir()
        for k in range(10):
            Image.fromarray(np.zeros((180, 240), np.uint8)).save(masks / f"{k}.png")
    (tmp_path / "cifar10/train" / Cifar10.CLASSES[3] / "0.jpg").unlink()
    cut(tmp_path / "camvid/train/1.jpg", 9000)

    generate.make("cityscapes", tmp_path / "cityscapes", train=1, val=1, size=(128, 256))
    label = next((tmp_path / "cityscapes/gtFine/train").rglob("*labelIds.png"))
    Image.fromarray(np.full((128, 256), 99, np.uint8)).save(label)
    generate.make("kitti", tmp_path / "kitti", **{**generate.mini("kitti"), "train": 2, "val": 1})
    cut(next((tmp_path / "kitti/training/velodyne").glob("*.bin")), 3)
    generate.make("hmdb51", tmp_path / "hmdb51", train=2, val=1, classes=16)
    for clip in (tmp_path / "hmdb51").rglob("*.avi"):
        clip.write_bytes(clip.read_bytes()[:300])
    return tmp_path


DAMAGED = {
    "mini-seg": r"camvid/train/1\.jpg: not a readable image",
    "seg-4x": r"labelIds\.png: label 99; expected cityscapes labels 0 to 33",
    "mini-det3d": r"\.bin: not a readable point cloud",
    "mini-video": r"\.avi: damaged: 300 of [0-9,]+ bytes are there",
}


@pytest.mark.parametrize("task", [*DAMAGED, "mini-cls"])
def test_a_build_stops_at_the_first_file_that_cannot_be_read(data: Path, tmp_path: Path, task: str) -> None:
    """All trials would end so, each after it had read up to there."""
    recipe = recipes.override(recipes.get(task), TINY)
    message = DAMAGED.get(task, rf"missing images in train/{Cifar10.CLASSES[3]}")
    with pytest.raises(DatasetError, match=message):
        build([recipe], runner.draw_codes(3), 1, tmp_path / "out", workers=1, data=data)
    assert not list((tmp_path / "out").glob("parts/*/*"))  # no trial is to blame


def test_unreadable_files_are_left_out_for_all_trials_alike(data: Path, tmp_path: Path) -> None:
    recipe, why = screen(recipes.override(recipes.get("mini-seg"), TINY), data)
    assert recipe.skip == {"train": ["1"]}
    assert list(why) == ["1"]
    assert "camvid/train/1.jpg: not a readable image" in why["1"]
    assert recipe.digest != recipes.override(recipe, {"skip": {}}).digest
    build([recipe], runner.draw_codes(2), 1, tmp_path / "out", workers=1, data=data)
    frame = pd.read_parquet(tmp_path / "out/tables/mini-seg.parquet")
    assert frame["status"].tolist() == ["ok", "ok"]
    assert json.loads((tmp_path / "out/recipes/mini-seg.json").read_text())["skip"] == {"train": ["1"]}
    # A data set without unreadable files keeps its recipe.
    well = recipes.override(recipes.get("cls-10-1000"), FOLDERS)
    assert screen(well, data) == (well, {})


def test_what_is_left_out_already_stays_so(data: Path) -> None:
    """A user's own choice, as of a wrong label, beside the file that can't be read."""
    found = datasets.load("camvid", data / "camvid", "train").ids
    mine = next(name for name in found if name != "1")
    chosen = recipes.override(recipes.get("mini-seg"), TINY, {"skip": {"train": [mine]}})
    recipe, why = screen(chosen, data)
    assert recipe.skip == {"train": [mine, "1"]}
    assert list(why) == ["1"]
    assert screen(recipe, data) == (recipe, {})


def test_what_a_recipe_starts_from_is_read_and_compared_as_well(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "imagenet", tmp_path / "imagenet")
    for name in Cifar10.CLASSES:
        write_photos(tmp_path / "cifar10/train" / name, 1, (32, 32))
        write_photos(tmp_path / "cifar10/val" / name, 2, (32, 32))
        (tmp_path / "cifar10/val" / name / "0.jpg").unlink()  # the one of the other split
    recipes.register(recipes.override(recipes.get("mini-cls"), TINY | {"name": "before"}))
    try:
        recipe = recipes.override(recipes.get("cls-10-1000"), TINY | FOLDERS | {"pretrained": "before"})
        codes, out = runner.draw_codes(2), tmp_path / "out"
        asked = {"seeds": 1, "out": out, "workers": 1, "data": tmp_path}
        assert build([recipe], codes[:1], **asked).tasks["cls-10-1000"].ok == 1
        told = out / "data/cls-10-1000.json"
        kept = json.loads(told.read_text())
        assert list(kept) == ["train", "val", "before/train", "before/val"]
        # An older output does not have the data of what a recipe starts from; it resumes all the same.
        told.write_text(json.dumps({name: kept[name] for name in ("train", "val")}))
        assert build([recipe], codes[:1], **asked | {"seeds": 2}).tasks["cls-10-1000"].ok == 1
        told.write_text(json.dumps(kept))
        photo = tmp_path / "cifar10/train" / Cifar10.CLASSES[3] / "0.jpg"
        shutil.copy(photo, photo.with_name("1.jpg"))
        with pytest.raises(DatasetError, match="data: before/train has 11 samples here and 10 there"):
            build([recipe], codes, **asked)
        assert screen(recipe, tmp_path)[1] == {}
        cut(photo, 300)
        message = r"1 of 11 samples can't be read, .*0\.jpg.* register the recipe 'before' with a `skip`"
        with pytest.raises(DatasetError, match=message):
            screen(recipe, tmp_path)
        photo.unlink()
        cut(tmp_path / "cifar10/val" / Cifar10.CLASSES[3] / "1.jpg", 300)
        with pytest.raises(DatasetError, match=r"1 of 10 samples can't be read"):
            screen(recipe, tmp_path)
    finally:
        del recipes.RECIPES._entries["before"]


def test_skip_bad_on_the_command_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it the build stops and trains nothing; with it all trials train without the file."""
    out = tmp_path / "out"
    command = ["build", "--tasks", "mini-seg", "--codes", "2", "--data", str(data), "--out", str(out)]
    command += ["--workers", "1", *(f"--set={name}={value}" for name, value in TINY.items())]
    assert cli.main(command) == 2
    assert re.search(r"camvid/train/1\.jpg: not a readable image", capsys.readouterr().err)
    assert not list(out.glob("parts/*/*"))
    assert cli.main([*command, "--skip-bad"]) == 0
    assert re.search(r"^left out: .*camvid/train/1\.jpg: not a readable image", capsys.readouterr().err, re.M)
    assert json.loads((out / "recipes/mini-seg.json").read_text())["skip"] == {"train": ["1"]}
    assert pd.read_parquet(out / "tables/mini-seg.parquet")["status"].tolist() == ["ok", "ok"]
    # More trials of that build train alike, and those of another recipe are refused.
    assert cli.main(command) == 2
    assert "recipe" in capsys.readouterr().err


def test_other_data_are_no_part_of_a_table(data: Path, tmp_path: Path) -> None:
    recipe = recipes.override(recipes.get("cls-10-1000"), TINY | FOLDERS)
    codes, out = runner.draw_codes(2), tmp_path / "out"
    build([recipe], codes[:1], 1, out, workers=1, data=data)
    more = tmp_path / "more"
    generate.make("imagenet", more / "imagenet", train=3, val=1, classes=2)
    message = r"cls-10-1000 in .* come from other data: train has 6 samples here and 4 there"
    with pytest.raises(DatasetError, match=message):
        build([recipe], codes, 1, out, workers=1, data=more)
    shutil.copytree(data / "imagenet", tmp_path / "moved" / "imagenet")
    assert build([recipe], codes, 1, out, workers=1, data=tmp_path / "moved").tasks["cls-10-1000"].ok == 1


class Nodes(workers.Engine):
    """A worker on each of several machines with data of their own; the tasks run here."""

    name = "nodes"

    def __init__(self, work: workers.Work, workers: int, folders: list[str]):
        self.folders = folders
        self.sent: list[tuple[workers.Worker, bytes]] = []
        super().__init__(work, workers)

    def _start(self, slot: int) -> Any:
        [job] = self.work.arguments
        return replace(self.work, arguments=(replace(job, data=self.folders[slot]),)).load()

    def _send(self, worker: workers.Worker, task: bytes) -> None:
        self.sent.append((worker, task))

    def _answers(self, timeout: float) -> Iterator[tuple[workers.Worker, bytes | str]]:
        waking, (sent, self.sent) = [w for w in self.workers if not w.ready], (self.sent, [])
        for worker in waking:
            yield worker, pickle.dumps((None, None))
        for worker, task in sent:
            yield worker, pickle.dumps((worker.handle(pickle.loads(task)), None))

    def _stop(self, worker: workers.Worker) -> None:
        pass


def test_machines_with_other_data_are_no_part_of_a_build(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their data are seen where they are read, which need not be where the build was started."""
    monkeypatch.setitem(workers.ENGINES._entries, "nodes", Nodes)
    recipe = recipes.override(recipes.get("cls-10-1000"), TINY | FOLDERS)
    codes, out, more = runner.draw_codes(3), tmp_path / "out", tmp_path / "more"
    generate.make("imagenet", more / "imagenet", train=3, val=1, classes=2)
    message = (
        r"has other data than those before it: train has 4 samples before and 6 now, .* machine the same"
    )
    both = {"engine": "nodes", "workers": 2, "folders": [str(data), str(more)]}
    with pytest.raises(DatasetError, match=message):
        build([recipe], codes, 1, out, data=tmp_path, **both)
    with runner.Builder([recipe], out) as builder:  # what the first worker trained stays
        assert [record.outcome.status for record in builder.records.values()] == ["ok"]
    assert json.loads((out / "data/cls-10-1000.json").read_text())["train"]["samples"] == 4
    with pytest.raises(DatasetError, match="come from other data: train has 6 samples here and 4 there"):
        build([recipe], codes, 1, out, data=tmp_path, **both | {"workers": 1, "folders": [str(more)]})
    assert build([recipe], codes, 1, out, workers=1, data=data).tasks["cls-10-1000"].ok == 2


def test_no_readable_sample_is_an_error(data: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"hmdb51 train: no sample can be read; the first: .*\.avi: damaged"
    ):
        screen("mini-video", data)


def test_a_diverged_trial_stops_nothing(data: Path, tmp_path: Path) -> None:
    chosen = recipes.override(recipes.get("cls-50-100"), TINY | FOLDERS | {"lr": 1e30})
    report = build([chosen], runner.draw_codes(2), 1, tmp_path / "out", workers=1, data=data)
    assert [(o.status, o.error[:15]) for o in report.failures] == [("diverged", "the loss is nan")] * 2
