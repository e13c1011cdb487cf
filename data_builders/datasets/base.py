"""What every data set here is: `Dataset`, one split as a sequence of samples of plain NumPy arrays.

A sample is a dict; its keys depend on the problem alone, so a trainer never asks which data set it has:

| problem | keys |
|---|---|
| classification | `image` (H, W, 3) uint8 RGB; `label` () int64 |
| segmentation | `image`; `mask` (H, W) uint8 class indices, `IGNORE` (255) where nothing is to be predicted |
| video | `clip` (T, H, W, 3) uint8 RGB; `label` |
| detection | `points` (N, 4) float32 and the objects of a scan: see `kitti` |

Files come from outside: each is opened by `opening`, and what is wrong with one is a `DatasetError` that
names it.
"""

from __future__ import annotations

import abc
import contextlib
import inspect
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from nasbench_mr import files
from nasbench_mr.checks import positive
from nasbench_mr.data_builders.datasets.opening import Array
from nasbench_mr.errors import DatasetError

Sample = dict[str, Array]
#: The mask value of pixels without a class.
IGNORE = 255


class Dataset(abc.ABC):
    """One split of a data set: `len(data)`, `data[i]`, iteration. Safe to fork and to pickle.

    Attributes:
        NAME: the data set. PROBLEM: one of `nasbench_mr.tasks.PROBLEMS`. SPLITS: the splits there are.
        LAYOUT: the files a reader expects below its root, in one line.
        SOURCE: how to get them.
        split: this split.
        classes: names; a label is an index into them.
        ids: one unique name a sample, in order.
        options: the reader's options that were not left at their defaults, as JSON-ready values.
    """

    NAME: ClassVar[str]
    PROBLEM: ClassVar[str]
    SPLITS: ClassVar[tuple[str, ...]] = ("train", "val")
    LAYOUT: ClassVar[str]
    SOURCE: ClassVar[str]

    split: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    options: dict[str, object]

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.NAME

    @property
    def problem(self) -> str:
        """Which keys the samples have."""
        return self.PROBLEM

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index`, in arrays of its own; raise `DatasetError` where a file is damaged."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)} in {self}")
        return self._read(index % len(self))

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __str__(self) -> str:
        return f"{self.name} {self.split}"

    @abc.abstractmethod
    def _read(self, index: int) -> Sample:
        """Sample `index`, which is in range."""

    def labels(self) -> Array | None:
        """Return the class of every sample, `(n,)` int64, without decoding.

        None where none has a single one.
        """
        return None

    def verify(self) -> None:
        """Read every sample; raise `DatasetError` where one can't be read."""
        for index in range(len(self)):
            self[index]

    def arrays(self) -> dict[str, Array]:
        """Return the whole split in memory, each key's samples, of one shape, stacked: `(n, ...)`."""
        columns: dict[str, list[Array]] = {}
        for sample in self:
            for key, value in sample.items():
                columns.setdefault(key, []).append(value)
        if not columns:
            raise DatasetError(f"{self}: no samples")
        for key, values in columns.items():
            for name, value in zip(self.ids, values, strict=True):
                if value.shape != values[0].shape:
                    raise DatasetError(
                        f"{self}: {key!r} of {name} is {value.shape}, of {self.ids[0]} {values[0].shape}; "
                        "these don't stack; read them one by one, or open them with a fixed size"
                    )
        return {key: np.stack(values) for key, values in columns.items()}


class Without(Dataset):
    """A data set without some of its samples.

    Args:
        whole: the data set.
        ids: of the samples that are left out.

    Raises:
        DatasetError: there is no such sample, or none is left.
    """

    def __init__(self, whole: Dataset, ids: Iterable[str]):
        out = set(ids)
        if unknown := sorted(out - set(whole.ids)):
            raise DatasetError(f"{whole} has no sample {unknown[0]!r} to leave out")
        self.whole = whole
        self._kept = [k for k, name in enumerate(whole.ids) if name not in out]
        if not self._kept:
            raise DatasetError(f"{whole}: no sample is left")
        self.split, self.classes, self.options = whole.split, whole.classes, whole.options
        self.ids = tuple(whole.ids[k] for k in self._kept)

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.whole.name

    @property
    def problem(self) -> str:
        """Which keys the samples have."""
        return self.whole.problem

    def _read(self, index: int) -> Sample:
        return self.whole[self._kept[index]]

    def labels(self) -> Array | None:
        """Return the samples' labels, as every data set does."""
        labels = self.whole.labels()
        return None if labels is None else labels[self._kept]


def throughput(dataset: Dataset, seconds: float = 1.0) -> float:
    """Return samples a second, read in random order by this thread alone, over at least `seconds`."""
    positive("seconds", seconds)
    order = np.random.default_rng(0).permutation(len(dataset))
    for index in order[:3]:  # imports, and the disk cache's first touch
        dataset[index]
    start, count, spent = time.perf_counter(), 0, 0.0
    while spent < seconds:
        dataset[order[count % len(order)]]
        count, spent = count + 1, time.perf_counter() - start
    return count / spent


class Reader(Dataset):
    """A data set read from the files of its official layout."""

    #: Of classification and video: each sample's file, and its class.
    _samples: list[tuple[Path, int]]

    def __init__(self, root: str | os.PathLike[str], split: str, **options: object):
        if split not in self.SPLITS:
            raise DatasetError(f"{self.NAME} has no split {split!r}; expected {' or '.join(self.SPLITS)}")
        self.root = Path(root)
        self.split = split
        self.options = {
            k: list(v) if isinstance(v, tuple) else v for k, v in options.items() if v is not None
        }
        if not self.root.is_dir():
            raise self.incomplete([f"the folder {self.root} itself"])

    def labels(self) -> Array | None:
        """As of every data set."""
        if self.PROBLEM not in ("classification", "video"):
            return None
        return np.array([label for _, label in self._samples], np.int64)

    @classmethod
    def defaults(cls, split: str) -> dict[str, object]:
        """Return the options, and what each is for a split where it is not given."""
        parameters = inspect.signature(cls).parameters
        return {k: p.default for k, p in parameters.items() if p.default is not p.empty}

    def incomplete(self, missing: Sequence[str]) -> DatasetError:
        """Return the one error for a tree that lacks `missing` (phrases, in the order of looking)."""
        listed = ", ".join(missing[:4]) + (f" and {len(missing) - 4:,} more" if len(missing) > 4 else "")
        return DatasetError(
            f"{self.NAME} {self.split} in {self.root} is incomplete: missing {listed}. "
            f"Expected there {self.LAYOUT}. {self.SOURCE}"
        )


@contextlib.contextmanager
def new_folder(root: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a folder to fill, which becomes the new folder `root` when the block ends without an error."""
    path = Path(root)
    if path.exists():
        raise DatasetError(f"{path} exists; a data set is made in a new folder")
    with files.atomic_folder(path) as folder:
        yield folder


def listing(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files of a folder that end in one of `suffixes`, in any case, but hidden ones, by name."""
    if not folder.is_dir():
        return []
    names = sorted(
        e.name for e in os.scandir(folder) if e.name.lower().endswith(tuple(suffixes)) and e.is_file()
    )
    return [folder / n for n in names if not n.startswith(".")]


def folders(folder: Path) -> list[str]:
    """Return the names of a folder's folders, sorted; hidden ones not."""
    if not folder.is_dir():
        return []
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))
