"""Many trials: `build` trains codes for tasks and seeds, on one machine or a cluster, and writes the tables.

    report = build(["mini-cls", "mini-seg"], codes=200, seeds=1, out="out", workers=2)
    release("out", "mini", "1.0.0")

What is finished is in `out` within seconds (see `store`), so a build that ended for whatever reason resumes
when the same command runs again. A trial that fails is recorded with its error and tried again,
a bounded number of times over all runs; nothing else waits for it. One that found no space for its files, or
could not read its data, is tried again by the next run, however often. Nothing here imports torch.
"""

from __future__ import annotations

import functools
import heapq
import importlib
import io
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from nasbench_mr import checks, cost, files, space, table, tasks
from nasbench_mr import release as releases
from nasbench_mr import workers as engines
from nasbench_mr.arrays import Codes, Floats, key
from nasbench_mr.checks import at_least, flag, json_object, limit, positive
from nasbench_mr.data_builders import datasets
from nasbench_mr.data_builders.building import logs
from nasbench_mr.data_builders.building.store import CURVE, Store, parse_curve, to_bytes, to_part
from nasbench_mr.data_builders.building.trial import TRAINER, Job, Outcome, Trial, address
from nasbench_mr.data_builders.training import recipes, splits
from nasbench_mr.data_builders.training.recipes import Recipe
from nasbench_mr.errors import (
    DatasetError,
    InfeasibleError,
    InvalidArgumentError,
    OutOfSpaceError,
    RecipeError,
    ReleaseError,
    TableError,
    UnknownNameError,
)
from nasbench_mr.tasks import Task

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.fs import FileSystem

#: Seconds between two part files: short, so that little is lost; long enough that short trials share a file.
FLUSH = 1.0
#: Seconds that a trial may be given at most: a year.
MAX_TIME = 3.2e7
#: Draws of 256 codes that may bring nothing new, one after the other.
_BARREN = 100


@dataclass
class Record:
    """What `out` knows of a trial: its last outcome, and how often it has failed."""

    outcome: Outcome
    failures: int = 0

    @property
    def done(self) -> bool:
        return self.outcome.status != "failed"


@dataclass
class TaskReport:
    """A task's trials in a report."""

    planned: int = 0
    before: int = 0
    ok: int = 0
    diverged: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass
class Report:
    """What a build did.

    Attributes:
        tasks: by task: trials planned, done before, and what became of the others; their seconds.
        failures: the last outcome of every trial that has no result, and of those that diverged.
        wall, busy: seconds of this run, and the sum of its trials'.
        workers: how many ran at once.
        without_weights: trials done before whose networks were to be kept and are not there.
    """

    tasks: dict[str, TaskReport] = field(default_factory=dict)
    failures: list[Outcome] = field(default_factory=list)
    wall: float = 0.0
    busy: float = 0.0
    workers: int = 0
    without_weights: int = 0

    @property
    def utilisation(self) -> float:
        """Share of the workers' time that trials took."""
        return self.busy / (self.wall * self.workers) if self.wall and self.workers else math.nan


@dataclass(frozen=True)
class Forecast:
    """What a build would take.

    Attributes:
        tasks: one row a task: trials, those done, those given up, those to do, predicted seconds of one and
            hours of all on one worker; NaN where `out` has no trial of the task yet.
        workers: trials at once.
        seconds: predicted time until the last one ends.
    """

    tasks: list[dict[str, Any]]
    workers: int
    seconds: float


class Rates:
    """Seconds of a trial from its code's MACs: a line for each task, through the trials that are done."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[float, float]]] = {}
        self._lines: dict[str, tuple[float, float]] = {}

    def add(self, task: str, macs: float, seconds: float) -> None:
        """Learn from one trial."""
        self._seen.setdefault(task, []).append((macs, seconds))
        self._lines.pop(task, None)

    def line(self, task: str) -> tuple[float, float] | None:
        """(seconds, seconds per MAC) of a task, neither negative; None where nothing is known."""
        if task not in self._seen:
            return None
        if task not in self._lines:
            self._lines[task] = fit_line(np.array(self._seen[task]))
        return self._lines[task]

    def seconds(self, task: str, macs: Floats) -> Floats:
        """Predicted seconds of `(n,)` trials; NaN where nothing is known of the task."""
        line = self.line(task)
        return np.full(len(macs), np.nan) if line is None else line[0] + line[1] * macs


def fit_line(seen: Floats) -> tuple[float, float]:
    """Least squares of `(n, 2)` [MACs, seconds] with both coefficients at least 0."""
    macs, seconds = seen.T
    spread = float(((macs - macs.mean()) ** 2).sum())
    slope = float(((macs - macs.mean()) * (seconds - seconds.mean())).sum()) / spread if spread else 0.0
    offset = float(seconds.mean() - slope * macs.mean())
    if slope < 0:
        return float(seconds.mean()), 0.0
    if offset < 0:
        return 0.0, float((macs * seconds).sum() / (macs**2).sum())
    return offset, slope


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Time until the last trial ends when each worker takes the next one as it becomes free."""
    free = [0.0] * workers
    for duration in seconds:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


# --- What to train ------------------------------------------------------------------------------------


def draw_codes(n: int, seed: int = 0, scheme: str = "published", max_macs: float | None = None) -> Codes:
    """Return `n` distinct random codes, `(n, 27)`; those of a smaller `n` are the first ones of a larger.

    Args:
        seed, scheme: as in `space.sample`.
        max_macs: codes with more multiply-accumulates (`cost.macs`) are passed over.

    Raises:
        InvalidArgumentError: n is less than 1, or the seed than 0.
        InfeasibleError: codes of this scheme within the limit are too rare to draw n of them.
    """
    n, seed = at_least(1, "the number of codes", n), at_least(0, "the seed of codes", seed)
    most = limit("max_macs", max_macs)
    found: dict[bytes, space.Code] = {}
    chunk = barren = 0
    while len(found) < n:
        drawn = space.sample(256, np.random.default_rng((seed, chunk)), scheme)
        if most < math.inf:
            drawn = drawn[cost.macs(drawn) <= most]
        before = len(found)
        for code in drawn:
            found.setdefault(key(code), tuple(code.tolist()))
        chunk += 1
        barren = 0 if len(found) > before else barren + 1
        if barren == _BARREN:
            limited = f" of at most {most:g} MACs" if most < math.inf else ""
            raise InfeasibleError(
                f"found {len(found)} of {n} {scheme} codes{limited} among {256 * chunk:,} drawn; "
                "ask for fewer, or choose another scheme or limit"
            )
    return np.array(list(found.values())[:n], np.int16).reshape(n, space.DIM)


def read_codes(path: str | os.PathLike[str]) -> Codes:
    """Return codes from a file, `(n, 27)`: Parquet or CSV with their columns, or text with one code a line.

    A line is what `space.parse` reads: 27 integers, or the published string. Empty lines and those that start
    with # are skipped. Repeated codes count once.

    Raises:
        InvalidArgumentError: the file is missing, unreadable or has no codes.
        OutOfSpaceError: a code is malformed; names its line.
    """
    path = Path(path)
    try:
        if path.suffix in (".parquet", ".csv"):
            import pandas as pd

            if path.suffix == ".parquet":
                frame = table.read_arrow(path).to_pandas(ignore_metadata=True)
            else:
                frame = pd.read_csv(io.BytesIO(files.read_small(path)))
            codes = space.check(frame[list(space.NAMES)].to_numpy())
        else:
            lines = enumerate(files.read_small(path).decode("utf-8").splitlines(), 1)
            codes = np.array([_parse_line(path, n, t) for n, t in lines if t.strip() and t.strip()[0] != "#"])
    except OutOfSpaceError:
        raise
    except (OSError, KeyError, TypeError, ValueError, OverflowError) as error:  # of pandas and decoding
        text = " ".join(str(error).split())
        raise InvalidArgumentError(f"can't read codes from {path}: {text}") from None
    if not len(codes):
        raise InvalidArgumentError(f"{path} has no codes")
    return np.array(list(dict.fromkeys(map(tuple, codes.tolist()))), np.int16)


def _parse_line(path: Path, number: int, text: str) -> space.Code:
    try:
        return space.parse(text)
    except ValueError as error:
        raise type(error)(f"{path}, line {number}: {error}") from None


def plan(names: Iterable[str], codes: Codes, seeds: Sequence[int]) -> list[Trial]:
    """All trials of these codes, for these tasks and seeds."""
    rows = [tuple(code) for code in codes.tolist()]
    return [Trial(code, task, seed) for task in names for code in rows for seed in seeds]


# --- Running ------------------------------------------------------------------------------------------


class Builder:
    """Trains trials into one output folder; `build` in pieces, for those who ask for more as they go.

    The engine starts with the first trial and stays until `close`. Use it in a with block.

    Args:
        names: recipes, by name or as they are, each of another task.
        out, filesystem: see `Store`.
        engine: "local" or "ray".
        workers: trials at once; None: as many as there is room for.
        data, device, checkpoints, time_limit: see `trial.Job`.
        trainer: what trains, with the signature of `training.train`; a function of a module, or its address.
        retries: how often a failed trial is tried again, over all runs.
        keep_weights: whether the trained networks are kept, in `weights/` of `out`, a folder.
        on_epoch: a function of a module, or its address, called in the workers after each epoch of a trial
            with the `Trial` and the point of its learning curve (see `training.train`).
        log: "csv", "tensorboard", "mlflow" or "wandb": where those points go as well; files are in `logs/`.
        unregistered: tasks of the recipes that are not in the registry.
        options: of the engine.

    Raises:
        RecipeError: no such recipe, two of one task, or `out` was built with another one.
        UnknownTaskError: a recipe's task is not registered.
        StorageError: `out` can't be read or written.
    """

    def __init__(
        self,
        names: str | Recipe | Sequence[str | Recipe],
        out: str | os.PathLike[str],
        engine: str = "local",
        *,
        workers: int | None = None,
        data: str | os.PathLike[str] | None = None,
        device: str | None = None,
        retries: int = 2,
        time_limit: float | None = None,
        checkpoints: str | os.PathLike[str] | None = None,
        trainer: str | Callable[..., Any] = TRAINER,
        keep_weights: bool = False,
        on_epoch: str | Callable[..., Any] | None = None,
        log: str | None = None,
        filesystem: FileSystem | None = None,
        unregistered: Iterable[Task] = (),
        **options: Any,
    ):
        self.retries, keep_weights = at_least(0, "retries", retries), flag("keep_weights", keep_weights)
        if time_limit is not None:
            expected = f"a positive number of seconds, at most {MAX_TIME:g}"
            time_limit = positive("time_limit", time_limit, expected, MAX_TIME)
        self.recipes = chosen(names)
        own = {task.name: task for task in unregistered}
        self.tasks = {
            name: replace(own.get(name) or tasks.get(name), width_mult=recipe.width_mult)
            for name, recipe in self.recipes.items()
        }
        self.store = Store(out, filesystem)
        if log is not None:
            logs.check(log)
        if self.store.local is None and (keep_weights or log is not None):
            raise InvalidArgumentError(
                f"weights and logs are kept in a folder; --out is {self.store}. Build there, and copy it"
            )
        folder = str(self.store.local)
        pretraining = tuple(first for recipe in self.recipes.values() for first in recipe.before())
        self.job = Job(
            self.recipes,
            (*(tasks.get(first.task) for first in pretraining), *self.tasks.values()),
            address(trainer),
            None if data is None else os.path.abspath(os.path.expanduser(data)),
            device,
            None if checkpoints is None else os.path.abspath(os.path.expanduser(checkpoints)),
            time_limit,
            weights=os.path.join(folder, "weights") if keep_weights else None,
            on_epoch=None if on_epoch is None else address(on_epoch, "on_epoch"),
            log=log,
            logs=os.path.join(folder, "logs"),
            pretraining=pretraining,
        )
        self._check_recipes()
        self._make: Callable[[], engines.Engine] = functools.partial(
            engines.make, engine, self.job.work, workers, **options
        )
        self._name = engine
        self._engine: engines.Engine | None = None
        self.records: dict[Trial, Record] = {}
        self.rates = Rates()
        for task in self.tasks.values():
            self._remember(task)

    def _check_recipes(self) -> None:
        """Check that results here come from these recipes, and that the readers have their options."""
        for name, recipe in self.recipes.items():
            self.store.check_recipe(name, recipe)
            if self.job.trainer == TRAINER:
                try:
                    for split in splits.SPLITS:
                        options = recipes.tuples(recipe.reader_options(split))
                        datasets.check_options(datasets.reader(recipe.dataset), options)
                except (InvalidArgumentError, UnknownNameError) as error:
                    raise RecipeError(f"recipe {recipe.name!r}, data set {recipe.dataset}: {error}") from None

    def _remember(self, task: Task) -> None:
        self._record(list(self.store.outcomes(task)))

    def _record(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            record = self.records.setdefault(outcome.trial, Record(outcome))
            record.failures += outcome.status == "failed" and not outcome.excused
            if table.supersedes(outcome.status, record.outcome.status):
                record.outcome = outcome
        timed = [o for o in outcomes if o.status == "ok" and o.seconds is not None]
        for outcome, macs in zip(timed, macs_of([o.trial for o in timed]), strict=True):
            self.rates.add(outcome.trial.task, macs, outcome.seconds or 0.0)

    def _keep(self, outcome: Outcome) -> None:
        """Remember an outcome that is written now; nothing else of a finished trial is needed any more."""
        self._record([outcome])
        if outcome.status != "failed":
            self.job.discard(outcome.trial)

    def pending(self, trials: Iterable[Trial]) -> list[Trial]:
        """Those that have no result and may still be tried."""
        return [t for t in dict.fromkeys(trials) if not self._settled(t)]

    def _settled(self, trial: Trial) -> bool:
        record = self.records.get(trial)
        return record is not None and (record.done or record.failures > self.retries)

    def predict(self, trials: Sequence[Trial]) -> Floats:
        """Predicted seconds of `(n,)` trials; where no rate is known, as if tasks differed only in MACs."""
        if not trials:
            return np.zeros(0)
        macs = macs_of(trials)
        names = np.array([t.task for t in trials])
        seconds = np.full(len(trials), np.nan)
        for name in set(names):
            seconds[names == name] = self.rates.seconds(name, macs[names == name])
        known = np.isfinite(seconds)
        rate = seconds[known].sum() / macs[known].sum() if known.any() else 1.0
        return np.where(known, seconds, macs * rate)

    def forecast(self, trials: Sequence[Trial], workers: int | None = None) -> Forecast:
        """Return what training the trials would take, from MACs and the trials in `out`; starts nothing.

        Args:
            workers: trials at once; None: as many as this machine has room for.
        """
        if workers is None:
            workers = engines.default_workers(self.job.work)
        at_least(1, "workers", workers)
        todo = self.pending(trials)
        report = self._report(trials)
        rows = []
        for name, counts in report.tasks.items():
            own = [t for t in todo if t.task == name]
            seconds = self.rates.seconds(name, macs_of(own))
            row: dict[str, Any] = {
                "task": name,
                "trials": counts.planned,
                "done": counts.before,
                "failed": counts.failed,
            }
            row |= {"to do": len(own), "seconds each": float(seconds.mean()) if own else 0.0}
            rows.append(row | {"worker hours": float(seconds.sum()) / 3600})
        known = not any(math.isnan(row["worker hours"]) for row in rows)
        wall = makespan(sorted(self.predict(todo), reverse=True), workers) if known else math.nan
        return Forecast(rows, workers, wall)

    def run(self, trials: Sequence[Trial], progress: bool = False) -> Report:
        """Train those of the trials that have no result yet; all results are in `records` and in `out`.

        Raises:
            DatasetError: the data are not there, or not the same on all machines and in all runs.
            InvalidArgumentError: the device is not there.
            StorageError: there is no space for results. What is finished stays; rerun the
                command to resume.
            RecipeError: a recipe does not fit its data.
            MissingExtraError, WorkerError: the workers can't work.
        """
        todo = self.pending(trials)
        queue = _Queue(dict(zip(todo, self.predict(todo), strict=True)))
        report = self._report(trials)
        if not queue:
            return report
        data: dict[str, splits.Described] = {}
        if self.job.trainer == TRAINER and self._name == "local":
            # Better one error now than one for each trial. A cluster's data need not be here.
            found: dict[tuple[tuple[str, splits.Key], ...], splits.Described] = {}
            for name in dict.fromkeys(trial.task for trial in todo):
                keys = splits.named(self.recipes[name], self.job.data)
                if keys not in found:
                    found[keys] = splits.described(keys)
                self.store.check_data(name, found[keys])
                data[name] = found[keys]
        self._check_recipes()  # again: another build may have begun here meanwhile
        start = time.monotonic()
        if self._engine is None:
            self._engine = self._make()
        engine = self._engine
        # pyarrow would import it for the first part, while all workers wait for their second trial.
        importlib.import_module("pandas")
        report.workers = len(engine.workers)
        writer = _Writer(self.store, self.tasks, self.recipes, data)
        #: How often each failed in this run through no fault of its own.
        excused: Counter[Trial] = Counter()
        try:
            with _Bar(todo, self, progress) as bar:
                while queue or engine.running:
                    while queue and engine.free:
                        engine.submit(queue.pop())
                    outcomes = []
                    for done in engine.wait(FLUSH):
                        outcomes.append(outcome := writer.checked(Outcome.of(done)))
                        if outcome.spoilt:
                            engine.renew(done.worker)
                        report.busy += outcome.busy
                        if outcome.fatal is None:
                            writer.add(outcome)
                    for error in (o.fatal for o in outcomes if o.fatal is not None):
                        raise error
                    for outcome in writer.flush(FLUSH if queue or engine.running else 0):
                        self._keep(outcome)
                        excused[outcome.trial] += outcome.excused
                        # Without space, a trial would fail again at once: the next run tries it.
                        last = outcome.no_space or excused[outcome.trial] > self.retries
                        if last or self._settled(outcome.trial):
                            self._count(report, outcome)
                            bar.done(outcome.trial)
                        else:
                            queue.put_back(outcome.trial)
        except BaseException:
            self.close()
            raise
        finally:
            # Whatever stops us (Ctrl-C, a full disk), what came in is written.
            for outcome in writer.flush():
                self._keep(outcome)
        report.wall = time.monotonic() - start
        return report

    def _report(self, trials: Iterable[Trial]) -> Report:
        report = Report({name: TaskReport() for name in self.recipes})
        for trial in dict.fromkeys(trials):
            counts = report.tasks[trial.task]
            counts.planned += 1
            if self._settled(trial):
                outcome = self.records[trial].outcome
                counts.before += outcome.status != "failed"
                counts.failed += outcome.status == "failed"
                if outcome.status == "failed":
                    report.failures.append(outcome)
                kept = self.job.weights_of(trial)
                report.without_weights += outcome.status == "ok" and kept is not None and not kept.exists()
        return report

    @staticmethod
    def _count(report: Report, outcome: Outcome) -> None:
        counts = report.tasks[outcome.trial.task]
        setattr(counts, outcome.status, getattr(counts, outcome.status) + 1)
        counts.seconds += outcome.seconds or 0.0
        if outcome.status != "ok":
            report.failures.append(outcome)

    def close(self) -> None:
        """End the engine."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy, here or in another process, starts an engine of its own.
        return {**vars(self), "_engine": None}

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Queue:
    """Trials to do, the longest first: one that starts last keeps all other workers waiting."""

    def __init__(self, seconds: Mapping[Trial, float]):
        # The number keeps equals in order, and trials from being compared.
        self._rank = {trial: (-s, k) for k, (trial, s) in enumerate(seconds.items())}
        self._heap = [(*rank, trial) for trial, rank in self._rank.items()]
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    def pop(self) -> Trial:
        return heapq.heappop(self._heap)[2]

    def put_back(self, trial: Trial) -> None:
        """At the end: what it failed for, such as others' memory, may be over by then."""
        heapq.heappush(self._heap, (math.inf, self._rank[trial][1], trial))


class _Writer:
    """Collects outcomes and writes them as parts, after the recipe and the data that they come from."""

    def __init__(
        self,
        store: Store,
        names: Mapping[str, Task],
        recipes: Mapping[str, Recipe],
        data: Mapping[str, splits.Described],
    ):
        self.store, self.tasks, self.recipes, self.data = store, names, dict(recipes), dict(data)
        #: Tasks whose data are written.
        self.described: set[str] = set()
        self.waiting: dict[str, list[Outcome]] = {}
        self.written = -math.inf

    def checked(self, outcome: Outcome) -> Outcome:
        """Return an outcome; a fatal one where its worker has other data than the task's other results."""
        name, here = outcome.trial.task, outcome.data
        if here is None:
            return outcome
        try:
            if name not in self.data:
                self.store.check_data(name, here)
                self.data[name] = here
            elif (found := splits.difference(self.data[name], here, ("before", "now"))) is not None:
                raise DatasetError(
                    f"{outcome.trial}: its worker has other data than those before it: {found}. Give every "
                    "machine the same data; rerun the command to resume"
                )
        except DatasetError as error:
            return replace(outcome, fatal=error)
        return outcome

    def add(self, outcome: Outcome) -> None:
        self.waiting.setdefault(outcome.trial.task, []).append(outcome)

    def flush(self, age: float = 0.0) -> list[Outcome]:
        """Write what is waiting, if the last time was `age` seconds ago; return it, without the curves.

        An outcome whose numbers do not fit its task is written as failed.
        """
        written: list[Outcome] = []
        if not self.waiting or time.monotonic() - self.written < age:
            return written
        for name, outcomes in list(self.waiting.items()):
            if (recipe := self.recipes.get(name)) is not None:
                self.store.write_recipe(name, recipe)
                del self.recipes[name]
            if name in self.data and name not in self.described:
                self.store.write_data(name, self.data[name])
                self.described.add(name)
            try:
                self.store.add(self.tasks[name], outcomes)
            except TableError:
                outcomes = [self._fitting(outcome) for outcome in outcomes]
                self.store.add(self.tasks[name], outcomes)
            del self.waiting[name]
            # What is on disk now would add up in memory.
            written += [replace(outcome, curve={}, data=None) for outcome in outcomes]
        self.written = time.monotonic()
        return written

    def _fitting(self, outcome: Outcome) -> Outcome:
        try:
            to_part(self.tasks[outcome.trial.task], [outcome])
        except TableError as error:
            return Outcome(outcome.trial, "failed", f"TableError: {error}", busy=outcome.busy)
        return outcome


class _Bar:
    """Progress over trials; the time left weighs each by its predicted seconds."""

    def __init__(self, trials: Iterable[Trial], builder: Builder, shown: bool):
        self.builder = builder
        #: By task: how many are left, and their MACs.
        self.left: dict[str, list[float]] = {}
        trials = list(trials)
        for trial, macs in zip(trials, macs_of(trials), strict=True):
            self._add(trial.task, 1, macs)
        layout = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"
        disable = None if shown else True
        self.bar = tqdm(total=len(trials), desc="build", unit=" trials", disable=disable, bar_format=layout)

    def _add(self, task: str, count: int, macs: float) -> None:
        left = self.left.setdefault(task, [0, 0.0])
        left[0] += count
        left[1] += macs

    def done(self, trial: Trial) -> None:
        if not self.bar.disable:
            self._add(trial.task, -1, -macs_of([trial])[0])
            self.bar.set_postfix_str(f"{clock(self.seconds())} left", refresh=False)
            self.bar.update()

    def seconds(self) -> float:
        """Predicted time left; NaN as long as a task's rate is unknown."""
        engine, total = self.builder._engine, 0.0
        for task, (count, macs) in self.left.items():
            line = self.builder.rates.line(task)
            if count:
                total += math.nan if line is None else count * line[0] + macs * line[1]
        return total / len(engine.workers) if engine else math.nan

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()


def clock(seconds: float) -> str:
    """Return a duration for people: "47 s", "12 min", "3.5 h", "9 d"."""
    if math.isnan(seconds):
        return "?"
    for most, unit, name in ((100, 1, "s"), (6000, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < most:
            return f"{seconds / unit:.3g} {name}"
    days = seconds / 86400
    return f"{days:.3g} d" if days < 1000 else f"{days:,.0f} d"


def macs_of(trials: Sequence[Trial]) -> Floats:
    """MACs of the trials' codes, for 1x3x128x128 inputs: `(n,)`."""
    return cost.macs([t.code for t in trials]).astype(np.float64) if trials else np.zeros(0)


def chosen(names: str | Recipe | Sequence[str | Recipe]) -> dict[str, Recipe]:
    """Return recipes by task; raise `RecipeError` where there is none, or two are of one task."""
    listed = [recipes.get(n) for n in ([names] if isinstance(names, (str, Recipe)) else names)]
    found = {recipe.task: recipe for recipe in listed}
    if not listed or len(found) < len(listed):
        raise RecipeError(f"recipes {[r.name for r in listed]}; expected at least one, each of another task")
    return found


def build(
    names: str | Recipe | Sequence[str | Recipe],
    codes: int | object,
    seeds: int | Sequence[int] = 1,
    out: str | os.PathLike[str] = "build",
    *,
    engine: str = "local",
    progress: bool = False,
    **options: Any,
) -> Report:
    """Train codes for tasks and seeds, and write `tables/` and `curves/` in `out`.

    What is done in `out` already is not done again, and its codes stay in the tables.

    Args:
        names: recipes, by name or as they are, each of another task.
        codes: `(n, 27)` codes, or how many of `draw_codes`.
        seeds: the seeds, or how many: 0, 1, ...
        out, engine, options: see `Builder`.
        progress: show a bar with the rate and the time left on stderr, if that is a terminal.

    Raises:
        OutOfSpaceError: a code is outside the space.
        RecipeError, DatasetError, StorageError, MissingExtraError, WorkerError: see `Builder`.
    """
    with Builder(names, out, engine, **options) as builder:
        trials = plan(builder.tasks, as_codes(codes), checks.seeds(seeds))
        report = builder.run(trials, progress)
        compact(builder.store, builder.tasks.values())
    return report


def as_codes(codes: int | object) -> Codes:
    """Codes, or so many of `draw_codes`: `(n, 27)` int16."""
    return draw_codes(int(codes)) if isinstance(codes, (int, np.integer)) else space.check(codes)


# --- Afterwards ---------------------------------------------------------------------------------------


def compact(store: Store, names: Iterable[Task]) -> None:
    """Write each task's table, and its curves, from all its parts: sorted by code and seed.

    Of a trial that is in several parts one counts (`table.supersedes`). Several builds may do this at once:
    the last one to write has seen all parts.

    Raises:
        TableError: a part is damaged.
        StorageError: the disk is full.
    """
    for task in names:
        seen: list[str] = []
        while (found := store.part_names(task)) != seen:
            seen = found
            _compact(store, task, seen)


def _compact(store: Store, task: Task, names: Sequence[str]) -> None:
    if (parts := store.parts(task, names)) is not None:
        rows = table.compact({f"parts/{task.name} in {store}": parts}, task)
        rows = rows.sort_by([(name, "ascending") for name in (*space.NAMES, "seed")])
        wanted = table.schema(task)
        store.write(f"tables/{task.name}.parquet", to_bytes(rows.select(wanted.names).cast(wanted)))
        if columns := _curves(rows, task):
            store.write(f"curves/{task.name}.parquet", to_bytes(table.curves_to_arrow(task, columns)))


def _curves(rows: pa.Table, task: Task) -> dict[str, Any]:
    """Return the learning curves of trials, one row an epoch; empty where there are none."""
    codes = np.stack([rows[name].to_numpy() for name in space.NAMES], axis=1)
    seeds = rows["seed"].to_numpy()
    curves = {k: parse_curve(text, task, "a curve") for k, text in enumerate(rows[CURVE].to_pylist()) if text}
    if not curves:
        return {}
    lengths = [len(curve["epoch"]) for curve in curves.values()]
    which = np.repeat(list(curves), lengths)
    names = dict.fromkeys(name for curve in curves.values() for name in curve)
    columns = {
        name: np.concatenate(
            [curve.get(name, np.full(n, np.nan)) for n, curve in zip(lengths, curves.values(), strict=True)]
        )
        for name in names
    }
    return {"codes": codes[which], "seed": seeds[which], **columns}


def release(
    out: str | os.PathLike[str],
    name: str,
    version: str,
    *,
    about: Mapping[str, Any] | None = None,
    target: Path | None = None,
    filesystem: FileSystem | None = None,
) -> releases.Release:
    """Make a release of all trials in `out`, with their curves and recipes.

    Where an older version of the release is installed, the new one has all of that too; a trial that is in
    both is taken from `out`, unless it has a result there alone.

    Args:
        out, filesystem: where `build` wrote.
        about: further entries of release.json, such as "title", "license", "citation".
        target: the release's new folder, for a release of these tables alone; None: it is installed.

    Raises:
        InvalidArgumentError: there are no trials.
        ReleaseError: no trial of a task succeeded; the older version has trials of another recipe; or the
            name or version is malformed, or taken by other content.
        TableError: a part is damaged.
    """
    store = Store(out, filesystem)
    names = [task for name in store.tasks() if (task := store.built(name)) is not None]
    if not names:
        raise InvalidArgumentError(f"no trials in {store}; build some first: nasbench-mr build")
    compact(store, names)  # A build that was stopped has written parts alone.

    for task in names:
        if not store.succeeded(task.name):
            raise ReleaseError(
                f"no release was made: no trial of {task.name!r} succeeded; its errors are in "
                f"{store}/tables/{task.name}.parquet"
            )

    releases.check_name(name, version)
    base = None
    if target is None:
        base = grown(name, version, {task.name: store.recipe(task.name) for task in names})
    # What a release adds to, it adds as tables: others are copied as they are.
    kinds = {"recipes": "json"} if base else {"tables": "parquet", "curves": "parquet", "recipes": "json"}

    def fill(folder: Path) -> None:
        for task in names:
            for kind, suffix in kinds.items():
                file = f"{kind}/{task.name}.{suffix}"
                if (data := store.read(file)) is not None:
                    (folder / file).parent.mkdir(exist_ok=True)
                    (folder / file).write_bytes(data)

    if base is None:
        return releases.create(fill, name, version, names, about=about, target=target)
    additions = []
    for task in names:
        trials, curves = _read(store, task)
        if task.name in base.tasks:
            there = table.read_arrow(base.file(f"tables/{task.name}.parquet"))
            trials, curves = table.without_worse(trials, curves, there, task)
        additions.append(releases.Addition(task, trials, curves))
    return releases.extend(base, additions, fill=fill, replace=True, about=about, version=version)


def grown(name: str, version: str, used: Mapping[str, Recipe | None]) -> releases.Release | None:
    """Return the newest installed version before a new one, which adds trials to it; None if there is none.

    Args:
        used: by task, the recipe of the new trials.

    Raises:
        ReleaseError: its trials of a task come from another recipe.
    """
    rank = releases.version_key
    older = [place for at, place in releases.places(name).items() if rank(at) < rank(version)]
    if not older:
        return None
    base = releases.Release.open(older[-1])
    for task, recipe in used.items():
        if recipe is None or (file := f"recipes/{task}.json") not in base.files:
            continue
        there = recipes.from_dict(json_object(base.file(file).read_bytes(), f"{base}: {file}", RecipeError))
        if there.digest != recipe.digest:
            raise ReleaseError(
                f"the trials of {task!r} in {base} come from another recipe: "
                f"{recipes.difference(there, recipe)}. Values of both can't be compared: give this release "
                "another name"
            )
    return base


def _read(store: Store, task: Task) -> tuple[pa.Table, pa.Table | None]:
    """Return a task's trials and, if there are any, its learning curves."""
    trials, curves = (store.read(f"{kind}/{task.name}.parquet") for kind in ("tables", "curves"))
    read = [
        None if data is None else table.read_arrow(io.BytesIO(data), f"{store}: {task.name}")
        for data in (trials, curves)
    ]
    return read[0], read[1]
