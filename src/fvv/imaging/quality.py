"""What may make a number untrustworthy, each with a code, a sentence and a severity."""

from __future__ import annotations

import numpy as np

from fvv.data import Case, Finding, PreparedCase, Severity
from fvv.imaging.geometry import to_working_grid

WHOLE_HEAD_MM = 100.0
"""A stack of slices shorter than this holds only a part of the brain."""
FEWEST_SLICES = 7
"""Fewer slices than the network looks at."""
CSF_SHARE = 0.03
"""The brightest part of the brain mask on b0 is cerebrospinal fluid: about a tenth of it is, so 3 % surely are."""


def assess_quality(
    case: Case, prepared: PreparedCase, *, brain_volume_bounds_ml: tuple[float, float]
) -> tuple[Finding, ...]:
    """Everything there is to say about an examination before its result is believed.

    Args:
        case: as read, on the native grid.
        prepared: the same, prepared.
        brain_volume_bounds_ml: a mask outside these is no brain.

    Returns:
        The findings of preparation, then ours.
    """
    findings = list(prepared.findings)
    findings += brain_volume_findings(prepared, brain_volume_bounds_ml)
    findings += _slice_findings(prepared)
    findings += _contrast_findings(case, prepared)
    return tuple(findings)


def brain_volume_findings(prepared: PreparedCase, bounds_ml: tuple[float, float]) -> list[Finding]:
    """Is the mask as large as a brain? The lower bound shrinks for stacks that hold only a part of a head."""
    extent_mm = prepared.n_slices * prepared.grid.spacing_mm[2]
    lower = bounds_ml[0] * min(1.0, extent_mm / WHOLE_HEAD_MM)
    volume = float(prepared.brain.sum()) * prepared.voxel_volume_ml
    if lower <= volume <= bounds_ml[1]:
        return []
    message = f"the brain mask holds {volume:.0f} mL, expected {lower:.0f} to {bounds_ml[1]:.0f} mL"
    return [Finding("brain-volume", message, Severity.NOT_ASSESSABLE)]


def _slice_findings(prepared: PreparedCase) -> list[Finding]:
    if prepared.n_slices >= FEWEST_SLICES:
        return []
    message = f"only {prepared.n_slices} slices; the network looks at {FEWEST_SLICES}"
    return [Finding("few-slices", message, Severity.WARNING)]


def _contrast_findings(case: Case, prepared: PreparedCase) -> list[Finding]:
    """Fluid is bright on b0 and dark on b1000; where it is the other way round, the files are swapped."""
    b0 = to_working_grid(case.b0.array, prepared.grid)[prepared.brain]
    b1000 = to_working_grid(case.b1000.array, prepared.grid)[prepared.brain]
    if np.array_equal(b0, b1000):
        return [Finding("same-image", "b0 and b1000 are the same image", Severity.NOT_ASSESSABLE)]
    dark_where_b0_bright = float((b1000[_brightest(b0)] < np.median(b1000)).mean())
    dark_where_b1000_bright = float((b0[_brightest(b1000)] < np.median(b0)).mean())
    if dark_where_b1000_bright > 0.5 > dark_where_b0_bright:
        message = "b0 and b1000 look swapped: fluid is bright on b1000 and dark on b0"
        return [Finding("swapped", message, Severity.NOT_ASSESSABLE)]
    return []


def _brightest(values: np.ndarray) -> np.ndarray:
    return np.asarray(values >= np.quantile(values, 1 - CSF_SHARE))
