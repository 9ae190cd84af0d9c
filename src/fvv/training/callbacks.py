"""What is kept and said of a training run while it goes on; `pictures.py` draws it."""

# ruff: noqa: ARG002 - the arguments of callbacks are Lightning's
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint
from rich.progress import TaskID

from fvv.io.runs import BEST, LAST
from fvv.io.tables import write_table
from fvv.system.parallel import progress_bar
from fvv.training.loggers import RunLog
from fvv.training.validation import SCORE, out_of_patience, selection_key

log = logging.getLogger(__name__)


class StoreWatch(lightning.Callback):
    """Refuses to train on, and to keep an epoch that was trained on, a store that `prepare` rewrites meanwhile.

    Args:
        check: raises where the store is no longer the one that the run began with; comes first in the trainer's list.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Before an epoch is spent on it."""
        self.check()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Before the epoch is written down and saved."""
        self.check()


class MetricsTable(lightning.Callback):
    """Keeps metrics.csv, one row an epoch. The rows travel in the checkpoint: a resumed run loses and repeats none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._started = self._trained = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell a log that each session writes again (W&B offline) of the epochs before this session."""
        for logger in trainer.loggers:
            if isinstance(logger, RunLog):
                logger.tell_again(self.rows)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """All steps of the epoch are done."""
        self._trained = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the table anew, with this epoch."""
        ms_per_step = 1000.0 * (self._trained - self._started) / max(trainer.num_training_batches, 1)
        metrics = sorted(trainer.callback_metrics.items())
        values = {name: float(value) for name, value in metrics if name.startswith(("train/", "valid/"))}
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": round(time.monotonic() - self._started, 2),
            "ms_per_step": round(ms_per_step, 1),
        }
        self.rows.append({**row, **values})
        for logger in trainer.loggers:
            logger.log_metrics({"train/ms_per_step": ms_per_step}, step=trainer.global_step - 1)
        if trainer.is_global_zero:
            write_table(self.path, self.rows, columns=list(self.rows[-1]))

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = list(state_dict["rows"])


class EarlyStop(lightning.Callback):
    """Stops once the epochs get no better.

    Args:
        table: the epochs so far; comes before this one in the trainer's list.
        patience: epochs to wait.
    """

    def __init__(self, table: MetricsTable, patience: int) -> None:
        self.table = table
        self.patience = patience

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A resumed run may have come to its end already."""
        trainer.should_stop = trainer.should_stop or out_of_patience(self.table.rows, self.patience)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop, or go on."""
        trainer.should_stop = trainer.should_stop or out_of_patience(self.table.rows, self.patience)


class BestAndLast(Checkpoint):
    """Keeps the checkpoint of the best epoch and that of the last.

    Best is what `validation.selection_key` ranks highest. It travels in the checkpoint, paths do not: a run's folder
    may be moved between two sessions, and a checkpoint that is handed on does not tell where it lay.

    Args:
        folder: of the fold.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best: tuple[float, ...] = ()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save; the trainer calls this after everything else of the epoch is done."""
        key = selection_key({name: float(value) for name, value in trainer.callback_metrics.items()})
        # The best before the last, which then remembers it: killed between the two, a run does this epoch again.
        if key > self.best:
            self.best = key
            trainer.save_checkpoint(self.folder / BEST)
        trainer.save_checkpoint(self.folder / LAST)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"best": list(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.best = tuple(state_dict["best"])


class ConsoleProgress(lightning.Callback):
    """A bar for the epoch on a terminal, and a log line for every epoch.

    Args:
        title: the run and its fold.
        table: the epochs so far; comes before this one in the trainer's list.
    """

    def __init__(self, title: str, table: MetricsTable) -> None:
        self.table = table
        self.title = title
        self._bar = progress_bar()
        self._task: TaskID | None = None
        self._started = time.monotonic()
        self._last = ""

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A fresh bar."""
        self._started = time.monotonic()
        self._bar.start()
        if self._task is not None:
            self._bar.remove_task(self._task)
        title = f"{self.title}, epoch {trainer.current_epoch + 1} of {trainer.max_epochs}{self._last}"
        self._task = self._bar.add_task(title, total=trainer.num_training_batches)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """One step further."""
        if self._task is not None:
            self._bar.update(self._task, completed=batch_idx + 1)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say how the epoch went."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._last = f" (score {values[SCORE]:.3f})"
        log.info(
            "%s, epoch %d of %d: loss %.4f, validation loss %.4f, Dice brain %.3f stroke %.3f FLAIR-visible %.3f, "
            "score %.3f, %.0f s, %.0f ms a step, learning rate %.1e",
            self.title,
            trainer.current_epoch + 1,
            trainer.max_epochs,
            values["train/loss"],
            values["valid/loss"],
            values["valid/dice_brain"],
            values["valid/dice_stroke"],
            values["valid/dice_flair_visible"],
            values[SCORE],
            time.monotonic() - self._started,
            self.table.rows[-1]["ms_per_step"],
            self.table.rows[-1]["learning_rate"],
        )

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take the bar away."""
        self._bar.stop()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._bar.stop()
