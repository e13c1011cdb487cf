"""The fair table of predictors: what is tuned on what, and the lead that is reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import predictors_fair as script
import pytest

from nasbench_mr import space, tasks
from nasbench_mr.predictors.evaluation import Data, make_split


def test_settings_are_chosen_without_the_test_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = space.sample(100, seed=0)
    data = Data(space, (tasks.get("seg"),), codes, ("seg/mIoU",), np.arange(100.0)[:, None])
    split = make_split(codes, 0)
    calls: list[tuple[dict[str, Any], list[int], list[int]]] = []

    def scored(_: Data, __: int, ___: str, setting: dict[str, Any], train: Any, test: Any) -> np.ndarray:
        calls.append((setting, train.tolist(), test.tolist()))
        return np.array([1 - abs(setting.get("epochs", 0) - 100) / 1000])

    monkeypatch.setattr(script, "scored", scored)
    frame = script.part(data, 0, "ncp-mlp").set_index("way")
    train, test = split.train.tolist(), split.test.tolist()
    tuning = [call for call in calls if call[2] != test]
    # The first 64 of the 80 training codes, and the other 16.
    assert [call[0] for call in tuning] == script.GRIDS["ncp-mlp"]
    assert all(call[1:] == (train[:64], train[64:]) for call in tuning)
    # What did best there, 100 epochs, is fitted to all training codes.
    assert frame.loc["tuned", "setting"] == repr({"held_out": 0.0, "epochs": 100})
    assert ({"held_out": 0.0, "epochs": 100}, train, test) in calls
    assert frame["kendall"].to_dict() == {"default": 0.9, "all codes": 0.9, "tuned": 1.0}


def test_the_lead_is_over_the_same_way() -> None:
    taus = {("ensemble", "default"): 0.7, ("ensemble", "tuned"): 0.72, ("gbdt", "default"): 0.69}
    taus |= {("gbdt", "tuned"): 0.7}
    frame = pd.DataFrame(
        {"predictor": name, "way": way, "task": "seg", "split": split, "kendall": tau + 0.01 * split}
        for (name, way), tau in taus.items()
        for split in (0, 1)
    )
    found = {figure.name: figure.measured for figure in script.figures(frame)}
    assert found["ensemble, default: mean tau"] == "0.7050"
    assert found["gbdt, default: mean tau"].startswith("0.6950, default ensemble leads by +0.0100")
    assert found["gbdt, tuned: mean tau"].startswith("0.7050, tuned ensemble leads by +0.0200")


def test_splits_of_a_task_are_no_tests_of_their_own() -> None:
    """Six tasks, of three splits each: the smallest p is 2 / 2^6."""
    frame = pd.DataFrame(
        {"predictor": name, "way": "default", "task": f"t{task}", "split": split, "kendall": tau + task / 100}
        for name, tau in (("ensemble", 0.7), ("gbdt", 0.6))
        for task in range(6)
        for split in range(3)
    )
    _, other = script.figures(frame)
    assert other.measured == "0.6250, default ensemble leads by +0.1000 (Holm p 0.031)"
