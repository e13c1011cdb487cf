"""Measure many codes: in groups, on an engine, resumable; then the table `costs/<label>.parquet`.

    measure(codes, Setting(device="cpu", runtime="torch"), "out")

Every group that was measured on a calm device is a file under `out/parts/<label>/<runtime>`; rerun to resume.
Parts are of one device, setting and set of versions: others are refused, not mixed.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
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
        DeviceError: this machine lacks the device, or `out` is of another one; or it is busy, or no longer as
            it was for what `out` has: the groups that tell so are not kept.
        InvalidArgumentError: `out` was measured with another setting, or other versions; or processes would
            wait for each other.
        WorkerError: a group ended its worker, as for want of memory.
    """
    label = measured.check_label(label or setting.device.partition(":")[0])
    parts = KeptGroups(out, label, setting)
    have = {bytes(row["code"]) for group in parts.groups() for row in group.rows}
    todo = [tuple(code) for code in space.check(codes).tolist() if bytes(code) not in have]
    todo = [todo[k] for k in np.random.default_rng(0).permutation(len(todo))]
    for recent in _windows(todo, setting, count, engine=engine, progress=progress, **options):
        parts.keep(recent)
    return write_table(out, label)


def _windows(
    codes: Sequence[space.Code],
    setting: Setting,
    count: int,
    *,
    engine: str = "local",
    progress: bool = False,
    **options: Any,
) -> Iterator[list[Group]]:
    """Measure codes; yield the last groups as soon as they tell whether the device is busy, or are all."""
    from tqdm import tqdm

    if engine == "local":
        _check_room(setting, max(count, 1))
    groups = [list(codes[k : k + GROUP]) for k in range(0, len(codes), GROUP)]
    work = workers.Work(f"{_HERE}.measure:measurer", (setting,))
    done = workers.run(work, groups, engine=engine, workers=count, **options)
    shown = tqdm(done, "groups of codes", len(groups), disable=None if progress else True)
    recent: list[Group] = []
    for number, (_, group) in enumerate(shown, 1):
        recent = [*recent[1 - WINDOW :], group]
        if len(recent) == WINDOW or number == len(groups):
            yield recent


def _check_room(setting: Setting, count: int) -> None:
    """Raise where processes would wait for each other's cores or GPU, and the clock counts that."""
    gpu, cores = setting.device.startswith("cuda"), workers.cores()
    if setting.clock == "wall" and (count > 1 if gpu else count * setting.threads > cores):
        of, place = ("", "a GPU") if gpu else (f" of threads={setting.threads}", f"{cores} cores")
        raise InvalidArgumentError(
            f"processes that measure at once would wait for each other: {count}{of} on {place}, and clock is "
            f"'wall'; give fewer workers{'' if gpu else ' or threads, or one thread each and the clock cpu'}"
        )


#: What the table's columns of integers hold; and of the others, whatever a part's reference is.
MOST = (1 << 31) - 1
_LEAST, _LARGEST = 1e-9, 1e12
#: What tells another device; and what groups of one table may differ in.
_DEVICE = ("device", "processor", *measured.this_machine())
_VARIES = ("runtime", "max_spread", "date")


class KeptGroups:
    """The finished groups of a label and runtime, as files in a folder."""

    def __init__(self, out: str | os.PathLike[str], label: str, setting: Setting):
        self.folder = Path(out) / "parts" / label / setting.runtime
        self._setting = setting
        self._about: dict[str, Any] = {}
        for folder in sorted(self.folder.parent.glob("*")):
            for group in read_groups(folder):
                self._check(group.about, str(folder))
        if self._about:
            self._check(setting.describe(), "this run")
        self._first = _reference(self.groups())

    def _check(self, about: dict[str, Any], where: str) -> None:
        """Raise where a group is of another device, setting or version than those before."""
        for name, theirs in about.items():
            # Runtimes share a table: what only one of them says, as its version, is compared with its own.
            ours = self._about.setdefault(name, theirs)
            if name not in _VARIES and ours != theirs:
                error = DeviceError if name in _DEVICE else InvalidArgumentError
                raise error(
                    f"{self.folder.parent} was measured with {name} {ours!r}, {where} has {theirs!r}; "
                    "costs of different settings are not mixed: give another folder or label"
                )

    def keep(self, groups: Sequence[Group]) -> None:
        """Keep the last groups.

        Raises:
            DeviceError: they tell that the device is busy. Then none of them stays, those kept before
                included, so that their codes are measured anew.
        """
        try:
            check_calm(groups, self._setting, self._first)
        except DeviceError:
            for group in groups:
                self._path(group).unlink(missing_ok=True)
            raise
        self._first = self._first or _reference(groups)
        for group in groups:
            if not self._path(group).exists():
                self._check(group.about, "this worker")
                text = json.dumps(asdict(group) | {"date": datetime.date.today().isoformat()})
                files.write_text(self._path(group), text)

    def _path(self, group: Group) -> Path:
        codes = repr([row["code"] for row in group.rows])
        return self.folder / f"{hashlib.sha256(codes.encode()).hexdigest()[:16]}.json"

    def groups(self) -> list[Group]:
        """Return the groups so far."""
        return list(read_groups(self.folder))


def _reference(groups: Sequence[Group]) -> float | None:
    """Return the usual time of the reference network; None where there are no groups."""
    return float(np.median([group.reference for group in groups])) if groups else None


def read_groups(folder: Path) -> Iterator[Group]:
    """Yield the groups that are kept in a folder, in order of their names."""
    return files.read_parts(folder, "measurements", _group)


def _group(data: dict[str, Any]) -> Group:
    for row in data["rows"]:
        space.check([row["code"]])
        if not isinstance(row["times_ms"], list) or not row["times_ms"]:
            raise ValueError("a row has no list of times")
        for time in row["times_ms"]:
            _cost("time", time)
        for name in ("memory", "energy"):
            if row[name] is not None:
                _cost(name, row[name])
    about = {**data["about"], "date": str(data["date"])}
    if not isinstance(about["runtime"], str):
        raise ValueError("its runtime is not a name")
    for name in ("batch", "size", "threads"):
        if checks.at_least(1, name, about[name]) > MOST:
            raise ValueError(f"{name} is {about[name]}; expected at most {MOST}")
    if "max_spread" in about:
        checks.positive("max_spread", about["max_spread"])
    return Group(data["rows"], _cost("reference", data["reference"]), about, float(data["seconds"]))


def _cost(name: str, value: object) -> float:
    """Return a positive number that the table's 32 bits hold: it takes neither 0 nor infinity."""
    kind = f"a number from {_LEAST:g} to {_LARGEST:g}"
    number = checks.positive(name, value, kind, _LARGEST)
    if number < _LEAST:
        raise InvalidArgumentError(f"{name} is {value!r}; expected {kind}")
    return number


def write_table(out: str | os.PathLike[str], label: str) -> Path:
    """Write `costs/<label>.parquet` from all parts of a label; return its path."""
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    dates: set[str] = set()
    allowed: set[float] = set()
    references: dict[str, list[float]] = {}
    for folder in sorted((Path(out) / "parts" / label).glob("*")):
        groups = list(read_groups(folder))
        references[folder.name] = [group.reference for group in groups]
        usual = float(np.median(references[folder.name])) if groups else 1.0
        for group in groups:
            dates.add(group.about["date"])
            about |= group.about
            if "max_spread" in group.about:  # else measured before it was recorded
                allowed.add(group.about["max_spread"])
            rows += [_row(row, group.about, _steady(group, usual)) for row in group.rows]
    if not rows:
        raise InvalidArgumentError(f"{out} has no measurements of {label!r}")
    for name in ("runtime", "batch", "size", "threads", "date"):
        del about[name]
    about["dates"] = [min(dates), max(dates)]
    if allowed:
        about["max_spread"] = max(allowed)
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


#: The columns that `remeasure` gives, in the order of `quartiles`.
_LATENCIES = ("latency_q1_ms", "latency_ms", "latency_q3_ms")


def remeasure(
    codes: Codes, cost: measured.Cost, *, count: int = 1, max_spread: float | None = None
) -> Floats:
    """Measure codes now, as they were measured for a cost: `(n,)`.

    Args:
        max_spread: of `Setting`, in the place of the cost's own.

    Raises:
        InvalidArgumentError, DeviceError: see `setting_of`.
        DeviceError: the device is busy, or no longer as fast as it was.
    """
    setting = setting_of(cost)
    if max_spread is not None:
        setting = replace(setting, max_spread=max_spread)
    quartile = _LATENCIES.index(cost.column)
    found: dict[bytes, float] = {}
    usual = cost.table.about["reference_ms"][cost.runtime][1]
    for recent in _windows(list(map(tuple, codes.tolist())), setting, count):
        check_calm(recent, setting, usual)
        for group in recent:
            factor = _steady(group, usual)
            found |= {bytes(row["code"]): quartiles(row["times_ms"])[quartile] * factor for row in group.rows}
    return np.array([found[code] for code in keys(codes)])


def setting_of(cost: measured.Cost) -> Setting:
    """Return how to measure a cost again.

    Raises:
        InvalidArgumentError: it is not a latency.
        DeviceError: it was measured on another machine.

    Warns:
        MeasuredElsewhereWarning: it was measured with other versions.
    """
    if cost.column not in _LATENCIES:
        raise InvalidArgumentError(f"{cost.name!r} can't be measured alone; expected a latency")
    row, about = cost.rows[0], cost.table.about
    options: dict[str, Any] = {n: int(cost.table.columns[n][row]) for n in ("batch", "size", "threads")}
    options |= {n: about[n] for n in ("device", "repeat", "clock", "max_spread") if n in about}
    setting = Setting(runtime=cost.runtime, **options)
    here = setting.describe()
    changed = [name for name, value in here.items() if about.get(name, value) != value]
    elsewhere = [name for name in changed if name in _DEVICE]
    then, now = (", ".join(f"{name} {of[name]!r}" for name in elsewhere or changed) for of in (about, here))
    text = f"{cost.name!r} was measured with {then}, this machine has {now}"
    if elsewhere:
        raise DeviceError(text)
    if changed:
        warnings.warn(text, measured.MeasuredElsewhereWarning, stacklevel=2)
    return setting


def recheck(
    cost: measured.Cost, sample: int = 64, *, count: int = 1, max_spread: float | None = None
) -> dict[str, Any]:
    """Measure a random sample of a cost's codes again.

    Args:
        count, max_spread: see `remeasure`.

    Returns:
        "cost", "codes" (how many), "rank" (Spearman's correlation of the old and the new values), "ratio"
        (median of new over old).
    """
    checks.at_least(2, "sample", sample)
    chosen = np.random.default_rng(0).permutation(len(cost.codes))[:sample]
    before = cost.values[chosen]
    after = remeasure(cost.codes[chosen], cost, count=count, max_spread=max_spread)
    return {
        "cost": cost.name,
        "codes": len(chosen),
        "rank": correlation(before, after, "spearman"),
        "ratio": float(np.median(after / before)),
    }
