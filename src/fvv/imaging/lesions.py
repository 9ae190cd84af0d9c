"""The lesions of a predicted stroke, its connected components: where each lies, how large it is and what speaks for it.

A place here is a coarse geometric one, read off the brain mask: side of the midline, thirds from back to front and from
foot to head. It is no anatomical label: no atlas is registered.
"""

from __future__ import annotations

from typing import Literal

import nibabel as nib
import numpy as np
from scipy import ndimage

from fvv.arrays import Affine, BoolArray, FloatArray, UInt8Array
from fvv.imaging.brain import bounding_box
from fvv.schemas.lesions import Lesion

_BOTH_SIDES = 0.2
"""Share of a lesion on its smaller side from which it counts as on both sides (chosen here)."""
_FRONT_TO_BACK: tuple[Literal["posterior", "middle", "anterior"], ...] = ("posterior", "middle", "anterior")
_HEIGHT: tuple[Literal["lower", "middle", "upper"], ...] = ("lower", "middle", "upper")
_WHOLE_ROW = 0.5
"""Of the widest row of the brain: narrower rows say little of the midline (chosen here)."""


def turned(array: np.ndarray, affine: Affine) -> np.ndarray:
    """(i, j, k, ...) with its axes turned to run to the right, anterior and superior (nearest to)."""
    return np.asarray(nib.orientations.apply_orientation(array, nib.orientations.io_orientation(affine)))


def turned_affine(affine: Affine, shape: tuple[int, ...]) -> Affine:
    """The affine of an array that `turned` gives."""
    orientation = nib.orientations.io_orientation(affine)
    return np.asarray(affine @ nib.orientations.inv_ornt_aff(orientation, shape[:3]))


def labelled_lesions(stroke: BoolArray) -> tuple[np.ndarray, int]:
    """(i, j, k) int32, the connected components (26 neighbours) numbered from 1, largest first, and their number."""
    box = bounding_box(stroke)
    labels, count = ndimage.label(stroke[box], structure=np.ones((3, 3, 3), dtype=bool), output=np.int32)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    rank = np.zeros(count + 1, dtype=np.int32)
    rank[1 + np.argsort(-sizes, kind="stable")] = np.arange(1, count + 1)
    numbered = np.zeros(stroke.shape, dtype=np.int32)
    numbered[box] = rank[labels]
    return numbered, count


def stroke_lesions(
    brain: BoolArray,
    stroke: BoolArray,
    visible_votes: UInt8Array,
    n_models: int,
    affine: Affine,
    *,
    stroke_votes: UInt8Array | None = None,
    adc: FloatArray | None = None,
) -> tuple[Lesion, ...]:
    """Measure each connected component of the stroke, the largest first.

    Args:
        brain, stroke: (i, j, k) bool, native grid.
        visible_votes: (i, j, k) uint8, models that call a voxel FLAIR-visible.
        n_models: how many models voted.
        affine: (4, 4) voxel to RAS+ mm.
        stroke_votes: (i, j, k) uint8, models that call a voxel stroke.
        adc: (i, j, k) mm^2/s, NaN where not measured.

    Returns:
        The lesions (components over 26 neighbours); none where there is no stroke.
    """
    if not stroke.any():
        return ()
    frame, voxel_ml = turned_affine(affine, stroke.shape), abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    labels, count = labelled_lesions(turned(stroke, affine))
    head = turned(brain, affine)
    inside = np.argwhere(labels)
    numbers = labels[tuple(inside.T)]
    per_voxel = {"visible": turned(visible_votes, affine)[tuple(inside.T)] / n_models}
    if stroke_votes is not None:
        per_voxel["agreement"] = turned(stroke_votes, affine)[tuple(inside.T)] / n_models
    reference = _reference_adc(adc, brain & ~stroke)
    adc_inside = None if adc is None else turned(adc, affine)[tuple(inside.T)]
    a, b, c = midplane(head if head.any() else labels > 0)
    right = inside[:, 0] > a + b * inside[:, 1] + c * inside[:, 2]
    found = []
    for number in range(1, count + 1):
        of_lesion = numbers == number
        places = inside[of_lesion]
        middle, right_share = places.mean(axis=0), float(right[of_lesion].mean())
        x_mm, y_mm, z_mm = (round(float(mm), 1) for mm in frame[:3, :3] @ middle + frame[:3, 3])
        thirds = [_third(middle[axis], head, axis) for axis in (1, 2)]
        means = {name: float(values[of_lesion].mean()) for name, values in per_voxel.items()}
        relative = None
        if adc_inside is not None and reference is not None:
            measured = adc_inside[of_lesion]
            measured = measured[np.isfinite(measured)]
            relative = float(np.median(measured)) / reference if 2 * measured.size >= len(places) else None
        found.append(
            Lesion(
                lesion=number,
                side=_side(right_share),
                front_to_back=_FRONT_TO_BACK[thirds[0]],
                height=_HEIGHT[thirds[1]],
                first_slice=int(places[:, 2].min()) + 1,
                last_slice=int(places[:, 2].max()) + 1,
                x_mm=x_mm,
                y_mm=y_mm,
                z_mm=z_mm,
                volume_ml=round(len(places) * voxel_ml, 4),
                share_right=round(right_share, 4),
                adc_relative=None if relative is None else round(relative, 4),
                flair_visible_share=round(min(means["visible"], 1.0), 4),
                model_agreement=round(means["agreement"], 4) if "agreement" in means else None,
            )
        )
    return tuple(found)


def midplane(brain: BoolArray) -> tuple[float, float, float]:
    """The plane i = a + b j + c k through the middle of the brain's rows, by least squares.

    Args:
        brain: (i, j, k) bool, axes to the right, anterior, superior; not empty.
    """
    width = brain.sum(axis=0)
    j, k = np.nonzero((width > 0) & (width >= _WHOLE_ROW * width.max()))
    rows = brain[:, j, k]
    first, last = rows.argmax(axis=0), len(brain) - 1 - rows[::-1].argmax(axis=0)
    terms = np.stack([np.ones(len(j)), j, k], axis=1)
    a, b, c = np.linalg.lstsq(terms, (first + last) / 2, rcond=None)[0]
    return float(a), float(b), float(c)


def _side(right_share: float) -> Literal["right", "left", "both"]:
    if min(right_share, 1 - right_share) >= _BOTH_SIDES:
        return "both"
    return "right" if right_share > 0.5 else "left"


def _third(place: float, brain: BoolArray, axis: int) -> int:
    """0, 1 or 2: in which third of the brain's extent along an axis a place lies."""
    profile = np.flatnonzero(brain.any(axis=tuple(other for other in range(3) if other != axis)))
    first, last = (profile[0], profile[-1]) if len(profile) else (0, brain.shape[axis] - 1)
    return int(np.clip(3 * (place - first + 0.5) / (last - first + 1), 0, 2))


def _reference_adc(adc: FloatArray | None, outside: BoolArray) -> float | None:
    if adc is None:
        return None
    values = adc[outside]
    values = values[np.isfinite(values)]
    median = float(np.median(values)) if values.size else 0.0
    return median if median > 0 else None
