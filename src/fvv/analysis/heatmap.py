"""Grey levels of an image, and `heatmap.nii.gz`: b1000 coloured with what the models found. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray, IntArray, UInt8Array
from fvv.imaging.brain import bounding_box


def grey_scale(image: FloatArray, brain: BoolArray | None = None) -> UInt8Array:
    """Window an image to 0..255, saturating at both ends: nothing wraps around.

    The lower end is the image's 0.5th percentile (background). The upper end is the 99.5th percentile inside the brain,
    kept between 2 and 4 times the brain's median above the lower end: tissue stays readable beside a bright lesion.

    Args:
        image: (i, j, k), any intensity scale; non-finite voxels become 0.
        brain: (i, j, k) bool; without it, or empty, the voxels above the image's mean stand for it.
    """
    values = np.asarray(image, dtype=np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, dtype=np.uint8)
    low = float(np.percentile(values[finite], 0.5, overwrite_input=True))
    inside = finite & brain if brain is not None and brain.any() else finite & (values > values[finite].mean())
    if not inside.any():
        return np.zeros(values.shape, dtype=np.uint8)
    median, bright = (float(value) - low for value in np.percentile(values[inside], [50, 99.5]))
    high = float(np.clip(bright, 2 * median, 4 * median)) if median > 0 else bright
    if high <= 0:
        return np.zeros(values.shape, dtype=np.uint8)
    # In place: a copy for each step would be the peak of memory of a prediction.
    scaled = values - np.float32(low)
    scaled /= np.float32(high)
    scaled[~finite] = 0
    np.clip(scaled, 0.0, 1.0, out=scaled)
    scaled *= 255
    grey: UInt8Array = np.rint(scaled, out=scaled).astype(np.uint8)
    return grey


def heatmap_rgb(
    grey: UInt8Array, brain: BoolArray, stroke: BoolArray, votes: IntArray, n_models: int, *, slice_axis: int = 2
) -> UInt8Array:
    """Colour b1000 with what the models found.

    Args:
        grey: (i, j, k) grey levels 0..255, from `grey_scale`.
        brain: (i, j, k) bool.
        stroke: (i, j, k) bool.
        votes: (i, j, k) number of models, 0..n_models, that call the voxel FLAIR-visible.
        n_models: number of models.
        slice_axis: axis across which the slices are stacked; outlines are in plane.

    Returns:
        (i, j, k, 3) uint8: b1000 in grey, votes inside the stroke blended in red (all models: 70 %), brain outline
        green, stroke outline blue.
    """
    rgb = np.repeat(grey[..., None], 3, axis=3)
    voted = (votes > 0) & stroke  # Votes of `reference-v1` may spill over the stroke's edge.
    opacity = 0.7 * np.clip(votes[voted].astype(np.float32) / n_models, 0.0, 1.0)
    dimmed = grey[voted] * (1 - opacity)
    rgb[voted, 0] = np.rint(dimmed + 255 * opacity)
    rgb[voted, 1] = rgb[voted, 2] = np.rint(dimmed)
    # Pure colours, not `Channel.colour`: the published format of this file fixes green, blue and red.
    rgb[in_plane_outline(brain, slice_axis)] = (0, 255, 0)
    rgb[in_plane_outline(stroke, slice_axis)] = (0, 0, 255)
    return rgb


def in_plane_outline(mask: BoolArray, slice_axis: int = 2) -> BoolArray:
    """Voxels of a mask that touch, in their slice, a voxel outside it. The image's edge counts as outside.

    Args:
        mask: (i, j, k) bool.
        slice_axis: axis across which the slices are stacked.
    """
    cross = np.zeros((3, 3, 3), dtype=bool)
    for axis in range(3):
        if axis != slice_axis:
            cross[tuple(slice(None) if other == axis else 1 for other in range(3))] = True
    box = bounding_box(mask)
    outline = np.zeros_like(mask)
    outline[box] = mask[box] & ~ndimage.binary_erosion(mask[box], structure=cross)
    return outline
