"""The two splits of a recipe's data set, "train" and "val": opened, compared, and told from other data.

Light to import: a build asks which data it has before its workers read them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence

from nasbench_mr.data_builders import datasets
from nasbench_mr.data_builders.datasets import Dataset
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.data_builders.training.recipes import Recipe
from nasbench_mr.errors import DatasetError, RecipeError

SPLITS = ("train", "val")
Folder = str | os.PathLike[str] | None
#: What tells data from others, by split: "samples", how many, and "sha256", of their names and the classes'.
Described = dict[str, dict[str, object]]
#: What `opened` takes: the data set, its folder, the split, the options as JSON.
Key = tuple[str, str, str, str]


def split(recipe: str | Recipe, name: str, data: Folder = None) -> Dataset:
    """Return a split of a recipe's data set, whole: "train" or "val"."""
    return opened(*key(recipes.get(recipe), name, data))


def key(recipe: Recipe, name: str, data: Folder) -> Key:
    """Return what `opened` takes: hashable, so that what was read can be cached by it."""
    folder = datasets.locate(recipe.dataset, data)
    options = {"options": recipe.reader_options(name), "skip": list(recipe.skip.get(name, ()))}
    return recipe.dataset, str(folder), name, json.dumps(options, sort_keys=True)


def keys(recipe: Recipe, data: Folder) -> tuple[Key, ...]:
    """Return the `key` of each split."""
    return tuple(key(recipe, name, data) for name in SPLITS)


def named(recipe: Recipe, data: Folder) -> tuple[tuple[str, Key], ...]:
    """Return the keys of all splits that a training reads, by name.

    These are its own, "train" and "val", and "<name>/train" and "<name>/val" of each recipe that it starts
    from (`Recipe.before`).
    """
    found = [*zip(SPLITS, keys(recipe, data), strict=True)]
    for each in recipe.before():
        found += [(f"{each.name}/{name}", own) for name, own in zip(SPLITS, keys(each, data), strict=True)]
    return tuple(found)


def opened(dataset: str, folder: str, name: str, options: str) -> Dataset:
    """Return a split with at least one sample."""
    given = json.loads(options)
    found = datasets.load(dataset, folder, name, **recipes.tuples(given["options"]))
    if given["skip"]:
        found = datasets.Without(found, given["skip"])
    if not len(found):
        raise DatasetError(f"{found}: no samples")
    return found


def check_problem(found: Dataset, problem: str) -> None:
    """Raise `RecipeError` where a recipe's task is of another problem than its data set."""
    if found.problem != problem:
        raise RecipeError(
            f"the data set {found.name} is for {found.problem}, the recipe's task for {problem}; expected a "
            "data set of the task's problem"
        )


def check_classes(dataset: str, train: Sequence[str], val: Sequence[str]) -> None:
    """Raise `DatasetError` where a label does not mean the same class in both splits."""
    if tuple(train) == tuple(val):
        return
    pairs = zip(train, val, strict=False)
    at = next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(train), len(val)))
    there = [repr(names[at]) if at < len(names) else "no class" for names in (train, val)]
    raise DatasetError(
        f"{dataset}: label {at} is {there[0]} in train ({len(train)} classes) and {there[1]} in val "
        f"({len(val)}); expected the same classes in both: make or pack both splits anew"
    )


def described(named: Iterable[tuple[str, Key]]) -> Described:
    """Return what tells splits (see `named`) from others of their names; the samples are not read."""
    found: Described = {}
    for name, key in named:
        one = opened(*key)
        text = json.dumps([one.classes, one.ids])
        found[name] = {"samples": len(one), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return found


@functools.cache
def described_once(named: tuple[tuple[str, Key], ...]) -> Described:
    """Return `described` as it was when this process first asked."""
    return described(named)


def difference(ours: Described, theirs: Mapping[str, object], where: tuple[str, str]) -> str | None:
    """Return in which split two data differ, or None.

    Args:
        where: the places of the two, for the text.
    """
    for split, own in ours.items():
        if split not in SPLITS and split not in theirs:
            continue  # what was written before this was compared says nothing of it
        other = theirs.get(split)
        if other != own:
            count = f"{other.get('samples')}" if isinstance(other, dict) else "unknown"
            return (
                f"{split} has {own['samples']} samples {where[0]} and {count} {where[1]}, or others of them"
            )
    return None
