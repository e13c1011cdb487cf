"""The commands that ask the tables: `tasks`, `query`, `best`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasbench_mr import escape, spaces
from nasbench_mr.cli import command
from nasbench_mr.errors import OutOfSpaceError

if TYPE_CHECKING:
    from nasbench_mr.benchmark import Benchmark, Result


class TasksCommand(command.Command):
    """List the tasks, or describe one.

    Example:
      nasbench-mr tasks
      nasbench-mr tasks seg
      nasbench-mr tasks --noise --release mini
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("task", nargs="?", metavar="TASK", help="a task to describe in full")
        parser.add_argument(
            "--noise", action="store_true", help="print how much codes differ, and the seeds of one code"
        )
        command.add_release(parser)
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        bench = command.open_release(args)
        if args.noise:
            found = bench.noise([args.task] if args.task else None).rename_axis("task").reset_index()
            noise = [dict(zip(map(str, found), row, strict=True)) for row in found.to_numpy().tolist()]
            return command.show(args, noise, None if noise else "no task has codes with several seeds")
        if args.task:
            task = bench.task(args.task).to_dict()
            if args.json:
                return command.print_json(task)
            for key, value in task.items():
                if key == "metrics":
                    value = ", ".join(f"{m['name']} ({m['unit']}, {m['direction']})" for m in value)
                elif isinstance(value, tuple):
                    value = ", ".join(value)
                print(f"{key:16} {'unknown' if value is None else escape.terminal(str(value))}")
            return None
        rows = task_rows(bench)
        if args.json:
            return command.print_json({"releases": list(map(str, bench.releases)), "tasks": rows})
        for release in bench.releases:
            print(f"{release} ({escape.terminal(str(release.about.get('title', release.path)))})")
        print()
        print(command.format_table(rows))
        return None


def task_rows(bench: Benchmark) -> list[dict[str, Any]]:
    """Return one row a task: its size and the range of its objective."""
    rows = []
    for name in bench.tasks:
        task = bench.task(name)
        values = bench.query_many(bench.codes(name), name, (task.objective,), source="table")[task.objective]
        rows.append(
            {
                "task": name,
                **({"release": str(bench.release_of(name))} if len(bench.releases) > 1 else {}),
                "dataset": task.dataset,
                "codes": len(values),
                "objective": task.objective,
                "min": float(values.min()) if len(values) else None,
                "mean": float(values.mean()) if len(values) else None,
                "max": float(values.max()) if len(values) else None,
            }
        )
    return rows


class QueryCommand(command.Command):
    """Print what a code achieves, in the tasks named or in all.

    CODE is 27 integers or the published string; "#12" is the number 12 of a task's tabulated codes. A code
    that is not tabulated is answered by the surrogate: the value and its standard deviation (±), and how many
    steps of the grid away the nearest tabulated code is (distance).

    Example:
      nasbench-mr query '#0' seg
      nasbench-mr query '#0' seg video --json
      nasbench-mr query 64_64-2_1_2_64-2_2_2_2_64_64-2_3_2_2_2_64_64_64-2_4_2_2_2_2_64_64_64_64-64
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        parser.usage = "%(prog)s CODE [TASK ...] [options]"
        add(
            "code",
            nargs="+",
            metavar="CODE",
            help="the code, in quotes or as 27 integers; then tasks (default: all that can answer)",
        )
        command.add_tasks(parser, "tasks, as an option")
        add("--source", default="auto", metavar="S", help="auto (default), table or surrogate")
        add("--seed", type=command.whole, metavar="K", help="one seed's trial instead of the mean")
        add("--epoch", type=command.whole, metavar="E", help="a point of the learning curve")
        command.add_release(parser)
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        bench = command.open_release(args)
        text, named = split_code(args.code)
        names = [*named, *(args.tasks or ())] or list(bench.chosen(None))
        code: Any = command.code_of_row(bench, names[0], text) if text.startswith("#") else text
        results, errors = [], []
        for name in names:
            try:
                results.append(bench.query(code, name, source=args.source, seed=args.seed, epoch=args.epoch))
            except (LookupError, OutOfSpaceError) as error:
                errors.append(error)
        if errors and (not results or named or args.tasks):
            raise errors[0]
        if args.json:
            return command.print_json([result_json(r) for r in results])
        print(spaces.get(bench.task(results[0].task).space).to_string(results[0].code))
        return print_results(result_rows(results))


def split_code(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the code at the beginning of some words, and the tasks after it.

    A code is one word, or several numbers.
    """
    digits = re.compile(r"[\d\s,()\[\]]+")
    count = next((k for k, word in enumerate(words) if not digits.fullmatch(word)), len(words))
    return " ".join(words[: count or 1]), command.split_names(words[count or 1 :])


class BestCommand(command.Command):
    """Print the best tabulated codes of a task under a cost limit.

    Example:
      nasbench-mr best seg -k 3 --max-macs 1G
      nasbench-mr best seg --limit latency_ms@cpu=20
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("task", metavar="TASK", help="the task")
        add("-k", type=command.whole, metavar="N", default=5, help="how many (default 5)")
        add("--metric", metavar="M", help="what to rank by (default: the task's objective)")
        command.add_limits(parser)
        command.add_distinct(parser)
        command.add_release(parser)
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        import numpy as np

        bench = command.open_release(args)
        limits = command.limits_of(args)
        best = bench.best(
            args.task,
            args.k,
            **limits,
            metric=args.metric,
            distinct=args.distinct,
        )
        codes = np.array([r.code for r in best], np.int16)
        costs = {name: bench.cost(name).known(codes) for name in limits["limits"] if "@" in name}
        if args.json:
            rows = [result_json(r) for r in best]
            for k, row in enumerate(rows):
                row["values"] |= {name: float(values[k]) for name, values in costs.items()}
            return command.print_json(rows)
        shown = best_rows(bench, args.task, best)
        for k, row in enumerate(shown):
            code = row.pop("code")
            row |= {name: float(values[k]) for name, values in costs.items()} | {"code": code}
        print(command.format_table(shown))
        return None


def best_rows(bench: Benchmark, task: str, best: Sequence[Result]) -> list[dict[str, Any]]:
    """Return ranked results as rows that end with the code."""
    to_string = spaces.get(bench.task(task).space).to_string
    hidden = ("task", "source", "seeds")
    rows = [{k: v for k, v in row.items() if k not in hidden} for row in result_rows(best)]
    return [row | {"code": to_string(r.code)} for row, r in zip(rows, best, strict=True)]


def result_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return results as rows for `format_table`, costs in readable units."""
    rows = []
    for r in results:
        guessed = r.source == "surrogate"
        row: dict[str, Any] = {"task": r.task}
        for name, value in r.items():
            if name not in ("macs", "params"):
                sure = not guessed or name not in r.std
                row[name] = value if sure else f"{command.digits(value)} ± {command.digits(r.std[name])}"
        for name, (shown, unit) in command.SHOWN.items():
            if name in r:
                row[shown] = r[name] / unit
        row |= {"source": r.source}
        row |= {"distance": round(r.distance)} if guessed else {"seeds": len(r.seeds)}
        rows.append(row)
    return rows


def result_json(result: Result) -> dict[str, Any]:
    """Return a result as plain data."""
    return {
        "code": list(result.code),
        "task": result.task,
        "source": result.source,
        "values": dict(result),
        "std": dict(result.std),
        "seeds": list(result.seeds),
        "distance": result.distance,
    }


def print_results(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows that may have different metrics, one table for each set of columns."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    for group in groups.values():
        print()
        print(command.format_table(group))
