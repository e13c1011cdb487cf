"""Classes of a user's own, by their dotted names: a search or a predictor that is in no registry.

A worker process imports what it runs, so such a class has to be importable from a module ("mine.Search"); one
that was typed into a script's main module is not.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from typing import Any

from nasbench_mr.errors import InvalidArgumentError, UnknownNameError


def address(kind: type) -> str:
    """The dotted name under which a class can be imported.

    Raises:
        InvalidArgumentError: it can't be, as it is local or of the main module.
    """
    module, name = kind.__module__, kind.__qualname__
    if module == "__main__" or getattr(sys.modules.get(module), name, None) is not kind:
        raise InvalidArgumentError(
            f"{name} can't be imported by worker processes: put it at the top of a module, such as mine.py, "
            f"and give mine.{name.rpartition('.')[2]}"
        )
    return f"{module}.{name}"


def find(dotted: str, base: type) -> Any:
    """The class of a dotted name.

    Raises:
        UnknownNameError: there is no such module, or no such name in it.
        InvalidArgumentError: it is no subclass of `base`.
    """
    module, _, name = dotted.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownNameError(
            f"can't import {dotted!r} ({error}); is the folder of its module in PYTHONPATH?"
        ) from None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InvalidArgumentError(f"{dotted!r} is {found!r:.60}; expected a subclass of {base.__name__}")
    return found


def digest(dotted: str) -> str:
    """A hash of the module's source, so that results of an edited class are not taken for its own."""
    try:
        source = inspect.getsource(importlib.import_module(dotted.rpartition(".")[0]))
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(source.encode()).hexdigest()
