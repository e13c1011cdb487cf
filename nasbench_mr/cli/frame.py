"""What happens around a command: the parser, the user's mistakes in one line, the exit status."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from nasbench_mr.cli.command import Command
from nasbench_mr.errors import NasbenchMRError, did_you_mean


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as for every other mistake; --help shows the rest."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"nasbench-mr: {message} ({self.prog} --help explains)\n")


def run(registry: Mapping[str, tuple[str, str, str]], argv: Sequence[str] | None = None) -> int:
    """Run one of the registered commands; return its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    name = next((a for a in argv if not a.startswith("-")), None)
    parser = _Parser(
        prog="nasbench-mr",
        description="A multi-task neural-architecture benchmark: query it, search it, extend it.",
        epilog="'nasbench-mr COMMAND --help' explains a command, with an example.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    if name is not None and name not in registry:
        parser.error(f"no command {name!r}: {did_you_mean(name, registry)}")
    try:
        for key, (module, cls, help_line) in registry.items():
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
