"""Stage 4: test every patient with the model of the fold that never saw that person."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fvv import __version__
from fvv.analysis.paper import OUT_OF_FOLD, software_versions
from fvv.analysis.patient import PatientResult, jsonable
from fvv.config import EvaluateConfig
from fvv.data import Failure, Role, hashed_ids
from fvv.errors import ConfigError, FvvError, ModelError, StoreError
from fvv.imaging.decision import decide
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.bundle import ModelBundle
from fvv.io.evaluation import SCHEMA_VERSION, EvaluationFolder
from fvv.io.lock import only_writer
from fvv.io.manifest import FAILURES_FILE, failure_of, read_table
from fvv.io.store import CaseRecord, CaseStore
from fvv.recipes.measure import measure_case
from fvv.recipes.publish import (
    ALREADY_COMPLETE,
    EvaluateResult,
    Evaluation,
    calibrated,
    cohort_kind,
    known_result,
    publish,
)
from fvv.recipes.segment import segment_case
from fvv.schemas.bundle import ModelEntry
from fvv.system.parallel import attempt, track

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Task:
    """One patient to test: whose model, and the hash of all that the result depends on."""

    participant: str
    fold: int
    record: CaseRecord
    source_sha256: str


def evaluate(
    store: Path, models: Path, output: Path, config: EvaluateConfig, *, overwrite: bool = False
) -> EvaluateResult:
    """Predict every patient out of fold and measure the result. A killed run goes on where it ended.

    The same command again measures what is missing, damaged or failed, and says where nothing was.

    Args:
        store: prepared patients and their split.
        models: bundle with one model per fold.
        output: folder for tables, masks, pictures and report.html.
        config: cut-off, label, bootstrap.
        overwrite: measure all again, and replace a finished evaluation of other models, settings or patients.

    Raises:
        ConfigError: `own_masks` is asked for, and stored patients have the masks of their preparation.
        ModelError: a fold has no model, a model was trained on a person or an image of its test fold, or does not say
            on whom it was trained.
        StoreError: no store, or no patient could be evaluated.
        OutputExistsError: another evaluation is finished there, and overwriting was not asked for; or files that this
            program did not write are in the way.
    """
    if config.own_masks:
        raise ConfigError("evaluate.own_masks is for external patients", hint="the store's masks hold out of fold")
    cases, bundle = CaseStore.open(store), ModelBundle.open(models)
    if bundle.profile != cases.profile:
        raise ModelError(
            f"trained with preprocessing profile {bundle.profile.label}, the store has {cases.profile.label}",
            file=models,
            hint="evaluate the models on the store they were trained on",
        )
    config = bundle.completed(config)
    tasks, failures = _plan(cases, bundle, config)
    folder = EvaluationFolder(output)
    with only_writer(output):
        sources = {task.participant: task.source_sha256 for task in tasks}
        finished = folder.begin(sources, config.model_dump(mode="json"), overwrite=overwrite)
        known = {
            task.participant: known_result(folder, task.participant, task.source_sha256)
            for task in track(tasks, "look for finished patients", len(tasks))
        }
        missing = [task for task in tasks if known[task.participant] is None]
        patients = [result for result in known.values() if result is not None]
        for outcome in track(_evaluate_all(missing, cases, bundle, folder, config), "evaluate", len(missing)):
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                patients.append(outcome)
        if not patients:
            raise StoreError(f"no patient could be evaluated; the first: {failures[0].reason}", file=store)
        result = publish(folder, _measured(cases, bundle, tasks, patients, failures), config)
        if finished and not missing:
            result = replace(result, notes=(*result.notes, ALREADY_COMPLETE))
    return calibrated(result, bundle) if config.calibrate else result


def _plan(store: CaseStore, bundle: ModelBundle, config: EvaluateConfig) -> tuple[list[_Task], list[Failure]]:
    """Who is tested with whose model; refuses any model that has seen the person or the images."""
    tasks, failures = [], []
    plan = store.folds
    for fold in range(plan.n_folds):
        model = bundle.model_of_fold(fold)
        if not model.trained_on:
            raise ModelError("the model does not say on whom it was trained", file=bundle.path)
        for participant in plan.participants(fold, Role.TEST):
            try:
                record = store.record(participant)
            except StoreError as error:
                failures.append(failure_of(participant, error))
                continue
            _refuse_seen(model, bundle, record, plan.person_of(participant))
            person = plan.person_of(participant)
            source = _source_sha256(
                model.sha256, bundle.profile.sha256, record, person=person, fold=fold, config=config
            )
            tasks.append(_Task(participant, fold, record, source))
    return tasks, failures


def _refuse_seen(model: ModelEntry, bundle: ModelBundle, record: CaseRecord, person: str) -> None:
    ids = hashed_ids([person, record.participant.person, record.image_sha256])
    if set(ids) & set(model.trained_on):
        raise ModelError(
            f"the model of fold {model.fold} was trained on this person or on these images: testing it here would "
            "measure memory, not skill",
            patient=record.participant.participant,
            file=bundle.path,
            hint="use the split the models were trained with, or train again",
        )


def _source_sha256(
    model_sha256: str, profile_sha256: str, record: CaseRecord, *, person: str, fold: int, config: EvaluateConfig
) -> str:
    """Hash of everything one patient's result depends on; the answer of one model is made again for any cut-off."""
    settings = [
        __version__,
        SCHEMA_VERSION,
        model_sha256,
        profile_sha256,
        record.source_sha256,
        asdict(record.participant),
        [[finding.code, finding.message, finding.severity.value] for finding in record.findings],
        person,
        fold,
        config.model_dump(include={"postprocess"}),
        config.heatmaps,
    ]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _evaluate_all(
    tasks: list[_Task], store: CaseStore, bundle: ModelBundle, folder: EvaluationFolder, config: EvaluateConfig
) -> Iterator[PatientResult | Failure]:
    """One patient after the other; each fold's session is opened once, and only where there is work for it."""
    opened: tuple[int, OnnxEnsemble] | None = None
    for task in tasks:
        if opened is None or opened[0] != task.fold:
            opened = None  # Lets go of the last fold's session before the next one is built.
            opened = task.fold, _open(bundle, task.fold, config)
        outcome = attempt(_evaluate_one, task, store, opened[1], folder, config)
        yield failure_of(task.participant, outcome) if isinstance(outcome, FvvError) else outcome


def _open(bundle: ModelBundle, fold: int, config: EvaluateConfig) -> OnnxEnsemble:
    return OnnxEnsemble.from_bundle(
        bundle,
        [bundle.model_of_fold(fold)],
        device=config.device,
        threads=config.threads,
        chunk_slices=config.chunk_slices,
    )


def _evaluate_one(
    task: _Task, store: CaseStore, ensemble: OnnxEnsemble, folder: EvaluationFolder, config: EvaluateConfig
) -> PatientResult:
    """Read, segment, bring back to the native grid, measure, draw, write."""
    case = store.read(task.participant)
    fused = segment_case(case, ensemble, config.postprocess)
    decision = decide(fused, case.voxel_volume_ml, case.findings, config.decision)
    result, files = measure_case(case, task.record.participant, task.fold, fused, decision, pictures=config.heatmaps)
    folder.write_patient(task.participant, task.source_sha256, jsonable(result), files)
    return result


def _measured(
    store: CaseStore,
    bundle: ModelBundle,
    tasks: list[_Task],
    patients: list[PatientResult],
    failures: list[Failure],
) -> Evaluation:
    """The cohort as it was measured."""
    tested = {patient.participant for patient in patients} | {failure.patient for failure in failures}
    failures_file = store.path / FAILURES_FILE
    counts = {
        "evaluated": len(patients),
        "not assessable": sum(patient.fvv_ml is None for patient in patients),
        "failed": len(failures),
        "in the store but in no test fold": len(set(store.participants) - tested),
        "could not be prepared": len(read_table(failures_file)) if failures_file.exists() else 0,
    }
    if counts["in the store but in no test fold"]:
        log.warning("%d patients are test patients of no fold", counts["in the store but in no test fold"])
    ordered = tuple(sorted(patients, key=lambda patient: patient.participant))
    task_of = {task.participant: task for task in tasks}
    return Evaluation(
        kind=OUT_OF_FOLD,
        patients=ordered,
        failures=tuple(sorted(failures, key=lambda failure: failure.patient)),
        counts=counts,
        run={
            "models": f"{bundle.manifest.run_name}, one for each of {store.folds.n_folds} folds",
            "preprocessing": store.profile.name,
            "software": software_versions(),
        },
        models_sha256=bundle.manifest.models_sha256,
        sources={patient.participant: task_of[patient.participant].source_sha256 for patient in ordered},
        cohort=cohort_kind(task_of[patient.participant].record.participant.simulated for patient in ordered),
    )
