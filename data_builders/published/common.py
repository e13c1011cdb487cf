"""What both ways in share: errors that name the file, and one writer of a release at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from nasbench_mr import files, release
from nasbench_mr.errors import InvalidArgumentError, OutOfSpaceError, TableError, UnknownNameError


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Make errors about what is in a file say which file."""
    try:
        yield
    except (TableError, OutOfSpaceError, InvalidArgumentError, UnknownNameError) as error:
        text = str(error).removeprefix("the table: ")
        raise type(error)(text if text.startswith(str(path)) else f"{path}: {text}") from None
    except OSError as error:
        raise InvalidArgumentError(f"can't read {path}: {error.strerror or error}") from None


def locked(name: str) -> contextlib.AbstractContextManager[None]:
    """Make versions of one release one after the other: each builds on the last."""
    return files.locked(release.home() / "releases" / f".{name}.lock")
