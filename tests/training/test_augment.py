"""Augmentation: laws of the changes, and that images and labels move together."""

import pytest
import torch
from pydantic import ValidationError

from fvv.config import AugmentConfig, TrainConfig
from fvv.training.augment import SlabChange, apply_changes, around_brain, augmented, draw_changes


@pytest.fixture
def slab():
    """Smooth images (1, 2, 10, 64, 64) whose bright part is the label (1, 3, 4, 64, 64)."""
    i, j = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    blob = torch.exp(-((i - 26) ** 2 + (j - 36) ** 2) / 60)
    z = torch.linspace(0.7, 1.0, 10)[:, None, None]
    images = torch.stack([blob * z, 2 * blob * z - 1])[None]
    labels = (images[:, :1, 3:7] > 0.5).expand(1, 3, 4, 64, 64).clone()
    return images, labels


def test_no_change_changes_nothing(slab):
    images, labels = apply_changes(*slab, (SlabChange(),))
    torch.testing.assert_close(images, slab[0], atol=1e-5, rtol=0)
    assert torch.equal(labels, slab[1])
    assert apply_changes(*slab, ())[0] is slab[0]


@pytest.mark.parametrize("flip", ["flip_left_right", "flip_slice_order"])
def test_a_flip_twice_is_no_flip(slab, flip):
    change = (SlabChange(**{flip: True}),)
    once = apply_changes(*slab, change)
    assert not torch.allclose(once[0], slab[0], atol=1e-2)
    images, labels = apply_changes(*once, change)
    torch.testing.assert_close(images, slab[0], atol=1e-4, rtol=0)
    assert torch.equal(labels, slab[1])


def test_left_right_flip_mirrors_axis_i_alone(slab):
    images, _ = apply_changes(*slab, (SlabChange(flip_left_right=True),))
    torch.testing.assert_close(images, slab[0].flip(3), atol=1e-4, rtol=0)


def test_slice_order_flip_keeps_labels_on_their_slices(slab):
    images, labels = apply_changes(*slab, (SlabChange(flip_slice_order=True),))
    torch.testing.assert_close(images, slab[0].flip(2), atol=1e-5, rtol=0)
    assert torch.equal(labels, slab[1].flip(2))


def test_rotating_back_restores_the_middle(slab):
    there = apply_changes(*slab, (SlabChange(rotation_deg=8.0),))
    back, _ = apply_changes(*there, (SlabChange(rotation_deg=-8.0),))
    assert (there[0] - slab[0]).abs().max() > 0.15
    torch.testing.assert_close(back[..., 16:48, 16:48], slab[0][..., 16:48, 16:48], atol=0.05, rtol=0)


def test_translation_moves_by_its_share_of_the_edge(slab):
    images, _ = apply_changes(*slab, (SlabChange(translation=(4 / 64, 0.0)),))
    torch.testing.assert_close(images[..., :60, :], slab[0][..., 4:, :], atol=1e-4, rtol=0)


def test_zoom_above_one_enlarges_the_label(slab):
    sizes = [apply_changes(*slab, (SlabChange(scale=scale),))[1].sum() for scale in (1 / 1.1, 1.0, 1.1)]
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] / sizes[1] == pytest.approx(1.21, rel=0.1)


def test_labels_follow_the_image():
    config = AugmentConfig(brightness=0, contrast=0)
    generator = torch.Generator().manual_seed(3)
    images = torch.zeros(6, 2, 8, 64, 64)
    images[..., 20:40, 24:50] = 1.0
    labels = (images[:, :1, 3:5] > 0.5).expand(6, 3, 2, 64, 64)
    moved, marked = apply_changes(images, labels, draw_changes(config, 6, generator))
    # Only voxels at the edge may differ: the image is interpolated, the label is not.
    assert ((moved[:, :1, 3:5] > 0.5) != marked).float().mean() < 0.01
    assert marked.any(dim=(1, 2, 3, 4)).all()


def test_what_comes_from_outside_is_the_channels_minimum_without_label():
    images = torch.stack([torch.full((8, 32, 32), 3.0), torch.full((8, 32, 32), 5.0)])[None]
    images[:, 0, 0, 0, 0], images[:, 1, 0, 0, 0] = -1.0, -2.0
    labels = torch.ones(1, 3, 2, 32, 32, dtype=torch.bool)
    moved, marked = apply_changes(images, labels, (SlabChange(translation=(0.5, 0.0)),))
    assert torch.equal(moved[0, :, 4, -1, -1], torch.tensor([-1.0, -2.0]))
    assert not marked[..., -1, :].any()


def test_contrast_keeps_the_minimum_and_brightness_shifts_each_channel(slab):
    images, _ = apply_changes(*slab, (SlabChange(contrast=(1.1, 0.9), brightness=(0.1, -0.2)),))
    minimum = slab[0].amin(dim=(2, 3, 4), keepdim=True)
    factor = torch.tensor([1.1, 0.9]).view(1, 2, 1, 1, 1)
    shift = torch.tensor([0.1, -0.2]).view(1, 2, 1, 1, 1)
    torch.testing.assert_close(images, (slab[0] - minimum) * factor + minimum + shift, atol=1e-4, rtol=0)


def test_drawn_parameters_keep_their_bounds_and_replay():
    config = AugmentConfig()
    changes = draw_changes(config, 200, torch.Generator().manual_seed(1))
    assert changes == draw_changes(config, 200, torch.Generator().manual_seed(1))
    assert changes != draw_changes(config, 200, torch.Generator().manual_seed(2))
    assert all(1 / config.scale <= change.scale <= config.scale for change in changes)
    assert all(abs(change.rotation_deg) <= config.rotation_deg for change in changes)
    assert all(abs(share) <= config.translation for change in changes for share in change.translation)
    assert all(abs(factor - 1) <= config.contrast for change in changes for factor in change.contrast)
    assert 70 < sum(change.flip_left_right for change in changes) < 130
    assert max(change.shear_deg for change in changes) > 0.9 * config.shear_deg


def test_off_means_off():
    assert draw_changes(AugmentConfig(enabled=False), 3, torch.Generator()) == ()


def test_a_crop_keeps_the_brain_whole_and_in_the_middle(slab):
    images, labels = around_brain(*slab, (32, 48))
    assert images.shape == (1, 2, 10, 32, 48)
    assert labels.shape == (1, 3, 4, 32, 48)
    assert torch.equal(labels.sum(dim=(3, 4)), slab[1].sum(dim=(3, 4)))
    rows = labels[0, 0].any(dim=0).nonzero()[:, 0]
    assert abs(int(rows.min() + rows.max()) / 2 - 16) <= 1
    # The blob is around row 26 and column 36.
    assert torch.equal(images, slab[0][..., 10:42, 12:60])


def test_a_crop_stays_in_the_grid_and_takes_its_centre_where_there_is_no_brain(slab):
    images, labels = slab
    there, _ = around_brain(images.roll(-20, dims=3), labels.roll(-20, dims=3), (32, 32))
    assert torch.equal(there, images.roll(-20, dims=3)[..., :32, 20:52])
    empty, _ = around_brain(images, torch.zeros_like(labels), (32, 32))
    assert torch.equal(empty, images[..., 16:48, 16:48])


def test_each_slab_has_its_own_crop_and_no_crop_is_the_whole_grid(slab):
    config = TrainConfig(crop=(32, 32), augment=AugmentConfig(enabled=False))
    images, labels = (torch.cat([part, part.roll(8, dims=3)]) for part in slab)
    cropped, _ = augmented(images, labels, config, torch.Generator())
    assert torch.equal(cropped[0], cropped[1])
    whole, _ = augmented(images, labels, config.model_copy(update={"crop": None}), torch.Generator())
    assert whole is images


@pytest.mark.parametrize("crop", [(200, 224), (0, 32), (192, 288)])
def test_a_crop_that_fits_no_grid_is_refused(crop):
    with pytest.raises(ValidationError, match="multiples of 32"):
        TrainConfig(crop=crop)
