"""The simulated clock: who ends when, what a search knows by then, and where the clock stops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import plot, search, space, tasks
from nasbench_mr.arrays import Codes, Floats
from nasbench_mr.domain import Domain
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.fronts import hypervolume
from nasbench_mr.objective import Goal, Measured, Objective
from nasbench_mr.search import plots, simulate
from nasbench_mr.search.base import Searcher

CODES = space.sample(6, seed=0)
#: What each of `CODES` achieves, and how long its training takes.
VALUES = [10.0, 60.0, 30.0, 20.0, 50.0, 40.0]
SECONDS = [5.0, 1.0, 1.0, 4.0, 2.0, 1.0]


class Known:
    """Answers for `CODES`; a training up to epoch e of 4 takes e / 4 of its time."""

    def measure(self, codes: Codes, goals: list[Goal], epoch: int | None) -> Measured:
        rows = [np.flatnonzero((code == CODES).all(axis=1))[0] for code in codes]
        share = (epoch or 4) / 4
        return Measured(np.array(VALUES)[rows, None] * share, np.array(SECONDS)[rows] * share, "seconds")


class InOrder(Searcher):
    """Asks for `CODES` in their order; remembers what it was told, and after how many questions."""

    name = "in order"

    def _propose(self, n: int) -> Codes:
        return CODES[len(self._asked) :]

    def _tell(self, codes: Codes, values: Floats, fidelity: np.ndarray) -> None:
        super()._tell(codes, values, fidelity)
        self.told = [*getattr(self, "told", []), (values[0], len(self._asked))]


def objective(epochs: tuple[int, ...] = ()) -> Objective:
    seg = tasks.get("seg")
    listed = Domain(codes=CODES, macs=np.arange(1, 7), params=np.arange(1, 7))
    return Objective.live(Known(), [Goal("seg", seg, seg.metric())], listed, epochs)


def test_trainings_end_in_the_order_of_the_clock_and_are_told_then() -> None:
    where = objective()
    searcher = InOrder(where.domain)
    run = simulate(searcher, where, workers=2)
    # Worker 0 trains the first code from 0 to 5 s and the fifth to 7 s, worker 1 the others meanwhile.
    assert run.codes.tolist() == CODES[[1, 2, 0, 3, 4, 5]].tolist()
    assert run.start.tolist() == [0, 1, 0, 2, 5, 6]
    assert run.finish.tolist() == [1, 2, 5, 6, 7, 7]
    assert run.worker.tolist() == [1, 1, 0, 1, 0, 1]
    assert run.spent.tolist() == [1, 2, 7, 11, 13, 14]
    assert run.best.tolist() == [60] * 6
    # Each value was told before the worker asked again.
    assert searcher.told == [(60, 2), (30, 3), (10, 4), (20, 5), (50, 6), (40, 6)]
    assert (run.utilisation, run.unit, run.workers) == (1.0, "seconds", 2)
    assert run == simulate(InOrder(where.domain), where, workers=2)


def test_one_worker_trains_as_run_does() -> None:
    where = objective()
    run, trace = (
        simulate(InOrder(where.domain), where, workers=1),
        search.run(InOrder(where.domain), where, 6),
    )
    assert run.codes.tolist() == trace.codes.tolist()
    assert run.values.tolist() == trace.values.tolist()
    assert run.evaluations.tolist() == trace.evaluations.tolist()
    assert run.finish.tolist() == run.spent.tolist() == trace.spent.tolist()


def test_the_clock_and_the_budget_stop_it() -> None:
    where = objective()
    by_clock = simulate(InOrder(where.domain), where, workers=2, seconds=5)
    assert by_clock.finish.tolist() == [1, 2, 5]
    by_budget = simulate(InOrder(where.domain), where, workers=2, budget=3)
    assert sorted(by_budget.values.tolist()) == [10, 30, 60]
    none = simulate(InOrder(where.domain), where, seconds=0.5)
    assert none.at([1]).tolist() == [pytest.approx(np.nan, nan_ok=True)]
    assert np.isnan(none.utilisation)


def test_what_was_best_at_a_time() -> None:
    where = objective()
    run = simulate(InOrder(where.domain), where, workers=1)
    assert run.at([4.9, 5, 6, 100]).tolist() == [pytest.approx(np.nan, nan_ok=True), 10, 60, 60]


def test_a_resumed_training_takes_the_difference() -> None:
    for resume, spent in ((False, 14 + 14 / 2), (True, 14)):
        where = objective(epochs=(2, 4))
        searcher = search.make("halving", where, factor=2)
        run = simulate(searcher, where, workers=2, resume=resume)
        # Half of each training for the rung at epoch 2; in the end every code moves up.
        assert sorted(run.fidelity.tolist()) == [0] * 6 + [2] * 6
        assert run.spent[-1] == spent
        assert run.evaluations[-1] == (6 if resume else 9)
        assert run.best_value == 60


def test_a_front_is_simulated() -> None:
    bench = nasbench_mr.load("mini")
    where = Objective.table(bench, ("mini-seg", "macs"), front=True)
    run = simulate(search.make("nsga2", where, seed=0, population=4), where, workers=3, budget=12)
    assert (run.values == where.evaluate(run.codes)).all()
    # Until a time, what had ended by then counts.
    at = float(run.finish[5])
    assert run.at([0, at]).tolist() == [
        pytest.approx(np.nan, nan_ok=True), pytest.approx(hypervolume(run.values[run.finish <= at]))
    ]  # fmt: skip
    none = simulate(search.make("nsga2", where, seed=0), where, seconds=1e-9)
    assert none.values.shape == (0, 2)
    assert none.front.shape == (0, 27)


def test_hyperband_starts_codes_on_every_rung_with_equal_shares() -> None:
    where = objective(epochs=(1, 2, 4))
    searcher = search.make("hyperband", where, factor=2)
    assert [bracket.rungs for bracket in searcher.brackets] == [(1, 2, 0), (2, 0), (0,)]
    searcher.ask(4)
    # Epochs: 1 in the first bracket, 2 in the second, 4 in the third, then 1 more in the first.
    assert searcher.fidelity.tolist() == [1, 2, 0, 1]


def test_mini_knows_the_seconds_to_each_epoch() -> None:
    bench = nasbench_mr.load("mini")
    assert bench.fidelities("mini-cls") == (1, 2, 3)
    assert bench.fidelities("mini-seg") == (2, 4, 6, 8, 10, 12)
    code = bench.codes("mini-cls")[40]
    curve = bench.curves("mini-cls")
    own = curve[(curve[list(space.NAMES)] == code).all(axis=1)].groupby("epoch")["seconds"]
    assert own.count().eq(3).all()  # seeds
    own = own.mean()
    for epoch in (1, 2, 3):
        assert bench.query(code, "mini-cls", epoch=epoch).seconds == pytest.approx(own[epoch])
        cost = Objective.table(bench, "mini-cls").measure(code[None], epoch).cost
        assert cost == pytest.approx([own[epoch]])
    assert bench.query(code, "mini-cls").seconds == pytest.approx(own[3])


def test_seconds_without_a_clock_in_the_curve_are_shares_of_the_training(tiny_release: Path) -> None:
    bench = nasbench_mr.load(tiny_release)
    code = bench.codes("seg")[20]
    whole = bench.query(code, "seg").seconds
    assert bench.query(code, "seg", epoch=3).seconds == pytest.approx(whole * 3 / 4)
    assert bench.fidelities("seg") == (1, 2, 3, 4)
    assert bench.fidelities("video") == ()
    assert np.isnan(bench.query(code, "video").seconds)


def test_halving_beats_random_at_equal_time_on_mini_det3d() -> None:
    where = Objective.table(nasbench_mr.load("mini"), "mini-det3d")
    ends = {
        name: [
            simulate(search.make(name, where, seed), where, seconds=240, resume=True).best_value
            for seed in range(12)
        ]
        for name in ("halving", "random")
    }
    assert np.mean(ends["halving"]) > np.mean(ends["random"])


def test_simulations_are_drawn(tmp_path: Path) -> None:
    where = objective()
    runs = {"six codes": {"in order": [simulate(InOrder(where.domain), where, workers=w) for w in (1, 2)]}}
    drawn = plots.simulations(runs, {"six codes": 60.0})
    (line,) = drawn.axes[0].lines
    assert line.get_ydata()[-1] == 0
    assert drawn.axes[0].get_ylim()[0] < 0  # the axis does not cover it
    assert plot.save(drawn, tmp_path / "clock.png").stat().st_size > 1000


def test_mistakes_are_named() -> None:
    where = objective()
    whole = Objective.live(Known(), where.goals)
    with pytest.raises(InvalidArgumentError, match="needs a limit: give seconds, or budget"):
        simulate(search.make("random", whole), whole)
    for options in ({"workers": 0}, {"seconds": -1}, {"budget": 0}):
        with pytest.raises(InvalidArgumentError, match=f"{next(iter(options))} is"):
            simulate(InOrder(where.domain), where, **options)
