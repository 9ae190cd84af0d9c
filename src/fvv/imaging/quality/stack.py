"""The slices: are they axial, all there, close enough, and at one place?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fvv.arrays import FloatArray
from fvv.data import Finding, Severity
from fvv.imaging.quality.view import NativeView

FEWEST_SLICES = 7
"""Fewer slices than the network looks at."""
TOO_FEW_SLICES = 3
"""A slice with neighbours on both sides is the least that can be called a stack."""
THICK_OVER_THIN = 1.5
"""The thickest voxel edge over the slice spacing: the images were not acquired axially."""
LARGE_GAP_MM = 10.0
"""Clinical diffusion has 3 to 6.5 mm from slice to slice; beyond 10 mm lesions fall between the slices."""
USELESS_GAP_MM = 15.0
ALONE_SHARE = 0.05
"""Tissue in a slice that only one image holds, over the brain in the largest: less is the rim of a head that each image
was cut out of by itself."""
CUT_SLICE_SHARE = 0.6
"""Brain in the first or last slice over that in the largest: the stack ends inside the brain (clean: under 0.42)."""
MOTION_MM = 1.5
"""Median over slices of how far a slice's centre lies from the middle of its neighbours' (clean: under 0.75 mm)."""
MOST_NAMED = 5
"""Pairs of slices in a message."""
DROPOUT = 0.7
"""A slice's median b1000 over that of its neighbours (clean: over 0.93)."""


def number_of_slices(view: NativeView) -> Iterator[Finding]:
    """Too few slices with an image."""
    n = len(view.imaged_slices)
    if n < FEWEST_SLICES:
        message = f"only {n} slices with an image; the network looks at {FEWEST_SLICES}"
        yield Finding("few-slices", message, Severity.NOT_ASSESSABLE if n < TOO_FEW_SLICES else Severity.WARNING)


def slice_spacing(view: NativeView) -> Iterator[Finding]:
    """Slices that are not axial, or far apart."""
    dx, dy, dz = view.spacing_mm
    if max(dx, dy) > THICK_OVER_THIN * dz:
        message = f"not axial: voxels are thickest in plane ({dx:.1f} x {dy:.1f} mm, slices every {dz:.1f} mm)"
        yield Finding("slice-axis", message, Severity.NOT_ASSESSABLE)
    elif dz > LARGE_GAP_MM:
        severity = Severity.NOT_ASSESSABLE if dz > USELESS_GAP_MM else Severity.WARNING
        yield Finding("slice-gap", f"slices lie {dz:.1f} mm apart: lesions between them are not seen", severity)


def blank_slices(view: NativeView) -> Iterator[Finding]:
    """Slices without an image between slices that hold one, and slices anywhere with one of the two images only.

    At the ends of the stack both may be empty: a stack is padded, and a mask may reach into the padding. Between, where
    our mask, being of one piece, may end at the very gap, they may not.
    """
    b0, b1000 = view.with_b0, view.with_b1000
    areas, imaged = view.slice_areas, view.imaged_slices
    if not areas[imaged].any():
        yield Finding("missing-slices", "no slice with brain holds an image", Severity.NOT_ASSESSABLE)
        return
    inside = np.zeros_like(b0)
    inside[imaged[0] : imaged[-1]] = True
    missing, alone = inside & ~(b0 & b1000), b0 != b1000
    if (missing | alone).any():
        tissue = np.maximum(_tissue_areas(view.b0, view), _tissue_areas(view.b1000, view))
        refused = missing | (alone & (tissue > ALONE_SHARE * areas.max()))
        numbers = ", ".join(str(k + 1) for k in np.flatnonzero(missing | alone))
        message = f"slices without an image inside the stack, or with one of b0 and b1000 only: {numbers}"
        yield Finding("missing-slices", message, Severity.NOT_ASSESSABLE if refused.any() else Severity.WARNING)


def cut_ends(view: NativeView) -> Iterator[Finding]:
    """Brain cut off at an end of the stack; slices padded beyond it are no end."""
    imaged, areas = view.imaged_slices, view.slice_areas
    for end, area in (("bottom", areas[imaged[0]]), ("top", areas[imaged[-1]])) if imaged else ():
        if area > CUT_SLICE_SHARE * areas.max():
            message = f"the slices end inside the brain: the {end} one holds {area / areas.max():.0%} of the largest"
            yield Finding("brain-cut-by-slices", message, Severity.WARNING)


def repeated_slices(view: NativeView) -> Iterator[Finding]:
    """Noise alone makes two slices differ: one was copied, perhaps to replace one that was lost."""
    imaged = view.imaged_slices
    pairs = [
        f"{k + 1} and {k + 2}"
        for k in imaged[:-1]
        if k + 1 in imaged and all(np.array_equal(image[..., k], image[..., k + 1]) for image in (view.b0, view.b1000))
    ]
    if pairs:
        more = f" and {len(pairs) - MOST_NAMED} more" if len(pairs) > MOST_NAMED else ""
        message = f"neighbouring slices are one image: {', '.join(pairs[:MOST_NAMED])}{more}: copied, or resampled?"
        yield Finding("repeated-slices", message, Severity.WARNING)


def motion(view: NativeView) -> Iterator[Finding]:
    """Neighbouring slices at different places, slices without signal; where enough slices lie in one row."""
    inner = view.inner_slices
    if len(inner) < 5 or not (np.diff(inner) == 1).all():
        return
    typical = max(_typical_jump_mm(image, view, inner) for image in (view.b0, view.b1000))
    if typical > MOTION_MM:
        message = f"motion between slices: neighbours are displaced by {typical:.1f} mm (median)"
        yield Finding("motion", message, Severity.WARNING)
    floor = float(view.b1000.min())
    level = np.array([np.median(view.b1000[..., k][view.brain[..., k]]) - floor for k in inner])
    relative = level[1:-1] / np.maximum((level[:-2] + level[2:]) / 2, 1e-12)
    if dark := [inner[place + 1] + 1 for place in np.flatnonzero(relative < DROPOUT)]:
        message = f"b1000 loses signal in slices {', '.join(map(str, dark))}: motion, or a failed excitation"
        yield Finding("signal-dropout", message, Severity.WARNING)


def _tissue_areas(image: FloatArray, view: NativeView) -> FloatArray:
    """(k,) voxels of each slice over half the brain's median; the mask itself needs both images."""
    floor = image.min()
    return np.asarray((image - floor > 0.5 * (np.median(image[view.brain]) - floor)).sum(axis=(0, 1)), dtype=np.float64)


def _typical_jump_mm(image: FloatArray, view: NativeView, inner: list[int]) -> float:
    """How far a slice's head lies from the middle of its neighbours', median over slices.

    The head's centre is that of its intensities, cut off at the tissue's so that no lesion pulls it. The brain mask
    would not do: its median filter joins neighbouring slices.
    """
    tissue = float(np.median(image[view.core]) - image.min())
    head = np.clip(image[..., inner] - image.min(), 0.3 * tissue, tissue) - 0.3 * tissue
    weight = np.maximum(head.sum(axis=(0, 1)), 1e-12)
    along_i = (head.sum(axis=1) * np.arange(head.shape[0])[:, None]).sum(axis=0) * view.spacing_mm[0] / weight
    along_j = (head.sum(axis=0) * np.arange(head.shape[1])[:, None]).sum(axis=0) * view.spacing_mm[1] / weight
    jumps = [np.abs(centre[1:-1] - (centre[:-2] + centre[2:]) / 2) for centre in (along_i, along_j)]
    return float(np.median(np.maximum(*jumps)))
