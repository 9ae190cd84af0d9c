"""The examination as the checks look at it: on the scanner's own voxels, slices last."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.data import Case, InPlaneGrid, PreparedCase
from fvv.imaging.geometry import restore_to_native, scale_slices

BRIGHTEST_SHARE = 0.03
"""The brightest part of the brain mask on b0 is cerebrospinal fluid: about a tenth of it is, so 3 % surely are."""


@dataclass(frozen=True, slots=True)
class NativeView:
    """Images and mask on the native voxels, axes left-right, posterior-anterior, inferior-superior.

    Attributes:
        b0, b1000: (i, j, k) raw intensities.
        brain: (i, j, k) bool, the preprocessing mask.
        core: the mask without its in-plane rim, where skull and partial volume disturb; the mask itself if that empties
            it.
        not_finite: (i, j, k) bool, voxels that held no number when read.
        spacing_mm: voxel edges.
        turn: the grid that turns an array on the input's voxels to these axes, and does no more.
    """

    b0: FloatArray
    b1000: FloatArray
    brain: BoolArray
    core: BoolArray
    not_finite: BoolArray
    spacing_mm: tuple[float, float, float]
    turn: InPlaneGrid

    @property
    def brain_ml(self) -> float:
        """Volume of the mask inside the working grid, mL."""
        return float(self.brain.sum()) * float(np.prod(self.spacing_mm)) / 1000.0

    def voxels(self, room_mm: float) -> tuple[int, int, int]:
        """Voxels along each axis that reach farther than this in plane, and one slice."""
        dx, dy, _ = self.spacing_mm
        return int(room_mm / dx) + 1, int(room_mm / dy) + 1, 1

    def slice_areas(self) -> FloatArray:
        """(k,) brain voxels of each slice."""
        return np.asarray(self.brain.sum(axis=(0, 1)), dtype=np.float64)

    def inner_slices(self) -> list[int]:
        """Slices with at least 30 % of the largest slice's brain: those whose middle and mean can be compared."""
        areas = self.slice_areas()
        return [int(k) for k in np.flatnonzero(areas > 0.3 * areas.max())]


def native_view(case: Case, prepared: PreparedCase, not_finite: BoolArray | None = None) -> NativeView:
    """Turn images and mask to the axes of the working grid, without its zoom, padding and cropping."""
    turn_only = replace(prepared.grid, scale=1.0)
    brain = np.asarray(scale_slices(restore_to_native(prepared.brain, prepared.grid), turn_only))
    core = ndimage.binary_erosion(brain, np.ones((3, 3, 1)))
    scale, (dx, dy, dz) = prepared.grid.scale, prepared.grid.spacing_mm
    return NativeView(
        b0=np.asarray(scale_slices(case.b0.array, turn_only)),
        b1000=np.asarray(scale_slices(case.b1000.array, turn_only)),
        brain=brain,
        core=np.asarray(core) if core.any() else brain,
        not_finite=np.zeros_like(brain) if not_finite is None else np.asarray(scale_slices(not_finite, turn_only)),
        spacing_mm=(dx * scale, dy * scale, dz),
        turn=turn_only,
    )


def to_view(array: np.ndarray, view: NativeView) -> np.ndarray:
    """Turn an array (i, j, k) on the input's voxels to the axes of a view of it."""
    return scale_slices(array, view.turn)


def brightest(values: FloatArray, share: float = BRIGHTEST_SHARE) -> BoolArray:
    """Which of the values belong to the brightest share."""
    return np.asarray(values >= np.quantile(values, 1 - share))
