"""Surrogates: what a release carries to answer for codes that no one trained.

`load_surrogate` reads one, with NumPy alone; `fit_surrogates` makes a new version of a release that has one
for each of its tasks. A surrogate is an `ensemble` fitted on the whole tables of all tasks together, reduced
to one task's metrics, with the table's codes to tell how far from them a code is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import release as releases
from nasbench_mr import spaces
from nasbench_mr.errors import InvalidArgumentError, UnknownNameError
from nasbench_mr.predictors import features
from nasbench_mr.predictors.base import Codes, Floats, Scaler, State, read_archive, write_archive
from nasbench_mr.spaces import Space

if TYPE_CHECKING:
    from nasbench_mr.benchmark import Benchmark
    from nasbench_mr.predictors.ensemble import Ensemble
    from nasbench_mr.release import Release
    from nasbench_mr.tasks import Task

_FORMAT = "nasbench-mr surrogate"
#: Codes are answered in blocks of this many, the last one filled up: products of matrices of one shape add in
#: one order, so that a code's answer does not depend, not even in its last bit, on what else was asked.
_BLOCK = 8
#: Splits that give the held-out scores, and the least codes of a table that leave something to test on.
_SPLITS, _LEAST = 3, 20


class Surrogate:
    """Metrics of one task, for any code of its space. Made by `load_surrogate`.

    Attributes:
        names: the metrics, in the order of the columns of `predict`.
        space: the codes' search space.
    """

    def __init__(self, names: Sequence[str], space: Space, state: State):
        self.names, self.space = tuple(names), space
        self._state = state
        self._x, self._y = Scaler.restore(state, "x"), Scaler.restore(state, "y")
        self._noise, self._spread = state["noise"] ** 2, state["spread"] ** 2
        self._layers = [(state[f"weight{k}"], state[f"bias{k}"]) for k in range(_layers(state))]
        self._table = self._points(space.check(state["codes"].astype(np.int16)))
        # Where arrays do not fit each other, this fails now and not at the first question.
        m = len(self.names)
        shapes = {"bounds": (2, m), "noise": (m,), "y_mean": (m,), "y_scale": (m,)}
        answers = self._block(np.repeat(space.LOWER[None], _BLOCK, axis=0))
        if any(state[key].shape != shape for key, shape in shapes.items()) or not all(
            answer.shape == (_BLOCK, m) and np.isfinite(answer).all() for answer in answers
        ):
            raise ValueError("its arrays do not fit its metrics")

    @classmethod
    def of(cls, ensemble: Ensemble, task: Task, codes: Codes) -> Surrogate:
        """The part of a fitted ensemble, whose columns are "task/metric", that answers for one task.

        Args:
            codes: `(n, DIM)` the task's tabulated codes.
        """
        prefix = f"{task.name}/"
        columns = [k for k, name in enumerate(ensemble.names) if name.startswith(prefix)]
        names = [ensemble.names[k].removeprefix(prefix) for k in columns]
        state = ensemble._state()
        last = _layers(state) - 1
        for key in (f"weight{last}", f"bias{last}", "y_mean", "y_scale", "noise"):
            state[key] = state[key][..., columns]
        metrics = [task.metric(name) for name in names]
        state["bounds"] = np.array(
            [
                [-np.inf if m.lower is None else m.lower for m in metrics],
                [np.inf if m.upper is None else m.upper for m in metrics],
            ]
        )
        state["codes"] = codes.astype(np.uint8)
        return cls(names, ensemble.space, state)

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
        x = self._x.apply(features.of_codes(codes, self.space)).astype(np.float32)
        for k, (weight, bias) in enumerate(self._layers):
            if k:
                with np.errstate(over="ignore"):  # x / infinity is the 0 it should be
                    x = x / (1 + np.exp(-x))  # swish
            x = x @ weight + bias  # (members, codes, units)
        outputs = x.astype(np.float64)
        mean = outputs.mean(axis=0) * self._y.scale + self._y.mean
        std = np.sqrt(outputs.var(axis=0, ddof=1) * self._spread + self._noise) * self._y.scale
        return np.clip(mean, *self._state["bounds"]), std

    def distance(self, codes: object) -> Floats:
        """Steps of the grid (L1) from each code to the nearest tabulated one: `(n,)`; 0 for a tabulated one.

        In NAS-Bench-201, whose operations have no order, edges with another operation.
        """
        nearest = [
            np.abs(self._table - point[:, None]).sum(axis=0, dtype=np.int16).min()
            for point in self._points(codes).T
        ]
        # Without an order, another value of a dimension moves two of its coordinates by one.
        return np.array(nearest, np.float64) / (1 if self._ordered else 2)

    @property
    def _ordered(self) -> bool:
        return len(self._table) == self.space.DIM

    def _points(self, codes: object) -> npt.NDArray[np.int8]:
        """`(R, n)` points whose L1 distances count steps; in bytes, as a query looks at all of the table."""
        points = self.space.relax(codes)
        steps = points / self.space.STEP if points.shape[1] == self.space.DIM else points
        return np.ascontiguousarray(steps.T, np.int8)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one npz file, without pickles; `load_surrogate` reads it back."""
        write_archive(path, _FORMAT, {"names": self.names, "space": self.space.NAME}, self._state)


def _layers(state: State) -> int:
    return sum(key.startswith("weight") for key in state)


def load_surrogate(path: str | os.PathLike[str]) -> Surrogate:
    """The surrogate that `Surrogate.save` wrote.

    Raises:
        InvalidArgumentError: `path` is no surrogate's file, or a damaged one.
    """
    header, state = read_archive(path, _FORMAT)
    try:
        return Surrogate(header["names"], spaces.get(header["space"]), state)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, UnknownNameError) as error:
        raise InvalidArgumentError(f"{path} is a damaged surrogate file: {error}") from error


def fit_surrogates(
    bench: Benchmark,
    tasks: Sequence[str] | None = None,
    seed: int = 0,
    progress: bool = False,
    version: str | None = None,
    target: Path | None = None,
    **options: Any,
) -> Release:
    """Makes a new version of a release, with surrogates; the release itself stays as it is.

    The tasks of a search space are fitted together. `release.json` gets, under "surrogates", how each was
    fitted and its scores on codes held out of such a fit: means over three fixed splits, see `evaluation`.

    Args:
        bench: the opened release.
        tasks: which; all by default. Others keep the surrogates they have.
        seed: of the fits.
        progress: show a progress bar.
        version, target: of the new release, see `release.extend`.
        options: of the predictor "ensemble".

    Raises:
        UnknownTaskError: the release has no such task.
        ReleaseError: the version is malformed, or taken by other content.
        InvalidArgumentError: a table has too few codes (fewer than 20), or wrong options.
    """
    from nasbench_mr.predictors import evaluation
    from nasbench_mr.predictors.ensemble import Ensemble

    if version is not None:
        releases.check_name(bench.release.name, version)
    chosen = [bench.task(name) for name in (bench.tasks if tasks is None else tasks)]
    for task in chosen:
        if (count := len(bench.codes(task.name))) < _LEAST:
            raise InvalidArgumentError(
                f"the table of {task.name!r} has {count} codes; a surrogate needs at least {_LEAST}"
            )
    groups = [[t.name for t in chosen if t.space == name] for name in dict.fromkeys(t.space for t in chosen)]
    fitted: dict[str, Surrogate] = {}
    about: dict[str, Any] = {}
    for names in groups:
        held_out = evaluation.evaluate(
            "ensemble", bench, names, train=None, seeds=_SPLITS, options=options, progress=progress
        )
        data = evaluation.gather(bench, names)
        ensemble = Ensemble(seed, data.space, **options).fit(data.codes, data.values, data.names)
        for task in data.tasks:
            own = held_out[held_out["task"] == task.name]
            fitted[task.name] = Surrogate.of(ensemble, task, bench.codes(task.name))
            about[task.name] = {
                "predictor": "ensemble",
                "options": options,
                "seed": seed,
                "fitted_with": list(names),
                "held_out": {
                    "metric": task.objective,
                    "splits": _SPLITS,
                    **{name: round(own[name].mean()) for name in ("train", "test")},
                    **{name: round(float(own[name].mean()), 4) for name in evaluation.SCORES},
                },
            }

    def fill(folder: Path) -> None:
        for name, surrogate in fitted.items():
            surrogate.save(folder / "surrogates" / f"{name}.npz")

    known = bench.release.about.get("surrogates", {})
    return releases.extend(bench.release, None, fill, {"surrogates": {**known, **about}}, version, target)
