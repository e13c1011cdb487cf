"""Trained weights: one safetensors file a network, and the part of a release that has many of them.

    weights.read("net.safetensors").code, ....metrics      # what a file is of; loads no torch
    weights.find("mini").file(code, "mini-cls")            # the file of a code, checked

A file says in its metadata what was trained: code, task, recipe, seed, metrics. Those of a release's trials
are a part of their own, a folder or tarball with `weights.json` that lists each file's hash and says which
release they belong to; so tables stay small. Installed parts live in
`$NASBENCH_MR_HOME/weights/<release>/<version>`.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from nasbench_mr import files, release, space
from nasbench_mr.checks import json_object, positive
from nasbench_mr.errors import (
    CodeNotFoundError,
    IntegrityError,
    InvalidArgumentError,
    NasbenchMRError,
    ReleaseError,
    ReleaseNotFoundError,
    UnknownTaskError,
    did_you_mean,
)
from nasbench_mr.release import Release

if TYPE_CHECKING:
    from torch import nn

MANIFEST = "weights.json"
#: The entry of a file's metadata that says what was trained.
ENTRY = "nasbench_mr"


@dataclass(frozen=True)
class Trained:
    """What weights are of.

    Attributes:
        code, task, seed: the trial.
        recipe, digest: the recipe's name, and its digest.
        metrics: what the network achieves.
        width_mult, stem_strides: of its network, see `network.MultiResolutionNet`.
        version: of this package, when they were written.
    """

    code: tuple[int, ...]
    task: str
    seed: int
    recipe: str
    digest: str
    metrics: Mapping[str, float]
    width_mult: float
    stem_strides: tuple[int, int]
    version: str

    @property
    def key(self) -> str:
        """The name of its file in a part, without the folder of the task."""
        return f"{code_name(self.code)}-{self.seed}.safetensors"

    def to_text(self) -> str:
        """Return it as JSON."""
        told = {**asdict(self), "metrics": _known(self.metrics)}
        return json.dumps(told, sort_keys=True, allow_nan=False)

    @classmethod
    def from_text(cls, text: str, where: str) -> Trained:
        """Return what `to_text` wrote; raise `IntegrityError` where the text is malformed."""
        told = json_object(text, where, IntegrityError)
        try:
            first, second = map(int, told["stem_strides"])
            texts = {name: str(told[name]) for name in ("task", "recipe", "digest", "version")}
            return cls(
                code=space.parse(told["code"]),
                seed=int(told["seed"]),
                metrics=_metrics(told["metrics"]),
                width_mult=positive("width_mult", told["width_mult"], most=sys.float_info.max),
                stem_strides=(first, second),
                **texts,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise IntegrityError(f"{where} does not say what was trained ({error!r})") from None

    def check(self, code: object, task: str, where: object) -> None:
        """Raise `InvalidArgumentError` where these are the weights of another code or task."""
        code = space.parse(code)
        if self.task != task:
            raise InvalidArgumentError(
                f"{where} has weights of task {self.task!r}; expected those of {task!r}"
            )
        if self.code != code:
            raise InvalidArgumentError(
                f"{where} has weights of code {space.to_string(self.code)}; expected those of "
                f"{space.to_string(code)}"
            )


def _known(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics for JSON, which has no NaN: None for those that are unknown."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _metrics(given: Any) -> dict[str, float]:
    """Return what `_known` gave; raise `ValueError` where it is not numbers by name."""
    if not isinstance(given, dict) or not {*map(type, given.values())} <= {int, float, type(None)}:
        raise ValueError(f"metrics is {given!r:.80}; expected numbers by name, null where unknown")
    return {name: math.nan if value is None else float(value) for name, value in given.items()}


def code_name(code: Iterable[int]) -> str:
    """Return a short name of a code for files."""
    import hashlib

    return hashlib.sha256(repr(tuple(code)).encode()).hexdigest()[:16]


def save(path: str | os.PathLike[str], network: nn.Module, trained: Trained) -> None:
    """Write a network's weights with what they are of."""
    from nasbench_mr import tensors

    tensors.save_weights(path, network, {ENTRY: trained.to_text()})


def read(path: str | os.PathLike[str]) -> Trained:
    """Return what a file's weights are of, from its header; raise `IntegrityError` where it does not say."""
    return _header(_head(path), path)


def _head(path: str | os.PathLike[str]) -> bytes:
    """Return a safetensors file's header; raise `IntegrityError` where there is none."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, release.MAX_MANIFEST):
                raise ValueError(f"its header has {length:,} bytes, the file {size:,}")
            return file.read(length)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} is not a complete file of weights ({error})") from None


def _header(head: bytes, path: str | os.PathLike[str]) -> Trained:
    told = json_object(head, f"the header of {path}", IntegrityError).get("__metadata__")
    if not isinstance(told, dict) or not isinstance(told.get(ENTRY), str):
        raise IntegrityError(
            f"{path} does not say what was trained; expected a file that train(..., weights=...) or "
            "nasbench-mr build --keep-weights wrote"
        )
    return Trained.from_text(told[ENTRY], str(path))


# --- The part of a release ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """An opened part: the trained weights of some trials of a release.

    Attributes:
        path: its folder.
        release, version: whose trials they are.
        digest: of that release's values (`Release.digest`).
        files: by file name: {"sha256", "bytes", "code", "task", "seed", "metrics"}.
    """

    path: Path
    release: str
    version: str
    digest: str
    files: Mapping[str, Mapping[str, Any]]

    def __str__(self) -> str:
        return f"the weights of {self.release}@{self.version}"

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Weights:
        """Read `weights.json`; check no hashes (see `verify`)."""
        path = Path(os.path.abspath(folder))
        manifest = path / MANIFEST
        try:
            data = release.read_manifest(manifest)
        except (FileNotFoundError, NotADirectoryError):
            raise ReleaseNotFoundError(f"{path} has no weights: it has no {MANIFEST}") from None
        try:
            release.check_name(data["release"], data["version"])
            listed = {}
            for name, entry in data["files"].items():
                inside = PurePosixPath(name)
                if len(inside.parts) != 2 or ".." in inside.parts or "\\" in name or inside.is_absolute():
                    raise ReleaseError(f"{manifest} lists {name!r}, which is not TASK/FILE")
                numbers = entry["bytes"], entry["seed"]
                if not re.fullmatch("[0-9a-f]{64}", entry["sha256"]) or {*map(type, numbers)} != {int}:
                    raise ReleaseError(f"{manifest}: malformed entry for {name!r}")
                told = {"task": str(entry["task"]), "metrics": _metrics(entry["metrics"])}
                listed[name] = {**entry, "code": space.parse(entry["code"]), **told}
            if not re.fullmatch("[0-9a-f]{64}", digest := data["digest"]):
                raise ReleaseError(f"{manifest}: digest is {digest!r:.80}; expected 64 hexadecimal digits")
            return cls(path, data["release"], data["version"], digest, listed)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            if isinstance(error, ReleaseError):
                raise
            raise ReleaseError(f"{manifest} is malformed: {error!r}") from None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it has weights for."""
        return tuple(dict.fromkeys(entry["task"] for entry in self.files.values()))

    def codes(self, task: str) -> list[tuple[int, ...]]:
        """Return the codes that it has weights of, for a task."""
        return list(dict.fromkeys(e["code"] for e in self.files.values() if e["task"] == task))

    def file(self, code: object, task: str) -> Path:
        """Return the checked file of a code's weights for a task: those of the smallest seed there is.

        Raises:
            UnknownTaskError: it has none for this task.
            CodeNotFoundError: it has none of this code.
            IntegrityError: the file is missing, altered, or of another trial than listed.
        """
        code = space.parse(code)
        if task not in self.tasks:
            raise UnknownTaskError(f"{self}: none for task {task!r}: {did_you_mean(task, self.tasks)}")
        found = [n for n, e in self.files.items() if (e["code"], e["task"]) == (code, task)]
        if not found:
            count = len(self.codes(task))
            raise CodeNotFoundError(
                f"{self}: none of {space.to_string(code)} for task {task!r}; it has those of "
                f"{count} code{'s' * (count != 1)} (nasbench-mr weights {self.release})"
            )
        return self._checked(min(found, key=lambda name: self.files[name]["seed"]))

    @property
    def matches(self) -> bool | None:
        """Whether they are of the values of the release that is at hand; None where no intact one is."""
        try:
            return Release.open(release.find(f"{self.release}@{self.version}")).digest == self.digest
        except (ReleaseError, ReleaseNotFoundError):
            return None

    def _check_matches(self) -> None:
        if self.matches is False:
            raise IntegrityError(
                f"{self} are of tables with the digest {self.digest:.12}..., and those at hand have another; "
                "get the weights that were packed for these, or the release that the weights are of"
            )

    def _checked(self, name: str) -> Path:
        place, entry = self.path / name, self.files[name]
        if not place.is_file():
            raise IntegrityError(f"{self}: {name} is missing; install them again (nasbench-mr weights fetch)")
        files.check_sha256(place, entry["sha256"], f"{self}: {name}")
        told = read(place)
        told.check(entry["code"], entry["task"], f"{self}: {name}")
        found = {"bytes": place.stat().st_size, "seed": told.seed, "metrics": _known(told.metrics)}
        for key, value in {**entry, "metrics": _known(entry["metrics"])}.items():
            if found.get(key, value) != value:
                raise IntegrityError(f"{self}: {name}: {key} is {found[key]}; {MANIFEST} says {value}")
        return place


def verify(part: Weights) -> None:
    """Re-hash every file and check what it is of; raise `IntegrityError` for those not listed, too."""
    release.check_listed(part, MANIFEST)
    for name in part.files:
        part._checked(name)


def make(sources: Iterable[str | os.PathLike[str]], of: Release, target: Path) -> Weights:
    """Make the part of a release from files of weights, whose metrics must be those of its tables.

    Args:
        sources: files that `save` wrote.
        of: the release.
        target: the new folder; it is there whole or not at all.

    Raises:
        InvalidArgumentError: there is no file, or one is of a trial that the release does not have.
        IntegrityError: a file is damaged, or its metrics are not those of the release's trial.
    """
    import shutil

    listed: dict[str, dict[str, Any]] = {}
    with files.atomic_folder(target) as folder:
        for source in sources:
            told = read(source)
            check_trial(told, of, source)
            name = f"{told.task}/{told.key}"
            (folder / told.task).mkdir(exist_ok=True)
            shutil.copyfile(source, folder / name)
            entry = {"sha256": files.sha256(folder / name), "bytes": (folder / name).stat().st_size}
            about = {"code": list(told.code), "task": told.task, "seed": told.seed}
            listed[name] = {**entry, **about, "metrics": _known(told.metrics)}
        if not listed:
            raise InvalidArgumentError("there are no files of weights; expected some of build --keep-weights")
        manifest = {"release": of.name, "version": of.version, "digest": of.digest}
        text = json.dumps({**manifest, "files": dict(sorted(listed.items()))}, indent=2) + "\n"
        files.write_text(folder / MANIFEST, text)
    return Weights.open(target)


def check_trial(told: Trained, of: Release, where: object) -> None:
    """Raise where weights are not of a release's trial, or their metrics are not those of its table."""
    import numpy as np

    if told.task not in of.tasks:
        raise InvalidArgumentError(
            f"{where} is of task {told.task!r}, which {of} does not have: {did_you_mean(told.task, of.tasks)}"
        )
    table = of.table(told.task)
    same = (table.codes == np.array(told.code)).all(axis=1) & (table.seed == told.seed)
    rows = np.flatnonzero(same & table.ok)
    if not len(rows):
        raise InvalidArgumentError(
            f"{where} is of code {space.to_string(told.code)}, seed {told.seed}; {of} has no such trial of "
            f"{told.task!r}"
        )
    for name, value in told.metrics.items():
        expected = float(table.values[name][rows[0]])
        if value != expected and not (math.isnan(value) and math.isnan(expected)):
            raise IntegrityError(
                f"{where}: {name} is {value!r}; the trial in {of} has {expected!r}. Train on a machine and "
                "with versions that reproduce the table"
            )


def pack(part: Weights, target: str | os.PathLike[str]) -> Path:
    """Write a part as a tarball, by default NAME-weights-VERSION.tar.gz, with its `.sha256` beside it."""
    from nasbench_mr import archives

    verify(part)
    top = f"{part.release}-weights-{part.version}"
    return archives.pack(part.path, [*part.files, MANIFEST], top, target)


def install(source: str | os.PathLike[str], sha256: str | None = None) -> Weights:
    """Install a part from its folder or tarball; afterwards `find` knows it.

    Raises:
        ReleaseNotFoundError: there is no such file, or no part in it.
        IntegrityError, UnsafeFileError, ReleaseError: it is not whole, unsafe, or of other tables than the
            release of its name and version that is at hand; nothing changes.
    """
    import shutil

    root = release.home() / "weights"
    with files.scratch_folder(root) as scratch:
        staged = scratch / "part"
        staged.mkdir()
        if os.path.isdir(source):
            given = Weights.open(source)
            release.copy_files(given, given.files, staged)
            shutil.copyfile(given.path / MANIFEST, staged / MANIFEST)
        elif os.path.isfile(source):
            staged = release.extract(source, staged, sha256)
        else:
            raise ReleaseNotFoundError(f"no weights at {os.fspath(source)!r}: expected a folder or a tarball")
        part = Weights.open(staged)
        verify(part)
        part._check_matches()
        moved = [*part.path.iterdir()]
        target = root / part.release / part.version
        with files.atomic_folder(target) as folder:
            for made in moved:
                made.rename(folder / made.name)
    found = Weights.open(target)
    if found.files != part.files:
        raise ReleaseError(
            f"other {found} are already in {target}; nothing was changed. Remove that folder first"
        )
    return found


def installed() -> list[Weights]:
    """Return the parts that are installed, by release and version; damaged ones are left out."""
    found = []
    for manifest in sorted((release.home() / "weights").glob(f"*/*/{MANIFEST}")):
        try:
            found.append(Weights.open(manifest.parent))
        except NasbenchMRError:
            continue
    return found


def find(spec: str | os.PathLike[str]) -> Weights:
    """Return the weights of a release.

    Args:
        spec: "name" (its newest version) or "name@version" of a release, or a part's folder.

    Raises:
        ReleaseNotFoundError: none are installed; says how to get them.
        IntegrityError: they are of other tables than that release, which is at hand.
    """
    if os.path.isfile(os.path.join(spec, MANIFEST)):
        part = Weights.open(spec)
        part._check_matches()
        return part
    name, at, version = os.fspath(spec).partition("@")
    parts = [p for p in installed() if p.release == name and (not at or p.version == version)]
    if not parts:
        there = ", ".join(f"{p.release}@{p.version}" for p in installed()) or "none"
        raise ReleaseNotFoundError(
            f"no weights of {os.fspath(spec)!r} are installed (there are: {there}); "
            "nasbench-mr weights fetch FILE|URL installs some"
        )
    part = max(parts, key=lambda part: release.version_key(part.version))
    part._check_matches()
    return part
