"""The tables and the page of a predicted cohort: the same from a run, and from shards that are joined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fvv.analysis.report import MOST_PICTURES, prediction_page
from fvv.data import Prediction
from fvv.io.atomic import write_text
from fvv.io.result_files import REPORT_FILE, RESULTS_FILE
from fvv.io.results_folder import StoredResult, write_results_table
from fvv.io.shards import write_run
from fvv.io.tables import FAILURES_FILE, write_failures
from fvv.schemas.run import RunRecord


def write_cohort(root: Path, stored: Sequence[StoredResult], record: RunRecord) -> tuple[Prediction, ...]:
    """Write results.csv, failures.csv, report.html, and last run.json.

    Args:
        root: where to; claimed and held.
        stored: each finished examination, in the order of the tables.
        record: of the run; its failures are listed.

    Returns:
        The predictions, in the same order.
    """
    predictions = tuple(one.prediction for one in stored)
    write_results_table(root / RESULTS_FILE, predictions)
    write_failures(root / FAILURES_FILE, record.failures)
    pictures = {one.prediction.examination_id: one.picture for one in stored[:MOST_PICTURES]}
    shown = {name: path.read_bytes() for name, path in pictures.items() if path is not None and path.is_file()}
    page = prediction_page(predictions, record.failures, shown, record.about)
    write_text(root / REPORT_FILE, page)
    write_run(root, record)
    return predictions
