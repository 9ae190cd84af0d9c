"""What a process says on its standard streams, so that a listener who is gone or a full disk never ends the work."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from fvv.names import plain


class SafeStream:
    """A text stream that takes whatever it is given and raises nothing.

    Characters that its encoding lacks are written as their escapes. The first failure is kept; after it, what is
    written goes nowhere.

    Args:
        stream: the real one; None where the process has none.

    Attributes:
        error: why it could not be written to, or None. A reader who has gone (`| head`) is no error.
    """

    def __init__(self, stream: TextIO | None) -> None:
        # A name of its own: `__getattr__` must find it also while nothing else is there.
        self._stream = stream if stream is not None else open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        self.error: OSError | ValueError | None = None
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write text; returns its length."""
        try:
            self._stream.write(text)
        except (OSError, ValueError) as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError | ValueError) -> None:
        if self.error is None and not isinstance(error, BrokenPipeError):
            self.error = error
        # What is buffered would fail again, and be complained of, when the interpreter ends.
        with suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)


@contextmanager
def safe_streams() -> Iterator[SafeStream]:
    """Both standard streams as safe ones, for this process; gives the standard output."""
    before = sys.stdout, sys.stderr
    output = make_streams_safe()
    try:
        yield output
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def make_streams_safe() -> SafeStream:
    """The same for as long as the process lives; gives the standard output."""
    _open_missing_descriptors()
    output = SafeStream(sys.stdout)
    sys.stdout, sys.stderr = output, SafeStream(sys.stderr)
    return output


def _open_missing_descriptors() -> None:
    """Where a stream is closed, the next file that is opened takes its number, and what a library says goes into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # The lowest free number.


class LineFormatter(logging.Formatter):
    """One line of printable characters for each record; only a traceback has more."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line."""
        return plain(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        """The traceback, line by line."""
        return "\n".join(plain(line) for line in super().formatException(ei).split("\n"))


class LineHandler(logging.Handler):
    """Plain lines on whatever stderr is now: a progress bar redirects it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if sys.stderr is not None:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()


def set_up_logging(level: int) -> None:
    """Send this package's messages to stderr."""
    handler = LineHandler()
    handler.setFormatter(LineFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    package = logging.getLogger("fvv")
    package.handlers = [handler]
    package.propagate = False
    package.setLevel(level)
