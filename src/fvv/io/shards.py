"""One run on several machines: each shard holds a place of its own in the output folder, and leaves a record there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

from fvv.errors import InputError
from fvv.io.lock import clear_folder, only_writer
from fvv.io.sealed import read_record, write_sealed
from fvv.schemas.run import RunRecord
from fvv.system.shard import Shard

RUN_FILE = "run.json"
SHARDS_FOLDER = ".fvv.shards"
PATIENCE_S = 60.0
"""A thousand shards that start at once take their turns."""


def shard_place(folder: Path, shard: Shard) -> Path:
    """The folder that belongs to one shard, with its lock and its record."""
    return folder / SHARDS_FOLDER / shard.file_part


def hold(folder: Path, shard: Shard | None) -> AbstractContextManager[None]:
    """Hold a folder for a run, or the place of one shard in it."""
    return only_writer(folder if shard is None else shard_place(folder, shard), clear=False)


def hold_for_a_moment(folder: Path, shard: Shard | None) -> AbstractContextManager[None]:
    """Hold what all shards share while one of them takes its names; a run without shards holds it already."""
    return nullcontext() if shard is None else only_writer(folder, clear=False, patience_s=PATIENCE_S)


@contextmanager
def hold_with_shards(folder: Path) -> Iterator[None]:
    """Hold a folder against every other run, shards included, and clear what killed runs left half-written.

    Raises:
        FvvError: another process writes there, or the folder cannot be written.
    """
    with only_writer(folder, clear=False), ExitStack() as held:
        for place in sorted(item for item in folder.glob(f"{SHARDS_FOLDER}/*") if item.is_dir()):
            held.enter_context(only_writer(place))
        clear_folder(folder)
        yield


def write_run(folder: Path, record: RunRecord) -> None:
    """Write the record of a run, or of one shard into its place."""
    place = folder if record.shard is None else shard_place(folder, record.shard)
    write_sealed(place / RUN_FILE, record)


def read_shards(folder: Path) -> list[RunRecord]:
    """Records of all shards in a folder, by number.

    Raises:
        InputError: there is none, one is damaged, or they are of different runs.
    """
    found: list[tuple[Shard, RunRecord]] = []
    for file in sorted(folder.glob(f"{SHARDS_FOLDER}/*/{RUN_FILE}")):
        record = read_record(file, RunRecord)
        if record.shard is None:
            raise InputError("not the record of a shard", file=file)
        found.append((record.shard, record))
    if not found:
        hint = "run the shards first, with --shard 1/N and so on"
        raise InputError("holds no shard of a run", file=folder, hint=hint)
    records = [record for _, record in sorted(found, key=lambda one: (one[0].count, one[0].index))]
    first = records[0]
    for record in records[1:]:
        differences = first.made_from.differences(record.made_from)
        if set(first.cohort) != set(record.cohort):
            differences = (*differences, "another cohort")
        if differences:
            message = f"shards {first.shard} and {record.shard} are of different runs: {' and '.join(differences)}"
            raise InputError(message, file=folder, hint="run the older one again, or choose another -o")
    return records
