"""Hostile input: every parser on its seeds, on cuts and flips of them, and on what fuzzing found."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FUZZ = Path(__file__).parent / "fuzz"
sys.path.append(str(FUZZ))
from parsers import PARSERS  # noqa: E402

#: Those that read in a process of their own, or take long to get started.
SLOW = ("matlab", "nyu", "weights", "surrogate", "predictor", "clip")
FINDS = sorted((FUZZ / "finds").rglob("*.bin"))


@pytest.mark.parametrize("name", PARSERS)
def test_damage_ends_in_a_named_error_or_an_answer(name: str) -> None:
    """A hundred flips and cuts of a seed, the same each time; `make fuzz` tries millions."""
    parser, rng = PARSERS[name], np.random.default_rng(0)
    seeds = list(parser.seeds())[:4]
    assert any(parser(seed) is None for seed in seeds)
    for seed in seeds:
        for _ in range(3 if name in SLOW else 100 // len(seeds)):
            data = bytearray(seed)
            for place in rng.integers(len(data), size=3):
                data[place] = rng.integers(256)
            parser(bytes(data[: rng.integers(len(data))] if rng.random() < 0.3 else data))


def test_other_values_in_json_end_in_a_named_error_or_an_answer() -> None:
    """Each value of a JSON seed replaced by others or left out, two hundred times a parser."""
    others = (None, [], {}, [1], "x", -1, True, 1e308, 10**30, float("nan"), ...)
    swept = []
    for name, parser in PARSERS.items():
        rng = np.random.default_rng(0)
        for seed in list(parser.seeds())[: 0 if name in SLOW else 1]:
            try:
                about = json.loads(seed)
            except ValueError:
                continue
            swept.append(name)
            for _ in range(200):
                parser(json.dumps(altered(about, rng, others[rng.integers(len(others))])).encode())
    assert {"recipe", "comparison", "measurements", "manifest"} <= {*swept}


def altered(value: Any, rng: np.random.Generator, other: object) -> Any:
    """Return a JSON value with one part replaced, or left out where the other is `...`."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.1:
        return None if other is ... else other
    key = [*value][rng.integers(len(value))] if isinstance(value, dict) else int(rng.integers(len(value)))
    changed = value.copy()
    if other is ... and (not isinstance(value[key], (dict, list)) or rng.random() < 0.3):
        del changed[key]
    else:
        changed[key] = altered(value[key], rng, other)
    return changed


@pytest.mark.parametrize("path", FINDS, ids=[f"{path.parent.name}-{path.stem}" for path in FINDS])
def test_what_fuzzing_found_is_refused(path: Path) -> None:
    assert PARSERS[path.parent.name](path.read_bytes()) is not None


def test_finds_are_there() -> None:
    assert {path.parent.name for path in FINDS} >= {"predictor", "npz", "measurements"}
