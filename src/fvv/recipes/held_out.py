"""Labelled patients whom no model of a bundle has seen: who they are, what the models are shown, what was drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fvv.cohort.participants import read_participants
from fvv.config import EvaluateConfig, PreprocessingProfile
from fvv.data import Case, Failure, Participant, PreparedCase, hashed_ids
from fvv.errors import FvvError, ModelError
from fvv.imaging.preprocess import preprocess_case
from fvv.io.bundle import ModelBundle
from fvv.io.case import image_sha256, read_case
from fvv.io.manifest import failure_of
from fvv.io.mask_command import with_commanded_mask
from fvv.system.parallel import attempt, track


def unseen_participants(
    patients: Path, bundle: ModelBundle, config: EvaluateConfig
) -> tuple[list[Participant], list[Failure]]:
    """Look at every image before any is predicted, so that a refusal comes at once.

    Args:
        patients: labelled patients, a folder each, as for `prepare`.
        bundle: all of its models must be strangers to them.
        config: how images are read.

    Returns:
        Those who can be read, in the order of the table, and those who cannot.

    Raises:
        ModelError: a model was trained on one of these persons or images, or does not say on whom it was trained.
    """
    for model in bundle.models:
        if not model.trained_on:
            raise ModelError("the model does not say on whom it was trained", file=bundle.path / model.file)
    trained_on = {identity for model in bundle.models for identity in model.trained_on}
    participants = read_participants(patients, unlisted=config.preprocess.unlisted)
    unseen, failures = [], []
    for name, participant in track(participants.items(), "check", len(participants)):
        case = attempt(read_case, patients / name, config.preprocess, labelled=True, finite=False)
        if isinstance(case, FvvError):
            failures.append(failure_of(name, case))
            continue
        _refuse_seen(case, participant, trained_on, bundle)
        unseen.append(participant)
    return unseen, failures


def shown_to_models(case: Case, profile: PreprocessingProfile, config: EvaluateConfig) -> Case:
    """The patient as the models see it: without the drawn mask, where `own_masks` asks for that."""
    shown = replace(case, mask=None) if config.own_masks else case
    return with_commanded_mask(shown, profile, resample=config.preprocess.resample_rois)


def with_drawn_brain(
    case: Case, shown: PreparedCase, profile: PreprocessingProfile, config: EvaluateConfig
) -> PreparedCase:
    """The patient with the brain in which the lesion was drawn: a mask file holds it, also where no model sees it."""
    return preprocess_case(case, profile) if config.own_masks and case.mask is not None else shown


def _refuse_seen(case: Case, participant: Participant, trained_on: set[str], bundle: ModelBundle) -> None:
    """The images are known again under any name; a person under the same id, whatever the images."""
    for identity, what, hint in (
        (image_sha256(case), "these images", "leave this patient out"),
        (participant.person, "this person", "leave this patient out; another person needs another patient_id"),
    ):
        if set(hashed_ids([identity])) & trained_on:
            raise ModelError(
                f"the ensemble was trained on {what}: testing it here would measure memory, not skill",
                patient=case.patient,
                file=bundle.path,
                hint=hint,
            )
