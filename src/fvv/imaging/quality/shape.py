"""Has the brain the size of one, and does it lie as the affine says?

The numbers beside the limits are those of 13 real volunteers, two stroke patients (three vendors, heads tilted, prone
and on the side) and 16 simulated patients, inside the mask that the robust profiles find.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.data import Finding, Severity
from fvv.imaging.quality.view import NativeView

OPEN_END_SHARE = 0.5
"""A slab across an end of the stack with more brain than this, of the largest, ends inside it (whole: under 0.43)."""
SMALLEST_MM = (85.0, 110.0, 60.0)
LARGEST_MM = (175.0, 215.0, 190.0)
"""Extent of a brain left-right, front-back, foot-head between the 1st and 99th percentile of its voxels. Seen: 107 to
139, 141 to 172, 108 to 138 mm. A side where the brain is cut off may be shorter."""
MIRROR_MARGIN = 0.04
"""By how much better another plane mirrors the brain than the best one within 45 degrees of the sagittal does. Seen
where axes are right: -0.11 to -0.005."""
FACES_BACK = -0.06
"""Skewness of the brain from back to front. Seen: 0.14 to 0.30; facing backwards the same below 0."""
UPSIDE_DOWN = 0.05
"""Mean of front-back squared times foot-head, in standard deviations along the principal axes of the side view: the
brain is longest low down. Seen: -0.28 to -0.11; upside down the same above 0."""
_TYPICAL_MM = (120.0, 155.0, 120.0)
_AXES = ("left-right", "front-back", "foot-head")
_LETTERS = "xyz"
_MOST_POINTS = 2_000
_MANY_POINTS = 40_000
_GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, modulo 1, fill the unit interval evenly."""
_DIRECTIONS = 100
_OFFSETS_MM = (-4.0, 0.0, 4.0)


def size_and_axes(view: NativeView) -> Iterator[Finding]:
    """Size that no adult brain has; axes in another order, or running another way, than the affine says."""
    if not view.brain.any():
        return
    closed = closed_axes(view.brain)
    extents = extents_mm(view.brain, view.spacing_mm)
    if wrong := _implausible(extents, closed):
        size = " x ".join(f"{extent:.0f}" for extent in extents)
        message = f"no adult brain measures {size} mm ({', '.join(_AXES)}; {wrong}): {_cause_of_size(view, closed)}"
        yield Finding("brain-size", message, Severity.NOT_ASSESSABLE)
    elif wrong := _misplaced(view, extents) if all(closed) else _turned_in_plane(view, extents, closed):
        message = (
            f"the brain does not lie as the affine says: {wrong}; the array's axes are probably in another order than "
            "the affine's, or run the other way"
        )
        yield Finding("head-axes", message, Severity.NOT_ASSESSABLE)


def closed_axes(brain: BoolArray) -> tuple[bool, bool, bool]:
    """For each axis, whether the brain is whole along it: its first and last layer are small."""
    closed = []
    for axis in range(3):
        areas = brain.sum(axis=tuple(other for other in range(3) if other != axis))
        held = areas[areas > 0]
        closed.append(bool(held.size and max(held[0], held[-1]) <= OPEN_END_SHARE * held.max()))
    return closed[0], closed[1], closed[2]


def extents_mm(brain: BoolArray, spacing_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    """From the 1st to the 99th percentile of the brain's voxels along each axis; of one slice, its thickness."""
    found = []
    for axis, edge in enumerate(spacing_mm):
        share = np.cumsum(brain.sum(axis=tuple(other for other in range(3) if other != axis)))
        low, high = np.searchsorted(share, (0.01 * share[-1], 0.99 * share[-1]))
        found.append(float(high - low + 1) * edge)
    return found[0], found[1], found[2]


def _implausible(extents: tuple[float, ...], closed: tuple[bool, ...]) -> str:
    """Which extent no brain has; "" where all are possible. A slab from the top or the bottom of one may be narrow."""
    for name, extent, low, high, whole in zip(_AXES, extents, SMALLEST_MM, LARGEST_MM, closed, strict=True):
        if extent > high:
            return f"{name} at most {high:.0f}"
        if whole and closed[2] and extent < low:
            return f"{name}, with nothing cut off, at least {low:.0f}"
    return ""


def _cause_of_size(view: NativeView, closed: tuple[bool, ...]) -> str:
    voxels = extents_mm(view.brain, (1.0, 1.0, 1.0))
    if np.allclose(view.spacing_mm, 1.0, atol=1e-3):
        return "the header says 1 x 1 x 1 mm a voxel, probably because a converter lost the true size"
    likely = []
    for order in permutations(range(3)):
        turned, ends = [0.0, 0.0, 0.0], [True, True, True]
        for axis, place in enumerate(order):
            turned[place], ends[place] = voxels[axis] * view.spacing_mm[place], closed[axis]
        if not _implausible(tuple(turned), tuple(ends)):
            unlikeness = float((np.log(np.array(turned) / _TYPICAL_MM) ** 2).sum())
            likely.append((unlikeness, ", ".join(_LETTERS[place] for place in order)))
    if likely:
        return f"the array's axes are probably in the order ({min(likely)[1]}), the affine's are (x, y, z)"
    return "the voxel size in the header is probably wrong"


def _misplaced(view: NativeView, extents: tuple[float, float, float]) -> str:
    width, length, height = extents
    if length < max(width, height):
        axis = _AXES[0] if width > height else _AXES[2]
        return f"it is longer {axis} ({max(width, height):.0f} mm) than front-back ({length:.0f} mm)"
    if (margin := _mirror_margin(view)) > MIRROR_MARGIN:
        return f"its halves do not mirror each other left-right, as they do across another plane (by {margin:.2f} Dice)"
    skewness, lowness = _moments(view)
    if skewness < FACES_BACK:
        return "it faces backwards"
    if lowness > UPSIDE_DOWN:
        return "it is upside down"
    return ""


def _turned_in_plane(view: NativeView, extents: tuple[float, float, float], closed: tuple[bool, ...]) -> str:
    """Of a slab of axial slices, only this can be told. Low slices may be wider than long, but not mirror so."""
    width, length, _ = extents
    if not (closed[0] and closed[1]) or width <= length or _mirror_margin(view, in_plane=True) <= 0:
        return ""
    return f"it is longer left-right ({width:.0f} mm) than front-back ({length:.0f} mm), and mirrors front-back"


def _mirror_margin(view: NativeView, *, in_plane: bool = False) -> float:
    """Best share of the brain that a mirror farther than 45 degrees from the sagittal plane maps onto it, less that of
    one nearer.

    Args:
        view: the examination.
        in_plane: only mirrors that leave each slice to itself.
    """
    spacing = np.array(view.spacing_mm)
    points = _places(view, _MOST_POINTS)
    centre = _places(view, _MANY_POINTS).mean(axis=0)
    padded = np.pad(view.brain, 1)
    best = {True: 0.0, False: 0.0}
    for normal in _directions(in_plane=in_plane):
        depth = (points - centre) @ normal
        for offset in _OFFSETS_MM:
            mirrored = points - 2 * np.outer(depth - offset, normal)
            places = np.clip(np.rint(mirrored / spacing).astype(int) + 1, 0, np.array(padded.shape) - 1)
            sagittal = bool(abs(normal[0]) >= np.sqrt(0.5))
            best[sagittal] = max(best[sagittal], float(padded[tuple(places.T)].mean()))
    return best[False] - best[True]


def _directions(*, in_plane: bool) -> FloatArray:
    """(n, 3) unit vectors, evenly over half a sphere (Fibonacci lattice) and the three axes; or over half a circle."""
    if in_plane:
        angle = np.deg2rad(np.arange(0.0, 180.0, 7.5))
        return np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    number = np.arange(_DIRECTIONS) + 0.5
    cosine = number / _DIRECTIONS
    angle = np.pi * (1 + 5**0.5) * number
    sine = np.sqrt(1 - cosine**2)
    lattice = np.stack([sine * np.cos(angle), sine * np.sin(angle), cosine], axis=1)
    return np.concatenate([np.eye(3), lattice])


def _places(view: NativeView, most: int) -> FloatArray:
    """(n, 3) mm, of so many brain voxels evenly chosen, or of all; a fixed step could beat with the length of a row."""
    voxels = np.flatnonzero(view.brain)
    if len(voxels) > most:
        golden = (np.arange(most) * _GOLDEN) % 1.0
        voxels = voxels[(golden * len(voxels)).astype(np.intp)]
    return np.asarray(np.stack(np.unravel_index(voxels, view.brain.shape), axis=1) * np.array(view.spacing_mm))


def _moments(view: NativeView) -> tuple[float, float]:
    """Skewness from back to front; and, however the head nods, whether its length lies low (below 0) or high."""
    places = _places(view, _MANY_POINTS)
    side = (places - places.mean(axis=0))[:, 1:]
    y = side[:, 0] / side[:, 0].std()
    _, axes = np.linalg.eigh(np.cov(side.T))
    along = axes[:, 1] * np.sign(axes[0, 1])
    length, height = side @ along, side @ np.array([-along[1], along[0]])
    lowness = float(((length / length.std()) ** 2 * (height / height.std())).mean())
    return float((y**3).mean()), lowness
