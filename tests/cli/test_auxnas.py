"""`nasbench-mr auxnas`: a run, a comparison, a ranking, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nasbench_mr
from nasbench_mr import cost, space
from nasbench_mr.cli import main
from nasbench_mr.search.auxnas import scenes

REPOSITORY = Path(__file__).parents[2]
CODE = [8, 8, 1, 1, 8, 1, 1, 1, 8, 8, 1, 1, 1, 1, 8, 8, 8, 1, 1, 1, 1, 1, 8, 8, 8, 8, 8]
TINY = {
    "primary_code": space.to_string(CODE), "options": {"width_mult": 0.25}, "steps": 4, "batch_size": 3,
    "lr": 1e-2, "eval_every": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes.make(tmp_path_factory.mktemp("rooms") / "indoor", train=8, val=3, size=(32, 32))


def test_command(rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"--set={k}={json.dumps(v)}" for k, v in TINY.items()]
    common = ["auxnas", "segmentation", "normals", "--root", str(rooms), *settings]
    assert main([*common, "--out", str(tmp_path / "run"), "--seed", "2"]) == 0
    out = capsys.readouterr().out
    assert "segmentation (aux-nas): mIoU" in out
    assert f"{cost.params([CODE], 40, 0.25)[0]:,} parameters; 4 updates" in out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 2
    bench = nasbench_mr.load(tmp_path / "run" / "release")
    found = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]["segmentation"]
    assert bench.query(CODE, "indoor-segmentation-aux-nas-normals")["mIoU"] == pytest.approx(found["mIoU"])
    here = ["--workers", "0", "--out", str(tmp_path / "runs")]
    compare = [*common, "--compare", "2", "--set=steps=1", *here]
    drawn = ["--plot", str(tmp_path / "plot.png"), "--also", "aux-nas cut=0.5"]
    assert main([*compare, *drawn, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    variants = ["single", "aux-head", "aux-g", "aux-nas", "aux-nas cut=0.5"]
    assert [row["variant"] for row in printed["summary"]] == variants
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    assert main(["plot", str(tmp_path / "runs"), "--out", str(tmp_path / "again.png")]) == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "plot.png").read_bytes()
    kept = tmp_path / "runs" / "auxnas.json"
    for damage in ("", "[]", kept.read_text().replace('"to_primary"', '"to_nothing"')):
        kept.write_text(damage)
        assert main(["plot", str(tmp_path / "runs"), "--out", str(tmp_path / "no.png")]) == 2
        error = capsys.readouterr().err
        assert "auxnas.json holds no comparison" in error
        assert error.count("\n") == 1
    assert not (tmp_path / "no.png").exists()
    assert main([*common, "--compare", "2"]) == 2
    assert "--out" in capsys.readouterr().err
    for wrong, message in (
        (["auxnas"], "PRIMARY"),
        ([*common, "--plot", "x.png"], "give --compare"),
        ([*common, "--also", "aux-nas cut=0.5"], "give --compare"),
        ([*common, "--workers", "2"], "--workers is for comparisons: give --compare N"),
        ([*compare, "--engine", "rai"], "no engine 'rai'"),
        ([*common, "--from", "single", "--single", "lrr=1"], "no field 'lrr': did you mean 'lr'"),
        ([*compare, "--plot", "x.gif"], "ends in .png"),
        ([*common, "--max-macs", "1G"], "--max-macs is for choosing the primary's code, but a code is given"),
        (common[:5], "--primary-code CODE, or --task T"),
        ([*common, "--device", "gpu"], "device 'gpu'"),
        ([*common, "--limit", "-1"], "limit is -1"),
    ):
        assert main(wrong) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert main([*common[:3], "--root", str(rooms), "--set=variant=none"]) == 2
    capsys.readouterr()
    assert main([*common, "--data-option", "train=many"]) == 2
    assert "option train is 'many'; expected int" in capsys.readouterr().err


def test_the_code_comes_from_a_release(
    tiny_release: Path, rooms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = nasbench_mr.load(tiny_release)
    limit = float(np.median(cost.macs(bench.codes("seg"))))
    best = bench.best("seg", 1, max_macs=limit)[0]
    command = [
        "auxnas",
        "normals",
        "depth",
        "--root",
        str(rooms),
        "--release",
        str(tiny_release),
        "--task",
        "seg",
    ]
    options = [
        "--max-macs",
        str(limit),
        '--set=options={"width_mult": 0.05}',
        "--set=steps=1",
        "--limit",
        "4",
        "--json",
    ]
    assert main([*command, *options, "--variant", "single"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["primary_code"] == space.to_string(best.code)


def test_a_ranking_of_helpers(tiny_release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["auxnas", "--rank", "seg", "--release", str(tiny_release)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[2].split()[0] == "video"


def test_a_diverged_run_is_in_a_comparison_and_its_tables(
    rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "auxnas",
        "segmentation",
        "normals",
        "--root",
        str(rooms),
        "--primary-code",
        TINY["primary_code"],
    ]
    common = [*command, '--set=options={"width_mult": 0.25}', "--set=batch_size=3"]
    alone = [*common, "--set=steps=4", "--set=lr=1e30", "--out", str(tmp_path / "alone")]
    for _ in range(2):
        assert main(alone) == 0
        assert "DIVERGED" in capsys.readouterr().out
    compared = [*common, "--set=steps=2", "--compare", "1", "--also", "aux-nas lr=1e20 gate_lr=1e20"]
    compared += ["--workers", "0"]
    assert main([*compared, "--seed", "5", "--out", str(tmp_path / "compared")]) == 0
    assert {p.name.rpartition("-")[2] for p in (tmp_path / "compared").glob("*-seed*")} == {"seed5"}
    assert main([*common, "--single", "lr=0.1", "--out", str(tmp_path / "single")]) == 2
    assert "give --from single" in capsys.readouterr().err
    assert main([*compared, "--variant", "aux-g", "--out", str(tmp_path / "compared")]) == 2
    assert "--variant would have no effect" in capsys.readouterr().err


RECIPES = [path for kind in ("toml", "json") for path in (REPOSITORY / "docs").glob(f"*.{kind}")]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_a_recipe_of_the_documents_trains(
    recipe: Path, rooms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where it weighs tasks that are not trained: several experiments share it."""
    quick = ["--set", "steps=1", "--set", "batch_size=2", "--limit", "4", "--json"]
    assert (
        main(["auxnas", "segmentation", "normals", "--root", str(rooms), "--recipe", str(recipe), *quick])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["steps"] == 1


DOCUMENT = REPOSITORY / "docs" / "aux_nas.md"


def documented() -> list[list[str]]:
    """Return the arguments of the document's commands, `nasbench-mr auxnas` and those after it."""
    text = DOCUMENT.read_text("utf-8").replace("\\\n", " ")
    common = re.search(r'^export COMMON="(.*)"$', text, re.MULTILINE)
    assert common is not None
    found = re.findall(r"(?:^|`)nasbench-mr (auxnas [^`\n]*)", text, re.MULTILINE)
    lines = [line.replace("$COMMON", common[1]) for line in found]
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("command", documented(), ids=lambda command: "-".join(command[1:3]))
def test_documented_experiments_run(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they stand, but in a few steps on a few small images."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder, shape, high in ((split, (32, 32, 3), 256), (f"{split}annot", (32, 32), 11)):
            (tmp_path / "camvid" / folder).mkdir(parents=True)
            for k in range(10):
                picture = Image.fromarray(rng.integers(0, high, shape).astype(np.uint8))
                picture.save(tmp_path / "camvid" / folder / f"{k}.png")
    scenes.make(tmp_path / "indoor", train=4, val=2, size=(36, 48))
    monkeypatch.setenv("NASBENCH_MR_DATA", str(tmp_path))
    monkeypatch.chdir(REPOSITORY)
    if "--rank" in command:
        assert main(command) == 0
        assert "mini-video" in capsys.readouterr().out
        return
    small = ["--set=steps=2", "--set=batch_size=2", "--limit", "4", "--out", str(tmp_path / "out")]
    if "--compare" in command:
        small += ["--compare", "1", "--workers", "0", "--plot", str(tmp_path / "plot.png")]
    small += ["--single", "steps=1"] if "--from" in command else []
    assert main([*command, *small]) == 0
    assert command[1] in capsys.readouterr().out or "--compare" in command
    assert (tmp_path / "plot.png").is_file() == ("--compare" in command)
