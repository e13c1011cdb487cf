"""`guided`: evolution whose mutants a model chooses among."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nasbench_mr import predictors
from nasbench_mr.arrays import Codes
from nasbench_mr.checks import at_least
from nasbench_mr.domain import Domain
from nasbench_mr.search.model_search import ModelSearch


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
        *,
        initial: int = 20,
        refit: int = 10,
        parents: int = 10,
        children: int = 100,
        predictor: str = "ensemble",
        **options: Any,
    ):
        super().__init__(domain, seed, epochs, initial=initial, refit=refit)
        self.parents = at_least(1, "parents", parents)
        self.children = at_least(1, "children", children)
        usual = {"members": 5} if predictor == "ensemble" else {}
        self.model = predictors.make(predictor, seed, domain.space, **{**usual, **options})
        #: Values that the model was fitted to.
        self._fitted = 0

    def _plan(self, count: int) -> Codes:
        # A plan without a new code is made again, with other mutants of the same values.
        if self._fitted != len(self.values):
            self.model.fit(self.codes, self.values)
            self._fitted = len(self.values)
        best = self._best(self.parents)
        drawn = best[self.rng.integers(len(best), size=max(count, self.children))]
        children = self._new(self.domain.mutate(drawn, self.rng))
        if len(children) < count and self.domain.codes is not None:
            # What lies around the best codes of a list is soon known: then among all that is left.
            children = self.domain.codes[self._free]
        if not len(children):
            return children
        mean, std = self.model.predict(children)
        sampled = mean[:, 0] + std[:, 0] * self.rng.standard_normal(len(children))
        return children[np.argsort(-sampled, kind="stable")[:count]]
