"""Is the brain mask the brain, and do the ROIs of a labelled examination lie on its lesion?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fvv.arrays import FloatArray
from fvv.data import Finding, Severity
from fvv.imaging.brain import largest_component
from fvv.imaging.quality.shape import closed_axes
from fvv.imaging.quality.view import NativeView

WHOLE_HEAD_MM = 100.0
"""A stack of slices shorter than this holds only a part of the brain."""
TISSUE_OVER_MASK = 2.0
"""Tissue as bright on b0 as the mask's, in this many times its volume: the mask holds a part of the brain only."""
MASK_OVER_TISSUE = 1.5
"""And that part is this many times brighter on b1000 than the rest: it is the lesion."""
EDGE_SHARE = 0.005
"""Of the mask on the outermost rows and columns: the field of view ends inside the head."""
LEAST_BRIGHTNESS = 1.1
"""Median of b1000 inside the stroke ROI over that of the brain outside it. Right ROIs: 1.28 to 2.91; shifted, mirrored
or another patient's: 0.88 to 0.96."""
OUTSIDE_SHARE = 0.5
"""Of an ROI, outside what should hold it: more than a rough outline leaves there."""
_ELSEWHERE = "shifted, mirrored, or of another patient?"


def brain_volume(view: NativeView) -> Iterator[Finding]:
    """Is the mask as large as a brain? The lower bound shrinks for stacks that end inside the brain, and for no other:
    a whole brain in a stack that the header says is low is a wrong header.
    """
    prepared, (lower, upper) = view.prepared, view.brain_volume_bounds_ml
    if not closed_axes(prepared.brain)[2]:
        lower *= min(1.0, prepared.n_slices * prepared.grid.spacing_mm[2] / WHOLE_HEAD_MM)
    volume = float(prepared.brain.sum()) * prepared.voxel_volume_ml
    if not lower <= volume <= upper:
        message = f"the brain mask holds {volume:.0f} mL, expected {lower:.0f} to {upper:.0f} mL"
        yield Finding("brain-volume", message, Severity.NOT_ASSESSABLE)


def mask_on_lesion(view: NativeView) -> Iterator[Finding]:
    """A lesion many times brighter than tissue draws an Otsu threshold up until only the lesion is left."""
    bright = view.b0 - view.b0.min() > 0.5 * (_median(view.b0, view) - view.b0.min())
    if bright.sum() < TISSUE_OVER_MASK * view.brain.sum():
        return  # Nor is its largest piece larger, which takes long to find.
    tissue = largest_component(bright)
    rest = tissue & ~view.brain
    ratio = float(tissue.sum() / view.brain.sum())
    if ratio < TISSUE_OVER_MASK or not rest.any():
        return
    floor = float(view.b1000.min())
    brightness = (_median(view.b1000, view) - floor) / max(float(np.median(view.b1000[rest])) - floor, 1e-12)
    if brightness >= MASK_OVER_TISSUE:
        message = (
            f"the brain mask has collapsed onto the lesion: it holds {1 / ratio:.0%} of the tissue, "
            f"{brightness:.1f} times brighter than the rest"
        )
        yield Finding("mask-on-lesion", message, Severity.NOT_ASSESSABLE)


def brain_at_edge(view: NativeView) -> Iterator[Finding]:
    """Brain cut by the field of view."""
    edge = view.brain.copy()
    edge[1:-1, 1:-1] = False
    share = float(edge.sum() / view.brain.sum())
    if share > EDGE_SHARE and min(view.brain.shape[:2]) >= 3:
        message = (
            f"the brain reaches the edge of the image ({share:.1%} of the mask lies there): part of it may be missing"
        )
        yield Finding("brain-at-edge", message, Severity.WARNING)


def roi_places(view: NativeView) -> Iterator[Finding]:
    """Stroke ROI beside the brain, FLAIR-visible ROI beside the stroke ROI."""
    for name, roi, bound, within in (
        ("stroke ROI", view.stroke_roi, "the brain mask", view.brain),
        ("FLAIR-visible ROI", view.flair_visible_roi, "the stroke ROI", view.stroke_roi),
    ):
        if roi is None or within is None:
            continue
        share = float((roi & ~within).sum() / max(roi.sum(), 1))
        if share > OUTSIDE_SHARE:
            message = f"{share:.0%} of the {name} lies outside {bound}: {_ELSEWHERE}"
            yield Finding("roi-outside", message, Severity.WARNING)


def roi_brightness(view: NativeView) -> Iterator[Finding]:
    """An acute infarct is bright on b1000 wherever its ROI is right."""
    if view.stroke_roi is None:
        return
    inside, outside = view.b1000[view.stroke_roi & view.brain], view.b1000[view.brain & ~view.stroke_roi]
    if not inside.size or not outside.size:
        return
    floor = min(0.0, float(view.b1000.min()))
    typical = float(np.median(outside)) - floor
    ratio = (float(np.median(inside)) - floor) / typical if typical > 0 else np.inf
    if ratio < LEAST_BRIGHTNESS:
        message = (
            f"the stroke ROI is not on a lesion: its median b1000 is {ratio:.2f} times the brain's, expected over "
            f"{LEAST_BRIGHTNESS:g}: {_ELSEWHERE}"
        )
        yield Finding("roi-not-bright", message, Severity.WARNING)


def _median(image: FloatArray, view: NativeView) -> float:
    return float(np.median(image[view.brain]))
