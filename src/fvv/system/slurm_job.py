"""What runs in a job of SLURM: a batch of items, each outcome handed in as a file in the folder of the run."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from fvv.errors import FvvError, as_fvv_error
from fvv.system.terminal import make_streams_safe, set_up_logging

Item = TypeVar("Item")
Result = TypeVar("Result")
OUTCOME = ".outcome"
"""Ends the name of an outcome's file, which begins with the number of its item."""


@dataclass(frozen=True, slots=True)
class LongItems(Generic[Item]):
    """Items that take hours: each is a job of its own, which is requeued where its time limit ends it.

    Attributes:
        progress: of an item, any value; a job that ends with the value it began with is not requeued.
        nodes, tasks: machines, and processes on each, that do one item together; the first of them has the result.
    """

    progress: Callable[[Item], object]
    nodes: int = 1
    tasks: int = 1


@dataclass
class Batch(Generic[Item, Result]):
    """What one job does: its items one after the other, in its only process."""

    work: Callable[[Item], Result]
    items: Sequence[tuple[int, Item]]
    folder: Path
    level: int

    def __call__(self) -> None:
        """Run in the job."""
        # submitit lets it pass: a job that is cancelled would go on until it is killed.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        make_streams_safe()
        set_up_logging(self.level)
        for number, item in self.items:
            outcome = self.work(item)
            if os.environ.get("SLURM_PROCID", "0") == "0":
                _hand_in(self.folder / f"{number}{OUTCOME}", outcome)
            elif isinstance(outcome, FvvError):  # srun ends the processes that would wait for this one.
                raise outcome


@dataclass
class LongBatch(Batch[Item, Result]):
    """A job that may be requeued."""

    progress: Callable[[Item], object]
    _before: object = None

    def __call__(self) -> None:
        """Run in the job."""
        self._before = self.progress(self.items[0][1])
        super().__call__()

    def checkpoint(self) -> Any:
        """The job to requeue, as submitit asks for it before the time limit, in the handler of a signal.

        Without progress since the job began there would be none in the next: the item fails, and the process ends.
        """
        from submitit.core.utils import DelayedSubmission  # noqa: PLC0415

        number, item = self.items[0]
        if self.progress(item) == self._before:
            outcome = self.folder / f"{number}{OUTCOME}"
            error = FvvError("the time limit of its job ended it before any progress", hint="raise cluster.time_min")
            if not outcome.exists():
                _hand_in(outcome, error)
            os._exit(1)  # What the signal interrupted might catch an exception, and go on.
        return DelayedSubmission(LongBatch(self.work, self.items, self.folder, self.level, self.progress))


def _hand_in(file: Path, outcome: object) -> None:
    try:
        content = pickle.dumps(outcome)
    except Exception as error:  # noqa: BLE001 - whatever cannot be sent
        content = pickle.dumps(as_fvv_error(error))
    half = file.with_suffix(".half")
    half.write_bytes(content)
    half.replace(file)
