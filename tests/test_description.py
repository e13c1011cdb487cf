"""Descriptions of spaces: what a file may say, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nasbench_mr.description import Description
from nasbench_mr.errors import SpaceError

TOML = """\
name = "lm"
title = "Small decoders"

[dimensions]
layers = [2, 4, 8]
rate = [0.1, 0.5]
bias = [true, false]
activation = ["relu", "gelu"]
size = {values = ["small", "large"], kind = "ordinal"}
kernel = {values = [7, 3], kind = "categorical"}

[costs]
macs = "layers * 10"
params = "layers"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(text)
    return path


def test_a_file_says_dimensions_in_order(tmp_path: Path) -> None:
    found = Description.read(written(tmp_path, TOML))
    assert (found.name, found.title) == ("lm", "Small decoders")
    assert [(d.name, d.values, d.kind) for d in found.dimensions] == [
        ("layers", (2, 4, 8), "ordinal"),
        ("rate", (0.1, 0.5), "ordinal"),
        ("bias", (True, False), "categorical"),
        ("activation", ("relu", "gelu"), "categorical"),
        ("size", ("small", "large"), "ordinal"),
        ("kernel", (7, 3), "categorical"),
    ]
    assert found.costs == (("macs", "layers * 10"), ("params", "layers"))
    assert Description.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_the_key_changes_with_all_that_gives_codes_a_meaning(tmp_path: Path) -> None:
    key = Description.read(written(tmp_path, TOML)).key
    assert key.startswith("lm@")
    assert len(key) == len("lm@") + 12
    assert Description.read(written(tmp_path, TOML.replace("Small decoders", "Others"))).key == key
    for old, new in (("8]", "16]"), ('"layers * 10"', '"layers * 9"'), ('"ordinal"', '"categorical"')):
        assert Description.read(written(tmp_path, TOML.replace(old, new))).key != key
    swapped = TOML.replace("layers = [2, 4, 8]\nrate = [0.1, 0.5]", "rate = [0.1, 0.5]\nlayers = [2, 4, 8]")
    assert Description.read(written(tmp_path, swapped)).key != key


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('name = "lm"', 'name = "L M"', "the space's name is 'L M'"),
        ('name = "lm"\n', "", "has no 'name'"),
        ('title = "Small decoders"', "title = 3", "the title is 3"),
        ('title = "Small decoders"', "code = 3", "a space has no 'code'"),
        ("layers = [2, 4, 8]", "layers = [2]", "expected a list of 2 to 256"),
        ("layers = [2, 4, 8]", "layers = 2", "expected a list of 2 to 256"),
        ("layers = [2, 4, 8]", f"layers = {list(range(257))}", "expected a list of 2 to 256"),
        ("layers = [2, 4, 8]", "layers = [2, 4, 4]", "the value 4 is there twice"),
        ("layers = [2, 4, 8]", "layers = [2, 4, 4.0]", "the value 4.0 is there twice"),
        ("layers = [2, 4, 8]", "layers = [4, 2]", "expected rising ones"),
        ("layers = [2, 4, 8]", "layers = [2, true]", "expected all numbers"),
        ("layers = [2, 4, 8]", "layers = [2, '4']", "expected all numbers"),
        ("layers = [2, 4, 8]", "layers = [2, nan]", "expected all numbers"),
        ("layers = [2, 4, 8]", "layers = [2, inf]", "expected all numbers"),
        ("layers = [2, 4, 8]", "layers = [2, 3000000000]", "expected all numbers"),
        ("layers = [2, 4, 8]", "layers = [2, [4]]", "expected all numbers"),
        ('["relu", "gelu"]', '["relu", "<script>"]', "expected all numbers"),
        ('["relu", "gelu"]', '["relu", "a b"]', "expected all numbers"),
        ('["relu", "gelu"]', f'["relu", "{"x" * 41}"]', "expected all numbers"),
        ("layers = [2, 4, 8]", "layers = {values = [2, 4], step = 2}", "no 'step'"),
        ("layers = [2, 4, 8]", "layers = {values = [2, 4], kind = 'cyclic'}", "the kind is 'cyclic'"),
        ("layers = [2, 4, 8]", "layers = [2, 4]\nlayers = [2, 4]", "is not TOML"),
        ("layers = [2, 4, 8]", "layers = [2, 4]\nLayers = [2, 4]", "'layers' and 'Layers'"),
        ("rate =", "seed =", "'seed': tables have it"),
        ("rate =", "macs =", "'macs': tables have it"),
        ("rate =", "lambda =", "no dimension may be called 'lambda'"),
        ("rate =", "'learning rate' =", "no dimension may be called 'learning rate'"),
        ("rate =", f"{'r' * 41} =", "no dimension may be called"),
        ('params = "layers"\n', "", "costs has macs alone"),
        ("params =", "latency =", "no cost 'latency'"),
        ('"layers * 10"', "10", "expected a formula"),
        ('"layers * 10"', "'depth * 10'", "no dimension 'depth'"),
        ('name = "lm"', 'name = "lm', "is not TOML"),
        ('name = "lm"', "x = " + "[" * 2000, "is not TOML"),
    ],
)
def test_malformed_files(tmp_path: Path, old: str, new: str, why: str) -> None:
    assert old in TOML
    with pytest.raises(SpaceError, match=r"space\.toml") as caught:
        Description.read(written(tmp_path, TOML.replace(old, new, 1)))
    assert why in str(caught.value)


def test_too_large(tmp_path: Path) -> None:
    many = {f"d{k}": [0, 1] for k in range(129)}
    with pytest.raises(SpaceError, match="1 to 128 names"):
        Description.of("s", many)
    wide = {f"d{k}": list(range(256)) for k in range(33)}
    with pytest.raises(SpaceError, match=r"about 10\^79 codes; expected at most 2\^256"):
        Description.of("s", wide)
    with pytest.raises(SpaceError, match="1 to 128 names"):
        Description.of("s", {})
    with pytest.raises(SpaceError, match="more than 1,048,576 bytes"):
        Description.read(written(tmp_path, TOML + "#" * (1 << 20)))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="can't be read"):
        Description.read(tmp_path / "nothing.toml")
    with pytest.raises(SpaceError, match="can't be read"):
        Description.read(tmp_path)
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpaceError, match="is not TOML"):
        Description.read(tmp_path / "b.toml")
