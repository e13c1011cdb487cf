"""One trial: training the network of a code by a recipe, from data to metrics.

    result = train(code, "mini-cls", seed=0)
    result.metrics["top1"], result.curve["loss"], result.seconds

All randomness follows from the seed, the epoch and the sample, never from a global generator; a trial that
is killed and resumed from its checkpoint, or spread over processes by torchrun, gives the numbers of one
that was not. The pieces (`open_split`, `network`, `optimizer`, `schedule`, ...) are there to be used in other
loops. Needs the extra `build`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nasbench_mr import __version__, space, tasks, tensors, weights
from nasbench_mr.checks import seed as check_seed
from nasbench_mr.data_builders.detection.network import DetectionNet
from nasbench_mr.data_builders.training import checkpoints, recipes, splits
from nasbench_mr.data_builders.training.distributed import SyncBatchNorm
from nasbench_mr.data_builders.training.inputs import Share
from nasbench_mr.data_builders.training.optimization import optimizer, schedule, set_rate
from nasbench_mr.data_builders.training.pictures import Pictures
from nasbench_mr.data_builders.training.recipes import Recipe
from nasbench_mr.data_builders.training.scans import Scans, configure
from nasbench_mr.data_builders.training.splits import Folder
from nasbench_mr.data_builders.training.workload import Workload
from nasbench_mr.errors import InvalidArgumentError, RecipeError, did_you_mean
from nasbench_mr.network import ResidualUnit, build
from nasbench_mr.threads import torch_threads

#: An epoch whose mean loss is this many times the first batch's has diverged. A batch with nothing to find
#: has a loss of almost 0; for it counts the second, which losses begin far above (of two classes at 0.69).
EXPLODED, LEAST = 100.0, 0.1
#: Training steps from which on a GPU's convolutions are timed against each other first, for seconds.
LONG = 10_000
#: Threads of a trial on a CPU, whatever the machine has.
THREADS = 1
#: What is called after an epoch, with its point of the learning curve.
OnEpoch = Callable[[dict[str, float]], object]
#: Columns of a learning curve beside the metrics.
CURVE = ("epoch", "loss", "lr", "seconds")


@dataclass(frozen=True)
class TrainResult:
    """What one trial gave.

    Attributes:
        code, task, seed: the trial.
        metrics: of the network after the last epoch; NaN where it diverged.
        curve: `(epochs,)` arrays: `epoch` from 1, the metrics (NaN where the recipe does not evaluate), the
            mean training `loss`, the `lr` of the epoch's last step, `seconds` since the start.
        epochs: trained.
        seconds: of training, pretraining and evaluation, over all resumptions; without reading files.
        device: what it ran on.
        status: "ok" or "diverged".
        error: what diverged, else None.
    """

    code: space.Code
    task: str
    seed: int
    metrics: dict[str, float]
    curve: dict[str, npt.NDArray[np.float64]]
    epochs: int
    seconds: float
    device: str
    status: str = "ok"
    error: str | None = None


def train(
    code: object,
    recipe: str | Recipe,
    seed: int = 0,
    device: str | torch.device | None = None,
    *,
    data: Folder = None,
    checkpoint: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    on_epoch: OnEpoch | None = None,
    progress: bool = False,
) -> TrainResult:
    """Trains one network.

    Under torchrun all processes call it alike: they share the batches, batch norm included, and all return
    the same result.

    Args:
        code: anything `space.parse` reads.
        recipe: its name, or a recipe.
        seed: of the initialisation, the order of the samples and their augmentation.
        device: where to train; by default a GPU where there is one.
        data: the folder of the data sets (see `datasets.locate`).
        checkpoint: a file, written after every epoch; where it is there, training resumes from it.
        weights: a safetensors file for the trained network, with what it is of (`weights.Trained`); none is
            written where training diverged. `network.build(code, task, weights=...)` reads it.
        on_epoch: is called after every epoch with its point of the learning curve: "epoch" (from 1), the
            metrics (NaN where the recipe does not evaluate), "loss", "lr" and "seconds".
        progress: show a bar over epochs on stderr, if that is a terminal.

    Raises:
        RecipeError, UnknownTaskError: no such recipe, or one that its data does not fit.
        DatasetError: the data are missing or malformed.
        InvalidArgumentError: the device is missing, or `checkpoint` is of another run or of other data.
        IntegrityError: the checkpoint is damaged.
    """
    code, recipe, where = space.parse(code), recipes.get(recipe), choose_device(device)
    _join(where)
    run = _Run(code, recipe, check_seed(seed), where, data)
    result = run.train(None if checkpoint is None else Path(checkpoint), progress, on_epoch)
    if weights is not None and result.status == "ok" and run.share.rank == 0:
        run.save_weights(weights, result)
    return result


def choose_device(device: str | torch.device | None) -> torch.device:
    """Return the device of this name, which must be here; by default a GPU where there is one."""
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if chosen.type != "cuda":
            torch.zeros(1, device=chosen)
            return chosen
        # Nothing is allocated: that others have filled a GPU says nothing of whether it is there.
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if str(chosen) == "cuda":
            # Each of torchrun's processes has a GPU of its own.
            chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % max(1, count))
        if chosen.index >= count:
            raise RuntimeError(f"{count} GPUs are seen here")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0]
        raise InvalidArgumentError(
            f"device {str(device)!r} can't be used ({why}); expected cpu, or cuda on a machine with a GPU"
        ) from None
    return chosen


def _join(device: torch.device) -> None:
    """Join the processes that torchrun started, if it did."""
    if "TORCHELASTIC_RUN_ID" in os.environ and not torch.distributed.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)  # NCCL's collectives of objects use the current one
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(torch.distributed.destroy_process_group)


def device_name(device: torch.device) -> str:
    """Return what stands in a table's column `device`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type


# The parts of a training loop


def workload(recipe: str | Recipe, data: Folder = None, device: torch.device | str = "cpu") -> Workload:
    """Return the `Workload` of a recipe's task, with its data."""
    recipe = recipes.get(recipe)
    kind = Scans if tasks.get(recipe.task).problem == "detection" else Pictures
    return kind(recipe, data, torch.device(device), Share.here())


def network(work: Workload, code: object, seed: int) -> nn.Module:
    """Return the initialised network of a code, on the CPU; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        net = work.network(code)
    if work.recipe.zero_residual:
        for unit in net.modules():
            if isinstance(unit, ResidualUnit):
                nn.init.zeros_(unit.bn2.weight)
    return net


def load(path: str | os.PathLike[str], recipe: str | Recipe | None = None) -> nn.Module:
    """Return the trained network of a file of weights, of any task, in evaluation mode.

    Args:
        path: what `train(..., weights=...)` wrote.
        recipe: what it was trained by; None: the recipe of that name. Only detection's matters.

    Raises:
        IntegrityError: the file is damaged, or holds the weights of another network.
        RecipeError: there is no such recipe, or it has changed since.
    """
    told = weights.read(path)
    task = tasks.get(told.task)
    if task.problem != "detection":
        return build(told.code, task, weights=path).eval()
    found = recipes.get(told.recipe if recipe is None else recipe)
    if found.digest != told.digest:
        raise RecipeError(
            f"{path} was trained by another recipe {told.recipe!r} than there is now; give the recipe, which "
            "is in recipes/ of its build"
        )
    net: nn.Module = DetectionNet(told.code, configure(found), told.width_mult)
    tensors.load_weights(path, net)
    return net.eval()


class _Graph:
    """Forward and backward pass of a batch as one CUDA graph.

    A small network on a GPU otherwise spends its time on launching kernels one by one.

    Args:
        backward: sets the gradients of a batch and returns its loss.
        net: the network; its running statistics are left as they were.
        example: a batch; all others have its shapes.
    """

    def __init__(self, backward: Callable[[Any], Tensor], net: nn.Module, example: tuple[Tensor, ...]):
        self.batch = tuple(t.clone() for t in example)
        before = [b.clone() for b in net.buffers()]
        # Libraries choose their kernels and allocate at first use, which a graph must not record.
        device = self.batch[0].device
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(3):
                backward(self.batch)
        torch.cuda.current_stream(device).wait_stream(side)
        net.zero_grad()
        self.graph = torch.cuda.CUDAGraph()
        # The stream is given, as torch would take that of the process's first graph, whatever its device. By
        # default whatever another thread asks of the driver breaks the recording, as pinning memory does.
        with torch.cuda.graph(self.graph, stream=side, capture_error_mode="thread_local"):
            self.loss = backward(self.batch)
        for buffer, value in zip(net.buffers(), before, strict=True):
            buffer.copy_(value)

    def __call__(self, batch: tuple[Tensor, ...]) -> Tensor:
        for mine, new in zip(self.batch, batch, strict=True):
            mine.copy_(new)
        self.graph.replay()
        return self.loss


class _Run:
    """One trial, from its start or from a checkpoint, to its result."""

    def __init__(self, code: space.Code, recipe: Recipe, seed: int, device: torch.device, data: Folder):
        self.code, self.recipe, self.seed, self.device = code, recipe, seed, device
        self.work = workload(recipe, data, device)
        self.share = self.work.share
        net = network(self.work, code, seed)
        self.net: nn.Module = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = optimizer(self.net, recipe)
        #: Kept: walking through the modules takes longer than clipping.
        self.parameters = list(self.net.parameters())
        #: Rows of the curve so far: the metrics, then loss, lr, seconds.
        self.rows: list[dict[str, float]] = []
        self.first_loss = math.nan
        #: Seconds before this process's first epoch: of pretraining, or of what it resumes.
        self.seconds = 0.0
        #: Whether steps are recorded as a CUDA graph: the first one, replayed for all others.
        self.recorded = device.type == "cuda" and self.work.fixed_shapes and self.share.world == 1
        self._graph: _Graph | None = None
        self.error: str | None = None

    def train(self, checkpoint: Path | None, progress: bool, on_epoch: OnEpoch | None = None) -> TrainResult:
        from tqdm import tqdm

        if checkpoint is not None and self._exists(checkpoint):
            self._resume(checkpoint)
        elif self.recipe.pretrained:
            self.seconds = self._pretrain(checkpoint, progress)
        model = self._parallel()
        done = len(self.rows)
        bar = tqdm(
            total=self.recipe.epochs,
            initial=done,
            desc=f"{self.recipe.name} seed {self.seed}",
            unit="epoch",
            disable=None if progress and self.share.rank == 0 else True,
        )
        start = time.perf_counter()
        with bar, self._settings():
            for epoch in range(done, self.recipe.epochs):
                if self.error is not None:
                    break
                row = self._epoch(model, epoch)
                row["seconds"] = self.seconds + time.perf_counter() - start
                self.rows.append(row)
                if checkpoint is not None and self.share.rank == 0:
                    self._save(checkpoint)
                if on_epoch is not None and self.share.rank == 0:
                    on_epoch({"epoch": epoch + 1, **row})
                bar.set_postfix(loss=f"{row['loss']:.3g}")
                bar.update()
        return self._result()

    def _exists(self, checkpoint: Path) -> bool:
        """Whether there is one; all processes that train together must agree, or they would wait forever."""
        seen: list[bool] = self.share.gather([checkpoint.exists()])
        if len(set(seen)) > 1:
            raise InvalidArgumentError(
                f"only {sum(seen)} of {len(seen)} processes see the checkpoint {checkpoint}; "
                "give a path that is the same file on all nodes"
            )
        return seen[0]

    def _pretrain(self, checkpoint: Path | None, progress: bool) -> float:
        """Start from the weights that the recipe `pretrained` gives, but for the classifier's.

        Where that training diverges, so does this one. Returns how many seconds it took.
        """
        first = _Run(self.code, recipes.get(self.recipe.pretrained), self.seed, self.device, self.work.data)
        mine, theirs = (
            {k: v.shape for k, v in run.net.state_dict().items() if not k.startswith("head.classifier.")}
            for run in (self, first)
        )
        shared = [name for name, shape in theirs.items() if mine.get(name) == shape]
        if lacking := [name for name in mine if not name.startswith("head.") and name not in shared]:
            raise RecipeError(
                f"recipe {self.recipe.name!r} can't start from {first.recipe.name!r}: {len(lacking):,} "
                f"tensors of its trunk have none of their name and shape there, such as {lacking[0]}; "
                "expected a recipe whose networks have the same trunk (width_mult, kind of problem)"
            )
        # Beside the other, under a name that begins with its: `trial.Job.discard`.
        suffix = f".{first.recipe.name}-{first.recipe.digest}"
        own = None if checkpoint is None else checkpoint.with_name(checkpoint.name + suffix)
        result = first.train(own, progress)
        if result.error is not None:
            self.error = f"pretraining by {first.recipe.name!r}: {result.error}"
        weights = first.net.state_dict()
        self.net.load_state_dict({name: weights[name] for name in shared}, strict=False)
        return result.seconds

    @contextlib.contextmanager
    def _settings(self) -> Iterator[None]:
        """Yield settings of torch that training wants, put back afterwards."""
        if self.device.type != "cuda":
            with torch_threads(THREADS):
                yield
            return
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        # Short trials would be over before the search for the fastest convolutions has paid.
        long = self.work.plan.steps * self.recipe.epochs >= LONG
        flags = torch.backends.cudnn.flags(enabled=True, benchmark=long, allow_tf32=True)
        try:
            # The current device's stream is the one that is recorded, and where work is queued.
            with torch.cuda.device(self.device), flags:
                yield
        finally:
            torch.set_float32_matmul_precision(before)

    def _parallel(self) -> nn.Module:
        if self.share.world == 1:
            return self.net
        if self.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(self.net)  # type: ignore[no-untyped-call]
        else:
            SyncBatchNorm.convert(self.net)
        shared: nn.Module = nn.parallel.DistributedDataParallel(
            self.net, [self.device] if self.device.type == "cuda" else None, broadcast_buffers=False
        )
        return shared

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        # On a CPU, small networks gain nothing by it.
        if not self.recipe.mixed_precision or self.device.type != "cuda":
            return contextlib.nullcontext()
        # A cache of cast weights would outlive the graph that filled it.
        return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)

    def _epoch(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """Trains one epoch; its row of the curve."""
        recipe, plan = self.recipe, self.work.plan
        steps = plan.steps * recipe.epochs
        model.train()
        total = torch.zeros((), device=self.device)
        rate = 0.0
        for k, batch in enumerate(self.work.batches(self.seed, epoch)):
            rate, momentum = schedule(recipe, epoch * plan.steps + k, steps)
            set_rate(self.optimizer, rate, momentum)
            loss = self._gradients(model, batch)
            if recipe.clip_norm:
                nn.utils.clip_grad_norm_(self.parameters, recipe.clip_norm)
            self.optimizer.step()
            total += loss
            if epoch == k == 0:
                self.first_loss = self._mean(total)
            # Reading the loss waits for the device, so not at every step.
            if k % 100 == 99 and not math.isfinite(self._mean(total)):
                break
        loss_mean = self._mean(total) / plan.steps
        row = dict.fromkeys((m.name for m in self.work.task.metrics), math.nan)
        if not loss_mean <= EXPLODED * max(self.first_loss, LEAST):
            self.error = (
                f"the loss is {loss_mean:.3g} in epoch {epoch + 1}, after {self.first_loss:.3g} at first"
            )
        elif (epoch + 1) % recipe.eval_every == 0 or epoch + 1 == recipe.epochs:
            row |= self.evaluate()
        return row | {"loss": loss_mean, "lr": rate}

    def _gradients(self, model: nn.Module, batch: Any) -> Tensor:
        """Set the gradients of a batch and return its loss."""
        if self.recorded:
            if self._graph is None:
                self._graph = _Graph(lambda example: self._backward(model, example), self.net, batch)
            return self._graph(batch)
        return self._backward(model, batch)

    def _backward(self, model: nn.Module, batch: Any) -> Tensor:
        self.optimizer.zero_grad()
        try:
            with self._autocast():
                loss = self.work.loss(model, batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise RecipeError(
                f"recipe {self.recipe.name!r}: batch norm has a single value a channel to norm, in a batch "
                f"of {self.work.plan.batch} and on the smallest map of the network; expected a batch_size of "
                "at least 2, for each process, or a larger crop"
            ) from error
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _mean(self, loss: Tensor) -> float:
        return self.share.add(loss.clone()).item() / self.share.world

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the task's metrics of the network as it is."""
        self.net.eval()
        with self._autocast():
            found = self.work.evaluate(self.net)
        for metric in self.work.task.metrics:
            if metric.name not in found:
                raise RecipeError(
                    f"task {self.work.task.name!r} has a metric {metric.name!r}, which is not measured: "
                    f"{did_you_mean(metric.name, found)}"
                )
        return {m.name: found[m.name] for m in self.work.task.metrics}

    def _result(self) -> TrainResult:
        names = [m.name for m in self.work.task.metrics]
        curve = {"epoch": np.arange(1.0, len(self.rows) + 1)}
        for name in (*names, *CURVE[1:]):
            curve[name] = np.array([row[name] for row in self.rows])
        # No epoch was trained where pretraining diverged.
        last = self.rows[-1] if self.rows else {"seconds": self.seconds}
        return TrainResult(
            self.code,
            self.recipe.task,
            self.seed,
            {name: last.get(name, math.nan) for name in names},
            curve,
            len(self.rows),
            last["seconds"],
            device_name(self.device),
            "ok" if self.error is None else "diverged",
            self.error,
        )

    def save_weights(self, path: str | os.PathLike[str], result: TrainResult) -> None:
        """Write the network's weights with what they are of."""
        trained = weights.Trained(
            code=self.code,
            task=self.recipe.task,
            seed=self.seed,
            recipe=self.recipe.name,
            digest=self.recipe.digest,
            metrics=result.metrics,
            width_mult=self.recipe.width_mult,
            stem_strides=self.recipe.stem_strides,
            version=__version__,
        )
        weights.save(path, self.net, trained)

    # Checkpoints: network, optimiser and curve; the rest follows from the seed and the epoch.

    def _parts(self) -> checkpoints.Stateful:
        return {"network": self.net, "optimizer": self.optimizer}

    @functools.cached_property
    def _trial(self) -> dict[str, Any]:
        about = {"code": list(self.code), "recipe": self.recipe.digest, "seed": self.seed}
        return about | {"data": splits.described(splits.named(self.recipe, self.work.data))}

    def _save(self, path: Path) -> None:
        progress = {"rows": self.rows, "first_loss": self.first_loss, "error": self.error}
        checkpoints.save(path, self._parts(), self._trial, progress)

    def _resume(self, path: Path) -> None:
        with tensors.intact(path):
            progress = checkpoints.resume(path, self._parts(), self._trial)
            names = [*(m.name for m in self.work.task.metrics), *CURVE[1:]]
            self.rows = [{name: float(row[name]) for name in names} for row in progress["rows"]]
            self.seconds = self.rows[-1]["seconds"] if self.rows else 0.0
            self.first_loss = float(progress["first_loss"])
            self.error = None if progress["error"] is None else str(progress["error"])
