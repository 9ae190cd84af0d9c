"""One fold from its first step to its last: the trainer with everything around it."""

from __future__ import annotations

import logging
import re
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
from fvv.parallel import core_count
from fvv.training.callbacks import BestAndLast, ConsoleProgress, EarlyStop, MetricsTable
from fvv.training.checkpoint import describe_training, read_checkpoint
from fvv.training.dataset import FoldPatients, norm_loader, training_loader, validation_loader
from fvv.training.distributed import rank, uses_gpu
from fvv.training.loggers import open_loggers
from fvv.training.module import SegmentationModule
from fvv.training.pictures import PictureWriter
from fvv.training.validation import out_of_patience, selection_key

log = logging.getLogger(__name__)

DEBUG_BATCHES = 2
_CPU_OUT_OF_MEMORY = re.compile("not enough memory|can't allocate memory")
"""torch raises a plain RuntimeError where the CPU's memory ends."""


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
    if config.device == "gpu" and not uses_gpu(config):
        raise TrainingError("no GPU that this PyTorch can use", hint="leave train.device at auto, or set it to cpu")
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
    devices = config.devices * config.nodes
    if len(patients.validation) < devices:
        raise TrainingError(
            f"{len(patients.validation)} validation patients cannot be shared by {devices} devices",
            hint="lower train.devices",
        )
    last = run.folder / LAST
    if last.exists():
        read_checkpoint(last)  # A damaged one is named in a sentence of ours; one that would run code is not read.
    training = training_loader(store, patients, config)
    slabs = min(config.norm_slabs, DEBUG_BATCHES * config.batch_slabs) if config.debug else config.norm_slabs
    norm_slabs = norm_loader(training, slabs) if slabs else None
    # Deterministic training would first fill all memory it takes, a quarter of its time; nothing reads what it has not
    # written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    module = SegmentationModule(config, patients.validation_records, about, norm_slabs)
    table = MetricsTable(run.folder / "metrics.csv")
    with _quiet_lightning(), open_loggers(run, config) as loggers:
        trainer = _trainer(run, config, table, loggers)
        with _clear_endings(config):
            trainer.fit(
                module,
                training,
                validation_loader(store, patients, config),
                ckpt_path=str(last) if last.exists() else None,
                weights_only=True,
            )
    if not table.rows:
        raise TrainingError("the time limit came before the first epoch", hint="raise train.max_time")
    best = max(table.rows, key=selection_key)
    return FoldFit(
        epochs=len(table.rows),
        complete=len(table.rows) >= (1 if config.debug else config.epochs)
        or out_of_patience(table.rows, config.patience),
        best_epoch=int(best["epoch"]),
        scores={name: value for name, value in best.items() if name.startswith("valid/")},
        seconds=time.monotonic() - started,
    )


def _trainer(run: FoldRun, config: TrainConfig, table: MetricsTable, loggers: list[Logger]) -> lightning.Trainer:
    on_gpu = uses_gpu(config)
    callbacks: list[lightning.Callback] = [table]
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
        logger=loggers,
        callbacks=callbacks,
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
def _clear_endings(config: TrainConfig) -> Iterator[None]:
    """Say what to do where memory runs out, and let Ctrl-C through, which Lightning turns into a silent exit."""
    try:
        yield
    except SystemExit as stop:
        raise KeyboardInterrupt from stop
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not _CPU_OUT_OF_MEMORY.search(str(error)):
            raise
        raise TrainingError(
            f"memory ran out with batches of {config.batch_slabs} slabs of {config.slab_slices} slices",
            hint=_memory_hint(config),
        ) from error


def _memory_hint(config: TrainConfig) -> str:
    ways = ["lower train.batch_slabs" if config.batch_slabs > 1 else "lower train.slab_slices"]
    ways += ["set train.preload_ram=false"] if config.preload_ram and not uses_gpu(config) else []
    ways += ["train fewer folds at once (--jobs)"] if config.jobs > 1 else []
    ways += ["set train.network.resolution=half"] if config.network.resolution == "full" else []
    return ", or ".join(ways)


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
