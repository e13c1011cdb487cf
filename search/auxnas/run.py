"""Aux-NAS: a better primary network from auxiliary labels, at the cost of the primary alone.

`aux_nas` is the function to call (Gao et al., "Aux-NAS: Exploiting Auxiliary Labels with Negligibly Extra
Inference Cost", ICLR 2024). It trains a network for the primary task beside one for each auxiliary task, with
links between them that are searched: primary to auxiliary links may stay, since only the auxiliaries need
them; auxiliary to primary links are pushed shut. What is left is the primary network, which `load_primary`
reads from a run's folder. docs/aux_nas.md tells the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench_mr import files
from nasbench_mr.errors import IntegrityError, InvalidArgumentError
from nasbench_mr.extras import requires
from nasbench_mr.search.auxnas.config import AuxConfig
from nasbench_mr.search.auxnas.result import AuxResult
from nasbench_mr.threads import torch_threads

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nasbench_mr.search.auxnas.data import AuxData

#: The files of a run's folder.
CONFIG, RESULT, WEIGHTS = "config.json", "result.json", "primary.safetensors"
#: What a checkpoint that the backbone came from says of its network.
BACKBONE = "backbone.json"
#: The file of a comparison's folder that has its runs (`comparison.AuxComparison`).
COMPARISON = "auxnas.json"


def aux_nas(
    primary: str,
    auxiliary: str | Sequence[str],
    data: AuxData,
    config: AuxConfig | Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    device: str | torch.device | None = None,
    out: str | os.PathLike[str] | None = None,
    singles: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **changes: Any,
) -> AuxResult:
    """Train a network for one task with the labels of others, and keep that network alone.

    Args:
        primary: the task that counts: a name of `tasks.TASKS`.
        auxiliary: the tasks that may help; the variant "single" ignores them.
        data: images with labels of all these tasks (`readers.load`).
        config: an `AuxConfig`, or fields of one.
        seed: of the weights, the batches and the augmentation.
        device: by default a GPU if there is one.
        out: a folder for `config.json`, `result.json`, `primary.safetensors` (the exported network's weights;
            `load_primary` reads them) and the checkpoint, from which the same call resumes after it was
            killed.
        singles: a folder for the runs of stage 1 (`AuxConfig.begin`), which calls with the same tasks, data,
            seed and networks share; by default `single/` in `out`.
        progress: show a bar with all tasks' metrics and the open gates on stderr, if that is a terminal.
        changes: fields of the configuration, over `config`.

    Raises:
        UnknownTaskError, UnknownNameError, DatasetError, RecipeError, InvalidArgumentError: bad input, before
            training starts; a checkpoint in `out` of another run; or stage 1 diverged.
        IntegrityError: `out` has a damaged checkpoint, or weights to start from do not fit. Nothing is
            changed there.
        MissingExtraError: torch or what the backbone needs is not installed.
    """
    config = config if isinstance(config, AuxConfig) else AuxConfig.of(config or {})
    if changes:
        config = AuxConfig.of(vars(config), changes)
    with requires("auxnas", "Aux-NAS"):
        import torch  # noqa: F401
    from nasbench_mr.data_builders.training.train import choose_device
    from nasbench_mr.search.auxnas import preparation
    from nasbench_mr.search.auxnas.training import Training
    from nasbench_mr.tensors import save_weights

    chosen = choose_device(device)
    # All that is wrong with the input comes to light before stage 1.
    tasks, network = preparation.prepare(primary, auxiliary, data, config, seed=seed)
    folder = None if out is None else Path(out)
    starts = preparation.starts_of(config, seed)
    if config.begin == "single":
        given = singles or (folder and folder / "single")
        # The temporary folder lives as long as this name.
        kept = Path(given) if given else (scratch := files.Scratch()).folder / "single"  # noqa: F841
        for place, task, own in stage_1([t.name for t in tasks], data, config, seed):
            starts[task] = kept / place / WEIGHTS
            if not (kept / place / RESULT).is_file():
                aux_nas(task, (), data, own, seed=seed, device=device, out=kept / place, progress=progress)
            converged(kept / place)
        tasks, network = preparation.prepare(primary, auxiliary, data, config, seed=seed, starts=starts)
    begun = config.digests(starts)
    training = Training(network, tasks, data, config, seed=seed, device=chosen, out=folder, begun=begun)
    if folder is not None:
        about = {"primary": primary, "auxiliary": [task.name for task in tasks[1:]], "seed": seed}
        read = {"name": data.name, "digest": data.digest, "pixels": data.train.size, **data.about}
        read["outputs"] = tasks[0].channels(data.train.classes.get(primary))
        if _configured(config):
            known = Path(config.options["checkpoint"]) / "config.json"
            files.write_bytes(folder / BACKBONE, files.read_small(known))
        _write(folder / CONFIG, {**about, "data": read, "config": dataclasses.asdict(config)})
    with contextlib.nullcontext() if chosen.type == "cuda" else torch_threads():
        result = training.run(progress)
    if folder is not None:
        save_weights(folder / WEIGHTS, result.export())
        _write(folder / RESULT, result.to_dict())
    return result


def stage_1(
    tasks: Sequence[str], data: AuxData, config: AuxConfig, seed: int
) -> list[tuple[str, str, AuxConfig]]:
    """Return the runs that train each task alone, the primary first: folder, task, how it is trained."""
    from nasbench_mr.search.auxnas.preparation import alone

    runs = []
    for k, task in enumerate(tasks):
        own = alone(task, config, primary=k == 0)
        known = json.dumps([dataclasses.asdict(own), own.digests({}), data.digest], sort_keys=True)
        digest = hashlib.sha256(known.encode()).hexdigest()[:12]
        runs.append((f"{task}-seed{seed}-{digest}", task, own))
    return runs


def converged(folder: Path) -> dict[str, Any]:
    """Return the result of a run of stage 1; raise `InvalidArgumentError` where it diverged."""
    run = finished(folder)
    if run is None or run["status"] != "ok":
        raise InvalidArgumentError(
            f"stage 1 in {folder} diverged, so there is no network to start from; give it a lower rate, such "
            'as single={"lr": 1e-3}'
        )
    return run


def finished(folder: Path) -> dict[str, Any] | None:
    """Return what the finished run of a folder found, as `AuxResult.to_dict`; None where there is none."""
    try:
        run: dict[str, Any] = json.loads(files.read_small(folder / RESULT))
    except (OSError, ValueError, RecursionError):
        return None
    return run if isinstance(run, dict) else None


def begun(folder: Path) -> dict[str, Any] | None:
    """Return which run was begun in a folder, by the names of `AuxResult.to_dict`; None where none was."""
    try:
        about: dict[str, Any] = json.loads(files.read_small(folder / CONFIG))
        return {**about, "data_digest": about["data"]["digest"]}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def load_primary(folder: str | os.PathLike[str]) -> nn.Module:
    """Return the primary network of the run in a folder, in evaluation mode, else raise `IntegrityError`."""
    from nasbench_mr.search.auxnas import links, networks, tasks
    from nasbench_mr.tensors import load_weights

    place = Path(folder)
    try:
        about = json.loads(files.read_small(place / CONFIG))
        config, data = AuxConfig.of(about["config"]), about["data"]
        dense = tasks.get(about["primary"]).dense
        outputs, size = int(data["outputs"]), (int(data["pixels"][0]), int(data["pixels"][1]))
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{place} has no {CONFIG} of a run ({error})") from error
    options = dict(config.options)
    if config.backbone == "multi-resolution":
        options["code"] = config.primary_code
    if _configured(config) and (place / BACKBONE).is_file():  # the checkpoint may lie elsewhere now
        del options["checkpoint"]
        options["configuration"] = place / BACKBONE
    staged = networks.build(config.backbone, outputs, dense, size, **options)
    network = links.Normed(staged, links.Norms(staged.ports)) if config.keeps_norms else staged.plain()
    load_weights(place / WEIGHTS, network)
    return network.eval()


def _configured(config: AuxConfig) -> bool:
    """Whether the networks come from a checkpoint whose configuration alone can make them (`BACKBONE`)."""
    from nasbench_mr.search.auxnas import networks

    known = inspect.signature(networks.BACKBONES[config.backbone]).parameters
    return "configuration" in known and config.options.get("checkpoint") is not None


def _write(path: Path, about: Mapping[str, Any]) -> None:
    files.write_text(path, json.dumps(about, indent=1) + "\n")
