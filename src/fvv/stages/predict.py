"""Stage 5: from new patients' images to an answer and its files; no torch, no network access."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fvv import __version__
from fvv.analysis.figures import figure_png, heatmap_rgb, synthesis_figure
from fvv.analysis.report import MOST_PICTURES, prediction_page
from fvv.config import PredictConfig
from fvv.data import Failure, Finding, Prediction, Severity
from fvv.errors import ConfigError, FvvError, InputError, OutputExistsError
from fvv.imaging.decision import format_ml
from fvv.imaging.geometry import plan_grid, slice_axis
from fvv.inference.ensemble import OnnxEnsemble, open_ensemble
from fvv.inference.patient import Clock, predict_case
from fvv.io.atomic import write_text
from fvv.io.bundle import ModelBundle, file_sha256
from fvv.io.case import CaseFiles
from fvv.io.derivatives import derivative_files, remove_derivatives, write_dataset_description, write_derivatives
from fvv.io.dicom import DICOM_FOLDER
from fvv.io.inputs import Examination, find_examinations, named_files
from fvv.io.lock import only_writer
from fvv.io.manifest import FAILURES_FILE, failure_of, read_table, write_failures
from fvv.io.results import (
    COHORT_FILES,
    PATIENT_FILES,
    RESULT_FILE,
    RESULTS_FILE,
    read_result,
    refuse_existing,
    remove_decisions,
    remove_earlier,
    write_prediction,
    write_result,
    write_results_table,
    write_run_record,
)
from fvv.parallel import core_count, map_items

if TYPE_CHECKING:
    from fvv.io.dicom.read import DicomSource

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
            fvv = format_ml(prediction.fvv_ml, prediction.decision.cutoff_ml)
            lines.append(f"{prediction.patient}: {prediction.decision.state.value}, FVV {fvv}")
            lines += [
                f"  {finding.severity.value}: {finding.message}"
                for finding in prediction.decision.reasons
                if finding.severity is not Severity.NOTE
            ]
        counts = Counter(prediction.decision.state.value for prediction in self.predictions)
        lines.append(", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "no result")
        lines.append(f"{len(self.predictions)} patients on {self.provider} -> {self.output} (for research use only)")
        return "\n".join(lines)


def predict(input_path: Path | CaseFiles, models: Path, output: Path | None, config: PredictConfig) -> PredictResult:
    """Predict for one patient or many.

    Args:
        input_path: a folder with b0 and b1000, one with a folder per patient, a BIDS data set; or one patient's files.
        models: a bundle, or a folder of models in the published format.
        output: where results go, a folder per patient; None: beside each patient's images.
        config: masks, cut-off, device.

    Raises:
        InputError: nothing to predict there, or two examinations whose results would be one.
        ModelError: no usable models.
        OutputExistsError: results of an earlier run are there, and neither overwriting nor going on was asked for.
    """
    started = time.perf_counter()
    examinations = find_examinations(input_path) if isinstance(input_path, Path) else [named_files(input_path)]
    root = _root(input_path, output, examinations, config)
    _refuse_twins(examinations, output, config)
    bundle = ModelBundle.open(models)
    if not (config.overwrite or config.resume):
        refuse_existing(root, COHORT_FILES)
    if config.resume and not config.overwrite:
        _refuse_to_forget(root, examinations)
    _models_of.cache_clear()
    config = _with_threads(config, len(examinations))
    config = config.model_copy(update={"postprocess": bundle.manifest.postprocessing(config.postprocess)})
    _, ensemble = _models_of(models, config)
    predictions: dict[str, Prediction] = {}
    failures: list[Failure] = []
    pictures: dict[str, bytes] = {}
    with only_writer(root):
        if config.overwrite or config.resume:
            remove_decisions(root)
        if config.layout == "bids":
            write_dataset_description(root, input_path if isinstance(input_path, Path) else input_path.b1000.parent)
        work = partial(_predict_one, models, output, config)
        for examination, outcome in map_items(work, examinations, workers=config.workers, description="predict"):
            if isinstance(outcome, FvvError):
                failures.append(failure_of(examination.name, outcome))
                continue
            # A cohort's masks are on disk by now; only its numbers, and the pictures of a page, stay in memory.
            predictions[examination.name], picture = outcome
            if len(pictures) < MOST_PICTURES:
                pictures[examination.name] = picture
        ordered = [predictions[one.name] for one in examinations if one.name in predictions]
        failures.sort(key=lambda failure: failure.patient)
        write_results_table(root / RESULTS_FILE, ordered)
        write_failures(root / FAILURES_FILE, failures)
        page = prediction_page(ordered, failures, dict(sorted(pictures.items())), _about_run(bundle, ensemble))
        write_text(root / "report.html", page)
        named = input_path.name if isinstance(input_path, Path) else input_path.b1000.name
        options = {"input": named, **config.model_dump(mode="json")}
        ran = {
            "models": len(ensemble),
            "precision": ensemble.precision,
            "provider": ensemble.provider,
            "files": {file.name: file_sha256(file) for file in ensemble.files},
        }
        write_run_record(root / "run.json", bundle, options, ran, time.perf_counter() - started)
    return PredictResult(root, tuple(ordered), tuple(failures), ensemble.provider)


def _predict_one(
    models: Path, output: Path | None, config: PredictConfig, examination: Examination
) -> tuple[Prediction, bytes]:
    """One patient, from files to files, in whatever process; gives the numbers and the picture."""
    bundle, ensemble = _models_of(models, config)
    files = _files_of(examination, output, config)
    examination.refuse_to_replace(files.values())
    source_sha256 = _source_sha256(examination, bundle, config)
    if config.resume and files[RESULT_FILE].exists():
        known, known_sha256 = read_result(files[RESULT_FILE])
        if known_sha256 == source_sha256:
            return known, files["synthesis.png"].read_bytes()
    elif not (config.overwrite or config.resume):
        for file in files.values():
            refuse_existing(file.parent, [file.name])
    # Before anything can fail: a patient who fails now must not keep an answer of earlier images or models.
    remove = remove_derivatives if config.layout == "bids" else remove_earlier
    remove(files)
    if examination.dicom is not None:
        from fvv.io.dicom.write import remove_dicom_results  # noqa: PLC0415  (an extra: only DICOM needs it)

        remove_dicom_results(files[RESULT_FILE].parent / DICOM_FOLDER)
    clock = Clock()
    with clock.step("read"):
        case, dicom = examination.read(config)
    prediction = predict_case(case, ensemble, config, bundle.manifest, clock)
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
    write = write_derivatives if config.layout == "bids" else write_prediction
    write(files, case, prediction, heatmap=heatmap, synthesis_png=picture)
    write_result(files[RESULT_FILE], prediction, source_sha256)
    if dicom is not None:
        noted = _write_dicom(files[RESULT_FILE].parent / DICOM_FOLDER, dicom, prediction, picture)
        if noted is not prediction:
            write_result(files[RESULT_FILE], noted, source_sha256)
        prediction = noted
    return prediction.without_images(), picture


def _write_dicom(folder: Path, source: DicomSource, prediction: Prediction, picture: bytes) -> Prediction:
    """Write the results as DICOM; what of them cannot be written is a warning beside the answer, which stands."""
    from fvv.io.dicom.write import write_dicom_results  # noqa: PLC0415  (an extra: only DICOM needs it)

    try:
        said = write_dicom_results(folder, source, prediction, synthesis_png=picture)
    except FvvError as error:
        said = (f"DICOM results not written: {error.message} ({error.file or folder})",)
    if not said:
        return prediction
    for message in said:
        log.warning("%s: %s", prediction.patient, message)
    findings = (Finding("dicom-output", message, Severity.WARNING) for message in said)
    decision = prediction.decision
    return replace(prediction, decision=replace(decision, reasons=(*decision.reasons, *findings)))


@lru_cache(maxsize=1)
def _models_of(models: Path, config: PredictConfig) -> tuple[ModelBundle, OnnxEnsemble]:
    """The models, opened once in each process."""
    bundle = ModelBundle.open(models)
    return bundle, open_ensemble(bundle, config)


def _with_threads(config: PredictConfig, n_patients: int) -> PredictConfig:
    """Patients that run side by side share the cores."""
    workers = min(config.workers or core_count(), n_patients)
    threads = config.threads or (max(1, core_count() // workers) if workers > 1 else 0)
    return config.model_copy(update={"threads": threads, "workers": workers})


def _root(
    input_path: Path | CaseFiles, output: Path | None, examinations: list[Examination], config: PredictConfig
) -> Path:
    """Where the cohort's tables go."""
    if config.layout == "bids" and output is None:
        raise ConfigError("BIDS derivatives are a data set of their own", hint="name a folder for it with -o")
    if output is not None:
        return output
    return input_path if isinstance(input_path, Path) else examinations[0].home


def _files_of(examination: Examination, output: Path | None, config: PredictConfig) -> dict[str, Path]:
    """Where each of a patient's results goes."""
    if config.layout == "bids" and output is not None:
        return derivative_files(output, examination.name)
    target = examination.home if output is None else output / examination.name
    return {name: target / name for name in PATIENT_FILES}


def _refuse_twins(examinations: list[Examination], output: Path | None, config: PredictConfig) -> None:
    """Refuse examinations that the tables or the files could not tell apart: `anna` and `anna.zip`, `P-1` and `P1`."""
    first: dict[str | Path, Examination] = {}
    for examination in examinations:
        for mark in (examination.name, _files_of(examination, output, config)[RESULT_FILE]):
            other = first.setdefault(mark, examination)
            if other is not examination:
                raise InputError(
                    f"{examination.place} would have the same results as {other.place}",
                    hint="rename one of them, or predict them into two folders",
                )


def _refuse_to_forget(root: Path, examinations: list[Examination]) -> None:
    """Going on with a part of a cohort would leave the others out of its tables, which are written anew.

    Raises:
        OutputExistsError: the tables name a patient who is not among these.
    """
    now = {examination.name for examination in examinations}
    for name, column in ((RESULTS_FILE, "Patient"), (FAILURES_FILE, "patient")):
        rows = read_table(root / name, required=(column,)) if (root / name).exists() else []
        lost = [row[column] for row in rows if row[column] not in now]
        if lost:
            more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
            raise OutputExistsError(
                f"lists patients who are not in this run: {', '.join(lost[:5])}{more}",
                file=root / name,
                hint="give the whole cohort, or another -o; without this file they are left out",
            )


def _source_sha256(examination: Examination, bundle: ModelBundle, config: PredictConfig) -> str:
    """Hash of everything one patient's result depends on."""
    passing = {"overwrite", "resume", "workers", "threads", "device", "chunk_slices"}
    settings = [
        __version__,
        examination.name,
        examination.sha256(),
        bundle.manifest.model_dump(mode="json"),
        config.model_dump(mode="json", exclude=passing),
    ]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _about_run(bundle: ModelBundle, ensemble: OnnxEnsemble) -> dict[str, str]:
    return {
        "Models": bundle.manifest.description(len(ensemble), ensemble.precision),
        "Preprocessing": bundle.profile.name,
        "Device": ensemble.provider,
    }
