"""Measured costs: their table, their names, and where they stand for MACs or for a task."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nasbench_mr
from nasbench_mr import cost, features, measured, predictors, release, search, space, spaces
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.domain import Domain
from nasbench_mr.errors import (
    CodeNotFoundError,
    InfeasibleError,
    InvalidArgumentError,
    SurrogateNotFoundError,
    TableError,
    UnknownMetricError,
    UnknownNameError,
    UnknownTaskError,
)
from nasbench_mr.measured import MeasuredElsewhereWarning, SeveralCostsWarning
from nasbench_mr.objective import Objective
from nasbench_mr.trials import MEASURED

#: Those of `tiny_release`, of which the last has only a failed trial; costs are known of the first 50.
CODES = space.sample(61, seed=0)
#: One millisecond for each 10^8 MACs with torch, half of that with onnx.
LATENCY = cost.macs(CODES[:50]) / 1e8


def rows(latency: Any = LATENCY, size: int = 128) -> list[dict[str, Any]]:
    return [
        {
            "code": code.tolist(),
            "runtime": runtime,
            "batch": 1,
            "size": size,
            "threads": 1,
            "repeats": 4,
            "outliers": 0.0,
            "latency_ms": ms * share,
            "latency_q1_ms": ms * share * 0.9,
            "latency_q3_ms": ms * share * 1.1,
            "memory_mb": 2.0 if k else None,
            "energy_mj": None,
        }
        for k, (code, ms) in enumerate(zip(CODES, latency, strict=False))
        for runtime, share in (("onnx", 0.5), ("torch", 1.0))
    ]


def install(name: str, about: Mapping[str, Any] | None = None, label: str = "cpu", **options: Any) -> None:
    described = {**measured.this_machine(), "clock": "cpu", **(about or {})}

    def fill(folder: Path) -> None:
        measured.write(folder / "costs" / f"{label}.parquet", rows(**options), described)

    release.create(fill, name, "1.0.0", [])


@pytest.fixture
def bench(tiny_release: Path) -> Benchmark:
    install("here")
    return nasbench_mr.load(tiny_release)


def test_a_table_is_written_and_read(tmp_path: Path) -> None:
    path = measured.write(tmp_path / "cpu.parquet", rows(), {"name": "Z80", "cores": 1})
    table = measured.read(path)
    assert table.runtimes == ("torch", "onnx")
    assert np.allclose(table.lookup(CODES[:50], "latency_ms"), LATENCY, rtol=1 / 8192)
    assert np.allclose(table.lookup(CODES[:50], "latency_ms", "onnx"), LATENCY / 2, rtol=1 / 8192)
    assert np.isnan(table.lookup(CODES[50:], "latency_ms")).all()
    assert np.isnan(table.columns["energy_mj"]).all()
    assert (table.about["name"], table.device, table.here) == ("Z80", "Z80, 1 cores", False)
    # Unknown is null for every reader.
    assert pq.read_table(path)["energy_mj"].null_count == 100
    with pytest.raises(UnknownNameError, match="did you mean 'torch'"):
        table.rows("tors")


def test_processors_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "cpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Intel Xeon\nstepping\t: 8\nmodel\t: 1\n"
    )
    monkeypatch.setattr(measured, "_CPUINFO", cpuinfo)
    monkeypatch.setattr(measured, "_processor", measured._processor.__wrapped__)
    ours = measured.this_machine()
    assert (ours["name"], ours["cpu"]) == ("Intel Xeon", "cpu family 6, model 143, stepping 8")
    # Older tables do not say it, and stay of this machine.
    old = {name: ours[name] for name in ("name", "machine", "cores")}
    for about, here in ((ours, True), (old, True), (ours | {"cpu": "cpu family 6, model 106"}, False)):
        table = measured.read(measured.write(tmp_path / "cpu.parquet", rows([1.0]), about))
        assert table.here is here
    assert table.device == f"Intel Xeon, {ours['cores']} cores, cpu family 6, model 106"
    monkeypatch.setattr(measured, "_CPUINFO", tmp_path / "none")
    assert measured.this_machine()["cpu"] is None


def test_short_values_keep_four_digits() -> None:
    values = np.array([1.0, 123.456, 0.000987654, 3e9])
    short = measured.short(np.append(values, np.nan))
    assert np.allclose(short[:-1], values, rtol=1 / 8192)
    assert np.isnan(short[-1])
    # The last 11 of the 23 stored bits are 0.
    assert not (short[:-1].view(np.uint32) & 0x7FF).any()


def test_costs_are_positive(tmp_path: Path) -> None:
    path = measured.write(tmp_path / "cpu.parquet", rows([0.0, 1.0]), {})
    with pytest.raises(TableError, match="latency_ms has 0; expected positive numbers"):
        measured.read(path)


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("latency_ms", pa.array([1.0, float("inf")]), "latency_ms has inf; expected positive numbers"),
        ("latency_ms", pa.array(["1", "2"]), "column 'latency_ms' is string; expected numbers"),
        ("i1", pa.array(["8", "8"]), "column 'i1' is string; expected numbers"),
        ("runtime", pa.array(["torch", None]), "column 'runtime' has other values than names"),
        ("runtime", pa.array(["torch", "a|b"]), "column 'runtime' has other values than names"),
    ],
)
def test_tables_of_others_are_checked(name: str, column: pa.Array, message: str, tmp_path: Path) -> None:
    arrow = pq.read_table(measured.write(tmp_path / "cpu.parquet", rows([1.0])[:2], {}))
    pq.write_table(arrow.set_column(arrow.column_names.index(name), name, column), tmp_path / "x.parquet")
    with pytest.raises(TableError, match=message):
        measured.read(tmp_path / "x.parquet")


@pytest.mark.parametrize("about", [b"[]", b"3", b"{", b"[" * 100_000])
def test_what_a_table_says_of_itself_is_checked(about: bytes, tmp_path: Path) -> None:
    arrow = pq.read_table(measured.write(tmp_path / "cpu.parquet", rows([1.0]), {}))
    pq.write_table(arrow.replace_schema_metadata({"nasbench_mr": about}), tmp_path / "x.parquet")
    with pytest.raises(TableError, match="its metadata"):
        measured.read(tmp_path / "x.parquet")


def test_devices_of_hostile_names_are_escaped_in_the_card() -> None:
    install("here", {"name": "a | b", "clock": "<i>\x1b", "torch": ["`"]})
    card = (release.find("here") / "DATASET_CARD.md").read_text()
    (row,) = [line for line in card.splitlines() if line.startswith("| cpu |") and "torch" in line]
    assert row.replace("\\|", "").count("|") == 10
    assert "a \\| b" in row
    assert "\\<i\\>" in row
    assert row.isprintable()


def test_a_cost_is_asked_as_a_task_is(bench: Benchmark) -> None:
    code = tuple(CODES[3].tolist())
    answer = bench.query(code, "latency_ms@cpu")
    assert answer.source == "table"
    assert answer["latency_ms"] == pytest.approx(LATENCY[3], rel=1e-3)
    assert answer["macs"] == cost.macs(code)[0]
    assert bench.query(code, "latency_ms@cpu:onnx")["latency_ms"] == pytest.approx(LATENCY[3] / 2, rel=1e-3)
    assert "latency_ms@cpu" not in bench.tasks
    assert bench.task("latency_ms@cpu").metric().sign == -1
    assert [r.code for r in bench.best("latency_ms@cpu", 1)] == [tuple(CODES[LATENCY.argmin()].tolist())]
    assert len(bench.to_pandas("latency_ms@cpu")) == 100
    correlation = bench.correlation(tasks=("seg", "latency_ms@cpu"))
    assert correlation.loc["seg", "latency_ms@cpu"] < -0.5  # mIoU of `tiny_release` grows with MACs


def test_a_search_for_a_cost_alone_has_its_budget(bench: Benchmark) -> None:
    """Nothing is trained for it, and still each code counts."""
    asked = Objective.table(bench, "latency_ms@cpu")
    trace = search.run(search.make("random", asked, seed=0), asked, budget=5)
    assert (len(trace.values), asked.evaluations) == (5, 5)


def test_what_no_estimate_knows_is_an_error(bench: Benchmark) -> None:
    """The release's estimates are of latency; an answer of NaN would look like one of theirs."""
    asked, words = (
        CODES[50:52],
        "the surrogate of 'latency_ms@cpu' does not know 'memory_mb', only latency_ms",
    )
    with pytest.raises(UnknownMetricError, match=words):
        bench.query_many(asked, "latency_ms@cpu", ("latency_ms", "memory_mb"))
    found = bench.query_many(asked, "latency_ms@cpu", ("memory_mb",), missing="nan")
    assert np.isnan(found["memory_mb"]).all()
    with pytest.raises(UnknownMetricError, match="no 'memory_mb' in task 'latency_ms@cpu'"):
        Objective.surrogate(bench, "latency_ms@cpu/memory_mb")


def test_codes_that_were_not_measured_are_estimated(bench: Benchmark) -> None:
    asked = CODES[50:]
    found = bench.query_many(asked, "latency_ms@cpu", ("latency_ms",))
    assert (found["source"] == "surrogate").all()
    # A power law of MACs is a line between logarithms.
    assert np.abs(np.log(found["latency_ms"] / (cost.macs(asked) / 1e8))).max() < 0.35
    one = bench.query(asked[0], "latency_ms@cpu")
    assert one["latency_ms"] == pytest.approx(found["latency_ms"][0])
    assert one.distance >= 1
    both = bench.cost("latency_ms@cpu")(CODES[49:51])
    assert both == pytest.approx([LATENCY[49], found["latency_ms"][0]], rel=1e-3)


@pytest.mark.parametrize(("count", "told"), [(1, "1 code was"), (19, "19 codes were")])
def test_too_few_measured_codes_estimate_no_others(tiny_release: Path, count: int, told: str) -> None:
    install("a-few", label="board", latency=LATENCY[:count])
    bench = nasbench_mr.load(tiny_release)
    name, other = "latency_ms@board", tuple(CODES[55].tolist())
    told = f"{told} measured for '{name}'; an estimate for others needs at least 20: measure more"
    # What was measured is answered as ever.
    assert bench.query(tuple(CODES[0].tolist()), name)["latency_ms"] == pytest.approx(LATENCY[0], rel=1e-3)
    assert len(bench.best("seg", 60, limits={name: 1e6})) == count
    tabulated = Objective.table(bench, "seg", limits={name: 1e6})
    assert tabulated.domain.size == count
    found = bench.query_many(CODES[:60], name, ("latency_ms",), missing="nan")
    assert np.isnan(found["latency_ms"]).tolist() == [False] * count + [True] * (60 - count)
    assert set(found["source"][count:]) == {""}
    assert bench.surrogate(name) is None
    # No other code is.
    with pytest.raises(CodeNotFoundError, match=told):
        bench.query(other, name)
    with pytest.raises(SurrogateNotFoundError, match=told):
        bench.query(other, name, source="surrogate")
    with pytest.raises(SurrogateNotFoundError, match=told):
        bench.cost(name)([other])
    with pytest.raises(SurrogateNotFoundError, match=told):
        Domain(limits=measured.limits(bench, {name: 1e6}).measured)


def test_ncp_follows_a_limit_of_few_measured_codes_in_a_list(tiny_release: Path) -> None:
    pytest.importorskip("torch")
    install("a-few", label="board", latency=LATENCY[:19])
    bench = nasbench_mr.load(tiny_release)
    most = float(np.median(LATENCY[:19])) * (1 + 1e-3)
    asked = Objective.table(bench, "seg", limits={"latency_ms@board": most})
    trace = search.run(search.make("ncp", asked, seed=0, initial=4, starts=4, steps=3), asked, 10)
    assert len(trace.codes) == asked.domain.size == 10


def test_the_estimates_error_is_that_of_codes_left_out(bench: Benchmark) -> None:
    codes = CODES[:24]
    noisy = LATENCY[:24] * np.exp(np.random.default_rng(0).normal(0, 0.1, 24))
    estimate = measured.Estimate("latency_ms", codes, noisy)
    # Ridge regression with an intercept, anew without each code: as wide as that of all, in the same scale.
    inputs = features.of_codes(codes, spaces.get(space.NAME))
    scale = inputs.std(axis=0)
    x, logarithms = inputs / np.where(scale == 0, 1, scale), np.log(noisy)
    off = []
    for k in range(24):
        rest = np.arange(24) != k
        centre, mean = x[rest].mean(axis=0), logarithms[rest].mean()
        matrix = (x[rest] - centre).T @ (x[rest] - centre) + measured.Estimate.PENALTY * np.eye(x.shape[1])
        slope = np.linalg.solve(matrix, (x[rest] - centre).T @ (logarithms[rest] - mean))
        off.append(logarithms[k] - mean - (x[k] - centre) @ slope)
    assert estimate.error == pytest.approx(np.sqrt(np.mean(np.square(off))))
    # The fit's own codes are told far better than others.
    own = np.log(noisy / estimate.predict(codes)[0][:, 0])
    assert estimate.error > 3 * own.std()


def test_the_estimate_is_differentiable(bench: Benchmark) -> None:
    torch = pytest.importorskip("torch")
    estimate = bench.cost("latency_ms@cpu").estimate
    x = torch.tensor(CODES, dtype=torch.float64, requires_grad=True)
    values = estimate.tensor(x)
    assert values.detach().numpy() == pytest.approx(estimate.predict(CODES)[0][:, 0])
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_limits(bench: Benchmark) -> None:
    middle = float(np.median(LATENCY))
    within = bench.best("seg", 100, limits={"latency_ms@cpu": middle})
    expected = {tuple(code) for code in CODES[:50][middle * (1 + 1e-3) >= LATENCY].tolist()}
    assert {r.code for r in within} == expected
    onnx = bench.best("seg", 100, limits={"latency_ms@cpu:onnx": middle})
    assert len(onnx) > len(within)
    macs = float(np.median(cost.macs(CODES)))
    assert bench.best("seg", limits={"macs": macs}) == bench.best("seg", max_macs=macs)
    with pytest.raises(InfeasibleError, match=r"at most 0.001 latency_ms@cpu \(the least is"):
        bench.best("seg", limits={"latency_ms@cpu": 0.001})
    with pytest.raises(
        InfeasibleError, match=rf"latency_ms@cpu of its .* codes: the least is {LATENCY.min():.2f}"
    ):
        Objective.table(bench, "seg", limits={"latency_ms@cpu": 0.001})
    with pytest.raises(UnknownTaskError, match="of 'cpu' in 'heer': expected one of nasbench-mr-costs"):
        bench.cost("latency_ms@cpu@heer")
    with pytest.raises(InvalidArgumentError, match="'macs', and max_macs is given too"):
        bench.best("seg", limits={"macs": 1e9}, max_macs=1e9)
    with pytest.raises(InvalidArgumentError, match="limit of 'latency_ms@cpu' is -1; expected a positive"):
        bench.best("seg", limits={"latency_ms@cpu": -1})
    with pytest.raises(UnknownMetricError, match="no cost 'latency' to limit: did you mean 'latency_ms@cpu'"):
        bench.best("seg", limits={"latency": 1})
    for given in (["latency_ms@cpu"], "latency_ms@cpu", {3: 20}):
        with pytest.raises(InvalidArgumentError, match=r"limits are .*; expected a mapping from costs to"):
            bench.best("seg", limits=given)  # type: ignore[arg-type]


def test_costs_of_another_space_are_refused_everywhere(known_release: Path) -> None:
    bench = nasbench_mr.load(known_release)
    name = "latency_ms@cpu@nasbench-mr-costs"
    told = f"'{name}' is a cost of 'nasbench-mr' codes, not of 'nas-bench-201'"
    with pytest.raises(InvalidArgumentError, match=told):
        bench.best("nas-bench-201", limits={name: 60})
    with pytest.raises(InvalidArgumentError, match=told):
        bench.pareto("nas-bench-201", cost=name)
    with pytest.raises(InvalidArgumentError, match=told):
        Objective.table(bench, "nas-bench-201", limits={name: 60})


def test_searches_are_compared_under_a_measured_limit(
    bench: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    middle = float(np.median(LATENCY))
    asked: dict[str, Any] = {"budget": 8, "seeds": 2, "limits": {"latency_ms@cpu": middle}}
    found = search.compare(bench, "seg", ("random", "local"), workers=1, **asked)
    address = next(iter(found.about["limits"]))
    assert found.about["limits"] == {address: middle}
    assert address.startswith("latency_ms@cpu:torch@")
    assert found.best["seg"] == bench.best("seg", 1, limits={"latency_ms@cpu": middle})[0]["mIoU"]
    codes = np.array([space.parse(code) for code in found.runs["code"]])
    assert (bench.cost("latency_ms@cpu").known(codes) <= middle * (1 + 1e-3)).all()
    # MACs by name are what max_macs is; another limit is another comparison, and the cost's release counts.
    exact = {"budget": 8, "seeds": 2, "workers": 0, "out": tmp_path}
    one = search.compare(bench, "seg", "random", max_macs=2e9, **exact)
    assert search.compare(bench, "seg", "random", limits={"macs": 2e9}, **exact).about == one.about
    assert len(list((tmp_path / "parts").iterdir())) == 1
    search.compare(bench, "seg", "random", **exact, limits=asked["limits"])
    assert len(list((tmp_path / "parts").iterdir())) == 2
    with pytest.raises(UnknownMetricError, match="no cost 'latency' to limit"):
        search.compare(bench, "seg", "random", limits={"latency": 1})
    with pytest.raises(InvalidArgumentError, match="reference results are of limits ="):
        search.compare(bench, "seg", "random", limits={"macs": 2e9}, reference=True)


def test_pareto_fronts_of_a_measured_cost(bench: Benchmark) -> None:
    told = "^latency_ms@cpu is known of 50 of 60 codes of 'seg'; the others are left out$"
    with pytest.warns(UserWarning, match=told):
        front = bench.pareto("seg", cost="latency_ms@cpu")
    assert front["latency_ms@cpu"].is_monotonic_increasing
    assert front["seg"].is_monotonic_increasing
    # Latency is a multiple of MACs here, and only the measured codes count.
    known = {tuple(code) for code in CODES[:50].tolist()}
    assert set(front["code"]) <= known
    same = bench.pareto(("seg", "latency_ms@cpu"), cost=None)
    assert set(same["code"]) == set(front["code"])
    # Of the 40 codes of `video` every cost is known.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bench.pareto("video", cost="latency_ms@cpu")
    install("a-few", label="board", latency=LATENCY[:5])
    with pytest.warns(UserWarning, match="is known of 5 of 40 codes that 'seg', 'video' share; the others"):
        bench.pareto(("seg", "video"), cost="latency_ms@board")


def test_which_release_answers(tiny_release: Path) -> None:
    install("here", label="board")
    install("elsewhere", {"name": "Z80", "cores": 1}, label="board", latency=LATENCY * 10)
    fresh = nasbench_mr.load(tiny_release)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Those of this machine come first, and a release that is named is meant.
        ours = fresh.cost("latency_ms@board")
        assert ours.release.name == "here"
        assert fresh.cost("latency_ms@board@elsewhere").values[0] > 5 * ours.values[0]
    install("only-there", {"name": "Z80", "cores": 1}, label="phone")
    with pytest.warns(
        MeasuredElsewhereWarning, match="'latency_ms@phone' was measured on another machine: Z80"
    ):
        nasbench_mr.load(tiny_release).cost("latency_ms@phone")


def test_two_tables_of_one_device_that_differ_are_told(tiny_release: Path) -> None:
    install("all", label="board")
    install("a-few", label="board", latency=LATENCY[:5])
    told = (
        r"'latency_ms@board' is answered by a-few@1.0.0 \(5 codes, batch 1, size 128, threads 1\), not by "
        r"all@1.0.0 \(50 codes, batch 1, size 128, threads 1\).*latency_ms@board@a-few or"
    )
    with pytest.warns(SeveralCostsWarning, match=told):
        assert len(nasbench_mr.load(tiny_release).best("seg", 50, limits={"latency_ms@board": 1e6})) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = nasbench_mr.load(tiny_release).best("seg", 50, limits={"latency_ms@board@all": 1e6})
        assert len(named) == 50
        # One that has all codes of the other, measured alike, answers without a word.
        install("a-copy", label="board")
        assert nasbench_mr.load(release.find("a-copy")).cost("latency_ms@board").release.name == "a-copy"
    install("small", label="board", size=32)
    with pytest.warns(SeveralCostsWarning, match=r"by small@1.0.0 \(50 codes, batch 1, size 32"):
        nasbench_mr.load(release.find("small")).cost("latency_ms@board")


@pytest.mark.filterwarnings("error")
def test_a_limit_of_another_machine_says_whose_it_is(tiny_release: Path) -> None:
    install("only-there", {"name": "Z80", "cores": 1}, label="phone")
    bench = nasbench_mr.load(tiny_release)
    told = (
        r"the limit 'latency_ms@phone' was measured on another machine: Z80.*latency_ms@phone@only-there says"
    )
    with pytest.raises(InvalidArgumentError, match=told):
        bench.best("seg", limits={"latency_ms@phone": 1e6})
    named = bench.best("seg", 100, limits={"latency_ms@phone@only-there": 1e6})
    assert len(named) == 50


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        (
            "latency_ms@gpu",
            UnknownTaskError,
            "no measured costs of 'gpu': did you mean 'cpu'.*nasbench-mr measure",
        ),
        ("latency_ms@cpu:onx", UnknownNameError, "no costs with the runtime 'onx': did you mean 'onnx'"),
        ("lateny_ms@cpu", UnknownMetricError, "no measured cost 'lateny_ms': did you mean 'latency_ms'"),
        ("latency_ms@", InvalidArgumentError, "names no device"),
        ("energy_mj@cpu", UnknownMetricError, "the device did not tell its energy"),
        ("latency_ms@cpu@nowhere", UnknownTaskError, "of 'cpu' in 'nowhere'"),
    ],
)
def test_names_that_mean_nothing(bench: Benchmark, name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        bench.query(CODES[0], name)


def test_a_release_of_costs_is_verified_and_packed(tmp_path: Path) -> None:
    install("here")
    made = release.Release.open(release.find("here"))
    release.verify(made)
    assert made.configurations == {"cpu-costs": "costs/cpu.parquet"}
    again = release.unpack(release.pack(made, tmp_path), tmp_path / "unpacked")
    assert again.digest == made.digest
    card = (made.path / "DATASET_CARD.md").read_text()
    assert "| cpu | " in card
    kept = measured.short(LATENCY)
    assert f"| torch | 1, 128, 1 | cpu | 50 | {kept.min():.2f} | {np.median(kept):.2f} |" in card


def test_objectives_and_domains_under_limits(bench: Benchmark) -> None:
    middle = float(np.median(LATENCY))
    tabulated = Objective.table(bench, "seg", limits={"latency_ms@cpu": middle})
    known = bench.cost("latency_ms@cpu").known(tabulated.domain.codes)
    assert 0 < len(known) < 50
    assert (known <= middle).all()
    # As an objective it is to be low.
    cheapest = Objective.table(bench, "latency_ms@cpu").best_measured()
    assert cheapest is not None
    assert cheapest[0] == tuple(CODES[LATENCY.argmin()].tolist())
    limit = measured.limits(bench, {"latency_ms@cpu": middle}).measured
    whole = Domain(limits=limit)
    drawn = whole.sample(20, np.random.default_rng(0))
    assert (bench.cost("latency_ms@cpu")(drawn) <= middle).all()
    assert whole.contains(CODES[:50]).tolist() == (known_costs(bench, CODES[:50]) <= middle).tolist()
    with pytest.raises(InfeasibleError, match=r"at most 0.01 latency_ms@cpu: the smallest has"):
        Domain(limits=measured.limits(bench, {"latency_ms@cpu": 0.01}).measured)
    with pytest.raises(InvalidArgumentError, match="is a cost of 'nasbench-mr' codes, not of"):
        Domain(spaces.get("nas-bench-201"), limits=limit)


def known_costs(bench: Benchmark, codes: Any) -> Any:
    return bench.cost("latency_ms@cpu").known(codes)


def test_ncp_under_a_measured_limit(bench: Benchmark) -> None:
    pytest.importorskip("torch")
    options: dict[str, Any] = {"starts": 8, "steps": 10, "polish": 1}
    model = predictors.make("ensemble", members=2, hidden=(8,), epochs=5)
    model.fit(CODES[:60], bench.query_many(CODES[:60], "seg", ("mIoU",))["mIoU"], names=("seg",))
    most = float(np.quantile(LATENCY, 0.3))
    cost_ = bench.cost("latency_ms@cpu")
    found = search.ncp(bench, "seg", limits={"latency_ms@cpu": most}, predictor=model, **options)
    assert cost_(found.codes).max() <= most
    joint = search.ncp(bench, {"seg": 1.0, "latency_ms@cpu": 5.0}, predictor=model, **options)
    assert joint.names == ("seg", "latency_ms@cpu")
    alone = search.ncp(bench, "seg", predictor=model, **options)
    assert cost_(joint.codes[:1]) < cost_(alone.codes[:1])
    with pytest.raises(InvalidArgumentError, match="expected a task to optimise beside it"):
        search.ncp(bench, "latency_ms@cpu", **options)
    with pytest.raises(UnknownMetricError, match="no cost 'latency_ms@cpu' to limit"):
        search.ncp(model, "seg", limits={"latency_ms@cpu": most})


# --- What ships ---------------------------------------------------------------------------------------


def test_the_packaged_costs_are_of_all_codes(published_release: Path | None) -> None:
    opened = release.Release.open(release.find(MEASURED))
    release.verify(opened)
    assert sum(path.stat().st_size for path in opened.path.rglob("*") if path.is_file()) <= 300_000
    benches = [nasbench_mr.load(each) for each in ("mini", published_release) if each is not None]
    expected = {
        tuple(code)
        for bench in benches
        for task in bench.tasks
        if bench.task(task).space == space.NAME
        for code in bench.codes(task).tolist()
    }
    assert published_release is None or len(expected) == 2736
    table = measured.read(opened.file("costs/cpu.parquet"))
    assert table.runtimes == ("torch", "onnx")
    for runtime in table.runtimes:
        found = {tuple(code) for code in table.codes[table.rows(runtime)].tolist()}
        assert len(found) == len(table.rows(runtime)) == 2736
        assert expected <= found
    assert not np.isnan(table.columns["latency_ms"]).any()
    assert {"name", "cores", "torch", "onnxruntime", "clock", "dates", "reference_ms"} <= table.about.keys()
