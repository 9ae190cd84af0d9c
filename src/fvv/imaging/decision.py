"""From a segmentation and its quality to one of four answers."""

from __future__ import annotations

from collections.abc import Sequence

from fvv.config import DecisionConfig
from fvv.data import Decision, DecisionState, Finding, FusedSegmentation, Severity


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
        not assessable, if a finding says so or nothing was segmented; no lesion found, if the stroke is not over the
        smallest lesion; else mismatch likely under the cut-off and unlikely from it on.
    """
    found = list(findings)
    if fused is not None and not fused.brain.any():
        found.append(Finding("no-brain", "the models found no brain", Severity.NOT_ASSESSABLE))
    if fused is None or any(finding.severity is Severity.NOT_ASSESSABLE for finding in found):
        return Decision(DecisionState.NOT_ASSESSABLE, config.cutoff_ml, tuple(found))
    stroke_ml = int(fused.stroke.sum()) * voxel_volume_ml
    fvv_ml = fused.flair_visible_voxels * voxel_volume_ml
    state, code = answer(stroke_ml, fvv_ml, config)
    if state is DecisionState.NO_LESION_FOUND:
        why = f"stroke volume {stroke_ml:.2f} mL"
    else:
        side = "under" if state is DecisionState.MISMATCH_LIKELY else "not under"
        why = f"FVV {fvv_ml:.2f} mL is {side} {config.cutoff_ml:g} mL"
    return Decision(state, config.cutoff_ml, (Finding(code, why, Severity.NOTE), *found))


def answer(stroke_ml: float, fvv_ml: float, config: DecisionConfig) -> tuple[DecisionState, str]:
    """The answer to two measured volumes, and its reason code."""
    if stroke_ml <= config.minimum_lesion_ml:
        return DecisionState.NO_LESION_FOUND, "no-lesion"
    if fvv_ml < config.cutoff_ml:
        return DecisionState.MISMATCH_LIKELY, "fvv-under-cutoff"
    return DecisionState.MISMATCH_UNLIKELY, "fvv-over-cutoff"
