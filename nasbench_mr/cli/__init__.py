"""The command line: `nasbench-mr COMMAND`.

A command is a subclass of `Command`: the first line of its docstring is its help, the rest its description,
with an example. `COMMANDS` lists all by address; a module is imported only when one of its commands is
asked for, so `nasbench-mr query` never loads torch. The user's mistakes are `NasbenchMRError`s: one line on
stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from nasbench_mr.errors import NasbenchMRError, did_you_mean

#: Name: (module, class, help). The help stands here too, so that `--help` imports nothing.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": (
        "nasbench_mr.cli.releases",
        "Demo",
        "a tour: tasks, one code everywhere, the best codes, correlations",
    ),
    "fetch": ("nasbench_mr.cli.releases", "Fetch", "download the published tables, or a packed release"),
    "import": (
        "nasbench_mr.cli.releases",
        "Import",
        "import a local copy of the published tables, or your own table",
    ),
    "tasks": ("nasbench_mr.cli.releases", "Tasks", "list a release's tasks, or describe one"),
    "query": ("nasbench_mr.cli.releases", "Query", "print what a code achieves"),
    "best": ("nasbench_mr.cli.releases", "Best", "print the best tabulated codes under a cost limit"),
    "verify": ("nasbench_mr.cli.releases", "Verify", "re-hash a release and derive its costs again"),
    "pack": ("nasbench_mr.cli.releases", "Pack", "write a release as a reproducible tarball"),
    "card": ("nasbench_mr.cli.releases", "Card", "print a release's dataset card"),
    "search": ("nasbench_mr.cli.searching", "Search", "find a network for one task or several"),
    "compare": ("nasbench_mr.cli.searching", "Compare", "compare searches over tasks and seeds"),
    "predict-eval": ("nasbench_mr.cli.predicting", "PredictEval", "score predictors on fixed splits"),
    "surrogate": ("nasbench_mr.cli.predicting", "Surrogate", "fit the surrogates of a release"),
    "data": ("nasbench_mr.cli.building", "Data", "make, fetch, pack or describe data sets"),
    "build": ("nasbench_mr.cli.building", "Build", "train codes and write their tables"),
    "auxnas": ("nasbench_mr.cli.searching", "AuxNAS", "train a primary network with auxiliary labels"),
    "explore": ("nasbench_mr.cli.explore", "Explore", "write a page to look at the tables in a browser"),
    "plot": ("nasbench_mr.plot", "Plot", "draw a comparison, an evaluation or a release"),
}


class Command:
    """Base of all commands."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the command's arguments."""

    def run(self, args: argparse.Namespace) -> None:
        """Does the work and prints; raises `NasbenchMRError` for the user's mistakes."""
        raise NotImplementedError


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as for every other mistake; --help shows the rest."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"nasbench-mr: {message} ({self.prog} --help explains)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    name = next((a for a in argv if not a.startswith("-")), None)
    parser = _Parser(
        prog="nasbench-mr",
        description="A multi-task neural-architecture benchmark: query it, search it, extend it.",
        epilog="'nasbench-mr COMMAND --help' explains a command, with an example.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    if name is not None and name not in COMMANDS:
        parser.error(f"no command {name!r}: {did_you_mean(name, COMMANDS)}")
    try:
        for key, (module, cls, help_line) in COMMANDS.items():
            if key != name:
                commands.add_parser(key, help=help_line)
                continue
            command: Command = getattr(importlib.import_module(module), cls)()
            sub = commands.add_parser(
                key,
                help=help_line,
                description=inspect.getdoc(command),
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            command.arguments(sub)
            sub.set_defaults(run=command.run)
        args = parser.parse_args(argv)
        args.run(args)
        if sys.stdout is not None:  # it is None where the caller closed it
            sys.stdout.flush()
    except NasbenchMRError as error:
        print(f"nasbench-mr: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # A path of the user's that is not there, or not of the right kind.
        print(f"nasbench-mr: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str):
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        from nasbench_mr import __version__

        print(f"nasbench-mr {__version__}")
        parser.exit()


def add_json(parser: argparse.ArgumentParser) -> None:
    """The --json flag of every command that prints results."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def print_json(data: object) -> None:
    """Prints plain data as JSON: NaN and infinities as null, NumPy's values as numbers and lists."""
    print(json.dumps(_plain(data), indent=2))


def _plain(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(k): _plain(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(v) for v in data]
    if hasattr(data, "tolist"):
        return _plain(data.tolist())
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


def format_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None) -> str:
    """Rows as aligned text: numbers right, text left; missing and NaN values as "-"."""
    if not rows:
        return "(none)"
    columns = list(rows[0]) if columns is None else list(columns)
    cells = [[_cell(row.get(c)) for c in columns] for row in rows]
    numeric = [all(isinstance(row.get(c), (int, float, type(None))) for row in rows) for c in columns]
    widths = [max(len(c), *(len(line[k]) for line in cells)) for k, c in enumerate(columns)]

    def line(values: Sequence[str]) -> str:
        padded = (
            v.rjust(w) if right else v.ljust(w) for v, w, right in zip(values, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(columns), line(["-" * w for w in widths]), *(line(c) for c in cells)])


def _cell(value: object) -> str:
    if value is None or value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
