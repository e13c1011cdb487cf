"""The figures of measured costs: what is scored, and by codes that the estimate did not see."""

from __future__ import annotations

import measuring as script
import numpy as np
import pytest

import nasbench_mr


def test_an_estimate_is_scored_on_the_codes_it_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = nasbench_mr.load("nasbench-mr-costs")
    name = script.COSTS["onnx"]
    codes = costs.codes(name)[:50]
    latency = np.asarray(costs.query_many(codes, name)["latency_ms"])
    seen = []

    class Reversed:
        """Says the opposite of what was measured."""

        def __init__(self, _: str, fitted: np.ndarray, values: np.ndarray) -> None:
            seen.append((fitted.tolist(), values.tolist()))

        def predict(self, asked: np.ndarray) -> tuple[np.ndarray, None]:
            seen.append(asked.tolist())
            return -latency[40:, None], None

    monkeypatch.setattr(script, "Estimate", Reversed)
    assert script.held_out(costs, name, codes) == pytest.approx(-1)
    assert seen == [(codes[:40].tolist(), latency[:40].tolist()), codes[40:].tolist()]


def test_both_runtimes_take_time() -> None:
    codes = nasbench_mr.load("mini").codes("mini-cls")[:1]
    assert all(script.seconds(codes, runtime) > 0 for runtime in script.COSTS)
