"""`nasbench-mr tasks`, `query` and `best`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import nasbench_mr
from nasbench_mr import cost, release, space, table, tasks

CODE = space.sample(1, seed=0)[0]
STRING = space.to_string(CODE)

Run = Callable[..., tuple[int, str, str]]


def lines(text: str) -> list[list[str]]:
    """Return a printed table's cells, row by row."""
    return [line.split() for line in text.splitlines() if line.strip()]


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
    assert data["releases"] == ["tiny@1.0.0"]
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
    assert [r["values"] for r in found] == [
        dict(r) for r in bench.best("video", 5, max_params=5e6, metric="top5")
    ]


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


MISTAKES: list[tuple[list[str], str]] = [
    ([], "the following arguments are required: COMMAND"),
    (["qury"], "no command 'qury': did you mean 'query'?"),
    (["query"], "the following arguments are required: CODE (nasbench-mr query --help explains)"),
    (["query", STRING, "--colour"], "no option --colour (nasbench-mr query --help explains)"),
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
    (["query", STRING, "--seed", "x"], "--seed: 'x' is not a whole number"),
    (["query", STRING, "--epoch", "9", "--task", "seg"], "no epoch 9 of this code; it has epochs 1 to 4"),
    (["query", space.to_string(space.UPPER)], "it is not in the table"),
    (["tasks", "depth"], "no task 'depth'"),
    (
        ["best", "seg", "--max-macs", "lots"],
        "--max-macs: 'lots' is not a valid cost limit; expected at least 0, such as 20, 2e9 or 2G",
    ),
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
