"""The output folder of a build, on this machine or anywhere that pyarrow reaches (S3, GCS, HDFS).

    recipes/<task>.json                    the configuration: all results of a task come from one recipe
    data/<task>.json                       what tells its data from others (`splits.described`), where known
    parts/<task>/<time>-<random>.parquet   finished trials, in small files that never change
    tables/<task>.parquet, curves/...      made from the parts by `runner.compact`

A part is an ordinary table with one more text column, `curve`: the learning curve as JSON. A part file is
there whole or not at all, and any number of builds may add theirs at once.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nasbench_mr import cost, files, space, table
from nasbench_mr.checks import json_object
from nasbench_mr.data_builders.building.trial import Outcome, Trial
from nasbench_mr.data_builders.training import recipes, splits
from nasbench_mr.data_builders.training.recipes import Recipe
from nasbench_mr.data_builders.training.splits import Described
from nasbench_mr.errors import (
    DatasetError,
    InvalidArgumentError,
    NasbenchMRError,
    RecipeError,
    StorageError,
    TableError,
)
from nasbench_mr.tasks import Task

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.fs import FileSystem

#: Bytes of a recipe's file.
MAX_RECIPE = 1 << 20
#: The parts' column beside a table's own.
CURVE = "curve"


class Store:
    """A folder of results.

    Args:
        out: a path, or a URI such as s3://bucket/folder.
        filesystem: where `out` is a path in another pyarrow filesystem than this machine's.

    Raises:
        InvalidArgumentError: the URI's filesystem is unknown.
        StorageError: it can't be reached.
    """

    def __init__(self, out: str | os.PathLike[str], filesystem: FileSystem | None = None):
        import pyarrow as pa
        from pyarrow import fs

        out = os.fspath(out)
        #: The folder on this machine, or None.
        self.local: Path | None = None
        try:
            if filesystem is not None:
                self.fs, self.root = filesystem, out.strip("/")
            elif "://" in out:
                self.fs, self.root = fs.FileSystem.from_uri(out)
            else:
                self.fs, self.root = fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(out))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InvalidArgumentError(f"can't use --out {out!r}: {error}") from None
        except OSError as error:
            raise StorageError(f"can't reach {out!r}: {error}") from error
        if isinstance(self.fs, fs.LocalFileSystem):
            self.local = Path(self.root)
        self.shown = out

    def __str__(self) -> str:
        return self.shown

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if self.root else name

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file atomically."""
        if self.local is not None:
            files.write_bytes(self.local / name, data)
            return
        folder, _, base = self._path(name).rpartition("/")
        temporary = f"{folder}/.{base}.{uuid.uuid4().hex[:8]}"
        try:
            # An object store has no folders and shows an object when it is complete; others need both steps.
            self.fs.create_dir(folder, recursive=True)
            with self.fs.open_output_stream(temporary) as stream:
                stream.write(data)
            self.fs.move(temporary, self._path(name))
        except OSError as error:
            raise StorageError(f"can't write {name} in {self}: {error}") from error

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where there is none."""
        try:
            with self.fs.open_input_stream(self._path(name)) as stream:
                data: bytes = stream.read()
                return data
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"can't read {name} in {self}: {error}") from error

    def names(self, folder: str, suffix: str) -> list[str]:
        """Return the names of the finished files of a folder, sorted."""
        from pyarrow.fs import FileSelector

        found = self.fs.get_file_info(FileSelector(self._path(folder), allow_not_found=True))
        names = [info.base_name for info in found if info.is_file and not info.base_name.startswith(".")]
        return sorted(name for name in names if name.endswith(suffix))

    # --- Parts ----------------------------------------------------------------------------------------

    def tasks(self) -> list[str]:
        """Return the tasks that have a recipe here."""
        return [name.removesuffix(".json") for name in self.names("recipes", ".json")]

    def recipe(self, task: str) -> Recipe | None:
        """Return the recipe that a task's results come from; None where there are none."""
        name = f"recipes/{task}.json"
        try:
            if (size := self.fs.get_file_info(self._path(name)).size or 0) > MAX_RECIPE:
                raise RecipeError(f"it has {size:,} bytes; expected at most {MAX_RECIPE:,}")
            data = self.read(name)
            return None if data is None else recipes.from_dict(json_object(data, "it", RecipeError))
        except RecipeError as error:
            raise RecipeError(
                f"{name} in {self} is damaged or foreign: {error}. If the results there come from the recipe "
                "that you use now, delete it, and rerun the command; else use another --out"
            ) from None

    def check_recipe(self, task: str, recipe: Recipe) -> None:
        """Raise `RecipeError` where a task's results here come from another recipe."""
        if (found := self.recipe(task)) is not None and found.digest != recipe.digest:
            raise RecipeError(
                f"{self} was built with another recipe for {task}: {recipes.difference(found, recipe)}. "
                "Use that recipe, or another --out"
            )

    def write_recipe(self, task: str, recipe: Recipe) -> None:
        """Write the recipe of a task that has none yet; raise `RecipeError` where it has another one."""
        if self.recipe(task) is None:
            self._create(f"recipes/{task}.json", recipe.to_dict())
        self.check_recipe(task, recipe)

    def _create(self, name: str, content: Mapping[str, object]) -> None:
        """Write a JSON file that is not there yet; of two builds that begin at once, one is first."""
        data = (json.dumps(content, indent=2) + "\n").encode()
        if self.local is not None:
            files.create(self.local / name, data)
        else:
            self.write(name, data)

    def check_data(self, task: str, here: Described) -> None:
        """Raise `DatasetError` where a task's results come from other data, by their samples' names."""
        name = f"data/{task}.json"
        if (data := self.read(name)) is None:
            return
        there = json_object(data, f"{name} in {self}", DatasetError)
        if (found := splits.difference(here, there, ("here", "there"))) is not None:
            raise DatasetError(
                f"the results of {task} in {self} come from other data: {found}. Use that data, or another "
                "--out"
            )

    def write_data(self, task: str, here: Described) -> None:
        """Write what tells a task's data from others, if it is not written yet; see `check_data`."""
        if self.read(name := f"data/{task}.json") is None:
            self._create(name, here)
        self.check_data(task, here)

    def built(self, name: str) -> Task | None:
        """Return a task as its last part here describes it, or its table; None where it has neither."""
        import pyarrow as pa

        parts = self.names(f"parts/{name}", ".parquet")
        file = f"parts/{name}/{parts[-1]}" if parts else f"tables/{name}.parquet"
        if (data := self.read(file)) is None:
            return None
        try:
            found = table.read_arrow(pa.BufferReader(data), "it").schema.metadata or {}
            return Task.from_dict(json_object(found[b"nasbench_mr"], "its metadata", TableError)["task"])
        except (NasbenchMRError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise TableError(
                f"{file} in {self} is damaged or foreign ({error}); delete it, and rerun the build"
            ) from None

    def succeeded(self, name: str) -> bool:
        """Whether the table that was made here has a trial that succeeded."""
        import pyarrow as pa

        data = self.read(f"tables/{name}.parquet")
        if data is None:
            return False
        return "ok" in table.read_arrow(pa.BufferReader(data), "it")["status"].unique().to_pylist()

    def add(self, task: Task, outcomes: Sequence[Outcome]) -> None:
        """Write outcomes as one new part; raise `TableError` where one does not fit the task."""
        name = f"parts/{task.name}/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
        self.write(name, to_bytes(to_part(task, outcomes)))

    def part_names(self, task: Task) -> list[str]:
        """Return the parts of a task, oldest first."""
        return self.names(f"parts/{task.name}", ".parquet")

    def parts(self, task: Task, names: Sequence[str] | None = None) -> pa.Table | None:
        """Return the trials of all parts, or of those named, some maybe repeated; None without parts."""
        import pyarrow as pa

        names = self.part_names(task) if names is None else names
        if not names:
            return None
        with ThreadPoolExecutor(8 if self.local else 32) as pool:
            found = list(pool.map(lambda name: self._part(f"parts/{task.name}/{name}", task), names))
        return pa.concat_tables(found)

    def outcomes(self, task: Task) -> Iterator[Outcome]:
        """Yield what became of the trials of all parts, oldest part first; without their learning curves."""
        if (arrow := self.parts(task)) is None:
            return
        names = [m.name for m in task.metrics]
        codes = np.stack([arrow[name].to_numpy() for name in space.NAMES], axis=1).tolist()
        columns = (*names, "seed", "status", "error", "epochs", "train_seconds", "device")
        for code, row in zip(codes, arrow.select(columns).to_pylist(), strict=True):
            yield Outcome(
                Trial(tuple(code), task.name, row["seed"]),
                row["status"],
                row["error"],
                {name: row[name] for name in names if row[name] is not None},
                epochs=row["epochs"],
                seconds=row["train_seconds"],
                device=row["device"],
            )

    def _part(self, name: str, task: Task) -> pa.Table:
        import pyarrow as pa

        wanted = table.schema(task, [CURVE])
        try:
            with self.fs.open_input_file(self._path(name)) as file:
                arrow = table.read_arrow(file, "it").select(wanted.names).cast(wanted)
            table.check(arrow, task, "it")
            for row, text in enumerate(arrow[CURVE].to_pylist()):
                if text is not None:
                    parse_curve(text, task, f"row {row}: its curve")
        except (NasbenchMRError, pa.ArrowException, KeyError, ValueError) as error:
            raise TableError(
                f"{name} in {self} is damaged or foreign ({error}); delete it, and its trials will run again"
            ) from None
        return arrow


def parse_curve(text: str, task: Task, where: str) -> dict[str, npt.NDArray[np.float64]]:
    """Return a part's learning curve, checked: arrays of one length by name, NaN where unknown."""
    curve = json_object(text, where, TableError)
    try:
        arrays = {name: np.array(values, np.float64) for name, values in curve.items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise TableError(f"{where} has values that are not numbers: {error}") from None
    shapes = {array.shape for array in arrays.values()}
    needed = ["epoch", task.objective]
    if not set(needed) <= set(arrays) or len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise TableError(f"{where} is {text!r:.80}; expected lists of one length: {needed} and others")
    if not (np.diff(arrays["epoch"], prepend=0) >= 1).all() or not (arrays["epoch"] < 2**31).all():
        raise TableError(f"{where} has epochs that do not rise from 1 on")
    for metric in task.metrics:
        values = arrays.get(metric.name, np.empty(0))
        low = -np.inf if metric.lower is None else metric.lower
        high = np.inf if metric.upper is None else metric.upper
        if (np.isinf(values) | (values < low) | (values > high)).any():
            raise TableError(f"{where} has a {metric.name} beyond its bounds, [{low:g}, {high:g}]")
    return arrays


def to_part(task: Task, outcomes: Iterable[Outcome]) -> pa.Table:
    """Return outcomes of one task as a checked table with the column `curve` (see `table.check`)."""
    rows = list(outcomes)
    curves = [json.dumps(dict(o.curve)) if o.curve else None for o in rows]
    for outcome, text in zip(rows, curves, strict=True):
        if text is not None:
            parse_curve(text, task, f"the curve of {outcome.trial}")
    codes = np.array([o.trial.code for o in rows], np.int16)
    columns: dict[str, object] = {
        "codes": codes,
        "seed": [o.trial.seed for o in rows],
        "epochs": [o.epochs for o in rows],
        "train_seconds": [o.seconds for o in rows],
        "device": [o.device for o in rows],
        "status": [o.status for o in rows],
        "error": [o.error for o in rows],
        CURVE: curves,
    }
    named = {name for o in rows for name in o.metrics}
    columns |= {name: [o.metrics.get(name) for o in rows] for name in named}
    costs = cost.of(task.space) if task.cost == "code" else None
    if costs is not None:
        columns |= {"macs": costs.macs(codes), "params": costs.params(codes)}
    return table.to_arrow(task, columns, [CURVE])


def to_bytes(arrow: pa.Table) -> bytes:
    """Return the table as a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data
