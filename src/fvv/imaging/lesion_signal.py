"""Plain numbers of a predicted stroke, beside which the FVV is judged: how uneven it is on b1000, and its ADC."""

from __future__ import annotations

import math

import numpy as np

from fvv.arrays import BoolArray
from fvv.data import PreparedCase
from fvv.imaging.adc import gain_findings, log_drop
from fvv.imaging.geometry import reflected

_LEAST_MIRRORED = 0.5
"""Of the stroke's volume: with less normal brain at its mirrored place, all normal brain counts instead (chosen
here)."""


def relative_dwi_iqr(case: PreparedCase, stroke: BoolArray, brain: BoolArray) -> float:
    """Interquartile range of the relative DWI signal in the stroke (Wouters et al. 2018, doi
    10.1212/WNL.0000000000005413; there, 0.39 selects strokes of up to 4.5 h best).

    Here the relative signal of a voxel is its b1000 over the median b1000 of the normal brain at the mirrored place of
    the stroke, reflected at the middle of the brain's extent from left to right; where the stroke or no brain lies
    there, over that of all normal brain. Signals come from z-scores, which are clipped.

    Args:
        case: prepared.
        stroke, brain: (i, j, k) bool, predicted, on the working grid.

    Returns:
        NaN without a stroke, without normal brain, or where the scale of the signals was not kept.
    """
    scale = case.b1000_scale
    if scale is None or not stroke.any():
        return math.nan
    normal = reflected(stroke, brain, outside=False) & brain & ~stroke
    if normal.sum() < _LEAST_MIRRORED * stroke.sum():
        normal = brain & ~stroke
    if not normal.any():
        return math.nan
    inside, usual = (scale.mean + scale.deviation * case.b1000[where].astype(np.float64) for where in (stroke, normal))
    median = float(np.median(usual))
    low, high = np.percentile(inside, [25, 75])
    return float(high - low) / median if median > 0 else math.nan


def relative_lesion_adc(case: PreparedCase, stroke: BoolArray, brain: BoolArray) -> float:
    """Median ADC of the stroke over that of the brain outside it; the b-value cancels out.

    Args:
        case: prepared.
        stroke, brain: (i, j, k) bool, predicted, on the working grid.

    Returns:
        NaN without a stroke, where half of it or more has no signal, or where b0 and b1000 have different scales.
    """
    if case.b0_scale is None or case.b1000_scale is None or not stroke.any() or gain_findings(case):
        return math.nan
    inside, outside = log_drop(case, stroke), log_drop(case, brain & ~stroke)
    known, normal = inside[np.isfinite(inside)], outside[np.isfinite(outside)]
    if 2 * known.size <= inside.size or not normal.size or not np.median(normal) > 0:
        return math.nan
    return float(np.median(known) / np.median(normal))
