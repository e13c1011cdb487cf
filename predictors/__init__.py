"""Predictors of performance: models from codes to metrics, their evaluation, and the releases' surrogates.

`make` gives a model to fit, `evaluate` scores one on a task, `load_surrogate` reads what ships in a release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasbench_mr.predictors.base import GradientPredictor, Predictor, load, make, names

if TYPE_CHECKING:
    from nasbench_mr.predictors.evaluation import evaluate
    from nasbench_mr.predictors.surrogate import Surrogate, load_surrogate

__all__ = [
    "GradientPredictor",
    "Predictor",
    "Surrogate",
    "evaluate",
    "load",
    "load_surrogate",
    "make",
    "names",
]

_LAZY = {"evaluate": "evaluation", "Surrogate": "surrogate", "load_surrogate": "surrogate"}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
