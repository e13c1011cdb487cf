"""What a machine tells of itself: its clock, memory and energy, and what it is.

Each meter answers None where the machine does not tell; nothing is estimated.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench_mr import measured
from nasbench_mr.extras import requires

if TYPE_CHECKING:
    import torch

#: Where Linux has its power meters.
_RAPL = Path("/sys/class/powercap")
_STATUS = Path("/proc/self/status")


def energy(device: torch.device) -> Callable[[], float | None]:
    """Return a meter that reads joules used so far by the whole device: RAPL's packages, or NVML's GPU."""
    if device.type == "cuda":
        return _nvml(device)
    counters = [
        _rapl(folder)
        for folder in sorted(_RAPL.glob("intel-rapl:*"))
        if folder.name.count(":") == 1
        and all(os.access(folder / name, os.R_OK) for name in ("energy_uj", "max_energy_range_uj"))
    ]
    if not counters:
        return lambda: None
    return lambda: sum(counter() for counter in counters) / 1e6


def _rapl(folder: Path) -> Callable[[], int]:
    """Return a meter that reads a package's microjoules, whose counter starts again at 0 after its range."""
    most = int((folder / "max_energy_range_uj").read_text())
    last = total = int((folder / "energy_uj").read_text())

    def read() -> int:
        nonlocal last, total
        now = int((folder / "energy_uj").read_text())
        total += now - last + (most if now < last else 0)
        last = now
        return total

    return read


def _nvml(device: torch.device) -> Callable[[], float | None]:
    import torch

    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # not installed, or a GPU that does not tell
        return lambda: None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


class Peak:
    """How much memory is used at most, since the last reset, above what was there at the start, in bytes.

    On a GPU what PyTorch allocates; on a CPU the process's resident memory, where Linux tells (a small
    network can reuse pages that another one left, so that its figure is too low by those).
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._base = self.reset()

    def reset(self) -> int | None:
        """Forget peaks so far; return what is used now, None where the machine does not tell."""
        if self._device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self._device)
            return torch.cuda.memory_allocated(self._device)
        try:
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            return _resident("VmRSS")
        except (OSError, AttributeError):
            return None

    def read(self) -> int | None:
        """Return the peak; None where nothing was taken anew, which says nothing of what is used."""
        if self._base is None:
            return None
        if self._device.type == "cuda":
            import torch

            # 0 where another library allocates, as onnxruntime does.
            return max(torch.cuda.max_memory_allocated(self._device) - self._base, 0) or None
        return max(_resident("VmHWM") - self._base, 0) or None


def _resident(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def describe(device: torch.device, runtime: str) -> dict[str, Any]:
    """Return what is needed to judge a measurement: the device, and the versions of what ran."""
    import torch

    about: dict[str, Any] = {"device": device.type, **measured.this_machine()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        about["processor"] = about.pop("name")
        about["name"] = properties.name
        about["cuda"] = torch.version.cuda
    about["system"] = platform.platform()
    about["python"] = platform.python_version()
    about["torch"] = torch.__version__
    if runtime == "onnx":
        with requires("measure", "the runtime 'onnx'"):
            import onnxruntime

        about["onnxruntime"] = onnxruntime.__version__
    return about
