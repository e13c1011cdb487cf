"""Links between a primary and its auxiliary networks: gates, fusion, and what is left when they close.

After stage k, a network's map of a group is fused with the other network's maps of that group (Gao et al.,
"Aux-NAS", ICLR 2024):

    P_k <- P_k + W_k [ sigmoid(alpha_jk) A_j  for j <= k < j + reach ]

where A_j are the maps as stage j gave them, before any fusion, and W_k is a 1x1 convolution over their
concatenation, zero at first, so that training starts from the separate networks. The published code allows a
batch norm and a ReLU after the sum (`norm="sum"`); the identity path of a residual unit then keeps the norm
from being folded away, so it stays in the exported network. `norm="link"` puts both around what the link
adds, before the stage's last ReLU:

    P_k <- ReLU( P'_k + ReLU(BN(W_k [...])) )

With its gates closed such a link adds a constant a channel, which `SearchNetwork.export` folds into a bias.

`SearchNetwork` is what is trained: `Single`, `Shared` (Aux-Head) and `Linked` (Aux-G and Aux-NAS).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.network import Head
from nasbench_mr.search.auxnas.networks import Maps, Port, Staged

#: Links join stages at most this far apart: k - j < REACH.
REACH = 3
#: Gates at the start: primary to auxiliary, auxiliary to primary.
TO_AUXILIARY, TO_PRIMARY = 0.5, 0.001

Ports = Sequence[Sequence[Port]]


class Edge(NamedTuple):
    """One gate: from a source network's stage and group of maps to a target's; all counted from 0."""

    source: int
    target: int
    group: int
    into: int

    def __str__(self) -> str:
        groups = f"{self.group + 1}" if self.group == self.into else f"{self.group + 1} to {self.into + 1}"
        return f"stage {self.source + 1} to {self.target + 1}, group {groups}"


class Links(nn.Module):
    """All links from one network to another.

    Args:
        source, target: the networks' ports.
        gate: the gates' values at the start, in (0, 1); 1 fixes them open, without a parameter.
        reach: a target's stage k reads the source's stages j with 0 <= k - j < reach.
        norm: batch norm and ReLU around what is added.
        fusion: what the 1x1 convolutions start as: "zero"; "identity", the mean of the gated maps; "kaiming".
        across: also link maps of different groups, resized.

    Attributes:
        edges: what each gate belongs to.
        alpha: `(edges,)` the gates' logits, or None where they are fixed.

    Raises:
        InvalidArgumentError: the networks have different numbers of stages, maps of a group have different
            strides, or no two stages can be linked.
    """

    alpha: nn.Parameter | None
    opened: Tensor

    def __init__(
        self,
        source: Ports,
        target: Ports,
        gate: float = TO_AUXILIARY,
        reach: int = REACH,
        *,
        norm: bool = False,
        fusion: str = "zero",
        across: bool = False,
    ):
        super().__init__()
        if len(source) != len(target):
            raise InvalidArgumentError(
                f"the networks have {len(target)} and {len(source)} stages; expected equal numbers"
            )
        if not 0 < gate <= 1:
            raise InvalidArgumentError(f"a gate starts at {gate}; expected a number in (0, 1]")
        if reach < 1:
            raise InvalidArgumentError(f"reach is {reach}; expected at least 1")
        self.norm = norm
        edges: list[Edge] = []
        #: For (stage, slot) of the target: the source's (stage, slot), and the first of their gates.
        self.inputs: dict[tuple[int, int], tuple[list[tuple[int, int]], int]] = {}
        self.fusions = nn.ModuleDict()
        for k, ports in enumerate(target):
            for slot, port in enumerate(ports):
                found = [
                    (j, s, p)
                    for j in range(max(0, k - reach + 1), k + 1)
                    for s, p in enumerate(source[j])
                    if across or p.group == port.group
                ]
                for j, _, p in found:
                    if p.stride != port.stride and not across:
                        raise InvalidArgumentError(
                            f"maps of stride {p.stride} (stage {j + 1}) and {port.stride} (stage {k + 1}) "
                            "can't be linked; expected networks of equal strides"
                        )
                if found:
                    self.inputs[k, slot] = [(j, s) for j, s, _ in found], len(edges)
                    edges += [Edge(j, k, p.group, port.group) for j, _, p in found]
                    layers: list[nn.Module] = [
                        _fusion([p.channels for *_, p in found], port.channels, fusion)
                    ]
                    layers += [nn.BatchNorm2d(port.channels)] if norm else []
                    self.fusions[_name(k, slot)] = nn.Sequential(*layers)
        if not edges:
            raise InvalidArgumentError("the networks have no stages to link: too few, or in no common group")
        self.edges = tuple(edges)
        self.alpha = (
            None if gate == 1 else nn.Parameter(torch.full((len(edges),), math.log(gate / (1 - gate))))
        )
        self.register_buffer("opened", torch.ones(len(edges)), persistent=False)
        # The gate of each input channel of each fusion.
        for (k, slot), (inputs, first) in self.inputs.items():
            counts = torch.tensor([source[j][s].channels for j, s in inputs])
            gate_of = torch.arange(first, first + len(inputs)).repeat_interleave(counts)
            self.register_buffer(f"gate_of_{_name(k, slot)}", gate_of, persistent=False)

    def gates(self) -> Tensor:
        """Return the gates' values, `(edges,)` in [0, 1]."""
        return self.opened if self.alpha is None else self.alpha.sigmoid()

    def added(
        self, k: int, slot: int, history: Sequence[Maps], gates: Tensor, *, size: torch.Size | None = None
    ) -> Tensor | None:
        """Return what is added to the target's map: `(B, C, h, w)`, or None where there is no link.

        Args:
            history: the source's maps of stages 0 to k, before fusion.
            gates: `self.gates()`, computed once for all stages.
            size: (h, w) of the target's map; None: as the source's.
        """
        if (k, slot) not in self.inputs:
            return None
        inputs, _ = self.inputs[k, slot]
        maps = [history[j][s] for j, s in inputs]
        if size is not None:
            maps = [m if m.shape[-2:] == size else F.interpolate(m, size, mode="bilinear") for m in maps]
        joined = maps[0] if len(maps) == 1 else torch.cat(maps, dim=1)
        fusion, *norm = self._layers(k, slot)
        weight = fusion.weight
        if self.alpha is not None:
            # Scaling the weights is the same as scaling the maps, and there are fewer of them.
            weight = weight * gates[getattr(self, f"gate_of_{_name(k, slot)}")][:, None, None]
        y = F.conv2d(joined, weight)
        return self._activated(norm[0](y) if norm else y)

    def constant(self, k: int, slot: int) -> Tensor | None:
        """Return what is added in evaluation with all gates closed: `(C,)`, or None where it is nothing."""
        if not self.norm or (k, slot) not in self.inputs:
            return None
        _, bn = self._layers(k, slot)
        zero = bn.bias - bn.running_mean * bn.weight / (bn.running_var + bn.eps).sqrt()
        return self._activated(zero)

    def _layers(self, k: int, slot: int) -> list[Any]:
        """Return the 1x1 convolution, and the norm if there is one."""
        return list(self.fusions[_name(k, slot)].children())

    def _activated(self, y: Tensor) -> Tensor:
        # A ReLU whose gradient at 0 is 1: with a plain one, a link that starts at 0 would never learn.
        return y.clamp(min=0) if self.norm else y


def _fusion(sources: Sequence[int], channels: int, start: str) -> nn.Conv2d:
    """Return the 1x1 convolution over maps of so many channels each."""
    made = nn.Conv2d(sum(sources), channels, 1, bias=False)
    if start == "kaiming":
        nn.init.kaiming_normal_(made.weight, nonlinearity="linear")
    elif start == "identity":
        blocks = [torch.eye(channels, width) / len(sources) for width in sources]
        made.weight.data = torch.cat(blocks, 1)[:, :, None, None]
    else:
        nn.init.zeros_(made.weight)
    return made


def _name(k: int, slot: int) -> str:
    return f"{k}_{slot}"


class Norms(nn.Module):
    """A batch norm and a ReLU after the sum of each map of a network."""

    def __init__(self, ports: Ports):
        super().__init__()
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(port.channels) for port in stage) for stage in ports
        )

    def forward(self, k: int, maps: Maps) -> Maps:
        stage: Any = self.norms[k]
        return [F.relu(norm(y)) for norm, y in zip(stage, maps, strict=True)]


class Normed(nn.Module):
    """A network with the norms that followed its links: what `norm="sum"` leaves."""

    def __init__(self, network: Staged, norms: Norms):
        super().__init__()
        self.network, self.norms = network, norms

    def forward(self, x: Tensor) -> Tensor:
        maps, finished = self.network.begin(x), []
        for k in range(len(self.network.ports)):
            maps = self.norms(k, self.network.finish(self.network.stage(k, maps)))
            finished.append(maps)
        size = x.shape[-2:]
        return self.network.head(self.network.gather(finished, size), size)  # type: ignore[no-any-return]


class SearchNetwork(nn.Module):
    """A primary network and what helps to train it; its output is a tuple, the primary's first.

    Attributes:
        cut: links to the primary are gone, in training too.
    """

    def __init__(self, primary: Staged):
        super().__init__()
        self.primary = primary
        self.cut = False

    def to_primary(self) -> tuple[Links, ...]:
        """Return the links to the primary, which evaluation closes: one set an auxiliary."""
        return ()

    def to_auxiliary(self) -> tuple[Links, ...]:
        """Return the links from the primary, one set an auxiliary."""
        return ()

    def alphas(self) -> list[nn.Parameter]:
        """Return the gates' parameters; all others are weights."""
        every = (*self.to_primary(), *self.to_auxiliary())
        return [links.alpha for links in every if links.alpha is not None]

    def trunk(self) -> list[nn.Parameter]:
        """Return the primary's parameters below its head: what all tasks may shape."""
        head = {id(p) for p in self.primary.head.parameters()}
        return [p for p in self.primary.parameters() if id(p) not in head]

    def weights(self) -> list[nn.Parameter]:
        """Return all parameters but the gates'."""
        gates = {id(alpha) for alpha in self.alphas()}
        return [p for p in self.parameters() if id(p) not in gates]

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the weights by what they belong to: "backbone", "heads", "links"."""
        kinds: dict[str, Any] = {"heads": Head, "links": (Links, Norms)}
        of = {
            id(p): name
            for name, kind in kinds.items()
            for module in self.modules()
            if isinstance(module, kind)
            for p in module.parameters()
        }
        found: dict[str, list[nn.Parameter]] = {"backbone": [], "heads": [], "links": []}
        for weight in self.weights():
            found[of.get(id(weight), "backbone")].append(weight)
        return found

    @torch.no_grad()
    def export(self) -> nn.Module:
        """Return the primary network alone, in evaluation mode: no link, no auxiliary, no extra layer.

        It computes what this network's first output is in evaluation mode.
        """
        primary = copy.deepcopy(self.primary).eval()
        for links in self.to_primary():
            for k, slot in links.inputs:
                constant = links.constant(k, slot)
                if constant is not None:
                    primary.shift(k, slot, constant)
        return primary.plain()


class Single(SearchNetwork):
    """The single-task network."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.primary(x),)


class Shared(SearchNetwork):
    """Aux-Head: one backbone, a head for each task.

    Args:
        heads: for each auxiliary: outputs, and whether one a pixel or one an image.
    """

    def __init__(self, primary: Staged, heads: Sequence[tuple[int, bool]]):
        super().__init__(primary)
        self.heads = nn.ModuleList(primary.new_head(outputs, dense) for outputs, dense in heads)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.primary.features(x)
        return tuple(head(features, x.shape[-2:]) for head in (self.primary.head, *self.heads))


class Linked(SearchNetwork):
    """Aux-NAS or Aux-G: a network for each task, linked stage by stage.

    Each auxiliary is linked with the primary alone, so the cost is linear in their number.

    Args:
        gates: the gates' values at the start, to the auxiliaries and to the primary: None for no links that
            way, 1 for links that are fixed open. Aux-G is (1, None).
        norm: "none", or where batch norm and ReLU are: around the "link", or after the "sum".
        reach, fusion, across: see `Links`.

    Attributes:
        closed: evaluation closes the gates to the primary; False leaves them as they are, to see what
            closing them costs.
    """

    def __init__(
        self,
        primary: Staged,
        auxiliaries: Sequence[Staged],
        *,
        gates: tuple[float | None, float | None] = (TO_AUXILIARY, TO_PRIMARY),
        norm: str = "none",
        reach: int = REACH,
        fusion: str = "zero",
        across: bool = False,
    ):
        super().__init__(primary)
        self.auxiliaries = nn.ModuleList(auxiliaries)

        def join(source: Staged, target: Staged, gate: float) -> Links:
            return Links(
                source.ports, target.ports, gate, reach, norm=norm == "link", fusion=fusion, across=across
            )

        out, back = gates
        self.out = nn.ModuleList(join(primary, a, out) for a in auxiliaries if out is not None)
        self.back = nn.ModuleList(join(a, primary, back) for a in auxiliaries if back is not None)
        self.norm = norm
        linked = [back is not None, *(out is not None for _ in auxiliaries)]
        #: For each network: what follows the sum.
        self.norms = nn.ModuleList(
            Norms(net.ports) if norm == "sum" and into else nn.Identity()
            for net, into in zip([primary, *auxiliaries], linked, strict=True)
        )
        self.closed = True

    def to_primary(self) -> tuple[Links, ...]:
        return tuple(self.back)  # type: ignore[arg-type]

    def to_auxiliary(self) -> tuple[Links, ...]:
        return tuple(self.out)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        nets: list[Any] = [self.primary, *self.auxiliaries]
        # Into each network: the links, the network they come from, and their gates.
        into: list[list[tuple[Links, int, Tensor]]] = [[] for _ in nets]
        for n, links in enumerate(self.to_primary(), start=1):
            into[0].append((links, n, links.gates()))
        for n, links in enumerate(self.to_auxiliary(), start=1):
            into[n].append((links, 0, links.gates()))
        maps = [net.begin(x) for net in nets]
        seen: list[list[Maps]] = [[] for _ in nets]
        fused: list[list[Maps]] = [[] for _ in nets]
        for k in range(len(self.primary.ports)):
            raw = [net.stage(k, m) for net, m in zip(nets, maps, strict=True)]
            for history, net, stage in zip(seen, nets, raw, strict=True):
                history.append(net.finish(stage))
            for n, net in enumerate(nets):
                base = raw[n] if self.norm == "link" else seen[n][k]
                joined = []
                for slot, y in enumerate(base):
                    for links, source, gates in into[n]:
                        closed = n == 0 and (self.cut or (self.closed and not self.training))
                        added = (
                            self._closed(links, k, slot)
                            if closed
                            else links.added(k, slot, seen[source], gates, size=y.shape[-2:])
                        )
                        y = y if added is None else y + added
                    joined.append(y)
                if self.norm == "link":
                    joined = net.finish(joined)
                elif isinstance(self.norms[n], Norms):
                    joined = self.norms[n](k, joined)
                maps[n] = joined
                fused[n].append(joined)
        size = x.shape[-2:]
        return tuple(net.head(net.gather(f, size), size) for net, f in zip(nets, fused, strict=True))

    @torch.no_grad()
    def export(self) -> nn.Module:
        norms = self.norms[0]
        if isinstance(norms, Norms):
            return copy.deepcopy(Normed(self.primary, norms)).eval()
        return super().export()

    @staticmethod
    def _closed(links: Links, k: int, slot: int) -> Tensor | None:
        constant = links.constant(k, slot)
        return None if constant is None else constant[:, None, None]
