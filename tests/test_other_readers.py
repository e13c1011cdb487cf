"""A release is read as it is by the tools that others use: none of them imports this package.

Each test needs its reader and is skipped by name where it is not installed (the extra "readers").
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

import nasbench_mr
from nasbench_mr import cli, release
from nasbench_mr.release import EMBEDDED, Release

#: mini's best code of mini-seg: 36.45 mIoU in one of 290 trials.
BEST, ROWS = 36.4, 290


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`nasbench-mr pack mini --hf DIR`."""
    target = tmp_path_factory.mktemp("hf") / "mini"
    assert cli.main(["pack", "mini", "--hf", str(target)]) == 0
    return target


def test_the_folder_is_still_a_release(folder: Path) -> None:
    assert nasbench_mr.load(folder).best("mini-seg", 1)[0]["mIoU"] > BEST
    assert (folder / "README.md").read_text().startswith("---\npretty_name: ")


def test_what_is_there_is_not_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pack", "mini", "--hf", str(folder)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_the_cards_figures_are_those_of_the_tables() -> None:
    """The embedded release's card is what its tables and manifest say today."""
    from nasbench_mr import card

    assert (EMBEDDED / "DATASET_CARD.md").read_text() == card.text(Release.open(EMBEDDED))


def test_pandas(folder: Path) -> None:
    import pandas as pd

    frame = pd.read_parquet(folder / "tables/mini-seg.parquet")
    assert len(frame) == ROWS
    assert frame["mIoU"].max() > BEST


def test_polars(folder: Path) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(folder / "tables/mini-seg.parquet")
    assert frame.height == ROWS
    assert frame["mIoU"].max() > BEST


def test_duckdb(folder: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = folder / "tables/mini-seg.parquet"
    found = duckdb.sql(f"select count(*), max(\"mIoU\") from '{path}'").fetchall()[0]
    assert found[0] == ROWS
    assert found[1] > BEST


def test_hugging_face_datasets(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    for name in ("mini-seg", "mini-seg-curves"):
        opened = datasets.load_dataset(str(folder), name, cache_dir=str(tmp_path))["train"]
        assert "mIoU" in opened.column_names
    table = datasets.load_dataset(str(folder), "mini-seg", cache_dir=str(tmp_path))["train"]
    assert len(table) == ROWS
    assert max(table["mIoU"]) > BEST


def test_hugging_face_reads_the_card(folder: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.DatasetCard((folder / "README.md").read_text()).data.to_dict()
    assert data["license"] == "mit"
    named = [config["config_name"] for config in data["configs"]]
    assert named[:2] == ["mini-cls", "mini-det3d"]
    assert len(named) == 8


@pytest.mark.parametrize("name", ["mini-seg", "mini-seg-curves"])
def test_mlcroissant(folder: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    with caplog.at_level(logging.WARNING):
        opened = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
        records = list(opened.records(name))
    assert not [record.message for record in caplog.records]
    file = name.removesuffix("-curves")
    rows = Release.open(folder).files[f"{'curves' if 'curves' in name else 'tables'}/{file}.parquet"]["rows"]
    assert len(records) == rows
    assert f"{name}/mIoU" in records[0]
    assert opened.metadata.cite_as.startswith("nasbench-mr, embedded release mini")


def test_every_licence_and_text_may_be_hostile(tiny_release: Path, tmp_path: Path) -> None:
    """Front matter stays YAML whatever a release's title says."""
    yaml = pytest.importorskip("yaml")
    from nasbench_mr import card

    copy = shutil.copytree(tiny_release, tmp_path / "copy")
    opened = Release.open(copy)
    about = {**opened.about, "title": 'a "quoted": [title]\n---\nevil: true'}
    made = release.seal(Path(copy), "tiny", "1.0.1", opened.tasks.values(), about=about)
    front = card.text(made).split("---\n")[1]
    assert yaml.safe_load(front)["pretty_name"] == about["title"]
