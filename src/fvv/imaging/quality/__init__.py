"""What may make a number untrustworthy, each with a code, a sentence and a severity.

To add a check: write a generator that takes a `NativeView` and yields a `Finding` where something is wrong, its limits
as documented constants beside it, in the module of what it looks at; name it in `CHECKS`; add its code to
docs/explanation/quality.md, which also says how far clean examinations lie from the limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fvv.arrays import BoolArray
from fvv.data import Case, Finding, PreparedCase
from fvv.imaging.quality import alignment, contrast, masks, shape, signal, stack, usual
from fvv.imaging.quality.view import NativeView, native_view

Check = Callable[[NativeView], Iterable[Finding]]
CHECKS: tuple[Check, ...] = (
    signal.missing_numbers,
    signal.grey_levels,
    signal.noise,
    masks.brain_volume,
    masks.mask_on_lesion,
    masks.brain_at_edge,
    shape.size_and_axes,
    stack.number_of_slices,
    stack.slice_spacing,
    stack.blank_slices,
    stack.cut_ends,
    stack.repeated_slices,
    stack.motion,
    contrast.stated_b_value,
    contrast.kind_of_image,
    alignment.displacement,
    contrast.common_gain,
    usual.unlike_training,
    masks.roi_places,
    masks.roi_brightness,
)
"""Every check, in the order in which findings are listed."""


def assess_quality(
    case: Case,
    prepared: PreparedCase,
    *,
    brain_volume_bounds_ml: tuple[float, float],
    not_finite: BoolArray | None = None,
    usual_range: Mapping[str, tuple[float, float]] | None = None,
) -> tuple[Finding, ...]:
    """Everything there is to say about an examination, and about its ROIs if it has some, before it is believed.

    Args:
        case: as read, on the native grid, finite everywhere.
        prepared: the same, prepared.
        brain_volume_bounds_ml: a mask outside these is no brain.
        not_finite: (i, j, k) voxels that were not finite before `without_gaps` filled them.
        usual_range: of each feature of `fvv.imaging.quality.usual`, the range of the training cohort.

    Returns:
        The findings of preparation, then those of `CHECKS`.
    """
    view = native_view(
        case,
        prepared,
        brain_volume_bounds_ml=brain_volume_bounds_ml,
        not_finite=not_finite,
        usual_range=usual_range,
    )
    return (*prepared.findings, *(finding for check in CHECKS for finding in check(view)))
