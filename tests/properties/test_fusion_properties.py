"""What must hold for any votes: order does not matter, the stroke lies in the brain, counts add up."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fvv.imaging.fusion import fuse_folds

SETTINGS = settings(max_examples=80, deadline=None, derandomize=True)
masks = st.integers(1, 6).flatmap(
    lambda n: array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5).flatmap(
        lambda shape: arrays(bool, (n, 3, *shape))
    )
)


@SETTINGS
@given(masks, st.randoms(use_true_random=False))
def test_the_order_of_the_models_does_not_matter(votes, random):
    order = list(range(len(votes)))
    random.shuffle(order)
    fused, shuffled = fuse_folds(votes), fuse_folds(votes[order])
    assert np.array_equal(fused.brain, shuffled.brain)
    assert np.array_equal(fused.stroke, shuffled.stroke)
    assert np.array_equal(fused.flair_visible_votes, shuffled.flair_visible_votes)
    assert fused.flair_visible_voxels == shuffled.flair_visible_voxels


@SETTINGS
@given(masks)
def test_one_within_the_other(votes):
    fused = fuse_folds(votes)
    assert not (fused.stroke & ~fused.brain).any()
    assert not fused.flair_visible_votes[~fused.stroke].any()
    assert fused.flair_visible_votes.max(initial=0) <= len(votes)
    assert np.isclose(fused.flair_visible_voxels * len(votes), fused.flair_visible_votes.sum())
    assert sum(fused.flair_visible_voxels_per_model) == fused.flair_visible_votes.sum()


@SETTINGS
@given(masks, st.integers(2, 4))
def test_the_same_models_again_change_nothing(votes, times):
    fused, repeated = fuse_folds(votes), fuse_folds(np.concatenate([votes] * times))
    assert np.array_equal(fused.brain, repeated.brain)
    assert np.array_equal(fused.stroke, repeated.stroke)
    assert np.isclose(fused.flair_visible_voxels, repeated.flair_visible_voxels)


@SETTINGS
@given(masks)
def test_one_more_vote_for_stroke_never_shrinks_it(votes):
    more = votes.copy()
    more[0, 1] = True
    assert not (fuse_folds(votes).stroke & ~fuse_folds(more).stroke).any()
