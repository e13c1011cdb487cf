"""The documents say what is true: every Python snippet and `nasbench-mr` command in them runs, in order.

Fenced blocks are run as follows; those of one document share variables, a folder, and a home that has the
published tables (if they are at hand).
    ```python    with >>> prompts as a doctest, else executed
    ```console   each `$ nasbench-mr ...` is run; lines below it, if there are any, are its output
"..." in an output stands for anything. A comment before a block says what it needs:
    <!-- needs the published tables -->   is run where they are at hand
    <!-- needs the package NAME -->       is run where it is installed
    <!-- not run: REASON -->              is not run
Every command is parsed at least, wherever it stands: in blocks of shells, in running text, in the
help of the commands themselves. Every recipe in docs/ is read by a command that a document shows.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import doctest
import importlib
import inspect
import io
import itertools
import re
import shlex
import subprocess
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from nasbench_mr import files
from nasbench_mr.cli import COMMANDS
from nasbench_mr.cli.auxnas import AuxNASCommand
from nasbench_mr.cli.command import Command
from nasbench_mr.cli.frame import make_parser
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.errors import NasbenchMRError

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
    """Yield the fenced blocks of a Markdown document."""
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
    """(command, expected output) of a console block; a final backslash continues a command."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        match = re.fullmatch(r"((?:.*\\\n)*.*)\n?([\s\S]*)", part)
        assert match is not None
        yield match[1], match[2]


def same(expected: str, found: str) -> bool:
    return doctest.OutputChecker().check_output(expected.strip() + "\n", found.strip() + "\n", FLAGS)


def run_console(text: str) -> Iterator[str]:
    """Run a console block; yields what was wrong."""
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
        elif not done.returncode and done.stderr.strip():
            yield f"$ {command}\nsaid {done.stderr}"


def run_python(text: str, variables: dict[str, Any], name: str, line: int) -> Iterator[str]:
    """Run a Python block; yields what was wrong, and what the reader would be warned of."""
    with warnings.catch_warnings(record=True) as warned:
        yield from _run_python(text, variables, name, line)
    for each in warned:
        if name in each.filename and issubclass(each.category, UserWarning):
            yield f"{each.category.__name__}: {each.message}"


def _run_python(text: str, variables: dict[str, Any], name: str, line: int) -> Iterator[str]:
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
    """Return what was wrong, block by block, and the lines of the blocks that lacked what they need."""
    variables: dict[str, Any] = {"__name__": "__main__"}
    wrong, lacking = [], []
    for block in blocks(document):
        if block.language not in ("python", "console") or re.match(r"not run: \w", block.comment):
            continue
        package = re.fullmatch(r"needs the package (\w+)", block.comment)
        if (block.comment == NEEDS_TABLES and not with_tables) or (package and not find_spec(package[1])):
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


@contextlib.contextmanager
def ray_for(document: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run Ray on this machine where a document uses it: its own, as other tests have clusters here."""
    if "needs the package ray" not in document or not find_spec("ray"):
        yield
        return
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=2, object_store_memory=80_000_000, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_document(path: Path, installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = path.read_text(encoding="utf-8")
    with ray_for(text, monkeypatch):
        wrong, lacking = run_document(text, path.name, installed)
    assert not wrong, "\n\n".join(wrong)
    if lacking:
        print(f"{path.name}: what the blocks of lines {lacking} need is not at hand")


def names_of(block: Block) -> tuple[set[str], set[str]]:
    """Return the names that a Python block binds, and those that it uses."""
    examples = doctest.DocTestParser().get_examples(block.text)
    text = "".join(example.source for example in examples) if examples else block.text
    bound, used = set(), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
    return bound, used


def borrowed(document: str) -> list[str]:
    """Return the names that blocks which always run take from blocks which may lack something."""
    always, sometimes, found = set[str](), set[str](), []
    for block in blocks(document):
        if block.language != "python" or block.comment.startswith("not run"):
            continue
        bound, used = names_of(block)
        if block.comment.startswith("needs"):
            sometimes |= bound
        else:
            always |= bound
            found += [f"line {block.line}: {name}" for name in sorted((used & sometimes) - always)]
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_block_that_always_runs_uses_nothing_of_one_that_may_not(path: Path) -> None:
    assert borrowed(path.read_text(encoding="utf-8")) == []


def test_a_borrowed_name_is_found() -> None:
    needing = f"<!-- {NEEDS_TABLES} -->\n```python\n>>> import os\n>>> x = 1\n```\n"
    assert borrowed(f"{needing}\n```python\nx = 2\nprint(x, os)\n```\n") == ["line 7: os"]


def misplaced_rows(document: str) -> list[str]:
    """Return the lines that Markdown takes into the table above, or rows that it joins to a paragraph."""
    found, before = [], ""
    for line in re.sub(r"^```.*?^```$", "", document, flags=re.MULTILINE | re.DOTALL).splitlines():
        if before.strip() and line.strip() and before.startswith("|") != line.startswith("|"):
            found.append(line)
        before = line
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_tables_stand_by_themselves(path: Path) -> None:
    assert misplaced_rows(path.read_text(encoding="utf-8")) == []


def test_a_line_beside_a_table_is_found() -> None:
    assert misplaced_rows("text\n\n| a |\n|---|\n| 1 |\n\ntext\n") == []
    assert misplaced_rows("text\n| a |\n|---|\n| 1 |\nmore\n") == ["| a |", "more"]
    assert misplaced_rows("```sh\nls\n| wc\n```\n") == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


ADAPTERS = (REPOSITORY / "docs" / "integrations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "block",
    [block for block in blocks(ADAPTERS) if "nasbench_mr.integrations" in block.text],
    ids=lambda block: f"line {block.line}",
)
def test_an_adapter_needs_five_statements_and_its_example_runs(block: Block) -> None:
    """Beside imports; at any depth, so that a function counts with all that is in it."""
    found = [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.stmt)]
    written = [node for node in found if not isinstance(node, (ast.Import, ast.ImportFrom))]
    assert 1 <= len(written) <= 5, [ast.unparse(node) for node in written]
    assert not block.comment.startswith("not run")


def test_every_adapter_has_an_example() -> None:
    named = {path.stem for path in (REPOSITORY / "nasbench_mr" / "integrations").glob("[a-z]*.py")}
    shown = set(re.findall(r"from nasbench_mr\.integrations import (\w+)", ADAPTERS))
    assert shown == named - {"target"}


# --- Commands that are not run ------------------------------------------------------------------------


def words_of(line: str, variables: dict[str, str]) -> Iterator[list[str]]:
    """Yield the words after `nasbench-mr`, for each such command of a shell line."""
    for name, value in variables.items():
        line = re.sub(rf"\$\{{?{name}\b\}}?", lambda _, value=value: value, line)
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # an apostrophe in what a command prints
        return
    simple: list[list[str]] = [[]]
    for word in words:
        if re.fullmatch(r"[|&;<>]+|\d?>.*", word):
            simple.append([])
        elif word.startswith("nasbench-mr "):  # a command that another one runs
            yield from words_of(word, {})
        else:
            simple[-1].append(word.rstrip(";"))
    for command in simple:
        if "nasbench-mr" in command:
            yield command[command.index("nasbench-mr") + 1 :]


def all_commands(document: str) -> Iterator[list[str]]:
    """Yield the words of every command in a document."""
    for block in blocks(document):
        if block.language not in ("sh", "bash", "console", "text", ""):
            continue
        text = re.sub(r"\\\n\s*", " ", block.text)
        variables = dict(re.findall(r"^(?:\$ )?(?:export )?(\w+)=[\"'](.*?)[\"']$", text, flags=re.MULTILINE))
        for line in text.splitlines():
            yield from words_of(line.removeprefix("$ "), variables)
    outside = re.sub(r"^```.*?^```", "", document, flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`(nasbench-mr [^`]+)`", outside):
        yield from words_of(" ".join(code.split()), {})


def parsed(words: list[str]) -> tuple[argparse.Namespace, Command]:
    """Return what a command line asks for.

    Raises:
        SystemExit: it is refused.
    """
    parser, command = make_parser(COMMANDS, words)
    return parser.parse_args(words), command


def check_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """Return what is wrong with a command of a document; one without arguments only names it."""
    if "..." in words or words in [[name] for name in COMMANDS]:
        return None if words[0] in COMMANDS else f"no command {words[0]!r}"
    try:
        args, command = parsed(words)
    except SystemExit as stop:
        said = capsys.readouterr().err
        return said if stop.code else None
    if args.command in ("search", "compare", "build") and not args.tasks:
        return "names no task"
    if args.command == "build":
        unknown = set(args.tasks) - set(recipes.names())
        return f"no recipes {unknown}" if unknown else None
    if isinstance(command, AuxNASCommand) and args.primary and (args.recipe or args.primary_code):
        try:
            command._config(args)
        except NasbenchMRError as error:
            return str(error)
    return None


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in the repository, as if every place could be written."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(files, "check_writable", lambda path: None)


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_every_command_of_a_document_is_understood(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = []
    for words in all_commands(path.read_text(encoding="utf-8")):
        if trouble := check_command(words, capsys):
            wrong.append(f"nasbench-mr {shlex.join(words)}\n    {trouble}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_of_a_help_text_is_understood(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, cls, _ = COMMANDS[name]
    command = getattr(importlib.import_module(module), cls)
    texts = [inspect.getdoc(thing) or "" for thing in (command, *vars(command).values())]
    examples = [re.sub(r"\\\n\s*", " ", text.partition("Example:")[2]) for text in texts]
    lines = [line for text in examples for line in text.splitlines() if "nasbench-mr" in line]
    assert lines
    for line in lines:
        for words in words_of(line, {}):
            assert check_command(words, capsys) is None, line


def test_every_recipe_of_the_documents_is_shown_in_a_command() -> None:
    shown = {
        word
        for path in DOCUMENTS
        for words in all_commands(path.read_text(encoding="utf-8"))
        for flag, word in itertools.pairwise(words)
        if flag == "--recipe"
    }
    kept = [path for kind in ("toml", "json") for path in (REPOSITORY / "docs").glob(f"*.{kind}")]
    assert {path.relative_to(REPOSITORY).as_posix() for path in kept} <= shown


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Run `nasbench-mr qury`.", "no command 'qury'"),
        ("```sh\nnasbench-mr best seg --best 3\n```", "no option --best"),
        ("```sh\nFLAGS='--depth 3'\nnasbench-mr best seg $FLAGS | head\n```", "no option --depth"),
        ('```sh\nssh host "nasbench-mr best seg -k many" > out\n```', "-k: 'many' is not a whole number"),
        ("```sh\nnasbench-mr build nowhere --codes 3 --out out\n```", "no recipes {'nowhere'}"),
        ("```sh\nnasbench-mr auxnas normals --primary-code 8 --set steps=x\n```", "steps"),
        ("```sh\nnasbench-mr best \\\n  seg\n```", None),
        ("`nasbench-mr best`, `nasbench-mr build --help`", None),
    ],
)
def test_commands_are_found_and_checked(
    text: str, message: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [check_command(words, capsys) for words in all_commands(text)]
    assert found
    if message is None:
        assert found == [None] * len(found)
    else:
        assert message in (found[0] or "")


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
        ("x * 3\n", "x * 3; __import__('warnings').warn('few')\n", "UserWarning: few"),
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


def test_blocks_that_need_a_package_run_where_it_is() -> None:
    text = "<!-- needs the package {} -->\n```python\nraise RuntimeError\n```\n"
    assert run_document(text.format("no_such_package"), "sample", with_tables=True) == ([], [2])
    assert len(run_document(text.format("numpy"), "sample", with_tables=False)[0]) == 1
