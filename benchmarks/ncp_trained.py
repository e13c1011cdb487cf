"""NCP's codes trained beside those of real rivals, on `mini`: the experiments of docs/ncp.md that train.

rivals: from one predictor and limit, the codes of NCP, of NCP with a second model's say (ncp_rim.py), and of
100,000 random codes, evolution and local search, by the predicted mean and as cautious as NCP is.
tables: NCP's codes for each task, every pair and all, and at the cost of networks that people know, beside
these networks (ncp_tables.py). live: NCP in the loop, evolution and random search by live training at an
equal budget; each run's best code is trained again with seeds of its own, as the best of many noisy
trainings is less good than it looks. rounds: a table that grows by what NCP proposes, against one that grows
by random codes; and what NCP proposes in the end with each, and with the table as it was.

All trainings have seeds that the tables lack, but those within a live run. Every training and every run is
kept: rerun the command to resume. A task, a limit and a repetition are an experiment of their own, or of
`tables` a repetition: the results that are there of others stay beside it.

    OMP_NUM_THREADS=1 python benchmarks/ncp_trained.py --data data --only rivals
    OMP_NUM_THREADS=1 python benchmarks/ncp_trained.py --data data --only tables
    OMP_NUM_THREADS=1 python benchmarks/ncp_trained.py --data data --only rounds
    OMP_NUM_THREADS=1 python benchmarks/ncp_trained.py --data data --only live --tasks mini-cls --shares 0.5
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import Figure, at_least, done, fraction, options, parsed, report, start, trained
from ncp_rim import CAUTIOUS, JUDGES, RIVALS, chosen, rival
from ncp_tables import find, views

import nasbench_mr
from nasbench_mr import cost, data_builders, predictors, search, space
from nasbench_mr.arrays import Codes, Floats, keys
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.cli.command import format_table
from nasbench_mr.domain import Domain
from nasbench_mr.predictors.evaluation import gather
from nasbench_mr.search.comparison import holm

PARTS = ("rivals", "tables", "live", "rounds")
TASKS = ("mini-cls", "mini-video")
#: The table's seeds are 0, 1, 2.
FIRST_SEED = 100
#: Limits, as shares of the tables' codes that are within.
SHARES = (0.25, 0.5)
#: Searches that train live. Evolution's usual first population is larger than the budget.
SEARCHERS: dict[str, dict[str, Any]] = {"ncp": {}, "evolution": {"population": 10, "sample": 3}, "random": {}}
ROUNDS, PER_ROUND, AFTER = 3, 20, 5
#: Of the rules by which NCP could choose.
RULES = ("ncp", "mean with gbdt")
#: MACs of the largest known network that is trained: mini's codes have at most 1 GMACs.
LARGEST = 1e9
#: How often each experiment is repeated: with other predictors, or in `tables` other trainings.
REPEATS = {"rivals": 10, "tables": 3, "live": 10, "rounds": 3}
#: Trainings of a code that was chosen by its value.
FRESH = 3


def main() -> None:
    parser = options(__doc__, "ncp_trained")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="T",
        default=TASKS,
        help=f"(default: {' '.join(TASKS)}; always all for tables)",
    )
    parser.add_argument(
        "--shares", nargs="+", type=fraction, default=SHARES, metavar="Q", help="limits: quantiles"
    )
    parser.add_argument("--data", required=True, type=Path, help="the folder of the data sets")
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=at_least(0),
        metavar="K",
        help=f"repetitions, from 0 (default: {REPEATS} of them)",
    )
    parser.add_argument("--budget", type=at_least(1), default=40, metavar="N", help="trainings of a live run")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parsed(parser, beside=("tasks", "shares", "seeds"))
    for only in args.only:
        out = args.out.with_stem(f"{args.out.stem}_{only}")
        beside = ("seed",) if only == "tables" else ("task", "limit", "seed")
        frame = done(args.keep, out, works(only, args), beside)
        if only == "tables":
            for title, table in views(frame, ("value",)).items():
                print(f"\n## {title}\n\n{format_table(table)}", flush=True)
        else:
            report(f"Trained: {only}", figures(frame, only, spreads(frame)))


def works(only: str, args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], pd.DataFrame]]]:
    """Yield the parts of an experiment by name."""
    where = {"data": args.data, "device": args.device, "workers": 1}
    bench = nasbench_mr.load("mini")
    seeds = args.seeds or range(REPEATS[only])
    tasks = bench.tasks if only == "tables" else args.tasks
    # Another table is another experiment.
    release = str(bench.release_of(tasks[0]))
    trials = {}
    # One limit will do to see what data gives.
    shares = args.shares[-1:] if only in ("tables", "rounds") else args.shares
    for task, share in itertools.product(tasks, shares):
        limit = float(np.quantile(cost.macs(bench.codes(task)), share))
        trials[task, share] = Trials(bench, task, limit, args.keep / release / "trials" / task, where)
    if only == "tables":
        own = {task: trials[task, shares[-1]] for task in tasks}
        for seed in seeds:
            yield f"{release}/tables-{seed}", partial(tables, own, seed)
        return
    for (task, share), one in trials.items():
        for seed in seeds:
            name = f"{release}/{only}-{task}-{share}"
            if only == "live":
                for searcher in SEARCHERS:
                    run = partial(live, one, searcher, seed, args.budget, args.keep / release / "live" / task)
                    yield f"{name}-{searcher}-{args.budget}-{seed}", run
            else:
                yield f"{name}-{seed}", partial({"rivals": rivals, "rounds": rounds}[only], one, seed)


@dataclass(frozen=True)
class Trials:
    """Codes of a task to train, within a limit."""

    bench: Benchmark
    task: str
    limit: float
    out: Path
    where: Mapping[str, Any]

    def __call__(self, codes: Codes, seeds: Sequence[int]) -> Floats:
        """See `common.trained`."""
        return trained(self.bench, self.task, codes, seeds, self.out, self.where)

    @property
    def about(self) -> dict[str, str | float]:
        """What every row says."""
        return {"release": str(self.bench.release_of(self.task)), "task": self.task, "limit": self.limit}

    @property
    def column(self) -> str:
        """The objective's column of a predictor."""
        return f"{self.task}/{self.bench.task(self.task).objective}"


def live(trials: Trials, searcher: str, seed: int, budget: int, out: Path) -> pd.DataFrame:
    """Return a run of a search by live training; a code that another run trained is not trained again.

    "fresh" is its best code's mean over trainings of their own.
    """
    objective = data_builders.live(trials.task, out=out, max_macs=trials.limit, **trials.where)
    with contextlib.closing(objective.source):
        search_of = search.make(searcher, objective, seed, **SEARCHERS[searcher])
        trace = search.run(search_of, objective, budget)
    best = trace.codes[[int(np.nanargmax(trace.values))]]
    return pd.DataFrame(
        {
            **trials.about,
            "method": searcher,
            "seed": seed,
            "budget": budget,
            "evaluations": trace.evaluations,
            "value": trace.values,
            "best": trace.best,
            "fresh": trials(best, range(FIRST_SEED, FIRST_SEED + FRESH)).mean(),
            "code": [space.to_string(code) for code in trace.codes],
        }
    )


def rivals(trials: Trials, seed: int) -> pd.DataFrame:
    """Return the codes that NCP and its rivals find with one predictor, each trained: a row for each."""
    data = gather(trials.bench)
    model = predictors.make("ensemble", seed=seed).fit(data.codes, data.values, data.names)
    values = data.values[:, [data.names.index(trials.column)]]
    second = {k: predictors.make(k, seed=seed).fit(data.codes, values, (trials.column,)) for k in JUDGES}
    by_rule = chosen(
        model, second, trials.column, float(np.nanstd(values)), data.codes, limit=trials.limit, seed=seed
    )
    found = {name: by_rule[name] for name in RULES}
    found |= {name: rival(name, model, trials.column, trials.limit, seed) for name in (*RIVALS, *CAUTIOUS)}
    codes = np.array([*found.values()], np.int16)
    return pd.DataFrame(
        {
            **trials.about,
            "method": [*found],
            "seed": seed,
            "value": trials(codes, [FIRST_SEED + seed])[:, 0],
            "believed": model.predict(codes)[0][:, model.names.index(trials.column)],
            "macs": cost.macs(codes),
            "code": [space.to_string(code) for code in codes],
        }
    )


def tables(trials: Mapping[str, Trials], seed: int) -> pd.DataFrame:
    """Return the codes of the paper's kinds of tables, trained: a row for each code and task.

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
        values = own(codes, [FIRST_SEED + seed])[:, 0]
        rows += [
            {
                "release": own.about["release"],
                **one.row(),
                "task": task,
                "seed": seed,
                "value": value,
                "predicted": expected,
            }
            for one, value, expected in zip(mine, values, predicted, strict=True)
        ]
    return pd.DataFrame(rows)


def rounds(trials: Trials, seed: int) -> pd.DataFrame:
    """Return codes trained round by round, proposed by NCP with what was trained so far, or at random.

    "fresh" is the mean of a round's best code over trainings of their own. After the rounds NCP proposes some
    codes with each table, and with the table as it was at first: rows without a round.
    """
    data = gather(trials.bench)
    own = data.names.index(trials.column)

    def proposals(codes: Codes, values: Floats, turn: int) -> Codes:
        """Return codes that NCP finds with a table, and the table lacks."""
        model = predictors.make("ensemble", seed=100 * seed + turn).fit(codes, values, data.names)
        found = search.ncp(model, trials.column, max_macs=trials.limit, seed=100 * seed + turn).codes
        return _new(found, codes)

    def row(
        method: str, turn: int | None, code: Codes, value: float, fresh: float = np.nan
    ) -> dict[str, Any]:
        return {
            **trials.about,
            "method": method,
            "seed": seed,
            "round": turn,
            "value": value,
            "fresh": fresh,
            "code": space.to_string(code),
        }

    rows: list[dict[str, Any]] = []
    fresh_seeds = range(FIRST_SEED + 10, FIRST_SEED + 10 + FRESH)
    grown = {"as it was": (data.codes, data.values)}
    for method in ("ncp", "random"):
        codes, values = data.codes, data.values
        for turn in range(ROUNDS):
            rng = np.random.default_rng((seed, turn))
            many = Domain(max_macs=trials.limit).sample(4 * PER_ROUND, rng) if method == "random" else None
            new = (proposals(codes, values, turn) if many is None else _new(many, codes))[:PER_ROUND]
            measured = trials(new, [FIRST_SEED + seed])[:, 0]
            best = int(np.nanargmax(measured))
            fresh = np.full(len(new), np.nan)
            fresh[best] = trials(new[[best]], fresh_seeds).mean()
            added = np.full((len(new), len(data.names)), np.nan)
            added[:, own] = measured
            codes, values = np.concatenate([codes, new]), np.concatenate([values, added])
            rows += [row(method, turn, *found) for found in zip(new, measured, fresh, strict=True)]
        grown[method] = codes, values
    for method, table in grown.items():
        last = proposals(*table, ROUNDS)[:AFTER]
        rows += [
            row(method, None, *found) for found in zip(last, trials(last, fresh_seeds).mean(1), strict=True)
        ]
    return pd.DataFrame(rows)


def _new(codes: Codes, known: Codes) -> Codes:
    """Return the codes that are not known."""
    there = set(keys(known))
    return codes[[key not in there for key in keys(codes)]]


def endings(frame: pd.DataFrame, only: str) -> pd.DataFrame:
    """Return what is compared of an experiment: a value for each task, limit, method and seed."""
    case = ["task", "limit", "method", "seed"]
    if only == "live":
        return (
            frame.groupby(case, sort=False, as_index=False)["fresh"].last().rename(columns={"fresh": "value"})
        )
    if only == "rounds":
        # The best code of each round, by its trainings anew; and what NCP proposes in the end.
        best = frame[frame["fresh"].notna()].assign(value=frame["fresh"])
        best["method"] += ", round " + (best["round"] + 1).astype(int).astype(str)
        last = frame[frame["round"].isna()].groupby(case, sort=False, as_index=False)["value"].mean()
        return pd.concat([best, last.assign(method="then, table " + last["method"])], ignore_index=True)
    return frame


def progress(runs: pd.DataFrame) -> str:
    """Return the best value so far after each quarter of live runs, the mean over runs."""
    best = runs.pivot_table("best", "evaluations", "seed").ffill().mean(axis=1)
    last = int(best.index.max())
    steps = sorted({math.ceil(last * quarter / 4) for quarter in (1, 2, 3, 4)})
    means = ", ".join(f"{best[:step].iloc[-1]:.2f}" for step in steps)
    return f"best so far after {', '.join(map(str, steps))} trainings {means}"


#: Whom the other methods of an experiment are tested against, but for the rounds themselves.
BASE = {"rivals": "ncp", "live": "ncp", "rounds": "then, table as it was"}


def spreads(frame: pd.DataFrame) -> dict[str, float]:
    """Return, by task, the standard deviation of the table's objective."""
    bench = nasbench_mr.load(frame["release"].iloc[0])
    found = {}
    for task in frame["task"].unique():
        metric = bench.task(task).objective
        found[task] = float(np.nanstd(bench.query_many(bench.codes(task), task, (metric,))[metric]))
    return found


def figures(frame: pd.DataFrame, only: str, scale: Mapping[str, float]) -> list[Figure]:
    """Return each task's, limit's and method's mean with its standard error; then one test a method.

    Pairs are of one seed: the same predictor's seed, and the same seed of the trainings. A seed's differences
    are divided by the task's `scale` and averaged over all tasks and limits, as ten pairs can't make any of a
    test for each significant: over those that have the seed, of live runs, which are done case by case. A
    round of NCP is tested against the same round of random codes.
    """
    import scipy.stats

    rows = []
    differences: dict[tuple[str, str], list[pd.Series]] = {}
    for (task, limit), case in endings(frame, only).groupby(["task", "limit"], sort=False):
        by_method = case.pivot_table("value", "seed", "method", sort=False)
        for method, values in by_method.items():
            error = f" +- {values.sem():.2f}" if values.count() > 1 else ""
            spread = f"{values.mean():.2f}{error} of {values.count()}"
            if only == "live":
                own = frame[(frame["task"] == task) & (frame["limit"] == limit) & (frame["method"] == method)]
                spread += f"; {progress(own)}"
            rows.append(Figure(f"{task} at {limit / 1e9:.3f} GMACs, {method}", spread, "-", None))
            base = BASE[only] if "round " not in str(method) else str(method).replace("ncp", "random")
            if base != method and base in by_method:
                difference = (values - by_method[base]) / scale[str(task)]
                differences.setdefault((str(method), base), []).append(difference)
    gains = {
        names: pd.concat(cases, axis=1).mean(axis=1, skipna=only == "live").dropna()
        for names, cases in differences.items()
    }
    raw = [float(scipy.stats.wilcoxon(gain).pvalue) if gain.any() else 1.0 for gain in gains.values()]
    rows += [
        Figure(
            f"{method} minus {base}",
            f"{gain.mean():+.2f} +- {gain.sem():.2f} sd of {len(gain)}, Holm p {p:.2g}",
            "-",
            None,
        )
        for ((method, base), gain), p in zip(gains.items(), holm(np.array(raw)), strict=True)
    ]
    return rows


if __name__ == "__main__":
    start(main)
