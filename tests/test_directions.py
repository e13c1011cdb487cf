"""Names of metrics: which say that less is better, which that more is, and which say nothing."""

from __future__ import annotations

import pytest

from nasbench_mr import directions, tasks


@pytest.mark.parametrize(
    ("expected", "names"),
    [
        (
            "max",
            "acc accuracy valAcc test_acc top1 top-5 mIoU mAcc val/miou AP AP50 mAP box_mAP F1 f1_macro R2",
        ),
        ("max", "psnr AUC auroc recall precision@10 oa fps throughput dice bleu4 kendall"),
        (
            "min",
            "err valError top1_err error_rate loss testLoss lat_ms latency99 inferenceTime perplexity ppl",
        ),
        ("min", "rmse MAE fid acc_loss power_watts memMiB energy_mj"),
        (None, "score foo value y param lr wd epoch_2 width mapping topology seeds accepted 1 µ"),
    ],
)
def test_names_tell_directions(expected: str | None, names: str) -> None:
    assert {name: directions.usual(name) for name in names.split()} == dict.fromkeys(names.split(), expected)


def test_no_registered_metric_is_told_otherwise() -> None:
    for name in tasks.names():
        for metric in tasks.get(name).metrics:
            assert directions.usual(metric.name) in (metric.direction, None)
