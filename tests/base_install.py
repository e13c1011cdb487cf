"""Checks an install without extras; run by `make base` with that environment's Python, not by pytest.

Imports every module: the core, and every package, must import without extras. Makes a small release, and asks
it, also on the command line.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nasbench_mr
from nasbench_mr import cli, cost, load, release, space, table, tasks
from nasbench_mr.errors import MissingExtraError

EXTRAS = (
    "torch", "sklearn", "lightgbm", "optuna", "h5py", "PIL", "av", "ray", "matplotlib", "ConfigSpace",
    "botorch", "smac", "syne_tune",
)  # fmt: skip

# Modules outside these import without extras.
HEAVY = ("data_builders", "predictors", "search", "network", "integrations", "tensors")


def imports(name: str) -> bool:
    """Tell whether a module imports; what it lacks must be an extra."""
    try:
        importlib.import_module(name)
    except MissingExtraError:
        return False
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        return False
    return True


def main() -> None:
    present = [name for name in EXTRAS if importlib.util.find_spec(name)]
    assert not present, f"not a base install: it has {', '.join(present)}"
    heavy = [
        module
        for module in pkgutil.walk_packages(nasbench_mr.__path__, "nasbench_mr.")
        if not imports(module.name)
    ]
    wrong = [module.name for module in heavy if module.ispkg or module.name.split(".")[1] not in HEAVY]
    assert not wrong, f"these must import without extras: {', '.join(wrong)}"

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
