"""Folders of training runs: saved_models/<run>/fold_<k>/.

run.json        which run this is: a fold is never continued under other settings or other data
config.yaml     the settings of the last session, to read and to use again
best.ckpt       the epoch with the best validation score
last.ckpt       where to go on
metrics.csv     a row an epoch
progress.png    the same as curves
figures/, tensorboard/, wandb/
done.json       written last: the fold is finished, after how many epochs
.fvv.json       which of these names are this program's (`fvv.io.ownership`)
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fvv.config import TrainConfig
from fvv.errors import InputError, StoreError, TrainingError
from fvv.io.atomic import write_text
from fvv.io.ownership import claim, claimed
from fvv.io.store import CaseStore
from fvv.system.regular import read_regular_text

log = logging.getLogger(__name__)

BEST, LAST = "best.ckpt", "last.ckpt"
_IDENTITY, _DONE, _SETTINGS = "run.json", "done.json", "config.yaml"
_NAMES = (BEST, LAST, _IDENTITY, _DONE, _SETTINGS, "metrics.csv", "progress.png", "figures", "tensorboard", "wandb")
_NOT_IDENTITY = {
    "wandb_project",
    "wandb_mode",
    "workers",
    "preload_ram",
    "max_time",
    "patience",
    "device",
    "jobs",
    "debug",
    "figures_every_epochs",
}
"""Settings that change no weight of an epoch: a run may be continued with others."""

_RESTORE = "restore the file, or give this run another name (--name)"
_CHANGED = "the epochs before are kept; prepare the same data again to go on, or train under another --name"


class FinishedFold(BaseModel):
    """What done.json holds.

    Attributes:
        epochs: done.
        best_epoch: 0-based.
        scores: validation scores of the best epoch, by the names of metrics.csv; NaN where one is not defined.
        complete: always true here.
        patience: the patience that ended the fold before its last epoch; None: it did all its epochs.
        run_id: of the run; empty where an earlier version wrote the file.
    """

    model_config = ConfigDict(frozen=True)

    epochs: int = Field(ge=1)
    best_epoch: int = Field(ge=0)
    scores: dict[str, float | None]
    complete: bool = True
    patience: int | None = None
    run_id: str = ""

    def satisfies(self, config: TrainConfig) -> bool:
        """Whether nothing is left to do under these settings: no more epochs are asked for, or patience ends it too."""
        ended = None not in {self.patience, config.patience} and config.patience <= self.patience  # type: ignore[operator]
        return self.epochs >= config.epochs or ended


@dataclass(frozen=True, slots=True)
class FoldRun:
    """One fold of one run on disk.

    Attributes:
        folder: of the fold.
        fold: its number.
        run_id: hash of the settings and the data; the same for all folds of a run, and for no other run.
        wandb_id: of the Weights & Biases run, kept so that a resumed run goes on in the same one.
        store_identity: of the prepared data as this session found them.
    """

    folder: Path
    fold: int
    run_id: str
    wandb_id: str
    store_identity: str

    @classmethod
    def open(cls, output: Path, store: CaseStore, fold: int, config: TrainConfig) -> FoldRun:
        """Make the fold's folder, or come back to it.

        Raises:
            TrainingError: the folder holds a run with other settings or other data, or its run.json cannot be read.
            OutputExistsError: the folder holds files of such names that this program did not write.
        """
        folder, data = fold_folder(output, config.name, fold), store.identity()
        identities = _identities(store, config)
        known = _known_run(folder)
        if known is None:
            claim(folder, _NAMES)
            run = cls(folder, fold, _run_of_siblings(folder, identities), secrets.token_hex(4), data)
            content = {"run_name": config.name, "run_id": run.run_id, "fold": fold, "wandb_id": run.wandb_id}
            write_text(folder / _IDENTITY, json.dumps(content, indent=2) + "\n")
        elif known.get("run_id") in identities:
            run = cls(folder, fold, str(known["run_id"]), str(known["wandb_id"]), data)
        else:
            fixed = _epochs_are_fixed(config)
            why = f" (the {config.schedule} schedule is laid out for its number of epochs)" if fixed else ""
            raise TrainingError(
                f"run {config.name} was trained here with other settings{why} or other data",
                file=folder,
                hint="give this run another name (--name), or delete the folder to train again from the start",
            )
        settings = yaml.safe_dump({"train": config.model_dump(mode="json")}, sort_keys=False)
        write_text(folder / _SETTINGS, settings)
        return run

    def check_store(self, store: CaseStore) -> None:
        """Refuse to go on if the prepared data on disk are no longer those that this session began with.

        Raises:
            TrainingError: they changed, or went away.
        """
        try:
            same = store.identity() == self.store_identity
        except StoreError as error:
            raise TrainingError(f"the prepared data went away during training: {error}", hint=_CHANGED) from error
        if not same:
            raise TrainingError("the prepared data changed during training", file=store.path, hint=_CHANGED)

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation score."""
        return self.folder / BEST

    def clear_offline_sessions(self) -> None:
        """Remove what earlier sessions of this fold left of their offline Weights & Biases run."""
        for session in sorted((self.folder / "wandb").glob(f"offline-run-*-{self.wandb_id}")):
            shutil.rmtree(session, ignore_errors=True)

    def finished(self) -> FinishedFold | None:
        """What `finish` wrote; None where training has not ended, or done.json is damaged: it is written again."""
        path = self.folder / _DONE
        if not self.best.is_file() or not path.exists():
            return None
        try:
            done = FinishedFold.model_validate_json(read_regular_text(path))
        except (InputError, ValidationError) as error:
            why = error.message if isinstance(error, InputError) else error.errors()[0]["msg"]
            log.warning("%s is damaged and made again: %s", path, why)
            return None
        return done if done.run_id in {"", self.run_id} else None

    def finish(self, done: FinishedFold) -> None:
        """Mark the fold as finished; a score that is NaN for want of labels becomes null (JSON has no NaN)."""
        scores = {name: None if value is None or math.isnan(value) else value for name, value in done.scores.items()}
        content = done.model_copy(update={"scores": scores, "run_id": self.run_id})
        write_text(self.folder / _DONE, content.model_dump_json(indent=2) + "\n")

    def unfinish(self) -> None:
        """Training goes on: what done.json says of the best epoch may soon be untrue."""
        (self.folder / _DONE).unlink(missing_ok=True)


def fold_folder(output: Path, name: str, fold: int) -> Path:
    """Where one fold of one run lies."""
    return output / name / f"fold_{fold}"


def _identities(store: CaseStore, config: TrainConfig) -> tuple[str, ...]:
    """The run's identity, then those that earlier versions gave to the same run.

    An identity is 16 hex digits of SHA-256 over everything that shapes the weights: settings, profile, split, prepared
    patients. The number of epochs belongs to it only where the learning rate is laid out over them (cosine, onecycle).
    """
    rows = [
        [row.participant, row.person, [role.value for role in row.roles], store.record(row.participant).source_sha256]
        for row in store.folds.rows
    ]
    settings = config.model_dump(mode="json", exclude=_NOT_IDENTITY)
    if config.loss.normalisation == "all":  # As before there was a choice: the same weights.
        del settings["loss"]["normalisation"]
    without_epochs = {name: value for name, value in settings.items() if name != "epochs"}
    both = (settings,) if _epochs_are_fixed(config) else (without_epochs, settings)
    contents = ([part, store.profile.sha256, rows] for part in both)
    return tuple(hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16] for content in contents)


def _epochs_are_fixed(config: TrainConfig) -> bool:
    return config.schedule != "plateau"


def _run_of_siblings(folder: Path, identities: tuple[str, ...]) -> str:
    """The identity that the other folds of this run have: all models of a bundle must name the same."""
    for sibling in sorted(folder.parent.glob("fold_*")):
        try:
            known = _read_json(sibling / _IDENTITY) if (sibling / _IDENTITY).is_file() else {}
        except TrainingError:
            continue
        if known.get("run_id") in identities:
            return str(known["run_id"])
    return identities[0]


def _known_run(folder: Path) -> dict[str, Any] | None:
    """What run.json says; None where there is none, or a damaged one that this program wrote and can write again."""
    path = folder / _IDENTITY
    if not path.exists() and not path.is_symlink():
        return None
    try:
        known = _read_json(path)
        if not all(isinstance(known.get(key), str) for key in ("run_id", "wandb_id")):
            raise TrainingError("expected the texts run_id and wandb_id", file=path, hint=_RESTORE)
    except TrainingError as error:
        # The checkpoints name their run too, and are asked before training goes on from them.
        if _IDENTITY in claimed(folder) and path.is_file():
            log.warning("%s: %s; it is written again", path, error.message)
            return None
        raise
    return known


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_regular_text(path))
    except InputError as error:
        raise TrainingError(error.message, file=path, hint=_RESTORE) from error
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"cannot be read: {error}", file=path, hint=_RESTORE) from error
    if not isinstance(content, dict):
        raise TrainingError("expected a JSON object", file=path, hint=_RESTORE)
    return content
