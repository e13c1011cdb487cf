"""The explorer: a page in one file that shows a benchmark's tables and lets readers change a network.

    bench = nasbench_mr.load()
    explorer.write(bench, "page.html")

The page opens from disk and loads nothing. Its parts are plain files in `page/`: `index.html`, `style.css`
and ES modules, of which `main.js` is the first. `pack` turns the tables and surrogates into arrays, `html`
puts parts and arrays together. docs/explorer.md says what the page shows.
"""

from __future__ import annotations

import base64
import hashlib
import html as markup
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nasbench_mr import files
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.explorer.payload import Climb, pack

if TYPE_CHECKING:
    from nasbench_mr.benchmark import Benchmark

__all__ = ["Climb", "html", "write"]

_PAGE = Path(__file__).parent / "page"
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([a-z0-9_]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) )", re.MULTILINE)


def write(
    bench: Benchmark,
    path: str | os.PathLike[str],
    tasks: Sequence[str] | None = None,
    climb: Climb | None = None,
) -> Path:
    """Write the page of a benchmark to one HTML file, and return its path.

    Args:
        bench: the opened benchmark.
        path: the file; one of this name is replaced.
        tasks: which tasks it shows; all by default.
        climb: a search to play, see `html`.

    Raises:
        UnknownTaskError: the benchmark has no such task.
        InvalidArgumentError: the path is a folder.
        StorageError: the file can't be written.
    """
    target = Path(path)
    if target.is_dir():
        raise InvalidArgumentError(
            f"{target} is a folder; expected a file, such as {target / 'explorer.html'}"
        )
    files.write_text(target, html(bench, tasks, climb))
    return target


def html(bench: Benchmark, tasks: Sequence[str] | None = None, climb: Climb | None = None) -> str:
    """Return the page as text; with `climb`, it plays how a search came to its result."""
    title, payload = pack(bench, tasks, climb)
    style, script = (_PAGE / "style.css").read_text("utf-8"), bundle("main.js")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "POLICY": policy,
        "TITLE": markup.escape(title),
        "STYLE": style,
        "PAYLOAD": base64.b64encode(payload).decode("ascii"),
        "SCRIPT": script,
    }
    template = (_PAGE / "index.html").read_text("utf-8")
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda found: parts[found[1]], template)


def bundle(first: str) -> str:
    """Return a module of `page/` and all that it imports as one script, each module once, imports first."""
    scripts: dict[str, str] = {}

    def add(name: str) -> None:
        if name not in scripts:
            scripts[name] = ""  # in progress: a circle of imports ends here
            source = (_PAGE / name).read_text("utf-8")
            for needed in _IMPORT.findall(source):
                add(needed)
            del scripts[name]  # after what it needs
            scripts[name] = _EXPORT.sub("", _IMPORT.sub("", source))

    add(first)
    return '"use strict";\n' + "\n".join(scripts.values())


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"
