"""Measuring codes: graphs for the ONNX runtime, statistics, resuming, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import nasbench_mr
from nasbench_mr import measured, release, space
from nasbench_mr.data_builders.measuring import campaign, measure, meters
from nasbench_mr.data_builders.measuring.graphs import onnx_model
from nasbench_mr.data_builders.measuring.measure import Group, Setting
from nasbench_mr.data_builders.measuring.runtimes import RUNTIMES
from nasbench_mr.errors import DeviceError, InvalidArgumentError, UnknownNameError
from nasbench_mr.network import MultiResolutionNet
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


def test_two_runtimes_share_a_table_and_settings_do_not(tmp_path: Path) -> None:
    for runtime in ("torch", "onnx"):
        path = campaign.measure(CODES[:1], replace(QUICK, runtime=runtime), tmp_path, count=0)
    assert measured.read(path).runtimes == ("torch", "onnx")
    with pytest.raises(InvalidArgumentError, match="was measured with batch 1, this run has 2"):
        campaign.measure(CODES, replace(QUICK, batch=2), tmp_path)
    campaign.measure(CODES[:1], replace(QUICK, batch=2), tmp_path, label="cpu-batch2", count=0)
    part = next(tmp_path.glob("parts/cpu/torch/*.json"))
    data = json.loads(part.read_text())
    data["about"]["name"] = "Z80"
    part.write_text(json.dumps(data))
    with pytest.raises(DeviceError, match="'Z80'"):
        campaign.measure(CODES, QUICK, tmp_path)


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


def test_the_check_measures_a_sample_again(tmp_path: Path) -> None:
    campaign.measure(CODES, QUICK, tmp_path, count=0)
    release.create(lambda to: shutil.copytree(tmp_path / "costs", to / "costs"), "mine", "1.0.0", [])
    cost = nasbench_mr.load().cost("latency_ms@cpu")
    assert campaign.setting_of(cost) == replace(QUICK, max_spread=0.2)
    found = campaign.recheck(cost, sample=2, count=0)
    assert found["codes"] == 2
    assert -1 <= found["rank"] <= 1
    assert found["ratio"] > 0
    with pytest.raises(InvalidArgumentError, match="can't be measured alone"):
        campaign.remeasure(CODES, nasbench_mr.load().cost("memory_mb@cpu"))
    cost.table.about["name"] = "Z80"
    with pytest.raises(DeviceError, match="'Z80'"):
        campaign.recheck(cost)


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
    monkeypatch.setattr(meters, "_RAPL", tmp_path)
    # Packages count, and not their parts.
    assert meters.energy(torch.device("cpu"))() == 3.5
    monkeypatch.setattr(meters, "_RAPL", tmp_path / "none")
    assert meters.energy(torch.device("cpu"))() is None


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
