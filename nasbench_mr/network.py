"""The network a code stands for, in PyTorch.

`build(code, "seg")` gives the network a task trains, head included; `MultiResolutionNet` is the module
itself, with its parts (`stem`, `stages`, `head`) in reach for what links or wraps them. The architecture
is that of NAS-Bench-MR (Ding et al., ICLR 2022), a generalised HRNet: parallel branches at 1/4 ... 1/32
resolution, with repeated fusion between neighbouring ones. Needs the extra `search` or `build`.
"""

from __future__ import annotations

from collections.abc import Sequence

from nasbench_mr import cost, space, tasks
from nasbench_mr.errors import InvalidArgumentError
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


def build(code: object, task: str | tasks.Task, width_mult: float | None = None) -> MultiResolutionNet:
    """Return the network that a classification, segmentation or video task trains, head included.

    Args:
        width_mult: scales the channels; None: as the task does.

    Raises:
        UnknownTaskError: no such task.
        InvalidArgumentError: the task's head is not one of this module's (3D detection), or its networks are
            of another search space.
    """
    task = tasks.get(task) if isinstance(task, str) else task
    if task.space != space.NAME:
        raise InvalidArgumentError(f"the networks of task {task.name!r} are of the space {task.space!r}")
    if task.problem not in HEADS or task.num_classes is None:
        raise InvalidArgumentError(
            f"task {task.name!r} is {task.problem}; expected one of {', '.join(HEADS)}"
        )
    width = task.width_mult if width_mult is None else width_mult
    return MultiResolutionNet(code, task.num_classes, task.problem, width)


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
