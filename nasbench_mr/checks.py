"""Numbers that users give, checked where they come in. Imports nothing: a cold query comes through here."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nasbench_mr.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np

    from nasbench_mr.errors import NasbenchMRError


def at_least(least: int, name: str, value: object) -> int:
    """Return an integer, NumPy's included; raise `InvalidArgumentError` for all else and smaller ones."""
    try:
        if isinstance(value, bool) or (number := operator.index(value)) < least:  # type: ignore[arg-type]
            raise TypeError
    except TypeError:
        raise InvalidArgumentError(f"{name} is {value!r}; expected an integer, at least {least}") from None
    if number > MAX_SEED:  # no array or range has so many
        raise InvalidArgumentError(f"{name} is {number}; expected an integer from {least} to 2^63 - 1")
    return number


def _float(value: object) -> float:
    """Return a number as Python's own; not a truth value, nor the number in a text."""
    if isinstance(value, (str, bytes, bool)) or getattr(getattr(value, "dtype", None), "kind", "f") == "b":
        raise TypeError
    return float(value)  # type: ignore[arg-type]


def positive(name: str, value: object, kind: str = "a positive number", most: float = float("inf")) -> float:
    """Return a positive number of at most `most`, infinite or not; errors say that they expected a `kind`."""
    try:
        if 0 < (number := _float(value)) <= most:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise InvalidArgumentError(f"{name} is {value!r}; expected {kind}")


def flag(name: str, value: Any) -> bool:
    """Return True or False, NumPy's and pandas' included."""
    plain = value.item() if getattr(value, "ndim", None) == 0 else value
    if not isinstance(plain, bool):
        raise InvalidArgumentError(f"{name} is {value!r}; expected True or False")
    return plain


def limit(name: str, value: object) -> float:
    """Return a limit of a cost, a positive number; infinite for None."""
    return float("inf") if value is None else positive(name, value, "a positive number, or None")


def plain(name: str, value: Any) -> Any:
    """Return a value as JSON takes it: numbers of NumPy and pandas as Python's, arrays as lists."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(plain(name, each) for each in value)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(f"{name}[{key!r}]", each) for key, each in value.items()}
    raise InvalidArgumentError(
        f"{name} is {value!r:.80}; expected numbers, texts, or lists and dictionaries of these"
    )


def json_object(text: str | bytes, where: str, error: type[NasbenchMRError]) -> dict[str, Any]:
    """Return the JSON object in a text from outside, valid UTF-8 throughout; an `error` calls it `where`."""
    import json

    try:
        text = text if isinstance(text, str) else text.decode("utf-8")
        data = json.loads(text)
        if "\\u" in text:
            json.dumps(data, ensure_ascii=False).encode()  # half of a surrogate pair is not text
    except (ValueError, RecursionError) as failure:
        raise error(f"{where} is not JSON: {failure}") from None
    if not isinstance(data, dict):
        raise error(f"{where} holds {data!r:.60}; expected a JSON object")
    return data


def finite(name: str, value: object, least: float = float("-inf")) -> float:
    """Return a finite number of at least `least`, NumPy's and pandas' included."""
    try:
        if not (float("-inf") < (number := _float(value)) < float("inf") and number >= least):
            raise TypeError
    except (TypeError, ValueError, OverflowError):
        limit = "" if least == float("-inf") else f", at least {least:g}"
        raise InvalidArgumentError(f"{name} is {value!r}; expected a finite number{limit}") from None
    return number


#: Whole numbers, seeds among them, are at most this.
MAX_SEED = 2**63 - 1


def seed(value: object) -> int:
    """Return a seed, a whole number from 0 to `MAX_SEED`."""
    return at_least(0, "seed", value)


def seeds(given: int | Iterable[int]) -> list[int]:
    """Return the seeds given, or so many from 0 on, at least one; tables have 31 bits for each."""
    if not isinstance(given, Iterable):
        return list(range(at_least(1, "seeds", given)))
    listed = [at_least(0, "a seed", each) for each in given]
    if not listed or max(listed) >= 2**31:
        raise InvalidArgumentError(f"seeds are {given}; expected at least one, each from 0 to 2^31 - 1")
    return listed


def short_seed(number: int) -> int:
    """Return a seed of 31 bits for libraries that take no longer one: the seed itself where it is short."""
    return number if number < 2**31 else (number * 0x9E3779B97F4A7C15 % 2**64) >> 33


def generator(given: int | np.random.Generator) -> np.random.Generator:
    """Return the generator given, or a new one of the seed given."""
    import numpy as np

    return given if isinstance(given, np.random.Generator) else np.random.default_rng(seed(given))
