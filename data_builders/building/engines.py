"""Engines: where trials run. `local` is worker processes on this machine, `ray` a cluster.

An engine is a pool of workers that live from trial to trial, so that what they import and read stays. One
that dies is replaced, and the trial it had fails. The runner asks an engine for nothing but `free`, `submit`
and `wait`; both engines end in `trial.run_trial`.
"""

from __future__ import annotations

import abc
import contextlib
import inspect
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nasbench_mr.data_builders.building.trial import Job, Outcome, Trial, run_trial
from nasbench_mr.errors import BuildError, InvalidArgumentError, UnknownNameError, did_you_mean, missing_extra

#: Workers that share one GPU, if not told: small networks leave most of it idle.
PER_GPU = 4
#: How often in a row a worker may die before it is ready; and all together, while none has ever been.
MAX_FALSE_STARTS = 5
#: Where the system shows its devices.
DEVICES = Path("/dev")


@dataclass
class _Worker:
    """A worker as the engine sees it; `handle` is the engine's own."""

    slot: int
    handle: Any
    ready: bool = False
    trial: Trial | None = None
    since: float = 0.0
    #: How often in a row it died before it was ready.
    false_starts: int = 0


class Engine(abc.ABC):
    """A pool of workers.

    Args:
        job: what its trials share.
        workers: how many trials run at once.

    Raises:
        InvalidArgumentError: `workers` is less than 1.
    """

    name: str

    def __init__(self, job: Job, workers: int):
        if workers < 1:
            raise InvalidArgumentError(f"workers is {workers}; expected at least 1")
        self.job = job
        self.workers: list[_Worker] = []
        #: Whether some worker was ready once, so that what they all need is there.
        self._begun = False
        try:
            for slot in range(workers):
                self.workers.append(_Worker(slot, self._start(slot)))
        except BaseException:
            self.close()
            raise

    @abc.abstractmethod
    def _start(self, slot: int) -> Any:
        """Starts a worker; returns its handle at once, before the worker is ready."""

    @abc.abstractmethod
    def _send(self, worker: _Worker, trial: Trial) -> None:
        """Gives a ready worker a trial."""

    @abc.abstractmethod
    def _answers(self, timeout: float) -> Iterator[tuple[_Worker, Outcome | Exception | str | None]]:
        """Waits for workers, and yields what they say.

        None: ready. An outcome: of its trial. An exception: it can't work at all. A text: how it died.
        """

    @abc.abstractmethod
    def _stop(self, worker: _Worker) -> None:
        """Ends a worker, now."""

    @property
    def free(self) -> int:
        """How many trials can be submitted now."""
        return sum(worker.ready and worker.trial is None for worker in self.workers)

    @property
    def running(self) -> int:
        """How many trials are with workers."""
        return sum(worker.trial is not None for worker in self.workers)

    def submit(self, trial: Trial) -> None:
        """Starts a trial on a free worker."""
        worker = next(w for w in self.workers if w.ready and w.trial is None)
        worker.trial, worker.since = trial, time.monotonic()
        self._send(worker, trial)

    def wait(self, timeout: float) -> list[Outcome]:
        """Waits until some trial ends or a worker becomes free, at most `timeout` seconds.

        Raises:
            InvalidArgumentError, MissingExtraError: the workers can't import what trains.
            BuildError: workers keep dying before they are ready.
        """
        outcomes = []
        for worker, answer in self._answers(timeout):
            if isinstance(answer, Exception):
                if not self._begun:
                    raise answer
                answer = str(answer)  # where others can work, as when a node has lost its GPU
            if answer is None:
                worker.ready, worker.false_starts, self._begun = True, 0, True
            elif isinstance(answer, Outcome):
                worker.trial = None
                outcomes.append(answer)
                if answer.spoilt:
                    self._replace(worker)
            else:
                outcomes += self._bury(worker, answer)
        return outcomes

    def _replace(self, worker: _Worker) -> None:
        self._stop(worker)
        worker.handle, worker.ready, worker.trial = self._start(worker.slot), False, None

    def _bury(self, worker: _Worker, how: str) -> list[Outcome]:
        """Replaces a dead worker; the outcome of the trial that it had."""
        trial, elapsed = worker.trial, time.monotonic() - worker.since
        if not worker.ready:
            worker.false_starts += 1
            starts = [w.false_starts for w in self.workers]
            if not self._begun and all(starts) and sum(starts) >= MAX_FALSE_STARTS:
                raise BuildError(f"{sum(starts)} workers in a row ended before they were ready: {how}")
            # Where some can work, one that can't is given up: a node of many may be broken.
            if self._begun and worker.false_starts >= MAX_FALSE_STARTS:
                self._stop(worker)
                self.workers.remove(worker)
                tqdm.write(f"nasbench-mr: a worker is given up, which can't start: {how}", file=sys.stderr)
                if not self.workers:
                    raise BuildError(f"no worker is left; the last one could not start: {how}")
                return []
        self._replace(worker)
        if trial is None:
            return []
        limit = self.job.time_limit
        if limit is not None and elapsed >= limit:
            how = f"ran past its time limit of {limit:g} s and was killed"
        return [Outcome(trial, "failed", how, busy=elapsed)]

    def close(self) -> None:
        """Ends all workers, now."""
        for worker in self.workers:
            self._stop(worker)
        self.workers.clear()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


# --- On this machine ----------------------------------------------------------------------------------


class Local(Engine):
    """Worker processes on this machine, each with one thread; the GPUs, if there are, are shared evenly.

    A worker ends when this process does, whatever ends it. Workers are fresh interpreters, not forks, so they
    hold no file, lock or GPU of this process.
    """

    name = "local"

    def __init__(self, job: Job, workers: int | None = None):
        self._gpus = [] if job.device == "cpu" else gpus()
        super().__init__(job, default_workers(job, self._gpus) if workers is None else workers)

    def _start(self, slot: int) -> tuple[subprocess.Popen[bytes], Connection]:
        ours, theirs = Pipe()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            # Workers fill the cores; threads in each would only fight over them.
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        program = f"from {__name__} import serve; serve({theirs.fileno()})"
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=environment,
            # A session of its own: Ctrl-C reaches the builder alone, which then ends the workers and theirs.
            start_new_session=True,
        )
        theirs.close()
        with contextlib.suppress(OSError):  # It died already; `_answers` will notice.
            ours.send(self.job)
        return process, ours

    def _send(self, worker: _Worker, trial: Trial) -> None:
        with contextlib.suppress(OSError):
            worker.handle[1].send(trial)

    def _answers(self, timeout: float) -> Iterator[tuple[_Worker, Outcome | Exception | str | None]]:
        by_pipe = {worker.handle[1]: worker for worker in self.workers}
        for pipe in wait(list(by_pipe), timeout):
            worker = by_pipe[pipe]
            try:
                answer = worker.handle[1].recv()
            except (EOFError, OSError):
                answer = _death(worker.handle[0])
            yield worker, answer

    def _stop(self, worker: _Worker) -> None:
        process, pipe = worker.handle
        pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _death(process: subprocess.Popen[bytes]) -> str:
    """How a process ended, in words."""
    try:
        status = process.wait(10)
    except subprocess.TimeoutExpired:
        return "the worker closed its pipe and hung"
    if status >= 0:
        return f"the worker ended with exit status {status}"
    how = f"the worker was killed by {signal.Signals(-status).name}"
    return f"{how} (out of memory?)" if status == -signal.SIGKILL else how


def serve(pipe_number: int) -> None:
    """What a worker process runs: trials from the pipe of this number, until the other end is gone."""
    pipe = Connection(pipe_number)
    threading.Thread(target=_end_with, args=(pipe_number,), daemon=True).start()
    # What a trainer prints must not mix with the results of the command on stdout.
    os.dup2(2, 1)
    with contextlib.suppress(EOFError, OSError):
        job = pipe.recv()
        try:
            train = job.load()
        except Exception as error:
            pipe.send(error)
            return
        pipe.send(None)
        while True:
            pipe.send(run_trial(pipe.recv(), job, train))


def _end_with(pipe_number: int) -> None:
    """Ends this process and its own when the other end of the pipe closes, even in the middle of a trial."""
    hangup = select.poll()
    hangup.register(pipe_number, 0)
    hangup.poll()
    os.killpg(0, signal.SIGKILL)


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; does not import torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        # As in a container that was given the devices alone.
        return [str(k) for k, _ in enumerate(DEVICES.glob("nvidia[0-9]*"))]
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(k) for k, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]


def default_workers(job: Job, found: Sequence[str] | None = None) -> int:
    """One for each core that this process may use; where there are GPUs, so many as fit on them.

    Small networks share a GPU, `PER_GPU` on each. One whose data do not fit in memory (a recipe that is not
    `resident`) is large, and has one of its own.

    Args:
        found: the GPUs, if they are known.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if found is None:
        found = [] if job.device == "cpu" else gpus()
    share = PER_GPU if all(recipe.resident for recipe in job.recipes.values()) else 1
    return min(cores, share * len(found)) if found else cores


# --- On a cluster -------------------------------------------------------------------------------------


class Ray(Engine):
    """Actors of a Ray cluster. This package must be installed on its nodes, and the data be there.

    A worker whose node dies is placed anew, on whatever the cluster still has or gets; its trial fails, and
    is one of those that are tried again.

    Args:
        job, workers: see `Engine`; by default as many workers as the cluster has room for now. More wait for
            an autoscaling cluster to grow.
        address: of the cluster; None: one that this process is connected to, or $RAY_ADDRESS, or a new one
            on this machine, which ends with the engine.
        gpus: share of a GPU that a worker takes, such as 0.25; above 1: whole numbers. None: one where the
            cluster has GPUs now, else 0.
        cpus: cores that a worker takes.

    Raises:
        MissingExtraError: Ray is not installed.
        InvalidArgumentError: a share is negative, or the cluster has no room for a worker.
        BuildError: the cluster can't be reached.
    """

    name = "ray"

    def __init__(
        self,
        job: Job,
        workers: int | None = None,
        address: str | None = None,
        gpus: float | None = None,
        cpus: float = 1.0,
    ):
        try:
            import ray
        except ImportError:
            raise missing_extra("ray", "cluster", "the engine 'ray'") from None
        if (gpus or 0) < 0 or not cpus > 0:
            raise InvalidArgumentError(
                f"gpus is {gpus}, cpus is {cpus}; expected shares of at least 0, and cores"
            )
        self._ray: Any = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            # A cluster that starts here reports to no one.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            try:
                # Ray puts the current folder on the workers' path, where one can hide the installed package.
                with contextlib.chdir(tempfile.gettempdir()):
                    ray.init(
                        address=address,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                        configure_logging=False,
                    )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise BuildError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
        #: What each worker is busy with: a reference to its answer.
        self._answer: dict[Any, _Worker] = {}
        room = self._ray.cluster_resources()
        if gpus is None:
            gpus = 1.0 if room.get("GPU") and job.device != "cpu" else 0.0
        self._actor = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_Actor)
        places = [room.get(kind, 0) / share for kind, share in (("CPU", cpus), ("GPU", gpus)) if share]
        try:
            super().__init__(job, int(min(places)) if workers is None else workers)
        except InvalidArgumentError:
            if workers is None:
                raise InvalidArgumentError(
                    f"the cluster has no room for a worker of {cpus:g} cores and {gpus:g} GPUs"
                ) from None
            raise

    def _start(self, slot: int) -> Any:
        return self._actor.remote(self.job)

    def _send(self, worker: _Worker, trial: Trial) -> None:
        self._answer[worker.handle.run.remote(trial)] = worker

    def _answers(self, timeout: float) -> Iterator[tuple[_Worker, Outcome | Exception | str | None]]:
        for worker in self.workers:
            if not worker.ready and worker not in self._answer.values():
                self._answer[worker.handle.load.remote()] = worker
        pending = list(self._answer)
        first, _ = self._ray.wait(pending, num_returns=1, timeout=timeout)
        # And those that are there as well.
        done, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0) if first else ([], [])
        for reference in done:
            worker = self._answer.pop(reference)
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                answer = f"the worker or its node died: {str(error).strip().splitlines()[0]}"
            yield worker, answer

    def _stop(self, worker: _Worker) -> None:
        self._answer = {k: w for k, w in self._answer.items() if w is not worker}
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker.handle)

    def close(self) -> None:
        super().close()
        if self._ours and self._ray.is_initialized():
            self._ray.shutdown()


class _Actor:
    """A worker of a Ray cluster."""

    def __init__(self, job: Job):
        self.job = job

    def load(self) -> Exception | None:
        """Imports what trains; what went wrong, or None."""
        try:
            self.train = self.job.load()
        except Exception as error:
            return error
        return None

    def run(self, trial: Trial) -> Outcome:
        return run_trial(trial, self.job, self.train)


#: Engine: what makes it, from a job, the number of workers and the engine's own options.
ENGINES = {"local": "Local", "ray": "Ray"}


def make(name: str, job: Job, workers: int | None = None, **options: Any) -> Engine:
    """An engine with its workers starting.

    Args:
        name: "local" or "ray".
        workers: trials at once; None: as many as the machine or cluster has room for.
        options: those of `Ray`.

    Raises:
        UnknownNameError: no such engine.
        InvalidArgumentError: an option that the engine does not have, or of a bad value.
        MissingExtraError: Ray is not installed.
    """
    if name not in ENGINES:
        raise UnknownNameError(f"no engine {name!r}: {did_you_mean(name, ENGINES)}")
    engine: Callable[..., Engine] = globals()[ENGINES[name]]
    given = {key: value for key, value in options.items() if value is not None}
    known = list(inspect.signature(engine).parameters)[2:]
    for key in given:
        if key not in known:
            raise InvalidArgumentError(
                f"the engine {name!r} has no option {key!r}: {did_you_mean(key, known)}"
            )
    return engine(job, workers, **given)
