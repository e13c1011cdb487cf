"""NCP: each mode, exact limits, the paper's preset step by step; on predictors whose optimum is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nasbench_mr
from nasbench_mr import cost, features, nasbench201, objective, predictors, search, space, spaces
from nasbench_mr.data_builders.published import import_table
from nasbench_mr.domain import Domain
from nasbench_mr.errors import (
    InfeasibleError,
    InvalidArgumentError,
    OutOfSpaceError,
    UnknownMetricError,
    UnknownNameError,
    UnknownTaskError,
)
from nasbench_mr.grid import Grid
from nasbench_mr.objective import Goal
from nasbench_mr.predictors.base import GradientPredictor
from nasbench_mr.predictors.ncp_mlp import NcpMlp
from nasbench_mr.search import ncp as function
from nasbench_mr.search.ncp import TREND_PENALTY, Acquisition, climb, cost_limits, fit, fit_paper
from nasbench_mr.tasks import Metric, Task

SMALLEST, LARGEST = tuple(space.LOWER.tolist()), tuple(space.UPPER.tolist())
BASE = np.full(27, 2, np.int16)
BASE[list(space.CHANNEL_DIMS)] = 64


class Linear(GradientPredictor):
    """Knows its values: column k is `x @ weights[k]`, x from 0 (a dimension's least) to 1 (its largest).

    Its standard deviations are `x @ doubts[k]`, plus a little.
    """

    kind = "linear"

    def __init__(self, names: tuple[str, ...], weights: Any, doubts: Any = 0.0, where: Any = space):
        super().__init__(0, where)
        self.names = names
        width = where.relax(where.LOWER[None]).shape[1]
        self.weights, self.doubts = (
            torch.from_numpy(np.broadcast_to(np.asarray(w, float), (len(names), width)).copy())
            for w in (weights, doubts)
        )

    def tensor(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.space.NAME == space.NAME:
            low, high = (torch.from_numpy(bound.astype(float)) for bound in (space.LOWER, space.UPPER))
            x = (x - low) / (high - low)
        return x @ self.weights.T, x @ self.doubts.T + 0.01

    def _fit(self, codes: Any, values: Any) -> None: ...
    def _state(self) -> Any: ...
    def _restore(self, state: Any) -> None: ...


LARGER = Linear(("seg",), 1.0)
#: Two tasks that want opposite things of every dimension, and a third that wants a large head alone.
OPPOSED = Linear(("seg", "video", "head"), np.stack([np.ones(27), -np.ones(27), np.eye(27)[26]]))
QUICK: dict[str, Any] = {"starts": 16, "steps": 25}


def everything(out: search.NCPResult) -> np.ndarray:
    """All codes of a result."""
    return np.concatenate([out.trajectory.codes.reshape(-1, 27), out.codes, out.pareto.codes])


# --- One task -----------------------------------------------------------------------------------------


def test_it_finds_the_known_best_code() -> None:
    assert search.ncp(LARGER, "seg", **QUICK).best == LARGEST
    weights = np.where(np.arange(27) % 2, 1.0, -1.0)
    expected = tuple(np.where(weights > 0, space.UPPER, space.LOWER).tolist())
    out = search.ncp(Linear(("seg",), weights), "seg", **QUICK)
    assert out.best == expected
    assert out.predicted[0, 0] == pytest.approx((weights > 0).sum())
    assert (out.names, tuple(out.codes[0].tolist())) == (("seg",), out.best)


@pytest.mark.parametrize("limit", [12e6, 1e9, 4.3e9])
def test_limits_on_macs_are_exact_and_used(limit: float) -> None:
    out = search.ncp(LARGER, "seg", max_macs=limit, **QUICK)
    assert cost.macs(out.best)[0] <= limit
    # More is better here, and the finest step is far below 2%.
    assert cost.macs(out.best)[0] > 0.98 * limit
    assert (out.macs == cost.macs(out.codes)).all()
    assert (out.macs <= limit).all()
    assert (out.pareto.macs <= limit).all()


def test_limits_on_parameters_are_exact_too() -> None:
    out = search.ncp(LARGER, "seg", max_macs=3e9, max_params=2e6, **QUICK)
    assert 0.98 * 2e6 < cost.params(out.best)[0] <= 2e6
    assert (out.params == cost.params(out.codes)).all()
    assert max(out.params.max(), out.pareto.params.max()) <= 2e6
    assert out.macs.max() <= 3e9


def test_the_tightest_limit_leaves_one_code() -> None:
    least = int(cost.macs(SMALLEST)[0])
    assert search.ncp(LARGER, "seg", max_macs=least, **QUICK).best == SMALLEST
    with pytest.raises(InfeasibleError, match="the smallest has"):
        search.ncp(LARGER, "seg", max_macs=least - 1)


def test_under_a_limit_it_beats_a_hundred_thousand_random_codes() -> None:
    rng = np.random.default_rng(0)
    predictor = Linear(("seg",), rng.normal(size=(1, 27)))
    out = search.ncp(predictor, "seg", max_macs=1e9, **QUICK)
    random = Domain(max_macs=1e9).sample(100_000, rng)
    assert out.predicted[0, 0] > predictor.predict(random)[0].max() + 1


def test_the_best_are_distinct_and_in_order() -> None:
    out = search.ncp(LARGER, "seg", max_macs=1e9, **QUICK)
    assert len(np.unique(out.codes, axis=0)) == len(out.codes) > 8
    assert (np.diff(out.score) <= 0).all()
    predicted, std = LARGER.predict(out.codes)
    assert (out.predicted == predicted).all()
    assert (out.std == std).all()


def test_the_trajectory_is_on_the_grid_and_says_what_it_saw() -> None:
    out = search.ncp(LARGER, "seg", max_macs=1e9, trend=0.0, **QUICK)
    path = out.trajectory
    assert path.codes.shape == (26, 16, 27)
    assert path.score.shape == path.macs.shape == (26, 16)
    flat = path.codes.reshape(-1, 27)
    assert (space.check(flat) == flat).all()
    assert (path.macs.ravel() == cost.macs(flat)).all()
    mean, _ = LARGER.predict(space.sample(2000, 0))
    seen, doubt = (column[:, 0] for column in LARGER.predict(flat))
    assert path.score.ravel() == pytest.approx((seen - mean.mean()) / mean.std() - doubt / mean.std())
    # Every start is allowed, and climbs.
    assert (path.macs[0] <= 1e9).all()
    assert path.score[-1].mean() > path.score[0].mean() + 1


def test_nothing_seen_beats_a_code_of_the_pareto_set() -> None:
    out = search.ncp(LARGER, "seg", max_macs=2e9, starts=32, steps=20)
    front = out.pareto
    assert len(front.codes) > 10
    assert (np.diff(front.macs) > 0).all()
    assert (np.diff(front.score) > 0).all()
    macs, score = out.trajectory.macs.ravel(), out.trajectory.score.ravel()
    allowed = macs <= 2e9
    for m, s in zip(front.macs, front.score, strict=True):
        better = allowed & (macs <= m) & (score >= s) & ((macs < m) | (score > s + 1e-12))
        assert not better.any()
    assert front.score[-1] == out.score[0]
    # It spans cheap networks too, not just those at the limit.
    assert front.macs[0] < 0.1 * front.macs[-1]


def test_caution_keeps_out_of_what_the_predictor_does_not_know() -> None:
    doubts = np.zeros(27)
    doubts[0] = 3.0
    doubtful = Linear(("seg",), 1.0, doubts)
    assert search.ncp(doubtful, "seg", caution=0.0, **QUICK).best == LARGEST
    careful = search.ncp(doubtful, "seg", caution=1.0, **QUICK)
    assert careful.best == (8, *LARGEST[1:])


def test_the_trend_is_the_linear_part_of_the_score() -> None:
    codes = space.sample(3000, seed=0)
    inputs = features.of_codes(codes, space)
    # Twice the logarithm of the head's channels, and half a unit for each repetition of stage 1.
    known = 2 * np.log2(codes[:, space.NAMES.index("o1")]) + 0.5 * codes[:, space.NAMES.index("b1")]
    found = features.Linear.of(codes, known, space, TREND_PENALTY)
    others = space.sample(50, seed=1)
    expected = 2 * np.log2(others[:, space.NAMES.index("o1")]) + 0.5 * others[:, space.NAMES.index("b1")]
    # Ridge regression shrinks it a little.
    assert found(others) == pytest.approx(expected - known.mean(), abs=0.1)
    assert expected.std() > 1.5
    assert found(codes).mean() == pytest.approx(0, abs=1e-9)
    x = torch.from_numpy(space.relax(others)).requires_grad_()
    assert found.tensor(x).detach().numpy() == pytest.approx(found(others))
    assert inputs.shape[1] == len(found.slope)


def test_the_trend_counts_by_its_weight_and_the_share_of_noise() -> None:
    goal = Goal("seg", nasbench_mr.tasks.get("seg"), nasbench_mr.tasks.get("seg").metric())
    plain = Acquisition(Unsure(("seg",), 1.0), (goal,), Domain())
    codes, others = space.sample(2000, seed=0), space.sample(50, seed=1)
    mean = plain.predict(codes)[0][:, 0]
    # The noise's variance is 4, the mean's that of 27 uniform numbers of a few levels.
    share = 4 / (4 + mean.var())
    assert 0.5 < share < 0.7
    added = plain.with_trend(codes, 0.5).score(others) - plain.score(others)
    assert added == pytest.approx(0.5 * share * features.Linear.of(codes, mean, space, TREND_PENALTY)(others))
    # More is better here, in the large as well.
    assert np.corrcoef(added, plain.score(others))[0, 1] > 0.8


class Unsure(Linear):
    """Larger is better, give or take 2; but of the narrowest heads it thinks `too_much`."""

    too_much = 0.0

    def tensor(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, std = super().tensor(x)
        return mean + self.too_much * torch.exp(-(x[:, 26:] - 8) / 4), torch.full_like(std, 2.0)


def test_an_error_at_odds_with_the_trend_is_not_climbed_into() -> None:
    mistaken = Unsure(("seg",), 1.0)
    mistaken.too_much = 1.05
    assert search.ncp(mistaken, "seg", trend=0.0, **QUICK).best == (*LARGEST[:-1], 8)
    assert search.ncp(mistaken, "seg", **QUICK).best == LARGEST


def test_the_seed_alone_decides() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = (search.ncp(LARGER, "seg", max_macs=1e9, seed=s, **QUICK) for s in (0, 0, 1))
    assert (first.trajectory.codes == again.trajectory.codes).all()
    assert first.best == again.best
    assert (first.trajectory.codes != other.trajectory.codes).any()
    assert (torch.get_rng_state() == state).all()


def test_a_few_starts_and_steps_and_no_polish_will_do() -> None:
    out = search.ncp(LARGER, "seg", max_macs=1e9, starts=1, steps=1, polish=0)
    assert out.trajectory.codes.shape == (2, 1, 27)
    assert out.macs.max() <= 1e9


# --- Several tasks, transfer, settings of one dataset -------------------------------------------------


def test_weights_decide_between_tasks() -> None:
    assert search.ncp(OPPOSED, {"seg": 3.0, "video": 1.0}, **QUICK).best == LARGEST
    assert search.ncp(OPPOSED, {"seg": 1.0, "video": 3.0}, **QUICK).best == SMALLEST
    joint = search.ncp(OPPOSED, ("video", "head"), **QUICK)
    # "head" counts by its own spread, which is a single dimension's.
    assert joint.best == (*SMALLEST[:-1], 128)
    assert joint.names == ("video", "head")
    assert joint.predicted.shape == joint.std.shape == (len(joint.codes), 2)


def test_transfer_is_a_table_of_every_pair() -> None:
    found = search.transfer(OPPOSED, ("seg", "video"), max_macs=1e9, **QUICK)
    assert found.names == ("seg", "video")
    assert found.codes.shape == (2, 27)
    assert tuple(found.codes[1].tolist()) == SMALLEST
    assert (found.macs <= 1e9).all()
    mean = OPPOSED.predict(found.codes)[0][:, :2]
    assert mean.min() < 0
    assert found.predicted == pytest.approx(np.clip(mean, 0, 100))  # both are percentages
    assert np.diag(found.regret) == pytest.approx([0, 0])
    # Rows: the code's task. The code for seg is bad for video, by video's standard deviations.
    spread = OPPOSED.predict(space.sample(2000, 0))[0][:, 1].std()
    assert found.regret[0, 1] == pytest.approx((mean[1, 1] - mean[0, 1]) / spread)
    assert found.regret[0, 1] > 0


def test_transfer_keeps_fixed_dimensions() -> None:
    found = search.transfer(OPPOSED, ("seg", "video"), fixed={"i1": 16, "o1": 24}, **QUICK)
    assert (found.codes[:, [0, 26]] == [16, 24]).all()


def test_transfer_has_no_use_for_weights() -> None:
    with pytest.raises(InvalidArgumentError, match="task 'seg' has a weight, which a transfer does not use"):
        search.transfer(OPPOSED, {"seg": 5.0, "video": 1.0}, **QUICK)


def test_transfer_by_the_published_algorithm(tiny_release: Path) -> None:
    bench = nasbench_mr.load(tiny_release)
    found = search.transfer(bench, ("seg", "video"), preset="paper", steps=3)
    published = fit_paper(bench, objective.goals(bench, ("seg", "video")), 0)
    own = search.ncp(bench, "video", preset="paper", steps=3, predictor=published)
    assert tuple(found.codes[1].tolist()) == own.best
    assert found.predicted[1, 1] == pytest.approx(own.predicted[0, 0])


def test_between_settings_of_one_dataset_a_code_can_be_carried_over() -> None:
    weights = np.ones((2, 27))
    weights[1, :2] = -1.0
    both = Linear(("seg", "seg-4x"), weights)
    small = search.ncp(both, "seg-4x", **QUICK)
    assert small.best == (8, 8, *LARGEST[2:])
    # As the start in the other setting it is improved, and its own prediction there is known.
    carried = search.ncp(both, "seg", start=small.best, **QUICK)
    assert carried.best == LARGEST
    assert tuple(carried.trajectory.codes[0, 0].tolist()) == small.best


# --- A user's code, fixed dimensions ------------------------------------------------------------------


def test_a_users_code_is_improved_within_ten_percent_more_macs() -> None:
    start = tuple(space.sample(1, seed=3)[0].tolist())
    limit = 1.1 * cost.macs(start)[0]
    weights = np.random.default_rng(1).normal(size=(1, 27))
    predictor = Linear(("seg",), weights)
    out = search.ncp(predictor, "seg", max_macs=limit, start=start, **QUICK)
    assert tuple(out.trajectory.codes[0, 0].tolist()) == start
    assert cost.macs(out.best)[0] <= limit
    assert out.predicted[0, 0] > predictor.predict(start)[0][0, 0] + 1
    # A start that is best already stays.
    assert search.ncp(LARGER, "seg", start=LARGEST, **QUICK).best == LARGEST
    # One beyond the limit is shrunk first.
    assert search.ncp(LARGER, "seg", max_macs=1e9, start=LARGEST, **QUICK).macs.max() <= 1e9


def test_a_start_is_one_code() -> None:
    with pytest.raises(InvalidArgumentError, match="start holds 2 codes"):
        search.ncp(LARGER, "seg", start=space.sample(2))
    with pytest.raises(OutOfSpaceError):
        search.ncp(LARGER, "seg", start=[1, 2, 3])


def test_fixed_dimensions_stay() -> None:
    stem = {"i1": 16, "i2": 32, "b4": 3}
    out = search.ncp(LARGER, "seg", max_macs=2e9, fixed=stem, **QUICK)
    for name, value in stem.items():
        assert (everything(out)[:, space.NAMES.index(name)] == value).all()
    assert search.ncp(LARGER, "seg", fixed=stem, start=SMALLEST, **QUICK).best == (
        16, 32, *LARGEST[2:space.NAMES.index("b4")], 3, *LARGEST[space.NAMES.index("b4") + 1 :],
    )  # fmt: skip


# --- The climb ----------------------------------------------------------------------------------------


def test_one_step_goes_up_the_gradient() -> None:
    """With one step of Adam every dimension moves by `rate` of its range, in the gradient's direction."""
    weights = np.where(np.arange(27) < 13, 1.0, -1.0)[None]
    goal = Goal("seg", nasbench_mr.tasks.get("seg"), nasbench_mr.tasks.get("seg").metric())
    acquisition = Acquisition(Linear(("seg",), weights), (goal,), Domain())
    path = climb(acquisition, BASE[None], np.array([np.inf]), steps=1, rate=0.25)
    moved = BASE + 0.25 * (space.UPPER - space.LOWER) * weights[0]
    assert (path.codes[1, 0] == space.project(moved[None])[0]).all()


def test_at_the_limit_it_moves_along_it() -> None:
    start = Domain(max_macs=1e9).repair(np.array([LARGEST], np.int16))
    goal = Goal("seg", nasbench_mr.tasks.get("seg"), nasbench_mr.tasks.get("seg").metric())
    acquisition = Acquisition(LARGER, (goal,), Domain(max_macs=1e9))
    path = climb(acquisition, start, np.array([1e9]), steps=40)
    # Rounding may carry it over the limit, and it comes back.
    assert path.macs[20:].max() < 1.1e9
    assert path.macs[-1, 0] <= 1e9
    allowed = path.macs[:, 0] <= 1e9
    assert path.score[allowed].max() > path.score[0, 0] + 0.05


def test_the_score_has_true_gradients() -> None:
    codes = space.sample(40, seed=0)
    values = np.stack([np.log(cost.macs(codes)), np.log(cost.params(codes))], axis=1)
    model = predictors.make("ensemble", members=3, epochs=5).fit(codes, values, names=("seg", "video"))
    assert isinstance(model, GradientPredictor)
    goals = [nasbench_mr.tasks.get(name) for name in ("seg", "video")]
    terms = tuple(Goal(t.name, t, t.metric(), weight) for t, weight in zip(goals, (2.0, 1.0), strict=True))
    acquisition = Acquisition(model, terms, Domain(), caution=1.5)
    x = torch.from_numpy(space.relax(space.sample(4, seed=1))).requires_grad_()
    score = acquisition.score_tensor(x)
    assert score.detach().numpy() == pytest.approx(
        acquisition.score(x.detach().numpy().astype(int)), rel=1e-5
    )
    (gradient,) = torch.autograd.grad(score.sum(), x)
    # The networks compute in float32: steps large enough for its precision.
    for k, step in ((0, 1.0), (3, 0.05), (26, 1.0)):
        shift = torch.zeros(27, dtype=torch.float64)
        shift[k] = step
        with torch.no_grad():
            slope = (acquisition.score_tensor(x + shift) - acquisition.score_tensor(x - shift)) / (2 * step)
        assert gradient[:, k].numpy() == pytest.approx(slope.numpy(), rel=0.1, abs=1e-3)


# --- The paper's preset -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published() -> NcpMlp:
    """Return the paper's predictor, fitted for a moment; seg likes large networks, video small ones."""
    codes = space.sample(150, seed=0)
    macs = np.log10(cost.macs(codes))
    values = np.stack([70 + 5 * macs, 80 + 4 * macs, 60 - 4 * macs], axis=1)
    model = predictors.make("ncp-mlp", seed=0, epochs=12)
    model.fit(codes, values, names=("seg/mIoU", "seg/mAcc", "video/top1"))
    assert isinstance(model, NcpMlp)
    return model


def by_hand(parts: list[tuple[Any, int]], code: np.ndarray, steps: int, **changed: Any) -> np.ndarray:
    """Return the published loop, as its paper and code have it, with torch's own SGD: `(steps + 1, 27)`."""
    mean, scale = parts[0][0].x_mean, parts[0][0].x_scale
    z = ((torch.from_numpy(code.astype(float)) - mean) / scale)[None].requires_grad_()
    low, high = ((torch.from_numpy(b.astype(float)) - mean) / scale for b in (space.LOWER, space.UPPER))
    optimizer = torch.optim.SGD([z], lr=changed.get("rate", 3.0))
    apart = {"smooth-l1": torch.nn.SmoothL1Loss(), "l1": torch.nn.L1Loss(), "l2": torch.nn.MSELoss()}
    distance = apart[changed.get("loss", "smooth-l1")]
    codes = [code]
    for _ in range(steps):
        loss: Any = 0.0
        # Rounded where it is looked at; the gradient passes straight through.
        shown = (torch.from_numpy(codes[-1].astype(float)) - mean) / scale if changed.get("rounded") else z
        seen = z + (shown - z).detach()
        for model, main in parts:
            metrics, costs = model(((seen * scale + mean - model.x_mean) / model.x_scale).float())
            loss = loss + distance(metrics[:, main], metrics[:, main].detach() + changed.get("target", 0.1))
            down = costs[:, 0].detach() - changed.get("cost_target", 0.1)
            loss = loss + changed.get("cost_weight", 0.5) * distance(costs[:, 0], down)
        optimizer.zero_grad()
        loss.backward()
        if changed.get("winner"):
            assert z.grad is not None
            z.grad *= z.grad.abs() == z.grad.abs().max()
        optimizer.step()
        with torch.no_grad():
            z.copy_(torch.minimum(torch.maximum(z, low), high))
        raw = (z.detach() * scale + mean).numpy()[0]
        codes.append(np.clip(np.rint(raw / space.STEP) * space.STEP, space.LOWER, space.UPPER))
    return np.array(codes)


def test_the_papers_preset_is_the_published_loop(published: NcpMlp) -> None:
    out = search.ncp(published, "seg", preset="paper")
    assert out.trajectory.codes.shape == (71, 1, 27)
    expected = by_hand([(published.models[0], 0)], BASE, 70)
    assert (out.trajectory.codes[:, 0] == expected).all()
    # It moves, and returns where it ends.
    assert (expected[-1] != BASE).sum() > 5
    assert out.best == tuple(expected[-1].astype(int).tolist())
    # Of a percentage no more than 100 is told, whatever the predictor makes of a code far from all others.
    assert out.predicted[0, 0] == pytest.approx(min(100.0, published.predict(out.best)[0][0, 0]))


@pytest.mark.parametrize(
    "changed",
    [
        {"rate": 1.0},
        {"target": 0.3},
        {"cost_target": 0.3},
        {"cost_weight": 2.0},
        {"cost_weight": 0.0},
        {"loss": "l1", "rate": 0.5},
        {"loss": "l2"},
        {"winner": True, "rate": 20.0},
        {"rounded": True},
    ],
    ids=str,
)
def test_each_setting_of_the_published_loop_can_be_changed(
    published: NcpMlp, changed: dict[str, Any]
) -> None:
    as_published = by_hand([(published.models[0], 0)], BASE, 12)
    expected = by_hand([(published.models[0], 0)], BASE, 12, **changed)
    # Each of them matters.
    assert (expected != as_published).any()
    out = search.ncp(published, "seg", preset="paper", steps=12, **changed)
    assert (out.trajectory.codes[:, 0] == expected).all()


def test_only_the_winner_of_the_free_dimensions_moves(published: NcpMlp) -> None:
    free = search.ncp(published, "seg", preset="paper", steps=1, winner=True, rate=300.0)
    (first,) = np.flatnonzero(free.trajectory.codes[1, 0] != BASE)
    name = space.NAMES[first]
    kept = search.ncp(
        published, "seg", preset="paper", steps=1, winner=True, rate=300.0, fixed={name: int(BASE[first])}
    )
    (second,) = np.flatnonzero(kept.trajectory.codes[1, 0] != BASE)
    assert second != first


def test_the_papers_joint_loop_adds_the_tasks_up(published: NcpMlp) -> None:
    out = search.ncp(published, ("seg", "video"), preset="paper", steps=15, start=BASE)
    expected = by_hand([(published.models[0], 0), (published.models[1], 0)], BASE, 15)
    assert (out.trajectory.codes[:, 0] == expected).all()
    assert out.predicted.shape[1] == 2


def test_the_papers_loop_under_a_limit_ends_at_the_last_allowed_code(published: NcpMlp) -> None:
    path = search.ncp(published, "seg", preset="paper").trajectory
    limit = float(np.median(path.macs))
    out = search.ncp(published, "seg", preset="paper", max_macs=limit, start=BASE)
    allowed = np.flatnonzero(out.trajectory.macs[:, 0] <= limit)
    assert 0 < len(allowed) < 71
    assert out.best == tuple(out.trajectory.codes[allowed[-1], 0].tolist())
    # Without a start, the published one loses channels until it fits.
    tight = search.ncp(published, "seg", preset="paper", max_macs=1e9, steps=3)
    first = tight.trajectory.codes[0, 0]
    assert set(first[list(space.DEPTH_DIMS)].tolist()) == {2}
    (width,) = set(first[list(space.CHANNEL_DIMS)].tolist())
    narrower, wider = first.copy(), first.copy()
    wider[list(space.CHANNEL_DIMS)] = width + 8
    assert cost.macs(narrower)[0] <= 1e9 < cost.macs(wider)[0]


def test_the_papers_loop_keeps_fixed_dimensions(published: NcpMlp) -> None:
    out = search.ncp(published, "seg", preset="paper", steps=10, fixed={"c1_1": 32})
    assert (out.trajectory.codes[:, 0, space.NAMES.index("c1_1")] == 32).all()

    start = np.array([space.LOWER], np.int16)
    out = search.ncp(published, "seg", preset="paper", steps=10, fixed={"i1": 16}, start=start)
    assert (out.trajectory.codes[:, 0, 0] == 16).all()
    assert start[0, 0] == 8  # the caller's


def test_the_papers_predictor_is_fitted_as_published(tiny_release: Path) -> None:
    bench = nasbench_mr.load(tiny_release)
    model = fit_paper(bench, objective.goals(bench, "seg,video/top5"))
    assert isinstance(model, NcpMlp)
    # Each task's metric first; its other metrics share its network.
    assert model.names == ("seg/mIoU", "seg/mAcc", "seg/aAcc", "video/top5", "video/top1")
    assert model.columns == [[0, 1, 2], [3, 4]]
    with pytest.raises(InvalidArgumentError, match="one metric of a task"):
        fit_paper(bench, objective.goals(bench, "seg,seg/mAcc"))


# --- On a benchmark -----------------------------------------------------------------------------------


def test_a_benchmarks_tables_are_enough(tiny_release: Path, home: Path) -> None:
    bench = nasbench_mr.load(tiny_release)
    weights = {"seg": 1.0, "video": 1.0}
    out = search.ncp(bench, weights, max_macs=2e9, seed=0, **QUICK)
    assert space.parse(out.best) == out.best
    assert cost.macs(out.best)[0] <= 2e9
    assert out.names == ("seg", "video")
    assert len(list((home / "cache" / "predictors").iterdir())) == 1
    model = fit(bench, weights)
    assert set(model.names) == {"seg/mIoU", "seg/mAcc", "seg/aAcc", "video/top1", "video/top5"}
    same = search.ncp(bench, weights, max_macs=2e9, seed=0, predictor=model, **QUICK)
    assert same.best == out.best
    assert (same.predicted == out.predicted).all()


def test_a_predictor_is_fitted_once_for_the_same_question(tiny_release: Path, home: Path) -> None:
    bench = nasbench_mr.load(tiny_release)
    codes = space.sample(5, seed=1)
    model = fit(bench, "seg", epochs=3)
    (kept,) = (home / "cache" / "predictors").iterdir()
    inode = kept.stat().st_mtime_ns
    again = fit(bench, "video", epochs=3)
    assert kept.stat().st_mtime_ns == inode
    assert (again.predict(codes)[0] == model.predict(codes)[0]).all()
    # Another seed is another question, and a damaged file none at all.
    assert (fit(bench, "seg", seed=1, epochs=3).predict(codes)[0] != model.predict(codes)[0]).any()
    kept.write_bytes(b"damaged")
    assert (fit(bench, "seg", epochs=3).predict(codes)[0] == model.predict(codes)[0]).all()


def test_other_metrics_have_a_name(tiny_release: Path) -> None:
    bench = nasbench_mr.load(tiny_release)
    out = search.ncp(bench, "seg/mAcc", predictor=fit(bench, "seg", epochs=3), **QUICK)
    assert out.names == ("seg/mAcc",)
    with pytest.raises(UnknownMetricError):
        search.ncp(bench, "seg/accuracy")
    with pytest.raises(UnknownTaskError):
        search.ncp(bench, "segmentation-of-cats")


def test_cells_are_a_second_space(known_release: Path) -> None:
    bench = nasbench_mr.load(known_release)
    best = tuple([len(nasbench201.OPERATIONS) - 1] * 6)
    weights = np.tile(np.arange(5.0), 6)[None]
    known = Linear(("nas-bench-201",), weights, where=nasbench201)
    out = search.ncp(bench, "nas-bench-201", predictor=known, **QUICK)
    assert out.best == best
    # The value is the sum of the integers. A 1x1 convolution (3) costs 3,932,160 MACs, a 3x3 one (4) nine
    # times as much, the rest of the network 7,788,800. Within that of two 3x3, one and five 1x1 are best.
    limited = search.ncp(bench, "nas-bench-201", max_macs=78_567_680, predictor=known, **QUICK)
    assert (sorted(limited.best), limited.macs[0]) == ([3, 3, 3, 3, 3, 4], 7_788_800 + 14 * 3_932_160)
    assert limited.pareto.macs.max() <= 78_567_680
    fixed = search.ncp(bench, "nas-bench-201", fixed={"op01": 1}, predictor=known, **QUICK)
    assert fixed.best == (1, *best[1:])


def test_cells_from_their_table(known_release: Path) -> None:
    bench = nasbench_mr.load(known_release)
    every = bench.codes("nas-bench-201")
    few = np.random.default_rng(0).permutation(len(every))[:300]
    values = bench.query_many(every[few], "nas-bench-201", ("Acc",))["Acc"]
    model = predictors.make("ensemble", space=spaces.get("nas-bench-201"), members=3, epochs=40)
    model.fit(every[few], values, names=("nas-bench-201",))
    out = search.ncp(bench, "nas-bench-201", predictor=model, **QUICK)
    assert out.best == (4, 4, 4, 4, 4, 4)
    paper = predictors.make("ncp-mlp", space=spaces.get("nas-bench-201"), epochs=30)
    paper.fit(every[few], values, names=("nas-bench-201/Acc",))
    edited = search.ncp(bench, "nas-bench-201", preset="paper", predictor=paper)
    assert edited.trajectory.codes.shape == (71, 1, 6)
    assert edited.trajectory.score[-1, 0] > edited.trajectory.score[0, 0]


# --- Mistakes -----------------------------------------------------------------------------------------


def test_mistakes_have_names(published: NcpMlp, tiny_release: Path) -> None:
    bench = nasbench_mr.load(tiny_release)
    ridge = predictors.make("ridge").fit(space.sample(20), np.arange(20.0), names=("seg",))
    for arguments, options, error, message in (
        ((LARGER, "video"), {}, UnknownNameError, "no column 'video'"),
        ((LARGER, ""), {}, InvalidArgumentError, "at least one"),
        ((LARGER, "seg"), {"preset": "papre"}, UnknownNameError, "did you mean 'paper'"),
        ((LARGER, "seg"), {"preset": "paper"}, InvalidArgumentError, "needs the predictor 'ncp-mlp'"),
        ((LARGER, "seg"), {"starts": 0}, InvalidArgumentError, "starts is 0"),
        ((LARGER, "seg"), {"steps": 0}, InvalidArgumentError, "steps is 0"),
        ((LARGER, "seg"), {"polish": -1}, InvalidArgumentError, "polish is -1"),
        ((LARGER, "seg"), {"trend": -0.1}, InvalidArgumentError, "trend is -0.1"),
        ((LARGER, "seg"), {"trend": float("nan")}, InvalidArgumentError, "trend is nan"),
        ((LARGER, "seg"), {"caution": float("nan")}, InvalidArgumentError, "caution is nan"),
        ((LARGER, "seg"), {"starts": 1.5}, InvalidArgumentError, "starts is 1.5; expected an integer"),
        ((LARGER, "seg"), {"max_macs": "2e9"}, InvalidArgumentError, "max_macs is '2e9'"),
        ((LARGER, "seg"), {"max_macs": -1}, InvalidArgumentError, "max_macs is -1"),
        ((LARGER, "seg"), {"fixed": {"i9": 8}}, InvalidArgumentError, "no dimension 'i9'"),
        ((LARGER, "seg"), {"predictor": LARGER}, InvalidArgumentError, "two predictors"),
        ((ridge, "seg"), {}, InvalidArgumentError, "'ridge' has no gradients"),
        ((LARGER, "seg"), {"rate": 1.0, "winner": True}, InvalidArgumentError, "rate, winner: settings of"),
        ((published, "seg"), {"preset": "paper", "rate": 0}, InvalidArgumentError, "rate is 0"),
        (
            (published, "seg"),
            {"preset": "paper", "loss": "l3"},
            UnknownNameError,
            "expected one of smooth-l1",
        ),
        ((published, "seg"), {"preset": "paper", "winner": 1}, InvalidArgumentError, "winner is 1"),
        (
            (published, "seg"),
            {"preset": "paper", "cost_weight": -1},
            InvalidArgumentError,
            "cost_weight is -1",
        ),
        ((bench, "seg"), {"max_macs": 1}, InfeasibleError, "no code has at most"),
        ((bench, {"seg": -1.0}), {}, InvalidArgumentError, "expected a positive number"),
    ):
        with pytest.raises(error, match=message):
            search.ncp(*arguments, **options)


def test_a_metric_to_be_small_is_made_small() -> None:
    loss = Metric("loss", direction="min", upper=None)
    task = Task("t", "t", "d", "classification", (loss,), "loss")
    acquisition = Acquisition(LARGER, (Goal("seg", task, loss),), Domain())
    path = climb(acquisition, BASE[None], np.array([np.inf]), steps=60)
    assert tuple(path.codes[-1, 0].tolist()) == SMALLEST


def test_it_climbs_from_a_code_that_costs_nothing() -> None:
    grid = Grid("s", {"w": [0, 1, 2, 3], "n": [1, 2, 3, 4]}, {"macs": "100 * w", "params": "1"})
    quality = Metric("quality", upper=None)
    goal = Goal("t", Task("t", "t", "d", "classification", (quality,), "quality", space=grid.NAME), quality)
    acquisition = Acquisition(Linear(("t",), 1.0, where=grid), (goal,), Domain(grid, max_macs=200))
    path = climb(acquisition, grid.LOWER[None], np.array([200.0]), steps=60)
    # As far as 100 w <= 200 and n <= 4 allow.
    assert path.codes[-1, 0].tolist() == [2, 3]


def test_it_searches_where_no_code_costs_anything() -> None:
    """Codes within the limit on parameters, w = 0, have 0 MACs: no limit on MACs tells them apart."""
    grid = Grid("s", {"w": [0, 16, 32], "n": [1, 2, 3]}, {"macs": "100 * w * n", "params": "10 * w"})
    quality = Metric("quality", upper=None)
    goal = Goal("t", Task("t", "t", "d", "classification", (quality,), "quality", space=grid.NAME), quality)
    domain = Domain(grid, max_params=1)
    assert (cost_limits(domain, 8) == np.inf).all()
    path = climb(
        Acquisition(Linear(("t",), 1.0, where=grid), (goal,), domain),
        grid.LOWER[None],
        cost_limits(domain, 1),
        steps=60,
    )
    assert domain.repair(path.codes[-1])[0].tolist() == [0, 2]
    # In the whole space the largest is 100 * 32 * 3; of 8 starts the fourth and the eighth have less.
    assert np.flatnonzero(cost_limits(Domain(grid), 8) < 9600).tolist() == [3, 7]


def test_the_function_is_not_hidden_by_its_module() -> None:
    assert search.ncp is function
    assert callable(function)


def test_a_predictors_bounds_are_told_but_not_climbed() -> None:
    free, bounded = Linear(("speed",), 1.0), Linear(("speed",), 1.0)
    bounded.bounds = ((None, 5.0),)
    one, other = (search.ncp(model, "speed", max_macs=2e9, **QUICK) for model in (free, bounded))
    np.testing.assert_array_equal(one.codes, other.codes)
    np.testing.assert_array_equal(one.score, other.score)
    assert one.predicted[0, 0] > 10
    np.testing.assert_array_equal(other.predicted, np.minimum(one.predicted, 5))
    table, told = (search.transfer(model, "speed", max_macs=2e9, **QUICK) for model in (free, bounded))
    np.testing.assert_array_equal(told.predicted, np.minimum(table.predicted, 5))


def test_of_a_predictors_latency_less_is_better() -> None:
    """No registered task says so; the column's name does."""
    found = search.ncp(Linear(("phone/latency_ms",), 1.0), "phone/latency_ms", **QUICK)
    assert found.best == SMALLEST


def test_a_task_of_one_code_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(f"code,accuracy\n{space.to_string(SMALLEST)},50\n")
    import_table(tmp_path / "own.csv", "own")
    with pytest.raises(
        InvalidArgumentError, match="values of accuracy in the table of 'own': 1; a predictor"
    ):
        search.ncp(nasbench_mr.load(), "own")
