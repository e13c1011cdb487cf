"""Splits, scores, and the table and plot of an evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

import nasbench_mr
from nasbench_mr import nasbench201, plot, predictors, space, spaces
from nasbench_mr.arrays import Codes, Floats
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.data_builders.published import import_table
from nasbench_mr.errors import InvalidArgumentError, TableError, UnknownNameError, UnknownTaskError
from nasbench_mr.predictors import base, evaluation, plots
from nasbench_mr.predictors.base import State


@pytest.fixture
def bench(tiny_release: Path) -> Benchmark:
    return nasbench_mr.load(tiny_release)


# --- Splits -------------------------------------------------------------------------------------------


def test_the_order_is_that_of_hashes_of_seed_and_code() -> None:
    codes = space.sample(5, 0)
    digests = [
        hashlib.sha256(("7:" + ",".join(map(str, code))).encode()).hexdigest() for code in codes.tolist()
    ]
    assert evaluation.order(codes, 7).tolist() == np.argsort(digests).tolist()
    # Other codes and other places change nothing.
    assert evaluation.order(codes[::-1], 7).tolist() == (4 - np.argsort(digests)).tolist()


@pytest.mark.parametrize("chosen", [space, nasbench201], ids=lambda s: str(s.NAME))
def test_a_split_parts_the_codes_four_to_one(chosen: spaces.Space) -> None:
    codes = np.unique(chosen.sample(103, 0), axis=0)
    seen = []
    for seed in range(3):
        split = evaluation.make_split(codes, seed, space=chosen)
        assert len(split.train) == len(codes) * 4 // 5
        assert sorted([*split.train, *split.test]) == list(range(len(codes)))
        seen.append(split.test.tolist())
    assert seen[0] != seen[1] != seen[2]


def test_the_published_split_file_holds_what_the_rule_gives(published_release: Path | None) -> None:
    found = pq.read_table(evaluation.published_splits() / "nasbench-mr.parquet")
    codes = np.stack([found[name].to_numpy() for name in space.NAMES], axis=1)
    assert len(codes) == 2507
    assert found.equals(evaluation.ranks(codes, space))
    # Fixed for good: a change of the rule would make all published scores incomparable.
    tests = [np.flatnonzero(found[f"split{seed}"].to_numpy() >= 2005) for seed in range(5)]
    assert [len(rows) for rows in tests] == [502] * 5
    digest = hashlib.sha256(np.concatenate(tests).astype("<i4").tobytes()).hexdigest()
    assert digest == "7eea411e7d7a18dc760930589f964945277d06831e8e0dd35c934ded7c55a287"
    for seed, rows in enumerate(tests):
        assert sorted(evaluation.make_split(codes, seed).test) == rows.tolist()
    if published_release is not None:
        np.testing.assert_array_equal(nasbench_mr.load(published_release).codes("seg"), codes)


def test_fine_to_coarse_trains_on_small_networks_and_tests_on_large_ones() -> None:
    small, large = (space.sample(20, 0, scheme=name) for name in ("fine", "coarse"))
    smallest_of_both = np.where(np.isin(np.arange(27), space.DEPTH_DIMS), 1, 16).astype(np.int16)
    codes = np.concatenate([large, small, smallest_of_both[None]])
    split = evaluation.make_split(codes, 0, "fine-to-coarse")
    assert sorted(split.train) == list(range(20, 40))
    assert sorted(split.test) == list(range(20))
    for wrong in (small, large):
        with pytest.raises(InvalidArgumentError, match="strata"):
            evaluation.make_split(wrong, 0, "fine-to-coarse")
    with pytest.raises(InvalidArgumentError, match="no strata"):
        evaluation.make_split(nasbench201.sample(9), 0, "fine-to-coarse", nasbench201)
    with pytest.raises(InvalidArgumentError, match="did you mean 'best'"):
        evaluation.make_split(codes, 0, "bets")


# --- Scores -------------------------------------------------------------------------------------------


def test_scores_worked_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    mean = np.array([1.5, 3.0, 2.0, 4.0])
    found = evaluation.scores(values, mean, np.array([1.0, 1.0, 1.0, 2.0]))
    assert tuple(found) == evaluation.SCORES
    # Five of six pairs agree; squared errors 0.25, 1, 1, 0; squared deviations from the mean sum to 5.
    assert found["kendall"] == pytest.approx(4 / 6)
    assert found["spearman"] == pytest.approx(0.8)
    assert found["r2"] == pytest.approx(1 - 2.25 / 5)
    assert (found["mae"], found["rmse"]) == pytest.approx((2.5 / 4, 0.75))
    assert (found["precision1"], found["precision5"]) == (1, 1)
    # Half of a normal distribution lies within 0.674 standard deviations, nine tenths within 1.645.
    assert (found["coverage50"], found["coverage90"]) == (0.5, 1)
    # Where small values are good, the best is the first, and it is predicted best.
    assert evaluation.scores(values, mean, mean, sign=-1)["precision1"] == 1
    assert evaluation.scores(values, -mean, mean, sign=-1)["precision1"] == 0


def test_scores_agree_with_scipy_and_count_the_best() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=400).round(1)  # with ties
    mean = (values + rng.normal(size=400)).round(1)
    found = evaluation.scores(values, mean, np.ones(400))
    assert found["kendall"] == pytest.approx(stats.kendalltau(values, mean).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(values, mean).statistic)
    assert found["coverage50"] == pytest.approx(0.5, abs=0.08)
    assert found["coverage90"] == pytest.approx(0.9, abs=0.05)
    # 1% of 400 are 4; values that equal the fourth best count among the best.
    chosen = np.argsort(-mean, kind="stable")[:4]
    assert found["precision1"] == (values[chosen] >= np.sort(values)[-4]).mean()
    assert (
        found["precision5"] == (values[np.argsort(-mean, kind="stable")[:20]] >= np.sort(values)[-20]).mean()
    )


def test_scores_of_constants_are_undefined_and_not_perfect() -> None:
    rising = np.arange(5.0)
    for values, mean in ((rising, np.ones(5)), (np.ones(5), rising)):
        found = evaluation.scores(values, mean, np.ones(5))
        assert np.isnan([found["kendall"], found["spearman"]]).all()
    assert np.isnan(found["r2"])


# --- evaluate -----------------------------------------------------------------------------------------


def test_tables_of_several_tasks_become_one(bench: Benchmark) -> None:
    data = evaluation.gather(bench)
    assert data.names == ("seg/mIoU", "seg/mAcc", "seg/aAcc", "video/top1", "video/top5")
    np.testing.assert_array_equal(data.codes, bench.codes("seg"))
    assert data.objectives() == [0, 3]
    # Means over the seeds; video has the first 40 codes only.
    expected = bench.query_many(data.codes, "seg", ("mIoU",))["mIoU"]
    np.testing.assert_array_equal(data.values[:, 0], expected)
    assert np.isfinite(data.values[:40]).all()
    assert np.isnan(data.values[40:, 3:]).all()
    assert [task.name for task in evaluation.gather(bench, "video").tasks] == ["video"]
    for wrong in ([], ["seg", "seg"]):
        with pytest.raises(InvalidArgumentError, match="tasks are"):
            evaluation.gather(bench, wrong)


def test_an_evaluation_is_what_fitting_and_scoring_by_hand_gives(bench: Benchmark) -> None:
    frame = predictors.evaluate(["ridge", "gp"], bench, train=[20, 30], seeds=2)
    assert tuple(frame.columns) == evaluation.COLUMNS
    assert len(frame) == 2 * 2 * 2 * 2
    assert set(frame["release"]) == {"tiny@1.0.0"}
    own = frame[(frame["predictor"] == "gp") & (frame["train"] == 30) & (frame["seed"] == 1)].set_index(
        "task"
    )
    data = evaluation.gather(bench)
    split = evaluation.make_split(data.codes, 1)
    values = data.values[:, [0, 3]]
    model = predictors.make("gp", seed=1).fit(data.codes[split.train[:30]], values[split.train[:30]])
    mean, std = model.predict(data.codes[split.test])
    for k, task in enumerate(("seg", "video")):
        truth = values[split.test, k]
        known = np.isfinite(truth)
        assert own.loc[task, "test"] == known.sum()
        expected = evaluation.scores(truth[known], mean[known, k], std[known, k])
        assert own.loc[task, list(expected)].tolist() == pytest.approx(list(expected.values()), nan_ok=True)
    again = predictors.evaluate("gp", bench, train=30, seeds=[1])
    assert again["kendall"].tolist() == own["kendall"].tolist()
    assert predictors.evaluate("ridge", bench, "video", seeds=1)["train"].tolist() == [32]


class _Recorder(base.Predictor):
    """Notes what it is fitted on."""

    kind = "recorder"

    def _fit(self, codes: Codes, values: Floats) -> None:
        self.codes, self.values = codes, values

    def _predict(self, codes: Codes) -> tuple[Floats, Floats]:
        return np.zeros((len(codes), len(self.names))), np.ones((len(codes), len(self.names)))

    def _state(self) -> State:
        return {}

    def _restore(self, state: State) -> None: ...


def test_a_predictor_of_ones_own(bench: Benchmark) -> None:
    found = evaluation.evaluate((_Recorder, "ridge"), bench, "seg", train=20, seeds=1)
    assert found["predictor"].tolist() == ["_Recorder", "ridge"]
    with pytest.raises(InvalidArgumentError, match="subclass of Predictor"):
        evaluation.evaluate("collections.OrderedDict", bench, "seg", train=20, seeds=1)
    with pytest.raises(UnknownNameError, match=r"can't import 'nowhere\.Model'"):
        evaluation.evaluate("nowhere.Model", bench, "seg", train=20, seeds=1)


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[_Recorder]:
    made: list[_Recorder] = []

    def make(kind: str, seed: int = 0, space: spaces.Space = space) -> base.Predictor:
        made.append(_Recorder(seed, space))
        return made[-1]

    monkeypatch.setattr(evaluation.base, "make", make)
    return made


def rows_of(codes: Codes, among: Codes) -> list[int]:
    positions = {tuple(code): k for k, code in enumerate(among.tolist())}
    return [positions[tuple(code)] for code in codes.tolist()]


def test_smaller_training_sets_are_part_of_larger_ones(bench: Benchmark, fitted: Sequence[_Recorder]) -> None:
    evaluation.evaluate("recorder", bench, train=[10, 40], seeds=1)
    few, many = fitted[-2:]
    np.testing.assert_array_equal(many.codes[:10], few.codes)
    assert few.names == evaluation.gather(bench).names


def test_the_best_are_in_no_training_set(bench: Benchmark, fitted: Sequence[_Recorder]) -> None:
    evaluation.evaluate("recorder", bench, split="best", seeds=3)
    data = evaluation.gather(bench)
    for model in fitted[-3:]:
        rows = rows_of(model.codes, data.codes)
        assert len(rows) == 48
        for columns, objective, best in (([0, 1, 2], 0, 3), ([3, 4], 3, 2)):
            # 5% of 60 codes, and of 40.
            top = np.argsort(-np.nan_to_num(data.values[:, objective]))[:best]
            expected = data.values[np.ix_(rows, columns)]
            expected[np.isin(rows, top)] = np.nan
            np.testing.assert_array_equal(model.values[:, columns], expected)


def test_a_side_metric_that_the_training_codes_lack_is_left_out(
    bench: Benchmark, fitted: Sequence[_Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = evaluation.gather(bench)
    data.values[:, 1] = np.nan
    monkeypatch.setattr(evaluation, "gather", lambda *_: data)
    evaluation.evaluate("recorder", bench, seeds=1)
    assert fitted[-1].names == ("seg/mIoU", "seg/aAcc", "video/top1", "video/top5")


def test_mistakes_are_named_before_the_work(bench: Benchmark) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'ridge'"):
        predictors.evaluate("rigde", bench)
    with pytest.raises(UnknownTaskError, match="'seg'"):
        predictors.evaluate("ridge", bench, "sge")
    for size in (1, 49):
        with pytest.raises(InvalidArgumentError, match=f"train is {size}; expected 2 to 48 codes"):
            predictors.evaluate("ridge", bench, train=size)
    with pytest.raises(InvalidArgumentError, match="seeds is 0"):
        predictors.evaluate("ridge", bench, seeds=0)
    with pytest.raises(InvalidArgumentError, match="rounds"):
        predictors.evaluate(["gbdt", "ridge"], bench, options={"rounds": 5})
    with pytest.raises(InvalidArgumentError, match="strata"):
        predictors.evaluate("ridge", bench, split="fine-to-coarse")


# --- Its table and plot -------------------------------------------------------------------------------


def test_an_evaluation_is_kept_and_drawn(bench: Benchmark, tmp_path: Path) -> None:
    frame = predictors.evaluate(["ridge", "gp"], bench, train=[20, 40], seeds=2)
    evaluation.write(frame, tmp_path / "scores.parquet")
    kept = evaluation.read(tmp_path / "scores.parquet")
    assert kept.equals(frame)
    drawn = plots.evaluation(kept, "rmse")
    panels = {panel.get_title(): panel for panel in drawn.axes if panel.get_title()}
    assert list(panels) == ["seg", "video"]
    lines = {line.get_label(): line for line in panels["video"].get_lines()}
    assert list(lines) == ["ridge", "gp"]
    own = frame[(frame["task"] == "video") & (frame["predictor"] == "gp")]
    means = [own.loc[own["train"] == size, "rmse"].mean() for size in (20, 40)]
    assert lines["gp"].get_xdata().tolist() == [20, 40]
    assert lines["gp"].get_ydata() == pytest.approx(means)
    assert plot.save(drawn, tmp_path / "scores.png").stat().st_size > 1000
    with pytest.raises(UnknownNameError, match="did you mean 'rmse'"):
        plots.evaluation(kept, "rsme")
    with pytest.raises(InvalidArgumentError, match="no rows"):
        plots.evaluation(kept[:0])


def test_files_that_are_no_evaluations_are_refused(tiny_release: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="no column 'release'"):
        evaluation.read(tiny_release / "tables/seg.parquet")
    with pytest.raises(InvalidArgumentError, match="predict-eval --out"):
        evaluation.read(tmp_path / "nothing.parquet")
    (tmp_path / "bad.parquet").write_text("x")
    with pytest.raises(TableError):
        evaluation.read(tmp_path / "bad.parquet")


def test_a_table_of_two_codes_offers_no_split(tmp_path: Path) -> None:
    codes = space.sample(2, seed=0)
    lines = [f"{space.to_string(code)},{value}" for code, value in zip(codes, (50, 60), strict=True)]
    (tmp_path / "own.csv").write_text("\n".join(["code,accuracy", *lines]))
    import_table(tmp_path / "own.csv", "own")
    with pytest.raises(InvalidArgumentError, match="codes of own to train on: 1, of 2; expected at least 2"):
        evaluation.evaluate("ridge", nasbench_mr.load(), "own")
