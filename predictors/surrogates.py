"""Fitting the surrogates of a release (see `nasbench_mr.surrogate` for what they answer).

`fit_surrogates` makes a new version of a release that has one for each of its tasks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from nasbench_mr import release as releases
from nasbench_mr import workers as pool
from nasbench_mr.arrays import Codes
from nasbench_mr.benchmark import Benchmark, load
from nasbench_mr.checks import at_least, plain
from nasbench_mr.errors import InvalidArgumentError, UnknownTaskError
from nasbench_mr.measured import LEAST
from nasbench_mr.predictors import base, evaluation
from nasbench_mr.predictors.ensemble import Ensemble
from nasbench_mr.release import Release
from nasbench_mr.surrogate import Surrogate, layers
from nasbench_mr.tasks import Task

#: Splits that give the held-out scores.
_SPLITS = 3
#: Codes, of all search spaces together, that take longer to fit than it takes to start processes.
_LARGE = 1000
#: What workers do: tasks that are fitted together, and the split to be scored; None: fit the whole tables.
_Job = tuple[tuple[str, ...], int | None]


def reduce(ensemble: Ensemble, task: Task, codes: Codes) -> Surrogate:
    """Return the part of a fitted ensemble that answers for one task, whose codes are given: `(n, DIM)`."""
    prefix = f"{task.name}/"
    columns = [k for k, name in enumerate(ensemble.names) if name.startswith(prefix)]
    names = [ensemble.names[k].removeprefix(prefix) for k in columns]
    state = ensemble._state()
    last = layers(state) - 1
    for key in (f"weight{last}", f"bias{last}", "y_mean", "y_scale", "noise"):
        state[key] = state[key][..., columns]
    metrics = [task.metric(name) for name in names]
    state["bounds"] = np.array([metric.limits for metric in metrics]).T
    state["codes"] = codes.astype(np.uint8)
    return Surrogate(names, ensemble.space, state)


def fit_surrogates(
    bench: Benchmark,
    tasks: Sequence[str] | None = None,
    *,
    seed: int = 0,
    progress: bool = False,
    version: str | None = None,
    target: Path | None = None,
    workers: int | None = None,
    **options: Any,
) -> Release:
    """Make a new version of a release, with surrogates; the release itself stays as it is.

    The tasks of a search space are fitted together. `release.json` gets, under "surrogates", how each was
    fitted and its scores on codes held out of such a fit: means over three fixed splits, see `evaluation`.

    Args:
        bench: the opened release.
        tasks: which; all by default. Others keep the surrogates they have.
        seed: of the fits.
        progress: show a progress bar.
        version, target: of the new release, see `release.extend`.
        workers: processes that fit at once; 0: this one alone. None: as many as there are cores where tables
            are large. The result is the same.
        options: of the predictor "ensemble".

    Raises:
        UnknownTaskError: the release has no such task, or none at all.
        ReleaseError: the version is malformed, or taken by other content.
        InvalidArgumentError: several releases are open; a table has too few codes (fewer than 20); or wrong
            options.
    """
    extended = bench.release
    if version is not None:
        releases.check_name(extended.name, version)
    chosen = [bench.task(name) for name in bench.chosen(tasks)]
    for task in chosen:
        if task.name not in extended.tasks:
            raise UnknownTaskError(f"{task.name!r} is a measured cost, not a task of {extended}")
        if (count := len(bench.codes(task.name))) < LEAST:
            enough = [name for name in extended.tasks if len(bench.codes(name)) >= LEAST]
            others = f": leave it out (--tasks {' '.join(enough)})" if enough else ""
            raise InvalidArgumentError(
                f"the table of {task.name!r} has {count} code{'s' * (count != 1)}; "
                f"a surrogate needs at least {LEAST}{others}"
            )
    # Wrong options are named before the work, also those that release.json can't hold.
    seed = base.make("ensemble", seed, **options).seed
    options = plain("options", options)
    groups = [
        tuple(t.name for t in chosen if t.space == name) for name in dict.fromkeys(t.space for t in chosen)
    ]
    # The largest fits first, so that no worker ends long after the others.
    jobs = [(names, split) for split in (None, *range(_SPLITS)) for names in groups]
    jobs.sort(key=lambda job: -len(bench.codes(job[0][0])))
    if workers is None:
        large = sum(len(bench.codes(names[0])) for names in groups) >= _LARGE
        workers = min(pool.cores(), len(jobs)) if large else 0
    workers = at_least(0, "workers", workers)
    work = pool.Work(f"{__name__}:_prepare", (os.fspath(extended.path), seed, options))
    bar = tqdm(total=len(jobs), desc="surrogates", unit="fit", disable=None if progress else True)
    done = {}
    with bar:
        for job, result in pool.run(work, jobs, workers=0 if workers == 1 else workers):
            done[job] = result
            bar.update()
    fitted: dict[str, Surrogate] = {}
    about: dict[str, Any] = {}
    for names in groups:
        held_out = pd.DataFrame([row for split in range(_SPLITS) for row in done[names, split]])
        fitted |= done[names, None]
        for task in map(bench.task, names):
            own = held_out[held_out["task"] == task.name]
            about[task.name] = {
                "predictor": "ensemble",
                "options": options,
                "seed": seed,
                "fitted_with": list(names),
                "held_out": {
                    "metric": task.objective,
                    "splits": _SPLITS,
                    **{name: round(own[name].mean()) for name in ("train", "test")},
                    **{name: round(float(own[name].mean()), 4) for name in evaluation.SCORES},
                },
            }

    def fill(folder: Path) -> None:
        for name, surrogate in fitted.items():
            surrogate.save(folder / "surrogates" / f"{name}.npz")

    about = {"surrogates": {**extended.about.get("surrogates", {}), **about}}
    return releases.extend(extended, fill=fill, about=about, version=version, target=target)


def _prepare(release: str, seed: int, options: dict[str, Any]) -> Callable[[_Job], Any]:
    """Return what does a job: the scores on a split as rows, or each task's surrogate."""
    bench = load(release)

    def do(job: _Job) -> Any:
        names, split = job
        if split is not None:
            frame = evaluation.evaluate("ensemble", bench, names, seeds=[split], options=options)
            return frame.to_dict("records")
        data = evaluation.gather(bench, names)
        ensemble = Ensemble(seed, data.space, **options)
        ensemble.fit(data.codes, data.values, data.names, bounds=data.bounds)
        return {task.name: reduce(ensemble, task, bench.codes(task.name)) for task in data.tasks}

    return do
