"""Writing so that a file is either whole or not there."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fvv.errors import FvvError, OutputExistsError


@contextmanager
def atomic_write(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Give a temporary path beside the target; rename it into place when the block ends without error.

    Args:
        path: file or folder to make; parents are created. The temporary path keeps its suffixes.
        overwrite: replace what is there; otherwise refuse.

    Raises:
        OutputExistsError: the target exists and overwrite is False.
        FvvError: the target cannot be written (permission, full disk).
    """
    if path.exists() and not overwrite:
        raise OutputExistsError("already there", file=path, hint="use --overwrite to replace it")
    temporary = path.with_name(f".partial-{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir():
            _replace_folder(temporary, path)
        else:
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
    except OSError as error:
        raise FvvError(f"cannot write: {error.strerror or error}", file=path) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):
                temporary.unlink()


def write_text(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Write UTF-8 text atomically."""
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes, *, overwrite: bool = True) -> None:
    """Write bytes atomically."""
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)


def clear_remains(folder: Path, name: str = "*") -> None:
    """Remove what killed runs left half-written in a folder; put back what they had moved aside and not replaced.

    Args:
        folder: that no other process writes in.
        name: of the target, or a pattern.
    """
    for remains in sorted(folder.glob(f".partial-????????-{name}")):
        if remains.is_dir() and not remains.is_symlink():
            shutil.rmtree(remains, ignore_errors=True)
        else:
            remains.unlink(missing_ok=True)
    for aside in sorted(folder.glob(f".replaced-????????-{name}")):
        target = aside.with_name(aside.name.removeprefix(".replaced-")[9:])
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(target)


def _replace_folder(temporary: Path, path: Path) -> None:
    # A folder cannot be renamed onto a full one: move the old one aside first.
    if path.exists():
        aside = path.with_name(f".replaced-{secrets.token_hex(4)}-{path.name}")
        path.rename(aside)
        temporary.rename(path)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        temporary.rename(path)
