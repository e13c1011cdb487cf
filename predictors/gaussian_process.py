"""`gp`: a Gaussian process on the features of codes, Matérn 5/2 plus linear plus noise, with gradients.

Use it where values are few: as a baseline, or, as `ncp` in the loop does, refitted in milliseconds after
every few measurements. Its kernel is chosen from a grid by marginal likelihood. It needs NumPy alone, and
torch for gradients.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import features
from nasbench_mr import space as multi_resolution
from nasbench_mr.arrays import Codes, Floats
from nasbench_mr.checks import at_least, flag, positive
from nasbench_mr.npz import State
from nasbench_mr.predictors.base import GradientPredictor
from nasbench_mr.predictors.columns import ByColumn, ColumnModel
from nasbench_mr.spaces import Space

if TYPE_CHECKING:
    from torch import Tensor

#: What the marginal likelihood chooses from: length scales (scaled features are about 1.4 apart), and the
#: linear part, as shares of the smooth one's variance.
_LENGTHS, _SHARES = (0.5, 1.0, 2.0, 4.0, 8.0), (0.0, 0.1, 0.5)
#: Keeps square roots away from 0, where they have no derivative.
_TINY = 1e-12

#: Length scale, share of the linear part, and noise, both as parts of the smooth one's variance.
Kernel = tuple[float, float, float]


class _Process(ColumnModel):
    """A Gaussian process conditioned on `(n, F)` features and `(n,)` values."""

    def __init__(self, x: Floats, y: Floats, kernels: Iterable[Kernel]):
        """Condition it with each of the kernels; keep that under which the values are most likely."""
        self.x, self.y = x, y
        self._points = x / np.sqrt(x.shape[1])
        self._norms = (self._points**2).sum(1)
        linear = self._points @ self._points.T
        distance = np.sqrt(np.maximum(self._norms[:, None] + self._norms - 2 * linear, 0))
        best = -np.inf
        for kernel in kernels:
            matrix = _covariance(distance, linear, kernel, np) + kernel[2] * np.eye(len(y))
            factor = np.linalg.cholesky(matrix)
            whiten = np.linalg.inv(factor)
            weights = whiten.T @ (whiten @ y)
            # The covariance's overall factor has its best value in closed form.
            variance = max(float(y @ weights) / len(y), 1e-12)
            evidence = -len(y) * np.log(variance) / 2 - np.log(np.diag(factor)).sum()
            if evidence > best:
                best, self.kernel = evidence, kernel
                self.variance, self.weights, self.whiten = variance, weights, whiten
        if best == -np.inf:
            raise ValueError("its numbers are not finite")

    @classmethod
    def fit(cls, x: Floats, y: Floats, seed: int, **options: Any) -> _Process:
        order = np.random.default_rng(seed).permutation(len(y))
        rows, chosen = np.sort(order[: options["kernel_codes"]]), np.sort(order[: options["max_codes"]])
        kernel = options["kernel"]
        if kernel is None:
            found = cls(x[rows], y[rows], itertools.product(_LENGTHS, _SHARES, options["noises"]))
            if len(rows) == len(chosen):
                return found
            kernel = found.kernel
        return cls(x[chosen], y[chosen], [kernel])

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        return self.moments(x, np)

    def moments(self, x: Any, xp: Any, noise: bool = True) -> tuple[Any, Any]:
        """Return mean and std, `(n,)` each, of `(n, F)` scaled features, by NumPy or by torch."""

        def of(array: Floats) -> Any:
            return array if xp is np else xp.from_numpy(array).to(x)

        z = x / self.x.shape[1] ** 0.5
        linear = z @ of(self._points.T)
        norm = (z * z).sum(1)
        distance = xp.sqrt(xp.clip(norm[:, None] + of(self._norms) - 2 * linear, _TINY, None))
        covariance = _covariance(distance, linear, self.kernel, xp)
        explained = ((covariance @ of(self.whiten.T)) ** 2).sum(1)
        own = 1 + self.kernel[1] * norm - explained
        variance = self.variance * (xp.clip(own, 1e-9, None) + noise * self.kernel[2])
        return covariance @ of(self.weights), xp.sqrt(variance)

    def state(self) -> State:
        return {"x": self.x, "y": self.y, "kernel": np.array(self.kernel)}

    @classmethod
    def restore(cls, state: State) -> _Process:
        length, share, noise = state["kernel"].tolist()
        if not (length > 0 and share >= 0 and noise > 0):
            raise ValueError(f"its kernel is {[length, share, noise]}")
        return cls(state["x"], state["y"], [(length, share, noise)])


def _covariance(distance: Any, linear: Any, kernel: Kernel, xp: Any) -> Any:
    """Return the covariance, of arrays or of tensors, but for the noise and the overall factor."""
    length, share, _ = kernel
    r = distance * (5**0.5 / length)
    return (1 + r + r * r / 3) * xp.exp(-r) + share * linear


class GaussianProcess(ByColumn, GradientPredictor):
    """See the module.

        model = GaussianProcess().fit(codes, values)
        mean, std = model.predict(others)

    Args:
        seed, space: see `Predictor`.
        kernel_codes: at most so many codes choose the kernel.
        max_codes: at most so many are conditioned on, a random choice: time grows with their cube.
        noises: the noise's variance that the kernel chooses from, as parts of the smooth function's.
        latent: whether `std` is that of the function itself, not of a new measurement of it.

    Attributes:
        kernels: each column's (length scale, share of the linear part, noise), once fitted.
    """

    model = _Process
    columns: list[_Process]  # type: ignore[assignment]

    def __init__(
        self,
        seed: int = 0,
        space: Space = multi_resolution,
        *,
        kernel_codes: int = 400,
        max_codes: int = 3000,
        noises: Sequence[float] = (0.03, 0.1, 0.3, 1.0, 3.0),
        latent: bool = False,
    ):
        super().__init__(seed, space)
        self.kernel_codes = at_least(1, "kernel_codes", kernel_codes)
        self.max_codes = at_least(1, "max_codes", max_codes)
        self.noises = tuple(positive("noises", noise) for noise in noises)
        self.latent = flag("latent", latent)
        self._kernel: Kernel | None = None

    @property
    def kernels(self) -> list[Kernel]:
        return [column.kernel for column in self.columns]

    def _setting(self) -> dict[str, Any]:
        return {
            "kernel_codes": self.kernel_codes,
            "max_codes": self.max_codes,
            "noises": self.noises,
            "kernel": self._kernel,
        }

    def condition(self, codes: object, values: object) -> None:
        """Fit one column anew, but keep its kernel: a fraction of the time of `fit`."""
        self._check_fitted()
        self._kernel = self.columns[0].kernel
        try:
            self.fit(codes, values, self.names, bounds=self.bounds or None)
        finally:
            self._kernel = None

    def _predict(self, codes: Codes) -> tuple[Floats, Floats]:
        return self._answer(features.of_codes(codes, self.space), np)

    def tensor(self, x: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        self._check_fitted()
        return self._answer(features.of_tensor(x, self.space), torch)

    def _answer(self, inputs: Any, xp: Any) -> tuple[Any, Any]:
        mean, scale, y_mean, y_scale = (
            array if xp is np else xp.from_numpy(np.asarray(array)).to(inputs)
            for array in (self.x_scaler.mean, self.x_scaler.scale, self.y_scaler.mean, self.y_scaler.scale)
        )
        x = (inputs - mean) / scale
        found = [column.moments(x, xp, noise=not self.latent) for column in self.columns]
        means, stds = (xp.stack(list(column), 1) for column in zip(*found, strict=True))
        return means * y_scale + y_mean, stds * y_scale
