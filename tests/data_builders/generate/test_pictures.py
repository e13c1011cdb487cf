"""The generators of photos and clips: what is drawn, and what a seed fixes."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasbench_mr.data_builders import datasets, generate
from nasbench_mr.data_builders.datasets.base import new_folder
from nasbench_mr.data_builders.generate import cityscapes as make_cityscapes
from nasbench_mr.data_builders.generate import hmdb51 as make_hmdb51
from nasbench_mr.data_builders.generate import imagenet as make_imagenet
from nasbench_mr.errors import InvalidArgumentError

Trees = dict[str, tuple[Path, dict[str, Any]]]
SMALL: dict[str, dict[str, Any]] = {
    "imagenet": {"train": 2, "val": 1, "classes": 3, "size": 20},
    "cityscapes": {"train": 3, "val": 1, "size": (32, 64)},
    "hmdb51": {"train": 2, "val": 1, "classes": 2, "length": 3, "size": (16, 16)},
}


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_fixes_every_byte(name: str, tmp_path: Path) -> None:
    def bytes_of(folder: str, **changes: Any) -> dict[str, bytes]:
        root = generate.make(name, tmp_path / folder, **(SMALL[name] | changes))
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    first = bytes_of("a")
    assert bytes_of("b") == first
    other = bytes_of("c", seed=1)
    assert other.keys() == first.keys()
    samples = [k for k in first if not k.endswith(".txt")]
    assert all(other[k] != first[k] for k in samples)
    assert len({first[k] for k in samples}) == len(samples)
    more = bytes_of("d", train=SMALL[name]["train"] + 1)
    # In HMDB51 the folds share out one numbered list.
    kept = [k for k in samples if name != "hmdb51" or "00002" not in k]
    assert all(more[k] == first[k] for k in kept if "ILSVRC2012_val" not in k)


def test_imagenet_names_its_classes(trees: Trees) -> None:
    root, _ = trees["imagenet"]
    lines = (root / "LOC_synset_mapping.txt").read_text().splitlines()
    assert lines[:3] == ["n90000000 red disc", "n90000001 green square", "n90000002 azure ring"]
    assert sorted(p.name for p in (root / "train").iterdir()) == [line.split()[0] for line in lines]
    assert (root / "val" / "n90000001" / "ILSVRC2012_val_00000003.JPEG").is_file()
    assert len({make_imagenet.class_parts(k) for k in range(50)}) == 50


def test_imagenet_images_differ_in_size(trees: Trees) -> None:
    sizes = {Image.open(p).size for p in (trees["imagenet"][0] / "train").rglob("*.JPEG")}
    assert len(sizes) > 5
    assert all(19 <= side <= 30 for size in sizes for side in size)  # 24 pixels, four fifths to five quarters


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("disc", np.pi * 0.9**2),
        ("square", 1.6**2),
        ("ring", np.pi * (0.95**2 - 0.5**2)),
        ("bar", 1.9 * 0.6),
    ],
)
def test_shapes_have_their_areas(shape: str, area: float) -> None:
    y, x = np.mgrid[-1.5:1.5:600j, -1.5:1.5:600j]  # type: ignore[misc]
    inside = make_imagenet._SHAPES[shape](x, y) > 0
    assert inside.mean() * 9 == pytest.approx(area, rel=0.01)


def test_an_image_shows_its_class_colour() -> None:
    for label, hue in enumerate((0.0, 0.3, 0.6)):  # red, green, azure
        photos = [make_imagenet.picture(np.random.default_rng(k), label, 40) for k in range(10)]
        pixels = np.concatenate([p.reshape(-1, 3) for p in photos]) / 255
        vivid = pixels[np.ptp(pixels, axis=1) > 0.45]
        away = np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in vivid]) - hue
        assert np.median(np.abs((away + 0.5) % 1 - 0.5)) < 0.05


def test_a_filled_figure_is_labelled_exactly() -> None:
    canvas = make_cityscapes._Canvas(np.random.default_rng(0), (40, 80))
    canvas.fill("sky", np.zeros(3), [(0, 0), (80, 0), (80, 40), (0, 40)])
    canvas.fill("car", np.ones(3), [(10, 5), (10, 14), (29, 14), (29, 5)])
    # What lies outside of the image does no harm.
    canvas.fill("car", np.ones(3), [(-50, -9), (-50, -2), (-20, -3)])
    expected = np.zeros((40, 80), np.uint8)
    expected[5:15, 10:30] = 1
    assert np.array_equal(canvas.pixels, expected)
    assert [label for label, _ in canvas.figures] == [23, 26, 26]


def test_places_are_projected_by_one_camera() -> None:
    canvas = make_cityscapes._Canvas(np.random.default_rng(0), (40, 80))
    # At the camera's height: on the horizon, whatever the distance. 88 pixels of focal length.
    assert canvas.project(0, 1.3, 10) == (canvas.middle, canvas.horizon)
    assert canvas.project(2, 0, 11) == pytest.approx((canvas.middle + 16, canvas.horizon + 1.3 * 8))


def test_streets_have_all_classes_where_they_belong() -> None:
    counts = np.zeros(34, int)
    rows: dict[int, list[float]] = {7: [], 23: []}
    for seed in range(40):
        photo, labels = make_cityscapes.street(np.random.default_rng(seed), (48, 96))
        assert photo.shape == (48, 96, 3)
        assert photo.std() > 10
        counts += np.bincount(labels.ravel(), minlength=34)
        for label, found in rows.items():
            if (labels == label).any():
                found.append(float(np.nonzero(labels == label)[0].mean()))
    evaluated = list(make_cityscapes.Cityscapes.LABEL_IDS.values())
    assert set(np.flatnonzero(counts)) == {*evaluated, 1, 9}
    assert counts[7] > 0.15 * counts.sum()  # the road
    # Sky above the horizon, which is near the middle; the road below.
    assert max(rows[23]) < 24 < min(rows[7])


def placed(path: np.ndarray, radius: float = 0.3) -> np.ndarray:
    """White figures on black, moved along a path: `(T, 40, 40)`."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:40, :40] / 40
    x, y = (np.broadcast_to(a, (path.shape[1], 40, 40)) for a in (x, y))
    black = np.zeros((path.shape[1], 40, 40, 3))
    return make_hmdb51._placed(rng, black, x, y, path, radius, 1.0).mean(-1)


def test_a_figure_moves_along_its_path() -> None:
    path = np.zeros((4, 3))
    path[0] = [0, 0.1, 0.7]  # of the frame: 0, 4 and 28 pixels; around the border
    path[1] = [0, -0.2, 0]
    frames = placed(path)
    assert frames[1] == pytest.approx(np.roll(frames[0], (-8, 4), (0, 1)), abs=1e-4)
    assert frames[2] == pytest.approx(np.roll(frames[0], 28, 1), abs=1e-4)


def test_without_clutter_a_bright_figure_moves_on_dark_ground() -> None:
    motion = make_hmdb51.MOTIONS["run_right"]
    for seed in range(5):
        clip = make_hmdb51.clip(np.random.default_rng(seed), motion, 4, (32, 32), clutter=0.0).mean(-1) / 255
        dark, bright = clip < 0.27, clip > 0.45
        assert bright.mean() > 0.1
        # Between the two lies the soft edge alone.
        assert (dark | bright).mean() > 0.9
        assert dark.mean() > 0.5


def test_a_figure_turns_and_grows() -> None:
    path = np.zeros((4, 3))
    path[2, 1] = 2 * np.pi
    path[3, 2] = np.log(2) / 2
    frames = placed(path, 0.2)
    assert frames[1] == pytest.approx(frames[0], abs=1e-4)
    # The area doubles with half its logarithm added to the radius.
    assert (frames[2] > 0.02).sum() / (frames[0] > 0.02).sum() == pytest.approx(2, rel=0.08)
    path[2, 1] = 0.3
    assert np.abs(placed(path, 0.2)[1] - frames[0]).max() > 0.1


def test_the_classes_are_motions() -> None:
    """What each does between two frames: mean steps over many draws."""
    t = np.arange(8.0)
    steps = {}
    for name, motion in make_hmdb51.MOTIONS.items():
        paths = np.stack([motion(np.random.default_rng(k), t) for k in range(200)])
        steps[name] = np.diff(paths, axis=2).mean((0, 2))
        assert paths.shape == (200, 4, 8)
    for name, (which, low, high) in {
        "walk_left": (0, -0.022, -0.018),
        "walk_right": (0, 0.018, 0.022),
        "run_left": (0, -0.065, -0.06),
        "run_right": (0, 0.06, 0.065),
        "climb": (1, -0.042, -0.038),
        "fall": (1, 0.038, 0.042),
        "turn_left": (2, -0.18, -0.16),
        "turn_right": (2, 0.16, 0.18),
        "approach": (3, 0.05, 0.055),
        "recede": (3, -0.055, -0.05),
    }.items():
        assert low < steps[name][which] < high
        assert not np.delete(steps[name], which).any()
    for name in ("shake", "bounce", "swing", "circle", "stop_and_go"):
        assert np.abs(steps[name]).max() < 0.02
    assert not steps["still"].any()


def test_where_a_figure_is_says_nothing() -> None:
    """The mean frame of a class is even at every time, for a class that moves most: places are uniform."""
    clips = [
        make_hmdb51.clip(np.random.default_rng(k), make_hmdb51.MOTIONS["run_left"], 4, (16, 16))
        for k in range(300)
    ]
    contrast = np.abs(np.stack(clips).astype(float) - np.median(clips, axis=(2, 3), keepdims=True)).mean(
        (0, 4)
    )
    columns = contrast.mean(1)  # (4, 16): by time and column
    assert columns.std() / columns.mean() < 0.06


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("imagenet", {"classes": 51}, "classes is 51; expected 2 to 50"),
        ("imagenet", {"size": 0}, "size is 0"),
        ("cityscapes", {"size": (8, 64)}, "size is 8"),
        ("cityscapes", {"size": 64}, "option size is 64; expected tuple"),
        ("hmdb51", {"size": (32, 33)}, "size modulo 2 is 1"),
        ("hmdb51", {"classes": 17}, "classes is 17; expected 2 to 16"),
        ("hmdb51", {"length": 0}, "length is 0"),
    ],
)
def test_what_cannot_be_made_is_refused(
    name: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        generate.make(name, tmp_path / "x", **options)
    assert not any(p.name != "home" for p in tmp_path.iterdir())


@pytest.mark.parametrize("name", generate.names())
def test_mini_options_are_options(name: str) -> None:
    datasets.check_options(generate.maker(name), generate.mini(name))
    assert {"train", "val"} <= set(generate.mini(name))


def test_a_failed_generator_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "x") as folder:
            (folder / "half").touch()
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        fill()
    assert [p.name for p in tmp_path.iterdir() if p.name != "home"] == []
