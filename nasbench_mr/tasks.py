"""Tasks and their metrics, and the registry of the ones this package knows.

A task is a benchmark setting: a dataset, a recipe, and the metrics measured. The nine published ones and the
embedded release's four are registered here; one of your own with `register`; a release describes its
own tasks in `release.json` (`Task.to_dict`, `Task.from_dict`), so a table never depends on this registry.
What is unknown about a published task is None here and said in DATASET_CARD.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from nasbench_mr.checks import plain
from nasbench_mr.errors import (
    InvalidArgumentError,
    ReleaseError,
    UnknownMetricError,
    UnknownTaskError,
    did_you_mean,
)
from nasbench_mr.settings import fits

#: A task's name is also its file's.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PROBLEMS = ("classification", "segmentation", "video", "detection")


@dataclass(frozen=True)
class Metric:
    """One measured quantity.

    >>> Metric("latency", unit="ms", direction="min", upper=None).limits
    (0.0, inf)

    Attributes:
        name: its column.
        unit: "percent", "degrees", ...
        direction: "max" where larger is better, else "min".
        lower, upper: bounds, both inclusive; None where there is none.
        description: one phrase.
    """

    name: str
    unit: str = "percent"
    direction: str = "max"
    lower: float | None = 0.0
    upper: float | None = 100.0
    description: str = ""

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            object.__setattr__(self, name, plain(name, getattr(self, name)))
        if self.direction not in ("max", "min"):
            raise ReleaseError(f"metric {self.name!r}: direction is {self.direction!r}; expected max or min")

    @property
    def limits(self) -> tuple[float, float]:
        """The bounds, infinite where there is none."""
        low = -math.inf if self.lower is None else self.lower
        return low, math.inf if self.upper is None else self.upper

    @property
    def sign(self) -> int:
        """1 where larger is better, -1 where smaller is."""
        return 1 if self.direction == "max" else -1


@dataclass(frozen=True)
class Task:
    """A benchmark setting.

    >>> task = tasks.get("seg")
    >>> task.objective, [metric.name for metric in task.metrics]
    ('mIoU', ['mIoU', 'mAcc', 'aAcc'])

    Attributes:
        name: its key everywhere, also its file's name.
        title: one line for people.
        dataset: the data its networks are trained on.
        problem: "classification", "segmentation", "video" or "detection"; "unknown" for a user's table.
        metrics: the measured ones, the objective first.
        objective: the name of the metric that searches optimise.
        num_classes: outputs of the classifier; None where unknown.
        validation_size: samples behind each metric; None where unknown.
        recipe: how the networks are trained.
        provenance: who measured it and where the numbers come from.
        aliases: other names people type for it.
        cost: "code" where the table's macs and params are the exact ones of the space (`cost.of`); "table"
            where only the table knows them (they follow another rule, or no one has a formula).
        space: the search space its codes are from (`spaces.get`).
        width_mult: what the channels of its networks are scaled by (`network.MultiResolutionNet`); macs and
            params are those of the full width all the same.
    """

    name: str
    title: str
    dataset: str
    problem: str
    metrics: tuple[Metric, ...]
    objective: str
    num_classes: int | None = None
    validation_size: int | None = None
    recipe: str = ""
    provenance: str = ""
    aliases: tuple[str, ...] = ()
    cost: str = "code"
    space: str = "nasbench-mr"
    width_mult: float = 1.0

    def __post_init__(self) -> None:
        for name in ("num_classes", "validation_size", "width_mult"):
            object.__setattr__(self, name, plain(name, getattr(self, name)))
        if not 0 < self.width_mult < math.inf:
            raise ReleaseError(
                f"task {self.name!r}: width_mult is {self.width_mult}; expected a positive number"
            )
        if not _NAME.fullmatch(self.name):
            raise ReleaseError(f"task name {self.name!r}: expected letters, digits, '.', '_' and '-'")
        if self.objective not in [m.name for m in self.metrics]:
            raise ReleaseError(
                f"task {self.name!r}: its objective {self.objective!r} is not among its metrics"
            )

    def metric(self, name: str | None = None) -> Metric:
        """Return the metric of this name; the objective by default."""
        name = self.objective if name is None else name
        for metric in self.metrics:
            if metric.name == name:
                return metric
        names = [m.name for m in self.metrics]
        raise UnknownMetricError(f"task {self.name!r} has no metric {name!r}: {did_you_mean(name, names)}")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Task:
        """Return the task described by `data`, as written by `to_dict`.

        Raises:
            ReleaseError: a field is missing, unknown or of the wrong type.
        """
        try:
            metrics = tuple(Metric(**_typed(Metric, m)) for m in data["metrics"])
            rest = _typed(cls, {k: v for k, v in data.items() if k not in ("metrics", "aliases")})
            return cls(**rest, metrics=metrics, aliases=tuple(data.get("aliases", ())))
        except (KeyError, TypeError, AttributeError) as error:
            raise ReleaseError(f"malformed description of a task: {error}") from None


def _typed(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    annotations = {f.name: str(f.type) for f in fields(cls)}
    for key, value in data.items():
        if key not in annotations:
            raise TypeError(f"unknown field {key!r}")
        too_large = isinstance(value, (int, float)) and not abs(value) < 2**63
        if not fits(value, annotations[key]) or too_large:
            raise TypeError(f"{key} is {value!r:.40}; expected {annotations[key]}")
    return dict(data)


def check_head(task: Task, other: str) -> None:
    """Raise `InvalidArgumentError` where no one knows which head a task's networks have.

    Args:
        other: how another task is named instead, such as "--head mini-cls".
    """
    if task.problem not in PROBLEMS:
        raise InvalidArgumentError(
            f"task {task.name!r} does not say what its networks are for, and so not which head they have "
            f"(problem {task.problem!r}; expected one of {', '.join(PROBLEMS)}). "
            f"Name a task that does, such as {other}"
        )


_REGISTRY: dict[str, Task] = {}


def register(task: Task) -> Task:
    """Add a task, or replace the one of its name."""
    _REGISTRY[task.name] = task
    return task


def names() -> tuple[str, ...]:
    """All registered names."""
    return tuple(_REGISTRY)


def get(name: str) -> Task:
    """Return the registered task of this name or alias; an `UnknownTaskError` has the nearest names."""
    return _REGISTRY[resolve(name, _REGISTRY)]


def resolve(name: object, among: Mapping[str, Task]) -> str:
    """Return the name in `among` that `name` means: in any case, or by an unambiguous alias."""
    if isinstance(name, str):
        found = meant(name, among)
        if len(found) == 1:
            return found[0]
        if found:
            listed = " or ".join(map(repr, found))
            raise UnknownTaskError(f"no task {name!r}: did you mean {listed}?")
    raise UnknownTaskError(f"no task {name!r}: {did_you_mean(name, among)}")


def meant(name: str, among: Mapping[str, Task] | None = None) -> list[str]:
    """Return the names of all tasks in `among`, by default the registered ones, that `name` may mean."""
    among = _REGISTRY if among is None else among
    if name in among:
        return [name]
    typed = name.strip().lower().replace("_", "-").replace(" ", "-")
    return [t for t, task in among.items() if typed == t.lower() or typed in task.aliases]


_TOP = (
    Metric("top1", description="top-1 accuracy"),
    Metric("top5", description="top-5 accuracy"),
)
_SEG = (
    Metric("mIoU", description="mean intersection over union of the classes"),
    Metric("mAcc", description="mean accuracy of the classes"),
    Metric("aAcc", description="accuracy of all pixels"),
)
_PUBLISHED = (
    "Ding et al., Learning Versatile Neural Architectures by Propagating Network Codes, ICLR 2022; "
    "tables of github.com/dingmyu/NCP at 5259acdf9876c3adf4b8b1133afc3ac0d1077d65, BSD-2-Clause"
)
_OWN = "trained by nasbench-mr"
_NB201 = "Dong and Yang, NAS-Bench-201, ICLR 2020, as published in the tables of github.com/dingmyu/NCP"
#: Split of the names, e.g. cls-50-1000: 50 classes, 1,000 training images of each.
_IMAGENET = "ImageNet, {} classes, {} training images each"

for _task in (
    Task(
        "cls-50-1000", "ImageNet classification, 50 classes, 1,000 images each",
        _IMAGENET.format(50, "1,000"), "classification", metrics=_TOP, objective="top1", num_classes=50,
        validation_size=2500, recipe="cls-50-1000", provenance=_PUBLISHED,
        aliases=("imagenet", "cls-a", "imagenet-50-1000"),
    ),
    Task(
        "cls-50-100", "ImageNet classification, 50 classes, 100 images each", _IMAGENET.format(50, "100"),
        "classification", metrics=_TOP, objective="top1", num_classes=50, validation_size=2500,
        recipe="cls-50-100", provenance=_PUBLISHED, aliases=("imagenet", "imagenet-50-100"),
    ),
    Task(
        "cls-10-1000", "ImageNet classification, 10 classes, 1,000 images each",
        _IMAGENET.format(10, "1,000"), "classification", metrics=_TOP, objective="top1", num_classes=10,
        validation_size=500, recipe="cls-10-1000", provenance=_PUBLISHED,
        aliases=("imagenet", "imagenet-10-1000"),
    ),
    Task(
        "cls-10c", "ImageNet classification, short schedule (details unknown)",
        "ImageNet, probably 50 classes; which images is unknown", "classification", metrics=_TOP,
        objective="top1", num_classes=50, validation_size=2500, recipe="cls-10c", provenance=_PUBLISHED,
        aliases=("imagenet",),
    ),
    Task(
        "seg", "Cityscapes semantic segmentation at full resolution", "Cityscapes, 19 classes",
        "segmentation", metrics=_SEG, objective="mIoU", num_classes=19, validation_size=500, recipe="seg",
        provenance=_PUBLISHED, aliases=("cityscapes",),
    ),
    Task(
        "seg-4x", "Cityscapes semantic segmentation at a quarter of the resolution",
        "Cityscapes, 19 classes, resized to 512x256", "segmentation", metrics=_SEG, objective="mIoU",
        num_classes=19, validation_size=500, recipe="seg-4x", provenance=_PUBLISHED,
        aliases=("cityscapes",),
    ),
    Task(
        "3ddet", "KITTI 3D object detection with PointPillars", "KITTI 3D objects, 3 classes", "detection",
        metrics=(Metric("moderate", description="3D AP of Car, moderate, 40 recall points"),),
        objective="moderate", num_classes=3, validation_size=3769, recipe="3ddet", provenance=_PUBLISHED,
        aliases=("kitti", "det3d", "3d-det"), cost="table",
    ),
    Task(
        "video", "HMDB51 action recognition from scratch", "HMDB51, 51 classes", "video", metrics=_TOP,
        objective="top1", num_classes=51, validation_size=None, recipe="video", provenance=_PUBLISHED,
        aliases=("hmdb51", "hmdb"),
    ),
    Task(
        "video-p", "HMDB51 action recognition, probably from ImageNet weights", "HMDB51, 51 classes",
        "video", metrics=_TOP, objective="top1", num_classes=51, validation_size=None, recipe="video-p",
        provenance=_PUBLISHED, aliases=("hmdb51", "hmdb"),
    ),
    Task(
        "nas-bench-201", "NAS-Bench-201: ImageNet16-120 classification (a second search space)",
        "ImageNet16-120 (inferred), 120 classes", "classification",
        metrics=(Metric("Acc", description="top-1 accuracy"),), objective="Acc", num_classes=120,
        validation_size=None, recipe="nas-bench-201",
        provenance=_NB201,
        aliases=("nb201", "nasbench201", "nas-bench-201-imagenet16-120"),
        space="nas-bench-201",
    ),
    Task(
        "mini-cls", "CIFAR-10 classification, narrow networks, trained briefly",
        "CIFAR-10, 1,000 training images a class", "classification", metrics=_TOP, objective="top1",
        num_classes=10, validation_size=2000, recipe="mini-cls", provenance=_OWN, width_mult=0.5,
    ),
    Task(
        "mini-seg", "CamVid segmentation, narrow networks, trained briefly",
        "CamVid, 11 classes, 293 training frames", "segmentation", metrics=_SEG, objective="mIoU",
        num_classes=11, validation_size=74, recipe="mini-seg", provenance=_OWN, aliases=("camvid",),
        width_mult=0.5,
    ),
    Task(
        "mini-det3d", "3D detection of cars in generated lidar scans, narrow networks, trained briefly",
        "400 training scans generated in KITTI's layout", "detection",
        metrics=(
            Metric("moderate", description="3D AP of cars, moderate, 40 recall points, overlaps above 0.5"),
            Metric("easy", description="the same, easy"),
            Metric("hard", description="the same, hard"),
            Metric("bev", description="the same as moderate, seen from above"),
        ),
        objective="moderate", num_classes=1, validation_size=200, recipe="mini-det3d", provenance=_OWN,
        width_mult=0.5,
    ),
    Task(
        "mini-video", "recognition of motions in generated clips, narrow networks, trained briefly",
        "960 training clips generated in HMDB51's layout, 12 motions", "video", metrics=_TOP,
        objective="top1", num_classes=12, validation_size=600, recipe="mini-video", provenance=_OWN,
        width_mult=0.5,
    ),
):  # fmt: skip
    register(_task)

#: The tasks of the published tables, in their order; `nasbench-mr fetch` brings them.
PUBLISHED = tuple(name for name in _REGISTRY if not name.startswith("mini-"))
