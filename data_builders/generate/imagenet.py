"""A generated stand-in for an ImageNet subset: textured shapes before textured backgrounds.

A class is a shape with a pattern, such as a striped star; colours, size, place, orientation, background,
light and noise vary within it, and smaller shapes of any kind stand about. Files are laid out and named as
ImageNet's are, with the list of the classes in `LOC_synset_mapping.txt`; images differ in size, as photos do.

Sizes: `MINI` suits trials on a CPU, read with `size=(32, 32)`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nasbench_mr.data_builders.datasets.base import new_folder
from nasbench_mr.data_builders.generate import base as generate
from nasbench_mr.data_builders.generate.base import Floats
from nasbench_mr.errors import missing_extra

#: Options for images that suit trials of seconds.
MINI: dict[str, object] = {"train": 200, "val": 50, "classes": 10, "size": 40}


def _polygon(x: Floats, y: Floats, corners: int) -> Floats:
    sector = 2 * np.pi / corners
    angle = np.arctan2(y, x) % sector - sector / 2
    return np.asarray(np.cos(sector / 2) - np.hypot(x, y) * np.cos(angle))


def _star(x: Floats, y: Floats) -> Floats:
    spike = np.abs((np.arctan2(y, x) / (2 * np.pi) * 5) % 1 - 0.5) * 2  # 1 at the tips
    return np.asarray(0.42 + 0.58 * spike - np.hypot(x, y))


def _crescent(x: Floats, y: Floats) -> Floats:
    return np.asarray(np.minimum(1 - np.hypot(x, y), np.hypot(x - 0.5, y) - 0.75))


def _cross(x: Floats, y: Floats) -> Floats:
    a, b = np.abs(x), np.abs(y)
    return np.asarray(np.maximum(np.minimum(0.95 - a, 0.3 - b), np.minimum(0.3 - a, 0.95 - b)))


#: Shapes of about radius 1: how far a place lies within, negative outside.
_SHAPES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "disc": lambda x, y: 0.9 - np.hypot(x, y),
    "square": lambda x, y: 0.8 - np.maximum(np.abs(x), np.abs(y)),
    "triangle": lambda x, y: _polygon(x, y, 3),
    "star": _star,
    "cross": _cross,
    "ring": lambda x, y: np.minimum(0.95 - np.hypot(x, y), np.hypot(x, y) - 0.5),
    "crescent": _crescent,
    "bowl": lambda x, y: np.minimum(0.95 - np.hypot(x, y), y + 0.1),
    "oval": lambda x, y: 0.45 * (1 - np.hypot(x, y / 0.45)),
    "hexagon": lambda x, y: _polygon(x, y, 6),
}
#: Patterns: where one colour gives way to the other, as a soft sign; a unit is the shape's radius.
_PATTERNS: dict[str, Callable[[Floats, Floats, float], Floats]] = {
    "striped": lambda x, y, f: np.sin(f * x),
    "chequered": lambda x, y, f: 1.6 * np.sin(f * x) * np.sin(f * y),
    "dotted": lambda x, y, f: np.cos(f * x) + np.cos(f * y) - 0.7,
    "ringed": lambda x, y, f: np.sin(f * np.hypot(x, y)),
    "plain": lambda x, y, f: np.full(x.shape, 1.0),
}


def class_parts(index: int) -> tuple[str, str]:
    """Pattern and shape of the class with this number; consecutive classes differ in both."""
    shapes, patterns = list(_SHAPES), list(_PATTERNS)
    return patterns[(index // len(shapes) + index) % len(patterns)], shapes[index % len(shapes)]


def make(
    root: str | os.PathLike[str],
    train: int = 40,
    val: int = 10,
    seed: int = 0,
    classes: int = 50,
    size: int = 128,
    workers: int = 1,
    progress: bool = False,
) -> Path:
    """Makes the data set in the new folder `root`.

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
    generate.need(classes, "classes", 2, len(_SHAPES) * len(_PATTERNS))
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
        generate.each(functools.partial(_write, seed, size), jobs, "imagenet", workers, progress)
    return Path(root)


def _write(seed: int, size: int, job: tuple[int, int, int, Path]) -> None:
    try:
        from PIL import Image
    except ImportError:
        raise missing_extra("pillow", "build", "writing images") from None
    split, label, index, path = job
    rng = generate.stream(seed, split, label, index)
    Image.fromarray(picture(rng, label, size)).save(path, quality=90)


def picture(rng: np.random.Generator, label: int, size: int) -> npt.NDArray[np.uint8]:
    """One image of a class: `(height, width, 3)`."""
    height, width = (int(s) for s in np.round(size * rng.uniform(0.8, 1.25, 2)))
    y, x = np.mgrid[:height, :width] / min(height, width)
    edge = 1 / min(height, width)
    image = generate.Waves(rng, (0.1, 1.2), sharp=float(rng.choice([0.0, 2.0])))(x, y)
    right, bottom = width * edge, height * edge
    for _ in range(rng.integers(4)):
        other = class_parts(int(rng.integers(len(_SHAPES) * len(_PATTERNS))))
        where = rng.uniform(0, (right, bottom))
        image = _drawn(rng, image, x, y, other, where, rng.uniform(0.06, 0.13), edge)
    radius = float(generate.log_uniform(rng, 0.2, 0.45, 1)[0])
    inset = np.minimum(radius * 0.8, 0.45)
    where = rng.uniform((inset, inset), (right - inset, bottom - inset))
    image = _drawn(rng, image, x, y, class_parts(label), where, radius, edge)
    # Light falls off across the scene.
    tilt = rng.normal(0, 0.15, 2)
    light = rng.uniform(0.75, 1.2) * (1 + tilt[0] * (x - right / 2) + tilt[1] * (y - bottom / 2))
    noise = rng.normal(0, rng.uniform(0.01, 0.05), image.shape)
    return generate.to_uint8(image * light[..., None] + noise)


def _drawn(
    rng: np.random.Generator,
    image: Floats,
    x: Floats,
    y: Floats,
    parts: tuple[str, str],
    where: Floats,
    radius: float,
    edge: float,
) -> Floats:
    """The image with a shape in front."""
    pattern, shape = parts
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn) / radius, np.sin(turn) / radius
    u, v = (x - where[0]) * cos + (y - where[1]) * sin, (y - where[1]) * cos - (x - where[0]) * sin
    v = v * rng.uniform(0.85, 1.15)
    inside = np.clip(_SHAPES[shape](u, v) * radius / edge + 0.5, 0, 1)[..., None]
    # At least 2 pixels for each colour, however small the shape.
    frequency = min(rng.uniform(7, 13), np.pi * radius / (2 * edge))
    mix = np.clip(_PATTERNS[pattern](u, v, frequency) * 2 + 0.5, 0, 1)[..., None]
    first = rng.uniform(0, 1, 3)
    # The second colour is clearly lighter or darker.
    second = np.clip(first + np.where(first.mean() < 0.5, 1, -1) * rng.uniform(0.3, 0.6, 3), 0, 1)
    return np.asarray(image * (1 - inside) + (first * mix + second * (1 - mix)) * inside)
