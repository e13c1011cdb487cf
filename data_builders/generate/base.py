"""What the generators share: a random stream for each sample, work over processes, textures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nasbench_mr import workers as pool
from nasbench_mr.arrays import Floats
from nasbench_mr.errors import InvalidArgumentError

Given = TypeVar("Given")
Result = TypeVar("Result")


def stream(seed: int, *place: int) -> np.random.Generator:
    """Return the generator of one sample: its own, so that neither order nor number of the others matters."""
    return np.random.default_rng([seed, *place])


def need(value: float, name: str, low: float, high: float) -> None:
    """Raise unless `value` is in [low, high]."""
    if not low <= value <= high:
        raise InvalidArgumentError(f"{name} is {value}; expected {low:g} to {high:g}")


def each(
    function: Callable[[Given], Result], jobs: Sequence[Given], title: str, *, workers: int, progress: bool
) -> list[Result]:
    """Return `function` of every job, in their order, computed by so many processes."""
    from tqdm import tqdm

    need(workers, "workers", 1, 1024)
    work = pool.Work(f"{__name__}:_numbered", (function,))
    done = pool.run(work, enumerate(jobs), workers=0 if workers == 1 else workers)
    bar = tqdm(done, title, len(jobs), unit="sample", disable=None if progress else True)
    results = {number: result for (number, _), result in bar}
    return [results[k] for k in range(len(jobs))]


def _numbered(function: Callable[[Given], Result]) -> Callable[[tuple[int, Given]], Result]:
    return lambda job: function(job[1])


def log_uniform(rng: np.random.Generator, low: float, high: float, count: int) -> Floats:
    """`(count,)` numbers between two positive ones, their logarithms uniform."""
    return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), count)))


#: How many plane waves a texture sums up.
_WAVES = 10


class Waves:
    """A random colour texture without end, exact at any place: a sum of plane waves.

    Args:
        scale: range of the wavelengths, in the units of the places asked for.
        contrast: standard deviation about the mean colour, which lies in the middle of the range.
        sharp: 0 for soft waves; larger values push them towards two levels with edges between.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        scale: tuple[float, float],
        *,
        contrast: float = 0.16,
        sharp: float = 0.0,
    ):
        angle = rng.uniform(0, 2 * np.pi, _WAVES)
        frequency = 2 * np.pi / log_uniform(rng, *scale, _WAVES)
        self.frequency = np.stack([np.cos(angle), np.sin(angle)]) * frequency  # (2, K)
        self.phase = rng.uniform(0, 2 * np.pi, _WAVES)
        self.mean = rng.uniform(0.25, 0.75, 3)
        # Mostly lights and darks, as in photos; some colour.
        grey, colour = rng.normal(size=(_WAVES, 1)), rng.normal(0, 0.5, (_WAVES, 3))
        mix = grey + colour
        self.mix = mix * contrast / np.sqrt((mix**2).sum(0) / 2)  # (K, 3)
        self.sharp, self.contrast = sharp, contrast

    def __call__(self, x: Floats, y: Floats) -> Floats:
        """Colours in [0, 1] at the places: `(...)` and `(...)` to `(..., 3)`."""
        place = np.stack([x, y], axis=-1).astype(np.float32)
        waves = np.sin(place @ self.frequency.astype(np.float32) + self.phase.astype(np.float32))
        around = waves @ self.mix.astype(np.float32)  # (..., 3)
        if self.sharp:
            around = np.tanh(around * (self.sharp / self.contrast)) * self.contrast
        return np.asarray(np.clip(self.mean + around, 0, 1))


class Blob:
    """A random outline around the origin: a circle of about radius 1 with a few bulges."""

    def __init__(self, rng: np.random.Generator):
        self.size = rng.normal(0, 0.09, 3)
        self.phase = rng.uniform(0, 2 * np.pi, 3)

    def __call__(self, x: Floats, y: Floats, soft: Floats | float) -> Floats:
        """How much of each place lies within, 0 to 1, over an edge `soft` wide."""
        angle = np.arctan2(y, x)
        edge = 1 + sum(
            s * np.cos(m * angle + p) for m, s, p in zip((2, 3, 4), self.size, self.phase, strict=True)
        )
        return np.asarray(np.clip((edge - np.hypot(x, y)) / soft + 0.5, 0, 1))


def to_uint8(image: Floats) -> npt.NDArray[np.uint8]:
    """Colours in [0, 1], or a little outside, as bytes."""
    return np.asarray(np.clip(image * 255 + 0.5, 0, 255), np.uint8)
