"""The node: receives, has each complete study answered by a worker, sends the results, and forgets in time."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fvv import __version__
from fvv.config import ListenConfig, PredictConfig
from fvv.data import Failure
from fvv.errors import InputError
from fvv.io.bundle import ModelBundle
from fvv.io.lock import only_writer
from fvv.node.page import Page
from fvv.node.receive import Receiver
from fvv.node.send import Destination, Sender
from fvv.node.spool import DONE, FAILED, RECEIVED, RUNNING, SENDING, Spool
from fvv.node.status import health_of, write_health
from fvv.node.tls import tls_context
from fvv.node.worker import Job
from fvv.schemas.node import Health, Outcome
from fvv.system.fingerprint import fingerprint

log = logging.getLogger(__name__)
MOST_ATTEMPTS = 3
_TICK_S = 0.5
_HEALTH_S = 10.0
_BUSY_S = 0.5
"""How long the loop waits for a sender; then it comes again."""
_DAY_S = 86400.0
_WORKER = [sys.executable, "-m", "fvv.node.worker"]
_CUT_OFF = "the transfer was cut off and not repeated: images may be missing"
_BROKEN = "the program failed on these images; its log says where"


@dataclass(frozen=True, slots=True)
class ListenResult:
    """The node has ended."""

    spool: Path
    failures: tuple[Failure, ...] = ()

    def summary(self) -> str:
        """One line."""
        return f"stopped; {self.spool} holds what is left to do"


@dataclass
class _Worker:
    study: str
    process: subprocess.Popen[bytes]
    started: float
    last: bool


class Node:
    """One node and its spool.

    Args:
        spool: folder that holds the queue.
        models: a bundle.
        config: of the node.
        predict: of `fvv predict`, for every study.
    """

    def __init__(self, spool: Path, models: Path, config: ListenConfig, predict: PredictConfig) -> None:
        self.spool, self.models, self.config, self.predict = Spool(spool), models, config, predict
        settings = predict.model_dump(exclude={"overwrite", "compute"}, mode="json")
        manifest = ModelBundle.open(models).manifest
        self.made_from = fingerprint(software=__version__, models=fingerprint(manifest=manifest), settings=settings)
        self.last_error = ""
        self._worker: _Worker | None = None
        context = tls_context(config, server=False)
        destinations = [Destination.parse(text) for text in config.send_to]
        self.senders = [Sender(self.spool, one, config.aet, context) for one in destinations]
        self._over = threading.Event()
        self._health_due = self._clean_due = 0.0

    def run(self) -> None:
        """Until `stop`, or an exception such as Ctrl-C."""
        with only_writer(self.spool.root / "lock", clear=False):
            self.spool.open()
            receiver = Receiver(self.spool, self.config, tls_context(self.config, server=True))
            page: Page | None = None
            try:
                page = Page(self.config.page, self.spool, self.health) if self.config.page else None
                for sender in self.senders:
                    sender.start()
                log.info("listening on %s:%d as %s", self.config.bind, receiver.port, self.config.aet)
                while not self._over.wait(_TICK_S):
                    self.tick()
            finally:
                receiver.close()
                if page is not None:
                    page.close()
                for sender in self.senders:
                    sender.stop()
                if self._worker is not None:
                    self._worker.process.kill()
                    self._worker.process.wait()

    def stop(self) -> None:
        """End soon."""
        self._over.set()

    def tick(self) -> None:
        """Do what is due; each step can be interrupted."""
        self._look_at_worker()
        self._take_complete()
        self._start_worker()
        self._settle_sent()
        now = time.monotonic()
        if now >= self._clean_due:
            self._forget()
            self._clean_due = now + min(3600.0, _DAY_S * min(self.config.keep_days, self.config.keep_failed_days))
        if now >= self._health_due:
            write_health(self.spool, self.health())
            self._health_due = now + _HEALTH_S

    def health(self) -> Health:
        """How it stands."""
        return health_of(self.spool, self.last_error, {one.destination.name: one.health for one in self.senders})

    def _take_complete(self) -> None:
        for study in self.spool.studies(RECEIVED):
            images = self.spool.images(RECEIVED, study)
            if not images.is_dir() or not any(images.iterdir()):  # A kill came before its first object.
                if images.parent.stat().st_mtime < time.time() - self.config.quiet_s:
                    self.spool.remove_empty(study)
                continue
            if self.spool.waiting_s(study) < self._wait_s(study) or self.spool.folder(RUNNING, study).exists():
                continue
            with self._senders_idle() as idle:
                if idle and not self.spool.take(study, self.made_from):
                    log.info("study %s came again and has its answer", study)

    def _wait_s(self, study: str) -> float:
        """How long no further object of a study must come."""
        if self.spool.is_asked_for(study):
            return 0.0
        if self.spool.is_cut_off(study):
            return self.config.aborted_s
        return max(self.config.quiet_s, self.config.silent_s if self.spool.is_arriving(study) else 0.0)

    def _start_worker(self) -> None:
        if self._worker is not None:
            return
        for study in self.spool.studies(RUNNING):
            record = self.spool.record(RUNNING, study)
            if record.outcome != "open":  # A kill came between the worker's end and the move.
                self.spool.move(study, RUNNING, SENDING)
                continue
            self._worker = self._started(study, record.attempts)
            return

    def _started(self, study: str, attempts: int) -> _Worker:
        folder = self.spool.folder(RUNNING, study)
        instead: tuple[Outcome, str] = ("open", "")
        last = attempts >= MOST_ATTEMPTS
        if last:
            instead = "failed", _BROKEN
        elif self.spool.was_aborted(study):
            instead = "incomplete", _CUT_OFF
        job = Job(folder, self.models, self.predict, self.made_from, self.config.report_unanswered, instead)
        with (folder / "worker.log").open("ab") as output:
            process = subprocess.Popen(_WORKER, stdin=subprocess.PIPE, stdout=output, stderr=output)  # noqa: S603
        assert process.stdin is not None  # noqa: S101 - it was asked for
        try:
            process.stdin.write(job.to_json())
            process.stdin.flush()
        except BrokenPipeError:  # Its end is seen at the next look.
            pass
        log.info("study %s: %d objects, worker started", study, len(list((folder / study).iterdir())))
        return _Worker(study, process, time.monotonic(), last)

    def _look_at_worker(self) -> None:
        worker = self._worker
        if worker is None:
            return
        code = worker.process.poll()
        if code is None:
            if time.monotonic() - worker.started > self.config.answer_s:
                worker.process.kill()
            return
        self._worker = None
        if worker.process.stdin is not None:
            worker.process.stdin.close()
        study, seconds = worker.study, time.monotonic() - worker.started
        record = self.spool.record(RUNNING, study)
        if record.outcome != "open":
            log.info("study %s: %s after %.1f s", study, record.outcome, seconds)
            self.spool.move(study, RUNNING, SENDING)
        elif worker.last:
            self._error(f"study {study}: failed, and no report of it could be made")
            self.spool.move(study, RUNNING, FAILED)
        else:
            self._error(f"study {study}: its worker ended with {code} after {seconds:.1f} s (worker.log says why)")
            self.spool.write_record(RUNNING, study, record.model_copy(update={"attempts": record.attempts + 1}))

    def _settle_sent(self) -> None:
        """Results that every destination has taken are done; those that one does not take for days have failed."""
        studies = self.spool.studies(SENDING)
        if not studies:
            return
        with self._senders_idle() as idle:
            for study in studies if idle else ():
                failed = self.spool.record(SENDING, study).outcome == "failed"
                try:
                    sent = all(sender.has_all(study) for sender in self.senders)
                except InputError:
                    self._answer_again(study)
                    continue
                if sent:
                    self.spool.move(study, SENDING, FAILED if failed else DONE)
                elif time.time() - self.spool.folder(SENDING, study).stat().st_mtime > self.config.send_days * _DAY_S:
                    self._error(f"study {study}: a destination did not take its results in time")
                    self.spool.move(study, SENDING, FAILED)

    def _answer_again(self, study: str) -> None:
        """A result of a study is damaged on disk: a worker makes it again, with the same UID."""
        self._error(f"study {study}: a result is damaged on disk, and is made again")
        record = self.spool.record(SENDING, study)
        again = record.model_copy(update={"outcome": "open", "attempts": record.attempts + 1})
        self.spool.write_record(SENDING, study, again)
        self.spool.move(study, SENDING, RUNNING)

    @contextmanager
    def _senders_idle(self) -> Iterator[bool]:
        """Hold every sender for a moment; gives whether that succeeded."""
        with ExitStack() as held:
            for sender in self.senders:
                if not sender.busy.acquire(timeout=_BUSY_S):
                    yield False
                    return
                held.callback(sender.busy.release)
            yield True

    def _forget(self) -> None:
        for state, days in ((DONE, self.config.keep_days), (FAILED, self.config.keep_failed_days)):
            for study in self.spool.studies(state):
                if time.time() - self.spool.folder(state, study).stat().st_mtime > days * _DAY_S:
                    self.spool.remove(state, study)

    def _error(self, message: str) -> None:
        self.last_error = message
        log.error("%s", message)


def listen(spool: str | Path, models: str | Path, config: ListenConfig, predict: PredictConfig) -> ListenResult:
    """Receive studies and answer them, until a signal ends the process.

    Args:
        spool: folder of the queue, made where it is not there; one node at a time holds it.
        models: a bundle, or a folder of models in the published format.
        config: of the node.
        predict: how each study is predicted.

    Raises:
        ConfigError: the address cannot be listened on, or TLS cannot be set up.
        ModelError: no usable models.
    """
    if not config.send_to:
        log.warning("no --send-to given: results stay in %s", Path(spool) / DONE)
    if config.bind not in {"127.0.0.1", "::1", "localhost"} and not (config.tls_authorities or config.peers):
        log.warning("any machine that reaches %s may send: name peers, and use TLS or a firewall", config.bind)
    # pydicom's warnings repeat values of elements, and silencing them for a moment does not hold between threads.
    warnings.simplefilter("ignore")
    Node(Path(spool), Path(models), config, predict).run()
    return ListenResult(Path(spool))
