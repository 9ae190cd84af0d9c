"""One patient at a time over several processes: progress that people can see, failures that stop nobody else."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fvv.errors import FvvError

Item = TypeVar("Item")
Result = TypeVar("Result")
log = logging.getLogger(__name__)
_console = Console(stderr=True)


def core_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def progress_bar() -> Progress:
    """A Rich bar on stderr; draws nothing where stderr is no terminal, nor in a worker, whose parent has a bar."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=_console,
        disable=not _console.is_terminal or multiprocessing.parent_process() is not None,
    )


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Pass items through while showing how far we are: a bar on a terminal, a log line now and then elsewhere."""
    started = last_said = time.monotonic()
    with progress_bar() as bar:
        task = bar.add_task(description, total=total)
        for done, item in enumerate(items, start=1):
            yield item
            bar.advance(task)
            now = time.monotonic()
            if not _console.is_terminal and (done == total or now - last_said > 10):
                log.info("%s: %d of %d, %.0f s", description, done, total, now - started)
                last_said = now


def map_items(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, description: str
) -> Iterator[tuple[Item, Result | FvvError]]:
    """Apply a function to every item in parallel; yields (item, result or error) as they finish.

    Args:
        function: picklable; a module's function or a `functools.partial` of one.
        items: what to do, in order.
        workers: processes; 0: one per core; 1: in this process.
        description: what the progress bar says.

    An `FvvError` is a result like another. Any other exception is a fault of ours and ends the run. A worker process
    that dies (memory, a crash in a library) fails its items with a clear error.
    """
    workers = min(workers or core_count(), len(items))
    results: Iterator[tuple[Item, Result | FvvError]]
    if workers <= 1:
        results = ((item, _attempt(function, item)) for item in items)
    else:
        results = _in_processes(function, items, workers)
    yield from track(results, description, len(items))


def _attempt(function: Callable[[Item], Result], item: Item) -> Result | FvvError:
    try:
        return function(item)
    except FvvError as error:
        return error


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result | FvvError]]:
    # spawn: a forked copy of a process that already runs BLAS or onnxruntime threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread_each) as pool:
        try:
            waiting: dict[Future[Result | FvvError], Item] = {}
            remaining = iter(items)
            while True:
                # Twice as many in flight as workers: results never pile up in memory.
                with _interrupts_held_back():
                    while len(waiting) < 2 * workers and (item := next(remaining, None)) is not None:
                        waiting[pool.submit(_attempt, function, item)] = item
                if not waiting:
                    return
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), _result_of(future)
        except BaseException:
            # Nobody waits for what is half done: all writes are atomic, and the next run does it again.
            for child in multiprocessing.active_children():
                child.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Processes started in here never see Ctrl-C: it is for this one, which ends them (and gets it at the end)."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Children inherit it.
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _result_of(future: Future[Result | FvvError]) -> Result | FvvError:
    try:
        return future.result()
    except BrokenProcessPool:
        return FvvError("a worker process died", hint="memory may have run out: use fewer workers (--workers 1)")


def _one_thread_each() -> None:
    # The processes already fill the cores; nested BLAS threads would only fight.
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    threadpool_limits(1)
