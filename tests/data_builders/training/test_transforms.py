"""Augmentation: each geometry against a plain one, and one sample alone as in a batch."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nasbench_mr.data_builders.training import recipes, transforms
from nasbench_mr.errors import DatasetError

PLAIN = dataclasses.replace(recipes.get("mini-cls"), flip=False, pad=0)


def pictures(count=6, height=20, width=24, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, height, width, channels), generator=generator, dtype=torch.uint8)


def masks(count=6, height=20, width=24, seed=1):
    return torch.randint(0, 11, (count, height, width), generator=torch.Generator().manual_seed(seed)).to(
        torch.uint8
    )


def numbers(count=6, seed=2):
    return transforms.draw(np.random.default_rng(seed), count)


def test_numbers_follow_the_seed():
    assert torch.equal(numbers(), numbers())
    assert not torch.equal(numbers(), numbers(seed=3))
    assert numbers().shape == (6, transforms.UNIFORMS)
    many = numbers(10_000)
    assert 0 <= many.min() < many.max() < 1
    assert many.mean(0) == pytest.approx(np.full(transforms.UNIFORMS, 0.5), abs=0.02)


def test_nothing_random_changes_nothing():
    images, labels = transforms.crop_batch(PLAIN, pictures(), masks(), numbers())
    assert torch.equal(images, pictures())
    assert torch.equal(labels, masks())


def test_mirroring_mirrors_half():
    recipe = dataclasses.replace(PLAIN, flip=True)
    u = numbers(400)
    images, labels = transforms.crop_batch(recipe, pictures(400), masks(400), u)
    mirrored = u[:, 0] < 0.5
    assert 150 < mirrored.sum() < 250
    assert torch.equal(images[mirrored], pictures(400)[mirrored].flip(2))
    assert torch.equal(labels[mirrored], masks(400)[mirrored].flip(2))
    assert torch.equal(images[~mirrored], pictures(400)[~mirrored])


def test_shifts_are_those_of_padding_and_cutting():
    recipe = dataclasses.replace(PLAIN, pad=3)
    u = numbers(50)
    images, labels = transforms.crop_batch(recipe, pictures(50), masks(50), u)
    seen = set()
    for k in range(50):
        top, left = (int(u[k, c] * 7) for c in (1, 2))  # where the cut begins in the padded picture
        seen.add((top, left))
        padded = F.pad(pictures(50)[k], (0, 0, 3, 3, 3, 3))
        assert torch.equal(images[k], padded[top : top + 20, left : left + 24])
        padded = F.pad(masks(50)[k], (3, 3, 3, 3), value=255)
        assert torch.equal(labels[k], padded[top : top + 20, left : left + 24])
    assert len(seen) > 20


def test_crops_without_scaling_are_slices():
    recipe = dataclasses.replace(PLAIN, crop=(32, 33))
    images, u = pictures(9, 40, 50), numbers(9)
    cut, _ = transforms.crop_batch(recipe, images, None, u)
    for k in range(9):
        top, left = round(float(u[k, 1]) * 8), round(float(u[k, 2]) * 17)
        assert torch.equal(cut[k], images[k, top : top + 32, left : left + 33])


def test_a_crop_larger_than_the_picture_is_empty_beyond():
    recipe = dataclasses.replace(PLAIN, crop=(32, 32))
    cut, labels = transforms.crop_batch(recipe, pictures(), masks(), numbers())
    assert torch.equal(cut[:, :20, :24], pictures())
    assert not cut[:, 20:].any()
    assert not cut[:, :, 24:].any()
    assert torch.equal(labels[:, :20, :24], masks())
    assert (labels[:, 20:] == 255).all()


def test_area_crops_have_the_drawn_area_and_shape():
    recipe = dataclasses.replace(PLAIN, crop=(32, 32), crop_mode="area", crop_scale=(0.1, 0.5))
    top, left, h, w = transforms.training_boxes(recipe, (300, 300), numbers(1000)).unbind(1)
    share = h * w / 300**2
    assert 0.1 <= share.min() < 0.12
    assert 0.48 < share.max() <= 0.5 + 1e-6
    assert 3 / 4 - 1e-5 <= (w / h).min() < 0.77
    assert 1.3 < (w / h).max() <= 4 / 3 + 1e-5
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= 300.001).all()
    assert (left + w <= 300.001).all()


def test_scaled_crops_show_what_the_box_holds():
    """A picture whose values are its coordinates: after cropping, they are the box's."""
    rows = torch.arange(64)[:, None].expand(64, 80)
    columns = torch.arange(80)[None].expand(64, 80)
    image = torch.stack([rows, columns, rows], -1).to(torch.uint8)[None].expand(7, -1, -1, -1).contiguous()
    mask = (columns // 8).to(torch.uint8)[None].expand(7, -1, -1).contiguous()
    recipe = dataclasses.replace(PLAIN, crop=(32, 40), crop_scale=(1.0, 2.0))
    u = numbers(7)
    boxes = transforms.training_boxes(recipe, (64, 80), u)
    cut, labels = transforms.crop_batch(recipe, image, mask, u)
    centres = (torch.arange(32) + 0.5) / 32, (torch.arange(40) + 0.5) / 40
    for k, (top, left, h, w) in enumerate(boxes.tolist()):
        assert cut[k, :, 5, 0].numpy() == pytest.approx((top + h * centres[0] - 0.5).numpy(), abs=0.51)
        assert cut[k, 5, :, 1].numpy() == pytest.approx((left + w * centres[1] - 0.5).numpy(), abs=0.51)
        assert labels[k, 3].tolist() == ((left + w * centres[1]) // 8).tolist()


@pytest.mark.parametrize("mode", ["area", "jitter"])
def test_one_sample_alone_is_as_in_a_batch(mode):
    # Smooth pictures, as alone they are resized with antialiasing.
    y, x = torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij")
    smooth = (127 + 60 * torch.sin(y / 9) + 60 * torch.cos(x / 11)).to(torch.uint8)
    images = smooth[None, ..., None].expand(8, -1, -1, 3).contiguous()
    mask = (smooth // 64)[None].expand(8, -1, -1).contiguous()
    recipe = dataclasses.replace(PLAIN, flip=True, crop=(40, 40), crop_mode=mode)
    recipe = dataclasses.replace(recipe, crop_scale=(0.5, 1.0) if mode == "area" else (0.7, 1.5))
    u = numbers(8)
    together, labels = transforms.crop_batch(recipe, images, mask, u)
    for k in range(8):
        alone, label = transforms.crop_sample(recipe, images[k], mask[k], u[k])
        assert alone.shape == (40, 40, 3)
        assert (alone.int() - together[k].int()).abs().float().mean() < 6
        assert (label == labels[k]).float().mean() > 0.85


def test_one_sample_alone_is_mirrored_and_shifted_alike():
    recipe = dataclasses.replace(PLAIN, flip=True, pad=2)
    together, labels = transforms.crop_batch(recipe, pictures(), masks(), numbers())
    for k in range(6):
        alone, label = transforms.crop_sample(recipe, pictures()[k], masks()[k], numbers()[k])
        assert torch.equal(alone, together[k])
        assert torch.equal(label, labels[k])


def test_tests_see_the_centre():
    image = pictures(1, 60, 90)[0]
    assert torch.equal(transforms.test_sample(image, None, None), image)
    assert torch.equal(transforms.test_sample(image, None, (40, 50)), image[10:50, 20:70])
    assert transforms.test_sample(image, 40, None).shape == (40, 60, 3)
    assert transforms.test_sample(image, 40, (32, 36)).shape == (32, 36, 3)
    with pytest.raises(DatasetError, match="60 x 90 pixels; expected at least 64 x 32"):
        transforms.test_sample(image, None, (64, 32))


def test_frames_are_spread_over_the_clip():
    assert transforms.frame_indices(16, 4).tolist() == [[2, 6, 10, 14]]
    assert transforms.frame_indices(3, 6).tolist() == [[0, 0, 1, 1, 2, 2]]
    u = torch.tensor([0.0, 0.99])
    assert transforms.frame_indices(16, 4, u).tolist() == [[0, 4, 8, 12], [3, 7, 11, 15]]


def test_colour_frames_are_the_chosen_ones():
    recipe = dataclasses.replace(recipes.get("mini-video"), input="rgb", frames=2)
    clips = pictures(3 * 8).unflatten(0, (3, 8))
    chosen = transforms.select_frames(recipe, clips, None)
    assert torch.equal(chosen, clips[:, [2, 6]])
    batch = transforms.test_batch(recipe, clips)
    assert batch.shape == (3, 2, 3, 20, 24)
    trained, labels = transforms.training_batch(recipe, clips, torch.arange(3), numbers(3))
    assert trained.shape == batch.shape
    assert labels.tolist() == [0, 1, 2]


def test_motion_is_the_difference_to_the_neighbours():
    recipe = dataclasses.replace(recipes.get("mini-video"), frames=2)
    brightness = torch.tensor([10, 20, 25, 25, 25, 225, 25, 25], dtype=torch.uint8)
    clip = brightness[None, :, None, None].expand(1, 8, 4, 4)
    # Frames 2 and 6; twice the differences to the frames before and after, around 128.
    frames = transforms.select_frames(recipe, clip, None)[0, :, 0, 0]
    assert frames.tolist() == [[128 + 10, 25, 128], [0, 25, 128]]


def test_grey_is_a_weighted_mean():
    colours = torch.tensor(
        [[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], dtype=torch.uint8
    )
    assert transforms.grey(colours).numpy() == pytest.approx(
        255 * np.array([1, 0.299, 0.587, 0.114, 0]), abs=1.5
    )


def test_photometric_distortion():
    images = torch.rand((200, 3, 4, 5), generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    u = torch.full((200, transforms.UNIFORMS), 0.9)  # nothing is on
    assert torch.allclose(transforms.photometric(images, u), images)

    def only(which, amount):
        changed = u.clone()
        changed[:, 6 + 2 * which], changed[:, 7 + 2 * which] = 0.0, amount
        return transforms.photometric(images, changed)

    grey = torch.einsum("c,bchw->bhw", torch.tensor([0.299, 0.587, 0.114]), images)[:, None]
    assert torch.allclose(only(0, 0.75), images + 16 / 255)
    assert torch.allclose(only(1, 0.25), images * 0.75)
    assert torch.allclose(only(2, 0.0), (images + grey) / 2, atol=1e-6)
    hue = only(3, 1.0)
    assert torch.allclose(hue.mean(1), images.mean(1), atol=1e-6)  # a turn about the grey axis
    assert torch.allclose((hue**2).sum(1), (images**2).sum(1), atol=1e-5)
    assert (hue - images).abs().max() > 0.02
    random = transforms.photometric(images, numbers(200))
    assert 0 <= random.min() < random.max() <= 1


def test_input_is_normalised():
    images = torch.tensor([[[[0, 127, 255]]]], dtype=torch.uint8)
    found = transforms.finish(PLAIN, images)
    assert found.shape == (1, 3, 1, 1)
    expected = [
        (v / 255 - m) / s for v, m, s in zip((0, 127, 255), transforms.MEAN, transforms.STD, strict=True)
    ]
    assert found.flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_scenes_are_shifted_alike_over_a_clip():
    recipe = dataclasses.replace(recipes.get("mini-video"), input="rgb", frames=3, pad=2, flip=True)
    still = pictures(2)[:, None].expand(2, 6, -1, -1, -1)
    trained, _ = transforms.training_batch(recipe, still, torch.zeros(2, dtype=torch.long), numbers(2))
    assert torch.equal(trained[:, 0], trained[:, 2])
    assert not torch.equal(trained[:, 0], transforms.test_batch(recipe, still)[:, 0])
