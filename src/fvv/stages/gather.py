"""The shards of a run, joined: the tables that a run in one piece writes, and what is still missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fvv.cohort.participants import PARTICIPANTS_FILE
from fvv.data import Failure
from fvv.errors import FvvError, InputError
from fvv.io.lock import only_writer
from fvv.io.manifest import failure_of
from fvv.io.ownership import claim
from fvv.io.results import COHORT_FILES, StoredResult, read_result, remove_decisions
from fvv.io.run_record import RunRecord, read_shards
from fvv.recipes.cohort_tables import write_cohort
from fvv.simulator.files import write_cohort_table
from fvv.system.parallel import track


@dataclass(frozen=True, slots=True)
class GatherResult:
    """What was joined.

    Attributes:
        output: the folder.
        examinations: how many the whole cohort has.
        finished: how many are there.
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


def gather(root: Path) -> GatherResult:
    """Join the shards of `predict` or `simulate` in a folder. Shards that come later are joined by another call.

    Args:
        root: the folder that the shards wrote into.

    Raises:
        InputError: no shards there, or shards of different runs.
        FvvError: another process holds the folder.
    """
    with only_writer(root, clear=False):
        records = read_shards(root)
        _refuse_mixed(records, root)
        cohort = records[0].cohort
        missing = _missing(records, cohort)
        failures = {failure.patient: failure for record in records for failure in record.failures}
        failures |= {name: failure_of(name, InputError(reason)) for name, reason in missing.items()}
        places = {name: place for record in records for name, place in record.results.items()}
        failures = {name: failure for name, failure in failures.items() if name not in places}
        if records[0].description["verb"] == "simulate":
            finished, damaged = _join_simulated(root, cohort)
        else:
            finished, damaged = _join_predicted(root, records, places, failures)
    everything = sorted({**failures, **damaged}.values(), key=lambda failure: failure.patient)
    shards = _missing_shards(records) if missing else ()
    return GatherResult(root, len(cohort), finished, tuple(everything), shards)


def _join_predicted(
    root: Path, records: list[RunRecord], places: dict[str, str], failures: dict[str, Failure]
) -> tuple[int, dict[str, Failure]]:
    """Write the tables of a prediction; gives how many results hold, and those that do not."""
    stored: list[StoredResult] = []
    damaged: dict[str, Failure] = {}
    names = [name for name in records[0].cohort if name in places]
    for name in track(names, "gather", len(names)):
        try:
            result = read_result(root / places[name]).verify()
            if differences := result.made_from.differences(records[0].made_from):
                raise InputError(f"made from {' and '.join(differences)} than the shards", file=root / places[name])
            stored.append(result)
        except FvvError as error:
            damaged[name] = failure_of(name, error)
    record = replace(
        records[0],
        results={one.prediction.patient: places[one.prediction.patient] for one in stored},
        failures=tuple(sorted({**failures, **damaged}.values(), key=lambda failure: failure.patient)),
        seconds=sum(one.seconds for one in records),
        shard=None,
    )
    claim(root, COHORT_FILES, stage="predict")
    remove_decisions(root)
    write_cohort(root, stored, record)
    return len(stored), damaged


def _join_simulated(root: Path, cohort: tuple[str, ...]) -> tuple[int, dict[str, Failure]]:
    """Write the table of a simulated cohort; gives how many cases are there, and those that cannot be read."""
    claim(root, [PARTICIPANTS_FILE])
    cases, damaged = write_cohort_table(root)
    there = {one.case.participant_id for one in cases}
    return len(there & set(cohort)), {failure.patient: failure for failure in damaged}


def _refuse_mixed(records: list[RunRecord], root: Path) -> None:
    first = records[0]
    for record in records[1:]:
        differences = first.made_from.differences(record.made_from)
        if set(first.cohort) != set(record.cohort):
            differences = (*differences, "another cohort")
        if differences:
            message = f"shards {first.shard} and {record.shard} are of different runs: {' and '.join(differences)}"
            raise InputError(message, file=root, hint="run the older one again, or choose another -o")


def _missing(records: list[RunRecord], cohort: tuple[str, ...]) -> dict[str, str]:
    """Examinations that no shard has done, and which shard has not."""
    done = {name for record in records for name in record.examinations}
    lacking = sorted(set(cohort) - done)
    reasons = dict.fromkeys(lacking, "done by no shard yet")
    for record in records:
        if record.shard is not None and not record.ended:
            for name in set(record.shard.select(cohort)) & set(lacking):
                reasons[name] = f"shard {record.shard} has not ended: give its command again"
    return reasons


def _missing_shards(records: list[RunRecord]) -> tuple[str, ...]:
    count = max(record.shard.count for record in records if record.shard is not None)
    there = {record.shard.index for record in records if record.shard and record.shard.count == count and record.ended}
    return tuple(f"{index}/{count}" for index in range(1, count + 1) if index not in there)
