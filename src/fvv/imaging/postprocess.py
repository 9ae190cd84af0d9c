"""What is taken out of a fused stroke: voxels where water diffuses as elsewhere, and pieces too small to believe.

Both only ever remove voxels, and doing either twice changes nothing more.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.config import PostprocessConfig
from fvv.data import Finding, PreparedCase, Severity
from fvv.imaging.adc import gain_findings, log_drop
from fvv.imaging.fusion import StrokeFilter

_SMOOTHED_OVER = (3, 3, 1)
"""Voxels of the working grid: a voxel's own diffusion is too noisy to judge it by."""
_TOUCHING = np.ones((3, 3, 3))
"""Voxels that share a face, an edge or a corner are of one piece."""


def stroke_filter(case: PreparedCase, config: PostprocessConfig | None) -> StrokeFilter | None:
    """What `fuse_folds` is to do with this patient's stroke; None: nothing."""
    return None if config is None else partial(believable_stroke, case=case, config=config)


def believable_stroke(
    stroke: BoolArray, brain: BoolArray, *, case: PreparedCase, config: PostprocessConfig
) -> BoolArray:
    """The part of a stroke that the settings leave; the ADC gate does nothing where b0 and b1000 share no gain.

    Args:
        stroke: (i, j, k) fused stroke, inside the brain.
        brain: (i, j, k) fused brain.
        case: the patient, for the signals and the size of a voxel.
        config: what is done.

    Raises:
        InputError: diffusion is asked for, and the case was prepared without the scale of its signals.
    """
    if config.adc_gate is not None and stroke.any() and not gain_findings(case):
        # Not "under": what could not be measured (NaN) stays.
        stroke = stroke & ~(relative_diffusion(case, brain) >= config.adc_gate)
    if config.minimum_lesion_mm3:
        stroke = without_small_pieces(stroke, config.minimum_lesion_mm3, 1000 * case.voxel_volume_ml)
    return stroke


def postprocess_findings(
    stroke: BoolArray, *, case: PreparedCase, config: PostprocessConfig | None
) -> tuple[Finding, ...]:
    """What could not be done of what the settings ask for.

    Args:
        stroke: (i, j, k) what `believable_stroke` left.
        case: the patient.
        config: what was asked for.
    """
    if config is None or config.adc_gate is None or not stroke.any() or not gain_findings(case):
        return ()
    message = "b0 and b1000 share no gain: false alarms were not taken out of the stroke by their diffusion (adc_gate)"
    return (Finding("adc-gate-skipped", message, Severity.WARNING),)


def relative_diffusion(case: PreparedCase, brain: BoolArray) -> FloatArray:
    """ADC over the brain's median ADC, as ln(b0 / b1000) averaged over 3 x 3 voxels in plane.

    The b-value cancels out; the gains must be one (see `gain_findings`).

    Args:
        case: the patient.
        brain: (i, j, k) bool.

    Returns:
        (i, j, k) float64; NaN where neither the voxel nor a neighbour lies in the brain and holds a signal, and
        everywhere if the brain's median is no diffusion at all.

    Raises:
        InputError: the case was prepared without the scale of its signals.
    """
    # Inside the brain only: the air and skull around it would otherwise blur into its rim.
    decay = log_drop(case, brain)
    measured = np.isfinite(decay)
    decay[~measured] = 0.0
    near = ndimage.uniform_filter(measured.astype(np.float64), _SMOOTHED_OVER)
    smoothed = np.full(decay.shape, np.nan)
    known = near > 0.5 / np.prod(_SMOOTHED_OVER)
    smoothed[known] = ndimage.uniform_filter(decay, _SMOOTHED_OVER)[known] / near[known]
    inside = smoothed[measured]
    usual = float(np.median(inside)) if inside.size else np.nan
    return smoothed / usual if usual > 0 else np.full(decay.shape, np.nan)


def without_small_pieces(mask: BoolArray, minimum_mm3: float, voxel_mm3: float) -> BoolArray:
    """The pieces of a mask that are no smaller than a volume; voxels that touch by a corner are of one piece."""
    labels, _ = ndimage.label(mask, structure=_TOUCHING)
    # A billionth of tolerance: a piece of exactly the volume stays, whatever the rounding of the product.
    kept = np.bincount(labels.ravel()) * voxel_mm3 >= minimum_mm3 * (1 - 1e-9)
    kept[0] = False
    return np.asarray(kept[labels])
