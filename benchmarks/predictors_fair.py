"""Predictors with all training codes and the same tuning: the fair table of docs/predictors.md.

Of each fixed split's training codes the last fifth chooses among a predictor's settings (`GRIDS`, by the mean
Kendall tau over tasks); what is chosen is fitted again to all training codes and scored on the
test codes, beside the defaults, and beside `ncp-mlp` with none of its codes kept to choose an epoch. A split
and predictor is a part, which is kept: rerun the command to resume. Results that are there of others stay.

    OMP_NUM_THREADS=1 python benchmarks/predictors_fair.py
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from common import ALL_TABLES, Figure, at_least, done, options, parsed, report, start, tables

from nasbench_mr import predictors
from nasbench_mr.arrays import Floats, Ints
from nasbench_mr.predictors.evaluation import Data, gather, make_split, scores
from nasbench_mr.search.comparison import holm

#: What is commonly tuned, the default first; `ridge` and the kernel of `gp` tune themselves by marginal
#: likelihood.
GRIDS: dict[str, list[dict[str, Any]]] = {
    "ensemble": [{}, {"dropout": 0.1}, {"decay": 1000.0}, {"hidden": (192, 192)}, {"rate": 2e-3}],
    "gbdt": [{}, {"leaves": 4}, {"leaves": 31}, {"rounds": 1000}, {"rounds": 1000, "rate": 0.02}],
    "forest": [{}, {"features": 0.15}, {"features": 0.66}, {"leaf": 1}, {"leaf": 5}],
    "gp": [{}, {"kernel_codes": 800}, {"kernel_codes": 1600}],
    "ridge": [{}],
    "ncp-mlp": [{}, {"held_out": 0.0}, *({"held_out": 0.0, "epochs": n} for n in (100, 50, 25, 12))],
}
#: Shown untuned as well.
ALL_CODES = {"held_out": 0.0}


def main() -> None:
    parser = options(__doc__, "predictors_fair")
    parser.add_argument("--splits", type=at_least(0), nargs="+", default=range(5), metavar="K")
    parser.add_argument("--predictors", nargs="+", choices=[*GRIDS], default=[*GRIDS])
    args = parsed(parser, beside=("splits", "predictors"))
    data = gather(tables(), ALL_TABLES)
    works = (
        (f"{split}-{name}", partial(part, data, split, name))
        for split in args.splits
        for name in args.predictors
    )
    frame = done(args.keep, args.out, works, beside=("predictor", "split"))
    report(
        f"Predictors alike: {frame['task'].nunique()} tasks, {frame['split'].nunique()} splits",
        figures(frame),
    )


def part(data: Data, split: int, name: str) -> pd.DataFrame:
    """Return a row for each way to set the predictor and each task."""
    rows = make_split(data.codes, split)
    inner = len(rows.train) * 4 // 5
    grid = GRIDS[name]
    found = {"default": scored(data, split, name, {}, rows.train, rows.test)}
    settings = {"default": grid[0], "tuned": grid[0]}
    if name == "ncp-mlp":
        settings["all codes"] = ALL_CODES
        found["all codes"] = scored(data, split, name, ALL_CODES, rows.train, rows.test)
    if len(grid) > 1:
        tried = [scored(data, split, name, own, rows.train[:inner], rows.train[inner:]) for own in grid]
        settings["tuned"] = grid[int(np.argmax([tau.mean() for tau in tried]))]
    # A setting that was fitted already is not fitted again.
    same = next((way for way in found if settings[way] == settings["tuned"]), None)
    found["tuned"] = (
        found[same] if same else scored(data, split, name, settings["tuned"], rows.train, rows.test)
    )
    return pd.DataFrame(
        {
            "predictor": name,
            "split": split,
            "way": way,
            "setting": repr(settings[way]),
            "task": task.name,
            "train": len(rows.train),
            "kendall": tau,
        }
        for way, taus in found.items()
        for task, tau in zip(data.tasks, taus, strict=True)
    )


def scored(data: Data, seed: int, name: str, setting: dict[str, Any], train: Ints, test: Ints) -> Floats:
    """Return Kendall's tau on the test rows, for each task."""
    model = predictors.make(name, seed=seed, **setting)
    main = data.objectives()
    columns = list(range(len(data.names))) if model.joint else main
    names, bounds = zip(*((data.names[k], data.bounds[k]) for k in columns), strict=True)
    model.fit(data.codes[train], data.values[train][:, columns], names, bounds=bounds)
    mean, std = model.predict(data.codes[test])
    taus = []
    for k in main:
        truth, own = data.values[test, k], columns.index(k)
        known = np.isfinite(truth)
        taus.append(scores(truth[known], mean[known, own], std[known, own])["kendall"])
    return np.array(taus)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Return a row for each predictor and way: means over tasks, and the ensemble's lead with its test."""
    import scipy.stats

    # Tasks are the blocks; the splits of one task share its codes.
    taus = frame.pivot_table("kendall", ["predictor", "way"], "task", sort=False)
    base = {key: ("ensemble", "tuned" if key[1] == "tuned" else "default") for key in taus.index}
    tested = [key for key in taus.index if key[0] != "ensemble" and base[key] in taus.index]
    leads = {key: taus.loc[base[key]] - taus.loc[key] for key in tested}
    raw = [scipy.stats.wilcoxon(lead).pvalue if lead.any() else 1.0 for lead in leads.values()]
    corrected = dict(zip(tested, holm(np.array(raw)), strict=True)) if raw else {}
    rows = []
    for key in taus.index:
        name, way = key
        measured = f"{taus.loc[key].mean():.4f}"
        if key in leads:
            lead = f"{leads[key].mean():+.4f} (Holm p {corrected[key]:.2g})"
            measured += f", {base[key][1]} ensemble leads by {lead}"
        rows.append(Figure(f"{name}, {way}: mean tau", measured, "-", None))
    return rows


if __name__ == "__main__":
    start(main)
