"""Laws, then boxes and spheres whose numbers are known, then the empty cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fvv.analysis.metrics import (
    lesion_sizes,
    segmentation_metrics,
    surface_distances_mm,
)
from fvv.errors import GeometryError
from fvv.imaging.overlap import Emptiness, Overlap

SPACING = (0.9, 1.3, 5.0)
SHAPE = (20, 18, 12)
NOTHING = np.zeros(SHAPE, dtype=bool)


def dice(reference: np.ndarray, predicted: np.ndarray) -> float:
    return Overlap.of_masks(reference, predicted).dice_coefficient


def box(i: slice, j: slice, k: slice) -> np.ndarray:
    mask = NOTHING.copy()
    mask[i, j, k] = True
    return mask


def sphere(radius_mm: float, spacing_mm: tuple[float, float, float], n: int = 41) -> np.ndarray:
    axes = [(np.arange(n) - n // 2) * edge for edge in spacing_mm]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 <= radius_mm**2


def hausdorff_distance_95(*pair: np.ndarray, spacing_mm: tuple[float, float, float] = SPACING) -> float:
    return segmentation_metrics(*pair, spacing_mm).hausdorff_distance_95_mm


def average_surface_distance(*pair: np.ndarray, spacing_mm: tuple[float, float, float] = SPACING) -> float:
    return segmentation_metrics(*pair, spacing_mm).average_surface_distance_mm


def lesions(reference: np.ndarray, predicted: np.ndarray) -> tuple[float, float, float]:
    found = segmentation_metrics(reference, predicted, SPACING)
    return found.lesions_detected, found.lesions_missed, found.lesions_false_positive


@pytest.fixture
def pair(rng) -> tuple[np.ndarray, np.ndarray]:
    return rng.random(SHAPE) < 0.3, rng.random(SHAPE) < 0.2


SYMMETRIC = ("dice_coefficient", "intersection_over_union", "accuracy")


def test_overlap_is_symmetric_and_sensitivity_is_the_others_precision(pair):
    there, back = Overlap.of_masks(*pair), Overlap.of_masks(*pair[::-1])
    assert [getattr(there, name) for name in SYMMETRIC] == [getattr(back, name) for name in SYMMETRIC]
    assert there.sensitivity == back.precision
    assert average_surface_distance(*pair) == pytest.approx(average_surface_distance(*pair[::-1]))
    assert hausdorff_distance_95(*pair) == hausdorff_distance_95(*pair[::-1])


def test_a_mask_agrees_with_itself(pair):
    metrics = segmentation_metrics(pair[0], pair[0], SPACING)
    ones = [*Overlap.of_masks(pair[0], pair[0]).ratios(), "lesion_f1"]
    assert {getattr(metrics, name) for name in ones} == {1.0}
    zeros = ["hausdorff_distance_95_mm", "average_surface_distance_mm", "false_positive_ml", "false_negative_ml"]
    assert {getattr(metrics, name) for name in zeros} == {0.0}


def test_dice_and_iou_are_one_function_of_each_other(pair):
    overlap = Overlap.of_masks(*pair)
    iou = overlap.intersection_over_union
    assert overlap.dice_coefficient == pytest.approx(2 * iou / (1 + iou))
    assert dice(*pair) == overlap.dice_coefficient


def test_distances_scale_with_the_voxels(pair):
    small = segmentation_metrics(*pair, SPACING)
    large = segmentation_metrics(*pair, tuple(2 * edge for edge in SPACING))
    for name in ("hausdorff_distance_95_mm", "average_surface_distance_mm"):
        assert getattr(large, name) == pytest.approx(2 * getattr(small, name))
    assert large.true_positive_ml == pytest.approx(8 * small.true_positive_ml)
    assert large.dice_coefficient == small.dice_coefficient


def test_empty_space_around_the_masks_changes_only_what_counts_it(pair):
    wide = [np.pad(mask, 3) for mask in pair]
    padded = [np.pad(mask, 4) for mask in pair]
    counts_background = ("accuracy", "specificity", "balanced_accuracy", "true_negative_ml")
    near, far = (segmentation_metrics(*masks, SPACING) for masks in (wide, padded))
    for name, value in near:
        assert (getattr(far, name) == pytest.approx(value)) is (name not in counts_background), name


def test_pooling_is_counting_all_voxels_together(pair, rng):
    other = (rng.random(SHAPE) < 0.1, rng.random(SHAPE) < 0.5)
    together = Overlap.of_masks(*(np.concatenate(masks) for masks in zip(pair, other, strict=True)))
    pooled = Overlap.of_masks(*pair) + Overlap.of_masks(*other)
    assert pooled == together
    assert pooled.in_ml(0.004).ratios() == pytest.approx(together.ratios())


def test_two_boxes_that_overlap_by_half():
    reference, predicted = box(slice(2, 6), slice(2, 6), slice(2, 6)), box(slice(4, 8), slice(2, 6), slice(2, 6))
    metrics = segmentation_metrics(reference, predicted, SPACING)
    assert metrics.dice_coefficient == 0.5
    assert metrics.intersection_over_union == pytest.approx(1 / 3)
    assert metrics.sensitivity == metrics.precision == 0.5
    n = reference.size
    assert metrics.accuracy == pytest.approx((n - 64) / n)
    assert metrics.specificity == pytest.approx((n - 96) / (n - 64))
    assert metrics.balanced_accuracy == pytest.approx((0.5 + metrics.specificity) / 2)
    assert metrics.true_positive_ml == pytest.approx(32 * 0.9 * 1.3 * 5.0 / 1000)
    assert metrics.false_negative_ml == metrics.false_positive_ml == metrics.true_positive_ml


@pytest.mark.parametrize(("axis", "distance"), [(0, 3 * 0.9), (1, 3 * 1.3), (2, 3 * 5.0)])
def test_one_voxel_moved_three_voxels_is_three_edges_away(axis, distance):
    reference, predicted = NOTHING.copy(), NOTHING.copy()
    reference[5, 5, 5] = True
    predicted[tuple(5 + 3 * (axis == other) for other in range(3))] = True
    assert hausdorff_distance_95(reference, predicted) == pytest.approx(distance)
    assert average_surface_distance(reference, predicted) == pytest.approx(distance)


def test_the_95th_percentile_ignores_a_rare_far_voxel():
    reference = box(slice(0, 20), slice(0, 18), slice(3, 4))
    predicted = reference.copy()
    predicted[10, 9, 11] = True
    assert hausdorff_distance_95(reference, predicted) == 0.0
    to_prediction, to_truth = surface_distances_mm(reference, predicted, SPACING)
    assert to_prediction.max() == 0.0
    assert to_truth.max() == 8 * 5.0
    assert average_surface_distance(reference, predicted) == pytest.approx(40.0 / (2 * 360 + 1))


def test_the_95th_percentile_of_a_line_of_distances():
    reference = np.zeros((101, 1, 1), dtype=bool)
    reference[:] = True
    predicted = np.zeros_like(reference)
    predicted[0] = True  # from the reference 0, 1, .. 100 edges away
    assert hausdorff_distance_95(reference, predicted, spacing_mm=(0.5, 1.0, 1.0)) == pytest.approx(47.5)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.8, 0.8, 2.0)])
def test_concentric_spheres(spacing_mm):
    inner, outer = sphere(10.0, spacing_mm), sphere(14.0, spacing_mm)
    assert average_surface_distance(inner, outer, spacing_mm=spacing_mm) == pytest.approx(4.0, abs=0.5)
    assert hausdorff_distance_95(inner, outer, spacing_mm=spacing_mm) == pytest.approx(4.0, abs=0.9)
    # |A| / |B| is the cube of the ratio of the radii.
    ratio = (10 / 14) ** 3
    assert dice(outer, inner) == pytest.approx(2 * ratio / (1 + ratio), abs=0.01)
    volume = np.count_nonzero(inner) * math.prod(spacing_mm)
    assert volume == pytest.approx(4 / 3 * math.pi * 1000, rel=0.02)


def test_surface_distances_agree_with_the_definition(pair):
    def surface(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        whole = np.all([np.roll(padded, step, axis) for axis in range(3) for step in (-1, 1)], axis=0)
        return np.argwhere(padded & ~whole) * np.array(SPACING)

    ours = surface_distances_mm(*pair, SPACING)
    first, second = (surface(mask) for mask in pair)
    distances = np.sqrt(((first[:, None] - second[None]) ** 2).sum(axis=-1))
    for mine, theirs in zip(ours, (distances.min(axis=1), distances.min(axis=0)), strict=True):
        assert np.sort(mine) == pytest.approx(np.sort(theirs))


def test_detected_missed_and_false_positive_lesions():
    found, touched_twice = box(slice(1, 4), slice(1, 4), slice(1, 4)), box(slice(8, 16), slice(8, 9), slice(5, 6))
    missed = box(slice(1, 2), slice(10, 12), slice(9, 11))
    false_positive = box(slice(17, 19), slice(1, 3), slice(9, 10))
    predicted = box(slice(2, 5), slice(2, 5), slice(2, 5)) | false_positive
    predicted[8, 8, 5] = predicted[14, 8, 5] = True
    reference = found | touched_twice | missed
    assert lesions(reference, predicted) == (2, 1, 1)
    assert segmentation_metrics(reference, predicted, SPACING).lesion_f1 == pytest.approx(4 / 6)


def test_lesions_are_listed_by_volume_with_what_was_found():
    small, large = box(slice(1, 3), slice(1, 2), slice(1, 2)), box(slice(8, 12), slice(8, 10), slice(5, 6))
    assert lesion_sizes(small | large, large, 0.25) == [(0.5, False), (2.0, True)]
    assert lesion_sizes(NOTHING, large, 0.25) == []


def test_no_surface_has_no_distances():
    for pair in ((NOTHING, SOMETHING), (SOMETHING, NOTHING), (NOTHING, NOTHING)):
        assert [side.size for side in surface_distances_mm(*pair, SPACING)] == [0, 0]


def test_lesions_that_touch_at_a_corner_are_one():
    reference = NOTHING.copy()
    reference[3, 3, 3] = reference[4, 4, 4] = True
    assert lesions(reference, reference) == (1, 0, 0)


SOMETHING = box(slice(2, 5), slice(2, 5), slice(2, 5))


@pytest.mark.parametrize(
    ("reference", "predicted", "emptiness", "defined"),
    [
        (NOTHING, NOTHING, Emptiness.BOTH, {"accuracy": 1.0, "specificity": 1.0}),
        (
            SOMETHING,
            NOTHING,
            Emptiness.PREDICTION,
            {
                "dice_coefficient": 0.0,
                "intersection_over_union": 0.0,
                "sensitivity": 0.0,
                "lesion_f1": 0.0,
            },
        ),
        (
            NOTHING,
            SOMETHING,
            Emptiness.REFERENCE,
            {"dice_coefficient": 0.0, "intersection_over_union": 0.0, "precision": 0.0, "lesion_f1": 0.0},
        ),
    ],
)
def test_empty_masks_give_zero_where_that_is_the_answer_and_nan_where_there_is_none(
    reference, predicted, emptiness, defined
):
    metrics = segmentation_metrics(reference, predicted, SPACING)
    may_be_undefined = {
        "dice_coefficient",
        "intersection_over_union",
        "sensitivity",
        "precision",
        "balanced_accuracy",
        "lesion_f1",
        "hausdorff_distance_95_mm",
        "average_surface_distance_mm",
    }
    assert Overlap.of_masks(reference, predicted).emptiness is emptiness
    for name, value in defined.items():
        assert getattr(metrics, name) == value, name
    undefined = {name for name, value in metrics if math.isnan(value)}
    # Balanced accuracy needs a sensitivity; everything else is named above.
    assert undefined == may_be_undefined - set(defined) - ({"balanced_accuracy"} if reference.any() else set())


def test_masks_must_fit_and_be_bool():
    with pytest.raises(GeometryError, match="one shape"):
        dice(NOTHING, NOTHING[:-1])
    with pytest.raises(GeometryError, match="bool"):
        dice(NOTHING.astype(float), NOTHING)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, math.nan), (1.0, 1.0, 0.0), (1.0, 1.0)])
def test_voxel_edges_are_lengths(spacing_mm):
    with pytest.raises(GeometryError, match="voxel edges"):
        segmentation_metrics(NOTHING, NOTHING, spacing_mm)
    with pytest.raises(GeometryError, match="3D masks"):
        segmentation_metrics(NOTHING[0], NOTHING[0], SPACING)
