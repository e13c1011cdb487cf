"""What the predictors, objectives and searches need of a search space, whichever it is.

A space is a module with the members of `Space`, `nasbench_mr.space` (the 27 integers) or
`nasbench_mr.nasbench201`, or a `grid.Grid`, one that a description tells. `get(name)` finds it by the name
that a task carries; of the described ones those that `add` was told of, as opening a release does. Beside
these members a space may have `macs(codes)` and `params(codes)`, exact costs (`cost.of`), `canonical(codes)`,
where several codes can be one network, and `named(code)`, where values are not the integers of a code.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Protocol

from nasbench_mr.description import Description
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
    @property
    def CHOICES(self) -> npt.NDArray[np.bool_]:
        """`(DIM,)` which dimensions are choices without an order.

        `relax` writes a choice as one coordinate for each value (one-hot), any other dimension as itself.
        """

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
    """Base of what has a `space`: it is pickled and copied with what tells the space (`told`)."""

    space: Space

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "space": told(self.space)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, space=of(state["space"]))


def get(name: str) -> Space:
    """Return the space of this name; raise `UnknownNameError` where there is none."""
    if name in _DESCRIBED and name not in SPACES:
        from nasbench_mr.grid import Grid  # NumPy: only now

        SPACES[name] = Grid.of(_DESCRIBED[name])
    return SPACES[name]


def add(described: Description) -> str:
    """Make a described space known in this process; return its name."""
    _DESCRIBED.setdefault(described.key, described)
    return described.key


def description(name: str) -> Description | None:
    """Return what describes the space of this name; None for those that are part of the package."""
    return _DESCRIBED.get(name)


def told(space: Space) -> str | dict[str, Any]:
    """Return what `of` makes a space from, in any process, in plain values: its name, or its description."""
    described: Description | None = getattr(space, "description", None)
    return space.NAME if described is None else described.to_dict()


def of(told: object) -> Space:
    """Return the space that `told` wrote.

    Raises:
        UnknownNameError: there is none of this name.
        SpaceError: the description is malformed.
    """
    return get(told if isinstance(told, str) else add(Description.from_dict(told)))


def canonical(space: Space, codes: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return one code for each code's network, `(n, DIM)`: codes that are one network have the same.

    In a space that knows of no two codes that are one network, the codes themselves.
    """
    function = getattr(space, "canonical", None)
    found: npt.NDArray[np.int16] = codes if function is None else function(codes)
    return found


def named(space: Space, code: tuple[int, ...]) -> Mapping[str, Any]:
    """Return a code's values by name, as users write them; the space's `parse` reads them back."""
    function = getattr(space, "named", None)
    found: Mapping[str, Any] = (
        dict(zip(space.NAMES, code, strict=True)) if function is None else function(code)
    )
    return found


def levels(space: Space) -> list[range]:
    """Return the integers that each dimension may have, rising."""
    bounds = zip(space.LOWER.tolist(), space.UPPER.tolist(), space.STEP.tolist(), strict=True)
    return [range(low, high + 1, step) for low, high, step in bounds]


def columns(space: Space) -> list[slice]:
    """Return where each dimension's coordinates are among those of a relaxed code."""
    widths = (
        len(values) if choice else 1 for values, choice in zip(levels(space), space.CHOICES, strict=True)
    )
    return [slice(start, end) for start, end in pairwise([0, *accumulate(widths)])]


#: Every space there is.
SPACES = Registry[Space](
    "search space", {"nasbench-mr": "nasbench_mr.space", "nas-bench-201": "nasbench_mr.nasbench201"}
)
#: The described ones among them, by name, before anything asks for them.
_DESCRIBED: dict[str, Description] = {}
