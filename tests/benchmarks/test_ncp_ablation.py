"""The ablation of the published loop: a part on `mini`, and what is said of settings."""

from __future__ import annotations

import ncp_ablation as script
import pandas as pd
import pytest

import nasbench_mr
from nasbench_mr import cost, space


def test_a_part_has_every_setting_from_one_start(monkeypatch: pytest.MonkeyPatch) -> None:
    few = ("as published", "without the cost", "winner takes all", "140 steps")
    monkeypatch.setattr(script, "SETTINGS", {name: script.SETTINGS[name] for name in few})
    frame = script.part(nasbench_mr.load("mini"), 0, "mini-cls").set_index("setting")
    assert tuple(frame.index) == few
    for row in frame.itertuples():
        assert cost.macs(row.code)[0] == row.macs
        # The published start: all channels 64, all depths 2.
        start = [64 if step > 1 else 2 for step in space.STEP]
        assert row.macs_ratio == pytest.approx(row.macs / cost.macs(start)[0])
        assert row.changed == sum(a != b for a, b in zip(space.parse(row.code), start, strict=True))
    assert frame["code"].nunique() == len(few)
    # At the published rate one dimension a step moves less than all do.
    assert frame.loc["winner takes all", "changed"] < frame.loc["as published", "changed"]


def test_settings_are_tested_over_tasks() -> None:
    rows = [
        {"setting": setting, "task": f"t{task}", "split": split, "believed": 1.0, "judged": judged + task,
         "macs_ratio": 0.5, "changed": 3, "at_bounds": 0.25}
        for setting, judged in (("as published", 0.0), ("rate 1", 0.5))
        for task in range(6)
        for split in (0, 1)
    ]  # fmt: skip
    first, second = script.figures(pd.DataFrame(rows))
    # The mean of 0 to 5, and half more; six of six tasks the same way: p = 2 / 2^6.
    assert first.measured.startswith("judged +2.500 (believed +1.000), 0.50 of the start's MACs")
    assert second.measured.startswith("judged +3.000")
    assert second.measured.endswith("Holm p 0.031")
