"""One writer at a time in an output folder."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from fvv.errors import FvvError
from fvv.io.atomic import clear_remains
from fvv.names import plain

LOCK, SOFT_LOCK = ".fvv.lock", ".fvv.soft.lock"
"""A lock of the operating system, which ends with its process; or, on disks that have none (some network mounts), a
file whose being there is the lock, and that names the process and the machine that made it."""
_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_ATTEMPTS = 3
"""One file may vanish under the first attempt, as its owner ends; one that a killed process left is removed by it."""


@contextmanager
def only_writer(folder: Path, *, replaced: bool = False, clear: bool = True, patience_s: float = 0.0) -> Iterator[None]:
    """Hold a folder for this process, and clear what a killed one left half-written in it and in its subfolders.

    The hold ends with the process, however that ends. A subfolder that another process holds is left alone.

    Args:
        folder: made where it is not there.
        replaced: the folder itself will be replaced: the lock lies beside it.
        clear: clear what killed runs left; not where others, with locks of their own, may be writing below it.
        patience_s: how long to wait for another process to end.

    Raises:
        FvvError: another process holds it, or the folder cannot be written.
    """
    place = (folder.parent if replaced else folder).absolute()
    prefix = f".{folder.name}" if replaced else ""
    try:
        place.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + patience_s
        while (lock := _acquired(place, prefix)) is None and time.monotonic() < until:
            time.sleep(random.uniform(0.02, 0.2))  # noqa: S311  (not a secret)
    except OSError as error:
        where = folder if error.filename is None or LOCK in str(error.filename) else error.filename
        if isinstance(error, FileExistsError | NotADirectoryError):
            hint = "choose another output folder, or move it away"
            raise FvvError(
                "cannot write: expected a folder, found a file or a broken link", file=where, hint=hint
            ) from error
        raise FvvError(f"cannot write: {error.strerror or error}", file=where) from error
    if lock is None:
        raise FvvError("another fvv process is writing here", file=folder, hint=_how_to_go_on(place, prefix))
    try:
        if clear and replaced:
            clear_remains(place, {folder.name})
        elif clear:
            clear_folder(folder)
        yield
    finally:
        _release(lock)


def _acquired(place: Path, prefix: str) -> BaseFileLock | None:
    """The lock of a folder, or None where another process has it."""
    file = place / f"{prefix}{LOCK}"
    found = os.path.lexists(file)
    try:
        return _tried(FileLock(file, timeout=0, fallback_to_soft=False))
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
    if not found:
        file.unlink(missing_ok=True)
    return _tried(SoftFileLock(place / f"{prefix}{SOFT_LOCK}", timeout=0))


def _tried(lock: BaseFileLock) -> BaseFileLock | None:
    for _ in range(_ATTEMPTS):
        with suppress(Timeout):
            lock.acquire()
            return lock
    return None


def _release(lock: BaseFileLock) -> None:
    # Removed while held: who opened this file before cannot take it for a lock afterwards, since filelock looks whether
    # it still has a name. A soft lock removes its own.
    with suppress(OSError):
        if not isinstance(lock, SoftFileLock):
            Path(lock.lock_file).unlink()
    with suppress(OSError):
        lock.release()


def _how_to_go_on(place: Path, prefix: str) -> str:
    soft = place / f"{prefix}{SOFT_LOCK}"
    try:
        process, host = soft.read_text(encoding="utf-8").splitlines()[:2]
    except (OSError, ValueError):
        return "wait until it ends"
    return plain(f"wait until process {process} on {host} ends; if it runs no more, remove {soft}")


def clear_folder(folder: Path) -> None:
    """Clear what killed runs left half-written in a folder and in those folders directly below it that nobody holds."""
    clear_remains(folder)
    for item in folder.iterdir():
        with suppress(OSError):
            if item.is_dir() and not item.is_symlink():
                if not any(os.path.lexists(item / name) for name in (LOCK, SOFT_LOCK)):
                    clear_remains(item)
                elif lock := _acquired(item, ""):  # A killed process left it.
                    clear_remains(item)
                    _release(lock)
