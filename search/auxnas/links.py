"""Links between a primary and its auxiliary networks: gates, fusion, and what is left when they close.

After stage k, a network's map of a group is fused with the other network's maps of that group (Gao et al.,
"Aux-NAS", ICLR 2024):

    P_k <- P_k + W_k [ sigmoid(alpha_jk) A_j  for j <= k < j + reach ]

where A_j are the maps as stage j gave them, before any fusion, and W_k is a 1x1 convolution over their
concatenation, zero at first, so that training starts from the separate networks. The published code allows a
batch norm and a ReLU after the sum; the identity path of a residual unit then keeps the norm from being
folded away. So here `norm=True` puts both around what the link adds, before the stage's last ReLU:

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
from nasbench_mr.search.auxnas.network import Maps, Port, Staged

#: Links join stages at most this far apart: k - j < REACH.
REACH = 3
#: Gates at the start: primary to auxiliary, auxiliary to primary.
TO_AUXILIARY, TO_PRIMARY = 0.5, 0.001

Ports = Sequence[Sequence[Port]]


class Edge(NamedTuple):
    """One gate: from a source network's stage to a target's, in a group of maps; all counted from 0."""

    source: int
    target: int
    group: int

    def __str__(self) -> str:
        return f"stage {self.source + 1} to {self.target + 1}, group {self.group + 1}"


class Links(nn.Module):
    """All links from one network to another.

    Args:
        source, target: the networks' ports.
        gate: the gates' values at the start, in (0, 1); 1 fixes them open, without a parameter.
        reach: a target's stage k reads the source's stages j with 0 <= k - j < reach.
        norm: see above.

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
        self, source: Ports, target: Ports, gate: float = TO_AUXILIARY, reach: int = REACH, norm: bool = False
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
                    if p.group == port.group
                ]
                for j, _, p in found:
                    if p.stride != port.stride:
                        raise InvalidArgumentError(
                            f"maps of stride {p.stride} (stage {j + 1}) and {port.stride} (stage {k + 1}) "
                            "can't be linked; expected networks of equal strides"
                        )
                if found:
                    self.inputs[k, slot] = [(j, s) for j, s, _ in found], len(edges)
                    edges += [Edge(j, k, port.group) for j, _, _ in found]
                    fusion = nn.Conv2d(sum(p.channels for *_, p in found), port.channels, 1, bias=False)
                    nn.init.zeros_(fusion.weight)
                    layers = [fusion, *([nn.BatchNorm2d(port.channels)] if norm else [])]
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
        """`(edges,)` in [0, 1]."""
        return self.opened if self.alpha is None else self.alpha.sigmoid()

    def added(self, k: int, slot: int, history: Sequence[Maps], gates: Tensor) -> Tensor | None:
        """What is added to the target's map: `(B, C, h, w)`, or None where there is no link.

        Args:
            history: the source's maps of stages 0 to k, before fusion.
            gates: `self.gates()`, computed once for all stages.
        """
        if (k, slot) not in self.inputs:
            return None
        inputs, _ = self.inputs[k, slot]
        maps = [history[j][s] for j, s in inputs]
        joined = maps[0] if len(maps) == 1 else torch.cat(maps, dim=1)
        fusion, *norm = self._layers(k, slot)
        weight = fusion.weight
        if self.alpha is not None:
            # Scaling the weights is the same as scaling the maps, and there are fewer of them.
            weight = weight * gates[getattr(self, f"gate_of_{_name(k, slot)}")][:, None, None]
        y = F.conv2d(joined, weight)
        return self._activated(norm[0](y) if norm else y)

    def constant(self, k: int, slot: int) -> Tensor | None:
        """What is added with all gates closed: `(C,)` in evaluation mode, or None where it is nothing."""
        if not self.norm or (k, slot) not in self.inputs:
            return None
        _, bn = self._layers(k, slot)
        zero = bn.bias - bn.running_mean * bn.weight / (bn.running_var + bn.eps).sqrt()
        return self._activated(zero)

    def _layers(self, k: int, slot: int) -> list[Any]:
        """The 1x1 convolution, and the norm if there is one."""
        return list(self.fusions[_name(k, slot)].children())

    def _activated(self, y: Tensor) -> Tensor:
        # A ReLU whose gradient at 0 is 1: with a plain one, a link that starts at 0 would never learn.
        return y.clamp(min=0) if self.norm else y


def _name(k: int, slot: int) -> str:
    return f"{k}_{slot}"


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
        """The links that the primary would have to do without, one set an auxiliary."""
        return ()

    def to_auxiliary(self) -> tuple[Links, ...]:
        """The links from the primary, one set an auxiliary."""
        return ()

    def alphas(self) -> list[nn.Parameter]:
        """The gates' parameters; all others are weights."""
        every = (*self.to_primary(), *self.to_auxiliary())
        return [links.alpha for links in every if links.alpha is not None]

    def trunk(self) -> list[nn.Parameter]:
        """The primary's parameters below its head: what all tasks may shape."""
        head = {id(p) for p in self.primary.head.parameters()}
        return [p for p in self.primary.parameters() if id(p) not in head]

    def weights(self) -> list[nn.Parameter]:
        """All parameters but the gates'."""
        gates = {id(alpha) for alpha in self.alphas()}
        return [p for p in self.parameters() if id(p) not in gates]

    @torch.no_grad()
    def export(self) -> nn.Module:
        """The primary network alone, in evaluation mode: no link, no auxiliary, no extra layer.

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
    """Aux-NAS, or with `both_ways=False` Aux-G: a network for each task, linked stage by stage.

    Each auxiliary is linked with the primary alone, so the cost is linear in their number.

    Args:
        both_ways: also link the auxiliaries to the primary. Without (Aux-G), the gates to the auxiliaries are
            fixed open.
        gates: the gates' values at the start: to the auxiliaries, to the primary.
        reach, norm: see `Links`.

    Attributes:
        closed: evaluation closes the gates to the primary; False leaves them as they are, to see what
            closing them costs.
    """

    def __init__(
        self,
        primary: Staged,
        auxiliaries: Sequence[Staged],
        both_ways: bool = True,
        gates: tuple[float, float] = (TO_AUXILIARY, TO_PRIMARY),
        reach: int = REACH,
        norm: bool = False,
    ):
        super().__init__(primary)
        self.auxiliaries = nn.ModuleList(auxiliaries)
        first = gates[0] if both_ways else 1.0
        self.out = nn.ModuleList(Links(primary.ports, a.ports, first, reach, norm) for a in auxiliaries)
        self.back = nn.ModuleList(
            Links(a.ports, primary.ports, gates[1], reach, norm) for a in auxiliaries if both_ways
        )
        self.norm = norm
        self.closed = True

    def to_primary(self) -> tuple[Links, ...]:
        return tuple(self.back)  # type: ignore[arg-type]

    def to_auxiliary(self) -> tuple[Links, ...]:
        return tuple(self.out)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        nets: list[Any] = [self.primary, *self.auxiliaries]
        # Into each network: the links, the network they come from, and their gates.
        into = [[(links, 1 + a, links.gates()) for a, links in enumerate(self.to_primary())]]
        into += [[(links, 0, links.gates())] for links in self.to_auxiliary()]
        maps = [net.begin(x) for net in nets]
        seen: list[list[Maps]] = [[] for _ in nets]
        fused: list[list[Maps]] = [[] for _ in nets]
        for k in range(len(self.primary.ports)):
            raw = [net.stage(k, m) for net, m in zip(nets, maps, strict=True)]
            for history, net, stage in zip(seen, nets, raw, strict=True):
                history.append(net.finish(stage))
            for n, net in enumerate(nets):
                base = raw[n] if self.norm else seen[n][k]
                joined = []
                for slot, y in enumerate(base):
                    for links, source, gates in into[n]:
                        closed = n == 0 and (self.cut or (self.closed and not self.training))
                        added = (
                            self._closed(links, k, slot)
                            if closed
                            else links.added(k, slot, seen[source], gates)
                        )
                        y = y if added is None else y + added
                    joined.append(y)
                maps[n] = net.finish(joined) if self.norm else joined
                fused[n].append(maps[n])
        size = x.shape[-2:]
        return tuple(net.head(net.gather(f, size), size) for net, f in zip(nets, fused, strict=True))

    @staticmethod
    def _closed(links: Links, k: int, slot: int) -> Tensor | None:
        constant = links.constant(k, slot)
        return None if constant is None else constant[:, None, None]
