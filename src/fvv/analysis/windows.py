"""Grey windows of the reader's page: one rule for all patients, said on the page."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray, UInt8Array
from fvv.data import Case, Prediction

WHITE_B1000, WHITE_B0 = 2.5, 3.0
"""White, as a multiple of the brain's median outside the stroke (chosen here): on b1000 an acute infarct, at about
twice the brain, is bright and not yet white; on b0 fluid is."""
WHITE_ADC = 2.0e-3
"""mm^2/s (chosen here): the healthy brain, at 0.8e-3, is a dark grey, an acute infarct darker, fluid white."""
NEAR_BRAIN_MM = 6.0
"""Distance from the predicted brain up to which ADC is shown (chosen here)."""
RULE = (
    f"Grey, by one rule for every patient: black is the image's background, white on b1000 {WHITE_B1000:g} x (b0 "
    f"{WHITE_B0:g} x) the median of the brain outside the stroke; ADC 0 to {1e3 * WHITE_ADC:g} x 10⁻³ mm²/s, black "
    f"where it cannot be computed and further than {NEAR_BRAIN_MM:g} mm from the brain."
)


def tissue_window(image: FloatArray, white: float, brain: BoolArray, stroke: BoolArray | None = None) -> UInt8Array:
    """Window an image to 0..255 by its background and the brain's median.

    Args:
        image: (i, j, k), any intensity scale; non-finite voxels become 0.
        white: multiple of the median that becomes 255.
        brain: (i, j, k) bool; empty: the voxels above the image's mean stand for it.
        stroke: (i, j, k) bool, left out of the median unless it is more than half of the brain.
    """
    values = np.asarray(image, dtype=np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, dtype=np.uint8)
    # Every second voxel along the first axis: a percentile of two million takes a tenth of a second.
    black = float(np.percentile(values[::2][finite[::2]], 0.5)) if finite[::2].any() else 0.0
    inside = finite & brain if brain.any() else finite & (values > values[finite].mean())
    if stroke is not None and 2 * np.count_nonzero(inside & stroke) < np.count_nonzero(inside):
        inside &= ~stroke
    span = white * (float(np.median(values[inside])) - black) if inside.any() else 0.0
    if span <= 0:
        return np.zeros(values.shape, dtype=np.uint8)
    scaled = np.where(finite, (values - black) * np.float32(255 / span), 0)
    return np.asarray(np.clip(scaled + 0.5, 0, 255), dtype=np.uint8)


def adc_window(adc: FloatArray, brain: BoolArray, spacing_mm: tuple[float, float, float]) -> UInt8Array:
    """ADC from 0 to `WHITE_ADC` as 0..255, near the brain: noise in the air would dazzle.

    Args:
        adc: (i, j, k) mm^2/s, NaN where not measured.
        brain: (i, j, k) bool; empty: the whole image is shown.
        spacing_mm: voxel edges.
    """
    grey = np.asarray(np.clip(np.nan_to_num(adc) * np.float32(255 / WHITE_ADC) + 0.5, 0, 255), dtype=np.uint8)
    near = brain
    for axis, edge in enumerate(spacing_mm):
        reach = int(NEAR_BRAIN_MM / edge)
        near = ndimage.maximum_filter1d(near, 2 * reach + 1, axis=axis) if reach else near
    return np.where(near, grey, np.uint8(0)) if brain.any() else grey


def reader_images(case: Case, prediction: Prediction) -> dict[str, UInt8Array]:
    """What a reader looks at, (i, j, k) grey levels on the native grid: b1000, ADC where it was measured, b0."""
    nothing = np.zeros(case.b1000.array.shape, dtype=bool)
    brain = nothing if prediction.brain is None else prediction.brain
    images = {"b1000": tissue_window(case.b1000.array, WHITE_B1000, brain, prediction.stroke)}
    if prediction.adc is not None:
        images["ADC"] = adc_window(prediction.adc, brain, case.b1000.spacing_mm)
    images["b0"] = tissue_window(case.b0.array, WHITE_B0, brain, prediction.stroke)
    return images
