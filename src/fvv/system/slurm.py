"""Work as jobs of SLURM: arrays that submitit submits, each job with a batch of items and a log of its own.

Each outcome is a file in the folder of the run, which driver and jobs share: what a job that dies has finished is kept.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout

from fvv.config import ClusterConfig
from fvv.errors import ConfigError, FvvError, as_fvv_error
from fvv.system.slurm_job import OUTCOME, Batch, LongBatch, LongItems

Item = TypeVar("Item")
Result = TypeVar("Result")
log = logging.getLogger(__name__)

MOST_DEATHS = 2
"""So many jobs may die at an item, and it is tried again."""
_MOST_DEATHS_BEFORE_A_RESULT = 8
"""So many jobs that die, and no item done: what is wrong is not in the items."""
_LOOK_S, _ASK_S, _TELL_S = 1.0, 10.0, 60.0
"""Seconds between two looks for outcomes, questions to SLURM, and lines on how many jobs wait."""
_REFUSED_S = 60.0
"""Seconds after which jobs that SLURM did not take are offered again."""
_LATE_S = 10.0
"""What a job wrote may be seen so many seconds after SLURM says that it has ended."""
_REQUEUES = 10_000
"""More than any training takes; a job that makes no progress is not requeued."""
_GONE = "ENDED"
"""Of a job that SLURM has forgotten."""
_ENDED = {
    *(
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
    ),
    *("TIMEOUT", "REQUEUE_HOLD", "SPECIAL_EXIT", _GONE),
}
"""In any other state, such as POWER_UP_NODE, a job may still work; the last two of SLURM's wait until a person acts."""
_DRIVER, _LOCK = "driver", "driver.lock"


def on_slurm(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    settings: ClusterConfig,
    *,
    description: str,
    long: LongItems[Item] | None = None,
) -> Iterator[tuple[Item, Result | FvvError]]:
    """Yield each item with its result as they come; whatever ends this cancels the jobs.

    Args:
        work: picklable; raises nothing but what ends the job.
        items: picklable.
        settings: resources of a job, and where logs go.
        description: goes into the names of the jobs.
        long: how long items are resumed; None: a job takes several items.

    Raises:
        ConfigError: there is no SLURM here.
        FvvError: SLURM refuses the jobs.
    """
    if shutil.which("sbatch") is None:
        raise ConfigError("no SLURM here: there is no sbatch", hint="call this on a machine that submits jobs")
    end_orphans(settings.folder)
    with _folder_of_run(settings.folder, description) as folder:
        run = _Run(work, items, settings, folder, long)
        try:
            yield from run.outcomes()
            _wait_for_end(folder.name)
        except BaseException:
            cancel(folder.name)
            raise


class _Run(Generic[Item, Result]):
    """The jobs of one call: those that wait to be submitted, and those that SLURM has."""

    def __init__(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        settings: ClusterConfig,
        folder: Path,
        long: LongItems[Item] | None,
    ) -> None:
        self.work, self.items, self.settings, self.folder, self.long = work, items, settings, folder, long
        # A small cohort is spread over all jobs.
        size = 1 if long else min(settings.batch, -(-len(items) // settings.jobs))
        numbers = tuple(range(len(items)))
        self.waiting = deque(numbers[first : first + size] for first in range(0, len(numbers), size))
        self.jobs: dict[str, set[int]] = {}
        self.unfinished = set(numbers)
        self.deaths: Counter[int] = Counter()
        self.ended_at: dict[str, float] = {}
        self.asked_at = self.told_at = time.monotonic()
        self.submit_after, self.accepted = 0.0, False

    def outcomes(self) -> Iterator[tuple[Item, Result | FvvError]]:
        while self.unfinished:
            self._submit()
            time.sleep(_LOOK_S)
            for source in (self._handed_in, self._lost):
                for number, outcome in source():
                    if number in self.unfinished:  # A job that seemed to be dead may have handed it in, too.
                        self.unfinished.remove(number)
                        yield self.items[number], outcome
                self.jobs = {job: left for job, all_ in self.jobs.items() if (left := self.unfinished & all_)}

    def _submit(self) -> None:
        """Fill up the queue: one array."""
        number = min(self.settings.jobs - len(self.jobs), len(self.waiting))
        enough = number > 0 and number >= min(len(self.waiting), self.settings.jobs // 10)
        if not enough or time.monotonic() < self.submit_after:
            return  # A tenth of the queue at once, or SLURM would get a new array with the end of each job.
        batches = [self.waiting.popleft() for _ in range(number)]
        try:
            executor = _executor(self.folder, self.settings, self.long)
            with executor.batch():
                submitted = [executor.submit(self._batch(batch)) for batch in batches]
        except Exception as error:
            why = str(error).strip()[-500:]
            if not self.accepted:
                raise FvvError(f"SLURM took no job: {why}", hint="see `fvv settings cluster`") from error
            # A limit of the queue, or its controller does not answer.
            log.warning("SLURM takes no job now, which is tried again: %s", why)
            self.waiting.extendleft(reversed(batches))
            self.submit_after = time.monotonic() + _REFUSED_S
            return
        self.accepted = True
        self.jobs |= {job.job_id: {*batch} for job, batch in zip(submitted, batches, strict=True)}

    def _batch(self, numbers: Sequence[int]) -> Batch[Item, Result]:
        items, level = [(number, self.items[number]) for number in numbers], log.getEffectiveLevel()
        if self.long is None:
            return Batch(self.work, items, self.folder, level)
        return LongBatch(self.work, items, self.folder, level, self.long.progress)

    def _handed_in(self) -> Iterator[tuple[int, Result | FvvError]]:
        (self.folder / "look").touch()  # A network disk shows others' new files at once to who writes there.
        for file in self.folder.glob(f"*{OUTCOME}"):
            with suppress(OSError, EOFError, pickle.UnpicklingError):  # Not all of it is there yet.
                outcome = pickle.loads(file.read_bytes())  # noqa: S301 - our own; the folder is open to nobody else
                file.unlink()
                yield int(file.name.removesuffix(OUTCOME)), outcome

    def _lost(self) -> Iterator[tuple[int, FvvError]]:
        """Put what jobs left that have died into new ones; gives what has been tried often enough."""
        now = time.monotonic()
        if now - self.asked_at < _ASK_S:
            return
        self.asked_at = now
        states = job_states(self.folder.name)
        if states is None:
            return
        self._tell(states)
        for job, numbers in list(self.jobs.items()):
            state = states.get(job, _GONE)
            if state not in _ENDED:
                self.ended_at.pop(job, None)
            elif now - self.ended_at.setdefault(job, now) >= _LATE_S:
                del self.jobs[job]
                yield from self._died(job, sorted(numbers), state)

    def _died(self, job: str, numbers: list[int], state: str) -> Iterator[tuple[int, FvvError]]:
        suspect, *others = numbers  # In order: it had finished those before.
        if others:
            self.waiting.appendleft(tuple(others))
        self.deaths[suspect] += state != "PREEMPTED"  # Nobody's fault.
        logged = f"its log: {self.folder}/{job}_0_log.out"
        log.warning("job %s ended without a result (%s), %s", job, state, logged)
        all_failed = len(self.unfinished) == len(self.items)
        if all_failed and self.deaths.total() >= _MOST_DEATHS_BEFORE_A_RESULT:
            raise FvvError(f"one job after the other ended ({state}) and none finished anything", hint=logged)
        if self.deaths[suspect] <= MOST_DEATHS:
            self.waiting.appendleft((suspect,))
            return
        memory = "; memory may have run out: raise cluster.memory_gb" if state == "OUT_OF_MEMORY" else ""
        message = f"the jobs that worked on it ended {MOST_DEATHS + 1} times without a result (last: {state})"
        yield suspect, FvvError(message, hint=f"{logged}{memory}")

    def _tell(self, states: dict[str, str]) -> None:
        """Now and then, say how many jobs wait: nothing else may be seen for hours."""
        if time.monotonic() - self.told_at > _TELL_S:
            self.told_at = time.monotonic()
            counts = Counter(states[job].lower() for job in self.jobs if job in states)
            log.info("jobs %s: %s", self.folder.name, ", ".join(f"{n} {state}" for state, n in counts.items()))


def _executor(folder: Path, settings: ClusterConfig, long: LongItems[Any] | None) -> Any:
    import submitit  # noqa: PLC0415

    further = {name: value or True for name, _, value in (one.partition("=") for one in settings.directives)}
    executor = submitit.SlurmExecutor(folder, max_num_timeout=_REQUEUES)
    executor.update_parameters(
        job_name=folder.name,
        time=settings.time_min,
        mem=f"{round(1024 * settings.memory_gb)}M",
        cpus_per_task=settings.cores,
        gpus_per_node=settings.gpus or None,
        account=settings.account or None,
        partition=settings.partition or None,
        nodes=1 if long is None else long.nodes,
        ntasks_per_node=1 if long is None else long.tasks,
        # srun starts the processes of one item, and passes on the signal that comes before the time limit.
        use_srun=long is not None,
        srun_args=[f"--cpus-per-task={settings.cores}", "--kill-on-bad-exit=1"],
        setup=[f"export OMP_NUM_THREADS={settings.cores}"],
        array_parallelism=settings.jobs,
        stderr_to_stdout=True,
        wckey=None,
        # Without requeue, SLURM leaves it to us how often a job is tried.
        additional_parameters={"no-requeue" if long is None else "requeue": True, **further},
    )
    return executor


@contextmanager
def _folder_of_run(parent: Path, description: str) -> Iterator[Path]:
    """A folder of this run alone, whose name is that of its jobs; their logs stay there."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        about = re.sub(r"[^a-z]+", "-", description.lower())
        folder = Path(tempfile.mkdtemp(prefix=f"fvv-{about}-", dir=parent.absolute()))
        lock = FileLock(folder / _LOCK)
        with suppress(OSError, NotImplementedError):  # A disk without locks: the next run leaves these jobs alone.
            lock.acquire()
            (folder / _DRIVER).write_text(socket.gethostname(), encoding="utf-8")
    except OSError as error:
        raise as_fvv_error(error) from error
    try:
        yield folder
    finally:
        _clear(folder)
        lock.release()


def _clear(folder: Path) -> None:
    for file in [*folder.iterdir()]:
        if not file.name.endswith("_log.out"):
            file.unlink(missing_ok=True)


def end_orphans(parent: Path) -> None:
    """Cancel the jobs of earlier runs on this machine whose driver was killed: nobody waits for them."""
    for note in parent.absolute().glob(f"fvv-*/{_DRIVER}"):
        lock = FileLock(note.with_name(_LOCK), timeout=0)
        with suppress(OSError, NotImplementedError, Timeout):
            if note.read_text(encoding="utf-8") == socket.gethostname():
                with lock:
                    log.info("ending the jobs of a run whose driver was killed: %s", note.parent.name)
                    cancel(note.parent.name)
                    _clear(note.parent)


def cancel(name: str) -> None:
    """Cancel the jobs of this name, and wait a moment for their end: they must not write when locks are free."""
    with suppress(OSError, subprocess.SubprocessError):
        _ask("scancel", f"--user={os.getuid()}", f"--name={name}")
        _wait_for_end(name)


def _wait_for_end(name: str) -> None:
    until = time.monotonic() + _LATE_S
    while {*(job_states(name) or {}).values()} - _ENDED and time.monotonic() < until:
        time.sleep(0.2)


def job_states(name: str) -> dict[str, str] | None:
    """The state of each job of this name that SLURM remembers, by its number; None where SLURM does not answer."""
    try:
        # With a user named, SLURM does not send the jobs of all others.
        which = [f"--user={os.getuid()}", f"--name={name}", "--states=all", "--array"]
        answer = _ask("squeue", *which, "--noheader", "--format=%i %T")
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("squeue: %s", error)
        return None
    return dict(line.split()[:2] for line in answer.splitlines() if line.strip())


def _ask(*command: str) -> str:
    """What one of SLURM's programs answers."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout  # noqa: S603
