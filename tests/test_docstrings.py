"""The examples in docstrings run, and say what the code says."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import nasbench_mr
from nasbench_mr import cost, predictors, search, space, tasks
from nasbench_mr.objective import Objective
from nasbench_mr.predictors.evaluation import gather

#: What examples may use beside the names of their own module.
NAMES = {
    "Objective": Objective, "cost": cost, "gather": gather, "nasbench_mr": nasbench_mr, "np": np,
    "predictors": predictors, "search": search, "space": space, "tasks": tasks, "torch": torch,
}  # fmt: skip
ROOT = Path(__file__).resolve().parents[1]
#: All modules with an example; the command line's docstrings are its help texts.
MODULES = sorted(
    ".".join(("nasbench_mr", *path.relative_to(ROOT).with_suffix("").parts)).replace(
        "nasbench_mr.nasbench_mr", "nasbench_mr"
    )
    for folder in ("nasbench_mr", "data_builders", "predictors", "search")
    for path in (ROOT / folder).rglob("*.py")
    if "\n    >>> " in path.read_text("utf-8") and "cli" not in path.parts
)


def examples(module: ModuleType) -> list[doctest.DocTest]:
    """Return the module's docstrings that have examples."""
    found = doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=NAMES)
    return [each for each in found if each.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    runner = doctest.DocTestRunner(verbose=False)
    said: list[str] = []
    for example in examples(importlib.import_module(name)):
        runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)


@pytest.mark.parametrize(
    "name",
    [
        "nasbench_mr.benchmark:Benchmark", "nasbench_mr.benchmark:Result", "nasbench_mr.tasks:Task",
        "nasbench_mr.objective:Objective", "nasbench_mr.domain:Domain", "nasbench_mr.search.base:Searcher",
        "nasbench_mr.search.base:Trace", "nasbench_mr.search.comparison:Comparison",
        "nasbench_mr.predictors.base:Predictor", "nasbench_mr.data_builders.training.recipes:Recipe",
        "nasbench_mr.network:MultiResolutionNet", "nasbench_mr.search.auxnas.config:AuxConfig",
    ],
)  # fmt: skip
def test_classes_that_users_touch_have_an_example(name: str) -> None:
    module, _, attribute = name.partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    assert doctest.DocTestParser().get_examples(kind.__doc__)
