"""Folders of training runs: saved_models/<run>/fold_<k>/, or fold_all.

run.json        which run this is: a fold is never continued under other settings or other data
config.yaml     the settings of the last session, to read and to use again
best.ckpt       the epoch with the best validation score
last.ckpt       where to go on
metrics.csv     a row an epoch
progress.png    the same as curves
figures/, tensorboard/, wandb/
done.json       written last: the fold is finished, after how many epochs, and the hash of each of its files
.fvv.json       which of these names are this program's (`fvv.io.ownership`)
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from fvv.config import TrainConfig
from fvv.data import ALL_FOLDS
from fvv.errors import InputError, StoreError, TrainingError
from fvv.io.atomic import write_text
from fvv.io.initial import InitialFiles
from fvv.io.ownership import claim, claimed
from fvv.io.sealed import read_record, verify_files, write_sealed
from fvv.io.store import CaseStore
from fvv.names import first_few
from fvv.schemas.training_run import FoldProgress, RunDescription
from fvv.system.fingerprint import file_sha256

log = logging.getLogger(__name__)

BEST, LAST = "best.ckpt", "last.ckpt"
_IDENTITY, _DONE, _SETTINGS = "run.json", "done.json", "config.yaml"
_FINAL = (BEST, LAST, "metrics.csv", "progress.png", "figures", "tensorboard")
"""What stays as it is once a fold is finished; Weights & Biases' own program sends and removes what it wrote."""
_NAMES = (*_FINAL, _IDENTITY, _DONE, _SETTINGS, "wandb")
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
_CHANGED = "the earlier epochs are kept; to resume, prepare the same data again, or train with another --name"


@dataclass(frozen=True, slots=True)
class FoldRun:
    """One fold of one run on disk.

    Attributes:
        folder: of the fold.
        about: which run it is.
        store_identity: of the prepared data as this session found them.
    """

    folder: Path
    about: RunDescription
    store_identity: str

    @classmethod
    def open(cls, output: Path, store: CaseStore, fold: int, config: TrainConfig) -> FoldRun:
        """Make the fold's folder, or come back to it.

        Raises:
            TrainingError: the folder holds a run with other settings or other data, or its run.json cannot be read.
            OutputExistsError: the folder holds files of such names that this program did not write.
        """
        folder, run_id = fold_folder(output, config.name, fold), _identity(store, config)
        about = _known_run(folder)
        if about is None:
            claim(folder, _NAMES)
            about = RunDescription(run_name=config.name, run_id=run_id, fold=fold, wandb_id=secrets.token_hex(4))
            write_sealed(folder / _IDENTITY, about)
        elif about.run_id != run_id:
            laid_out = f" (the {config.schedule} schedule depends on the number of epochs)"
            why = "" if config.schedule == "plateau" else laid_out
            raise TrainingError(
                f"run {config.name} was trained here with other settings{why} or other data",
                file=folder,
                hint="give this run another name (--name), or delete the folder to train again from the start",
            )
        settings = yaml.safe_dump({"train": config.model_dump(mode="json")}, sort_keys=False)
        write_text(folder / _SETTINGS, settings)
        return cls(folder, about, store.identity())

    def check_store(self, store: CaseStore) -> None:
        """Refuse to go on if the prepared data on disk are no longer those that this session began with.

        Raises:
            TrainingError: they changed, or went away.
        """
        try:
            same = store.identity() == self.store_identity
        except StoreError as error:
            raise TrainingError(
                f"the prepared data became unreadable during training: {error}", hint=_CHANGED
            ) from error
        if not same:
            raise TrainingError("the prepared data changed during training", file=store.path, hint=_CHANGED)

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation score."""
        return self.folder / BEST

    def clear_offline_sessions(self) -> None:
        """Remove what earlier sessions of this fold left of their offline Weights & Biases run."""
        for session in sorted((self.folder / "wandb").glob(f"offline-run-*-{self.about.wandb_id}")):
            shutil.rmtree(session, ignore_errors=True)

    def finished(self) -> FoldProgress | None:
        """What `finish` wrote; None where training has not ended, or done.json is damaged: it is written again."""
        path = self.folder / _DONE
        if not self.best.is_file() or not path.exists():
            return None
        try:
            done = read_record(path, FoldProgress)
        except InputError as error:
            log.warning("%s is damaged and made again: %s", path, error.message)
            return None
        return done if done.run_id == self.about.run_id else None

    def finish(self, done: FoldProgress) -> None:
        """Mark the fold as finished, with the hash of each of its files."""
        files = {file.relative_to(self.folder).as_posix(): file_sha256(file) for file in self._final_files()}
        write_sealed(self.folder / _DONE, done.model_copy(update={"files": files}))

    def check_files(self, done: FoldProgress) -> None:
        """Compare the files of a finished fold with their hashes, and name the logs and pictures that differ.

        Raises:
            TrainingError: a checkpoint differs or is missing.
        """
        differing = []
        for name, sha256 in done.files.items():
            try:
                verify_files(self.folder, {name: sha256})
            except InputError as error:
                if name in {BEST, LAST}:
                    message = f"{error.message}; expected SHA-256 {sha256}"
                    hint = "restore it, or delete the fold's folder to train it again"
                    raise TrainingError(message, file=self.folder / name, hint=hint) from error
                differing.append(name)
        if differing:
            log.warning("%s: damaged or missing, and only training makes it: %s", self.folder, first_few(differing))

    def _final_files(self) -> Iterator[Path]:
        for name in _FINAL:
            place = self.folder / name
            yield from sorted(file for file in (place, *place.rglob("*")) if file.is_file())

    def unfinish(self) -> None:
        """Training goes on: what done.json says of the best epoch may soon be untrue."""
        (self.folder / _DONE).unlink(missing_ok=True)


def fold_folder(output: Path, name: str, fold: int) -> Path:
    """Where one fold of one run lies."""
    return output / name / f"fold_{fold_title(fold)}"


def last_saved(output: Path, name: str, fold: int) -> int | None:
    """When the last epoch of a fold was saved, ns; None: none was."""
    try:
        return (fold_folder(output, name, fold) / LAST).stat().st_mtime_ns
    except OSError:
        return None


def fold_title(fold: int) -> str:
    """Its number, or `all`."""
    return "all" if fold == ALL_FOLDS else str(fold)


def _identity(store: CaseStore, config: TrainConfig) -> str:
    """16 hex digits of SHA-256 over everything that shapes the weights: settings, profile, split, prepared patients.

    The number of epochs is part of it only where the learning rate is laid out over them (onecycle). Weights to start
    from count by their content, wherever they lie; what concerns only them counts only where there are some.
    """
    rows = [
        [
            row.examination_id,
            row.person_id,
            [role.value for role in row.roles],
            store.record(row.examination_id).source_sha256,
        ]
        for row in store.folds.rows
    ]
    left_out = _NOT_IDENTITY | ({"epochs"} if config.schedule == "plateau" else set())
    left_out |= {"init"} if config.init else {"init", "init_learning_rate", "freeze"}
    left_out |= {"crop"} if config.crop is None else set()  # Runs that began before this setting existed go on.
    content: list[object] = [config.model_dump(mode="json", exclude=left_out), store.profile.sha256, rows]
    if config.init:
        content.append(InitialFiles.find(config.init).identity)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _known_run(folder: Path) -> RunDescription | None:
    """What run.json says; None where there is none, or a damaged one that this program wrote and can write again."""
    path = folder / _IDENTITY
    if not path.exists() and not path.is_symlink():
        return None
    try:
        return read_record(path, RunDescription)
    except InputError as error:
        # The checkpoints name their run too, and are read before training goes on from them.
        if _IDENTITY in claimed(folder) and path.is_file():
            log.warning("%s: %s; it is written again", path, error.message)
            return None
        hint = "restore the file, or give this run another name (--name)"
        raise TrainingError(error.message, file=path, hint=hint) from error
