"""Staged networks, links, and above all: the exported network is the plain single-task network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from nasbench_mr import cost, space
from nasbench_mr.errors import InvalidArgumentError, UnknownNameError
from nasbench_mr.network import MultiResolutionNet
from nasbench_mr.search.auxnas.links import Linked, Links
from nasbench_mr.search.auxnas.networks import Port, Staged, build

SIZE = (32, 48)
PRIMARY = [8, 8, 1, 1, 8, 2, 1, 1, 8, 16, 1, 1, 1, 1, 8, 8, 16, 1, 1, 1, 1, 1, 8, 8, 8, 16, 24]
AUXILIARY = [16, 8, 2, 1, 16, 1, 2, 1, 8, 8, 1, 1, 1, 1, 16, 8, 8, 1, 1, 1, 1, 1, 8, 16, 8, 8, 16]
OPTIONS = {
    "multi-resolution": {"code": PRIMARY},
    "resnet-50": {
        "depths": [1, 2, 1, 1], "hidden_sizes": [8, 16, 16, 32], "embedding_size": 8, "head_channels": 8,
    },
    "vit-tiny": {"hidden_size": 16, "num_attention_heads": 2, "patch_size": 16, "head_channels": 8},
    "vgg-16": {"width": 2, "head_channels": 8},
}  # fmt: skip


def staged(backbone: str, outputs: int, seed: int = 0, dense: bool = True, **options: object) -> Staged:
    return build(backbone, outputs, dense, SIZE, seed=seed, **{**OPTIONS[backbone], **options})


def trained(network: nn.Module, steps: int = 2) -> nn.Module:
    """Return the network after a few steps, so that links and norms differ from their start."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = network(torch.randn(2, 3, *SIZE, generator=generator))
        sum((y**2).mean() for y in outputs).backward()
        optimizer.step()
    return network.eval()


def graph_of(network: nn.Module, x: torch.Tensor) -> list[tuple[str, str]]:
    """Return the traced operations."""
    return [(node.op, str(node.target)) for node in make_fx(network)(x).graph.nodes]


@pytest.mark.parametrize("backbone", OPTIONS)
@pytest.mark.parametrize("norm", ["none", "link"])
def test_export_is_the_primary_output(backbone: str, norm: bool) -> None:
    other = {"code": AUXILIARY} if backbone == "multi-resolution" else {}
    primary, normals, scene = (
        staged(backbone, 5), staged(backbone, 3, 1, **other), staged(backbone, 7, 2, False, **other)
    )  # fmt: skip
    plain = copy.deepcopy(primary.plain())
    network = trained(Linked(primary, [normals, scene], norm=norm))
    for links in network.to_primary():
        for module in links.modules():
            # Biases that are far from 0, so that a norm which is not folded would show.
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.bias, generator=torch.Generator().manual_seed(1))
    network.double()
    x = torch.randn(2, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        outputs = network(x)
        exported = network.export()
        assert [tuple(y.shape) for y in outputs] == [(2, 5, *SIZE), (2, 3, *SIZE), (2, 7)]
        torch.testing.assert_close(exported(x), outputs[0], atol=1e-5, rtol=0)
        if norm == "link":
            # The constants matter: without them the output is another one.
            assert (primary.plain()(x) - outputs[0]).abs().max() > 1e-3
        network.closed = False
        assert (network(x)[0] - outputs[0]).abs().max() > 0
    assert type(exported) is type(plain)
    # The same operations in the same order, and as many of them, as in a network that had no links.
    with FlopCounterMode(display=False) as ours:
        graph = graph_of(exported.float(), x.float())
    with FlopCounterMode(display=False) as theirs:
        assert graph == graph_of(plain.eval(), x.float())
    assert ours.get_total_flops() == theirs.get_total_flops() > 0
    assert {k: v.shape for k, v in exported.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }


@pytest.mark.parametrize("norm", ["none", "link"])
def test_export_costs_what_the_code_costs(norm: bool) -> None:
    network = Linked(
        staged("multi-resolution", 5), [staged("multi-resolution", 3, 1, code=AUXILIARY)], norm=norm
    )
    exported = trained(network).export()
    alone = MultiResolutionNet(PRIMARY, 5, "segmentation").eval()
    counted = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal counted
        if isinstance(module, nn.Conv2d):
            c_out, c_in, height, width = module.weight.shape
            counted += (height * width * c_in + (module.bias is not None)) * c_out * output[0, 0].numel()
        elif isinstance(module, nn.BatchNorm2d):
            counted += 2 * output[0].numel()

    for module in exported.modules():
        module.register_forward_hook(count)
    x = torch.zeros(1, 3, 64, 64)
    exported(x)
    assert counted == cost.macs([PRIMARY], 64, 5, head="segmentation")[0]
    assert sum(p.numel() for p in exported.parameters()) == cost.params([PRIMARY], 5)[0]
    for module in exported.modules():
        module._forward_hooks.clear()
    assert graph_of(exported, x) == graph_of(alone, x)


def test_links_start_from_the_separate_networks() -> None:
    primary, auxiliary = staged("multi-resolution", 5), staged("multi-resolution", 3, 1, code=AUXILIARY)
    x = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    for norm in ("none", "link"):
        network = Linked(primary, [auxiliary], norm=norm).train()
        apart = [copy.deepcopy(primary).train()(x), copy.deepcopy(auxiliary).train()(x)]
        for fused, alone in zip(network(x), apart, strict=True):
            torch.testing.assert_close(fused, alone)
        sum((y**2).mean() for y in network(x)).backward()
        for links in (*network.to_primary(), *network.to_auxiliary()):
            for name, weight in links.fusions.named_parameters():
                # Links learn from the first step on, also through the ReLU at 0.
                assert name.endswith("1.weight") or weight.grad.abs().max() > 0, name


def test_edges_keep_to_the_limits() -> None:
    # One stage after another, two groups: 0 0 0 0 | 1 1.
    ports = [[Port(4, 4, 0)]] * 4 + [[Port(8, 8, 1)]] * 2
    links = Links(ports, ports)
    pairs = [(edge.source, edge.target) for edge in links.edges]
    assert pairs == [
        (0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2), (1, 3), (2, 3), (3, 3), (4, 4), (4, 5), (5, 5),
    ]  # fmt: skip
    # The published count for ViT-Base: twelve blocks in four groups, 24 gates each way.
    vit = [[Port(4, 16, k // 3)] for k in range(12)]
    assert len(Links(vit, vit).edges) == 24
    # Branch k of a multi-resolution network appears in stage k: 9 + 6 + 3 + 1.
    assert len(Links(*[staged("multi-resolution", 3).ports] * 2).edges) == 19
    assert len(Links(vit, vit, reach=1).edges) == 12


def test_gate_values_and_fusion() -> None:
    ports = [[Port(1, 4, 0)]] * 2
    links = Links(ports, ports, gate=0.001)
    torch.testing.assert_close(links.gates(), torch.full((3,), 0.001))
    with torch.no_grad():
        links.alpha.copy_(torch.logit(torch.tensor([0.1, 0.5, 0.25])))
        links.fusions["1_0"][0].weight.copy_(torch.tensor([2.0, 8.0]).view(1, 2, 1, 1))
    history = [[torch.full((1, 1, 2, 2), 3.0)], [torch.full((1, 1, 2, 2), 5.0)]]
    # 2 * 0.5 * 3 + 8 * 0.25 * 5
    torch.testing.assert_close(links.added(1, 0, history, links.gates()), torch.full((1, 1, 2, 2), 13.0))
    fixed = Links(ports, ports, gate=1)
    assert fixed.alpha is None
    assert fixed.gates().tolist() == [1, 1, 1]


def test_what_fusions_start_as() -> None:
    ports = [[Port(2, 4, 0)]] * 2
    history = [[torch.full((1, 2, 1, 1), 3.0)], [torch.full((1, 2, 1, 1), 5.0)]]
    identity = Links(ports, ports, gate=0.5, fusion="identity")
    # The mean of two maps, each behind a gate of a half.
    torch.testing.assert_close(
        identity.added(1, 0, history, identity.gates()), torch.full((1, 2, 1, 1), (3 * 0.5 + 5 * 0.5) / 2)
    )
    wide = [[Port(300, 4, 0)]] * 2
    torch.manual_seed(0)
    drawn = Links(wide, wide, fusion="kaiming").fusions["1_0"][0].weight
    # Kaiming: a variance of one over the inputs, here two maps of 300 channels.
    assert float(drawn.detach().var()) == pytest.approx(1 / 600, rel=0.02)


def test_links_across_groups() -> None:
    ports = [[Port(2, 4, 0)], [Port(2, 4, 0), Port(3, 8, 1)]]
    links = Links(ports, ports, across=True)
    assert [str(edge) for edge in links.edges] == [
        "stage 1 to 1, group 1",
        "stage 1 to 2, group 1", "stage 2 to 2, group 1", "stage 2 to 2, group 2 to 1",
        "stage 1 to 2, group 1 to 2", "stage 2 to 2, group 1 to 2", "stage 2 to 2, group 2",
    ]  # fmt: skip
    with torch.no_grad():
        links.fusions["1_1"][0].weight.fill_(1)
    history = [[torch.ones(1, 2, 8, 8)], [torch.ones(1, 2, 8, 8), torch.ones(1, 3, 4, 4)]]
    added = links.added(1, 1, history, torch.ones(7), size=torch.Size((4, 4)))
    # All 2 + 2 + 3 channels, at the target's size.
    torch.testing.assert_close(added, torch.full((1, 3, 4, 4), 7.0))
    network = Linked(staged("multi-resolution", 5), [staged("multi-resolution", 3, 1)], across=True)
    # From all branches of up to three stages to each of 1, 2, 3, 4: 1 + 2 * 3 + 3 * 6 + 4 * 9.
    assert len(network.to_primary()[0].edges) == 61
    trained(network)
    x = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network.export()(x), network(x)[0])


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([[Port(4, 4, 0)]] * 3, [[Port(4, 4, 0)]] * 2, "2 and 3 stages"),
        ([[Port(4, 8, 0)]], [[Port(4, 4, 0)]], "stride 8"),
        ([[Port(4, 4, 1)]], [[Port(4, 4, 0)]], "too few"),
        ([], [], "too few"),
    ],
)
def test_networks_that_cannot_be_linked(source: list, target: list, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Links(source, target)


def test_bad_backbones() -> None:
    with pytest.raises(UnknownNameError, match="vit-tiny"):
        build("vit-tinny", 3, True, SIZE)
    with pytest.raises(InvalidArgumentError, match="code"):
        build("multi-resolution", 3, True, SIZE)
    with pytest.raises(UnknownNameError, match="widht"):
        build("vgg-16", 3, True, SIZE, widht=2)
    with pytest.raises(UnknownNameError, match="hidden_sizes"):
        build("resnet-50", 3, True, SIZE, hiden_sizes=[1])
    with pytest.raises(InvalidArgumentError, match="multiples of 16"):
        build("vit-tiny", 3, True, (40, 48))
    with pytest.raises(InvalidArgumentError, match="at least 4"):
        staged("vit-tiny", 3, num_hidden_layers=3)
    with pytest.raises(InvalidArgumentError, match="no checkpoint folder"):
        build("vit-tiny", 3, True, SIZE, checkpoint="nowhere")


def test_checkpoints_are_read(tmp_path: object) -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        num_hidden_layers=4,
        image_size=32,
        patch_size=16,
    )
    saved = ViTModel(config, add_pooling_layer=False)
    saved.save_pretrained(tmp_path)
    net = build("vit-tiny", 3, True, (32, 48), checkpoint=str(tmp_path), head_channels=8)
    torch.testing.assert_close(net.embeddings.cls_token, saved.embeddings.cls_token)
    assert net(torch.zeros(1, 3, 32, 48)).shape == (1, 3, 32, 48)
    # What it lacks would be drawn at random: more blocks than it has, or another kind of network.
    for kind, changes in (("vit-tiny", {"num_hidden_layers": 5}), ("resnet-50", {})):
        with pytest.raises(InvalidArgumentError, match=r"not a checkpoint|not a \w+ checkpoint"):
            build(kind, 3, True, (32, 48), checkpoint=str(tmp_path), head_channels=8, **changes)


def test_seeds_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (staged("vgg-16", 3, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    weights = [net.convs[0][0].weight for net in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_code_is_any_form() -> None:
    assert build("multi-resolution", 3, True, SIZE, code=space.to_string(PRIMARY)).net.code == tuple(PRIMARY)
