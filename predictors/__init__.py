"""Predictors of performance: models from codes to metrics, their evaluation, and the fitting of surrogates.

`make` gives a model to fit, `evaluate` scores one on a task, `fit_surrogates` makes what ships in a release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasbench_mr.predictors.base import GradientPredictor, Predictor, load, make, names

if TYPE_CHECKING:
    from nasbench_mr.predictors.evaluation import evaluate
    from nasbench_mr.predictors.surrogates import fit_surrogates

__all__ = [
    "GradientPredictor",
    "Predictor",
    "evaluate",
    "fit_surrogates",
    "load",
    "make",
    "names",
]

_LAZY = {"evaluate": "evaluation", "fit_surrogates": "surrogates"}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
