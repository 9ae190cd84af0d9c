"""Does a second form of a model say what the first says? Asked on prepared examinations, answered in numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.config import DecisionConfig, PreprocessingProfile
from fvv.data import DecisionState, PreparedCase
from fvv.imaging.overlap import Overlap
from fvv.recipes.examine import Settings, examine

Logits = Callable[[FloatArray], FloatArray]
"""From (2, slices + 2 * context, 256, 256) to (3, slices, 256, 256)."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How far a second form strays from the first.

    Attributes:
        patients: how many were compared, whole volumes.
        voxels: logits compared.
        largest_logit_difference: over all of them; NaN where either form gave one.
        sign_flips: voxels that one form alone predicts.
        stroke_dice: between the strokes of both forms, all patients' voxels together; 1 where neither finds any.
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
        names = ("patients", "voxels", "largest_logit_difference", "sign_flips", "stroke_dice", "lowest_stroke_dice")
        numbers = {name: float(getattr(self, name)) for name in (*names, "largest_fvv_difference_ml")}
        return {**numbers, "decisions_changed": float(len(self.changed))}


@dataclass
class _Form:
    """One form of a model, as `examine` takes models; keeps its last logits."""

    run: Logits
    profile: PreprocessingProfile
    provider: str = ""
    logits: FloatArray = field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        return 1

    def each_mask(self, padded: FloatArray) -> Iterator[BoolArray]:
        self.logits = self.run(padded)
        yield self.logits > 0


def compare_forms(
    first: Logits,
    second: Logits,
    cases: Iterable[PreparedCase],
    *,
    profile: PreprocessingProfile,
    decision: DecisionConfig,
) -> Proof:
    """Run both forms on examinations.

    Args:
        first: the form that is trusted.
        second: the form on trial.
        cases: prepared, one at a time in memory.
        profile: how they were prepared.
        decision: cut-off of the decisions compared.
    """
    settings = Settings(profile, decision=decision)
    one, other = _Form(first, profile), _Form(second, profile)
    differences, flips, voxels, overlaps, fvv_differences, changed = [], 0, 0, [], [], []
    for case in cases:
        shown = replace(case, findings=())  # The models are compared also where quality control allows no answer.
        examined = [examine(shown, form, settings) for form in (one, other)]
        differences.append(np.abs(one.logits - other.logits).max())
        flips += int(((one.logits > 0) != (other.logits > 0)).sum())
        voxels += one.logits.size
        before, after = (found.segmentation for found in examined if found.segmentation is not None)
        overlaps.append(Overlap.of_masks(before.stroke, after.stroke))
        fvv_difference = abs(before.flair_visible_voxels - after.flair_visible_voxels)
        fvv_differences.append(fvv_difference * case.voxel_volume_ml)
        states = [found.prediction.decision.state for found in examined]
        if states[0] is not states[1]:
            changed.append((case.patient, states[0], states[1]))
    return Proof(
        patients=len(overlaps),
        voxels=voxels,
        largest_logit_difference=float(np.max(differences)),  # NaN stays NaN
        sign_flips=flips,
        stroke_dice=_dice(sum(overlaps, Overlap(0, 0, 0, 0))),
        lowest_stroke_dice=min(_dice(overlap) for overlap in overlaps),
        largest_fvv_difference_ml=max(fvv_differences),
        changed=tuple(changed),
    )


def _dice(overlap: Overlap) -> float:
    dice = overlap.dice_coefficient
    return 1.0 if np.isnan(dice) else dice
