"""The model of `ncp` in the loop: a Gaussian process that is refitted in milliseconds and has gradients.

`predictors.make("gp")` chooses its kernel more carefully and takes a hundred times as long; on the some
hundred values that a search has, this one ranks codes as well.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from nasbench_mr import features
from nasbench_mr.arrays import Codes, Floats
from nasbench_mr.extras import requires
from nasbench_mr.predictors.base import Scaler
from nasbench_mr.spaces import Space

with requires("search", "the search 'ncp'"):
    import torch
    from torch import Tensor

#: What the marginal likelihood chooses from: length scale (scaled features are about 1.4 apart), share of
#: the linear part, and noise, both as shares of the smooth part's variance.
_GRID = tuple(product((0.5, 1.0, 2.0, 4.0, 8.0), (0.0, 0.1, 0.5), (0.03, 0.1, 0.3)))


class Process:
    """A Gaussian process on the features of codes: Matérn 5/2 plus linear plus noise, for one column.

    Answers as a `GradientPredictor` does.

    Args:
        space: of the codes.

    Attributes:
        names: its one column.
    """

    names: tuple[str, ...] = ("value",)

    def __init__(self, space: Space):
        self.space = space
        self._fitted = 0
        self._kernel = _GRID[0]

    def fit(self, codes: Codes, values: Floats) -> None:
        """Conditions it on `(n, DIM)` codes and their `(n,)` values; chooses the kernel anew now and then."""
        inputs = features.of_codes(codes, self.space)
        self._x_scaler, self._y_scaler = Scaler.of(inputs), Scaler.of(values[:, None])
        self._width = np.sqrt(inputs.shape[1])
        self._x = self._x_scaler.apply(inputs) / self._width
        y = self._y_scaler.apply(values[:, None])[:, 0]
        linear = self._x @ self._x.T
        norm = np.diag(linear)
        distance = np.sqrt(np.maximum(norm[:, None] + norm - 2 * linear, 0))
        settled = len(y) < 1.2 * self._fitted
        if not settled:
            self._fitted = len(y)
        best = -np.inf
        for kernel in (self._kernel,) if settled else _GRID:
            matrix = _covariance(distance, linear, kernel) + kernel[2] * np.eye(len(y))
            factor = np.linalg.cholesky(matrix)
            inverse = np.linalg.inv(factor)
            weights = inverse.T @ (inverse @ y)
            # The covariance's overall factor has its best value in closed form.
            variance = max(float(y @ weights) / len(y), 1e-12)
            evidence = -len(y) * np.log(variance) / 2 - np.log(np.diag(factor)).sum()
            if evidence > best:
                best, self._kernel = evidence, kernel
                self._variance, self._weights, self._whiten = variance, weights, inverse

    def predict(self, codes: Codes) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the noiseless value: `(n, 1)` each."""
        with torch.no_grad():
            mean, std = self.tensor(torch.from_numpy(self.space.relax(codes)))
        return mean.numpy(), std.numpy()

    def tensor(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`predict` of `(n, R)` relaxed codes in float64, differentiable."""
        mean, scale, train, weights, whiten = (
            torch.from_numpy(np.asarray(a))
            for a in (
                self._x_scaler.mean,
                self._x_scaler.scale * self._width,
                self._x,
                self._weights,
                self._whiten,
            )
        )
        z = (features.of_tensor(x, self.space) - mean) / scale
        linear = z @ train.T
        norm = z.square().sum(1)
        distance = (norm[:, None] + train.square().sum(1) - 2 * linear).clamp(min=1e-12).sqrt()
        covariance = _covariance(distance, linear, self._kernel)
        own = 1 + self._kernel[1] * norm
        explained = (covariance @ whiten.T).square().sum(1)
        std = (self._variance * (own - explained).clamp(min=1e-9)).sqrt()
        unit, zero = float(self._y_scaler.scale[0]), float(self._y_scaler.mean[0])
        return (covariance @ weights * unit + zero)[:, None], (std * unit)[:, None]


def _covariance(distance: Any, linear: Any, kernel: tuple[float, float, float]) -> Any:
    """The covariance, of arrays or of tensors, but for the noise and the overall factor."""
    scale, share, _ = kernel
    r = distance * (5**0.5 / scale)
    smooth = 1 + r + r * r / 3
    return smooth * (np.exp(-r) if isinstance(r, np.ndarray) else torch.exp(-r)) + share * linear
