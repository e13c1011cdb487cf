"""Text from data is harmless where it is shown: in Python source, Markdown, HTML, a terminal, an error."""

from __future__ import annotations

import ast
import html.parser
import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasbench_mr import card, escape, plot, release, space, tasks
from nasbench_mr.cli import main
from nasbench_mr.download import download
from nasbench_mr.errors import DownloadError, InvalidArgumentError

HOSTILE = (
    '""" + exit() + """',
    "''' + exit() + '''",
    'ends with a quote"',
    "ends with a backslash\\",
    '\\"""; exit()',
    "two\nlines\r\n# and a heading",
    "{0.__class__} %s",
    "</script><script>alert(1)</script> <img src=x onerror=alert(1)>",
    "a | b | `c` [link](javascript:alert(1))",
    "\x1b]0;title\x07\x1b[2J \x9b31m \u202e reversed \0",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_python(text: str) -> None:
    for quotes in ('"', "'", '"""', "'''"):
        assert ast.literal_eval(f"{quotes}{escape.python(text)}{quotes}") == text


@given(st.text())
def test_python_of_any_text(text: str) -> None:
    assert ast.literal_eval(f'"""{escape.python(text)}"""') == text
    assert escape.python(text).isprintable()


@given(st.text())
def test_terminal_of_any_text(text: str) -> None:
    assert all(c.isprintable() or c in "\n\t" for c in escape.terminal(text))
    assert escape.terminal("mIoU of é, 1 %\n") == "mIoU of é, 1 %\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown(text: str) -> None:
    shown = escape.markdown(text)
    assert shown.isprintable()
    for special in "|<>`[]":
        assert shown.count(special) == shown.count(f"\\{special}")


@pytest.mark.parametrize("text", HOSTILE)
def test_markup(text: str) -> None:
    found: list[str] = []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append(f"{tag} {sorted(name for name, _ in attrs)}")

    Parser().feed(f'<p title="{escape.markup(text)}">{escape.markup(text)}</p>')
    assert found == ["p ['title']"]


# --- Where it is used ---------------------------------------------------------------------------------


@pytest.mark.parametrize("title", HOSTILE)
def test_an_exported_network_of_a_hostile_task_runs_nothing(title: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from nasbench_mr.search import export

    path = tmp_path / "network.py"
    export.export(space.sample(1)[0], replace(tasks.get("seg"), title=title), path)
    described = importlib.util.spec_from_file_location("exported", path)
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    assert f"network for {title}." in (module.__doc__ or "")


def hostile_release(source: Path, target: Path, text: str) -> release.Release:
    folder = Path(shutil.copytree(source, target))
    base = release.Release.open(folder)
    described = [
        replace(task, title=text, dataset=text, provenance=text, recipe=text) for task in base.tasks.values()
    ]
    about = dict.fromkeys(("title", "description", "license", "citation"), text) | {"flaws": [text]}
    return release.seal(folder, base.name, base.version, described, about=about)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_card_of_hostile_texts(text: str, tiny_release: Path, tmp_path: Path) -> None:
    made = hostile_release(tiny_release, tmp_path / "x", text)
    lines = card.text(made).splitlines()
    assert all(line.isprintable() for line in lines)
    front = lines[1 : lines.index("---", 1)]
    assert f"pretty_name: {escape.terminal(json.dumps(text, ensure_ascii=False))}" in front
    for line in lines:
        if line.startswith("| seg |"):
            assert line.replace("\\|", "").count("|") in (7, 9)
    assert not any(line.startswith(("# and", "<")) for line in lines)


def test_commands_print_no_control_characters(
    tiny_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = hostile_release(tiny_release, tmp_path / "x", HOSTILE[-1])
    where = str(made.path)
    for arguments in (["tasks"], ["tasks", "seg"], ["best", "seg"]):
        assert main([*arguments, "--release", where]) == 0
    assert main(["card", where]) == 0
    assert main(["tasks", "\x1b[2J", "--release", where]) == 2
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert text
        assert all(c.isprintable() or c in "\n\t" for c in text)


# --- Secrets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/a/b.tar.gz", "https://example.org/a/b.tar.gz"),
        ("https://me:hunter2@example.org:8080/x", "https://example.org:8080/x"),
        ("https://example.org/x?token=hunter2&y=1#hunter2", "https://example.org/x?..."),
        ("s3://AKIA123:hunter2@bucket/x", "s3://bucket/x"),
        ("me:hunter2@host/x", "host/x"),
        ("https://[hunter2/x?hunter2", "https://[hunter2/x"),
    ],
)
def test_addresses(url: str, shown: str) -> None:
    assert escape.address(url) == shown


def test_errors_about_downloads_keep_secrets(tmp_path: Path) -> None:
    for url in ("http://me:hunter2@127.0.0.1:9/x.bin?token=swordfish", "http://127.0.0.1:9/x?sig=swordfish"):
        with pytest.raises(DownloadError) as caught:
            download(url, tmp_path / "x", attempts=1, progress=False)
        text = "".join(map(str, (caught.value, caught.value.__cause__)))
        assert "127.0.0.1:9/x" in text
        assert "hunter2" not in text
        assert "swordfish" not in text
    with pytest.raises(InvalidArgumentError) as refused:
        download("ftp://me:hunter2@example.org/x", tmp_path / "x")
    assert "hunter2" not in str(refused.value)
    assert not list(tmp_path.rglob("*swordfish*"))


@pytest.mark.parametrize("text", [*HOSTILE, r"$\nosuch$ and 5 $", "a_b^c"])
def test_a_plot_of_hostile_names_shows_them_as_they_are(text: str, tmp_path: Path) -> None:
    drawn = plot.figure(3, 2)
    panel = drawn.subplots()
    panel.plot([1, 2], label=text)
    panel.set_title(text)
    plot.legend(drawn)
    shown = ElementTree.parse(plot.save(drawn, tmp_path / "x.svg"))
    assert shown.getroot().tag.endswith("svg")
    assert (panel.title.get_text(), panel.title.get_parse_math()) == (escape.terminal(text), False)
