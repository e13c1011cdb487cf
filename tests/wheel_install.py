"""The wheel alone does what the README says: `make release` runs this script.

    python tests/wheel_install.py WHEEL README.md

It makes an environment that has the wheel and the packages of the one that runs this script. In an empty
folder with an empty home it runs every `nasbench-mr` command and Python block of the README that needs
neither the published tables nor minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path


def environment(folder: Path, wheel: Path) -> Path:
    """Make an environment with the wheel; return its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", str(wheel)],
        check=True,
    )
    place = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    # Its own packages come first, so nasbench-mr is the wheel's.
    (Path(place) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def blocks(text: str) -> list[tuple[str, str]]:
    """Return (language, text) of the fenced blocks that run anywhere: those without a comment before them."""
    found = re.findall(r"(?:<!-- *(.*?) *-->\n)?```(python|console)\n(.*?)```", text, re.DOTALL)
    return [(language, body) for comment, language, body in found if not comment]


def main(wheel: str, readme: str) -> None:
    text = Path(readme).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        python = environment(Path(scratch) / "venv", Path(wheel).resolve())
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "NASBENCH_MR_HOME")}
        clean |= {
            "NASBENCH_MR_HOME": f"{scratch}/home",
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        }
        empty = Path(scratch) / "empty"
        empty.mkdir()

        def run(*command: str) -> str:
            done = subprocess.run(command, cwd=empty, env=clean, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
            return done.stdout

        place = run(str(python), "-c", "import nasbench_mr; print(nasbench_mr.__file__)")
        assert place.startswith(scratch), place
        count = 0
        for language, body in blocks(text):
            if language == "python":
                # The blocks of a document share their variables.
                script = empty / "blocks.md"
                script.write_text((script.read_text() if script.exists() else "") + body + "\n")
                run(str(python), "-m", "doctest", "-o", "ELLIPSIS", "-o", "NORMALIZE_WHITESPACE", str(script))
                count += 1
                continue
            for command in re.findall(r"^\$ (nasbench-mr .*?)(?:\s{2,}#.*)?$", body, re.MULTILINE):
                run("bash", "-c", command)
                count += 1
        run("nasbench-mr", "best", "mini-seg", "-k", "2")
        run("nasbench-mr", "verify", "mini")
    assert count, "the README has no block that runs anywhere"
    print(f"{Path(wheel).name}: {count} blocks of {readme} and two commands ran from the wheel alone")


if __name__ == "__main__":
    main(*sys.argv[1:])
