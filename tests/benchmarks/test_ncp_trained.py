"""The experiments that train: what is trained, and what is said of it; by a trainer that costs nothing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import ncp_trained as script
import numpy as np
import pandas as pd
import pytest

import nasbench_mr
from nasbench_mr import cost, space
from nasbench_mr.domain import Domain
from nasbench_mr.errors import NasbenchMRError


def test_rounds_grow_the_table_by_codes_it_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = nasbench_mr.load("mini")
    for name, value in {"PER_ROUND": 3, "ROUNDS": 2, "AFTER": 1, "FRESH": 2}.items():
        monkeypatch.setattr(script, name, value)
    seen = []

    class Model:
        def fit(self, codes: np.ndarray, values: np.ndarray, names: tuple[str, ...]) -> Model:
            seen.append((len(codes), int(np.isfinite(values[:, names.index("mini-cls/top1")]).sum())))
            return self

    monkeypatch.setattr(script.predictors, "make", lambda *_, **__: Model())
    proposed = np.concatenate([bench.codes("mini-cls")[:2], space.sample(8, seed=3)])
    monkeypatch.setattr(script.search, "ncp", lambda *_, **__: type("Found", (), {"codes": proposed})())

    def top1(self: script.Trials, codes: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        return codes.sum(axis=1, dtype=float)[:, None] + np.array(seeds)

    monkeypatch.setattr(script.Trials, "__call__", top1)
    trials = script.Trials(bench, "mini-cls", 1e9, tmp_path, {})
    frame = script.rounds(trials, 5)
    # Two rounds of NCP; then with the table as it was, with NCP's and with the random codes.
    assert seen == [(230, 230), (233, 233), (230, 230), (236, 236), (236, 236)]
    # The table's own codes are passed over; each round's are new.
    ours = frame[(frame["method"] == "ncp") & frame["round"].notna()]
    assert ours[ours["round"] == 0]["code"].tolist() == [space.to_string(c) for c in proposed[2:5]]
    assert ours[ours["round"] == 1]["code"].tolist() == [space.to_string(c) for c in proposed[5:8]]
    sums = proposed.sum(axis=1).tolist()
    assert ours["value"].tolist() == [105 + total for total in sums[2:8]]
    # A round's best code is trained with two seeds more, 110 and 111.
    fresh = ours[ours["fresh"].notna()]
    assert fresh["fresh"].tolist() == [max(sums[2:5]) + 110.5, max(sums[5:8]) + 110.5]
    after = frame[frame["round"].isna()].set_index("method")["value"]
    assert after.to_dict() == {
        "as it was": sums[2] + 110.5, "ncp": sums[8] + 110.5, "random": sums[2] + 110.5
    }  # fmt: skip
    assert len(frame) == 2 * 2 * 3 + 3


def test_codes_are_trained_with_the_seeds_asked_for(tmp_path: Path) -> None:
    where = {"data": tmp_path, "workers": 1, "trainer": "fake_trainers:instant"}
    trials = script.Trials(nasbench_mr.load("mini"), "mini-cls", 1e9, tmp_path / "out", where)
    codes = space.sample(2, seed=0)
    # fake_trainers.top1.
    expected = [[(int(code.sum()) + seed) % 100 for seed in (100, 101)] for code in codes]
    assert trials(codes, [100, 101]).tolist() == expected
    assert trials(codes[:1], [101]).tolist() == [expected[0][1:]]


def test_what_could_not_be_trained_is_no_result(tmp_path: Path) -> None:
    where = {"data": tmp_path, "workers": 1, "trainer": "fake_trainers:hopeless"}
    trials = script.Trials(nasbench_mr.load("mini"), "mini-cls", 1e9, tmp_path / "out", where)
    with pytest.raises(NasbenchMRError, match=r"failed: .*rerun to resume"):
        trials(space.sample(1, seed=0), [100])


def test_a_live_run_trains_what_the_search_asks_for(tmp_path: Path) -> None:
    where = {"data": tmp_path, "workers": 1, "trainer": "fake_trainers:instant"}
    trials = script.Trials(nasbench_mr.load("mini"), "mini-cls", 150e6, tmp_path / "more", where)
    frame = script.live(trials, "random", 0, 4, tmp_path / "out")
    assert frame["evaluations"].tolist() == [1, 2, 3, 4]
    codes = np.array([space.parse(code) for code in frame["code"]])
    assert (cost.macs(codes) <= 150e6).all()
    assert frame["value"].tolist() == (codes.sum(axis=1) % 100).tolist()
    assert frame["best"].tolist() == frame["value"].cummax().tolist()
    best = int(codes[frame["value"].argmax()].sum())
    assert frame["fresh"].unique().tolist() == [np.mean([(best + seed) % 100 for seed in (100, 101, 102)])]


def test_evolution_is_more_than_its_first_population() -> None:
    """With a population of at least the budget it would be random search."""
    searcher = script.search.make("evolution", Domain(max_macs=150e6), 0, **script.SEARCHERS["evolution"])
    first = []
    for _ in range(40):
        searcher.tell(asked := searcher.ask(1), asked.sum(axis=1, dtype=float))
        first.append(int((searcher.codes[:-1] != asked).sum(axis=1).min()) if len(searcher.codes) > 1 else 27)
    # Random codes differ from all others in more dimensions than a child from its parent.
    assert min(first[:10]) > 10
    assert np.median(first[10:]) < 5


def test_rivals_are_trained_beside_ncp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*script.RULES, *script.RIVALS, *script.CAUTIOUS]
    codes = dict(zip(names, space.sample(len(names), seed=0), strict=True))
    asked = []

    class Model:
        names = ("mini-cls/top1",)

        def fit(self, *_: object) -> Model:
            return self

        def predict(self, codes: np.ndarray) -> tuple[np.ndarray, None]:
            return codes.sum(axis=1, dtype=float)[:, None], None

    def make(kind: str, seed: int) -> Model:
        asked.append((kind, seed))
        return Model()

    monkeypatch.setattr(script.predictors, "make", make)
    monkeypatch.setattr(script, "chosen", lambda *_, **__: codes)
    monkeypatch.setattr(script, "rival", lambda name, *_: codes[name])
    monkeypatch.setattr(
        script.Trials, "__call__", lambda self, codes, seeds: codes[:, :1] * 1000.0 + np.array(seeds)
    )
    trials = script.Trials(nasbench_mr.load("mini"), "mini-cls", 150e6, tmp_path, {})
    frame = script.rivals(trials, 4).set_index("method")
    assert asked == [(kind, 4) for kind in ("ensemble", *script.JUDGES)]
    for name, code in codes.items():
        row = frame.loc[name]
        assert (row["value"], row["believed"]) == (int(code[0]) * 1000 + 104, code.sum())
        assert (row["macs"], row["code"]) == (cost.macs(code)[0], space.to_string(code))


def test_methods_are_paired_by_seed() -> None:
    """Six pairs that all favour NCP: p = 2 / 2^6; twice that after Holm's correction for two tests."""
    rows = [("ncp", k, 10.0 + k) for k in range(6)] + [("random", k, 9.0 + k / 2) for k in range(6)]
    rows += [("local", k, 12.0 + 2 * k) for k in range(5)] + [("local", 5, np.nan)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "value"]).assign(task="t", limit=1e9)
    found = {figure.name: figure.measured for figure in script.figures(frame, "rivals", {"t": 2.0})}
    assert found["t at 1.000 GMACs, ncp"] == "12.50 +- 0.76 of 6"
    assert found["t at 1.000 GMACs, random"] == "10.25 +- 0.38 of 6"
    # Differences of -1 - k / 2 are halved.
    assert found["random minus ncp"] == "-1.12 +- 0.19 sd of 6, Holm p 0.062"
    # What diverged is not a pair: 2 / 2^5.
    assert found["t at 1.000 GMACs, local"] == "16.00 +- 1.41 of 5"
    assert found["local minus ncp"] == "+2.00 +- 0.35 sd of 5, Holm p 0.062"


def test_a_seed_is_one_pair_over_all_tasks_and_limits() -> None:
    rows = [
        (task, limit, method, seed, value + seed)
        for task, gain in (("a", 4.0), ("b", 10.0))
        for limit in (1e9, 2e9)
        for method, value in (("ncp", gain), ("random", 0.0))
        for seed in range(5)
    ]
    frame = pd.DataFrame(rows, columns=["task", "limit", "method", "seed", "value"])
    # (2 + 2 + 1 + 1) / 4, and 2 / 2^5, not 2 / 2^20.
    *_, last = script.figures(frame, "rivals", {"a": 2.0, "b": 10.0})
    assert last.measured == "-1.50 +- 0.00 sd of 5, Holm p 0.062"


def test_the_scale_is_the_tables_spread() -> None:
    bench = nasbench_mr.load("mini")
    frame = pd.DataFrame({"task": ["mini-cls", "mini-cls"], "release": str(bench.release_of("mini-cls"))})
    top1 = bench.query_many(bench.codes("mini-cls"), "mini-cls")["top1"]
    assert script.spreads(frame) == {"mini-cls": pytest.approx(np.std(top1))}


def test_live_runs_are_judged_by_trainings_of_their_own() -> None:
    rows = [(m, s, e, fresh) for m, fresh in (("ncp", 30), ("random", 25)) for s in (0, 1) for e in (1, 2)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "evaluations", "fresh"])
    frame = frame.assign(task="t", limit=1e9, value=99.0, best=98.0 + frame["evaluations"] + frame["seed"])
    ours, theirs, test = script.figures(frame, "live", {"t": 1.0})
    so_far = "; best so far after 1, 2 trainings 99.50, 100.50"
    assert ours.measured == f"30.00 +- 0.00 of 2{so_far}"
    assert theirs.measured == f"25.00 +- 0.00 of 2{so_far}"
    assert test.measured == "-5.00 +- 0.00 sd of 2, Holm p 0.5"
    # A task that is begun: seed 1 has -5 and -1 there, seed 0 nothing yet.
    begun = frame[frame["seed"] == 1].assign(task="u")
    begun["fresh"] = np.where(begun["method"] == "ncp", 30.0, 29.0)
    *_, first, second, test = script.figures(pd.concat([frame, begun]), "live", {"t": 1.0, "u": 1.0})
    assert (first.measured[:10], second.measured[:10]) == ("30.00 of 1", "29.00 of 1")
    assert test.measured == "-4.00 +- 1.00 sd of 2, Holm p 0.5"


def test_rounds_are_tested_against_random_rounds_and_tables_against_the_first() -> None:
    rows = [(m, s, 0, v, f) for m, f in (("ncp", 5.0), ("random", 4.0)) for s in (0, 1) for v in (9.0, 8.0)]
    for k in range(0, len(rows), 2):
        rows[k] = (*rows[k][:4], np.nan)  # fresh is of the best code alone
    after = {"as it was": 6.0, "ncp": 7.0, "random": 6.5}
    rows += [(m, s, None, v + s, np.nan) for m, v in after.items() for s in (0, 1)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "round", "value", "fresh"])
    made = script.figures(frame.assign(task="t", limit=1e9), "rounds", {"t": 1.0})
    assert {f.name.removeprefix("t at 1.000 GMACs, "): f.measured for f in made} == {
        "ncp, round 1": "5.00 +- 0.00 of 2",
        "random, round 1": "4.00 +- 0.00 of 2",
        "then, table as it was": "6.50 +- 0.50 of 2",
        "then, table ncp": "7.50 +- 0.50 of 2",
        "then, table random": "7.00 +- 0.50 of 2",
        "ncp, round 1 minus random, round 1": "+1.00 +- 0.00 sd of 2, Holm p 1",
        "then, table ncp minus then, table as it was": "+1.00 +- 0.00 sd of 2, Holm p 1",
        "then, table random minus then, table as it was": "+0.50 +- 0.00 sd of 2, Holm p 1",
    }


def test_parts_are_known_by_what_they_depend_on(tmp_path: Path) -> None:
    args = argparse.Namespace(
        data=tmp_path, device="cpu", seeds=[4], tasks=["mini-cls"], shares=[0.5], keep=tmp_path, budget=40
    )
    release = str(nasbench_mr.load("mini").release_of("mini-cls"))
    names = {only: [name for name, _ in script.works(only, args)] for only in script.PARTS}
    assert names == {
        "rivals": [f"{release}/rivals-mini-cls-0.5-4"],
        "tables": [f"{release}/tables-4"],
        "live": [f"{release}/live-mini-cls-0.5-{s}-40-4" for s in ("ncp", "evolution", "random")],
        "rounds": [f"{release}/rounds-mini-cls-0.5-4"],
    }


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
    monkeypatch.setattr(
        script.Trials, "__call__", lambda self, codes, seeds: np.ones((len(codes), 1)) * np.array(seeds)
    )
    tasks = ("mini-cls", "mini-video")
    trials = {task: script.Trials(bench, task, 150e6, tmp_path, {}) for task in tasks}
    frame = script.tables(trials, 2)
    assert frame[["seed", "value"]].drop_duplicates().values.tolist() == [[2, 102]]
    one = frame[frame["task"] == "mini-cls"]
    # Of all networks that people know, three have at most 1 GMACs.
    known = ["HRNet-W18-small-like", "ResNet-18-like", "ResNet-34-like"]
    assert one[one["how"] == "itself"]["name"].tolist() == known
    # Each task's own, and the two jointly as a pair and as all; then NCP at the cost of the known.
    assert one[one["how"] == "ncp"]["for"].tolist() == [
        "mini-cls", "mini-video", "mini-cls+mini-video", "mini-cls+mini-video", *["mini-cls"] * 3
    ]  # fmt: skip
    assert one["predicted"].unique().tolist() == [1.0]
    assert len(frame) == 2 * 10
    shown = script.views(frame, ("value",))
    assert [row["how"] for row in shown["reference, value"]] == ["ncp", "itself"] * 3
