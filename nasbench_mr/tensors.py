"""Tensors in safetensors files: written whole or not at all, and checked against the network they are for.

    save_weights("net.safetensors", net)
    load_weights("net.safetensors", net)

`weights.py` adds what a network was trained for; checkpoints of the builders are such files too. Needs the
extra `search` or `build`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from nasbench_mr import files
from nasbench_mr.errors import IntegrityError, NasbenchMRError
from nasbench_mr.extras import requires

with requires("search", "nasbench_mr.tensors"):
    from torch import Tensor, nn

StrPath = str | os.PathLike[str]


@contextlib.contextmanager
def intact(path: StrPath) -> Iterator[None]:
    """Turn whatever a damaged checkpoint makes the block raise into an `IntegrityError`."""
    with requires("build", "reading weights"):
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


def save_weights(path: StrPath, network: nn.Module, about: Mapping[str, str] | None = None) -> None:
    """Write a network's weights alone, with texts about them, if any."""
    write(path, network.state_dict(), about)


def load_weights(path: StrPath, network: nn.Module) -> None:
    """Load weights that `save_weights` wrote; raise `IntegrityError` where they are not of this network."""
    try:
        with intact(path):
            tensors, _ = read(path)
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


def write(path: StrPath, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None) -> None:
    """Write tensors by name, with texts about them."""
    with requires("build", "saving weights"):
        from safetensors.torch import save as to_bytes
    flat = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # Not by save_file, whose errors do not say that the disk is full.
    files.write_bytes(path, to_bytes(flat, None if about is None else dict(about)))


def read(path: StrPath) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file, by name, and the texts about them."""
    with requires("build", "reading weights"):
        from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
