import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_trainers
import numpy as np
import pandas as pd
import pytest

import nasbench_mr
from nasbench_mr import cost, data_builders, search, space, table, tasks
from nasbench_mr.data_builders.building import runner
from nasbench_mr.data_builders.building.trial import Trial
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.errors import (
    DatasetError,
    InfeasibleError,
    InvalidArgumentError,
    StorageError,
    UnknownMetricError,
)
from nasbench_mr.objective import Objective

RECIPE = recipes.override(recipes.get("mini-cls"), {"epochs": 4})
CODES = runner.draw_codes(4)


def make(out: Path, trainer: str = "noting", recipe: object = RECIPE, **options: object) -> Objective:
    out.mkdir(exist_ok=True)
    options = {"workers": 2, "data": out, "out": out, **options}
    return data_builders.live(recipe, trainer=f"fake_trainers:{trainer}", **options)


def accuracy(codes: np.ndarray) -> list[float]:
    return [fake_trainers.top1(tuple(code), 0) for code in codes.tolist()]


def attempts(out: Path) -> int:
    return len((out / "trials").read_text().splitlines())


def test_it_measures_what_training_gives_and_what_it_costs(tmp_path: Path) -> None:
    live = make(tmp_path)
    assert live.evaluate(CODES).tolist() == accuracy(CODES)
    assert live.spent == pytest.approx((1 + cost.macs(CODES) / 1e9).sum())
    assert (live.unit, live.evaluations) == ("seconds", 4)
    live.source.close()


def test_what_was_trained_is_in_a_table_and_never_trained_again(tmp_path: Path) -> None:
    make(tmp_path).evaluate(CODES[:3])
    live = make(tmp_path)
    assert live.evaluate(CODES).tolist() == accuracy(CODES)
    assert live.evaluate(CODES[:1]).tolist() == accuracy(CODES[:1])
    assert attempts(tmp_path) == 4
    assert live.evaluations == 5
    found = table.read(tmp_path / "tables/mini-cls.parquet", tasks.get("mini-cls"))
    assert len(found) == 4


def test_a_failed_training_counts_as_the_worst_value(tmp_path: Path) -> None:
    live = make(tmp_path, "faulty", seed=fake_trainers.MEMORY, retries=1)
    assert live.evaluate(CODES[:1]).tolist() == [0.0]
    assert attempts(tmp_path) == 2
    assert live.spent > 0


def test_a_full_disk_is_no_bad_code_and_the_search_goes_on_when_there_is_space(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no space: OSError: .*rerun the search to resume"):
        make(tmp_path, "filling", seed=1).evaluate(CODES[:1])
    assert make(tmp_path, seed=1).evaluate(CODES[:1]).tolist() == [fake_trainers.top1(tuple(CODES[0]), 1)]


def test_unreadable_data_are_no_bad_code_either(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"photo\.jpg is not an image.*rerun the search to resume"):
        make(tmp_path, "faulty", seed=fake_trainers.CORRUPT).evaluate(CODES[:1])
    assert make(tmp_path, seed=1).evaluate(CODES[:1]).tolist() == [fake_trainers.top1(tuple(CODES[0]), 1)]


def test_a_device_that_is_not_there_is_no_bad_code_either(tmp_path: Path) -> None:
    data_builders.generate.make("hmdb51", tmp_path / "hmdb51", train=1, val=1, classes=2)
    live = data_builders.live("mini-video", workers=1, out=tmp_path, data=tmp_path, device="nonsense")
    with pytest.raises(InvalidArgumentError, match="device 'nonsense' can't be used"):
        live.evaluate(CODES[:1])


def test_other_data_or_another_trainer_answer_for_none_of_these(tmp_path: Path) -> None:
    """Each has a default folder of its own."""
    folders = set()
    for trainer in ("instant", "short"):
        for data in (tmp_path / "a", tmp_path / "b"):
            for _ in range(2):
                live = data_builders.live(RECIPE, trainer=f"fake_trainers:{trainer}", data=data, workers=1)
                folders.add(live.source.builder.store.root)
    assert len(folders) == 4


def test_shorter_trainings_have_tables_of_their_own(tmp_path: Path) -> None:
    live = make(tmp_path)
    assert live.epochs == (1, 2, 4)
    assert live.evaluate(CODES[:2], epoch=1).tolist() == accuracy(CODES[:2])
    assert live.evaluate(CODES[:1], epoch=4).tolist() == accuracy(CODES[:1])
    assert live.evaluations == 2 * 1 / 4 + 1
    assert len(pd.read_parquet(tmp_path / "tables/mini-cls-1-epochs.parquet")) == 2
    assert len(pd.read_parquet(tmp_path / "tables/mini-cls.parquet")) == 1
    builder = live.source.builder
    assert {name: r.epochs for name, r in builder.recipes.items()} == {
        "mini-cls": 4,
        "mini-cls-1-epochs": 1,
        "mini-cls-2-epochs": 2,
    }
    assert "mini-cls-1-epochs" not in tasks.names()
    assert make(tmp_path, epochs=[3]).epochs == (3, 4)
    with pytest.raises(InvalidArgumentError, match=r"epochs are \[5\]; expected numbers from 1 to 4"):
        make(tmp_path, epochs=[5])
    made = runner.release(tmp_path, "lived", "1.0.0")
    assert sorted(made.tasks) == ["mini-cls", "mini-cls-1-epochs"]


@pytest.mark.parametrize("name", search.names())
def test_any_search_runs_on_it(name: str, tmp_path: Path) -> None:
    live = make(tmp_path, "instant", max_macs=2e8)
    searcher = search.make(name, live, seed=0)
    trace = search.run(searcher, live, budget=6, batch=2)
    assert trace.best_value == max(accuracy(trace.codes[trace.fidelity == 0]))
    assert (cost.macs(trace.codes) <= 2e8).all()
    live.source.close()


def test_several_terms_are_weighted_and_standardised_by_a_benchmark(tmp_path: Path) -> None:
    run = {"out": tmp_path / "table", "trainer": "fake_trainers:instant", "workers": 2}
    runner.build(RECIPE, CODES, 1, **run)
    bench = nasbench_mr.load(runner.release(tmp_path / "table", "bench", "1.0.0").path)
    weights = {"mini-cls": 1.0, "mini-cls/top5": 3.0}
    plain = make(tmp_path / "a", "instant", weights)
    first = np.array(accuracy(CODES))
    # top5 is 100 for all: (1 * (top1 - 0) / 1 + 3 * (100 - 0) / 1) / 4.
    assert plain.evaluate(CODES) == pytest.approx((first + 300) / 4)
    scaled = make(tmp_path / "b", "instant", weights, bench=bench)
    # Its spread is 0, so it counts in its own unit.
    assert scaled.evaluate(CODES) == pytest.approx((first - first.mean()) / first.std() / 4)


def test_results_have_a_place_by_default(home: Path) -> None:
    live = data_builders.live(RECIPE, trainer="fake_trainers:instant", workers=1)
    live.evaluate(CODES[:1])
    [folder] = (home / "live").iterdir()
    assert folder.name.startswith("mini-cls-")
    assert len(pd.read_parquet(folder / "tables/mini-cls.parquet")[list(space.NAMES)]) == 1


def test_what_can_not_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownMetricError, match="'mini-cls' has no metric 'mIoU'"):
        make(tmp_path, recipe="mini-cls/mIoU")
    with pytest.raises(InfeasibleError):
        make(tmp_path, max_macs=1)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_copies_of_builders_objects_work_by_themselves(tmp_path: Path, copied: Callable[[Any], Any]) -> None:
    live = make(tmp_path)
    live.evaluate(CODES[:2])  # its workers run
    other = copied(live)
    assert other.evaluate(CODES).tolist() == live.evaluate(CODES).tolist() == accuracy(CODES)
    # Each trains by itself what it does not know of; what it knew when it was copied, it knows.
    assert attempts(tmp_path) == 6
    builder, trial = live.source.builder, Trial(tuple(CODES[0].tolist()), "mini-cls", 0)
    for thing in (builder.job, builder.records, builder.forecast([trial])):
        assert copied(thing) == thing
    for objective in (live, other):
        objective.source.close()
