"""The tables of a predicted cohort: what they take of memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from fvv.data import Decision, DecisionState, Finding, Prediction, Severity
from fvv.io.results_folder import StoredResult, claim_tables
from fvv.io.spool import Spooled
from fvv.io.tables import read_table
from fvv.recipes.cohort_tables import write_cohort
from fvv.schemas.results import Answer, PatientResult
from fvv.schemas.run import MadeFrom, RunRecord

MOST_BYTES = 1500
"""Of memory for one more examination, chosen here: its names in the record of the run, as it is written. Its result
alone takes three times as much."""
MADE_FROM = MadeFrom(software="fvv", settings="s")


def results(root: Path, names: list[str]) -> Iterator[StoredResult]:
    remark = Finding("noise", f"{'a remark of some length ' * 4}", Severity.WARNING)
    for name in names:
        answer = Answer.of(Prediction(name, Decision(DecisionState.NOT_ASSESSABLE, 0.5, (remark,)), 1, 0.001))
        about = {"Voxels": "2 x 2 x 6 mm", "Models": "of a test"}
        content = PatientResult(**dict(answer), about=about, lesions=(), made_from=MADE_FROM, finished=True, files={})
        yield StoredResult(root / name / "results.json", content)


def most_memory(root: Path, n: int) -> int:
    """Bytes that the tables of so many examinations take at most."""
    names = [f"p{number:05d}" for number in range(n)]
    record = RunRecord(verb="predict", software="fvv", options={}, made_from=MADE_FROM, cohort=tuple(names))
    record = record.finished({name: f"{name}/results.json" for name in names}, (), 1.0)
    stored = Spooled.of(results(root, names))
    claim_tables(root, parquet=False)
    tracemalloc.start()
    try:
        write_cohort(root, stored, record)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_tables_of_a_larger_cohort_take_hardly_more_memory(tmp_path: Path) -> None:
    most_memory(tmp_path / "first", 100)  # Imports and templates.
    few, many = (most_memory(tmp_path / f"{n}", n) for n in (100, 300))
    assert (many - few) / 200 < MOST_BYTES
    assert len(read_table(tmp_path / "300" / "results.csv")) == 300
    assert (tmp_path / "300" / "report_8.html").exists()
