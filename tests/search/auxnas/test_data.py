"""Readers of images with several labels, and the generated rooms."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from nasbench_mr import archives, files, workers
from nasbench_mr.data_builders.datasets import opening
from nasbench_mr.errors import DatasetError, InvalidArgumentError, UnknownNameError, UnknownTaskError
from nasbench_mr.search.auxnas import nyuv2, readers, scenes
from nasbench_mr.search.auxnas.data import AuxData, LabelledSet, join
from nasbench_mr.search.auxnas.tasks import check

TASKS = ("segmentation", "normals", "depth", "scene")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes.make(tmp_path_factory.mktemp("rooms") / "indoor", train=6, val=3, seed=1, size=(36, 48))


def test_rooms_are_what_the_renderer_saw(rooms: Path) -> None:
    data = readers.load("indoor", rooms)
    check(data, TASKS)
    assert (len(data.train), len(data.val), data.train.size) == (6, 3, (36, 48))
    assert data.train.ids == tuple(f"{i:04d}" for i in range(1, 7))
    assert data.val.ids == ("0007", "0008", "0009")
    scene = scenes.render(np.random.default_rng([1, 7]), (36, 48))
    arrays = {key: values[1] for key, values in data.val.arrays.items()}
    np.testing.assert_array_equal(arrays["image"], scene["image"])
    np.testing.assert_array_equal(arrays["depth"], scene["depths"])
    np.testing.assert_array_equal(arrays["normals"], scene["normals"])
    classes = np.array(list(scenes.CLASSES.values()))
    np.testing.assert_array_equal(arrays["segmentation"], classes[scene["labels"] - 1] - 1)
    assert sorted(scenes.ROOMS)[arrays["scene"]] == scene["sceneTypes"]


def test_rooms_are_consistent(rooms: Path) -> None:
    arrays = readers.load("indoor", rooms).train.arrays
    np.testing.assert_allclose(np.linalg.norm(arrays["normals"], axis=-1), 1, atol=1e-5)
    # Surfaces face the camera: the normal and the ray to the pixel point against each other.
    fx, fy, cx, cy = (v * 0.075 for v in nyuv2.CAMERA)
    x, y = np.meshgrid((np.arange(48) + 0.5 - cx) / fx, (np.arange(36) + 0.5 - cy) / fy)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1)
    assert ((arrays["normals"] * rays).sum(-1) < 1e-5).all()
    assert arrays["depth"].min() > 0.05
    # The floor is the lowest: below the camera and, but for its tilt, level.
    floor = arrays["segmentation"] == scenes.CLASSES["floor"] - 1
    assert floor.any()
    assert (arrays["normals"][floor][:, 1] < -0.9).all()
    # The exact normals and those from depth agree but at edges of objects.
    for depth, normals in zip(arrays["depth"], arrays["normals"], strict=True):
        computed = nyuv2.normals_from_depth(depth, (fx, fy, cx, cy))
        assert ((computed * normals).sum(-1) > 0.999).mean() > 0.7


def test_rooms_are_deterministic(rooms: Path, tmp_path: Path) -> None:
    again = scenes.make(tmp_path / "again", train=6, val=3, seed=1, size=(36, 48))
    for name in ("nyu_depth_v2_labeled.mat", "classMapping40.mat", "splits.mat"):
        assert files.sha256(rooms / name) == files.sha256(again / name)
        assert (rooms / name).read_bytes()[:19] == b"MATLAB 7.3 MAT-file"
    with pytest.raises(DatasetError, match="exists"):
        scenes.make(again)
    with pytest.raises(InvalidArgumentError, match="16 pixels"):
        scenes.make(tmp_path / "small", size=(8, 8))


def test_indoor_is_made_on_first_use(tmp_path: Path) -> None:
    data = readers.load("indoor", tmp_path / "made", (32, 40), train=2, val=1)
    assert (data.name, data.train.size, len(data.val)) == ("indoor", (32, 40), 1)
    assert data.about["options"] == {"train": 2, "val": 1}
    # What another call asks for is made anew, so that the order of calls does not matter.
    larger = readers.load("indoor", tmp_path / "made", (36, 48), train=2, val=1)
    fresh = readers.load("indoor", tmp_path / "fresh", (36, 48), train=2, val=1)
    assert larger.digest == fresh.digest != data.digest
    assert len(readers.load("indoor", tmp_path / "made", (32, 40), train=3, val=1).train) == 3
    with pytest.raises(InvalidArgumentError, match="holds rooms already"):
        readers.load("indoor", tmp_path / "made" / "2-1-seed0-32x40", train=3)


def test_normals_of_a_plane_are_exact() -> None:
    camera = (50.0, 60.0, 19.0, 14.0)
    normal = np.array([0.3, -0.5, -0.8])
    normal /= np.linalg.norm(normal)
    x, y = np.meshgrid((np.arange(40) + 0.5 - 19) / 50, (np.arange(30) + 0.5 - 14) / 60)
    depth = -3 / (np.stack([x, y, np.ones_like(x)], -1) @ normal)
    got = nyuv2.normals_from_depth(depth, camera, radius=2)
    np.testing.assert_allclose(got, np.broadcast_to(normal, got.shape), atol=1e-5)
    depth[10, 10] = 0
    assert (nyuv2.normals_from_depth(depth, camera)[10, 10] == 0).all()


def test_nyuv2_without_normals_and_with_old_matlab_files(rooms: Path, tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    root = tmp_path / "nyu"
    shutil.copytree(rooms, root)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "r+") as file:
        del file["normals"], file["sceneTypes"]
    mapping = np.array([list(scenes.CLASSES.values())])
    scipy_io.savemat(root / "classMapping40.mat", {"mapClass": mapping})
    scipy_io.savemat(root / "splits.mat", {"trainNdxs": [[2], [1]], "testNdxs": [[9]]})
    data = readers.load("nyuv2", root, (18, 24))
    assert data.train.ids == ("0001", "0002")
    assert data.train.tasks == ("segmentation", "depth", "normals")
    full = readers.load("nyuv2", rooms)
    # Nearest: of two pixels, the second is at the centre of their union's right half.
    np.testing.assert_array_equal(data.train.arrays["depth"][0], full.train.arrays["depth"][0][1::2, 1::2])
    check(data, ("segmentation", "normals"))


@pytest.fixture
def nyu(rooms: Path, tmp_path: Path) -> Path:
    """Return a copy of the rooms, to damage."""
    target: Path = shutil.copytree(rooms, tmp_path / "nyu")
    return target


def test_incomplete_and_cut_nyuv2(nyu: Path) -> None:
    whole = (nyu / nyuv2.LABELLED).read_bytes()
    for content, message in (
        (whole[: len(whole) // 2], "not a readable HDF5 file"),
        (b"<html>Not found", r"it is a web page"),
        (b"", "the file is empty"),
    ):
        (nyu / nyuv2.LABELLED).write_bytes(content)
        with pytest.raises(DatasetError, match=rf"nyu_depth_v2_labeled\.mat: .*{message}"):
            readers.load("nyuv2", nyu)
    (nyu / nyuv2.MAPPING).unlink()
    with pytest.raises(DatasetError, match=r"missing classMapping40\.mat"):
        readers.load("nyuv2", nyu)


def put(name: str, change: Callable[[np.ndarray], object]) -> Callable[[h5py.File], object]:
    """Write an array anew, changed."""

    def rewrite(file: h5py.File) -> None:
        values = change(file[name][()])
        del file[name]
        file[name] = values

    return rewrite


def first(value: float, dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.astype(dtype)
        values.flat[0] = value
        return values

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("labels", lambda v: v[:, :, :20], r"labels are \(9, 48, 20\); expected \(9, 48, 36\)"),
        ("labels", first(200, "u2"), "at image 1 .*labels of 1 to 200; expected 0 to 13"),
        ("labels", first(-1, "i2"), "labels of -1 to"),
        ("labels", first(1.5, "f8"), "numbers that are not whole"),
        ("labels", first(np.nan, "f8"), "numbers that are not whole"),
        ("depths", first(np.nan, "f4"), "a depth is negative or not finite"),
        ("depths", lambda v: v[:3], "depths are"),
        ("normals", lambda v: np.round(127.5 * (v + 1)), "normals as long as .*; expected length 1"),
        ("images", lambda v: v.astype("u2"), "uint16; expected .* uint8"),
        ("images", lambda v: "text", "it is of type object"),
        ("sceneTypes", lambda v: v[:, :5], "9 images and 5 kinds of scenes"),
        ("mapClass", first(41, "f8"), "mapClass must hold classes 1 to 40"),
        ("mapClass", first(np.nan, "f8"), "numbers that are not whole"),
        ("testNdxs", lambda v: v + 70, "testNdxs must hold different numbers of images, 1 to 9"),
        ("trainNdxs", lambda v: v * 0 + 2, "trainNdxs must hold different numbers"),
        ("trainNdxs", first(7, "f8"), "image 7 is in both splits"),
    ],
)
def test_nyuv2_that_contradicts_itself(
    name: str,
    change: Callable[[np.ndarray], object],
    message: str,
    nyu: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def here(path: Path, maker: str, arguments: tuple[object, ...]) -> object:
        """As `opening.apart`, without a process for each of these cases."""
        return contextlib.nullcontext(workers.Work(maker, arguments).load())

    monkeypatch.setattr(opening, "apart", here)
    file = {"mapClass": nyuv2.MAPPING}.get(name, nyuv2.SPLITS if "Ndxs" in name else nyuv2.LABELLED)
    with h5py.File(nyu / file, "r+") as found:
        put(name, change)(found)
    with pytest.raises(DatasetError, match=f"{file}: .*{message}"):
        readers.load("nyuv2", nyu)
    with h5py.File(nyu / file, "r+") as found:
        del found[name]
    if name != "sceneTypes" and name != "normals":
        with pytest.raises(DatasetError, match=f"{file}: .*{name!r} .there is no such data set"):
            readers.load("nyuv2", nyu)


def test_nyuv2_with_labels_as_double(nyu: Path, rooms: Path) -> None:
    with h5py.File(nyu / nyuv2.LABELLED, "r+") as file:
        put("labels", lambda v: v.astype("f8"))(file)
    found, expected = (readers.load("nyuv2", root).val.arrays["segmentation"] for root in (nyu, rooms))
    np.testing.assert_array_equal(found, expected)


def photo(rng: np.random.Generator, *shape: int) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8))


def test_camvid(tmp_path: Path, shared: Path | None) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / f"{split}annot").mkdir()
        for i in range(10):
            photo(rng, 24, 32, 3).save(tmp_path / split / f"{i}.png")
            Image.fromarray(rng.integers(0, 12, (24, 32)).astype(np.uint8)).save(
                tmp_path / f"{split}annot/{i}.png"
            )
    root = tmp_path
    if shared is not None:
        archives.extract_tar(shared / "data" / "camvid.tar", tmp_path / "real")
        root = tmp_path / "real" / "camvid"
    data = readers.load("camvid", root, (24, 32), limit=2)
    check(data, ("segmentation", "edges"))
    assert data.train.classes == {"segmentation": 11}
    assert data.train.arrays["edges"].mean() == pytest.approx(0.15, abs=0.01)
    blocks = readers.load("camvid", root, (24, 32), blocks=True)
    every = {photo.stem for photo in (root / "train").iterdir()}
    assert {*blocks.train.ids, *blocks.val.ids} == every
    assert len(blocks.train.ids) + len(blocks.val.ids) == len(every)


def test_edges_of_a_step() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    image[:, 5:] = 200
    edges = readers.edges_of(image, share=0.2)
    # The two columns that meet at the step.
    assert np.flatnonzero(edges[4]).tolist() == [4, 5]
    assert readers.edges_of(np.zeros((10, 10, 3), np.uint8)).sum() == 0


def test_cityscapes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        stem = "aachen_000000_000019"
        for top, ending in (
            ("leftImg8bit", "leftImg8bit"),
            ("gtFine", "gtFine_labelIds"),
            ("disparity", "disparity"),
        ):
            folder = tmp_path / top / split / "aachen"
            folder.mkdir(parents=True)
            if top == "leftImg8bit":
                image = photo(rng, 32, 64, 3)
            elif top == "gtFine":
                image = Image.fromarray(np.full((32, 64), 7, np.uint8))
            else:
                values = np.full((32, 64), 256 * 10 + 1, np.uint16)
                values[:, :2] = 0
                image = Image.fromarray(values)
            image.save(folder / f"{stem}_{ending}.png")
    data = readers.load("cityscapes", tmp_path)
    check(data, ("segmentation", "disparity"))
    assert data.train.arrays["disparity"][0, 0].tolist() == [0, 0] + [10] * 62
    assert (data.train.arrays["segmentation"] == 0).all()
    # Half as wide: half the disparity.
    assert readers.load("cityscapes", tmp_path, (16, 32)).train.arrays["disparity"].max() == 5
    next((tmp_path / "disparity" / "val").rglob("*.png")).unlink()
    with pytest.raises(DatasetError, match=r"missing disparity/val/aachen"):
        readers.load("cityscapes", tmp_path)


def taskonomy(root: Path, domains: dict[str, Image.Image | np.ndarray], buildings: int = 5) -> Path:
    for domain, value in domains.items():
        for b in range(buildings):
            folder = root / domain / f"house{b}"
            folder.mkdir(parents=True)
            for view in range(2):
                path = folder / f"point_{view}_view_0_domain_{domain}"
                if isinstance(value, Image.Image):
                    value.save(f"{path}.png")
                else:
                    np.save(f"{path}.npy", value)
    return root


def test_taskonomy(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    depth = np.full((16, 16), 1024, np.uint16)
    depth[0, 0] = 65535
    normal = np.zeros((16, 16, 3), np.uint8) + np.array([128, 128, 255], np.uint8)
    semantic = np.ones((16, 16), np.uint8)
    semantic[0, 0] = 0
    scores = np.zeros(365, np.float32)
    scores[7] = 1
    root = taskonomy(
        tmp_path,
        {
            "rgb": photo(rng, 16, 16, 3), "depth_zbuffer": Image.fromarray(depth),
            "normal": Image.fromarray(normal), "segment_semantic": Image.fromarray(semantic),
            "class_scene": scores,
        },
    )  # fmt: skip
    data = readers.load("taskonomy", root, labels="normals,depth,segmentation,scene")
    check(data, ("normals", "depth", "segmentation", "scene"))
    # One of five buildings validates, and no building does both.
    assert (len(data.train), len(data.val)) == (8, 2)
    assert not {i.split("/")[0] for i in data.train.ids} & {i.split("/")[0] for i in data.val.ids}
    assert data.train.arrays["depth"][0, 0, :2].tolist() == [0, 2]
    np.testing.assert_allclose(data.train.arrays["normals"][0, 0, 0], [0, 0, 1], atol=0.01)
    assert data.train.arrays["segmentation"][0, 0, :2].tolist() == [255, 0]
    assert (data.train.arrays["scene"] == 7).all()
    with pytest.raises(UnknownTaskError, match="disparity"):
        readers.load("taskonomy", root, labels="disparity")
    with pytest.raises(DatasetError, match="edge_texture"):
        readers.load("taskonomy", root, labels="edges")
    for folder in (root / "normal").iterdir():
        for file in folder.iterdir():
            file.rename(file.with_name(file.name.replace("view_0", "view_9")))
    with pytest.raises(DatasetError, match="no view has all"):
        readers.load("taskonomy", root)


def made(n: int = 3, **labels: np.ndarray) -> LabelledSet:
    arrays = {
        "image": np.zeros((n, 32, 40, 3), np.uint8),
        "depth": np.ones((n, 32, 40), np.float32),
        **labels,
    }
    return LabelledSet("mine", tuple(map(str, range(n))), arrays, {"segmentation": 4})


def test_join_keeps_what_both_have() -> None:
    left = made()
    right = LabelledSet(
        "other", ("9", "2", "1"), {"image": left.arrays["image"], "scene": np.array([5, 6, 7])}, {"scene": 9}
    )
    both = join(left, right)
    assert both.ids == ("1", "2")
    assert both.arrays["scene"].tolist() == [7, 6]
    assert both.classes == {"segmentation": 4, "scene": 9}
    with pytest.raises(DatasetError, match="no sample in common"):
        join(left, right.take([0]))


@pytest.mark.parametrize(
    ("bad", "tasks", "error", "message"),
    [
        (made(), ("depth", "sceen"), UnknownTaskError, "scene"),
        (made(), ("depth", "scene"), UnknownTaskError, "no labels of 'scene'; it has depth"),
        (made(), ("depth", "depth"), InvalidArgumentError, "distinct"),
        (made(0), ("depth",), DatasetError, "no samples"),
        (made(depth=np.ones((3, 16, 40), np.float32)), ("depth",), DatasetError, r"expected \(3, 32, 40\)"),
        (
            made(segmentation=np.full((3, 32, 40), 4, np.uint8)),
            ("segmentation",),
            DatasetError,
            "classes 0 to 3",
        ),
        (made(image=np.zeros((3, 32, 40), np.uint8)), ("depth",), DatasetError, r"\(n, H, W, 3\)"),
        (made(image=np.zeros((2, 32, 40, 3), np.uint8)), ("depth",), DatasetError, "2 images for 3 names"),
        (made(depth=np.ones((3, 32, 40))), ("depth",), DatasetError, "are float64; expected float32"),
        (made(depth=np.zeros((3, 32, 40), np.float32)), ("depth",), DatasetError, "no label of 'depth'"),
        (made(depth=-np.ones((3, 32, 40), np.float32)), ("depth",), DatasetError, "negative, down to -1"),
    ],
)
def test_bad_input(bad: LabelledSet, tasks: tuple[str, ...], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        check(AuxData(bad, bad), tasks)


def test_sets_of_two_sizes() -> None:
    other = LabelledSet("mine", ("0",), {"image": np.zeros((1, 8, 8, 3), np.uint8)}, {})
    with pytest.raises(DatasetError, match="those of train"):
        check(AuxData(made(), other), ("depth",))


def test_unknown_data(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="camvid"):
        readers.load("camvids", tmp_path)
    with pytest.raises(InvalidArgumentError, match="no option 'shares' here: did you mean 'share'"):
        readers.load("camvid", tmp_path, shares=1)
    with pytest.raises(InvalidArgumentError, match="option blocks is 1; expected bool"):
        readers.load("camvid", tmp_path, blocks=1)
    with pytest.raises(InvalidArgumentError, match="8 pixels"):
        readers.load("camvid", tmp_path, (4, 4))
