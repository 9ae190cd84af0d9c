"""Stage 5: from new patients' images to an answer and its files; no torch, no network access."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fvv import __version__
from fvv.analysis.figures import figure_png, heatmap_rgb, synthesis_figure
from fvv.config import PredictConfig
from fvv.data import Failure, Finding, Prediction, Severity
from fvv.errors import ConfigError, FvvError, InputError
from fvv.imaging.decision import format_ml
from fvv.imaging.geometry import plan_grid, slice_axis
from fvv.inference.ensemble import OnnxEnsemble, open_ensemble
from fvv.io.bundle import ModelBundle
from fvv.io.case import CaseFiles
from fvv.io.derivatives import claim_data_set, derivative_files, write_dataset_description, write_derivatives
from fvv.io.dicom import DICOM_FILES, DICOM_FOLDER
from fvv.io.earlier import Earlier, find_earlier, refuse_other_run, refuse_others
from fvv.io.inputs import Examination, find_examinations, named_files, without_results
from fvv.io.lock import only_writer
from fvv.io.manifest import failure_of
from fvv.io.ownership import claim
from fvv.io.results import (
    COHORT_FILES,
    PATIENT_FILES,
    RESULT_FILE,
    StoredResult,
    remove_decisions,
    remove_earlier,
    write_prediction,
    write_result,
)
from fvv.io.run_record import SHARDS_FOLDER, MadeFrom, RunRecord, describe_run, hash_of, shard_file
from fvv.io.shards import claiming
from fvv.names import same_name_key
from fvv.recipes.cohort_tables import write_cohort
from fvv.recipes.examine import Clock, predict_case
from fvv.system.fingerprint import file_sha256
from fvv.system.parallel import core_count, map_items
from fvv.system.shard import Shard

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
        kept: how many of the predictions an earlier run had finished.
        shard: which part of the cohort this was; None: all of it.
    """

    output: Path
    predictions: tuple[Prediction, ...]
    failures: tuple[Failure, ...]
    provider: str
    kept: int = 0
    shard: Shard | None = None

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
        kept = f" ({self.kept} kept from an earlier run)" if self.kept else ""
        where = f"{self.output} (for research use only)"
        lines.append(f"{len(self.predictions)} patients{kept} on {self.provider} -> {where}")
        if self.shard is not None:
            lines.append(f"shard {self.shard}: when all have ended, `fvv gather {self.output}` writes the tables")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker needs to know of the run.

    Attributes:
        models: the bundle's folder.
        root: of the tables.
        output: where results go; None: beside the images.
        config: with threads and post-processing settled.
        made_from: models and settings of all results.
        holds_root: whether this run holds the tables' folder: a patient's results in it need no lock of their own.
    """

    models: Path
    root: Path
    output: Path | None
    config: PredictConfig
    made_from: MadeFrom
    holds_root: bool

    def files(self, examination: Examination) -> dict[str, Path]:
        """Where each of a patient's results goes."""
        return _files_of(examination, self.output, self.config)

    def hold(self, examination: Examination) -> AbstractContextManager[None]:
        """Keep other processes from writing this examination's results."""
        if self.config.layout == "bids":  # Several examinations may share a folder.
            return only_writer(self.root / ".fvv" / examination.name)
        place = self.files(examination)[RESULT_FILE].parent
        return nullcontext() if self.holds_root and place == self.root else only_writer(place)


def predict(
    input_path: Path | CaseFiles,
    models: Path,
    output: Path | None,
    config: PredictConfig,
    *,
    shard: Shard | None = None,
) -> PredictResult:
    """Predict for one patient or many.

    Patients that an earlier run finished from the same images, models and settings are kept, so that a run cut short
    goes on.

    Args:
        input_path: a folder with b0 and b1000, one with a folder per patient, a BIDS data set; or one patient's files.
        models: a bundle, or a folder of models in the published format.
        output: where results go, a folder per patient; None: beside each patient's images.
        config: masks, cut-off, device.
        shard: predict this part alone and write no tables; `gather` does.

    Raises:
        InputError: nothing to predict there, or two examinations whose results would be one.
        ModelError: no usable models.
        OutputExistsError: results of other images, models or settings are there and overwriting was not asked for, or
            files that this program did not write.
    """
    started = time.perf_counter()
    cohort = find_examinations(input_path) if isinstance(input_path, Path) else [named_files(input_path)]
    cohort = cohort if output is None else without_results(cohort, output)
    root = _root(input_path, output, cohort, config)
    _refuse_twins(cohort, output, config)
    bundle = ModelBundle.open(models)
    names = [one.name for one in cohort]
    chosen = names if shard is None else shard.select(names)
    examinations = [one for one in cohort if one.name in set(chosen)]
    config = _with_threads(config, len(examinations))
    config = config.model_copy(update={"postprocess": bundle.manifest.postprocessing(config.postprocess)})
    made_from = _made_from(bundle, config)
    if not config.overwrite:
        refuse_other_run(root, made_from, set(names))
    _models_of.cache_clear()
    _, ensemble = _models_of(models, config)
    job = _Job(models, root, output, config, made_from, holds_root=shard is None)
    place = input_path if isinstance(input_path, Path) else input_path.b1000
    record = RunRecord(made_from, _description(place, bundle, ensemble, config), {}, shard=shard, cohort=tuple(names))
    # Other runs may be writing patients of their own below: each patient's folder is cleared when it is held.
    with only_writer(root if shard is None else root / SHARDS_FOLDER / shard.file_part, clear=False):
        with nullcontext() if shard is None else claiming(root):
            _claim_tables(job, examinations, place if place.is_dir() else place.parent)
        stored, failures, kept = _examine_all(job, examinations, record)
        stored, failures = _still_there(stored, failures)
        record = replace(
            record, results=_places(root, stored), failures=failures, seconds=time.perf_counter() - started
        )
        if shard is None:
            claim(root, COHORT_FILES, stage="predict")  # Its mark may have gone with the results.
            write_cohort(root, stored, record)
        else:
            record.write(shard_file(root, shard))
    predictions = tuple(one.prediction for one in stored)
    return PredictResult(root, predictions, failures, ensemble.provider, kept, shard)


def _examine_all(
    job: _Job, examinations: Sequence[Examination], record: RunRecord
) -> tuple[list[StoredResult], tuple[Failure, ...], int]:
    """Keep what is finished, predict the others; gives results in order, failures by name, and how many were kept."""
    done: dict[str, StoredResult] = {}
    failures: list[Failure] = []
    others: dict[str, tuple[str, ...]] = {}
    there = [one for one in examinations if job.files(one)[RESULT_FILE].exists()]
    for examination, found in map_items(
        partial(_earlier, job), there, workers=job.config.workers, description="earlier results"
    ):
        if isinstance(found, FvvError):  # Its images cannot be read: whether the result is of them is not known.
            failures.append(failure_of(examination.name, found))
        elif found.result is not None:
            done[examination.name] = found.result
        elif found.differences:
            others[examination.name] = found.differences
        else:
            log.warning("%s is predicted again: %s", examination.name, found.damage)
    if not job.config.overwrite:
        refuse_others(job.root, others)
    kept = len(done)
    if record.shard is not None:
        replace(record, ended=False).write(shard_file(job.root, record.shard))
    settled = {*done, *(failure.patient for failure in failures)}
    remaining = [one for one in examinations if one.name not in settled]
    if remaining and record.shard is None:
        remove_decisions(job.root)
    for examination, outcome in map_items(
        partial(_predict_one, job), remaining, workers=job.config.workers, description="predict"
    ):
        if isinstance(outcome, FvvError):
            failures.append(failure_of(examination.name, outcome))
        else:
            # A cohort's masks are on disk by now; only its numbers stay in memory.
            done[examination.name] = outcome
    failures.sort(key=lambda failure: failure.patient)
    return [done[one.name] for one in examinations if one.name in done], tuple(failures), kept


def _still_there(
    stored: Sequence[StoredResult], failures: tuple[Failure, ...]
) -> tuple[list[StoredResult], tuple[Failure, ...]]:
    """No table lists results that are gone: the folder was moved, emptied or unmounted while the run went on."""
    there = [one for one in stored if one.path.is_file()]
    error = InputError("its results went away while the run went on", hint="the same command makes them again")
    gone = [failure_of(one.prediction.patient, error) for one in stored if one not in there]
    return there, tuple(sorted((*failures, *gone), key=lambda failure: failure.patient))


def _earlier(job: _Job, examination: Examination) -> Earlier:
    return find_earlier(job.files(examination)[RESULT_FILE], job.made_from, partial(_images_sha256, examination))


def _predict_one(job: _Job, examination: Examination) -> StoredResult:
    """One patient, from files to files, in whatever process; gives the numbers."""
    bundle, ensemble = _models_of(job.models, job.config)
    config, files = job.config, job.files(examination)
    with job.hold(examination):
        examination.refuse_to_replace(files.values())
        if config.layout == "folders":
            claim(files[RESULT_FILE].parent, [file.name for file in files.values()])
        # Before anything can fail: a patient who fails now must not keep an answer of earlier images or models.
        remove_earlier(files)
        if examination.dicom is not None:
            from fvv.io.dicom.write import remove_dicom_results  # noqa: PLC0415  (an extra: only DICOM needs it)

            remove_dicom_results(files[RESULT_FILE].parent / DICOM_FOLDER)
        made_from = job.made_from.with_images(_images_sha256(examination))
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
        # The answer first: DICOM files that cannot be made take nothing from it.
        stored = write_result(files, prediction, made_from, finished=dicom is None)
        if dicom is None:
            return stored
        folder = files[RESULT_FILE].parent / DICOM_FOLDER
        prediction, written = _with_dicom(folder, dicom, prediction, picture)
        return write_result(files, prediction, made_from, also=written)


def _with_dicom(
    folder: Path, source: DicomSource, prediction: Prediction, synthesis_png: bytes
) -> tuple[Prediction, tuple[Path, ...]]:
    """Write the DICOM files; what of them cannot be written is a warning beside the answer. Gives it, and the files."""
    from fvv.io.dicom.write import write_dicom_results  # noqa: PLC0415  (an extra: only DICOM needs it)

    try:
        claim(folder.parent, [f"{folder.name}/{name}" for name in DICOM_FILES])
        said = write_dicom_results(folder, source, prediction, synthesis_png=synthesis_png)
    except FvvError as error:
        said = (f"DICOM results not written: {error.message} ({error.file or folder})",)
    for message in said:
        log.warning("%s: %s", prediction.patient, message)
    findings = (Finding("dicom-output", message, Severity.WARNING) for message in said)
    decision = replace(prediction.decision, reasons=(*prediction.decision.reasons, *findings))
    return replace(prediction, decision=decision), tuple(folder / name for name in DICOM_FILES)


@lru_cache(maxsize=1)
def _models_of(models: Path, config: PredictConfig) -> tuple[ModelBundle, OnnxEnsemble]:
    """The models, opened once in each process."""
    bundle = ModelBundle.open(models)
    return bundle, open_ensemble(bundle, config)


def _with_threads(config: PredictConfig, n_patients: int) -> PredictConfig:
    """Patients that run side by side share the cores."""
    workers = max(1, min(config.workers or core_count(), n_patients))
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
    return input_path if isinstance(input_path, Path) and input_path.is_dir() else examinations[0].home


def _files_of(examination: Examination, output: Path | None, config: PredictConfig) -> dict[str, Path]:
    if config.layout == "bids" and output is not None:
        return derivative_files(output, examination.name)
    target = examination.home if output is None else output / examination.name
    return {name: target / name for name in PATIENT_FILES}


def _refuse_twins(examinations: list[Examination], output: Path | None, config: PredictConfig) -> None:
    """Refuse examinations that tables, files or a disk that ignores case could not tell apart: `anna` and `Anna`.

    One that is named as a table would keep that table from being written, when all the work is done.
    """
    tables = {same_name_key(name) for name in COHORT_FILES}
    for one in examinations:
        if config.layout == "folders" and output is not None and same_name_key(one.name) in tables:
            hint = "rename it, or predict it alone without -o"
            raise InputError(
                f"its results would lie where {one.name} of all patients is to be", file=one.place, hint=hint
            )
    first: dict[str, Examination] = {}
    for examination in examinations:
        # Two links to one folder are one place.
        for mark in (examination.name, os.path.realpath(_files_of(examination, output, config)[RESULT_FILE])):
            other = first.setdefault(same_name_key(mark), examination)
            if other is not examination:
                raise InputError(
                    f"{examination.place} would have the same results as {other.place}",
                    hint="rename one of them, or predict them into two folders",
                )


def _claim_tables(job: _Job, examinations: Sequence[Examination], source: Path) -> None:
    """Take the names of all that is written beside the patients' own files."""
    if job.config.layout == "bids":
        claim_data_set(job.root, [one.name for one in examinations])
    claim(job.root, COHORT_FILES, stage="predict")
    if job.config.layout == "bids":
        write_dataset_description(job.root, source)


def _made_from(bundle: ModelBundle, config: PredictConfig) -> MadeFrom:
    """What every result of this run depends on, beside its images."""
    passing = {"overwrite", "resume", "workers", "threads", "device", "chunk_slices"}
    settings = config.model_dump(mode="json", exclude=passing)
    return MadeFrom(__version__, hash_of(bundle.manifest.model_dump(mode="json")), hash_of(settings))


def _images_sha256(examination: Examination) -> str:
    return hash_of([examination.name, examination.sha256()])


def _places(root: Path, stored: Sequence[StoredResult]) -> dict[str, str]:
    return {one.prediction.patient: Path(os.path.relpath(one.path, root)).as_posix() for one in stored}


def _description(place: Path, bundle: ModelBundle, ensemble: OnnxEnsemble, config: PredictConfig) -> dict[str, Any]:
    options = {"input": place.name, **config.model_dump(mode="json")}
    ran = {
        "models": len(ensemble),
        "provider": ensemble.provider,
        "files": {file.name: file_sha256(file) for file in ensemble.files},
    }
    about = {
        "Models": bundle.manifest.description(len(ensemble)),
        "Preprocessing": bundle.profile.name,
        "Device": ensemble.provider,
    }
    return describe_run(bundle, options, ran, about)
