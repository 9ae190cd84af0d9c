"""What must hold for any two masks."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fvv.analysis.metrics import segmentation_metrics
from fvv.imaging.overlap import Overlap

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
    there, back = segmentation_metrics(*pair, spacing), segmentation_metrics(*pair[::-1], spacing)
    assert np.array_equal(there.hausdorff_distance_95_mm, back.hausdorff_distance_95_mm, equal_nan=True)
    assert math.isnan(there.hausdorff_distance_95_mm) == (not pair[0].any() or not pair[1].any())
    doubled = segmentation_metrics(*pair, tuple(2 * edge for edge in spacing)).average_surface_distance_mm
    assert np.isclose(doubled, 2 * there.average_surface_distance_mm, equal_nan=True)
    if pair[0].any():
        assert segmentation_metrics(pair[0], pair[0], spacing).hausdorff_distance_95_mm == 0


@SETTINGS
@given(pairs)
def test_detected_missed_and_false_positive_lesions(pair):
    counts = segmentation_metrics(*pair, (1.0, 1.0, 1.0))
    assert min(counts.lesions_detected, counts.lesions_missed, counts.lesions_false_positive) >= 0
    assert (counts.lesions_detected > 0) == bool((pair[0] & pair[1]).any())
    same = segmentation_metrics(pair[0], pair[0], (1.0, 1.0, 1.0))
    assert same.lesions_missed == same.lesions_false_positive == 0


@SETTINGS
@given(pairs, spacings)
def test_flipping_the_image_changes_no_metric(pair, spacing):
    flipped = tuple(mask[::-1, :, ::-1].copy() for mask in pair)
    expected, found = segmentation_metrics(*pair, spacing), segmentation_metrics(*flipped, spacing)
    for name, value in expected:
        assert np.isclose(value, getattr(found, name), equal_nan=True), name
