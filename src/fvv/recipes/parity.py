"""Do two forms of a model, in PyTorch and in onnxruntime, give the same answers on prepared examinations?"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.config import DecisionConfig, PostprocessConfig, PreprocessingProfile
from fvv.data import Channel, DecisionState, PreparedCase
from fvv.imaging.overlap import Overlap
from fvv.imaging.slabs import network_input
from fvv.inference.outputs import logit_limits
from fvv.recipes.examine import Settings, examine
from fvv.schemas.bundle import Parity

Logits = Callable[[FloatArray], FloatArray]
"""From (2, slices + 2 * context, 256, 256) to (3, slices, 256, 256)."""


Changed = tuple[str, DecisionState, DecisionState]
"""An examination whose decision changed, with both decisions."""


@dataclass
class _Form:
    """One form of a model, as `examine` takes models; keeps its last logits."""

    run: Logits
    profile: PreprocessingProfile
    provider: str = ""
    logits: FloatArray = field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        return 1

    def each_output(
        self, padded: FloatArray, *, stroke_logits: bool, visible_logit: float
    ) -> Generator[tuple[BoolArray, FloatArray | None]]:
        self.logits = self.run(padded)
        yield self.logits > logit_limits(visible_logit), self.logits[Channel.STROKE.value] if stroke_logits else None


def compare_forms(
    first: Logits,
    second: Logits,
    cases: Iterable[PreparedCase],
    *,
    profile: PreprocessingProfile,
    decision: DecisionConfig,
    visible_logit: float = 0.0,
) -> tuple[Parity, tuple[Changed, ...]]:
    """Run both forms on examinations.

    Args:
        first: the form that is trusted.
        second: the form on trial.
        cases: prepared, one at a time in memory.
        profile: how they were prepared.
        decision: cut-off of the decisions compared.
        visible_logit: the logit that FLAIR-visible voxels exceed.

    Returns:
        What a bundle keeps (numbers, no names; NaN where either form gave one), and the examinations whose decision
        changed.
    """
    settings = Settings(profile, decision=decision, postprocess=PostprocessConfig(visible_logit=visible_logit))
    one, other, limits = _Form(first, profile), _Form(second, profile), logit_limits(visible_logit)
    differences, slab_differences, flips, voxels, overlaps, fvv_differences, changed = [], [], 0, 0, [], [], []
    for case in cases:
        shown = replace(case, findings=())  # The models are compared also where quality control allows no answer.
        examined = [examine(shown, form, settings) for form in (one, other)]
        differences.append(np.abs(one.logits - other.logits).max())
        padded, centre = network_input(case, profile.context_slices), case.n_slices // 2
        slab = second(padded[:, centre : centre + 2 * profile.context_slices + 1])
        slab_differences.append(np.abs(other.logits[:, centre] - slab[:, 0]).max())
        flips += int(((one.logits > limits) != (other.logits > limits)).sum())
        voxels += one.logits.size
        before, after = (found.segmentation for found in examined if found.segmentation is not None)
        overlaps.append(Overlap.of_masks(before.stroke, after.stroke))
        fvv_difference = abs(before.flair_visible_voxels - after.flair_visible_voxels)
        fvv_differences.append(fvv_difference * case.voxel_volume_ml)
        states = [found.prediction.decision.state for found in examined]
        if states[0] is not states[1]:
            changed.append((case.examination_id, states[0], states[1]))
    parity = Parity(
        patients=len(overlaps),
        voxels=voxels,
        largest_logit_difference=float(np.max(differences)),  # NaN stays NaN
        largest_slab_difference=float(np.max(slab_differences)),
        sign_flips=flips,
        stroke_dice=_dice(sum(overlaps, Overlap(0, 0, 0, 0))),
        lowest_stroke_dice=min(_dice(overlap) for overlap in overlaps),
        largest_fvv_difference_ml=max(fvv_differences),
        decisions_changed=len(changed),
    )
    return parity, tuple(changed)


def _dice(overlap: Overlap) -> float:
    dice = overlap.dice_coefficient
    return 1.0 if np.isnan(dice) else dice
