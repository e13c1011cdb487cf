"""The commands about releases: `fetch`, `verify`, `pack`, `card`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path

from nasbench_mr import progress
from nasbench_mr import release as releases
from nasbench_mr.benchmark import load
from nasbench_mr.cli.command import (
    Command,
    add_json,
    check_release,
    file_to_write,
    folder_to_write,
    open_release,
    print_json,
)
from nasbench_mr.errors import InvalidArgumentError


class Fetch(Command):
    """Download the published tables (the release "nasbench-mr"), or a packed release, and install them.

    The published files are pinned by hash and kept, so a second fetch needs no network; a download that broke
    off resumes. With a URL (or a file), installs the release tarball found there; give its --sha256, which
    stands in the .sha256 beside it. Where torch is installed, surrogates are fitted to the published tables
    (half a minute), so that queries of codes that no one trained are answered at once.

    Example:
      nasbench-mr fetch
      nasbench-mr fetch https://example.org/mini-1.0.0.tar.gz --sha256 8f43...
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "url",
            nargs="?",
            metavar="URL",
            help="a release tarball's address (default: the published tables)",
        )
        parser.add_argument("--sha256", metavar="HASH", help="the tarball's expected hash")
        parser.add_argument(
            "--mirror", metavar="URL", help="another base address that has data/<setting>/trainval.pkl"
        )
        add_surrogates(parser)
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        check_release(releases.DEFAULT, None, None)
        if args.url:
            made = fetch_release(args.url, args.sha256)
        elif args.sha256:
            raise InvalidArgumentError("--sha256 is for a release tarball; give its URL too")
        else:
            from nasbench_mr.data_builders import published

            folder = published.fetch(releases.home() / "cache" / "published", mirror=args.mirror)
            with progress.line("importing the published tables"):
                made = published.import_release(folder)
            made = with_surrogates(made, args.no_surrogates)
        announce(made, args.json)

    def resume(self, args: argparse.Namespace) -> str:
        return "what has come is kept; rerun the command to resume"


def fetch_release(url: str, sha256: str | None) -> releases.Release:
    """Download and install a packed release; the tarball stays in the cache."""
    if os.path.isfile(url):
        return releases.install(url, sha256)
    if not url.startswith(("https://", "http://")):
        raise InvalidArgumentError(f"{url!r} is neither a file nor an http(s) address")
    if sha256 is None:
        raise InvalidArgumentError(f"give --sha256 HASH, which stands in {url}.sha256")
    sha256 = sha256.lower()
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise InvalidArgumentError(f"--sha256 is {sha256!r}; expected 64 hexadecimal digits")
    from nasbench_mr.download import download

    path = releases.home() / "cache" / "downloads" / f"{sha256}.tar.gz"
    return releases.install(download(url, path, sha256=sha256), sha256)


def add_surrogates(parser: argparse.ArgumentParser) -> None:
    """Add the option --no-surrogates, see `with_surrogates`."""
    parser.add_argument(
        "--no-surrogates",
        action="store_true",
        help="fit no surrogates to the published tables; they answer for codes that no one trained",
    )


def with_surrogates(made: releases.Release, without: bool = False) -> releases.Release:
    """Return the published tables' release with surrogates, fitted now where torch is installed.

    Args:
        without: return it as it is.
    """
    newest = releases.Release.open(releases.find(made.name))
    tables = {name: entry for name, entry in made.files.items() if name.startswith("tables/")}
    alike = all(newest.files.get(name) == entry for name, entry in tables.items())
    if alike and set(made.tasks) <= set(newest.about.get("surrogates", {})):
        return newest  # Fitted to the same tables before.
    if without or importlib.util.find_spec("torch") is None:
        return made
    from nasbench_mr.predictors.surrogates import fit_surrogates

    return fit_surrogates(load(made.path), progress=True)


def announce(made: releases.Release, as_json: bool, missing: Sequence[str] = ()) -> None:
    """Say what was installed."""
    if as_json:
        return print_json({"release": str(made), "tasks": list(made.tasks), "missing": list(missing)})
    print(f"{made}: {', '.join(made.tasks)}")
    if missing:
        print(f"missing there: {', '.join(missing)}")
    print(f"installed in {made.path}")
    if made.name == releases.DEFAULT and not made.about.get("surrogates"):
        print(f"for codes that no one trained: nasbench-mr surrogate fit {made.name}")
    return None


class Verify(Command):
    """Re-hash every file of a release and derive its MACs and parameters from the codes again.

    Example:
      nasbench-mr verify nasbench-mr
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "release",
            nargs="?",
            metavar="RELEASE",
            help="a name, folder or tarball (default: the default release)",
        )
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        release = open_release(args).release
        releases.verify(release, progress=True)
        rows = sum(entry.get("rows", 0) for entry in release.files.values())
        if args.json:
            return print_json(
                {"release": str(release), "files": len(release.files), "rows": rows, "ok": True}
            )
        print(f"{release}: verified {len(release.files)} files and {rows:,} rows; all match")
        return None


def tarball_to_write(text: str) -> str:
    """Check, as the type of an option, that a tarball can be written; before any work."""
    return file_to_write()(text) if text.endswith(".tar.gz") else folder_to_write(text)


class Pack(Command):
    """Write a release as a reproducible tarball with its .sha256 beside it, or as a folder for Hugging Face.

    Example:
      nasbench-mr pack nasbench-mr --out dist/
      nasbench-mr pack mini --hf hf/mini
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "release", nargs="?", metavar="RELEASE", help="a name or folder (default: the default release)"
        )
        parser.add_argument(
            "--out",
            type=tarball_to_write,
            default=".",
            metavar="PLACE",
            help="a folder, or a file name ending in .tar.gz (default: .)",
        )
        parser.add_argument(
            "--hf",
            type=folder_to_write,
            metavar="DIR",
            help="write a folder for Hugging Face instead of a tarball",
        )
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        release = open_release(args).release
        if args.hf is not None:
            folder = releases.export(release, args.hf)
            if args.json:
                return print_json({"path": str(folder), "configs": list(release.tasks)})
            first = next(iter(release.tasks))
            print(f"{folder}: open a table with datasets.load_dataset({str(folder)!r}, {first!r})")
            return None
        with progress.line("packing"):
            path = releases.pack(release, args.out)
        digest = Path(f"{path}.sha256").read_text().split()[0]
        if args.json:
            return print_json({"path": str(path), "sha256": digest})
        print(f"{path}\nsha256 {digest}")
        return None


class Card(Command):
    """Print a release's dataset card, or its release.json.

    Example:
      nasbench-mr card mini
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "release", nargs="?", metavar="RELEASE", help="a name or folder (default: the default release)"
        )
        add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        folder = open_release(args).release.path
        name = releases.MANIFEST if args.json else "DATASET_CARD.md"
        print((folder / name).read_text(encoding="utf-8").rstrip())
