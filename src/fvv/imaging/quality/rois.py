"""Do the ROIs lie on this patient's lesion? An acute infarct is bright on b1000 wherever its ROI is right."""

from __future__ import annotations

import numpy as np

from fvv.arrays import BoolArray
from fvv.data import Case, Finding, Severity
from fvv.imaging.quality.view import NativeView, to_view

LEAST_BRIGHTNESS = 1.1
"""Median of b1000 inside the stroke ROI over that of the brain outside it. Right ROIs: 1.28 to 2.91; shifted, mirrored
or another patient's: 0.88 to 0.96."""
OUTSIDE_SHARE = 0.5
"""Of an ROI, outside what should hold it: more than a rough outline leaves there."""


def roi_findings(case: Case, view: NativeView) -> list[Finding]:
    """Stroke ROI no brighter than the brain or beside it; FLAIR-visible ROI beside the stroke ROI.

    Args:
        case: with its ROIs, on the native grid; without, nothing is said.
        view: the same examination.
    """
    if case.stroke_roi is None:
        return []
    stroke = np.asarray(to_view(case.stroke_roi.array, view))
    found = _outside("stroke ROI", stroke, "the brain mask", view.brain)
    if case.flair_visible_roi is not None:
        visible = np.asarray(to_view(case.flair_visible_roi.array, view))
        found += _outside("FLAIR-visible ROI", visible, "the stroke ROI", stroke)
    return found + _brightness_findings(stroke, view)


def _outside(name: str, roi: BoolArray, bound: str, within: BoolArray) -> list[Finding]:
    share = float((roi & ~within).sum() / max(roi.sum(), 1))
    if share <= OUTSIDE_SHARE:
        return []
    message = f"{share:.0%} of the {name} lies outside {bound}: shifted, mirrored, or of another patient?"
    return [Finding("roi-outside", message, Severity.WARNING)]


def _brightness_findings(stroke: BoolArray, view: NativeView) -> list[Finding]:
    inside, outside = view.b1000[stroke & view.brain], view.b1000[view.brain & ~stroke]
    if not inside.size or not outside.size:
        return []
    floor = min(0.0, float(view.b1000.min()))
    typical = float(np.median(outside)) - floor
    ratio = (float(np.median(inside)) - floor) / typical if typical > 0 else np.inf
    if ratio >= LEAST_BRIGHTNESS:
        return []
    message = (
        f"the stroke ROI is not on a lesion: its median b1000 is {ratio:.2f} times the brain's, expected over "
        f"{LEAST_BRIGHTNESS:g}: shifted, mirrored, or of another patient?"
    )
    return [Finding("roi-not-bright", message, Severity.WARNING)]
