"""The storage service: C-ECHO and C-STORE (PS3.4 annexes A and B). What is confirmed lies on disk."""

from __future__ import annotations

import errno
import logging
import secrets
import shutil
import ssl
import threading
import weakref
from typing import Any

from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu import P_DATA_TF

from fvv.config import ListenConfig
from fvv.errors import ConfigError, InputError
from fvv.node.arriving import LARGEST_MESSAGE, Arriving, meta_of, refuse_large_units
from fvv.node.commit import PUSH_MODEL, Commitment
from fvv.node.objects import IMAGES, facts_of
from fvv.node.spool import Spool

log = logging.getLogger(__name__)
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
"""Status of a C-STORE (PS3.4, table B.2-1)."""
MOST_ASSOCIATIONS = 64
"""At a time; further ones are refused, and their senders come again."""
_PATIENCE_S = 60.0
"""After which an association that is silent for longer than `silent_s` is ended, and its place is free for another."""
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
        self._arriving: dict[str, Arriving] = {}
        self._header = threading.Lock()
        self._names: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        # Private objects of every maker belong to a study: refusing them would end the transfer of all of it.
        _config.UNRESTRICTED_STORAGE_SERVICE = True
        entity = AE(ae_title=config.aet)
        entity.supported_contexts = AllStoragePresentationContexts
        entity.add_supported_context(_VERIFICATION)
        entity.add_supported_context(PUSH_MODEL)
        entity.network_timeout = config.silent_s + _PATIENCE_S
        entity.require_called_aet = True
        entity.require_calling_aet = list(config.peers)
        entity.maximum_associations = MOST_ASSOCIATIONS
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, lambda event: refuse_large_units(event.assoc)),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, Commitment(spool, config).asked),
            (evt.EVT_ACCEPTED, lambda event: spool.begin(self._name(event.assoc))),
            (evt.EVT_RELEASED, lambda event: self._end(event, well=True)),
            (evt.EVT_ABORTED, lambda event: self._end(event, well=False)),
            (evt.EVT_CONN_CLOSE, lambda event: self._end(event, well=False)),
            (
                evt.EVT_REJECTED,
                lambda _: log.warning("a sender was refused: unknown application entity title"),
            ),
            (evt.EVT_PDU_RECV, self._part),
            (evt.EVT_DIMSE_RECV, self._whole),
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
        arriving = event.request.DataSet
        if not isinstance(arriving, Arriving):  # All of it came with its command.
            arriving = self._to_disk(event.request, event.context.transfer_syntax)
            arriving.write(event.request.DataSet.getvalue())
        if arriving.file is None:
            return SUCCESS
        try:
            arriving.finish()
            with self._header:  # One at a time: a header may be long, too.
                facts = facts_of(arriving.file, self._config)
            if facts.wanted:
                self._spool.put(arriving.file, facts, self._name(event.assoc))
        except InputError as error:
            # What a library says of an element may repeat its value: only what is said here reaches the log.
            said = error.message if error.message.startswith(("cut off", "states no")) else "not readable as DICOM"
            log.warning("an object was refused: %s", said)
            return CANNOT_UNDERSTAND
        except OSError as error:
            log.error("an object was refused: %s", error.strerror)  # noqa: TRY400 - one line
            return CANNOT_UNDERSTAND if error.errno == errno.EFBIG else OUT_OF_RESOURCES
        finally:
            arriving.discard()
        return SUCCESS

    def _to_disk(self, command: Any, transfer_syntax: Any) -> Arriving:
        """Where an object goes that begins to arrive. What is no image goes nowhere."""
        kept = command.AffectedSOPClassUID in IMAGES
        meta = meta_of(command, transfer_syntax)
        arriving = Arriving(self._spool.incoming() if kept else None, meta, self._config.max_object_mb * _MB)
        try:
            if kept and shutil.disk_usage(self._spool.root).free < self._config.min_free_mb * _MB:
                arriving.refuse(OSError(errno.ENOSPC, "the disk of the spool is full"))
        except OSError as error:
            arriving.refuse(error)
        return arriving

    def _end(self, event: Any, *, well: bool) -> None:
        self._bytes.pop(self._name(event.assoc), None)
        if (arriving := self._arriving.pop(self._name(event.assoc), None)) is not None:
            arriving.discard()
        if well or not self._closed:  # What this end cuts off, its sender did not abort.
            aborted = not well and not event.assoc.dul.idle_timer_expired()
            self._spool.end(self._name(event.assoc), well=well, aborted=aborted)

    def _whole(self, event: Any) -> None:
        """A message has arrived; that of an object holds it now, until `_store` takes it."""
        self._bytes.pop(self._name(event.assoc), None)
        self._arriving.pop(self._name(event.assoc), None)

    def _name(self, association: Any) -> str:
        """Of an association; no other, also not of an earlier process, has it."""
        return self._names.setdefault(association, secrets.token_hex(8))

    def _part(self, event: Any) -> None:
        """A unit of data arrived: those of an object go to disk, others fill the memory up to a bound."""
        if not isinstance(event.pdu, P_DATA_TF):
            return
        name, message = self._name(event.assoc), event.assoc.dimse.message
        if name in self._arriving:
            return
        self._bytes[name] = self._bytes.get(name, 0) + event.pdu.pdu_length
        if self._bytes[name] > LARGEST_MESSAGE:
            log.error("an association was ended: a message of over %d MB", LARGEST_MESSAGE // 2**20)
            event.assoc.dul.socket.close()
        elif isinstance(message, C_STORE_RQ) and message.context_id is not None and message.data_set is not None:
            syntax = event.assoc._accepted_cx[message.context_id].transfer_syntax[0]
            arriving = self._to_disk(message.command_set, syntax)
            arriving.write(message.data_set.getvalue())
            self._arriving[name] = message.data_set = arriving
