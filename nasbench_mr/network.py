"""The network a code stands for, in PyTorch.

`build(code, "seg")` gives the network a task trains, head included, `build(code, ("seg", "video"))` one trunk
with several heads, and `load_pretrained("mini", code, "mini-cls")` one that is trained. `MultiResolutionNet`
is the module itself, with its parts (`stem`, `stages`, `head`) in reach for what links or wraps them. The
architecture is that of NAS-Bench-MR (Ding et al., ICLR 2022), a generalised HRNet: parallel branches at 1/4
... 1/32 resolution, with repeated fusion between neighbouring ones. Needs the extra `search` or `build`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasbench_mr import cost, library, space, tasks, tensors
from nasbench_mr import weights as trained
from nasbench_mr.errors import InvalidArgumentError, did_you_mean
from nasbench_mr.extras import requires

with requires("search", "nasbench_mr.network"):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

HEADS = (*cost.HEADS, "video")


class ConvBNReLU(nn.Sequential):
    """k x k convolution (no bias, "same" padding), batch norm, ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1):
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
        )


class ResidualUnit(nn.Module):
    """The basic block of ResNet: 3x3, BN, ReLU, 3x3, BN, plus identity, ReLU."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def before_relu(self, x: Tensor) -> Tensor:
        """Return the unit without its last ReLU, for what adds to its output there."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.bn2(self.conv2(y)) + x  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.before_relu(x), inplace=True)


class Fusion(nn.Module):
    """Exchanges features between neighbouring branches, and opens new ones at lower resolution.

    Args:
        c_in: channels of the p input branches, highest resolution first.
        c_out: channels of the output branches, at least p of them.
    """

    def __init__(self, c_in: Sequence[int], c_out: Sequence[int]):
        super().__init__()
        self.paths = nn.ModuleDict()
        for i, c in enumerate(c_out):
            if i >= len(c_in):
                self.paths[f"{i - 1}_{i}"] = ConvBNReLU(c_out[i - 1], c, stride=2)
                continue
            self.paths[f"{i}_{i}"] = ConvBNReLU(c_in[i], c)
            if i > 0:
                self.paths[f"{i - 1}_{i}"] = ConvBNReLU(c_in[i - 1], c, stride=2)
            if i + 1 < len(c_in):
                self.paths[f"{i + 1}_{i}"] = ConvBNReLU(c_in[i + 1], c, kernel=1)
        self.branches = len(c_out)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        fused: list[Tensor] = []
        for i in range(self.branches):
            if i >= len(x):
                fused.append(self.paths[f"{i - 1}_{i}"](fused[i - 1]))
                continue
            total = self.paths[f"{i}_{i}"](x[i])
            if i > 0:
                total = total + self.paths[f"{i - 1}_{i}"](x[i - 1])
            if i + 1 < len(x):
                up = F.interpolate(self.paths[f"{i + 1}_{i}"](x[i + 1]), scale_factor=2.0)
                total = total + resize(up, total.shape[-2:])
            # The published network applies one more ReLU here: on a sum of maps that are never negative
            # it changes neither the sum nor its gradient.
            fused.append(total)
        return fused


class ParallelModule(nn.Module):
    """Residual units on each branch by itself: `n[k]` units of `c[k]` channels on branch k."""

    def __init__(self, n: Sequence[int], c: Sequence[int]):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(ResidualUnit(c_k) for _ in range(n_k))) for n_k, c_k in zip(n, c, strict=True)
        )

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [branch(x_k) for branch, x_k in zip(self.branches, x, strict=True)]


class Stage(nn.Sequential):
    """`b` times a fusion module and a parallel module; maps a list of branches to a list of branches."""

    def __init__(self, c_in: Sequence[int], b: int, n: Sequence[int], c: Sequence[int]):
        modules: list[nn.Module] = []
        for k in range(b):
            modules += [Fusion(c if k else c_in, c), ParallelModule(n, c)]
        super().__init__(*modules)


class Head(nn.Module):
    """Joins all branches at one resolution and predicts: 1x1 to o1 channels, then a 1x1 classifier.

    Args:
        c_in: channels of the branches.
        channels: o1.
        num_classes: outputs.
        kind: "classification": at the lowest resolution, global average pool, logits `(B, classes)`.
            "segmentation": at the highest, logits upsampled to the input, `(B, classes, H, W)`. "video":
            as classification for each frame of `(B, T, 3, H, W)`, averaged over the frames.
    """

    def __init__(self, c_in: Sequence[int], channels: int, num_classes: int, kind: str):
        super().__init__()
        self.kind = kind
        self.conv = ConvBNReLU(sum(c_in), channels, kernel=1)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def join(self, x: list[Tensor]) -> Tensor:
        """All branches resized to one resolution, concatenated, reduced to o1 channels."""
        size = (x[0] if self.kind == "segmentation" else x[-1]).shape[-2:]
        return self.conv(torch.cat([resize(branch, size) for branch in x], dim=1))  # type: ignore[no-any-return]

    def forward(self, x: list[Tensor], size: Sequence[int]) -> Tensor:
        y = self.join(x)
        if self.kind == "segmentation":
            return resize(self.classifier(y), size)  # (B, classes, H, W)
        return self.classifier(y.mean((2, 3), keepdim=True)).flatten(1)  # type: ignore[no-any-return]  # (B, classes)


class MultiResolutionNet(nn.Module):
    """The network of a code.

    >>> net = MultiResolutionNet(space.sample(1, seed=0)[0], num_classes=19, head="segmentation")
    >>> net(torch.zeros(1, 3, 64, 128)).shape
    torch.Size([1, 19, 64, 128])

    Args:
        code: anything `space.parse` reads.
        num_classes: outputs of the classifier.
        head: "classification", "segmentation" or "video" (see `Head`), or None for the bare trunk, whose
            output is the list of the last stage's branches.
        width_mult: scales all channels, rounded half up, kept at least 1; for training at small scale.
        in_channels: channels of the input.
        stem_strides: strides of the stem's two convolutions.

    Input: `(B, in_channels, H, W)`, or `(B, T, in_channels, H, W)` for video; H and W at least 32.

    Raises:
        OutOfSpaceError, InvalidArgumentError: on creation, a malformed code or option; in `forward`, an
            input that is too small or of the wrong rank.
    """

    def __init__(
        self,
        code: object,
        num_classes: int = cost.NUM_CLASSES,
        head: str | None = "classification",
        width_mult: float = 1.0,
        *,
        in_channels: int = 3,
        stem_strides: tuple[int, int] = (2, 2),
    ):
        super().__init__()
        if head is not None and head not in HEADS:
            raise InvalidArgumentError(f"head is {head!r}; expected one of {', '.join(HEADS)}, or None")
        if num_classes < 1:
            raise InvalidArgumentError(f"num_classes is {num_classes}; expected at least 1")
        self.code = space.parse(code)
        self.width_mult = width_mult
        parts = cost.scaled_parts(self.code, width_mult)
        i1, i2 = parts.stem
        self.stem = nn.Sequential(
            ConvBNReLU(in_channels, i1, stride=stem_strides[0]),
            ConvBNReLU(i1, i2, stride=stem_strides[1]),
        )
        #: Channels of each stage's branches.
        self.channels = tuple(c for _, _, c in parts.stages)
        inputs = [(i2,), *self.channels[:-1]]
        self.stages = nn.ModuleList(
            Stage(c_in, *stage) for c_in, stage in zip(inputs, parts.stages, strict=True)
        )
        self.head = None if head is None else Head(self.channels[-1], parts.head, num_classes, head)
        #: Of a network built with `features_only`.
        self.feature_info: FeatureInfo | None = None
        initialize(self)

    def branches(self, x: Tensor) -> list[Tensor]:
        """Return the last stage's maps at 1/4, 1/8, 1/16 and 1/32 of the input: `[(B, c4_k, h_k, w_k)]`."""
        maps = [self.stem(x)]
        for stage in self.stages:
            maps = stage(maps)
        return maps

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        video = self.head is not None and self.head.kind == "video"
        if x.ndim != 4 + video or min(x.shape[-2:]) < 32:
            raise InvalidArgumentError(
                f"input has shape {tuple(x.shape)}; expected "
                f"{'(B, T, C, H, W)' if video else '(B, C, H, W)'} "
                "with H and W at least 32"
            )
        if self.head is None:
            return self.branches(x)
        if video:
            batch, frames = x.shape[:2]
            logits = self.head(self.branches(x.flatten(0, 1)), x.shape[-2:])  # (B * T, classes)
            return logits.unflatten(0, (batch, frames)).mean(1)  # type: ignore[no-any-return]  # (B, classes)
        return self.head(self.branches(x), x.shape[-2:])  # type: ignore[no-any-return]


class FeatureInfo:
    """What the maps of a trunk are, as libraries that put their own heads on it ask.

    Args:
        channels: of each map, the highest resolution first.
        strides: of the stem's two convolutions.
    """

    def __init__(self, channels: Sequence[int], strides: tuple[int, int]):
        first = strides[0] * strides[1]
        #: One entry a map: "num_chs", "reduction" (input pixels for each of the map's), and "module".
        self.info: list[dict[str, Any]] = [
            {"num_chs": c, "reduction": first * 2**k, "module": f"stages.{len(channels) - 1}.branch.{k}"}
            for k, c in enumerate(channels)
        ]

    def channels(self) -> list[int]:
        """Return the channels of each map."""
        return [entry["num_chs"] for entry in self.info]

    def reduction(self) -> list[int]:
        """Return by how much each map is smaller than the input."""
        return [entry["reduction"] for entry in self.info]

    def __len__(self) -> int:
        return len(self.info)

    def __getitem__(self, k: int) -> dict[str, Any]:
        return self.info[k]


class MultiHeadNet(MultiResolutionNet):
    """One trunk with a head for each of several tasks.

    Args:
        code: anything `space.parse` reads.
        heads: by name, the kind of head (see `Head`) and its number of classes.
        width_mult: see `MultiResolutionNet`.
    """

    def __init__(self, code: object, heads: Mapping[str, tuple[str, int]], width_mult: float = 1.0):
        super().__init__(code, head=None, width_mult=width_mult)
        for name, (kind, classes) in heads.items():
            if kind not in HEADS or classes < 1:
                raise InvalidArgumentError(
                    f"the head {name!r} is {kind!r} with {classes} classes; expected one of "
                    f"{', '.join(HEADS)}, with at least one"
                )
        joined = cost.scaled_parts(self.code, width_mult).head
        self.heads = nn.ModuleDict(
            {name: Head(self.channels[-1], joined, classes, kind) for name, (kind, classes) in heads.items()}
        )
        initialize(self.heads)

    def forward(self, x: Tensor, heads: Iterable[str] | None = None) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the output of some heads, by name, from one pass through the trunk.

        Args:
            x: `(B, 3, H, W)`, or `(B, T, 3, H, W)` for video heads alone; H and W at least 32. A video head
                takes an image as a clip of one frame.
            heads: their names; by default all.
        """
        names = list(self.heads) if heads is None else list(heads)
        if unknown := [name for name in names if name not in self.heads]:
            raise InvalidArgumentError(f"no head {unknown[0]!r}: {did_you_mean(unknown[0], self.heads)}")
        clips = x.ndim == 5
        if clips and (still := [name for name in names if self.heads[name].kind != "video"]):
            raise InvalidArgumentError(
                f"input has shape {tuple(x.shape)}, a clip; the head {still[0]!r} takes images (B, C, H, W). "
                "Name the heads that the input is for"
            )
        if x.ndim not in (4, 5) or min(x.shape[-2:]) < 32:
            raise InvalidArgumentError(
                f"input has shape {tuple(x.shape)}; expected (B, C, H, W), or (B, T, C, H, W) for video, "
                "with H and W at least 32"
            )
        maps = self.branches(x.flatten(0, 1) if clips else x)
        outputs = {name: self.heads[name](maps, x.shape[-2:]) for name in names}
        if clips:
            return {name: y.unflatten(0, tuple(x.shape[:2])).mean(1) for name, y in outputs.items()}
        return outputs


def build(
    code: object,
    task: str | tasks.Task | Sequence[str | tasks.Task],
    width_mult: float | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    features_only: bool = False,
) -> MultiResolutionNet:
    """Return the network that a classification, segmentation or video task trains, head included.

        build(code, "seg")                            # logits (B, 19, H, W)
        build(code, ("seg", "video"))                 # a `MultiHeadNet`: {"seg": ..., "video": ...}
        build(code, "mini-cls", weights="net.safetensors")
        build(code, "seg", features_only=True)        # four maps; .feature_info says which

    Args:
        task: a task, or several for one trunk with a head each.
        width_mult: scales the channels; None: as the task, or the weights' recipe, does.
        weights: a file that `train(..., weights=...)` or `build --keep-weights` wrote, of this code and task.
        features_only: without the head: the output is the last stage's maps, highest resolution first, and
            `feature_info` has their channels and reductions.

    Raises:
        UnknownTaskError: no such task.
        InvalidArgumentError: the task's head is not one of this module's (3D detection), or its networks are
            of another search space; the weights are of another code or task; the tasks have different widths.
        IntegrityError: the weights are damaged.
    """
    if isinstance(task, (str, tasks.Task)):
        return _single(code, _with_head(task), width_mult, weights=weights, features_only=features_only)
    several = [_with_head(each) for each in task]
    if not several or len({each.name for each in several}) < len(several):
        raise InvalidArgumentError("expected distinct tasks, at least one")
    if weights is not None or features_only:
        raise InvalidArgumentError(
            "weights and features_only are for one task; a network for several has a head for each, and "
            "trained weights are of one"
        )
    widths = {each.width_mult for each in several} if width_mult is None else {width_mult}
    if len(widths) > 1:
        each = ", ".join(f"{t.name} {t.width_mult:g}" for t in several)
        raise InvalidArgumentError(f"the tasks' networks have different widths ({each}); give width_mult")
    return MultiHeadNet(code, {t.name: (t.problem, t.num_classes or 1) for t in several}, widths.pop())


def _with_head(task: str | tasks.Task) -> tasks.Task:
    """Return a task whose networks this module makes."""
    if isinstance(task, str):
        # Registered tasks are at hand; to know those of releases opens all that are installed.
        task = tasks.get(task) if tasks.meant(task) else library.task(task)
    if task.space != space.NAME:
        raise InvalidArgumentError(f"the networks of task {task.name!r} are of the space {task.space!r}")
    if task.problem in HEADS and task.num_classes is None:
        raise InvalidArgumentError(
            f"task {task.name!r} does not say how many classes its networks tell apart"
        )
    if task.problem not in HEADS:
        raise InvalidArgumentError(
            f"task {task.name!r} is {task.problem}; expected one of {', '.join(HEADS)}"
            + ("; data_builders.training.train.load reads a detector" if task.problem == "detection" else "")
        )
    return task


def _single(
    code: object,
    task: tasks.Task,
    width_mult: float | None,
    *,
    weights: str | os.PathLike[str] | None,
    features_only: bool,
) -> MultiResolutionNet:
    width, strides = task.width_mult if width_mult is None else width_mult, (2, 2)
    if weights is not None:
        told = trained.read(weights)
        told.check(code, task.name, weights)
        if width_mult not in (None, told.width_mult):
            raise InvalidArgumentError(
                f"{weights} has weights of a network of width {told.width_mult:g}; width_mult is {width_mult}"
            )
        width, strides = told.width_mult, told.stem_strides
    head = None if features_only and weights is None else task.problem
    net = MultiResolutionNet(code, task.num_classes or 1, head, width, stem_strides=strides)
    if weights is not None:
        tensors.load_weights(weights, net)
    if features_only:
        net.head = None
        net.feature_info = FeatureInfo(net.channels[-1], strides)
    return net


def load_pretrained(
    release: str | os.PathLike[str], code: object, task: str, *, features_only: bool = False
) -> MultiResolutionNet:
    """Return the network of a code with the weights that a release has of it, in evaluation mode.

    Args:
        release: "name" or "name@version", whose weights are installed (nasbench-mr weights), or their folder.
        task: its name.
        features_only: see `build`.

    Raises:
        ReleaseNotFoundError: no weights of the release are installed.
        CodeNotFoundError, UnknownTaskError: there are none of this code or task.
        IntegrityError: the file is damaged.
        InvalidArgumentError: see `build`.
    """
    described = _with_head(task)
    file: Path = trained.find(release).file(code, described.name)
    net = build(code, described, weights=file, features_only=features_only)
    return net.eval()


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear (align_corners false) to `size` = (H, W); the input itself where it has that size."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def initialize(module: nn.Module) -> None:
    """Kaiming normal (fan out, ReLU) for convolutions, zero biases, ones and zeros for batch norms."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.ones_(m.weight)
            nn.init.zeros_(m.bias)
