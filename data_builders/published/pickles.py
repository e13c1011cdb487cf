"""Reading the published pickles: plain data and numeric NumPy arrays, and nothing else.

`load` is Python's own unpickler with a `find_class` that knows the names by which NumPy writes arrays, and no
others. Each stands for a class or function of this module, which checks what it is given, so a pickle calls
nothing of Python's or NumPy's. The published files are known by their hashes before any of this runs; for
others (`--unchecked`) the size and the operations are checked first as well.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import re
from typing import Any

import numpy as np

from nasbench_mr.errors import TableError, UnsafeFileError

MAX_BYTES = 64 << 20
#: A published table takes about 500,000.
MAX_OPERATIONS = 4_000_000

_NUMERIC = re.compile(r"b1|[iu][1248]|f[248]")
#: Operations of protocols 2 to 5 by which plain data and arrays are written.
_PLAIN = re.compile(
    "PROTO|FRAME|STOP|MARK|POP|NONE|NEWTRUE|NEWFALSE|BININT[12]?|LONG1|BINFLOAT|(SHORT_)?BINUNICODE8?"
    "|(SHORT_)?BINSTRING|(SHORT_)?BINBYTES8?|BYTEARRAY8|EMPTY_(LIST|TUPLE|DICT)|APPENDS?|TUPLE[123]?"
    "|SETITEMS?|(LONG_)?BIN[PG][UE]T|MEMOIZE|(STACK_)?GLOBAL|REDUCE|BUILD"
)
#: Tuples in each other, in a row; hashing what is nested deeper could overflow the stack.
_MAX_NESTING = 100


class _Dtype:
    """A numeric dtype in the making: a pickle names its kind first, then its byte order."""

    def __init__(self, kind: object, *_: object):
        if not isinstance(kind, str) or not _NUMERIC.fullmatch(kind):
            raise UnsafeFileError(f"an array of dtype {kind!r:.60}; only numeric arrays are admitted")
        self.dtype: np.dtype[Any] = np.dtype(kind)

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), ("<" | ">" | "=" | "|") as order, None, None, None, int(), int(), int()):
                self.dtype = np.dtype(order + self.dtype.str[1:])
            case _:
                raise UnsafeFileError("it sets the state of a dtype in an unusual way; refused")


class _Array:
    """A numeric array in the making; `array` once its state is set."""

    array: np.ndarray[Any, Any] | None = None

    def __setstate__(self, state: object) -> None:
        match state:
            case (
                int(),
                tuple() as shape,
                _Dtype(dtype=dtype),
                bool() | int() as fortran,
                bytes() | bytearray() | str() as raw,
            ):
                self.array = _filled(shape, dtype, "F" if fortran else "C", raw)
            case _:
                raise UnsafeFileError("it sets the state of an array in an unusual way; refused")


def _filled(shape: tuple[object, ...], dtype: np.dtype[Any], order: str, raw: object) -> np.ndarray[Any, Any]:
    if isinstance(raw, str):  # from Python 2
        raw = raw.encode("latin-1")
    if not isinstance(raw, (bytes, bytearray)):
        raise UnsafeFileError("it makes an array in an unusual way; refused")
    sizes = [size for size in shape if isinstance(size, int) and size >= 0]
    if len(sizes) != len(shape) or len(shape) > 32 or math.prod(sizes) * dtype.itemsize != len(raw):
        raise TableError(f"an array's bytes do not fit its shape and dtype {dtype}")
    return np.frombuffer(raw, dtype).reshape(sizes, order="F" if order == "F" else "C").copy()


def _reconstruct(kind: object, *_: object) -> _Array:
    if kind is not _Array:
        raise UnsafeFileError("it reconstructs something that is not an array; refused")
    return _Array()


def _frombuffer(raw: object, dtype: object, shape: object, order: object) -> np.ndarray[Any, Any]:
    if not (isinstance(dtype, _Dtype) and isinstance(shape, tuple)):
        raise UnsafeFileError("it makes an array in an unusual way; refused")
    return _filled(shape, dtype.dtype, str(order), raw)


def _scalar(dtype: object, raw: object) -> object:
    if not isinstance(dtype, _Dtype):
        raise UnsafeFileError("it makes a number in an unusual way; refused")
    return _filled((), dtype.dtype, "C", raw).item()


def _encode(text: object, encoding: object) -> bytes:
    """Make bytes as protocol 2 writes them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise UnsafeFileError("it encodes text in an unusual way; refused")
    return text.encode("latin-1")


#: What arrays and scalars name, in NumPy 1 and 2.
_NAMES = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            asked = f"{module}.{name}"[:100]
            raise UnsafeFileError(f"it asks for {asked!r}; only plain data and numeric arrays are admitted")
        return _NAMES[module, name]


def load(path: str | os.PathLike[str], trusted: bool = False, max_bytes: int = MAX_BYTES) -> object:
    """Return the plain data in a pickle file of at most `max_bytes`; see `loads`."""
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    return loads(data, str(path), trusted, max_bytes)


def loads(
    data: bytes, where: str = "the pickle", trusted: bool = False, max_bytes: int = MAX_BYTES
) -> object:
    """Return the plain data in a pickle: lists, tuples, dicts, strings, bytes, numbers and numeric arrays.

    Args:
        data: the pickle.
        where: what to call it in errors.
        trusted: its hash is a pinned one; its operations are not looked at first.
        max_bytes: limit for the pickle.

    Raises:
        UnsafeFileError: it names anything but NumPy's arrays, calls something, or is too large.
        TableError: it is truncated or malformed.
    """
    if len(data) > max_bytes:
        raise UnsafeFileError(f"{where}: larger than {max_bytes / 2**20:g} MiB; refused")
    try:
        if not trusted:
            _scan(data)
        return _plain(_Unpickler(io.BytesIO(data)).load())
    except (UnsafeFileError, TableError) as error:
        raise type(error)(f"{where}: {error}") from None
    # What the unpickler raises for malformed bytes, by operation.
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        raise TableError(f"{where}: not a whole pickle of plain data ({error})") from None


def _scan(data: bytes) -> None:
    """Refuse what plain data does not need, and what takes more memory or stack than its bytes show."""
    nested = 0
    # pickletools reads one byte after another; what it raises for malformed ones is a ValueError.
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data), start=1):
        if not _PLAIN.fullmatch(opcode.name):
            raise UnsafeFileError(f"the operation {opcode.name}, which plain data does not need; refused")
        if count > MAX_OPERATIONS:
            raise UnsafeFileError(f"more than {MAX_OPERATIONS:,} operations; refused")
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > count:
            raise UnsafeFileError("it numbers values that it does not have; refused")
        if opcode.name == "PROTO" and not 2 <= int(argument or 0) <= 5:
            raise TableError(f"pickle protocol {argument}; expected 2 to 5")
        if opcode.name.startswith("TUPLE"):
            nested += 1
            if nested > _MAX_NESTING:
                raise UnsafeFileError(f"more than {_MAX_NESTING} tuples in each other; refused")
        elif opcode.name not in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "MARK", "POP"):
            nested = 0


def _plain(value: Any) -> Any:
    """Return the data with arrays in place of what made them."""
    # Only lists and dicts are changed in place; the rows of the published tables are dicts in a list.
    result = [value]
    seen: set[int] = set()
    waiting: list[Any] = [result]
    while waiting:
        here = waiting.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        items = here.items() if isinstance(here, dict) else enumerate(here)
        for key, inner in list(items):
            if isinstance(inner, _Array) and inner.array is not None and not isinstance(here, tuple):
                here[key] = inner.array
            elif isinstance(inner, (list, tuple, dict)):
                waiting.append(inner)
            elif not isinstance(inner, _ADMITTED):
                raise UnsafeFileError(f"its result holds {type(inner).__name__}; only plain data is admitted")
    return result[0]


_ADMITTED = (str, bytes, int, float, type(None), np.ndarray)
