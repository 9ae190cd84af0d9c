"""From a segmentation and its quality to one of four answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fvv.config import DecisionConfig
from fvv.data import Channel, Decision, DecisionState, Finding, FusedSegmentation, Prediction, Severity

AGREEMENT = 2 / 3
"""Share of the models that must lie on the answer's side of the cut-off, or the reader is warned (chosen here)."""
MOST_BRAIN_ML = 3000.0
"""Predicted, with the fluid around it: more than the largest brains ever described (chosen here; what the brain mask
may hold is bounded more narrowly, by `brain_volume_bounds_ml`)."""
MOST_STROKE = 0.75
"""Of the predicted brain: more than both anterior circulations together (chosen here)."""
MOST_DECIMALS = 6
MODELS_DISAGREE = "models-disagree"
ANSWER_CODES = {"no-lesion", "fvv-under-cutoff", "fvv-over-cutoff", MODELS_DISAGREE}
"""Codes of the findings that are the answer itself, or follow from the cut-off."""


def not_assessable(findings: Iterable[Finding]) -> bool:
    """Whether a finding forbids any answer."""
    return any(finding.severity is Severity.NOT_ASSESSABLE for finding in findings)


def decide(
    fused: FusedSegmentation | None, voxel_volume_ml: float, findings: Sequence[Finding], config: DecisionConfig
) -> Decision:
    """Decide; what cannot be assessed never becomes a volume.

    Args:
        fused: the segmentation, None where none could be made.
        voxel_volume_ml: volume of one working-grid voxel.
        findings: what quality control has said so far.
        config: cut-off and smallest lesion.

    Returns:
        not assessable, if a finding says so, nothing was segmented, or no head holds what was; no lesion found, if the
        stroke is not over the smallest lesion; else mismatch likely under the cut-off and unlikely from it on.
    """
    if fused is None:
        return _decision(DecisionState.NOT_ASSESSABLE, findings, config)
    brain_ml, stroke_ml, fvv_ml, *per_model = (
        float(voxels) * voxel_volume_ml
        for voxels in (
            fused.brain.sum(),
            fused.stroke.sum(),
            fused.flair_visible_voxels,
            *fused.flair_visible_voxels_per_model,
        )
    )
    found = [*findings, *fused.findings, *_impossible(brain_ml, stroke_ml)]
    return decide_volumes(stroke_ml, fvv_ml, per_model, found, config)


def _impossible(brain_ml: float, stroke_ml: float) -> list[Finding]:
    """What no head holds comes from models of another kind or a wrong voxel size, and is never an answer."""
    message = ""
    if not brain_ml:
        message = "the models found no brain"
    elif brain_ml > MOST_BRAIN_ML:
        message = f"the models found {brain_ml:.0f} mL of brain, no head holds more than {MOST_BRAIN_ML:.0f}"
    if message:
        return [Finding("no-brain", message, Severity.NOT_ASSESSABLE)]
    if stroke_ml > MOST_STROKE * brain_ml:
        message = f"the models found {stroke_ml:.0f} mL of stroke in {brain_ml:.0f} mL of brain: no stroke is so large"
        return [Finding("stroke-too-large", message, Severity.NOT_ASSESSABLE)]
    return []


def format_ml(volume: float | None, *limits_ml: float) -> str:
    """A volume with its unit, as fine as it takes to show on which side of the limits it lies, and that it is not 0."""
    if volume is None:
        return "not measured"
    decimals = next((places for limit, places in ((1, 3), (10, 2), (1000, 1)) if volume < limit), 0)
    while decimals < MOST_DECIMALS and any(
        np.sign(round(volume, decimals) - limit) != np.sign(volume - limit) for limit in (0, *limits_ml)
    ):
        decimals += 1
    return f"{volume:.{decimals}f} mL"


def decide_again(prediction: Prediction, config: DecisionConfig) -> Decision:
    """The decision at another cut-off, from the volumes of a finished prediction.

    What could not be assessed stays so. The smallest lesion is that of the prediction, unless the settings name one.
    """
    if "minimum_lesion_ml" not in config.model_fields_set:
        config = config.model_copy(update={"minimum_lesion_ml": prediction.decision.minimum_lesion_ml})
    stroke_ml, fvv_ml = prediction.volume_ml(Channel.STROKE), prediction.fvv_ml
    brain_ml = prediction.volume_ml(Channel.BRAIN)
    kept = [reason for reason in prediction.decision.reasons if reason.code not in ANSWER_CODES]
    if brain_ml is None or stroke_ml is None or fvv_ml is None:
        return _decision(DecisionState.NOT_ASSESSABLE, kept, config)
    kept += _impossible(brain_ml, stroke_ml)
    return decide_volumes(stroke_ml, fvv_ml, prediction.fvv_per_model_ml, kept, config)


def decide_volumes(
    stroke_ml: float,
    fvv_ml: float,
    fvv_per_model_ml: Sequence[float],
    findings: Sequence[Finding],
    config: DecisionConfig,
) -> Decision:
    """The decision on measured volumes.

    Args:
        stroke_ml, fvv_ml: of the fused segmentation.
        fvv_per_model_ml: FVV of each model within the fused stroke; where many lie on the other side of the cut-off,
            the reader is warned.
        findings: what quality control has said.
        config: cut-off and smallest lesion.
    """
    if not_assessable(findings):
        return _decision(DecisionState.NOT_ASSESSABLE, findings, config)
    state, code = answer(stroke_ml, fvv_ml, config)
    if state is DecisionState.NO_LESION_FOUND:
        smallest_ml = config.minimum_lesion_ml
        message = f"stroke volume {format_ml(stroke_ml, smallest_ml)} is not over {smallest_ml:g} mL"
        return _decision(state, [Finding(code, message, Severity.NOTE), *findings], config)
    side = "under" if state is DecisionState.MISMATCH_LIKELY else "not under"
    reasons = [
        Finding(code, f"FVV {format_ml(fvv_ml, config.cutoff_ml)} is {side} {config.cutoff_ml:g} mL", Severity.NOTE)
    ]
    agreeing = agreeing_models(fvv_ml, fvv_per_model_ml, config)
    if models_disagree(agreeing, len(fvv_per_model_ml)):
        message = (
            f"only {agreeing} of {len(fvv_per_model_ml)} models agree with the decision (FVV against the cut-off, "
            "within the ensemble's stroke)"
        )
        reasons.append(Finding(MODELS_DISAGREE, message, Severity.WARNING))
    return _decision(state, [*reasons, *findings], config)


def agreeing_models(fvv_ml: float, fvv_per_model_ml: Sequence[float], config: DecisionConfig) -> int:
    """How many models have their FVV on the same side of the cut-off as the ensemble."""
    return sum((fvv < config.cutoff_ml) == (fvv_ml < config.cutoff_ml) for fvv in fvv_per_model_ml)


def models_disagree(agreeing: int, n_models: int) -> bool:
    """Whether so few models agree that the reader is warned."""
    return agreeing < AGREEMENT * n_models


def answer(stroke_ml: float, fvv_ml: float, config: DecisionConfig) -> tuple[DecisionState, str]:
    """The answer to two measured volumes, and its reason code."""
    if stroke_ml <= config.minimum_lesion_ml:
        return DecisionState.NO_LESION_FOUND, "no-lesion"
    if fvv_ml < config.cutoff_ml:
        return DecisionState.MISMATCH_LIKELY, "fvv-under-cutoff"
    return DecisionState.MISMATCH_UNLIKELY, "fvv-over-cutoff"


def _decision(state: DecisionState, reasons: Sequence[Finding], config: DecisionConfig) -> Decision:
    return Decision(state, config.cutoff_ml, tuple(reasons), config.minimum_lesion_ml)
