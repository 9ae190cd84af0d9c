"""From a prepared examination to what the models find in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.config import PostprocessConfig, PreprocessingProfile
from fvv.data import Finding, FusedSegmentation, PreparedCase, Severity
from fvv.errors import FvvError
from fvv.imaging.fusion import fuse_folds
from fvv.imaging.postprocess import without_small_pieces
from fvv.imaging.slabs import network_input

NOTHING_REMOVED = PostprocessConfig()
LEAST_BRAIN = 0.5
"""Of the preprocessing mask (chosen here)."""


class Models(Protocol):
    """Models that are applied together: an `OnnxEnsemble`, or what stands for one."""

    profile: PreprocessingProfile
    provider: str

    def __len__(self) -> int: ...

    def each_mask(self, padded: FloatArray) -> Iterator[BoolArray]:
        """(2, slices + 2 * context, i, j) network input to (3, slices, i, j) bool of one model after another."""
        ...


def segment_case(
    case: PreparedCase, models: Models, postprocess: PostprocessConfig = NOTHING_REMOVED
) -> FusedSegmentation:
    """Run every model on an examination and fuse their masks.

    Args:
        case: prepared with the models' profile.
        models: one (evaluation, out of fold) or all (prediction).
        postprocess: what is taken out of the fused stroke.

    Raises:
        ModelError: a model's output is not finite.
    """
    return _fused(_masks(case, models), case, postprocess)


def _fused(masks: Iterable[BoolArray], case: PreparedCase, postprocess: PostprocessConfig) -> FusedSegmentation:
    voxel_mm3 = 1000 * case.voxel_volume_ml
    keep = partial(without_small_pieces, minimum_mm3=postprocess.minimum_lesion_mm3, voxel_mm3=voxel_mm3)
    fused = fuse_folds(masks, keep)
    # The stroke is cut to the predicted brain: with hardly any brain, 0 mL of stroke would mean nothing.
    found, expected = (int(mask.sum()) * case.voxel_volume_ml for mask in (fused.brain, case.brain))
    if not found or found >= LEAST_BRAIN * expected:  # With none at all `decide` gives no answer.
        return fused
    message = f"the models found {found:.0f} mL of brain, the mask holds {expected:.0f} mL"
    return replace(fused, findings=(Finding("no-brain", message, Severity.NOT_ASSESSABLE),))


def _masks(case: PreparedCase, models: Models) -> Iterator[BoolArray]:
    """(3, i, j, k) bool of one model after another."""
    padded = network_input(case, models.profile.context_slices)

    def run() -> Iterator[BoolArray]:
        try:
            for mask in models.each_mask(padded):
                yield np.moveaxis(mask, 1, 3)  # (3, k, i, j) -> (3, i, j, k)
        except FvvError as error:
            raise error.for_examination(case.examination_id) from error

    return run()
