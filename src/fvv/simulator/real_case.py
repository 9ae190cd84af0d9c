"""One examination of a real head, with a simulated stroke or without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fvv.arrays import FloatArray
from fvv.cohort.participants import read_participants
from fvv.config import SimulateConfig
from fvv.errors import FvvError
from fvv.schemas.simulation import CaseRecord
from fvv.simulator.anatomy import HeadModel
from fvv.simulator.case import SimulatedCase, reader_label
from fvv.simulator.lesions import Lesion
from fvv.simulator.patient import MAX_ATTEMPTS, choose_lesion, would_be_outlined
from fvv.simulator.real_heads import RealHead, choose_head, known_head
from fvv.simulator.real_stroke import FIELD_STRENGTH_T, TE_MS, TR_MS, WrittenStroke, write_stroke
from fvv.simulator.visits import Purpose, plan_visit, random_stream


def simulate_on_real_head(number: int, model: HeadModel, config: SimulateConfig) -> SimulatedCase:
    """Make case `number` (from 1) of a cohort of real heads (`simulate.heads`).

    Persons take turns. Without a stroke the images are those of the folder.

    Args:
        number: of the case; the result depends on it, on the seed, the settings and the heads, and on nothing else.
        model: the average head.
        config: settings; those of anatomy and scanner have no effect.

    Raises:
        FvvError: the head cannot be used, or no visible stroke was found.
    """
    if config.heads is None:
        raise FvvError("no folder of heads", hint="set simulate.heads")
    people = read_participants(config.heads)
    one = choose_head(people, number, random_stream(config.seed, number, Purpose.HEAD))
    return case_on_head(number, known_head(config.heads / one.examination_id, one.person_id, one.site), model, config)


def case_on_head(number: int, head: RealHead, model: HeadModel, config: SimulateConfig) -> SimulatedCase:
    """Case `number` on a head that was read already; see `simulate_on_real_head`."""
    visit = replace(plan_visit(number, config.model_copy(update={"follow_up_share": 0.0})), person=number)
    voxel_ml = float(np.prod(head.spacing_mm)) / 1000.0
    nothing = np.zeros(head.brain.shape, dtype=bool)
    stroke = WrittenStroke(head.b0, head.b1000, nothing, nothing, 0.0, 1.0)
    found: tuple[int, Lesion] | None = None
    if visit.onset_h is not None:
        attempt, lesion, stroke = _find_stroke(number, head, model, config, visit.onset_h)
        found = attempt, lesion
    stroke_ml, visible_ml = (float(mask.sum()) * voxel_ml for mask in (stroke.roi, stroke.flair_visible))
    record = CaseRecord(
        participant_id=visit.participant,
        patient_id=head.person_id,
        site=head.site or "real",
        field_strength_t=FIELD_STRENGTH_T,
        head=head.examination_id,
        onset_h=visit.onset_h,
        pattern="none" if found is None else found[1].pattern,
        lesion_mask=None if found is None else found[1].mask,
        lesion_volume_ml=stroke_ml,
        flair_visible_ml=visible_ml,
        dwi_flair_mismatch=reader_label(number, stroke_ml, visible_ml, config),
        contrast_to_noise=None if found is None else stroke.contrast_to_noise,
        brightening=None if found is None else stroke.brightening,
        attempt=0 if found is None else found[0],
        old_damage=(),
        skull_stripped=False,
        brain_volume_ml=float(head.brain.sum()) * voxel_ml,
        te_ms=TE_MS,
        tr_ms=TR_MS,
        b_s_mm2=head.b_s_mm2,
        snr=float(np.median(head.b1000[head.brain]) / max(head.noise[1], 1e-9)),
    )
    return SimulatedCase(
        b0=_stored(stroke.b0, head.b0),
        b1000=_stored(stroke.b1000, head.b1000),
        flair=None,
        stroke=stroke.roi,
        flair_visible=stroke.flair_visible,
        brain=head.brain,
        affine=head.affine,
        record=record,
    )


def _find_stroke(
    number: int, head: RealHead, model: HeadModel, config: SimulateConfig, onset_h: float
) -> tuple[int, Lesion, WrittenStroke]:
    """The first stroke that the head shows well enough, and which it was."""
    voxel_ml = float(np.prod(head.spacing_mm)) / 1000.0
    for attempt in range(MAX_ATTEMPTS):
        rng = random_stream(config.seed, number, Purpose.STROKE, attempt)
        lesion = choose_lesion(rng, model, config, person=number, attempt=attempt, atlas_share=head.atlas_share)
        stroke = write_stroke(head, lesion, onset_h=onset_h, rng=rng, config=config)
        if would_be_outlined(stroke.roi, voxel_ml, stroke.contrast_to_noise, stroke.brightening, config):
            return attempt, lesion, stroke
    raise FvvError(
        f"no visible stroke in {MAX_ATTEMPTS} attempts", examination_id=head.examination_id, hint="use another seed"
    )


def _stored(image: FloatArray, original: FloatArray) -> np.ndarray:
    """int16 where the original holds whole numbers, else float32."""
    limits = np.iinfo(np.int16)
    if (original == np.rint(original)).all() and limits.min <= original.min() and original.max() <= limits.max:
        return np.clip(np.rint(image), limits.min, limits.max).astype(np.int16)
    return image.astype(np.float32)
