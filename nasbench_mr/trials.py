"""A task's trials in memory, as much of them as queries need.

Importing NumPy takes longer than everything else that a single query does. So `Trials` holds plain buffers,
and makes its arrays when they are asked for. `table.py` reads them from Parquet, `table_cache.py` from a copy
that is mapped into memory.
"""

from __future__ import annotations

import struct
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SCHEMA_VERSION = 1
#: The packaged release of measured costs.
MEASURED = "nasbench-mr-costs"
#: Numeric columns that every table has beside the metrics, and their units.
COSTS = {"macs": "multiply-accumulates", "params": "parameters", "epochs": "epochs", "train_seconds": "s"}


class Trials:
    """A task's trials, one a row.

    Attributes:
        width: numbers in a code.
        columns: memoryviews: "codes" (bytes, row by row), "seed" (int32), "ok" (bool: the status is "ok"),
            each metric and each of `COSTS` (float64; NaN where unknown).
        unknown: by metric and cost, how many rows do not know it.
    """

    def __init__(self, width: int, columns: dict[str, memoryview[Any]], unknown: dict[str, int]):
        self.width, self.columns, self.unknown = width, columns, unknown

    def __len__(self) -> int:
        return len(self.columns["ok"])

    @cached_property
    def codes(self) -> npt.NDArray[np.uint8]:
        """`(n, DIM)`."""
        return self._array("codes").reshape(-1, self.width)

    @cached_property
    def seed(self) -> npt.NDArray[np.int32]:
        """`(n,)`."""
        return self._array("seed")

    @cached_property
    def ok(self) -> npt.NDArray[np.bool_]:
        """`(n,)`, whether the trial's status is "ok"."""
        return self._array("ok")

    @cached_property
    def values(self) -> dict[str, npt.NDArray[np.float64]]:
        """`(n,)` for each metric and each of `COSTS`; NaN where unknown."""
        return {name: self._array(name) for name in self.unknown}

    def _array(self, name: str) -> npt.NDArray[Any]:
        import numpy as np

        return np.asarray(self.columns[name])


def keys(codes: bytes | memoryview[Any], width: int) -> list[bytes]:
    """Return the codes of a buffer as one bytes object each; `bytes(code)` of a tuple is equal.

    `arrays.keys` gives the same for arrays; this one needs no NumPy, as a cold query loads none.
    """
    return [key for (key,) in struct.iter_unpack(f"{width}s", codes)]
