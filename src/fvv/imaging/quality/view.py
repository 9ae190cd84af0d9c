"""The examination as the checks look at it: on the scanner's own voxels, slices last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.data import Case, PreparedCase
from fvv.imaging.geometry import restore_to_native, scale_slices


@dataclass(frozen=True)
class NativeView:
    """All that a check may look at. Arrays: native voxels, axes left-right, posterior-anterior, inferior-superior.

    Attributes:
        b0, b1000: (i, j, k) raw intensities; b1000 as the network sees it, of another b-value brought to 1000.
        brain: (i, j, k) bool, the preprocessing mask.
        core: the mask without its in-plane rim, where skull and partial volume disturb; the mask itself if that empties
            it.
        not_finite: (i, j, k) bool, voxels that held no number when read.
        spacing_mm: voxel edges.
        prepared: the examination on the working grid.
        brain_volume_bounds_ml: a mask outside these is no brain.
        b_value: of b1000 as it was acquired, s/mm^2; None where nothing states it.
        stroke_roi, flair_visible_roi: (i, j, k) bool, of a labelled examination.
        usual_range: of each feature of `usual`, the range of the training cohort; empty: unknown.
    """

    b0: FloatArray
    b1000: FloatArray
    brain: BoolArray
    core: BoolArray
    not_finite: BoolArray
    spacing_mm: tuple[float, float, float]
    prepared: PreparedCase
    brain_volume_bounds_ml: tuple[float, float]
    b_value: float | None = None
    stroke_roi: BoolArray | None = None
    flair_visible_roi: BoolArray | None = None
    usual_range: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def voxels(self, room_mm: float) -> tuple[int, int, int]:
        """Voxels along each axis that reach farther than this in plane, and one slice."""
        dx, dy, _ = self.spacing_mm
        return int(room_mm / dx) + 1, int(room_mm / dy) + 1, 1

    @cached_property
    def slice_areas(self) -> FloatArray:
        """(k,) brain voxels of each slice."""
        return np.asarray(self.brain.sum(axis=(0, 1)), dtype=np.float64)

    @cached_property
    def inner_slices(self) -> list[int]:
        """Slices with at least 30 % of the largest slice's brain: those whose middle and mean can be compared."""
        return [int(k) for k in np.flatnonzero(self.slice_areas > 0.3 * self.slice_areas.max())]

    @cached_property
    def with_b0(self) -> BoolArray:
        """(k,) bool, slices of b0 that hold an image."""
        return _holds_image(self.b0)

    @cached_property
    def with_b1000(self) -> BoolArray:
        """(k,) bool, slices of b1000 that hold an image."""
        return _holds_image(self.b1000)

    @cached_property
    def imaged_slices(self) -> list[int]:
        """Slices that hold an image, not one value only, on both."""
        return [int(k) for k in np.flatnonzero(self.with_b0 & self.with_b1000)]


def _holds_image(image: FloatArray) -> BoolArray:
    """(k,) bool: the slice is not of one value only."""
    holds = np.ptp(image[len(image) // 2], axis=0) > 0  # One row tells it of nearly every slice.
    holds[~holds] = np.ptp(image[:, :, ~holds], axis=(0, 1)) > 0
    return np.asarray(holds)


def native_view(
    case: Case,
    prepared: PreparedCase,
    *,
    brain_volume_bounds_ml: tuple[float, float],
    not_finite: BoolArray | None = None,
    usual_range: Mapping[str, tuple[float, float]] | None = None,
) -> NativeView:
    """Turn images and masks to the axes of the working grid, without its zoom, padding and cropping.

    Args:
        case: as read, on the native grid, finite everywhere.
        prepared: the same, prepared.
        brain_volume_bounds_ml: a mask outside these is no brain.
        not_finite: (i, j, k) voxels that were not finite before `without_gaps` filled them.
        usual_range: of each feature of `usual`, the range of the training cohort.
    """
    turn_only = replace(prepared.grid, scale=1.0)
    brain = np.asarray(scale_slices(restore_to_native(prepared.brain, prepared.grid), turn_only))
    core = ndimage.binary_erosion(brain, np.ones((3, 3, 1)))
    scale, (dx, dy, dz) = prepared.grid.scale, prepared.grid.spacing_mm
    rois = (case.stroke_roi, case.flair_visible_roi)
    stroke, visible = (None if roi is None else scale_slices(roi.array, turn_only) for roi in rois)
    return NativeView(
        b0=np.asarray(scale_slices(case.b0.array, turn_only)),
        b1000=np.asarray(scale_slices(case.b1000.array, turn_only)),
        brain=brain,
        core=np.asarray(core) if core.any() else brain,
        not_finite=np.zeros_like(brain) if not_finite is None else np.asarray(scale_slices(not_finite, turn_only)),
        spacing_mm=(dx * scale, dy * scale, dz),
        prepared=prepared,
        brain_volume_bounds_ml=brain_volume_bounds_ml,
        b_value=case.b_value,
        stroke_roi=stroke,
        flair_visible_roi=visible,
        usual_range=usual_range or {},
    )
