from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from fvv.imaging.fusion import fuse_folds
from fvv.imaging.postprocess import without_small_pieces

SHAPE = (32, 32, 6)
VOXEL_MM3 = 2.0 * 2.0 * 5.0
BRAIN = np.zeros(SHAPE, dtype=bool)
BRAIN[4:28, 4:28] = True


@pytest.fixture
def stroke(rng: np.random.Generator) -> np.ndarray:
    """Two lesions and crumbs."""
    mask = rng.random(SHAPE) > 0.995
    mask[8:12, 10:20] = mask[18:22, 10:20] = True
    return mask & BRAIN


@pytest.mark.parametrize("minimum_mm3", [0.0, 100.0, 1e6])
def test_nothing_is_added_and_twice_is_once(stroke: np.ndarray, minimum_mm3: float) -> None:
    once = without_small_pieces(stroke, minimum_mm3, VOXEL_MM3)
    assert not (once & ~stroke).any()
    np.testing.assert_array_equal(without_small_pieces(once, minimum_mm3, VOXEL_MM3), once)
    assert (once == stroke).all() == (minimum_mm3 == 0)
    assert not without_small_pieces(np.zeros_like(stroke), minimum_mm3, VOXEL_MM3).any()


def test_pieces_are_judged_one_by_one_and_corners_join() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:4, 2:4, 2] = True  # four voxels
    mask[4, 4, 3] = True  # a fifth, at a corner
    mask[20:22, 20:22, 2] = True  # four
    kept = without_small_pieces(mask, 5 * VOXEL_MM3, VOXEL_MM3)
    assert kept.sum() == 5
    assert kept[4, 4, 3]
    assert without_small_pieces(mask, 4 * VOXEL_MM3, VOXEL_MM3).sum() == 9


def test_fvv_is_counted_in_the_stroke_that_is_left(stroke: np.ndarray) -> None:
    masks = np.stack([np.stack([BRAIN, stroke, stroke]), np.stack([BRAIN, stroke, np.zeros_like(stroke)])])
    fused = fuse_folds(masks, partial(without_small_pieces, minimum_mm3=500.0, voxel_mm3=VOXEL_MM3))
    n = int(fused.stroke.sum())
    assert 0 < n < stroke.sum()
    assert fused.flair_visible_voxels_per_model == (n, 0)
    assert fused.flair_visible_voxels == n / 2
    assert not fused.flair_visible_votes[~fused.stroke].any()
