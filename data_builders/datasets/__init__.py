"""Data sets: readers of official layouts, and packs of them. (`generate` makes stand-ins for them.)

`load(name, root, split)` gives a split as a `Dataset` (see `base`): from a pack where `root` is one or holds
one that was made with the same options, else from the files of the data set's official layout.

```python
from nasbench_mr.data_builders import datasets

train = datasets.load("camvid", "data/camvid", "train")
train[0]["image"], train[0]["mask"]                       # (180, 240, 3) uint8, (180, 240) uint8
train.arrays()                                            # the whole split in memory
datasets.pack(train, "packs/camvid/train.safetensors")    # decoded once
datasets.load("camvid", "packs/camvid", "train")          # the same samples, faster
datasets.locate("kitti")                                  # where commands and recipes look for it
```
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nasbench_mr.data_builders.datasets.base import IGNORE, Dataset, Reader, Sample, Without, throughput
from nasbench_mr.data_builders.datasets.hmdb51 import Hmdb51
from nasbench_mr.data_builders.datasets.images import CamVid, Cifar10, Cityscapes, ImageNet
from nasbench_mr.data_builders.datasets.kitti import Kitti
from nasbench_mr.data_builders.datasets.opening import Array, Size
from nasbench_mr.data_builders.datasets.packs import ENDING, Pack, pack
from nasbench_mr.errors import DatasetError, InvalidArgumentError, did_you_mean
from nasbench_mr.plugins import Registry
from nasbench_mr.release import home
from nasbench_mr.settings import fits

__all__ = [
    "IGNORE",
    "Array",
    "Dataset",
    "Pack",
    "Reader",
    "Sample",
    "Size",
    "Without",
    "load",
    "locate",
    "names",
    "pack",
    "pack_name",
    "packs_in",
    "throughput",
    "unusual",
]

READERS = Registry[type[Reader]](
    "data set", {cls.NAME: cls for cls in (Cifar10, ImageNet, CamVid, Cityscapes, Kitti, Hmdb51)}
)
#: The data sets that `fetch.fetch` gets.
FETCHED = ("cifar10", "camvid")


def names() -> tuple[str, ...]:
    """Return the data sets there are readers for."""
    return READERS.names


def folder(name: str, data: str | os.PathLike[str] | None = None) -> Path:
    """Where commands and recipes look for a data set, there or not: `<data>/<name>`.

    `data` is by default $NASBENCH_MR_DATA, else the folder `data` of the package's home (`release.home`).
    """
    base = data or os.environ.get("NASBENCH_MR_DATA")
    return (Path(base).expanduser() if base else home() / "data") / name


def locate(name: str, data: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a data set (see `folder`), else raise `DatasetError`, which says what gets it."""
    reader(name)
    path = folder(name, data)
    if path.is_dir():
        return path
    verb = "fetch" if name in FETCHED else "make"
    where = f" {path}" if data else ""
    raise DatasetError(
        f"no data set {name} at {path}: set NASBENCH_MR_DATA to the folder that has {name}/, "
        f"or get one with: nasbench-mr data {verb} {name}{where}"
    )


def reader(name: str) -> type[Reader]:
    """Return the reader class of a data set; its docstring lists the options."""
    return READERS[name]


def options_of(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """Return the options of a reader or maker: its parameters with a default, by name."""
    parameters = inspect.signature(function).parameters
    return {k: p for k, p in parameters.items() if p.default is not p.empty}


def check_options(function: Callable[..., object], options: Mapping[str, Any]) -> None:
    """Raise `InvalidArgumentError` for an option that the reader or maker lacks, or of a wrong type."""
    known = options_of(function)
    for key, value in options.items():
        if key not in known:
            raise InvalidArgumentError(f"no option {key!r} here: {did_you_mean(key, known)}")
        kind = str(known[key].annotation)
        if not fits(value, {"Size": "int | tuple[int, int] | None"}.get(kind, kind)):
            raise InvalidArgumentError(f"option {key} is {value!r}; expected {kind}")
        if key == "seed" and value < 0:
            raise InvalidArgumentError(f"option seed is {value}; expected at least 0")


def load(name: str, root: str | os.PathLike[str], split: str, **options: Any) -> Dataset:
    """One split of the data set `name`.

    Args:
        root: a pack, the folder of packs or of the official layout, or both in one.
        options: those of the reader. A pack was written with some: only one with the same is taken, and what
            is not given here counts as its default. (`Pack` opens any.)

    Raises:
        DatasetError: what is there is incomplete, or a pack of something else.
        InvalidArgumentError: the reader has no such option.
    """
    cls = reader(name)
    check_options(cls, options)
    path, misfits = Path(root), []
    for packed in [path] if path.is_file() else packs_in(path, split):
        found = Pack(packed)
        if (found.name, found.split) != (name, split):
            raise DatasetError(f"{packed} is a pack of {found}; expected {name} {split}")
        if not (misfit := _misfit(cls, found, options)):
            return found
        misfits.append(f"{packed} was packed with {misfit}")
    if path.is_file():
        raise DatasetError(misfits[0])
    try:
        return cls(path, split, **options)
    except DatasetError as error:
        if not misfits:
            raise
        raise DatasetError(f"{'; '.join(misfits)}; and its files can't be read: {error}") from error


def packs_in(folder: Path, split: str) -> list[Path]:
    """Return the packs of a split in a folder: `<split>.safetensors` and `<split>-*.safetensors`."""
    plain = folder / f"{split}{ENDING}"
    return [*([plain] if plain.is_file() else []), *sorted(folder.glob(f"{split}-*{ENDING}"))]


def pack_name(found: Dataset) -> str:
    """Return the file name of a split's pack: `<split>.safetensors`.

    It has a digest of the options where some differ from the reader's defaults.
    """
    options = unusual(found)
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]
    return f"{found.split}-{digest}{ENDING}" if options else f"{found.split}{ENDING}"


def unusual(found: Dataset) -> dict[str, object]:
    """Return the options of a split that differ from its reader's defaults."""
    defaults = _plain(reader(found.name).defaults(found.split))
    return {key: value for key, value in found.options.items() if value != defaults.get(key)}


def _misfit(cls: type[Reader], found: Pack, options: Mapping[str, Any]) -> str:
    """Return what a pack was made with that is not asked for; "" if it fits."""
    defaults = _plain(cls.defaults(found.split))
    asked = defaults | _plain({key: value for key, value in options.items() if value is not None})
    for key, value in (defaults | found.options).items():
        if value != asked.get(key):
            return f"{key}={value!r}; asked for {asked.get(key)!r}"
    return ""


def _plain(options: Mapping[str, object]) -> dict[str, object]:
    """As JSON has them: lists for tuples."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in options.items()}
