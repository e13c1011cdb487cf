"""How proxies are compared between heads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import proxy_heads as script
import pytest

from nasbench_mr import space, tasks
from nasbench_mr.predictors import zero_cost
from nasbench_mr.predictors.base import OF_NETWORKS


class Made:
    """A table of one task, whose metric is what is given."""

    tasks = ("seg",)

    def __init__(self, codes: np.ndarray, values: list[float]):
        self.of = dict(zip(map(space.to_string, codes), values, strict=True))

    def codes(self, task: str) -> np.ndarray:
        return np.array([space.parse(code) for code in self.of], np.int16)

    def task(self, name: str) -> tasks.Task:
        return tasks.get(name)

    def query_many(self, codes: list[str], task: str, metrics: tuple[str, ...]) -> dict[str, np.ndarray]:
        return {metrics[0]: np.array([self.of[code] for code in codes])}


def test_a_part_has_the_proxies_of_every_nth_code() -> None:
    codes = space.sample(3, seed=0)
    frame = script.part(Made(codes, [1, 2, 3]), "seg", 5, 2)  # type: ignore[arg-type]
    assert frame["code"].tolist() == [space.to_string(code) for code in codes[::2]]
    assert frame[["head", "seed"]].drop_duplicates().values.tolist() == [["seg", 5]]
    expected = zero_cost.compute(codes[:1], "seg", names=("naswot",), seed=5, size=32)["naswot"]
    assert frame["naswot"][0] == pytest.approx(expected[0])


def test_ranks_are_compared_with_the_first_head_and_the_metric() -> None:
    """Of four codes a head orders two the other way round: five pairs agree and one does not, (5 - 1) / 6."""
    codes = space.sample(4, seed=0)
    ranks = {("cls-50-1000", 0): [1, 2, 3, 4], ("seg", 0): [1, 2, 4, 3], ("video", 0): [4, 3, 2, 1]}
    frame = pd.concat(
        pd.DataFrame({"head": head, "seed": seed, "code": [space.to_string(code) for code in codes]}).assign(
            **dict.fromkeys(OF_NETWORKS, order)
        )
        for (head, seed), order in ranks.items()
    )
    alike, packaged, useful = script.views(frame, Made(codes, [1, 2, 4, 3])).values()  # type: ignore[arg-type]
    assert [(row["head"], row["seed"], row["zen"]) for row in alike] == [
        ("seg", 0, pytest.approx(4 / 6)), ("video", 0, -1.0)
    ]  # fmt: skip
    # The packaged table is of the published codes, and lacks these.
    assert [np.isnan(row["zen"]) for row in packaged] == [True]
    assert [(row["task"], row["head"], row["snip"]) for row in useful] == [
        ("seg", "seg", 1.0), ("seg", "cls-50-1000", pytest.approx(4 / 6))
    ]  # fmt: skip
