"""The experiment of docs/validation.md: what is trained and what is said of it, by a free trainer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import validation as script

import nasbench_mr
from nasbench_mr import space

BENCH = nasbench_mr.load("mini")


def test_found_codes_are_new_and_all_are_within_the_limit(tmp_path: Path) -> None:
    where = {"data": tmp_path, "workers": 1, "trainer": "fake_trainers:instant"}
    frame = script.part(BENCH, "mini-cls", 2, 3, tmp_path / "out", where)
    assert len(frame) == 2 * 2 * 3
    table = {space.to_string(code) for code in BENCH.codes("mini-cls")}
    limit = float(np.median(BENCH.query_many(BENCH.codes("mini-cls"), "mini-cls", "macs")["macs"]))
    assert (frame["macs"] <= limit).all()
    kinds = frame.groupby("kind")["code"].unique()
    assert not table & set(kinds["found"])
    best = BENCH.best("mini-cls", 2, max_macs=limit)
    assert kinds["tabulated"].tolist() == [space.to_string(result.code) for result in best]
    assert frame[frame["kind"] == "tabulated"]["in_the_table"].tolist() == [
        result["top1"] for result in best for _ in range(3)
    ]
    # fake_trainers.top1.
    totals = [sum(space.parse(code)) for code in frame["code"]]
    assert frame["value"].tolist() == [(t + s) % 100 for t, s in zip(totals, frame["seed"], strict=True)]
    shown = script.shown(frame)
    assert [row["trained"] for row in shown] == [frame["value"][k : k + 3].mean() for k in range(0, 12, 3)]


def test_tests_are_corrected_for_the_tasks() -> None:
    """Five codes all better than five others: p = 2 / C(10, 5); twice that for two tasks."""
    rows = [
        {"task": task, "kind": kind, "code": f"{kind}{code}", "seed": seed, "value": base + code + seed}
        for task in ("mini-cls", "mini-video")
        for kind, base in (("found", 50.0), ("tabulated", 10.0))
        for code in range(5)
        for seed in (0, 2)
    ]
    found = script.verdicts(pd.DataFrame(rows), BENCH)
    assert found["mini-cls"] == (
        "found: mean of the codes 53.00, best 55.00; tabulated: mean of the codes 13.00, best 15.00 "
        "(Mann-Whitney over codes, p = 0.008, Holm p = 0.016)"
    )
    assert pytest.approx(0.008, abs=1e-4) == 2 / 252
