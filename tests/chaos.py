"""Kill commands that write at random times, and check what is left (`make chaos`).

    python tests/chaos.py --seconds 120 build auxnas

Each job runs as a process of its own with its own folders and is killed by SIGKILL, SIGTERM or Ctrl-C at a
random time. After each kill no process of it may be left. Run again to its end, it must give what an
undisturbed run gives, byte for byte, with each trial done once, and leave no temporary file.
"""

from __future__ import annotations

import argparse
import collections
import json
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


def packed(folder: Path) -> None:
    """Write a release as a tarball and for Hugging Face, and install it."""
    from nasbench_mr import release

    mini = nasbench_mr.load("mini").release
    release.install(release.pack(mini, folder / "out/mini.tar.gz"))
    if not (folder / "out/hf").exists():
        release.export(mini, folder / "out/hf")


def data_packed(folder: Path) -> None:
    """Write a pack of 120 images."""
    from nasbench_mr.data_builders import datasets, generate

    if not (folder / "data").exists():
        generate.make("imagenet", folder / "data", train=60, val=10, classes=2, size=40, workers=2)
    found = datasets.load("imagenet", folder / "data", "train", classes=2, per_class=0, size=(32, 32))
    datasets.pack(found, folder / "out/train.safetensors")


def auxnas(folder: Path) -> None:
    """Two runs of 40 steps, in two workers."""
    from nasbench_mr.search.auxnas import comparison, readers, scenes

    if not (folder / "data").exists():
        scenes.make(folder / "data", train=8, val=3, size=(32, 32))
    code = [1 if k in space.DEPTH_DIMS else 8 for k in range(space.DIM)]
    config = {"primary_code": space.to_string(code), "options": {"width_mult": 0.25}, "steps": 40}
    config |= {"batch_size": 3, "eval_every": 2}
    data = readers.load("indoor", folder / "data")
    where = {"out": folder / "out", "seeds": 1, "variants": ("single", "aux-head"), "workers": 2}
    comparison.compare("segmentation", "depth", data, config, **where)  # type: ignore[arg-type]


def explored(folder: Path) -> None:
    """Fit a surrogate in two workers, and write the page that shows it."""
    from nasbench_mr import explorer, release
    from nasbench_mr.predictors.surrogates import fit_surrogates

    version = "1.0.1-local.1"
    if ("mini", version) not in release.installed():
        fit_surrogates(nasbench_mr.load("mini"), ["mini-cls"], version=version, workers=2, epochs=2)
    explorer.write(nasbench_mr.load(f"mini@{version}"), folder / "out/page.html")


def measured(folder: Path) -> None:
    """Measure 12 codes in two workers."""
    from nasbench_mr.data_builders.measuring.campaign import measure
    from nasbench_mr.data_builders.measuring.measure import Setting

    setting = Setting(device="cpu", size=32, repeat=3, clock="cpu", max_spread=100.0)
    measure(space.sample(12, seed=0), setting, folder / "out", count=2)


JOBS: dict[str, Callable[[Path], None]] = {
    job.__name__: job
    for job in (build, compare, generate, imported, packed, data_packed, auxnas, explored, measured)
}


# --- What must be left --------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    """Return what a job made: every file by name, but for parts (their names are random) and caches."""
    made = [*(folder / "out").rglob("*"), *(folder / "home/releases").rglob("*")]
    files = [path for path in made if path.is_file() and "mini-cls" not in path.parent.parts[-1:]]
    return {
        str(path.relative_to(folder)): content(path, folder) for path in files if "parts/cpu" not in str(path)
    }


#: Files that have the time of day, or seconds, among other things; only that they are there is checked.
TIMED = ("checkpoint.safetensors", "/costs/", "/out/release/")


def content(path: Path, folder: Path) -> bytes:
    """Return the bytes of a file, without the seconds that something took and the job's own folder."""
    if any(part in str(path) for part in TIMED):
        return b""
    if path.name in ("result.json", "auxnas.json"):
        data = json.loads(
            path.read_bytes(), object_hook=lambda d: d | ({"seconds": 0} if "seconds" in d else {})
        )
        return json.dumps(data).encode()
    return path.read_bytes().replace(bytes(folder), b"")


def faults(folder: Path, expected: dict[str, bytes]) -> list[str]:
    """Return what is wrong with the folder of a job that came to its end."""
    found = contents(folder)
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} is left" for name in found if name not in expected]
    wrong += [f"{name} differs" for name in found if name in expected and found[name] != expected[name]]
    left = [path for path in folder.rglob(".*") if path.name != ".lock"]
    # torch makes an empty folder for what it compiles, one for each user.
    left += [path for path in (folder / "tmp").iterdir() if not path.name.startswith("torchinductor_")]
    wrong += [f"{path.relative_to(folder)} is left" for path in left]
    if (parts := folder / "out/parts/mini-cls").is_dir():
        import pyarrow.parquet as pq

        trials: collections.Counter[tuple[int, ...]] = collections.Counter()
        for path in parts.iterdir():
            if not path.name.startswith("."):
                columns = pq.read_table(path).select([*space.NAMES, "seed"]).to_pydict()
                trials.update(zip(*columns.values(), strict=True))
        wrong += [f"a trial is there {n} times" for n in trials.values() if n > 1]
    if (costs := folder / "out/costs/cpu.parquet").is_file():
        from nasbench_mr.arrays import keys
        from nasbench_mr.measured import read

        if sorted(keys(read(costs).codes)) != sorted(keys(space.sample(12, seed=0))):
            wrong.append("codes that were measured are lost, or there twice")
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
    arguments.add_argument("jobs", nargs="*", metavar="JOB", help=", ".join(JOBS))
    arguments.add_argument("--seconds", type=float, default=120)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--job", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.job:
        JOBS[args.job[0]](Path(args.job[1]))
        return 0
    if unknown := set(args.jobs) - set(JOBS):
        arguments.error(f"no job {', '.join(unknown)}; expected some of {', '.join(JOBS)}")
    jobs = args.jobs or list(JOBS)
    chance = random.Random(args.seed)
    scratch = Path(tempfile.mkdtemp(prefix="chaos-"))
    expected, took = {}, {}
    for name in jobs:
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
        name = chance.choice(jobs)
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
    for name in jobs:
        wrong += [f"{name}: {f}" for f in finish(name, scratch / f"{name}-{ends[name]}", expected[name])]
        print(f"{name:12} {kills[name]:4} kills, {ends[name] + 1:3} brought to their end")
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
