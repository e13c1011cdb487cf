"""A generated stand-in for an ImageNet subset: coloured shapes before textured backgrounds.

A class is a shape of a hue, such as a red disc; shade, size, place, orientation, background and noise vary
within it. Files are laid out and named as ImageNet's are, with the list of the classes in
`LOC_synset_mapping.txt`; images differ in size, as photos do.

Sizes: `MINI` suits trials on a CPU, read with `size=(32, 32)`.
"""

from __future__ import annotations

import colorsys
import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nasbench_mr.arrays import Floats
from nasbench_mr.data_builders.datasets.base import new_folder
from nasbench_mr.data_builders.generate import base as generate
from nasbench_mr.extras import requires

#: Options for images that suit trials of seconds.
MINI: dict[str, object] = {"train": 200, "val": 50, "classes": 10, "size": 40}

#: Ten hues, a tenth of the circle apart.
_HUES = ("red", "orange", "yellow", "green", "emerald", "cyan", "azure", "blue", "purple", "pink")
#: Shapes of about radius 1: how far a place lies within, negative outside.
_SHAPES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "disc": lambda x, y: 0.9 - np.hypot(x, y),
    "square": lambda x, y: 0.8 - np.maximum(np.abs(x), np.abs(y)),
    "ring": lambda x, y: np.minimum(0.95 - np.hypot(x, y), np.hypot(x, y) - 0.5),
    "bar": lambda x, y: np.minimum(0.95 - np.abs(x), 0.3 - np.abs(y)),
    "bowl": lambda x, y: np.minimum(0.95 - np.hypot(x, y), y + 0.1),
}


def class_parts(index: int) -> tuple[str, str]:
    """Return the hue and shape of the class with this number; consecutive classes differ in both."""
    shapes = list(_SHAPES)
    return _HUES[(3 * index + index // 10) % len(_HUES)], shapes[index % len(shapes)]


def make(
    root: str | os.PathLike[str],
    train: int = 40,
    val: int = 10,
    seed: int = 0,
    *,
    classes: int = 50,
    size: int = 128,
    workers: int = 1,
    progress: bool = False,
) -> Path:
    """Make the data set in the new folder `root`.

    Args:
        train, val: images of each class in each split.
        seed: the same one gives the same files.
        classes: how many, at most 50.
        size: mean side of the images, pixels; sides are up to a quarter longer or shorter.
        workers: processes.
        progress: show a bar on stderr, if that is a terminal.
    """
    generate.need(train, "train", 1, 100_000)
    generate.need(val, "val", 1, 100_000)
    generate.need(classes, "classes", 2, len(_SHAPES) * len(_HUES))
    generate.need(size, "size", 16, 2048)
    synsets = [f"n{90000000 + k}" for k in range(classes)]
    with new_folder(root) as folder:
        names = (f"{s} {' '.join(class_parts(k))}\n" for k, s in enumerate(synsets))
        (folder / "LOC_synset_mapping.txt").write_text("".join(names))
        jobs = []
        for label, synset in enumerate(synsets):
            for split, count in ((0, train), (1, val)):
                target = folder / ("train", "val")[split] / synset
                target.mkdir(parents=True)
                for k in range(count):
                    name = f"ILSVRC2012_val_{label * count + k + 1:08}" if split else f"{synset}_{k}"
                    jobs.append((split, label, k, target / f"{name}.JPEG"))
        generate.each(
            functools.partial(_write, seed, size), jobs, "imagenet", workers=workers, progress=progress
        )
    return Path(root)


def _write(seed: int, size: int, job: tuple[int, int, int, Path]) -> None:
    with requires("build", "writing images"):
        from PIL import Image
    split, label, index, path = job
    rng = generate.stream(seed, split, label, index)
    Image.fromarray(picture(rng, label, size)).save(path, quality=90)


def picture(rng: np.random.Generator, label: int, size: int) -> npt.NDArray[np.uint8]:
    """Draw one image of a class: `(height, width, 3)`."""
    hue, shape = class_parts(label)
    height, width = (int(s) for s in np.round(size * rng.uniform(0.8, 1.25, 2)))
    short = min(height, width)
    y, x = np.mgrid[:height, :width] / short
    radius = rng.uniform(0.2, 0.4)
    where = rng.uniform(radius, np.array([width, height]) / short - radius)
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn) / radius, np.sin(turn) / radius
    u, v = (x - where[0]) * cos + (y - where[1]) * sin, (y - where[1]) * cos - (x - where[0]) * sin
    inside = np.clip(_SHAPES[shape](u, v) * radius * short + 0.5, 0, 1)[..., None]
    number = _HUES.index(hue) + rng.uniform(-0.3, 0.3)
    colour = np.array(colorsys.hsv_to_rgb(number / len(_HUES) % 1, rng.uniform(0.7, 1), rng.uniform(0.6, 1)))
    ground = generate.Waves(rng, (0.1, 1.2))(x, y)
    noise = rng.normal(0, rng.uniform(0.01, 0.05), ground.shape)
    return generate.to_uint8(ground * (1 - inside) + colour * inside + noise)
