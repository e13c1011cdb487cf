"""Damaged and foreign files in a build's folder: named, with what to delete, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import fake_trainers
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nasbench_mr import tasks
from nasbench_mr.data_builders import build
from nasbench_mr.data_builders.building import runner
from nasbench_mr.data_builders.building.store import CURVE, Store, parse_curve
from nasbench_mr.errors import NasbenchMRError, RecipeError, TableError

TASK = tasks.get("mini-cls")


def made(out: Path) -> runner.Report:
    return build("mini-cls", 2, 1, out, workers=1, trainer="fake_trainers:instant")


def as_parquet(arrow: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def changed(arrow: pa.Table, name: str, value: object) -> pa.Table:
    """Return the table with one value in all rows of a column."""
    column, field = arrow.schema.get_field_index(name), arrow.schema.field(name)
    return arrow.set_column(column, field, pa.array([value] * len(arrow), field.type))


def only_part(out: Path) -> Path:
    """Return a build's parts as one."""
    first, *others = sorted((out / "parts/mini-cls").iterdir())
    first.write_bytes(as_parquet(pa.concat_tables(map(pq.read_table, [first, *others]))))
    for other in others:
        other.unlink()
    return first


def test_damaged_parts_are_named_and_what_was_in_them_is_trained_again(tmp_path: Path) -> None:
    made(tmp_path)
    part = only_part(tmp_path)
    good, arrow = part.read_bytes(), pq.read_table(part)
    middle = len(good) // 2
    damages = {
        "empty": b"",
        "cut": good[:-10],
        "no footer": good[: middle],
        "a page": good[:100] + bytes(200) + good[300:],
        "another file": b"<html>not found</html>",
        "another table": as_parquet(pa.table({"x": [1]})),
        "a column less": as_parquet(arrow.drop_columns(["seed"])),
        "no curves": as_parquet(arrow.drop_columns([CURVE])),
        "a code outside the space": as_parquet(changed(arrow, "i1", 7)),
        "no seed": as_parquet(changed(arrow, "seed", None)),
        "an unknown status": as_parquet(changed(arrow, "status", "fine")),
        "a metric beyond its bounds": as_parquet(changed(arrow, "top1", 101.0)),
        "the same trial twice": as_parquet(pa.concat_tables([arrow, arrow])),
        "a curve": as_parquet(changed(arrow, CURVE, "[1, 2]")),
    }  # fmt: skip
    for kind, damage in damages.items():
        part.write_bytes(damage)
        with pytest.raises(
            TableError, match=rf"{part.name} in .* is damaged or foreign \(.*\); delete it"
        ) as raised:
            made(tmp_path)
        assert "\n" not in str(raised.value), kind
    part.unlink()
    report = made(tmp_path)
    assert (report.tasks["mini-cls"].before, report.tasks["mini-cls"].ok) == (0, 2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[" * 100_000,
        "{}",
        '{"epoch": [1, 2], "top1": [1]}',
        '{"epoch": [1], "loss": [1]}',
        '{"epoch": [2, 1], "top1": [1, 2]}',
        '{"epoch": [0], "top1": [1]}',
        '{"epoch": [1e300], "top1": [1]}',
        '{"epoch": [1], "top1": ["high"]}',
        '{"epoch": [1], "top1": [{}]}',
        '{"epoch": [[1]], "top1": [[1]]}',
        '{"epoch": [1], "top1": [100.5]}',
        '{"epoch": [1], "top1": [Infinity]}',
        '{"epoch": [1], "top1": [1], "loss": [1' + "0" * 400 + "]}",
        '{"epoch": 1, "top1": 1}',
    ],
)
def test_texts_that_are_no_curve(text: str) -> None:
    with pytest.raises(TableError, match=r"^its curve "):
        parse_curve(text, TASK, "its curve")


def test_curves_with_other_columns_are_joined(tmp_path: Path) -> None:
    """As of two versions of a trainer: what one does not say is unknown."""
    made(tmp_path)
    part = only_part(tmp_path)
    arrow = pq.read_table(part)
    first = changed(arrow.slice(0, 1), CURVE, '{"epoch": [1, 2], "top1": [50, NaN], "time": [0.5, 1]}')
    part.write_bytes(as_parquet(pa.concat_tables([first, arrow.slice(1)])))
    made(tmp_path)
    curves = pq.read_table(tmp_path / "curves/mini-cls.parquet")
    assert sorted(curves["time"].to_pylist(), key=str) == [0.5, 1, None, None]
    assert set(curves.column_names) > {"top1", "top5", "loss", "lr", "seconds", "time"}
    assert np.isnan(parse_curve(first[CURVE][0].as_py(), TASK, "")["top1"][1])


def test_a_curve_that_does_not_fit_fails_its_trial(tmp_path: Path) -> None:
    report = build("mini-cls", 1, [0, 1], tmp_path, workers=1, retries=0, trainer="fake_trainers:bad_curve")
    assert (report.tasks["mini-cls"].ok, report.tasks["mini-cls"].failed) == (1, 1)
    assert "has a top1 beyond its bounds, [0, 100]" in str(report.failures[0].error)
    assert fake_trainers.top1(report.failures[0].trial.code, 1) >= 0


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"name": 3}',
        b" " * (2 << 20),
        *(
            json.dumps(
                {"name": "x", "task": "mini-cls", "about": "", "dataset": "cifar10", key: value}
            ).encode()
            for key, value in [
                ("lr", 10**400),
                ("epochs", 10**400),
                ("crop", [10**400, 64]),
                ("lr", float("nan")),
                ("crop_scale", [0.1, float("inf")]),
                ("data_options", []),
                ("speed", 3),
            ]
        ),
    ],
)
def test_damaged_recipes_are_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mini-cls.json").write_bytes(damage)
    with pytest.raises(
        RecipeError, match=r"recipes/mini-cls\.json in .* is damaged or foreign: .* delete it"
    ):
        made(tmp_path)


def test_damaged_tables_are_named_when_a_release_is_made(tmp_path: Path) -> None:
    """They are made anew from the parts, where these are there."""
    made(tmp_path)
    path, parts = tmp_path / "tables/mini-cls.parquet", tmp_path / "parts"
    good, arrow = path.read_bytes(), pq.read_table(path)
    path.write_bytes(good[:-8])
    runner.release(tmp_path, "mine", "1.0.0", target=tmp_path / "whole")
    assert path.read_bytes() == good
    parts.rename(tmp_path / "elsewhere")
    for damage in (
        b"",
        good[:-8],
        as_parquet(arrow.replace_schema_metadata(None)),
        as_parquet(arrow.replace_schema_metadata({"nasbench_mr": "[" * 100_000})),
        as_parquet(arrow.replace_schema_metadata({"nasbench_mr": "{}"})),
        as_parquet(arrow.replace_schema_metadata({"nasbench_mr": '{"task": {"name": 3}}'})),
    ):
        path.write_bytes(damage)
        with pytest.raises(
            TableError, match=r"tables/mini-cls\.parquet in .* delete it, and rerun the build"
        ):
            runner.release(tmp_path, "mine", "1.0.0", target=tmp_path / "release")


def test_folders_in_the_place_of_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "recipes/mini-cls.json").mkdir(parents=True)
    with pytest.raises(NasbenchMRError, match=r"recipes/mini-cls\.json"):
        Store(tmp_path).recipe("mini-cls")
