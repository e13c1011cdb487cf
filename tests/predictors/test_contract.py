"""What every registered predictor must do, in both search spaces: one suite, no line for a new predictor."""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import re
import sys
import tracemalloc
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasbench_mr import nasbench201, predictors, space
from nasbench_mr.errors import InvalidArgumentError, NotFittedError, OutOfSpaceError, UnknownNameError
from nasbench_mr.predictors import GradientPredictor, Predictor
from nasbench_mr.predictors.classical import Ridge
from nasbench_mr.predictors.ensemble import Ensemble
from nasbench_mr.spaces import Space

#: Small and quick; a predictor that is not here is tested as it comes.
QUICK: dict[str, dict[str, Any]] = {
    "ensemble": {"epochs": 5, "members": 3, "hidden": (16, 16)},
    "ncp-mlp": {"epochs": 5},
    "gbdt": {"rounds": 10},
    "forest": {"trees": 10},
    "gp": {"kernel_codes": 30},
}
SPACES: dict[str, Space] = {s.NAME: s for s in (space, nasbench201)}


@pytest.fixture(params=predictors.names())
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def make(kind: str, space: Space = space, seed: int = 0) -> Predictor:
    return predictors.make(kind, seed, space, **QUICK.get(kind, {}))


def data(space: Space = space, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Codes, and two columns that rise with all dimensions and with the first few."""
    codes = space.sample(n, 0)
    levels = codes / space.UPPER
    noise = np.random.default_rng(0).normal(0, 0.05, (n, 2))
    return codes, np.stack([50 + 10 * levels.mean(1), -levels[:, :3].sum(1)], 1) + noise


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_fitted_one_answers_for_every_code_and_column(kind: str, space: Space) -> None:
    codes, values = data(space)
    values[::7, 1] = np.nan
    values[3] = np.nan
    model = make(kind, space).fit(codes, values, ["a", "b"])
    assert model.names == ("a", "b")
    asked = space.sample(10, 1)
    mean, std = model.predict(asked)
    assert mean.shape == std.shape == (10, 2)
    assert mean.dtype == std.dtype == np.float64
    assert np.isfinite(mean).all()
    assert (std > 0).all()
    one, _ = model.predict(tuple(asked[4].tolist()))
    assert one == pytest.approx(mean[4:5])
    empty, _ = model.predict(np.empty((0, space.DIM), np.int16))
    assert empty.shape == (0, 2)


def test_it_learns_what_the_values_follow(kind: str) -> None:
    codes, values = data(n=200)
    mean, _ = predictors.make(kind).fit(codes[:150], values[:150]).predict(codes[150:])
    assert (np.corrcoef(mean.T, values[150:].T)[[0, 1], [2, 3]] > 0.5).all()


def test_the_seed_decides_and_no_global_generator_is_touched(kind: str) -> None:
    codes, values = data()
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    first = make(kind, seed=3).fit(codes, values).predict(codes)
    again = make(kind, seed=3).fit(codes, values).predict(codes)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    np.testing.assert_array_equal(first, again)
    assert before == after


def test_a_second_fit_forgets_the_first(kind: str) -> None:
    codes, values = data()
    model = make(kind).fit(codes[:30], values[:30], ["a", "b"])
    model.fit(codes[30:], -values[30:, :1])
    assert model.names == ("y0",)
    expected = make(kind).fit(codes[30:], -values[30:, :1]).predict(codes)
    np.testing.assert_array_equal(model.predict(codes), expected)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_saved_one_answers_to_the_last_bit_alike(kind: str, space: Space, tmp_path: Path) -> None:
    codes, values = data(space)
    model = make(kind, space, seed=5).fit(codes, values, ["a", "b"])
    model.save(tmp_path / "model.npz")
    loaded = predictors.load(tmp_path / "model.npz")
    assert (type(loaded), loaded.names, loaded.seed) == (type(model), ("a", "b"), 5)
    assert (loaded.space.NAME, loaded.options) == (space.NAME, model.options)
    np.testing.assert_array_equal(loaded.predict(codes), model.predict(codes))
    loaded.save(tmp_path / "again.npz")
    assert predictors.load(tmp_path / "again.npz").names == ("a", "b")


class Shifted(Ridge):
    """Another one's arrays, read in another way."""

    def _predict(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, std = super()._predict(codes)
        return mean - 10, std


def test_a_saved_one_of_ones_own_stays_of_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mine", types.ModuleType("mine"))
    monkeypatch.setattr(sys.modules["mine"], "Shifted", Shifted, raising=False)
    monkeypatch.setattr(Shifted, "__module__", "mine")
    codes, values = data()
    model = predictors.make(Shifted).fit(codes, values)
    assert (model.kind, predictors.make("ridge").kind) == ("mine.Shifted", "ridge")
    model.save(tmp_path / "model.npz")
    loaded = predictors.load(tmp_path / "model.npz")
    assert type(loaded) is Shifted
    np.testing.assert_array_equal(loaded.predict(codes), model.predict(codes))
    # A file must not have what it names imported.
    monkeypatch.delitem(sys.modules, "mine")
    with pytest.raises(InvalidArgumentError, match=r"is of 'mine\.Shifted': import mine first"):
        predictors.load(tmp_path / "model.npz")
    with pytest.raises(InvalidArgumentError, match="can't be imported"):
        model.save(tmp_path / "again.npz")


def test_options_are_noted_however_they_were_given(tmp_path: Path) -> None:
    codes, values = data(n=20)
    direct = Ensemble(np.int64(3), space, members=3, hidden=(np.int64(8), 8), epochs=2)
    assert (direct.seed, direct.options) == (3, {"members": 3, "hidden": (8, 8), "epochs": 2})
    direct.fit(codes, values).save(tmp_path / "model.npz")
    loaded = predictors.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.predict(codes), direct.predict(codes))


class Loose(Ridge):
    """Hands on whatever it gets, and has a label of its own."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.kind = "loose"  # type: ignore[misc]


def test_options_without_names_are_refused_when_saving_not_when_loading(tmp_path: Path) -> None:
    codes, values = data(n=20)
    with pytest.raises(
        InvalidArgumentError, match=r"given \(3,\) by position; to be saved, its options need names"
    ):
        Loose(3).fit(codes, values).save(tmp_path / "model.npz")
    named = Loose(seed=3).fit(codes, values)
    assert (named.options, named.kind, Ridge.kind) == ({}, "loose", "ridge")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": -5}, "rate is -5; expected a positive number"),
        ({"decay": -1.0}, "decay is -1.0; expected a finite number, at least 0"),
        ({"seed": -1}, "seed is -1; expected an integer, at least 0"),
        ({"members": 1}, "members is 1; expected an integer, at least 2"),
    ],
)
def test_bad_options_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        predictors.make("ensemble", **options)


def test_a_file_without_one_of_its_arrays_is_refused(kind: str, tmp_path: Path) -> None:
    codes, values = data(n=20)
    make(kind).fit(codes, values).save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as archive:
        arrays = dict(archive)
    for name in arrays:
        if name.endswith("num_batches_tracked"):
            continue  # Batch normalisation's own counter, which no answer depends on.
        np.savez(tmp_path / "less.npz", **{key: array for key, array in arrays.items() if key != name})
        with pytest.raises(InvalidArgumentError):
            predictors.load(tmp_path / "less.npz")


def test_a_file_whose_numbers_are_spoilt_is_refused(kind: str, tmp_path: Path) -> None:
    codes, values = data(n=20)
    make(kind).fit(codes, values).save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as archive:
        arrays = dict(archive)
    # NaN where a scale was, and arrays that are one row short.
    scale = next(name for name in arrays if name.endswith("x_scale"))
    largest = max(arrays, key=lambda name: arrays[name].size)
    for spoilt in ({scale: arrays[scale] * np.nan}, {largest: arrays[largest][:-1]}):
        np.savez(tmp_path / "bad.npz", **(arrays | spoilt))
        with pytest.raises(InvalidArgumentError, match="damaged"):
            predictors.load(tmp_path / "bad.npz")


def test_one_column_may_be_flat_and_constant_values_stay_what_they_are(kind: str) -> None:
    codes, values = data()
    mean, std = make(kind).fit(codes, values[:, 0]).predict(codes)
    assert mean.shape == std.shape == (60, 1)
    mean, std = make(kind).fit(codes, np.full(60, 7.0)).predict(codes)
    assert mean == pytest.approx(np.full((60, 1), 7.0), abs=0.5)
    assert np.isfinite(std).all()


def test_two_codes_are_enough(kind: str) -> None:
    codes, values = data()
    values[2:] = np.nan
    for n in (2, 3, 60):
        mean, std = make(kind).fit(codes[:n], values[:n]).predict(codes)
        assert np.isfinite(mean).all()
        assert np.isfinite(std).all()


def test_before_a_fit_there_is_nothing_to_ask_or_save(kind: str, tmp_path: Path) -> None:
    with pytest.raises(NotFittedError, match="fit"):
        make(kind).predict(space.sample(1))
    with pytest.raises(NotFittedError):
        make(kind).save(tmp_path / "model.npz")
    assert not (tmp_path / "model.npz").exists()


def test_data_that_does_not_fit_is_refused(kind: str) -> None:
    codes, values = data()
    model = make(kind)
    for wrong in (values[:-1], values[:, :0], values[None], values.astype(str).astype(object) + "x"):
        with pytest.raises(InvalidArgumentError, match="values"):
            model.fit(codes, wrong)
    infinite = values.copy()
    infinite[11, 1] = -np.inf
    with pytest.raises(InvalidArgumentError, match=r"values\[11\] is infinite"):
        model.fit(codes, infinite)
    unknown = values.copy()
    unknown[1:, 1] = np.nan
    with pytest.raises(InvalidArgumentError, match="column 'b' has 1 values; expected at least 2"):
        model.fit(codes, unknown, ["a", "b"])
    for names in (["a"], ["a", "a"]):
        with pytest.raises(InvalidArgumentError, match="names"):
            model.fit(codes, values, names)
    with pytest.raises(OutOfSpaceError):
        model.fit(codes[:, 1:], values)
    with pytest.raises(NotFittedError):
        model.predict(codes)


def test_unknown_options_are_named(kind: str) -> None:
    with pytest.raises(InvalidArgumentError, match="leaves_of_grass"):
        predictors.make(kind, leaves_of_grass=3)


@pytest.mark.parametrize("kind", [k for k in predictors.names() if isinstance(make(k), GradientPredictor)])
def test_gradients_belong_to_the_answers(kind: str) -> None:
    codes, values = data()
    model = make(kind).fit(codes, values)
    assert isinstance(model, GradientPredictor)
    mean, std = model.predict(codes)
    x = torch.tensor(space.relax(codes), requires_grad=True)
    answers = model.tensor(x)
    assert answers[0].dtype == torch.float64
    for answer, expected in zip(answers, (mean, std), strict=True):
        assert answer.detach().numpy() == pytest.approx(expected)
    (slope,) = torch.autograd.grad(answers[0][:, 0].sum(), x)
    # The derivative along a direction, against the difference quotient; the networks are single precision.
    direction = torch.tensor(space.STEP / 1.0)
    step = 0.05
    ahead, behind = (model.tensor(x.detach() + s * direction)[0][:, 0] for s in (step, -step))
    quotient = (ahead - behind) / (2 * step)
    assert (slope @ direction).numpy() == pytest.approx(quotient.numpy(), rel=0.02, abs=2e-3)


# --- Files and options that have nothing to do with the kind ------------------------------------------


def test_the_registry_has_the_default_first() -> None:
    assert predictors.names() == ("ensemble", "ncp-mlp", "gbdt", "forest", "gp", "ridge")
    assert predictors.make().kind == "ensemble"
    for wrong, meant in (
        ("florest", "forest"),
        ("proxy-snipp", "proxy-snip"),
        ("ensemble+proxy", "ensemble+proxies"),
    ):
        with pytest.raises(UnknownNameError, match=f"did you mean '{re.escape(meant)}'"):
            predictors.make(wrong)
    assert predictors.make("proxy-snip").kind == "proxy-snip"


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("ensemble", "members", 1),
        ("ensemble", "epochs", 0),
        ("ensemble", "hidden", (16, 0)),
        ("ensemble", "dropout", 1.0),
        ("ncp-mlp", "held_out", 1.0),
        ("ncp-mlp", "epochs", 2.5),
        ("gbdt", "rounds", 0),
        ("gbdt", "leaves", 1),
        ("gbdt", "rate", 1.5),
        ("forest", "trees", "many"),
        ("forest", "features", 0.0),
        ("forest", "leaf", 0),
        ("gp", "kernel_codes", 0),
        ("gp", "max_codes", True),
    ],
)
def test_options_out_of_bounds_are_named(kind: str, option: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=option):
        predictors.make(kind, **{option: value})


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("exploded").touch, ())


def test_files_that_are_no_predictors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    codes, values = data(n=20)
    make("ridge").fit(codes, values).save("model.npz")
    whole = Path("model.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    bombs = io.BytesIO()
    np.savez(bombs, header=np.array(_Bomb(), object))
    newer = io.BytesIO()
    header = {"format": "nasbench-mr predictor", "version": 99}
    np.savez(newer, header=np.frombuffer(json.dumps(header).encode(), np.uint8))
    for bad in (
        b"",
        b"not a zip",
        whole[:-100],
        bytes(flipped),
        empty.getvalue(),
        bombs.getvalue(),
        pickle.dumps(_Bomb()),
        newer.getvalue(),
    ):
        Path("bad.npz").write_bytes(bad)
        with pytest.raises(InvalidArgumentError, match=r"bad\.npz"):
            predictors.load("bad.npz")
    assert not Path("exploded").exists()
    with pytest.raises(InvalidArgumentError, match="no file"):
        predictors.load("nothing.npz")


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"0")
        # What the archive says of itself is what counts; 3 GiB of zeros need not be written.
        archive.filelist[0].file_size = 3 << 30
    with pytest.raises(InvalidArgumentError, match="refused"):
        predictors.load(tmp_path / "bomb.npz")


# --- Bounds -------------------------------------------------------------------------------------------


def test_no_mean_is_told_beyond_its_bounds_nor_is_any_ranking_flattened(kind: str, tmp_path: Path) -> None:
    codes, values = data()
    free = make(kind).fit(codes, values, ["a", "b"])
    mean, std = free.predict(codes)
    # Half of the first column's means are above its bound; the second has a lower one alone.
    bounds = ((None, float(np.median(mean[:, 0]))), (float(np.median(mean[:, 1])), None))
    model = make(kind).fit(codes, values, ["a", "b"], bounds=bounds)
    assert model.bounds == bounds
    assert model != free
    model.save(tmp_path / "model.npz")
    for kept in (model, copy.deepcopy(model), predictors.load(tmp_path / "model.npz")):
        told, doubt = kept.predict(codes)
        np.testing.assert_array_equal(told[:, 0], np.minimum(mean[:, 0], bounds[0][1]))
        np.testing.assert_array_equal(told[:, 1], np.maximum(mean[:, 1], bounds[1][0]))
        np.testing.assert_array_equal(doubt, std)
        np.testing.assert_array_equal(kept.predict(codes, bounded=False)[0], mean)
    if isinstance(model, GradientPredictor):
        x = torch.from_numpy(space.relax(codes))
        np.testing.assert_allclose(model.tensor(x)[0].detach().numpy(), mean, rtol=1e-4, atol=1e-4)
    assert model.fit(codes, values, ["a", "b"]) == free


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ([(0, 100)], r"expected 2 pairs, one for each column"),
        ([(0, 1, 2), (0, 1)], r"expected 2 pairs"),
        (7, r"expected 2 pairs"),
        ([(0, 100), (5, 5)], r"the bounds of a column are 5 and 5; expected \(least, largest\)"),
        ([(0, float("nan")), (0, 1)], r"a bound is nan; expected a finite number"),
    ],
)
def test_bounds_that_are_none_are_refused_before_the_fit(bounds: Any, message: str) -> None:
    codes, values = data(n=20)
    with pytest.raises(InvalidArgumentError, match=message):
        Ridge().fit(codes, values, bounds=bounds)


# --- Copies, seeds, memory ----------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_copies_are_equal_and_answer_alike(kind: str, space: Space) -> None:
    codes, values = data(space)
    model = make(kind, space)
    assert copy.deepcopy(model) == model
    model.fit(codes, values, ["a", "b"])
    for kept in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert kept == model
        np.testing.assert_array_equal(kept.predict(codes), model.predict(codes))
        assert kept.fit(codes, -values) != model


def test_seeds_reach_to_2_to_the_63(kind: str) -> None:
    codes, values = data(n=20)
    model = make(kind, seed=2**63 - 1).fit(codes, values)
    assert np.isfinite(model.predict(codes)).all()
    with pytest.raises(InvalidArgumentError, match=r"expected an integer from 0 to 2\^63 - 1"):
        make(kind, seed=2**63)


def test_memory_does_not_grow_with_the_codes_but_for_the_answers(kind: str) -> None:
    """40,000 codes take hardly more than 4,000: what a code needs on the way is given back."""
    codes, values = data(n=200)
    model = predictors.make(kind, **({"rounds": 40} if kind == "gbdt" else QUICK.get(kind, {})))
    model.fit(codes, values)
    peaks = []
    for n in (4000, 40000):
        asked = np.tile(codes, (n // 200, 1))
        tracemalloc.start()
        model.predict(asked)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Features alone would be 36,000 x 66 x 8 = 19 MB; checked codes and answers are 36,000 x 86 bytes = 3 MB.
    assert peaks[1] - peaks[0] < 12e6
