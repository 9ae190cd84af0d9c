"""Stage 5: from a new patient's b0 and b1000 to an answer."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fvv.analysis.figures import figure_png, heatmap_rgb, synthesis_figure
from fvv.analysis.report import MOST_PICTURES, prediction_page
from fvv.config import PredictConfig
from fvv.data import Case, Decision, DecisionState, Failure, Finding, Prediction, Severity
from fvv.errors import FvvError, InputError, MaskError
from fvv.imaging.decision import decide
from fvv.imaging.geometry import plan_grid, restore_to_native, slice_axis
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.quality import assess_quality
from fvv.inference.ensemble import OnnxEnsemble, open_ensemble
from fvv.inference.segment import segment_case
from fvv.io.atomic import write_text
from fvv.io.bundle import ModelBundle
from fvv.io.case import read_case
from fvv.io.lock import only_writer
from fvv.io.manifest import FAILURES_FILE, failure_of, list_patients, write_failures
from fvv.io.mask_command import with_commanded_mask
from fvv.io.nifti import find_image
from fvv.io.results import (
    COHORT_FILES,
    PATIENT_FILES,
    refuse_existing,
    write_prediction,
    write_results_table,
    write_run_record,
)
from fvv.parallel import track

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PredictResult:
    """What prediction gave.

    Attributes:
        output: where the cohort's tables are.
        predictions: one per patient that could be read, in order.
        failures: patients that could not.
        provider: where the network ran.
    """

    output: Path
    predictions: tuple[Prediction, ...]
    failures: tuple[Failure, ...]
    provider: str

    def summary(self) -> str:
        """One line a patient, and where the files are."""
        lines = []
        for prediction in self.predictions:
            fvv = "FVV not measured" if prediction.fvv_ml is None else f"FVV {prediction.fvv_ml:.2f} mL"
            lines.append(f"{prediction.patient}: {prediction.decision.state.value}, {fvv}")
            lines += [
                f"  {finding.severity.value}: {finding.message}"
                for finding in prediction.decision.reasons
                if finding.severity is not Severity.NOTE
            ]
        counts = Counter(prediction.decision.state.value for prediction in self.predictions)
        lines.append(", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "no result")
        lines.append(f"{len(self.predictions)} patients on {self.provider} -> {self.output} (for research use only)")
        return "\n".join(lines)


def predict(input_path: Path, models: Path, output: Path | None, config: PredictConfig) -> PredictResult:
    """Predict for one patient or a folder of patients.

    Args:
        input_path: a folder with b0 and b1000, or one with a folder per patient.
        models: a bundle, or a folder of models in the published format.
        output: where results go, a folder per patient; None: beside each patient's images.
        config: masks, cut-off, device.

    Raises:
        InputError: nothing to predict there.
        ModelError: no usable models.
        OutputExistsError: results of an earlier run are there, and overwriting was not asked for.
    """
    started = time.perf_counter()
    folders = _patient_folders(input_path)
    bundle = ModelBundle.open(models)
    root = output or input_path
    if not config.overwrite:
        refuse_existing(root, COHORT_FILES)
    ensemble = open_ensemble(bundle, config)
    predictions: list[Prediction] = []
    failures: list[Failure] = []
    pictures: dict[str, bytes] = {}
    with only_writer(root):
        for folder in track(folders, "predict", len(folders)):
            target = folder if output is None else output / folder.name
            try:
                prediction, picture = _predict_one(folder, target, ensemble, config)
                # A cohort's masks are on disk by now; only its numbers, and the pictures of a page, stay in memory.
                predictions.append(replace(prediction, brain=None, stroke=None, flair_visible_votes=None))
                if len(pictures) < MOST_PICTURES:
                    pictures[folder.name] = picture
            except FvvError as error:
                failures.append(failure_of(folder.name, error))
        write_results_table(root / "results.csv", predictions)
        write_failures(root / FAILURES_FILE, failures)
        page = prediction_page(predictions, failures, pictures, _about_run(bundle, ensemble))
        write_text(root / "report.html", page)
        options = {"input": input_path.name, **config.model_dump(mode="json")}
        write_run_record(root / "run.json", bundle, options, time.perf_counter() - started)
    return PredictResult(root, tuple(predictions), tuple(failures), ensemble.provider)


def _predict_one(folder: Path, target: Path, ensemble: OnnxEnsemble, config: PredictConfig) -> tuple[Prediction, bytes]:
    """One patient, from files to files; gives the answer and its picture."""
    if not config.overwrite:
        refuse_existing(target, PATIENT_FILES)
    clock = _Clock()
    with clock.step("read"):
        case = read_case(folder, config.preprocess, labelled=False)
    prediction = predict_case(case, ensemble, config, clock)
    with clock.step("draw"):
        heatmap = None
        if prediction.brain is not None and prediction.stroke is not None:
            heatmap = heatmap_rgb(
                case.b1000.array,
                prediction.brain,
                prediction.stroke,
                np.asarray(prediction.flair_visible_votes),
                prediction.n_models,
                slice_axis=slice_axis(plan_grid(case.b1000)),
            )
        picture = figure_png(synthesis_figure(case.b1000, prediction))
    write_prediction(target, case, prediction, heatmap=heatmap, synthesis_png=picture)
    return prediction, picture


def _about_run(bundle: ModelBundle, ensemble: OnnxEnsemble) -> dict[str, str]:
    return {
        "Models": f"{len(ensemble)} of run {bundle.manifest.run_name}",
        "Preprocessing": bundle.profile.name,
        "Device": ensemble.provider,
    }


def predict_case(case: Case, ensemble: OnnxEnsemble, config: PredictConfig, clock: _Clock | None = None) -> Prediction:
    """One patient, in memory: prepare, check, segment, bring back to the native grid, decide.

    A patient without a trustworthy brain mask, or with images that quality control refuses, is not assessable: no
    volume is given, never 0 mL.

    Args:
        case: images as read.
        ensemble: the models.
        config: masks, cut-off.
        clock: keeps the time of each step.
    """
    clock = clock or _Clock()
    profile = config.preprocess.applied_to(ensemble.profile)
    voxel_volume_ml = plan_grid(case.b1000, profile.grid_size).voxel_volume_ml
    try:
        with clock.step("prepare"):
            if profile.mask_method == "command" and case.mask is None:
                case = with_commanded_mask(case, profile.mask_command)
            prepared = preprocess_case(case, profile)
            bounds = config.preprocess.brain_volume_bounds_ml
            findings = assess_quality(case, prepared, brain_volume_bounds_ml=bounds)
    except MaskError as error:
        findings = (Finding("no-brain-mask", error.message, Severity.NOT_ASSESSABLE),)
        decision = decide(None, voxel_volume_ml, findings, config.decision)
        return _not_assessable(case, decision, ensemble, voxel_volume_ml, clock)

    fused = None
    if not any(finding.severity is Severity.NOT_ASSESSABLE for finding in findings):
        with clock.step("network"):
            fused = segment_case(prepared, ensemble)
    decision = decide(fused, voxel_volume_ml, findings, config.decision)
    if fused is None or decision.state is DecisionState.NOT_ASSESSABLE:
        return _not_assessable(case, decision, ensemble, voxel_volume_ml, clock)
    with clock.step("restore"):
        brain, stroke, votes = (
            restore_to_native(mask, prepared.grid) for mask in (fused.brain, fused.stroke, fused.flair_visible_votes)
        )
    return Prediction(
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
        fvv_per_model_ml=tuple(voxels * voxel_volume_ml for voxels in fused.flair_visible_voxels_per_model),
        provider=ensemble.provider,
        seconds=clock.seconds,
    )


def _not_assessable(
    case: Case, decision: Decision, ensemble: OnnxEnsemble, voxel_volume_ml: float, clock: _Clock
) -> Prediction:
    return Prediction(
        patient=case.patient,
        decision=decision,
        n_models=len(ensemble),
        voxel_volume_ml=voxel_volume_ml,
        provider=ensemble.provider,
        seconds=clock.seconds,
    )


class _Clock:
    """Seconds of each named step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def _patient_folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise InputError("no such folder", file=path, hint="name a folder with b0 and b1000, or one of such folders")
    if find_image(path, "b1000") or find_image(path, "b0"):
        return [path]
    return [path / name for name in list_patients(path)]
