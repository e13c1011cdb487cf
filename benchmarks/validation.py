"""Does NCP find better networks than the table has? The experiment of docs/validation.md.

For each task of a release: the best codes NCP finds at no more than the median MACs of the table, and the
best tabulated ones within the same limit, trained with seeds that are not in the table. The tabulated ones
were chosen by few noisy runs each, the found ones by a predictor: only fresh seeds compare them fairly. Every
training is kept: rerun the command to resume.

    python benchmarks/validation.py --data data
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import at_least, done, options, parsed, start, trained

import nasbench_mr
from nasbench_mr import cost, search, space
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.cli.command import format_table
from nasbench_mr.search.comparison import holm

#: The table's seeds are 0, 1, 2.
FIRST_SEED = 100

Codes = list[tuple[int, ...]]


def main() -> None:
    parser = options(__doc__, "validation")
    add = parser.add_argument
    add("--release", default="mini", help="whose tasks the builders can train (default mini)")
    add("--tasks", nargs="+", help="which (default all)")
    add("--data", help="the folder of the data sets")
    add("--codes", type=at_least(1), default=5, help="of each kind (default 5)")
    add("--seeds", type=at_least(1), default=3, help="for each code (default 3)")
    add("--device", help="cpu or cuda")
    args = parsed(parser)
    bench = nasbench_mr.load(args.release)
    where = {"data": args.data, "device": args.device}
    works = []
    for task in args.tasks or bench.tasks:
        keep = args.keep / str(bench.release_of(task))
        work = partial(part, bench, task, args.codes, args.seeds, keep / "trials" / task, where)
        works.append((f"{keep.name}/{task}-{args.codes}-{args.seeds}", work))
    frame = done(args.keep, args.out, works)
    tests = verdicts(frame, bench)
    for task, own in frame.groupby("task", sort=False):
        print(f"\n## {task}, at most {own['limit'].iloc[0] / 1e9:.3f} GMACs\n\n{format_table(shown(own))}")
        print(f"\n{tests[str(task)]}", flush=True)


def median_macs(bench: Benchmark, task: str) -> float:
    """Return the median over the table's codes."""
    return float(np.median(bench.query_many(bench.codes(task), task, "macs")["macs"]))


def candidates(bench: Benchmark, task: str, count: int) -> dict[str, Codes]:
    """Return the codes to train at the median MACs: the best `count` of NCP and the best of the table.

    What NCP finds is new: codes of the table are passed over.
    """
    limit = median_macs(bench, task)
    found = search.ncp(bench, task, max_macs=limit, seed=0)
    table = set(map(tuple, bench.codes(task).tolist()))
    new = [code for code in map(tuple, found.codes.tolist()) if code not in table]
    return {"found": new[:count], "tabulated": [r.code for r in bench.best(task, count, max_macs=limit)]}


def part(
    bench: Benchmark, task: str, count: int, seeds: int, out: Path, where: Mapping[str, Any]
) -> pd.DataFrame:
    """Return what training gives for the codes of a task: a row for each code and seed."""
    metric, rows = bench.task(task).objective, []
    numbers = range(FIRST_SEED, FIRST_SEED + seeds)
    for kind, codes in candidates(bench, task, count).items():
        values = trained(bench, task, np.array(codes, np.int16), numbers, out, where)
        rows += [
            {
                "task": task,
                "limit": median_macs(bench, task),
                "kind": kind,
                "code": space.to_string(code),
                "macs": int(cost.macs(code)[0]),
                "in_the_table": bench.query(code, task)[metric] if kind == "tabulated" else None,
                "seed": seed,
                "value": value,
            }
            for code, own in zip(codes, values.tolist(), strict=True)
            for seed, value in zip(numbers, own, strict=True)
        ]
    return pd.DataFrame(rows).astype({"in_the_table": float})


def shown(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row for each code: what the table says, and what training gives."""
    each = frame.groupby(["kind", "code"], sort=False)
    return [
        {
            "": kind,
            "GMACs": own["macs"].iloc[0] / 1e9,
            "in the table": own["in_the_table"].iloc[0],
            "trained": own["value"].mean(),
            "std": own["value"].std(),
            "code": code,
        }
        for (kind, code), own in each
    ]


def verdicts(frame: pd.DataFrame, bench: Benchmark) -> dict[str, str]:
    """Return for each task the means of both kinds, and a Mann-Whitney test of the codes' means."""
    import scipy.stats

    told, raw = {}, []
    for task, own in frame.groupby("task", sort=False):
        means = own.groupby(["kind", "code"], sort=False)["value"].mean()
        kinds = {kind: means[kind].dropna() for kind in ("found", "tabulated")}
        raw.append(float(scipy.stats.mannwhitneyu(kinds["found"], kinds["tabulated"]).pvalue))
        sign = bench.task(str(task)).metric().sign
        told[str(task)] = "; ".join(
            f"{kind}: mean of the codes {own.mean():.2f}, best {sign * (sign * own).max():.2f}"
            for kind, own in kinds.items()
        )
    corrected = holm(np.array(raw))
    return {
        task: f"{text} (Mann-Whitney over codes, p = {p:.3f}, Holm p = {adjusted:.3f})"
        for (task, text), p, adjusted in zip(told.items(), raw, corrected, strict=True)
    }


if __name__ == "__main__":
    start(main)
