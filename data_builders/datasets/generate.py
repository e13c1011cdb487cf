"""What the generators share: a new folder, a random stream for each sample, work over processes, textures."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nasbench_mr import files
from nasbench_mr.errors import DatasetError, InvalidArgumentError

Floats = npt.NDArray[np.float64]
Job = TypeVar("Job")
Result = TypeVar("Result")


@contextlib.contextmanager
def new_folder(root: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to fill, which becomes `root` when the block ends without an error.

    Raises:
        DatasetError: there is something at `root`.
    """
    path = Path(root)
    if path.exists():
        raise DatasetError(f"{path} exists; a data set is made in a new folder")
    with files.atomic_folder(path) as folder:
        yield folder


def stream(seed: int, *place: int) -> np.random.Generator:
    """The generator of one sample: its own, so that neither order nor number of the others matters."""
    return np.random.default_rng([seed, *place])


def need(value: float, name: str, low: float, high: float) -> None:
    """Raises unless `value` is in [low, high]."""
    if not low <= value <= high:
        raise InvalidArgumentError(f"{name} is {value}; expected {low:g} to {high:g}")


def each(
    function: Callable[[Job], Result], jobs: Sequence[Job], title: str, workers: int, progress: bool
) -> list[Result]:
    """`function` of every job, in order, over so many processes."""
    from tqdm import tqdm

    need(workers, "workers", 1, 1024)
    with contextlib.ExitStack() as stack:
        if workers == 1:
            results: Iterator[Result] = map(function, jobs)
        else:
            # Forking a process that has threads can deadlock; the caller may have started some.
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(workers, context))
            results = pool.map(function, jobs, chunksize=max(1, len(jobs) // (8 * workers)))
        return list(tqdm(results, title, len(jobs), unit="sample", disable=None if progress else True))
