"""Typed settings: dataclasses whose fields come from files and flags, checked by their annotations.

    @dataclass(frozen=True)
    class Recipe(Settings):
        lr: float = 0.1
        crop: tuple[int, int] | None = None

        def __post_init__(self) -> None:
            self.check_types()
            self.need(0 < self.lr < math.inf, "lr", "a positive number")

    Recipe(**Recipe.converted({"lr": 1, "crop": [32, 32]}))

Annotations are read as text: bool, int, float, str, None and Any; tuple[...] and Mapping[str, ...] of these;
and their unions.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

from nasbench_mr.checks import plain
from nasbench_mr.errors import InvalidArgumentError, RecipeError, did_you_mean


def fits(value: object, kind: str) -> bool:
    """Return whether a value is of a kind, such as "tuple[int, int] | None"."""
    if " | " in kind:
        return any(fits(value, each) for each in kind.split(" | "))
    name, _, inner = kind.removesuffix("]").partition("[")
    if name == "tuple":
        kinds = inner.split(", ")
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(fits, value, kinds))
    if name == "Mapping":
        of = inner.removeprefix("str, ")
        return isinstance(value, Mapping) and all(
            isinstance(key, str) and fits(each, of) for key, each in value.items()
        )
    return {
        "Any": True,
        "None": value is None,
        "bool": type(value) is bool,
        "int": type(value) is int and _is_number(value),
        "float": _is_number(value),
        "str": isinstance(value, str),
    }[name]


def _is_number(value: Any) -> bool:
    """Whether something is a number to compute with: finite, and not of hundreds of digits."""
    return type(value) in (int, float) and abs(value) < 1e300


def convert(value: Any, kind: str) -> Any:
    """Return a value of a file or flag as its kind has it: a tuple for a list, a float for a whole number."""
    kinds = kind.split(" | ")
    if isinstance(value, list) and "tuple" in kind:
        return tuple(value)
    whole = type(value) is int and _is_number(value)
    return float(value) if whole and "float" in kinds and "int" not in kinds else value


class Settings:
    """Base of a dataclass of settings."""

    def label(self) -> str:
        """Return what messages call it, such as "recipe 'seg'"."""
        return ""

    def need(self, good: bool, field: str, expected: str) -> None:
        """Raise `RecipeError` unless a field's value is good; say what was expected."""
        if not good:
            whose = self.label() and f"{self.label()}: "
            raise RecipeError(f"{whose}{field} is {getattr(self, field)!r:.80}; expected {expected}")

    def check_types(self) -> None:
        """Raise `RecipeError` where the type of a value is not its annotation's; name the field."""
        for field, kind in _kinds(type(self)).items():
            with contextlib.suppress(InvalidArgumentError):  # other texts are refused below
                object.__setattr__(self, field, plain(field, getattr(self, field)))
            self.need(fits(getattr(self, field), kind), field, kind)

    @classmethod
    def converted(cls, *changes: Mapping[str, Any], label: str = "") -> dict[str, Any]:
        """Return fields to make this class of, later changes over earlier ones; refuse others."""
        kinds = _kinds(cls)
        merged = {key: value for change in changes for key, value in change.items()}
        for key in merged:
            if key not in kinds:
                what = f"{label} has no field" if label else "no field"
                raise RecipeError(f"{what} {key!r}: {did_you_mean(key, kinds)}")
        return {key: convert(value, kinds[key]) for key, value in merged.items()}


def _kinds(cls: type) -> dict[str, str]:
    return {field.name: str(field.type) for field in dataclasses.fields(cls)}
