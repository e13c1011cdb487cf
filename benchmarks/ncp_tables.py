"""The paper's kinds of tables, predicted: the ones of docs/ncp.md.

One predictor, fitted on all published tables at hand, is asked for the best code of each task alone, of every
pair and of all tasks jointly, of each task with only some dimensions free, and at the cost of networks that
people know. Every code is answered for on every task, so the same rows hold the transfer from task to task.
LightGBM, fitted on the same tables, says what another family of models thinks of each: it did not choose
them, but it saw the same data. A seed and kind is a part, which is kept: rerun the command to resume.

    OMP_NUM_THREADS=1 python benchmarks/ncp_tables.py
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from common import ALL_TABLES, at_least, done, options, parsed, start, tables

from nasbench_mr import cost, predictors, search, space
from nasbench_mr.arrays import Codes
from nasbench_mr.cli.command import format_table
from nasbench_mr.predictors.base import Predictor
from nasbench_mr.predictors.evaluation import Data, gather

KINDS = ("single", "joint", "length", "reference")
LIMITS = (1e9, 2e9, 4e9)
#: Networks that people know, as codes of this space: HRNets with their modules, blocks and widths (to the
#: next multiple of 8, at most 128), and ResNets as the path through each stage's new branch, all other
#: branches as small as they can be.
REFERENCES = {
    "HRNet-W18-small-like": "64_64-1_1_1_64-1_2_2_2_16_32-1_3_2_2_2_16_32_64-1_4_2_2_2_2_16_32_64_128-128",
    "HRNet-W18-like": "64_64-1_1_4_64-1_2_4_4_16_40-4_3_4_4_4_16_40_72-3_4_4_4_4_4_16_40_72_128-128",
    "HRNet-W32-like": "64_64-1_1_4_64-1_2_4_4_32_64-4_3_4_4_4_32_64_128-3_4_4_4_4_4_32_64_128_128-128",
    "ResNet-18-like": "64_64-1_1_2_64-1_2_1_2_8_128-1_3_1_1_2_8_8_128-1_4_1_1_1_2_8_8_8_128-128",
    "ResNet-34-like": "64_64-1_1_3_64-1_2_1_4_8_128-1_3_1_1_4_8_8_128-1_4_1_1_1_3_8_8_8_128-128",
}
#: What `length` leaves free, by the first letter of a dimension's name; the rest is as NCP's published start.
FREE = {
    "none": "",
    "modules (4)": "b",
    "units (10)": "n",
    "widths (13)": "ico",
    "depths (14)": "bn",
    "all (27)": "bncio",
}
START = dict(zip(space.NAMES, np.where(space.STEP > 1, 64, 2).tolist(), strict=True))


class Asked(NamedTuple):
    """A code to find: for which tasks, within what, and under which name it is told of."""

    name: str
    tasks: tuple[str, ...]
    limit: float
    fixed: dict[str, int]


class Found(NamedTuple):
    """A code to score: what it was asked for, and whether NCP found it or it is the known network itself."""

    kind: str
    asked: Asked
    how: str
    code: Codes

    def row(self) -> dict[str, Any]:
        """Return what an experiment's rows say of it."""
        return {
            "kind": self.kind,
            "name": self.asked.name,
            "how": self.how,
            "for": "+".join(self.asked.tasks),
            "limit": self.asked.limit,
            "macs": int(cost.macs(self.code)[0]),
            "code": space.to_string(self.code),
        }


def main() -> None:
    parser = options(__doc__, "ncp_tables")
    parser.add_argument("--seeds", type=at_least(0), nargs="+", default=range(3), metavar="K")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument(
        "--tasks", nargs="+", metavar="T", default=ALL_TABLES, help=f"(default: {' '.join(ALL_TABLES)})"
    )
    args = parsed(parser)
    data = gather(tables(), args.tasks)
    works = (
        (f"{seed}-{kind}", partial(part, data, seed, kind, args.keep / "models"))
        for seed in args.seeds
        for kind in args.kinds
    )
    frame = done(args.keep, args.out, works)
    for title, table in views(frame).items():
        print(f"\n## {title}\n\n{format_table(table)}", flush=True)


def asked(names: tuple[str, ...], kind: str, limits: Sequence[float] = LIMITS) -> Iterator[Asked]:
    """Yield what a kind of table asks for; several tasks jointly at the middle limit."""
    if kind == "single":
        for name, limit in itertools.product(names, limits):
            yield Asked(name, (name,), limit, {})
    elif kind == "joint":
        for chosen in [*itertools.combinations(names, 2), names]:
            yield Asked("+".join(chosen) if len(chosen) == 2 else "all", chosen, limits[len(limits) // 2], {})
    elif kind == "length":
        for (free, letters), name in itertools.product(FREE.items(), names):
            fixed = {key: value for key, value in START.items() if key[0] not in letters}
            # The published start has 1.96 GMACs: its own are allowed.
            limit = float(cost.macs([*START.values()])[0])
            yield Asked(free, (name,), limit, fixed)
    else:
        for (known, text), name in itertools.product(REFERENCES.items(), names):
            yield Asked(known, (name,), float(cost.macs(text)[0]), {})


def find(
    model: Predictor,
    columns: Mapping[str, str],
    kind: str,
    *,
    seed: int,
    limits: Sequence[float] = LIMITS,
    largest: float = np.inf,
) -> list[Found]:
    """Return what NCP finds for a kind of table, and known networks themselves.

    Args:
        columns: a task's column of the model.
        largest: MACs of the largest code.
    """
    found = []
    for one in asked(tuple(columns), kind, limits):
        if one.limit <= largest:
            goals = [columns[task] for task in one.tasks]
            out = search.ncp(model, goals, max_macs=one.limit, fixed=one.fixed, seed=seed)
            found.append(Found(kind, one, "ncp", out.best))
    if kind == "reference":
        for name, text in REFERENCES.items():
            known = Asked(name, (), float(cost.macs(text)[0]), {})
            if known.limit <= largest:
                found.append(Found(kind, known, "itself", space.parse(text)))
    return found


def part(data: Data, seed: int, kind: str, models: Path) -> pd.DataFrame:
    """Return a row for each code found and each task that answers for it."""
    names = tuple(task.name for task in data.tasks)
    main = data.objectives()
    columns = [data.names[k] for k in main]
    by_task = dict(zip(names, columns, strict=True))

    def fitted(name: str, which: list[int]) -> Predictor:
        path = models / f"{seed}-{name}.npz"
        if path.is_file():
            return predictors.load(path)
        own = [data.names[k] for k in which]
        model = predictors.make(name, seed=seed).fit(data.codes, data.values[:, which], own)
        models.mkdir(parents=True, exist_ok=True)
        model.save(path)
        return model

    guide = fitted("ensemble", [*range(len(data.names))])
    judge = fitted("gbdt", main)
    found = find(guide, by_task, kind, seed=seed)
    array = np.array([one.code for one in found], np.int16)
    mean, std = guide.predict(array)
    judged, _ = judge.predict(array)
    return pd.DataFrame(
        {
            "seed": seed,
            **one.row(),
            "params": int(cost.params(one.code)[0]),
            "task": task,
            "predicted": mean[row, guide.names.index(column)],
            "std": std[row, guide.names.index(column)],
            "judged": judged[row, k],
        }
        for row, one in enumerate(found)
        for k, (task, column) in enumerate(by_task.items())
    )


def views(
    frame: pd.DataFrame, measures: Sequence[str] = ("predicted", "judged")
) -> dict[str, list[dict[str, Any]]]:
    """Return the tables that people read, means over seeds with standard deviations: rows by title."""
    found = {}
    for kind in frame["kind"].unique():
        own = frame[frame["kind"] == kind]
        for measure in measures:
            if kind in ("length", "reference"):
                # Each task's own code, or the network itself.
                shown = own[(own["for"] == own["task"]) | (own["how"] == "itself")]
                index = ["name", "how"]
            else:
                shown, index = own, ["name", "limit"]
            table = shown.pivot_table(measure, index, "task", sort=False, aggfunc=_told)
            cells = table.reset_index().to_dict("records")
            if kind != "reference":
                cells = [
                    {k: v / 1e9 if k == "limit" else v for k, v in row.items() if k != "how"} for row in cells
                ]
            found[f"{kind}, {measure}"] = [{str(k): v for k, v in row.items()} for row in cells]
    return found


def _told(values: pd.Series) -> str:
    """Return a mean with its standard deviation over seeds."""
    return f"{values.mean():.2f} ± {values.std():.2f}" if len(values) > 1 else f"{values.mean():.2f}"


if __name__ == "__main__":
    start(main)
