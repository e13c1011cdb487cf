"""Training with auxiliary labels: variants, schedules, resuming, results, comparison, ranking."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nasbench_mr
from nasbench_mr import cost, files, plot, release, space, table, tasks
from nasbench_mr.errors import (
    DatasetError,
    IntegrityError,
    InvalidArgumentError,
    RecipeError,
    UnknownNameError,
    UnknownTaskError,
)
from nasbench_mr.network import MultiResolutionNet
from nasbench_mr.search.auxnas import comparison, networks, plots, readers, scenes
from nasbench_mr.search.auxnas import tasks as label_tasks
from nasbench_mr.search.auxnas.balance import Balance
from nasbench_mr.search.auxnas.batches import Batches, augment
from nasbench_mr.search.auxnas.choice import choose_code, rank_auxiliary
from nasbench_mr.search.auxnas.comparison import AuxComparison, compare
from nasbench_mr.search.auxnas.config import AuxConfig
from nasbench_mr.search.auxnas.data import AuxData
from nasbench_mr.search.auxnas.links import Linked
from nasbench_mr.search.auxnas.preparation import prepare, search_network
from nasbench_mr.search.auxnas.run import aux_nas, load_primary
from nasbench_mr.search.auxnas.training import Training, penalty, ramp
from nasbench_mr.tensors import load_weights

CODE = [8, 8, 1, 1, 8, 1, 1, 1, 8, 8, 1, 1, 1, 1, 8, 8, 8, 1, 1, 1, 1, 1, 8, 8, 8, 8, 8]
TINY = {
    "primary_code": space.to_string(CODE), "options": {"width_mult": 0.25}, "steps": 4, "batch_size": 3,
    "lr": 1e-2, "eval_every": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes.make(tmp_path_factory.mktemp("rooms") / "indoor", train=8, val=3, size=(32, 32))


@pytest.fixture(scope="module")
def data(rooms: Path) -> AuxData:
    return readers.load("indoor", rooms)


def kinds_of(*names: str) -> list[label_tasks.LabelTask]:
    return [label_tasks.get(name) for name in names]


def training_of(data: AuxData, config: AuxConfig, *names: str) -> Training:
    kinds = kinds_of(*names)
    return Training(search_network(kinds, data, config), kinds, data, config)


def at(out: Path, seeds: int = 1) -> dict[str, Any]:
    """Where a comparison is kept; it runs in this process."""
    return {"out": out, "seeds": seeds, "workers": 0}


@pytest.mark.parametrize("backbone", ["multi-resolution", "vit-tiny"])
@pytest.mark.parametrize("variant", ["single", "aux-head", "aux-g", "aux-nas"])
def test_losses_and_gradients_are_computed_where_they_are_told(
    variant: str, backbone: str, data: AuxData
) -> None:
    """On a device without values mixing tensors with the CPU's fails, and so does reading one."""
    fields: dict[str, Any] = {"variant": variant, "backbone": backbone, "rotate_share": 1.0}
    if backbone == "vit-tiny":
        fields["options"] = {"hidden_size": 16, "num_attention_heads": 2, "patch_size": 8, "head_channels": 8}
    config = AuxConfig.of(TINY, fields)
    kinds, network = prepare("segmentation", ("normals", "scene"), data, config)
    training = Training(network, kinds, data, config, device="meta")
    losses = training._losses(np.arange(3), np.random.default_rng(0))
    (torch.stack(losses).sum() + penalty(network, config, 0.8)).backward()  # type: ignore[no-untyped-call]
    found = {p.grad.device.type for p in network.parameters() if p.grad is not None}
    assert found == {loss.device.type for loss in losses} == {"meta"}
    assert all(links.gates().device.type == "meta" for links in network.to_auxiliary())


@pytest.mark.parametrize("variant", ["single", "aux-head", "aux-g", "aux-nas"])
def test_every_variant_leaves_the_plain_network(variant: str, data: AuxData, tmp_path: Path) -> None:
    result = aux_nas("segmentation", ("normals", "scene"), data, TINY, variant=variant, out=tmp_path)
    exported = result.export()
    assert isinstance(exported, MultiResolutionNet)
    assert sum(p.numel() for p in exported.parameters()) == result.params
    assert result.params == cost.params([CODE], 40, 0.25)[0]
    assert result.macs == cost.macs([CODE], 32, 40, head="segmentation", width_mult=0.25)[0]
    helpers = () if variant == "single" else ("normals", "scene")
    assert result.auxiliary == helpers
    assert set(result.metrics) == {"segmentation", *helpers}
    assert result.curve["step"] == [2, 4]
    assert (result.steps, result.status, result.device) == (4, "ok", "cpu")
    # 19 links each way with each of two auxiliaries; before training and at two evaluations.
    links = {"aux-g": (0, 38), "aux-nas": (38, 38)}.get(variant, (0, 0))
    assert tuple(result.gates[k].shape for k in ("to_primary", "to_auxiliary")) == tuple(
        (3, n) for n in links
    )
    # What was saved is the exported network, and says how it came about.
    again = MultiResolutionNet(CODE, 40, "segmentation", 0.25).eval()
    load_weights(tmp_path / "primary.safetensors", again)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(again(x), result.network(x)[0], atol=1e-5, rtol=0)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert AuxConfig.of(saved["config"]) == result.config
    assert (saved["primary"], saved["auxiliary"]) == ("segmentation", list(helpers))
    assert json.loads((tmp_path / "result.json").read_text())["metrics"]["segmentation"] == pytest.approx(
        result.metrics["segmentation"]
    )


def test_variants_start_from_the_same_primary(data: AuxData) -> None:
    kinds = kinds_of("segmentation", "normals")
    states = [
        search_network(kinds[: 1 if v == "single" else 2], data, AuxConfig.of(TINY, {"variant": v}), seed=3)
        .primary.state_dict()
        for v in ("single", "aux-head", "aux-g", "aux-nas")
    ]  # fmt: skip
    for state in states[1:]:
        assert all(torch.equal(state[k], v) for k, v in states[0].items())


def test_a_killed_run_resumes(data: AuxData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = aux_nas("segmentation", "normals", data, TINY, balance="uncertainty", save_every=1)
    advance = Training._advance

    def killed(self: Training) -> None:
        if self.step == 3:
            raise KeyboardInterrupt
        advance(self)

    def run() -> Any:
        return aux_nas(
            "segmentation", "normals", data, TINY, balance="uncertainty", save_every=1, out=tmp_path
        )

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_advance", killed)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not (tmp_path / "result.json").exists()
    result = run()
    assert result.metrics == whole.metrics
    assert {k: v for k, v in result.curve.items() if k != "seconds"} == {
        k: v for k, v in whole.curve.items() if k != "seconds"
    }
    for key in whole.gates:
        np.testing.assert_array_equal(result.gates[key], whole.gates[key])
    for a, b in zip(result.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(a, b)
    # Neither another seed nor other data resumes here, and what is there stays as it is.
    before = (tmp_path / "config.json").read_bytes()
    other = AuxData(data.train.take([1, 0, *range(2, 8)]), data.val)
    for changed, seed in ((data, 1), (other, 0)):
        with pytest.raises(InvalidArgumentError, match="another run"):
            aux_nas(
                "segmentation",
                "normals",
                changed,
                TINY,
                seed=seed,
                balance="uncertainty",
                save_every=1,
                out=tmp_path,
            )
    assert (tmp_path / "config.json").read_bytes() == before
    checkpoint = tmp_path / Training.CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match="delete it"):
        run()


def test_gates_and_weights_take_turns(data: AuxData, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    get = Batches.get

    def spy(self: Any, rows: Any, config: Any = None, rng: Any = None) -> Any:
        if rng is not None:
            seen.append(sorted(rows.tolist()))
        return get(self, rows, config, rng)

    monkeypatch.setattr(Batches, "get", spy)
    kinds = kinds_of("segmentation", "normals")
    config = AuxConfig.of(TINY, {"batch_size": 4})
    training = Training(search_network(kinds, data, config), kinds, data, config)
    weights = [w.detach().clone() for w in training.weights]
    alphas = [a.detach().clone() for a in training.alphas]
    training._advance()
    training._advance()
    # An epoch is one step of each here: gates on one half of the eight images, weights on the other.
    assert training.per_epoch == 1
    for first, second in (seen[:2], seen[2:]):
        assert sorted(first + second) == list(range(8))
    assert seen[0] != seen[2]
    assert all(not torch.equal(a, b) for a, b in zip(alphas, training.alphas, strict=True))
    assert sum(not torch.equal(a, b) for a, b in zip(weights, training.weights, strict=True)) > 0.9 * len(
        weights
    )


def test_schedules(data: AuxData) -> None:
    assert [ramp(s, 0.5, 0.8) for s in (0.2, 0.5, 0.65, 0.8, 1)] == pytest.approx([0, 0, 0.5, 1, 1])
    config = AuxConfig.of(TINY, {"steps": 10, "lr": 0.01, "head_lr": 0.02, "link_lr": 0.03, "gate_lr": 4.0})
    training = training_of(data, config, "segmentation", "normals")
    weights, gates = training.optimizers["weights"], training.optimizers["gates"]
    groups = training.network.groups()
    assert [len(own) for own in groups.values()] == [len(g["params"]) for g in weights.param_groups]
    for step, share in ((0, 1.0), (5, 0.5**0.9)):
        training.step = step
        training._advance()
        assert [g["lr"] for g in weights.param_groups] == [0.01 * share, 0.02 * share, 0.03 * share]
        assert gates.param_groups[0]["lr"] == 4.0 * share
    # Every weight is in one group; those of heads and links are where they belong.
    every = [id(p) for own in groups.values() for p in own]
    assert sorted(every) == sorted(id(p) for p in training.network.weights())
    network = training.network
    assert isinstance(network, Linked)
    heads = [*network.primary.head.parameters(), *network.auxiliaries[0].head.parameters()]
    assert {id(p) for p in groups["heads"]} == {id(p) for p in heads}
    assert {id(p) for p in groups["links"]} == {
        id(p) for links in (*network.out, *network.back) for p in links.fusions.parameters()
    }


def test_sgd_steps_by_rate_and_momentum(data: AuxData) -> None:
    fields = {"optimizer": "sgd", "momentum": 0.5, "schedule": "cosine", "lr": 0.1, "head_lr": 0.2}
    training = training_of(data, AuxConfig.of(TINY, fields, {"variant": "single"}), "segmentation")
    (head, *_), (trunk, *_) = training.network.groups()["heads"], training.network.trunk()
    places = [(head.detach().clone(), trunk.detach().clone())]
    slopes = []
    for _ in range(2):
        training._advance()
        places.append((head.detach().clone(), trunk.detach().clone()))
        slopes.append((head.grad.clone(), trunk.grad.clone()))
    # v1 = g1, v2 = g1 / 2 + g2; of four steps, the second is at (1 + cos(pi / 4)) / 2 of the rate.
    for k, rate in enumerate((0.2, 0.1)):
        torch.testing.assert_close(places[1][k], places[0][k] - rate * slopes[0][k])
        moved = rate * (1 + math.cos(math.pi / 4)) / 2 * (slopes[0][k] / 2 + slopes[1][k])
        torch.testing.assert_close(places[2][k], places[1][k] - moved)


def test_gates_by_sgd_move_along_their_gradient(data: AuxData) -> None:
    """With a first beta and a warm-up for the weights' Adam."""
    fields = {"gate_optimizer": "sgd", "gate_lr": 2.0, "warmup": 0.5, "momentum": 0.7, "lr": 0.1}
    training = training_of(data, AuxConfig.of(TINY, {"steps": 4}, fields), "segmentation", "normals")
    before = [alpha.detach().clone() for alpha in training.alphas]
    training._advance()
    weights, gates = (training.optimizers[kind].param_groups[0] for kind in ("weights", "gates"))
    assert (weights["betas"], gates["momentum"]) == ((0.7, 0.999), 0.7)
    # Two of four steps are the warm-up: the first has a third of the rate.
    assert (weights["lr"], gates["lr"]) == pytest.approx((0.1 / 3, 2 / 3))
    for alpha, start in zip(training.alphas, before, strict=True):
        torch.testing.assert_close(alpha.detach(), start - 2 / 3 * alpha.grad)


def test_one_cycle_rises_and_falls(data: AuxData) -> None:
    fields = {"schedule": "onecycle", "warmup": 0.5, "steps": 4, "lr": 0.1, "gate_lr": 1.0}
    training = training_of(data, AuxConfig.of(TINY, fields), "segmentation", "normals")
    group, found = training.optimizers["weights"].param_groups[0], []
    for step in range(4):
        training.step = step
        training._advance()
        found.append((group["lr"], group["betas"][0]))
    # By cosines: from a tenth of the rate up to it at half of the steps, and down; momentum the other way.
    assert found[0] == pytest.approx((0.01, 0.95))
    assert found[1] == pytest.approx((0.055, 0.9))
    assert found[2] == pytest.approx((0.1, 0.85))
    assert found[3][0] == pytest.approx((0.1 + 1e-6) / 2, rel=1e-2)


def test_penalty(data: AuxData) -> None:
    kinds = kinds_of("segmentation", "normals")
    config = AuxConfig.of(TINY, {"gate_to_primary": 0.2, "gate_to_auxiliary": 0.3})
    network = search_network(kinds, data, config)
    # The mean gate to the primary times 1000, from 50% to 80% of the training.
    assert penalty(network, config, 0.5).item() == 0
    assert penalty(network, config, 0.65).item() == pytest.approx(100, rel=1e-4)
    total = penalty(network, config, 0.9)
    assert total.item() == pytest.approx(200, rel=1e-4)
    total.backward()
    assert all(links.alpha.grad is None for links in network.to_auxiliary())
    assert all((links.alpha.grad > 0).all() for links in network.to_primary())
    entropy = dataclasses.replace(config, entropy=2.0, penalty=0.0)
    h = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    assert penalty(network, entropy, 1.0).item() == pytest.approx(2 * h, rel=1e-4)
    single = search_network(kinds[:1], data, dataclasses.replace(config, variant="single"))
    assert penalty(single, config, 1.0).item() == 0
    # Each auxiliary's gates are penalised as those of one alone would be.
    two = search_network(kinds_of("segmentation", "normals", "depth"), data, config)
    assert penalty(two, config, 0.9).item() == pytest.approx(400, rel=1e-4)
    assert penalty(two, entropy, 1.0).item() == pytest.approx(4 * h, rel=1e-4)


@pytest.mark.parametrize(
    ("directions", "links"), [("to-auxiliary", (0, 19)), ("to-primary", (19, 0)), ("both", (19, 19))]
)
def test_links_one_way(directions: str, links: tuple[int, int], data: AuxData) -> None:
    config = AuxConfig.of(TINY, {"directions": directions, "gate_to_auxiliary": 0.3})
    training = training_of(data, config, "normals", "depth")
    network = training.network
    found = [sum(len(each.edges) for each in way) for way in (network.to_primary(), network.to_auxiliary())]
    assert tuple(found) == links
    # The gates that there are, are searched.
    assert sum(alpha.numel() for alpha in training.alphas) == sum(links)
    before = [alpha.detach().clone() for alpha in training.alphas]
    result = training.run()
    assert all(not torch.equal(a, b) for a, b in zip(before, training.alphas, strict=True))
    assert tuple(result.gates[way].shape[1] for way in ("to_primary", "to_auxiliary")) == links
    assert bool(result.drop) == (links[0] > 0)
    assert isinstance(result.export(), MultiResolutionNet)


def test_norms_after_the_sum_stay_in_the_network(data: AuxData, tmp_path: Path) -> None:
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    kept = {}
    for directions in ("both", "to-auxiliary"):
        fields = {"norm": "sum", "directions": directions, "out": tmp_path / directions}
        result = aux_nas("normals", "depth", data, TINY, **fields)
        network = result.export()
        with torch.no_grad():
            torch.testing.assert_close(network(x), result.network(x)[0])
            torch.testing.assert_close(load_primary(tmp_path / directions)(x), network(x))
        kept[directions] = (result.macs, result.params)
    # A map of each branch in each of four stages, of two channels, with a scale and a shift each.
    assert kept["to-auxiliary"][0] is not None
    assert kept["both"] == (None, kept["to-auxiliary"][1] + 2 * 2 * (1 + 2 + 3 + 4))


def test_random_fusions_follow_the_seed(data: AuxData) -> None:
    config, kinds = AuxConfig.of(TINY, {"fusion": "kaiming"}), kinds_of("normals", "depth")
    states = []
    for draws, seed in ((0, 0), (5, 0), (0, 1)):
        torch.manual_seed(draws)
        network = search_network(kinds, data, config, seed=seed)
        states.append(torch.cat([p.flatten() for p in network.to_auxiliary()[0].fusions.parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_weights_of_other_tasks_have_no_effect(data: AuxData) -> None:
    config = {**TINY, "steps": 1, "variant": "aux-head"}
    plain = aux_nas("normals", "depth", data, config, weights={"depth": 3.0})
    more = aux_nas("normals", "depth", data, config, weights={"depth": 3.0, "edges": 9.0})
    assert plain.metrics == more.metrics


def test_open_gates_are_reported(data: AuxData) -> None:
    result = aux_nas(
        "segmentation",
        "normals",
        data,
        TINY,
        gate_to_primary=0.9,
        penalty=0.0,
        steps=6,
        lr=0.05,
        batch_size=4,
    )
    assert len(result.open_gates) == 19
    assert result.open_gates[0] == "normals stage 1 to 1, group 1"
    assert "19 of 19 gates to the primary are still above 0.01 " in result.report()
    # The drop is measured: the network as it is, gates open, against the exported one.
    network = result.network
    assert isinstance(network, Linked)
    kinds = kinds_of("segmentation", "normals")
    training = Training(network, kinds, data, result.config, device="cpu")
    network.eval()
    network.closed = False
    opened = training.evaluate(network)[0]
    assert result.drop["mIoU"] == pytest.approx(opened["mIoU"] - result.metrics["segmentation"]["mIoU"])
    assert result.drop["mIoU"] != 0
    closing = {"gate_to_primary": 0.5, "gate_lr": 4.0, "penalty_period": (0.0, 0.1)}
    closed = aux_nas("segmentation", "normals", data, TINY, steps=12, **closing)
    assert closed.gates["to_primary"][0].max() == pytest.approx(0.5)
    assert not closed.open_gates
    assert closed.gates["to_primary"][-1].max() < 0.01
    assert "at most 0.01; they are removed" in closed.report()
    assert f"worse by: mIoU {closed.drop['mIoU']:+.2f}" in closed.report()


@pytest.mark.parametrize("norm", ["none", "link"])
def test_links_that_were_cut_lend_nothing_more(norm: str, data: AuxData, tmp_path: Path) -> None:
    config = AuxConfig.of(TINY, {"cut": 0.5, "gate_to_primary": 0.5, "norm": norm})
    kinds = kinds_of("segmentation", "normals")
    network = search_network(kinds, data, config)
    assert isinstance(network, Linked)
    training = Training(network, kinds, data, config, device="cpu")

    def links() -> torch.Tensor:
        return torch.cat([w.detach().flatten().clone() for w in network.to_primary()[0].fusions.parameters()])

    before = links()
    for _ in range(2):
        training._advance()
    half = links()
    assert not torch.equal(half, before)
    images, _ = training.val_set.get(np.arange(3))
    assert not torch.equal(network.train()(images)[0], network.primary(images))
    training._advance()
    images, _ = training.val_set.get(np.arange(3))
    if norm == "none":  # With a norm, what it adds became a constant, which the export folds away.
        assert torch.equal(links(), half)
        assert torch.equal(network.train()(images)[0], network.primary(images))
    exported = network.eval().export()
    assert (exported(images) - network(images)[0]).abs().max() < 1e-5

    result = aux_nas("segmentation", "normals", data, config)
    assert result.gates["to_primary"][0].tolist() == pytest.approx([0.5] * 19)
    assert not result.gates["to_primary"][-1].any()
    assert (result.drop, result.open_gates) == ({}, ())
    assert "the links to the primary were cut after 50% of the training" in result.report()
    # Of four updates, none comes after 90% of the training: nothing was cut, and the drop is reported.
    late = aux_nas("segmentation", "normals", data, config, cut=0.9)
    assert late.drop
    assert "made them worse by: mIoU" in late.report()


def test_balances_of_two_losses() -> None:
    """On f = (a - 1)^2 and g = 2 (a + b)^2 of two weights, against gradients by hand."""
    rng = np.random.default_rng(0)

    def gradients(kind: str) -> tuple[list[float], Balance]:
        a, b = (torch.nn.Parameter(torch.tensor(v)) for v in (2.0, 1.0))
        balance = Balance(kind, 2)
        balance.backward([(a - 1) ** 2, 2 * (a + b) ** 2], [a, b], rng)
        return [float(a.grad), float(b.grad)], balance

    # df/da = 2, dg/da = dg/db = 12.
    assert gradients("sum")[0] == [14, 12]
    grads, balance = gradients("uncertainty")
    assert grads == [7, 6]
    # d/ds of (exp(-s) L + s) / 2 at 0: (1 - L) / 2, with L = 1 and 18.
    assert balance.log_variance.grad.tolist() == [0, -8.5]
    assert gradients("pcgrad")[0] == [14, 12]
    grads, balance = gradients("gradnorm")
    assert grads == [14, 12]
    # Norms 2 and 12 at the shared weight, both to become 7: 0.025 * norm / 7 up and down, then a sum of 2.
    up, down = 1 + 0.025 * 2 / 7, 1 - 0.025 * 12 / 7
    assert balance.factors.tolist() == pytest.approx([2 * up / (up + down), 2 * down / (up + down)])


def test_pcgrad_removes_conflicts() -> None:
    a = torch.nn.Parameter(torch.tensor([1.0, 0.0]))
    own = torch.nn.Parameter(torch.tensor(1.0))
    # Gradients (1, 0) and (-1, 1) conflict: each loses its part along the other.
    losses = [a @ torch.tensor([1.0, 0.0]) + 3 * own, a @ torch.tensor([-1.0, 1.0])]
    Balance("pcgrad", 2).backward(losses, [a, own], np.random.default_rng(0))
    # (1, 0) + (-1, 1) / 2 = (0.5, 0.5); (-1, 1) + (1, 0) = (0, 1).
    assert a.grad.tolist() == pytest.approx([0.5, 1.5])
    assert float(own.grad) == 3


@pytest.mark.parametrize("variant", ["aux-head", "aux-g", "aux-nas"])
def test_affinity_is_a_cosine_at_the_primarys_trunk(variant: str, data: AuxData) -> None:
    kinds = kinds_of("normals", "depth", "scene")
    config = AuxConfig.of(TINY, {"variant": variant})
    training = Training(search_network(kinds, data, config), kinds, data, config)
    if variant != "aux-head":
        # Links start at 0, so nothing of the auxiliaries gets to the primary yet.
        assert all(math.isnan(v) for v in training.affinity().values())
    for _ in range(4):
        training._advance()
    found = training.affinity()
    assert list(found) == ["depth", "scene"]
    trunk, head = training.network.trunk(), list(training.network.primary.head.parameters())
    assert len(trunk) + len(head) == len(list(training.network.primary.parameters()))
    images, labels = training.train_set.get(np.arange(8))
    losses = [t.loss(o, labels[t.name]) for t, o in zip(kinds, training.network.eval()(images), strict=True)]
    grads = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, trunk, retain_graph=True)]).double()
        for loss in losses
    ]
    for name, grad in zip(found, grads[1:], strict=True):
        assert found[name] == pytest.approx(float(torch.cosine_similarity(grads[0], grad, dim=0)), abs=1e-4)


@pytest.mark.parametrize("variant", ["aux-head", "aux-g", "aux-nas"])
def test_gradnorm_compares_at_the_last_layer_below_the_heads(variant: str, data: AuxData) -> None:
    kinds = kinds_of("normals", "depth")
    config = AuxConfig.of(
        TINY, {"variant": variant, "balance": "gradnorm", "norm": "link" if variant == "aux-nas" else "none"}
    )
    training = Training(search_network(kinds, data, config), kinds, data, config)
    last = training.network.primary.net.stages[-1]
    assert any(training.anchor is p for p in last.parameters())
    assert training.anchor.ndim == 4
    for _ in range(3):
        training._advance()
    assert len(set(training.balance.factors.tolist())) == 2


@pytest.mark.parametrize("balance", ["pcgrad", "uncertainty", "gradnorm"])
def test_balances_train(balance: str, data: AuxData) -> None:
    for variant in ("aux-head", "aux-nas"):
        result = aux_nas("normals", "depth", data, TINY, variant=variant, balance=balance, steps=2)
        assert result.status == "ok"
        assert all(np.isfinite(list(result.metrics["normals"].values())))


def test_mixed_precision(data: AuxData) -> None:
    full, mixed = (
        aux_nas("segmentation", "normals", data, TINY, precision=p, steps=2) for p in ("float32", "bfloat16")
    )
    a, b = (r.curve["loss/normals"][0] for r in (full, mixed))
    # Eight bits of mantissa: close, but not the same.
    assert 0 < abs(a - b) < 0.05 * a


def test_diverged(data: AuxData, tmp_path: Path) -> None:
    bad = dict(data.train.arrays)
    bad["depth"] = bad["depth"] * np.float32(1e36)
    broken = AuxData(dataclasses.replace(data.train, arrays=bad), data.val)
    result = aux_nas("depth", "normals", broken, TINY, lr=1e6)
    assert result.status == "diverged"
    assert result.steps < 4
    assert "DIVERGED" in result.report()
    assert "removed" not in result.report()
    runs = {"single": [], "aux-nas": [result.to_dict()]}
    assert [(r["seeds"], r["diverged"]) for r in AuxComparison("depth", runs).summary()] == [
        (0, 0),
        (0, 1),
    ]
    run = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    made = comparison.write_tables({"aux-nas": [run]}, tmp_path / "release")
    assert not made.table("indoor-depth-aux-nas-normals").ok.any()


def test_transformer_with_norms(data: AuxData) -> None:
    options = {
        "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 4, "patch_size": 8,
        "head_channels": 8,
    }  # fmt: skip
    result = aux_nas(
        "normals", "segmentation", data, backbone="vit-tiny", options=options, norm="link", steps=2
    )
    assert result.macs is None
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(result.export()(x), result.network(x)[0], atol=1e-5, rtol=0)


def test_starting_from_single_tasks(data: AuxData, tmp_path: Path) -> None:
    alone = aux_nas("normals", (), data, TINY, variant="single", out=tmp_path)
    start = {"normals": str(tmp_path / "primary.safetensors")}
    kinds = kinds_of("normals", "depth")
    network = search_network(kinds, data, AuxConfig.of(TINY, {"start": start}), seed=9)
    expected = alone.export().state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in network.primary.plain().state_dict().items())
    with pytest.raises(IntegrityError, match="does not hold the weights"):
        aux_nas("segmentation", "normals", data, TINY, start={"segmentation": start["normals"]})
    with pytest.raises(InvalidArgumentError, match="start has 'depth', which is not trained"):
        aux_nas("segmentation", "normals", data, TINY, start={"depth": "there"})


def test_a_run_is_known_by_the_weights_it_started_from(data: AuxData, tmp_path: Path) -> None:
    """By what was in the file, not by its name."""
    start = tmp_path / "start.safetensors"
    runs = []
    for seed in (0, 1):
        aux_nas("normals", (), data, TINY, seed=seed, variant="single", out=tmp_path / str(seed))
        start.write_bytes((tmp_path / str(seed) / "primary.safetensors").read_bytes())
        config = {**TINY, "variant": "single", "start": {"normals": str(start)}}
        runs.append(aux_nas("normals", (), data, config, out=tmp_path / f"from-{seed}"))
        assert runs[-1].to_dict()["start"] == {str(start): files.sha256(start)}
    assert runs[0].metrics != runs[1].metrics
    folder = tmp_path / "0"
    for field in ("options", "auxiliary_options"):
        found = AuxConfig.of({field: {"checkpoint": str(folder)}}).digests({})
        assert found[str(folder / "primary.safetensors")] == files.sha256(folder / "primary.safetensors")
    with pytest.raises(InvalidArgumentError, match="of another run"):
        aux_nas("normals", (), data, config, out=tmp_path / "from-0")
    compared = {**TINY, "start": {"normals": str(start)}}
    compare("normals", (), data, compared, variants=["single"], **at(tmp_path / "c"))
    start.write_bytes((tmp_path / "0" / "primary.safetensors").read_bytes())
    with pytest.raises(IntegrityError, match="a run with another start"):
        compare("normals", (), data, compared, variants=["single"], **at(tmp_path / "c"))


# --- Augmentation ---


def batch_of(data: AuxData) -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(v) for k, v in data.train.arrays.items()}


def test_mirrored_scenes_are_scenes(data: AuxData) -> None:
    batch = batch_of(data)
    config = AuxConfig.of({"flip": 1.0, "crop_share": 0.0, "rotate_share": 0.0})
    got = augment(batch, config, np.random.default_rng(0))
    for key in ("image", "segmentation", "depth"):
        assert torch.equal(got[key], batch[key].flip(2))
    assert torch.equal(got["normals"], batch["normals"].flip(2) * torch.tensor([-1.0, 1, 1]))
    assert torch.equal(got["scene"], batch["scene"])
    # The same through the general path, which a turn by almost nothing takes.
    turned = augment(
        batch, dataclasses.replace(config, rotate_share=1.0, rotate=1e-4), np.random.default_rng(0)
    )
    assert torch.equal(turned["segmentation"], got["segmentation"])
    torch.testing.assert_close(turned["normals"], got["normals"], atol=1e-5, rtol=0)


def test_turned_normals_turn_with_the_picture() -> None:
    # The picture is normals that point along x; turned by an angle, they still point along the picture's x.
    normals = torch.zeros(1, 33, 33, 3)
    normals[..., 0] = 1
    ramp = torch.arange(33.0).expand(1, 33, 33)
    batch = {"image": torch.zeros(1, 33, 33, 3, dtype=torch.uint8), "normals": normals, "depth": ramp + 1}
    config = AuxConfig.of({"flip": 0.0, "crop_share": 0.0, "rotate_share": 1.0, "rotate": 80.0})
    got = augment(batch, config, np.random.default_rng(1))
    # Depth rises along the picture's x, so its slope is where the normals point.
    depth = got["depth"][0]
    slope = torch.stack([depth[16, 20] - depth[16, 12], depth[20, 16] - depth[12, 16]])
    slope = slope / slope.norm()
    assert abs(float(slope[1])) > 0.05
    torch.testing.assert_close(got["normals"][0, 16, 16, :2], slope, atol=0.1, rtol=0)


def test_zoomed_depth_is_nearer(data: AuxData) -> None:
    batch = batch_of(data)
    config = AuxConfig.of({"flip": 0.0, "crop_share": 1.0, "rotate_share": 0.0, "zoom": 1.5})
    got = augment(batch, config, np.random.default_rng(0))
    assert (got["depth"] > 0).all()
    assert (got["segmentation"] < 40).all()
    assert got["depth"].mean() < batch["depth"].mean()
    assert {k: (v.shape, v.dtype) for k, v in got.items()} == {
        k: (v.shape, v.dtype) for k, v in batch.items()
    }


# --- Configuration and bad input ---


def test_defaults_are_the_published_ones() -> None:
    config = AuxConfig()
    assert (config.lr, config.gate_lr, config.epochs, config.batch_size) == (1e-4, 1e-2, 100, 20)
    assert (config.gate_to_auxiliary, config.gate_to_primary, config.reach) == (0.5, 0.001, 3)
    assert (config.penalty, config.penalty_period, config.entropy, config.norm) == (
        1000,
        (0.5, 0.8),
        0,
        "none",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "aux"}, "variant is 'aux'"),
        ({"penalti": 1}, "penalty"),
        ({"lr": "fast"}, "lr is 'fast'; expected float"),
        ({"penalty_period": [0.8, 0.5]}, "rising"),
        ({"weights": {"normals": -1}}, "at least 0"),
        ({"gate_to_primary": 0}, "between 0 and 1"),
        ({"zoom": 0.5}, "at least 1"),
    ],
)
def test_bad_configurations(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        AuxConfig.of(change)


def test_bad_input_stops_before_training(data: AuxData) -> None:
    def run(
        primary: str = "segmentation", auxiliary: Any = "normals", used: AuxData = data, **more: Any
    ) -> None:
        aux_nas(primary, auxiliary, used, {**TINY, **more})

    with pytest.raises(UnknownTaskError, match="normals"):
        run(auxiliary="normal")
    with pytest.raises(UnknownTaskError, match="no labels of 'edges'"):
        run(auxiliary="edges")
    with pytest.raises(InvalidArgumentError, match="at least one auxiliary"):
        run(auxiliary=())
    with pytest.raises(InvalidArgumentError, match="distinct"):
        run(auxiliary="segmentation")
    with pytest.raises(UnknownTaskError, match="'depth'"):
        run(weights={"dept": 1})
    with pytest.raises(InvalidArgumentError, match="code"):
        run(primary_code="")
    with pytest.raises(UnknownNameError, match="backbone"):
        run(backbone="resnet-51")
    with pytest.raises(DatasetError, match="3 training samples; expected at least 4"):
        run(used=data.limited(3, 0))
    with pytest.raises(InvalidArgumentError, match="seed is -1"):
        aux_nas("segmentation", "normals", data, TINY, seed=-1)
    with pytest.raises(InvalidArgumentError, match="device 'gpu' can't be used"):
        aux_nas("segmentation", "normals", data, TINY, device="gpu")
    with pytest.raises(UnknownNameError, match="'vgg-16'"):
        run(backbone="vgg-16", options={"size": 3})
    with pytest.raises(InvalidArgumentError, match="equal numbers"):
        run(
            backbone="vit-tiny",
            options={"patch_size": 8, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 4},
            auxiliary_options={"num_hidden_layers": 5},
        )


# --- AuxComparison, tables, command ---


def test_comparison(data: AuxData, tmp_path: Path) -> None:
    config = {**TINY, "steps": 2, "eval_every": 1}

    def run(seeds: int) -> AuxComparison:
        return compare(
            "normals", "depth", data, config, variants=("single", "aux-nas"), **at(tmp_path, seeds)
        )

    first = run(1)
    stamp = (tmp_path / "single-seed0" / "result.json").stat().st_mtime_ns
    both = run(2)
    assert (tmp_path / "single-seed0" / "result.json").stat().st_mtime_ns == stamp
    assert first.runs["single"][0] == both.runs["single"][0]
    single, searched = both.summary()
    means = {v: [r["metrics"]["normals"]["mean"] for r in both.runs[v]] for v in both.runs}
    assert single["mean"] == pytest.approx(np.mean(means["single"]))
    # Smaller angles are better.
    assert searched["better by"] == pytest.approx(np.mean(means["single"]) - np.mean(means["aux-nas"]))
    assert both.summary("within_30")[0]["within_30"] <= 100
    with pytest.raises(InvalidArgumentError, match="no metric"):
        both.summary("mIoU")
    # The runs are tables of a release, like all trials.
    bench = nasbench_mr.load(tmp_path / "release")
    assert bench.tasks == ("indoor-normals-single-alone", "indoor-normals-aux-nas-depth")
    found = bench.query(CODE, "indoor-normals-aux-nas-depth", seed=1)
    assert found["mean"] == pytest.approx(means["aux-nas"][1])
    assert found["params"] == cost.params([CODE], 3, 0.25)[0]
    assert bench.best("indoor-normals-single-alone", 1)[0]["mean"] == pytest.approx(np.mean(means["single"]))
    curves = bench.curves("indoor-normals-aux-nas-depth")
    assert curves["step"].tolist() == [1, 2, 1, 2]
    assert (curves["gates_to_primary"] < 0.01).all()
    release.verify(bench.release)
    assert AuxComparison.open(tmp_path) == both
    metric, gates = plots.runs(both).axes
    single = next(line for line in metric.lines if line.get_label() == "single")
    curves = [run["curve"]["normals/mean"] for run in both.runs["single"]]
    assert single.get_ydata() == pytest.approx(np.mean(curves, axis=0))
    shut = next(line for line in gates.lines if line.get_label() == "auxiliary to primary (mean)")
    assert shut.get_ydata()[0] == pytest.approx(0.001)  # as published
    metric, _ = plots.runs(both, ["single"]).axes
    assert [line.get_label() for line in metric.lines] == ["single"]
    with pytest.raises(UnknownNameError, match="no variant 'singel': did you mean 'single'"):
        plots.runs(both, ["singel"])
    drawn = plots.runs(both)
    plot.save(drawn, tmp_path / "runs.png")
    ticks = [text.get_text() for text in drawn.axes[1].get_yticklabels()]
    assert "0.01" in ticks
    assert not any("$" in text for text in ticks)  # not "$\\mathdefault{10^{-2}}$"
    with pytest.raises(InvalidArgumentError, match="steps"):
        compare("normals", "depth", data, {**config, "steps": 0}, **at(tmp_path))
    # What is there is of these tasks and this data, and is not taken for anything else.
    variants = ("single", "aux-nas")
    for task, used, what in (("scene", data, "auxiliary"), ("depth", data.limited(7, 0), "data digest")):
        with pytest.raises(IntegrityError, match=f"another {what}; give another folder"):
            compare("normals", task, used, config, variants=variants, **at(tmp_path))


def test_a_variant_may_have_fields_of_its_own(data: AuxData, tmp_path: Path) -> None:
    variants = ("single", "aux-nas", "aux-nas cut=0.5")
    found = compare("normals", "depth", data, TINY, variants=variants, **at(tmp_path))
    assert [row["variant"] for row in found.summary()] == list(variants)
    assert [found.runs[v][0]["config"]["cut"] for v in variants] == [1.0, 1.0, 0.5]
    assert (tmp_path / "aux-nas-cut=0.5-seed0/result.json").is_file()
    assert nasbench_mr.load(tmp_path / "release").tasks[-1] == "indoor-normals-aux-nas-cut-0.5-depth"
    for wrong, error, message in (
        ("aux-nas cut=2", RecipeError, "cut is 2.0; expected a share"),
        ("aux-nas cat=1", RecipeError, "no field 'cat'"),
        ("aux-nas cut", RecipeError, "cut"),
        ("", RecipeError, "variant is ''"),
        ("aux-nas steps=9", InvalidArgumentError, "equal for all variants"),
    ):
        with pytest.raises(error, match=message):
            compare("normals", "depth", data, TINY, variants=("single", wrong), **at(tmp_path / "no"))
    assert not (tmp_path / "no").exists()


def test_a_comparison_checks_all_variants_first(data: AuxData, tmp_path: Path) -> None:
    for helper, error in (("edges", UnknownTaskError), ((), InvalidArgumentError)):
        with pytest.raises(error):
            compare("normals", helper, data, TINY, **at(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_a_kept_run_is_a_network_again(data: AuxData, tmp_path: Path) -> None:
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    options = {
        "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 4, "patch_size": 8,
        "head_channels": 8,
    }  # fmt: skip
    for name, config in (("net", TINY), ("vit", {"backbone": "vit-tiny", "options": options, "steps": 1})):
        result = aux_nas("segmentation", "normals", data, config, out=tmp_path / name, primary_code=CODE)
        with torch.no_grad():
            torch.testing.assert_close(load_primary(tmp_path / name)(x), result.export()(x))
    (tmp_path / "net" / "primary.safetensors").unlink()
    with pytest.raises(IntegrityError, match=r"primary\.safetensors"):
        load_primary(tmp_path / "net")
    with pytest.raises(IntegrityError, match=r"no config\.json of a run"):
        load_primary(tmp_path)


def test_a_configuration_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    for options, message in (
        ({"configuration": "google/vit-base-patch16-224"}, "no configuration file google/vit"),
        ({"configuration": tmp_path / "config.json"}, "is not a ViT configuration"),
        ({"configuration": tmp_path / "config.json", "checkpoint": tmp_path}, "expected one of them"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            networks.build("vit-tiny", 1, True, (32, 32), **options)


def test_a_kept_run_needs_its_checkpoint_no_more(data: AuxData, tmp_path: Path) -> None:
    """Not on another machine, nor where the checkpoint has moved; a ViT still interpolates its positions."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 4, "intermediate_size": 8}
    made = transformers.ViTModel(transformers.ViTConfig(**sizes, patch_size=8, image_size=24))
    made.save_pretrained(tmp_path / "checkpoint")
    random = {**sizes, "patch_size": 8, "head_channels": 8, "checkpoint": None}
    aux_nas(
        "normals", "segmentation", data, backbone="vit-tiny", options=random, steps=1, out=tmp_path / "random"
    )
    options = {"checkpoint": str(tmp_path / "checkpoint"), "head_channels": 8}
    config = {"backbone": "vit-tiny", "options": options, "steps": 1}
    result = aux_nas("segmentation", "normals", data, config, out=tmp_path / "run")
    (tmp_path / "checkpoint").rename(tmp_path / "elsewhere")
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (load_primary(tmp_path / "run")(x) == result.export()(x)).all()


def test_paired_test() -> None:
    # t = 2 / (1 / sqrt(3)) with 2 degrees of freedom: p = 1 - t / sqrt(t^2 + 2).
    t = 2 * math.sqrt(3)
    assert comparison.paired_p([1.0, 2.0, 3.0]) == pytest.approx(1 - t / math.sqrt(t * t + 2))
    assert math.isnan(comparison.paired_p([1.0]))
    assert math.isnan(comparison.paired_p([2.0, 2.0, 2.0]))  # no spread: nothing to test against


def test_codes_come_from_a_release(tiny_release: Path) -> None:
    bench = nasbench_mr.load(tiny_release)
    limit = float(np.median(cost.macs(bench.codes("seg"))))
    best = bench.best("seg", 1, max_macs=limit)[0]
    assert choose_code(bench, "seg", max_macs=limit) == best.code
    assert cost.macs([choose_code(bench, "video,seg", max_macs=limit, joint=True)])[0] <= limit
    with pytest.raises(InvalidArgumentError, match="of one task, not of 2: set joint"):
        choose_code(bench, "video,seg", max_macs=limit)


# --- Ranking ---


def test_rank_auxiliary(tmp_path: Path) -> None:
    codes = space.sample(20, seed=0)
    values = np.arange(20.0)
    columns = {
        # The order of "seg" itself, its reverse, and an order with the best two in place.
        "seg": {"mIoU": values},
        "seg-4x": {"mIoU": values + 50},
        "video": {"top1": values[::-1].copy()},
        "cls-10c": {"top1": np.concatenate([values[17::-1], [18, 19]])},
    }

    def fill(folder: Path) -> None:
        for name, metrics in columns.items():
            table.write(folder / f"tables/{name}.parquet", tasks.get(name), {"codes": codes, **metrics})

    release.create(fill, "ranked", "1.0.0", [tasks.get(n) for n in columns], target=tmp_path / "ranked")
    ranked = rank_auxiliary(nasbench_mr.load(tmp_path / "ranked"), "seg")
    assert [h.task for h in ranked] == ["seg-4x", "cls-10c", "video"]
    assert [h.shared for h in ranked] == [1, 1, 0]
    # Of 190 pairs, the 153 among the first 18 are reversed.
    assert [h.correlation for h in ranked] == pytest.approx([1, (190 - 2 * 153) / 190, -1])
    assert [h.regret for h in ranked] == [0, 0, 19]
    assert [h.codes for h in ranked] == [20, 20, 20]


def test_rank_auxiliary_needs_others(tiny_release: Path) -> None:
    bench = nasbench_mr.load(tiny_release)
    assert [h.codes for h in rank_auxiliary(bench, "video")] == [40]
    with pytest.raises(UnknownTaskError):
        rank_auxiliary(bench, "depth")
    with pytest.raises(InvalidArgumentError, match="top"):
        rank_auxiliary(bench, "video", top=0)
