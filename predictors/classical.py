"""Classical predictors on the same features: `gbdt` (LightGBM), `forest`, `gp` and `ridge` (scikit-learn).

Use them as baselines, as judges of another family than the ensemble, or where torch is not installed. Each
column (metric, task) gets a model of its own, fitted on the rows where it is known.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from nasbench_mr import space as multi_resolution
from nasbench_mr.errors import InvalidArgumentError, missing_extra
from nasbench_mr.predictors import features
from nasbench_mr.predictors.base import Codes, Floats, Predictor, Scaler, State, at_least, noise_of
from nasbench_mr.spaces import Space


class _ColumnModel(abc.ABC):
    """A model of one column: scaled features `(n, F)` to scaled values `(n,)`."""

    @classmethod
    @abc.abstractmethod
    def fit(cls, x: Floats, y: Floats, seed: int, **options: Any) -> _ColumnModel: ...

    @abc.abstractmethod
    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Mean and std, `(n,)` each."""

    @abc.abstractmethod
    def state(self) -> State: ...

    @classmethod
    @abc.abstractmethod
    def restore(cls, state: State) -> _ColumnModel: ...


class _ByColumn(Predictor):
    """A predictor made of one `_ColumnModel` for each column."""

    joint = False
    model: ClassVar[type[_ColumnModel]]

    def _setting(self) -> dict[str, Any]:
        """The options of `model.fit`."""
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


class _BoostedTrees(_ColumnModel):
    """LightGBM models, each fitted without one fold; their mean, and their errors on those folds."""

    FOLDS = 5

    def __init__(self, boosters: list[Any], noise: float):
        self.boosters, self.noise = boosters, noise

    @classmethod
    def fit(cls, x: Floats, y: Floats, seed: int, **options: Any) -> _BoostedTrees:
        try:
            import lightgbm
        except ImportError:
            raise missing_extra("lightgbm", "search", "the predictor 'gbdt'") from None
        n = len(y)
        parameters = {
            "objective": "regression",
            "num_leaves": 10,
            "learning_rate": 0.05,
            # Few codes must still split.
            "min_data_in_leaf": int(np.clip(n // 20, 2, 10)),
            "min_data_in_bin": 1 if n < 200 else 3,
            "feature_fraction": 0.3,
            "bagging_fraction": 0.6,
            "bagging_freq": 1,
            "lambda_l2": 1.0,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "seed": seed,
            "verbosity": -1,
        }
        fold = np.random.default_rng(seed).permutation(n) % min(cls.FOLDS, n)
        boosters, predicted = [], np.empty((fold.max() + 1, n))
        for k in range(fold.max() + 1):
            data = lightgbm.Dataset(x[fold != k], y[fold != k])
            booster = lightgbm.train(parameters, data, num_boost_round=options["rounds"])
            boosters.append(booster)
            predicted[k] = booster.predict(x, num_threads=1)
        error = y - predicted[fold, np.arange(n)]
        return cls(boosters, float(noise_of(error, predicted.var(0))))

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        each = np.stack([booster.predict(x, num_threads=1) for booster in self.boosters])
        return each.mean(0), np.sqrt(each.var(0) + self.noise**2)

    def state(self) -> State:
        texts = {
            f"model{k}": np.frombuffer(booster.model_to_string().encode(), np.uint8)
            for k, booster in enumerate(self.boosters)
        }
        return {**texts, "noise": np.array(self.noise)}

    @classmethod
    def restore(cls, state: State) -> _BoostedTrees:
        import lightgbm

        texts = [state[f"model{k}"].tobytes().decode() for k in range(len(state) - 1)]
        return cls([lightgbm.Booster(model_str=text) for text in texts], float(state["noise"]))


class GBDT(_ByColumn):
    """Gradient-boosted trees (LightGBM), five models on overlapping four fifths of the data.

    Args:
        seed, space: see `Predictor`.
        rounds: trees in each model.
    """

    kind = "gbdt"
    model = _BoostedTrees

    def __init__(self, seed: int = 0, space: Space = multi_resolution, rounds: int = 300):
        super().__init__(seed, space)
        self.rounds = at_least(1, "rounds", rounds)

    def _setting(self) -> dict[str, Any]:
        return {"rounds": self.rounds}


class _Trees(_ColumnModel):
    """A random forest as arrays, so that a saved one is read without pickles.

    Args:
        nodes: of all trees, one after the other: `feature` (-1 in a leaf), `threshold`, `left` and `right`
            (numbers of nodes) and `value`.
        roots: the trees' first nodes.
        noise: std of what no forest explains.
    """

    def __init__(self, nodes: State, roots: npt.NDArray[np.int32], noise: float):
        self.nodes, self.roots, self.noise = nodes, roots, noise

    @classmethod
    def fit(cls, x: Floats, y: Floats, seed: int, **options: Any) -> _Trees:
        try:
            from sklearn.ensemble import RandomForestRegressor
        except ImportError:
            raise missing_extra("sklearn", "search", "the predictor 'forest'") from None
        forest = RandomForestRegressor(
            options["trees"], max_features=0.33, min_samples_leaf=2, random_state=seed, n_jobs=1
        ).fit(x.astype(np.float32), y)
        trees = [tree.tree_ for tree in forest.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1].astype(np.int32)
        nodes = {
            "feature": np.concatenate([tree.feature for tree in trees]).astype(np.int16),
            "threshold": np.concatenate([tree.threshold for tree in trees]),
            "value": np.concatenate([tree.value[:, 0, 0] for tree in trees]),
        }
        for side, numbers in (("left", "children_left"), ("right", "children_right")):
            shifted = [getattr(tree, numbers) + root for tree, root in zip(trees, roots, strict=True)]
            nodes[side] = np.concatenate(shifted).astype(np.int32)
        nodes["feature"][nodes["feature"] < 0] = -1
        model = cls(nodes, roots, 0.0)
        each = model._each(x)
        unseen = np.ones(each.shape, bool)
        for k, rows in enumerate(forest.estimators_samples_):
            unseen[rows, k] = False
        # Out of bag: only the trees that never saw a row. With few codes every tree may have seen one.
        trees_left = unseen.sum(1)
        error = np.where(trees_left, y - (each * unseen).sum(1) / np.maximum(trees_left, 1), np.nan)
        # A forest's mean varies little; the spread of its trees stands for the ignorance about a code.
        model.noise = float(noise_of(error, cls._spread(each)))
        return model

    def _each(self, x: Floats) -> Floats:
        """`(n, F)` to each tree's answer `(n, trees)`."""
        nodes = self.nodes
        x = x.astype(np.float32)
        at = np.broadcast_to(self.roots, (len(x), len(self.roots))).copy()
        rows = np.arange(len(x))[:, None]
        feature = nodes["feature"][at]
        while (feature >= 0).any():
            inner = feature >= 0
            below = x[rows, feature] <= nodes["threshold"][at]
            at = np.where(inner, np.where(below, nodes["left"][at], nodes["right"][at]), at)
            feature = nodes["feature"][at]
        return np.asarray(nodes["value"][at])

    @staticmethod
    def _spread(each: Floats) -> Floats:
        return np.asarray(each.var(1) / 4)

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        # In slices: a row visits a node of every tree.
        parts = [self._each(x[k : k + 4096]) for k in range(0, len(x), 4096)]
        mean = np.concatenate([part.mean(1) for part in parts])
        spread = np.concatenate([self._spread(part) for part in parts])
        return mean, np.sqrt(spread + self.noise**2)

    def state(self) -> State:
        return {**self.nodes, "roots": self.roots, "noise": np.array(self.noise)}

    @classmethod
    def restore(cls, state: State) -> _Trees:
        nodes = {key: array for key, array in state.items() if key not in ("roots", "noise")}
        # A damaged file must fail here, not send `_each` in circles: children come after their parents.
        inner = np.flatnonzero(nodes["feature"] >= 0)
        count = len(nodes["feature"])
        for side in ("left", "right"):
            child = nodes[side][inner]
            if (child <= inner).any() or (child >= count).any():
                raise InvalidArgumentError("its trees are malformed")
        return cls(nodes, state["roots"], float(state["noise"]))


class Forest(_ByColumn):
    """A random forest; its std comes from the trees' spread and the error out of bag.

    Args:
        seed, space: see `Predictor`.
        trees: how many.
    """

    kind = "forest"
    model = _Trees

    def __init__(self, seed: int = 0, space: Space = multi_resolution, trees: int = 100):
        super().__init__(seed, space)
        self.trees = at_least(1, "trees", trees)

    def _setting(self) -> dict[str, Any]:
        return {"trees": self.trees}


class _GP(_ColumnModel):
    """An exact Gaussian process with its kernel's parameters fixed."""

    def __init__(self, x: Floats, y: Floats, theta: Floats):
        from sklearn.gaussian_process import GaussianProcessRegressor

        self.x, self.y, self.theta = x, y, theta
        kernel = self.kernel().clone_with_theta(theta)
        self.regressor = GaussianProcessRegressor(kernel, alpha=1e-8, optimizer=None).fit(x, y)

    @staticmethod
    def kernel() -> Any:
        """A smooth function, a linear one, and noise, of values with mean 0 and variance 1."""
        from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

        smooth = ConstantKernel(1.0, (1e-3, 1e3)) * Matern(10.0, (1.0, 1e3), nu=2.5)
        linear = ConstantKernel(1e-3, (1e-6, 1e1)) * DotProduct(sigma_0=0.0, sigma_0_bounds="fixed")
        return smooth + linear + WhiteKernel(0.2, (1e-4, 2.0))

    @classmethod
    def fit(cls, x: Floats, y: Floats, seed: int, **options: Any) -> _GP:
        try:
            from sklearn.exceptions import ConvergenceWarning
            from sklearn.gaussian_process import GaussianProcessRegressor
        except ImportError:
            raise missing_extra("sklearn", "search", "the predictor 'gp'") from None
        import warnings

        # The kernel has four parameters: some hundred codes settle them, at a fraction of the cubic cost.
        rows = np.random.default_rng(seed).permutation(len(y))[: options["kernel_codes"]]
        with warnings.catch_warnings():
            # A parameter at its bound is an answer (no noise, or no linear part).
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = GaussianProcessRegressor(cls.kernel(), alpha=1e-8).fit(x[rows], y[rows])
        return cls(x, y, found.kernel_.theta)

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        parts = [self.regressor.predict(x[k : k + 4096], return_std=True) for k in range(0, len(x), 4096)]
        mean, std = (np.concatenate(column) for column in zip(*parts, strict=True))
        return mean, std

    def state(self) -> State:
        return {"x": self.x, "y": self.y, "theta": self.theta}

    @classmethod
    def restore(cls, state: State) -> _GP:
        return cls(state["x"], state["y"], state["theta"])


class GaussianProcess(_ByColumn):
    """A Gaussian process: Matérn 5/2 plus linear plus noise, parameters by marginal likelihood.

    Args:
        seed, space: see `Predictor`.
        kernel_codes: at most so many codes choose the kernel's parameters; all of them are conditioned on.
    """

    kind = "gp"
    model = _GP

    def __init__(self, seed: int = 0, space: Space = multi_resolution, kernel_codes: int = 400):
        super().__init__(seed, space)
        self.kernel_codes = at_least(1, "kernel_codes", kernel_codes)

    def _setting(self) -> dict[str, Any]:
        return {"kernel_codes": self.kernel_codes}


class _Linear(_ColumnModel):
    """Bayesian linear regression on the features and their squares."""

    def __init__(self, state: State):
        self._state = state
        self.scaler = Scaler.restore(state, "q")

    @classmethod
    def fit(cls, x: Floats, y: Floats, seed: int, **options: Any) -> _Linear:
        try:
            from sklearn.linear_model import BayesianRidge
        except ImportError:
            raise missing_extra("sklearn", "search", "the predictor 'ridge'") from None
        inputs = cls._inputs(x)
        scaler = Scaler.of(inputs)
        found = BayesianRidge().fit(scaler.apply(inputs), y)
        return cls(
            {
                **scaler.state("q"),
                "coefficients": found.coef_,
                "intercept": np.array(found.intercept_),
                "covariance": found.sigma_,
                "noise": np.array(found.alpha_**-0.5),
            }
        )

    @staticmethod
    def _inputs(x: Floats) -> Floats:
        # Squares let a metric saturate; all products would be 2,277 inputs, and rank worse.
        return np.concatenate([x, x**2], axis=1)

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        state = self._state
        q = self.scaler.apply(self._inputs(x))
        variance = ((q @ state["covariance"]) * q).sum(1) + state["noise"] ** 2
        return q @ state["coefficients"] + state["intercept"], np.sqrt(variance)

    def state(self) -> State:
        return self._state

    @classmethod
    def restore(cls, state: State) -> _Linear:
        return cls(state)


class Ridge(_ByColumn):
    """Bayesian ridge regression on the features and their squares; the penalty by marginal likelihood.

    Args:
        seed, space: see `Predictor`; nothing in it is random.
    """

    kind = "ridge"
    model = _Linear
