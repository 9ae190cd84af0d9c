"""Several machines in one store: each shard holds a place of its own, the whole store is held by one alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fvv.errors import FvvError
from fvv.io.lock import clear_folder, only_writer
from fvv.system.shard import Shard

SHARDS_FOLDER = "shards"
PATIENCE_S = 60.0
"""How long a shard waits for others that are just beginning."""


@contextmanager
def whole_store(folder: Path) -> Iterator[None]:
    """Hold a store against every other run, shards included, and clear what killed runs left half-written.

    Raises:
        FvvError: another process writes there, or the folder cannot be written.
    """
    with only_writer(folder, clear=False), ExitStack() as held:
        for place in _places(folder):
            held.enter_context(only_writer(place))
        clear_folder(folder)
        yield


@contextmanager
def beginning(folder: Path) -> Iterator[None]:
    """Hold what all shards share, for a moment, waiting for other shards that do the same.

    Raises:
        FvvError: a run over the whole store, or something else, holds it for longer than `PATIENCE_S`.
    """
    until = time.monotonic() + PATIENCE_S
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(only_writer(folder, clear=False))
                break
            except FvvError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        yield


def shard_place(folder: Path, shard: Shard) -> Path:
    """The folder in a store that belongs to one shard, with its lock and its report."""
    return folder / SHARDS_FOLDER / shard.file_part


def _places(folder: Path) -> list[Path]:
    shards = folder / SHARDS_FOLDER
    return sorted(item for item in shards.iterdir() if item.is_dir()) if shards.is_dir() else []
