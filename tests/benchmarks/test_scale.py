import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scale

import nasbench_mr
from nasbench_mr.data_builders.building import runner


def test_without_failures_it_is_list_scheduling() -> None:
    # Longest first: 5 and 4, then 3 after 4 (at 7), 3 after 5 (at 8), 1 after 7.
    run = scale.simulate(np.array([3.0, 1, 4, 3, 5]), 2)
    assert (run.makespan, run.ideal, run.idle_from) == (8, 8, 7)
    assert (run.utilisation, run.failures, run.lost, run.files) == (1, 0, 0, 4)
    hours = np.random.default_rng(0).uniform(1, 9, 200)
    assert scale.simulate(hours, 8).makespan == pytest.approx(runner.makespan(sorted(hours)[::-1], 8))
    as_they_come = -np.arange(200.0)
    assert scale.simulate(hours, 8, order=as_they_come).makespan == pytest.approx(runner.makespan(hours, 8))


def test_a_node_that_fails_loses_its_trials_until_it_is_back() -> None:
    # Two nodes of one GPU: node 1 starts the 10 h, node 0 the 6 h. Node 1 fails at 4, loses 4 h, is back at 5
    # and starts again.
    hours = np.array([10.0, 6])
    run = scale.simulate(hours, 2, [(4.0, 1)], per_node=1)
    assert (run.makespan, run.failures, run.lost, run.given_up) == (15, 1, 4, 0)
    # With checkpoints every 3 h (0.3 of 10), 1 of the 4 hours is lost: 5 + 7 h.
    run = scale.simulate(hours, 2, [(4.0, 1)], checkpoint=0.3, per_node=1)
    assert (run.makespan, run.lost) == (12, 1)


def test_a_trial_is_given_up_after_its_retries() -> None:
    failing = [(2.0, 0), (4.0, 0), (6.0, 0), (8.0, 0)]
    run = scale.simulate(np.array([3.0]), 1, failing, retries=2, per_node=1)
    # 0-2, 3-4 and 5-6 are lost.
    assert (run.failures, run.lost, run.given_up) == (3, 4, 1)
    run = scale.simulate(np.array([3.0]), 1, failing, retries=9, per_node=1)
    assert (run.makespan, run.given_up) == (12, 0)


def test_a_node_has_eight_gpus() -> None:
    run = scale.simulate(np.full(16, 2.0), 16, [(1.0, 0)])
    assert (run.failures, run.lost, run.makespan) == (1, 8, 4)


def test_failures_come_at_their_rate() -> None:
    some = [next(f) for f in [scale.failures(100.0, 50, np.random.default_rng(0))] for _ in range(5000)]
    assert all(a[0] <= b[0] for a, b in pairwise(some))
    assert some[-1][0] / 5000 == pytest.approx(100 / 50, rel=0.05)
    assert {node for _, node in some} == set(range(50))
    assert list(scale.failures(math.inf, 1, np.random.default_rng(0))) == []


def test_the_law_is_that_of_the_trials() -> None:
    rng = np.random.default_rng(0)
    macs = rng.uniform(1e8, 5e9, 3000)
    law = scale.fit(macs, (5 + 2e-9 * macs) * np.exp(0.1 * rng.standard_normal(3000)))
    assert (law.offset, law.slope * 1e9, law.scatter) == pytest.approx((5, 2, 0.1), rel=0.03)
    hours, predicted = scale.workload([law], 1000.0, codes=50)
    assert (len(hours), hours.sum(), predicted.sum()) == (scale.SETTINGS * 50, *[pytest.approx(1000)] * 2)
    assert np.std(np.log(hours / predicted)) == pytest.approx(0.1, rel=0.1)


def test_the_table_from_a_release(
    tiny_release: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "GPUS", (64,))
    monkeypatch.setattr(scale, "CODES", 100)
    # Its seconds are MACs / 1e8.
    [law] = scale.laws(nasbench_mr.load(tiny_release)).values()
    assert (law.slope * 1e8, law.offset, law.correlation) == pytest.approx((1, 0, 1), abs=1e-6)
    scale.main(["--release", str(tiny_release)])
    out = capsys.readouterr().out
    assert "400,000 GPU-hours" in out
    assert out.count("utilisation") == 4
    assert 5_000 < scale.part_bytes() < 50_000
