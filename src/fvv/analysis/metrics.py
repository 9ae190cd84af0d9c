"""How well one mask agrees with another: overlap, volume, distance, lesions.

Undefined is NaN, never a convenient 0 or 1, and `Emptiness` says why; docs/explanation/metrics.md has the whole table.
The first mask is always the truth (what was drawn), the second the prediction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from fvv.arrays import BoolArray, FloatArray, IntArray
from fvv.errors import GeometryError
from fvv.imaging.overlap import OVERLAP_RATIOS, Emptiness, Overlap, dice_coefficient, ratio, refuse_unlike

__all__ = ["OVERLAP_RATIOS", "Emptiness", "Overlap", "dice_coefficient"]


@dataclass(frozen=True, slots=True)
class LesionCounts:
    """Connected lesions found, invented and missed; add them up to pool patients.

    Attributes:
        detected: true lesions that the prediction touches.
        missed: true lesions that it does not touch.
        false_alarms: predicted lesions that touch no true one.
    """

    detected: int
    missed: int
    false_alarms: int

    def __add__(self, other: LesionCounts) -> LesionCounts:
        return LesionCounts(
            self.detected + other.detected, self.missed + other.missed, self.false_alarms + other.false_alarms
        )

    @property
    def f1(self) -> float:
        """2 detected / (2 detected + missed + false alarms); NaN when there is no lesion on either side."""
        return ratio(2 * self.detected, 2 * self.detected + self.missed + self.false_alarms)


def volume_error_ml(truth_ml: float, prediction_ml: float) -> float:
    """Predicted minus true volume, mL: positive where too much was marked; NaN where one was not measured.

    Raises:
        GeometryError: a volume is negative or infinite.
    """
    _volumes(truth_ml, prediction_ml)
    return prediction_ml - truth_ml


def volume_error_percent(truth_ml: float, prediction_ml: float) -> float:
    """The same as a share of the true volume, %; NaN when there is none, or one was not measured.

    Raises:
        GeometryError: a volume is negative or infinite.
    """
    _volumes(truth_ml, prediction_ml)
    return 100.0 * (prediction_ml - truth_ml) / truth_ml if truth_ml else math.nan


def surface_distances_mm(
    truth: BoolArray, prediction: BoolArray, spacing_mm: tuple[float, float, float]
) -> tuple[FloatArray, FloatArray]:
    """Distance from each surface voxel of one mask to the nearest surface voxel of the other.

    A surface voxel has at least one of its six neighbours outside the mask; the image's edge counts as outside.

    Args:
        truth: (i, j, k) bool.
        prediction: (i, j, k) bool.
        spacing_mm: voxel edges along i, j, k.

    Returns:
        Distances in mm from truth to prediction and from prediction to truth; both empty if either mask is.

    Raises:
        GeometryError: no 3D bool masks of one shape, or voxel edges that are no lengths.
    """
    refuse_unlike(truth, prediction)
    if truth.ndim != 3 or len(spacing_mm) != 3 or not all(0 < edge < math.inf for edge in spacing_mm):
        raise GeometryError(f"expected 3D masks and three voxel edges over 0 mm, got {truth.ndim}D and {spacing_mm}")
    if not truth.any() or not prediction.any():
        return np.empty(0), np.empty(0)
    points = [_surface(mask) * np.array(spacing_mm) for mask in (truth, prediction)]
    trees = [KDTree(one) for one in points]
    return trees[1].query(points[0])[0], trees[0].query(points[1])[0]


def _surface(mask: BoolArray) -> IntArray:
    """(n, 3) indices of the surface voxels."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    padded = np.pad(mask[box], 1)
    inner = padded.copy()
    for axis in range(3):
        for step in (-1, 1):  # The border of the padding is empty, so nothing comes in from the other side.
            inner &= np.roll(padded, step, axis)
    places: IntArray = np.argwhere((padded & ~inner)[1:-1, 1:-1, 1:-1]) + [part.start for part in box]
    return places


def hausdorff_distance_95(truth: BoolArray, prediction: BoolArray, spacing_mm: tuple[float, float, float]) -> float:
    """95th-percentile Hausdorff distance, mm: the larger of the two directed 95th percentiles; NaN if a mask is empty.

    Args:
        truth: (i, j, k) bool.
        prediction: (i, j, k) bool.
        spacing_mm: voxel edges along i, j, k.
    """
    return _hausdorff_95(surface_distances_mm(truth, prediction, spacing_mm))


def average_surface_distance(truth: BoolArray, prediction: BoolArray, spacing_mm: tuple[float, float, float]) -> float:
    """Mean distance over the surface voxels of both masks (symmetric), mm; NaN if a mask is empty.

    Args:
        truth: (i, j, k) bool.
        prediction: (i, j, k) bool.
        spacing_mm: voxel edges along i, j, k.
    """
    return _average(surface_distances_mm(truth, prediction, spacing_mm))


def count_lesions(truth: BoolArray, prediction: BoolArray) -> LesionCounts:
    """Compare lesions instead of voxels: one common voxel is a detection (doi 10.1038/s41597-022-01875-5).

    Args:
        truth: (i, j, k) bool; lesions are its components over 26 neighbours.
        prediction: (i, j, k) bool, likewise.
    """
    found = lesion_sizes(truth, prediction, 1.0)
    detected = sum(touched for _, touched in found)
    false_alarms = sum(not touched for _, touched in lesion_sizes(prediction, truth, 1.0))
    return LesionCounts(detected, len(found) - detected, false_alarms)


def lesion_sizes(truth: BoolArray, prediction: BoolArray, voxel_volume_ml: float) -> list[tuple[float, bool]]:
    """Volume (mL) of every true lesion, and whether the prediction touches it; the smallest first.

    Args:
        truth: (i, j, k) bool; lesions are its components over 26 neighbours.
        prediction: (i, j, k) bool.
        voxel_volume_ml: of one voxel.
    """
    refuse_unlike(truth, prediction)
    if truth.ndim != 3 or not 0 < voxel_volume_ml < math.inf:
        raise GeometryError(f"expected 3D masks of voxels over 0 mL, got {truth.ndim}D and {voxel_volume_ml} mL")
    if not truth.any():
        return []
    box = ndimage.find_objects(truth.astype(np.uint8))[0]
    lesions, n_lesions = ndimage.label(truth[box], structure=np.ones((3, 3, 3), dtype=bool))
    sizes = np.bincount(lesions.ravel(), minlength=n_lesions + 1)[1:] * voxel_volume_ml
    touched = np.isin(np.arange(1, n_lesions + 1), lesions[prediction[box]])
    return sorted((float(size), bool(found)) for size, found in zip(sizes, touched, strict=True))


def segmentation_metrics(
    truth: BoolArray, prediction: BoolArray, spacing_mm: tuple[float, float, float]
) -> dict[str, float]:
    """Every metric of one pair of masks, by name.

    Args:
        truth: (i, j, k) bool.
        prediction: (i, j, k) bool.
        spacing_mm: voxel edges along i, j, k.

    Returns:
        The ratios of `OVERLAP_RATIOS`; `hausdorff_distance_95_mm` and `average_surface_distance_mm`; lesion counts and
        `lesion_f1`; the four parts of the overlap in mL, for pooling. NaN where undefined.
    """
    overlap = Overlap.of_masks(truth, prediction)
    distances = surface_distances_mm(truth, prediction, spacing_mm)
    lesions = count_lesions(truth, prediction)
    pooled = overlap.in_ml(math.prod(spacing_mm) / 1000.0)
    return {
        **overlap.ratios(),
        "hausdorff_distance_95_mm": _hausdorff_95(distances),
        "average_surface_distance_mm": _average(distances),
        "lesion_f1": lesions.f1,
        "lesions_detected": lesions.detected,
        "lesions_missed": lesions.missed,
        "lesion_false_alarms": lesions.false_alarms,
        "true_positive_ml": pooled.true_positive,
        "false_positive_ml": pooled.false_positive,
        "false_negative_ml": pooled.false_negative,
        "true_negative_ml": pooled.true_negative,
    }


def undefined_metrics() -> dict[str, float]:
    """The names of `segmentation_metrics`, all NaN: nothing was predicted, which is not the same as an empty mask."""
    nothing = np.zeros((1, 1, 1), dtype=bool)
    return dict.fromkeys(segmentation_metrics(nothing, nothing, (1.0, 1.0, 1.0)), math.nan)


def _hausdorff_95(distances: tuple[FloatArray, FloatArray]) -> float:
    return max(float(np.percentile(side, 95)) for side in distances) if len(distances[0]) else math.nan


def _average(distances: tuple[FloatArray, FloatArray]) -> float:
    return float(np.concatenate(distances).mean()) if len(distances[0]) else math.nan


def _volumes(*volumes_ml: float) -> None:
    for volume in volumes_ml:
        if volume < 0 or math.isinf(volume):
            raise GeometryError(f"a volume of 0 mL or more expected, got {volume}")
