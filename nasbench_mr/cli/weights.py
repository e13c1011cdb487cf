"""The command `weights`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nasbench_mr import escape, space, weights
from nasbench_mr import release as releases
from nasbench_mr.cli import command
from nasbench_mr.cli.releases import fetched, show_tarball
from nasbench_mr.errors import InvalidArgumentError


class WeightsCommand(command.Command):
    """List, install or pack the trained networks of a release.

    Without an action, lists what is installed; with a release, the networks of it. "fetch" installs a packed
    part from a file or an address; give the --sha256 that stands in the .sha256 beside it. "pack" makes one
    from the folder of a build with --keep-weights (or from files), and checks that the metrics of every
    network are those of the release's tables. In Python, network.load_pretrained("mini", code, "mini-cls")
    gives the network.

    Example:
      nasbench-mr weights
      nasbench-mr weights mini
      nasbench-mr weights fetch mini-weights-1.1.0.tar.gz
      nasbench-mr weights pack out mini --out dist
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("what", nargs="*", metavar="RELEASE", help="a release; or: fetch FILE|URL; or: pack DIR RELEASE")
        add("--sha256", metavar="HASH", help="the expected hash of what is fetched")
        add(
            "--out",
            type=command.folder_to_write,
            metavar="DIR",
            help="where to pack (default: .)",
        )
        command.add_json(parser)

    def run(self, args: argparse.Namespace) -> None:
        if args.what[:1] != ["fetch"]:
            command.refuse_idle(args, "but for weights fetch", "sha256")
        if args.what[:1] != ["pack"]:
            command.refuse_idle(args, "but for weights pack", "out")
        match args.what:
            case ["fetch", source]:
                part = weights.install(fetched(source, args.sha256), args.sha256)
                said = {"release": f"{part.release}@{part.version}", "files": len(part.files)}
                text = f"{part}: {len(part.files)} networks, installed in {part.path}"
                command.show(args, {**said, "path": str(part.path)}, text)
            case ["pack", folder, name]:
                show_tarball(args, _packed(Path(folder), name, Path(args.out or ".")))
            case []:
                rows = [_row(part) for part in weights.installed()]
                command.show(args, rows, None if rows else "no weights are installed")
            case [name] if name not in ("fetch", "pack"):
                command.show(args, _networks(weights.find(name)))
            case _:
                raise InvalidArgumentError(
                    f"weights {' '.join(args.what)!r}: expected nothing, a RELEASE, fetch FILE|URL, or "
                    "pack DIR RELEASE"
                )


def _row(part: weights.Weights) -> dict[str, Any]:
    size = sum(entry["bytes"] for entry in part.files.values())
    return {
        "release": f"{part.release}@{part.version}",
        "networks": len(part.files),
        "MB": round(size / 1e6, 1),
        "tasks": ", ".join(part.tasks),
        "tables": {True: "at hand", False: "other ones at hand", None: "not at hand"}[part.matches],
        "in": str(part.path),
    }


def _networks(part: weights.Weights) -> list[dict[str, Any]]:
    rows = []
    for entry in part.files.values():
        rows.append(
            {
                "task": entry["task"],
                "seed": entry["seed"],
                "metrics": ", ".join(
                    f"{name} {command.digits(value)}" for name, value in entry["metrics"].items()
                ),
                "kB": entry["bytes"] // 1000,
                "code": space.to_string(entry["code"]),
            }
        )
    return rows


def _packed(folder: Path, name: str, out: Path) -> Path:
    """Make the part of a release from the files in a folder, and pack it."""
    from nasbench_mr import files

    place = folder / "weights" if (folder / "weights").is_dir() else folder
    sources = sorted(place.rglob("*.safetensors"))
    if not sources:
        raise InvalidArgumentError(
            f"no weights in {escape.address(str(place))}; nasbench-mr build --keep-weights writes some"
        )
    with files.scratch_folder(out) as scratch:
        part = weights.make(sources, releases.load(name), scratch / "part")
        return weights.pack(part, out)
