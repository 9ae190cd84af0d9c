"""The shards of a run, joined: the tables that a run in one piece writes, and what is still missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fvv.cohort.participants import PARTICIPANTS_FILE
from fvv.data import Failure
from fvv.errors import FvvError, InputError
from fvv.io.lock import only_writer
from fvv.io.ownership import claim
from fvv.io.results_folder import StoredResult, claim_tables, read_result, remove_decisions
from fvv.io.shards import read_shards
from fvv.io.tables import failure_of
from fvv.recipes.cohort_tables import write_cohort
from fvv.schemas.run import RunRecord
from fvv.simulator.files import write_cohort_table
from fvv.system.parallel import track
from fvv.system.shard import Shard


@dataclass(frozen=True, slots=True)
class GatherResult:
    """What was joined.

    Attributes:
        failures: those that failed, and those that no shard has done.
        missing_shards: parts of the cohort that are not there, or have not ended.
    """

    output: Path
    examinations: int
    finished: int
    failures: tuple[Failure, ...]
    missing_shards: tuple[str, ...]

    def summary(self) -> str:
        """One line, and one for what is missing."""
        lines = [f"{self.finished} of {self.examinations} examinations finished -> {self.output}"]
        if self.missing_shards:
            lines.append(f"shards missing or not ended: {', '.join(self.missing_shards)}")
        return "\n".join(lines)


def gather(root: str | Path) -> GatherResult:
    """Join the shards of `predict` or `simulate` in a folder. Shards that come later are joined by another call.

    Raises:
        InputError: no shards there, or shards of different runs.
    """
    root = Path(root)
    with only_writer(root, clear=False):
        records = read_shards(root)
        failures = {failure.examination_id: failure for record in records for failure in record.failures}
        cohort, unfinished = records[0].cohort, _unfinished(records)
        lacking = set(cohort).difference(*(record.examinations for record in records))
        whose = {name: shard for shard in unfinished for name in shard.select(cohort)}
        for name in lacking:
            hint = f"give the command of shard {whose[name]} again" if name in whose else None
            failures[name] = failure_of(name, InputError("done by no shard yet", hint=hint))
        places = {name: place for record in records for name, place in record.results.items()}
        failures = {name: failure for name, failure in failures.items() if name not in places}
        join = _join_simulated if records[0].verb == "simulate" else _join_predicted
        finished = join(root, records, places, failures)
    missing = tuple(map(str, unfinished)) if lacking else ()
    return GatherResult(root, len(cohort), finished, _sorted(failures), missing)


def _join_predicted(root: Path, records: list[RunRecord], places: dict[str, str], failures: dict[str, Failure]) -> int:
    """Write the tables of a prediction; adds results that do not hold to the failures, gives how many do."""
    stored: list[StoredResult] = []
    names = [name for name in records[0].cohort if name in places]
    for name in track(names, "gather", len(names)):
        try:
            stored.append(read_result(root / places[name]).verify(records[0].made_from))
        except FvvError as error:
            failures[name] = failure_of(name, error)
    claim_tables(root)
    remove_decisions(root)
    whole = records[0].model_copy(update={"shard": None})
    results = {one.prediction.examination_id: places[one.prediction.examination_id] for one in stored}
    seconds = sum(record.seconds for record in records)
    write_cohort(root, stored, whole.finished(results, _sorted(failures), seconds))
    return len(stored)


def _join_simulated(root: Path, records: list[RunRecord], _: dict[str, str], failures: dict[str, Failure]) -> int:
    """Write the table of a simulated cohort; adds cases that cannot be read to the failures, gives how many can."""
    claim(root, [PARTICIPANTS_FILE])
    cases, damaged = write_cohort_table(root)
    there = {one.case.participant_id for one in cases}
    failures |= {failure.examination_id: failure for failure in damaged}
    return len(there & set(records[0].cohort))


def _sorted(failures: dict[str, Failure]) -> tuple[Failure, ...]:
    return tuple(failures[name] for name in sorted(failures))


def _unfinished(records: list[RunRecord]) -> list[Shard]:
    shards = [(record.shard, record.ended) for record in records if record.shard is not None]
    count = max(shard.count for shard, _ in shards)
    ended = {shard.index for shard, ended in shards if ended and shard.count == count}
    return [Shard(index, count) for index in range(1, count + 1) if index not in ended]
