"""Descriptions of search spaces: dimensions, their values, and costs, as data.

A description comes from a TOML file or from Python, and travels inside a release (`release.json`). What it
says is checked and bounded here, before anything uses it. `grid.Grid` is the space that it describes; reading
one loads no NumPy, as a cold query comes through here.
"""

from __future__ import annotations

import functools
import hashlib
import json
import keyword
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasbench_mr.errors import SpaceError, did_you_mean
from nasbench_mr.formula import FUNCTIONS, Formula

Value = int | float | bool | str

#: Limits: bytes of a file, dimensions, values of one (a code is kept in bytes), codes in all.
MAX_FILE, MAX_DIMENSIONS, MAX_VALUES, MAX_SIZE = 1 << 20, 128, 256, 2**256
MAX_NUMBER = 2**31
COSTS = ("macs", "params")
KINDS = ("ordinal", "categorical")
#: Names that tables and answers have for something else.
RESERVED = (
    "code", "codes", "seed", "macs", "params", "flops", "epoch", "epochs", "train_seconds", "device",
    "status", "error", "source", *FUNCTIONS,
)  # fmt: skip
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_DIMENSION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_TEXT = re.compile(r"[A-Za-z0-9_.+-]{1,40}")


@dataclass(frozen=True)
class Dimension:
    """One dimension of a space.

    Attributes:
        name: its column.
        values: what it can be: numbers, or texts, or booleans; a code has the position of one of them.
        ordered: whether neighbouring values are alike: "ordinal"; else "categorical".
    """

    name: str
    values: tuple[Value, ...]
    ordered: bool

    @functools.cached_property
    def texts(self) -> tuple[str, ...]:
        """The values as they are written: 12, 0.5, true, relu."""
        return tuple(written(value) for value in self.values)

    @property
    def kind(self) -> str:
        return KINDS[0] if self.ordered else KINDS[1]


@dataclass(frozen=True)
class Description:
    """A search space as data.

    Attributes:
        name: for people.
        dimensions: in the order of a code.
        costs: by "macs" and "params", formulas over the dimensions; empty where only tables know the costs.
        title: one line for people.
    """

    name: str
    dimensions: tuple[Dimension, ...]
    costs: tuple[tuple[str, str], ...] = ()
    title: str = ""

    @classmethod
    def of(
        cls,
        name: object,
        dimensions: object,
        costs: object = None,
        title: object = "",
    ) -> Description:
        """Return a description, checked.

        Args:
            name: lower-case letters, digits, ".", "_" and "-".
            dimensions: by name the values, or {"values": [...], "kind": "ordinal" or "categorical"}; numbers
                are ordinal, texts and booleans categorical where it does not say.
            costs: by "macs" and "params" a formula each (`formula.Formula`), or None.

        Raises:
            SpaceError: it is malformed, or too large.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SpaceError(
                f"the space's name is {name!r:.60}; expected lower-case letters, digits, '.', '_', '-'"
            )
        if not isinstance(title, str) or len(title) > 200:
            raise SpaceError(f"the title is {title!r:.60}; expected a text of at most 200 characters")
        if not isinstance(dimensions, Mapping) or not 0 < len(dimensions) <= MAX_DIMENSIONS:
            raise SpaceError(
                f"dimensions are {dimensions!r:.60}; expected 1 to {MAX_DIMENSIONS} names with values"
            )
        checked = tuple(_dimension(key, given) for key, given in dimensions.items())
        lowered: dict[str, str] = {}
        for dimension in checked:
            twin = lowered.setdefault(dimension.name.lower(), dimension.name)
            if twin != dimension.name:
                raise SpaceError(f"two dimensions are called {twin!r} and {dimension.name!r}; rename one")
        if (size := math.prod(len(dimension.values) for dimension in checked)) > MAX_SIZE:
            raise SpaceError(
                f"the space has about 10^{round(math.log10(size))} codes; expected at most 2^256: "
                "give it fewer dimensions or values"
            )
        return cls(name, checked, _costs({} if costs is None else costs, checked), title)

    @classmethod
    def from_dict(cls, data: object) -> Description:
        """Return what `to_dict` wrote, or what a TOML file says; raise `SpaceError` where it is malformed."""
        keys = ("name", "title", "dimensions", "costs")
        if not isinstance(data, Mapping):
            raise SpaceError(f"a space is {data!r:.60}; expected name, dimensions and, where known, costs")
        for key in data:
            if key not in keys:
                raise SpaceError(f"a space has no {key!r:.60}: {did_you_mean(key, keys)}")
        for key in ("name", "dimensions"):
            if key not in data:
                raise SpaceError(
                    f"the space has no {key!r}; expected name, dimensions and, where known, costs"
                )
        return cls.of(data["name"], data["dimensions"], data.get("costs"), data.get("title", ""))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Description:
        """Return what a TOML file describes; raise `SpaceError`, with its name, where it is malformed."""
        import tomllib

        path = Path(path)
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_FILE + 1)
            if len(data) > MAX_FILE:
                raise SpaceError(f"it has more than {MAX_FILE:,} bytes")
            return cls.from_dict(tomllib.loads(data.decode("utf-8")))
        except SpaceError as error:
            raise SpaceError(f"{path}: {error}") from None
        except OSError as error:
            raise SpaceError(f"{path} can't be read: {error.strerror}; expected a TOML file") from None
        except (ValueError, RecursionError) as error:
            raise SpaceError(f"{path} is not TOML: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON; `from_dict` reads it back."""
        dimensions = {d.name: {"values": list(d.values), "kind": d.kind} for d in self.dimensions}
        return {
            "name": self.name,
            "title": self.title,
            "dimensions": dimensions,
            **({"costs": dict(self.costs)} if self.costs else {}),
        }

    @functools.cached_property
    def key(self) -> str:
        """The name under which tasks refer to it: two descriptions that differ never share one."""
        said = self.to_dict()
        said["dimensions"] = list(said["dimensions"].items())  # their order counts
        del said["title"]
        return f"{self.name}@{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]}"

    @functools.cached_property
    def formulas(self) -> dict[str, Formula]:
        """The costs' formulas by name."""
        return {name: Formula(text, self.dimensions, name) for name, text in self.costs}


def written(value: Value) -> str:
    """Return a value as a code's text has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _dimension(name: object, given: object) -> Dimension:
    if not isinstance(name, str) or not _DIMENSION.fullmatch(name) or keyword.iskeyword(name):
        raise SpaceError(f"no dimension may be called {name!r:.60}; expected letters, digits and '_'")
    if name.lower() in RESERVED:
        raise SpaceError(f"no dimension may be called {name!r}: tables have it for something else; rename it")
    kind = None
    if isinstance(given, Mapping):
        if unknown := [key for key in given if key not in ("values", "kind")]:
            raise SpaceError(f"{name}: no {unknown[0]!r:.60}; expected values and, where it matters, kind")
        kind, given = given.get("kind"), given.get("values")
    if kind not in (None, *KINDS):
        raise SpaceError(f"{name}: the kind is {kind!r:.60}; expected {' or '.join(KINDS)}")
    if not isinstance(given, (list, tuple)) or not 2 <= len(given) <= MAX_VALUES:
        raise SpaceError(f"{name}: the values are {given!r:.60}; expected a list of 2 to {MAX_VALUES}")
    numbers = all(type(value) in (int, float) and abs(value) < MAX_NUMBER for value in given)
    texts = all(isinstance(value, str) and _TEXT.fullmatch(value) for value in given)
    if not (numbers or texts or all(isinstance(value, bool) for value in given)):
        raise SpaceError(
            f"{name}: the values are {given!r:.60}; expected all numbers (below 2^31), all booleans, "
            "or all texts (of letters, digits, '_', '.', '+', '-')"
        )
    for k, value in enumerate(given):
        if value in given[:k]:
            raise SpaceError(f"{name}: the value {value!r} is there twice")
    ordered = kind == KINDS[0] or (kind is None and numbers)
    if ordered and numbers and list(given) != sorted(given):
        raise SpaceError(
            f'{name}: the values are {list(given)!r:.60}; expected rising ones, or kind = "categorical"'
        )
    return Dimension(name, tuple(given), ordered)


def _costs(given: object, dimensions: tuple[Dimension, ...]) -> tuple[tuple[str, str], ...]:
    if not isinstance(given, Mapping):
        raise SpaceError(f"costs are {given!r:.60}; expected formulas for {' and '.join(COSTS)}")
    lines: dict[str, str] = {}
    for name, text in given.items():
        if name not in COSTS:
            raise SpaceError(
                f"no cost {name!r:.60}: {did_you_mean(name, COSTS)}; others are metrics of a table"
            )
        lines[name] = Formula(text, dimensions, name).text
    if given and set(given) != set(COSTS):
        raise SpaceError(
            f"costs has {' and '.join(map(str, given))} alone; expected formulas for both "
            f"{' and '.join(COSTS)}, or none: then the tables' columns say them"
        )
    return tuple((name, lines[name]) for name in COSTS if name in lines)
