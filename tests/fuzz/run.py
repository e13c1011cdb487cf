"""Fuzz the parsers of outside input; `make fuzz` runs it on all, ten CPU minutes each.

    python tests/fuzz/run.py --seconds 60 table manifest

A find is an unnamed error, a crash, or an input that takes more than 10 seconds or 2 GB. Errors count once
for each place where they are raised, and fuzzing continues. What was found is kept in --out: copy a small
input of each kind to `tests/fuzz/finds/PARSER`, where `tests/test_hostile.py` reads it ever after. Run again
with the same --out, each parser gets what it lacks of its seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import resource
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
#: Seconds that one input may take, and megabytes.
SLOW, LARGE = 10, 2048
#: How files of what was found are called, and lines of a log that say how long a process ran.
FINDS = ("error-", "crash-", "timeout-", "oom-")
AFTER = "ended after"


def main() -> int:
    """Fuzz each parser in a process of its own, again after a crash; print a line for each."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]))
    from parsers import PARSERS

    if sys.argv[1:2] == ["--check"]:
        # Seconds of this process alone: on a busy machine any input takes long.
        resource.setrlimit(resource.RLIMIT_CPU, (3 * SLOW, 3 * SLOW))
        PARSERS[sys.argv[2]](Path(sys.argv[3]).read_bytes())
        return 0

    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("names", nargs="*", metavar="PARSER", help=", ".join(PARSERS))
    arguments.add_argument("--seconds", type=float, default=600, help="CPU seconds for each (default 600)")
    arguments.add_argument("--out", type=Path, default=Path("fuzz-finds"), help="where inputs found go")
    args = arguments.parse_args()
    if unknown := set(args.names) - set(PARSERS):
        arguments.error(f"no parser {', '.join(unknown)}; expected some of {', '.join(PARSERS)}")
    if find_spec("atheris") is None:
        arguments.error("fuzzing needs the package atheris, which make fuzz installs")
    found = 0
    for name in args.names or PARSERS:
        out = args.out / name
        (out / "corpus").mkdir(parents=True, exist_ok=True)
        for seed in PARSERS[name].seeds():
            (out / "corpus" / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
        crashes = 0
        while (left := args.seconds - Fuzzed.read(out).seconds) > 1 and crashes < 5:
            command = [sys.executable, __file__, "--child", name, str(out), str(left)]
            with open(out / "log", "a") as log:
                began = computed()
                ended = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
                log.write(f"\n{AFTER} {computed() - began:.1f} s\n")
                crashes += ended != 0 and not contained(name, out)
        done = Fuzzed.read(out)
        print(f"{name:16} {done.seconds:6.0f} s {done.inputs:11,} inputs", end=" ")
        print(f"{done.megabytes:5} MB {len(done.finds):3} finds", flush=True)
        for file in done.finds:
            print(f"    {file}", flush=True)
        found += len(done.finds)
    return 1 if found else 0


def computed() -> float:
    """Return the CPU seconds of all processes that ended; on a busy machine the clock says little."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def contained(name: str, out: Path) -> bool:
    """Return whether all that ended the fuzzing is read as users read it, apart; then these are no finds."""
    stopped = [file for kind in FINDS[1:] for file in out.glob(f"{kind}*")]
    for file in stopped:
        check = [sys.executable, __file__, "--check", name, str(file)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            if subprocess.run(check, capture_output=True, check=False, timeout=30 * SLOW).returncode == 0:
                file.rename(out / f"contained-{file.name}")
    return bool(stopped) and not any(file.exists() for file in stopped)


@contextlib.contextmanager
def at_once(_: Path, maker: str, arguments: tuple[Any, ...], **__: object) -> Iterator[Callable[[Any], Any]]:
    """Read as `opening.apart` does, in this process: a thousand times as fast, and seen by the fuzzer."""
    from nasbench_mr import workers

    yield workers.Work(maker, arguments).load()


@dataclass(frozen=True)
class Fuzzed:
    """What was done with one parser so far, as its log says."""

    seconds: float
    inputs: int
    megabytes: int
    finds: list[Path]

    @classmethod
    def read(cls, out: Path) -> Fuzzed:
        log = (out / "log").read_text("utf-8", "replace") if (out / "log").exists() else ""
        finds = [file for file in out.iterdir() if file.name.startswith(FINDS) and not file.suffix]
        return cls(
            sum(map(float, re.findall(rf"^{AFTER} ([\d.]+) s$", log, re.M))),
            sum(map(int, re.findall(r"^stat::number_of_executed_units: +(\d+)$", log, re.M))),
            max(map(int, re.findall(r"^stat::peak_rss_mb: +(\d+)$", log, re.M)), default=0),
            sorted(finds),
        )


def child(name: str, out: Path, seconds: float) -> None:
    """Fuzz one parser; never returns."""
    import atheris

    with atheris.instrument_imports(include=["nasbench_mr"]):
        from parsers import PARSERS

        from nasbench_mr.data_builders.datasets import opening

        opening.apart = at_once  # type: ignore[assignment]
        parser = PARSERS[name]
        for seed in parser.seeds():  # What it imports is instrumented as it is imported.
            with contextlib.suppress(Exception):
                parser(seed)
    seen: set[str] = set()

    def one(data: bytes) -> None:
        try:
            parser(data)
        except Exception as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "/fuzz/" not in f.filename]
            ours = [f for f in frames if f.filename.startswith(str(HERE.parents[1]))]
            place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "parsers"
            kind = f"{type(error).__name__} at {place}"
            if kind not in seen:
                seen.add(kind)
                digest = hashlib.sha256(kind.encode()).hexdigest()[:8]
                (out / f"error-{digest}").write_bytes(data)
                (out / f"error-{digest}.txt").write_text(f"{kind}\n\n{traceback.format_exc()}")
                print(f"error-{digest}: {kind}: {error}"[:300], flush=True)

    options = [
        f"-max_total_time={max(1, int(seconds))}", f"-timeout={SLOW}", f"-rss_limit_mb={LARGE}",
        f"-artifact_prefix={out}/", "-max_len=200000", "-len_control=0", "-verbosity=1",
        "-print_final_stats=1",
    ]  # fmt: skip
    os.environ["OMP_NUM_THREADS"] = "1"
    atheris.Setup([sys.argv[0], *options, str(out / "corpus")], one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
