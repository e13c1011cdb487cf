"""The ways files from outside are opened: text, photos, label images, arrays, HDF5 and MATLAB files.

Each admits the formats that it names and no other, bounds what it reads before it reads it, and raises a
`DatasetError` that names the file whatever a parser makes of it. A file that is empty, a web page or a
pointer of Git LFS is called so. What can crash or hang its library is read in a process of its own: see
`apart`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import workers
from nasbench_mr.errors import DatasetError, InvalidArgumentError, NasbenchMRError, WorkerError
from nasbench_mr.extras import requires

if TYPE_CHECKING:
    import h5py
    from PIL import Image

Array = npt.NDArray[Any]
#: An image size: None as it is, n for a shorter side of n pixels, (height, width) exactly.
Size = int | tuple[int, int] | None

#: More pixels than this is taken for a decompression bomb; the largest ImageNet photo has 45 million.
MAX_PIXELS = 90_000_000
#: Bytes of an image file; the largest PNG of `MAX_PIXELS` with 16-bit colours would have 540 million.
MAX_IMAGE = 1 << 29
#: Bytes of a text file (labels, lists); the largest official ones have a few hundred thousand.
MAX_TEXT = 16 << 20
#: Bytes of an array that is read as a whole, from NPY, HDF5 or MATLAB.
MAX_ARRAY = 1 << 28
#: What is decoded, whatever a file's name ends with; the fewer parsers, the safer.
_FORMATS = ("JPEG", "PNG")
#: HDF5's filters: gzip, shuffle, checksums. Others would be loaded as libraries from the system.
_FILTERS = frozenset({1, 2, 3})
#: Seconds for one step of `apart`, and bytes of memory for its process.
_SECONDS, _MEMORY = 60.0, 4 << 30


@contextlib.contextmanager
def named(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever the block raises about a file into a `DatasetError`: not a readable `kind`, and why."""
    try:
        yield
    except NasbenchMRError:
        raise
    except Exception as error:  # Parsers raise anything for what is malformed.
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{path}: not a readable {kind} ({foreign(path) or text})") from error


def foreign(path: Path) -> str:
    """Say what a file is that came instead of another: empty, a web page, a pointer; "" for all else."""
    try:
        with open(path, "rb") as file:
            head = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    except OSError:
        return ""
    if not head:
        return "the file is empty"
    if head.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "it is a web page, as a failed download leaves; get the file again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS; get the file itself with: git lfs pull"
    return ""


def bounded(path: Path, most: int, kind: str) -> int:
    """Return a file's size in bytes, which must not be above `most`."""
    size = os.stat(path).st_size
    if size > most:
        raise DatasetError(f"{path}: {size:,} bytes; expected at most {most:,} for {kind}")
    return size


def read_text(path: Path) -> str:
    """Read a small text file; raise `DatasetError` for larger ones, and for a web page in its place."""
    with named(path, "text"):
        bounded(path, MAX_TEXT, "a text")
        if (what := foreign(path)) and what != "the file is empty":
            raise ValueError(what)
        return path.read_text("utf-8-sig")


# --- Images -------------------------------------------------------------------------------------------


def check_size(size: Size) -> Size:
    """Return `size`, if it is one."""
    sides = (size,) if isinstance(size, int) else size
    if sides is None:
        return None
    if len(sides) > 2 or not all(1 <= s <= 8192 for s in sides):
        raise InvalidArgumentError(f"size is {size}; expected n or (height, width), in 1 to 8192 pixels")
    return size


def resized(width: int, height: int, size: Size) -> tuple[int, int]:
    """Return width and height of a `width` x `height` image after resizing to `size`."""
    if size is None:
        return width, height
    if isinstance(size, tuple):
        return size[1], size[0]
    short = min(width, height)
    return max(1, round(width * size / short)), max(1, round(height * size / short))


def read_image(path: Path, size: Size = None) -> Array:
    """Read a photo as `(H, W, 3)` uint8 RGB, resized (bilinear, antialiased) to `size`.

    A grey photo of 16 bits is converted to 8: 65,535 becomes 255. (Pillow does so for colours itself.)
    """
    with _image(path) as image:
        if image.mode.startswith("I"):
            from PIL import Image as pillow

            image = pillow.fromarray(np.round(_sixteen(path, image) / 257).astype(np.uint8))
        return scaled(image.convert("RGB"), size)


def read_mask(path: Path, size: Size = None) -> Array:
    """Read a label image of one 8-bit channel as `(H, W)` uint8, resized (nearest) to `size`."""
    with _image(path) as image:
        if image.mode not in ("L", "P"):
            raise DatasetError(f"{path}: a label image of mode {image.mode}; expected one 8-bit channel")
        return scaled(image, size, nearest=True)


def read_16bit(path: Path) -> Array:
    """Read an image of one 16-bit channel, such as depth, as `(H, W)` uint16."""
    with _image(path) as image:
        if not image.mode.startswith("I"):
            raise DatasetError(f"{path}: an image of mode {image.mode}; expected one 16-bit channel")
        return _sixteen(path, image).astype(np.uint16)


def image_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image, from its header."""
    with _image(path) as image:
        return image.height, image.width


def scaled(image: Image.Image, size: Size, nearest: bool = False) -> Array:
    """Return the pixels of an image resized to `size`: bilinear and antialiased, or the nearest."""
    from PIL.Image import Resampling

    target = resized(image.width, image.height, size)
    if target != image.size:
        image = image.resize(target, Resampling.NEAREST if nearest else Resampling.BILINEAR)
    return np.array(image)


def _sixteen(path: Path, image: Image.Image) -> Array:
    """Return the values of a 16-bit channel, which Pillow gives as one of 16 or 32 bits."""
    values = np.array(image)
    if values.min() < 0 or values.max() > 65535:
        raise DatasetError(f"{path}: values of {values.min()} to {values.max()}; expected 0 to 65,535")
    return values


@contextlib.contextmanager
def _image(path: Path) -> Iterator[Image.Image]:
    with requires("build", "reading images"):
        from PIL import Image
    with named(path, "image"):
        bounded(path, MAX_IMAGE, "an image")
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DatasetError(
                    f"{path}: {image.width} x {image.height} pixels; expected at most {MAX_PIXELS:,} in all"
                )
            yield image


# --- Arrays -------------------------------------------------------------------------------------------


def read_array(path: Path) -> Array:
    """Read an NPY file of numbers; raise `DatasetError` where it is larger than `MAX_ARRAY`, or cut."""
    with named(path, "NPY file"):
        bounded(path, MAX_ARRAY, "an array")
        with open(path, "rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise ValueError("it does not begin as one")
        # Mapped, as a header can claim any size.
        values = np.load(path, "r", allow_pickle=False)
        if values.dtype.kind not in "biuf":
            raise ValueError(f"it is of type {values.dtype}")
        return np.array(values)


def whole(values: Array) -> Array:
    """Return numbers as int64, also those that MATLAB stores as double; raise `ValueError` for fractions."""
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise ValueError("it has numbers that are not whole")
    return values.astype(np.int64)


class Hdf5:
    """An HDF5 file of which only plain data sets of numbers are read, and references to them.

    Not followed are links to other files and storage in them, virtual data sets, and filters that HDF5 would
    load as libraries.
    """

    def __init__(self, path: Path, file: h5py.File):
        self.path, self._file = path, file

    def __contains__(self, name: str) -> bool:
        return name in self._file

    def data(self, name: str) -> h5py.Dataset:
        """Return a data set of the file's top level, to be read in slices (`read`).

        Raises:
            DatasetError: there is none, or it is one of those that are not read.
        """
        import h5py

        with named(self.path, f"HDF5 file with {name!r}"):
            if name not in self._file:
                raise ValueError("there is no such data set")
            if not isinstance(self._file.get(name, getlink=True), h5py.HardLink):
                raise ValueError("it is a link")
            return self._plain(self._file[name])

    def _plain(self, data: h5py.Dataset) -> h5py.Dataset:
        import h5py

        if not isinstance(data, h5py.Dataset):
            raise ValueError("it is not a data set")
        if data.dtype.kind not in "biuf" and h5py.check_ref_dtype(data.dtype) is not h5py.Reference:
            raise ValueError(f"it is of type {data.dtype}")
        settings = data.id.get_create_plist()
        filters = {settings.get_filter(k)[0] for k in range(settings.get_nfilters())}
        if data.external or data.is_virtual or not filters <= _FILTERS:
            raise ValueError("it is stored in other files, or in a way that needs other libraries")
        if data.chunks and np.prod(data.chunks, dtype=float) * data.dtype.itemsize > MAX_ARRAY:
            raise ValueError(f"its chunks are {data.chunks}; expected at most {MAX_ARRAY:,} bytes each")
        return data

    def read(self, name: str, row: int | None = None) -> Array:
        """Read a data set of numbers, or one row of it; at most `MAX_ARRAY` bytes."""
        data = self.data(name)
        with named(self.path, f"HDF5 file with {name!r}"):
            return self._values(data, row)

    def referred(self, name: str) -> Iterator[Array]:
        """Read the data sets that a data set of references refers to."""
        data = self.data(name)
        with named(self.path, f"HDF5 file with {name!r}"):
            for reference in self._values(data).ravel():
                yield self._values(self._plain(self._file[reference]))

    @staticmethod
    def _values(data: h5py.Dataset, row: int | None = None) -> Array:
        size = np.prod(data.shape if row is None else data.shape[1:], dtype=float) * data.dtype.itemsize
        if size > MAX_ARRAY:
            raise ValueError(f"{size:,.0f} bytes; expected at most {MAX_ARRAY:,}")
        return np.asarray(data[()] if row is None else data[row])


@contextlib.contextmanager
def hdf5(path: Path) -> Iterator[Hdf5]:
    """Open an HDF5 file; without a lock, so that it does not matter who else has it open.

    A damaged one can crash or hang the library: read files from outside within `apart`.
    """
    with requires("auxnas", "reading HDF5 files"):
        import h5py
    with named(path, "HDF5 file"), h5py.File(path, "r", locking=False) as file:
        yield Hdf5(path, file)


def read_matlab(path: Path, name: str) -> Array:
    """Read a variable of numbers from a small MATLAB file, of version 7.3 (HDF5) or older."""
    with named(path, "MATLAB file"):
        bounded(path, MAX_ARRAY, "a MATLAB file")
    with apart(path, f"{__name__}:variables", (path,)) as ask:
        return np.asarray(ask(name))


def variables(path: Path) -> Callable[[str], Array]:
    """Return what `read_matlab` runs in a process of its own: a function from names to variables."""

    def read(name: str) -> Array:
        with named(path, f"MATLAB file with {name!r}"):
            if what := foreign(path):
                raise ValueError(what)
            with open(path, "rb") as file:
                old = file.read(128)[124:128] in (b"\x00\x01IM", b"\x01\x00MI")
            if not old:
                with hdf5(path) as file:
                    return file.read(name)
            with requires("auxnas", "reading MATLAB files of an old version"):
                from scipy.io import loadmat
            found = loadmat(path, variable_names=[name])
            if name not in found:
                raise ValueError("there is no such variable")
            values = np.asarray(found[name])
            if values.dtype.kind not in "biuf":
                raise ValueError(f"it is of type {values.dtype}")
            return values

    return read


@contextlib.contextmanager
def apart(
    path: Path, maker: str, arguments: tuple[Any, ...], *, seconds: float = _SECONDS
) -> Iterator[Callable[[Any], Any]]:
    """Give a function that reads a file in a process of its own, bounded in time and memory.

    Args:
        path: the file that errors name.
        maker: address of a function, "module:function", that `arguments` turn into the one that reads
            (`workers.Work`). It opens the file at its first call, as only calls are bounded in time.
        seconds: for each call.

    Raises:
        DatasetError: the library crashed, took too long or too much memory; and whatever a call raises.
    """
    work = workers.Work(f"{__name__}:_limited", (maker, arguments), time_limit=seconds)
    with workers.make("local", work, 1) as pool:

        def ask(task: Any) -> Any:
            try:
                while not pool.free:
                    pool.wait(seconds)
                pool.submit(task)
                while not (done := pool.wait(seconds)):
                    pass
                return done[0].result()
            except (WorkerError, MemoryError) as error:
                raise DatasetError(f"{path}: reading it failed; the file is damaged ({error})") from error

        yield ask


def _limited(maker: str, arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows; a lower limit is set already
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return workers.Work(maker, arguments).load()
