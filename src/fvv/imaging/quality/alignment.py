"""Do b0 and b1000 show the head at one place? Mutual information tells, whatever the two contrasts are.

Maes et al. 1997, doi 10.1109/42.563664.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray, IntArray
from fvv.data import Finding, Severity
from fvv.imaging.brain import bounding_box
from fvv.imaging.quality.view import NativeView

MISALIGNED_MM = 3.0
"""Displacement of b1000 against b0, or of a half of the head: about half a gyrus (clean: under 2.4 mm)."""
FARTHEST_MM = 10.0
"""Searched in plane; across slices, one slice up and down."""
_STEP_MM = 2.0
_LEVELS = 24
_MOST_POINTS = 8_000
"""Voxels compared, of the whole brain and of each half."""
_FEWEST_POINTS = 500
"""Fewer than about one for each pair of levels tell nothing."""
_MARGIN = 0.02
"""A displacement counts where it raises the mutual information by this share: flat maxima wander."""


def displacement(view: NativeView) -> Iterator[Finding]:
    """Motion of the patient between the two volumes."""
    displaced = displacement_mm(view)
    if displaced >= MISALIGNED_MM:
        message = f"b0 and b1000 are displaced against each other by {displaced:.1f} mm: the patient moved between them"
        yield Finding("misaligned", message, Severity.WARNING)


def displacement_mm(view: NativeView) -> float:
    """How far b1000 is displaced against b0, mm: the largest shift of the brain, or of a half where it is turned."""
    around = bounding_box(view.core, view.voxels(FARTHEST_MM))
    core = view.core[around]
    points = np.argwhere(core)
    b0, b1000 = _levels(view.b0[around], core), _levels(view.b1000[around], core)
    # No farther than the image is wide: the edges of a wrong header may be micrometres.
    edges = [max(edge, FARTHEST_MM / n) for edge, n in zip(view.spacing_mm[:2], view.brain.shape[:2], strict=True)]
    step = [max(1, round(_STEP_MM / edge)) for edge in edges]
    reach = [round(FARTHEST_MM / (edge * by)) for edge, by in zip(edges, step, strict=True)]
    in_plane = [range(-far * by, far * by + 1, by) for far, by in zip(reach, step, strict=True)]
    # Beyond the image lies its edge.
    b1000 = np.pad(b1000, [(-in_plane[0][0],) * 2, (-in_plane[1][0],) * 2, (1, 1)], mode="edge")
    up_or_down = (-1, 0, 1) if view.brain.shape[2] > 2 else (0,)
    middle = points.mean(axis=0)
    sides = [points[:, axis] < middle[axis] for axis in (0, 1)]
    halves = [points[half] for side in sides for half in (side, ~side)]
    return max(
        _best_shift(b0, b1000, points, product(*in_plane, up_or_down), view),
        *(_best_shift(b0, b1000, half, product(*in_plane, (0,)), view) for half in halves),
    )


def _best_shift(
    b0: IntArray, b1000: IntArray, points: IntArray, shifts: Iterable[tuple[int, ...]], view: NativeView
) -> float:
    """How far the shift goes, mm, with which the two tell most of each other; b1000 is padded by the farthest one."""
    if len(points) < _FEWEST_POINTS:
        return 0.0
    points = points[:: -(-len(points) // _MOST_POINTS)]
    there = b0[tuple(points.T)].astype(np.intp)
    margin = (np.array(b1000.shape) - b0.shape) // 2
    # One index a voxel: a shift then adds the same number to all.
    values, places = b1000.ravel(), np.ravel_multi_index(tuple((points + margin).T), b1000.shape)
    along = np.array(b1000.strides) // b1000.itemsize
    information = {shift: _mutual_information(there, values.take(places + np.dot(shift, along))) for shift in shifts}
    best = max(information, key=lambda shift: information[shift])
    if information[best] <= information[0, 0, 0] * (1 + _MARGIN):
        return 0.0
    return float(np.linalg.norm(np.array(best) * view.spacing_mm))


def _mutual_information(a: IntArray, b: IntArray) -> float:
    joint = np.bincount(a * _LEVELS + b, minlength=_LEVELS**2).reshape(_LEVELS, _LEVELS) / len(a)
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / apart[there])).sum())


def _levels(image: FloatArray, core: BoolArray) -> IntArray:
    """Grey levels 0 ... 23, equally many brain voxels in each; a little blurred, so that noise does not decide."""
    smooth = ndimage.gaussian_filter(image.astype(np.float32), (1, 1, 0))
    bounds = np.quantile(smooth[core][::8], np.linspace(0, 1, _LEVELS + 1)[1:-1])
    return np.asarray(np.searchsorted(bounds, smooth), dtype=np.uint8)
