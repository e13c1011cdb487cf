"""BoTorch: a domain as points of the unit cube, and objectives as a test problem on it.

    problem = adapter.Problem(Objective.table(bench, "seg"))
    X = problem.points(codes)
    acquisition = qLogNoisyExpectedImprovement(problem.model(X), X)
    optimize_acqf_discrete(acquisition, 1, choices=problem.choices)

A choice without an order is a coordinate for each of its values (`space.relax`).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from nasbench_mr import spaces
from nasbench_mr.arrays import Codes
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.extras import requires
from nasbench_mr.integrations.target import Target, nearest
from nasbench_mr.objective import Objective

with requires("botorch", "the adapter of BoTorch", {"botorch": "0.15"}):
    import torch
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.test_functions.base import BaseTestProblem
    from gpytorch.mlls import ExactMarginalLogLikelihood


class Problem(BaseTestProblem):  # type: ignore[misc]
    """Objectives as a test problem of BoTorch, to be maximised.

    Args:
        objectives: one for a value a point, `(n,)`; several on the same domain, or a front, for `(n, m)`.

    Attributes:
        dim, bounds: of the cube: `(2, dim)` zeros and ones.
        choices: `(n, dim)` the points of every code of a domain that is a list.
    """

    _is_minimization_by_default = False

    def __init__(self, *objectives: Objective):
        self._target = Target(objectives)
        self.domain = self._target.domain
        space = self.domain.space
        # A coordinate for each dimension; for a choice one for each value, from 0 to 1.
        widths = [part.stop - part.start for part in spaces.columns(space)]
        self._low = np.repeat(np.where(space.CHOICES, 0, space.LOWER), widths).astype(np.float64)
        self._scale = np.repeat(np.where(space.CHOICES, 1, space.UPPER), widths) - self._low
        self.dim = len(self._low)
        self.num_objectives = self._target.size
        self.continuous_inds = list(range(self.dim))
        self._bounds = [(0.0, 1.0)] * self.dim
        super().__init__()

    def points(self, codes: object) -> torch.Tensor:
        """Return codes as points of the cube: `(n, dim)` float64."""
        relaxed = self.domain.space.relax(self.domain.space.check(codes))
        return torch.from_numpy((relaxed - self._low) / self._scale)

    def codes(self, X: torch.Tensor) -> Codes:
        """Return the nearest code to each of `(n, dim)` points that may be asked for: `(n, DIM)`.

        Raises:
            InvalidArgumentError: they are not such points, or not finite.
        """
        if X.ndim != 2 or X.shape[1] != self.dim or not X.isfinite().all():
            raise InvalidArgumentError(
                f"points have shape {tuple(X.shape)}; expected (n, {self.dim}) finite numbers from 0 to 1"
            )
        points = X.detach().cpu().numpy().astype(np.float64) * self._scale + self._low
        found = self.domain.space.project(points)
        return np.array([nearest(self.domain, code) for code in found.tolist()], np.int16)

    @cached_property
    def choices(self) -> torch.Tensor:
        if self.domain.codes is None:
            raise InvalidArgumentError(
                "this domain is a whole space, not a list of codes; optimise over the cube, or over "
                "points(domain.sample(n, rng))"
            )
        return self.points(self.domain.codes)

    def model(self, X: torch.Tensor) -> SingleTaskGP:
        """Return a Gaussian process fitted to the values of `(n, dim)` points, which are asked for."""
        made = SingleTaskGP(X, self(X).reshape(len(X), -1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(made.likelihood, made))
        return made

    def _evaluate_true(self, X: torch.Tensor) -> torch.Tensor:
        values = [self._target.values(code) for code in self.codes(X.reshape(-1, self.dim)).tolist()]
        found = torch.tensor(values, dtype=X.dtype, device=X.device).reshape(*X.shape[:-1], -1)
        return found.squeeze(-1) if self.num_objectives == 1 else found
