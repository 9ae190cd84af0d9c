"""Native work in threads of its own, so that Ctrl-C gets through: Python handles signals only in its main thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def in_groups(groups: Iterable[Sequence[Job]], workers: int, stop: Callable[[], None]) -> Iterator[None]:
    """Do the jobs of one group after another, some side by side, and let signals through meanwhile.

    While the caller looks at a group, the jobs of the next one are being done.

    Args:
        groups: the jobs of each; one is asked for when its jobs are about to begin.
        workers: jobs at a time.
        stop: asks all jobs to end; called if one fails, if a signal handler raises (Ctrl-C does), or if the caller
            leaves before the last group.

    Yields:
        Once for each group, in order, when all its jobs are done.

    Raises:
        Exception: what a job raised.
    """
    queue: SimpleQueue[tuple[Job, Future[None]] | None] = SimpleQueue()
    begun: deque[list[Future[None]]] = deque()
    for _ in range(workers):
        # Daemons: the process may end although the work does not.
        threading.Thread(target=_work, args=(queue,), name="onnxruntime", daemon=True).start()
    try:
        for jobs in groups:
            begun.append([Future() for _ in jobs])
            for one in zip(jobs, begun[-1], strict=True):
                queue.put(one)
            if len(begun) > _AHEAD:
                _wait(begun[0])
                begun.popleft()
                yield
        while begun:
            _wait(begun[0])
            begun.popleft()
            yield
    except BaseException:
        stop()
        wait([outcome for outcomes in begun for outcome in outcomes], _GRACE_S)
        raise
    finally:
        for _ in range(workers):
            queue.put(None)


def _work(queue: SimpleQueue[tuple[Job, Future[None]] | None]) -> None:
    while (taken := queue.get()) is not None:
        job, outcome = taken
        try:
            outcome.set_result(job())
        except BaseException as error:  # noqa: BLE001 - raised again where the work was asked for
            outcome.set_exception(error)
        del taken, job, outcome  # What they hold is not kept until the next job.


def _wait(outcomes: Sequence[Future[None]]) -> None:
    """Wait for all; the first error is raised at once."""
    for outcome in outcomes:
        while not outcome.done():
            wait([outcome], _LOOK_EVERY_S)
        outcome.result()
