"""Brain masks from b0 and b1000, where the user gives none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from dipy.segment.mask import median_otsu
from scipy import ndimage
from skimage.filters import threshold_otsu

from fvv.arrays import BoolArray, FloatArray

MEDIAN_RADIUS = 1
MEDIAN_PASSES = 4
SMALL_MAXIMUM = 10.0
"""An image whose maximum is under this is no raw scanner image (0 to 1, z-scores): "under 1" means nothing there."""
CAP_OVER_MEDIAN = 1.5
"""Robust mask: intensities are capped at this many times the foreground's median. CSF on b0 (3 to 5 times) and infarct
on b1000 (2 to 10 times) then cannot draw the threshold towards themselves."""


def otsu_mask(b0: FloatArray, b1000: FloatArray) -> BoolArray:
    """The reference's mask: dipy's median Otsu on both images, intersected and tidied.

    Args:
        b0, b1000: (i, j, k) raw intensities.

    Returns:
        (i, j, k) bool; empty where the images gave nothing.
    """
    return _combine(b0, b1000, _median_otsu)


def robust_mask(b0: FloatArray, b1000: FloatArray) -> BoolArray:
    """The same, but blind to how bright the brightest tissue is: a lesion many times brighter than brain, or images
    scaled to 0-1, change nothing.
    """
    return _combine(_capped(b0), _capped(b1000), _median_otsu)


def largest_component(mask: BoolArray) -> BoolArray:
    """The largest face-connected component; of equals the first in memory order; an empty mask stays empty."""
    labels, n = ndimage.label(mask)
    if n <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _combine(b0: FloatArray, b1000: FloatArray, foreground: Callable[[FloatArray], BoolArray]) -> BoolArray:
    mask = largest_component(foreground(b0) & foreground(b1000))
    mask = ndimage.binary_fill_holes(ndimage.binary_dilation(mask))
    for image in (b0, b1000):
        if image.min() >= 0:
            mask &= image >= 1 if image.max() >= SMALL_MAXIMUM else image > 0
    return np.asarray(mask, dtype=bool)


def _median_otsu(image: FloatArray) -> BoolArray:
    if image.min() == image.max():
        return np.zeros(image.shape, dtype=bool)
    _, mask = median_otsu(image, median_radius=MEDIAN_RADIUS, numpass=MEDIAN_PASSES)
    return np.asarray(mask, dtype=bool)


def _capped(image: FloatArray) -> FloatArray:
    """Image with everything over 1.5 times the foreground's median cut to that level.

    The foreground is split from the background on a square-root scale after a first cap at the 99th percentile:
    a lesion of 1 % of the field of view or less cannot reach the threshold, and a larger one is still compressed.
    """
    shifted = image - image.min()
    first = np.sqrt(np.minimum(shifted, np.percentile(shifted, 99)))
    if first.max() == 0:
        return image
    foreground = shifted[first > threshold_otsu(first)]
    return np.asarray(np.minimum(image, CAP_OVER_MEDIAN * float(np.median(foreground)) + image.min()))
