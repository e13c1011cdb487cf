"""Measure a few codes together: their repeats take turns, so that what disturbs the machine hits all alike.

A code is measured as the network that `cost.macs` counts: full width, 50 classes, a classification head. Each
round visits every code once. A visit runs the network once unmeasured, which fills the caches again, and then
some times measured. Where a code's repeats spread too far, more rounds follow.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nasbench_mr import checks, cost, space
from nasbench_mr.arrays import Floats
from nasbench_mr.data_builders.measuring import meters
from nasbench_mr.data_builders.measuring.runtimes import RUNTIMES
from nasbench_mr.errors import DeviceError, InvalidArgumentError
from nasbench_mr.extras import requires
from nasbench_mr.threads import open_device, torch_threads

with requires("search", "measuring"):
    import torch

    from nasbench_mr.network import MultiResolutionNet

#: Runs of a network in two rounds; more rounds follow, up to this many, for codes that spread.
ROUNDS, MAX_ROUNDS = 2, 4
CLOCKS: dict[str, Callable[[], int]] = {"wall": time.perf_counter_ns, "cpu": time.process_time_ns}
#: Measured in every group: what becomes of its time tells whether the device changes (`Group.reference`).
REFERENCE = space.parse(
    [32, 32, *([1, 1, 32]), *([1, 1, 1, 32, 32]), *([1] * 4 + [32] * 3), *([1] * 5 + [32] * 4), 64]
)


@dataclass(frozen=True)
class Setting:
    """How codes are measured.

    Attributes:
        device: "cpu", "cuda" or "cuda:1".
        runtime: a name in `RUNTIMES`.
        batch, size: the input is `(batch, 3, size, size)`.
        threads: of a CPU.
        repeat: measured runs, at least.
        clock: "wall"; or "cpu", the seconds that the process computes, for one thread on a CPU that others
            use as well: a run's time on a core of its own.
        max_spread: the most that the quartiles of half of the codes may lie apart, as a share of the median.
    """

    device: str = "cpu"
    runtime: str = "torch"
    batch: int = 1
    size: int = cost.RESOLUTION
    threads: int = 1
    repeat: int = 4
    clock: str = "wall"
    max_spread: float = 0.2

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("threads", 1), ("size", 32), ("repeat", ROUNDS)):
            object.__setattr__(self, name, checks.at_least(least, name, getattr(self, name)))
        object.__setattr__(self, "max_spread", checks.positive("max_spread", self.max_spread))
        RUNTIMES.check(self.runtime)
        if self.clock not in CLOCKS:
            raise InvalidArgumentError(f"clock is {self.clock!r}; expected one of {', '.join(CLOCKS)}")
        if self.clock == "cpu" and (not self.device.startswith("cpu") or self.threads != 1):
            raise InvalidArgumentError("the clock 'cpu' is for one thread on a CPU; expected clock='wall'")

    def describe(self) -> dict[str, Any]:
        """Return the setting and the device that it is measured on, with the versions of what runs."""
        device, cores = open_device(self.device), os.cpu_count() or 1
        if self.threads > cores:
            raise DeviceError(f"threads is {self.threads}, and this machine has {cores} cores")
        return {**asdict(self), **meters.describe(device, self.runtime)}


@dataclass(frozen=True)
class Group:
    """What was measured together.

    Attributes:
        rows: one for each code: "code", "times_ms", and "memory" (bytes) and "energy" (joules a run), None
            where the machine does not tell.
        reference: median milliseconds of the reference network, to tell whether the device changes.
        about: `Setting.describe`, of the worker.
        seconds: that it took.
    """

    rows: list[dict[str, Any]]
    reference: float
    about: dict[str, Any]
    seconds: float


def measurer(setting: Setting) -> Callable[[Sequence[space.Code]], Group]:
    """Return what measures a group of codes on this machine's device; the maker of `workers.Work`."""
    about = setting.describe()

    def measure(codes: Sequence[space.Code]) -> Group:
        begin = time.perf_counter()
        with torch_threads(setting.threads):
            reference, rows = _Visits(setting, codes).all()
        return Group(rows, reference, about, time.perf_counter() - begin)

    return measure


class _Visits:
    """The codes of a group, ready to run in every runtime."""

    def __init__(self, setting: Setting, codes: Sequence[space.Code]):
        self.setting = setting
        self.device = open_device(setting.device)
        self.energy = meters.energy(self.device)
        generator = torch.Generator().manual_seed(0)
        shape = (setting.batch, 3, setting.size, setting.size)
        self.example = torch.rand(shape, generator=generator).to(self.device)
        self.rows: list[dict[str, Any]] = []
        self.runs: list[Callable[[], Any]] = []
        self.used: list[tuple[float, int]] = []
        for code in (REFERENCE, *codes):
            self._prepare(tuple(code))

    def _prepare(self, code: space.Code) -> None:
        peak = meters.Peak(self.device)
        run = RUNTIMES[self.setting.runtime](
            network_of(code, self.device), self.example, self.setting.threads
        )
        peak.reset()  # what only preparing needed does not count
        run()
        memory = peak.read()
        self.runs.append(run)
        self.used.append((0.0, 0))
        self.rows.append({"code": list(code), "times_ms": [], "memory": memory, "energy": None})

    def all(self) -> tuple[float, list[dict[str, Any]]]:
        """Return the reference's median, and the rows."""
        every = list(range(len(self.rows)))
        for number in range(MAX_ROUNDS):
            todo = every
            if number >= ROUNDS:
                todo = [k for k in every if spread(self.rows[k]["times_ms"]) > self.setting.max_spread]
            for k in todo:
                self._visit(k)
        return float(np.median(self.rows[0]["times_ms"])), self.rows[1:]

    def _visit(self, k: int) -> None:
        run, clock = self.runs[k], CLOCKS[self.setting.clock]
        run()
        before, times = self.energy(), []
        for _ in range(-(-self.setting.repeat // ROUNDS)):
            begin = clock()
            run()
            times.append((clock() - begin) / 1e6)
        self.rows[k]["times_ms"] += times
        after = self.energy()
        if before is not None and after is not None:
            joules, runs = self.used[k]
            self.used[k] = joules, runs = joules + after - before, runs + len(times)
            # All visits may end before the meter's next tick, which says nothing of what is used.
            self.rows[k]["energy"] = joules / runs or None


def network_of(code: space.Code, device: torch.device) -> MultiResolutionNet:
    """Return a code's network with constant weights; how long it takes does not depend on them.

    Every convolution averages its inputs, so that no value becomes tiny or infinite, which some processors
    handle slowly. Random weights would take longer to draw than the network to run.
    """
    with torch.device("meta"):
        net = MultiResolutionNet(code)
    net = net.to_empty(device=device).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.fill_(1 / module.weight[0].numel())
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_parameters()
        assert net.head is not None
        assert net.head.classifier.bias is not None
        net.head.classifier.bias.zero_()
    return net


def quartiles(times: Sequence[float]) -> Floats:
    """Return the lower quartile, the median and the upper quartile."""
    found: Floats = np.percentile(times, (25, 50, 75))
    return found


def spread(times: Sequence[float]) -> float:
    """Return how far the quartiles lie apart, as a share of the median."""
    low, middle, high = quartiles(times)
    return float((high - low) / middle)


def outliers(times: Sequence[float]) -> float:
    """Return the share of repeats more than 1.5 times the quartiles' distance outside them (Tukey, 1977)."""
    low, _, high = quartiles(times)
    reach = 1.5 * (high - low)
    values = np.asarray(times)
    return float(((values < low - reach) | (values > high + reach)).mean())


def check_calm(groups: Sequence[Group], setting: Setting, first: float | None = None) -> None:
    """Raise where groups tell that the device is busy, or that it has changed.

    Args:
        groups: the last ones.
        first: the reference's time in what was measured before; None: it is not looked at.

    Raises:
        DeviceError: half of the codes spread beyond the limit, or the reference's time moved beyond it; or
            the clock is too coarse for a network.
    """
    if any(min(row["times_ms"]) <= 0 for group in groups for row in group.rows):
        raise DeviceError(
            f"the clock {setting.clock!r} of this machine can't tell a small network's time: it took 0 ms; "
            "give a larger batch or size, or another clock"
        )
    spreads = [spread(row["times_ms"]) for group in groups for row in group.rows]
    typical = float(np.median(spreads))
    limit = f"expected at most {setting.max_spread:.0%}; wait until it is quiet, or allow more (max_spread)"
    if typical > setting.max_spread:
        raise DeviceError(
            f"the device is busy or throttles: repeats of half of the last {len(spreads)} codes spread by "
            f"{typical:.0%}; {limit}"
        )
    now = float(np.median([group.reference for group in groups]))
    if first is not None and abs(now / first - 1) > setting.max_spread:
        raise DeviceError(
            f"the device is busy or throttles: the reference network takes {now:.2f} ms, and took "
            f"{first:.2f} ms before ({now / first - 1:+.0%}); {limit}, or measure all codes anew"
        )
