"""What every search is: `ask` for codes, `tell` their values; and `run`, which does both on an objective.

    objective = Objective.table(bench, "seg", max_macs=2e9)
    search = make("evolution", objective, seed=0)
    trace = run(search, objective, budget=300)

A search knows the domain and what it was told, nothing else, so it runs on tables, surrogates and live
training, on any space, for one task or several. It never asks for a code twice (`halving` and
`hyperband` do, for longer trainings). A new search subclasses `Searcher` and gets a row in `SEARCHES`.
"""

from __future__ import annotations

import abc
import math
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from nasbench_mr.arrays import ByValue, Codes, Floats, Ints, key, keys
from nasbench_mr.checks import at_least, positive
from nasbench_mr.checks import seed as check_seed
from nasbench_mr.domain import Domain
from nasbench_mr.errors import ExhaustedError, InvalidArgumentError
from nasbench_mr.fronts import front, growing
from nasbench_mr.objective import Objective
from nasbench_mr.plugins import Registry, check_options

#: Every search there is.
SEARCHES = Registry["type[Searcher]"](
    "search",
    {
        "random": "nasbench_mr.search.baselines:Random",
        "local": "nasbench_mr.search.baselines:LocalSearch",
        "evolution": "nasbench_mr.search.baselines:Evolution",
        "proxy": "nasbench_mr.search.proxy:ProxyEvolution",
        "tpe": "nasbench_mr.search.tpe:TPE",
        "guided": "nasbench_mr.search.guided:GuidedEvolution",
        "ncp": "nasbench_mr.search.ncp_in_loop:NCPSearch",
        "halving": "nasbench_mr.search.halving:SuccessiveHalving",
        "nsga2": "nasbench_mr.search.nsga2:NSGA2",
        "pareto-local": "nasbench_mr.search.pareto:ParetoLocalSearch",
        "ncp-front": "nasbench_mr.search.pareto:NCPFront",
        "hyperband": "nasbench_mr.search.halving:Hyperband",
    },
)

#: Those for a front; the first is for one value as well.
FRONTS = ("random", "nsga2", "pareto-local", "ncp-front")

#: How often a search that proposes only codes it has asked for is asked for others, before random ones do.
_ATTEMPTS = 8


class Searcher(ByValue, abc.ABC):
    """Proposes codes and learns from their values, which are the larger the better.

    >>> objective = Objective.table(nasbench_mr.load("mini"), "mini-seg")
    >>> searcher = search.make("evolution", objective, seed=0)
    >>> codes = searcher.ask(4)
    >>> searcher.tell(codes, objective.evaluate(codes))

    Args:
        domain: the codes it may ask for.
        seed: of all its randomness; the same seed and the same values told give the same codes.
        epochs: the points of the learning curves that may be asked for; only `halving` and
            `hyperband` use them.

    Attributes:
        name: its name in the registry.
        front: whether it takes several values of a code, the objectives of a front; None: either.
        fidelity: `(n,)` for the codes asked last, the epoch up to which to train each; 0 is the end.
        initial: codes that it asks for at random before it learns from any.
    """

    name: ClassVar[str]
    front: ClassVar[bool | None] = False
    initial = 0

    def __init__(self, domain: Domain, seed: int = 0, epochs: Sequence[int] = ()):
        points: object = epochs  # of any type, so that what users give is checked
        if isinstance(points, str) or not isinstance(points, Iterable):
            raise InvalidArgumentError(
                f"epochs is {points!r}; expected the points of the learning curves that may be asked for, "
                "such as (4, 8)"
            )
        self.domain, self.seed = domain, check_seed(seed)
        self.rng = np.random.default_rng(self.seed)
        self.fidelity: Ints = np.empty(0, np.int64)
        self._asked: set[bytes] = set()
        #: Of a listed domain's codes, those never asked for: `(n,)`.
        self._free = np.ones(0 if domain.codes is None else len(domain.codes), bool)
        #: Asked for and not told yet: the code's key, and its fidelity.
        self._pending: dict[bytes, int] = {}
        self._codes: list[Codes] = []
        self._values: list[Any] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Ray and joblib lend what they share, unwritable; a search writes into its arrays.
        for name, value in state.items():
            lent = isinstance(value, np.ndarray) and not value.flags.writeable
            self.__dict__[name] = value.copy() if lent else value

    def ask(self, n: int = 1) -> Codes:
        """Return the next `n` codes to measure, distinct and within the domain: `(n, DIM)`.

        May be called again before the values of the last ones are told.

        Raises:
            InvalidArgumentError: n is not a positive integer.
            ExhaustedError: the domain has fewer codes that were never asked for.
        """
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise InvalidArgumentError(f"n is {n!r}; expected a positive number of codes")
        codes, fidelity = self._ask(int(n))
        assert len(codes) == n
        self.fidelity = fidelity
        for code, epoch in zip(keys(codes), fidelity.tolist(), strict=True):
            self._pending[code] = epoch
            self._asked.add(code)
        if len(self._free):
            self._free[self.domain.rows(codes)] = False
        return codes

    def tell(self, codes: object, values: object, *, elsewhere: bool = False) -> None:
        """Learn the values of codes asked for, in any order and in as many calls as one likes.

        Args:
            codes: `(n, DIM)`.
            values: `(n,)`, of a front `(n, m)`, finite; the larger the better.
            elsewhere: whether codes of the domain that were never asked for are taken as well, as trained to
                the end: a warm start from what is known already. They are not asked for any more.

        Raises:
            InvalidArgumentError: a value is missing or not finite, or a code was not asked for, or was told
                before. Nothing is learnt then.
        """
        checked = self.domain.space.check(codes)
        try:
            told = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            raise InvalidArgumentError("values are an (n,) array of numbers") from None
        several = told.ndim == 2 and told.shape[1] > 1
        one = told.ndim == 1 or (several and self.front is not False)
        if told.shape[:1] != (len(checked),) or not one:
            raise InvalidArgumentError(
                f"values have shape {told.shape}; expected ({len(checked)},): one for each code"
            )
        if (self.front and not several) or (told.shape[1:] != self.values.shape[1:] and len(self._values)):
            raise InvalidArgumentError(
                f"values have shape {told.shape}; expected ({len(checked)}, m): a front's objectives"
            )
        if not np.isfinite(told).all():
            row = int(np.argwhere(~np.isfinite(told))[0][0])
            raise InvalidArgumentError(
                f"values[{row}] is {told[row]}; expected finite numbers. A training that failed still needs "
                "a value, such as its metric's worst (Objective.evaluate gives that)"
            )
        named = keys(checked)
        seen: set[bytes] = set()
        new = np.zeros(len(checked), bool)
        if elsewhere:
            new = self.domain.contains(checked) & [code not in self._asked for code in named]
        for row, code in enumerate(named):
            if not (code in self._pending or new[row]) or code in seen:
                why = "was told already" if code in self._asked else "was never asked for"
                if elsewhere and code not in self._asked:
                    why = "is not in the domain"
                raise InvalidArgumentError(f"codes[{row}], {checked[row].tolist()}, {why}")
            seen.add(code)
        self._asked.update(named)
        if len(self._free):
            self._free[self.domain.rows(checked)] = False
        self._tell(checked, told, np.array([self._pending.pop(code, 0) for code in named], np.int64))

    @property
    def codes(self) -> Codes:
        """The codes whose values were told, in that order: `(n, DIM)`."""
        return np.array(self._codes, np.int16).reshape(-1, self.domain.space.DIM)

    @property
    def values(self) -> Floats:
        """Their values: `(n,)`, of a front `(n, m)`."""
        return np.array(self._values)

    @property
    def left(self) -> int:
        """How many codes were never asked for; in a whole space under limits an upper bound."""
        return self.domain.size - len(self._asked)

    def _ask(self, n: int) -> tuple[Codes, Ints]:
        """`n` codes and their fidelities. By default new ones that `_propose` names, trained to the end."""
        self._check_left(n)
        found: dict[bytes, Codes] = {}
        for _ in range(_ATTEMPTS):
            self._add_new(self._propose(n - len(found)), found, n)
            if len(found) == n:
                break
        else:
            found |= {key(code): code for code in self._random(n - len(found), found)}
        return np.array([*found.values()]), np.zeros(n, np.int64)

    @abc.abstractmethod
    def _propose(self, n: int) -> Codes:
        """Codes of the domain to ask for, best first; some may be known, and there may be more than `n`."""

    def _tell(self, codes: Codes, values: Floats, fidelity: Ints) -> None:
        """Learns what was told, already checked. Overrides begin with this one: it keeps full trainings."""
        full = fidelity == 0
        self._codes.extend(codes[full])
        self._values.extend(values[full].tolist())

    def _check_left(self, n: int) -> None:
        if n > self.left:
            raise ExhaustedError(
                f"asked for {n} more codes, but only {self.left} of {self.domain.size:,} are left"
            )

    def _random(self, n: int, exclude: Mapping[bytes, Codes] | None = None) -> list[Codes]:
        """`n` random codes that were never asked for and are not among `exclude`."""
        found = dict(exclude or {})
        wanted = len(found) + n
        if self.domain.codes is None:
            for _ in range(_ATTEMPTS):
                if len(found) < wanted:
                    self._add_new(self.domain.sample(wanted - len(found), self.rng), found, wanted)
            # Limits that leave next to nothing: go through what there is.
            candidates = self.domain.walk()
        else:
            free = np.flatnonzero(self._free)
            candidates = iter(self.domain.codes[self.rng.permutation(free)])
        while len(found) < wanted:
            chunk = np.array([*islice(candidates, 256)])
            if not len(chunk):
                known = len(found) - (wanted - n)
                raise ExhaustedError(f"asked for {n} more codes, but only {known} are left")
            self._add_new(chunk, found, wanted)
        return [*found.values()][wanted - n :]

    def _add_new(self, codes: Codes, found: dict[bytes, Codes], wanted: int) -> None:
        """Add those of `codes` that were never asked for to `found`, until it has `wanted`."""
        codes = np.asarray(codes, np.int16).reshape(-1, self.domain.space.DIM)
        for name, code in zip(keys(codes), codes, strict=True):
            if len(found) == wanted:
                return
            if name not in self._asked:
                found.setdefault(name, code)

    def nearest_new(self, codes: Codes) -> Codes:
        """Return the nearest allowed code to each; from a list one never asked for: at most `(n, DIM)`."""
        listed = self.domain.codes
        if listed is None:
            return self.domain.repair(codes)
        free = self._free.copy()
        rows = []
        for code, row in zip(codes, self.domain.rows(codes).tolist(), strict=True):
            if row < 0 or not free[row]:
                row = int(np.where(free, self.domain.distances(code), np.inf).argmin())
            if free[row]:
                rows.append(row)
                free[row] = False
        return listed[rows]


def names(front: bool = False) -> tuple[str, ...]:
    """All registered searches that maximise one value, or those for a front of several objectives."""
    return FRONTS if front else tuple(name for name in SEARCHES if name not in FRONTS[1:])


def make(
    name: str | type[Searcher],
    objective_or_domain: Objective | Domain | None = None,
    seed: int = 0,
    **options: Any,
) -> Searcher:
    """Return a new search.

    Args:
        name: one of `names()`, or a subclass of `Searcher`, itself or by its dotted name ("mine.Search").
        objective_or_domain: where it searches; the whole space of the 27 integers by default.
        seed: of its randomness.
        options: keyword arguments of the search's class.

    Raises:
        UnknownNameError: no such search.
        InvalidArgumentError: it has no such option, or needs learning curves that are not there.
        MissingExtraError: a library it needs is not installed.
    """
    kind = SEARCHES.find(name, Searcher)
    where = objective_or_domain
    if isinstance(where, Objective):
        options = {"epochs": where.epochs, **options}
    domain = where.domain if isinstance(where, Objective) else Domain() if where is None else where
    shown = f"search {(name if isinstance(name, str) else name.__name__)!r}"
    check_options(kind, options, shown, ("domain", "seed"))
    if isinstance(where, Objective):
        check_front(kind, shown, where.scale is not None)
    try:
        made: Searcher = kind(domain, seed=seed, **options)
    except TypeError as error:
        raise InvalidArgumentError(f"{shown}: {error}") from None
    return made


def check_front(kind: type[Searcher], shown: str, front: bool) -> None:
    """Raise `InvalidArgumentError` where a search is for a front and the objective is not, or the reverse."""
    if kind.front is None or kind.front is front:
        return
    does = "searches a front" if kind.front else "maximises one value"
    raise InvalidArgumentError(
        f"{shown} {does}, and the objective is {'a front' if front else 'one value'}; "
        f"expected one of {', '.join(names(front))}"
    )


@dataclass(frozen=True, eq=False)
class Trace(ByValue):
    """What one run measured, in that order; row k of every array is its k-th measurement.

    >>> objective = Objective.table(nasbench_mr.load("mini"), "mini-seg")
    >>> trace = search.run(search.make("random", objective, seed=0), objective, budget=10)
    >>> trace.codes.shape, len(trace.best), bool(trace.best[-1] == trace.best_value)
    ((10, 27), 10, True)

    Attributes:
        codes: `(n, DIM)` int16.
        values: `(n,)` as the objective gave them, the larger the better; of a front `(n, m)`.
        fidelity: `(n,)` the epoch each was trained to; 0 is the end.
        evaluations: `(n,)` full trainings used so far; a shorter training counts as its share.
        spent: `(n,)` the simulated cost so far.
        unit: of `spent`.
        best_value: the largest value of a full training; NaN without one. Of a front its hypervolume.
        best_code: its code; None of a front.
        front: the codes of full trainings that no other one beats, `(k, DIM)`.
    """

    codes: Codes
    values: Floats
    fidelity: Ints
    evaluations: Floats
    spent: Floats
    unit: str

    @cached_property
    def best(self) -> Floats:
        """`(n,)` the largest value of a full training so far, or the hypervolume; NaN before the first."""
        if self.values.ndim == 2:
            full = np.where((self.fidelity == 0)[:, None], self.values, 0.0)
            volume = np.where(np.logical_or.accumulate(self.fidelity == 0), growing(full), np.nan)
            volume.setflags(write=False)
            return volume
        full = np.where(self.fidelity == 0, self.values, -np.inf)
        running = np.maximum.accumulate(full)
        best: Floats = np.where(np.isfinite(running), running, np.nan)
        best.setflags(write=False)  # It is kept.
        return best

    @property
    def best_value(self) -> float:
        return float(self.best[-1]) if len(self.best) else math.nan

    @property
    def best_code(self) -> tuple[int, ...] | None:
        if self.values.ndim == 2:
            return None
        rows = np.flatnonzero((self.fidelity == 0) & (self.values == self.best_value))
        return tuple(self.codes[rows[0]].tolist()) if len(rows) else None

    @property
    def front(self) -> Codes:
        rows = np.flatnonzero(self.fidelity == 0)
        values = self.values[rows].reshape(len(rows), math.prod(self.values.shape[1:]))
        return self.codes[rows[front(values)]]


def run(search: Searcher, objective: Objective, budget: float, batch: int = 1) -> Trace:
    """Lets a search ask the objective until the budget is used up, or every code of the domain is measured.

    Args:
        budget: full trainings; shorter ones count as their share.
        batch: codes asked for at a time.

    Raises:
        InvalidArgumentError: the budget or the batch is not positive.
    """
    budget, batch = check_budget(budget, batch)
    warn_of_random(search, budget)
    return run_all([search], objective, budget, batch)[0]


def run_all(searches: Sequence[Searcher], objective: Objective, budget: float, batch: int = 1) -> list[Trace]:
    """`run` for independent searches side by side, which measures faster: one question for all of them."""
    budget, batch = check_budget(budget, batch)
    records = [_Record(search, objective.shape) for search in searches]
    active = records
    while active:
        for record in active:
            record.ask(budget, batch)
        active = [record for record in active if len(record.asked)]
        _measure(active, objective)
    return [record.trace(objective.unit) for record in records]


class RandomSearchWarning(UserWarning):
    """A search's random first codes take its whole budget."""


def warn_of_random(search: Searcher, budget: float) -> None:
    """Warn where a budget ends before the search has learnt anything: it is random search then."""
    if budget <= search.initial:
        option = "population" if hasattr(search, "population") else "initial"
        warnings.warn(
            f"{search.name!r} begins with {search.initial} random codes, and the budget is {budget:g}: this "
            f"is random search; give a larger budget, or fewer: {option}={max(2, int(budget) // 4)}",
            RandomSearchWarning,
            stacklevel=3,
        )


def check_budget(budget: float, batch: int) -> tuple[float, int]:
    """Return both, checked; raise `InvalidArgumentError` where one of them is not positive."""
    budget = positive("budget", budget, "a positive number of evaluations", sys.float_info.max)
    return budget, at_least(1, "batch", batch)


class _Record:
    """A search, what it asked for just now, and what it has measured so far: values of this shape each."""

    def __init__(self, search: Searcher, shape: tuple[int, ...] = ()):
        self.search = search
        self.used = 0.0
        self.asked: Codes = np.empty((0, search.domain.space.DIM), np.int16)
        none = np.empty(0)
        #: Codes, values, fidelities, evaluations and costs, in pieces.
        self.columns: tuple[list[Any], ...] = (
            [self.asked], [np.empty((0, *shape))], [none.astype(np.int64)], [none], [none]
        )  # fmt: skip

    def ask(self, budget: float, batch: int) -> None:
        """Asks for at most `batch` codes; for none if the budget or the codes are used up."""
        # Shares such as 1/3 add up to a hair less than the budget.
        wanted = min(batch, math.ceil(budget - self.used - 1e-9))
        while wanted > 0:
            try:
                self.asked = self.search.ask(wanted)
                return
            except ExhaustedError:
                wanted //= 2
        self.asked = self.asked[:0]

    def tell(self, values: Floats, evaluations: Floats, cost: Floats) -> None:
        fidelity = self.search.fidelity
        self.used += float(evaluations.sum())
        self.search.tell(self.asked, values)
        for column, more in zip(self.columns, (self.asked, values, fidelity, evaluations, cost), strict=True):
            column.append(more)

    def trace(self, unit: str) -> Trace:
        codes, values, fidelity, evaluations, cost = map(np.concatenate, self.columns)
        return Trace(
            codes=codes,
            values=values,
            fidelity=fidelity,
            evaluations=np.cumsum(evaluations),
            spent=np.cumsum(cost),
            unit=unit,
        )


def _measure(records: Sequence[_Record], objective: Objective) -> None:
    """Measures what all have asked for, one question for each fidelity, and tells them."""
    if not records:
        return
    codes = np.concatenate([record.asked for record in records])
    fidelity = np.concatenate([record.search.fidelity for record in records])
    values: Floats = np.empty((len(codes), *objective.shape))
    shares, costs = np.empty((2, len(codes)))
    for epoch in np.unique(fidelity).tolist():
        here = fidelity == epoch
        found = objective.measure(codes[here], epoch or None)
        values[here], shares[here], costs[here] = found.values, found.evaluations, found.cost
    start = 0
    for record in records:
        stop = start + len(record.asked)
        record.tell(values[start:stop], shares[start:stop], costs[start:stop])
        start = stop
