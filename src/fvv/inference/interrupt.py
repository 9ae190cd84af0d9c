"""Native work in threads of its own, so that Ctrl-C gets through: Python handles signals only in its main thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import TypeAlias

_LOOK_EVERY_S = 0.5
"""On Windows a wait cannot be interrupted: signals are seen between two waits."""
_GRACE_S = 1.0
"""Time to stop; a single operation of a graph cannot be stopped, and is left behind."""
_AHEAD = 1
"""Groups whose jobs are begun before the group before them has been taken (chosen here)."""
Job: TypeAlias = Callable[[], None]
_Queue: TypeAlias = SimpleQueue[tuple[Job, Future[None]] | None]


def in_groups(groups: Iterable[Sequence[Job]], workers: int, stop: Callable[[], None]) -> Generator[None]:
    """Do the jobs of one group after another, some side by side, and let signals through meanwhile.

    While the caller looks at a group, the jobs of the next one are being done. A caller that may leave early closes
    this generator (`contextlib.closing`): Python drops Ctrl-C while it closes one by itself.

    Args:
        groups: the jobs of each; one is asked for when its jobs are about to begin.
        workers: jobs at a time.
        stop: asks all jobs to end; called if one fails, if a signal handler raises (Ctrl-C does), or if the caller
            leaves before the last group. Jobs that have not begun are left out then.

    Yields:
        Once for each group, in order, when all its jobs are done.

    Raises:
        Exception: what a job raised; of several, that of the first job in order.
    """
    queue: _Queue = SimpleQueue()
    begun: deque[list[Future[None]]] = deque()
    try:
        for _ in range(workers):
            # Daemons: the process may end although the work does not.
            threading.Thread(target=_work, args=(queue,), name="onnxruntime", daemon=True).start()
        for jobs in groups:
            begun.append(_begin(jobs, queue))
            if len(begun) > _AHEAD:
                _wait(begun[0])
                begun.popleft()
                yield
        while begun:
            _wait(begun[0])
            begun.popleft()
            yield
    except BaseException:
        left = [outcome for outcomes in begun for outcome in outcomes]
        for outcome in left:
            outcome.cancel()
        stop()
        wait(left, _GRACE_S)
        raise
    finally:
        for _ in range(workers):
            queue.put(None)


def _begin(jobs: Sequence[Job], queue: _Queue) -> list[Future[None]]:
    outcomes: list[Future[None]] = [Future() for _ in jobs]
    for one in zip(jobs, outcomes, strict=True):
        queue.put(one)
    return outcomes


def _work(queue: _Queue) -> None:
    while (taken := queue.get()) is not None:
        job, outcome = taken
        if outcome.set_running_or_notify_cancel():
            try:
                outcome.set_result(job())
            except BaseException as error:  # noqa: BLE001 - raised again where the work was asked for
                outcome.set_exception(error)
        del taken, job, outcome  # What they hold is not kept until the next job.


def _wait(outcomes: list[Future[None]]) -> None:
    """Wait for one after another and take each out; an error is raised without a look at those after it."""
    while outcomes:
        while not outcomes[0].done():
            wait(outcomes[:1], _LOOK_EVERY_S)
        # Held by nothing when it raises: an error that leads back to itself keeps a patient's volumes in memory.
        outcomes.pop(0).result()
