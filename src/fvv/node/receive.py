"""The storage service: C-ECHO and C-STORE (PS3.4 annexes A and B). What is confirmed lies on disk."""

from __future__ import annotations

import logging
import secrets
import shutil
import ssl
import weakref
from typing import Any

from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.pdu import P_DATA_TF

from fvv.config import ListenConfig
from fvv.errors import ConfigError, InputError
from fvv.node.objects import IMAGES, facts_of
from fvv.node.spool import Spool

log = logging.getLogger(__name__)
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
"""Status of a C-STORE (PS3.4, table B.2-1)."""
MOST_ASSOCIATIONS = 64
"""At a time; further ones are refused, and their senders come again."""
_MB = 10**6
_VERIFICATION = "1.2.840.10008.1.1"


class Receiver:
    """Listens until it is closed.

    Raises:
        ConfigError: the address cannot be listened on.
    """

    def __init__(self, spool: Spool, config: ListenConfig, context: ssl.SSLContext | None = None) -> None:
        self._spool, self._config = spool, config
        self._closed = False
        self._bytes: dict[str, int] = {}
        self._names: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        # Private objects of every maker belong to a study: refusing them would end the transfer of all of it.
        _config.UNRESTRICTED_STORAGE_SERVICE = True
        entity = AE(ae_title=config.aet)
        entity.supported_contexts = AllStoragePresentationContexts
        entity.add_supported_context(_VERIFICATION)
        entity.require_called_aet = True
        entity.require_calling_aet = list(config.peers)
        entity.maximum_associations = MOST_ASSOCIATIONS
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_ACCEPTED, lambda event: spool.begin(self._name(event.assoc))),
            (evt.EVT_RELEASED, lambda event: self._end(event, well=True)),
            (evt.EVT_ABORTED, lambda event: self._end(event, well=False)),
            (evt.EVT_CONN_CLOSE, lambda event: self._end(event, well=False)),
            (
                evt.EVT_REJECTED,
                lambda _: log.warning("a sender was refused: unknown application entity title"),
            ),
            (evt.EVT_PDU_RECV, self._bound),
        ]
        try:
            server: Any = entity.start_server(
                (config.bind, config.port), block=False, evt_handlers=handlers, ssl_context=context
            )
        except OSError as error:
            hint = "another process uses the port, or the address is not of this machine"
            raise ConfigError(f"cannot listen on {config.bind}:{config.port}: {error.strerror}", hint=hint) from error
        self._server = server
        self.port: int = server.socket.getsockname()[1]

    def close(self) -> None:
        """Stop listening; associations that go on are cut off, and their senders come again."""
        self._closed = True
        self._server.shutdown()

    def _store(self, event: Any) -> int:
        self._bytes.pop(self._name(event.assoc), None)
        if event.request.AffectedSOPClassUID not in IMAGES:
            return SUCCESS
        file = self._spool.incoming()
        try:
            if shutil.disk_usage(self._spool.root).free < self._config.min_free_mb * _MB:
                log.error("an object was refused: the disk of the spool is full")
                return OUT_OF_RESOURCES
            file.write_bytes(event.encoded_dataset())
            facts = facts_of(file, self._config)
            if facts.wanted:
                self._spool.put(file, facts, self._name(event.assoc))
        except InputError as error:
            # What a library says of an element may repeat its value: only what is said here reaches the log.
            said = error.message if error.message.startswith(("cut off", "states no")) else "not readable as DICOM"
            log.warning("an object was refused: %s", said)
            return CANNOT_UNDERSTAND
        except OSError as error:
            log.error("an object was refused: %s", error.strerror)  # noqa: TRY400 - one line
            return OUT_OF_RESOURCES
        finally:
            file.unlink(missing_ok=True)
        return SUCCESS

    def _end(self, event: Any, *, well: bool) -> None:
        self._bytes.pop(self._name(event.assoc), None)
        if well or not self._closed:  # What this end cuts off, its sender did not abort.
            self._spool.end(self._name(event.assoc), well=well)

    def _name(self, association: Any) -> str:
        """Of an association; no other, also not of an earlier process, has it."""
        return self._names.setdefault(association, secrets.token_hex(8))

    def _bound(self, event: Any) -> None:
        """Close a connection on which an object grows beyond the bound, before it fills the memory."""
        if not isinstance(event.pdu, P_DATA_TF):
            return
        name = self._name(event.assoc)
        self._bytes[name] = self._bytes.get(name, 0) + event.pdu.pdu_length
        if self._bytes[name] > self._config.max_object_mb * _MB:
            log.error("an association was ended: an object of over %g MB", self._config.max_object_mb)
            event.assoc.dul.socket.close()


def tls_context(config: ListenConfig, *, server: bool) -> ssl.SSLContext | None:
    """TLS as PS3.15 B.12 (BCP 195) asks: version 1.2 or later, and with authorities both sides prove who they are.

    Raises:
        ConfigError: a file is missing or holds no certificate or key.
    """
    if not (config.tls_certificate if server else config.send_tls):
        return None
    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    try:
        context = ssl.create_default_context(purpose, cafile=config.tls_authorities or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.tls_certificate:
            context.load_cert_chain(config.tls_certificate, config.tls_key or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"TLS cannot be set up: {error}", hint="name PEM files with listen.tls_*") from error
    if server and config.tls_authorities:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
