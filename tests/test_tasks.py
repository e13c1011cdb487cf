"""The registered tasks, their names and aliases, and descriptions that come from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from nasbench_mr import Metric, NasbenchMRError, Task, tasks
from nasbench_mr.errors import ReleaseError, UnknownMetricError, UnknownTaskError

PUBLISHED = {
    # name: (metrics, objective, classes, validation samples)
    "cls-50-1000": ("top1 top5", "top1", 50, 2500),
    "cls-50-100": ("top1 top5", "top1", 50, 2500),
    "cls-10-1000": ("top1 top5", "top1", 10, 500),
    "cls-10c": ("top1 top5", "top1", 50, 2500),
    "seg": ("mIoU mAcc aAcc", "mIoU", 19, 500),
    "seg-4x": ("mIoU mAcc aAcc", "mIoU", 19, 500),
    "3ddet": ("moderate", "moderate", 3, 3769),
    "video": ("top1 top5", "top1", 51, None),
    "video-p": ("top1 top5", "top1", 51, None),
    "nas-bench-201": ("Acc", "Acc", 120, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_tasks(name: str) -> None:
    task = tasks.get(name)
    metrics, objective, classes, size = PUBLISHED[name]
    assert task.name == name
    assert [m.name for m in task.metrics] == metrics.split()
    assert (task.objective, task.num_classes, task.validation_size) == (objective, classes, size)
    assert task.metrics[0] == task.metric() == task.metric(objective)
    for metric in task.metrics:
        assert (metric.unit, metric.direction, metric.sign) == ("percent", "max", 1)
        assert (metric.lower, metric.upper) == (0, 100)
        assert metric.description
    assert task.problem in tasks.PROBLEMS
    assert task.dataset
    assert task.title
    assert "ICLR" in task.provenance
    # 3ddet's published MACs follow another rule, and another space has no formula.
    assert task.cost == ("table" if name == "3ddet" else "code")


def test_all_published_tasks_are_registered() -> None:
    assert set(PUBLISHED) <= set(tasks.names())


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("seg", "seg"),
        (" SEG ", "seg"),
        ("seg_4x", "seg-4x"),
        ("Video P", "video-p"),
        ("kitti", "3ddet"),
        ("NB201", "nas-bench-201"),
    ],
)
def test_names_and_aliases(typed: str, name: str) -> None:
    assert tasks.get(typed) is tasks.get(name)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("cityscapes", "no task 'cityscapes': did you mean 'seg' or 'seg-4x'?"),
        ("hmdb51", "no task 'hmdb51': did you mean 'video' or 'video-p'?"),
        ("imagenet", "did you mean 'cls-50-1000' or 'cls-50-100' or 'cls-10-1000' or 'cls-10c'?"),
        ("segmentation", "no task 'segmentation': "),
        ("vido", "did you mean 'video'"),
        ("", "no task ''"),
        (3, "no task 3"),
        (None, "no task None"),
        (("seg",), "no task"),
    ],
)
def test_unknown_and_ambiguous_names(typed: Any, message: str) -> None:
    with pytest.raises(UnknownTaskError, match="no task") as raised:
        tasks.get(typed)
    assert message in str(raised.value)


def test_unknown_metrics() -> None:
    with pytest.raises(UnknownMetricError, match="task 'seg' has no metric 'miou': did you mean 'mIoU'"):
        tasks.get("seg").metric("miou")


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(tasks._REGISTRY)
    yield
    tasks._REGISTRY.clear()
    tasks._REGISTRY.update(before)


@pytest.mark.usefixtures("registry")
def test_register() -> None:
    mine = Task(
        "mine", "Mine", "my data", "classification", (Metric("loss", "nats", "min", None, None),), "loss"
    )
    assert tasks.register(mine) is mine
    assert tasks.get("Mine") is mine
    assert mine.metric().sign == -1
    better = tasks.register(replace(mine, title="Better"))
    assert tasks.get("mine") is better
    assert tasks.names().count("mine") == 1


# --- Descriptions in release.json ---------------------------------------------------------------------


@pytest.mark.parametrize("name", tasks.names())
def test_descriptions_round_trip_through_json(name: str) -> None:
    task = tasks.get(name)
    assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task


GOOD: dict[str, Any] = {
    "name": "x",
    "title": "X",
    "dataset": "d",
    "problem": "classification",
    "metrics": [{"name": "top1"}],
    "objective": "top1",
}


def test_the_least_description() -> None:
    assert Task.from_dict(GOOD) == Task("x", "X", "d", "classification", (Metric("top1"),), "top1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "name is 3; expected str"),
        ({"name": "../x"}, r"task name '../x': expected letters, digits, '.', '_' and '-'"),
        ({"name": ""}, "task name ''"),
        ({"num_classes": "many"}, "num_classes is 'many'"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"objective": "top5"}, "its objective 'top5' is not among its metrics"),
        ({"metrics": []}, "is not among its metrics"),
        ({"metrics": "top1"}, "malformed description"),
        ({"metrics": [{"name": "top1", "direction": "up"}]}, "direction is 'up'; expected max or min"),
        ({"metrics": [{"name": "top1", "upper": float("nan")}]}, "upper is nan"),
        ({"metrics": [{"name": "top1", "upper": 10**400}]}, "upper is 1000"),
        ({"metrics": [{"name": "top1", "upper": float("inf")}]}, "upper is inf"),
        ({"metrics": [{"title": "top1"}]}, "unknown field 'title'"),
        ({"metrics": [{}]}, "missing"),
        ({"metrics": None}, "malformed description"),
    ],
)
def test_malformed_descriptions(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ReleaseError, match=message):
        Task.from_dict({**GOOD, **change})


def test_descriptions_that_lack_something() -> None:
    for key in GOOD:
        with pytest.raises(NasbenchMRError, match=key):
            Task.from_dict({k: v for k, v in GOOD.items() if k != key})
