"""Everything that is installed, as one: which release answers for a task.

`load()` and every command without `--release` ask the library: the newest version of each installed release,
and the embedded "mini". A task that several have is answered by the first of them: the published tables and
"mini" come first, then other releases that came whole, then those with a user's own additions, each by name.
So what a user adds answers for tasks that only the user has, and never changes what others answer; rows added
to a published release itself (`nasbench-mr import --into`) make a new version of it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from nasbench_mr import files, release, tasks
from nasbench_mr.errors import (
    NasbenchMRError,
    ReleaseError,
    UnknownTaskError,
    did_you_mean,
)
from nasbench_mr.release import Release
from nasbench_mr.tasks import Task


def opened() -> list[Release]:
    """Open the newest version of each installed release of tasks, in the order in which they are asked.

    A damaged one is left out, with a warning.

    Raises:
        ReleaseNotFoundError: nothing is installed, and this build of the package embeds nothing.
    """
    found, damaged = _newest()
    for name, error in damaged.items():
        warnings.warn(
            f"left out, and so its tasks are not answered: {error} "
            f"(nasbench-mr releases remove {name}, then install it again)",
            stacklevel=3,
        )
    found = [each for each in found if each.tasks]
    if not found:
        release.find(release.MINI)  # says how to get one
    return found


def installed() -> list[Release]:
    """Return the newest version of each installed release, also those of costs; nothing is said of damage."""
    return _newest()[0]


def answering() -> dict[str, Release]:
    """Return, by task, the release that the library asks for it; says nothing of damaged ones."""
    return {task: each for each in reversed(installed()) for task in each.tasks}


def task(name: str) -> Task:
    """Return the description of a task by name or alias: of what is installed, else a registered one.

    Raises:
        UnknownTaskError: there is none.
    """
    there = {name: tasks.get(name) for name in tasks.names()}
    there |= {name: each.tasks[name] for name, each in answering().items()}
    try:
        return there[tasks.resolve(name, there)]
    except UnknownTaskError as error:
        raise unknown(name, there, error) from None


def _newest() -> tuple[list[Release], dict[str, Exception]]:
    """Return the newest version of each release, in order, and by "name@version" what is wrong with it."""
    found: list[Release] = []
    damaged: dict[str, Exception] = {}
    for name in dict.fromkeys(
        [release.DEFAULT, *release.PACKAGED, *(name for name, _ in release.installed())]
    ):
        place = release.named(name)
        if place is None or name == release.REFERENCE:  # which answers no query
            continue
        try:
            found.append(Release.open(place))
        except (NasbenchMRError, OSError) as error:
            damaged[f"{name}@{place.name}"] = error
    return sorted(found, key=_rank), damaged


def _rank(found: Release) -> tuple[int, str]:
    official = (release.DEFAULT, *release.PACKAGED)
    if found.name in official:
        return official.index(found.name), ""
    return len(official) + ("local" in found.version), found.name


def every() -> Iterator[tuple[str, str, Path]]:
    """Yield the name, version and folder of every version of every release; `mini` as if installed."""
    for name in sorted({*release.PACKAGED, *(name for name, _ in release.installed())}):
        for version, folder in release.places(name).items():
            yield name, version, folder


def unknown(name: object, there: Mapping[str, Task], cause: UnknownTaskError) -> UnknownTaskError:
    """Return the error about a task that is not among those opened (`there`), which says what brings it."""
    if not isinstance(name, str) or tasks.meant(name, there):
        return cause
    elsewhere = answering()
    known = {task: tasks.get(task) for task in tasks.names()}
    installed = {task: each.tasks[task] for task, each in elsewhere.items()}
    if meant := tasks.meant(name, installed) or tasks.meant(name, known):
        return UnknownTaskError(f"no task {name!r} here: {'; '.join(_brings(t, elsewhere) for t in meant)}")
    every_task = {**there, **installed, **known}
    nearest = did_you_mean(name, every_task)
    hints = [_brings(t, elsewhere) for t in every_task if t not in there and repr(t) in nearest]
    return UnknownTaskError(f"no task {name!r}: {nearest}" + (f" ({'; '.join(hints)})" if hints else ""))


def _brings(task: str, elsewhere: Mapping[str, Release]) -> str:
    """Return how to get a task that was not opened."""
    if task in elsewhere:
        return f"{task!r} is in {elsewhere[task]}: --release {elsewhere[task].name}"
    if task in tasks.PUBLISHED:
        return f"nasbench-mr fetch brings {task!r}"
    return f"{task!r} is in no installed release; nasbench-mr build or import makes its table"


def remove(spec: str) -> Path:
    """Delete one version of an installed release; return where it was.

    Args:
        spec: "name@version".

    Raises:
        ReleaseNotFoundError: it is not installed.
        ReleaseError: no version is given, or it is the embedded release.
        StorageError: the folder can't be written.
    """
    name, at, _ = spec.partition("@")
    if not at:
        versions = [f"{name}@{version}" for version in release.places(name)]
        raise ReleaseError(
            f"{spec!r} names no version; expected NAME@VERSION"
            + (f": {', '.join(versions)}" if versions else "")
        )
    folder = release.named(spec)
    if folder is None:
        folder = release.find(spec)  # says what is there
    if folder in release.PACKAGED.values():
        raise ReleaseError(f"{spec} is part of the package itself and can't be removed")
    with files.explained(folder), files.scratch_folder(release.home() / "releases") as scratch:
        os.rename(folder, scratch / "removed")  # at once; those who have it open may miss files from here on
        if not os.listdir(folder.parent):
            folder.parent.rmdir()
    return folder
