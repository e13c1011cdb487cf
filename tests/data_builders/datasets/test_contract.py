"""What holds for every data set: its samples, its packs, its complaints, and reading by many at once."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasbench_mr import tasks
from nasbench_mr.data_builders import datasets, generate
from nasbench_mr.errors import DatasetError, InvalidArgumentError, MissingExtraError, UnknownNameError

Trees = dict[str, tuple[Path, dict[str, Any]]]
NAMES = datasets.names()
#: Splits that every data set has.
SPLITS = ("train", "val")


def same(a: datasets.Sample, b: datasets.Sample) -> bool:
    return list(a) == list(b) and all(a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a)


def opened(trees: Trees, name: str, split: str = "train") -> datasets.Dataset:
    folder, options = trees[name]
    return datasets.load(name, folder, split, **options)


def digests(samples: Iterable[datasets.Sample]) -> list[bytes]:
    """Equal for equal samples."""
    return [pickle.dumps({k: (v.dtype.str, v.shape, v.tobytes()) for k, v in s.items()}) for s in samples]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", NAMES)
def test_a_split_is_a_sequence_of_samples(name: str, split: str, trees: Trees) -> None:
    data = opened(trees, name, split)
    assert (data.name, data.split, str(data)) == (name, split, f"{name} {split}")
    assert data.problem in tasks.PROBLEMS
    assert len(data) == len(data.ids) == len(set(data.ids)) == len(list(data)) > 0
    assert len(set(data.classes)) == len(data.classes) > 1
    assert same(data[-1], data[len(data) - 1])
    for index in (len(data), -len(data) - 1):
        with pytest.raises(IndexError, match=f"of {len(data)} in {name} {split}"):
            data[index]
    data.verify()


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_keys_of_their_problem(name: str, trees: Trees) -> None:
    data = opened(trees, name)
    keys = {
        "classification": ["image", "label"],
        "segmentation": ["image", "mask"],
        "video": ["clip", "label"],
        "detection": [
            "points", "boxes", "label", "image_boxes", "occlusion", "truncation", "projection", "image_size",
        ],
    }  # fmt: skip
    for sample in data:
        assert list(sample) == keys[data.problem]
        if "image" in sample:
            assert sample["image"].dtype == np.uint8
            assert sample["image"].ndim == 3
            assert sample["image"].shape[2] == 3
        if "mask" in sample:
            assert sample["mask"].dtype == np.uint8
            assert sample["mask"].shape == sample["image"].shape[:2]
            assert set(np.unique(sample["mask"])) <= {*range(len(data.classes)), datasets.IGNORE}
        if "clip" in sample:
            assert sample["clip"].dtype == np.uint8
            assert sample["clip"].shape == (4, 24, 32, 3)
        assert {v.dtype.name for v in sample.values()} <= {"uint8", "int64", "float32", "float64"}
        if "label" in sample:
            assert sample["label"].dtype == np.int64
            assert sample["label"].shape == (sample["boxes"].shape[:1] if "boxes" in sample else ())
            assert ((sample["label"] >= 0) & (sample["label"] < len(data.classes))).all()


@pytest.mark.parametrize("name", NAMES)
def test_all_classes_occur(name: str, trees: Trees) -> None:
    data = opened(trees, name)
    if data.problem in ("classification", "video"):
        assert {int(s["label"]) for s in data} == set(range(len(data.classes)))
    elif data.problem == "detection":
        assert {0, 1, 2} <= {int(k) for s in data for k in s["label"]}
    else:
        assert {"road", "car", "building", "sky"} <= {
            data.classes[k] for s in data for k in np.unique(s["mask"]) if k != datasets.IGNORE
        }


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_the_callers_own(name: str, trees: Trees) -> None:
    data = opened(trees, name)
    first, again = data[0], data[0]
    for value in first.values():
        value[...] = 0
    assert same(data[0], again)


@pytest.mark.parametrize("name", NAMES)
def test_a_pack_has_the_same_samples(name: str, trees: Trees, tmp_path: Path) -> None:
    data = opened(trees, name)
    packed = datasets.pack(data, tmp_path / "train.safetensors")
    assert str(packed) == str(data)
    assert (packed.problem, packed.classes, packed.ids) == (data.problem, data.classes, data.ids)
    assert len(packed) == len(data)
    assert all(same(a, b) for a, b in zip(packed, data, strict=True))
    single = data.problem in ("classification", "video")
    expected = [int(sample["label"]) for sample in data] if single else None
    for labels in (data.labels(), packed.labels()):
        assert expected == (None if labels is None else labels.tolist())
    packed.verify()
    # load takes the pack, or the folder that has it, for the data set; the options must agree.
    options = trees[name][1]
    for root in (tmp_path / "train.safetensors", tmp_path):
        assert digests(datasets.load(name, root, "train", **options)) == digests(data)
    copy = pickle.loads(pickle.dumps(packed))
    assert same(copy[0], packed[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_can_be_pickled(name: str, trees: Trees) -> None:
    data = opened(trees, name)
    assert digests(pickle.loads(pickle.dumps(data))) == digests(data)


def test_many_workers_read_the_same(trees: Trees, tmp_path: Path) -> None:
    """Spawned processes and threads, all at once, from files and from packs."""
    sets = [opened(trees, name) for name in NAMES]
    sets += [datasets.pack(data, tmp_path / f"{data.name}.safetensors") for data in sets]
    expected = [digests(data) for data in sets]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context) as processes, ThreadPoolExecutor(8) as threads:
        for pool in (processes, threads):
            for _ in range(2):
                assert [digests(samples) for samples in pool.map(list, sets)] == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_forked_process_may_go_on_reading_a_pack(name: str, trees: Trees, tmp_path: Path) -> None:
    packed = datasets.pack(opened(trees, name), tmp_path / "train.safetensors")
    expected = digests(packed)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(digests(packed) == expected))
    child.start()
    assert queue.get()
    child.join()
    assert digests(packed) == expected


@pytest.mark.parametrize("name", NAMES)
def test_an_incomplete_tree_is_named_with_what_is_missing(
    name: str, grown: Callable[[str], Path], trees: Trees
) -> None:
    root, options = grown(name), trees[name][1]
    removed = {
        "cifar10": "val/cat",
        "imagenet": "val/n90000002",
        "camvid": "valannot/val_1.png",
        "cityscapes": "gtFine/val/seestadt/seestadt_000000_000019_gtFine_labelIds.png",
        "kitti": "training/calib/000004.txt",
        "hmdb51": "run_left/generated00003_run_left_f_cm_np1_fr_med_0.avi",
    }[name]
    path = root / removed
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DatasetError) as caught:
        datasets.load(
            name, root, "val", **({"classes": 6, "per_class": 2} if name == "imagenet" else options)
        )
    message = str(caught.value)
    assert removed in message
    assert str(root) in message
    reader = datasets.reader(name)
    assert reader.LAYOUT in message
    assert f"nasbench-mr data {'fetch' if name in datasets.FETCHED else 'make'} {name}" in message


@pytest.mark.parametrize("name", NAMES)
def test_nothing_there_is_named_too(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"the folder .*nowhere itself"):
        datasets.load(name, tmp_path / "nowhere", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=f"{name} train in .*empty is incomplete: missing "):
        datasets.load(name, tmp_path / "empty", "train")
    with pytest.raises(DatasetError, match=f"{name} has no split 'tset'; expected train or val"):
        datasets.load(name, tmp_path, "tset")
    with pytest.raises(InvalidArgumentError, match="no option 'colour'"):
        datasets.load(name, tmp_path, "train", colour=1)


def test_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'kitti'"):
        datasets.load("kity", tmp_path, "train")
    with pytest.raises(UnknownNameError, match="no generated data set 'camvid'"):
        generate.make("camvid", tmp_path / "x")


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("PIL", lambda trees, path: opened(trees, "cifar10")[0]),
        ("av", lambda trees, path: opened(trees, "hmdb51")[0]),
        ("av", lambda trees, path: generate.make("hmdb51", path / "x")),
        ("PIL", lambda trees, path: generate.make("imagenet", path / "x")),
        ("PIL", lambda trees, path: generate.make("cityscapes", path / "x")),
        ("safetensors", lambda trees, path: datasets.pack(opened(trees, "kitti"), path / "x")),
        ("safetensors", lambda trees, path: datasets.Pack(path / "x")),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    module: str,
    use: Callable[[Trees, Path], object],
    trees: Trees,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nasbench-mr\[build\]'"):
        use(trees, tmp_path)
    assert not (tmp_path / "x").exists()


def test_point_clouds_need_no_library(trees: Trees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("PIL", "av", "safetensors", "torch"):
        monkeypatch.setitem(sys.modules, module, None)
    generate.make("kitti", tmp_path / "kitti", train=1, val=1, view=60.0)
    datasets.load("kitti", tmp_path / "kitti", "train").verify()


def test_two_may_make_the_same_at_once(tmp_path: Path) -> None:
    """One makes it, the other either has it too or is told that it is there."""

    def make(_: int) -> str:
        try:
            return str(generate.make("imagenet", tmp_path / "x", train=2, val=1, classes=2, size=16))
        except DatasetError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        said = set(pool.map(make, range(8)))
    assert said <= {str(tmp_path / "x"), f"{tmp_path / 'x'} exists; a data set is made in a new folder"}
    assert len(datasets.load("imagenet", tmp_path / "x", "train", classes=2, per_class=2)) == 4
    assert [p.name for p in tmp_path.iterdir() if p.name != "home"] == ["x"]


def test_arrays_stack_a_split(trees: Trees) -> None:
    arrays = opened(trees, "imagenet").arrays()
    assert arrays["image"].shape == (8, 24, 24, 3)
    assert arrays["label"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    with pytest.raises(DatasetError, match=r"'points' of 000001 is .* don't stack"):
        opened(trees, "kitti").arrays()


def test_locate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.delenv("NASBENCH_MR_DATA", raising=False)
    assert datasets.folder("kitti") == home / "data" / "kitti"
    monkeypatch.setenv("NASBENCH_MR_DATA", str(tmp_path / "mine"))
    assert datasets.folder("kitti") == tmp_path / "mine" / "kitti"
    assert datasets.folder("kitti", tmp_path / "other") == tmp_path / "other" / "kitti"
    with pytest.raises(DatasetError, match=r"get one with: nasbench-mr data make kitti$"):
        datasets.locate("kitti")
    with pytest.raises(DatasetError, match=r"get one with: nasbench-mr data fetch camvid .*other/camvid$"):
        datasets.locate("camvid", tmp_path / "other")
    (tmp_path / "mine" / "kitti").mkdir(parents=True)
    assert datasets.locate("kitti") == tmp_path / "mine" / "kitti"
    with pytest.raises(UnknownNameError):
        datasets.locate("kitty")


def test_throughput_counts_samples_a_second(monkeypatch: pytest.MonkeyPatch, trees: Trees) -> None:
    data = opened(trees, "cifar10")
    clock = [0.0]
    monkeypatch.setattr(type(data), "_read", lambda self, index: clock.__setitem__(0, clock[0] + 0.125) or {})
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    assert datasets.throughput(data, 10.0) == 8.0
