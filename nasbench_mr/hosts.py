"""What this machine is, as far as measured costs depend on it. Imports nothing that a cold query does not."""

from __future__ import annotations

import functools
import os
import platform
from typing import Any


@functools.cache
def _processor() -> str:
    """Return the processor's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(("model name", "Model")):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def this_machine() -> dict[str, Any]:
    """Return the "name" of its processor, its "machine" type such as "x86_64", and its number of "cores"."""
    return {"name": _processor(), "machine": platform.machine(), "cores": os.cpu_count() or 1}
