"""Trainers that cost nothing, for tests of what runs them. Workers import them by name, without torch.

`data` is a folder where they leave notes; the seed says what goes wrong in `faulty`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nasbench_mr import cost
from nasbench_mr.errors import DatasetError, IntegrityError, RecipeError, StorageError

#: Seeds of `faulty`.
OK, CORRUPT, DIVERGED, MEMORY, HANGS, HANGS_IN_C, EXITS, KILLED, BEYOND, ONCE = range(10)


def top1(code: tuple[int, ...], seed: int) -> float:
    """Return the made-up accuracy of a trial."""
    return (sum(code) + seed) % 100


def instant(code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, **options: Any) -> Any:
    """Take no time, and say that it took a second and one more for each GMAC."""
    final = top1(code, seed)
    seconds = 1 + cost.macs([code])[0] / 1e9
    curve = {
        "epoch": [1, 2],
        "top1": [final / 2, final],
        "top5": [final, 100],
        "loss": [2.0, 1.0],
        "lr": [0.1, 0],
        "seconds": [seconds / 2, seconds],
    }
    metrics = {"top1": final, "top5": 100}
    return _result("ok", None, metrics, curve, seconds, os.environ.get("CUDA_VISIBLE_DEVICES", "fake"))


def _result(status: str, error: str | None, metrics: Any, curve: Any, seconds: float, device: str) -> Any:
    return SimpleNamespace(
        status=status, error=error, metrics=metrics, curve=curve, epochs=2, seconds=seconds, device=device
    )


def short(code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, **options: Any) -> Any:
    """Take 50 ms."""
    time.sleep(0.05)
    return instant(code, recipe, seed)


def noting(
    code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, *, data: str, **_: Any
) -> Any:
    """Add its code and seed to the file `trials`, and print."""
    print("a trainer's print")
    with open(Path(data) / "trials", "a") as file:
        file.write(f"{','.join(map(str, code))} {seed}\n")
    return instant(code, recipe, seed)


def faulty(code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, **options: Any) -> Any:
    """Goes wrong as the seed says, every time; `ONCE` only the first time."""
    noting(code, recipe, seed, data=options["data"])
    result = instant(code, recipe, seed)
    if seed == CORRUPT:
        raise DatasetError("photo.jpg is not an image:\n  broken data stream")
    if seed == DIVERGED:
        return _result("diverged", "the loss is nan in epoch 1", {"top1": float("nan")}, {}, 1.0, "fake")
    if seed == MEMORY:
        raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 20 GiB")
    if seed == HANGS:
        time.sleep(1000)
    if seed == HANGS_IN_C:
        ctypes.PyDLL(None).sleep(1000)  # Holds the interpreter's lock all the time.
    if seed == EXITS:
        os._exit(3)
    if seed == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == BEYOND:
        result.metrics["top1"] = 101.0
    if seed == ONCE and not (gone := Path(options["data"]) / "once").exists():
        gone.touch()
        raise RuntimeError("the first time always fails")
    return result


def bad_curve(code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, **options: Any) -> Any:
    """Has a learning curve whose last value is beyond the metric's bounds (seed 1)."""
    result = instant(code, recipe, seed)
    if seed == 1:
        result.curve["top1"][-1] = 101.0
    return result


def hopeless(code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, **options: Any) -> Any:
    """Fails, every time."""
    raise RuntimeError("nothing works")


def stopping(code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, **options: Any) -> Any:
    """Meets what stops a build: a recipe that does not fit (seed 1)."""
    if seed == 1:
        raise RecipeError("the data set has 4 classes")
    return instant(code, recipe, seed)


def filling(code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, **options: Any) -> Any:
    """Find a full disk, as the system says it (seed 1) and as we do (2)."""
    if seed == 1:
        raise OSError(errno.ENOSPC, "No space left on device")
    if seed == 2:
        raise StorageError("can't write weights: the disk is full")
    return instant(code, recipe, seed)


def on_gpu(code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, **options: Any) -> Any:
    """Use what looks like a GPU, and breaks it (seed 1) until its process is another. Says which it is."""
    sys.modules["torch"] = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True))  # type: ignore[assignment]
    if seed == 1 or _broken:
        _broken.append(seed)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    result = instant(code, recipe, seed)
    result.device = f"process {os.getpid()}"
    return result


_broken: list[int] = []


def unlucky(
    code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, *, data: str, **_: Any
) -> Any:
    """Has no data the first time, and fails for reasons of its own ever after."""
    first = not (Path(data) / "trials").exists()
    noting(code, recipe, seed, data=data)
    raise DatasetError("no photo") if first else RuntimeError("boom")


def latin1(code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, **options: Any) -> Any:
    """Names a file whose name is no UTF-8, as Python gives it."""
    raise RuntimeError(f"no photo {os.fsdecode(b'caf' + bytes([0xE9]))}.jpg")


def endless(
    code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, *, data: str, **_: Any
) -> Any:
    """Leaves its process number in the file `pids`, and never ends."""
    with open(Path(data) / "pids", "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(1000)


def resuming(
    code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, *, checkpoint: Path, **_: Any
) -> Any:
    """Fails once, leaving a checkpoint, which the next attempt finds; seed 1 finds its own damaged."""
    if checkpoint.exists() and seed == 1:
        raise IntegrityError(f"{checkpoint}: not a complete checkpoint")
    if not checkpoint.exists():
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.touch()
        raise RuntimeError("killed in the middle")
    return instant(code, recipe, seed)


def telling(
    code: tuple[int, ...], recipe: Any, seed: int = 0, device: Any = None, *, on_epoch: Any = None, **_: Any
) -> Any:
    """Take no time, and tell the points of the learning curve as they come."""
    result = instant(code, recipe, seed)
    for k in range(2):
        on_epoch({name: float(values[k]) for name, values in result.curve.items()})
    return result


def note_epoch(trial: Any, point: dict[str, float]) -> None:
    """Add the seed, the epoch and the accuracy to the file that $NOTES names."""
    with open(os.environ["NOTES"], "a") as file:
        file.write(f"{trial.seed} {point['epoch']:g} {point['top1']:g}\n")
