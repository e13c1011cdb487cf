"""What the predictors read: a hand-worked code, and the same numbers from NumPy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nasbench_mr import features, nasbench201, space


def test_a_code_worked_by_hand() -> None:
    # Every b and n 2, every channel 64: each of the ten branches has depth 4 and 4 * 64^2 = 2^14 weights.
    code = np.where(np.isin(np.arange(27), space.DEPTH_DIMS), 2, 64).astype(np.int16)
    row = features.of_codes(code[None], space)[0]
    assert row.shape == (66,)
    assert (row[:14] == 2).all()
    integers = np.where(code == 2, 1.0, 6.0)
    assert row[14:41] == pytest.approx(integers)
    assert row[41:51] == pytest.approx([2.0] * 10)
    # Stages have 1, 2, 3 and 4 branches; the highest resolution is in all four, the lowest in one.
    assert row[51:55] == pytest.approx(np.log2([16, 12, 8, 4]))
    # A branch at a quarter of the pixels has a quarter of the work.
    by_stage = [1, 1 + 1 / 4, 1 + 1 / 4 + 1 / 16, 1 + 1 / 4 + 1 / 16 + 1 / 64]
    assert row[55:59] == pytest.approx(14 + np.log2(by_stage))
    by_resolution = [4, 3 / 4, 2 / 16, 1 / 64]
    assert row[59:63] == pytest.approx(14 + np.log2(by_resolution))
    assert row[63:66] == pytest.approx([np.log2(40), 14 + np.log2(sum(by_stage)), 14 + np.log2(10)])


def test_a_cell_worked_by_hand() -> None:
    # Edges 01, 02, 12, 03, 13, 23; operations: 0 pooling, 1 none, 2 skip, 3 and 4 convolutions.
    row = features.of_codes(np.array([[4, 1, 3, 2, 0, 4]], np.int16), nasbench201)[0]
    assert row.shape == (59,)
    assert np.flatnonzero(row[:30]).tolist() == [4, 6, 13, 17, 20, 29]
    assert row[30:35].tolist() == [1, 1, 1, 1, 2]
    paths = row[35:].reshape(4, 6)
    assert paths[0].tolist() == [1, 0, 0, 1, 0, 0]  # 03: a skip
    assert paths[1].tolist() == [1, 1, 0, 0, 0, 1]  # 01, 13: a convolution, a pooling
    assert paths[2].tolist() == [0] * 6  # 02, 23: closed by 02
    assert paths[3].tolist() == [1, 0, 0, 0, 1, 2]  # 01, 12, 23: three convolutions


@pytest.mark.parametrize("space", [space, nasbench201], ids=lambda s: str(s.NAME))
def test_torch_computes_what_numpy_does(space: features.Space) -> None:
    codes = space.sample(50, 0)
    expected = features.of_codes(codes, space)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        found = features.of_tensor(torch.tensor(space.relax(codes), dtype=dtype), space)
        assert found.dtype == dtype
        assert found.numpy() == pytest.approx(expected, rel=tolerance, abs=tolerance)


def test_points_outside_the_box_have_finite_features_and_gradients() -> None:
    x = torch.tensor(space.relax(space.LOWER)) - 40
    x.requires_grad_()
    found = features.of_tensor(x, space)
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert torch.isfinite(found).all()
    assert torch.isfinite(slope).all()
