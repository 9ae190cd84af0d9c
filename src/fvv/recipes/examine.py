"""THE path of an examination, from images as read to an answer.

`fvv predict`, `fvv.predict`, both evaluations, the check of converted models and the benchmark all call `examine`; a
prepared examination (from a store) enters the same path after its preparation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from fvv.arrays import BoolArray, FloatArray, UInt8Array
from fvv.config import (
    DecisionConfig,
    EvaluateConfig,
    PostprocessConfig,
    PredictConfig,
    PreprocessConfig,
    PreprocessingProfile,
)
from fvv.data import (
    Case,
    DecisionState,
    Finding,
    FusedSegmentation,
    InPlaneGrid,
    Prediction,
    PreparedCase,
    Severity,
    Volume,
)
from fvv.errors import MaskError
from fvv.imaging.adc import NO_COMMON_GAIN, adc_map, at_b1000, lesion_adc
from fvv.imaging.decision import decide, not_assessable
from fvv.imaging.fusion import restore_segmentation
from fvv.imaging.geometry import restore_to_native
from fvv.imaging.preprocess import preprocess_case, working_grid
from fvv.imaging.quality import assess_quality
from fvv.imaging.quality.signal import without_gaps
from fvv.imaging.quality.view import native_view
from fvv.imaging.slabs import network_input
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.mask_command import with_commanded_mask
from fvv.protocol import TARGET_B, is_brought_to_b1000
from fvv.recipes.segment import Models, segment_case
from fvv.schemas.bundle import BundleManifest, Calibration


class Clock:
    """Seconds of each named step. They add up: a step beside another counts only the time that was waited for it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside the block."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Settings:
    """All that an answer depends on beside the images and the models; settled once for a run.

    Attributes:
        profile: how images become network input, with the user's choice of mask in it.
        preprocess: brain volumes that are possible, and how masks of an outside tool are read.
        postprocess: what is taken out of the fused stroke.
        decision: cut-off and smallest lesion.
        usual_range: of each feature of `fvv.imaging.quality.usual`, the range of the training cohort; empty: unknown.
        calibration: from FVV to P(mismatch); None: no probability is given.
        models: which models run, in words.
    """

    profile: PreprocessingProfile
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    usual_range: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    calibration: Calibration | None = None
    models: str = ""

    @classmethod
    def of(
        cls,
        profile: PreprocessingProfile,
        config: PredictConfig | EvaluateConfig,
        manifest: BundleManifest | None = None,
        *,
        models: str = "",
    ) -> Settings:
        """What the user asks for, and where that leaves a choice, what the bundle says.

        Args:
            manifest: of the models' bundle; None: there is none.
            models: which models run, in words.

        Raises:
            ConfigError: masks come from an outside tool, and the user has not typed its command.
        """
        profile = config.preprocess.applied_to(profile)
        if manifest is None:
            return cls(profile, config.preprocess, config.postprocess or PostprocessConfig(), config.decision)
        return cls(
            profile,
            config.preprocess,
            manifest.postprocessing(config.postprocess),
            config.decision,
            manifest.intensity_range,
            manifest.calibration,
            models,
        )


@dataclass(frozen=True, slots=True)
class Examined:
    """An examination, what was found in it and the answer.

    Attributes:
        prediction: the answer, with masks, votes and ADC map on the native grid.
        grid: the way between the native and the working grid.
        prepared: on the working grid, as the models saw it; None where no brain mask can be made.
        segmentation: of all models, on the working grid; None where quality control refuses the images.
        native: the segmentation on the native grid (brain, stroke, FLAIR-visible votes), also where it allows no
            answer.
    """

    prediction: Prediction
    grid: InPlaneGrid
    prepared: PreparedCase | None
    segmentation: FusedSegmentation | None = None
    native: tuple[BoolArray, BoolArray, UInt8Array] | None = None


def examine(case: Case | PreparedCase, models: Models, settings: Settings, *, clock: Clock | None = None) -> Examined:
    """Prepare, check, segment, bring back to the native grid, decide.

    An examination without a trustworthy brain mask, or with images that quality control refuses, is not assessable: no
    volume is given, never 0 mL.

    Args:
        case: images as read; or prepared with the models' profile, when preparation and checks are its findings, and no
            ADC is given, for the images are not at hand.
        clock: keeps the time of each step.
    """
    clock = clock or Clock()
    images: Case | None = None
    prepared: PreparedCase | None = None
    together: FusedSegmentation | None = None
    if isinstance(case, PreparedCase):
        grid, prepared, findings = case.grid, case, case.findings
        if not not_assessable(findings):
            with clock.step("network"):
                together = segment_case(prepared, models, settings.postprocess)
    else:
        grid = working_grid(case, settings.profile)
        try:
            with clock.step("prepare"):
                ready = _prepare(case, settings, grid)
            images, prepared = ready.images, ready.prepared
            findings, together = _check_and_segment(ready, models, settings, clock)
        except MaskError as error:
            findings = (Finding("no-brain-mask", error.message, Severity.NOT_ASSESSABLE),)

    decision = decide(together, grid.voxel_volume_ml, findings, settings.decision)
    prediction = Prediction(
        case.examination_id,
        decision,
        len(models),
        grid.voxel_volume_ml,
        provider=models.provider,
        models=settings.models,
        seconds=clock.seconds,
    )
    if together is None:
        return Examined(prediction, grid, prepared)
    with clock.step("restore"):
        native = restore_segmentation(together, grid, as_reference=settings.profile.name == "reference-v1")
        if decision.state is not DecisionState.NOT_ASSESSABLE:
            adc = None
            if images is not None and all(finding.code != NO_COMMON_GAIN for finding in findings):
                adc = adc_map(images.b0.array, images.b1000.array, images.b_value or TARGET_B)
            measured = _measured(prediction, together, native, adc)
            if together.stroke_votes is not None:
                measured = replace(measured, stroke_votes=restore_to_native(together.stroke_votes, grid))
            prediction = _with_probability(measured, settings)
    return Examined(prediction, grid, prepared, together, native)


def prepare_and_check(
    case: Case, settings: Settings, grid: InPlaneGrid
) -> tuple[Case, PreparedCase, tuple[Finding, ...]]:
    """Mask, prepare and judge an examination, new or labelled for training.

    Returns:
        The images as acquired, finite and with their mask; the prepared examination, at b = 1000; and all findings.

    Raises:
        MaskError: no brain mask can be made.
    """
    ready = _prepare(case, settings, grid)
    return ready.images, ready.prepared, _check(ready, settings)


@dataclass(frozen=True, slots=True)
class _Ready:
    """An examination that is prepared and not yet checked.

    Attributes:
        images: as acquired, finite and with their mask.
        seen: the same, b1000 as the networks know it.
        not_finite: (i, j, k) bool, voxels of the native grid that held no number when read.
        prepared: on the working grid.
    """

    images: Case
    seen: Case
    not_finite: BoolArray | None
    prepared: PreparedCase


def _prepare(case: Case, settings: Settings, grid: InPlaneGrid) -> _Ready:
    case, not_finite = without_gaps(case)
    case = with_commanded_mask(case, settings.profile, resample=settings.preprocess.resample_rois)
    seen = _at_b1000(case)
    return _Ready(case, seen, not_finite, preprocess_case(seen, settings.profile, grid))


def _check(ready: _Ready, settings: Settings) -> tuple[Finding, ...]:
    view = native_view(
        ready.seen,
        ready.prepared,
        brain_volume_bounds_ml=settings.preprocess.brain_volume_bounds_ml,
        not_finite=ready.not_finite,
        usual_range=settings.usual_range,
    )
    return assess_quality(view, settings.preprocess.checks)


def _check_and_segment(
    ready: _Ready, models: Models, settings: Settings, clock: Clock
) -> tuple[tuple[Finding, ...], FusedSegmentation | None]:
    """The findings, and what the models found, side by side: nearly every examination passes its checks.

    Where an examination does not pass, the output of the models is dropped, or their error.
    """
    together: FusedSegmentation | None = None
    failure: Exception | None = None
    with ThreadPoolExecutor(1) as aside:
        checked = aside.submit(_check, ready, settings)
        try:
            # Here and not aside: Ctrl-C reaches the main thread alone (`fvv.inference.interrupt`).
            with clock.step("network"):
                together = segment_case(ready.prepared, models, settings.postprocess)
        except Exception as error:  # noqa: BLE001  (raised below, unless the models should not have run)
            failure = error
        with clock.step("check"):
            findings = checked.result()
    if not_assessable(findings):
        return findings, None
    if failure is not None:
        raise failure
    return findings, together


def _at_b1000(case: Case) -> Case:
    """The examination with b1000 as the networks know it; within the tolerance of the b-value, the very same."""
    if case.b_value is None or not is_brought_to_b1000(case.b_value):
        return case
    b1000 = at_b1000(case.b0.array, case.b1000.array, case.b_value)
    return replace(case, b1000=Volume(b1000, case.b1000.affine))


def _measured(
    prediction: Prediction,
    fused: FusedSegmentation,
    native: tuple[BoolArray, BoolArray, UInt8Array],
    adc: FloatArray | None,
) -> Prediction:
    """The answer with what was measured: voxels on the working grid, masks and ADC on the native grid."""
    brain, stroke, votes = native
    per_model = (voxels * prediction.voxel_volume_ml for voxels in fused.flair_visible_voxels_per_model)
    return replace(
        prediction,
        brain_voxels=int(fused.brain.sum()),
        stroke_voxels=int(fused.stroke.sum()),
        flair_visible_voxels=fused.flair_visible_voxels,
        brain=brain,
        stroke=stroke,
        flair_visible_votes=votes,
        fvv_per_model_ml=tuple(per_model),
        adc=None if adc is None else adc.astype(np.float32),
        lesion_adc=None if adc is None else lesion_adc(adc, stroke, brain),
    )


def _with_probability(prediction: Prediction, settings: Settings) -> Prediction:
    """P(mismatch) of an examination with a lesion; calibration has seen no other."""
    curve, prevalence = settings.calibration, settings.decision.prevalence
    no_lesion = prediction.decision.state is DecisionState.NO_LESION_FOUND
    if curve is None or no_lesion or prediction.fvv_ml is None:
        return prediction
    return replace(
        prediction,
        mismatch_probability=curve.mismatch_probability(prediction.fvv_ml, prevalence),
        calibration_source=curve.fitted_on,
        mismatch_prevalence=curve.prevalence if prevalence is None else prevalence,
    )


def native_probabilities(examined: Examined, models: OnnxEnsemble) -> FloatArray | None:
    """The ensemble's probabilities of each channel, before fusion and post-processing.

    Args:
        examined: with what the models saw; they run on it again.

    Returns:
        (i, j, k, channel) float32 on the native grid, linearly interpolated; None where the models were not asked.
    """
    if examined.prepared is None or examined.segmentation is None:
        return None
    found = models.probabilities(network_input(examined.prepared, models.profile.context_slices))
    # (3, k, i, j) -> (i, j, k, 3)
    native = [restore_to_native(np.moveaxis(channel, 0, 2), examined.grid) for channel in found]
    return np.stack(native, axis=-1).astype(np.float32)
