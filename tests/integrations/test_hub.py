"""Networks as models of Hugging Face's hub: saved to a folder and loaded from it, without a network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nasbench_mr import network, space, tasks, weights
from nasbench_mr.errors import IntegrityError, InvalidArgumentError, ReleaseNotFoundError
from nasbench_mr.weights import Trained

hub = pytest.importorskip("huggingface_hub")
adapter = pytest.importorskip("nasbench_mr.integrations.hub")

CODE = (8, 8, 1, 1, 8, 1, 1, 1, 8, 8, 1, 1, 1, 1, 8, 8, 8, 1, 1, 1, 1, 1, 8, 8, 8, 8, 8)
OTHER = (16, *CODE[1:])
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: object, **kwargs: object) -> str:
        raise AssertionError("a folder is read without the network")

    monkeypatch.setattr(adapter, "hf_hub_download", download)


def outputs(net: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = net.eval()(IMAGES)
    return found


def test_a_network_is_saved_and_loaded(tmp_path: Path) -> None:
    made = adapter.Network(CODE, "mini-cls")
    made.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    about = {"code": space.to_string(CODE), "task": "mini-cls"}
    assert json.loads((tmp_path / "config.json").read_text()) == about
    card = hub.ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "nasbench-mr"
    assert f"The network {space.to_string(CODE)} of nasbench-mr, for the task mini-cls." in card.text
    for asked in ({}, {"code": list(CODE), "task": "mini-cls"}):
        found = adapter.Network.from_pretrained(tmp_path, **asked)
        assert not found.training
        assert torch.equal(outputs(found), outputs(made))
        assert found.trained == made.trained
    # The weights are a file as any other of this package.
    assert torch.equal(
        outputs(network.build(CODE, "mini-cls", weights=tmp_path / adapter.FILE)), outputs(made)
    )


def test_what_weights_are_of_stays_with_them(tmp_path: Path) -> None:
    """Also a width and strides that are not the task's own, and metrics."""
    told = Trained(
        code=CODE, task="mini-cls", seed=2, recipe="mini-cls", digest="0" * 64,
        metrics={"top1": 18.45, "top5": 50.5}, width_mult=0.25, stem_strides=(1, 2), version="1.0.0",
    )  # fmt: skip
    net = network.MultiResolutionNet(CODE, 10, "classification", 0.25, stem_strides=(1, 2))
    weights.save(tmp_path / "net.safetensors", net, told)
    adapter.Network(CODE, "mini-cls", weights=tmp_path / "net.safetensors").save_pretrained(
        tmp_path / "model"
    )
    found = adapter.Network.from_pretrained(tmp_path / "model")
    assert found.trained == told
    assert torch.equal(outputs(found), outputs(net))
    assert "task mini-cls: top1 18.45, top5 50.5." in (tmp_path / "model" / "README.md").read_text()
    own = replace(tasks.get("mini-cls"), name="mine")
    with pytest.raises(InvalidArgumentError, match="weights of task 'mini-cls'; expected those of 'mine'"):
        adapter.Network.from_pretrained(tmp_path / "model", task=own)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for where in (tmp_path / "none", str(tmp_path / "none"), "a/b/c"):
        with pytest.raises(
            ReleaseNotFoundError, match=r"no network in '.*': expected a folder that save_pre"
        ):
            adapter.Network.from_pretrained(where)


def test_other_networks_are_refused_by_name(tmp_path: Path) -> None:
    adapter.Network(CODE, "mini-cls").save_pretrained(tmp_path)
    with pytest.raises(
        InvalidArgumentError, match="weights of task 'mini-cls'; expected those of 'mini-seg'"
    ):
        adapter.Network.from_pretrained(tmp_path, task="mini-seg")
    with pytest.raises(InvalidArgumentError, match=r"weights of code 8_8-.*; expected those of 16_8-"):
        adapter.Network.from_pretrained(tmp_path, code=OTHER)
    with pytest.raises(InvalidArgumentError, match=r"width 0\.5; width_mult is 0\.25"):
        adapter.Network(CODE, "mini-cls", width_mult=0.25, weights=tmp_path / adapter.FILE)
    # A description that is not the weights'.
    (tmp_path / "config.json").write_text(json.dumps({"code": space.to_string(OTHER), "task": "mini-cls"}))
    with pytest.raises(InvalidArgumentError, match="expected those of 16_8-"):
        adapter.Network.from_pretrained(tmp_path)
    # Weights that only look like a network's, and none at all.
    file = tmp_path / adapter.FILE
    file.write_bytes(file.read_bytes()[:-8])
    (tmp_path / "config.json").unlink()
    with pytest.raises(IntegrityError, match="does not hold the weights of this network"):
        adapter.Network.from_pretrained(tmp_path)
    file.unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(IntegrityError, match="not a complete file of weights"):
        adapter.Network.from_pretrained(tmp_path)
