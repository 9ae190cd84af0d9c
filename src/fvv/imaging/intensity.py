"""Intensities: z-scores inside the brain."""

from __future__ import annotations

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.data import SignalScale
from fvv.errors import MaskError

MAD_TO_SD = 1.4826
"""Median absolute deviation to standard deviation of a normal distribution (Rousseeuw & Croux 1993,
doi 10.1080/01621459.1993.10476408)."""
OUTLIER_DEVIATIONS = 3.0


def same_range(b0: FloatArray, b1000: FloatArray) -> bool:
    """Were two images rescaled one by one, to 0-1 or to one maximum? A scanner's own never span the very same range.

    Args:
        b0, b1000: (i, j, k) raw intensities.
    """
    return bool(np.isclose(float(np.ptp(b0)), float(np.ptp(b1000))))


def reference_voxels(b1000: FloatArray, brain: BoolArray, *, outlier_robust: bool) -> BoolArray:
    """The voxels whose mean and deviation set the scale.

    Args:
        b1000: (i, j, k) raw intensities.
        brain: (i, j, k) brain mask.
        outlier_robust: leave out brain voxels over median + 3 * 1.4826 * MAD of b1000: a large bright infarct
            otherwise inflates the deviation and lifts the background.
    """
    if not outlier_robust:
        return brain
    values = b1000[brain]
    median = np.median(values)
    deviation = MAD_TO_SD * np.median(np.abs(values - median))
    return np.asarray(brain & (b1000 < median + OUTLIER_DEVIATIONS * deviation))


def signal_scale(image: FloatArray, reference: BoolArray) -> SignalScale:
    """Mean and population standard deviation over the reference voxels.

    Raises:
        MaskError: no reference voxel, or the image is constant there.
    """
    values = image[reference]
    if values.size == 0:
        raise MaskError("the brain mask is empty, so intensities have no scale")
    deviation = float(values.std())
    if not deviation > 0:
        raise MaskError("the image is constant inside the brain mask, so intensities have no scale")
    return SignalScale(float(values.mean()), deviation)


def zscore(image: FloatArray, scale: SignalScale, *, clip: float, dtype: str = "float16") -> FloatArray:
    """(image - mean) / deviation, cut to +-clip, as `dtype`."""
    return np.asarray(np.clip((image - scale.mean) / scale.deviation, -clip, clip), dtype=dtype)
