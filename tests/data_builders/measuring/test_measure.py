"""Measuring codes: graphs for the ONNX runtime, statistics, resuming, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pynvml
import pytest
import torch

import nasbench_mr
from nasbench_mr import measured, release, space, workers
from nasbench_mr.data_builders.measuring import campaign, measure, meters
from nasbench_mr.data_builders.measuring.graphs import onnx_model
from nasbench_mr.data_builders.measuring.measure import Group, Setting
from nasbench_mr.data_builders.measuring.runtimes import RUNTIMES
from nasbench_mr.errors import DeviceError, InvalidArgumentError, UnknownNameError
from nasbench_mr.measured import MeasuredElsewhereWarning
from nasbench_mr.network import MultiResolutionNet, ResidualUnit
from nasbench_mr.threads import open_device

onnxruntime = pytest.importorskip("onnxruntime")
CODES = np.array(
    [[8, 8, *([1, 1, 8]), *([1, 1, 1, 8, 8]), *([1] * 4 + [8] * 3), *([1] * 5 + [8] * 4), 8]] * 3
)
CODES[1, 0], CODES[2, 0] = 16, 24
QUICK = Setting(size=32, clock="cpu", max_spread=100.0)


def random_net(code: np.ndarray, seed: int = 0) -> MultiResolutionNet:
    """Return a network whose batch norms are not the identity."""
    torch.manual_seed(seed)
    net = MultiResolutionNet(code, num_classes=7)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(tensor)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net.eval()


@pytest.mark.parametrize("size", [64, 52])
def test_the_graph_equals_the_network(size: int) -> None:
    # At 52 pixels branches have 13, 7, 4 and 2 on a side, so that upsampled maps are resized as well.
    net = random_net(space.sample(1, seed=1)[0])
    example = torch.randn(2, 3, size, size)
    session = onnxruntime.InferenceSession(onnx_model(net, example).SerializeToString())
    (found,) = session.run(None, {"input": example.numpy()})
    expected = net(example).detach().numpy()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_an_unknown_operation_is_refused() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Tanh())
    with pytest.raises(InvalidArgumentError, match="'tanh' can't be written as ONNX"):
        onnx_model(net, torch.zeros(1, 3, 8, 8))


def test_constant_weights_keep_values_moderate() -> None:
    largest = space.UPPER
    out = measure.network_of(tuple(largest.tolist()), torch.device("cpu"))(torch.ones(1, 3, 64, 64))
    assert torch.isfinite(out).all()
    assert out.abs().min() > 1e-30


def test_statistics() -> None:
    times = [10.0, 10.0, 11.0, 12.0, 30.0]
    assert measure.quartiles(times).tolist() == [10.0, 11.0, 12.0]
    assert measure.spread(times) == 2 / 11
    # 30 is more than 1.5 * 2 above 12.
    assert measure.outliers(times) == 1 / 5


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_a_table_is_measured_and_resumed(runtime: str, tmp_path: Path) -> None:
    setting = replace(QUICK, runtime=runtime)
    campaign.measure(CODES[:2], setting, tmp_path, count=0)
    first = {p: p.stat().st_mtime_ns for p in tmp_path.glob("parts/cpu/*/*.json")}
    path = campaign.measure(CODES, setting, tmp_path, count=1 if runtime == "torch" else 0)
    assert path == tmp_path / "costs" / "cpu.parquet"
    after = {p: p.stat().st_mtime_ns for p in tmp_path.glob("parts/cpu/*/*.json")}
    assert first.items() < after.items()
    assert len(after) == len(first) + 1
    table = measured.read(path)
    assert table.here
    assert table.runtimes == (runtime,)
    assert sorted(map(tuple, table.codes.tolist())) == sorted(map(tuple, CODES.tolist()))
    assert (table.columns["repeats"] >= setting.repeat).all()
    low, middle, high = (table.columns[f"latency{part}_ms"] for part in ("_q1", "", "_q3"))
    assert ((low > 0) & (low <= middle) & (middle <= high)).all()
    assert {"name", "torch", "python", "system", "clock", "dates", "reference_ms"} <= table.about.keys()
    # Unknown where a small network reused pages that another one left.
    assert not (table.columns["memory_mb"] <= 0).any()


Call = tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor, torch.Tensor]


@pytest.fixture
def compiled_calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Collect what is compiled, with each call's input and result."""
    found: list[Call] = []
    real = torch.compile

    def watched(function: Callable[[torch.Tensor], torch.Tensor], **options: Any) -> Any:
        code = real(function, **options)

        def run(x: torch.Tensor) -> torch.Tensor:
            result = code(x)
            found.append((function, x, result))
            return result

        return run

    monkeypatch.setattr(torch, "compile", watched)
    return found


def test_code_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled_calls: list[Call]
) -> None:
    """With torch's own compiler, which takes half a minute for a whole network: here for a unit of one."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    RUNTIMES["compile"](ResidualUnit(8).eval(), torch.rand(1, 8, 8, 8), 1)()
    # Once to compile, once as asked.
    assert len(compiled_calls) == 2
    for function, x, result in compiled_calls:
        assert torch.allclose(result, function(x), rtol=1e-4)
    assert any(tmp_path.rglob("*.so"))


def test_compiled_networks_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled_calls: list[Call]
) -> None:
    """Whole networks are traced, and no code is generated; the reference is the code itself."""
    monkeypatch.setattr(measure, "REFERENCE", tuple(CODES[0].tolist()))
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    path = campaign.measure(CODES[:1], replace(QUICK, runtime="compile"), tmp_path, count=0)
    # Two networks, the reference and the code: run twice to prepare, three times or more in each round.
    assert len(compiled_calls) >= 2 * (2 + 2 * 3)
    function, x, result = compiled_calls[-1]
    assert torch.allclose(result, function(x), rtol=1e-4)
    table = measured.read(path)
    assert table.runtimes == ("compile",)
    assert (table.columns["latency_ms"] > 0).all()


def test_every_network_of_a_group_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """More networks than torch keeps compiled for one piece of Python code."""
    compiled: list[int] = []

    def backend(graph: Any, example: Any) -> Any:
        compiled.append(len(example))
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    x = torch.rand(1, 3, 8, 8)
    runs = [RUNTIMES["compile"](torch.nn.Conv2d(3, 8 * k, 1), x, 1) for k in range(1, 11)]
    for run in runs + runs[::-1]:
        run()
    assert len(compiled) == 10


def test_what_cannot_be_compiled_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch._dynamo.graph_break()
            return x

    with pytest.raises(DeviceError, match=r"torch\.compile failed for cpu: .*graph_break") as failed:
        RUNTIMES["compile"](Net(), torch.zeros(1), 1)
    assert "g++" not in str(failed.value)
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with pytest.raises(DeviceError, match=r"No working C\+\+ compiler .* Install g\+\+, or name one in CXX"):
        RUNTIMES["compile"](torch.nn.Conv2d(3, 8, 1), torch.zeros(1, 3, 8, 8), 1)


def test_two_runtimes_share_a_table_and_settings_do_not(tmp_path: Path) -> None:
    for runtime in ("torch", "onnx"):
        path = campaign.measure(CODES[:1], replace(QUICK, runtime=runtime), tmp_path, count=0)
    assert measured.read(path).runtimes == ("torch", "onnx")
    with pytest.raises(InvalidArgumentError, match="was measured with batch 1, this run has 2"):
        campaign.measure(CODES, replace(QUICK, batch=2), tmp_path)
    campaign.measure(CODES[:1], replace(QUICK, batch=2), tmp_path, label="cpu-batch2", count=0)
    say(tmp_path, "torch", name="Z80")
    with pytest.raises(DeviceError, match="'Z80'"):
        campaign.measure(CODES, QUICK, tmp_path)


def say(out: Path, runtime: str, **about: str) -> None:
    """Let the first part of a runtime say something else of how it was measured."""
    part = next(out.glob(f"parts/cpu/{runtime}/*.json"))
    data = json.loads(part.read_text())
    data["about"] |= about
    part.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("name", "error"),
    [("torch", InvalidArgumentError), ("onnxruntime", InvalidArgumentError), ("cpu", DeviceError)],
)
def test_versions_and_processors_are_not_mixed(name: str, error: type[Exception], tmp_path: Path) -> None:
    for runtime in ("torch", "onnx"):
        campaign.measure(CODES[:1], replace(QUICK, runtime=runtime), tmp_path, count=0)
    say(tmp_path, "onnx", **{name: "0.1"})
    with pytest.raises(error, match=f"was measured with {name} '0.1', .* not mixed"):
        campaign.measure(CODES, replace(QUICK, runtime="onnx"), tmp_path, count=0)


def group(*times: list[float]) -> Group:
    rows = [{"code": CODES[0].tolist(), "times_ms": each, "memory": None, "energy": None} for each in times]
    return Group(rows, 1.0, {}, 1.0)


def test_a_busy_device_is_refused() -> None:
    calm, busy = [10.0, 10.1, 10.2, 10.3], [10.0, 14.0, 19.0, 25.0]
    setting = Setting(max_spread=0.2)
    measure.check_calm([group(calm, calm, busy)], setting)
    with pytest.raises(DeviceError, match=r"busy or throttles.*expected at most 20%"):
        measure.check_calm([group(busy, busy), group(calm)], setting)


def test_a_device_that_slows_down_is_refused() -> None:
    steady = [10.0] * 4
    groups = [group(steady)] * 3
    setting = Setting(max_spread=0.2)
    measure.check_calm([replace(g, reference=1.1) for g in groups], setting, first=1.0)
    with pytest.raises(DeviceError, match=r"reference network takes 1.50 ms.*1.00 ms"):
        measure.check_calm([replace(g, reference=1.5) for g in groups], setting, first=1.0)


class Device:
    """A device whose times are those that a test sets; `visited` counts the codes measured."""

    def __init__(self) -> None:
        self.times: list[float] = CALM
        self.reference, self.visited, self.busy_after = 10.0, 0, 10**6

    def measurer(self, setting: Setting) -> Callable[[Sequence[space.Code]], Group]:
        about = setting.describe()

        def measure(codes: Sequence[space.Code]) -> Group:
            times = BUSY if self.visited >= self.busy_after else self.times
            self.visited += len(codes)
            rows = [{"code": list(c), "times_ms": times, "memory": None, "energy": None} for c in codes]
            return Group(rows, self.reference, about, 1.0)

        return measure


#: Repeats whose quartiles are equal; and 13, 16.5 and 20.5: they lie apart by 0.45 of the median.
CALM, BUSY = [10.0] * 4, [10.0, 14.0, 19.0, 25.0]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    monkeypatch.setattr(measure, "measurer", made.measurer)
    return made


def test_few_codes_of_a_busy_device_are_refused_each_time(device: Device, tmp_path: Path) -> None:
    device.times = BUSY
    for _ in range(2):
        with pytest.raises(DeviceError, match="half of the last 3 codes spread by 45%; expected at most 20%"):
            campaign.measure(CODES, Setting(), tmp_path, count=0)
        assert not list(tmp_path.rglob("*.json"))
    device.times = CALM
    table = measured.read(campaign.measure(CODES, Setting(), tmp_path, count=0))
    assert device.visited == 9
    assert table.lookup(CODES, "latency_ms").tolist() == [10.0] * 3


def test_what_told_that_the_device_is_busy_is_measured_anew(device: Device, tmp_path: Path) -> None:
    codes = space.sample(48, seed=0)
    device.busy_after = 32
    # With the sixth group half of the last four groups' codes spread.
    with pytest.raises(DeviceError, match="half of the last 32 codes"):
        campaign.measure(codes, Setting(), tmp_path, count=0)
    assert (device.visited, len(list(tmp_path.rglob("*.json")))) == (48, 2)
    device.busy_after = 10**6
    table = measured.read(campaign.measure(codes, Setting(), tmp_path, count=0))
    assert device.visited == 48 + 32
    assert table.lookup(codes, "latency_ms").tolist() == [10.0] * 48


def test_a_resumed_run_is_compared_with_what_is_kept(device: Device, tmp_path: Path) -> None:
    campaign.measure(CODES[:1], Setting(), tmp_path, count=0)
    kept = list(tmp_path.rglob("*.json"))
    device.reference = 15.0
    for _ in range(2):
        with pytest.raises(DeviceError, match=r"takes 15.00 ms, and took 10.00 ms before \(\+50%\)"):
            campaign.measure(CODES, Setting(), tmp_path, count=0)
        assert list(tmp_path.rglob("*.json")) == kept
    device.reference = 11.0
    campaign.measure(CODES, Setting(), tmp_path, count=0)
    assert len(list(tmp_path.rglob("*.json"))) == 2


def test_the_check_refuses_a_busy_device(device: Device, tmp_path: Path) -> None:
    campaign.measure(CODES, Setting(), tmp_path, count=0)
    release.create(lambda to: shutil.copytree(tmp_path / "costs", to / "costs"), "mine", "1.0.0", [])
    cost = nasbench_mr.load().cost("latency_ms@cpu@mine")
    assert campaign.recheck(cost, count=0)["ratio"] == 1
    device.times = BUSY
    with pytest.raises(DeviceError, match="half of the last 3 codes"):
        campaign.recheck(cost, count=0)
    assert campaign.recheck(cost, count=0, max_spread=0.5)["ratio"] == 1.65
    device.times, device.reference = CALM, 15.0
    with pytest.raises(DeviceError, match=r"takes 15\.00 ms"):
        campaign.remeasure(CODES[:1], cost, count=0)


def test_a_clock_that_tells_nothing_is_refused(device: Device, tmp_path: Path) -> None:
    device.times = [0.0] * 4
    with pytest.raises(DeviceError, match="the clock 'wall' of this machine can't tell"):
        campaign.measure(CODES, replace(QUICK, clock="wall"), tmp_path, count=0)


def test_processes_that_wait_for_each_other_are_refused(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 2)
    told = (
        "wait for each other: 2 of threads=2 on 2 cores, and clock is 'wall'; give fewer workers or threads"
    )
    with pytest.raises(InvalidArgumentError, match=told):
        campaign.measure(CODES, replace(Setting(), threads=2), tmp_path, count=2)
    campaign.measure(CODES, replace(Setting(), threads=2), tmp_path, count=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("times_ms", [0.0]), ("times_ms", [1e-50]), ("times_ms", [1e39]), ("memory", 0), ("energy", 0.0)],
)
def test_parts_hold_what_a_table_takes(name: str, value: Any, device: Device, tmp_path: Path) -> None:
    campaign.measure(CODES[:1], Setting(), tmp_path, count=0)
    (part,) = tmp_path.rglob("*.json")
    data = json.loads(part.read_text())
    data["rows"][0][name] = value
    part.write_text(json.dumps(data))
    with pytest.raises(
        InvalidArgumentError,
        match=f"{part.name} is not a group of measurements .* expected a number from 1e-09",
    ):
        campaign.measure(CODES[:1], Setting(), tmp_path, count=0)


def test_the_check_measures_a_sample_again(tmp_path: Path) -> None:
    campaign.measure(CODES, QUICK, tmp_path, count=0)
    release.create(lambda to: shutil.copytree(tmp_path / "costs", to / "costs"), "mine", "1.0.0", [])
    cost = nasbench_mr.load().cost("latency_ms@cpu")
    assert campaign.setting_of(cost) == QUICK
    found = campaign.recheck(cost, sample=2, count=0)
    assert found["codes"] == 2
    assert -1 <= found["rank"] <= 1
    assert found["ratio"] > 0
    with pytest.raises(InvalidArgumentError, match="can't be measured alone"):
        campaign.remeasure(CODES, nasbench_mr.load().cost("memory_mb@cpu"))
    cost.table.about["torch"] = "0.1"
    with pytest.warns(MeasuredElsewhereWarning, match=r"measured with torch '0.1', this machine has torch"):
        campaign.setting_of(cost)
    cost.table.about["name"] = "Z80"
    with pytest.raises(DeviceError, match="'Z80'"):
        campaign.recheck(cost)
    # As of the tables made before it was recorded.
    del cost.table.about["max_spread"]
    cost.table.about["name"] = measured.this_machine()["name"]
    del cost.table.about["torch"], cost.table.about["cpu"]
    assert campaign.setting_of(cost) == replace(QUICK, max_spread=0.2)


def test_devices_and_settings_are_checked() -> None:
    for name in ("gpu", "cpu:1", "cuda:x"):
        with pytest.raises(DeviceError, match="expected cpu, cuda or cuda:NUMBER"):
            open_device(name)
    with pytest.raises(DeviceError, match="this machine has"):
        open_device("cuda:99")
    with pytest.raises(DeviceError, match=r"threads is 1000000, and this machine has \d+ cores"):
        Setting(threads=10**6).describe()
    with pytest.raises(UnknownNameError, match="did you mean 'torch'"):
        Setting(runtime="tors")
    for wrong in ({"batch": 0}, {"size": 16}, {"repeat": 1}, {"clock": "sun"}, {"max_spread": 0.0}):
        with pytest.raises(InvalidArgumentError):
            Setting(**wrong)
    with pytest.raises(InvalidArgumentError, match="one thread on a CPU"):
        Setting(clock="cpu", threads=2)
    assert set(RUNTIMES) == {"torch", "compile", "onnx"}


def test_energy_of_a_machine_that_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, microjoules in (("intel-rapl:0", 3_000_000), ("intel-rapl:1", 500_000), ("intel-rapl:0:0", 9)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{microjoules}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("4000000\n")
    monkeypatch.setattr(meters, "_RAPL", tmp_path)
    # Packages count, and not their parts.
    meter = meters.energy(torch.device("cpu"))
    assert meter() == 3.5
    # One million to the end of the first counter's range, and half a million from its start.
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("500000\n")
    assert meter() == 3.5 + 1.5
    monkeypatch.setattr(meters, "_RAPL", tmp_path / "none")
    assert meters.energy(torch.device("cpu"))() is None


def test_energy_of_a_gpu_is_that_of_its_own_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML counts millijoules; the device is found by its UUID, as CUDA may number GPUs in another order."""
    counts = {"GPU-aa": 7_000, "GPU-bb": 1_500}

    def of(handle: str) -> int:
        if handle not in counts:
            raise RuntimeError("not supported")
        return counts[handle]

    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=of,
    )
    # Names of NVIDIA's own package, which finds no driver here.
    assert vars(nvml).keys() < vars(pynvml).keys()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    uuids = ("bb", "aa", "old")
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=uuids[device.index])
    )
    meter = meters.energy(torch.device("cuda", 0))
    assert meter() == 1.5
    counts["GPU-bb"] += 250
    assert meter() == 1.75
    assert meters.energy(torch.device("cuda", 1))() == 7.0
    assert meters.energy(torch.device("cuda", 2))() is None  # a GPU that does not tell
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert meters.energy(torch.device("cuda", 0))() is None  # not installed


def test_energy_is_unknown_where_the_meter_does_not_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "energy", lambda device: lambda: 5.0)
    table = measured.read(campaign.measure(CODES[:1], QUICK, tmp_path, count=0))
    assert np.isnan(table.lookup(CODES[:1], "energy_mj")).all()
    assert (table.lookup(CODES[:1], "latency_ms") > 0).all()


def test_memory_is_at_least_what_is_allocated() -> None:
    if not os.path.exists("/proc/self/clear_refs"):
        pytest.skip("only Linux tells")
    peak = meters.Peak(torch.device("cpu"))
    kept = torch.ones(8 << 20)  # 32 MiB
    assert 0.9 * 32 * 2**20 < (peak.read() or 0) < 2 * 32 * 2**20
    assert kept[0] == 1


def test_memory_is_unknown_where_pages_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table refuses costs of 0, so one of a network that took no new page could not be read."""
    monkeypatch.setattr(meters, "_resident", lambda field: 1 << 20)
    assert meters.Peak(torch.device("cpu")).read() is None
    # And on a GPU, of what PyTorch does not allocate.
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    for taken in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, taken, lambda device: 1 << 20)
    assert meters.Peak(torch.device("cuda")).read() is None


def test_times_of_a_shared_machine_are_steadied_by_the_reference(tmp_path: Path) -> None:
    about = {"clock": "cpu", **dict.fromkeys(("batch", "threads"), 1), "size": 32, "runtime": "torch"}
    for name, reference, ms in (("a", 10.0, 4.0), ("b", 20.0, 8.0), ("c", 10.0, 6.0)):
        row = {
            "code": CODES["abc".index(name)].tolist(),
            "times_ms": [ms] * 4,
            "memory": None,
            "energy": None,
        }
        part = {"rows": [row], "reference": reference, "about": about, "seconds": 1.0, "date": "2026-01-01"}
        path = tmp_path / "parts" / "cpu" / "torch" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(part))
    table = measured.read(campaign.write_table(tmp_path, "cpu"))
    # The second group ran at half the speed of the others.
    assert table.lookup(CODES, "latency_ms").tolist() == [4.0, 4.0, 6.0]
