"""The documents say what is true: every Python snippet and `nasbench-mr` command in them runs, in order.

Fenced blocks are run as follows; those of one document share variables, a folder, and a home that has the
published tables (if they are at hand).
    ```python    with >>> prompts as a doctest, else executed
    ```console   each `$ nasbench-mr ...` is run; lines below it, if there are any, are its output
"..." in an output stands for anything. A comment before a block says what it needs:
    <!-- needs the published tables -->   is run where they are at hand
    <!-- not run: REASON -->              is not run
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import subprocess
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NEEDS_TABLES = "needs the published tables"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, the line where it starts, and the comment before it."""

    language: str
    text: str
    line: int
    comment: str = ""


def blocks(document: str) -> Iterator[Block]:
    """The fenced blocks of a Markdown document."""
    comment, start, language, lines = "", 0, "", []
    for number, line in enumerate(document.splitlines(), start=1):
        if start and line.strip() == "```":
            yield Block(language, "\n".join(lines) + "\n", start, comment)
            comment, start = "", 0
        elif start:
            lines.append(line)
        elif fence := re.fullmatch(r"```(\w*).*", line.strip()):
            language, start, lines = fence[1], number, []
        elif note := re.fullmatch(r"<!--\s*(.*?)\s*-->", line.strip()):
            comment = note[1]
        elif line.strip():
            comment = ""
    assert not start, f"the block of line {start} does not end"


def commands(text: str) -> Iterator[tuple[str, str]]:
    """(command, expected output) of a console block; a command goes on after a final backslash."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        match = re.fullmatch(r"((?:.*\\\n)*.*)\n?([\s\S]*)", part)
        assert match is not None
        yield match[1], match[2]


def same(expected: str, found: str) -> bool:
    return doctest.OutputChecker().check_output(expected.strip() + "\n", found.strip() + "\n", FLAGS)


def run_console(text: str) -> Iterator[str]:
    """Runs a console block; yields what was wrong."""
    for command, expected in commands(text):
        if not re.search(r"(^|[;&| ])nasbench-mr ", command):
            continue
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        # A document may show a mistake, and what is said about it.
        output = done.stdout + (done.stderr if done.returncode else "")
        if done.returncode and not expected.strip():
            yield f"$ {command}\nended with status {done.returncode}:\n{output}"
        elif expected.strip() and not same(expected, output):
            yield f"$ {command}\nprinted\n{output}\ninstead of\n{expected}"


def run_python(text: str, variables: dict[str, Any], name: str, line: int) -> Iterator[str]:
    """Runs a Python block; yields what was wrong."""
    if ">>> " in text:
        test = doctest.DocTestParser().get_doctest(text, variables, name, name, line)
        said: list[str] = []
        with contextlib.redirect_stderr(io.StringIO()):
            doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(
                test, out=said.append, clear_globs=False
            )
        variables.update(test.globs)
        if said:
            yield "".join(said)
        return
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile("\n" * line + text, name, "exec"), variables)
    except Exception:
        yield traceback.format_exc(limit=-3)


def run_document(document: str, name: str, with_tables: bool) -> tuple[list[str], list[int]]:
    """What was wrong, block by block, and the lines of the blocks that lacked the published tables."""
    variables: dict[str, Any] = {"__name__": "__main__"}
    wrong, lacking = [], []
    for block in blocks(document):
        if block.language not in ("python", "console") or re.match(r"not run: \w", block.comment):
            continue
        if block.comment == NEEDS_TABLES and not with_tables:
            lacking.append(block.line)
            continue
        if block.language == "python":
            problems = run_python(block.text, variables, name, block.line)
        else:
            problems = run_console(block.text)
        wrong += [f"{name}, block of line {block.line}:\n{problem}" for problem in problems]
    return wrong, lacking


@pytest.fixture
def installed(published_release: Path | None, home: Path) -> bool:
    """Whether the published tables are installed, as the release "nasbench-mr"."""
    if published_release is not None:
        place = home / "releases" / "nasbench-mr"
        place.mkdir(parents=True)
        (place / published_release.name).symlink_to(published_release)
    return published_release is not None


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_document(path: Path, installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong, lacking = run_document(path.read_text(encoding="utf-8"), path.name, installed)
    assert not wrong, "\n\n".join(wrong)
    if lacking:
        print(f"{path.name}: the blocks of lines {lacking} need the published tables, which are not at hand")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


# --- The runner itself --------------------------------------------------------------------------------

SAMPLE = """\
Text.

```python
>>> x = 2
>>> x + 1
3
```
```python
y = x * 3
assert y == 6
```
<!-- not run: takes a day -->

```python
raise RuntimeError
```
```console
$ nasbench-mr --version     # prints
nasbench-mr ...
$ nasbench-mr query \\
    x
nasbench-mr: ...
$ make demo
anything
```
```text
$ nasbench-mr nothing
```
"""


def test_a_true_document_passes() -> None:
    assert run_document(SAMPLE, "sample", with_tables=False) == ([], [])
    found = [(b.language, b.line, b.comment) for b in blocks(SAMPLE)]
    assert found[:2] == [("python", 3, ""), ("python", 8, "")]
    assert found[2:] == [("python", 14, "not run: takes a day"), ("console", 17, ""), ("text", 26, "")]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n3\n", "\n4\n", "block of line 3:"),
        ("y == 6", "y == 7", "block of line 8:\nTraceback"),
        ("<!-- not run: takes a day -->", "<!-- not run: -->", "block of line 14:"),
        ("<!-- not run: takes a day -->", "", "RuntimeError"),
        ("nasbench-mr ...", "nasbench-mr 0.0.0", "block of line 17:\n$ nasbench-mr --version"),
        ("nasbench-mr: ...\n", "", "ended with status 2"),
    ],
)
def test_a_wrong_document_fails(old: str, new: str, message: str) -> None:
    (wrong,), _ = run_document(SAMPLE.replace(old, new), "sample", with_tables=False)
    assert message in wrong


def test_blocks_that_need_the_tables_say_so() -> None:
    text = f"<!-- {NEEDS_TABLES} -->\n```python\nraise RuntimeError\n```\n"
    assert run_document(text, "sample", with_tables=False) == ([], [2])
    assert len(run_document(text, "sample", with_tables=True)[0]) == 1
