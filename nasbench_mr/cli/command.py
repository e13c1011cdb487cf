"""What commands share: their base, options that several have, and the printing of tables and JSON."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasbench_mr.errors import InvalidArgumentError

if TYPE_CHECKING:
    from nasbench_mr.benchmark import Benchmark


class Command:
    """Base of all commands."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the command's arguments."""

    def run(self, args: argparse.Namespace) -> None:
        """Does the work and prints; raises `NasbenchMRError` for the user's mistakes."""
        raise NotImplementedError


def add_release(parser: argparse.ArgumentParser) -> None:
    """The --release option of every command that reads one."""
    parser.add_argument(
        "--release",
        metavar="R",
        help='a name, "name@version", a folder or a tarball (default: the default release)',
    )


def open_release(args: argparse.Namespace) -> Benchmark:
    """What --release names."""
    from nasbench_mr.benchmark import load

    return load(args.release)


def amount(text: str) -> float:
    """A cost limit: "2e9", "2G", "500M", "1.5M"."""
    factor = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1:])
    try:
        value = float(text[:-1]) * factor if factor else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no amount; expected a number such as 2e9 or 2G")
    return value


def add_limits(parser: argparse.ArgumentParser) -> None:
    """--max-macs and --max-params."""
    parser.add_argument("--max-macs", type=amount, metavar="N", help="at most N MACs, such as 2e9 or 2G")
    parser.add_argument("--max-params", type=amount, metavar="N", help="at most N parameters")


def code_of_row(bench: Benchmark, task: str, text: str) -> tuple[int, ...]:
    """A tabulated code (of `Benchmark.codes`), from its number as a user types it: "#12"."""
    codes = bench.codes(task)
    row = int(text[1:]) if text[1:].isdecimal() and len(text) < 12 else len(codes)
    if row >= len(codes):
        raise InvalidArgumentError(f"no code {text!r}: {task!r} has codes #0 to #{len(codes) - 1}")
    return tuple(codes[row].tolist())


def options_of(pairs: list[str]) -> dict[str, Any]:
    """Options written as NAME=VALUE, the values as JSON."""
    options = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            options[name] = json.loads(text)
        except ValueError:
            raise InvalidArgumentError(
                f"{pair!r} is no option; expected NAME=VALUE, such as epochs=20 (VALUE as in JSON)"
            ) from None
    return options


def add_option(parser: argparse.ArgumentParser) -> None:
    """The --option of commands that make predictors."""
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the predictor, such as epochs=20; may be given again",
    )


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
