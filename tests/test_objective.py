"""What searches maximise: domains, goals, tables, surrogates, live sources, and the counting."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import cost, grid, nasbench201, objective, predictors, release, search, space, table, tasks
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.domain import Domain
from nasbench_mr.errors import (
    InfeasibleError,
    InvalidArgumentError,
    OutOfSpaceError,
    SurrogateNotFoundError,
    UnknownMetricError,
    UnknownTaskError,
)
from nasbench_mr.objective import Goal, Measured, Objective

SMALLEST = np.array([space.LOWER], np.int16)


@pytest.fixture
def bench(tiny_release: Path) -> Benchmark:
    return nasbench_mr.load(tiny_release)


# --- Tasks and goals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("seg", {"seg": 1.0}),
        ("seg, video", {"seg": 1.0, "video": 1.0}),
        (["seg/mAcc", "video"], {"seg/mAcc": 1.0, "video": 1.0}),
        ({"seg": 2, "video": 0.5}, {"seg": 2, "video": 0.5}),
    ],
)
def test_tasks_come_in_several_forms(given: object, expected: dict[str, float]) -> None:
    assert objective.parse_tasks(given) == expected


@pytest.mark.parametrize("given", ["", [], {}, "seg,seg", ["seg", "seg"], {"seg": 0}, {"seg": -1.0}])
def test_tasks_that_make_no_sense_are_refused(given: object) -> None:
    with pytest.raises(InvalidArgumentError):
        objective.parse_tasks(given)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="expected a positive number"):
        objective.parse_tasks({"seg": math.nan})


def test_goals_are_standardised_by_their_tables(bench: Benchmark) -> None:
    seg, accuracy = objective.goals(bench, {"seg": 2.0, "video/top5": 1.0})
    values = bench.query_many(bench.codes("seg"), "seg", ("mIoU",))["mIoU"]
    assert (seg.key, seg.metric.name, seg.weight) == ("seg", "mIoU", 2.0)
    assert (seg.mean, seg.std) == pytest.approx((values.mean(), values.std()))
    assert accuracy.metric.name == "top5"
    with pytest.raises(UnknownTaskError, match="did you mean 'seg'"):
        objective.goals(bench, "sag")
    with pytest.raises(UnknownMetricError, match="mIoU"):
        objective.goals(bench, "seg/mIuO")


def test_several_goals_add_up_to_a_weighted_mean_of_standardised_metrics() -> None:
    seg, video = tasks.get("seg"), tasks.get("video")
    terms = (
        Goal("seg", seg, seg.metric(), weight=3.0, mean=70.0, std=5.0),
        Goal("video", video, video.metric(), weight=1.0, mean=20.0, std=2.0),
    )
    # (3 * (80 - 70) / 5 + 1 * (18 - 20) / 2) / 4
    assert objective.combine(np.array([[80.0, 18.0]]), terms) == pytest.approx([1.25])
    # One goal stays in its own unit.
    assert objective.combine(np.array([[80.0]]), terms[:1]) == pytest.approx([80.0])


@pytest.mark.parametrize("count", [2, 3, 9])
def test_a_joint_value_does_not_depend_on_what_is_asked_beside_it(count: int) -> None:
    """Else equal codes are no ties, and ranks and tests tell of rounding."""
    seg, rng = tasks.get("seg"), np.random.default_rng(0)
    terms = [Goal("seg", seg, seg.metric(), mean=float(k) / 7, std=1 + float(k) / 3) for k in range(count)]
    values = rng.normal(50, 10, (300, count))
    together = objective.combine(values, terms)
    assert (together == [objective.combine(row[None], terms)[0] for row in values]).all()
    assert (together == objective.combine(np.asfortranarray(values), terms)).all()


def test_where_smaller_is_better_the_sign_turns() -> None:
    error = tasks.Metric("error", direction="min", upper=None)
    task = tasks.Task("t", "t", "d", "classification", (error,), "error")
    goal = Goal("t", task, error, mean=5.0, std=2.0)
    assert objective.combine(np.array([[3.0]]), (goal,)) == pytest.approx([-3.0])
    assert objective.combine(np.array([[3.0, 3.0]]), (goal, goal)) == pytest.approx([1.0])
    # No bound: ten standard deviations worse than the mean.
    assert objective.worst_value(goal) == 25.0


# --- Domains ------------------------------------------------------------------------------------------


def test_limits_are_inclusive_and_exact() -> None:
    code = space.sample(1, seed=1)
    macs, params = int(cost.macs(code)[0]), int(cost.params(code)[0])
    assert Domain(max_macs=macs, max_params=params).contains(code).all()
    assert not Domain(max_macs=macs - 1).contains(code).any()
    assert not Domain(max_params=params - 1).contains(code).any()


@pytest.mark.parametrize("limit", [0, -1.0, math.nan])
def test_a_limit_is_a_positive_number(limit: float) -> None:
    with pytest.raises(InvalidArgumentError, match="max_macs is"):
        Domain(max_macs=limit)


def test_limits_that_no_code_meets_are_refused() -> None:
    least = int(cost.macs(SMALLEST)[0])
    assert Domain(max_macs=least).contains(SMALLEST).all()
    with pytest.raises(InfeasibleError, match=r"has at most .* GMACs: the smallest has"):
        Domain(max_macs=least - 1)
    with pytest.raises(InfeasibleError, match="GMACs of its 5 codes: the least is"):
        Domain(codes=space.sample(5, seed=0), max_macs=least)
    # A fixed dimension can make the limit too tight.
    with pytest.raises(InfeasibleError, match="i1 = 128"):
        Domain(max_macs=least, fixed={"i1": 128})


def test_fixed_dimensions_hold_everywhere() -> None:
    rng = np.random.default_rng(0)
    domain = Domain(max_macs=2e9, fixed={"i1": 16, "n4_4": 3})
    codes = domain.sample(50, rng)
    for found in (
        codes,
        domain.mutate(codes, rng),
        domain.crossover(codes, codes[::-1].copy(), rng),
        domain.repair(space.sample(50, seed=2)),
        domain.neighbors(codes[0]),
    ):
        assert len(found) > 0
        assert (found[:, space.NAMES.index("i1")] == 16).all()
        assert (found[:, space.NAMES.index("n4_4")] == 3).all()
        assert (cost.macs(found) <= 2e9).all()
    with pytest.raises(InvalidArgumentError, match="no dimension 'i3'"):
        Domain(fixed={"i3": 16})
    with pytest.raises(OutOfSpaceError, match="i1"):
        Domain(fixed={"i1": 12})


def test_repair_leaves_what_is_allowed_and_shrinks_the_rest_just_enough() -> None:
    domain = Domain(max_macs=1e9)
    large = np.array([space.UPPER])
    repaired = domain.repair(np.concatenate([SMALLEST, large]))
    assert (repaired[0] == SMALLEST[0]).all()
    assert 0.5e9 < cost.macs(repaired[1:])[0] <= 1e9
    listed = Domain(codes=space.sample(30, seed=0))
    assert listed.codes is not None
    assert (listed.repair(listed.codes[:3]) == listed.codes[:3]).all()


def test_neighbors_in_a_list_are_the_nearest_codes() -> None:
    codes = space.sample(40, seed=0)
    domain = Domain(codes=codes)
    scaled = codes / np.ptp(codes, axis=0)
    expected = np.argsort(np.abs(scaled - scaled[7]).sum(axis=1), kind="stable")[1:25]
    assert (domain.neighbors(codes[7]) == codes[expected]).all()
    assert (domain.neighbors(codes[7], count=3) == codes[expected[:3]]).all()


def test_neighbors_among_all_cells_are_those_of_the_space() -> None:
    every = np.stack(np.meshgrid(*[np.arange(5)] * 6), axis=-1).reshape(-1, 6)
    costs = np.arange(len(every))
    domain = Domain(nasbench201, every, macs=costs, params=costs)
    near = domain.neighbors(domain.codes[0])
    assert (np.sort(near, axis=0) == np.sort(nasbench201.neighbors(domain.codes[0]), axis=0)).all()
    assert domain.distances(domain.codes[0]).max() == 6


def test_a_small_space_is_searched_as_a_list_of_all_its_codes() -> None:
    domain = Domain(nasbench201)
    assert domain.codes is not None
    assert len(domain.codes) == domain.size == nasbench201.SIZE
    assert (domain.codes[[0, 1, -1]] == [[0] * 6, [0, 0, 0, 0, 0, 1], [4] * 6]).all()


def test_a_space_without_a_formula_of_costs_needs_its_codes() -> None:
    space = grid.Grid("sizes", {"width": [8, 16]})
    with pytest.raises(InvalidArgumentError, match="searched as a list of its codes; pass codes"):
        Domain(space)


def test_one_of_two_costs_may_be_given() -> None:
    codes = space.sample(3, seed=0)
    domain = Domain(codes=codes, macs=np.array([1.0, 2.0, 3.0]), max_macs=2)
    assert domain.macs(codes[:2]).tolist() == [1, 2]
    assert domain.params(codes[:2]).tolist() == cost.params(codes[:2]).tolist()


def test_variants_differ_in_one_dimension_by_any_amount() -> None:
    around = Domain().variants(SMALLEST[0])
    # 14 dimensions with 3 other values, 13 with 15.
    assert len(around) == len(np.unique(around, axis=0)) == 14 * 3 + 13 * 15
    assert ((around != SMALLEST).sum(axis=1) == 1).all()
    limited = Domain(max_macs=float(np.median(cost.macs(around))), fixed={"i1": 8})
    expected = around[(cost.macs(around) <= limited.max_macs) & (around[:, 0] == 8)]
    assert (limited.variants(SMALLEST[0]) == np.unique(expected, axis=0)).all()


def test_walk_finds_every_allowed_code_once() -> None:
    base = int(cost.macs(SMALLEST)[0])
    # Room for one channel step of the head and little else.
    domain = Domain(max_macs=base * 1.01)
    found = np.array([*domain.walk()])
    assert len(np.unique(found, axis=0)) == len(found) > 1
    assert domain.contains(found).all()
    # Every allowed code that is one step further has been found too.
    beyond = np.unique(np.concatenate([domain.neighbors(code) for code in found]), axis=0)
    assert len(np.unique(np.concatenate([found, beyond]), axis=0)) == len(found)


def test_samples_of_a_list_do_not_repeat() -> None:
    domain = Domain(codes=space.sample(20, seed=0))
    drawn = domain.sample(50, np.random.default_rng(0))
    assert len(np.unique(drawn, axis=0)) == len(drawn) == 20


# --- Objectives ---------------------------------------------------------------------------------------


def test_a_table_answers_for_its_codes_and_counts(bench: Benchmark) -> None:
    asked = Objective.table(bench, "seg")
    codes = bench.codes("seg")[:5]
    expected = bench.query_many(codes, "seg", ("mIoU",))["mIoU"]
    assert asked.evaluate(codes) == pytest.approx(expected)
    assert (asked.evaluations, asked.unit) == (5, "seconds")
    # Its trainings take macs / 1e8 seconds.
    assert asked.spent == pytest.approx(cost.macs(codes).sum() / 1e8)
    assert asked.best() == pytest.approx(max(r["mIoU"] for r in bench.best("seg", 1)))
    with pytest.raises(OutOfSpaceError, match="not in the domain"):
        asked.evaluate(space.sample(1, seed=77))
    assert asked.evaluations == 5


def test_unknown_times_count_as_macs(bench: Benchmark) -> None:
    asked = Objective.table(bench, "video")
    codes = bench.codes("video")[:3]
    asked.evaluate(codes)
    assert (asked.unit, asked.spent) == ("GMACs", pytest.approx(cost.macs(codes).sum() / 1e9))


def test_weights_add_up_to_a_number() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"'seg' is 1e\+308; expected a positive number of at most"
    ):
        objective.parse_tasks({"seg": 1e308, "video": 1e308})


def test_a_metric_with_a_threshold_in_its_name_is_no_cost(tmp_path: Path) -> None:
    """AP@50 is trained for and counts; only tasks such as latency_ms@cpu are costs."""
    codes = space.sample(6, seed=0)
    own = tasks.Task("det", "detection", "", "unknown", (tasks.Metric("AP@50"),), "AP@50", cost="code")

    def fill(folder: Path) -> None:
        table.write(folder / "tables/det.parquet", own, {"codes": codes, "AP@50": np.arange(40.0, 46.0)})

    made = Benchmark(release.create(fill, "small", "1.0.0", [own], target=tmp_path / "small"))
    for name in ("det", "det/AP@50"):
        asked = Objective.table(made, name)
        trace = search.run(search.make("random", asked, seed=0), asked, budget=2)
        assert (len(trace.values), asked.evaluations) == (2, 2)


def test_a_joint_table_has_the_codes_of_all_its_tasks(bench: Benchmark) -> None:
    asked = Objective.table(bench, "seg,video")
    assert asked.domain.codes is not None
    assert len(asked.domain.codes) == 40
    terms = objective.goals(bench, "seg,video")
    values = [
        bench.query_many(asked.domain.codes, goal.task.name, (goal.metric.name,))[goal.metric.name]
        for goal in terms
    ]
    standardised = [(v - goal.mean) / goal.std for v, goal in zip(values, terms, strict=True)]
    assert asked.evaluate(asked.domain.codes) == pytest.approx(np.mean(standardised, axis=0))


def test_limits_of_a_table_are_those_of_its_codes(bench: Benchmark) -> None:
    middle = float(np.median(cost.macs(bench.codes("seg"))))
    asked = Objective.table(bench, "seg", max_macs=middle)
    assert asked.domain.codes is not None
    assert len(asked.domain.codes) == 30
    assert asked.best() == pytest.approx(bench.best("seg", 1, max_macs=middle)[0]["mIoU"])


def test_a_point_of_the_learning_curve_costs_its_share(bench: Benchmark) -> None:
    asked = Objective.table(bench, "seg")
    assert asked.epochs == (1, 2, 3, 4)
    codes = bench.codes("seg")[:4]
    final = bench.query_many(codes, "seg", ("mIoU",))["mIoU"]
    # The curves of this release are straight lines.
    assert asked.evaluate(codes, epoch=1) == pytest.approx(final / 4, abs=1e-6)
    assert asked.evaluations == 1
    assert asked.spent == pytest.approx(cost.macs(codes).sum() / 1e8 / 4)
    with pytest.raises(InvalidArgumentError, match="no epoch 5; expected one of: 1, 2, 3, 4"):
        asked.evaluate(codes, epoch=5)
    with pytest.raises(InvalidArgumentError, match="no learning curves"):
        Objective.table(bench, "video").evaluate(codes, epoch=1)


def test_epochs_and_ends_have_costs_in_one_unit(tmp_path: Path) -> None:
    """The curves know seconds, the table does not: all are told in GMACs."""
    seg, codes = tasks.get("seg"), space.sample(3, seed=0)
    rows = {
        "codes": codes,
        "mIoU": [40.0, 50.0, 60.0],
        "macs": cost.macs(codes),
        "params": cost.params(codes),
    }
    curves = {
        "codes": np.repeat(codes, 2, 0),
        "seed": [0] * 6,
        "epoch": [1, 2] * 3,
        "mIoU": [20.0, 40.0, 25.0, 50.0, 30.0, 60.0],
        "seconds": [100.0, 200.0] * 3,
    }

    def fill(folder: Path) -> None:
        table.write(folder / "tables/seg.parquet", seg, rows)
        table.write_curves(folder / "curves/seg.parquet", seg, curves)

    made = release.create(fill, "small", "1.0.0", [seg], target=tmp_path / "small")
    asked = Objective.table(Benchmark(made), "seg")
    half, whole = (asked.measure(codes[:1], epoch) for epoch in (1, None))
    assert (asked.unit, half.cost, whole.cost) == (
        "GMACs", pytest.approx(cost.macs(codes)[0] / 2e9), pytest.approx(cost.macs(codes)[0] / 1e9),
    )  # fmt: skip


def test_tasks_of_a_joint_table_are_stopped_alike_and_charged_each_its_share() -> None:
    bench = nasbench_mr.load("mini")  # 3 epochs of mini-cls, 4 of mini-video
    asked = Objective.table(bench, "mini-cls,mini-video")
    assert asked.epochs == (1, 2, 3)
    code = bench.codes("mini-cls")[1:2]
    seeds = bench.query(code[0], "mini-video").seeds
    for epoch, own, shares in ((1, 1, (1 / 3, 1 / 4)), (2, 3, (2 / 3, 3 / 4)), (3, 4, (1.0, 1.0))):
        found = asked.measure(code, epoch)
        assert found.evaluations == pytest.approx(np.mean(shares))
        cls, video = (
            bench.query(code[0], task, epoch=at).seconds
            for task, at in (("mini-cls", epoch), ("mini-video", own))
        )
        assert found.cost == pytest.approx(cls + video)
        curve = [bench.query(code[0], "mini-video", seed=k, epoch=own)["top1"] for k in seeds]
        assert asked.source.measure(code, asked.goals, epoch).values[0, 1] == pytest.approx(np.mean(curve))


class Failing:
    """A source of which every second training fails."""

    def measure(self, codes: np.ndarray, goals: object, epoch: int | None) -> Measured:
        values = np.where(np.arange(len(codes)) % 2, np.nan, 50.0)[:, None]
        return Measured(values, np.ones(len(codes)), "seconds")


def test_a_failed_training_counts_as_the_worst_value() -> None:
    seg = tasks.get("seg")
    live = Objective.live(Failing(), [Goal("seg", seg, seg.metric())])
    assert live.evaluate(space.sample(4, seed=0)).tolist() == [50.0, 0.0, 50.0, 0.0]
    assert (live.evaluations, live.spent) == (4, 4)
    assert math.isnan(live.best())
    with pytest.raises(InvalidArgumentError, match="at least one goal"):
        Objective.live(Failing(), [])


def test_a_failed_training_needs_a_worst_value() -> None:
    """Else it would count as some number, which may be the best there is."""
    seg = tasks.get("seg")
    loss = tasks.Metric("loss", "nats", "min", 0.0, None)
    with pytest.raises(InvalidArgumentError, match="'loss' has no upper bound, which a failed training"):
        Objective.live(Failing(), [Goal("mine", seg, loss)])
    known = Objective.live(Failing(), [Goal("mine", seg, loss, mean=40.0, std=2.0)])
    # Ten standard deviations worse than the mean.
    assert known.evaluate(space.sample(2, seed=0)).tolist() == [-50.0, -60.0]
    bounded = Objective.live(Failing(), [Goal("mine", seg, tasks.Metric("loss", "nats", "min", 0.0, 99.0))])
    assert bounded.evaluate(space.sample(2, seed=0)).tolist() == [-50.0, -99.0]


@pytest.mark.parametrize("given", [{"seg": "1"}, {"seg": True}, {"seg": 0}, None, 3, ["seg", 3], []])
def test_tasks_are_names_with_positive_weights(given: object) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        objective.parse_tasks(given)


def test_fronts_on_surrogates_have_the_costs_of_the_table_where_there_is_no_formula(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(nasbench201, "macs")
    task = dataclasses.replace(tasks.get("nas-bench-201"), name="cells", cost="table")
    codes, macs = nasbench201.sample(30, seed=0), np.arange(1.0, 31.0)
    macs[20:] = np.nan
    columns = {"codes": codes, "Acc": np.linspace(50, 60, 30), "macs": macs}

    def fill(folder: Path) -> None:
        table.write(folder / "tables/cells.parquet", task, columns)

    made = release.create(fill, "cells", "1.0.0", [task], target=tmp_path / "cells")
    fitted = predictors.fit_surrogates(Benchmark(made), epochs=2, members=2, workers=0)
    bench = nasbench_mr.load(fitted.path)
    for names in (("cells", "macs"), ("macs", "cells")):
        asked = Objective.surrogate(bench, names, front=True)
        # As in a table, codes of unknown cost are no part of it.
        assert (asked.domain.codes == codes[:20]).all()
        values = asked.evaluate(asked.domain.codes)
        of_macs = values[:, names.index("macs")]
        assert of_macs == pytest.approx(1 - np.log(macs[:20]) / np.log(20))
    with pytest.raises(InvalidArgumentError, match="no code is tabulated for all of cells, params"):
        Objective.surrogate(bench, ("cells", "params"), front=True)
    trace = search.run(search.make("nsga2", asked, seed=0, population=4), asked, 8)
    assert trace.best_value > 0


def test_a_release_without_surrogates_says_so(bench: Benchmark) -> None:
    with pytest.raises(SurrogateNotFoundError, match="surrogate fit"):
        Objective.surrogate(bench, "seg")
    with pytest.raises(UnknownTaskError):
        Objective.surrogate(bench, "sego")
