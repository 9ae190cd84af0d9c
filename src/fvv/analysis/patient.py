"""How one examination was predicted, and how it is answered under another cut-off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fvv.analysis.metrics import lesion_sizes, segmentation_metrics
from fvv.arrays import BoolArray
from fvv.config import DecisionConfig
from fvv.data import Channel, Decision, DecisionState, Participant
from fvv.imaging.decision import ANSWER_CODES, MODELS_DISAGREE, agreeing_models, answer, models_disagree
from fvv.schemas.patient import METRICS, ChannelResult, MaskMetrics, PatientResult

Masks = Mapping[Channel, BoolArray]
Row = dict[str, str | float | None]
"""A row of a table; None is an empty cell."""


def measure_patient(
    participant: Participant,
    fold: int | None,
    decision: Decision,
    *,
    reference: Masks,
    predicted: Masks | None,
    spacing_mm: tuple[float, float, float],
    reference_ml: Mapping[Channel, float],
    predicted_ml: Mapping[Channel, float],
) -> PatientResult:
    """Measure a prediction against the reference.

    Args:
        participant: who.
        fold: whose model; None: the ensemble.
        decision: the answer given; where it is not assessable, no predicted volume is kept.
        reference: (i, j, k) bool mask of each channel on the native grid; without FLAIR-visible where nobody outlined
            it: nothing but the predicted volume is then known of that channel.
        predicted: the same, predicted; None where quality control refused the images and no model was run: then
            nothing was missed.
        spacing_mm: voxel edges of that grid.
        reference_ml: volumes as prepared.
        predicted_ml: volumes as reported to users; none are needed where nothing is measured.
    """
    measured = decision.state is not DecisionState.NOT_ASSESSABLE
    results = {}
    for channel in Channel:
        metrics, lesions = MaskMetrics(), list[tuple[float, bool]]()
        if predicted is not None and channel in reference:
            masks = reference[channel], predicted[channel]
            metrics = segmentation_metrics(*masks, spacing_mm)
            if channel is not Channel.BRAIN:
                lesions = lesion_sizes(*masks, math.prod(spacing_mm) / 1000.0)
        volume_ml = reference_ml.get(channel, math.nan)
        error_ml = predicted_ml[channel] - volume_ml if measured else math.nan
        results[channel.label] = ChannelResult(
            **metrics.model_dump(),
            reference_volume_ml=volume_ml,
            predicted_volume_ml=predicted_ml[channel] if measured else math.nan,
            volume_error_ml=error_ml,
            volume_error_percent=100.0 * error_ml / volume_ml if volume_ml > 0 else math.nan,
            lesions=tuple(lesions),
        )
    return PatientResult(
        **results,
        examination_id=participant.examination_id,
        person_id=participant.person_id,
        site=participant.site,
        fold=fold,
        reader_mismatch=participant.dwi_flair_mismatch,
        decision=decision.state,
        reasons=tuple(finding.code for finding in decision.reasons),
    )


def decided_with(patient: PatientResult, config: DecisionConfig) -> PatientResult:
    """The same measurement with the answer under these settings; nothing is measured again."""
    if patient.fvv_ml is None:
        return patient
    state, code = answer(patient.stroke.predicted_volume_ml, patient.fvv_ml, config)
    per_model = patient.fvv_per_model_ml
    if not per_model and patient.reasons[:1] == (code,):  # Files of versions 1 and 2: what was said holds.
        return patient
    disagree = models_disagree(agreeing_models(patient.fvv_ml, per_model, config), len(per_model))
    warned = (MODELS_DISAGREE,) if disagree and state is not DecisionState.NO_LESION_FOUND else ()
    found = (reason for reason in patient.reasons if reason not in ANSWER_CODES)  # By quality control: it stays.
    return patient.model_copy(update={"decision": state, "reasons": (code, *warned, *found)})


def metric_rows(patients: Sequence[PatientResult]) -> list[Row]:
    """Every metric of every examination and channel, one a row."""
    return [
        {
            "examination_id": patient.examination_id,
            "person_id": patient.person_id,
            "fold": patient.fold,
            "channel": channel.label,
            "metric": name,
            "value": _cell(getattr(patient.of(channel), name)),
        }
        for patient in patients
        for channel in Channel
        for name in METRICS
    ]


def patient_row(patient: PatientResult, *, mismatch: bool | None) -> Row:
    """An examination as one row.

    Args:
        mismatch: the label used for the marker, None where there is none.
    """
    row: Row = {
        "examination_id": patient.examination_id,
        "person_id": patient.person_id,
        "site": patient.site or None,
        "fold": patient.fold,
        "decision": patient.decision.value,
        "reasons": "; ".join(patient.reasons),
        "mismatch": None if mismatch is None else int(mismatch),
        "visible_fraction": _cell(patient.visible_fraction),
    }
    for suffix, name in (
        ("reference_ml", "reference_volume_ml"),
        ("predicted_ml", "predicted_volume_ml"),
        ("dice", "dice_coefficient"),
    ):
        row |= {f"{channel.label}_{suffix}": _cell(getattr(patient.of(channel), name)) for channel in Channel}
    row |= {
        "stroke_false_positive_ml": _cell(patient.stroke.false_positive_ml),
        "relative_dwi_iqr": _cell(patient.relative_dwi_iqr),
        "relative_adc": _cell(patient.relative_adc),
    }
    return row | {name: _cell(value) for name, value in patient.own_metrics.items()}


def _cell(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
