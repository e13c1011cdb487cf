"""Does the auxiliary help? `compare` trains all variants with several seeds and tests the difference.

Each run is a folder of its own, kept as soon as it is done: called again with the same arguments, `compare`
goes on where it stopped, and with more seeds it adds them. What runs found is also written as tables, like
all trials, and `plots.runs` draws the primary's metric and the gates over training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasbench_mr import release, space, table
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.errors import IntegrityError, InvalidArgumentError
from nasbench_mr.extras import requires
from nasbench_mr.search.auxnas import tasks as aux_tasks
from nasbench_mr.search.auxnas.data import AuxData
from nasbench_mr.search.auxnas.run import VARIANTS, AuxConfig, aux_nas, prepare
from nasbench_mr.tasks import Task

#: A run: what `AuxResult.to_dict` gives.
Run = dict[str, Any]

#: Text columns of the tables, beside those of every trial.
_TEXTS = ("auxiliary", "auxiliary_code", "balance", "config")


@dataclass(frozen=True)
class Comparison:
    """All runs of a comparison.

    Attributes:
        primary: the task that counts.
        runs: by variant, one a seed.
    """

    primary: str
    runs: Mapping[str, Sequence[Run]]

    def summary(self, metric: str | None = None) -> list[dict[str, Any]]:
        """One row a variant: seeds, the metric's mean and standard deviation, the mean of its differences
        from "single" on equal seeds (positive is better), the two-sided p-value of a paired t-test, and the
        auxiliaries' mean affinity over the run (`aux_training.Training.affinity`). Runs that diverged are not
        in it, but are counted.

        Args:
            metric: one of the primary's; its objective by default.
        """
        task = aux_tasks.get(self.primary)
        chosen = next((m for m in task.metrics if m.name == metric), None) if metric else task.objective
        if chosen is None:
            raise InvalidArgumentError(f"{self.primary} has no metric {metric!r}")
        finished = {v: [run for run in runs if run["status"] == "ok"] for v, runs in self.runs.items()}
        values = {
            variant: {run["seed"]: run["metrics"][self.primary][chosen.name] for run in runs}
            for variant, runs in finished.items()
        }
        rows = []
        for variant, of_seed in values.items():
            every = np.array(list(of_seed.values()), float)
            row = {
                "variant": variant,
                "seeds": len(every),
                "diverged": len(self.runs[variant]) - len(every),
                chosen.name: float(every.mean()) if len(every) else float("nan"),
                "std": float(every.std(ddof=1)) if len(every) > 1 else float("nan"),
                "better by": float("nan"),
                "p": float("nan"),
            }
            base = values.get("single", {})
            shared = sorted(set(of_seed) & set(base))
            if variant != "single" and shared:
                gains = chosen.sign * np.array([[of_seed[s], base[s]] for s in shared], float) @ [1, -1]
                row["better by"], row["p"] = float(gains.mean()), paired_p(gains)
            row["affinity"] = _affinity(finished[variant])
            rows.append(row)
        return rows


def _affinity(runs: Sequence[Run]) -> float:
    """The mean over runs, evaluations and auxiliaries; NaN where there is none."""
    columns = [values for run in runs for key, values in run["curve"].items() if key.startswith("affinity/")]
    known = [value for values in columns for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def paired_p(gains: Sequence[float] | np.ndarray[Any, Any]) -> float:
    """The two-sided p-value of Student's t-test that differences have mean 0; NaN for fewer than two."""
    if len(gains) < 2:
        return float("nan")
    with requires("auxnas", "the paired test"):
        from scipy import stats
    return float(stats.ttest_1samp(gains, 0.0).pvalue)


def compare(
    primary: str,
    auxiliary: str | Sequence[str],
    data: AuxData,
    config: AuxConfig | Mapping[str, Any],
    out: str | os.PathLike[str],
    seeds: int | Sequence[int] = 5,
    variants: Sequence[str] = VARIANTS,
    device: str | None = None,
    progress: bool = False,
) -> Comparison:
    """Trains every variant with every seed, all with the same number of updates of the weights.

    Args:
        config: of all runs; its variant is replaced. `steps` must be given, as an epoch has fewer updates in
            Aux-NAS than in the others.
        out: a folder: `<variant>-seed<k>/` for each run (spaces become "-"), and `release/` with the tables.
        seeds: how many, from 0, or which.
        variants: each may have fields of its own after its name, such as "aux-nas cut=0.5".

    Raises:
        RecipeError: no such variant or field.
        InvalidArgumentError: no seeds, or no steps; and what `aux_nas` raises, before anything is trained.
    """
    config = config if isinstance(config, AuxConfig) else AuxConfig.of(config)
    seeds = range(seeds) if isinstance(seeds, int) else list(seeds)
    if not len(seeds):
        raise InvalidArgumentError("no seeds to compare")
    variants = list(dict.fromkeys(" ".join(variant.split()) for variant in variants))
    configs = {variant: AuxConfig.of(vars(config), _changes(variant)) for variant in variants}
    if not config.steps or len({own.steps for own in configs.values()}) != 1:
        raise InvalidArgumentError("a comparison needs a number of steps, equal for all variants (steps=N)")
    folder = Path(out)
    runs: dict[str, list[Run]] = {variant: [] for variant in variants}
    helpers = {v: [t.name for t in prepare(primary, auxiliary, data, c)[0][1:]] for v, c in configs.items()}
    # Seed by seed, so that what is there after a while is a comparison already.
    for seed in seeds:
        for variant, own in configs.items():
            place = folder / f"{_slug(variant)}-seed{seed}"
            found = _finished(place)
            if found is not None:
                asked: Run = {"primary": primary, "auxiliary": helpers[variant], "data_digest": data.digest}
                asked |= {"seed": seed, "config": json.loads(json.dumps(dataclasses.asdict(own)))}
                asked["start"] = own.digests()
                found.setdefault("start", {})
                if other := [key for key, value in asked.items() if found.get(key) != value]:
                    raise IntegrityError(
                        f"{place} has a run with another {other[0].replace('_', ' ')}; give another folder, "
                        "or remove it"
                    )
            else:
                aux_nas(primary, auxiliary, data, own, seed, device, place, progress)
                found = json.loads((place / "result.json").read_text("utf-8"))
            runs[variant].append(found)
    if config.backbone == "multi-resolution":
        write_tables(runs, folder / "release")
    return Comparison(primary, runs)


def _changes(variant: str) -> dict[str, Any]:
    """The fields of a variant that may bring some of its own: "aux-nas cut=0.5"."""
    name, *flags = variant.split() or [""]
    return {**recipes.parse_flags(flags), "variant": name}


def _slug(text: str) -> str:
    """For the name of a folder."""
    return re.sub(r"[^a-z0-9.=-]+", "-", text.lower())


def _finished(place: Path) -> Run | None:
    """The run's result, if it is done."""
    try:
        run: Run = json.loads((place / "result.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return run


def table_task(run: Run, variant: str) -> Task:
    """The task whose table a run's row belongs to: its data, primary, auxiliaries and variant."""
    kind = aux_tasks.get(run["primary"])
    helped = "-".join(run["auxiliary"]) or "alone"
    return Task(
        _slug(f"{run['data']}-{kind.name}-{variant}-{helped}").replace("=", "-"),
        f"{kind.name} on {run['data']}, {variant}, auxiliary: {helped}",
        run["data"],
        "segmentation" if kind.dense else "classification",
        kind.metrics,
        kind.objective.name,
        recipe="search.aux_nas; the column `config` tells configurations and data apart",
        provenance="trained by nasbench-mr auxnas",
        cost="table",
    )


def write_tables(runs: Mapping[str, Sequence[Run]], target: Path) -> release.Release:
    """Writes runs of multi-resolution networks as a release: a task for each variant, a row for each run."""
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
    return release.seal(target, "auxnas", "1.0.0", tasks, about)


def _auxiliary_code(run: Run) -> str:
    """The code of the auxiliary networks; "" where there are none."""
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
