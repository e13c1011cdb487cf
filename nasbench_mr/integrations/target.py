"""`Target`: objectives on one domain, as a tuner asks them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from nasbench_mr import spaces
from nasbench_mr.arrays import same
from nasbench_mr.domain import Domain
from nasbench_mr.errors import InvalidArgumentError, OutOfSpaceError
from nasbench_mr.objective import Objective


def dimensions(domain: Domain) -> Iterator[tuple[str, range, bool]]:
    """Yield each dimension's name, the integers it may have, and whether they have no order.

    A dimension that is fixed has one.
    """
    space = domain.space
    for k, (name, values) in enumerate(zip(space.NAMES, spaces.levels(space), strict=True)):
        fixed = domain.fixed.get(k)
        yield name, values if fixed is None else range(fixed, fixed + 1), bool(space.CHOICES[k])


def nearest(domain: Domain, config: object) -> tuple[int, ...]:
    """Return the code nearest to a configuration that may be asked for; the code itself where it may.

    Args:
        config: integers by name, as `dimensions` has them, or a sequence of them.

    Raises:
        OutOfSpaceError: it is not a code of the space.
    """
    space = domain.space
    if isinstance(config, Mapping):
        if missing := [name for name in space.NAMES if name not in config]:
            raise OutOfSpaceError(f"the configuration lacks {missing[0]}; expected {', '.join(space.NAMES)}")
        config = [config[name] for name in space.NAMES]
    code = np.array([space.parse(config)], np.int16)
    inside = bool(domain.contains(code)[0])
    return tuple((code if inside else domain.repair(code))[0].tolist())


class Target:
    """Objectives on one domain, asked code by code.

    Args:
        objectives: one, or several for as many values; a front has a value for each of its terms.

    Attributes:
        size: values of a code.

    Raises:
        InvalidArgumentError: there is none, or their domains differ.
    """

    def __init__(self, objectives: Sequence[Objective]):
        if not objectives:
            raise InvalidArgumentError("an adapter needs at least one objective; got none")
        self.objectives = tuple(objectives)
        self.domain = objectives[0].domain
        self.size = sum(math.prod(objective.shape) for objective in objectives)
        for other in objectives[1:]:
            if not same(other.domain, self.domain):
                raise InvalidArgumentError(
                    "the objectives have different domains; expected the same codes and limits for all"
                )

    @property
    def curve(self) -> Objective:
        """The objective whose learning curve is asked for: the only one, which has a curve."""
        if self.size > 1:
            raise InvalidArgumentError(f"learning curves are followed for one objective; got {self.size}")
        if not self.objectives[0].epochs:
            raise InvalidArgumentError("the objective has no learning curves to prune or stop by")
        return self.objectives[0]

    def values(self, code: Sequence[int]) -> list[float]:
        """Return the `size` values of a code trained to the end, and charge it."""
        codes = np.array([code], np.int16)
        return [
            value for objective in self.objectives for value in objective.evaluate(codes).ravel().tolist()
        ]

    def points(self, code: Sequence[int]) -> Iterator[tuple[int, float]]:
        """Yield the epochs of the learning curve before its last, with their values; charge nothing.

        `stop` charges what was looked at where a training ends early, `values` where it does not.
        """
        where = self.curve
        shadow = Objective(where.source, where.domain, where.goals, where.epochs)
        for epoch in where.epochs[:-1]:
            yield epoch, float(shadow.evaluate(np.array([code], np.int16), epoch)[0])

    def stop(self, code: Sequence[int], epoch: int) -> float:
        """Return the value of a code whose training is stopped at an epoch, and charge that."""
        return float(self.curve.evaluate(np.array([code], np.int16), epoch)[0])
