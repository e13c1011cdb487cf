"""Every error is also the builtin that a caller would expect, and its message is one readable line."""

from __future__ import annotations

import inspect
import re

import pytest

from nasbench_mr import errors

BUILTINS: dict[str, type[Exception]] = {
    "CodeNotFoundError": LookupError,
    "DatasetError": ValueError,
    "DeviceError": RuntimeError,
    "DownloadError": OSError,
    "InfeasibleError": ValueError,
    "IntegrityError": ValueError,
    "InvalidArgumentError": ValueError,
    "MissingExtraError": ImportError,
    "NotFittedError": RuntimeError,
    "OutOfSpaceError": ValueError,
    "RecipeError": ValueError,
    "ReleaseError": ValueError,
    "ReleaseNotFoundError": LookupError,
    "StorageError": OSError,
    "SurrogateNotFoundError": LookupError,
    "TableError": ValueError,
    "UnknownMetricError": KeyError,
    "UnknownNameError": LookupError,
    "UnknownTaskError": LookupError,
    "UnsafeFileError": ValueError,
}
DEFINED = {
    name: cls
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if cls.__module__ == errors.__name__ and cls is not errors.NasbenchMRError
}


@pytest.mark.parametrize("name", BUILTINS)
def test_each_is_the_builtin_that_is_expected(name: str) -> None:
    assert issubclass(DEFINED[name], BUILTINS[name])


@pytest.mark.parametrize("name", DEFINED)
def test_each_is_ours_and_some_builtin(name: str) -> None:
    cls = DEFINED[name]
    assert issubclass(cls, errors.NasbenchMRError)
    assert {c for c in cls.__mro__ if c.__module__ == "builtins"} > {Exception, BaseException, object}
    assert inspect.getdoc(cls)
    # KeyError would show quotes, OSError an errno.
    assert str(cls("the message")) == "the message"


def test_the_tree_in_the_docstring_is_complete() -> None:
    assert errors.__doc__
    drawn = re.findall(r"(?:├|└)── (\w+)(?: \((\w+)\))?", errors.__doc__)
    assert sorted(name for name, _ in drawn) == sorted(DEFINED)
    for name, builtin in drawn:
        assert not builtin or builtin in {base.__name__ for base in DEFINED[name].__bases__}


def test_did_you_mean() -> None:
    names = ["seg", "seg-4x", "video", "cls-50-1000"]
    assert errors.did_you_mean("vidoe", names) == "did you mean 'video'?"
    assert errors.did_you_mean("CLS", names) == "did you mean 'cls-50-1000'?"
    assert errors.did_you_mean("se", names) == "did you mean 'seg' or 'seg-4x'?"
    assert errors.did_you_mean("zzzz", names) == "expected one of seg, seg-4x, video, cls-50-1000"
    assert errors.did_you_mean("", ["a"]) == "expected one of a"
    assert errors.did_you_mean(3, names).startswith("expected one of")
    assert errors.did_you_mean("a", []) == "there are none"
