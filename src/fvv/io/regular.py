"""Reading what should be a small regular file: a pipe would hang for ever, a device or a huge file fill the memory."""

from __future__ import annotations

import stat
from pathlib import Path

from fvv.errors import InputError

MAX_TEXT_BYTES = 64 * 2**20
"""Of a table or a settings file; 100,000 examinations take a tenth of it."""


def refuse_irregular(path: Path) -> None:
    """Refuse what is not a regular file, following links; opens nothing.

    Raises:
        InputError: missing, a broken link, a folder, a pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        if path.is_symlink():
            hint = "fetch the file (for example `datalad get`), or mount the disk it is on"
            raise InputError(f"a broken link to {path.readlink()}", file=path, hint=hint) from error
        raise InputError("no such file", file=path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from error
    if not stat.S_ISREG(mode):
        raise InputError("expected a regular file, found a folder, a pipe or a device", file=path)


def read_regular_text(path: Path, *, encoding: str = "utf-8", most_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a regular file of bounded size.

    Raises:
        InputError: not a regular file, too large, unreadable, or not text in this encoding.
    """
    refuse_irregular(path)
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise InputError(f"holds {size} bytes, expected at most {most_bytes}", file=path)
        return path.read_text(encoding=encoding)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as {encoding} text: {error}", file=path) from error
