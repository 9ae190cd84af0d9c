"""One writer at a time in an output folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fvv.errors import FvvError
from fvv.io.atomic import clear_remains


@contextmanager
def only_writer(folder: Path, *, replaced: bool = False, clear: bool = True) -> Iterator[None]:
    """Hold a folder for this process, and clear what a killed one left half-written in it.

    The hold ends with the process, however that ends.

    Args:
        folder: made where it is not there.
        replaced: the folder itself will be replaced: the lock lies beside it.
        clear: False: other processes may be writing in it, under names or in subfolders that they hold.

    Raises:
        FvvError: another process holds it, or the folder cannot be written.
    """
    try:
        place = folder.parent if replaced else folder
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / (f".{folder.name}.fvv.lock" if replaced else ".fvv.lock"), timeout=0)
        lock.acquire()
    except Timeout as error:
        raise FvvError("another fvv process is writing here", file=folder, hint="wait until it ends") from error
    except OSError as error:
        raise FvvError(f"cannot write: {error.strerror or error}", file=folder) from error
    try:
        if not clear:
            pass
        elif replaced:
            clear_remains(place, folder.name)
        else:
            for held in (folder, *(item for item in folder.iterdir() if item.is_dir() and not item.is_symlink())):
                clear_remains(held)
        yield
    finally:
        lock.release()
