"""Stage 4: test the models on persons they have never seen, out of fold or on examinations from elsewhere."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from fvv.cohort.examinations import read_cohort
from fvv.config import EvaluateConfig
from fvv.data import ALL_FOLDS, Participant, Role
from fvv.errors import ConfigError, FvvError, ModelError, StoreError
from fvv.io.bundle import ModelBundle
from fvv.io.case import Place, case_files, hash_files
from fvv.io.store import CaseStore
from fvv.io.tables import FAILURES_FILE, failure_of, read_table
from fvv.recipes.evaluation import Plan, Task, run_evaluation, source_sha256
from fvv.recipes.held_out import held_out_participants, read_held_out, refuse_leakage, refuse_unknown_training
from fvv.recipes.publish import EvaluateResult
from fvv.schemas.summary import EXTERNAL, OUT_OF_FOLD
from fvv.simulator.files import is_simulated
from fvv.system.parallel import attempt

log = logging.getLogger(__name__)


def evaluate(
    store: str | Path, models: str | Path, output: str | Path, config: EvaluateConfig, *, overwrite: bool = False
) -> EvaluateResult:
    """Predict every patient out of fold and measure the result; the same command resumes an interrupted run.

    Args:
        models: bundle with one model per fold; examinations of a fold that has none are left out, and counted.
        output: folder for tables, masks, pictures and report.html.
        overwrite: measure all again, and replace a finished evaluation of other models, settings or patients.

    Raises:
        ConfigError: `own_masks` is asked for, and stored patients have the masks of their preparation.
        ModelError: no fold has a model, one model was trained on all of them, or data leakage: a model was trained on
            a person or an image of its test fold, or does not say on whom it was trained.
        InputError: no store, or no patient could be evaluated.
        OutputExistsError: another evaluation is finished there, and overwriting was not asked for; or files that this
            program did not write are in the way.
    """
    store, models, output = Path(store), Path(models), Path(output)
    if config.own_masks:
        raise ConfigError(
            "evaluate.own_masks is for external patients",
            hint="use it with --external; out of fold, the masks of the store are used",
        )
    cases, bundle = CaseStore.open(store), ModelBundle.open(models)
    if bundle.profile != cases.profile:
        raise ModelError(
            f"trained with preprocessing profile {bundle.profile.label}, the store has {cases.profile.label}",
            file=models,
            hint="evaluate the models on the store they were trained on",
        )
    config = bundle.completed(config)
    return run_evaluation(_out_of_fold(cases, bundle, config), bundle, output, config, overwrite=overwrite)


def evaluate_external(
    external: str | Path, models: str | Path, output: str | Path, config: EvaluateConfig, *, overwrite: bool = False
) -> EvaluateResult:
    """`evaluate` of labelled patients from elsewhere, whom all models of the bundle examine together as in `predict`.

    Args:
        external: labelled patients, a folder each, as for `prepare`; stroke-free ones, which participants.tsv names,
            may come without ROI files.
        models, output, overwrite: as in `evaluate`.

    Raises:
        ModelError, InputError, OutputExistsError: as in `evaluate`.
    """
    external, models, output = Path(external), Path(models), Path(output)
    bundle = ModelBundle.open(models)
    config = bundle.completed(config)
    return run_evaluation(_whole_ensemble(external, bundle, config), bundle, output, config, overwrite=overwrite)


def _out_of_fold(store: CaseStore, bundle: ModelBundle, config: EvaluateConfig) -> Plan:
    tasks, failures, folds, untested = [], [], store.folds, set()
    there = {model.fold for model in bundle.models}
    if ALL_FOLDS in there:
        raise ModelError(
            "trained on everybody in the split: nobody of it is left to test the model",
            file=bundle.path,
            hint="name other patients with --external",
        )
    for fold in range(folds.n_folds):
        if fold not in there and there & {*range(folds.n_folds)}:
            untested |= {*folds.participants(fold, Role.TEST)}
            log.warning("the bundle has no model of fold %d: nobody of this fold is tested", fold)
            continue
        models = (bundle.model_of_fold(fold),)
        refuse_unknown_training(models, bundle)
        for name in folds.participants(fold, Role.TEST):
            try:
                record = store.record(name)
            except StoreError as error:
                failures.append(failure_of(name, error))
                continue
            who, person = record.participant, folds.person_of(name)
            refuse_leakage(models, bundle, name, [person, who.person_id], record.image_sha256)
            images = [record.source_sha256, record.findings, person, fold]
            source = source_sha256(bundle, models, who, config, images)
            tasks.append(Task(who, models, fold, partial(store.read, name), who.simulated, source))
    tested = {*(task.participant.examination_id for task in tasks), *(failure.examination_id for failure in failures)}
    in_no_fold = len(set(store.participants) - tested - untested)
    if in_no_fold:
        log.warning("%d patients are test patients of no fold", in_no_fold)
    failures_file = store.path / FAILURES_FILE
    counts = {
        "in the store but in no test fold": in_no_fold,
        "could not be prepared": len(read_table(failures_file)) if failures_file.exists() else 0,
    }
    if untested:
        counts["in a fold without a model"] = len(untested)
    n_models = len(there & {*range(folds.n_folds)})
    return Plan(OUT_OF_FOLD, store.path, tasks, failures, f"one for each of {n_models} folds", counts)


def _whole_ensemble(external: Path, bundle: ModelBundle, config: EvaluateConfig) -> Plan:
    cohort = read_cohort(external, unlisted=config.preprocess.unlisted)
    participants, failures = held_out_participants(cohort, bundle, config)
    config.preprocess.applied_to(bundle.profile)  # Refuses a mask command that nobody has typed, for all at once.
    tasks = []
    for participant in participants:
        task = attempt(_external_task, cohort.places[participant.examination_id], participant, bundle, config)
        if isinstance(task, FvvError):
            failures.append(failure_of(participant.examination_id, task))
        else:
            tasks.append(task)
    return Plan(EXTERNAL, external, tasks, failures, f"ensemble of {len(bundle.models)}")


def _external_task(place: Place, participant: Participant, bundle: ModelBundle, config: EvaluateConfig) -> Task:
    source = source_sha256(bundle, bundle.models, participant, config, hash_files(case_files(place)))
    read = partial(read_held_out, place, participant, config)
    return Task(participant, bundle.models, None, read, is_simulated(place), source)
