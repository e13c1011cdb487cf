"""What every predictor is: fitted on codes and values, asked for means and standard deviations.

`make("ensemble")` gives an unfitted one, `names()` lists them, `load(path)` reads back what `save` wrote.
A predictor file is one npz archive without pickles: arrays, and a JSON header that says which predictor,
space, seed, options and columns they belong to. A new predictor subclasses `Predictor` and gets a row in
`PREDICTORS`.
"""

from __future__ import annotations

import abc
import contextlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from nasbench_mr import npz, plugins, spaces
from nasbench_mr import space as multi_resolution
from nasbench_mr.arrays import ByValue, Codes, Floats
from nasbench_mr.checks import finite, plain
from nasbench_mr.checks import seed as check_seed
from nasbench_mr.errors import (
    InvalidArgumentError,
    MissingExtraError,
    NotFittedError,
    UnknownNameError,
    did_you_mean,
)
from nasbench_mr.npz import State
from nasbench_mr.plugins import Registry
from nasbench_mr.spaces import Space

if TYPE_CHECKING:
    import torch

    from nasbench_mr.tasks import Task


#: Zero-cost proxies that take a network, in the order of their tables' columns; `zero_cost` explains and
#: computes them. With those that a code has by itself, all there are.
OF_NETWORKS = ("grad_norm", "snip", "grasp", "synflow", "fisher", "jacob_cov", "naswot", "zen")
PROXIES = (*OF_NETWORKS, "params", "macs")
#: Every predictor there is, the default first.
PREDICTORS = Registry["type[Predictor]"](
    "predictor",
    {
        "ensemble": "nasbench_mr.predictors.ensemble:Ensemble",
        "ncp-mlp": "nasbench_mr.predictors.ncp_mlp:NcpMlp",
        "gbdt": "nasbench_mr.predictors.classical:GBDT",
        "forest": "nasbench_mr.predictors.classical:Forest",
        "gp": "nasbench_mr.predictors.gaussian_process:GaussianProcess",
        "ridge": "nasbench_mr.predictors.classical:Ridge",
        "ensemble+proxies": "nasbench_mr.predictors.with_proxies:ProxyEnsemble",
        **{f"proxy-{name}": f"nasbench_mr.predictors.with_proxies:{name}" for name in PROXIES},
    },
)

#: Those that look a table of zero-cost proxies up for the tasks that their columns name ("seg/mIoU").
WITH_PROXIES = ("ensemble+proxies", *(f"proxy-{name}" for name in PROXIES))

_FORMAT = "nasbench-mr predictor"
#: The least and the largest possible value of each column; None where there is none.
Bounds = Sequence[tuple[float | None, float | None]]
#: Codes that are predicted at once.
_AT_ONCE = 2048


class _Kind:
    """`Predictor.kind`, of a class and of its instances."""

    def __get__(self, instance: object, owner: type) -> str:
        return PREDICTORS.name_of(owner)


class Predictor(ByValue, spaces.Spacious, abc.ABC):
    """A model from codes to any number of columns (metrics, tasks), with its uncertainty.

    >>> data = gather(nasbench_mr.load("mini"), "mini-seg")
    >>> model = predictors.make("ridge", seed=0).fit(data.codes[:200], data.values[:200], names=data.names)
    >>> mean, std = model.predict(data.codes[200:])
    >>> mean.shape == std.shape == (30, len(data.names))
    True

    Args:
        seed: of all its randomness; the same seed and data give the same predictions.
        space: the codes' search space, a module such as `nasbench_mr.space`.

    Attributes:
        kind: its name in the registry; of a user's own class, the dotted one.
        names: the columns' names, once fitted.
        bounds: what no value of a column can be below or above, as `fit` was told; no pair where it was not.
    """

    kind: ClassVar[str] = _Kind()  # type: ignore[assignment]
    #: Whether columns help each other; otherwise each is fitted by itself.
    joint: ClassVar[bool] = True

    #: What `__init__` was given beyond seed and space; saved with the model.
    options: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Note the options, whatever a subclass does with them; those without a name as "*args"."""
        made = super().__new__(cls)
        made.options = {}
        with contextlib.suppress(TypeError):  # which __init__ will raise
            signature = inspect.signature(cls.__init__)
            for name, value in list(signature.bind(made, *args, **kwargs).arguments.items())[1:]:
                kind = signature.parameters[name].kind
                if kind is inspect.Parameter.VAR_KEYWORD:
                    made.options |= value
                else:
                    unnamed = kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)
                    made.options["*" * unnamed + name] = value
            for name in ("seed", "space"):
                made.options.pop(name, None)
        return made

    def __init__(self, seed: int = 0, space: Space = multi_resolution):
        self.seed, self.space = check_seed(seed), space
        self.names: tuple[str, ...] = ()
        self.bounds: tuple[tuple[float | None, float | None], ...] = ()

    def fit(
        self,
        codes: object,
        values: object,
        names: Sequence[str] | None = None,
        *,
        bounds: Bounds | None = None,
    ) -> Self:
        """Fits all columns, forgetting what was fitted before.

        Args:
            codes: `(n, DIM)`, anything the space's `check` reads; n >= 2.
            values: `(n, m)` floats, or `(n,)` for one column; NaN where a value is missing.
            names: the m columns' names; "y0", "y1", ... by default.
            bounds: each column's least and largest possible value, such as `[(0, 100), (0, None)]`; means
                that are told stay within them. `evaluation.Data.bounds` has those of a table's metrics.

        Raises:
            InvalidArgumentError: shapes do not agree, a value is infinite, a column has fewer than 2 values,
                or bounds are not a pair for each column, the least first.
        """
        checked = self.space.check(codes)
        table = _check_values(values, len(checked))
        labels = tuple(f"y{k}" for k in range(table.shape[1])) if names is None else tuple(names)
        if len(labels) != table.shape[1] or len(set(labels)) != len(labels):
            raise InvalidArgumentError(
                f"names are {labels}; expected {table.shape[1]} different ones, one for each column of values"
            )
        for label, count in zip(labels, np.isfinite(table).sum(axis=0), strict=True):
            if count < 2:
                raise InvalidArgumentError(f"column {label!r} has {count} values; expected at least 2")
        pairs = _check_bounds(bounds, len(labels))
        self.names, self.bounds = labels, pairs
        self._fit(checked, table)
        return self

    def predict(self, codes: object, *, bounded: bool = True) -> tuple[Floats, Floats]:
        """Mean and standard deviation of a new measurement of each code, in the units of the values.

        Args:
            codes: `(n, DIM)`, or one code.
            bounded: whether means stay within `bounds`. Beyond these all codes are alike, so a search that
                ranks codes wants the others.

        Returns:
            `(n, m)` and `(n, m)` float64, one column for each of `names`.
        """
        self._check_fitted()
        checked = self.space.check(codes)
        if len(checked) == 0:
            return np.empty((0, len(self.names))), np.empty((0, len(self.names)))
        mean, std = np.empty((2, len(checked), len(self.names)))
        # Some at a time: features and what a model makes of them take a thousand times a code's memory.
        for start in range(0, len(checked), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            mean[rows], std[rows] = self._predict(checked[rows])
        return (np.clip(mean, *self.limits) if bounded else mean), std

    @property
    def limits(self) -> Floats:
        """The bounds as `(2, m)` numbers, infinite where there is none."""
        pairs = self.bounds or ((None, None),) * len(self.names)
        return np.array(
            [(-np.inf if low is None else low, np.inf if high is None else high) for low, high in pairs]
        ).T.reshape(2, len(pairs))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted predictor to one file; `load` reads it back.

        Raises:
            NotFittedError: it is not fitted.
            InvalidArgumentError: it is of a class that can't be imported by its name, or was given options
                without names.
        """
        self._check_fitted()
        if unnamed := [value for key, value in self.options.items() if key.startswith("*")]:
            raise InvalidArgumentError(
                f"this {self.kind} was given {unnamed[0]!r} by position; to be saved, its options need names"
            )
        # Not `self.kind`, which a subclass may have set to anything.
        name = PREDICTORS.name_of(type(self))
        header = {
            "kind": name if name in PREDICTORS else plugins.address(type(self)),
            "space": spaces.told(self.space),
            "seed": self.seed,
            "options": plain("options", self.options),
            "names": self.names,
            "bounds": self.bounds,
        }
        npz.write(path, _FORMAT, header, self._state())

    def _compared(self) -> dict[str, Any]:
        """Return what it was made of, and what it has learnt."""
        made = {"seed": self.seed, "space": self.space, "options": self.options}
        learnt = {"names": self.names, "bounds": self.bounds}
        return {**made, **learnt, **(self._state() if self.names else {})}

    def _check_fitted(self) -> None:
        if not self.names:
            raise NotFittedError(f"this {self.kind!r} predictor is not fitted: call fit(codes, values) first")

    @abc.abstractmethod
    def _fit(self, codes: Codes, values: Floats) -> None: ...

    @abc.abstractmethod
    def _predict(self, codes: Codes) -> tuple[Floats, Floats]: ...

    @abc.abstractmethod
    def _state(self) -> State:
        """All that `_restore` needs to predict alike."""

    @abc.abstractmethod
    def _restore(self, state: State) -> None: ...


class GradientPredictor(Predictor):
    """A predictor that also answers for continuous codes, with gradients."""

    @abc.abstractmethod
    def tensor(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of relaxed codes, differentiable in them.

        Args:
            x: `(n, R)` floating, as the space's `relax` gives them; on any device.

        Returns:
            `(n, m)` and `(n, m)` of the same dtype; on the grid equal to `predict(codes, bounded=False)`.
        """

    def _predict(self, codes: Codes) -> tuple[Floats, Floats]:
        import torch

        with torch.no_grad():
            mean, std = self.tensor(torch.from_numpy(self.space.relax(codes)))
        return mean.numpy(), std.numpy()


def names() -> tuple[str, ...]:
    """Return the predictors that need codes and values alone, the default first."""
    return tuple(name for name in PREDICTORS if name not in WITH_PROXIES)


def make(
    name: str | type[Predictor] = "ensemble", seed: int = 0, space: Space = multi_resolution, **options: Any
) -> Predictor:
    """Return an unfitted predictor.

    Args:
        name: one of `names()` or of `WITH_PROXIES`, or a subclass of `Predictor`, itself or by its dotted
            name ("mine.Model").
        seed: of its randomness.
        space: the search space of its codes.
        options: keyword arguments of the predictor's class.

    Raises:
        UnknownNameError: no such predictor.
        InvalidArgumentError: it has no such option.
        MissingExtraError: the library it needs is not installed.
    """
    kind = PREDICTORS.find(name, Predictor)
    shown = f"predictor {(name if isinstance(name, str) else name.__name__)!r}"
    plugins.check_options(kind, options, shown, ("seed", "space"))
    try:
        predictor: Predictor = kind(seed=seed, space=space, **options)
    except TypeError as error:
        raise InvalidArgumentError(f"{shown}: {error}") from None
    return predictor


def load(path: str | os.PathLike[str]) -> Predictor:
    """Return the fitted predictor that `Predictor.save` wrote.

    One of a class of a user's own needs its module to be imported already: a file imports nothing.

    Raises:
        InvalidArgumentError: `path` is not a predictor's file, or is damaged, or its class is not imported.
    """
    header, state = npz.read(path, _FORMAT)
    module = str(header.get("kind", "")).rpartition(".")[0]
    if module and module not in sys.modules:
        raise InvalidArgumentError(f"{path} is of {header['kind']!r}: import {module} first")
    try:
        predictor = make(
            header["kind"], header["seed"], spaces.of(header["space"]), **_plain_options(header["options"])
        )
        predictor.names = tuple(header["names"])
        predictor.bounds = _check_bounds(header.get("bounds") or None, len(predictor.names))
        for key, array in state.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{key} is not finite")
        predictor._restore(state)
        # Arrays that do not fit each other fail here, not at the first question. Two numbers of codes are
        # asked for, as the length of an array may be one of them by chance.
        for rows in ([0, 1], [0, 1, 0]):
            codes = np.stack([predictor.space.LOWER, predictor.space.UPPER])[rows]
            with np.errstate(all="ignore"):
                mean, std = predictor._predict(codes)
            if not mean.shape == std.shape == (len(rows), len(predictor.names)):
                raise ValueError(f"it predicts {mean.shape} values for {len(rows)} codes")
            if not np.isfinite(mean).all() or np.isinf(std).any() or (std < 0).any():
                raise ValueError("its predictions are not finite")
    except MissingExtraError:
        raise
    except Exception as error:  # of whatever a model makes of arrays that are not its own
        raise InvalidArgumentError(f"{path} is a damaged predictor file: {error}") from error
    return predictor


def _plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    # JSON knows no tuples; options are hashable, as they were given.
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}


def check_proxies(names: Sequence[str]) -> None:
    """Raise `UnknownNameError` where one of these is not in `PROXIES`."""
    for name in names:
        if name not in PROXIES:
            raise UnknownNameError(f"no zero-cost proxy {name!r}: {did_you_mean(name, PROXIES)}")


def check_networks(task: Task) -> None:
    """Raise `InvalidArgumentError` where a task has no networks whose proxies could be computed."""
    if task.space != multi_resolution.NAME:
        raise InvalidArgumentError(
            f"zero-cost proxies take networks of {multi_resolution.NAME!r} codes; task {task.name!r} "
            f"has codes of {task.space!r}, where only params and macs are known, by its formulas"
        )


def share(name: str, value: float) -> float:
    """Return an option in [0, 1), checked; raise `InvalidArgumentError` where it is not."""
    with contextlib.suppress(InvalidArgumentError):
        if (number := finite(name, value, least=0)) < 1:
            return number
    raise InvalidArgumentError(f"{name} is {value!r}; expected 0 <= {name} < 1")


def _check_values(values: object, n: int) -> Floats:
    try:
        table = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise InvalidArgumentError("values are an (n, m) array of floats, NaN where missing") from None
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or len(table) != n or table.shape[1] == 0:
        raise InvalidArgumentError(f"values have shape {table.shape}; expected ({n}, m): a row for each code")
    if np.isinf(table).any():
        row = int(np.flatnonzero(np.isinf(table).any(axis=1))[0])
        raise InvalidArgumentError(f"values[{row}] is infinite; expected finite numbers, NaN where missing")
    return table


def _check_bounds(bounds: Bounds | None, m: int) -> tuple[tuple[float | None, float | None], ...]:
    if bounds is None:
        return ()
    try:
        pairs = tuple((low, high) for low, high in bounds)
    except (TypeError, ValueError):
        pairs = ()
    if len(pairs) != m:
        raise InvalidArgumentError(
            f"bounds are {bounds!r}; expected {m} pairs, one for each column of values"
        )
    checked = tuple(
        (None if low is None else finite("a bound", low), None if high is None else finite("a bound", high))
        for low, high in pairs
    )
    for low, high in checked:
        if low is not None and high is not None and low >= high:
            raise InvalidArgumentError(
                f"the bounds of a column are {low:g} and {high:g}; expected (least, largest)"
            )
    return checked


class Scaler:
    """Shifts and scales columns to mean 0 and standard deviation 1, ignoring NaN."""

    def __init__(self, mean: Floats, scale: Floats):
        self.mean, self.scale = mean, scale

    @classmethod
    def of(cls, x: Floats) -> Scaler:
        mean = np.nanmean(x, axis=0)
        return cls(mean, _positive(np.nanstd(x, axis=0), mean, 1.0))

    @classmethod
    def robust(cls, x: Floats) -> Scaler:
        """Return the same by the median and the 10% and 90% quantiles, as if normal.

        A few failed trainings, far below all others, then do not set the scale.
        """
        low, middle, high = np.nanquantile(x, (0.1, 0.5, 0.9), axis=0)
        # Where most values are equal, the others must set it.
        return cls(middle, _positive((high - low) / 2.563, middle, cls.of(x).scale))

    def apply(self, x: Floats) -> Floats:
        return (x - self.mean) / self.scale

    def state(self, prefix: str) -> State:
        """Return what `restore` reads back, under keys that begin with `prefix`."""
        return {f"{prefix}_mean": self.mean, f"{prefix}_scale": self.scale}

    @classmethod
    def restore(cls, state: State, prefix: str) -> Scaler:
        return cls(state[f"{prefix}_mean"], state[f"{prefix}_scale"])


def _positive(scale: Floats, centre: Floats, otherwise: Floats | float) -> Floats:
    # A column without variation says nothing; leave it at 0 rather than magnify its rounding errors.
    return np.where(scale > 1e-9 * np.maximum(1, np.abs(centre)), scale, otherwise)


def noise_of(error: Floats, variance: Floats) -> Floats:
    """Std of what a model's own variance leaves unexplained, so that predictions miss as often as they ought.

    Args:
        error: `(n,)` or `(n, m)` errors on data the model did not see; NaN where there are none.
        variance: of the model's predictions, of the same shape.

    Returns:
        A scalar or `(m,)`; 1 (the std of scaled values) for a column without any error.
    """
    known = np.isfinite(error)
    counts = known.sum(axis=0)
    error = np.where(known, np.abs(error), np.nan)
    error = np.where(counts, error, 1.645)
    # The 90% quantile, as if normal: metrics have heavier tails, which a mean square would overstate.
    total = (np.nanquantile(error, 0.9, axis=0) / 1.645) ** 2
    spread = np.where(known, variance, 0.0).sum(axis=0) / np.maximum(counts, 1)
    return np.asarray(np.sqrt(np.maximum(total - spread, total / 4)))
