"""The ray caster and what it writes: occlusion, labels that fit the points, and what a seed fixes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasbench_mr.data_builders import datasets, generate
from nasbench_mr.data_builders.datasets import kitti
from nasbench_mr.data_builders.detection import boxes as geometry
from nasbench_mr.data_builders.generate import base
from nasbench_mr.data_builders.generate import kitti as make_kitti
from nasbench_mr.data_builders.generate.kitti import _labels, _scan, _Scene, _street, entries
from nasbench_mr.errors import DatasetError, InvalidArgumentError

Trees = dict[str, tuple[Path, dict[str, Any]]]

ORIGIN = np.zeros(3)
#: A camera of 700 pixels focal length in the lidar's place, for an image of 375 x 1242.
CAMERA = kitti.Calibration(
    np.array([[700.0, 0, 621, 0], [0, 700, 187, 0], [0, 0, 1, 0]]),
    np.eye(3),
    np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]),
)
ELEVATIONS, AZIMUTHS = np.radians(np.linspace(2, -24.8, 64)), np.radians(np.arange(-45, 45, 0.2))


def street(*boxes: list[float], clutter: list[list[float]] | None = None) -> _Scene:
    """Whole boxes as objects, all cars, and clutter."""
    parts = np.array([*boxes, *(clutter or [])])
    owner = np.array([*range(len(boxes)), *([-1] * len(clutter or []))])
    ones = np.ones(len(parts))
    return _Scene(["Car"] * len(boxes), np.array(boxes), parts, owner, ones, 0.3 * ones, np.zeros(2))


def labels(scene: _Scene) -> list[list[str]]:
    _, met = _scan(np.random.default_rng(0), scene, ELEVATIONS, AZIMUTHS)
    hits = np.bincount(met[met >= 0], minlength=len(scene.names))
    return [line.split() for line in _labels(scene, CAMERA, hits, 60.0)]


def test_rays_end_at_the_first_face() -> None:
    boxes = np.array(
        [
            [10.0, 0, 0, 2, 2, 2, 0],  # first face at 9
            [10.0, 0, 0, 2, 2, 2, np.pi / 4],  # a corner at 10 - sqrt(2)
            [20.0, 0, 0, 4, 2, 2, np.pi / 2],  # turned: 2 long along x, so 19
            [0.0, 10, 0, 2, 2, 2, 0],  # to the left
            [-10.0, 0, 0, 2, 2, 2, 0],  # behind
        ]
    )
    ahead, left, up = np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), np.array([0, 0, 1.0])
    found = entries(ORIGIN, np.stack([ahead, left, up]), boxes)
    inf = np.inf
    expected = [[9, inf, inf], [10 - np.sqrt(2), inf, inf], [19, inf, inf], [inf, 9, inf], [inf, inf, inf]]
    assert found == pytest.approx(np.array(expected))
    # Obliquely: y = x / 10 meets the front face x = 9 at y = 0.9, inside; y = x / 8 passes beside it and
    # meets no face, as at x = 9 it is at 1.125.
    oblique = np.array([[10.0, 1, 0], [8.0, 1, 0]])
    assert entries(ORIGIN, oblique, boxes[:1])[0] == pytest.approx([0.9, np.inf])


def test_what_stands_in_front_hides_what_stands_behind() -> None:
    """A wide wall at 10 m covers the lower part of a taller one at 20 m."""
    low, high = [10.0, 0, -1.23, 0.2, 40, 1.0, 0], [20.0, 0, 0.27, 0.2, 40, 4.0, 0]
    points, met = _scan(np.random.default_rng(0), street(low, high), ELEVATIONS, AZIMUTHS)
    near, far = points[met == 0], points[met == 1]
    assert len(near) > 1000
    assert len(far) > 1000
    # On the front faces, at 9.9 and 19.9 m, and on the lower one's top.
    assert np.abs(near[:, 0] - 10).max() < 0.1 + 0.15
    assert np.abs(far[:, 0] - 19.9).max() < 0.15
    # The first one ends 0.73 m below the lidar at 9.9 to 10.1 m, so rays that pass over it are at least
    # 1.44 m above the ground, where z is -1.73, at 19.9 m: 19.9 * 0.73 / 10.1 below the lidar.
    assert far[:, 2].min() > -19.9 * 0.73 / 9.9 - 0.05
    # Without it, rays reach the second one's foot.
    alone, met = _scan(np.random.default_rng(0), street(high), ELEVATIONS, AZIMUTHS)
    assert alone[met == 0][:, 2].min() < -1.6


def test_no_point_lies_behind_a_solid() -> None:
    for seed in range(4):
        rng = base.stream(seed)
        scene = _street(rng, 40.0, 12.0, 1.0)
        points, met = _scan(rng, scene, ELEVATIONS, AZIMUTHS)
        assert set(np.unique(met)) <= set(range(-1, len(scene.names)))
        xyz = points[:, :3].astype(np.float64)
        distance = np.linalg.norm(xyz, axis=1)
        first = entries(ORIGIN, xyz / distance[:, None], scene.parts[scene.solid == 1]).min(0)
        assert (distance < first + 0.12).all()  # six standard deviations of the noise
        # A point of an object lies on it, one of none does not.
        inside = geometry.points_inside(xyz, scene.boxes, margin=0.15)
        assert inside[met[met >= 0], np.flatnonzero(met >= 0)].all()
        assert not geometry.points_inside(xyz[met < 0], scene.boxes, margin=-0.15).any()


def test_the_ground_is_where_it_is() -> None:
    empty = _Scene(
        [],
        np.zeros((0, 7)),
        np.zeros((0, 7)),
        np.zeros(0, np.int64),
        np.zeros(0),
        np.zeros(0),
        np.array([0.01, 0]),
    )
    points, met = _scan(np.random.default_rng(0), empty, ELEVATIONS, AZIMUTHS)
    assert (met == -1).all()
    assert np.abs(points[:, 2] - (-1.73 + 0.01 * points[:, 0])).max() < 0.08


def test_a_hidden_object_has_no_label_and_a_half_hidden_one_says_so() -> None:
    car = [20.0, 0, -1, 4, 1.8, 1.46, 0]  # its picture is y from -0.9 to 0.9 at 18 m, +-2.9 degrees
    assert [line[:3] for line in labels(street(car))] == [["Car", "0.00", "0"]]
    # A wall at 9 m (front face 8.9 m): y from -10 to -0.02 hides nearly the right half.
    half = labels(street(car, clutter=[[9.0, -5.0, 0, 0.2, 10.0, 4, 0]]))
    assert [line[:3] for line in half] == [["Car", "0.00", "1"]]
    # To y = 0.2, 0.2 * 18 / 8.9 = 0.40 m at the car: 1.3 of 1.8 m are hidden, 28% visible.
    most = labels(street(car, clutter=[[9.0, -4.9, 0, 0.2, 10.2, 4, 0]]))
    assert [line[:3] for line in most] == [["Car", "0.00", "2"]]
    assert labels(street(car, clutter=[[9.0, 0, 0, 0.2, 20, 4, 0]])) == []


def test_a_label_says_what_leaves_the_image() -> None:
    # At 10 m the image is 621 / 700 * 10 = 8.87 m wide to each side. A thin wall across, from -8.87 - 4 to
    # -8.87 + 4, is half outside.
    edge = 621 / 700 * 10
    line = labels(street([10.0, -edge, -0.73, 0.002, 8.0, 2.0, 0]))[0]
    assert float(line[1]) == pytest.approx(0.5, abs=0.01)
    # It ends 0.27 m above the camera and 1.73 m below.
    picture = [621 + 70 * (edge - 4), 187 - 70 * 0.27, 1241, 187 + 70 * 1.73]
    assert [float(v) for v in line[4:8]] == pytest.approx(picture, abs=0.1)


def test_far_and_unseen_objects_are_regions_without_a_care() -> None:
    lines = labels(street([70.0, 5, -1, 4, 1.8, 1.46, 0.3]))
    assert [line[0] for line in lines] == ["DontCare"]
    assert lines[0][8:] == ["-1", "-1", "-1", "-1000", "-1000", "-1000", "-10"]


def test_the_written_labels_fit_the_written_points(trees: Trees) -> None:
    """Read back, every object that is at all visible has points on it, at its surface and none far inside."""
    seen = 0
    for split in ("train", "val"):
        for sample in datasets.load("kitti", trees["kitti"][0], split):
            true = sample["label"] != kitti.DONT_CARE
            boxes = sample["boxes"][true].astype(np.float64)
            inside = geometry.points_inside(sample["points"], boxes, margin=0.1).sum(1)
            whole = (sample["occlusion"][true] == 0) & (sample["truncation"][true] < 0.3)
            assert (inside[whole] > 0).all()
            seen += whole.sum()
            # The image boxes are those of the projected boxes, to the file's rounding of a centimetre.
            size = tuple(sample["image_size"].tolist())
            pictures = geometry.to_image(boxes, sample["projection"].astype(np.float64), size)
            assert np.abs(pictures - sample["image_boxes"][true]).max() < 6
    assert seen > 10


def test_a_seed_fixes_every_byte(tmp_path: Path) -> None:
    options = generate.mini("kitti") | {"train": 3, "val": 2, "rings": 16}

    def bytes_of(name: str, **changes: object) -> dict[str, bytes]:
        root = generate.make("kitti", tmp_path / name, **(options | changes))
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    first = bytes_of("a")
    assert bytes_of("b", workers=2) == first
    other = bytes_of("c", seed=1)
    assert other.keys() == first.keys()
    assert all(other[k] != first[k] for k in first if not k.startswith("ImageSets"))
    # More scans do not change those that were there; val is not a continuation of train.
    more = bytes_of("d", train=4)
    assert all(more[k] == first[k] for k in first if "00000" in k and k[-5] in "012")
    scan = "training/velodyne/00000{}.bin"
    assert more[scan.format(4)] == first[scan.format(3)]
    assert len({first[scan.format(k)] for k in range(5)}) == 5


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "kitti"
    for options, message in [
        ({"train": 0}, "train is 0; expected 1 to"),
        ({"resolution": 0.0}, "resolution is 0.0"),
        ({"rings": 64.5}, "option rings is 64.5; expected int"),
        ({"ring": 64}, "no option 'ring'"),
        ({"workers": 0}, "workers is 0"),
    ]:
        with pytest.raises(InvalidArgumentError, match=message):
            generate.make("kitti", target, **options)
    assert list(target.parent.glob("*kitti*")) == []
    target.mkdir()
    with pytest.raises(DatasetError, match="kitti exists; a data set is made in a new folder"):
        generate.make("kitti", target)


def test_without_variety_cars_are_alike() -> None:
    for seed in range(5):
        scene = _street(base.stream(seed), 40.0, 12.0, 1.0, variety=0.0)
        cars = scene.boxes[[name == "Car" for name in scene.names]]
        assert cars[:, 3:6] == pytest.approx(np.tile([3.9, 1.63, 1.53], (len(cars), 1)))
        assert np.sin(cars[:, 6]) == pytest.approx(0, abs=1e-9)


def test_mini_scans_are_small_and_mostly_cars(trees: Trees) -> None:
    assert make_kitti.MINI["reach"] == 26.0
    scans = [s for split in ("train", "val") for s in datasets.load("kitti", trees["kitti"][0], split)]
    assert all(500 < len(s["points"]) < 6000 for s in scans)
    names = [kitti.CLASSES[k] for s in scans for k in s["label"]]
    assert names.count("Car") > names.count("Pedestrian") > 0
