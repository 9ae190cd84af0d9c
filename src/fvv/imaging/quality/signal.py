"""The numbers stored: are they there, fine enough, and over the noise?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray, IntArray
from fvv.data import Case, Finding, Severity, Volume
from fvv.errors import MaskError
from fvv.imaging.brain import bounding_box
from fvv.imaging.quality.view import NativeView

NOT_FINITE_SHARE = 1e-3
"""Of the brain: more voxels without a number than this, and a lesion may hide among them."""
_AROUND = np.ones((3, 3, 3), dtype=bool)
_IN_PLANE = _AROUND & np.array([False, True, False])
TOUCHED_SHARE = 0.05
"""Of the brain's rim in a slice: background beside a head that the image's edge cuts touches none of it, half a field
of view that was lost a third."""
FEWEST_LEVELS = 32
"""Fewer different values in the brain are a picture, not a measurement: even 8 bits give over 100."""
_A_FEW = 10_000
SATURATED_SHARE = 0.005
"""Of the brain at the very same highest value: a clean image has a handful of voxels there."""
SPIKE = 100.0
"""A voxel this many times brighter than the brain's median is no tissue (the real patient's brightest on b0: 20)."""
BRIGHTEST_TISSUE = 30.0
"""Times the brain's median: what is brighter must not set the scale on which the network sees the image."""
WIDENED = 1.1
USELESS_WIDENED = 1.4
"""The brain's standard deviation over that without what is brighter than tissue. At 1.4, by one voxel of b0, a
simulated patient lost 7 % of the FVV; thirty brighter ones made 263 mL of 10 mL of stroke."""
LOWEST_SNR = 6.0
"""Median of the brain over noise on b1000; clean simulated examinations have 13 and more, the real patient 170."""
USELESS_SNR = 2.5
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float64)[:, :, None]
"""Difference of two Laplacians: blind to what varies slowly (Immerkaer 1996, doi 10.1006/cviu.1996.0060)."""


def without_gaps(case: Case) -> tuple[Case, BoolArray]:
    """Fill voxels without a number by 0, or by the image's lowest where that is negative, and say which they were.

    Not by the lowest of a stripped brain: a background must be darker than all tissue.

    Returns:
        The case with finite images, and (i, j, k) bool: not finite in b0 or in b1000.

    Raises:
        MaskError: an image holds no number at all.
    """
    gaps = ~(np.isfinite(case.b0.array) & np.isfinite(case.b1000.array))
    if not gaps.any():
        return case, gaps
    return replace(case, b0=_filled(case.b0, "b0"), b1000=_filled(case.b1000, "b1000")), gaps


def missing_numbers(view: NativeView) -> Iterator[Finding]:
    """Values that are not finite."""
    total = int(view.not_finite.sum())
    if total:
        inside = int(_gaps_in_brain(view).sum())
        share = inside / view.brain.sum()
        message = (
            f"{total} voxels were not finite (NaN or infinite), {inside} of them in the brain or in patches at it "
            f"({share:.2%} of its volume); they are replaced by 0, or by the lowest value"
        )
        yield Finding("not-finite", message, Severity.NOT_ASSESSABLE if share > NOT_FINITE_SHARE else Severity.WARNING)


def grey_levels(view: NativeView) -> Iterator[Finding]:
    """Coarse or saturated intensities, and voxels brighter than any tissue, judged by what they do to the scale."""
    for name, image in (("b0", view.b0), ("b1000", view.b1000)):
        values = image[view.core]
        levels, saturated = _levels(values), float((values == values.max()).mean())
        if levels < FEWEST_LEVELS:
            message = f"{name} has only {levels} different values in the brain: converted through a picture format?"
            yield Finding("intensity-range", message, Severity.NOT_ASSESSABLE)
        elif saturated > SATURATED_SHARE:
            message = f"{name} is cut off at its highest value {values.max():g} in {saturated:.1%} of the brain"
            yield Finding("intensity-range", message, Severity.WARNING)

        values = image[view.brain] - image.min()
        typical = float(np.median(values))
        tissue = values[values <= BRIGHTEST_TISSUE * typical]
        if typical <= 0 or not tissue.std() > 0:
            continue
        ratio, widened = float(values.max()) / typical, float(values.std() / tissue.std())
        if ratio > SPIKE or widened > WIDENED:
            message = (
                f"{name} has {len(values) - len(tissue)} voxels over {BRIGHTEST_TISSUE:g} times the brain's median, up "
                f"to {ratio:.3g} times; they widen the brain's range of values {widened:.2f} times"
            )
            yield Finding("spike", message, Severity.NOT_ASSESSABLE if widened > USELESS_WIDENED else Severity.WARNING)


def _levels(values: FloatArray) -> int:
    """How many different values there are; where there are enough, it is seen in a few, and not all are sorted."""
    in_a_few = len(np.unique(values[:_A_FEW]))
    return in_a_few if in_a_few >= FEWEST_LEVELS else len(np.unique(values))


def noise(view: NativeView) -> Iterator[Finding]:
    """b1000 too noisy to find a lesion in."""
    snr = signal_to_noise(view.b1000, view.core)
    if snr < LOWEST_SNR:
        severity = Severity.NOT_ASSESSABLE if snr < USELESS_SNR else Severity.WARNING
        yield Finding("noise", f"b1000 is noisy: the brain's signal is {snr:.1f} times the noise", severity)


def signal_to_noise(image: FloatArray, brain: BoolArray) -> float:
    """Median over the brain, above the image's lowest value, over the noise's deviation.

    Interpolated images look less noisy than they are.
    """
    box = bounding_box(brain, (1, 1, 0))
    residue = ndimage.convolve(image[box], _NOISE_KERNEL)[brain[box]]
    noise = float(np.median(np.abs(residue))) / 0.6745 / 6.0
    signal = float(np.median(image[brain]) - image.min())
    return signal / noise if noise > 0 else float("inf")


def _filled(volume: Volume, name: str) -> Volume:
    finite = np.isfinite(volume.array)
    if not finite.any():
        raise MaskError(f"{name} holds no finite number")
    return Volume(np.where(finite, volume.array, min(0.0, volume.array[finite].min())), volume.affine)


def _gaps_in_brain(view: NativeView) -> BoolArray:
    """Gaps inside the mask, and whole islands of them at the mask that are not the background.

    Filled with the lowest value, a patch without numbers looks like background to the mask, which leaves it out. An
    island is such a patch in one slice. Of the background, what the rim of the mask reaches into does not count.
    Slices without any number are the affair of `stack`.
    """
    islands, n = ndimage.label(view.not_finite, _IN_PLANE)
    near = np.unique(islands[ndimage.binary_dilation(view.brain, _AROUND)])
    places = ndimage.find_objects(islands, n)
    lost = [label for label in near if label and not _is_background(islands, label, places[label - 1][2].start, view)]
    return view.not_finite & (view.core | np.isin(islands, lost))


def _is_background(islands: IntArray, label: int, k: int, view: NativeView) -> bool:
    """It surrounds most of its slice's brain; or it reaches the image's edge and hardly touches the brain."""
    island, brain = islands[..., k] == label, view.brain[..., k] & ~view.not_finite[..., k]
    at_edge = bool(island[[0, -1]].any() or island[:, [0, -1]].any())
    if not brain.any():
        return at_edge
    rim = brain & ~ndimage.binary_erosion(brain, _AROUND[1])
    touched = float((rim & ndimage.binary_dilation(island, _AROUND[1])).sum() / rim.sum())
    surrounded = ndimage.binary_fill_holes(island) & ~island
    return bool(surrounded[brain].mean() > 0.5) or (at_edge and touched <= TOUCHED_SHARE)
