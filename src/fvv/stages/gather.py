"""The shards of a run, joined: the tables that a run in one piece writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fvv.cohort.participants import PARTICIPANTS_FILE
from fvv.data import Failure
from fvv.errors import FvvError
from fvv.io.ownership import claim
from fvv.io.results_folder import StoredResult, claim_tables, read_result, remove_decisions
from fvv.io.shards import hold_with_shards, mark_gathered, read_shards, refuse_unfinished
from fvv.io.spool import Spool, Spooled
from fvv.io.tables import failure_of
from fvv.recipes.cohort_tables import write_cohort
from fvv.schemas.run import RunRecord
from fvv.simulator.files import write_cohort_table
from fvv.system.parallel import track


@dataclass(frozen=True, slots=True)
class GatherResult:
    """What was joined."""

    output: Path
    examinations: int
    finished: int
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """One line."""
        return f"{self.finished} of {self.examinations} examinations finished -> {self.output}"


def gather(root: str | Path) -> GatherResult:
    """Join the shards of `predict` or `simulate` in a folder; a second call does the same again.

    Raises:
        InputError: no shards there, shards of different runs, or shards that are missing or have not ended.
        FvvError: a shard is still running.
    """
    root = Path(root)
    with hold_with_shards(root, clear=False):
        records = read_shards(root)
        refuse_unfinished(root, records)
        places = {name: place for record in records for name, place in record.results.items()}
        failures = {failure.examination_id: failure for record in records for failure in record.failures}
        failures = {name: failure for name, failure in failures.items() if name not in places}
        join = _join_simulated if records[0].verb == "simulate" else _join_predicted
        finished = join(root, records, places, failures)
        mark_gathered(root)
    return GatherResult(root, len(records[0].cohort), finished, _sorted(failures))


def _join_predicted(root: Path, records: list[RunRecord], places: dict[str, str], failures: dict[str, Failure]) -> int:
    """Write the tables of a prediction; adds results that do not hold to the failures, gives how many do."""
    spool: Spool[StoredResult] = Spool()
    results = {}
    names = [name for name in records[0].cohort if name in places]
    for name in track(names, "gather", len(names)):
        try:
            result = read_result(root / places[name]).verify(records[0].made_from)
        except FvvError as error:
            failures[name] = failure_of(name, error)
        else:
            spool.add(result)
            results[name] = places[name]
    claim_tables(root, parquet=bool(records[0].options.get("parquet")))
    remove_decisions(root)
    whole = records[0].model_copy(update={"shard": None})
    seconds = sum(record.seconds for record in records)
    stored = Spooled(spool, range(len(results)))
    write_cohort(root, stored, whole.finished(results, _sorted(failures), seconds))
    return len(results)


def _join_simulated(root: Path, records: list[RunRecord], _: dict[str, str], failures: dict[str, Failure]) -> int:
    """Write the table of a simulated cohort; adds cases that cannot be read to the failures, gives how many can."""
    claim(root, [PARTICIPANTS_FILE])
    cases, damaged = write_cohort_table(root)
    there = {one.case.participant_id for one in cases}
    failures |= {failure.examination_id: failure for failure in damaged}
    return len(there & set(records[0].cohort))


def _sorted(failures: dict[str, Failure]) -> tuple[Failure, ...]:
    return tuple(failures[name] for name in sorted(failures))
