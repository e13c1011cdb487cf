"""Searches for a front of several objectives: `pareto-local`, without a model, and `ncp-front`, by gradients.

They are told `(n, m)` values, larger better, from 0 to 1 as `Objective.table(..., front=True)` scales them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nasbench_mr.arrays import Codes, Floats, Ints, key
from nasbench_mr.checks import at_least, finite
from nasbench_mr.domain import Domain
from nasbench_mr.extras import need
from nasbench_mr.fronts import front, gain
from nasbench_mr.predictors.gaussian_process import GaussianProcess
from nasbench_mr.search.base import Searcher
from nasbench_mr.search.model_search import ModelSearch
from nasbench_mr.search.ncp import Acquisition, climb, cost_limits
from nasbench_mr.search.ncp_in_loop import GOAL, NOISES


class ParetoLocalSearch(Searcher):
    """Asks for the neighbours of codes that no other one beats, each such code once.

    Paquete et al., "Pareto Local Optimum Sets in the Biobjective Traveling Salesman Problem", 2004. In a list
    neighbours are the nearest codes. Where all have been asked for it starts again, beside what it has.

    Args:
        domain, seed, epochs: see `Searcher`.
        initial: random codes at every start.
    """

    name = "pareto-local"
    front = True

    def __init__(self, domain: Domain, seed: int = 0, epochs: Sequence[int] = (), *, initial: int = 10):
        super().__init__(domain, seed, epochs)
        self.initial = at_least(1, "initial", initial)
        #: Random codes that are still to be asked for.
        self._scouts = self.initial
        self._around: deque[Codes] = deque()
        self._expanded: set[bytes] = set()

    def _propose(self, n: int) -> Codes:
        if self._scouts > 0:
            return self.domain.sample(min(n, self._scouts), self.rng)
        found: list[Codes] = []
        while len(found) < n:
            if not self._around and not self._expand():
                break
            code = self._around.popleft()
            if key(code) not in self._asked:
                found.append(code)
        if not found:
            self._scouts = self.initial
            return self.domain.sample(n, self.rng)
        return np.array(found)

    def _expand(self) -> bool:
        """Queue the neighbours of a code of the front; return whether one was left."""
        codes = self.codes
        left = [row for row in front(self.values) if key(codes[row]) not in self._expanded]
        if not left:
            return False
        code = codes[self.rng.choice(left)]
        self._expanded.add(key(code))
        near = self.domain.neighbors(code)
        self._around.extend(near[self.rng.permutation(len(near))])
        return bool(len(near)) or self._expand()

    def _tell(self, codes: Codes, values: Floats, fidelity: Ints) -> None:
        super()._tell(codes, values, fidelity)
        self._scouts -= len(codes)


class NCPFront(ModelSearch):
    """NCP over a sweep of limits and weights, in the loop.

    A Gaussian process for each objective learns what was measured. Every plan climbs sums of their upper
    confidence bounds by gradients in the code (`ncp.climb`), from the front and from random codes: some
    random weights, and for each start a limit on MACs of its own. Of the codes that were visited it asks for
    those that would add most to the hypervolume if they were as good as their bounds.

    Args:
        domain, seed, epochs, initial, refit: see `ModelSearch`.
        weights: sums that a plan climbs.
        starts: codes edited at once, for each.
        steps: of a climb.
        explore: standard deviations added to the means.
    """

    name = "ncp-front"
    front = True

    def __init__(
        self,
        domain: Domain,
        seed: int = 0,
        epochs: Sequence[int] = (),
        *,
        initial: int = 10,
        refit: int = 6,
        weights: int = 2,
        starts: int = 12,
        steps: int = 10,
        explore: float = 0.5,
    ):
        need("torch", "search", "the search 'ncp-front'")
        super().__init__(domain, seed, epochs, initial=initial, refit=refit)
        self.weights, self.starts = at_least(1, "weights", weights), at_least(1, "starts", starts)
        self.steps, self.explore = at_least(1, "steps", steps), finite("explore", explore)
        self.model = GaussianProcess(seed, domain.space, noises=NOISES, latent=True)

    def _plan(self, count: int) -> Codes:
        values = self.values
        names = tuple(f"y{k}" for k in range(values.shape[1]))
        self.model.fit(self.codes, values, names)
        visited = [self._climb(names) for _ in range(self.weights)]
        found = np.unique(np.concatenate(visited), axis=0)
        if self.domain.codes is not None:
            found = self.nearest_new(found)
        else:
            found = self._new(found[self.domain.contains(found)])
        return self._most(found, count)

    def _climb(self, names: Sequence[str]) -> Codes:
        """Return the codes where climbs of one weighted sum came, within limits of their own."""
        share = self.rng.dirichlet(np.ones(len(names))) + 1e-3
        scales = self.values.std(axis=0) + 1e-9
        goals = tuple(
            replace(GOAL, key=name, weight=float(weight), std=float(std))
            for name, weight, std in zip(names, share, scales, strict=True)
        )
        acquisition = Acquisition(self.model, goals, self.domain, caution=-self.explore)
        path = climb(acquisition, self._starts(), cost_limits(self.domain, self.starts), self.steps)
        return np.asarray(path.codes[-2:].reshape(-1, self.domain.space.DIM))

    def _starts(self) -> Codes:
        """Return codes of the front, mutants of them, and random ones."""
        third = -(-self.starts // 3)
        best = self.codes[self.rng.choice(front(self.values), size=third)]
        mutants = self.domain.mutate(best, self.rng)
        begin = np.concatenate([best, mutants, self.domain.sample(third, self.rng)])
        return begin[np.arange(self.starts) % len(begin)]

    def _most(self, codes: Codes, count: int) -> Codes:
        """Return the codes that would add most to the hypervolume, one after the other."""
        if not len(codes):
            return codes
        mean, std = self.model.predict(codes)
        bounds = mean + self.explore * std
        kept = self.values[front(self.values)]
        chosen: list[int] = []
        for _ in range(min(count, len(codes))):
            gains = np.array([gain(bound, kept) for bound in bounds])
            gains[chosen] = -1.0
            # Where nothing adds to it, what is predicted best by the sum.
            best = int(np.lexsort((bounds.sum(axis=1), gains))[-1])
            chosen.append(best)
            kept = np.vstack([kept, bounds[best]])
        return codes[chosen]
