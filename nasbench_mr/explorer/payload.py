"""What the page is about, as bytes: tables, surrogates and texts in one compressed block.

The block is deflated. Unpacked, it is the length of a header (4 bytes, little-endian), the header (JSON,
ASCII) and the arrays it refers to. An array is kept as planes (all first bytes, all second bytes, ...), which
deflate packs better, and exactly: a column of decimal fractions as integers and a power of ten, any other as
float32 where that is exact, else as float64. `page/payload.js` reads it back.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import __version__, cost, nasbench201, spaces
from nasbench_mr import space as multi_resolution
from nasbench_mr.surrogate import Surrogate, layers

if TYPE_CHECKING:
    from nasbench_mr.benchmark import Benchmark
    from nasbench_mr.spaces import Space
    from nasbench_mr.tasks import Task

#: Powers of ten that are tried to write a column as integers.
_DIGITS = range(7)
STRATA = ("coarse", "deep", "fine", "other")


@dataclass(frozen=True)
class Climb:
    """How a search came to its result: what the page plays.

    Attributes:
        codes: `(steps, paths, DIM)`: the code of each path at each step.
        score: `(steps, paths)`: what was maximised.
        best: the code that was found.
        goals: the tasks ("seg") or metrics ("seg/mAcc") that it was about.
        max_macs: the limit on MACs, inclusive; None where there was none.
    """

    codes: npt.NDArray[np.int16]
    score: npt.NDArray[np.float64]
    best: tuple[int, ...]
    goals: tuple[str, ...]
    max_macs: float | None = None

    #: Paths that the page shows: the best at the end.
    PATHS = 24


class _Arrays:
    """Arrays, and the references to them that stand in the header."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self._known: dict[tuple[str, bytes], dict[str, Any]] = {}

    def add(self, array: npt.NDArray[Any]) -> dict[str, Any]:
        """Return the reference to an array; to the same one where an equal one is there."""
        flat = np.ascontiguousarray(array).ravel()
        flat = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
        planes = flat.view(np.uint8).reshape(len(flat), flat.itemsize).T.tobytes()
        key = (flat.dtype.str, planes)
        if key not in self._known:
            kind = flat.dtype.str.lstrip("<|")
            self._known[key] = {"type": kind, "at": self.size, "count": len(flat)}
            self.parts.append(planes)
            self.size += len(planes)
        return self._known[key]

    def column(self, values: npt.NDArray[np.float64]) -> dict[str, Any]:
        """Return the reference to a column of floats, NaN among them, each kept to its last bit."""
        known = np.isfinite(values)
        if not np.isinf(values).any():
            for digits in _DIGITS:
                scaled = np.rint(np.where(known, values, 0) * 10**digits)
                if np.abs(scaled).max(initial=0) >= 2**31 - 1:
                    break
                if (scaled[known] / 10**digits == values[known]).all():
                    lacking = -(2**31)
                    whole = np.where(known, scaled, lacking).astype(np.int32)
                    return {**self.add(whole), "over": 10**digits, "lacking": lacking}
        single = values.astype(np.float32)
        return self.add(single if np.array_equal(single, values, equal_nan=True) else values)


def pack(bench: Benchmark, tasks: Sequence[str] | None, climb: Climb | None) -> tuple[str, bytes]:
    """Return the page's title, and what it is about as compressed bytes."""
    chosen = [bench.task(name) for name in dict.fromkeys(bench.chosen(tasks))]
    arrays = _Arrays()
    releases = bench.releases_of(task.name for task in chosen)
    about = releases[0].about if len(releases) == 1 else {}
    title = ", ".join(map(str, releases))
    header = {
        "version": __version__,
        "release": {
            "name": title,
            **{
                key: about[key] for key in ("title", "license", "citation") if isinstance(about.get(key), str)
            },
        },
        "strata": STRATA,
        "spaces": [
            _space(bench, spaces.get(name), [task for task in chosen if task.space == name], arrays)
            for name in dict.fromkeys(task.space for task in chosen)
        ],
        "climb": None if climb is None else _climb(climb, _place(climb, chosen), arrays),
    }
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode("ascii")
    body = b"".join([len(text).to_bytes(4, "little"), text, *arrays.parts])
    return title, zlib.compress(body, 9)


def _space(bench: Benchmark, space: Space, tasks: Sequence[Task], arrays: _Arrays) -> dict[str, Any]:
    """Return one search space and its tasks; every tabulated code is a row, whichever tasks have it."""
    codes = np.unique(np.concatenate([bench.codes(task.name) for task in tasks]), axis=0)
    order = {key: row for row, key in enumerate(map(tuple, codes.tolist()))}
    exact = space.NAME == multi_resolution.NAME
    described: dict[str, Any] = {
        "name": space.NAME,
        "dims": space.NAMES,
        "lower": space.LOWER.tolist(),
        "upper": space.UPPER.tolist(),
        "step": space.STEP.tolist(),
        "choices": space.CHOICES.tolist(),
        "rows": len(codes),
        "codes": arrays.add(((codes - space.LOWER) // space.STEP).astype(np.uint8).T),
        "costs": {},
        **(_layout() if exact else _cell() if space.NAME == nasbench201.NAME else _grid(space)),
    }
    described["tasks"] = [_task(bench, task, order, arrays) for task in tasks]
    if exact:
        strata = [multi_resolution.in_stratum(codes, name) for name in STRATA[:-1]]
        stages = np.array([stage.b for stage in multi_resolution.STAGES])
        # The grids of "coarse" and "deep" differ in b alone, and every code sampled for "deep" has a b of 4.
        strata[1] &= (codes[:, stages] == multi_resolution.UPPER[stages]).any(axis=1)
        described["stratum"] = arrays.add(
            np.argmax([*strata, np.ones(len(codes), bool)], axis=0).astype(np.uint8)
        )
        described["surrogates"] = _surrogates(bench, tasks, arrays)
    else:
        for name in ("macs", "params"):
            known = _costs(bench, tasks, order, name)
            if np.isfinite(known).any():
                described["costs"][name] = arrays.column(known)
    return described


def _costs(
    bench: Benchmark, tasks: Sequence[Task], order: Mapping[tuple[int, ...], int], name: str
) -> npt.NDArray[np.float64]:
    """Return a cost of every row, as limits mean it: of the first task that knows it; NaN where none does."""
    found = np.full(len(order), np.nan)
    for task in tasks:
        rows = [order[code] for code in map(tuple, bench.codes(task.name).tolist())]
        found[rows] = np.where(np.isnan(found[rows]), bench.costs_of(task.name, name), found[rows])
    return found


def _layout() -> dict[str, Any]:
    """Return where the multi-resolution space keeps what, and how it writes a code."""
    space = multi_resolution
    parts = ["_".join(f"{{{k}}}" for k in space.STEM)]
    for number, stage in enumerate(space.STAGES, start=1):
        parts.append("_".join([f"{{{stage.b}}}", str(number), *(f"{{{k}}}" for k in (*stage.n, *stage.c))]))
    return {
        "stem": space.STEM,
        "stages": [{"b": stage.b, "n": stage.n, "c": stage.c} for stage in space.STAGES],
        "head": space.HEAD,
        "form": "-".join([*parts, f"{{{space.HEAD}}}"]),
        "integers": True,
        "unit": ["step", "steps"],
    }


def _cell() -> dict[str, Any]:
    """Return how NAS-Bench-201 writes a code."""
    return {
        "form": "|{0}~0|+|{1}~0|{2}~1|+|{3}~0|{4}~1|{5}~2|",
        "words": [nasbench201.OPERATIONS] * nasbench201.DIM,
        "integers": True,
        "unit": ["edge", "edges"],
    }


def _grid(space: Space) -> dict[str, Any]:
    """Return how a space of a user's own writes a code: as pairs of names and values."""
    described = spaces.description(space.NAME)
    assert described is not None
    return {
        "form": ",".join(f"{name}={{{k}}}" for k, name in enumerate(space.NAMES)),
        "words": [dimension.texts for dimension in described.dimensions],
        "integers": False,  # which might be meant as values
        "unit": ["step", "steps"],
    }


def _task(
    bench: Benchmark, task: Task, order: Mapping[tuple[int, ...], int], arrays: _Arrays
) -> dict[str, Any]:
    """Return a task with its columns."""
    names = [metric.name for metric in task.metrics]
    columns = {name: np.full(len(order), np.nan) for name in (*names, "macs")}
    spread = {name: np.full(len(order), np.nan) for name in names}
    seeds = np.zeros(len(order), np.int32)
    for code in map(tuple, bench.codes(task.name).tolist()):
        row, result = order[code], bench.query(code, task.name, source="table")
        seeds[row] = len(result.seeds)
        for name in columns:
            columns[name][row] = result.get(name, np.nan)
        if len(result.seeds) > 1:
            for name in names:
                spread[name][row] = result.std[name]
    described = {
        "name": task.name,
        "objective": task.objective,
        "release": str(bench.release_of(task.name)),
        **{key: getattr(task, key) for key in ("title", "dataset", "problem", "recipe", "provenance")},
        "seeds": arrays.add(seeds),
        "metrics": [
            {
                **{key: getattr(metric, key) for key in ("name", "unit", "direction", "description")},
                "values": arrays.column(columns[metric.name]),
                "std": arrays.column(spread[metric.name]) if np.isfinite(spread[metric.name]).any() else None,
            }
            for metric in task.metrics
        ],
    }
    if task.cost == "table" and cost.of(task.space) is not None and np.isfinite(columns["macs"]).any():
        described["macs"] = arrays.column(columns["macs"])
    return described


def _surrogates(bench: Benchmark, tasks: Sequence[Task], arrays: _Arrays) -> dict[str, Any]:
    """Return the tasks' surrogates: those that were fitted together share their hidden layers, kept once."""
    trunks: list[dict[str, Any]] = []
    heads: dict[str, Any] = {}
    for task in tasks:
        surrogate = bench.surrogate(task.name)
        if not isinstance(surrogate, Surrogate):
            continue
        state = surrogate.state
        last = layers(state) - 1
        trunk = {
            "layers": [
                {
                    "weight": arrays.add(state[f"weight{k}"].astype(np.float32)),
                    "bias": arrays.add(state[f"bias{k}"].astype(np.float32)),
                }
                for k in range(last)
            ],
            "shapes": [list(state[f"weight{k}"].shape) for k in range(last)],
            "centre": state["x_mean"].tolist(),
            "scale": state["x_scale"].tolist(),
            "spread": float(state["spread"]),
        }
        if trunk not in trunks:
            trunks.append(trunk)
        lower, upper = state["bounds"].tolist()
        heads[task.name] = {
            "trunk": trunks.index(trunk),
            "metrics": surrogate.names,
            "weight": arrays.add(state[f"weight{last}"].astype(np.float32)),
            "bias": arrays.add(state[f"bias{last}"].astype(np.float32)),
            "centre": state["y_mean"].tolist(),
            "scale": state["y_scale"].tolist(),
            "noise": state["noise"].tolist(),
            "lower": [value if math.isfinite(value) else None for value in lower],
            "upper": [value if math.isfinite(value) else None for value in upper],
        }
    return {"trunks": trunks, "heads": heads}


def _place(climb: Climb, chosen: Sequence[Task]) -> int:
    """Return the number of a search's space: that of its first goal, else one with as many dimensions."""
    shown = list(dict.fromkeys(task.space for task in chosen))
    own = {task.name: task.space for task in chosen}.get(climb.goals[0].partition("/")[0])
    if own is not None:
        return shown.index(own)
    return [spaces.get(name).DIM for name in shown].index(climb.codes.shape[2])


def _climb(climb: Climb, place: int, arrays: _Arrays) -> dict[str, Any]:
    """Return the paths of a search that ended best; `place` is the number of its space."""
    best = np.argsort(-climb.score[-1], kind="stable")[: Climb.PATHS]
    codes, score = climb.codes[:, best], climb.score[:, best]
    return {
        "space": place,
        "best": climb.best,
        "goals": climb.goals,
        "limit": climb.max_macs,
        "steps": len(codes),
        "paths": len(best),
        "codes": arrays.add(codes.astype(np.uint8)),
        "score": arrays.add(score.astype(np.float32)),
    }
