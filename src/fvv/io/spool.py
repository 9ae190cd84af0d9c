"""Values that wait in a temporary file, so that those of a large cohort do not fill the memory."""

from __future__ import annotations

import pickle
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import Generic, TypeVar, overload

Value = TypeVar("Value")
_IN_MEMORY_BYTES = 2**20
"""What is smaller needs no file; chosen here: some thousand records of examinations."""


class Spool(Generic[Value]):
    """Takes values one after another, and gives them back by their numbers.

    The file has no name that others could see, and is gone with the last object that reads it.
    """

    def __init__(self) -> None:
        self._file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115  (closed by __del__)
        self._ends = array("Q", [0])

    def __del__(self) -> None:
        self._file.close()

    def add(self, value: Value) -> int:
        """Keep a value that can be pickled; gives its number, from 0."""
        self._file.seek(self._ends[-1])
        self._ends.append(self._ends[-1] + self._file.write(zlib.compress(pickle.dumps(value), 1)))
        return len(self._ends) - 2

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
