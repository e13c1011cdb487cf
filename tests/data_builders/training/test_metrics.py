"""Metrics against plain implementations written here, one sample and one pixel at a time."""

import math

import numpy as np
import pytest
import torch

from nasbench_mr.data_builders.training.metrics import Confusion, TopK
from nasbench_mr.errors import InvalidArgumentError


def plain_top(logits, labels, k):
    """Share of rows whose label is among the k highest; distinct values, so no ties."""
    hits = [label in np.argsort(-row)[:k] for row, label in zip(logits, labels, strict=True)]
    return 100 * sum(hits) / len(hits)


def plain_segmentation(predicted, labels, classes):
    """mIoU, mAcc, aAcc by their definitions."""
    pairs = [(p, t) for p, t in zip(predicted.ravel(), labels.ravel(), strict=True) if t != 255]
    ious, accuracies = [], []
    for c in range(classes):
        both = sum(p == c and t == c for p, t in pairs)
        either = sum(p == c or t == c for p, t in pairs)
        labelled = sum(t == c for _, t in pairs)
        if either:
            ious.append(both / either)
        if labelled:
            accuracies.append(both / labelled)
    right = sum(p == t for p, t in pairs) / len(pairs)
    return {"mIoU": 100 * np.mean(ious), "mAcc": 100 * np.mean(accuracies), "aAcc": 100 * right}


def test_top_k_equals_the_plain_one():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(97, 12)), rng.integers(0, 12, 97)
    metric = TopK()
    for part in np.array_split(np.arange(97), 5):
        metric.update(torch.from_numpy(logits[part]), torch.from_numpy(labels[part]))
    for k in TopK.KS:
        assert metric.compute()[f"top{k}"] == pytest.approx(plain_top(logits, labels, k))


def test_top_k_of_few_classes_and_none():
    metric = TopK()
    assert math.isnan(metric.compute()["top1"])
    metric.update(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([0]))
    assert metric.compute() == {"top1": 0.0, "top5": 100.0}


def test_nan_scores_are_wrong():
    metric = TopK()
    metric.update(torch.full((4, 10), math.nan), torch.arange(4))
    assert metric.compute() == {"top1": 0.0, "top5": 0.0}


def test_nan_pixels_are_wrong_and_of_no_class():
    """Of four pixels of two classes, two are right, one is wrong and one has a NaN among its scores."""
    labels = torch.tensor([[[0, 0, 1, 1]]])
    logits = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, math.nan, 1.0, 0.0]]).view(1, 2, 1, 4)
    metric = Confusion(2)
    metric.update(logits, labels)
    # Class 0: 1 hit of 2, and one pixel of class 1 taken for it; class 1: 1 hit of 2.
    assert metric.compute() == pytest.approx({"mIoU": 100 * (1 / 3 + 1 / 2) / 2, "mAcc": 50, "aAcc": 50})
    metric = Confusion(2)
    metric.update(torch.full((1, 2, 1, 4), math.nan), labels)
    assert metric.compute() == {"mIoU": 0.0, "mAcc": 0.0, "aAcc": 0.0}


def test_states_add_up():
    rng = np.random.default_rng(1)
    logits, labels = torch.from_numpy(rng.normal(size=(40, 7))), torch.from_numpy(rng.integers(0, 7, 40))
    whole, first, second = TopK(), TopK(), TopK()
    whole.update(logits, labels)
    first.update(logits[:13], labels[:13])
    second.update(logits[13:], labels[13:])
    first.state += second.state
    assert first.compute() == whole.compute()


def test_segmentation_equals_the_plain_one():
    rng = np.random.default_rng(2)
    classes = 6
    labels = rng.integers(0, classes - 1, (3, 8, 9)).astype(np.uint8)  # the last class is never labelled
    labels[rng.random(labels.shape) < 0.2] = 255
    logits = rng.normal(size=(3, classes, 8, 9))
    logits[:, 2] = -9  # and class 2 is never predicted
    metric = Confusion(classes)
    for k in range(3):
        metric.update(torch.from_numpy(logits[k : k + 1]), torch.from_numpy(labels[k : k + 1]))
    expected = plain_segmentation(logits.argmax(1), labels, classes)
    assert metric.compute() == {name: pytest.approx(value) for name, value in expected.items()}


def test_a_class_that_does_not_occur_counts_for_nothing():
    metric = Confusion(3)
    metric.count(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0]))
    # Class 0: 2 of 3; class 1: 1 of 2; class 2 nowhere.
    assert metric.compute()["mIoU"] == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)
    assert metric.compute()["mAcc"] == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert metric.compute()["aAcc"] == pytest.approx(75)


def test_classes_are_needed():
    with pytest.raises(InvalidArgumentError, match="at least 1"):
        Confusion(0)
