"""What lies in a folder; that of a cohort is listed once: a shared file system is slow at many thousands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_kept: ContextVar[dict[Path, list[os.DirEntry[str]] | None] | None] = ContextVar("kept", default=None)


@contextmanager
def listed_once(*folders: Path) -> Iterator[None]:
    """While this holds, `entries` lists each of these folders at most once."""
    token = _kept.set(dict.fromkeys(folders))
    try:
        yield
    finally:
        _kept.reset(token)


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name.

    Raises:
        OSError: it cannot be listed.
    """
    kept = _kept.get() or {}
    if (found := kept.get(folder)) is None:
        with os.scandir(folder) as items:
            found = sorted(items, key=lambda item: item.name)
        if folder in kept:
            kept[folder] = found
    return found


def paths(folder: Path) -> list[Path]:
    """`entries` as paths."""
    return [folder / item.name for item in entries(folder)]
