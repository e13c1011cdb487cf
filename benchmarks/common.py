"""What the benchmark scripts share: the published tables, and a table of figures against their targets."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from nasbench_mr.cli.command import format_table

REPOSITORY = Path(__file__).resolve().parents[1]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Figure:
    """One measured figure; `target` says what it should reach, `met` whether it does."""

    name: str
    measured: str
    target: str
    met: bool | None


def report(title: str, figures: Sequence[Figure]) -> None:
    """Print the figures as a table."""
    verdict = {True: "met", False: "MISSED", None: "-"}
    rows = [
        {"figure": f.name, "measured": f.measured, "target": f.target, "": verdict[f.met]} for f in figures
    ]
    print(f"\n## {title}\n\n{format_table(rows)}", flush=True)


def published_folder() -> Path | None:
    """Return the published pickles: in $NASBENCH_MR_PUBLISHED, ../shared/upstream, or the download cache."""
    from nasbench_mr.release import home

    configured = os.environ.get("NASBENCH_MR_PUBLISHED")
    candidates = [Path(configured)] if configured else []
    candidates += [REPOSITORY.parent / "shared" / "upstream", home() / "cache" / "published"]
    return next((c for c in candidates if (c / "data").is_dir()), None)


def published_release() -> Path:
    """Return a release of the published tables, in a temporary home; ends the script where there are none."""
    from nasbench_mr.data_builders import published

    folder = published_folder()
    if folder is None:
        sys.exit("the benchmark needs the published tables: nasbench-mr fetch")
    os.environ["NASBENCH_MR_HOME"] = tempfile.mkdtemp(prefix="nasbench-mr-bench-")
    return published.import_release(folder).path


def in_parallel(function: Callable[[Any], Any], arguments: Iterable[Any]) -> list[Any]:
    """Return the function's results, from one process a core with one thread each."""
    with ProcessPoolExecutor(CORES, get_context("spawn"), _one_thread) as pool:
        return list(pool.map(function, arguments))


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def cold(script: str, *arguments: str, rounds: int = 11) -> float:
    """Median wall-clock seconds of a fresh Python process running `script`."""
    return cold_many([(script, *arguments)], rounds)[0]


def cold_many(commands: Sequence[tuple[str, ...]], rounds: int = 11) -> list[float]:
    """Return the same for several scripts in turn, so that a change of the machine's load hits all alike."""
    times: list[list[float]] = [[] for _ in commands]
    for _ in range(rounds + 1):
        for k, command in enumerate(commands):
            start = time.perf_counter()
            # -P: the installed package, not the folder of its name in the repository.
            subprocess.run([sys.executable, "-P", "-c", *command], check=True, stdout=subprocess.DEVNULL)
            times[k].append(time.perf_counter() - start)
    # The first round warms the disk cache.
    return [statistics.median(t[1:]) for t in times]
