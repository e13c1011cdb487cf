"""Predictors that read zero-cost proxies: each proxy alone, and the ensemble with all beside the code.

They look the proxies up in installed tables, for the tasks that the columns name ("seg", "seg/mIoU"). So they
answer for the codes of those tables; for others a proxy counts as average, and a fit to none but others is
refused. Only `params` and `macs` are known of every code.
"""

from __future__ import annotations

import warnings
from typing import ClassVar

import numpy as np

from nasbench_mr import cost, features, library
from nasbench_mr.arrays import Codes, Floats
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.npz import State
from nasbench_mr.predictors import proxy_tables
from nasbench_mr.predictors.base import OF_NETWORKS, PROXIES, Predictor
from nasbench_mr.predictors.ensemble import Networks
from nasbench_mr.predictors.proxy_tables import ProxyTable
from nasbench_mr.tasks import Task


def levelled(values: Floats) -> Floats:
    """Return a proxy on a scale on which networks lie evenly: its logarithm, whatever its sign."""
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))


def check_known(name: str, proxies: Floats) -> None:
    """Warn where some of the codes that a column is fitted to have no proxy; raise where none has.

    Args:
        name: the column.
        proxies: `(n,)`, or `(n, proxies)`; NaN where unknown.

    Raises:
        CodeNotFoundError: none has.
    """
    task = proxy_tables.task_of(name)
    known = int(np.isfinite(proxies).reshape(len(proxies), -1).any(axis=1).sum())
    if not known:
        raise proxy_tables.lacking(task, "any of the codes to fit to")
    if known < len(proxies):
        warnings.warn(
            f"zero-cost proxies are known of {known} of {len(proxies)} codes of {task.name!r}; the others "
            f"count as average ({proxy_tables.how_to_make(task)})",
            stacklevel=5,
        )


class ProxyEnsemble(Networks):
    """The ensemble, with its tasks' proxies as further features; arguments as for `Networks`."""

    def _tables(self) -> list[dict[str, ProxyTable]]:
        """Return for each column the tables of its proxies."""
        installed = library.installed()
        of = [proxy_tables.task_of(name) for name in self.names]
        # Each lookup reads all tables, and columns are often metrics of one task.
        different = {task.name: task for task in of}
        tables = {name: proxy_tables.find(task, installed) for name, task in different.items()}
        return [tables[task.name] for task in of]

    def _inputs(self, codes: Codes) -> Floats:
        # The features of codes tell the other proxies. Columns of one task, or of like ones, share tables.
        tables = {
            (str(table.about), name): table
            for tables in self._tables()
            for name in OF_NETWORKS
            if (table := tables.get(name)) is not None
        }
        columns = [levelled(table.lookup(codes, name)) for (_, name), table in tables.items()]
        inputs = np.column_stack([features.of_codes(codes, self.space), *columns])
        if not hasattr(self, "average"):
            known = np.isfinite(inputs)
            counts = np.maximum(known.sum(axis=0), 1)
            self.average = np.where(known, inputs, 0.0).sum(axis=0) / counts
        return np.where(np.isfinite(inputs), inputs, self.average)

    def _fit(self, codes: Codes, values: Floats) -> None:
        for name, tables, column in zip(self.names, self._tables(), values.T, strict=True):
            known = codes[np.isfinite(column)]
            found = [table.lookup(known, proxy) for proxy, table in tables.items()]
            check_known(name, np.stack(found, axis=1))
        if hasattr(self, "average"):
            del self.average
        super()._fit(codes, values)

    def _state(self) -> State:
        return super()._state() | {"average": self.average}

    def _restore(self, state: State) -> None:
        super()._restore(state)
        self.average = state["average"]


class ProxyAlone(Predictor):
    """One proxy, scaled to the values: a larger one counts as better. Values only set the scale."""

    joint = False
    proxy: ClassVar[str]

    def _table(self, task: Task) -> ProxyTable:
        tables = proxy_tables.find(task, library.installed())
        if self.proxy not in tables:
            raise InvalidArgumentError(
                f"the tables of proxies for {task.name!r} have no {self.proxy}; they have {', '.join(tables)}"
            )
        return tables[self.proxy]

    def _scores(self, task: Task, codes: Codes) -> Floats:
        if self.proxy in OF_NETWORKS:
            return self._table(task).lookup(codes, self.proxy)
        exact = cost.of(self.space)
        if exact is None:
            raise InvalidArgumentError(f"the space {self.space.NAME!r} has no formula for {self.proxy}")
        return np.asarray(getattr(exact, self.proxy)(codes), np.float64)

    def _raw(self, codes: Codes) -> Floats:
        columns = []
        for name in self.names:
            task = proxy_tables.task_of(name)
            metric = task.metric(name.partition("/")[2] or None)
            columns.append(metric.sign * levelled(self._scores(task, codes)))
        return np.stack(columns, axis=1)

    def _fit(self, codes: Codes, values: Floats) -> None:
        raw = self._raw(codes)
        for name, proxies, column in zip(self.names, raw.T, values.T, strict=True):
            check_known(name, proxies[np.isfinite(column)])
        spread = np.nanstd(raw, axis=0)
        self.slope = np.nanstd(values, axis=0) / np.where(spread > 0, spread, np.inf)
        self.offset = np.nanmean(values, axis=0) - self.slope * np.nanmean(raw, axis=0)
        self.average, self.spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)

    def _predict(self, codes: Codes) -> tuple[Floats, Floats]:
        mean = self.offset + self.slope * self._raw(codes)
        mean = np.where(np.isfinite(mean), mean, self.average)
        return mean, np.broadcast_to(self.spread, mean.shape).copy()

    def _state(self) -> State:
        return {name: getattr(self, name) for name in ("slope", "offset", "average", "spread")}

    def _restore(self, state: State) -> None:
        for name, array in state.items():
            setattr(self, name, array)


for _name in PROXIES:
    _members = {"proxy": _name, "__module__": __name__, "__doc__": f"The proxy `{_name}` alone."}
    globals()[_name] = type(_name, (ProxyAlone,), _members)
