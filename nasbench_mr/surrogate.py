"""Surrogates: what a release carries to answer for codes that no one trained.

`load_surrogate` reads one and `predict` asks it, with NumPy alone. A surrogate is an `ensemble` fitted on the
whole tables of all tasks together (`predictors.fit_surrogates`), reduced to one task's metrics, with the
table's codes to tell how far from them a code is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nasbench_mr import features, npz, spaces
from nasbench_mr.arrays import Codes, Floats
from nasbench_mr.errors import InvalidArgumentError, NasbenchMRError
from nasbench_mr.npz import State
from nasbench_mr.spaces import Space

_FORMAT = "nasbench-mr surrogate"
#: Codes are answered in blocks of this many, the last one filled up: products of matrices of one shape add in
#: one order, so that a code's answer does not depend, not even in its last bit, on what else was asked.
_BLOCK = 8


class Surrogate(spaces.Spacious):
    """Metrics of one task, for any code of its space. Made by `load_surrogate`.

    Attributes:
        names: the metrics, in the order of the columns of `predict`.
        space: the codes' search space.
    """

    def __init__(self, names: Sequence[str], space: Space, state: State):
        self.names, self.space = tuple(names), space
        self._state = state
        self._noise, self._spread = state["noise"] ** 2, state["spread"] ** 2
        self._layers = [(state[f"weight{k}"], state[f"bias{k}"]) for k in range(layers(state))]
        self._table = self._points(space.check(state["codes"].astype(np.int16)))
        # Where arrays do not fit each other, this fails now and not at the first question.
        m = len(self.names)
        shapes = {"bounds": (2, m), "noise": (m,), "y_mean": (m,), "y_scale": (m,)}
        answers = self._block(np.repeat(space.LOWER[None], _BLOCK, axis=0))
        if any(state[key].shape != shape for key, shape in shapes.items()) or not all(
            answer.shape == (_BLOCK, m) and np.isfinite(answer).all() for answer in answers
        ):
            raise ValueError("its arrays do not fit its metrics")

    def predict(self, codes: object) -> tuple[Floats, Floats]:
        """Mean and standard deviation of a new measurement of each code.

        The same code gets the same numbers, to the last bit, alone or among others.

        Args:
            codes: `(n, DIM)`, or one code.

        Returns:
            `(n, m)` and `(n, m)`, one column for each of `names`; means are within the metrics' bounds.
        """
        checked = self.space.check(codes)
        n = len(checked)
        mean, std = np.empty((n, len(self.names))), np.empty((n, len(self.names)))
        for start in range(0, n, _BLOCK):
            block = checked[start : start + _BLOCK]
            size = len(block)
            if size < _BLOCK:
                block = np.concatenate([block, np.repeat(block[-1:], _BLOCK - size, axis=0)])
            means, stds = self._block(block)
            mean[start : start + size], std[start : start + size] = means[:size], stds[:size]
        return mean, std

    def _block(self, codes: Codes) -> tuple[Floats, Floats]:
        state = self._state
        x = (features.of_codes(codes, self.space) - state["x_mean"]) / state["x_scale"]
        x = x.astype(np.float32)
        for k, (weight, bias) in enumerate(self._layers):
            if k:
                with np.errstate(over="ignore"):  # x / infinity is the 0 it should be
                    x = x / (1 + np.exp(-x))  # swish
            x = x @ weight + bias  # (members, codes, units)
        outputs = x.astype(np.float64)
        mean = outputs.mean(axis=0) * state["y_scale"] + state["y_mean"]
        std = np.sqrt(outputs.var(axis=0, ddof=1) * self._spread + self._noise) * state["y_scale"]
        return np.clip(mean, *state["bounds"]), std

    def distance(self, codes: object) -> Floats:
        """Return the grid steps (L1) from each code to the nearest tabulated one, `(n,)`; 0 where tabulated.

        Of choices without an order, such as the operations of NAS-Bench-201, how many are others.
        """
        nearest = [self._steps(point[:, None]).min() for point in self._points(codes).T]
        return np.array(nearest, np.float64)

    def _steps(self, point: npt.NDArray[np.integer]) -> npt.NDArray[np.int16]:
        """Return the steps from a point, `(DIM, 1)`, to every tabulated code: `(n,)`."""
        choices = self.space.CHOICES
        apart = np.abs(self._table - point)
        if choices.any():
            apart[choices] = apart[choices] > 0
        total: npt.NDArray[np.int16] = apart.sum(axis=0, dtype=np.int16)
        return total

    def _points(self, codes: object) -> npt.NDArray[np.integer]:
        """`(DIM, n)` positions of values, few bytes each, as a query looks at all of the table."""
        steps = (self.space.check(codes) - self.space.LOWER) // self.space.STEP
        # Differences of positions fit as well.
        small = max(map(len, spaces.levels(self.space))) <= 128
        return np.ascontiguousarray(steps.T, np.int8 if small else np.int16)

    @property
    def state(self) -> State:
        """Its arrays by name: scalers, layers, bounds and the table's codes. Not to be changed."""
        return self._state

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one npz file, without pickles; `load_surrogate` reads it back."""
        npz.write(path, _FORMAT, {"names": self.names, "space": spaces.told(self.space)}, self._state)


def layers(state: State) -> int:
    """Return how many layers the networks of a surrogate's or ensemble's state have."""
    return sum(key.startswith("weight") for key in state)


def load_surrogate(path: str | os.PathLike[str]) -> Surrogate:
    """Return what `Surrogate.save` wrote; raise `InvalidArgumentError` for any other file."""
    header, state = npz.read(path, _FORMAT)
    try:
        return Surrogate(header["names"], spaces.of(header["space"]), state)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, NasbenchMRError) as error:
        raise InvalidArgumentError(f"{path} is a damaged surrogate file: {error}") from error
