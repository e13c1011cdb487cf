"""Writing a code's network as one Python file that needs nothing but PyTorch."""

from __future__ import annotations

import inspect
import os
import textwrap
from pathlib import Path

from nasbench_mr import cost, escape, files, space
from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.extras import requires
from nasbench_mr.tasks import Task, check_head

_HEADER = '''\
"""{title}

Code: {code}{scaled}
As limits such as max_macs count (full width, {reference} classes): {macs:,} MACs for a 1x3x128x128 input
and {params:,} parameters.{own}

`build()` gives the network with random weights, `build("FILE.safetensors")` with trained ones (this needs the
package safetensors). Files of weights come from

    nasbench-mr build {name} --codes CODES --out OUT --keep-weights     # CODES: a file with the code above
    nasbench-mr weights RELEASE                                         # those that a release has

{train}
Its parameters are named as those of nasbench_mr.network.MultiResolutionNet: weights go from one to the other.
Written by nasbench-mr {version}.
"""

import json
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
'''

_OWN = "\nThis network, of {classes} classes: {macs:,} MACs and {params:,} parameters."

_NETWORK = '''\
STEM = {stem}
#: (modules, residual units of each branch, channels of each branch) of the four stages.
STAGES = {stages}


class Network(nn.Module):
    """{task}: {shapes}."""

    def __init__(self, in_channels={in_channels}, strides={strides}):
        super().__init__()
        self.stem = nn.Sequential(
            ConvBNReLU(in_channels, STEM[0], stride=strides[0]),
            ConvBNReLU(STEM[0], STEM[1], stride=strides[1]),
        )
        inputs = [(STEM[1],), *(c for _, _, c in STAGES[:-1])]
        self.stages = nn.ModuleList(Stage(c_in, *stage) for c_in, stage in zip(inputs, STAGES))
        self.head = {head}
        initialize(self)

    def branches(self, x):
        maps = [self.stem(x)]
        for stage in self.stages:
            maps = stage(maps)
        return maps

    def forward(self, x):
{forward}


def build(weights=None):
    """The network: randomly initialised, or with the weights of a safetensors file."""
    if weights is None:
        return Network()
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        told = json.loads((file.metadata() or {{}}).get("nasbench_mr", "{{}}"))
        own = [name for name in file.keys() if name.startswith({prefix!r}){but}]
        tensors = {{name.removeprefix({prefix!r}): file.get_tensor(name) for name in own}}
    if "stem.0.0.weight" not in tensors:
        raise ValueError(f"{{weights}} has no weights of this network")
    network = Network(tensors["stem.0.0.weight"].shape[1], told.get("stem_strides", {strides}))
    network.load_state_dict(tensors)
    return network


{train}
if __name__ == "__main__":
    import sys

    network = build(*sys.argv[1:2])
    print(f"{{sum(p.numel() for p in network.parameters()):,}} parameters")
'''

_OWN_DATA = "`train(network, batches)` trains it on data of your own."
_DETECTOR = "The first command trains a detector around this trunk; `build` picks the trunk from its file."

_TRAIN = '''\
def train(network, batches, epochs=1, lr=0.003):
    """Trains in place, by AdamW whose rate falls to 0; `batches` is a list of (inputs, labels).

    Labels are {labels}.
    """
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches))
    for _ in range(epochs):
        for inputs, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(network(inputs), labels{ignored}).backward()
            optimizer.step()
            rates.step()
    return network.eval()


'''

#: By kind of problem: what comes in and goes out, and the body of `forward`.
_FORWARD = {
    "classification": (
        "(B, 3, H, W) to logits (B, classes)",
        "return self.head(self.branches(x), x.shape[-2:])",
    ),
    "segmentation": (
        "(B, 3, H, W) to logits (B, classes, H, W)",
        "return self.head(self.branches(x), x.shape[-2:])",
    ),
    "video": (
        "(B, T, 3, H, W) to logits (B, classes)",
        "batch, frames = x.shape[:2]\n"
        "logits = self.head(self.branches(x.flatten(0, 1)), x.shape[-2:])\n"
        "return logits.unflatten(0, (batch, frames)).mean(1)",
    ),
    "detection": (
        "pillars' pseudo-image (B, C, H, W), 64 channels as published, to four maps at 1/2 ... 1/16 of it",
        "return self.branches(x)",
    ),
}


def check_exportable(task: Task) -> None:
    """Check that the network of a task can be exported, before the work that finds it."""
    if task.space != space.NAME:
        raise InvalidArgumentError(f"task {task.name!r} has no multi-resolution networks to export")
    check_head(task, "--head mini-cls")


def source(code: object, task: Task) -> str:
    """Return the text of a Python module that builds the network of a code, with the head that a task trains.

    A detection task's network is the trunk alone: the detector around it is `data_builders.detection`.

    Raises:
        OutOfSpaceError: not a code.
        InvalidArgumentError: see `check_exportable`.
        MissingExtraError: torch is not installed.
    """
    check_exportable(task)
    with requires("search", "exporting a network"):
        from nasbench_mr import __version__, network
    width = task.width_mult
    stem, stages, head = cost.scaled_parts(code, width)
    trunk = task.problem == "detection"
    classes = _classes(task)
    shapes, forward = _FORWARD[task.problem]
    labels, ignored = "(B,) class numbers", ""
    if task.problem == "segmentation":
        labels, ignored = "(B, H, W) class numbers, 255 where a pixel does not count", ", ignore_index=255"
    parts = [
        _HEADER.format(
            title=f"A multi-resolution network for {escape.python(task.title)}.",
            code=space.to_string(code),
            scaled=""
            if width == 1
            else f"\nAll its channels are scaled by {width:g}, as the task trains it.",
            macs=int(cost.macs(code)[0]),
            params=int(cost.params(code)[0]),
            reference=cost.NUM_CLASSES,
            own="" if trunk else _OWN.format(**own_cost(code, task)),
            version=__version__,
            name=task.name,
            train=_DETECTOR if trunk else _OWN_DATA,
        )
    ]
    used = ["ConvBNReLU", "ResidualUnit", "Fusion", "ParallelModule", "Stage", "Head", "resize", "initialize"]
    parts += [inspect.getsource(getattr(network, name)) for name in used if not (trunk and name == "Head")]
    parts.append(
        _NETWORK.format(
            stem=stem,
            stages=stages,
            task=escape.python(task.title),
            shapes=shapes,
            in_channels=64 if trunk else 3,
            strides=(2, 1) if trunk else (2, 2),
            head="None" if trunk else f"Head(STAGES[-1][2], {head}, {classes}, {task.problem!r})",
            forward=textwrap.indent(forward, " " * 8),
            prefix="trunk." if trunk else "",
            but=' and not name.startswith("trunk.head.")' if trunk else "",
            train="" if trunk else _TRAIN.format(labels=labels, ignored=ignored),
        )
    )
    return "\n\n".join(part.rstrip("\n") + "\n" for part in parts)


def own_cost(code: object, task: Task) -> dict[str, float]:
    """Return the costs of the network of a task: "width", "classes", "macs" (1x3x128x128 input), "params".

    They differ from those that limits count (`cost.macs`, `cost.params`: full width, 50 classes). Empty for
    detection, whose detector `cost` does not know.
    """
    if task.problem == "detection":
        return {}
    width, classes = task.width_mult, _classes(task)
    head = "segmentation" if task.problem == "segmentation" else "classification"
    macs = cost.macs(code, num_classes=classes, head=head, width_mult=width)
    params = cost.params(code, num_classes=classes, width_mult=width)
    return {"width": width, "classes": classes, "macs": int(macs[0]), "params": int(params[0])}


def _classes(task: Task) -> int:
    return cost.NUM_CLASSES if task.num_classes is None else task.num_classes


def export(code: object, task: Task, path: str | os.PathLike[str]) -> Path:
    """Write `source` to a file, whose name ends in .py."""
    target = Path(path)
    if target.suffix != ".py":
        raise InvalidArgumentError(f"{target}: expected a name that ends in .py")
    files.write_text(target, source(code, task))
    return target
