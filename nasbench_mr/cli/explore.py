"""The command `explore`: a benchmark as a page in one file."""

from __future__ import annotations

import argparse
import tempfile
import webbrowser
from pathlib import Path

from nasbench_mr import explorer, progress
from nasbench_mr.cli import command


class ExploreCommand(command.Command):
    """Look at the tables in a browser: a page in one file that needs no network.

    A scatter plot of every network, the tasks side by side, the network that you select, and its 27 integers
    as sliders with exact costs and the surrogates' predictions (docs/explorer.md). Without --out the page is
    written to a temporary place and opened.

    Example:
      nasbench-mr explore
      nasbench-mr explore mini-seg mini-video --release mini --out page.html
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        command.add_tasks(parser, "the tasks to show (default: all)", first=True)
        parser.usage = "%(prog)s [TASK ...] [options]"
        parser.add_argument(
            "--out",
            type=command.file_to_write(".html", ".htm"),
            metavar="PAGE.html",
            help="the file to write",
        )
        command.add_release(parser)

    def run(self, args: argparse.Namespace) -> None:
        bench = command.open_release(args)
        tasks = [bench.task(name).name for name in args.tasks] if args.tasks else None
        path = args.out
        if path is None:
            path = Path(tempfile.mkdtemp(prefix="nasbench-mr-")) / "explorer.html"
        with progress.line("writing the page"):
            page = explorer.write(bench, path, tasks)
        print(page)
        if args.out is not None:
            return
        if not webbrowser.open(page.as_uri()):
            print("no browser could be opened: open this file in one")
        return
