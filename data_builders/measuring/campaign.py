"""Measure many codes: in groups, on an engine, resumable; then the table `costs/<label>.parquet`.

    measure(codes, Setting(device="cpu", runtime="torch"), "out")

Every finished group is a file under `out/parts/<label>/<runtime>`; rerun to resume. Parts are of one device,
setting and set of versions: others are refused, not mixed.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nasbench_mr import checks, files, measured, space, workers
from nasbench_mr.analysis import correlation
from nasbench_mr.arrays import Codes, Floats, keys
from nasbench_mr.data_builders.measuring.measure import (
    Group,
    Setting,
    check_calm,
    outliers,
    quartiles,
)
from nasbench_mr.errors import DeviceError, InvalidArgumentError

#: Codes measured together, and groups that are looked at together to tell whether the device is busy.
GROUP, WINDOW = 8, 4
_HERE = __name__.rpartition(".")[0]


def measure(
    codes: Codes,
    setting: Setting,
    out: str | os.PathLike[str],
    *,
    label: str | None = None,
    engine: str = "local",
    count: int = 1,
    progress: bool = False,
    **options: Any,
) -> Path:
    """Measure codes that `out` does not have yet; return the path of the table, written anew.

    Args:
        codes: `(n, 27)`. They are taken in a random order, always the same, so what drifts favours none.
        out: a folder, which may have parts of an earlier run.
        label: what the table is called; by default the kind of device, "cpu" or "cuda".
        engine, options: see `workers.make`.
        count: processes that measure at once; more than one disturb each other, unless the clock is "cpu".
            0: this one.

    Raises:
        DeviceError: this machine lacks the device, it is too busy, or `out` is of another one.
        InvalidArgumentError: `out` was measured with another setting, or other versions.
        WorkerError: a group ended its worker, as for want of memory.
    """
    from tqdm import tqdm

    label = measured.check_label(label or setting.device.partition(":")[0])
    parts = KeptGroups(out, label, setting)
    have = {bytes(row["code"]) for group in parts.groups() for row in group.rows}
    todo = [tuple(code) for code in space.check(codes).tolist() if bytes(code) not in have]
    todo = [todo[k] for k in np.random.default_rng(0).permutation(len(todo))]
    groups = [todo[k : k + GROUP] for k in range(0, len(todo), GROUP)]
    work = workers.Work(f"{_HERE}.measure:measurer", (setting,))
    recent: list[Group] = []
    first: float | None = None
    done = workers.run(work, groups, engine=engine, workers=count, **options)
    for _, group in tqdm(done, "groups of codes", len(groups), disable=None if progress else True):
        parts.add(group)
        recent = [*recent[1 - WINDOW :], group]
        if len(recent) == WINDOW:
            check_calm(recent, setting, first)
            first = first or float(np.median([each.reference for each in recent]))
    return write_table(out, label)


#: What the table's columns of integers hold.
MOST = (1 << 31) - 1


class KeptGroups:
    """The finished groups of a label and runtime, as files in a folder."""

    def __init__(self, out: str | os.PathLike[str], label: str, setting: Setting):
        self.folder = Path(out) / "parts" / label / setting.runtime
        self._about: dict[str, Any] = {}
        for folder in sorted(self.folder.parent.glob("*")):
            for group in read_groups(folder):
                self._check(group.about, str(folder))
                break
        if self._about:
            self._check({**setting.describe()}, "this run")

    def _check(self, about: dict[str, Any], where: str) -> None:
        """Raise where a group is of another device or setting than those before."""
        self._about = self._about or about
        # Runtimes share a table, and each has its own version.
        alike = [name for name in self._about if name not in ("runtime", "onnxruntime", "date")]
        for name in alike:
            ours, theirs = self._about[name], about.get(name)
            if ours != theirs:
                error = DeviceError if name in ("device", "name", "cores") else InvalidArgumentError
                raise error(
                    f"{self.folder.parent} was measured with {name} {ours!r}, {where} has {theirs!r}; "
                    "costs of different settings are not mixed: give another folder or label"
                )

    def add(self, group: Group) -> None:
        """Keep a group."""
        self._check(group.about, "this worker")
        text = json.dumps(asdict(group) | {"date": datetime.date.today().isoformat()})
        name = hashlib.sha256(repr([row["code"] for row in group.rows]).encode()).hexdigest()[:16]
        files.write_text(self.folder / f"{name}.json", text)

    def groups(self) -> list[Group]:
        """Return the groups so far."""
        return list(read_groups(self.folder))


def read_groups(folder: Path) -> Iterator[Group]:
    """Yield the groups that are kept in a folder, in order of their names."""
    for path in sorted(folder.glob("*.json")):
        data = checks.json_object(files.read_small(path), str(path), InvalidArgumentError)
        try:
            for row in data["rows"]:
                space.check([row["code"]])
                if not isinstance(row["times_ms"], list) or not row["times_ms"]:
                    raise ValueError("a row has no list of times")
                for time in row["times_ms"]:
                    checks.finite("time", time, least=0)
                for name in ("memory", "energy"):
                    if row[name] is not None:
                        checks.finite(name, row[name])
            about = {**data["about"], "date": str(data["date"])}
            if not isinstance(about["runtime"], str):
                raise ValueError("its runtime is not a name")
            for name in ("batch", "size", "threads"):
                if checks.at_least(1, name, about[name]) > MOST:
                    raise ValueError(f"{name} is {about[name]}; expected at most {MOST}")
            reference = checks.positive("reference", data["reference"])
            yield Group(data["rows"], reference, about, float(data["seconds"]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InvalidArgumentError(
                f"{path} is not a group of measurements ({error!r}); delete it and run again"
            ) from None


def write_table(out: str | os.PathLike[str], label: str) -> Path:
    """Write `costs/<label>.parquet` from all parts of a label; return its path."""
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    dates: set[str] = set()
    references: dict[str, list[float]] = {}
    for folder in sorted((Path(out) / "parts" / label).glob("*")):
        groups = list(read_groups(folder))
        references[folder.name] = [group.reference for group in groups]
        usual = float(np.median(references[folder.name])) if groups else 1.0
        for group in groups:
            dates.add(group.about["date"])
            about |= group.about
            rows += [_row(row, group.about, _steady(group, usual)) for row in group.rows]
    if not rows:
        raise InvalidArgumentError(f"{out} has no measurements of {label!r}")
    for name in ("runtime", "batch", "size", "threads", "date"):
        del about[name]
    about["dates"] = [min(dates), max(dates)]
    #: Median time of the reference network, and the quartiles' distance over the run, by runtime.
    about["reference_ms"] = {
        name: [round(float(x), 4) for x in quartiles(times)] for name, times in sorted(references.items())
    }
    return measured.write(Path(out) / "costs" / f"{label}.parquet", rows, about)


def _steady(group: Group, usual: float) -> float:
    """Return what a group's times are multiplied by.

    On the clock "cpu", which is for machines that others use, the reference network tells how much these
    slowed the group down, by the caches and memory that they share. Other times stay as they are.
    """
    return usual / group.reference if group.about.get("clock") == "cpu" else 1.0


def _row(row: dict[str, Any], about: dict[str, Any], factor: float) -> dict[str, Any]:
    low, middle, high = quartiles(row["times_ms"]) * factor
    return {
        "code": row["code"],
        **{name: about[name] for name in ("runtime", "batch", "size", "threads")},
        "latency_ms": middle,
        "latency_q1_ms": low,
        "latency_q3_ms": high,
        "repeats": len(row["times_ms"]),
        "outliers": outliers(row["times_ms"]),
        "memory_mb": None if row["memory"] is None else row["memory"] / 1e6,
        "energy_mj": None if row["energy"] is None else row["energy"] * 1e3,
    }


def remeasure(codes: Codes, cost: measured.Cost, *, count: int = 1) -> Floats:
    """Measure codes now, as they were measured for a cost, a latency of this machine: `(n,)`."""
    if not cost.column.startswith("latency"):
        raise InvalidArgumentError(f"{cost.name!r} can't be measured alone; expected a latency")
    quartile = ("latency_q1_ms", "latency_ms", "latency_q3_ms").index(cost.column)
    setting = setting_of(cost)
    here = setting.describe()
    for name in ("device", "name", "cores"):
        if here[name] != cost.table.about[name]:
            raise DeviceError(
                f"{cost.name!r} was measured with {name} {cost.table.about[name]!r}, "
                f"this machine has {here[name]!r}"
            )
    work = workers.Work(f"{_HERE}.measure:measurer", (setting,))
    groups = [list(map(tuple, codes[k : k + GROUP].tolist())) for k in range(0, len(codes), GROUP)]
    found: dict[bytes, float] = {}
    usual = cost.table.about["reference_ms"][cost.runtime][1]
    for _, group in workers.run(work, groups, workers=count):
        factor = _steady(group, usual)
        found |= {bytes(row["code"]): quartiles(row["times_ms"])[quartile] * factor for row in group.rows}
    return np.array([found[code] for code in keys(codes)])


def setting_of(cost: measured.Cost) -> Setting:
    """Return how a cost was measured."""
    row, table = cost.rows[0], cost.table
    options: dict[str, Any] = {name: int(table.columns[name][row]) for name in ("batch", "size", "threads")}
    options |= {name: table.about[name] for name in ("device", "repeat", "clock")}
    return Setting(runtime=cost.runtime, **options)


def recheck(cost: measured.Cost, sample: int = 64, *, count: int = 1) -> dict[str, Any]:
    """Measure a random sample of a cost's codes again.

    Returns:
        "cost", "codes" (how many), "rank" (Spearman's correlation of the old and the new values), "ratio"
        (median of new over old).
    """
    checks.at_least(2, "sample", sample)
    chosen = np.random.default_rng(0).permutation(len(cost.codes))[:sample]
    before, after = cost.values[chosen], remeasure(cost.codes[chosen], cost, count=count)
    return {
        "cost": cost.name,
        "codes": len(chosen),
        "rank": correlation(before, after, "spearman"),
        "ratio": float(np.median(after / before)),
    }
