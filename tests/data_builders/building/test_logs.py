"""Learning curves that leave a build while it runs: a function of the user's, and the logs."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import fake_trainers
import numpy as np
import pandas as pd
import pytest

from nasbench_mr import cli, space
from nasbench_mr.data_builders.building import logs, runner
from nasbench_mr.data_builders.building.trial import Trial
from nasbench_mr.errors import InvalidArgumentError, MissingExtraError, UnknownNameError

CODE = tuple(space.sample(1, seed=0)[0].tolist())
TRIAL = Trial(CODE, "mini-cls", 3)
POINTS = [
    {"epoch": 1, "top1": float("nan"), "loss": 2.0, "lr": 0.1, "seconds": 1.0},
    {"epoch": 2, "top1": 40.0, "loss": 1.0, "lr": 0.0, "seconds": 2.0},
]


def test_a_build_tells_each_epoch_to_a_function_and_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    (tmp_path / "codes").write_text(space.to_string(CODE))
    arguments = ["--codes", str(tmp_path / "codes"), "--seeds", "2", "--out", str(tmp_path / "out")]
    arguments += ["--trainer", "fake_trainers:telling", "--on-epoch", "fake_trainers:note_epoch"]
    assert cli.main(["build", "mini-cls", *arguments, "--log", "csv", "--workers", "1"]) == 0
    final = [fake_trainers.top1(CODE, seed) for seed in (0, 1)]
    expected = [f"{seed} {k} {final[seed] * k / 2:g}" for seed in (0, 1) for k in (1, 2)]
    assert sorted((tmp_path / "notes").read_text().splitlines()) == expected
    for seed in (0, 1):
        name = Trial(CODE, "mini-cls", seed).key
        log = pd.read_csv(tmp_path / "out/logs/csv" / f"{name}.csv")
        assert log["epoch"].tolist() == [1, 2]
        assert log["top1"].tolist() == [final[seed] / 2, final[seed]]
        assert list(log) == ["epoch", "top1", "top5", "loss", "lr", "seconds"]


def tell(name: str, folder: Path) -> None:
    log = logs.open_log(name, folder, TRIAL)
    for point in POINTS:
        log(point)
    log.close()


def test_a_resumed_trial_adds_to_its_file(tmp_path: Path) -> None:
    tell("csv", tmp_path)
    tell("csv", tmp_path)
    assert pd.read_csv(tmp_path / "csv" / f"{TRIAL.key}.csv")["epoch"].tolist() == [1, 2, 1, 2]


class Recorder(types.ModuleType):
    """A package that records the calls of its functions, and of what they return."""

    def __init__(self, name: str, calls: list[Any]):
        super().__init__(name)
        self._told = calls

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def record(*args: Any, **named: Any) -> Any:
            self._told.append((name, args, named))
            return None if name == "get_experiment_by_name" else Recorder(name, self._told)

        return record


def told(monkeypatch: pytest.MonkeyPatch, *modules: str) -> list[Any]:
    calls: list[Any] = []
    for name in modules:
        monkeypatch.setitem(sys.modules, name, Recorder(name, calls))
    return calls


def test_tensorboard_gets_what_is_known_by_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = told(monkeypatch, "tensorboard", "torch.utils.tensorboard")
    tell("tensorboard", tmp_path)
    assert calls[0] == ("SummaryWriter", (str(tmp_path / "tensorboard" / TRIAL.key),), {})
    scalars = [args for name, args, _ in calls if name == "add_scalar"]
    assert scalars[:3] == [("loss", 2.0, 1), ("lr", 0.1, 1), ("seconds", 1.0, 1)]
    assert ("top1", 40.0, 2) in scalars
    assert len(scalars) == 7
    assert calls[-1][0] == "close"


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    """By its own reader, where it is installed."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tell("tensorboard", tmp_path)
    read = events.EventAccumulator(str(tmp_path / "tensorboard" / TRIAL.key))
    read.Reload()
    found = {tag: [(each.step, each.value) for each in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    # Values are float32; the first top1 is unknown.
    assert found == {
        "top1": [(2, 40.0)],
        "loss": [(1, 2.0), (2, 1.0)],
        "lr": [(1, np.float32(0.1)), (2, 0.0)],
        "seconds": [(1, 1.0), (2, 2.0)],
    }


def test_mlflow_gets_a_run_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = told(monkeypatch, "mlflow", "mlflow.tracking")
    monkeypatch.setattr(Recorder, "info", types.SimpleNamespace(run_id="r1"), raising=False)
    tell("mlflow", tmp_path)
    (run,) = [named for name, _, named in calls if name == "create_run"]
    assert run["tags"] == {
        "mlflow.runName": TRIAL.key, "task": "mini-cls", "seed": "3", "code": space.to_string(CODE)
    }  # fmt: skip
    metrics = [(*args, named["step"]) for name, args, named in calls if name == "log_metric"]
    assert ("r1", "top1", 40.0, 2) in metrics
    assert len(metrics) == 7
    assert calls[-1][:2] == ("set_terminated", ("r1",))


def test_wandb_gets_a_run_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = told(monkeypatch, "wandb")
    tell("wandb", tmp_path)
    assert calls[0][2]["config"] == {"task": "mini-cls", "seed": 3, "code": space.to_string(CODE)}
    assert (calls[0][2]["project"], calls[0][2]["id"]) == ("nasbench-mr", TRIAL.key)
    assert calls[1] == ("log", ({"loss": 2.0, "lr": 0.1, "seconds": 1.0},), {"step": 1})
    assert calls[-1][0] == "finish"


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_named_before_anything_is_trained(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"the log '{name}' needs '{name}', .*: pip install {name}$"):
        runner.Builder("mini-cls", tmp_path / "out", log=name)
    assert not (tmp_path / "out").exists()


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no log 'cvs': did you mean 'csv'"):
        runner.Builder("mini-cls", tmp_path, log="cvs")
    with pytest.raises(InvalidArgumentError, match=r"the on_epoch .* can't be imported by workers"):
        runner.Builder("mini-cls", tmp_path, on_epoch=lambda trial, point: None)
    with pytest.raises(InvalidArgumentError, match=r"weights and logs are kept in a folder; --out is mock:"):
        runner.Builder("mini-cls", "mock://bucket", keep_weights=True)
    builder = runner.Builder("mini-cls", tmp_path, trainer="fake_trainers:telling", on_epoch="no_module:f")
    with pytest.raises(InvalidArgumentError, match="no on_epoch 'no_module:f': ModuleNotFoundError"):
        builder.job.load()
    assert json.dumps(logs.about(TRIAL))


def test_a_row_that_a_kill_cut_is_dropped(tmp_path: Path) -> None:
    place = tmp_path / "csv" / f"{TRIAL.key}.csv"
    place.parent.mkdir()
    place.write_bytes(b"epoch,loss\r\n1,2.5\r\n2,1.")
    log = logs.CsvLog(tmp_path, TRIAL)
    log({"epoch": 2, "loss": 1.5})
    log.close()
    assert place.read_bytes() == b"epoch,loss\r\n1,2.5\r\n2,1.5\r\n"
