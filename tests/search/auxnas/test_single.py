"""Starting from networks that were trained for each task alone: stage 1, its cache, rows of comparisons."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nasbench_mr import space
from nasbench_mr.errors import IntegrityError, InvalidArgumentError, RecipeError
from nasbench_mr.search.auxnas import plots, readers, scenes
from nasbench_mr.search.auxnas.comparison import AuxComparison, compare
from nasbench_mr.search.auxnas.config import AuxConfig
from nasbench_mr.search.auxnas.data import AuxData
from nasbench_mr.search.auxnas.preparation import prepare
from nasbench_mr.search.auxnas.run import aux_nas, load_primary
from nasbench_mr.search.comparison import holm

CODE = [8, 8, 1, 1, 8, 1, 1, 1, 8, 8, 1, 1, 1, 1, 8, 8, 8, 1, 1, 1, 1, 1, 8, 8, 8, 8, 8]
WIDER = [*CODE[:-1], 16]
FROM_SINGLE = {
    "primary_code": space.to_string(CODE), "options": {"width_mult": 0.25}, "steps": 2, "batch_size": 3,
    "lr": 1e-3, "eval_every": 2, "begin": "single", "single": {"steps": 3, "lr": 1e-2},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> AuxData:
    root = scenes.make(tmp_path_factory.mktemp("rooms") / "indoor", train=8, val=3, size=(32, 32))
    return readers.load("indoor", root)


@pytest.fixture(scope="module")
def singles(data: AuxData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage 1 of normals and depth."""
    folder = tmp_path_factory.mktemp("singles")
    aux_nas("normals", "depth", data, FROM_SINGLE, singles=folder, variant="aux-g", steps=1)
    return folder


def stage_1_of(task: str, singles: Path) -> Path:
    (found,) = singles.glob(f"{task}-seed0-*")
    return found


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("variant", ["single", "aux-head", "aux-g", "aux-nas"])
def test_every_variant_begins_as_the_single_task(
    variant: str, data: AuxData, singles: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in singles.rglob("*") if path.is_file()}
    result = aux_nas(
        "normals", "depth", data, FROM_SINGLE, variant=variant, out=tmp_path, singles=singles
    )  # fmt: skip
    alone = json.loads((stage_1_of("normals", singles) / "result.json").read_text())
    assert (alone["steps"], alone["config"]["lr"], alone["config"]["variant"]) == (3, 1e-2, "single")
    # Evaluated at update 0: what stage 1 ended with.
    assert result.curve["step"] == [0, 2]
    for name, value in alone["metrics"]["normals"].items():
        assert result.curve[f"normals/{name}"][0] == pytest.approx(value, abs=1e-6)
    assert math.isnan(result.curve["loss/normals"][0])
    assert all(len(gates) == 3 for gates in result.gates.values())
    assert json.loads((tmp_path / "result.json").read_text())["curve"]["loss/normals"][0] is None
    # All variants share stage 1, which nothing touches again.
    assert {path: path.stat().st_mtime_ns for path in singles.rglob("*") if path.is_file()} == before
    started = {path.split("/")[-2].split("-")[0] for path in result.start}
    assert started == {"normals"} | ({"depth"} if variant != "single" else set())


@pytest.mark.parametrize("variant", ["aux-head", "aux-nas"])
def test_auxiliaries_begin_as_they_were_trained(variant: str, data: AuxData, singles: Path) -> None:
    config = AuxConfig.of(FROM_SINGLE, {"variant": variant})
    starts = {task: stage_1_of(task, singles) / "primary.safetensors" for task in ("normals", "depth")}
    _, network = prepare("normals", "depth", data, config, seed=7, starts=starts)
    primary, depth = (load_primary(stage_1_of(task, singles)) for task in ("normals", "depth"))
    assert same(network.primary.plain(), primary)
    if variant == "aux-head":
        assert same(network.heads[0], depth.head)
    else:
        assert same(network.auxiliaries[0].plain(), depth)


def test_stage_1_trains_the_networks_of_stage_2(data: AuxData, tmp_path: Path) -> None:
    """An auxiliary of its own code is trained with it; for Aux-Head, with the primary's."""
    for variant in ("aux-g", "aux-head"):
        config = {**FROM_SINGLE, "variant": variant, "auxiliary_code": space.to_string(WIDER)}
        aux_nas("normals", "depth", data, config, singles=tmp_path, weights={"depth": 2.0, "edges": 3.0})
    codes = {
        (run.name.split("-")[0], json.loads((run / "config.json").read_text())["config"]["primary_code"])
        for run in tmp_path.iterdir()
    }
    narrow, wide = space.to_string(CODE), space.to_string(WIDER)
    assert codes == {("normals", narrow), ("depth", narrow), ("depth", wide)}
    weights = [json.loads(p.read_text())["config"]["weights"] for p in tmp_path.glob("*/config.json")]
    assert sorted(map(str, weights)) == sorted(["{}", "{'depth': 2.0}", "{'depth': 2.0}"])


def test_a_start_may_differ_by_seed(data: AuxData, tmp_path: Path) -> None:
    config = {**FROM_SINGLE, "begin": "random", "variant": "single"}
    for seed in (0, 1):
        aux_nas("normals", (), data, config, seed=seed, out=tmp_path / f"seed{seed}")
    start = {"normals": str(tmp_path / "seed{seed}" / "primary.safetensors")}
    for seed in (0, 1):
        _, network = prepare("normals", (), data, AuxConfig.of(config, {"start": start}), seed=seed)
        assert same(network.primary.plain(), load_primary(tmp_path / f"seed{seed}"))
    with pytest.raises(IntegrityError, match=r"can't start 'normals' .*seed2.*No such file"):
        prepare("normals", (), data, AuxConfig.of(config, {"start": start}), seed=2)


def test_a_file_that_does_not_fit_is_named_with_the_reason(data: AuxData, singles: Path) -> None:
    depth = str(stage_1_of("depth", singles) / "primary.safetensors")
    config = {**FROM_SINGLE, "begin": "random"}
    code = space.to_string(CODE)
    with pytest.raises(IntegrityError) as caught:
        aux_nas("normals", "depth", data, config, start={"normals": depth})
    assert f"can't start 'normals' (multi-resolution {code}, 3 outputs): {depth} does not hold" in str(
        caught.value
    )
    assert (
        "(head.classifier.weight is (1, 2, 1, 1) in the file, (3, 2, 1, 1) in the network, and 1 more)"
        in str(caught.value)
    )
    for variant in ("aux-nas", "aux-head"):
        with pytest.raises(IntegrityError, match=r"can't start 'scene' .* 3 outputs\): .* in the file"):
            aux_nas("normals", "scene", data, config, variant=variant, start={"scene": depth})


def test_bad_stages(data: AuxData, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"stage 1 in .*normals-seed0-\w+ diverged"):
        aux_nas("normals", "depth", data, FROM_SINGLE, single={"lr": 1e30, "steps": 4}, out=tmp_path)
    assert not (tmp_path / "result.json").exists()
    for fields, message in (
        ({"single": {"rate": 1}}, "no field 'rate'"),
        ({"single": {"rate": 1}, "begin": "random"}, "no field 'rate'"),
        ({"single": {"lr": "high"}}, "lr is 'high'"),
        ({"start": {"normals": "there"}}, "begin is 'single'"),
        ({"begin": "scratch"}, "begin is 'scratch'; expected random, single"),
    ):
        with pytest.raises(RecipeError, match=message):
            AuxConfig.of(FROM_SINGLE, fields)


def run_of(seed: int, value: float, **fields: Any) -> dict[str, Any]:
    config = json.loads(json.dumps(vars(AuxConfig.of({"variant": "aux-nas"}, fields))))
    return {
        "seed": seed,
        "status": "ok",
        "metrics": {"normals": {"mean": value}},
        "curve": {},
        "config": config,
    }


def test_variants_are_tested_against_the_checkpoint_and_its_continuation() -> None:
    values = {"checkpoint": [30, 31, 32], "single continued": [29, 30, 30], "aux-nas": [28, 28.5, 29]}
    fields = {
        "checkpoint": {"variant": "single"},
        "single continued": {"variant": "single", "begin": "single"},
    }
    runs = {
        name: [run_of(seed, v, **fields.get(name, {"begin": "single"})) for seed, v in enumerate(own)]
        for name, own in values.items()
    }
    checkpoint, single, searched = AuxComparison("normals", runs).summary()
    # Smaller angles are better.
    assert single["over checkpoint"] == pytest.approx(4 / 3)
    assert (searched["better by"], searched["over checkpoint"]) == pytest.approx((3.5 / 3, 2.5))
    assert math.isnan(single["better by"])
    # Tested once against its continuation, in that one's row.
    assert math.isnan(checkpoint["better by"])
    assert math.isnan(checkpoint["over checkpoint"])
    # Gains 2, 2.5, 3: t = 2.5 / (0.5 / sqrt(3)) with 2 degrees of freedom, p = 1 - t / sqrt(t^2 + 2).
    t = 5 * math.sqrt(3)
    assert searched["p checkpoint"] == pytest.approx(1 - t / math.sqrt(t * t + 2))
    tests = [(searched, "p"), (single, "p checkpoint"), (searched, "p checkpoint")]
    corrected = holm(np.array([row[key] for row, key in tests]))
    found = [row[key.replace("p", "p_holm", 1)] for row, key in tests]
    assert found == pytest.approx(corrected.tolist())


def test_a_variant_is_tested_against_the_single_task_that_was_trained_alike() -> None:
    """A higher rate helps every network: a variant that has it is not better for its links."""
    fields = {
        "single continued": {"variant": "single"},
        "single continued lr=0.03": {"variant": "single", "lr": 0.03},
        "aux-nas": {},
        "aux-nas lr=0.03": {"lr": 0.03},
        "aux-nas lr=0.1": {"lr": 0.1},
    }
    means = dict(zip(fields, (30, 26, 29, 26, 25), strict=True))
    runs = {
        name: [run_of(seed, means[name] + 0.1 * seed**k, **own) for seed in range(3)]
        for k, (name, own) in enumerate(fields.items())
    }
    rows = {row["variant"]: row for row in AuxComparison("normals", runs).summary()}
    # Where no single task was trained alike: the first.
    first, fast = "single continued", "single continued lr=0.03"
    assert {name: row["against"] for name, row in rows.items()} == {
        first: first, fast: first, "aux-nas": first, "aux-nas lr=0.03": fast, "aux-nas lr=0.1": first
    }  # fmt: skip
    gains = [row["better by"] for row in rows.values()]
    assert math.isnan(gains[0])
    # Seeds 0, 1, 2 have 0.1 * seed^k on top: means of 0.1, 0.1, 5/30, 0.3, 17/30 (k = 0 to 4).
    own = np.array([30 + 0.1, 26 + 0.1, 29 + 0.5 / 3, 26 + 0.3, 25 + 1.7 / 3])
    assert gains[1:] == pytest.approx([own[0] - own[1], own[0] - own[2], own[1] - own[3], own[0] - own[4]])


def test_what_starts_otherwise_is_tested_against_neither() -> None:
    """Else a variant from trained networks would seem to gain what their training gained, or the reverse."""
    fields: dict[str, dict[str, Any]] = {
        "checkpoint": {"variant": "single"},
        "aux-nas": {"begin": "single"},
        "single begin=random": {"variant": "single"},
        "single begin=random lr=0.1": {"variant": "single", "lr": 0.1},
        "aux-g begin=random": {"variant": "aux-g"},
    }
    runs = {
        name: [run_of(seed, 30 - k + 0.1 * seed**k, **own) for seed in range(3)]
        for k, (name, own) in enumerate(fields.items())
    }
    rows = {row["variant"]: row for row in AuxComparison("normals", runs).summary()}
    first = "single begin=random"
    against = [row["against"] for row in rows.values()]
    assert against == ["", "", first, first, first]
    nan = [math.isnan(row["better by"]) for row in rows.values()]
    assert nan == [True, True, True, False, False]
    nan = [math.isnan(row["over checkpoint"]) for row in rows.values()]
    assert nan == [True, False, True, True, True]


def test_networks_given_by_hand_are_a_row_as_well(data: AuxData, tmp_path: Path) -> None:
    config = {**FROM_SINGLE, "begin": "random", "single": {}}
    for seed in (0, 1):
        aux_nas("normals", (), data, config, seed=seed, variant="single", out=tmp_path / f"seed{seed}")
    start = {"normals": str(tmp_path / "seed{seed}" / "primary.safetensors")}
    found = compare(
        "normals", "depth", data, config | {"start": start}, out=tmp_path / "a", seeds=2, workers=0,
        variants=("single", "aux-g"),
    )  # fmt: skip
    assert list(found.runs) == ["checkpoint", "single continued", "aux-g"]
    for seed, run in enumerate(found.runs["checkpoint"]):
        kept = json.loads((tmp_path / f"seed{seed}" / "result.json").read_text())
        assert run["metrics"]["normals"] == pytest.approx(kept["metrics"]["normals"], abs=1e-6)
    assert AuxComparison.open(tmp_path / "a").summary()[0]["variant"] == "checkpoint"


def test_one_checkpoint_is_paired_with_all(data: AuxData, tmp_path: Path) -> None:
    config = {**FROM_SINGLE, "single": {"steps": 3}}
    with pytest.raises(
        InvalidArgumentError,
        match=r"'single continued' and 'aux-nas lr=0.1' start from different networks of normals, as stage 1 "
        r"has another lr; give `single` one value for both, such as --single lr=0.001: all variants",
    ):
        compare(
            "normals", "depth", data, config, out=tmp_path / "a", seeds=1,
            variants=("single", "aux-nas lr=0.1", "aux-nas lr=0.1 begin=random"),
        )  # fmt: skip
    assert not (tmp_path / "a").exists()


def test_another_comparisons_folder_is_refused_before_stage_1(data: AuxData, tmp_path: Path) -> None:
    compare("normals", "depth", data, FROM_SINGLE, out=tmp_path, seeds=1, variants=("single",), workers=0)
    (tmp_path / "single-continued-seed0" / "result.json").unlink()
    kept = sorted(tmp_path.rglob("*"))
    changed = {**FROM_SINGLE, "single": {"steps": 3, "lr": 2e-2}}
    with pytest.raises(IntegrityError, match="single-continued-seed0 has a run with another config; give"):
        compare("normals", "depth", data, changed, out=tmp_path, seeds=1, variants=("single",), workers=0)
    assert sorted(tmp_path.rglob("*")) == kept


def test_a_comparison_from_single_tasks(data: AuxData, tmp_path: Path) -> None:
    variants = ("single", "aux-nas", "aux-g begin=random")
    found = compare(
        "normals", "depth", data, FROM_SINGLE, out=tmp_path / "a", seeds=1, variants=variants, workers=2
    )
    assert list(found.runs) == ["checkpoint", "single continued", "aux-nas", "aux-g begin=random"]
    (checkpoint,) = found.runs["checkpoint"]
    for name in ("single continued", "aux-nas"):
        (run,) = found.runs[name]
        assert run["curve"]["normals/mean"][0] == pytest.approx(checkpoint["metrics"]["normals"]["mean"])
        assert run["steps"] == 2
    assert found.runs["aux-g begin=random"][0]["start"] == {}
    assert [row["variant"] for row in found.summary()] == list(found.runs)
    plots.runs(found).savefig(tmp_path / "plot.png")
    # Workers give what this process gives, and the same call resumes: nothing is trained again.
    here = compare(
        "normals", "depth", data, FROM_SINGLE, out=tmp_path / "b", seeds=1, variants=variants, workers=0
    )
    drop = ("seconds", "curve", "start")
    for name, runs in found.runs.items():
        one, other = ({k: v for k, v in r[0].items() if k not in drop} for r in (runs, here.runs[name]))
        assert one == other
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "b").rglob("result.json")}
    again = compare(
        "normals", "depth", data, FROM_SINGLE, out=tmp_path / "b", seeds=1, variants=variants, workers=0
    )
    assert again.runs == here.runs
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
