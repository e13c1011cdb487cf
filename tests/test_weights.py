"""Trained weights: what a file says of itself, the part of a release, networks of them, and exports."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import nasbench_mr
from nasbench_mr import cost, files, network, release, table, tasks, tensors, weights
from nasbench_mr.errors import (
    CodeNotFoundError,
    IntegrityError,
    InvalidArgumentError,
    ReleaseError,
    ReleaseNotFoundError,
    UnknownTaskError,
)
from nasbench_mr.weights import Trained, Weights

CODE = (8, 8, 1, 1, 8, 1, 1, 1, 8, 8, 1, 1, 1, 1, 8, 8, 8, 1, 1, 1, 1, 1, 8, 8, 8, 8, 8)
OTHER = (16, *CODE[1:])
#: The heads that `network` makes, and what they take.
INPUTS = {"mini-cls": (2, 3, 32, 32), "seg": (1, 3, 64, 96), "video": (1, 2, 3, 32, 32)}


@pytest.fixture(scope="module")
def mini() -> release.Release:
    return release.Release.open(release.EMBEDDED)


def trained(code: tuple[int, ...] = CODE, task: str = "mini-cls", seed: int = 0) -> Trained:
    """Return a description with the metrics of mini's table."""
    found = nasbench_mr.load("mini").query(code, task, seed=seed)
    metrics = {m.name: found[m.name] for m in tasks.get(task).metrics}
    return Trained(
        code=code, task=task, seed=seed, recipe=task, digest="0" * 64, metrics=metrics, width_mult=0.5,
        stem_strides=(2, 2), version="1.0.0",
    )  # fmt: skip


def write(path: Path, told: Trained, seed: int = 0) -> network.MultiResolutionNet:
    """Write the random weights of a network under this description; return the network."""
    torch.manual_seed(seed)
    net = network.MultiResolutionNet(
        told.code, tasks.get(told.task).num_classes or 1, tasks.get(told.task).problem, told.width_mult,
        stem_strides=told.stem_strides,
    ).eval()  # fmt: skip
    weights.save(path, net, told)
    return net


def test_a_file_says_what_it_is_of(tmp_path: Path) -> None:
    told = replace(trained(), metrics={"top1": 18.45, "top5": float("nan")})
    write(tmp_path / "w", told)
    found = weights.read(tmp_path / "w")
    assert np.isnan(found.metrics["top5"])
    assert replace(found, metrics={}) == replace(told, metrics={})
    assert found.metrics["top1"] == 18.45


def test_build_takes_weights_and_their_width_and_strides(tmp_path: Path) -> None:
    told = replace(trained(), width_mult=0.25, stem_strides=(2, 1))
    net = write(tmp_path / "w", told)
    again = network.build(CODE, "mini-cls", weights=tmp_path / "w").eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(net(x), again(x))
    maps = network.build(CODE, "mini-cls", weights=tmp_path / "w", features_only=True).eval()(x)
    assert all(torch.equal(a, b) for a, b in zip(maps, net.branches(x), strict=True))


@pytest.mark.parametrize(
    ("code", "task", "width", "words"),
    [
        (OTHER, "mini-cls", None, r"has weights of code 8_8-.*; expected those of 16_8-"),
        (CODE, "seg", None, "has weights of task 'mini-cls'; expected those of 'seg'"),
        (CODE, "mini-cls", 1.0, r"of a network of width 0.5; width_mult is 1.0"),
    ],
)
def test_weights_of_something_else_are_refused(
    tmp_path: Path, code: tuple[int, ...], task: str, width: float | None, words: str
) -> None:
    write(tmp_path / "w", trained())
    with pytest.raises(InvalidArgumentError, match=words):
        network.build(code, task, width, weights=tmp_path / "w")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w"
    write(path, trained())
    whole = path.read_bytes()
    for damaged in (b"", whole[:4], whole[:200], whole[:-10], b"\xff" * 8 + whole[8:], b"{" * len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            network.build(CODE, "mini-cls", weights=path)
    tensors.save_weights(path, torch.nn.Linear(2, 2))
    with pytest.raises(IntegrityError, match="does not say what was trained; expected a file that train"):
        weights.read(path)
    weights.save(path, torch.nn.Linear(2, 2), trained())
    with pytest.raises(IntegrityError, match="does not hold the weights of this network"):
        network.build(CODE, "mini-cls", weights=path)
    with pytest.raises(IntegrityError, match="No such file"):
        weights.read(tmp_path / "none")
    for text in ("[]", "{}", json.dumps({**json.loads(trained().to_text()), "code": [1]})):
        with pytest.raises(IntegrityError):
            Trained.from_text(text, "it")


@pytest.fixture
def part(tmp_path: Path, mini: release.Release) -> Weights:
    """Return weights of two trials of mini."""
    for k, task in enumerate(("mini-cls", "mini-video")):
        write(tmp_path / f"{k}", trained(task=task), k)
    return weights.make([tmp_path / "0", tmp_path / "1"], mini, tmp_path / "part")


def test_a_part_is_packed_checked_and_found(part: Weights, tmp_path: Path, mini: release.Release) -> None:
    assert (part.tasks, part.codes("mini-cls"), part.digest) == (
        ("mini-cls", "mini-video"),
        [CODE],
        mini.digest,
    )
    packed = weights.pack(part, tmp_path)
    assert packed.name == "mini-weights-1.1.0.tar.gz"
    assert packed.read_bytes() == weights.pack(part, tmp_path / "again.tar.gz").read_bytes()
    with pytest.raises(ReleaseNotFoundError, match=r"no weights of 'mini' are installed .*weights fetch"):
        network.load_pretrained("mini", CODE, "mini-cls")
    made = weights.install(packed, Path(f"{packed}.sha256").read_text().split()[0])
    assert made.files == part.files
    assert weights.install(part.path).path == made.path
    for spec in ("mini", "mini@1.1.0", part.path):
        net = network.load_pretrained(spec, CODE, "mini-cls")
        assert not net.training
    x = torch.randn(1, 3, 32, 32)
    expected = network.build(CODE, "mini-cls", weights=tmp_path / "0").eval()
    assert torch.equal(network.load_pretrained("mini", CODE, "mini-cls")(x), expected(x))
    assert [str(each) for each in weights.installed()] == ["the weights of mini@1.1.0"]
    with pytest.raises(CodeNotFoundError, match=r"none of 16_8-.* it has those of 1 code \("):
        network.load_pretrained("mini", OTHER, "mini-cls")
    with pytest.raises(UnknownTaskError, match="none for task 'mini-seg'"):
        network.load_pretrained("mini", CODE, "mini-seg")
    with pytest.raises(InvalidArgumentError, match=r"mini-det3d.*detection.*train.load reads"):
        network.load_pretrained("mini", CODE, "mini-det3d")


def test_a_task_of_ones_own_release_has_its_networks(tmp_path: Path) -> None:
    own = replace(tasks.get("mini-cls"), name="ours", aliases=(), num_classes=7)

    def fill(folder: Path) -> None:
        codes = np.array([CODE], np.int16)
        columns = {"codes": codes, "top1": [30.0], "top5": [60.0]}
        columns |= {"macs": cost.macs(codes), "params": cost.params(codes)}
        table.write(folder / "tables/ours.parquet", own, columns)

    made = release.create(fill, "lab", "1.0.0", [own])
    told = replace(trained(), task="ours", metrics={"top1": 30.0, "top5": 60.0})
    net = network.build(CODE, "ours").eval()
    weights.save(tmp_path / "w", net, told)
    weights.install(weights.make([tmp_path / "w"], made, tmp_path / "part").path)
    x = torch.randn(2, 3, 32, 32)
    found = network.load_pretrained("lab", CODE, "ours")(x)
    assert found.shape == (2, 7)
    assert torch.equal(found, net(x))
    with pytest.raises(InvalidArgumentError, match="'ours' does not say how many classes"):
        network.build(CODE, replace(own, num_classes=None))


def test_altered_parts_are_refused(part: Weights, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(part.path, tmp_path / name))

    first = part.path / next(iter(part.files))
    altered = copy("altered")
    (altered / first.relative_to(part.path)).write_bytes(first.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match=r"sha256|hash"):
        weights.install(altered)
    missing = copy("missing")
    (missing / first.relative_to(part.path)).unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        weights.install(missing)
    more = copy("more")
    (more / "mini-cls" / "more").write_text("x")
    with pytest.raises(IntegrityError, match="mini-cls/more is not listed"):
        weights.verify(Weights.open(more))
    # The right hashes under the wrong names.
    swapped = copy("swapped")
    listed = json.loads((swapped / "weights.json").read_text())
    one, two = listed["files"]
    for key in ("code", "task", "seed", "metrics"):
        listed["files"][one][key], listed["files"][two][key] = (
            listed["files"][two][key],
            listed["files"][one][key],
        )
    (swapped / "weights.json").write_text(json.dumps(listed))
    with pytest.raises(InvalidArgumentError, match="has weights of task"):
        weights.install(swapped)
    for text in (
        "",
        "[]",
        "{}",
        r'{"release": "\ud800"}',
        '{"release": "mini", "version": "1.0.0", "digest": "", "files": {"../x": {}}}',
    ):
        (swapped / "weights.json").write_text(text)
        with pytest.raises(ReleaseError):
            Weights.open(swapped)
    assert weights.installed() == []


@pytest.mark.parametrize("metrics", [{"top1": "x"}, [1], {"top1": True}, "top1", None])
def test_metrics_are_numbers_by_name(part: Weights, metrics: object) -> None:
    place = part.path / "weights.json"
    listed = json.loads(place.read_text())
    next(iter(listed["files"].values()))["metrics"] = metrics
    place.write_text(json.dumps(listed))
    with pytest.raises(ReleaseError, match=r"malformed: .*metrics is .*; expected numbers by name"):
        weights.install(part.path)
    told = json.loads(trained().to_text())
    with pytest.raises(IntegrityError, match="expected numbers by name"):
        Trained.from_text(json.dumps({**told, "metrics": metrics}), "it")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("metrics", {"top1": None}, r"metrics is \{'top1': 18.45.*; weights.json says \{'top1': None\}"),
        ("seed", 5, "seed is 0; weights.json says 5"),
        ("bytes", 1, r"bytes is \d+; weights.json says 1"),
    ],
)
def test_a_part_lists_what_its_files_say(part: Weights, key: str, value: object, words: str) -> None:
    place = part.path / "weights.json"
    listed = json.loads(place.read_text())
    listed["files"][next(iter(part.files))][key] = value
    place.write_text(json.dumps(listed))
    with pytest.raises(IntegrityError, match=words):
        weights.install(part.path)
    assert weights.installed() == []


def test_an_unknown_metric_is_kept_as_such(tmp_path: Path, mini: release.Release) -> None:
    path = tmp_path / "w"
    write(path, trained())
    made = weights.make([path], mini, tmp_path / "part")
    (name,) = made.files
    told = replace(trained(), metrics={"top1": float("nan")})
    write(made.path / name, told)
    listed = json.loads((made.path / "weights.json").read_text())
    entry = {"sha256": files.sha256(made.path / name), "bytes": (made.path / name).stat().st_size}
    listed["files"][name] |= {**entry, "metrics": {"top1": None}}
    (made.path / "weights.json").write_text(json.dumps(listed))
    (row,) = weights.install(made.path).files.values()
    assert np.isnan(row["metrics"]["top1"])


def test_weights_are_of_the_values_of_the_release_at_hand(part: Weights) -> None:
    place = part.path / "weights.json"
    text = place.read_text()
    made = weights.install(part.path)
    assert made.matches is True
    place.write_text(text.replace(part.digest, "0" * 64))
    words = (
        r"mini@1.1.0 are of tables with the digest 000000000000\.\.\., and those at hand have another; get"
    )
    for use in (weights.install, weights.find, lambda p: network.load_pretrained(p, CODE, "mini-cls")):
        with pytest.raises(IntegrityError, match=words):
            use(part.path)
    # A release that changed since they were installed.
    (made.path / "weights.json").write_text(place.read_text())
    with pytest.raises(IntegrityError, match=words):
        weights.find("mini")
    assert [each.matches for each in weights.installed()] == [False]
    # Of a version that is not at hand no one can tell.
    place.write_text(text.replace('"1.1.0"', '"9.9.9"'))
    assert weights.install(part.path).matches is None
    assert weights.find("mini").version == "9.9.9"
    place.write_text(text.replace(part.digest, "z"))
    with pytest.raises(ReleaseError, match="digest is 'z'; expected 64 hexadecimal digits"):
        Weights.open(part.path)


def test_a_part_is_of_its_release_to_the_last_digit(tmp_path: Path, mini: release.Release) -> None:
    told = trained()
    write(tmp_path / "w", replace(told, metrics={**told.metrics, "top1": told.metrics["top1"] + 1e-9}))
    with pytest.raises(IntegrityError, match=r"top1 is .*; the trial in mini@1.1.0 has 18.45"):
        weights.make([tmp_path / "w"], mini, tmp_path / "part")
    write(tmp_path / "w", replace(told, seed=99))
    with pytest.raises(InvalidArgumentError, match=r"seed 99; mini@1.1.0 has no such trial"):
        weights.make([tmp_path / "w"], mini, tmp_path / "part")
    with pytest.raises(InvalidArgumentError, match="there are no files of weights"):
        weights.make([], mini, tmp_path / "part")
    assert not (tmp_path / "part").exists()


# --- Networks -----------------------------------------------------------------------------------------


def test_several_heads_share_one_trunk() -> None:
    net = network.build(CODE, ("seg", "cls-50-1000", "video")).eval()
    single = network.build(CODE, "seg").eval()
    own = {k.replace("heads.seg.", "head."): v for k, v in net.state_dict().items()}
    single.load_state_dict({k: v for k, v in own.items() if not k.startswith("heads.")})
    x = torch.randn(2, 3, 64, 64)
    found = net(x)
    assert {name: tuple(y.shape) for name, y in found.items()} == {
        "seg": (2, 19, 64, 64), "cls-50-1000": (2, 50), "video": (2, 51),
    }  # fmt: skip
    assert torch.equal(found["seg"], single(x))
    clips = torch.stack([x, x], dim=1)
    assert torch.allclose(net(clips, ["video"])["video"], found["video"], atol=1e-6)
    assert list(net(x, ["seg"])) == ["seg"]
    sum(y.mean() for y in net.train()(x).values()).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_mistakes_with_heads_are_named() -> None:
    net = network.build(CODE, ("seg", "video"))
    with pytest.raises(InvalidArgumentError, match="a clip; the head 'seg' takes images"):
        net(torch.zeros(1, 2, 3, 32, 32))
    with pytest.raises(InvalidArgumentError, match="no head 'sge': did you mean 'seg'"):
        net(torch.zeros(1, 3, 32, 32), ["sge"])
    with pytest.raises(InvalidArgumentError, match="H and W at least 32"):
        net(torch.zeros(1, 3, 16, 16))
    with pytest.raises(
        InvalidArgumentError, match=r"different widths \(seg 1, mini-cls 0.5\); give width_mult"
    ):
        network.build(CODE, ("seg", "mini-cls"))
    assert network.build(CODE, ("seg", "mini-cls"), 0.5).channels[0] == (4,)
    with pytest.raises(InvalidArgumentError, match="expected distinct tasks"):
        network.build(CODE, ("seg", "seg"))
    with pytest.raises(InvalidArgumentError, match="are for one task"):
        network.build(CODE, ("seg", "video"), features_only=True)


def test_features_and_what_they_are() -> None:
    net = network.build(OTHER, "seg", features_only=True).eval()
    maps = net(torch.zeros(1, 3, 64, 96))
    info = net.feature_info
    assert info is not None
    assert info.channels() == [y.shape[1] for y in maps] == [8, 8, 8, 8]
    assert info.reduction() == [64 // y.shape[2] for y in maps] == [4, 8, 16, 32]
    assert len(info) == 4
    assert info[1]["num_chs"] == 8


def test_networks_compile() -> None:
    """Without generating code, which takes half a minute: that is left to the tests of measuring."""
    net = network.build(CODE, "mini-cls").eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(torch.compile(net, backend="aot_eager", fullgraph=True)(x), net(x), atol=1e-4)


@pytest.mark.parametrize(("task", "opset"), [("mini-cls", 18), ("seg", 20), ("video", 23)])
def test_networks_export_to_torch_and_onnx(task: str, opset: int, tmp_path: Path) -> None:
    """By the oldest opset of torch's exporter, its usual one, and a current one, which torch 2.6 lacks."""
    net = network.build(CODE, task).eval()
    x = torch.randn(INPUTS[task], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net(x)
        assert torch.allclose(torch.export.export(net, (x,)).module()(x), expected, atol=1e-5)
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (x,), path, input_names=["x"], opset_version=opset, dynamo=True, verbose=False)
    assert [used.version for used in onnx.load(path).opset_import] == [opset]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x.numpy()})
    assert np.abs(found - expected.numpy()).max() < 1e-4
