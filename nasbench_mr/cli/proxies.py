"""The command `proxies`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasbench_mr.cli import command


class ProxiesCommand(command.Command):
    """Compute zero-cost proxies of tasks' tabulated codes, as tables for a release.

    Writes --out/proxies/TASK.parquet for each task. Finished codes are kept in --out: rerun the command to
    resume. predict-eval scores them: "proxy-naswot", "ensemble+proxies".

    Example:
      nasbench-mr proxies mini-cls mini-seg --out out
      nasbench-mr proxies seg --names naswot synflow --batch 8 --size 32 --out out
      nasbench-mr proxies my-task --head seg --out out
    """

    kept = "finished codes"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        from nasbench_mr.predictors.base import OF_NETWORKS

        add = parser.add_argument
        command.add_tasks(parser, "the tasks whose codes and networks are meant", first=True)
        add(
            "--head",
            metavar="T",
            help="the task whose networks are meant: head, classes and width (default: each task's own)",
        )
        add(
            "--names",
            nargs="+",
            action=command.Names,
            metavar="P",
            help=f"{', '.join(OF_NETWORKS)} (default: all)",
        )
        add("--seed", type=command.whole, default=0, metavar="K", help="of weights and inputs (default 0)")
        add("--batch", type=command.whole, default=8, metavar="N", help="images in a batch (default 8)")
        add("--size", type=command.whole, default=64, metavar="N", help="their sides in pixels (default 64)")
        add("--device", default="cpu", metavar="D", help="cpu (default), cuda or cuda:1")
        add("--workers", type=command.whole, metavar="N", help="processes (default: one for each core)")
        add("--out", type=command.folder_to_write, required=True, metavar="DIR", help="where the tables go")
        command.add_release(parser)
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        from nasbench_mr import library
        from nasbench_mr.predictors import proxy_tables
        from nasbench_mr.predictors.base import OF_NETWORKS, check_networks, check_proxies

        names = tuple(args.names or OF_NETWORKS)
        check_proxies(names)
        bench = command.open_release(args)
        paths: list[Path] = []
        for name in command.tasks_of(args):
            task, codes = bench.task(name), bench.codes(name)
            check_networks(task)
            if args.head is not None:
                task = replace(library.task(args.head), name=task.name)
            options: dict[str, Any] = {key: getattr(args, key) for key in ("seed", "batch", "size", "device")}
            count = args.workers
            path = proxy_tables.make(
                codes, task, args.out, count=count, progress=True, names=names, **options
            )
            paths.append(path)
        tables = list(map(str, paths))
        command.show(args, {"tables": tables}, "\n".join(tables))
