"""Where torch computes: on which device, and with how many threads.

Sums depend on how threads share them out, and so would all numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nasbench_mr.errors import DeviceError
from nasbench_mr.extras import requires

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def torch_threads(count: int = 1) -> Iterator[None]:
    """Let torch compute with so many threads, in a block or a decorated function; as before afterwards.

    Where torch is not installed, nothing happens.
    """
    try:
        import torch
    except ModuleNotFoundError:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def open_device(name: str) -> torch.device:
    """Return the device "cpu", "cuda" or "cuda:1"; raise `DeviceError` where this machine lacks it."""
    with requires("search", "a device"):
        import torch
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and (kind == "cpu" or not index.isdecimal())):
        raise DeviceError(f"device is {name!r}; expected cpu, cuda or cuda:NUMBER")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        has = f"has {count} CUDA devices" if count else "has no CUDA device that PyTorch can use"
        raise DeviceError(f"device is {name!r}, and this machine {has}")
    return torch.device("cuda", int(index or 0))
