"""One trial of a build, as every engine runs it.

A trial is one training of one code for one task with one seed. `Job.work` is what the engines of `workers`
do: they carry the job to each worker once and then trials, and `run_trial` trains each. Light to import: what
trains is named by its address and imported in the workers only.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import importlib
import inspect
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench_mr import tasks, workers
from nasbench_mr.data_builders.building import logs
from nasbench_mr.data_builders.training import splits
from nasbench_mr.data_builders.training.recipes import Recipe, register
from nasbench_mr.errors import (
    DatasetError,
    IntegrityError,
    InvalidArgumentError,
    MissingExtraError,
    RecipeError,
    StorageError,
)
from nasbench_mr.extras import requires
from nasbench_mr.weights import code_name

if TYPE_CHECKING:
    from nasbench_mr.tasks import Task

#: The address of what trains, "module:function".
TRAINER = "nasbench_mr.data_builders.training.train:train"
#: Workers that share one GPU, if not told: small networks leave most of it idle.
PER_GPU = 4
#: Longest text in a table's column `error`.
MAX_ERROR = 500


@dataclass(frozen=True)
class Trial:
    """What to train: a code (a tuple of integers), the task's name, the seed."""

    code: tuple[int, ...]
    task: str
    seed: int

    def __str__(self) -> str:
        return f"{self.task}, seed {self.seed}, code {','.join(map(str, self.code))}"

    @property
    def key(self) -> str:
        """A short file name of its own."""
        return f"{self.task}-{code_name(self.code)}-{self.seed}"


@dataclass(frozen=True)
class Job:
    """What all trials of a build share.

    Attributes:
        recipes: by task.
        tasks: what workers register, so they may be of the user's own: those of the recipes, and of what
            these start from.
        trainer: "module:function" with the signature of `training.train`.
        data, device: handed to it.
        checkpoints: a folder where trials in progress are kept, so that a killed one resumes; None: nowhere.
        time_limit: seconds after which a trial is killed; None: never.
        weights: a folder where the trained networks are kept (`train(..., weights=...)`); None: nowhere.
        on_epoch: the address of a function called with the trial and each point of its learning curve.
        log: a log of `logs.LOGS` that each point goes to, in the folder `logs`.
        pretraining: the recipes that `recipes` start from; a worker registers them, too.
    """

    recipes: Mapping[str, Recipe]
    tasks: tuple[Task, ...]
    trainer: str = TRAINER
    data: str | None = None
    device: str | None = None
    checkpoints: str | None = None
    time_limit: float | None = None
    weights: str | None = None
    on_epoch: str | None = None
    log: str | None = None
    logs: str = "logs"
    pretraining: tuple[Recipe, ...] = ()

    @property
    def work(self) -> workers.Work:
        """What an engine does with trials.

        Small networks share a GPU, `PER_GPU` on each. One whose data do not fit in memory (a recipe that is
        not `resident`) is large, and has one of its own.
        """
        share = PER_GPU if all(recipe.resident for recipe in self.recipes.values()) else 1
        return workers.Work(
            f"{__name__}:runner",
            (self,),
            gpu=self.device != "cpu",
            per_gpu=share,
            time_limit=self.time_limit,
        )

    def load(self) -> Callable[..., Any]:
        """Register the tasks and import what trains.

        Raises:
            InvalidArgumentError: there is no such function, or no such device.
            MissingExtraError: it needs a package that is not installed.
        """
        for task in self.tasks:
            tasks.register(task)
        for recipe in self.pretraining:
            register(recipe)
        module = self.trainer.partition(":")[0]
        if self.trainer == TRAINER:
            with requires("build", "training"):
                importlib.import_module(module)
        function = loaded(self.trainer, "trainer")
        # Now, and not as an error of every trial.
        if self.trainer == TRAINER:
            sys.modules[module].choose_device(self.device)
        if self.on_epoch is not None:
            loaded(self.on_epoch, "on_epoch")
        if self.log is not None:
            logs.check(self.log)
        return function

    @contextlib.contextmanager
    def options(self, trial: Trial) -> Iterator[dict[str, Any]]:
        """Yield what the trainer is told beside the trial: only what was asked for."""
        found: dict[str, Any] = {}
        if (place := self.weights_of(trial)) is not None:
            found["weights"] = place
        own = None if self.on_epoch is None else loaded(self.on_epoch, "on_epoch")
        log = None if self.log is None else logs.open_log(self.log, Path(self.logs), trial)

        def tell(point: dict[str, float]) -> None:
            if log is not None:
                log(point)
            if own is not None:
                own(trial, point)

        if own is not None or log is not None:
            found["on_epoch"] = tell
        with contextlib.closing(log) if log is not None else contextlib.nullcontext():
            yield found

    def weights_of(self, trial: Trial) -> Path | None:
        """Return where a trained network is kept."""
        return None if self.weights is None else Path(self.weights) / f"{trial.key}.safetensors"

    def checkpoint(self, trial: Trial) -> Path | None:
        """Return where a trial in progress is kept; files whose names begin with this one belong to it."""
        if self.checkpoints is None:
            return None
        return Path(self.checkpoints) / f"{trial.key}-{self.recipes[trial.task].digest}.safetensors"

    def described(self, task: str) -> splits.Described | None:
        """Return what tells a task's data here from others; None where another trainer reads them."""
        if self.trainer != TRAINER:
            return None
        return splits.described_once(splits.named(self.recipes[task], self.data))

    def discard(self, trial: Trial) -> None:
        """Remove what is kept of a trial, if anything is."""
        if (path := self.checkpoint(trial)) is not None and path.parent.is_dir():
            for kept in path.parent.glob(f"{glob.escape(path.name)}*"):
                kept.unlink(missing_ok=True)


#: How the error of a trial begins that could not write its files, and of one that could not read its data.
NO_SPACE, NO_DATA = "no space: ", "DatasetError: "


@dataclass(frozen=True)
class Outcome:
    """What became of a trial; metrics, curve, epochs, seconds and device as in `training.TrainResult`.

    Attributes:
        status: "ok", "diverged" or "failed"; `error` says why.
        busy: seconds that the worker spent on it.
        data: what tells the data that its worker has from others, where `training.train` trained it.
        fatal: an error that all other trials would meet too: the build stops.
        spoilt: the worker must not be used again.
    """

    trial: Trial
    status: str
    error: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: Mapping[str, list[float]] = field(default_factory=dict)
    epochs: int | None = None
    seconds: float | None = None
    device: str | None = None
    busy: float = 0.0
    data: splits.Described | None = None
    fatal: Exception | None = None
    spoilt: bool = False

    @classmethod
    def of(cls, done: workers.Done) -> Outcome:
        """Return what became of a trial that an engine did; one whose worker died has failed."""
        if isinstance(done.value, Outcome):
            return done.value
        return cls(done.task, "failed", _line(str(done.error)), busy=done.busy)

    @property
    def no_space(self) -> bool:
        """It failed for want of space for its files."""
        return self.status == "failed" and (self.error or "").startswith(NO_SPACE)

    @property
    def excused(self) -> bool:
        """It failed for want of space or of its data: no fault of its own, so the next run tries it again."""
        return self.no_space or (self.status == "failed" and (self.error or "").startswith(NO_DATA))


def loaded(place: str, kind: str) -> Callable[..., Any]:
    """Return the function at an address.

    Args:
        place: "module:function".
        kind: what it is, for the error.

    Raises:
        InvalidArgumentError: there is no such function.
    """
    module, _, name = place.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (AttributeError, ValueError) as error:
        raise InvalidArgumentError(f"no {kind} {place!r}: {error}; expected MODULE:FUNCTION") from None
    except Exception as error:  # of whatever a module of the user's does when it is imported
        raise InvalidArgumentError(f"no {kind} {place!r}: {type(error).__name__}: {error}") from None
    return function


def address(trainer: str | Callable[..., Any], kind: str = "trainer") -> str:
    """Return the address of what trains, which errors call a `kind`; a function has to be importable."""
    if isinstance(trainer, str):
        return trainer
    module, name = inspect.getmodule(trainer), getattr(trainer, "__qualname__", "")
    if module is None or module.__name__ == "__main__" or getattr(module, name, None) is not trainer:
        raise InvalidArgumentError(
            f"the {kind} {trainer!r} can't be imported by workers; expected a function of a module"
        )
    return f"{module.__name__}:{name}"


def runner(job: Job) -> Callable[[Trial], Outcome]:
    """Return what a worker does with each trial."""
    return functools.partial(run_trial, job=job, train=job.load())


def run_trial(trial: Trial, job: Job, train: Callable[..., Any]) -> Outcome:
    """Train one network. Whatever goes wrong is in the outcome, but for what ends the process.

    Its checkpoint stays until the outcome is written (`Job.discard`).
    """
    recipe = job.recipes[trial.task]
    checkpoint = job.checkpoint(trial)
    start = time.perf_counter()
    fatal: Exception | None = None
    try:
        data = job.described(trial.task)
        with job.options(trial) as options:
            result = train(
                trial.code,
                recipe,
                trial.seed,
                job.device,
                data=job.data,
                checkpoint=checkpoint,
                progress=False,
                **options,
            )
        return Outcome(
            trial,
            result.status,
            _line(result.error),
            {name: float(value) for name, value in result.metrics.items()},
            {name: [float(v) for v in values] for name, values in result.curve.items()},
            int(result.epochs),
            float(result.seconds),
            str(result.device),
            time.perf_counter() - start,
            data,
        )
    except (MissingExtraError, RecipeError) as error:
        fatal, text = workers.portable(error), str(error)
    except Exception as error:
        if isinstance(error, DatasetError) and job.trainer == TRAINER:
            # All trials read the same data, so all would end so.
            fatal = error
        if isinstance(error, IntegrityError):
            job.discard(trial)  # Damaged: the next attempt starts anew.
        text = f"{type(error).__name__}: {error}"
        if type(error).__name__ in ("OutOfMemoryError", "MemoryError"):
            text = f"out of memory: {text}"
        if isinstance(error, StorageError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            text = f"{NO_SPACE}{text}"
    busy = time.perf_counter() - start
    return Outcome(trial, "failed", _line(text), busy=busy, fatal=fatal, spoilt=_gpu_in_use())


def _gpu_in_use() -> bool:
    """Whether this process has used one: after an error, its memory may stay taken and its context broken."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def _line(text: str | None) -> str | None:
    """One line of bounded length, for a table."""
    if text is None:
        return None
    # A table takes UTF-8 alone, and a name on disk can be anything.
    text = " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_ERROR else text[: MAX_ERROR - 3] + "..."
