import contextlib
import dataclasses
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_trainers
import pandas as pd
import pytest
import torch

import nasbench_mr
from nasbench_mr import predictors, search, space, tasks
from nasbench_mr import workers as engines
from nasbench_mr.arrays import same
from nasbench_mr.data_builders.building import runner
from nasbench_mr.data_builders.building.trial import Job, Outcome, Trial
from nasbench_mr.data_builders.generate import imagenet
from nasbench_mr.data_builders.training import inputs, recipes
from nasbench_mr.errors import InvalidArgumentError, MissingExtraError, UnknownNameError, WorkerError
from nasbench_mr.objective import Objective

CODES = [tuple(code) for code in runner.draw_codes(4).tolist()]


def job(trainer: str, **options: object) -> Job:
    """Return a job of mini-cls with one of the fake trainers."""
    recipe = recipes.get("mini-cls")
    return Job({"mini-cls": recipe}, (tasks.get("mini-cls"),), f"fake_trainers:{trainer}", **options)  # type: ignore[arg-type]


def finish(engine: engines.Engine, trials: list[Trial]) -> list[Outcome]:
    """Run trials to their end, in this order."""
    waiting, outcomes = list(trials), []
    while len(outcomes) < len(trials):
        while waiting and engine.free:
            engine.submit(waiting.pop(0))
        for done in engine.wait(1):
            outcomes.append(outcome := Outcome.of(done))
            if outcome.spoilt:
                engine.renew(done.worker)
    return outcomes


def gone(process: int, tries: int = 1000) -> bool:
    """Wait until a process that is not a child of this one has ended."""
    for _ in range(tries + 1):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_local_workers_stay_and_one_that_dies_is_replaced(tmp_path: Path) -> None:
    seeds = [fake_trainers.OK, fake_trainers.EXITS, fake_trainers.OK, fake_trainers.KILLED, fake_trainers.OK]
    trials = [Trial(CODES[0], "mini-cls", seed) for seed in seeds]
    with engines.make("local", job("faulty", data=str(tmp_path)).work, 1) as engine:
        first = engine.workers[0].handle[0].pid
        outcomes = finish(engine, trials[:1])
        assert engine.workers[0].handle[0].pid == first
        outcomes += finish(engine, trials[1:])
        last = engine.workers[0].handle[0].pid
    assert [o.status for o in outcomes] == ["ok", "failed", "ok", "failed", "ok"]
    assert outcomes[0].metrics == {"top1": fake_trainers.top1(CODES[0], 0), "top5": 100}
    assert outcomes[0].busy > 0
    assert last != first
    assert gone(last)


PLAIN = """
import os, signal, time
from nasbench_mr.errors import InvalidArgumentError

class Picky(Exception):
    def __init__(self, what, why):
        super().__init__(f"{what} is {why}")

def maker(offset):
    def function(task):
        if task == "named":
            try:
                1 / 0
            except ZeroDivisionError as error:
                raise InvalidArgumentError("expected another task") from error
        if task == "picky":
            raise Picky("a code", "missing")
        if task == "closure":
            return lambda: task
        if task == "hang":
            time.sleep(1000)
        if task == "die":
            os.kill(os.getpid(), signal.SIGTERM)
        return task + offset
    return function
"""


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> engines.Work:
    """Work that has nothing to do with trials."""
    (tmp_path / "plain_work.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(tmp_path)
    return engines.Work("plain_work:maker", (100,), time_limit=0.5)


def test_any_work_runs_in_any_number_of_workers(plain: engines.Work) -> None:
    for workers in (0, 1, 2):
        found = dict(engines.run(plain, range(5), workers=workers))
        assert found == {task: task + 100 for task in range(5)}
    assert list(engines.run(plain, [], workers=2)) == []


def test_the_current_folder_is_found_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's random.py there must not hide Python's own; a function of the user's is found."""
    (tmp_path / "random.py").write_text("raise RuntimeError('the wrong one')")
    (tmp_path / "own_work.py").write_text(
        "import random\ndef maker():\n    return random.Random(0).__class__"
    )
    monkeypatch.chdir(tmp_path)
    assert len(list(engines.run(engines.Work("own_work:maker"), [0], workers=1))) == 1


def test_errors_reach_the_caller_whole(plain: engines.Work) -> None:
    with pytest.raises(InvalidArgumentError, match="expected another task") as raised:
        list(engines.run(plain, ["named"], workers=1))
    assert str(raised.value) == "expected another task"
    [note] = raised.value.__notes__
    # With its cause, and where both were raised.
    assert "ZeroDivisionError: division by zero" in note
    assert "plain_work.py" in note
    for task, message in (
        ("picky", "^picky: Picky: a code is missing$"),
        ("closure", "^closure: the result .* does not pickle: Can't (get|pickle) local object"),
        ("die", "^die: the worker was killed by SIGTERM$"),
        ("hang", "^hang: ran past its time limit of 0.5 s and was killed$"),
    ):
        with pytest.raises(WorkerError, match=message):
            list(engines.run(plain, [task], workers=1))
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        list(engines.run(engines.Work("no_such_module:maker"), [1], workers=1))


def test_an_engine_works_on_after_a_worker_died(plain: engines.Work) -> None:
    with engines.make("local", plain, 1) as engine:
        found: list[engines.Done] = []
        tasks = [1, "die", "hang", "closure", 2]
        while len(found) < len(tasks):
            if engine.free:
                engine.submit(tasks[len(found)])
            found += engine.wait(1)
    assert [done.task for done in found] == tasks
    assert [done.value for done in found] == [101, None, None, None, 102]
    assert [done.error is None for done in found] == [True, False, False, False, True]


def after_a_gpu_error(engine: engines.Engine) -> None:
    """Replace a worker after an error of its GPU.

    The context is broken, so a process that met one trains nothing else.
    """
    outcomes = finish(engine, [Trial(CODES[0], "mini-cls", seed) for seed in (0, 2, 1, 3, 4)])
    assert [o.status for o in outcomes] == ["ok", "ok", "failed", "ok", "ok"]
    before, again, _, after, later = (o.device for o in outcomes)
    assert before == again != after == later


def test_a_local_worker_that_met_a_gpu_error_is_replaced() -> None:
    with engines.make("local", job("on_gpu").work, 1) as engine:
        after_a_gpu_error(engine)


def test_gpus_are_shared_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert engines.gpus() == ["2", "5"]
    with engines.make("local", job("instant").work, 4) as engine:
        assert sorted(o.device or "" for o in finish(engine, [Trial(c, "mini-cls", 0) for c in CODES])) in (
            [["2"] * k + ["5"] * (4 - k) for k in range(5)]
        )
        environments = [
            Path(f"/proc/{w.handle[0].pid}/environ").read_bytes().split(b"\0") for w in engine.workers
        ]
    assert [b"CUDA_VISIBLE_DEVICES=2" in e for e in environments] == [True, False, True, False]
    assert [b"CUDA_VISIBLE_DEVICES=5" in e for e in environments] == [False, True, False, True]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert engines.gpus() == []


def test_gpus_are_counted_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert engines.gpus() == []
    monkeypatch.setattr(engines, "DEVICES", tmp_path)
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl"):
        (tmp_path / name).touch()
    assert engines.gpus() == ["0", "1", "2"]
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA (UUID: GPU-1)'\necho 'GPU 1: NVIDIA (UUID: GPU-2)'\n")
    tool.chmod(0o755)
    assert engines.gpus() == ["0", "1"]


def test_as_many_workers_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(16))
    small, large = recipes.get("mini-cls"), recipes.get("seg")
    assert small.resident
    assert not large.resident

    def workers(*chosen: recipes.Recipe, device: str | None = None) -> int:
        asked = dataclasses.replace(job("instant"), recipes={r.task: r for r in chosen}, device=device)
        return engines.default_workers(asked.work)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert workers(small) == workers(large) == 16
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    # Those whose data do not fit in memory have a GPU of their own.
    assert (workers(small), workers(large), workers(small, large)) == (8, 2, 2)
    assert workers(small, device="cpu") == 16


def test_some_workers_that_can_not_start_do_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As where one node of many is broken: all but the first worker end before they are ready."""
    (tmp_path / "uneven.py").write_text(
        "import os, time\n"
        "from pathlib import Path\n"
        "from fake_trainers import short as train\n"
        f"note = Path({str(tmp_path / 'note')!r})\n"
        "try: note.touch(exist_ok=False)\n"
        "except FileExistsError: os._exit(7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    trials = [Trial(CODES[k % 4], "mini-cls", k) for k in range(40)]
    monkeypatch.setattr(engines, "MAX_FALSE_STARTS", 2)
    with engines.make("local", dataclasses.replace(job("short"), trainer="uneven:train").work, 4) as engine:
        assert [o.status for o in finish(engine, trials)] == ["ok"] * 40
        # They are not tried forever.
        while len(engine.workers) > 1:
            engine.wait(1)
    said = "gave up a worker that can't start: the worker ended with exit status 7"
    assert capfd.readouterr().err.count(said) == 3


def test_a_worker_that_loses_its_device_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What stops a build at its start stops no one later: a worker that is renewed, on a node that broke."""
    (tmp_path / "leaving.py").write_text(
        "import os\n"
        "from pathlib import Path\n"
        "from fake_trainers import faulty as train\n"
        f"note = Path({str(tmp_path / 'note')!r})\n"
        "with open(note, 'a') as file: file.write('x')\n"
        "if note.stat().st_size > 2: raise RuntimeError('no GPU here')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    started = dataclasses.replace(job("faulty", data=str(tmp_path)), trainer="leaving:train")
    seeds = [fake_trainers.KILLED, *[fake_trainers.OK] * 5]
    with engines.make("local", started.work, 2) as engine:
        outcomes = finish(engine, [Trial(CODES[k % 4], "mini-cls", seed) for k, seed in enumerate(seeds)])
        while len(engine.workers) > 1:
            engine.wait(1)
    assert sorted(o.status for o in outcomes) == ["failed", *["ok"] * 5]
    assert "gave up a worker that can't start: no trainer 'leaving:train'" in capfd.readouterr().err


def test_workers_that_can_not_start_stop_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dying.py").write_text("import os\nos._exit(7)\n")
    (tmp_path / "lacking.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    recipe = recipes.get("mini-cls")
    for name, error, message in [
        ("dying:train", WorkerError, "5 workers in a row ended before they were ready: .* exit status 7"),
        (
            "lacking:train",
            InvalidArgumentError,
            "no trainer 'lacking:train': ModuleNotFoundError: No module named 'no_such_package'",
        ),
    ]:
        with (
            engines.make("local", Job({"mini-cls": recipe}, (), name).work, 1) as engine,
            pytest.raises(error, match=message),
        ):
            finish(engine, [Trial(CODES[0], "mini-cls", 0)])


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "nasbench_mr.data_builders.training.train", raising=False)
    with pytest.raises(MissingExtraError, match=r"training needs 'torch'.*nasbench-mr\[build\]"):
        Job({}, ()).load()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"'ray' needs 'ray'.*nasbench-mr\[cluster\]"):
        engines.make("ray", job("instant").work, 1)


def test_unknown_engines_and_options() -> None:
    with pytest.raises(UnknownNameError, match="no engine 'slurm': expected one of local, ray"):
        engines.make("slurm", job("instant").work)
    with pytest.raises(InvalidArgumentError, match="the engine 'local' has no option 'gpus'"):
        engines.make("local", job("instant").work, gpus=0.5)


def test_a_killed_builder_leaves_no_worker(tmp_path: Path) -> None:
    if (child := os.fork()) == 0:
        try:
            runner.build(
                "mini-cls", 2, 1, tmp_path, workers=2, data=tmp_path, trainer="fake_trainers:endless"
            )
        finally:
            os._exit(1)
    notes = tmp_path / "pids"
    while not notes.exists() or len(notes.read_text().split()) < 2:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert all(gone(int(process)) for process in notes.read_text().split())


def children(process: int) -> list[int]:
    """Return the processes that a process started and that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == process and fields[0] != "Z":
                found.append(int(status.parent.name))
    return found


def generate(folder: Path) -> None:
    imagenet.make(folder / "imagenet", train=5000, val=1, classes=2, workers=2)


def compare(folder: Path) -> None:
    options = {"budget": 200, "seeds": 2000, "workers": 2}
    search.compare(nasbench_mr.load("mini"), "mini-seg", "evolution", out=folder / "out", **options)


class Slow:
    """A data set whose reading hangs in the middle, as on a network file system that is gone."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[()]:
        if torch.utils.data.get_worker_info() is not None:
            time.sleep(1000)
        return ()


def load(folder: Path) -> None:
    (folder / "started.part").touch()
    read = inputs.Stream(Slow(), None, lambda sample, u: sample, 2)  # type: ignore[arg-type]
    for _ in read(iter([(torch.tensor([k]), torch.zeros(1, 1)) for k in range(2)])):
        pass


@pytest.mark.parametrize("long", [generate, compare, load])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_what_started_them(
    tmp_path: Path, long: Callable[[Path], None], how: signal.Signals
) -> None:
    (tmp_path / "work").mkdir()
    if (child := os.fork()) == 0:
        # Ray, if a test before used it here, has chosen another.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            long(tmp_path / "work")
        finally:
            os._exit(1)
    deadline = time.monotonic() + 60
    # In the middle of it: both workers are there, and something is written.
    while len(workers := children(child)) < 2 or not any((tmp_path / "work").rglob("*.[jp]*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child, how)
    os.waitpid(child, 0)
    assert all(gone(worker) for worker in workers)


def test_workers_end_though_a_fork_of_their_parent_lives(tmp_path: Path) -> None:
    """The fork holds the parent's end of the pipes open, so that they never hang up."""
    if (child := os.fork()) == 0:
        try:
            engine = engines.make("local", engines.Work("operator:methodcaller", ("bit_length",)), 1)
            forked = os.fork()
            if forked:
                (tmp_path / "new").write_text(f"{engine.workers[0].handle[0].pid} {forked}")
                (tmp_path / "new").rename(tmp_path / "pids")
            time.sleep(100)
        finally:
            os._exit(1)
    while not (tmp_path / "pids").exists():
        time.sleep(0.01)
    worker, forked = map(int, (tmp_path / "pids").read_text().split())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        assert not gone(forked, 0)
        assert gone(worker)
    finally:
        os.kill(forked, signal.SIGKILL)


def test_what_trainers_print_is_not_on_stdout(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with engines.make("local", job("noting", data=str(tmp_path)).work, 1) as engine:
        finish(engine, [Trial(CODES[0], "mini-cls", 0)])
    out, err = capfd.readouterr()
    assert out == ""
    assert "a trainer's print" in err


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Yield a Ray cluster of two nodes with a core each, on this machine."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_worker_niceness", "0")
    # Not below tmp_path: the names of sockets are limited to 107 bytes.
    folder = tempfile.mkdtemp(prefix="ray")
    # Where Ray notes the cluster's address; it expects that folder even if its own is another.
    Path(ray._private.utils.get_ray_address_file(None)).parent.mkdir(parents=True, exist_ok=True)
    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    made = Cluster(True, head_node_args={**node, "temp_dir": folder, "include_dashboard": False})
    try:
        made.add_node(**node)
        ray.init(made.address, log_to_driver=False, logging_level="ERROR")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        patch.undo()


def test_ray_runs_the_same_trials_and_survives_what_local_does(cluster: object, tmp_path: Path) -> None:
    seeds = [fake_trainers.OK, fake_trainers.CORRUPT, fake_trainers.HANGS_IN_C, fake_trainers.KILLED]
    options = {"workers": 2, "retries": 0, "time_limit": 1.0, "trainer": "fake_trainers:faulty"}
    tables = {}
    for engine in ("local", "ray"):
        out = tmp_path / engine
        out.mkdir()
        runner.build("mini-cls", 2, seeds, out, engine=engine, data=out, **options)  # type: ignore[arg-type]
        tables[engine] = pd.read_parquet(out / "tables/mini-cls.parquet")
    frame = tables["ray"]
    same = [*space.NAMES, "seed", "top1", "top5", "macs", "status", "train_seconds"]
    assert frame[same].equals(tables["local"][same])
    errors = {seed: set(frame[frame.seed == seed].error) for seed in seeds}
    assert errors[fake_trainers.CORRUPT] == {"DatasetError: photo.jpg is not an image: broken data stream"}
    assert errors[fake_trainers.HANGS_IN_C] == {"ran past its time limit of 1 s and was killed"}
    [died] = errors[fake_trainers.KILLED]
    assert "the worker or its node died" in died


def test_what_a_search_is_made_of_goes_through_ray(cluster: object, known_release: Path) -> None:
    import ray

    asked = Objective.table(nasbench_mr.load(known_release), "seg", max_macs=2e9)
    searcher = search.make("evolution", asked, 0)
    model = predictors.make("ridge").fit(asked.domain.codes, asked.domain.codes.sum(axis=1))

    def work(asked: Objective, searcher: search.Searcher, model: predictors.Predictor) -> tuple[Any, ...]:
        trace = search.run(searcher, asked, 20)
        return trace, asked, searcher, searcher.domain, model, model.predict(trace.codes)[0]

    there = ray.get(ray.remote(work).remote(asked, searcher, model))
    assert all(map(same, work(asked, searcher, model), there))


def test_a_ray_worker_that_met_a_gpu_error_is_replaced(cluster: object) -> None:
    with engines.make("ray", job("on_gpu").work, 1) as engine:
        after_a_gpu_error(engine)


def test_a_ray_trainer_that_does_not_exist(cluster: object, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="no trainer 'fake_trainers:none'"):
        runner.build("mini-cls", 1, 1, tmp_path, engine="ray", workers=1, trainer="fake_trainers:none")


def test_a_share_that_no_node_has(cluster: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"no room for a worker of 1 cores and 0\.5 GPUs"):
        engines.make("ray", job("instant").work, gpus=0.5)
    with pytest.raises(InvalidArgumentError, match="expected shares of at least 0, and cores"):
        engines.make("ray", job("instant").work, cpus=0.0)


def test_a_ray_node_removed_in_the_middle(cluster: object, tmp_path: Path) -> None:
    codes = runner.draw_codes(20)
    with runner.Builder("mini-cls", tmp_path, "ray", trainer="fake_trainers:short", retries=5) as builder:
        trials = runner.plan(["mini-cls"], codes, [0, 1])
        record, removed = builder._record, []

        def recording(outcomes: list[Outcome]) -> None:
            record(outcomes)
            if len(builder.records) >= 10 and not removed:
                removed.append(cluster.remove_node(next(iter(cluster.worker_nodes))))  # type: ignore[attr-defined]

        builder._record = recording  # type: ignore[method-assign, assignment]
        report = builder.run(trials)
        runner.compact(builder.store, builder.tasks.values())
    assert removed
    assert report.tasks["mini-cls"].ok == 40
    frame = pd.read_parquet(tmp_path / "tables/mini-cls.parquet")
    assert len(frame) == len(frame[[*space.NAMES, "seed"]].drop_duplicates()) == 40
    assert set(frame.status) == {"ok"}
