"""Stage 4: test every patient with the model of the fold that never saw that person."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvv import __version__
from fvv.analysis.figures import comparison_figure, figure_png, format_ml, grey_scale, paint_heatmap
from fvv.analysis.patient import PatientResult, jsonable, metric_rows, patient_row
from fvv.analysis.plots import evaluation_plots
from fvv.analysis.report import evaluation_page, extremes
from fvv.analysis.summary import headline, marker_data, summarise_cohort
from fvv.arrays import BoolArray, UInt8Array
from fvv.config import EvaluateConfig
from fvv.data import Channel, DecisionState, Failure, FusedSegmentation, PreparedCase, Role, Volume, hashed_ids
from fvv.errors import FvvError, ModelError, StoreError
from fvv.imaging.decision import decide
from fvv.imaging.geometry import restore_to_native, slice_axis
from fvv.inference.ensemble import OnnxEnsemble
from fvv.inference.segment import segment_case
from fvv.io.bundle import ModelBundle, ModelEntry
from fvv.io.evaluation import EvaluationFolder
from fvv.io.lock import only_writer
from fvv.io.manifest import FAILURES_FILE, failure_of, read_table
from fvv.io.store import CaseRecord, CaseStore
from fvv.parallel import track

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
"""Of summary.json."""


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """What the evaluation found.

    Attributes:
        output: the folder with tables, pictures and report.html.
        patients: how each patient was predicted.
        headline: the few numbers people ask for first; NaN where undefined.
        label_source: where the mismatch label comes from.
        failures: patients that could not be evaluated.
    """

    output: Path
    patients: tuple[PatientResult, ...]
    headline: dict[str, float]
    label_source: str
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """The headline numbers and where the rest is."""
        numbers = {name: "n/a" if np.isnan(value) else f"{value:.3f}" for name, value in self.headline.items()}
        unmeasured = sum(patient.fvv_ml is None for patient in self.patients)
        lines = [
            f"{len(self.patients)} patients tested out of fold, "
            f"{unmeasured} not assessable, {len(self.failures)} failed",
            *(
                f"{channel.label.replace('_', '-'):<14}Dice pooled {numbers[f'{channel.label}_dice_pooled']}, "
                f"mean {numbers[f'{channel.label}_dice_mean']}"
                for channel in Channel
            ),
            f"{'marker':<14}AUC {numbers['auc']} [{numbers['auc_low']} to {numbers['auc_high']}], "
            f"kappa {numbers['kappa']}, sensitivity {numbers['sensitivity']}, specificity {numbers['specificity']}",
            f"label: {self.label_source}",
            f"report: {self.output / 'report.html'} (for research use only)",
        ]
        return "\n".join(lines)


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

    Args:
        store: prepared patients and their split.
        models: bundle with one model per fold.
        output: folder for tables, masks, pictures and report.html.
        config: cut-off, label, bootstrap.
        overwrite: replace a finished evaluation.

    Raises:
        ModelError: a fold has no model, a model was trained on a person or an image of its test fold, or does not say
            on whom it was trained.
        StoreError: no store, or no patient could be evaluated.
        OutputExistsError: a finished evaluation is there, and overwriting was not asked for.
    """
    cases, bundle = CaseStore.open(store), ModelBundle.open(models)
    if bundle.profile != cases.profile:
        raise ModelError(
            f"trained with preprocessing profile {bundle.profile.name}, the store has {cases.profile.name}",
            file=models,
            hint="evaluate the models on the store they were trained on",
        )
    tasks, failures = _plan(cases, bundle, config)
    folder = EvaluationFolder(output)
    with only_writer(output):
        folder.begin([task.participant for task in tasks], overwrite=overwrite)
        patients = []
        for outcome in track(_evaluate_all(tasks, cases, bundle, folder, config), "evaluate", len(tasks)):
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                patients.append(outcome)
        patients.sort(key=lambda patient: patient.participant)
        failures.sort(key=lambda failure: failure.patient)
        if not patients:
            raise StoreError(f"no patient could be evaluated; the first: {failures[0].reason}", file=store)
        return _finish(folder, cases, bundle, config, patients=patients, failures=failures)


def _plan(store: CaseStore, bundle: ModelBundle, config: EvaluateConfig) -> tuple[list[_Task], list[Failure]]:
    """Who is tested with whose model; refuses any model that has seen the person or the images."""
    tasks, failures = [], []
    plan = store.folds
    for fold in range(plan.n_folds):
        model = bundle.model_of_fold(fold)
        if not model.trained_on:
            raise ModelError("the model does not say on whom it was trained", file=bundle.file(model))
        for participant in plan.participants(fold, Role.TEST):
            try:
                record = store.record(participant)
            except StoreError as error:
                failures.append(failure_of(participant, error))
                continue
            _refuse_seen(model, bundle, record, plan.person_of(participant))
            tasks.append(_Task(participant, fold, record, _source_sha256(model, record, fold, config)))
    return tasks, failures


def _refuse_seen(model: ModelEntry, bundle: ModelBundle, record: CaseRecord, person: str) -> None:
    ids = hashed_ids([person, record.participant.person, record.image_sha256])
    if set(ids) & set(model.trained_on):
        raise ModelError(
            f"the model of fold {model.fold} was trained on this person or on these images: testing it here would "
            "measure memory, not skill",
            patient=record.participant.participant,
            file=bundle.file(model),
            hint="use the split the models were trained with, or train again",
        )


def _source_sha256(model: ModelEntry, record: CaseRecord, fold: int, config: EvaluateConfig) -> str:
    """Hash of everything one patient's result depends on."""
    weights = [model.sha256, config.precision]
    settings = [__version__, weights, record.source_sha256, fold, config.decision.model_dump(), config.heatmaps]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _evaluate_all(
    tasks: list[_Task], store: CaseStore, bundle: ModelBundle, folder: EvaluationFolder, config: EvaluateConfig
) -> Iterator[PatientResult | Failure]:
    """One patient after the other; each fold's session is opened once, and only where there is work for it."""
    opened: tuple[int, OnnxEnsemble] | None = None
    for task in tasks:
        known = folder.read_patient(task.participant, task.source_sha256)
        if known is not None:
            yield PatientResult.from_json(known)
            continue
        if opened is None or opened[0] != task.fold:
            opened = None  # Lets go of the last fold's session before the next one is built.
            opened = task.fold, _open(bundle, task.fold, config)
        try:
            yield _evaluate_one(task, store, opened[1], folder, config)
        except FvvError as error:
            yield failure_of(task.participant, error)


def _open(bundle: ModelBundle, fold: int, config: EvaluateConfig) -> OnnxEnsemble:
    return OnnxEnsemble.from_bundle(
        bundle,
        [bundle.model_of_fold(fold)],
        precision=config.precision,
        device=config.device,
        threads=config.threads,
        chunk_slices=config.chunk_slices,
    )


def _evaluate_one(
    task: _Task, store: CaseStore, ensemble: OnnxEnsemble, folder: EvaluationFolder, config: EvaluateConfig
) -> PatientResult:
    """Read, segment, bring back to the native grid, measure, draw, write."""
    case = store.read(task.participant)
    fused = segment_case(case, ensemble)
    decision = decide(fused, case.voxel_volume_ml, case.findings, config.decision)
    drawn = _drawn_masks(case)
    truth = {channel: restore_to_native(mask, case.grid) for channel, mask in drawn.items()}
    prediction = _native_prediction(fused, case)
    result = PatientResult.compare(
        task.record.participant,
        task.fold,
        decision,
        truth=truth,
        predicted=prediction,
        spacing_mm=Volume(truth[Channel.BRAIN], case.grid.native_affine).spacing_mm,
        true_ml=_volumes_ml(case, *(mask.sum() for mask in drawn.values())),
        predicted_ml=_volumes_ml(case, fused.brain.sum(), fused.stroke.sum(), fused.flair_visible_voxels),
    )
    heatmap = picture = None
    measured = decision.state is not DecisionState.NOT_ASSESSABLE
    if config.heatmaps:
        grey = restore_to_native(grey_scale(case.b1000, case.brain), case.grid)
        picture = _picture(case, grey, truth, prediction, result)
        if measured:
            heatmap = _heatmap(case, grey, prediction)
    masks = np.stack([prediction[channel] for channel in Channel], axis=3).astype(np.uint8) if measured else None
    folder.write_patient(
        task.participant,
        task.source_sha256,
        jsonable(result),
        case.grid.native_affine,
        masks=masks,
        heatmap=heatmap,
        picture_png=picture,
    )
    return result


def _drawn_masks(case: PreparedCase) -> dict[Channel, BoolArray]:
    """What was drawn, on the working grid."""
    if case.stroke is None or case.flair_visible is None:
        raise StoreError("no ROI is stored: only labelled patients can be evaluated", patient=case.patient)
    return {Channel.BRAIN: case.brain, Channel.STROKE: case.stroke, Channel.FLAIR_VISIBLE: case.flair_visible}


def _native_prediction(fused: FusedSegmentation, case: PreparedCase) -> dict[Channel, BoolArray]:
    """What one model marked, on the native grid, exactly as `predict` writes it."""
    votes = restore_to_native(fused.flair_visible_votes, case.grid)
    return {
        Channel.BRAIN: restore_to_native(fused.brain, case.grid),
        Channel.STROKE: restore_to_native(fused.stroke, case.grid),
        Channel.FLAIR_VISIBLE: votes > 0,
    }


def _volumes_ml(case: PreparedCase, *voxels: float) -> dict[str, float]:
    """Volumes of the channels in their order, from voxels of the working grid."""
    return {channel.label: float(n) * case.voxel_volume_ml for channel, n in zip(Channel, voxels, strict=True)}


def _heatmap(case: PreparedCase, grey: UInt8Array, prediction: dict[Channel, BoolArray]) -> UInt8Array:
    brain, stroke, visible = (prediction[channel] for channel in Channel)
    return paint_heatmap(grey, brain, stroke, visible.astype(np.uint8), 1, slice_axis=slice_axis(case.grid))


def _picture(
    case: PreparedCase,
    grey: UInt8Array,
    truth: dict[Channel, BoolArray],
    prediction: dict[Channel, BoolArray],
    result: PatientResult,
) -> bytes:
    visible = Channel.FLAIR_VISIBLE.label
    dice = result.metrics[Channel.STROKE.label]["dice_coefficient"]
    title = (
        f"{case.patient}   fold {result.fold}   {result.decision}\n"
        f"FVV {format_ml(result.fvv_ml)} (drawn {format_ml(result.true_ml[visible])})   "
        f"stroke Dice {'not defined' if np.isnan(dice) else f'{dice:.2f}'}"
    )
    return figure_png(comparison_figure(grey, case.grid.native_affine, truth, prediction, title=title))


def _finish(
    folder: EvaluationFolder,
    store: CaseStore,
    bundle: ModelBundle,
    config: EvaluateConfig,
    *,
    patients: list[PatientResult],
    failures: list[Failure],
) -> EvaluateResult:
    """From the patients' results to the cohort's tables, summary and page."""
    data = marker_data(patients, config.visible_fraction_label)
    summary = summarise_cohort(
        patients, data, config.decision.cutoff_ml, samples=config.bootstrap_samples, seed=config.seed
    )
    numbers = headline(summary)
    tested = {patient.participant for patient in patients} | {failure.patient for failure in failures}
    counts = {
        "evaluated": len(patients),
        "not assessable": sum(patient.fvv_ml is None for patient in patients),
        "failed": len(failures),
        "in the store but in no test fold": len(set(store.participants) - tested),
        "could not be prepared": len(read_table(store.path / FAILURES_FILE)) if _has_failures(store) else 0,
    }
    if counts["in the store but in no test fold"]:
        log.warning("%d patients are test patients of no fold", counts["in the store but in no test fold"])
    run = {
        "models": f"{bundle.manifest.run_name}, one for each of {store.folds.n_folds} folds",
        "preprocessing": store.profile.name,
        "software": f"fvv {__version__}",
        "settings": json.dumps(config.model_dump(mode="json")),
    }
    shown = [name for names in extremes(patients).values() for name in names]
    pictures = {name: png for name in shown if (png := folder.read_picture(name)) is not None}
    page = evaluation_page(
        summary,
        patients,
        data,
        plots={name: figure_png(figure) for name, figure in evaluation_plots(patients, data, summary).items()},
        pictures=pictures,
        counts=counts,
        failures=failures,
        run=run,
    )
    content = {
        "schema_version": SCHEMA_VERSION,
        "headline": numbers,
        "counts": counts,
        **summary,
        "run": {**run, "settings": config.model_dump(mode="json"), "models_sha256": _model_hashes(bundle)},
    }
    folder.finish(
        jsonable(content),
        page,
        metrics=metric_rows(patients),
        patients=[patient_row(patient, mismatch=label) for patient, label in zip(patients, data.labels, strict=True)],
        failures=failures,
    )
    return EvaluateResult(folder.path, tuple(patients), numbers, data.label_source, tuple(failures))


def _has_failures(store: CaseStore) -> bool:
    return (store.path / FAILURES_FILE).exists()


def _model_hashes(bundle: ModelBundle) -> dict[str, str]:
    return {model.file: model.sha256 for model in bundle.models}
