"""What may make a number untrustworthy, each with a code, a sentence and a severity.

One module for each thing looked at: `signal` the numbers stored, `contrast` what kind of image it is, `mask` the brain
mask, `shape` its size and place, `stack` the slices, `rois` what readers outlined, `alignment` whether b0 and b1000 lie
on each other, `usual` how far this patient lies from those the models were trained on. The thresholds stand beside the
checks; docs/explanation/quality.md says how far from them clean examinations lie.
"""

from __future__ import annotations

from collections.abc import Mapping

from fvv.arrays import BoolArray
from fvv.data import Case, Finding, PreparedCase
from fvv.imaging.adc import gain_findings
from fvv.imaging.quality.alignment import alignment_findings
from fvv.imaging.quality.contrast import contrast_findings
from fvv.imaging.quality.mask import brain_volume_findings, mask_findings
from fvv.imaging.quality.rois import roi_findings
from fvv.imaging.quality.shape import shape_findings
from fvv.imaging.quality.signal import signal_findings
from fvv.imaging.quality.stack import stack_findings
from fvv.imaging.quality.usual import unusual_findings
from fvv.imaging.quality.view import NativeView, native_view

__all__ = ["assess_labelled_case", "assess_quality", "brain_volume_findings"]


def assess_quality(
    case: Case,
    prepared: PreparedCase,
    *,
    brain_volume_bounds_ml: tuple[float, float],
    not_finite: BoolArray | None = None,
    usual_range: Mapping[str, tuple[float, float]] | None = None,
) -> tuple[Finding, ...]:
    """Everything there is to say about an examination before its result is believed.

    Args:
        case: as read, on the native grid, finite everywhere.
        prepared: the same, prepared.
        brain_volume_bounds_ml: a mask outside these is no brain.
        not_finite: (i, j, k) voxels that were not finite before `without_gaps` filled them.
        usual_range: of each feature of `fvv.imaging.quality.usual`, the range of the training cohort.

    Returns:
        The findings of preparation, then ours.
    """
    return _found(native_view(case, prepared, not_finite), case, prepared, brain_volume_bounds_ml, usual_range)


def assess_labelled_case(
    case: Case,
    prepared: PreparedCase,
    *,
    brain_volume_bounds_ml: tuple[float, float],
    not_finite: BoolArray | None = None,
    usual_range: Mapping[str, tuple[float, float]] | None = None,
) -> tuple[Finding, ...]:
    """Everything `assess_quality` says, and whether the ROIs lie on this patient's lesion.

    Args:
        case: as read with its ROIs, on the native grid, finite everywhere.
        prepared: the same, prepared.
        brain_volume_bounds_ml: as in `assess_quality`, as are the last two.
        not_finite: (i, j, k) voxels that were not finite before `without_gaps` filled them.
        usual_range: of each feature, the range of the training cohort.

    Returns:
        The findings of preparation, of `assess_quality`, then those about the ROIs, which are warnings.
    """
    view = native_view(case, prepared, not_finite)
    return *_found(view, case, prepared, brain_volume_bounds_ml, usual_range), *roi_findings(case, view)


def _found(
    view: NativeView,
    case: Case,
    prepared: PreparedCase,
    brain_volume_bounds_ml: tuple[float, float],
    usual_range: Mapping[str, tuple[float, float]] | None,
) -> tuple[Finding, ...]:
    return (
        *prepared.findings,
        *signal_findings(view),
        *mask_findings(view, prepared, brain_volume_bounds_ml),
        *shape_findings(view),
        *stack_findings(view),
        *contrast_findings(view, case.b_value),
        *alignment_findings(view),
        *gain_findings(prepared),
        *unusual_findings(prepared, usual_range or {}),
    )
