"""What two masks share: the one place where Dice and the cases of empty masks are defined.

The first mask is always the reference, the second the predicted one. What is undefined is NaN, never a convenient 0 or
1, and `Emptiness` says why; docs/explanation/metrics.md has the whole table.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from enum import Enum

import numpy as np

from fvv.arrays import BoolArray
from fvv.errors import GeometryError


class Emptiness(Enum):
    """Which of the two masks holds anything at all."""

    NEITHER = "both hold voxels"
    BOTH = "both empty"
    PREDICTION = "missed: only the prediction is empty"
    REFERENCE = "false positive: only the reference is empty"
    UNKNOWN = "not segmented: quality control refused the images"
    NO_REFERENCE = "not outlined: there is no reference mask"


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two masks share and do not, in voxels or, to add up patients with different voxels, in mL.

    Attributes:
        true_positive: in both.
        false_positive: in the predicted mask only.
        false_negative: in the reference only.
        true_negative: in neither.
    """

    true_positive: float
    false_positive: float
    false_negative: float
    true_negative: float

    @classmethod
    def of_masks(cls, reference: BoolArray, predicted: BoolArray) -> Overlap:
        """Count the voxels of two bool masks of any one shape.

        Raises:
            GeometryError: the shapes differ, or a mask is not bool.
        """
        if reference.shape != predicted.shape:
            raise GeometryError(f"masks of one shape expected, got {reference.shape} and {predicted.shape}")
        for mask in (reference, predicted):
            if mask.dtype != bool:
                raise GeometryError(f"bool masks expected, got {mask.dtype}")
        both = int(np.count_nonzero(reference & predicted))
        size, found = int(np.count_nonzero(reference)), int(np.count_nonzero(predicted))
        return cls(both, found - both, size - both, reference.size - size - found + both)

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(*(one + another for one, another in zip(astuple(self), astuple(other), strict=True)))

    def in_ml(self, voxel_volume_ml: float) -> Overlap:
        """The same in mL: patients pooled by volume count alike whatever the size of their voxels."""
        return Overlap(*(part * voxel_volume_ml for part in astuple(self)))

    @property
    def reference_size(self) -> float:
        """Size of the reference."""
        return self.true_positive + self.false_negative

    @property
    def predicted_size(self) -> float:
        """Size of the predicted mask."""
        return self.true_positive + self.false_positive

    @property
    def emptiness(self) -> Emptiness:
        """Which mask is empty."""
        if self.reference_size and self.predicted_size:
            return Emptiness.NEITHER
        if self.reference_size:
            return Emptiness.PREDICTION
        return Emptiness.REFERENCE if self.predicted_size else Emptiness.BOTH

    @property
    def dice_coefficient(self) -> float:
        """2 TP / (2 TP + FP + FN); NaN when both are empty (Dice 1945, doi 10.2307/1932409)."""
        return self.smoothed_dice(0.0)

    def smoothed_dice(self, smoothing: float) -> float:
        """(2 TP + s) / (2 TP + FP + FN + s): 1 when both are empty, s > 0 in the unit of the overlap."""
        return ratio(2 * self.true_positive + smoothing, self.reference_size + self.predicted_size + smoothing)

    @property
    def intersection_over_union(self) -> float:
        """TP / (TP + FP + FN); NaN when both are empty."""
        return ratio(self.true_positive, self.true_positive + self.false_positive + self.false_negative)

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all. Near 1 for any small lesion: it says little, and is given because readers ask for it."""
        agreed = self.true_positive + self.true_negative
        return ratio(agreed, agreed + self.false_positive + self.false_negative)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN); NaN when the reference is empty."""
        return ratio(self.true_positive, self.reference_size)

    @property
    def specificity(self) -> float:
        """TN / (TN + FP); NaN when the reference fills the whole image."""
        return ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); NaN when the predicted mask is empty."""
        return ratio(self.true_positive, self.predicted_size)

    def ratios(self) -> dict[str, float]:
        """All of the above by name."""
        return {name: getattr(self, name) for name in OVERLAP_RATIOS}


OVERLAP_RATIOS = (
    "dice_coefficient", "intersection_over_union", "accuracy", "balanced_accuracy", "sensitivity", "specificity",
    "precision",
)  # fmt: skip


def ratio(part: float, whole: float) -> float:
    """The share; NaN of nothing."""
    return part / whole if whole else math.nan
