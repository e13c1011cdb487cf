"""Kill builds, comparisons, imports and data generation at random, and check what is left (`make chaos`).

    python tests/chaos.py --seconds 120

Each job runs as a process of its own with its own folders and is killed by SIGKILL, SIGTERM or Ctrl-C at a
random time. After each kill no process of it may be left. Run again to its end, it must give what an
undisturbed run gives, byte for byte, with each trial done once, and leave no temporary file.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/data_builders/building")]

import nasbench_mr  # noqa: E402
from nasbench_mr import space  # noqa: E402

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
#: Seconds within which all processes of a killed job must have ended.
GRACE = 5.0


# --- What is killed -----------------------------------------------------------------------------------


def build(folder: Path) -> None:
    """60 trials of 50 ms on two workers."""
    from nasbench_mr.data_builders.building import runner

    runner.build(
        "mini-cls", runner.draw_codes(30), 2, folder / "out", workers=2, trainer="fake_trainers:short"
    )


def compare(folder: Path) -> None:
    """16 parts of two searches on two tasks."""
    from nasbench_mr import search

    asked = {"budget": 40, "seeds": 100, "out": folder / "out", "workers": 2}
    search.compare(nasbench_mr.load("mini"), "mini-seg,mini-cls", "random,evolution", **asked)  # type: ignore[arg-type]


def generate(folder: Path) -> None:
    """240 images by two workers."""
    from nasbench_mr.data_builders import generate

    if not (folder / "out").exists():
        generate.make("imagenet", folder / "out", train=100, val=20, classes=2, size=40, workers=2)


def imported(folder: Path) -> None:
    """Write a table of 4,000 rows, as a release."""
    from nasbench_mr import release
    from nasbench_mr.data_builders.published import import_table

    rows = [f"{space.to_string(code)},{k % 100}" for k, code in enumerate(space.sample(4000, seed=0))]
    (folder / "trials.csv").write_text("\n".join(["code,acc", *rows]))
    if not release.installed():
        import_table(folder / "trials.csv", "mine", objective="acc")


JOBS: dict[str, Callable[[Path], None]] = {
    job.__name__: job for job in (build, compare, generate, imported)
}  # fmt: skip


# --- What must be left --------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    """Return what a job made: every file by name, but for parts (their names are random) and caches."""
    made = [*(folder / "out").rglob("*"), *(folder / "home/releases").rglob("*")]
    files = [path for path in made if path.is_file() and "mini-cls" not in path.parent.parts[-1:]]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def faults(folder: Path, expected: dict[str, bytes]) -> list[str]:
    """Return what is wrong with the folder of a job that came to its end."""
    found = contents(folder)
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} is left" for name in found if name not in expected]
    wrong += [f"{name} differs" for name in found if name in expected and found[name] != expected[name]]
    hidden = [path for path in folder.rglob(".*") if path.name != ".lock"]
    wrong += [f"{path.relative_to(folder)} is left" for path in (*hidden, *(folder / "tmp").iterdir())]
    if (parts := folder / "out/parts/mini-cls").is_dir():
        import pyarrow.parquet as pq

        trials: collections.Counter[tuple[int, ...]] = collections.Counter()
        for path in parts.iterdir():
            if not path.name.startswith("."):
                columns = pq.read_table(path).select([*space.NAMES, "seed"]).to_pydict()
                trials.update(zip(*columns.values(), strict=True))
        wrong += [f"a trial is there {n} times" for n in trials.values() if n > 1]
    return wrong


def alive(token: str) -> list[int]:
    """Return the processes that have a token in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if token.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue  # it has just ended, or is someone else's
    return found


def start(name: str, folder: Path, token: str) -> subprocess.Popen[bytes]:
    for part in ("home", "tmp"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    own = {"NASBENCH_MR_HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "CHAOS": token}
    own |= {"OMP_NUM_THREADS": "1"}
    with open(folder.with_suffix(".log"), "ab") as log:
        command = [sys.executable, __file__, "--job", name, str(folder)]
        return subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)


def finish(name: str, folder: Path, expected: dict[str, bytes] | None) -> list[str]:
    """Run a job to its end; return what is wrong then."""
    token = uuid.uuid4().hex
    if (status := start(name, folder, token).wait()) != 0:
        lines = folder.with_suffix(".log").read_text("utf-8", "replace").splitlines()
        return [f"exit status {status}: {(lines or [''])[-1]}"]
    return [] if expected is None else faults(folder, expected)


def main() -> int:
    """Kill until the time is up; print a line for each kind of job, and all that is wrong."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=120)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--job", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.job:
        JOBS[args.job[0]](Path(args.job[1]))
        return 0
    chance = random.Random(args.seed)
    scratch = Path(tempfile.mkdtemp(prefix="chaos-"))
    expected, took = {}, {}
    for name in JOBS:
        began = time.monotonic()
        if wrong := finish(name, scratch / f"{name}-whole", None):
            print(f"{name}: {wrong}")
            return 1
        took[name] = time.monotonic() - began
        expected[name] = contents(scratch / f"{name}-whole")
    kills, ends = collections.Counter[str](), collections.Counter[str]()
    wrong = []
    deadline = time.monotonic() + args.seconds
    while time.monotonic() < deadline:
        name = chance.choice(list(JOBS))
        folder, token = scratch / f"{name}-{ends[name]}", uuid.uuid4().hex
        process = start(name, folder, token)
        try:
            status = process.wait(chance.uniform(0, 1.2 * took[name]))
        except subprocess.TimeoutExpired:
            process.send_signal(how := chance.choice(SIGNALS))
            process.wait()
            kills[name] += 1
            begun = time.monotonic()
            while left := alive(token):
                if time.monotonic() > begun + GRACE:
                    wrong.append(f"{name}: {len(left)} processes outlive {how.name}")
                    break
                time.sleep(0.05)
        else:
            if status:
                wrong.append(f"{name}: exit status {status}, see {folder}.log")
            wrong += [f"{name}: {fault}" for fault in finish(name, folder, expected[name])]
            ends[name] += 1
    for name in JOBS:
        wrong += [f"{name}: {f}" for f in finish(name, scratch / f"{name}-{ends[name]}", expected[name])]
        print(f"{name:10} {kills[name]:4} kills, {ends[name] + 1:3} brought to their end")
    for fault, count in collections.Counter(wrong).items():
        print(f"wrong: {fault}" + (f" ({count} times)" if count > 1 else ""))
    if wrong:
        print(f"see {scratch}")
        return 1
    shutil.rmtree(scratch)
    print("nothing lost, nothing twice, nothing left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
