"""The loop of every evaluation: resume what is known, examine and measure the rest, publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fvv import __version__
from fvv.analysis.methods import software_versions
from fvv.config import EvaluateConfig
from fvv.data import Case, Failure, Participant, PreparedCase
from fvv.errors import FvvError, InputError
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.bundle import ModelBundle
from fvv.io.evaluation import SCHEMA_VERSION, EvaluationFolder
from fvv.io.lock import only_writer
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
from fvv.system.parallel import attempt, track


@dataclass(frozen=True, slots=True)
class Task:
    """One examination to evaluate.

    Attributes:
        participant: who.
        models: applied together; none has seen the person.
        fold: whose model they are; None: the whole ensemble.
        read: gives the examination as read, or as prepared, with its ROIs.
        simulated: whether the simulator made the images; None: unknown.
        source_sha256: hash of all that the result depends on.
    """

    participant: Participant
    models: tuple[ModelEntry, ...]
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
        tasks: what is to do, examinations of the same models one after the other.
        failures: examinations that cannot be evaluated.
        models: which models are evaluated, in words.
        counts: more examinations, by what became of them.
    """

    kind: Literal["out-of-fold", "external"]
    cohort: Path
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
    for name in config.metrics:  # Refuses a misspelt one before anything is examined.
        extension(name, "metric")
    # P(mismatch) is fitted on these answers, not taken from the bundle.
    settings = replace(Settings.of(bundle.profile, config, bundle.manifest), calibration=None)
    failures = list(plan.failures)
    with only_writer(output):
        sources = {task.participant.examination_id: task.source_sha256 for task in plan.tasks}
        finished = folder.begin(sources, config, overwrite=overwrite)
        patients: list[PatientResult] = []
        missing: list[Task] = []
        for task in track(plan.tasks, "look for finished patients", len(plan.tasks)):
            known = folder.read_patient(task.participant.examination_id, task.source_sha256)
            if known is None:
                missing.append(task)
            else:
                patients.append(known)
        opened: tuple[tuple[ModelEntry, ...], OnnxEnsemble] | None = None
        for task in track(missing, "evaluate", len(missing)):
            if opened is None or opened[0] != task.models:
                opened = None  # Lets go of the last fold's session before the next one is built.
                opened = task.models, _open(bundle, task.models, config)
            outcome = attempt(_evaluate_one, task, opened[1], folder, settings, config)
            if isinstance(outcome, FvvError):
                failures.append(failure_of(task.participant.examination_id, outcome))
            else:
                patients.append(outcome)
        if not patients:
            why = counted_reasons(failures) or "the split names no test patient"
            raise InputError(f"no patient could be evaluated. {why}", file=plan.cohort)
        patients.sort(key=lambda patient: patient.examination_id)
        result = publish(folder, _measured(plan, bundle, patients, failures), patients, config)
        if finished and not missing:
            result = replace(result, notes=(*result.notes, ALREADY_COMPLETE))
    return calibrated(result, bundle) if config.calibrate else result


def _open(bundle: ModelBundle, models: tuple[ModelEntry, ...], config: EvaluateConfig) -> OnnxEnsemble:
    return OnnxEnsemble.from_bundle(
        bundle,
        models,
        device=config.compute.device,
        threads=config.compute.threads,
        chunk_slices=config.compute.chunk_slices,
    )


def _evaluate_one(
    task: Task, ensemble: OnnxEnsemble, folder: EvaluationFolder, settings: Settings, config: EvaluateConfig
) -> PatientResult:
    subject = task.read()
    without_mask = replace(subject, mask=None) if config.own_masks and isinstance(subject, Case) else subject
    examined = examine(without_mask, ensemble, settings)
    reference = reference_masks(subject, examined, own_masks=config.own_masks)
    result, files = measure_examination(
        examined, reference, task.participant, task.fold, pictures=config.heatmaps, metrics=config.metrics
    )
    folder.write_patient(task.source_sha256, result, files)
    return result


def _measured(
    plan: Plan, bundle: ModelBundle, patients: Sequence[PatientResult], failures: Sequence[Failure]
) -> Measured:
    tasks = {task.participant.examination_id: task for task in plan.tasks}
    evaluated = [tasks[patient.examination_id] for patient in patients]
    return Measured(
        evaluation=plan.kind,
        failures=tuple(sorted(failures, key=lambda failure: failure.examination_id)),
        counts={
            "evaluated": len(patients),
            "not assessable": sum(patient.fvv_ml is None for patient in patients),
            "failed": len(failures),
            **plan.counts,
        },
        run={
            "models": f"{bundle.manifest.run_name}, {plan.models}",
            "preprocessing": bundle.profile.name,
            "software": software_versions(),
        },
        models_sha256=bundle.manifest.models_sha256,
        sources={task.participant.examination_id: task.source_sha256 for task in evaluated},
        cohort=cohort_kind(task.simulated for task in evaluated),
    )
