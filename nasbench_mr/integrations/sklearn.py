"""scikit-learn: a predictor as an estimator, for `cross_val_score`, `GridSearchCV` and pipelines.

cross_val_score(adapter.Estimator("gbdt"), codes, values, scoring=adapter.KENDALL)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from nasbench_mr import spaces
from nasbench_mr.analysis import kendall_tau
from nasbench_mr.errors import NotFittedError
from nasbench_mr.extras import requires
from nasbench_mr.predictors import base

with requires("search", "the adapter of scikit-learn", {"scikit-learn": "1.5"}):
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.metrics import make_scorer


class Estimator(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A predictor of `predictors.names()`, or a class of one's own, as a regressor.

    Args:
        predictor: its name.
        seed: of its randomness.
        space: the search space of the codes, by name.
        options: keyword arguments of the predictor's class.

    Attributes:
        predictor_: the fitted predictor.
    """

    def __init__(
        self,
        predictor: str | type[base.Predictor] = "ensemble",
        seed: int = 0,
        space: str = "nasbench-mr",
        options: Mapping[str, Any] | None = None,
    ):
        self.predictor, self.seed, self.space, self.options = predictor, seed, space, options

    def fit(self, X: object, y: npt.ArrayLike) -> Self:
        """Fit codes, `(n, DIM)`, to values, `(n,)` or `(n, m)`.

        Raises:
            InvalidArgumentError, OutOfSpaceError: see `Predictor.fit`.
        """
        made = base.make(self.predictor, self.seed, spaces.get(self.space), **(self.options or {}))
        self._flat = np.ndim(y) == 1
        self.predictor_ = made.fit(X, y)
        return self

    def predict(self, X: object, return_std: bool = False) -> Any:
        """Return means, of the shape of the values fitted; with `return_std` standard deviations as well."""
        if not hasattr(self, "predictor_"):
            raise NotFittedError("this Estimator is not fitted: call fit(codes, values) first")
        mean, std = self.predictor_.predict(X)
        if self._flat:
            mean, std = mean[:, 0], std[:, 0]
        return (mean, std) if return_std else mean


#: Kendall's tau, which ranks codes as a search needs it.
KENDALL = make_scorer(kendall_tau)
