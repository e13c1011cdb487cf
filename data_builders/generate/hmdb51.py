"""A generated stand-in for HMDB51: clips in which something moves, and the class is how.

A textured blob moves before a textured background; smaller ones drift about at random. Shapes, textures,
places, brightness and noise say nothing about the class: places wrap around the frame and orientations are
uniform, so that they are distributed alike in every class at every time (sizes nearly so: what grows or
shrinks has a wider range). The classes differ in what changes between frames: a network that sees single
frames can only guess. Two or three consecutive frames tell most classes; walking and running differ in speed
only, and some classes change their motion within the clip.

Sizes: `MINI` suits trials on a CPU: 16 frames of 32 x 40 pixels, the motions faster and with
nothing to distract, so that a few hundred steps learn them.
"""

from __future__ import annotations

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

#: Options for clips that suit trials of seconds.
MINI: dict[str, object] = {
    "train": 80,
    "val": 50,
    "classes": 12,
    "length": 16,
    "size": (32, 40),
    "pace": 2.0,
    "clutter": 0.0,
}

# A motion: from a generator and times t (T,) to the displacement in x and y (shares of the frame's height),
# the turn (radians) and the growth (logarithm) at each time: (4, T).
_Motion = Callable[[np.random.Generator, Floats], Floats]


def _steady(low: float, high: float, axis: int, sign: int) -> _Motion:
    def motion(rng: np.random.Generator, t: Floats) -> Floats:
        path = np.zeros((4, len(t)))
        path[axis] = sign * rng.uniform(low, high) * t
        return path

    return motion


def _swinging(low: float, high: float, axis: int, periods: tuple[float, float]) -> _Motion:
    def motion(rng: np.random.Generator, t: Floats) -> Floats:
        path = np.zeros((4, len(t)))
        phase = rng.uniform(0, 2 * np.pi)
        path[axis] = rng.uniform(low, high) * np.sin(2 * np.pi * t / rng.uniform(*periods) + phase)
        return path

    return motion


def _bounce(rng: np.random.Generator, t: Floats) -> Floats:
    path = np.zeros((4, len(t)))
    rise = np.sin(np.pi * t / rng.uniform(4, 6) + rng.uniform(0, np.pi))
    path[1] = -rng.uniform(0.15, 0.25) * np.abs(rise)
    return path


def _circle(rng: np.random.Generator, t: Floats) -> Floats:
    path = np.zeros((4, len(t)))
    angle = rng.choice([-1, 1]) * 2 * np.pi * t / rng.uniform(6, 10) + rng.uniform(0, 2 * np.pi)
    path[:2] = rng.uniform(0.06, 0.1) * np.stack([np.cos(angle), np.sin(angle)])
    return path


def _stop_and_go(rng: np.random.Generator, t: Floats) -> Floats:
    path = np.zeros((4, len(t)))
    going = (t + rng.integers(4)) % 4 < 2
    path[rng.integers(2)] = rng.choice([-1, 1]) * rng.uniform(0.05, 0.08) * np.cumsum(going)
    return path


def _still(rng: np.random.Generator, t: Floats) -> Floats:
    return np.zeros((4, len(t)))


#: The classes, in the order in which `classes` takes them. Rates are for a frame; y points down.
MOTIONS: dict[str, _Motion] = {
    "walk_left": _steady(0.012, 0.028, 0, -1),
    "walk_right": _steady(0.012, 0.028, 0, 1),
    "run_left": _steady(0.045, 0.08, 0, -1),
    "run_right": _steady(0.045, 0.08, 0, 1),
    "climb": _steady(0.02, 0.06, 1, -1),
    "fall": _steady(0.02, 0.06, 1, 1),
    "turn_left": _steady(0.1, 0.24, 2, -1),
    "turn_right": _steady(0.1, 0.24, 2, 1),
    "approach": _steady(0.035, 0.07, 3, 1),
    "recede": _steady(0.035, 0.07, 3, -1),
    "shake": _swinging(0.03, 0.06, 0, (2.6, 4.0)),
    "bounce": _bounce,
    "swing": _swinging(0.25, 0.5, 2, (4.0, 7.0)),
    "circle": _circle,
    "stop_and_go": _stop_and_go,
    "still": _still,
}


def make(
    root: str | os.PathLike[str],
    train: int = 14,
    val: int = 6,
    seed: int = 0,
    *,
    classes: int = 16,
    length: int = 16,
    size: tuple[int, int] = (120, 160),
    pace: float = 1.0,
    clutter: float = 1.0,
    workers: int = 1,
    progress: bool = False,
) -> Path:
    """Make the data set in the new folder `root`.

    Args:
        train, val: clips of each class in each split; the three folds share them out differently.
        seed: the same one gives the same files.
        classes: the first so many of `MOTIONS`.
        length: frames of a clip.
        size: height and width of the frames, even numbers.
        pace: factor on all motions; small frames need more to show them.
        clutter: how much distracts from the motion, 0 to 1: patterned grounds, other blobs, noise. At 0
            bright blobs move on plain dark ground, so that every edge tells the motion's direction.
        workers: processes.
        progress: show a bar on stderr, if that is a terminal.
    """
    with requires("build", "writing videos"):
        import av  # noqa: F401
    generate.need(train, "train", 1, 100_000)
    generate.need(val, "val", 1, 100_000)
    generate.need(classes, "classes", 2, len(MOTIONS))
    generate.need(length, "length", 1, 1000)
    for side in size:
        generate.need(side, "size", 16, 1024)
        generate.need(side % 2, "size modulo 2", 0, 0)
    generate.need(pace, "pace", 0.1, 10)
    generate.need(clutter, "clutter", 0, 1)
    names = list(MOTIONS)[:classes]
    total = train + val
    with new_folder(root) as folder:
        lists = folder / "testTrainMulti_7030_splits"
        lists.mkdir()
        jobs = []
        for label, name in enumerate(names):
            (folder / name).mkdir()
            clips = [f"generated{k:05}_{name}_f_cm_np1_fr_med_0.avi" for k in range(total)]
            jobs += [(label, k, folder / name / clip) for k, clip in enumerate(clips)]
            for fold in range(3):
                tested = {(train + fold * val + k) % total for k in range(val)}
                lines = (f"{clip} {2 if k in tested else 1} \n" for k, clip in enumerate(clips))
                (lists / f"{name}_test_split{fold + 1}.txt").write_text("".join(lines))
        write = functools.partial(_write, seed, length, size, pace, clutter)
        generate.each(write, jobs, "hmdb51", workers=workers, progress=progress)
    return Path(root)


def _write(
    seed: int, length: int, size: tuple[int, int], pace: float, clutter: float, job: tuple[int, int, Path]
) -> None:
    label, index, path = job
    rng = generate.stream(seed, label, index)
    encode(path, clip(rng, list(MOTIONS.values())[label], length, size, pace=pace, clutter=clutter))


def clip(
    rng: np.random.Generator,
    motion: _Motion,
    length: int,
    size: tuple[int, int],
    *,
    pace: float = 1.0,
    clutter: float = 1.0,
) -> npt.NDArray[np.uint8]:
    """Return the frames of one clip: `(length, height, width, 3)`."""
    height, width = size
    t = np.arange(length, dtype=np.float64)
    y, x = np.mgrid[:height, :width] / height  # one unit is the frame's height
    x, y = np.broadcast_to(x, (length, height, width)), np.broadcast_to(y, (length, height, width))
    pan = rng.normal(0, 0.004, 2)[:, None] * t if rng.random() < 0.3 else np.zeros((2, length))
    ground = generate.Waves(rng, (0.1, 1.0), sharp=_sharp(rng))(x - _in_time(pan[0]), y - _in_time(pan[1]))
    image = np.asarray(0.2 + clutter * (ground - 0.2))
    for _ in range(int(clutter * 3 * rng.random())):
        aside = np.zeros((4, length))
        aside[:2] = rng.normal(0, 0.015, (2, 1)) * t
        image = _placed(rng, image, x, y, aside, rng.uniform(0.06, 0.11), clutter)
    # Which of its sizes a growing object has at which time must not matter.
    path = pace * motion(rng, t)
    path[3] -= path[3, rng.integers(length)]
    image = _placed(rng, image, x, y, path, float(generate.log_uniform(rng, 0.2, 0.36, 1)[0]), clutter)
    light = 1 + rng.normal(0, 0.02, (length, 1, 1, 1))
    noise = rng.normal(0, 0.005 + clutter * rng.uniform(0, 0.025), image.shape)
    return generate.to_uint8(image * light + noise)


def _in_time(values: Floats) -> Floats:
    return np.asarray(values[:, None, None])


def _sharp(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, 1.0, 3.0]))


def _placed(
    rng: np.random.Generator, image: Floats, x: Floats, y: Floats, path: Floats, radius: float, clutter: float
) -> Floats:
    """Return the frames with a random blob in front, at a random place, moved along `path`."""
    width = x.shape[2] / x.shape[1]
    start = rng.uniform(0, (width, 1, 2 * np.pi))
    # Places wrap around: what leaves on one side comes in on the other.
    right = (x - _in_time(start[0] + path[0]) + width / 2) % width - width / 2
    down = (y - _in_time(start[1] + path[1]) + 0.5) % 1 - 0.5
    turn, reach = start[2] + path[2], radius * np.exp(path[3])
    cos, sin = _in_time(np.cos(turn) / reach), _in_time(np.sin(turn) / reach)
    u, v = right * cos + down * sin, down * cos - right * sin
    texture = generate.Waves(rng, (0.35, 1.6), contrast=0.2, sharp=_sharp(rng))
    inside = generate.Blob(rng)(u, v, _in_time(1.5 / (reach * x.shape[1])))[..., None]
    # The lighter, the less clutter.
    colour = 1 - (1 - texture(u, v)) * (1 + clutter) / 2
    return np.asarray(image * (1 - inside) + colour * inside)


def encode(path: Path, frames: npt.NDArray[np.uint8]) -> None:
    """Write `(T, H, W, 3)` RGB frames as MPEG-4 in AVI, 30 a second; the same frames give the same bytes."""
    import av
    from av.video.reformatter import VideoReformatter

    converter = VideoReformatter()
    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=30, options={"flags": "+bitexact+qscale", "threads": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.global_quality = 3 * 118  # qscale 3, in units of FF_QP2LAMBDA
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(converter.reformat(frame, format="yuv420p", threads=1)))
        container.mux(stream.encode())
