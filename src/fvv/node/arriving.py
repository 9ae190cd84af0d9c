"""Objects on their way from a sender: their data go to disk as they arrive, so that none is ever held in memory.

pynetdicom collects an object in `message.data_set`, a `BytesIO`. `Arriving` takes its part, and writes to a file.
"""

from __future__ import annotations

import errno
import io
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.dataset import Dataset, FileMetaDataset
from pynetdicom.dsutils import create_file_meta, encode_file_meta

LARGEST_PDU = 2**20
"""Bytes of one protocol data unit. Senders are told to send 16 kB at most; some send more."""
LARGEST_MESSAGE = 2**22
"""Bytes of one message that is no object. A storage commitment of 30,000 objects stays under it."""


class Arriving(io.BytesIO):
    """The data of one object.

    Nothing is raised while they arrive: once the bound is passed or the disk is full, the rest is dropped, so that the
    sender gets the status of this object, and goes on with the next.

    Args:
        file: to write to; None: drop all.
        meta: of the file.
        most: bytes that are accepted.

    Attributes:
        error: why the file is not whole; None as long as it is.
    """

    def __init__(self, file: Path | None, meta: FileMetaDataset, most: float) -> None:
        super().__init__()
        self.file, self._most, self._size = file, most, 0
        self.error: OSError | None = None
        self._stream: BinaryIO | None = None
        if file is None:
            return
        weakref.finalize(self, file.unlink, missing_ok=True)  # Its association may end before it is looked at.
        try:
            self._stream = file.open("wb")
            self._stream.write(b"\0" * 128 + b"DICM")
            self._stream.write(encode_file_meta(meta))
        except OSError as error:
            self.refuse(error)

    def write(self, data: Any, /) -> int:
        """Take the next part."""
        self._size += len(data)
        if self._size > self._most and self.error is None:
            self.refuse(OSError(errno.EFBIG, f"an object of over {self._most / 10**6:g} MB"))
        if self._stream is not None:
            try:
                self._stream.write(data)
            except OSError as error:
                self.refuse(error)
        return len(data)

    def finish(self) -> None:
        """The object is whole.

        Raises:
            OSError: it is not on disk.
        """
        stream, self._stream = self._stream, None
        if self.error is None and stream is not None:
            try:
                stream.close()
            except OSError as error:
                self.refuse(error)
        if self.error is not None:
            raise self.error

    def refuse(self, error: OSError) -> None:
        """Drop what is there, at once, and all that comes."""
        self.error = self.error or error
        self.discard()

    def discard(self) -> None:
        """Remove the file, where it was not taken."""
        stream, self._stream = self._stream, None
        with suppress(OSError):
            if stream is not None:
                stream.close()
        if self.file is not None:
            self.file.unlink(missing_ok=True)


def meta_of(command: Dataset, transfer_syntax: Any) -> FileMetaDataset:
    """Of the file of an object, from the command that announces it."""
    return create_file_meta(
        sop_class_uid=command.AffectedSOPClassUID,
        sop_instance_uid=command.AffectedSOPInstanceUID,
        transfer_syntax=transfer_syntax,
    )


def refuse_large_units(association: Any) -> None:
    """Have an association closed that announces a unit of over `LARGEST_PDU`, before it is read into memory."""
    socket = association.dul.socket
    receive = socket.recv

    def bounded(n: int) -> Any:
        if n > LARGEST_PDU:
            raise OSError(errno.EMSGSIZE, "a protocol data unit beyond the bound")
        return receive(n)

    socket.recv = bounded
