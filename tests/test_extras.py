"""A library that is not installed: the error says for what, which, and the extra that has it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nasbench_mr.errors import MissingExtraError
from nasbench_mr.extras import requires


def test_a_missing_module_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as caught, requires("cluster", "the engine 'ray'"):
        import ray.data  # noqa: F401
    assert str(caught.value) == (
        "the engine 'ray' needs 'ray', which is not installed: pip install 'nasbench-mr[cluster]'"
    )


def test_a_broken_module_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halved.py").write_text("from json import nothing")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        pytest.raises(MissingExtraError, match=r"needs 'json', which can't be imported \(cannot import name"),
        requires("search", "a test"),
    ):
        import halved  # type: ignore[import-not-found]  # noqa: F401


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), requires("search", "a test"):
        print(1 / 0)
    inner = MissingExtraError("the first is named")
    with pytest.raises(MissingExtraError) as caught, requires("plot", "a test"):
        raise inner
    assert caught.value is inner


def test_a_version_that_is_too_old_is_named() -> None:
    import numpy

    with requires("search", "a test", {"numpy": "1.0", "no-such-distribution": "9"}):
        pass
    with pytest.raises(MissingExtraError) as caught, requires("search", "a test", {"numpy": "99.1"}):
        pass
    assert str(caught.value) == (
        f"a test needs numpy 99.1 or newer, and {numpy.__version__} is installed: "
        "pip install -U 'nasbench-mr[search]'"
    )
    # What an old version lacks is explained by its age.
    with (
        pytest.raises(MissingExtraError, match=r"99\.1 or newer"),
        requires("search", "a test", {"numpy": "99.1"}),
    ):
        from numpy import nothing_of_this_name  # type: ignore[attr-defined]  # noqa: F401
