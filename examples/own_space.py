"""Search spaces of your own: a size space and a mixed one, with made-up measurements.

    python examples/own_space.py

Reads spaces/sizes.toml and spaces/lm.toml beside this file, measures some codes of each (here a formula with
noise stands in for training), and then asks for the best under a limit: tabulated, and by NCP of all. Nothing
that is installed changes: the tables go to a folder of their own.
"""

from __future__ import annotations

import csv
import os
import tempfile
from pathlib import Path

import numpy as np

SPACES = Path(__file__).parent / "spaces"


def accuracy(values: dict, params: int, noise: float) -> float:
    """Return what a training might give: it saturates in the size, and unbalanced widths waste some."""
    widths = np.array(list(values.values()), float)
    return round(60 + 4 * np.log2(params / 1e4) - 6 * np.log2(widths).std() + noise, 3)


def perplexity(values: dict, params: int, noise: float) -> float:
    """Return what a training might give: falls with the size; some choices are better than others."""
    better = 2 * (values["activation"] == "swiglu") + 0.3 * (not values["bias"])
    return round(70 - 5 * np.log2(params / 1e6) - better + abs(np.log2(values["heads"] / 4)) + noise, 3)


def write_table(space, path: Path, metric: str, measure, count: int) -> None:
    """Write a CSV file of random codes: a column for each dimension, with its values, and the metric."""
    rng = np.random.default_rng(0)
    codes = np.unique(space.sample(count, seed=0), axis=0)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*space.NAMES, metric])
        for code, params in zip(codes, space.params(codes).tolist(), strict=True):
            values = space.named(code)
            row = [str(v).lower() if isinstance(v, bool) else v for v in values.values()]
            writer.writerow([*row, measure(values, params, rng.normal() * 0.2)])


def main() -> None:
    import nasbench_mr
    from nasbench_mr import search
    from nasbench_mr.data_builders import published
    from nasbench_mr.grid import Grid

    for name, metric, measure, count, limit, options in (
        ("sizes", "accuracy", accuracy, 300, {"max_macs": 2e7}, {"units": {"accuracy": "percent"}}),
        ("lm", "perplexity", perplexity, 200, {"max_params": 1e7}, {"minimize": ["perplexity"]}),
    ):
        space = Grid.read(SPACES / f"{name}.toml")
        table = Path(os.environ["NASBENCH_MR_HOME"]) / f"{name}.csv"
        write_table(space, table, metric, measure, count)
        published.import_table(table, name, own_space=space, **options)
        bench = nasbench_mr.load("local")
        best = bench.best(name, 1, **limit)[0]
        found = search.ncp(bench, name, seed=0, starts=32, steps=20, **limit)
        print(f"{name}: {len(bench.codes(name))} of {space.SIZE:,} codes, {metric}")
        print(f"  best in the table   {best[metric]:.2f}  {space.to_string(best.code)}")
        truth = measure(space.named(found.best), int(space.params([found.best])[0]), 0.0)
        print(f"  NCP of all codes    {truth:.2f}  {space.to_string(found.best)}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NASBENCH_MR_HOME"] = folder
        main()
