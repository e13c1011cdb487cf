"""nasbench-mr: a multi-task neural-architecture benchmark that people query, search and extend.

    import nasbench_mr
    bench = nasbench_mr.load()
    bench.query(code, "seg")

Everything here is loaded when it is first used, so importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import os.path
from typing import TYPE_CHECKING, Any

# In a source checkout data_builders/, predictors/ and search/ lie beside this folder, not in it (setup.cfg).
# Not with pathlib, whose import takes a third as long as all else here.
_HERE = os.path.dirname(os.path.realpath(__file__))
if not os.path.isdir(os.path.join(_HERE, "search")):
    __path__.append(os.path.dirname(_HERE))

__version__ = "1.0.0"

if TYPE_CHECKING:
    from nasbench_mr import (
        cost,
        data_builders,
        errors,
        network,
        objective,
        predictors,
        release,
        search,
        space,
        tasks,
    )
    from nasbench_mr.benchmark import Benchmark, Result, load
    from nasbench_mr.errors import NasbenchMRError
    from nasbench_mr.tasks import Metric, Task

__all__ = [
    "Benchmark",
    "Metric",
    "NasbenchMRError",
    "Result",
    "Task",
    "__version__",
    "cost",
    "data_builders",
    "errors",
    "load",
    "network",
    "objective",
    "predictors",
    "release",
    "search",
    "space",
    "tasks",
]

_FROM = {
    "Benchmark": "benchmark",
    "Metric": "tasks",
    "NasbenchMRError": "errors",
    "Result": "benchmark",
    "Task": "tasks",
    "load": "benchmark",
}


def __getattr__(name: str) -> Any:
    if name in _FROM:
        value = getattr(importlib.import_module(f"nasbench_mr.{_FROM[name]}"), name)
    elif name in __all__:
        value = importlib.import_module(f"nasbench_mr.{name}")
    else:
        raise AttributeError(f"module 'nasbench_mr' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
