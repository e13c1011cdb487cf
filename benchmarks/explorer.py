"""What the explorer's frames cost: `python benchmarks/explorer.py`, part of `make bench`.

The page shows what the nine published settings would: 2,507 codes in each, 22,563 points, with surrogates.
The values are made up, as only their number matters. A browser without a screen and without a GPU opens it,
points and drags as a person does, and tells the CPU time of the page's main thread for the two frames after
each move. At 60 frames a second they have 33.3 ms.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import Figure, report

import nasbench_mr
from nasbench_mr import cost, explorer, release, space, table, tasks
from nasbench_mr.predictors.surrogates import fit_surrogates

CODES, MOVES = 2507, 40
FRAMES = 2 * 1000 / 60
NEXT = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
POINTS = "explorer.scatter.draw()"
PREDICT = """() => {
  const codes = Array.from({ length: 200 }, (_, k) => explorer.state.code.with(0, 8 + 8 * (k % 16)));
  for (const code of codes) explorer.predict(code);
}"""


def main() -> None:
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("the benchmark needs Chromium: apt-get install chromium, or set CHROMIUM")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("the benchmark needs Playwright: pip install playwright")
    with TemporaryDirectory() as folder, sync_playwright() as running:
        path = page_of_nine(Path(folder))
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{path.as_uri()}#y=*&c=task")
        page.wait_for_selector("html[data-ready]", timeout=120_000)
        page.evaluate(NEXT)
        report(f"Explorer, a page of {path.stat().st_size:,} bytes", figures(page))
        browser.close()


def page_of_nine(folder: Path) -> Path:
    """Return a page with 2,507 codes in each of the nine published settings, and surrogates."""
    codes = space.sample(CODES, seed=0, scheme="published")
    costs = {"macs": cost.macs(codes), "params": cost.params(codes)}
    chosen = [tasks.get(name) for name in tasks.PUBLISHED if name != "nas-bench-201"]
    rng = np.random.default_rng(0)

    def fill(target: Path) -> None:
        for task in chosen:
            values = {
                m.name: np.clip(60 + 5 * rng.normal(size=CODES), *m.limits).round(2) for m in task.metrics
            }
            table.write(target / f"tables/{task.name}.parquet", task, {"codes": codes, **values, **costs})

    about = {"title": "Nine settings"}
    made = release.create(fill, "nine", "1.0.0", chosen, about=about, target=folder / "nine")
    fitted = fit_surrogates(nasbench_mr.load(made.path), target=folder / "fitted", workers=0, epochs=1)
    return explorer.write(nasbench_mr.load(fitted.path), folder / "page.html")


def figures(page: Any) -> list[Figure]:
    """Return what each kind of move costs."""
    points = page.evaluate(POINTS)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    box = page.locator("#scatter").bounding_box()
    left, top = box["x"] + 80, box["y"] + 60
    across, down = (box["width"] - 140) / MOVES, 320 / MOVES
    places = np.random.default_rng(0).random((MOVES, 2)) * MOVES

    def cpu() -> float:
        told = session.send("Performance.getMetrics")["metrics"]
        return next(float(each["value"]) for each in told if each["name"] == "TaskDuration") * 1e3

    def timed(name: str, move: Callable[[int], object]) -> Figure:
        spent = []
        for k in range(MOVES):
            before = cpu()
            move(k)
            page.evaluate(NEXT)
            spent.append(cpu() - before)
        median, late = np.quantile(spent, (0.5, 0.95))
        return Figure(
            f"{name}: CPU of two frames, median (95%)",
            f"{median:.1f} ms ({late:.1f} ms)",
            f"<= {FRAMES:.1f} ms",
            bool(median <= FRAMES),
        )

    def state(change: str) -> None:
        page.evaluate(f"explorer.app.set({{ {change} }})")

    def to(x: float, y: float) -> None:
        page.mouse.move(left + x * across, top + y * down)

    found = [Figure("points", f"{points:,}", f"{9 * CODES:,}", points == 9 * CODES)]
    found.append(timed("pointer over the plot", lambda k: to(*places[k])))
    to(0, 0)
    page.mouse.down()
    found.append(timed("brush dragged", lambda k: to(k + 1, k + 1)))
    page.mouse.up()
    found.append(timed("best percent moved", lambda k: state(f"brush: null, top: {99 - k}")))
    span = "top: 100, ranges: {{ 'seg/mIoU': [{}, 75] }}"
    found.append(timed("span of an axis moved", lambda k: state(span.format(45 + k / 2))))
    slider = "ranges: {{}}, code: explorer.state.code.with(0, {})"
    found.append(timed("slider moved", lambda k: state(slider.format(8 + 8 * (k % 16)))))
    before = cpu()
    page.evaluate(PREDICT)
    each = (cpu() - before) / 200
    found.append(
        Figure(
            "prediction of all metrics of a code",
            f"{each:.2f} ms",
            f"<= {FRAMES / 2:.1f} ms",
            each <= FRAMES / 2,
        )
    )
    return found


if __name__ == "__main__":
    main()
