"""The experiments that train: what is trained, and what is said of it; by a trainer that costs nothing."""

from __future__ import annotations

from pathlib import Path

import ncp_trained as script
import numpy as np
import pandas as pd
import pytest

import nasbench_mr
from nasbench_mr import cost, space


def test_rounds_grow_the_table_by_codes_it_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = nasbench_mr.load("mini")
    monkeypatch.setattr(script, "PER_ROUND", 3)
    monkeypatch.setattr(script, "ROUNDS", 2)
    seen = []

    class Model:
        def fit(self, codes: np.ndarray, values: np.ndarray, names: tuple[str, ...]) -> Model:
            seen.append((len(codes), int(np.isfinite(values[:, names.index("mini-cls/top1")]).sum())))
            return self

    monkeypatch.setattr(script.predictors, "make", lambda *_, **__: Model())
    proposed = np.concatenate([bench.codes("mini-cls")[:2], space.sample(8, seed=3)])
    monkeypatch.setattr(script.search, "ncp", lambda *_, **__: type("Found", (), {"codes": proposed})())

    def top1(self: script.Trials, codes: np.ndarray) -> np.ndarray:
        return codes.sum(axis=1, dtype=float)[:, None] + np.arange(self.seeds)

    monkeypatch.setattr(script.Trials, "__call__", top1)
    trials = script.Trials(bench, "mini-cls", 1e9, 2, out=tmp_path, where={})
    frame = script.rounds(trials)
    # The table's own codes are passed over; each round's are new, and the next model knows them.
    assert seen == [(230, 230), (233, 233)]
    ours = frame[frame["method"] == "ncp"]
    assert ours[ours["round"] == 0]["code"].unique().tolist() == [space.to_string(c) for c in proposed[2:5]]
    assert ours[ours["round"] == 1]["code"].unique().tolist() == [space.to_string(c) for c in proposed[5:8]]
    assert ours.groupby("code")["seed"].apply(list).iloc[0] == [100, 101]
    # Two methods, two rounds, three codes, two seeds.
    assert len(frame) == 24


def test_codes_are_trained_with_seeds_the_table_lacks(tmp_path: Path) -> None:
    where = {"data": tmp_path, "workers": 1, "trainer": "fake_trainers:instant"}
    trials = script.Trials(nasbench_mr.load("mini"), "mini-cls", 1e9, 2, out=tmp_path / "out", where=where)
    codes = space.sample(2, seed=0)
    # fake_trainers.top1.
    expected = [[(int(code.sum()) + seed) % 100 for seed in (100, 101)] for code in codes]
    assert trials(codes).tolist() == expected
    assert trials(codes[:1]).tolist() == expected[:1]


def test_a_live_run_trains_what_the_search_asks_for(tmp_path: Path) -> None:
    where = {"data": tmp_path, "workers": 1, "trainer": "fake_trainers:instant"}
    frame = script.Live("mini-cls", 150e6, "random", 0, 4)(tmp_path / "out", where)
    assert frame["evaluations"].tolist() == [1, 2, 3, 4]
    codes = np.array([space.parse(code) for code in frame["code"]])
    assert (cost.macs(codes) <= 150e6).all()
    assert frame["value"].tolist() == (codes.sum(axis=1) % 100).tolist()
    assert frame["best"].tolist() == frame["value"].cummax().tolist()
    assert set(frame["method"]) == {"random"}


def test_the_best_code_of_a_round_is_its_best_mean() -> None:
    rows = [("ncp", 0, "a", 1.0), ("ncp", 0, "a", 3.0), ("ncp", 0, "b", 0.0), ("ncp", 0, "b", 10.0)]
    rows += [("random", 0, "c", 4.0), ("random", 0, "c", 4.0)]
    frame = pd.DataFrame(rows, columns=["method", "round", "code", "value"]).assign(task="t", limit=1e9)
    ours, theirs = script.figures(frame, "rounds")
    assert ours.measured.startswith("5.00 +- nan of 1, by round 5.00")
    assert theirs.measured.startswith("4.00")


def test_codes_of_known_networks_are_trained_beside_those_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = nasbench_mr.load("mini")
    best = space.sample(1, seed=0)[0]

    class Model:
        names = ("mini-cls/top1", "mini-video/top1")

        def fit(self, codes: np.ndarray, values: np.ndarray, names: tuple[str, ...]) -> Model:
            return self

        def predict(self, codes: np.ndarray) -> tuple[np.ndarray, None]:
            return np.tile([1.0, 2.0], (len(codes), 1)), None

    monkeypatch.setattr(script.predictors, "make", lambda *_, **__: Model())
    monkeypatch.setattr(script.search, "ncp", lambda *_, **__: type("Found", (), {"best": best})())
    monkeypatch.setattr(script.Trials, "__call__", lambda self, codes: np.ones((len(codes), self.seeds)))
    tasks = ("mini-cls", "mini-video")
    trials = {task: script.Trials(bench, task, 150e6, 2, out=tmp_path, where={}) for task in tasks}
    frame = script.tables(trials)
    one = frame[(frame["task"] == "mini-cls") & (frame["seed"] == 100)]
    # Of all networks that people know, three have at most 1 GMACs.
    known = ["HRNet-W18-small-like", "ResNet-18-like", "ResNet-34-like"]
    assert one[one["how"] == "itself"]["name"].tolist() == known
    # Each task's own, and the two jointly as a pair and as all; then NCP at the cost of the known.
    assert one[one["how"] == "ncp"]["for"].tolist() == [
        "mini-cls", "mini-video", "mini-cls+mini-video", "mini-cls+mini-video", *["mini-cls"] * 3
    ]  # fmt: skip
    assert one["predicted"].unique().tolist() == [1.0]
    assert len(frame) == 2 * 2 * 10
    shown = script.views(frame, ("value",))
    assert [row["how"] for row in shown["reference, value"]] == ["ncp", "itself"] * 3
