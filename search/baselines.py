"""Searches without a model: the ones every comparison should have, `random`, `local` and `evolution`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from nasbench_mr.arrays import Codes, Floats, Ints, key
from nasbench_mr.checks import at_least
from nasbench_mr.domain import Domain
from nasbench_mr.search.base import Searcher


class Random(Searcher):
    """Random codes, each at most once; under limits as `Domain.sample` draws them."""

    name = "random"
    front = None

    def __init__(self, domain: Domain, seed: int = 0, epochs: Sequence[int] = ()):
        super().__init__(domain, seed, epochs)
        self._ready: deque[Codes] = deque()

    def _propose(self, n: int) -> Codes:
        # Drawn ahead: a hundred codes take little longer than one.
        if len(self._ready) < n:
            self._ready.extend(self.domain.sample(max(n, 128), self.rng))
        return np.array([self._ready.popleft() for _ in range(min(n, len(self._ready)))])


class LocalSearch(Searcher):
    """Hill climbing: codes that differ from the best in one dimension, moving as soon as one is better.

    White et al., "Exploring the Loss Landscape in Neural Architecture Search", UAI 2021. In a list they are
    the nearest codes. Where none is better it starts again.

    Args:
        domain, seed, epochs: see `Searcher`.
        initial: random codes at every start, the best of which it climbs from.
    """

    name = "local"

    def __init__(self, domain: Domain, seed: int = 0, epochs: Sequence[int] = (), *, initial: int = 10):
        super().__init__(domain, seed, epochs)
        self.initial = at_least(1, "initial", initial)
        self._start()

    def _start(self) -> None:
        self._scouted: list[tuple[float, Codes]] = []
        self._top = -np.inf
        self._around: deque[Codes] = deque()

    def _propose(self, n: int) -> Codes:
        found: list[Codes] = []
        while self._around and len(found) < n:
            code = self._around.popleft()
            if key(code) not in self._asked:
                found.append(code)
        if found:
            return np.array(found)
        if len(self._scouted) >= self.initial:
            self._start()
        return self.domain.sample(n, self.rng)

    def _tell(self, codes: Codes, values: Floats, fidelity: Ints) -> None:
        super()._tell(codes, values, fidelity)
        climbing = len(self._scouted) >= self.initial
        self._scouted += [*zip(values.tolist(), codes, strict=True)][: self.initial - len(self._scouted)]
        if len(self._scouted) < self.initial:
            return
        if not climbing:
            self._move(*max(self._scouted, key=lambda pair: pair[0]))
        best = int(values.argmax())
        if values[best] > self._top:
            self._move(float(values[best]), codes[best])

    def _move(self, value: float, code: Codes) -> None:
        self._top = value
        near = self.domain.variants(code)
        self._around = deque(near[self.rng.permutation(len(near))])


class Evolution(Searcher):
    """Regularised evolution: the best of a sample of the population has a mutated child; the oldest dies.

    Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019.

    Args:
        domain, seed, epochs: see `Searcher`.
        population: codes alive, at first random ones.
        sample: codes of which the best becomes a parent.
    """

    name = "evolution"

    def __init__(
        self,
        domain: Domain,
        seed: int = 0,
        epochs: Sequence[int] = (),
        *,
        population: int = 50,
        sample: int = 10,
    ):
        super().__init__(domain, seed, epochs)
        self.initial = self.population = at_least(1, "population", population)
        self.sample = at_least(1, "sample", sample)
        self._alive: deque[tuple[float, Codes]] = deque(maxlen=self.population)

    def _propose(self, n: int) -> Codes:
        young = min(n, max(0, self.population - len(self._asked)))
        if young or not self._alive:
            return self._first(young or n)
        parents = []
        for _ in range(n):
            drawn = self.rng.integers(len(self._alive), size=self.sample).tolist()
            parents.append(max((self._alive[k] for k in drawn), key=lambda pair: pair[0])[1])
        return self._children(np.array(parents))

    def _first(self, n: int) -> Codes:
        """Return codes of the first population."""
        return self.domain.sample(n, self.rng)

    def _children(self, parents: Codes) -> Codes:
        """Return a child of each parent."""
        return self.domain.mutate(parents, self.rng)

    def _tell(self, codes: Codes, values: Floats, fidelity: Ints) -> None:
        super()._tell(codes, values, fidelity)
        self._alive.extend(zip(values.tolist(), codes, strict=True))
