"""KITTI's frames and files: exact conversions, the projection, and damaged input."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasbench_mr.data_builders import datasets
from nasbench_mr.data_builders.datasets import kitti
from nasbench_mr.data_builders.detection import boxes as geometry
from nasbench_mr.errors import DatasetError

Trees = dict[str, tuple[Path, dict[str, Any]]]

#: A camera of 700 pixels focal length in the place of the lidar, looking ahead: camera x, y, z are lidar
#: -y, -z, x.
PLAIN = """P2: 700 0 600 0 0 700 180 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0
"""
#: Scan 000000 of the training set: the matrices, and its one object.
OFFICIAL = """P0: 7.070493e+02 0 6.040814e+02 0 0 7.070493e+02 1.805066e+02 0 0 0 1 0
P2: 7.070493e+02 0.0 6.040814e+02 4.575831e+01 0.0 7.070493e+02 1.805066e+02 -3.454157e-01 0.0 0.0 1.0 4.981016e-03
R0_rect: 9.999128e-01 1.009263e-02 -8.511932e-03 -1.012729e-02 9.999406e-01 -4.037671e-03 8.470675e-03 4.123522e-03 9.999556e-01
Tr_velo_to_cam: 6.927964e-03 -9.999722e-01 -2.757829e-03 -2.457729e-02 -1.162982e-03 2.749836e-03 -9.999955e-01 -6.127237e-02 9.999753e-01 6.931141e-03 -1.143899e-03 -3.321029e-01
"""  # noqa: E501
PEDESTRIAN = "Pedestrian 0.00 0 -0.20 712.40 143.00 810.73 307.92 1.89 0.48 1.20 1.84 1.47 8.41 0.01"
DONT_CARE = "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10"
#: A car 10 m ahead and 2 m to the right, its bottom 1.5 m below the camera, facing to the right (ry = 0).
CAR = "Car 0.25 1 0 100 110 200 210 1.6 1.8 4.0 2 1.5 10 0"


def scan(root: Path, calib: str, labels: str, points: np.ndarray | None = None) -> datasets.Dataset:
    """Return the reader of a tree of one scan."""
    for name in ("velodyne", "calib", "label_2"):
        (root / "training" / name).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets").mkdir(exist_ok=True)
    (root / "ImageSets" / "train.txt").write_text("000000\n")
    (root / "training/calib/000000.txt").write_text(calib)
    (root / "training/label_2/000000.txt").write_text(labels)
    points = np.array([[10.0, 0, 0, 0.5]]) if points is None else points
    points.astype("<f4").tofile(root / "training/velodyne/000000.bin")
    return datasets.load("kitti", root, "train")


def test_a_box_becomes_the_lidars(tmp_path: Path) -> None:
    sample = scan(tmp_path, PLAIN, f"{CAR}\n{DONT_CARE}\n")[0]
    # Camera (2, 1.5, 10) is lidar (10, -2, -1.5); the centre is 0.8 m higher; facing right is -90 degrees.
    expected = [10, -2, -1.5 + 0.8, 4.0, 1.8, 1.6, -math.pi / 2]
    assert sample["boxes"][0] == pytest.approx(expected, abs=1e-6)
    assert sample["boxes"][1].tolist() == [0] * 7
    assert sample["label"].tolist() == [0, 8]
    assert sample["occlusion"].tolist() == [1, -1]
    assert sample["truncation"] == pytest.approx([0.25, -1])
    assert sample["image_boxes"] == pytest.approx(
        np.array([[100, 110, 200, 210], [503.89, 169.71, 590.61, 190.13]])
    )
    assert kitti.CLASSES[8] == "DontCare"


@pytest.mark.parametrize(
    ("rotation", "heading"),
    [(-math.pi / 2, 0.0), (0.0, -math.pi / 2), (math.pi / 2, -math.pi), (3.0, 1.5708)],
)
def test_headings_turn_the_other_way(rotation: float, heading: float) -> None:
    if rotation == 3.0:
        heading = -3.0 - math.pi / 2 + 2 * math.pi
    box = kitti.Calibration(np.eye(4)[:3], np.eye(3), np.eye(4)[:3]).boxes(
        np.zeros((1, 3)), np.ones((1, 3)), np.array([rotation])
    )
    assert box[0, 6] == pytest.approx(heading)


def test_the_official_example(tmp_path: Path) -> None:
    """The box that other toolboxes state for this object."""
    sample = scan(tmp_path, OFFICIAL, PEDESTRIAN)[0]
    expected = [8.7314, -1.8559, -1.5997 + 1.89 / 2, 1.20, 0.48, 1.89, -0.01 - math.pi / 2]
    assert sample["boxes"][0] == pytest.approx(expected, abs=1e-4)
    # Its picture is where the label file says, which is drawn around the person alone.
    projection = sample["projection"].astype(np.float64)
    picture = geometry.to_image(sample["boxes"].astype(np.float64), projection, (370, 1224))
    assert picture == pytest.approx(sample["image_boxes"], abs=10)
    assert picture[0, [1, 3]] == pytest.approx([143.00, 307.92], abs=0.5)


def test_the_projection_gives_pixels(tmp_path: Path) -> None:
    sample = scan(tmp_path, PLAIN, CAR)[0]
    u, v, depth = sample["projection"] @ [10, -2, -1.5, 1]
    assert (u / depth, v / depth, depth) == pytest.approx((600 + 700 * 0.2, 180 + 700 * 0.15, 10))


def test_points_that_the_camera_does_not_see_are_dropped(tmp_path: Path) -> None:
    points = np.array(
        [
            [10, 0, 0, 0.1],  # ahead: pixel (600, 180)
            [-10, 0, 0, 0.2],  # behind, though its mirrored pixel is the same
            [7, 5.9, 0, 0.3],  # pixel (10, 180)
            [7, 6.1, 0, 0.4],  # pixel (-10, 180)
            [7, -6.4, 0, 0.5],  # pixel (1240, 180)
            [7, -6.43, 0, 0.6],  # pixel (1243, 180): the image is 1242 wide
            [7, 0, -1.94, 0.7],  # pixel (600, 374)
            [7, 0, -1.96, 0.8],  # pixel (600, 376): the image is 375 high
        ]
    )
    data = scan(tmp_path, PLAIN, CAR, points)
    assert data[0]["points"][:, 3] == pytest.approx([0.1, 0.3, 0.5, 0.7])
    assert data[0]["image_size"].tolist() == [375, 1242]
    everything = datasets.load("kitti", tmp_path, "train", in_image=False)
    assert everything[0]["points"] == pytest.approx(points)
    # An image beside the scan says its size.
    (tmp_path / "training" / "image_2").mkdir()
    Image.new("RGB", (1244, 377)).save(tmp_path / "training" / "image_2" / "000000.png")
    assert data[0]["image_size"].tolist() == [377, 1244]
    assert data[0]["points"][:, 3] == pytest.approx([0.1, 0.3, 0.5, 0.6, 0.7, 0.8])


def test_labels_undo_boxes() -> None:
    rng = np.random.default_rng(0)
    boxes = np.concatenate(
        [rng.uniform(-30, 30, (50, 3)), rng.uniform(0.5, 5, (50, 3)), rng.uniform(-np.pi, np.pi, (50, 1))],
        axis=1,
    )
    rows = dict(line.split(":") for line in OFFICIAL.splitlines())
    matrix = {k: np.array(v.split(), float) for k, v in rows.items()}
    calibration = kitti.Calibration(
        matrix["P2"].reshape(3, 4), matrix["R0_rect"].reshape(3, 3), matrix["Tr_velo_to_cam"].reshape(3, 4)
    )
    location, size, rotation = calibration.labels(boxes)
    assert size == pytest.approx(boxes[:, [5, 4, 3]])
    assert calibration.boxes(location, size, rotation) == pytest.approx(boxes, abs=1e-5)


def test_a_scan_without_objects(tmp_path: Path) -> None:
    sample = scan(tmp_path, PLAIN, "\n")[0]
    assert sample["boxes"].shape == (0, 7)
    assert sample["image_boxes"].shape == (0, 4)
    assert sample["label"].shape == (0,)


@pytest.mark.parametrize(
    "line",
    [
        "Car 0.25 1 0 100 110 200 210 1.6 1.8 4.0 2 1.5 10",  # 14 columns
        CAR + " 0.9",  # 16: a result, with its score
        CAR.replace("Car", "Tractor"),
        CAR.replace("1.8", "wide"),
        CAR.replace("1.8", "nan"),
        CAR.replace("1.8", "-1.8"),
        CAR.replace("1.8", "1e300"),
        CAR.replace("0.25", "1.5"),
        CAR.replace(" 1 0 ", " 7 0 "),
        "\x00\x01",
    ],
)
def test_a_damaged_label_is_named(line: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"label_2/000000\.txt: line 2"):
        scan(tmp_path, PLAIN, f"{CAR}\n{line}\n")[0]


@pytest.mark.parametrize(
    ("calib", "message"),
    [
        ("", "P2 has 0 numbers; expected 12"),
        (PLAIN.replace("R0_rect: 1", "R0_rect:"), "R0_rect has 8 numbers; expected 9"),
        (PLAIN.replace("700", "x"), "P2: could not convert"),
        (PLAIN.replace("700", "inf"), "not finite"),
        (PLAIN.replace("Tr_velo_to_cam: 0 -1", "Tr_velo_to_cam: 0 0"), "singular"),
    ],
)
def test_a_damaged_calibration_is_named(calib: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=rf"calib/000000\.txt: .*{message}"):
        scan(tmp_path, calib, CAR)[0]


#: Points around, below the sensor.
CLOUD = np.array([[12.0, -4, -1.5, 0], [30, 7, -1.6, 1], [5, -1, -1.7, 0.5]])


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((0, 4)), "the file is empty"),
        (np.zeros(7), "28 bytes"),
        (np.array([[1.0, 2, np.nan, 0]]), "not finite"),
        (np.array([[1.0, 2, 3, 0], [-np.inf, 2, 3, 0]]), "not finite"),
        (np.array([[1.0, 2, 3e30, 0]]), "not finite, or farther"),
        (CLOUD * [1, 1, 1, 255], "reflectance goes from 0 to 255; expected 0 to 1; divide it by 255"),
        (CLOUD - [0, 0, 0, 0.5], r"reflectance goes from -0\.5 to 0\.5; expected 0 to 1.$"),
        (np.insert(CLOUD, 4, 3, axis=1), "points have 5 columns; expected 4"),  # 60 bytes
        (np.insert(np.tile(CLOUD, (4, 1)), 4, 3, axis=1), "points have 5 columns"),  # a multiple of 16
        (np.insert(CLOUD, [4, 4], [3, 0.1], axis=1), "points have 6 columns"),
    ],
)
def test_a_damaged_point_cloud_is_named(points: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=rf"velodyne/000000\.bin: .*{message}"):
        scan(tmp_path, PLAIN, CAR, points)[0]


def test_too_many_points_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kitti, "MAX_POINTS", 2)
    data = scan(tmp_path, PLAIN, CAR, np.ones((3, 4)))
    with pytest.raises(DatasetError, match="48 bytes; expected 16 for each of 1 to 2 points"):
        data[0]


def test_what_limits_apply_to_is_as_the_file_has_it(tmp_path: Path) -> None:
    """float32 has 0.30 above 0.3, and 182.9 - 142.9 below 40."""
    line = "Car 0.30 0 0 100 142.9 200 182.9 1.6 1.8 4.0 2 1.5 10 0"
    sample = scan(tmp_path, PLAIN, line)[0]
    assert sample["truncation"][0] == 0.30
    assert sample["image_boxes"][0].tolist() == [100, 142.9, 200, 182.9]


def test_repeated_and_shared_scans_are_refused(grown: Callable[[str], Path]) -> None:
    root = grown("kitti")
    train, val = (root / "ImageSets" / f"{split}.txt" for split in ("train", "val"))
    before = val.read_text()
    val.write_text(before + train.read_text().split()[2] + "\n")
    for split in ("train", "val"):
        with pytest.raises(
            DatasetError, match=r"share 1 scans, 000002 among them; expected splits that share"
        ):
            datasets.load("kitti", root, split)
    val.write_text(before * 2)
    with pytest.raises(DatasetError, match=r"val\.txt: 000004 stands there twice"):
        datasets.load("kitti", root, "val")


@pytest.mark.parametrize("content", ["../../etc/passwd\n", "000000 a/b\n"])
def test_a_list_names_scans_only(content: str, grown: Callable[[str], Path]) -> None:
    root = grown("kitti")
    (root / "ImageSets" / "train.txt").write_text(content)
    with pytest.raises(DatasetError, match="is not a scan's number"):
        datasets.load("kitti", root, "train")
