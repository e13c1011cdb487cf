"""The harness: what it records, resuming, parallel as serial, curves, ranks and tests by hand, plots."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

import nasbench_mr
from nasbench_mr import plot, search, space
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.errors import (
    InfeasibleError,
    InvalidArgumentError,
    SurrogateNotFoundError,
    TableError,
    UnknownNameError,
    UnknownTaskError,
    WorkerError,
)
from nasbench_mr.objective import Objective
from nasbench_mr.search import base, compare, plots
from nasbench_mr.search.comparison import Comparison, holm

module: Any = __import__("sys").modules["nasbench_mr.search.compare"]


@pytest.fixture
def bench(known_release: Path) -> Benchmark:
    return nasbench_mr.load(known_release)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a comparison, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


SMALL: dict[str, Any] = {"budget": 12, "seeds": 4, "workers": 0}


# --- Running ------------------------------------------------------------------------------------------


def test_networks_count_once_if_asked(bench: Benchmark) -> None:
    found = compare(bench, "nas-bench-201", "random", **SMALL, distinct=True)
    assert found.about["distinct"] is True
    assert Objective.table(bench, "nas-bench-201").domain.size == 15_625
    assert Objective.table(bench, "nas-bench-201", distinct=True).domain.size == 5875
    with pytest.raises(InvalidArgumentError, match="distinct is about tabulated codes"):
        compare(bench, "nas-bench-201", "random", **SMALL, source="surrogate", distinct=True)


def test_costs_and_named_metrics_are_tasks_too(bench: Benchmark) -> None:
    names = ["seg", "seg/mAcc", "latency_ms@cpu@nasbench-mr-costs"]
    found = compare(bench, names, "random", **SMALL)
    assert found.tasks == names
    # mAcc = mIoU + 5; of a cost the least is best.
    assert found.best["seg/mAcc"] == pytest.approx(found.best["seg"] + 5)
    least = nasbench_mr.load().best(names[2], 1)[0]["latency_ms"]
    assert found.best[names[2]] == -least
    assert set(found.about["tables"]) == {"seg", "seg/mAcc"}
    with pytest.raises(UnknownTaskError, match="has no results of 'latency_ms@cpu@nasbench-mr-costs'"):
        compare(bench, names[2], "random", **SMALL, reference=True)


def test_it_records_every_measurement_of_every_run(bench: Benchmark) -> None:
    found = compare(bench, ("seg", "nas-bench-201"), ("random", "local"), **SMALL)
    assert (found.tasks, found.searchers) == (["seg", "nas-bench-201"], ["random", "local"])
    assert len(found.trace) == 2 * 2 * 4 * 12
    assert len(found.runs) == 2 * 2 * 4
    where = Objective.table(bench, "seg")
    for seed in range(4):
        alone = search.run(search.make("local", where, seed), where, 12)
        this = "task == 'seg' and searcher == 'local' and seed == @seed"
        rows = found.trace.query(this)
        assert (rows["values"].to_numpy() == alone.values).all()
        assert (rows["best"].to_numpy() == alone.best).all()
        assert (rows["evaluations"].to_numpy() == np.arange(1, 13)).all()
        assert rows["spent"].to_numpy() == pytest.approx(alone.spent)
        (run,) = found.runs.query("task == 'seg' and searcher == 'local' and seed == @seed").to_dict(
            "records"
        )
        assert run["best"] == alone.best_value
        assert space.parse(run["code"]) == alone.best_code
    assert found.best == {"seg": where.best(), "nas-bench-201": 46.0}
    assert found.about["unit"] == {"seg": "percent", "nas-bench-201": "percent"}


def test_a_code_that_dominates_nothing_adds_no_volume(bench: Benchmark) -> None:
    """Objectives of a front are below 0 where a code is worse than the table's worst."""
    found = compare(
        nasbench_mr.load("mini"), "mini-det3d+macs", "random", **SMALL, front=True, source="surrogate"
    )
    assert (found.trace["values"] >= 0).all()
    assert (found.trace["best"] >= found.trace["values"]).all()


def test_joint_tasks_options_and_limits(bench: Benchmark) -> None:
    found = compare(
        bench, "seg+video,seg", "evolution,evolution:population=4:sample=2", max_macs=1e9, **SMALL
    )
    assert found.tasks == ["seg+video", "seg"]
    assert found.searchers == ["evolution", "evolution:population=4:sample=2"]
    assert found.about["unit"]["seg+video"] == "standard deviations"
    joint = Objective.table(bench, ("seg", "video"), max_macs=1e9)
    assert found.best["seg+video"] == joint.best()
    assert joint.domain.codes is not None
    allowed = {space.to_string(code) for code in joint.domain.codes}
    assert set(found.runs["code"]) <= allowed


def test_parallel_is_serial(bench: Benchmark, tmp_path: Path) -> None:
    asked = {"budget": 14, "seeds": 30}
    for workers in (0, 2):
        compare(
            bench, ("seg", "video"), ("random", "ncp"), out=tmp_path / str(workers), workers=workers, **asked
        )
    serial, parallel = contents(tmp_path / "0"), contents(tmp_path / "2")
    # 2 tasks, 2 searches, seeds 0-24 and 25-29.
    assert len([name for name in serial if name.startswith("parts/")]) == 8
    assert serial == parallel


def test_a_comparison_goes_on_where_it_was(
    bench: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"searchers": ("random", "local"), "budget": 10, "seeds": 30, "workers": 0}
    compare(bench, "seg", out=tmp_path / "whole", **asked)
    run, done = module.Part.run, []

    def interrupted(part: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(part)
        return run(part)

    monkeypatch.setattr(module.Part, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(bench, "seg", out=tmp_path / "again", **asked)
    assert sorted(contents(tmp_path / "again")) == sorted(f"parts/{part.name}" for part in done)
    monkeypatch.setattr(module.Part, "run", run)
    times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "again" / "parts").iterdir()}
    compare(bench, "seg", out=tmp_path / "again", **asked)
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")
    for name, time in times.items():
        assert (tmp_path / "again" / "parts" / name).stat().st_mtime_ns == time
    # More seeds, or another search, keep what is there; other budgets are other parts.
    before = set(contents(tmp_path / "again"))
    compare(bench, "seg", out=tmp_path / "again", **{**asked, "searchers": ("random", "evolution")})
    assert len(set(contents(tmp_path / "again")) - before) == 2
    compare(bench, "seg", out=tmp_path / "again", **{**asked, "budget": 11})
    assert len(set(contents(tmp_path / "again")) - before) == 6


def test_damaged_and_foreign_files_are_named_before_anything_runs(bench: Benchmark, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"out": tmp_path, "budget": 5, "seeds": 30, "workers": 0}
    compare(bench, "seg", "random", **asked)
    good = contents(tmp_path)
    one, other = sorted(name for name in good if name.startswith("parts/"))
    path = tmp_path / one
    arrow = pq.read_table(path)
    for damage in (
        b"",
        good[one][:-10],
        good[one][:200] + bytes(50) + good[one][250:],
        good[other],
        as_parquet(arrow.drop_columns(["best"])),
        as_parquet(arrow.replace_schema_metadata({"nasbench_mr": "[" * 100_000})),
        as_parquet(arrow.replace_schema_metadata(None)),
        as_parquet(arrow.slice(5)),
    ):
        path.write_bytes(damage)
        with pytest.raises(TableError, match=f"{one} is damaged or foreign .* Delete it, and rerun"):
            compare(bench, "seg", "random,local", **asked)
    path.unlink()
    compare(bench, "seg", "random", **asked)
    assert contents(tmp_path) == good


def as_parquet(arrow: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def test_a_damaged_comparison_is_not_opened(bench: Benchmark, tmp_path: Path) -> None:
    compare(bench, "seg", "random,local", out=tmp_path, **SMALL)
    good = contents(tmp_path)
    about = json.loads(good["comparison.json"])
    trace = pq.read_table(tmp_path / "trace.parquet")
    damages: list[tuple[str, bytes]] = [
        ("comparison.json", text.encode())
        for text in (
            "",
            "[]",
            "[" * 100_000,
            "{}",
            json.dumps({**about, "budget": 10**400}),
            json.dumps({**about, "tasks": ["seg", "video"]}),
            json.dumps({**about, "tasks": []}),
            json.dumps({**about, "tasks": 3}),
            json.dumps({**about, "spread": {"seg": 0}}),
            json.dumps({**about, "best": {"seg": "high"}}),
            json.dumps({**about, "unit": None}),
            json.dumps({**about, "searchers": ["random", "ncp"]}),
            good["comparison.json"][: len(good["comparison.json"]) // 2].decode(),
        )
    ]
    for file in ("trace.parquet", "runs.parquet"):
        damages += [(file, data) for data in (b"", good[file][:-20], as_parquet(trace.slice(0, 1)))]
    damages.append(("trace.parquet", good["runs.parquet"]))
    for name, data in damages:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(TableError, match=f"{name} .*delete (it|both), and rerun the comparison"):
            Comparison.open(tmp_path)
        (tmp_path / name).write_bytes(good[name])
    assert list(Comparison.open(tmp_path).final().columns) == ["random", "local"]
    (tmp_path / "trace.parquet").unlink()
    with pytest.raises(InvalidArgumentError, match="holds no finished comparison"):
        Comparison.open(tmp_path)


def test_another_release_is_another_comparison(
    known_release: Path, tiny_release: Path, tmp_path: Path
) -> None:
    for release in (known_release, tiny_release):
        compare(nasbench_mr.load(release), "video", "random", out=tmp_path, budget=5, seeds=2, workers=0)
    assert len(list((tmp_path / "parts").iterdir())) == 2


BROKEN = """
import os, signal
from nasbench_mr.search import Searcher

class Killed(Searcher):
    def _propose(self, n):
        os.kill(os.getpid(), signal.SIGKILL)

class Picky(Exception):
    def __init__(self, what, why):
        super().__init__(f"{what} is {why}")

class Wrong(Searcher):
    def _propose(self, n):
        raise Picky("a code", "missing")
"""


def test_what_breaks_a_worker_reaches_the_user_and_leaves_what_was_finished(
    bench: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "broken_searches.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    asked: dict[str, Any] = {"out": tmp_path / "out", "budget": 5, "seeds": 2, "workers": 1}
    died = (
        r"broken_searches.Killed on seg, seeds 0 to 1: the worker was killed by SIGKILL .*rerun .* to resume"
    )
    with pytest.raises(WorkerError, match=died):
        compare(bench, "seg", "random,broken_searches.Killed", **asked)
    [kept] = (tmp_path / "out/parts").iterdir()
    assert b"random" in kept.read_bytes()
    # An error whose class can't be pickled is named, and where it was raised.
    with pytest.raises(WorkerError, match="Wrong on seg, seeds 0 to 1: Picky: a code is missing") as raised:
        compare(bench, "seg", "random,broken_searches.Wrong", **asked)
    cause = raised.value.__cause__
    assert cause is not None
    assert 'raise Picky("a code", "missing")' in "".join(cause.__notes__)


def test_mistakes_come_to_light_before_anything_runs(bench: Benchmark, tmp_path: Path) -> None:
    for arguments, options, error, message in (
        (("sego", "random"), {}, UnknownTaskError, "did you mean 'seg'"),
        (("seg,seg", "random"), {}, InvalidArgumentError, "distinct names"),
        (("seg", ""), {}, InvalidArgumentError, "distinct names"),
        (("seg", "rendom"), {}, UnknownNameError, "did you mean 'random'"),
        (("seg", "evolution:population"), {}, InvalidArgumentError, "'population' is not an option"),
        (("seg", "evolution:size=3"), {}, InvalidArgumentError, "size"),
        (("seg", "evolution:population=0"), {}, InvalidArgumentError, "population is 0"),
        (("seg", "halving"), {}, InvalidArgumentError, "needs learning curves"),
        (("seg", "random"), {"budget": 1e9}, InvalidArgumentError, r"evaluations, at most 1e\+07"),
        (("seg", "random"), {"budget": 0}, InvalidArgumentError, "budget is 0"),
        (("seg", "random"), {"seeds": 0}, InvalidArgumentError, "seeds is 0"),
        (("seg", "random"), {"batch": 0}, InvalidArgumentError, "batch is 0"),
        (("seg", "random"), {"workers": -1}, InvalidArgumentError, "workers is -1"),
        (("seg", "random"), {"engine": "slurm"}, UnknownNameError, "no engine 'slurm'"),
        (("seg", "random"), {"source": "oracle"}, UnknownNameError, "no source 'oracle'"),
        (("seg", "random"), {"source": "surrogate"}, SurrogateNotFoundError, "surrogate fit"),
        (("seg", "random"), {"max_macs": 1}, InfeasibleError, "no code of the table"),
        (("seg+nas-bench-201", "random"), {}, InvalidArgumentError, "different search spaces"),
    ):
        with pytest.raises(error, match=message):
            compare(bench, *arguments, **{**SMALL, "out": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


MINE = """
from nasbench_mr.search import Searcher

class Mine(Searcher):
    def __init__(self, domain, seed=0, epochs=(), most=True):
        super().__init__(domain, seed, epochs)
        self.most = most

    def _propose(self, n):
        codes = self.domain.sample(20, self.rng)
        order = self.domain.params(codes).argsort()
        return codes[order[-n:] if self.most else order[:n]]
"""


def test_a_search_of_ones_own(bench: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "mine_searches.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    mine = __import__("mine_searches").Mine
    inside = compare(bench, "seg", (mine, "random"), out=tmp_path / "kept", **SMALL)
    assert inside.searchers == ["mine_searches.Mine", "random"]
    names = sorted(p.name for p in (tmp_path / "kept" / "parts").iterdir())
    # Workers import it by its name; options are as for the others.
    specs = "mine_searches.Mine,mine_searches.Mine:most=False"
    outside = compare(bench, "seg", specs, **{**SMALL, "workers": 1})
    rows = [
        c.trace.query("searcher == 'mine_searches.Mine'").reset_index(drop=True) for c in (inside, outside)
    ]
    pd.testing.assert_frame_equal(*rows)
    # Another text is another search: what it found is not taken for this one's.
    (tmp_path / "lib" / "mine_searches.py").write_text(MINE.replace("sample(20", "sample(40"))
    __import__("importlib").reload(__import__("mine_searches"))
    __import__("linecache").checkcache()
    compare(bench, "seg", "mine_searches.Mine,random", out=tmp_path / "kept", **SMALL)
    assert len({p.name for p in (tmp_path / "kept" / "parts").iterdir()} - set(names)) == 1

    class Local(base.Searcher):
        def _propose(self, n: int) -> Any:
            return self.domain.sample(n, self.rng)

    assert len(search.make(Local, Objective.table(bench, "seg")).ask(3)) == 3
    for wrong, message in (
        (Local, "can't be imported by worker processes"),
        ("nowhere.Search", "can't import 'nowhere.Search'"),
        ("mine_searches.Nothing", "has no attribute 'Nothing'"),
        ("collections.OrderedDict", "expected a subclass of Searcher"),
    ):
        with pytest.raises((InvalidArgumentError, UnknownNameError), match=message):
            compare(bench, "seg", wrong, **SMALL)


def test_halving_uses_curves_where_there_are(tiny_release: Path) -> None:
    found = compare(nasbench_mr.load(tiny_release), "seg", "halving,random", budget=8, seeds=3, workers=0)
    halving = found.trace[found.trace["searcher"] == "halving"]
    assert set(halving["fidelity"]) == {0, 1}
    regret = found.regret["seg", "halving"]
    assert regret.shape == (3, 8)
    # Three short trainings (3/4) and then the best of them in full (1): nothing is known after 1.
    assert np.isnan(regret[:, 0]).all()
    assert np.isfinite(regret[:, 1]).all()


# --- What it found ------------------------------------------------------------------------------------


def made(
    best: dict[tuple[str, str], list[list[float]]], top: dict[str, float | None], **about: Any
) -> Comparison:
    """Return a comparison from each run's best values so far, by (task, search)."""
    traces, runs = [], []
    for (task, searcher), curves in best.items():
        for seed, curve in enumerate(curves):
            here = {"task": task, "searcher": searcher, "seed": seed}
            steps = np.arange(1.0, len(curve) + 1)
            columns = {"evaluations": steps, "spent": steps, "values": curve, "best": curve}
            traces.append(pd.DataFrame({**here, "fidelity": 0, **columns}))
            runs.append({**here, "best": curve[-1], "code": ""})
    tasks, searchers = (list(dict.fromkeys(key[k] for key in best)) for k in (0, 1))
    budget = max(len(curve) for curves in best.values() for curve in curves)
    described = {
        "tasks": tasks,
        "searchers": searchers,
        "budget": budget,
        "best": top,
        "spread": dict.fromkeys(tasks, 2.0),
        "unit": dict.fromkeys(tasks, "percent"),
        **about,
    }
    return Comparison(pd.concat(traces, ignore_index=True), pd.DataFrame(runs), described)


def test_regret_is_the_distance_to_the_best_within_reach() -> None:
    best = {("t", "a"): [[1.0, 4.0, 4.0], [2.0, 2.0, 3.0]], ("t", "b"): [[0.0, 0.0, 5.0], [1.0]]}
    found = made(best, {"t": 6.0})
    assert found.regret["t", "a"].tolist() == [[5, 2, 2], [4, 4, 3]]
    # A run that ended early keeps its regret.
    assert found.regret["t", "b"].tolist() == [[6, 6, 1], [5, 5, 5]]
    assert found.final().loc["t"].to_dict() == {"a": 2.5, "b": 3.0}
    # Ranks of a: 2 and 1; of b: 1 and 2.
    assert found.ranks().loc["t"].to_dict() == {"a": 1.5, "b": 1.5}
    # Where no one knows the best, it is the best seen.
    assert made(best, {"t": None}).best == {"t": 5.0}


def test_curves_are_medians_and_quartiles_over_the_runs() -> None:
    curves = [[10.0 - k] for k in range(5)]
    found = made({("t", "a"): curves}, {"t": 10.0}).curves()
    assert found[["median", "low", "high"]].to_numpy().tolist() == [[2, 1, 3]]
    assert found["evaluations"].tolist() == [1]
    with pytest.raises(UnknownNameError, match="no band"):
        made({("t", "a"): curves}, {"t": 10.0}).curves("minmax")


def test_the_confidence_band_is_that_of_order_statistics() -> None:
    """For 11 runs the interval from the 2nd to the 10th smallest covers the median with 98.8%.

    P(at most 1 of 11 fair coins shows heads) = 12 / 2048; twice that is 1.2%. With the 3rd and the 9th it
    would be 2 * 67 / 2048 = 6.5%, more than 5%.
    """
    found = made({("t", "a"): [[20.0 - k] for k in range(11)]}, {"t": 20.0}).curves("confidence")
    assert found[["median", "low", "high"]].to_numpy().tolist() == [[5, 1, 9]]
    few = made({("t", "a"): [[3.0], [1.0], [2.0]]}, {"t": 3.0}).curves("confidence")
    assert few[["low", "high"]].to_numpy().tolist() == [[0, 2]]


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.03, 0.04: times 3, 2, 1 gives 0.03, 0.06, 0.04, which may not fall: 0.06."""
    assert holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1.0, 1.0])


def test_tests_over_tasks_by_hand() -> None:
    """a is best on all seven tasks, b second, c last: Friedman's 14 and the smallest p that seven allow."""
    tasks = [f"t{k}" for k in range(7)]
    best = {
        (t, s): [[10.0 - gap * (k + 1)]]
        for k, t in enumerate(tasks)
        for s, gap in (("a", 0.0), ("b", 1.0), ("c", 3.0))
    }
    found = made(best, dict.fromkeys(tasks, 10.0)).tests()
    assert (found.blocks, found.count) == ("tasks", 7)
    # 12 / (n k (k + 1)) * sum of squared rank sums - 3 n (k + 1), with n = 7, k = 3 and rank sums 7, 14, 21.
    assert found.statistic == pytest.approx(12 / (7 * 3 * 4) * (49 + 196 + 441) - 3 * 7 * 4)
    assert found.p == pytest.approx(np.exp(-7))  # chi-squared with two degrees of freedom
    # Two-sided, all seven signs alike: 2 / 2^7.
    assert found.pairs["p"].to_numpy() == pytest.approx([2 / 128] * 3)
    assert found.pairs["p_holm"].to_numpy() == pytest.approx([6 / 128] * 3)
    assert found.pairs["better"].tolist() == [1.0, 1.0, 1.0]
    assert found.pairs[["a", "b"]].to_numpy().tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]


@pytest.mark.parametrize(("searches", "least"), [(2, 6), (3, 7), (4, 8), (5, 9)])
def test_tests_are_over_tasks_where_those_could_tell(searches: int, least: int) -> None:
    for count in (least - 1, least):
        tasks = [f"t{k}" for k in range(count)]
        best = {(t, f"s{k}"): [[10.0 - k]] for t in tasks for k in range(searches)}
        found = made(best, dict.fromkeys(tasks, 10.0)).tests()
        assert found.blocks == ("tasks" if count == least else "runs")
    assert found.pairs["p_holm"].min() < 0.05


def test_tests_over_runs_and_the_size_of_the_effect() -> None:
    best = {("t", "a"): [[5.0], [3.0]], ("t", "b"): [[4.0], [3.0]]}
    found = made(best, {"t": 6.0}).tests()
    assert (found.blocks, found.count) == ("runs", 2)
    # Of a's runs against b's: 5 > 4, 5 > 3, 3 < 4, 3 = 3.
    assert found.pairs["better"].tolist() == [2.5 / 4]
    assert np.isnan(found.p)
    # One pair differs: p is 1 with any sign.
    assert found.pairs["p"].tolist() == [1.0]
    alike = made({("t", s): [[1.0], [2.0], [3.0]] for s in "abc"}, {"t": 5.0}).tests()
    assert (alike.p, alike.pairs["p"].tolist()) == (1.0, [1.0] * 3)


def test_wilcoxon_is_over_standardised_regret() -> None:
    rng = np.random.default_rng(0)
    tasks = [f"t{k}" for k in range(8)]
    best = {(t, s): [[float(v)] for v in rng.normal(size=4)] for t in tasks for s in "ab"}
    found = made(best, dict.fromkeys(tasks, 9.0), spread={t: k + 1.0 for k, t in enumerate(tasks)})
    means = np.array(
        [[np.mean(9.0 - np.array(best[t, s])) / (k + 1) for s in "ab"] for k, t in enumerate(tasks)]
    )
    assert found.tests().pairs["p"].tolist() == [stats.wilcoxon(means[:, 0], means[:, 1]).pvalue]


def test_one_search_has_nothing_to_be_tested_against(bench: Benchmark) -> None:
    found = compare(bench, "seg", "random", **SMALL)
    with pytest.raises(InvalidArgumentError, match="at least two searches"):
        found.tests()
    with pytest.raises(UnknownNameError, match="no blocks"):
        made({("t", s): [[1.0]] for s in "ab"}, {"t": 1.0}).tests("seeds")


def test_what_is_saved_is_opened_again(bench: Benchmark, tmp_path: Path) -> None:
    found = compare(bench, "seg", ("random", "local"), out=tmp_path, **SMALL)
    again = Comparison.open(tmp_path)
    assert again.about == found.about
    pd.testing.assert_frame_equal(again.trace, found.trace)
    pd.testing.assert_frame_equal(again.runs, found.runs)
    pd.testing.assert_frame_equal(again.curves(), found.curves())
    # Any reader of Parquet has the plain columns.
    assert list(pd.read_parquet(tmp_path / "trace.parquet").columns) == [
        "task", "searcher", "seed", "fidelity", "evaluations", "spent", "values", "best",
    ]  # fmt: skip
    assert json.loads((tmp_path / "comparison.json").read_text())["release"] == "known@1.0.0"
    shutil.rmtree(tmp_path / "parts")
    with pytest.raises(InvalidArgumentError, match="no finished comparison"):
        Comparison.open(tmp_path / "nowhere")


def test_the_best_of_a_run_without_a_full_training_is_worst() -> None:
    found = made({("t", "a"): [[np.nan, np.nan]], ("t", "b"): [[1.0, 2.0]]}, {"t": 5.0})
    assert np.isnan(found.regret["t", "a"]).all()
    # As bad as the worst that was ever a run's best: 5 - 1.
    assert found.final().loc["t"].to_dict() == {"a": 4.0, "b": 3.0}
    assert np.isnan(found.curves().query("searcher == 'a'")["median"]).all()
    none = made({("t", "a"): [[np.nan, np.nan]], ("t", "b"): [[np.nan, np.nan]]}, {"t": 5.0})
    for ask in (none.final, none.ranks, none.tests):
        with pytest.raises(InvalidArgumentError, match="no search trained a code of 't' to the end within"):
            ask()


# --- Plots --------------------------------------------------------------------------------------------


def test_a_comparison_is_drawn_with_a_panel_for_each_task(bench: Benchmark, tmp_path: Path) -> None:
    found = compare(bench, "seg,video,nas-bench-201,seg+video", "random,local,evolution", **SMALL)
    for band in ("quartiles", "confidence"):
        drawn = plots.comparison(found, band)
        panels = [axes for axes in drawn.axes if axes.get_title() in found.tasks]
        assert [axes.get_title() for axes in panels] == found.tasks
        for axes in panels:
            assert [line.get_label() for line in axes.get_lines()] == found.searchers
            assert len(axes.collections) == 3
    medians = found.curves().query("task == 'seg' and searcher == 'local'")["median"]
    assert (panels[0].get_lines()[1].get_ydata() == medians.to_numpy()).all()
    path = plot.save(drawn, tmp_path / "comparison.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    # One search alone has no ranks.
    assert len(plots.comparison(compare(bench, "seg", "random", **SMALL)).axes) == 1


@pytest.mark.parametrize(
    ("alike", "expected"),
    [
        ([], []),
        (["ab"], [(0, 1)]),
        (["ab", "bc", "ac", "cd"], [(0, 2), (2, 3)]),
        (["ab", "cd"], [(0, 1), (2, 3)]),
        (["ad"], []),
        (["ab", "ac", "ad", "bc", "bd", "cd"], [(0, 3)]),
    ],
)
def test_bars_join_runs_of_searches_that_are_all_alike(
    alike: list[str], expected: list[tuple[int, int]]
) -> None:
    found = plots._groups("abcd", lambda a, b: a + b in alike or b + a in alike)
    assert found == expected


def test_budgets_are_checked_in_one_place() -> None:
    with pytest.raises(InvalidArgumentError, match="budget is nan"):
        base.check_budget(float("nan"), 1)
