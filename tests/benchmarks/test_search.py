"""The yardstick of NCP's speed is the published loop: it takes the steps that the preset takes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasbench_mr import cost, predictors, search, space
from nasbench_mr.predictors.ncp_mlp import NcpMlp


@pytest.fixture(scope="module")
def script() -> Any:
    """benchmarks/search.py, under a name that hides no other module."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "search.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_searches", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_built_networks_have_the_macs_of_the_formula(script: Any) -> None:
    for code in space.sample(3, seed=0):
        assert script.built_macs(code) == cost.macs(code)[0]


def test_the_published_loop_is_the_preset(script: Any) -> None:
    codes = space.sample(150, seed=0)
    macs = np.log10(cost.macs(codes))
    model = predictors.make("ncp-mlp", seed=0, epochs=12)
    model.fit(codes, np.stack([70 + 5 * macs, 80 + 4 * macs], axis=1), names=("seg/mIoU", "seg/mAcc"))
    assert isinstance(model, NcpMlp)
    expected = search.ncp(model, "seg", preset="paper", steps=6).trajectory.macs[:, 0]
    assert len(np.unique(expected)) > 2
    assert script.published_loop(model, 6).tolist() == expected.tolist()


def test_evolution_finds_what_the_predictor_likes(script: Any) -> None:
    codes = space.sample(300, seed=0)
    model = predictors.make("ridge").fit(codes, np.log10(cost.macs(codes)), names=("seg/mIoU",))
    best = script.evolved(model, "seg/mIoU", 1e9, seed=0)
    assert cost.macs(best)[0] <= 1e9
    random = space.sample(5000, seed=1)
    allowed = random[cost.macs(random) <= 1e9]
    assert model.predict(best)[0][0, 0] > model.predict(allowed)[0].max()
