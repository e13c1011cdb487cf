"""`plain_pickle`: plain data reads back, and a hostile pickle gets a named error and does nothing."""

from __future__ import annotations

import copyreg
import os
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from nasbench_mr.data_builders.published import pickles as plain_pickle
from nasbench_mr.errors import TableError, UnsafeFileError

PROTOCOLS = (2, 3, 4, 5)
REFUSED = (UnsafeFileError, TableError)

#: A row as published, with what else a pickle of plain data may hold.
ROW = {
    "embedding": [128, 8, 1, 300, 70_000, -5],
    "top1": 76.09,
    "none": None,
    "flags": (True, False),
    "nested": [[1, [4], [128]], (), ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))],
    "text": "naïve",
    "bytes": b"\x00\xff",
    3: {"large": 2**62, "small": -(2**63)},
}
ARRAYS = [
    np.arange(30, dtype=np.float32) % 5,
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array([1, -2], ">i2"),
    np.array([True, False]),
    np.array(1.5),
    np.float64(0.25),
    np.int64(-7),
    np.bool_(True),
]


# --- Plain data reads back ----------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_rows_read_back(protocol: int, tmp_path: Path) -> None:
    rows = [ROW, dict(ROW, top1=1.0), ROW]
    path = tmp_path / "trainval.pkl"
    path.write_bytes(pickle.dumps(rows, protocol))
    assert plain_pickle.load(path) == rows


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype.str}-{a.shape}")
def test_arrays_read_back(array: Any, protocol: int) -> None:
    same(plain_pickle.loads(pickle.dumps(array, protocol)), array)
    twice = plain_pickle.loads(pickle.dumps([array, {"again": array}], protocol))
    assert isinstance(twice, list)
    same(twice[0], array)
    same(twice[1]["again"], array)


# The frames of later protocols say how long they are, which other names change.
@pytest.mark.parametrize("protocol", PROTOCOLS[:2])
def test_arrays_of_numpy_1_read_back(protocol: int) -> None:
    data = pickle.dumps(ARRAYS[0], protocol)
    # NumPy 2 renamed the module; the name's length is written before it from protocol 4 on.
    old = data.replace(b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray")
    old = old.replace(b"\x13numpy._core.numeric", b"\x12numpy.core.numeric")
    old = old.replace(b"cnumpy._core", b"cnumpy.core")
    assert old != data
    same(plain_pickle.loads(old), ARRAYS[0])


@pytest.mark.parametrize("protocol", PROTOCOLS[1:])
def test_an_empty_array_reads_back(protocol: int) -> None:
    same(plain_pickle.loads(pickle.dumps(np.zeros(0), protocol)), np.zeros(0))


def same(found: object, expected: Any) -> None:
    """Arrays are equal in type, shape and content; NumPy's scalars become Python's."""
    if isinstance(expected, np.generic):
        assert found == expected.item()
        assert type(found) is type(expected.item())
        return
    assert isinstance(found, np.ndarray)
    # NumPy's own unpickling makes arrays native, or does not, by the protocol.
    assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)
    assert found.flags.writeable


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**127), 2**127 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(min_size=1),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(-(2**59), 2**59), inner)
    ),
    max_leaves=20,
)


@given(plain, st.sampled_from(PROTOCOLS))
def test_any_plain_data_reads_back(data: Any, protocol: int) -> None:
    found = plain_pickle.loads(pickle.dumps(data, protocol))
    assert found == data
    assert repr(found) == repr(data)  # types and signed zeros too


@given(
    st_numpy.arrays(
        st_numpy.integer_dtypes(endianness="?")
        | st_numpy.unsigned_integer_dtypes(endianness="?")
        | st_numpy.floating_dtypes(endianness="?", sizes=(16, 32, 64))
        | st_numpy.boolean_dtypes(),
        st_numpy.array_shapes(min_dims=0, max_dims=4, max_side=4),
    ),
    st.sampled_from(PROTOCOLS),
    st.sampled_from("CF"),
)
def test_any_array_reads_back(array: Any, protocol: int, order: Any) -> None:
    array = np.asarray(array, order=order)
    same(plain_pickle.loads(pickle.dumps(array, protocol)), array)


# --- Hostile pickles ----------------------------------------------------------------------------------

#: Where a pickle that gets its way leaves a file.
TRACE = "plain-pickle-trace"


class _Reduced:
    """Pickles as the call of a function."""

    def __init__(self, *reduction: Any):
        self.reduction = reduction

    def __reduce__(self) -> Any:
        return self.reduction


def string(text: str) -> bytes:
    """Return the operation that pushes a string."""
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


COMMAND = f"echo > {TRACE}"
NDARRAY = b"cnumpy\nndarray\n"
RECONSTRUCT = b"cnumpy._core.multiarray\n_reconstruct\n"
EMPTY_ARRAY = RECONSTRUCT + b"(" + NDARRAY + b"K\x00\x85C\x01btR"
FLOAT64 = b"cnumpy\ndtype\n(" + string("f8") + b"\x89\x88tR"
STATE = b"(K\x01K\x01\x85" + FLOAT64 + b"\x89"

CALLS = {
    "os.system": _Reduced(os.system, (COMMAND,)),
    "eval": _Reduced(eval, (f"open({TRACE!r}, 'w')",)),
    "exec": _Reduced(exec, (f"open({TRACE!r}, 'w')",)),
    "open": _Reduced(open, (TRACE, "w")),
    "getattr": _Reduced(getattr, ("", "join")),
    "array": _Reduced(np.array, ([1],)),
    "load": _Reduced(np.load, (TRACE,)),
    "in a list": [1, {"a": (_Reduced(os.system, (COMMAND,)),)}],
    "as a state": _Reduced(list, (), None, iter([_Reduced(os.system, (COMMAND,))])),
    "an instance": Path(TRACE),
    "a set": {1, 2},
    "a complex number": 1j,
    "an array of objects": np.array([_Reduced(os.system, (COMMAND,)), None], object),
    "a structured array": np.zeros(2, [("a", "f8")]),
    "an array of text": np.array(["a"]),
    "an array of dates": np.zeros(2, "M8[s]"),
    "a class": os.PathLike,
    "a dtype": np.dtype("f8"),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", CALLS)
def test_a_pickle_that_calls_something_is_refused(name: str, protocol: int, outside: Path) -> None:
    data = pickle.dumps(CALLS[name], protocol)
    with pytest.raises(REFUSED) as caught:
        plain_pickle.loads(data, "a.pkl")
    assert str(caught.value).startswith("a.pkl: ")
    assert list(outside.iterdir()) == []


UNSAFE = {
    "REDUCE": b"cos\nsystem\n" + string(COMMAND) + b"\x85R",
    "REDUCE by STACK_GLOBAL": string("os") + string("system") + b"\x93" + string(COMMAND) + b"\x85R",
    "a dotted name": string("numpy") + string("ndarray.tofile") + b"\x93" + string(TRACE) + b"\x85R",
    "a name in two halves": string("numpy.") + string("ndarray") + b"\x93",
    "INST": b"(" + string(COMMAND) + b"ios\nsystem\n",
    "INST of an array": b"(K\x01inumpy\nndarray\n",
    "OBJ": b"(cos\nsystem\n" + string(COMMAND) + b"o",
    "OBJ of an array": b"(" + NDARRAY + b"K\x01o",
    "NEWOBJ": NDARRAY + b"K\x01\x85\x81",
    "NEWOBJ_EX": NDARRAY + b"K\x01\x85}\x92",
    "calls an array's type": NDARRAY + b"K\x01\x85R",
    "reconstructs another type": RECONSTRUCT + b"(" + RECONSTRUCT + b"K\x00\x85C\x01btR",
    "calls a string": string("system") + string(COMMAND) + b"\x85R",
    "calls a list": b"]" + string(COMMAND) + b"\x85R",
    "calls a name without a tuple": RECONSTRUCT + string(COMMAND) + b"R",
    "BUILD of a list": b"]}" + string("__class__") + b"K\x01sb",
    "BUILD of a dict": b"}}" + string("a") + b"K\x01sb",
    "BUILD of a name": NDARRAY + b"}" + string("tofile") + b"K\x01sb",
    "BUILD of an array by a dict": EMPTY_ARRAY + b"}" + string("shape") + b"K\x01sb",
    "BUILD of a dtype by a dict": FLOAT64 + b"}" + string("names") + b"K\x01sb",
    "BUILD of a dtype with fields": FLOAT64
    + b"(K\x03"
    + string("|")
    + b"N"
    + string("a")
    + b"NJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ft"
    + b"b",
    "a dtype of objects": b"cnumpy\ndtype\n(" + string("O8") + b"\x89\x88tR",
    "a dtype of pointers": b"cnumpy\ndtype\n(" + string("P") + b"\x89\x88tR",
    "an encoding with a module": b"c_codecs\nencode\n" + string("a") + string("os") + b"\x86R",
    "PERSID": b"Pos.system\n",
    "BINPERSID": string("os.system") + b"Q",
    "EXT1": b"\x82\x01",
    "EXT2": b"\x83\x01\x00",
    "EXT4": b"\x84\x01\x00\x00\x00",
    "NEXT_BUFFER": b"\x97",
    "a name as the result": NDARRAY,
    "a name in the result": b"](" + NDARRAY + b"K\x01\x86e",
    "a dtype in the result": b"}" + string("a") + FLOAT64 + b"s",
    "a name as a value": b"}" + string("a") + b"(" + NDARRAY + b"ls",
}


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("protocol", [b"", b"\x80\x02", b"\x80\x05"])
def test_an_operation_that_plain_data_does_not_need_is_refused(
    name: str, protocol: bytes, outside: Path
) -> None:
    with pytest.raises(REFUSED, match=r"^the pickle: "):
        plain_pickle.loads(protocol + UNSAFE[name] + b".")
    assert list(outside.iterdir()) == []


def test_what_an_extension_registers_is_not_followed(outside: Path) -> None:
    copyreg.add_extension("os", "system", 200)
    try:
        data = b"\x80\x02\x82\xc8" + string(COMMAND) + b"\x85R."
        with pytest.raises(UnsafeFileError, match="EXT1"):
            plain_pickle.loads(data)
    finally:
        copyreg.remove_extension("os", "system", 200)
    assert list(outside.iterdir()) == []


MALFORMED = {
    "nothing": b"",
    "no end": b"]",
    "only an end": b".",
    "a tuple without a mark": b"]t.",
    "a value from below the mark": b"](a.",
    "an unknown operation": b"\xff.",
    "text of protocol 0": b"I1\n.",
    "appends to a string": string("a") + b"K\x01a.",
    "sets an item of a list": b"]K\x01K\x02s.",
    "a key without a value": b"}(K\x01u.",
    "a list as a key": b"}]K\x01s.",
    "a number that is not there": b"h\x05.",
    "not UTF-8": b"X\x01\x00\x00\x00\xff.",
    "names that are numbers": b"K\x01K\x02\x93.",
    "an integer of a gigabyte": b"\x8b\x00\x00\x00\x40.",
    "a string of 2**62 bytes": b"\x8d" + struct.pack("<Q", 2**62) + b"a.",
    "bytes of 2**62 bytes": b"\x8e" + struct.pack("<Q", 2**62) + b"a.",
    "a frame beyond the end": b"\x95" + struct.pack("<Q", 2**62),
    "an array with too few bytes": EMPTY_ARRAY + STATE + b"C\x07" + b"a" * 7 + b"tb.",
    "an array without bytes": EMPTY_ARRAY + STATE + b"Ntb.",
    "a negative shape": EMPTY_ARRAY
    + b"(K\x01J\xff\xff\xff\xff\x85"
    + FLOAT64
    + b"\x89C\x08"
    + b"a" * 8
    + b"tb.",
    "an overflowing shape": EMPTY_ARRAY
    + b"(K\x01\x8a\x09"
    + (2**63).to_bytes(9, "little")
    + b"K\x02\x86"
    + FLOAT64
    + b"\x89C\x00tb.",
    "33 dimensions": EMPTY_ARRAY + b"(K\x01(" + b"K\x01" * 33 + b"t" + FLOAT64 + b"\x89C\x08aaaaaaaatb.",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_pickle_is_refused(name: str) -> None:
    with pytest.raises(REFUSED, match=r"^here: "):
        plain_pickle.loads(MALFORMED[name], "here")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_truncated_at_any_byte(protocol: int) -> None:
    data = pickle.dumps([ROW, ARRAYS], protocol)
    plain_pickle.loads(data)
    for end in range(len(data)):
        with pytest.raises(REFUSED):
            plain_pickle.loads(data[:end])


# --- Bombs --------------------------------------------------------------------------------------------


def test_deep_nesting_needs_no_depth() -> None:
    depth = 200_000
    value = plain_pickle.loads(b"]" * depth + b"a" * (depth - 1) + b".")
    for _ in range(depth - 1):
        assert isinstance(value, list)
        assert len(value) == 1
        value = value[0]
    assert value == []
    # Hashing what is nested that deep would overflow the stack.
    with pytest.raises(UnsafeFileError, match="more than 100 tuples in each other"):
        plain_pickle.loads(b"})" + b"\x85" * depth + b"Ns.")
    nested = b"]" * depth + NDARRAY + b"a" * depth + b"."
    with pytest.raises(UnsafeFileError, match="its result holds type"):
        plain_pickle.loads(nested)


def test_a_value_in_itself_is_as_pickle_has_it() -> None:
    value: list[Any] = []
    value.append(value)
    found = plain_pickle.loads(pickle.dumps(value))
    assert isinstance(found, list)
    assert found[0] is found


def test_a_memo_bomb_stays_folded() -> None:
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]  # 2**60 leaves, 61 lists
    found = plain_pickle.loads(pickle.dumps(value))
    for _ in range(60):
        assert isinstance(found, list)
        assert found[0] is found[1]
        found = found[0]


def test_a_number_in_the_memo_takes_no_memory() -> None:
    """The unpickler makes room for as many values as the number says."""
    with pytest.raises(UnsafeFileError, match="it numbers values that it does not have"):
        plain_pickle.loads(b"\x80\x02]r\xff\xff\xff\x7f.")


def test_size_and_operations_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(list(range(100)))
    path = tmp_path / "large.pkl"
    path.write_bytes(data)
    assert plain_pickle.load(path, max_bytes=len(data)) == list(range(100))
    with pytest.raises(UnsafeFileError, match=r"large\.pkl: larger than .* MiB; refused"):
        plain_pickle.load(path, max_bytes=len(data) - 1)
    monkeypatch.setattr(plain_pickle, "MAX_OPERATIONS", 99)
    with pytest.raises(UnsafeFileError, match="more than 99 operations"):
        plain_pickle.loads(data)


# --- Anything at all ----------------------------------------------------------------------------------

SAMPLES = [pickle.dumps(data, protocol) for data in ([ROW], ARRAYS) for protocol in PROTOCOLS]
OPERATIONS = [ord(opcode.code) for opcode in pickletools.opcodes]


def admitted(data: bytes) -> None:
    """Read a pickle; whatever it holds, that gives plain data or a named error."""
    try:
        found = plain_pickle.loads(data)
    except REFUSED:
        return
    kinds = (list, tuple, dict, str, bytes, int, float, np.ndarray, type(None))
    assert isinstance(found, kinds)
    if isinstance(found, np.ndarray):
        assert found.dtype.kind in "biuf"


edit = st.tuples(
    st.sampled_from(["flip", "put", "insert", "delete", "repeat"]),
    st.integers(0, 10_000),
    st.integers(0, 255) | st.sampled_from(OPERATIONS),
)


@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(SAMPLES), st.lists(edit, min_size=1, max_size=6))
@example(UNSAFE["REDUCE"] + b".", [("put", 0, ord("c"))])
def test_an_altered_pickle_is_plain_or_refused(
    outside: Path, sample: bytes, edits: list[tuple[str, int, int]]
) -> None:
    data = bytearray(sample)
    for kind, place, value in edits:
        at = place % max(1, len(data))
        match kind:
            case "flip":
                data[at : at + 1] = bytes(b ^ 1 << value % 8 for b in data[at : at + 1])
            case "put":
                data[at : at + 1] = bytes([value])
            case "insert":
                data[at:at] = bytes([value])
            case "delete":
                del data[at : at + value % 8]
            case "repeat":
                data[at:at] = data[at : at + value % 16]
    admitted(bytes(data))
    assert list(outside.iterdir()) == []


@given(st.lists(st.sampled_from(OPERATIONS) | st.integers(0, 255), max_size=40).map(bytes))
@settings(max_examples=300)
def test_any_bytes_are_plain_or_refused(data: bytes) -> None:
    admitted(data)


def test_every_single_bit(outside: Path) -> None:
    sample = pickle.dumps([{"embedding": ARRAYS[0][:4], "top1": 76.09}], 4)
    for bit in range(8 * len(sample)):
        data = bytearray(sample)
        data[bit // 8] ^= 1 << bit % 8
        admitted(bytes(data))
    assert list(outside.iterdir()) == []
