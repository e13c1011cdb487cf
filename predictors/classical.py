"""Classical predictors on the same features: `gbdt` (LightGBM), `forest` and `ridge` (scikit-learn).

Use them as baselines, as judges of another family than the ensemble, or where torch is not installed. What
they save are arrays that are checked when they are read, and NumPy answers from them. LightGBM's own text
would not do: with one digit changed it can send the library round in circles for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import space as multi_resolution
from nasbench_mr.arrays import Floats
from nasbench_mr.checks import at_least, positive, short_seed
from nasbench_mr.extras import requires
from nasbench_mr.npz import State
from nasbench_mr.predictors.base import Scaler, noise_of
from nasbench_mr.predictors.columns import ByColumn, ColumnModel
from nasbench_mr.spaces import Space


class _Nodes:
    """Regression trees as arrays, so that saved ones are read without pickles and answer with NumPy alone.

    Args:
        arrays: of the nodes of all trees, one tree after the other: "feature" (-1 in a leaf), "threshold",
            "left" (where the feature is at most the threshold) and "right" (numbers of nodes), "value" (of a
            leaf); and "roots", the trees' first nodes.
    """

    def __init__(self, arrays: State):
        self.arrays = arrays

    @classmethod
    def of(cls, trees: Iterable[State]) -> _Nodes:
        """From the arrays of single trees, whose nodes are numbered from 0, the root."""
        trees = list(trees)
        starts = np.cumsum([0, *(len(tree["feature"]) for tree in trees)])
        shifted = [
            {**tree, "left": tree["left"] + start, "right": tree["right"] + start}
            for tree, start in zip(trees, starts, strict=False)
        ]
        kinds = {"feature": np.int16, "threshold": float, "left": np.int32, "right": np.int32, "value": float}
        joined = {key: np.concatenate([t[key] for t in shifted]).astype(kind) for key, kind in kinds.items()}
        return cls({**joined, "roots": starts[:-1].astype(np.int32)})

    @classmethod
    def restore(cls, state: State) -> _Nodes:
        """Make trees from what is saved; raise `ValueError` where they are not trees."""
        arrays = {key: state[key] for key in ("feature", "threshold", "left", "right", "value", "roots")}
        # A damaged file must fail here, not send `each` in circles: children come after their parents.
        inner = np.flatnonzero(arrays["feature"] >= 0)
        count = len(arrays["feature"])
        for side in ("left", "right"):
            child = arrays[side][inner]
            if (child <= inner).any() or (child >= count).any():
                raise ValueError("its trees are malformed")
        if any(len(arrays[key]) != count for key in ("threshold", "left", "right", "value")):
            raise ValueError("its trees are incomplete")
        return cls(arrays)

    def each(self, x: npt.NDArray[np.floating]) -> Floats:
        """`(n, F)` to each tree's answer `(n, trees)`."""
        nodes = self.arrays
        at = np.broadcast_to(nodes["roots"], (len(x), len(nodes["roots"]))).copy()
        rows = np.arange(len(x))[:, None]
        feature = nodes["feature"][at]
        while (feature >= 0).any():
            inner = feature >= 0
            below = x[rows, feature] <= nodes["threshold"][at]
            at = np.where(inner, np.where(below, nodes["left"][at], nodes["right"][at]), at)
            feature = nodes["feature"][at]
        return np.asarray(nodes["value"][at])


class _BoostedTrees(ColumnModel):
    """LightGBM models, each fitted without one fold; their mean, and their errors on those folds."""

    FOLDS = 5

    def __init__(self, nodes: _Nodes, models: int, noise: float):
        self.nodes, self.models, self.noise = nodes, models, noise

    @classmethod
    def fit(cls, x: Floats, y: Floats, seed: int, **options: Any) -> _BoostedTrees:
        with requires("search", "the predictor 'gbdt'"):
            import lightgbm
        n = len(y)
        parameters = {
            "objective": "regression",
            "num_leaves": options["leaves"],
            "learning_rate": options["rate"],
            # Few codes must still split.
            "min_data_in_leaf": int(np.clip(n // 20, 2, 10)),
            "min_data_in_bin": 1 if n < 200 else 3,
            "feature_fraction": 0.3,
            "bagging_fraction": 0.6 if n >= 10 else 1.0,
            "bagging_freq": 1,
            "lambda_l2": 1.0,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "seed": short_seed(seed),
            "verbosity": -1,
        }
        models = min(cls.FOLDS, n)
        fold = np.random.default_rng(seed).permutation(n) % models
        trees = []
        for k in range(models):
            data = lightgbm.Dataset(x[fold != k], y[fold != k])
            booster = lightgbm.train(parameters, data, num_boost_round=options["rounds"])
            trees += cls._trees(booster.model_to_string(), options["rounds"])
        model = cls(_Nodes.of(trees), models, 0.0)
        each = model._each(x)
        model.noise = float(noise_of(y - each[np.arange(n), fold], each.var(1)))
        return model

    @staticmethod
    def _trees(text: str, rounds: int) -> list[State]:
        """Return the trees of a LightGBM model, filled up with empty ones where nothing was left to split."""
        trees = []
        for block in text.partition("end of trees")[0].split("Tree=")[1:]:
            entries = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            tree = {
                key: np.array(entries.get(name, "").split(), float)
                for key, name in (
                    ("feature", "split_feature"),
                    ("threshold", "threshold"),
                    ("left", "left_child"),
                    ("right", "right_child"),
                    ("value", "leaf_value"),
                )
            }
            # Leaves, numbered -1, -2, ... as children, follow the inner nodes here.
            inner, leaves = len(tree["feature"]), len(tree["value"])
            for side in ("left", "right"):
                child = tree[side]
                tree[side] = np.append(np.where(child < 0, inner - 1 - child, child), np.zeros(leaves))
            tree["feature"] = np.append(tree["feature"], np.full(leaves, -1.0))
            tree["threshold"] = np.append(tree["threshold"], np.zeros(leaves))
            tree["value"] = np.append(np.zeros(inner), tree["value"])
            trees.append(tree)
        empty = {key: np.zeros(1) for key in ("threshold", "left", "right", "value")} | {
            "feature": -np.ones(1)
        }
        return trees + [empty] * (rounds - len(trees))

    def _each(self, x: Floats) -> Floats:
        """`(n, F)` to each model's answer `(n, models)`."""
        return np.asarray(self.nodes.each(x).reshape(len(x), self.models, -1).sum(2))

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        each = self._each(x)
        return each.mean(1), np.sqrt(each.var(1) + self.noise**2)

    def state(self) -> State:
        return {**self.nodes.arrays, "models": np.array(self.models), "noise": np.array(self.noise)}

    @classmethod
    def restore(cls, state: State) -> _BoostedTrees:
        return cls(_Nodes.restore(state), int(state["models"]), float(state["noise"]))


class GBDT(ByColumn):
    """Gradient-boosted trees (LightGBM), five models on overlapping four fifths of the data.

    Args:
        seed, space: see `Predictor`.
        rounds: trees in each model.
        leaves: of a tree, at most.
        rate: the share of what is left to explain that a tree takes off.
    """

    model = _BoostedTrees

    def __init__(
        self,
        seed: int = 0,
        space: Space = multi_resolution,
        rounds: int = 300,
        *,
        leaves: int = 10,
        rate: float = 0.05,
    ):
        super().__init__(seed, space)
        self.rounds, self.leaves = at_least(1, "rounds", rounds), at_least(2, "leaves", leaves)
        self.rate = positive("rate", rate, "a share, at most 1", 1.0)

    def _setting(self) -> dict[str, Any]:
        return {"rounds": self.rounds, "leaves": self.leaves, "rate": self.rate}


class _Trees(ColumnModel):
    """A random forest; `noise` is the std of what no forest explains."""

    def __init__(self, nodes: _Nodes, noise: float):
        self.nodes, self.noise = nodes, noise

    @classmethod
    def fit(cls, x: Floats, y: Floats, seed: int, **options: Any) -> _Trees:
        with requires("search", "the predictor 'forest'"):
            from sklearn.ensemble import RandomForestRegressor
        forest = RandomForestRegressor(
            options["trees"],
            max_features=options["features"],
            min_samples_leaf=options["leaf"],
            random_state=short_seed(seed),
            n_jobs=1,
        ).fit(x.astype(np.float32), y)
        nodes = _Nodes.of(
            {
                "feature": np.maximum(tree.feature, -1),
                "threshold": tree.threshold,
                "left": tree.children_left,
                "right": tree.children_right,
                "value": tree.value[:, 0, 0],
            }
            for tree in (estimator.tree_ for estimator in forest.estimators_)
        )
        model = cls(nodes, 0.0)
        each = model._each(x)
        unseen = np.ones(each.shape, bool)
        for k, rows in enumerate(forest.estimators_samples_):
            unseen[rows, k] = False
        # Out of bag: only the trees that never saw a row. With few codes every tree may have seen one.
        trees_left = unseen.sum(1)
        error = np.where(trees_left, y - (each * unseen).sum(1) / np.maximum(trees_left, 1), np.nan)
        model.noise = float(noise_of(error, cls._spread(each)))
        return model

    def _each(self, x: Floats) -> Floats:
        # scikit-learn's trees compare single-precision features.
        return self.nodes.each(x.astype(np.float32))

    @staticmethod
    def _spread(each: Floats) -> Floats:
        # A forest's mean varies little; the spread of its trees stands for the ignorance about a code.
        return np.asarray(each.var(1) / 4)

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        each = self._each(x)
        return each.mean(1), np.sqrt(self._spread(each) + self.noise**2)

    def state(self) -> State:
        return {**self.nodes.arrays, "noise": np.array(self.noise)}

    @classmethod
    def restore(cls, state: State) -> _Trees:
        return cls(_Nodes.restore(state), float(state["noise"]))


class Forest(ByColumn):
    """A random forest; its std comes from the trees' spread and the error out of bag.

    Args:
        seed, space: see `Predictor`.
        trees: how many.
        features: the share of the features among which a split is chosen.
        leaf: codes in a leaf, at least.
    """

    model = _Trees

    def __init__(
        self,
        seed: int = 0,
        space: Space = multi_resolution,
        trees: int = 100,
        *,
        features: float = 0.33,
        leaf: int = 2,
    ):
        super().__init__(seed, space)
        self.trees, self.leaf = at_least(1, "trees", trees), at_least(1, "leaf", leaf)
        self.features = positive("features", features, "a share, at most 1", 1.0)

    def _setting(self) -> dict[str, Any]:
        return {"trees": self.trees, "features": self.features, "leaf": self.leaf}


class _Linear(ColumnModel):
    """Bayesian linear regression on the features and their squares."""

    def __init__(self, state: State):
        self._state = state
        self.scaler = Scaler.restore(state, "q")

    @classmethod
    def fit(cls, x: Floats, y: Floats, seed: int, **options: Any) -> _Linear:
        with requires("search", "the predictor 'ridge'"):
            from sklearn.linear_model import BayesianRidge
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


class Ridge(ByColumn):
    """Bayesian ridge regression on the features and their squares; the penalty by marginal likelihood.

    Args:
        seed, space: see `Predictor`; nothing in it is random.
    """

    model = _Linear
