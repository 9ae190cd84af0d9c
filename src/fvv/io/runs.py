"""Folders of training runs: saved_models/<run>/fold_<k>/.

run.json        which run this is: a fold is never continued under other settings or other data
config.yaml     the settings, to read and to use again
best.ckpt       the epoch with the best validation score
last.ckpt       where to go on
metrics.csv     a row an epoch
progress.png    the same as curves
figures/, tensorboard/, wandb/
done.json       written last: the fold is finished
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fvv.config import TrainConfig
from fvv.errors import TrainingError
from fvv.io.atomic import write_text
from fvv.io.store import CaseStore

BEST, LAST = "best.ckpt", "last.ckpt"
_IDENTITY, _DONE = "run.json", "done.json"
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
"""Settings that change no weight: a run may be continued with others."""


@dataclass(frozen=True, slots=True)
class FoldRun:
    """One fold of one run on disk.

    Attributes:
        folder: of the fold.
        fold: its number.
        run_id: hash of the settings and the data; the same for all folds of a run, and for no other run.
        wandb_id: of the Weights & Biases run, kept so that a resumed run goes on in the same one.
    """

    folder: Path
    fold: int
    run_id: str
    wandb_id: str

    @classmethod
    def open(cls, output: Path, store: CaseStore, fold: int, config: TrainConfig) -> FoldRun:
        """Make the fold's folder, or come back to it.

        Raises:
            TrainingError: the folder holds a run with other settings or other data.
        """
        folder = fold_folder(output, config.name, fold)
        run_id = run_identity(store, config)
        known = _read(folder / _IDENTITY)
        if known is None:
            run = cls(folder, fold, run_id, secrets.token_hex(4))
            content = {"run_name": config.name, "run_id": run_id, "fold": fold, "wandb_id": run.wandb_id}
            write_text(
                folder / "config.yaml", yaml.safe_dump({"train": config.model_dump(mode="json")}, sort_keys=False)
            )
            write_text(folder / _IDENTITY, json.dumps(content, indent=2) + "\n")
            return run
        if known.get("run_id") != run_id:
            raise TrainingError(
                f"run {config.name} was trained here with other settings or other data",
                file=folder,
                hint="give this run another name (--name), or delete the folder to train anew",
            )
        return cls(folder, fold, run_id, str(known["wandb_id"]))

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation score."""
        return self.folder / BEST

    def clear_offline_sessions(self) -> None:
        """Remove what earlier sessions of this fold left of their offline Weights & Biases run."""
        for session in sorted((self.folder / "wandb").glob(f"offline-run-*-{self.wandb_id}")):
            shutil.rmtree(session, ignore_errors=True)

    def finished(self) -> dict[str, Any] | None:
        """What `finish` wrote; None where training has not ended."""
        content = _read(self.folder / _DONE) if self.best.exists() else None
        if content is not None:
            content["scores"] = {name: float("nan") if v is None else v for name, v in content["scores"].items()}
        return content

    def finish(self, content: Mapping[str, Any]) -> None:
        """Mark the fold as finished; a score that is NaN for want of labels becomes null (JSON has no NaN)."""
        scores = {name: None if math.isnan(value) else value for name, value in content["scores"].items()}
        write_text(self.folder / _DONE, json.dumps({**content, "scores": scores}, indent=2) + "\n")


def fold_folder(output: Path, name: str, fold: int) -> Path:
    """Where one fold of one run lies."""
    return output / name / f"fold_{fold}"


def run_identity(store: CaseStore, config: TrainConfig) -> str:
    """16 hex digits of SHA-256 over everything that shapes the weights: settings, profile, split, prepared patients."""
    rows = [
        [row.participant, row.person, [role.value for role in row.roles], store.record(row.participant).source_sha256]
        for row in store.folds.rows
    ]
    content = [config.model_dump(mode="json", exclude=_NOT_IDENTITY), store.profile.sha256, rows]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingError(
            f"cannot be read: {error}", file=path, hint="delete the fold's folder to train anew"
        ) from error
    if not isinstance(content, dict):
        raise TrainingError("expected a JSON object", file=path)
    return content
