"""The base of predictors that fit each column (metric, task) by itself, on the rows where it is known."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import numpy as np

from nasbench_mr import features
from nasbench_mr.arrays import Codes, Floats
from nasbench_mr.npz import State
from nasbench_mr.predictors.base import Predictor, Scaler


class ColumnModel(abc.ABC):
    """A model of one column: scaled features `(n, F)` to scaled values `(n,)`."""

    @classmethod
    @abc.abstractmethod
    def fit(cls, x: Floats, y: Floats, seed: int, **options: Any) -> ColumnModel: ...

    @abc.abstractmethod
    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Return mean and std, `(n,)` each."""

    @abc.abstractmethod
    def state(self) -> State: ...

    @classmethod
    @abc.abstractmethod
    def restore(cls, state: State) -> ColumnModel: ...


class ByColumn(Predictor):
    """A predictor made of one `ColumnModel` for each column."""

    joint = False
    model: ClassVar[type[ColumnModel]]

    def _setting(self) -> dict[str, Any]:
        """Return the options of `model.fit`."""
        return {}

    def _fit(self, codes: Codes, values: Floats) -> None:
        inputs = features.of_codes(codes, self.space)
        self.x_scaler, self.y_scaler = Scaler.of(inputs), Scaler.of(values)
        x, y = self.x_scaler.apply(inputs), self.y_scaler.apply(values)
        known = np.isfinite(y)
        self.columns = [
            self.model.fit(x[rows], column[rows], self.seed, **self._setting())
            for column, rows in zip(y.T, known.T, strict=True)
        ]

    def _predict(self, codes: Codes) -> tuple[Floats, Floats]:
        x = self.x_scaler.apply(features.of_codes(codes, self.space))
        means, stds = zip(*(column.predict(x) for column in self.columns), strict=True)
        scale = self.y_scaler.scale
        return np.stack(means, 1) * scale + self.y_scaler.mean, np.stack(stds, 1) * scale

    def _state(self) -> State:
        state = {**self.x_scaler.state("x"), **self.y_scaler.state("y")}
        for k, column in enumerate(self.columns):
            state |= {f"{k}.{key}": array for key, array in column.state().items()}
        return state

    def _restore(self, state: State) -> None:
        self.x_scaler, self.y_scaler = Scaler.restore(state, "x"), Scaler.restore(state, "y")
        self.columns = []
        for k in range(len(self.names)):
            prefix = f"{k}."
            own = {key.removeprefix(prefix): a for key, a in state.items() if key.startswith(prefix)}
            self.columns.append(self.model.restore(own))
