"""What `release.json` must look like: the JSON Schema in `release.schema.json`, and the check by it.

A release is checked when it is made and by `release.verify`. `Release.open`, which a query waits for, checks
by itself only what it reads.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nasbench_mr.errors import ReleaseError

SCHEMA = Path(__file__).with_name("release.schema.json")


def check(manifest: Mapping[str, Any], where: object) -> None:
    """Check what a `release.json` holds; raise `ReleaseError` for the first entry that does not fit."""
    import fastjsonschema

    try:
        _validator()(manifest)
    except fastjsonschema.JsonSchemaValueException as error:
        entry = error.message.removeprefix("data.").removeprefix("data ")
        raise ReleaseError(f"{where} does not fit the schema of release.json: {entry}") from None


@functools.cache
def _validator() -> Callable[[Mapping[str, Any]], Any]:
    import fastjsonschema

    compiled: Callable[[Mapping[str, Any]], Any] = fastjsonschema.compile(
        json.loads(SCHEMA.read_text("utf-8"))
    )
    return compiled
