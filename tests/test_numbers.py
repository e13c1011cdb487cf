"""Numbers of NumPy and pandas give what Python's give, for every option that is annotated as a number.

The options come from the signatures: a new search or predictor, or a new option, is in it without a line.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nasbench_mr
from nasbench_mr import checks, cost, data_builders, nasbench201, network, predictors, search, space
from nasbench_mr.arrays import same
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.data_builders.building import live, runner
from nasbench_mr.data_builders.measuring.measure import Setting
from nasbench_mr.domain import Domain
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.objective import Objective
from nasbench_mr.predictors import base as of_predictors
from nasbench_mr.predictors import zero_cost
from nasbench_mr.search import base as of_searches
from nasbench_mr.search.editing import Editing
from nasbench_mr.search.simulation import simulate

#: Quick values, and those of options whose default is not a number. Floats are exact in 32 bits.
VALUES: dict[str, Any] = {
    "batch": 4, "budget": 6.0, "caution": 0.5, "children": 12, "count": 0, "cost_weight": 0.25,
    "decay": 32.0, "dropout": 0.25, "epoch": 2, "epochs": 3, "explore": 0.5, "factor": 2, "held_out": 0.25,
    "initial": 4, "k": 3, "kernel_codes": 20, "max_codes": 30, "max_macs": 2.0**30, "max_params": 2.0**23,
    "members": 2, "n": 5, "num_classes": 7, "parents": 3, "polish": 1, "population": 6, "rate": 0.125,
    "refit": 3, "resolution": 64, "retries": 1, "rounds": 3, "sample": 2, "seconds": 64.0, "seeds": 2,
    "size": 32, "starts": 4, "steps": 3, "target": 0.125, "cost_target": 0.125, "time_limit": 64.0,
    "train": 20, "trees": 3, "trend": 0.5, "weights": 1, "width_mult": 0.5, "workers": 0, "max_spread": 0.25,
    "winner": True, "rounded": True,
    "hidden": (8, 6), "noises": (0.125, 0.5),
}  # fmt: skip
#: By annotation the kind of number; tuples hold several.
KINDS = {"int": int, "float": float, "bool": bool, "tuple[int, ...]": int, "Sequence[float]": float}


def options_of(function: Callable[..., Any], **values: Any) -> dict[str, Any]:
    """Return the arguments of a function that are annotated as numbers, with a value for each."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kinds = [KINDS[kind] for kind in str(parameter.annotation).split(" | ") if kind in KINDS]
        if kinds and name not in ("progress", "seed"):
            value = {**VALUES, **values}.get(name, parameter.default)
            assert isinstance(value, (int, float, tuple)), f"{name} needs a value in VALUES"
            found[name] = float(value) if kinds[0] is float and not isinstance(value, tuple) else value
    return found


def numpy_wide(value: Any) -> Any:
    return {bool: np.bool_, int: np.int64, float: np.float64}[type(value)](value)


def numpy_narrow(value: Any) -> Any:
    small = np.uint8 if not isinstance(value, float) and 0 <= value < 256 else np.int32
    return {bool: np.bool_, int: small, float: np.float32}[type(value)](value)


def of_pandas(value: Any) -> Any:
    return pd.Series([value], dtype={bool: "boolean", int: "Int64", float: "Float64"}[type(value)])[0]


def converted(options: dict[str, Any], way: Callable[[Any], Any]) -> dict[str, Any]:
    return {k: tuple(map(way, v)) if isinstance(v, tuple) else way(v) for k, v in options.items()}


WAYS = (numpy_wide, numpy_narrow, of_pandas)


def check_alike(call: Callable[..., Any], options: dict[str, Any]) -> None:
    """Check that all options at once, in each form, give what Python's numbers give."""
    expected = call(**options)
    for way in WAYS:
        found = call(**converted(options, way))
        if isinstance(expected, pd.DataFrame):
            clocks = ["fit_seconds", "predict_seconds"]
            pd.testing.assert_frame_equal(
                found.drop(columns=clocks, errors="ignore"), expected.drop(columns=clocks, errors="ignore")
            )
        else:
            assert same(found, expected), way.__name__
    for value in vars(found).values() if hasattr(found, "__dict__") else ():
        assert not isinstance(value, np.generic), f"it keeps {value!r}"


CODES = space.sample(40, seed=0)


@pytest.mark.parametrize("name", of_searches.SEARCHES)
def test_searches(name: str) -> None:
    kind = of_searches.SEARCHES[name]
    domain = Domain(codes=CODES)

    def run(**options: Any) -> Any:
        made = search.make(name, domain, options.pop("seed"), epochs=(1, 2, 4), **options)
        assert not [v for v in vars(made).values() if isinstance(v, np.generic)]
        asked = []
        for n in (5, 4, 3):
            codes = made.ask(n)
            values = codes[:, :2] if kind.front else codes.sum(axis=1)
            made.tell(codes, values)
            asked.append(codes)
        return np.concatenate(asked)

    check_alike(run, {**options_of(kind), "seed": 3})
    for seed in (0, 2**63 - 1):
        assert (run(seed=seed) == run(seed=np.int64(seed))).all()
    for seed in (-1, 2**63, 0.5, "0", True):
        with pytest.raises(InvalidArgumentError, match=r"seed is .*; expected an integer"):
            search.make(name, domain, seed, epochs=(1, 2, 4))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", predictors.names())
def test_predictors(name: str, tmp_path: Path) -> None:
    def fitted(**options: Any) -> Any:
        return predictors.make(name, options.pop("seed"), **options).fit(CODES, CODES.sum(axis=1))

    kind = of_predictors.PREDICTORS[name]
    options = options_of(kind)
    expected = fitted(**options, seed=3).predict(CODES)
    for way in WAYS:
        model = fitted(**converted(options, way), seed=way(3))
        np.testing.assert_array_equal(model.predict(CODES), expected)
        model.save(tmp_path / "model.npz")
        np.testing.assert_array_equal(predictors.load(tmp_path / "model.npz").predict(CODES), expected)
    quick = {k: v for k, v in options.items() if k in VALUES}
    for seed in (0, 2**63 - 1):
        np.testing.assert_array_equal(
            fitted(**quick, seed=seed).predict(CODES), fitted(**quick, seed=np.int64(seed)).predict(CODES)
        )
    for seed in (-1, 2**63, 0.5):
        with pytest.raises(InvalidArgumentError, match=r"seed is .*; expected an integer"):
            predictors.make(name, seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", of_predictors.WITH_PROXIES)
def test_predictors_with_proxies_keep_pythons_numbers(name: str) -> None:
    options = options_of(of_predictors.PREDICTORS[name])
    for way in WAYS:
        made = vars(predictors.make(name, way(3), **converted(options, way)))
        expected = vars(predictors.make(name, 3, **options))
        assert all(type(made[k]) is type(v) and made[k] == v for k, v in expected.items() if k != "options")


def process() -> predictors.Predictor:
    return predictors.make("gp").fit(CODES, CODES.sum(axis=1), ["seg"])


def table_of(bench: Benchmark, **options: Any) -> Objective:
    return Objective.table(bench, "mini-seg", **options)


#: Functions, what is called for them, and values of their own.
CALLS: dict[str, tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]] = {
    "compare": (
        search.compare,
        lambda bench, **o: search.compare(bench, "mini-seg", "random", **o).runs,
        {"batch": 2, "distinct": False, "front": False, "reference": False},
    ),
    "ncp": (
        search.ncp,
        lambda bench, **o: search.ncp(
            process(), "seg", **{k: v for k, v in o.items() if k not in vars(Editing())}
        ).codes,
        {},
    ),
    "editing": (Editing, lambda bench, **o: Editing(**o), {}),
    "transfer": (
        search.transfer,
        lambda bench, **o: search.transfer(process(), "seg", starts=4, steps=2, **o).predicted,
        {},
    ),
    "run": (
        search.run,
        lambda bench, **o: search.run(
            search.make("random", table_of(bench)), table_of(bench), **o
        ).codes,
        {"budget": 5.5},
    ),
    "simulate": (
        simulate,
        lambda bench, **o: simulate(search.make("random", table_of(bench)), table_of(bench), **o).codes,
        {"workers": 2},
    ),
    "evaluate": (
        predictors.evaluate,
        lambda bench, **o: predictors.evaluate("ridge", bench, "mini-seg", **o),
        {},
    ),
    "query": (
        Benchmark.query,
        lambda bench, **o: dict(bench.query(bench.codes("mini-cls")[0], "mini-cls", seed=1, **o)),
        {},
    ),
    "best": (Benchmark.best, lambda bench, **o: [r.code for r in bench.best("mini-seg", **o)], {}),
    "domain": (Domain, lambda bench, **o: Domain(**o), {}),
    "table": (Objective.table, lambda bench, **o: table_of(bench, **o).domain, {"front": False}),
    "surrogate": (
        Objective.surrogate,
        lambda bench, **o: Objective.surrogate(bench, "mini-seg", **o).domain,
        {},
    ),
    "macs": (cost.macs, lambda bench, **o: cost.macs(CODES, **o), {}),
    "params": (cost.params, lambda bench, **o: cost.params(CODES, **o), {}),
    "cells' macs": (nasbench201.macs, lambda bench, **o: nasbench201.macs([1] * 6, **o), {}),
    "cells' params": (nasbench201.params, lambda bench, **o: nasbench201.params([1] * 6, **o), {}),
    "sample": (space.sample, lambda bench, **o: space.sample(**o), {}),
    "build a network": (
        network.build,
        lambda bench, **o: [tuple(p.shape) for p in network.build(CODES[0], "mini-cls", **o).parameters()],
        {"features_only": True},
    ),
    "proxies": (
        zero_cost.compute,
        lambda bench, **o: zero_cost.compute(CODES[:1], "mini-cls", names=("snip", "zen"), **o),
        {},
    ),
    "setting": (Setting, lambda bench, **o: dataclasses.asdict(Setting(**o)), {"repeat": 4}),
    "auxiliaries": (
        search.rank_auxiliary,
        lambda bench, **o: search.rank_auxiliary(bench, "mini-seg", **o),
        {"top": 0.125},
    ),
    "draw codes": (runner.draw_codes, lambda bench, **o: runner.draw_codes(**o), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_functions(name: str) -> None:
    function, call, values = CALLS[name]
    bench = nasbench_mr.load("mini")
    options = options_of(function, **values)
    assert options
    check_alike(lambda **given: call(bench, **given), options)


def test_every_public_function_is_tried() -> None:
    public = [
        getattr(package, name) for package in (search, predictors, data_builders) for name in package.__all__
    ]
    tried = [function for function, _, _ in CALLS.values()]
    # Tried by `test_builders`, in `test_users.py` (`as_codes`, `checks.seeds`), and by surrogates' own tests.
    elsewhere = [search.names, data_builders.live, data_builders.build, predictors.fit_surrogates]
    for function in filter(inspect.isfunction, public):
        if function not in [*tried, *elsewhere]:
            assert not options_of(function), function.__name__


def test_builders(tmp_path: Path) -> None:
    options = options_of(runner.Builder, workers=1, keep_weights=False)
    options |= options_of(live.live)
    for way in WAYS:
        made = live.live("mini-cls", out=tmp_path, epochs=(way(1), way(2)), **converted(options, way))
        builder = made.source.builder  # type: ignore[attr-defined]
        assert (builder.retries, builder.job.time_limit) == (1, 64.0)
        assert {type(builder.retries), type(builder.job.time_limit)} == {int, float}
        assert (made.domain, made.epochs) == (Domain(max_macs=2.0**30, max_params=2.0**23), (1, 2, 3))
        builder.close()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: space.sample(2.5), "n is 2.5; expected an integer"),  # type: ignore[arg-type]
        (lambda: space.sample(2, seed=-1), "seed is -1"),
        (lambda: zero_cost.compute(CODES[0], "mini-cls", seed=2**63), "seed is 9223372036854775808"),
        (lambda: cost.macs(CODES, width_mult="2"), "width_mult is '2'"),  # type: ignore[arg-type]
        (lambda: Domain(max_macs=np.bool_(True)), "max_macs is .*True"),
        (lambda: checks.seeds([0.5]), "a seed is 0.5"),  # type: ignore[list-item]
        (lambda: checks.seeds([2**31]), "each from 0 to 2\\^31 - 1"),
        (lambda: predictors.make("gp", latent="no"), "latent is 'no'; expected True or False"),
        (lambda: search.make("ncp", explore=float("nan")), "explore is nan; expected a finite number"),
    ],
)  # fmt: skip
def test_what_is_not_such_a_number_is_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        call()
