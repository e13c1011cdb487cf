"""What commands share: their base, options that several have, and the printing of tables and JSON."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasbench_mr import escape
from nasbench_mr.errors import InvalidArgumentError, MissingExtraError, ReleaseError, StorageError

if TYPE_CHECKING:
    from nasbench_mr.benchmark import Benchmark


class Command:
    """Base of all commands.

    Attributes:
        kept: what stays in the folder --out when the command is stopped; "": nothing does.
    """

    kept = ""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, args: argparse.Namespace) -> int | None:
        """Do the work and print; return an exit status, or None for 0.

        Raises:
            NasbenchMRError: the user made a mistake.
        """
        raise NotImplementedError

    def resume(self, args: argparse.Namespace) -> str:
        """Say, after Ctrl-C, what was kept and how to resume."""
        if not self.kept:
            return "nothing was changed; rerun the command to start again"
        if out := getattr(args, "out", None):
            return f"{self.kept} are kept in {out}; rerun the command to resume"
        return f"nothing was kept; --out FOLDER keeps {self.kept}"


# --- Values of options --------------------------------------------------------------------------------


def whole(text: str) -> int:
    """Read a whole number, such as "3" or "2_000"."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def number(text: str) -> float:
    """Read a finite number, such as "0.5"."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def amount(text: str) -> float:
    """Read a cost limit: "2e9", "2G", "500M", "1.5M"."""
    factor = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1:])
    try:
        value = float(text[:-1]) * factor if factor else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a valid cost limit; expected at least 0, such as 20, 2e9 or 2G"
        )
    return value


def split_names(parts: Sequence[str]) -> list[str]:
    """Return names given with commas or spaces; a comma in brackets belongs to an option of a name."""
    return [name.strip() for part in parts for name in re.split(r",(?![^(\[]*[)\]])", part) if name.strip()]


class Names(argparse.Action):
    """A list of names with commas or spaces, which may be given in several places."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        found = split_names(values or ())
        if option_string and not found:
            raise argparse.ArgumentError(self, "expected at least one name")
        known = getattr(namespace, self.dest, None)
        setattr(namespace, self.dest, [*(known or ()), *found] or None)


class Sizes(argparse.Action):
    """A list of whole numbers with commas or spaces, which may be given in several places."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        try:
            known = getattr(namespace, self.dest, None) or []
            setattr(namespace, self.dest, [*known, *(whole(text) for text in split_names(values))])
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None


def file_to_write(*endings: str, extra: tuple[str, str] | None = None) -> Callable[[str], str]:
    """Return the type of an option that names a file to write, checked before any work.

    Args:
        endings: those that the name may have; none: any.
        extra: the module that writes it, and the extra that installs this.
    """

    def checked(text: str) -> str:
        from nasbench_mr import extras, files

        if endings and not text.lower().endswith(endings):
            *most, last = endings
            listed = f"{', '.join(most)} or {last}" if most else last
            raise argparse.ArgumentTypeError(f"{text}: expected a name that ends in {listed}")
        try:
            if extra is not None:
                extras.need(*extra, "writing it")
            files.check_writable(text)
        except (MissingExtraError, StorageError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    return checked


def folder_to_write(text: str) -> str:
    """Check, as the type of an option, that a folder can be written; before any work."""
    from nasbench_mr import files

    if "://" in text:  # of an object store, which says so itself
        return text
    try:
        files.check_writable(os.path.join(text, "x"))
    except StorageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def picture(text: str) -> str:
    """Check, as the type of an option, that a picture can be written; before any work."""
    return file_to_write(".png", ".pdf", ".svg", extra=("matplotlib", "plot"))(text)


# --- Options that several commands have ---------------------------------------------------------------


def add_tasks(parser: argparse.ArgumentParser, text: str, *, first: bool = False) -> None:
    """Add --tasks, which is --task as well: names with commas or spaces, in `args.tasks`.

    Args:
        text: the help.
        first: they are what the command is about, so they can also stand first, without an option.
    """
    options: dict[str, Any] = {"action": Names, "metavar": "T", "default": None}
    if first:
        parser.usage = "%(prog)s TASK [TASK ...] [options]"
        parser.add_argument("tasks", nargs="*", action=Names, metavar="TASK", default=None, help=text)
        parser.add_argument("--tasks", "--task", nargs="+", **options, help="the same, as an option")
    else:
        parser.add_argument("--tasks", "--task", nargs="+", **options, help=text)


def tasks_of(args: argparse.Namespace) -> list[str]:
    """Return the tasks of a command that needs some; raise `InvalidArgumentError` where none was named."""
    if not args.tasks:
        raise InvalidArgumentError(
            f"no task is named; expected nasbench-mr {args.command} TASK [TASK ...]; "
            "nasbench-mr tasks lists them"
        )
    return list(args.tasks)


def add_engine(parser: argparse.ArgumentParser, workers: str, default: int | None = None) -> None:
    """Add --engine and --workers, whose help is `workers`."""
    parser.add_argument("--engine", default="local", metavar="E", help="local (default) or ray")
    parser.add_argument("--workers", type=whole, default=default, metavar="N", help=workers)


def add_release(parser: argparse.ArgumentParser) -> None:
    """Add --release."""
    parser.add_argument(
        "--release",
        metavar="R",
        help='ask one release alone: a name, "name@version", a folder or a tarball (default: all installed)',
    )


def open_release(args: argparse.Namespace) -> Benchmark:
    """Open what --release names, by default all that is installed; say on stderr what is left out."""
    from nasbench_mr import progress
    from nasbench_mr.benchmark import load

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with progress.line("opening the release"):
            bench = load(args.release)
    for warning in caught:
        print(f"nasbench-mr: {warning.message}", file=sys.stderr)
    return bench


def add_place(parser: argparse.ArgumentParser, default: str = "the only one there is") -> None:
    """Add the word that names a release to `open_release`."""
    text = f"a name, folder or tarball (default: {default})"
    parser.add_argument("release", nargs="?", metavar="RELEASE", help=text)


def name_and_version(option: str, text: str | None) -> tuple[str, str]:
    """Return what NAME@VERSION says; two empty texts where the option is not given."""
    name, at, version = (text or "").partition("@")
    if text and not (name and at and version):
        raise InvalidArgumentError(f"{option} is {text!r}; expected NAME@VERSION, such as mine@1.0.0")
    return name, version


def add_limits(parser: argparse.ArgumentParser, *, measured: bool = True) -> None:
    """Add --max-macs, --max-params and, of measured costs, --limit; see `limits_of`."""
    parser.add_argument(
        "--max-macs",
        type=amount,
        metavar="N",
        help="at most N MACs, such as 2e9 or 2G: those of the full-width 50-class network for a 128x128 "
        "image, whatever the task",
    )
    parser.add_argument(
        "--max-params", type=amount, metavar="N", help="at most N parameters of that same network"
    )
    if measured:
        parser.add_argument(
            "--limit",
            action="append",
            default=[],
            metavar="COST=N",
            help="at most N of a measured cost, such as latency_ms@cpu=20; may be given again",
        )


def limits_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `add_limits` as arguments: `max_macs`, `max_params` and `limits`."""
    found: dict[str, float] = {}
    for text in args.limit:
        name, equals, most = text.partition("=")
        if not equals or not name or name in found:
            raise InvalidArgumentError(f"--limit {text!r}: expected COST=N once, such as latency_ms@cpu=20")
        try:
            found[name] = amount(most)
        except argparse.ArgumentTypeError as error:
            raise InvalidArgumentError(f"--limit {text!r}: {error}") from None
    return {"max_macs": args.max_macs, "max_params": args.max_params, "limits": found}


def add_distinct(parser: argparse.ArgumentParser) -> None:
    """Add --distinct."""
    parser.add_argument(
        "--distinct",
        action="store_true",
        help="count codes that are one network (isomorphic cells of NAS-Bench-201) once",
    )


def code_of_row(bench: Benchmark, task: str, text: str) -> tuple[int, ...]:
    """Return a tabulated code (of `Benchmark.codes`), from its number as a user types it: "#12"."""
    codes = bench.codes(task)
    row = int(text[1:]) if text[1:].isdecimal() and len(text) < 12 else len(codes)
    if row >= len(codes):
        raise InvalidArgumentError(f"no code {text!r}: {task!r} has codes #0 to #{len(codes) - 1}")
    return tuple(codes[row].tolist())


def options_of(pairs: list[str]) -> dict[str, Any]:
    """Return options written as NAME=VALUE, the values as JSON."""
    options = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            options[name] = json.loads(text)
        except ValueError:
            raise InvalidArgumentError(
                f"{pair!r} is not an option; expected NAME=VALUE, such as epochs=20 (VALUE as in JSON)"
            ) from None
    return options


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add --option, for commands that make predictors."""
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the predictor, such as epochs=20; may be given again",
    )


def refuse_idle(args: argparse.Namespace, why: str, *names: str) -> None:
    """Raise for options among some that were given, though they have no effect: `why` ends the sentence."""
    given = [
        f"--{name.replace('_', '-')}"
        for name in names
        if (value := getattr(args, name)) not in (None, []) and value is not False
    ]
    if given:
        raise InvalidArgumentError(
            f"{', '.join(given)} {'have' if len(given) > 1 else 'has'} no effect {why}"
        )


def check_release(name: str, version: str | None, folder: str | None) -> None:
    """Raise where a release can't be made at the end of a command, before its work.

    Args:
        version: of what will be made; None: a free one is found.
        folder: where it will be; None: it will be installed.
    """
    from nasbench_mr import files, release

    if version is not None:
        release.check_name(name, version)
    if folder is not None:
        if os.path.exists(os.path.join(folder, release.MANIFEST)):
            raise ReleaseError(f"{folder} has a release already; give another folder, or remove that one")
        return
    if (name, version) in release.installed():
        raise ReleaseError(
            f"{name}@{version} is installed already; choose another version, or remove that one first"
        )
    files.check_writable(release.home() / "releases" / name / "x")


# --- Printing -----------------------------------------------------------------------------------------


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json, for commands that print results."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


#: How tables show costs: the column's name, and its unit.
SHOWN = {"macs": ("GMACs", 1e9), "params": ("Mparams", 1e6)}


def show(args: argparse.Namespace, data: Any, text: str | None = None) -> None:
    """Print results: data as JSON with --json; else a text about them, by default a table of the rows."""
    if args.json:
        print_json(data)
    else:
        print(format_table(data) if text is None else text)


def print_json(data: object) -> None:
    """Print plain data as JSON: NaN and infinities as null, NumPy's values as numbers and lists."""
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
    """Return rows as aligned text: numbers right, text left; missing and NaN values as "-"."""
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


def digits(value: float) -> str:
    """Return a number with the digits that matter: two decimals, or three digits of a small one."""
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"


def _cell(value: object) -> str:
    if value is None or value != value:
        return "-"
    if isinstance(value, float):
        return digits(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return escape.terminal(str(value)).replace("\n", " ")
