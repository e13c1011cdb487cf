"""`ncp` in the loop: each plan follows the gradients of a model of what was measured so far.

`search.ncp` is the function that answers from a predictor at once; this search measures codes as it goes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nasbench_mr.arrays import Codes, keys
from nasbench_mr.checks import at_least, finite
from nasbench_mr.domain import Domain
from nasbench_mr.extras import need
from nasbench_mr.objective import Goal
from nasbench_mr.predictors.gaussian_process import GaussianProcess
from nasbench_mr.search.model_search import ModelSearch
from nasbench_mr.search.ncp import Acquisition, climb
from nasbench_mr.tasks import Metric, Task

#: Noise that the model may find, as parts of the variance.
NOISES = (0.03, 0.1, 0.3)
#: What the model predicts: the values told, as they are.
GOAL = Goal(
    "value",
    Task(
        name="value",
        title="",
        dataset="",
        problem="classification",
        metrics=(Metric("value", unit="", lower=None, upper=None),),
        objective="value",
    ),
    Metric("value", unit="", lower=None, upper=None),
)


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
        *,
        initial: int = 10,
        refit: int = 2,
        starts: int = 16,
        steps: int = 12,
        explore: float = 0.5,
    ):
        need("torch", "search", "the search 'ncp'")
        super().__init__(domain, seed, epochs, initial=initial, refit=refit)
        self.starts, self.steps = at_least(1, "starts", starts), at_least(1, "steps", steps)
        self.explore = finite("explore", explore)
        self.model = GaussianProcess(seed, domain.space, noises=NOISES, latent=True)
        #: Values at hand when the kernel was chosen last.
        self._settled = 0

    def _plan(self, count: int) -> Codes:
        self._fit()
        acquisition = Acquisition(self.model, (GOAL,), self.domain, caution=-self.explore)
        path = climb(acquisition, self._starts(), np.full(self.starts, self.domain.max_macs), self.steps)
        if self.domain.codes is not None:
            found = self.nearest_new(np.unique(path.codes[-1], axis=0))
            return found[np.argsort(-acquisition.score(found), kind="stable")[:count]]
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

    def _fit(self) -> None:
        """Fit the model; choose its kernel anew only after a fifth more values."""
        if len(self.values) < 1.2 * self._settled:
            self.model.condition(self.codes, self.values)
            return
        self._settled = len(self.values)
        self.model.fit(self.codes, self.values, ("value",))

    def _starts(self) -> Codes:
        """Return a quarter the best codes, half mutants of them, and random ones."""
        quarter = -(-self.starts // 4)
        best = self._best(quarter)
        mutants = self.domain.mutate(best[self.rng.integers(len(best), size=2 * quarter)], self.rng)
        begin = np.concatenate([best, mutants, self.domain.sample(quarter, self.rng)])
        return begin[np.arange(self.starts) % len(begin)]
