"""Speed of the builders: `python benchmarks/builders.py`, part of `make bench`.

Trials an hour against a plain loop, packs against raw files, and how busy the engines keep their workers. The
data sets are those of $NASBENCH_MR_DATA where they are there, else generated or unpacked for the run; a task
without data is left out, and said so. Runs on a GPU where there is one.

    python benchmarks/builders.py --only packs engines
    python benchmarks/builders.py --only trials --codes 16 --tasks mini-cls mini-video
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nap
import numpy as np
from common import REPOSITORY, Figure, report

from nasbench_mr import workers
from nasbench_mr.data_builders import datasets, generate
from nasbench_mr.data_builders.building import runner
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.errors import MissingExtraError, NasbenchMRError

TASKS = ("mini-cls", "mini-seg", "mini-det3d", "mini-video")
#: Trials of the engines' figure, and workers.
NAPS, NAPPERS = 200, 2
#: Samples that packs are read of.
SAMPLES = 96


def plain(code: tuple[int, ...], recipe: recipes.Recipe, seed: int, data: Path, device: str) -> float:
    """Return the objective of a network trained without this package's runner: a DataLoader, float32,
    contiguous tensors, the framework's default threads. The recipe is the same."""
    import torch

    from nasbench_mr.data_builders.training import train as training

    recipe = recipes.override(recipe, {"resident": False, "workers": 2, "mixed_precision": False})
    work = training.workload(recipe, data, device)
    net = training.network(work, code, seed).to(device)
    optimizer = training.optimizer(net, recipe)
    step, steps = 0, work.plan.steps * recipe.epochs
    for epoch in range(recipe.epochs):
        net.train()
        for batch in work.batches(seed, epoch):
            training.set_rate(optimizer, *training.schedule(recipe, step, steps))
            loss = work.loss(net, batch)
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip_norm:
                torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip_norm)
            optimizer.step()
            step += 1
        net.eval()
        with torch.no_grad():
            found = work.evaluate(net)
    return found[work.task.objective]


def mini_data(folder: Path) -> Path:
    """Return the folder of the mini tasks' data sets: what the user has, or what can be made here."""
    if configured := os.environ.get("NASBENCH_MR_DATA"):
        return Path(configured)
    for name in generate.names():
        if name in ("kitti", "hmdb51"):
            generate.make(name, folder / name, **generate.mini(name))
    for name in datasets.FETCHED:
        local = REPOSITORY.parent / "shared" / "data" / f"{name}.tar"
        if local.exists():
            from nasbench_mr.data_builders.datasets import fetch

            fetch.fetch(name, folder / name, str(local))
    return folder


def trials(figures: list[Figure], names: Sequence[str], count: int, scratch: Path) -> None:
    """Time the same trials by `build` and by the plain loop, one after the other."""
    import torch

    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    data = mini_data(scratch / "data")
    there = []
    for name in names:
        try:
            datasets.locate(recipes.get(name).dataset, data)
            there.append(name)
        except NasbenchMRError as error:
            print(f"left out: {name}: {error}", file=sys.stderr)
    codes = runner.draw_codes(count, 1, "graded", 1e9)  # as those of `mini`
    planned = runner.plan(there, codes, [0])
    start, before = time.perf_counter(), cpu_seconds()
    with runner.Builder(there, scratch / "out", data=data) as builder:
        workers = builder.run(planned, progress=True).workers
        ours = time.perf_counter() - start
        records = builder.records
    ours_cpu = cpu_seconds() - before
    start, before = time.perf_counter(), cpu_seconds()
    values = [plain(t.code, recipes.get(t.task), t.seed, data, device) for t in planned]
    theirs = time.perf_counter() - start
    cpu = (cpu_seconds() - before) / ours_cpu
    differences = []
    for trial, value in zip(planned, values, strict=True):
        outcome = records[trial].outcome
        if outcome.status == "ok":
            differences.append(outcome.metrics[builder.tasks[trial.task].objective] - value)
    target = 4.0 if cuda else 1.3
    where = f"{torch.cuda.get_device_name()}, {workers} workers" if cuda else f"{workers} cores"
    hour = 3600 * len(planned)
    figures += [
        Figure(
            f"{len(planned)} trials of {len(there)} tasks an hour / by a plain loop ({where})",
            f"{theirs / ours:.2f} ({hour / ours:.0f} / {hour / theirs:.0f}; by CPU time {cpu:.2f})",
            f">= {target:g}",
            theirs >= target * ours,
        ),
        Figure(
            "their final metric, ours - plain: mean, deviation (percent)",
            f"{np.mean(differences):+.2f}, {np.std(differences):.2f} ({len(differences)} trials)",
            "within noise",
            bool(abs(np.mean(differences)) <= 2 * np.std(differences) / np.sqrt(len(differences)) + 0.1),
        ),
    ]


def cpu_seconds() -> float:
    """CPU time of this process and of those it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def packs(figures: list[Figure], scratch: Path) -> None:
    """Measure samples a CPU second from packs and from the files behind them, in random order, warm."""
    for name, kind, target in (
        ("imagenet", "images", 3),
        ("hmdb51", "video", 3),
        ("kitti", "point clouds", 1),
    ):
        classes = {} if name == "kitti" else {"classes": 4}
        each = SAMPLES if name == "kitti" else SAMPLES // 4
        root = generate.make(name, scratch / name, train=each, val=1, **classes)
        options = {
            "imagenet": {"classes": 0, "per_class": 0, "size": (160, 160)},
            "hmdb51": {"frames": 16, "size": (112, 112)},
        }.get(name, {})
        raw = datasets.load(name, root, "train", **options)
        packed = datasets.pack(raw, scratch / f"{name}.safetensors")
        rates = {}
        for label, dataset in (("raw", raw), ("pack", packed)):
            times = []
            for round_ in range(4):
                order = np.random.default_rng(round_).permutation(len(dataset))
                start = time.process_time()
                for k in order:
                    dataset[int(k)]
                times.append(time.process_time() - start)
            rates[label] = len(dataset) / min(times)
        ratio = rates["pack"] / rates["raw"]
        figures.append(
            Figure(
                f"{kind} a CPU second from a pack / from {name}'s files",
                f"{ratio:.1f} ({rates['pack']:,.0f} / {rates['raw']:,.0f})",
                f">= {target}",
                ratio >= target,
            )
        )


def busy(figures: list[Figure], scratch: Path) -> None:
    """Share of the workers' time that short trials take."""
    codes = runner.draw_codes(NAPS)
    for engine, target in (("local", 0.9), ("ray", 0.8)):
        try:
            shares = [_busy(engine, codes, scratch / f"{engine}-{k}") for k in range(3)]
        except MissingExtraError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        share = sorted(shares)[1]
        figures.append(
            Figure(
                f"{NAPS} trials of {nap.SECONDS * 1e3:.0f} ms on {NAPPERS} workers: busy / wall, {engine}",
                f"{share:.2f}",
                f">= {target}",
                share >= target,
            )
        )


def _busy(engine: str, codes: Any, out: Path) -> float:
    options: dict[str, Any] = {"workers": NAPPERS, "trainer": "nap:train"}
    with runner.Builder("mini-cls", out, engine, **options) as builder:
        return builder.run(runner.plan(["mini-cls"], codes, [0])).utilisation


def ray_cluster() -> None:
    """Return a cluster of this machine, started before any timing, that can import from this folder."""
    try:
        import ray
    except ImportError:
        return
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", PYTHONPATH=str(Path(__file__).parent))
    # Its workers otherwise yield to whatever else runs here, which would be measured instead.
    os.environ.update(RAY_worker_niceness="0")
    ray.init(num_cpus=NAPPERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=("trials", "packs", "engines"), default=None)
    parser.add_argument("--tasks", nargs="+", default=TASKS, metavar="T")
    parser.add_argument("--codes", type=int, metavar="N", help="codes of each task (default 2; 16 on a GPU)")
    args = parser.parse_args()
    only = args.only or ("trials", "packs", "engines")
    count = args.codes or (16 if workers.gpus() else 2)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="nasbench-mr-bench-") as scratch:
        if "engines" in only:
            ray_cluster()
            busy(figures, Path(scratch))
        if "packs" in only:
            packs(figures, Path(scratch))
        if "trials" in only:
            trials(figures, args.tasks, count, Path(scratch))
    report("Builders", figures)


if __name__ == "__main__":
    main()
