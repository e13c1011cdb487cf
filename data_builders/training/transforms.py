"""From stored samples to network inputs: augmentation in training, resizing and cropping in tests.

Everything random is a function of a row of numbers in [0, 1) that `draw` makes for each sample, so a sample
is augmented alike whether it is transformed alone in a loader's worker, in a batch that is held on the
device, or on one of several processes.

`crop_batch` and `crop_sample` do the geometry, on a batch of equal sizes and on one sample of any size;
`finish` does the rest on batches: photometric distortion and normalisation. Images are `(B, H, W, 3)` uint8
until `finish` makes them `(B, 3, H, W)` float32; masks are `(B, H, W)` uint8. Lidar scenes are augmented by
`detection.augment`. Needs the extra `build`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nasbench_mr.data_builders.datasets import IGNORE, Array
from nasbench_mr.errors import DatasetError

if TYPE_CHECKING:
    from nasbench_mr.data_builders.training.recipes import Recipe

#: Numbers a sample is augmented by; the constants below are their columns.
UNIFORMS = 14
_FLIP, _TOP, _LEFT, _SCALE, _ASPECT, _TIME = range(6)
_PHOTOMETRIC = 6

#: Mean and standard deviation of ImageNet's channels, in [0, 1]; and those of their grey value.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY = (0.299, 0.587, 0.114)
GREY_MEAN, GREY_STD = 0.458, 0.225
#: Aspect ratios (width over height) of the crops of mode "area".
_ASPECTS = (3 / 4, 4 / 3)


def draw(rng: np.random.Generator, count: int) -> Tensor:
    """`(count, UNIFORMS)` float32 in [0, 1): what `count` samples are augmented by."""
    return torch.from_numpy(rng.random((count, UNIFORMS), np.float32))


def training_boxes(recipe: Recipe, size: tuple[int, int], u: Tensor) -> Tensor:
    """Where samples of `size` (height, width) are cropped in training: `(B, 4)` top, left, height, width.

    In pixels of the sample; what lies outside of it is empty. u: `(B, UNIFORMS)`.
    """
    height, width = (torch.full_like(u[:, 0], side) for side in size)
    if recipe.crop is None:
        top, left = (torch.floor(u[:, k] * (2 * recipe.pad + 1)) - recipe.pad for k in (_TOP, _LEFT))
        return torch.stack([top, left, height, width], 1)
    low, high = recipe.crop_scale
    if recipe.crop_mode == "jitter":
        scale = low + (high - low) * u[:, _SCALE]
        h, w = recipe.crop[0] / scale, recipe.crop[1] / scale
    else:
        area = height * width * (low + (high - low) * u[:, _SCALE])
        a, b = (math.log(ratio) for ratio in _ASPECTS)
        aspect = torch.exp(a + (b - a) * u[:, _ASPECT])
        h, w = torch.minimum((area / aspect).sqrt(), height), torch.minimum((area * aspect).sqrt(), width)
    top, left = u[:, _TOP] * (height - h).clamp(min=0), u[:, _LEFT] * (width - w).clamp(min=0)
    return torch.stack([top, left, h, w], 1)


def output_size(recipe: Recipe, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width that training samples of `size` are cropped to."""
    return size if recipe.crop is None else recipe.crop


def crop_batch(
    recipe: Recipe, images: Tensor, masks: Tensor | None, u: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Crop and mirror training samples of one size; the results have `output_size`, and no gradient.

    Args:
        images: `(B, H, W, C)` uint8; frames of a clip are among the channels.
        masks: `(B, H, W)` uint8.
        u: `(B, UNIFORMS)`.
    """
    size = (images.shape[1], images.shape[2])
    mirrored = (u[:, _FLIP] < 0.5) & recipe.flip
    boxes = training_boxes(recipe, size, u)
    if recipe.crop is None or (recipe.crop_mode == "jitter" and recipe.crop_scale == (1.0, 1.0)):
        return _cut(images, masks, boxes, output_size(recipe, size), mirrored)
    return _sample(images, masks, boxes, output_size(recipe, size), mirrored)


def _cut(
    images: Tensor, masks: Tensor | None, boxes: Tensor, size: tuple[int, int], mirrored: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Crops without scaling: whole pixels, moved."""
    h, w = size
    rows = boxes[:, :1].round().long() + torch.arange(h, device=boxes.device)  # (B, h)
    columns = torch.arange(w, device=boxes.device).expand(len(boxes), w)
    columns = torch.where(mirrored[:, None], w - 1 - columns, columns) + boxes[:, 1:2].round().long()
    outside = ((rows < 0) | (rows >= images.shape[1]))[:, :, None]
    outside = outside | ((columns < 0) | (columns >= images.shape[2]))[:, None, :]  # (B, h, w)
    rows = rows.clamp(0, images.shape[1] - 1)[:, :, None]
    columns = columns.clamp(0, images.shape[2] - 1)[:, None, :]
    sample = torch.arange(len(images), device=images.device)[:, None, None]
    cut = images[sample, rows, columns].masked_fill_(outside[..., None], 0)
    if masks is None:
        return cut, None
    return cut, masks[sample, rows, columns].masked_fill_(outside, IGNORE)


def _sample(
    images: Tensor, masks: Tensor | None, boxes: Tensor, size: tuple[int, int], mirrored: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Crops with scaling: bilinear for images, nearest for masks."""
    height, width = images.shape[1:3]
    top, left, h, w = boxes.unbind(1)
    zero = torch.zeros_like(top)
    sign = torch.where(mirrored, -1.0, 1.0)
    # In grid_sample's coordinates the sample spans [-1, 1], and so does the output.
    x = torch.stack([sign * w / width, zero, (2 * left + w) / width - 1], 1)
    y = torch.stack([zero, h / height, (2 * top + h) / height - 1], 1)
    grid = F.affine_grid(torch.stack([x, y], 1), [len(images), 1, *size], align_corners=False)
    cut = resample(images, grid).round_().to(torch.uint8)
    if masks is None:
        return cut, None
    return cut, resample(masks, grid, nearest=True, fill=IGNORE).to(torch.uint8)


def resample(values: Tensor, grid: Tensor, *, nearest: bool = False, fill: float = 0.0) -> Tensor:
    """Return the values at the places of a grid, as float32.

    Args:
        values: `(B, H, W)` or `(B, H, W, C)`.
        grid: `(B, h, w, 2)` in grid_sample's coordinates.
        nearest: take the nearest value instead of interpolating.
        fill: what is outside.
    """
    # What is outside is 0 for grid_sample, so the difference to `fill` is sampled.
    planes = (values[:, None] if values.ndim == 3 else values.permute(0, 3, 1, 2)).float() - fill
    mode = "nearest" if nearest else "bilinear"
    found = F.grid_sample(planes, grid, mode, align_corners=False) + fill
    return found[:, 0] if values.ndim == 3 else found.permute(0, 2, 3, 1)


def crop_sample(
    recipe: Recipe, image: Tensor, mask: Tensor | None, u: Tensor
) -> tuple[Tensor, Tensor | None]:
    """As `crop_batch` for one sample of any size, with antialiasing: `(H, W, C)`, `(H, W)`, `(UNIFORMS,)`."""
    size = (image.shape[0], image.shape[1])
    if recipe.crop is None or (recipe.crop_mode == "jitter" and recipe.crop_scale == (1.0, 1.0)):
        cut, labels = crop_batch(recipe, image[None], None if mask is None else mask[None], u[None])
        return cut[0], None if labels is None else labels[0]
    target = recipe.crop
    top, left, h, w = training_boxes(recipe, size, u[None])[0].tolist()
    y, x = math.floor(top), math.floor(left)
    y2, x2 = min(size[0], math.ceil(top + h)), min(size[1], math.ceil(left + w))
    # What exists of the box, at the box's scale; then the empty rest at the bottom and the right.
    shown = (
        max(1, min(target[0], round(target[0] * (y2 - y) / h))),
        max(1, min(target[1], round(target[1] * (x2 - x) / w))),
    )
    cut = resize(image[y:y2, x:x2], shown)
    missing = (0, target[1] - shown[1], 0, target[0] - shown[0])
    cut = F.pad(cut, (0, 0, *missing))
    labels = None
    if mask is not None:
        rows = (torch.arange(shown[0]) + 0.5) * (y2 - y) / shown[0]
        columns = (torch.arange(shown[1]) + 0.5) * (x2 - x) / shown[1]
        labels = F.pad(mask[y:y2, x:x2][rows.long()[:, None], columns.long()], missing, value=IGNORE)
    if recipe.flip and u[_FLIP] < 0.5:
        cut = cut.flip(1)
        labels = None if labels is None else labels.flip(1)
    return cut, labels


def test_sample(image: Tensor, short: int | None, crop: tuple[int, int] | None) -> Tensor:
    """Return `(H, W, C)` uint8, its shorter side resized, then its centre cropped; None: neither."""
    if short is not None:
        smaller = min(image.shape[:2])
        image = resize(
            image, (round(image.shape[0] * short / smaller), round(image.shape[1] * short / smaller))
        )
    if crop is not None:
        top, left = (image.shape[0] - crop[0]) // 2, (image.shape[1] - crop[1]) // 2
        if top < 0 or left < 0:
            size = f"{image.shape[0]} x {image.shape[1]}"
            raise DatasetError(f"an image has {size} pixels; expected at least {crop[0]} x {crop[1]} to crop")
        image = image[top : top + crop[0], left : left + crop[1]]
    return image


def test_clip(clip: Tensor, short: int | None, crop: tuple[int, int] | None) -> Tensor:
    """Return `test_sample` of a clip's frames, `(T, H, W, 3)`."""
    if short is None and crop is None:
        return clip
    cut = test_sample(_frames_last(clip[None])[0], short, crop)
    return _frames_first(cut[None], len(clip))[0]


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """`(H, W, C)` uint8 to another (height, width), bilinear, antialiased."""
    if tuple(image.shape[:2]) == size:
        return image
    planes = image.permute(2, 0, 1)[None].float()
    out = F.interpolate(planes, size, mode="bilinear", align_corners=False, antialias=True)
    return out.round_().clamp_(0, 255).to(torch.uint8)[0].permute(1, 2, 0)


def frame_indices(length: int, frames: int, u: Tensor | None = None) -> Tensor:
    """Return which frames of clips are seen, `(B, frames)`, rising: one of each of `frames` equal spans.

    It is the middle one or, in training, one at the same random place of each span.

    Args:
        length: frames of a clip.
        u: `(B,)` in [0, 1); None for the middle.
    """
    place = torch.tensor([0.5]) if u is None else u
    spans = torch.arange(frames, device=place.device)
    return ((spans + place[:, None]) * (length / frames)).long().clamp(max=length - 1)


def grey(clip: Tensor) -> Tensor:
    """`(..., 3)` uint8 colours to `(...)` uint8 brightness."""
    # In integers, as floats would take four times the memory of a data set.
    weights = torch.tensor([round(w * 256) for w in GREY], dtype=torch.int32, device=clip.device)
    return ((clip.int() * weights).sum(-1) >> 8).to(torch.uint8)


def select_frames(recipe: Recipe, clips: Tensor, u: Tensor | None) -> Tensor:
    """Return the frames that the network sees, with three channels.

    Args:
        clips: `(B, T, H, W, 3)` uint8; for motion, `(B, T, H, W)` of `grey`.
        u: `(B, UNIFORMS)` in training.

    Returns:
        `(B, K, H, W, 3)` uint8, K = `recipe.frames`. For "motion" the channels are twice the difference
        to the frame before (128 for none), the grey frame, and twice the difference to the frame after.
    """
    at = frame_indices(clips.shape[1], recipe.frames, None if u is None else u[:, _TIME])
    at = at.to(clips.device).expand(len(clips), -1)  # (B, K)
    sample = torch.arange(len(clips), device=clips.device)[:, None]
    if recipe.input == "rgb":
        return clips[sample, at]
    now = clips[sample, at].short()
    before = clips[sample, (at - 1).clamp(min=0)].short()
    after = clips[sample, (at + 1).clamp(max=clips.shape[1] - 1)].short()
    channels = [(now - before) * 2 + 128, now, (after - now) * 2 + 128]
    return torch.stack(channels, -1).clamp_(0, 255).to(torch.uint8)


def training_batch(recipe: Recipe, pictures: Tensor, labels: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Augmented network input and labels of samples of one size.

    Args:
        pictures: `(B, H, W, 3)`, or clips as in `select_frames`.
        labels: `(B,)`, or masks `(B, H, W)`.
        u: `(B, UNIFORMS)`.
    """
    if labels.ndim == 3:
        cut, masks = crop_batch(recipe, pictures, labels, u)
        assert masks is not None
        return finish(recipe, cut, u), masks
    if recipe.frames == 0:
        return finish(recipe, crop_batch(recipe, pictures, None, u)[0], u), labels
    clips = select_frames(recipe, pictures, u)
    cut = crop_batch(recipe, _frames_last(clips), None, u)[0]
    return finish(recipe, _frames_first(cut, recipe.frames), u), labels


def test_batch(recipe: Recipe, pictures: Tensor) -> Tensor:
    """Network input of samples of one size, as in `training_batch`."""
    return finish(recipe, select_frames(recipe, pictures, None) if recipe.frames else pictures)


def training_sample(recipe: Recipe, sample: Mapping[str, Array], u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One augmented sample, of any size, up to `finish`: uint8 picture or clip, label or mask, and `u`."""
    picture, label = _picture(recipe, sample, u)
    mask = label if label.ndim == 2 else None
    cut, cropped = crop_sample(recipe, picture, mask, u)
    if recipe.frames:
        cut = _frames_first(cut[None], recipe.frames)[0]
    return cut, label if cropped is None else cropped, u


def validation_sample(
    recipe: Recipe, sample: Mapping[str, Array], u: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One sample to be evaluated, as in `training_sample`."""
    if recipe.frames:
        # Before motion is seen, as where data are held in memory.
        clip = test_clip(torch.from_numpy(sample["clip"]), recipe.test_resize, recipe.test_crop)
        picture, label = _picture(recipe, {**sample, "clip": clip.numpy()}, None)
        return _frames_first(picture[None], recipe.frames)[0], label, u
    picture, label = _picture(recipe, sample, None)
    if label.ndim == 0:
        picture = test_sample(picture, recipe.test_resize, recipe.test_crop)
    return picture, label, u


def _picture(recipe: Recipe, sample: Mapping[str, Array], u: Tensor | None) -> tuple[Tensor, Tensor]:
    """`(H, W, C)`, a clip's frames among the channels, and the label or mask."""
    label = torch.from_numpy(np.asarray(sample["mask" if "mask" in sample else "label"]))
    if not recipe.frames:
        return torch.from_numpy(sample["image"]), label
    clip = torch.from_numpy(sample["clip"])[None]
    clip = grey(clip) if recipe.input == "motion" else clip
    return _frames_last(select_frames(recipe, clip, None if u is None else u[None]))[0], label


def _frames_last(clips: Tensor) -> Tensor:
    """`(B, K, H, W, 3)` to `(B, H, W, K * 3)`."""
    return clips.permute(0, 2, 3, 1, 4).flatten(3)


def _frames_first(pictures: Tensor, frames: int) -> Tensor:
    """Return the inverse of `_frames_last`."""
    return pictures.view(*pictures.shape[:3], frames, 3).permute(0, 3, 1, 2, 4)


def photometric(images: Tensor, u: Tensor) -> Tensor:
    """Distorts brightness, contrast, saturation and hue, each with probability 1/2.

    The ranges are those of SSD's augmentation, as used for the published `seg`: brightness +-32/255, contrast
    and saturation 0.5 to 1.5, hue +-18 degrees. All four are linear in the colours, so they are one matrix.

    Args:
        images: `(B, 3, H, W)` float in [0, 1].
        u: `(B, UNIFORMS)`.
    """
    on = u[:, _PHOTOMETRIC : _PHOTOMETRIC + 8 : 2] < 0.5  # (B, 4)
    amount = torch.where(on, 2 * u[:, _PHOTOMETRIC + 1 : _PHOTOMETRIC + 8 : 2] - 1, 0.0)
    shift, contrast, saturation = amount[:, 0] * 32 / 255, 1 + amount[:, 1] / 2, 1 + amount[:, 2] / 2
    angle = amount[:, 3] * math.pi / 10
    eye = torch.eye(3, device=u.device)
    brightness = _constant(GREY, u.device).expand(3, 3)
    saturated = brightness + (eye - brightness) * saturation[:, None, None]
    # Rodrigues' rotation about the grey axis.
    third, root = torch.full((3, 3), 1 / 3, device=u.device), math.sqrt(1 / 3)
    cross = _constant(((0.0, -1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 1.0, 0.0)), u.device) * root
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    rotation = eye * cos + third * (1 - cos) + cross * sin
    matrix = (rotation @ saturated) * contrast[:, None, None]  # (B, 3, 3)
    mixed = torch.einsum("bij,bjhw->bihw", matrix, images) + shift[:, None, None, None]
    return mixed.clamp_(0, 1)


def finish(recipe: Recipe, images: Tensor, u: Tensor | None = None) -> Tensor:
    """Normalised network input of `(..., H, W, 3)` uint8 images: `(..., 3, H, W)` float32.

    u: `(B, UNIFORMS)` in training, for `recipe.photometric`.
    """
    planes = images.movedim(-1, -3).float()
    if recipe.photometric and u is not None:
        planes = photometric(planes / 255, u) * 255
    motion = recipe.input == "motion"
    mean = _constant((GREY_MEAN,) * 3 if motion else MEAN, planes.device)[:, None, None] * 255
    std = _constant((GREY_STD,) * 3 if motion else STD, planes.device)[:, None, None] * 255
    return planes.sub_(mean).div_(std)


@functools.cache
def _constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    """Return a tensor of constants, moved once: every copy to a GPU waits for what runs there."""
    return torch.tensor(values, device=device)
