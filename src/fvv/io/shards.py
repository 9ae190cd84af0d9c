"""One run on several machines: each shard holds a place of its own in the output folder, and leaves a record there.

From the start of the first shard until they are gathered, a file says that the folder is not finished: the next stage
refuses it (`refuse_ungathered`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

from fvv.errors import FvvError, InputError, StoreError
from fvv.io.atomic import write_text
from fvv.io.lock import clear_folder, only_writer
from fvv.io.sealed import read_record, write_sealed
from fvv.names import first_few
from fvv.schemas.run import RunRecord
from fvv.schemas.store import ShardReport
from fvv.system.shard import Shard

RUN_FILE, REPORT_FILE = "run.json", "report.json"
"""Records of a shard: of `simulate`, `evaluate` and `predict`, and of `prepare`."""
SHARDS_FOLDER = ".fvv.shards"
UNGATHERED_FILE = "ungathered"
"""In that folder while shards are not gathered; holds the verb."""
PATIENCE_S = 60.0
"""A thousand shards that start at once take their turns."""


def shard_place(folder: Path, shard: Shard) -> Path:
    """The folder that belongs to one shard, with its lock and its record."""
    return folder / SHARDS_FOLDER / shard.file_part


def hold(folder: Path, shard: Shard | None) -> AbstractContextManager[None]:
    """Hold the place of one shard in a folder; or, for a run without shards, the folder against every other run."""
    if shard is None:
        return hold_with_shards(folder, clear=False)
    return only_writer(shard_place(folder, shard), clear=False)


def hold_for_a_moment(folder: Path, shard: Shard | None) -> AbstractContextManager[None]:
    """Hold what all shards share while one of them takes its names; a run without shards holds it already."""
    return nullcontext() if shard is None else only_writer(folder, clear=False, patience_s=PATIENCE_S)


@contextmanager
def hold_with_shards(folder: Path, *, clear: bool = True) -> Iterator[None]:
    """Hold a folder against every other run, shards included.

    Args:
        clear: clear what killed runs left half-written in it and in its subfolders.
    """
    with only_writer(folder, clear=False), ExitStack() as held:
        for place in _places(folder):
            held.enter_context(only_writer(place))
        if clear:
            clear_folder(folder)
        yield


def mark_ungathered(folder: Path, verb: str, shard: Shard) -> None:
    """Say that shards of this verb write here, before the first of them does. The caller holds the folder.

    Records of another number of shards are removed: with them, an examination would be in two shards.

    Raises:
        InputError: a shard of another number is running; then no record is removed.
    """
    others = [place for place in _places(folder) if not place.name.endswith(f"-of-{shard.count}")]
    for place in others:
        _refuse_running(place)
    for place in others:
        _clear_place(place)
    write_text(folder / SHARDS_FOLDER / UNGATHERED_FILE, f"{verb}\n")


@contextmanager
def finishing(folder: Path) -> Iterator[None]:
    """A run of the whole cohort, which holds the folder, writes its tables while this holds.

    The records of shards go before the first table, and the mark that they are not gathered goes after the last one. So
    a run killed in between leaves no records that could be gathered over its tables, and a folder that was not finished
    still says so.
    """
    for place in _places(folder):
        _clear_place(place)
    yield
    mark_gathered(folder)


def _places(folder: Path) -> list[Path]:
    return sorted((folder / SHARDS_FOLDER).glob("*-of-*"))


def _clear_place(place: Path) -> None:
    """The place itself stays, for its lock."""
    for name in (RUN_FILE, REPORT_FILE):
        (place / name).unlink(missing_ok=True)


def _refuse_running(place: Path) -> None:
    try:
        with only_writer(place, clear=False):
            pass
    except FvvError as error:
        other = place.name.replace("-of-", "/")
        hint = f"{error.hint or 'wait until it ends'}; or divide the cohort as it does (--shard {other})"
        raise InputError(f"shard {other} is running here", file=place.parent.parent, hint=hint) from error


def mark_gathered(folder: Path) -> None:
    """Say that the folder is finished: its shards are gathered, and their records stay for another time."""
    (folder / SHARDS_FOLDER / UNGATHERED_FILE).unlink(missing_ok=True)


def refuse_ungathered(folder: Path, verb: str) -> None:
    """Refuse a folder that shards of a verb have written and that is not gathered.

    Raises:
        InputError: so it is.
    """
    try:
        marked = (folder / SHARDS_FOLDER / UNGATHERED_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return
    if marked == verb:
        hint = "when all shards have ended, run `fvv gather` on this folder; or the command of the whole cohort again"
        raise InputError(f"shards of `fvv {verb}` are not gathered: not finished", file=folder, hint=hint)


def verb_of_shards(folder: Path) -> str:
    """Which verb's shards a folder holds.

    Raises:
        InputError: none are there.
    """
    if _reports(folder):
        return "prepare"
    return read_shards(folder)[0].verb


def write_run(folder: Path, record: RunRecord) -> None:
    """Write the record of a run, or of one shard into its place."""
    if record.shard is None:
        write_sealed(folder / RUN_FILE, record)
        return
    if not record.ended:
        with hold_for_a_moment(folder, record.shard):  # Others that start would seem to run the places they look at.
            mark_ungathered(folder, record.verb, record.shard)
    write_sealed(shard_place(folder, record.shard) / RUN_FILE, record)


def read_shards(folder: Path) -> list[RunRecord]:
    """Records of all shards in a folder, by number.

    Raises:
        InputError: there are none, one is damaged, or they are of different runs.
    """
    found: list[tuple[Shard, RunRecord]] = []
    for place in _places(folder):
        if not (place / RUN_FILE).exists():
            continue
        record = read_record(file := place / RUN_FILE, RunRecord)
        if (shard := record.shard) is None:
            raise InputError("not the record of a shard", file=file)
        if found and (cohort := found[0][1].cohort) == record.cohort:
            record = record.model_copy(update={"cohort": cohort})  # The names are in memory once, not for each shard.
        found.append((shard, record))
    if not found:
        hint = "run the shards first, with --shard 1/N and so on; or the command of the whole cohort"
        raise InputError("holds no shard of a run", file=folder, hint=hint)
    records = [record for _, record in sorted(found, key=lambda one: (one[0].count, one[0].index))]
    first = records[0]
    for record in records[1:]:
        differences = first.made_from.differences(record.made_from)
        if record.shard and first.shard and record.shard.count != first.shard.count:
            differences = (f"parts of {first.shard.count} and of {record.shard.count}",)
        if record.verb != first.verb:
            differences = (f"`fvv {first.verb}` and `fvv {record.verb}`",)
        if set(first.cohort) != set(record.cohort):
            differences = (*differences, "another cohort")
        if differences:
            message = f"shards {first.shard} and {record.shard} are of different runs: {' and '.join(differences)}"
            raise InputError(message, file=folder, hint="run the older one again, or choose another -o")
    return records


def refuse_unfinished(folder: Path, records: Sequence[RunRecord]) -> None:
    """Refuse shards that do not answer for the whole cohort yet.

    Raises:
        InputError: some are missing, are running, or were killed; it names them.
    """
    lacking = set(records[0].cohort).difference(*(record.examinations for record in records))
    if not lacking:
        return
    shards = [record.shard for record in records if record.shard is not None]
    count = max(shard.count for shard in shards)
    cohort, every = records[0].cohort, [Shard(index, count) for index in range(1, count + 1)]
    missing = [one for one in every if lacking.intersection(one.select(cohort))]
    raise InputError(
        f"{len(missing)} of {count} shards are missing or have not ended: {first_few(missing, 20)}; "
        f"{len(lacking)} of {len(cohort)} examinations are not done",
        file=folder,
        hint=f"give the command of each again, with --shard {missing[0]} and so on: it resumes",
    )


def write_report(store: Path, report: ShardReport) -> None:
    """Write what a shard of `prepare` did into its place."""
    write_sealed(shard_place(store, report.shard) / REPORT_FILE, report)


def clear_reports(store: Path, run: ShardReport) -> None:
    """Remove the reports of shards but those of other shards of this one's run."""
    for file in _reports(store):
        try:
            earlier = read_record(file, ShardReport)
        except FvvError:
            earlier = None
        if earlier is None or earlier.shard == run.shard or not earlier.of_one_run(run):
            file.unlink(missing_ok=True)


def read_reports(store: Path) -> list[ShardReport]:
    """The reports of all shards of one run of `prepare`."""
    reports = []
    for file in _reports(store):
        try:
            reports.append(read_record(file, ShardReport))
        except FvvError as error:
            hint = f"run `fvv prepare --shard {file.parent.name.replace('-of-', '/')}` again"
            raise StoreError(f"cannot be read: {error.message}", file=file, hint=hint) from error
    if not reports:
        raise StoreError("no shard has been prepared here", file=store, hint="run `fvv prepare --shard 1/N` first")
    if not all(report.of_one_run(reports[0]) for report in reports):
        message = "the shards are of different runs: other settings, or another cohort"
        raise StoreError(message, file=store / SHARDS_FOLDER, hint="run the older ones again")
    count, there = reports[0].shard.count, {report.shard.index for report in reports}
    if missing := [f"{index}/{count}" for index in range(1, count + 1) if index not in there]:
        message = f"{len(missing)} of {count} shards are not finished: {', '.join(missing[:10])}"
        raise StoreError(message, file=store, hint="run them first")
    return reports


def _reports(store: Path) -> list[Path]:
    return sorted((store / SHARDS_FOLDER).glob(f"*-of-*/{REPORT_FILE}"))
