"""The experiments of docs/aux_nas.md: what is compared with what, and the rows that are kept."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import auxnas_gain as script
import pytest

from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.search.auxnas import readers, scenes
from nasbench_mr.search.auxnas.comparison import AuxComparison, compare
from nasbench_mr.search.auxnas.config import AuxConfig


def configs(name: str) -> dict[str, AuxConfig]:
    own = script.EXPERIMENTS[name]
    config = {**tomllib.loads(script.RECIPE.read_text()), **own.changes}
    fields = {v: dict(flag.split("=") for flag in v.split()[1:]) for v in own.variants}
    numbers = {"lr", "cut"}
    return {
        v: AuxConfig.of(
            config,
            {"variant": v.split()[0]},
            {key: float(value) if key in numbers else value for key, value in found.items()},
        )
        for v, found in fields.items()
    }


@pytest.mark.parametrize("name", script.EXPERIMENTS)
def test_variants_have_a_single_task_that_is_trained_alike(name: str) -> None:
    """At their rate and from their start, so that no variant gains from these."""
    found = configs(name)
    singles = {(c.lr, c.begin) for c in found.values() if c.variant == "single"}
    assert {(c.lr, c.begin) for c in found.values()} == singles
    # All for as many updates; and one stage 1 for all that have one.
    assert {c.steps for c in found.values()} == {600}
    assert len({(c.alone().lr, c.alone().steps) for c in found.values() if c.begin == "single"}) <= 1


def test_the_protocol_is_the_published_one() -> None:
    found = configs("normals")
    searched = found["aux-nas"]
    assert (searched.begin, searched.lr, searched.gate_lr) == ("single", 0.001, 0.05)
    assert (searched.alone().lr, searched.alone().steps) == (0.03, 1200)
    assert {v for v, c in found.items() if c.begin == "random"} == {
        "single begin=random lr=0.03", "aux-head begin=random lr=0.03", "aux-g begin=random lr=0.03",
        "aux-nas begin=random lr=0.03", "aux-nas cut=0.3 begin=random lr=0.03",
    }  # fmt: skip


def run(seed: int, mean: float, **more: Any) -> dict[str, Any]:
    metrics = {"mean": mean, "median": mean - 1}
    curve = {"step": [0, 5], "normals/mean": [40.0, mean], "normals/median": [39.0, mean - 1]}
    common = {"auxiliary": [], "seed": seed, "status": "ok", "seconds": 1.5, "steps": 5, "drop": {}}
    return {**common, "metrics": {"normals": metrics}, "curve": curve} | more


def test_rows_hold_what_a_run_was_at_each_evaluation_and_what_is_kept() -> None:
    curve = run(1, 30.5)["curve"] | {"affinity/depth": [None, 0.5], "affinity/edges": [None, 0.1]}
    helped = run(1, 30.5, auxiliary=["depth", "edges"], curve=curve, drop={"mean": 0.25, "median": 0.5})
    frame = script.rows(AuxComparison("normals", {"single": [run(0, 31.0)], "aux-nas": [helped]}))
    assert frame["variant"].tolist() == ["single"] * 3 + ["aux-nas"] * 3
    assert frame[["step", "final", "mean"]].to_numpy().tolist()[3:] == [
        [0, False, 40.0], [5, False, 30.5], [5, True, 30.5]
    ]  # fmt: skip
    assert frame["affinity"].dropna().tolist() == pytest.approx([0.3])
    assert frame["closing"].dropna().tolist() == [0.25]


def test_an_experiment_runs_and_its_rows_have_every_variant(tmp_path: Path) -> None:
    root = scenes.make(tmp_path / "indoor", train=4, val=2, size=(36, 48))
    config = {**tomllib.loads(script.RECIPE.read_text()), **script.FROM_SINGLE, "steps": 2, "batch_size": 2}
    config |= {"single": {"lr": 0.03, "steps": 1}, "eval_every": 2}
    variants = ("single", f"single {script.HIGH}", f"aux-nas {script.HIGH}", f"single {script.SCRATCH}")
    found = compare(
        "normals", "segmentation", readers.load("indoor", root), config, out=tmp_path / "out", seeds=1,
        variants=variants, workers=0,
    )  # fmt: skip
    frame = script.rows(found)
    names = ["checkpoint", "single continued", f"single continued {script.HIGH}", *variants[2:]]
    assert frame["variant"].unique().tolist() == names
    assert frame[frame["final"]]["step"].tolist() == [1, 2, 2, 2, 2]
    against = {row["variant"]: row["against"] for row in found.summary()}
    assert against[variants[2]] == f"single continued {script.HIGH}"


def test_a_wrong_count_of_seeds_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = scenes.make(tmp_path / "indoor", train=4, val=2, size=(36, 48))
    monkeypatch.setattr(script.datasets, "folder", lambda _: root)
    with pytest.raises(InvalidArgumentError, match="seeds"):
        script.EXPERIMENTS["balance"].run(tmp_path, None, -1, 0)
