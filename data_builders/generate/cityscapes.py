"""A generated stand-in for Cityscapes: streets seen from a car, with their labels.

A scene is laid out in metres and drawn far to near with one pinhole camera, photo and labels together, so
that a label is exact at every pixel: road, pavements, house fronts with windows, walls, fences, trees, sky,
vehicles, people, and riders on bicycles and motorcycles; the car's own bonnet and parking places have the ids
that the evaluation ignores. Materials, colours, light, haze and noise vary from scene to scene.

Sizes: `MINI` suits trials on a CPU: 64 x 128 pixels.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench_mr.data_builders.datasets.base import new_folder
from nasbench_mr.data_builders.datasets.images import Cityscapes
from nasbench_mr.data_builders.generate import base as generate
from nasbench_mr.data_builders.generate.base import Floats
from nasbench_mr.errors import missing_extra

#: Options for scenes that suit trials of seconds.
MINI: dict[str, object] = {"train": 300, "val": 100, "size": (64, 128)}

_ID: dict[str, int] = {**Cityscapes.LABEL_IDS, "ego vehicle": 1, "parking": 9}
_CITIES = {"train": ("altstadt", "hafenstadt", "neustadt"), "val": ("bergstadt", "seestadt")}
#: Height of the camera above the ground, metres.
_EYE = 1.3
#: Nearest and farthest distances drawn, metres.
_NEAR, _FAR = 1.2, 300.0

# Colours of pixels from their columns and rows: (n,) and (n,) to (n, 3).
_Paint = Callable[[Floats, Floats], Floats]


def make(
    root: str | os.PathLike[str],
    train: int = 32,
    val: int = 8,
    seed: int = 0,
    size: tuple[int, int] = (256, 512),
    workers: int = 1,
    progress: bool = False,
) -> Path:
    """Makes the data set in the new folder `root`.

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
        generate.each(functools.partial(_write, seed, size), jobs, "cityscapes", workers, progress)
    return Path(root)


def _write(seed: int, size: tuple[int, int], job: tuple[int, int, Path, str, str]) -> None:
    try:
        from PIL import Image
    except ImportError:
        raise missing_extra("pillow", "build", "writing images") from None
    split, index, folder, place, name = job
    photo, labels = street(generate.stream(seed, split, index), size)
    Image.fromarray(photo).save(folder / "leftImg8bit" / place / f"{name}_leftImg8bit.png")
    Image.fromarray(labels).save(folder / "gtFine" / place / f"{name}_gtFine_labelIds.png")


class _Canvas:
    """A photo and its labels, drawn together.

    Places are x to the right of the camera, y above the ground, z ahead, in metres.
    """

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]):
        from PIL import Image, ImageDraw

        self.rng = rng
        self.height, self.width = size
        self.image = np.zeros((*size, 3))
        self.labels = np.zeros(size, np.uint8)
        self.focal = 1.1 * self.width
        self.middle = self.width * rng.uniform(0.42, 0.58)
        self.horizon = self.height * rng.uniform(0.42, 0.52)
        self.haze = np.array([0.75, 0.78, 0.82]) * rng.uniform(0.8, 1.1)
        self.thickness = rng.uniform(30, 250)
        self._mask = Image.new("L", (self.width, self.height))
        self._draw: Any = ImageDraw.Draw(self._mask)

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Column and row of a place."""
        scale = self.focal / max(z, _NEAR)
        return self.middle + x * scale, self.horizon + (_EYE - y) * scale

    def fill(self, pixels: Sequence[tuple[float, float]], label: str, paint: _Paint, away: float) -> None:
        """Fills a polygon, given in pixels; `away` metres of haze lie before it."""
        left, top = (max(0, int(low)) for low in np.floor(np.min(pixels, 0)))
        right, bottom = (int(high) + 1 for high in np.ceil(np.max(pixels, 0)))
        right, bottom = min(right, self.width), min(bottom, self.height)
        if left >= right or top >= bottom:
            return
        self._draw.rectangle((left, top, right, bottom), fill=0)
        self._draw.polygon([(float(u), float(v)) for u, v in pixels], fill=1)
        inside = np.asarray(self._mask.crop((left, top, right, bottom)), np.bool_)
        v, u = np.nonzero(inside)
        u, v = u + left, v + top
        clear = np.exp(-away / self.thickness)
        self.image[v, u] = clear * paint(u.astype(float), v.astype(float)) + (1 - clear) * self.haze
        self.labels[v, u] = _ID[label]

    def plane(
        self,
        corners: Sequence[tuple[float, float, float]],
        label: str,
        paint: _Paint,
        away: float | None = None,
    ) -> None:
        """Fills a flat figure, given in metres."""
        distance = float(np.mean([c[2] for c in corners])) if away is None else away
        self.fill([self.project(*c) for c in corners], label, paint, distance)

    def box(
        self, x: float, z: float, width: float, low: float, high: float, label: str, paint: _Paint
    ) -> None:
        """Fills an upright rectangle that faces the camera; `x` is its middle."""
        a, b = x - width / 2, x + width / 2
        self.plane([(a, low, z), (a, high, z), (b, high, z), (b, low, z)], label, paint)

    def oval(
        self, x: float, y: float, z: float, width: float, height: float, label: str, paint: _Paint
    ) -> None:
        """Fills an ellipse that faces the camera, around a place."""
        turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        ring = np.stack([x + width / 2 * np.cos(turn), y + height / 2 * np.sin(turn)], axis=1)
        self.plane([(float(a), float(b), z) for a, b in ring], label, paint)

    def coat(self, colour: Sequence[float] | Floats, rough: float = 0.03, grain: float = 0.02) -> _Paint:
        """A colour with texture; `grain` is its size as a share of the photo's width."""
        waves = generate.Waves(self.rng, (grain * self.width / 2, grain * self.width * 2), contrast=rough)
        base = np.asarray(colour) + self.rng.normal(0, 0.03, 3)

        def paint(u: Floats, v: Floats) -> Floats:
            # Grey texture: the mean of the waves' channels about their mean.
            around = (waves(u, v) - waves.mean).mean(-1, keepdims=True)
            return np.asarray(base + around)

        return paint


def street(
    rng: np.random.Generator, size: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """One scene: the photo `(H, W, 3)` and its labelIds `(H, W)`."""
    canvas = _Canvas(rng, size)
    _sky(canvas)
    kerb = rng.uniform(3.5, 6.0)  # half the road's width
    front = kerb + rng.uniform(1.8, 4.5)  # where the houses stand
    _ground(canvas, kerb, front)
    things: list[tuple[float, Callable[[], None]]] = []
    for side in (-1, 1):
        _row(canvas, things, side, front)
        _furniture(canvas, things, side, kerb, front)
    _traffic(canvas, things, kerb, front)
    for _, draw in sorted(things, key=lambda thing: -thing[0]):
        draw()
    bonnet = size[0] * rng.uniform(0.0, 0.06)
    if bonnet > 1:
        u = np.linspace(0, size[1], 12)
        top = size[0] - bonnet * (1 - ((u - size[1] / 2) / (size[1] / 2)) ** 4)
        shape = [*zip(u.tolist(), top.tolist(), strict=True), (size[1], size[0]), (0, size[0])]
        canvas.fill(shape, "ego vehicle", canvas.coat([0.12, 0.12, 0.14]), 0)
    light = rng.uniform(0.65, 1.15) * (1 + rng.normal(0, 0.04, 3))
    noise = rng.normal(0, rng.uniform(0.005, 0.03), canvas.image.shape)
    return generate.to_uint8(_blurred(canvas.image) * light + noise), canvas.labels


def _blurred(image: Floats) -> Floats:
    """A lens is no better than about a pixel."""
    for axis in (0, 1):
        before, after = np.roll(image, 1, axis), np.roll(image, -1, axis)
        edge = [slice(None)] * 3
        edge[axis] = slice(1, -1)
        image = image.copy()
        image[tuple(edge)] = (0.2 * before + 0.6 * image + 0.2 * after)[tuple(edge)]
    return image


def _sky(canvas: _Canvas) -> None:
    rng = canvas.rng
    zenith = np.array([0.35, 0.5, 0.75]) * rng.uniform(0.7, 1.2) * (1 - (grey := rng.uniform(0, 1)))
    zenith += grey * rng.uniform(0.55, 0.9)
    clouds = generate.Waves(rng, (0.15 * canvas.width, canvas.width), contrast=0.1)

    def paint(u: Floats, v: Floats) -> Floats:
        near = (v / canvas.horizon)[:, None]
        cover = (clouds(u, 3 * v) - clouds.mean).mean(-1, keepdims=True).clip(0)
        return np.asarray(zenith * (1 - near) + canvas.haze * near + cover)

    canvas.fill(
        [(0, 0), (canvas.width, 0), (canvas.width, canvas.height), (0, canvas.height)], "sky", paint, 0
    )


def _ground(canvas: _Canvas, kerb: float, front: float) -> None:
    rng = canvas.rng
    asphalt = canvas.coat(np.full(3, rng.uniform(0.25, 0.45)), 0.025, 0.01)
    paving = np.full(3, rng.uniform(0.4, 0.62)) + rng.normal(0, 0.03, 3)
    grass = np.array([0.3, 0.38, 0.2]) * rng.uniform(0.7, 1.2)

    def strip(a: float, b: float, label: str, paint: _Paint, near: float = _NEAR, far: float = _FAR) -> None:
        canvas.plane([(a, 0, near), (a, 0, far), (b, 0, far), (b, 0, near)], label, paint, away=0)

    for side in (-1, 1):
        strip(side * kerb, side * 400, "terrain", canvas.coat(grass, 0.06, 0.015))
        strip(side * kerb, side * front, "sidewalk", canvas.coat(paving, 0.03, 0.02))
    strip(-kerb, kerb, "road", asphalt)
    if rng.random() < 0.4:
        side = rng.choice([-1, 1])
        start = rng.uniform(5, 30)
        strip(
            side * (kerb - 2),
            side * kerb,
            "parking",
            canvas.coat(paving * 0.85),
            start,
            start + rng.uniform(8, 40),
        )
    white = canvas.coat([0.8, 0.8, 0.78])
    for x in (-kerb / 3, kerb / 3) if rng.random() < 0.5 else (0.0,):
        for z in np.arange(rng.uniform(_NEAR, 8), 80, 8):
            strip(x - 0.08, x + 0.08, "road", white, z, z + 3)


def _row(canvas: _Canvas, things: list[tuple[float, Callable[[], None]]], side: int, front: float) -> None:
    """What lines the street on one side: houses, or in their place trees, walls and fences."""
    rng = canvas.rng
    z = rng.uniform(-8, 0)
    while z < 130:
        length = rng.uniform(7, 20)
        a, b = max(z, _NEAR), z + length
        z = b + (rng.uniform(0, 8) if rng.random() < 0.25 else 0)
        if b <= _NEAR + 0.5:
            continue
        kind = rng.choice(["building", "vegetation", "wall", "fence"], p=[0.66, 0.18, 0.08, 0.08])
        x = side * (front + rng.uniform(0, 0.6))
        if kind == "vegetation":
            for _ in range(rng.integers(1, 4)):
                _tree(canvas, things, x + side * rng.uniform(0, 2), rng.uniform(a, b))
            continue
        height = {"building": rng.uniform(6, 22), "wall": rng.uniform(1, 3), "fence": rng.uniform(1, 2)}[kind]
        things.append((b, functools.partial(_facade, canvas, str(kind), x, a, b, height)))


def _facade(canvas: _Canvas, kind: str, x: float, a: float, b: float, height: float) -> None:
    """A front along the street, and the side that faces the camera."""
    rng = canvas.rng
    colours = {"building": [0.55, 0.48, 0.42], "wall": [0.5, 0.48, 0.46], "fence": [0.35, 0.36, 0.33]}
    colour = np.array(colours[kind]) * rng.uniform(0.6, 1.4) + rng.normal(0, 0.06, 3)
    rough = canvas.coat(colour, 0.03, 0.03)
    storey, bay, glass = rng.uniform(2.7, 3.6), rng.uniform(1.8, 3.4), rng.uniform(0.1, 0.35)

    def paint(u: Floats, v: Floats) -> Floats:
        out = rough(u, v)
        beside = np.where(np.abs(u - canvas.middle) < 1e-6, 1e-6, u - canvas.middle)
        z = canvas.focal * x / beside
        y = _EYE + (canvas.horizon - v) * z / canvas.focal
        if kind == "building":
            window = (
                (np.abs(z / bay % 1 - 0.5) < 0.27)
                & (np.abs(y / storey % 1 - 0.55) < 0.25)
                & (y < height - 0.8)
            )
            out[window] = glass + 0.5 * (out[window] - colour)
        elif kind == "fence":
            out[(z * 3 % 1 < 0.5) & (y % 0.5 > 0.12)] *= 0.55
        return out

    canvas.plane([(x, 0, a), (x, height, a), (x, height, b), (x, 0, b)], kind, paint)
    if kind == "building":
        outer = x + np.sign(x) * 12
        shaded = canvas.coat(colour * 0.8, 0.03, 0.03)
        canvas.plane([(x, 0, a), (x, height, a), (outer, height, a), (outer, 0, a)], kind, shaded)


def _tree(canvas: _Canvas, things: list[tuple[float, Callable[[], None]]], x: float, z: float) -> None:
    rng = canvas.rng
    height, spread = rng.uniform(4, 10), rng.uniform(2.5, 5)
    green = np.array([0.2, 0.32, 0.13]) * rng.uniform(0.6, 1.5) + rng.normal(0, 0.02, 3)
    lumps = [
        (rng.normal(0, spread / 4), height * rng.uniform(0.5, 0.95), rng.uniform(0.45, 0.8)) for _ in range(6)
    ]

    def draw() -> None:
        canvas.box(x, z, 0.35, 0, height * 0.6, "vegetation", canvas.coat([0.25, 0.2, 0.16]))
        leaves = canvas.coat(green, 0.1, 0.012)
        for aside, y, share in lumps:
            canvas.oval(x + aside, y, z, spread * share, spread * share, "vegetation", leaves)

    things.append((z, draw))


def _furniture(
    canvas: _Canvas, things: list[tuple[float, Callable[[], None]]], side: int, kerb: float, front: float
) -> None:
    """Poles along the kerb, some with a sign or a light; bushes; people on the pavement."""
    rng = canvas.rng

    def pole(x: float, z: float, top: str | None, height: float) -> None:
        canvas.box(x, z, 0.16, 0, height, "pole", canvas.coat([0.35, 0.36, 0.36]))
        if top == "traffic sign":
            colour = ([0.7, 0.15, 0.12], [0.15, 0.25, 0.6], [0.8, 0.75, 0.2])[rng.integers(3)]
            paint = canvas.coat(colour, 0.02)
            if rng.random() < 0.5:
                canvas.oval(x, height, z - 0.05, 0.75, 0.75, top, paint)
            else:
                canvas.box(x, z - 0.05, 0.7, height - 0.4, height + 0.3, top, paint)
        elif top == "traffic light":
            canvas.box(x, z - 0.05, 0.4, height - 0.5, height + 0.6, top, canvas.coat([0.08, 0.09, 0.08]))
            lit = rng.integers(3)
            colour = ([0.9, 0.2, 0.1], [0.9, 0.7, 0.1], [0.1, 0.8, 0.4])[lit]
            canvas.oval(x, height + 0.4 - 0.35 * lit, z - 0.06, 0.26, 0.26, top, canvas.coat(colour))

    for _ in range(rng.integers(2, 6)):
        top = rng.choice(["", "traffic sign", "traffic light"], p=[0.4, 0.35, 0.25])
        height = rng.uniform(4, 7) if not top else rng.uniform(2.4, 3.4)
        z = float(rng.uniform(5, 45))
        x = side * (kerb + rng.uniform(0.2, 0.6))
        things.append((z, functools.partial(pole, x, z, str(top), height)))
    for _ in range(rng.integers(0, 3)):
        _tree(canvas, things, side * (kerb + rng.uniform(0.5, 1.2)), rng.uniform(8, 60))
    for _ in range(rng.poisson(2.5)):
        z = float(rng.uniform(4, 35))
        x = side * rng.uniform(kerb + 0.3, front)
        things.append((z, functools.partial(_person, canvas, x, 0.0, z, "person")))


def _person(canvas: _Canvas, x: float, floor: float, z: float, label: str) -> None:
    rng = canvas.rng
    height = rng.uniform(1.55, 1.95)
    clothes, legs = rng.uniform(0.05, 0.75, 3), rng.uniform(0.05, 0.4, 3)
    skin = np.array([0.75, 0.58, 0.48]) * rng.uniform(0.5, 1.15)
    stride = rng.uniform(0.05, 0.3)
    for aside in (-stride / 2, stride / 2):
        canvas.box(x + aside, z, 0.17, floor, floor + 0.5 * height, label, canvas.coat(legs))
    canvas.oval(x, floor + 0.63 * height, z, 0.52, 0.5 * height, label, canvas.coat(clothes))
    canvas.oval(x, floor + 0.92 * height, z, 0.24, 0.29, label, canvas.coat(skin))


def _two_wheels(canvas: _Canvas, x: float, z: float, label: str, rider: bool) -> None:
    """A bicycle or motorcycle, seen from a side or nearly from behind."""
    rng = canvas.rng
    apart = rng.uniform(0.1, 1.1)
    wheel = 0.66
    dark = canvas.coat([0.1, 0.1, 0.1])
    frame = canvas.coat(rng.uniform(0.1, 0.7, 3))
    thick = 0.05 if label == "bicycle" else 0.3
    wide = max(0.1, wheel * apart / 1.1)
    for aside in (-apart / 2, apart / 2):
        canvas.oval(x + aside, wheel / 2, z, wide, wheel, label, dark)
    low, high = ((0.5, 0.95), (0.35, 0.95))[label == "motorcycle"]
    canvas.box(x, z - 0.01, max(apart, 2 * thick), low, low + thick, label, frame)
    canvas.box(x + apart / 3, z - 0.01, thick + 0.05, low, high, label, frame)
    if rider:
        _person(canvas, x, 0.35, z - 0.02, "rider")


def _vehicle(canvas: _Canvas, x: float, z: float, label: str) -> None:
    """A vehicle along the road whose end faces the camera; `z` is that end's."""
    rng = canvas.rng
    sizes = {
        "car": (1.8, 4.2, 1.5),
        "truck": (2.5, 8.0, 3.3),
        "bus": (2.5, 11.0, 3.1),
        "train": (2.7, 20.0, 3.5),
    }
    width, length, height = np.array(sizes[label]) * rng.uniform(0.9, 1.1, 3)
    colour = rng.uniform(0.05, 0.85) + rng.normal(0, 0.15, 3) * (rng.random() < 0.6)
    body, shade = canvas.coat(colour, 0.01), canvas.coat(colour * 0.75, 0.01)
    glass, dark = canvas.coat([0.12, 0.14, 0.17], 0.02), canvas.coat([0.06, 0.06, 0.06])
    # The side that can be seen is the one towards the middle of the road.
    inner = x - np.sign(x) * width / 2
    waist, ground = (0.58 * height if label == "car" else height), 0.28
    for a in (z + 0.12 * length, z + 0.82 * length):
        b = a + 0.6
        canvas.plane([(inner, 0, a), (inner, 0.6, a), (inner, 0.6, b), (inner, 0, b)], label, dark)
    far = z + length
    canvas.plane(
        [(inner, ground, z), (inner, waist, z), (inner, waist, far), (inner, ground, far)], label, shade
    )
    if label == "car":
        slope = inner + np.sign(x) * 0.15
        roof = [(slope, height, z + 0.25 * length), (slope, height, z + 0.7 * length)]
        canvas.plane(
            [(inner, waist, z + 0.1 * length), *roof, (inner, waist, far - 0.1 * length)], label, glass
        )
    elif label in ("bus", "train"):
        low, high = 0.45 * height, 0.85 * height
        canvas.plane([(inner, low, z), (inner, high, z), (inner, high, far), (inner, low, far)], label, glass)
    for aside in (-0.38, 0.38):
        canvas.box(x + aside * width, z, 0.22, 0, 0.5, label, dark)
    canvas.box(x, z, width, ground, waist, label, body)
    if label == "car":
        a, b = 0.5 * width, 0.38 * width
        canvas.plane(
            [(x - a, waist, z), (x - b, height, z), (x + b, height, z), (x + a, waist, z)], label, glass
        )
    elif label in ("bus", "train"):
        canvas.box(x, z, 0.85 * width, 0.5 * height, 0.88 * height, label, glass)
    lamp = canvas.coat(([0.7, 0.1, 0.08], [0.9, 0.9, 0.8])[int(x < 0)])
    for aside in (-0.4, 0.4):
        canvas.box(x + aside * width, z, 0.2, 0.65, 0.8, label, lamp)


def _traffic(
    canvas: _Canvas, things: list[tuple[float, Callable[[], None]]], kerb: float, front: float
) -> None:
    """Vehicles on the road and at the kerb, and two-wheelers; none within another."""
    rng = canvas.rng
    taken: list[tuple[float, float, float]] = []

    def free(x: float, z: float, length: float) -> bool:
        if any(abs(x - a) < 2.2 and z < c and b < z + length for a, b, c in taken):
            return False
        taken.append((x, z, z + length))
        return True

    labels = ("car", "truck", "bus", "train")
    for _ in range(rng.integers(3, 11)):
        label = str(rng.choice(labels, p=[0.78, 0.09, 0.08, 0.05]))
        x = float(rng.choice([-kerb + 1.2, -kerb / 2.2, kerb / 2.2, kerb - 1.2]))
        z = float(rng.uniform(6, 70))
        if free(x, z, {"car": 5.0, "truck": 10.0, "bus": 13.0, "train": 23.0}[label]):
            things.append((z, functools.partial(_vehicle, canvas, x, z, label)))
    for _ in range(rng.poisson(2.0)):
        label = "bicycle" if rng.random() < 0.65 else "motorcycle"
        rider = bool(rng.random() < 0.6)
        x = (
            float(rng.uniform(-kerb, kerb))
            if rider
            else float(rng.choice([-1, 1]) * rng.uniform(kerb, front))
        )
        z = float(rng.uniform(4, 30))
        if free(x, z, 2.0):
            things.append((z, functools.partial(_two_wheels, canvas, x, z, label, rider)))
