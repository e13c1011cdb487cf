"""Arrays with a JSON header as one npz file, without pickles: the files of predictors and surrogates."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import files
from nasbench_mr.checks import json_object
from nasbench_mr.errors import InvalidArgumentError

#: What a file holds: arrays by name.
State = dict[str, npt.NDArray[Any]]

_VERSION = 1
#: A fitted predictor is a few megabytes; a file that unpacks to more than this is refused.
_MAX_BYTES = 2 << 30


def write(path: str | os.PathLike[str], form: str, header: Mapping[str, Any], state: State) -> None:
    """Write arrays and a JSON header as one npz file, without pickles."""
    text = json.dumps({"format": form, "version": _VERSION, **header})
    arrays: dict[str, Any] = {"header": np.frombuffer(text.encode(), np.uint8), **state}
    with files.atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def read(path: str | os.PathLike[str], form: str) -> tuple[dict[str, Any], State]:
    """Return the header and arrays that `write` wrote; raise `InvalidArgumentError` for other files."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MAX_BYTES:
                raise InvalidArgumentError(f"it unpacks to more than {_MAX_BYTES >> 20} MiB; refused")
        with np.load(path, allow_pickle=False) as archive:
            state = {key: archive[key] for key in archive.files}
        header = json_object(state.pop("header").tobytes(), "its header", InvalidArgumentError)
        found, version = header.pop("format"), header.pop("version")
    except FileNotFoundError:
        raise InvalidArgumentError(f"no file {path}; expected a {form}") from None
    except Exception as error:  # of zipfile, zlib and NumPy, which promise nothing about damaged files
        raise InvalidArgumentError(f"{path} is not a {form}, or is damaged: {error}") from error
    if found != form or version != _VERSION:
        raise InvalidArgumentError(
            f"{path} is a {found} of version {version}; this release reads {form} {_VERSION}"
        )
    return header, state
