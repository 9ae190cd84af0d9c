"""Stage 5: from new patients' images to an answer and its files; no torch, no network access."""

from __future__ import annotations

import datetime
import logging
import platform
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fvv import __version__
from fvv.analysis.head import examination_facts
from fvv.analysis.heatmap import grey_scale, heatmap_rgb
from fvv.analysis.sheet import synthesis_png
from fvv.analysis.viewer import page_volume
from fvv.analysis.windows import reader_images
from fvv.arrays import Affine, UInt8Array
from fvv.config import PredictConfig
from fvv.data import Case, Failure, Finding, Prediction, Severity
from fvv.errors import ConfigError, FvvError, InputError
from fvv.imaging.decision import format_ml
from fvv.imaging.geometry import slice_axis
from fvv.imaging.lesions import stroke_lesions
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.atomic import write_bytes
from fvv.io.bundle import ModelBundle
from fvv.io.case import CaseFiles
from fvv.io.inputs import Examination, find_examinations, named_files, without_results
from fvv.io.result_files import DICOM_FILES, write_heatmap, write_images, write_lesions, write_viewer
from fvv.io.results_folder import (
    ResultsFolder,
    StoredResult,
    claim_tables,
    made_from_images,
    relative,
    remove_decisions,
    write_result,
)
from fvv.io.shards import finishing, hold, write_run
from fvv.io.spool import Spool, Spooled
from fvv.io.tables import failure_of, require_parquet
from fvv.names import counted
from fvv.recipes.cohort_tables import write_cohort
from fvv.recipes.examine import Clock, Settings, examine, native_probabilities
from fvv.recipes.models import models_and_settings
from fvv.schemas.lesions import Lesion
from fvv.schemas.run import MadeFrom, RunRecord
from fvv.system.fingerprint import file_sha256, fingerprint
from fvv.system.parallel import core_count, map_items
from fvv.system.shard import Shard

if TYPE_CHECKING:
    from fvv.io.dicom.stack import DicomSource

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PredictResult:
    """What prediction gave.

    Attributes:
        stored: the result of each patient that could be read, in order; read from a temporary file when asked for.
        kept: how many of the predictions an earlier run had finished.
        shard: which part of the cohort this was; None: all of it.
    """

    output: Path
    stored: Sequence[StoredResult]
    failures: tuple[Failure, ...]
    provider: str
    kept: int = 0
    shard: Shard | None = None

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """The answer for each patient that could be read, in order."""
        return tuple(one.prediction for one in self.stored)

    def summary(self) -> str:
        """One line a patient, and where the files are."""
        lines, counts = [], Counter[str]()
        for one in self.stored:
            prediction = one.prediction
            counts[prediction.decision.state.value] += 1
            fvv = format_ml(prediction.fvv_ml, prediction.decision.cutoff_ml)
            lines.append(f"{prediction.examination_id}: {prediction.decision.state.value}, FVV {fvv}")
            lines += [
                f"  {finding.severity.value}: {finding.message}"
                for finding in sorted(prediction.decision.reasons, key=_is_the_reason, reverse=True)
                if finding.severity is not Severity.NOTE
            ]
        states = [f"{number} {state}" for state, number in sorted(counts.items())]
        lines.append(", ".join(states) or "no patient was predicted")
        kept = f" ({self.kept} kept from an earlier run)" if self.kept else ""
        where = f"{self.output} (for research use only)"
        lines.append(f"{counted(len(self.stored), 'patient')}{kept} on {self.provider} -> {where}")
        if self.shard is not None:
            lines.append(f"shard {self.shard}: when all have ended, `fvv gather {self.output}` writes the tables")
        return "\n".join(lines)


def _is_the_reason(finding: Finding) -> bool:
    return finding.severity is Severity.NOT_ASSESSABLE


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker needs to know of the run: the bundle's folder, where results go, the settings in full."""

    models: Path
    folder: ResultsFolder
    config: PredictConfig
    made_from: MadeFrom


def predict(
    input_path: str | Path | CaseFiles,
    models: str | Path,
    output: str | Path | None,
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
        shard: predict this part alone and write no tables; `gather` does.

    Raises:
        InputError: nothing to predict there, or two examinations whose results would be one.
        ModelError: no usable models.
        OutputExistsError: results of other images, models or settings are there and overwriting was not asked for, or
            files that this program did not write.
        FvvError: a Parquet table is asked for, and pyarrow is not installed.
    """
    models = Path(models)
    input_path = Path(input_path) if isinstance(input_path, str) else input_path
    output = None if output is None else Path(output)
    started = time.perf_counter()
    if config.parquet:
        require_parquet()
    cohort = (
        find_examinations(input_path, config.readers) if isinstance(input_path, Path) else [named_files(input_path)]
    )
    cohort = cohort if output is None else without_results(cohort, output)
    folder = _folder(input_path, output, cohort, config, shard)
    folder.refuse_twins(cohort)
    bundle = ModelBundle.open(models)
    names = [one.name for one in cohort]
    examinations = cohort if shard is None else _of_shard(cohort, shard)
    config = _settled(config, bundle, len(examinations))
    settings = fingerprint(settings=config.model_dump(exclude={"overwrite", "compute", "parquet"}))
    made_from = MadeFrom(software=__version__, models=fingerprint(manifest=bundle.manifest), settings=settings)
    if not config.overwrite:
        folder.refuse_other_run(made_from, names)
    _models_of.cache_clear()
    ensemble, _ = _models_of(models, config)
    place = input_path if isinstance(input_path, Path) else input_path.b1000
    record = _record(place, bundle, ensemble, config, made_from=made_from, cohort=names, shard=shard)
    with hold(folder.root, shard):
        folder.claim(examinations, place if place.is_dir() else place.parent, parquet=config.parquet)
        stored, places, failures, kept = _predict_each(_Job(models, folder, config, made_from), examinations, record)
        del cohort, examinations  # Those of a large cohort are of no use to its tables.
        record = record.finished(places, tuple(failures), time.perf_counter() - started)
        if shard is not None:
            write_run(folder.root, record)
        else:
            with finishing(folder.root):
                claim_tables(folder.root, parquet=config.parquet)  # Their claim may have gone with the results.
                write_cohort(folder.root, stored, record)
    return PredictResult(folder.root, stored, tuple(failures), ensemble.provider, kept, shard)


def _of_shard(cohort: Sequence[Examination], shard: Shard) -> list[Examination]:
    chosen = set(shard.select(one.name for one in cohort))
    return [one for one in cohort if one.name in chosen]


def _predict_each(
    job: _Job, examinations: Sequence[Examination], record: RunRecord
) -> tuple[Spooled[StoredResult], dict[str, str], list[Failure], int]:
    """The results, where each lies from the root, the failures, and how many results an earlier run had finished."""
    folder, config = job.folder, job.config
    spool: Spool[StoredResult] = Spool()
    done, failures = folder.kept(
        examinations, job.made_from, spool, overwrite=config.overwrite, workers=config.compute.workers
    )
    kept = len(done)
    settled = {*done, *(failure.examination_id for failure in failures)}
    remaining = [one for one in examinations if one.name not in settled]
    if record.shard is not None:
        write_run(folder.root, record)
    elif remaining:
        remove_decisions(folder.root)
    work = partial(_predict_one, job)
    for one, outcome in map_items(work, remaining, workers=config.compute.workers, description="predict"):
        if isinstance(outcome, FvvError):
            failures.append(failure_of(one.name, outcome))
        else:
            # A cohort's masks are on disk by now; its numbers are, too.
            done[one.name] = spool.add(outcome)
    in_order = (done[one.name] for one in examinations if one.name in done)
    stored, places = _still_there(spool, in_order, folder.root, failures)
    return stored, places, sorted(failures, key=lambda failure: failure.examination_id), kept


def _still_there(
    spool: Spool[StoredResult], numbers: Iterable[int], root: Path, failures: list[Failure]
) -> tuple[Spooled[StoredResult], dict[str, str]]:
    """The results, and where each lies from the root; those that are gone are added to the failures.

    No table lists these: the folder was moved, emptied or unmounted while the run went on.
    """
    there, places = [], {}
    error = InputError("its results went away while the run went on", hint="the same command makes them again")
    for number in numbers:
        one = spool.get(number)
        if one.path.is_file():
            there.append(number)
            places[one.content.examination_id] = relative(one.path, root)
        else:
            failures.append(failure_of(one.content.examination_id, error))
    return Spooled(spool, there), places


def _predict_one(job: _Job, examination: Examination) -> StoredResult:
    ensemble, settings = _models_of(job.models, job.config)
    config, folder = job.config, job.folder
    with folder.hold_patient(examination):
        files = folder.begin(examination)
        if examination.dicom is not None:
            from fvv.io.dicom.write import remove_dicom_results  # noqa: PLC0415  (an extra: only DICOM needs it)

            remove_dicom_results(folder.dicom(examination))
        made_from = made_from_images(job.made_from, examination)
        clock = Clock()
        with clock.step("read"):
            case, dicom = examination.read(config)
        examined = examine(case, ensemble, settings, clock=clock)
        prediction, axis = examined.prediction, slice_axis(examined.grid)
        probabilities = None
        if config.probabilities:
            with clock.step("probabilities"):
                probabilities = native_probabilities(examined, ensemble)
        del examined  # What the models saw does not stay in memory while pictures are drawn.
        with clock.step("draw"), ThreadPoolExecutor(1) as aside:
            # Aside, in this order: the picture waits for the lesions; then zlib leaves Python's lock to it.
            measuring = aside.submit(_lesions, prediction, case.b1000.affine)
            write_masks = partial(write_images, probabilities=probabilities, label_map=config.label_map)
            writing = [
                aside.submit(write_masks, files, case, prediction),
                aside.submit(_write_heatmap, files, case, prediction, axis),
            ]
            images = reader_images(case, prediction)
            writing.append(aside.submit(_write_viewer, files, case, images, prediction, axis))
            about = examination_facts(case, prediction, datetime.date.today())
            lesions = measuring.result()
            picture = synthesis_png(images, case.b1000.affine, prediction, lesions, about)
            for one in writing:
                one.result()
        if prediction.brain is not None and prediction.stroke is not None:
            write_lesions(files, lesions)
        write_bytes(files["picture"], picture)
        # The answer first: DICOM files that cannot be made take nothing from it.
        write = partial(write_result, files, made_from=made_from, about=about, lesions=lesions)
        stored = write(prediction, finished=dicom is None)
        if dicom is not None:
            place = folder.dicom(examination)
            same = fingerprint(made_from=job.made_from)
            prediction = _with_dicom(place, dicom, prediction, picture, same)
            stored = write(prediction, also=[place / name for name in DICOM_FILES])
        return stored


def _lesions(prediction: Prediction, affine: Affine) -> tuple[Lesion, ...]:
    if prediction.brain is None or prediction.stroke is None or prediction.flair_visible_votes is None:
        return ()
    return stroke_lesions(
        prediction.brain,
        prediction.stroke,
        prediction.flair_visible_votes,
        prediction.n_models,
        affine,
        stroke_votes=prediction.stroke_votes,
        adc=prediction.adc,
    )


def _write_heatmap(files: Mapping[str, Path], case: Case, prediction: Prediction, axis: int) -> None:
    if prediction.brain is None or prediction.stroke is None:
        return
    grey = grey_scale(case.b1000.array, prediction.brain)
    votes, n_models = np.asarray(prediction.flair_visible_votes), prediction.n_models
    heatmap = heatmap_rgb(grey, prediction.brain, prediction.stroke, votes, n_models, slice_axis=axis)
    write_heatmap(files, case, heatmap)


def _write_viewer(
    files: Mapping[str, Path], case: Case, images: Mapping[str, UInt8Array], prediction: Prediction, axis: int
) -> None:
    write_viewer(files, page_volume(images, case.b1000.affine, prediction, slice_axis=axis))


def _with_dicom(
    folder: Path, source: DicomSource, prediction: Prediction, synthesis_png: bytes, made_from: str
) -> Prediction:
    """Write the DICOM files; what of them cannot be written is a warning in the answer."""
    from fvv.io.dicom.write import write_dicom_results  # noqa: PLC0415  (an extra: only DICOM needs it)

    try:
        said = write_dicom_results(folder, source, prediction, synthesis_png=synthesis_png, made_from=made_from)
    except FvvError as error:
        said = (f"DICOM results not written: {error.message} ({error.file or folder})",)
    for message in said:
        log.warning("%s: %s", prediction.examination_id, message)
    findings = (Finding("dicom-output", message, Severity.WARNING) for message in said)
    decision = replace(prediction.decision, reasons=(*prediction.decision.reasons, *findings))
    return replace(prediction, decision=decision)


@lru_cache(maxsize=1)
def _models_of(models: Path, config: PredictConfig) -> tuple[OnnxEnsemble, Settings]:
    return models_and_settings(ModelBundle.open(models), config)


def _folder(
    input_path: Path | CaseFiles,
    output: Path | None,
    examinations: Sequence[Examination],
    config: PredictConfig,
    shard: Shard | None,
) -> ResultsFolder:
    if config.layout == "bids" and config.label_map != "none":
        raise ConfigError("BIDS has no name for NRRD and MetaImage files", hint="leave --label-map, or --layout bids")
    if config.layout == "bids" and output is None:
        raise ConfigError("BIDS derivatives are a data set of their own", hint="name a folder for it with -o")
    beside = input_path if isinstance(input_path, Path) and input_path.is_dir() else examinations[0].home
    return ResultsFolder(output or beside, output, config.layout, shard)


def _settled(config: PredictConfig, bundle: ModelBundle, n_patients: int) -> PredictConfig:
    """The settings with the bundle's post-processing; patients that run side by side share the cores."""
    asked = config.compute
    workers = 1 if asked.workers is None else max(1, min(asked.workers or core_count(), n_patients))
    threads = asked.threads or (max(1, core_count() // workers) if workers > 1 else 0)
    compute = asked.model_copy(update={"threads": threads, "workers": workers})
    postprocess = bundle.manifest.postprocessing(config.postprocess)
    return config.model_copy(update={"compute": compute, "postprocess": postprocess})


def _record(
    place: Path,
    bundle: ModelBundle,
    ensemble: OnnxEnsemble,
    config: PredictConfig,
    *,
    made_from: MadeFrom,
    cohort: Sequence[str],
    shard: Shard | None,
) -> RunRecord:
    packages = ("numpy", "scipy", "nibabel", "onnxruntime")
    return RunRecord(
        verb="predict",
        software=f"fvv {__version__}",
        environment={
            **{name: version(name) for name in packages},
            "python": platform.python_version(),
            "system": platform.system(),
            "processor": platform.machine(),
        },
        options={"input": place.name, **config.model_dump(mode="json")},
        models={file.name: file_sha256(file) for file in ensemble.files},
        about={
            "Models": bundle.manifest.description(len(ensemble)),
            "Preprocessing": bundle.profile.name,
            "Device": ensemble.provider,
        },
        made_from=made_from,
        cohort=tuple(cohort),
        shard=shard,
    )
