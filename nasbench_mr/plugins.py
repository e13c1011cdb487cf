"""Things by name: `Registry`, for predictors, searches, engines, data sets, recipes and whatever comes next.

Classes of a user's own go by their dotted names ("mine.Search"). A worker process imports what it runs, so
such a class has to be importable from a module; one that was typed into a script's main module is not.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Generic, TypeVar

from nasbench_mr.errors import InvalidArgumentError, NasbenchMRError, UnknownNameError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """What there is of one kind, by name, in the order in which it was added.

        SEARCHES = Registry[type[Searcher]]("search", {"random": "nasbench_mr.search.baselines:Random"})
        SEARCHES["random"]      # the class, imported now
        SEARCHES["randon"]      # UnknownNameError: no search 'randon': did you mean 'random'?

    Args:
        what: the kind, as messages name it ("search").
        entries: by name the thing itself, or, where importing it should wait, its "module:attribute"; a
            module is "module" alone.
        error: the class of the error for an unknown name.
    """

    def __init__(
        self,
        what: str,
        entries: Mapping[str, T | str] | None = None,
        error: type[NasbenchMRError] = UnknownNameError,
    ):
        self.what, self.error = what, error
        self._entries: dict[str, T | str] = dict(entries or {})

    def __getitem__(self, name: str) -> T:
        """Return the thing of this name; raise the registry's error, with the nearest names, without it."""
        self.check(name)
        entry = self._entries[name]
        if not isinstance(entry, str):
            return entry
        module, _, attribute = entry.partition(":")
        imported: Any = importlib.import_module(module)
        found: T = getattr(imported, attribute) if attribute else imported
        return found

    def __setitem__(self, name: str, entry: T | str) -> None:
        """Add one, or replace the one of this name."""
        self._entries[name] = entry

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the first added first."""
        return tuple(self._entries)

    def check(self, name: object) -> None:
        """Raise the error that `[name]` raises where there is nothing of this name; import nothing."""
        if name not in self:
            raise self.error(f"no {self.what} {name!r}: {did_you_mean(name, self._entries)}")

    def find(self, name: str | T, base: type) -> T:
        """Return a class: itself, or by its name here, or by its dotted name, a subclass of `base`."""
        if not isinstance(name, str):
            return name
        if "." not in name:
            return self[name]
        found: T = find(name, base)
        return found

    def name_of(self, kind: type) -> str:
        """Return a class's name here, else its dotted one, importable (see `address`) or not."""
        place = f"{kind.__module__}:{kind.__qualname__}"
        known = (name for name, entry in self._entries.items() if entry is kind or entry == place)
        return next(known, place.replace(":", "."))


def address(kind: type) -> str:
    """Return the dotted name under which a class can be imported, which is not one of the main module's."""
    module, name = kind.__module__, kind.__qualname__
    if module == "__main__" or getattr(sys.modules.get(module), name, None) is not kind:
        raise InvalidArgumentError(
            f"{name} can't be imported by worker processes: put it at the top of a module, such as mine.py, "
            f"and give mine.{name.rpartition('.')[2]}"
        )
    return f"{module}.{name}"


def check_options(
    kind: Callable[..., object], options: Mapping[str, Any], what: str, own: Collection[str]
) -> None:
    """Raise for options that a class does not take.

    Args:
        what: what is made of the class, for the message: "search 'evolution'".
        own: arguments that are given otherwise, and are not options.

    Raises:
        InvalidArgumentError: it has no such option; names the nearest.
    """
    known = inspect.signature(kind).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        return
    names = [name for name, p in known.items() if name not in own and p.kind is not p.VAR_POSITIONAL]
    for option in options:
        if option not in names:
            raise InvalidArgumentError(f"{what} has no option {option!r}: {did_you_mean(option, names)}")


def find(dotted: str, base: type) -> Any:
    """Return the class of a dotted name, a subclass of `base`; raise where there is none."""
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
    """Return a hash of the sources of the classes among `names`, dotted: an edited class is another."""
    # Imported here, as a cold query loads this module and needs neither.
    import hashlib
    import inspect

    sources = []
    for name in names:
        if isinstance(name, str) and "." in name:
            # A path or a text with a dot in it, or a module without a source.
            with contextlib.suppress(ImportError, ValueError, OSError, TypeError):
                sources.append(inspect.getsource(importlib.import_module(name.rpartition(".")[0])))
    return hashlib.sha256("\0".join(sources).encode()).hexdigest() if sources else ""
