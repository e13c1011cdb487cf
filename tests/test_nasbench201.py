"""NAS-Bench-201's costs by hand, and which of its cells are one network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nasbench_mr
from nasbench_mr import cost, nasbench201, release, spaces, table, tasks
from nasbench_mr.errors import InvalidArgumentError, TableError
from nasbench_mr.nasbench201 import canonical, isomorphic, parse


def cell(a: str, b: str, c: str, d: str, e: str, f: str) -> tuple[int, ...]:
    """Return a cell by the operations of the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3."""
    short = {"pool": 0, ".": 1, "skip": 2, "1x1": 3, "3x3": 4}
    return tuple(short[name] for name in (a, b, c, d, e, f))


NOTHING = cell(".", ".", ".", ".", ".", ".")
ONE, THREE = cell(".", ".", ".", "1x1", ".", "."), cell(".", ".", ".", "3x3", ".", ".")


def test_costs_by_hand() -> None:
    # Without cells: the stem, two reduction blocks (3x3, 3x3, a 1x1 beside them), the last norm, 100 classes.
    stem, classifier = 27 * 16 + 32, 64 * 100 + 100
    first = (9 * 16 * 32 + 64) + (9 * 32 * 32 + 64) + 16 * 32
    second = (9 * 32 * 64 + 128) + (9 * 64 * 64 + 128) + 32 * 64
    assert nasbench201.params(NOTHING).tolist() == [stem + first + second + 128 + classifier]
    # MACs: convolutions and the classifier's products, at 32x32, 16x16 and 8x8 pixels.
    macs = 27 * 16 * 1024 + (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32) * 256
    macs += (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64) * 64 + 6400
    assert nasbench201.macs(NOTHING).tolist() == [macs] == [7_788_800]
    # A 1x1 convolution has as many MACs in each stage's five cells; a 3x3 one nine times as many.
    assert (nasbench201.macs(ONE) - macs).tolist() == [5 * 3 * 16 * 16 * 1024]
    assert (nasbench201.macs(THREE) - macs).tolist() == [9 * 5 * 3 * 16 * 16 * 1024]
    more = nasbench201.params([ONE, THREE]) - nasbench201.params(NOTHING)
    assert more.tolist() == [5 * sum(k * c * c + 2 * c for c in (16, 32, 64)) for k in (1, 9)]
    # ImageNet16-120: a quarter of the pixels, 20 classes more.
    assert nasbench201.macs(ONE, 16, 120).tolist() == [(nasbench201.macs(ONE)[0] - 6400) // 4 + 64 * 120]
    assert (nasbench201.params(ONE, 120) - nasbench201.params(ONE)).tolist() == [20 * 65]


def test_costs_of_every_space() -> None:
    cells, own = cost.of("nas-bench-201"), cost.of("nasbench-mr")
    assert cells is not None
    assert cells.macs(THREE).tolist() == nasbench201.macs(THREE).tolist()
    assert own is not None
    smallest = spaces.get("nasbench-mr").LOWER
    assert own.params(smallest).tolist() == cost.params(smallest).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 30}, "resolution is 30; expected a multiple of 4"),
        ({"resolution": 0}, "resolution is 0; expected an integer, at least 1"),
        ({"num_classes": 1.5}, "num_classes is 1.5; expected an integer"),
    ],
)
def test_networks_that_there_are_not(options: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        nasbench201.macs(ONE, **options)


SAME = {
    "an edge that leads nowhere": (ONE, cell("3x3", ".", ".", "1x1", ".", ".")),
    "a node that only passes on": (ONE, cell("1x1", ".", ".", ".", "skip", ".")),
    "twice passed on": (ONE, cell("1x1", ".", "skip", ".", ".", "skip")),
    "nodes 1 and 2 exchanged": (
        cell("1x1", "3x3", ".", ".", "pool", "skip"),
        cell("3x3", "1x1", ".", ".", "skip", "pool"),
    ),
    "a sum made in another place": (
        cell("1x1", "3x3", "skip", ".", ".", "skip"),
        cell("1x1", ".", ".", "3x3", "skip", "."),
    ),
    "a pool of nothing": (ONE, cell(".", ".", ".", "1x1", "pool", "pool")),
}
OTHER = {
    "operations": (ONE, THREE),
    "one convolution used twice, two of them": (
        cell("1x1", ".", "skip", ".", "skip", "skip"),
        cell("1x1", ".", ".", "1x1", "skip", "."),
    ),
    "a convolution of nothing": (NOTHING, cell(".", ".", ".", ".", ".", "1x1")),
    "the input once and twice": (
        cell(".", ".", ".", "skip", ".", "."),
        cell("skip", ".", ".", "skip", "skip", "."),
    ),
}


@pytest.mark.parametrize("kind", SAME)
def test_codes_that_are_one_network(kind: str) -> None:
    a, b = SAME[kind]
    assert a != b
    assert canonical(a).tolist() == canonical(b).tolist()
    assert a in map(parse, isomorphic(b))


@pytest.mark.parametrize("kind", OTHER)
def test_codes_that_are_not(kind: str) -> None:
    a, b = OTHER[kind]
    assert canonical(a).tolist() != canonical(b).tolist()
    assert a not in map(parse, isomorphic(b))


def test_there_are_5875_networks() -> None:
    # Counted apart from this code, by trying all orders of the convolutions in each cell's expression.
    every = np.stack(np.meshgrid(*[np.arange(5)] * 6, indexing="ij"), axis=-1).reshape(-1, 6)
    same = canonical(every)
    assert len(np.unique(same, axis=0)) == 5875
    assert (canonical(same) == same).all()
    # Each stands for itself or comes later in lexicographic order.
    assert (same @ 5 ** np.arange(5, -1, -1) <= np.arange(len(every))).all()


def test_best_counts_a_network_once(known_release: Path) -> None:
    bench = nasbench_mr.load(known_release)
    # Acc counts the 3x3 convolutions: six of them in one cell, five in six.
    assert [r["Acc"] for r in bench.best("nas-bench-201", 3)] == [46.0, 40.0, 40.0]
    every = bench.best("nas-bench-201", 15_625)
    distinct = bench.best("nas-bench-201", 15_625, distinct=True)
    assert len(distinct) == 5875
    assert distinct[0].code == every[0].code
    networks = [tuple(code) for code in canonical([r.code for r in distinct]).tolist()]
    assert len(set(networks)) == 5875
    # The best code of each network, in the order that all codes have.
    first = {}
    for row, network in zip(every, canonical([r.code for r in every]).tolist(), strict=True):
        first.setdefault(tuple(network), row.code)
    assert [r.code for r in distinct] == list(first.values())


def test_verify_derives_the_costs_of_cells(tmp_path: Path) -> None:
    cells = nasbench201.sample(5, seed=0)
    task = tasks.get("nas-bench-201")

    def fill(folder: Path) -> None:
        macs = nasbench201.macs(cells)
        macs[3] += 1
        table.write(
            folder / "tables/nas-bench-201.parquet",
            task,
            {"codes": cells, "Acc": 1.0 * macs % 7, "macs": macs},
        )

    made = release.create(fill, "cells", "1.0.0", [task], about={}, target=tmp_path / "cells")
    exact = int(nasbench201.macs(cells[3])[0])
    with pytest.raises(TableError, match=f"row 3: macs is {exact + 1}; its code has {exact}"):
        release.verify(made)
