"""Features of codes that carry the networks' structure: what the predictors read instead of raw integers.

One formula serves NumPy (`of_codes`: predictors without gradients, and the surrogates, which load no torch)
and torch (`of_tensor`: differentiable in a relaxed code). For the multi-resolution space they are logarithms
of channels, depths, and the products and sums of both that a network's capacity and cost consist of: metrics
follow ratios, not differences. For NAS-Bench-201 they describe the cell's paths from input to output. A space
of one's own has features by kind of dimension (`grid.Grid.features`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr import nasbench201
from nasbench_mr import space as multi_resolution
from nasbench_mr.arrays import ByValue, Codes, Floats
from nasbench_mr.spaces import Space, Spacious

if TYPE_CHECKING:
    import torch


def of_codes(codes: npt.NDArray[np.int16], space: Space) -> Floats:
    """Turn `(n, DIM)` checked codes into `(n, F)` features."""
    x = space.relax(codes)
    if (own := getattr(space, "features", None)) is not None:
        return np.asarray(own(x, np))
    return np.asarray(_FORMULAS[space.NAME](x, np, _CONSTANTS[space.NAME]()))


def of_tensor(x: torch.Tensor, space: Space) -> torch.Tensor:
    """Turn `(n, R)` relaxed codes into `(n, F)` features, in the input's dtype and on its device."""
    import torch

    if (own := getattr(space, "features", None)) is not None:
        found: torch.Tensor = own(x, torch)
        return found
    features: torch.Tensor = _FORMULAS[space.NAME](x, torch, _tensors(space.NAME, x.dtype, x.device))
    return features


@dataclass(frozen=True, eq=False)
class Linear(ByValue, Spacious):
    """A linear function of the features of codes, 0 at their mean.

    Attributes:
        space: of the codes.
        centre, slope: `(F,)`, of the features.
    """

    space: Space
    centre: Floats
    slope: Floats

    @classmethod
    def of(cls, codes: Codes, values: Floats, space: Space, penalty: float) -> Linear:
        """Return the one nearest to `(n,)` values, less their mean, by ridge regression.

        Args:
            codes: `(n, DIM)`.
            penalty: of the regression, in codes.
        """
        x, centre, scale = _standardised(codes, space)
        matrix = x.T @ x + penalty * np.eye(x.shape[1])
        return cls(space, centre, np.linalg.solve(matrix, x.T @ (values - values.mean())) / scale)

    def __call__(self, codes: Codes) -> Floats:
        """Return the values of `(n, DIM)` codes: `(n,)`."""
        return np.asarray((of_codes(codes, self.space) - self.centre) @ self.slope)

    def tensor(self, x: torch.Tensor) -> torch.Tensor:
        """Return the values of `(n, R)` relaxed codes, differentiable: `(n,)`."""
        import torch

        centre, slope = (torch.from_numpy(a).to(x) for a in (self.centre, self.slope))
        value: torch.Tensor = (of_tensor(x, self.space) - centre) @ slope
        return value


def leverages(codes: Codes, space: Space, penalty: float) -> Floats:
    """Return how much the value of each of `(n, DIM)` codes counts in its own `Linear` fit, mean included.

    `(n,)`, the diagonal of the hat matrix: a residual over 1 less this is that of a fit without the code.
    """
    x, _, _ = _standardised(codes, space)
    matrix = x.T @ x + penalty * np.eye(x.shape[1])
    return np.asarray(1 / len(x) + (x * np.linalg.solve(matrix, x.T).T).sum(axis=1))


def _standardised(codes: Codes, space: Space) -> tuple[Floats, Floats, Floats]:
    """Return the features of codes, less their mean and over their scale; these two, `(F,)` each."""
    inputs = of_codes(codes, space)
    centre, scale = inputs.mean(axis=0), inputs.std(axis=0)
    scale[scale == 0] = 1.0
    return (inputs - centre) / scale, centre, scale


def _multi_resolution(x: Any, xp: Any, k: dict[str, Any]) -> Any:
    """66 features of a code: its depths as they are (14), and the logarithms of its 27 integers, of the
    branches' depths (10), depth by resolution (4) and in total (1), convolution work by stage (4), by
    resolution (4) and in total (1), and convolution weights (1).
    """
    # Steps of a search may leave the box; half its smallest values keep the logarithms finite.
    x = xp.maximum(x, k["floor"])
    depth = x[:, k["b"]] * x[:, k["n"]]  # (n, 10), residual units of each branch
    weights = depth * x[:, k["c"]] ** 2
    work = weights * k["pixels"]
    # A product with a constant matrix sums over branches.
    sums = [depth @ k["by_resolution"], work @ k["by_stage"], work @ k["by_resolution"]]
    totals = [depth @ k["all"], work @ k["all"], weights @ k["all"]]
    logarithms = xp.log2(xp.concatenate([x, depth, *sums, *totals], 1))
    return xp.concatenate([x[:, k["depths"]], logarithms], 1)


@functools.cache
def _multi_resolution_constants() -> dict[str, Any]:
    stages = multi_resolution.STAGES
    branches = [(s, r) for s, stage in enumerate(stages) for r in range(len(stage.n))]
    return {
        "floor": multi_resolution.LOWER / 2.0,
        "depths": np.array(multi_resolution.DEPTH_DIMS),
        "b": np.array([stages[s].b for s, _ in branches]),
        "n": np.array([stages[s].n[r] for s, r in branches]),
        "c": np.array([stages[s].c[r] for s, r in branches]),
        # Branch r works on a quarter of the pixels of branch r - 1.
        "pixels": np.array([0.25**r for _, r in branches]),
        "by_stage": np.array([np.eye(4)[s] for s, _ in branches]),
        "by_resolution": np.array([np.eye(4)[r] for _, r in branches]),
        "all": np.ones((len(branches), 1)),
    }


def _nasbench201(x: Any, xp: Any, k: dict[str, Any]) -> Any:
    """59 features of a cell: the operations' one-hot (30) and counts (5), and of its four paths from input to
    output whether each is open (no edge on it is "none") and how many of its edges are each operation, if
    it is.
    """
    edges = x.reshape(-1, nasbench201.DIM, len(nasbench201.OPERATIONS))
    features = [x, edges.sum(1)]
    for path in _PATHS:
        on_path = edges[:, path]  # (n, edges of the path, 5)
        is_open = xp.prod(1 - on_path[:, :, _NONE], 1)[:, None]
        features += [is_open, is_open * on_path.sum(1)]
    return xp.concatenate(features, 1)


_NONE = nasbench201.OPERATIONS.index("none")
#: The edges (indices into `nasbench201.EDGES`) of every path from node 0 to node 3.
_PATHS = ([3], [0, 4], [1, 5], [0, 2, 5])

_FORMULAS = {multi_resolution.NAME: _multi_resolution, nasbench201.NAME: _nasbench201}
_CONSTANTS: dict[str, Callable[[], dict[str, Any]]] = {
    multi_resolution.NAME: _multi_resolution_constants,
    nasbench201.NAME: dict,
}


@functools.lru_cache(maxsize=8)
def _tensors(name: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Return the constants as tensors: indices as they are, factors in the input's dtype."""
    import torch

    return {
        key: torch.as_tensor(value, dtype=dtype if value.dtype.kind == "f" else None, device=device)
        for key, value in _CONSTANTS[name]().items()
    }
