"""Packs: one safetensors file for a split, with everything decoded once. Read by `Pack`, written by `pack`.

Anything that reads safetensors reads a pack. Its metadata say what it is, its tensors are

- `ids`: the samples' names, a JSON list in UTF-8,
- `numbers/<key>` `(n,)` for each key of a sample that is a single number, such as a photo's `label`,
- `shapes/<key>` `(n, ndim)` for each other key: the shape of each sample's array,
- `data`: the bytes of those arrays, in C order, sample by sample, and in each by key as in the metadata.

`Pack` maps the file and copies samples out of it, so it is safe with any number of processes and threads,
forked or spawned, and holds no handle and no lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nasbench_mr import tasks
from nasbench_mr.data_builders.datasets.base import Dataset, Sample
from nasbench_mr.data_builders.datasets.opening import Array
from nasbench_mr.errors import DatasetError, IntegrityError
from nasbench_mr.extras import requires
from nasbench_mr.files import atomic

FORMAT = "nasbench-mr pack 2"
ENDING = ".safetensors"
#: The types of arrays, as safetensors calls them.
_DTYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype("u1"),
    "I64": np.dtype("<i8"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
#: Bytes that are hashed at once.
_CHUNK = 1 << 22


def _safetensors() -> Any:
    with requires("build", "reading and writing packs"):
        import safetensors
    return safetensors


class Pack(Dataset):
    """A split read from a pack.

    Raises:
        DatasetError: the file is not a pack, or truncated, or contradicts itself.
    """

    def __init__(self, path: str | os.PathLike[str]):
        safetensors = _safetensors()
        self.path = Path(path)
        if not self.path.is_file():
            raise DatasetError(f"no pack {self.path}; write one with: nasbench-mr data pack")
        try:
            # It checks that the header is well-formed and that all tensors lie within the file.
            with safetensors.safe_open(self.path, "np"):
                pass
            self._open()
        except PermissionError as error:
            raise DatasetError(
                f"{self.path}: not readable, or locked by another process ({error})"
            ) from error
        # Of what a header, its JSON and tensors of other types and shapes make the lines of `_open` raise.
        except (
            safetensors.SafetensorError,
            OSError,
            LookupError,
            ValueError,
            TypeError,
            AttributeError,
            RuntimeError,
        ) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{self.path}: not a complete pack ({error})") from error

    def _open(self) -> None:
        self._bytes: Array = np.memmap(self.path, np.uint8, "r")
        length = int.from_bytes(self._bytes[:8].tobytes(), "little")
        header = json.loads(self._bytes[8 : 8 + length].tobytes())
        about = header.pop("__metadata__", {})
        if about.get("format") != FORMAT:
            raise DatasetError(
                f"{self.path}: safetensors, but not a pack of this version ({FORMAT!r}); "
                "write it again with: nasbench-mr data pack"
            )
        self._places = {
            name: slice(*(8 + length + at for at in tensor["data_offsets"]))
            for name, tensor in header.items()
        }
        self._sha256: dict[str, str] = json.loads(about["sha256"])
        self._name, self._problem, self.split = (str(about[key]) for key in ("name", "problem", "split"))
        self.classes, self.options = tuple(json.loads(about["classes"])), dict(json.loads(about["options"]))
        self.ids = tuple(json.loads(self._tensor("ids").tobytes()))
        if self._problem not in tasks.PROBLEMS or not all(
            isinstance(t, str) for t in self.ids + self.classes
        ):
            raise ValueError("an unknown problem, or names that are not text")
        #: The keys of a sample, in order, with their types.
        self._keys = {key: _DTYPES[dtype] for key, dtype in json.loads(about["keys"]).items()}
        count = len(self.ids)
        self._numbers: dict[str, Array] = {}
        self._shapes: dict[str, Array] = {}
        sizes = []
        for key, dtype in self._keys.items():
            if f"numbers/{key}" in header:
                self._numbers[key] = self._tensor(f"numbers/{key}").view(dtype).reshape(count)
                continue
            shapes = self._tensor(f"shapes/{key}").view(np.int64).reshape(count, -1)
            nbytes = shapes.prod(axis=1, dtype=np.float64) * dtype.itemsize
            if shapes.min(initial=0) < 0 or nbytes.sum() > len(self._bytes):
                raise ValueError(f"the shapes of {key!r} do not fit the data")
            self._shapes[key] = shapes
            sizes.append(nbytes.astype(np.int64))
        if not self._keys or not count:
            raise ValueError("it has no samples")
        data = self._places["data"]
        #: Where each array begins and ends: sample by sample, in each by key of `_shapes`.
        ends = np.concatenate([[0], np.cumsum(np.array(sizes, np.int64).T)]) + data.start
        if ends[-1] != data.stop:
            raise ValueError(
                f"its arrays have {ends[-1] - data.start:,} bytes; the data {data.stop - data.start:,}"
            )
        self._ends = ends

    def _tensor(self, name: str) -> Array:
        """Return the bytes of a tensor, in memory of their own."""
        return np.array(self._bytes[self._places[name]])

    def __reduce__(self) -> tuple[type[Pack], tuple[Path]]:
        return Pack, (self.path,)

    @property
    def name(self) -> str:
        """The data set's name."""
        return self._name

    @property
    def problem(self) -> str:
        """Which keys the samples have."""
        return self._problem

    def _read(self, index: int) -> Sample:
        sample: Sample = {}
        at = index * len(self._shapes)
        for key, dtype in self._keys.items():
            if key in self._numbers:
                sample[key] = np.array(self._numbers[key][index])
                continue
            value = np.empty(self._shapes[key][index], dtype)
            value.reshape(-1).view(np.uint8)[:] = self._bytes[self._ends[at] : self._ends[at + 1]]
            sample[key] = value
            at += 1
        return sample

    def labels(self) -> Array | None:
        """Return the samples' labels, as every data set does."""
        return self._numbers["label"].copy() if "label" in self._numbers else None

    def verify(self) -> None:
        """Hash all data anew; raise `IntegrityError` where a hash is not the recorded one."""
        for name, place in self._places.items():
            digest = hashlib.sha256()
            for start in range(place.start, place.stop, _CHUNK):
                digest.update(self._bytes[start : min(start + _CHUNK, place.stop)].data)
            if digest.hexdigest() != self._sha256.get(name):
                raise IntegrityError(f"{self.path}: {name!r} has changed since it was written")


def pack(dataset: Dataset, path: str | os.PathLike[str], workers: int = 2, progress: bool = False) -> Pack:
    """Write all samples of `dataset` into the pack `path`; the same samples give the same bytes.

    Args:
        workers: threads that decode.
        progress: show a bar on stderr, if that is a terminal.

    Raises:
        DatasetError: a sample can't be read; nothing is written then.
        StorageError: the disk is full; nothing is written then.
    """
    from tqdm import tqdm

    _safetensors()  # before the work
    if not len(dataset):
        raise DatasetError(f"{dataset}: no samples to pack")
    disable = None if progress else True
    with contextlib.closing(_ahead(dataset, workers)) as decoded, atomic(path) as temporary:
        samples = iter(tqdm(decoded, str(dataset), len(dataset), unit="sample", disable=disable))
        first = next(samples)
        with open(temporary, "wb") as file:
            writer = _Writer(file, dataset, first)
            writer.add(first)
            for sample in samples:
                writer.add(sample)
            writer.close()
    return Pack(path)


class _Writer:
    """Writes the samples' bytes as they come, and what stands before them at the end.

    The tables before `data` have a size that is known in advance, and so has the header but for the digits of
    one number: it is filled up with spaces, which the format allows.
    """

    def __init__(self, file: BinaryIO, dataset: Dataset, first: Sample):
        self.file, self.dataset = file, dataset
        for key, value in first.items():
            if value.dtype not in _NAMES:
                raise DatasetError(
                    f"{dataset}: {key!r} is {value.dtype}; expected {', '.join(map(str, _NAMES))}"
                )
        self.keys = {key: (value.dtype, value.ndim) for key, value in first.items()}
        #: Of each key: its numbers, or its arrays' shapes.
        self.rows: dict[str, list[Any]] = {key: [] for key in first}
        self.digest, self.total = hashlib.sha256(), 0
        self.room = 0
        # As long as it can get: 19 digits for the size of the data.
        self.room = -(-len(self._header(10**18)) // 8) * 8
        file.seek(8 + self.room + sum(len(table) for table in self._tables().values()))

    def add(self, sample: Sample) -> None:
        """Append a sample."""
        if {key: (value.dtype, value.ndim) for key, value in sample.items()} != self.keys:
            name = self.dataset.ids[len(next(iter(self.rows.values())))]
            raise DatasetError(f"{self.dataset}: {name} has arrays of other types than {self.dataset.ids[0]}")
        for key, value in sample.items():
            self.rows[key].append(value.shape if value.ndim else value)
            if value.ndim:
                data = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
                self.digest.update(data)
                self.total += self.file.write(data)

    def close(self) -> None:
        """Write the header and the tables."""
        self.file.seek(0)
        self.file.write(self.room.to_bytes(8, "little") + self._header(self.total))
        for table in self._tables().values():
            self.file.write(table)

    def _tables(self) -> dict[str, bytes]:
        """Return the tensors before `data`; zeros as long as the samples are not all there."""
        count = len(self.dataset)
        tables = {"ids": json.dumps(self.dataset.ids).encode()}
        for key, (dtype, ndim) in self.keys.items():
            table = np.zeros((count, ndim) if ndim else count, np.int64 if ndim else dtype)
            if len(rows := self.rows[key]) == count:
                table[...] = rows
            tables[f"shapes/{key}" if ndim else f"numbers/{key}"] = table.tobytes()
        return tables

    def _header(self, total: int) -> bytes:
        """Return the header for so many bytes of data, filled up with spaces to `room`."""
        tables = self._tables()
        sha256 = {name: hashlib.sha256(table).hexdigest() for name, table in tables.items()}
        about: Mapping[str, object] = {
            "keys": {key: _NAMES[dtype] for key, (dtype, _) in self.keys.items()},
            "classes": self.dataset.classes,
            "options": self.dataset.options,
            "sha256": sha256 | {"data": self.digest.hexdigest()},
        }
        names = {"name": self.dataset.name, "problem": self.dataset.problem, "split": self.dataset.split}
        header: dict[str, object] = {
            "__metadata__": {"format": FORMAT} | names | {k: json.dumps(v) for k, v in about.items()}
        }
        at, count = 0, len(self.dataset)
        for name, size in {**{name: len(table) for name, table in tables.items()}, "data": total}.items():
            dtype, shape = "U8", [size]
            kind, _, key = name.partition("/")
            if kind == "numbers":
                dtype, shape = _NAMES[self.keys[key][0]], [count]
            elif kind == "shapes":
                dtype, shape = "I64", [count, self.keys[key][1]]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        return json.dumps(header).encode().ljust(self.room)


def _ahead(dataset: Dataset, workers: int) -> Generator[Sample, None, None]:
    """Yield the samples in order, a few decoded ahead by threads (the decoders release the GIL)."""
    with ThreadPoolExecutor(max(1, workers)) as threads:
        window: deque[Future[Sample]] = deque()
        for index in range(len(dataset)):
            window.append(threads.submit(dataset.__getitem__, index))
            if len(window) > 4 * workers:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
