"""What all tests share: published data where a checkout has it beside, a home each, and a small release.

Fixtures (tests can't import each other, so what they share is here):
    shared        the folder of published tables and photos, or None
    home          an empty NASBENCH_MR_HOME, for every test
    tiny_release  the folder of a made-up release of two tasks, with seeds, a failed trial and curves
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nasbench_mr import cost, release, space, table, tasks

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path | None:
    """The folder with published tables and photos, or None; tests cover less without it."""
    return SHARED if (SHARED / "upstream").is_dir() else None


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty NASBENCH_MR_HOME for every test, so that none sees or touches the user's releases."""
    folder = tmp_path / "home"
    monkeypatch.setenv("NASBENCH_MR_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the release "tiny" 1.0.0: made-up values, exact costs. Not to be changed: copy it first.

    `seg`: 61 codes, `space.sample(61, seed=0)`, seed 0 each. The first 10 also have seeds 1 and 2; the last
    one's only trial failed, so 60 codes and 80 "ok" trials can be asked. mIoU = 8 log10(macs) - 10 + noise,
    mAcc = mIoU + 8, aAcc = 90 + mIoU / 10, each rounded to 2 digits; 4 epochs, macs / 1e8 seconds in all.
    Curves: of every "ok" trial, epochs 1 to 4: the metrics, e / 4 of the final values at epoch e, and "loss".
    `video`: the first 40 of these codes, seed 0; top1 = 10 log10(params) - 40 + noise, top5 = top1 + 25. No
    curves, times unknown.
    """
    codes = space.sample(61, seed=0)
    rng = np.random.default_rng(0)
    failed = len(codes) - 1
    rows = np.array([*range(61), *range(10), *range(10)])
    seeds = np.repeat([0, 1, 2], [61, 10, 10])
    ok = rows != failed
    mious = 8 * np.log10(cost.macs(codes))[rows] - 10 + rng.normal(0, 1, len(rows))
    metrics = {"mIoU": mious, "mAcc": mious + 8, "aAcc": 90 + mious / 10}
    metrics = {name: np.where(ok, values.round(2), np.nan) for name, values in metrics.items()}
    macs = cost.macs(codes[rows])
    seg = {
        "codes": codes[rows],
        "seed": seeds,
        **metrics,
        "macs": macs,
        "params": cost.params(codes[rows]),
        "epochs": np.where(ok, 4.0, np.nan),
        "train_seconds": np.where(ok, macs / 1e8, np.nan),
        "device": ["cpu"] * len(rows),
        "status": ["ok" if good else "failed" for good in ok],
        "error": [None if good else "out of memory" for good in ok],
    }
    steps = np.tile([1, 2, 3, 4], ok.sum())
    curves = {
        "codes": np.repeat(codes[rows[ok]], 4, axis=0),
        "seed": np.repeat(seeds[ok], 4),
        "epoch": steps,
        **{name: np.repeat(values[ok], 4) * steps / 4 for name, values in metrics.items()},
        "loss": 2.0 / steps,
    }
    filmed = codes[:40]
    top1 = (10 * np.log10(cost.params(filmed)) - 40 + rng.normal(0, 1, len(filmed))).round(2)
    video = {
        "codes": filmed,
        "top1": top1,
        "top5": top1 + 25,
        "macs": cost.macs(filmed),
        "params": cost.params(filmed),
    }

    def fill(folder: Path) -> None:
        table.write(folder / "tables/seg.parquet", tasks.get("seg"), seg)
        table.write_curves(folder / "curves/seg.parquet", tasks.get("seg"), curves)
        table.write(folder / "tables/video.parquet", tasks.get("video"), video)

    target = tmp_path_factory.mktemp("releases") / "tiny"
    about = {"title": "A small made-up release", "license": "CC0-1.0"}
    chosen = [tasks.get("seg"), tasks.get("video")]
    return release.create(fill, "tiny", "1.0.0", chosen, about, target).path


def pytest_report_header() -> str:
    """Says once what the run covers."""
    if (SHARED / "upstream").is_dir():
        return "published tables: present"
    return "published tables: absent; tests use the embedded release and generated data only"
