"""Checkpoints: the state of a training in one safetensors file, written whole or not at all.

    parts = {"network": net, "optimizer": optimizer}
    checkpoints.save(path, parts, run={"seed": 0}, progress={"epoch": 3})
    with tensors.intact(path):
        epoch = int(checkpoints.resume(path, parts, run={"seed": 0})["epoch"])

`run` says which training a checkpoint is of: another one refuses it. `progress` is whatever else a training
needs to continue, as JSON. `nasbench_mr.tensors` is for a network's weights alone. Needs the extra `build`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasbench_mr import tensors as stored
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.tensors import StrPath, intact

#: What a training consists of, by names without "/".
Stateful = Mapping[str, nn.Module | torch.optim.Optimizer]


def save(path: StrPath, parts: Stateful, run: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
    """Write the parts' tensors with the JSON-ready `run` and `progress`."""
    tensors: dict[str, Tensor] = {}
    for part, own in parts.items():
        if isinstance(own, nn.Module):
            tensors |= {f"{part}/{name}": value for name, value in own.state_dict().items()}
            continue
        for weight, state in own.state_dict()["state"].items():
            found = {f"{part}/{weight}/{name}": value for name, value in state.items()}
            tensors |= {name: value for name, value in found.items() if isinstance(value, Tensor)}
    stored.write(path, tensors, {"run": json.dumps(run, sort_keys=True), "progress": json.dumps(progress)})


def resume(path: StrPath, parts: Stateful, run: Mapping[str, Any]) -> dict[str, Any]:
    """Load the tensors of a checkpoint of this very run into the parts, and return its `progress`."""
    with intact(path):
        tensors, about = stored.read(path)
        # Compared as text, as a value may be NaN, and tuples are read back as lists.
        expected, found = _texts(run), _texts(json.loads(about["run"]))
        if found != expected:
            differ = [key for key in sorted(found.keys() | expected) if found.get(key) != expected.get(key)]
            raise InvalidArgumentError(
                f"{path} is the checkpoint of another run: {_told(found, differ)}; expected "
                f"{_told(expected, differ)}; give another path, or delete it"
            )
        progress = json.loads(about["progress"])
        if not isinstance(progress, dict):
            raise ValueError(f"its progress is {type(progress).__name__}; expected an object")
        by_part: dict[str, dict[str, Tensor]] = {part: {} for part in parts}
        for name, value in tensors.items():
            part, key = name.split("/", 1)
            by_part[part][key] = value
        for part, own in parts.items():
            if isinstance(own, nn.Module):
                own.load_state_dict(by_part[part])
            else:
                _restore(own, by_part[part])
    return progress


def _texts(value: Any, name: str = "") -> dict[str, str]:
    """Return a run's settings as JSON by name, those in a mapping by "mapping.name"."""
    if not isinstance(value, Mapping):
        return {name: json.dumps(value)}
    within = f"{name}." if name else ""
    return {k: text for key, own in value.items() for k, text in _texts(own, f"{within}{key}").items()}


def _told(texts: Mapping[str, str], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {texts.get(name, 'not given')}" for name in names)


def _restore(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/")
        # Fused optimisers walk through memory, so what belongs to a weight must lie as it does.
        like = weights[int(index)]
        if value.ndim and value.shape != like.shape:
            raise ValueError(
                f"{name} of weight {index} is {tuple(value.shape)}; expected {tuple(like.shape)}"
            )
        own = torch.empty_like(like).copy_(value) if value.ndim else value
        state.setdefault(int(index), {})[name] = own
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
