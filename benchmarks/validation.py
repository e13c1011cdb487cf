"""Does NCP find better networks than the table has? The experiment of docs/validation.md.

For each task of a release: the best codes NCP finds at no more than the median MACs of the table, and the
best tabulated ones within the same limit, trained with seeds that are not in the table. The tabulated ones
were chosen by one noisy run each, the found ones by a predictor: only fresh seeds compare them fairly. Rerun
the command to resume.

    python benchmarks/validation.py --data data --out runs/validation
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

import nasbench_mr
from nasbench_mr import cost, search, space
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.cli.command import format_table
from nasbench_mr.data_builders.building import runner
from nasbench_mr.data_builders.building.trial import Trial

#: The table's seeds are 0, 1, 2.
FIRST_SEED = 100

Codes = list[tuple[int, ...]]


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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--release", default="mini", help="whose tasks the builders can train (default mini)")
    add("--tasks", nargs="+", help="which (default all)")
    add("--data", help="the folder of the data sets")
    add("--out", required=True, help="the folder of the trials")
    add("--codes", type=int, default=5, help="of each kind (default 5)")
    add("--seeds", type=int, default=3, help="for each code (default 3)")
    add("--device", help="cpu or cuda")
    args = parser.parse_args(arguments)

    bench = nasbench_mr.load(args.release)
    names = args.tasks or bench.tasks
    chosen = {task: candidates(bench, task, args.codes) for task in names}
    seeds = range(FIRST_SEED, FIRST_SEED + args.seeds)
    planned = [
        Trial(code, task, seed)
        for task, kinds in chosen.items()
        for codes in kinds.values()
        for code in codes
        for seed in seeds
    ]
    with runner.Builder(names, args.out, data=args.data, device=args.device) as builder:
        builder.run(planned, progress=True)
        records = builder.records

    def trained(task: str, code: tuple[int, ...]) -> list[float]:
        """Return the objective with each seed; NaN where it failed."""
        outcomes = [records[Trial(code, task, seed)].outcome for seed in seeds]
        name = bench.task(task).objective
        return [o.metrics[name] if o.status == "ok" else float("nan") for o in outcomes]

    for task, kinds in chosen.items():
        values = {kind: np.array([trained(task, c) for c in codes]) for kind, codes in kinds.items()}
        print(f"\n## {task}, at most {median_macs(bench, task) / 1e9:.3f} GMACs\n")
        print(
            format_table(
                [row(bench, task, k, c, v) for k in kinds for c, v in zip(kinds[k], values[k], strict=True)]
            )
        )
        print(f"\n{verdict(values, bench.task(task).metric().sign)}")


def row(bench: Benchmark, task: str, kind: str, code: tuple[int, ...], values: Any) -> dict[str, Any]:
    """One code: what the table or the predictor says, and what training gives."""
    return {
        "": kind,
        "GMACs": cost.macs(code)[0] / 1e9,
        "in the table": bench.query(code, task)[bench.task(task).objective] if kind == "tabulated" else None,
        "trained": float(np.nanmean(values)),
        "std": float(np.nanstd(values, ddof=1)),
        "code": space.to_string(code),
    }


def verdict(values: dict[str, Any], sign: int) -> str:
    """Return the means of both kinds, and a Mann-Whitney test of the codes' means."""
    import scipy.stats

    means = {kind: np.nanmean(v, axis=1) for kind, v in values.items()}
    p = scipy.stats.mannwhitneyu(means["found"], means["tabulated"]).pvalue
    better = {kind: float(sign * (sign * m).max()) for kind, m in means.items()}
    return (
        f"mean of the codes: found {means['found'].mean():.2f}, tabulated {means['tabulated'].mean():.2f} "
        f"(Mann-Whitney over codes, p = {p:.3f}); best code: found {better['found']:.2f}, "
        f"tabulated {better['tabulated']:.2f}"
    )


if __name__ == "__main__":
    main()
