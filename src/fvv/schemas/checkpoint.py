"""What a checkpoint of a training run says of itself, beside its weights."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field, JsonValue

from fvv.config import NetworkConfig, PreprocessingProfile
from fvv.schemas.base import FileModel
from fvv.schemas.migrations import CURRENT
from fvv.schemas.values import Number, Shown, Stored


class Parent(Stored):
    """The weights that a training started from.

    Attributes:
        name: of the run that made them.
        sha256: of their file.
    """

    name: Shown
    sha256: str


class CheckpointDescription(FileModel):
    """Who trained what, on whom, in plain values.

    Attributes:
        fold, n_folds: which of how many; fold -1: everybody in the split (`fvv.data.ALL_FOLDS`).
        run_name, run_id: the run; the id is the same for all folds of one run and for no other.
        epoch: 0-based.
        best_epoch: the best up to this one, by `score`.
        score: of this epoch (`valid/score`).
        parent: the weights that it started from; None: random ones.
        network: settings of the network, all that is needed to use the weights.
        training_person_ids: hashed ids of the persons that trained or selected it or its parent. A checkpoint selected
            on a person is no fairer a judge of that person.
        training_image_ids: hashed fingerprints of their images.
        selection_ids: those of both whose scores chose an epoch, and on whom no weight was trained; empty: unknown.
        settings: of the whole training, a record that nothing reads: other versions name other settings.
    """

    kind: ClassVar[str] = "checkpoint"
    schema_version: int = CURRENT["checkpoint"]
    software: Shown
    fold: int
    n_folds: int
    run_name: Shown
    run_id: str
    epoch: int = 0
    best_epoch: int = 0
    score: Number = math.nan
    parent: Parent | None = None
    network: NetworkConfig
    profile: PreprocessingProfile
    training_person_ids: tuple[str, ...]
    training_image_ids: tuple[str, ...]
    selection_ids: tuple[str, ...] = ()
    settings: dict[str, JsonValue] = Field(default_factory=dict)
