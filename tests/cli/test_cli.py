"""The command line: every command explains itself, prints tables and JSON, and takes mistakes calmly."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import cli, cost, release, space, table, tasks
from nasbench_mr.cli.releases import amount, demo_release
from nasbench_mr.errors import NasbenchMRError

CODE = space.sample(1, seed=0)[0]
STRING = space.to_string(CODE)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process: exit status, stdout, stderr."""

    def run_here(*arguments: object) -> tuple[int, str, str]:
        try:
            status = cli.main([str(a) for a in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run_here


def lines(text: str) -> list[list[str]]:
    """A printed table's cells, row by row."""
    return [line.split() for line in text.splitlines() if line.strip()]


# --- Help ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str, run: Run) -> None:
    status, out, err = run(command, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: nasbench-mr {command}")
    assert "\nExample:\n" in out
    assert f"\n  nasbench-mr {command}" in out


def test_help_lists_every_command_and_imports_none(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    for name, (_, _, help_line) in cli.COMMANDS.items():
        assert f"\n    {name}" in out
        assert help_line.split(",")[0] in " ".join(out.split())
    script = (
        "import sys; from nasbench_mr import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith(('nasbench_mr', 'numpy', 'torch', 'pandas'))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['nasbench_mr', 'nasbench_mr.cli', 'nasbench_mr.errors']"


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"nasbench-mr {nasbench_mr.__version__}\n", "")


def test_the_package_is_the_command_as_well() -> None:
    command = [sys.executable, "-m", "nasbench_mr", "query", "1,2", "seg"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("nasbench-mr: ")


# --- Tables and JSON ----------------------------------------------------------------------------------


def test_tasks(run: Run, tiny_release: Path) -> None:
    status, out, err = run("tasks", "--release", tiny_release)
    assert (status, err) == (0, "")
    assert out.startswith("tiny@1.0.0 (A small made-up release)\n")
    rows = {cells[0]: cells for cells in lines(out)}
    values = nasbench_mr.load(tiny_release).query_many(space.sample(60, seed=0), "seg")["mIoU"]
    assert rows["seg"][-5:] == [
        "60",
        "mIoU",
        *(f"{v:.2f}" for v in (values.min(), values.mean(), values.max())),
    ]
    assert rows["video"][-5] == "40"
    data = json.loads(run("tasks", "--release", tiny_release, "--json")[1])
    assert data["release"] == "tiny@1.0.0"
    assert [t["task"] for t in data["tasks"]] == ["seg", "video"]
    assert data["tasks"][0]["max"] == values.max()


def test_one_task(run: Run, tiny_release: Path) -> None:
    status, out, _ = run("tasks", "hmdb51", "--release", tiny_release)
    assert status == 0
    about = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert about["name"] == "video"
    assert about["metrics"] == "top1 (percent, max), top5 (percent, max)"
    assert about["validation_size"] == "unknown"
    data = json.loads(run("tasks", "video", "--release", tiny_release, "--json")[1])
    assert tasks.Task.from_dict(data) == tasks.get("video")


def test_query(run: Run, tiny_release: Path) -> None:
    bench = nasbench_mr.load(tiny_release)
    status, out, _ = run("query", STRING, "--release", tiny_release)
    assert status == 0
    assert out.startswith(STRING + "\n")
    table_rows = {cells[0]: cells for cells in lines(out)}
    seg, video = bench.query(CODE, "seg"), bench.query(CODE, "video")
    assert table_rows["seg"] == [
        "seg", *(f"{seg[m]:.2f}" for m in ("mIoU", "mAcc", "aAcc")), "4.00", f"{seg['train_seconds']:.2f}",
        f"{seg['macs'] / 1e9:.2f}", f"{seg['params'] / 1e6:.2f}", "table", "3",
    ]  # fmt: skip
    assert table_rows["video"][1:3] == [f"{video[m]:.2f}" for m in ("top1", "top5")]
    found = json.loads(run("query", STRING, "--release", tiny_release, "--json")[1])
    assert [r["task"] for r in found] == ["seg", "video"]
    assert found[0]["values"] == dict(seg)
    assert found[0]["std"] == dict(seg.std)
    assert found[1]["std"] == {"top1": None, "top5": None}
    assert (found[0]["code"], found[0]["seeds"], found[0]["source"]) == (CODE.tolist(), [0, 1, 2], "table")


@pytest.mark.parametrize("form", [[STRING], [" ".join(map(str, CODE))], [str(v) for v in CODE], ["#0"]])
def test_forms_of_a_code(form: list[str], run: Run, tiny_release: Path) -> None:
    status, out, _ = run("query", *form, "--task", "seg", "--release", tiny_release, "--json")
    assert status == 0
    assert json.loads(out)[0]["code"] == CODE.tolist()


def test_query_of_seeds_and_epochs(run: Run, tiny_release: Path) -> None:
    bench = nasbench_mr.load(tiny_release)
    one = json.loads(run("query", "#0", "--seed", 2, "--task", "seg", "--release", tiny_release, "--json")[1])
    assert one[0]["values"] == dict(bench.query(CODE, "seg", seed=2))
    # Only seg has curves.
    early = json.loads(run("query", "#0", "--epoch", 1, "--release", tiny_release, "--json")[1])
    assert [r["values"] for r in early] == [dict(bench.query(CODE, "seg", epoch=1))]


def test_tasks_noise(run: Run, tiny_release: Path) -> None:
    expected = nasbench_mr.load(tiny_release).noise()
    assert list(expected.index) == ["seg"]
    found = json.loads(run("tasks", "--noise", "--release", tiny_release, "--json")[1])
    assert found == [{"task": "seg", **expected.loc["seg"].to_dict()}]
    out = run("tasks", "seg", "--noise", "--release", tiny_release)[1]
    assert lines(out)[2][:2] == ["seg", f"{expected.loc['seg', 'codes']:.0f}"]
    assert (
        run("tasks", "video", "--noise", "--release", tiny_release)[1]
        == "no task has codes with several seeds\n"
    )


def test_query_answers_in_the_tasks_that_can(run: Run, tiny_release: Path) -> None:
    found = json.loads(run("query", "#50", "--release", tiny_release, "--json")[1])
    assert [r["task"] for r in found] == ["seg"]
    assert run("query", "#50", "--task", "video", "--release", tiny_release)[0] == 2


def test_best(run: Run, tiny_release: Path) -> None:
    bench = nasbench_mr.load(tiny_release)
    status, out, _ = run("best", "seg", "-k", 2, "--max-macs", "2G", "--release", tiny_release)
    assert status == 0
    top = bench.best("seg", 2, max_macs=2e9)
    assert [cells[-1] for cells in lines(out)[2:]] == [space.to_string(r.code) for r in top]
    assert lines(out)[2][0] == f"{top[0]['mIoU']:.2f}"
    arguments = (
        "best",
        "video",
        "--metric",
        "top5",
        "--max-params",
        "5M",
        "--release",
        tiny_release,
        "--json",
    )
    found = json.loads(run(*arguments)[1])
    assert [r["values"] for r in found] == [dict(r) for r in bench.best("video", 5, None, 5e6, "top5")]


def test_verify(run: Run, tiny_release: Path) -> None:
    status, out, _ = run("verify", tiny_release)
    assert (status, out) == (0, "tiny@1.0.0: 5 files and 441 rows are as they should be\n")
    data = json.loads(run("verify", tiny_release, "--json")[1])
    assert data == {"release": "tiny@1.0.0", "files": 5, "rows": 441, "ok": True}


def test_pack_fetch_and_card(run: Run, tiny_release: Path, tmp_path: Path) -> None:
    """A release goes from one user to another: packed here, installed there by name."""
    packed = json.loads(run("pack", tiny_release, "--out", tmp_path / "dist", "--json")[1])
    path = tmp_path / "dist" / "tiny-1.0.0.tar.gz"
    assert packed == {"path": str(path), "sha256": Path(f"{path}.sha256").read_text().split()[0]}
    assert run("pack", tiny_release, "--out", path) == (0, f"{path}\nsha256 {packed['sha256']}\n", "")
    status, out, _ = run("fetch", path, "--sha256", packed["sha256"], "--json")
    assert status == 0
    assert json.loads(out) == {"release": "tiny@1.0.0", "tasks": ["seg", "video"], "missing": []}
    assert release.installed() == [("tiny", "1.0.0")]
    status, out, _ = run("fetch", path)
    assert out == f"tiny@1.0.0: seg, video\ninstalled in {release.home() / 'releases/tiny/1.0.0'}\n"
    assert run("card", "tiny")[1] == (tiny_release / "DATASET_CARD.md").read_text()
    assert json.loads(run("card", "tiny", "--json")[1]) == json.loads(
        (tiny_release / "release.json").read_text()
    )
    assert run("best", "seg", "--release", path)[0] == 0


def test_costs_that_only_one_column_knows(run: Run, tmp_path: Path) -> None:
    codes = space.sample(2)
    columns = {"codes": codes, "mIoU": [1.0, 2.0], "macs": cost.macs(codes)}
    made = release.create(
        lambda folder: table.write(folder / "tables/seg.parquet", tasks.get("seg"), columns),
        "mine", "1.0.0", [tasks.get("seg")],
    )  # fmt: skip
    status, out, _ = run("query", "#1", "--release", made.path)
    assert status == 0
    assert lines(out)[1] == ["task", "mIoU", "mAcc", "aAcc", "GMACs", "source", "seeds"]
    assert lines(out)[3][:4] == ["seg", "2.00", "-", "-"]


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
    from nasbench_mr import search
    from nasbench_mr.data_builders import datasets
    from nasbench_mr.data_builders.building import runner
    from nasbench_mr.data_builders.building.trial import Outcome, Trial
    from nasbench_mr.data_builders.training import recipes

    codes = space.sample(9, seed=0)
    task = tasks.get(recipes.get("mini-video").task)
    columns = {"codes": codes, "top1": np.arange(9.0), "macs": cost.macs(codes)}
    made = release.create(
        lambda folder: table.write(folder / "tables/mini-video.parquet", task, columns),
        "few",
        "1.0.0",
        [task],
    )
    best = nasbench_mr.load(made.path).best("mini-video", 1, float(np.median(cost.macs(codes))))[0].code
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
    monkeypatch.setattr(datasets, "make", lambda name, path, **options: path.mkdir(parents=True))
    said = []
    for _ in range(2):
        status, out, err = run("demo", "--release", made.path)
        assert (status, err) == (0, "")
        said.append(lines(out))
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
    from nasbench_mr import search
    from nasbench_mr.errors import missing_extra

    def no_torch(*args: object, **options: object) -> None:
        raise missing_extra("torch", "search", "NCP")

    monkeypatch.setattr(search, "ncp", no_torch)
    status, out, err = run("demo", "--release", tiny_release)
    assert (status, err) == (0, "")
    assert out.endswith("\nNCP needs 'torch', which is not installed: pip install 'nasbench-mr[search]'\n")


# --- Mistakes -----------------------------------------------------------------------------------------

MISTAKES: list[tuple[list[str], str]] = [
    ([], "the following arguments are required: COMMAND"),
    (["qury"], "no command 'qury': did you mean 'query'?"),
    (["query"], "the following arguments are required: code (nasbench-mr query --help explains)"),
    (["query", STRING, "--colour"], "unrecognized arguments: --colour"),
    (["query", "seg"], "not a code: 'seg'"),
    (["query", *["8"] * 26], "a code has 27 integers; got 26"),
    (["query", STRING.replace("_", "-")], "not a code"),
    (["query", "#60", "--task", "seg"], "no code '#60': 'seg' has codes #0 to #59"),
    (["query", "#x"], "no code '#x'"),
    (["query", "#²"], "no code '#²'"),
    (["query", "#" + "9" * 5000], "no code '#999"),
    (["query", STRING, "--task", "sge"], "no task 'sge': did you mean 'seg'?"),
    (["query", STRING, "--task", "kitti"], "no task 'kitti'"),
    (["query", STRING, "--source", "tabel"], "source is 'tabel'; expected one of auto, table, surrogate"),
    (["query", STRING, "--source", "surrogate"], "tiny@1.0.0 has no surrogate for 'seg'"),
    (["query", STRING, "--seed", "7", "--task", "seg"], "seed 7; it has seeds 0, 1, 2"),
    (["query", STRING, "--seed", "x"], "argument --seed: invalid int value: 'x'"),
    (["query", STRING, "--epoch", "9", "--task", "seg"], "no epoch 9 of this code; it has epochs 1 to 4"),
    (["query", space.to_string(space.UPPER)], "it is not in the table"),
    (["tasks", "depth"], "no task 'depth'"),
    (["best", "seg", "--max-macs", "lots"], "'lots' is no amount; expected a number such as 2e9 or 2G"),
    (["best", "seg", "--max-macs", "1k"], "no tabulated code of 'seg' has mIoU, at most 1,000 macs"),
    (["best", "seg", "--metric", "top1"], "task 'seg' has no metric 'top1'"),
    (["best", "seg", "-k", "0"], "k is 0; expected an integer, at least 1"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes(arguments: list[str], message: str, run: Run, tiny_release: Path) -> None:
    given = [*arguments, "--release", str(tiny_release)] if arguments[1:] else arguments
    status, out, err = run(*given)
    assert (status, out) == (2, "")
    assert err.startswith("nasbench-mr: ")
    assert message in err
    assert err.count("\n") == 1
    assert err.endswith("\n")


MORE_MISTAKES: list[tuple[list[str], str]] = [
    (["tasks", "--release", "mimi"], "no release 'mimi': did you mean 'mini'?"),
    (["tasks", "--release", "nasbench-mr"], "nasbench-mr fetch gets the published tables"),
    (["tasks", "--release", "./nowhere"], "no release at './nowhere'"),
    (["verify", "nowhere"], "no release 'nowhere'"),
    (["pack", "nowhere"], "no release 'nowhere'"),
    (["card", "nowhere"], "no release 'nowhere'"),
    (["fetch", "nowhere.tar.gz"], "'nowhere.tar.gz' is neither a file nor an http(s) address"),
    (["fetch", "http://127.0.0.1:9/x.tar.gz"], "give --sha256 HASH, which stands in http://127.0.0.1:9/x.tar.gz.sha256"),
    (["fetch", "https://127.0.0.1:9/" + "x" * 5000], "give --sha256 HASH"),
    (["fetch", "http://127.0.0.1:9/x.tar.gz", "--sha256", "../../x"], "expected 64 hexadecimal digits"),
    (["fetch", "--sha256", "0" * 64], "--sha256 is about a release tarball: give its URL too"),
    (["import", "nowhere"], "nothing at 'nowhere'"),
    (["import", __file__], "is a file: say which task it is about, --task NAME"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), MORE_MISTAKES)
def test_mistakes_about_releases(arguments: list[str], message: str, run: Run) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("nasbench-mr: ")
    assert message in err
    assert err.count("\n") == 1


def test_damaged_releases(run: Run, tiny_release: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_release, tmp_path / "copy"))
    (copy / "DATASET_CARD.md").write_text("mine")
    status, out, err = run("verify", copy)
    assert (status, out) == (2, "")
    assert err.startswith("nasbench-mr: tiny@1.0.0: DATASET_CARD.md has sha256 ")
    assert run("pack", copy, "--out", tmp_path)[0] == 2
    (copy / "release.json").write_text("{")
    assert "release.json is not JSON" in run("tasks", "--release", copy)[2]
    (tmp_path / "x.tar.gz").write_bytes(b"no tarball")
    assert "not a complete tarball" in run("fetch", tmp_path / "x.tar.gz")[2]


def test_places_that_can_not_be_written(run: Run, tiny_release: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = run("pack", tiny_release, "--out", tmp_path / "file" / "x.tar.gz")
    assert status == 2
    assert err.startswith("nasbench-mr: can't write ")
    assert err.count("\n") == 1


def test_errors_of_several_lines_are_printed_in_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from nasbench_mr.cli.releases import Tasks

    def fail(self: Tasks, args: object) -> None:
        raise NasbenchMRError("first\n  second")

    monkeypatch.setattr(Tasks, "run", fail)
    assert run("tasks") == (2, "", "nasbench-mr: first second\n")


def test_a_missing_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a command's module needs it to be imported at all."""
    from nasbench_mr.errors import missing_extra

    def fail(name: str) -> None:
        raise missing_extra("ray", "cluster", "building on a cluster")

    monkeypatch.setattr(cli.importlib, "import_module", fail)
    status, out, err = run("build")
    assert (status, out) == (2, "")
    assert err == (
        "nasbench-mr: building on a cluster needs 'ray', which is not installed: "
        "pip install 'nasbench-mr[cluster]'\n"
    )


def test_our_own_mistakes_are_not_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from nasbench_mr.cli.releases import Tasks

    monkeypatch.setattr(Tasks, "run", lambda self, args: [][0])
    with pytest.raises(IndexError):
        run("tasks")


# --- The program itself -------------------------------------------------------------------------------


def test_the_program(tiny_release: Path) -> None:
    done = subprocess.run(
        ["nasbench-mr", "query", "#0", "--task", "seg", "--release", tiny_release],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(STRING)
    done = subprocess.run(["nasbench-mr", "query", "x"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_reader_that_goes_away(tiny_release: Path) -> None:
    """As in `nasbench-mr tasks | head -1`: no complaint."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        ["nasbench-mr", "tasks", "--release", tiny_release],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from nasbench_mr.cli.releases import Tasks

    def stop(self: Tasks, args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Tasks, "run", stop)
    assert run("tasks") == (130, "", "")


# --- Formats ------------------------------------------------------------------------------------------


def test_format_table() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a", "count": 1234567, "value": 1.005, "small": 0.00123456},
        {"name": "longer", "count": None, "value": float("nan"), "small": 0.0},
    ]
    assert cli.format_table(rows).splitlines() == [
        "name        count  value    small",
        "------  ---------  -----  -------",
        "a       1,234,567   1.00  0.00123",
        "longer          -      -     0.00",
    ]
    assert cli.format_table(rows, ["value", "name"]).splitlines()[2] == " 1.00  a"
    assert cli.format_table([]) == "(none)"


def test_print_json(capsys: pytest.CaptureFixture[str]) -> None:
    cli.print_json({1: np.int64(3), "x": np.array([1.5, np.nan]), "y": float("inf"), "z": (True, None)})
    assert json.loads(capsys.readouterr().out) == {"1": 3, "x": [1.5, None], "y": None, "z": [True, None]}


@pytest.mark.parametrize(
    ("text", "value"), [("2e9", 2e9), ("2G", 2e9), ("1.5M", 1.5e6), ("3k", 3e3), ("7", 7), ("0", 0)]
)
def test_amounts(text: str, value: float) -> None:
    assert amount(text) == value


@pytest.mark.parametrize("text", ["", "G", "-1", "nan", "inf", "2 GB", "1e400", "0x10"])
def test_bad_amounts(text: str) -> None:
    with pytest.raises(Exception, match="is no amount; expected a number such as 2e9 or 2G"):
        amount(text)


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
