"""`proxy`: evolution that asks a zero-cost proxy before it asks the objective."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from nasbench_mr import cost, space
from nasbench_mr.arrays import Codes, Floats, keys
from nasbench_mr.checks import at_least
from nasbench_mr.domain import Domain
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.extras import need
from nasbench_mr.objective import COUNTS
from nasbench_mr.predictors import proxy_tables
from nasbench_mr.predictors.base import check_networks, check_proxies
from nasbench_mr.predictors.proxy_tables import ProxyTable
from nasbench_mr.search.baselines import Evolution
from nasbench_mr.tasks import Task, check_head


class ProxyEvolution(Evolution):
    """Regularised evolution whose first codes and children are the best of several by a zero-cost proxy.

    Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, section 3.3: "warmup" and "move
    proposal". Proxies come from the installed tables (`nasbench-mr proxies`); what these lack is computed, a
    second or so for each code.

    Args:
        domain, seed, epochs, population, sample: see `Evolution`.
        proxy: of `predictors.base.PROXIES`, the larger the better; "params" and "macs" are known of any code.
        task: whose networks the other proxies are of: their head, classes and width.
        warmup: random codes of which the best by the proxy come first.
        moves: mutants of each parent, of which the best by the proxy is its child.
    """

    name = "proxy"
    CACHES = frozenset({"_scores"})

    def __init__(
        self,
        domain: Domain,
        seed: int = 0,
        epochs: Sequence[int] = (),
        *,
        population: int = 50,
        sample: int = 10,
        proxy: str = "params",
        task: str = "",
        warmup: int = 100,
        moves: int = 5,
    ):
        super().__init__(domain, seed, epochs, population=population, sample=sample)
        self.warmup, self.moves = at_least(1, "warmup", warmup), at_least(1, "moves", moves)
        check_proxies([proxy])
        self.proxy = proxy
        self._task = None if proxy in COUNTS else self._networks(task)
        if self._task is None:
            self._check_known()
        #: The codes to begin with, best first; drawn when the first one is asked for.
        self._warm: Codes | None = None
        self._scores: dict[bytes, float] = {}

    def _networks(self, task: str) -> Task:
        """Return the task whose networks have the proxy."""
        if self.domain.space.NAME != space.NAME or not task:
            raise InvalidArgumentError(
                f"the proxy {self.proxy!r} is of networks of {space.NAME!r} codes, as a task trains them; "
                f"expected such as proxy:proxy={self.proxy}:task=seg, or one of {', '.join(COUNTS)}"
            )
        need("torch", "search", f"the proxy {self.proxy!r}")
        found = proxy_tables.task_of(task)
        check_networks(found)
        check_head(found, f"proxy:proxy={self.proxy}:task=mini-cls")
        return found

    def _check_known(self) -> None:
        """Raise `InvalidArgumentError` where every code would score alike: no one knows what it costs."""
        own, listed = self.domain.space, self.domain.codes
        if cost.of(own) is not None or listed is None:
            return
        if not np.isfinite(getattr(self.domain, self.proxy)(listed)).any():
            raise InvalidArgumentError(
                f"the proxy {self.proxy!r} is not known of any code: the space {own.NAME!r} has no formula "
                f"for it, and the table no column {self.proxy!r}. Import with [costs] in the space's "
                "description, or with such a column"
            )

    @cached_property
    def _table(self) -> ProxyTable | None:
        """The installed table of the task's networks, read once."""
        return None if self._task is None else proxy_tables.installed(self._task, self.proxy)

    def _score(self, codes: Codes) -> Floats:
        """Return the proxy of codes, `(n,)`; minus infinity where no one knows it."""
        new = {name: code for name, code in zip(keys(codes), codes, strict=True) if name not in self._scores}
        if new:
            asked = np.array([*new.values()])
            if self._task is None:
                found = getattr(self.domain, self.proxy)(asked)
            else:
                found = proxy_tables.scores(asked, self._task, self.proxy, self._table)
            self._scores |= zip(new, np.nan_to_num(found, nan=-np.inf).tolist(), strict=True)
        return np.array([self._scores[name] for name in keys(codes)])

    def _first(self, n: int) -> Codes:
        if self._warm is None:
            drawn = self.domain.sample(self.warmup, self.rng)
            self._warm = drawn[np.argsort(-self._score(drawn), kind="stable")]
        left = self._warm[[name not in self._asked for name in keys(self._warm)]]
        return left if len(left) else super()._first(n)

    def _children(self, parents: Codes) -> Codes:
        mutants = self.domain.mutate(np.repeat(parents, self.moves, axis=0), self.rng)
        order = np.argsort(-self._score(mutants).reshape(-1, self.moves), kind="stable", axis=1)
        # The best mutant of every parent, then their second ones, and so on.
        ranked = mutants.reshape(-1, self.moves, mutants.shape[1])[np.arange(len(parents)), order.T]
        return np.asarray(ranked.reshape(-1, mutants.shape[1]))
