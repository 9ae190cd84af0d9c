"""Where a fold goes on: at its last checkpoint, or, where that is damaged or gone, at its best one."""

from __future__ import annotations

import logging
from pathlib import Path

from fvv.errors import FvvError, ModelError, TrainingError
from fvv.io.atomic import write_bytes
from fvv.io.runs import BEST, LAST, FoldRun
from fvv.training.checkpoint import TrainedModel, read_checkpoint
from fvv.training.distributed import rank

log = logging.getLogger(__name__)


def resume_point(run: FoldRun) -> Path | None:
    """The checkpoint to go on from; None: the fold begins.

    Both checkpoints hold all that training needs. From the best one the epochs after it are done again, with the same
    numbers: all randomness depends on seed, epoch and batch alone.

    Raises:
        ModelError: no checkpoint can be used.
        TrainingError: a checkpoint is of another run, or the best one is lost and cannot be made again.
    """
    last, lost_last = _usable(run, LAST)
    best, lost_best = _usable(run, BEST)
    if last is None and best is None:
        if lost := lost_last or lost_best:
            raise lost
        return None
    if last is None:
        why = "missing" if lost_last is None else lost_last.message
        text = "%s: %s; training goes on from %s, the epochs after it are done again"
        log.warning(text, run.folder / LAST, why, BEST)
        return run.folder / BEST
    if best is None:
        _make_best_again(run, last, lost_best)
    return run.folder / LAST


def _usable(run: FoldRun, name: str) -> tuple[TrainedModel | None, FvvError | None]:
    path = run.folder / name
    if not path.exists() and not path.is_symlink():
        return None, None
    try:
        model = read_checkpoint(path)
    except ModelError as error:
        # Read so that no code in a file is run, and a damaged one is named in a sentence of ours.
        error.hint = error.hint or "delete it to train from what else is there, or from the start"
        return None, error
    if (model.run_id, model.fold) != (run.run_id, run.fold):
        raise TrainingError(
            f"of run {model.run_name} {model.run_id}, fold {model.fold}: not of this one, {run.run_id}",
            file=path,
            hint="give this run another name (--name), or delete the folder to train again from the start",
        )
    return model, None


def _make_best_again(run: FoldRun, last: TrainedModel, lost: FvvError | None) -> None:
    if not last.is_best:
        raise TrainingError(
            "the best epoch's checkpoint is missing" if lost is None else f"the best epoch's checkpoint: {lost}",
            file=run.best,
            hint=f"restore it, or delete the folder to train again; `fvv convert --model {run.fold}={last.path}` takes "
            "the last epoch",
        )
    log.warning("%s is %s; it is made again from %s", BEST, "missing" if lost is None else "damaged", LAST)
    if rank() == 0:
        write_bytes(run.best, last.path.read_bytes())
