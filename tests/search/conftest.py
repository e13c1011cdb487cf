"""A release whose tables are simple functions of the codes, so that every optimum is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nasbench_mr import cost, nasbench201, release, space, table, tasks


def share(codes: np.ndarray) -> np.ndarray:
    """Where each dimension lies between its smallest (0) and largest value (1), on average: `(n,)`."""
    return ((codes - space.LOWER) / (space.UPPER - space.LOWER)).mean(axis=1)


def cells() -> np.ndarray:
    """All 15,625 codes of NAS-Bench-201."""
    return np.stack(np.meshgrid(*[np.arange(5, dtype=np.int16)] * 6, indexing="ij"), axis=-1).reshape(-1, 6)


@pytest.fixture(scope="session")
def known_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release "known": not to be changed.

    `seg`, `video`: 200 codes, `space.sample(200, seed=3, scheme="published")`, seed 0. With `share` the mean
    of (value - smallest) / (largest - smallest) over the dimensions: mIoU = 40 + 40 share, mAcc = mIoU + 5,
    aAcc = 90; top1 = 60 - 40 share, top5 = 90. So seg wants large networks, video small ones.
    `nas-bench-201`: all cells; Acc = 10 + 6 times the number of 3x3 convolutions (the last operation), macs
    = 1e6 (1 + the sum of the integers), params = 1e3.
    """
    codes = space.sample(200, seed=3, scheme="published")
    costs = {"macs": cost.macs(codes), "params": cost.params(codes)}
    larger = 40 * share(codes)
    seg = {"mIoU": 40 + larger, "mAcc": 45 + larger, "aAcc": np.full(200, 90.0)}
    video = {"top1": 60 - larger, "top5": np.full(200, 90.0)}
    every = cells()
    cell = {
        "Acc": 10.0 + 6 * (every == len(nasbench201.OPERATIONS) - 1).sum(axis=1),
        "macs": 1_000_000 * (1 + every.sum(axis=1, dtype=np.int64)),
        "params": np.full(len(every), 1000),
    }

    def fill(folder: Path) -> None:
        for name, columns in (
            ("seg", {"codes": codes, **seg, **costs}),
            ("video", {"codes": codes, **video, **costs}),
            ("nas-bench-201", {"codes": every, **cell}),
        ):
            table.write(folder / f"tables/{name}.parquet", tasks.get(name), columns)

    chosen = [tasks.get(name) for name in ("seg", "video", "nas-bench-201")]
    target = tmp_path_factory.mktemp("releases") / "known"
    return release.create(fill, "known", "1.0.0", chosen, {"title": "Known functions"}, target).path
