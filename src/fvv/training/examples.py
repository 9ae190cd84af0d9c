"""The validation slices that are shown: for each kind, the one with the largest lesion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.data import Channel
from fvv.training.validation import SliceClass, slice_classes

EXAMPLE_CLASSES = (SliceClass.VISIBLE, SliceClass.MIXED, SliceClass.NOT_VISIBLE)


@dataclass(frozen=True, slots=True)
class Example:
    """One slice: b1000 (H, W) z-scores, marked and true masks (3, H, W), area of the true lesion in voxels."""

    b1000: FloatArray
    marked: BoolArray
    truth: BoolArray
    area: int


def largest_examples(
    examples: Mapping[SliceClass, Example], b1000: FloatArray, masks: BoolArray, truth: BoolArray
) -> dict[SliceClass, Example]:
    """Of the examples so far and a patient's slices, the one with the largest true lesion of each class.

    Args:
        examples: so far.
        b1000: (Z, H, W).
        masks, truth: (3, Z, H, W) bool.
    """
    found: dict[SliceClass, Example] = {}
    classes = slice_classes(truth)
    areas = truth[Channel.STROKE.value].sum(axis=(1, 2))
    for kind in EXAMPLE_CLASSES:
        candidates = np.flatnonzero(classes == kind)
        if candidates.size == 0:
            continue
        k = int(candidates[areas[candidates].argmax()])
        if kind not in examples or areas[k] > examples[kind].area:
            found[kind] = Example(b1000[k].astype(np.float32), masks[:, k].copy(), truth[:, k].copy(), int(areas[k]))
    return {**examples, **found}


def larger_examples(
    examples: Mapping[SliceClass, Example], others: Mapping[SliceClass, Example]
) -> dict[SliceClass, Example]:
    """Of two sets of examples, the one with the larger lesion of each class."""
    larger = {kind: new for kind, new in others.items() if kind not in examples or new.area > examples[kind].area}
    return {**examples, **larger}
