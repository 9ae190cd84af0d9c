"""Is b0 a b0 and b1000 a b1000? Fluid tells: bright on b0, dark on b1000, and by how much is physics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.data import Finding, Severity
from fvv.imaging.adc import RESCALED, gain_findings, typical_log_drop
from fvv.imaging.brain import SMALL_MAXIMUM, bounding_box
from fvv.imaging.quality.view import NativeView
from fvv.protocol import B_RANGE, LOG_DROP_NEAR_1000, TARGET_B, is_brought_to_b1000, is_usual_b1000

EVENED_OVER_MM = 50.0
"""Edge of the box over whose mean a voxel is judged, where the brightest are looked for (chosen here): wider than the
ventricles, narrower than the shading of a receive coil, under which the cortex beside it outshines fluid on b0."""
FLUID_DARK = 0.25
"""Share of b0's fluid that must be darker than tissue on b1000. Clean: 0.38 and more; an ADC map: under
0.15, two shaded ones of 179 0.31 and 0.36."""
SWAPPED_MARGIN = 0.25
"""By how much more of "b1000"'s brightest tissue is dark on "b0" than the other way round: 0.25 to 0.93 where the two
are swapped, two of 179 less, which are refused as an ADC map; under -0.13 where they are not."""
RING_MM = (4.0, 18.0)
RING_BRIGHT = 0.9
"""95th percentile of b1000 around the brain over the brain's median. Diffusion suppresses fat and its background is
dark (clean: under 0.35); an ADC map is noise there, and on FLAIR the scalp is as bright as brain."""
FLUID_LOG_DROP = 2.8
"""ln(b0/b1000) of the purest fluid less that of tissue: b * (3.0 - 0.75)e-3 mm^2/s = 2.25 at b = 1000, whatever the
gain (clean: 1.3 to 2.7 in 171 simulated patients, but over 2.8 in 5 of 340 with isotropic voxels, whose fluid is purer;
under another tool's mask the real one had 3.0, until the rim was left out). On FLAIR fluid is nulled: 157 of 171 are
refused with this limit, 138 with 3.1. Of a b-value of 1000 to 1150, where one is stated, the limit is higher in
proportion; images of other b-values were brought to 1000."""
LOW_TISSUE_DROP = 0.5
"""ln(b0/b1000) of tissue at one gain is b ADC = 0.75 (clean, with the simulator's gains: over 0.75). FLAIR has a scale
of its own, and most often less than this."""
FLUID_LOG_DROP_MINOR = 2.0
"""With so low a tissue drop, a fluid drop over this is enough."""
DEEP_MM = 10.0
"""From the rim of the mask, in plane: masks of some tools reach into dura and bone, dark on b1000 for other reasons."""
FEWEST_DEEP = 1000
"""Voxels; where fewer lie that deep, the whole core is looked at."""
PUREST = 0.9
"""Quantile of ln(b0/b1000) over b0's fluid that stands for fluid without tissue in the voxel."""
BRIGHTEST_SHARE = 0.03
"""The brightest part of the brain mask on b0 is cerebrospinal fluid: about a tenth of it is, so 3 % surely are."""
LEAST_CONTRAST = 0.25
"""ln of the 99th percentile over the median in the brain, on b0 or b1000: 0.75 and more on b0 of 22 examinations of
people and of the simulator; 0.09 in a phantom of water."""


def stated_b_value(view: NativeView) -> Iterator[Finding]:
    """The b-value at which b1000 was acquired, where it is stated."""
    if view.b_value is None or is_usual_b1000(view.b_value):
        return
    acquired = f"b1000 was acquired at b = {view.b_value:g} s/mm^2"
    if is_brought_to_b1000(view.b_value):
        yield Finding("b-value", f"{acquired} and brought to b = 1000 by the ADC of each voxel", Severity.WARNING)
    else:
        message = f"{acquired}, expected 1000, or {B_RANGE[0]:g} to {B_RANGE[1]:g} to be brought to 1000"
        yield Finding("b-value", message, Severity.NOT_ASSESSABLE)


def unstated_b_value(view: NativeView) -> Iterator[Finding]:
    """A signal that drops like that of another b-value, where none is stated and 1000 is assumed."""
    low, high = LOG_DROP_NEAR_1000
    if view.b_value is not None or any(finding.code == RESCALED for finding in view.prepared.findings):
        return
    typical = typical_log_drop(view.prepared)
    if not low <= typical <= high:
        message = (
            f"no file states the b-value of b1000, and the brain's ln(b0/b1000) of {typical:.2f} is that of a "
            f"{'lower' if typical < low else 'higher'} one than 1000, or the two images have different scales: state "
            "it with --b-value or a .bval file"
        )
        yield Finding("b-value-unstated", message, Severity.WARNING)


def kind_of_image(view: NativeView) -> Iterator[Finding]:
    """Same image twice, a phantom, files swapped, an ADC map or FLAIR where b1000 is expected, another b-value."""
    b0, b1000 = view.b0[view.core], view.b1000[view.core]
    even = evened((view.b0, view.b1000), view.core, view.spacing_mm)
    # Tissue around large ventricles stands out of a box that they fill: the look that tells more of the two counts.
    looks = [_dark_shares(b0, b1000), _dark_shares(*even)]
    dark_on_b1000, dark_on_b0 = max(looks, key=lambda shares: abs(shares[0] - shares[1]))
    if np.array_equal(view.b0, view.b1000):
        yield Finding("same-image", "b0 and b1000 are the same image", Severity.NOT_ASSESSABLE)
    elif max(_contrast(b0), _contrast(b1000)) < LEAST_CONTRAST:
        message = "b0 and b1000 are uniform in what was taken for the brain, without fluid and tissue: a phantom?"
        yield Finding("uniform", message, Severity.NOT_ASSESSABLE)
    elif dark_on_b0 > dark_on_b1000 + SWAPPED_MARGIN and _ring_brightness(view) < RING_BRIGHT:
        message = "b0 and b1000 look swapped: fluid is bright on b1000 and dark on b0"
        yield Finding("swapped", message, Severity.NOT_ASSESSABLE)
    elif dark_on_b1000 < FLUID_DARK or dark_on_b0 > dark_on_b1000:
        message = "b1000 is no diffusion-weighted image: fluid is bright on it, as on an ADC map or a T2-weighted image"
        yield Finding("b1000-is-adc", message, Severity.NOT_ASSESSABLE)
    elif _ring_brightness(view) > RING_BRIGHT or _looks_like_flair(view):
        message = (
            "b1000 is no diffusion-weighted image at b = 1000: fluid or fat look as on FLAIR, or the b-value is much "
            "higher"
        )
        yield Finding("b1000-is-flair", message, Severity.NOT_ASSESSABLE)


def common_gain(view: NativeView) -> Iterator[Finding]:
    """Whether b0 and b1000 share a gain; judged on the z-scores, as it is of a stored examination."""
    yield from gain_findings(view.prepared)


def brightest(values: FloatArray) -> BoolArray:
    """Which of the values belong to the brightest share."""
    return np.asarray(values >= np.quantile(values, 1 - BRIGHTEST_SHARE))


def _dark_shares(b0: FloatArray, b1000: FloatArray) -> tuple[float, float]:
    """Share of b0's brightest that is darker than the median on b1000, and the other way round."""
    on_b1000 = float((b1000[brightest(b0)] < np.median(b1000)).mean())
    return on_b1000, float((b0[brightest(b1000)] < np.median(b0)).mean())


def evened(images: Iterable[FloatArray], core: BoolArray, spacing_mm: Sequence[float]) -> Iterator[FloatArray]:
    """Intensities of the core as shares of their mean in a box around each voxel: without the shading of a coil.

    Args:
        images: (i, j, k) intensities.
        core: (i, j, k) bool, voxels that are looked at; the others are in no mean.
        spacing_mm: voxel edges.

    Yields:
        (n,) of the core's voxels, for each image.
    """
    box = bounding_box(core, (0, 0, 0))
    core, size = core[box], [max(1, round(EVENED_OVER_MM / edge)) for edge in spacing_mm]
    held = ndimage.uniform_filter(core.astype(np.float64), size, mode="constant")[core]
    for image in images:
        values = np.where(core, image[box] - image.min(), 0.0)
        # Both are sums over the same box: their quotient is the mean over its voxels of the core.
        means = ndimage.uniform_filter(values, size, mode="constant")[core] / held
        yield np.asarray(values[core] / np.maximum(means, np.finfo(np.float64).tiny))


def _contrast(values: FloatArray) -> float:
    """Logarithm of the 99th percentile over the median, whatever air is in the mask; infinite without signal."""
    middle, high = np.percentile(values, (50, 99))
    return float(np.log(high / middle)) if middle > 0 else np.inf


def _looks_like_flair(view: NativeView) -> bool:
    deep = _deep(view)
    b0, b1000 = view.b0[deep] - view.b0.min(), view.b1000[deep] - view.b1000.min()
    tissue, fluid = log_drops(b0, b1000)
    b_value = view.b_value if view.b_value is not None and is_usual_b1000(view.b_value) else TARGET_B
    if fluid > FLUID_LOG_DROP * max(b_value, TARGET_B) / TARGET_B:
        return True
    # Images rescaled one by one (to 0-1, or to one maximum) no longer share a gain: their tissue drop says nothing.
    highest = float(np.ptp(view.b0)), float(np.ptp(view.b1000))
    rescaled = any(finding.code == RESCALED for finding in view.prepared.findings)
    one_gain = min(highest) >= SMALL_MAXIMUM and not rescaled
    return one_gain and tissue < LOW_TISSUE_DROP and fluid > FLUID_LOG_DROP_MINOR


def _deep(view: NativeView) -> BoolArray:
    deep = np.zeros_like(view.brain)
    i, j, _ = bounding_box(view.brain, (1, 1, 0))
    for k in np.flatnonzero(view.slice_areas):
        depth = ndimage.distance_transform_edt(view.brain[i, j, k], sampling=view.spacing_mm[:2])
        deep[i, j, k] = depth > DEEP_MM
    return deep if deep.sum() >= FEWEST_DEEP else view.core


def log_drops(b0: FloatArray, b1000: FloatArray) -> tuple[float, float]:
    """ln(b0/b1000) of tissue, and that of the purest fluid less it.

    Args:
        b0, b1000: (n,) intensities of the same brain voxels, background at 0. The second number is free of their gains.
    """
    both = (b0 > 0) & (b1000 > 0)
    if not both.any():
        return 0.0, 0.0
    drop = np.log(b0[both] / b1000[both])
    tissue = float(np.median(drop))
    return tissue, float(np.quantile(drop[brightest(b0[both])], PUREST)) - tissue


def _ring_brightness(view: NativeView) -> float:
    """How bright b1000 is around the brain, as a share of the brain; 0 where there is nothing around it."""
    ring = _ring(view)
    floor = float(view.b1000.min())
    tissue = float(np.median(view.b1000[view.core])) - floor
    if not ring.any() or tissue <= 0:
        return 0.0
    return float(np.quantile(view.b1000[ring], 0.95) - floor) / tissue


def _ring(view: NativeView) -> BoolArray:
    """Voxels beside the brain, in plane and in the slices that hold much of it."""
    ring = np.zeros_like(view.brain)
    i, j, _ = bounding_box(view.brain, view.voxels(RING_MM[1]))
    for k in view.inner_slices:
        distance = ndimage.distance_transform_edt(~view.brain[i, j, k], sampling=view.spacing_mm[:2])
        ring[i, j, k] = (distance > RING_MM[0]) & (distance < RING_MM[1])
    return ring
