"""The two JSON files of a fold's folder: run.json, which run it is, and done.json, how its training ended."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fvv.config import TrainConfig
from fvv.schemas.base import FileModel
from fvv.schemas.migrations import CURRENT
from fvv.schemas.values import Number


class RunDescription(FileModel):
    """What run.json holds.

    Attributes:
        run_name: as the settings say.
        run_id: hash of the settings and the data; the same for all folds of a run, and for no other run.
        fold: 0-based; -1: everybody in the split (`fvv.data.ALL_FOLDS`).
        wandb_id: of the Weights & Biases run, kept so that a resumed run continues in the same one.
    """

    kind: ClassVar[str] = "training run"
    schema_version: int = CURRENT["training run"]
    run_name: str
    run_id: str
    fold: int
    wandb_id: str


class FoldProgress(FileModel):
    """How training of a fold ended; done.json, where it is complete.

    Attributes:
        run_id: of the run.
        epochs: finished, over all sessions.
        complete: all epochs were done, or patience ended; False where the time limit came first.
        patience: the patience that ended it before its last epoch; None: it did all.
        best_epoch: 0-based.
        scores: validation scores of the best epoch, by the names of metrics.csv.
        files: SHA-256 of each checkpoint, log and picture as it was when the fold ended, by its path in the folder.
    """

    kind: ClassVar[str] = "finished fold"
    schema_version: int = CURRENT["finished fold"]
    run_id: str
    epochs: int = Field(ge=1)
    complete: bool
    patience: int | None
    best_epoch: int = Field(ge=0)
    scores: dict[str, Number]
    files: dict[str, str] = Field(default_factory=dict)

    def satisfies(self, config: TrainConfig) -> bool:
        """Whether nothing is left to do: no more epochs are asked for, or the same or less patience ended them."""
        if self.epochs >= config.epochs:
            return True
        return self.patience is not None and config.patience is not None and config.patience <= self.patience
