"""Numbers that users give, checked where they come in. Imports nothing: a cold query comes through here."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from nasbench_mr.errors import InvalidArgumentError

if TYPE_CHECKING:
    from nasbench_mr.errors import NasbenchMRError


def at_least(least: int, name: str, value: object) -> int:
    """An integer, NumPy's included.

    Raises:
        InvalidArgumentError: it is no integer, or smaller.
    """
    try:
        if isinstance(value, bool) or (number := operator.index(value)) < least:  # type: ignore[arg-type]
            raise TypeError
    except TypeError:
        raise InvalidArgumentError(f"{name} is {value!r}; expected an integer, at least {least}") from None
    return number


def positive(name: str, value: object, kind: str = "a positive number", most: float = float("inf")) -> float:
    """A positive number of at most `most`, which may be infinite.

    Raises:
        InvalidArgumentError: it is not; says what `kind` of number was expected.
    """
    try:
        if not isinstance(value, (str, bytes, bool)) and 0 < (number := float(value)) <= most:  # type: ignore[arg-type]
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise InvalidArgumentError(f"{name} is {value!r}; expected {kind}")


def limit(name: str, value: object) -> float:
    """A limit of a cost, infinite for None.

    Raises:
        InvalidArgumentError: it is no positive number.
    """
    return float("inf") if value is None else positive(name, value, "a positive number, or None")


def json_object(text: str | bytes, where: str, error: type[NasbenchMRError]) -> dict[str, Any]:
    """Return the JSON object in a text from outside.

    Args:
        where: what the text is called in errors.
        error: raised where it is anything else.
    """
    import json

    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise error(f"{where} is not JSON: {failure}") from None
    if not isinstance(data, dict):
        raise error(f"{where} holds {data!r:.60}; expected a JSON object")
    return data
