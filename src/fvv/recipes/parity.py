"""Does a second form of a model say what the first says? Asked on prepared patients, answered in numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.config import DecisionConfig
from fvv.data import DecisionState, PreparedCase
from fvv.imaging.decision import decide
from fvv.imaging.fusion import fuse_folds
from fvv.imaging.slabs import network_input

Logits = Callable[[FloatArray], FloatArray]
"""From (2, slices + 2 * context, 256, 256) to (3, slices, 256, 256)."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How far a second form strays from the first.

    Attributes:
        patients: how many were compared, whole volumes.
        voxels: logits compared.
        largest_logit_difference: over all of them; NaN where either form gave one.
        sign_flips: voxels marked by one form alone.
        stroke_dice: between the strokes of both forms, all patients' voxels together; 1 where neither marks any.
        lowest_stroke_dice: of one patient.
        largest_fvv_difference_ml: of one patient.
        changed: each patient whose decision changed, with both decisions.
    """

    patients: int
    voxels: int
    largest_logit_difference: float
    sign_flips: int
    stroke_dice: float
    lowest_stroke_dice: float
    largest_fvv_difference_ml: float
    changed: tuple[tuple[str, DecisionState, DecisionState], ...]

    def numbers(self) -> dict[str, float]:
        """What a bundle keeps: numbers, no patient's name."""
        return {
            "patients": float(self.patients),
            "voxels": float(self.voxels),
            "largest_logit_difference": self.largest_logit_difference,
            "sign_flips": float(self.sign_flips),
            "stroke_dice": self.stroke_dice,
            "lowest_stroke_dice": self.lowest_stroke_dice,
            "largest_fvv_difference_ml": self.largest_fvv_difference_ml,
            "decisions_changed": float(len(self.changed)),
        }


def compare_forms(
    first: Logits, second: Logits, cases: Iterable[PreparedCase], *, context: int, decision: DecisionConfig
) -> Proof:
    """Run both forms on patients.

    Args:
        first: the form that is trusted.
        second: the form on trial.
        cases: patients, one at a time in memory.
        context: slices on each side that the network needs.
        decision: cut-off of the decisions compared.
    """
    differences, flips, voxels, overlaps, sizes, fvv_differences = [], 0, 0, [], [], []
    changed = []
    for case in cases:
        padded = network_input(case, context)
        logits = first(padded), second(padded)
        differences.append(np.abs(logits[0] - logits[1]).max())
        flips += int(((logits[0] > 0) != (logits[1] > 0)).sum())
        voxels += logits[0].size
        one, other = (_judged(form > 0, case, decision) for form in logits)
        overlaps.append(int((one.stroke & other.stroke).sum()))
        sizes.append(int(one.stroke.sum() + other.stroke.sum()))
        fvv_differences.append(abs(one.fvv_ml - other.fvv_ml))
        if one.state is not other.state:
            changed.append((case.patient, one.state, other.state))
    return Proof(
        patients=len(sizes),
        voxels=voxels,
        largest_logit_difference=float(np.max(differences)),  # NaN stays NaN
        sign_flips=flips,
        stroke_dice=_dice(sum(overlaps), sum(sizes)),
        lowest_stroke_dice=min(_dice(*pair) for pair in zip(overlaps, sizes, strict=True)),
        largest_fvv_difference_ml=max(fvv_differences),
        changed=tuple(changed),
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    stroke: BoolArray
    fvv_ml: float
    state: DecisionState


def _judged(masks: BoolArray, case: PreparedCase, config: DecisionConfig) -> _Judged:
    """(3, slices, i, j) bool to what would be reported."""
    fused = fuse_folds(np.moveaxis(masks, 1, -1)[None])
    state = decide(fused, case.voxel_volume_ml, case.findings, config).state
    return _Judged(fused.stroke, fused.flair_visible_voxels * case.voxel_volume_ml, state)


def _dice(overlap: int, size: int) -> float:
    return 2 * overlap / size if size else 1.0
