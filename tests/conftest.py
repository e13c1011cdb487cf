"""What all tests share: real published data where a checkout has it beside, and a home of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path | None:
    """The folder with published tables and photos, or None; tests cover less without it."""
    return SHARED if (SHARED / "upstream").is_dir() else None


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty NASBENCH_MR_HOME for every test, so that none sees or touches the user's releases."""
    folder = tmp_path / "home"
    monkeypatch.setenv("NASBENCH_MR_HOME", str(folder))
    return folder


def pytest_report_header() -> str:
    """Says once what the run covers."""
    if (SHARED / "upstream").is_dir():
        return "published tables: present"
    return "published tables: absent; tests use the embedded release and generated data only"
