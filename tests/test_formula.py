"""Formulas of costs: what they compute, and that they are data."""

from __future__ import annotations

import numpy as np
import pytest

from nasbench_mr.errors import SpaceError
from nasbench_mr.grid import Grid

DIMENSIONS = {"n": [1, 2, 4], "w": [8, 16], "op": ["conv", "pool"], "bias": [True, False]}


def value(text: str, **named: object) -> int:
    """Return a formula's value at a code."""
    space = Grid("s", DIMENSIONS, {"macs": text, "params": "1"})
    code = {"n": 2, "w": 16, "op": "conv", "bias": True} | named
    return int(space.macs(space.parse(code))[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n * w + 3", 35),
        ("n ** 3 * 10", 80),
        ("w / n - 1", 7),
        ("w // 3 + w % 3", 6),
        ("w ** 0.5", 4),
        ("100 * n ** -1", 50),
        ("-n + +w", 14),
        ("min(n, w) + max(n, 3, 1)", 5),
        ("(w > 8) + (w >= 16) + (n < 2) + (n != 2) + (n == 2) + (n <= 1)", 3),
        ("(op == 'conv') * 9 + (op != 'conv') * 5", 9),
        ("3 if op == 'pool' else 7", 7),
        ("3 if w > 8 else 7", 3),
        ("5 if bias else 6", 5),
        ("bias * w", 16),
        ("n  # a comment\n", 2),
    ],
)
def test_arithmetic(text: str, expected: int) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 if n == 0 else 100 / n", [0, 50, 25]),
        ("100 / n if n else 7", [7, 50, 25]),
        ("8 / n if n > 2 else n ** 0.5 if n else 9", [9, 1, 2]),
        ("100 / (1 - n) if n == 0 else n", [100, 2, 4]),
        ("(n - 3) ** 0.5 + 4 if n > 2 else n % 3 + 2 * (n // 3)", [0, 2, 5]),
        ("(1 / n if n > 0 else 0) ** 0 + max(3, 1 / n if n > 0 else 0)", [4, 4, 4]),
    ],
)
def test_only_the_branch_that_is_taken_counts(text: str, expected: list[int]) -> None:
    """Its value, on tensors as well, and there no slope is NaN."""
    torch = pytest.importorskip("torch")
    space = Grid("s", {"n": [0, 2, 4], "w": [1, 2]}, {"macs": text, "params": "1"})
    codes = np.array([[0, 0], [1, 0], [2, 0]], np.int16)
    assert space.macs(codes).tolist() == expected
    x = torch.from_numpy(space.relax(codes)).requires_grad_()
    found = space.cost_tensor("macs", x)
    # What is rounded to a whole number for NumPy is not for torch.
    assert found.detach().round().tolist() == expected
    assert torch.autograd.grad(found.sum(), x)[0].isfinite().all()
    assert np.isfinite(space.features(space.relax(codes), np)).all()


@pytest.mark.parametrize(
    "text",
    [
        "(1 / n > 5) * 3",
        "(0 / n == 5) * 3",
        "(n % n != 5) * 3",
        "min(1 / n, 5)",
        "5 / (1 / n)",
        "(4 // n) ** 0",
        "1 if 0 / n else 2",
        "3 if 1 / n > 2 else 4",
        "min(n ** -1, 3)",
        "1 / ((1e17 ** 8) ** 8) + n",
        "(((n - 1) ** 0.5) > 1) * 1",
    ],
)
def test_what_python_refuses_is_refused(text: str) -> None:
    """Infinities and NaN do not come out as numbers after another step."""
    words = r"gives nan for n=0,.* \(a division by zero, a root of a negative number, or an overflow\)"
    with pytest.raises(SpaceError, match=words):
        Grid("s", {"n": [0, 2, 4], "w": [1, 2]}, {"macs": text, "params": "1"})


def test_booleans_and_choices_elsewhere() -> None:
    assert value("bias * w", bias=False) == 0
    assert value("(op == 'conv') * 9 + (op != 'conv') * 5", op="pool") == 5


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("__import__('os').system('true')", "is not allowed"),
        ("n.real", "is not allowed"),
        ("[n for n in w]", "is not allowed"),
        ("(lambda: 1)()", "is not allowed"),
        ("n and w", "is not allowed"),
        ("n << 9", "is not allowed"),
        ("f'{n}'", "is not allowed"),
        ("abs(n)", "is not allowed"),
        ("min(n)", "at least two"),
        ("min(*n, w)", "is not allowed"),
        ("1 < n < 3", "is not allowed"),
        ("True", "is not allowed"),
        ("'conv'", "is not allowed"),
        ("depth * 2", "no dimension 'depth'"),
        ("op * 2", "has texts"),
        ("op == 'convolution'", "has no value 'convolution'"),
        ("n == 'conv'", "has no value 'conv'"),
        ("op < 'conv'", "by == or !="),
        ("9 ** n", "an exponent is a number"),
        ("n ** 99", "an exponent is a number"),
        ("n ** -9", "an exponent is a number"),
        ("1e400", "too large"),
        ("9" * 3000, "too large"),
        ("n +", "is not a formula"),
        ("", "is not a formula"),
        ("n; w", "is not a formula"),
        ("import os", "is not a formula"),
        ("n\0", "is not a formula"),
        ("-" * 100 + "n", "too long"),
        ("+".join(["n"] * 900), "too long"),
        ("(" * 500 + "n" + ")" * 500, "is not a formula"),
        ("n*" * 2500 + "n", "expected a formula"),
        ("n - 9", "expected a number from 0 to 2^53"),
        ("1 / (n - 1)", "expected a number from 0 to 2^53"),
        ("1e17 * 1e17", "expected a number from 0 to 2^53"),
        ("(0 - n) ** 0.5", "expected a number from 0 to 2^53"),
    ],
)
def test_what_is_no_formula(text: str, why: str) -> None:
    with pytest.raises(SpaceError, match=why.replace("^", r"\^")):
        Grid("s", DIMENSIONS, {"macs": text, "params": "1"})


def test_gradients_are_central_differences() -> None:
    torch = pytest.importorskip("torch")
    space = Grid("s", DIMENSIONS, {"macs": "n * w", "params": "n + (9 if op == 'pool' else 4)"})
    codes = np.array([[1, 0, 0, 0], [0, 1, 1, 1]], np.int16)
    x = torch.from_numpy(space.relax(codes)).requires_grad_()
    found = space.cost_tensor("macs", x)
    assert found.tolist() == space.macs(codes).tolist() == [2 * 8, 1 * 16]
    (slopes,) = torch.autograd.grad(found.sum(), x)
    # n = 2 lies between 1 and 4, 1.5 a step; w rises by 8 a step. At an end the difference has one side.
    assert slopes[:, :2].tolist() == [[1.5 * 8, 2 * 8], [1 * 16, 1 * 8]]
    (slopes,) = torch.autograd.grad(space.cost_tensor("params", x).sum(), x)
    # Of the texts and booleans, the slopes of their one-hots: conv, pool, true, false.
    assert slopes[:, 2:].tolist() == [[0, 9 - 4, 0, 0]] * 2


def test_a_root_has_no_slope_at_zero() -> None:
    """There it is infinite, and a search that follows it goes nowhere."""
    torch = pytest.importorskip("torch")
    space = Grid("s", {"n": [0, 4], "w": [1, 2]}, {"macs": "10 * n ** 0.5 + w", "params": "n ** 0 + n ** 1"})
    x = torch.from_numpy(space.relax([[0, 0], [1, 0]])).requires_grad_()
    slopes = {
        name: torch.autograd.grad(space.cost_tensor(name, x).sum(), x)[0] for name in ("macs", "params")
    }
    # n rises by 4 a step: of 10 sqrt(n) at 4 that is 4 * 10 / (2 * 2), of n at any place 4.
    assert slopes["macs"].tolist() == [[0, 1], [10, 1]]
    assert slopes["params"].tolist() == [[4, 0], [4, 0]]


def test_a_quotient_without_its_rest_rises_as_the_quotient() -> None:
    torch = pytest.importorskip("torch")
    space = Grid("s", {"n": [1, 2, 3], "w": [7, 14]}, {"macs": "w // n", "params": "w > 7"})
    x = torch.from_numpy(space.relax([[1, 0]])).requires_grad_()
    found = space.cost_tensor("macs", x)
    assert found.tolist() == [7 // 2]
    # n rises by 1 a step, w by 7.
    assert torch.autograd.grad(found.sum(), x)[0].tolist() == [[-7 / 2**2, 7 / 2]]
    # A comparison has no slope, and is no error.
    assert torch.autograd.grad(space.cost_tensor("params", x).sum(), x)[0].tolist() == [[0, 0]]
