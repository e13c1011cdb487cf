"""`nasbench-mr search` and `compare`: what they print, as JSON too, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nasbench_mr
from nasbench_mr import cost, measured, nasbench201, release, search, space
from nasbench_mr.data_builders import published
from nasbench_mr.objective import Objective

Run = Callable[..., tuple[int, str, str]]
#: A search that takes no time.
QUICK = ("--starts", "8", "--steps", "5")


def test_search_prints_a_code_and_what_is_known_of_it(read: Any, run: Run, tiny_release: Path) -> None:
    asked = ("search", "seg", "video", "--max-macs", "2G", "--release", tiny_release, *QUICK)
    found = read(*asked)
    assert space.parse(found["string"]) == tuple(found["code"])
    assert found["macs"] == cost.macs(found["code"])[0] <= 2e9
    assert found["params"] == cost.params(found["code"])[0]
    assert [(row["task"], row["metric"]) for row in found["tasks"]] == [("seg", "mIoU"), ("video", "top1")]
    bench = nasbench_mr.load(tiny_release)
    codes = bench.codes("seg")
    distance = (abs(codes - found["code"]) // space.STEP).sum(axis=1)
    nearest = bench.query(tuple(codes[distance.argmin()].tolist()), "seg")
    row = found["tasks"][0]
    assert (row["nearest"], row["distance"]) == (nearest["mIoU"], distance.min())
    assert row["nearest GMACs"] == pytest.approx(nearest["macs"] / 1e9)
    assert row["best alone"] == bench.best("seg", 1, max_macs=2e9)[0]["mIoU"]
    # One tabulated code for both, which may be the best of neither.
    joint = found["best joint"]
    for row_of, metric in zip(found["tasks"], ("mIoU", "top1"), strict=True):
        told = bench.query(joint["code"], row_of["task"], source="table")[metric]
        assert row_of["best joint"] == joint["values"][row_of["task"]] == told
    objective = Objective.table(bench, "seg,video", max_macs=2e9)
    assert objective.evaluate(np.array([joint["code"]]))[0] == objective.best()
    assert row["std"] > 0
    assert read("search", "seg+video", *asked[3:]) == found
    # The same in words.
    status, out, _ = run(*asked)
    assert status == 0
    assert out.splitlines()[0] == found["string"]
    assert f"{found['macs'] / 1e9:.3f} GMACs" in out
    assert f"{row['predicted']:.2f}" in out


def test_search_weighs_fixes_and_starts(read: Any, tiny_release: Path) -> None:
    where = ("--release", tiny_release, *QUICK)
    fixed = read("search", "--tasks", "seg=2,video", "--fixed", "i1=16,i2=24", *where)
    assert fixed["code"][:2] == [16, 24]
    bench = nasbench_mr.load(tiny_release)
    start = bench.codes("seg")[12]
    improved = read("search", "--tasks", "seg", "--start", "#12", "--more-macs", 10, *where)
    assert improved["macs"] <= 1.1 * cost.macs(start)[0]
    same = read("search", "--tasks", "seg", "--start", space.to_string(start), "--more-macs", 10, *where)
    assert same == improved


def test_the_best_trained_code_is_one_that_could_be_found(read: Any) -> None:
    """Only codes of i1=16: the best of all has another."""
    asked = ("search", "mini-seg", "--searcher", "random", "--budget", 300, "--release", "mini")
    (found,) = read(*asked, "--fixed", "i1=16")["tasks"]
    bench = nasbench_mr.load("mini")
    frame = bench.to_pandas("mini-seg").groupby(list(space.NAMES))["mIoU"].mean().reset_index()
    best = frame[frame["i1"] == 16]["mIoU"].max()
    assert found["best trained"] == found["measured"] == pytest.approx(best)
    assert best < frame["mIoU"].max()


def test_search_with_another_search_asks_the_table(read: Any, tiny_release: Path) -> None:
    found = read(
        "search", "--tasks", "seg", "--searcher", "random", "--budget", 60, "--release", tiny_release
    )
    # 60 codes have values, so all were asked.
    best = Objective.table(nasbench_mr.load(tiny_release), "seg").best()
    assert found["tasks"][0]["measured"] == best
    assert found["tasks"][0]["distance"] == 0


def test_search_prints_the_front_of_a_table_and_of_a_search(read: Any, run: Run, tiny_release: Path) -> None:
    asked = ("search", "seg", "macs", "--front", "--max-macs", "9G", "--release", tiny_release)
    found = read(*asked)
    made = Objective.table(nasbench_mr.load(tiny_release), ("seg", "macs"), max_macs=9e9, front=True)
    whole = made.front()
    assert whole is not None
    codes, values = whole
    assert [row["code"] for row in found["front"]] == codes.tolist()
    assert [list(row["values"].values()) for row in found["front"]] == values.tolist()
    assert found["objectives"] == ["seg", "macs"]
    assert found["hypervolume"] == pytest.approx(made.best()) == pytest.approx(found["best hypervolume"])
    few = read(*asked, "--searcher", "pareto-local", "--budget", 12, "--seed", 3)
    trace = search.run(search.make("pareto-local", made, 3), made, 12)
    assert few["hypervolume"] == pytest.approx(trace.best_value)
    assert few["hypervolume"] < few["best hypervolume"]
    assert {tuple(row["code"]) for row in few["front"]} == {tuple(code) for code in trace.front.tolist()}
    status, out, _ = run(*asked)
    assert status == 0
    assert out.startswith(f"{len(codes)} codes that no other one beats; hypervolume {made.best():.4f} of")
    assert f"{values[0, 1] / 1e9:.2f}"[:4] in out.splitlines()[4]
    assert out.splitlines()[2].split() == ["seg", "GMACs", "code"]


@pytest.fixture
def small(tmp_path: Path) -> tuple[str, ...]:
    """Import the 12 codes of a space of one's own, of which those with w = 0 cost nothing, and ask for it."""
    (tmp_path / "g4.toml").write_text(
        'name = "g4"\n[dimensions]\nw = [0, 16, 32, 48]\ndepth = [1, 2, 3]\n'
        '[costs]\nmacs = "100 * w * depth"\nparams = "10 * w * depth"\n'
    )
    rows = [f"{w},{depth},{10 + w + 3 * depth}" for w in (0, 16, 32, 48) for depth in (1, 2, 3)]
    (tmp_path / "g4.csv").write_text("\n".join(["w,depth,accuracy", *rows]) + "\n")
    table, where = tmp_path / "g4.csv", tmp_path / "g4.toml"
    published.import_table(table, "g4", own_space=where, units={"accuracy": "percent"})
    return ("search", "g4", "--release", "local", *QUICK)


def test_search_takes_codes_that_cost_nothing(read: Any, run: Run, small: tuple[str, ...]) -> None:
    found = read(*small, "--max-params", "1")
    assert found["string"].startswith("w=0,")
    assert (found["macs"], found["params"]) == (0, 0)
    status, _, err = run(*small, "--start", "w=0,depth=1", "--more-macs", "10")
    assert status == 2
    assert (
        "--more-macs is 10 percent more than the MACs of --start, which are 0; give --max-macs instead" in err
    )


def test_search_tells_costs_with_the_digits_of_its_table(run: Run, small: tuple[str, ...]) -> None:
    """The least network with a cost has 1600 MACs and 160 parameters, which three decimals of G are not."""
    status, out, _ = run(*small, "--fixed", "w=16,depth=1")
    assert status == 0
    assert out.splitlines()[:2] == ["w=16,depth=1", "1.6e-06 GMACs, 0.00016 M parameters"]
    assert out.splitlines()[-1].split()[-2] == "1.6e-06"


def test_search_tells_each_cost_that_is_known(read: Any, run: Run, tmp_path: Path) -> None:
    """A space without formulas has the costs that its table has: here MACs, and no parameters."""
    (tmp_path / "bare.toml").write_text('name = "bare"\n[dimensions]\nw = [1, 2, 3]\nn = [1, 2, 3, 4]\n')
    rows = [f"{w},{n},{20 * w + n},{w * n * 10**9}" for w in (1, 2, 3) for n in (1, 2, 3, 4)]
    (tmp_path / "bare.csv").write_text("\n".join(["w,n,accuracy,macs", *rows]) + "\n")
    published.import_table(
        tmp_path / "bare.csv", "bare", own_space=tmp_path / "bare.toml", units={"accuracy": "percent"}
    )
    asked = ("search", "bare", "--fixed", "w=3,n=4", "--release", "local", *QUICK)
    found = read(*asked)
    assert (found["macs"], found["params"]) == (12 * 10**9, None)
    assert found["tasks"][0]["nearest GMACs"] == 12
    assert run(*asked)[1].splitlines()[1] == "12.000 GMACs, parameters unknown"


def test_search_tells_one_kind_of_macs(read: Any, tmp_path: Path) -> None:
    """Where a table has its own costs, here of a larger image, the formula tells of both codes."""
    codes = space.sample(12, seed=0)
    frame = pd.DataFrame(codes, columns=list(space.NAMES))
    frame["acc"], frame["macs"] = np.linspace(10, 60, 12), cost.macs(codes, resolution=224)
    frame.to_csv(tmp_path / "mine.csv", index=False)
    published.import_table(tmp_path / "mine.csv", "mine", trust_costs=True)
    kept = ",".join(f"{name}={value}" for name, value in zip(space.NAMES, codes[7].tolist(), strict=True))
    found = read("search", "mine", "--fixed", kept, "--release", "local", *QUICK)
    assert (found["code"], found["tasks"][0]["distance"]) == (codes[7].tolist(), 0)
    assert found["tasks"][0]["nearest GMACs"] * 1e9 == found["macs"] == cost.macs(codes[7:8])[0]


def test_what_a_surrogate_says_is_predicted_not_measured(read: Any) -> None:
    found = read(
        *("search", "--release", "mini", "--tasks", "mini-seg", "--searcher", "random"),
        *("--budget", 5, "--source", "surrogate"),
    )
    told = nasbench_mr.load("mini").query(found["code"], "mini-seg", source="surrogate")
    row = found["tasks"][0]
    assert "measured" not in row
    assert (row["predicted"], row["std"]) == (told["mIoU"], told.std["mIoU"])


def test_search_exports_a_network(read: Any, tiny_release: Path, tmp_path: Path) -> None:
    target = tmp_path / "net.py"
    where = ("--release", tiny_release, *QUICK)
    found = read("search", "--tasks", "seg,video", "--export", target, "--head", "video", *where)
    assert found["export"] == str(target)
    scope: dict[str, Any] = {"__name__": "net"}
    exec(compile(target.read_text(), "net.py", "exec"), scope)
    network = scope["build"]()
    # HMDB51 has 51 classes; limits count 50 for every task.
    params = sum(p.numel() for p in network.parameters())
    assert params == cost.params(found["code"], num_classes=51)[0] == found["exported"]["params"]
    assert found["exported"]["macs"] == cost.macs(found["code"], num_classes=51)[0]
    assert found["params"] == cost.params(found["code"])[0]
    header = target.read_text()
    assert f"{cost.macs(found['code'])[0]:,} MACs for a 1x3x128x128 input" in header
    assert f"of 51 classes: {found['exported']['macs']:,} MACs and {params:,} parameters" in header


def test_search_prints_the_table_of_every_pair(read: Any, run: Run, tiny_release: Path) -> None:
    asked = (
        "search",
        "--tasks",
        "seg,video",
        "--transfer",
        "--max-macs",
        "3e9",
        "--release",
        tiny_release,
        *QUICK,
    )
    found = read(*asked)
    assert found["tasks"] == ["seg", "video"]
    assert [space.parse(s) for s in found["strings"]] == [tuple(code) for code in found["codes"]]
    assert max(found["macs"]) <= 3e9
    assert [found["regret"][k][k] for k in range(2)] == [0, 0]
    status, out, _ = run(*asked)
    assert status == 0
    assert f"seg: {found['strings'][0]}" in out


def test_the_published_loops_settings_are_part_of_the_preset(read: Any, tiny_release: Path) -> None:
    asked = ("search", "seg", "--steps", "12", "--release", tiny_release)
    found = read(*asked, "--preset", "paper:rate=1:rounded=True:loss=l2")
    bench = nasbench_mr.load(tiny_release)
    changed = {"rate": 1, "rounded": True, "loss": "l2"}
    expected = search.ncp(bench, "seg", preset="paper", steps=12, **changed)  # type: ignore[arg-type]
    assert tuple(found["code"]) == expected.best
    assert tuple(read(*asked, "--preset", "paper")["code"]) != expected.best


def test_search_knows_the_second_space(read: Any, known_release: Path) -> None:
    found = read(
        "search",
        "--tasks",
        "nas-bench-201",
        "--searcher",
        "local",
        "--budget",
        40,
        "--release",
        known_release,
    )
    assert found["string"].startswith("|")
    assert found["macs"] == nasbench201.macs(found["code"])[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "sego"], "no task 'sego': did you mean 'seg'"),
        (["--tasks", "seg/mIuO"], "no metric 'mIuO'"),
        (["--tasks", "seg,seg"], "expected distinct names"),
        (["--tasks", "seg=much"], "the weight of 'seg' is 'much'; expected a number"),
        (["--tasks", "seg=-1"], "expected a positive number"),
        (["--tasks", "seg", "--max-macs", "1"], "no code has at most 1e-09 GMACs"),
        (["--tasks", "seg", "--max-macs", "lots"], "'lots' is not a valid cost limit"),
        (["--tasks", "seg", "--fixed", "i1"], "'i1' is not a dimension"),
        (["--tasks", "seg", "--fixed", "i7=8"], "no dimension 'i7'"),
        (["--tasks", "seg", "--start", "#999"], "no code '#999'"),
        (["--tasks", "seg", "--start", "1_2"], "not a code"),
        (["--tasks", "seg", "--more-macs", "10"], "give --start"),
        (["--tasks", "seg", "--start", "#1", "--more-macs", "1", "--max-macs", "1G"], "no --max-macs"),
        (
            ["--tasks", "seg", "--start", "#1", "--more-macs", "-200"],
            "--more-macs is -200; expected a percentage",
        ),
        (
            ["--tasks", "seg,video", "--transfer", "--export", "net.py"],
            "--export has no effect with --transfer",
        ),
        (
            ["--tasks", "seg", "--searcher", "random", "--preset", "paper", "--steps", "5"],
            "--preset, --steps have no effect with --searcher",
        ),
        (["--tasks", "seg", "--searcher", "random", "--start", "#1"], "--start has no effect"),
        (["--tasks", "seg", "--budget", "5"], "--budget has no effect without --searcher"),
        (["--tasks", "seg", "--head", "video"], "--head has no effect without --export"),
        (["--tasks", "seg", "--preset", "papre"], "did you mean 'paper'"),
        (["--tasks", "seg", "--preset", "paper:rat=1"], "no option 'rat': did you mean 'rate'"),
        (["--tasks", "seg", "--preset", "paper:rate"], "'rate' is not an option; expected name=value"),
        (["--tasks", "seg", "--preset", "paper:rate=0"], "rate is 0; expected a positive number"),
        (["--tasks", "seg", "--preset", "paper:winner=yes"], "winner is 'yes'; expected True or False"),
        (["--tasks", "seg", "--starts", "0"], "starts is 0"),
        (["--tasks", "seg", "--searcher", "evolutoin"], "did you mean 'evolution'"),
        (["--tasks", "seg", "--searcher", "random", "--source", "oracle"], "expected table or surrogate"),
        (["--tasks", "seg", "--searcher", "random", "--budget", "0"], "budget is 0"),
        (["--tasks", "seg", "--searcher", "random", "--source", "surrogate"], "has no surrogate"),
        (
            ["--tasks", "seg", "--searcher", "random", "--seed", "-1"],
            "seed is -1; expected an integer, at least",
        ),
        (["--tasks", "seg", "--seed", "-1"], "seed is -1; expected an integer, at least 0"),
        (
            ["--tasks", "seg", "--preset", "paper", "--starts", "5"],
            "--starts has no effect with --preset paper",
        ),
        (["--tasks", "video", "--searcher", "halving"], "needs learning curves"),
        (["--tasks", "seg", "--export", "net.txt", *QUICK], "ends in .py"),
        ([], "no task is named; expected nasbench-mr search TASK"),
        (["seg=2", "macs", "--front"], "'seg=2' has a weight, which a front does not use"),
        (["seg=2", "video", "--transfer"], "'seg' has a weight, which a transfer does not use"),
        (["seg", "--front"], "a front of seg; expected 2 to 4 objectives"),
        (["macs", "--front"], "macs are costs alone; expected a task as well"),
        (
            ["seg", "macs", "--front", "--export", "n.py", "--steps", "3"],
            "--export, --steps have no effect with",
        ),
        (["seg", "macs", "--front", "--budget", "9"], "--budget has no effect without --searcher"),
        (["seg", "macs", "--front", "--searcher", "evolution"], "'evolution' maximises one value"),
        (["seg", "--measure"], "--measure has no effect without --limit"),
        (
            ["seg", "--limit", "macs=1e8", "--measure"],
            "without --limit of a measured cost, such as latency_ms",
        ),
    ],
)
def test_search_refuses_mistakes_in_one_line(
    arguments: list[str], message: str, run: Run, tiny_release: Path
) -> None:
    status, out, err = run("search", *arguments, "--release", tiny_release)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("limit", "about", "message"),
    [
        ("memory_mb@cpu@mine=3", {}, "'memory_mb@cpu@mine' can't be measured alone; expected a latency"),
        ("latency_ms@cpu@mine=3", {"name": "Z80"}, "was measured with name 'Z80', this machine has name"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_search(
    limit: str, about: dict[str, str], message: str, run: Run, tiny_release: Path, monkeypatch: Any
) -> None:
    row = {"code": [8 if k not in space.DEPTH_DIMS else 1 for k in range(27)], "runtime": "torch"}
    row |= dict.fromkeys(("batch", "threads", "repeats", "outliers"), 1) | {"size": 32}
    row |= dict.fromkeys(measured.UNITS, 2.0)
    described = {"device": "cpu", "repeat": 4, "clock": "cpu", **measured.this_machine(), **about}
    release.create(lambda to: measured.write(to / "costs/cpu.parquet", [row], described), "mine", "1.0.0", [])
    monkeypatch.setattr("nasbench_mr.cli.searches.ncp", lambda *_, **__: pytest.fail("it searched"))
    status, _, err = run("search", "seg", "--limit", limit, "--measure", "--release", tiny_release)
    assert status == 2
    assert message in err


def test_compare_prints_regret_ranks_and_tests(
    read: Any, run: Run, known_release: Path, tmp_path: Path
) -> None:
    asked = (
        "compare", "--tasks", "seg,video", "--searchers", "random,local", "--budget", "12", "--seeds", "5",
        "--workers", "0", "--release", known_release, "--out", tmp_path / "kept",
    )  # fmt: skip
    status, out, err = run(*asked)
    assert (status, err) == (0, "")
    found = read(*asked)
    for text in (
        "Median regret after 12 evaluations, 5 runs each",
        "Mean rank",
        "Over 10 runs: pairs, Wilcoxon and Holm",
    ):
        assert text in out
    for task in ("seg", "video"):
        assert f"{found['regret'][task]['random']:.2f}" in out
        assert sum(found["ranks"][task].values()) == pytest.approx(3)
    assert found["tests"]["pairs"][0]["p_holm"] == found["tests"]["pairs"][0]["p"]
    assert (tmp_path / "kept" / "trace.parquet").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "sego"], "no task 'sego'"),
        (["--tasks", "seg", "--searchers", "rendom"], "did you mean 'random'"),
        (["--tasks", "seg", "--searchers", "evolution:population"], "is not an option; expected name=value"),
        (["--tasks", "seg", "--budget", "0"], "budget is 0"),
        (["--tasks", "seg", "--seeds", "none"], "--seeds: 'none' is not a whole number"),
        (
            ["seg", "video", "--front"],
            "'seg' is one objective; expected those of a front joined with \"+\", such as seg+video",
        ),
        (["seg", "--front"], "such as seg+macs"),
        (["macs+params", "--front"], "macs, params are costs alone; expected a task as well"),
        (["--tasks", "seg", "--max-params", "1"], "no code of the table"),
        (["seg", "--limit", "latency"], "--limit 'latency': expected COST=N once"),
        (["seg", "--limit", "latency_ms@phone=2"], "no measured costs of 'phone'"),
        (
            ["nas-bench-201", "--limit", "latency_ms@cpu@nasbench-mr-costs=2"],
            "is a cost of 'nasbench-mr' codes, not of",
        ),
    ],
)
def test_compare_refuses_mistakes_in_one_line(
    arguments: list[str], message: str, run: Run, known_release: Path
) -> None:
    status, out, err = run("compare", *arguments, "--release", known_release, "--workers", "0")
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
