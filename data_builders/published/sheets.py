"""A user's file of trials, however a spreadsheet, R or pandas wrote it.

`read` takes Parquet, and text whose columns are separated by commas, semicolons, tabs or pipes: in UTF-8 or
UTF-16, packed by gzip or not, with decimal points or commas, with percent signs, and with any of the usual
words for nothing. What it can't take it names: a workbook, a page, another compression.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench_mr import table
from nasbench_mr.errors import TableError

if TYPE_CHECKING:
    import pyarrow as pa

#: What begins files of other kinds, and what they are.
_OTHERS = {
    b"PK\x03\x04": "a workbook or a zip archive; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"BZh": "packed by bzip2; unpack it first, or pack it by gzip",
    b"\xfd7zXZ": "packed by xz; unpack it first, or pack it by gzip",
    b"\x28\xb5\x2f\xfd": "packed by zstd; unpack it first, or pack it by gzip",
    b"\x89HDF": "an HDF5 file; write its table as CSV or Parquet",
    b"ARROW1": "an Arrow or Feather file; write it as Parquet",
    b"\x93NUMPY": "a NumPy array; write it as CSV with named columns",
    b"\x80": "a pickle, which is never read; write its table as CSV or Parquet",
    b"<": "a web page or XML; download the file itself",
    b"{": "JSON; write its table as CSV or Parquet",
    b"[": "JSON; write its table as CSV or Parquet",
}
#: What stands for nothing. "nan" does not: it would hide a diverged training.
_NOTHING = ["", "NA", "N/A", "n/a", "#N/A", "null", "NULL", "None"]
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
#: In a file with decimal commas.
_POINTS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+")


_PLAIN = "write numbers without thousands' separators, and with decimal points"


@dataclass(frozen=True)
class Sheet:
    """What a file holds.

    Attributes:
        arrow: its columns, numbers as numbers, as they are called in the file.
        form: what it was read as, such as "text with tabs, decimal commas".
        percent: the columns whose cells have percent signs.
    """

    arrow: pa.Table
    form: str
    percent: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        """The columns' names, without spaces around them."""
        return [name.strip() for name in self.arrow.column_names]


def read(path: Path) -> Sheet:
    """Return what a file holds; raise `TableError` where it is not a whole table."""
    with open(path, "rb") as file:
        start = file.read(8)
        file.seek(0)
        if start.startswith(b"PAR1") or path.suffix == ".parquet":
            return Sheet(table.read_arrow(file, str(path)), "Parquet")
        data = file.read(table.MAX_BYTES + 1)
    form = []
    if data.startswith(b"\x1f\x8b"):
        data, form = _unpacked(data), ["gzip"]
    if len(data) > table.MAX_BYTES:
        raise TableError(f"it has more than {table.MAX_BYTES:,} bytes; write it as Parquet")
    text, encoding = _decoded(data)
    return _text(text, [*encoding, *form])


def _unpacked(data: bytes) -> bytes:
    """Return what a gzip file holds."""
    try:
        with gzip.open(io.BytesIO(data)) as file:
            return file.read(table.MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise TableError(f"not a complete gzip file: {error}") from None


def _decoded(data: bytes) -> tuple[str, list[str]]:
    """Return the text, and its encoding where it is not UTF-8."""
    for begin, what in _OTHERS.items():
        if data.lstrip(b" \r\n\t\xef\xbb\xbf" if len(begin) == 1 else b"").startswith(begin):
            raise TableError(f"not a CSV file: it is {what}")
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TableError(
            f"not a CSV file: line {line} is not text in {'UTF-16' if wide else 'UTF-8'}; save it as UTF-8"
        ) from None
    if "\0" in text:
        raise TableError(
            "not a CSV file: it has bytes of 0, as UTF-16 without its mark and binary files have"
        )
    return text, ["UTF-16"] if wide else []


def _text(text: str, form: list[str]) -> Sheet:
    import pyarrow as pa
    from pyarrow import csv

    told = re.match(r"sep=(.)\r?\n", text)  # by Excel, for itself
    if told:
        text = text[told.end() :]
    header = re.sub(r'"[^"]*"', "", text.lstrip("\r\n").partition("\n")[0])
    mark = told[1] if told and told[1] in _SEPARATORS else max(_SEPARATORS, key=header.count)

    def parsed(types: dict[str, pa.DataType] | None = None) -> pa.Table:
        return csv.read_csv(
            pa.py_buffer(text.encode()),
            parse_options=csv.ParseOptions(delimiter=mark, newlines_in_values='"' in text),
            convert_options=csv.ConvertOptions(
                null_values=_NOTHING, strings_can_be_null=True, column_types=types
            ),
        )

    try:
        arrow = parsed()
    except pa.ArrowException as error:
        raise TableError(f"not a CSV file: {error}{_hint(text, mark)}") from None
    if arrow.num_columns == 1 and " " in header.strip():
        raise TableError(
            f"it has one column, {arrow.column_names[0]!r}; expected columns separated by "
            f"{', '.join(_SEPARATORS.values())}"
        )
    form = [f"text with {_SEPARATORS[mark]}", *form]
    percent, commas = set(), False
    read = [k for k, field in enumerate(arrow.schema) if pa.types.is_floating(field.type)]
    for k, name in enumerate(arrow.column_names):
        if pa.types.is_string(arrow.schema.field(k).type):
            found = _numbers(name, arrow.column(k).to_pylist())
            if found is not None:
                numbers, has_percent, has_commas = found
                arrow = arrow.set_column(k, name, pa.array(numbers, pa.float64()))
                percent |= {name} if has_percent else set()
                commas |= has_commas
    if commas and read:
        _check_points(parsed(dict.fromkeys(arrow.column_names, pa.string())).select(read))
    return Sheet(arrow, ", ".join([*form, *(["decimal commas"] if commas else [])]), frozenset(percent))


def _check_points(arrow: pa.Table) -> None:
    """Raise for points that may separate thousands, in columns of text beside one with decimal commas."""
    for name, column in zip(arrow.column_names, arrow.columns, strict=True):
        for row, cell in enumerate(column.to_pylist()):
            if cell is not None and _POINTS.fullmatch(cell.strip()):
                raise TableError(
                    f"row {row}: {name.strip()} is {cell!r}, and other columns have decimal commas: the "
                    f"point may separate thousands; {_PLAIN}"
                )


def _hint(text: str, mark: str) -> str:
    """Return what else to look at, where lines have more columns than the first one."""
    if text.startswith("#"):
        return "; leave out lines of comments"
    if mark == "," and re.search(r"\d,\d+\r?$", text[: 1 << 16], re.MULTILINE):
        return "; for decimal commas, separate columns by semicolons or tabs"
    return ""


def _numbers(name: str, cells: list[str | None]) -> tuple[list[float | None], bool, bool] | None:
    """Return the numbers that a column of text holds, and whether with percent signs and with decimal commas.

    None where it is text, or a cell is not a number. Commas that may be decimal or separate thousands raise.
    """
    there = [None if cell is None else cell.strip() for cell in cells]
    there = [None if cell in _NOTHING else cell for cell in there]
    known = [cell for cell in there if cell is not None]
    bare = [cell.removesuffix("%").rstrip() for cell in known]
    if not bare or not all(
        _NUMBER.fullmatch(c) or _COMMA.fullmatch(c) or _THOUSANDS.fullmatch(c) for c in bare
    ):
        return None
    grouped = [cell for cell in bare if "," in cell and _THOUSANDS.fullmatch(cell)]
    decimal = [cell for cell in bare if _COMMA.fullmatch(cell) and cell not in grouped]
    if grouped and (not decimal or any(cell.count(",") > 1 or "." in cell for cell in grouped)):
        row = there.index(next(c for c, b in zip(known, bare, strict=True) if b == grouped[0]))
        raise TableError(
            f"row {row}: {name.strip()} is {there[row]!r}: the comma may be a decimal one or separate "
            f"thousands; {_PLAIN}"
        )
    if decimal and any("." in cell for cell in bare):
        row = next(k for k, cell in enumerate(there) if cell is not None and "." in cell)
        raise TableError(
            f"row {row}: {name.strip()} is {there[row]!r}, and other rows have decimal commas; {_PLAIN}"
        )
    signed = [cell.endswith("%") for cell in known]
    if any(signed) and not all(signed):
        row = next(k for k, cell in enumerate(there) if cell is not None and not cell.endswith("%"))
        raise TableError(
            f"row {row}: {name.strip()} is {there[row]!r}, and other rows have percent signs; write all of "
            "them with the sign, or none"
        )
    values: dict[Any, float | None] = {None: None}
    values |= {cell: float(b.replace(",", ".")) for cell, b in zip(known, bare, strict=True)}
    return [values[cell] for cell in there], any(signed), bool(decimal or grouped)
