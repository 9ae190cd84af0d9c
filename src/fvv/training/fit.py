"""One fold from its first step to its last: the trainer with everything around it."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import lightning
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, Timer
from lightning.pytorch.loggers import Logger

from fvv.config import TrainConfig
from fvv.errors import TrainingError
from fvv.io.runs import LAST, FoldRun
from fvv.io.store import CaseStore
from fvv.training.callbacks import BestAndLast, ConsoleProgress, FigureWriter, MetricsTable
from fvv.training.checkpoint import describe_training, read_checkpoint
from fvv.training.dataset import FoldPatients, training_loader, validation_loader
from fvv.training.loggers import open_loggers
from fvv.training.module import SegmentationModule
from fvv.training.validation import SCORE

log = logging.getLogger(__name__)

DEBUG_BATCHES = 2


@dataclass(frozen=True, slots=True)
class FoldFit:
    """How training of one fold ended.

    Attributes:
        epochs: finished, over all sessions.
        complete: all epochs were done; False where the time limit came first.
        best_epoch: 0-based.
        scores: validation scores of the best epoch.
        seconds: of this session.
    """

    epochs: int
    complete: bool
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
        TrainingError: no validation patient, a loss that is no number, or no time for one epoch.
        StoreError: a patient cannot be read.
    """
    started = time.monotonic()
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
    last = run.folder / LAST
    if last.exists():
        read_checkpoint(last)  # A damaged one is named in a sentence of ours; one that would run code is not read.
    module = SegmentationModule(config, patients.validation_records, about)
    table = MetricsTable(run.folder / "metrics.csv")
    with _quiet_lightning(), open_loggers(run, config) as loggers:
        trainer = _trainer(run, config, table, loggers)
        try:
            trainer.fit(
                module,
                training_loader(store, patients, config),
                validation_loader(store, patients, config),
                ckpt_path=str(last) if last.exists() else None,
                weights_only=True,
            )
        except SystemExit as stop:
            # Lightning turns Ctrl-C into a silent exit: let the caller know what it was.
            raise KeyboardInterrupt from stop
    if not table.rows:
        raise TrainingError("the time limit came before the first epoch", hint="raise train.max_time")
    best = max(table.rows, key=lambda row: row[SCORE])
    return FoldFit(
        epochs=len(table.rows),
        complete=len(table.rows) >= (1 if config.debug else config.epochs),
        best_epoch=int(best["epoch"]),
        scores={name: value for name, value in best.items() if name.startswith("valid/")},
        seconds=time.monotonic() - started,
    )


def _trainer(run: FoldRun, config: TrainConfig, table: MetricsTable, loggers: list[Logger]) -> lightning.Trainer:
    on_gpu = torch.cuda.is_available()
    callbacks: list[lightning.Callback] = [
        table,
        ConsoleProgress(config.name, run.fold),
        FigureWriter(run.folder / "figures", config.figures_every_epochs),
        BestAndLast(run.folder),
    ]
    if loggers:
        callbacks.append(LearningRateMonitor("epoch"))
    if config.max_time is not None:
        # Stops between epochs only: a torn epoch has no validation to choose a checkpoint by.
        callbacks.insert(0, Timer(config.max_time, interval="epoch", verbose=False))
    precision = {"auto": "bf16-mixed" if on_gpu else "32-true", "32": "32-true", "bf16": "bf16-mixed"}[config.precision]
    return lightning.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        max_epochs=1 if config.debug else config.epochs,
        limit_train_batches=DEBUG_BATCHES if config.debug else None,
        limit_val_batches=DEBUG_BATCHES if config.debug else None,
        logger=loggers,
        callbacks=callbacks,
        # Interpolation has no deterministic gradient on a GPU.
        deterministic=not on_gpu,
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
