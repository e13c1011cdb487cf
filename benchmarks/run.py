"""All benchmark scripts, one after the other: `make bench`. Each can be run by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = ("query.py", "predictors.py", "search.py", "builders.py", "auxnas.py")


def main() -> None:
    folder = Path(__file__).parent
    # The scripts import what is beside them; make forbids that for the sake of the root.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    for name in sys.argv[1:] or SCRIPTS:
        subprocess.run([sys.executable, str(folder / name)], check=True, env=environment)


if __name__ == "__main__":
    main()
