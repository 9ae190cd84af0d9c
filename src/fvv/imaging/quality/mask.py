"""Is the brain mask the brain?"""

from __future__ import annotations

import numpy as np

from fvv.arrays import FloatArray
from fvv.data import Finding, PreparedCase, Severity
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


def mask_findings(view: NativeView, prepared: PreparedCase, bounds_ml: tuple[float, float]) -> list[Finding]:
    """Volume out of bounds, mask collapsed onto the lesion, brain cut by the field of view."""
    return [*brain_volume_findings(prepared, bounds_ml), *_collapse_findings(view), *_edge_findings(view)]


def brain_volume_findings(prepared: PreparedCase, bounds_ml: tuple[float, float]) -> list[Finding]:
    """Is the mask as large as a brain? The lower bound shrinks for stacks that end inside the brain, and for no other:
    a whole brain in a stack that the header says is low is a wrong header.
    """
    extent_mm = prepared.n_slices * prepared.grid.spacing_mm[2]
    lower = bounds_ml[0] * (1.0 if closed_axes(prepared.brain)[2] else min(1.0, extent_mm / WHOLE_HEAD_MM))
    volume = float(prepared.brain.sum()) * prepared.voxel_volume_ml
    if lower <= volume <= bounds_ml[1]:
        return []
    message = f"the brain mask holds {volume:.0f} mL, expected {lower:.0f} to {bounds_ml[1]:.0f} mL"
    return [Finding("brain-volume", message, Severity.NOT_ASSESSABLE)]


def _collapse_findings(view: NativeView) -> list[Finding]:
    """A lesion many times brighter than tissue draws an Otsu threshold up until only the lesion is left."""
    bright = view.b0 - view.b0.min() > 0.5 * (_median(view.b0, view) - view.b0.min())
    if bright.sum() < TISSUE_OVER_MASK * view.brain.sum():
        return []  # Nor is its largest piece larger, which takes long to find.
    tissue = largest_component(bright)
    rest = tissue & ~view.brain
    ratio = float(tissue.sum() / view.brain.sum())
    if ratio < TISSUE_OVER_MASK or not rest.any():
        return []
    floor = float(view.b1000.min())
    brightness = (_median(view.b1000, view) - floor) / max(float(np.median(view.b1000[rest])) - floor, 1e-12)
    if brightness < MASK_OVER_TISSUE:
        return []
    message = (
        f"the brain mask has collapsed onto the lesion: it holds {1 / ratio:.0%} of the tissue, "
        f"{brightness:.1f} times brighter than the rest"
    )
    return [Finding("mask-on-lesion", message, Severity.NOT_ASSESSABLE)]


def _edge_findings(view: NativeView) -> list[Finding]:
    edge = view.brain.copy()
    edge[1:-1, 1:-1] = False
    share = float(edge.sum() / view.brain.sum())
    if share <= EDGE_SHARE or min(view.brain.shape[:2]) < 3:
        return []
    message = f"the brain reaches the edge of the image ({share:.1%} of the mask lies there): part of it may be missing"
    return [Finding("brain-at-edge", message, Severity.WARNING)]


def _median(image: FloatArray, view: NativeView) -> float:
    return float(np.median(image[view.brain]))
