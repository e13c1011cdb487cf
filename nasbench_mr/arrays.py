"""Names for the arrays that every package handles, and codes as keys of dictionaries.

A shape stands beside each name where it is used: "codes: `(n, DIM)`". Imports nothing but NumPy.
"""

from __future__ import annotations

from typing import Any

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


def keys(codes: npt.NDArray[np.integer]) -> list[bytes]:
    """Return each of `(n, DIM)` codes as a bytes object; `trials.keys` gives the same without NumPy."""
    small = np.ascontiguousarray(codes, np.uint8)
    return small.view(f"V{small.shape[1]}").ravel().tolist()
