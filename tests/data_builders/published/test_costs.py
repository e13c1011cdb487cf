"""Costs of a user's file: what is taken for the codes' own, and the reasons named for what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nasbench_mr import cost, nasbench201, space
from nasbench_mr.data_builders.published.costs import settle

CODES = space.sample(4, seed=2)
CELLS = nasbench201.sample(4, seed=0)
MACS, PARAMS = cost.macs(CODES).astype(float), cost.params(CODES).astype(float)


def settled(name: str = "nasbench-mr", **columns: Any) -> tuple[str, str, dict[str, Any]]:
    found = {"codes": CODES if name == "nasbench-mr" else CELLS, **columns}
    source, wrong = settle(found, name)
    return source, wrong, found


TAKEN: dict[str, dict[str, Any]] = {
    "none": {},
    "all unknown": {"macs": np.full(4, np.nan)},
    "the same": {"macs": MACS, "params": PARAMS},
    "some unknown": {"macs": np.where([0, 1, 0, 0], np.nan, MACS)},
    "rounded to 0.01 G": {"macs": np.rint(MACS / 1e7) * 1e7},
    "as float32": {"macs": MACS.astype(np.float32).astype(float)},
}


@pytest.mark.parametrize("kind", TAKEN)
def test_the_exact_costs_stand_in_the_table(kind: str) -> None:
    source, wrong, columns = settled(**TAKEN[kind])
    assert wrong == ""
    assert source.startswith("computed from the codes")
    assert source.endswith("rounded") == (kind in ("rounded to 0.01 G", "as float32"))
    assert columns["macs"].tolist() == MACS.tolist()
    assert columns["params"].tolist() == PARAMS.tolist()


REASONS: dict[str, tuple[dict[str, Any], str]] = {
    "operations": ({"macs": 2 * MACS}, "off by a factor of 2: operations, two for each"),
    "millions": ({"macs": MACS * 1000}, "off by a factor of 1000: another unit"),
    "operations in millions": ({"macs": np.rint(MACS * 2 / 1e6)}, "factor of 2e-06: another unit"),
    "another counter": ({"macs": np.rint(MACS * 0.9965)}, "off by 0.3%: norms, biases"),
    "another input": ({"macs": cost.macs(CODES, 224) * 1.0}, "those of 224x224 pixels, expected 128x128"),
    "another input and head": (
        {"macs": cost.macs(CODES, 256, 19, head="segmentation") * 1.0},
        "those of 256x256 pixels and 19 classes and a segmentation head, expected 128x128 pixels and 50",
    ),
    "more classes": ({"params": cost.params(CODES, 1000) * 1.0}, "those of 1000 classes, expected 50"),
    "other rows": ({"macs": MACS[::-1]}, "they are those of other rows"),
    "one row": ({"macs": np.where([0, 0, 1, 0], 1e9, MACS)}, "1 of 4 rows"),
    "made up": ({"params": np.array([1e6, 5e7, 3e5, 2e6])}, "of other codes, or of another network"),
}


@pytest.mark.parametrize("kind", REASONS)
def test_other_costs_are_named_with_the_likely_reason(kind: str) -> None:
    columns, reason = REASONS[kind]
    source, wrong, kept = settled(**columns)
    assert source == "the file's own"
    assert reason in wrong
    # The first row that is wrong, with what it should be.
    name = next(iter(columns))
    exact = MACS if name == "macs" else PARAMS
    row = int(np.flatnonzero(columns[name] != exact)[0])
    assert wrong.startswith(f"row {row}: {name} is {columns[name][row]:,.0f}; its code has {exact[row]:,.0f}")
    assert kept[name] is columns[name]


def test_cells_have_exact_costs_too() -> None:
    macs = nasbench201.macs(CELLS)
    published = np.rint(macs / 1e4) * 1e4
    source, wrong, columns = settled("nas-bench-201", macs=published)
    assert (wrong, columns["macs"].tolist()) == ("", macs.tolist())
    assert source == "computed from the codes; the file's are these, rounded"
    ten = nasbench201.params(CELLS, 10) * 1.0
    assert "they are those of 10 classes, expected 100" in settled("nas-bench-201", params=ten)[1]
    small = nasbench201.macs(CELLS, 16, 120) * 1.0
    assert "they are those of 16x16 pixels and 120 classes" in settled("nas-bench-201", macs=small)[1]


def test_a_space_without_a_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(nasbench201, "macs")
    assert settled("nas-bench-201")[:2] == ("unknown", "")
    assert settled("nas-bench-201", macs=np.ones(4))[:2] == ("the file's own", "")
