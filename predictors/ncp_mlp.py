"""`ncp-mlp`: the predictor published with NCP, to the letter. For comparisons and NCP's `preset="paper"`.

Ding et al., "Learning Versatile Neural Architectures by Propagating Network Codes", ICLR 2022, and its code:
BN(27) - Linear 256 - BN - swish - dropout 0.5, shared; then, for each group of metrics, Linear 128 - BN -
swish - dropout 0.5 (0 for the cost) - Linear. The groups: the main metric, the other metrics, MACs and
parameters. Inputs and outputs z-scored, smooth L1 (averaged over all of them), Adam at 1e-2 with weight decay
1e-7, one cycle (30% up from a tenth, momentum 0.85 to 0.95) over 200 epochs of batches of 128, on a random
80% of the data; the epoch with the least L1 error of the main metric on the other 20% is kept.

It knows one task, so several tasks are several models, fitted one after the other. Columns named "seg/mIoU",
"seg/mAcc" belong to one task, "seg": the first of them is its main metric, the rest its other metrics. Any
other column is a task by itself. Rows without the main metric are left out; other missing values do not
count in the loss. The cost group's targets are a code's exact MACs and parameters; on NAS-Bench-201, as
published, and where no formula tells them, that group is absent.
"""

from __future__ import annotations

import numpy as np

from nasbench_mr import cost, nasbench201
from nasbench_mr import space as multi_resolution
from nasbench_mr.arrays import Codes, Floats
from nasbench_mr.checks import at_least
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.extras import requires
from nasbench_mr.npz import State
from nasbench_mr.predictors.base import GradientPredictor, Scaler, share
from nasbench_mr.spaces import Space
from nasbench_mr.threads import torch_threads

with requires("search", "the predictor 'ncp-mlp'"):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn


class NcpMlp(GradientPredictor):
    """See the module.

    Args:
        seed, space: see `Predictor`.
        epochs: 200 in the paper.
        held_out: the share of the data that chooses the epoch, 0.2 in the paper. 0 trains on everything and
            keeps the last epoch.
    """

    def __init__(
        self, seed: int = 0, space: Space = multi_resolution, epochs: int = 200, held_out: float = 0.2
    ):
        super().__init__(seed, space)
        self.epochs, self.held_out = at_least(1, "epochs", epochs), share("held_out", held_out)
        #: One for each task, and the columns of `names` it predicts, its main metric first.
        self.models: list[TaskModel] = []
        self.columns: list[list[int]] = []

    @torch_threads()
    def _fit(self, codes: Codes, values: Floats) -> None:
        x = self.space.relax(codes)
        costs = _costs(codes, self.space)
        self.columns = _group(self.names)
        self.models = []
        for k, columns in enumerate(self.columns):
            rows = np.isfinite(values[:, columns[0]])
            for column in columns:
                if not np.isfinite(values[rows, column]).any():
                    raise InvalidArgumentError(
                        f"column {self.names[column]!r} has no value where {self.names[columns[0]]!r} has one"
                    )
            generator = torch.Generator().manual_seed((self.seed * 1009 + k) % 2**63)
            model = TaskModel(x.shape[1], len(columns), costs.shape[1], generator)
            model.train_on(
                x[rows],
                values[rows][:, columns],
                costs[rows],
                epochs=self.epochs,
                held_out=self.held_out,
                generator=generator,
            )
            self.models.append(model)

    def tensor(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `GradientPredictor`. The std is the same for all codes: the published model knows none of its
        own, so it is the root mean square error on the data that chose the epoch.
        """
        self._check_fitted()
        order = np.argsort(np.concatenate(self.columns))
        means, stds = [], []
        for model in self.models:
            metrics = model(model.standardise(x))[0]
            means.append(metrics * model.y_scale + model.y_mean)
            stds.append(model.error.expand(len(x), -1))
        return torch.cat(means, 1)[:, order].to(x.dtype), torch.cat(stds, 1)[:, order].to(x.dtype)

    def _state(self) -> State:
        return {
            f"{k}.{key}": tensor.numpy()
            for k, model in enumerate(self.models)
            for key, tensor in model.state_dict().items()
        }

    def _restore(self, state: State) -> None:
        self.columns = _group(self.names)
        self.models = []
        for k, columns in enumerate(self.columns):
            prefix = f"{k}."
            own = {
                key.removeprefix(prefix): torch.from_numpy(array)
                for key, array in state.items()
                if key.startswith(prefix)
            }
            model = TaskModel(len(own["x_mean"]), len(columns), len(own["cost_mean"]), torch.Generator())
            model.load_state_dict(own)
            model._settle()
            self.models.append(model)


class TaskModel(nn.Module):
    """The published network for one task. `forward` works in z-scores: those are what NCP edits.

    Attributes:
        x_mean, x_scale: of the codes; `standardise` applies them.
        y_mean, y_scale: of the metrics, the main one first. `error` is their error, in the metrics' units.
        cost_mean, cost_scale: of MACs and parameters, in that order.
    """

    x_mean: Tensor
    x_scale: Tensor
    y_mean: Tensor
    y_scale: Tensor
    cost_mean: Tensor
    cost_scale: Tensor
    error: Tensor

    def __init__(self, inputs: int, metrics: int, costs: int, generator: torch.Generator):
        super().__init__()
        self.norm = nn.BatchNorm1d(inputs)
        self.shared = _Block(inputs, 256, 0.5, generator)
        # Main metric, other metrics, costs; a group of nothing is left out.
        self.groups = nn.ModuleList(
            nn.Sequential(_Block(256, 128, dropout, generator), _linear(128, outputs, generator))
            for outputs, dropout in ((1, 0.5), (metrics - 1, 0.5), (costs, 0.0))
            if outputs
        )
        for name, size in (("x", inputs), ("y", metrics), ("cost", costs)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))
        self.register_buffer("error", torch.zeros(metrics))

    def standardise(self, x: Tensor) -> Tensor:
        """`(n, R)` relaxed codes to float32 z-scores."""
        return ((x - self.x_mean) / self.x_scale).float()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`(n, R)` z-scored codes to z-scored metrics `(n, m)` and costs `(n, 2)`."""
        h = self.shared(self.norm(z))
        out = torch.cat([group(h) for group in self.groups], 1)
        metrics = len(self.y_mean)
        return out[:, :metrics], out[:, metrics:]

    def _loss(self, z: Tensor, target: Tensor) -> Tensor:
        """Smooth L1, averaged over all known targets."""
        known = torch.isfinite(target)
        return F.smooth_l1_loss(torch.cat(self(z), 1)[known], target[known])

    def train_on(
        self,
        x: Floats,
        y: Floats,
        costs: Floats,
        *,
        epochs: int,
        held_out: float,
        generator: torch.Generator,
    ) -> None:
        """Fits the network; leaves it in evaluation mode, without gradients of its weights."""
        for name, data in (("x", x), ("y", y), ("cost", costs)):
            scaler = Scaler.of(data)
            getattr(self, f"{name}_mean").copy_(torch.from_numpy(scaler.mean))
            getattr(self, f"{name}_scale").copy_(torch.from_numpy(scaler.scale))
        inputs = self.standardise(torch.from_numpy(x))
        raw = torch.from_numpy(np.concatenate([y, costs], 1))
        mean, scale = torch.cat([self.y_mean, self.cost_mean]), torch.cat([self.y_scale, self.cost_scale])
        targets = ((raw - mean) / scale).float()

        order = torch.randperm(len(x), generator=generator)
        split = len(x) - round(len(x) * held_out)
        train, test = order[:split], order[split:]
        if len(test) == 0:
            test = train
        # Batch norm needs two rows: a last batch of one is left out.
        starts = [k for k in range(0, len(train), 128) if len(train) - k > 1]
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2, weight_decay=1e-7)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1e-2, total_steps=epochs * len(starts), pct_start=0.3, div_factor=10
        )
        best = np.inf
        for epoch in range(epochs):
            self.train()
            order = train[torch.randperm(len(train), generator=generator)]
            for k in starts:
                rows = order[k : k + 128]
                optimizer.zero_grad()
                torch.autograd.backward(self._loss(inputs[rows], targets[rows]))
                optimizer.step()
                schedule.step()
            self.eval()
            if held_out or epoch == epochs - 1:
                with torch.no_grad():
                    error = self(inputs[test])[0] - targets[test, : y.shape[1]]
                score = error[:, 0].abs().mean().item()
                if score < best:
                    best = score
                    self.error.copy_(error.square().nanmean(0).sqrt().nan_to_num(1.0) * self.y_scale)
                    kept = {key: value.clone() for key, value in self.state_dict().items()}
        self.load_state_dict(kept)
        self._settle()

    def _settle(self) -> None:
        """Leave training: evaluation, weights without gradients, and no generator, which no one can copy."""
        self.eval().requires_grad_(False)
        for module in self.modules():
            if isinstance(module, _Block):
                module.generator = None


class _Block(nn.Module):
    """Linear, batch norm, swish, dropout; with a random generator of its own."""

    def __init__(self, inputs: int, outputs: int, dropout: float, generator: torch.Generator):
        super().__init__()
        self.linear = _linear(inputs, outputs, generator)
        self.norm = nn.BatchNorm1d(outputs)
        self.dropout = dropout
        self.generator: torch.Generator | None = generator

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.norm(self.linear(x)))
        if self.training and self.dropout:
            keep = torch.rand(h.shape, generator=self.generator) >= self.dropout
            h = h * keep / (1 - self.dropout)
        return h


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """`nn.Linear` with its usual initialisation, drawn from `generator` instead of the process's."""
    linear = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        for parameter in (linear.weight, linear.bias):
            bound = inputs**-0.5
            parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * bound)
    return linear


def _group(names: tuple[str, ...]) -> list[list[int]]:
    """Return the columns of each task, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        groups.setdefault(name.partition("/")[0], []).append(k)
    return list(groups.values())


def _costs(codes: Codes, space: Space) -> Floats:
    exact = None if space.NAME == nasbench201.NAME else cost.of(space)
    if exact is None:
        return np.empty((len(codes), 0))
    return np.stack([exact.macs(codes), exact.params(codes)], axis=1).astype(np.float64)
