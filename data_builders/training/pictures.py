"""Images and clips as problems to train on: classification and segmentation. Needs the extra `build`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench_mr.data_builders.datasets import IGNORE
from nasbench_mr.data_builders.training import inputs, metrics
from nasbench_mr.data_builders.training.inputs import Plan, Share
from nasbench_mr.data_builders.training.recipes import Recipe
from nasbench_mr.data_builders.training.splits import Folder
from nasbench_mr.data_builders.training.workload import Workload
from nasbench_mr.errors import DatasetError, RecipeError
from nasbench_mr.network import MultiResolutionNet


class Pictures(Workload):
    """Classification and segmentation of images, classification of clips. Batches are `inputs.Batch`."""

    fixed_shapes = True

    def __init__(self, recipe: Recipe, data: Folder, device: torch.device, share: Share):
        super().__init__(recipe, data, device, share)
        clips = self.task.problem == "video"
        if (recipe.frames > 0) != clips or (recipe.input == "motion" and not clips):
            expected = "frames above 0" if clips else "frames 0 and input rgb"
            raise RecipeError(
                f"recipe {recipe.name!r}: frames is {recipe.frames}, input {recipe.input!r}; expected "
                f"{expected}, as task {self.task.name!r} is of {self.task.problem}"
            )
        source = inputs.Resident if recipe.resident else inputs.Streamed
        self.source: inputs.Loader = source(recipe, data, device, share)
        self.plan = Plan(self.source.count, recipe.batch_size, share, recipe.epoch_samples)
        if self.task.num_classes is None or self.source.classes > self.task.num_classes:
            raise RecipeError(
                f"recipe {recipe.name!r}: the data set has {self.source.classes} classes; "
                f"task {self.task.name!r} has {self.task.num_classes}"
            )

        if self.task.problem == "segmentation" and not self.source.labelled():
            raise DatasetError(
                f"{recipe.dataset} val: no pixel has a class, so task {self.task.name!r} can't be measured; "
                "give validation data with labels"
            )

    def network(self, code: object) -> nn.Module:
        assert self.task.num_classes is not None
        width, strides = self.recipe.width_mult, self.recipe.stem_strides
        return MultiResolutionNet(
            code,
            self.task.num_classes,
            head=self.task.problem,
            width_mult=width,
            in_channels=3,
            stem_strides=strides,
        )

    def batches(self, seed: int, epoch: int) -> Iterator[inputs.Batch]:
        return self.source.training(self.plan, seed, epoch)

    def loss(self, model: nn.Module, batch: inputs.Batch) -> Tensor:
        logits: Tensor = model(batch[0]).float()
        # Ignored pixels count 0 in a mean over all, so that equal parts of a batch weigh alike.
        return F.cross_entropy(
            logits,
            batch[1].long(),
            ignore_index=IGNORE if logits.ndim == 4 else -100,
            label_smoothing=self.recipe.label_smoothing,
            reduction="none",
        ).mean()

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        counts: metrics.Meter
        if self.task.problem == "segmentation":
            assert self.task.num_classes is not None
            counts = metrics.Confusion(self.task.num_classes, self.device)
        else:
            counts = metrics.TopK(self.device)
        for images, labels in self.source.validation():
            counts.update(model(images).float(), labels)
        self.share.add(counts.state)
        return counts.compute()
