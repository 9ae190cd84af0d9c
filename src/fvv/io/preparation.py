"""What one run of `prepare` did with each patient: kept between the shards of a cohort and the run that joins them."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from fvv.config import PrepareConfig
from fvv.data import Participant
from fvv.errors import FvvError, StoreError
from fvv.io.atomic import write_text
from fvv.io.shards import SHARDS_FOLDER, shard_place
from fvv.system.regular import read_regular_text
from fvv.system.shard import Shard

_REPORT = "report.json"
log = logging.getLogger(__name__)


class Outcome(BaseModel):
    """One patient.

    Attributes:
        participant: who it is.
        newly: prepared by this run, and not there before.
        reason: why it failed, or None.
        reachable: its files could be opened; one that fails because they could not stays as it was stored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    participant: Participant
    newly: bool = False
    reason: str | None = None
    reachable: bool = True


class ShardReport(BaseModel):
    """What a shard leaves for `gather_store`.

    Attributes:
        shard: as on the command line.
        config: its settings; those of all shards must be equal, but for the number of processes.
        prune: remove what the data set no longer holds.
        outcomes: one per patient of the shard.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    shard: str
    config: PrepareConfig
    prune: bool
    outcomes: tuple[Outcome, ...]

    def fits(self, other: ShardReport) -> bool:
        """Whether both are parts of one run."""
        one, two = (
            (Shard.parse(report.shard).count, report.prune, report.config.model_copy(update={"workers": 0}))
            for report in (self, other)
        )
        return one == two

    def write(self, store: Path) -> None:
        """Write it into the shard's place."""
        write_text(shard_place(store, Shard.parse(self.shard)) / _REPORT, self.model_dump_json(indent=1) + "\n")


def clear_misfits(store: Path, report: ShardReport) -> None:
    """Remove this shard's report of an earlier run, and those of shards that are no part of the same run."""
    for file in _files(store):
        earlier = _read(file)
        if earlier is None or earlier.shard == report.shard or not earlier.fits(report):
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
        report = _read(file)
        if report is None:
            hint = f"run `fvv prepare --shard {file.parent.name.replace('-of-', '/')}` again"
            raise StoreError("cannot be read", file=file, hint=hint)
        reports.append(report)
    if not all(report.fits(reports[0]) for report in reports):
        raise StoreError("the shards were prepared with different settings", file=store / SHARDS_FOLDER)
    count = Shard.parse(reports[0].shard).count
    missing = sorted(set(range(1, count + 1)) - {Shard.parse(report.shard).index for report in reports})
    if missing:
        names = ", ".join(f"{index}/{count}" for index in missing[:10])
        message = f"{len(missing)} of {count} shards are not finished: {names}"
        raise StoreError(message, file=store, hint="run them first")
    return reports


def forget_reports(store: Path) -> None:
    """Remove what shards left; their places stay, for their locks."""
    for file in _files(store):
        file.unlink(missing_ok=True)


def _files(store: Path) -> list[Path]:
    return sorted((store / SHARDS_FOLDER).glob(f"*-of-*/{_REPORT}"))


def _read(file: Path) -> ShardReport | None:
    try:
        report = ShardReport.model_validate_json(read_regular_text(file))
        fits = report.schema_version == 1 and Shard.parse(report.shard).file_part == file.parent.name
    except (FvvError, ValidationError) as error:
        log.debug("%s: %s", file, error)
        return None
    return report if fits else None
