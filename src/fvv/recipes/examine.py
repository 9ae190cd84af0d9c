"""One patient, in memory: what `fvv predict` does between reading and writing, and `fvv.predict` altogether."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from fvv.config import PredictConfig
from fvv.data import Case, Decision, DecisionState, Finding, Prediction, Severity
from fvv.errors import MaskError
from fvv.imaging.adc import DEFAULT_B, adc_map, gain_findings, lesion_adc
from fvv.imaging.decision import decide
from fvv.imaging.fusion import restore_segmentation
from fvv.imaging.geometry import plan_grid
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.quality import assess_quality
from fvv.imaging.quality.signal import without_gaps
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.mask_command import with_commanded_mask
from fvv.recipes.segment import segment_case
from fvv.schemas.bundle import BundleManifest


class Clock:
    """Seconds of each named step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside the block."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def predict_case(
    case: Case,
    ensemble: OnnxEnsemble,
    config: PredictConfig,
    manifest: BundleManifest | None = None,
    clock: Clock | None = None,
) -> Prediction:
    """One patient: prepare, check, segment, bring back to the native grid, decide.

    A patient without a trustworthy brain mask, or with images that quality control refuses, is not assessable: no
    volume is given, never 0 mL.

    Args:
        case: images as read.
        ensemble: the models.
        config: masks, cut-off.
        manifest: of the models' bundle: its calibration and training cohort.
        clock: keeps the time of each step.
    """
    clock = clock or Clock()
    profile = config.preprocess.applied_to(ensemble.profile)
    voxel_volume_ml = plan_grid(case.b1000, profile.grid_size).voxel_volume_ml
    models = "" if manifest is None else manifest.description(len(ensemble))

    def not_assessable(decision: Decision) -> Prediction:
        return Prediction(
            case.patient,
            decision,
            len(ensemble),
            voxel_volume_ml,
            provider=ensemble.provider,
            models=models,
            seconds=clock.seconds,
        )

    try:
        with clock.step("prepare"):
            case, not_finite = without_gaps(case)
            case = with_commanded_mask(case, profile, resample=config.preprocess.resample_rois)
            prepared = preprocess_case(case, profile)
        with clock.step("check"):
            findings = assess_quality(
                case,
                prepared,
                brain_volume_bounds_ml=config.preprocess.brain_volume_bounds_ml,
                not_finite=not_finite,
                usual_range=_usual_range(manifest),
            )
    except MaskError as error:
        findings = (Finding("no-brain-mask", error.message, Severity.NOT_ASSESSABLE),)
        return not_assessable(decide(None, voxel_volume_ml, findings, config.decision))

    fused = None
    if not any(finding.severity is Severity.NOT_ASSESSABLE for finding in findings):
        with clock.step("network"):
            asked = config.postprocess
            postprocess = asked if manifest is None else manifest.postprocessing(asked)
            fused = segment_case(prepared, ensemble, postprocess)
    decision = decide(fused, voxel_volume_ml, findings, config.decision)
    if fused is None or decision.state is DecisionState.NOT_ASSESSABLE:
        return not_assessable(decision)
    with clock.step("restore"):
        brain, stroke, votes = restore_segmentation(fused, prepared.grid, as_reference=profile.name == "reference-v1")
        adc = None
        if not gain_findings(prepared):
            adc = adc_map(case.b0.array, case.b1000.array, case.b_value or DEFAULT_B)
    prediction = Prediction(
        patient=case.patient,
        decision=decision,
        n_models=fused.n_models,
        voxel_volume_ml=voxel_volume_ml,
        brain_voxels=int(fused.brain.sum()),
        stroke_voxels=int(fused.stroke.sum()),
        flair_visible_voxels=fused.flair_visible_voxels,
        brain=brain,
        stroke=stroke,
        flair_visible_votes=votes,
        adc=None if adc is None else adc.astype(np.float32),
        fvv_per_model_ml=tuple(voxels * voxel_volume_ml for voxels in fused.flair_visible_voxels_per_model),
        lesion_adc=None if adc is None else lesion_adc(adc, stroke, brain),
        provider=ensemble.provider,
        models=models,
        seconds=clock.seconds,
    )
    return _with_probability(prediction, manifest, config.decision.prevalence)


def _usual_range(manifest: BundleManifest | None) -> Mapping[str, tuple[float, float]]:
    return {} if manifest is None else manifest.intensity_range


def _with_probability(prediction: Prediction, manifest: BundleManifest | None, prevalence: float | None) -> Prediction:
    """P(mismatch) of a patient with a lesion; calibration has seen no other."""
    answered = prediction.decision.state in {DecisionState.MISMATCH_LIKELY, DecisionState.MISMATCH_UNLIKELY}
    if manifest is None or manifest.calibration is None or prediction.fvv_ml is None or not answered:
        return prediction
    curve = manifest.calibration
    return replace(
        prediction,
        mismatch_probability=curve.mismatch_probability(prediction.fvv_ml, prevalence),
        calibration_source=curve.fitted_on,
        mismatch_prevalence=curve.prevalence if prevalence is None else prevalence,
    )
