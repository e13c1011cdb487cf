"""What makes tables: published-table import, data sets, recipes, training, and runners of many trials.

`train` runs one trial, `build` many; `datasets` reads, generates and packs what they train on.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nasbench_mr.data_builders import datasets, published, recipes
    from nasbench_mr.data_builders.runner import build
    from nasbench_mr.data_builders.training import TrainResult, train

__all__ = ["TrainResult", "build", "datasets", "published", "recipes", "train"]

_FROM = {"build": "runner", "TrainResult": "training", "train": "training"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _FROM:
        return getattr(importlib.import_module(f"{__name__}.{_FROM[name]}"), name)
    return importlib.import_module(f"{__name__}.{name}")
