"""All benchmark scripts, one after the other: `make bench`. Each can be run by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPTS = (
    "query.py",
    "predictors.py",
    "search.py",
    "simulation.py",
    "builders.py",
    "measuring.py",
    "auxnas.py",
    "explorer.py",
)


def main() -> None:
    folder = Path(__file__).parent
    # One that can't run, such as for want of the published tables, does not keep the others from it.
    chosen = sys.argv[1:] or SCRIPTS
    done = {n: subprocess.run([sys.executable, str(folder / n)], check=False) for n in chosen}
    if failed := [name for name, process in done.items() if process.returncode]:
        sys.exit(f"without figures: {', '.join(failed)}")


if __name__ == "__main__":
    main()
