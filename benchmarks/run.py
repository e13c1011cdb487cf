"""All benchmark scripts, one after the other: `make bench`. Each can be run by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPTS = ("query.py", "builders.py", "auxnas.py")


def main() -> None:
    folder = Path(__file__).parent
    for name in sys.argv[1:] or SCRIPTS:
        subprocess.run([sys.executable, str(folder / name)], check=True)


if __name__ == "__main__":
    main()
