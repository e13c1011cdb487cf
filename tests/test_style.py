"""How calls and names look: nobody can swap two arguments unseen, and a class name has one meaning."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path
    for folder in ("nasbench_mr", "data_builders", "predictors", "search")
    for path in (REPOSITORY / folder).rglob("*.py")
)


def long_calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls with six or more arguments without names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and sum(not isinstance(a, ast.Starred) for a in node.args) >= 6:
            yield node


def crowded(tree: ast.AST, inside: str = "") -> Iterator[str]:
    """Yield public functions, methods and constructors with more than four parameters by position."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from crowded(node, node.name)
        elif isinstance(node, ast.FunctionDef) and (node.name == "__init__" or node.name[0] != "_"):
            static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
            count = len(node.args.posonlyargs + node.args.args) - bool(inside and not static)
            if count > 4:
                yield f"{inside}.{node.name}" if inside else node.name
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from crowded(node, inside)


def test_the_rules_find_what_they_forbid() -> None:
    tree = ast.parse(
        "f(1, 2, 3, 4, 5, 6)\n"
        "f(1, 2, 3, 4, 5, x=6)\n"
        "def many(a, b, c, d, e): ...\n"
        "def _own(a, b, c, d, e): ...\n"
        "class Public:\n"
        "    def four(self, a, b, c, d, *, e): ...\n"
        "    def __init__(self, a, b, c, d, e): ...\n"
    )
    assert [call.lineno for call in long_calls(tree)] == [1]
    assert [*crowded(tree)] == ["many", "Public.__init__"]


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(REPOSITORY)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_at_most_one_call_in_a_thousand_lines_has_six_arguments_without_names() -> None:
    lines, found = 0, []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        lines += text.count("\n")
        found += [f"{path.relative_to(REPOSITORY)}:{call.lineno}" for call in long_calls(ast.parse(text))]
    assert len(found) <= lines / 1000, f"{len(found)} in {lines} lines: " + ", ".join(found)


@pytest.mark.parametrize("path", SOURCES, ids=[str(p.relative_to(REPOSITORY)) for p in SOURCES])
def test_parameters_after_the_fourth_have_names(path: Path) -> None:
    assert not [*crowded(ast.parse(path.read_text("utf-8")))], (
        "give the parameters after the fourth names only: put a * before them"
    )
