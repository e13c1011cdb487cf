"""The command `explore`: a benchmark as a page in one file."""

from __future__ import annotations

import argparse
import re
import tempfile
import webbrowser
from pathlib import Path

from nasbench_mr import explorer
from nasbench_mr.cli.command import Command, add_release, open_release
from nasbench_mr.errors import InvalidArgumentError


class Explore(Command):
    """Look at the tables in a browser: a page in one file, which loads nothing.

    A scatter plot of every network, the tasks side by side, the network that you select, and its 27 integers
    as sliders with exact costs and the surrogates' predictions (docs/explorer.md). Without --out the page is
    written to a temporary place and opened.

    Example:
      nasbench-mr explore
      nasbench-mr explore --release mini --tasks mini-seg,mini-video --out page.html
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--tasks", nargs="+", metavar="T", help="which tasks, with commas or spaces (default: all)"
        )
        parser.add_argument("--out", metavar="PAGE.html", help="the file to write")
        add_release(parser)

    def run(self, args: argparse.Namespace) -> None:
        bench = open_release(args)
        tasks = None
        if args.tasks is not None:
            tasks = [bench.task(name).name for name in re.split(r"[\s,]+", " ".join(args.tasks)) if name]
            if not tasks:
                raise InvalidArgumentError("--tasks names no task; expected such as --tasks seg,video")
        if args.out is not None:
            return print(explorer.write(bench, args.out, tasks))
        page = explorer.write(bench, Path(tempfile.mkdtemp(prefix="nasbench-mr-")) / "explorer.html", tasks)
        print(page)
        if not webbrowser.open(page.as_uri()):
            print("no browser could be opened: open this file in one")
        return None
