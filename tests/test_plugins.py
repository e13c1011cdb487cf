"""Registries: one way to look things up by name, and what an unknown name is told."""

from __future__ import annotations

import sys
from fractions import Fraction

import pytest

from nasbench_mr.errors import InvalidArgumentError, RecipeError, UnknownNameError
from nasbench_mr.plugins import Registry


def test_things_are_found_by_name_and_imported_when_asked_for() -> None:
    numbers = Registry[object]("number", {"one": 1, "half": "fractions:Fraction"})
    assert (numbers["one"], numbers["half"]) == (1, Fraction)
    assert (numbers.names, [*numbers], len(numbers)) == (("one", "half"), ["one", "half"], 2)
    numbers["two"] = 2
    assert numbers["two"] == 2
    assert "two" in numbers
    assert 2 not in numbers
    with pytest.raises(UnknownNameError, match=r"^no number 'twoo': did you mean 'two'\?$"):
        numbers["twoo"]


def test_looking_whether_a_name_is_there_imports_nothing() -> None:
    assert "antigravity" not in sys.modules
    registry = Registry[object]("joke", {"fly": "antigravity:geohash"})
    registry.check("fly")
    assert "fly" in registry
    assert "antigravity" not in sys.modules


def test_an_unknown_name_raises_the_registrys_own_error() -> None:
    with pytest.raises(RecipeError, match="no recipe 3: expected one of seg"):
        Registry[object]("recipe", {"seg": 1}, RecipeError).check(3)


def test_classes_have_names_and_are_found_by_dotted_ones() -> None:
    kinds = Registry[type]("class", {"fraction": "fractions:Fraction"})
    assert kinds.find(Fraction, object) is kinds.find("fraction", object) is Fraction
    assert kinds.find("fractions.Fraction", Fraction) is Fraction
    assert kinds.name_of(Fraction) == "fraction"
    assert kinds.name_of(Registry) == "nasbench_mr.plugins.Registry"
    with pytest.raises(InvalidArgumentError, match="expected a subclass of int"):
        kinds.find("fractions.Fraction", int)
    with pytest.raises(UnknownNameError, match=r"can't import 'nowhere\.Found'"):
        kinds.find("nowhere.Found", object)
