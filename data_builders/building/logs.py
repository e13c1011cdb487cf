"""Where a build's learning curves go while it runs: CSV files, TensorBoard, MLflow, Weights & Biases.

    log = open_log("csv", Path("out/logs"), trial)
    log({"epoch": 1, "loss": 2.3, "top1": 18.2}), log.close()

One log a trial, opened in the worker that trains it. Each needs its own package, which no extra installs.
"""

from __future__ import annotations

import abc
import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench_mr import space
from nasbench_mr.extras import requires
from nasbench_mr.plugins import Registry

if TYPE_CHECKING:
    from nasbench_mr.data_builders.building.trial import Trial

#: What MLflow calls the experiment, and Weights & Biases the project.
PROJECT = "nasbench-mr"


class Log(abc.ABC):
    """Takes the points of one trial's learning curve.

    Args:
        folder: of the build's logs; each kind has a folder in it, if it needs one.
        trial: whose curve it is.
    """

    @abc.abstractmethod
    def __init__(self, folder: Path, trial: Trial): ...

    @abc.abstractmethod
    def __call__(self, point: Mapping[str, float]) -> None:
        """Log the point of an epoch, see `train(..., on_epoch=...)`."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the log."""

    @staticmethod
    @abc.abstractmethod
    def check() -> None:
        """Raise `MissingExtraError` where its package is not installed."""


def known(point: Mapping[str, float]) -> dict[str, float]:
    """Return the values of a point, without the epoch and what is unknown."""
    return {name: float(value) for name, value in point.items() if name != "epoch" and math.isfinite(value)}


class CsvLog(Log):
    """A file a trial, `csv/<task>-<code>-<seed>.csv`; a resumed trial adds its rows to it."""

    def __init__(self, folder: Path, trial: Trial):
        place = folder / "csv" / f"{trial.key}.csv"
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place, "ab+") as file:  # a killed trial may have left a part of a row
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        self._file = place.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)

    def __call__(self, point: Mapping[str, float]) -> None:
        if self._file.tell() == 0:
            self._writer.writerow(point)
        self._writer.writerow(point.values())
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    @staticmethod
    def check() -> None:
        """Need nothing."""


class TensorBoardLog(Log):
    """Event files in `tensorboard/<task>-<code>-<seed>/`: `tensorboard --logdir out/logs/tensorboard`."""

    def __init__(self, folder: Path, trial: Trial):
        self.check()
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard" / trial.key))

    def __call__(self, point: Mapping[str, float]) -> None:
        for name, value in known(point).items():
            self._writer.add_scalar(name, value, int(point["epoch"]))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    @staticmethod
    def check() -> None:
        with requires(None, "the log 'tensorboard'"):
            import tensorboard  # noqa: F401


class MLflowLog(Log):
    """A run a trial, in the experiment "nasbench-mr" of the server that $MLFLOW_TRACKING_URI names."""

    def __init__(self, folder: Path, trial: Trial):
        self.check()
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient()
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = self._client.create_experiment(PROJECT) if found is None else found.experiment_id
        tags = {"mlflow.runName": trial.key, **{name: str(value) for name, value in about(trial).items()}}
        self._run: str = self._client.create_run(experiment, tags=tags).info.run_id

    def __call__(self, point: Mapping[str, float]) -> None:
        for name, value in known(point).items():
            self._client.log_metric(self._run, name, value, step=int(point["epoch"]))

    def close(self) -> None:
        self._client.set_terminated(self._run)

    @staticmethod
    def check() -> None:
        with requires(None, "the log 'mlflow'"):
            import mlflow  # noqa: F401


class WandbLog(Log):
    """A run a trial, in the project "nasbench-mr", with files in `wandb/`; $WANDB_MODE says where it goes."""

    def __init__(self, folder: Path, trial: Trial):
        self.check()
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project=PROJECT,
            id=trial.key,
            name=trial.key,
            config=about(trial),
            dir=str(folder),
            resume="allow",
            reinit=True,
        )

    def __call__(self, point: Mapping[str, float]) -> None:
        self._run.log(known(point), step=int(point["epoch"]))

    def close(self) -> None:
        self._run.finish()

    @staticmethod
    def check() -> None:
        with requires(None, "the log 'wandb'"):
            import wandb  # noqa: F401


LOGS = Registry[type[Log]](
    "log", {"csv": CsvLog, "tensorboard": TensorBoardLog, "mlflow": MLflowLog, "wandb": WandbLog}
)


def about(trial: Trial) -> dict[str, Any]:
    """Return what a trial is, for a log's settings."""
    return {"task": trial.task, "seed": trial.seed, "code": space.to_string(trial.code)}


def check(name: str) -> None:
    """Raise `UnknownNameError` or `MissingExtraError` unless there is such a log, and its package."""
    LOGS[name].check()


def open_log(name: str, folder: Path, trial: Trial) -> Log:
    """Return a new log of a trial; raises as `check`."""
    check(name)
    return LOGS[name](folder, trial)
