"""Pictures of a training run on disk while it goes on."""

from __future__ import annotations

from pathlib import Path

import lightning
from matplotlib.figure import Figure

from fvv.io.atomic import atomic_write
from fvv.training.callbacks import MetricsTable
from fvv.training.figures import confusion_figure, example_figure, kappa_figure, progress_figure
from fvv.training.loggers import RunLog
from fvv.training.module import SegmentationModule


class PictureWriter(lightning.Callback):
    """Writes progress.png every epoch, and the figures of an epoch now and then; loggers that show pictures get these.

    Args:
        folder: of the fold; each epoch replaces the pictures of the last.
        table: the epochs so far; comes before this one in the trainer's list.
        title: of progress.png.
        every_epochs: how often the figures; in the last epoch always.
    """

    def __init__(self, folder: Path, table: MetricsTable, *, title: str, every_epochs: int) -> None:
        self.folder = folder
        self.table = table
        self.title = title
        self.every_epochs = every_epochs

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draw, save, log."""
        if not isinstance(pl_module, SegmentationModule):
            return
        _save(progress_figure(self.table.rows, self.title), self.folder / "progress.png")
        epoch = trainer.current_epoch
        if (epoch + 1) % self.every_epochs != 0 and not _is_last(trainer):
            return
        figures = {
            "examples": example_figure(pl_module.examples),
            "slice_classes": confusion_figure(pl_module.patients),
            "kappa": kappa_figure(pl_module.patients),
        }
        for name, figure in figures.items():
            path = self.folder / "figures" / f"{name}.png"
            _save(figure, path)
            _show(trainer, name, figure, path)


def _is_last(trainer: lightning.Trainer) -> bool:
    return trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _show(trainer: lightning.Trainer, name: str, figure: Figure, path: Path) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, RunLog):
            logger.show(f"figures/{name}", figure, path, trainer.global_step)
