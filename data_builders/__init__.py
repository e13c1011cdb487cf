"""What makes tables: published-table import, data sets, recipes, training, and runners of many trials.

`train` runs one trial, `build` many; `datasets` reads and packs what they train on, `generate` makes
stand-ins.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nasbench_mr.data_builders import datasets, generate, published
    from nasbench_mr.data_builders.building.live import live
    from nasbench_mr.data_builders.building.runner import build
    from nasbench_mr.data_builders.training import recipes
    from nasbench_mr.data_builders.training.train import TrainResult, train

__all__ = ["TrainResult", "build", "datasets", "generate", "live", "published", "recipes", "train"]

_MODULES = {
    "datasets": "datasets",
    "generate": "generate",
    "published": "published",
    "recipes": "training.recipes",
}
_FROM = {
    "TrainResult": "training.train",
    "build": "building.runner",
    "live": "building.live",
    "train": "training.train",
}


def __getattr__(name: str) -> object:
    if name in _FROM:
        return getattr(importlib.import_module(f"{__name__}.{_FROM[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{_MODULES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
