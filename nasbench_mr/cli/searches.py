"""The commands `search` and `compare`."""

from __future__ import annotations

import argparse
import contextlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import explorer, objective, spaces
from nasbench_mr.arrays import Codes
from nasbench_mr.cli.command import (
    Command,
    add_json,
    add_limits,
    add_release,
    code_of_row,
    format_table,
    open_release,
    print_json,
)
from nasbench_mr.domain import Domain
from nasbench_mr.errors import InfeasibleError, InvalidArgumentError
from nasbench_mr.objective import Goal, Objective
from nasbench_mr.search.base import make, names, run
from nasbench_mr.search.compare import SOURCES, compare, parse_searcher
from nasbench_mr.search.export import export
from nasbench_mr.search.ncp import ncp, transfer
from nasbench_mr.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

    from nasbench_mr.benchmark import Benchmark
    from nasbench_mr.search.comparison import Comparison
    from nasbench_mr.search.ncp import NCPResult, Transfer


class Search(Command):
    """Find a network for one task, or for several jointly.

    By default with NCP: a predictor is fitted on the tables (once; it is kept), and codes are edited along
    its gradients. Prints the code, its cost, what the predictor expects, what the tables say of the nearest
    code that was trained, and the best trained one within the limits. With --searcher, another search asks
    the tables (or the surrogates) --budget times.

    Example:
      nasbench-mr search --tasks seg,video --max-macs 2e9
      nasbench-mr search --tasks seg --max-macs 1G --fixed i1=16,i2=16 --export net.py
      nasbench-mr search --tasks seg --start '#12' --more-macs 10
      nasbench-mr search --tasks seg,seg-4x --transfer
      nasbench-mr search --tasks seg --searcher evolution --budget 300
      nasbench-mr search --tasks seg,video --max-macs 2e9 --explore page.html
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--tasks",
            required=True,
            metavar="T",
            help='tasks, with commas; "seg=2,video" weighs them, "seg/mAcc" names another metric',
        )
        add_limits(parser)
        parser.add_argument("--seed", type=int, default=0, metavar="K", help="of the search (default 0)")
        parser.add_argument("--preset", metavar="P", help="paper: the published algorithm")
        parser.add_argument(
            "--start", metavar="CODE", help="a code to improve; #12 is a row of the first table"
        )
        parser.add_argument(
            "--more-macs", type=float, metavar="PERCENT", help="at most so much more MACs than --start has"
        )
        parser.add_argument("--fixed", metavar="D", help="dimensions to keep, such as i1=16,i2=16")
        parser.add_argument("--starts", type=int, metavar="N", help="codes edited at once (default 256)")
        parser.add_argument("--steps", type=int, metavar="N", help="gradient steps (default 70)")
        parser.add_argument(
            "--transfer", action="store_true", help="a code for each task, and what each task makes of each"
        )
        parser.add_argument("--searcher", metavar="S", help=f"another search: {', '.join(names())}")
        parser.add_argument("--budget", type=int, metavar="N", help="codes that it asks for (default 300)")
        parser.add_argument("--source", metavar="S", help="what it asks: table (default) or surrogate")
        parser.add_argument("--export", metavar="FILE", help="write the network as a Python file (net.py)")
        parser.add_argument(
            "--head", metavar="T", help="the task whose head the exported network has (default: the first)"
        )
        parser.add_argument(
            "--explore", metavar="PAGE.html", help="write a page that plays how NCP came to the network"
        )
        add_release(parser)
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        _refuse_idle(args)
        bench = open_release(args)
        weights = _weights(args.tasks)
        terms = objective.goals(bench, weights)
        whole = objective.whole_space(bench, terms)
        start = None if args.start is None else _start(bench, terms[0].task, args.start)
        limits = {"max_macs": _max_macs(args, whole, start), "max_params": args.max_params}
        fixed = _fixed(args.fixed)
        chosen = {"preset": args.preset, "start": start, "starts": args.starts, "steps": args.steps}
        options = {"fixed": fixed} | {key: value for key, value in chosen.items() if value is not None}
        if args.transfer:
            found = transfer(bench, weights, **limits, seed=args.seed, **options)
            return _print_transfer(bench, found, args.json)
        if args.searcher is None:
            result = ncp(bench, weights, **limits, seed=args.seed, **options)
            code, said = result.best, _predicted(result)
            if args.explore:
                path = result.trajectory
                climb = explorer.Climb(path.codes, path.score, code, result.names, limits["max_macs"])
                explorer.write(bench, args.explore, climb=climb)
        else:
            code, said = _ask(bench, weights, limits, fixed, args)
        about: dict[str, Any] = {
            "code": list(code),
            "string": whole.space.to_string(code),
            "macs": int(whole.macs(np.array([code], np.int16))[0]),
            "params": int(whole.params(np.array([code], np.int16))[0]),
            "tasks": [
                {"task": goal.key, "metric": goal.metric.name, **own, **_known(bench, goal, code, limits)}
                for goal, own in zip(terms, said, strict=True)
            ],
        }
        if args.export:
            task = bench.task(args.head) if args.head else terms[0].task
            about["export"] = str(export(code, task, args.export))
        if args.explore:
            about["explore"] = args.explore
        if args.json:
            return print_json(about)
        print(about["string"])
        print(f"{about['macs'] / 1e9:.3f} GMACs, {about['params'] / 1e6:.3f} M parameters\n")
        print(format_table(about["tasks"]))
        if args.export:
            print(f"\n{about['export']} builds it")
        if args.explore:
            print(f"\n{args.explore} plays the search: open it in a browser")
        return None


def _refuse_idle(args: argparse.Namespace) -> None:
    """Raises for an option that would have no effect beside the others."""
    idle = ["budget", "source"]
    if args.transfer:
        idle += ["searcher", "export", "head", "explore"]
    why = "with --transfer" if args.transfer else "without --searcher"
    if args.searcher is not None and not args.transfer:
        idle, why = ["preset", "starts", "steps", "explore"], "with --searcher"
        if args.more_macs is None:  # else it is what the limit refers to
            idle.append("start")
    given = [f"--{name}" for name in idle if getattr(args, name) is not None]
    if args.preset == "paper" and args.starts is not None and not given:
        given, why = ["--starts"], "with --preset paper, which has one start"
    if args.head is not None and args.export is None and not args.transfer:
        given, why = ["--head"], "without --export"
    if given:
        raise InvalidArgumentError(
            f"{', '.join(given)} {'have' if len(given) > 1 else 'has'} no effect {why}"
        )


def _weights(text: str) -> dict[str, float]:
    """ "seg=2,video" as weights."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        key, equals, weight = part.strip().partition("=")
        try:
            value = float(weight) if equals else 1.0
        except ValueError:
            raise InvalidArgumentError(f"--tasks: the weight {weight!r} is no number") from None
        if key in weights or not key:
            raise InvalidArgumentError(f"--tasks is {text!r}; expected distinct names with commas")
        weights[key] = value
    return weights


def _fixed(text: str | None) -> dict[str, int]:
    """ "i1=16,i2=16" as a mapping."""
    fixed = {}
    for part in text.split(",") if text else ():
        name, _, value = part.strip().partition("=")
        if not value.isdigit():
            raise InvalidArgumentError(f"--fixed: {part!r} is no dimension; expected such as i1=16")
        fixed[name] = int(value)
    return fixed


def _start(bench: Benchmark, task: Task, text: str) -> Codes:
    """The code of --start: `(1, DIM)`."""
    code = code_of_row(bench, task.name, text) if text.startswith("#") else text
    return spaces.get(task.space).check([code])


def _max_macs(args: argparse.Namespace, whole: Domain, start: Codes | None) -> float | None:
    """The limit that --max-macs or --more-macs sets."""
    if args.more_macs is None:
        return None if args.max_macs is None else float(args.max_macs)
    if start is None or args.max_macs is not None:
        raise InvalidArgumentError(
            "--more-macs is a limit relative to --start: give --start, and no --max-macs"
        )
    if not -100 < args.more_macs < math.inf:
        raise InvalidArgumentError(f"--more-macs is {args.more_macs}; expected percent, above -100")
    return float(whole.macs(start)[0] * (1 + args.more_macs / 100))


def _predicted(result: NCPResult) -> list[dict[str, float]]:
    """What NCP expects of its best code, by task."""
    return [
        {"predicted": float(mean), "std": float(std)}
        for mean, std in zip(result.predicted[0], result.std[0], strict=True)
    ]


def _ask(
    bench: Benchmark,
    weights: dict[str, float],
    limits: dict[str, float | None],
    fixed: dict[str, int],
    args: argparse.Namespace,
) -> tuple[tuple[int, ...], list[dict[str, float]]]:
    """The best code that another search finds, and what the source says of it."""
    source, budget = args.source or "table", 300 if args.budget is None else args.budget
    if source not in SOURCES:
        raise InvalidArgumentError(f"--source is {source!r}; expected {' or '.join(SOURCES)}")
    asked = getattr(Objective, source)(bench, weights, **limits, fixed=fixed)
    name, options = parse_searcher(args.searcher)
    code = run(make(name, asked, args.seed, **options), asked, budget).best_code
    if code is None:
        raise InvalidArgumentError(f"{name!r} trained no code to the end within a budget of {budget}")
    if source == "table":
        found = asked.source.measure(np.array([code], np.int16), asked.goals, None).values[0]
        return code, [{"measured": float(value)} for value in found]
    said = [(goal, bench.query(code, goal.task.name, source)) for goal in asked.goals]
    return code, [{"predicted": r[g.metric.name], "std": r.std[g.metric.name]} for g, r in said]


def _known(
    bench: Benchmark, goal: Goal, code: tuple[int, ...], limits: dict[str, float | None]
) -> dict[str, float | None]:
    """What a task's table says of the nearest code, and of the best one within the limits."""
    space = spaces.get(goal.task.space)
    codes = bench.codes(goal.task.name)
    steps = np.abs(codes - np.array(code)) // space.STEP
    # Between choices without an order there are no steps: they differ or not.
    categorical = space.relax(space.LOWER[None]).shape[1] > space.DIM
    distance = np.minimum(steps, 1).sum(axis=1) if categorical else steps.sum(axis=1)
    row = int(distance.argmin())
    near = bench.query(tuple(codes[row].tolist()), goal.task.name, source="table")
    known: dict[str, float | None] = {
        "nearest": near[goal.metric.name],
        "distance": int(distance[row]),
        "nearest GMACs": near["macs"] / 1e9 if "macs" in near else None,
        "best trained": None,
    }
    with contextlib.suppress(InfeasibleError):
        known["best trained"] = bench.best(goal.task.name, 1, **limits, metric=goal.metric.name)[0][
            goal.metric.name
        ]
    return known


def _print_transfer(bench: Benchmark, found: Transfer, as_json: bool) -> None:
    """The table of every pair."""
    to_string = spaces.get(bench.task(found.names[0].partition("/")[0]).space).to_string
    strings = [to_string(tuple(code)) for code in found.codes.tolist()]
    if as_json:
        columns = {"codes": found.codes, "strings": strings, "macs": found.macs, "params": found.params}
        return print_json(
            {"tasks": found.names, **columns, "predicted": found.predicted, "regret": found.regret}
        )
    rows = [
        {"code for": name, **dict(zip(found.names, map(float, values), strict=True)), "GMACs": macs / 1e9}
        for name, values, macs in zip(found.names, found.predicted, found.macs.tolist(), strict=True)
    ]
    print(
        f"Predicted for each task (columns), of the code found for each task (rows)\n\n{format_table(rows)}\n"
    )
    for name, string in zip(found.names, strings, strict=True):
        print(f"{name}: {string}")
    return None


class Compare(Command):
    """Compare searches over tasks and seeds at one budget.

    Prints each search's median regret (how far its best is below the best within reach) and mean rank on each
    task at the end of the budget, and tests whether the searches differ. --out keeps every measurement as
    Parquet; the same command goes on after it was killed, and `nasbench-mr plot` draws the folder.

    "seg+video" is both tasks jointly; "evolution:population=20" sets an option.

    Example:
      nasbench-mr compare --tasks seg,video --searchers random,evolution,ncp --budget 150 --out comparison
      nasbench-mr plot comparison --out comparison.png
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--tasks", required=True, metavar="T", help="tasks, with commas")
        parser.add_argument(
            "--searchers",
            default="random,local,evolution",
            metavar="S",
            help=f"with commas, of {', '.join(names())} (default: random,local,evolution)",
        )
        parser.add_argument("--budget", type=int, default=300, metavar="N", help="codes a run (default 300)")
        parser.add_argument("--seeds", type=int, default=100, metavar="N", help="runs of each (default 100)")
        parser.add_argument("--batch", type=int, default=1, metavar="N", help="codes asked for at a time")
        parser.add_argument("--source", default="table", metavar="S", help="table (default) or surrogate")
        parser.add_argument("--engine", default="local", metavar="E", help="local (default) or ray")
        parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each core)")
        parser.add_argument("--out", metavar="FOLDER", help="where to keep the results")
        add_limits(parser)
        add_release(parser)
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        found = compare(
            open_release(args),
            args.tasks,
            args.searchers,
            budget=args.budget,
            seeds=args.seeds,
            out=args.out,
            source=args.source,
            max_macs=args.max_macs,
            max_params=args.max_params,
            batch=args.batch,
            engine=args.engine,
            workers=args.workers,
            progress=True,
        )
        if args.json:
            return print_json(_comparison_json(found))
        print(f"Median regret after {args.budget} evaluations, {args.seeds} runs each\n")
        print(format_table(_rows(found.final().assign(unit=found.about["unit"]))))
        print("\nMean rank, 1 the best\n")
        print(format_table(_rows(found.ranks())))
        if len(found.searchers) > 1:
            tests = found.tests()
            print(
                f"\nOver {tests.count} {tests.blocks}: Friedman p = {tests.p:.2g}; pairs, Wilcoxon and Holm\n"
            )
            print(format_table(_rows(tests.pairs.set_index("a"), "a")))
        if args.out:
            print(f"\nkept in {args.out}: nasbench-mr plot {args.out} --out comparison.png")
        return None


def _rows(frame: pd.DataFrame, index: str = "task") -> list[dict[str, Any]]:
    """A frame's rows for `format_table`, its index first."""
    return [{index: label, **row} for label, row in zip(frame.index, _records(frame), strict=True)]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _comparison_json(found: Comparison) -> dict[str, Any]:
    about = {"about": found.about, "best": found.best, "regret": found.final().T.to_dict()}
    about["ranks"] = found.ranks().T.to_dict()
    if len(found.searchers) > 1:
        tests = found.tests()
        about["tests"] = {**vars(tests), "pairs": _records(tests.pairs)}
    return about
