"""Stage 4: test the models on persons they have never seen, out of fold or on examinations from elsewhere."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from fvv.cohort.examinations import read_cohort
from fvv.config import EvaluateConfig
from fvv.data import ALL_FOLDS, Role
from fvv.errors import ConfigError, ModelError, StoreError
from fvv.io.bundle import ModelBundle
from fvv.io.store import CaseRecord, CaseStore
from fvv.io.tables import FAILURES_FILE, failure_of, read_table
from fvv.recipes.evaluated_shards import EvaluatedShard, gather_shards, run_shard
from fvv.recipes.evaluation import Plan, Task, run_evaluation, source_sha256
from fvv.recipes.held_out import held_out_participants, read_held_out, refuse_leakage, refuse_unknown_training
from fvv.recipes.publish import EvaluateResult
from fvv.schemas.summary import EXTERNAL, OUT_OF_FOLD
from fvv.simulator.files import is_simulated
from fvv.system.shard import Shard

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
    plan, bundle, config = _planned(Path(store), Path(models), config, None, external=False)
    return run_evaluation(plan, bundle, Path(output), config, overwrite=overwrite)


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
    plan, bundle, config = _planned(Path(external), Path(models), config, None, external=True)
    return run_evaluation(plan, bundle, Path(output), config, overwrite=overwrite)


def evaluate_shard(
    source: str | Path,
    models: str | Path,
    output: str | Path,
    config: EvaluateConfig,
    shard: Shard,
    *,
    external: bool,
    overwrite: bool = False,
) -> EvaluatedShard:
    """Do one part of an evaluation and write no table; `gather_evaluation` does when all parts have ended.

    Args:
        source: the store; or with `external`, the labelled patients from elsewhere.
        models, output, overwrite: as in `evaluate`.

    Raises:
        ConfigError: the calibration was asked for, which needs all patients.
        ModelError, InputError, OutputExistsError: as in `evaluate`.
    """
    if config.calibrate:
        hint = "gather the shards, then run `fvv evaluate --calibrate` without --shard: it measures no patient again"
        raise ConfigError("P(mismatch) cannot be calibrated on a shard", hint=hint)
    plan, bundle, config = _planned(Path(source), Path(models), config, shard, external=external)
    return run_shard(plan, bundle, Path(output), config, shard, overwrite=overwrite)


def gather_evaluation(output: str | Path) -> EvaluateResult:
    """Join the shards of an evaluation; see `fvv.recipes.evaluated_shards.gather_shards`."""
    return gather_shards(Path(output))


def _planned(
    source: Path, models: Path, config: EvaluateConfig, shard: Shard | None, *, external: bool
) -> tuple[Plan, ModelBundle, EvaluateConfig]:
    """What there is to do, with which models and settings."""
    if external:
        bundle = ModelBundle.open(models)
        config = bundle.completed(config)
        return _whole_ensemble(source, bundle, config, shard), bundle, config
    if config.own_masks:
        raise ConfigError(
            "evaluate.own_masks is for external patients",
            hint="use it with --external; out of fold, the masks of the store are used",
        )
    cases, bundle = CaseStore.open(source), ModelBundle.open(models)
    if bundle.profile != cases.profile:
        raise ModelError(
            f"trained with preprocessing profile {bundle.profile.label}, the store has {cases.profile.label}",
            file=models,
            hint="evaluate the models on the store they were trained on",
        )
    config = bundle.completed(config)
    return _out_of_fold(cases, bundle, config, shard), bundle, config


def _out_of_fold(store: CaseStore, bundle: ModelBundle, config: EvaluateConfig, shard: Shard | None) -> Plan:
    folds, there = store.folds, {model.fold for model in bundle.models}
    if ALL_FOLDS in there:
        raise ModelError(
            "trained on everybody in the split: nobody of it is left to test the model",
            file=bundle.path,
            hint="name other patients with --external",
        )
    # A published bundle names no folds: `model_of_fold` then says so.
    without_model = set(range(folds.n_folds)) - there if there & {*range(folds.n_folds)} else set()
    for fold in sorted(without_model):
        log.warning("the bundle has no model of fold %d: nobody of this fold is tested", fold)
    untested = {name for fold in without_model for name in folds.participants(fold, Role.TEST)}
    tested = [
        (name, fold)
        for fold in range(folds.n_folds)
        if fold not in without_model
        for name in folds.participants(fold, Role.TEST)
    ]
    names = [name for name, _ in tested]
    chosen = set(names if shard is None else shard.select(names))
    persons = {row.examination_id: row.person_id for row in folds.rows}
    tasks, failures = [], []
    for name, fold in tested:
        if name not in chosen:
            continue
        try:
            record = store.record(name)
        except StoreError as error:
            failures.append(failure_of(name, error))
        else:
            tasks.append(_task_of_fold(store, record, bundle, config, person=persons[name], fold=fold))
    in_no_fold = len(set(store.participants) - set(names) - untested)
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
    words = f"one for each of {n_models} folds"
    return Plan(OUT_OF_FOLD, store.path, names, tasks, failures, words, counts)


def _task_of_fold(
    store: CaseStore, record: CaseRecord, bundle: ModelBundle, config: EvaluateConfig, *, person: str, fold: int
) -> Task:
    models, who = (bundle.model_of_fold(fold),), record.participant
    name = who.examination_id
    refuse_unknown_training(models, bundle)
    refuse_leakage(models, bundle, name, [person, who.person_id], record.image_sha256)
    images = [record.source_sha256, record.findings, person, fold]
    source = source_sha256(bundle, models, who, config, images)
    # Without what this store has cached: a worker process gets it with each examination.
    read = partial(CaseStore(store.path, store.profile).read, name)
    return Task(who, (models[0].file,), fold, read, who.simulated, source)


def _whole_ensemble(external: Path, bundle: ModelBundle, config: EvaluateConfig, shard: Shard | None) -> Plan:
    cohort = read_cohort(external, unlisted=config.preprocess.unlisted)
    config.preprocess.applied_to(bundle.profile)  # Refuses a mask command that nobody has typed, for all at once.
    names = tuple(cohort.people) if shard is None else shard.select(cohort.people)
    hashes, failures = held_out_participants(cohort, names, bundle, config)
    models = tuple(model.file for model in bundle.models)
    tasks = []
    for name, files in hashes.items():
        participant, place = cohort.people[name], cohort.places[name]
        source = source_sha256(bundle, bundle.models, participant, config, files)
        read = partial(read_held_out, place, participant, config)
        tasks.append(Task(participant, models, None, read, is_simulated(place), source))
    return Plan(EXTERNAL, external, tuple(cohort.people), tasks, failures, f"ensemble of {len(bundle.models)}")
