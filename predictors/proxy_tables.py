"""Tables of zero-cost proxies: made once for many codes, carried by releases as `proxies/<task>.parquet`.

`make` computes one, resumable; `find` returns those whose networks are most like a task's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nasbench_mr import checks, files, library, measured, space, workers
from nasbench_mr.arrays import Codes, Floats, looked_up
from nasbench_mr.errors import CodeNotFoundError, TableError
from nasbench_mr.predictors.base import PROXIES, check_networks
from nasbench_mr.release import Release
from nasbench_mr.tasks import PROBLEMS, Task, check_head
from nasbench_mr.threads import open_device
from nasbench_mr.trials import MEASURED, SCHEMA_VERSION

#: Codes of one part of a resumable run.
_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class ProxyTable:
    """Zero-cost proxies of codes.

    Attributes:
        codes: `(n, 27)`.
        columns: `(n,)` by proxy; NaN where unknown.
        about: "task", "problem", "num_classes", "width_mult", "seed", "batch", "size", versions.
    """

    codes: Codes
    columns: dict[str, Floats]
    about: dict[str, Any]

    def lookup(self, codes: Codes, name: str) -> Floats:
        """Return a proxy of codes, `(m,)`; NaN where they are not in the table."""
        return looked_up(self.codes, self.columns[name], codes)


def task_of(name: str) -> Task:
    """Return the task of a column ("seg", "seg/mIoU"), or the cost; raise `UnknownTaskError` for none."""
    task = name.partition("/")[0]
    return measured.find(task, library.installed()).task if "@" in task else library.task(task)


def find(task: Task, releases: Iterable[Release]) -> dict[str, ProxyTable]:
    """Return, by proxy, the table whose networks are most like a task's, of those that have this proxy.

    Those made for the task come first, then others of the same width: those of most codes, and of as many
    those of the same kind of problem; a user's before the package's.

    Raises:
        CodeNotFoundError: there is none.
        InvalidArgumentError: the task's codes are of another space.
    """
    check_networks(task)
    ordered = sorted(releases, key=lambda release: release.name == MEASURED)
    opened = {(str(release), name): release for release in ordered for name in release.files}
    tables = [
        read(release.file(name)) for (_, name), release in opened.items() if name.startswith("proxies/")
    ]
    alike = [
        table
        for table in tables
        if table.about.get("task") == task.name or table.about["width_mult"] == task.width_mult
    ]
    if not alike:
        raise lacking(task, "networks as it trains them")

    def order(table: ProxyTable) -> tuple[Any, ...]:
        if table.about.get("task") == task.name:
            return (False,)
        # Of other tasks' one of few codes would take the place of one that has nearly all.
        about = table.about
        others = about["problem"] != task.problem, about["num_classes"] != task.num_classes
        return (True, -len(table.codes), *others)

    alike.sort(key=order)
    return {name: table for table in reversed(alike) for name in table.columns}


def lacking(task: Task, what: str) -> CodeNotFoundError:
    """Return the error that says which proxies of a task are not installed, and how to make them."""
    return CodeNotFoundError(
        f"no installed release has zero-cost proxies for task {task.name!r} of {what}; {how_to_make(task)}"
    )


def how_to_make(task: Task) -> str:
    """Return the command that makes a task's proxies, as the end of a message."""
    return f"nasbench-mr proxies {task.name}{'' if task.problem in PROBLEMS else ' --head TASK'} makes them"


def installed(task: Task, name: str) -> ProxyTable | None:
    """Return the table of a proxy that `find` finds among the installed releases, if there is one."""
    with contextlib.suppress(CodeNotFoundError):
        return find(task, library.installed()).get(name)
    return None


def scores(codes: Codes, task: Task, name: str, table: ProxyTable | None) -> Floats:
    """Return a proxy of codes, `(n,)`: of its table, computed where that lacks it or there is none.

    What is computed beside a table is of the table's networks: proxies of another head have another scale.
    """
    found = np.full(len(codes), np.nan)
    options: dict[str, Any] = {}
    if table is not None:
        options = {key: table.about[key] for key in ("seed", "batch", "size") if key in table.about}
        task = replace(task, **{key: table.about[key] for key in ("problem", "num_classes", "width_mult")})
        found = table.lookup(codes, name)
    rest = np.isnan(found)
    if rest.any():
        found[rest] = worker(task, {"names": (name,), **options})(codes[rest])[name]
    return found


def worker(
    task: Task, options: Mapping[str, Any]
) -> Callable[[Sequence[space.Code]], dict[str, list[float]]]:
    """Return what computes the proxies of some codes; the maker of `workers.Work`."""
    import torch

    from nasbench_mr.predictors import zero_cost

    torch.set_num_threads(1)

    def run(codes: Sequence[space.Code]) -> dict[str, list[float]]:
        return {name: v.tolist() for name, v in zero_cost.compute(codes, task, **options).items()}

    return run


def make(
    codes: Codes,
    task: Task,
    out: str | os.PathLike[str],
    *,
    count: int | None = None,
    progress: bool = False,
    **options: Any,
) -> Path:
    """Write `out/proxies/<task>.parquet`; return its path. Rerun to resume.

    Args:
        codes: `(n, 27)`.
        count: processes; by default as many as there are cores. 0: this one.
        options: `seed`, `batch`, `size`, `device` and `names` of `zero_cost.compute`.

    Raises:
        InvalidArgumentError: the task's codes are of another space, or no one knows its networks' head; or a
            part in `out` is damaged.
    """
    from tqdm import tqdm

    check_networks(task)
    check_head(task, "--head mini-cls")
    options = checks.plain("options", options)
    open_device(options.get("device", "cpu"))
    described = json.dumps([task.to_dict(), sorted(options.items())])
    folder = Path(out) / "parts" / "proxies" / task.name / hashlib.sha256(described.encode()).hexdigest()[:12]
    names = options.get("names", PROXIES)
    parts = list(files.read_parts(folder, "proxies", lambda data: _part(data, names)))
    have = {bytes(code) for part in parts for code in part["codes"]}
    todo = [tuple(code) for code in space.check(codes).tolist() if bytes(code) not in have]
    groups = [todo[k : k + _AT_ONCE] for k in range(0, len(todo), _AT_ONCE)]
    work = workers.Work(f"{make.__module__}:worker", (task, options))
    done = workers.run(work, groups, workers=count)
    for group, values in tqdm(done, "groups of codes", len(groups), disable=None if progress else True):
        part = {"codes": group, "values": values}
        name = hashlib.sha256(repr(group).encode()).hexdigest()[:16]
        files.write_text(folder / f"{name}.json", json.dumps(part))
        parts.append(part)
    return write(Path(out) / "proxies" / f"{task.name}.parquet", parts, task, options)


def _part(data: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a group of codes with their proxies, after it was checked."""
    codes, values = data["codes"], data["values"]
    space.check(codes)
    if values.keys() != set(names):
        raise ValueError(f"it has {', '.join(values)}; expected {', '.join(names)}")
    for name, found in values.items():
        if not isinstance(found, list) or len(found) != len(codes):
            raise ValueError(f"{name} is not a list of {len(codes)} numbers, one for each code")
        for value in found:
            if not isinstance(value, float):  # NaN and infinity are values of some networks
                raise ValueError(f"{name} is {value!r}; expected a decimal number")
    return {"codes": codes, "values": values}


def write(path: Path, parts: Sequence[Mapping[str, Any]], task: Task, options: Mapping[str, Any]) -> Path:
    """Write a table of proxies, each within 1/512 of its spread over the codes, or of its value."""
    import pyarrow as pa
    import torch

    codes = np.array([code for part in parts for code in part["codes"]], np.int16).reshape(-1, space.DIM)
    order = np.lexsort(codes.T[::-1])
    columns = {name: pa.array(codes[order, k]) for k, name in enumerate(space.NAMES)}
    for name in parts[0]["values"] if parts else ():
        values = np.array([value for part in parts for value in part["values"][name]], np.float64)
        columns[name] = pa.array(measured.short(values[order], _bits(values)), from_pandas=True)
    about = {
        "schema_version": SCHEMA_VERSION,
        "task": task.name,
        **{name: getattr(task, name) for name in ("problem", "num_classes", "width_mult")},
        **options,
        "torch": torch.__version__,
    }
    return measured.write_compact(path, columns, about)


def _bits(values: Floats) -> int:
    """Return how many significant bits tell a proxy's values apart: some lie close together, far from 0."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 10
    low, high = np.quantile(known, [0.25, 0.75])
    far = np.median(np.abs(known)) / max(high - low, np.finfo(np.float32).tiny)
    return int(np.clip(9 + np.ceil(np.log2(max(far, 1.0))), 10, 23))


def read(path: Path) -> ProxyTable:
    """Read a table of proxies; raise `TableError` where it is not one."""
    from nasbench_mr.table import read_arrow

    arrow = read_arrow(path)
    lacking = [name for name in space.NAMES if name not in arrow.column_names]
    names = [name for name in arrow.column_names if name in PROXIES]
    if lacking or not names:
        raise TableError(
            f"{path} is not a table of zero-cost proxies: expected codes and {', '.join(PROXIES)}"
        )
    try:
        about = json.loads((arrow.schema.metadata or {})[b"nasbench_mr"])
        about["problem"], about["num_classes"], about["width_mult"]
    except (KeyError, ValueError, TypeError):
        raise TableError(f"{path} does not say which networks it is about (metadata 'nasbench_mr')") from None
    frame = arrow.to_pandas(ignore_metadata=True)
    codes = space.check(frame[list(space.NAMES)].to_numpy())
    return ProxyTable(codes, {name: frame[name].to_numpy("float64") for name in names}, about)
