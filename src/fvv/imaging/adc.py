"""Apparent diffusion coefficient: from b0 and b1000 to a map, from a map back to b0, from another b-value to b1000.

Signal of a diffusion-weighted image: S(b) = S(0) e^(-b ADC) (Stejskal & Tanner 1965, doi 10.1063/1.1695690).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.data import Finding, PreparedCase, Severity, SignalScale
from fvv.errors import InputError
from fvv.imaging.brain import bounding_box
from fvv.protocol import TARGET_B, TYPICAL_LOG_DROP, USUAL_LOG_DROP

HIGHEST = 4e-3
"""mm^2/s: water at 37 degrees has 3.0e-3; what is computed beyond is noise."""
NO_COMMON_GAIN = "no-common-gain"
"""Code of the finding that rules an ADC out."""
RESCALED = "rescaled"
"""Code of the finding of preparation that each image was rescaled by itself."""
WATER = 3.0e-3
"""mm^2/s: diffusivity of cerebrospinal fluid (free water at 37 degrees, Mills 1973, doi 10.1021/j100624a025)."""
_MORE_THAN_TISSUE = 1.3
"""Times the usual drop: what drops by more holds fluid (chosen here). At 1, grey matter counts as fluid, and the real
stroke brought from b = 2500 got 12 mL more of false-positive stroke; at 1.3, none."""
_TISSUE = 0.25
"""Of the median of a diffusion image where b0 is over its mean: what is brighter there is tissue (chosen here)."""
_SMOOTHED_OVER = (3, 3, 1)
"""Voxels of the working grid: the diffusion of a single voxel is too noisy to judge by."""
_FAINTEST = 0.01
"""Of the brain's mean: fainter signals are lost in the rounding of the stored z-scores."""
_UNITS = {"mm^2/s": 1.0, "10^-3 mm^2/s": 1e-3, "10^-6 mm^2/s": 1e-6}


def adc_map(b0: FloatArray, b1000: FloatArray, b_value: float) -> FloatArray:
    """ADC in mm^2/s, up to 4e-3; NaN where an image holds no signal, or b1000 is no darker: that is no diffusion.

    Args:
        b0, b1000: (i, j, k) raw intensities at one gain (see `gain_findings`).
        b_value: of b1000, s/mm^2.
    """
    adc = np.full(b0.shape, np.nan)
    for at in range(len(adc)):  # All at once takes three times the memory.
        first, second, layer = b0[at : at + 1], b1000[at : at + 1], adc[at : at + 1]
        decays = (first > second) & (second > 0)
        layer[decays] = np.minimum(np.log(first[decays] / second[decays]) / b_value, HIGHEST)
    return adc


def at_b1000(b0: FloatArray, image: FloatArray, b_value: float) -> FloatArray:
    """A diffusion image as it would look at b = 1000: b0 (image/b0)^(1000/b), voxel by voxel.

    At a higher b-value fluid is lost in the noise, and its ADC comes out too low: converted like tissue it would be
    bright. So where the signal drops by more than that of any tissue, the excess is taken for fluid in the voxel,
    which has the diffusivity of water (the two compartments of free-water imaging, Pasternak et al. 2009, doi
    10.1002/mrm.22055): signal = share e^(-tissue's drop) + (1 - share) e^(-b water), solved for tissue's share. Acute
    strokes drop by less and are not touched by this. At a lower b-value noise may make the image brighter on the way,
    which diffusion cannot: there it keeps its brightness.

    Args:
        b0, image: (i, j, k) raw intensities at one gain, finite.
        b_value: of the image, s/mm^2, over 0.

    Returns:
        (i, j, k) float64; the image as it is where one of the two holds no signal.
    """
    water = b_value * WATER
    most = min(_MORE_THAN_TISSUE * _usual_drop(b0, image), water) if b_value > TARGET_B else np.inf
    ratio, converted = TARGET_B / b_value, image.copy()
    for first, second, layer in zip(b0, image, converted, strict=True):  # All at once takes three times the memory.
        signal = (first > 0) & (second > 0)
        start, drop = first[signal], np.log(first[signal] / second[signal])
        brought = start * np.exp(-ratio * np.minimum(drop, most))
        if most < water:
            excess = np.exp(most - drop) - np.exp(most - water)
            tissue = np.clip(excess / (1 - np.exp(most - water)), 0.0, 1.0)
            brought = tissue * brought + (1 - tissue) * start * np.exp(-TARGET_B * WATER)
        layer[signal] = np.minimum(brought, second[signal]) if b_value < TARGET_B else brought
    return converted


def _usual_drop(b0: FloatArray, image: FloatArray) -> float:
    """Median ln(b0/image) of tissue; infinite where there is none."""
    head = (b0 > max(float(b0.mean()), 0.0)) & (image > 0)
    if not head.any():
        return np.inf
    before, after = b0[head], image[head]
    tissue = after > _TISSUE * np.median(after)
    return float(np.median(np.log(before[tissue] / after[tissue])))


def lesion_adc(adc: FloatArray, stroke: BoolArray, brain: BoolArray) -> tuple[float, float, float] | None:
    """ADC inside the stroke; None where less than half of it was measured, or there is nothing to compare with.

    Args:
        adc: (i, j, k) mm^2/s, NaN where not measured.
        stroke, brain: (i, j, k) bool.

    Returns:
        Median and 10th percentile, 10^-6 mm^2/s, and the median over that of the brain outside the stroke.
    """
    inside, outside = (part[np.isfinite(part)] for part in (adc[stroke], adc[brain & ~stroke]))
    if not inside.size or 2 * inside.size < stroke.sum() or not outside.size or not np.median(outside) > 0:
        return None
    median = float(np.median(inside))
    return median * 1e6, float(np.percentile(inside, 10)) * 1e6, median / float(np.median(outside))


def signal_scales(case: PreparedCase) -> tuple[SignalScale, SignalScale]:
    """The scales of b0 and b1000.

    Raises:
        InputError: the case was prepared without them.
    """
    if case.b0_scale is None or case.b1000_scale is None:
        raise InputError(
            "prepared without the scale of its signals", examination_id=case.examination_id, hint="prepare it again"
        )
    return case.b0_scale, case.b1000_scale


def log_drop(case: PreparedCase, within: BoolArray) -> FloatArray:
    """ln(b0/b1000), taken from the z-scores, so that a stored examination and a new one give the same numbers.

    Args:
        case: prepared.
        within: (i, j, k) bool on the working grid.

    Returns:
        (n,) float64, one for each voxel of `within`; NaN where an image holds no signal.

    Raises:
        InputError: the case was prepared without the scale of its signals.
    """
    scales = signal_scales(case)
    b0, b1000 = (
        image[within].astype(np.float64) * scale.deviation + scale.mean
        for image, scale in zip((case.b0, case.b1000), scales, strict=True)
    )
    measured = (b0 > _FAINTEST * scales[0].mean) & (b1000 > _FAINTEST * scales[1].mean)
    drop = np.full(b0.shape, np.nan)
    drop[measured] = np.log(b0[measured] / b1000[measured])
    return drop


def typical_log_drop(case: PreparedCase) -> float:
    """Median ln(b0/b1000) of the brain mask; 0 where nothing can be measured.

    Raises:
        InputError: the case was prepared without the scale of its signals.
    """
    drop = log_drop(case, case.brain)
    measured = np.isfinite(drop)
    return float(np.median(drop[measured])) if measured.any() else 0.0


def relative_adc(case: PreparedCase, brain: BoolArray) -> tuple[FloatArray, bool]:
    """ADC over the brain's median ADC, as ln(b0/b1000) averaged over 3 x 3 voxels in plane; the b-value cancels out.

    Where b0 and b1000 have different scales, a constant is added to ln(b0/b1000) everywhere. Then the brain's median is
    taken as normal (`TYPICAL_LOG_DROP`). Gamma correction, and offsets, are not undone.

    Args:
        case: prepared.
        brain: (i, j, k) bool on the working grid.

    Returns:
        (i, j, k) float64, NaN outside the brain and where no signal is near; and whether the median is assumed.

    Raises:
        InputError: the case was prepared without the scale of its signals.
    """
    drop, usual = _smoothed_log_drop(case, brain)
    if usual <= 0 or gain_findings(case):
        return 1 + (drop - usual) / TYPICAL_LOG_DROP, True
    return drop / usual, False


def _smoothed_log_drop(case: PreparedCase, brain: BoolArray) -> tuple[FloatArray, float]:
    """ln(b0/b1000) averaged over 3 x 3 voxels of the brain, NaN outside it and where no signal is near; its median."""
    smoothed = np.full(brain.shape, np.nan)
    # Nothing but zeros lies around the box, with which a filter's running sum starts in any case: the same numbers.
    box = bounding_box(brain, _SMOOTHED_OVER)
    inside, within = brain[box], smoothed[box]
    drop = np.full(inside.shape, np.nan)
    drop[inside] = log_drop(case, brain)
    measured = np.isfinite(drop)
    # In the brain only: the air and the skull around it would otherwise blur into its rim.
    near = ndimage.uniform_filter(measured.astype(np.float64), _SMOOTHED_OVER)
    known = inside & (near > 0.5 / np.prod(_SMOOTHED_OVER))
    drop[~measured] = 0.0
    within[known] = ndimage.uniform_filter(drop, _SMOOTHED_OVER)[known] / near[known]
    return smoothed, float(np.median(within[measured])) if measured.any() else 0.0


def gain_findings(case: PreparedCase) -> list[Finding]:
    """Do b0 and b1000 share one gain? Where they do not, their ratio is no diffusion, and no ADC is given.

    A gain of b1000 of about 0.6 to 1.4 times that of b0 passes unnoticed.

    Raises:
        InputError: the case was prepared without the scale of its signals.
    """
    typical = typical_log_drop(case)
    low, high = USUAL_LOG_DROP
    if any(finding.code == RESCALED for finding in case.findings):
        why = "each was rescaled separately"
    elif not low <= typical <= high:
        why = f"ln(b0/b1000) is {typical:.2f}, expected {low:g} to {high:g}"
    else:
        return []
    return [
        Finding(
            NO_COMMON_GAIN, f"b0 and b1000 have different intensity scales ({why}); ADC not computed", Severity.NOTE
        )
    ]


def b0_from_adc(b1000: FloatArray, adc: FloatArray, b_value: float) -> tuple[FloatArray, str]:
    """The b0 that gives this b1000 and this ADC map.

    Args:
        b1000: (i, j, k) raw intensities.
        adc: (i, j, k) in any of the units in use; told by its size where b1000 is bright.
        b_value: of b1000, s/mm^2.

    Returns:
        b0, and the unit the map was taken to be in.

    Raises:
        InputError: the map's values are those of no ADC unit.
    """
    head = (b1000 > np.mean(b1000)) & (adc > 0)
    typical = float(np.median(adc[head])) if head.any() else 0.0
    # Brain tissue has 0.7e-3 mm^2/s; 0.2 to 2 leaves room for lesions, fluid and scalp.
    for unit, size in _UNITS.items():
        if 0.2e-3 < typical * size < 2e-3:
            return b1000 * np.exp(b_value * np.clip(adc * size, 0.0, HIGHEST)), unit
    raise InputError(
        f"no ADC map: its median in the head is {typical:g}, expected about 0.0007 mm^2/s, 0.7 or 700 of its parts"
    )
