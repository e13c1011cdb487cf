"""The full benchmark on 8 to 4,096 GPUs, simulated: the tables of docs/cluster.md.

A trial's time is a line in its code's MACs, fitted with its scatter to the trials of a release, and scaled so
that the whole benchmark takes the 400,000 GPU-hours that its authors report. The simulation follows the
runner: one trial on a GPU, the longest first, a lost trial tried again; nodes of eight GPUs fail at random
and come back after a repair.

    python benchmarks/scale.py --release mine@1.0.0 --hours 400000 --mtbf 6000
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

import nasbench_mr
from nasbench_mr import cost
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.cli.command import format_table
from nasbench_mr.data_builders.building import runner, store
from nasbench_mr.data_builders.building.trial import Outcome, Trial
from nasbench_mr.tasks import get

Floats = npt.NDArray[np.float64]

#: The published benchmark: codes, settings, and GPU-hours in all, as its authors give them.
CODES, SETTINGS, HOURS = 2507, 9, 400_000.0
GPUS = (8, 64, 256, 1024, 4096)
PER_NODE = 8
#: Hours between two failures of one node, and until it is back. A large training cluster saw 419 unexpected
#: interruptions of about 2,048 nodes in 54 days (Llama Team, "The Llama 3 Herd of Models", 2024, 3.3.4).
MTBF, REPAIR = 6000.0, 1.0
#: Trials that a law is fitted to, at least.
FEWEST = 10
#: Share of a trial between two checkpoints: one epoch of a hundred.
CHECKPOINT = 0.01
SPOT = {"checkpoint": CHECKPOINT, "retries": 20}


@dataclass(frozen=True)
class Law:
    """Seconds of a trial: `(offset + slope * macs) * exp(scatter * z)`, z standard normal.

    Attributes:
        trials: how many it is fitted to.
        correlation: of the line with the measured seconds.
    """

    offset: float
    slope: float
    scatter: float
    trials: int
    correlation: float

    def line(self, macs: Floats) -> Floats:
        """Predicted seconds of trials with these MACs: `(n,)`."""
        return self.offset + self.slope * macs


@dataclass(frozen=True)
class Run:
    """One simulated build; times in hours.

    Attributes:
        makespan: until the last trial ends.
        ideal: the work divided by the GPUs.
        idle_from: when the first GPU finds nothing left to start.
        failures: of nodes while a trial ran on them.
        lost: GPU-hours of work that failures threw away.
        given_up: trials that failed more often than they are tried again.
        files: part files, one for each second in which trials end.
    """

    gpus: int
    makespan: float
    ideal: float
    idle_from: float
    failures: int
    lost: float
    given_up: int
    files: int

    @property
    def utilisation(self) -> float:
        return self.ideal / self.makespan


def fit(macs: Floats, seconds: Floats) -> Law:
    """Return the law of measured trials: `(n,)` each."""
    offset, slope = runner.fit_line(np.stack([macs, seconds], axis=1))
    line = offset + slope * macs
    scatter = float(np.std(np.log(seconds / line)))
    return Law(offset, slope, scatter, len(macs), float(np.corrcoef(line, seconds)[0, 1]))


def laws(bench: Benchmark) -> dict[str, Law]:
    """Return the law of each task whose table has times."""
    found = {}
    for task in bench.tasks:
        frame = bench.to_pandas(task)
        frame = frame[(frame["status"] == "ok") & frame["train_seconds"].notna()]
        if len(frame) >= FEWEST:
            found[task] = fit(frame["macs"].to_numpy(np.float64), frame["train_seconds"].to_numpy(np.float64))
    return found


def workload(measured: Sequence[Law], hours: float, codes: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Hours of the trials of `SETTINGS` tasks, which follow the laws in turn, each as long as the others.

    Returns:
        `(SETTINGS * codes,)` in random order, summing to `hours`; and what the lines predict.
    """
    macs = cost.macs(runner.draw_codes(codes, seed)).astype(np.float64)
    rng = np.random.default_rng(seed)
    actual, predicted = [], []
    for law in itertools.islice(itertools.cycle(measured), SETTINGS):
        line = law.line(macs)
        times = line * np.exp(law.scatter * rng.standard_normal(codes))
        actual.append(hours / SETTINGS * times / times.sum())
        predicted.append(hours / SETTINGS * line / line.sum())
    order = rng.permutation(SETTINGS * codes)
    return np.concatenate(actual)[order], np.concatenate(predicted)[order]


def failures(mtbf: float, nodes: int, rng: np.random.Generator) -> Iterator[tuple[float, int]]:
    """(hour, node) of one failure after the other, without end."""
    hour = 0.0
    while math.isfinite(mtbf):
        hour += rng.exponential(mtbf / nodes)
        yield hour, int(rng.integers(nodes))


def simulate(
    hours: Floats,
    gpus: int,
    failing: Iterable[tuple[float, int]] = (),
    checkpoint: float | None = None,
    retries: int = 2,
    order: Floats | None = None,
    per_node: int = PER_NODE,
    repair: float = REPAIR,
) -> Run:
    """Run trials on GPUs, event by event.

    Args:
        hours: `(n,)` of work of each trial.
        failing: (hour, node), rising: a node loses what runs on it, and is back after `repair` hours.
        checkpoint: share of a trial after which its progress is safe, again and again; None: never.
        retries: a trial that has failed more often is given up.
        order: `(n,)` the largest starts first; by default the longest.
    """
    order = hours if order is None else order
    queue = [(-rank, k) for k, rank in enumerate(order.tolist())]
    heapq.heapify(queue)
    done = np.zeros(len(hours))  # Hours of each trial that are safe.
    failed = np.zeros(len(hours), int)
    free = list(range(gpus))
    down: dict[int, float] = {}
    running: dict[int, tuple[int, float, float]] = {}  # GPU: trial, start, end.
    events: list[tuple[float, str, int]] = []
    now = idle_from = lost = 0.0
    broken = given_up = 0
    ends: list[float] = []
    coming = iter(failing)
    upcoming = next(coming, None)
    while queue or running:
        while queue and free:
            gpu, (_, trial) = free.pop(), heapq.heappop(queue)
            end = now + hours[trial] - done[trial]
            running[gpu] = (trial, now, end)
            heapq.heappush(events, (end, "end", gpu))
        if not queue and not idle_from:
            idle_from = now
        if upcoming is not None and (not events or upcoming[0] < events[0][0]):
            now, node = upcoming
            upcoming = next(coming, None)
            if node in down:
                continue
            down[node] = now + repair
            heapq.heappush(events, (now + repair, "back", node))
            on_node = range(node * per_node, min((node + 1) * per_node, gpus))
            free = [gpu for gpu in free if gpu not in on_node]
            broken += any(gpu in running for gpu in on_node)
            for gpu in [g for g in on_node if g in running]:
                trial, start, _ = running.pop(gpu)
                reached = done[trial] + now - start
                if checkpoint is not None:
                    step = checkpoint * hours[trial]
                    done[trial] = max(done[trial], math.floor(reached / step) * step)
                lost += reached - done[trial]
                failed[trial] += 1
                if failed[trial] > retries:
                    given_up += 1
                else:
                    heapq.heappush(queue, (-float(order[trial]), trial))
            continue
        now, kind, which = heapq.heappop(events)
        if kind == "back":
            del down[which]
            free += range(which * per_node, min((which + 1) * per_node, gpus))
        elif which in running and running[which][2] == now:
            del running[which]
            free.append(which)
            ends.append(now)
    files = len({int(end * 3600 / runner.FLUSH) for end in ends})
    last = max(ends, default=0.0)
    return Run(gpus, last, float(hours.sum()) / gpus, idle_from, broken, lost, given_up, files)


def part_bytes(epochs: int = 100) -> int:
    """Size of a part file with one trial and its learning curve."""
    task = get("seg")
    rng = np.random.default_rng(0)
    names = [m.name for m in task.metrics] + ["loss", "lr", "seconds"]
    curve = {"epoch": list(range(1, epochs + 1)), **{n: rng.uniform(0, 100, epochs).tolist() for n in names}}
    code = tuple(runner.draw_codes(1)[0].tolist())
    metrics = {m.name: 50.0 for m in task.metrics}
    outcome = Outcome(Trial(code, "seg", 0), "ok", None, metrics, curve, epochs, 3600.0, "NVIDIA H100")
    return len(store.to_bytes(store.to_part(task, [outcome])))


def row(run: Run, size: int) -> dict[str, object]:
    """Return a run as a row of the table."""
    return {
        "GPUs": run.gpus,
        "makespan": runner.clock(run.makespan * 3600),
        "ideal": runner.clock(run.ideal * 3600),
        "utilisation": f"{run.utilisation:.1%}",
        "stragglers": runner.clock((run.makespan - run.idle_from) * 3600),
        "node failures": run.failures,
        "GPU-hours lost": round(run.lost),
        "given up": run.given_up,
        "part files": run.files,
        "MB": round(run.files * size / 1e6),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--release", default="mini", help="whose trials give the cost against MACs")
    parser.add_argument("--hours", type=float, default=HOURS, help="GPU-hours of the whole benchmark")
    parser.add_argument("--mtbf", type=float, default=MTBF, help="hours between two failures of a node")
    parser.add_argument(
        "--scatter",
        type=float,
        help="deviation of a trial's time from its line, such as 0.1, where the machine was too busy to tell",
    )
    args = parser.parse_args(argv)
    measured = laws(nasbench_mr.load(args.release))
    if not measured:
        parser.error(f"{args.release} has no task with the times of at least {FEWEST} trials")
    print(f"# Measured cost against MACs ({args.release})\n")
    print(
        format_table(
            [
                {
                    "task": task,
                    "trials": law.trials,
                    "seconds at 0 MACs": law.offset,
                    "seconds a GMAC": law.slope * 1e9,
                    "scatter": f"{math.expm1(law.scatter):.0%}",
                    "correlation": law.correlation,
                }
                for task, law in measured.items()
            ]
        )
    )
    used = [law if args.scatter is None else replace(law, scatter=args.scatter) for law in measured.values()]
    hours, predicted = workload(used, args.hours, CODES)
    print(
        f"\n# {len(hours):,} trials, {hours.sum():,.0f} GPU-hours: mean {hours.mean():.1f} h, "
        f"longest {hours.max():.0f} h; a node fails every {args.mtbf:g} h"
    )
    size = part_bytes()
    variants: list[tuple[str, dict[str, Any], float]] = [
        ("With checkpoints, the longest first: `build --checkpoints`", {"checkpoint": CHECKPOINT}, args.mtbf),
        ("Without checkpoints", {}, args.mtbf),
        ("Without failures, in random order", {"order": -np.arange(len(hours))}, math.inf),
        ("On spot machines that fail every 50 h, with checkpoints", SPOT, 50.0),
    ]
    for title, options, mtbf in variants:
        rows = []
        for gpus in GPUS:
            failing = failures(mtbf, -(-gpus // PER_NODE), np.random.default_rng(gpus))
            rows.append(row(simulate(hours, gpus, failing, **{"order": predicted, **options}), size))
        print(f"\n## {title}\n\n{format_table(rows)}")


if __name__ == "__main__":
    main()
