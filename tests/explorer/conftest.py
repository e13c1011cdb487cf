"""A real browser for the explorer's tests: Debian's Chromium, driven by Playwright.

Where there is no Chromium (or no Playwright) these tests are skipped and say so. `$CHROMIUM` names another
one than those on the path.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nasbench_mr
from nasbench_mr import explorer
from nasbench_mr.release import EMBEDDED

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

Open = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, once for all tests."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium on the path: apt-get install chromium, or set CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=program, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def show(browser: Any) -> Iterator[Open]:
    """Open a page in a window of its own; the test fails where one complained or asked for anything."""
    contexts, wrong = [], []

    def open_page(
        path: Path, width: int = 1280, height: int = 900, *, scheme: str = "light", at: str = ""
    ) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(120_000)  # a machine may be busy
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda message: message.type in ("error", "warning") and wrong.append(message.text)
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith("file:") or wrong.append(asked.url))
        page.goto(path.as_uri() + at)
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of the embedded release."""
    return explorer.write(nasbench_mr.load(EMBEDDED), tmp_path_factory.mktemp("page") / "mini.html")
