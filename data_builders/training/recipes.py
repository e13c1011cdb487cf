"""Recipes: how a task's networks are trained, and how to override a recipe from a file and from flags.

    recipe = recipes.get("mini-cls")
    recipe = recipes.override(recipe, recipes.read("mine.toml"), recipes.parse_flags(["epochs=3"]))
    recipe.save("out/recipe.json")

The nine published tasks follow what is known of their training; whatever is our choice is said in the
recipe's `about`. The four `mini-*` recipes train on one CPU core in seconds: the embedded release is made
with them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasbench_mr import files, tasks
from nasbench_mr.errors import RecipeError
from nasbench_mr.plugins import Registry
from nasbench_mr.settings import Settings

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("cosine", "poly", "onecycle")


@dataclass(frozen=True)
class Recipe(Settings):
    """How one trial of a task is trained. Sizes are in pixels, (height, width).

    >>> recipe = override(get("mini-seg"), {"epochs": 2})
    >>> recipe.task, recipe.epochs, get("mini-seg").epochs
    ('mini-seg', 2, 12)

    Lists in files become tuples. Every field can be overridden; see `override`.
    """

    #: Its name, and the task's whose networks it trains.
    name: str
    task: str
    #: What is known, and what is our choice.
    about: str
    #: The data set (`datasets.load`) and its reader's options.
    dataset: str
    data_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    #: Options for the training split alone, over those.
    train_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    #: Training samples used, drawn once with a fixed seed and balanced over the classes; 0: all.
    train_samples: int = 0
    #: The samples that are left out of each split, by their ids: {"train": [...]}. See `screening`.
    skip: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    #: Samples of an epoch, drawn anew for each; 0: all. Short epochs give short trainings a learning curve.
    epoch_samples: int = 0
    #: The whole data set is held in memory (on the device), decoded and of one size: no loader at all.
    resident: bool = False
    #: Else: processes that read ahead.
    workers: int = 4

    #: Network: scale of all channels, strides of the stem, and whether residual units start as identities.
    width_mult: float = 1.0
    stem_strides: tuple[int, int] = (2, 2)
    zero_residual: bool = False
    #: Start from the trunk trained by this recipe with the same code and seed; "" from scratch.
    pretrained: str = ""

    #: Augmentation: mirror left-right; shift by up to `pad` zero pixels; a random crop of this size, after
    #: scaling: by a factor ("jitter") or to an area share and aspect ratio as in Inception ("area").
    flip: bool = True
    pad: int = 0
    crop: tuple[int, int] | None = None
    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_mode: str = "jitter"
    photometric: bool = False
    #: Evaluation: shorter side after resizing and the centre crop; None: images as they are.
    test_resize: int | None = None
    test_crop: tuple[int, int] | None = None
    #: Video: frames a clip is sampled to (0: no clips, but images), and their channels: "rgb", or "motion",
    #: grey and its changes. The network sees frame by frame, so in colours it is blind to motion.
    frames: int = 0
    input: str = "rgb"
    #: 3D detection: fields of `detection.DetectionConfig`, and the overlap that counts as found.
    detection: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    min_overlap: Mapping[str, float] = dataclasses.field(default_factory=dict)

    #: Optimisation.
    epochs: int = 100
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_norm: bool = True
    schedule: str = "cosine"
    #: Share of all steps in which the rate rises linearly (onecycle: along a cosine) to `lr`.
    warmup: float = 0.0
    min_lr: float = 0.0
    label_smoothing: float = 0.0
    #: Gradient norms above it are scaled down to it; 0: never.
    clip_norm: float = 0.0
    #: Evaluate after every so many epochs, and after the last.
    eval_every: int = 1
    eval_batch_size: int = 256
    #: bfloat16 arithmetic where the device has it (GPUs).
    mixed_precision: bool = True

    def label(self) -> str:
        return f"recipe {self.name!r}"

    def __post_init__(self) -> None:
        self.check_types()
        for name in ("epochs", "batch_size", "eval_every", "eval_batch_size"):
            self.need(getattr(self, name) >= 1, name, "at least 1")
        for name in ("width_mult", "lr"):
            self.need(0 < getattr(self, name) < math.inf, name, "a positive number")
        for name in (
            "weight_decay",
            "min_lr",
            "clip_norm",
            "pad",
            "train_samples",
            "epoch_samples",
            "frames",
            "workers",
        ):
            self.need(0 <= getattr(self, name) < math.inf, name, "at least 0")
        for name in ("momentum", "warmup", "label_smoothing"):
            self.need(0 <= getattr(self, name) < 1, name, "in [0, 1)")
        self.need(self.optimizer in OPTIMIZERS, "optimizer", " or ".join(OPTIMIZERS))
        self.need(self.schedule in SCHEDULES, "schedule", " or ".join(SCHEDULES))
        self.need(self.input in ("rgb", "motion"), "input", "rgb or motion")
        self.need(self.crop_mode in ("jitter", "area"), "crop_mode", "jitter or area")
        self.need(0 < self.crop_scale[0] <= self.crop_scale[1], "crop_scale", "a positive range, low to high")
        for name in ("crop", "test_crop"):
            value = getattr(self, name)
            self.need(value is None or min(value) >= 32, name, "at least 32 pixels on a side, or null")
        self.need(
            self.test_resize is None or self.test_resize >= 32, "test_resize", "at least 32 pixels, or null"
        )
        self.need(not self.nesterov or self.momentum > 0, "nesterov", "false, or a momentum above 0")
        self.need(min(self.stem_strides) >= 1, "stem_strides", "two of at least 1")

    def reader_options(self, split: str) -> dict[str, Any]:
        """With which options a split of the data set is read."""
        return {**self.data_options, **(self.train_options if split == "train" else {})}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return {
            key: list(value)
            if isinstance(value, tuple)
            else dict(value)
            if isinstance(value, Mapping)
            else value
            for key, value in ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        }

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that differ for recipes that train differently."""
        # No number depends on `workers`. Their text stays, so that recipes here keep the digests tables name.
        fields = {**self.to_dict(), "about": "", "workers": _WORKERS.get(self.name, Recipe.workers)}
        if not self.skip:  # It came later: recipes without it keep their digests.
            del fields["skip"]
        if before := self.before():
            fields["pretrained"] = before[0].digest
        text = json.dumps(fields, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def before(self) -> list[Recipe]:
        """Return the recipe that it starts from, then the one that this starts from, and so on.

        Raises:
            RecipeError: there is no such recipe, or a recipe starts from itself through others.
        """
        found: list[Recipe] = []
        name = self.pretrained
        while name:
            if name in (recipe.name for recipe in found):
                raise RecipeError(f"{self.label()}: pretrained leads from {name!r} back to it")
            found.append(get(name))
            name = found[-1].pretrained
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe as JSON, which `read` and `override` take back."""
        files.write_text(path, json.dumps(self.to_dict(), indent=2) + "\n")


def from_dict(data: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a dict as `Recipe.to_dict` gives it; fields left out have their defaults."""
    required = [
        f.name for f in dataclasses.fields(Recipe) if f.default is f.default_factory is dataclasses.MISSING
    ]
    if lacking := [name for name in required if name not in data]:
        raise RecipeError(f"a recipe needs {', '.join(lacking)}")
    return Recipe(**Recipe.converted(data, label=f"recipe {data['name']!r}"))


def difference(there: Recipe, here: Recipe) -> str:
    """Return the fields that two recipes differ in, with both values, for an error."""
    old, new = there.to_dict(), here.to_dict()
    differ = (k for k in old if old[k] != new[k] and k != "workers")  # no number depends on these
    return "; ".join(f"{k} {old[k]!r} there, {new[k]!r} here" for k in differ)


def override(recipe: Recipe, *changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with fields changed, later changes over earlier ones, and all checked."""
    return dataclasses.replace(recipe, **recipe.converted(*changes, label=recipe.label()))


def tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with tuples for the lists that files have."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return overrides from a JSON or TOML file, by its ending; raise `RecipeError` where there are none."""
    path = Path(path)
    try:
        if path.suffix == ".toml":
            return tomllib.loads(files.read_small(path).decode("utf-8"))
        if path.suffix == ".json":
            data = json.loads(files.read_small(path))
            if isinstance(data, dict):
                return data
            raise RecipeError(f"{path}: expected an object of fields, got {type(data).__name__}")
    except FileNotFoundError:
        raise RecipeError(f"no recipe file {path}") from None
    except (ValueError, RecursionError, OSError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(f"{path} is not readable as {path.suffix[1:].upper()}: {error}") from None
    raise RecipeError(f"{path}: expected a file that ends in .json or .toml")


def parse_flags(flags: Iterable[str]) -> dict[str, Any]:
    """Return overrides from "field=value" texts; a value is JSON, or else taken as text."""
    changes: dict[str, Any] = {}
    for flag in flags:
        field, equals, text = flag.partition("=")
        if not equals or not field:
            raise RecipeError(f"override {flag!r}; expected FIELD=VALUE")
        try:
            changes[field.strip()] = json.loads(text)
        except (ValueError, RecursionError):
            changes[field.strip()] = text
    return changes


RECIPES = Registry[Recipe]("recipe", error=RecipeError)
#: Of the recipes of this module, `workers` as they have them; filled in at its end.
_WORKERS: dict[str, int] = {}


def register(recipe: Recipe) -> Recipe:
    """Add a recipe, or replace the one of its name."""
    RECIPES[recipe.name] = recipe
    return recipe


def names() -> tuple[str, ...]:
    """All registered recipes."""
    return RECIPES.names


def get(recipe: str | Recipe) -> Recipe:
    """Return the recipe of this name, else raise `RecipeError`; a recipe is returned as it is."""
    return recipe if isinstance(recipe, Recipe) else RECIPES[recipe]


# The published tasks. What is known of their training is from the authors' papers, configurations and tables;
# the rest is our choice.

_IMAGENET_CHOICES = (
    "Our choice: the classes and images (by a recorded rule, see the reader of ImageNet), weight decay on "
    "all parameters, crop area 0.08 to 1."
)


def _imagenet(name: str, classes: int, per_class: int, about: str = "", **fields: Any) -> None:
    known: dict[str, Any] = {
        "data_options": {"classes": classes},
        "crop": (224, 224),
        "crop_scale": (0.08, 1.0),
        "crop_mode": "area",
        "test_resize": 256,
        "test_crop": (224, 224),
        "epochs": 100,
        "batch_size": 160,
        "lr": 0.1,
        "weight_decay": 1e-4,
        "workers": 8,
        "train_options": {"per_class": per_class},
    }
    about = about or (
        "As published: random resized crops of 224 and mirroring, tests on the centre of 256; batches of "
        "160, SGD, cosine from 0.1 to 0 over 100 epochs. " + _IMAGENET_CHOICES
    )
    register(Recipe(name, name, about, "imagenet", **known | fields))


_imagenet("cls-50-1000", 50, 1000)
_imagenet("cls-50-100", 50, 100)
_imagenet("cls-10-1000", 10, 1000)
_imagenet(
    "cls-10c",
    50,
    1000,
    "Almost all of it is our choice, as only its results are known: cls-50-1000 with 10 epochs. "
    + _IMAGENET_CHOICES,
    epochs=10,
)


def _cityscapes(name: str, size: tuple[int, int] | None, crop: tuple[int, int]) -> None:
    about = (
        "As published: from scratch, scaled by 0.5 to 2, cropped, mirrored, colours distorted; batches of "
        "64, SGD, poly 0.9 from 0.1 to 1e-4 over 25,000 iterations (544 epochs of 46 batches), whole images "
        "tested at one scale. Our choice: evaluation every 16 epochs, crops with no limit on a class's share."
    )
    register(
        Recipe(
            name,
            name,
            about,
            "cityscapes",
            {} if size is None else {"size": list(size)},
            crop=crop,
            crop_scale=(0.5, 2.0),
            photometric=True,
            epochs=544,
            batch_size=64,
            lr=0.1,
            weight_decay=5e-4,
            schedule="poly",
            min_lr=1e-4,
            eval_every=16,
            eval_batch_size=8,
            workers=8,
        )
    )


_cityscapes("seg", None, (512, 1024))
_cityscapes("seg-4x", (256, 512), (128, 256))

register(
    Recipe(
        "3ddet",
        "3ddet",
        "As published: PointPillars on KITTI with the multi-resolution network in place of its backbone, "
        "batches of 16, one-cycle Adam at 0.002, 80 epochs, gradients clipped at 10. Our choice: decoupled "
        "weight decay, 40% of the steps rising, evaluation every 10 epochs, batch norm of the pillars over "
        "real points only.",
        "kitti",
        stem_strides=(2, 1),
        min_overlap={"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5},
        flip=False,
        epochs=80,
        batch_size=16,
        optimizer="adamw",
        lr=0.002,
        weight_decay=0.01,
        schedule="onecycle",
        warmup=0.4,
        clip_norm=10.0,
        eval_every=10,
        eval_batch_size=16,
        workers=8,
    )
)


def _hmdb51(name: str, pretrained: str, lr: float) -> None:
    start = "weights of cls-50-1000 of the same code and seed" if pretrained else "random weights"
    register(
        Recipe(
            name,
            name,
            "Known is the data set. All else is our choice: logits averaged over 8 frames of a clip, crops "
            f"of 112 from 128, {start}, 100 epochs of SGD with a cosine.",
            "hmdb51",
            {"frames": 32, "size": 128},
            pretrained=pretrained,
            frames=8,
            crop=(112, 112),
            crop_scale=(0.5, 1.0),
            crop_mode="area",
            test_crop=(112, 112),
            epochs=100,
            batch_size=32,
            lr=lr,
            weight_decay=5e-4,
            warmup=0.05,
            eval_every=5,
            eval_batch_size=32,
            workers=8,
        )
    )


_hmdb51("video", "", 0.1)
_hmdb51("video-p", "cls-50-1000", 0.02)

# The tasks of the embedded release: narrow networks, small inputs, 150 to 400 steps. All of it is our choice,
# made so that codes differ by much more than seeds do, at seconds a trial on one CPU core.


def _mini(task: str, data_options: Mapping[str, Any], about: str, dataset: str, **fields: Any) -> None:
    shared: dict[str, Any] = {
        "resident": True,
        "zero_residual": True,
        "width_mult": tasks.get(task).width_mult,
        "epochs": 3,
        "optimizer": "adamw",
        "lr": 0.005,
        "weight_decay": 0.01,
        "schedule": "onecycle",
        "warmup": 0.3,
    }
    register(Recipe(task, task, about, dataset, data_options, **shared | fields))


_mini(
    "mini-cls",
    {},
    "Our choice. Photos of 32 x 32: nasbench-mr data fetch cifar10.",
    "cifar10",
    epoch_samples=3200,
    batch_size=64,
)  # fmt: skip
_mini(
    "mini-seg",
    {"size": [64, 80], "blocks": True},
    "Our choice. Frames resized to 64 x 80: nasbench-mr data fetch camvid. Blocks of the official training "
    "frames validate, as the official validation frames are a single shot.",
    "camvid",
    epoch_samples=368,
    lr=0.01,
    epochs=12,
    batch_size=16,
    eval_every=2,
    eval_batch_size=32,
)  # fmt: skip
_mini(
    "mini-det3d",
    {},
    "Our choice. Pillars of 0.8 m: nasbench-mr data make kitti --mini.",
    "kitti",
    detection={
        "point_range": [0.0, -12.8, -3.0, 25.6, 12.8, 1.0],
        "pillar": [0.8, 0.8],
        "channels": 16,
        "norm_momentum": 0.1,
        "rotation": 0.0,
        "scaling": [1.0, 1.0],
        "classes": [
            {"name": "Car", "size": [3.9, 1.6, 1.56], "bottom": -1.78, "matched": 0.5, "unmatched": 0.35}
        ],
    },
    min_overlap={"Car": 0.5},
    stem_strides=(2, 1),
    flip=False,
    epochs=8,
    warmup=0.2,
    batch_size=4,
    clip_norm=10.0,
    eval_every=2,
    eval_batch_size=16,
)  # fmt: skip
_mini(
    "mini-video",
    {"frames": 16},
    "Our choice. Clips of 32 x 40: nasbench-mr data make hmdb51 --mini.",
    "hmdb51",
    flip=False,
    frames=2,
    input="motion",
    epochs=4,
    warmup=0.2,
    batch_size=16,
)  # fmt: skip

_WORKERS.update((name, get(name).workers) for name in names())
