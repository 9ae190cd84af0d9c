from __future__ import annotations

import numpy as np
import pytest

from fvv.data import Volume
from fvv.imaging.fusion import fuse_folds, restore_segmentation, visible_to_half
from fvv.imaging.geometry import plan_grid

SHAPE = (12, 12, 4)


def masks_of(*models: tuple[slice, slice, slice]) -> np.ndarray:
    """Per model: columns that are brain, stroke, FLAIR-visible."""
    masks = np.zeros((len(models), 3, *SHAPE), dtype=bool)
    for model, columns in enumerate(models):
        for channel, column in enumerate(columns):
            masks[model, channel, column] = True
    return masks


def test_one_model_gives_its_own_masks_cut_to_each_other() -> None:
    fused = fuse_folds(masks_of((slice(0, 8), slice(6, 10), slice(4, 7))))
    assert fused.brain.sum() == 8 * 48
    assert fused.stroke.sum() == 2 * 48  # columns 6, 7: inside the brain
    assert fused.flair_visible_voxels == 48  # column 6: inside the stroke
    assert fused.flair_visible_votes.max() == 1


def test_an_answer_says_of_how_many_models_it_is() -> None:
    fused = fuse_folds(masks_of(*[(slice(0, 8), slice(6, 10), slice(4, 7))] * 3))
    assert fused.n_models == 3
    assert fused.flair_visible_votes.dtype == np.uint8


def test_brain_is_what_half_of_the_models_call_brain() -> None:
    everywhere, nothing, left = slice(0, 12), slice(0, 0), slice(0, 5)
    assert fuse_folds(masks_of((left, left, left), (nothing, left, left))).brain.sum() == 5 * 48
    one_of_three = [(everywhere, left, left)] + [(nothing, left, left)] * 2
    assert fuse_folds(masks_of(*one_of_three)).brain.sum() == 0
    two_of_five = [(everywhere, left, left)] * 2 + [(nothing, left, left)] * 3
    assert fuse_folds(masks_of(*two_of_five)).brain.sum() == 0
    all_of_two = [(left, left, left)] * 2
    assert fuse_folds(masks_of(*all_of_two)).brain.sum() == 5 * 48


def test_half_of_the_models_is_enough() -> None:
    brain, stroke = slice(0, 12), slice(0, 2)
    two_of_four = [(brain, stroke, stroke)] * 2 + [(brain, slice(0, 0), slice(0, 0))] * 2
    assert fuse_folds(masks_of(*two_of_four)).stroke.sum() == 2 * 48
    one_of_three = [(brain, stroke, stroke)] + [(brain, slice(0, 0), slice(0, 0))] * 2
    assert fuse_folds(masks_of(*one_of_three)).stroke.sum() == 0


def test_fvv_is_the_mean_over_models_inside_the_fused_stroke() -> None:
    fused = fuse_folds(
        masks_of(
            (slice(0, 12), slice(0, 4), slice(0, 4)),
            (slice(0, 12), slice(0, 4), slice(2, 8)),
            (slice(0, 12), slice(0, 4), slice(0, 0)),
        )
    )
    assert fused.flair_visible_voxels_per_model == (4 * 48, 2 * 48, 0)
    assert fused.flair_visible_voxels == 2 * 48
    assert fused.flair_visible_votes.sum() == 6 * 48


@pytest.mark.parametrize(("n_models", "fewest"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (200, 100)])
def test_visible_is_what_half_of_the_models_and_at_least_one_see(n_models: int, fewest: int) -> None:
    votes = np.arange(n_models + 1, dtype=np.uint8)[:, None, None]
    np.testing.assert_array_equal(visible_to_half(votes, n_models), votes >= fewest)
    assert visible_to_half(votes, n_models).dtype == bool


def test_models_may_come_one_at_a_time() -> None:
    masks = masks_of((slice(0, 8), slice(6, 10), slice(4, 7)), (slice(0, 9), slice(5, 9), slice(5, 9)))
    at_once, one_by_one = fuse_folds(masks), fuse_folds(mask for mask in masks)
    np.testing.assert_array_equal(at_once.flair_visible_votes, one_by_one.flair_visible_votes)
    assert at_once.flair_visible_voxels_per_model == one_by_one.flair_visible_voxels_per_model == (2 * 48, 4 * 48)


def test_each_models_brain_is_its_largest_component() -> None:
    masks = masks_of((slice(0, 5), slice(0, 12), slice(0, 0)))
    masks[0, 0, 8:10] = True  # a smaller component
    fused = fuse_folds(masks)
    assert fused.brain.sum() == 5 * 48
    assert fused.stroke.sum() == 5 * 48


def test_model_order_does_not_matter(rng: np.random.Generator) -> None:
    masks = rng.random((5, 3, *SHAPE)) > 0.4
    one, other = fuse_folds(masks), fuse_folds(masks[::-1])
    np.testing.assert_array_equal(one.stroke, other.stroke)
    np.testing.assert_array_equal(one.flair_visible_votes, other.flair_visible_votes)
    assert one.flair_visible_voxels == other.flair_visible_voxels


@pytest.mark.parametrize("edge", [192, 300, 512])
def test_no_vote_lies_outside_the_stroke_on_the_native_grid(edge: int) -> None:
    """Votes are interpolated linearly, the stroke is not: what spills over its edge is no vote."""
    grid = plan_grid(Volume(np.zeros((edge, edge, 3)), np.diag([0.5, 0.5, 5.0, 1.0])))
    x, y, _ = np.ogrid[:256, :256, :3]
    disc = np.broadcast_to((x - 120) ** 2 + (y - 130) ** 2 < 20**2, (256, 256, 3))
    brain = np.broadcast_to((x - 128) ** 2 + (y - 128) ** 2 < 90**2, (256, 256, 3))
    fused = fuse_folds([np.stack([brain, disc, disc])] * 3)
    brain, stroke, votes = restore_segmentation(fused, grid)
    assert votes[stroke].max() == 3
    assert not votes[~stroke].any()
    assert not (stroke & ~brain).any()
    assert (brain.dtype, stroke.dtype, votes.dtype) == (bool, bool, np.uint8)
