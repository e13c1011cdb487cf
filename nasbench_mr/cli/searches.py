"""The commands `search` and `compare`."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import cost, explorer, measured, objective, progress, spaces
from nasbench_mr.arrays import Codes
from nasbench_mr.cli import command
from nasbench_mr.domain import Domain
from nasbench_mr.errors import InfeasibleError, InvalidArgumentError
from nasbench_mr.extras import need
from nasbench_mr.fronts import hypervolume
from nasbench_mr.objective import Goal, Objective
from nasbench_mr.plugins import check_options
from nasbench_mr.search.base import Trace, make, names, run
from nasbench_mr.search.compare import FRONT_SEARCHERS, SEARCHERS, SOURCES, compare, parse_searcher
from nasbench_mr.search.editing import Editing
from nasbench_mr.search.export import check_exportable, export, own_cost
from nasbench_mr.search.ncp import ncp, transfer
from nasbench_mr.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

    from nasbench_mr.benchmark import Benchmark
    from nasbench_mr.search.comparison import Comparison
    from nasbench_mr.search.ncp import NCPResult, Transfer


#: How many of the best codes found `search --measure` measures at most.
MEASURED = 16


class SearchCommand(command.Command):
    """Find a network for one task, or for several jointly.

    By default NCP searches: it fits a predictor on the tables (once; it is kept) and edits codes along the
    predictor's gradients. Prints the code found, its cost, what the predictor expects, what the tables say
    of the nearest tabulated code, and the best tabulated code within the limits; for several tasks, the one
    that is best jointly, and the best of each task alone. With --searcher, another search asks the tables
    (or the surrogates) --budget times. With --front the tasks are objectives side by side, costs among them:
    prints the codes that no other one beats in all of them, of the tables or of what --searcher asked for.

    Example:
      nasbench-mr search seg video --max-macs 2e9
      nasbench-mr search seg --limit latency_ms@cpu=20
      nasbench-mr search seg --max-macs 1G --fixed i1=16,i2=16 --export net.py
      nasbench-mr search seg --start '#12' --more-macs 10
      nasbench-mr search seg --preset paper:rate=1:rounded=True
      nasbench-mr search seg seg-4x --transfer
      nasbench-mr search seg --searcher evolution --budget 300
      nasbench-mr search seg video macs --front --max-macs 2e9
      nasbench-mr search seg video --max-macs 2e9 --explore page.html
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        command.add_tasks(
            parser, 'the tasks; "seg=2 video" weighs them, "seg/mAcc" names another metric', first=True
        )
        add(
            "--front",
            action="store_true",
            help='the tasks are objectives of a front, such as "seg video macs" or "seg latency_ms@cpu"',
        )
        command.add_limits(parser)
        add(
            "--measure",
            action="store_true",
            help="measure the networks found on this machine, the best first, until one is within --limit",
        )
        add("--seed", type=command.whole, metavar="K", help="seed of the search (default 0)")
        add(
            "--preset",
            metavar="P",
            help='"paper" is the published algorithm; "paper:rate=1:cost_weight=0" changes its settings: '
            + ", ".join(setting.name for setting in fields(Editing)),
        )
        add("--start", metavar="CODE", help="a code to improve; #12 is a tabulated code of the first task")
        add(
            "--more-macs",
            type=command.number,
            metavar="PERCENT",
            help="allow this many percent more MACs than --start has",
        )
        add("--fixed", metavar="D", help="dimensions to keep, such as i1=16,i2=16")
        add("--starts", type=command.whole, metavar="N", help="codes that NCP edits at once (default 256)")
        add("--steps", type=command.whole, metavar="N", help="gradient steps (default 70)")
        add(
            "--transfer",
            action="store_true",
            help="find a code for each task, and print what each task expects of every code",
        )
        add("--searcher", metavar="S", help=f"another search: {', '.join(names())}")
        add("--budget", type=command.whole, metavar="N", help="codes that --searcher asks for (default 300)")
        add("--source", metavar="S", help="what --searcher asks: table (default) or surrogate")
        add(
            "--export",
            type=command.file_to_write(".py"),
            metavar="FILE",
            help="write the network as a Python file (net.py)",
        )
        add("--head", metavar="T", help="the task whose head the exported network has (default: the first)")
        add(
            "--explore",
            type=command.file_to_write(".html", ".htm"),
            metavar="PAGE.html",
            help="write a page that plays how NCP came to the network",
        )
        command.add_release(parser)
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        _refuse_idle(args)
        args.seed = args.seed or 0
        weights = _weights(command.tasks_of(args))
        fixed = _fixed(args.fixed)
        bench = command.open_release(args)
        terms = objective.goals(bench, weights, costs=args.front)
        domain = objective.whole_space(bench, terms)
        start = None if args.start is None else _start(bench, terms[0].task, args.start)
        limits = {**command.limits_of(args), "max_macs": _max_macs(args, domain, start)}
        if args.front:
            return _print_front(args, bench, weights, {**limits, "fixed": fixed})
        if args.export:
            check_exportable(terms[0].task if args.head is None else bench.task(args.head))
        chosen = {**_preset(args.preset), "start": start, "starts": args.starts, "steps": args.steps}
        options = {"fixed": fixed} | {key: value for key, value in chosen.items() if value is not None}
        if args.transfer:
            with progress.line("searching (the first time, a predictor is fitted and kept)"):
                found = transfer(bench, weights, **limits, seed=args.seed, **options)
            return _print_transfer(args, bench, found)
        if args.searcher is None:
            within = measured.limits(bench, limits["limits"], limits["max_macs"])
            bounds = within.measured
            if args.measure:
                _check_measurable(bounds)
            with progress.line("searching (the first time, a predictor is fitted and kept)"):
                result = ncp(bench, weights, **limits, seed=args.seed, **options)
            row, fresh = _measured(result.codes, bounds) if args.measure else (0, {})
            code, said = tuple(result.codes[row].tolist()), _predicted(result, row)
            if args.explore:
                path = result.trajectory
                shown = within.macs if math.isfinite(within.macs) else None
                climb = explorer.Climb(path.codes, path.score, code, result.names, shown)
                explorer.write(bench, args.explore, climb=climb)
        else:
            fresh = {}
            with progress.line("searching"):
                asked, trace = _ask(bench, weights, {**limits, "fixed": fixed}, args)
            code, said = _best_asked(bench, asked, trace, args)
        about: dict[str, Any] = {
            "code": list(code),
            "string": domain.space.to_string(code),
            **_costs(domain, code),
            "measured": _measured_costs(bench, limits["limits"], code) | fresh,
            "tasks": [
                {
                    "task": goal.key,
                    "metric": goal.metric.name,
                    **own,
                    **_known(bench, domain, goal, code, {**limits, "fixed": fixed}),
                }
                for goal, own in zip(terms, said, strict=True)
            ],
        }
        joint = _best_joint(bench, weights, domain, {**limits, "fixed": fixed}) if len(terms) > 1 else None
        if joint is not None:
            about["best joint"] = joint
            for row, goal in zip(about["tasks"], terms, strict=True):
                row["best alone"], row["best joint"] = row.pop("best trained"), joint["values"][goal.key]
        if args.export:
            task = bench.task(args.head) if args.head else terms[0].task
            about["export"] = str(export(code, task, args.export))
            about["exported"] = {"task": task.name, **own_cost(code, task)}
        if args.explore:
            about["explore"] = args.explore
        if args.json:
            return command.print_json(about)
        print(about["string"])
        print(_cost(about))
        for name, entry in about["measured"].items():
            print(f"{entry['value']:.4g} {name} ({entry['source']})")
        print()
        print(command.format_table(about["tasks"]))
        if joint is not None:
            print(f"\nbest joint, tabulated: {joint['string']}\n{_cost(joint)}")
        if args.export:
            print("\n" + _exported(about))
        if args.explore:
            print(f"\n{args.explore} plays the search: open it in a browser")
        return None


def _costs(domain: Domain, code: tuple[int, ...]) -> dict[str, int | None]:
    """Return a code's macs and params; None where no one knows them."""
    one = np.array([code], np.int16)
    found = {"macs": domain.macs(one)[0], "params": domain.params(one)[0]}
    return {name: int(value) if np.isfinite(value) else None for name, value in found.items()}


def _cost(found: Mapping[str, Any]) -> str:
    """Describe a code's costs; small ones with three digits, as tables show them."""
    macs, params = (
        None if found[name] is None else found[name] / unit for name, (_, unit) in command.SHOWN.items()
    )
    if macs is None and params is None:
        return "its costs are unknown"
    told = "MACs unknown" if macs is None else f"{_digits(macs)} GMACs"
    return told + (", parameters unknown" if params is None else f", {_digits(params)} M parameters")


def _digits(value: float) -> str:
    return f"{value:.3f}" if value >= 0.1 else f"{value:.3g}"


def _exported(about: Mapping[str, Any]) -> str:
    """Describe what was exported: its cost as limits count it, and as a task trains it."""
    own = about["exported"]
    lines = [f"{about['export']} builds the network found, with the head of {own['task']}"]
    lines.append("its first lines say how to train it, and how to load trained weights")
    lines += [
        f"as limits count it: {about['macs']:,} MACs, {about['params']:,} parameters "
        f"(full width, {cost.NUM_CLASSES} classes, a 128x128 image)"
    ]
    if "macs" in own:
        lines += [
            f"as {own['task']} trains it: {own['macs']:,} MACs, {own['params']:,} parameters "
            f"(width {own['width']:g}, {own['classes']} classes, a 128x128 image)"
        ]
    return "\n".join(lines)


def _best_joint(
    bench: Benchmark, weights: dict[str, float], domain: Domain, options: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the tabulated code that is best jointly; None where none is tabulated for all tasks."""
    try:
        asked = Objective.table(bench, weights, **options)
    except (InfeasibleError, InvalidArgumentError):
        return None
    found = asked.best_measured()
    if found is None:
        return None
    code, values = found
    return {
        "code": list(code),
        "string": domain.space.to_string(code),
        **_costs(asked.domain, code),
        "values": {goal.key: float(value) for goal, value in zip(asked.goals, values, strict=True)},
    }


def _refuse_idle(args: argparse.Namespace) -> None:
    """Raise for an option that would have no effect beside the others."""
    # --more-macs is relative to --start, whatever searches.
    start = ["start"] if args.more_macs is None else []
    others = ["preset", "starts", "steps", "explore", "measure", *start]
    for here, why, idle in (
        (args.front, "with --front", ["transfer", "export", "head", *others]),
        (args.front and args.searcher is None, "with --front, but for a --searcher", ["seed"]),
        (args.transfer, "with --transfer", ["searcher", "export", "head", "explore", "measure"]),
        (args.searcher is not None, "with --searcher", others),
        (args.searcher is None, "without --searcher", ["budget", "source"]),
        (
            not any("@" in limit for limit in args.limit),
            "without --limit of a measured cost, such as latency_ms@cpu=20",
            ["measure"],
        ),
        (_preset(args.preset)["preset"] == "paper", "with --preset paper, which has one start", ["starts"]),
        (args.export is None, "without --export", ["head"]),
    ):
        if here:
            command.refuse_idle(args, why, *idle)


def _preset(text: str | None) -> dict[str, Any]:
    """Return "paper:rate=1" as arguments of `ncp`."""
    if text is None:
        return {"preset": None}
    name, settings = parse_searcher(text)
    check_options(Editing, settings, f"preset {name!r}", ())
    return {"preset": name, **settings}


def _weights(names: Sequence[str]) -> dict[str, float]:
    """Return "seg=2", "video" as weights; "seg+video" is two, as in `compare`."""
    weights: dict[str, float] = {}
    for name in (term for given in names for term in ([given] if "=" in given else given.split("+"))):
        key, equals, weight = name.partition("=")
        try:
            value = float(weight) if equals else 1.0
        except ValueError:
            raise InvalidArgumentError(f"the weight of {key!r} is {weight!r}; expected a number") from None
        if key in weights or not key:
            raise InvalidArgumentError(f"tasks are {', '.join(names)}; expected distinct names")
        weights[key] = value
    return weights


def _fixed(text: str | None) -> dict[str, int | str]:
    """Return "i1=16,i2=16" as a mapping; values that are not whole numbers stay as they are written."""
    fixed: dict[str, int | str] = {}
    for part in text.split(",") if text else ():
        name, _, value = part.strip().partition("=")
        if not value:
            raise InvalidArgumentError(
                f"--fixed: {part!r} is not a dimension with its value; expected such as i1=16"
            )
        if name in fixed:
            raise InvalidArgumentError(f"--fixed: {name!r} is given twice; expected one value")
        fixed[name] = int(value) if value.isdigit() and value.isascii() else value
    return fixed


def _start(bench: Benchmark, task: Task, text: str) -> Codes:
    """Return the code of --start: `(1, DIM)`."""
    code = command.code_of_row(bench, task.name, text) if text.startswith("#") else text
    return spaces.get(task.space).check([code])


def _max_macs(args: argparse.Namespace, domain: Domain, start: Codes | None) -> float | None:
    """Return the limit that --max-macs or --more-macs sets."""
    if args.more_macs is None:
        return None if args.max_macs is None else float(args.max_macs)
    if start is None or args.max_macs is not None:
        raise InvalidArgumentError(
            "--more-macs is a limit relative to --start: give --start, and no --max-macs"
        )
    if not -100 < args.more_macs < math.inf:
        raise InvalidArgumentError(f"--more-macs is {args.more_macs:g}; expected a percentage above -100")
    macs = domain.macs(start)[0]
    if not np.isfinite(macs):
        raise InvalidArgumentError("--more-macs needs the MACs of --start, which are unknown")
    if macs == 0:
        raise InvalidArgumentError(
            f"--more-macs is {args.more_macs:g} percent more than the MACs of --start, which are 0; give "
            "--max-macs instead"
        )
    return float(macs * (1 + args.more_macs / 100))


def _predicted(result: NCPResult, row: int) -> list[dict[str, float]]:
    """Return what NCP expects of one of its codes, by task."""
    return [
        {"predicted": float(mean), "std": float(std)}
        for mean, std in zip(result.predicted[row], result.std[row], strict=True)
    ]


def _check_measurable(limits: Sequence[measured.Limit]) -> None:
    """Raise before hours of searching where --measure could not measure what is limited."""
    from nasbench_mr.data_builders.measuring.campaign import setting_of

    for limit in limits:
        setting_of(limit.cost)


def _measured(codes: Codes, limits: Sequence[measured.Limit]) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the first row of codes that is measured within limits now, and what it costs."""
    from nasbench_mr.data_builders.measuring.campaign import remeasure

    for row, code in enumerate(codes[:MEASURED]):
        costs = [float(remeasure(code[None], each.cost, count=0)[0]) for each in limits]
        if all(cost <= each.most for cost, each in zip(costs, limits, strict=True)):
            return row, {
                each.cost.name: {"value": cost, "source": "measured now"}
                for cost, each in zip(costs, limits, strict=True)
            }
    raise InfeasibleError(
        f"none of the {min(len(codes), MEASURED)} best codes found is within --limit when it is measured; "
        "give a lower limit to --limit than the one you need, or more --starts"
    )


def _measured_costs(
    bench: Benchmark, limits: Mapping[str, float], code: tuple[int, ...]
) -> dict[str, dict[str, Any]]:
    """Return what a code costs, by the name of each measured cost that is limited, and who says so."""
    one, found = np.array([code], np.int16), {}
    for limit in measured.limits(bench, limits).measured:
        known = bool(np.isfinite(limit.cost.known(one)[0]))
        found[limit.cost.name] = {
            "value": float(limit.cost(one)[0]),
            "source": f"measured, {limit.cost.release}" if known else "estimated",
        }
    return found


def _ask(
    bench: Benchmark,
    weights: dict[str, float],
    options: Mapping[str, Any],
    args: argparse.Namespace,
) -> tuple[Objective, Trace]:
    """Return what another search asks, and what it finds."""
    source, budget = args.source or "table", 300 if args.budget is None else args.budget
    if source not in SOURCES:
        raise InvalidArgumentError(f"--source is {source!r}; expected {' or '.join(SOURCES)}")
    asked: Objective = getattr(Objective, source)(bench, weights, **options, front=args.front)
    name, settings = parse_searcher(args.searcher)
    return asked, run(make(name, asked, args.seed, **settings), asked, budget)


def _best_asked(
    bench: Benchmark, asked: Objective, trace: Trace, args: argparse.Namespace
) -> tuple[tuple[int, ...], list[dict[str, float]]]:
    """Return the best code that another search found, and what the source says of it."""
    code = trace.best_code
    if code is None:
        raise InvalidArgumentError(
            f"{args.searcher!r} trained no code to the end within --budget; give a larger one"
        )
    if args.source in (None, "table"):
        found = asked.source.measure(np.array([code], np.int16), asked.goals, None).values[0]
        return code, [{"measured": float(value)} for value in found]
    said = [(goal, bench.query(code, goal.task.name, source=args.source)) for goal in asked.goals]
    return code, [{"predicted": r[g.metric.name], "std": r.std[g.metric.name]} for g, r in said]


def _print_front(
    args: argparse.Namespace, bench: Benchmark, weights: dict[str, float], options: Mapping[str, Any]
) -> None:
    """Print the codes that no other one beats in any objective, and the hypervolume they have."""
    if equals := [text for text in args.tasks if "=" in text]:
        raise InvalidArgumentError(f"--front: {equals[0]!r} has a weight, which a front does not use")
    if args.searcher is None:
        asked = Objective.table(bench, weights, **options, front=True)
        found = asked.front()
        assert found is not None, "a table knows its front"
        codes, values = found
    else:
        asked, trace = _ask(bench, weights, options, args)
        codes = trace.front
        values = asked.source.measure(codes, asked.goals, None).values
        order = np.argsort(values[:, 0], kind="stable")
        codes, values = codes[order], values[order]
    assert asked.scale is not None
    volume, best = hypervolume(asked.scale(values)), asked.best()
    to_string, names = asked.domain.space.to_string, [goal.key for goal in asked.goals]
    rows = [
        {"code": list(code), "string": to_string(code), "values": dict(zip(names, told, strict=True))}
        for code, told in zip(map(tuple, codes.tolist()), values.tolist(), strict=True)
    ]
    heads = [command.SHOWN.get(name, (name, 1.0)) for name in names]
    shown = [
        {head: value / unit for (head, unit), value in zip(heads, told, strict=True)}
        | {"code": row["string"]}
        for row, told in zip(rows, values.tolist(), strict=True)
    ]
    of = "" if math.isnan(best) else f" of {best:.4f}"
    text = f"{len(rows)} codes that no other one beats; hypervolume {volume:.4f}{of}"
    data = {"objectives": names, "hypervolume": volume, "best hypervolume": best, "front": rows}
    command.show(args, data, f"{text}\n\n{command.format_table(shown)}")


def _known(
    bench: Benchmark, domain: Domain, goal: Goal, code: tuple[int, ...], within: Mapping[str, Any]
) -> dict[str, float | None]:
    """Return what a task's table says of the nearest code, and of the best one that could be found.

    The nearest code's MACs are of the found code's kind: by formula, where the space has one.
    """
    own = spaces.get(goal.task.space)
    codes = bench.codes(goal.task.name)
    steps = np.abs(codes - np.array(code)) // own.STEP
    # Between choices without an order there are no steps: they differ or not.
    distance = np.where(own.CHOICES, np.minimum(steps, 1), steps).sum(axis=1)
    row = int(distance.argmin())
    near = bench.query(tuple(codes[row].tolist()), goal.task.name, source="table")
    macs = near.get("macs") if cost.of(own) is None else float(domain.macs(codes[row : row + 1])[0])
    known: dict[str, float | None] = {
        "nearest": near[goal.metric.name],
        "distance": int(distance[row]),
        "nearest GMACs": None if macs is None else macs / 1e9,
        "best trained": None,
    }
    with contextlib.suppress(InfeasibleError):
        best = Objective.table(bench, goal.key, **within).best_measured()
        known["best trained"] = None if best is None else float(best[1][0])
    return known


def _print_transfer(args: argparse.Namespace, bench: Benchmark, found: Transfer) -> None:
    """Print the table of every pair."""
    to_string = spaces.get(bench.task(found.names[0].partition("/")[0]).space).to_string
    strings = [to_string(tuple(code)) for code in found.codes.tolist()]
    rows = [
        {"code for": name, **dict(zip(found.names, map(float, values), strict=True)), "GMACs": macs / 1e9}
        for name, values, macs in zip(found.names, found.predicted, found.macs.tolist(), strict=True)
    ]
    title = "Predicted for each task (columns), of the code found for each task (rows)"
    codes = [f"{name}: {string}" for name, string in zip(found.names, strings, strict=True)]
    data = {key: getattr(found, key) for key in ("codes", "macs", "params", "predicted", "regret")}
    data |= {"tasks": found.names, "strings": strings}
    command.show(args, data, "\n".join([f"{title}\n\n{command.format_table(rows)}\n", *codes]))


class CompareCommand(command.Command):
    """Compare searches over tasks and seeds at one budget.

    Prints each search's median regret (how far its best value is from the best one possible) and mean rank on
    each task at the end of the budget, and tests whether the searches differ. --out keeps every measurement
    as Parquet: rerun the command to resume, and draw the folder with `nasbench-mr plot`.

    "seg+video" is both tasks jointly; "evolution:population=20" sets an option of a search. With --front they
    are objectives side by side, "macs" and "params" among them, and what counts is the hypervolume.

    Example:
      nasbench-mr compare seg video --searchers random evolution ncp --budget 150 --out comparison
      nasbench-mr plot comparison --out comparison.png
      nasbench-mr compare mini-seg+macs --front --budget 60 --seeds 10 --release mini
    """

    kept = "finished runs"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        command.add_tasks(parser, 'the tasks; "seg+video" is both jointly', first=True)
        add(
            "--searchers",
            nargs="+",
            action=command.Names,
            metavar="S",
            help=f"of {', '.join(names())} (default: {' '.join(SEARCHERS)})",
        )
        add(
            "--front",
            action="store_true",
            help='"seg+video+macs" is a front of these objectives; regret is of hypervolume '
            f"(default searches: {' '.join(FRONT_SEARCHERS)})",
        )
        add("--budget", type=command.whole, default=300, metavar="N", help="codes a run (default 300)")
        add("--seeds", type=command.whole, default=100, metavar="N", help="runs of each (default 100)")
        add(
            "--batch",
            type=command.whole,
            default=1,
            metavar="N",
            help="codes asked for at a time (default 1)",
        )
        add("--source", default="table", metavar="S", help="table (default) or surrogate")
        command.add_engine(parser, "processes (default: one for each core)")
        add("--out", type=command.folder_to_write, metavar="FOLDER", help="keep the results there")
        add(
            "--reference",
            action="store_true",
            help="add the reference results of the other searches, which are not run",
        )
        command.add_limits(parser)
        command.add_distinct(parser)
        command.add_release(parser)
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        chosen = command.tasks_of(args)
        if args.reference or len(args.searchers or SEARCHERS) > 1:
            need("scipy", "search", "testing whether searches differ")
        found = compare(
            command.open_release(args),
            chosen,
            args.searchers,
            budget=args.budget,
            seeds=args.seeds,
            out=args.out,
            source=args.source,
            **command.limits_of(args),
            distinct=args.distinct,
            front=args.front,
            batch=args.batch,
            engine=args.engine,
            workers=args.workers,
            progress=True,
            reference=args.reference,
        )
        if args.json:
            return command.print_json(_comparison_json(found))
        final = found.final()
        print(f"Median regret after {args.budget} evaluations, {args.seeds} runs each\n")
        if args.reference:
            counts = {len(found.regret[found.tasks[0], s]) for s in found.about["reference"]}
            if counts - {args.seeds}:
                runs = ", ".join(map(str, sorted(counts)))
                print(f"of reference results {runs} runs; ranks and tests are of the first {found.paired}\n")
            names = ", ".join(found.about["reference"]) or "none: all were run"
            print(f"reference results ({found.about['reference release']}): {names}\n")
        print(command.format_table(_rows(final.assign(unit=found.about["unit"]))))
        print("\nMean rank, 1 the best\n")
        print(command.format_table(_rows(found.ranks())))
        if len(found.searchers) > 1:
            tests = found.tests()
            # Friedman's is a test of three searches or more.
            all_alike = "" if math.isnan(tests.p) else f"Friedman p = {tests.p:.2g}; "
            print(f"\nOver {tests.count} {tests.blocks}: {all_alike}pairs, Wilcoxon and Holm\n")
            print(command.format_table(_rows(tests.pairs.set_index("a"), "a")))
        if args.out:
            print(f"\nkept in {args.out}: nasbench-mr plot {args.out} --out comparison.png")
        return None


def _rows(frame: pd.DataFrame, index: str = "task") -> list[dict[str, Any]]:
    """Return a frame's rows for `format_table`, its index first."""
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
