"""Releases: named, versioned, checksummed folders of tables.

A release is a folder with `release.json`, `tables/<task>.parquet`, `curves/<task>.parquet` where there are
curves, `surrogates/` where there are surrogates, `DATASET_CARD.md` and `croissant.json`. `release.json`
describes every task in full and lists every file with its SHA-256, so a release explains and proves itself.

Installed releases live side by side in `$NASBENCH_MR_HOME/releases/<name>/<version>` and never change:
adding trials makes a new version (`extend`). Versions are ordered as in Semantic Versioning 2.0. `library.py`
asks all that is installed as one.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from nasbench_mr import files, table_cache, trials
from nasbench_mr.checks import json_object, plain
from nasbench_mr.errors import (
    IntegrityError,
    ReleaseError,
    ReleaseNotFoundError,
    SpaceError,
    TableError,
    did_you_mean,
)
from nasbench_mr.files import Scratch
from nasbench_mr.tasks import Task

if TYPE_CHECKING:
    import pyarrow as pa

    from nasbench_mr.weights import Weights

MANIFEST = "release.json"
DEFAULT = "nasbench-mr"
MINI, REFERENCE = "mini", "nasbench-mr-reference"
#: The releases that ship inside the package: the small benchmark, measured costs, and searches' results.
PACKAGED = {
    MINI: Path(__file__).parent / "mini",
    trials.MEASURED: Path(__file__).parent / "costs",
    REFERENCE: Path(__file__).parent / "reference",
}
EMBEDDED = PACKAGED[MINI]

#: Folders of a release with tables that are not trials of a task.
BESIDE_TRIALS = ("costs", "proxies", "comparisons")

#: A manifest is read whole, before anything of it can be checked.
MAX_MANIFEST = 16 << 20
#: Files that may be larger; they are hashed piece by piece before anything reads them.
_LARGE = (".parquet", ".npz", ".safetensors", ".gz", ".tar")
#: A release has some files for each task.
MAX_FILES = 10_000
MAX_SPACES = 100
#: Entries of a manifest that are one text each.
_TEXTS = ("title", "description", "license", "citation", "homepage")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?")


def home() -> Path:
    """Return where releases, downloads and caches live: `$NASBENCH_MR_HOME`, or the user's data folder.

    A relative `$NASBENCH_MR_HOME` is made absolute once, when this module is imported, also for processes
    started from this one: where a process goes later changes no answer. For a user without a home folder it
    is `files.NOWHERE`, which has nothing and takes nothing.
    """
    if configured := os.environ.get("NASBENCH_MR_HOME"):
        absolute = os.path.abspath(os.path.expanduser(configured))
        if absolute != configured:
            os.environ["NASBENCH_MR_HOME"] = absolute
        return Path(absolute)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    try:
        return Path(base).expanduser() / "nasbench-mr"
    except RuntimeError:
        return files.NOWHERE


home()


@dataclass(frozen=True)
class Release:
    """An opened release: its folder and what `release.json` says.

    >>> release = nasbench_mr.load("mini").release
    >>> str(release), list(release.tasks)
    ('mini@1.1.0', ['mini-cls', 'mini-det3d', 'mini-seg', 'mini-video'])

    Attributes:
        path: the folder.
        name, version: "nasbench-mr", "1.0.0".
        tasks: by name, in the release's order.
        files: relative path: {"sha256", "bytes"} and, for tables and curves, "rows".
        about: everything else, such as "title", "license", "citation", "surrogates".
        digest: of its values (`values.digest`), whatever wrote the files.
        scratch: what keeps the folder of an unpacked tarball; None for other releases.
    """

    path: Path
    name: str
    version: str
    tasks: dict[str, Task]
    files: dict[str, dict[str, Any]]
    about: dict[str, Any]
    digest: str
    scratch: Scratch | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Release:
        """Read `release.json`; checks no hashes (see `verify`).

        Raises:
            ReleaseNotFoundError: the folder has none.
            ReleaseError: it is malformed, or of a newer schema.
        """
        folder = Path(os.path.abspath(path))  # the process may change its folder later
        manifest = folder / MANIFEST
        try:
            data = read_manifest(manifest)
        except FileNotFoundError:
            raise ReleaseNotFoundError(f"{folder} is not a release: it has no {MANIFEST}") from None
        try:
            if data.pop("schema_version") > trials.SCHEMA_VERSION:
                raise ReleaseError(f"{folder} needs a newer nasbench-mr: pip install -U nasbench-mr")
            tasks = {t["name"]: Task.from_dict(t) for t in data.pop("tasks")}
            listed, digest = data.pop("files"), data.pop("digest")
            release = cls(folder, data.pop("name"), data.pop("version"), tasks, listed, data, digest)
            check_name(release.name, release.version)
            if not re.fullmatch("[0-9a-f]{64}", digest):
                raise ReleaseError(f"{manifest}: digest is {digest!r:.80}; expected 64 hexadecimal digits")
            _check_about(data, manifest)
            _know_spaces(data.pop("spaces", {}), manifest)
            for name, entry in listed.items():
                _check_entry(name, entry, manifest)
            if not tasks and not any(PurePosixPath(name).parts[0] in BESIDE_TRIALS for name in listed):
                raise ReleaseError(f"{manifest} lists no tasks, and no other table")
            for task in tasks:
                if "rows" not in listed.get(f"tables/{task}.parquet", {}):
                    raise ReleaseError(f"{manifest} has the task {task!r}, but no table of it")
        except (KeyError, TypeError, AttributeError) as error:
            raise ReleaseError(f"{manifest} is malformed: {error!r}") from None
        return release

    def table(self, task: str) -> trials.Trials:
        """Return a task's trials, from their cached copy or from Parquet.

        Raises:
            ReleaseError: the table's file is gone.
            IntegrityError: the file is not the one that was released.
            TableError: see `table.check`.
        """
        name = f"tables/{task}.parquet"
        cache = home() / "cache" / "tables"
        try:
            return table_cache.load(self.path / name, self.tasks[task], self.files[name]["sha256"], cache)
        except FileNotFoundError:
            raise self._missing(name) from None

    def file(self, name: str) -> Path:
        """Return the path of one of `files`, which is as it was released.

        Raises:
            ReleaseError: it is gone.
            IntegrityError: it is not the one that was released.
        """
        try:
            files.check_sha256(self.path / name, self.files[name]["sha256"], f"{self}: {self.path / name}")
        except FileNotFoundError:
            raise self._missing(name) from None
        return self.path / name

    @property
    def configurations(self) -> dict[str, str]:
        """Its Parquet files by the names that other readers give them: "seg", "seg-curves", "cpu-costs".

        Tables come first, then curves, then what is not trials.
        """
        found = {task: f"tables/{task}.parquet" for task in self.tasks}
        found |= {f"{task}-curves": f"curves/{task}.parquet" for task in self.tasks}
        for kind in BESIDE_TRIALS:
            found |= {
                f"{PurePosixPath(name).stem}-{kind}": name
                for name in self.files
                if name.startswith(f"{kind}/")
            }
        return {name: file for name, file in found.items() if file in self.files}

    def _missing(self, name: str) -> ReleaseError:
        return ReleaseError(
            f"{self}: {self.path / name} is missing; install the release again (nasbench-mr fetch)"
        )


def read_manifest(path: Path) -> dict[str, Any]:
    """Return what a manifest says: `release.json`, or that of weights.

    Raises:
        FileNotFoundError: there is none.
        ReleaseError: it is too large, or is not a JSON object.
    """
    if (size := os.path.getsize(path)) > MAX_MANIFEST:
        raise ReleaseError(f"{path} has {size:,} bytes; expected at most {MAX_MANIFEST:,}")
    return json_object(path.read_bytes(), str(path), ReleaseError)


def _check_about(about: Mapping[str, Any], where: Path) -> None:
    """Raise `ReleaseError` where what else a manifest says lacks the types that its readers expect."""
    for key in _TEXTS:
        if not isinstance(about.get(key, ""), str):
            raise ReleaseError(f"{where}: {key} is {about[key]!r:.80}; expected a text")
    fitted = about.get("surrogates", {})
    if not isinstance(fitted, dict) or not all(isinstance(entry, dict) for entry in fitted.values()):
        raise ReleaseError(f"{where}: surrogates is {fitted!r:.80}; expected an object for each task")


def _know_spaces(listed: object, where: Path) -> None:
    """Make the spaces that a manifest describes known, by the names that its tasks have for them."""
    if not listed:
        return
    from nasbench_mr import spaces
    from nasbench_mr.description import Description

    if not isinstance(listed, dict) or len(listed) > MAX_SPACES:
        raise ReleaseError(f"{where}: spaces is {listed!r:.80}; expected at most {MAX_SPACES} by name")
    for name, data in listed.items():
        try:
            described = Description.from_dict(data)
        except SpaceError as error:
            raise ReleaseError(f"{where}: the space {name!r:.80}: {error}") from None
        if described.key != name:
            raise ReleaseError(f"{where}: the space {name!r:.80} is {described.key}, by what it says")
        spaces.add(described)


def _described_spaces(tasks: Iterable[Task]) -> dict[str, Any]:
    """Return the manifest's entry for the spaces of tasks that are not part of the package."""
    from nasbench_mr import spaces

    named = dict.fromkeys(task.space for task in tasks)
    told = {name: described.to_dict() for name in named if (described := spaces.description(name))}
    return {"spaces": told} if told else {}


def _check_entry(name: str, entry: Mapping[str, Any], where: Path) -> None:
    """Raise `ReleaseError` where a manifest's entry about a file is malformed."""
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or "\\" in name or "\0" in name or name == MANIFEST:
        raise ReleaseError(f"{where} lists {name!r}, which is not inside the release")
    numbers = [entry["bytes"], entry.get("rows", 0)]
    if not re.fullmatch("[0-9a-f]{64}", entry["sha256"]) or not all(
        type(number) is int and 0 <= number < 2**63 for number in numbers
    ):
        raise ReleaseError(f"{where}: malformed entry for {name!r}")


def check_name(name: str, version: str) -> None:
    """Raise `ReleaseError` where a release can't be called so; for those who make one after long work."""
    if not _NAME.fullmatch(name):
        raise ReleaseError(f"release name {name!r}: expected lower-case letters, digits, '.', '_' and '-'")
    if not _VERSION.fullmatch(version):
        raise ReleaseError(
            f"release version {version!r}: expected MAJOR.MINOR.PATCH or MAJOR.MINOR.PATCH-PRE"
        )


def version_key(version: str) -> tuple[Any, ...]:
    """Return a key that sorts versions as Semantic Versioning does: 1.0.0-partial.6 < 1.0.0 < 1.0.1."""
    match = _VERSION.fullmatch(version)
    if not match:
        return ((-1,),)
    numbers = tuple(int(part) for part in match.groups()[:3])
    if match[4] is None:
        return (numbers, 1)
    parts = [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in match[4][1:].split(".")]
    return (numbers, 0, *parts)


# --- Finding ------------------------------------------------------------------------------------------


def installed() -> list[tuple[str, str]]:
    """Return all installed (name, version), sorted by name, then version."""
    return [(name, version) for name in _listed(home() / "releases") for version in _versions(name)]


def find(spec: str | os.PathLike[str]) -> Path:
    """Return the folder of a release.

    Args:
        spec: "name" (its newest version) or "name@version" of an installed release, or a folder. The embedded
            release "mini" is there as if installed. A name comes before a folder or file of that name in the
            current folder; "./name" and a `Path` mean the latter.

    Raises:
        ReleaseNotFoundError: with what is installed and how to get one.
    """
    if (place := named(spec)) is not None:
        return place
    text = os.fspath(spec)
    if text and os.path.isfile(os.path.join(spec, MANIFEST)):
        return Path(spec)
    if os.sep in text or not isinstance(spec, str) or os.path.exists(spec):
        raise ReleaseNotFoundError(f"no release at {text!r}: expected a folder with {MANIFEST}, or a tarball")
    name = text.partition("@")[0]
    if name in PACKAGED and not places(name):
        raise ReleaseNotFoundError(
            f"no release {text!r}: this build of the package embeds none. "
            "nasbench-mr fetch gets the published tables, nasbench-mr import FOLDER takes a local copy"
        )
    known = [f"{name}@{v}" for v in places(name)] or [*PACKAGED, *dict(installed())]
    hint = "; nasbench-mr fetch gets the published tables" if name == DEFAULT else ""
    raise ReleaseNotFoundError(f"no release {text!r}: {did_you_mean(text, known)}{hint}{_unreadable()}")


def named(spec: str | os.PathLike[str]) -> Path | None:
    """Return the folder of the installed or embedded release that "name" or "name@version" means, if any."""
    if not isinstance(spec, str):
        return None
    name, at, version = spec.partition("@")
    versions = places(name)
    return versions.get(version) if at else next(reversed(versions.values()), None)


def load(spec: str | os.PathLike[str]) -> Release:
    """Open a release: one that `find` finds, or a tarball, which is unpacked to a temporary folder.

    The folder is there as long as the `Release`, in this process and in those forked from it.

    Raises:
        ReleaseNotFoundError, ReleaseError, UnsafeFileError, IntegrityError: as `find` and `unpack`.
    """
    if named(spec) is not None or not os.path.isfile(spec):
        return Release.open(find(spec))
    scratch = Scratch(spec)
    return replace(unpack(spec, scratch.folder / "release"), scratch=scratch)


def places(name: str) -> dict[str, Path]:
    """Return the folder of each version of a release, oldest first: installed ones, and the embedded one."""
    root = home() / "releases" / name
    places = {version: root / version for version in _versions(name)}
    embedded = PACKAGED.get(name)
    if embedded is not None and (embedded / MANIFEST).is_file():
        places.setdefault(Release.open(embedded).version, embedded)
    return dict(sorted(places.items(), key=lambda place: version_key(place[0])))


def _versions(name: str) -> list[str]:
    root = home() / "releases" / name
    if not _NAME.fullmatch(name):
        return []
    found = [v for v in _listed(root) if _VERSION.fullmatch(v) and os.path.isfile(root / v / MANIFEST)]
    return sorted(found, key=version_key)


def _listed(folder: Path) -> list[str]:
    """Return what is in a folder, sorted; nothing where there is none, or none that this user may read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _unreadable() -> str:
    """Return what to add to an error where releases may be installed, but can't be seen."""
    root = home() / "releases"
    if os.access(home(), os.F_OK) and os.path.isdir(root) and not os.access(root, os.R_OK | os.X_OK):
        return f" ({root} can't be read: permission denied)"
    return ""


# --- Making -------------------------------------------------------------------------------------------


def seal(
    folder: Path,
    name: str,
    version: str,
    tasks: Iterable[Task],
    *,
    about: Mapping[str, Any] | None = None,
    card: str | None = None,
) -> Release:
    """Turn a folder that has its tables into a release: writes the card, croissant.json and release.json.

    Args:
        folder: with `tables/` and, where there are, `curves/` and `surrogates/`.
        tasks: those with a table in the folder.
        about: further entries for release.json: "title", "license", "citation", "surrogates", ...
        card: the text of DATASET_CARD.md; one made from the manifest by default.

    Raises:
        ReleaseError: the name, the version or `about` does not fit the schema of `release.json`, or a task
            has no table.
    """
    from nasbench_mr import card as dataset_card
    from nasbench_mr import croissant, values
    from nasbench_mr import manifest as manifests

    check_name(name, version)
    tasks = list(tasks)
    about = dict(about or {})
    listed: dict[str, dict[str, Any]] = {}
    generated = {MANIFEST, "DATASET_CARD.md", "croissant.json"}
    arrows = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and relative not in generated:
            listed[relative] = {"sha256": files.sha256(path), "bytes": path.stat().st_size}
            if path.suffix == ".parquet":
                arrows[relative] = values.of_file(path)
                listed[relative]["rows"] = arrows[relative].rows
    for task in tasks:
        if f"tables/{task.name}.parquet" not in listed:
            raise ReleaseError(f"the task {task.name!r} has no tables/{task.name}.parquet in {folder}")
    digest = values.digest(tasks, arrows)
    manifest = {
        "name": name,
        "version": version,
        "schema_version": trials.SCHEMA_VERSION,
        "digest": digest,
        **about,
        **_described_spaces(tasks),
        "tasks": [t.to_dict() for t in tasks],
        "files": listed,
    }
    manifests.check(manifest, folder / MANIFEST)
    release = Release(
        folder, name, version, {t.name: t for t in tasks}, files=listed, about=about, digest=digest
    )
    documents = {
        "DATASET_CARD.md": card if card is not None else dataset_card.text(release),
        "croissant.json": json.dumps(croissant.describe(release), separators=(",", ":")) + "\n",
    }
    for document, text in documents.items():
        files.write_text(folder / document, text)
        path = folder / document
        listed[document] = {"sha256": files.sha256(path), "bytes": path.stat().st_size}
    manifest["files"] = dict(sorted(listed.items()))
    files.write_text(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return Release.open(folder)


def create(
    fill: Callable[[Path], object],
    name: str,
    version: str,
    tasks: Iterable[Task],
    *,
    about: Mapping[str, Any] | None = None,
    target: Path | None = None,
) -> Release:
    """Make a release in one step: `fill` writes the tables into an empty folder, which is then sealed.

    The release appears at `target` (by default, installed) whole or not at all; an installed release of the
    same name, version and content is left as it is.

    Raises:
        ReleaseError: the name and version are taken by other content.
    """
    check_name(name, version)
    about = plain("about", dict(about or {}))
    target = home() / "releases" / name / version if target is None else target
    with files.atomic_folder(target) as folder:
        fill(folder)
        made = seal(folder, name, version, tasks, about=about)
    return _settled(target, made)


def _settled(target: Path, made: Release) -> Release:
    """Return what is now at `target`, which must be what was made: another process may have been faster."""
    found = Release.open(target)
    if found != replace(made, path=found.path):
        raise ReleaseError(
            f"{found} is already at {target} with other content; nothing was changed. "
            "Choose another version, or remove that folder"
        )
    return found


@dataclass(frozen=True)
class Addition:
    """Trials to add to a release, see `extend`.

    Attributes:
        task: what they are about; one that the release has, or a new one.
        trials: as `table.to_arrow` makes them.
        curves: learning curves of these trials, as `table.write_curves` writes them, or None.
    """

    task: Task
    trials: pa.Table
    curves: pa.Table | None = None


def extend(
    base: Release,
    additions: Iterable[Addition] = (),
    *,
    fill: Callable[[Path], object] | None = None,
    replace: bool = False,
    about: Mapping[str, Any] | None = None,
    version: str | None = None,
    target: Path | None = None,
) -> Release:
    """Make a new version of `base` with more in it; `base` stays as it is, and nothing of it is left out.

    Args:
        additions: trials. Those of a task that `base` has go to the end of its table.
        fill: writes further files, such as surrogates, into a folder that has those of `base`.
        replace: where `base` has a trial's code and seed, put the new one, and its curve, in its place.
        about: entries of release.json to add or replace.
        version: of what is made; None: the next free one, so that 1.0.0 becomes 1.0.1-local.1, then -local.2.
        target: the release's new folder; None: it is installed.

    Raises:
        TableError: `base` has a trial of a new one's code and seed, and `replace` is not set.
        ReleaseError: a task has other metrics in `base`; the version is malformed, or taken by other content.
        IntegrityError: a file of `base` is missing or altered.
    """
    tasks, tables = dict(base.tasks), {}
    for addition in additions:
        name = addition.task.name
        tasks[name], tables[f"tables/{name}.parquet"], curves = _joined(base, addition, replace)
        if curves is not None:
            tables[f"curves/{name}.parquet"] = curves
    entries = {**base.about, **(about or {})}

    def fill_all(folder: Path) -> None:
        from nasbench_mr import table

        copy_files(base, [name for name in base.files if name not in tables], folder)
        for name, arrow in tables.items():
            table.write_arrow(arrow, folder / name)
        if fill is not None:
            fill(folder)

    if version is not None:
        return create(fill_all, base.name, version, tasks.values(), about=entries, target=target)
    version = next_version(base.version)
    while True:
        while version in _versions(base.name):
            version = next_version(version)
        try:
            return create(fill_all, base.name, version, tasks.values(), about=entries, target=target)
        except ReleaseError:
            # Another process may have taken the version since.
            if version not in _versions(base.name):
                raise


def _joined(base: Release, addition: Addition, replacing: bool) -> tuple[Task, pa.Table, pa.Table | None]:
    """Return a task as it is with an addition: its description, its trials, and its curves, if any."""
    from nasbench_mr import table

    task, trials, curves = addition.task, addition.trials, addition.curves
    known = base.tasks.get(task.name)
    if known is None:
        return task, trials, curves
    task = _merged(known, task, base)
    name = f"tables/{task.name}.parquet"
    old = table.read_arrow(base.file(name))
    joined = table.join(old, trials, task, replace=replacing, where=f"{base}: {name}")
    if (file := f"curves/{task.name}.parquet") in base.files:
        curves = table.join_curves(table.read_arrow(base.file(file)), curves, trials, task)
    return task, joined, curves


def _merged(known: Task, new: Task, base: Release) -> Task:
    """Return a release's task, with trials of another description added."""
    described = []
    for task in (known, new):
        metrics = ", ".join(sorted(f"{m.name} ({m.direction})" for m in task.metrics))
        described.append(f"the metrics {metrics} and the objective {task.objective} in {task.space}")
    if described[0] != described[1]:
        raise ReleaseError(
            f"the task {known.name!r} of {base} has {described[0]}; the new trials have {described[1]}. "
            "Give them a task of another name"
        )
    sources = [text for text in (known.provenance, new.provenance) if text]
    return replace(
        known,
        provenance=known.provenance if new.provenance in known.provenance else "; ".join(sources),
        cost="table" if "table" in (known.cost, new.cost) else "code",
    )


def copy_files(base: Release | Weights, names: Iterable[str], folder: Path) -> None:
    """Copy files of a release, or of a part of it, checked, into another folder."""
    import shutil

    for name in names:
        source, target = base.path / name, folder / name
        if not source.is_file():
            raise IntegrityError(f"{base}: {name} is missing")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        files.check_sha256(target, base.files[name]["sha256"], f"{base}: {name}")


def next_version(version: str) -> str:
    """Return the version after `version` for a user's own addition."""
    major, minor, patch, pre, _ = _VERSION.fullmatch(version).groups()  # type: ignore[union-attr]
    if pre and (match := re.fullmatch(r"(.*\blocal\.)(\d+)", pre)):
        return f"{major}.{minor}.{patch}{match[1]}{int(match[2]) + 1}"
    return f"{major}.{minor}.{patch}{pre}.local.1" if pre else f"{major}.{minor}.{int(patch) + 1}-local.1"


# --- Verifying, packing, installing -------------------------------------------------------------------


def verify(release: Release, progress: bool = False) -> None:
    """Re-hash every file, re-check every row, and derive `macs`, `params` and the digest from them again.

    Raises:
        ReleaseError: `release.json` does not fit its schema.
        IntegrityError: a file is missing, altered or not listed, or the values have another digest.
        TableError: a row is malformed, or its cost is not its code's.
    """
    from tqdm import tqdm

    from nasbench_mr import manifest, table, values

    manifest.check(json.loads((release.path / MANIFEST).read_text("utf-8")), release.path / MANIFEST)
    check_listed(release, MANIFEST)
    for name, entry in tqdm(release.files.items(), "verify", disable=None if progress else True):
        path = release.path / name
        if not path.is_file():
            raise IntegrityError(f"{release}: {name} is missing")
        files.check_sha256(path, entry["sha256"], f"{release}: {name}")
    # Nothing is parsed before every hash is right.
    found = {}
    for name, entry in release.files.items():
        if not name.endswith(".parquet"):
            continue
        arrow = table.read_arrow(release.path / name)
        found[name] = values.of_table(arrow)
        if len(arrow) != entry.get("rows"):
            raise IntegrityError(
                f"{release}: {name} has {len(arrow)} rows; {MANIFEST} says {entry.get('rows')}"
            )
        task = release.tasks.get(PurePosixPath(name).stem)
        if task is not None and name == f"tables/{task.name}.parquet":
            rows = table.check(arrow, task, f"{release}: {name}")
            if task.cost == "code":
                check_cost(rows, task.space, f"{release}: {name}")
        elif task is not None and name == f"curves/{task.name}.parquet":
            table.check_curves(arrow, task, f"{release}: {name}")
        elif name.startswith("costs/"):
            from nasbench_mr import measured

            measured.read(release.path / name)
    digest = values.digest(release.tasks.values(), found)
    if digest != release.digest:
        raise IntegrityError(
            f"{release}: its values have the digest {digest}; {MANIFEST} says {release.digest}"
        )


def check_listed(found: Release | Weights, manifest: str) -> None:
    """Raise `IntegrityError` where a release, or a part of it, has a file that its manifest does not list."""
    present = {p.relative_to(found.path).as_posix() for p in found.path.rglob("*") if p.is_file()}
    for name in sorted(present - set(found.files) - {manifest}):
        raise IntegrityError(f"{found}: {name} is not listed in {manifest}")


def check_cost(table: trials.Trials, space: str, where: str) -> None:
    """Raise `TableError` where a row's macs or params are not those of its code in this search space."""
    import numpy as np

    from nasbench_mr import cost

    costs = cost.of(space)
    if costs is None:
        raise TableError(f"{where}: the space {space!r} has no formula of costs; expected the cost 'table'")
    for name, exact in costs._asdict().items():
        found, expected = table.values[name], exact(table.codes.astype(np.int16))
        wrong = np.flatnonzero(~(np.isnan(found) | (found == expected)))
        if len(wrong):
            row = wrong[0]
            raise TableError(
                f"{where}: row {row}: {name} is {found[row]:.0f}; its code has {expected[row]} "
                f"({len(wrong)} such rows)"
            )


def pack(release: Release, target: str | os.PathLike[str]) -> Path:
    """Write the release as a tarball, and its `.sha256` beside it; return the path.

    The same files give the same bytes.

    Args:
        target: a file name ending in .tar.gz, or a folder, where it becomes <name>-<version>.tar.gz.
    """
    from nasbench_mr import archives

    verify(release)
    top = f"{release.name}-{release.version}"
    return archives.pack(release.path, [*release.files, MANIFEST], top, target)


def export(release: Release, folder: str | os.PathLike[str]) -> Path:
    """Write a release as a folder for Hugging Face, which is there whole or not at all.

    `datasets.load_dataset(FOLDER, TASK)` opens it as it is, and `huggingface-cli upload` publishes it: its
    README.md is the dataset card, whose front matter names a configuration for every table.

    Raises:
        ReleaseError: there is something at `folder` already.
    """
    import shutil

    verify(release)
    target = Path(folder)
    if target.exists():
        raise ReleaseError(f"{target} is there already; give the name of a folder that is not")
    with files.atomic_folder(target) as made:
        copy_files(release, release.files, made)
        for name, source in ((MANIFEST, MANIFEST), ("README.md", "DATASET_CARD.md")):
            shutil.copyfile(release.path / source, made / name)
    return target


def unpack(tarball: str | os.PathLike[str], target: Path, sha256: str | None = None) -> Release:
    """Unpack a release tarball into the folder `target`, checked file by file; it stands there, or in the
    one folder that the tarball holds.

    Raises:
        ReleaseNotFoundError: no such file.
        IntegrityError: its hash is not `sha256`, or a file's is not the listed one.
        UnsafeFileError: it is truncated, or holds links, devices, or paths outside its folder.
        ReleaseError: it does not hold one release.
    """
    if not os.path.isfile(tarball):
        raise ReleaseNotFoundError(f"no release at {os.fspath(tarball)!r}: expected a tarball")
    try:
        release = Release.open(extract(tarball, target, sha256))
    except ReleaseNotFoundError:
        raise ReleaseError(f"{tarball} is not a release: it has no {MANIFEST}") from None
    verify(release)
    return release


def extract(tarball: str | os.PathLike[str], target: Path, sha256: str | None) -> Path:
    """Unpack the tarball of a release, or of a part of it; return its one folder, or `target`."""
    from nasbench_mr import archives

    if sha256 is not None:
        files.check_sha256(tarball, sha256)
    target.mkdir(parents=True, exist_ok=True)
    archives.extract_tar(tarball, target, max_members=MAX_FILES, largest=largest)
    tops = list(target.iterdir())
    return tops[0] if len(tops) == 1 and tops[0].is_dir() else target


def largest(name: str) -> int:
    """Return how many bytes a file of a release may have: those that are read whole, few."""
    from nasbench_mr import archives

    return archives.MAX_UNPACKED if PurePosixPath(name).suffix in _LARGE else MAX_MANIFEST


def install(source: str | os.PathLike[str], sha256: str | None = None) -> Release:
    """Install a release from its folder or tarball; afterwards `find` knows it by name.

    Safe to run in several processes at once; an equal release that is there already stays.

    Raises:
        ReleaseNotFoundError, IntegrityError, UnsafeFileError, ReleaseError, TableError: as `unpack` and
            `verify`; nothing that was installed changes.
        StorageError: the disk is full or the home folder can't be written.
    """
    import shutil

    root = home() / "releases"
    with files.scratch_folder(root) as scratch:
        staged = scratch / "release"
        staged.mkdir()
        if os.path.isdir(source):
            given = Release.open(source)
            copy_files(given, given.files, staged)
            shutil.copyfile(given.path / MANIFEST, staged / MANIFEST)
            release = Release.open(staged)
            verify(release)
        else:
            release = unpack(source, staged, sha256)
        target = root / release.name / release.version
        with files.atomic_folder(target) as folder:
            for made in release.path.iterdir():
                made.rename(folder / made.name)
    return _settled(target, release)
