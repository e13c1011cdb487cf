"""What happens around a command: the parser, the user's mistakes in one line, signals, the exit status."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn

from nasbench_mr import escape
from nasbench_mr.cli.command import Command
from nasbench_mr.errors import NasbenchMRError, did_you_mean


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, as for every other mistake; --help shows the rest.

    Options may stand before, between and after the other words.
    """

    _has_actions = False
    _inside = False

    def add_subparsers(self, **options: Any) -> Any:
        self._has_actions = True
        return super().add_subparsers(**options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._has_actions or self._inside:
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            found, extra = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False
        if extra:
            self.error(self._unknown(extra))
        found.parser = self
        return found, extra

    def _unknown(self, extra: Sequence[str]) -> str:
        flag = next((word.partition("=")[0] for word in extra if word.startswith("-")), None)
        if flag is None:
            return f"unexpected argument {extra[0]!r}"
        known = [name.lstrip("-") for action in self._actions for name in action.option_strings]
        guess = did_you_mean(flag.lstrip("-"), known)
        if not guess.startswith("did you mean"):
            return f"no option {flag}"
        return f"no option {flag}: {_flags(guess)}"

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        self.exit(2, f"nasbench-mr: {message} ({self.prog} --help explains)\n")

    def as_typed(self, message: str) -> str:
        """Return a message of the packages with their arguments' names as the user typed them."""
        for action in self._actions:
            if "_" in action.dest and action.option_strings:
                message = re.sub(rf"(?<![\w.-]){action.dest}(?![\w(])", action.option_strings[-1], message)
        return message


def _flags(guess: str) -> str:
    return re.sub("'([^']+)'", r"--\1", guess)


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what Ctrl-C ends, it ends the same way."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` in the main thread, so that what was begun is ended in order."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(registry: Mapping[str, tuple[str, str, str]], argv: Sequence[str] | None = None) -> int:
    """Run one of the registered commands; return its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal or pipe that can't show a "±" shows its number
        sys.stdout.reconfigure(errors="backslashreplace")
    command, args = Command(), argparse.Namespace(typed=argv)
    try:
        with _terminable(), _warnings_in_a_line():
            parser, command = make_parser(registry, argv)
            parser.parse_args(argv, args)
            status = command.run(args) or 0
            if sys.stdout is not None:  # it is None where the caller closed it
                sys.stdout.flush()
            return status
    except SystemExit as stop:  # of the parser: help, or a mistake that is printed already
        return int(stop.code or 0)
    except NasbenchMRError as error:
        return _refuse(str(error), args)
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # A path of the user's that is not there, or not of the right kind.
        where = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        return _refuse(where, args)
    except KeyboardInterrupt as stop:
        # CPython remembers one that passed through an exec, as of a named tuple's source in an import, and
        # would end by the signal, whatever the status; the next exec makes it forget.
        exec("")
        ended = isinstance(stop, Terminated)
        how = "terminated" if ended else "interrupted"
        print(f"nasbench-mr: {how}: {command.resume(args)}", file=sys.stderr)
        return 128 + (signal.SIGTERM if ended else signal.SIGINT)


@contextlib.contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Print the package's own warnings as its other messages, without where they were raised."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **how: Any) -> None:
            if category.__module__.startswith("nasbench_mr."):
                print(f"nasbench-mr: {escape.terminal(str(message))}", file=sys.stderr)
            else:
                usual(message, category, *where, **how)

        warnings.showwarning = show
        yield


def _refuse(message: str, args: argparse.Namespace) -> int:
    """Print a mistake of the user's in one line; return the exit status."""
    parser: Parser | None = getattr(args, "parser", None)
    message = " ".join(message.split())
    shown = escape.terminal(message if parser is None else parser.as_typed(message))
    print(f"nasbench-mr: {shown}", file=sys.stderr)
    return 2


def make_parser(
    registry: Mapping[str, tuple[str, str, str]], argv: Sequence[str]
) -> tuple[argparse.ArgumentParser, Command]:
    """Return the parser of a command line, and the command that it names; no other one is imported."""
    name = next((a for a in argv if not a.startswith("-")), None)
    parser = Parser(
        prog="nasbench-mr",
        description="A multi-task neural-architecture benchmark: query it, search it, extend it.",
        epilog="'nasbench-mr COMMAND --help' explains a command, with an example.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    if name is not None and name not in registry:
        parser.error(f"no command {name!r}: {did_you_mean(name, registry)}")
    command = Command()
    for key, (module, cls, help_line) in registry.items():
        if key != name:
            commands.add_parser(key, help=help_line)
            continue
        command = getattr(importlib.import_module(module), cls)()
        sub = commands.add_parser(
            key,
            help=help_line,
            description=inspect.getdoc(command),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(sub)
    return parser, command


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str):
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        from nasbench_mr import __version__

        print(f"nasbench-mr {__version__}")
        parser.exit()
