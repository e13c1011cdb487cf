"""Leaving unreadable samples out of a build: found once, before it, so that all trials train on the same."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from nasbench_mr.data_builders import datasets
from nasbench_mr.data_builders.training import recipes, splits
from nasbench_mr.data_builders.training.recipes import Recipe
from nasbench_mr.errors import DatasetError


def screen(
    recipe: str | Recipe, data: str | os.PathLike[str] | None = None, *, progress: bool = False
) -> tuple[Recipe, dict[str, str]]:
    """Read every sample of a recipe's data set once, but for those that it skips already.

    Args:
        data: the folder of the data sets (see `datasets.locate`).
        progress: show a bar on stderr, if that is a terminal.

    Returns:
        The recipe with the unreadable samples in its `skip` as well, and why each is, by its name.

    Raises:
        DatasetError: the data set is incomplete, or no sample of a split can be read; or one can't be read
            of what the recipe starts from (`Recipe.pretrained`), whose own recipe must skip it.
    """
    recipe = recipes.get(recipe)
    skip = {split: list(names) for split, names in recipe.skip.items()}
    why: dict[str, str] = {}
    for split, key in splits.named(recipe, data):
        found = splits.opened(*key)
        with ThreadPoolExecutor(4) as threads:
            errors = threads.map(lambda index, found=found: _error(found, index), range(len(found)))
            disable = None if progress else True
            told = list(tqdm(errors, f"reading {found}", len(found), unit="sample", disable=disable))
        bad = {name: error for name, error in zip(found.ids, told, strict=True) if error}
        if len(bad) == len(found):
            raise DatasetError(f"{found}: no sample can be read; the first: {next(iter(bad.values()))}")
        if bad and split not in splits.SPLITS:
            raise DatasetError(
                f"{found}: {len(bad)} of {len(found)} samples can't be read, the first: "
                f"{next(iter(bad.values()))}. Recipe {recipe.name!r} starts from what they train: get that "
                f"data anew, or register the recipe {split.rpartition('/')[0]!r} with a `skip` of these"
            )
        if bad:
            skip[split] = [*skip.get(split, ()), *bad]
            why |= bad
    return recipes.override(recipe, {"skip": skip}), why


def _error(found: datasets.Dataset, index: int) -> str:
    """Why a sample can't be read; "" if it can."""
    try:
        found[index]
    except DatasetError as error:
        return str(error)
    return ""
