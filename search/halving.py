"""Many short trainings, longer ones of the best (`halving`, `hyperband`); they need learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nasbench_mr.arrays import ByValue, Codes, Floats, Ints, key
from nasbench_mr.checks import at_least
from nasbench_mr.domain import Domain
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.search.base import Searcher


class SuccessiveHalving(Searcher):
    """Asynchronous successive halving: a code that is among the best of its rung is trained for longer.

    Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020. The rungs are epochs,
    each about `factor` times the one before; the last is a full training. A code moves up when it is in
    the best 1/`factor` of those measured on its rung; else a new random one starts on the lowest. Every
    training counts in full, as if started anew (`simulate(..., resume=True)` counts it from where it was).

    Args:
        domain, seed: see `Searcher`.
        epochs: the points of the learning curves, at least two.
        factor: at least 2.
    """

    name = "halving"

    def __init__(self, domain: Domain, seed: int = 0, epochs: Sequence[int] = (), *, factor: int = 3):
        super().__init__(domain, seed, epochs)
        factor = at_least(2, "factor", factor)
        points = sorted({at_least(1, "an epoch", epoch) for epoch in epochs})
        if len(points) < 2:
            raise InvalidArgumentError(
                f"{self.name!r} needs learning curves with at least two epochs; this objective has "
                + (f"only epoch {points[0]}" if points else "none")
            )
        self.factor, self.total = factor, points[-1]
        #: The rungs' epochs; 0, the last, is a full training.
        self.rungs = _rungs(points, factor)
        self.brackets = self._brackets()
        #: The bracket that each code was started in.
        self._started: dict[bytes, _Bracket] = {}

    def _brackets(self) -> list[_Bracket]:
        return [_Bracket(self.rungs, self.total)]

    def _ask(self, n: int) -> tuple[Codes, Ints]:
        chosen = self._promotable(n, 1 / self.factor)
        new = n - len(chosen)
        if new > self.left:
            # No new codes: those that missed the cut resume.
            chosen = self._promotable(n - self.left, 1.0)
            new = n - len(chosen)
        started = self._random(new) if new else []
        fidelity = []
        for bracket, rung, code in chosen:
            bracket.moved[rung].add(key(code))
            fidelity.append(bracket.charge(rung + 1))
        for code in started:
            # Brackets get equal shares of the epochs.
            bracket = min(self.brackets, key=lambda each: each.spent)
            self._started[key(code)] = bracket
            fidelity.append(bracket.charge(0))
        return np.array([*(code for *_, code in chosen), *started]), np.array(fidelity, np.int64)

    def _promotable(self, n: int, share: float) -> list[tuple[_Bracket, int, Codes]]:
        """At most `n` (bracket, rung, code) among the best `share` of their rungs, furthest trained first."""
        found = [
            (bracket, rung, code)
            for bracket in self.brackets
            for rung in range(len(bracket.rungs) - 1)
            for code in bracket.promotable(rung, share)
        ]
        return sorted(found, key=lambda each: -each[0].rungs[each[1]])[:n]

    def _propose(self, n: int) -> Codes:
        raise NotImplementedError("halving decides in _ask")

    def _tell(self, codes: Codes, values: Floats, fidelity: Ints) -> None:
        super()._tell(codes, values, fidelity)
        for code, value, epoch in zip(codes, values.tolist(), fidelity.tolist(), strict=True):
            # A code told from elsewhere was started in none.
            bracket = self._started.get(key(code), self.brackets[0])
            bracket.measured[bracket.rungs.index(epoch)][key(code)] = (value, code)


class Hyperband(SuccessiveHalving):
    """Asynchronous Hyperband: several brackets of `halving`, each starting its codes on a higher rung.

    Li et al., "Hyperband", JMLR 2018, with the asynchronous brackets of Li et al., MLSys 2020. The first
    bracket is `halving`, the last trains every code to the end, so that a task whose early epochs mislead
    costs little. A new code starts in the bracket that has used the fewest epochs so far.

    Args:
        domain, seed, epochs, factor: see `SuccessiveHalving`.
    """

    name = "hyperband"

    def _brackets(self) -> list[_Bracket]:
        return [_Bracket(self.rungs[first:], self.total) for first in range(len(self.rungs))]


class _Bracket(ByValue):
    """A ladder of rungs.

    Args:
        rungs: their epochs; 0, the last, is a full training.
        total: epochs of a full training.

    Attributes:
        measured: by rung: the codes measured there and their values.
        moved: by rung: those that were moved up.
        spent: epochs asked for.
    """

    def __init__(self, rungs: Sequence[int], total: int):
        self.rungs, self.total, self.spent = tuple(rungs), total, 0
        self.measured: list[dict[bytes, tuple[float, Codes]]] = [{} for _ in rungs]
        self.moved: list[set[bytes]] = [set() for _ in rungs]

    def charge(self, rung: int) -> int:
        """Count a training up to a rung; return its epoch."""
        self.spent += self.rungs[rung] or self.total
        return self.rungs[rung]

    def promotable(self, rung: int, share: float) -> list[Codes]:
        """Return the codes among the best `share` of a rung that were not moved up, best first."""
        there, moved = self.measured[rung], self.moved[rung]
        count = int(len(there) * share + 1e-9)
        if count <= 0 or len(moved) == len(there):
            return []
        ranked = sorted(there.items(), key=lambda entry: -entry[1][0])[:count]
        return [code for name, (_, code) in ranked if name not in moved]


def _rungs(epochs: Sequence[int], factor: int) -> tuple[int, ...]:
    """Return the epochs of the rungs, the shortest first.

    Each at most 1/`factor` of the next, in the curves.
    """
    rungs, wanted = [0], epochs[-1] / factor
    for epoch in reversed(epochs):
        if epoch <= wanted:
            rungs.append(epoch)
            wanted = epoch / factor
    if len(rungs) == 1:
        # The curve starts too late; its first point is better than none.
        rungs.append(epochs[0])
    return tuple(reversed(rungs))
