"""Images with several labels each, in memory. Use it to bring in data of your own; `readers` read data sets.

A `LabelledSet` has the images of a split and a label of each for every task (see `tasks`); `AuxData` is a
training set and a validation set. `join` puts labels together that are in two sets, by the samples' names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from nasbench_mr.data_builders.datasets import Array
from nasbench_mr.errors import DatasetError

Pixels = tuple[int, int]


@dataclass(frozen=True)
class LabelledSet:
    """Images and their labels.

    Attributes:
        name: for messages.
        ids: `n` distinct names.
        arrays: "image" `(n, H, W, 3)` uint8 RGB, and each task's labels `(n, ...)` under its name.
        classes: how many classes there are, for the tasks that have classes.
    """

    name: str
    ids: tuple[str, ...]
    arrays: Mapping[str, Array]
    classes: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        # Not the pixels.
        height, width = self.size
        return f"LabelledSet({self.name!r}, {len(self)} of {height}x{width}: {', '.join(self.tasks)})"

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the names of the labels."""
        return tuple(key for key in self.arrays if key != "image")

    @property
    def size(self) -> Pixels:
        """Return (H, W) of the images."""
        _, height, width, _ = self.arrays["image"].shape
        return height, width

    def take(self, rows: Sequence[int]) -> LabelledSet:
        """Return the samples of these rows."""
        return replace(
            self,
            ids=tuple(self.ids[r] for r in rows),
            arrays={key: values[list(rows)] for key, values in self.arrays.items()},
        )


@dataclass(frozen=True)
class AuxData:
    """A training and a validation set of the same labels.

    Attributes:
        train, val: the sets.
        about: how they were read, for the record: JSON-ready.
    """

    train: LabelledSet
    val: LabelledSet
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the data's name."""
        return self.train.name

    @cached_property
    def digest(self) -> str:
        """Return sixteen hexadecimal digits that differ where images, labels or their order do."""
        found = hashlib.sha256()
        for part in (self.train, self.val):
            for key, values in sorted(part.arrays.items()):
                found.update(f"{key} {values.shape} {values.dtype} {part.classes.get(key)}".encode())
                found.update(np.ascontiguousarray(values).data)
        return found.hexdigest()[:16]

    def limited(self, train: int = 0, val: int = 0) -> AuxData:
        """Return the first `train` and `val` samples; 0 for all."""

        def first(part: LabelledSet, count: int) -> LabelledSet:
            return part.take(range(min(count, len(part)))) if count else part

        return AuxData(first(self.train, train), first(self.val, val), self.about)


def join(first: LabelledSet, second: LabelledSet) -> LabelledSet:
    """Return the samples that both sets name, with both sets' labels; where both have them, the first's."""
    rows = {name: row for row, name in enumerate(second.ids)}
    shared = [row for row, name in enumerate(first.ids) if name in rows]
    if not shared:
        raise DatasetError(
            f"{first.name} and {second.name} have no sample in common: {first.ids[0]!r}, ... and "
            f"{second.ids[0]!r}, ...; the auxiliary labels must be of the primary's images"
        )
    left = first.take(shared)
    right = second.take([rows[name] for name in left.ids])
    return replace(left, arrays={**right.arrays, **left.arrays}, classes={**right.classes, **left.classes})


def nearest(values: Array, size: Pixels | None) -> Array:
    """Return labels `(H, W, ...)` resized: a pixel takes the one at its centre."""
    if size is None:
        return values
    for axis, side in enumerate(size):
        rows = ((np.arange(side) + 0.5) * values.shape[axis] / side).astype(int)
        values = values.take(rows, axis)
    return values


def bilinear(image: Array, size: Pixels | None) -> Array:
    if size is None or image.shape[:2] == size:
        return image
    from PIL import Image

    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def stack(rows: Sequence[Mapping[str, Array]], where: str) -> dict[str, Array]:
    """Return samples as arrays `(n, ...)`; they need equal shapes."""
    for row in rows:
        for key, value in row.items():
            if value.shape != rows[0][key].shape:
                raise DatasetError(
                    f"{where}: {key!r} is {value.shape} in one sample, {rows[0][key].shape} in another; "
                    "give a size to resize to"
                )
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
