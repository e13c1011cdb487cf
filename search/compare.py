"""`compare`: searches against each other, over tasks and seeds at one budget, in parallel and resumable.

    comparison = compare(bench, ("seg", "video"), ("random", "evolution", "ncp"), budget=150, seeds=100)
    comparison.final(), comparison.ranks(), comparison.tests()

The unit of work is a part: one search on one task with `BLOCK` seeds, which run side by side so that they
ask a surrogate one question together. A finished part is a file; a comparison that was killed goes on where
it was, and ends with the same results, since a part is a function of its description alone.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import __version__, files, plugins
from nasbench_mr.checks import at_least
from nasbench_mr.errors import InvalidArgumentError, NasbenchMRError, UnknownNameError, did_you_mean
from nasbench_mr.objective import Objective
from nasbench_mr.search import base
from nasbench_mr.search.comparison import Comparison

if TYPE_CHECKING:
    import pyarrow as pa

    from nasbench_mr.benchmark import Benchmark

SOURCES = ("table", "surrogate")
#: Seeds in a part. Fixed, so that neither the number of workers nor an interruption changes a result.
BLOCK = 25


def compare(
    bench: Benchmark,
    tasks: str | Sequence[str],
    searchers: str | type[base.Searcher] | Sequence[str | type[base.Searcher]] = (
        "random",
        "local",
        "evolution",
    ),
    budget: float = 300,
    seeds: int = 100,
    out: str | os.PathLike[str] | None = None,
    source: str = "table",
    max_macs: float | None = None,
    max_params: float | None = None,
    batch: int = 1,
    workers: int | None = None,
    progress: bool = False,
) -> Comparison:
    """Runs every search on every task with every seed.

    Args:
        bench: the release.
        tasks: names; each is searched by itself. "seg+video" is one task, both jointly.
        searchers: names of `search.names()`; "evolution:population=20:sample=5" sets options. A search of
            your own is a subclass of `Searcher` in a module that can be imported, or its dotted name
            ("mine.Search"); when the module's text changes, its runs start anew.
        budget: full trainings a run may ask for.
        seeds: how many runs of each: seeds 0, 1, ...
        out: a folder to keep the results in. The same call with the same folder goes on where it was.
        source: "table", or "surrogate" for the whole space.
        max_macs, max_params: limits, inclusive.
        batch: codes a search is asked for at a time.
        workers: processes; None: one for each core; 0: none, everything in this process.
        progress: show a bar.

    Raises:
        UnknownTaskError, UnknownMetricError, UnknownNameError: no such task, metric or search.
        InvalidArgumentError: a bad number or option.
        InfeasibleError: no code of a task meets the limits.
        SurrogateNotFoundError: the release has no surrogate for a task.
    """
    names = _listed("tasks", tasks)
    given = [searchers] if isinstance(searchers, type) else searchers
    texts = given if isinstance(given, str) else [_spec(searcher) for searcher in given]
    specs = _listed("searchers", texts)
    if source not in SOURCES:
        raise UnknownNameError(f"no source {source!r}: {did_you_mean(source, SOURCES)}")
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    seeds, workers = at_least(1, "seeds", seeds), at_least(0, "workers", workers)
    base.check_budget(budget, batch)
    budget, batch = int(budget) if budget % 1 == 0 else float(budget), int(batch)
    release = os.fspath(bench.release.path)
    places = [Place(release, task, source, max_macs, max_params) for task in names]
    data = _digest([__version__, *sorted(entry["sha256"] for entry in bench.release.files.values())])
    parts = []
    for place in places:
        for spec in specs:
            # Mistakes come to light here, before anything runs.
            name, options = parse_searcher(spec)
            base.make(name, place.objective(), 0, **options)
            sources = plugins.digest(name, *options.values())
            own = _digest([data, sources]) if sources else data
            for first in range(0, seeds, BLOCK):
                count = min(BLOCK, seeds - first)
                parts.append(Part(place, spec, first, count, float(budget), batch, own))
    about = {
        "release": str(bench.release),
        "source": source,
        "tasks": names,
        "searchers": specs,
        "seeds": seeds,
        "budget": budget,
        "batch": batch,
        "max_macs": max_macs,
        "max_params": max_params,
        **_scales(places),
    }
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if out is None else out)
        _run_parts(parts, folder / "parts", workers, progress)
        tables = [part.read(folder / "parts") for part in parts]
    comparison = Comparison.of(tables, about)
    if out is not None:
        comparison.save(folder)
    return comparison


def parse_searcher(spec: str) -> tuple[str, dict[str, Any]]:
    """ "evolution:population=20" as a name and options.

    Raises:
        InvalidArgumentError: an option has no value.
    """
    name, *settings = spec.split(":")
    options: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise InvalidArgumentError(f"search {spec!r}: {setting!r} is no option; expected name=value")
        try:
            options[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[key] = text
    return name, options


def _spec(searcher: str | type[base.Searcher]) -> str:
    return searcher if isinstance(searcher, str) else plugins.address(searcher)


def _listed(what: str, names: str | Sequence[str]) -> list[str]:
    # A comma within brackets belongs to an option: "guided:hidden=(32,32)".
    parts = re.split(r",(?![^(\[]*[)\]])", names) if isinstance(names, str) else names
    listed = [name.strip() for name in parts]
    if not listed or "" in listed or len(set(listed)) < len(listed):
        raise InvalidArgumentError(f"{what} are {names!r}; expected distinct names, at least one")
    return listed


def _digest(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Place:
    """Where a search is compared: an objective, by description. "seg+video" is two tasks jointly."""

    release: str
    task: str
    source: str
    max_macs: float | None
    max_params: float | None

    def objective(self) -> Objective:
        """The objective, made once in a process."""
        return _objective(self)


@lru_cache(maxsize=32)
def _objective(place: Place) -> Objective:
    make = {"table": Objective.table, "surrogate": Objective.surrogate}[place.source]
    return make(_bench(place.release), place.task.split("+"), place.max_macs, place.max_params)


@lru_cache(maxsize=4)
def _bench(release: str) -> Benchmark:
    from nasbench_mr.benchmark import load

    return load(release)


def _scales(places: Sequence[Place]) -> dict[str, dict[str, Any]]:
    """By task: the best value (None where no one knows it), the values' spread over the table, the unit."""
    best, spread, unit = {}, {}, {}
    for place in places:
        made = place.objective()
        known = made.best()
        best[place.task] = None if known != known else known
        joint = len(made.goals) > 1
        spread[place.task] = 1.0 if joint else made.goals[0].std
        unit[place.task] = "standard deviations" if joint else made.goals[0].metric.unit
    return {"best": best, "spread": spread, "unit": unit}


@dataclass(frozen=True)
class Part:
    """One search on one task with `count` seeds from `first` on.

    `data` is a digest of what the objective answers from: the part's name, and so whether it is done, depends
    on everything that its results depend on.
    """

    place: Place
    searcher: str
    first: int
    count: int
    budget: float
    batch: int
    data: str

    @property
    def label(self) -> str:
        return f"{self.searcher} on {self.place.task}, seeds {self.first} to {self.first + self.count - 1}"

    @property
    def name(self) -> str:
        described = asdict(self)
        del described["place"]["release"]
        return f"{_digest(described)[:32]}.parquet"

    def done(self, folder: Path) -> bool:
        return (folder / self.name).is_file()

    def run(self, folder: Path) -> None:
        """Does the work and writes the file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        made = self.place.objective()
        name, options = parse_searcher(self.searcher)
        seeds = range(self.first, self.first + self.count)
        traces = base.run_all(
            [base.make(name, made, seed, **options) for seed in seeds], made, self.budget, self.batch
        )
        to_string = made.domain.space.to_string
        codes = [None if t.best_code is None else to_string(t.best_code) for t in traces]
        rows = [len(trace.values) for trace in traces]
        columns = {"seed": np.repeat(np.array(seeds, np.int32), rows)}
        for column in ("fidelity", "evaluations", "spent", "values", "best"):
            columns[column] = np.concatenate([getattr(trace, column) for trace in traces])
        table = pa.table(columns)
        about = {"task": self.place.task, "searcher": self.searcher, "unit": traces[0].unit, "codes": codes}
        table = table.replace_schema_metadata({"nasbench_mr": json.dumps(about)})
        with files.atomic(folder / self.name) as temporary:
            pq.write_table(table, temporary)

    def read(self, folder: Path) -> pa.Table:
        """What `run` wrote."""
        import pyarrow.parquet as pq

        return pq.read_table(folder / self.name)


def _run_parts(parts: Sequence[Part], folder: Path, workers: int, progress: bool) -> None:
    """Runs those parts whose file is not there."""
    from tqdm import tqdm

    todo = deque(part for part in parts if not part.done(folder))
    runs = sum(part.count for part in parts)
    done = runs - sum(part.count for part in todo)
    with tqdm(
        total=runs, initial=done, desc="compare", unit="run", disable=None if progress else True
    ) as bar:
        if workers == 0:
            for part in todo:
                part.run(folder)
                bar.update(part.count)
            return
        pool = [_Worker(folder) for _ in range(min(workers, len(todo)))]
        try:
            for worker in pool:
                worker.start(todo.popleft())
            busy = {worker.pipe: worker for worker in pool}
            while busy:
                for pipe in wait(list(busy)):
                    worker = busy[pipe]  # type: ignore[index]
                    bar.update(worker.finish().count)
                    if todo:
                        worker.start(todo.popleft())
                    else:
                        del busy[pipe]  # type: ignore[arg-type]
        finally:
            for worker in pool:
                worker.end()


class _Worker:
    """A fresh interpreter that runs parts, one at a time; not a fork, so it needs no guard in scripts."""

    def __init__(self, folder: Path):
        self.pipe, theirs = Pipe()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            # Workers fill the cores; threads in each would only fight over them.
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        program = f"from {__name__} import serve; serve({theirs.fileno()})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], pass_fds=[theirs.fileno()], env=environment
        )
        theirs.close()
        self.part: Part | None = None
        self._send(folder)

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # It died already; `finish` will notice.
            self.pipe.send(message)

    def start(self, part: Part) -> None:
        self.part = part
        self._send(part)

    def finish(self) -> Part:
        """Waits for the part that was started.

        Raises:
            NasbenchMRError: the worker died.
        """
        part = self.part
        assert part is not None
        try:
            error = self.pipe.recv()
        except (EOFError, OSError):
            raise NasbenchMRError(
                f"a worker ended with exit status {self.process.wait()} at {part.label}; "
                "what was finished is kept: the same command goes on from there"
            ) from None
        if error is not None:
            raise error
        return part

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.pipe.close()


def serve(pipe_number: int) -> None:
    """What a worker runs: parts from the pipe of this number, until its other end is gone."""
    pipe = Connection(pipe_number)
    with contextlib.suppress(EOFError, OSError):
        folder = pipe.recv()
        while True:
            part = pipe.recv()
            try:
                part.run(folder)
            except Exception as error:
                error.add_note(f"in a worker, at {part.label}:\n{traceback.format_exc()}")
                pipe.send(error)
            else:
                pipe.send(None)
