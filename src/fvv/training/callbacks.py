"""What is shown and kept of a training run while it goes on."""

# ruff: noqa: ARG002 - the arguments of callbacks are Lightning's
from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from rich.progress import TaskID

from fvv.io.atomic import atomic_write
from fvv.io.manifest import write_table
from fvv.io.runs import BEST, LAST
from fvv.parallel import progress_bar
from fvv.training.figures import confusion_figure, example_figure, kappa_figure
from fvv.training.module import SegmentationModule
from fvv.training.validation import SCORE

log = logging.getLogger(__name__)


class MetricsTable(lightning.Callback):
    """Keeps metrics.csv, one row an epoch. The rows travel in the checkpoint: a resumed run loses and repeats none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the table anew, with this epoch."""
        metrics = sorted(trainer.callback_metrics.items())
        values = {name: float(value) for name, value in metrics if name.startswith(("train/", "valid/"))}
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": round(time.monotonic() - self._started, 2),
        }
        self.rows.append({**row, **values})
        write_table(self.path, self.rows, columns=list(self.rows[-1]))

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = list(state_dict["rows"])


class BestAndLast(Checkpoint):
    """Keeps the checkpoint of the best epoch and that of the last.

    The best score travels in the checkpoint, paths do not: a run's folder may be moved between two sessions, and a
    checkpoint that is handed on does not tell where it lay.

    Args:
        folder: of the fold.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best = float("-inf")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save; the trainer calls this after everything else of the epoch is done, and writes atomically."""
        score = float(trainer.callback_metrics[SCORE])
        # The best before the last, which then remembers it: killed between the two, a run does this epoch again.
        if score > self.best:
            self.best = score
            trainer.save_checkpoint(self.folder / BEST)
        trainer.save_checkpoint(self.folder / LAST)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.best = float(state_dict["best"])


class ConsoleProgress(lightning.Callback):
    """A bar for the epoch on a terminal, and a log line for every epoch.

    Args:
        name: of the run.
        fold: which.
    """

    def __init__(self, name: str, fold: int) -> None:
        self.title = f"{name} fold {fold}"
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
            "score %.3f, %.0f s",
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
        )

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take the bar away."""
        self._bar.stop()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._bar.stop()


class FigureWriter(lightning.Callback):
    """Writes the figures of an epoch to disk and to the loggers that show pictures.

    Args:
        folder: where the PNG files go; each epoch replaces the last one's.
        every_epochs: how often; the last epoch always.
    """

    def __init__(self, folder: Path, every_epochs: int) -> None:
        self.folder = folder
        self.every_epochs = every_epochs

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draw, save, log."""
        if not isinstance(pl_module, SegmentationModule):
            return
        epoch = trainer.current_epoch
        if (epoch + 1) % self.every_epochs != 0 and epoch + 1 != trainer.max_epochs:
            return
        figures = {
            "examples": example_figure(pl_module.examples),
            "slice_classes": confusion_figure(pl_module.patients),
            "kappa": kappa_figure(pl_module.patients),
        }
        for name, figure in figures.items():
            path = self.folder / f"{name}.png"
            with atomic_write(path) as temporary:
                figure.savefig(temporary, dpi=100)
            _show(trainer, name, figure, path)


def _show(trainer: lightning.Trainer, name: str, figure: Figure, path: Path) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(f"figures/{name}", figure, trainer.global_step)
        elif isinstance(logger, WandbLogger):
            logger.log_image(f"figures/{name}", [str(path)], step=trainer.global_step)
