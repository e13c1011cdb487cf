"""Surrogates: from tables to a release that answers for every code, without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import cost, nasbench201, predictors, release, space, tasks
from nasbench_mr.arrays import Codes
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.errors import InvalidArgumentError, SurrogateNotFoundError, UnknownTaskError
from nasbench_mr.predictors import evaluation
from nasbench_mr.predictors.ensemble import Ensemble
from nasbench_mr.predictors.surrogates import fit_surrogates, reduce
from nasbench_mr.spaces import Space
from nasbench_mr.surrogate import Surrogate, load_surrogate

QUICK: dict[str, Any] = {"epochs": 5, "members": 3, "hidden": [16, 8]}


def ensemble(
    codes: Codes, values: object, names: Sequence[str], space: Space = space, **options: Any
) -> Ensemble:
    return Ensemble(0, space, **(QUICK | options)).fit(codes, values, names)


@pytest.fixture
def bench(tiny_release: Path) -> Benchmark:
    return nasbench_mr.load(tiny_release)


@pytest.fixture
def fitted(bench: Benchmark) -> Benchmark:
    """Return the release with surrogates."""
    return nasbench_mr.load(fit_surrogates(bench, **QUICK).path)


def untabulated(bench: Benchmark) -> tuple[int, ...]:
    code = tuple(space.sample(1, 99)[0].tolist())
    assert code not in set(map(tuple, bench.codes("seg").tolist()))
    return code


# --- In a release -------------------------------------------------------------------------------------


def test_fitting_makes_a_new_version_and_leaves_the_old_one(bench: Benchmark, fitted: Benchmark) -> None:
    assert str(fitted.release) == "tiny@1.0.1-local.1"
    assert set(fitted.release.files) - set(bench.release.files) == {
        "surrogates/seg.npz",
        "surrogates/video.npz",
    }
    assert "surrogates" not in release.Release.open(bench.release.path).about
    release.verify(fitted.release)
    entry = fitted.release.about["surrogates"]["video"]
    assert (entry["predictor"], entry["options"], entry["seed"]) == ("ensemble", QUICK, 0)
    assert entry["fitted_with"] == ["seg", "video"]
    frame = predictors.evaluate("ensemble", bench, seeds=3, options=QUICK)
    expected = frame[frame["task"] == "video"]["kendall"].mean()
    assert entry["held_out"]["kendall"] == pytest.approx(expected, abs=1e-4)
    assert (entry["held_out"]["metric"], entry["held_out"]["splits"]) == ("top1", 3)


def test_a_code_that_no_one_trained_is_answered(bench: Benchmark, fitted: Benchmark) -> None:
    code = untabulated(bench)
    result = fitted.query(code, "seg")
    assert (result.source, result.seeds, result.code) == ("surrogate", (), code)
    assert list(result) == ["mIoU", "mAcc", "aAcc", "macs", "params"]
    assert (result["macs"], result["params"]) == (cost.macs(code)[0], cost.params(code)[0])
    assert 0 < result.std["mIoU"] < 100
    steps = np.abs(bench.codes("seg") - np.array(code)) / space.STEP
    assert result.distance == steps.sum(axis=1).min() > 0
    assert fitted.query(code, "seg") == result
    # It is the ensemble, fitted on the whole of both tables.
    data = evaluation.gather(bench)
    mean, std = ensemble(data.codes, data.values, data.names).predict(code)
    assert [result[m] for m in ("mIoU", "mAcc", "aAcc")] == pytest.approx(mean[0, :3], rel=1e-5)
    assert list(result.std.values()) == pytest.approx(std[0, :3], rel=1e-4)
    assert fitted.query(code, "video")["top5"] == pytest.approx(mean[0, 4], rel=1e-5)


def test_the_table_answers_first_and_the_surrogate_on_request(bench: Benchmark, fitted: Benchmark) -> None:
    code = tuple(bench.codes("seg")[7].tolist())
    assert dict(fitted.query(code, "seg")) == dict(bench.query(code, "seg"))
    guess = fitted.query(code, "seg", source="surrogate")
    assert (guess.source, guess.distance) == ("surrogate", 0.0)
    both = fitted.query_many([code, untabulated(bench)], "seg")
    assert both["source"].tolist() == ["table", "surrogate"]
    assert both["mIoU"].tolist() == [
        bench.query(code, "seg")["mIoU"],
        fitted.query(untabulated(bench), "seg")["mIoU"],
    ]
    with pytest.raises(InvalidArgumentError, match="no seeds"):
        fitted.query(code, "seg", source="surrogate", seed=0)


def test_without_a_surrogate_the_error_tells_the_command(bench: Benchmark) -> None:
    with pytest.raises(SurrogateNotFoundError, match="nasbench-mr surrogate fit tiny"):
        bench.query(untabulated(bench), "seg", source="surrogate")


def test_it_travels_with_the_release(
    fitted: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = untabulated(fitted)
    expected = fitted.query(code, "video")
    tarball = release.pack(fitted.release, tmp_path)
    monkeypatch.setenv("NASBENCH_MR_HOME", str(tmp_path / "elsewhere"))
    release.install(tarball)
    assert nasbench_mr.load("tiny").query(code, "video") == expected


def test_asking_loads_no_torch(fitted: Benchmark) -> None:
    script = (
        "import sys, nasbench_mr\n"
        f"result = nasbench_mr.load({str(fitted.release.path)!r}).query({untabulated(fitted)}, 'seg')\n"
        "print(result.source, {'torch', 'lightgbm', 'sklearn', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "surrogate set()"


def test_some_tasks_are_fitted_again_and_the_others_kept(fitted: Benchmark) -> None:
    more = fit_surrogates(fitted, ["video"], seed=1, **QUICK)
    assert str(more) == "tiny@1.0.1-local.2"
    about = more.about["surrogates"]
    assert about["seg"] == fitted.release.about["surrogates"]["seg"]
    assert (about["video"]["fitted_with"], about["video"]["seed"]) == (["video"], 1)
    kept, changed = (f"surrogates/{task}.npz" for task in ("seg", "video"))
    assert more.files[kept] == fitted.release.files[kept]
    assert more.files[changed] != fitted.release.files[changed]


def test_the_same_fit_gives_the_same_bytes(bench: Benchmark, fitted: Benchmark) -> None:
    again = fit_surrogates(bench, **QUICK)
    for task in ("seg", "video"):
        assert again.files[f"surrogates/{task}.npz"] == fitted.release.files[f"surrogates/{task}.npz"]


def test_what_can_not_be_fitted_is_refused(bench: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownTaskError):
        fit_surrogates(bench, ["sage"])
    with pytest.raises(InvalidArgumentError, match="layers"):
        fit_surrogates(bench, layers=3)
    monkeypatch.setattr(Benchmark, "codes", lambda self, task: space.sample(19))
    with pytest.raises(InvalidArgumentError, match="'seg' has 19 codes; a surrogate needs at least 20"):
        fit_surrogates(bench)
    counts = {"seg": 19, "video": 20}
    monkeypatch.setattr(Benchmark, "codes", lambda self, task: space.sample(counts[task]))
    with pytest.raises(InvalidArgumentError, match=r"at least 20: leave it out \(--tasks video\)"):
        fit_surrogates(bench)
    assert release.installed() == []


# --- By itself ----------------------------------------------------------------------------------------


@pytest.fixture
def surrogate() -> Surrogate:
    """Of `seg`, fitted on the MACs of small networks."""
    codes = space.sample(200, 0, scheme="fine")
    values = 20 * np.log10(cost.macs(codes))[:, None] - [100, 95]
    model = Ensemble(seed=0).fit(codes, values, ["seg/mIoU", "seg/mAcc"])
    return reduce(model, tasks.get("seg"), codes)


def test_a_codes_answer_is_the_same_to_the_last_bit_in_any_company(surrogate: Surrogate) -> None:
    codes = space.sample(101, 1)
    mean, std = surrogate.predict(codes)
    assert mean.shape == std.shape == (101, 2)
    for k in (0, 1, 7, 8, 50, 100):
        one = surrogate.predict(tuple(codes[k].tolist()))
        np.testing.assert_array_equal(one, (mean[k : k + 1], std[k : k + 1]))
    np.testing.assert_array_equal(surrogate.predict(codes[5:64]), (mean[5:64], std[5:64]))
    np.testing.assert_array_equal(surrogate.predict(codes[::-1]), (mean[::-1], std[::-1]))
    assert surrogate.predict(codes[:0])[0].shape == (0, 2)


def test_it_doubts_more_the_farther_the_code(surrogate: Surrogate) -> None:
    near, far = space.sample(100, 1, scheme="fine"), space.sample(100, 2)
    assert surrogate.distance(far).mean() > 2 * surrogate.distance(near).mean()
    doubt, more = (surrogate.predict(codes)[1].mean(axis=0) for codes in (near, far))
    assert (more > 2 * doubt).all()


def test_means_stay_within_the_metrics_bounds() -> None:
    codes = space.sample(40, 0)
    model = ensemble(codes, np.full((40, 2), [120.0, 50.0]), ["seg/mIoU", "seg/mAcc"])
    mean, std = reduce(model, tasks.get("seg"), codes).predict(codes)
    assert (mean[:, 0] == 100).all()
    assert mean[:, 1] == pytest.approx(50, abs=2)
    assert np.isfinite(std).all()


def test_distance_counts_steps_and_in_cells_other_edges() -> None:
    codes = space.sample(30, 0)
    model = ensemble(codes, np.arange(30.0), ["seg/mIoU"])
    found = reduce(model, tasks.get("seg"), space.LOWER[None])
    moved = space.LOWER.copy()
    moved[0] += 24  # i1, three steps of 8
    moved[2] += 2  # b1, two steps of 1
    assert found.distance([space.LOWER.tolist(), moved.tolist()]).tolist() == [0, 5]
    cells = nasbench201.sample(30, 0)
    model = ensemble(cells, np.arange(30.0), ["nas-bench-201/Acc"], nasbench201)
    found = reduce(model, tasks.get("nas-bench-201"), np.array([[0, 1, 2, 3, 4, 0], [1] * 6]))
    assert found.distance([[0, 1, 2, 3, 4, 0], [4, 1, 2, 3, 0, 0], [1, 1, 1, 1, 1, 2]]).tolist() == [0, 2, 1]
    assert found.predict(cells)[0].shape == (30, 1)


def test_a_saved_one_answers_alike_and_a_damaged_one_is_refused(surrogate: Surrogate, tmp_path: Path) -> None:
    path = tmp_path / "seg.npz"
    surrogate.save(path)
    loaded = load_surrogate(path)
    codes = space.sample(20, 1)
    assert (loaded.names, loaded.space.NAME) == (("mIoU", "mAcc"), "nasbench-mr")
    np.testing.assert_array_equal(loaded.predict(codes), surrogate.predict(codes))
    np.testing.assert_array_equal(loaded.distance(codes), surrogate.distance(codes))
    with np.load(path) as archive:
        arrays = dict(archive)
    for name, array in arrays.items():
        changes: list[dict[str, np.ndarray]] = [{key: a for key, a in arrays.items() if key != name}]
        if name not in ("header", "spread", "codes"):
            changes.append(arrays | {name: array[:-1]})
        if array.dtype.kind == "f" and name != "bounds":
            changes.append(arrays | {name: array * np.nan})
        for changed in changes:
            np.savez(tmp_path / "bad.npz", **changed)
            with pytest.raises(InvalidArgumentError, match=r"bad\.npz"):
                load_surrogate(tmp_path / "bad.npz").distance(codes)
    np.savez(tmp_path / "bad.npz", **(arrays | {"codes": arrays["codes"] + 1}))
    with pytest.raises(InvalidArgumentError, match="damaged"):
        load_surrogate(tmp_path / "bad.npz")
    predictors.make("ridge").fit(codes, np.arange(20.0)).save(tmp_path / "model.npz")
    with pytest.raises(InvalidArgumentError, match="nasbench-mr predictor"):
        load_surrogate(tmp_path / "model.npz")


def test_several_processes_fit_what_one_does(bench: Benchmark, tmp_path: Path) -> None:
    one, two = (
        fit_surrogates(bench, ["seg"], workers=workers, target=tmp_path / str(workers), **QUICK)
        for workers in (0, 2)
    )
    assert one.about["surrogates"] == two.about["surrogates"]
    codes = space.sample(20, seed=9)
    answers = [load_surrogate(r.path / "surrogates" / "seg.npz").predict(codes) for r in (one, two)]
    np.testing.assert_array_equal(*answers)
