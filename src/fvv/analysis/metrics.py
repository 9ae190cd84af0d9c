"""How well a predicted mask agrees with the reference mask: overlap (`fvv.imaging.overlap`), distances, lesions.

Undefined is NaN, never a convenient 0 or 1; docs/explanation/metrics.md has the whole table.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from fvv.arrays import BoolArray, FloatArray, IntArray
from fvv.errors import GeometryError
from fvv.imaging.overlap import Overlap, ratio
from fvv.schemas.patient import MaskMetrics


def surface_distances_mm(
    reference: BoolArray, predicted: BoolArray, spacing_mm: tuple[float, float, float]
) -> tuple[FloatArray, FloatArray]:
    """Distance from each surface voxel of one mask to the nearest surface voxel of the other.

    A surface voxel has at least one of its six neighbours outside the mask; the image's edge counts as outside.

    Args:
        reference: (i, j, k) bool.
        predicted: (i, j, k) bool.
        spacing_mm: voxel edges along i, j, k.

    Returns:
        Distances in mm from reference to prediction and from prediction to reference; both empty if either mask is.
    """
    if not reference.any() or not predicted.any():
        return np.empty(0), np.empty(0)
    points = [_surface(mask) * np.array(spacing_mm) for mask in (reference, predicted)]
    trees = [KDTree(one) for one in points]
    return trees[1].query(points[0])[0], trees[0].query(points[1])[0]


def _surface(mask: BoolArray) -> IntArray:
    """(n, 3) indices of the surface voxels."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    surface = mask[box] & ~ndimage.binary_erosion(mask[box])  # Outside the box is outside the mask.
    places: IntArray = np.argwhere(surface) + [part.start for part in box]
    return places


def lesion_f1(detected: float, missed: float, false_positive: float) -> float:
    """2 detected / (2 detected + missed + false positive); NaN without a lesion on either side."""
    return ratio(2 * detected, 2 * detected + missed + false_positive)


def lesion_sizes(reference: BoolArray, predicted: BoolArray, voxel_volume_ml: float) -> list[tuple[float, bool]]:
    """Volume (mL) of every reference lesion, and whether one voxel or more of it is predicted; the smallest first.

    One common voxel is a detection (doi 10.1038/s41597-022-01875-5).

    Args:
        reference: (i, j, k) bool; lesions are its components over 26 neighbours.
        predicted: (i, j, k) bool.
        voxel_volume_ml: of one voxel.
    """
    if not reference.any():
        return []
    box = ndimage.find_objects(reference.astype(np.uint8))[0]
    lesions, n_lesions = ndimage.label(reference[box], structure=np.ones((3, 3, 3), dtype=bool))
    sizes = np.bincount(lesions.ravel(), minlength=n_lesions + 1)[1:] * voxel_volume_ml
    touched = np.isin(np.arange(1, n_lesions + 1), lesions[predicted[box]])
    return sorted((float(size), bool(found)) for size, found in zip(sizes, touched, strict=True))


def segmentation_metrics(
    reference: BoolArray, predicted: BoolArray, spacing_mm: tuple[float, float, float]
) -> MaskMetrics:
    """Every metric of one pair of masks.

    Args:
        reference: (i, j, k) bool.
        predicted: (i, j, k) bool, the same shape.
        spacing_mm: voxel edges along i, j, k.

    Raises:
        GeometryError: no 3D bool masks of one shape, or voxel edges that are no lengths.
    """
    if reference.ndim != 3 or len(spacing_mm) != 3 or not all(0 < edge < math.inf for edge in spacing_mm):
        raise GeometryError(f"expected 3D masks and three voxel edges over 0 mm, got {reference.ndim}D, {spacing_mm}")
    voxel_ml = math.prod(spacing_mm) / 1000.0
    overlap = Overlap.of_masks(reference, predicted)
    volumes = overlap.in_ml(voxel_ml)
    sides = surface_distances_mm(reference, predicted, spacing_mm)
    both = len(sides[0]) > 0
    found = [touched for _, touched in lesion_sizes(reference, predicted, voxel_ml)]
    detected, missed = sum(found), len(found) - sum(found)
    false_positive = sum(not touched for _, touched in lesion_sizes(predicted, reference, voxel_ml))
    return MaskMetrics(
        **overlap.ratios(),
        hausdorff_distance_95_mm=max(float(np.percentile(side, 95)) for side in sides) if both else math.nan,
        average_surface_distance_mm=float(np.concatenate(sides).mean()) if both else math.nan,
        lesion_f1=lesion_f1(detected, missed, false_positive),
        lesions_detected=detected,
        lesions_missed=missed,
        lesions_false_positive=false_positive,
        true_positive_ml=volumes.true_positive,
        false_positive_ml=volumes.false_positive,
        false_negative_ml=volumes.false_negative,
        true_negative_ml=volumes.true_negative,
    )
