"""Data sets: readers of official layouts, packs of them, generated stand-ins.

`load(name, root, split)` gives a split as a `Dataset` (see `base`): from a pack where `root` is one or holds
`<split>.h5`, else from the files of the data set's official layout.

```python
from nasbench_mr.data_builders import datasets

train = datasets.load("camvid", "data/camvid", "train")
train[0]["image"], train[0]["mask"]                       # (180, 240, 3) uint8, (180, 240) uint8
train.arrays()                                            # the whole split in memory
datasets.pack(train, "packs/camvid/train.h5")             # decoded once
datasets.load("camvid", "packs/camvid", "train")          # the same samples, faster
datasets.make("kitti", "data/kitti", train=64, val=16)    # a generated data set in KITTI's layout
datasets.locate("kitti")                                  # where commands and recipes look for it
```
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nasbench_mr.data_builders.datasets.base import IGNORE, Array, Dataset, Reader, Sample, Size, throughput
from nasbench_mr.data_builders.datasets.packs import Pack, pack
from nasbench_mr.errors import DatasetError, InvalidArgumentError, UnknownNameError, did_you_mean
from nasbench_mr.release import home

__all__ = [
    "IGNORE",
    "Array",
    "Dataset",
    "Pack",
    "Reader",
    "Sample",
    "Size",
    "load",
    "locate",
    "make",
    "names",
    "pack",
    "throughput",
]

_HERE = "nasbench_mr.data_builders.datasets"
#: Data set: (module, class) of its reader.
_READERS = {
    "cifar10": ("images", "Cifar10"),
    "imagenet": ("images", "ImageNet"),
    "camvid": ("images", "CamVid"),
    "cityscapes": ("images", "Cityscapes"),
    "kitti": ("kitti", "Kitti"),
    "hmdb51": ("hmdb51", "Hmdb51"),
}
#: Data set: the module that generates one, with its function `make`.
_MAKERS = {
    "imagenet": "make_imagenet",
    "cityscapes": "make_cityscapes",
    "kitti": "make_kitti",
    "hmdb51": "make_hmdb51",
}


#: The data sets that `fetch.fetch` gets.
FETCHED = ("cifar10", "camvid")


def names() -> tuple[str, ...]:
    """The data sets there are readers for."""
    return tuple(_READERS)


def made() -> tuple[str, ...]:
    """The data sets that can be generated."""
    return tuple(_MAKERS)


def folder(name: str, data: str | os.PathLike[str] | None = None) -> Path:
    """Where commands and recipes look for a data set, there or not: `<data>/<name>`.

    `data` is by default $NASBENCH_MR_DATA, else the folder `data` of the package's home (`release.home`).
    """
    base = data or os.environ.get("NASBENCH_MR_DATA")
    return (Path(base).expanduser() if base else home() / "data") / name


def locate(name: str, data: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a data set, in its official layout or of packs; see `folder`.

    Raises:
        DatasetError: there is none; with the command that gets it.
        UnknownNameError: no such data set.
    """
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
    """The reader class of a data set; its docstring lists the options."""
    if name not in _READERS:
        raise UnknownNameError(f"no data set {name!r}: {did_you_mean(name, _READERS)}")
    module, cls = _READERS[name]
    found: type[Reader] = getattr(importlib.import_module(f"{_HERE}.{module}"), cls)
    return found


def maker(name: str) -> Any:
    """The function that generates a stand-in for a data set; its docstring lists the options."""
    if name not in _MAKERS:
        raise UnknownNameError(f"no generated data set {name!r}: {did_you_mean(name, _MAKERS)}")
    return importlib.import_module(f"{_HERE}.{_MAKERS[name]}").make


def mini(name: str) -> dict[str, Any]:
    """The options with which a generated data set suits trials of seconds."""
    maker(name)
    return dict(importlib.import_module(f"{_HERE}.{_MAKERS[name]}").MINI)


def options_of(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """The options of a reader or maker: its parameters with a default, by name."""
    parameters = inspect.signature(function).parameters
    return {k: p for k, p in parameters.items() if p.default is not p.empty}


def check_options(function: Callable[..., object], options: Mapping[str, Any]) -> None:
    """Raises `InvalidArgumentError` for an option that the reader or maker lacks, or of a wrong type."""
    known = options_of(function)
    for key, value in options.items():
        if key not in known:
            raise InvalidArgumentError(f"no option {key!r} here: {did_you_mean(key, known)}")
        kind = str(known[key].annotation)
        pair = isinstance(value, tuple) and [type(v) for v in value] == [int, int]
        if not {
            "bool": type(value) is bool,
            "int": type(value) is int,
            "int | None": value is None or type(value) is int,
            "float": type(value) in (int, float),
            "str": type(value) is str,
            "tuple[int, int]": pair,
            "Size": value is None or type(value) is int or pair,
        }[kind]:
            raise InvalidArgumentError(f"option {key} is {value!r}; expected {kind}")


def load(name: str, root: str | os.PathLike[str], split: str, **options: Any) -> Dataset:
    """One split of the data set `name`.

    Args:
        root: a pack, a folder of packs `<split>.h5`, or the folder of the official layout.
        options: those of the reader. A pack has had them when it was written: given here, they must agree.

    Raises:
        DatasetError: what is there is incomplete, or a pack of something else.
        InvalidArgumentError: the reader has no such option.
    """
    cls = reader(name)
    path = Path(root)
    packed = path / f"{split}.h5" if path.is_dir() else path
    if packed.is_file():
        found = Pack(packed)
        if (found.name, found.split) != (name, split):
            raise DatasetError(f"{packed} is a pack of {found}; expected {name} {split}")
        known = options_of(cls)
        for key, value in options.items():
            packed_value = found.options.get(key, known[key].default if key in known else None)
            if value is not None and packed_value != (list(value) if isinstance(value, tuple) else value):
                raise DatasetError(f"{packed} was packed with {key}={packed_value!r}; asked for {value!r}")
        return found
    check_options(cls, options)
    return cls(path, split, **options)


def make(name: str, root: str | os.PathLike[str], **options: Any) -> Path:
    """Generates a data set in the layout of `name` at the new folder `root`, and returns its path.

    Raises:
        DatasetError: the folder exists.
        InvalidArgumentError: there is no such option.
    """
    function = maker(name)
    check_options(function, options)
    path: Path = function(root, **options)
    return path
