"""Every parser of outside input, as a function of bytes, with inputs that it reads.

`run.py` fuzzes them; `tests/test_hostile.py` runs each on its seeds and on what fuzzing found. A parser may
answer or raise a `NasbenchMRError` with a text; anything else is a find.
"""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from nasbench_mr import space, spaces, table, tasks
from nasbench_mr.benchmark import load
from nasbench_mr.checks import json_object
from nasbench_mr.errors import NasbenchMRError, SpaceError

PARSERS: dict[str, Parser] = {}


@dataclass(frozen=True)
class Parser:
    """A parser of outside input.

    Attributes:
        read: reads bytes, with an empty folder to write them to.
        seeds: inputs that are read without an error, more or less.
    """

    read: Callable[[bytes, Path], object]
    seeds: Callable[[], Iterator[bytes]]

    def __call__(self, data: bytes) -> NasbenchMRError | None:
        """Read the input; return the named error that it ended in, if any."""
        shared = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
            try:
                self.read(data, Path(folder))
            except NasbenchMRError as error:
                return error
        return None


def parser(
    seeds: Callable[[], Iterator[bytes]],
) -> Callable[[Callable[[bytes, Path], object]], Callable[[bytes, Path], object]]:
    """Add a function to the parsers, under its name without "read_"."""

    def add(read: Callable[[bytes, Path], object]) -> Callable[[bytes, Path], object]:
        PARSERS[read.__name__.removeprefix("read_")] = Parser(read, seeds)
        return read

    return add


def text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def file(data: bytes, folder: Path, name: str) -> Path:
    """Return the bytes as a file, whose folder is made."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# --- Codes and tables ---------------------------------------------------------------------------------

CODES = space.sample(4, seed=0)
SEG = tasks.get("seg")


def codes() -> Iterator[bytes]:
    for code in CODES:
        yield space.to_string(code).encode()
        yield json.dumps(code.tolist()).encode()
        yield json.dumps(dict(zip(space.NAMES, code.tolist(), strict=True))).encode()
    yield b"|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"


@parser(codes)
def read_code(data: bytes, folder: Path) -> None:
    for name in ("nasbench-mr", "nas-bench-201"):
        where = spaces.get(name)
        try:
            code = where.parse(text(data))
        except NasbenchMRError:
            continue
        assert where.parse(where.to_string(code)) == code


def csvs() -> Iterator[bytes]:
    header = ",".join([*space.NAMES, "seed", "acc"])
    rows = [",".join(map(str, [*code.tolist(), 0, 50 + k])) for k, code in enumerate(CODES)]
    yield "\n".join([header, *rows]).encode()
    yield "\n".join(["code;acc", *(f"{space.to_string(c)};0,5" for c in CODES)]).encode("utf-16")
    yield "\n".join(["code\tacc\tflops", *(f"{space.to_string(c)}\t3%\tNA" for c in CODES)]).encode()


def imported(path: Path, folder: Path) -> None:
    from nasbench_mr.data_builders.published import import_table

    with mock.patch.dict(os.environ, NASBENCH_MR_HOME=str(folder / "home")):
        import_table(path, "a-task", objective="acc")


@parser(csvs)
def read_csv(data: bytes, folder: Path) -> None:
    imported(file(data, folder, "trials.csv"), folder)


@functools.cache
def described() -> Any:
    return trials()


def lists() -> Iterator[bytes]:
    yield b"\n".join([b"# two codes", *codes()][:3])
    yield next(csvs())


@parser(lists)
def read_codes(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.building import runner

    for name in ("codes.txt", "codes.csv"):
        try:
            runner.read_codes(file(data, folder, name))
        except NasbenchMRError as error:
            last = error
        else:
            return
    raise last


@parser(lambda: iter([parquet(trials())]))
def read_parquet_codes(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.building import runner

    runner.read_codes(file(data, folder, "codes.parquet"))


def trials(**more: Any) -> Any:
    return table.to_arrow(SEG, {"codes": CODES, "mIoU": [50.0, 60, 70, 80]} | more)


def parquet(arrow: Any) -> bytes:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(arrow, sink)
    return sink.getvalue()


def tables() -> Iterator[bytes]:
    yield parquet(trials())
    yield parquet(trials(status=["ok", "ok", "diverged", "failed"], error=[None, None, "nan", "x"]))


@parser(tables)
def read_table(data: bytes, folder: Path) -> None:
    table.read(file(data, folder, "seg.parquet"), SEG)


def own() -> Iterator[bytes]:
    import pyarrow as pa

    columns = {"code": [space.to_string(code) for code in CODES], "acc": [50.0, 60, 70, 80]}
    yield parquet(pa.table(columns))


@parser(own)
def read_parquet(data: bytes, folder: Path) -> None:
    imported(file(data, folder, "trials.parquet"), folder)


def descriptions() -> Iterator[bytes]:
    yield json.dumps({"task": SEG.to_dict(), "units": {}, "schema_version": 1, "extra": []}).encode()


@parser(descriptions)
def read_metadata(data: bytes, folder: Path) -> None:
    """Read what a table says of itself."""
    arrow = described().replace_schema_metadata({"nasbench_mr": data, "pandas": data})
    path = file(parquet(arrow), folder, "seg.parquet")
    table.read(path, SEG)
    table.compact({"1": table.read_arrow(path)}, SEG)


# --- Releases -----------------------------------------------------------------------------------------


def manifests() -> Iterator[bytes]:
    yield (load("mini").release.path / "release.json").read_bytes()


@parser(manifests)
def read_manifest(data: bytes, folder: Path) -> None:
    from nasbench_mr.release import Release

    release = Release.open(file(data, folder, "release.json").parent)
    for part in ("tables", "curves"):
        (folder / part).symlink_to(load("mini").release.path / part)
    for name in release.tasks:
        release.table(name)


def tarballs() -> Iterator[bytes]:
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        for mode in ("w", "w:gz"):
            sink = io.BytesIO()
            with tarfile.open(fileobj=sink, mode=mode, format=form) as tar:  # type: ignore[call-overload]
                for name in ("release/release.json", f"release/{'long' * 60}"):
                    member = tarfile.TarInfo(name)
                    member.size, member.mtime = 2, 1.5
                    tar.addfile(member, io.BytesIO(b"{}"))
            yield sink.getvalue()


@parser(tarballs)
def read_tarball(data: bytes, folder: Path) -> None:
    from nasbench_mr.archives import extract_tar

    extract_tar(file(data, folder, "x.tar"), folder / "out", max_bytes=1 << 20)


def pickled() -> Iterator[bytes]:
    import pickle

    rows = [{"embedding": np.arange(4), "flops": 1.5, "mIoU": np.float64(70), "name": "x"}]
    for protocol in (2, 4, 5):
        yield pickle.dumps(rows, protocol)


@parser(pickled)
def read_pickle(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.published import pickles

    pickles.load(file(data, folder, "x.pkl"))


TRAINED = {
    "code": CODES[0].tolist(), "task": "seg", "seed": 0, "recipe": "seg", "digest": "0" * 12,
    "metrics": {"mIoU": 50.0, "mAcc": None}, "width_mult": 1.0, "stem_strides": [2, 2], "version": "1.0.0",
}  # fmt: skip


@parser(lambda: iter([json.dumps(TRAINED).encode()]))
def read_trained(data: bytes, folder: Path) -> None:
    from nasbench_mr.weights import Trained

    told = Trained.from_text(text(data), "x")
    assert Trained.from_text(told.to_text(), "x").code == told.code


def headers_of_weights() -> Iterator[bytes]:
    from safetensors.numpy import save

    yield save({"x": np.zeros(3, np.float32)}, {"nasbench_mr": json.dumps(TRAINED)})


@parser(headers_of_weights)
def read_header(data: bytes, folder: Path) -> None:
    from nasbench_mr import weights

    weights.read(file(data, folder, "x.safetensors"))


def parts_of_weights() -> Iterator[bytes]:
    entry = {
        "sha256": "0" * 64,
        "bytes": 5,
        "code": CODES[0].tolist(),
        "task": "seg",
        "seed": 0,
        "metrics": {},
    }
    about = {"release": "mini", "version": "1.0.0", "digest": "0" * 64}
    yield json.dumps({**about, "files": {"seg/x.safetensors": entry}}).encode()


@parser(parts_of_weights)
def read_part_of_weights(data: bytes, folder: Path) -> None:
    from nasbench_mr.errors import IntegrityError
    from nasbench_mr.weights import Weights

    part = Weights.open(file(data, folder, "weights.json").parent)
    for task in part.tasks:
        for code in part.codes(task):
            try:
                part.file(code, task)
            except IntegrityError:
                continue


@functools.cache
def costs() -> bytes:
    from nasbench_mr import measured

    about = {"device": "cpu", "name": "a CPU", "cores": 2, "torch": "2.5", "clock": "wall"}
    row = {"runtime": "torch", "batch": 1, "size": 32, "threads": 1, "repeats": 4, "outliers": 0.0}
    row |= {
        "latency_ms": 2.0,
        "latency_q1_ms": 1.0,
        "latency_q3_ms": 3.0,
        "memory_mb": 5.0,
        "energy_mj": None,
    }
    with tempfile.TemporaryDirectory() as folder:
        rows = [row | {"code": code.tolist()} for code in CODES]
        return measured.write(Path(folder) / "costs/cpu.parquet", rows, about).read_bytes()


def costs_read(path: Path) -> None:
    from nasbench_mr import measured

    found = measured.read(path)
    str(found.here), found.device
    for runtime in found.runtimes:
        found.lookup(CODES, "latency_ms", runtime)


@parser(lambda: iter([costs()]))
def read_costs(data: bytes, folder: Path) -> None:
    costs_read(file(data, folder, "cpu.parquet"))


@parser(lambda: iter([b'{"name": "a CPU", "cores": 2, "processor": "x"}']))
def read_costs_about(data: bytes, folder: Path) -> None:
    import pyarrow.parquet as pq

    arrow = pq.read_table(io.BytesIO(costs())).replace_schema_metadata({"nasbench_mr": data})
    costs_read(file(parquet(arrow), folder, "cpu.parquet"))


@parser(lambda: iter([json.dumps(GROUP).encode()]))
def read_measurements(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.measuring import campaign

    file(data, folder, "parts/cpu/torch/1.json")
    costs_read(campaign.write_table(folder, "cpu"))


GROUP = {
    "rows": [{"code": CODES[0].tolist(), "times_ms": [1.0, 2.0], "memory": 5, "energy": None}],
    "reference": 1.0, "seconds": 2.0, "date": "2026-01-01",
    "about": {"runtime": "torch", "batch": 1, "size": 32, "threads": 1, "name": "x", "cores": 2},
}  # fmt: skip


# --- Predictors ---------------------------------------------------------------------------------------


def fitted() -> Any:
    from nasbench_mr import predictors

    made = predictors.make("ridge", seed=0)
    return made.fit(CODES, np.arange(4.0)[:, None], names=("seg",))


def npz_of(data: bytes, saved: Path) -> bytes:
    """Return a file as `npz.write` makes it, with one array and the header changed, and the CRCs right.

    The first byte chooses the array, the second what happens to it, and the rest is the header.
    """
    with np.load(saved) as found:
        state = {key: found[key] for key in found.files}
    if len(data) > 2:
        names = sorted(set(state) - {"header"})
        name = names[data[0] % len(names)]
        array = state[name]
        changes: list[Callable[[], Any]] = [
            lambda: array,
            lambda: array[:-1] if array.ndim else array[None],
            lambda: array[None],
            lambda: np.full_like(array, np.nan) if array.dtype.kind == "f" else array,
            lambda: array.astype("U3"),
            lambda: array.astype(np.complex64),
            lambda: np.zeros(0, array.dtype),
            lambda: np.broadcast_to(array, (2, *array.shape)),
            lambda: np.full_like(array, 127),
            lambda: array.astype(np.float64) * 1e200,
        ]
        state[name] = changes[data[1] % len(changes)]()
        state["header"] = np.frombuffer(data[2:], np.uint8)
        if data[1] >= 250:
            del state[name]
    sink = io.BytesIO()
    np.savez(sink, **state)
    return sink.getvalue()


def headers_of(saved: Path) -> Iterator[bytes]:
    with np.load(saved) as found:
        header = found["header"].tobytes()
        for k in range(len(found.files)):
            for change in range(10):
                yield bytes([k, change]) + header


def saved_predictor(folder: Path) -> Path:
    fitted().save(folder / "saved.npz")
    return folder / "saved.npz"


def predictor_headers() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        yield from headers_of(saved_predictor(Path(folder)))


@parser(predictor_headers)
def read_predictor(data: bytes, folder: Path) -> None:
    from nasbench_mr import predictors

    path = file(npz_of(data, SAVED["predictor"]()), folder, "p.npz")
    mean, std = predictors.load(path).predict(CODES)
    assert np.isfinite(mean).all()
    assert not np.isinf(std).any()


def npzs() -> Iterator[bytes]:
    yield SAVED["predictor"]().read_bytes()


@parser(npzs)
def read_npz(data: bytes, folder: Path) -> None:
    from nasbench_mr import predictors

    predictors.load(file(data, folder, "p.npz"))


def saved_surrogate() -> Path:
    return next((load("mini").release.path / "surrogates").glob("*.npz"))


@parser(lambda: headers_of(saved_surrogate()))
def read_surrogate(data: bytes, folder: Path) -> None:
    from nasbench_mr.surrogate import load_surrogate

    mean, std = load_surrogate(file(npz_of(data, saved_surrogate()), folder, "s.npz")).predict(CODES)
    assert np.isfinite([mean, std]).all()


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def _saved() -> Path:
    if not _KEPT:
        _KEPT.append(tempfile.TemporaryDirectory())
        saved_predictor(Path(_KEPT[0].name))
    return Path(_KEPT[0].name) / "saved.npz"


#: Files that are made once.
SAVED = {"predictor": _saved}


# --- Recipes, builds and comparisons ------------------------------------------------------------------


def recipe_files() -> Iterator[bytes]:
    from nasbench_mr.data_builders.training import recipes

    yield json.dumps(recipes.get("mini-seg").to_dict()).encode()
    yield b'{"epochs": 3, "lr": 0.1, "crop": [64, 64], "data_options": {"classes": 3}}'


@parser(recipe_files)
def read_recipe(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.training import recipes

    found = recipes.read(file(data, folder, "recipe.json"))
    recipes.override(recipes.get("mini-seg"), found)
    recipes.from_dict(found)


def space_files() -> Iterator[bytes]:
    lines = ["name = 'lm'", "[dimensions]", "layers = [2, 4]", "bias = [true, false]"]
    lines += ["op = {values = ['relu', 'gelu'], kind = 'ordinal'}", "[costs]", "macs = 'layers ** 2 * 3'"]
    yield "\n".join([*lines, "params = 'min(layers, 3) if op == \"relu\" else 9 - layers // 0.5'"]).encode()
    yield json.dumps(
        {"name": "s", "dimensions": {"w": {"values": [8, 16.5], "kind": "categorical"}}}
    ).encode()


@parser(space_files)
def read_space(data: bytes, folder: Path) -> None:
    from nasbench_mr.description import Description
    from nasbench_mr.grid import Grid

    if data.startswith(b"{"):
        found = Grid.of(Description.from_dict(json_object(data, "it", SpaceError)))
    else:
        found = Grid.read(file(data, folder, "space.toml"))
    assert found.parse(found.to_string(found.UPPER.tolist())) == tuple(found.UPPER.tolist())
    assert Description.from_dict(found.description.to_dict()) == found.description


@parser(lambda: iter([b"epochs = 3\nlr = 1e-1\ncrop = [64, 64]\n[data_options]\nclasses = 3\n"]))
def read_toml(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.training import recipes

    recipes.override(recipes.get("mini-seg"), recipes.read(file(data, folder, "recipe.toml")))


def parts() -> Iterator[bytes]:
    from nasbench_mr.data_builders.building.store import to_bytes, to_part
    from nasbench_mr.data_builders.building.trial import Outcome, Trial

    curve = {"epoch": [1.0, 2.0], "mIoU": [40.0, 50.0]}
    trial = Trial(tuple(CODES[0].tolist()), "seg", 0)
    yield to_bytes(to_part(SEG, [Outcome(trial, "ok", None, {"mIoU": 50.0}, curve, 2, 1.0, "cpu")]))


@parser(parts)
def read_part(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.building import runner
    from nasbench_mr.data_builders.building.store import Store

    file(data, folder, "parts/seg/1.parquet")
    store = Store(folder)
    list(store.outcomes(SEG))
    runner.compact(store, [SEG])


@parser(lambda: iter([b'{"epoch": [1, 2], "mIoU": [40.0, NaN], "loss": [1e3, 0]}']))
def read_curve(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.building.store import parse_curve

    parse_curve(text(data), SEG, "the curve")


@parser(recipe_files)
def read_build_recipe(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.building.store import Store

    file(data, folder, "recipes/seg.json")
    Store(folder).recipe("seg")


@parser(tables)
def read_built(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.building.store import Store

    file(data, folder, "tables/seg.parquet")
    Store(folder).built("seg")


ABOUT = {
    "release": "x@1", "source": "table", "tasks": ["seg"], "searchers": ["random"], "seeds": 1, "budget": 2,
    "best": {"seg": 80.0}, "spread": {"seg": 3.0}, "unit": {"seg": "percent"}, "cost_unit": "seconds",
}  # fmt: skip


def traces() -> Iterator[bytes]:
    import pyarrow as pa

    columns: dict[str, Any] = {"task": ["seg"] * 2, "searcher": ["random"] * 2}
    columns |= {"seed": pa.array([0, 0], pa.int32()), "fidelity": [0, 0], "evaluations": [1.0, 2.0]}
    columns |= {"spent": [1.0, 2.0], "values": [50.0, 60.0], "best": [50.0, 60.0]}
    yield parquet(pa.table(columns))


def runs() -> bytes:
    import pyarrow as pa

    return parquet(
        pa.table({"task": ["seg"], "searcher": ["random"], "seed": [0], "best": [60.0], "code": [""]})
    )


def opened(folder: Path) -> None:
    from nasbench_mr.search import Comparison

    found = Comparison.open(folder)
    found.final(), found.ranks(), found.curves()


@parser(lambda: iter([json.dumps(ABOUT).encode()]))
def read_comparison(data: bytes, folder: Path) -> None:
    file(data, folder, "comparison.json")
    file(next(traces()), folder, "trace.parquet")
    file(runs(), folder, "runs.parquet")
    opened(folder)


def compared_auxnas() -> Iterator[bytes]:
    gates = [[0.5, 0.4], [0.1, 0.2]]
    run = {
        "status": "ok",
        "seed": 0,
        "config": {"variant": "aux-nas", "threshold": 1e-3},
        "metrics": {"segmentation": {"mIoU": 40.0}},
        "curve": {"step": [10], "segmentation/mIoU": [40.0]},
        "gates": {"to_auxiliary": gates, "to_primary": gates},
    }
    yield json.dumps({"primary": "segmentation", "runs": {"single": [run], "aux-nas": [run]}}).encode()


@parser(compared_auxnas)
def read_compared_auxnas(data: bytes, folder: Path) -> None:
    from nasbench_mr.search.auxnas import comparison, plots

    file(data, folder, "auxnas.json")
    found = comparison.AuxComparison.open(folder)
    found.summary()
    plots.runs(found)


@parser(traces)
def read_trace(data: bytes, folder: Path) -> None:
    file(json.dumps(ABOUT).encode(), folder, "comparison.json")
    file(data, folder, "trace.parquet")
    file(runs(), folder, "runs.parquet")
    opened(folder)


def compared() -> Any:
    from nasbench_mr.search.compare import Part, Place

    place = Place((str(load("mini").release.path),), "mini-seg", "table", ())
    return Part(place, "random", 0, 2, 4.0, 1, "")


@parser(lambda: iter([compared().run()]))
def read_compared(data: bytes, folder: Path) -> None:
    from nasbench_mr.search.comparison import Comparison

    Comparison.of([compared().read(data)], ABOUT | {"tasks": ["mini-seg"]})


# --- Data sets ----------------------------------------------------------------------------------------


def images(*forms: str, mode: str = "RGB") -> Callable[[], Iterator[bytes]]:
    def seeds() -> Iterator[bytes]:
        from PIL import Image

        pixels = np.random.default_rng(0).integers(256, size=(8, 12, 3), dtype=np.uint8)
        if "PNG" in forms:
            sink = io.BytesIO()
            Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(sink, "PNG")
            yield sink.getvalue()
        for form in forms:
            image = Image.fromarray(pixels)
            for made in (image, image.convert("L"), image.convert("P"), image.convert("RGBA")):
                if form == "JPEG" and made.mode in ("P", "RGBA"):
                    continue
                sink = io.BytesIO()
                made.save(sink, form)
                yield sink.getvalue()

    return seeds


@parser(images("PNG", "JPEG"))
def read_image(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.datasets import opening

    path = file(data, folder, "x.png")
    opening.read_image(path, (8, 8))
    opening.image_size(path)


@parser(images("PNG"))
def read_mask(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.datasets import opening

    opening.read_mask(file(data, folder, "x.png"), (8, 8))


def clips() -> Iterator[bytes]:
    from nasbench_mr.data_builders import generate

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "hmdb51"
        generate.make("hmdb51", root, train=1, val=1, classes=2)
        yield min(root.rglob("*.avi"), key=os.path.getsize).read_bytes()


@parser(clips)
def read_clip(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.datasets import hmdb51

    hmdb51.read_clip(file(data, folder, "x.avi"), 4, (16, 16))


@parser(lambda: iter([b"a.avi 1\nb.avi 2\nc.avi 0\n"]))
def read_split(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.datasets import hmdb51

    hmdb51._chosen(file(data, folder, "x_test_split1.txt"), "train")


CALIBRATION = (
    "P2: 700 0 600 40 0 700 170 0.2 0 0 1 0.003\nR0_rect: 1 0 0 0 1 0 0 0 1\n"
    "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n"
)


@parser(lambda: iter([CALIBRATION.encode()]))
def read_calibration(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.datasets import kitti

    kitti.read_calibration(file(data, folder, "x.txt"))


OBJECTS = (
    "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n"
    "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10\n"
)


@parser(lambda: iter([OBJECTS.encode()]))
def read_objects(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.datasets import kitti

    calibration = kitti.read_calibration(file(CALIBRATION.encode(), folder, "calib.txt"))
    kitti.read_objects(file(data, folder, "x.txt"), calibration)


@parser(lambda: iter([np.random.default_rng(0).uniform(size=(20, 4)).astype("<f4").tobytes()]))
def read_points(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.datasets import kitti

    kitti.read_points(file(data, folder, "x.bin"))


def packs() -> Iterator[bytes]:
    from nasbench_mr.data_builders import datasets, generate

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        generate.make("imagenet", root / "imagenet", train=1, val=1, classes=2)
        found = datasets.load("imagenet", root / "imagenet", "val", classes=2, per_class=0, size=(8, 8))
        datasets.pack(found, root / "x.safetensors")
        yield (root / "x.safetensors").read_bytes()


@parser(packs)
def read_pack(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders import datasets

    found = datasets.Pack(file(data, folder, "x.safetensors"))
    found.verify()
    for k in range(min(len(found), 4)):
        found[k]


def nyu(folder: Path) -> None:
    """Write a tiny NYUv2: images (n, 3, W, H), others (n, W, H), as MATLAB writes them."""
    import h5py
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w") as made:
        made["images"] = rng.integers(256, size=(2, 3, 12, 8)).astype(np.uint8)
        made["labels"] = rng.integers(4, size=(2, 12, 8)).astype(np.uint16)
        made["depths"] = rng.uniform(1, 5, (2, 12, 8)).astype(np.float32)
    savemat(folder / "classMapping40.mat", {"mapClass": np.arange(1, 5)[None]})
    savemat(folder / "splits.mat", {"trainNdxs": np.array([[1]]), "testNdxs": np.array([[2]])})


NYU = ("nyu_depth_v2_labeled.mat", "classMapping40.mat", "splits.mat")


def nyu_file(name: str) -> Callable[[], Iterator[bytes]]:
    def seeds() -> Iterator[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            nyu(Path(folder))
            yield (Path(folder) / name).read_bytes()

    return seeds


_NYU: list[tempfile.TemporaryDirectory[str]] = []


def nyu_with(name: str, data: bytes, folder: Path) -> None:
    from nasbench_mr.search.auxnas import readers

    if not _NYU:
        _NYU.append(tempfile.TemporaryDirectory())
        nyu(Path(_NYU[0].name))
    for other in NYU:
        shutil.copy(Path(_NYU[0].name) / other, folder)
    file(data, folder, name)
    readers.load("nyuv2", folder, (8, 12))


@parser(nyu_file(NYU[0]))
def read_nyu(data: bytes, folder: Path) -> None:
    nyu_with(NYU[0], data, folder)


@parser(nyu_file(NYU[2]))
def read_matlab(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.datasets import opening

    opening.read_matlab(file(data, folder, "x.mat"), "trainNdxs")


def arrays() -> Iterator[bytes]:
    for array in (np.arange(5.0), np.arange(5, dtype=">i4"), np.array(3), np.array([["a", "b"]])):
        sink = io.BytesIO()
        np.save(sink, array)
        yield sink.getvalue()


@parser(arrays)
def read_array(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.datasets import opening

    opening.read_array(file(data, folder, "x.npy"))


@parser(images("PNG"))
def read_depth(data: bytes, folder: Path) -> None:
    from nasbench_mr.data_builders.datasets import opening

    opening.read_16bit(file(data, folder, "x.png"))


def checkpoints() -> Iterator[bytes]:
    import torch
    from safetensors.torch import save

    yield save({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, {"progress": "{}"})


@parser(checkpoints)
def read_weights(data: bytes, folder: Path) -> None:
    from torch import nn

    from nasbench_mr import tensors as kept

    kept.load_weights(file(data, folder, "x.safetensors"), nn.Linear(2, 2))
