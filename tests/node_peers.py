"""Peers of a DICOM node, in this process: an archive that keeps what it is sent, and senders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import AE, AllStoragePresentationContexts, evt


class Archive:
    """Takes every object; counts how often each UID came."""

    def __init__(self, port: int = 0) -> None:
        self.objects: dict[str, Any] = {}
        self.times: dict[str, int] = {}
        self.status = 0x0000
        entity = AE(ae_title="ARCHIVE")
        entity.supported_contexts = AllStoragePresentationContexts
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        self.port: int = self._server.socket.getsockname()[1]

    @property
    def address(self) -> str:
        return f"pacs=ARCHIVE@127.0.0.1:{self.port}"

    def _store(self, event: Any) -> int:
        if self.status == 0:
            uid = str(event.request.AffectedSOPInstanceUID)
            self.objects[uid] = event.dataset
            self.times[uid] = self.times.get(uid, 0) + 1
        return self.status

    def close(self) -> None:
        if self._server in self._server.ae._servers:
            self._server.shutdown()


def associate(port: int, *, calling: str = "SCANNER", called: str = "FVV", tls: Any = None) -> Any:
    entity = AE(ae_title=calling)
    entity.requested_contexts = AllStoragePresentationContexts[:120]
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.4.1")
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.4")
    entity.add_requested_context("1.2.840.10008.1.1")
    return entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls)


def send(port: int, files: Iterable[Path], **about: Any) -> list[int]:
    """Send objects over one association; gives the status of each."""
    association = associate(port, **about)
    assert association.is_established
    codes = [association.send_c_store(pydicom.dcmread(file)).Status for file in files]
    association.release()
    return codes
