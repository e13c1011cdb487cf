"""Leaving unreadable samples out of a build: found once, before it, so that all trials train on the same."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from nasbench_mr.data_builders import datasets
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.data_builders.training.recipes import Recipe
from nasbench_mr.errors import DatasetError


def screen(
    recipe: str | Recipe, data: str | os.PathLike[str] | None = None, *, progress: bool = False
) -> tuple[Recipe, dict[str, str]]:
    """Read every sample of a recipe's data set once.

    Args:
        data: the folder of the data sets (see `datasets.locate`).
        progress: show a bar on stderr, if that is a terminal.

    Returns:
        The recipe with the unreadable samples in its `skip`, and why each is, by its name.

    Raises:
        DatasetError: the data set is incomplete, or no sample of a split can be read.
    """
    recipe = recipes.get(recipe)
    folder = datasets.locate(recipe.dataset, data)
    skip: dict[str, list[str]] = {}
    why: dict[str, str] = {}
    for split in ("train", "val"):
        found = datasets.load(recipe.dataset, folder, split, **recipes.tuples(recipe.reader_options(split)))
        with ThreadPoolExecutor(4) as threads:
            errors = threads.map(lambda index, found=found: _error(found, index), range(len(found)))
            disable = None if progress else True
            told = list(tqdm(errors, f"reading {found}", len(found), unit="sample", disable=disable))
        bad = {name: error for name, error in zip(found.ids, told, strict=True) if error}
        if len(bad) == len(found):
            raise DatasetError(f"{found}: no sample can be read; the first: {next(iter(bad.values()))}")
        if bad:
            skip[split] = list(bad)
            why |= bad
    return recipes.override(recipe, {"skip": skip}), why


def _error(found: datasets.Dataset, index: int) -> str:
    """Why a sample can't be read; "" if it can."""
    try:
        found[index]
    except DatasetError as error:
        return str(error)
    return ""
