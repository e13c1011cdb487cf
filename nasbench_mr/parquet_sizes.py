"""What the pages of a Parquet file unpack to, read from their headers before anything unpacks them.

A few bytes of a hostile file can stand for gigabytes, and its footer can lie about it. PyArrow shows only the
footer, and ends the process over some that are damaged. The form is Thrift's compact protocol, in which a
struct is a list of fields, each with its number: https://github.com/apache/parquet-format.
"""

from __future__ import annotations

import io
import os
from typing import IO, Any, NamedTuple

from nasbench_mr.errors import TableError

#: Bytes of a footer, and of a page's header, whose statistics may hold long texts.
MAX_FOOTER, _MAX_HEADER = 4 << 20, 1 << 20
#: Columns of all row groups together, and their pages.
MAX_CHUNKS, MAX_PAGES = 50_000, 250_000
#: Bytes of a page's header that are read at once; nearly all are shorter.
_USUAL = 1 << 10
#: Files up to this size are read at once.
_WHOLE = 1 << 20
_MAX_DEPTH = 16
#: Thrift's types, and the fields of Parquet's structs, by their numbers.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)
#: Bytes of values of one length.
_LENGTHS = {_TRUE: 1, _FALSE: 1, _BYTE: 1, _DOUBLE: 8}
_GROUPS, _CHUNKS, _META = 4, 1, 3
_VALUES, _DATA, _DICTIONARY = 5, 9, 11
_UNPACKED, _PACKED = 2, 3
#: Headers of data pages, version 1 and 2, and the field of each that names the encoding.
_PAGES = {5: 2, 8: 4}
#: Encodings of texts as a whole, as they are or in a dictionary.
_PLAIN = (0, 2, 8)


class Size(NamedTuple):
    """What a column's pages say.

    Attributes:
        values: how many values they have.
        unpacked: bytes that they unpack to.
        largest: bytes that the largest of them unpacks to.
        plain: its texts stand in pages as a whole. Else some are told by what they share with the one before:
            then each may be as long as a page.
    """

    values: int = 0
    unpacked: int = 0
    largest: int = 0
    plain: bool = True

    def with_(self, values: int, unpacked: int, largest: int, plain: bool) -> Size:
        """Return the size with further pages."""
        return Size(
            self.values + values,
            self.unpacked + unpacked,
            max(self.largest, largest),
            self.plain and plain,
        )


def of_columns(file: IO[bytes]) -> list[Size]:
    """Return the size of each column, nested ones as their innermost values.

    Args:
        file: an open file, which is left anywhere.

    Raises:
        TableError: it is not a complete Parquet file, or has too many parts; says so without its name.
    """
    length = file.seek(0, os.SEEK_END)
    if length <= _WHOLE:
        file = io.BytesIO(_read(file, 0, length))
    tail = _read(file, max(0, length - 8), 8)
    footer = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or footer > length - 12:
        raise TableError("is not a complete Parquet file: it does not end as one")
    if footer > MAX_FOOTER:
        raise TableError(f"has a footer of {footer:,} bytes; expected at most {MAX_FOOTER:,}")
    try:
        about, _ = _struct(_read(file, length - 8 - footer, footer), 0)
        columns: list[Size] = []
        chunks = pages = 0
        for group in about[_GROUPS]:
            for k, chunk in enumerate(group[_CHUNKS]):
                size, count = _chunk(file, chunk[_META], MAX_PAGES - pages)
                chunks, pages = chunks + 1, pages + count
                if chunks > MAX_CHUNKS:
                    raise TableError(f"has more than {MAX_CHUNKS:,} columns in row groups")
                if k == len(columns):
                    columns.append(Size())
                columns[k] = columns[k].with_(*size)
    except (IndexError, KeyError, TypeError, ValueError, OSError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"is not a complete Parquet file: {error!r}") from None
    return columns


def _chunk(file: IO[bytes], meta: dict[int, Any], most: int) -> tuple[Size, int]:
    """Return the size of one column in one row group, and how many pages it has, of `most`."""
    place = meta[_DATA]
    if 0 < meta.get(_DICTIONARY, 0) < place:
        place = meta[_DICTIONARY]
    size, count = Size(), 0
    while size.values < meta[_VALUES]:
        if count == most:
            raise TableError(f"has more than {MAX_PAGES:,} pages")
        page, header = _page(file, place)
        values, unpacked, plain = 0, page[_UNPACKED], True
        for kind, encoding in _PAGES.items():
            if kind in page:
                values += page[kind][1]
                plain &= page[kind][encoding] in _PLAIN
        if min(values, unpacked, page[_PACKED]) < 0:
            raise ValueError("a page of negative size")
        size, count = size.with_(values, unpacked, unpacked, plain), count + 1
        place += header + page[_PACKED]
    return size, count


def _page(file: IO[bytes], place: int) -> tuple[dict[int, Any], int]:
    """Return a page's header, and how many bytes it takes."""
    start = _read(file, place, _USUAL)
    try:
        return _struct(start, 0)
    except IndexError:
        return _struct(_read(file, place, _MAX_HEADER), 0)


def _read(file: IO[bytes], place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Return the fields of a struct that begins at a place, by number, and where it ends."""
    if depth > _MAX_DEPTH:
        raise ValueError("its structs are nested too deep")
    fields: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _integer(data, at)
        kind = head & 15
        if kind in (_TRUE, _FALSE):
            fields[number] = kind == _TRUE
        elif kind in _INTEGERS and (byte := data[at]) < 128:  # what most are, without a call
            fields[number], at = byte >> 1 ^ -(byte & 1), at + 1
        else:
            fields[number], at = _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """Return a value and where it ends; None in the place of texts and numbers that are not whole."""
    if kind in _INTEGERS:
        return _integer(data, at)
    if kind == _BINARY:
        length, at = _varint(data, at)
    elif kind == _STRUCT:
        return _struct(data, at, depth + 1)
    elif kind in (_LIST, _SET):
        return _list(data, at, depth + 1)
    elif (length := _LENGTHS.get(kind, -1)) < 0:
        raise ValueError(f"a field of the unknown type {kind}")
    if at + length > len(data):
        raise IndexError("it ends too early")
    return None, at + length


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    count, kind = data[at] >> 4, data[at] & 15
    at += 1
    if count == 15:
        count, at = _varint(data, at)
    values = []
    for _ in range(count):
        value, at = _value(data, at, kind, depth)
        values.append(value)
    return values, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    if (number := data[at]) < 128:
        return number, at + 1
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _integer(data: bytes, at: int) -> tuple[int, int]:
    number, at = _varint(data, at)
    return number >> 1 ^ -(number & 1), at
