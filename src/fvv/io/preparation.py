"""The reports that shards of `prepare` leave in the store, until a run joins them."""

from __future__ import annotations

from pathlib import Path

from fvv.errors import FvvError, StoreError
from fvv.io.sealed import read_record, write_sealed
from fvv.io.shards import SHARDS_FOLDER, shard_place
from fvv.schemas.store import ShardReport
from fvv.system.shard import Shard

_REPORT = "report.json"


def write_report(store: Path, report: ShardReport) -> None:
    """Write the report of a shard into its place."""
    write_sealed(shard_place(store, Shard.parse(report.shard)) / _REPORT, report)


def clear_misfits(store: Path, report: ShardReport) -> None:
    """Remove this shard's report of an earlier run, and those of shards that are no part of the same run."""
    for file in _files(store):
        try:
            earlier = _read(file)
            stays = earlier.shard != report.shard and _of_one_run(earlier, report)
        except FvvError:
            stays = False
        if not stays:
            file.unlink(missing_ok=True)


def read_reports(store: Path) -> list[ShardReport]:
    """The reports of all shards of a run, whole and of one kind.

    Raises:
        StoreError: there is none, one is missing or damaged, or they differ in settings.
    """
    files = _files(store)
    if not files:
        raise StoreError("no shard has been prepared here", file=store, hint="run `fvv prepare --shard 1/N` first")
    reports = []
    for file in files:
        try:
            reports.append(_read(file))
        except FvvError as error:
            hint = f"run `fvv prepare --shard {file.parent.name.replace('-of-', '/')}` again"
            raise StoreError(f"cannot be read: {error.message}", file=file, hint=hint) from error
    if not all(_of_one_run(report, reports[0]) for report in reports):
        raise StoreError("the shards were prepared with different settings", file=store / SHARDS_FOLDER)
    count = Shard.parse(reports[0].shard).count
    missing = sorted(set(range(1, count + 1)) - {Shard.parse(report.shard).index for report in reports})
    if missing:
        names = ", ".join(f"{index}/{count}" for index in missing[:10])
        message = f"{len(missing)} of {count} shards are not finished: {names}"
        raise StoreError(message, file=store, hint="run them first")
    return reports


def has_reports(folder: Path) -> bool:
    """Whether shards of `prepare` have left reports in a folder."""
    return bool(_files(folder))


def forget_reports(store: Path) -> None:
    """Remove what shards left; their places stay, for their locks."""
    for file in _files(store):
        file.unlink(missing_ok=True)


def _files(store: Path) -> list[Path]:
    return sorted((store / SHARDS_FOLDER).glob(f"*-of-*/{_REPORT}"))


def _read(file: Path) -> ShardReport:
    report = read_record(file, ShardReport)
    if Shard.parse(report.shard).file_part != file.parent.name:
        raise StoreError(f"it is the report of shard {report.shard}", file=file)
    return report


def _of_one_run(one: ShardReport, two: ShardReport) -> bool:
    first, second = (
        (Shard.parse(report.shard).count, report.prune, report.config.model_copy(update={"workers": 0}))
        for report in (one, two)
    )
    return first == second
