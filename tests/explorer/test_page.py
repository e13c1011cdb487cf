"""The explorer's page in a real browser: what it draws, computes, selects and remembers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import nasbench_mr
from nasbench_mr import cost, space
from nasbench_mr.release import EMBEDDED

Open = Callable[..., Any]


def test_every_row_is_a_point(show: Open, mini: Path) -> None:
    bench = nasbench_mr.load(EMBEDDED)
    page = show(mini)
    for task in bench.tasks:
        metric = bench.task(task).objective
        page.select_option("#y", f"{task}/{metric}")
        page.wait_for_function(f"explorer.app.points.y.key === '{task}/{metric}'")
        assert page.evaluate("explorer.scatter.draw()") == len(bench.codes(task)) == 230
        drawn = page.evaluate("explorer.app.points.rows.map((r) => explorer.table.space.code(r))")
        answers = bench.query_many(np.array(drawn), task, source="table")
        assert page.evaluate("explorer.app.points.ys") == answers[metric].tolist()
        assert page.evaluate("explorer.app.points.xs") == answers["macs"].tolist()
    page.select_option("#y", "*")
    assert page.evaluate("explorer.scatter.draw()") == 4 * 230


def test_predictions_and_costs_are_pythons(show: Open, mini: Path) -> None:
    bench = nasbench_mr.load(EMBEDDED)
    codes = space.sample(200, seed=5)
    page = show(mini)
    found = page.evaluate(
        "(codes) => codes.map((c) => [explorer.costs(c), explorer.predict(c)])", codes.tolist()
    )
    assert [costs["macs"] for costs, _ in found] == cost.macs(codes).tolist()
    assert [costs["params"] for costs, _ in found] == cost.params(codes).tolist()
    for task in bench.tasks:
        surrogate = bench.surrogate(task)
        assert surrogate is not None
        mean, std = surrogate.predict(codes)
        for j, metric in enumerate(surrogate.names):
            said = [predicted[f"{task}/{metric}"] for _, predicted in found]
            np.testing.assert_allclose([each["mean"] for each in said], mean[:, j], rtol=0, atol=1e-4)
            np.testing.assert_allclose([each["std"] for each in said], std[:, j], rtol=0, atol=1e-4)
