"""Reference results: what the searches here find, to draw beside one's own without running them again.

They are the release "nasbench-mr-reference": for each task `comparisons/<task>.parquet`, with the digest of
the table they are of, so that they are never drawn beside results of another one. A file keeps a run's first
and last measurement, and those at which its best value rose: all that regret, ranks and tests are made of.

    found = compare(bench, "seg", "mine.Search", reference=True)

`benchmarks/reference.py` makes them, with `SETTINGS` and the budget `BUDGET`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench_mr import checks, release, table, values
from nasbench_mr.errors import InvalidArgumentError, ReleaseError, TableError, UnknownTaskError, did_you_mean
from nasbench_mr.objective import Goal, is_cost
from nasbench_mr.release import Release
from nasbench_mr.search import comparison
from nasbench_mr.search.comparison import Comparison

if TYPE_CHECKING:
    import pandas as pd

    from nasbench_mr.benchmark import Benchmark

#: Evaluations of each run.
BUDGET = 300
#: The columns of a file, and their Arrow types. `code` is known for a run's last row, which is its best code.
COLUMNS = {"searcher": "string", **comparison.COLUMNS, "code": "string"}
#: What a comparison must have been run with, to be drawn beside these.
SETTINGS = {"source": "table", "limits": {}, "distinct": False, "batch": 1}
_AGAIN = "install the release again"


def digest(found: Release, task: str) -> str:
    """Return the digest of one task's table and learning curves, whatever release they are in."""
    names = [name for kind in ("tables", "curves") if (name := f"{kind}/{task}.parquet") in found.files]
    return values.digest([found.tasks[task]], {name: values.of_file(found.file(name)) for name in names})


def digests(bench: Benchmark, terms: Mapping[str, Sequence[Goal]]) -> dict[str, str]:
    """Return `digest` by a comparison's task: of those that are one trained task, not costs or several."""
    alone = {name: found[0] for name, found in terms.items() if len(found) == 1 and not is_cost(found[0])}
    return {name: digest(bench.release_of(goal.task.name), goal.task.name) for name, goal in alone.items()}


def load(about: Mapping[str, Any], spec: str = release.REFERENCE) -> Comparison:
    """Return the reference results for what a comparison was run on, cut to its budget.

    Args:
        about: of the comparison, see `Comparison`; its "tables" are the tables' digests.
        spec: the release that has them.

    Raises:
        UnknownTaskError: there are none for a task, or it is several at once.
        InvalidArgumentError: the comparison was run with other settings, or a larger budget.
        ReleaseError: they are of another table.
        TableError: a file is malformed.
    """
    for name, usual in SETTINGS.items():
        if about.get(name, usual) != usual:
            raise InvalidArgumentError(
                f"the reference results are of {name} = {usual!r}; this comparison has {about[name]!r}"
            )
    if about["budget"] > BUDGET:
        raise InvalidArgumentError(
            f"the reference results are of a budget of {BUDGET}; this comparison has {about['budget']:g}"
        )
    opened = Release.open(release.find(spec))
    own = {task: read(opened, task) for task in about["tasks"]}
    tables: Mapping[str, str] = about.get("tables", {})
    for task, (_, told) in own.items():
        if tables.get(task) != told["table"]:
            raise ReleaseError(
                f"the reference results of {task!r} are of the table {told['table'][:16]}, of "
                f"{told['release']}; this comparison is of {tables.get(task, 'an unknown one')[:16]}. Only "
                "results of one table can be drawn together"
            )
    # The searches that every task has, in the order of the first.
    first = next(iter(own.values()))[1]["seeds"]
    names = [name for name in first if all(name in told["seeds"] for _, told in own.values())]
    if not names:
        raise InvalidArgumentError(f"no search has reference results of all of {', '.join(own)}")
    return _comparison(own, names, {**about, "release": str(opened)})


def beside(found: Comparison, spec: str = release.REFERENCE) -> Comparison:
    """Return a comparison with the reference results it lacks; `about["reference"]` names these searches."""
    import pandas as pd

    known = load(found.about, spec)
    added = [name for name in known.searchers if name not in found.searchers]
    about = {**found.about, "searchers": [*found.searchers, *added], "reference": added}
    about["reference release"] = known.about["release"]
    trace, runs = (
        pd.concat([ours, theirs[theirs["searcher"].isin(added)]], ignore_index=True)
        for ours, theirs in ((found.trace, known.trace), (found.runs, known.runs))
    )
    return Comparison(trace, runs, about)


def _comparison(
    own: Mapping[str, tuple[pd.DataFrame, dict[str, Any]]], names: Sequence[str], about: Mapping[str, Any]
) -> Comparison:
    import pandas as pd

    frames = []
    for task, (frame, _) in own.items():
        kept = frame[frame["searcher"].isin(names) & (frame["evaluations"] <= about["budget"] + 1e-9)]
        frames.append(kept.assign(task=task))
    trace = pd.concat(frames, ignore_index=True)
    # A run's last row is its end, and has its best code, unless the budget cuts it short.
    run = trace[~trace.duplicated(["task", "searcher", "seed"], keep="last")]
    columns = [name for name in COLUMNS if name not in ("searcher", "code")]
    return Comparison(
        trace[["task", "searcher", *columns]],
        run[["task", "searcher", "seed", "best", "code"]].reset_index(drop=True),
        {**about, "searchers": list(names)},
    )


def tasks(opened: Release | None) -> list[str]:
    """Return the tasks that a release has reference results of; none without one."""
    files = () if opened is None else opened.files
    return [Path(name).stem for name in files if name.startswith("comparisons/")]


def read(opened: Release, task: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a task's reference results, with `COLUMNS`, and what their file says about them.

    That has "table", the table's digest, and by search "seeds", how many runs, and "versions".

    Raises:
        UnknownTaskError: the release has none of the task.
        TableError: the file is malformed.
    """
    name = f"comparisons/{task}.parquet"
    if name not in opened.files:
        raise UnknownTaskError(f"{opened} has no results of {task!r}: {did_you_mean(task, tasks(opened))}")
    arrow = table.read_arrow(opened.file(name))
    where = f"{opened}: {name}"
    try:
        told = checks.json_object((arrow.schema.metadata or {})[b"nasbench_mr"], where, TableError)
        sound = (
            {field.name: str(field.type) for field in arrow.schema} == COLUMNS
            and isinstance(told["seeds"], dict)
            and isinstance(told["table"], str)
            and set(arrow["searcher"].to_pylist()) == set(told["seeds"])
        )
    except KeyError as error:
        raise TableError(f"{where} does not say its {error}; {_AGAIN}") from None
    if not sound:
        raise TableError(f"{where} holds no reference results; expected the columns {[*COLUMNS]}; {_AGAIN}")
    return arrow.to_pandas(ignore_metadata=True), told
