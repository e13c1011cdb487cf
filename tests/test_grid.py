"""Spaces of one's own as spaces: codes in every form, moves, the relaxed space, features."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nasbench_mr import cost, nasbench201, spaces
from nasbench_mr.domain import Domain
from nasbench_mr.errors import (
    InfeasibleError,
    InvalidArgumentError,
    OutOfSpaceError,
    SpaceError,
    UnknownNameError,
)
from nasbench_mr.grid import Grid

MIXED = Grid(
    "mixed",
    {
        "layers": [2, 4, 8],
        "rate": [0.1, 0.5],
        "bias": [True, False],
        "op": ["relu", "gelu", "silu"],
        "size": {"values": ["small", "large"], "kind": "ordinal"},
    },
    {"macs": "layers * 100 + (op == 'gelu') * 7", "params": "layers * (5 if bias else 4)"},
)
#: 8^20 codes: too many for a list. The first dimension costs less the larger it is.
LARGE = Grid(
    "large",
    {"first": list(range(1, 9)), **{f"w{k}": list(range(1, 9)) for k in range(19)}},
    {"macs": " + ".join(["8 / first", *(f"w{k}" for k in range(19))]), "params": "w0"},
)
FORMS = [
    (1, 0, 1, 2, 1),
    [1, 0, 1, 2, 1],
    np.array([1.0, 0, 1, 2, 1]),
    "layers=4,rate=0.1,bias=false,op=silu,size=large",
    "  size=large op=silu layers=4 bias=false rate=0.1 ",
    {"layers": 4, "rate": 0.1, "bias": False, "op": "silu", "size": "large"},
    {"layers": "4", "rate": "0.1", "bias": "false", "op": "silu", "size": "large"},
    {"layers": 4.0, "rate": np.float32(0.5) / 5, "bias": np.False_, "op": "silu", "size": "large"},
    pd.Series({"layers": 4, "rate": 0.1, "bias": False, "op": "silu", "size": "large"}),
]


@pytest.mark.parametrize("form", [*FORMS[:7], FORMS[8]], ids=str)
def test_a_code_in_every_form(form: object) -> None:
    assert MIXED.parse(form) == (1, 0, 1, 2, 1)


def test_every_code_reads_back() -> None:
    codes = np.indices((3, 2, 2, 3, 2)).reshape(5, -1).T
    assert len(codes) == MIXED.SIZE == 72
    frame = pd.DataFrame([MIXED.named(code) for code in codes])
    assert (MIXED.check(frame) == codes).all()
    assert (MIXED.check([MIXED.to_string(code) for code in codes]) == codes).all()
    assert (MIXED.project(MIXED.relax(codes)) == codes).all()
    assert MIXED.relax(codes).shape == (72, 1 + 1 + 2 + 3 + 1)


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ((1, 0, 1, 2), "a code has 5 integers; got 4"),
        ((4, 0.1, False, "silu", "large"), r"layers is 4; expected an integer in \[0, 2\], the position"),
        ((1, 0, 1, -1, 1), "op is -1"),
        ((1, 0.5, 1, 2, 1), "rate is 0.5"),
        ("layers=3,rate=0.1,bias=false,op=silu,size=large", "layers is '3'; expected one of 2, 4, 8"),
        ("layers=4,rate=0.1,bias=no,op=silu,size=large", "bias is 'no'; expected one of true, false"),
        ("layers=4,rate=0.1,bias=false,op=silu", "the mapping lacks size"),
        ("layers=4,layers=4", "a dimension twice"),
        ("depth=4", "no dimension 'depth'"),
        ("1,0,1,2,1", "expected values by name, such as 'layers=2,rate=0.1,bias=true,op=relu,size=small'"),
        ("", "not a code"),
        ("x" * 100_000, "not a code"),
        ({"layers": 4}, "lacks rate, bias, op, size"),
        ({"layers": True, "rate": 0.1, "bias": False, "op": "silu", "size": "large"}, "layers is True"),
        ({"layers": 4, "rate": 0.1, "bias": 0, "op": "silu", "size": "large"}, "bias is 0"),
        ({"layers": 4, "rate": 0.1, "bias": False, "op": ["silu"], "size": "large"}, "op is"),
        (None, "got NoneType"),
    ],
)  # fmt: skip
def test_what_is_no_code(form: object, why: str) -> None:
    with pytest.raises(OutOfSpaceError, match=why):
        MIXED.parse(form)


def test_rows_are_named() -> None:
    with pytest.raises(OutOfSpaceError, match="row 1: layers is 9"):
        MIXED.check([(0, 0, 0, 0, 0), (9, 0, 0, 0, 0)])
    frame = pd.DataFrame([MIXED.named([0] * 5), {**MIXED.named([0] * 5), "op": "tanh"}])
    with pytest.raises(OutOfSpaceError, match="row 1: op is 'tanh'; expected one of relu, gelu, silu"):
        MIXED.check(frame)


def test_moves() -> None:
    near = MIXED.neighbors((1, 0, 1, 2, 1))
    # layers: two; rate, bias, size: one each; op: two others.
    assert sorted(map(tuple, near.tolist())) == sorted(
        [(0, 0, 1, 2, 1), (2, 0, 1, 2, 1), (1, 1, 1, 2, 1), (1, 0, 0, 2, 1), (1, 0, 1, 0, 1), (1, 0, 1, 1, 1),
         (1, 0, 1, 2, 0)]
    )  # fmt: skip
    codes = MIXED.sample(500, seed=0)
    assert {tuple(code) for code in MIXED.sample(2000, seed=1).tolist()} == {
        tuple(code) for code in np.indices((3, 2, 2, 3, 2)).reshape(5, -1).T.tolist()
    }
    mutants = MIXED.mutate(codes, np.random.default_rng(0))
    assert ((mutants != codes).sum(axis=1) == 1).all()
    assert (MIXED.check(mutants) == mutants).all()
    children = MIXED.crossover(codes[:250], codes[250:], np.random.default_rng(0))
    assert ((children == codes[:250]) | (children == codes[250:])).all()


def test_costs_and_features() -> None:
    codes = np.array([[0, 0, 0, 0, 0], [2, 1, 1, 1, 1]], np.int16)
    exact = cost.of(MIXED)
    assert exact is not None
    assert exact.macs(codes).tolist() == [200, 807]
    assert exact.params(codes).tolist() == [2 * 5, 8 * 4]
    found = MIXED.features(MIXED.relax(codes), np)
    # The relaxed code, the logarithms of layers and rate, and those of the costs.
    assert found[1].tolist() == [2, 1, 0, 1, 0, 1, 0, 1, 3, -1, np.log2(807), 5]
    torch = pytest.importorskip("torch")
    assert np.allclose(MIXED.features(torch.from_numpy(MIXED.relax(codes)), torch).numpy(), found)
    assert cost.of(Grid("plain", {"w": [1, 2]})) is None


def test_a_description_is_enough_anywhere() -> None:
    assert pickle.loads(pickle.dumps(MIXED)) == MIXED
    told = spaces.told(MIXED)
    assert isinstance(told, dict)
    assert spaces.of(told).NAME == MIXED.NAME
    assert spaces.told(spaces.get("nas-bench-201")) == "nas-bench-201"
    domain = pickle.loads(pickle.dumps(Domain(MIXED, max_macs=300)))
    assert domain == Domain(MIXED, max_macs=300)
    with pytest.raises(UnknownNameError, match="no search space"):
        spaces.get("mixed@000000000000")


def test_nasbench201_is_such_a_grid() -> None:
    assert nasbench201.parse(dict.fromkeys(nasbench201.NAMES, "skip_connect")) == (2,) * 6
    assert nasbench201.parse(dict.fromkeys(nasbench201.NAMES, 2)) == (2,) * 6
    assert nasbench201.CHOICES.all()


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text("name = 's'\n[dimensions]\nw = [1, 2]\n[costs]\nmacs = '1 - w'\nparams = 'w'\n")
    with pytest.raises(SpaceError, match=r"space\.toml: the formula of macs gives -1 for w=2"):
        Grid.read(path)


# --- Domains of whole spaces --------------------------------------------------------------------------


def test_a_small_whole_space_is_a_list() -> None:
    domain = Domain(MIXED, max_macs=407, fixed={"bias": True, "op": "gelu"})
    # layers 2 or 4; bias and op are fixed; rate and size are free.
    assert domain.codes is not None
    assert len(domain.codes) == 2 * 2 * 2
    assert {MIXED.to_string(c).split(",", 2)[2].split(",size")[0] for c in domain.codes} == {
        "bias=true,op=gelu"
    }
    with pytest.raises(InvalidArgumentError, match="no dimension 'ops': did you mean 'op'"):
        Domain(MIXED, fixed={"ops": "gelu"})
    with pytest.raises(OutOfSpaceError, match="op is 'tanh'"):
        Domain(MIXED, fixed={"op": "tanh"})


def test_distances_count_steps_and_choices() -> None:
    domain = Domain(MIXED)
    assert domain.codes is not None
    found = dict(zip(map(tuple, domain.codes.tolist()), domain.distances(np.zeros(5, np.int16)), strict=True))
    # layers: a step is half of its range; op: another choice is 1 away, whichever.
    assert found[1, 0, 0, 0, 0] == 0.5
    assert found[0, 0, 0, 1, 0] == found[0, 0, 0, 2, 0] == 1
    assert found[2, 1, 1, 2, 1] == 5


def test_a_large_whole_space_within_limits() -> None:
    domain = Domain(LARGE, max_macs=30, fixed={"w3": 2})
    assert domain.codes is None
    rng = np.random.default_rng(0)
    codes = domain.sample(200, rng)
    assert domain.contains(codes).all()
    assert (codes[:, LARGE.NAMES.index("w3")] == 1).all()
    assert len(np.unique(codes, axis=0)) > 100
    for moved in (domain.mutate(codes, rng), domain.crossover(codes[:100], codes[100:], rng)):
        assert domain.contains(moved).all()
    assert domain.contains(domain.neighbors(codes[0])).all()
    # The least is 20: every w at 1, but w3 at 2, and first at 8. 8 / 6 and 8 / 7 are rounded to 1 as well.
    with pytest.raises(InfeasibleError, match=r"no code has at most 1\.9e-08 GMACs"):
        Domain(LARGE, max_macs=19, fixed={"w3": 2})
    assert len(list(Domain(LARGE, max_macs=21, fixed={"w3": 2}).walk())) == 3
