"""Measured costs: latency, memory and energy by code, as a release carries them in `costs/<label>.parquet`.

A cost is named COLUMN@LABEL, such as "latency_ms@cpu". "latency_ms@cpu:onnx" names the runtime as well, which
is the table's first by default, and "latency_ms@cpu@nasbench-mr-costs" the release. Such names stand where
"macs" does, as a limit or as the cost of a Pareto front, and where a task does, as its metric is to be low:

    bench.query(code, "latency_ms@cpu")["latency_ms"]
    bench.best("seg", limits={"latency_ms@cpu": 20})

A code that was not measured is answered by `Estimate`, a line through the logarithms of what was, where at
least `LEAST` codes were.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nasbench_mr import checks, cost, features, files, space, spaces
from nasbench_mr.arrays import ByValue, Codes, Floats, Ints, keys, looked_up
from nasbench_mr.errors import (
    InvalidArgumentError,
    SurrogateNotFoundError,
    TableError,
    UnknownMetricError,
    UnknownNameError,
    UnknownTaskError,
    did_you_mean,
)
from nasbench_mr.tasks import Metric, Task
from nasbench_mr.trials import COSTS, MEASURED, SCHEMA_VERSION, Trials

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from nasbench_mr.benchmark import Benchmark
    from nasbench_mr.release import Release


class MeasuredElsewhereWarning(UserWarning):
    """A measured cost is used that is of another machine than this one, or of other versions."""


class SeveralCostsWarning(UserWarning):
    """A measured cost's name says no release, and two have costs of one device that are not the same."""


#: What a code can cost, with the unit.
UNITS = {
    "latency_ms": "milliseconds for one batch, median",
    "latency_q1_ms": "milliseconds for one batch, lower quartile",
    "latency_q3_ms": "milliseconds for one batch, upper quartile",
    "memory_mb": "10^6 bytes at most, the network's weights included",
    "energy_mj": "millijoules for one batch, of the whole device",
}
_FLOATS = ("latency_ms", "latency_q1_ms", "latency_q3_ms", "outliers", "memory_mb", "energy_mj")
_INTEGERS = ("batch", "size", "threads", "repeats")
#: Codes that an estimate for others needs, as many as a surrogate does: some are left out to test it.
LEAST = 20
#: What makes the costs of one network differ on one device.
_SETTING = ("batch", "size", "threads")
_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def check_label(label: str) -> str:
    """Return a table's label, which is part of a file's name."""
    if not _LABEL.fullmatch(label):
        raise InvalidArgumentError(f"label is {label!r}; expected lower-case letters, digits, '.', '_', '-'")
    return label


#: Where Linux describes the processor, and what tells one of a name from another: of Intel and AMD, of ARM.
_CPUINFO = Path("/proc/cpuinfo")
_CPU = (
    "cpu family",
    "model",
    "stepping",
    *(f"CPU {k}" for k in ("implementer", "variant", "part", "revision")),
)


@functools.cache
def _processor() -> tuple[str, str | None]:
    """Return the processor's name, and its family, model and stepping, as the system tells them."""
    told: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in _CPUINFO.read_text("utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            told.setdefault(key.strip(), value.strip())
    name = told.get("model name") or told.get("Model") or platform.processor() or platform.machine()
    return name, ", ".join(f"{key} {told[key]}" for key in _CPU if key in told) or None


def this_machine() -> dict[str, Any]:
    """Return what tells this machine from others.

    Returns:
        "name" of its processor; "cpu", its family, model and stepping, None where the system does not tell;
        "machine", such as "x86_64"; and its number of "cores".
    """
    name, cpu = _processor()
    return {"name": name, "cpu": cpu, "machine": platform.machine(), "cores": os.cpu_count() or 1}


def described(about: Mapping[str, Any]) -> str:
    """Return a device for people: its name and cores, and its processor's family where that is known."""
    text = f"{about.get('name', 'unknown')}, {about.get('cores', '?')} cores"
    return f"{text}, {about['cpu']}" if about.get("cpu") else text


@dataclass(frozen=True, eq=False)
class CostTable:
    """The measured costs of one device.

    Attributes:
        codes: `(n, 27)`, one row for each code and runtime.
        runtime: `(n,)` names.
        columns: by name `(n,)` float64, NaN where unknown.
        about: the device, the versions, how it was measured.
    """

    codes: Codes
    runtime: Any
    columns: dict[str, Floats]
    about: dict[str, Any]

    @property
    def here(self) -> bool:
        """Whether it was measured on a machine like this one: of its processor and number of cores.

        A GPU counts by the machine it is in. What a table does not say, as older ones the processor's family,
        may be anything but the name and the cores.
        """
        theirs = {"cores": None, **self.about}
        theirs["name"] = theirs.get("processor", theirs.get("name"))
        return all(theirs.get(name, value) == value for name, value in this_machine().items())

    @property
    def device(self) -> str:
        """The device, for people."""
        return described(self.about)

    @functools.cached_property
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes, the default one first."""
        found = sorted(set(self.runtime.tolist()), key=lambda name: (name != "torch", name))
        return tuple(found)

    def rows(self, runtime: str) -> Ints:
        """Return the rows of a runtime; raise `UnknownNameError` where there are none."""
        if runtime not in self.runtimes:
            raise UnknownNameError(
                f"no costs with the runtime {runtime!r}: {did_you_mean(runtime, self.runtimes)}"
            )
        return np.flatnonzero(self.runtime == runtime)

    def describe(self, runtime: str) -> str:
        """Return how many codes were measured and how, such as "230 codes, batch 1, size 128, threads 1"."""
        rows = self.rows(runtime)
        settings = np.unique(np.stack([self.columns[name][rows] for name in _SETTING], axis=1), axis=0)
        told = [
            ", ".join(f"{name} {value:g}" for name, value in zip(_SETTING, setting, strict=True))
            for setting in settings
        ]
        return f"{len(rows):,} codes, {' and '.join(told)}"

    def lookup(self, codes: Codes, column: str, runtime: str | None = None) -> Floats:
        """Return the costs of codes, `(m,)`; NaN where they are not in the table."""
        rows = self.rows(runtime or self.runtimes[0])
        return looked_up(self.codes[rows], self.columns[column][rows], codes)


def write(path: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> Path:
    """Write a table of costs; floats keep four significant digits, which is more than repeats agree in.

    Args:
        rows: each with "code", "runtime" and the other columns; None where unknown.
        about: what its metadata say besides the units.
    """
    import pyarrow as pa

    rows = sorted(rows, key=lambda row: (row["runtime"] != "torch", row["runtime"], *row["code"]))
    codes = np.array([row["code"] for row in rows], np.int16)
    columns = {name: pa.array(codes[:, k]) for k, name in enumerate(space.NAMES)}
    columns["runtime"] = pa.array([row["runtime"] for row in rows])
    for name in _INTEGERS:
        columns[name] = pa.array([row[name] for row in rows], pa.int32())
    for name in _FLOATS:
        values = np.array([row[name] for row in rows], np.float64)
        columns[name] = pa.array(short(values), from_pandas=True)
    return write_compact(path, columns, {"schema_version": SCHEMA_VERSION, "units": UNITS, **about})


def write_compact(path: Path, columns: Mapping[str, pa.Array], about: Mapping[str, Any]) -> Path:
    """Write columns as a small Parquet file, with what its metadata say."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(dict(columns))
    floats = [name for name, column in columns.items() if pa.types.is_floating(column.type)]
    with (
        files.atomic(path) as temporary,
        pq.ParquetWriter(
            temporary,
            table.schema,
            compression="zstd",
            compression_level=19,
            use_dictionary=[name for name in columns if name not in floats],
            column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
            write_statistics=False,
            store_schema=False,  # Arrow's own copy of the schema is a fifth of a small table
        ) as writer,
    ):
        writer.write_table(table)
        writer.add_key_value_metadata({"nasbench_mr": json.dumps(about)})
    return path


def short(values: Floats, bits: int = 13) -> Any:
    """Return values as float32 of so many significant bits (at most 23), which compress well.

    They are within 2^-bits of the value.
    """
    lowest = np.uint32(1 << (24 - bits))
    # Round half up in the bits that stay; NaN stays NaN.
    raw = np.asarray(values, np.float32).view(np.uint32)
    rounded = ((raw + lowest // 2) & ~(lowest - 1)).view(np.float32)
    return np.where(np.isnan(values), np.float32("nan"), rounded)


def read(path: Path) -> CostTable:
    """Read a table of costs; raise `TableError` where it is not one, or a cost is not positive."""
    from nasbench_mr.table import read_arrow

    arrow = read_arrow(path)
    missing = [n for n in (*space.NAMES, "runtime", *_FLOATS, *_INTEGERS) if n not in arrow.column_names]
    if missing:
        raise TableError(f"{path} has no column {missing[0]!r}; expected a table of measured costs")
    frame = arrow.to_pandas(ignore_metadata=True)
    columns: dict[str, Floats] = {}
    for name in (*space.NAMES, *_FLOATS, *_INTEGERS):
        if frame[name].dtype.kind not in "iuf":
            raise TableError(f"{path}: column {name!r} is {arrow.schema.field(name).type}; expected numbers")
    for name in (*_FLOATS, *_INTEGERS):
        columns[name] = values = frame[name].to_numpy("float64")
        if np.isinf(values).any() or (name in UNITS and (values <= 0).any()):
            wrong = values[np.isinf(values) | (values <= 0)][0]
            raise TableError(f"{path}: {name} has {wrong:g}; expected positive numbers, or none")
    runtimes = arrow["runtime"].to_pylist()
    if not all(isinstance(name, str) and _LABEL.fullmatch(name) for name in runtimes):
        raise TableError(f"{path}: column 'runtime' has other values than names of letters, digits and '-'")
    text = (arrow.schema.metadata or {}).get(b"nasbench_mr")
    if text is None:
        raise TableError(f"{path} does not say what it was measured on (metadata 'nasbench_mr')")
    about = checks.json_object(text, f"{path}: its metadata", TableError)
    codes = space.check(frame[list(space.NAMES)].to_numpy())
    return CostTable(codes, np.array(runtimes, str), columns, about)


# --- By name ------------------------------------------------------------------------------------------


class Name(NamedTuple):
    """The parts of a cost's name; None where the name does not say."""

    column: str
    label: str
    runtime: str | None
    release: str | None

    @classmethod
    def parse(cls, text: str) -> Name:
        """Return the parts of "latency_ms@cpu:onnx@release", whose column and form are checked."""
        column, _, rest = text.partition("@")
        where, _, release = rest.partition("@")
        label, _, runtime = where.partition(":")
        if not label:
            raise InvalidArgumentError(f"{text!r} names no device; expected a name such as {column}@cpu")
        if column not in UNITS:
            raise UnknownMetricError(f"no measured cost {column!r}: {did_you_mean(column, UNITS)}")
        return cls(column, label, runtime or None, release or None)


class CostTask(Task):
    """A measured cost as a task: its name is the cost's, its objective the column, to be low."""

    def __post_init__(self) -> None:
        """Accept a name that is not one of a file."""


class Cost(ByValue):
    """A measured cost, found by its name.

    Attributes:
        name: as it was asked for.
        release: that has it.
        table: with the costs of its device.
        column, runtime: which of them.
        others: the tables of the same device in other releases, where the name does not say the release.
    """

    CACHES = frozenset({"release", "table", "others"})

    def __init__(
        self,
        name: str,
        release: Release,
        table: CostTable,
        others: Sequence[tuple[Release, CostTable]] = (),
    ):
        self.name, self.release, self.table, self.others = name, release, table, tuple(others)
        parsed = Name.parse(name)
        self.column = parsed.column
        self.runtime = parsed.runtime or table.runtimes[0]
        #: The name that says the runtime and the release as well.
        self.address = f"{self.column}@{parsed.label}:{self.runtime}@{release}"
        self.rows = table.rows(self.runtime)
        self.digest = release.files[f"costs/{parsed.label}.parquet"]["sha256"]
        if np.isnan(self.values).all():
            raise UnknownMetricError(f"{name!r}: the device did not tell its {self.column.partition('_')[0]}")

    @functools.cached_property
    def elsewhere(self) -> str:
        """What to say of costs of another machine, where the name does not say whose; "" of others."""
        if self.table.here or Name.parse(self.name).release is not None:
            return ""
        return (
            f"{self.name!r} was measured on another machine: {self.table.device} (this one is "
            f"{described(this_machine())}); {self.name}@{self.release.name} says so, and nasbench-mr measure "
            "makes costs of this machine"
        )

    @functools.cached_property
    def ambiguous(self) -> str:
        """What to say where another table of the device differs in settings or has more codes; else ""."""
        ours = self.table.describe(self.runtime)
        for release, table in self.others:
            if self.runtime not in table.runtimes:
                continue
            theirs, codes = table.describe(self.runtime), table.codes[table.rows(self.runtime)]
            alike = theirs.partition(" codes")[2] == ours.partition(" codes")[2]
            if not alike or set(keys(codes)) - set(keys(self.codes)):
                return (
                    f"{self.name!r} is answered by {self.release} ({ours}), not by {release} ({theirs}), of "
                    f"the same device; {self.name}@{self.release.name} or {self.name}@{release.name} says "
                    "which is meant"
                )
        return ""

    def check(self, own: str) -> None:
        """Raise `InvalidArgumentError` for a space (its name) whose codes were not measured."""
        if own != space.NAME:
            raise InvalidArgumentError(f"{self.name!r} is a cost of {space.NAME!r} codes, not of {own!r}")

    @property
    def codes(self) -> Codes:
        """`(n, 27)` the codes that were measured."""
        return self.table.codes[self.rows]

    @property
    def values(self) -> Floats:
        """`(n,)` their costs, NaN where unknown."""
        return self.table.columns[self.column][self.rows]

    @functools.cached_property
    def task(self) -> Task:
        """The cost as a task."""
        about = self.table.about
        metrics = tuple(Metric(name, unit, "min", upper=None) for name, unit in UNITS.items())
        return CostTask(
            self.name,
            f"{self.column} on {about.get('name', 'an unknown device')}, {self.runtime}",
            dataset="",
            problem="unknown",
            metrics=metrics,
            objective=self.column,
            provenance=f"measured, {self.release}",
        )

    @functools.cached_property
    def trials(self) -> Trials:
        """The costs as trials, one a code."""
        codes = np.ascontiguousarray(self.codes, np.uint8)
        values = {name: self.table.columns[name][self.rows] for name in UNITS}
        values |= {
            name: exact.astype(np.float64)
            for name, exact in (("macs", cost.macs(codes)), ("params", cost.params(codes)))
        }
        values |= {name: np.full(len(codes), np.nan) for name in COSTS if name not in values}
        floats = {name: np.ascontiguousarray(column, np.float64) for name, column in values.items()}
        columns = {
            "codes": codes.data.cast("B"),
            "seed": np.zeros(len(codes), np.int32).data,
            "ok": np.ones(len(codes), np.bool_).data,
            **{name: column.data for name, column in floats.items()},
        }
        unknown = {name: int(np.isnan(column).sum()) for name, column in floats.items()}
        return Trials(space.DIM, columns, unknown)

    @functools.cached_property
    def too_few(self) -> str:
        """What to say of codes that were not measured, where too few were for an estimate; else ""."""
        count = int((~np.isnan(self.values)).sum())
        if count >= LEAST:
            return ""
        return (
            f"{count} code{' was' if count == 1 else 's were'} measured for {self.name!r}; an estimate for "
            f"others needs at least {LEAST}: measure more (nasbench-mr measure)"
        )

    @functools.cached_property
    def estimate(self) -> Estimate:
        """What answers for codes that were not measured; `SurrogateNotFoundError` where too few were."""
        if self.too_few:
            raise SurrogateNotFoundError(self.too_few)
        known = ~np.isnan(self.values)
        return Estimate(self.column, self.codes[known], self.values[known])

    def known(self, codes: Codes) -> Floats:
        """Return the measured costs of codes, `(n,)`; NaN where they were not measured."""
        return self.table.lookup(codes, self.column, self.runtime)

    def __call__(self, codes: Codes) -> Floats:
        """Return the costs of codes, `(n,)`: measured, or else estimated.

        Raises:
            SurrogateNotFoundError: a code was not measured, and too few were for an estimate.
        """
        values = self.known(codes)
        rest = np.isnan(values)
        if rest.any():
            values[rest] = self.estimate.predict(codes[rest])[0][:, 0]
        return values


class Estimate(ByValue):
    """A cost of any code, from measured ones: ridge regression of its logarithm on the features of codes.

    It has the interface of `surrogate.Surrogate`, and `tensor` for gradients.

    Args:
        name: of the cost.
        codes, values: `(n, 27)` and `(n,)` what was measured.

    Attributes:
        error: standard deviation, as a share of the cost, of a code that it was not fitted on.
    """

    #: Of the ridge regression, in codes.
    PENALTY = 0.1

    def __init__(self, name: str, codes: Codes, values: Floats):
        self.names = (name,)
        logarithms = np.log(values)
        self._linear = features.Linear.of(codes, logarithms, _SPACE, self.PENALTY)
        self._offset = float(logarithms.mean())
        residuals = logarithms - self._offset - self._linear(codes)
        # What each would be without its own code in the fit; of few codes, the fit's own are far smaller.
        residuals /= 1 - features.leverages(codes, _SPACE, self.PENALTY)
        self.error = float(np.sqrt((residuals**2).mean()))
        self._codes = codes

    def predict(self, codes: object) -> tuple[Floats, Floats]:
        """Return the expected cost and its standard deviation: `(n, 1)` each."""
        mean = np.exp(self._offset + self._linear(space.check(codes)))[:, None]
        return mean, mean * self.error

    def tensor(self, x: torch.Tensor) -> torch.Tensor:
        """Return the expected cost of `(n, 27)` relaxed codes, differentiable: `(n,)`."""
        import torch

        value: torch.Tensor = torch.exp(self._offset + self._linear.tensor(x))
        return value

    def distance(self, codes: object) -> Floats:
        """Return the grid steps from each code to the nearest measured one: `(n,)`."""
        table = self._codes // space.STEP
        asked = space.check(codes) // space.STEP
        return np.array([np.abs(table - code).sum(axis=1).min() for code in asked], np.float64)


def find(text: str, opened: Iterable[Release]) -> Cost:
    """Return the cost of a name.

    Where the name says no release, those measured on this machine come first, a user's before the package's,
    then the order of `opened`.

    Raises:
        UnknownTaskError: no release has costs of this label.
        UnknownNameError: the release's table has no such runtime.
        InvalidArgumentError, UnknownMetricError: see `Name.parse`.
    """
    name = Name.parse(text)
    path = f"costs/{name.label}.parquet"
    there = [release for release in opened if path in release.files]
    if name.release is not None:
        there = [release for release in there if name.release in (release.name, str(release))]
    tables = [(release, read(release.file(path))) for release in there]
    if not tables and (others := [str(release) for release in opened if path in release.files]):
        raise UnknownTaskError(
            f"no measured costs of {name.label!r} in {name.release!r}: {did_you_mean(name.release, others)}"
        )
    if not tables:
        labels = sorted(
            {file[6:-8] for release in opened for file in release.files if file.startswith("costs/")}
        )
        raise UnknownTaskError(
            f"no measured costs of {name.label!r}: {did_you_mean(name.label, labels)}; "
            "nasbench-mr measure makes them"
        )
    release, table = min(tables, key=lambda found: (not found[1].here, found[0].name == MEASURED))
    rest = [found for found in tables if found[1] is not table and found[1].device == table.device]
    return Cost(text, release, table, rest if name.release is None else ())


_SPACE = spaces.get(space.NAME)


class Limit(NamedTuple):
    """The most that a cost may be, inclusive."""

    cost: Cost
    most: float

    def __str__(self) -> str:
        return f"at most {self.most:g} {self.cost.name}"


class Limits(NamedTuple):
    """Limits on exact costs, infinite where there are none, and on measured ones."""

    macs: float
    params: float
    measured: tuple[Limit, ...]

    def of_domain(self) -> dict[str, Any]:
        """Return them as arguments of `Domain`."""
        return {"max_macs": self.macs, "max_params": self.params, "limits": self.measured}


def limits(
    bench: Benchmark | None,
    given: Mapping[str, float] | None = None,
    max_macs: float | None = None,
    max_params: float | None = None,
) -> Limits:
    """Return what a user's limits mean.

    Args:
        bench: that knows the measured costs.
        given: by name, "macs", "params" or measured costs.

    Raises:
        InvalidArgumentError: they are not a mapping from names; a limit is not a positive number, or one is
            given twice; or its costs are of another machine, and its name does not say the release.
        UnknownTaskError, UnknownMetricError: there is no such cost.
    """
    if not (given is None or (isinstance(given, Mapping) and all(isinstance(name, str) for name in given))):
        raise InvalidArgumentError(
            f"limits are {given!r}; expected a mapping from costs to numbers, "
            "such as {'latency_ms@cpu': 20}"
        )
    rest = dict(given or {})
    exact = {"macs": max_macs, "params": max_params}
    for name, other in exact.items():
        if name in rest:
            if other is not None:
                raise InvalidArgumentError(f"limits has {name!r}, and max_{name} is given too; expected one")
            exact[name] = rest.pop(name)
    found = []
    for name, most in rest.items():
        if "@" not in name or bench is None:
            options = [*exact, "latency_ms@cpu"] if bench is not None else exact
            raise UnknownMetricError(f"no cost {name!r} to limit: {did_you_mean(name, options)}")
        most = checks.positive(f"the limit of {name!r}", most)
        found.append(Limit(bench.cost(name, limit=True), most))
    of = {name: checks.limit(f"max_{name}", value) for name, value in exact.items()}
    return Limits(of["macs"], of["params"], tuple(found))
