"""What single predictors promise beyond the contract."""

from __future__ import annotations

import math

import lightgbm
import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestRegressor

from nasbench_mr import cost, predictors, space
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.predictors import base, classical, ensemble, ncp_mlp


def smooth(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and one noisy column that follows their MACs, noise of std 0.1."""
    codes = space.sample(n, 0)
    return codes, np.log10(cost.macs(codes))[:, None] + np.random.default_rng(0).normal(0, 0.1, (n, 1))


# --- What they share ----------------------------------------------------------------------------------


def test_scalers_ignore_what_is_missing_and_leave_constants_alone() -> None:
    x = np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]])
    scaler = base.Scaler.of(x)
    assert scaler.mean.tolist() == [2.0, 5.0]
    assert scaler.scale.tolist() == [1.0, 1.0]
    np.testing.assert_array_equal(scaler.apply(x), [[-1, 0], [1, 0], [np.nan, 0]])
    again = base.Scaler.restore(scaler.state("x"), "x")
    assert (again.mean is scaler.mean, again.scale is scaler.scale) == (True, True)


def test_a_robust_scaler_overlooks_failed_trainings() -> None:
    bulk = np.arange(1.0, 101.0)
    failed = np.r_[bulk[:-5], np.full(5, -1000.0)][:, None]
    scaler = base.Scaler.robust(np.r_[bulk][:, None])
    # The 10% and 90% quantiles are 10.9 and 90.1, 2.563 standard deviations apart in a normal distribution.
    assert (scaler.mean[0], scaler.scale[0]) == pytest.approx((50.5, 79.2 / 2.563))
    assert base.Scaler.robust(failed).scale[0] < 1.3 * scaler.scale[0]
    # Where nine in ten are equal, the rest sets the scale.
    mostly = np.r_[np.zeros(95), np.ones(5)][:, None]
    assert base.Scaler.robust(mostly).scale[0] == pytest.approx(math.sqrt(0.05 * 0.95))


def test_noise_is_what_a_models_variance_leaves_unexplained() -> None:
    error = np.random.default_rng(0).normal(0, 5, 100_000)
    # 5^2 = 3^2 + 4^2
    assert base.noise_of(error, np.full(error.shape, 9.0)) == pytest.approx(4, rel=0.02)
    # It is never less than half of the error, whatever the model believes.
    assert base.noise_of(error, np.full(error.shape, 99.0)) == pytest.approx(2.5, rel=0.02)
    columns = np.stack([error, np.full(error.shape, np.nan)], axis=1)
    assert base.noise_of(columns, np.zeros(columns.shape)) == pytest.approx([5, 1], rel=0.02)


# --- ensemble -----------------------------------------------------------------------------------------


def test_the_ensembles_intervals_cover_what_they_say() -> None:
    codes, values = smooth(600)
    mean, std = predictors.make("ensemble").fit(codes[:300], values[:300]).predict(codes[300:])
    inside = np.abs(values[300:] - mean) <= 1.645 * std
    assert 0.85 <= inside.mean() <= 0.95
    assert std.mean() == pytest.approx(0.1, rel=0.5)


def test_the_ensembles_columns_help_each_other() -> None:
    codes, values = smooth(300)
    few = values.copy()
    few[20:150] = np.nan
    truth = np.log10(cost.macs(codes[150:]))
    alone, _ = predictors.make("ensemble").fit(codes[:20], values[:20]).predict(codes[150:])
    helped, _ = (
        predictors.make("ensemble").fit(codes[:150], np.hstack([few, values])[:150]).predict(codes[150:])
    )
    assert np.abs(helped[:, 0] - truth).mean() < np.abs(alone[:, 0] - truth).mean()


def test_the_ensemble_doubts_what_is_far_from_the_data() -> None:
    small = space.sample(200, 0, scheme="fine")
    values = np.log10(cost.macs(small))[:, None]
    model = predictors.make("ensemble").fit(small, values)
    _, near = model.predict(small)
    _, far = model.predict(space.sample(200, 1, scheme="coarse"))
    assert far.mean() > 1.5 * near.mean()


def test_failed_trainings_do_not_bend_the_ensemble() -> None:
    codes, values = smooth(300)
    truth = np.log10(cost.macs(codes[200:]))
    values[:4] -= 30  # The values' own standard deviation is 0.2.
    found = {}
    for kind in ("ensemble", "forest"):
        mean, std = predictors.make(kind).fit(codes[:200], values[:200]).predict(codes[200:])
        found[kind] = np.corrcoef(mean[:, 0], truth)[0, 1], std.mean()
    assert found["ensemble"][0] > 0.7 > found["forest"][0]
    assert found["ensemble"][1] < 0.5 < found["forest"][1]


def test_the_rate_rises_for_15_percent_of_the_steps_and_then_falls_to_nothing() -> None:
    rates = [ensemble._schedule(k / 1000) for k in range(1, 1001)]
    assert rates[149] == pytest.approx(1)
    assert (np.diff(rates[:150]) > 0).all()
    assert (np.diff(rates[150:]) < 0).all()
    assert (rates[0], rates[-1]) == pytest.approx((0.106, 0))


# --- ncp-mlp ------------------------------------------------------------------------------------------


def test_the_published_network_layer_by_layer() -> None:
    model = ncp_mlp.TaskModel(27, 3, 2, torch.Generator())
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes["norm.weight"] == (27,)
    assert shapes["shared.linear.weight"] == (256, 27)
    assert [shapes[f"groups.{k}.0.linear.weight"] for k in range(3)] == [(128, 256)] * 3
    # The main metric, the other two, MACs and parameters.
    assert [shapes[f"groups.{k}.1.weight"] for k in range(3)] == [(1, 128), (2, 128), (2, 128)]
    assert [block.dropout for block in model.modules() if isinstance(block, ncp_mlp._Block)] == [
        0.5,
        0.5,
        0.5,
        0,
    ]


def test_metrics_of_a_task_share_a_model_and_tasks_do_not() -> None:
    codes = space.sample(40, 0)
    values = np.random.default_rng(0).normal(size=(40, 4))
    values[5, 1] = np.nan
    model = ncp_mlp.NcpMlp(epochs=2).fit(codes, values, ["seg/mIoU", "video", "seg/mAcc", "other"])
    assert model.columns == [[0, 2], [1], [3]]
    assert [len(m.y_mean) for m in model.models] == [2, 1, 1]
    alone = ncp_mlp.NcpMlp(epochs=2).fit(codes, values[:, [0, 2]], ["seg/mIoU", "seg/mAcc"])
    np.testing.assert_array_equal(model.predict(codes)[0][:, [0, 2]], alone.predict(codes)[0])
    # Z-scores of the metrics' and the costs' own mean and spread.
    first = model.models[0]
    assert first.y_mean.numpy() == pytest.approx(values[:, [0, 2]].mean(0), rel=1e-5)
    assert first.cost_mean.numpy() == pytest.approx(
        [cost.macs(codes).mean(), cost.params(codes).mean()], rel=1e-5
    )


def test_a_side_metric_that_the_main_one_never_meets_is_refused() -> None:
    values = np.full((10, 2), np.nan)
    values[:5, 0], values[5:, 1] = np.arange(5), np.arange(5)
    with pytest.raises(InvalidArgumentError, match="'seg/mAcc' has no value where 'seg/mIoU' has one"):
        ncp_mlp.NcpMlp(epochs=1).fit(space.sample(10), values, ["seg/mIoU", "seg/mAcc"])


# --- trees --------------------------------------------------------------------------------------------


def test_trees_as_arrays_answer_as_the_libraries_do() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5))
    y = x[:, 0] * x[:, 1] + x[:, 2]
    settings = {"verbosity": -1, "num_leaves": 10, "num_threads": 1}
    boosted = lightgbm.train(settings, lightgbm.Dataset(x, y), num_boost_round=20)
    trees = classical._BoostedTrees._trees(boosted.model_to_string(), 25)
    assert len(trees) == 25
    assert classical._Nodes.of(trees).each(x).sum(1) == pytest.approx(boosted.predict(x, num_threads=1))
    grown = classical._Trees.fit(x, y, 0, trees=8, features=0.5, leaf=3)
    forest = RandomForestRegressor(8, max_features=0.5, min_samples_leaf=3, random_state=0).fit(x, y)
    assert grown.predict(x)[0] == pytest.approx(forest.predict(x))


def test_trees_are_as_large_as_asked_for() -> None:
    codes = space.sample(200, seed=0)
    values = np.random.default_rng(0).normal(size=(200, 1))
    for leaves in (2, 4):
        model = classical.GBDT(rounds=3, leaves=leaves, rate=0.5).fit(codes, values, ["seg/mIoU"])
        features = model.columns[0].nodes.arrays["feature"]
        # A tree of n leaves has n - 1 splits.
        assert (features >= 0).sum() == 5 * 3 * (leaves - 1)


def test_trees_that_lead_in_circles_are_refused() -> None:
    nodes = {
        "feature": np.array([0, -1, -1], np.int16),
        "threshold": np.zeros(3),
        "left": np.array([1, 0, 0], np.int32),
        "right": np.array([2, 0, 0], np.int32),
        "value": np.array([0.0, 1.0, 2.0]),
        "roots": np.array([0], np.int32),
    }
    assert classical._Nodes.restore(nodes).each(np.array([[-1.0], [1.0]])).tolist() == [[1.0], [2.0]]
    for side, child in (("left", 0), ("right", 3), ("left", -1)):
        bent = nodes[side].copy()
        bent[0] = child
        with pytest.raises(ValueError, match="malformed"):
            classical._Nodes.restore({**nodes, side: bent})
    with pytest.raises(ValueError, match="incomplete"):
        classical._Nodes.restore({**nodes, "value": nodes["value"][:2]})
