"""Reading pickles from outside, with a small machine of our own that cannot do harm.

`load` reads the pickle format (protocols 2 to 5) without Python's `pickle`. It makes lists, tuples, dicts,
strings, bytes, numbers, booleans, None and numeric NumPy arrays, and nothing else: it never imports a name,
never calls one, and sets no state that it has not checked. Memory is bounded by the input's size, the number
of operations and the bytes of all arrays together; nothing recurses.
"""

from __future__ import annotations

import math
import os
import pickletools
import re
import struct
from collections.abc import Callable
from typing import Any, NoReturn, cast

import numpy as np
import numpy.typing as npt

from nasbench_mr.errors import TableError, UnsafeFileError

MAX_BYTES = 64 << 20
#: A published table takes about 500,000. One operation makes at most an empty dict (64 bytes).
MAX_OPERATIONS = 4_000_000
#: Bound of the integers that are keys: larger ones can be chosen to have one hash, which stalls a dict.
MAX_KEY = 1 << 60

#: What pickled arrays and scalars name, in NumPy 1 and 2; `encode` is how protocol 2 writes bytes.
_GLOBALS = {
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "_codecs.encode": "encode",
    "numpy.core.multiarray._reconstruct": "reconstruct",
    "numpy._core.multiarray._reconstruct": "reconstruct",
    "numpy.core.multiarray.scalar": "scalar",
    "numpy._core.multiarray.scalar": "scalar",
    "numpy.core.numeric._frombuffer": "frombuffer",
    "numpy._core.numeric._frombuffer": "frombuffer",
}
_ORDERS = ("<", ">", "=", "|")
_NUMERIC = re.compile(r"b1|[iu][1248]|f[248]")
_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
#: Operations by which a pickle calls something, or refers to something outside it.
_UNSAFE = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER"}


def load(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> object:
    """The plain data in a pickle file of at most `max_bytes`; see `loads`."""
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    return loads(data, str(path), max_bytes)


def loads(data: bytes, where: str = "the pickle", max_bytes: int = MAX_BYTES) -> object:
    """The plain data in a pickle.

    Args:
        data: the pickle.
        where: what to call it in errors.
        max_bytes: limit for the pickle, and for all its arrays together.

    Raises:
        UnsafeFileError: it names anything but NumPy's arrays, calls something, or is too large.
        TableError: it is truncated or malformed.
    """
    if len(data) > max_bytes:
        raise UnsafeFileError(f"{where}: larger than {max_bytes / 2**20:g} MiB; refused")
    machine = _Machine(data, max_bytes)
    try:
        return machine.run()
    except (_MalformedError, UnsafeFileError) as error:
        kind = UnsafeFileError if isinstance(error, UnsafeFileError) else TableError
        raise kind(f"{where}: byte {machine.start} of the pickle: {error}") from None


class _MalformedError(Exception):
    """The pickle breaks the format."""


class _Global:
    """One of `_GLOBALS`; stands for a name and can't be called."""

    def __init__(self, name: str):
        self.name = name


class _Dtype:
    """A numeric dtype in the making: a pickle names its kind first, then its byte order."""

    def __init__(self, kind: object):
        if not isinstance(kind, str) or not _NUMERIC.fullmatch(kind):
            raise UnsafeFileError(f"an array of dtype {_shown(kind)}; only numeric arrays are admitted")
        self.kind = kind
        self.dtype: np.dtype[np.generic] = np.dtype(kind)


class _Machine:
    """Runs one pickle. `start` is the position of the operation at hand, `end` of the next one."""

    def __init__(self, data: bytes, max_bytes: int):
        self.data = data
        self.start = self.end = 0
        self.stack: list[object] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, object] = {}
        self.budget = max_bytes
        self.named = False  # whether it named anything

    def run(self) -> object:
        operations: dict[int, Callable[[], None]] = {
            code: getattr(self, f"op_{name.lower()}", self.refuse) for code, name in _NAMES.items()
        }
        data, stack = self.data, self.stack
        for _ in range(MAX_OPERATIONS):
            self.start = self.end
            if self.end >= len(data):
                raise _MalformedError("it ends too early")
            code = data[self.end]
            self.end += 1
            if code == 0x2E:  # STOP
                if len(stack) != 1 or self.marks:
                    raise _MalformedError("it ends amid a value")
                if self.named:
                    self.check_plain(stack[0])
                return stack[0]
            operations.get(code, self.refuse)()
        raise UnsafeFileError(f"more than {MAX_OPERATIONS:,} operations; refused")

    def check_plain(self, value: object) -> None:
        """Names and dtypes serve to make arrays; none may be left in the result."""
        seen: set[int] = set()
        waiting = [value]
        while waiting:
            value = waiting.pop()
            if isinstance(value, (_Global, _Dtype)):
                raise UnsafeFileError(f"its result holds {_shown(value)}; only plain data is admitted")
            if isinstance(value, (list, tuple, dict)) and id(value) not in seen:
                seen.add(id(value))
                waiting.extend(value.values() if isinstance(value, dict) else value)

    def refuse(self) -> NoReturn:
        name = _NAMES.get(self.data[self.start])
        if name == "INST":
            self.op_global()
        if name in _UNSAFE:
            raise UnsafeFileError(f"the operation {name}, which plain data does not need; refused")
        raise _MalformedError(f"operation {name}; expected plain data in pickle protocol 2 to 5")

    # --- Reading the input ---

    def read(self, n: int) -> bytes:
        start, self.end = self.end, self.end + n
        if n < 0 or self.end > len(self.data):
            raise _MalformedError("it ends too early")
        return self.data[start : self.end]

    def unsigned(self, size: int) -> int:
        return int.from_bytes(self.read(size), "little")

    def line(self) -> str:
        end = self.data.find(b"\n", self.end)
        if end < 0:
            raise _MalformedError("it ends too early")
        text = self.read(end - self.end).decode("utf-8", "replace")
        self.end += 1
        return text

    # --- The stack: nothing below the last mark belongs to the operation at hand ---

    def pop(self) -> object:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _MalformedError("a value is lacking")
        return self.stack.pop()

    def pop_to_mark(self) -> list[object]:
        if not self.marks:
            raise _MalformedError("a mark is lacking")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def push(self, value: object) -> None:
        self.stack.append(value)

    def top(self) -> object:
        value = self.pop()
        self.stack.append(value)
        return value

    # --- Operations, by their names in `pickletools` ---

    def op_proto(self) -> None:
        if not 2 <= (found := self.unsigned(1)) <= 5:
            raise _MalformedError(f"pickle protocol {found}; expected 2 to 5")

    def op_frame(self) -> None:
        self.read(8)

    def op_mark(self) -> None:
        self.marks.append(len(self.stack))

    def op_none(self) -> None:
        self.push(None)

    def op_newtrue(self) -> None:
        self.push(True)

    def op_newfalse(self) -> None:
        self.push(False)

    def op_binint1(self) -> None:
        self.stack.append(self.unsigned(1))

    def op_binint2(self) -> None:
        self.push(self.unsigned(2))

    def op_binint(self) -> None:
        self.push(int.from_bytes(self.read(4), "little", signed=True))

    def op_long1(self) -> None:
        # 64-bit integers take 9 bytes at most.
        if (size := self.unsigned(1)) > 16:
            raise _MalformedError(f"an integer of {size} bytes")
        self.push(int.from_bytes(self.read(size), "little", signed=True))

    def op_binfloat(self) -> None:
        self.push(struct.unpack(">d", self.read(8))[0])

    def _string(self, size: int, encoding: str) -> None:
        try:
            self.push(self.read(self.unsigned(size)).decode(encoding))
        except UnicodeDecodeError:
            raise _MalformedError("a string that is not UTF-8") from None

    def op_short_binunicode(self) -> None:
        self._string(1, "utf-8")

    def op_binunicode(self) -> None:
        self._string(4, "utf-8")

    def op_binunicode8(self) -> None:
        self._string(8, "utf-8")

    def op_short_binstring(self) -> None:
        self._string(1, "latin-1")

    def op_binstring(self) -> None:
        self._string(4, "latin-1")

    def op_short_binbytes(self) -> None:
        self.push(self.read(self.unsigned(1)))

    def op_binbytes(self) -> None:
        self.push(self.read(self.unsigned(4)))

    def op_binbytes8(self) -> None:
        self.push(self.read(self.unsigned(8)))

    def op_bytearray8(self) -> None:
        self.push(self.read(self.unsigned(8)))

    def op_empty_list(self) -> None:
        self.push([])

    def op_empty_tuple(self) -> None:
        self.push(())

    def op_empty_dict(self) -> None:
        self.push({})

    def op_tuple(self) -> None:
        self.push((*self.pop_to_mark(),))

    def op_tuple1(self) -> None:
        self.push((self.pop(),))

    def op_tuple2(self) -> None:
        second, first = self.pop(), self.pop()
        self.push((first, second))

    def op_tuple3(self) -> None:
        third, second, first = self.pop(), self.pop(), self.pop()
        self.push((first, second, third))

    def op_append(self) -> None:
        self._extend([self.pop()])

    def op_appends(self) -> None:
        self._extend(self.pop_to_mark())

    def _extend(self, items: list[object]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise _MalformedError(f"appends to {_shown(target)}; expected a list")
        target.extend(items)

    def op_setitem(self) -> None:
        value, key = self.pop(), self.pop()
        self._update([key, value])

    def op_setitems(self) -> None:
        self._update(self.pop_to_mark())

    def _update(self, items: list[object]) -> None:
        target = self.top()
        if not isinstance(target, dict) or len(items) % 2:
            raise _MalformedError(f"sets items of {_shown(target)}; expected a dict, keys and values")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing a deeply nested tuple would overflow the C stack.
            small = isinstance(key, int) and abs(key) < MAX_KEY
            if not (small or isinstance(key, (str, bytes))):
                raise _MalformedError(f"a key is {_shown(key)}; expected a string or an integer")
            target[key] = value

    def op_memoize(self) -> None:
        self.memo[len(self.memo)] = self.top()

    def op_binput(self) -> None:
        self.memo[self.unsigned(1)] = self.top()

    def op_long_binput(self) -> None:
        self.memo[self.unsigned(4)] = self.top()

    def op_binget(self) -> None:
        self._get(self.unsigned(1))

    def op_long_binget(self) -> None:
        self._get(self.unsigned(4))

    def _get(self, index: int) -> None:
        if index not in self.memo:
            raise _MalformedError(f"refers to value {index}, which is not there")
        self.push(self.memo[index])

    # --- NumPy ---

    def op_global(self) -> None:
        self._global(self.line(), self.line())

    def op_stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self._global(module, name)

    def _global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise _MalformedError(f"a name is {_shown(module)} {_shown(name)}; expected two strings")
        full = f"{module}.{name}"
        if full not in _GLOBALS:
            raise UnsafeFileError(
                f"it asks for {full[:100]!r}; only plain data and numeric NumPy arrays are admitted"
            )
        self.named = True
        self.push(_Global(_GLOBALS[full]))

    def op_reduce(self) -> None:
        arguments, called = self.pop(), self.pop()
        if not isinstance(called, _Global) or called.name == "ndarray" or not isinstance(arguments, tuple):
            raise UnsafeFileError(f"it calls {_shown(called)}; refused")
        match called.name, arguments:
            case "reconstruct", (_Global(name="ndarray"), _, _):
                self.push(np.empty(0))  # BUILD fills it
            case "dtype", (kind, _, _):
                self.push(_Dtype(kind))
            case "scalar", (_Dtype() as dtype, bytes() | str() as raw):
                self.push(self.array((), dtype, False, raw).item())
            case "frombuffer", (bytes() as raw, _Dtype() as dtype, tuple() as shape, str() as order):
                self.push(self.array(shape, dtype, order == "F", raw))
            case "encode", (str() as text, str() as encoding) if encoding in ("latin1", "latin-1"):
                self.push(self.encoded(text))
            case _:
                raise UnsafeFileError(f"it calls NumPy's {called.name} with unusual arguments; refused")

    def op_build(self) -> None:
        state, target = self.pop(), self.pop()
        # Values are matched by their types first: comparing an array gives an array.
        match target, state:
            case np.ndarray(), (int(), tuple() as shape, _Dtype() as dtype, int() as fortran, raw):
                filled = self.array(shape, dtype, bool(fortran), raw)
                # In place, as other values may refer to the array; this state is ours, so it is sound.
                cast("Any", target).__setstate__((1, filled.shape, filled.dtype, False, filled.tobytes()))
            case _Dtype(), (int(), str() as order, None, None, None, int(), int(), int()) if order in _ORDERS:
                target.dtype = np.dtype(order + target.kind)
            case _:
                raise UnsafeFileError(f"it sets the state of {_shown(target)} in an unusual way; refused")
        self.push(target)

    def array(
        self, shape: tuple[object, ...], dtype: _Dtype, fortran: bool, raw: object
    ) -> npt.NDArray[np.generic]:
        if isinstance(raw, str):  # from Python 2
            raw = self.encoded(raw)
        sizes = [size for size in shape if isinstance(size, int) and (size > 0 or shape == (0,))]
        if (
            not isinstance(raw, bytes)
            or len(sizes) != len(shape)
            or len(shape) > 32
            or math.prod(sizes) * dtype.dtype.itemsize != len(raw)
        ):
            raise _MalformedError(f"an array's bytes do not fit its shape and dtype {dtype.dtype}")
        self.spend(len(raw))
        return np.frombuffer(raw, dtype.dtype).reshape(sizes, order="F" if fortran else "C").copy()

    def encoded(self, text: str) -> bytes:
        self.spend(len(text))
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError:
            raise _MalformedError("bytes with characters beyond 255") from None

    def spend(self, n: int) -> None:
        # The same bytes may be used again and again.
        self.budget -= n
        if self.budget < 0:
            raise UnsafeFileError("its arrays are too large; refused")


def _shown(value: object) -> str:
    """A value in an error message; never more than one level of it."""
    if isinstance(value, (str, bytes)):
        return repr(value[:60])
    if value is None or isinstance(value, (int, float)):
        return repr(value)
    return f"a {value.name}" if isinstance(value, _Global) else f"a {type(value).__name__.strip('_').lower()}"
