"""One contract for all searches; a new search is in it as soon as it is in the registry."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import cost, library, search, space, tasks
from nasbench_mr.domain import Domain
from nasbench_mr.errors import (
    ExhaustedError,
    InvalidArgumentError,
    MissingExtraError,
    NasbenchMRError,
    UnknownNameError,
)
from nasbench_mr.objective import Goal, Measured, Objective
from nasbench_mr.predictors import proxy_tables
from nasbench_mr.search import base, halving

NAMES = search.names()
#: Quick settings: few random codes at first, so that what a search is about is reached.
OPTIONS: dict[str, dict[str, Any]] = {
    "random": {},
    "local": {"initial": 4},
    "evolution": {"population": 8, "sample": 4},
    "proxy": {"population": 8, "sample": 4, "warmup": 20, "moves": 3},
    "tpe": {"initial": 6},
    "guided": {"initial": 6, "refit": 8, "epochs": (), "predictor": "ridge"},
    "ncp": {"initial": 6, "refit": 4, "starts": 8, "steps": 6},
    "halving": {"epochs": (1, 3, 9)},
    "hyperband": {"epochs": (1, 3, 9)},
}
#: Searches that ask for a code again, to train it for longer.
STAYING = ("halving", "hyperband")
PLACES = ("whole", "limited", "table", "limited table", "cells", "limited cells", "joint")


class Sizes:
    """A cheap live source, 2 seconds a full training: the larger, the better; shorter trainings see less."""

    def measure(self, codes: np.ndarray, goals: list[Goal], epoch: int | None) -> Measured:
        share = ((codes - space.LOWER) / (space.UPPER - space.LOWER)).mean(axis=1)
        seconds = np.full(len(codes), 2.0 * (epoch or 9) / 9)
        return Measured(np.stack([100 * share] * len(goals), axis=1), seconds, "seconds")


def live(domain: Domain | None = None) -> Objective:
    seg = tasks.get("seg")
    return Objective.live(Sizes(), [Goal("seg", seg, seg.metric())], domain, epochs=(1, 3, 9))


@pytest.fixture(scope="session")
def place(known_release: Path) -> Callable[[str], Objective]:
    """Return a new objective by name; those of tables have a known optimum."""
    bench = nasbench_mr.load(known_release)

    def make(name: str) -> Objective:
        if name in ("whole", "limited"):
            return live(Domain(max_macs=1e9 if name == "limited" else None))
        limit = {"limited table": 1e9, "limited cells": 13e6}.get(name)
        kinds = {"table": "seg", "cells": "nas-bench-201", "joint": {"seg": 2.0, "video": 1.0}}
        return Objective.table(bench, kinds[name.removeprefix("limited ")], max_macs=limit)

    return make


def make(name: str, where: Objective | Domain | None, seed: int = 0) -> search.Searcher:
    return search.make(name, where, seed, **OPTIONS[name])


def values_of(where: Objective, codes: np.ndarray) -> np.ndarray:
    return where.evaluate(codes)


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_it_asks_for_new_codes_of_the_domain_in_any_number(
    name: str, kind: str, place: Callable[[str], Objective]
) -> None:
    where = place(kind)
    searcher = make(name, where)
    seen: set[tuple[bytes, int]] = set()
    for n in (1, 3, 2, 5, 1, 4, 3):
        codes = searcher.ask(n)
        assert codes.shape == (n, where.domain.space.DIM)
        assert (codes.dtype, searcher.fidelity.shape) == (np.int16, (n,))
        assert where.domain.contains(codes).all()
        asked = {
            (code.tobytes(), epoch) for code, epoch in zip(codes, searcher.fidelity.tolist(), strict=True)
        }
        assert len(asked) == n
        assert not asked & seen
        seen |= asked
        searcher.tell(codes, values_of(where, codes))


@pytest.mark.parametrize("kind", ["limited", "table", "cells"])
@pytest.mark.parametrize("name", NAMES)
def test_the_seed_alone_decides(name: str, kind: str, place: Callable[[str], Objective]) -> None:
    where = place(kind)

    def path(seed: int) -> np.ndarray:
        searcher = make(name, where, seed)
        asked = []
        for n in (4, 4, 4, 2):
            codes = searcher.ask(n)
            searcher.tell(codes, values_of(where, codes))
            asked.append(codes)
        return np.concatenate(asked)

    first = path(0)
    assert (path(0) == first).all()
    assert (path(1) != first).any()


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_values_in_parts_and_in_any_order(name: str, place: Callable[[str], Objective]) -> None:
    where = place("table")
    searcher = make(name, where)
    first, second = searcher.ask(6), searcher.ask(3)
    everything = np.concatenate([first, second])
    for rows in ([8, 0], [3], [1, 2, 4, 5, 6, 7]):
        searcher.tell(everything[rows], values_of(where, everything[rows]))
    assert len(searcher.ask(5)) == 5


@pytest.mark.parametrize("name", NAMES)
def test_a_domain_can_be_used_up(name: str) -> None:
    where = live(Domain(codes=space.sample(12, seed=0)))
    searcher = make(name, where)
    codes = searcher.ask(12)
    assert len(np.unique(codes, axis=0)) == 12
    searcher.tell(codes, values_of(where, codes))
    if name in STAYING:
        # Every code ends with one full training, whatever rung it began on.
        while len(searcher.values) < 12:
            again = searcher.ask(1)
            searcher.tell(again, values_of(where, again))
        assert len(np.unique(searcher.codes, axis=0)) == 12
    with pytest.raises(ExhaustedError, match="asked for 1 more codes, but only 0"):
        searcher.ask(1)
    with pytest.raises(ExhaustedError, match="asked for 13 more codes, but only 12"):
        make(name, where).ask(13)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in STAYING])
@pytest.mark.parametrize("listed", [True, False])
def test_a_domain_can_be_used_up_after_learning(name: str, listed: bool) -> None:
    """Also by searches whose model has nothing new left to propose."""
    domain = Domain(codes=space.sample(30, seed=0))
    if not listed:  # all but two depths are fixed: 16 codes
        fixed = dict(zip(space.NAMES, space.LOWER.tolist(), strict=True))
        domain = Domain(fixed={k: v for k, v in fixed.items() if k not in ("b1", "n1_1")})
    where = live(domain)
    searcher = make(name, where)
    total = 30 if listed else 16
    for batch in [5] * (total // 5) + [1] * (total % 5):
        codes = searcher.ask(batch)
        searcher.tell(codes, values_of(where, codes))
    assert len(np.unique(searcher.codes, axis=0)) == total
    with pytest.raises(ExhaustedError):
        searcher.ask(1)


class Empty(search.Searcher):
    """Has nothing to propose, in whatever form."""

    def _propose(self, n: int) -> Any:
        return []


def test_a_search_that_proposes_nothing_gets_random_codes() -> None:
    assert len(Empty(Domain(), 0).ask(3)) == 3


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None])
def test_seeds_are_numbers(seed: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"seed is .*; expected an integer, at least 0"):
        search.make("random", seed=seed)


@pytest.mark.parametrize("name", NAMES)
def test_limits_that_leave_few_codes_are_used_up_too(name: str) -> None:
    smallest = int(cost.macs(np.array([space.LOWER]))[0])
    domain = Domain(max_macs=smallest * 1.01)
    there = np.array([*domain.walk()])
    searcher = make(name, domain)
    codes = searcher.ask(len(there))
    assert (np.unique(codes, axis=0) == np.unique(there, axis=0)).all()
    with pytest.raises(ExhaustedError):
        make(name, domain).ask(len(there) + 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_space_is_the_default(name: str) -> None:
    searcher = make(name, None)
    codes = searcher.ask(16)
    assert (space.check(codes) == codes).all()
    assert searcher.left == space.SIZE - 16


@pytest.mark.parametrize("name", NAMES)
def test_mistakes_have_names_and_change_nothing(name: str, place: Callable[[str], Objective]) -> None:
    where = place("table")
    searcher = make(name, where)
    codes = searcher.ask(4)
    values = values_of(where, codes)
    never = space.sample(1, seed=99)
    for told, given, message in (
        (codes, [1.0, np.nan, 2.0, 3.0], r"values\[1\] is nan; expected finite numbers"),
        (codes, [1.0, 2.0, np.inf, 3.0], r"values\[2\] is inf"),
        (codes, values[:3], r"values have shape \(3,\); expected \(4,\)"),
        (codes, values[:, None], r"values have shape \(4, 1\)"),
        (codes, ["good"] * 4, "array of numbers"),
        (never, [1.0], r"codes\[0\], .* was never asked for"),
        (np.concatenate([codes[:1], never]), [1.0, 2.0], r"codes\[1\], .* was never asked for"),
        (codes[[0, 0]], [1.0, 2.0], r"codes\[1\], .* was told already"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            searcher.tell(told, given)
    searcher.tell(codes, values)
    with pytest.raises(InvalidArgumentError, match="was told already"):
        searcher.tell(codes[:1], values[:1])
    for n in (0, -1, 1.5, True, "3"):
        with pytest.raises(InvalidArgumentError, match="expected a positive number of codes"):
            searcher.ask(n)
    twin = make(name, where)
    twin.tell(twin.ask(4), values)
    assert (twin.ask(3) == searcher.ask(3)).all()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *product(("local", "evolution", "tpe", "guided", "ncp"), ("whole", "cells")),
        *product(("guided", "ncp"), ("limited", "table", "joint")),
    ],
)
def test_it_learns(name: str, kind: str, place: Callable[[str], Objective]) -> None:
    where = place(kind)
    budget = 60 if kind != "table" else 30
    found = [search.run(make(name, where, seed), where, budget).best_value for seed in range(3)]
    blind = [search.run(make("random", where, seed), where, budget).best_value for seed in range(9)]
    assert np.mean(found) > np.mean(blind)


def test_halving_moves_the_best_third_up(place: Callable[[str], Objective]) -> None:
    where = live()
    searcher = make("halving", where)
    codes = searcher.ask(9)
    assert searcher.fidelity.tolist() == [1] * 9
    values = values_of(where, codes)
    searcher.tell(codes, values)
    again = searcher.ask(5)
    assert searcher.fidelity.tolist() == [3, 3, 3, 1, 1]
    assert (again[:3] == codes[np.argsort(-values)[:3]]).all()
    searcher.tell(again[:3], values_of(where, again[:3]))
    last = searcher.ask(1)
    assert searcher.fidelity.tolist() == [0]
    assert (last == again[:1]).all()
    # Only full trainings count as values.
    assert len(searcher.values) == 0
    searcher.tell(last, [1.0])
    assert searcher.values.tolist() == [1.0]


@pytest.mark.parametrize(
    ("epochs", "factor", "expected"),
    [
        ((1, 3, 9), 3, (1, 3, 0)),
        (range(1, 101), 3, (1, 3, 11, 33, 0)),
        ((1, 2, 3, 4), 2, (1, 2, 0)),
        ((8, 10), 3, (8, 0)),
    ],
)
def test_rungs_grow_by_the_factor(epochs: range, factor: int, expected: tuple[int, ...]) -> None:
    assert halving._rungs(sorted(epochs), factor) == expected


def test_halving_needs_curves(known_release: Path) -> None:
    where = Objective.table(nasbench_mr.load(known_release), "seg")
    with pytest.raises(InvalidArgumentError, match=r"needs learning curves .*; this objective has none"):
        search.make("halving", where)


def test_halving_on_a_table_with_curves(tiny_release: Path) -> None:
    where = Objective.table(nasbench_mr.load(tiny_release), "seg")
    trace = search.run(search.make("halving", where), where, 10)
    assert set(trace.fidelity.tolist()) == {0, 1}
    share = np.where(trace.fidelity == 0, 1.0, trace.fidelity / 4)
    assert trace.evaluations == pytest.approx(np.cumsum(share))
    assert 10 <= trace.evaluations[-1] < 11


def test_unknown_names_and_options_are_refused() -> None:
    for points in (20, "all"):
        with pytest.raises(InvalidArgumentError, match="expected the points of the learning curves"):
            search.make("guided", epochs=points)
    with pytest.raises(UnknownNameError, match="did you mean 'evolution'"):
        search.make("evolutoin")
    with pytest.raises(
        InvalidArgumentError, match=r"search 'evolution' has no option 'size': expected one of .*population"
    ):
        search.make("evolution", size=3)
    for name, option in (
        ("local", "initial"),
        ("evolution", "population"),
        ("evolution", "sample"),
        ("tpe", "initial"),
        ("guided", "children"),
        ("ncp", "starts"),
    ):
        with pytest.raises(InvalidArgumentError, match=f"{option} is 0; expected an integer, at least"):
            search.make(name, **{option: 0})
    with pytest.raises(UnknownNameError, match="no predictor"):
        search.make("guided", predictor="crystal-ball")


@pytest.mark.parametrize(("options", "members"), [({}, 5), ({"members": 3}, 3)])
def test_the_guiding_ensemble_has_five_members_unless_told(options: dict[str, Any], members: int) -> None:
    searcher: Any = search.make("guided", initial=3, epochs=(), **options)
    codes = searcher.ask(3)
    searcher.tell(codes, codes.sum(axis=1))
    searcher.ask(1)
    assert len(searcher.model.weights[0]) == members


def test_guided_plans_to_the_end_of_a_list() -> None:
    where = Objective.table(nasbench_mr.load("mini"), "mini-seg")
    searcher: Any = search.make("guided", where, 0, predictor="ridge", parents=2, epochs=())
    fitted_to, fit = [], searcher.model.fit
    searcher.model.fit = lambda codes, values: fitted_to.append(len(values)) or fit(codes, values)
    trace = search.run(searcher, where, 300)
    assert len(trace.codes) == len(np.unique(trace.codes, axis=0)) == 230
    # One fit for each ten codes, also when the best two have no neighbours left that were never asked for.
    assert fitted_to == [*range(20, 230, 10)]


def test_a_proxy_chooses_the_first_codes_and_the_children() -> None:
    bench = nasbench_mr.load("mini")
    where = Objective.table(bench, "mini-seg")
    listed = where.domain.codes
    assert listed is not None
    searcher = search.make("proxy", where, proxy="naswot", task="mini-seg", warmup=len(listed))
    known = proxy_tables.find(tasks.get("mini-seg"), library.installed())["naswot"]
    largest = np.sort(known.lookup(listed, "naswot"))[::-1]
    assert known.lookup(searcher.ask(20), "naswot").tolist() == largest[:20].tolist()

    def sizes_of_children(moves: int) -> float:
        made = search.make("proxy", Domain(), 0, population=6, warmup=6, moves=moves)
        first = made.ask(6)
        made.tell(first, np.arange(6.0))
        return float(np.log(cost.params(made.ask(30))).mean())

    assert sizes_of_children(10) > sizes_of_children(1) + 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proxy": "nasvot"}, "no zero-cost proxy 'nasvot': did you mean 'naswot'"),
        ({"proxy": "naswot"}, "expected such as proxy:proxy=naswot:task=seg, or one of macs, params"),
        ({"proxy": "naswot", "task": "sego"}, "no task 'sego': did you mean 'seg'"),
        ({"warmup": 0}, "warmup is 0"),
        ({"moves": 0}, "moves is 0"),
    ],
)
def test_proxies_that_are_not_there_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NasbenchMRError, match=message):
        search.make("proxy", Domain(), **options)


def test_proxies_of_networks_are_of_one_space(place: Callable[[str], Objective]) -> None:
    with pytest.raises(InvalidArgumentError, match="networks of 'nasbench-mr' codes"):
        search.make("proxy", place("cells"), proxy="naswot", task="seg")


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"nasbench-mr\[search\]"):
        search.make("tpe")


# --- Runs ---------------------------------------------------------------------------------------------


def test_a_run_records_what_it_measured(place: Callable[[str], Objective]) -> None:
    where = place("table")
    trace = search.run(make("evolution", where), where, 30, batch=4)
    assert len(trace.codes) == 30
    assert trace.values == pytest.approx(place("table").evaluate(trace.codes))
    assert (trace.evaluations == np.arange(1, 31)).all()
    assert trace.spent == pytest.approx(np.cumsum(cost.macs(trace.codes)) / 1e9)
    assert (trace.best == np.maximum.accumulate(trace.values)).all()
    assert (trace.best_value, where.evaluations) == (trace.values.max(), 30)
    assert trace.best_code == tuple(trace.codes[trace.values.argmax()].tolist())


def test_a_run_ends_when_there_is_nothing_left() -> None:
    where = live(Domain(codes=space.sample(10, seed=0)))
    trace = search.run(make("random", where), where, 50, batch=4)
    assert len(np.unique(trace.codes, axis=0)) == len(trace.codes) == 10
    assert trace.best_value == pytest.approx(live().evaluate(space.sample(10, seed=0)).max())


def test_nothing_trained_to_the_end_is_no_best() -> None:
    where = live()
    trace = search.run(make("halving", where), where, 0.5)
    assert np.isnan(trace.best).all()
    assert trace.best_code is None


@pytest.mark.parametrize(("budget", "batch"), [(0, 1), (-3, 1), (float("nan"), 1), (float("inf"), 1), (5, 0)])
def test_a_run_needs_a_budget(budget: float, batch: int) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        search.run(make("random", None), live(), budget, batch)


@pytest.mark.parametrize("name", NAMES)
def test_runs_side_by_side_are_those_alone(name: str, place: Callable[[str], Objective]) -> None:
    where = live(Domain(max_macs=1e9))
    together = base.run_all([make(name, where, seed) for seed in (0, 1)], where, 14)
    for seed, trace in enumerate(together):
        alone = search.run(make(name, where, seed), live(Domain(max_macs=1e9)), 14)
        assert (trace.codes == alone.codes).all()
        assert (trace.values == alone.values).all()


@pytest.mark.parametrize(
    ("name", "option", "fewer"),
    [
        ("evolution", "population", {"population": 2}),
        ("local", "initial", {"initial": 2}),
        ("ncp", "initial", {"initial": 2}),
    ],
)
def test_a_budget_that_random_codes_use_up_is_told(name: str, option: str, fewer: dict[str, int]) -> None:
    objective = Objective.table(nasbench_mr.load("mini"), "mini-cls")
    first = search.make(name, objective).initial
    with pytest.warns(base.RandomSearchWarning, match=rf"{name}.* begins with {first} random .* {option}=2$"):
        search.run(search.make(name, objective), objective, 8)
    with pytest.warns(base.RandomSearchWarning, match=f"the budget is 8: .* {option}=2$"):
        search.compare(nasbench_mr.load("mini"), "mini-cls", ["random", name], budget=8, seeds=1, workers=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search.run(search.make(name, objective, **fewer), objective, 8)
        search.run(search.make("random", objective), objective, 8)
