"""The tree-structured Parzen estimator (`tpe`), as Optuna has it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from nasbench_mr import spaces
from nasbench_mr.arrays import Codes, Floats, Ints
from nasbench_mr.checks import at_least, short_seed
from nasbench_mr.domain import Domain
from nasbench_mr.extras import requires
from nasbench_mr.search.base import Searcher

if TYPE_CHECKING:
    import optuna


class TPE(Searcher):
    """Optuna's multivariate TPE over the code's integers; choices without an order are categories.

    Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011. What the sampler suggests
    may be tabulated nowhere or exceed a limit: the nearest allowed code is asked for instead, and the
    sampler learns from that one.

    Args:
        domain, seed, epochs: see `Searcher`.
        initial: random codes before the first suggestion.
    """

    name = "tpe"
    #: Optuna's study follows from the seed and from what was told.
    CACHES = frozenset({"_study", "_distributions"})

    def __init__(self, domain: Domain, seed: int = 0, epochs: Sequence[int] = (), *, initial: int = 20):
        super().__init__(domain, seed, epochs)
        self.initial = at_least(1, "initial", initial)
        with requires("search", "the search 'tpe'"):
            import optuna
        self._distributions = distributions(domain)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=short_seed(self.seed), n_startup_trials=0, multivariate=True
            )
        self._study = quiet_study(sampler, ["maximize"])
        self._trial = optuna.trial.create_trial

    def _propose(self, n: int) -> Codes:
        if len(self._values) < self.initial:
            return self.domain.sample(n, self.rng)
        suggested = []
        for _ in range(n):
            trial = self._study.ask(self._distributions)
            suggested.append([trial.params[name] for name in self._distributions])
        return self.nearest_new(np.array(suggested, np.int16))

    def _tell(self, codes: Codes, values: Floats, fidelity: Ints) -> None:
        super()._tell(codes, values, fidelity)
        for code, value in zip(codes.tolist(), values.tolist(), strict=True):
            params = dict(zip(self._distributions, code, strict=True))
            self._study.add_trial(self._trial(params=params, distributions=self._distributions, value=value))


def distributions(domain: Domain) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return a domain's dimensions as Optuna knows them: integers with steps, or categories."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    space = domain.space
    return {
        name: CategoricalDistribution(values)
        if choice
        else IntDistribution(values[0], values[-1], step=values.step)
        for name, values, choice in zip(space.NAMES, spaces.levels(space), space.CHOICES, strict=True)
    }


def quiet_study(
    sampler: optuna.samplers.BaseSampler, directions: Sequence[Literal["minimize", "maximize"]]
) -> optuna.Study:
    """Return a study in memory, made without a line in the log."""
    import optuna

    storage = optuna.storages.InMemoryStorage()
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(storage=storage, sampler=sampler, directions=list(directions))
    optuna.logging.set_verbosity(verbosity)
    return made
