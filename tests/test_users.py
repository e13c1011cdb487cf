"""What users met, one test a kind: wrong in silence, lost, hung, or a traceback.

Append a small function for a new kind; the tests of a module say the rest.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nasbench_mr
from nasbench_mr import cost, space
from nasbench_mr.cli import main

#: A code that no table has.
UNKNOWN = space.to_string(space.UPPER)

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
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
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
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
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
