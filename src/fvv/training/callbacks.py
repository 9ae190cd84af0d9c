"""What is kept and said of a training run while it goes on."""

# ruff: noqa: ARG002 - the arguments of callbacks are Lightning's
from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from rich.progress import Progress, TaskID
from torch import Tensor
from torch.optim.swa_utils import update_bn

from fvv.io.runs import BEST, LAST
from fvv.io.tables import write_table
from fvv.schemas.checkpoint import CheckpointDescription
from fvv.training.augment import apply_changes, draw_changes
from fvv.training.checkpoint import DESCRIPTION
from fvv.training.dataset import Batch
from fvv.training.module import SegmentationModule
from fvv.training.validation import SCORE, best_epoch, out_of_patience

log = logging.getLogger(__name__)


@dataclass(eq=False)
class MetricsTable(lightning.Callback):
    """Keeps metrics.csv, one row an epoch, and stops once the epochs get no better.

    The rows travel in the checkpoint, so a resumed run loses and repeats none, and so does what they say of it.

    Attributes:
        path: of metrics.csv.
        about: the run; each checkpoint adds its epoch and score.
        patience: epochs to wait for a better one; None: for ever.
        rows: the epochs so far.
    """

    path: Path
    about: CheckpointDescription
    patience: int | None
    rows: list[dict[str, float]] = field(default_factory=list)
    _started: float = 0.0
    _trained: float = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A resumed run may have come to its end already."""
        trainer.should_stop = trainer.should_stop or out_of_patience(self.rows, self.patience)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """All steps of the epoch are done."""
        self._trained = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the table again, with this epoch; stop, or go on."""
        ms_per_step = 1000.0 * (self._trained - self._started) / max(trainer.num_training_batches, 1)
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": round(time.monotonic() - self._started, 2),
            "ms_per_step": round(ms_per_step, 1),
        }
        metrics = sorted(trainer.callback_metrics.items())
        self.rows.append(row | {name: float(value) for name, value in metrics})
        if trainer.is_global_zero:
            write_table(self.path, self.rows, columns=list(self.rows[-1]))
        trainer.should_stop = trainer.should_stop or out_of_patience(self.rows, self.patience)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say in the checkpoint what it is; plain values only, so that it loads with `weights_only=True`."""
        epoch, best = self.rows[-1], self.rows[best_epoch(self.rows)]
        found = {"epoch": int(epoch["epoch"]), "best_epoch": int(best["epoch"]), "score": epoch[SCORE]}
        checkpoint[DESCRIPTION] = self.about.model_copy(update=found).model_dump(mode="json")

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = list(state_dict["rows"])


@dataclass(eq=False)
class BestAndLast(Checkpoint):
    """Keeps the checkpoint of the best epoch and that of the last.

    Best is what `validation.selection_key` ranks highest. Lightning's own callback would write paths into checkpoints:
    a run's folder may be moved between two sessions, and a checkpoint that is handed on does not tell where it lay.

    Attributes:
        folder: of the fold.
        table: the epochs so far; comes before this one in the trainer's list.
    """

    folder: Path
    table: MetricsTable

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save; the trainer calls this after everything else of the epoch is done."""
        # The best before the last: killed between the two, a run does this epoch again.
        if best_epoch(self.table.rows) == len(self.table.rows) - 1:
            trainer.save_checkpoint(self.folder / BEST)
        trainer.save_checkpoint(self.folder / LAST)


@dataclass(eq=False)
class NormStatistics(lightning.Callback):
    """Estimates batch-norm statistics from training slabs before each validation, for the weights as they then are.

    Attributes:
        batches: of the training set, the same slabs each time and in every process.
    """

    batches: Iterable[Batch]

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Forget the moving averages of the last steps."""
        if isinstance(pl_module, SegmentationModule):
            update_bn(self._changed(pl_module), pl_module.network)

    def _changed(self, module: SegmentationModule) -> Iterator[Tensor]:
        """Images changed as in training, the same in every epoch."""
        generator = torch.Generator().manual_seed(module.config.seed)
        for _, images, labels, _ in self.batches:
            changes = draw_changes(module.config.augment, len(images), generator)
            yield apply_changes(images.to(module.device).float(), labels.to(module.device), changes)[0]


def weight_average(decay: float, device: str) -> WeightAveraging:
    """Validates and keeps an average of the weights that follows fast at first and then with this decay a step.

    Args:
        decay: a step.
        device: "cuda" or "cpu"; the trainer moves the network only after the average is made.
    """

    def follow(average: Tensor, weight: Tensor, steps: Tensor | int) -> Tensor:
        return torch.lerp(average, weight, 1.0 - min(decay, (1 + int(steps)) / (10 + int(steps))))

    return WeightAveraging(device, use_buffers=False, avg_fn=follow)


@dataclass(eq=False)
class ConsoleProgress(lightning.Callback):
    """A bar for the epoch on a terminal, and a log line for every epoch.

    Attributes:
        title: the run and its fold.
        table: the epochs so far; comes before this one in the trainer's list.
        bar: shown as long as the training runs.
    """

    title: str
    table: MetricsTable
    bar: Progress
    _task: TaskID | None = None
    _last: str = ""

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A fresh bar."""
        if self._task is not None:
            self.bar.remove_task(self._task)
        title = f"{self.title}, epoch {trainer.current_epoch + 1} of {trainer.max_epochs}{self._last}"
        self._task = self.bar.add_task(title, total=trainer.num_training_batches)

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
            self.bar.update(self._task, completed=batch_idx + 1)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say how the epoch went."""
        row = self.table.rows[-1]
        self._last = f" (score {row[SCORE]:.3f})"
        log.info(
            "%s, epoch %d of %d: loss %.4f, validation loss %.4f, Dice brain %.3f stroke %.3f FLAIR-visible %.3f, "
            "score %.3f, %.0f s, %.0f ms a step, learning rate %.1e",
            self.title,
            trainer.current_epoch + 1,
            trainer.max_epochs,
            *(row[name] for name in ("train/loss", "valid/loss", "valid/dice_brain", "valid/dice_stroke")),
            *(row[name] for name in ("valid/dice_flair_visible", SCORE, "seconds", "ms_per_step", "learning_rate")),
        )
