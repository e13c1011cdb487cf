"""What users keep, copy, compare and send to other processes: searches, domains, objectives, results."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib.externals import loky

import nasbench_mr
from nasbench_mr import cost, predictors, search, space
from nasbench_mr.arrays import same
from nasbench_mr.domain import Domain
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.objective import Objective

#: Quick settings, and few random codes at first.
OPTIONS: dict[str, dict[str, Any]] = {
    "local": {"initial": 4},
    "evolution": {"population": 8, "sample": 4},
    "proxy": {"population": 8, "sample": 4, "warmup": 20},
    "tpe": {"initial": 6},
    "guided": {"initial": 6, "refit": 4, "predictor": "ridge"},
    "ncp": {"initial": 6, "refit": 4, "starts": 8, "steps": 4},
    "halving": {"epochs": (1, 3, 9)},
    "hyperband": {"epochs": (1, 3, 9)},
}
COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda made: pickle.loads(pickle.dumps(made)),
    "deepcopy": copy.deepcopy,
}


def value(codes: np.ndarray) -> np.ndarray:
    return codes.sum(axis=1) + np.sin(codes[:, 0])


def make(name: str, domain: Domain) -> search.Searcher:
    return search.make(name, domain, seed=3, **OPTIONS.get(name, {}))


def go_on(searcher: search.Searcher, steps: int) -> list[list[int]]:
    """Return what it asks for in so many steps, each of which is told."""
    asked = []
    for _ in range(steps):
        codes = searcher.ask(4)
        searcher.tell(codes, value(codes))
        asked += codes.tolist()
    return asked


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", search.names())
@pytest.mark.parametrize("listed", [False, True])
def test_a_search_saved_in_the_middle_continues_unchanged(name: str, way: str, listed: bool) -> None:
    domain = Domain(codes=space.sample(80, seed=0)) if listed else Domain(max_macs=2e9)
    searcher = make(name, domain)
    go_on(searcher, 3)
    pending = searcher.ask(2)
    kept = COPIES[way](searcher)
    assert kept == searcher
    assert kept.domain == domain
    for each in (kept, searcher):
        each.tell(pending, value(pending))
    assert go_on(kept, 3) == go_on(searcher, 3)
    assert kept == searcher
    go_on(kept, 1)
    assert kept != searcher


@pytest.mark.parametrize("name", search.names())
def test_a_warm_start_takes_codes_measured_elsewhere(name: str) -> None:
    known = space.sample(12, seed=5)
    domain = Domain(codes=np.concatenate([known, space.sample(40, seed=6)]))
    searcher = make(name, domain)
    with pytest.raises(InvalidArgumentError, match="was never asked for"):
        searcher.tell(known, value(known))
    searcher.tell(known, value(known), elsewhere=True)
    assert searcher.values == pytest.approx(value(known))
    assert searcher.left == len(domain.codes) - 12  # type: ignore[arg-type]
    asked = go_on(searcher, 4)
    assert not {tuple(code) for code in asked} & set(map(tuple, known.tolist()))
    with pytest.raises(InvalidArgumentError, match="was told already"):
        searcher.tell(known[:1], [1.0], elsewhere=True)
    with pytest.raises(InvalidArgumentError, match="is not in the domain"):
        searcher.tell(space.sample(1, seed=77), [1.0], elsewhere=True)


def test_what_was_told_elsewhere_spares_the_random_codes() -> None:
    """A search that starts with ten random codes plans at once where it knows as many."""
    known = space.sample(10, seed=5)
    warm, cold = (search.make("ncp", Domain(), seed=0, starts=8, steps=6) for _ in range(2))
    warm.tell(known, value(known), elsewhere=True)
    asked = warm.ask(4)
    assert value(asked).mean() > value(cold.ask(4)).mean()


def test_domains_are_equal_by_what_they_allow() -> None:
    codes = space.sample(20, seed=0)
    assert Domain(codes=codes) == Domain(codes=codes.copy())
    assert Domain(codes=codes) != Domain(codes=codes[:19])
    assert Domain(max_macs=1e9) == Domain(max_macs=np.float32(1e9))
    assert Domain(max_macs=1e9) != Domain(max_macs=2e9)
    looked = Domain(codes=codes)
    near = looked.neighbors(codes[0])
    assert looked == Domain(codes=codes)
    # What it gives away is the caller's.
    near[:] = 0
    assert looked.neighbors(codes[0]).min() >= 1
    with pytest.raises(ValueError, match="read-only"):
        looked.codes[0] = 0  # type: ignore[index]


def answer(asked: Objective, model: predictors.Predictor, codes: np.ndarray) -> tuple[Any, ...]:
    """Return what another process says, and what it was sent."""
    searcher = search.make("evolution", asked, 0)
    trace = search.run(searcher, asked, 12)
    return trace, asked, model, searcher, searcher.domain, asked.evaluate(codes), model.predict(codes)[0]


POOLS: dict[str, Callable[[], Any]] = {
    "spawn": lambda: ProcessPoolExecutor(1, multiprocessing.get_context("spawn")),
    "joblib": lambda: loky.ProcessPoolExecutor(1),
}


@pytest.mark.parametrize("pool", POOLS)
def test_objectives_predictors_and_traces_go_to_a_fresh_process_and_back(
    pool: str, known_release: Path
) -> None:
    asked = Objective.table(nasbench_mr.load(known_release), {"seg": 1.0, "video": 1.0}, max_macs=2e9)
    codes = asked.domain.codes[:5]  # type: ignore[index]
    model = predictors.make("ridge").fit(codes, codes.sum(axis=1))
    here = answer(copy.deepcopy(asked), model, codes)
    with POOLS[pool]() as workers:
        there = workers.submit(answer, asked, model, codes).result()
    assert all(map(same, here, there))
    assert there[1] != asked  # It was asked there.
    assert here[0] != search.run(search.make("random", asked, 0), asked, 12)


def test_what_ncp_finds_is_equal_to_its_copy() -> None:
    codes = space.sample(60, seed=0)
    model = predictors.make("gp").fit(codes, np.log(cost.macs(codes)), ["seg"])
    found = search.ncp(model, "seg", starts=4, steps=3, polish=0)
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == found
    assert found != search.ncp(model, "seg", starts=4, steps=3, polish=0, seed=1)


@pytest.mark.parametrize("name", search.names())
def test_seeds_reach_to_2_to_the_63(name: str) -> None:
    where = Domain(max_macs=2e9)
    largest = [search.make(name, where, 2**63 - k, **OPTIONS.get(name, {})) for k in (1, 1, 2)]
    paths = [go_on(each, 3) for each in largest]
    assert paths[0] == paths[1] != paths[2]
    with pytest.raises(InvalidArgumentError, match=r"seed is 9223372036854775808; expected .* 2\^63 - 1"):
        search.make(name, where, 2**63, **OPTIONS.get(name, {}))
