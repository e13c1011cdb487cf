"""Batches for training and validation: held in memory, or streamed by worker processes.

A recipe with `resident` data has them decoded once in a process, on the device, and batches are cut out of
one tensor. Other data sets are read sample by sample in worker processes that run ahead. Either way the
order and the augmentation of an epoch follow from the seed alone. Needs the extra `build`.
"""

from __future__ import annotations

import abc
import functools
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from nasbench_mr import tasks
from nasbench_mr.data_builders.datasets import IGNORE, Dataset, Sample
from nasbench_mr.data_builders.training import splits, transforms
from nasbench_mr.data_builders.training.recipes import Recipe
from nasbench_mr.data_builders.training.splits import Folder
from nasbench_mr.errors import DatasetError, NasbenchMRError, RecipeError
from nasbench_mr.workers import end_with_parent, portable

#: Seconds that a batch is waited for.
PATIENCE = 600.0
#: Input and labels: `(B, 3, H, W)` or `(B, K, 3, H, W)` float32, and `(B,)` or `(B, H, W)`.
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Share:
    """This process among those that train one network together."""

    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls) -> Share:
        """As torch.distributed has it."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())
        return cls()

    def add(self, tensor: Tensor) -> Tensor:
        """Return the sum over the processes, in place."""
        if self.world > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def gather(self, parts: list[Any]) -> list[Any]:
        """Return the processes' lists, one after another."""
        if self.world == 1:
            return parts
        lists: list[list[Any]] = [[] for _ in range(self.world)]
        torch.distributed.all_gather_object(lists, parts)
        return [part for each in lists for part in each]


class Plan:
    """The batches of an epoch: which samples, in which order, augmented by which numbers.

    Args:
        count: samples of the training set.
        size: of a batch; with fewer samples, all of them. What does not fill the last batch is left out.
        share: each process has its part of every batch.
        samples: drawn anew for every epoch; 0 for all.

    Raises:
        RecipeError: the processes do not divide the batch.
    """

    def __init__(self, count: int, size: int, share: Share, samples: int = 0):
        # Of fewer samples than processes some are repeated, as torch's DistributedSampler does.
        used = max(min(samples or count, count), share.world)
        self.batch = min(size, used)
        # Rounded, it would be another training than that of one process.
        if self.batch % share.world:
            fit = [str(n) for n in range(1, min(self.batch, 64) + 1) if not self.batch % n]
            raise RecipeError(
                f"a batch of {self.batch} can't be shared evenly by {share.world} processes; start "
                f"{', '.join(fit)}, or give another batch_size"
            )
        self.count, self.steps, self.share = count, used // self.batch, share

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's part of each batch: `(b,)` indices and `(b, UNIFORMS)` numbers."""
        rng = np.random.default_rng((seed, epoch))
        order, numbers = torch.from_numpy(rng.permutation(self.count)), transforms.draw(rng, self.count)
        for start in range(0, self.steps * self.batch, self.batch):
            own = torch.arange(start + self.share.rank, start + self.batch, self.share.world) % self.count
            yield order[own], numbers[own]


def choose(total: int, count: int, labels: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
    """Return indices of `count` of `total` samples (0 for all), always the same ones.

    labels: `(total,)`; the choice is balanced over them.
    """
    if count > total:
        raise RecipeError(f"train_samples is {count:,}; the data set has {total:,}")
    order = np.random.default_rng(0).permutation(total)
    if count and labels is not None:
        own = np.asarray(labels)[order]
        # Each sample's place among those of its class: first all first ones, then all second ones, ...
        place = np.zeros(total, np.int64)
        for label in np.unique(own):
            place[own == label] = np.arange((own == label).sum())
        order = order[np.argsort(place, kind="stable")]
    return np.sort(order[: count or total])


@dataclass(frozen=True)
class Held:
    """A split in memory.

    Attributes:
        pictures: uint8 images `(n, H, W, 3)`, clips `(n, T, H, W, 3)`, or grey clips `(n, T, H, W)`.
        labels: `(n,)` int64, or masks `(n, H, W)` uint8.
        classes: their names.
        labelled: whether any label is not `IGNORE`.
    """

    pictures: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    labelled: bool


def held(recipe: Recipe, name: str, data: Folder = None, device: torch.device | str = "cpu") -> Held:
    """Return a split that a `resident` recipe uses, in memory; read once in a process.

    Processes that are forked afterwards share it: call this before forking.
    """
    count = recipe.train_samples if name == "train" else 0
    test = (None, None) if name == "train" else (recipe.test_resize, recipe.test_crop)
    return _held(
        *splits.key(recipe, name, data),
        count,
        *test,
        recipe.input == "motion",
        torch.device(device),
        tasks.get(recipe.task).problem,
    )


@functools.lru_cache(maxsize=8)
def _held(
    dataset: str,
    folder: str,
    name: str,
    options: str,
    count: int,
    test_resize: int | None,
    test_crop: tuple[int, int] | None,
    grey: bool,
    device: torch.device,
    problem: str,
) -> Held:
    found = splits.opened(dataset, folder, name, options)
    splits.check_problem(found, problem)
    arrays = found.arrays()
    pictures = torch.from_numpy(arrays.get("image", arrays.get("clip")))
    kept = torch.from_numpy(choose(len(found), count, arrays.get("label")))
    labels = torch.from_numpy(arrays.get("label", arrays.get("mask")))[kept]
    pictures = pictures[kept]
    if labels.ndim == 1 and (test_resize or test_crop):
        cut = transforms.test_sample if pictures.ndim == 4 else transforms.test_clip
        pictures = torch.stack([cut(p, test_resize, test_crop) for p in pictures])
    if grey:
        pictures = torch.stack([transforms.grey(clip) for clip in pictures])
    labelled = bool((labels != IGNORE).any())  # here, as reading from a GPU waits for it
    return Held(pictures.to(device), labels.to(device), found.classes, labelled)


class Loader(abc.ABC):
    """Where batches of pictures come from.

    Attributes:
        count: training samples.
        classes: how many the data set has.
    """

    count: int
    classes: int

    @abc.abstractmethod
    def training(self, plan: Plan, seed: int, epoch: int) -> Iterator[Batch]:
        """Return the batches of an epoch, on the device."""

    @abc.abstractmethod
    def validation(self) -> Iterator[Batch]:
        """Return this process's part of the validation set, on the device."""

    @abc.abstractmethod
    def labelled(self) -> bool:
        """Whether any pixel of the validation set's masks has a class; stops at the first."""


class Resident(Loader):
    """Batches cut out of data held on the device."""

    def __init__(self, recipe: Recipe, data: Folder, device: torch.device, share: Share):
        self.recipe, self.device, self.share = recipe, device, share
        self.train, self.val = (held(recipe, name, data, device) for name in splits.SPLITS)
        splits.check_classes(recipe.dataset, self.train.classes, self.val.classes)
        self.count, self.classes = len(self.train.labels), len(self.train.classes)

    def training(self, plan: Plan, seed: int, epoch: int) -> Iterator[Batch]:
        # Moved at once, as every copy to a GPU waits for what runs there.
        steps = zip(*plan.epoch(seed, epoch), strict=True)
        indices, numbers = (torch.stack(part).to(self.device) for part in steps)
        for index, u in zip(indices, numbers, strict=True):
            pictures, labels = self.train.pictures[index], self.train.labels[index]
            yield transforms.training_batch(self.recipe, pictures, labels, u)

    def validation(self) -> Iterator[Batch]:
        own = slice(self.share.rank, None, self.share.world)
        size = self.recipe.eval_batch_size
        for pictures, labels in zip(
            torch.split(self.val.pictures[own], size), torch.split(self.val.labels[own], size), strict=True
        ):
            if len(labels):  # not of a process for which there is no sample
                yield transforms.test_batch(self.recipe, pictures), labels

    def labelled(self) -> bool:
        return self.val.labelled


class Streamed(Loader):
    """Samples read by worker processes, `recipe.workers` of them, that stay over epochs and run ahead."""

    def __init__(self, recipe: Recipe, data: Folder, device: torch.device, share: Share):
        self.recipe, self.device, self.share = recipe, device, share
        train, self._val = (splits.split(recipe, name, data) for name in splits.SPLITS)
        splits.check_problem(train, tasks.get(recipe.task).problem)
        splits.check_classes(recipe.dataset, train.classes, self._val.classes)
        kept = choose(len(train), recipe.train_samples, train.labels())
        self.count, self.classes = len(kept), len(train.classes)
        read = functools.partial(transforms.training_sample, recipe)
        self._stream = Stream(train, kept, read, recipe.workers, device=device)

    def training(self, plan: Plan, seed: int, epoch: int) -> Iterator[Batch]:
        for pictures, labels, u in self._moved(self._stream(plan.epoch(seed, epoch))):
            yield transforms.finish(self.recipe, pictures, u), labels

    def validation(self) -> Iterator[Batch]:
        order = torch.arange(len(self._val))[self.share.rank :: self.share.world]
        batches = torch.split(order, self.recipe.eval_batch_size)
        # Its workers end with the evaluation: between them they would only hold memory.
        read = functools.partial(transforms.validation_sample, self.recipe)
        stream = Stream(self._val, None, read, self.recipe.workers, device=self.device)
        indices = ((i, torch.zeros(len(i), 1)) for i in batches if len(i))
        for pictures, labels, _ in self._moved(stream(indices)):
            yield transforms.finish(self.recipe, pictures), labels

    def labelled(self) -> bool:
        return any((np.asarray(s["mask"]) != IGNORE).any() for s in self._val)

    def _moved(self, batches: Iterator[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches on the device, the next one on its way while one is used."""
        ahead: tuple[Tensor, ...] | None = None
        for batch in batches:
            moving = tuple(t.to(self.device, non_blocking=True) for t in batch)
            if ahead is not None:
                yield ahead
            ahead = moving
        if ahead is not None:
            yield ahead


class Stream:
    """Reads samples in worker processes.

    Args:
        dataset: to read from.
        kept: the indices in it that indices of batches refer to; None for all.
        transform: (sample, its numbers) to what is stacked to batches.
        workers: processes; 0 to read in this one.
        collate: samples of a batch to the batch; by default each of their tensors is stacked.
        device: where the batches will go: memory from which a GPU can copy by itself is pinned.
    """

    def __init__(
        self,
        dataset: Sequence[Sample] | Dataset,
        kept: npt.NDArray[np.int64] | None,
        transform: Callable[[Sample, Tensor], Any],
        workers: int,
        *,
        collate: Callable[[list[Any]], Any] | None = None,
        device: torch.device | None = None,
    ):
        self.workers, self._chosen = workers, False
        self._read = _Read(dataset, kept, transform)
        self._collate = _Collate(collate or _stack)
        #: Changed in place when an epoch starts, as workers persist. The loader has this list, not us: in a
        #: cycle its workers would outlive the stream, until the garbage collector finds them.
        self._plan: list[list[tuple[int, Tensor]]] = []
        self._loader: DataLoader[Any] = DataLoader(
            self._read,  # type: ignore[arg-type]
            batch_sampler=self._plan,
            num_workers=workers,
            collate_fn=self._collate,
            # A worker that hangs, as on a network file system that is gone, would be waited for forever.
            timeout=PATIENCE if workers else 0,
            persistent_workers=workers > 0,
            worker_init_fn=end_with_parent,
            pin_memory=device is not None and device.type == "cuda",
            # Otherwise a loader draws a seed from torch's global generator.
            generator=torch.Generator().manual_seed(0),
        )

    def __call__(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[Any]:
        """Yield the batches with these indices `(b,)` and numbers `(b, k)`.

        Raises:
            DatasetError: a sample can't be read, or no batch came for `PATIENCE` seconds.
            Exception: what reading or transforming a sample raised, with the worker's traceback as a note.
        """
        self._plan[:] = [list(zip(index.tolist(), u, strict=True)) for index, u in batches]
        if self.workers and self._plan and not self._chosen:
            self._choose_transport()
        loaded = iter(self._loader)
        while True:
            try:
                batch = next(loaded)
            except StopIteration:
                return
            except RuntimeError as error:  # torch's, of a worker that hangs or was killed
                why = str(error).splitlines()[0]
                raise DatasetError(
                    f"no batch from the {self.workers} processes that read ({why}); see whether the data can "
                    "still be read, or read with fewer: --set workers=0"
                ) from error
            if isinstance(batch, Exception):
                raise batch
            yield self._collate.unpacked(batch)

    def _choose_transport(self) -> None:
        """Send batches through pipes where shared memory is too small for those on their way.

        A process that finds no shared memory is killed or waits for ever. Containers have 64 MB by default.
        """
        self._chosen = True
        if (free := shared_memory()) is None:
            return
        sample = self._collate([self._first()])
        # Each process is two batches ahead, and one is in use; samples may differ in size.
        needed = 1.25 * len(pickle.dumps(sample)) * len(self._plan[0]) * (2 * self.workers + 1)
        if needed > free:
            self._collate.piped = True
            tqdm.write(
                f"nasbench-mr: {self.workers} processes that read ahead need {needed / 1e6:,.0f} MB of "
                f"shared memory, {free / 1e6:,.0f} MB are free: batches go through pipes instead, which is "
                "slower (docker run --shm-size gives more; --set workers=N reads with fewer)",
                file=sys.stderr,
            )

    def _first(self) -> Any:
        """Return the plan's first sample, read in this process and waited for like a batch."""
        read: list[Any] = []
        # A read that hangs can't be ended; as a daemon, its thread keeps no process alive.
        thread = threading.Thread(target=lambda: read.append(self._read[self._plan[0][0]]), daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if not read:
            raise DatasetError(
                f"the first sample was not read in {PATIENCE:g} s; see whether the data can still be read"
            )
        return read[0]


@dataclass(frozen=True)
class _Read:
    dataset: Sequence[Sample] | Dataset
    kept: npt.NDArray[np.int64] | None
    transform: Callable[[Sample, Tensor], Any]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: tuple[int, Tensor]) -> Any:
        index, u = item
        try:
            return self.transform(self.dataset[index if self.kept is None else int(self.kept[index])], u)
        except Exception as error:
            return _noted(error, f"reading sample {index}")


@dataclass
class _Collate:
    """Makes batches of samples; `piped`: in bytes, which go through a pipe, not in shared memory."""

    collate: Callable[[list[Any]], Any]
    piped: bool = False

    def __call__(self, samples: list[Any]) -> Any:
        for sample in samples:
            if isinstance(sample, Exception):
                return sample
        try:
            batch = self.collate(samples)
        except Exception as error:
            return _noted(error, "making a batch")
        return pickle.dumps(batch) if self.piped else batch

    @staticmethod
    def unpacked(batch: Any) -> Any:
        """Return the batch that was made, whichever way it came."""
        return pickle.loads(batch) if isinstance(batch, bytes) else batch


def _noted(error: Exception, doing: str) -> Exception:
    """Return an error as the training process is to raise it. Raised here, torch would bury its message."""
    found = portable(error)
    if not isinstance(error, NasbenchMRError):
        found.add_note(f"while {doing}:\n{traceback.format_exc()}")
    return found


def shared_memory() -> int | None:
    """Return the free bytes of shared memory; None where that can't be told, as outside of Linux."""
    try:
        about = os.statvfs("/dev/shm")
    except (OSError, AttributeError):
        return None
    return about.f_bavail * about.f_frsize


def _stack(batch: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.stack(column) for column in zip(*batch, strict=True))
