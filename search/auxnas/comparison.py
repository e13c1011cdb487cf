"""Does the auxiliary help? `compare` trains all variants with several seeds and tests the difference.

Each run is a folder of its own, kept as soon as it is done: called again with the same arguments, `compare`
resumes, and with more seeds it adds them. What runs found is also written as tables, like all trials.
`plots.runs` draws the primary's metric and the gates over training; `AuxComparison.open` reads the folder.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import checks, files, release, space, table
from nasbench_mr import workers as pool
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.errors import IntegrityError, InvalidArgumentError
from nasbench_mr.extras import requires
from nasbench_mr.search.auxnas.config import OF_ALL, VARIANTS, AuxConfig
from nasbench_mr.search.auxnas.data import AuxData
from nasbench_mr.search.auxnas.preparation import prepare, starts_of
from nasbench_mr.search.auxnas.run import (
    COMPARISON,
    WEIGHTS,
    aux_nas,
    begun,
    converged,
    finished,
    stage_1,
)
from nasbench_mr.search.auxnas.tasks import get
from nasbench_mr.search.comparison import holm
from nasbench_mr.tasks import Task

#: A run: what `AuxResult.to_dict` gives.
Run = dict[str, Any]

#: The row of stage 1's own networks, and what "single" is called where it continues them.
CHECKPOINT, CONTINUED = "checkpoint", "single continued"
#: Fields that tell single tasks apart.
TOLD_APART = (*OF_ALL, "begin", "single", "start")
#: Links by direction, as results name it and as plots do.
DIRECTIONS = {"to_auxiliary": "primary to auxiliary", "to_primary": "auxiliary to primary"}
#: Text columns of the tables, beside those of every trial.
_TEXTS = ("auxiliary", "auxiliary_code", "balance", "config")


@dataclass(frozen=True)
class AuxComparison:
    """All runs of a comparison.

    Attributes:
        primary: the task that counts.
        runs: by variant, one a seed. "checkpoint": the networks that the others started from; "single
            continued": those, trained alone for as many updates as the others.
    """

    primary: str
    runs: Mapping[str, Sequence[Run]]

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> AuxComparison:
        """Return what `compare` kept in a folder.

        Raises:
            InvalidArgumentError: the folder has no finished comparison.
            IntegrityError: a file is damaged, or of something else.
        """
        path = Path(folder)
        try:
            about = json.loads(files.read_small(path / COMPARISON))
            found = cls(about["primary"], about["runs"])
            for variant, runs in found.done().items():
                found._check(variant, runs)
        except OSError as error:
            raise InvalidArgumentError(f"{path} holds no finished comparison: {error}") from None
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise IntegrityError(
                f"{path / COMPARISON} holds no comparison ({error}); rerun it: it keeps what is finished"
            ) from error
        return found

    def _check(self, variant: str, runs: Sequence[Run]) -> None:
        """Raise where what is drawn of a variant's runs has other types or shapes than `compare` gives."""
        steps, values = self.curve(runs)
        if runs and (steps.ndim != 1 or values.shape != (len(runs), len(steps))):
            raise ValueError(f"the curves of {variant!r} have no value for each step")
        for run in runs:
            if not np.isfinite(self.final(run) + float(run["config"]["threshold"]) + int(run["seed"])):
                raise ValueError(f"a run of {variant!r} has no finite result")
        if searched(runs):
            for direction in DIRECTIONS:
                gates = self.gates(runs, direction)
                if gates.ndim != 3 or gates.shape[:2] != (len(runs), len(steps) + 1):
                    raise ValueError(f"the gates {direction} have no value for each step")

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the file in a folder that `open` reads."""
        files.write_text(
            Path(folder) / COMPARISON, json.dumps({"primary": self.primary, "runs": self.runs}) + "\n"
        )

    def done(self) -> dict[str, list[Run]]:
        """Return by variant the runs that did not diverge."""
        return {v: [run for run in runs if run["status"] == "ok"] for v, runs in self.runs.items()}

    def final(self, run: Run, metric: str | None = None) -> float:
        """Return what a run's network reached: the primary's objective, or another metric of it."""
        return float(run["metrics"][self.primary][metric or get(self.primary).objective.name])

    def curve(self, runs: Sequence[Run]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return the steps at which runs were evaluated, and the primary's objective there, `(runs, n)`."""
        column = f"{self.primary}/{get(self.primary).objective.name}"
        steps = np.array(runs[0]["curve"]["step"] if runs else [], np.int64)
        return steps, np.array([run["curve"][column] for run in runs], float)

    def gates(self, runs: Sequence[Run], direction: str) -> npt.NDArray[np.float64]:
        """Return the gates before training and at each evaluation, `(runs, n + 1, gates)`."""
        return np.array([run["gates"][direction] for run in runs], float)

    def summary(self, metric: str | None = None) -> list[dict[str, Any]]:
        """Return one row a variant: how it did, and how it did against the single task.

        "better by" is the mean of the differences from the single task on equal seeds, positive where the
        variant is better; "p" of a two-sided paired t-test, "p_holm" corrected for the number of tests in the
        summary. "against" names the single task: of several that start as the variant does, the one that was
        trained with its rates and batches, or else the first; "" where none starts so. Of what starts from
        trained networks, "over checkpoint", "p checkpoint" and "p_holm checkpoint" are the same against
        those. "affinity" is the auxiliaries' mean over the run (`training.Training.affinity`). Runs that
        diverged are counted, but are not in the means.

        Args:
            metric: one of the primary's; its objective by default.

        Raises:
            InvalidArgumentError: the primary has no such metric.
        """
        task = get(self.primary)
        chosen = next((m for m in task.metrics if m.name == metric), None) if metric else task.objective
        if chosen is None:
            raise InvalidArgumentError(f"{self.primary} has no metric {metric!r}")
        done = self.done()
        values = {
            variant: {run["seed"]: self.final(run, chosen.name) for run in runs}
            for variant, runs in done.items()
        }
        begun = {v: bool(runs) and _begun(runs[0]["config"], self.primary) for v, runs in done.items()}
        rows = []
        for variant, of_seed in values.items():
            every = np.array(list(of_seed.values()), float)
            row: dict[str, Any] = {
                "variant": variant,
                "seeds": len(every),
                "diverged": len(self.runs[variant]) - len(every),
                chosen.name: float(every.mean()) if len(every) else float("nan"),
                "std": float(every.std(ddof=1)) if len(every) > 1 else float("nan"),
            }
            row["against"] = self._single(variant)
            for base, gain, suffix in self._bases(row["against"]):
                # The checkpoint is tested once against the single task, in that one's row; what starts
                # from random weights can't tell whether more training did it.
                tested = base in values and variant not in (base, CHECKPOINT)
                tested &= base != CHECKPOINT or begun[variant]
                shared = sorted(set(of_seed) & set(values[base])) if tested else []
                pairs = np.array([[of_seed[s], values[base][s]] for s in shared], float).reshape(-1, 2)
                gains = chosen.sign * (pairs[:, 0] - pairs[:, 1])
                row[gain] = float(gains.mean()) if shared else float("nan")
                row["p" + suffix], row["p_holm" + suffix] = paired_p(gains), float("nan")
            row["affinity"] = _affinity(done[variant])
            rows.append(row)
        suffixes = [suffix for *_, suffix in self._bases("")]
        tests = [(row, s) for row in rows for s in suffixes if np.isfinite(row["p" + s])]
        for (row, s), p in zip(tests, holm(np.array([row["p" + s] for row, s in tests])), strict=True):
            row["p_holm" + s] = float(p)
        return rows

    def _single(self, variant: str) -> str:
        """Return the single task that was trained as the variant was, else the first that starts so, or "".

        Single tasks are compared with the first that starts as they do.
        """
        every = {name: runs[0]["config"] for name, runs in self.done().items() if runs and name != CHECKPOINT}
        if variant not in every:
            return ""
        ours = every[variant]
        singles = [
            name
            for name, own in every.items()
            if own.get("variant") == "single" and _begun(own, self.primary) == _begun(ours, self.primary)
        ]
        alike = [name for name in singles if all(every[name].get(k) == ours.get(k) for k in TOLD_APART)]
        return next(iter(singles if variant in singles else alike + singles), "")

    def _bases(self, single: str) -> list[tuple[str, str, str]]:
        """Return what a variant is tested against: the base, and how the columns are called."""
        bases = [(single, "better by", "")]
        return bases + ([(CHECKPOINT, "over checkpoint", " checkpoint")] if CHECKPOINT in self.runs else [])


def _begun(config: Mapping[str, Any], primary: str) -> bool:
    """Return whether the primary starts from a trained network."""
    return config.get("begin") == "single" or primary in config.get("start", {})


def searched(runs: Sequence[Run]) -> bool:
    """Return whether there are runs and they searched for links: Aux-NAS, whatever its settings."""
    return bool(runs) and runs[0]["config"].get("variant") == "aux-nas"


def _affinity(runs: Sequence[Run]) -> float:
    """Return the mean over runs, evaluations and auxiliaries; NaN where there is none."""
    columns = [values for run in runs for key, values in run["curve"].items() if key.startswith("affinity/")]
    known = [value for values in columns for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def paired_p(gains: Sequence[float] | np.ndarray[Any, Any]) -> float:
    """Return the two-sided p of Student's t-test that differences have mean 0.

    NaN for fewer than two, and where all are equal: they tell no spread, so the test can't be made.
    """
    if len(gains) < 2 or np.ptp(gains) <= 1e-12 * np.abs(gains).max():
        return float("nan")
    with requires("auxnas", "the paired test"):
        from scipy import stats
    return float(stats.ttest_1samp(gains, 0.0).pvalue)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a comparison, as a worker does it."""

    primary: str
    auxiliary: tuple[str, ...]
    config: AuxConfig
    seed: int
    place: Path
    singles: Path

    def __str__(self) -> str:
        return f"{self.primary} ({self.config.variant}), seed {self.seed}"


def runner(data: AuxData, device: str | None) -> Callable[[PlannedRun], None]:
    """Return what a worker does with each `PlannedRun`."""
    return functools.partial(_do, data, device)


def _do(data: AuxData, device: str | None, planned: PlannedRun) -> None:
    aux_nas(
        planned.primary, planned.auxiliary, data, planned.config, seed=planned.seed, device=device,
        out=planned.place, singles=planned.singles,
    )  # fmt: skip


def compare(
    primary: str,
    auxiliary: str | Sequence[str],
    data: AuxData,
    config: AuxConfig | Mapping[str, Any],
    *,
    out: str | os.PathLike[str],
    seeds: int | Sequence[int] = 5,
    variants: Sequence[str] = VARIANTS,
    device: str | None = None,
    engine: str = "local",
    workers: int | None = None,
    progress: bool = False,
) -> AuxComparison:
    """Train every variant with every seed, all with the same number of updates of the weights.

    With `begin="single"`, stage 1 comes first: it trains each task alone, once for each seed, and all
    variants start from its networks, which are a row of their own. So are those that `start` names.

    Args:
        config: of all runs; its variant is replaced. `steps` must be given, as an epoch has fewer updates in
            Aux-NAS than in the others.
        out: a folder: `<variant>-seed<k>/` for each run (spaces become "-"), `single/` for stage 1, and
            `release/` with the tables.
        seeds: how many, from 0, or which.
        variants: each may have fields of its own after its name, such as "aux-nas cut=0.5".
        engine: where runs take place: "local", or "ray" on a cluster whose nodes share `out`.
        workers: processes; None: as many as the machine or cluster has room for; 0: none, everything in this
            process.
        progress: show a bar over the runs.

    Raises:
        RecipeError: no such variant or field.
        UnknownNameError: no such engine.
        InvalidArgumentError: no seeds, or no steps; variants that would start from different networks of the
            primary; and what `aux_nas` raises, before anything is trained.
        IntegrityError: `out` has other runs.
        WorkerError: a worker died; what was finished is kept.
    """
    config = config if isinstance(config, AuxConfig) else AuxConfig.of(config)
    seeds = checks.seeds(seeds)
    pool.ENGINES.check(engine)
    names = list(dict.fromkeys(" ".join(variant.split()) for variant in variants))
    configs = {name: AuxConfig.of(vars(config), _changes(name)) for name in names}
    if not config.steps or len({own.steps for own in configs.values()}) != 1:
        raise InvalidArgumentError("a comparison needs a number of steps, equal for all variants (steps=N)")
    configs = {
        name.replace("single", CONTINUED, 1)
        if own.variant == "single" and _begun(vars(own), primary)
        else name: own
        for name, own in configs.items()
    }
    # All that is wrong comes to light before anything is trained; files to start from may differ by seed.
    tasks: dict[str, list[str]] = {}
    for name, own in configs.items():
        for seed in seeds if own.start else seeds[:1]:
            prepared, _ = prepare(primary, auxiliary, data, own, seed=seed)
            tasks[name] = [task.name for task in prepared]
    folder = Path(out)
    kept = folder / "single"
    alone = {
        (name, seed): stage_1(tasks[name], data, own, seed)
        for seed in seeds
        for name, own in configs.items()
        if own.begin == "single"
    }
    first = {name: alone[name, seeds[0]][0] for name in configs if (name, seeds[0]) in alone}
    _check_one_start(primary, configs, {name: (place, own) for name, (place, _, own) in first.items()})
    singles = {
        place: PlannedRun(primary=task, auxiliary=(), config=own, seed=seed, place=kept / place, singles=kept)
        for (_, seed), runs in alone.items()
        for place, task, own in runs
    }
    # Seed by seed, so that what is there after a while is a comparison already.
    plan = {
        (name, seed): PlannedRun(
            primary=primary,
            auxiliary=tuple(tasks[name][1:]),
            config=own,
            seed=seed,
            place=folder / f"{_slug(name)}-seed{seed}",
            singles=kept,
        )
        for seed in seeds
        for name, own in configs.items()
    }
    run = functools.partial(_run, data=data, device=device, engine=engine, workers=workers, progress=progress)
    for planned in plan.values():
        _check_kept(planned, data)
    run("single tasks", singles.values())
    starts = {
        key: {task: kept / place / WEIGHTS for place, task, _ in alone[key]}
        if key in alone
        else starts_of(planned.config, planned.seed)
        for key, planned in plan.items()
    }
    for place in singles:
        converged(kept / place)
    for key, planned in plan.items():
        _check_kept(planned, data, starts[key])
    run("runs", plan.values())
    runs: dict[str, list[Run]] = {}
    for (name, _), planned in plan.items():
        runs.setdefault(name, []).append(_check_kept(planned, data, starts[name, planned.seed]) or {})
    if alone:
        begins = next(iter(first))
        runs = {CHECKPOINT: [converged(kept / alone[begins, seed][0][0]) for seed in seeds], **runs}
    elif continued := next((name for name in runs if name.startswith(CONTINUED)), None):
        runs = {CHECKPOINT: [_at_start(run) for run in runs[continued]], **runs}
    if config.backbone == "multi-resolution":
        write_tables(runs, folder / "release")
    found = AuxComparison(primary, runs)
    found.save(folder)
    return found


def _check_one_start(
    primary: str, configs: Mapping[str, AuxConfig], stage_1: Mapping[str, tuple[str, AuxConfig]]
) -> None:
    """Raise where variants start from different networks of the primary: one checkpoint is paired with all.

    Args:
        stage_1: by variant, the folder of the primary's own training, and how it is trained.
    """
    start = {name: own.start[primary] for name, own in configs.items() if primary in own.start}
    start |= {name: folder for name, (folder, _) in stage_1.items()}
    first, *others = start or [""]
    other = next((name for name in others if start[name] != start[first]), None)
    if other is None:
        return
    told = f"{first!r} and {other!r} start from different networks of {primary}"
    if first in stage_1 and other in stage_1:
        one, two = vars(stage_1[first][1]), vars(stage_1[other][1])
        fields = [key for key in one if one[key] != two[key]]
        told += f", as stage 1 has another {' and '.join(fields)}; give `single` one value for both, such as "
        told += f"--single {fields[0]}={one[fields[0]]}"
    raise InvalidArgumentError(f"{told}: all variants of a comparison are paired with one checkpoint")


def _at_start(run: Run) -> Run:
    """Return the network that a run started from as a run of its own: what it was at update 0."""
    primary = run["primary"]
    first = {m.name: run["curve"][f"{primary}/{m.name}"][0] for m in get(primary).metrics}
    return {
        **run,
        "status": "ok",
        "steps": 0,
        "seconds": 0.0,
        "metrics": {primary: first},
        "curve": {column: values[:1] for column, values in run["curve"].items()},
        "gates": {direction: values[:2] for direction, values in run["gates"].items()},
    }


def _run(
    what: str,
    plan: Iterable[PlannedRun],
    *,
    data: AuxData,
    device: str | None,
    engine: str,
    workers: int | None,
    progress: bool,
) -> None:
    """Do the planned runs whose folder has no result."""
    from tqdm import tqdm

    plan = list(plan)
    todo = [planned for planned in plan if finished(planned.place) is None]
    gpu = not (device or "cuda").startswith("cpu")
    work = pool.Work("nasbench_mr.search.auxnas.comparison:runner", (data, device), gpu=gpu)
    done = len(plan) - len(todo)
    with tqdm(total=len(plan), initial=done, desc=what, disable=None if progress else True) as bar:
        for _ in pool.run(work, todo, engine=engine, workers=workers):
            bar.update()


def _check_kept(planned: PlannedRun, data: AuxData, starts: Mapping[str, Path] | None = None) -> Run | None:
    """Return a planned run's result, if there is one.

    Args:
        starts: files that the run starts from; None: not trained yet.

    Raises:
        IntegrityError: another run was begun in its folder.
    """
    found = finished(planned.place)
    there = found or begun(planned.place)
    if there is None:
        return None
    asked: Run = {
        "primary": planned.primary,
        "auxiliary": list(planned.auxiliary),
        "data_digest": data.digest,
    }
    asked |= {"seed": planned.seed, "config": json.loads(json.dumps(dataclasses.asdict(planned.config)))}
    if found and starts is not None:
        asked["start"] = sorted(planned.config.digests(starts).values())
        there = {**found, "start": sorted(found["start"].values())}
    if other := [key for key, value in asked.items() if there.get(key) != value]:
        raise IntegrityError(
            f"{planned.place} has a run with another {other[0].replace('_', ' ')}; give another folder, or "
            "delete it"
        )
    return found


def _changes(variant: str) -> dict[str, Any]:
    """Return the fields of a variant that may bring some of its own: "aux-nas cut=0.5"."""
    name, *flags = variant.split() or [""]
    return {**recipes.parse_flags(flags), "variant": name}


def _slug(text: str) -> str:
    """For the name of a folder."""
    return re.sub(r"[^a-z0-9.=-]+", "-", text.lower())


def table_task(run: Run, variant: str) -> Task:
    """Return the task whose table a run's row belongs to: its data, primary, auxiliaries and variant."""
    kind = get(run["primary"])
    helped = "-".join(run["auxiliary"]) or "alone"
    return Task(
        name=_slug(f"{run['data']}-{kind.name}-{variant}-{helped}").replace("=", "-"),
        title=f"{kind.name} on {run['data']}, {variant}, auxiliary: {helped}",
        dataset=run["data"],
        problem="segmentation" if kind.dense else "classification",
        metrics=kind.metrics,
        objective=kind.objective.name,
        recipe="search.aux_nas; the column `config` tells configurations and data apart",
        provenance="trained by nasbench-mr auxnas",
        cost="table",
    )


def write_tables(runs: Mapping[str, Sequence[Run]], target: Path) -> release.Release:
    """Write runs of multi-resolution networks as a release: a task a variant, a row a run."""
    tasks = []
    for variant, group in runs.items():
        if not group:
            continue
        task = table_task(group[0], variant)
        codes = np.array([space.parse(run["config"]["primary_code"]) for run in group], np.int16)
        columns: dict[str, Any] = {"codes": codes, "seed": [run["seed"] for run in group]}
        for metric in task.metrics:
            columns[metric.name] = [run["metrics"][run["primary"]][metric.name] for run in group]
        columns |= {key: [run[key] for run in group] for key in ("macs", "params", "status", "device")}
        columns["train_seconds"] = [run["seconds"] for run in group]
        columns["auxiliary"] = [", ".join(run["auxiliary"]) for run in group]
        columns["auxiliary_code"] = [_auxiliary_code(run) for run in group]
        columns["balance"] = [run["config"]["balance"] for run in group]
        columns["config"] = [_digest({**run["config"], "data": run["data_digest"]}) for run in group]
        table.write(target / "tables" / f"{task.name}.parquet", task, columns, _TEXTS)
        table.write_curves(target / "curves" / f"{task.name}.parquet", task, _curves(group, task))
        tasks.append(task)
    about = {"title": "Aux-NAS runs", "license": "CC0-1.0"}
    return release.seal(target, "auxnas", "1.0.0", tasks, about=about)


def _auxiliary_code(run: Run) -> str:
    """Return the code of the auxiliary networks; "" where there are none."""
    config = run["config"]
    linked = config["variant"] in ("aux-g", "aux-nas")
    return (config["auxiliary_code"] or config["primary_code"]) if linked else ""


def _digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def _curves(group: Sequence[Run], task: Task) -> dict[str, Any]:
    """Learning curves; an "epoch" is an evaluation, and `step` says after how many updates."""
    rows: dict[str, list[Any]] = {}
    for run in group:
        count = len(run["curve"]["step"])
        columns = {
            "seed": [run["seed"]] * count,
            "epoch": list(range(1, count + 1)),
            "step": run["curve"]["step"],
        }
        columns |= {m.name: run["curve"][f"{run['primary']}/{m.name}"] for m in task.metrics}
        columns["loss"] = run["curve"][f"loss/{run['primary']}"]
        for direction, gates in run["gates"].items():
            # The first row is from before training.
            known = [g if g and None not in g else None for g in gates[1:]]  # None: it diverged
            columns[f"gates_{direction}"] = [None if g is None else float(np.mean(g)) for g in known]
        for key, values in columns.items():
            rows.setdefault(key, []).extend(values)
    codes = [space.parse(run["config"]["primary_code"]) for run in group for _ in run["curve"]["step"]]
    return {"codes": np.array(codes, np.int16), **rows}
