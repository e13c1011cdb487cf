"""Files as spreadsheets, R and pandas write them: read, or refused for the true reason."""

from __future__ import annotations

import bz2
import gzip
import io
import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from nasbench_mr import table
from nasbench_mr.data_builders.published import sheets
from nasbench_mr.errors import TableError


def read(content: str | bytes, tmp_path: Path, name: str = "mine.csv") -> sheets.Sheet:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return sheets.read(path)


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("sheet.xml", "x")
    return sink.getvalue()


PLAIN = "a,b\n1.5,x\n2.5,y\n"
FORMS: dict[str, tuple[str | bytes, str]] = {
    "commas": (PLAIN, "text with commas"),
    "semicolons": (PLAIN.replace(",", ";"), "text with semicolons"),
    "tabs": (PLAIN.replace(",", "\t"), "text with tabs"),
    "pipes": (PLAIN.replace(",", "|"), "text with pipes"),
    "told by Excel": ("sep=;\n" + PLAIN.replace(",", ";"), "text with semicolons"),
    "decimal commas": ("a;b\n1,5;x\n2,5;y\n", "text with semicolons, decimal commas"),
    "decimal commas in quotes": ('a,b\n"1,5",x\n"2,5",y\n', "text with commas, decimal commas"),
    "three digits, told by the others": ("a;b\n1,500;x\n2,5;y\n", "text with semicolons, decimal commas"),
    "a mark of UTF-8": (PLAIN.encode("utf-8-sig"), "text with commas"),
    "UTF-16": (PLAIN.encode("utf-16"), "text with commas, UTF-16"),
    "gzip": (gzip.compress(PLAIN.encode()), "text with commas, gzip"),
    "carriage returns": (PLAIN.replace("\n", "\r\n"), "text with commas"),
    "spaces": ("a , b\n 1.5 ,x\n 2.5 ,y\n", "text with commas"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_read_and_said(name: str, tmp_path: Path) -> None:
    content, form = FORMS[name]
    sheet = read(content, tmp_path)
    assert sheet.form == form
    assert sheet.names == ["a", "b"]
    assert sheet.arrow.column(0).to_pylist() == [1.5, 2.5]
    assert sheet.arrow.column(1).to_pylist() == ["x", "y"]


def test_percent_signs_are_kept_in_mind(tmp_path: Path) -> None:
    sheet = read("a,b,c\n50%,1.5,x\n25 %,2.5,y%\nNA,,\n", tmp_path)
    assert sheet.arrow["a"].to_pylist() == [50.0, 25.0, None]
    assert sheet.arrow["c"].to_pylist() == ["x", "y%", None]
    assert sheet.percent == {"a"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        # 1.234 may be 1234 where a comma is decimal; the column alone does not tell.
        ("a;b\n50,5;1.234\n60,25;2.500\n", "row 0: b is '1.234', and other columns have decimal commas"),
        ("a\tb\n12,5\tx\n3.25\ty\n", "row 1: a is '3.25', and other rows have decimal commas"),
        ("a,b\n76.5%,x\n0.81,y\n70%,z\n", "row 1: a is '0.81', and other rows have percent signs"),
    ],
)
def test_numbers_of_two_forms_are_refused(content: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=re.escape(said)):
        read(content, tmp_path)


def test_points_beside_decimal_commas_that_separate_no_thousands(tmp_path: Path) -> None:
    sheet = read("a;b\n1,5;0.25\n2,5;12.5\n", tmp_path)
    assert sheet.arrow["b"].to_pylist() == [0.25, 12.5]


@pytest.mark.parametrize("nothing", ["", "NA", "N/A", "n/a", "#N/A", "null", "NULL", "None"])
def test_words_for_nothing(nothing: str, tmp_path: Path) -> None:
    assert read(f"a,b\n{nothing},x\n2.5,y\n", tmp_path).arrow["a"].to_pylist() == [None, 2.5]


def test_a_diverged_training_is_not_nothing(tmp_path: Path) -> None:
    first, second = read("a,b\nnan,x\n2.5,y\n", tmp_path).arrow["a"].to_pylist()
    assert (first != first, second) == (True, 2.5)


def test_categories_are_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    pd.DataFrame({"a": pd.Categorical(["x", "y", "x"])}).to_parquet(path)
    sheet = sheets.read(path)
    assert (sheet.form, sheet.arrow["a"].to_pylist()) == ("Parquet", ["x", "y", "x"])


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "a workbook": (zipped(), "it is a workbook or a zip archive; save the sheet as CSV"),
    "bzip2": (bz2.compress(PLAIN.encode()), "it is packed by bzip2; unpack it first"),
    "JSON": ('[{"a": 1}]', "it is JSON; write its table as CSV or Parquet"),
    "a page": ("\n <!doctype html>\n", "it is a web page or XML; download the file itself"),
    "a pickle": (b"\x80\x04]\x94.", "it is a pickle, which is never read"),
    "Latin-1": ("a,b\n1,caf\xe9\n".encode("latin-1"), "line 2 is not text in UTF-8; save it as UTF-8"),
    "half of UTF-16": (PLAIN.encode("utf-16")[:-1], "is not text in UTF-16"),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), "it has bytes of 0, as UTF-16 without its mark"),
    "cut gzip": (gzip.compress(PLAIN.encode())[:-9], "not a complete gzip file"),
    "spaces between columns": ("a b\n1 2\n", "one column, 'a b'; expected columns separated by commas"),
    "decimal commas between commas": ("a,b\n1,1,5\n2,2,5\n", "for decimal commas, separate columns by"),
    "comments": ("# mine\na,b\n1,2\n", "leave out lines of comments"),
    "thousands": (
        'a,b\n"1,234,567",2\n"2,345",3\n',
        "row 0: a is '1,234,567': the comma may be a decimal one or separate thousands",
    ),
    "either": ("a;b\n1,234;2\n2,345;3\n", "row 0: a is '1,234': the comma may be a decimal one"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_file_is_refused_for_the_true_reason(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    with pytest.raises(TableError) as caught:
        read(content, tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_that_is_too_large(pack: type[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_BYTES", 1000)
    read(pack(b"a,b\n" + 200 * b"1,2\n"), tmp_path)
    with pytest.raises(TableError, match="it has more than 1,000 bytes"):
        read(pack(b"a,b\n" + 250 * b"1,2\n"), tmp_path)
