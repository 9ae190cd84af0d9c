"""From an examination and its reference masks to what is measured and shown of both."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from fvv.analysis.figures import comparison_figure, figure_png
from fvv.analysis.heatmap import grey_scale, heatmap_rgb
from fvv.analysis.patient import Masks, measure_patient
from fvv.analysis.viewer import viewer_volumes
from fvv.arrays import UInt8Array
from fvv.data import Channel, DecisionState, Participant, Volume
from fvv.errors import ConfigError
from fvv.imaging.decision import format_ml
from fvv.imaging.fusion import channel_masks
from fvv.imaging.geometry import restore_to_native, slice_axis
from fvv.imaging.lesion_signal import relative_dwi_iqr, relative_lesion_adc
from fvv.io.evaluation import PatientFiles
from fvv.names import plain
from fvv.recipes.examine import Examined
from fvv.schemas.patient import PatientResult
from fvv.system.extension import extension


def measure_examination(
    examined: Examined,
    reference: Masks,
    participant: Participant,
    fold: int | None,
    *,
    pictures: bool,
    metrics: Iterable[str] = (),
) -> tuple[PatientResult, PatientFiles]:
    """Compare what was predicted with the reference, on the native grid, and draw both.

    Args:
        reference: (i, j, k) bool mask of each channel on the working grid; without FLAIR-visible where nobody outlined
            it.
        fold: whose model; None: the ensemble.
        pictures: draw the picture, the heat map and the viewer's volumes, where the examination could be prepared.
        metrics: names of the user's own, functions of reference masks, predicted masks and the voxel's edges in mm; NaN
            where one needs a reference mask that nobody outlined.

    Raises:
        ConfigError: a metric of the user's own cannot be found, or gives no number.
    """
    grid, fused, decision = examined.grid, examined.segmentation, examined.prediction.decision
    native_reference = {channel: restore_to_native(mask, grid) for channel, mask in reference.items()}

    def volumes_ml(*voxels: float) -> dict[Channel, float]:
        return {channel: float(n) * grid.voxel_volume_ml for channel, n in zip(Channel, voxels, strict=True)}

    predicted, predicted_ml = None, {}
    if fused is not None and examined.native is not None:
        predicted = channel_masks(*examined.native, fused.n_models)
        predicted_ml = volumes_ml(fused.brain.sum(), fused.stroke.sum(), fused.flair_visible_voxels)
    spacing_mm = Volume(native_reference[Channel.BRAIN], grid.native_affine).spacing_mm
    result = measure_patient(
        participant,
        fold,
        decision,
        reference=native_reference,
        predicted=predicted,
        spacing_mm=spacing_mm,
        reference_ml={channel: float(mask.sum()) * grid.voxel_volume_ml for channel, mask in reference.items()},
        predicted_ml=predicted_ml,
    )
    own = {name: _own_metric(name, native_reference, predicted, spacing_mm) for name in metrics}
    measured = decision.state is not DecisionState.NOT_ASSESSABLE
    more = {"fvv_per_model_ml": examined.prediction.fvv_per_model_ml, **_lesion_signal(examined)} if measured else {}
    result = result.model_copy(update={"own_metrics": own, **more})
    predicted = predicted or dict.fromkeys(Channel, np.zeros_like(native_reference[Channel.BRAIN]))
    masks = np.stack([predicted[channel] for channel in Channel], axis=3).astype(np.uint8) if measured else None
    files = PatientFiles(grid.native_affine, masks)
    if pictures and examined.prepared is not None:
        # Nothing is shown of what nobody outlined.
        native_reference = dict.fromkeys(Channel, np.zeros_like(native_reference[Channel.BRAIN])) | native_reference
        grey = restore_to_native(grey_scale(examined.prepared.b1000, reference[Channel.BRAIN]), grid)
        files = _with_pictures(files, grey, native_reference, predicted, title=_title(result), axis=slice_axis(grid))
    return result, files


def _lesion_signal(examined: Examined) -> dict[str, float]:
    """The plain numbers of the predicted stroke, beside which the FVV is judged."""
    prepared, fused = examined.prepared, examined.segmentation
    if prepared is None or fused is None:
        return {}
    return {
        "relative_dwi_iqr": relative_dwi_iqr(prepared, fused.stroke, fused.brain),
        "relative_adc": relative_lesion_adc(prepared, fused.stroke, fused.brain),
    }


def _own_metric(name: str, reference: Masks, predicted: Masks | None, spacing_mm: tuple[float, float, float]) -> float:
    metric = extension(name, "metric")
    if predicted is None:
        return math.nan
    try:
        return float(metric(reference, predicted, spacing_mm))
    except Exception as error:  # The user's code may raise anything.
        if isinstance(error, KeyError) and error.args[0] in set(Channel) - set(reference):
            return math.nan  # It needs a mask that nobody outlined.
        message = f"metric {name}: expected a number, got {type(error).__name__}: {plain(str(error))}"
        raise ConfigError(message) from error


def _with_pictures(
    files: PatientFiles, grey: UInt8Array, reference: Masks, predicted: Masks, *, title: str, axis: int
) -> PatientFiles:
    heatmap = None
    if files.masks is not None:
        brain, stroke, visible = (predicted[channel] for channel in Channel)
        heatmap = heatmap_rgb(grey, brain, stroke, visible.astype(np.uint8), 1, slice_axis=axis)
    figure = comparison_figure(grey, files.affine, reference, predicted, title=title)
    viewer = viewer_volumes(grey, files.affine, reference, predicted, slice_axis=axis)
    return replace(files, heatmap=heatmap, picture_png=figure_png(figure), viewer=viewer)


def _title(result: PatientResult) -> str:
    """Without the answer: it changes with the cut-off, the picture does not."""
    dice = result.stroke.dice_coefficient
    visible_ml = result.flair_visible.reference_volume_ml
    reference = "not outlined" if np.isnan(visible_ml) else format_ml(visible_ml)
    return (
        f"{result.examination_id}   {'ensemble' if result.fold is None else f'fold {result.fold}'}\n"
        f"FVV {format_ml(result.fvv_ml)} (reference {reference})   "
        f"stroke Dice {'not defined' if np.isnan(dice) else f'{dice:.2f}'}"
    )
