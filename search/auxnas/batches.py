"""Batches of a labelled set that is held on the device, augmented for training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from nasbench_mr.data_builders.datasets import IGNORE
from nasbench_mr.data_builders.training.transforms import MEAN, STD, resample
from nasbench_mr.search.auxnas.config import AuxConfig
from nasbench_mr.search.auxnas.data import LabelledSet
from nasbench_mr.search.auxnas.tasks import LabelTask

Labels = dict[str, Tensor]


class Batches:
    """A labelled set on the device, and batches of it, augmented for training."""

    def __init__(self, data: LabelledSet, tasks: Sequence[LabelTask], device: torch.device):
        self.count = len(data)
        keys = ("image", *(task.name for task in tasks))
        self.tensors = {
            key: torch.from_numpy(np.ascontiguousarray(data.arrays[key])).to(device) for key in keys
        }
        self.mean, self.std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (MEAN, STD))

    def get(
        self,
        rows: npt.NDArray[np.int64],
        config: AuxConfig | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Tensor, Labels]:
        """Return normalised images `(B, 3, H, W)` and labels; augmented if there is a generator."""
        index = torch.from_numpy(rows).to(self.mean.device)
        batch = {key: values[index] for key, values in self.tensors.items()}
        if config is not None and rng is not None:
            batch = augment(batch, config, rng)
        image = batch.pop("image").permute(0, 3, 1, 2).float() / 255
        return (image - self.mean) / self.std, batch


def augment(batch: Labels, config: AuxConfig, rng: np.random.Generator) -> Labels:
    """Mirror, zoom into and turn images with their labels; normals turn with the image.

    A zoom by z shows a part 1 / z as high and wide; depth is divided by z, as the camera comes nearer.
    Disparity is multiplied. Pixels from outside become black and unknown.
    """
    count, height, width = batch["image"].shape[:3]
    u = torch.from_numpy(rng.random((count, 7), np.float32))
    flip = u[:, 0] < config.flip
    angle = torch.where(u[:, 1] < config.rotate_share, torch.deg2rad((2 * u[:, 2] - 1) * config.rotate), 0.0)
    zoom = torch.where(u[:, 3] < config.crop_share, 1 + u[:, 4] * (config.zoom - 1), 1.0)
    plain = bool((angle == 0).all() and (zoom == 1).all())
    flip, angle, zoom, u = (t.to(batch["image"].device) for t in (flip, angle, zoom, u))
    sign = torch.where(flip, -1.0, 1.0)
    if plain:
        out = {k: _mirror(v, flip) if v.ndim > 1 else v for k, v in batch.items()}
        if "normals" in out:
            out["normals"][..., 0] *= sign[:, None, None]
        return out
    cos, sin = angle.cos(), angle.sin()
    # From output to input coordinates, in units of half the height; then to grid_sample's [-1, 1].
    aspect = width / height
    room = 1 - 1 / zoom
    left, top = (2 * u[:, 5] - 1) * room, (2 * u[:, 6] - 1) * room
    theta = torch.stack(
        [
            torch.stack([sign * cos / zoom, -sign * sin / zoom / aspect, left], 1),
            torch.stack([sin * aspect / zoom, cos / zoom, top], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [count, 1, height, width], align_corners=False)
    out = {}
    for key, value in batch.items():
        if value.ndim == 1:
            out[key] = value
            continue
        fill = float(IGNORE) if key in ("segmentation", "edges") else 0.0
        moved = resample(value, grid, nearest=key != "image", fill=fill)
        if key == "depth":
            moved = moved / zoom[:, None, None]
        elif key == "disparity":
            moved = moved * zoom[:, None, None]
        elif key == "normals":
            # An output direction (x, y) is an input one turned; invert that for what the input shows.
            c, s, m = (t[:, None, None] for t in (cos, sin, sign))
            x, y = m * moved[..., 0], moved[..., 1]
            turned = torch.stack([c * x + s * y, c * y - s * x, moved[..., 2]], 1)
            moved = turned.permute(0, 2, 3, 1)
        out[key] = moved if value.is_floating_point() else moved.round().to(value.dtype)
    return out


def _mirror(values: Tensor, flip: Tensor) -> Tensor:
    """Return `(B, H, W, ...)` mirrored left-right where `flip` `(B,)` says so."""
    return torch.where(flip.view(-1, *[1] * (values.ndim - 1)), values.flip(2), values)
