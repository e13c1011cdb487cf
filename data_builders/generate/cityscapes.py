"""A generated stand-in for Cityscapes: plain streets seen from a car, with their labels.

A scene is laid out in metres and drawn far to near with one pinhole camera, as flat figures of one colour
each, with a texture over them. Every pixel knows its figure, so a label is exact. All evaluated classes
occur, and two that the evaluation ignores: the car's own bonnet, and parking places.

Sizes: `MINI` suits trials on a CPU: 64 x 128 pixels.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench_mr.data_builders.datasets.base import new_folder
from nasbench_mr.data_builders.datasets.images import Cityscapes
from nasbench_mr.data_builders.generate import base as generate
from nasbench_mr.extras import requires

#: Options for scenes that suit trials of seconds.
MINI: dict[str, object] = {"train": 300, "val": 100, "size": (64, 128)}

_ID: dict[str, int] = {**Cityscapes.LABEL_IDS, "ego vehicle": 1, "parking": 9}
_CITIES = {"train": ("altstadt", "hafenstadt", "neustadt"), "val": ("bergstadt", "seestadt")}
#: Height of the camera above the ground, and the nearest and farthest distances drawn, metres.
_EYE, _NEAR, _FAR = 1.3, 1.2, 300.0
#: What stands about: width, lowest and highest place (metres), whether it is round, where it may stand
#: (metres from the road's middle), and how often in a scene.
_THINGS: dict[str, tuple[float, float, float, bool, tuple[float, float], float]] = {
    "building": (14, 0, 14, False, (15, 22), 12),
    "wall": (8, 0, 2.2, False, (9, 12), 1),
    "fence": (8, 0, 1.4, False, (9, 12), 1),
    "vegetation": (4, 1.2, 7, True, (8, 12), 4),
    "pole": (0.25, 0, 6, False, (5.2, 5.8), 3),
    "traffic light": (0.6, 2.3, 3.5, False, (5.2, 5.8), 1),
    "traffic sign": (0.8, 2.0, 2.8, True, (5.2, 5.8), 1),
    "car": (1.8, 0.1, 1.6, False, (1.5, 4), 4),
    "truck": (2.5, 0.2, 3.4, False, (1.5, 4), 0.6),
    "bus": (2.5, 0.2, 3.1, False, (1.5, 4), 0.6),
    "train": (2.7, 0.2, 3.6, False, (1.5, 4), 0.5),
    "motorcycle": (0.8, 0, 1.1, True, (1, 5), 0.8),
    "bicycle": (1.6, 0, 1.0, True, (1, 5), 0.8),
    "person": (0.6, 0, 1.8, True, (5.5, 8), 3),
    "rider": (0.6, 0.5, 2.1, True, (1, 5), 0.8),
}  # fmt: skip


def make(
    root: str | os.PathLike[str],
    train: int = 32,
    val: int = 8,
    seed: int = 0,
    *,
    size: tuple[int, int] = (256, 512),
    workers: int = 1,
    progress: bool = False,
) -> Path:
    """Make the data set in the new folder `root`.

    Args:
        train, val: scenes of each split.
        seed: the same one gives the same files.
        size: height and width of the images; Cityscapes has (1024, 2048).
        workers: processes.
        progress: show a bar on stderr, if that is a terminal.
    """
    generate.need(train, "train", 1, 100_000)
    generate.need(val, "val", 1, 100_000)
    for side in size:
        generate.need(side, "size", 32, 2048)
    with new_folder(root) as folder:
        jobs = []
        for number, (split, count) in enumerate((("train", train), ("val", val))):
            cities = _CITIES[split]
            for k in range(count):
                city = cities[k % len(cities)]
                jobs.append((number, k, folder, f"{split}/{city}", f"{city}_{k // len(cities):06}_000019"))
        for top in ("leftImg8bit", "gtFine"):
            for place in {place for _, _, _, place, _ in jobs}:
                (folder / top / place).mkdir(parents=True)
        generate.each(
            functools.partial(_write, seed, size), jobs, "cityscapes", workers=workers, progress=progress
        )
    return Path(root)


def _write(seed: int, size: tuple[int, int], job: tuple[int, int, Path, str, str]) -> None:
    with requires("build", "writing images"):
        from PIL import Image
    split, index, folder, place, name = job
    photo, labels = street(generate.stream(seed, split, index), size)
    Image.fromarray(photo).save(folder / "leftImg8bit" / place / f"{name}_leftImg8bit.png")
    Image.fromarray(labels).save(folder / "gtFine" / place / f"{name}_gtFine_labelIds.png")


class _Canvas:
    """Figures drawn over one another; `figures` has their labels and colours, `pixels` their numbers."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]):
        from PIL import Image, ImageDraw

        self.height, self.width = size
        self.focal = 1.1 * self.width
        self.middle = self.width * rng.uniform(0.42, 0.58)
        self.horizon = self.height * rng.uniform(0.42, 0.52)
        self.figures: list[tuple[int, npt.NDArray[np.float64]]] = []
        self._image = Image.new("I", (self.width, self.height))
        self._draw: Any = ImageDraw.Draw(self._image)

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Return the column and row of a place: metres to the right, above the ground, ahead."""
        scale = self.focal / max(z, _NEAR)
        return self.middle + x * scale, self.horizon + (_EYE - y) * scale

    def fill(
        self,
        label: str,
        colour: npt.NDArray[np.float64],
        pixels: Sequence[tuple[float, float]],
        round_: bool = False,
    ) -> None:
        """Draw a polygon, or the ellipse between two corners, given in (column, row)."""
        draw = self._draw.ellipse if round_ else self._draw.polygon
        draw(pixels, fill=len(self.figures))
        self.figures.append((_ID[label], colour))

    @property
    def pixels(self) -> npt.NDArray[np.int32]:
        """`(H, W)`: the number of the figure at each pixel."""
        return np.array(self._image)


def street(
    rng: np.random.Generator, size: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw one scene: the photo `(H, W, 3)` and its labelIds `(H, W)`."""
    canvas = _Canvas(rng, size)
    kerb, front, right, bottom = 5.0, 9.0, canvas.width, canvas.height
    canvas.fill("sky", rng.uniform(0.6, 0.95, 3), [(0, 0), (right, 0), (right, bottom), (0, bottom)])

    def strip(a: float, b: float, label: str, grey: float, near: float = _NEAR, far: float = _FAR) -> None:
        places = [(a, near), (a, far), (b, far), (b, near)]
        colour = grey + rng.normal(0, 0.04, 3) + (label == "terrain") * np.array([-0.1, 0.1, -0.1])
        canvas.fill(label, colour, [canvas.project(x, 0, z) for x, z in places])

    strip(-400, 400, "terrain", 0.35)
    strip(-front, front, "sidewalk", 0.55)
    strip(-kerb, kerb, "road", 0.35)
    strip(kerb - 2, kerb, "parking", 0.45, start := rng.uniform(5, 20), start + 15)
    things = [
        (rng.uniform(4, 45) * (3 if name == "building" else 1), name)
        for name, (*_, often) in _THINGS.items()
        for _ in range(rng.poisson(often))
    ]
    for z, name in sorted(things, reverse=True):
        width, low, high, round_, (near, far), _ = _THINGS[name]
        x = rng.choice([-1, 1]) * rng.uniform(near, far)
        width, high = width * rng.uniform(0.8, 1.2), low + (high - low) * rng.uniform(0.8, 1.2)
        (left, top), (r, b) = canvas.project(x - width / 2, high, z), canvas.project(x + width / 2, low, z)
        # Leaves are green, the rest has any colour, darker than the sky.
        colour = rng.uniform(0.05, 0.6, 3) * ([0.5, 1.2, 0.4] if name == "vegetation" else 1)
        corners = [(left, top), (r, b)] if round_ else [(left, top), (r, top), (r, b), (left, b)]
        canvas.fill(name, colour, corners, round_)
    bonnet = bottom * (1 - rng.uniform(0.03, 0.06))
    canvas.fill("ego vehicle", np.full(3, 0.12), [(0, bottom), (0, bonnet), (right, bonnet), (right, bottom)])
    labels, colours = (np.array(column) for column in zip(*canvas.figures, strict=True))
    waves = generate.Waves(rng, (0.02 * right, 0.2 * right), contrast=0.05)
    texture = waves(*np.meshgrid(np.arange(0.0, right), np.arange(0.0, bottom))) - waves.mean
    light, noise = rng.uniform(0.65, 1.15), rng.normal(0, rng.uniform(0.005, 0.03), (*size, 3))
    photo = colours[canvas.pixels] * light + texture + noise
    return generate.to_uint8(photo), labels.astype(np.uint8)[canvas.pixels]
