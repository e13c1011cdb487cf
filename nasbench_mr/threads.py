"""How many threads torch computes with: sums depend on how they are shared out, and so would all numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


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
