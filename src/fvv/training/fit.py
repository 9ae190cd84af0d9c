"""One fold from its first step to its last: the trainer with everything around it."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Sequence

import lightning
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import LambdaCallback, Timer
from torch.utils.data import DataLoader

from fvv import __version__
from fvv.config import TrainConfig
from fvv.data import ALL_FOLDS, hashed_ids
from fvv.errors import TrainingError
from fvv.io.runs import FoldRun, fold_title
from fvv.io.store import CaseRecord, CaseStore
from fvv.schemas.checkpoint import CheckpointDescription
from fvv.schemas.training_run import FoldProgress
from fvv.system.parallel import core_count, progress_bar
from fvv.training.callbacks import BestAndLast, ConsoleProgress, MetricsTable, NormStatistics, weight_average
from fvv.training.checkpoint import AtomicCheckpoints, resume_point
from fvv.training.dataset import (
    Batch,
    FoldPatients,
    loaders_that_fit,
    norm_loader,
    training_loader,
    validation_loader,
)
from fvv.training.distributed import rank, torch_device, uses_gpu
from fvv.training.endings import clear_endings
from fvv.training.initial import InitialWeights, initial_weights, start_from
from fvv.training.loggers import RunReport, open_logs
from fvv.training.module import SegmentationModule
from fvv.training.validation import SCORE_SMOOTHING_ML, absent_structures, best_epoch, out_of_patience

log = logging.getLogger(__name__)

DEBUG_BATCHES = 2
NORM_SLABS = 64
"""Training slabs that give weights without batch norms their statistics, where train.norm_slabs is 0."""


def fit_fold(store: CaseStore, run: FoldRun, config: TrainConfig) -> FoldProgress:
    """Train one fold, from its last checkpoint if there is one.

    Raises:
        TrainingError: no validation patient, a loss that is no number, no time for one epoch, no memory or room on the
            disk, a loader process that died, or a store that changed meanwhile.
        StoreError: a patient cannot be read.
        ModelError: no checkpoint of the fold can be used.
    """
    try:
        with clear_endings(run, config):
            return _fit_fold(store, run, config)
    finally:
        # The trainer, its callbacks and the examinations in memory hold each other: each fold would keep its own.
        gc.collect()


def _fit_fold(store: CaseStore, run: FoldRun, config: TrainConfig) -> FoldProgress:
    if config.device == "gpu" and not uses_gpu(config):
        raise TrainingError("no GPU that this PyTorch can use", hint="leave train.device at auto, or set it to cpu")
    config = config.model_copy(update={"workers": loaders_that_fit(config)})
    if config.jobs > 1:
        torch.set_num_threads(max(1, core_count() // config.jobs))
    patients = FoldPatients.from_store(store, store.folds, run.about.fold)
    selecting = tuple(patients.validation.values())
    log.info(
        "%s fold %s: %d training patients, %d validation patients%s",
        config.name,
        fold_title(run.about.fold),
        len(patients.training),
        len(selecting),
        ", no test patients" if run.about.fold == ALL_FOLDS else "",
    )
    _warn_where_it_cannot_choose(run.about.fold, selecting)
    if len(selecting) < config.devices * config.nodes:
        raise TrainingError(
            f"{len(selecting)} validation patients cannot be shared by {config.devices * config.nodes} devices",
            hint="lower train.devices",
        )
    start = resume_point(run)
    if rank() == 0:
        run.unfinish()
    # Before the bar, since loading into memory shows one too.
    training, validation = training_loader(store, patients, config), validation_loader(store, patients, config)
    initial = initial_weights(store, run.about.fold, config) if config.init else None
    # Where the parent lay is nobody's business.
    shown = config if initial is None else config.model_copy(update={"init": initial.parent.name})
    about = _description(store, patients, run, shown, initial)
    table = MetricsTable(run.folder / "metrics.csv", about, config.patience)
    # Deterministic training would first fill all memory it takes, a quarter of its time; nothing reads what it has not
    # written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    for name in ("lightning.pytorch", "lightning.fabric"):  # The trainer's advice: our own lines say what matters.
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), progress_bar() as bar, open_logs(run, shown) as logs:
        warnings.filterwarnings("ignore", module=r"lightning\.")
        callbacks = _callbacks(store, run, config, table, training)
        if rank() == 0:
            title = f"{config.name} fold {fold_title(run.about.fold)}"
            callbacks.append(ConsoleProgress(title, table, bar))
            callbacks.append(RunReport(run.folder, table, logs, title, config.figures_every_epochs))
        module = SegmentationModule(config, selecting)
        if initial is not None and start is None:
            start_from(module, initial, norm_loader(training, config.norm_slabs or NORM_SLABS))
        _trainer(run, config, callbacks).fit(module, training, validation, ckpt_path=start, weights_only=True)
    if not table.rows:
        raise TrainingError("the time limit was reached before the first epoch", hint="raise train.max_time")
    best = table.rows[best_epoch(table.rows)]
    all_done = len(table.rows) >= (1 if config.debug else config.epochs)
    return FoldProgress(
        run_id=run.about.run_id,
        epochs=len(table.rows),
        complete=all_done or out_of_patience(table.rows, config.patience),
        patience=None if all_done else config.patience,
        best_epoch=int(best["epoch"]),
        scores={name: value for name, value in best.items() if name.startswith("valid/")},
    )


def _description(
    store: CaseStore, patients: FoldPatients, run: FoldRun, config: TrainConfig, initial: InitialWeights | None
) -> CheckpointDescription:
    training, validation = patients.training.values(), patients.validation.values()
    persons = {*hashed_ids(record.participant.person_id for record in (*training, *validation))}
    images = {*hashed_ids(record.image_sha256 for record in (*training, *validation))}
    trained = {*hashed_ids(one for record in training for one in (record.participant.person_id, record.image_sha256))}
    if initial is not None:  # Who has seen whom is inherited.
        trained |= {*initial.person_ids, *initial.image_ids} - {*initial.selection_ids}
        persons |= {*initial.person_ids}
        images |= {*initial.image_ids}
    return CheckpointDescription(
        software=f"fvv {__version__}",
        fold=run.about.fold,
        n_folds=store.folds.n_folds,
        run_name=config.name,
        run_id=run.about.run_id,
        parent=None if initial is None else initial.parent,
        network=config.network,
        profile=store.profile,
        training_person_ids=tuple(sorted(persons)),
        training_image_ids=tuple(sorted(images)),
        selection_ids=tuple(sorted((persons | images) - trained)),
        settings=config.model_dump(mode="json"),
    )


def _callbacks(
    store: CaseStore, run: FoldRun, config: TrainConfig, table: MetricsTable, training: DataLoader[Batch]
) -> list[lightning.Callback]:
    """What every process of the fold runs, in this order; Lightning puts the one that saves at the end."""
    callbacks: list[lightning.Callback] = []
    if config.max_time is not None:
        # Stops between epochs only: a torn epoch has no validation to choose a checkpoint by.
        callbacks.append(Timer(config.max_time, interval="epoch", verbose=False))
    # No epoch is spent on, written down or kept from data that `prepare` rewrites meanwhile.
    check = {hook: lambda *_: run.check_store(store) for hook in ("on_train_epoch_start", "on_train_epoch_end")}
    callbacks += [LambdaCallback(**check), table, BestAndLast(run.folder, table)]
    if config.ema_decay > 0:
        callbacks.append(weight_average(config.ema_decay, torch_device(config)))
    if config.norm_slabs > 0:
        slabs = min(config.norm_slabs, DEBUG_BATCHES * config.batch_slabs) if config.debug else config.norm_slabs
        callbacks.append(NormStatistics(norm_loader(training, slabs)))
    return callbacks


def _warn_where_it_cannot_choose(fold: int, records: Sequence[CaseRecord]) -> None:
    """Say it where the best epoch is chosen by patients none of whom shows what it should be chosen by."""
    volumes = [(record.stroke_ml, record.flair_visible_ml) for record in records]
    absent = absent_structures([[float("nan") if ml is None else ml for ml in pair] for pair in volumes])
    if absent and rank() == 0:
        names = {"stroke": "stroke", "flair_visible": "FLAIR-visible part"}
        log.warning(
            "fold %s: none of its %d validation patients has a %s of %g mL or more: they cannot choose the best epoch "
            "by it. Prepare with a larger --valid-proportion, or edit the split file",
            fold_title(fold),
            len(records),
            " or ".join(names[part.label] for part in absent),
            SCORE_SMOOTHING_ML,
        )


def _slurm() -> list[SLURMEnvironment]:
    """Without Lightning's own requeue, whose checkpoint in the middle of an epoch would change the weights."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def _trainer(run: FoldRun, config: TrainConfig, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    device, one_process = torch_device(config), config.devices * config.nodes == 1
    on_gpu = device == "cuda"
    precision = {"auto": "bf16-mixed" if on_gpu else "32-true", "32": "32-true", "bf16": "bf16-mixed"}[config.precision]
    return lightning.Trainer(
        accelerator=device,
        devices=config.devices,
        num_nodes=config.nodes,
        # One process; or one per device, each with a part of every batch, gradients averaged (DDP).
        strategy="auto" if one_process else "ddp",
        sync_batchnorm=on_gpu and not one_process,
        precision=precision,  # type: ignore[arg-type]
        max_epochs=1 if config.debug else config.epochs,
        limit_train_batches=DEBUG_BATCHES if config.debug else None,
        limit_val_batches=DEBUG_BATCHES if config.debug else None,
        logger=False,  # `RunReport` writes the logs
        callbacks=callbacks,
        plugins=[AtomicCheckpoints(), *_slurm()],
        # On a GPU too, where interpolation then takes a slower way: the same settings give the same weights. Where
        # Apple's GPU has no such way, PyTorch warns.
        deterministic="warn" if device == "mps" else True,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=run.folder,
    )
