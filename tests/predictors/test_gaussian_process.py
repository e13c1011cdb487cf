"""The Gaussian process against the textbook, and as the search `ncp` refits it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nasbench_mr import cost, features, nasbench201, space
from nasbench_mr.predictors.gaussian_process import GaussianProcess


def test_it_interpolates_and_knows_what_it_does_not_know() -> None:
    codes = space.sample(60, seed=0)
    values = np.log(cost.macs(codes))
    mean, std = GaussianProcess(latent=True).fit(codes[:40], values[:40]).predict(codes)
    assert np.abs(mean[:40, 0] - values[:40]).max() < 0.25 * values.std()
    assert np.corrcoef(mean[40:, 0], values[40:])[0, 1] > 0.9
    assert std[:40].max() < std[40:].mean()


@pytest.mark.parametrize("latent", [True, False])
def test_it_is_gaussian_conditioning(latent: bool) -> None:
    """Mean and variance as the textbook has them, for the kernel that it has chosen."""
    codes, others = space.sample(15, seed=0), space.sample(4, seed=1)
    values = codes[:, 0] + 0.1 * codes[:, 4].astype(float)
    model = GaussianProcess(latent=latent).fit(codes, values)
    ((scale, share, noise),) = model.kernels

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        r = np.sqrt(5 * ((a[:, None] - b) ** 2).sum(-1)) / scale
        return (1 + r + r**2 / 3) * np.exp(-r) + share * a @ b.T

    raw = features.of_codes(codes, space)
    spread = raw.std(0)
    spread[spread < 1e-9] = 1
    x, z = (
        (features.of_codes(c, space) - raw.mean(0)) / spread / np.sqrt(raw.shape[1]) for c in (codes, others)
    )
    y = (values - values.mean()) / values.std()
    inner = np.linalg.inv(kernel(x, x) + noise * np.eye(15))
    factor = y @ inner @ y / 15
    variance = factor * np.diag(kernel(z, z) - kernel(z, x) @ inner @ kernel(x, z))
    if not latent:
        variance = variance + factor * noise
    mean, std = model.predict(others)
    assert mean[:, 0] == pytest.approx(kernel(z, x) @ inner @ y * values.std() + values.mean(), rel=1e-6)
    assert std[:, 0] == pytest.approx(np.sqrt(variance) * values.std(), rel=1e-4)


@pytest.mark.parametrize("where", [space, nasbench201])
def test_it_has_true_gradients(where: Any) -> None:
    codes = where.sample(30, seed=0)
    model = GaussianProcess(space=where).fit(codes, codes.sum(axis=1) / 10.0 + np.sin(codes[:, 1]))
    x = torch.from_numpy(where.relax(where.sample(3, seed=1)) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: torch.cat(model.tensor(t), 1), (x,), eps=1e-5, atol=1e-4)


def test_noise_is_found_in_noisy_values_and_not_in_others() -> None:
    codes = space.sample(200, seed=0)
    size = np.log(cost.macs(codes))
    noise = np.random.default_rng(0).normal(0, size.std(), 200)
    (quiet,), (noisy,) = (GaussianProcess().fit(codes, y).kernels for y in (size, size + noise))
    # As much noise as signal is one part in two; a smooth function is given the least noise there is.
    assert quiet[2] == 0.03
    assert noisy[2] >= 0.3


def test_conditioning_anew_keeps_the_kernel_and_takes_the_values() -> None:
    codes = space.sample(60, seed=0)
    size = np.log(cost.macs(codes))
    model = GaussianProcess().fit(codes[:30], size[:30], ["size"])
    before = model.kernels
    model.condition(codes, -size)
    assert (model.kernels, model.names) == (before, ("size",))
    assert np.corrcoef(model.predict(codes)[0][:, 0], -size)[0, 1] > 0.99
    model.fit(codes, size)
    assert model.names == ("y0",)


def test_a_large_table_is_cut_at_random() -> None:
    codes = space.sample(50, seed=0)
    model = GaussianProcess(seed=1, kernel_codes=10, max_codes=20).fit(codes, codes.sum(axis=1))
    assert len(model.columns[0].x) == 20
