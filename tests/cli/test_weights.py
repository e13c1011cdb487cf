"""The command `weights`: from a build's folder to a part that is installed and listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import nasbench_mr
from nasbench_mr import cli, network, tasks, weights

CODE = (8, 8, 1, 1, 8, 1, 1, 1, 8, 8, 1, 1, 1, 1, 8, 8, 8, 1, 1, 1, 1, 1, 8, 8, 8, 8, 8)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return the folder of a build that kept one network of mini, with random weights."""
    found = nasbench_mr.load("mini").query(CODE, "mini-cls", seed=0)
    told = weights.Trained(
        code=CODE, task="mini-cls", seed=0, recipe="mini-cls", digest="0" * 64,
        metrics={m.name: found[m.name] for m in tasks.get("mini-cls").metrics}, width_mult=0.5,
        stem_strides=(2, 2), version="1.0.0",
    )  # fmt: skip
    weights.save(tmp_path / "out/weights/a.safetensors", network.build(CODE, "mini-cls"), told)
    return tmp_path / "out"


def test_weights_are_packed_fetched_and_listed(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["weights"]) == 0
    assert capsys.readouterr().out == "no weights are installed\n"
    (tmp_path / "dist").mkdir()
    assert cli.main(["weights", "pack", str(out), "mini", "--out", str(tmp_path / "dist"), "--json"]) == 0
    packed = json.loads(capsys.readouterr().out)
    assert packed["path"].endswith("mini-weights-1.1.0.tar.gz")
    assert cli.main(["weights", "fetch", packed["path"], "--sha256", packed["sha256"]]) == 0
    assert "the weights of mini@1.1.0: 1 networks, installed in " in capsys.readouterr().out
    assert cli.main(["weights", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["release"], row["networks"], row["tasks"]) == ("mini@1.1.0", 1, "mini-cls")
    assert row["tables"] == "at hand"
    assert cli.main(["weights", "mini"]) == 0
    listed = capsys.readouterr().out
    assert "mini-cls" in listed
    assert "8_8-1_1_1_8-" in listed
    net = network.load_pretrained("mini", CODE, "mini-cls")
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "no weights of 'nothing' are installed (there are: none)"),
        (["fetch"], "expected nothing, a RELEASE, fetch FILE|URL, or pack DIR RELEASE"),
        (["fetch", "none.tar.gz"], "'none.tar.gz' is neither a file nor an http(s) address"),
        (["fetch", "https://example.org/w.tar.gz"], "give --sha256 HASH"),
        (["pack", ".", "mini"], "no weights in .; nasbench-mr build --keep-weights writes some"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["weights", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
