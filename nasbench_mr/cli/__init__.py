"""The command line: `nasbench-mr COMMAND`.

A command is a subclass of `command.Command`: the first line of its docstring is its help, the rest its
description, with an example. `COMMANDS` lists all by address; a module is imported only when one of its
commands is asked for, so `nasbench-mr query` never loads torch. The user's mistakes are `NasbenchMRError`s:
one line on stderr and exit status 2.

This is the top floor: it may import every package, and nothing imports it but the entry point.
"""

from __future__ import annotations

from collections.abc import Sequence

from nasbench_mr.cli import frame

#: Name: (module, class, help). The help stands here too, so that `--help` imports nothing.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": (
        "nasbench_mr.cli.demo",
        "DemoCommand",
        "a tour: tasks, one code everywhere, the best codes, correlations",
    ),
    "fetch": (
        "nasbench_mr.cli.releases",
        "FetchCommand",
        "download the published tables, or a packed release",
    ),
    "import": (
        "nasbench_mr.cli.importing",
        "ImportCommand",
        "import a local copy of the published tables, or your own table",
    ),
    "releases": ("nasbench_mr.cli.releases", "ReleasesCommand", "list the installed releases, or remove one"),
    "tasks": ("nasbench_mr.cli.queries", "TasksCommand", "list the tasks, or describe one"),
    "query": ("nasbench_mr.cli.queries", "QueryCommand", "print what a code achieves"),
    "best": ("nasbench_mr.cli.queries", "BestCommand", "print the best tabulated codes under a cost limit"),
    "verify": ("nasbench_mr.cli.releases", "VerifyCommand", "re-hash a release and derive its costs again"),
    "pack": ("nasbench_mr.cli.releases", "PackCommand", "write a release as a reproducible tarball"),
    "card": ("nasbench_mr.cli.releases", "CardCommand", "print a release's dataset card"),
    "search": ("nasbench_mr.cli.searches", "SearchCommand", "find a network for one task or several"),
    "compare": ("nasbench_mr.cli.searches", "CompareCommand", "compare searches over tasks and seeds"),
    "predict-eval": ("nasbench_mr.cli.predictors", "PredictEvalCommand", "score predictors on fixed splits"),
    "surrogate": ("nasbench_mr.cli.predictors", "SurrogateCommand", "fit the surrogates of a release"),
    "data": ("nasbench_mr.cli.data", "DataCommand", "make, fetch, pack or describe data sets"),
    "build": ("nasbench_mr.cli.builds", "BuildCommand", "train codes and write their tables"),
    "measure": ("nasbench_mr.cli.measure", "MeasureCommand", "measure latency, memory and energy of codes"),
    "weights": ("nasbench_mr.cli.weights", "WeightsCommand", "list, install or pack trained networks"),
    "proxies": ("nasbench_mr.cli.proxies", "ProxiesCommand", "compute zero-cost proxies of codes"),
    "auxnas": ("nasbench_mr.cli.auxnas", "AuxNASCommand", "train a primary network with auxiliary labels"),
    "explore": (
        "nasbench_mr.cli.explore",
        "ExploreCommand",
        "write a page to look at the tables in a browser",
    ),
    "plot": ("nasbench_mr.cli.plots", "PlotCommand", "draw a comparison, an evaluation or a release"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    return frame.run(COMMANDS, argv)
