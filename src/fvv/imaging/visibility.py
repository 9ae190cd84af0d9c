"""Where FLAIR shows a stroke: brighter than the same tissue would be, judged by the other half of the same head.

A ratio to the mean of healthy tissue takes grey matter beside white for visible. Here like is compared with like: the
FLAIR expected at a voxel is that of the tissue around its mirror image, brought to the brightness of this side. Where
there is little or no mirrored tissue (a stroke across the midline, a side that is broader than the other), the healthy
tissue around counts instead.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.data import Volume
from fvv.imaging.rigid import RigidMotion

SEEN_MM = 2.5
"""Readers outline areas, not voxels: FLAIR and expected FLAIR are smoothed by this in the plane (SD)."""
MIRRORED_MM, AROUND_MM, SIDE_MM = 3.0, 10.0, 12.0
"""Standard deviations over which mirrored tissue, healthy tissue around, and the brightness of a side are averaged."""
AROUND_WEIGHT = 0.05
"""Of the healthy tissue around, beside mirrored tissue."""
EXTENT, MARGIN = 2 / 3, 0.4
"""Of the rise that is asked for (0.15 at a ratio of 1.15): connected voxels above EXTENT times it are outlined, where
they rise on average by more than 1 + MARGIN / sqrt(mL) times it. The two sides of a healthy head differ by up to the
rise itself, and over a small volume such differences do not average out."""
FLUID_DROP = 1.5
"""Times the median diffusion of the brain: what drops by more holds fluid, which is dark on FLAIR."""
FLUID_FLAIR = 0.4
"""Of the median FLAIR of the brain: what is darker holds fluid. All constants of this file are chosen here."""
RIM_MM = 4.0
"""Around the stroke, which is not taken for healthy."""


def flipped(volume: Volume) -> Volume:
    """The image with its voxels in reverse order from side to side, on the same grid; register it to the original."""
    return Volume(np.ascontiguousarray(np.flip(volume.array, _side_axis(volume))), volume.affine)


def visible_on_flair(
    flair: Volume,
    b0: Volume,
    b1000: Volume,
    brain: BoolArray,
    stroke: BoolArray,
    *,
    to_mirror: RigidMotion,
    ratio: float,
) -> BoolArray:
    """The part of a stroke that FLAIR shows.

    Args:
        flair, b0, b1000: (i, j, k) on one grid.
        brain, stroke: (i, j, k) bool on it.
        to_mirror: from b0 to its `flipped` self.
        ratio: FLAIR over expected FLAIR, above which it is visible.

    Returns:
        (i, j, k) bool, within the stroke.
    """

    def mirrored(array: np.ndarray, order: int = 1) -> np.ndarray:
        return to_mirror.onto(flipped(Volume(array, b0.affine)), b0, order=order).array

    spacing = np.array(b0.spacing_mm)
    drop = np.log(np.maximum(b0.array, 1e-6) / np.maximum(b1000.array, 1e-6))
    tissue = (
        brain
        & (drop < FLUID_DROP * np.median(drop[brain]))
        & (flair.array > FLUID_FLAIR * np.median(flair.array[brain]))
    )
    affected = ndimage.distance_transform_edt(~stroke, sampling=spacing) <= RIM_MM
    here, there = tissue & ~affected, mirrored(tissue, 0) & ~mirrored(affected, 0)
    other = mirrored(flair.array)

    def spread(array: np.ndarray, sigma_mm: float, *, within_slices: bool = False) -> FloatArray:
        sigma = sigma_mm / spacing
        sigma[np.argmax(spacing)] *= not within_slices
        return np.asarray(ndimage.gaussian_filter(array.astype(np.float32), sigma))

    def mean_of(array: np.ndarray, where: BoolArray, sigma_mm: float) -> FloatArray:
        return spread(array * where, sigma_mm) / np.maximum(spread(where, sigma_mm), 1e-6)

    both = here & there
    side = mean_of(flair.array, both, SIDE_MM) / np.maximum(mean_of(other, both, SIDE_MM), 1e-6)
    # Squared: the little tissue beside an empty mirrored place (the sides of a head differ) is its dim edge.
    near, around = spread(there, MIRRORED_MM) ** 2, AROUND_WEIGHT * spread(here, AROUND_MM)
    expected = near * side * mean_of(other, there, MIRRORED_MM) + around * mean_of(flair.array, here, AROUND_MM)
    expected /= np.maximum(near + around, 1e-6)
    seen, usual = (spread(array * stroke, SEEN_MM, within_slices=True) for array in (flair.array, expected))
    rise = np.where(stroke & (usual > 0), seen / np.maximum(usual, 1e-6) - 1.0, 0.0)
    return _bright_on_average(rise, ratio - 1.0, b0.voxel_volume_ml)


def _bright_on_average(rise: FloatArray, asked: float, voxel_volume_ml: float) -> BoolArray:
    """The connected voxels whose mean rise is above the one asked for, by more the fewer they are."""
    labels, n = ndimage.label(rise > EXTENT * asked, structure=np.ones((3, 3, 3)))
    kept, indices = np.zeros(n + 1, dtype=bool), np.arange(1, n + 1)
    volumes_ml = np.bincount(labels.ravel(), minlength=n + 1)[1:] * voxel_volume_ml
    kept[1:] = np.asarray(ndimage.mean(rise, labels, indices)) > asked * (1.0 + MARGIN / np.sqrt(volumes_ml))
    return np.asarray(kept[labels])


def _side_axis(volume: Volume) -> int:
    """The stored axis that runs from side to side."""
    return int(np.flatnonzero(nib.orientations.io_orientation(volume.affine)[:, 0] == 0)[0])
