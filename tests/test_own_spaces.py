"""Spaces of one's own from a file to the end: import, queries, predictors, NCP, searches, page, releases."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import predictors, release, search, spaces
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.data_builders import published
from nasbench_mr.domain import Domain
from nasbench_mr.errors import (
    InfeasibleError,
    InvalidArgumentError,
    OutOfSpaceError,
    ReleaseError,
    SpaceError,
    TableError,
)
from nasbench_mr.explorer.payload import pack
from nasbench_mr.grid import Grid
from nasbench_mr.objective import Objective

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
#: Space: its metric, a limit that some codes exceed, how import is told of the metric.
SHAPES = {
    "sizes": ("accuracy", {"max_macs": 2e7}, {"units": {"accuracy": "percent"}}),
    "lm": ("perplexity", {"max_params": 1e7}, {"minimize": ["perplexity"]}),
}


def example() -> ModuleType:
    """Return examples/own_space.py, which makes the tables."""
    found = importlib.util.spec_from_file_location("own_space", EXAMPLES / "own_space.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benchmark]:
    """Both spaces in one release, 150 codes each."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NASBENCH_MR_HOME", str(home))
        made = example()
        for name, (metric, _, options) in SHAPES.items():
            path = EXAMPLES / "spaces" / f"{name}.toml"
            measure = getattr(made, metric)
            made.write_table(Grid.read(path), home / f"{name}.csv", metric, measure, 150)
            published.import_table(home / f"{name}.csv", name, own_space=path, **options)
        yield nasbench_mr.load("local")


def space_of(bench: Benchmark, task: str) -> Grid:
    found = spaces.get(bench.task(task).space)
    assert isinstance(found, Grid)
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_queries(bench: Benchmark, name: str) -> None:
    metric, limit, _ = SHAPES[name]
    space, frame = space_of(bench, name), bench.to_pandas(name)
    # A frame has values, and reads back as the codes.
    assert set(frame[space.NAMES[0]]) <= set(space.dimensions[0].values)
    codes = space.check(frame)
    assert (codes == bench.codes(name)).all()
    assert (frame["macs"] == space.macs(codes)).all()
    for form in (tuple(codes[7].tolist()), space.to_string(codes[7]), space.named(codes[7])):
        assert bench.query(form, name)[metric] == frame[metric][7]
    (cost, most), sign = *limit.items(), bench.task(name).metric().sign
    allowed = frame[frame[cost.removeprefix("max_")] <= most]
    assert 0 < len(allowed) < len(frame)
    best = bench.best(name, 1, **limit)[0]
    assert best[metric] == sign * (sign * allowed[metric]).max()
    front = bench.pareto(name, cost="params")
    assert (np.diff(sign * front[name]) >= 0).all()


def test_a_truth_value_is_no_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a value, True is at position 0 here: a position 1 would be another network, in silence."""
    monkeypatch.setenv("NASBENCH_MR_HOME", str(tmp_path))
    text = 'name = "own"\n[dimensions]\nlayers = [4, 8, 12]\nbias = [true, false]\n'
    (tmp_path / "own.toml").write_text(text)
    (tmp_path / "own.csv").write_text("layers,bias,acc\n8,true,30\n8,false,40\n")
    published.import_table(tmp_path / "own.csv", "own", own_space=tmp_path / "own.toml")
    own = nasbench_mr.load("local")
    assert own.query({"layers": 8, "bias": True}, "own")["acc"] == own.query((1, 0), "own")["acc"] == 30
    for code in ((1, True), [1, True], (1, np.True_)):
        with pytest.raises(OutOfSpaceError, match=r"bias is .*True.*; expected an integer in"):
            own.query(code, "own")


def test_the_smallest_code_is_small_in_what_is_limited() -> None:
    """Of 8 layers: attention has fewer parameters than a convolution, and more MACs."""
    dims: dict[str, list[int] | list[str]] = {}
    for k in range(8):
        dims |= {f"w{k}": [16, 32, 64, 128], f"op{k}": ["conv", "attn"]}
    macs = "+".join(f"w{k} * (1000 if op{k} == 'conv' else 4000)" for k in range(8))
    params = "+".join(f"w{k} * (9 if op{k} == 'conv' else 4)" for k in range(8))
    grid = Grid("mix", dims, {"macs": macs, "params": params})
    for limits, expected in (
        ({"max_macs": 130_000}, (128_000, 1152)),
        ({"max_params": 520}, (512_000, 512)),
    ):
        domain = Domain(grid, **limits)
        assert (domain.macs(domain._smallest)[0], domain.params(domain._smallest)[0]) == expected
    with pytest.raises(InfeasibleError, match=r"the smallest has 0.000128 GMACs"):
        Domain(grid, max_macs=127_000)
    both = Domain(grid, max_macs=330_000, max_params=900)
    assert both.macs(both._smallest)[0] <= 330_000
    assert both.params(both._smallest)[0] <= 900


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", predictors.names())
def test_predictors(bench: Benchmark, name: str, kind: str, tmp_path: Path) -> None:
    space, metric = space_of(bench, name), SHAPES[name][0]
    codes = bench.codes(name)
    values = bench.query_many(codes, name, (metric,))[metric]
    quick = {"ensemble": {"epochs": 60, "members": 3}, "ncp-mlp": {"epochs": 60}, "gbdt": {"rounds": 60}}
    model = predictors.make(kind, seed=0, space=space, **quick.get(kind, {}))
    model.fit(codes[:110], values[:110])
    mean, _ = model.predict(codes[110:])
    assert np.corrcoef(mean[:, 0], values[110:])[0, 1] > 0.6
    model.save(tmp_path / "model.npz")
    assert (predictors.load(tmp_path / "model.npz").predict(codes[110:])[0] == mean).all()


@pytest.mark.parametrize("name", SHAPES)
def test_ncp_finds_a_code_within_the_limits(bench: Benchmark, name: str) -> None:
    metric, limit, _ = SHAPES[name]
    space, sign = space_of(bench, name), bench.task(name).metric().sign
    found = search.ncp(bench, name, seed=0, starts=24, steps=16, polish=3, **limit)
    ((cost, most),) = limit.items()
    assert getattr(space, cost.removeprefix("max_"))([found.best])[0] <= most
    truth = getattr(example(), metric)(space.named(found.best), int(space.params([found.best])[0]), 0.0)
    # Better than the best of the table, whose noise has a standard deviation of 0.2.
    assert sign * truth > sign * bench.best(name, 1, **limit)[0][metric] - 0.6
    assert found.pareto.macs.tolist() == sorted(found.pareto.macs.tolist())
    first = space.named(found.best)
    kept = dict([next(iter(first.items()))])
    again = search.ncp(bench, name, seed=0, starts=8, steps=4, polish=1, fixed=kept)
    assert space.named(again.best)[next(iter(kept))] == next(iter(kept.values()))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", [kind for kind in search.names() if kind not in ("halving", "hyperband")])
def test_searches(bench: Benchmark, name: str, kind: str) -> None:
    objective = Objective.table(bench, name, **SHAPES[name][1])
    quick = {
        "guided": {"initial": 12, "members": 2},
        "ncp": {"starts": 8, "steps": 4},
        "tpe": {"initial": 10},
    }
    trace = search.run(search.make(kind, objective, seed=0, **quick.get(kind, {})), objective, 24)
    assert len(trace.codes) == 24
    assert objective.domain.contains(trace.codes).all()
    assert trace.best_value <= objective.best()


def test_a_whole_space_larger_than_any_list(bench: Benchmark) -> None:
    wide = Grid(
        "wide",
        {"op": ["a", "b", "c"], **{f"w{k}": list(range(1, 9)) for k in range(12)}},
        {"macs": " + ".join(f"w{k}" for k in range(12)) + " + 40 * (op == 'b')", "params": "w0"},
    )
    codes = wide.sample(200, seed=0)
    # Larger widths are better, and "b" best of all, which no code within the limit can have.
    values = wide.macs(codes) + 3.0 * (codes[:, 0] == 2)
    model = predictors.make("ensemble", space=wide, epochs=150, members=3).fit(
        codes, values, names=("value",)
    )
    found = search.ncp(model, "value", max_macs=50, starts=16, steps=25, polish=2)
    assert wide.macs([found.best])[0] <= 50
    assert wide.macs([found.best])[0] >= 47
    assert found.best[0] != 1
    domain = Domain(wide, max_macs=50)
    for kind in ("random", "local", "evolution", "tpe"):
        made = search.make(kind, domain, seed=0)
        asked = made.ask(30)
        assert domain.contains(asked).all()
        made.tell(asked, wide.macs(asked))


def test_compare_and_a_surrogate(bench: Benchmark) -> None:
    found = search.compare(bench, "lm", ("random", "evolution"), budget=20, seeds=3, workers=0)
    assert found.final().shape == (1, 2)
    space = space_of(bench, "lm")
    assert all(space.parse(code) for code in found.runs["code"])
    predictors.fit_surrogates(bench, tasks=["lm"])
    fitted = nasbench_mr.load("local")
    known = {tuple(code) for code in fitted.codes("lm").tolist()}
    code = next(c for c in map(tuple, space.sample(200, seed=5).tolist()) if c not in known)
    answer = fitted.query(code, "lm")
    assert answer.source == "surrogate"
    assert answer.distance >= 1
    assert answer["params"] == space.params([code])[0]


def test_the_page_has_its_values(bench: Benchmark) -> None:
    import zlib

    block = zlib.decompress(pack(bench, None, None)[1])
    header = json.loads(block[4 : 4 + int.from_bytes(block[:4], "little")])
    sizes, lm = header["spaces"]
    assert lm["form"] == "layers={0},width={1},heads={2},bias={3},activation={4}"
    assert lm["words"][3:] == [["true", "false"], ["relu", "gelu", "swiglu"]]
    assert lm["choices"] == [False, False, False, True, True]
    assert sizes["words"][0] == ["8", "16", "24", "32", "40", "48", "56", "64"]


ELSEWHERE = """
import sys, nasbench_mr
bench = nasbench_mr.load(sys.argv[1])
print(bench.query(sys.argv[2], "lm")["params"])
"""


def test_a_release_has_all_that_reads_it_elsewhere(bench: Benchmark, tmp_path: Path) -> None:
    made = release.pack(bench.releases[0], tmp_path)
    environment = {**os.environ, "NASBENCH_MR_HOME": str(tmp_path / "home")}
    space, code = space_of(bench, "lm"), bench.codes("lm")[3]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, made, space.to_string(code)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{space.params(code)[0]}\n"
    card = (bench.releases[0].path / "DATASET_CARD.md").read_text()
    assert "- `width` (ordinal): 128, 256, 384, 512, 768" in card.replace("  - ", "- ")


# --- What is refused ----------------------------------------------------------------------------------


def imported(tmp_path: Path, text: str, **options: object) -> release.Release:
    path = tmp_path / "t.csv"
    path.write_text(text)
    return published.import_table(path, "t", own_space=EXAMPLES / "spaces/lm.toml", **options)  # type: ignore[arg-type]


HEADER = "layers,width,heads,bias,activation,acc\n"


@pytest.mark.parametrize(
    ("text", "error", "why"),
    [
        (HEADER + "3,128,4,true,relu,50\n", OutOfSpaceError, "row 0: layers is 3; expected one of 2, 4, 6"),
        (
            HEADER + "2,128,4,true,relu,50\n2,128,4,true,tanh,51\n",
            OutOfSpaceError,
            "row 1: activation is 'tanh'",
        ),
        (HEADER + "2,128,,true,relu,50\n", OutOfSpaceError, "row 0: heads is None"),
        (HEADER + "2,128,4,true,relu,50\n2,128,4,true,relu,51\n", TableError, "the same trial"),
        ("layers,width,acc\n2,128,50\n", TableError, "there is no column 'heads'"),
        ("i1,acc\n8,50\n", TableError, "no codes: expected a column 'code', or layers, width, heads"),
        ("code,acc\nlayers=2 width=128,50\n", OutOfSpaceError, "the mapping lacks heads"),
        (
            HEADER.replace("acc", "macs,acc") + "2,128,4,true,relu,7,50\n",
            TableError,
            "macs is 7; its code has",
        ),
    ],
)
def test_files_that_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, error: type[Exception], why: str
) -> None:
    monkeypatch.setenv("NASBENCH_MR_HOME", str(tmp_path / "home"))
    with pytest.raises(error, match=why.replace("(", r"\(")):
        imported(tmp_path, text)


def test_a_task_keeps_its_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASBENCH_MR_HOME", str(tmp_path / "home"))
    imported(tmp_path, "code;acc\nlayers=2,width=128,heads=4,bias=true,activation=relu;50\n")
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "4,128,4,true,relu,50\n")
    made = published.import_table(path, "t")  # the task knows its space
    assert made.files["tables/t.parquet"]["rows"] == 2
    with pytest.raises(InvalidArgumentError, match=r"of the space lm@.*, not of sizes@"):
        published.import_table(path, "t", own_space=EXAMPLES / "spaces/sizes.toml")
    with pytest.raises(SpaceError, match="can't be read"):
        published.import_table(path, "u", own_space=tmp_path / "none.toml")


def test_costs_of_a_space_without_formulas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASBENCH_MR_HOME", str(tmp_path / "home"))
    (tmp_path / "s.toml").write_text("name = 's'\n[dimensions]\nw = [1, 2, 3]\n")
    rows = [f"{w},{w * 10},{50 + w}" for w in (1, 2, 3)]
    (tmp_path / "t.csv").write_text("\n".join(["w,macs,acc", *rows]))
    published.import_table(tmp_path / "t.csv", "t", own_space=tmp_path / "s.toml")
    bench = nasbench_mr.load("local")
    assert bench.best("t", 1, max_macs=25)[0].code == (1,)
    assert bench.task("t").cost == "table"
    found = search.ncp(bench, "t", max_macs=25, starts=4, steps=3, polish=1)
    assert found.best in [(0,), (1,)]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda told: told.update(dimensions={"w": [1]}), "expected a list of 2 to 256"),
        (lambda told: told.update(name="other"), "is other@"),
        (lambda told: told.update(costs={"macs": "__import__('os')", "params": "1"}), "is not allowed"),
    ],
)
def test_a_hostile_manifest(bench: Benchmark, tmp_path: Path, change: object, why: str) -> None:
    folder = tmp_path / "release"
    data = json.loads((bench.releases[0].path / "release.json").read_text())
    change(data["spaces"][bench.task("lm").space])  # type: ignore[operator]
    folder.mkdir()
    (folder / "release.json").write_text(json.dumps(data))
    with pytest.raises(ReleaseError, match=why):
        release.Release.open(folder)
    data["spaces"] = ["lm"]
    (folder / "release.json").write_text(json.dumps(data))
    with pytest.raises(ReleaseError, match="spaces is"):
        release.Release.open(folder)
