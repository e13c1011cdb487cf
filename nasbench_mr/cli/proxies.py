"""The command `proxies`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nasbench_mr.cli.command import (
    Command,
    Names,
    add_json,
    add_release,
    add_tasks,
    folder_to_write,
    open_release,
    print_json,
    tasks_of,
    whole,
)


class Proxies(Command):
    """Compute zero-cost proxies of tasks' tabulated codes, as tables for a release.

    Writes --out/proxies/TASK.parquet for each task. Finished codes are kept in --out: rerun the command to
    resume. predict-eval scores them: "proxy-naswot", "ensemble+proxies".

    Example:
      nasbench-mr proxies mini-cls mini-seg --out out
      nasbench-mr proxies seg --names naswot synflow --batch 8 --size 32 --out out
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        from nasbench_mr.predictors.base import PROXIES

        add = parser.add_argument
        add_tasks(parser, "the tasks whose codes and networks are meant", first=True)
        add("--names", nargs="+", action=Names, metavar="P", help=f"{', '.join(PROXIES)} (default: all)")
        add("--seed", type=whole, default=0, metavar="K", help="of weights and inputs (default 0)")
        add("--batch", type=whole, default=8, metavar="N", help="images in a batch (default 8)")
        add("--size", type=whole, default=64, metavar="N", help="their sides in pixels (default 64)")
        add("--device", default="cpu", metavar="D", help="cpu (default), cuda or cuda:1")
        add("--workers", type=whole, metavar="N", help="processes (default: one for each core)")
        add("--out", type=folder_to_write, required=True, metavar="DIR", help="where the tables go")
        add_release(parser)
        add_json(parser)

    def resume(self, args: argparse.Namespace) -> str:
        return f"finished codes are kept in {getattr(args, 'out', '--out')}; rerun the command to resume"

    def run(self, args: argparse.Namespace) -> None:
        from nasbench_mr.predictors import proxy_tables, zero_cost
        from nasbench_mr.predictors.base import PROXIES

        names = tuple(args.names or PROXIES)
        zero_cost.check_names(names)
        bench = open_release(args)
        paths: list[Path] = []
        for name in tasks_of(args):
            task, codes = bench.task(name), bench.codes(name)
            options: dict[str, Any] = {key: getattr(args, key) for key in ("seed", "batch", "size", "device")}
            count = args.workers
            path = proxy_tables.make(
                codes, task, args.out, count=count, progress=True, names=names, **options
            )
            paths.append(path)
        if args.json:
            return print_json({"tables": [str(path) for path in paths]})
        print(*paths, sep="\n")
        return None
