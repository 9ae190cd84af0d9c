"""Apparent diffusion coefficient: from b0 and b1000 to a map, and from a map back to b0.

Signal of a diffusion-weighted image: S(b) = S(0) e^(-b ADC) (Stejskal & Tanner 1965, doi 10.1063/1.1695690).
"""

from __future__ import annotations

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.errors import InputError

DEFAULT_B = 1000.0
"""s/mm^2, where no file states b1000's."""
HIGHEST = 4e-3
"""mm^2/s: water at 37 degrees has 3.0e-3; what is computed beyond is noise."""
_UNITS = {"mm^2/s": 1.0, "10^-3 mm^2/s": 1e-3, "10^-6 mm^2/s": 1e-6}


def adc_map(b0: FloatArray, b1000: FloatArray, b_value: float) -> FloatArray:
    """ADC in mm^2/s, 0 to 4e-3; 0 where an image holds no signal.

    Args:
        b0, b1000: (i, j, k) raw intensities at one gain.
        b_value: of b1000, s/mm^2.
    """
    both = (b0 > 0) & (b1000 > 0)
    adc = np.zeros(b0.shape)
    adc[both] = np.log(b0[both] / b1000[both]) / b_value
    return np.clip(adc, 0.0, HIGHEST)


def lesion_adc(adc: FloatArray, stroke: BoolArray, brain: BoolArray) -> tuple[float, float, float] | None:
    """ADC inside the stroke; None where there is no stroke, or nothing to compare with.

    Args:
        adc: (i, j, k) mm^2/s.
        stroke, brain: (i, j, k) bool.

    Returns:
        Median and 10th percentile, 10^-6 mm^2/s, and the median over that of the brain outside the stroke.
    """
    inside, outside = adc[stroke], adc[brain & ~stroke]
    if not inside.size or not outside.size or not np.median(outside) > 0:
        return None
    median = float(np.median(inside))
    return median * 1e6, float(np.percentile(inside, 10)) * 1e6, median / float(np.median(outside))


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
