"""Stage 4 on other patients: test the whole ensemble on labelled patients that none of its models ever saw."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from fvv import __version__
from fvv.analysis.paper import EXTERNAL, software_versions
from fvv.analysis.patient import PatientResult, jsonable
from fvv.arrays import BoolArray
from fvv.config import EvaluateConfig, PreprocessingProfile
from fvv.data import Case, Failure, Finding, FusedSegmentation, Participant, PreparedCase, Severity
from fvv.errors import FvvError, InputError, MaskError
from fvv.imaging.decision import decide
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.quality import assess_quality
from fvv.imaging.quality.signal import without_gaps
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.bundle import ModelBundle
from fvv.io.case import case_files, read_case
from fvv.io.evaluation import SCHEMA_VERSION, EvaluationFolder
from fvv.io.lock import only_writer
from fvv.io.manifest import failure_of
from fvv.recipes.held_out import shown_to_models, unseen_participants, with_drawn_brain
from fvv.recipes.measure import as_drawn, measure_case
from fvv.recipes.publish import (
    ALREADY_COMPLETE,
    EvaluateResult,
    Evaluation,
    calibrated,
    cohort_kind,
    known_result,
    publish,
)
from fvv.recipes.segment import segment_together_and_alone
from fvv.simulator.files import SIMULATION_FILE
from fvv.system.parallel import attempt, track

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Task:
    """One patient to test, and the hash of all that the result depends on."""

    participant: Participant
    folder: Path
    source_sha256: str


def evaluate_external(
    external: Path, models: Path, output: Path, config: EvaluateConfig, *, overwrite: bool = False
) -> EvaluateResult:
    """Predict labelled patients as `predict` does and measure the result. A killed run goes on where it ended.

    The same command again measures what is missing, damaged or failed, and says where nothing was.

    Args:
        external: labelled patients, a folder each, as for `prepare`.
        models: bundle; all of its models are applied together.
        output: folder for tables, masks, pictures and report.html.
        config: masks, cut-off, label, bootstrap.
        overwrite: measure all again, and replace a finished evaluation of other models, settings or patients.

    Raises:
        ModelError: a model was trained on one of these persons or images, or does not say on whom it was trained.
        InputError: no patient there, or none could be evaluated.
        OutputExistsError: another evaluation is finished there, and overwriting was not asked for; or files that this
            program did not write are in the way.
    """
    bundle = ModelBundle.open(models)
    config = bundle.completed(config)
    participants, failures = unseen_participants(external, bundle, config)
    profile = config.preprocess.applied_to(bundle.profile)
    folder = EvaluationFolder(output)
    with only_writer(output):
        tasks, unread = _tasks(external, participants, bundle, config)
        failures += unread
        sources = {task.participant.participant: task.source_sha256 for task in tasks}
        finished = folder.begin(sources, config.model_dump(mode="json"), overwrite=overwrite)
        ensemble: OnnxEnsemble | None = None
        patients: list[PatientResult] = []
        measured = 0
        for task in track(tasks, "evaluate", len(tasks)):
            name = task.participant.participant
            known = known_result(folder, name, task.source_sha256)
            if known is not None:
                patients.append(known)
                continue
            ensemble = ensemble or _open(bundle, config)
            measured += 1
            outcome = attempt(_evaluate_one, task, bundle, ensemble, folder, config)
            if isinstance(outcome, FvvError):
                failures.append(failure_of(name, outcome))
            else:
                patients.append(outcome)
        if not patients:
            raise InputError(f"no patient could be evaluated; the first: {failures[0].reason}", file=external)
        result = publish(folder, _measured(bundle, profile, tasks, patients, failures), config)
        if finished and not measured:
            result = replace(result, notes=(*result.notes, ALREADY_COMPLETE))
    return calibrated(result, bundle) if config.calibrate else result


def _tasks(
    external: Path, participants: list[Participant], bundle: ModelBundle, config: EvaluateConfig
) -> tuple[list[_Task], list[Failure]]:
    """The patients with the hash of all that their result depends on; those whose files cannot be read are failures."""
    tasks, failures = [], []
    for participant in participants:
        folder = external / participant.participant
        try:
            tasks.append(_task(folder, participant, bundle, config))
        except OSError as error:
            failures.append(failure_of(participant.participant, InputError(f"cannot be read: {error}", file=folder)))
    return tasks, failures


def _task(folder: Path, participant: Participant, bundle: ModelBundle, config: EvaluateConfig) -> _Task:
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in case_files(folder)}
    who = [participant.person, participant.site, participant.dwi_flair_mismatch]
    settings = config.model_dump(
        mode="json", include={"preprocess", "postprocess", "decision", "heatmaps", "own_masks"}
    )
    usual = {name: list(limits) for name, limits in bundle.manifest.intensity_range.items()}
    models = [bundle.profile.sha256, usual, *bundle.manifest.models_sha256.values()]
    content = [__version__, SCHEMA_VERSION, models, files, who, settings]
    return _Task(participant, folder, hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest())


def _open(bundle: ModelBundle, config: EvaluateConfig) -> OnnxEnsemble:
    return OnnxEnsemble.from_bundle(
        bundle,
        device=config.device,
        threads=config.threads,
        chunk_slices=config.chunk_slices,
    )


def _evaluate_one(
    task: _Task, bundle: ModelBundle, ensemble: OnnxEnsemble, folder: EvaluationFolder, config: EvaluateConfig
) -> PatientResult:
    """Read, prepare, check, segment, measure, draw, write."""
    profile = config.preprocess.applied_to(bundle.profile)
    case = read_case(task.folder, config.preprocess, labelled=True, finite=False)
    prepared: PreparedCase | None = None
    try:
        case, not_finite = without_gaps(case)
        prepared, findings = _prepared(case, not_finite, profile, bundle, config)
    except MaskError as error:
        findings = (Finding("no-brain-mask", error.message, Severity.NOT_ASSESSABLE),)
    drawn = as_drawn(case, profile.grid_size) if prepared is None else with_drawn_brain(case, prepared, profile, config)
    refused = any(finding.severity is Severity.NOT_ASSESSABLE for finding in findings)
    # What quality control refuses is not measured, as in `predict`; it is counted as not assessable.
    fused: FusedSegmentation | None = None
    alone: tuple[FusedSegmentation, ...] = ()
    if prepared is not None and not refused:
        fused, alone = segment_together_and_alone(prepared, ensemble, config.postprocess)
    decision = decide(fused, drawn.voxel_volume_ml, findings, config.decision)
    pictures = config.heatmaps and prepared is not None
    result, files = measure_case(drawn, task.participant, None, fused, decision, alone=alone, pictures=pictures)
    folder.write_patient(case.patient, task.source_sha256, jsonable(result), files)
    return result


def _prepared(
    case: Case, not_finite: BoolArray, profile: PreprocessingProfile, bundle: ModelBundle, config: EvaluateConfig
) -> tuple[PreparedCase, tuple[Finding, ...]]:
    """The patient as the models see it, and what quality control says of that.

    Raises:
        MaskError: no brain mask can be made; `predict` calls such a patient not assessable.
    """
    shown = shown_to_models(case, profile, config)
    prepared = preprocess_case(shown, profile)
    findings = assess_quality(
        shown,
        prepared,
        brain_volume_bounds_ml=config.preprocess.brain_volume_bounds_ml,
        not_finite=not_finite,
        usual_range=bundle.manifest.intensity_range,
    )
    return prepared, findings


def _measured(
    bundle: ModelBundle,
    profile: PreprocessingProfile,
    tasks: list[_Task],
    patients: list[PatientResult],
    failures: list[Failure],
) -> Evaluation:
    """The cohort as it was measured."""
    ordered = tuple(sorted(patients, key=lambda patient: patient.participant))
    task_of = {task.participant.participant: task for task in tasks}
    return Evaluation(
        kind=EXTERNAL,
        patients=ordered,
        failures=tuple(sorted(failures, key=lambda failure: failure.patient)),
        counts={
            "evaluated": len(patients),
            "not assessable": sum(patient.fvv_ml is None for patient in patients),
            "failed": len(failures),
        },
        run={
            "models": f"{bundle.manifest.run_name}, ensemble of {len(bundle.models)}",
            "preprocessing": profile.name,
            "software": software_versions(),
        },
        models_sha256=bundle.manifest.models_sha256,
        sources={patient.participant: task_of[patient.participant].source_sha256 for patient in ordered},
        cohort=cohort_kind((task_of[patient.participant].folder / SIMULATION_FILE).exists() for patient in ordered),
    )
