"""What importing costs, which way dependencies point, and what a wheel holds."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import nasbench_mr
from nasbench_mr.errors import MissingExtraError

REPOSITORY = Path(__file__).resolve().parents[1]
#: Folder in the repository: import name.
PACKAGES = {
    "nasbench_mr": "nasbench_mr",
    "data_builders": "nasbench_mr.data_builders",
    "predictors": "nasbench_mr.predictors",
    "search": "nasbench_mr.search",
}
HEAVY = (
    "torch",
    "pandas",
    "pyarrow",
    "requests",
    "tqdm",
    "scipy",
    "sklearn",
    "lightgbm",
    "matplotlib",
    "ray",
)


def python(script: str, *arguments: object, **environment: str) -> str:
    """Return the output of a fresh Python process."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(script: str, *arguments: object) -> set[str]:
    """Top-level modules that a fresh process has loaded after running a script."""
    report = "\nimport json as _j, sys as _s; print(_j.dumps(sorted({m.split('.')[0] for m in _s.modules})))"
    return set(json.loads(python(script + report, *arguments).splitlines()[-1]))


# --- Cost of importing --------------------------------------------------------------------------------


def test_importing_the_package_loads_nothing() -> None:
    assert not loaded("import nasbench_mr; dir(nasbench_mr)") & {*HEAVY, "numpy"}


QUERIES = """
import sys, nasbench_mr
bench = nasbench_mr.load(sys.argv[1])
for task in bench.tasks:
    codes = bench.codes(task)
    bench.query(tuple(codes[0].tolist()), task)
    bench.query_many(codes, task)
    bench.best(task, max_macs=1e10)
"""
ONE_QUERY = """
import sys, nasbench_mr
bench = nasbench_mr.load(sys.argv[1])
assert bench.query(tuple(map(int, sys.argv[2].split(","))), "video").code
"""


def test_queries_load_numpy_alone_or_nothing(tiny_release: Path) -> None:
    # The first load of a table reads Parquet, for which pyarrow up to 25 loads pandas. It leaves
    # a copy that needs neither.
    pandas = {"pandas"} if int(importlib.metadata.version("pyarrow").split(".")[0]) < 26 else set()
    assert loaded(QUERIES, tiny_release) & {*HEAVY, "numpy"} == {"numpy", "pyarrow", *pandas}
    assert loaded(QUERIES, tiny_release) & {*HEAVY, "numpy"} == {"numpy"}
    code = ",".join(map(str, nasbench_mr.space.sample(1, seed=0)[0].tolist()))
    assert loaded(ONE_QUERY, tiny_release, code) & {*HEAVY, "numpy"} == set()


@pytest.mark.parametrize(
    "module",
    [
        "space",
        "cost",
        "tasks",
        "release",
        "table",
        "objective",
        "search",
        "predictors",
        "data_builders",
        "cli",
    ],
)
def test_modules_that_are_light_to_import(module: str) -> None:
    assert not loaded(f"import nasbench_mr.{module}") & set(HEAVY)


# --- Public names -------------------------------------------------------------------------------------


def test_every_public_name_is_there() -> None:
    for name in nasbench_mr.__all__:
        assert getattr(nasbench_mr, name) is not None
        assert name in dir(nasbench_mr)
    with pytest.raises(AttributeError, match="module 'nasbench_mr' has no attribute 'nothing'"):
        nasbench_mr.nothing  # noqa: B018
    scope: dict[str, object] = {}
    exec("from nasbench_mr import *", scope)
    assert set(nasbench_mr.__all__) <= set(scope)


def test_the_network_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "nasbench_mr.network", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'nasbench-mr\[search\]'"):
        __import__("nasbench_mr.network")


# --- Which way dependencies point ---------------------------------------------------------------------


def sources(folder: str) -> list[Path]:
    return sorted(p for p in (REPOSITORY / folder).rglob("*.py") if "__pycache__" not in p.parts)


def imports(path: Path) -> Iterator[str]:
    """Yield what a module imports, anywhere in it, but for type checkers."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            yield child
            yield from walk(child)

    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert (node.module or "").split(".")[0] not in ("data_builders", "predictors", "search"), path
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


#: Which packages each may import, wherever in a file; "top" is the core's top floor.
MAY: dict[str, set[str]] = {
    "core": {"core"},
    "top": {"core", "top", "data_builders", "predictors", "search"},
    "data_builders": {"core", "data_builders"},
    "predictors": {"core", "predictors"},
    "search": {"core", "data_builders", "predictors", "search"},
}
TOP = ("cli", "integrations", "__main__")


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the packages, by the name under which it is imported."""
    found = {}
    for folder, package in PACKAGES.items():
        for path in sources(folder):
            inside = path.relative_to(REPOSITORY / folder).with_suffix("").parts
            found[".".join([package, *inside]).removesuffix(".__init__")] = path
    return found


def floor(module: str) -> str:
    """Return the package that a module belongs to, for the rules of `MAY`."""
    first = [*module.split(".")[1:], ""][0]
    return "top" if first in TOP else first if first in MAY else "core"


@functools.cache
def graph() -> dict[str, set[str]]:
    """Return what every module imports, anywhere in its file but for type checkers."""
    known = modules()
    edges: dict[str, set[str]] = {}
    for module, path in known.items():
        named = set(imports(path))
        # `from package import module` names both; the package is only what the module lies in.
        inner = {name for name in named if name in known}
        parents = {name.rpartition(".")[0] for name in inner}
        edges[module] = {name for name in inner if name not in parents or name in imported(path)} - {module}
    return edges


def imported(path: Path) -> set[str]:
    """Return the packages of which a file imports something that is not a module of theirs."""
    known, found = modules(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "" for a in node.names if f"{node.module}.{a.name}" not in known}
    return found


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that import each other (strongly connected components, Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(edges[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            circle = set(stack[stack.index(module) :])
            del stack[stack.index(module) :]
            if len(circle) > 1:
                found.append(circle)

    for module in sorted(edges):
        if module not in index:
            visit(module)
    return found


def test_circles_are_found() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert circles(edges) == [{"b", "c"}]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_no_module_imports_itself_round_a_circle() -> None:
    known = modules()
    named = [
        " <-> ".join(sorted(str(known[m].relative_to(REPOSITORY)) for m in circle))
        for circle in circles(graph())
    ]
    assert not named, "circles of imports: " + "; ".join(named)


@pytest.mark.parametrize("module", sorted(modules()))
def test_dependencies_point_one_way(module: str) -> None:
    for other in graph()[module]:
        assert floor(other) in MAY[floor(module)], f"{module} imports {other}"


def test_the_architecture_names_files_that_exist_and_all_of_the_core() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    names = {path.name for folder in (*PACKAGES, "tests", "benchmarks") for path in sources(folder)}
    found = re.findall(r"`(?:[\w/]+/)?(\w+\.py)`", text)
    assert not [name for name in found if name not in names]
    core = {
        path.name for path in (REPOSITORY / "nasbench_mr").glob("*.py") if path.stem.strip("_") == path.stem
    }
    assert core <= set(found), "the table of the core lacks some"


# --- The wheel ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an unpacked wheel of a copy of the sources; building leaves traces where it runs."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(REPOSITORY / name, source / name)
    for folder in PACKAGES:
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    script = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", script, out], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(out / "unpacked")
    return out / "unpacked"


def test_the_wheel_has_every_file_and_nothing_else(wheel: Path) -> None:
    """Also data files: what a package reads must be in setup.cfg's package_data."""
    expected = set()
    # How the embedded release is made is for those who have the repository.
    recipe = REPOSITORY / "data_builders" / "mini"
    for folder, name in PACKAGES.items():
        for path in (REPOSITORY / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.parent != recipe:
                expected.add(Path(*name.split("."), path.relative_to(REPOSITORY / folder)).as_posix())
    found = {p.relative_to(wheel).as_posix() for p in wheel.rglob("*") if p.is_file()}
    version = f"nasbench_mr-{nasbench_mr.__version__}.dist-info"
    assert {f for f in found if not f.startswith(version)} == expected
    assert {p.name for p in wheel.iterdir()} == {"nasbench_mr", version}
    assert "nasbench_mr/py.typed" in found
    metadata = (wheel / version / "METADATA").read_text()
    assert "License-Expression: MIT" in metadata or "License: MIT" in metadata
    assert "nasbench-mr = nasbench_mr.cli:main" in (wheel / version / "entry_points.txt").read_text()


def test_every_module_of_the_wheel_imports(wheel: Path) -> None:
    names = [
        ".".join(p.relative_to(wheel).with_suffix("").parts).removesuffix(".__init__")
        for p in sorted(wheel.rglob("*.py"))
    ]
    assert {m.name for m in pkgutil.iter_modules([str(wheel / "nasbench_mr")], "nasbench_mr.")} <= set(names)
    script = (
        "import importlib, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from nasbench_mr.errors import MissingExtraError\n"
        "for name in sys.argv[2:]:\n"
        "    try:\n"
        "        module = importlib.import_module(name)\n"
        "    except MissingExtraError:\n"
        "        assert name.startswith('nasbench_mr.integrations.')  # of a tool that is not installed\n"
        "        continue\n"
        "    assert module.__file__.startswith(sys.argv[1]), module.__file__\n"
        "    assert module.__doc__, f'{name} has no docstring'\n"
    )
    python(script, wheel, *names)
