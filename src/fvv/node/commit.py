"""Storage commitment (PS3.4 annex J): a sender asks whether its objects are on disk, and so says that all are sent."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, build_role

from fvv.config import ListenConfig
from fvv.io.dicom.find import DAMAGE
from fvv.node.objects import IMAGES
from fvv.node.send import CONNECT_S, Destination
from fvv.node.spool import Spool
from fvv.node.tls import tls_context

log = logging.getLogger(__name__)
PUSH_MODEL = "1.2.840.10008.1.20.1"
_INSTANCE = f"{PUSH_MODEL}.1"
_SUCCESS, _INVALID = 0x0000, 0x0115
_ALL_HELD, _SOME_NOT = 1, 2
"""Types of the report (PS3.4, table J.3-2)."""
_NOT_HELD = 0x0112
"""No such object instance (PS3.3, C.14.1.1)."""
_PAUSE_S = 1.0
"""For the sender to end its association, where it awaits the report on another."""


class Commitment:
    """Answers requests: to a sender that is also a destination on an association of its own, else on the sender's."""

    def __init__(self, spool: Spool, config: ListenConfig) -> None:
        self._spool, self._aet = spool, config.aet
        self._destinations = {one.aet: one for one in map(Destination.parse, config.send_to)}
        self._context = tls_context(config, server=False)

    def asked(self, event: Any) -> tuple[int, None]:
        """Take an N-ACTION: studies of which it names all objects are complete. The report follows."""
        try:
            request = event.action_information
            objects = {str(item.ReferencedSOPInstanceUID): item for item in request.ReferencedSOPSequence}
            images = [uid for uid, item in objects.items() if item.ReferencedSOPClassUID in IMAGES]
            held = self._spool.commit(objects, images)
            report = Dataset()
            report.TransactionUID = request.TransactionUID
            report.ReferencedSOPSequence = [_reference(objects[uid]) for uid in objects if uid in held]
            lost = [_reference(objects[uid], _NOT_HELD) for uid in objects if uid not in held]
        except DAMAGE:
            return _INVALID, None
        if lost:
            report.FailedSOPSequence = lost
        log.info("storage commitment: %d of %d objects are here", len(held), len(objects))
        about = (event.assoc, report, _SOME_NOT if lost else _ALL_HELD)
        threading.Thread(target=self._report, args=about, name="commitment", daemon=True).start()
        return _SUCCESS, None

    def _report(self, association: Any, report: Dataset, kind: int) -> None:
        try:
            there = self._destinations.get(str(association.requestor.ae_title).strip())
            own = self._associate(there) if there is not None else association
            time.sleep(0 if there is not None else _PAUSE_S)
            status, _ = own.send_n_event_report(report, kind, PUSH_MODEL, _INSTANCE)
            taken = getattr(status, "Status", None) == _SUCCESS
            if there is not None:
                own.release()
        except (RuntimeError, ValueError, OSError):  # No association (any more), or no context for it.
            taken = False
        if not taken:
            log.warning("the report of a storage commitment was not taken: name its sender with --send-to")

    def _associate(self, there: Destination) -> Any:
        entity = AE(ae_title=self._aet)
        entity.connection_timeout = CONNECT_S
        entity.add_requested_context(PUSH_MODEL)
        tls = None if self._context is None else (self._context, there.host)
        role = build_role(PUSH_MODEL, scp_role=True)
        return entity.associate(there.host, there.port, ae_title=there.aet, ext_neg=[role], tls_args=tls)


def _reference(item: Dataset, reason: int | None = None) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = item.ReferencedSOPClassUID
    reference.ReferencedSOPInstanceUID = item.ReferencedSOPInstanceUID
    if reason is not None:
        reference.FailureReason = reason
    return reference
