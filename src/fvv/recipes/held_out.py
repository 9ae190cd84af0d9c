"""Examinations of persons that a model has never seen: who they are, and what the readers outlined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from fvv.arrays import BoolArray
from fvv.cohort.examinations import Cohort
from fvv.cohort.participants import same_images_of_two_persons
from fvv.config import EvaluateConfig
from fvv.data import Case, Channel, Failure, Participant, PreparedCase, hashed_ids
from fvv.errors import FvvError, ModelError
from fvv.imaging.geometry import to_working_grid
from fvv.imaging.preprocess import cut_rois
from fvv.io.bundle import ModelBundle
from fvv.io.case import Place, case_files, hash_files, image_sha256
from fvv.io.tables import failure_of
from fvv.recipes.examine import Examined
from fvv.recipes.labelled import read_labelled
from fvv.schemas.bundle import ModelEntry
from fvv.system.parallel import map_items

FileHashes: TypeAlias = list[tuple[str, str]]
"""Name and SHA-256 of each file of an examination."""


def held_out_participants(
    cohort: Cohort, names: Iterable[str], bundle: ModelBundle, config: EvaluateConfig
) -> tuple[dict[str, FileHashes], list[Failure]]:
    """Look at every image before any is examined, so that a refusal comes at once.

    Args:
        cohort: labelled examinations, as for `prepare`.
        names: of those to look at.
        bundle: none of its models may have seen them.

    Returns:
        Those that can be used, in the order given, each with the hashes of its files; and those that cannot be read, or
        have the same images as another person's.

    Raises:
        ModelError: data leakage, see `refuse_leakage`.
    """
    refuse_unknown_training(bundle.models, bundle)
    items, failures = cohort.located(names), []
    hashes: dict[str, FileHashes] = {}
    images_of: dict[str, str] = {}
    look = partial(_look, config)
    for (one, _), seen in map_items(look, items, workers=config.compute.workers, description="check"):
        if isinstance(seen, FvvError):
            failures.append(failure_of(one.examination_id, seen))
            continue
        images_of[one.examination_id], hashes[one.examination_id] = seen
        refuse_leakage(bundle.models, bundle, one.examination_id, [one.person_id], images_of[one.examination_id])
    doubled = same_images_of_two_persons({one.examination_id: one for one, _ in items}, images_of)
    failures += doubled.values()
    in_order = [one.examination_id for one, _ in items if one.examination_id in hashes.keys() - doubled.keys()]
    return {name: hashes[name] for name in in_order}, failures


def _look(config: EvaluateConfig, item: tuple[Participant, Place]) -> tuple[str, FileHashes]:
    """Hash of the images, and of each file."""
    participant, place = item
    return image_sha256(read_held_out(place, participant, config)), hash_files(case_files(place))


def read_held_out(place: Place, participant: Participant, config: EvaluateConfig) -> Case:
    """`read_labelled`, where a missing FLAIR-visible ROI is always accepted: that part is then unknown, never 0 mL."""
    return read_labelled(place, participant, config.preprocess, finite=False, optional=(Channel.FLAIR_VISIBLE,))


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

    Returns:
        Without the channels that nobody outlined.
    """
    prepared = examined.prepared
    if prepared is not None and not (own_masks and isinstance(subject, Case) and subject.mask is not None):
        brain, stroke, visible = prepared.brain, prepared.stroke, prepared.flair_visible
    elif isinstance(subject, Case):
        nothing = np.zeros(examined.grid.working_shape, dtype=bool)
        brain = nothing if subject.mask is None else to_working_grid(subject.mask.array, examined.grid)
        # Without any brain the ROIs still count: they are not cut.
        stroke, visible, _ = cut_rois(subject, brain if brain.any() else ~nothing, examined.grid)
    masks = {Channel.BRAIN: brain, Channel.STROKE: stroke, Channel.FLAIR_VISIBLE: visible}
    return {channel: mask for channel, mask in masks.items() if mask is not None}
