"""One fold from its first step to its last: the trainer with everything around it."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import lightning
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, Timer
from lightning.pytorch.loggers import Logger

from fvv.config import TrainConfig
from fvv.errors import TrainingError
from fvv.io.runs import FoldRun
from fvv.io.store import CaseRecord, CaseStore
from fvv.system.parallel import core_count
from fvv.training.callbacks import BestAndLast, ConsoleProgress, EarlyStop, MetricsTable, StoreWatch
from fvv.training.checkpoint import AtomicCheckpoints, describe_training
from fvv.training.dataset import FoldPatients, loaders_that_fit, norm_loader, training_loader, validation_loader
from fvv.training.distributed import rank, uses_gpu
from fvv.training.endings import clear_endings
from fvv.training.loggers import open_loggers
from fvv.training.module import SegmentationModule
from fvv.training.pictures import PictureWriter
from fvv.training.resume import resume_point
from fvv.training.validation import SCORE_SMOOTHING_ML, absent_structures, out_of_patience, selection_key

log = logging.getLogger(__name__)

DEBUG_BATCHES = 2


@dataclass(frozen=True, slots=True)
class FoldFit:
    """How training of one fold ended.

    Attributes:
        epochs: finished, over all sessions.
        complete: all epochs were done, or patience ended; False where the time limit came first.
        patience: the patience that ended it before its last epoch; None: it did all.
        best_epoch: 0-based.
        scores: validation scores of the best epoch.
        seconds: of this session.
    """

    epochs: int
    complete: bool
    patience: int | None
    best_epoch: int
    scores: dict[str, float]
    seconds: float


def fit_fold(store: CaseStore, run: FoldRun, config: TrainConfig) -> FoldFit:
    """Train one fold, from its last checkpoint if there is one.

    Args:
        store: prepared patients.
        run: the fold's folder and identity.
        config: settings.

    Raises:
        TrainingError: no validation patient, a loss that is no number, no time for one epoch, no memory or room on the
            disk, a loader process that died, or a store that changed meanwhile.
        StoreError: a patient cannot be read.
        ModelError: no checkpoint of the fold can be used.
    """
    with clear_endings(run, config):
        return _fit_fold(store, run, config)


def _fit_fold(store: CaseStore, run: FoldRun, config: TrainConfig) -> FoldFit:
    started = time.monotonic()
    if config.device == "gpu" and not uses_gpu(config):
        raise TrainingError("no GPU that this PyTorch can use", hint="leave train.device at auto, or set it to cpu")
    config = config.model_copy(update={"workers": loaders_that_fit(config)})
    if config.jobs > 1:
        torch.set_num_threads(max(1, core_count() // config.jobs))
    patients = FoldPatients.from_store(store, store.folds, run.fold)
    about = describe_training(
        config,
        store.profile,
        fold=run.fold,
        n_folds=store.folds.n_folds,
        run_id=run.run_id,
        records=[*patients.training_records, *patients.validation_records],
    )
    log.info(
        "%s fold %d: %d patients train, %d select",
        config.name,
        run.fold,
        len(patients.training),
        len(patients.validation),
    )
    _warn_where_it_cannot_choose(run.fold, patients.validation_records)
    devices = config.devices * config.nodes
    if len(patients.validation) < devices:
        raise TrainingError(
            f"{len(patients.validation)} validation patients cannot be shared by {devices} devices",
            hint="lower train.devices",
        )
    go_on = resume_point(run)
    if rank() == 0:
        run.unfinish()
    training = training_loader(store, patients, config)
    slabs = min(config.norm_slabs, DEBUG_BATCHES * config.batch_slabs) if config.debug else config.norm_slabs
    norm_slabs = norm_loader(training, slabs) if slabs else None
    # Deterministic training would first fill all memory it takes, a quarter of its time; nothing reads what it has not
    # written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    module = SegmentationModule(config, patients.validation_records, about, norm_slabs)
    table = MetricsTable(run.folder / "metrics.csv")
    with _quiet_lightning(), open_loggers(run, config) as loggers:
        trainer = _trainer(run, config, StoreWatch(lambda: run.check_store(store)), table, loggers)
        trainer.fit(
            module,
            training,
            validation_loader(store, patients, config),
            ckpt_path=None if go_on is None else str(go_on),
            weights_only=True,
        )
    if not table.rows:
        raise TrainingError("the time limit came before the first epoch", hint="raise train.max_time")
    best = max(table.rows, key=selection_key)
    all_done = len(table.rows) >= (1 if config.debug else config.epochs)
    return FoldFit(
        epochs=len(table.rows),
        complete=all_done or out_of_patience(table.rows, config.patience),
        patience=None if all_done else config.patience,
        best_epoch=int(best["epoch"]),
        scores={name: value for name, value in best.items() if name.startswith("valid/")},
        seconds=time.monotonic() - started,
    )


def _warn_where_it_cannot_choose(fold: int, records: Sequence[CaseRecord]) -> None:
    """Say it where the best epoch is chosen by patients none of whom shows what it should be chosen by."""
    absent = absent_structures([(record.stroke_ml, record.flair_visible_ml) for record in records])
    if absent and rank() == 0:
        lacking = " or ".join(
            {"stroke": "stroke", "flair_visible": "FLAIR-visible part"}[part.label] for part in absent
        )
        log.warning(
            "fold %d: none of its %d validation patients has a %s of %g mL or more: they cannot choose the best epoch "
            "by it. Prepare with a larger --valid_proportion, or edit the split file",
            fold,
            len(records),
            lacking,
            SCORE_SMOOTHING_ML,
        )


def _trainer(
    run: FoldRun, config: TrainConfig, watch: StoreWatch, table: MetricsTable, loggers: Sequence[Logger]
) -> lightning.Trainer:
    on_gpu = uses_gpu(config)
    callbacks: list[lightning.Callback] = [watch, table]
    if config.patience is not None:
        callbacks.append(EarlyStop(table, config.patience))
    if rank() == 0:
        title = f"{config.name} fold {run.fold}"
        callbacks.append(ConsoleProgress(title, table))
        callbacks.append(PictureWriter(run.folder, table, title=title, every_epochs=config.figures_every_epochs))
    callbacks.append(BestAndLast(run.folder))
    if loggers:
        callbacks.append(LearningRateMonitor("epoch"))
    if config.max_time is not None:
        # Stops between epochs only: a torn epoch has no validation to choose a checkpoint by.
        callbacks.insert(0, Timer(config.max_time, interval="epoch", verbose=False))
    precision = {"auto": "bf16-mixed" if on_gpu else "32-true", "32": "32-true", "bf16": "bf16-mixed"}[config.precision]
    return lightning.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=config.devices,
        num_nodes=config.nodes,
        # One process; or one per device, each with a part of every batch, gradients averaged (DDP).
        strategy="auto" if config.devices * config.nodes == 1 else "ddp",
        sync_batchnorm=on_gpu and config.devices * config.nodes > 1,
        precision=precision,  # type: ignore[arg-type]
        max_epochs=1 if config.debug else config.epochs,
        limit_train_batches=DEBUG_BATCHES if config.debug else None,
        limit_val_batches=DEBUG_BATCHES if config.debug else None,
        logger=list(loggers),
        callbacks=callbacks,
        plugins=[AtomicCheckpoints()],
        # On a GPU too, where interpolation then takes a slower way: the same settings give the same weights.
        deterministic=True,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=run.folder,
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep the trainer's advice off the console: our own lines say what matters."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
