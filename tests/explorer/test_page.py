"""The explorer's page in a real browser: what it draws, computes, selects, remembers and gives away."""

from __future__ import annotations

import io
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import nasbench_mr
from nasbench_mr import cli, cost, explorer, release, search, space, table, tasks
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.data_builders import published
from nasbench_mr.grid import Grid
from nasbench_mr.release import EMBEDDED

Open = Callable[..., Any]

#: Where in the window point number k of the scatter is.
PLACE = """(k) => {
    const { left, top } = document.getElementById("scatter").getBoundingClientRect();
    return [left + explorer.scatter.px[k], top + explorer.scatter.py[k]];
}"""


@pytest.fixture(scope="module")
def bench() -> Benchmark:
    return nasbench_mr.load(EMBEDDED)


def settled(page: Any) -> None:
    """Lets the views follow the state, and the address the views, now and not before the next frame."""
    page.evaluate("explorer.app.flush(); explorer.link.write()")


def until(page: Any, condition: str) -> None:
    """Wait for a condition; Playwright's own way evaluates text in the page, which its policy forbids."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {condition}")


def selected(page: Any) -> set[tuple[int, ...]]:
    """Return the codes that are selected."""
    rows = "Array.from(explorer.app.mask.keys()).filter((row) => explorer.app.mask[row])"
    return set(map(tuple, page.evaluate(f"{rows}.map((row) => explorer.table.space.code(row))")))


def test_every_row_is_a_point(show: Open, mini: Path, bench: Benchmark) -> None:
    page = show(mini)
    for task in bench.tasks:
        metric = bench.task(task).objective
        page.select_option("#y", f"{task}/{metric}")
        assert page.evaluate("explorer.scatter.draw()") == len(bench.codes(task)) == 230
        drawn = page.evaluate("explorer.app.points.rows.map((r) => explorer.table.space.code(r))")
        answers = bench.query_many(np.array(drawn), task, source="table")
        assert page.evaluate("explorer.app.points.ys") == answers[metric].tolist()
        assert page.evaluate("explorer.app.points.xs") == answers["macs"].tolist()
    page.select_option("#y", "*")
    assert page.evaluate("explorer.scatter.draw()") == 4 * 230
    # What is drawn is seen: the points' colour is in the pixels at their places.
    page.select_option("#y", "mini-seg/mIoU")
    page.select_option("#colour", "")
    shown = page.evaluate(
        """() => {
            const s = explorer.scatter; s.draw();
            const { data, width } = s.picture(s.canvas.width, s.canvas.height, 1).image;
            const at = (k) => 4 * (Math.round(s.py[k]) * width + Math.round(s.px[k]));
            return explorer.app.points.rows.map((_, k) => Array.from(data.subarray(at(k), at(k) + 3)));
        }"""
    )
    red, _, blue = np.array(shown).T.astype(int)
    assert (blue > red + 60).all()  # the one colour is a blue; the ground and the grid are grey


def test_predictions_and_costs_are_pythons(show: Open, mini: Path, bench: Benchmark) -> None:
    codes = space.sample(200, seed=5)
    page = show(mini)
    found = page.evaluate("(c) => c.map((x) => [explorer.costs(x), explorer.predict(x)])", codes.tolist())
    assert [costs["macs"] for costs, _ in found] == cost.macs(codes).tolist()
    assert [costs["params"] for costs, _ in found] == cost.params(codes).tolist()
    for task in bench.tasks:
        surrogate = bench.surrogate(task)
        assert surrogate is not None
        mean, std = surrogate.predict(codes)
        for j, metric in enumerate(surrogate.names):
            said = [predicted[f"{task}/{metric}"] for _, predicted in found]
            np.testing.assert_allclose([each["mean"] for each in said], mean[:, j], rtol=0, atol=1e-4)
            np.testing.assert_allclose([each["std"] for each in said], std[:, j], rtol=0, atol=1e-4)
    distances = page.evaluate(
        "(codes) => codes.map((code) => explorer.table.space.distance(code))", codes.tolist()
    )
    assert distances == surrogate.distance(codes).tolist()


def test_front_is_pareto(show: Open, mini: Path, bench: Benchmark) -> None:
    page = show(mini)
    page.select_option("#y", "mini-seg/mIoU")
    front = page.evaluate(
        "explorer.app.fronts[0].map((k) => explorer.table.space.code(explorer.app.points.rows[k]))"
    )
    assert list(map(tuple, front)) == bench.pareto("mini-seg")["code"].tolist()


def test_click_selects_and_pointing_tells(show: Open, mini: Path, bench: Benchmark) -> None:
    page = show(mini)
    page.select_option("#y", "mini-seg/mIoU")
    page.evaluate("explorer.app.flush()")
    code = bench.best("mini-seg", k=1)[0].code
    k = page.evaluate(
        "(code) => explorer.app.points.rows.indexOf(explorer.table.space.row(code))", list(code)
    )
    x, y = page.evaluate(PLACE, k)
    page.mouse.move(x, y)
    best = bench.query(code, "mini-seg")
    assert f"{best['mIoU']:.2f} %" in page.inner_text(".tip")
    page.mouse.click(x, y)
    settled(page)
    assert page.evaluate("explorer.state.code") == list(code)
    assert page.input_value("#code-text") == space.to_string(code)
    assert page.inner_text("#macs") == f"{best['macs']:,}"
    rows = page.inner_text("#results")
    seeds = len(best.seeds)
    assert f"table, {seeds} seed{'s' * (seeds > 1)}" in rows
    if seeds > 1:
        assert f"{best['mIoU']:.2f} ± {best.std['mIoU']:.2f}" in rows
    assert "stage 1" in page.get_attribute("#drawing svg", "aria-label")


def test_std_and_seeds_are_the_tables(show: Open, mini: Path, bench: Benchmark) -> None:
    repeated = next(
        c for c in map(tuple, bench.codes("mini-cls").tolist()) if len(bench.query(c, "mini-cls").seeds) > 1
    )
    result = bench.query(repeated, "mini-cls")
    page = show(mini, at=f"#code={','.join(map(str, repeated))}")
    row = page.inner_text("#results tr:first-child")
    assert f"{result['top1']:.2f} ± {result.std['top1']:.2f}" in row
    assert f"table, {len(result.seeds)} seeds" in row


def test_brush_and_axes_and_top_select_together(show: Open, mini: Path, bench: Benchmark) -> None:
    page = show(mini)
    page.select_option("#y", "mini-seg/mIoU")
    page.evaluate("explorer.app.flush()")
    box = page.locator("#scatter").bounding_box()
    page.mouse.move(box["x"] + 120, box["y"] + 120)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 300, steps=4)
    page.mouse.up()
    settled(page)
    span = page.evaluate("explorer.state.brush")
    codes = bench.codes("mini-seg")
    of = {name: bench.query_many(codes, f"mini-{name}") for name in ("seg", "video")}
    inside = (of["seg"]["macs"] >= span["x"][0]) & (of["seg"]["macs"] <= span["x"][1])
    inside &= (of["seg"]["mIoU"] >= span["y"][0]) & (of["seg"]["mIoU"] <= span["y"][1])
    assert 0 < inside.sum() < 230
    assert selected(page) == set(map(tuple, codes[inside].tolist()))
    assert page.inner_text("#count") == f"{inside.sum()} of 230 networks selected"
    assert f"of {-(-inside.sum() // 12)}" in page.inner_text("#page")  # the table follows, 12 rows a page
    # An axis of the parallel coordinates, by the keyboard: its lower handle up by five steps of 2%.
    handle = page.locator('[data-handle="mini-video/top1 least"]')
    handle.focus()
    for _ in range(5):
        page.keyboard.press("ArrowUp")
        settled(page)
    low, high = page.evaluate("explorer.state.ranges['mini-video/top1']")
    both = inside & (of["video"]["top1"] >= low) & (of["video"]["top1"] <= high)
    assert selected(page) == set(map(tuple, codes[both].tolist()))
    assert 0 < both.sum() <= inside.sum()
    page.click("#clear")
    settled(page)
    page.fill("#top", "10")
    settled(page)
    best = {result.code for result in bench.best("mini-seg", k=23)}
    assert selected(page) == best  # the best tenth of 230
    page.click("#clear")
    settled(page)
    assert page.locator("#count").inner_text() == "230 points"


def test_sliders_change_costs_and_predictions(show: Open, mini: Path, bench: Benchmark) -> None:
    page = show(mini, at="#code=8,8")  # half a code is none
    assert page.locator("#controls input[type=range]").count() == 27
    code = list(page.evaluate("explorer.state.code"))
    slider = page.locator("#dim-c4_4")
    slider.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    settled(page)
    code[space.NAMES.index("c4_4")] = 16
    assert page.evaluate("explorer.state.code") == code
    assert page.inner_text("#macs") == f"{cost.macs([code])[0]:,}"
    assert page.inner_text("#params") == f"{cost.params([code])[0]:,}"
    surrogate = bench.surrogate("mini-cls")
    assert surrogate is not None
    mean, std = surrogate.predict([code])
    assert f"{mean[0, 0]:.2f} ± {std[0, 0]:.2f}" in page.inner_text("#results tr:first-child")
    assert page.inner_text("#distance").startswith(f"{surrogate.distance([code])[0]:.0f} ")
    near = page.locator("#neighbours tr")
    assert near.count() == 10
    steps = (np.abs(bench.codes("mini-cls") - code) // space.STEP).sum(axis=1)
    said = [int(text) for text in page.locator("#neighbours tr td:first-child").all_inner_texts()]
    assert said == sorted(steps.tolist())[:10]


def test_frames_paint_only_what_changed(show: Open, mini: Path) -> None:
    """What keeps hovering and brushing within a frame: layers that stay."""
    page = show(mini)
    page.select_option("#y", "*")
    settled(page)
    painted = "({ ...explorer.scatter.painted, ...explorer.parallel.drawn })"
    start = page.evaluate(painted)
    for k in (3, 200, 500):
        page.mouse.move(*page.evaluate(PLACE, k))
        assert page.evaluate("explorer.scatter.hovered") >= 0
    assert page.evaluate(painted) == start  # a hover paints no point and no line
    box = page.locator("#scatter").bounding_box()
    page.mouse.move(box["x"] + 80, box["y"] + 60)
    page.mouse.down()
    counts = []
    for k in range(1, 5):
        page.mouse.move(box["x"] + 80 + 80 * k, box["y"] + 60 + 70 * k)
        settled(page)
        counts.append(page.evaluate("explorer.app.mask.reduce((a, b) => a + b, 0)"))
    page.mouse.up()
    settled(page)
    assert counts == sorted(counts)  # the linked views follow while the brush is dragged
    assert counts[0] < counts[-1]
    after = page.evaluate(painted)
    # One ground more, with the points that are not selected; the faint lines stay as they are.
    assert after["ground"] == start["ground"] + 1
    assert after["all"] == start["all"]
    assert after["points"] > start["points"]
    assert after["selected"] > start["selected"]
    # Redrawn from nothing, the picture is the same.
    pixels = "explorer.scatter.canvas.toDataURL()"
    dragged = page.evaluate(pixels)
    page.evaluate("explorer.scatter.draw()")
    assert page.evaluate(pixels) == dragged


def test_lines_come_a_few_a_frame(show: Open, bench: Benchmark, tmp_path: Path) -> None:
    """2,000 networks: a frame paints lines for two milliseconds, and all are painted in the end."""
    codes = np.unique(space.sample(2000, seed=0), axis=0)
    task = tasks.get("seg")
    columns = dict.fromkeys(("mIoU", "mAcc", "aAcc"), codes[:, 0] / 2)
    columns |= {"codes": codes, "macs": cost.macs(codes), "params": cost.params(codes)}
    made = release.create(
        lambda folder: table.write(folder / "tables/seg.parquet", task, columns),
        "many",
        "1.0.0",
        [task],
        about=None,
        target=tmp_path / "release",
    )
    page = show(explorer.write(nasbench_mr.load(made.path), tmp_path / "page.html"))
    until(page, "explorer.parallel.left === 0")
    # A clock that advances by a millisecond each time it is read, which is after each 20 lines.
    page.evaluate("let now = 0; performance.now = () => now++")
    left = page.evaluate("explorer.app.set({ top: 60 }), explorer.app.flush(), explorer.parallel.left")
    assert left == 1200 - 20
    until(page, "explorer.parallel.left === 0")
    # Painted at once, the picture is the same.
    pixels = "explorer.parallel.canvas.toDataURL()"
    slowly = page.evaluate(pixels)
    page.evaluate("performance.now = () => 0; explorer.parallel.drawSelected()")
    assert page.evaluate("explorer.parallel.left") == 0
    assert page.evaluate(pixels) == slowly


def test_link_shows_the_same(show: Open, mini: Path) -> None:
    page = show(mini)
    page.select_option("#y", "mini-seg/mAcc")
    page.select_option("#x", "params")
    page.select_option("#colour", "best")
    page.evaluate(
        """explorer.app.set({ top: 40, log: false, axes: "all", goals: ["mini-seg"], limit: 1.5e9,
            brush: { x: [1e6, 5e6], y: [20, 40] }, zoom: { x: [1e6, 5e6], y: [20, 40] },
            ranges: { "mini-video/top1": [50, 90.25] }, theme: "dark",
            code: explorer.state.code.with(0, 24).with(26, 40) })"""
    )
    settled(page)
    state, address = page.evaluate("explorer.state"), page.url
    other = show(mini, at="#" + address.partition("#")[2])
    assert other.evaluate("explorer.state") == state
    assert other.input_value("#y") == "mini-seg/mAcc"
    assert other.evaluate("document.documentElement.dataset.theme") == "dark"
    # The same in a page that is open: its address changes.
    page.evaluate("location.hash = '#y=mini-video/top1'")
    settled(page)
    assert page.input_value("#y") == "mini-video/top1"
    assert page.evaluate("explorer.state.brush") is None


@pytest.mark.parametrize(
    "at", ["#y=nothing&x=&c=%3Cb%3E&top=-3&brush=1,2&span=a:b&code=1,2&goals=,&limit=x&space=9&zoom=2,1,0,0"]
)
def test_nonsense_in_a_link_is_left_out(show: Open, mini: Path, at: str) -> None:
    page = show(mini, at=at)
    assert page.evaluate("explorer.state") == show(mini).evaluate("explorer.state")


def test_keyboard_follows_the_front(show: Open, mini: Path, bench: Benchmark) -> None:
    page = show(mini)
    page.select_option("#y", "mini-seg/mIoU")
    front = bench.pareto("mini-seg")
    page.focus("#scatter")
    page.keyboard.press("Home")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    said = page.get_attribute("#scatter", "aria-valuetext")
    assert said.startswith(f"3 of {len(front)}: ")
    assert f"{front['mini-seg'][2]:.2f} %" in said
    page.keyboard.press("Enter")
    settled(page)
    assert tuple(page.evaluate("explorer.state.code")) == front["code"][2]
    page.keyboard.press("End")
    assert page.get_attribute("#scatter", "aria-valuenow") == str(len(front))


def test_tab_reaches_everything(show: Open, mini: Path) -> None:
    page = show(mini)
    seen = []
    for _ in range(90):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("document.activeElement.id || document.activeElement.dataset?.handle || ''")
        )
    order = [
        name
        for name in ("theme", "y", "x", "colour", "top", "scatter", "png", "code-text", "dim-i1", "limit")
        if name in seen
    ]
    assert order == ["theme", "y", "x", "colour", "top", "scatter", "png", "code-text", "dim-i1", "limit"]
    assert [seen.index(name) for name in order] == sorted(seen.index(name) for name in order)


def test_table_mirrors_the_plot(show: Open, mini: Path, bench: Benchmark) -> None:
    page = show(mini)
    page.select_option("#y", "mini-seg/mIoU")
    settled(page)
    best = bench.best("mini-seg", k=24)
    page.click("#next")
    cells = page.locator("#mirror tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [...row.cells].map((c) => c.textContent))"
    )
    assert [row[1] for row in cells] == [f"{r['mIoU']:.2f}" for r in best[12:]]
    assert [row[2] for row in cells] == [f"{r['macs']:,}" for r in best[12:]]
    page.locator("#mirror tbody button").first.click()
    settled(page)
    assert page.input_value("#code-text") == cells[0][0] == space.to_string(best[12].code)


def test_climb_finds_better_networks_within_the_limit(show: Open, mini: Path, bench: Benchmark) -> None:
    code = space.sample(1, seed=3)[0].tolist()
    page = show(mini, at=f"#code={','.join(map(str, code))}&goals=mini-seg,mini-video&limit=400000000")
    # The gradient is that of the score: against differences of a prediction of points between codes.
    wrong = page.evaluate(
        """(code) => {
            const surrogates = explorer.table.surrogates;
            const slopes = new Map([["mini-seg/mIoU", { mean: 1, std: -1 }]]);
            const expected = (x) => surrogates.predict(x).get("mini-seg/mIoU");
            const value = (x) => expected(x).mean - expected(x).std;
            const gradient = surrogates.gradient(code, slopes);
            return code.map((_, k) => {
                const width = explorer.table.space.step[k] * 0.02;
                const rise = value(code.with(k, code[k] + width)) - value(code.with(k, code[k] - width));
                return Math.abs(rise / (2 * width) - gradient[k]) / (Math.abs(gradient[k]) + 0.02);
            });
        }""",
        [32 if c > 4 else 2 for c in code],
    )
    assert max(wrong) < 0.02
    before = page.evaluate("(code) => explorer.predict(code)", code)
    page.click("#climb-run")
    until(page, "explorer.ncp.running === false")
    settled(page)
    found = page.evaluate("explorer.state.code")
    assert cost.macs([found])[0] <= 4e8
    after = page.evaluate("(code) => explorer.predict(code)", found)
    assert cost.macs([code])[0] > 4e8  # it had to give up most of its cost
    assert "Predicted: mini-seg" in page.inner_text("#climb-result")
    # As good as what Python's tables hold within the limit, by the same surrogates.
    for task, metric in (("mini-seg", "mIoU"), ("mini-video", "top1")):
        surrogate = bench.surrogate(task)
        assert surrogate is not None
        within = bench.codes(task)[cost.macs(bench.codes(task)) <= 4e8]
        column = surrogate.names.index(metric)
        assert after[f"{task}/{metric}"]["mean"] > np.quantile(surrogate.predict(within)[0][:, column], 0.9)
    assert before.keys() == after.keys()


def test_a_search_is_played(show: Open, bench: Benchmark, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = np.stack([space.mutate(space.sample(30, seed=0), rng) for _ in range(5)])
    score = rng.random((5, 30))
    best = tuple(space.sample(1, seed=9)[0].tolist())
    climb = explorer.Climb(codes, score, best, ("mini-seg", "mini-video"), 2e9)
    page = show(explorer.write(bench, tmp_path / "page.html", climb=climb))
    assert page.evaluate("explorer.state.code") == list(best)
    assert page.input_value("#y") == "mini-seg/mIoU"
    assert page.input_value("#limit") == "2"
    ended_best = np.argsort(-score[-1], kind="stable")[: explorer.Climb.PATHS]
    page.fill("#play-at", "3")
    assert page.locator("[data-layer=climb] circle").count() == len(ended_best) == 24
    place = page.evaluate("Array.from({ length: 24 }, (_, path) => explorer.ncp.played.code(3, path))")
    assert place == codes[3, ended_best].tolist()
    page.click("#play")
    until(page, "explorer.ncp.at === 4 && !explorer.ncp.playing")
    settled(page)
    assert page.evaluate("explorer.state.code") == list(best)


def test_a_search_of_the_command_line_is_played(
    show: Open, bench: Benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`search --explore`: the page plays the very steps that the search took, and ends at what it printed."""
    path = tmp_path / "played.html"
    quick = ["--release", "mini", "--max-macs", "1e9", "--starts", "8", "--steps", "5"]
    assert cli.main(["search", "mini-seg", *quick, "--explore", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"{path} plays the search" in said
    best = space.parse(said.splitlines()[0])
    found = search.ncp(bench, "mini-seg", max_macs=1e9, starts=8, steps=5)
    assert found.best == best
    page = show(path)
    assert page.evaluate("explorer.ncp.played.steps") == len(found.trajectory.codes) == 6
    ended_best = np.argsort(-found.trajectory.score[-1], kind="stable")
    for step in range(6):
        page.fill("#play-at", str(step))
        shown = page.evaluate(
            "Array.from({ length: 8 }, (_, k) => explorer.ncp.played.code(explorer.ncp.at, k))"
        )
        assert shown == found.trajectory.codes[step, ended_best].tolist()
    page.click("#play")
    until(page, "explorer.ncp.at === 5 && !explorer.ncp.playing")
    settled(page)
    assert tuple(page.evaluate("explorer.state.code")) == best
    assert "at most 1G MACs" in page.inner_text("#climb")


def test_what_is_copied_runs(show: Open, mini: Path, bench: Benchmark, tmp_path: Path) -> None:
    code = bench.best("mini-seg", k=1)[0].code
    page = show(mini, at=f"#y=mini-seg/mIoU&code={','.join(map(str, code))}")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copied = {}
    for what in ("code", "python", "command", "link"):
        page.click(f"#copy-{what}")
        page.wait_for_selector("#toast:not([hidden])")
        copied[what] = page.evaluate("navigator.clipboard.readText()")
    assert space.parse(copied["code"]) == code
    scope: dict[str, Any] = {}
    exec(copied["python"], scope)
    assert scope["result"] == bench.query(code, "mini-seg")
    assert copied["link"] == page.url
    assert "code=" in copied["link"]
    assert copied["command"] == f"nasbench-mr query '{space.to_string(code)}' --release {bench.release}"


def test_pictures(show: Open, mini: Path) -> None:
    page = show(mini)
    with page.expect_download() as waiting:
        page.click("#svg")
    root = ElementTree.fromstring(Path(waiting.value.path()).read_text("utf-8"))
    groups = [g for g in root.iter("{http://www.w3.org/2000/svg}g") if g.get("class") == "points"]
    assert sum(len(group) for group in groups) == 230
    assert "MACs" in "".join(root.itertext())
    with page.expect_download() as waiting:
        page.click("#png")
    box = page.locator("#scatter").bounding_box()
    image = Image.open(io.BytesIO(Path(waiting.value.path()).read_bytes()))
    assert image.size == (2 * round(box["width"]), 2 * round(box["height"]))
    assert len(image.convert("RGB").getcolors(1 << 20)) > 50
    assert waiting.value.suggested_filename == "nasbench-mr-mini-cls-top1.png"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_accessible_and_fits(show: Open, mini: Path, width: int, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe: pip install axe-playwright-python"
    )
    page = show(mini, width, 800, scheme=scheme)
    found = axe.Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"][:120]) for each in serious] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.dataset.theme") == scheme


HOSTILE = '</script><script>document.title="taken"</script>"\'<img src=x onerror=alert(1)>&amp;'


def test_hostile_texts_are_only_texts(show: Open, tmp_path: Path) -> None:
    metric = tasks.Metric(f"m{HOSTILE}", unit=HOSTILE, description=HOSTILE)
    task = tasks.Task(
        "evil", HOSTILE, HOSTILE, "classification", (metric,), metric.name, provenance=HOSTILE, recipe=HOSTILE
    )
    codes = space.sample(12, seed=0)
    columns = {
        "codes": codes,
        metric.name: np.arange(12.0),
        "macs": cost.macs(codes),
        "params": cost.params(codes),
    }
    made = release.create(
        lambda folder: table.write(folder / "tables/evil.parquet", task, columns),
        "evil",
        "1.0.0",
        [task],
        about={"title": HOSTILE, "license": HOSTILE, "citation": HOSTILE},
        target=tmp_path / "release",
    )
    path = explorer.write(nasbench_mr.load(made.path), tmp_path / "page.html")
    assert HOSTILE not in path.read_text("utf-8")
    page = show(path)
    assert page.title() == "evil@1.0.0 · nasbench-mr explorer"
    assert page.locator("img").count() == 0
    assert HOSTILE in page.inner_text("#about")
    assert page.evaluate("explorer.scatter.draw()") == 12
    assert page.input_value("#y") == f"evil/{metric.name}"
    assert "nasbench-mr surrogate fit evil" in page.inner_text("#no-surrogates")
    policy = page.get_attribute("meta[http-equiv]", "content")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_another_space(show: Open, tmp_path: Path) -> None:
    """Codes of NAS-Bench-201 beside the 27 integers: a plot and fields of their own, without a drawing."""
    from nasbench_mr import nasbench201

    cells = nasbench201.sample(40, seed=0)
    cells = np.unique(cells, axis=0)
    cell_task = tasks.get("nas-bench-201")
    codes = space.sample(15, seed=0)
    n = len(cells)

    def fill(folder: Path) -> None:
        seg = {
            "codes": codes,
            "mIoU": codes[:, 0] / 2,
            "macs": cost.macs(codes),
            "params": cost.params(codes),
        }
        seg |= {"mAcc": seg["mIoU"], "aAcc": seg["mIoU"]}
        table.write(folder / "tables/seg.parquet", tasks.get("seg"), seg)
        acc = {
            "codes": cells,
            "Acc": np.arange(n) / 2,
            "macs": nasbench201.macs(cells),
            "params": nasbench201.params(cells),
        }
        table.write(folder / "tables/nas-bench-201.parquet", cell_task, acc)

    made = release.create(
        fill, "two", "1.0.0", [tasks.get("seg"), cell_task], about=None, target=tmp_path / "release"
    )
    page = show(explorer.write(nasbench_mr.load(made.path), tmp_path / "page.html"))
    assert page.evaluate("explorer.scatter.draw()") == 15
    page.select_option("#space", "1")
    settled(page)
    assert page.evaluate("explorer.scatter.draw()") == n
    assert page.locator("#controls select").count() == 6
    assert page.locator("#controls input").count() == 0
    assert not page.is_visible("#drawing")
    text = page.input_value("#code-text")
    assert nasbench201.parse(text) == tuple(cells[-1])
    assert page.inner_text("#macs") == f"{nasbench201.macs(cells[-1])[0]:,}"
    other = nasbench201.to_string(cells[3])
    page.fill("#code-text", other)
    page.keyboard.press("Enter")
    settled(page)
    assert tuple(page.evaluate("explorer.state.code")) == tuple(cells[3])
    page.fill("#code-text", "|nonsense|")
    page.keyboard.press("Enter")
    assert "Expected 6 integers" in page.inner_text("#code-wrong")


def test_a_space_of_ones_own(show: Open, tmp_path: Path) -> None:
    """Two dimensions with an order and a choice: what is tabulated, and a code beside it."""
    (tmp_path / "space.toml").write_text(
        'name = "chain"\n[dimensions]\nw1 = [16, 32, 64]\nrate = [0.1, 0.25]\nact = ["relu", "gelu"]\n'
        '[costs]\nmacs = "w1 * 100"\nparams = "w1"\n'
    )
    rows = [(16, 0.1, "relu", 50.0), (32, 0.1, "gelu", 60.0), (64, 0.25, "relu", 70.0)]
    lines = ["w1,rate,act,score", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    asked = [
        "--space",
        tmp_path / "space.toml",
        "--task",
        "chain",
        tmp_path / "rows.csv",
        "--maximize",
        "score",
    ]
    assert cli.main(["import", *map(str, asked)]) == 0
    page = show(explorer.write(nasbench_mr.load(), tmp_path / "page.html", tasks=("chain",)))
    # It begins with the best.
    assert page.input_value("#code-text") == "w1=64,rate=0.25,act=relu"
    assert page.locator("#controls .slider").all_inner_texts() == ["w1\n64", "rate\n0.25", "act\nrelu\ngelu"]
    assert (page.inner_text("#macs"), page.inner_text("#distance")) == ("6,400", "itself")
    page.fill("#dim-w1", "1")
    page.select_option("#dim-act", label="gelu")
    settled(page)
    assert page.input_value("#code-text") == "w1=32,rate=0.25,act=gelu"
    assert page.get_attribute("#dim-w1", "aria-valuetext") == "32"
    assert (page.inner_text("#macs"), page.inner_text("#distance")) == ("unknown", "1 step")
    page.fill("#dim-rate", "0")
    settled(page)
    assert page.inner_text("#distance") == "itself"
    assert "60.00" in page.inner_text("#results")


def test_published_page_is_small(
    show: Open, published_release: Path | None, tmp_path: Path, mini: Path
) -> None:
    """The page of the published tables; without ../shared that of "mini" alone, and fewer points."""
    assert mini.stat().st_size < 1_500_000
    if published_release is None:
        pytest.skip("the published tables are not beside this checkout (../shared)")
    bench = nasbench_mr.load(published_release)
    path = explorer.write(bench, tmp_path / "page.html", [t for t in bench.tasks if t != "nas-bench-201"])
    assert path.stat().st_size < 700_000  # surrogates add about 700 kB
    page = show(path, at="#y=*&c=task")
    count = page.evaluate("explorer.scatter.draw()")
    assert count == sum(len(bench.codes(t)) for t in bench.tasks if t != "nas-bench-201")


def test_picture_of_the_documents(show: Open, mini: Path, tmp_path: Path) -> None:
    """The picture in docs/explorer.md; with $EXPLORER_PICTURE it is written there."""
    address = "#y=mini-seg/mIoU&c=mini-video/top1&span=mini-seg/mIoU:32~100&code="
    address += "24,32,2,2,40,2,2,1,56,32,1,2,1,1,40,56,64,2,1,2,2,1,32,40,64,96,64"
    page = show(mini, 1280, 1110, at=address)
    target = Path(os.environ.get("EXPLORER_PICTURE") or tmp_path / "explorer.png")
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        target, optimize=True
    )
    assert 20_000 < target.stat().st_size < 200_000


# --- A space of one's own ---------------------------------------------------------------------------------

CHAIN = """name = "chain"
[dimensions]
w1 = [16, 32, 48, 64]
w2 = [16, 32, 48, 64]
act = ["relu", "gelu"]

[costs]
macs = "w1 * w2 * 10 + w1"
params = "w1 * w2"
"""


@pytest.fixture
def chain(tmp_path: Path) -> Benchmark:
    """Three tasks of 16, 20 and 16 codes with small values; the third has costs of its own."""
    (tmp_path / "chain.toml").write_text(CHAIN)
    codes = np.array([(a, b, c) for a in range(4) for b in range(4) for c in range(2)])
    grid = Grid.read(tmp_path / "chain.toml")
    for name, rows in (("chain-a", codes[:16]), ("chain-b", codes[8:28]), ("chain-c", codes[:16])):
        frame = pd.DataFrame([grid.named(code) for code in rows])
        frame["mse"] = [0.001 + 0.0001 * (sum(code) % 7) for code in rows.tolist()]
        if name == "chain-c":
            frame["macs"] = 16_000_000
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        published.import_table(
            tmp_path / f"{name}.csv",
            name,
            own_space=tmp_path / "chain.toml",
            minimize=["mse"],
            trust_costs=name == "chain-c",
        )
    return nasbench_mr.load("local")


def test_every_task_of_ones_own_space_has_its_codes_and_costs(
    show: Open, chain: Benchmark, tmp_path: Path
) -> None:
    for order in (["chain-a", "chain-b", "chain-c"], ["chain-c", "chain-b"]):
        page = show(explorer.write(chain, tmp_path / "page.html", order))
        for task in order:
            page.select_option("#y", f"{task}/mse")
            drawn = page.evaluate("explorer.app.points.rows.map((r) => explorer.table.space.code(r))")
            assert sorted(drawn) == sorted(chain.codes(task).tolist())
            exact = dict(zip(map(tuple, chain.codes(task).tolist()), chain.costs_of(task), strict=True))
            assert page.evaluate("explorer.app.points.xs") == [exact[tuple(code)] for code in drawn]


def test_a_link_remembers_the_network_of_ones_own_space(show: Open, chain: Benchmark, tmp_path: Path) -> None:
    path = explorer.write(chain, tmp_path / "page.html")
    page = show(path)
    page.fill("#code-text", "w1=16,w2=32,act=gelu")
    page.press("#code-text", "Enter")
    settled(page)
    assert page.evaluate("explorer.state.code") == [0, 1, 1]
    at = page.evaluate("location.hash")
    assert "code=" in at
    again = show(path, at=at)
    assert again.input_value("#code-text") == "w1=16,w2=32,act=gelu"
    # Small values keep their digits: (0 + 1 + 1) % 7 = 2.
    assert "0.0012" in again.inner_text("#results")


def test_code_to_copy_names_the_release_of_the_task(show: Open, chain: Benchmark, tmp_path: Path) -> None:
    page = show(explorer.write(nasbench_mr.load(), tmp_path / "page.html", ["mini-seg", "chain-a"]))
    release = str(chain.release_of("chain-a"))
    for space_number, task, name in ((0, "mini-seg", "mini@1.1.0"), (1, "chain-a", release)):
        page.evaluate(f"explorer.state.space = {space_number}; location.hash = '#space={space_number}'")
        until(page, f"explorer.table.tasks[0].name === {task!r}")
        assert page.evaluate("explorer.table.tasks[0].release") == name
