"""A generated indoor data set: random furnished rooms, ray-cast with exact segmentation, depth and normals.

`make` writes NYUv2's layout (`nyu_depth_v2_labeled.mat`, `classMapping40.mat`, `splits.mat`), so what reads
NYUv2 reads it; an extra array `normals` (n, 3, W, H) has the exact ones. The same arguments give the same
bytes. Shape tells the class more than colour does: colours are drawn anew for each object, from ranges that
classes share, so a network has to see geometry to tell a table from a cabinet.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import files
from nasbench_mr.errors import DatasetError, InvalidArgumentError
from nasbench_mr.extras import requires
from nasbench_mr.search.auxnas import nyuv2

Vector = npt.NDArray[np.float64]

#: (height, width) in pixels.
SIZE = (48, 64)
#: Labels in the file are positions in this list, from 1, and their classes among NYUv2's 40.
CLASSES = {
    "wall": 1, "floor": 2, "ceiling": 22, "cabinet": 3, "bed": 4, "chair": 5, "sofa": 6, "table": 7,
    "bookshelf": 10, "picture": 11, "pillow": 18, "lamp": 35, "box": 29,
}  # fmt: skip
#: Kinds of rooms, and how often they have each piece of furniture.
ROOMS = {
    "bedroom": {"bed": 3, "cabinet": 2, "pillow": 2, "lamp": 2, "picture": 2, "chair": 1, "box": 1},
    "living_room": {"sofa": 3, "table": 2, "lamp": 2, "bookshelf": 1, "picture": 2, "pillow": 2, "chair": 1},
    "study": {"table": 3, "chair": 3, "bookshelf": 3, "box": 2, "lamp": 1, "picture": 1, "cabinet": 1},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Solid:
    """A box (turned about the vertical) or an ellipsoid.

    Attributes:
        label: its number in `CLASSES`, from 1.
        round: an ellipsoid.
        centre: `(3,)` metres, y down.
        half: `(3,)` half its size along its own axes.
        yaw: radians about the vertical.
        colour: `(3,)` in [0, 1].
        stripes: how strongly, and how often a metre, its colour changes along its longest axis.
    """

    label: int
    round: bool
    centre: Vector
    half: Vector
    yaw: float
    colour: Vector
    stripes: tuple[float, float]


def make(
    root: str | os.PathLike[str],
    *,
    train: int = 200,
    val: int = 100,
    seed: int = 0,
    size: tuple[int, int] = SIZE,
) -> Path:
    """Generate the data set in the new folder `root`, and return its path.

    Raises:
        DatasetError: the folder exists.
        InvalidArgumentError: no scenes, or images below 16 pixels on a side.
    """
    root = Path(root)
    if root.exists():
        raise DatasetError(f"{root} exists; give a new folder")
    if train < 1 or val < 1:
        raise InvalidArgumentError(f"{train} training and {val} validation scenes; expected at least 1 each")
    if min(size) < 16:
        raise InvalidArgumentError(f"size is {size}; expected at least 16 pixels on a side")
    scenes = [render(np.random.default_rng([seed, i]), size) for i in range(train + val)]
    with files.atomic_folder(root) as folder:
        _write(folder, scenes, train)
    return root


def render(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """Return one random scene.

    Returns:
        "image" (H, W, 3) uint8; "labels" (H, W) uint16, see `CLASSES`; "depths" (H, W) float32 metres along
        the optical axis; "normals" (H, W, 3) float32 in the camera's frame (x right, y down, z ahead),
        towards the camera; "sceneTypes", one of `ROOMS`.
    """
    kind = list(ROOMS)[rng.integers(len(ROOMS))]
    room = np.array([rng.uniform(3, 5.5), rng.uniform(2.3, 3.0), rng.uniform(3.5, 6)])
    solids = _furnish(rng, kind, room)
    # The room is 0 to `room`; the camera stands near one end and looks to the other, a little down.
    eye = np.array([rng.uniform(0.3, 0.7) * room[0], room[1] - rng.uniform(1.2, 1.7), rng.uniform(0.2, 0.6)])
    yaw, pitch = rng.uniform(-0.6, 0.6), rng.uniform(0.0, 0.35)
    turn = _about_y(yaw) @ _about_x(-pitch)
    fx, fy, cx, cy = nyuv2.scaled(nyuv2.CAMERA, size)
    x, y = np.meshgrid(np.arange(size[1]) + 0.5 - cx, np.arange(size[0]) + 0.5 - cy)
    rays = np.stack([x / fx, y / fy, np.ones_like(x)], axis=-1).reshape(-1, 3)
    # Directions keep a depth of 1 in the camera's frame, so the distance along a ray is the depth.
    world = rays @ turn.T

    depth, normal, labels, colour = _walls(rng, eye, world, room)
    for solid in solids:
        near, normals, where = _hit(solid, eye, world)
        closer = near < depth
        depth[closer], normal[closer], labels[closer] = near[closer], normals[closer], solid.label
        strength, frequency = solid.stripes
        band = 1 + strength * np.sign(np.sin(2 * np.pi * frequency * where[closer]))
        colour[closer] = solid.colour * band[:, None]
    lamp = np.array([rng.uniform(0.2, 0.8) * room[0], 0.1, rng.uniform(0.2, 0.8) * room[2]])
    to_lamp = lamp - (eye + depth[:, None] * world)
    distance = np.linalg.norm(to_lamp, axis=1)
    facing = np.clip((to_lamp * normal).sum(1) / distance, 0, None)
    light = rng.uniform(0.35, 0.6) + rng.uniform(0.5, 1.2) * facing / (1 + 0.15 * distance**2)
    shade = np.clip(colour * light[:, None], 0, 1) ** (1 / 1.6)
    shade += rng.normal(0, 0.03, shade.shape)
    return {
        "image": (np.clip(shade, 0, 1) * 255).round().astype(np.uint8).reshape(*size, 3),
        "labels": labels.astype(np.uint16).reshape(size),
        "depths": depth.astype(np.float32).reshape(size),
        "normals": (normal @ turn).astype(np.float32).reshape(*size, 3),
        "sceneTypes": kind,
    }


def _about_y(angle: float) -> Vector:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _about_x(angle: float) -> Vector:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _walls(
    rng: np.random.Generator, eye: Vector, rays: Vector, room: Vector
) -> tuple[Vector, Vector, npt.NDArray[np.int64], Vector]:
    """Return what rays meet of the empty room.

    Distance `(n,)`, normal `(n, 3)`, label `(n,)`, colour `(n, 3)`.
    """
    with np.errstate(divide="ignore"):
        exits = np.where(rays > 0, (room - eye) / rays, np.where(rays < 0, -eye / rays, np.inf))
    axis = exits.argmin(axis=1)
    depth = exits[np.arange(len(rays)), axis]
    normal = np.zeros_like(rays)
    normal[np.arange(len(rays)), axis] = -np.sign(rays[np.arange(len(rays)), axis])
    names = list(CLASSES)
    surface = np.where(axis == 1, np.where(rays[:, 1] > 0, names.index("floor"), names.index("ceiling")), 0)
    tones = rng.uniform(0.45, 0.95, 3)[:, None] * rng.uniform(0.8, 1.0, (3, 3))
    colour = tones[surface]
    # Planks on the floor, whose edges say little about classes but give perspective.
    point = eye + depth[:, None] * rays
    planks = np.sign(np.sin(2 * np.pi * rng.uniform(1, 3) * point[:, rng.integers(2) * 2]))
    colour = colour * (1 + 0.08 * planks * (surface == names.index("floor")))[:, None]
    return depth, normal, surface + 1, colour


#: Half sizes (low, high) across, up and along, in metres; height of the underside above the floor.
_SHAPES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float], float]] = {
    "cabinet": ((0.3, 0.6), (0.4, 0.9), (0.2, 0.3), 0.0),
    "bed": ((0.6, 0.9), (0.2, 0.3), (0.9, 1.1), 0.0),
    "chair": ((0.2, 0.25), (0.2, 0.25), (0.2, 0.25), 0.0),
    "sofa": ((0.8, 1.1), (0.2, 0.25), (0.35, 0.45), 0.0),
    "table": ((0.4, 0.8), (0.02, 0.04), (0.3, 0.5), 0.7),
    "bookshelf": ((0.4, 0.6), (0.8, 1.1), (0.12, 0.18), 0.0),
    "picture": ((0.2, 0.5), (0.15, 0.35), (0.02, 0.03), 1.3),
    "pillow": ((0.15, 0.25), (0.08, 0.12), (0.12, 0.2), 0.5),
    "lamp": ((0.12, 0.2), (0.15, 0.22), (0.12, 0.2), 1.2),
    "box": ((0.15, 0.3), (0.1, 0.25), (0.15, 0.3), 0.0),
}
_BACKED, _ROUND, _STRIPED = ("chair", "sofa", "bed"), ("pillow", "lamp"), ("bookshelf", "picture", "bed")


def _furnish(rng: np.random.Generator, kind: str, room: Vector) -> list[Solid]:
    weights = ROOMS[kind]
    chances = np.array(list(weights.values())) / sum(weights.values())
    solids: list[Solid] = []
    for name in rng.choice(list(weights), size=rng.integers(4, 9), p=chances):
        *ranges, above = _SHAPES[name]
        half = np.array([rng.uniform(*r) for r in ranges])
        yaw = rng.uniform(-0.3, 0.3) + float(rng.integers(4)) * np.pi / 2
        x, z = rng.uniform(half[0], room[0] - half[0]), rng.uniform(1.6, room[2] - half[2])
        if name == "picture":
            # Flat on the far wall.
            yaw, z = 0.0, float(room[2] - half[2])
        centre = np.array([x, room[1] - above - half[1], z])
        colour = rng.uniform(0.15, 0.9) * rng.uniform(0.6, 1.0, 3)
        stripes = (rng.uniform(0.1, 0.3), rng.uniform(2, 6)) if name in _STRIPED else (0.0, 1.0)
        body = Solid(
            label=list(CLASSES).index(name) + 1, round=name in _ROUND, centre=centre, half=half, yaw=yaw,
            colour=colour, stripes=stripes,
        )  # fmt: skip
        solids.append(body)
        if name in _BACKED:
            back = np.array([half[0], rng.uniform(0.2, 0.35), 0.05])
            solids.append(_part(body, (0, -half[1] - back[1], half[2] - 0.05), back))
        if name == "table":
            leg = np.array([0.03, 0.35, 0.03])
            for x, z in product((-1, 1), (-1, 1)):
                solids.append(_part(body, (x * (half[0] - 0.03), 0.35, z * (half[2] - 0.03)), leg))
        if name == "lamp":
            pole = _part(body, (0, 0.6 + half[1], 0), np.array([0.02, 0.6, 0.02]))
            solids.append(replace(pole, round=False, yaw=0.0))
    return solids


def _part(body: Solid, offset: tuple[float, float, float], half: Vector) -> Solid:
    """Return another solid of the same piece of furniture, `offset` from the body along its axes."""
    return replace(body, centre=body.centre + _about_y(body.yaw) @ np.array(offset), half=half)


def _hit(solid: Solid, eye: Vector, rays: Vector) -> tuple[Vector, Vector, Vector]:
    """Where rays meet a solid: distance `(n,)`, inf for misses; normal `(n, 3)`; place along it `(n,)`."""
    turn = _about_y(solid.yaw)
    # In the solid's own frame, scaled so that it reaches from -1 to 1.
    origin = (eye - solid.centre) @ turn / solid.half
    way = rays @ turn / solid.half
    if solid.round:
        a, b, c = (way**2).sum(1), way @ origin, origin @ origin - 1
        root = b**2 - a * c
        near = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
        near = np.where(near > 1e-6, near, np.inf)
        point = origin + np.where(np.isfinite(near), near, 0)[:, None] * way
        local = point / solid.half
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            first, second = (-1 - origin) / way, (1 - origin) / way
        enter, leave = np.minimum(first, second), np.maximum(first, second)
        axis = enter.argmax(axis=1)
        near = enter[np.arange(len(rays)), axis]
        near = np.where((near < leave.min(axis=1)) & (near > 1e-6), near, np.inf)
        point = origin + np.where(np.isfinite(near), near, 0)[:, None] * way
        local = np.zeros_like(way)
        local[np.arange(len(rays)), axis] = -np.sign(way[np.arange(len(rays)), axis])
    normal = local / np.maximum(np.linalg.norm(local, axis=1, keepdims=True), 1e-12) @ turn.T
    longest = int(solid.half.argmax())
    return near, normal, point[:, longest] * solid.half[longest]


def _write(folder: Path, scenes: list[dict[str, Any]], train: int) -> None:
    with requires("auxnas", "writing rooms in NYUv2's layout"):
        import h5py

    def matlab(name: str, variables: dict[str, Any]) -> None:
        # MATLAB's v7.3: HDF5 after a header of 512 bytes.
        path = folder / name
        with h5py.File(path, "w", userblock_size=512) as file:
            for key, value in variables.items():
                if isinstance(value, list):
                    # A cell array of text: references to arrays of UTF-16.
                    texts = [
                        file.create_dataset(
                            f"#refs#/{key}{i}",
                            data=np.frombuffer(text.encode("utf-16-le"), np.uint16)[:, None],
                        )
                        for i, text in enumerate(value)
                    ]
                    file.create_dataset(key, (1, len(value)), h5py.ref_dtype)[0] = [t.ref for t in texts]
                else:
                    file.create_dataset(key, data=value)
        with open(path, "r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file, written by nasbench-mr".ljust(124) + b"\x00\x02IM")

    def stacked(key: str) -> Any:
        # Column-major: (n, [3,] W, H).
        array = np.stack([scene[key] for scene in scenes])
        return np.ascontiguousarray(array.transpose(0, *range(array.ndim - 1, 0, -1)))

    arrays = {key: stacked(key) for key in ("depths", "labels", "normals")}
    arrays |= {"images": stacked("image"), "names": list(CLASSES)}
    arrays |= {"sceneTypes": [scene["sceneTypes"] for scene in scenes]}
    matlab(nyuv2.LABELLED, arrays)
    matlab(nyuv2.MAPPING, {"mapClass": np.array([list(CLASSES.values())], np.float64).T})
    numbers = np.arange(1, len(scenes) + 1, dtype=np.float64)[None]
    matlab(nyuv2.SPLITS, {"trainNdxs": numbers[:, :train], "testNdxs": numbers[:, train:]})
