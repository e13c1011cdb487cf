"""NCP's codes trained beside those of real rivals, on `mini`: the experiments of docs/ncp.md that train.

rivals: from one predictor and limit, the codes of NCP, of NCP by the rules that held up (ncp_rim.py), of
100,000 random codes, of evolution and of local search, each trained with seeds that the table does not have.
tables: NCP's codes for each task, every pair and all, and at the cost of networks that people know, beside
these networks (ncp_tables.py). live: NCP in the loop, evolution and random search by live training at an
equal budget. rounds: a table that grows by what NCP proposes, against one that grows by random codes. Every
training and every run is kept: rerun the command to resume.

    OMP_NUM_THREADS=1 python benchmarks/ncp_trained.py --data data --only rivals
    OMP_NUM_THREADS=1 python benchmarks/ncp_trained.py --data data --only tables
    OMP_NUM_THREADS=1 python benchmarks/ncp_trained.py --data data --only rounds
    OMP_NUM_THREADS=1 python benchmarks/ncp_trained.py --data data --only live
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import Figure, done, options, report
from ncp_rim import JUDGES, RIVALS, chosen, rival
from ncp_tables import find, views

import nasbench_mr
from nasbench_mr import cost, data_builders, predictors, search, space
from nasbench_mr.arrays import Codes, Floats, keys
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.cli.command import format_table
from nasbench_mr.data_builders.building import runner
from nasbench_mr.data_builders.building.trial import Trial
from nasbench_mr.domain import Domain
from nasbench_mr.predictors.evaluation import gather
from nasbench_mr.search.comparison import holm

PARTS = ("rivals", "tables", "live", "rounds")
TASKS = ("mini-cls", "mini-video")
#: The table's seeds are 0, 1, 2.
FIRST_SEED = 100
#: Limits, as shares of the tables' codes that are within.
SHARES = (0.25, 0.5)
SEARCHERS = ("ncp", "evolution", "random")
ROUNDS, PER_ROUND = 3, 20
#: Of the rules by which NCP could choose.
RULES = ("ncp", "data's box", "mean with gbdt", "mean with forest")
#: MACs of the largest known network that is trained: mini's codes have at most 1 GMACs.
LARGEST = 1e9


def main() -> None:
    parser = options(__doc__, "ncp_trained")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tasks", nargs="+", metavar="T", help="(default: cls and video; all for tables)")
    parser.add_argument("--data", required=True, type=Path, help="the folder of the data sets")
    parser.add_argument("--seeds", type=int, metavar="N", help="live runs (10), or trainings of a code (3)")
    parser.add_argument("--budget", type=int, default=40, metavar="N", help="trainings of a live run")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    for only in args.only:
        frame = done(args.keep, args.out.with_name(f"ncp_trained_{only}.parquet"), works(only, args))
        if only == "tables":
            for title, table in views(frame, ("value",)).items():
                print(f"\n## {title}\n\n{format_table(table)}", flush=True)
        else:
            report(f"Trained: {only}", figures(frame, only))


def works(only: str, args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], pd.DataFrame]]]:
    """Yield the parts of an experiment by name."""
    where = {"data": args.data, "device": args.device, "workers": 1}
    bench = nasbench_mr.load("mini")
    count = args.seeds or (10 if only == "live" else 3)
    tasks = args.tasks or (bench.tasks if only == "tables" else TASKS)
    trials = {}
    for task, share in itertools.product(tasks, SHARES):
        limit = float(np.quantile(cost.macs(bench.codes(task)), share))
        trials[task, share] = Trials(bench, task, limit, count, out=args.keep / "trials" / task, where=where)
    if only == "tables":
        own = {task: trials[task, SHARES[-1]] for task in tasks}
        yield f"tables-{'-'.join(tasks)}-{count}", partial(tables, own)
        return
    for (task, share), one in trials.items():
        if only != "live":
            yield f"{only}-{task}-{share}-{count}", partial({"rivals": rivals, "rounds": rounds}[only], one)
            continue
        for seed, name in itertools.product(range(count), SEARCHERS):
            run = Live(task, one.limit, name, seed, args.budget)
            yield f"live-{task}-{share}-{name}-{seed}", partial(run, args.keep / "live" / task, where)


@dataclass(frozen=True)
class Live:
    """One run of a search by live training. A code that another run trained is not trained again."""

    task: str
    limit: float
    searcher: str
    seed: int
    budget: int

    def __call__(self, out: Path, where: Mapping[str, Any]) -> pd.DataFrame:
        objective = data_builders.live(self.task, out=out, max_macs=self.limit, **where)
        with contextlib.closing(objective.source):
            trace = search.run(search.make(self.searcher, objective, self.seed), objective, self.budget)
        return pd.DataFrame(
            {
                **vars(self),
                "evaluations": trace.evaluations,
                "value": trace.values,
                "best": trace.best,
                "code": [space.to_string(code) for code in trace.codes],
            }
        ).rename(columns={"searcher": "method"})


@dataclass(frozen=True)
class Trials:
    """Codes of a task to train, within a limit; each is trained with `seeds` seeds that the table lacks."""

    bench: Benchmark
    task: str
    limit: float
    seeds: int
    out: Path
    where: Mapping[str, Any]

    def __call__(self, codes: Codes) -> Floats:
        """Return the objective of each code with each seed, `(n, seeds)`; NaN where a training failed."""
        metric = self.bench.task(self.task).objective
        seeds = range(FIRST_SEED, FIRST_SEED + self.seeds)
        planned = [Trial(tuple(code), self.task, seed) for code in codes.tolist() for seed in seeds]
        with runner.Builder([self.task], self.out, **self.where) as builder:
            builder.run(planned, progress=True)
            outcomes = [builder.records[trial].outcome for trial in planned]
        values = [o.metrics[metric] if o.status == "ok" else float("nan") for o in outcomes]
        return np.array(values).reshape(len(codes), -1)

    @property
    def column(self) -> str:
        """The objective's column of a predictor."""
        return f"{self.task}/{self.bench.task(self.task).objective}"


def rivals(trials: Trials) -> pd.DataFrame:
    """Return the codes that NCP and its rivals find with one predictor, trained: a row for each seed."""
    data = gather(trials.bench)
    model = predictors.make("ensemble", seed=0).fit(data.codes, data.values, data.names)
    values = data.values[:, [data.names.index(trials.column)]]
    second = {k: predictors.make(k, seed=0).fit(data.codes, values, (trials.column,)) for k in JUDGES}
    by_rule = chosen(
        model, second, trials.column, float(np.nanstd(values)), data.codes, limit=trials.limit, seed=0
    )
    found = {name: by_rule[name] for name in RULES}
    found |= {name: rival(name, model, trials.column, trials.limit, 0) for name in RIVALS}
    codes = np.array([*found.values()], np.int16)
    believed = model.predict(codes)[0][:, model.names.index(trials.column)]
    values = trials(codes)
    return pd.DataFrame(
        {
            "task": trials.task,
            "limit": trials.limit,
            "method": name,
            "seed": FIRST_SEED + k,
            "value": values[row, k],
            "believed": believed[row],
            "macs": cost.macs(codes[row])[0],
            "code": space.to_string(codes[row]),
        }
        for row, name in enumerate(found)
        for k in range(trials.seeds)
    )


def tables(trials: Mapping[str, Trials]) -> pd.DataFrame:
    """Return the codes of the paper's kinds of tables, trained: a row for each code, task and seed.

    What was found for one task or several is trained on all, what was found at the cost of a known network
    on its own task.
    """
    first = next(iter(trials.values()))
    data = gather(first.bench)
    model = predictors.make("ensemble", seed=0).fit(data.codes, data.values, data.names)
    columns = {task: own.column for task, own in trials.items()}
    found = [
        one
        for kind in ("single", "joint", "reference")
        for one in find(model, columns, kind, seed=0, limits=(first.limit,), largest=LARGEST)
    ]
    rows: list[dict[str, Any]] = []
    for task, own in trials.items():
        mine = [
            one for one in found if one.kind != "reference" or one.how == "itself" or task in one.asked.tasks
        ]
        codes = np.array([one.code for one in mine], np.int16)
        predicted = model.predict(codes)[0][:, model.names.index(own.column)]
        values = own(codes)
        rows += [
            {
                **one.row(),
                "task": task,
                "seed": FIRST_SEED + k,
                "value": values[row, k],
                "predicted": predicted[row],
            }
            for row, one in enumerate(mine)
            for k in range(own.seeds)
        ]
    return pd.DataFrame(rows)


def rounds(trials: Trials) -> pd.DataFrame:
    """Return codes trained round by round, proposed by NCP with what was trained so far, or at random."""
    data = gather(trials.bench)
    rows: list[dict[str, Any]] = []
    for method in ("ncp", "random"):
        codes, values = data.codes, data.values
        for turn in range(ROUNDS):
            rng = np.random.default_rng(turn)
            if method == "ncp":
                model = predictors.make("ensemble", seed=turn).fit(codes, values, data.names)
                proposed = search.ncp(model, trials.column, max_macs=trials.limit, seed=turn).codes
            else:
                proposed = Domain(max_macs=trials.limit).sample(4 * PER_ROUND, rng)
            known = set(keys(codes))
            new = proposed[[key not in known for key in keys(proposed)]][:PER_ROUND]
            measured = trials(new)
            added = np.full((len(new), len(data.names)), np.nan)
            added[:, data.names.index(trials.column)] = np.nanmean(measured, axis=1)
            codes, values = np.concatenate([codes, new]), np.concatenate([values, added])
            rows += [
                {
                    "task": trials.task,
                    "limit": trials.limit,
                    "method": method,
                    "round": turn,
                    "seed": FIRST_SEED + k,
                    "value": measured[row, k],
                    "code": space.to_string(new[row]),
                }
                for row in range(len(new))
                for k in range(trials.seeds)
            ]
    return pd.DataFrame(rows)


def figures(frame: pd.DataFrame, only: str) -> list[Figure]:
    """Return a row for each task, limit and method: means with standard errors, and tests against NCP."""
    import scipy.stats

    ending = frame
    if only == "live":
        # Where each run ends.
        ending = frame.groupby(["task", "limit", "method", "seed"], sort=False, as_index=False)["best"].last()
        ending = ending.rename(columns={"best": "value"})
    if only == "rounds":
        # The best code of each round, by the mean over its seeds.
        each = frame.groupby(["task", "limit", "method", "round", "code"], as_index=False)["value"].mean()
        ending = each.groupby(["task", "limit", "method", "round"], as_index=False)["value"].max()
        ending["seed"] = ending["round"]
    rows, raw = [], []
    for (task, limit), case in ending.groupby(["task", "limit"], sort=False):
        by_method = case.pivot_table("value", "seed", "method", sort=False)
        for method, values in by_method.items():
            test = float("nan")
            if method != "ncp":
                both = by_method[["ncp", method]].dropna()
                differ = both["ncp"] - both[method]
                test = float(scipy.stats.wilcoxon(differ).pvalue) if differ.any() and len(both) > 1 else 1.0
            raw.append(test)
            each_round = ", by round " + ", ".join(f"{v:.2f}" for v in values) if only == "rounds" else ""
            rows.append(
                (
                    f"{task} at {limit / 1e9:.3f} GMACs, {method}",
                    f"{values.mean():.2f} +- {values.sem():.2f} of {len(values)}{each_round}",
                )
            )
    tested = np.isfinite(raw)
    corrected = np.array(raw)
    corrected[tested] = holm(corrected[tested])
    return [
        Figure(name, measured + (f", Holm p {p:.2g}" if np.isfinite(p) else ""), "-", None)
        for (name, measured), p in zip(rows, corrected, strict=True)
    ]


if __name__ == "__main__":
    main()
