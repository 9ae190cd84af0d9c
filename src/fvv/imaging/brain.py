"""Brain masks from b0 and b1000, where the user gives none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.imaging.median import median_3x3x3

T = TypeVar("T")
MEDIAN_PASSES = 4
SMALL_MAXIMUM = 10.0
"""An image whose maximum is under this is no raw scanner image (0 to 1, z-scores): "under 1" means nothing there."""
CAP_OVER_MEDIAN = 1.5
"""Robust mask: intensities are capped at this many times the foreground's median. CSF on b0 (3 to 5 times) and infarct
on b1000 (2 to 10 times) then cannot draw the threshold towards themselves."""
CAPPED_MAXIMUM = 1000.0
"""Robust mask: what the cap becomes. "Nothing there", under 1, is then a thousandth of it on any scale."""
OTSU_BINS = 256
"""Of the histogram: scikit-image's default, which dipy and with it the published pipeline use."""
BRIGHTEST_PERCENTILE = 95.0
"""Robust mask: the cut that precedes the foreground's median."""


def otsu_mask(b0: FloatArray, b1000: FloatArray) -> BoolArray:
    """The reference's mask: median Otsu (dipy's, radius 1, four passes) on both images, intersected and tidied.

    Args:
        b0, b1000: (i, j, k) raw intensities.

    Returns:
        (i, j, k) bool; empty where the images gave nothing.
    """
    of_b0, of_b1000 = _of_both(median_otsu, b0, b1000)
    mask = largest_component(of_b0 & of_b1000)
    around = bounding_box(mask, (1, 1, 1))
    mask[around] = ndimage.binary_fill_holes(ndimage.binary_dilation(mask[around]))
    for image in (b0, b1000):
        if image.min() >= 0:
            mask &= image >= 1 if image.max() >= SMALL_MAXIMUM else image > 0
    return np.asarray(mask, dtype=bool)


def robust_mask(b0: FloatArray, b1000: FloatArray) -> BoolArray:
    """The same, but blind to how bright the brightest tissue is and to the scale: a lesion many times brighter than
    brain, images scaled to 0-1 or shifted below 0 change nothing.
    """
    return otsu_mask(*_of_both(_capped, b0, b1000))


def _of_both(function: Callable[[FloatArray], T], b0: FloatArray, b1000: FloatArray) -> Iterator[T]:
    """A function of each image, side by side: NumPy leaves the processor to the other thread while it computes."""
    with ThreadPoolExecutor(2) as threads:
        return threads.map(function, (b0, b1000))


def largest_component(mask: BoolArray) -> BoolArray:
    """The largest component, voxels touching by face, edge or corner; of equals the first in memory order.

    An empty mask stays empty.
    """
    box = bounding_box(mask)
    labels, n = ndimage.label(mask[box], structure=np.ones((3, 3, 3)))
    if n <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = np.zeros(mask.shape, dtype=bool)
    largest[box] = labels == sizes.argmax()
    return largest


def bounding_box(mask: BoolArray, room: tuple[int, int, int] = (0, 0, 0)) -> tuple[slice, slice, slice]:
    """The smallest box that holds a mask; what only looks at the mask need not look at the whole image.

    Args:
        mask: (i, j, k) bool.
        room: voxels around the mask that the box holds too, as far as there are any.

    Returns:
        A slice of each axis; of an empty mask, the whole array.
    """
    box = []
    for others, by in zip(((1, 2), (0, 2), (0, 1)), room, strict=True):
        held = np.flatnonzero(mask.any(axis=others))
        box.append(slice(max(int(held[0]) - by, 0), int(held[-1]) + by + 1) if len(held) else slice(None))
    return box[0], box[1], box[2]


def median_otsu(image: FloatArray) -> BoolArray:
    """Voxels over the Otsu threshold of the median-filtered image; none where the image is constant."""
    if image.min() == image.max():
        return np.zeros(image.shape, dtype=bool)
    smooth = median_3x3x3(image, passes=MEDIAN_PASSES)
    return np.asarray(smooth > otsu_threshold(smooth))


def otsu_threshold(image: FloatArray) -> float:
    """The level that separates an image into two classes with the largest variance between them.

    Otsu 1979 (doi 10.1109/TSMC.1979.4310076), over a histogram from the smallest to the largest value; equal to the bit
    to scikit-image's `threshold_otsu`, with which the published masks were made, and so with its float32 counts.

    Args:
        image: any shape, float, finite.

    Returns:
        Centre of a bin of the histogram; what is above it is foreground. Of a constant image, its value.
    """
    lowest, highest = image.min(), image.max()
    if lowest == highest:
        return float(lowest)
    counts, edges = np.histogram(image, bins=OTSU_BINS)
    counts, centres = counts.astype(np.float32), (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * centres) / below
    mean_above = np.cumsum((counts * centres)[::-1])[::-1] / above
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[np.argmax(between)])


def _capped(image: FloatArray) -> FloatArray:
    """Image from 0 to 1000, where 1000 is 1.5 times the foreground's median; what is brighter is cut to that level.

    Foreground and background are first told apart on a square-root scale with the brightest voxels cut away: brain
    fills more than 5 % of a field of view, a lesion (250 mL at most, of 6,000 mL or more) less.
    """
    shifted = image - image.min()
    if not shifted.any():
        return np.asarray(shifted)
    level = np.percentile(shifted, BRIGHTEST_PERCENTILE)
    if level == 0:  # Skull-stripped in a wide field of view: most voxels are 0.
        level = np.median(shifted[shifted > 0])
    compressed = np.minimum(shifted, level)
    np.sqrt(compressed, out=compressed)
    foreground = shifted[compressed > otsu_threshold(compressed)]
    cap = CAP_OVER_MEDIAN * float(np.median(foreground))
    # Whole numbers: the median filter then works in 16 bits, in a third of the time.
    scaled = shifted / cap
    np.minimum(scaled, 1.0, out=scaled)
    scaled *= CAPPED_MAXIMUM
    return np.asarray(np.rint(scaled, out=scaled))
