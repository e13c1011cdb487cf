"""What a training with auxiliary labels found: `AuxResult`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_mr.search.auxnas.config import AuxConfig

if TYPE_CHECKING:
    from torch import nn

    from nasbench_mr.search.auxnas.links import SearchNetwork


@dataclass(frozen=True)
class AuxResult:
    """What `aux_nas` found.

    Attributes:
        primary, auxiliary: the tasks.
        data, data_digest: the data's name, and its `AuxData.digest`.
        config: how it was trained.
        start: SHA-256 by path of the files with weights that it started from.
        seed: of everything random.
        metrics: each task's final validation metrics; the primary's are those of the exported network.
        curve: columns with a row for each evaluation, one at step 0 where it started from trained weights:
            "step", "seconds", the training loss of each task as "loss/<task>", the metrics as
            "<task>/<metric>", and as "affinity/<task>" how far an auxiliary and the primary pull the
            primary's weights the same way (`training.Training.affinity`).
        gates: "to_primary", "to_auxiliary": `(evaluations + 1, gates)`, the first row before training.
        edges: the gates' names, by direction.
        open_gates: the gates to the primary that ended above `config.threshold`.
        drop: how much worse each of the primary's metrics became by closing the gates to it at the end;
            negative where closing helped, empty where there were none left (`config.cut`).
        macs, params: of the exported network on one image; `macs` counts as `cost` does, and is None where
            the network is not a code's.
        steps, seconds: of training. status: "ok" or "diverged".
        device: where.
    """

    primary: str
    auxiliary: tuple[str, ...]
    data: str
    data_digest: str
    config: AuxConfig
    start: dict[str, str]
    seed: int
    metrics: dict[str, dict[str, float]]
    curve: dict[str, list[float]]
    gates: dict[str, npt.NDArray[np.float64]]
    edges: dict[str, tuple[str, ...]]
    open_gates: tuple[str, ...]
    drop: dict[str, float]
    macs: int | None
    params: int
    steps: int
    seconds: float
    status: str
    device: str
    network: SearchNetwork = field(repr=False)

    def export(self) -> nn.Module:
        """Return the primary network alone, as an ordinary module in evaluation mode.

        For "multi-resolution" it is a `MultiResolutionNet`, the same as one that was trained alone.
        """
        return self.network.export()

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the network, JSON-ready; NaN becomes None."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "network"}
        plain["config"] = dataclasses.asdict(self.config)
        plain["gates"] = {key: values.round(6).tolist() for key, values in self.gates.items()}
        strict: dict[str, Any] = json.loads(json.dumps(plain), parse_constant=lambda _: None)
        return strict

    def report(self) -> str:
        """Return a few lines for people: the primary's metrics, and what became of the gates."""
        values = ", ".join(f"{k} {v:.2f}" for k, v in self.metrics[self.primary].items())
        lines = [f"{self.primary} ({self.config.variant}): {values}"]
        if self.status != "ok":
            lines.append(
                f"DIVERGED after {self.steps} updates: the loss was no longer finite, so these metrics "
                "mean nothing. Try a lower lr"
            )
        elif self.gates["to_primary"].size and not self.drop:
            lines.append(f"the links to the primary were cut after {self.config.cut:.0%} of the training")
        elif self.gates["to_primary"].size:
            worst = ", ".join(f"{k} {v:+.2f}" for k, v in self.drop.items())
            limit = f"{self.config.threshold:g}"
            if self.open_gates:
                found = (
                    f"{len(self.open_gates)} of {len(self.edges['to_primary'])} gates to the primary are "
                    f"still above {limit} ({'; '.join(self.open_gates[:3])}, ...)"
                )
            else:
                found = f"all gates to the primary are at most {limit}"
            lines.append(
                f"{found}; they are removed. The metrics are those without; that made them worse by: {worst}"
            )
        return "\n".join(lines)
