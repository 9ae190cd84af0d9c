"""Results on their way: C-STORE to each destination, again and again with growing pauses until it takes them."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE

from fvv.errors import FvvError, InputError
from fvv.io.dicom.find import refusing_damage
from fvv.node.spool import SENDING, Spool
from fvv.schemas.node import DestinationHealth

log = logging.getLogger(__name__)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 900.0
"""After the first failure, doubled by each further one. Chosen here: soon after a restart of the archive, and no load
on one that is down for the night."""
CONNECT_S = 10.0
_LOOK_S = 1.0
"""Between looks for new results."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where results go: NAME=AET@HOST:PORT."""

    name: str
    aet: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Of a text that the settings have checked."""
        name, _, address = text.partition("=")
        aet, _, place = address.rpartition("@")
        host, _, port = place.rpartition(":")
        return cls(name, aet, host, int(port))


@dataclass
class Pause:
    """When to try again."""

    failures: int = 0
    until: float = 0.0

    def fail(self) -> None:
        """One more failure: wait longer."""
        self.until = time.monotonic() + min(FIRST_PAUSE_S * 2**self.failures, LONGEST_PAUSE_S)
        self.failures += 1

    @property
    def over(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self.until


@dataclass
class Sender:
    """Brings the results of all studies to one destination, in a thread of its own.

    Attributes:
        busy: held while a study is being sent: it must not move meanwhile.
    """

    spool: Spool
    destination: Destination
    our_aet: str
    context: ssl.SSLContext | None = None
    busy: threading.Lock = field(default_factory=threading.Lock)
    health: DestinationHealth = field(default_factory=DestinationHealth)
    _pause: Pause = field(default_factory=Pause)
    _refused: dict[str, Pause] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name=f"send-{self.destination.name}", daemon=True).start()

    def stop(self) -> None:
        """End soon."""
        self._over.set()

    def remaining(self, study: str) -> list[Path]:
        """Objects of a study that the destination has not taken.

        Raises:
            InputError: one is damaged.
        """
        found = []
        for file in self.spool.outbox(study):
            with refusing_damage(file):
                header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
                if not self.spool.is_sent(study, self.destination.name, str(header.SOPInstanceUID)):
                    found.append(file)
        return found

    def has_all(self, study: str) -> bool:
        """Whether the destination has taken all results of a study."""
        return not self.remaining(study)

    def look(self) -> None:
        """Send what waits, if it is time."""
        studies = self.spool.studies(SENDING)
        self._refused = {study: pause for study, pause in self._refused.items() if study in studies}
        for study in studies:
            refused = self._refused.setdefault(study, Pause())
            if self._over.is_set() or not self._pause.over:
                return
            if not refused.over:
                continue
            with self.busy:
                if not self.spool.folder(SENDING, study).exists():
                    continue
                try:
                    objects = [_read(file) for file in self.remaining(study)]
                    if objects:
                        self._send(study, objects)
                    done = self.has_all(study)
                except InputError:  # A damaged object: the node has the study answered again, the others go on.
                    continue
                except (FvvError, OSError) as error:
                    self._failed(type(error).__name__)
                    continue
                if done:
                    self._refused.pop(study, None)

    def _run(self) -> None:
        while not self._over.wait(_LOOK_S):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - a study that moved on, a library: the thread must live on
                self._failed(type(error).__name__)

    def _send(self, study: str, objects: Sequence[Any]) -> None:
        entity = AE(ae_title=self.our_aet)
        entity.connection_timeout = CONNECT_S
        for uid in dict.fromkeys(dataset.SOPClassUID for dataset in objects):
            entity.add_requested_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        there = self.destination
        tls = None if self.context is None else (self.context, there.host)
        association = entity.associate(there.host, there.port, ae_title=there.aet, tls_args=tls)
        if not association.is_established:
            association.abort() if association.is_alive() else None
            certificate = ", or one of the two certificates is not accepted" if tls is not None else ""
            self._failed(f"no association: it is down, or does not know this node{certificate}")
            return
        refused = ""
        try:
            for dataset in objects:
                refused = self._store(association, study, dataset) or refused
        finally:
            association.release() if association.is_established else association.abort()
        if refused:
            self._refused[study].fail()
            self._note(refused)
            log.warning("study %s: %s refused a result: %s", study, there.name, refused)
        else:
            self._pause = Pause()
            self.health = DestinationHealth()

    def _store(self, association: Any, study: str, dataset: Any) -> str:
        """Send one object; gives why it was not taken, "" where it was."""
        try:
            status = association.send_c_store(dataset)
        except (RuntimeError, ValueError) as error:  # The association is over, or no context for this class.
            return f"{type(error).__name__}: {error}"
        code = getattr(status, "Status", None)
        if code is None:
            return "no reply"
        if code == 0 or code >> 12 == 0xB:  # Success, or a warning: stored all the same (PS3.4 B.2.3).
            self.spool.note_sent(study, self.destination.name, str(dataset.SOPInstanceUID))
            warned = f" with a warning, status 0x{code:04X}" if code else ""
            log.info("study %s: %s has taken a %s object%s", study, self.destination.name, dataset.Modality, warned)
            return ""
        return f"status 0x{code:04X}"

    def _failed(self, reason: str) -> None:
        self._pause.fail()
        self._note(reason)
        log.warning("destination %s: %s; failure %d", self.destination.name, reason, self._pause.failures)

    def _note(self, reason: str) -> None:
        self.health = DestinationHealth(failures=self.health.failures + 1, last_error=reason)


def _read(file: Path) -> Any:
    with refusing_damage(file):
        return pydicom.dcmread(file)
