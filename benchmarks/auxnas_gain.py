"""Does Aux-NAS gain, and from what? The experiments of docs/aux_nas.md.

By the published protocol: stage 1 trains each task alone, and every variant starts from its networks, at low
rates and at those of a training from scratch; the others start from scratch. Each is tested against the
single task that was trained as it was. Those that start from stage 1's networks are tested against these as
well: what beats only them has gained from more training. `balance`, `resnet` and `vit` have two auxiliaries
and ways to balance the losses. Every run is kept: rerun the command to resume.

    python benchmarks/auxnas_gain.py --only normals segmentation
    python benchmarks/auxnas_gain.py --only camvid --root data/camvid
    python benchmarks/auxnas_gain.py --only balance resnet vit
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from common import REPOSITORY, at_least, options, parsed, start, versions

from nasbench_mr import plot
from nasbench_mr.cli.command import format_table
from nasbench_mr.data_builders import datasets
from nasbench_mr.predictors import evaluation
from nasbench_mr.search.auxnas import plots, readers
from nasbench_mr.search.auxnas.comparison import CHECKPOINT, AuxComparison, compare
from nasbench_mr.search.auxnas.config import VARIANTS
from nasbench_mr.search.auxnas.tasks import get

RECIPE = REPOSITORY / "docs" / "aux_nas.toml"
SIZE = (36, 48)
#: From converged networks: stage 1 at the rates of a training from scratch, stage 2 at the published ratio.
FROM_SINGLE = {"begin": "single", "single": {"lr": 0.03, "steps": 1200}, "lr": 1e-3, "gate_lr": 0.05}
HIGH, SCRATCH = "lr=0.03", "begin=random lr=0.03"
PROTOCOL = (
    *VARIANTS,
    *(f"{variant} {HIGH}" for variant in ("single", "aux-nas")),
    *(f"{variant} {SCRATCH}" for variant in (*VARIANTS, "aux-nas cut=0.3")),
)
PICTURES = {
    "single": (CHECKPOINT, "single continued", "aux-nas", f"single continued {HIGH}", f"aux-nas {HIGH}"),
    "scratch": [name for name in PROTOCOL if SCRATCH in name],
}
BALANCED = (
    *VARIANTS,
    *(f"{v} balance={how}" for v in ("aux-g", "aux-nas") for how in ("pcgrad", "uncertainty", "gradnorm")),
)
#: Narrow enough for one core, and as deep as the published networks.
NARROW = {
    "resnet-50": {"embedding_size": 16, "hidden_sizes": [32, 64, 96, 128]},
    "vit-tiny": {"patch_size": 6, "hidden_size": 48, "num_attention_heads": 3, "head_channels": 32},
}


@dataclass(frozen=True)
class Experiment:
    """A primary task, what may help it, on which data, and what is changed of the recipe."""

    primary: str
    auxiliary: tuple[str, ...]
    data: str = "indoor"
    seeds: int = 10
    variants: tuple[str, ...] = PROTOCOL
    changes: dict[str, Any] = field(default_factory=lambda: FROM_SINGLE)

    def run(self, out: Path, root: Path | None, seeds: int | None, workers: int | None) -> AuxComparison:
        """Return all runs, those in the folder included."""
        camvid = self.data == "camvid"
        data = readers.load(
            self.data,
            root if root and camvid else datasets.folder(self.data),
            SIZE,
            0 if camvid else 100,
            **({"blocks": True} if camvid else {}),
        )
        config = {**tomllib.loads(RECIPE.read_text()), **self.changes}
        return compare(
            self.primary, self.auxiliary, data, config, out=out, seeds=seeds or self.seeds,
            variants=self.variants, device="cpu", workers=workers, progress=True,
        )  # fmt: skip


def _balanced(**changes: Any) -> Experiment:
    return Experiment("segmentation", ("normals", "depth"), seeds=5, variants=BALANCED, changes=changes)


EXPERIMENTS = {
    "normals": Experiment("normals", ("segmentation",)),
    "segmentation": Experiment("segmentation", ("normals",)),
    "camvid": Experiment("segmentation", ("edges",), "camvid"),
    "balance": _balanced(),
    "resnet": _balanced(backbone="resnet-50", lr=3e-3, options=NARROW["resnet-50"]),
    "vit": _balanced(backbone="vit-tiny", lr=3e-3, options=NARROW["vit-tiny"]),
}


def main() -> None:
    parser = options(__doc__, "auxnas_gain")
    parser.add_argument("--only", nargs="+", choices=[*EXPERIMENTS], default=[*EXPERIMENTS])
    parser.add_argument("--root", type=Path, help="the folder of CamVid (nasbench-mr data fetch camvid)")
    parser.add_argument(
        "--seeds", type=at_least(1), metavar="N", help="(default: 10, or 5 with several auxiliaries)"
    )
    parser.add_argument("--workers", type=at_least(1), metavar="N", help="runs at once (default: one a core)")
    args = parsed(parser)
    for name in args.only:
        found = EXPERIMENTS[name].run(args.keep / name, args.root, args.seeds, args.workers)
        # Runs are pinned to one thread, whatever this process has.
        told = rows(found).assign(**{**versions(), "threads": 1})
        evaluation.write(told, args.out.with_stem(f"{args.out.stem}_{name}"))
        print(f"\n## {name}\n\n{format_table(found.summary())}", flush=True)
        images = REPOSITORY / "docs" / "images" if args.whole else args.keep
        if name == "normals":
            for picture, variants in PICTURES.items():
                plot.save(plots.runs(found, variants), images / f"aux_nas_{picture}.png")


def rows(found: AuxComparison) -> pd.DataFrame:
    """Return a row for each run and time of evaluation, and one for what is kept of the run.

    The primary is evaluated without what its links lend. `affinity` is the auxiliaries' mean. The last row of
    a run (`final`) has the network that is kept; there `closing` is how much worse its objective became by
    closing the gates.
    """
    told = []
    for variant, runs in found.runs.items():
        for run in runs:
            common = {
                "primary": found.primary,
                "auxiliary": ", ".join(run["auxiliary"]),
                "variant": variant,
                "seed": run["seed"],
                "status": run["status"],
                "seconds": run["seconds"],
            }
            curve, metrics = run["curve"], run["metrics"][found.primary]
            affinities = [curve[column] for column in curve if column.startswith("affinity/")]
            for k, step in enumerate(curve["step"]):
                known = [own[k] for own in affinities if own[k] is not None]
                at = {name: curve[f"{found.primary}/{name}"][k] for name in metrics}
                affinity = sum(known) / len(known) if known else None
                told.append({**common, "step": step, "final": False, **at, "affinity": affinity})
            closing = run["drop"].get(get(found.primary).objective.name)
            told.append({**common, "step": run["steps"], "final": True, **metrics, "closing": closing})
    return pd.DataFrame(told)


if __name__ == "__main__":
    start(main)
