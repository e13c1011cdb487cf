import errno
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import fake_trainers
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

import nasbench_mr
from nasbench_mr import cost, space, table, tasks
from nasbench_mr.cli import main
from nasbench_mr.data_builders import build, generate
from nasbench_mr.data_builders.building import runner
from nasbench_mr.data_builders.building.store import Store
from nasbench_mr.data_builders.building.trial import Outcome, Trial
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.errors import (
    InfeasibleError,
    InvalidArgumentError,
    OutOfSpaceError,
    RecipeError,
    ReleaseError,
    StorageError,
    TableError,
)

NAMES = list(space.NAMES)


def run(out: Path, trainer: str, codes: object = 1, seeds: object = 1, **options: object) -> runner.Report:
    """Return a build of mini-cls on two workers by a fake trainer, whose notes go to the same folder."""
    out.mkdir(exist_ok=True)
    options = {"workers": 2, "data": out, **options}
    return build("mini-cls", codes, seeds, out, trainer=f"fake_trainers:{trainer}", **options)  # type: ignore[arg-type]


def rows(out: Path, task: str = "mini-cls") -> pd.DataFrame:
    """Return the built table, checked."""
    path = out / f"tables/{task}.parquet"
    table.read(path, tasks.get(task))
    return pd.read_parquet(path)


def trained(out: Path) -> list[str]:
    """Return what the trainers noted, one line an attempt."""
    return (out / "trials").read_text().splitlines()


def test_a_build_writes_every_trial_once_and_a_second_one_trains_nothing(tmp_path: Path) -> None:
    codes = runner.draw_codes(6)
    report = run(tmp_path, "noting", codes, 2)
    assert (report.tasks["mini-cls"].planned, report.tasks["mini-cls"].ok) == (12, 12)
    assert report.failures == []

    frame = rows(tmp_path)
    assert len(frame) == 12
    for row in frame.itertuples():
        code = tuple(getattr(row, name) for name in NAMES)
        assert row.top1 == fake_trainers.top1(code, row.seed)
        assert row.train_seconds == 1 + cost.macs([code])[0] / 1e9
        assert (row.macs, row.params) == (cost.macs([code])[0], cost.params([code])[0])
    order = [tuple(row) for row in frame[[*NAMES, "seed"]].to_numpy().tolist()]
    assert order == sorted(order)
    curves = pd.read_parquet(tmp_path / "curves/mini-cls.parquet")
    assert len(curves) == 24
    last = curves[curves.epoch == 2].reset_index(drop=True)
    assert last[[*NAMES, "seed", "top1"]].equals(frame[[*NAMES, "seed", "top1"]])

    again = run(tmp_path, "noting", codes, 2)
    assert (again.tasks["mini-cls"].before, again.tasks["mini-cls"].ok, again.workers) == (12, 0, 0)
    assert len(trained(tmp_path)) == 12


def test_a_build_adds_to_what_is_there(tmp_path: Path) -> None:
    run(tmp_path, "noting", 3, 2)
    report = run(tmp_path, "noting", 5, [0])
    assert (report.tasks["mini-cls"].before, report.tasks["mini-cls"].ok) == (3, 2)
    assert len(rows(tmp_path)) == 8
    assert np.array_equal(runner.draw_codes(5)[:3], runner.draw_codes(3))


def test_codes_are_drawn_under_a_limit() -> None:
    free, limited = runner.draw_codes(40, 3, "graded"), runner.draw_codes(20, 3, "graded", max_macs=3e8)
    within = free[cost.macs(free) <= 3e8]
    assert 0 < len(within) < 40
    assert np.array_equal(limited[: len(within)], within[:20])
    assert cost.macs(limited).max() <= 3e8
    with pytest.raises(InfeasibleError, match=r"found 0 of 5 published codes of at most 1000 MACs"):
        runner.draw_codes(5, max_macs=1000)


def test_long_trials_start_first(tmp_path: Path) -> None:
    codes = runner.draw_codes(8)
    run(tmp_path, "noting", codes, workers=1)
    macs = [cost.macs([[int(v) for v in line.split()[0].split(",")]])[0] for line in trained(tmp_path)]
    assert macs == sorted(cost.macs(codes), reverse=True)


def in_child(function) -> int:
    """Run a function in a forked process, its number; what the builder has imported need not be again."""
    if (number := os.fork()) == 0:
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return number


def test_a_builder_killed_fifty_times_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "FLUSH", 0.05)
    codes = runner.draw_codes(20)
    chance = random.Random(0)
    killed = whole = 0
    while killed < 50:
        child = in_child(functools.partial(run, tmp_path / str(whole), "short", codes, 2))
        time.sleep(chance.uniform(0, 0.35))
        os.kill(child, signal.SIGKILL)
        killed += os.waitpid(child, 0)[1] == signal.SIGKILL
        found = table_of_parts(tmp_path / str(whole))
        if len({*found}) == 40:
            whole += 1
    last = tmp_path / str(whole)
    run(last, "short", codes, 2)
    planned = {(tuple(code), seed) for code in codes.tolist() for seed in (0, 1)}
    for out in [tmp_path / str(k) for k in range(whole + 1)]:
        run(out, "short", codes, 2)
        found = Counter(tuple(row) for row in rows(out)[[*NAMES, "seed"]].to_numpy().tolist())
        assert {(key[:-1], key[-1]) for key in found} == planned
        assert set(found.values()) == {1}


def table_of_parts(out: Path) -> list[tuple[int, ...]]:
    """Code and seed of every row in the parts; each part must be whole."""
    keys = []
    for part in out.glob("parts/mini-cls/[!.]*"):
        keys += [tuple(row.values()) for row in pq.read_table(part, columns=[*NAMES, "seed"]).to_pylist()]
    return keys


@pytest.mark.parametrize(
    ("seed", "status", "error"),
    [
        (fake_trainers.CORRUPT, "failed", "DatasetError: photo.jpg is not an image: broken data stream"),
        (fake_trainers.DIVERGED, "diverged", "the loss is nan in epoch 1"),
        (fake_trainers.MEMORY, "failed", "out of memory: OutOfMemoryError: CUDA out of memory. Tried"),
        (fake_trainers.HANGS, "failed", "ran past its time limit of 0.5 s and was killed"),
        (fake_trainers.HANGS_IN_C, "failed", "ran past its time limit of 0.5 s and was killed"),
        (fake_trainers.EXITS, "failed", "the worker ended with exit status 3"),
        (fake_trainers.KILLED, "failed", "the worker was killed by SIGKILL (out of memory?)"),
        (fake_trainers.BEYOND, "failed", "top1 is 101"),
    ],
)
def test_what_goes_wrong_is_recorded_and_reported_and_the_rest_goes_on(
    tmp_path: Path, seed: int, status: str, error: str
) -> None:
    report = run(tmp_path, "faulty", 2, [fake_trainers.OK, seed], retries=0, time_limit=0.5)
    counts = report.tasks["mini-cls"]
    assert (counts.ok, getattr(counts, status)) == (2, 2)
    assert [outcome.trial.seed for outcome in report.failures] == [seed, seed]
    assert all(error in str(outcome.error) for outcome in report.failures)
    frame = rows(tmp_path)
    assert frame[frame.seed == 0].status.tolist() == ["ok", "ok"]
    bad = frame[frame.seed == seed]
    assert bad.status.tolist() == [status, status]
    assert all(error in text for text in bad.error)
    assert bad.top1.isna().all()


def test_a_failed_trial_is_retried_a_bounded_number_of_times_over_all_runs(tmp_path: Path) -> None:
    seeds = [fake_trainers.MEMORY]
    report = run(tmp_path, "faulty", 1, seeds, retries=2)
    assert (report.tasks["mini-cls"].failed, len(trained(tmp_path))) == (1, 3)
    report = run(tmp_path, "faulty", 1, seeds, retries=2)
    assert (report.tasks["mini-cls"].failed, len(report.failures), len(trained(tmp_path))) == (1, 1, 3)
    run(tmp_path, "faulty", 1, seeds, retries=3)
    assert len(trained(tmp_path)) == 4
    # Once it succeeds, the table has that.
    run(tmp_path, "instant", 1, seeds, retries=4)
    assert rows(tmp_path).status.tolist() == ["ok"]


def test_a_trial_that_fails_once_succeeds_at_its_next_attempt(tmp_path: Path) -> None:
    report = run(tmp_path, "faulty", 1, [fake_trainers.ONCE])
    assert (report.tasks["mini-cls"].ok, report.failures, len(trained(tmp_path))) == (1, [], 2)


def test_a_retried_trial_goes_on_from_its_checkpoint_unless_that_is_damaged(tmp_path: Path) -> None:
    kept = tmp_path / "checkpoints"
    report = run(tmp_path, "resuming", 1, 1, checkpoints=kept)
    assert (report.tasks["mini-cls"].ok, list(kept.iterdir())) == (1, [])
    report = run(tmp_path, "resuming", 1, [1], checkpoints=kept)
    # Leaves a checkpoint, finds it damaged, leaves another.
    assert (report.tasks["mini-cls"].failed, len(list(kept.iterdir()))) == (1, 1)
    assert rows(tmp_path).error.dropna().tolist() == ["RuntimeError: killed in the middle"]


def test_a_full_disk_stops_the_build_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = Path.write_bytes, []

    def filling(path: Path, data: bytes) -> int:
        if "parts" in path.parts:
            if len(written) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            written.append(path)
        return write(path, data)

    monkeypatch.setattr(runner, "FLUSH", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", filling)
        with pytest.raises(StorageError, match="the disk is full; free some space"):
            run(tmp_path, "noting", 10, 2)
    before = len(set(table_of_parts(tmp_path)))
    assert before >= 2
    report = run(tmp_path, "noting", 10, 2)
    assert (report.tasks["mini-cls"].before, report.tasks["mini-cls"].ok) == (before, 20 - before)
    assert len(rows(tmp_path)) == 20


def test_trials_without_space_are_rows_cost_no_retry_and_wait_for_the_next_run(tmp_path: Path) -> None:
    for _ in range(2):
        report = run(tmp_path, "filling", 1, [1, 2, 0], workers=1, retries=0)
        counts = report.tasks["mini-cls"]
        assert (counts.failed, [o.trial.seed for o in report.failures]) == (2, [1, 2])
        found = rows(tmp_path).set_index("seed").sort_index()
        assert found.status.tolist() == ["ok", "failed", "failed"]
        assert found.error[1] == "no space: OSError: [Errno 28] No space left on device"
        assert found.error[2] == "no space: StorageError: can't write weights: the disk is full"
    # Once at each run, though no retry is allowed; and with space again, all is well.
    assert Counter(key[-1] for key in table_of_parts(tmp_path)) == {0: 1, 1: 2, 2: 2}
    assert run(tmp_path, "instant", 1, [1, 2, 0], retries=0).tasks["mini-cls"].ok == 2
    assert rows(tmp_path).status.tolist() == ["ok", "ok", "ok"]


def test_trials_without_their_data_are_tried_again_by_the_next_run(tmp_path: Path) -> None:
    seeds = [fake_trainers.CORRUPT, fake_trainers.OK]
    error = "DatasetError: photo.jpg is not an image: broken data stream"
    for attempts in (2, 4):
        report = run(tmp_path, "faulty", 1, seeds, retries=1, workers=1)
        assert [o.error for o in report.failures] == [error]
        assert [int(line.split()[1]) for line in trained(tmp_path)].count(fake_trainers.CORRUPT) == attempts
    # A retry comes last, when what was wrong may be over.
    assert [int(line.split()[1]) for line in trained(tmp_path)[:3]] == [*seeds, fake_trainers.CORRUPT]
    assert run(tmp_path, "instant", 1, seeds, retries=1).tasks["mini-cls"].ok == 1
    assert rows(tmp_path).status.tolist() == ["ok", "ok"]


def test_unreadable_data_cost_none_of_the_retries(tmp_path: Path) -> None:
    report = run(tmp_path, "unlucky", 1, retries=1, workers=1)
    assert [o.error for o in report.failures] == ["RuntimeError: boom"]
    assert len(trained(tmp_path)) == 3  # without its data, and then twice on its own account


def test_a_checkpoint_stays_until_the_result_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Store.add

    def full(store: Store, task: tasks.Task, outcomes: Sequence[Outcome]) -> None:
        if any(o.status == "ok" for o in outcomes):
            raise StorageError("can't write: the disk is full")
        add(store, task, outcomes)

    kept = tmp_path / "checkpoints"
    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", full)
        with pytest.raises(StorageError):
            run(tmp_path, "resuming", 1, 1, checkpoints=kept)
    [checkpoint] = kept.iterdir()
    # That of pretraining lies beside it.
    beside = checkpoint.with_name(f"{checkpoint.name}.first-0123")
    beside.touch()
    other = kept / "of-another-trial.safetensors"
    other.touch()
    assert run(tmp_path, "resuming", 1, 1, checkpoints=kept).tasks["mini-cls"].ok == 1
    assert [*kept.iterdir()] == [other]


def test_a_build_without_results_leaves_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the data set has 4 classes"):
        run(tmp_path, "stopping", 1, [1], workers=1)
    for changes, message in (
        ({"data_options": {"sizes": 4}}, "no option 'sizes' here: did you mean 'size'"),
        ({"data_options": {"size": "large"}}, "option size is 'large'"),
        ({"dataset": "cifar"}, "no data set 'cifar': did you mean 'cifar10'"),
    ):
        changed = recipes.override(recipes.get("mini-cls"), changes)
        with pytest.raises(RecipeError, match=f"recipe 'mini-cls', data set .*{message}"):
            build(changed, 1, 1, tmp_path)
    generate.make("hmdb51", tmp_path / "hmdb51", train=1, val=1, classes=2)
    with pytest.raises(InvalidArgumentError, match="device 'gpu' can't be used"):
        build("mini-video", 1, 1, tmp_path, data=tmp_path, device="gpu", workers=1)
    assert not (tmp_path / "recipes").exists()


def test_two_builds_of_different_recipes_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = recipes.override(recipes.get("mini-cls"), {"lr": 0.5})
    trials = runner.plan(["mini-cls"], runner.draw_codes(1), [0])
    with (
        runner.Builder("mini-cls", tmp_path, workers=1, trainer="fake_trainers:instant") as first,
        runner.Builder(other, tmp_path, workers=1, trainer="fake_trainers:instant") as second,
    ):
        first.run(trials)
        with pytest.raises(RecipeError, match=r"another recipe for mini-cls: lr 0\.005 there, 0\.5 here"):
            second.run(trials)
    # And where both began at the very same time, so that neither saw the other's.
    store = Store(tmp_path)
    answers = [None, store.recipe("mini-cls")]
    monkeypatch.setattr(store, "recipe", lambda task: answers.pop(0))
    with pytest.raises(RecipeError, match="another recipe"):
        store.write_recipe("mini-cls", other)
    assert Store(tmp_path).recipe("mini-cls") == recipes.get("mini-cls")


def test_the_table_has_what_another_build_added_while_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that finished meanwhile wrote its table before ours, which is older."""
    run(tmp_path, "instant", 1)
    write = Store.write
    others: list[int] = []

    def slow(store: Store, name: str, data: bytes) -> None:
        if name.startswith("tables") and not others:
            others.append(1)
            run(tmp_path, "instant", 1, [7])
        write(store, name, data)

    monkeypatch.setattr(Store, "write", slow)
    run(tmp_path, "instant", 1, [5])
    assert sorted(rows(tmp_path).seed) == [0, 5, 7]


def test_names_that_are_no_utf8_are_shown_escaped(tmp_path: Path) -> None:
    run(tmp_path, "latin1", 1, retries=0)
    assert rows(tmp_path).error.tolist() == ["RuntimeError: no photo caf\\udce9.jpg"]


def test_what_every_trial_would_meet_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the data set has 4 classes"):
        run(tmp_path, "stopping", 1, [0, 1], workers=1)
    # What was finished before is kept.
    assert [key[-1] for key in table_of_parts(tmp_path)] == [0]


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    def interrupted() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run(tmp_path, "short", 40, 2)

    child = in_child(interrupted)
    while not list(tmp_path.glob("parts/mini-cls/*.parquet")):
        time.sleep(0.01)
    os.kill(child, signal.SIGINT)
    assert os.waitpid(child, 0)[1] == 256  # KeyboardInterrupt: exit status 1.
    before = len(set(table_of_parts(tmp_path)))
    assert run(tmp_path, "short", 40, 2).tasks["mini-cls"].before == before
    assert len(rows(tmp_path)) == 80


def test_two_builds_into_one_folder_at_once(tmp_path: Path) -> None:
    children = [in_child(lambda: run(tmp_path, "short", 10, 1)) for _ in range(2)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert run(tmp_path, "short", 10, 1).tasks["mini-cls"].before == 10
    assert len(rows(tmp_path)) == 10


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    run(tmp_path, "instant")
    other = recipes.override(recipes.get("mini-cls"), {"epochs": 77})
    with pytest.raises(
        RecipeError, match=r"another recipe for mini-cls: epochs \d+ there, 77 here. Use that"
    ):
        build(other, 1, 1, tmp_path, trainer="fake_trainers:instant")
    (tmp_path / "recipes/mini-cls.json").write_text("[1]")
    with pytest.raises(RecipeError, match=r"recipes/mini-cls.json in .* is damaged or foreign: it holds"):
        run(tmp_path, "instant")


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    run(tmp_path, "instant")
    [part] = (tmp_path / "parts/mini-cls").iterdir()
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(
        TableError, match=rf"{part.name} in .* is damaged .* delete it, and its trials will run"
    ):
        run(tmp_path, "instant")
    part.unlink()
    assert run(tmp_path, "instant").tasks["mini-cls"].ok == 1


def test_results_go_to_any_filesystem(tmp_path: Path) -> None:
    place = SubTreeFileSystem(str(tmp_path), LocalFileSystem())
    options = {"trainer": "fake_trainers:instant", "workers": 2, "filesystem": place}
    report = build("mini-cls", 3, 2, "bucket/folder", **options)
    assert report.tasks["mini-cls"].ok == 6
    assert build("mini-cls", 3, 2, "bucket/folder", **options).tasks["mini-cls"].before == 6
    assert len(rows(tmp_path / "bucket/folder")) == 6
    made = runner.release("bucket/folder", "far", "1.0.0", filesystem=place)
    assert made.tasks == {"mini-cls": tasks.get("mini-cls")}
    assert [p.name for p in (tmp_path / "bucket/folder").rglob(".*")] == []


def test_a_uri_is_a_place_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    report = run(tmp_path, "instant")
    assert (
        build("mini-cls", 1, 1, tmp_path.as_uri(), trainer="fake_trainers:instant").tasks["mini-cls"].before
        == report.tasks["mini-cls"].ok
        == 1
    )
    with pytest.raises(InvalidArgumentError, match="can't use --out 'nowhere://x'"):
        Store("nowhere://x")


def test_a_place_that_refuses_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="can't write a/b in file"):
        Store("file", SubTreeFileSystem(str(tmp_path), LocalFileSystem())).write("a/b", b"")


def test_the_forecast_follows_the_rates_seen_so_far(tmp_path: Path) -> None:
    codes = runner.draw_codes(10)
    with runner.Builder("mini-cls", tmp_path, workers=1, trainer="fake_trainers:instant") as builder:
        trials = runner.plan(["mini-cls"], codes, [0])
        unknown = builder.forecast(trials, 2)
        assert np.isnan(unknown.seconds)
        assert unknown.tasks[0]["to do"] == 10
        builder.run(trials[:4])
        forecast = builder.forecast(trials, 2)
    seconds = sorted(1 + cost.macs(codes[4:]) / 1e9, reverse=True)
    assert forecast.tasks[0]["worker hours"] == pytest.approx(sum(seconds) / 3600)
    assert [forecast.tasks[0][key] for key in ("trials", "done", "failed", "to do")] == [10, 4, 0, 6]
    assert forecast.seconds == pytest.approx(runner.makespan(seconds, 2))


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        ([(1, 3), (2, 5), (4, 9)], (1, 2)),  # Exactly 1 + 2 x.
        ([(5, 7)], (7, 0)),
        ([(1, 9), (3, 5)], (7, 0)),  # Falls: the mean.
        ([(1, 0), (3, 4)], (0, 1.2)),  # Would start at -2: through the origin, 12 / 10.
    ],
)
def test_the_line_through_seconds_and_macs(
    seen: list[tuple[float, float]], line: tuple[float, float]
) -> None:
    assert runner.fit_line(np.array(seen, np.float64)) == pytest.approx(line)


def test_the_makespan_of_trials_taken_in_turn() -> None:
    # 5 | 3 3 1 -> the first worker ends at 5 and takes the 1: 6; the second has 3 + 3.
    assert runner.makespan([5, 3, 3, 1], 2) == 6
    assert runner.makespan([], 2) == 0


def test_codes_from_files(tmp_path: Path) -> None:
    codes = runner.draw_codes(3)
    lines = [
        space.to_string(codes[0]),
        "# a remark",
        "",
        ",".join(map(str, codes[1])),
        space.to_string(codes[0]),
    ]
    (tmp_path / "codes.txt").write_text("\n".join(lines))
    assert np.array_equal(runner.read_codes(tmp_path / "codes.txt"), codes[:2])
    frame = pd.DataFrame(codes, columns=NAMES).assign(top1=1.0)
    frame.to_csv(tmp_path / "codes.csv")
    frame.to_parquet(tmp_path / "codes.parquet")
    for name in ("codes.csv", "codes.parquet"):
        assert np.array_equal(runner.read_codes(tmp_path / name), codes)

    (tmp_path / "bad.txt").write_text("\n" + ",".join(["7"] * 27))
    with pytest.raises(OutOfSpaceError, match=r"bad.txt, line 2: "):
        runner.read_codes(tmp_path / "bad.txt")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    frame.drop(columns="b1").to_csv(tmp_path / "short.csv")
    (tmp_path / "nothing.csv").write_text("")
    (tmp_path / "ragged.csv").write_text("i1,i2\n1\n1,2,3\n")
    (tmp_path / "bad.parquet").write_text("no Parquet")
    for name in ("empty.txt", "none.txt", "short.csv", "nothing.csv", "ragged.csv", "bad.parquet"):
        with pytest.raises(InvalidArgumentError, match=name):
            runner.read_codes(tmp_path / name)


def test_what_can_not_be_built_is_refused(tmp_path: Path) -> None:
    for names in ([], ["mini-cls", "mini-cls"]):
        with pytest.raises(RecipeError, match="expected at least one, each of another task"):
            build(names, 1, 1, tmp_path)
    for options in (
        {"retries": -1},
        {"time_limit": 0},
        {"time_limit": float("inf")},
        {"workers": 0},
        {"gpus": 1.0},
    ):
        with pytest.raises(InvalidArgumentError):
            run(tmp_path, "instant", **options)
    with pytest.raises(
        InvalidArgumentError, match="the number of codes is 0; expected an integer, at least 1"
    ):
        run(tmp_path, "instant", 0)
    for seeds in (0, [], [-1], [2**31]):
        with pytest.raises(InvalidArgumentError, match=r"seeds? (is|are)"):
            run(tmp_path, "instant", seeds=seeds)
    for trainer in ("nowhere:train", "fake_trainers:nothing", "fake_trainers"):
        with pytest.raises(InvalidArgumentError, match=f"no trainer '{trainer}'"):
            build("mini-cls", 1, 1, tmp_path, trainer=trainer, workers=1)
    with pytest.raises(InvalidArgumentError, match="can't be imported by workers"):
        build("mini-cls", 1, 1, tmp_path, trainer=lambda *_: None)


def test_a_trainer_may_be_a_function(tmp_path: Path) -> None:
    assert build("mini-cls", 1, 1, tmp_path, trainer=fake_trainers.instant).tasks["mini-cls"].ok == 1


def test_missing_data_are_one_error_not_one_for_each_trial(tmp_path: Path) -> None:
    with pytest.raises(nasbench_mr.errors.DatasetError, match="nasbench-mr data fetch cifar10"):
        build("mini-cls", 5, 1, tmp_path / "out", data=tmp_path)


def test_the_time_left_weighs_trials_by_their_macs(tmp_path: Path) -> None:
    with runner.Builder("mini-cls", tmp_path, workers=2, trainer="fake_trainers:instant") as builder:
        trials = runner.plan(["mini-cls"], runner.draw_codes(4), [0])
        builder.run(trials[:2])
        with runner._Bar(trials[2:], builder, False) as bar:
            seconds = (1 + cost.macs(runner.draw_codes(4)[2:]) / 1e9).sum()
            assert bar.seconds() == pytest.approx(seconds / 2)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "5 s"),
        (100, "1.67 min"),
        (7200, "2 h"),
        (3 * 86400, "3 d"),
        (2083.4 * 86400, "2,083 d"),
        (float("nan"), "?"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert runner.clock(seconds) == text


def test_a_release_of_what_was_built(tmp_path: Path) -> None:
    run(tmp_path, "instant", 4, 2)
    made = runner.release(
        tmp_path, "mine", "1.0.0", about={"license": "CC0-1.0"}, target=tmp_path / "release"
    )
    nasbench_mr.release.verify(made)
    bench = nasbench_mr.load(made.path)
    code = tuple(runner.draw_codes(4)[0].tolist())
    assert bench.query(code, "mini-cls", seed=1)["top1"] == fake_trainers.top1(code, 1)
    assert bench.query(code, "mini-cls", seed=1, epoch=1)["top1"] == fake_trainers.top1(code, 1) / 2
    assert recipes.from_dict(json.loads((made.path / "recipes/mini-cls.json").read_text())) == recipes.get(
        "mini-cls"
    )
    with pytest.raises(ReleaseError):
        runner.release(tmp_path, "Mine!", "1.0.0")
    with pytest.raises(InvalidArgumentError, match="no trials in"):
        runner.release(tmp_path / "nothing", "mine", "1.0.0")


def test_a_later_release_has_all_of_the_earlier_one(tmp_path: Path) -> None:
    """Codes 0 to 3 with two seeds; then, elsewhere, codes 0 to 5 with seed 0: 8 trials and 2 more."""
    run(tmp_path / "first", "instant", 4, 2)
    first = runner.release(tmp_path / "first", "mine", "1.0.0", about={"license": "CC0-1.0"})
    run(tmp_path / "second", "instant", 6, 1)
    second = runner.release(tmp_path / "second", "mine", "1.1.0")
    nasbench_mr.release.verify(second)
    assert second.about == first.about
    bench = nasbench_mr.load("mine")
    codes = [tuple(code) for code in runner.draw_codes(6).tolist()]
    assert set(map(tuple, bench.codes("mini-cls").tolist())) == set(codes)
    assert len(bench.to_pandas("mini-cls")) == 10
    assert bench.query(codes[3], "mini-cls").seeds == (0, 1)
    assert bench.query(codes[5], "mini-cls", epoch=1)["top1"] == fake_trainers.top1(codes[5], 0) / 2
    assert runner.release(tmp_path / "second", "mine", "1.1.0") == second


def test_a_release_does_not_grow_by_another_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "first", "instant", 2)
    runner.release(tmp_path / "first", "mine", "1.0.0")
    longer = recipes.override(recipes.get("mini-cls"), {"epochs": 60})
    build(longer, 3, 1, tmp_path / "second", trainer="fake_trainers:instant", workers=1)
    with pytest.raises(ReleaseError, match=r"'mini-cls' in mine@1.0.0 come.*: epochs 3 there, 60 here\. V"):
        runner.release(tmp_path / "second", "mine", "1.1.0")
    assert runner.release(tmp_path / "second", "other", "1.1.0").tasks
    # By the command, before anything is trained.
    third = tmp_path / "third"
    words = ["build", "mini-cls", "--codes", "2", "--set", "epochs=60", "--trainer", "fake_trainers:instant"]
    assert main([*words, "--out", str(third), "--release", "mine@1.1.0"]) == 2
    assert "epochs 3 there, 60 here" in capsys.readouterr().err
    assert not (third / "parts").exists()


def store_of(out: Path, *outcomes: tuple[str, int, float]) -> Store:
    """Return a store with a part for each outcome of the first code: status, seed, top1."""
    code = tuple(runner.draw_codes(1)[0].tolist())
    store, task = Store(out), tasks.get("mini-cls")
    store.write_recipe("mini-cls", recipes.get("mini-cls"))
    for status, seed, value in outcomes:
        metrics, curve = {"top1": value, "top5": 90.0}, {"epoch": [1.0], "top1": [value]}
        ok = status == "ok"
        trial = Trial(code, "mini-cls", seed)
        store.add(task, [Outcome(trial, status, None if ok else status, metrics, curve) if ok else
                         Outcome(trial, status, status)])  # fmt: skip
    return store


def test_a_release_has_what_a_stopped_build_has_finished(tmp_path: Path) -> None:
    store = store_of(tmp_path, ("ok", 0, 10.0))
    runner.compact(store, [tasks.get("mini-cls")])
    store_of(tmp_path, ("ok", 1, 20.0))
    made = runner.release(tmp_path, "mine", "1.0.0")
    assert nasbench_mr.load(made.path).to_pandas("mini-cls")["top1"].tolist() == [10.0, 20.0]


def test_a_failure_takes_no_results_place(tmp_path: Path) -> None:
    store_of(tmp_path / "first", ("ok", 0, 10.0), ("ok", 1, 20.0), ("failed", 2, 0.0))
    runner.release(tmp_path / "first", "mine", "1.0.0")
    store_of(tmp_path / "second", ("failed", 0, 0.0), ("ok", 1, 25.0), ("ok", 2, 30.0), ("diverged", 3, 0.0))
    bench = nasbench_mr.load(runner.release(tmp_path / "second", "mine", "1.1.0").path)
    frame = bench.to_pandas("mini-cls").sort_values("seed")
    assert frame["status"].tolist() == ["ok", "ok", "ok", "diverged"]
    assert frame["top1"].tolist()[:3] == [10.0, 25.0, 30.0]
    code = tuple(runner.draw_codes(1)[0].tolist())
    assert [bench.query(code, "mini-cls", seed=s, epoch=1)["top1"] for s in range(3)] == [10.0, 25.0, 30.0]


@pytest.mark.parametrize(
    ("statuses", "counts"),
    [
        (("diverged", "failed"), "diverged"),
        (("failed", "diverged"), "diverged"),
        (("diverged", "ok"), "ok"),
        (("ok", "failed"), "ok"),
        (("failed", "ok", "diverged"), "ok"),
    ],
)
def test_what_counts_of_a_trial_is_the_same_everywhere(
    tmp_path: Path, statuses: tuple[str, ...], counts: str
) -> None:
    store_of(tmp_path, *((status, 0, 10.0) for status in statuses))
    with runner.Builder("mini-cls", tmp_path, trainer="fake_trainers:instant", workers=1) as builder:
        runner.compact(builder.store, builder.tasks.values())
        (record,) = builder.records.values()
    assert record.outcome.status == counts
    assert pd.read_parquet(tmp_path / "tables/mini-cls.parquet")["status"].tolist() == [counts]


def test_of_two_results_the_first_counts_everywhere(tmp_path: Path) -> None:
    store_of(tmp_path, ("ok", 0, 10.0), ("ok", 0, 11.0))
    with runner.Builder("mini-cls", tmp_path, trainer="fake_trainers:instant", workers=1) as builder:
        runner.compact(builder.store, builder.tasks.values())
        (record,) = builder.records.values()
    assert record.outcome.metrics["top1"] == 10.0
    assert pd.read_parquet(tmp_path / "tables/mini-cls.parquet")["top1"].tolist() == [10.0]


def test_networks_that_were_not_kept_are_counted(tmp_path: Path) -> None:
    run(tmp_path, "instant", 2)
    assert run(tmp_path, "instant", 2).without_weights == 0  # nor asked for
    report = run(tmp_path, "instant", 3, keep_weights=True)
    assert (report.tasks["mini-cls"].before, report.without_weights) == (2, 2)


def test_outcomes_survive_their_part(tmp_path: Path) -> None:
    code = tuple(runner.draw_codes(1)[0].tolist())
    whole = Outcome(Trial(code, "mini-cls", 7), "ok", None, {"top1": 0.1 + 0.2}, {}, 1, 2.5, "cpu")
    failed = Outcome(Trial(code, "mini-cls", 8), "failed", "why")
    store = Store(tmp_path)
    store.add(tasks.get("mini-cls"), [whole, failed])
    assert list(store.outcomes(tasks.get("mini-cls"))) == [whole, failed]


def test_the_builder_imports_no_torch() -> None:
    script = "import sys, nasbench_mr.data_builders.building.runner; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
