"""The numbers stored: are they there, fine enough, and over the noise?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.data import Case, Finding, Severity, Volume
from fvv.errors import MaskError
from fvv.imaging.quality.view import NativeView

NOT_FINITE_SHARE = 1e-3
"""Of the brain: more voxels without a number than this, and a lesion may hide among them."""
_AROUND = np.ones((3, 3, 3), dtype=bool)
_IN_PLANE = _AROUND & np.array([False, True, False])
FEWEST_LEVELS = 32
"""Fewer different values in the brain are a picture, not a measurement: even 8 bits give over 100."""
SATURATED_SHARE = 0.005
"""Of the brain at the very same highest value: a clean image has a handful of voxels there."""
SPIKE = 100.0
"""A voxel this many times brighter than the brain's median is no tissue (the real patient's brightest on b0: 20)."""
USELESS_SPIKE = 300.0
"""From here on a single voxel shifts the scale on which the network sees the image: 7 % of a volume, and soon all."""
LOWEST_SNR = 6.0
"""Median of the brain over noise on b1000; clean simulated examinations have 13 and more, the real patient 170."""
USELESS_SNR = 2.5
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float64)[:, :, None]
"""Difference of two Laplacians: blind to what varies slowly (Immerkaer 1996, doi 10.1006/cviu.1996.0060)."""


def without_gaps(case: Case) -> tuple[Case, BoolArray]:
    """Fill voxels without a number by the image's lowest, and say which they were.

    Returns:
        The case with finite images, and (i, j, k) bool: not finite in b0 or in b1000.

    Raises:
        MaskError: an image holds no number at all.
    """
    gaps = ~(np.isfinite(case.b0.array) & np.isfinite(case.b1000.array))
    if not gaps.any():
        return case, gaps
    return replace(case, b0=_filled(case.b0, "b0"), b1000=_filled(case.b1000, "b1000")), gaps


def signal_findings(view: NativeView) -> list[Finding]:
    """Non-finite values, coarse or saturated intensities, spikes, noise."""
    found = _gap_findings(view)
    for name, image in (("b0", view.b0), ("b1000", view.b1000)):
        found += _level_findings(name, image[view.core])
        found += _spike_findings(name, image[view.brain] - image.min())
    snr = signal_to_noise(view.b1000, view.core)
    if snr < LOWEST_SNR:
        severity = Severity.NOT_ASSESSABLE if snr < USELESS_SNR else Severity.WARNING
        found.append(Finding("noise", f"b1000 is noisy: the brain's signal is {snr:.1f} times the noise", severity))
    return found


def signal_to_noise(image: FloatArray, brain: BoolArray) -> float:
    """Median over the brain, above the image's lowest value, over the noise's deviation.

    Interpolated images look less noisy than they are.
    """
    residue = ndimage.convolve(image, _NOISE_KERNEL)[brain]
    noise = float(np.median(np.abs(residue))) / 0.6745 / 6.0
    signal = float(np.median(image[brain]) - image.min())
    return signal / noise if noise > 0 else float("inf")


def _filled(volume: Volume, name: str) -> Volume:
    finite = np.isfinite(volume.array)
    if not finite.any():
        raise MaskError(f"{name} holds no finite number")
    return Volume(np.where(finite, volume.array, volume.array[finite].min()), volume.affine)


def _gap_findings(view: NativeView) -> list[Finding]:
    total = int(view.not_finite.sum())
    if not total:
        return []
    inside = float(_gaps_in_brain(view).sum() / view.brain.sum())
    message = f"{total} voxels were not finite (NaN or infinite), {inside:.2%} of the brain; the lowest value stands in"
    severity = Severity.NOT_ASSESSABLE if inside > NOT_FINITE_SHARE else Severity.WARNING
    return [Finding("not-finite", message, severity)]


def _gaps_in_brain(view: NativeView) -> BoolArray:
    """Gaps inside the mask, and whole islands of them at the mask.

    Filled with the lowest value, a patch without numbers looks like background to the mask, which leaves it out. An
    island is a patch in one slice that does not reach the edge of the image, as the background around a head does.
    """
    islands, _ = ndimage.label(view.not_finite, _IN_PLANE)
    background = np.concatenate([islands[[0, -1]].ravel(), islands[:, [0, -1]].ravel()])
    near = islands[ndimage.binary_dilation(view.brain, _AROUND)]
    return view.not_finite & (view.brain | np.isin(islands, np.setdiff1d(near, background)))


def _level_findings(name: str, values: FloatArray) -> list[Finding]:
    highest = values.max()
    levels = len(np.unique(values))
    if levels < FEWEST_LEVELS:
        message = f"{name} has only {levels} different values in the brain: converted through a picture format?"
        return [Finding("intensity-range", message, Severity.NOT_ASSESSABLE)]
    saturated = float((values == highest).mean())
    if saturated > SATURATED_SHARE:
        message = f"{name} is cut off at its highest value {highest:g} in {saturated:.1%} of the brain"
        return [Finding("intensity-range", message, Severity.WARNING)]
    return []


def _spike_findings(name: str, values: FloatArray) -> list[Finding]:
    typical = float(np.median(values))
    ratio = float(values.max()) / typical if typical > 0 else 0.0
    if ratio <= SPIKE:
        return []
    severity = Severity.NOT_ASSESSABLE if ratio > USELESS_SPIKE else Severity.WARNING
    return [Finding("spike", f"{name} has a voxel {ratio:.3g} times brighter than the brain's median", severity)]
