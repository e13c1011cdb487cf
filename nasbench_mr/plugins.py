"""Searches and predictors by name: those of a registry, and classes of a user's own by their dotted names.

A worker process imports what it runs, so such a class has to be importable from a module ("mine.Search"); one
that was typed into a script's main module is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import sys
from collections.abc import Mapping
from typing import Any

from nasbench_mr.errors import InvalidArgumentError, UnknownNameError, did_you_mean


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


def named(kind: type, registry: Mapping[str, tuple[str, str]]) -> str:
    """A class's name in the registry, else its dotted one, importable (see `address`) or not."""
    place = kind.__module__, kind.__qualname__
    return next((name for name, known in registry.items() if known == place), ".".join(place))


def resolve(name: str | type, base: type, registry: Mapping[str, tuple[str, str]], what: str) -> Any:
    """A class: itself, or by a name of the registry (module and class), or by its dotted name.

    Raises:
        UnknownNameError: there is no such `what`.
        InvalidArgumentError: it is no subclass of `base`.
    """
    if not isinstance(name, str):
        return name
    if "." in name:
        return find(name, base)
    if name not in registry:
        raise UnknownNameError(f"no {what} {name!r}: {did_you_mean(name, registry)}")
    module, cls = registry[name]
    return getattr(importlib.import_module(module), cls)


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


def digest(*names: object) -> str:
    """A hash of the modules' sources, so that results of an edited class are not taken for its own.

    Args:
        names: those that are dotted names of classes count; all else is passed over.
    """
    sources = []
    for name in names:
        if isinstance(name, str) and "." in name:
            # A path or a text with a dot in it, or a module without a source.
            with contextlib.suppress(ImportError, ValueError, OSError, TypeError):
                sources.append(inspect.getsource(importlib.import_module(name.rpartition(".")[0])))
    return hashlib.sha256("\0".join(sources).encode()).hexdigest() if sources else ""
