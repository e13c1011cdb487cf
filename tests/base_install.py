"""Checks an install without extras; run by `make base` with that environment's Python, not by pytest.

Imports every module that the base install promises, makes a small release, and asks it, also on the command
line.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

MODULES = (
    "nasbench_mr",
    "nasbench_mr.benchmark",
    "nasbench_mr.cli",
    "nasbench_mr.cli.auxnas",
    "nasbench_mr.cli.builds",
    "nasbench_mr.cli.data",
    "nasbench_mr.cli.demo",
    "nasbench_mr.cli.importing",
    "nasbench_mr.cli.plots",
    "nasbench_mr.cli.predictors",
    "nasbench_mr.cli.queries",
    "nasbench_mr.cli.releases",
    "nasbench_mr.cli.searches",
    "nasbench_mr.cost",
    "nasbench_mr.download",
    "nasbench_mr.errors",
    "nasbench_mr.files",
    "nasbench_mr.nasbench201",
    "nasbench_mr.objective",
    "nasbench_mr.plot",
    "nasbench_mr.release",
    "nasbench_mr.space",
    "nasbench_mr.spaces",
    "nasbench_mr.table",
    "nasbench_mr.tasks",
    "nasbench_mr.views",
    "nasbench_mr.data_builders",
    "nasbench_mr.data_builders.datasets",
    "nasbench_mr.data_builders.published.pickles",
    "nasbench_mr.data_builders.published.tables",
    "nasbench_mr.data_builders.training.recipes",
    "nasbench_mr.data_builders.building.runner",
    "nasbench_mr.predictors",
    "nasbench_mr.predictors.evaluation",
    "nasbench_mr.search",
)
EXTRAS = ("torch", "sklearn", "lightgbm", "optuna", "h5py", "PIL", "av", "ray", "matplotlib", "ConfigSpace")


def main() -> None:
    present = [name for name in EXTRAS if importlib.util.find_spec(name)]
    assert not present, f"not a base install: it has {', '.join(present)}"
    for name in MODULES:
        importlib.import_module(name)
    from nasbench_mr import cli, cost, load, release, space, table, tasks
    from nasbench_mr.errors import MissingExtraError

    codes, task = space.sample(4), tasks.get("seg")
    columns = {"codes": codes, "mIoU": [1.0, 2.0, 3.0, 4.0], "macs": cost.macs(codes)}
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "tiny"
        release.create(
            lambda folder: table.write(folder / "tables/seg.parquet", task, columns),
            "tiny",
            "1.0.0",
            [task],
            target=target,
        )
        assert load(target).query(codes[2], "seg")["mIoU"] == 3.0
        command = [str(Path(sys.executable).parent / "nasbench-mr")]
        question = ["query", "#1", "--task", "seg", "--release", str(target)]
        for arguments in (["--help"], *([name, "--help"] for name in cli.COMMANDS), question):
            done = subprocess.run(command + arguments, capture_output=True, text=True, check=True)
            assert done.stdout.strip(), arguments
    try:
        space.configspace()
    except MissingExtraError as error:
        advice = str(error)
    assert "pip install 'nasbench-mr[space]'" in advice
    print("the base install imports, queries and runs without extras")


if __name__ == "__main__":
    main()
