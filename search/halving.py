"""Successive halving (`halving`): many short trainings, longer ones of the best; it needs curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nasbench_mr.arrays import Codes, Floats, Ints, key
from nasbench_mr.checks import at_least
from nasbench_mr.domain import Domain
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.search.base import Searcher


class SuccessiveHalving(Searcher):
    """Asynchronous successive halving: a code that is among the best of its rung is trained for longer.

    Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020. The rungs are epochs,
    each about `factor` times the one before; the last is a full training. A code moves up when it is in
    the best 1/`factor` of those measured on its rung; else a new random one starts on the lowest. Every
    training counts in full, as if started anew.

    Args:
        domain, seed: see `Searcher`.
        epochs: the points of the learning curves, at least two.
        factor: at least 2.
    """

    name = "halving"

    def __init__(self, domain: Domain, seed: int = 0, epochs: Sequence[int] = (), *, factor: int = 3):
        super().__init__(domain, seed, epochs)
        at_least(2, "factor", factor)
        points = sorted(set(epochs))
        if len(points) < 2:
            raise InvalidArgumentError(
                "'halving' needs learning curves with at least two epochs; this objective has "
                + (f"only epoch {points[0]}" if points else "none")
            )
        self.factor = factor
        #: The rungs' epochs; 0, the last, is a full training.
        self.rungs = _rungs(points, factor)
        #: By rung: the codes measured there and their values, and which of them were moved up.
        self._measured: list[dict[bytes, tuple[float, Codes]]] = [{} for _ in self.rungs]
        self._moved: list[set[bytes]] = [set() for _ in self.rungs]

    def _ask(self, n: int) -> tuple[Codes, Ints]:
        chosen = self._promotable(n, 1 / self.factor)
        new = n - len(chosen)
        if new > self.left:
            # No new codes: those that missed the cut resume.
            chosen = self._promotable(n - self.left, 1.0)
            new = n - len(chosen)
        started = self._random(new) if new else []
        for rung, code in chosen:
            self._moved[rung].add(key(code))
        fidelity = [*(self.rungs[rung + 1] for rung, _ in chosen), *([self.rungs[0]] * new)]
        return np.array([*(code for _, code in chosen), *started]), np.array(fidelity, np.int64)

    def _promotable(self, n: int, share: float) -> list[tuple[int, Codes]]:
        """At most `n` (rung, code) among the best `share` of their rungs, highest rungs first."""
        found: list[tuple[int, Codes]] = []
        for rung in reversed(range(len(self.rungs) - 1)):
            ranked = sorted(self._measured[rung].items(), key=lambda entry: -entry[1][0])
            best = ranked[: int(len(ranked) * share + 1e-9)]
            found += [(rung, code) for name, (_, code) in best if name not in self._moved[rung]]
        return found[:n]

    def _propose(self, n: int) -> Codes:
        raise NotImplementedError("halving decides in _ask")

    def _tell(self, codes: Codes, values: Floats, fidelity: Ints) -> None:
        super()._tell(codes, values, fidelity)
        for code, value, epoch in zip(codes, values.tolist(), fidelity.tolist(), strict=True):
            self._measured[self.rungs.index(epoch)][key(code)] = (value, code)


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
