"""What Aux-NAS costs to train: `python benchmarks/auxnas.py`, part of `make bench`.

The yardstick is the sum of two single-task trainings of as many epochs, with the same batches on one core.
An epoch of Aux-NAS goes through the training set once, as theirs do: half of it updates the gates, the other
half the weights. CPU time, so that other processes disturb less; the parts take turns.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from common import Figure, report

from nasbench_mr.search.auxnas import readers
from nasbench_mr.search.auxnas.config import AuxConfig
from nasbench_mr.search.auxnas.data import AuxData
from nasbench_mr.search.auxnas.preparation import prepare
from nasbench_mr.search.auxnas.training import Training

CODE = "16_16-1_1_1_16-1_2_1_1_16_32-1_3_1_1_1_16_32_32-1_4_1_1_1_1_16_32_32_32-32"
SIZE, ROUNDS = (96, 128), 5


def epoch_of(data: AuxData, primary: str, auxiliary: str | None) -> Training:
    """Return a training of which epochs are timed."""
    config = AuxConfig.of(
        {
            "variant": "aux-nas" if auxiliary else "single",
            "primary_code": CODE,
            "batch_size": 8,
            "epochs": 1000,
        }
    )
    tasks, network = prepare(primary, auxiliary or "", data, config)
    return Training(network, tasks, data, config)


def main() -> None:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        data = readers.load("indoor", Path(folder) / "indoor", SIZE, train=32, val=1)
    parts = [
        epoch_of(data, *names)
        for names in (("segmentation", None), ("normals", None), ("segmentation", "normals"))
    ]
    seconds: list[list[float]] = [[] for _ in parts]
    for _ in range(ROUNDS + 1):
        for times, part in zip(seconds, parts, strict=True):
            start = time.process_time()
            for _ in range(part.per_epoch):
                part._advance()
            times.append(time.process_time() - start)
    # The first round warms up.
    first, second, search = (statistics.median(times[1:]) for times in seconds)
    weight_updates = parts[2].per_epoch / parts[0].per_epoch
    ratio = search / (first + second)
    report(
        "Aux-NAS",
        [
            Figure(
                "an epoch of search training / of two single-task trainings",
                f"{ratio:.2f} ({search:.2f} / {first + second:.2f} s)",
                "<= 1.3",
                ratio <= 1.3,
            ),
            Figure(
                "the same number of updates of the weights / two single-task trainings",
                f"{ratio / weight_updates:.2f}",
                "-",
                None,
            ),
        ],
    )


if __name__ == "__main__":
    main()
