"""Networks as files of their own: they run without this package, and are the networks of the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nasbench_mr import cost, space, tasks, tensors, weights
from nasbench_mr.data_builders.detection.network import DetectionNet
from nasbench_mr.data_builders.training import recipes
from nasbench_mr.data_builders.training.scans import configure
from nasbench_mr.errors import InvalidArgumentError, OutOfSpaceError
from nasbench_mr.network import MultiResolutionNet, build
from nasbench_mr.search.export import export, source

CODE = space.project(space.sample(1, seed=4) / 3.0)[0]
SHAPES = {
    "cls-10-1000": (2, 3, 64, 64),
    "mini-cls": (2, 3, 32, 32),
    "seg": (2, 3, 64, 96),
    "video": (2, 2, 3, 64, 64),
}

ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
import net
network = net.build()
assert not any(name.startswith("nasbench_mr") for name in sys.modules), "needs the package"
print(sum(p.numel() for p in network.parameters()))
"""


def loaded(path: Path) -> Any:
    """Return the exported file's network."""
    scope: dict[str, Any] = {"__name__": "net"}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    return scope["build"]()


@pytest.mark.parametrize("name", SHAPES)
def test_the_file_builds_the_network_of_the_code(name: str, tmp_path: Path) -> None:
    path = export(CODE, tasks.get(name), tmp_path / "net.py")
    theirs, ours = loaded(path).eval(), build(CODE, name).eval()
    # The same parameters by name and shape, so weights go from one to the other.
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(SHAPES[name], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(theirs(x), ours(x))


def test_a_detectors_trunk_is_exported_without_a_head(tmp_path: Path) -> None:
    theirs = loaded(export(CODE, tasks.get("3ddet"), tmp_path / "net.py"))
    ours = MultiResolutionNet(CODE, head=None, in_channels=64, stem_strides=(2, 1))
    ours.load_state_dict(theirs.state_dict())
    maps = theirs(torch.zeros(1, 64, 64, 64))
    assert [tuple(m.shape[2:]) for m in maps] == [(32, 32), (16, 16), (8, 8), (4, 4)]


def test_it_needs_nothing_but_torch(tmp_path: Path) -> None:
    export(CODE, tasks.get("seg"), tmp_path / "net.py")
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == cost.params(CODE, num_classes=19)[0]


@pytest.mark.parametrize("name", ["mini-cls", "mini-seg", "mini-video"])
def test_the_file_trains_and_loads(name: str, tmp_path: Path) -> None:
    scope: dict[str, Any] = {"__name__": "net"}
    exec(compile(source(CODE, tasks.get(name)), "net.py", "exec"), scope)
    torch.manual_seed(0)
    network = scope["build"]()
    inputs = torch.randn(2, *((2,) if name == "mini-video" else ()), 3, 32, 32)
    labels = torch.tensor([1, 2])
    if name == "mini-seg":
        labels = torch.ones(2, 32, 32, dtype=torch.long)
        labels[:, 0] = 255
    loss = torch.nn.CrossEntropyLoss(ignore_index=255)
    before = loss(network.train()(inputs), labels)
    scope["train"](network, [(inputs, labels)], epochs=8)
    assert loss(network.train()(inputs), labels) < before
    tensors.save_weights(tmp_path / "w.safetensors", network)
    again = scope["build"](tmp_path / "w.safetensors").eval()
    assert torch.equal(again(inputs), network.eval()(inputs))


def test_the_file_has_the_strides_of_its_weights(tmp_path: Path) -> None:
    """No shape of a weight tells them."""
    task = tasks.get("mini-seg")
    trained = MultiResolutionNet(CODE, 11, "segmentation", task.width_mult, stem_strides=(2, 1)).eval()
    told = weights.Trained(
        tuple(CODE.tolist()), task.name, 0, "own", "0" * 12, {}, task.width_mult, (2, 1), "1.0.0"
    )
    weights.save(tmp_path / "w.safetensors", trained, told)
    scope: dict[str, Any] = {"__name__": "net"}
    exec(compile(source(CODE, task), "net.py", "exec"), scope)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(scope["build"](tmp_path / "w.safetensors").eval()(x), trained(x))
    tensors.save_weights(tmp_path / "other.safetensors", torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"other\.safetensors has no weights of this network"):
        scope["build"](tmp_path / "other.safetensors")


def test_a_detectors_file_gives_its_trunk(tmp_path: Path) -> None:
    scope: dict[str, Any] = {"__name__": "net"}
    exec(compile(source(CODE, tasks.get("mini-det3d")), "net.py", "exec"), scope)
    assert "train" not in scope
    recipe = recipes.get("mini-det3d")  # its pillars have 16 channels, not the 64 of the published one
    detector = DetectionNet(CODE, configure(recipe), recipe.width_mult)
    tensors.save_weights(tmp_path / "w.safetensors", detector)
    trunk = scope["build"](str(tmp_path / "w.safetensors"))
    assert torch.equal(trunk.stem[0][0].weight, detector.trunk.stem[0][0].weight)


def test_it_says_what_it_is() -> None:
    text = source(CODE, tasks.get("seg"))
    assert space.to_string(CODE) in text
    assert f"{cost.macs(CODE)[0]:,} MACs" in text
    assert f"{cost.params(CODE)[0]:,} parameters" in text
    assert "scaled" not in text
    assert "nasbench-mr build seg --codes CODES --out OUT --keep-weights" in text
    narrow = source(CODE, tasks.get("mini-seg"))
    assert "All its channels are scaled by 0.5" in narrow
    # CamVid has 11 classes; limits count the full width and 50 classes for every task.
    assert f"{cost.params(CODE, num_classes=11, width_mult=0.5)[0]:,} parameters" in narrow
    assert f"{cost.params(CODE)[0]:,} parameters" in narrow


def test_mistakes_have_names(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"ends in \.py"):
        export(CODE, tasks.get("seg"), tmp_path / "net.txt")
    with pytest.raises(OutOfSpaceError):
        export([1, 2], tasks.get("seg"), tmp_path / "net.py")
    with pytest.raises(InvalidArgumentError, match="no multi-resolution networks"):
        export((0,) * 6, tasks.get("nas-bench-201"), tmp_path / "net.py")
    assert list(tmp_path.iterdir()) == []
