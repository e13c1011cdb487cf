"""`nsga2`: the genetic search for fronts that papers compare with, as Optuna has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nasbench_mr.arrays import Codes, Floats, Ints, key
from nasbench_mr.checks import at_least, short_seed
from nasbench_mr.domain import Domain
from nasbench_mr.extras import requires
from nasbench_mr.search.base import Searcher
from nasbench_mr.search.tpe import distributions, quiet_study

if TYPE_CHECKING:
    from optuna import Trial


class NSGA2(Searcher):
    """Optuna's NSGA-II: the next generation's parents are those that few others beat, far from each other.

    Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", 2002. What the sampler
    suggests may be tabulated nowhere, exceed a limit or be known: the nearest allowed code is asked for
    instead, and takes its place in the generation.

    Args:
        domain, seed, epochs: see `Searcher`.
        population: codes in a generation, the first one random.
    """

    name = "nsga2"
    front = True
    #: Optuna's study follows from the seed and from what was told.
    CACHES = frozenset({"_study", "_distributions", "_trials"})

    def __init__(self, domain: Domain, seed: int = 0, epochs: Sequence[int] = (), *, population: int = 20):
        super().__init__(domain, seed, epochs)
        self.initial = self.population = at_least(2, "population", population)
        with requires("search", "the search 'nsga2'"):
            import optuna
        self._distributions = distributions(domain)
        self._sampler = optuna.samplers.NSGAIISampler
        self._failed = optuna.trial.TrialState.FAIL
        #: Made when the first values tell how many objectives there are.
        self._study: optuna.Study | None = None
        self._trials: dict[bytes, optuna.Trial] = {}

    def _propose(self, n: int) -> Codes:
        if self._study is None or len(self._asked) < self.population:
            return self.domain.sample(n, self.rng)
        found: list[Codes] = []
        for _ in range(n):
            trial = self._study.ask(self._distributions)
            suggested = np.array([[trial.params[name] for name in self._distributions]], np.int16)
            for code in self.nearest_new(suggested):
                if (code != suggested[0]).any():
                    self._study.tell(trial, state=self._failed)
                    trial = self._adopt(code)
                self._trials[key(code)] = trial
                found.append(code)
        return np.array(found, np.int16).reshape(-1, self.domain.space.DIM)

    def _adopt(self, code: Codes) -> Trial:
        """Return a trial of the study about this code, in its present generation."""
        assert self._study is not None
        self._study.enqueue_trial(dict(zip(self._distributions, code.tolist(), strict=True)))
        return self._study.ask(self._distributions)

    def _tell(self, codes: Codes, values: Floats, fidelity: Ints) -> None:
        super()._tell(codes, values, fidelity)
        if self._study is None:
            sampler = self._sampler(population_size=self.population, seed=short_seed(self.seed))
            self._study = quiet_study(sampler, ["maximize"] * values.shape[1])
        for code, row in zip(codes, values.tolist(), strict=True):
            known = self._trials.pop(key(code), None)
            self._study.tell(self._adopt(code) if known is None else known, row)
