"""Formulas of costs: arithmetic over the dimensions of a space, read from a file as data, never run as code.

    formula = Formula("layers * 12 * width ** 2 + (op == 'conv') * 9", description.dimensions, "macs")

Python's parser reads the text and a list of allowed nodes decides what it may hold: numbers, the dimensions'
names, + - * / // % **, comparisons, `a if b else c`, `min` and `max`. All numbers are floats, exponents are
constants, and sizes are bounded, so no formula takes long. The same formula computes on NumPy's arrays
and, differentiably, on torch's tensors.

Where Python would raise an error, as for a division by zero, and where a number is too large for a float, the
whole formula is NaN; only a branch of `a if b else c` that is not taken counts for nothing.
"""

from __future__ import annotations

import abc
import ast
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nasbench_mr.errors import SpaceError, did_you_mean

if TYPE_CHECKING:
    from nasbench_mr.description import Dimension

#: Limits of a formula: characters, parts, and how deep they are nested.
MAX_TEXT, MAX_NODES, MAX_DEPTH = 4000, 1000, 60
MAX_EXPONENT = 8
#: What a formula may call.
FUNCTIONS = ("min", "max")
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ALLOWED = "expected numbers, dimensions, + - * / // % **, comparisons, min, max and 'a if b else c'"


class Values(abc.ABC):
    """What a formula computes with: the values of `(n,)` codes, as arrays of `xp` (numpy or torch)."""

    xp: Any

    @abc.abstractmethod
    def number(self, k: int) -> Any:
        """Return the numbers of dimension k: `(n,)` floats."""

    @abc.abstractmethod
    def has(self, k: int, at: int) -> Any:
        """Return 1 where dimension k has its value number `at`, else 0: `(n,)` floats."""

    @abc.abstractmethod
    def constant(self, value: float) -> Any:
        """Return one number for every code: `(n,)` floats."""

    @abc.abstractmethod
    def only(self, rows: Any) -> Values:
        """Return the same values, of which those outside `(n,)` rows have no slopes."""

    @abc.abstractmethod
    def floor_divide(self, a: Any, b: Any) -> Any:
        """Return a // b, `(n,)` each, with the slopes of a / b."""

    @abc.abstractmethod
    def power(self, base: Any, exponent: float) -> Any:
        """Return base ** exponent, `(n,)`, without a slope where it is infinite: of roots at 0."""


class Formula:
    """A formula, checked. Call it with `Values`: `(n,)` floats.

    Args:
        text: as in the file.
        dimensions: of the space.
        what: what it is of, for messages: "macs".

    Raises:
        SpaceError: it is not a formula over these dimensions.
    """

    def __init__(self, text: str, dimensions: Sequence[Dimension], what: str):
        self.text, self.what = str(text), what
        self._dimensions = {dimension.name: (k, dimension) for k, dimension in enumerate(dimensions)}
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            raise SpaceError(f"the cost {what} is {text!r:.60}; expected a formula as a text")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as "invalid escape sequence"
                self._body = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise SpaceError(f"the cost {what} is not a formula: {text!r:.80}: {error}") from None
        self._count = 0
        try:
            self._check(self._body, 0)
        except RecursionError:
            raise self._wrong("it is nested too deep") from None
        #: The same formula in one line, without comments.
        self.text = ast.unparse(self._body)

    def __call__(self, values: Values) -> Any:
        return self._value(self._body, values)

    def _wrong(self, why: str) -> SpaceError:
        return SpaceError(f"the cost {self.what}, {self.text!r:.80}: {why}")

    def _check(self, node: ast.expr, depth: int) -> None:
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_NODES:
            raise self._wrong(f"it is too long; expected at most {MAX_NODES} parts, {MAX_DEPTH} deep")
        inner: Sequence[ast.expr] = ()
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                if not abs(value) < 1e18:
                    raise self._wrong(f"the number {value!r:.30} is too large; expected less than 1e18")
            case ast.Name(id=name):
                self._check_name(name)
            case ast.BinOp(left=base, op=ast.Pow(), right=exponent):
                self._exponent(exponent)
                inner = (base,)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in (ast.FloorDiv, *_ARITHMETIC):
                inner = (left, right)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                inner = (operand,)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
                if self._choice(node) is None:
                    inner = (left, right)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                inner = (test, body, otherwise)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
                if len(arguments) < 2:
                    raise self._wrong(f"{name} needs at least two numbers")
                inner = arguments
            case _:
                raise self._wrong(f"{ast.unparse(node)!r:.40} is not allowed; {_ALLOWED}")
        for each in inner:
            self._check(each, depth + 1)

    def _check_name(self, name: str) -> None:
        if name not in self._dimensions:
            raise self._wrong(f"there is no dimension {name!r}: {did_you_mean(name, self._dimensions)}")
        if isinstance(self._dimensions[name][1].values[0], str):
            raise self._wrong(f"{name} has texts, not numbers; compare them: ({name} == 'TEXT') * 2")

    def _exponent(self, node: ast.expr) -> float:
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            sign, node = -1, node.operand
        value = node.value if isinstance(node, ast.Constant) else None
        if type(value) not in (int, float) or not abs(value) <= MAX_EXPONENT:  # type: ignore[arg-type]
            raise self._wrong(f"an exponent is a number from -{MAX_EXPONENT} to {MAX_EXPONENT}")
        return sign * float(value)  # type: ignore[arg-type]

    def _choice(self, node: ast.Compare) -> tuple[int, int, bool] | None:
        """Return the dimension, its value's number and whether equal, of "op == 'conv'"; None for others."""
        sides = node.left, node.comparators[0]
        texts = [n.value for n in sides if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        if not texts:
            return None
        names = [n.id for n in sides if isinstance(n, ast.Name)]
        if (
            len(names) != 1
            or names[0] not in self._dimensions
            or type(node.ops[0]) not in (ast.Eq, ast.NotEq)
        ):
            raise self._wrong("a text is compared with a dimension, by == or !=: op == 'conv'")
        k, dimension = self._dimensions[names[0]]
        if texts[0] not in dimension.values:
            options = did_you_mean(texts[0], map(str, dimension.values))
            raise self._wrong(f"{dimension.name} has no value {texts[0]!r:.40}: {options}")
        return k, dimension.values.index(texts[0]), isinstance(node.ops[0], ast.Eq)

    def _value(self, node: ast.expr, values: Values) -> Any:
        match node:
            case ast.Constant(value=value):
                return values.constant(float(value))  # type: ignore[arg-type]
            case ast.Name(id=name):
                return values.number(self._dimensions[name][0])
            case ast.BinOp(left=base, op=ast.Pow(), right=exponent):
                number = self._value(base, values)
                # NaN to the power of 0 would be 1.
                return _finite(values.power(number, self._exponent(exponent)) + number * 0, values)
            case ast.BinOp(left=left, op=op, right=right):
                compute = _ARITHMETIC.get(type(op), values.floor_divide)
                return _finite(compute(self._value(left, values), self._value(right, values)), values)
            case ast.UnaryOp(op=op, operand=operand):
                value = self._value(operand, values)
                return -value if isinstance(op, ast.USub) else value
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                if (chosen := self._choice(node)) is not None:
                    k, at, equal = chosen
                    return values.has(k, at) if equal else 1.0 - values.has(k, at)
                a, b = self._value(left, values), self._value(right, values)
                # A comparison with NaN would be false.
                return _COMPARISONS[type(op)](a, b) + (a * 0 + b * 0)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                share = self._value(test, values)
                if not isinstance(test, ast.Compare):
                    share = (share != 0) + share * 0
                return self._chosen(share, body, otherwise, values)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                take = values.xp.minimum if name == "min" else values.xp.maximum
                found = self._value(arguments[0], values)
                for each in arguments[1:]:
                    found = take(found, self._value(each, values))
                return found
        raise AssertionError(ast.dump(node))  # `_check` lets nothing else through

    def _chosen(self, share: Any, body: ast.expr, otherwise: ast.expr, values: Values) -> Any:
        """Return `share` of one branch and the rest of the other; of relaxed codes it may be a fraction.

        The share's slope is what separates the branches. A branch without a share counts for nothing where it
        is NaN, and its slopes, which may be NaN where it is not, nowhere.
        """
        xp, some, rest = values.xp, share != 0, share != 1
        a, b = self._value(body, values.only(some)), self._value(otherwise, values.only(rest))
        first = xp.where(some | xp.isfinite(a), a, b)
        second = xp.where(rest | xp.isfinite(b), b, a)
        return share * first + (1.0 - share) * second


def _finite(found: Any, values: Values) -> Any:
    """Return numbers with NaN in place of infinite ones, which later steps could turn into plausible ones."""
    return values.xp.where(values.xp.isfinite(found), found, math.nan)
