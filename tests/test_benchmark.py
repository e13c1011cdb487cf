"""Queries and views: every form of a question, laws over every row, and views against plain references.

The tiny release is made up (see conftest.py); `shared`, where it is there, lends its published tables.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import nasbench_mr
from nasbench_mr import Metric, Task, analysis, benchmark, cost, nasbench201, release, space, table, tasks
from nasbench_mr.benchmark import Benchmark, Result
from nasbench_mr.errors import (
    CodeNotFoundError,
    InfeasibleError,
    IntegrityError,
    InvalidArgumentError,
    OutOfSpaceError,
    ReleaseError,
    SurrogateNotFoundError,
    UnknownMetricError,
    UnknownTaskError,
)
from nasbench_mr.objective import Objective

CODES = space.sample(61, seed=0)
METRICS = ["mIoU", "mAcc", "aAcc"]


@pytest.fixture
def bench(tiny_release: Path) -> Benchmark:
    return nasbench_mr.load(tiny_release)


@pytest.fixture
def frame(bench: Benchmark) -> pd.DataFrame:
    """All trials of seg, with the number of the code among `CODES`."""
    trials = bench.to_pandas("seg")
    numbers = {tuple(code): k for k, code in enumerate(CODES.tolist())}
    return trials.assign(
        number=[numbers[tuple(row)] for row in trials[list(space.NAMES)].to_numpy().tolist()]
    )


def fill(task: Task, **columns: Any) -> Callable[[Path], object]:
    return lambda folder: table.write(folder / f"tables/{task.name}.parquet", task, columns)


def small(task: Task, **columns: Any) -> Benchmark:
    """Return a benchmark of one table."""
    return Benchmark(release.create(fill(task, **columns), "small", "1.0.0", [task]))


# --- One code -----------------------------------------------------------------------------------------


def test_what_a_benchmark_is(bench: Benchmark, tiny_release: Path) -> None:
    assert bench.tasks == ("seg", "video")
    assert bench.task("seg") == tasks.get("seg")
    assert repr(bench) == "<Benchmark tiny@1.0.0: seg, video>"
    assert (bench.codes("seg") == CODES[:60]).all()
    assert bench.codes("seg").dtype == np.int16
    assert (bench.codes("video") == CODES[:40]).all()


def test_the_mean_over_seeds(bench: Benchmark, frame: pd.DataFrame) -> None:
    for k in range(60):
        result = bench.query(CODES[k], "seg")
        trials = frame[frame["number"] == k]
        assert list(result) == [*METRICS, "macs", "params", "epochs", "train_seconds"]
        for name in METRICS:
            assert result[name] == pytest.approx(trials[name].mean(), rel=1e-14)
            if k < 10:
                assert result.std[name] == pytest.approx(trials[name].std(), rel=1e-9)
            else:
                assert np.isnan(result.std[name])
        assert result.seeds == ((0, 1, 2) if k < 10 else (0,))
        assert (result["macs"], result["params"]) == (cost.macs(CODES[k])[0], cost.params(CODES[k])[0])
        assert type(result["macs"]) is type(result["params"]) is int
        assert result["epochs"] == 4
        assert result["train_seconds"] == pytest.approx(result["macs"] / 1e8)
        assert (result.source, result.task, result.distance) == ("table", "seg", 0.0)
        assert result.code == tuple(CODES[k].tolist())


def test_one_seed(bench: Benchmark, frame: pd.DataFrame) -> None:
    for k, seed in itertools.product((0, 9), range(3)):
        result = bench.query(CODES[k], "seg", seed=seed)
        (row,) = frame[(frame["number"] == k) & (frame["seed"] == seed)].itertuples()
        assert (result["mIoU"], result["mAcc"], result["macs"]) == (row.mIoU, row.mAcc, row.macs)
        assert result.seeds == (seed,)
        assert type(result["macs"]) is int
        assert np.isnan(result.std["mIoU"])
        assert bench.query(CODES[k], "seg", seed=np.int64(seed)) == result


def test_a_point_of_the_curves(bench: Benchmark) -> None:
    """At epoch e of 4, e / 4 of the final values."""
    for k, epoch in itertools.product((0, 9, 10, 59), range(1, 5)):
        result = bench.query(CODES[k], "seg", epoch=epoch)
        final = bench.query(CODES[k], "seg")
        assert list(result) == [*METRICS, "loss", "seconds", "macs", "params"]
        for name in METRICS:
            assert result[name] == pytest.approx(final[name] * epoch / 4)
            assert result.std[name] == pytest.approx(final.std[name] * epoch / 4, nan_ok=True)
        assert result["loss"] == 2 / epoch
        assert (result["macs"], result.seeds) == (final["macs"], final.seeds)
    one = bench.query(CODES[3], "seg", seed=2, epoch=2)
    assert one["mIoU"] == pytest.approx(bench.query(CODES[3], "seg", seed=2)["mIoU"] / 2)
    assert one.seeds == (2,)


FORMS: list[Callable[[np.ndarray[Any, Any]], Any]] = [
    lambda code: tuple(code.tolist()),
    lambda code: code.tolist(),
    lambda code: code,
    lambda code: code.astype(float),
    tuple,
    space.to_string,
    lambda code: dict(zip(space.NAMES, code.tolist(), strict=True)),
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_code(form: Callable[[np.ndarray[Any, Any]], Any], bench: Benchmark) -> None:
    result = bench.query(form(CODES[0]), "seg")
    assert result == bench.query(CODES[0], "seg")
    assert result.code == tuple(CODES[0].tolist())
    assert all(type(v) is int for v in result.code)


def test_names_and_aliases(bench: Benchmark) -> None:
    expected = bench.query(CODES[0], "seg")
    for name in ("cityscapes", "SEG", " seg "):
        assert bench.query(CODES[0], name) == expected
        assert bench.task(name) is bench.task("seg")
    # Of "video" and "video-p", this release has one.
    assert bench.query(CODES[0], "hmdb51").task == "video"


def test_asked_again_it_answers_the_same(bench: Benchmark, tiny_release: Path) -> None:
    other = nasbench_mr.load(tiny_release)
    for options in ({}, {"seed": 1}, {"epoch": 2}, {"source": "table"}):
        for k in (0, 5):
            first = bench.query(CODES[k], "seg", **options)  # type: ignore[arg-type]
            assert bench.query(CODES[k], "seg", **options) == first  # type: ignore[arg-type]
            assert other.query(CODES[k], "seg", **options) == first  # type: ignore[arg-type]


# --- Result -------------------------------------------------------------------------------------------


def test_a_result_is_a_mapping(bench: Benchmark) -> None:
    result = bench.query(CODES[0], "seg")
    assert "mIoU" in result
    assert "miou" not in result
    assert len(result) == 7
    assert dict(result) == {name: result[name] for name in result}
    assert result.get("nothing") is None
    assert result.get("mIoU") == result["mIoU"]
    assert result == dict(result)
    with pytest.raises(UnknownMetricError, match="no 'miou' in task 'seg': did you mean 'mIoU'"):
        result["miou"]
    with pytest.raises(KeyError):
        result["nothing"]
    assert repr(result).startswith("Result(seg: mIoU=")
    assert repr(result).endswith("; source='table', seeds=(0, 1, 2))")


def test_results_can_be_copied_and_sent_to_other_processes(bench: Benchmark) -> None:
    for options in ({}, {"seed": 1}, {"epoch": 1}):
        result = bench.query(CODES[0], "seg", **options)  # type: ignore[arg-type]
        for twin in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
            assert twin == result
            assert dict(twin.std) == dict(result.std) or options


def test_equality_sees_unknown_values_and_sources() -> None:
    a = Result({"x": float("nan")}, (1,), "t", "table", std={}, seeds=(0,))
    assert a == Result({"x": float("nan")}, (1,), "t", "table", std={}, seeds=(0,))
    assert a != Result({"x": 1.0}, (1,), "t", "table", std={}, seeds=(0,))
    assert a != Result({"x": float("nan")}, (1,), "t", "surrogate", std={}, seeds=(0,))
    assert a != Result({"x": float("nan")}, (1,), "t", "table", std={}, seeds=(1,))
    assert a != Result({"y": float("nan")}, (1,), "t", "table", std={}, seeds=(0,))
    assert a != 3


def test_a_benchmark_can_be_sent_to_other_processes(bench: Benchmark) -> None:
    twin = pickle.loads(pickle.dumps(bench))
    assert twin.query(CODES[0], "seg") == bench.query(CODES[0], "seg")


def test_a_benchmark_does_not_mind_where_a_process_is(
    tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_release, tmp_path / "tiny")
    release.pack(release.Release.open(tiny_release), tmp_path / "tiny.tar.gz")
    monkeypatch.chdir(tmp_path)
    opened = [nasbench_mr.load(name) for name in ("./tiny", "tiny.tar.gz")]
    monkeypatch.chdir("/")
    for bench in opened:
        twin = pickle.loads(pickle.dumps(bench))
        copied = copy.deepcopy(bench)
        for own in (bench, twin, copied):
            assert len(own.to_pandas("seg")) == 81
            assert own.query(CODES[0], "seg", epoch=4)["mIoU"] > 0


def test_what_is_read_later_is_checked_too(tiny_release: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_release, folder)
    bench = nasbench_mr.load(folder)
    bench.query(CODES[0], "seg")
    for name in ("tables/seg.parquet", "curves/seg.parquet"):
        with open(folder / name, "ab") as file:
            file.write(b"more")
    for read in (bench.to_pandas, bench.curves, lambda task: bench.query(CODES[0], task, epoch=1)):
        with pytest.raises(IntegrityError, match=r"seg\.parquet has sha256 \w+; expected"):
            read("seg")
    for name in ("tables/seg.parquet", "curves/seg.parquet"):
        (folder / name).unlink()
    for read in (bench.to_pandas, bench.curves):
        with pytest.raises(ReleaseError, match=r"seg\.parquet is missing; install the release again"):
            read("seg")


def test_an_epoch_without_an_evaluation_says_so(tmp_path: Path) -> None:
    seg = tasks.get("seg")

    def write(folder: Path) -> None:
        fill(seg, codes=CODES[:1], mIoU=[40.0])(folder)
        curve = {
            "seed": [0] * 4,
            "epoch": [1, 2, 3, 4],
            "mIoU": [np.nan, 20.0, np.nan, 40.0],
            "loss": [1.0] * 4,
        }
        table.write_curves(folder / "curves/seg.parquet", seg, {"codes": CODES[[0] * 4], **curve})

    bench = Benchmark(release.create(write, "sparse", "1.0.0", [seg]))
    assert bench.query(CODES[0], "seg", epoch=2)["mIoU"] == 20.0
    with pytest.raises(CodeNotFoundError, match="not evaluated in epoch 3; it was in: 2, 4"):
        bench.query(CODES[0], "seg", epoch=3)


# --- Failed trials and unknown values -----------------------------------------------------------------


def test_a_failed_trial_is_no_answer(bench: Benchmark) -> None:
    failed = CODES[60]
    with pytest.raises(CodeNotFoundError, match="all 1 of its trials failed"):
        bench.query(failed, "seg")
    with pytest.raises(CodeNotFoundError, match="all 1 of its trials failed"):
        bench.query(failed, "seg", seed=0)
    with pytest.raises(CodeNotFoundError):
        bench.query_many([failed], "seg")
    assert np.isnan(bench.query_many([failed], "seg", missing="nan")["mIoU"]).all()
    assert len(bench.to_pandas("seg")) == 81


def test_only_good_trials_count() -> None:
    """A code with an ok, a diverged and a failed trial; its curves too."""
    seg = tasks.get("seg")
    codes = CODES[[0, 0, 0]]
    rows = {
        "codes": codes,
        "seed": [0, 1, 2],
        "mIoU": [50.0, 1.0, None],
        "status": ["ok", "diverged", "failed"],
    }
    curves = {
        "codes": CODES[[0, 0, 0, 0]],
        "seed": [0, 0, 1, 1],
        "epoch": [1, 3, 1, 2],
        "mIoU": [40.0, 50.0, 20.0, 1.0],
    }

    def fill_both(folder: Path) -> None:
        fill(seg, **rows)(folder)
        table.write_curves(folder / "curves/seg.parquet", seg, curves)

    bench = Benchmark(release.create(fill_both, "small", "1.0.0", [seg]))
    result = bench.query(CODES[0], "seg")
    assert (result["mIoU"], result.seeds) == (50.0, (0,))
    assert bench.query_many(CODES[:1], "seg")["mIoU"].tolist() == [50.0]
    with pytest.raises(CodeNotFoundError, match="no trial of this code with seed 1; it has seeds 0"):
        bench.query(CODES[0], "seg", seed=1)
    assert bench.query(CODES[0], "seg", epoch=1)["mIoU"] == 40.0
    assert bench.fidelities("seg") == (1, 3)
    assert bench.curves("seg", ok=True)["mIoU"].tolist() == [40.0, 50.0]
    assert bench.curves("seg")["mIoU"].tolist() == [40.0, 50.0, 20.0, 1.0]
    assert Objective.table(bench, "seg").evaluate(CODES[:1], epoch=1).tolist() == [40.0]


def test_unknown_values_do_not_count_in_means() -> None:
    rows = {
        "codes": CODES[[0, 0, 0, 1]],
        "seed": [0, 1, 2, 0],
        "mIoU": [1.0, 2.0, 3.0, 4.0],
        "mAcc": [10.0, None, 30.0, None],
        "train_seconds": [1.0, None, None, 5.0],
    }
    bench = small(tasks.get("seg"), **rows)
    first, second = (bench.query(c, "seg") for c in CODES[:2])
    assert (first["mIoU"], first["mAcc"], first["train_seconds"]) == (2.0, 20.0, 1.0)
    assert first.std["mIoU"] == 1.0
    assert first.std["mAcc"] == pytest.approx(np.sqrt(200))
    assert np.isnan(first.std["aAcc"])
    assert np.isnan(second["mAcc"])
    assert second == bench.query(CODES[1], "seg")
    # Costs that no row knows are left out; metrics never are.
    assert list(first) == ["mIoU", "mAcc", "aAcc", "train_seconds"]


def test_an_empty_table() -> None:
    bench = small(tasks.get("seg"), codes=CODES[:1], status=["failed"])
    assert bench.codes("seg").shape == (0, 27)
    with pytest.raises(CodeNotFoundError, match="all 1 of its trials failed"):
        bench.query(CODES[0], "seg")
    with pytest.raises(InfeasibleError, match="no tabulated code of 'seg' has mIoU"):
        bench.best("seg")
    assert len(bench.pareto("seg")) == 0


def test_a_table_without_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    # A space without a formula of costs, as one of a user's own may be.
    monkeypatch.delattr(nasbench201, "macs")
    cells = dataclasses.replace(tasks.get("nas-bench-201"), name="cells", cost="table")
    bench = small(cells, codes=nasbench201.sample(3, seed=0), Acc=[1.0, 2.0, 3.0])
    with pytest.warns(
        UserWarning, match="no one knows macs of the codes of 'cells': only metrics are compared"
    ):
        front = bench.pareto("cells")
    assert (front["cells"].tolist(), front["macs"].isna().all()) == ([3.0], True)
    assert bench.pareto("cells", cost=None)["cells"].tolist() == [3.0]
    with pytest.raises(InfeasibleError, match=r"at most 5 macs \(the table has none\)"):
        bench.best("cells", max_macs=5)
    with pytest.raises(
        InfeasibleError, match=r"no code of the table has at most.*GMACs of its .* codes: all unknown"
    ):
        Objective.table(bench, "cells", max_macs=5)
    found = Objective.table(bench, "cells")
    assert found.domain.size == 3
    assert np.isnan(found.domain.macs(found.domain.codes)).all()  # type: ignore[arg-type]
    # What is asked is counted in trainings, where no one knows a cost.
    found.evaluate(found.domain.codes)
    assert (found.spent, found.unit) == (3.0, "trainings")


# --- Mistakes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((CODES[0], "segg"), {}, UnknownTaskError, "no task 'segg': did you mean 'seg'?"),
        ((CODES[0], "kitti"), {}, UnknownTaskError, "no task 'kitti'"),
        ((CODES[0], None), {}, UnknownTaskError, "no task None"),
        ((CODES[0], ["seg"]), {}, UnknownTaskError, r"no task \['seg'\]"),
        ((CODES[0][:-1], "seg"), {}, OutOfSpaceError, "27 integers; got 26"),
        (((*CODES[0][:-1], 7), "seg"), {}, OutOfSpaceError, "o1"),
        ((tuple(map(str, CODES[0])), "seg"), {}, OutOfSpaceError, "i1"),
        (((300,) * 27, "seg"), {}, OutOfSpaceError, "i1"),
        (("mIoU", "seg"), {}, OutOfSpaceError, "not a code"),
        ((CODES[60], "video"), {}, CodeNotFoundError, "'video' has no result for .*: it is not in"),
        ((CODES[50], "video"), {"source": "table"}, CodeNotFoundError, "bench.codes.task. lists those"),
        ((CODES[50], "video"), {"source": "auto"}, CodeNotFoundError, "tiny@1.0.0 has no surrogate"),
        ((CODES[0], "seg"), {"source": "surrogate"}, SurrogateNotFoundError, "surrogate fit tiny"),
        ((CODES[0], "seg"), {"source": "tabel"}, InvalidArgumentError, "source is 'tabel'; expected one of"),
        ((tuple(CODES[0].tolist()), "seg"), {"source": "tabel"}, InvalidArgumentError, "source is 'tabel'"),
        ((CODES[0], "seg"), {"seed": 3}, CodeNotFoundError, "seed 3; it has seeds 0, 1, 2 .seed=None"),
        ((CODES[20], "seg"), {"seed": 1}, CodeNotFoundError, "seed 1; it has seeds 0 "),
        ((CODES[0], "seg"), {"seed": "1"}, InvalidArgumentError, "seed is '1'; expected an integer or None"),
        ((CODES[0], "seg"), {"seed": True}, InvalidArgumentError, "seed is True"),
        ((CODES[0], "seg"), {"seed": 1.0}, InvalidArgumentError, "seed is 1.0"),
        ((CODES[0], "seg"), {"epoch": 5}, CodeNotFoundError, "no epoch 5 of this code; it has epochs 1 to 4"),
        ((CODES[0], "seg"), {"epoch": 0}, CodeNotFoundError, "no epoch 0"),
        ((CODES[0], "seg"), {"epoch": "last"}, InvalidArgumentError, "epoch is 'last'"),
        ((CODES[0], "seg"), {"epoch": 1, "seed": 7}, CodeNotFoundError, "seed 7"),
        ((CODES[0], "video"), {"epoch": 1}, CodeNotFoundError, "task 'video' has no learning curves"),
        ((CODES[0], "seg"), {"source": "surrogate", "seed": 0}, InvalidArgumentError, "no seeds or epochs"),
    ],
)  # fmt: skip
def test_bad_questions(
    arguments: tuple[Any, Any],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    bench: Benchmark,
) -> None:
    with pytest.raises(error, match=message):
        bench.query(*arguments, **options)


def test_a_code_without_curves_says_so(tmp_path: Path) -> None:
    seg = tasks.get("seg")

    def fill_both(folder: Path) -> None:
        fill(seg, codes=CODES[:2], mIoU=[1.0, 2.0])(folder)
        table.write_curves(
            folder / "curves/seg.parquet", seg, {"codes": CODES[:1], "seed": [0], "epoch": [1], "mIoU": [1.0]}
        )

    bench = Benchmark(release.create(fill_both, "small", "1.0.0", [seg]))
    with pytest.raises(CodeNotFoundError, match="no epoch 1 of this code; it has no curve"):
        bench.query(CODES[1], "seg", epoch=1)


# --- Many codes ---------------------------------------------------------------------------------------


def test_query_many_is_query_on_every_row(bench: Benchmark) -> None:
    for task in bench.tasks:
        codes = bench.codes(task)
        shuffled = codes[np.random.default_rng(0).permutation(len(codes))]
        many = bench.query_many(shuffled, task)
        assert list(many) == [m.name for m in bench.task(task).metrics] + ["macs", "params", "source"]
        for k, code in enumerate(shuffled):
            result = bench.query(code, task)
            assert {name: column[k] for name, column in many.items()} == {
                **{name: result[name] for name in many if name != "source"},
                "source": result.source,
            }
        assert all(many[name].dtype == np.float64 for name in many if name != "source")


def test_query_many_with_codes_that_are_not_there(bench: Benchmark) -> None:
    codes = np.concatenate([CODES[38:42], CODES[:1], CODES[38:42]])
    answers = bench.query_many(codes, "video", metrics=("top1",), missing="nan")
    known = np.array([True, True, False, False, True, True, True, False, False])
    assert (np.isnan(answers["top1"]) == ~known).all()
    assert answers["source"].tolist() == ["table" if k else "" for k in known]
    assert answers["top1"][known].tolist() == [bench.query(c, "video")["top1"] for c in codes[known]]
    with pytest.raises(CodeNotFoundError, match=space.to_string(CODES[40])):
        bench.query_many(codes, "video")


def test_query_many_metrics(bench: Benchmark) -> None:
    answers = bench.query_many(CODES[:3], "seg", metrics=("train_seconds", "mIoU"))
    assert list(answers) == ["train_seconds", "mIoU", "source"]
    assert list(bench.query_many(CODES[:3], "seg", metrics="mIoU")) == ["mIoU", "source"]
    assert list(bench.query_many(CODES[:3], "seg", metrics=())) == ["source"]
    assert bench.query_many(CODES[0], "seg")["mIoU"].shape == (1,)
    assert bench.query_many([], "seg")["mIoU"].shape == (0,)
    strings = [space.to_string(c) for c in CODES[:3]]
    assert (bench.query_many(strings, "seg")["mIoU"] == answers["mIoU"]).all()
    frame = pd.DataFrame(CODES[:3], columns=space.NAMES)
    assert (bench.query_many(frame, "seg")["mIoU"] == answers["mIoU"]).all()


def test_query_many_over_several_chunks(bench: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.tile(CODES, (3, 1))
    whole = bench.query_many(codes, "seg", missing="nan")
    monkeypatch.setattr(benchmark, "_CHUNK", 7)
    for name, column in bench.query_many(codes, "seg", missing="nan").items():
        assert np.array_equal(column, whole[name], equal_nan=name != "source")


def test_what_query_many_gives_may_be_changed(bench: Benchmark) -> None:
    before = bench.query(CODES[0], "seg")["mIoU"]
    bench.query_many(CODES[:2], "seg")["mIoU"][:] = 0
    bench.codes("seg")[:] = 0
    curves = bench.curves("seg")
    curves["mIoU"] = 0.0
    assert bench.query(CODES[0], "seg")["mIoU"] == before
    assert bench.query(CODES[0], "seg", epoch=4)["mIoU"] == pytest.approx(before)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metrics": ("miou",)}, UnknownMetricError, "task 'seg' has no metric 'miou': did you mean 'mIoU'"),
        ({"metrics": ("seed",)}, UnknownMetricError, "no metric 'seed'"),
        ({"source": "all"}, InvalidArgumentError, "source is 'all'"),
        ({"missing": "skip"}, InvalidArgumentError, "missing is 'skip'; expected 'raise' or 'nan'"),
        ({"source": "surrogate"}, SurrogateNotFoundError, "no surrogate"),
    ],
)
def test_bad_batches(options: dict[str, Any], error: type[Exception], message: str, bench: Benchmark) -> None:
    with pytest.raises(error, match=message):
        bench.query_many(CODES[:2], "seg", **options)


def test_bad_codes_in_a_batch(bench: Benchmark) -> None:
    codes = CODES[:3].astype(float)
    codes[1, 4] = np.nan
    with pytest.raises(OutOfSpaceError, match=r"row 1: code\[4\] \(c1_1\) is nan"):
        bench.query_many(codes, "seg")


# --- best ---------------------------------------------------------------------------------------------


def test_best_against_sorting(bench: Benchmark) -> None:
    everything = [bench.query(c, "seg") for c in bench.codes("seg")]
    limit = float(np.median([r["macs"] for r in everything]))
    slim = float(np.quantile([r["params"] for r in everything], 0.3))
    for k, macs, params, metric in itertools.product(
        (1, 5, 100), (None, limit), (None, slim), (None, "aAcc")
    ):
        found = bench.best("seg", k, max_macs=macs, max_params=params, metric=metric)
        allowed = [
            r for r in everything if r["macs"] <= (macs or np.inf) and r["params"] <= (params or np.inf)
        ]
        expected = sorted(allowed, key=lambda r: -r[metric or "mIoU"])[:k]
        assert found == expected


def test_none_beats_the_best(bench: Benchmark) -> None:
    for task in bench.tasks:
        objective = bench.task(task).objective
        top = bench.best(task, k=1)[0][objective]
        assert bench.query_many(bench.codes(task), task)[objective].max() == top


def test_limits_are_inclusive(bench: Benchmark) -> None:
    least = min(cost.macs(bench.codes("seg")))
    (only,) = bench.best("seg", max_macs=least)
    assert only["macs"] == least
    with pytest.raises(InfeasibleError, match=rf"has mIoU, at most 1 macs \(the least is {least:,}\)"):
        bench.best("seg", max_macs=1)
    with pytest.raises(InfeasibleError, match="at most 1 params"):
        bench.best("seg", max_params=1)


@pytest.mark.parametrize("limit", [0, -1, "1G", math.nan, True, [1]])
def test_limits_are_numbers(bench: Benchmark, limit: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"max_macs is .*; expected a positive number"):
        bench.best("seg", max_macs=limit)  # type: ignore[arg-type]


def test_limits_mean_the_costs_of_the_code_whatever_a_table_says() -> None:
    """As in searches, and in whatever order tasks are given: 3ddet's own column does not count."""
    exact = cost.macs(CODES[:3])
    order = np.argsort(exact)
    columns: dict[str, Any] = {"codes": CODES[:3], "macs": exact[::-1] * 4, "params": [1, 2, 3]}
    bench = small(tasks.get("3ddet"), moderate=[1.0, 2.0, 3.0], **columns)
    limit = int(exact[order[0]])
    (only,) = bench.best("3ddet", max_macs=limit)
    assert only.code == tuple(CODES[order[0]])
    assert Objective.table(bench, "3ddet", max_macs=limit).domain.size == 1
    front = bench.pareto("3ddet")
    assert front["macs"].tolist() == [int(cost.macs([code])[0]) for code in front["code"]]


def test_best_refuses() -> None:
    bench = small(tasks.get("seg"), codes=CODES[:2], mIoU=[1.0, 2.0])
    with pytest.raises(InvalidArgumentError, match="k is 0; expected an integer, at least 1"):
        bench.best("seg", k=0)
    with pytest.raises(UnknownMetricError, match="no metric 'top1'"):
        bench.best("seg", metric="top1")
    # No MACs are known, so no code is known to meet the limit.
    with pytest.raises(InfeasibleError, match="at most 100 macs"):
        bench.best("seg", max_macs=100)


# --- pareto -------------------------------------------------------------------------------------------


def brute_front(losses: np.ndarray[Any, Any]) -> list[int]:
    def beats(a: Any, b: Any) -> bool:
        return bool((a <= b).all() and (a < b).any())

    good = [k for k, row in enumerate(losses) if not np.isnan(row).any()]
    return [k for k in good if not any(beats(losses[j], losses[k]) for j in good)]


@given(
    st.lists(st.tuples(*[st.integers(0, 4).map(float) | st.just(float("nan"))] * 3), max_size=25),
    st.integers(1, 3),
)
def test_non_dominated_against_brute_force(rows: list[tuple[float, ...]], m: int) -> None:
    losses = np.array(rows, float).reshape(-1, 3)[:, :m]
    assert analysis.non_dominated(losses).tolist() == brute_front(losses)


@pytest.mark.parametrize("cost_name", ["macs", "params", None])
@pytest.mark.parametrize("names", ["seg", ["video"], ("seg", "video"), ("hmdb51", "cityscapes")])
def test_pareto(names: Any, cost_name: str | None, bench: Benchmark) -> None:
    resolved = [bench.task(n).name for n in ([names] if isinstance(names, str) else names)]
    codes = CODES[: min(len(bench.codes(n)) for n in resolved)]
    columns = {n: bench.query_many(codes, n)[bench.task(n).objective] for n in resolved}
    losses = [-values for values in columns.values()]
    if cost_name:
        columns[cost_name] = bench.query_many(codes, resolved[0])[cost_name]
        losses.append(columns[cost_name])
    front = brute_front(np.stack(losses, axis=1))
    found = bench.pareto(names, cost_name)
    assert list(found.columns) == ["code", *columns]
    assert set(found["code"]) == {tuple(codes[k].tolist()) for k in front}
    by_code = {tuple(code): k for k, code in enumerate(codes.tolist())}
    for row in found.to_dict("records"):
        for name, values in columns.items():
            assert row[name] == values[by_code[row["code"]]]
    by = cost_name or resolved[0]
    assert found[by].is_monotonic_increasing
    assert found.index.tolist() == list(range(len(front)))


def test_pareto_refuses(bench: Benchmark) -> None:
    with pytest.raises(InvalidArgumentError, match="at least one task"):
        bench.pareto([])
    with pytest.raises(InvalidArgumentError, match="cost is 'flops'; expected 'macs', 'params', a measured"):
        bench.pareto("seg", cost="flops")
    with pytest.raises(UnknownTaskError):
        bench.pareto(("seg", "depth"))


# --- pandas, curves, correlation ----------------------------------------------------------------------


def test_to_pandas(bench: Benchmark) -> None:
    frame = bench.to_pandas("cityscapes")
    assert list(frame.columns) == table.schema(bench.task("seg")).names
    assert len(frame) == 81
    assert frame["status"].value_counts().to_dict() == {"ok": 80, "failed": 1}
    assert frame["error"].dropna().tolist() == ["out of memory"]


def test_curves(bench: Benchmark) -> None:
    curves = bench.curves("seg")
    assert len(curves) == 80 * 4
    last = curves[curves["epoch"] == 4]
    table_rows = bench.to_pandas("seg").query("status == 'ok'")
    keys = [*space.NAMES, "seed"]
    merged = last.merge(table_rows, on=keys, suffixes=("", "_table"))
    assert len(merged) == 80
    assert np.allclose(merged["mIoU"], merged["mIoU_table"])
    with pytest.raises(CodeNotFoundError, match=r"tiny@1.0.0: task 'video' has no learning curves"):
        bench.curves("video")


@pytest.mark.parametrize("method", ["kendall", "spearman", "pearson"])
def test_correlation(method: str, bench: Benchmark) -> None:
    found = bench.correlation(method)
    a = bench.query_many(CODES[:40], "seg")["mIoU"]
    b = bench.query_many(CODES[:40], "video")["top1"]
    reference = {
        "kendall": scipy.stats.kendalltau,
        "spearman": scipy.stats.spearmanr,
        "pearson": scipy.stats.pearsonr,
    }
    assert found.shape == (2, 2)
    assert list(found.index) == list(found.columns) == ["seg", "video"]
    assert (
        found.loc["seg", "video"]
        == found.loc["video", "seg"]
        == pytest.approx(reference[method](a, b).statistic)
    )
    assert found.loc["seg", "seg"] == 1
    if method != "kendall":
        assert found.loc["seg", "video"] == pytest.approx(pd.Series(a).corr(pd.Series(b), method=method))  # type: ignore[arg-type]
    assert list(bench.correlation(tasks=["hmdb51"]).index) == ["video"]


def test_noise(home: Path) -> None:
    """Three codes with two seeds, one with one: means 1, 4, 7 and deviations of 1 around each."""
    seg, video = tasks.get("seg"), tasks.get("video")

    def fill_all(folder: Path) -> None:
        values = [0.0, 2.0, 5.0, 3.0, 6.0, 8.0, 9.0]
        fill(seg, codes=CODES[[0, 0, 1, 1, 2, 2, 3]], seed=[0, 1, 0, 1, 0, 1, 0], mIoU=values)(folder)
        fill(video, codes=CODES[:3], top1=[1.0, 2.0, 3.0])(folder)

    found = Benchmark(release.create(fill_all, "noisy", "1.0.0", [seg, video])).noise()
    assert list(found.index) == ["seg"]
    row = found.loc["seg"]
    # The variance of each repeated code is ((-1)^2 + 1^2) / 1 = 2. The means 1, 4, 7, 9 have the variance
    # 12.25, of which seeds give 2 / 2 in three of them and 2 in the last: 1.25 in the mean.
    assert row["within"] == pytest.approx(2**0.5)
    assert row["between"] == pytest.approx((12.25 - 1.25) ** 0.5)
    assert row["ratio"] == pytest.approx((11 / 2) ** 0.5)
    # Seed 0 ranks the codes 0 < 5 < 6, seed 1 ranks them 2 < 3 < 8.
    assert row["rank"] == 1
    assert row[["codes", "repeated", "seeds", "min", "median", "max"]].tolist() == [4, 3, 2, 1, 5.5, 9]


@pytest.mark.parametrize("method", ["kendall", "spearman", "pearson"])
def test_correlation_is_of_what_is_known(method: str) -> None:
    x, y = np.array([1.0, 2.0, 4.0, np.nan, 3.0]), np.array([2.0, 1.0, 5.0, 9.0, np.nan])
    reference = {"kendall": 1 / 3, "spearman": 0.5, "pearson": np.corrcoef([1, 2, 4], [2, 1, 5])[0, 1]}
    assert analysis.correlation(x, y, method) == pytest.approx(reference[method])


def test_correlation_refuses(bench: Benchmark) -> None:
    with pytest.raises(InvalidArgumentError, match="method is 'tau'; expected kendall, spearman or pearson"):
        bench.correlation("tau")
    with pytest.raises(UnknownTaskError, match="no task 'depth'"):
        bench.correlation(tasks=("seg", "depth"))


small_floats = st.integers(-3, 3).map(float)


@given(st.lists(st.tuples(small_floats, small_floats), max_size=40))
def test_kendall_tau_against_scipy(pairs: list[tuple[float, float]]) -> None:
    x, y = (np.array([p[i] for p in pairs], float) for i in (0, 1))
    expected = scipy.stats.kendalltau(x, y).statistic if len(pairs) > 1 else float("nan")
    assert analysis.kendall_tau(x, y) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_kendall_tau_reads_a_series_by_position() -> None:
    """Its labels, here in another order, are not positions."""
    x, y = np.array([3.0, 1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0, 4.0])
    series: Any = pd.Series(x, index=[2, 0, 3, 1])
    assert analysis.kendall_tau(series, y) == analysis.kendall_tau(x, y)


def test_kendall_tau_of_many() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=5000)
    y = x + rng.normal(size=5000)
    assert analysis.kendall_tau(x, y) == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-12)
    assert analysis.kendall_tau(x, x) == pytest.approx(1)
    assert analysis.kendall_tau(x, -x) == pytest.approx(-1)


# --- Tasks of other spaces, and smaller is better -----------------------------------------------------


@pytest.fixture
def mixed() -> Benchmark:
    """seg; an error to minimise, over some of its codes; and cells of NAS-Bench-201."""
    from nasbench_mr import nasbench201

    seg, cells = tasks.get("seg"), tasks.get("nas-bench-201")
    loss = Task("loss", "L", "d", "classification", (Metric("nats", "nats", "min", 0, None),), "nats")

    def fill_all(folder: Path) -> None:
        fill(seg, codes=CODES[:6], mIoU=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], macs=cost.macs(CODES[:6]))(folder)
        fill(loss, codes=CODES[[5, 2, 1, 0]], nats=[0.5, 0.2, 0.4, 0.9])(folder)
        fill(cells, codes=nasbench201.sample(5, seed=0), Acc=[1.0, 2.0, 3.0, 4.0, 5.0])(folder)

    return Benchmark(release.create(fill_all, "mixed", "1.0.0", [seg, loss, cells]))


def test_smaller_is_better(mixed: Benchmark) -> None:
    assert [r["nats"] for r in mixed.best("loss", 3)] == [0.2, 0.4, 0.5]
    front = mixed.pareto(("seg", "loss"), cost=None)
    # Code 5 has the best mIoU, code 2 the least loss; 0 and 1 are beaten by 2.
    assert set(front["code"]) == {tuple(CODES[5].tolist()), tuple(CODES[2].tolist())}
    # Codes 5, 2, 1, 0: mIoU 6, 3, 2, 1 against -0.5, -0.2, -0.4, -0.9: 4 of 6 pairs agree.
    assert mixed.correlation(tasks=("seg", "loss")).loc["seg", "loss"] == pytest.approx((4 - 2) / 6)


def test_another_space(mixed: Benchmark) -> None:
    cell = mixed.codes("nas-bench-201")[2]
    assert mixed.query(cell, "nb201")["Acc"] == 3.0
    assert mixed.query_many(mixed.codes("nb201"), "nb201", metrics=("Acc",))["Acc"].tolist() == [
        1,
        2,
        3,
        4,
        5,
    ]
    with pytest.raises(OutOfSpaceError, match="27 integers"):
        mixed.query(cell, "seg")
    with pytest.raises(InvalidArgumentError, match="seg, nas-bench-201 are not of one search space"):
        mixed.pareto(("seg", "nas-bench-201"))
    # By default, the tasks of the first one's space.
    assert list(mixed.correlation().index) == ["seg", "loss"]


# --- Loading ------------------------------------------------------------------------------------------


def test_load_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"no release 'nasbench-mr': .*nasbench-mr fetch"):
        nasbench_mr.load("nasbench-mr")
    (tmp_path / "x.tar.gz").write_bytes(b"no tarball")
    with pytest.raises(ValueError, match="not a complete tarball"):
        nasbench_mr.load(tmp_path / "x.tar.gz")


def test_two_processes_worth_of_cache(tiny_release: Path, home: Path) -> None:
    """The second load answers from the cache alone, even where the table is gone."""
    folder = Path(shutil.copytree(tiny_release, home.parent / "copy"))
    first = nasbench_mr.load(folder).query(CODES[0], "seg")
    (folder / "tables/seg.parquet").unlink()
    assert nasbench_mr.load(folder).query(CODES[0], "seg") == first


def test_tasks_over_the_same_codes_share_one_index(tiny_release: Path) -> None:
    seg, more = tasks.get("seg"), tasks.get("seg-4x")

    def fill_both(folder: Path) -> None:
        for task in (seg, more):
            fill(task, codes=CODES, mIoU=np.arange(61.0))(folder)

    bench = Benchmark(release.create(fill_both, "small", "1.0.0", [seg, more]))
    bench.query(CODES[0], "seg")
    bench.query(CODES[0], "seg-4x")
    assert len(bench._indexes) == 1


def test_laws_on_real_tables(published_release: Path | None) -> None:
    """The published tables where they are at hand, else the embedded release."""
    bench = nasbench_mr.load(published_release or "mini")
    names = [t for t in bench.tasks if bench.task(t).space == space.NAME]
    for task in names:
        codes = bench.codes(task)
        many = bench.query_many(codes, task)
        objective = bench.task(task).objective
        assert bench.best(task, 1)[0][objective] == many[objective].max()
        for k in range(0, len(codes), 50):
            result = bench.query(tuple(codes[k].tolist()), task)
            assert result[objective] == many[objective][k]
            assert space.parse(space.to_string(codes[k])) == result.code
    tau = bench.correlation()
    a, b = (bench.query_many(bench.codes(names[0]), t)[bench.task(t).objective] for t in names[:2])
    assert tau.iloc[0, 1] == pytest.approx(scipy.stats.kendalltau(a, b).statistic)
