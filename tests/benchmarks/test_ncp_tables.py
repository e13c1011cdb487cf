"""What the paper's kinds of tables ask for."""

from __future__ import annotations

import ncp_tables as script
import pandas as pd
import pytest

from nasbench_mr import cost, space


def test_each_kind_asks_for_its_codes() -> None:
    names = ("seg", "video", "cls-10c")
    asked = {kind: list(script.asked(names, kind)) for kind in script.KINDS}
    assert len(asked["single"]) == 3 * 3
    assert [one.name for one in asked["joint"]] == ["seg+video", "seg+cls-10c", "video+cls-10c", "all"]
    free = {one.name: space.DIM - len(one.fixed) for one in asked["length"]}
    assert free == {
        "none": 0, "modules (4)": 4, "units (10)": 10, "widths (13)": 13, "depths (14)": 14, "all (27)": 27
    }  # fmt: skip
    # With nothing free the start is what is left, and it is within the limit.
    nothing = asked["length"][0]
    assert cost.macs([nothing.fixed[name] for name in space.NAMES])[0] == nothing.limit


@pytest.mark.parametrize("name", script.REFERENCES)
def test_references_are_codes(name: str) -> None:
    code = dict(zip(space.NAMES, space.parse(script.REFERENCES[name]), strict=True))
    if name.startswith("ResNet"):
        # One path: every branch but a stage's new one is as small as it can be.
        others = [code[key] for key in space.NAMES if key[0] in "nc" and key[1] != key[-1]]
        assert set(others) == {1, 8}
    else:
        assert code["c4_1"] < code["c4_2"] < code["c4_3"] <= code["c4_4"]


def test_a_transfer_table_has_every_task_for_every_code() -> None:
    values = {("seg", "seg"): 77.0, ("seg", "video"): 20.0, ("video", "seg"): 70.0, ("video", "video"): 27.0}
    common = {"kind": "single", "how": "ncp", "limit": 2e9}
    rows = [
        common | {"seed": s, "name": n, "for": n, "task": t, "predicted": p + s, "judged": p}
        for s in (0, 1)
        for (n, t), p in values.items()
    ]
    table = script.views(pd.DataFrame(rows))["single, predicted"]
    assert table == [
        {"name": "seg", "limit": 2.0, "seg": "77.50 ± 0.71", "video": "20.50 ± 0.71"},
        {"name": "video", "limit": 2.0, "seg": "70.50 ± 0.71", "video": "27.50 ± 0.71"},
    ]
