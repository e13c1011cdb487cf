"""Losses and metrics of labels, against values that can be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nasbench_mr.errors import DatasetError, UnknownTaskError
from nasbench_mr.search.auxnas.tasks import TASKS, get


def measured(
    name: str, outputs: list[torch.Tensor], labels: list[torch.Tensor], classes: int | None = None
) -> dict:
    meter = get(name).meter(classes, "cpu")
    for output, label in zip(outputs, labels, strict=True):
        meter.update(output, label)
    return meter.compute()


def test_normals() -> None:
    angles = [0.0, 10.0, 20.0, 45.0]
    label = torch.tensor([0.0, 0.0, -1.0]).expand(1, 1, 5, 3).clone()
    label[0, 0, 4] = 0  # unknown
    output = torch.zeros(1, 3, 1, 5)
    for i, angle in enumerate(angles):
        # Any length will do.
        output[0, :, 0, i] = (1 + i) * torch.tensor(
            [math.sin(math.radians(angle)), 0, -math.cos(math.radians(angle))]
        )
    task = get("normals")
    expected = sum(1 - math.cos(math.radians(a)) for a in angles) / 4
    assert float(task.loss(output, label)) == pytest.approx(expected, rel=1e-5)
    # In two batches: counts add up.
    got = measured("normals", [output[..., :2], output[..., 2:]], [label[:, :, :2], label[:, :, 2:]])
    assert got["mean"] == pytest.approx(75 / 4, abs=1e-4)
    assert got["rmse"] == pytest.approx(math.sqrt((100 + 400 + 45**2) / 4), abs=1e-4)
    assert got["median"] == pytest.approx(10, abs=0.02)
    assert [got[f"within_{limit}"] for limit in ("11.25", "22.5", "30")] == [50, 75, 75]
    assert set(got) == {m.name for m in task.metrics}


def test_normals_that_are_nan_are_not_right() -> None:
    got = measured("normals", [torch.full((1, 3, 1, 5), math.nan)], [torch.ones(1, 1, 5, 3)])
    assert math.isnan(got["mean"])
    assert got["within_30"] == 0
    assert got["median"] > 179


def test_edges_that_are_nan_are_not_found() -> None:
    label = torch.tensor([[[1, 1, 1, 0]]], dtype=torch.uint8)
    assert measured("edges", [torch.full((1, 1, 1, 4), math.nan)], [label])["F1"] == 0
    # One of three is known and found: 2 * 1 / (1 + 0 + 3).
    logits = torch.tensor([[[[2.0, math.nan, math.nan, math.nan]]]])
    assert measured("edges", [logits], [label])["F1"] == 50


def test_depth() -> None:
    label = torch.tensor([[[2.0, 4.0, 0.0, 1.0]]])
    output = torch.tensor([[[[2.4, 6.0, 9.0, 0.9]]]])
    assert float(get("depth").loss(output, label)) == pytest.approx((0.4 + 2 + 0.1) / 3, rel=1e-5)
    got = measured("depth", [output], [label])
    # Ratios 1.2, 1.5 and 1.11.
    assert got == pytest.approx({"L1": 2.5 / 3, "delta1": 200 / 3})
    assert get("depth").objective.sign == -1
    assert get("disparity").objective.unit == "pixels"


def test_edges() -> None:
    label = torch.tensor([[[1, 1, 0, 0, 0, 0, 255]]], dtype=torch.uint8)
    logits = torch.logit(torch.tensor([[[[0.9, 0.6, 0.7, 0.2, 0.2, 0.2, 0.9]]]]))
    # At a threshold of 0.5: 2 true, 1 false, 0 missed; at 0.8: 1 true, 0 false, 1 missed.
    assert measured("edges", [logits], [label])["F1"] == pytest.approx(100 * 4 / 5)
    # Edges weigh 4/6 each, others 2/6 each.
    losses = [-math.log(p) * w for p, w in ((0.9, 4), (0.6, 4), (0.3, 2), (0.8, 2), (0.8, 2), (0.8, 2))]
    assert float(get("edges").loss(logits, label)) == pytest.approx(sum(losses) / 36, rel=1e-4)


def test_classes_skip_the_unknown() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [5.0, 0.0, 0.0]])
    labels = torch.tensor([1, 1, -1])
    assert measured("scene", [logits], [labels], 3)["top1"] == 50
    total = math.log(math.e**2 + math.e + 1) - 1 + math.log(math.e**3 + 2) - 3
    assert float(get("scene").loss(logits, labels)) == pytest.approx(total / 2, rel=1e-5)


def test_segmentation_without_a_known_pixel_has_no_loss() -> None:
    label = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    assert float(get("segmentation").loss(torch.randn(1, 4, 2, 2), label)) == 0
    label[0, 0, 0] = 2
    logits = torch.zeros(1, 4, 2, 2)
    assert float(get("segmentation").loss(logits, label)) == pytest.approx(math.log(4))
    assert measured("segmentation", [logits], [label], 4)["aAcc"] == 0


def test_every_task_has_finite_losses_and_gradients() -> None:
    rng = np.random.default_rng(0)
    labels = {
        "segmentation": rng.integers(0, 5, (2, 4, 6)).astype(np.uint8),
        "normals": rng.normal(size=(2, 4, 6, 3)).astype(np.float32),
        "depth": rng.uniform(0, 3, (2, 4, 6)).astype(np.float32),
        "disparity": rng.uniform(0, 3, (2, 4, 6)).astype(np.float32),
        "edges": rng.integers(0, 2, (2, 4, 6)).astype(np.uint8),
        "object": rng.integers(0, 5, 2),
        "scene": rng.integers(0, 5, 2),
    }
    assert set(labels) == set(TASKS)
    for name, label in labels.items():
        task = get(name)
        task.check(label, 5, "here")
        output = torch.randn(2, task.channels(5), *([4, 6] if task.dense else []), requires_grad=True)
        task.loss(output, torch.from_numpy(label)).backward()
        assert output.grad is not None
        assert output.grad.isfinite().all()
        assert output.grad.abs().max() > 0
        metrics = measured(name, [output.detach()], [torch.from_numpy(label)], 5)
        assert list(metrics) == [m.name for m in task.metrics]
        for metric in task.metrics:
            assert metric.lower <= metrics[metric.name] <= (metric.upper or math.inf)


def test_bad_labels() -> None:
    seg, scene, depth = (get(n) for n in ("segmentation", "scene", "depth"))
    with pytest.raises(DatasetError, match="0 to 7; expected classes 0 to 4"):
        seg.check(np.array([[0, 7, 255]], np.uint8), 5, "indoor train")
    with pytest.raises(DatasetError, match="-2 to 1"):
        scene.check(np.array([-2, 1]), 5, "indoor train")
    with pytest.raises(DatasetError, match="no label"):
        seg.check(np.full((1, 2), 255, np.uint8), 5, "indoor train")
    with pytest.raises(DatasetError, match="NaN"):
        depth.check(np.array([np.nan], np.float32), None, "indoor train")
    with pytest.raises(DatasetError, match="how many classes"):
        seg.channels(None)
    with pytest.raises(UnknownTaskError, match="segmentation"):
        get("segmentations")
