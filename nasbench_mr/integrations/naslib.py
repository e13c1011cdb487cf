"""NASLib: what its optimisers ask of a search space, answered by tables and surrogates; needs no NASLib.

    space = adapter.SearchSpace(nasbench_mr.load(), "seg", seed=0)
    optimizer.adapt_search_space(space, dataset="seg", dataset_api=None)

Methods have NASLib's names and arguments. An architecture is 80 bits, as there (`space.to_bits`). Unlike its
own class for this space, queries answer for the architecture that is asked for, neighbours and mutations are
drawn from a seed, and a mutation leaves its parent as it is. NASLib maximises accuracies, so VAL_ACCURACY and
TEST_ACCURACY are negated where less of the task's objective is better; by its own name it is as tabulated.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nasbench_mr import space
from nasbench_mr.errors import (
    CodeNotFoundError,
    InvalidArgumentError,
    OutOfSpaceError,
    UnknownMetricError,
    did_you_mean,
)

if TYPE_CHECKING:
    from nasbench_mr.benchmark import Benchmark

#: By the name of NASLib's `Metric`, what answers it; None: the task's objective, the larger the better.
METRICS = {
    "VAL_ACCURACY": None,
    "TEST_ACCURACY": None,
    "FLOPS": "macs",
    "PARAMETERS": "params",
    "TRAIN_TIME": "train_seconds",
}
#: Units in which NASLib has costs: millions.
_MILLIONS = ("macs", "params")


class SearchSpace:
    """An architecture of a task, and the space that it is from.

    Args:
        bench: what answers.
        task: its name, of the space of the 27 integers.
        seed: of the random architectures, mutations and the order of neighbours.

    Raises:
        UnknownTaskError: no such task.
        InvalidArgumentError: the task has another search space.
    """

    QUERYABLE = True
    space_name = "nasbench_MR"

    def __init__(self, bench: Benchmark, task: str, seed: int = 0):
        self.bench, self.task = bench, bench.task(task)
        if self.task.space != space.NAME:
            raise InvalidArgumentError(
                f"{task!r} is of the space {self.task.space!r}; expected a task of the 27 integers"
            )
        # Copies share it, so no two of them draw the same.
        self._rng = np.random.default_rng(seed)
        self._tabulated = bench.codes(self.task.name)
        self.code: tuple[int, ...] | None = None
        self.instantiate_model = False

    def clone(self) -> Self:
        """Return a copy, without an architecture, that draws from the same generator."""
        made = copy.copy(self)
        made.code = None
        return made

    def set_spec(self, spec: object, dataset_api: object = None) -> None:
        """Become an architecture: 80 bits, a code in any form, or a row of the table.

        Raises:
            OutOfSpaceError: it is none, or the table has no such row.
        """
        if isinstance(spec, (int, np.integer)) and not isinstance(spec, bool):
            if not 0 <= spec < len(self._tabulated):
                raise OutOfSpaceError(
                    f"the table of {self.task.name!r} has no row {spec}; expected one from 0 to "
                    f"{len(self._tabulated) - 1}"
                )
            self.code = tuple(self._tabulated[int(spec)].tolist())
        elif isinstance(spec, (Sequence, np.ndarray)) and not isinstance(spec, str) and len(spec) == 80:
            self.code = tuple(space.from_bits(np.asarray(spec))[0].tolist())
        else:
            self.code = space.parse(spec)

    set_op_indices = set_spec

    def get_op_indices(self) -> np.ndarray[Any, Any]:
        """Return the architecture: `(80,)` zeros and ones; raise where there is none yet."""
        bits: np.ndarray[Any, Any] = space.to_bits([self._code()])[0]
        return bits

    encode = get_compact = get_op_indices

    def get_hash(self) -> tuple[int, ...]:
        """Return the architecture as a key."""
        return tuple(self.get_op_indices().tolist())

    def get_type(self) -> str:
        return self.space_name

    def get_arch_iterator(self, dataset_api: object = None) -> range:
        """Return the rows of the table, for `set_spec`."""
        return range(len(self._tabulated))

    def sample_random_architecture(self, dataset_api: object = None, load_labeled: bool = False) -> None:
        """Become a random architecture; with `load_labeled`, one of the table."""
        if load_labeled:
            return self.load_labeled_architecture(dataset_api)
        self.code = tuple(space.sample(1, self._rng)[0].tolist())
        return None

    def load_labeled_architecture(self, dataset_api: object = None) -> None:
        """Become a random architecture of the table."""
        self.code = tuple(self._tabulated[self._rng.integers(len(self._tabulated))].tolist())

    def mutate(self, parent: Self, dataset_api: object = None) -> None:
        """Become a copy of `parent` with one bit changed."""
        bits = parent.get_op_indices().copy()
        bits[self._rng.integers(len(bits))] ^= 1
        self.set_spec(bits)

    def get_nbhd(self, dataset_api: object = None) -> list[SimpleNamespace]:
        """Return architectures one step away in one dimension, in random order, each as `.arch`."""
        around = []
        for code in self._rng.permutation(space.neighbors(self._code())).tolist():
            arch = self.clone()
            arch.code = tuple(code)
            around.append(SimpleNamespace(arch=arch, accuracy=None))
        return around

    def query(
        self,
        metric: Any = "VAL_ACCURACY",
        dataset: str | None = None,
        path: object = None,
        epoch: int = -1,
        *,
        full_lc: bool = False,
        dataset_api: object = None,
    ) -> float | list[float]:
        """Return what the architecture achieves.

        Args:
            metric: a member of NASLib's `Metric` or its name (`METRICS`), or a metric of the task.
            dataset: another task of the same releases.
            path, dataset_api: ignored.
            epoch: a point of the learning curve; -1 for the end.
            full_lc: the whole learning curve instead.

        Returns:
            Metrics in their own units, and negated where an accuracy is asked for and less of the objective
            is better; FLOPS and PARAMETERS in millions, TRAIN_TIME in seconds.

        Raises:
            UnknownMetricError: no such metric, or a learning curve of what has none, such as FLOPS.
            InvalidArgumentError: there is no architecture yet.
            CodeNotFoundError, SurrogateNotFoundError: nothing answers for it.
        """
        task = self.task if dataset is None else self.bench.task(dataset)
        name = str(getattr(metric, "name", metric))
        known = [*METRICS, *(each.name for each in task.metrics)]
        if name not in known:
            raise UnknownMetricError(f"no metric {name!r}: {did_you_mean(name, known)}")
        column = METRICS.get(name, name) or task.objective
        # An optimiser takes the largest accuracy.
        sign = task.metric(column).sign if METRICS.get(name, name) is None else 1
        code = self._code()
        if full_lc:
            curves = self.bench.curves(task.name, ok=True)
            if column not in curves:
                there = [each.name for each in task.metrics if each.name in curves]
                raise UnknownMetricError(
                    f"{name!r} has no learning curve; expected VAL_ACCURACY or one of {', '.join(there)}: "
                    "leave full_lc out for the value at the end"
                )
            mine = (curves[list(space.NAMES)] == np.array(code)).all(axis=1)
            if not mine.any():
                raise CodeNotFoundError(
                    f"task {task.name!r} has no learning curve of {space.to_string(code)}"
                )
            points = curves[mine].groupby("epoch")[column].mean()
            return [sign * float(value) for value in points.dropna()]
        result = self.bench.query(code, task.name, epoch=None if epoch == -1 else epoch)
        value = float(result["seconds" if column == "train_seconds" and epoch != -1 else column])
        return value / 1e6 if column in _MILLIONS else sign * value

    def _code(self) -> tuple[int, ...]:
        if self.code is None:
            raise InvalidArgumentError(
                "this search space has no architecture yet: call sample_random_architecture() or set_spec()"
            )
        return self.code
