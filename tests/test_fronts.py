"""Several objectives: hypervolume, scales, and objectives that are fronts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import search
from nasbench_mr.analysis import non_dominated
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.fronts import Scale, front, gain, growing, hypervolume
from nasbench_mr.objective import Objective


@pytest.fixture(scope="module")
def mini() -> Benchmark:
    return nasbench_mr.load("mini")


def test_volumes_by_hand() -> None:
    assert hypervolume(np.array([[0.5, 0.5]])) == 0.25
    # Two rectangles that share a quarter: 0.5 + 0.5 - 0.25.
    assert hypervolume(np.array([[1.0, 0.5], [0.5, 1.0]])) == 0.75
    assert hypervolume(np.array([[1.0, 0.5], [0.5, 1.0], [0.4, 0.4], [1.0, 0.5]])) == 0.75
    assert hypervolume(np.array([[0.0, 1.0], [-1.0, 0.5]])) == 0
    assert hypervolume(np.empty((0, 3))) == 0
    # Three boxes of 1 x 1 x 0.5: each pair shares 1/4, all three 1/8.
    boxes = 1 - np.eye(3) / 2
    assert hypervolume(boxes) == pytest.approx(3 / 2 - 3 / 4 + 1 / 8)
    assert gain(np.array([1.0, 1.0]), np.array([[1.0, 0.5], [0.5, 1.0]])) == 0.25
    assert gain(np.array([0.5, 0.5]), np.array([[1.0, 0.5]])) == 0
    assert growing(np.array([[1.0, 0.5], [0.2, 0.2], [0.5, 1.0]])).tolist() == [0.5, 0.5, 0.75]


@pytest.mark.parametrize("function", [hypervolume, growing, front])
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.5, 0.5], r"shape \(2,\); expected \(n, m\)"),
        ([[]], r"shape \(1, 0\); expected \(n, m\)"),
        (["x"], r"are \['x'\]; expected \(n, m\) numbers"),
        ([[0.5, 0.5], [np.nan, 0.9]], r"objectives\[1\] is \[nan, 0.9\]; expected finite numbers: leave out"),
        ([[np.inf, 0.9]], r"objectives\[0\] is \[inf, 0.9\]"),
    ],
)
def test_what_are_no_objectives(function: Any, values: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        function(values)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_volumes_by_inclusion_and_exclusion(m: int) -> None:
    """The union of boxes is the sum of all, minus what pairs share, and so on."""
    points = np.random.default_rng(m).random((9, m))
    expected = 0.0
    for size in range(1, len(points) + 1):
        for chosen in itertools.combinations(range(len(points)), size):
            expected -= (-1) ** size * points[list(chosen)].min(axis=0).prod()
    assert hypervolume(points) == pytest.approx(expected)
    assert growing(points)[-1] == pytest.approx(expected)
    assert growing(points[::-1])[-1] == pytest.approx(expected)


def test_front_keeps_one_of_equals() -> None:
    values = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.5]])
    assert front(values).tolist() == [0, 1]


def test_scale() -> None:
    values = np.array([[70.0, 1.0], [80.0, 10.0], [75.0, 100.0]])
    scale = Scale.of(values, np.array([1.0, -1.0]), np.array([False, True]), ["acc", "macs"])
    # 0 is the worst, 1 the best; of the cost the logarithm counts.
    assert scale(values) == pytest.approx(np.array([[0, 1], [1, 0.5], [0.5, 0]]))
    assert scale(np.array([[np.nan, 1.0]])).tolist() == [[0, 0]]
    with pytest.raises(InvalidArgumentError, match="macs is 0 for a code"):
        Scale.of(values * [1, 0], np.array([1.0, -1.0]), np.array([False, True]), ["acc", "macs"])
    with pytest.raises(
        InvalidArgumentError, match="acc is 3 for each of the 3 codes that acc, macs share; leave"
    ):
        Scale.of(values * 0 + 3, np.array([1.0, -1.0]), np.array([False, True]), ["acc", "macs"])
    # Both vary over the codes of their own tables, of which they share one.
    with pytest.raises(InvalidArgumentError, match="a is 70 for the only code that a, f1 share; a front"):
        Scale.of(values[:1], np.array([1.0, 1.0]), np.array([False, False]), ["a", "f1"])


def test_the_front_of_a_table(mini: Benchmark) -> None:
    made = Objective.table(mini, ("mini-seg", "macs"), front=True)
    found = made.front()
    assert found is not None
    codes, values = found
    expected = mini.pareto("mini-seg", cost="macs")
    assert {tuple(code) for code in codes.tolist()} == set(expected["code"])
    assert sorted(values[:, 1]) == sorted(expected["macs"])
    every = made.evaluate(made.domain.codes)
    assert every.shape == (len(made.domain.codes), 2)
    assert every.min(axis=0).tolist() == [0, 0]
    assert every.max(axis=0).tolist() == [1, 1]
    assert made.best() == pytest.approx(hypervolume(every))
    # The scale does not change with the limits.
    limited = Objective.table(mini, ("mini-seg", "macs"), front=True, max_macs=1e8)
    assert (limited.evaluate(codes[:1]) == made.evaluate(codes[:1])).all()
    assert limited.best() < made.best()


def test_what_is_no_front(mini: Benchmark) -> None:
    with pytest.raises(InvalidArgumentError, match="expected 2 to 4 objectives"):
        Objective.table(mini, "mini-seg", front=True)
    with pytest.raises(InvalidArgumentError, match="costs alone"):
        Objective.table(mini, ("macs", "params"), front=True)
    several = Objective.table(mini, ("mini-seg", "macs"), front=True)
    with pytest.raises(InvalidArgumentError, match="'evolution' maximises one value, and"):
        search.make("evolution", several)
    with pytest.raises(InvalidArgumentError, match="'nsga2' searches a front, and"):
        search.make("nsga2", Objective.table(mini, "mini-seg"))


@pytest.mark.parametrize("kind", ["random", "nsga2", "pareto-local", "ncp-front"])
def test_searches(mini: Benchmark, kind: str) -> None:
    made = Objective.table(mini, ("mini-seg", "mini-seg/mAcc", "macs"), front=True, max_macs=2e8)
    options = {"ncp-front": {"starts": 6, "steps": 3, "weights": 1}, "nsga2": {"population": 8}}
    traces = [search.run(search.make(kind, made, seed=s, **options.get(kind, {})), made, 26) for s in (0, 0)]
    trace = traces[0]
    assert trace == traces[1]
    assert trace.values.shape == (26, 3)
    assert len(np.unique(trace.codes, axis=0)) == 26
    assert made.domain.contains(trace.codes).all()
    assert (np.diff(trace.best) >= 0).all()
    assert trace.best_value == pytest.approx(hypervolume(trace.values))
    assert trace.best_value <= made.best()
    assert len(trace.front) == len({tuple(v) for v in trace.values[non_dominated(-trace.values)].tolist()})
    assert trace.best_code is None


def test_compare(mini: Benchmark) -> None:
    found = search.compare(mini, "mini-seg+macs", budget=12, seeds=3, workers=0, front=True)
    assert found.searchers == ["random", "nsga2", "pareto-local"]
    assert found.about["unit"] == {"mini-seg+macs": "hypervolume"}
    assert ((found.final() >= 0) & (found.final() < found.best["mini-seg+macs"])).all(axis=None)
    for text in found.runs["code"]:
        codes = [nasbench_mr.space.parse(part) for part in text.split("; ")]
        assert len(set(codes)) == len(codes) >= 1


def test_pareto_of_any_mix(mini: Benchmark) -> None:
    frame = mini.pareto(("mini-seg/mAcc", "mini-video"), cost=("params", "macs"))
    assert list(frame.columns) == ["code", "mini-seg/mAcc", "mini-video", "params", "macs"]
    assert frame["params"].is_monotonic_increasing
    one = mini.query(frame["code"][0], "mini-seg")
    assert one["mAcc"] == frame["mini-seg/mAcc"][0]
    with pytest.raises(InvalidArgumentError, match="cost is 'flops'"):
        mini.pareto("mini-seg", cost=("macs", "flops"))
