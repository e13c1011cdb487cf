"""Numbers do not depend on how many threads a machine has: what computes with torch takes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch

import nasbench_mr
from nasbench_mr import predictors, search, space
from nasbench_mr.threads import torch_threads

CODES = space.sample(40, seed=0)


@pytest.fixture
def three() -> Any:
    """Let torch take three threads unless it is told otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_threads_are_as_before_afterwards(three: None) -> None:
    def seen() -> int:
        return torch.get_num_threads()

    assert [torch_threads()(seen)(), torch_threads(2)(seen)(), seen()] == [1, 2, 3]
    with pytest.raises(ValueError, match="x"), torch_threads():
        raise ValueError("x")
    assert seen() == 3


def test_without_torch_nothing_happens() -> None:
    with mock.patch.dict("sys.modules", torch=None), torch_threads():
        pass


@pytest.mark.parametrize("name", ["ensemble", "ncp-mlp"])
def test_fitting_takes_one(name: str, three: None) -> None:
    values = CODES[:, :1] / 8.0
    assert threads_of(lambda: predictors.make(name, epochs=1).fit(CODES, values, names=("seg",))) == {1}
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("preset", [None, "paper"])
def test_ncp_takes_one(preset: str | None, three: None) -> None:
    bench = nasbench_mr.load("mini")
    codes = bench.codes("mini-seg")[:40]
    values = bench.query_many(codes, "mini-seg")["mIoU"][:, None]
    fitted = predictors.make("ncp-mlp", epochs=1).fit(codes, values, names=("mini-seg",))
    assert threads_of(lambda: search.ncp(fitted, {"mini-seg": 1.0}, steps=2, preset=preset)) == {1}


def threads_of(work: Callable[[], object]) -> set[int]:
    """Return with how many threads gradients were computed."""
    seen: list[int] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            seen.append(torch.get_num_threads())
            return function(*args, **options)

        return call

    autograd = torch.autograd
    patches = {name: counted(getattr(autograd, name)) for name in ("backward", "grad")}
    with mock.patch.multiple(autograd, **patches):
        work()
    return set(seen)
