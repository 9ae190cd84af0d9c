"""Stage 2: from the store of prepared patients to checkpoints, one fold or all."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from fvv.config import TrainConfig
from fvv.data import ALL_FOLDS, Failure, Role
from fvv.errors import FvvError, TrainingError
from fvv.io.lock import only_writer
from fvv.io.runs import FoldRun, fold_folder, fold_title, last_saved
from fvv.io.store import CaseStore
from fvv.system.parallel import LongItems, attempt, is_local, map_items

log = logging.getLogger(__name__)

_SHOWN = {
    "valid/score": "score",
    "valid/dice_brain": "brain",
    "valid/dice_stroke": "stroke",
    "valid/dice_flair_visible": "FLAIR-visible",
    "valid/auc": "AUC",
}


@dataclass(frozen=True, slots=True)
class TrainResult:
    """One fold's training.

    Attributes:
        fold: which; `fvv.data.ALL_FOLDS` for all.
        folder: where the checkpoints lie.
        checkpoint: the best epoch's; None in debug mode, which keeps nothing.
        epochs: done.
        best_epoch: 0-based.
        scores: validation scores of the best epoch, by the names of metrics.csv.
        seconds: of this session; 0 where the fold had been finished before.
        complete: all epochs done; False where the time limit came first.
        failures: none; a fold that fails raises.
    """

    fold: int
    folder: Path
    checkpoint: Path | None
    epochs: int
    best_epoch: int
    scores: dict[str, float]
    seconds: float
    complete: bool
    failures: tuple[Failure, ...] = ()

    def summary(self) -> str:
        """One line: scores of the best epoch and where its checkpoint lies; empty where another process says it."""
        if _follows():
            return ""
        if self.checkpoint is None:
            return f"fold {fold_title(self.fold)}: {self.epochs} epoch of two batches ran; nothing was kept"
        shown = {label: self.scores[name] for name, label in _SHOWN.items()}
        scores = ", ".join(f"{label} {'undefined' if np.isnan(one) else f'{one:.3f}'}" for label, one in shown.items())
        state = "" if self.complete else " (stopped by the time limit; to continue, run again with a longer one)"
        untested = "; no examination of this split is left to test it" if self.fold == ALL_FOLDS else ""
        return (
            f"fold {fold_title(self.fold)}: best of {self.epochs} epochs is {self.best_epoch + 1}, validation Dice and "
            f"scores: {scores}; {self.seconds:.0f} s; {self.checkpoint}{state}{untested}"
        )


@dataclass(frozen=True, slots=True)
class TrainAllResult:
    """Every fold's training.

    Attributes:
        folds: those that were trained, now or before.
        failures: folds that could not be, and why.
    """

    folds: tuple[TrainResult, ...]
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """A table of the folds with mean and standard deviation; empty where another process says it."""
        if _follows():
            return ""
        scores = np.array([[result.scores[name] for name in _SHOWN] for result in self.folds])
        begin = [f"{result.fold:<8}{result.best_epoch + 1:>7}{result.seconds:>10.0f}" for result in self.folds]
        if len(begin) > 1:
            begin += [f"{'mean':<25}", f"{'SD':<25}"]
            scores = np.vstack([scores, scores.mean(axis=0), scores.std(axis=0, ddof=1)])
        lines = [f"{'fold':<8}{'epoch':>7}{'seconds':>10}" + "".join(f"{label:>15}" for label in _SHOWN.values())]
        lines += [text + "".join(f"{score:>15.3f}" for score in row) for text, row in zip(begin, scores, strict=True)]
        lines.append("Dice and scores are of the validation patients, on whom the best epoch was chosen.")
        return "\n".join([*lines, *(f"{failure.examination_id}: {failure.reason}" for failure in self.failures)])


def train_fold(store: str | Path, output: str | Path, fold: int, config: TrainConfig) -> TrainResult:
    """Train one fold; go on where it stopped, or after its end if more epochs are asked for; else leave it alone.

    Args:
        store: folder that `prepare` wrote.
        output: saved_models; the fold's folder is <output>/<config.name>/fold_<fold>.
        fold: 0-based; `fvv.data.ALL_FOLDS` trains on everybody but those who validate in fold 0 and select the epoch.
        config: settings.

    Raises:
        StoreError: no store, or no such fold.
        TrainingError: nobody to train or select on, another run in that folder, a loss that is no number, or a finished
            fold whose checkpoint is damaged.
    """
    store, output = Path(store), Path(output)
    cases = CaseStore.open(store)
    cases.folds.participants(fold, Role.TRAIN)  # says which folds there are, if this is none
    if not is_local():
        [(_, result)] = _on_engine(store, output, [fold], config)
        if isinstance(result, FvvError):
            raise result
        return result
    if config.debug:
        with tempfile.TemporaryDirectory(prefix="fvv-debug-") as folder:
            return replace(_train(cases, Path(folder), fold, config), checkpoint=None, folder=output)
    # A process that follows writes nothing: the one that leads holds the folder.
    with nullcontext() if _follows() else only_writer(fold_folder(output, config.name, fold)):
        return _train(cases, output, fold, config)


def train_all_folds(store: str | Path, output: str | Path, config: TrainConfig) -> TrainAllResult:
    """Train every fold of the split, as many side by side as `config.jobs` says; one that fails does not stop the rest.

    Args:
        store: folder that `prepare` wrote.
        output: saved_models.
        config: settings.

    Raises:
        StoreError: no store.
        TrainingError: not one fold could be trained.
    """
    store, output = Path(store), Path(output)
    folds = range(CaseStore.open(store).folds.n_folds)
    train = partial(_train_this, store, output, config)
    if not is_local():
        ended = _on_engine(store, output, folds, config)
    elif config.jobs > 1:
        ended = map_items(train, folds, workers=config.jobs, description="Training folds")
    else:  # Without the bar of `map_items`: training has one of its own.
        ended = ((fold, attempt(train, fold)) for fold in folds)
    results: list[TrainResult] = []
    failures: list[Failure] = []
    for fold, result in ended:
        if isinstance(result, FvvError):
            log.error("fold %d: %s", fold, result)
            failures.append(Failure(f"fold {fold}", str(result)))
        else:
            results.append(result)
    if not results:
        raise TrainingError(f"no fold could be trained; the first reason: {failures[0].reason}", file=output)
    return TrainAllResult(tuple(sorted(results, key=lambda result: result.fold)), tuple(failures))


def _on_engine(
    store: Path, output: Path, folds: Sequence[int], config: TrainConfig
) -> Iterator[tuple[int, TrainResult | FvvError]]:
    """A job for each fold."""
    config = config.model_copy(update={"jobs": 1})  # Nobody shares a job's cores.
    long = LongItems(partial(last_saved, output, config.name), config.nodes, config.devices)
    train = partial(_train_this, store, output, config)
    return map_items(train, folds, workers=1, description="train", long=long)


def _train_this(store: Path, output: Path, config: TrainConfig, fold: int) -> TrainResult:
    return train_fold(store, output, fold, config)


def _follows() -> bool:
    """Whether a launcher started this process to help another one, which holds the folder and writes in it."""
    return any(os.environ.get(name, "0") != "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def _train(store: CaseStore, output: Path, fold: int, config: TrainConfig) -> TrainResult:
    started = time.monotonic()
    run = FoldRun.open(output, store, fold, config)
    done, seconds = run.finished(), 0.0
    if done is not None and done.satisfies(config):
        if not _follows():
            run.check_files(done)
        log.info("%s fold %s is finished already, after %d epochs", config.name, fold_title(fold), done.epochs)
    else:
        if done is not None:
            log.info("%s fold %s resumes after %d epochs", config.name, fold_title(fold), done.epochs)
        # Here and not above: only training needs torch, and it takes seconds to load.
        from fvv.training.fit import fit_fold  # noqa: PLC0415

        done = fit_fold(store, run, config)
        seconds = time.monotonic() - started
        if done.complete and not _follows():
            run.finish(done)
    return TrainResult(
        fold, run.folder, run.best, done.epochs, done.best_epoch, done.scores, seconds=seconds, complete=done.complete
    )
