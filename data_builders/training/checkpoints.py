"""Checkpoints: the state of a training in one safetensors file, written whole or not at all.

    parts = {"network": net, "optimizer": optimizer}
    checkpoints.save(path, parts, run={"seed": 0}, progress={"epoch": 3})
    with checkpoints.intact(path):
        epoch = int(checkpoints.resume(path, parts, run={"seed": 0})["epoch"])

`run` says which training a checkpoint is of: another one refuses it. `progress` is whatever else a training
needs to continue, as JSON. Beside it: `save_weights` and `load_weights` for a network alone. Needs the extra
`build`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nasbench_mr import files
from nasbench_mr.errors import IntegrityError, InvalidArgumentError, NasbenchMRError
from nasbench_mr.extras import requires

#: What a training consists of, by names without "/".
Parts = Mapping[str, nn.Module | torch.optim.Optimizer]
Path = str | os.PathLike[str]


def save(path: Path, parts: Parts, run: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
    """Write the parts' tensors with the JSON-ready `run` and `progress`.

    Raises:
        StorageError: the disk is full or the folder can't be written.
    """
    tensors: dict[str, Tensor] = {}
    for part, own in parts.items():
        if isinstance(own, nn.Module):
            tensors |= {f"{part}/{name}": value for name, value in own.state_dict().items()}
            continue
        for weight, state in own.state_dict()["state"].items():
            found = {f"{part}/{weight}/{name}": value for name, value in state.items()}
            tensors |= {name: value for name, value in found.items() if isinstance(value, Tensor)}
    _write(path, tensors, {"run": json.dumps(run, sort_keys=True), "progress": json.dumps(progress)})


def resume(path: Path, parts: Parts, run: Mapping[str, Any]) -> dict[str, Any]:
    """Load the tensors of a checkpoint into the parts, and return its `progress`.

    Raises:
        InvalidArgumentError: it is another run's.
        IntegrityError: it is missing, damaged, or does not fit the parts.
    """
    with intact(path):
        tensors, about = _read(path)
        # Compared as text, as a value may be NaN, and tuples are read back as lists.
        expected, found = (
            json.dumps(run, sort_keys=True),
            json.dumps(json.loads(about["run"]), sort_keys=True),
        )
        if found != expected:
            raise InvalidArgumentError(
                f"{path} is the checkpoint of another run: {found}; expected {expected}; "
                "give another path, or delete it"
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


@contextlib.contextmanager
def intact(path: Path) -> Iterator[None]:
    """Turn whatever a damaged checkpoint makes the block raise into an `IntegrityError`."""
    from safetensors import SafetensorError

    try:
        yield
    except NasbenchMRError:
        raise
    # Of a file that is cut, of values of other types, and of tensors that do not fit.
    except (
        SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError,
    ) as error:  # fmt: skip
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IntegrityError(f"{path} is not a complete checkpoint ({text}); delete it") from error


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's weights alone.

    Raises:
        StorageError: the disk is full or the folder can't be written.
    """
    _write(path, network.state_dict(), None)


def load_weights(path: Path, network: nn.Module) -> None:
    """Load weights that `save_weights` wrote.

    Raises:
        IntegrityError: there is no such file, or it holds the weights of another network.
    """
    try:
        with intact(path):
            tensors, _ = _read(path)
            if why := _misfit(network, tensors):
                raise ValueError(why)
            network.load_state_dict(tensors)
    except IntegrityError as error:
        text = str(error.__cause__).splitlines()[0]
        raise IntegrityError(f"{path} does not hold the weights of this network ({text})") from error


def _misfit(network: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    """Say why tensors are not a network's; "" where they are."""
    own = network.state_dict()
    wrong = [
        f"{name} is {tuple(tensors[name].shape)} in the file, {tuple(value.shape)} in the network"
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    wrong += [f"the file lacks {name}" for name in own if name not in tensors]
    wrong += [f"the network lacks {name}" for name in tensors if name not in own]
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return wrong[0] + more if wrong else ""


def _write(path: Path, tensors: Mapping[str, Tensor], about: dict[str, str] | None) -> None:
    with requires("build", "saving checkpoints"):
        from safetensors.torch import save as to_bytes
    flat = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # Not by save_file, whose errors do not say that the disk is full.
    files.write_bytes(path, to_bytes(flat, about))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
