"""Do b0 and b1000 show the head at one place? Mutual information tells, whatever the two contrasts are.

Maes et al. 1997, doi 10.1109/42.563664.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
"""Searched; across slices at least two slices up and down, where there are so many."""
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
    """How far b1000 is displaced against b0, mm: the largest shift of the brain, or of a half where it is turned.

    A rigid head's halves cannot move towards each other. Where they seem to (each half of a head brighter at its rim,
    by its coil, fits better a little further in), that part is left out.
    """
    around = bounding_box(view.core, view.voxels(FARTHEST_MM))
    core = view.core[around]
    points = np.argwhere(core)
    b0, b1000 = _levels(view.b0[around], core), _levels(view.b1000[around], core)
    # No farther than the image is wide: the edges of a wrong header may be micrometres.
    n_slices = view.brain.shape[2]
    sizes = zip(view.spacing_mm, view.brain.shape, strict=True)
    edges = [max(edge, FARTHEST_MM / n) for edge, n in sizes]
    step = [max(1, round(_STEP_MM / edge)) for edge in edges]
    reach = [round(FARTHEST_MM / (edge * by)) for edge, by in zip(edges, step, strict=True)]
    reach[2] = min(max(reach[2], 2), (n_slices - 1) // 2)
    search = _Search([range(-far * by, far * by + 1, by) for far, by in zip(reach, step, strict=True)])
    # Beyond the image lies its edge.
    b1000 = np.pad(b1000, [(-along[0],) * 2 for along in search.along], mode="edge")
    whole = search.best(b0, b1000, points)
    shifts = [whole]
    flat = _Search([*search.along[:2], range(round(whole[2]), round(whole[2]) + 1)])
    middle = points.mean(axis=0)
    for axis in (0, 1):
        side = points[:, axis] < middle[axis]
        halves = np.array([flat.best(b0, b1000, points[half]) for half in (side, ~side)])
        halves[:, axis] = halves[:, axis].mean()
        halves[:, 2] = whole[2]
        shifts += list(halves)
    return max(float(np.linalg.norm(shift * view.spacing_mm)) for shift in shifts)


@dataclass(frozen=True, slots=True)
class _Search:
    """Shifts that are tried, voxels along each axis, in even steps about 0."""

    along: Sequence[range]

    def best(self, b0: IntArray, b1000: IntArray, points: IntArray) -> FloatArray:
        """(3,) voxels: the shift with which the two tell most of each other; b1000 is padded by the farthest one."""
        if len(points) < _FEWEST_POINTS:
            return np.zeros(3)
        points = points[:: -(-len(points) // _MOST_POINTS)]
        there = b0[tuple(points.T)].astype(np.intp)
        margin = (np.array(b1000.shape) - b0.shape) // 2
        # One index a voxel: a shift then adds the same number to all.
        values, places = b1000.ravel(), np.ravel_multi_index(tuple((points + margin).T), b1000.shape)
        strides = np.array(b1000.strides) // b1000.itemsize
        information = np.array(
            [_mutual_information(there, values.take(places + np.dot(shift, strides))) for shift in product(*self.along)]
        ).reshape([len(steps) for steps in self.along])
        middle = tuple(len(steps) // 2 for steps in self.along)
        best = tuple(int(at) for at in np.unravel_index(information.argmax(), information.shape))
        if information[best] <= information[middle] * (1 + _MARGIN):
            best = middle
        return np.array([self._peak(information, best, axis) for axis in range(3)])

    def _peak(self, information: FloatArray, best: tuple[int, ...], axis: int) -> float:
        """Between the steps: where a parabola through the best and its two neighbours is highest."""
        steps, at = self.along[axis], best[axis]
        line = np.moveaxis(information, axis, -1)[best[:axis] + best[axis + 1 :]]
        if not 0 < at < len(steps) - 1:
            return float(steps[at])
        before, here, after = line[at - 1 : at + 2]
        curvature = before - 2 * here + after
        between = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
        return float(steps[at] + steps.step * np.clip(between, -0.5, 0.5))


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
