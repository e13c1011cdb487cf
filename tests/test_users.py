"""What users met, one test a kind: wrong in silence, lost, hung, or a traceback.

Append a small function for a new kind; the tests of a module say the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nasbench_mr
from nasbench_mr import checks, cost, nasbench201, progress, release, search, space, table, tasks
from nasbench_mr.cli import importing, main
from nasbench_mr.data_builders import published
from nasbench_mr.data_builders.building.runner import as_codes
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.errors import InvalidArgumentError, MissingExtraError

#: A code that no table has.
UNKNOWN = space.to_string(space.UPPER)


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of its own, for files that are named without one."""
    monkeypatch.chdir(tmp_path)


# --- The command line ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["#0", "seg", "video"],
        ["#0", "seg,video"],
        ["#0", "--tasks", "seg", "video"],
        ["#0", "--task", "seg,", "video"],
        ["#0", "--task", "seg", "--task", "video"],
        ["--json", "#0", "seg", "--source", "table", "video"],
        [*map(str, space.sample(1, seed=0)[0].tolist()), "seg", "video"],
    ],
)
def test_tasks_are_named_in_any_form(
    words: list[str], tiny_release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", *words, "--release", str(tiny_release), "--json"]) == 0
    assert [result["task"] for result in json.loads(capsys.readouterr().out)] == ["seg", "video"]


def test_what_a_surrogate_answers_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", UNKNOWN, "mini-seg", "--release", "mini"]) == 0
    told = nasbench_mr.load("mini").query(UNKNOWN, "mini-seg")
    header, _, row = capsys.readouterr().out.strip().splitlines()[-3:]
    assert header.split()[-2:] == ["source", "distance"]
    assert f"{told['mIoU']:.2f} ± {told.std['mIoU']:.2f}" in row
    assert row.split()[-2:] == ["surrogate", f"{told.distance:,.0f}"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("compare seg --searchers evolution:sampel=3", "has no option 'sampel': did you mean 'sample'"),
        ("search seg --searcher random:tournament=3", "search 'random' has no option 'tournament'"),
        ("predict-eval gbdt --option leafs=3", "predictor 'gbdt' has no option 'leafs'"),
        ("best seg --max-macz 3", "no option --max-macz: did you mean --max-macs?"),
        ("best seg -k many", "-k: 'many' is not a whole number"),
        ("search seg --more-macs lots", "--more-macs: 'lots' is not a number"),
        ("build mini-cls --codes 1 --out out --time-limit -1", "--time-limit is -1"),
        ("search seg --max-macs -3", "--max-macs: '-3' is not a valid cost limit"),
        ("query '#0' seg extra words", "no task 'extra'"),
        ("tasks seg video", "unexpected argument 'video'"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_the_words_of_the_command(
    command: str,
    message: str,
    tiny_release: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = command.replace("'", "").split()
    where = [] if words[0] == "build" else ["--release", str(tiny_release)]
    assert main([*words, *where]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    for python in ("__init__", "unexpected keyword", "invalid int", "invalid float", "Errno"):
        assert python not in err


#: Outputs that can't be written, of commands that would work for hours.
OUTPUTS = [
    ("search seg --steps 100000000 --export {}", "net.txt", ".py"),
    ("search seg --steps 100000000 --export {}", "file/net.py", "can't write"),
    ("search seg --steps 100000000 --explore {}", "page.txt", ".html"),
    ("compare seg --seeds 100000000 --out {}", "file", "can't write"),
    ("predict-eval --seeds 100000000 --out {}", "scores.csv", ".parquet"),
    ("predict-eval --seeds 100000000 --plot {}", "scores.bmp", ".png, .pdf or .svg"),
    ("predict-eval --seeds 100000000 --plot {}", "folder.png", "a folder is there"),
    ("surrogate fit {release} --option epochs=100000000 --release-to {}", "file/there", "can't write"),
    ("build mini-cls --codes 100000 --out {}", "file", "can't write"),
    ("build mini-cls --codes 100000 --out out --release-to {} --release mine@1.0.0", "file/x", "can't write"),
    ("build mini-cls --codes 100000 --out out --checkpoints {}", "file/x", "can't write"),
    ("data make kitti {} --train 100000000", "file/x", "can't write"),
    ("data pack kitti --out {}", "file/x", "can't write"),
    ("auxnas segmentation normals --set steps=100000000 --task seg --out {}", "file", "can't write"),
    ("auxnas segmentation normals --compare 5 --out out --task seg --plot {}", "x.gif", ".png, .pdf or .svg"),
    ("pack {release} --out {}", "file/x.tar.gz", "can't write"),
    ("plot {release} --out {}", "x.gif", ".png, .pdf or .svg"),
    ("explore --out {}", "x.txt", ".html"),
]


@pytest.mark.parametrize(("command", "name", "message"), OUTPUTS)
def test_outputs_are_checked_before_the_work(
    command: str,
    name: str,
    message: str,
    tiny_release: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert main([word.format(name, release=tiny_release) for word in command.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cost_limit_and_another_cost_are_both_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Limits count the full-width network of 50 classes; mini-seg trains a narrow one of 11."""
    target = tmp_path / "net.py"
    command = [
        "search",
        "mini-seg",
        "--max-macs",
        "100M",
        "--release",
        "mini",
        "--starts",
        "8",
        "--steps",
        "5",
    ]
    assert main([*command, "--release", "mini", "--export", str(target)]) == 0
    out = capsys.readouterr().out
    code = space.parse(out.splitlines()[0])
    macs, params = int(cost.macs(code)[0]), int(cost.params(code)[0])
    assert macs <= 100e6
    narrow = {"num_classes": 11, "width_mult": 0.5}
    own = int(cost.macs(code, head="segmentation", **narrow)[0]), int(cost.params(code, **narrow)[0])
    for text in (out, target.read_text()):
        assert f"{macs:,} MACs" in text
        assert f"{params:,} parameters" in text
        assert f"{own[0]:,} MACs" in text
        assert f"{own[1]:,} parameters" in text


# --- Tables of users ----------------------------------------------------------------------------------

OWN_CODES = space.sample(4, seed=3)


def own_csv(**columns: list[object]) -> str:
    """Return a table of four codes: `columns` beside the code's."""
    lines = [",".join(["code", *columns])]
    for k, code in enumerate(OWN_CODES):
        lines.append(",".join([space.to_string(code), *(str(values[k]) for values in columns.values())]))
    return "\n".join(lines) + "\n"


ACC: list[object] = [75.5, 60.25, 70.0, 65.5]
LATENCY: list[object] = [4.0, 3.0, 2.0, 1.0]


def own_import(
    content: str | bytes, options: str, capsys: pytest.CaptureFixture[str], name: str | bytes = "mine.csv"
) -> tuple[int, str, str]:
    """Return the status, output and errors of `nasbench-mr import --task t FILE` with these options."""
    path = os.fsdecode(name)
    Path(path).write_bytes(content.encode() if isinstance(content, str) else content)
    words = [] if "--task" in options else ["--task", "t"]
    status = main(["import", *words, path, *options.split()])
    return status, *capsys.readouterr()


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"latency_ms": LATENCY, "acc": ACC}, "", "metrics latency_ms, acc: say which one to optimise"),
        ({"latency_ms": LATENCY}, "", "Say --minimize latency_ms or --maximize latency_ms"),
        ({"latency_ms": LATENCY, "acc": ACC}, "--objective acc", "Say --minimize latency_ms or --maximize"),
        *(({name: LATENCY}, "", f"Say --minimize {name} or")
          for name in ("error", "err", "val_loss", "testLoss", "time", "perplexity", "rmse")),
        *(({name: LATENCY}, "", f"is less or more of '{name}' better? Say --minimize {name} or --maximize")
          for name in ("score", "foo", "value", "y")),
        ({"foo": ACC, "acc": ACC, "bar": ACC}, "--objective acc",
         "is less or more of 'foo', 'bar' better? Say --minimize foo --minimize bar, with --maximize"),
        ({"id": [1, 2, 3, 4]}, "", "there is no metric"),
        ({"id": [1, 2, 3, 4], "acc": ACC}, "--objective id", "column 'id' numbers the rows"),
        ({"acc": ACC}, "--minimize acc --maximize acc", "both to minimize and to maximize"),
        ({"acc": ACC}, "--bounds acc=100:0", "the bounds of 'acc' are 100 and 0; expected LOW below HIGH"),
        ({"acc": ACC}, "--bounds acc=70:100", "acc is 60.25; expected a number in [70, 100]"),
        ({"acc": ACC}, "--unit ac=percent", "no metric 'ac': did you mean 'acc'"),
        ({"acc": [0.7, 0.6, 0.5, 0.4]}, "--unit acc=percent", "expected percent: multiply it by 100"),
        ({"mIoU": [0.7, 0.6, 0.5, 0.4]}, "--task seg", "expected percent: multiply it by 100"),
        ({"mIoU": ACC}, "--task seg --maximize mIoU --unit mIoU=points", "'seg' is a known task"),
    ],
)  # fmt: skip
def test_an_import_asks_instead_of_guessing(
    columns: dict[str, list[object]],
    options: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, err = own_import(own_csv(**columns), options, capsys)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert nasbench_mr.release.installed() == []


def test_an_import_says_what_it_understood(capsys: pytest.CaptureFixture[str]) -> None:
    content = own_csv(id=[1, 2, 3, 4], acc=ACC, error=LATENCY, seed=[1, 1, 2, 2], note=list("abcd"))
    options = "--objective acc --minimize error --unit acc=percent --unit error=ms --bounds error=0.5:"
    status, out, _ = own_import(content, options, capsys)
    assert status == 0
    for line in (
        "t: 4 rows, 4 codes, 2 seeds",
        "  code: the code",
        "  read as: text with commas",
        "  acc: the objective: more is better, unit percent, at least 0, at most 100",
        "  error: a metric: less is better, unit ms, at least 0.5; kept as 'error_rate'",
        "  seed: the training's seed",
        "  note: text, kept",
        "  objective: acc (max), unit percent, bounds 0 to 100",
        "  costs: computed from the codes",
        "  skipped: id (numbers the rows)",
        "next: nasbench-mr best t --release local",
    ):
        assert line in out.splitlines()
    acc, error = nasbench_mr.load("local").task("t").metrics
    assert (acc.unit, acc.direction, acc.lower, acc.upper) == ("percent", "max", 0, 100)
    assert (error.name, error.unit, error.direction) == ("error_rate", "ms", "min")
    assert (error.lower, error.upper) == (0.5, None)
    assert main(out.splitlines()[-1].split()[2:]) == 0


def test_a_metric_called_error_is_no_failure_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert own_import(own_csv(error=LATENCY), "--minimize error", capsys)[0] == 0
    best = nasbench_mr.load("local").best("t", 1)[0]
    assert best.code == tuple(OWN_CODES[3].tolist())
    assert nasbench_mr.load("local").task("t").metric().lower == 0
    exits = own_csv(acc=[70.0, 71.0, "", ""], status=["ok", "ok", "failed", "failed"], error=["", "", 137, 1])
    assert own_import(exits, "--task u", capsys)[0] == 0
    assert [m.name for m in nasbench_mr.load("local").task("u").metrics] == ["acc"]


MACS, PARAMS = cost.macs(OWN_CODES), cost.params(OWN_CODES)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"macs": 2 * MACS}, "off by a factor of 2: operations, two for each multiply-accumulate"),
        ({"flops": MACS / 1e6}, "off by a factor of 1000: another unit"),
        ({"params": PARAMS * 1000}, "off by a factor of 1000: another unit"),
        ({"macs": MACS // 10**6}, "off by a factor of 1e-06: another unit"),
        ({"macs": (MACS * 1.03).astype(int)}, "off by 3.0%: norms, biases or the classifier"),
        ({"macs": cost.macs(OWN_CODES, 224)}, "they are those of 224x224 pixels, expected 128x128"),
        ({"params": cost.params(OWN_CODES, 1000)}, "they are those of 1000 classes, expected 50"),
    ],
)
def test_costs_that_are_not_the_codes_are_refused_with_the_reason(
    columns: dict[str, np.ndarray],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = own_csv(acc=ACC, **{name: values.tolist() for name, values in columns.items()})
    status, out, err = own_import(content, "", capsys)
    assert (status, out) == (2, "")
    assert reason in err
    assert "--trust-costs" in err
    status, out, _ = own_import(content, "--trust-costs", capsys)
    assert status == 0
    assert "  costs: the file's own" in out.splitlines()


PLAIN = own_csv(acc=ACC)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (PLAIN.replace(",", ";").replace(".", ","), "mine.csv"),
        (PLAIN.replace(",", "\t"), "mine.tsv"),
        (PLAIN.replace(",", " , "), "mine.csv"),
        (PLAIN.encode("utf-8-sig"), "mine.csv"),
        (PLAIN.encode("utf-16"), "mine.csv"),
        (gzip.compress(PLAIN.encode()), "mine.csv.gz"),
        (own_csv(acc=[f"{value}%" for value in ACC]), "mine.csv"),
        (own_csv(acc=ACC, note=["NA", "N/A", "null", ""]), "mine.csv"),
        (PLAIN, b"caf\xe9.csv"),
    ],
    ids=["semicolon", "tab", "spaces", "bom", "utf-16", "gzip", "percent", "na", "latin-1 name"],
)
def test_a_table_is_read_in_any_form(
    content: str | bytes,
    name: str | bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert own_import(content, "", capsys, name)[0] == 0
    bench = nasbench_mr.load("local")
    assert [m.name for m in bench.task("t").metrics] == ["acc"]
    assert [bench.query(code, "t")["acc"] for code in OWN_CODES] == ACC


def test_an_index_without_a_name_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"code": list(map(space.to_string, OWN_CODES)), "acc": ACC})
    frame.to_csv("once.csv")
    pd.read_csv("once.csv").to_csv("twice.csv")
    frame.set_index(np.array([3, 1, 2, 0])).to_parquet("kept.parquet")
    for file, skipped in (
        ("once.csv", "column 1 (an index without a name)"),
        ("twice.csv", "column 1 (an index without a name), Unnamed: 0 (an index without a name)"),
        ("kept.parquet", "__index_level_0__ (an index without a name)"),
    ):
        assert main(["import", "--task", Path(file).stem, file]) == 0
        assert f"  skipped: {skipped}" in capsys.readouterr().out.splitlines()
        task = nasbench_mr.load("local").task(Path(file).stem)
        assert [m.name for m in task.metrics] == ["acc"]
    assert main(["import", "--task", "again", "twice.csv", "--ignore", "Unnamed: 0"]) == 0


def test_codes_may_be_lists_in_parquet(capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"code": OWN_CODES.tolist(), "val acc": ACC}), "mine.parquet")
    assert main(["import", "--task", "t", "mine.parquet"]) == 0
    assert (
        "  val acc: the objective: more is better, unit unknown; kept as 'val_acc'" in capsys.readouterr().out
    )
    assert nasbench_mr.load("local").query(OWN_CODES[1], "t")["val_acc"] == 60.25


# --- What an import makes of numbers ------------------------------------------------------------------


def test_percent_signs_and_names_of_costs_tell_units(capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"acc": [f"{value}%" for value in ACC], "GFLOPs": (MACS / 1e9).tolist(), "wd": [1, 2, 3, 4]}
    status, out, _ = own_import(own_csv(**columns), "--ignore wd", capsys)
    assert status == 0
    for line in (
        "  acc: the objective: more is better, unit percent, at least 0, at most 100",
        "  GFLOPs: MACs, made counts",
        "  costs: computed from the codes; the file's agree",
        "  skipped: wd (left out as asked)",
    ):
        assert line in out.splitlines()
    bench = nasbench_mr.load("local")
    assert [m.name for m in bench.task("t").metrics] == ["acc"]
    assert [bench.query(code, "t")["macs"] for code in OWN_CODES] == MACS.tolist()
    assert "there is no column 'width' to ignore" in own_import(own_csv(acc=ACC), "--ignore width", capsys)[2]


def test_a_task_takes_the_same_options_again(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--minimize latency --unit latency=ms --bounds latency=0:"
    first, *rest = own_csv(latency=LATENCY).splitlines()
    assert own_import("\n".join([first, *rest[:3]]), options, capsys)[0] == 0
    status, out, _ = own_import("\n".join([first, rest[3]]), options, capsys)
    assert status == 0
    assert "t has 4 rows now" in out.splitlines()
    status, _, err = own_import("\n".join([first, rest[3]]), options, capsys)
    assert (status, "--replace" in err) == (2, True)
    assert own_import("\n".join([first, rest[3]]), f"{options} --replace", capsys)[0] == 0
    assert len(nasbench_mr.load("local").to_pandas("t")) == 4
    status, _, err = own_import(own_csv(latency=LATENCY), "--maximize latency", capsys)
    assert (status, "'t' is a known task" in err) == (2, True)


def test_percent_signs_go_into_a_task_in_percent(capsys: pytest.CaptureFixture[str]) -> None:
    assert own_import(own_csv(mIoU=[f"{value} %" for value in ACC]), "--task seg", capsys)[0] == 0
    bench = nasbench_mr.load("local")
    assert [bench.query(code, "seg")["mIoU"] for code in OWN_CODES] == ACC


def test_a_name_of_a_column_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = own_import(own_csv(**{"acc\x1b[2J": ACC, "no\x07te": list("abcd")}), "", capsys)
    assert status == 0
    assert not {"\x1b", "\x07"} & set(out)


@pytest.mark.parametrize(
    ("task", "column", "values", "message"),
    [
        (
            "seg",
            "mIoU",
            [7550, 6025, 7000, 6550],
            "between 6025 and 7550; expected percent: divide it by 100",
        ),
        (
            "cls-50-1000",
            "top1",
            [0.02, 0.5, 0.7, 0.9],
            "between 0.02 and 0.9; expected percent: multiply it by",
        ),
    ],
)
def test_values_out_of_a_known_range_are_refused_with_the_factor(
    task: str,
    column: str,
    values: list[object],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert message in own_import(own_csv(**{column: values}), f"--task {task}", capsys)[2]


@pytest.mark.parametrize(
    "name",
    ["err", "valError", "top1_err", "loss", "latency", "lat_ms", "inferenceTime", "perplexity", "energy_mj"],
)
def test_no_such_name_is_maximised_in_silence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = own_import(own_csv(**{name: LATENCY}), "", capsys)
    assert status == 2
    assert f"is less or more of {name!r} better? Say --minimize" in err


def test_a_cell_at_chance_is_no_fraction(capsys: pytest.CaptureFixture[str]) -> None:
    # 0.83 percent of 120 classes is what guessing gives.
    content = f"code,Acc\n{nasbench201.to_string([1] * 6)},0.8333\n"
    assert own_import(content, "--task nas-bench-201", capsys)[0] == 0


def test_an_unknown_result_is_named_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = own_import(own_csv(acc=[75.5, "NA", 70.0, 65.5]), "", capsys)
    assert status == 2
    assert "row 1: acc is empty; leave the row out, or add a column status" in err


def test_cells_without_costs_have_those_of_the_formula(capsys: pytest.CaptureFixture[str]) -> None:
    cells = nasbench201.sample(30, seed=1)
    lines = [f"{nasbench201.to_string(cell)},{50 + k}" for k, cell in enumerate(cells)]
    assert own_import("\n".join(["code,acc", *lines]), "", capsys)[0] == 0
    bench = nasbench_mr.load("local")
    assert bench.query(cells[3], "t")["macs"] == nasbench201.macs(cells[3])[0]
    assert main(["search", "t", "--searcher", "random", "--budget", "5", "--release", "local"]) == 0
    assert "GMACs" in capsys.readouterr().out


# --- What no one knows the cost of --------------------------------------------------------------------


@pytest.fixture
def costless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a release of cells whose costs no one knows: their space has no formula here."""
    monkeypatch.delattr(nasbench201, "macs")
    cells = np.unique(nasbench201.sample(60, seed=1), axis=0)
    task = dataclasses.replace(tasks.get("nas-bench-201"), name="cells", cost="table")

    def fill(folder: Path) -> None:
        columns = {"codes": cells, "Acc": 20.0 + np.arange(len(cells)) / 2}
        table.write(folder / "tables/cells.parquet", task, columns)

    return str(release.create(fill, "costless", "1.0.0", [task], about={}, target=tmp_path / "costless").path)


@pytest.mark.parametrize(
    "words",
    [
        "search cells --starts 8 --steps 3",
        "search cells --searcher evolution --budget 20",
        "compare cells --searchers random local --budget 10 --seeds 2 --workers 0",
        "best cells -k 2",
        "query #0 cells",
        "plot RELEASE --out scatter.svg",
        "explore --out page.html",
        "card",
        "verify",
    ],
)
def test_unknown_costs_stop_nothing_without_limits(words: str, costless: str) -> None:
    split = words.replace("RELEASE", costless).split()
    if split[0] in ("card", "verify"):
        split.append(costless)
    elif split[0] != "plot":
        split += ["--release", costless]
    assert main(split) == 0


def test_a_network_of_another_space_is_refused_before_the_search(
    costless: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "cells", "--steps", "100000000", "--export", str(tmp_path / "net.py")]
    assert main([*words, "--release", costless]) == 2
    assert "'cells' has no multi-resolution networks to export" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "search cells --max-macs 1e8",
        "search cells --searcher random --max-params 1e6",
        "compare cells --max-macs 1e8 --workers 0",
        "best cells --max-macs 1e8",
    ],
)
def test_limits_on_unknown_costs_are_refused_by_name(
    words: str, costless: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words.split(), "--release", costless]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "unknown" in err or "the table has none" in err


# --- What is told of a metric -------------------------------------------------------------------------


def test_no_latency_below_zero_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    codes = space.sample(40, seed=0)
    lines = [
        f"{space.to_string(code)},{macs / 1e10}" for code, macs in zip(codes, cost.macs(codes), strict=True)
    ]
    content = "\n".join(["code,lat_ms", *lines])
    assert own_import(content, "--minimize lat_ms --bounds lat_ms=0:", capsys)[0] == 0
    # Far below all latencies of the table a predictor's line goes under 0.
    assert main(["search", "t", "--release", "local", "--starts", "8", "--steps", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"][0]["predicted"] >= 0


def test_a_network_for_no_one_knows_what_is_not_exported(capsys: pytest.CaptureFixture[str]) -> None:
    assert own_import(own_csv(acc=ACC), "", capsys)[0] == 0
    assert main(["search", "t", "--release", "local", "--export", "net.py"]) == 2
    err = capsys.readouterr().err
    assert "task 't' does not say what its networks are for" in err
    assert "--head mini-cls" in err
    assert not Path("net.py").exists()


# --- What is silent, and what is cited ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("import --task t mine.csv", "importing mine.csv"),
        ("explore mini-seg --release mini --out page.html", "writing the page"),
        ("plot mini --task mini-seg --out x.svg", "drawing"),
        (
            "auxnas normals segmentation --task mini-seg --release mini --set steps=x",
            "choosing the primary's code",
        ),
    ],
)
def test_what_may_take_seconds_has_a_line(words: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.csv").write_text(own_csv(acc=ACC))
    lines: list[str] = []

    @contextlib.contextmanager
    def line(text: str) -> Iterator[None]:
        lines.append(text)
        yield

    monkeypatch.setattr(progress, "line", line)
    main(words.split())
    assert said in lines


def test_a_missing_extra_is_told_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("scipy", "torch"):
        monkeypatch.setitem(sys.modules, module, None)
    assert main(["compare", "mini-seg", "--seeds", "100000000"]) == 2
    assert "testing whether searches differ needs 'scipy'" in capsys.readouterr().err
    for name in ("ncp", "ncp-front"):
        with pytest.raises(
            MissingExtraError, match=rf"the search '{name}' needs 'torch'.*nasbench-mr\[search\]"
        ):
            search.make(name)


def test_an_import_stopped_at_its_surrogates_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    made = nasbench_mr.load("mini").release
    monkeypatch.setattr(published, "import_release", lambda *_, **__: made)
    monkeypatch.setattr(importing, "with_surrogates", stopped)
    assert main(["import", str(tmp_path)]) == 130
    kept = "tables that were installed are kept; rerun the command to fit their surrogates"
    assert capsys.readouterr().err == f"nasbench-mr: interrupted: {kept}\n"


def test_the_digests_to_cite_are_those_of_the_releases(published_release: Path | None) -> None:
    cited = {"README.md": ["mini"], "docs/citing.md": ["mini"]}
    if published_release is None:
        print("the published tables are not at hand: only the digest of mini was compared")
    else:
        cited["docs/citing.md"].append(str(published_release))
    for name, releases in cited.items():
        text = (Path(__file__).parents[1] / name).read_text(encoding="utf-8")
        for made in (nasbench_mr.load(each).release for each in releases):
            assert str(made) in text
            assert made.digest in text


# --- Numbers of NumPy and pandas ----------------------------------------------------------------------

BYTE, LARGE, HALF = np.uint8(2), pd.Series([2], dtype="Int64")[0], np.float32(0.5)


def test_numbers_of_any_library_are_taken() -> None:
    code = OWN_CODES[0]
    # Products of NumPy's own integers would overflow, most of them in silence.
    for kind in (np.int16, np.int32, np.uint8):
        assert (cost.macs(code, kind(128), kind(50)) == cost.macs(code)).all()
        assert (cost.params(code, kind(100)) == cost.params(code, 100)).all()
    assert (cost.macs(code, width_mult=HALF) == cost.macs(code, width_mult=0.5)).all()
    assert (space.sample(BYTE, seed=LARGE) == space.sample(2, seed=2)).all()
    bench = nasbench_mr.load("mini")
    assert bench.best("mini-seg", k=BYTE, max_macs=np.float32(1e9)) == bench.best("mini-seg", 2, max_macs=1e9)
    assert checks.seeds(BYTE) == checks.seeds(2) == checks.seeds(np.arange(2)) == [0, 1]
    assert (as_codes(LARGE) == as_codes(2)).all()
    recipe = dataclasses.replace(recipes.get("mini-cls"), epochs=BYTE, lr=HALF)
    assert json.dumps(recipe.to_dict()) == json.dumps(
        dataclasses.replace(recipes.get("mini-cls"), epochs=2, lr=0.5).to_dict()
    )


def test_what_json_can_not_hold_is_refused_before_the_work(tmp_path: Path) -> None:
    kept = {"hidden": (np.int64(8), BYTE), "rate": HALF, "of": [np.arange(2)], "name": "x", "none": None}
    plain = {"hidden": (8, 2), "rate": 0.5, "of": [[0, 1]], "name": "x", "none": None}
    assert checks.plain("options", kept) == json.loads(json.dumps(plain)) | {"hidden": (8, 2)}
    with pytest.raises(InvalidArgumentError, match=r"options\['width'\] is <object"):
        checks.plain("options", {"width": object()})
    done: list[Path] = []
    with pytest.raises(InvalidArgumentError, match=r"about\['title'\] is b'x'"):
        release.create(done.append, "a", "1.0.0", [], about={"title": b"x"}, target=tmp_path / "a")
    assert not done
    metric = tasks.Metric("ms", lower=np.float32(0.5), upper=np.int64(9))
    task = tasks.Task("t", "t", "d", "video", (metric,), "ms", num_classes=np.int64(7), width_mult=HALF)
    again = json.loads(json.dumps(task.to_dict()))
    assert (again["num_classes"], again["width_mult"]) == (7, 0.5)
    assert (again["metrics"][0]["lower"], again["metrics"][0]["upper"]) == (0.5, 9)
