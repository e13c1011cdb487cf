"""The published tables: that an import has every row, and that what is wrong is said and changes nothing."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import cli, cost, files, nasbench201, release, space, tasks
from nasbench_mr.benchmark import Benchmark
from nasbench_mr.data_builders.published import published_files as published
from nasbench_mr.errors import (
    DownloadError,
    IntegrityError,
    InvalidArgumentError,
    NasbenchMRError,
    OutOfSpaceError,
    ReleaseError,
    StorageError,
    TableError,
    UnsafeFileError,
)

#: Mean and maximum of every setting's objective, as the authors' tables have them, to two digits.
SUMMARY = {
    "cls-50-1000": (82.20, 86.16),
    "cls-50-100": (48.58, 57.24),
    "cls-10-1000": (85.71, 90.40),
    "cls-10c": (57.08, 67.96),
    "seg": (72.59, 79.10),
    "seg-4x": (62.21, 68.74),
    "3ddet": (75.64, 80.34),
    "video": (19.55, 28.29),
    "video-p": (30.75, 40.39),
}


Snapshot = Callable[[], dict[str, bytes]]


# --- Published files, made up -------------------------------------------------------------------------

#: Made-up lists have this many codes, and strata that end at these lines; the table lacks two codes of them.
LISTED, ENDS = 40, {"coarse": 12, "deep": 22, "fine": 32}


#: The rows of the made-up cells that have another cell's costs, as 150 of the published ones have.
WRONG = (3, 5)
#: What most tests import: reading and writing all would take them long.
SOME = ("cls-10c", "seg", "3ddet", "nas-bench-201")


def made_up(folder: Path, settings: tuple[str, ...]) -> Path:
    """Files in the published format: the list, and tables of 38 codes or about 50 cells of NAS-Bench-201."""
    rng = np.random.default_rng(0)
    codes = space.sample(LISTED, seed=1)
    (folder / "data").mkdir(parents=True)
    lines = "\n".join(space.to_string(code) for code in codes)
    (folder / published.LIST).write_text(lines, encoding="utf-8")
    tabulated = rng.permutation(codes[[*range(15), *range(17, LISTED)]])
    for setting in settings[:-1]:
        task = tasks.get(setting)
        factor = 4 if setting == "3ddet" else 1
        rows = []
        for code in tabulated:
            parts = space.split(code)
            rows.append(
                {
                    **{m.name: float(np.round(rng.uniform(20, 90), 2)) for m in task.metrics},
                    "flops": factor * int(cost.macs(code)[0]) / 1e9,
                    "params": int(cost.params(code)[0]) / 1e6,
                    "input_channel": list(parts.stem),
                    "inverted_residual_setting": [[len(n), list(n), list(c)] for _, n, c in parts.stages],
                    "last_channel": parts.head,
                    "embedding": code.tolist(),
                }
            )
        write(folder, setting, rows)
    cells = np.unique(nasbench201.sample(50, seed=0), axis=0)
    write(
        folder,
        "nas-bench-201",
        [
            {
                "embedding": nasbench201.relax(cell)[0].astype(np.float32),
                "Acc": 20 + k / 7,
                "Flops": round(int(nasbench201.macs(cell)[0]) / 1e6, 2) + (k in WRONG),
                "Params": round(int(nasbench201.params(cell)[0]) / 1e6, 3),
            }
            for k, cell in enumerate(cells)
        ],
    )
    return folder


def write(folder: Path, setting: str, rows: object) -> None:
    path = folder / "data" / setting / "trainval.pkl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(rows, 4 if setting == "nas-bench-201" else 3))


def read(folder: Path, setting: str) -> Any:
    """Return the rows of a file that this test wrote, or that is among the published ones."""
    return pickle.loads((folder / "data" / setting / "trainval.pkl").read_bytes())


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made-up files of some settings, which count as all there are, and as the published ones."""
    folder = made_up(tmp_path / "upstream", SOME)
    monkeypatch.setattr(published, "SETTINGS", SOME)
    pin(folder, monkeypatch)
    return folder


def pin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = {name: files.git_blob_id(folder / name) for name in published.BLOBS if (folder / name).exists()}
    monkeypatch.setattr(published, "BLOBS", blobs)
    monkeypatch.setattr(published, "SHA256", {name: files.sha256(folder / name) for name in blobs})
    monkeypatch.setattr(published, "STRATA", ENDS)


@pytest.fixture(scope="module")
def real(shared: Path | None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path] | None:
    """Return the published files at hand, and the release made of them."""
    if shared is None:
        return None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NASBENCH_MR_HOME", str(tmp_path_factory.mktemp("published")))
        return shared / "upstream", published.import_release(shared / "upstream").path


@pytest.fixture(params=["made up", "published"])
def imported(
    request: pytest.FixtureRequest,
    real: tuple[Path, Path] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Path, Benchmark]:
    """Made-up files, or the published ones where they are at hand, and a benchmark made of them."""
    if request.param == "published" and real is not None:
        return real[0], nasbench_mr.load(real[1])
    folder = made_up(tmp_path / "upstream", published.SETTINGS)
    pin(folder, monkeypatch)
    return folder, nasbench_mr.load(published.import_release(folder).path)


# --- What an import has -------------------------------------------------------------------------------


def test_every_row_is_there_in_the_published_order(imported: tuple[Path, Benchmark]) -> None:
    folder, bench = imported
    assert bench.tasks == tuple(s for s in published.SETTINGS if (folder / "data" / s).is_dir())
    assert len(bench.tasks) >= 7
    for name in set(bench.tasks) - {"nas-bench-201"}:
        rows = read(folder, name)
        frame = bench.to_pandas(name)
        assert frame[list(space.NAMES)].to_numpy().tolist() == [row["embedding"] for row in rows]
        for metric in bench.task(name).metrics:
            assert frame[metric.name].tolist() == [row[metric.name] for row in rows]
        assert frame["macs"].tolist() == [round(row["flops"] * 1e9) for row in rows]
        assert frame["params"].tolist() == [round(row["params"] * 1e6) for row in rows]
        assert frame["seed"].tolist() == [0] * len(rows)
        assert set(frame["status"]) == {"ok"}
        assert frame[["epochs", "train_seconds", "device", "error"]].isna().all().all()


def test_costs_are_those_of_the_codes_on_every_row(imported: tuple[Path, Benchmark]) -> None:
    _, bench = imported
    for name in set(bench.tasks) - {"nas-bench-201", "3ddet"}:
        frame = bench.to_pandas(name)
        codes = frame[list(space.NAMES)].to_numpy()
        assert (frame["macs"] != cost.macs(codes)).sum() == 0
        assert (frame["params"] != cost.params(codes)).sum() == 0


def test_nas_bench_201_is_a_second_space(imported: tuple[Path, Benchmark]) -> None:
    folder, bench = imported
    rows = read(folder, "nas-bench-201")
    frame = bench.to_pandas("nas-bench-201")
    codes = frame[list(nasbench201.NAMES)].to_numpy()
    assert (nasbench201.relax(codes) == np.stack([row["embedding"] for row in rows])).all()
    assert frame["Acc"].tolist() == [row["Acc"] for row in rows]
    assert frame["macs"].tolist() == nasbench201.macs(codes).tolist()
    assert frame["params"].tolist() == nasbench201.params(codes).tolist()
    assert "stratum" not in frame
    wrong = frame["flag"].notna().sum()
    card = (bench.release.path / "DATASET_CARD.md").read_text()
    assert (
        f"nas-bench-201: {wrong} of {len(frame):,} rows were published with the costs of another cell" in card
    )
    # The published ones are these, rounded, but in the rows with a flag, which says what was published.
    near = [abs(row["Flops"] * 1e6 - macs) < 5001 for row, macs in zip(rows, frame["macs"], strict=True)]
    assert near == frame["flag"].isna().tolist()
    first = near.index(False)
    assert frame["flag"][first] == (
        f"published costs are of another cell: macs {rows[first]['Flops'] * 1e6:.0f}, "
        f"params {rows[first]['Params'] * 1e6:.0f}"
    )


def test_the_published_files_have_the_known_figures(real: tuple[Path, Path] | None) -> None:
    if real is None:
        return  # made-up files have other figures
    bench = nasbench_mr.load(real[1])
    assert bench.release.version == "1.0.0-partial.7"
    for name in set(bench.tasks) - {"nas-bench-201"}:
        values = bench.to_pandas(name)[bench.task(name).objective]
        assert len(values) == 2507
        assert (round(values.mean(), 2), round(values.max(), 2)) == SUMMARY[name]
    cells = bench.to_pandas("nas-bench-201")
    assert len(cells) == 15_625 == nasbench201.SIZE
    assert (round(cells["Acc"].min(), 2), round(cells["Acc"].max(), 2)) == (0.83, 47.33)
    assert cells["flag"].notna().sum() == 150
    strata = bench.to_pandas("seg")["stratum"]
    assert Counter(strata) == {"coarse": 1200, "deep": 796, "fine": 500, "extra": 11}
    best = {limit: bench.best("seg", 1, max_macs=limit)[0]["mIoU"] for limit in (1e9, 2e9, None)}
    assert best == {1e9: 77.17, 2e9: 77.67, None: 79.10}


def test_strata_have_the_values_they_were_drawn_from(real: tuple[Path, Path] | None) -> None:
    if real is None:
        return
    frame = nasbench_mr.load(real[1]).to_pandas("seg")
    channels = [n for n in space.NAMES if n[0] in "co"]
    units = [n for n in space.NAMES if n[0] == "n"]
    modules = [n for n in space.NAMES if n[0] == "b"]
    # (largest i, largest c and o, their step, largest b, largest n)
    for name, (i, c, step, b, n) in {
        "coarse": (64, 128, 16, 3, 4),
        "deep": (64, 128, 16, 4, 4),
        "fine": (32, 64, 8, 2, 2),
    }.items():
        of = frame[frame["stratum"] == name]
        assert set(np.unique(of[["i1", "i2"]])) == set(range(step, i + 1, step))
        assert set(np.unique(of[channels])) == set(range(step, c + 1, step))
        assert set(np.unique(of[modules])) == set(range(1, b + 1))
        assert set(np.unique(of[units])) == set(range(1, n + 1))
    deep = frame[frame["stratum"] == "deep"]
    assert (deep[modules] == 4).any(axis=1).all()


def test_strata_follow_the_list(upstream: Path) -> None:
    frame = nasbench_mr.load(published.import_release(upstream).path).to_pandas("seg")
    # The list's lines 15 and 16 (of "deep") are in no table.
    assert Counter(frame["stratum"]) == {"coarse": 12, "deep": 8, "fine": 10, "extra": 8}
    lines = (upstream / published.LIST).read_text().splitlines()
    for code, stratum in zip(frame[list(space.NAMES)].to_numpy(), frame["stratum"], strict=True):
        line = lines.index(space.to_string(code))
        assert stratum == next((name for name, end in ENDS.items() if line < end), "extra")


def test_the_release_says_where_it_is_from(upstream: Path) -> None:
    made = published.import_release(upstream)
    assert made.about["license"] == "BSD-2-Clause"
    assert made.about["sources"] == {
        name: {"git_blob": published.BLOBS[name], "sha256": published.SHA256[name]}
        for name in published.BLOBS
    }
    assert "Mingyu Ding" in (made.path / "LICENSE").read_text()
    assert "LICENSE" in made.files
    release.verify(made)


def test_a_file_seen_first_is_recorded_and_then_pinned(
    upstream: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "data/seg/trainval.pkl"
    pinned = {other: digest for other, digest in published.SHA256.items() if other != name}
    monkeypatch.setattr(published, "SHA256", pinned)
    digest = files.sha256(upstream / name)
    published.import_release(upstream)
    assert (home / "published.sha256").read_text() == f"{digest}  {name}\n"
    published.import_release(upstream)
    # Another content with the same git blob id, as SHA-1 collisions make them: the record tells.
    (home / "published.sha256").write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(IntegrityError, match=rf"seg/trainval\.pkl has sha256 {digest}; expected 0000"):
        published.import_release(upstream)


def test_the_files_at_hand_have_the_pinned_hashes(shared: Path | None) -> None:
    if shared is None:
        return
    at_hand = [name for name in published.BLOBS if (shared / "upstream" / name).is_file()]
    assert {name: files.sha256(shared / "upstream" / name) for name in at_hand} == published.SHA256


def test_the_settings_are_the_known_tasks() -> None:
    assert {f"data/{s}/trainval.pkl" for s in published.SETTINGS} | {published.LIST} == set(published.BLOBS)
    assert all(tasks.get(s).name == s for s in published.SETTINGS)
    assert all(len(blob) == 40 for blob in published.BLOBS.values())
    assert set(published.SHA256) < set(published.BLOBS)
    assert published.COMMIT in published.SOURCE


# --- Which version ------------------------------------------------------------------------------------


def drop(folder: Path, *settings: str) -> None:
    for setting in settings:
        shutil.rmtree(folder / "data" / setting)


def test_all_files_are_version_1(upstream: Path) -> None:
    made = published.import_release(upstream)
    assert (made.name, made.version) == ("nasbench-mr", "1.0.0")
    assert tuple(made.tasks) == SOME


def test_fewer_files_are_a_version_that_all_supersede(upstream: Path, tmp_path: Path) -> None:
    part = shutil.copytree(upstream, tmp_path / "part")
    drop(part, "cls-10c")
    assert published.import_release(part).version == "1.0.0-partial.3"
    drop(part, "nas-bench-201")
    assert published.import_release(part).version == "1.0.0-partial.2"
    assert release.find("nasbench-mr").name == "1.0.0-partial.3"
    published.import_release(upstream)
    assert release.find("nasbench-mr").name == "1.0.0"
    versions = [version for _, version in release.installed()]
    assert versions == ["1.0.0-partial.2", "1.0.0-partial.3", "1.0.0"]


def test_other_files_as_many_are_another_version(upstream: Path, tmp_path: Path) -> None:
    first = shutil.copytree(upstream, tmp_path / "first")
    second = shutil.copytree(upstream, tmp_path / "second")
    drop(first, "seg")
    drop(second, "3ddet")
    made = published.import_release(first)
    assert made.version == "1.0.0-partial.3"
    assert published.import_release(second).version == "1.0.0-partial.3.2"
    assert published.import_release(first) == made


def test_without_the_list_strata_are_unknown(upstream: Path) -> None:
    (upstream / published.LIST).unlink()
    made = published.import_release(upstream)
    assert made.version == "1.0.0-partial.4"
    assert nasbench_mr.load(made.path).to_pandas("seg")["stratum"].isna().all()


def test_the_same_files_are_imported_once(
    upstream: Path, monkeypatch: pytest.MonkeyPatch, snapshot: Snapshot
) -> None:
    first = published.import_release(upstream)
    before = snapshot()
    monkeypatch.setattr(release, "create", None)  # would fail
    again = published.import_release(upstream)
    assert again == first
    assert snapshot() == before


def test_a_damaged_release_is_noticed(upstream: Path) -> None:
    made = published.import_release(upstream)
    (made.path / "tables" / "seg.parquet").unlink()
    with pytest.raises(
        IntegrityError, match=r"seg\.parquet is missing\. Remove .*1\.0\.0, then run the same"
    ):
        published.import_release(upstream)
    (made.path / release.MANIFEST).write_text("{")
    with pytest.raises(IntegrityError, match=r"Remove .*1\.0\.0, then run"):
        published.import_release(upstream)
    shutil.rmtree(made.path)
    release.verify(published.import_release(upstream))


def test_a_version_1_from_elsewhere_stays(
    upstream: Path, tiny_release: Path, home: Path, snapshot: Snapshot
) -> None:
    place = home / "releases" / "nasbench-mr" / "1.0.0"
    place.parent.mkdir(parents=True)
    shutil.copytree(tiny_release, place)
    manifest = (place / release.MANIFEST).read_text().replace('"name": "tiny"', '"name": "nasbench-mr"')
    (place / release.MANIFEST).write_text(manifest)
    before = snapshot()
    with pytest.raises(ReleaseError, match="with other content; nothing was changed"):
        published.import_release(upstream)
    assert snapshot() == before


def test_other_content_is_refused_unless_it_is_wanted(upstream: Path) -> None:
    rows = read(upstream, "seg")
    rows[0]["mIoU"] = 99.0
    write(upstream, "seg", rows)
    with pytest.raises(
        IntegrityError,
        match=r"seg/trainval\.pkl has (git blob|sha256) \w{40,64}; expected \w{40,64}\. .*fetch.*--unchecked",
    ):
        published.import_release(upstream)
    made = published.import_release(upstream, check=False)
    assert made.version == "1.0.0-altered.4"
    # It is called what it is, and never the default where there is something published.
    assert made.about["title"] == "NAS-Bench-MR: altered, not the published tables"
    assert "so not the published one" in made.tasks["seg"].provenance
    assert release.version_key(made.version) < release.version_key("1.0.0-partial.1")
    assert nasbench_mr.load(made.path).best("seg", 1)[0]["mIoU"] == 99.0


def test_two_processes_import_at_once(tmp_path: Path, home: Path) -> None:
    folder = made_up(tmp_path / "upstream", SOME)
    script = (
        "import sys; from nasbench_mr.data_builders import published; "
        "print(published.import_release(sys.argv[1], check=False).version)"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [child.communicate(timeout=300)[0].strip() for child in children] == ["1.0.0-altered.4"] * 2
    assert [version for _, version in release.installed()] == ["1.0.0-altered.4"]
    assert [p.name for p in (home / "releases").iterdir()] == ["nasbench-mr"]


# --- Files that hold something else -------------------------------------------------------------------

Row = dict[str, Any]


def change(**values: Any) -> Callable[[list[Any]], object]:
    """Change row 3."""
    return lambda rows: rows[3].update(values)


def without(field: str) -> Callable[[list[Any]], object]:
    return lambda rows: rows[3].pop(field)


ALTERED: dict[str, tuple[Callable[[list[Any]], object], type[NasbenchMRError], str]] = {
    "no metric": (without("mAcc"), TableError, "row 3: mAcc is missing; expected a number"),
    "no flops": (without("flops"), TableError, "row 3: flops is missing"),
    "no embedding": (without("embedding"), TableError, "row 3: embedding is not a list of 27 numbers"),
    "nan": (change(mIoU=float("nan")), TableError, "row 3: mIoU is nan; expected a number"),
    "infinity": (change(aAcc=float("inf")), TableError, "row 3: aAcc is inf"),
    "text": (change(mIoU="76.1"), TableError, "row 3: mIoU is '76.1'; expected a number"),
    "a truth": (change(mIoU=True), TableError, "row 3: mIoU is True"),
    "a list": (change(mIoU=[1]), TableError, "row 3: mIoU is a list"),
    "none": (change(params=None), TableError, "row 3: params is None"),
    "too high": (change(mIoU=100.5), TableError, r"row 3: mIoU is 100\.5; expected a number in \[0, 100\]"),
    "negative": (change(mIoU=-1.0), TableError, r"row 3: mIoU is -1\.0"),
    "other macs": (change(flops=1.0), TableError, "row 3: macs is 1000000000; its code has"),
    "other params": (change(params=2.5), TableError, "row 3: params is 2500000; its code has"),
    "huge macs": (change(flops=1e20), TableError, "column 'macs': expected int64"),
    "26 entries": (lambda rows: rows[3]["embedding"].pop(), TableError, "row 3: embedding"),
    "nested": (change(embedding=[[1]] * 27), TableError, "row 3: embedding"),
    "text in the code": (change(embedding=["8"] * 27), TableError, "row 3: embedding"),
    "outside": (
        lambda rows: rows[3]["embedding"].__setitem__(4, 12),
        OutOfSpaceError,
        r"row 3: code\[4\] \(c1_1\) is 12; expected a multiple of 8",
    ),
    "huge": (lambda rows: rows[3]["embedding"].__setitem__(0, 2**100), OutOfSpaceError, r"row 3: code\[0\]"),
    "nan in the code": (
        lambda rows: rows[3]["embedding"].__setitem__(0, float("nan")),
        OutOfSpaceError,
        r"row 3: code\[0\] \(i1\) is nan",
    ),
    "twice": (lambda rows: rows.append(dict(rows[3])), TableError, "rows 3 and 38 are the same trial"),
    "not listed": (
        lambda rows: rows[3].update(
            embedding=[8] * 2 + [1, 1, 8, 1, 1, 1, 8, 8, 1, 1, 1, 1, 8, 8, 8, 1, 1, 1, 1, 1] + [8] * 5
        ),
        TableError,
        r"row 3: its code is not in search_list\.txt",
    ),
    "a row that is a list": (
        lambda rows: rows.__setitem__(3, [1]),
        TableError,
        "row 3 is a list; expected a dict",
    ),
    "no rows": (lambda rows: rows.clear(), TableError, "holds an empty list; expected a list of dicts"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_a_row_that_is_wrong_is_named(name: str, upstream: Path, snapshot: Snapshot) -> None:
    alter, error, message = ALTERED[name]
    drop(upstream, *(s for s in published.SETTINGS if s != "seg"))
    published.import_release(upstream)
    before = snapshot()
    rows = read(upstream, "seg")
    alter(rows)
    write(upstream, "seg", rows)
    with pytest.raises(error, match=rf"data/seg/trainval\.pkl: {message}"):
        published.import_release(upstream, check=False)
    assert snapshot() == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"embedding": np.zeros(30, np.float32)},
            "row 3: embedding does not have one operation for each edge",
        ),
        ({"embedding": np.full(30, 0.2, np.float32)}, "row 3: embedding has other numbers than 0 and 1"),
        ({"embedding": np.zeros(29, np.float32)}, "row 3: embedding is not a list of 30 numbers"),
        ({"embedding": np.zeros((5, 6), np.float32)}, "row 3: embedding is not a list of 30 numbers"),
        ({"Acc": None}, "row 3: Acc is None"),
        ({"Flops": "15.65"}, "row 3: Flops is '15.65'"),
    ],
)
def test_a_cell_that_is_wrong_is_named(values: Row, message: str, upstream: Path) -> None:
    rows = read(upstream, "nas-bench-201")
    rows[3] |= values
    write(upstream, "nas-bench-201", rows)
    with pytest.raises(TableError, match=rf"nas-bench-201/trainval\.pkl: {message}"):
        published.import_release(upstream, check=False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("48_48-1", "line 6: not a code"),
        ("", "line 6: not a code"),
        ("8 " * 27, r"line 6: code\[2\] \(b1\) is 8"),
    ],
)
def test_a_line_that_is_wrong_is_named(line: str, message: str, upstream: Path) -> None:
    path = upstream / published.LIST
    lines = path.read_text().splitlines()
    lines[5] = line
    path.write_text("\n".join(lines))
    with pytest.raises(OutOfSpaceError, match=rf"search_list\.txt: {message}"):
        published.import_release(upstream, check=False)


class _Command:
    def __reduce__(self) -> Any:
        return os.system, ("echo > trace",)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (pickle.dumps(_Command()), UnsafeFileError),
        (pickle.dumps([_Command()] * 10, 2), UnsafeFileError),
        (pickle.dumps([{"embedding": _Command()}]), UnsafeFileError),
        (b"", TableError),
        (b"version https://git-lfs.github.com/spec/v1\n", TableError),
        (pickle.dumps({"a": 1}), TableError),
        (pickle.dumps([1, 2, 3]), TableError),
        (pickle.dumps([]), TableError),
        (b"]" * 100_000 + b"a" * 99_999 + b".", TableError),
    ],
)
def test_a_file_that_is_no_table_does_nothing(
    content: bytes, error: type[NasbenchMRError], upstream: Path, outside: Path, snapshot: Snapshot
) -> None:
    published.import_release(upstream)
    before = snapshot()
    (upstream / "data" / "seg" / "trainval.pkl").write_bytes(content)
    with pytest.raises(IntegrityError):
        published.import_release(upstream)
    with pytest.raises(error, match=r"seg/trainval\.pkl: "):
        published.import_release(upstream, check=False)
    assert list(outside.iterdir()) == []
    assert snapshot() == before


def test_what_can_not_be_written_changes_nothing(
    unwritable: tuple[Callable[[], None], str],
    upstream: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    snapshot: Snapshot,
) -> None:
    part = shutil.copytree(upstream, upstream.parent / "part")
    drop(part, "seg")
    published.import_release(part)
    before = snapshot()
    fail, message = unwritable
    fail()
    with pytest.raises(StorageError, match=message):
        published.import_release(upstream)
    monkeypatch.undo()
    assert {home / "releases" / name: data for name, data in before.items()} == {
        p: p.read_bytes() for p in (home / "releases").rglob("*") if p.is_file()
    }
    assert [p.name for p in (home / "releases" / "nasbench-mr").iterdir()] == ["1.0.0-partial.3"]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.999])
def test_a_truncated_file(part: float, upstream: Path) -> None:
    path = upstream / "data" / "seg" / "trainval.pkl"
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(TableError, match=r"seg/trainval\.pkl: not a whole pickle of plain data"):
        published.import_release(upstream, check=False)


def test_a_folder_without_tables(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(InvalidArgumentError, match=r"has no data/<setting>/trainval\.pkl.*nasbench-mr fetch"):
        published.import_release(tmp_path)
    (tmp_path / published.LIST).write_text("")
    with pytest.raises(InvalidArgumentError, match="fetch"):
        published.import_release(tmp_path)


# --- Fetching -----------------------------------------------------------------------------------------


def serve(server: Any, folder: Path) -> None:
    for name in published.BLOBS:
        server.files[f"/mirror/{name}"] = (folder / name).read_bytes()


def test_fetch_takes_what_is_not_there_yet(upstream: Path, server: Any, tmp_path: Path) -> None:
    serve(server, upstream)
    cache = tmp_path / "cache"
    assert published.fetch(cache, mirror=f"{server.url}/mirror/") == cache
    assert sorted(path for path, _ in server.requests) == sorted(server.files)
    assert published.import_release(cache) == published.import_release(upstream)
    (cache / "data" / "seg" / "trainval.pkl").write_bytes(b"damaged")
    server.requests.clear()
    published.fetch(cache, mirror=f"{server.url}/mirror")
    assert server.requests == [("/mirror/data/seg/trainval.pkl", None)]
    server.requests.clear()
    server.files.clear()
    published.fetch(cache)  # from the cache alone, whatever the address
    assert server.requests == []


def test_the_default_address_is_the_pinned_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nasbench_mr import download

    asked: dict[str, Any] = {}
    monkeypatch.setattr(download, "download", lambda url, path, **more: asked.update({url: (path, more)}))
    published.fetch(tmp_path)
    base = "https://raw.githubusercontent.com/dingmyu/NCP/5259acdf9876c3adf4b8b1133afc3ac0d1077d65"
    assert list(asked) == [f"{base}/{name}" for name in published.BLOBS]
    for (path, more), (name, blob) in zip(asked.values(), published.BLOBS.items(), strict=True):
        assert path == tmp_path / name
        assert more["blob_id"] == blob


def test_a_fetch_that_fails_keeps_what_has_come(
    upstream: Path, server: Any, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(server, upstream)
    last = f"/mirror/{list(published.BLOBS)[-1]}"
    content = server.files.pop(last)
    mirror = f"{server.url}/mirror"
    assert cli.main(["fetch", "--no-surrogates", "--mirror", mirror]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "HTTP 404" in error
    assert "nasbench-mr import FOLDER" in error
    assert not (home / "releases").exists()
    server.files[last] = content[:-1]
    assert cli.main(["fetch", "--no-surrogates", "--mirror", mirror]) == 2
    assert "has sha256" in capsys.readouterr().err
    assert not (home / "releases").exists()
    server.files[last] = content
    server.requests.clear()
    assert cli.main(["fetch", "--no-surrogates", "--mirror", mirror, "--json"]) == 0
    assert server.requests == [(last, None)]
    told = json.loads(capsys.readouterr().out)
    assert told == {"release": "nasbench-mr@1.0.0", "tasks": list(SOME), "missing": []}
    server.files.clear()
    assert cli.main(["fetch", "--no-surrogates"]) == 0
    assert capsys.readouterr().out.startswith("nasbench-mr@1.0.0: cls-10c, seg, 3ddet, nas-bench-201\n")


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nasbench_mr import download

    monkeypatch.setattr(download, "_sleep", lambda seconds: None)
    with pytest.raises(DownloadError, match=r"refused.*Others: --mirror URL, or a local copy"):
        published.fetch(tmp_path, mirror="http://127.0.0.1:9")


# --- nasbench-mr import -------------------------------------------------------------------------------


def test_import_reports_what_is_not_there(
    upstream: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop(upstream, "cls-10c", "3ddet")
    assert cli.main(["import", "--no-surrogates", str(upstream)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "nasbench-mr@1.0.0-partial.2: seg, nas-bench-201",
        "missing there: cls-10c, 3ddet",
        f"installed in {home / 'releases' / 'nasbench-mr' / '1.0.0-partial.2'}",
        "for codes that no one trained: nasbench-mr surrogate fit nasbench-mr",
    ]
    assert cli.main(["import", "--no-surrogates", str(upstream), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "release": "nasbench-mr@1.0.0-partial.2",
        "tasks": ["seg", "nas-bench-201"],
        "missing": ["cls-10c", "3ddet"],
    }
    rows = read(upstream, "seg")
    rows[0]["mIoU"] = 99.0
    write(upstream, "seg", rows)
    assert cli.main(["import", "--no-surrogates", str(upstream)]) == 2
    assert "--unchecked" in capsys.readouterr().err
    assert cli.main(["import", "--no-surrogates", str(upstream), "--unchecked"]) == 0
    assert capsys.readouterr().out.startswith("nasbench-mr@1.0.0-altered.2: ")
