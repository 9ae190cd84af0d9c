"""What must hold for any two masks."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fvv.analysis.metrics import (
    OVERLAP_RATIOS,
    Overlap,
    average_surface_distance,
    count_lesions,
    hausdorff_distance_95,
    segmentation_metrics,
)

SETTINGS = settings(max_examples=80, deadline=None, derandomize=True)
pairs = array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)
spacings = st.tuples(*[st.floats(0.3, 6.0)] * 3)


@SETTINGS
@given(pairs)
def test_the_four_parts_are_all_voxels_and_ratios_are_ratios(pair):
    overlap = Overlap.of_masks(*pair)
    parts = (overlap.true_positive, overlap.false_positive, overlap.false_negative, overlap.true_negative)
    assert sum(parts) == pair[0].size
    assert min(parts) >= 0
    for value in overlap.ratios().values():
        assert math.isnan(value) or 0 <= value <= 1


@SETTINGS
@given(pairs)
def test_dice_and_iou_are_symmetric_and_tell_the_same(pair):
    there, back = Overlap.of_masks(*pair), Overlap.of_masks(*pair[::-1])
    assert np.array_equal(there.dice_coefficient, back.dice_coefficient, equal_nan=True)
    iou, dice = there.intersection_over_union, there.dice_coefficient
    assert math.isnan(iou) == math.isnan(dice) == (not (pair[0] | pair[1]).any())
    assert math.isnan(dice) or math.isclose(dice, 2 * iou / (1 + iou))
    assert np.array_equal(there.sensitivity, back.precision, equal_nan=True)


@SETTINGS
@given(pairs, spacings)
def test_distances_are_symmetric_grow_with_the_spacing_and_vanish_for_equal_masks(pair, spacing):
    there = hausdorff_distance_95(*pair, spacing)
    assert np.array_equal(there, hausdorff_distance_95(*pair[::-1], spacing), equal_nan=True)
    assert math.isnan(there) == (not pair[0].any() or not pair[1].any())
    doubled = average_surface_distance(*pair, tuple(2 * edge for edge in spacing))
    assert np.isclose(doubled, 2 * average_surface_distance(*pair, spacing), equal_nan=True)
    if pair[0].any():
        assert hausdorff_distance_95(pair[0], pair[0], spacing) == 0


@SETTINGS
@given(pairs)
def test_lesions_found_missed_and_invented(pair):
    counts = count_lesions(*pair)
    assert min(counts.detected, counts.missed, counts.false_alarms) >= 0
    assert (counts.detected > 0) == bool((pair[0] & pair[1]).any())
    same = count_lesions(pair[0], pair[0])
    assert same.missed == same.false_alarms == 0


@SETTINGS
@given(pairs, spacings)
def test_flipping_the_image_changes_no_metric(pair, spacing):
    flipped = tuple(mask[::-1, :, ::-1].copy() for mask in pair)
    expected, found = segmentation_metrics(*pair, spacing), segmentation_metrics(*flipped, spacing)
    assert set(OVERLAP_RATIOS) <= expected.keys()
    for name, value in expected.items():
        assert np.isclose(value, found[name], equal_nan=True), name
