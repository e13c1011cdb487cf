"""The experiment on NCP and the rim: what its verdict counts, and a part of it on a small table."""

from __future__ import annotations

from pathlib import Path

import ncp_rim as script
import numpy as np
import pandas as pd
import pytest

from nasbench_mr import cost, space, tasks
from nasbench_mr.predictors.evaluation import Data


def rows(method: str, scores: dict[str, list[tuple[float, float]]]) -> list[dict[str, object]]:
    """Rows of one method: for each task the scores of two splits at each limit."""
    return [
        {"method": method, "split": split, "task": task, "limit": limit, "gbdt": pair[split]}
        for split in (0, 1)
        for task, pairs in scores.items()
        for limit, pair in zip(script.LIMITS, pairs, strict=True)
    ]


def test_a_verdict_is_about_the_best_rival_of_each_case() -> None:
    frame = pd.DataFrame(
        rows("random", {"seg": [(1, 1), (2, 2), (3, 3)]})
        + rows("evolution", {"seg": [(0, 0), (3, 3), (2, 2)]})
        + rows("local", {"seg": [(0, 0), (0, 0), (0, 0)]})
        + rows("ncp", {"seg": [(2, 2), (3.2, 2.6), (2.4, 2.6)]})
    )
    found = script.verdict(script.cases(frame, "gbdt"), "ncp")
    # Gains: 1 over random; -0.1 over evolution with a standard error of 0.3; -0.5 over random, error 0.1.
    assert found["wins"] == pytest.approx(1 / 3)
    assert found["level"] == pytest.approx(2 / 3)
    assert found["gain"] == pytest.approx((1 - 0.1 - 0.5) / 3)
    # From 1 to 2 GMACs it rises; from 2 to 4 it falls by 0.8 and 0.0: by 0.4, its standard error.
    assert found["monotone"] == pytest.approx(1)


def test_a_part_judges_every_method_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "LIMITS", (2e9,))
    monkeypatch.setattr(script, "RANDOM", 200)
    monkeypatch.setattr(script, "ASKED", 128)
    monkeypatch.setattr(script, "EDITING", {"starts": 8, "steps": 5, "polish": 1})
    codes = space.sample(60, seed=0)
    values = 8 * np.log10(cost.macs(codes))[:, None]
    data = Data(space, (tasks.get("seg"),), codes, ("seg/mIoU",), values)
    frame = script.part(data, 0, "seg", tmp_path)
    assert {"random", "evolution", "local", "ncp", "data's box", "cross-fitting"} <= set(frame["method"])
    assert (frame["macs"] <= 2e9).all()
    assert (frame["macs"] == cost.macs(np.array([space.parse(code) for code in frame["code"]]))).all()
    # What grows with the MACs is judged by them: in the table's standard deviations, to a few of them.
    expected = 8 * np.log10(frame["macs"]) / values.std()
    assert frame["ridge"].to_numpy() == pytest.approx(expected.to_numpy(), abs=1)
    by_method = frame.set_index("method")
    # A price on each step from the data never takes one farther from it.
    away = [
        by_method.loc["ncp", "distance"],
        *(by_method.loc[f"distance x {p}", "distance"] for p in script.PRICES),
    ]
    assert sorted(away, reverse=True) == away
    # The models are kept, so the same part is the same again.
    assert script.part(data, 0, "seg", tmp_path).equals(frame)
