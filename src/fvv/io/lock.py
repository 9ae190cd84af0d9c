"""One writer at a time in an output folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fvv.errors import FvvError


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the hold ends with the process, however that ends.

    Raises:
        FvvError: another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".fvv.lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise FvvError("another fvv process is writing here", file=folder, hint="wait until it ends") from error
    except OSError as error:
        raise FvvError(f"cannot write: {error.strerror or error}", file=folder) from error
    try:
        yield
    finally:
        lock.release()
