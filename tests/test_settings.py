"""Typed settings: what fits an annotation, what a file's values become, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from nasbench_mr.errors import RecipeError
from nasbench_mr.settings import Settings, convert, fits


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("bool", [True], [1, None, "true"]),
        ("int", [3, -1], [True, 1.0, "3"]),
        ("float", [0.5, 3], [True, math.nan, math.inf, 10**400, "0.5", None]),
        ("str", ["", "a"], [1, None]),
        ("int | None", [3, None], [0.5, False]),
        ("tuple[int, int]", [(1, 2)], [(1,), (1, 2.0), [1, 2], (1, 2, 3)]),
        ("tuple[int, int] | None", [(1, 2), None], [(1, None), 0]),
        ("Mapping[str, float]", [{}, {"a": 1, "b": 0.5}], [{1: 1.0}, {"a": "1"}, {"a": math.nan}, []]),
        ("Mapping[str, Any]", [{"a": [1], "b": None}], [{1: 1}, "ab"]),
    ],
)
def test_what_fits(kind: str, good: list[object], bad: list[object]) -> None:
    assert [fits(value, kind) for value in good] == [True] * len(good)
    assert [fits(value, kind) for value in bad] == [False] * len(bad)


def test_values_of_files_are_converted() -> None:
    assert convert([1, 2], "tuple[int, int] | None") == (1, 2)
    assert convert([1, 2], "Mapping[str, Any]") == [1, 2]
    assert [type(convert(1, kind)) for kind in ("float", "float | None", "int", "int | float")] == [
        float, float, int, int,
    ]  # fmt: skip
    assert convert(True, "float") is True
    assert convert(10**400, "float") == 10**400


@dataclass(frozen=True)
class Oven(Settings):
    degrees: float = 200.0
    rack: tuple[int, int] | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.check_types()
        self.need(self.degrees > 0, "degrees", "a positive number")

    def label(self) -> str:
        return "oven 'old'"


def test_a_class_of_settings() -> None:
    changed = Oven.converted({"degrees": 180, "rack": [1, 2]}, {"degrees": 220})
    assert changed == {"degrees": 220.0, "rack": (1, 2)}
    assert Oven(**changed).rack == (1, 2)
    with pytest.raises(RecipeError, match=r"^oven 'old': degrees is -1; expected a positive number$"):
        Oven(degrees=-1)
    with pytest.raises(RecipeError, match=r"rack is \(1, 2, 3\); expected tuple\[int, int\] \| None"):
        Oven(rack=(1, 2, 3))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"^my oven has no field 'degree': did you mean 'degrees'"):
        Oven.converted({"degree": 1}, label="my oven")
    with pytest.raises(RecipeError, match=r"^no field 'racks'"):
        Oven.converted({"racks": 1})
