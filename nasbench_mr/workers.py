"""Run the same kind of work many times, in processes of this machine (`local`) or a cluster (`ray`).

    work = Work("mine:prepare", (settings,))
    for task, value in run(work, tasks, engine="local", workers=4):
        ...

`Work` names a function by its address. Each worker calls it once, and then calls what it returned with one
task after another, so what a worker imports and reads stays. Everything that runs in several processes uses
this module, because it gives these guarantees:

- A worker is a fresh interpreter. It holds no file, lock or GPU of this process.
- A worker ends when this process does, whatever ends it, and takes its own children with it.
- An error reaches the caller with the worker's traceback as a note, even if its class can't be pickled.
- A worker that dies is replaced; the caller is told which task it had and how it ended.
- A task that takes longer than the time limit is killed, wherever it hangs.

`run` is enough for most callers; an `Engine` lets one choose the next task from the results so far.
"""

from __future__ import annotations

import abc
import contextlib
import faulthandler
import importlib
import logging
import multiprocessing
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from nasbench_mr.checks import at_least
from nasbench_mr.errors import (
    InvalidArgumentError,
    WorkerError,
)
from nasbench_mr.extras import requires
from nasbench_mr.plugins import Registry, check_options

#: How often in a row a worker may die before it is ready; and all together, while none has ever been.
MAX_FALSE_STARTS = 5
#: Where the system shows its devices.
DEVICES = Path("/dev")
#: Seconds between two looks at whether the parent process still lives.
_WATCH = 2.0


@dataclass(frozen=True)
class Work:
    """What workers do.

    Attributes:
        maker: address of a function, "module:function". A worker calls it once with `arguments`, and calls
            what it returns with each task.
        arguments: anything that pickles.
        gpu: whether a worker uses a GPU where there is one.
        per_gpu: how many workers of this machine share a GPU, if not told.
        time_limit: seconds after which a task is killed; None: never.
    """

    maker: str
    arguments: tuple[Any, ...] = ()
    gpu: bool = False
    per_gpu: int = 1
    time_limit: float | None = None

    def load(self) -> Callable[[Any], Any]:
        """Return the function that does a task, ready to be called in this process."""
        module, _, name = self.maker.partition(":")
        made: Callable[[Any], Any] = getattr(importlib.import_module(module), name)(*self.arguments)
        return made


@dataclass(frozen=True)
class Done:
    """How a task ended.

    Attributes:
        task: what was submitted.
        value: what the function returned.
        error: what it raised instead; a `WorkerError` if its worker died.
        busy: seconds from its start to its end.
        worker: who did it, for `Engine.renew`.
    """

    task: Any
    value: Any
    error: Exception | None
    busy: float
    worker: Worker

    def result(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(eq=False)
class Worker:
    """A worker as the engine sees it; `handle` is the engine's own."""

    slot: int
    handle: Any
    ready: bool = False
    busy: bool = False
    task: Any = None
    since: float = 0.0
    #: How often in a row it died before it was ready.
    false_starts: int = 0


class Engine(abc.ABC):
    """A pool of workers.

    Args:
        work: what they do.
        workers: how many tasks run at once.

    Raises:
        InvalidArgumentError: `workers` is less than 1.
    """

    name: str

    def __init__(self, work: Work, workers: int):
        workers = at_least(1, "workers", workers)
        self.work = work
        self._packed = pickle.dumps(work)
        self.workers: list[Worker] = []
        #: Whether some worker was ready once, so that what they all need is there.
        self._begun = False
        try:
            for slot in range(workers):
                self.workers.append(Worker(slot, self._start(slot)))
        except BaseException:
            self.close()
            raise

    @abc.abstractmethod
    def _start(self, slot: int) -> Any:
        """Start a worker; return its handle at once, before the worker is ready."""

    @abc.abstractmethod
    def _send(self, worker: Worker, task: bytes) -> None:
        """Give a ready worker a task."""

    @abc.abstractmethod
    def _answers(self, timeout: float) -> Iterator[tuple[Worker, bytes | str]]:
        """Wait for workers, and yield what they say: an answer, or how they died."""

    @abc.abstractmethod
    def _stop(self, worker: Worker) -> None:
        """End a worker, now."""

    @property
    def free(self) -> int:
        """How many tasks can be submitted now."""
        return sum(worker.ready and not worker.busy for worker in self.workers)

    @property
    def running(self) -> int:
        """How many tasks are with workers."""
        return sum(worker.busy for worker in self.workers)

    def submit(self, task: Any) -> None:
        """Start a task on a free worker."""
        worker = next(w for w in self.workers if w.ready and not w.busy)
        packed = pickle.dumps(task)
        worker.busy, worker.task, worker.since = True, task, time.monotonic()
        self._send(worker, packed)

    def wait(self, timeout: float) -> list[Done]:
        """Wait until some task ends or a worker becomes free, at most `timeout` seconds.

        Raises:
            WorkerError: workers keep dying before they are ready.
            Exception: what `Work.maker` raised in the first worker.
        """
        done = []
        for worker, answer in self._answers(timeout):
            if isinstance(answer, str):
                done += self._bury(worker, answer)
                continue
            value, error = _unpack(answer)
            if worker.ready:
                done.append(Done(worker.task, value, error, time.monotonic() - worker.since, worker))
                worker.busy, worker.task = False, None
            elif error is None:
                worker.ready, worker.false_starts, self._begun = True, 0, True
            elif not self._begun:
                raise error
            else:  # Others can work, as when a node has lost its GPU.
                done += self._bury(worker, str(error))
        return done

    def renew(self, worker: Worker) -> None:
        """Replace a worker whose process must not be used again; a task that it has is dropped."""
        self._stop(worker)
        worker.handle = self._start(worker.slot)
        worker.ready, worker.busy, worker.task = False, False, None

    def _bury(self, worker: Worker, how: str) -> list[Done]:
        """Replace a dead worker; tell of the task that it had."""
        task, was_busy, elapsed = worker.task, worker.busy, time.monotonic() - worker.since
        if not worker.ready:
            worker.false_starts += 1
            starts = [w.false_starts for w in self.workers]
            if not self._begun and all(starts) and sum(starts) >= MAX_FALSE_STARTS:
                raise WorkerError(f"{sum(starts)} workers in a row ended before they were ready: {how}")
            # Where some can work, one that can't is given up: a node of many may be broken.
            if self._begun and worker.false_starts >= MAX_FALSE_STARTS:
                self._give_up(worker, how)
                return []
        self.renew(worker)
        if not was_busy:
            return []
        limit = self.work.time_limit
        if limit is not None and elapsed >= limit:
            how = f"ran past its time limit of {limit:g} s and was killed"
        return [Done(task, None, WorkerError(how), elapsed, worker)]

    def _give_up(self, worker: Worker, how: str) -> None:
        from tqdm import tqdm

        self._stop(worker)
        self.workers.remove(worker)
        tqdm.write(f"nasbench-mr: gave up a worker that can't start: {how}", file=sys.stderr)
        if not self.workers:
            raise WorkerError(f"no worker is left; the last one could not start: {how}")

    def close(self) -> None:
        """End all workers, now."""
        for worker in self.workers:
            self._stop(worker)
        self.workers.clear()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def run(
    work: Work,
    tasks: Iterable[Any],
    *,
    engine: str = "local",
    workers: int | None = None,
    **options: Any,
) -> Iterator[tuple[Any, Any]]:
    """Do all tasks; yield each with its value as it ends, in whatever order.

    Args:
        engine, workers, options: see `make`; no more workers start than there are tasks. With 0 workers,
            everything runs in this process.

    Raises:
        WorkerError: a worker died; names its task.
        Exception: what a task raised. The other workers end.
    """
    todo = deque(tasks)
    if not todo:
        return
    if workers == 0:
        function = work.load()
        for task in todo:
            yield task, function(task)
        return
    if workers is None and engine == "local":
        workers = default_workers(work)
    with make(engine, work, None if workers is None else min(workers, len(todo)), **options) as pool:
        while todo or pool.running:
            while todo and pool.free:
                pool.submit(todo.popleft())
            for done in pool.wait(60):
                if isinstance(done.error, WorkerError):
                    raise WorkerError(f"{done.task!s:.200}: {done.error}") from done.error
                yield done.task, done.result()


# --- In a worker --------------------------------------------------------------------------------------


class Servant:
    """What a worker of any engine does with the bytes that it gets; its answers are bytes as well."""

    def __init__(self, work: bytes):
        self._work = work

    def load(self) -> bytes:
        """Prepare the work; answer with the error, if there is one."""
        try:
            work: Work = pickle.loads(self._work)
            self._limit, self._function = work.time_limit, work.load()
        except Exception as error:
            return _pack(error=error)
        return _pack()

    def run(self, task: bytes) -> bytes:
        """Do a task; answer with its value or error."""
        try:
            with _limited(self._limit):
                return _pack(self._function(pickle.loads(task)))
        except Exception as error:
            return _pack(error=error)


def _pack(value: Any = None, error: Exception | None = None) -> bytes:
    if error is not None:
        error = portable(error)
        error.add_note(f"in a worker:\n{traceback.format_exc()}")
    try:
        return pickle.dumps((value, error))
    except Exception as failure:
        return _pack(error=WorkerError(f"the result {value!r:.60} does not pickle: {failure}"))


def _unpack(answer: bytes) -> tuple[Any, Exception | None]:
    try:
        value, error = pickle.loads(answer)
    except Exception as failure:  # A class that only the worker knows.
        return None, WorkerError(f"can't read a worker's answer: {type(failure).__name__}: {failure}")
    return value, error


def portable(error: Exception) -> Exception:
    """Return an error as another process will see it: itself, or a `WorkerError` where it does not pickle."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:  # of whatever an error's own constructor does
        pass
    return WorkerError(f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def _limited(seconds: float | None) -> Iterator[None]:
    """End this process, with a traceback on stderr, if the block takes longer.

    By a thread of faulthandler's that needs no interpreter lock, so it also ends what hangs outside Python.
    """
    if seconds is None:
        yield
        return
    faulthandler.dump_traceback_later(
        seconds, exit=True, file=sys.__stderr__ or os.open(os.devnull, os.O_WRONLY)
    )
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


# --- On this machine ----------------------------------------------------------------------------------


class Local(Engine):
    """Worker processes on this machine, each with one thread; they share its GPUs evenly."""

    name = "local"

    def __init__(self, work: Work, workers: int | None = None):
        self._gpus = gpus() if work.gpu else []
        super().__init__(work, default_workers(work, self._gpus) if workers is None else workers)

    def _start(self, slot: int) -> tuple[subprocess.Popen[bytes], Connection]:
        ours, theirs = Pipe()
        # The current folder last (and -P): what lies there is found, and can hide no one's modules.
        here = []
        with contextlib.suppress(FileNotFoundError):  # it may be deleted
            here.append(os.getcwd())
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), *here]),
            # Workers fill the cores; threads in each would only fight over them.
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        program = f"from {__name__} import serve; serve({theirs.fileno()}, {os.getpid()})"
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", program],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=environment,
            # A session of its own: Ctrl-C reaches this process alone, which then ends the workers and theirs.
            start_new_session=True,
        )
        theirs.close()
        with contextlib.suppress(OSError):  # It died already; `_answers` will notice.
            ours.send_bytes(self._packed)
        return process, ours

    def _send(self, worker: Worker, task: bytes) -> None:
        with contextlib.suppress(OSError):
            worker.handle[1].send_bytes(task)

    def _answers(self, timeout: float) -> Iterator[tuple[Worker, bytes | str]]:
        by_pipe = {worker.handle[1]: worker for worker in self.workers}
        for pipe in wait(list(by_pipe), timeout):
            worker = by_pipe[pipe]
            answer: bytes | str
            try:
                answer = worker.handle[1].recv_bytes()
            except (EOFError, OSError):
                answer = _death(worker.handle[0])
            yield worker, answer

    def _stop(self, worker: Worker) -> None:
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


def serve(pipe_number: int, parent: int) -> None:
    """Do what comes through the pipe of this number, until its other end is gone; a worker's main program."""
    pipe = Connection(pipe_number)
    threading.Thread(target=_end_with, args=(pipe_number, parent), daemon=True).start()
    # What the work prints must not mix with the results of the command on stdout.
    os.dup2(2, 1)
    with contextlib.suppress(EOFError, OSError):
        servant = Servant(pipe.recv_bytes())
        pipe.send_bytes(servant.load())
        while True:
            pipe.send_bytes(servant.run(pipe.recv_bytes()))


def _end_with(pipe_number: int, parent: int) -> None:
    """End this process and its own when the parent is gone, even in the middle of a task.

    The pipe says so at once. Should a fork of the parent hold its other end open, the parent's number does.
    """
    hangup = select.poll()
    hangup.register(pipe_number, 0)
    while not hangup.poll(_WATCH * 1000) and os.getppid() == parent:
        pass
    os.killpg(0, signal.SIGKILL)


def end_with_parent(number: int = 0) -> None:
    """Let this process of another library's pool end when its parent is gone, whatever it is doing.

    For a loader's `worker_init_fn`, which gives it a number. The pool must be of `multiprocessing`.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_without, args=(parent.pid,), daemon=True).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH)
    os.kill(os.getpid(), signal.SIGKILL)


def gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them, without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        # As in a container that was given the devices alone.
        return [str(k) for k, _ in enumerate(DEVICES.glob("nvidia[0-9]*"))]
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(k) for k, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(work: Work, found: list[str] | None = None) -> int:
    """Return how many workers fit: one for each core, or as many as the GPUs (`found`, if known) take."""
    if found is None:
        found = gpus() if work.gpu else []
    return min(cores(), work.per_gpu * len(found)) if found else cores()


# --- On a cluster -------------------------------------------------------------------------------------


class Ray(Engine):
    """Actors of a Ray cluster. This package must be installed on its nodes, and the data be there.

    A worker whose node dies is placed anew, on whatever the cluster still has or gets.

    Args:
        work, workers: see `Engine`; by default as many workers as the cluster has room for now. More wait for
            an autoscaling cluster to grow.
        address: of the cluster; None: one that this process is connected to, or $RAY_ADDRESS, or a new one
            on this machine, which ends with the engine.
        gpus: share of a GPU that a worker takes, such as 0.25; above 1: whole numbers. None: one where the
            cluster has GPUs now, else 0.
        cpus: cores that a worker takes.

    Raises:
        MissingExtraError: Ray is not installed.
        InvalidArgumentError: a share is negative, or the cluster has no room for a worker.
        WorkerError: the cluster can't be reached.
    """

    name = "ray"

    def __init__(
        self,
        work: Work,
        workers: int | None = None,
        *,
        address: str | None = None,
        gpus: float | None = None,
        cpus: float = 1.0,
    ):
        with requires("cluster", "the engine 'ray'"):
            import ray
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
                with contextlib.chdir(tempfile.gettempdir()), _terminated_as_before():
                    ray.init(
                        address=address,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                        configure_logging=False,
                    )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise WorkerError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
        #: What each worker is busy with: a reference to its answer.
        self._answer: dict[Any, Worker] = {}
        room = self._ray.cluster_resources()
        if gpus is None:
            gpus = 1.0 if room.get("GPU") and work.gpu else 0.0
        self._actor = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(Servant)
        places = [room.get(kind, 0) / share for kind, share in (("CPU", cpus), ("GPU", gpus)) if share]
        try:
            super().__init__(work, int(min(places)) if workers is None else workers)
        except InvalidArgumentError:
            if workers is None:
                raise InvalidArgumentError(
                    f"the cluster has no room for a worker of {cpus:g} cores and {gpus:g} GPUs"
                ) from None
            raise

    def _start(self, slot: int) -> Any:
        return self._actor.remote(self._packed)

    def _send(self, worker: Worker, task: bytes) -> None:
        self._answer[worker.handle.run.remote(task)] = worker

    def _answers(self, timeout: float) -> Iterator[tuple[Worker, bytes | str]]:
        for worker in self.workers:
            if not worker.ready and worker not in self._answer.values():
                self._answer[worker.handle.load.remote()] = worker
        pending = list(self._answer)
        first, _ = self._ray.wait(pending, num_returns=1, timeout=timeout)
        # And those that are there as well.
        done, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0) if first else ([], [])
        for reference in done:
            worker = self._answer.pop(reference)
            answer: bytes | str
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                answer = f"the worker or its node died: {str(error).strip().splitlines()[0]}"
            yield worker, answer

    def _stop(self, worker: Worker) -> None:
        self._answer = {k: w for k, w in self._answer.items() if w is not worker}
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker.handle)

    def close(self) -> None:
        super().close()
        if self._ours and self._ray.is_initialized():
            self._ray.shutdown()


@contextlib.contextmanager
def _terminated_as_before() -> Iterator[None]:
    """Let SIGTERM do afterwards what the program had chosen.

    Ray replaces that: the process would print Ray's stack and exit in silence, with status 15. Where nothing
    was chosen Ray's handler stays, as it ends the cluster.
    """
    chosen = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if chosen not in (None, signal.SIG_DFL) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, chosen)


#: Engine: what makes it, from work, the number of workers and the engine's own options.
ENGINES = Registry[Callable[..., Engine]]("engine", {"local": Local, "ray": Ray})


def make(name: str, work: Work, workers: int | None = None, **options: Any) -> Engine:
    """Return an engine with its workers starting.

    Args:
        name: "local" or "ray".
        workers: tasks at once; None: as many as the machine or cluster has room for.
        options: those of `Ray`.

    Raises:
        UnknownNameError: no such engine.
        InvalidArgumentError: an option that the engine does not have, or of a bad value.
        MissingExtraError: Ray is not installed.
    """
    engine = ENGINES[name]
    given = {key: value for key, value in options.items() if value is not None}
    check_options(engine, given, f"the engine {name!r}", ("work", "workers"))
    return engine(work, workers, **given)
