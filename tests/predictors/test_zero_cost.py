"""Zero-cost proxies: each against a plain computation, their tables, and what reads them."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nasbench_mr
from nasbench_mr import cost, library, predictors, release, search, space, table, tasks
from nasbench_mr.cli import main
from nasbench_mr.data_builders import published
from nasbench_mr.errors import CodeNotFoundError, InvalidArgumentError, TableError, UnknownNameError
from nasbench_mr.predictors import proxy_tables, zero_cost
from nasbench_mr.predictors.base import OF_NETWORKS
from nasbench_mr.predictors.evaluation import evaluate
from nasbench_mr.predictors.zero_cost import PROXIES, compute

SMALL = space.parse([8, 8, *([1, 1, 8]), *([1, 1, 1, 8, 8]), *([1] * 4 + [8] * 3), *([1] * 5 + [8] * 4), 8])
WIDER = (*SMALL[:-1], 16)
QUICK: dict[str, Any] = {"batch": 4, "size": 32}
HEADS = ("mini-cls", "mini-seg", "mini-video", "mini-det3d")


@pytest.mark.parametrize("task", HEADS)
def test_every_head_is_deterministic_and_finite(task: str) -> None:
    first = compute([SMALL, WIDER], task, **QUICK)
    assert list(first) == list(PROXIES)
    for name, values in first.items():
        assert np.isfinite(values).all(), name
        assert values[0] != values[1], name
    torch.manual_seed(99)  # no state of the process matters, nor what else is asked for
    again = compute([WIDER], task, **QUICK)
    for name, values in first.items():
        assert again[name][0] == values[1], name
    assert compute([WIDER], task, names=("zen", "snip"), **QUICK) == {
        name: first[name][1] for name in ("zen", "snip")
    }
    other = compute([WIDER], task, seed=1, names=("snip", "naswot", "zen"), **QUICK)
    assert all(other[name] != first[name][1] for name in other)


def test_params_and_macs_are_exact() -> None:
    found = compute([SMALL], "mini-cls", names=("params", "macs"))
    assert found["params"] == cost.params([SMALL])
    assert found["macs"] == cost.macs([SMALL])


def test_gradient_norm_and_snip_are_those_of_a_backward_pass() -> None:
    setting = zero_cost._Setting(3, 4, 32, "cpu", None)
    task = tasks.get("mini-seg")
    net = setting.network(SMALL, task)
    setting.loss(task, net(setting.inputs(task))).backward()
    kernels = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]
    found = compute([SMALL], task, seed=3, names=("grad_norm", "snip"), **QUICK)
    norms = sum(math.sqrt(float((w.grad.double() ** 2).sum())) for w in kernels)
    saliency = sum(float((w.detach().double() * w.grad.double()).abs().sum()) for w in kernels)
    assert found["grad_norm"][0] == pytest.approx(norms, rel=1e-5)
    assert found["snip"][0] == pytest.approx(saliency, rel=1e-5)


@pytest.mark.parametrize("task", HEADS)
def test_networks_of_the_space_against_plain_computations(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, by other means than the package's: modules instead of modes, differences, loops."""
    batch = QUICK["batch"]
    setting = zero_cost._Setting(5, batch, QUICK["size"], "cpu", None)
    one = tasks.get(task)
    net = setting.network(WIDER, one).double()
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    kernels = [m.weight for m in convolutions]
    inputs = setting.inputs(one).double().requires_grad_()
    maps: list[torch.Tensor] = []
    patterns: list[torch.Tensor] = []
    relu = F.relu

    def noted(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
        patterns.append((x > 0).reshape(batch, -1))
        return relu(x)

    hooks = [m.register_forward_hook(lambda m, given, output: maps.append(output)) for m in convolutions]
    with monkeypatch.context() as patched:
        patched.setattr(F, "relu", noted)
        outputs = net(inputs)
    for hook in hooks:
        hook.remove()
    for output in maps:
        output.retain_grad()

    # The units that agree of each two images.
    on = torch.cat(patterns, 1).tolist()
    agree = [[sum(a == b for a, b in zip(x, y, strict=True)) for y in on] for x in on]
    expected = {"naswot": math.log(np.linalg.det(np.array(agree, np.float64)))}

    # Pearson's correlations of the gradients of each two images.
    outputs.sum().backward(retain_graph=True)
    rows = inputs.grad.reshape(batch, -1)
    rows = rows - rows.mean(1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True)
    eigenvalues = torch.linalg.eigvals(rows @ rows.T).real.tolist()
    expected["jacob_cov"] = -sum(math.log(v + 1e-5) + 1 / (v + 1e-5) for v in eigenvalues)

    for output in maps:
        output.grad = None
    net.zero_grad()
    setting.loss(one, outputs).backward()
    expected["fisher"] = 0.0
    for output in maps:
        for channel in range(output.shape[1]):
            own = [
                len(output) * float((output[i, channel].detach() * output.grad[i, channel]).sum())
                for i in range(len(output))
            ]
            expected["fisher"] += sum(v**2 for v in own) / len(own) / 2

    # H g by a central difference of the gradient along g.
    direction = [w.grad.clone() for w in kernels]
    start = [w.detach().clone() for w in kernels]
    step = 1e-7 / math.sqrt(sum(float((d**2).sum()) for d in direction))
    ends = []
    for sign in (1, -1):
        for w, was, d in zip(kernels, start, direction, strict=True):
            w.data = was + sign * step * d
        net.zero_grad()
        setting.loss(one, net(inputs)).backward()
        ends.append([w.grad.clone() for w in kernels])
    curved = [(a - b) / (2 * step) for a, b in zip(*ends, strict=True)]
    expected["grasp"] = -sum(float((w * h).sum()) for w, h in zip(start, curved, strict=True))

    linear = setting.network(WIDER, one).double().eval()
    for name, module in list(linear.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            linear.set_submodule(name, nn.Identity())
    for parameter in linear.parameters():
        parameter.data = parameter.data.abs()
    linear(torch.ones_like(inputs[:1])).sum().backward()
    flow = sum(float((m.weight * m.weight.grad).sum()) for m in linear.modules() if isinstance(m, nn.Conv2d))
    expected["synflow"] = math.log(flow)

    found = compute([WIDER], task, seed=5, names=(*expected,), **QUICK)
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, rel=1e-3), name


def test_grasp_of_a_quadratic() -> None:
    # L = w1^2 + 3 w1 w2 has g = (2 w1 + 3 w2, 3 w1) and H = [[2, 3], [3, 0]].
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = w[0] ** 2 + 3 * w[0] * w[1]
    gradients = torch.autograd.grad(loss, [w], create_graph=True)
    # g = (8, 3), H g = (25, 24), and -(1 * 25 + 2 * 24) = -73.
    assert zero_cost.grasp([w], gradients) == -73.0


def test_fisher_of_one_layer() -> None:
    activations = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]], [[[0.0, 1.0]], [[1.0, 1.0]]]])
    gradients = torch.tensor([[[[1.0, 1.0]], [[1.0, 5.0]]], [[[9.0, 2.0]], [[0.0, 1.0]]]])
    # Sums over positions: image 0 (3, 3), image 1 (2, 1); twice as large for an image's own loss; squared,
    # averaged over the images and halved: (36 + 16) / 4 = 13 and (36 + 4) / 4 = 10.
    assert zero_cost.fisher(activations, gradients) == 23.0


def test_jacobian_covariance_of_two_images() -> None:
    jacobian = torch.tensor([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]])
    # Their correlation is 1/2, the eigenvalues 1/2 and 3/2.
    low, high = 0.5 + 1e-5, 1.5 + 1e-5
    expected = -(math.log(low) + 1 / low + math.log(high) + 1 / high)
    assert zero_cost.jacob_cov(jacobian) == pytest.approx(expected)


def test_naswot_counts_units_that_agree() -> None:
    with zero_cost._Activations() as activations:
        F.relu(torch.tensor([[1.0, -1.0, 2.0], [1.0, 3.0, -2.0]]))
        nn.ReLU()(torch.tensor([[1.0], [1.0]]))
    # Of four units two agree; the log-determinant of [[4, 2], [2, 4]] is log 12.
    assert activations.agreement(2).tolist() == [[4.0, 2.0], [2.0, 4.0]]
    assert zero_cost.naswot(activations.agreement(2)) == pytest.approx(math.log(12))


def test_synflow_of_two_layers() -> None:
    first, second = nn.Conv2d(2, 3, 1, bias=False), nn.Conv2d(3, 1, 1, bias=False)
    with torch.no_grad():
        first.weight[:] = torch.tensor([[1.0, -2.0], [0.5, 1.0], [-1.0, 0.0]])[:, :, None, None]
        second.weight[:] = torch.tensor([[2.0, -1.0, 3.0]])[:, :, None, None]
    net = nn.Sequential(first, nn.BatchNorm2d(3), nn.ReLU(), second)
    # Paths: 2 * (1 + 2) + 1 * (0.5 + 1) + 3 * 1 = 10.5 a pixel, four pixels, and each of two layers has all.
    assert zero_cost.synflow(net, (1, 2, 2, 2)) == pytest.approx(math.log(2 * 4 * 10.5))


def test_zen_is_the_step_of_the_last_map_times_the_scales_of_the_norms() -> None:
    setting = zero_cost._Setting(0, 4, 32, "cpu", None)
    task = tasks.get("mini-cls")
    net = setting.network(SMALL, task)
    inputs, noise = setting.inputs(task, 2), setting.inputs(task, 3)
    found = zero_cost.zen(net, inputs, noise)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    sizes: list[int] = []
    for norm in norms:
        norm.momentum = 1.0  # the running variance is then that of the last batch, unbiased
        norm.register_forward_pre_hook(lambda m, given: sizes.append(given[0].numel() // given[0].shape[1]))
    with torch.no_grad():
        moved = net.head.join(net.branches(inputs + 0.01 * noise))
        order = list(sizes)
        sizes.clear()
        last = net.head.join(net.branches(inputs))
    step = np.mean([float((a - b).norm()) for a, b in zip(last, moved, strict=True)])
    # In the order of the modules, which all have the same number of inputs in both passes.
    by_module = dict(zip(_called(net, inputs), order, strict=True))
    scales = sum(
        math.log(float(norm.running_var.mean()) * (by_module[norm] - 1) / by_module[norm]) / 2
        for norm in norms
    )
    assert found == pytest.approx(math.log(step) + scales, rel=1e-4)


def _called(net: Any, inputs: torch.Tensor) -> list[nn.Module]:
    order: list[nn.Module] = []
    hooks = [
        m.register_forward_pre_hook(lambda m, given: order.append(m))
        for m in net.modules()
        if isinstance(m, nn.BatchNorm2d)
    ]
    momenta = [(m, m.momentum) for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for m, _ in momenta:
        m.momentum = 0.0
    with torch.no_grad():
        net.head.join(net.branches(inputs))
    for hook in hooks:
        hook.remove()
    for m, momentum in momenta:
        m.momentum = momentum
    return order


def test_mistakes() -> None:
    with pytest.raises(UnknownNameError, match="no zero-cost proxy 'synflo': did you mean 'synflow'"):
        compute([SMALL], "mini-cls", names=("synflo",))
    with pytest.raises(InvalidArgumentError, match="batch is 1"):
        compute([SMALL], "mini-cls", batch=1)
    with pytest.raises(InvalidArgumentError, match="size is 16"):
        compute([SMALL], "mini-cls", size=16)


# --- Tables -------------------------------------------------------------------------------------------


def install_proxies(codes: Any, task: str, values: dict[str, Any]) -> None:
    part = {"codes": codes.tolist(), "values": {name: list(v) for name, v in values.items()}}

    def fill(folder: Path) -> None:
        target = folder / f"proxies/{task}.parquet"
        proxy_tables.write(target, [part], tasks.get(task), {"seed": 0})

    release.create(fill, f"proxies-{task}", "1.0.0", [])


def installed(task: str) -> dict[str, proxy_tables.ProxyTable]:
    """Return, by proxy, the installed table that answers for a task."""
    return proxy_tables.find(tasks.get(task), library.installed())


def test_a_table_is_made_and_resumed(tmp_path: Path) -> None:
    task = tasks.get("mini-cls")
    codes = np.array([SMALL, WIDER], np.int16)
    options = {**QUICK, "seed": 0, "names": ("snip", "naswot")}
    proxy_tables.make(codes[:1], task, tmp_path, count=0, **options)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.json")}
    path = proxy_tables.make(codes, task, tmp_path, count=0, **options)
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.json")}
    assert before.items() < after.items()
    found = proxy_tables.read(path)
    expected = compute(codes, task, names=("snip", "naswot"), **QUICK)
    for name, values in expected.items():
        assert found.lookup(codes, name) == pytest.approx(values, rel=1 / 1024)
    assert found.about["problem"] == "classification"
    assert np.isnan(found.lookup(space.sample(1, seed=0), "snip")).all()
    table.write_arrow(table.read_arrow(path).drop_columns(["i1"]), tmp_path / "worn.parquet")
    with pytest.raises(TableError, match="not a table of zero-cost proxies"):
        proxy_tables.read(tmp_path / "worn.parquet")


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"codes": [SMALL], "values": []},
        {"codes": [SMALL[:5]], "values": {"snip": [1.0]}},
        {"codes": [SMALL], "values": {"snip": [1.0, 2.0]}},
        {"codes": [SMALL], "values": {"snip": ["1"]}},
        {"codes": [SMALL], "values": {"naswot": [1.0]}},
    ],
)
def test_damaged_parts_are_named(part: dict[str, Any], tmp_path: Path) -> None:
    made = {**QUICK, "names": ("snip",), "count": 0}
    codes = np.array([SMALL, WIDER], np.int16)
    proxy_tables.make(codes[:1], tasks.get("mini-cls"), tmp_path, **made)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(json.dumps(part))
    with pytest.raises(
        InvalidArgumentError, match=f"{path.name} is not a group of proxies .*delete it and run"
    ):
        proxy_tables.make(codes, tasks.get("mini-cls"), tmp_path, **made)


def test_values_close_together_and_far_from_zero_stay_apart() -> None:
    # As the Jacobian covariance's: between -8.05 and -8.00.
    codes = space.sample(200, seed=0)
    close = -8.05 + 0.05 * np.arange(200) / 200
    install_proxies(codes, "mini-cls", {"jacob_cov": close, "snip": np.geomspace(1, 1e4, 200)})
    table = installed("mini-cls")["snip"]
    kept = table.lookup(codes, "jacob_cov")
    assert len(np.unique(kept)) == 200
    # Half of the values span 0.025.
    assert np.abs(kept - close).max() < 0.025 / 512
    assert table.lookup(codes, "snip") == pytest.approx(np.geomspace(1, 1e4, 200), rel=1 / 512)


def test_the_table_of_the_most_similar_networks_is_found() -> None:
    codes = space.sample(5, seed=0)
    install_proxies(codes, "mini-cls", {"snip": range(5)})
    install_proxies(codes, "mini-seg", {"snip": range(5, 10)})
    # A user's come before those of the package, which answer for the proxies that the user's lack.
    found = installed("mini-seg")
    assert found["snip"].lookup(codes, "snip").tolist() == [5, 6, 7, 8, 9]
    assert len(found["zen"].codes) == 230
    assert sorted(found) == sorted(OF_NETWORKS)
    assert installed("mini-video")["snip"].about["task"] == "mini-video"
    other = replace(tasks.get("mini-seg"), name="mine", problem="unknown", num_classes=10)
    assert proxy_tables.find(other, library.installed())["snip"].about["task"] == "mini-cls"
    full = replace(other, width_mult=0.25)
    with pytest.raises(CodeNotFoundError, match="nasbench-mr proxies mine --head TASK makes them"):
        proxy_tables.find(full, library.installed())


def test_scores_are_looked_up_or_else_computed() -> None:
    codes = np.array([SMALL, WIDER], np.int16)
    install_proxies(codes[:1], "mini-seg", {"snip": [7.0]})
    task = tasks.get("mini-seg")
    computed = compute(codes, task, names=("snip", "naswot"))
    table = proxy_tables.installed(task, "snip")
    assert proxy_tables.scores(codes, task, "snip", table).tolist() == [7.0, computed["snip"][1]]
    assert proxy_tables.scores(codes, task, "naswot", None).tolist() == computed["naswot"].tolist()
    # A table of other networks serves a like task; what it lacks is computed for its networks too.
    like = replace(tasks.get("mini-cls"), name="mine")
    table = proxy_tables.find(like, [release.Release.open(release.find("proxies-mini-seg"))])["snip"]
    assert table.about["task"] == "mini-seg"
    assert proxy_tables.scores(codes, like, "snip", table).tolist() == [7.0, computed["snip"][1]]


@pytest.fixture
def known() -> tuple[Any, Any]:
    """Install proxies of mini's codes: one that is the objective of mini-seg, and noise."""
    bench = nasbench_mr.load()
    codes = bench.codes("mini-seg")
    truth = bench.query_many(codes, "mini-seg", ("mIoU",))["mIoU"]
    noise = np.random.default_rng(0).normal(size=len(codes))
    install_proxies(
        codes, "mini-seg", {"synflow": np.exp(truth), "naswot": truth, "zen": truth, "snip": noise}
    )
    return bench, codes


def test_a_table_of_few_codes_does_not_take_the_place_of_a_full_one() -> None:
    codes = space.sample(3, seed=0)
    install_proxies(codes, "seg", {"naswot": [1.0, 2.0, 3.0]})
    # The package's, of the networks of cls-50-1000, knows the published codes.
    assert len(installed("video")["naswot"].codes) == 2507
    # Made for the task itself, it is what the user wants.
    assert len(installed("seg")["naswot"].codes) == 3


@pytest.mark.parametrize(("kind", "options"), [("proxy-snip", {}), ("ensemble+proxies", {"epochs": 1})])
def test_codes_without_a_proxy_are_counted(kind: str, options: dict[str, Any]) -> None:
    codes = space.sample(10, seed=0)
    install_proxies(codes[:4], "seg", {"snip": [1.0, 2.0, 3.0, 4.0]})
    values = np.column_stack([np.arange(10.0)])
    values[:2] = np.nan  # these two are not fitted to
    message = "proxies are known of 2 of 8 codes of 'seg'.*nasbench-mr proxies seg makes them"
    with pytest.warns(UserWarning, match=message):
        predictors.make(kind, **options).fit(codes, values, names=("seg/mIoU",))


def test_proxies_as_predictors(known: tuple[Any, Any]) -> None:
    bench, _ = known
    asked = ("proxy-synflow", "proxy-snip", "ensemble", "ensemble+proxies")
    found = evaluate(asked, bench, "mini-seg", train=25, seeds=2).groupby("predictor")["kendall"].mean()
    assert found["proxy-synflow"] > 0.99
    assert abs(found["proxy-snip"]) < 0.3
    # A proxy that tells the truth is worth more than the code.
    assert found["ensemble+proxies"] > found["ensemble"] + 0.1


def test_params_and_macs_are_known_of_every_code(known: tuple[Any, Any]) -> None:
    _, codes = known
    model = predictors.make("proxy-macs").fit(codes[:50], cost.macs(codes[:50]), names=("mini-seg/mIoU",))
    other = space.sample(20, seed=5)
    order = np.argsort(model.predict(other)[0][:, 0])
    assert order.tolist() == np.argsort(cost.macs(other)).tolist()


def test_a_model_with_proxies_is_saved_and_loaded(known: tuple[Any, Any], tmp_path: Path) -> None:
    bench, codes = known
    values = bench.query_many(codes, "mini-seg", ("mIoU",))["mIoU"]
    for kind, options in (("ensemble+proxies", {"epochs": 3, "members": 2}), ("proxy-naswot", {})):
        model = predictors.make(kind, **options).fit(codes[:50], values[:50], names=("mini-seg/mIoU",))
        expected = model.predict(codes)
        # A code without proxies is answered as well.
        assert np.isfinite(model.predict(space.sample(3, seed=5))[0]).all()
        model.save(tmp_path / "model.npz")
        again = predictors.load(tmp_path / "model.npz").predict(codes)
        assert np.array_equal(expected, again)
        with pytest.raises(InvalidArgumentError, match="has no gradients"):
            search.ncp(model, "mini-seg/mIoU")


# --- A user's tasks -----------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """Import "mytask", whose loss falls with the MACs, and "chain", of a space without formulas."""
    codes = space.sample(30, seed=1)
    loss = 100 - 10 * np.log10(cost.macs(codes))
    lines = [f"{space.to_string(code)},{value}" for code, value in zip(codes, loss, strict=True)]
    (tmp_path / "own.csv").write_text("\n".join(["code,loss", *lines]))
    published.import_table(tmp_path / "own.csv", "mytask", minimize=["loss"])
    (tmp_path / "chain.toml").write_text('name = "chain"\n[dimensions]\nw = [1, 2, 3, 4, 5, 6, 7, 8]')
    (tmp_path / "chain.csv").write_text("\n".join(["w,acc", *(f"{w},{50 + w}" for w in range(1, 9))]))
    published.import_table(tmp_path / "chain.csv", "chain", own_space=tmp_path / "chain.toml")
    return codes


def test_proxies_of_a_users_task(own: Any, tmp_path: Path) -> None:
    bench = nasbench_mr.load()
    # The loss falls with the MACs: more of them counts as better, so the order is that of the values.
    found = evaluate("proxy-macs", bench, "mytask", train=20, seeds=1)
    assert found["kendall"].tolist() == [1.0]
    # Networks of this width have installed proxies, of other codes.
    told = (
        "for task 'mytask' of any of the codes to fit to; nasbench-mr proxies mytask --head TASK makes them"
    )
    for kind in ("proxy-naswot", "ensemble+proxies"):
        with pytest.raises(CodeNotFoundError, match=told):
            evaluate(kind, bench, "mytask", train=20, seeds=1)
    asked = ["proxies", "mytask", "--names", "naswot", "--batch", "4", "--size", "32", "--workers", "0"]
    assert main([*asked, "--out", str(tmp_path / "out"), "--head", "mini-cls"]) == 0
    table = proxy_tables.read(tmp_path / "out/proxies/mytask.parquet")
    expected = compute(own[:1], "mini-cls", names=("naswot",), **QUICK)["naswot"]
    assert table.lookup(own[:1], "naswot") == pytest.approx(expected, rel=1 / 512)
    assert (table.about["task"], table.about["problem"]) == ("mytask", "classification")

    def fill(folder: Path) -> None:
        shutil.copytree(tmp_path / "out/proxies", folder / "proxies")

    release.create(fill, "own-proxies", "1.0.0", [])
    for kind in ("proxy-naswot", "ensemble+proxies"):
        assert len(evaluate(kind, bench, "mytask", train=20, seeds=1)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("proxies mytask --out out", "Name a task that does, such as --head mini-cls"),
        (
            "proxies chain --out out",
            "zero-cost proxies take networks of 'nasbench-mr' codes; task 'chain'",
        ),
        ("proxies chain --out out --head mini-cls", "zero-cost proxies take networks"),
        ("predict-eval proxy-naswot --tasks chain --train 4", "zero-cost proxies take networks"),
        ("predict-eval ensemble+proxies --tasks chain --train 4", "zero-cost proxies take networks"),
        (
            "compare mytask --searchers proxy:proxy=naswot:task=mytask --workers 0",
            "Name a task that does, such as proxy:proxy=naswot:task=mini-cls",
        ),
        ("compare mytask --searchers proxy:proxy=naswot:task=chain --workers 0", "zero-cost proxies take"),
        (
            "compare chain --searchers proxy --workers 0",
            "the proxy 'params' is not known of any code",
        ),
    ],
)
@pytest.mark.usefixtures("own")
def test_what_a_users_task_needs(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_the_sign_is_that_of_the_columns_metric(own: Any) -> None:
    told = cost.macs(own)
    for name, sign in (("mytask/loss", -1), ("mini-seg/mAcc", 1), ("latency_ms@cpu/latency_ms", -1)):
        mean = predictors.make("proxy-macs").fit(own, told, names=(name,)).predict(own)[0][:, 0]
        assert np.argsort(sign * mean).tolist() == np.argsort(told).tolist()
