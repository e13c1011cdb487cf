"""Names for the arrays that every package handles, codes as keys, and equality of what holds arrays.

A shape stands beside each name where it is used: "codes: `(n, DIM)`". Imports nothing but NumPy.
"""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
#: Whole numbers, or floats where some are unknown (NaN).
Costs = npt.NDArray[Any]


def key(code: npt.NDArray[np.integer]) -> bytes:
    """Return one code, `(DIM,)`, as a bytes object; `bytes(code)` of a tuple is equal."""
    return code.astype(np.uint8).tobytes()


def looked_up(known: Codes, values: Floats, codes: Codes) -> Floats:
    """Return the values of codes, `(m,)`, given those of known codes; NaN where one is not among them."""
    at = dict(zip(keys(known), range(len(known)), strict=True))
    return np.append(values, np.nan)[[at.get(code, -1) for code in keys(codes)]]


def keys(codes: npt.NDArray[np.integer]) -> list[bytes]:
    """Return each of `(n, DIM)` codes as a bytes object; `trials.keys` gives the same without NumPy."""
    small = np.ascontiguousarray(codes, np.uint8)
    return small.view(f"V{small.shape[1]}").ravel().tolist()


class ByValue:
    """Base of what is equal to another of its class with equal attributes, arrays' values among them.

    Attributes that `cached_property` or a cache made do not count; nor can it be a key of a dictionary.
    """

    #: Attributes that only remember what the others tell.
    CACHES: ClassVar[frozenset[str]] = frozenset()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        ours, theirs = self._compared(), other._compared()
        return same(ours, theirs)

    def _compared(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in vars(self).items()
            if name not in self.CACHES and not isinstance(getattr(type(self), name, None), cached_property)
        }


def same(a: Any, b: Any) -> bool:
    """Return whether two values are equal; arrays, also in containers, by type, shape and value (NaN too)."""
    if a is b:
        return True
    if isinstance(a, np.random.Generator) and isinstance(b, np.random.Generator):
        return same(a.bit_generator.state, b.bit_generator.state)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        if not (type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape):
            return False
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple, deque)) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float) and a != a:
        return b != b
    return bool(a == b)
