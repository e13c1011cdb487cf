"""What the benchmark scripts share: the published tables, and a table of figures against their targets."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import nasbench_mr
from nasbench_mr import files, measured, space
from nasbench_mr.arrays import Codes, Floats
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.cli.command import format_table, number, whole
from nasbench_mr.errors import NasbenchMRError
from nasbench_mr.predictors import evaluation

REPOSITORY = Path(__file__).resolve().parents[1]
#: The published tables of the 27 integers that docs/results/ is of: more would give other predictors.
TABLES = ("cls-50-1000", "cls-50-100", "cls-10-1000", "seg", "seg-4x", "video")
#: With the one that may be rebuilt from a copy: `tables`.
ALL_TABLES = (*TABLES, "3ddet")
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


# --- Experiments: parts that are kept, and results in the repository -------------------------------------

RESULTS = REPOSITORY / "docs" / "results"


def options(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return the arguments that every experiment has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path("runs") / name,
        metavar="FOLDER",
        help=f"the parts done, which a rerun resumes from (default runs/{name})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"all rows (default docs/results/{name}.parquet; in --keep if only some of it was asked for); "
        "with --only, each experiment has its own: FILE's name, _ and the experiment's",
    )
    return parser


def at_least(least: int) -> Callable[[str], int]:
    """Return the type of an option: a whole number that is not less."""

    def checked(text: str) -> int:
        value = whole(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is too small: expected at least {least}")
        return value

    return checked


def fraction(text: str) -> float:
    """Read a number from 0 to 1."""
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not a share: expected a number from 0 to 1")
    return value


def start(main: Callable[[], None]) -> None:
    """Run an experiment; a mistake of the user's ends it in one line and with status 2, as a command's."""
    try:
        main()
    except NasbenchMRError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).name}: interrupted; the same command resumes", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def parsed(parser: argparse.ArgumentParser, beside: Sequence[str] = ()) -> argparse.Namespace:
    """Return an experiment's arguments, `out` filled in; `whole` says whether they ask for all of it.

    Results of a part never take the place of those in the repository; those of the arguments `beside` are
    put beside the others there, see `done`.

    Raises:
        StorageError: `out` or `keep` can't be written.
    """
    args = parser.parse_args()
    where = ("keep", "out", "data", "root", "device", "workers", "only", *beside)
    args.whole = all(
        parser.get_default(key) == value for key, value in vars(args).items() if key not in where
    )
    folder = RESULTS if args.whole else args.keep
    args.out = args.out or folder / f"{parser.get_default('keep').name}.parquet"
    # Before hours of work.
    files.check_writable(args.out)
    files.check_writable(args.keep / "part")
    return args


def done(
    keep: Path,
    out: Path,
    works: Iterable[tuple[str, Callable[[], pd.DataFrame]]],
    beside: Sequence[str] = (),
) -> pd.DataFrame:
    """Return the rows of all parts, by name those kept or else the work's; write them to `out`.

    With columns `beside`, rows of that file with other values in them stay, if they are of the same release
    (where rows tell it).
    """
    frame = pd.concat([_kept(keep, name, work) for name, work in works], ignore_index=True)
    if beside and out.is_file():
        earlier = pd.read_parquet(out)
        ours = pd.MultiIndex.from_frame(frame[[*beside]])
        others = ~pd.MultiIndex.from_frame(earlier[[*beside]]).isin(ours)
        if "release" in earlier:
            others &= earlier["release"] == frame["release"].iloc[0]
        frame = pd.concat([earlier[others], frame], ignore_index=True)
    evaluation.write(frame, out)
    return frame


def _kept(folder: Path, name: str, work: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return a part's rows: those kept in the folder, or else the work's, which are kept there."""
    path = folder / f"{name}.parquet"
    if not path.is_file():
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        # A part is of the version that made it, also where a later one resumes.
        evaluation.write(work().assign(**versions()), path)
    return pd.read_parquet(path)


def versions() -> dict[str, str | int]:
    """Return what numbers depend on beside seeds, as columns of an experiment's rows."""
    import torch

    return {
        "version": nasbench_mr.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": measured.this_machine()["name"],
    }


def trained(
    bench: Benchmark, task: str, codes: Codes, seeds: Sequence[int], out: Path, where: Mapping[str, Any]
) -> Floats:
    """Return the objective of codes trained with each seed, `(n, seeds)`; NaN where a training diverged.

    Trainings are kept in `out`; `where` has the builder's data, device and workers.

    Raises:
        NasbenchMRError: one could not be done: for want of space or data, say. Nothing is known of it.
    """
    from nasbench_mr.data_builders.building import runner
    from nasbench_mr.data_builders.building.trial import Trial

    metric = bench.task(task).objective
    planned = [Trial(tuple(code), task, seed) for code in codes.tolist() for seed in seeds]
    with runner.Builder([task], out, **where) as builder:
        builder.run(planned, progress=True)
        outcomes = [builder.records[trial].outcome for trial in planned]
    for outcome in outcomes:
        if outcome.status not in ("ok", "diverged"):
            raise NasbenchMRError(f"{outcome.trial} is {outcome.status}: {outcome.error}; rerun to resume")
    values = [o.metrics[metric] if o.status == "ok" else float("nan") for o in outcomes]
    return np.array(values).reshape(len(codes), -1)


def at_bounds(codes: Codes) -> Floats:
    """Return the share of each code's dimensions that are as low or as high as they can be: `(n,)`."""
    return np.asarray(((codes == space.LOWER) | (codes == space.UPPER)).mean(axis=1))


def tables() -> Benchmark:
    """Return all published tables at hand; 3ddet may be there as rebuilt from a copy."""
    from nasbench_mr.data_builders import published

    path = published_release()
    folder = published_folder()
    assert folder is not None
    rebuilt = folder / "3ddet_recovered.csv"
    if rebuilt.is_file() and "3ddet" not in nasbench_mr.load(path).tasks:
        path = published.import_table(rebuilt, "3ddet", into="nasbench-mr").path
    return nasbench_mr.load(path)
