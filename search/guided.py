"""Searches with a model in the loop: `guided` lets it choose among mutants, `ncp` follows its gradients.

Both begin with random codes, then, again and again, fit a model to what they were told and ask for the codes
it thinks most promising.
"""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from nasbench_mr.arrays import Codes, keys
from nasbench_mr.checks import at_least
from nasbench_mr.domain import Domain
from nasbench_mr.objective import Goal
from nasbench_mr.search.base import Searcher
from nasbench_mr.tasks import Metric, Task


class ModelSearch(Searcher):
    """What the two share: random codes first, then plans of a few codes, each from a freshly fitted model.

    Args:
        domain, seed, epochs: see `Searcher`.
        initial: random codes before the first plan, at least 2.
        refit: codes in a plan.
    """

    def __init__(
        self, domain: Domain, seed: int = 0, epochs: Sequence[int] = (), initial: int = 10, refit: int = 10
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
        """The best codes told."""
        return self.codes[np.argsort(-self.values, kind="stable")[:count]]

    def _new(self, codes: Codes) -> Codes:
        """Those that were never asked for, once each."""
        distinct = np.unique(codes, axis=0)
        return distinct[[key not in self._asked for key in keys(distinct)]]


class GuidedEvolution(ModelSearch):
    """Mutants of the best codes, chosen by an ensemble.

    White et al., "BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture Search",
    AAAI 2021: candidates one mutation away from the best codes, independent Thompson sampling.

    Args:
        domain, seed, epochs, initial, refit: see `ModelSearch`.
        parents: the best codes, which are mutated.
        children: mutants that the ensemble chooses from.
        predictor: any of `predictors.names()`.
        options: of the predictor; an ensemble has five members, as there, where they do not say otherwise.
    """

    name = "guided"

    def __init__(
        self,
        domain: Domain,
        seed: int = 0,
        epochs: Sequence[int] = (),
        initial: int = 20,
        refit: int = 10,
        parents: int = 10,
        children: int = 100,
        predictor: str = "ensemble",
        **options: Any,
    ):
        from nasbench_mr import predictors

        super().__init__(domain, seed, epochs, initial, refit)
        self.parents = at_least(1, "parents", parents)
        self.children = at_least(1, "children", children)
        usual = {"members": 5} if predictor == "ensemble" else {}
        self.model = predictors.make(predictor, seed, domain.space, **{**usual, **options})

    def _plan(self, count: int) -> Codes:
        self.model.fit(self.codes, self.values)
        best = self._best(self.parents)
        drawn = best[self.rng.integers(len(best), size=max(count, self.children))]
        children = self._new(self.domain.mutate(drawn, self.rng))
        if not len(children):
            return children
        mean, std = self.model.predict(children)
        sampled = mean[:, 0] + std[:, 0] * self.rng.standard_normal(len(children))
        return children[np.argsort(-sampled, kind="stable")[:count]]


class NCPSearch(ModelSearch):
    """NCP in the loop: climbs a Gaussian process's upper confidence bound by its gradients in the code.

    A climb (`ncp.climb`) starts from the best codes, mutants of them and random ones, and stays within the
    limits. Where the domain is a list, the codes asked for are the ones nearest to where it ended.

    Args:
        domain, seed, epochs, initial, refit: see `ModelSearch`.
        starts: codes edited at once.
        steps: of a climb.
        explore: standard deviations added to the mean.
    """

    name = "ncp"

    def __init__(
        self,
        domain: Domain,
        seed: int = 0,
        epochs: Sequence[int] = (),
        initial: int = 10,
        refit: int = 2,
        starts: int = 16,
        steps: int = 12,
        explore: float = 0.5,
    ):
        from nasbench_mr.search.gaussian_process import Process

        super().__init__(domain, seed, epochs, initial, refit)
        self.starts, self.steps = at_least(1, "starts", starts), at_least(1, "steps", steps)
        self.explore = explore
        self.model = Process(domain.space)

    def _plan(self, count: int) -> Codes:
        from nasbench_mr.search.ncp import Problem, climb

        self.model.fit(self.codes, self.values)
        problem = Problem(self.model, (_GOAL,), self.domain, caution=-self.explore)
        path = climb(problem, self._starts(), np.full(self.starts, self.domain.max_macs), self.steps)
        if self.domain.codes is not None:
            found = self.nearest_new(np.unique(path.codes[-1], axis=0))
            return found[np.argsort(-problem.score(found), kind="stable")[:count]]
        # The best new code that each start has visited.
        visited = path.codes.reshape(-1, self.domain.space.DIM)
        new = self.domain.contains(visited) & [key not in self._asked for key in keys(visited)]
        score = np.where(new, path.score.ravel(), -np.inf).reshape(path.score.shape)
        rows, starts = score.argmax(axis=0), np.arange(self.starts)
        order = np.argsort(-score[rows, starts], kind="stable")
        order = order[np.isfinite(score[rows, starts][order])]
        best = path.codes[rows, starts][order]
        _, first = np.unique(best, axis=0, return_index=True)
        return np.asarray(best[np.sort(first)[:count]])

    def _starts(self) -> Codes:
        """A quarter the best codes, half mutants of them, and random ones."""
        quarter = -(-self.starts // 4)
        best = self._best(quarter)
        mutants = self.domain.mutate(best[self.rng.integers(len(best), size=2 * quarter)], self.rng)
        begin = np.concatenate([best, mutants, self.domain.sample(quarter, self.rng)])
        return begin[np.arange(self.starts) % len(begin)]


#: What the process predicts: the values told, as they are.
_GOAL = Goal(
    "value",
    Task("value", "", "", "classification", (Metric("value", unit="", lower=None, upper=None),), "value"),
    Metric("value", unit="", lower=None, upper=None),
)
