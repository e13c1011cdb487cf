"""Networks seen stage by stage, so that Aux-NAS can link two of them: `build` makes one.

A `Staged` network is a stem, stages and a head. After each stage it shows its maps (`ports` says how many,
with what channels and stride), and anything may be added to them before the next stage reads them. A new
backbone is a subclass with `begin`, `stage`, `gather` and `shift`, and a line in `BACKBONES`.

A stage stops short of its last ReLU, where it ends in one: `finish` applies it. So a constant that a link
leaves behind can be folded into the bias of the last layer (`shift`), and nothing of the link remains.
"""

from __future__ import annotations

import abc
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench_mr import space
from nasbench_mr.errors import (
    InvalidArgumentError,
    NasbenchMRError,
    UnknownNameError,
    did_you_mean,
)
from nasbench_mr.extras import requires
from nasbench_mr.network import Head, MultiResolutionNet, initialize
from nasbench_mr.plugins import Registry

Maps = list[Tensor]


class Port(NamedTuple):
    """A map that a stage shows: `(B, channels, H / stride, W / stride)`.

    Maps are only linked to maps of the same `group`: a branch, or a run of stages at one resolution.
    """

    channels: int
    stride: int
    group: int


class Staged(nn.Module, abc.ABC):
    """A single-task network as stem, stages and head.

    Attributes:
        ports: the maps that each stage shows, stage by stage.
        head: from what `gather` gives and the input's (H, W) to the output.
    """

    ports: tuple[tuple[Port, ...], ...]
    head: Head

    @abc.abstractmethod
    def begin(self, x: Tensor) -> Maps:
        """Apply the stem: from the image `(B, 3, H, W)` to what the first stage reads."""

    @abc.abstractmethod
    def stage(self, k: int, maps: Maps) -> Maps:
        """Apply stage k without its last activation: one map for each of `ports[k]`."""

    def finish(self, maps: Maps) -> Maps:
        """Apply the activation that ends every stage."""
        return [F.relu(m) for m in maps]

    @abc.abstractmethod
    def gather(self, finished: Sequence[Maps], size: Sequence[int]) -> Maps:
        """Return the head's input, from all stages' maps; `size` is the image's (H, W)."""

    @abc.abstractmethod
    def shift(self, k: int, slot: int, constant: Tensor) -> None:
        """Add `(channels,)` constants to what stage k gives for `ports[k][slot]`, by changing a bias."""

    def plain(self) -> nn.Module:
        """Return the ordinary module that computes the same as `forward`, sharing its parameters."""
        return self

    def new_head(self, outputs: int, dense: bool) -> Head:
        """Return a second head for this network's features."""
        joined = self.head.conv[0]
        assert isinstance(joined, nn.Conv2d)
        made = _head([joined.in_channels], self.head.classifier.in_channels, outputs, dense)
        initialize(made)
        return made

    def features(self, x: Tensor) -> Maps:
        """Return the head's input, from the image."""
        maps, finished = self.begin(x), []
        for k in range(len(self.ports)):
            maps = self.finish(self.stage(k, maps))
            finished.append(maps)
        return self.gather(finished, x.shape[-2:])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x), x.shape[-2:])  # type: ignore[no-any-return]


def _head(c_in: Sequence[int], channels: int, outputs: int, dense: bool) -> Head:
    return Head(c_in, channels, outputs, "segmentation" if dense else "classification")


class StagedMultiResolution(Staged):
    """The network of a code, of four stages; stage s shows its s branches, and each branch is a group."""

    def __init__(self, net: MultiResolutionNet, stem_stride: int):
        super().__init__()
        assert net.head is not None
        self.net = net
        self.ports = tuple(
            tuple(Port(c, stem_stride << branch, branch) for branch, c in enumerate(stage))
            for stage in net.channels
        )

    @property
    def head(self) -> Head:  # type: ignore[override]
        assert self.net.head is not None
        return self.net.head

    def begin(self, x: Tensor) -> Maps:
        if min(x.shape[-2:]) < 32:
            raise InvalidArgumentError(
                f"images of {tuple(x.shape[-2:])} pixels; expected at least 32 on a side"
            )
        return [self.net.stem(x)]

    def stage(self, k: int, maps: Maps) -> Maps:
        *modules, last = self._modules_of(k)
        for module in modules:
            maps = module(maps)
        sums = []
        for branch, x in zip(last.branches, maps, strict=True):
            *units, final = branch
            for unit in units:
                x = unit(x)
            sums.append(final.before_relu(x))
        return sums

    def _modules_of(self, k: int) -> list[Any]:
        """Stage k's fusion and parallel modules in order, a parallel one last."""
        return list(self.net.stages[k].children())

    def gather(self, finished: Sequence[Maps], size: Sequence[int]) -> Maps:
        return finished[-1]

    def shift(self, k: int, slot: int, constant: Tensor) -> None:
        self._modules_of(k)[-1].branches[slot][-1].bn2.bias.data += constant

    def plain(self) -> nn.Module:
        return self.net


class _Chain(Staged):
    """Blocks one after the other, each a stage of one map. The head reads the last map of several groups."""

    def __init__(self, ports: Sequence[Port], outputs: int, dense: bool, *, groups: int, head_channels: int):
        """
        Args:
            groups: how many of the last groups the head joins.
        """
        super().__init__()
        self.ports = tuple((port,) for port in ports)
        ends = [k for k, p in enumerate(ports) if k + 1 == len(ports) or ports[k + 1].group != p.group]
        self.read = ends[-groups:]
        self.head = _head([ports[k].channels for k in self.read], head_channels, outputs, dense)
        initialize(self.head)

    def gather(self, finished: Sequence[Maps], size: Sequence[int]) -> Maps:
        return [finished[k][0] for k in self.read]


class VGG16(_Chain):
    """VGG-16 (Simonyan and Zisserman, 2015) with batch norms; each of its 13 convolutions is a stage.

    Args:
        width: channels of the first group; 64 as published.
    """

    def __init__(
        self,
        outputs: int,
        dense: bool,
        size: tuple[int, int],
        *,
        width: int = 64,
        head_channels: int = 256,
    ):
        ports, previous, convs = [], 3, []
        for group, (depth, factor) in enumerate(((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))):
            for _ in range(depth):
                ports.append(Port(width * factor, 2**group, group))
                convs.append(
                    nn.Sequential(
                        nn.Conv2d(previous, width * factor, 3, padding=1, bias=False),
                        nn.BatchNorm2d(width * factor),
                    )
                )
                previous = width * factor
        super().__init__(ports, outputs, dense, groups=3, head_channels=head_channels)
        self.convs = nn.ModuleList(convs)
        initialize(self.convs)

    def begin(self, x: Tensor) -> Maps:
        return [x]

    def stage(self, k: int, maps: Maps) -> Maps:
        x = maps[0]
        if k and self.ports[k][0].group != self.ports[k - 1][0].group:
            x = F.max_pool2d(x, 2)
        return [self.convs[k](x)]

    def shift(self, k: int, slot: int, constant: Tensor) -> None:
        norm: Any = self.convs[k].get_submodule("1")
        norm.bias.data += constant


class ResNet(_Chain):
    """ResNet from transformers' `ResNetModel`; each residual block is a stage. ResNet-50 by default.

    Args:
        checkpoint: a local folder to take weights and configuration from; random weights by default.
        configuration: such a folder's config.json alone; the weights are random.
        options: fields of `ResNetConfig`, such as `depths` and `hidden_sizes`.
    """

    def __init__(
        self,
        outputs: int,
        dense: bool,
        size: tuple[int, int],
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        configuration: str | os.PathLike[str] | None = None,
        head_channels: int = 256,
        **options: Any,
    ):
        model = _pretrained("ResNet", checkpoint, configuration, options)
        blocks = [block for stage in model.encoder.stages for block in stage.layers]
        groups = [g for g, stage in enumerate(model.encoder.stages) for _ in stage.layers]
        sizes = model.config.hidden_sizes
        ports = [Port(sizes[g], 4 << g, g) for g in groups]
        super().__init__(ports, outputs, dense, groups=3, head_channels=head_channels)
        self.embedder = model.embedder
        self.blocks = nn.ModuleList(blocks)

    def begin(self, x: Tensor) -> Maps:
        return [self.embedder(x)]

    def stage(self, k: int, maps: Maps) -> Maps:
        block: Any = self.blocks[k]
        return [block.layer(maps[0]) + block.shortcut(maps[0])]

    def shift(self, k: int, slot: int, constant: Tensor) -> None:
        block: Any = self.blocks[k]
        block.layer[-1].normalization.bias.data += constant


class ViT(_Chain):
    """Vision transformer from transformers' `ViTModel`; each block is a stage, in four groups.

    Its maps are the tokens as `(B, channels, 1 + h w, 1)`, class token first; the head reads the patches.

    Args:
        size: (H, W) of the images, multiples of the patch size; a checkpoint's positions are interpolated.
        shape: channels of a token, and heads of attention, where neither a checkpoint nor `options` say it.
        checkpoint, configuration, options: as in `ResNet`, with `ViTConfig`; `patch_size` is one of them.
    """

    def __init__(
        self,
        outputs: int,
        dense: bool,
        size: tuple[int, int],
        *,
        shape: tuple[int, int],
        checkpoint: str | os.PathLike[str] | None = None,
        configuration: str | os.PathLike[str] | None = None,
        head_channels: int = 256,
        **options: Any,
    ):
        if checkpoint is None and configuration is None:
            hidden, heads = options.get("hidden_size", shape[0]), options.get("num_attention_heads", shape[1])
            options = {
                "image_size": size, "hidden_size": hidden, "num_attention_heads": heads,
                "intermediate_size": 4 * hidden, **options,
            }  # fmt: skip
        model = _pretrained("ViT", checkpoint, configuration, options)
        config = model.config
        blocks = model.layers if hasattr(model, "layers") else model.encoder.layer
        count, self.patch = len(blocks), int(config.patch_size)
        if size[0] % self.patch or size[1] % self.patch:
            raise InvalidArgumentError(
                f"images are {size} pixels; expected multiples of {self.patch}, the patch"
            )
        if count < 4:
            raise InvalidArgumentError(f"a ViT of {count} blocks; expected at least 4, for four groups")
        groups = [4 * k // count for k in range(count)]
        super().__init__(
            [Port(config.hidden_size, self.patch, g) for g in groups],
            outputs,
            dense,
            groups=4,
            head_channels=head_channels,
        )
        self.interpolate = checkpoint is not None or configuration is not None
        self.embeddings, self.layernorm = model.embeddings, model.layernorm
        self.blocks = nn.ModuleList(blocks)

    def begin(self, x: Tensor) -> Maps:
        return [_as_map(self.embeddings(x, interpolate_pos_encoding=self.interpolate))]

    def stage(self, k: int, maps: Maps) -> Maps:
        tokens = self.blocks[k](_as_tokens(maps[0]))
        # A tuple in transformers 4.
        return [_as_map(tokens[0] if isinstance(tokens, tuple) else tokens)]

    def finish(self, maps: Maps) -> Maps:
        return maps

    def gather(self, finished: Sequence[Maps], size: Sequence[int]) -> Maps:
        maps = super().gather(finished, size)
        maps[-1] = _as_map(self.layernorm(_as_tokens(maps[-1])))
        height, width = size[0] // self.patch, size[1] // self.patch
        return [m[:, :, 1:, 0].reshape(*m.shape[:2], height, width) for m in maps]

    def shift(self, k: int, slot: int, constant: Tensor) -> None:
        *_, last = (m for m in self.blocks[k].modules() if isinstance(m, nn.Linear))
        last.bias.data += constant


def _as_map(tokens: Tensor) -> Tensor:
    return tokens.transpose(1, 2).unsqueeze(-1)  # (B, C, N, 1)


def _as_tokens(x: Tensor) -> Tensor:
    return x.squeeze(-1).transpose(1, 2)  # (B, N, C)


def _pretrained(
    kind: str,
    checkpoint: str | os.PathLike[str] | None,
    configuration: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> Any:
    """Return a `ViTModel` or `ResNetModel`; nothing is ever downloaded."""
    with requires("auxnas", f"the {kind} backbone"):
        import transformers
    config, model = getattr(transformers, f"{kind}Config"), getattr(transformers, f"{kind}Model")
    extra = {"add_pooling_layer": False} if kind == "ViT" else {}
    unknown = [key for key in options if key not in config().to_dict()]
    if unknown:
        raise UnknownNameError(f"no option {unknown[0]!r}: {did_you_mean(unknown[0], config().to_dict())}")
    if checkpoint is not None and configuration is not None:
        raise InvalidArgumentError("a checkpoint and a configuration are given; expected one of them")
    if configuration is not None:
        if not os.path.isfile(configuration):
            raise InvalidArgumentError(f"no configuration file {configuration}")
        try:
            given = config.from_pretrained(configuration, local_files_only=True, **options)
        except OSError as error:
            raise InvalidArgumentError(f"{configuration} is not a {kind} configuration: {error}") from error
        return model(given, **extra)
    if checkpoint is None:
        return model(config(**options), **extra)
    if not os.path.isdir(checkpoint):
        raise InvalidArgumentError(f"no checkpoint folder {checkpoint}")
    try:
        found, report = model.from_pretrained(
            checkpoint, local_files_only=True, output_loading_info=True, **options, **extra
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidArgumentError(f"{checkpoint} is not a {kind} checkpoint: {error}") from error
    # What is missing would be drawn at random, and only a log would say so.
    missing = sorted(map(str, (*report["missing_keys"], *report.get("mismatched_keys", ()))))
    if missing:
        raise InvalidArgumentError(
            f"{checkpoint} is not a checkpoint of this {kind}: it lacks {len(missing)} weights, such as "
            f"{missing[0]}"
        )
    return found


def _multi_resolution(
    outputs: int,
    dense: bool,
    size: tuple[int, int],
    *,
    code: object = None,
    checkpoint: None = None,
    width_mult: float = 1.0,
    stem_strides: tuple[int, int] = (2, 2),
) -> Staged:
    if code is None:
        raise InvalidArgumentError("a multi-resolution network needs a code (--primary-code, or --max-macs)")
    strides = (int(stem_strides[0]), int(stem_strides[1]))
    head = "segmentation" if dense else "classification"
    net = MultiResolutionNet(space.parse(code), outputs, head, width_mult, stem_strides=strides)
    return StagedMultiResolution(net, strides[0] * strides[1])


#: Name: a function of (outputs, dense, (H, W), options) that makes the network.
BACKBONES = Registry[Callable[..., Staged]](
    "backbone",
    {
        "multi-resolution": _multi_resolution,
        "resnet-50": ResNet,
        "vit-base": functools.partial(ViT, shape=(768, 12)),
        "vit-tiny": functools.partial(ViT, shape=(192, 3)),
        "vgg-16": VGG16,
    },
)


def build(
    backbone: str, outputs: int, dense: bool, size: tuple[int, int], /, *, seed: int = 0, **options: Any
) -> Staged:
    """Return a single-task network with random weights (or a checkpoint's), staged.

    Args:
        backbone: one of `BACKBONES`.
        outputs: channels of the output: classes, or values a pixel.
        dense: one output a pixel `(B, outputs, H, W)`, or one an image `(B, outputs)`.
        size: (H, W) of the images.
        seed: of the initial weights.
        options: `code`, `width_mult`, `stem_strides` for "multi-resolution"; `checkpoint`, `configuration`
            and the configuration's fields for ResNet and ViT; `width` for VGG-16; `head_channels` for all
            but the first.

    Raises:
        UnknownNameError: no such backbone or option.
        InvalidArgumentError: an option's value, or a size that the backbone can't read.
    """
    make = BACKBONES[backbone]
    # The weights are drawn by PyTorch's global generator; its state is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = make(outputs, dense, size, **options)
        except NasbenchMRError:
            raise
        except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
            raise UnknownNameError(f"backbone {backbone!r}: {error}") from None
        # A size that it can't read shows now, not in the middle of a training.
        try:
            with torch.no_grad():
                network.eval()(torch.zeros(1, 3, *size))
        except NasbenchMRError:
            raise
        except (RuntimeError, ValueError) as error:
            raise InvalidArgumentError(
                f"backbone {backbone!r} can't read images of {size}: {error}"
            ) from None
        return network.train()
