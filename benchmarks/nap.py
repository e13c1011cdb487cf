"""A trainer that only takes time, for `builders.py`; apart, so that workers import nothing else."""

from __future__ import annotations

import time
from types import SimpleNamespace

#: Seconds of a trial.
SECONDS = 0.05


def train(*_: object, **__: object) -> SimpleNamespace:
    """Return a trial of `SECONDS`."""
    time.sleep(SECONDS)
    metrics = {"top1": 50.0}
    return SimpleNamespace(
        status="ok", error=None, metrics=metrics, curve={}, epochs=1, seconds=SECONDS, device="none"
    )
