"""Peers of a DICOM node, in this process: an archive that keeps what it is sent, and senders."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pydicom
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification

PATIENCE_S = 300.0
"""For a reply that comes at once where the machine is idle."""


class Archive:
    """Takes every object; counts how often each UID came.

    Args:
        tls: a context for encrypted connections alone.
    """

    def __init__(self, port: int = 0, *, aet: str = "ARCHIVE", tls: ssl.SSLContext | None = None) -> None:
        self.objects: dict[str, Any] = {}
        self.times: dict[str, int] = {}
        self.status = 0x0000
        entity = AE(ae_title=aet)
        entity.supported_contexts = AllStoragePresentationContexts
        entity.require_called_aet = True
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=tls)
        self.port: int = self._server.socket.getsockname()[1]
        self._aet = aet

    @property
    def address(self) -> str:
        return f"pacs={self._aet}@127.0.0.1:{self.port}"

    def _store(self, event: Any) -> int:
        if self.status == 0 or self.status >> 12 == 0xB:  # A warning: stored all the same.
            uid = str(event.request.AffectedSOPInstanceUID)
            self.objects[uid] = event.dataset
            self.times[uid] = self.times.get(uid, 0) + 1
        return self.status

    def close(self) -> None:
        if self._server in self._server.ae._servers:
            self._server.shutdown()


def associate(port: int, *, calling: str = "SCANNER", called: str = "FVV", tls: Any = None) -> Any:
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = PATIENCE_S
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


class RawPeer:
    """A sender of one class of objects without a library behind it: it sends what no library would."""

    def __init__(self, port: int, sop_class: str) -> None:
        about = A_ASSOCIATE()
        about.application_context_name = "1.2.840.10008.3.1.1.1"
        about.calling_ae_title, about.called_ae_title = "SCANNER", "FVV"
        length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
        length.maximum_length_received, implementation.implementation_class_uid = 16382, UID("1.2.3")
        context = build_context(sop_class, ExplicitVRLittleEndian)
        context.context_id = 1
        about.user_information, about.presentation_context_definition_list = [length, implementation], [context]
        self._sop_class = sop_class
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.send(A_ASSOCIATE_RQ(about).encode())
        self.is_established = self._unit()[0] == 2

    def send(self, content: bytes) -> None:
        """As it is."""
        self._socket.sendall(content)

    def begin(self) -> None:
        """The command of an object."""
        request, message = C_STORE(), C_STORE_RQ()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = self._sop_class, "1.2.3.4.5"
        request.DataSet = BytesIO(b"0")
        message.primitive_to_message(request)
        self.send(P_DATA_TF(next(iter(message.encode_msg(1, 16382)))).encode())

    def part(self, data: bytes, control: int = 0) -> None:
        """A P-DATA-TF unit with one value (PS3.8, 9.3.5)."""
        self.send(struct.pack(">BBLLBB", 4, 0, len(data) + 6, len(data) + 2, 1, control) + data)

    def store(self, parts: Iterable[bytes]) -> int:
        """Send an object part by part; gives its status."""
        self.object(parts)
        return self.status()

    def object(self, parts: Iterable[bytes]) -> None:
        """Send an object part by part, without waiting for its status."""
        self.begin()
        for part in parts:
            self.part(part)
        self.part(b"", control=2)

    def status(self) -> int:
        """The next one that comes."""
        unit, reply = P_DATA_TF(), DIMSEMessage()
        unit.decode(self._unit())
        reply.decode_msg(unit.to_primitive())
        return int(reply.command_set.Status)

    @property
    def is_closed(self) -> bool:
        """Whether the other side has ended the connection."""
        try:
            return not self._socket.recv(1)
        except OSError:
            return True

    def close(self) -> None:
        """Without a word."""
        self._socket.close()

    def _unit(self) -> bytes:
        head = self._read(6)
        return head + self._read(int.from_bytes(head[2:], "big"))

    def _read(self, n: int) -> bytes:
        content = b""
        while len(content) < n and (more := self._socket.recv(n - len(content))):
            content += more
        return content


class Memory:
    """How much the memory of this process grew at most."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._most = self._process.memory_info().rss

    def look(self) -> None:
        """How much it is now."""
        self._most = max(self._most, self._process.memory_info().rss)

    def over(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """Look at each of some parts."""
        for part in parts:
            self.look()
            yield part
        self.look()

    @property
    def growth_mb(self) -> float:
        """At most, so far."""
        return (self._most - self._before) / 2**20
