"""What the predictors, objectives and searches need of a search space, whichever it is.

A space is a module with the members of `Space`: `nasbench_mr.space` (the 27 integers) and
`nasbench_mr.nasbench201`. `get(name)` finds it by the name that a task carries. Beside these members it may
have `macs(codes)` and `params(codes)`, exact costs (`cost.of`), and `canonical(codes)`, where several codes
can be one network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from nasbench_mr.plugins import Registry

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Space(Protocol):
    """A search space whose codes are tuples of `DIM` small integers."""

    @property
    def NAME(self) -> str: ...
    @property
    def DIM(self) -> int: ...
    @property
    def SIZE(self) -> int:
        """How many codes there are."""

    @property
    def NAMES(self) -> tuple[str, ...]:
        """The dimensions' names, which are also a table's columns."""

    @property
    def LOWER(self) -> npt.NDArray[np.int16]: ...
    @property
    def UPPER(self) -> npt.NDArray[np.int16]: ...
    @property
    def STEP(self) -> npt.NDArray[np.int16]: ...

    def parse(self, x: object) -> tuple[int, ...]: ...
    def check(self, codes: object) -> npt.NDArray[np.int16]: ...
    def to_string(self, code: object) -> str: ...
    def sample(self, n: int, seed: int | np.random.Generator = 0) -> npt.NDArray[np.int16]: ...
    def neighbors(self, code: object) -> npt.NDArray[np.int16]: ...
    def mutate(self, codes: object, rng: np.random.Generator) -> npt.NDArray[np.int16]: ...
    def crossover(self, a: object, b: object, rng: np.random.Generator) -> npt.NDArray[np.int16]: ...
    def relax(self, codes: object) -> npt.NDArray[np.float64]:
        """`(n, DIM)` codes as points of a continuous space, `(n, R)`, for search by gradients."""

    def project(self, x: npt.NDArray[np.floating]) -> npt.NDArray[np.int16]:
        """Return the nearest codes to `(n, R)` continuous points: `(n, DIM)`.

        The inverse of `relax` on codes.
        """


class Spacious:
    """Base of what has a `space`, a module: it is pickled and copied by the space's name."""

    space: Space

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "space": self.space.NAME}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, space=get(state["space"]))


def get(name: str) -> Space:
    """Return the space of this name.

    Raises:
        UnknownNameError: there is none.
    """
    return SPACES[name]


def canonical(space: Space, codes: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return one code for each code's network, `(n, DIM)`: codes that are one network have the same.

    In a space that knows of no two codes that are one network, the codes themselves.
    """
    function = getattr(space, "canonical", None)
    found: npt.NDArray[np.int16] = codes if function is None else function(codes)
    return found


#: Every space there is.
SPACES = Registry[Space](
    "search space", {"nasbench-mr": "nasbench_mr.space", "nas-bench-201": "nasbench_mr.nasbench201"}
)
