"""Values that wait in a temporary file, so that those of a large cohort do not fill the memory."""

from __future__ import annotations

import errno
import io
import logging
import os
import pickle
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from tempfile import TemporaryFile
from typing import BinaryIO, Generic, TypeVar, overload

Value = TypeVar("Value")
log = logging.getLogger(__name__)
_IN_MEMORY_BYTES = 2**20
"""What is smaller needs no file; chosen here: some hundred results of examinations."""


class Spool(Generic[Value]):
    """Takes values one after another, and gives them back by their numbers.

    The file has no name that others could see, and is gone with the last object that reads it. Where there is no room
    for it, the values stay in memory: no result is lost for a full temporary folder.
    """

    def __init__(self) -> None:
        self._file: BinaryIO = io.BytesIO()
        self._most_in_memory = _IN_MEMORY_BYTES
        self._ends = array("Q", [0])

    def __del__(self) -> None:
        self._file.close()

    def add(self, value: Value) -> int:
        """Keep a value that can be pickled; gives its number, from 0."""
        content = zlib.compress(pickle.dumps(value), 1)
        try:
            if isinstance(self._file, io.BytesIO) and self._ends[-1] + len(content) > self._most_in_memory:
                # Without a buffer, which would report a full disk later, in `get`.
                self._move_to(TemporaryFile(buffering=0))  # noqa: SIM115  (closed by __del__)
            self._append(content)
        except OSError as error:
            log.warning("results wait in memory: no room in the temporary folder (TMPDIR): %s", error.strerror or error)
            self._most_in_memory = sys.maxsize
            self._move_to(io.BytesIO())
            self._append(content)
        self._ends.append(self._ends[-1] + len(content))
        return len(self._ends) - 2

    def _append(self, content: bytes) -> None:
        self._file.seek(self._ends[-1])
        _write(self._file, content)

    def _move_to(self, other: BinaryIO) -> None:
        try:
            self._file.seek(0)
            while chunk := self._file.read(_IN_MEMORY_BYTES):
                _write(other, chunk)
        except OSError:
            other.close()
            raise
        self._file.close()
        self._file = other

    def get(self, number: int) -> Value:
        """The value of a number, as it was when it was added."""
        begin, end = self._ends[number : number + 2]
        self._file.seek(begin)
        value: Value = pickle.loads(zlib.decompress(self._file.read(end - begin)))  # noqa: S301  (written by `add`)
        return value


class Spooled(Sequence[Value]):
    """Values of a spool in an order of their own, read when they are asked for.

    Args:
        spool: that holds them.
        numbers: of the values, in order.
    """

    def __init__(self, spool: Spool[Value], numbers: Iterable[int]) -> None:
        self._spool, self._numbers = spool, array("Q", numbers)

    @classmethod
    def of(cls, values: Iterable[Value]) -> Spooled[Value]:
        """These values, in this order; none of them stays in memory."""
        spool: Spool[Value] = Spool()
        return cls(spool, map(spool.add, values))

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Value: ...

    @overload
    def __getitem__(self, index: slice) -> Spooled[Value]: ...

    def __getitem__(self, index: int | slice) -> Value | Spooled[Value]:
        if isinstance(index, slice):
            return Spooled(self._spool, self._numbers[index])
        return self._spool.get(self._numbers[index])

    def __iter__(self) -> Iterator[Value]:
        return map(self._spool.get, self._numbers)


def _write(file: BinaryIO, content: bytes) -> None:
    if file.write(content) < len(content):  # Without a buffer, only what fits is written.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
