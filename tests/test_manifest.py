"""What `release.json` must look like: the schema, and the check by it."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import nasbench_mr
from nasbench_mr import manifest, release
from nasbench_mr.errors import ReleaseError
from nasbench_mr.release import Release
from nasbench_mr.tasks import Metric, Task

MINI = json.loads((nasbench_mr.load("mini").release.path / "release.json").read_text("utf-8"))
SCHEMA = json.loads(manifest.SCHEMA.read_text("utf-8"))


def test_it_is_a_json_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft7Validator(SCHEMA).validate(MINI)


def test_it_has_the_fields_that_tasks_and_metrics_have() -> None:
    described = SCHEMA["definitions"]
    assert list(described["task"]["properties"]) == [f.name for f in fields(Task)]
    assert list(described["metric"]["properties"]) == [f.name for f in fields(Metric)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.pop("tasks"), r"must contain \['tasks'\]"),
        (lambda m: m.update(schema_version=2), "schema_version must be smaller than or equal to 1"),
        (lambda m: m.update(version="1"), "version must match pattern"),
        (lambda m: m.update(digest="abc"), "digest must match pattern"),
        (lambda m: m.update(title=3), "title must be string"),
        (lambda m: m["tasks"][0].update(colour="red"), r"tasks\[0\] must not contain \{'colour'\}"),
        (lambda m: m["tasks"][1].update(metrics=[]), r"tasks\[1\].metrics must contain at least 1 items"),
        (
            lambda m: m["tasks"][0]["metrics"][1].update(direction="up"),
            r"metrics\[1\].direction must be one of",
        ),
        (lambda m: m["files"].update({"../x": {"sha256": "0" * 64, "bytes": 1}}), "files must be named"),
        (
            lambda m: m["files"]["tables/mini-seg.parquet"].update(rows=-1),
            "rows must be bigger than or equal",
        ),
        (lambda m: m["files"]["tables/mini-seg.parquet"].pop("bytes"), r"must contain \['bytes'\]"),
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[dict[str, Any]], Any], said: str) -> None:
    wrong = copy.deepcopy(MINI)
    change(wrong)
    with pytest.raises(
        ReleaseError, match=rf"^x/release.json does not fit the schema of release.json: .*{said}"
    ):
        manifest.check(wrong, "x/release.json")
    manifest.check(MINI, "x/release.json")


def test_releases_are_checked_when_they_are_made_and_verified(tiny_release: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(tiny_release, tmp_path / "copy"))
    opened = Release.open(copied)
    release.verify(opened)
    with pytest.raises(ReleaseError, match="homepage must be string"):
        release.seal(copied, "tiny", "1.0.1", opened.tasks.values(), about={"homepage": 3})
    path = copied / "release.json"
    noted = json.loads(path.read_text("utf-8"))
    noted["files"]["tables/seg.parquet"]["note"] = "mine"
    path.write_text(json.dumps(noted))
    with pytest.raises(ReleaseError, match=r"tables/seg.parquet.* must not contain \{'note'\}"):
        release.verify(Release.open(copied))
