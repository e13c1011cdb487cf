"""The command `measure`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import measured, release, space
from nasbench_mr.cli import command
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.extras import need

if TYPE_CHECKING:
    from nasbench_mr.arrays import Codes
    from nasbench_mr.data_builders.measuring.measure import Setting


#: Options that say how to measure.
_SETTING = ("device", "batch", "size", "threads", "repeat", "clock", "max_spread")


class MeasureCommand(command.Command):
    """Measure what codes cost on this device: latency, memory, and energy where the machine tells it.

    Each code's network (full width, 50 classes, as MACs are counted) is run with every --runtime, and
    --out/costs/LABEL.parquet is written. Finished groups of codes are kept in --out: rerun the command to
    resume. A run stops where the device is busy or throttles; the groups that tell so are not kept. With
    --install the table becomes a release, and "latency_ms@LABEL" a limit and an objective:
    nasbench-mr best seg --limit latency_ms@cpu=20.

    Example:
      nasbench-mr measure --release mini --out out --install my-costs@1.0.0
      nasbench-mr measure --codes codes.txt --device cuda --runtime torch compile --batch 8 --out out
      nasbench-mr measure --check latency_ms@cpu:onnx
    """

    kept = "groups measured while the device was calm"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--codes", metavar="FILE", help="a code on each line, or CSV or Parquet with their columns")
        add("--release", metavar="R", help="measure all codes of this release, such as mini")
        add("--device", metavar="D", help="cpu (default), cuda or cuda:1")
        add("--runtime", nargs="+", action=command.Names, metavar="T", help="torch (default), compile, onnx")
        add("--batch", type=command.whole, metavar="N", help="images in the input (default 1)")
        add("--size", type=command.whole, metavar="N", help="their sides in pixels (default 128)")
        add("--threads", type=command.whole, metavar="N", help="of a CPU (default 1)")
        add(
            "--repeat",
            type=command.whole,
            metavar="N",
            help="measured runs of a network, at least (default 4)",
        )
        add(
            "--clock",
            metavar="C",
            help="wall (default); or cpu, the time that one thread computes, where others use the CPU too",
        )
        add(
            "--max-spread",
            type=command.number,
            metavar="F",
            help="stop where half of the codes' quartiles lie further apart (default: 0.2 of the median)",
        )
        add("--out", type=command.folder_to_write, metavar="DIR", help="where measurements are kept")
        add("--label", metavar="L", help="what the table is called (default: cpu or cuda)")
        add("--install", metavar="NAME@VERSION", help="make and install a release of all tables in --out")
        command.add_engine(parser, "processes that measure at once (default 1)", 1)
        add("--address", metavar="A", help="ray: the cluster's address")
        add(
            "--check",
            metavar="COST",
            help="measure codes of this cost again, such as latency_ms@cpu, and print the rank correlation",
        )
        add("--sample", type=command.whole, metavar="N", help="how many codes --check measures (default 64)")
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        (_check if args.check else _measure)(args)


def _measure(args: argparse.Namespace) -> None:
    command.refuse_idle(args, "without --check", "sample")
    if args.out is None:
        raise InvalidArgumentError("measure needs --out DIR, where measurements are kept")
    name, version = command.name_and_version("--install", args.install)
    if args.install:
        command.check_release(name, version, None)
    from nasbench_mr.data_builders.measuring import campaign

    # Mistakes in one of them come to light before hours of the others.
    settings = [_setting(args, runtime=runtime) for runtime in args.runtime or ("torch",)]
    if any(setting.runtime == "onnx" for setting in settings):
        need("onnxruntime", "measure", "the runtime 'onnx'")
    codes = _codes(args)
    options = {"address": args.address} if args.address else {}
    for setting in settings:
        path = campaign.measure(
            codes,
            setting,
            args.out,
            label=args.label,
            engine=args.engine,
            count=args.workers,
            progress=True,
            **options,
        )
    made = None
    if args.install:
        made = release.create(
            lambda folder: _collect(Path(args.out), folder),
            name,
            version,
            [],
            about={"title": f"Costs measured on {measured.read(path).device}"},
        )
    _print(args, path, made)


def _collect(out: Path, folder: Path) -> None:
    """Copy the tables of costs, and those of zero-cost proxies where there are some."""
    for kind in release.BESIDE_TRIALS:
        if (out / kind).is_dir():
            shutil.copytree(out / kind, folder / kind)


def _check(args: argparse.Namespace) -> None:
    """Measure a sample of a table again."""
    from nasbench_mr import load
    from nasbench_mr.data_builders.measuring import campaign

    # A device that is always busier than the table's can be allowed to be.
    before = [name for name in _SETTING if name != "max_spread"]
    others = ("codes", "release", "runtime", "out", "label", "install", "address", *before)
    command.refuse_idle(args, "with --check, which measures as before", *others)
    sample = 64 if args.sample is None else args.sample
    found = campaign.recheck(load().cost(args.check), sample, count=args.workers, max_spread=args.max_spread)
    command.show(args, found, command.format_table([found]))


def _setting(args: argparse.Namespace, **known: Any) -> Setting:
    """Return how to measure: what was typed, else the defaults."""
    from nasbench_mr.data_builders.measuring.measure import Setting

    typed = {name: getattr(args, name) for name in _SETTING if getattr(args, name) is not None}
    return Setting(**known, **typed)


def _codes(args: argparse.Namespace) -> Codes:
    if (args.codes is None) == (args.release is None):
        raise InvalidArgumentError("measure needs --codes FILE or --release NAME, one of them")
    if args.codes is not None:
        from nasbench_mr.data_builders.building.runner import read_codes

        return read_codes(args.codes)
    bench = command.open_release(args)
    found = [bench.codes(task) for task in bench.tasks if bench.task(task).space == space.NAME]
    if not found:
        raise InvalidArgumentError(f"{bench} has no codes of the space {space.NAME!r}")
    every = np.concatenate(found)
    return every[np.sort(np.unique(every, axis=0, return_index=True)[1])]


def _print(args: argparse.Namespace, path: Path, made: release.Release | None) -> None:
    table = measured.read(path)
    rows = []
    for runtime in table.runtimes:
        at = table.rows(runtime)
        latency = table.columns["latency_ms"][at]
        spread = (table.columns["latency_q3_ms"][at] - table.columns["latency_q1_ms"][at]) / latency
        rows.append(
            {
                "runtime": runtime,
                "codes": len(at),
                "least ms": float(latency.min()),
                "median ms": float(np.median(latency)),
                "most ms": float(latency.max()),
                "spread": float(np.median(spread)),
                "outliers": float(table.columns["outliers"][at].mean()),
                "drift": _drift(table.about["reference_ms"][runtime]),
            }
        )
    place = path if made is None else f"{made} in {made.path}"
    data = {"path": str(path), "release": made and str(made), "runtimes": rows}
    command.show(args, data, f"{table.device}\n\n{command.format_table(rows)}\n\n{place}")


def _drift(reference: list[float]) -> float:
    """Return how far the quartiles of the reference's time over the run lie apart, relative to the median."""
    low, middle, high = reference
    return (high - low) / middle
