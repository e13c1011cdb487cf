"""The codes a search may ask for: a whole space or a list of codes, under limits on MACs and parameters.

A `Domain` also says what a code's neighbours are, and mutates and mixes codes within the limits, so the same
search runs on 2^80 codes and on the 2,507 of a table.

    Domain(max_macs=2e9).sample(10, np.random.default_rng(0))
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import checks, cost, spaces
from nasbench_mr.arrays import Bools, ByValue, Codes, Costs, Floats, Ints, key, keys
from nasbench_mr.errors import InfeasibleError, InvalidArgumentError, OutOfSpaceError, did_you_mean

if TYPE_CHECKING:
    from nasbench_mr.measured import Limit

#: A whole space of at most this many codes is searched as a list of them.
LISTED = 1 << 15


def every(space: spaces.Space) -> Codes:
    """Return all codes of a small space, `(SIZE, DIM)`, in lexicographic order."""
    return np.array([*itertools.product(*spaces.levels(space))], np.int16)


class Domain(ByValue, spaces.Spacious):
    """The codes a search may ask for.

    >>> domain = Domain(max_macs=150e6, fixed={"i1": 32})
    >>> code = domain.sample(1, np.random.default_rng(0))[0]
    >>> int(code[0]), bool(cost.macs([code])[0] <= 150e6)
    (32, True)

    Args:
        space: the search space (`spaces.get`); by default that of the 27 integers.
        codes: `(n, DIM)` distinct codes, if only these may be asked for; else the whole space.
        macs, params: `(n,)` of `codes`, NaN where unknown; by default by the space's formula (`cost.of`).
        max_macs, max_params: limits, both inclusive. MACs of the 27 integers always mean `cost.macs`: those
            of the 50-class classification network for a 1x3x128x128 input, whatever the task.
        limits: on measured costs, by what was measured; where that is not known, of a list of codes none,
            and of a whole space the estimated cost counts (`measured.limits` makes them).
        fixed: values that some dimensions must have, by name.

    Raises:
        InfeasibleError: no code meets the limits.
        InvalidArgumentError: a limit is not a positive number, or of another space; or a fixed dimension does
            not exist.
        SurrogateNotFoundError: of a whole space, too few codes were measured to estimate a limit's cost.
    """

    CACHES = frozenset({"_near"})

    def __init__(
        self,
        space: spaces.Space | None = None,
        codes: Codes | None = None,
        *,
        macs: Costs | None = None,
        params: Costs | None = None,
        max_macs: float | None = None,
        max_params: float | None = None,
        limits: Sequence[Limit] = (),
        fixed: Mapping[str, Any] | None = None,
    ):
        self.space = spaces.get("nasbench-mr") if space is None else space
        self.limits = tuple(limits)
        for limit in self.limits:
            limit.cost.check(self.space.NAME)
        self.max_macs = checks.limit("max_macs", max_macs)
        self.max_params = checks.limit("max_params", max_params)
        self.fixed = self._parse_fixed(fixed or {})
        #: `(n, DIM)` the codes within the limits, where there is a list of them; else None.
        self.codes: Codes | None = None
        self._costs: tuple[Costs, Costs] | None = None
        self._near: dict[tuple[bytes, int], Codes] = {}
        if codes is not None:
            self._restrict(self.space.check(codes), macs, params)
        elif self._exact is None:
            raise InvalidArgumentError(
                f"the space {self.space.NAME!r} has no formula of costs, so it is searched as a list of "
                "its codes; pass codes"
            )
        elif self.space.SIZE <= LISTED:
            self._restrict(every(self.space), macs, params)
        elif not self._within(self._smallest)[0]:
            raise InfeasibleError(
                f"no code {self._describe()}: the smallest has {self.macs(self._smallest)[0] / 1e9:.3g} "
                f"GMACs and {self.params(self._smallest)[0] / 1e6:.3g} M parameters"
                + "".join(f", {limit.cost.name} {limit.cost(self._smallest)[0]:.3g}" for limit in self.limits)
            )

    @cached_property
    def _exact(self) -> cost.Costs | None:
        """The space's own costs, by formula."""
        return cost.of(self.space)

    @cached_property
    def _smallest(self) -> Codes:
        """The least costly code that has the fixed values, `(1, DIM)`.

        No cost of the 27 integers falls as one of them grows; in another space it is found by descent.
        """
        code = self.fix(self.space.LOWER[None].copy())
        if self.space.NAME == "nasbench-mr":
            return code
        limits = np.array([self.max_macs, self.max_params])
        limited = np.isfinite(limits) if np.isfinite(limits).any() else np.full(2, True)
        for _ in range(self.space.DIM):
            around = np.concatenate([code, self.fix(self._steps(code[0]))])
            costs = np.log(np.maximum([self.macs(around), self.params(around)], 1))
            share = costs[limited] - np.log(np.where(np.isfinite(limits), limits, 1.0))[limited, None]
            # What is most beyond its limit counts; then the sum; then what is not limited.
            best = np.lexsort((costs.sum(axis=0), share.sum(axis=0), share.max(axis=0)))[0]
            if best == 0:
                break
            code = around[best : best + 1]
        return code

    def _parse_fixed(self, fixed: Mapping[str, Any]) -> dict[int, int]:
        names = self.space.NAMES
        positions = {}
        base = spaces.named(self.space, tuple(self.space.LOWER.tolist()))
        for name, value in fixed.items():
            if name not in names:
                raise InvalidArgumentError(f"no dimension {name!r}: {did_you_mean(name, names)}")
            k = names.index(name)
            positions[k] = self.space.parse({**base, name: value})[k]
        return positions

    def _restrict(self, codes: Codes, macs: Costs | None, params: Costs | None) -> None:
        exact, unknown = cost.of(self.space), np.full(len(codes), np.nan)
        if macs is None:
            macs = unknown if exact is None else exact.macs(codes)
        if params is None:
            params = unknown if exact is None else exact.params(codes)
        # Unknown costs (NaN) are within no limit.
        keep = np.ones(len(codes), bool)
        for costs, limit in ((macs, self.max_macs), (params, self.max_params)):
            if limit < math.inf:
                keep &= costs <= limit
        for each in self.limits:
            keep &= each.cost.known(codes) <= each.most
        for k, value in self.fixed.items():
            keep &= codes[:, k] == value
        if not keep.any():
            limited = {each.cost.name: each.cost.known(codes) for each in self.limits}
            if self.max_macs < math.inf:
                limited["GMACs"] = macs / 1e9
            if self.max_params < math.inf:
                limited["M parameters"] = params / 1e6
            wanted = f"no code of the table {self._describe()}"
            for name, costs in limited.items():
                known = costs[~np.isnan(costs)]
                least = f"the least is {known.min():.4g}" if len(known) else "all unknown, leave it out"
                wanted += f"; {name} of its {len(codes):,} code{'s' * (len(codes) != 1)}: {least}"
            raise InfeasibleError(wanted)
        self.codes = codes[keep]
        self.codes.setflags(write=False)  # `rows` and `neighbors` remember them.
        self._costs = (macs[keep], params[keep])

    def _describe(self) -> str:
        limits = []
        if self.max_macs < math.inf:
            limits.append(f"has at most {self.max_macs / 1e9:.3g} GMACs")
        if self.max_params < math.inf:
            limits.append(f"has at most {self.max_params / 1e6:.3g} M parameters")
        limits += [f"has {limit}" for limit in self.limits]
        limits += [f"has {self.space.NAMES[k]} = {value}" for k, value in self.fixed.items()]
        return " and ".join(limits) or "is there"

    @property
    def size(self) -> int:
        """How many codes there are; without a list of codes an upper bound, as limits are not counted."""
        return self.space.SIZE if self.codes is None else len(self.codes)

    @cached_property
    def _rows(self) -> dict[bytes, int]:
        assert self.codes is not None
        return {code: row for row, code in enumerate(keys(self.codes))}

    def rows(self, codes: Codes) -> Ints:
        """Return the positions of codes in the list `self.codes`; -1 for those that are not there: `(n,)`."""
        return np.array([self._rows.get(code, -1) for code in keys(codes)], np.int64)

    def macs(self, codes: Codes) -> Costs:
        """MACs of the domain's codes: `(n,)`."""
        return self._formula.macs(codes) if self._costs is None else self._costs[0][self._known(codes)]

    def params(self, codes: Codes) -> Costs:
        """Parameters of the domain's codes: `(n,)`."""
        return self._formula.params(codes) if self._costs is None else self._costs[1][self._known(codes)]

    @property
    def _formula(self) -> cost.Costs:
        assert self._exact is not None
        return self._exact

    def _known(self, codes: Codes) -> Ints:
        rows = self.rows(codes)
        if (rows < 0).any():
            raise OutOfSpaceError(f"code {codes[rows < 0][0].tolist()} is not among the domain's codes")
        return rows

    def contains(self, codes: Codes) -> Bools:
        """Which codes may be asked for: `(n,)` bool."""
        if self.codes is not None:
            return self.rows(codes) >= 0
        inside = self._within(codes)
        for k, value in self.fixed.items():
            inside &= codes[:, k] == value
        return inside

    def _within(self, codes: Codes) -> Bools:
        inside = np.ones(len(codes), bool)
        if self.max_macs < math.inf:
            inside &= self._formula.macs(codes) <= self.max_macs
        if self.max_params < math.inf:
            inside &= self._formula.params(codes) <= self.max_params
        for each in self.limits:
            inside[inside] = each.cost(codes[inside]) <= each.most
        return inside

    def fix(self, codes: Codes) -> Codes:
        """Write the values of `fixed` into `(n, DIM)` codes, and return them."""
        for k, value in self.fixed.items():
            codes[:, k] = value
        return codes

    def sample(self, n: int, rng: np.random.Generator) -> Codes:
        """`n` random codes. From a list: without repeats, all of it where `n` is larger.

        In a whole space they are uniform where that finds enough within the limits; the others are uniform
        draws shrunk towards the smallest code until they fit.
        """
        if self.codes is not None:
            return self.codes[rng.permutation(len(self.codes))[:n]]
        drawn = self.fix(self.space.sample(4 * n, rng))
        inside = self._within(drawn)
        found = drawn[inside][:n]
        if len(found) < n:
            found = np.concatenate([found, self.repair(drawn[~inside][: n - len(found)])])
        return found

    def repair(self, codes: Codes) -> Codes:
        """Return the nearest codes that may be asked for: `(n, DIM)`.

        From a list: the nearest one in it. In a whole space: the code itself if it is within the limits, else
        shrunk towards the smallest code just until it is.
        """
        if self.codes is not None:
            return self.codes[[int(self.distances(code).argmin()) for code in codes]]
        codes = self.fix(codes.copy())
        outside = np.flatnonzero(~self._within(codes))
        if not len(outside):
            return codes
        spread = self.space.relax(codes[outside]) - self.space.relax(self._smallest)
        low, high = np.zeros(len(outside)), np.ones(len(outside))
        for _ in range(8):
            middle = (low + high) / 2
            inside = self._within(self._shrunk(spread, middle))
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        codes[outside] = self._shrunk(spread, low)
        return codes

    def _shrunk(self, spread: Floats, factor: Floats) -> Codes:
        start = self.space.relax(self._smallest)
        return self.fix(self.space.project(start + factor[:, None] * spread))

    @cached_property
    def _points(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The list's codes as points, each coordinate scaled to the range it has in the list."""
        assert self.codes is not None
        scale = np.ptp(self.codes, axis=0).astype(np.float32)
        scale[scale == 0] = 1
        return np.asarray(self.codes / scale, np.float32), scale

    def distances(self, code: Codes) -> npt.NDArray[np.float32]:
        """L1 distances of one code to the list `self.codes`, `(n,)`; of choices, how many differ."""
        assert self.codes is not None
        choices = self.space.CHOICES
        if choices.all():
            return np.asarray((self.codes != code).sum(axis=1, dtype=np.float32))
        points, scale = self._points
        if not choices.any():
            return np.asarray(np.abs(points - code / scale).sum(axis=1))
        steps = np.abs(points - code / scale)[:, ~choices].sum(axis=1)
        return np.asarray(steps + (self.codes != code)[:, choices].sum(axis=1, dtype=np.float32))

    def neighbors(self, code: Codes, count: int = 24) -> Codes:
        """Return the codes one step away, within the limits; from a list with gaps the `count` nearest ones.

        Never `code` itself, `(DIM,)`. May be empty in a whole space under limits.
        """
        if self.codes is None:
            around = self.fix(self.space.neighbors(code))
            allowed: Bools = self._within(around) & (around != code).any(axis=1)
            return around[allowed]
        # Searches come back to the same codes, and side by side many searches share a domain.
        asked = (key(code), count)
        if asked not in self._near:
            near = self.space.neighbors(code)
            near = near[self.contains(near)]
            if len(near) < count / 2:
                # A list with gaps: a sample of its space, not most of it.
                near = self.codes[np.argsort(self.distances(code), kind="stable")[: count + 1]]
                near = near[(near != code).any(axis=1)]
            self._near[asked] = near[:count]
        return self._near[asked].copy()

    def variants(self, code: Codes) -> Codes:
        """Return the allowed codes that differ from `code` in one dimension, by any amount.

        Of a list neighbors.
        """
        if self.codes is not None:
            return self.neighbors(code)
        around = self.fix(self._steps(code))
        allowed: Bools = self._within(around) & (around != code).any(axis=1)
        return np.unique(around[allowed], axis=0)

    def _steps(self, code: Codes) -> Codes:
        """Return all codes with at most one dimension of another value, limits aside: `(n, DIM)`."""
        levels = spaces.levels(self.space)
        dims = np.repeat(np.arange(self.space.DIM), [*map(len, levels)])
        around = np.repeat(code[None], len(dims), axis=0)
        around[np.arange(len(dims)), dims] = np.concatenate(levels)
        return around

    def walk(self) -> Iterator[Codes]:
        """Every code that may be asked for, `(DIM,)`, once; the smallest first."""
        if self.codes is not None:
            yield from self.codes
            return
        # No cost of the 27 integers falls as one of them grows, so single steps within the limits reach every
        # allowed code; in other spaces, those that hang together with the least costly one.
        queue = deque([self._smallest[0]])
        seen = {key(queue[0])}
        while queue:
            code = queue.popleft()
            yield code
            for near in self.neighbors(code):
                if key(near) not in seen:
                    seen.add(key(near))
                    queue.append(near)

    def mutate(self, codes: Codes, rng: np.random.Generator) -> Codes:
        """Return a changed copy of each code: `(n, DIM)`; from a list, one of its nearest neighbours."""
        if self.codes is not None:
            around = [self.neighbors(code) for code in codes]
            return np.array(
                [a[rng.integers(len(a))] if len(a) else c for a, c in zip(around, codes, strict=True)]
            )
        children = self.fix(self.space.mutate(codes, rng))
        for _ in range(4):
            outside = np.flatnonzero(~self._within(children))
            if not len(outside):
                return children
            children[outside] = self.fix(self.space.mutate(codes[outside], rng))
        return self.repair(children)

    def crossover(self, a: Codes, b: Codes, rng: np.random.Generator) -> Codes:
        """Return a mixture of each pair: `(n, DIM)`."""
        return self.repair(self.space.crossover(a, b, rng))
