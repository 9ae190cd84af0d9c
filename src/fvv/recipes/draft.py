"""From an examination with FLAIR to draft masks: stroke by the models, FLAIR-visible by the other side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.config import LabelConfig
from fvv.data import Case, Volume
from fvv.errors import InputError
from fvv.imaging.rigid import RigidMotion, register
from fvv.imaging.visibility import flipped, visible_on_flair
from fvv.recipes.examine import Settings, examine
from fvv.recipes.segment import Models


@dataclass(frozen=True, slots=True)
class Draft:
    """What is proposed for one examination, all on the grid of b1000.

    Attributes:
        flair: registered to b0; None: there is none, and `flair_visible` is empty because nothing is known.
        motion: from b0 to FLAIR as it was read.
        adc: mm^2/s; NaN where not measured. None: the images have no common gain.
    """

    brain: BoolArray
    stroke: BoolArray
    flair_visible: BoolArray
    flair: Volume | None
    motion: RigidMotion | None
    adc: FloatArray | None


def draft_masks(case: Case, flair: Volume | None, models: Models, settings: Settings, config: LabelConfig) -> Draft:
    """Propose masks.

    Args:
        flair: as read, on any grid; None: the examination has none.

    Raises:
        InputError: quality control finds the examination not assessable.
        GeometryError: FLAIR lies elsewhere, or cannot be registered.
    """
    prediction = examine(case, models, settings).prediction
    brain, stroke = prediction.brain, prediction.stroke
    if brain is None or stroke is None:
        reasons = "; ".join(finding.message for finding in prediction.decision.reasons)
        hint = "correct the images; there is no draft of them"
        raise InputError(f"not assessable: {reasons}", examination_id=case.examination_id, hint=hint)
    nothing = np.zeros_like(stroke)
    if flair is None:
        return Draft(brain, stroke, nothing, None, None, prediction.adc)
    motion = register(flair, case.b0, brain)
    moved = motion.onto(flair, case.b0)
    visible = nothing
    if stroke.any():
        to_mirror = register(flipped(case.b0), case.b0, brain)
        ratio = config.visible_ratio
        visible = visible_on_flair(moved, case.b0, case.b1000, brain, stroke, to_mirror=to_mirror, ratio=ratio)
    return Draft(brain, stroke, visible, moved, motion, prediction.adc)
