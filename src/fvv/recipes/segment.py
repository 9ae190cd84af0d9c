"""The one path from a prepared patient to a fused segmentation: evaluation and prediction share it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from fvv.arrays import BoolArray
from fvv.config import PostprocessConfig
from fvv.data import Finding, FusedSegmentation, PreparedCase, Severity
from fvv.errors import FvvError
from fvv.imaging.fusion import fuse_folds
from fvv.imaging.postprocess import postprocess_findings, stroke_filter
from fvv.imaging.slabs import network_input
from fvv.inference.ensemble import OnnxEnsemble

LEAST_BRAIN = 0.5
"""Of the preprocessing mask (chosen here)."""


def segment_case(
    case: PreparedCase, ensemble: OnnxEnsemble, postprocess: PostprocessConfig | None = None
) -> FusedSegmentation:
    """Run every model on a patient and fuse what they say.

    Args:
        case: prepared with the ensemble's profile.
        ensemble: one model (evaluation, out of fold) or all (prediction).
        postprocess: what is taken out of the fused stroke; None: nothing.

    Raises:
        ModelError: a model's output is not finite.
    """
    return fuse_masks(_each_mask(case, ensemble), case, postprocess)


def segment_together_and_alone(
    case: PreparedCase, ensemble: OnnxEnsemble, postprocess: PostprocessConfig | None = None
) -> tuple[FusedSegmentation, tuple[FusedSegmentation, ...]]:
    """`segment_case`, and beside it what each model says when it is asked alone.

    Args:
        case: prepared with the ensemble's profile.
        ensemble: the models.
        postprocess: what is taken out of each fused stroke; None: nothing.

    Raises:
        ModelError: a model's output is not finite.
    """
    masks = list(_each_mask(case, ensemble))
    return fuse_masks(masks, case, postprocess), tuple(fuse_masks([mask], case, postprocess) for mask in masks)


def fuse_masks(
    masks: Iterable[BoolArray], case: PreparedCase, postprocess: PostprocessConfig | None = None
) -> FusedSegmentation:
    """Fuse what some models marked, and say what that makes doubtful: `decide` needs both.

    Args:
        masks: of each model (3, i, j, k) bool on the working grid, channels in `Channel` order; at least one.
        case: the patient as the models saw it.
        postprocess: what is taken out of the fused stroke; None: nothing.

    Raises:
        InputError: diffusion is asked for, and the case was prepared without the scale of its signals.
    """
    fused = fuse_folds(masks, stroke_filter(case, postprocess))
    findings = postprocess_findings(fused.stroke, case=case, config=postprocess)
    return replace(fused, findings=(*_brain_findings(fused.brain, case), *findings))


def _brain_findings(brain: BoolArray, case: PreparedCase) -> tuple[Finding, ...]:
    """The stroke is cut to the brain that the models mark: with hardly any, 0 mL of stroke would mean nothing.

    With none at all there is no decision (`fvv.imaging.decision.decide`).
    """
    found, expected = (int(mask.sum()) * case.voxel_volume_ml for mask in (brain, case.brain))
    if not found or found >= LEAST_BRAIN * expected:
        return ()
    message = f"the models found {found:.0f} mL of brain, the mask holds {expected:.0f} mL"
    return (Finding("no-brain", message, Severity.NOT_ASSESSABLE),)


def _each_mask(case: PreparedCase, ensemble: OnnxEnsemble) -> Iterator[BoolArray]:
    """(3, i, j, k) bool of one model after another."""
    try:
        for mask in ensemble.each_mask(network_input(case, ensemble.profile.context_slices)):
            yield np.moveaxis(mask, 1, 3)  # (3, k, i, j) -> (3, i, j, k)
    except FvvError as error:
        raise error.for_patient(case.patient) from error
