"""The explorer's benchmark names what it lacks."""

import shutil
import sys

import explorer
import pytest


@pytest.mark.parametrize(
    ("missing", "message"), [("chromium", "needs Chromium"), ("playwright", "needs Playwright")]
)
def test_what_is_missing_is_named(missing: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None if missing == "chromium" else f"/usr/bin/{name}")
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)  # an import of it fails
    with pytest.raises(SystemExit, match=message):
        explorer.main()
