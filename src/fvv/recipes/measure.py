"""From a segmented patient to what is measured and drawn of it: shared by every kind of evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fvv.analysis.figures import comparison_figure, figure_png, grey_scale, paint_heatmap
from fvv.analysis.metrics import dice_coefficient
from fvv.analysis.patient import PatientResult, SingleModelResult
from fvv.analysis.viewer import viewer_volumes
from fvv.arrays import BoolArray, UInt8Array
from fvv.data import (
    Case,
    Channel,
    Decision,
    DecisionState,
    FusedSegmentation,
    Participant,
    PreparedCase,
    Volume,
)
from fvv.errors import StoreError
from fvv.imaging.decision import format_ml
from fvv.imaging.fusion import restore_segmentation, visible_to_half
from fvv.imaging.geometry import plan_grid, restore_to_native, slice_axis, to_working_grid
from fvv.io.evaluation import PatientFiles

Masks = Mapping[Channel, BoolArray]


def measure_case(
    case: PreparedCase,
    participant: Participant,
    fold: int | None,
    fused: FusedSegmentation | None,
    decision: Decision,
    *,
    alone: Sequence[FusedSegmentation] = (),
    pictures: bool = True,
) -> tuple[PatientResult, PatientFiles]:
    """Bring a segmentation back to the native grid, compare it with what was drawn, draw both.

    Args:
        case: prepared, with its ROIs.
        participant: who.
        fold: whose model; None: the ensemble.
        fused: what the model, or the ensemble, marked; None where it was not run.
        decision: the answer given.
        alone: what each model of the ensemble marks alone.
        pictures: draw the picture, the heat map and the viewer's volumes.

    Raises:
        StoreError: the case carries no ROI.
    """
    drawn = _drawn_masks(case)
    truth = {channel: restore_to_native(mask, case.grid) for channel, mask in drawn.items()}
    prediction = None if fused is None else _native_prediction(fused, case)
    result = PatientResult.compare(
        participant,
        fold,
        decision,
        truth=truth,
        predicted=prediction,
        spacing_mm=Volume(truth[Channel.BRAIN], case.grid.native_affine).spacing_mm,
        true_ml=_volumes_ml(case, *(mask.sum() for mask in drawn.values())),
        predicted_ml=_predicted_ml(fused, case),
        single_models=tuple(_single(one, case, truth) for one in alone),
    )
    measured = decision.state is not DecisionState.NOT_ASSESSABLE
    affine = case.grid.native_affine
    prediction = prediction or {channel: np.zeros_like(mask) for channel, mask in truth.items()}
    masks = np.stack([prediction[channel] for channel in Channel], axis=3).astype(np.uint8) if measured else None
    if not pictures:
        return result, PatientFiles(affine, masks)
    grey = restore_to_native(grey_scale(case.b1000, case.brain), case.grid)
    return result, PatientFiles(
        affine,
        masks,
        heatmap=_heatmap(case, grey, prediction) if measured else None,
        picture_png=_picture(case, grey, truth, prediction, result),
        viewer=viewer_volumes(grey, affine, truth, prediction, slice_axis=slice_axis(case.grid)),
    )


def as_drawn(case: Case, grid_size: int) -> PreparedCase:
    """What was drawn of an examination that cannot be prepared, to be counted with: no signal, nothing is cut.

    Args:
        case: as read, with its ROIs; without a mask no brain was drawn.
        grid_size: edge of the working grid, voxels.
    """
    grid = plan_grid(case.b1000, grid_size)
    nothing = np.zeros(grid.working_shape, dtype=np.float32)
    brain, stroke, visible = (
        nothing > 0 if roi is None else to_working_grid(roi.array, grid)
        for roi in (case.mask, case.stroke_roi, case.flair_visible_roi)
    )
    return PreparedCase(case.patient, nothing, nothing, brain, grid, stroke, visible & stroke)


def _drawn_masks(case: PreparedCase) -> dict[Channel, BoolArray]:
    """What was drawn, on the working grid."""
    if case.stroke is None or case.flair_visible is None:
        raise StoreError("no ROI is stored: only labelled patients can be evaluated", patient=case.patient)
    return {Channel.BRAIN: case.brain, Channel.STROKE: case.stroke, Channel.FLAIR_VISIBLE: case.flair_visible}


def _native_prediction(fused: FusedSegmentation, case: PreparedCase) -> dict[Channel, BoolArray]:
    """What was marked, on the native grid, exactly as `predict` writes it; FLAIR-visible by half of the models."""
    brain, stroke, votes = restore_segmentation(fused, case.grid)
    return {
        Channel.BRAIN: brain,
        Channel.STROKE: stroke,
        Channel.FLAIR_VISIBLE: visible_to_half(votes, fused.n_models),
    }


def _predicted_ml(fused: FusedSegmentation | None, case: PreparedCase) -> dict[str, float]:
    if fused is None:
        return {}
    return _volumes_ml(case, fused.brain.sum(), fused.stroke.sum(), fused.flair_visible_voxels)


def _single(fused: FusedSegmentation, case: PreparedCase, truth: Masks) -> SingleModelResult:
    prediction = _native_prediction(fused, case)
    dice = {channel.label: dice_coefficient(truth[channel], prediction[channel]) for channel in Channel}
    return SingleModelResult(fused.flair_visible_voxels * case.voxel_volume_ml, dice)


def _volumes_ml(case: PreparedCase, *voxels: float) -> dict[str, float]:
    """Volumes of the channels in their order, from voxels of the working grid."""
    return {channel.label: float(n) * case.voxel_volume_ml for channel, n in zip(Channel, voxels, strict=True)}


def _heatmap(case: PreparedCase, grey: UInt8Array, prediction: Masks) -> UInt8Array:
    brain, stroke, visible = (prediction[channel] for channel in Channel)
    return paint_heatmap(grey, brain, stroke, visible.astype(np.uint8), 1, slice_axis=slice_axis(case.grid))


def _picture(case: PreparedCase, grey: UInt8Array, truth: Masks, prediction: Masks, result: PatientResult) -> bytes:
    # The answer is left out: it changes with the cut-off, the picture does not.
    visible = Channel.FLAIR_VISIBLE.label
    dice = result.metrics[Channel.STROKE.label]["dice_coefficient"]
    who = "ensemble" if result.fold is None else f"fold {result.fold}"
    title = (
        f"{case.patient}   {who}\n"
        f"FVV {format_ml(result.fvv_ml)} (drawn {format_ml(result.true_ml[visible])})   "
        f"stroke Dice {'not defined' if np.isnan(dice) else f'{dice:.2f}'}"
    )
    figure = comparison_figure(grey, case.grid.native_affine, dict(truth), dict(prediction), title=title)
    return figure_png(figure)
