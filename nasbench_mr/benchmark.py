"""`load` and `Benchmark`: ask what a code achieves.

    bench = nasbench_mr.load()
    bench.query(code, "seg")["mIoU"]

Without a name `load` opens the library: all that is installed, as one (`library.py`).
Queries answer from a release's tables, or from its surrogates for codes that no one trained. A first query
takes milliseconds, so nothing is imported before it is needed: asking for a tuple in a table with one trial a
code loads no NumPy; the views for analysis (`to_pandas`, `pareto`, ...) load pandas.
"""

from __future__ import annotations

import functools
import operator
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import repeat
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nasbench_mr import checks, library, tasks
from nasbench_mr import release as releases
from nasbench_mr.errors import (
    CodeNotFoundError,
    InfeasibleError,
    InvalidArgumentError,
    SurrogateNotFoundError,
    UnknownMetricError,
    UnknownTaskError,
    did_you_mean,
)
from nasbench_mr.release import Release
from nasbench_mr.trials import COSTS, Trials, keys

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from nasbench_mr.measured import Cost, Estimate
    from nasbench_mr.spaces import Space
    from nasbench_mr.surrogate import Surrogate
    from nasbench_mr.tasks import Task

    #: The codes of a table, row by row, and the number of each different one.
    _Index = tuple[bytes | memoryview[Any], dict[bytes, int]]
    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

SOURCES = ("auto", "table", "surrogate")
#: `query_many` looks codes up in pieces of this many rows, which stay in the processor's cache.
_CHUNK = 1 << 15


def load(
    release: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
) -> Benchmark:
    """Open what is installed, or a release.

        bench = load()                      # the library: every installed release, and "mini"
        bench = load("nasbench-mr@1.0.0")   # one release alone

    Args:
        release: None for the library, in which a task is answered by the first release that has it: the
            published ones and "mini", then those of a user. A name or "name@version" of an installed release,
            a release's folder, or its tarball, which is unpacked to a temporary folder for as long as it is
            used. An installed release's name comes before a file of that name in the current folder. Several
            of these are asked as one, in their order.

    Raises:
        ReleaseNotFoundError: there is none; says how to get it.
        ReleaseError, UnsafeFileError, IntegrityError: the folder or tarball is malformed.
    """
    if release is None:
        return Benchmark(*library.opened())
    several = [release] if isinstance(release, (str, os.PathLike)) else list(release)
    return Benchmark(*map(releases.load, several))


class Result(Mapping[str, float]):
    """What one code achieves in one task: a mapping from metric (and "macs", "params", ...) to value.

    >>> result = nasbench_mr.load("mini").best("mini-cls", k=1)[0]
    >>> round(result["top1"], 2), result.source, result.seeds
    (42.2, 'table', (0, 1, 2))

    Attributes:
        code: the integers.
        task: the task's name.
        source: "table", or "surrogate".
        std: by metric: over the table's seeds (NaN where there is one), or the surrogate's uncertainty.
        seeds: the table's seeds behind the values; empty for a surrogate.
        distance: steps of the grid (L1) to the nearest tabulated code; 0.0 for a tabulated one.
    """

    __slots__ = ("_values", "code", "distance", "seeds", "source", "std", "task")

    def __init__(
        self,
        values: dict[str, float],
        code: tuple[int, ...],
        task: str,
        source: str,
        *,
        std: Mapping[str, float],
        seeds: tuple[int, ...],
        distance: float = 0.0,
    ):
        self._values = values
        self.code = code
        self.task = task
        self.source = source
        self.std = std
        self.seeds = seeds
        self.distance = distance

    @property
    def seconds(self) -> float:
        """The training's seconds up to this point; NaN where no one knows them."""
        return float(self._values.get("seconds", self._values.get("train_seconds", float("nan"))))

    def __getitem__(self, name: str) -> float:
        try:
            return self._values[name]
        except KeyError:
            raise UnknownMetricError(
                f"no {name!r} in task {self.task!r}: {did_you_mean(name, self._values)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __eq__(self, other: object) -> bool:
        """Two results are equal where they say the same, unknown (NaN) values included."""
        if not isinstance(other, Result):
            return super().__eq__(other)
        about = [(r.code, r.task, r.source, r.seeds, r.distance, list(r._values)) for r in (self, other)]
        pairs = zip(self._values.values(), other._values.values(), strict=False)
        return about[0] == about[1] and all(a == b or (a != a and b != b) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        named: dict[str, Any] = {"std": dict(self.std), "seeds": self.seeds, "distance": self.distance}
        return functools.partial(Result, **named), (self._values, self.code, self.task, self.source)

    def __repr__(self) -> str:
        values = ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.items())
        return f"Result({self.task}: {values}; source={self.source!r}, seeds={self.seeds})"


class _View:
    """One task's trials, grouped by code. Only "ok" trials count as answers.

    Attributes:
        index: the number of each code, in order of appearance, by its bytes.
        single: whether each code has one trial.
        names: the columns of an answer: metrics, and costs that some trial knows.
        integers: those that are whole numbers.
        numbers: whether a code's entries are its values; else they are positions of values, which True and
            False would be taken for.
    """

    def __init__(self, task: Task, table: Trials, indexes: list[_Index]):
        self.task, self.table = task, table
        codes, ok = table.columns["codes"], bytes(table.columns["ok"])
        #: The table's row of each "ok" trial.
        self.good: Sequence[int] = range(len(ok))
        every: bytes | memoryview[Any] = codes
        if 0 in ok:
            self.good = [row for row, good in enumerate(ok) if good]
            every = b"".join(codes[row * table.width : (row + 1) * table.width] for row in self.good)
        # Tasks over the same codes share one index. Comparing bytes costs less than importing a hash.
        index = next((i for known, i in indexes if bytes(known) == bytes(every)), None)
        if index is None:
            index = _numbered(keys(every, table.width))
            indexes.append((every, index))
        self.index = index
        self.single = len(self.index) == len(self.good)
        self.names = [n for n, lacking in table.unknown.items() if n not in COSTS or lacking < len(table)]
        self.integers = [n for n in ("macs", "params") if n in self.names and not table.unknown[n]]
        self.metrics = [m.name for m in task.metrics]
        self.numbers = task.space == "nasbench-mr"
        self.no_std = MappingProxyType(dict.fromkeys(self.metrics, float("nan")))
        self._means: dict[str, Floats] = {}

    @cached_property
    def space(self) -> Space:
        from nasbench_mr import spaces

        return spaces.get(self.task.space)

    @cached_property
    def groups(self) -> tuple[Ints, Ints]:
        """`rows` and `starts`: the table's rows of code number k are `rows[starts[k] : starts[k + 1]]`."""
        import numpy as np

        good = np.flatnonzero(self.table.ok)
        if self.single:
            return good, np.arange(len(good) + 1)
        order, starts = _grouped(keys(self.table.codes[good].data.cast("B"), self.table.width), self.index)
        return good[order], starts

    @cached_property
    def codes(self) -> npt.NDArray[np.uint8]:
        """Every code once, in table order: `(n_codes, DIM)`."""
        rows, starts = self.groups
        return self.table.codes[rows[starts[:-1]]]

    def mean(self, name: str) -> Floats:
        """Each code's mean over its seeds of one column: `(n_codes,)`; unknown values do not count."""
        if name not in self._means:
            import numpy as np

            rows, starts = self.groups
            values = self.table.values[name][rows]
            if not self.single:
                known = ~np.isnan(values)
                sums = np.add.reduceat(np.where(known, values, 0.0), starts[:-1])
                counts = np.add.reduceat(known.astype(np.int64), starts[:-1])
                values = sums / np.where(counts, counts, np.nan)
            self._means[name] = values
        return self._means[name]

    def cost(self, name: str) -> Floats:
        """Each code's "macs" or "params", `(n_codes,)`, as limits mean them; NaN where unknown."""
        if self.task.cost == "code":
            return self.mean(name)
        from nasbench_mr import cost

        costs = cost.of(self.task.space)
        if costs is None:
            return self.mean(name)
        exact: Floats = getattr(costs, name)(self.codes).astype("float64")
        return exact

    @cached_property
    def means(self) -> dict[str, memoryview[Any]]:
        """`mean` of every column of an answer."""
        return {name: self.mean(name).data for name in self.names}

    def result(self, k: int, code: tuple[int, ...]) -> Result:
        """Return the answer for code number k, over all its seeds."""
        if self.single:
            return self.row_result(self.good[k], code)
        values = self._values(self.means, k)
        rows = self.trials(k)
        std: Mapping[str, float] = self.no_std
        if len(rows) > 1:
            std = MappingProxyType({m: _mean_std(self.table.values[m][rows])[1] for m in self.metrics})
        return Result(
            values, code, self.task.name, "table", std=std, seeds=tuple(self.table.seed[rows].tolist())
        )

    def row_result(self, row: int, code: tuple[int, ...]) -> Result:
        """Return the answer of one trial, a row of the table; the hot path."""
        columns = self.table.columns
        values = self._values(columns, row)
        return Result(values, code, self.task.name, "table", std=self.no_std, seeds=(columns["seed"][row],))

    def _values(self, columns: Mapping[str, memoryview[Any]], at: int) -> dict[str, float]:
        values: dict[str, float] = {name: columns[name][at] for name in self.names}
        for name in self.integers:
            values[name] = int(values[name])
        return values

    def trials(self, k: int, seed: int | None = None) -> Ints:
        """Return the table's rows with the "ok" trials of code number k, or with that of one seed."""
        every, starts = self.groups
        rows: Ints = every[starts[k] : starts[k + 1]]
        if seed is None:
            return rows
        of_seed: Ints = rows[self.table.seed[rows] == seed]
        if not len(of_seed):
            seeds = ", ".join(map(str, self.table.seed[rows].tolist()))
            raise CodeNotFoundError(
                f"task {self.task.name!r}: no trial of this code with seed {seed!r}; it has seeds {seeds} "
                "(seed=None answers their mean)"
            )
        return of_seed


class _Curves:
    """A task's learning curves, grouped by code."""

    def __init__(self, frame: pd.DataFrame, view: _View):
        names = view.space.NAMES
        every = keys(frame[list(names)].to_numpy("uint8").tobytes(), len(names))
        self.index = _numbered(every)
        self.rows, self.starts = _grouped(every, self.index)
        self.seed, self.epoch = (frame[name].to_numpy() for name in ("seed", "epoch"))
        rest = [name for name in frame.columns if name not in (*names, "seed", "epoch")]
        self.values: dict[str, Floats] = {name: frame[name].to_numpy("float64") for name in rest}

    def points(self, code: tuple[int, ...], seeds: npt.NDArray[np.int32]) -> Ints:
        """Return the rows of a code's trials with these seeds, every epoch."""
        import numpy as np

        k = self.index.get(bytes(code))
        rows = self.rows[:0] if k is None else self.rows[self.starts[k] : self.starts[k + 1]]
        return rows[np.isin(self.seed[rows], seeds)]

    def measured(self, rows: Ints, metrics: Sequence[str]) -> list[int]:
        """Return the epochs of these rows in which any of the metrics is known."""
        import numpy as np

        known = [np.isfinite(self.values[m][rows]) for m in metrics if m in self.values]
        epochs: list[int] = np.unique(self.epoch[rows[np.any(known, axis=0)]]).tolist()
        return epochs


class Benchmark:
    """Releases that can be asked as one. Made by `load`.

    >>> bench = nasbench_mr.load("mini")
    >>> bench.tasks
    ('mini-cls', 'mini-det3d', 'mini-seg', 'mini-video')
    >>> round(bench.best("mini-seg", k=1)[0]["mIoU"], 2)
    36.41

    Attributes:
        releases: what was opened, in the order in which they are asked for a task.
        tasks: the names of all their tasks.
    """

    def __init__(self, *opened: Release):
        if not opened:
            raise InvalidArgumentError("load() needs at least one release; got an empty list")
        self.releases = opened
        self._sources = {name: each for each in reversed(opened) for name in each.tasks}
        self._described = {name: self._sources[name].tasks[name] for each in opened for name in each.tasks}
        self.tasks: tuple[str, ...] = tuple(self._described)
        self._views: dict[str, _View] = {}
        self._indexes: list[_Index] = []
        self._surrogates: dict[str, Surrogate] = {}
        self._frames: dict[str, pd.DataFrame] = {}
        self._curves: dict[str, _Curves] = {}
        self._costs: dict[str, Cost] = {}

    def __repr__(self) -> str:
        return f"<Benchmark {self}: {', '.join(self.tasks)}>"

    def __str__(self) -> str:
        """Return what was opened: "mini@1.1.0, nasbench-mr@1.0.0"."""
        return ", ".join(map(str, self.releases))

    def __reduce__(self) -> tuple[Any, ...]:
        return load, ([each.scratch.source if each.scratch else str(each.path) for each in self.releases],)

    @property
    def release(self) -> Release:
        """What was opened, where it is one release.

        Raises:
            InvalidArgumentError: it is several.
        """
        if len(self.releases) > 1:
            raise InvalidArgumentError(
                f"this is about one release, and several are open: {self}. Name one of them, "
                f'such as "{self.releases[0].name}"'
            )
        return self.releases[0]

    def release_of(self, task: str) -> Release:
        """Return the release that answers for a task, by the task's name or alias (see `task`)."""
        return self._sources[self._name(task)]

    def task(self, task: str) -> Task:
        """Return the description of a task, by name or alias.

        Raises:
            UnknownTaskError: there is no such task; names the nearest, and what brings it.
        """
        return self._described[self._name(task)]

    def releases_of(self, tasks: Iterable[str]) -> tuple[Release, ...]:
        """Return the releases that answer for some tasks (see `task`), each once, in their order.

        Those of measured costs come last, where they are not among the releases that were opened.
        """
        asked = {id(each): each for each in map(self.release_of, tasks)}
        opened = {id(each): each for each in self.releases if id(each) in asked}
        return tuple((opened | asked).values())

    def chosen(self, tasks: Sequence[str] | None) -> Sequence[str]:
        """Return the tasks asked for, by default all; raise `UnknownTaskError` where there are none."""
        found = self.tasks if tasks is None else tasks
        if not found:
            raise UnknownTaskError(
                "there are no tasks here; nasbench-mr tasks lists those that are installed"
            )
        return found

    def comparable(self, tasks: Sequence[str] = ()) -> list[str]:
        """Return all tasks of the search space and the releases of some tasks: those fitted together.

        Args:
            tasks: names or aliases; by default the first task.

        Raises:
            UnknownTaskError: see `task`.
        """
        names = [self._name(task) for task in tasks] or [self.chosen(None)[0]]
        space, asked = self._described[names[0]].space, self.releases_of(names)
        there = {name for each in asked for name in each.tasks if self._sources[name] is each}
        return [name for name in self.tasks if name in there and self._described[name].space == space]

    def cost(self, name: str, *, limit: bool = False) -> Cost:
        """Return a measured cost, such as "latency_ms@cpu".

        It may also be asked for as a task is: `query`, `best` and the others take its name. What is opened is
        searched first, then all that is installed.

        Args:
            limit: it is to limit codes, so costs of another machine are refused, and not only warned of.

        Raises:
            UnknownTaskError, UnknownNameError, UnknownMetricError, InvalidArgumentError: there is none of
                this name (`measured.find`).
            InvalidArgumentError: a limit of another machine's costs, whose name does not say the release.

        Warns:
            MeasuredElsewhereWarning: they are of another machine, and the name does not say the release.
            SeveralCostsWarning: nor which of two tables of one device it means, where these differ.
        """
        from nasbench_mr import measured

        found = self._costs.get(name)
        new = found is None
        if found is None:
            others = [each for each in library.installed() if str(each) not in map(str, self.releases)]
            found = measured.find(name, [*self.releases, *others])
        if limit and found.elsewhere:
            raise InvalidArgumentError(f"the limit {found.elsewhere}")
        if new:
            if found.elsewhere:
                warnings.warn(found.elsewhere, measured.MeasuredElsewhereWarning, stacklevel=3)
            if found.ambiguous:
                warnings.warn(found.ambiguous, measured.SeveralCostsWarning, stacklevel=3)
            self._costs[name] = found
            self._sources[name], self._described[name] = found.release, found.task
            self._views[name] = _View(found.task, found.trials, self._indexes)
        return found

    def _name(self, task: object) -> str:
        if isinstance(task, str) and "@" in task:
            return self.cost(task).name
        try:
            return tasks.resolve(task, self._described)
        except UnknownTaskError as error:
            raise library.unknown(task, self._described, error) from None

    def _view(self, task: str) -> _View:
        view = self._views.get(task) if isinstance(task, str) else None
        if view is None:
            name = self._name(task)
            if name not in self._views:
                table = self._sources[name].table(name)
                self._views[name] = _View(self._described[name], table, self._indexes)
            view = self._views[name]
        return view

    def codes(self, task: str) -> npt.NDArray[np.int16]:
        """Every code with an "ok" trial, once, in table order: `(n, 27)` int16."""
        return self._view(task).codes.astype("int16")

    def query(
        self,
        code: object,
        task: str,
        *,
        source: str = "auto",
        seed: int | None = None,
        epoch: int | None = None,
    ) -> Result:
        """Return what a code achieves in a task. Asked again, it answers the same.

        Args:
            code: anything `space.parse` reads.
            task: a name or alias.
            source: "table": only what was trained. "surrogate": the release's surrogate, also for tabulated
                codes. "auto": the table, else the surrogate.
            seed: None for the mean over the table's seeds, or one seed's trial.
            epoch: None for the final metrics, or a point of the learning curve (counted from 1).

        Raises:
            OutOfSpaceError: not a code.
            UnknownTaskError: no such task.
            CodeNotFoundError: the code, its seed or the epoch is not in the table, or the epoch's metrics.
            SurrogateNotFoundError: no release has a surrogate for the task, or too few codes were measured.
            InvalidArgumentError: an unknown source, or a seed or epoch of a surrogate.
        """
        view = self._view(task)
        if type(code) is tuple and seed is None and epoch is None and source != "surrogate":
            try:
                key = bytes(code)
            except (TypeError, ValueError):
                key = b""
            k = view.index.get(key, -1)
            if k >= 0 and source in SOURCES and (view.numbers or bool not in map(type, code)):
                return view.result(k, tuple(key))
        return self._query(view, view.space.parse(code), source, seed, epoch)

    def _query(
        self, view: _View, code: tuple[int, ...], source: str, seed: int | None, epoch: int | None
    ) -> Result:
        if source not in SOURCES:
            raise InvalidArgumentError(f"source is {source!r}; expected one of {', '.join(SOURCES)}")
        seed, epoch = _integer("seed", seed), _integer("epoch", epoch)
        k = view.index.get(bytes(code), -1)
        of_trial = seed is not None or epoch is not None
        if source == "surrogate" and of_trial:
            raise InvalidArgumentError("a surrogate has no seeds or epochs; use source='table'")
        if source != "surrogate" and k >= 0:
            if epoch is not None:
                return self._query_curve(view, k, code, seed, epoch)
            if seed is None:
                return view.result(k, code)
            return view.row_result(int(view.trials(k, seed)[0]), code)
        if source == "table" or of_trial:
            raise self._not_found(view, code)
        surrogate = self._surrogate(view.task.name)
        if surrogate is None:
            if source == "surrogate":
                if view.task.name in self._costs:
                    raise SurrogateNotFoundError(self._costs[view.task.name].too_few)
                of = self._sources[view.task.name]
                raise SurrogateNotFoundError(
                    f"{of} has no surrogate for {view.task.name!r}: nasbench-mr surrogate fit {of.name}"
                )
            raise self._not_found(view, code)
        import numpy as np

        from nasbench_mr import cost

        asked = np.array([code], np.int16)
        mean, std = surrogate.predict(asked)
        values = dict(zip(surrogate.names, mean[0].tolist(), strict=True))
        costs = cost.of(view.task.space) if view.task.cost == "code" else None
        if costs is not None:
            values |= {"macs": int(costs.macs(asked)[0]), "params": int(costs.params(asked)[0])}
        spread = dict(zip(surrogate.names, std[0].tolist(), strict=True))
        distance = float(surrogate.distance(asked)[0])
        return Result(values, code, view.task.name, "surrogate", std=spread, seeds=(), distance=distance)

    def _not_found(self, view: _View, code: tuple[int, ...]) -> CodeNotFoundError:
        failed = int((view.table.codes == view.space.check([code])).all(axis=1).sum())
        why = (
            f"all {failed} of its trials failed"
            if failed
            else "it is not in the table; bench.codes(task) lists those that are"
        )
        source = self._sources[view.task.name]
        if view.task.name in self._costs:
            few = self._costs[view.task.name].too_few
            why += f"; {few}" if few else ""
        elif view.task.name not in source.about.get("surrogates", {}):
            why += f", and {source} has no surrogate (nasbench-mr surrogate fit {source.name})"
        return CodeNotFoundError(
            f"task {view.task.name!r} has no result for {view.space.to_string(code)}: {why}"
        )

    def _query_curve(
        self, view: _View, k: int, code: tuple[int, ...], seed: int | None, epoch: int
    ) -> Result:
        name = view.task.name
        if name not in self._curves:
            self._curves[name] = _Curves(self._curve_frame(name), view)
        curves = self._curves[name]
        points = curves.points(code, view.table.seed[view.trials(k, seed)])
        rows = points[curves.epoch[points] == epoch]
        if not len(rows):
            epochs = curves.epoch[points]
            known = f"epochs {epochs.min()} to {epochs.max()}" if len(epochs) else "no curve"
            raise CodeNotFoundError(f"task {name!r}: no epoch {epoch} of this code; it has {known}")
        measured = curves.measured(points, view.metrics)
        if epoch not in measured:
            known = ", ".join(map(str, measured)) or "none"
            raise CodeNotFoundError(
                f"task {name!r}: this code was not evaluated in epoch {epoch}; it was in: {known}"
            )
        moments = {column: _mean_std(values[rows]) for column, values in curves.values.items()}
        values = {column: mean for column, (mean, _) in moments.items()}
        final = view.result(k, code)
        if "seconds" not in values:
            # Every epoch takes as long as any other.
            trained = float(view.table.values["train_seconds"][view.trials(k, seed)].mean())
            values["seconds"] = trained * epoch / int(curves.epoch[points].max())
        values |= {name: final[name] for name in ("macs", "params") if name in final}
        std = {m: moments[m][1] if m in moments else float("nan") for m in view.metrics}
        return Result(values, code, name, "table", std=std, seeds=tuple(curves.seed[rows].tolist()))

    def surrogate(self, task: str) -> Surrogate | Estimate | None:
        """Return a task's surrogate; None where there is none.

        Raises:
            UnknownTaskError: no such task.
        """
        return self._surrogate(self.task(task).name)

    def _surrogate(self, task: str) -> Surrogate | Estimate | None:
        if task in self._costs:
            found = self._costs[task]
            return None if found.too_few else found.estimate
        if task not in self._surrogates:
            name = f"surrogates/{task}.npz"
            if name not in self._sources[task].files:
                return None
            from nasbench_mr.surrogate import load_surrogate

            self._surrogates[task] = load_surrogate(self._sources[task].file(name))
        return self._surrogates[task]

    def query_many(
        self,
        codes: object,
        task: str,
        metrics: Sequence[str] | None = None,
        *,
        source: str = "auto",
        missing: str = "raise",
    ) -> dict[str, npt.NDArray[Any]]:
        """Return what many codes achieve in a task, each the mean over its seeds.

        Args:
            codes: `(n, 27)` codes.
            task: a name or alias.
            metrics: columns to answer; the task's metrics, "macs" and "params" by default.
            source: as in `query`.
            missing: "raise" an error, or answer "nan", where a code can't be answered, or where its surrogate
                does not know one of `metrics`. Without `metrics` such columns are NaN.

        Returns:
            A dict of `(n,)` float64 arrays, one for each metric, and "source": "table", "surrogate" or, where
            nothing could answer, "".

        Raises:
            As `query`.
        """
        import numpy as np

        from nasbench_mr import arrays

        view = self._view(task)
        if source not in SOURCES:
            raise InvalidArgumentError(f"source is {source!r}; expected one of {', '.join(SOURCES)}")
        if missing not in ("raise", "nan"):
            raise InvalidArgumentError(f"missing is {missing!r}; expected 'raise' or 'nan'")
        if isinstance(metrics, str):
            metrics = (metrics,)
        if metrics is not None and not isinstance(metrics, Iterable):
            raise InvalidArgumentError(f"metrics is {metrics!r}; expected names, or None")
        names = [*view.metrics, "macs", "params"] if metrics is None else list(metrics)
        for name in names:
            if name not in view.table.unknown:
                options = [*view.metrics, *COSTS]
                raise UnknownMetricError(
                    f"task {view.task.name!r} has no metric {name!r}: {did_you_mean(name, options)}"
                )
        array = view.space.check(codes)
        found = np.full(len(array), -1, np.int64)
        if source != "surrogate":
            get = view.index.get
            for start in range(0, len(array), _CHUNK):
                chunk = arrays.keys(array[start : start + _CHUNK])
                found[start : start + _CHUNK] = np.fromiter(map(get, chunk, repeat(-1)), np.int64, len(chunk))
        tabulated = found >= 0
        everywhere = bool(tabulated.all())
        out: dict[str, npt.NDArray[Any]] = {}
        for name in names:
            # One entry more than there are codes: index -1 finds the NaN at the end.
            values = np.append(view.mean(name), np.nan)
            out[name] = values[found]
        kinds = np.array(["", "table", "surrogate"])
        if everywhere:
            out["source"] = np.full(len(array), kinds[1])
            return out
        rest = np.flatnonzero(~tabulated)
        answered = tabulated.astype(np.int8)
        surrogate = self._surrogate(view.task.name) if source != "table" else None
        if surrogate is not None:
            answered[rest] = 2
            asked = array[rest]
            mean, _ = surrogate.predict(asked)
            columns = dict(zip(surrogate.names, mean.T, strict=True))
            if view.task.cost == "code":
                from nasbench_mr import cost

                costs = cost.of(view.task.space)
                for name, exact in costs._asdict().items() if costs else ():
                    if name in names:
                        columns[name] = exact(asked)
            for name in names:
                if name in columns:
                    out[name][rest] = columns[name]
                elif metrics is not None and missing == "raise":
                    raise UnknownMetricError(
                        f"the surrogate of {view.task.name!r} does not know {name!r}, only "
                        f"{', '.join(columns)}; give codes of the table, or missing='nan'"
                    )
        elif missing == "raise":
            code = tuple(array[rest[0]].tolist())
            self._query(view, code, source, None, None)  # raises the error that fits
        out["source"] = kinds[answered]
        return out

    def best(
        self,
        task: str,
        k: int = 5,
        *,
        max_macs: float | None = None,
        max_params: float | None = None,
        limits: Mapping[str, float] | None = None,
        metric: str | None = None,
        distinct: bool = False,
    ) -> list[Result]:
        """Return the k best tabulated codes, best first; fewer where fewer meet the limits (both inclusive).

        Args:
            max_macs, max_params: as in searches (`domain.Domain`). Of the 27 integers they limit
                `cost.macs` and `cost.params`, also where a table's own columns are others (3ddet).
            limits: further limits by name: "macs", "params", or measured costs such as "latency_ms@cpu",
                whose unknown values are within no limit.
            metric: what to rank by; the task's objective by default.
            distinct: of codes that are one network (isomorphic cells of NAS-Bench-201), only the best.

        Raises:
            InvalidArgumentError: `k` is not an integer of at least 1; a limit is not a positive number, or of
                another space.
            InfeasibleError: no tabulated code meets the limits.
        """
        import numpy as np

        from nasbench_mr import measured

        view = self._view(task)
        k = checks.at_least(1, "k", k)
        ranked = view.task.metric(metric)
        score = ranked.sign * view.mean(ranked.name)
        allowed = ~np.isnan(score)
        bounds = measured.limits(self, limits, max_macs, max_params)
        costs = {"macs": bounds.macs, "params": bounds.params}
        known = {name: view.cost(name) for name, limit in costs.items() if limit < float("inf")}
        for limit in bounds.measured:
            limit.cost.check(view.task.space)
            costs[limit.cost.name] = limit.most
            known[limit.cost.name] = limit.cost.known(view.codes.astype("int16"))
        for name, column in known.items():
            allowed &= column <= costs[name]
        rows = np.flatnonzero(allowed)
        if not len(rows):
            wanted = f"no tabulated code of {view.task.name!r} has {ranked.name}"
            for name, column in known.items():
                there = column[~np.isnan(column)]
                least = f"the least is {_amount(there.min())}" if len(there) else "the table has none"
                wanted += f", at most {_amount(costs[name])} {name} ({least})"
            raise InfeasibleError(wanted)
        top = rows[np.argsort(-score[rows], kind="stable")]
        if distinct:
            from nasbench_mr import spaces

            networks = spaces.canonical(view.space, view.codes[top].astype(np.int16))
            top = top[np.sort(np.unique(networks, axis=0, return_index=True)[1])]
        top = top[:k]
        return [view.result(int(r), tuple(view.codes[r].tolist())) for r in top]

    def costs_of(self, task: str, name: str = "macs") -> Floats:
        """Return the "macs" or "params" of each of a task's `codes`, as `best` and `pareto` have them.

        `(n,)`, NaN where unknown. They are by the space's formula also where the table's own columns are
        others, which `query` answers.

        Raises:
            UnknownTaskError: no such task.
            InvalidArgumentError: no such cost.
        """
        if name not in ("macs", "params"):
            raise InvalidArgumentError(f"cost is {name!r}; expected 'macs' or 'params'")
        return self._view(task).cost(name).copy()

    def pareto(self, tasks: str | Sequence[str], cost: str | Sequence[str] | None = "macs") -> pd.DataFrame:
        """Return the tabulated codes that no other one beats in every objective and in cost.

        Args:
            tasks: one or more, "seg" or "seg/mAcc"; only codes tabulated in all of them count.
            cost: "macs" or "params", to be low, as `best` has them; a measured cost such as
                "latency_ms@cpu"; several of these; or None to compare metrics only.

        Returns:
            One row for each, by rising cost: "code" (tuple), each objective in a column named after its task
            ("seg/mAcc" where the metric is said), and the costs. Where no code's cost is known, only the rest
            counts: a warning says so, and the cost is NaN. Where those of some are, the others are left out:
            a warning says of how many it is known.

        Raises:
            InvalidArgumentError: no task, tasks of different search spaces, or no such cost.
        """
        import numpy as np
        import pandas as pd

        from nasbench_mr import arrays
        from nasbench_mr.analysis import non_dominated

        names = [tasks] if isinstance(tasks, str) else list(tasks)
        if not names:
            raise InvalidArgumentError("pareto() needs at least one task")
        wanted = [] if cost is None else [cost] if isinstance(cost, str) else list(cost)
        for name in wanted:
            if name not in ("macs", "params") and "@" not in name:
                raise InvalidArgumentError(
                    f"cost is {name!r}; expected 'macs', 'params', a measured cost such as 'latency_ms@cpu', "
                    "or None"
                )
        parts = [name.partition("/") for name in names]
        goals = [(self.task(task), self.task(task).metric(metric or None)) for task, _, metric in parts]
        codes, values = self._common([t.name for t, _ in goals], [metric.name for _, metric in goals])
        columns: dict[str, Floats] = {}
        losses = []
        for (task, metric), (_, mark, _), column in zip(goals, parts, values.T, strict=True):
            columns[f"{task.name}/{metric.name}" if mark else task.name] = column
            losses.append(-metric.sign * column)
        for name in wanted:
            first = self._view(goals[0][0].name)
            if "@" in name:
                measured = self.cost(name)
                measured.check(first.task.space)
                costs = measured.known(codes)
            else:
                costs = first.cost(name)[[first.index[key] for key in arrays.keys(codes)]]
            columns[name] = costs
            known = np.isfinite(costs)
            if known.any():
                losses.append(costs)
                usable = np.isfinite(values).all(axis=1)
                if not known[usable].all():
                    of = list(dict.fromkeys(repr(task.name) for task, _ in goals))
                    warnings.warn(
                        f"{name} is known of {known[usable].sum():,} of {usable.sum():,} codes "
                        + (f"of {of[0]}" if len(of) == 1 else f"that {', '.join(of)} share")
                        + "; the others are left out",
                        stacklevel=2,
                    )
            elif len(costs):
                warnings.warn(
                    f"no one knows {name} of the codes of {first.task.name!r}: only metrics are compared "
                    "(cost=None does so without this warning)",
                    stacklevel=2,
                )
        rows = non_dominated(np.stack(losses, axis=1))
        frame = pd.DataFrame({"code": list(map(tuple, codes[rows].tolist()))})
        for name, column in columns.items():
            frame[name] = column[rows]
        by = wanted[0] if wanted else next(iter(columns))
        return frame.sort_values(by, kind="stable").reset_index(drop=True)

    def _common(
        self, names: Sequence[str], metrics: Sequence[str] | None = None
    ) -> tuple[npt.NDArray[np.int16], Floats]:
        """Return the codes that all tasks have, `(n, 27)`, and a metric (the objective) of each: `(n, m)`."""
        import numpy as np

        from nasbench_mr import arrays

        views = [self._view(t) for t in names]
        if len({v.task.space for v in views}) > 1:
            raise InvalidArgumentError(f"{', '.join(names)} are not of one search space")
        first = views[0]
        every = arrays.keys(first.codes)
        shared = [i for i, key in enumerate(every) if all(key in v.index for v in views)]
        at = [[v.index[every[i]] for i in shared] for v in views]
        metrics = [v.task.objective for v in views] if metrics is None else metrics
        values = [v.mean(name)[rows] for v, name, rows in zip(views, metrics, at, strict=True)]
        return first.codes[shared].astype(np.int16), np.stack(values, axis=1)

    def to_pandas(self, task: str) -> pd.DataFrame:
        """All trials of a task, one row each, with every column of the table.

        The columns of a code of one's own space hold values, where the table has their positions.
        """
        from nasbench_mr.table import read_arrow

        name = self.task(task).name
        file = f"costs/{name.split('@')[1].partition(':')[0]}" if "@" in name else f"tables/{name}"
        frame: pd.DataFrame = read_arrow(self._sources[name].file(f"{file}.parquet")).to_pandas()
        return self._with_values(frame, name)

    def _with_values(self, frame: pd.DataFrame, name: str) -> pd.DataFrame:
        """Put values in the place of their positions, where the task's space is described by values."""
        import numpy as np

        from nasbench_mr import spaces

        described = spaces.description(self._described[name].space)
        for dimension in described.dimensions if described else ():
            frame[dimension.name] = np.array(dimension.values)[frame[dimension.name]]
        return frame

    def curves(self, task: str, *, ok: bool = False) -> pd.DataFrame:
        """Learning curves of a task: the code's columns, "seed", "epoch", metrics, loss, ...

        Args:
            ok: those alone of trials that ended well, which `query` answers from; else all.

        Raises:
            CodeNotFoundError: the task has no learning curves.
        """
        name = self.task(task).name
        frame = self._ok_curves(name) if ok else self._curve_frame(name)
        return self._with_values(frame.copy(), name)

    def _ok_curves(self, name: str) -> pd.DataFrame:
        from nasbench_mr import arrays

        frame, view = self._curve_frame(name), self._view(name)
        if view.table.ok.all():
            return frame
        good = view.table.ok
        there = set(zip(arrays.keys(view.table.codes[good]), view.table.seed[good].tolist(), strict=True))
        codes = arrays.keys(frame[list(view.space.NAMES)].to_numpy())
        return frame[[trial in there for trial in zip(codes, frame["seed"].tolist(), strict=True)]]

    def _curve_frame(self, name: str) -> pd.DataFrame:
        if name not in self._frames:
            file = f"curves/{name}.parquet"
            source = self._sources[name]
            if file not in source.files:
                raise CodeNotFoundError(f"{source}: task {name!r} has no learning curves")
            from nasbench_mr.table import read_arrow

            self._frames[name] = read_arrow(source.file(file)).to_pandas()
        return self._frames[name]

    def fidelities(self, task: str) -> tuple[int, ...]:
        """Return the epochs at which codes of a task were evaluated, rising; empty without learning curves.

        `query(code, task, epoch=...)` answers for them, and searches such as `halving` ask for them.

        Raises:
            UnknownTaskError: no such task.
        """
        described = self.task(task)
        if f"curves/{described.name}.parquet" not in self._sources[described.name].files:
            return ()
        frame = self._ok_curves(described.name)
        if described.objective not in frame:
            return ()
        epochs = frame.loc[frame[described.objective].notna(), "epoch"].unique()
        return tuple(sorted(int(epoch) for epoch in epochs))

    def correlation(self, method: str = "kendall", tasks: Sequence[str] | None = None) -> pd.DataFrame:
        """Correlation of the tasks' objectives over the codes each pair shares: tasks x tasks.

        Args:
            method: "kendall" (tau-b), "spearman" or "pearson". Where smaller is better, the sign is flipped.
            tasks: which; by default all tasks of the first one's release and search space.
        """
        import numpy as np
        import pandas as pd

        from nasbench_mr.analysis import correlation

        if method not in ("kendall", "spearman", "pearson"):
            raise InvalidArgumentError(f"method is {method!r}; expected kendall, spearman or pearson")
        if tasks is None:
            tasks = self.comparable()
        names = [self.task(t).name for t in tasks]
        out = np.eye(len(names))
        for i, a in enumerate(names):
            for j, b in enumerate(names[:i]):
                _, values = self._common((a, b))
                x, y = (self.task(t).metric().sign * values[:, k] for k, t in enumerate((a, b)))
                out[i, j] = out[j, i] = correlation(x, y, method)
        return pd.DataFrame(out, names, names)

    def noise(self, tasks: Sequence[str] | None = None) -> pd.DataFrame:
        """How much of each task's differences is training noise: one row a task with repeated trials.

        Args:
            tasks: which; by default all.

        Returns:
            Of the objective: how many "codes" there are, how many "repeated", and "seeds", the most a code
            has; standard deviations "between" all codes, without what noise adds, and "within" a code,
            between its seeds; their "ratio"; "rank", Spearman's correlation of two seeds over the repeated
            codes, the mean over pairs of seeds; "min", "median" and "max" of the codes' means.
        """
        import numpy as np
        import pandas as pd

        from nasbench_mr.analysis import spreads

        rows = {}
        for task in self.tasks if tasks is None else tasks:
            view = self._view(task)
            if view.single:
                continue
            order, starts = view.groups
            name = view.task.objective
            trials = pd.DataFrame(
                {
                    "code": np.repeat(np.arange(len(starts) - 1), np.diff(starts)),
                    "seed": view.table.seed[order],
                    "value": view.table.values[name][order],
                }
            )
            values = trials.pivot(index="code", columns="seed", values="value").dropna(how="all")
            between, within = spreads(values.to_numpy())
            repeated = values.dropna(thresh=2)
            ranks = repeated.corr(method="spearman", min_periods=3).to_numpy()
            pairs = ranks[np.triu_indices(len(ranks), 1)]
            means = view.mean(name)
            rows[view.task.name] = {
                "codes": len(values),
                "repeated": len(repeated),
                "seeds": int(repeated.notna().sum(axis=1).max()),
                "between": between,
                "within": within,
                "ratio": between / within if within else float("nan"),
                "rank": float(np.nanmean(pairs)) if np.isfinite(pairs).any() else float("nan"),
                "min": float(np.nanmin(means)),
                "median": float(np.nanmedian(means)),
                "max": float(np.nanmax(means)),
            }
        return pd.DataFrame.from_dict(rows, orient="index")


def _amount(value: float) -> str:
    """Return a cost for people: "938,136,674", or "7.188"."""
    return f"{value:,.0f}" if value >= 1e4 or value == int(value) else f"{value:.4g}"


def _integer(name: str, value: object) -> int | None:
    """Return a seed or an epoch, checked."""
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidArgumentError(f"{name} is {value!r}; expected an integer or None") from None


def _numbered(every: list[bytes]) -> dict[bytes, int]:
    """Return the number of each different key, in order of appearance."""
    index = dict(zip(every, range(len(every)), strict=True))
    return index if len(index) == len(every) else {key: k for k, key in enumerate(index)}


def _grouped(every: list[bytes], index: dict[bytes, int]) -> tuple[Ints, Ints]:
    """`rows` and `starts`: the rows of key number k are `rows[starts[k] : starts[k + 1]]`."""
    import numpy as np

    groups = np.fromiter(map(index.__getitem__, every), np.int64, len(every))
    order = np.argsort(groups, kind="stable")
    return order, np.searchsorted(groups[order], np.arange(len(index) + 1))


def _mean_std(values: Floats) -> tuple[float, float]:
    """Of the known values; NaN where there are too few."""
    known = values[values == values]
    nan = float("nan")
    return (
        float(known.mean()) if len(known) else nan,
        float(known.std(ddof=1)) if len(known) > 1 else nan,
    )
