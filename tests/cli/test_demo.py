"""`nasbench-mr demo`: what it shows, with and without extras."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import cost, release, search, space, table, tasks
from nasbench_mr.cli.demo import demo_release
from nasbench_mr.data_builders import generate
from nasbench_mr.data_builders.building import runner
from nasbench_mr.data_builders.building.trial import Outcome, Trial
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.extras import requires

Run = Callable[..., tuple[int, str, str]]


def test_demo(run: Run, tiny_release: Path) -> None:
    status, out, err = run("demo", "--release", tiny_release)
    assert (status, err) == (0, "")
    titles = [line for line in out.splitlines() if line.startswith("# ")]
    limit = float(np.sort(cost.macs(space.sample(60, seed=0)))[30])
    assert [title.split(":")[0].split(",")[0] for title in titles] == [
        "# tiny@1.0.0",
        "# One code in every task",
        f"# The best codes for seg with at most {limit / 1e9:.3g} GMACs (the median)",
        "# Do good codes agree? Kendall's tau of the tasks' objectives",
        "# A network for seg and video",
    ]
    found = space.parse(out.split("found by NCP")[1].split()[0])
    assert cost.macs(found)[0] <= limit


def test_demo_trains_what_it_found(run: Run, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:

    codes = space.sample(9, seed=0)
    task = tasks.get(recipes.get("mini-video").task)
    columns = {"codes": codes, "top1": np.arange(9.0), "macs": cost.macs(codes)}
    made = release.create(
        lambda folder: table.write(folder / "tables/mini-video.parquet", task, columns),
        "few",
        "1.0.0",
        [task],
    )
    best = (
        nasbench_mr.load(made.path).best("mini-video", 1, max_macs=float(np.median(cost.macs(codes))))[0].code
    )
    found = SimpleNamespace(best=tuple(codes[0].tolist()), predicted=np.array([[5.0]]), std=np.array([[1.0]]))
    trained: list[tuple[Trial, Path]] = []

    class Builder(contextlib.nullcontext[Any]):
        """Trains nothing; the first code it is given diverges."""

        def __init__(self, recipe: recipes.Recipe, out: str, data: Path):
            super().__init__(self)
            self.data = data
            self.records: dict[Trial, SimpleNamespace] = {}

        def run(self, trials: list[Trial], progress: bool) -> None:
            for trial in trials:
                trained.append((trial, self.data))
                outcome = Outcome(trial, "ok", None, {"top1": 12.5}, seconds=3.0, device="cpu")
                if len(trained) == 1:
                    outcome = Outcome(trial, "diverged", "the loss is nan")
                self.records[trial] = SimpleNamespace(outcome=outcome)

    monkeypatch.setattr(search, "ncp", lambda *args, **options: found)
    monkeypatch.setattr(runner, "Builder", Builder)
    monkeypatch.setattr(generate, "make", lambda name, path, **options: path.mkdir(parents=True))
    said = []
    for _ in range(2):
        status, out, err = run("demo", "--release", made.path)
        assert (status, err) == (0, "")
        said.append([line.split() for line in out.splitlines() if line.strip()])
    assert said[0][-4:] == [
        ["found", "by", "NCP", "the", "loss", "is", "nan"],
        ["code", "top1", "seconds", "device"],
        ["--------------", "-----", "-------", "------"],
        ["best", "tabulated", "12.50", "3.00", "cpu"],
    ]
    assert said[1][-2:] == [
        ["found", "by", "NCP", "12.50", "3.00", "cpu"],
        ["best", "tabulated", "12.50", "3.00", "cpu"],
    ]
    data = home / "cache" / "demo"
    assert (data / "hmdb51").is_dir()
    trials = [Trial(found.best, "mini-video", 100), Trial(best, "mini-video", 100)]
    assert trained == [(trial, data) for trial in trials * 2]


def test_demo_without_extras_shows_what_it_can(
    run: Run, tiny_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def no_torch(*args: object, **options: object) -> None:
        with requires("search", "NCP"):
            raise ModuleNotFoundError("no torch", name="torch")

    monkeypatch.setattr(search, "ncp", no_torch)
    status, out, err = run("demo", "--release", tiny_release)
    assert (status, err) == (0, "")
    assert out.endswith("\nNCP needs 'torch', which is not installed: pip install 'nasbench-mr[search]'\n")


def test_the_demo_takes_the_embedded_release_or_the_installed_tables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(release, "EMBEDDED", tmp_path / "none")
    seg = tasks.get("seg")
    columns = {"codes": space.sample(2), "mIoU": [1.0, 2.0]}
    made = release.create(
        lambda folder: table.write(folder / "tables/seg.parquet", seg, columns), "nasbench-mr", "1.0.0", [seg]
    )
    assert demo_release() == made.path
    embedded = release.create(
        lambda folder: table.write(folder / "tables/seg.parquet", seg, columns),
        "mini", "1.0.0", [seg], target=tmp_path / "embedded",
    )  # fmt: skip
    monkeypatch.setattr(release, "EMBEDDED", embedded.path)
    assert demo_release() == embedded.path
