"""Examinations of persons that a model has never seen: who they are, and what the readers outlined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fvv.arrays import BoolArray
from fvv.cohort.participants import PARTICIPANTS_FILE, read_participants
from fvv.config import EvaluateConfig
from fvv.data import Case, Channel, Failure, Participant, PreparedCase, Volume, hashed_ids
from fvv.errors import FvvError, InputError, ModelError, StoreError
from fvv.imaging.geometry import to_working_grid
from fvv.imaging.preprocess import cut_rois
from fvv.io.bundle import ModelBundle
from fvv.io.case import image_sha256, read_case
from fvv.io.tables import failure_of
from fvv.recipes.examine import Examined
from fvv.schemas.bundle import ModelEntry
from fvv.system.parallel import attempt, track


def held_out_participants(
    folder: Path, bundle: ModelBundle, config: EvaluateConfig
) -> tuple[list[Participant], list[Failure]]:
    """Look at every image before any is examined, so that a refusal comes at once.

    Args:
        folder: labelled examinations, a folder each, as for `prepare`.
        bundle: none of its models may have seen them.

    Returns:
        Those that can be read, in the order of the table, and those that cannot.

    Raises:
        ModelError: data leakage, see `refuse_leakage`.
    """
    refuse_unknown_training(bundle.models, bundle)
    participants = read_participants(folder, unlisted=config.preprocess.unlisted)
    readable, failures = [], []
    for name, participant in track(participants.items(), "check", len(participants)):
        case = attempt(read_held_out, folder / name, participant, config)
        if isinstance(case, FvvError):
            failures.append(failure_of(name, case))
            continue
        refuse_leakage(bundle.models, bundle, name, [participant.person_id], image_sha256(case))
        readable.append(participant)
    return readable, failures


def read_held_out(folder: Path, participant: Participant, config: EvaluateConfig) -> Case:
    """Read an examination with what is known of its lesion.

    A stroke-free examination, which participants.tsv must call so, needs no ROI files and gets empty ROIs. A stroke
    whose FLAIR-visible part nobody outlined has no such ROI: that part is then unknown, never 0 mL.

    Raises:
        InputError: no stroke ROI, and nothing says that there is no stroke; or an ROI that holds voxels, and the table
            says that there is none.
    """
    case = read_case(folder, config.preprocess, labelled=None, finite=False)
    empty = Volume(np.zeros(case.b1000.array.shape, dtype=bool), case.b1000.affine)
    if participant.stroke_free:
        for name, roi in (("stroke_roi", case.stroke_roi), ("flairviz_roi", case.flair_visible_roi)):
            if roi is not None and roi.array.any():
                raise InputError(
                    f"{PARTICIPANTS_FILE} says stroke_free, the ROI holds {int(roi.array.sum())} voxels",
                    examination_id=participant.examination_id,
                    file=folder / f"{name}.nii.gz",
                    hint="correct the one or the other",
                )
        return replace(case, stroke_roi=empty, flair_visible_roi=empty)
    if case.stroke_roi is None:
        raise InputError(
            "missing",
            examination_id=participant.examination_id,
            file=folder / "stroke_roi.nii.gz",
            hint=f"every labelled patient needs this file; of a stroke-free one say so in {PARTICIPANTS_FILE}: "
            "stroke_free 1",
        )
    if case.flair_visible_roi is None and not case.stroke_roi.array.any():
        return replace(case, flair_visible_roi=empty)
    return case


def refuse_unknown_training(models: Sequence[ModelEntry], bundle: ModelBundle) -> None:
    """Raise ModelError if a model does not say on whom it was trained."""
    for model in models:
        if not model.trained_on:
            raise ModelError("the model does not say on whom it was trained", file=bundle.path / model.file)


def refuse_leakage(
    models: Sequence[ModelEntry], bundle: ModelBundle, examination: str, persons: Iterable[str], image_sha256: str
) -> None:
    """Refuse models that were trained on the person, under any of the ids, or on the images, under any name.

    Raises:
        ModelError: one was.
    """
    for model in models:
        for what, ids in (("these images", [image_sha256]), ("this person", persons)):
            if set(hashed_ids(ids)) & set(model.trained_on):
                raise ModelError(
                    f"{model.file} was trained on {what}: evaluating it here would be biased (data leakage)",
                    examination_id=examination,
                    file=bundle.path,
                    hint="leave this examination out, or use the split the models were trained with; "
                    "another person needs another patient_id",
                )


def reference_masks(subject: Case | PreparedCase, examined: Examined, *, own_masks: bool) -> dict[Channel, BoolArray]:
    """What the readers outlined, on the working grid; the stroke lies in the brain, FLAIR-visible in the stroke.

    Args:
        subject: what was read, with its ROIs.
        examined: the same, examined.
        own_masks: whether the models saw it without its brain mask, which is then only a reference.

    Raises:
        StoreError: it carries no stroke ROI, or is stored without a FLAIR-visible one.

    Returns:
        Without FLAIR-visible where nobody outlined it.
    """
    prepared = examined.prepared
    if prepared is not None and not (own_masks and isinstance(subject, Case) and subject.mask is not None):
        brain, stroke, visible = prepared.brain, prepared.stroke, prepared.flair_visible
    elif isinstance(subject, Case):
        nothing = np.zeros(examined.grid.working_shape, dtype=bool)
        brain = nothing if subject.mask is None else to_working_grid(subject.mask.array, examined.grid)
        # Without any brain the ROIs still count: they are not cut.
        stroke, visible, _ = cut_rois(subject, brain if brain.any() else ~nothing, examined.grid)
    unlabelled = visible is None and isinstance(subject, PreparedCase)
    if stroke is None or unlabelled:
        raise StoreError(
            "no ROI is stored: only labelled patients can be evaluated", examination_id=subject.examination_id
        )
    masks = {Channel.BRAIN: brain, Channel.STROKE: stroke}
    return masks if visible is None else {**masks, Channel.FLAIR_VISIBLE: visible}
