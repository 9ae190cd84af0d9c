"""What an epoch is judged by: whole validation patients, segmented by the rule that prediction uses.

Everything here is NumPy on finished masks; `module.py` runs the network.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from scipy.stats import rankdata
from torchmetrics.functional.classification import binary_auroc, binary_cohen_kappa, multiclass_cohen_kappa

from fvv.arrays import BoolArray, FloatArray, IntArray
from fvv.cohort.labels import VISIBLE_EDGES, mismatch_labels
from fvv.data import Channel
from fvv.imaging.fusion import fuse_folds
from fvv.imaging.overlap import Overlap

MINIMUM_SLICE_VOXELS = 20
"""A slice with less lesion counts as one without (the reference's rule)."""
NOT_VISIBLE_BELOW, VISIBLE_ABOVE = VISIBLE_EDGES
"""FLAIR-visible share of the lesion area that bounds the slice classes."""
SCORE = "valid/score"
"""What chooses the checkpoint (`epoch_score`); between equals the AUC (`selection_key`)."""
SCORE_SMOOTHING_ML = 0.5
"""Added to both sides of the Dice ratios of the score. Without it, a patient who lacks the structure counts 1 or 0 by a
single voxel, and with few validation patients that noise chooses the epoch. 0.5 mL: under it, FVV counts as none."""
SCORED = (Channel.STROKE, Channel.FLAIR_VISIBLE)
"""The structures whose smoothed Dice make the score."""


class SliceClass(IntEnum):
    """What a slice shows."""

    NONE = 0
    NOT_VISIBLE = 1
    MIXED = 2
    VISIBLE = 3


@dataclass(frozen=True, slots=True)
class PatientValidation:
    """How the network did on one validation patient. What rests on an unknown reference mask is NaN.

    Attributes:
        loss: mean loss over the volume.
        dice: brain, stroke, flair_visible, not_visible (the rest of the lesion).
        accuracy: share of voxels right: brain everywhere, stroke and flair_visible inside the reference brain.
        smoothed: smoothed Dice of each structure in `SCORED`, the patient's part in the epoch's score.
        reference_ml: reference volume of each of them.
        visible_fraction: FLAIR-visible share of the reference lesion; NaN without a lesion, None where unknown.
        overlap: stroke voxels common, predicted and reference, for the pooled Dice.
        classes: (slices, 2) int, reference and predicted `SliceClass`; no slice where a mask is unknown.
        fvv_ml: predicted FLAIR Visibility Volume.
        reader_mismatch: the readers' label; None where none is given.
    """

    loss: float
    dice: dict[str, float]
    accuracy: dict[str, float]
    smoothed: tuple[float, ...]
    reference_ml: tuple[float, ...]
    visible_fraction: float | None
    overlap: tuple[int, int, int]
    classes: IntArray
    fvv_ml: float
    reader_mismatch: bool | None


def selection_key(scores: Mapping[str, float]) -> tuple[float, float]:
    """What ranks the epochs: the score, then, between equals, the AUC (0 where one label is missing)."""
    auc = scores.get("valid/auc", float("nan"))
    return scores[SCORE], 0.0 if np.isnan(auc) else auc


def best_epoch(rows: Sequence[Mapping[str, float]]) -> int:
    """Position of the best of some epochs, the first of equals."""
    return max(range(len(rows)), key=lambda number: selection_key(rows[number]))


def out_of_patience(rows: Sequence[Mapping[str, float]], patience: int | None) -> bool:
    """Whether none of the last `patience` epochs was better than the best before them; never without patience."""
    return patience is not None and len(rows) > patience and len(rows) - 1 - best_epoch(rows) >= patience


def final_masks(predicted: BoolArray) -> BoolArray:
    """(3, Z, H, W) bool, logits > 0 of one model, to the fused masks, without post-processing, on the same axes."""
    fused = fuse_folds(predicted[None])
    return np.stack([fused.brain, fused.stroke, fused.flair_visible_votes > 0])


def judge_patient(
    predicted: BoolArray,
    reference: BoolArray,
    *,
    loss: float,
    voxel_volume_ml: float,
    mismatch: bool | None,
    known: Collection[Channel] = tuple(Channel),
) -> PatientValidation:
    """Compare one patient's final masks with the reference.

    Args:
        predicted: (3, Z, H, W) bool, from `final_masks`.
        reference: (3, Z, H, W) bool.
        voxel_volume_ml: of one voxel of the working grid.
        mismatch: the readers' label, where one is given.
        known: the channels that have a reference mask.
    """
    brain, stroke, visible = reference
    whole = {Channel.STROKE, Channel.FLAIR_VISIBLE} <= set(known)
    names = {*(channel.label for channel in known), *(["not_visible"] if whole else [])}
    predicted_stroke, predicted_visible = predicted[Channel.STROKE.value], predicted[Channel.FLAIR_VISIBLE.value]
    pairs = {channel.label: (predicted[channel.value], reference[channel.value]) for channel in Channel}
    pairs["not_visible"] = (predicted_stroke & ~predicted_visible, stroke & ~visible)
    right = predicted == reference
    inside = right[:, brain].mean(axis=1) if brain.any() else np.full(len(Channel), np.nan)
    lesion = int(stroke.sum())
    visible_fraction: float | None = int(visible.sum()) / lesion if lesion else float("nan")
    if not whole and (lesion or Channel.STROKE not in known):
        visible_fraction = None
    smoothing = SCORE_SMOOTHING_ML / voxel_volume_ml
    return PatientValidation(
        loss=loss,
        dice={name: dice_coefficient(*pair) if name in names else np.nan for name, pair in pairs.items()},
        accuracy={
            channel.label: float(right[0].mean() if channel is Channel.BRAIN else inside[channel.value])
            if channel in known
            else np.nan
            for channel in Channel
        },
        smoothed=tuple(dice_coefficient(*pairs[part.label], smoothing) if part in known else np.nan for part in SCORED),
        reference_ml=tuple(
            int(reference[part.value].sum()) * voxel_volume_ml if part in known else np.nan for part in SCORED
        ),
        visible_fraction=visible_fraction,
        overlap=(int((predicted_stroke & stroke).sum()), int(predicted_stroke.sum()), lesion)
        if Channel.STROKE in known
        else (0, 0, 0),
        classes=np.stack([slice_classes(reference), slice_classes(predicted)], axis=1)[: None if whole else 0],
        fvv_ml=float(predicted_visible.sum()) * voxel_volume_ml,
        reader_mismatch=mismatch,
    )


def dice_coefficient(predicted: BoolArray, reference: BoolArray, smoothing: float = 0.0) -> float:
    """Dice smoothed by this many voxels; 1 where both are empty: nothing to find, and nothing found."""
    dice = Overlap.of_masks(reference, predicted).smoothed_dice(smoothing)
    return 1.0 if np.isnan(dice) else dice


def slice_classes(masks: BoolArray) -> IntArray:
    """The `SliceClass` of every slice: (3, Z, H, W) bool to (Z,) int."""
    lesion = masks[Channel.STROKE.value].sum(axis=(1, 2))
    visible = (masks[Channel.FLAIR_VISIBLE.value] & masks[Channel.STROKE.value]).sum(axis=(1, 2))
    share = visible / np.maximum(lesion, 1)
    classes = np.full(lesion.shape, int(SliceClass.MIXED))
    classes[share < NOT_VISIBLE_BELOW] = SliceClass.NOT_VISIBLE
    classes[share > VISIBLE_ABOVE] = SliceClass.VISIBLE
    classes[lesion < MINIMUM_SLICE_VOXELS] = SliceClass.NONE
    return classes


def kappa_against_cutoff(fvv_ml: FloatArray, mismatch: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Cohen's kappa between "FVV under the cut-off" and the label, for every cut-off that changes an answer.

    Args:
        fvv_ml: (n,) predicted volumes.
        mismatch: (n,) labels.

    Returns:
        Cut-offs in mL, rising, and the kappa of each.
    """
    values = np.unique(fvv_ml)
    # Half-way between neighbours, and past both ends.
    cutoffs = np.concatenate([[values[0]], (values[1:] + values[:-1]) / 2.0, [values[-1] + 1e-3]])
    target = torch.from_numpy(mismatch.astype(np.int64))
    kappas = [float(binary_cohen_kappa(torch.from_numpy((fvv_ml < cut).astype(np.int64)), target)) for cut in cutoffs]
    return cutoffs, np.nan_to_num(np.asarray(kappas))


def labelled_volumes(patients: Sequence[PatientValidation]) -> tuple[FloatArray, BoolArray]:
    """FVV in mL and mismatch label of the patients that have one, from one source for all (`fvv.cohort.labels`)."""
    labels = mismatch_labels(
        [patient.reader_mismatch for patient in patients], [patient.visible_fraction for patient in patients]
    ).values
    labelled = [(patient.fvv_ml, label) for patient, label in zip(patients, labels, strict=True) if label is not None]
    return np.array([fvv for fvv, _ in labelled]), np.array([label for _, label in labelled], dtype=bool)


def absent_structures(reference_ml: Sequence[Sequence[float]]) -> tuple[Channel, ...]:
    """The structures in `SCORED` by which a validation set cannot choose a checkpoint.

    Args:
        reference_ml: for each patient, the reference volume of each structure; NaN where unknown.

    Returns:
        Those of which no patient has as much as `SCORE_SMOOTHING_ML`: a network that predicts nothing would be right.
    """
    largest = np.max(np.nan_to_num(np.asarray(reference_ml, dtype=float)), axis=0)
    return tuple(part for part, ml in zip(SCORED, largest, strict=True) if ml < SCORE_SMOOTHING_ML)


def epoch_score(patients: Sequence[PatientValidation]) -> float:
    """The mean of stroke Dice and FLAIR-visible Dice, both smoothed, each a mean over the patients who have that mask.

    A structure that is known of no patient does not count; where none is known of anybody, the score is 0.
    A structure that no patient of the set has (`absent_structures`) is multiplied by the brain Dice of each patient:
    otherwise a network that predicts nothing at all would get the best score there is.
    """
    absent = absent_structures([patient.reference_ml for patient in patients])
    score = _mean(
        _mean(
            patient.smoothed[place] * (patient.dice[Channel.BRAIN.label] if part in absent else 1.0)
            for patient in patients
        )
        for place, part in enumerate(SCORED)
    )
    return 0.0 if np.isnan(score) else score


def _mean(values: Iterable[float]) -> float:
    """Mean of the known values; NaN of none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def summarise(patients: Sequence[PatientValidation]) -> dict[str, float]:
    """All scores of an epoch by the name they are logged under; NaN where one cannot be computed."""
    scores = {"valid/loss": float(np.mean([patient.loss for patient in patients]))}
    for name in patients[0].dice:
        scores[f"valid/dice_{name}"] = _mean(patient.dice[name] for patient in patients)
    for name in patients[0].accuracy:
        scores[f"valid/accuracy_{name}"] = _mean(patient.accuracy[name] for patient in patients)
    common, predicted, reference = np.sum([patient.overlap for patient in patients], axis=0)
    scores["valid/dice_stroke_pooled"] = 2.0 * common / (predicted + reference) if predicted + reference else 1.0
    if np.isnan(scores["valid/dice_stroke"]):  # The stroke is unknown throughout.
        scores["valid/dice_stroke_pooled"] = float("nan")
    scores[SCORE] = epoch_score(patients)
    classes = torch.from_numpy(np.concatenate([patient.classes for patient in patients]))
    scores["valid/slice_kappa"] = float("nan")
    if len(classes):
        scores["valid/slice_kappa"] = float(multiclass_cohen_kappa(classes[:, 1], classes[:, 0], len(SliceClass)))
    scores["valid/auc"] = scores["valid/best_kappa"] = scores["valid/best_cutoff_ml"] = float("nan")
    volumes, mismatch = labelled_volumes(patients)
    if 0 < mismatch.sum() < mismatch.size:
        # Small volumes mean mismatch. Ranks within 0..1, since torchmetrics squashes anything else.
        rank = torch.from_numpy(1.0 - rankdata(volumes) / volumes.size)
        scores["valid/auc"] = float(binary_auroc(rank, torch.from_numpy(mismatch.astype(np.int64))))
        cutoffs, kappas = kappa_against_cutoff(volumes, mismatch)
        scores["valid/best_kappa"] = float(kappas.max())
        scores["valid/best_cutoff_ml"] = float(cutoffs[kappas.argmax()])
    return scores
