"""How a primary network is trained with auxiliary labels: `AuxConfig`. Use it to change a run's settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasbench_mr import files, space
from nasbench_mr.settings import Settings

#: What a field that names one of several ways may be.
CHOICES = {
    "variant": ("single", "aux-head", "aux-g", "aux-nas"),
    "balance": ("sum", "pcgrad", "uncertainty", "gradnorm"),
    "begin": ("random", "single"),
    "directions": ("both", "to-auxiliary", "to-primary"),
    "norm": ("none", "link", "sum"),
    "fusion": ("zero", "identity", "kaiming"),
    "optimizer": ("adam", "sgd"),
    "gate_optimizer": ("adam", "sgd"),
    "schedule": ("poly", "cosine", "onecycle"),
    "precision": ("float32", "bfloat16"),
}
VARIANTS, BALANCES = CHOICES["variant"], CHOICES["balance"]


@dataclass(frozen=True)
class AuxConfig(Settings):
    """How a primary network is trained; by default as published for ViT-Base on NYUv2.

    >>> config = AuxConfig.of({"steps": 600}, {"variant": "aux-g"})
    >>> config.steps, config.variant
    (600, 'aux-g')
    """

    #: What helps: nothing, heads on the primary's backbone, links from the primary, links both ways.
    variant: str = "aux-nas"
    #: How the tasks' losses become one gradient: see `balance.Balance`.
    balance: str = "sum"
    #: Weights of the tasks' losses; by default 20 for normals and 1 for the others. Those of tasks that are
    #: not trained have no effect, so that runs with different tasks can share them.
    weights: Mapping[str, float] = field(default_factory=dict)

    #: The network: a name of `networks.BACKBONES`, and options for it; other options for the auxiliaries'.
    backbone: str = "multi-resolution"
    options: Mapping[str, Any] = field(default_factory=dict)
    auxiliary_options: Mapping[str, Any] = field(default_factory=dict)
    #: Codes of the primary and of the auxiliary networks, for "multi-resolution"; "" is the primary's.
    primary_code: str = ""
    auxiliary_code: str = ""

    #: What training starts from: "random" weights, or "single", as published: the networks of stage 1, which
    #: trains each task alone with the same seed.
    begin: str = "random"
    #: Fields that stage 1 changes, such as a higher `lr` and more `steps`.
    single: Mapping[str, Any] = field(default_factory=dict)
    #: Files with single-task weights to start from, by task; "{seed}" in a path stands for the run's seed.
    start: Mapping[str, str] = field(default_factory=dict)

    #: Links: which are searched; how far back a stage reads (k - j < reach); whether also from other groups,
    #: resized; what the 1x1 fusions start as: zero, the mean of the gated maps, or Kaiming's random values.
    directions: str = "both"
    reach: int = 3
    across_groups: bool = False
    fusion: str = "zero"
    #: Batch norm and ReLU in the fusion: none; around what the "link" adds, which `export` folds away; or as
    #: in the paper's equations after the "sum", which stays in the exported network.
    norm: str = "none"
    #: The gates' values at the start.
    gate_to_auxiliary: float = 0.5
    gate_to_primary: float = 0.001
    #: Weight of each auxiliary's mean gate to the primary in the gates' loss, and when it rises to that, in
    #: shares of the training.
    penalty: float = 1000.0
    penalty_period: tuple[float, float] = (0.5, 0.8)
    #: From this share of the training on, the links to the primary are gone for good, so that it learns to do
    #: without what they lent; 1: they go at the end, as published.
    cut: float = 1.0
    #: Weight of the entropy of the gates to the auxiliaries, which makes them choose; off as published.
    entropy: float = 0.0
    entropy_period: tuple[float, float] = (0.2, 0.5)
    #: A gate to the primary above it counts as open.
    threshold: float = 0.01

    #: Length. An epoch of Aux-NAS updates the weights on half of the training set. `steps` counts updates of
    #: the weights; 0: as many as the epochs have.
    epochs: int = 100
    steps: int = 0
    batch_size: int = 20
    #: Optimisers of the weights and of the gates; `momentum` is SGD's, and Adam's first beta.
    optimizer: str = "adam"
    gate_optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    #: Learning rates: of the backbones, the heads, the links' fusions (None: as the backbones) and the gates.
    lr: float = 1e-4
    head_lr: float | None = None
    link_lr: float | None = None
    gate_lr: float = 1e-2
    #: How all rates fall (poly: with power 0.9), and in which share of the steps they rise first.
    schedule: str = "poly"
    warmup: float = 0.0
    #: "float32", or "bfloat16" for mixed precision.
    precision: str = "float32"
    #: Augmentation: how often images are mirrored; zoomed into, and by up to what factor; turned, and by up
    #: to how many degrees.
    flip: float = 0.5
    crop_share: float = 0.3
    zoom: float = 1.5
    rotate_share: float = 0.2
    rotate: float = 10.0
    #: Evaluate after so many steps (0: ten times in all); save a checkpoint after so many.
    eval_every: int = 0
    eval_batch_size: int = 50
    save_every: int = 200

    def __post_init__(self) -> None:
        need = self.need
        self.check_types()
        for name, choices in CHOICES.items():
            need(getattr(self, name) in choices, name, ", ".join(choices))
        for name in ("reach", "epochs", "batch_size", "eval_batch_size", "save_every"):
            need(getattr(self, name) >= 1, name, "at least 1")
        for name in ("steps", "eval_every"):
            need(getattr(self, name) >= 0, name, "at least 0")
        for name in ("lr", "head_lr", "link_lr", "gate_lr"):
            rate = getattr(self, name)
            need(rate is None or 0 < rate < math.inf, name, "a positive number")
        for name in ("penalty", "entropy", "weight_decay", "rotate"):
            need(0 <= getattr(self, name) < math.inf, name, "a number of at least 0")
        for name in ("flip", "crop_share", "rotate_share", "threshold"):
            need(0 <= getattr(self, name) <= 1, name, "a share, 0 to 1")
        for name in ("momentum", "warmup"):
            need(0 <= getattr(self, name) < 1, name, "in [0, 1)")
        for name in ("gate_to_auxiliary", "gate_to_primary"):
            need(0 < getattr(self, name) < 1, name, "a number between 0 and 1")
        for name in ("penalty_period", "entropy_period"):
            start, end = getattr(self, name)
            need(0 <= start < end <= 1, name, "two rising shares of the training")
        need(0 < self.cut <= 1, "cut", "a share of the training above 0, at most 1")
        need(1 <= self.zoom < math.inf, "zoom", "a factor of at least 1")
        need(all(0 <= w < math.inf for w in self.weights.values()), "weights", "numbers of at least 0")
        for name in ("options", "auxiliary_options"):
            need("seed" not in getattr(self, name), name, "no 'seed', as the run has one")
        need(not (self.begin == "single" and self.start), "start", "no files, as begin is 'single'")
        if self.single or self.begin == "single":
            self.alone()

    def alone(self) -> AuxConfig:
        """Return how stage 1 trains a task alone.

        Raises:
            RecipeError: `single` has an unknown field, or a value that does not fit.
        """
        # What only links and gates have keeps its default, so that variants share their stage 1.
        kept = {name: getattr(self, name) for name in OF_ALL}
        return AuxConfig.of(kept, self.single, {"variant": "single", "begin": "random", "start": {}})

    @property
    def keeps_norms(self) -> bool:
        """Whether the exported network has norms that its code does not have."""
        return self.variant == "aux-nas" and self.norm == "sum" and self.directions != "to-auxiliary"

    def digests(self, starts: Mapping[str, str | Path]) -> dict[str, str]:
        """Return SHA-256 by path of the files with weights to start from: what tells runs apart.

        Args:
            starts: by task, the files.
        """
        named = [Path(path) for path in starts.values()]
        for options in (self.options, self.auxiliary_options):
            checkpoint = Path(str(options.get("checkpoint", "")))
            if "checkpoint" in options and checkpoint.is_dir():
                named += sorted(checkpoint.iterdir())
        return {str(path): files.sha256(path) for path in named if path.is_file()}

    @classmethod
    def of(cls, *changes: Mapping[str, Any]) -> AuxConfig:
        """Return the defaults with fields changed, later changes over earlier ones.

        Raises:
            RecipeError: an unknown field, or a value of the wrong type or out of range.
        """
        fields = cls.converted(*changes)
        for name in ("primary_code", "auxiliary_code"):
            if name in fields and not isinstance(fields[name], str):
                fields[name] = space.to_string(fields[name])
        return cls(**fields)


#: The fields that a training of one task alone depends on.
OF_ALL = [
    f.name
    for f in dataclasses.fields(AuxConfig)
    if f.name
    not in (
        "variant", "balance", "begin", "single", "start", "auxiliary_options", "auxiliary_code", "directions",
        "reach", "across_groups", "fusion", "norm", "gate_to_auxiliary", "gate_to_primary", "penalty",
        "penalty_period", "cut", "entropy", "entropy_period", "threshold", "gate_optimizer", "link_lr",
        "gate_lr",
    )
]  # fmt: skip
