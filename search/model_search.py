"""The base of searches with a model in the loop, `guided` and `ncp`.

They begin with random codes, then, again and again, fit a model to what they were told and ask for the codes
it thinks most promising.
"""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Sequence

import numpy as np

from nasbench_mr.arrays import Codes, keys
from nasbench_mr.checks import at_least
from nasbench_mr.domain import Domain
from nasbench_mr.search.base import Searcher


class ModelSearch(Searcher):
    """Asks for random codes first, then for plans of a few codes, each from a freshly fitted model.

    Args:
        domain, seed, epochs: see `Searcher`.
        initial: random codes before the first plan, at least 2.
        refit: codes in a plan.
    """

    def __init__(
        self,
        domain: Domain,
        seed: int = 0,
        epochs: Sequence[int] = (),
        *,
        initial: int = 10,
        refit: int = 10,
    ):
        super().__init__(domain, seed, epochs)
        self.initial = at_least(2, "initial", initial)
        self.refit = at_least(1, "refit", refit)
        self._planned: deque[Codes] = deque()

    def _propose(self, n: int) -> Codes:
        if len(self._values) < self.initial:
            return self.domain.sample(n, self.rng)
        if not self._planned:
            self._planned.extend(self._plan(max(n, self.refit)))
        return np.array([self._planned.popleft() for _ in range(min(n, len(self._planned)))])

    @abc.abstractmethod
    def _plan(self, count: int) -> Codes:
        """At most `count` codes that were never asked for, the most promising first."""

    def _best(self, count: int) -> Codes:
        """Return the best codes told."""
        return self.codes[np.argsort(-self.values, kind="stable")[:count]]

    def _new(self, codes: Codes) -> Codes:
        """Those that were never asked for, once each."""
        distinct = np.unique(codes, axis=0)
        return distinct[[key not in self._asked for key in keys(distinct)]]
