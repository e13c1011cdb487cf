from pathlib import Path

import builders
import pytest

from nasbench_mr.data_builders import generate


def test_only_what_can_be_made_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASBENCH_MR_DATA", str(tmp_path / "mine"))
    assert builders.mini_data(tmp_path) == tmp_path / "mine"
    monkeypatch.delenv("NASBENCH_MR_DATA")
    monkeypatch.setattr(builders, "REPOSITORY", tmp_path / "repository")
    made = []
    monkeypatch.setattr(generate, "make", lambda name, root, **options: made.append((name, root)))
    assert builders.mini_data(tmp_path) == tmp_path
    assert made == [("kitti", tmp_path / "kitti"), ("hmdb51", tmp_path / "hmdb51")]
