"""The commands about releases: `fetch`, `releases`, `verify`, `pack`, `card`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nasbench_mr import escape, library, progress
from nasbench_mr import release as releases
from nasbench_mr.benchmark import load
from nasbench_mr.cli import command
from nasbench_mr.errors import InvalidArgumentError, NasbenchMRError


class FetchCommand(command.Command):
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
        add = parser.add_argument
        add(
            "url",
            nargs="?",
            metavar="URL",
            help="a release tarball's address (default: the published tables)",
        )
        add("--sha256", metavar="HASH", help="the tarball's expected hash")
        add("--mirror", metavar="URL", help="another base address that has data/<setting>/trainval.pkl")
        add_surrogates(parser)
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        command.check_release(releases.DEFAULT, None, None)
        if args.url:
            why = "with the URL of a release: they are about the published tables"
            command.refuse_idle(args, why, "mirror", "no_surrogates")
            made = releases.install(fetched(args.url, args.sha256), args.sha256)
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


def fetched(url: str, sha256: str | None) -> str | Path:
    """Return a tarball: the file given, or what an address has, checked by its hash and kept in the cache."""
    if os.path.exists(url):
        return url
    if not url.startswith(("https://", "http://")):
        raise InvalidArgumentError(f"{escape.address(url)!r} is neither a file nor an http(s) address")
    if sha256 is None:
        raise InvalidArgumentError(f"give --sha256 HASH, which stands in {escape.address(url)}.sha256")
    sha256 = sha256.lower()
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise InvalidArgumentError(f"--sha256 is {sha256!r}; expected 64 hexadecimal digits")
    from nasbench_mr.download import download

    return download(url, releases.home() / "cache" / "downloads" / f"{sha256}.tar.gz", sha256=sha256)


def add_surrogates(parser: argparse.ArgumentParser) -> None:
    """Add the option --no-surrogates, see `with_surrogates`."""
    parser.add_argument(
        "--no-surrogates",
        action="store_true",
        help="fit no surrogates to the published tables; they answer for codes that no one trained",
    )


def with_surrogates(made: releases.Release, without: bool = False) -> releases.Release:
    """Return the published tables' release, with surrogates unless `without` them or torch is missing."""
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
        return command.print_json({"release": str(made), "tasks": list(made.tasks), "missing": list(missing)})
    print(f"{made}: {', '.join(made.tasks)}")
    if missing:
        print(f"missing there: {', '.join(missing)}")
    print(f"installed in {made.path}")
    if made.name == releases.DEFAULT and not made.about.get("surrogates"):
        print(f"for codes that no one trained: nasbench-mr surrogate fit {made.name}")
    return None


class VerifyCommand(command.Command):
    """Re-hash every file of a release and derive its MACs and parameters from the codes again.

    Example:
      nasbench-mr verify nasbench-mr
      nasbench-mr verify mini-1.0.0.tar.gz
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        command.add_place(parser, "all that is installed")
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        found = []
        for release in command.open_release(args).releases:
            releases.verify(release, progress=True)
            rows = sum(entry.get("rows", 0) for entry in release.files.values())
            found.append(
                {
                    "release": str(release),
                    "files": len(release.files),
                    "rows": rows,
                    "digest": release.digest,
                    "ok": True,
                }
            )
            if not args.json:
                print(f"{release}: verified {len(release.files)} files and {rows:,} rows; all match")
                print(f"the digest of its values is {release.digest}")
        if args.json:
            command.print_json(found)


def tarball_to_write(text: str) -> str:
    """Check, as the type of an option, that a tarball can be written; before any work."""
    return command.file_to_write()(text) if text.endswith(".tar.gz") else command.folder_to_write(text)


class PackCommand(command.Command):
    """Write a release as a reproducible tarball with its .sha256 beside it, or as a folder for Hugging Face.

    Example:
      nasbench-mr pack nasbench-mr --out dist/
      nasbench-mr pack mini --hf hf/mini
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        command.add_place(parser)
        parser.add_argument(
            "--out",
            type=tarball_to_write,
            metavar="PLACE",
            help="a folder, or a file name ending in .tar.gz (default: .)",
        )
        parser.add_argument(
            "--hf",
            type=command.folder_to_write,
            metavar="DIR",
            help="write a folder for Hugging Face instead of a tarball",
        )
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        release = command.open_release(args).release
        if args.hf is not None:
            command.refuse_idle(args, "with --hf, which names the folder", "out")
            folder = releases.export(release, args.hf)
            names = list(release.configurations)
            text = f"{folder}: open a table with datasets.load_dataset({str(folder)!r}, {names[0]!r})"
            return command.show(args, {"path": str(folder), "configs": names}, text)
        with progress.line("packing"):
            path = releases.pack(release, args.out or ".")
        return show_tarball(args, path)


def show_tarball(args: argparse.Namespace, path: Path) -> None:
    """Print where a tarball is, and its hash."""
    digest = Path(f"{path}.sha256").read_text().split()[0]
    command.show(args, {"path": str(path), "sha256": digest}, f"{path}\nsha256 {digest}")


class CardCommand(command.Command):
    """Print a release's dataset card, or its release.json.

    Example:
      nasbench-mr card mini
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        command.add_place(parser)
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        release = command.open_release(args).release
        path = release.path / releases.MANIFEST if args.json else release.file("DATASET_CARD.md")
        print(escape.terminal(path.read_text(encoding="utf-8").rstrip()))


class ReleasesCommand(command.Command):
    """List the installed releases, or remove one.

    The list says for every version where it is, what it holds, and the digest of its values, by which it can
    be cited. A star marks the versions that answer where no --release is given, and the tasks that each one
    answers for.

    Example:
      nasbench-mr releases
      nasbench-mr releases remove local@1.0.0-local.1
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("action", nargs="?", choices=["remove"], help="remove NAME@VERSION")
        parser.add_argument("release", nargs="?", metavar="NAME@VERSION", help="which one to remove")
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        if args.action:
            if args.release is None:
                raise InvalidArgumentError(
                    "releases remove needs NAME@VERSION; nasbench-mr releases lists them"
                )
            folder = library.remove(args.release)
            text = f"removed {args.release}, which was in {folder}"
            return command.show(args, {"removed": args.release, "path": str(folder)}, text)
        rows = release_rows()
        if args.json:
            return command.print_json(rows)
        for row in rows:
            if "error" in row:
                print(f"{row['release']}\n  damaged: {escape.terminal(row['error'])}\n  in {row['path']}")
                continue
            print(f"{row['release']}{' *' if row['answers'] else ''}")
            tasks = ", ".join(
                [*(f"{t}*" if t in row["answers"] else t for t in row["tasks"]), *row["others"]]
            )
            print(f"  {row['rows']:,} rows, {row['bytes'] / 1e6:,.1f} MB: {tasks}")
            print(f"  digest {row['digest']}\n  in {row['path']}")
        return None


def release_rows() -> list[dict[str, Any]]:
    """Return one row for each release there is: what it holds and where, or how it is damaged."""
    answering = library.answering()
    rows: list[dict[str, Any]] = []
    for name, version, folder in library.every():
        row: dict[str, Any] = {"release": f"{name}@{version}", "path": str(folder)}
        try:
            found = releases.Release.open(folder)
        except NasbenchMRError as error:
            rows.append(row | {"error": str(error)})
            continue
        kinds = ("tables", *releases.BESIDE_TRIALS)
        tables = [entry["rows"] for name, entry in found.files.items() if name.split("/")[0] in kinds]
        beside = [name for name, file in found.configurations.items() if file.startswith(kinds[1:])]
        rows.append(
            row
            | {
                "rows": sum(tables),
                "bytes": sum(entry["bytes"] for entry in found.files.values()),
                "tasks": list(found.tasks),
                "others": beside,
                "answers": [t for t in found.tasks if t in answering and answering[t].path == found.path],
                "digest": found.digest,
            }
        )
    return rows
