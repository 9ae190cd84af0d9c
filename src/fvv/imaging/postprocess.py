"""What is taken out of a fused stroke: voxels where water diffuses as elsewhere, and pieces too small to believe.

Both only ever remove voxels, and doing either twice changes nothing more.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.config import PostprocessConfig
from fvv.data import PreparedCase
from fvv.errors import InputError
from fvv.imaging.fusion import StrokeFilter

_SMOOTHED_OVER = (3, 3, 1)
"""Voxels of the working grid: a voxel's own diffusion is too noisy to judge it by."""
_FAINTEST = 0.01
"""Of the brain's mean: fainter signals are lost in the rounding of the stored z-scores."""
_TOUCHING = np.ones((3, 3, 3))
"""Voxels that share a face, an edge or a corner are of one piece."""


def stroke_filter(case: PreparedCase, config: PostprocessConfig | None) -> StrokeFilter | None:
    """What `fuse_folds` is to do with this patient's stroke; None: nothing."""
    return None if config is None else partial(believable_stroke, case=case, config=config)


def believable_stroke(
    stroke: BoolArray, brain: BoolArray, *, case: PreparedCase, config: PostprocessConfig
) -> BoolArray:
    """The part of a stroke that the settings leave.

    Args:
        stroke: (i, j, k) fused stroke, inside the brain.
        brain: (i, j, k) fused brain.
        case: the patient, for the signals and the size of a voxel.
        config: what is done.

    Raises:
        InputError: diffusion is asked for, and the case was prepared without the scale of its signals.
    """
    if config.adc_gate is not None and stroke.any():
        # Not "under": what could not be measured (NaN) stays.
        stroke = stroke & ~(relative_diffusion(case, brain) >= config.adc_gate)
    if config.minimum_lesion_mm3:
        stroke = without_small_pieces(stroke, config.minimum_lesion_mm3, 1000 * case.voxel_volume_ml)
    return stroke


def relative_diffusion(case: PreparedCase, brain: BoolArray) -> FloatArray:
    """ADC over the brain's median ADC, as ln(b0 / b1000) averaged over 3 x 3 voxels in plane.

    The b-value cancels out. The signals are taken back from the z-scores, so that a stored patient and a new one give
    the same numbers; b0 and b1000 must come from one scan at one gain.

    Args:
        case: the patient.
        brain: (i, j, k) bool.

    Returns:
        (i, j, k) float64; NaN where neither the voxel nor a neighbour lies in the brain and holds a signal, and
        everywhere if the brain's median is no diffusion at all.

    Raises:
        InputError: the case was prepared without the scale of its signals.
    """
    if case.b0_scale is None or case.b1000_scale is None:
        raise InputError(
            "prepared by a version that kept no signal scale: the ADC gate cannot be applied",
            patient=case.patient,
            hint="run `fvv prepare --overwrite`, or leave adc_gate off",
        )
    b0, b1000 = (
        image.astype(np.float64) * scale.deviation + scale.mean
        for image, scale in ((case.b0, case.b0_scale), (case.b1000, case.b1000_scale))
    )
    # Inside the brain only: the air and skull around it would otherwise blur into its rim.
    measured = brain & (b0 > _FAINTEST * case.b0_scale.mean) & (b1000 > _FAINTEST * case.b1000_scale.mean)
    decay = np.zeros(b0.shape)
    decay[measured] = np.log(b0[measured] / b1000[measured])
    near = ndimage.uniform_filter(measured.astype(np.float64), _SMOOTHED_OVER)
    smoothed = np.full(b0.shape, np.nan)
    known = near > 0.5 / np.prod(_SMOOTHED_OVER)
    smoothed[known] = ndimage.uniform_filter(decay, _SMOOTHED_OVER)[known] / near[known]
    inside = smoothed[measured]
    usual = float(np.median(inside)) if inside.size else np.nan
    return smoothed / usual if usual > 0 else np.full(b0.shape, np.nan)


def without_small_pieces(mask: BoolArray, minimum_mm3: float, voxel_mm3: float) -> BoolArray:
    """The pieces of a mask that are no smaller than a volume; voxels that touch by a corner are of one piece."""
    labels, _ = ndimage.label(mask, structure=_TOUCHING)
    # A billionth of tolerance: a piece of exactly the volume stays, whatever the rounding of the product.
    kept = np.bincount(labels.ravel()) * voxel_mm3 >= minimum_mm3 * (1 - 1e-9)
    kept[0] = False
    return np.asarray(kept[labels])
