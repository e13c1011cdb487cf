"""Checkpoints: what is saved comes back; another run's and damaged ones are refused with a named error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nasbench_mr import tensors
from nasbench_mr.data_builders.training import checkpoints
from nasbench_mr.errors import IntegrityError, InvalidArgumentError

RUN = {"seed": 3, "config": {"lr": float("nan"), "size": (4, 5)}}


def training(steps: int) -> checkpoints.Stateful:
    """Return a network and its optimiser after so many steps."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), 0.1)
    advance({"network": net, "optimizer": optimizer}, steps)
    return {"network": net, "optimizer": optimizer}


def advance(parts: checkpoints.Stateful, steps: int) -> None:
    for k in range(steps):
        parts["optimizer"].zero_grad()
        parts["network"](torch.full((2, 2, 4, 4), float(k + 1)) + torch.arange(4.0)).square().sum().backward()
        parts["optimizer"].step()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    checkpoints.save(tmp_path / "a", training(2), RUN, {"step": 2, "loss": [1.5]})
    return tmp_path / "a"


def test_a_resumed_training_continues_as_if_it_had_not_stopped(path: Path) -> None:
    straight, resumed = training(2), training(0)
    assert checkpoints.resume(path, resumed, RUN) == {"step": 2, "loss": [1.5]}
    for parts in (straight, resumed):
        advance(parts, 3)
    for name, value in straight["network"].state_dict().items():
        assert torch.equal(value, resumed["network"].state_dict()[name]), name
    moment = resumed["optimizer"].state_dict()["state"][0]["exp_avg"]
    assert moment.stride() == next(resumed["network"].parameters()).stride()


def test_another_runs_checkpoint_is_refused(path: Path) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"a is the checkpoint of another run: seed 3; expected seed 4"
    ):
        checkpoints.resume(path, training(0), RUN | {"seed": 4})


def altered(path: Path, about: dict[str, str], tensors: dict[str, Any] | None = None) -> None:
    """Write the checkpoint with other metadata, and tensors added, replaced or (None) dropped."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()} | (tensors or {})  # noqa: SIM118
        about = file.metadata() | about
    save_file({k: v for k, v in kept.items() if v is not None}, path, about)


@pytest.mark.parametrize(
    ("about", "tensors"),
    [
        ({"progress": "[]"}, {}),
        ({"progress": "3"}, {}),
        ({"progress": "{"}, {}),
        ({"run": "["}, {}),
        ({}, {"network/0.weight": torch.zeros(3, 2, 3, 2)}),
        ({}, {"network/0.weight": None}),
        ({}, {"network/more": torch.zeros(1)}),
        ({}, {"nowhere/0": torch.zeros(1)}),
        ({}, {"loose": torch.zeros(1)}),
        ({}, {"optimizer/99/exp_avg": torch.zeros(3)}),
        ({}, {"optimizer/0/exp_avg": torch.zeros(7)}),
        ({}, {"optimizer/x/exp_avg": torch.zeros(1)}),
    ],
)
def test_what_does_not_fit_is_refused(about: dict[str, str], tensors: dict[str, Any], path: Path) -> None:
    altered(path, about, tensors)
    with pytest.raises(IntegrityError, match=r"a is not a complete checkpoint \(.+\); delete it"):
        checkpoints.resume(path, training(0), RUN)


def test_metadata_of_another_run_that_is_a_list_is_another_runs(path: Path) -> None:
    altered(path, {"run": "[1, 2]"})
    with pytest.raises(InvalidArgumentError, match="another run"):
        checkpoints.resume(path, training(0), RUN)


def test_a_checkpoint_cut_anywhere_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in [*range(40), *range(40, len(whole), 53)]:
        path.write_bytes(whole[:length])
        with pytest.raises(IntegrityError, match="not a complete checkpoint"):
            checkpoints.resume(path, training(0), RUN)
    path.unlink()
    with pytest.raises(IntegrityError, match="not a complete checkpoint"):
        checkpoints.resume(path, training(0), RUN)


def test_a_block_that_trips_over_progress_says_that_the_checkpoint_is_damaged(path: Path) -> None:
    for trip in (lambda: {}["rows"], lambda: float([]), lambda: [].get, lambda: json.loads("{")):
        with pytest.raises(IntegrityError, match="not a complete checkpoint"), tensors.intact(path):
            trip()


def test_weights_alone(tmp_path: Path) -> None:
    first, second = training(2)["network"], training(0)["network"]
    tensors.save_weights(tmp_path / "w", first)
    tensors.load_weights(tmp_path / "w", second)
    assert torch.equal(first.state_dict()["0.weight"], second.state_dict()["0.weight"])
    with pytest.raises(IntegrityError, match="w does not hold the weights of this network"):
        tensors.load_weights(tmp_path / "w", nn.Linear(2, 2))
    with pytest.raises(IntegrityError, match="none does not hold the weights"):
        tensors.load_weights(tmp_path / "none", first)
