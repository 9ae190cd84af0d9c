"""One patient at a time over several processes: progress that people can see, failures that stop nobody else."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from multiprocessing.process import BaseProcess
from typing import ParamSpec, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fvv.config import ClusterConfig
from fvv.errors import ConfigError, FvvError, UnexpectedError, as_fvv_error, install_hint
from fvv.system.cores import core_count, most_workers
from fvv.system.dask_workers import on_dask
from fvv.system.ending import kill_workers, workers_start_here
from fvv.system.slurm import on_slurm
from fvv.system.slurm_job import LongItems
from fvv.system.terminal import make_streams_safe, set_up_logging

__all__ = ["LongItems", "attempt", "core_count", "engine", "is_local", "map_items", "progress_bar", "track"]

Parameters = ParamSpec("Parameters")
Item = TypeVar("Item")
Result = TypeVar("Result")
log = logging.getLogger(__name__)
_console = Console(stderr=True)
_LOCAL = ClusterConfig()
_engine = ContextVar("engine", default=_LOCAL)
_MOST_DEATHS = 8
"""So many processes that die, and no item done: what is wrong is not in the items."""


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


@contextmanager
def engine(settings: ClusterConfig) -> Iterator[None]:
    """While this holds, `map_items` hands its work to this engine; in the processes that do the work it is local."""
    token = _engine.set(settings)
    try:
        yield
    finally:
        _engine.reset(token)


def is_local() -> bool:
    """Whether `map_items` works on this machine."""
    return _engine.get().engine == "local"


def map_items(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None,
    description: str,
    here: bool = False,
    long: LongItems[Item] | None = None,
) -> Iterator[tuple[Item, Result | FvvError]]:
    """Apply a function to every item in parallel; yields (item, result or error) as they finish.

    Args:
        function: picklable; a module's function or a `functools.partial` of one.
        items: what to do, in order.
        workers: processes; 0 or None: one per core; 1: in this process. More than the machine can use are not started.
        description: what the progress bar says.
        here: on this machine, whatever `engine` says: the work is less than the start of a job.
        long: how items that take hours go on after the time limit of their job.

    An item's error is a result like another, whatever its kind: see `attempt`. A worker process that dies (memory, a
    crash in a library) fails the item that it was working on; another process takes its place. A job or a worker of an
    engine that dies is tried again first.
    """
    if not here and not is_local() and items:
        work: Callable[[Item], Result | FvvError] = partial(attempt, function)  # type: ignore[call-arg]
        yield from track(_on_engine(work, items, description, long), description, len(items))
        return
    workers = min(workers or core_count(), len(items), most_workers())
    results: Iterator[tuple[Item, Result | FvvError]]
    if workers <= 1:
        results = ((item, attempt(function, item)) for item in items)
    else:
        results = _in_processes(function, items, workers)
    yield from track(results, description, len(items))


def attempt(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result | FvvError:
    """Do one item's work: its result, or why there is none. Other items go on, whatever this one raises.

    Only what is meant for the whole run (Ctrl-C, `SystemExit`) goes through.
    """
    try:
        return function(*args, **kwargs)
    except Exception as error:
        known = as_fvv_error(error)
        if isinstance(known, UnexpectedError):
            log.debug("%s", known, exc_info=True)
        return known


def _on_engine(
    work: Callable[[Item], Result | FvvError], items: Sequence[Item], description: str, long: LongItems[Item] | None
) -> Iterator[tuple[Item, Result | FvvError]]:
    settings = _engine.get()
    needed = "submitit" if settings.engine == "slurm" else "distributed"
    if importlib.util.find_spec(needed) is None:
        hint = install_hint("cluster")
        raise ConfigError(f"--on {settings.engine} needs {needed}, which is not installed", hint=hint)
    if settings.engine == "slurm":
        return on_slurm(work, items, settings, description=description, long=long)
    return on_dask(work, items, settings)


class _Worker:
    """A process that has one item at a time: where it dies, that item is to blame, and no other."""

    def __init__(self) -> None:
        self.pool = _pool_of_one()
        self._process: BaseProcess | None = None

    def start(self, function: Callable[[Item], Result], item: Item) -> Future[Result | FvvError]:
        try:
            future = self.pool.submit(attempt, function, item)
        except BrokenProcessPool:  # It died while it had nothing to do.
            self.pool.shutdown()
            self.pool = _pool_of_one()
            future = self.pool.submit(attempt, function, item)
        self._process = next(iter((self.pool._processes or {}).values()), self._process)
        return future

    def death(self) -> FvvError:
        """What became of the process that had the last item; the next one gets another."""
        self.pool.shutdown()
        code = self._process.exitcode if self._process else None
        self.pool = _pool_of_one()
        if code is not None and code < 0:
            hint = "memory may have run out: use fewer workers (--workers 1)"
            name = next((one.name for one in signal.Signals if one == -code), f"signal {-code}")
            return FvvError(f"the process that worked on it was killed ({name})", hint=hint)
        return FvvError(f"the process that worked on it died (exit code {code})", hint="a library may have crashed")


def _new_workers(number: int) -> list[_Worker]:
    """So many; none where the machine cannot have them, which costs time alone.

    Processes talk through semaphores, which need a shared memory that can be written (/dev/shm), and open files.
    """
    made: list[_Worker] = []
    try:
        made.extend(_Worker() for _ in range(number))
    except (OSError, ImportError, NotImplementedError) as error:
        for worker in made:
            worker.pool.shutdown()
        why = getattr(error, "strerror", None) or error
        log.warning("no parallel processes on this machine (%s): one patient is processed at a time", why)
        return []
    return made


def _pool_of_one() -> ProcessPoolExecutor:
    # spawn: a forked copy of a process that already runs BLAS or onnxruntime threads can hang.
    context = multiprocessing.get_context("spawn")
    level = log.getEffectiveLevel() if logging.getLogger("fvv").handlers else None
    return ProcessPoolExecutor(1, mp_context=context, initializer=_begin_worker, initargs=(level,))


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result | FvvError]]:
    everyone = _new_workers(workers)
    if not everyone:
        yield from ((item, attempt(function, item)) for item in items)
        return
    remaining = iter(items)
    idle = list(everyone)
    busy: dict[Future[Result | FvvError], tuple[_Worker, Item]] = {}
    finished: list[tuple[Item, Result | FvvError]] = []
    deaths: int | None = 0  # None: something was done, and deaths are those of single items.
    with workers_start_here():
        try:
            while True:
                # As many results as workers wait here at most: they never pile up in memory.
                with _interrupts_held_back():
                    while idle and (item := next(remaining, None)) is not None:
                        worker = idle.pop()
                        busy[worker.start(function, item)] = worker, item
                yield from finished
                if not busy:
                    return
                done, _ = wait(busy, return_when=FIRST_COMPLETED)
                finished = []
                for future in done:
                    worker, item = busy.pop(future)
                    idle.append(worker)
                    died = isinstance(future.exception(), BrokenProcessPool)
                    deaths = deaths + 1 if died and deaths is not None else None
                    finished.append((item, worker.death() if died else _result_of(future)))
                if deaths is not None and deaths >= _MOST_DEATHS:
                    hint = "use --workers 1; a script that calls fvv needs `if __name__ == '__main__':` around it"
                    message = "not tried: one worker process after the other died, and none finished anything"
                    finished += ((item, FvvError(message, hint=hint)) for item in remaining)
        except BaseException:
            kill_workers()
            raise
        finally:
            for worker in everyone:
                worker.pool.shutdown(wait=False, cancel_futures=True)
            for worker in everyone:
                worker.pool.shutdown()


def _result_of(future: Future[Result | FvvError]) -> Result | FvvError:
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001 - a result that cannot be sent, for one
        return as_fvv_error(error)


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


def _begin_worker(level: int | None) -> None:
    """What a worker process does first.

    Args:
        level: of the messages to show: a worker's own progress is nobody's concern, warnings are. None: as Python does.
    """
    _end_with_parent()
    make_streams_safe()
    if level is not None:
        set_up_logging(level if level <= logging.DEBUG else logging.WARNING)
    # The processes already fill the cores; nested BLAS threads would only fight.
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    threadpool_limits(1)


def _end_with_parent() -> None:
    """However the parent ends, this process ends with it: nobody would take its results, or know that it writes."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)

    def wait_for_its_end() -> None:
        parent.join()  # Returns at once where it has ended before we got here.
        os._exit(1)

    threading.Thread(target=wait_for_its_end, daemon=True, name="parent").start()
