"""Costs that a user's file gives, checked against the exact ones of its codes.

`settle` is what an import calls. Where the costs are not the codes', it says the likely reason: another unit,
two operations for each multiply-accumulate, another input or number of classes, another way of counting.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import cost, nasbench201, space
from nasbench_mr.arrays import Codes, Floats, Ints

#: Rounding is taken for it up to this share of a cost; and what float32 keeps of one.
_ROUNDED, _SINGLE = 5e-3, 1e-6
#: Inputs and numbers of classes that costs are often given for, those of the published tables first.
_SIDES = (128, 224, 32, 64, 96, 112, 160, 192, 256, 320, 384, 512)
_CLASSES = (50, 10, 100, 1000, 2, 11, 19, 20, 21, 51, 101, 120, 200)
_CELL_SIDES, _CELL_CLASSES = (32, 16), (100, 10, 120)


def settle(columns: dict[str, Any], space_name: str) -> tuple[str, str]:
    """Put exact `macs` and `params` in place of missing and rounded ones, if a space has a formula.

    Args:
        columns: "codes" `(n, DIM)` and, where the file has them, "macs" and "params" `(n,)`; NaN: unknown.
        space_name: the codes' search space.

    Returns:
        Where the costs come from, and what is wrong with the file's; "" where nothing is. Where something is,
        the columns stay as they are.
    """
    exact = cost.of(space_name)
    given = {name: columns[name] for name in ("macs", "params") if name in columns}
    given = {name: found for name, found in given.items() if not np.isnan(found).all()}
    if exact is None:
        return ("the file's own" if given else "unknown"), ""
    expected = {name: formula(columns["codes"]) for name, formula in exact._asdict().items()}
    rounded = False
    for name, found in given.items():
        off = np.abs(found - expected[name])
        wrong = off > _rounding(found, expected[name])  # false where unknown
        if wrong.any():
            return "the file's own", _described(name, found, columns["codes"], space_name, wrong)
        rounded |= bool((off > 0).any())
    columns |= expected
    if rounded:
        return "computed from the codes; the file's are these, rounded", ""
    return "computed from the codes" + ("; the file's agree" if given else ""), ""


def _rounding(found: Floats, expected: Ints) -> Floats:
    """How far from `expected` each of `found` may be, `(n,)`, to be the same number with fewer digits."""
    known = found[~np.isnan(found)]
    power = next(p for p in range(12, -1, -1) if (np.rint(known / 10**p) * 10**p == known).all() or p == 0)
    step = 0.5 * 10**power if power else 0.0
    allowed: Floats = np.maximum(np.minimum(step, _ROUNDED * expected), _SINGLE * expected)
    return allowed


def _described(name: str, found: Floats, codes: Codes, space_name: str, wrong: npt.NDArray[np.bool_]) -> str:
    """Say how a column differs from the codes' costs, and why it may."""
    exact = cost.of(space_name)
    assert exact is not None
    expected: Ints = getattr(exact, name)(codes)
    rows = np.flatnonzero(wrong)
    text = f"row {rows[0]}: {name} is {found[rows[0]]:,.0f}; its code has {expected[rows[0]]:,}"
    reason = _reason(name, found[rows], expected[rows], codes[rows], space_name)
    return f"{text} ({len(rows)} of {len(found)} rows): {reason}"


def _reason(name: str, found: Floats, expected: Ints, codes: Codes, space_name: str) -> str:
    for label, other in _networks(name, codes, space_name):
        if (np.abs(found - other) <= _rounding(found, other)).all():
            return f"they are those of {label}"
    if len(found) > 1 and np.array_equal(np.sort(found), np.sort(expected)):
        return "they are those of other rows"
    ratios = found / expected
    ratio = float(np.median(ratios))
    if (np.abs(ratios / ratio - 1) > 0.1).any():
        return "they are of other codes, or of another network"
    for factor, doubled in itertools.product((1e3, 1e6, 1e9, 1.0, 1e-3, 1e-6, 1e-9), (1.0, 2.0, 0.5)):
        times = factor * doubled
        if times == 1 or abs(ratio / times - 1) > 0.1:
            continue
        why = []
        if factor != 1:
            why += [
                "another unit (macs and params are counts; flops are in 1e9, and params beside them in 1e6)"
            ]
        if doubled == 2:
            why += ["operations, two for each multiply-accumulate"]
        if doubled == 0.5:
            why += ["half of each multiply-accumulate is counted"]
        return f"off by a factor of {times:g}: {', and '.join(why)}"
    if abs(ratio - 1) < 0.1:
        return f"off by {abs(ratio - 1):.1%}: norms, biases or the classifier are counted in another way"
    return f"off by a factor of {ratio:.3g}: of another input, network or rule"


def _networks(name: str, codes: Codes, space_name: str) -> Iterator[tuple[str, Ints]]:
    """Yield the same codes' costs with other inputs and classes than the tables', each with what it is of."""
    if space_name == nasbench201.NAME:
        own = nasbench201.RESOLUTION, nasbench201.NUM_CLASSES, ""
        for side, classes in itertools.product(_CELL_SIDES, _CELL_CLASSES):
            if name == "macs":
                yield _label((side, classes, ""), own), nasbench201.macs(codes, side, classes)
            elif side == own[0]:
                yield _label((side, classes, ""), own), nasbench201.params(codes, classes)
    if space_name == space.NAME:
        usual = cost.RESOLUTION, cost.NUM_CLASSES, cost.HEADS[0]
        for classes, side, head in itertools.product(_CLASSES, _SIDES, cost.HEADS):
            if name == "macs":
                yield _label((side, classes, head), usual), cost.macs(codes, side, classes, head=head)
            elif (side, head) == (usual[0], usual[2]):
                yield _label((side, classes, head), usual), cost.params(codes, classes)


def _label(network: tuple[int, int, str], usual: tuple[int, int, str]) -> str:
    """ "224x224 pixels, expected 128x128": in what a network is not the usual one."""
    said, expected = [], []
    for form, found, own in zip(("{0}x{0} pixels", "{0} classes", "a {0} head"), network, usual, strict=True):
        if found != own:
            said.append(form.format(found))
            expected.append(form.format(own))
    # One difference is said short.
    if len(expected) == 1:
        expected[0] = expected[0].removesuffix(" pixels").removesuffix(" classes")
    return f"{' and '.join(said)}, expected {' and '.join(expected)}"
