"""Tables of the user's own: a file in, a task of a release out.

published.import_table("results.csv", "my-task")  # a task of the release "local"
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import cost, files, nasbench201, release, space, spaces, table, tasks
from nasbench_mr.arrays import Floats
from nasbench_mr.data_builders.published.common import locked, reading
from nasbench_mr.errors import (
    InvalidArgumentError,
    ReleaseNotFoundError,
    TableError,
    UnknownMetricError,
    did_you_mean,
)
from nasbench_mr.release import Release
from nasbench_mr.tasks import Metric, Task
from nasbench_mr.trials import COSTS

if TYPE_CHECKING:
    import pyarrow as pa

#: The first version of a release that an import makes.
FIRST = "1.0.0-local.1"

#: Columns of numbers that are no metrics; `flops` is another form of `macs`.
_NUMBERS = ("seed", *COSTS, "flops")
_KNOWN = ("code", *space.NAMES, *nasbench201.NAMES, *_NUMBERS, *table.TEXTS)
#: Names that the answers to queries have for something else.
_TAKEN = ("codes", "source")
#: What pandas calls an index that it writes into a file, and reads back from one.
_INDEX = re.compile(r"\s*|Unnamed: \d+|__index_level_\d+__")


def import_table(
    path: str | os.PathLike[str],
    task: str,
    into: str | None = None,
    objective: str | None = None,
    minimize: Iterable[str] = (),
    *,
    replace_trials: bool = False,
) -> Release:
    """Install a CSV or Parquet file of trials in a new version of a release, beside all that is in it.

    The trials of a task that the release has go to the end of its table.

    Columns: the code's, named as `space.NAMES`, or one column `code` of strings; the metrics; `seed` (0 where
    there is none), `macs`, `params`, `epochs`, `train_seconds`, `device`, `status` ("ok" where there is none)
    and `error`, all optional. A column `flops` holds MACs in units of 1e9, as published, and beside it
    `params` is in units of 1e6. Empty cells are unknown values. Codes of NAS-Bench-201 are columns named as
    its `NAMES`, or cell strings.

    For a task that this package knows, the metrics are the task's; those that the file lacks are unknown. For
    another, every other column of numbers is a metric. Other columns of text are kept as text. Where the file
    says nothing of the costs, they are those of the codes.

    Args:
        task: a task's name or alias, or a new name.
        into: the release to extend, by default "local"; it is made if none of this name is installed.
        objective: the metric that searches optimise, by default the first one; only for a new task.
        minimize: metrics of which less is better; only for a new task.
        replace_trials: where the release has a trial of the same code and seed, put the file's in its place.

    Raises:
        InvalidArgumentError: no such file, or an objective or direction that contradicts the task.
        UnknownMetricError: the objective, or a metric of `minimize`, is no metric of the file.
        TableError, OutOfSpaceError: the file is malformed; names file, row and column. Or, without
            `replace_trials`, the release has one of its trials.
        ReleaseError: the release has a task of this name with other metrics.
        UnknownTaskError: `task` is an alias of several tasks.
        ReleaseNotFoundError: the release "nasbench-mr", or a certain version, is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidArgumentError(f"no file at {path}")
    into = "local" if into is None else into
    base = _base(into)
    with reading(path):
        arrow = _read(path)
        known = _known(task, base)
        if known is None:
            described = _new_task(arrow, task, objective, minimize, path)
        else:
            _check_agrees(known, objective, minimize)
            described = known
        described = replace(described, provenance=f"{path.name}, sha256 {files.sha256(path)}")
        columns, extra = _columns(arrow, described)
        trials = table.to_arrow(described, columns, extra)
        try:
            if described.cost == "code":
                release.check_cost(table.check(trials, described), "the table")
        except TableError:
            if described.name in tasks.names():
                raise
            # Counted by another rule, or for another input: only the table knows them.
            described = replace(described, cost="table")
            trials = table.to_arrow(described, columns, extra)

    def fill(folder: Path) -> None:
        table.write_arrow(trials, folder / f"tables/{described.name}.parquet")

    with locked(base.name if base else into):
        base = _base(into)
        if base is not None:
            return release.extend(base, [release.Addition(described, trials)], replace=replace_trials)
        return release.create(fill, into, FIRST, [described], {"title": "Imported tables"})


def _base(into: str) -> Release | None:
    """The release to extend; None where one has to be made."""
    try:
        return Release.open(release.find(into))
    except ReleaseNotFoundError:
        if into == release.DEFAULT or "@" in into or os.sep in into or os.path.exists(into):
            raise
        return None


def _known(name: str, base: Release | None) -> Task | None:
    """Return the task that a name or alias means, the release's or this package's; None for a new name.

    Raises:
        UnknownTaskError: it means several.
    """
    if base is not None and tasks.meant(name, base.tasks):
        return base.tasks[tasks.resolve(name, base.tasks)]
    return tasks.get(name) if tasks.meant(name) else None


def _read(path: Path) -> pa.Table:
    """The file as it is; its names are checked."""
    import pyarrow as pa
    from pyarrow import csv

    with open(path, "rb") as file:
        parquet = file.read(4) == b"PAR1" or path.suffix == ".parquet"
        file.seek(0)
        if parquet:
            arrow = table.read_arrow(path)
        else:
            # Only an empty cell is unknown: "nan" would hide a diverged training.
            options = csv.ConvertOptions(null_values=[""], strings_can_be_null=True)
            try:
                arrow = csv.read_csv(file, convert_options=options)
                names = arrow.column_names
            except (pa.ArrowException, UnicodeDecodeError) as error:
                raise TableError(f"not a CSV file: {error}") from None
    names = arrow.column_names
    for k, name in enumerate(names):
        if names.count(name) > 1 or name in _TAKEN:
            raise TableError(f"column {name!r} is there twice, or its name has another use; rename it")
        if _INDEX.fullmatch(name):
            raise TableError(f"column {k} ({name!r}) is an unnamed index; write the file without it")
        if name not in _KNOWN and name.strip().lower() in _KNOWN:
            raise TableError(f"no column may be called {name!r}: did you mean {name.strip().lower()!r}?")
    if not len(arrow):
        raise TableError("it has no rows")
    return arrow


def _check_agrees(known: Task, objective: str | None, minimize: Iterable[str]) -> None:
    if objective not in (None, known.objective) or any(known.metric(m).sign > 0 for m in minimize):
        raise InvalidArgumentError(
            f"{known.name!r} is a known task: it has the objective {known.objective!r}, and its metrics "
            "their directions; import into a task of another name"
        )


def _new_task(arrow: pa.Table, name: str, objective: str | None, minimize: Iterable[str], path: Path) -> Task:
    """A task made up from a file's columns: those of numbers that have no other meaning are its metrics."""
    minimize = list(minimize)
    names = [n for n in arrow.column_names if n not in _KNOWN and _is_number(arrow, n)]
    if not names:
        raise TableError("there is no metric; expected at least one more column of numbers")
    for metric in [*minimize, names[0] if objective is None else objective]:
        if metric not in names:
            raise UnknownMetricError(f"{path} has no metric {metric!r}: {did_you_mean(metric, names)}")
    cells = "code" in arrow.column_names and str(arrow["code"][0]).startswith("|")
    second = cells or any(n in arrow.column_names for n in nasbench201.NAMES)
    return Task(
        name=name,
        title=name,
        dataset="unknown",
        problem="unknown",
        metrics=tuple(Metric(n, "unknown", "min" if n in minimize else "max", None, None) for n in names),
        objective=names[0] if objective is None else objective,
        cost="table" if second else "code",
        space=nasbench201.NAME if second else space.NAME,
    )


def _columns(arrow: pa.Table, task: Task) -> tuple[dict[str, Any], list[str]]:
    """What `table.to_arrow` takes: the columns, and the names of the extra ones of text."""
    names = arrow.column_names
    metrics = [m.name for m in task.metrics]
    used = ["code", *spaces.get(task.space).NAMES, *metrics, *_NUMBERS, *table.TEXTS]
    extra = [n for n in names if n not in used]
    if task.objective not in names:
        raise TableError(f"there is no column {task.objective!r}, the task's objective")
    for name in extra:
        if _is_number(arrow, name):
            raise TableError(f"task {task.name!r} has no column {name!r}: {did_you_mean(name, used)}")
    columns: dict[str, Any] = {"codes": _codes(arrow, task.space)}
    columns |= {n: _numbers(arrow, n) for n in (*metrics, "train_seconds") if n in names}
    columns |= {n: _integers(arrow, n) for n in ("seed", "epochs") if n in names}
    columns |= {n: _texts(arrow, n) for n in (*table.TEXTS, *extra) if n in names}
    for name in extra:
        # Text because of a bad cell or two: what was meant is a metric.
        texts = [text for text in columns[name] if text is not None]
        if len(texts) > 2 * len(_no_numbers(texts)):
            _numbers(arrow, name)  # says which cell
    if "flops" in names:
        if "macs" in names:
            raise TableError("it has both a column 'macs' and a column 'flops'; keep one")
        columns["macs"] = _counts(arrow, "flops", 1e9)
        if "params" in names:
            columns["params"] = _counts(arrow, "params", 1e6)
    else:
        columns |= {n: _integers(arrow, n) for n in ("macs", "params") if n in names}
    if task.cost == "code" and not columns.keys() & {"macs", "params"}:
        columns |= {"macs": cost.macs(columns["codes"]), "params": cost.params(columns["codes"])}
    return columns, extra


def _codes(arrow: pa.Table, space_name: str) -> npt.NDArray[np.int16]:
    names, wanted = arrow.column_names, spaces.get(space_name).NAMES
    if "code" in names:
        if twice := [n for n in wanted if n in names]:
            raise TableError(f"it has both a column 'code' and a column {twice[0]!r}; keep one form")
        texts = _texts(arrow, "code")
        if None in texts:
            raise TableError(f"row {texts.index(None)}: code is empty")
        return spaces.get(space_name).check(texts)
    if lacking := [n for n in wanted if n not in names]:
        raise TableError(
            f"there is no column {lacking[0]!r}; expected {', '.join(wanted)}, or one column 'code'"
        )
    columns = [_integers(arrow, n) for n in wanted]
    for name, values in zip(wanted, columns, strict=True):
        if np.isnan(values).any():
            raise TableError(f"row {np.isnan(values).argmax()}: {name} is empty")
    codes = np.stack(columns, axis=1)
    return spaces.get(space_name).check(np.clip(codes, -(2.0**31), 2.0**31).astype(np.int64))


def _is_number(arrow: pa.Table, name: str) -> bool:
    from pyarrow import types

    kind = arrow.schema.field(name).type
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _numbers(arrow: pa.Table, name: str) -> Floats:
    """A column of finite numbers, `(n,)`; NaN where there is none."""
    import pyarrow as pa

    column = arrow[name]
    if not _is_number(arrow, name) and not pa.types.is_null(column.type):
        found = column.to_pylist()
        for row in _no_numbers(found):
            raise TableError(f"row {row}: {name} is {found[row]!r:.60}; expected a number")
        raise TableError(f"column {name!r} is {column.type}; expected numbers")
    try:
        values: Floats = column.cast(pa.float64()).to_numpy()
    except pa.ArrowException as error:
        raise TableError(f"column {name!r}: {error}") from None
    wrong = ~np.isfinite(values) & ~column.is_null().to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise TableError(f"row {row}: {name} is {values[row]}; expected a number, or nothing where unknown")
    return values


def _no_numbers(values: Sequence[Any]) -> list[int]:
    """The rows of the values that are there, but neither numbers nor the text of one."""
    rows = []
    for row, value in enumerate(values):
        try:
            float(value)
        except (TypeError, ValueError):
            if value is not None:
                rows.append(row)
    return rows


def _integers(arrow: pa.Table, name: str) -> Floats:
    """A column of whole numbers, `(n,)`; NaN where there is none."""
    values = _numbers(arrow, name)
    wrong = ~np.isnan(values) & (values != np.rint(values))
    if wrong.any():
        row = int(wrong.argmax())
        raise TableError(f"row {row}: {name} is {values[row]}; expected a whole number")
    return values


def _counts(arrow: pa.Table, name: str, unit: float) -> Floats:
    """A column in published units as counts, `(n,)`."""
    values = _numbers(arrow, name)
    if (wrong := values > 1e6).any():
        row = int(wrong.argmax())
        raise TableError(
            f"row {row}: {name} is {values[row]:.0f}; expected units of {unit:g} (counts: macs and params)"
        )
    counts: Floats = np.rint(values * unit)
    return counts


def _texts(arrow: pa.Table, name: str) -> list[str | None]:
    import pyarrow as pa

    try:
        texts: list[str | None] = arrow[name].cast(pa.string()).to_pylist()
    except pa.ArrowException:
        raise TableError(f"column {name!r} is {arrow.schema.field(name).type}; expected text") from None
    return texts
