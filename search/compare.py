"""`compare`: searches against each other, over tasks and seeds at one budget, in parallel and resumable.

    comparison = compare(bench, ("seg", "video"), ("random", "evolution", "ncp"), budget=150, seeds=100)
    comparison.final(), comparison.ranks(), comparison.tests()

The unit of work is a part: one search on one task with `BLOCK` seeds, which run side by side so that they
ask a surrogate one question together. A finished part is a file. A comparison that was killed resumes when it
is called again, and ends with the same results, since a part is a function of its description alone.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import __version__, files, measured, plugins, table
from nasbench_mr import workers as pool
from nasbench_mr.checks import at_least, json_object, positive
from nasbench_mr.errors import InvalidArgumentError, TableError, UnknownNameError, WorkerError, did_you_mean
from nasbench_mr.fronts import MAX_OBJECTIVES
from nasbench_mr.objective import Objective, goals
from nasbench_mr.search import base
from nasbench_mr.search import reference as results
from nasbench_mr.search.comparison import COLUMNS, MAX_BUDGET, Comparison

if TYPE_CHECKING:
    import pyarrow as pa

    from nasbench_mr.benchmark import Benchmark

SOURCES = ("table", "surrogate")
#: The searches that are compared where none are named, also of fronts.
SEARCHERS, FRONT_SEARCHERS = ("random", "local", "evolution"), ("random", "nsga2", "pareto-local")
#: What workers do with a part: `part.run()`.
RUN = pool.Work("operator:methodcaller", ("run",))
#: Seeds in a part. Fixed, so that neither the number of workers nor an interruption changes a result.
BLOCK = 25


def compare(
    bench: Benchmark,
    tasks: str | Sequence[str],
    searchers: str | type[base.Searcher] | Sequence[str | type[base.Searcher]] | None = None,
    *,
    budget: float = 300,
    seeds: int = 100,
    out: str | os.PathLike[str] | None = None,
    source: str = "table",
    max_macs: float | None = None,
    max_params: float | None = None,
    limits: Mapping[str, float] | None = None,
    distinct: bool = False,
    front: bool = False,
    batch: int = 1,
    engine: str = "local",
    workers: int | None = None,
    progress: bool = False,
    reference: bool = False,
) -> Comparison:
    """Run every search on every task with every seed.

    Args:
        bench: the release.
        tasks: names, as `Objective.table` has them ("seg", "seg/mAcc", "latency_ms@cpu"); each is searched by
            itself. "seg+video" is one task, both jointly.
        searchers: names of `search.names()`, by default `SEARCHERS`, of fronts `FRONT_SEARCHERS`;
            "evolution:population=20:sample=5" sets options. A search of your own is a subclass of `Searcher`
            in a module that can be imported, or its dotted name ("mine.Search"); when the module's text
            changes, its runs start anew.
        budget: full trainings a run may ask for.
        seeds: how many runs of each: seeds 0, 1, ...
        out: a folder to keep the results in. The same call with the same folder resumes.
        source: "table", or "surrogate" for the whole space.
        max_macs, max_params, limits: as `Benchmark.best` has them, inclusive.
        distinct: of codes that are one network (isomorphic cells of NAS-Bench-201), only the first tabulated
            one can be asked for; with the source "table".
        front: the terms of "seg+video+macs" are a front's objectives (`Objective.front`), the best value is a
            hypervolume, and the searches are those for fronts.
        batch: codes a search is asked for at a time.
        engine: where runs take place: "local", or "ray" on a cluster whose nodes have the release in the same
            place.
        workers: processes; None: as many as the machine or cluster has room for; 0: none, everything in this
            process.
        progress: show a bar.
        reference: add the reference results of the other searches (`search.reference`), which are not run;
            they are not kept in `out`. Ranks and tests are of the seeds that all searches have.

    Raises:
        UnknownTaskError, UnknownMetricError, UnknownNameError: no such task, metric or search.
        InvalidArgumentError: a bad number or option; no reference results of such a comparison.
        ReleaseError: the reference results are of another table.
        InfeasibleError: no code of a task meets the limits.
        SurrogateNotFoundError: the release has no surrogate for a task.
        WorkerError: a worker died; what was finished is kept.
    """
    names = _listed("tasks", tasks)
    usual = FRONT_SEARCHERS if front else SEARCHERS
    given = usual if searchers is None else [searchers] if isinstance(searchers, type) else searchers
    texts = given if isinstance(given, str) else [_spec(searcher) for searcher in given]
    specs = _listed("searchers", texts)
    if front and (alone := [name for name in names if "+" not in name]):
        joined = "+".join(names[:MAX_OBJECTIVES]) if len(names) > 1 else f"{alone[0]}+macs"
        raise InvalidArgumentError(
            f'{alone[0]!r} is one objective; expected those of a front joined with "+", such as {joined}'
        )
    if source not in SOURCES:
        raise UnknownNameError(f"no source {source!r}: {did_you_mean(source, SOURCES)}")
    seeds, workers = at_least(1, "seeds", seeds), None if workers is None else at_least(0, "workers", workers)
    pool.ENGINES.check(engine)
    budget, batch = base.check_budget(
        positive("budget", budget, f"a positive number of evaluations, at most {MAX_BUDGET:g}", MAX_BUDGET),
        batch,
    )
    budget = int(budget) if budget % 1 == 0 else budget
    if distinct and source != "table":
        raise InvalidArgumentError(f"distinct is about tabulated codes; the source is {source!r}")
    bounds = measured.limits(bench, limits, max_macs, max_params)
    exact = {"macs": bounds.macs, "params": bounds.params}
    most = {name: value for name, value in exact.items() if value < math.inf}
    # By names that say the release: in a worker they mean the same costs.
    costs = {limit.cost.address: limit.most for limit in bounds.measured}
    terms = {name: goals(bench, name.split("+"), costs=front) for name in names}
    asked = bench.releases_of([goal.task.name for found in terms.values() for goal in found] + [*costs])
    paths = tuple(os.fspath(release.path) for release in asked)
    within = tuple((most | costs).items())
    places = [Place(paths, t, source, within, distinct=bool(distinct), front=bool(front)) for t in names]
    hashes = sorted(entry["sha256"] for release in asked for entry in release.files.values())
    data = _digest([__version__, *hashes])
    parts = []
    for place in places:
        for spec in specs:
            # Mistakes come to light here, before anything runs.
            name, options = parse_searcher(spec)
            made = base.make(name, place.objective(), 0, **options)
            if place is places[0]:
                base.warn_of_random(made, budget)
            sources = plugins.digest(name, *options.values())
            own = _digest([data, sources]) if sources else data
            for first in range(0, seeds, BLOCK):
                count = min(BLOCK, seeds - first)
                parts.append(Part(place, spec, first, count, budget=float(budget), batch=batch, data=own))
    about = {
        "release": ", ".join(map(str, asked)),
        "source": source,
        "tasks": names,
        "searchers": specs,
        "seeds": seeds,
        "budget": budget,
        "batch": batch,
        "limits": dict(within),
        "distinct": bool(distinct),
        "front": bool(front),
        "tables": results.digests(bench, terms),
        **_scales(places),
    }
    if reference:
        results.load(about)  # Mistakes come to light here as well.
    tables = _run_parts(parts, None if out is None else Path(out) / "parts", engine, workers, progress)
    comparison = Comparison.of([tables[part] for part in parts], about)
    if out is not None:
        comparison.save(out)
    return results.beside(comparison) if reference else comparison


def parse_searcher(spec: str) -> tuple[str, dict[str, Any]]:
    """Return "evolution:population=20" as a name and options; a preset's settings are written alike."""
    name, *settings = spec.split(":")
    options: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise InvalidArgumentError(f"{spec!r}: {setting!r} is not an option; expected name=value")
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

    release: tuple[str, ...]
    task: str
    source: str
    limits: tuple[tuple[str, float], ...]
    distinct: bool = False
    front: bool = False

    def objective(self) -> Objective:
        """Return the objective, made once in a process."""
        return _objective(self)


@lru_cache(maxsize=32)
def _objective(place: Place) -> Objective:
    bench, terms = _bench(place.release), place.task.split("+")
    asked: dict[str, Any] = {"limits": dict(place.limits), "front": place.front}
    if place.source == "surrogate":
        return Objective.surrogate(bench, terms, **asked)
    return Objective.table(bench, terms, **asked, distinct=place.distinct)


@lru_cache(maxsize=4)
def _bench(release: tuple[str, ...]) -> Benchmark:
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
        if place.front:
            unit[place.task] = "hypervolume"
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

    def __str__(self) -> str:
        return f"{self.searcher} on {self.place.task}, seeds {self.first} to {self.first + self.count - 1}"

    @property
    def name(self) -> str:
        described = asdict(self)
        del described["place"]["release"]
        return f"{_digest(described)[:32]}.parquet"

    def run(self) -> bytes:
        """Run the searches; return the part's Parquet file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        made = self.place.objective()
        name, options = parse_searcher(self.searcher)
        seeds = range(self.first, self.first + self.count)
        traces = base.run_all(
            [base.make(name, made, seed, **options) for seed in seeds], made, self.budget, self.batch
        )
        to_string = made.domain.space.to_string
        fronts = [[t.best_code] if t.best_code else t.front.tolist() if made.shape else [] for t in traces]
        codes = ["; ".join(map(to_string, codes)) or None for codes in fronts]
        rows = [len(trace.values) for trace in traces]
        columns = {"seed": np.repeat(np.array(seeds, np.int32), rows)}
        for column in COLUMNS:
            if column != "seed":
                columns[column] = np.concatenate([getattr(trace, column) for trace in traces])
                if columns[column].ndim == 2:  # of a front: the volume that each code dominates alone
                    columns[column] = np.maximum(columns[column], 0).prod(axis=1)
        found = pa.table(columns)
        about = {"task": self.place.task, "searcher": self.searcher, "unit": traces[0].unit, "codes": codes}
        found = found.replace_schema_metadata({"nasbench_mr": json.dumps(about)})
        sink = pa.BufferOutputStream()
        pq.write_table(found, sink)
        data: bytes = sink.getvalue().to_pybytes()
        return data

    def read(self, file: Path | bytes) -> pa.Table:
        """Return the table that `run` made, from its file or its bytes; raise `TableError` for others."""
        try:
            arrow = table.read_arrow(io.BytesIO(file) if isinstance(file, bytes) else file, "it")
            about = json_object((arrow.schema.metadata or {})[b"nasbench_mr"], "its metadata", TableError)
            seeds = list(range(self.first, self.first + self.count))
            sound = (
                arrow.schema.names == list(COLUMNS)
                and [str(kind) for kind in arrow.schema.types] == list(COLUMNS.values())
                and not any(column.null_count for column in arrow.columns)
                and sorted(set(arrow["seed"].to_pylist())) == seeds
                and (about["task"], about["searcher"]) == (self.place.task, self.searcher)
                and isinstance(about["unit"], str)
                and [type(code) in (str, NoneType) for code in about["codes"]] == [True] * self.count
            )
            if not sound:
                raise TableError("it holds something else")
        except (TableError, KeyError, TypeError) as error:
            raise TableError(
                f"{file!s:.200} is damaged or foreign ({error}); expected {self}. "
                "Delete it, and rerun the command"
            ) from None
        return arrow


def _run_parts(
    parts: Sequence[Part], folder: Path | None, engine: str, workers: int | None, progress: bool
) -> dict[Part, pa.Table]:
    """Return the parts' tables: those in the folder, all checked before any work, and those that run now."""
    from tqdm import tqdm

    kept = [] if folder is None else [(part, folder / part.name) for part in parts]
    tables = {part: part.read(path) for part, path in kept if path.exists()}
    todo = [part for part in parts if part not in tables]
    runs, done = (sum(part.count for part in listed) for listed in (parts, tables))
    with tqdm(
        total=runs, initial=done, desc="compare", unit="run", disable=None if progress else True
    ) as bar:
        try:
            for part, data in pool.run(RUN, todo, engine=engine, workers=workers):
                if folder is not None:
                    files.write_bytes(folder / part.name, data)
                tables[part] = part.read(data)
                bar.update(part.count)
        except WorkerError as error:
            if folder is not None:
                error.args = (f"{error}; what was finished is kept: rerun the command to resume",)
            raise
    return tables
