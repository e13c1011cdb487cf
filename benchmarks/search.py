"""What the searches find and how fast: `python benchmarks/search.py`, part of `make bench`.

Some rows take hours with all the seeds that they are about, so by default they use fewer, as their names say;
`--full` uses all. Splits, seeds and parts run in as many processes as there are cores.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import CORES, Figure, in_parallel, published_release, report
from torch import nn

import nasbench_mr
from nasbench_mr import objective, predictors, search, space
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.domain import Domain
from nasbench_mr.network import build
from nasbench_mr.objective import Objective
from nasbench_mr.predictors.evaluation import gather
from nasbench_mr.predictors.ncp_mlp import NcpMlp
from nasbench_mr.predictors.surrogates import fit_surrogates
from nasbench_mr.search.editing import Editing
from nasbench_mr.search.ncp import fit, fit_paper

LIMITS = (1e9, 2e9, 4e9)
RANDOM, STARTS, STEPS = 100_000, 256, 70
METHODS = ("ncp", "paper", "random", "evolution")
#: What scores the codes; the first one's figures have a target.
JUDGES = ("gbdt", "forest", "gp", "ridge", "ensemble")
PARTS = ("paper", "speed", "run", "compare", "tables", "judge")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="all seeds of every figure")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts (default: all)")
    args = parser.parse_args()
    path = published_release()
    bench = nasbench_mr.load(path)
    names = [t for t in bench.tasks if bench.task(t).space == space.NAME]
    parts = {
        "paper": lambda: paper_preset(path),
        "speed": lambda: speed(bench, names),
        "run": lambda: one_run(bench),
        "compare": lambda: on_surrogates(bench, names[:6]),
        "tables": lambda: on_tables(bench, seeds=100 if args.full else 8),
        "judge": lambda: judged(path, names, splits=10 if args.full else 2),
    }
    for part in args.only:
        # Each part is reported when it is there: what follows may take long.
        report(f"Search: {part}", parts[part]())


def seconds_of(function: Callable[[], object], repeat: int = 5) -> float:
    """Median seconds of a call, after a first one that warms up."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


# --- The published algorithm ---------------------------------------------------------------------------


def paper_preset(path: Path) -> list[Figure]:
    found = np.array(in_parallel(partial(paper_run, path), range(5)))
    (value, gmacs), (later, later_gmacs) = np.median(found, axis=0)
    return [
        Figure(
            f'preset="paper", seg, {STEPS} steps, median of 5 seeds: predicted mIoU',
            f"{value:.2f} at {gmacs:.2f} GMACs ({found[:, 0, 0].min():.2f} to {found[:, 0, 0].max():.2f})",
            ">= 77.5 at <= 2.0 GMACs",
            bool(value >= 77.5 and gmacs <= 2),
        ),
        Figure(
            f"the same after {2 * STEPS} steps",
            f"{later:.2f} at {later_gmacs:.2f} GMACs",
            "-",
            None,
        ),
    ]


def paper_run(path: Path, seed: int) -> list[tuple[float, float]]:
    """Predicted mIoU and GMACs of the code found, in 70 steps and in twice as many."""
    bench = nasbench_mr.load(path)
    model = fit_paper(bench, objective.goals(bench, "seg"), seed)
    pairs = []
    for steps in (STEPS, 2 * STEPS):
        out = search.ncp(bench, "seg", preset="paper", predictor=model, steps=steps)
        pairs.append((float(out.predicted[0, 0]), float(out.macs[0]) / 1e9))
    return pairs


def published_loop(model: NcpMlp, steps: int) -> np.ndarray:
    """Run the published editing script in small: one start, the network built at every step for its MACs.

    As published, a step also predicts the rounded code's metrics. Returns the MACs: `(steps + 1,)`.
    """
    task = model.models[0]
    code = np.full(space.DIM, 2)
    code[list(space.CHANNEL_DIMS)] = 64
    low, high = ((torch.tensor(bound) - task.x_mean) / task.x_scale for bound in (space.LOWER, space.UPPER))
    z = ((torch.from_numpy(code) - task.x_mean) / task.x_scale)[None].float()
    macs, published = [built_macs(code)], Editing()
    for _ in range(steps):
        z.requires_grad_()
        optimizer = torch.optim.SGD([z], lr=published.rate)
        metrics, costs = task(z)
        loss = nn.functional.smooth_l1_loss(metrics[0, 0], metrics[0, 0].detach() + published.target)
        loss = loss + published.cost_weight * nn.functional.smooth_l1_loss(
            costs[0, 0], costs[0, 0].detach() - published.cost_target
        )
        torch.autograd.backward(loss)
        optimizer.step()
        z = torch.minimum(torch.maximum(z.detach(), low), high).float()
        code = space.project((z * task.x_scale + task.x_mean).numpy())[0]
        task(((torch.from_numpy(code) - task.x_mean) / task.x_scale)[None].float())
        macs.append(built_macs(code))
    return np.array(macs)


def built_macs(code: np.ndarray) -> int:
    """MACs counted by building the network and running it once, as the published loop does at every step."""
    counted = [0]

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, nn.BatchNorm2d):
            counted[0] += 2 * output.numel()
        else:
            weight = module.weight
            assert isinstance(weight, torch.Tensor)
            places = output.numel() // output.shape[1]
            counted[0] += places * (weight.numel() + (0 if module.bias is None else len(weight)))

    network = build(code, "cls-50-1000").eval()
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, 128, 128))
    return counted[0]


# --- Speed ---------------------------------------------------------------------------------------------


def speed(bench: Benchmark, names: Sequence[str]) -> list[Figure]:
    model = fit(bench, names)
    published = fit_paper(bench, objective.goals(bench, "seg"))
    paths = [published_loop(published, 3), search.ncp(published, "seg", preset="paper").trajectory]
    # It is the published algorithm, and it counts as `cost.macs` does.
    assert paths[0].tolist() == paths[1].macs[:4, 0].tolist()
    steps = 20
    theirs = steps / seconds_of(partial(published_loop, published, steps), repeat=3)
    one = partial(search.ncp, model, "seg", max_macs=2e9, starts=STARTS, steps=STEPS)
    ours = STARTS * STEPS / seconds_of(one)
    joint = seconds_of(partial(search.ncp, model, names, max_macs=2e9, starts=STARTS, steps=STEPS))
    return [
        Figure(
            "NCP, steps x starts a second / the published loop's",
            f"{ours / theirs:,.0f} ({ours:,.0f} / {theirs:.1f})",
            ">= 1,000",
            ours >= 1000 * theirs,
        ),
        Figure(
            f"joint NCP over {len(names)} tasks, {STARTS} starts, {STEPS} steps, one thread",
            f"{joint:.2f} s",
            "<= 2 s",
            joint <= 2,
        ),
    ]


# --- How good the codes are ------------------------------------------------------------------------------


def judged(path: Path, names: Sequence[str], splits: int) -> list[Figure]:
    """Codes found with predictors fitted on half of the data, scored by trees fitted on the other half.

    A case is a task and a limit, its score a mean over splits of the data in halves. What it is compared with
    is the best of the others by that mean. The target is about the first judge; the others, fitted on the
    same half, tell what is true of the codes from what one family of models makes of them.
    """
    # Splits 0 to 5 were looked at when NCP's defaults were chosen.
    found = in_parallel(partial(judged_split, path, names), range(100, 100 + splits))
    cases = f"{len(names)} tasks at 1, 2 and 4 GMACs, {splits} splits"
    figures = []
    for judge in JUDGES:
        # (splits, limits, tasks) of each method.
        scores = {m: np.array([split[judge, m] for split in found]) for m in METHODS}
        ours = scores.pop("ncp")
        rivals = np.array([score.mean(axis=0) for score in scores.values()])
        gain = ours.mean(axis=0) - rivals.max(axis=0)
        best = rivals.argmax(axis=0)
        error = np.std([ours - score for score in scores.values()], axis=1, ddof=1) / np.sqrt(splits)
        each = ", ".join(f"{m} {np.mean(ours - score):+.3f}" for m, score in scores.items())
        share = float((gain >= -1e-9).mean())
        aims = judge == JUDGES[0]
        figures += [
            Figure(
                f"NCP at least as good as the best of 3 others, judged by {judge}: {cases}",
                f"{share:.0%} of cases",
                ">= 90%" if aims else "-",
                share >= 0.9 if aims else None,
            ),
            Figure(
                f"mean of NCP - the best other, {judge}, in standard deviations of the table",
                f"{gain.mean():+.3f} ({each})",
                "> 0" if aims else "-",
                bool(gain.mean() > 0) if aims else None,
            ),
        ]
        for k, name in enumerate(names):
            cells = [
                f"{gain[i, k]:+.3f} +- {error[best[i, k], i, k]:.3f} ({[*scores][best[i, k]]})"
                for i in range(len(LIMITS))
            ]
            figures.append(
                Figure(f"{judge}, {name} at 1, 2, 4 GMACs, and what comes next", "; ".join(cells), "-", None)
            )
    for k, name in enumerate(names):
        shares = [np.mean([split["bounds", m][:, k] for split in found]) for m in METHODS]
        cells = ", ".join(f"{m} {share:.0%}" for m, share in zip(METHODS, shares, strict=True))
        figures.append(Figure(f"dimensions at the space's bounds, {name}", cells, "-", None))
    return figures


def judged_split(path: Path, names: Sequence[str], split: int) -> dict[tuple[str, str], np.ndarray]:
    """Return what each judge makes of what each method finds: `(limits, tasks)`, in standard deviations.

    And under "bounds" the share of a code's dimensions that are the least or largest of the space.
    """
    data = gather(nasbench_mr.load(path), names)
    order = np.random.default_rng(split).permutation(len(data.codes))
    searched, held_out = order[: len(order) // 2], order[len(order) // 2 :]
    main = data.objectives()
    columns = [data.names[k] for k in main]
    judges = [
        predictors.make(kind, seed=split).fit(data.codes[held_out], data.values[held_out][:, main], columns)
        for kind in JUDGES
    ]
    spread = np.nanstd(data.values[:, main], axis=0)
    model, paper = (
        predictors.make(kind, seed=split).fit(data.codes[searched], data.values[searched], data.names)
        for kind in ("ensemble", "ncp-mlp")
    )
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for limit in LIMITS:
        random = Domain(max_macs=limit).sample(RANDOM, np.random.default_rng(split))
        predicted, _ = model.predict(random)
        for position, column in enumerate(columns):
            codes = [
                search.ncp(model, column, max_macs=limit, seed=split).best,
                search.ncp(paper, column, max_macs=limit, preset="paper").best,
                random[predicted[:, model.names.index(column)].argmax()],
                evolved(model, column, limit, split),
            ]
            for judge, scorer in zip(JUDGES, judges, strict=True):
                score, _ = scorer.predict(np.array(codes, np.int16))
                for method, value in zip(METHODS, score[:, position] / spread[position], strict=True):
                    found.setdefault((judge, method), []).append(value)
            at_bounds = (np.array(codes) == space.LOWER) | (np.array(codes) == space.UPPER)
            for method, value in zip(METHODS, at_bounds.mean(axis=1), strict=True):
                found.setdefault(("bounds", method), []).append(value)
    return {key: np.reshape(scores, (len(LIMITS), -1)) for key, scores in found.items()}


def evolved(model: predictors.Predictor, column: str, limit: float, seed: int) -> np.ndarray:
    """Return the best predicted code of an evolution that asks for as many predictions as NCP's steps do."""
    method = search.make("evolution", Domain(max_macs=limit), seed, population=100)
    for _ in range(STARTS * STEPS // 128):
        codes = method.ask(128)
        predicted, _ = model.predict(codes)
        method.tell(codes, predicted[:, model.names.index(column)])
    return method.codes[method.values.argmax()]


# --- The loop --------------------------------------------------------------------------------------------


def on_tables(bench: Benchmark, seeds: int) -> list[Figure]:
    """Median regret on every table, NAS-Bench-201 among them."""
    found = search.compare(bench, bench.tasks, ("ncp", "evolution", "random"), budget=150, seeds=seeds)
    final = found.final()
    better = (final["ncp"] < final[["evolution", "random"]].min(axis=1)).sum()
    figures = [
        Figure(
            f"table search, budget 150, {seeds} seeds: NCP's median regret is the lowest",
            f"on {better} of {len(final)} tasks",
            "on all",
            bool(better == len(final)),
        )
    ]
    for task, row in final.iterrows():
        measured = f"{row['ncp']:.2f} / {row['evolution']:.2f} / {row['random']:.2f}"
        figures.append(Figure(f"the same, {task}: ncp / evolution / random", measured, "-", None))
    return figures


def on_surrogates(bench: Benchmark, names: Sequence[str]) -> list[Figure]:
    fitted = nasbench_mr.load(fit_surrogates(bench, names).path)
    start = time.perf_counter()
    search.compare(fitted, names, ("random", "local", "evolution"), budget=300, seeds=100, source="surrogate")
    seconds = time.perf_counter() - start
    return [
        Figure(
            f"compare random, local, evolution on surrogates: {len(names)} tasks, 100 seeds, budget 300, "
            f"{CORES} cores",
            f"{seconds:.0f} s",
            "<= 60 s",
            seconds <= 60,
        )
    ]


def one_run(bench: Benchmark) -> list[Figure]:
    """CPU time of one run on one core, the slower of a multi-resolution task and NAS-Bench-201."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    figures = []
    for name in ("guided", "ncp"):
        times = []
        for task in ("seg", "nas-bench-201"):
            where = Objective.table(bench, task)
            # A short run warms up.
            for budget in (30, 150):
                start = time.process_time()
                search.run(search.make(name, where, seed=0), where, budget)
            times.append(time.process_time() - start)
        figures.append(
            Figure(
                f"one run of the search {name!r}, budget 150, one core: seg, nas-bench-201",
                " and ".join(f"{seconds:.1f} s" for seconds in times),
                "<= 5 s",
                max(times) <= 5,
            )
        )
    torch.set_num_threads(threads)
    return figures


if __name__ == "__main__":
    main()
