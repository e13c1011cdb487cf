"""Scoring predictors on fixed splits: `evaluate`, and its table.

A split depends on nothing but the codes and its seed, so every predictor, machine and version sees the same
one: `order` ranks the codes by a hash; the last fifth is the test, and a training set of any size is the
beginning of the rest, so smaller ones are part of larger ones. `splits/` beside this module has the ranks of
the published codes for the seeds 0 to 4, for use by other tools.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import checks, spaces, table
from nasbench_mr import space as multi_resolution
from nasbench_mr.analysis import correlation
from nasbench_mr.arrays import Codes, Floats
from nasbench_mr.checks import at_least
from nasbench_mr.errors import InvalidArgumentError, UnknownNameError, did_you_mean
from nasbench_mr.predictors import base

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from nasbench_mr.benchmark import Benchmark
    from nasbench_mr.tasks import Task

Rows = npt.NDArray[np.int64]

#: random: test on a fifth of the codes. fine-to-coarse: train on the codes of the stratum "fine", test on
#: those of "coarse", which are larger networks. best: as random, but without the best 5% of the table in
#: the training set.
SPLITS = ("random", "fine-to-coarse", "best")
#: What `scores` measures, in its order.
SCORES = (
    "kendall",
    "spearman",
    "r2",
    "mae",
    "rmse",
    "precision1",
    "precision5",
    "coverage50",
    "coverage90",
)
#: The share of the table that the split "best" leaves out.
BEST = 0.05


def order(codes: Codes, seed: int) -> Rows:
    """Return the rows of `(n, DIM)` codes in a split's random order: by SHA-256 of the seed and the code.

    A code's hash is that of "SEED:" and its integers joined by commas, as in "0:48,48,1,4,112". So the order
    of two codes depends neither on the other codes nor on their place in a table.
    """
    digests = [
        hashlib.sha256(f"{seed}:{','.join(map(str, code))}".encode()).digest() for code in codes.tolist()
    ]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), np.int64)


@dataclass(frozen=True)
class Split:
    """Rows to train on and to test on; the first rows of `train` are the smaller training sets."""

    train: Rows
    test: Rows


def make_split(
    codes: Codes, seed: int, kind: str = "random", space: spaces.Space = multi_resolution
) -> Split:
    """Return a split of `(n, DIM)` distinct codes; see `SPLITS`. "best" is "random" here."""
    if kind not in SPLITS:
        raise InvalidArgumentError(f"no split {kind!r}: {did_you_mean(kind, SPLITS)}")
    rows = order(codes, seed)
    if kind != "fine-to-coarse":
        train = len(rows) * 4 // 5
        return Split(rows[:train], rows[train:])
    if space.NAME != multi_resolution.NAME:
        raise InvalidArgumentError(
            f"codes of {space.NAME!r} have no strata; expected another split than {kind!r}"
        )
    fine, coarse = (multi_resolution.in_stratum(codes[rows], name) for name in ("fine", "coarse"))
    if (fine & ~coarse).sum() < 2 or not (coarse & ~fine).any():
        raise InvalidArgumentError(f"the split {kind!r} needs codes of the strata 'fine' and 'coarse'")
    return Split(rows[fine & ~coarse], rows[coarse & ~fine])


def ranks(codes: Codes, space: spaces.Space) -> pa.Table:
    """Return the splits of distinct codes as a table: their integers, and for each of five seeds a column.

    A code is in the training set of size N where its rank in the column is below N, and in the test set where
    it is not below 4/5 of the number of codes, rounded down.
    """
    import pyarrow as pa

    columns = dict(zip(space.NAMES, codes.T, strict=True))
    for seed in range(5):
        columns[f"split{seed}"] = np.argsort(order(codes, seed)).astype(np.int32)
    return pa.table(columns)


def scores(values: Floats, mean: Floats, std: Floats, sign: int = 1) -> dict[str, float]:
    """Return scores of a prediction of `(n,)` values; NaN where one is undefined.

    kendall (tau-b), spearman, r2, mae, rmse; precision1 and precision5: of the 1% (5%) of codes predicted
    best, the share that is among the best 1% (5%); coverage50 and coverage90: the share of values inside the
    central interval of that probability.

    Args:
        values, mean, std: `(n,)` each.
        sign: 1 where larger values are better, -1 where smaller ones are.
    """
    error = values - mean
    spread = ((values - values.mean()) ** 2).sum()
    found = {
        "kendall": correlation(values, mean, "kendall"),
        "spearman": correlation(values, mean, "spearman"),
        "r2": float(1 - (error**2).sum() / spread) if spread else float("nan"),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
    }
    for percent in (1, 5):
        top = max(1, round(len(values) * percent / 100))
        chosen = np.argsort(-sign * mean, kind="stable")[:top]
        found[f"precision{percent}"] = float((sign * values[chosen] >= np.sort(sign * values)[-top]).mean())
    for percent in (50, 90):
        half = NormalDist().inv_cdf(0.5 + percent / 200) * std
        found[f"coverage{percent}"] = float((np.abs(error) <= half).mean())
    return found


def check_score(name: str) -> None:
    """Raise `UnknownNameError` where `name` is none of `SCORES`."""
    if name not in SCORES:
        raise UnknownNameError(f"no score {name!r}: {did_you_mean(name, SCORES)}")


@dataclass(frozen=True)
class Data(spaces.Spacious):
    """What predictors are fitted on: a benchmark's tables as one.

    >>> data = gather(nasbench_mr.load("mini"), ("mini-cls", "mini-seg"))
    >>> data.codes.shape, data.names
    ((230, 27), ('mini-cls/top1', 'mini-cls/top5', 'mini-seg/mIoU', 'mini-seg/mAcc', 'mini-seg/aAcc'))

    Attributes:
        space: of the codes.
        tasks: in the order asked for.
        codes: `(n, DIM)`, every code that one of the tasks has.
        names: the columns, "task/metric"; the tasks' objectives are among them.
        values: `(n, len(names))`, each the mean over the seeds; NaN where unknown.
    """

    space: spaces.Space
    tasks: tuple[Task, ...]
    codes: Codes
    names: tuple[str, ...]
    values: Floats

    @property
    def bounds(self) -> tuple[tuple[float | None, float | None], ...]:
        """Each column's least and largest possible value, as its task's metric has them."""
        tasks = {task.name: task for task in self.tasks}
        metrics = [tasks[name.partition("/")[0]].metric(name.partition("/")[2]) for name in self.names]
        return tuple((metric.lower, metric.upper) for metric in metrics)

    def objectives(self) -> list[int]:
        """Each task's column of its objective."""
        return [self.names.index(f"{task.name}/{task.objective}") for task in self.tasks]


def gather(bench: Benchmark, tasks: str | Sequence[str] | None = None) -> Data:
    """Return the tables of some tasks of one search space as one; by default `bench.comparable()`.

    Raises:
        UnknownTaskError: the benchmark has no such task.
        InvalidArgumentError: no task, one named twice, or tasks of different spaces.
    """
    if tasks is None:
        tasks = bench.comparable()
    found = [bench.task(name) for name in ([tasks] if isinstance(tasks, str) else tasks)]
    names = [task.name for task in found]
    if not names or len(set(names)) < len(names):
        raise InvalidArgumentError(f"tasks are {names}; expected distinct names, at least one")
    if len({task.space for task in found}) > 1:
        raise InvalidArgumentError(f"{', '.join(names)} are not of one search space")
    codes = np.concatenate([bench.codes(name) for name in names])
    codes = codes[np.sort(np.unique(codes, axis=0, return_index=True)[1])]
    columns: dict[str, Floats] = {}
    for task in found:
        # The objective first, as `ncp-mlp` wants a task's main metric.
        metrics = sorted((metric.name for metric in task.metrics), key=lambda name: name != task.objective)
        answers = bench.query_many(codes, task.name, metrics, source="table", missing="nan")
        for metric in metrics:
            # A metric that no one measured is left out.
            if metric == task.objective or np.isfinite(answers[metric]).any():
                columns[f"{task.name}/{metric}"] = answers[metric]
    values = np.stack(list(columns.values()), axis=1)
    return Data(spaces.get(found[0].space), tuple(found), codes, tuple(columns), values)


#: A predictor: its name, or its class.
Kind = str | type[base.Predictor]


def evaluate(
    predictor: Kind | Sequence[Kind] = "ensemble",
    bench: Benchmark | None = None,
    tasks: str | Sequence[str] | None = None,
    *,
    train: int | Sequence[int] | None = None,
    seeds: int | Sequence[int] = 5,
    split: str = "random",
    options: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Score predictors on fixed splits of tables.

    All tasks are fitted together, on the same codes. A predictor whose columns help each other gets every
    metric of every task, the others only what is scored: the tasks' objectives.

    Args:
        predictor: one of `predictors.names()`, or several; subclasses of `Predictor`, too.
        bench: whose tables; `load()` by default.
        tasks: a name or several, of one search space; by default `bench.comparable()`.
        train: how many codes to train on, or several such numbers; by default all that the split offers.
        seeds: how many splits (0, 1, ...), or which. The seed is also the predictor's.
        split: one of `SPLITS`.
        options: the predictors' options.
        progress: show a progress bar.

    Returns:
        One row for each predictor, training size, seed and task: "release", "predictor", "task", "metric",
        "split", "train" and "test" (numbers of codes), "seed", the scores (see `scores`), and
        "fit_seconds" and "predict_seconds", those of all tasks together divided by their number.

    Raises:
        UnknownNameError: no such predictor.
        UnknownTaskError: no such task.
        InvalidArgumentError: no such split, more codes to train on than there are, or wrong options.
    """
    import pandas as pd
    from tqdm import tqdm

    from nasbench_mr.benchmark import load

    bench = load() if bench is None else bench
    kinds = [predictor] if isinstance(predictor, (str, type)) else list(predictor)
    for kind in kinds:
        base.make(kind, **(options or {}))  # fails before an hour's work, not after it
    data = gather(bench, tasks)
    splits = {seed: make_split(data.codes, seed, split, data.space) for seed in checks.seeds(seeds)}
    most = min((len(s.train) for s in splits.values()), default=0)
    if most < 2:
        names = ", ".join(task.name for task in data.tasks)
        raise InvalidArgumentError(
            f"codes of {names} to train on: {most}, of {len(data.codes)}; expected at least 2"
        )
    asked = [most] if train is None else train if isinstance(train, Iterable) else [train]
    sizes = [at_least(0, "train", size) for size in asked]
    for size in sizes:
        if not 2 <= size <= most:
            raise InvalidArgumentError(
                f"train is {size}; expected 2 to {most} codes, which this split offers"
            )
    targets = _without_best(data) if split == "best" else data.values
    runs = [(kind, size, seed) for size in sizes for kind in kinds for seed in splits]
    rows = []
    for kind, size, seed in tqdm(runs, "evaluate", disable=None if progress else True):
        common = {
            "release": ", ".join(map(str, bench.releases_of(task.name for task in data.tasks))),
            "predictor": kind if isinstance(kind, str) else kind.__name__,
            "split": split,
            "train": size,
            "seed": seed,
        }
        model = base.make(kind, seed, data.space, **(options or {}))
        rows += [common | row for row in _run(data, targets, model, splits[seed], size)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


#: The columns of an evaluation.
COLUMNS = (
    "release",
    "predictor",
    "task",
    "metric",
    "split",
    "train",
    "test",
    "seed",
    *SCORES,
    "fit_seconds",
    "predict_seconds",
)


def _run(
    data: Data, targets: Floats, predictor: base.Predictor, rows: Split, size: int
) -> list[dict[str, Any]]:
    """Fit and score once: a row for each task."""
    train, test = rows.train[:size], rows.test
    objectives = data.objectives()
    columns = objectives
    if predictor.joint:
        # A side metric that the training codes lack can't help.
        known = np.isfinite(targets[train]).sum(axis=0)
        columns = [k for k in range(len(data.names)) if k in objectives or known[k] > 1]
    start = time.perf_counter()
    names, bounds = zip(*((data.names[k], data.bounds[k]) for k in columns), strict=True)
    predictor.fit(data.codes[train], targets[train][:, columns], names, bounds=bounds)
    fitted = time.perf_counter()
    mean, std = predictor.predict(data.codes[test])
    done = time.perf_counter()
    seconds = {"fit_seconds": fitted - start, "predict_seconds": done - fitted}
    found = []
    for task, column in zip(data.tasks, objectives, strict=True):
        k = columns.index(column)
        truth = data.values[test, column]
        known = np.isfinite(truth)
        if not known.any():
            raise InvalidArgumentError(f"task {task.name!r} has no value for any of the split's test codes")
        found.append(
            {"task": task.name, "metric": task.objective, "test": int(known.sum())}
            | scores(truth[known], mean[known, k], std[known, k], task.metric().sign)
            | {key: value / len(data.tasks) for key, value in seconds.items()}
        )
    return found


def _without_best(data: Data) -> Floats:
    """Return the values, NaN in all of a task's columns where its objective is among the best."""
    values = data.values.copy()
    for task, column in zip(data.tasks, data.objectives(), strict=True):
        score = task.metric().sign * data.values[:, column]
        best = score >= np.nanquantile(score, 1 - BEST)
        own = np.array([name.startswith(f"{task.name}/") for name in data.names])
        values[best[:, None] & own] = np.nan
    return values


def write(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write an evaluation as Parquet, atomically."""
    import pyarrow as pa

    table.write_arrow(pa.Table.from_pandas(frame, preserve_index=False), path)


def read(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Return the evaluation that `write` wrote; raise `InvalidArgumentError` for any other file."""
    try:
        frame: pd.DataFrame = table.read_arrow(path).to_pandas()
    except FileNotFoundError:
        raise InvalidArgumentError(
            f"no file {os.fspath(path)}; nasbench-mr predict-eval --out writes one"
        ) from None
    lacking = [name for name in COLUMNS if name not in frame]
    if lacking:
        raise InvalidArgumentError(f"{os.fspath(path)} is not an evaluation: it has no column {lacking[0]!r}")
    return frame


def published_splits() -> Path:
    """Return the folder of the published split files, one for each search space, as `ranks` makes them."""
    return Path(__file__).parent / "splits"
