"""Packs: one HDF5 file for a split, with everything decoded once. Read by `Pack`, written by `pack`.

A pack is ordinary HDF5, readable by anything that reads HDF5. Its attributes say what it is; `ids` names the
samples; the group `samples` has, for each key of a sample, a group with

- `data`: the samples' values one after the other, flat, in chunks without filters,
- `offsets` (n + 1,): sample i is `data[offsets[i]:offsets[i + 1]]`,
- `shapes` (n, ndim): its shape,
- an attribute `sha256` of the bytes of `data`.

`Pack` asks HDF5 only where the chunks lie and then maps the file, so that it is safe with any number of
processes and threads, forked or spawned, and holds no HDF5 handle and no lock.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import tasks
from nasbench_mr.data_builders.datasets.base import Array, Dataset, Sample
from nasbench_mr.errors import DatasetError, IntegrityError, missing_extra
from nasbench_mr.files import atomic

if TYPE_CHECKING:
    import h5py

FORMAT = "nasbench-mr pack 1"
#: Chunks hold about one sample, but no less and no more bytes than this.
_MIN_CHUNK, _MAX_CHUNK = 1 << 16, 1 << 22
_DTYPES = ("uint8", "int64", "float32")


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise missing_extra("h5py", "build", "reading and writing packs") from None
    return h5py


class Pack(Dataset):
    """A split read from a pack.

    Raises:
        DatasetError: the file is no pack, or truncated, or contradicts itself.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        h5py = _h5py()
        if not self.path.is_file():
            raise DatasetError(f"no pack {self.path}; write one with: nasbench-mr data pack")
        try:
            self._bytes: Array = np.memmap(self.path, np.uint8, "r")
            with h5py.File(self.path, "r") as file:
                if file.attrs.get("format") != FORMAT:
                    raise DatasetError(
                        f"{self.path}: HDF5, but no pack of this version ({FORMAT!r}); "
                        "write it again with: nasbench-mr data pack"
                    )
                about = json.loads(file.attrs["about"])
                self._name, self._problem = str(about["name"]), str(about["problem"])
                self.split = str(about["split"])
                self.classes, self.options = tuple(about["classes"]), dict(about["options"])
                self.ids = tuple(json.loads(file["ids"][()].tobytes()))
                self._columns = {
                    key: _Column(group, self._bytes, len(self.ids)) for key, group in file["samples"].items()
                }
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{self.path}: not a complete pack ({error})") from error
        if self._problem not in tasks.PROBLEMS or not self._columns:
            raise DatasetError(f"{self.path}: a pack without samples or of an unknown problem")

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
        return {key: column.read(self._bytes, index) for key, column in self._columns.items()}

    def labels(self) -> Array | None:
        """As of every data set."""
        column = self._columns.get("label")
        if column is None or column.shapes.shape[1]:  # several a sample
            return None
        return column.slice(self._bytes, 0, column.total)

    def verify(self) -> None:
        """Hashes all data anew.

        Raises:
            IntegrityError: a hash is not the recorded one.
        """
        for key, column in self._columns.items():
            digest = hashlib.sha256()
            for start in range(0, column.total, _MAX_CHUNK):
                digest.update(column.slice(self._bytes, start, min(start + _MAX_CHUNK, column.total)).data)
            if digest.hexdigest() != column.sha256:
                raise IntegrityError(f"{self.path}: the data of {key!r} has changed since it was written")


class _Column:
    """Where one key's values lie in the file."""

    def __init__(self, group: h5py.Group, file: Array, count: int):
        data = group["data"]
        self.dtype, self.total = data.dtype, int(data.shape[0])
        self.offsets: Array = group["offsets"][()]
        self.shapes: Array = group["shapes"][()]
        self.sha256 = str(group.attrs["sha256"])
        if self.dtype.name not in _DTYPES or not self.dtype.isnative:
            raise ValueError(f"{data.name} is {self.dtype}; expected one of {', '.join(_DTYPES)}")
        if not data.chunks or data.id.get_create_plist().get_nfilters():
            raise ValueError(f"{data.name} is not in plain chunks")
        if (
            self.offsets.shape != (count + 1,)
            or self.shapes.shape[:1] != (count,)
            or self.shapes.ndim != 2
            or self.shapes.min(initial=0) < 0
            or (self.offsets[0], self.offsets[-1]) != (0, self.total)
            or not np.array_equal(np.diff(self.offsets), self.shapes.prod(axis=1, dtype=np.int64))
        ):
            raise ValueError(f"{data.name} does not fit its offsets and shapes")
        self.chunk = int(data.chunks[0])
        # The byte address of each chunk, by its place.
        self.places = np.full(-(-self.total // self.chunk), -1, np.int64)

        def place(info: Any) -> None:
            self.places[info.chunk_offset[0] // self.chunk] = info.byte_offset

        data.id.chunk_iter(place)
        end = self.places + self.chunk * self.dtype.itemsize
        if np.any(self.places < 0) or np.any(end > len(file)):
            raise ValueError(f"chunks of {data.name} are missing")

    def read(self, file: Array, index: int) -> Array:
        """Sample `index`, copied out of the mapped file."""
        shape = self.shapes[index]
        return self.slice(file, int(self.offsets[index]), int(self.offsets[index + 1])).reshape(shape)

    def slice(self, file: Array, start: int, stop: int) -> Array:
        """`data[start:stop]`, copied."""
        out = np.empty(stop - start, self.dtype)
        raw, size = out.view(np.uint8), self.dtype.itemsize
        at = start
        while at < stop:
            place, inside = divmod(at, self.chunk)
            count = min(stop - at, self.chunk - inside)
            begin = int(self.places[place]) + inside * size
            raw[(at - start) * size : (at - start + count) * size] = file[begin : begin + count * size]
            at += count
        return out


def pack(dataset: Dataset, path: str | os.PathLike[str], workers: int = 2, progress: bool = False) -> Pack:
    """Writes all samples of `dataset` into the pack `path`; the same samples give the same bytes.

    Args:
        workers: threads that decode.
        progress: show a bar on stderr, if that is a terminal.

    Raises:
        DatasetError: a sample can't be read; nothing is written then.
    """
    from tqdm import tqdm

    h5py = _h5py()
    about = {
        "name": dataset.name,
        "problem": dataset.problem,
        "split": dataset.split,
        "classes": dataset.classes,
        "options": dataset.options,
    }
    if not len(dataset):
        raise DatasetError(f"{dataset}: no samples to pack")
    with atomic(path) as temporary, h5py.File(temporary, "w", libver=("v110", "v110")) as file:
        file.attrs["format"] = FORMAT
        file.attrs["about"] = json.dumps(about)
        file["ids"] = np.frombuffer(json.dumps(dataset.ids).encode(), np.uint8)
        group = file.create_group("samples", track_order=True)
        columns: dict[str, _Writer] = {}
        samples = tqdm(
            _ahead(dataset, workers),
            str(dataset),
            len(dataset),
            unit="sample",
            disable=None if progress else True,
        )
        for sample in samples:
            for key, value in sample.items():
                if key not in columns:
                    columns[key] = _Writer(group.create_group(key), value)
                columns[key].append(value)
        for column in columns.values():
            column.close()
    return Pack(path)


class _Writer:
    """Appends one key's values."""

    def __init__(self, group: h5py.Group, first: Array):
        chunk = min(max(first.nbytes, _MIN_CHUNK), _MAX_CHUNK) // first.itemsize
        if first.dtype.name not in _DTYPES:
            raise TypeError(f"samples have arrays of {', '.join(_DTYPES)}; {group.name} is {first.dtype}")
        self.group = group
        self.data = group.create_dataset("data", (0,), first.dtype, maxshape=(None,), chunks=(chunk,))
        self.digest = hashlib.sha256()
        self.pending: list[Array] = []
        self.pending_bytes = 0
        self.sizes: list[int] = []
        self.shapes: list[tuple[int, ...]] = []

    def append(self, value: Array) -> None:
        self.sizes.append(value.size)
        self.shapes.append(value.shape)
        self.pending.append(np.ascontiguousarray(value, self.data.dtype).reshape(-1))
        self.pending_bytes += value.nbytes
        if self.pending_bytes >= _MAX_CHUNK:
            self.flush()

    def flush(self) -> None:
        values = np.concatenate(self.pending)
        self.digest.update(values.data)
        at = self.data.shape[0]
        self.data.resize((at + len(values),))
        self.data[at:] = values
        self.pending, self.pending_bytes = [], 0

    def close(self) -> None:
        if self.pending:
            self.flush()
        self.group["offsets"] = np.array([0, *itertools.accumulate(self.sizes)], np.int64)
        self.group["shapes"] = np.array(self.shapes, np.int64).reshape(len(self.shapes), -1)
        self.group.attrs["sha256"] = self.digest.hexdigest()


def _ahead(dataset: Dataset, workers: int) -> Iterator[Sample]:
    """The samples in order, a few decoded ahead by threads (image and video decoders release the GIL)."""
    with ThreadPoolExecutor(max(1, workers)) as threads:
        window: deque[Future[Sample]] = deque()
        for index in range(len(dataset)):
            window.append(threads.submit(dataset.__getitem__, index))
            if len(window) > 4 * workers:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
