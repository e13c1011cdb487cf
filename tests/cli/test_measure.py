"""`nasbench-mr measure`, and costs as limits on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nasbench_mr import measured, release

pytest.importorskip("torch")
SMALL = "8 8 1 1 8 1 1 1 8 8 1 1 1 1 8 8 8 1 1 1 1 1 8 8 8 8"
QUICK = ("--workers", "0", "--size", "32", "--clock", "cpu", "--max-spread", "100")


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    path = tmp_path / "codes.txt"
    path.write_text(f"{SMALL} 8\n{SMALL} 16\n")
    return path


def test_measure_install_and_limit(
    run: Callable[..., Any], read: Callable[..., Any], codes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    status, shown, _ = run("measure", "--codes", codes, "--out", out, *QUICK, "--install", "mine@1.0.0")
    assert status == 0
    assert "torch        2" in shown
    assert "mine@1.0.0 in " in shown
    table = measured.read(release.find("mine") / "costs" / "cpu.parquet")
    assert len(table.codes) == 2
    answer = json.loads(run("query", f"{SMALL} 8", "latency_ms@cpu@mine", "--json")[1])
    assert answer[0]["values"]["latency_ms"] == table.lookup(table.codes[:1], "latency_ms")[0]
    # Of mini's codes only these were measured, if any.
    status, shown, err = run("best", "mini-seg", "--limit", "latency_ms@cpu@mine=1e6", "--json")
    if status == 0:
        assert {tuple(row["code"]) for row in json.loads(shown)} <= set(map(tuple, table.codes.tolist()))
    else:
        assert "latency_ms@cpu@mine (the table has none)" in err
    found = read("measure", "--check", "latency_ms@cpu@mine", "--workers", "0")
    assert found["codes"] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "measure needs --out DIR"),
        (("--out", "out"), "measure needs --codes FILE or --release NAME"),
        (("--out", "out", "--release", "mini", "--device", "tpu"), "device is 'tpu'; expected cpu, cuda"),
        (("--out", "out", "--release", "mini", "--runtime", "torch,tvm"), "no runtime 'tvm'"),
        (("--out", "out", "--release", "mini", "--install", "mine"), "expected NAME@VERSION"),
        (("--check", "latency_ms@cpu", "--out", "out"), "--out has no effect with --check"),
        (("--out", "out", "--release", "mini", "--sample", "3"), "--sample has no effect without --check"),
    ],
)
def test_mistakes(run: Callable[..., Any], arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    given = [str(tmp_path / a) if a == "out" else a for a in arguments]
    status, _, err = run("measure", *given)
    assert status == 2
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--device", "tpu"), "device is 'tpu'; expected cpu, cuda or cuda:NUMBER"),
        (("--device", "cuda:99"), "device is 'cuda:99', and this machine has"),
        (("--names", "naswoot"), "no zero-cost proxy 'naswoot': did you mean 'naswot'"),
        (("--batch", "1"), "batch is 1; expected an integer, at least 2"),
        (("--size", "8"), "size is 8; expected an integer, at least 32"),
    ],
)
def test_mistakes_about_proxies(
    run: Callable[..., Any], arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    status, _, err = run("proxies", "mini-cls", *arguments, "--workers", "0", "--out", tmp_path / "out")
    assert status == 2
    assert says in err
    assert err.count("\n") == 1


def test_a_device_that_is_busy_is_refused_when_it_is_checked(
    run: Callable[..., Any], codes: Path, tmp_path: Path
) -> None:
    options = ("--codes", codes, "--out", tmp_path / "out", *QUICK)
    assert run("measure", *options, "--install", "mine@1.0.0")[0] == 0
    check = ("measure", "--check", "latency_ms@cpu@mine", "--workers", "0", "--max-spread")
    status, _, err = run(*check, "1e-9")
    assert status == 2
    assert "the device is busy or throttles: " in err
    assert run(*check, "100")[0] == 0


def test_costs_of_another_machine_are_said_to_be(
    run: Callable[..., Any], codes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run("measure", "--codes", codes, "--out", out, *QUICK)[0] == 0
    table = measured.read(out / "costs" / "cpu.parquet")
    rows = [
        {"code": code.tolist(), "runtime": "torch", **{k: float(v[i]) for k, v in table.columns.items()}}
        for i, code in enumerate(table.codes)
    ]
    away = {**table.about, "name": "Z80"}
    release.create(lambda to: measured.write(to / "costs/phone.parquet", rows, away), "there", "1.0.0", [])
    status, _, err = run("query", f"{SMALL} 8", "latency_ms@phone")
    assert status == 0
    assert err.startswith("nasbench-mr: 'latency_ms@phone' was measured on another machine: Z80")
    assert err.count("\n") == 1
    assert run("query", f"{SMALL} 8", "latency_ms@phone@there")[2] == ""
