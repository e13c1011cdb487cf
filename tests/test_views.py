"""A release's plots draw what its tables say."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import cli, cost, plot, release, space, table, tasks, views
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.errors import InvalidArgumentError, TableError, UnknownTaskError


@pytest.fixture(scope="module")
def bench() -> Benchmark:
    return nasbench_mr.load("mini")


def test_scatter_draws_every_code_and_the_front(bench: Benchmark) -> None:
    drawn = views.scatter(bench, ("mini-seg", "mini-video"))
    assert len(drawn.axes) == 2
    points = drawn.axes[0].collections[0].get_offsets()
    assert len(points) == len(bench.codes("mini-seg"))
    front = bench.pareto("mini-seg")
    assert drawn.axes[0].lines[0].get_ydata().tolist() == front["mini-seg"].tolist()
    assert drawn.legends


def test_dots_and_front_lie_at_the_same_macs_where_a_task_has_its_own(tmp_path: Path) -> None:
    codes = space.sample(20, seed=0)
    own = dataclasses.replace(tasks.get("seg"), name="mine", cost="table")
    exact = cost.macs(codes)
    columns = {"codes": codes, "mIoU": np.arange(20.0), "macs": exact * 3, "params": cost.params(codes)}

    def fill(folder: Path) -> None:
        table.write(folder / "tables/mine.parquet", own, columns)

    bench = Benchmark(release.create(fill, "small", "1.0.0", [own], target=tmp_path / "small"))
    assert bench.costs_of("mine").tolist() == exact.tolist()
    assert bench.query(codes[0], "mine")["macs"] == 3 * exact[0]
    with pytest.raises(InvalidArgumentError, match="cost is 'flops'; expected 'macs' or 'params'"):
        bench.costs_of("mine", "flops")
    panel = views.scatter(bench).axes[0]
    dots = {tuple(dot) for dot in panel.collections[0].get_offsets().tolist()}
    front = set(zip(*(each.tolist() for each in panel.lines[0].get_data()), strict=True))
    assert front <= dots
    assert {x for x, _ in dots} == set((exact / 1e9).tolist())


def test_correlation_writes_the_numbers(bench: Benchmark) -> None:
    drawn = views.correlation(bench)
    tau = bench.correlation()
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert texts == [f"{value:.2f}" for value in tau.to_numpy().ravel()]


def test_curves_end_with_the_best_and_the_worst_code(bench: Benchmark) -> None:
    drawn = views.curves(bench, ["mini-cls"])
    ends = sorted(line.get_ydata()[-1] for line in drawn.axes[0].lines)
    values = bench.query_many(bench.codes("mini-cls"), "mini-cls", metrics=("top1",))["top1"]
    assert (ends[0], ends[-1]) == pytest.approx((values.min(), values.max()))


def test_there_are_no_curves_where_no_trial_ended_well(tmp_path: Path) -> None:
    codes, seg = space.sample(1, seed=0), tasks.get("seg")
    rows = {"codes": codes, "mIoU": [None], "status": ["diverged"]}
    rows |= {"macs": cost.macs(codes), "params": cost.params(codes)}
    points = {"codes": codes, "seed": [0], "epoch": [1], "mIoU": [2.0]}

    def fill(folder: Path) -> None:
        table.write(folder / "tables/seg.parquet", seg, rows)
        table.write_curves(folder / "curves/seg.parquet", seg, points)

    bench = Benchmark(release.create(fill, "small", "1.0.0", [seg], target=tmp_path / "small"))
    with pytest.raises(TableError, match="no trial of seg that ended well has a learning curve"):
        views.curves(bench)


def test_a_plot_needs_no_latex(tmp_path: Path) -> None:
    """Where a user's own settings ask for it."""
    with matplotlib.rc_context({"text.usetex": True}):
        drawn = plot.figure()
        drawn.add_subplot().set_title("100 % _ $")
        assert plot.save(drawn, tmp_path / "x.svg").stat().st_size
        assert matplotlib.rcParams["text.usetex"]


def test_curves_are_of_trials_that_ended_well_and_reached_the_end(tmp_path: Path) -> None:
    """Code k ends at 40 + k; another stopped early, at 60; a third diverged."""
    codes, seg = space.sample(7, seed=0), tasks.get("seg")
    rows = {
        "codes": codes,
        "seed": [0] * 7,
        "mIoU": [*(40.0 + k for k in range(5)), 60.0, 2.0],
        "status": ["ok"] * 6 + ["diverged"],
    }
    rows |= {"macs": cost.macs(codes), "params": cost.params(codes)}
    epochs = [(1, 20.0), (2, 30.0)]
    points = [(k, e, v) for k in range(7) for e, v in epochs] + [(k, 3, 40.0 + k) for k in range(5)]
    curves = {
        "codes": codes[[k for k, _, _ in points]],
        "seed": [0] * len(points),
        "epoch": [e for _, e, _ in points],
        "mIoU": [v for _, _, v in points],
    }

    def fill(folder: Path) -> None:
        table.write(folder / "tables/seg.parquet", seg, rows)
        table.write_curves(folder / "curves/seg.parquet", seg, curves)

    bench = Benchmark(release.create(fill, "small", "1.0.0", [seg], target=tmp_path / "small"))
    drawn = views.curves(bench)
    assert [line.get_ydata()[-1] for line in drawn.axes[0].lines] == [40.0, 41.0, 42.0, 43.0, 44.0]


def test_noise_draws_both_spreads(bench: Benchmark) -> None:
    drawn = views.noise(bench)
    widths = sorted(bar.get_width() for bar in drawn.axes[0].patches)
    frame = bench.noise()
    assert widths == pytest.approx(sorted(np.concatenate([frame["between"], frame["within"]])))


def test_noise_needs_two_seeds_of_a_code(tiny_release: Path) -> None:
    with pytest.raises(TableError, match="no code of video has two seeds; noise needs repeated trials"):
        views.noise(nasbench_mr.load(tiny_release), ["video"])


@pytest.mark.parametrize("kind", views.KINDS)
def test_a_release_without_tasks_is_refused(kind: str) -> None:
    with pytest.raises(UnknownTaskError, match="no tasks here"):
        views.KINDS[kind](nasbench_mr.load("nasbench-mr-costs"))


def test_a_percentage_is_drawn_on_a_linear_axis(bench: Benchmark) -> None:
    percent = views.scatter(bench, ["mini-det3d"])  # 0.11 to 66.51
    milliseconds = views.scatter(nasbench_mr.load(), ["latency_ms@cpu"])  # 3 to 300
    assert [drawn.axes[0].get_yscale() for drawn in (percent, milliseconds)] == ["linear", "log"]


def test_no_label_of_a_correlation_is_cut(bench: Benchmark) -> None:
    drawn = views.correlation(bench)
    drawn.draw_without_rendering()
    assert all(label.get_window_extent().x0 >= 0 for label in drawn.axes[0].get_yticklabels())


@pytest.mark.parametrize("limits", [(0.01, 1), (0.3, 0.9), (1, 90)])
def test_labels_of_a_logarithmic_axis_are_few_enough(limits: tuple[float, float]) -> None:
    drawn = plot.figure(2, 2)
    panel = drawn.subplots()
    panel.plot(limits, [0, 1])
    plot.log_axis(panel.xaxis)
    drawn.canvas.draw()
    shown = [tick for tick in panel.get_xticks() if panel.get_xlim()[0] <= tick <= panel.get_xlim()[1]]
    assert 2 <= len(shown) <= 8


@pytest.mark.parametrize("kind", views.KINDS)
@pytest.mark.parametrize("ending", ["svg", "pdf"])
def test_the_command(kind: str, ending: str, tmp_path: Path) -> None:
    out = tmp_path / f"x.{ending}"
    assert cli.main(["plot", "mini", "--kind", kind, "--tasks", "mini-seg", "--out", str(out)]) == 0
    assert out.read_bytes()[:5] in (b"%PDF-", b"<?xml")


def test_an_unknown_kind_names_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plot", "mini", "--kind", "scater", "--out", str(tmp_path / "x.svg")]) == 2
    assert "did you mean 'scatter'?" in capsys.readouterr().err


def test_long_titles_of_panels_do_not_overlap() -> None:
    costs = nasbench_mr.load("nasbench-mr-costs")
    drawn = views.scatter(costs, ("latency_ms@cpu", "latency_ms@cpu:onnx", "memory_mb@cpu"))
    drawn.draw_without_rendering()
    boxes = [panel.title.get_window_extent() for panel in drawn.axes]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    assert boxes[0].x0 >= 0
    assert boxes[-1].x1 <= drawn.bbox.width
