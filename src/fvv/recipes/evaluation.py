"""Every evaluation: resume what is known, examine and measure the rest on all cores, publish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fvv import __version__
from fvv.analysis.methods import software_versions
from fvv.config import EvaluateConfig
from fvv.data import Case, Failure, Participant, PreparedCase
from fvv.errors import FvvError, InputError
from fvv.inference.ensemble import OnnxEnsemble
from fvv.inference.providers import runs_on_cpu
from fvv.io.bundle import ModelBundle
from fvv.io.evaluation import SCHEMA_VERSION, EvaluationFolder
from fvv.io.shards import finishing, hold_with_shards
from fvv.io.tables import counted_reasons, failure_of
from fvv.recipes.examine import Settings, examine
from fvv.recipes.held_out import reference_masks
from fvv.recipes.measure import measure_examination
from fvv.recipes.publish import (
    ALREADY_COMPLETE,
    EvaluateResult,
    calibrated,
    cohort_kind,
    publish,
)
from fvv.schemas.bundle import ModelEntry
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import Measured
from fvv.system.extension import extension
from fvv.system.fingerprint import fingerprint
from fvv.system.parallel import core_count, map_items, track


@dataclass(frozen=True, slots=True)
class Task:
    """One examination to evaluate.

    Attributes:
        participant: who.
        models: names of the files that are applied together; none has seen the person.
        fold: whose model they are; None: the whole ensemble.
        read: gives the examination as read, or as prepared, with its ROIs; picklable.
        simulated: whether the simulator made the images; None: unknown.
        source_sha256: hash of all that the result depends on.
    """

    participant: Participant
    models: tuple[str, ...]
    fold: int | None
    read: Callable[[], Case | PreparedCase]
    simulated: bool | None
    source_sha256: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A cohort to evaluate.

    Attributes:
        kind: `OUT_OF_FOLD` or `EXTERNAL`.
        cohort: where the examinations lie.
        examinations: names of all, those of other shards too.
        tasks: what is to do, examinations of the same models one after the other.
        failures: examinations that cannot be evaluated.
        models: which models are evaluated, in words.
        counts: more examinations, by what became of them.
    """

    kind: Literal["out-of-fold", "external"]
    cohort: Path
    examinations: Sequence[str]
    tasks: Sequence[Task]
    failures: Sequence[Failure]
    models: str
    counts: dict[str, int] = field(default_factory=dict)


def source_sha256(
    bundle: ModelBundle, models: Sequence[ModelEntry], participant: Participant, config: EvaluateConfig, images: Any
) -> str:
    """Hash of all that one result depends on: is a stored one still valid?

    Args:
        config: the settings; of one model's answer the cut-off is no part, it is applied again whenever it is shown.
    """
    settings = {"preprocess", "postprocess", "heatmaps", "own_masks", "metrics"}
    settings |= set() if len(models) == 1 else {"decision"}
    return fingerprint(
        version=__version__,
        schema=SCHEMA_VERSION,
        models=[model.sha256 for model in models],
        profile=bundle.profile.sha256,
        usual=bundle.manifest.intensity_range,
        participant=participant,
        images=images,
        settings=config.model_dump(mode="json", include=settings),
    )


def run_evaluation(
    plan: Plan, bundle: ModelBundle, output: Path, config: EvaluateConfig, *, overwrite: bool
) -> EvaluateResult:
    """Examine and measure every examination of a plan that the folder does not hold yet, and publish all.

    Args:
        output: folder for tables, masks, pictures and report.html.
        config: with what it leaves to the bundle filled in.
        overwrite: measure all again, and replace a finished evaluation of other models, settings or examinations.

    Raises:
        ConfigError: a metric of the user's own cannot be found.
        InputError: no examination could be evaluated.
        OutputExistsError: another evaluation is finished there, and overwriting was not asked for; or files that this
            program did not write are in the way.
    """
    folder = EvaluationFolder(output)
    refuse_unknown_metrics(config)
    with hold_with_shards(output):
        finished = folder.begin(sources_of(plan), config, overwrite=overwrite)
        patients, failures, newly = measure_all(plan, bundle, folder, config)
        if not patients:
            raise nobody_evaluated(failures, plan.cohort)
        with finishing(output):
            result = publish(folder, measured_of(plan, bundle, patients, failures), patients, config)
        if finished and not newly:
            result = replace(result, notes=(*result.notes, ALREADY_COMPLETE))
    return calibrated(result, bundle) if config.calibrate else result


def refuse_unknown_metrics(config: EvaluateConfig) -> None:
    """Refuse a misspelt metric of the user's own before anything is examined."""
    for name in config.metrics:
        extension(name, "metric")


def sources_of(plan: Plan) -> dict[str, str]:
    """Of each examination, the hash of all that its result depends on."""
    return {task.participant.examination_id: task.source_sha256 for task in plan.tasks}


def nobody_evaluated(failures: Iterable[Failure], cohort: Path) -> InputError:
    """The error of an evaluation without a result."""
    why = counted_reasons(failures) or "the split names no test patient"
    return InputError(f"no patient could be evaluated. {why}", file=cohort)


def measure_all(
    plan: Plan, bundle: ModelBundle, folder: EvaluationFolder, config: EvaluateConfig
) -> tuple[list[PatientResult], list[Failure], int]:
    """Examine and measure every examination of a plan that the folder does not hold yet.

    Returns:
        Results by name, failures by name, and how many had to be measured.

    Raises:
        ModelError: models that cannot be opened, or that do not give their reference output here.
    """
    known: dict[str, PatientResult] = {}
    for task in track(plan.tasks, "look for finished patients", len(plan.tasks)):
        found = folder.read_patient(task.participant.examination_id, task.source_sha256)
        if found is not None:
            known[task.participant.examination_id] = found
    missing = [task for task in plan.tasks if task.participant.examination_id not in known]
    patients, failures = list(known.values()), list(plan.failures)
    workers, threads = _shared_cores(config, len(missing))
    # P(mismatch) is fitted on these answers, not taken from the bundle.
    settings = replace(Settings.of(bundle.profile, config, bundle.manifest), calibration=None)
    work = _Work(bundle.path, folder, settings, config, threads)
    _opened.clear()
    for models in dict.fromkeys(task.models for task in missing):
        _ensemble(work, models)  # Models that cannot run are one error, not one for each examination.
    if workers > 1:
        _opened.clear()
    for task, outcome in map_items(partial(_evaluate_one, work), missing, workers=workers, description="evaluate"):
        if isinstance(outcome, FvvError):
            failures.append(failure_of(task.participant.examination_id, outcome))
        else:
            patients.append(outcome)
    _opened.clear()
    patients.sort(key=lambda patient: patient.examination_id)
    failures.sort(key=lambda failure: failure.examination_id)
    return patients, failures, len(missing)


@dataclass(frozen=True, slots=True)
class _Work:
    """What a worker needs to know of the evaluation."""

    models: Path
    folder: EvaluationFolder
    settings: Settings
    config: EvaluateConfig
    threads: int


_opened: dict[tuple[str, ...], OnnxEnsemble] = {}
"""The models that this process uses now, by their files: those of one fold, or all."""


def _ensemble(work: _Work, models: tuple[str, ...]) -> OnnxEnsemble:
    if models not in _opened:
        _opened.clear()  # Lets go of the last fold's session before the next one is built.
        bundle, compute = ModelBundle.open(work.models), work.config.compute
        entries = [entry for entry in bundle.models if entry.file in models]
        _opened[models] = OnnxEnsemble.from_bundle(
            bundle, entries, device=compute.device, threads=work.threads, chunk_slices=compute.chunk_slices
        )
    return _opened[models]


def _shared_cores(config: EvaluateConfig, examinations: int) -> tuple[int, int]:
    """Processes, and the threads of each, which share the cores; on a GPU, which they would share, one process."""
    compute = config.compute
    workers = compute.workers
    if workers is None and not runs_on_cpu(compute.device):
        workers = 1
    workers = max(1, min(workers or core_count(), examinations))
    return workers, compute.threads or (max(1, core_count() // workers) if workers > 1 else 0)


def _evaluate_one(work: _Work, task: Task) -> PatientResult:
    config = work.config
    subject = task.read()
    without_mask = replace(subject, mask=None) if config.own_masks and isinstance(subject, Case) else subject
    examined = examine(without_mask, _ensemble(work, task.models), work.settings)
    reference = reference_masks(subject, examined, own_masks=config.own_masks)
    result, files = measure_examination(
        examined, reference, task.participant, task.fold, pictures=config.heatmaps, metrics=config.metrics
    )
    work.folder.write_patient(task.source_sha256, result, files)
    return result


def measured_of(
    plan: Plan, bundle: ModelBundle, patients: Sequence[PatientResult], failures: Sequence[Failure]
) -> Measured:
    """What the evaluation of a plan, or of a shard of it, was made from."""
    tasks = {task.participant.examination_id: task for task in plan.tasks}
    evaluated = [tasks[patient.examination_id] for patient in patients]
    return Measured(
        evaluation=plan.kind,
        failures=tuple(failures),
        counts=counts_of(patients, failures, plan.counts),
        run={
            "models": f"{bundle.manifest.run_name}, {plan.models}",
            "preprocessing": bundle.profile.name,
            "software": software_versions(),
        },
        models_sha256=bundle.manifest.models_sha256,
        sources={task.participant.examination_id: task.source_sha256 for task in evaluated},
        cohort=cohort_kind(task.simulated for task in evaluated),
    )


def counts_of(
    patients: Sequence[PatientResult], failures: Sequence[Failure], more: Mapping[str, int]
) -> dict[str, int]:
    """Examinations by what became of them.

    Args:
        more: of the whole cohort.
    """
    return {
        "evaluated": len(patients),
        "not assessable": sum(patient.fvv_ml is None for patient in patients),
        "failed": len(failures),
        **more,
    }
