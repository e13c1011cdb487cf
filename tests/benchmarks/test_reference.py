"""Reference results: exactly what the runs found, and never beside results of another table."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import reference as making

import nasbench_mr
from nasbench_mr import files, release, search
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.cli import main
from nasbench_mr.errors import (
    IntegrityError,
    InvalidArgumentError,
    ReleaseError,
    TableError,
    UnknownTaskError,
)
from nasbench_mr.objective import goals
from nasbench_mr.release import Release
from nasbench_mr.search import Comparison, reference

SEARCHES = ("random", "local", "evolution")


@pytest.fixture(scope="module")
def bench(tiny_release: Path) -> Benchmark:
    return nasbench_mr.load(tiny_release)


@pytest.fixture(scope="module")
def runs(bench: Benchmark) -> list[Comparison]:
    """Return three searches on seg, whose 60 codes are used up before the budget."""
    return [search.compare(bench, "seg", name, budget=300, seeds=6, workers=0) for name in SEARCHES]


@pytest.fixture(scope="module")
def packed(bench: Benchmark, runs: list[Comparison], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reference") / "packed"
    made = making.pack(runs, folder, command="a test")
    release.verify(made)
    assert made.name == release.REFERENCE
    return str(folder)


def test_steps_tell_the_whole_regret(runs: list[Comparison], packed: str) -> None:
    known = reference.load(runs[0].about, packed)
    assert known.searchers == list(SEARCHES)
    for run in runs:
        (name,) = run.searchers
        ours, theirs = known.regret["seg", name], run.regret["seg", name]
        assert ours.shape == (6, 300)
        np.testing.assert_array_equal(ours, theirs)
        rows = known.runs[known.runs["searcher"] == name]
        assert rows["code"].tolist() == run.runs["code"].tolist()
        assert len(known.trace[known.trace["searcher"] == name]) < len(run.trace) / 2


def test_halving_has_no_best_before_its_first_full_training(bench: Benchmark, tmp_path: Path) -> None:
    run = search.compare(bench, "seg", "halving", budget=300, seeds=3, workers=0)
    making.pack([run], tmp_path / "packed", command="a test")
    short = {**run.about, "budget": 5}
    known = reference.load(short, str(tmp_path / "packed"))
    np.testing.assert_array_equal(known.regret["seg", "halving"], run.regret["seg", "halving"][:, :5])
    assert np.isnan(known.regret["seg", "halving"][:, 0]).all()


def test_a_search_is_drawn_beside_them(bench: Benchmark, runs: list[Comparison], packed: str) -> None:
    own = search.compare(bench, "seg", ("local", "evolution:population=5"), budget=20, seeds=3, workers=0)
    found = reference.beside(own, packed)
    # "local" was run, and stays as it was run.
    assert found.searchers == ["local", "evolution:population=5", "random", "evolution"]
    assert found.about["reference"] == ["random", "evolution"]
    assert found.about["release"] == own.about["release"]
    assert len(found.regret["seg", "local"]) == 3
    assert len(found.regret["seg", "random"]) == 6
    assert found.paired == 3
    random = {run.searchers[0]: run for run in runs}["random"].regret["seg", "random"][:, :20]
    np.testing.assert_array_equal(found.regret["seg", "random"], random)
    # Ranks are of seeds 0 to 2, which all have.
    last = np.array([found.regret["seg", name][:3, -1] for name in found.searchers])
    ranks = [[1 + (row < x).sum() + ((row == x).sum() - 1) / 2 for x in row] for row in last.T]
    assert found.ranks().loc["seg"].tolist() == pytest.approx(np.mean(ranks, axis=0).tolist())
    assert found.tests().count == 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"limits": {"macs": 2e9}},
            InvalidArgumentError,
            "limits = {}; this comparison has {'macs': 2000000000",
        ),
        ({"source": "surrogate"}, InvalidArgumentError, "source = 'table'"),
        ({"batch": 4}, InvalidArgumentError, "batch = 1"),
        ({"budget": 301}, InvalidArgumentError, "a budget of 300; this comparison has 301"),
        ({"tasks": ["video"]}, UnknownTaskError, "no results of 'video'"),
        ({"tasks": ["seg+video"]}, UnknownTaskError, r"no results of 'seg\+video'"),
        ({"tables": {"seg": "0" * 64}}, ReleaseError, "this comparison is of 0000000000000000"),
        ({"tables": {}}, ReleaseError, "this comparison is of an unknown one"),
    ],
)
def test_other_comparisons_are_refused(
    change: dict[str, object], error: type[Exception], message: str, runs: list[Comparison], packed: str
) -> None:
    with pytest.raises(error, match=message):
        reference.load({**runs[0].about, **change}, packed)


def test_a_file_of_something_else_is_refused(
    runs: list[Comparison], packed: str, tiny_release: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "altered"
    shutil.copytree(packed, folder)
    shutil.copyfile(tiny_release / "tables" / "seg.parquet", folder / "comparisons" / "seg.parquet")
    with pytest.raises(IntegrityError):
        reference.load(runs[0].about, str(folder))
    with pytest.raises(TableError, match=r"(no reference results|does not say)"):
        reference.read(_resealed(folder), "seg")


def _resealed(folder: Path) -> release.Release:
    """Return a release of the files that are there now, whatever they are."""
    opened = release.Release.open(folder)
    name = "comparisons/seg.parquet"
    opened.files[name]["sha256"] = files.sha256(folder / name)
    return opened


def test_only_whole_comparisons_are_packed(bench: Benchmark, runs: list[Comparison], tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="stands there twice for 'seg'"):
        making.pack([*runs, runs[0]], tmp_path / "twice", command="a test")
    short = search.compare(bench, "seg", "random", budget=9, seeds=1, workers=0)
    with pytest.raises(InvalidArgumentError, match="expected one task, the settings"):
        making.pack([short], tmp_path / "short", command="a test")


def test_results_are_added_to_those_that_are_there(
    bench: Benchmark, runs: list[Comparison], known_release: Path, tmp_path: Path
) -> None:
    earlier = making.pack(runs[:2], tmp_path / "first", command="a test")
    halving = search.compare(bench, "seg", "halving", budget=300, seeds=3, workers=0)
    making.pack([halving], tmp_path / "second", command="a test", version="2.0.0", earlier=earlier)
    known = reference.load(runs[0].about, str(tmp_path / "second"))
    assert known.searchers == ["random", "local", "halving"]
    for run in (runs[0], runs[1], halving):
        np.testing.assert_array_equal(
            known.regret["seg", run.searchers[0]], run.regret["seg", run.searchers[0]]
        )
    # A search that is run again is replaced, not doubled.
    again = search.compare(bench, "seg", "local", budget=300, seeds=4, workers=0)
    twice = making.pack([again], tmp_path / "third", command="a test", earlier=earlier)
    _, told = reference.read(twice, "seg")
    assert told["seeds"] == {"random": 6, "local": 4}
    # Of another table nothing is kept; another task is left as it is.
    other = nasbench_mr.load(known_release)
    seg, video = (
        search.compare(other, t, "random", budget=300, seeds=1, workers=0) for t in ("seg", "video")
    )
    made = making.pack([seg], tmp_path / "other", command="a test", earlier=earlier)
    assert reference.read(made, "seg")[1]["seeds"] == {"random": 1}
    both = making.pack([video], tmp_path / "both", command="another", earlier=made)
    assert reference.tasks(both) == ["seg", "video"]
    (frame, told), (before, said) = reference.read(both, "seg"), reference.read(made, "seg")
    assert told == said
    assert frame.equals(before)
    with pytest.raises(InvalidArgumentError, match=r"\['random'\] ran on another table of 'seg'"):
        making.pack([again, seg], tmp_path / "mixed", command="a test")


def test_nothing_is_packed_where_nothing_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["reference.py", str(tmp_path), "--pack", str(tmp_path / "packed")])
    with pytest.raises(SystemExit):
        making.main()
    assert "has no finished search of mini-cls" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()


# --- What ships ---------------------------------------------------------------------------------------


def test_the_packaged_results_are_of_the_tables_at_hand(published_release: Path | None) -> None:
    opened = release.Release.open(release.find(release.REFERENCE))
    release.verify(opened)
    assert sum(entry["bytes"] for entry in opened.files.values()) < 2e6
    benches = [nasbench_mr.load("mini")]
    if published_release is not None:
        benches.append(nasbench_mr.load(published_release))
    for bench in benches:
        for task in bench.tasks:
            about = {
                "tasks": [task],
                "budget": 300,
                "tables": reference.digests(bench, {task: goals(bench, [task])}),
            }
            known = reference.load(about)
            assert set(SEARCHES) <= set(known.searchers)


def test_the_packaged_results_can_be_run_again() -> None:
    bench = nasbench_mr.load("mini")
    names = (*SEARCHES, "halving")
    again = search.compare(bench, "mini-seg", names, budget=60, seeds=2, workers=0)
    known = reference.load(again.about)
    for name in names:
        ours, theirs = again.regret["mini-seg", name], known.regret["mini-seg", name][:2]
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_commands_draw_and_print_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    run = ["compare", "mini-seg", "--searchers", "local:initial=5", "--budget", "15", "--seeds", "3"]
    assert main([*run, "--out", "out", "--reference", "--workers", "0"]) == 0
    said = capsys.readouterr().out
    assert "random, local, evolution, proxy, halving" in said
    assert "local:initial=5" in said
    # What is kept is what was run.
    assert Comparison.open("out").searchers == ["local:initial=5"]
    assert main(["plot", "out", "--reference", "--out", "beside.png"]) == 0
    assert (tmp_path / "beside.png").stat().st_size > 10_000
    assert main(["plot", "mini", "--reference", "--out", "mini.png"]) == 2
    assert "--reference has no effect here: mini is drawn as a release" in capsys.readouterr().err
    assert main(["compare", "mini-seg", "--budget", "301", "--reference"]) == 2
    assert "a budget of 300" in capsys.readouterr().err


def test_the_shipped_results_say_what_they_depend_on() -> None:
    shipped = Release.open(release.find(release.REFERENCE))
    for task in reference.tasks(shipped):
        _, told = reference.read(shipped, task)
        assert [*told["versions"]] == [*told["seeds"]]
        for versions in told["versions"].values():
            assert set(versions) == {*making.LIBRARIES, "python"}
