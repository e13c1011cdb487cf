"""`Comparison`: what `compare` found, as tables, regret curves, ranks and significance tests."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import files, table
from nasbench_mr.arrays import Floats
from nasbench_mr.checks import json_object
from nasbench_mr.errors import InvalidArgumentError, TableError, UnknownNameError, did_you_mean
from nasbench_mr.extras import requires

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ABOUT, TRACE, RUNS = "comparison.json", "trace.parquet", "runs.parquet"
#: The columns of a part's table, and their Arrow types.
COLUMNS = {
    "seed": "int32",
    "fidelity": "int64",
    "evaluations": "double",
    "spent": "double",
    "values": "double",
    "best": "double",
}
#: The columns of the two tables; these of them are texts.
_COLUMNS = {
    TRACE: ("task", "searcher", *COLUMNS),
    RUNS: ("task", "searcher", "seed", "best", "code"),
}
_TEXTS = ("task", "searcher", "code")
_AGAIN = "delete it, and rerun the comparison: it keeps what is finished"
#: Regret is looked at after every evaluation up to the budget.
MAX_BUDGET = 1e7
#: Bytes of a description.
MAX_ABOUT = 1 << 24
BANDS = ("quartiles", "confidence")
BLOCKS = ("tasks", "runs")


@dataclass(frozen=True)
class Tests:
    """Significance tests of a comparison.

    Attributes:
        blocks: what was ranked in: "tasks", each by its mean regret, or "runs", one for each task and seed.
        count: how many blocks.
        statistic, p: Friedman's test that all searches rank alike; NaN for two searches.
        pairs: a row for each pair `a`, `b`: `better`, the probability that a run of a ends better than a run
            of b on the same task (half for a tie; 0.5: no difference), averaged over the tasks; `p` of
            Wilcoxon's signed-rank test over the blocks; and `p_holm`, corrected for the number of pairs.
    """

    blocks: str
    count: int
    statistic: float
    p: float
    pairs: pd.DataFrame


class Comparison:
    """The runs of some searches on some tasks.

    >>> found = search.compare(nasbench_mr.load("mini"), "mini-seg", searchers=("random",), budget=5, seeds=2)
    >>> found.runs.shape, len(found.trace)
    ((2, 5), 10)

    Attributes:
        trace: one row for each measurement: task, searcher, seed, fidelity (epoch; 0: the end), evaluations
            and spent (so far), values, and best (the best full training so far).
        runs: one row for each run: task, searcher, seed, its best value and that code; of a front the
            hypervolume, and its codes with semicolons between them. A last training may end beyond the
            budget (of `halving`): it counts here, and not in the regret.
        about: how it was run (release, source, budget, "limits" by cost, ...), and by task the "best" value
            there is (None where unknown), the "spread" (standard deviation) of the table's values, their
            "unit", and the digest of their "tables". "reference" names the searches that were run
            elsewhere, if any.
        tasks, searchers: in the order they were asked for.
    """

    def __init__(self, trace: pd.DataFrame, runs: pd.DataFrame, about: dict[str, Any]):
        self.trace, self.runs, self.about = trace, runs, about
        self.tasks: list[str] = about["tasks"]
        self.searchers: list[str] = about["searchers"]

    @classmethod
    def of(cls, parts: Sequence[pa.Table], about: dict[str, Any]) -> Comparison:
        """From the tables that `compare.Part.run` writes."""
        import pandas as pd

        traces: list[pd.DataFrame] = []
        runs: list[pd.DataFrame] = []
        for part in parts:
            told = json.loads(part.schema.metadata[b"nasbench_mr"])
            trace = part.to_pandas()
            last = trace.groupby("seed")["best"].last()
            run = pd.DataFrame({"seed": last.index, "best": last.to_numpy(), "code": told["codes"]})
            for frame, found in ((trace, traces), (run, runs)):
                frame.insert(0, "task", told["task"])
                frame.insert(1, "searcher", told["searcher"])
                found.append(frame)
        trace, run = (pd.concat(found, ignore_index=True) for found in (traces, runs))
        return cls(trace, run, {**about, "cost_unit": told["unit"]})

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write trace.parquet, runs.parquet and comparison.json; `open` reads them."""
        for name, frame in ((TRACE, self.trace), (RUNS, self.runs)):
            with files.atomic(Path(folder) / name) as temporary:
                frame.to_parquet(temporary, index=False)
        files.write_text(Path(folder) / ABOUT, json.dumps(self.about, indent=2) + "\n")

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Comparison:
        """Return what `save` wrote.

        Raises:
            InvalidArgumentError: the folder has no finished comparison.
            TableError: a file is damaged, or of something else.
        """
        path = Path(folder)
        try:
            about = _described(path / ABOUT)
            trace, runs = (_read(path / name, columns, about) for name, columns in _COLUMNS.items())
        except OSError as error:
            raise InvalidArgumentError(f"{path} holds no finished comparison: {error}") from None
        return cls(trace, runs, about)

    @cached_property
    def best(self) -> dict[str, float]:
        """By task the best value within reach: of the table, or, where no one knows it, of all runs here."""
        known: dict[str, float | None] = self.about["best"]
        best = {}
        for task in self.tasks:
            there = known[task]
            seen = self.runs.loc[self.runs["task"] == task, "best"]
            best[task] = float(seen.max()) if there is None else there
        return best

    @property
    def grid(self) -> Floats:
        """1, 2, ... to the budget, in evaluations: where regret is looked at."""
        return np.arange(1.0, np.ceil(self.about["budget"]) + 1)

    @cached_property
    def regret(self) -> dict[tuple[str, str], Floats]:
        """By task and search, how far each run's best is below the best within reach: `(seeds, grid)`.

        In the task's unit (`about["unit"]`); NaN before a run's first full training. A run that measured
        every code before its budget was used up keeps its regret.
        """
        found = {}
        groups = dict(iter(self.trace.groupby(["task", "searcher"])))
        for task, searcher in product(self.tasks, self.searchers):
            runs = []
            for _, run in groups[task, searcher].groupby("seed"):
                last = np.searchsorted(run["evaluations"].to_numpy(), self.grid + 1e-9, side="right") - 1
                best = run["best"].to_numpy()[np.maximum(last, 0)]
                runs.append(np.where(last >= 0, self.best[task] - best, np.nan))
            found[task, searcher] = np.array(runs)
        return found

    def curves(self, band: str = "quartiles") -> pd.DataFrame:
        """Regret curves: task, searcher, evaluations, and the median, low and high of the regret.

        Args:
            band: "quartiles" of the runs, or the 95% "confidence" interval of the median (by its order
                statistics; with fewer than six runs the least and the largest).
        """
        import pandas as pd

        if band not in BANDS:
            raise UnknownNameError(f"no band {band!r}: {did_you_mean(band, BANDS)}")
        frames = []
        for task in self.tasks:
            for searcher in self.searchers:
                # Nothing trained to the end yet is worse than anything that is.
                runs = np.sort(np.nan_to_num(self.regret[task, searcher], nan=np.inf), axis=0)
                low, high = (
                    (_quantile(runs, 0.25), _quantile(runs, 0.75)) if band == "quartiles" else _interval(runs)
                )
                columns = {"median": _quantile(runs, 0.5), "low": low, "high": high}
                columns = {name: np.where(np.isfinite(c), c, np.nan) for name, c in columns.items()}
                here = {"task": task, "searcher": searcher, "evaluations": self.grid}
                frames.append(pd.DataFrame({**here, **columns}))
        return pd.concat(frames, ignore_index=True)

    def final(self) -> pd.DataFrame:
        """Median regret at the end of the budget: tasks x searches."""
        import pandas as pd

        medians = [[float(np.median(self._last(t, s))) for s in self.searchers] for t in self.tasks]
        return pd.DataFrame(medians, self.tasks, self.searchers)

    @cached_property
    def paired(self) -> int:
        """How many seeds every search has, from the first on; ranks and tests are of these."""
        return min(len(runs) for runs in self.regret.values())

    def ranks(self) -> pd.DataFrame:
        """Mean rank at the end of the budget, 1 the best, ties shared: tasks x searches."""
        import pandas as pd

        rows = []
        for task in self.tasks:
            runs = pd.DataFrame({s: self._last(task, s)[: self.paired] for s in self.searchers})
            rows.append(runs.rank(axis=1).mean())
        return pd.DataFrame(rows, self.tasks)

    def tests(self, blocks: str | None = None) -> Tests:
        """Do the searches differ at the end of the budget?

        Args:
            blocks: "tasks" asks whether they differ on tasks like these, and needs several; "runs" whether
                they differ on these tasks. By default "tasks" where there are enough of them for Wilcoxon's
                test, corrected for the number of pairs, to tell if all agree: six for two searches, seven for
                three, eight for four.

        Raises:
            InvalidArgumentError: there is one search.
            MissingExtraError: SciPy is not installed.
        """
        if len(self.searchers) < 2:
            raise InvalidArgumentError("tests need at least two searches")
        if blocks is None:
            pairs = math.comb(len(self.searchers), 2)
            blocks = "tasks" if pairs * 2.0 ** (1 - len(self.tasks)) < 0.05 else "runs"
        if blocks not in BLOCKS:
            raise UnknownNameError(f"no blocks {blocks!r}: {did_you_mean(blocks, BLOCKS)}")
        spread = self.about["spread"]
        # (tasks, seeds, searches), comparable between tasks.
        regret = np.array(
            [
                np.stack([self._last(t, s)[: self.paired] / spread[t] for s in self.searchers], 1)
                for t in self.tasks
            ]
        )
        values = regret.mean(axis=1) if blocks == "tasks" else regret.reshape(-1, len(self.searchers))
        statistic, p = _friedman(values)
        return Tests(blocks, len(values), statistic, p, self._pairs(values, regret))

    def _pairs(self, values: Floats, regret: Floats) -> pd.DataFrame:
        import pandas as pd

        rows = []
        for a, b in combinations(range(len(self.searchers)), 2):
            # Every run of a against every run of b.
            gap = regret[:, None, :, b] - regret[:, :, None, a]
            better = float(((gap > 0) + (gap == 0) / 2).mean())
            names = {"a": self.searchers[a], "b": self.searchers[b]}
            rows.append({**names, "better": better, "p": _wilcoxon(values[:, a], values[:, b])})
        frame = pd.DataFrame(rows)
        frame["p_holm"] = holm(frame["p"].to_numpy())
        return frame

    def _last(self, task: str, searcher: str) -> Floats:
        """Each run's regret at the end: `(seeds,)`; the largest seen where nothing was trained to the end.

        Raises:
            InvalidArgumentError: no run of any search trained a code to the end.
        """
        last = self.regret[task, searcher][:, -1]
        if np.isnan(last).any():
            seen = np.concatenate([self.regret[task, s].ravel() for s in self.searchers])
            if np.isnan(seen).all():
                raise InvalidArgumentError(
                    f"no search trained a code of {task!r} to the end within the budget of "
                    f"{self.about['budget']:g}, so there is nothing to compare; give a larger budget"
                )
            last = np.nan_to_num(last, nan=np.nanmax(seen))
        return last


def _described(path: Path) -> dict[str, Any]:
    """Return how a comparison was run; raise `TableError` where the file is damaged, or of something else."""
    if path.stat().st_size > MAX_ABOUT:
        raise TableError(f"{path} is larger than {MAX_ABOUT:,} bytes; {_AGAIN}")
    try:
        about = json_object(path.read_bytes(), str(path), TableError)
    except TableError as error:
        raise TableError(f"{error}; {_AGAIN}") from None

    def number(value: object) -> bool:
        return type(value) in (int, float) and abs(value) < 1e300  # type: ignore[arg-type]

    names = [about.get(key) for key in ("tasks", "searchers")]
    sound = (
        all(
            isinstance(listed, list)
            and 0 < len(set(map(str, listed))) == len(listed)
            and all(isinstance(name, str) for name in listed)
            for listed in names
        )
        and number(about.get("budget"))
        and 0 < about["budget"] <= MAX_BUDGET
    )
    for key, allowed in (
        ("best", lambda value: value is None or number(value)),
        ("spread", lambda value: number(value) and value > 0),
        ("unit", lambda value: isinstance(value, str)),
    ):
        by_task = about.get(key)
        named = sound and isinstance(by_task, dict) and set(by_task) == set(about["tasks"])
        sound = named and all(map(allowed, (by_task or {}).values()))
    if not (sound and all(isinstance(about.get(key), str) for key in ("release", "source", "cost_unit"))):
        raise TableError(f"{path} describes no comparison; {_AGAIN}")
    return about


def _read(path: Path, columns: Sequence[str], about: Mapping[str, Any]) -> pd.DataFrame:
    """Return a table of a comparison; raise `TableError` where it is not one."""
    try:
        frame: pd.DataFrame = table.read_arrow(path).to_pandas(ignore_metadata=True)
    except TableError as error:
        raise TableError(f"{error}; {_AGAIN}") from None
    numbers = [name for name in columns if name not in _TEXTS]
    if list(frame.columns) != list(columns) or not all(frame[name].dtype.kind in "if" for name in numbers):
        raise TableError(f"{path} has the columns {list(frame.columns)}; expected {list(columns)}; {_AGAIN}")
    pairs = set(zip(frame["task"], frame["searcher"], strict=True))
    if pairs != set(product(about["tasks"], about["searchers"])):
        raise TableError(
            f"{path} and {ABOUT} there are of different comparisons; delete both, and rerun the comparison"
        )
    return frame


def _quantile(ordered: Floats, share: float) -> Floats:
    """Linearly interpolated quantile of sorted columns, `(n, B)`; infinities stay infinite, never NaN."""
    at = share * (len(ordered) - 1)
    low, high = ordered[int(np.floor(at))], ordered[int(np.ceil(at))]
    finite = np.isfinite(high)
    gap = np.where(finite, high, 0.0) - np.where(finite, low, 0.0)
    return np.asarray(np.where(finite, low + (at % 1) * gap, high))


def _interval(ordered: Floats) -> tuple[Floats, Floats]:
    """Return the 95% confidence interval of the median of sorted columns, by order statistics."""
    rank = max(1, int(_stats().binom.ppf(0.025, len(ordered), 0.5)))
    return ordered[rank - 1], ordered[len(ordered) - rank]


def _friedman(values: Floats) -> tuple[float, float]:
    """Statistic and p of Friedman's test of `(blocks, searches)`; NaN where it can't be computed."""
    if values.shape[1] < 3 or len(values) < 2:
        return float("nan"), float("nan")
    if (values == values[:, :1]).all():
        return 0.0, 1.0
    found = _stats().friedmanchisquare(*values.T)
    return float(found.statistic), float(found.pvalue)


def _wilcoxon(a: Floats, b: Floats) -> float:
    """p of the signed-rank test; 1 where nothing differs."""
    return 1.0 if (a == b).all() else float(_stats().wilcoxon(a, b).pvalue)


def holm(p: Floats) -> Floats:
    """Holm's correction of several p-values: `(n,)`."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def _stats() -> Any:
    with requires("search", "testing whether searches differ"):
        from scipy import stats
    return stats
