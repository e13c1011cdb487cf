"""Tables of the user's own: a file in, a task of a release out.

published.import_table("results.csv", "my-task")  # a task of the release "local"
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import cost, directions, files, nasbench201, release, space, spaces, table, tasks
from nasbench_mr.arrays import Floats
from nasbench_mr.data_builders.published import costs, sheets
from nasbench_mr.data_builders.published.common import locked, reading
from nasbench_mr.errors import (
    InvalidArgumentError,
    ReleaseNotFoundError,
    TableError,
    UnknownMetricError,
    UnknownNameError,
    did_you_mean,
)
from nasbench_mr.grid import Grid
from nasbench_mr.release import Release
from nasbench_mr.tasks import Metric, Task
from nasbench_mr.trials import COSTS

if TYPE_CHECKING:
    import pyarrow as pa

#: The first version of a release that an import makes.
FIRST = "1.0.0-local.1"

#: Columns of numbers that are not metrics; `flops` is another form of `macs`.
_NUMBERS = ("seed", *COSTS, "flops")
_PACKAGED = (*space.NAMES, *nasbench201.NAMES)
#: Names that the answers to queries have for something else.
_TAKEN = ("codes", "source")
#: What pandas calls an index that it writes into a file, and reads back from one.
_INDEX = re.compile(r"\s*|Unnamed: \d+|__index_level_\d+__")
#: A column that numbers the rows: never a metric.
_ID = re.compile(r"(.*_)?(id|idx|index)|row|#", re.IGNORECASE)
#: What the other columns are taken as.
_ROLES = {
    "seed": "the training's seed",
    "macs": "MACs, as counts",
    "params": "parameters, as counts",
    "epochs": "epochs trained",
    "train_seconds": "seconds trained",
    "device": "the device",
    "status": "how the training ended",
    "error": "why the training failed",
}


@dataclass(frozen=True)
class Understood:
    """What a file was taken for, before it is installed.

    Attributes:
        task: the task it becomes.
        trials: its rows.
        columns: what each column was taken as.
        skipped: the columns that are not kept, and why.
        costs: where macs and params come from.
        form: what the file was read as.
    """

    task: Task
    trials: pa.Table
    columns: dict[str, str]
    skipped: dict[str, str]
    costs: str
    form: str

    def to_dict(self) -> dict[str, Any]:
        """Return it in plain values, for JSON."""
        names = spaces.get(self.task.space).NAMES
        goal = self.task.metric()
        return {
            "task": self.task.name,
            "form": self.form,
            "rows": len(self.trials),
            "codes": len(self.trials.group_by(list(names)).aggregate([])),
            "seeds": len(self.trials["seed"].unique()),
            "columns": self.columns,
            "objective": goal.name,
            "direction": goal.direction,
            "unit": goal.unit,
            "bounds": [goal.lower, goal.upper],
            "costs": self.costs,
            "skipped": self.skipped,
        }


def import_table(
    path: str | os.PathLike[str],
    task: str,
    into: str | None = None,
    objective: str | None = None,
    *,
    replace_trials: bool = False,
    **options: Any,
) -> Release:
    """Install a CSV or Parquet file of trials in a new version of a release, beside all that is in it.

    The trials of a task that the release has go to the end of its table.

    Args:
        task: a task's name or alias, or a new name.
        into: the release to extend, by default "local"; it is made if none of this name is installed.
        objective: the metric that searches optimise; only for a new task, and needed where it has several.
        replace_trials: where the release has a trial of the same code and seed, put the file's in its place.
        **options: the other options of `understand`.
    """
    understood = understand(path, task, into, objective, **options)
    return install(understood, into, replace_trials=replace_trials)


def understand(
    path: str | os.PathLike[str],
    task: str,
    into: str | None = None,
    objective: str | None = None,
    *,
    minimize: Iterable[str] = (),
    maximize: Iterable[str] = (),
    units: Mapping[str, str] | None = None,
    bounds: Mapping[str, tuple[float | None, float | None]] | None = None,
    ignore: Iterable[str] = (),
    trust_costs: bool = False,
    own_space: Grid | str | os.PathLike[str] | None = None,
) -> Understood:
    """Return what a CSV or Parquet file of trials holds; nothing is installed.

    Columns: the code's, named as `space.NAMES`, or one column `code` of strings; the metrics; `seed` (0 where
    there is none), `macs`, `params`, `epochs`, `train_seconds`, `device`, `status` ("ok" where there is none)
    and `error`, all optional. A column `flops` holds MACs in units of 1e9, as published, and beside it
    `params` is in units of 1e6. Empty cells are unknown values. Codes of NAS-Bench-201 are columns named as
    its `NAMES`, or cell strings.

    For a task that this package knows, the metrics are the task's; those that the file lacks are unknown. For
    another, every other column of numbers is a metric, but one that numbers the rows (`id`, `index`, or
    without a name). A column `error` of numbers is a metric as well, kept as `error_rate`. Other columns of
    text are kept as text. Where the file says nothing of the costs, they are those of the codes.

    Args:
        minimize, maximize: metrics of which less, or more, is better; needed for all but names of which
            more is known to be better, such as "acc".
        units: of metrics; else "unknown". Percent is bounded by 0 and 100.
        bounds: the least and the largest possible value of metrics; None where there is none.
        ignore: columns to leave out.
        trust_costs: keep macs and params that are not those of the codes.
        own_space: of the codes, where it is neither that of the 27 integers nor NAS-Bench-201: a `grid.Grid`,
            or the TOML file that describes it. The code's columns hold values, or one column `code` their
            texts, "layers=8,width=512". A task that is there knows its space.

    Raises:
        SpaceError: the description of the space is malformed.
        InvalidArgumentError: no such file; or an option is needed, or contradicts the task.
        UnknownMetricError: an option names a metric that is not in the file.
        TableError, OutOfSpaceError: the file is malformed; names file, row and column.
        UnknownTaskError: `task` is an alias of several tasks.
    """
    path = Path(path)
    if not path.is_file():
        what = f"{path} is a folder; expected one file" if path.is_dir() else f"no file at {path}"
        raise InvalidArgumentError(what)
    base = _base("local" if into is None else into)
    known, described_space = _known(task, base), None if own_space is None else _space(own_space)
    if known is not None and described_space not in (None, known.space):
        raise InvalidArgumentError(
            f"the task {known.name!r} is of the space {known.space}, not of {described_space}; import into "
            "a task of another name"
        )
    space_name = known.space if known is not None else described_space
    reserved = _reserved(space_name)
    with reading(path):
        sheet = sheets.read(path)
        arrow, unnamed = _without_index(sheet.arrow)
        arrow, renamed = _named(arrow, reserved)
        back = {new: old for old, new in renamed.items()}
        less = {renamed.get(m, m): "min" for m in minimize}
        if both := less.keys() & (most := {renamed.get(m, m) for m in maximize}):
            raise InvalidArgumentError(f"{min(both)!r} is both to minimize and to maximize")
        said = _Said(
            renamed.get(objective, objective) if objective else None,
            less | dict.fromkeys(most, "max"),
            {renamed.get(m, m): unit for m, unit in (units or {}).items()},
            {renamed.get(m, m): pair for m, pair in (bounds or {}).items()},
        )
        skipped = _skipped(arrow, known, reserved, [renamed.get(n, n) for n in ignore if n not in unnamed])
        if said.objective in skipped:
            raise InvalidArgumentError(
                f"{path}: column {said.objective!r} {skipped[said.objective]}; --objective takes a metric"
            )
        arrow = arrow.drop_columns(list(skipped))
        percent = {renamed.get(name.strip(), name.strip()) for name in sheet.percent}
        if known is None:
            _need_code(arrow, space_name)
            described = _new_task(arrow, task, said, percent, back, reserved=reserved)
            described = replace(described, **_placed(arrow, space_name))
        else:
            _check_agrees(known, said)
            described = known
            for metric in known.metrics:
                if metric.name in percent and metric.unit != "percent":
                    raise TableError(
                        f"column {back.get(metric.name, metric.name)!r} has percent signs; its unit is "
                        f"{metric.unit!r} in task {known.name!r}: give the numbers as they are "
                        "there, without signs, or import all of them as a new task"
                    )
        spelled = os.fsencode(path.name).decode("utf-8", "replace")
        described = replace(described, provenance=f"{spelled}, sha256 {files.sha256(path)}")
        columns, extra = _columns(arrow, described)
        metrics = {metric.name: metric for metric in described.metrics}
        for name in percent & set(arrow.column_names) - set(metrics):
            raise TableError(f"column {back.get(name, name)!r} has percent signs; expected plain numbers")
        for name, metric in metrics.items():
            if name in columns:
                # Whose values have signs, or an error rate whose unit was said, may well be below 1%.
                sure = name in percent or (metric.sign < 0 and name in said.units)
                _check_plausible(metric, columns[name], described, sure)
        if "status" not in columns and (lacking := np.isnan(columns[described.objective])).any():
            raise TableError(
                f"row {lacking.argmax()}: {described.objective} is empty; leave the row out, or add a column "
                "status with 'ok', and 'failed' or 'diverged' in such rows"
            )
        given = {n for n in ("macs", "params", "flops") if n in arrow.column_names}
        source = "the file's own" if given else "unknown"
        trials = table.to_arrow(described, columns, extra)
        if described.cost == "code":
            source, wrong = costs.settle(columns, described.space)
            if wrong and not trust_costs:
                raise TableError(
                    f"{wrong}. Correct the column, leave it out (the exact costs are computed), or keep it "
                    "with --trust-costs"
                )
            if wrong:
                described = replace(described, cost="table")
            trials = table.to_arrow(described, columns, extra)
    roles = {back.get(n, n): _role(n, described, given, back) for n in arrow.column_names}
    skipped = unnamed | {back.get(n, n): why for n, why in skipped.items()}
    return Understood(described, trials, roles, skipped, source, sheet.form)


def install(understood: Understood, into: str | None = None, *, replace_trials: bool = False) -> Release:
    """Install what `understand` returned in a new version of a release, beside all that is in it.

    Raises:
        TableError: without `replace_trials`, the release has one of the trials.
        ReleaseError: the release has a task of this name with other metrics.
        ReleaseNotFoundError: the release "nasbench-mr", or a certain version, is not installed.
    """
    into = "local" if into is None else into
    task, trials = understood.task, understood.trials

    def fill(folder: Path) -> None:
        table.write_arrow(trials, folder / f"tables/{task.name}.parquet")

    base = _base(into)
    with locked(base.name if base else into):
        base = _base(into)
        if base is not None:
            return release.extend(base, [release.Addition(task, trials)], replace=replace_trials)
        return release.create(fill, into, FIRST, [task], about={"title": "Imported tables"})


def _role(name: str, task: Task, costs: set[str], back: Mapping[str, str]) -> str:
    """Return what a column was taken as."""
    if name in (m.name for m in task.metrics):
        metric = task.metric(name)
        kind = "the objective" if name == task.objective else "a metric"
        kept = f"; kept as {name!r}" if name in back else ""
        less = "less" if metric.sign < 0 else "more"
        limits = [f"at least {metric.lower:g}"] if metric.lower is not None else []
        limits += [f"at most {metric.upper:g}"] if metric.upper is not None else []
        return ", ".join([f"{kind}: {less} is better, unit {metric.unit}", *limits]) + kept
    if name in ("code", *spaces.get(task.space).NAMES):
        return "the code"
    if name == "flops":
        return "MACs in units of 1e9"
    if name in ("macs", "params") and name in back:
        return _ROLES[name].replace("as counts", "made counts")
    if name == "params" and "flops" in costs:
        return "parameters in units of 1e6"
    return _ROLES.get(name, "text, kept")


def _check_plausible(metric: Metric, values: Floats, task: Task, sure: bool) -> None:
    """Raise `TableError` where percentages are given in another unit, with the factor.

    Args:
        sure: they may all be below 1.
    """
    there = values[~np.isnan(values)]
    if metric.unit != "percent" or not len(there) or there.min() < 0:
        return
    least, most = there.min(), there.max()
    # Guessing one class for every sample is right in 1 of as many cases as there are classes.
    chance = 100 / task.num_classes if task.num_classes else 0.0
    if 0 < most <= 1 and not sure and not abs(most - chance) < 0.1 * chance:
        raise TableError(
            f"{metric.name} is between {least:g} and {most:g}; expected percent: multiply it by 100"
            + (f", or say that it is: --unit {metric.name}=percent" if metric.sign < 0 else "")
        )
    if 1_000 < most <= 10_000:
        raise TableError(
            f"{metric.name} is between {least:g} and {most:g}; expected percent: divide it by 100"
        )


def _base(into: str) -> Release | None:
    """Return the release to extend; None where one has to be made."""
    try:
        return Release.open(release.find(into))
    except ReleaseNotFoundError:
        if into == release.DEFAULT or "@" in into or os.sep in into or os.path.exists(into):
            raise
        return None


def _known(name: str, base: Release | None) -> Task | None:
    """Return the task that a name or alias means, the release's or this package's; None for a new name."""
    if base is not None and tasks.meant(name, base.tasks):
        return base.tasks[tasks.resolve(name, base.tasks)]
    return tasks.get(name) if tasks.meant(name) else None


def _space(given: Grid | str | os.PathLike[str]) -> str:
    """Return the name of a space of a user's own, which this process knows from now on."""
    return spaces.add((given if isinstance(given, Grid) else Grid.read(given)).description)


def _reserved(space_name: str | None) -> tuple[str, ...]:
    """Return the columns that are not metrics; of a new task without a space of its own, for both."""
    dimensions = (
        _PACKAGED if spaces.description(space_name or "") is None else spaces.get(str(space_name)).NAMES
    )
    return ("code", *dimensions, *_NUMBERS, *table.TEXTS)


def _placed(arrow: pa.Table, space_name: str | None) -> dict[str, Any]:
    """Return the space of a new task, and who knows its costs."""
    if space_name is not None:
        return {"space": space_name, "cost": "table" if cost.of(space_name) is None else "code"}
    first = arrow["code"][0].as_py() if "code" in arrow.column_names else None
    cells = isinstance(first, str) and first.startswith("|")
    listed = isinstance(first, list) and len(first) == nasbench201.DIM
    second = cells or listed or any(n in arrow.column_names for n in nasbench201.NAMES)
    return {"space": nasbench201.NAME if second else space.NAME}


def _without_index(arrow: pa.Table) -> tuple[pa.Table, dict[str, str]]:
    """Return a file's table without the columns that have no name, which number the rows; and these."""
    names = [name.strip() for name in arrow.column_names]
    unnamed = [k for k, name in enumerate(names) if _INDEX.fullmatch(name)]
    kept = arrow.select([k for k in range(len(names)) if k not in unnamed])
    return kept, {names[k] or f"column {k + 1}": "an index without a name" for k in unnamed}


def _named(arrow: pa.Table, reserved: Sequence[str]) -> tuple[pa.Table, dict[str, str]]:
    """Return a file's table, its names checked, and which names were replaced by which."""
    spelled = [name.strip() for name in arrow.column_names]
    for name in spelled:
        if spelled.count(name) > 1 or name in _TAKEN:
            raise TableError(f"column {name!r} is there twice, or its name has another use; rename it")
        if name not in reserved and name.lower() in reserved:
            raise TableError(f"no column may be called {name!r}: did you mean {name.lower()!r}?")
    if not len(arrow):
        raise TableError("it has no rows")
    arrow = arrow.rename_columns(spelled)
    renamed = {name: re.sub(r"\s+", "_", name) for name in spelled if re.search(r"\s", name)}
    if "error" in spelled and _is_metric(arrow):
        renamed["error"] = "error_rate"
    for name in spelled:
        if (meant := _cost(name)) is not None:
            counts = np.rint(_numbers(arrow, name) * meant[1])
            arrow = arrow.set_column(arrow.column_names.index(name), name, [counts])
            renamed[name] = meant[0]
    for old, new in renamed.items():
        if new in spelled:
            raise TableError(f"column {old!r} would be kept as {new!r}, which is there as well; rename one")
    return arrow.rename_columns([renamed.get(name, name) for name in spelled]), renamed


def _cost(name: str) -> tuple[str, float] | None:
    """Return the cost, and its unit, that a name such as "GFLOPs" or "params (M)" tells; else None."""
    plain = re.sub(r"[^a-z]+", "", name.lower())
    for unit, letter in ((1e9, "g"), (1e6, "m"), (1e3, "k")):
        for meant, words in (("macs", ("flops", "macs", "madds")), ("params", ("params", "parameters"))):
            if plain in [letter + word for word in words] + [word + letter for word in words]:
                return meant, unit
    return None


def _is_metric(arrow: pa.Table) -> bool:
    """Whether the column `error` measures trials, and does not say why they failed."""
    if not _is_number(arrow, "error"):
        return False
    status = _texts(arrow, "status") if "status" in arrow.column_names else ["ok"] * len(arrow)
    found = arrow["error"].to_pylist()
    return any(value is not None and s == "ok" for value, s in zip(found, status, strict=True))


@dataclass(frozen=True)
class _Said:
    """What options say of metrics, by the names under which these are kept."""

    objective: str | None
    directions: Mapping[str, str]
    units: Mapping[str, str]
    bounds: Mapping[str, tuple[float | None, float | None]]

    @property
    def names(self) -> list[str]:
        """The metrics that an option names."""
        named = [] if self.objective is None else [self.objective]
        return [*self.directions, *self.units, *self.bounds, *named]


def _skipped(
    arrow: pa.Table, known: Task | None, reserved: Sequence[str], ignore: Iterable[str]
) -> dict[str, str]:
    """Return the columns to leave out, and why."""
    names = arrow.column_names
    kept = {*reserved, *(m.name for m in known.metrics)} if known else {*reserved}
    skipped = {name: "numbers the rows" for name in names if name not in kept and _ID.fullmatch(name)}
    for name in ignore:
        if name not in names:
            raise UnknownNameError(f"there is no column {name!r} to ignore: {did_you_mean(name, names)}")
        skipped[name] = "left out as asked"
    return skipped


def _check_agrees(known: Task, said: _Said) -> None:
    """Raise `InvalidArgumentError` where an option contradicts a task that there is."""
    wrong = said.objective not in (None, known.objective)
    wrong |= any(known.metric(m).direction != direction for m, direction in said.directions.items())
    wrong |= any(known.metric(m).unit != unit for m, unit in said.units.items())
    wrong |= any((known.metric(m).lower, known.metric(m).upper) != pair for m, pair in said.bounds.items())
    if wrong:
        raise InvalidArgumentError(
            f"{known.name!r} is a known task: it has the objective {known.objective!r}, and its metrics "
            "their directions, units and bounds; import into a task of another name"
        )


def _need_code(arrow: pa.Table, space_name: str | None) -> None:
    names = arrow.column_names
    wanted = space.NAMES if space_name is None else spaces.get(space_name).NAMES
    if "code" not in names and not any(n in names for n in (_PACKAGED if space_name is None else wanted)):
        other = (
            "; codes of another space need its description (--space FILE.toml)" if space_name is None else ""
        )
        raise TableError(
            f"no codes: expected a column 'code', or {', '.join(wanted)}; it has {', '.join(names)}{other}"
        )


def _metrics(arrow: pa.Table, reserved: Sequence[str]) -> list[str]:
    """Return the columns of numbers that have no other meaning."""
    names = [n for n in arrow.column_names if n not in reserved and _is_number(arrow, n)]
    if not names:
        _check_texts(arrow, [n for n in arrow.column_names if n not in reserved])
        raise TableError("there is no metric; expected at least one more column of numbers")
    return names


def _metric(arrow: pa.Table, name: str, said: _Said, percent: bool) -> Metric:
    """Return a metric of a new task, with what the options say of it."""
    unit = said.units.get(name, "percent" if percent else "unknown")
    direction = said.directions.get(name, "max")
    lower, upper = said.bounds.get(name, (0.0, 100.0) if unit == "percent" else (None, None))
    usual = name not in said.bounds and direction == "min" and directions.usual(name) == "min"
    if usual and np.nanmin(_numbers(arrow, name)) >= 0:
        lower = 0.0  # an error or a time: no prediction is below it
    if lower is not None and upper is not None and lower >= upper:
        raise InvalidArgumentError(
            f"the bounds of {name!r} are {lower:g} and {upper:g}; expected LOW below HIGH"
        )
    return Metric(name, unit, direction, lower, upper)


def _new_task(
    arrow: pa.Table,
    task: str,
    said: _Said,
    percent: Container[str],
    back: Mapping[str, str],
    *,
    reserved: Sequence[str],
) -> Task:
    """Return a task made up from a file's columns and from what the options say of them.

    Args:
        percent: columns whose cells have percent signs.
        back: names in the file, of columns that are kept under other names.
        reserved: names of columns that are not metrics.
    """
    names = _metrics(arrow, reserved)
    shown = {name: back.get(name, name) for name in names}
    for metric in said.names:
        if metric not in names:
            if metric in arrow.column_names and metric not in reserved:
                _numbers(arrow, metric)  # says which cell
            raise UnknownMetricError(f"it has no metric {metric!r}: {did_you_mean(metric, names)}")
    if said.objective is None and len(names) > 1:
        raise InvalidArgumentError(
            f"it has the metrics {', '.join(shown.values())}: say which one to optimise, --objective METRIC"
        )
    _check_directions([shown[m] for m in names if m not in said.directions and directions.usual(m) != "max"])
    return Task(
        name=task,
        title=task,
        dataset="unknown",
        problem="unknown",
        metrics=tuple(_metric(arrow, name, said, name in percent) for name in names),
        objective=names[0] if said.objective is None else said.objective,
    )


def _check_directions(names: Sequence[str]) -> None:
    """Raise `InvalidArgumentError` that asks for the directions of metrics whose names do not tell them."""
    if not names:
        return
    listed = ", ".join(map(repr, names))
    quoted = [shlex.quote(name) for name in names]
    answers = " ".join(f"--minimize {name}" for name in quoted)
    if len(names) == 1:
        answers = f"{answers} or --maximize {quoted[0]}"
    else:
        answers = f"{answers}, with --maximize for those of which more is"
    raise InvalidArgumentError(
        f"is less or more of {listed} better? Say {answers}; --ignore leaves a column out"
    )


def _columns(arrow: pa.Table, task: Task) -> tuple[dict[str, Any], list[str]]:
    """Return what `table.to_arrow` takes: the columns, and the names of the extra ones of text."""
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
    _check_texts(arrow, extra)
    if "flops" in names:
        if "macs" in names:
            raise TableError("it has both a column 'macs' and a column 'flops'; keep one")
        columns["macs"] = _counts(arrow, "flops", 1e9)
        if "params" in names:
            columns["params"] = _counts(arrow, "params", 1e6)
    else:
        columns |= {n: _integers(arrow, n) for n in ("macs", "params") if n in names}
    return columns, extra


def _codes(arrow: pa.Table, space_name: str) -> npt.NDArray[np.int16]:
    from pyarrow import types

    names, wanted = arrow.column_names, spaces.get(space_name).NAMES
    if "code" in names:
        if twice := [n for n in wanted if n in names]:
            raise TableError(f"it has both a column 'code' and a column {twice[0]!r}; keep one form")
        listed = types.is_list(arrow["code"].type) or types.is_large_list(arrow["code"].type)
        listed = listed or types.is_fixed_size_list(arrow["code"].type)
        found = arrow["code"].to_pylist() if listed else _texts(arrow, "code")
        if None in found:
            raise TableError(f"row {found.index(None)}: code is empty")
        return spaces.get(space_name).check(found)
    if lacking := [n for n in wanted if n not in names]:
        raise TableError(
            f"there is no column {lacking[0]!r}; expected {', '.join(wanted)}, or one column 'code'"
        )
    own = spaces.get(space_name)
    if isinstance(own, Grid):
        return own.by_column([arrow[n].to_pylist() for n in wanted])
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
    """Return a column of finite numbers, `(n,)`; NaN where there is none."""
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
    """Return the rows of the values that are there, but neither numbers nor the text of one."""
    rows = []
    for row, value in enumerate(values):
        try:
            float(value)
        except (TypeError, ValueError):
            if value is not None:
                rows.append(row)
    return rows


def _check_texts(arrow: pa.Table, names: Iterable[str]) -> None:
    """Raise `TableError` where a column is text because of a bad cell or two: what was meant is a metric."""
    for name in names:
        texts = [text for text in arrow[name].to_pylist() if isinstance(text, str)]
        if texts and len(texts) > 2 * len(_no_numbers(texts)):
            _numbers(arrow, name)  # says which cell


def _integers(arrow: pa.Table, name: str) -> Floats:
    """Return a column of whole numbers, `(n,)`; NaN where there is none."""
    values = _numbers(arrow, name)
    wrong = ~np.isnan(values) & (values != np.rint(values))
    if wrong.any():
        row = int(wrong.argmax())
        raise TableError(f"row {row}: {name} is {values[row]}; expected a whole number")
    return values


def _counts(arrow: pa.Table, name: str, unit: float) -> Floats:
    """Return a column in published units as counts, `(n,)`."""
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
