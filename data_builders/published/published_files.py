"""The published tables of NAS-Bench-MR: files in, a release out.

    folder = published.fetch("cache/published")       # downloads what is not there yet
    published.import_release(folder)                  # installs the release "nasbench-mr"

The nine settings are pickled lists of 2,507 dicts each, in the same order, one training of each code;
nas-bench-201 is one of 15,625. `search_list.txt` has the codes in the order in which they were drawn. All are
of one commit of github.com/dingmyu/NCP and pinned by their hashes. No row is dropped: the release has every
row, in the published order, with `flops` (1e9) and `params` (1e6) as exact integers. Four of the listed codes
are in no table.

One thing is repaired: the costs of nas-bench-201 are published rounded, and in 150 rows they are those of
another cell. Its `macs` and `params` are the exact ones (`nasbench201.macs`), and the column `flag` of those
rows says what was published.
"""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import files, nasbench201, release, space, table, tasks
from nasbench_mr.arrays import Floats
from nasbench_mr.data_builders.published import pickles as plain_pickle
from nasbench_mr.data_builders.published.common import locked, reading
from nasbench_mr.errors import (
    DownloadError,
    IntegrityError,
    InvalidArgumentError,
    NasbenchMRError,
    OutOfSpaceError,
    TableError,
)
from nasbench_mr.release import Release
from nasbench_mr.tasks import Task

if TYPE_CHECKING:
    import pyarrow as pa


COMMIT = "5259acdf9876c3adf4b8b1133afc3ac0d1077d65"
SOURCE = f"https://raw.githubusercontent.com/dingmyu/NCP/{COMMIT}"
#: The tables, in the release's order: the nine settings and NAS-Bench-201.
SETTINGS = (
    "cls-50-1000",
    "cls-50-100",
    "cls-10-1000",
    "cls-10c",
    "seg",
    "seg-4x",
    "3ddet",
    "video",
    "video-p",
    "nas-bench-201",
)
LIST = "data/search_list.txt"
#: The git blob id of every file.
BLOBS = {
    "data/3ddet/trainval.pkl": "f08f87a66e58bc74552632fd05b6363763ca4ae8",
    "data/cls-10-1000/trainval.pkl": "be10db8b51385fe8cd916e8f841fdca63180e724",
    "data/cls-10c/trainval.pkl": "00056b25cee6edb13c06227195105b4aebe0da06",
    "data/cls-50-100/trainval.pkl": "2f55ae19eed366923cb37f01ffca98a2f1a7430f",
    "data/cls-50-1000/trainval.pkl": "0f2c7851c5dc8eefdebf790b491caade69b112fa",
    "data/nas-bench-201/trainval.pkl": "27026fb129d07de8e0edcaa4fe5815c25d86a78b",
    LIST: "d6cc116b4357ccad4ded5dd045c8c5a928270328",
    "data/seg-4x/trainval.pkl": "c79d86f9ce55c93a52424de82a9774966f0fa00c",
    "data/seg/trainval.pkl": "4667e5c8652c11d84c4a027d7589762481e2689b",
    "data/video-p/trainval.pkl": "0c8d8ea293895a7cc513619c874c890e9e624bbc",
    "data/video/trainval.pkl": "04d10396c1636d6a748277cf4a6e1f85ca3be86f",
}
#: The SHA-256 of the files that were at hand; that of others is recorded at first sight (`_pinned`).
SHA256 = {
    "data/cls-10-1000/trainval.pkl": "423e0a511b72b47587fb418f91122b8a7b0e6ea6d89e029a2703374916fca4ca",
    "data/cls-50-100/trainval.pkl": "f6c7f8d67c84abc3aa226f5c5115c6c35adf576f41dd4d157b683148486f559b",
    "data/cls-50-1000/trainval.pkl": "ce6588f4ee339b49b2fa2acf2ca55fa92a75bd813b5590796f5a5fc7cc280a6c",
    "data/nas-bench-201/trainval.pkl": "6048b2ce2ae8f466c9c2fafd0cb9065edbe94db36f7804790beab0e845fa40d0",
    LIST: "9dd9201f9d223a17e17db7adc2af5220dcbcca7e11af1f0d1bd2a18b5fa9a957",
    "data/seg-4x/trainval.pkl": "c111b4ad884e63fd16a1fd2d91fe5eb25ef39a9f3c8b5534a34b025aed06d434",
    "data/seg/trainval.pkl": "1854e1ec044c8416cc53d4068cdef4d019a24bcd1e72d07020255550f56ea729",
    "data/video/trainval.pkl": "ec40f09230374c5cb80fa689b16e8c0767060dac7312fb3a6c48610972df2e4d",
}
VERSION = "1.0.0"
#: Where each stratum ends in `search_list.txt`, by number of lines; "extra" is the rest.
STRATA = {"coarse": 1200, "deep": 2000, "fine": 2500}
MAX_LIST = 1 << 20
#: The column of nas-bench-201 that says which rows were published with wrong costs.
FLAG = "flag"

_ABOUT = {
    "title": "NAS-Bench-MR: the published tables",
    "description": "2,507 multi-resolution networks, each trained once in up to nine settings of four vision "
    "tasks, and the table of NAS-Bench-201 that was published with them. Metrics are in percent.",
    "license": "BSD-2-Clause",
    "citation": "Ding et al., Learning Versatile Neural Architectures by Propagating Network Codes, "
    "ICLR 2022",
    "homepage": "https://github.com/dingmyu/NCP",
    "published": "2022-04-25",  # ICLR 2022
}
#: Goes with the tables, as it demands.
_LICENSE = """\
BSD 2-Clause License

Copyright (c) 2021, Mingyu Ding
All rights reserved.

Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this
   list of conditions and the following disclaimer.

2. Redistributions in binary form must reproduce the above copyright notice,
   this list of conditions and the following disclaimer in the documentation
   and/or other materials provided with the distribution.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS"
AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE
FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL
DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER
CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY,
OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE
OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""


def fetch(folder: str | os.PathLike[str], mirror: str | None = None) -> Path:
    """Download the published files into `folder`, for `import_release`; those that are there stay.

    Args:
        mirror: another base address that has data/<setting>/trainval.pkl.
    """
    from nasbench_mr.download import download

    folder = Path(folder)
    base = (mirror or SOURCE).rstrip("/")
    pinned = _pinned()
    for name, blob in BLOBS.items():
        try:
            download(
                f"{base}/{name}",
                folder / name,
                blob_id=blob,
                sha256=pinned.get(name),
                max_bytes=plain_pickle.MAX_BYTES,
            )
        except DownloadError as error:
            raise DownloadError(
                f"{error}. Others: --mirror URL, or a local copy: nasbench-mr import FOLDER"
            ) from None
    return folder


def import_release(folder: str | os.PathLike[str], check: bool = True) -> Release:
    """Installs the release "nasbench-mr" from the published files in `folder`, as many as are there.

    All of them are version 1.0.0. With fewer it is a version before that, 1.0.0-partial.N with N tables, so
    that all of them supersede it later; with files that are not the published ones, 1.0.0-altered.N, which
    comes before all of these, and is labelled so. The same files always end in the same version; it is made
    once.

    Args:
        folder: has data/<setting>/trainval.pkl, and data/search_list.txt for the strata of the codes.
        check: refuse files that are not the pinned ones.

    Raises:
        InvalidArgumentError: there is none of the files.
        IntegrityError: a file's hash is not the pinned one; or the release is installed, but damaged.
        UnsafeFileError, TableError, OutOfSpaceError: a file does not hold a table; names file, row and field.
        StorageError: the release can't be written.
    """
    folder = Path(folder)
    with reading(folder):
        sources = {
            name: {"git_blob": files.git_blob_id(folder / name), "sha256": files.sha256(folder / name)}
            for name in BLOBS
            if (folder / name).is_file()
        }
    if not any(_file(setting) in sources for setting in SETTINGS):
        raise InvalidArgumentError(
            f"{folder} has no data/<setting>/trainval.pkl, with a setting of {', '.join(SETTINGS)}; "
            "nasbench-mr fetch downloads them"
        )
    pinned = _pinned()
    altered = {}
    for name, found in sources.items():
        expected = {"git_blob": BLOBS[name]} | ({"sha256": pinned[name]} if name in pinned else {})
        for kind, value in expected.items():
            if found[kind] != value:
                altered[name] = f"{kind.replace('_', ' ')} {found[kind]}; expected {value}"
    for name, wrong in altered.items():
        if check:
            raise IntegrityError(
                f"{folder / name} has {wrong}. Get the published file (nasbench-mr fetch), or accept this "
                "one with --unchecked"
            )
    if altered:
        warnings.warn(
            f"{', '.join(altered)} in {folder}: not the published file; read only what you trust",
            stacklevel=2,
        )
    with locked(release.DEFAULT):
        _record({name: found["sha256"] for name, found in sources.items() if name not in altered})
        for version in _versions(sources, not altered):
            existing = _installed(version, sources)
            if existing is not None:
                return existing
            if not _place(version).exists():
                break
        strata = _strata(folder / LIST) if LIST in sources else None
        tables = {
            setting: _published(
                folder / _file(setting),
                tasks.get(setting),
                strata,
                _file(setting) not in altered,
            )
            for setting in SETTINGS
            if _file(setting) in sources
        }

        def fill(target: Path) -> None:
            for name, arrow in tables.items():
                table.write_arrow(arrow, target / f"tables/{name}.parquet")
            files.write_text(target / "LICENSE", _LICENSE)

        about = {**_ABOUT, "sources": sources, "flaws": _flaws(tables)}
        if altered:
            about["title"] = "NAS-Bench-MR: altered, not the published tables"
        described = [_described(tasks.get(name), altered.get(_file(name))) for name in tables]
        return release.create(fill, release.DEFAULT, version, described, about=about)


def _described(task: Task, wrong: str | None) -> Task:
    """Return the task of a table; `wrong` says how the hash of its file is not that of the published one."""
    if wrong is None:
        return task
    return replace(task, provenance=f"a file with {wrong}, so not the published one")


#: The SHA-256 of published files that were first seen on this machine, as `sha256sum` writes them.
_SEEN = "published.sha256"


def _pinned() -> dict[str, str]:
    """Return the SHA-256 of each file, as pinned here or as recorded when it was first seen."""
    seen = release.home() / _SEEN
    try:
        lines = seen.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    recorded = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return {name: digest for name, digest in recorded.items() if len(digest) == 64} | SHA256


def _record(found: Mapping[str, str]) -> None:
    """Keep the SHA-256 of files that have the pinned git blob id and are seen for the first time."""
    known = _pinned()
    if new := {name: digest for name, digest in found.items() if name not in known}:
        seen = {name: digest for name, digest in (known | new).items() if name not in SHA256}
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(seen.items()))
        files.write_text(release.home() / _SEEN, lines)


def _file(setting: str) -> str:
    return f"data/{setting}/trainval.pkl"


def _place(version: str) -> Path:
    return release.home() / "releases" / release.DEFAULT / version


def _versions(sources: Mapping[str, object], published: bool) -> Iterator[str]:
    """Yield the versions that these files may have, the first free one of which they get."""
    if published and len(sources) == len(BLOBS):
        yield VERSION
        return
    count = sum(_file(setting) in sources for setting in SETTINGS)
    # "altered" sorts before "partial": what is not as published never becomes the default instead of it.
    first = f"{VERSION}-{'partial' if published else 'altered'}.{count}"
    yield first
    for k in itertools.count(2):
        yield f"{first}.{k}"


def _installed(version: str, sources: Mapping[str, object]) -> Release | None:
    """Return the installed release of this version, if it was made from these files."""
    path = _place(version)
    if not path.exists():
        return None
    try:
        found = Release.open(path)
        if found.about.get("sources") != sources:
            return None
        release.verify(found)
        return found
    except NasbenchMRError as error:
        raise IntegrityError(f"{error}. Remove {path}, then run the same command again") from None


# --- Files to tables ----------------------------------------------------------------------------------


def _strata(path: Path) -> dict[tuple[int, ...], str]:
    """Return the stratum of every listed code."""
    with reading(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(MAX_LIST).splitlines()
        strata = {}
        for k, line in enumerate(lines):
            try:
                code = space.parse(line)
            except OutOfSpaceError as error:
                raise OutOfSpaceError(f"line {k + 1}: {error}") from None
            strata[code] = next((name for name, end in STRATA.items() if k < end), "extra")
    return strata


def _published(
    path: Path, task: Task, strata: Mapping[tuple[int, ...], str] | None, trusted: bool
) -> pa.Table:
    """Return one published pickle as a table; `trusted` where its hash is the pinned one."""
    with reading(path):
        rows = plain_pickle.load(path, trusted)
        if not isinstance(rows, list) or not rows:
            shown = "an empty list" if isinstance(rows, list) else f"a {type(rows).__name__}"
            raise TableError(f"holds {shown}; expected a list of dicts")
        columns: dict[str, Any] = {metric.name: _field(rows, metric.name) for metric in task.metrics}
        if task.space == nasbench201.NAME:
            return _cells(rows, task, columns)
        codes = space.check(_embeddings(rows, space.DIM))
        columns |= {"codes": codes, "macs": np.rint(_field(rows, "flops") * 1e9)}
        columns |= {"params": np.rint(_field(rows, "params") * 1e6)}
        columns["stratum"] = [None if strata is None else strata.get(tuple(c)) for c in codes.tolist()]
        if strata is not None and None in columns["stratum"]:
            raise TableError(f"row {columns['stratum'].index(None)}: its code is not in {Path(LIST).name}")
        return _costed(table.to_arrow(task, columns, ["stratum"]), task)


def _flaws(tables: Mapping[str, pa.Table]) -> list[str]:
    """Return what the dataset card says of the tables' known flaws."""
    import pyarrow.compute as pc

    flaws = [
        "One run a code and task: training noise is unknown, and the best tabulated value is optimistic."
    ]
    if "3ddet" in tables:
        flaws += ["3ddet: MACs follow another rule, for inputs of two sizes; limits mean cost.macs."]
    for name, arrow in tables.items():
        if FLAG in arrow.column_names and (wrong := pc.sum(pc.is_valid(arrow[FLAG])).as_py()):
            flaws += [
                f"{name}: {wrong} of {len(arrow):,} rows were published with the costs of another cell. "
                "MACs and parameters are the exact ones of the 100-class network at 32x32; the column "
                f"{FLAG!r} of these rows says what was published."
            ]
    return flaws


#: What the published costs of NAS-Bench-201 are rounded to, and a little for the binary fractions.
_ROUNDED = {"macs": 0.5001e4, "params": 0.5001e3}


def _cells(rows: Sequence[Any], task: Task, columns: Mapping[str, Any]) -> pa.Table:
    """NAS-Bench-201's rows as a table: exact costs, and a flag where the published are of another cell."""
    published = {"macs": _field(rows, "Flops") * 1e6, "params": _field(rows, "Params") * 1e6}
    codes = _one_hot(rows)
    exact = {"macs": nasbench201.macs(codes), "params": nasbench201.params(codes)}
    wrong = np.any([abs(published[name] - exact[name]) > _ROUNDED[name] for name in exact], axis=0)
    flags: list[str | None] = [None] * len(codes)
    for row in np.flatnonzero(wrong).tolist():
        given = ", ".join(f"{name} {published[name][row]:.0f}" for name in exact)
        flags[row] = f"published costs are of another cell: {given}"
    return table.to_arrow(task, {**columns, **exact, "codes": codes, FLAG: flags}, [FLAG])


def _field(rows: Sequence[Any], name: str) -> Floats:
    """Return a number of every row: `(n,)`."""
    values = []
    for k, row in enumerate(rows):
        if not isinstance(row, dict):
            raise TableError(f"row {k} is a {type(row).__name__}; expected a dict")
        value: Any = row.get(name)
        if type(value) not in (int, float) or not abs(value) < math.inf:
            shown = (
                f"a {type(value).__name__}" if isinstance(value, (list, tuple, dict)) else f"{value!r:.60}"
            )
            raise TableError(f"row {k}: {name} is {shown if name in row else 'missing'}; expected a number")
        values.append(value)
    return np.array(values, np.float64)


def _embeddings(rows: Sequence[Mapping[str, Any]], width: int) -> list[list[float]]:
    """Return the field `embedding` of every row, as `width` numbers each."""
    found = []
    for k, row in enumerate(rows):
        value = row.get("embedding")
        numbers = value.tolist() if isinstance(value, np.ndarray) else value
        if (
            not isinstance(numbers, list)
            or len(numbers) != width
            or not all(type(v) in (int, float) for v in numbers)
        ):
            raise TableError(f"row {k}: embedding is not a list of {width} numbers")
        found.append(numbers)
    return found


def _one_hot(rows: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.int16]:
    """NAS-Bench-201's codes, of which `embedding` has one-hot operations: `(n, 6)`."""
    width = nasbench201.DIM * len(nasbench201.OPERATIONS)
    found = _embeddings(rows, width)
    for k, numbers in enumerate(found):
        if not all(v in (0, 1) for v in numbers):
            raise TableError(f"row {k}: embedding has other numbers than 0 and 1")
    hot = np.array(found, np.int16)
    wrong = (hot.reshape(len(hot), nasbench201.DIM, -1).sum(axis=2) != 1).any(axis=1)
    if wrong.any():
        raise TableError(f"row {wrong.argmax()}: embedding does not have one operation for each edge")
    return nasbench201.project(hot.astype(np.float64))


def _costed(trials: pa.Table, task: Task) -> pa.Table:
    """`trials`, whose macs and params are those of the codes where the task says so."""
    if task.cost == "code":
        release.check_cost(table.check(trials, task), task.space, "the table")
    return trials
