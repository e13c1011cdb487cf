import pandas as pd

import predictors as script

TAU = {"ensemble": 0.75, "ncp-mlp": 0.74, "gbdt": 0.7, "gp": 0.752, "forest": 0.6, "ridge": 0.5}


def rows(train: int, tau: dict[str, float], seeds: int = 2, **columns: float) -> pd.DataFrame:
    """Parts over one task; the splits' taus lie 0.02 apart, around the ones given."""
    frame = [
        {
            "predictor": name,
            "task": "seg",
            "train": train,
            "seed": seed,
            "kendall": value + 0.02 * seed - 0.01 * (seeds - 1),
            "coverage90": 0.9 if name == "ensemble" else 0.2,
            "cpu_seconds": 2.0,
            "fit_seconds": 3.0,
            **columns,
        }
        for name, value in tau.items()
        for seed in range(seeds)
    ]
    return pd.DataFrame(frame)


def test_targets_are_judged_by_means_over_splits() -> None:
    parts = pd.concat([rows(2005, TAU), rows(100, {"ensemble": 0.6, "ncp-mlp": 0.58})])
    ranking, mean, few, coverage = script.quality(parts)
    # 0.75 is 0.002 below the best other, 0.01 above ncp-mlp; with 100 codes 0.02 above.
    assert (ranking.measured, ranking.met) == ("-0.002 (0.750, gp 0.752)", True)
    assert (mean.measured, mean.met) == ("+0.010 (0.750, 0.740)", True)
    assert (few.measured, few.met) == ("+0.020 (0.600, 0.580)", False)
    assert (coverage.measured, coverage.met) == ("90.0%", True)


def test_the_slower_clock_decides() -> None:
    paper, ours = rows(2005, {"ncp-mlp": 0.7}), rows(2005, {"ensemble": 0.7}, cpu_seconds=1.0)
    assert [(f.measured, f.met) for f in script.speed(pd.concat([paper, ours]))] == [
        ("0.50 (1.0 / 2.0 s), 1.00", True)
    ]
    ours["fit_seconds"] = 3.3
    assert script.speed(pd.concat([paper, ours]))[0].met is False
