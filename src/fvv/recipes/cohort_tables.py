"""The tables and the pages of a predicted cohort: the same from a run, and from shards that are joined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from fvv.analysis.prediction_pages import Entry, page_name, prediction_pages
from fvv.io.atomic import write_chunks
from fvv.io.ownership import claim, claimed
from fvv.io.result_files import PARQUET_FILE, REPORT_FILE, RESULTS_FILE
from fvv.io.results_folder import StoredResult, relative, write_results_table
from fvv.io.shards import write_run
from fvv.io.spool import Spooled
from fvv.io.tables import FAILURES_FILE, write_failures, write_parquet
from fvv.schemas.results import Answer
from fvv.schemas.run import RunRecord


def write_cohort(root: Path, stored: Sequence[StoredResult], record: RunRecord) -> None:
    """Write results.csv (and results.parquet), failures.csv, report.html and its further pages, and last run.json.

    Args:
        root: where to; claimed and held.
        stored: each finished examination, in the order of the tables; none is kept in memory.
        record: of the run; its failures are listed, and its options say whether a Parquet table is wanted.
    """
    write_results_table(root / RESULTS_FILE, (one.prediction for one in stored))
    if record.options.get("parquet"):
        write_parquet(root / PARQUET_FILE, (one.content.row() for one in stored), Answer.columns())
    elif PARQUET_FILE in claimed(root):  # Of an earlier run.
        (root / PARQUET_FILE).unlink(missing_ok=True)
    write_failures(root / FAILURES_FILE, record.failures)
    _write_pages(root, Spooled.of(_entry(root, one) for one in stored), record)
    write_run(root, record)


def _entry(root: Path, one: StoredResult) -> Entry:
    # As an address: a folder "a#1" or "javascript:1" is a folder.
    picture = quote(relative(one.picture, root)) if one.picture is not None and one.picture.is_file() else ""
    viewer = one.viewer if one.viewer is not None and one.viewer.is_file() else b""
    return Entry(one.prediction, one.content.about, one.content.lesions, viewer, picture)


def _write_pages(root: Path, entries: Sequence[Entry], record: RunRecord) -> None:
    written = set()
    for number, page in enumerate(prediction_pages(entries, record.failures, record.about), 1):
        name = page_name(number)
        if name != REPORT_FILE:
            claim(root, [name], stage="predict")
        write_chunks(root / name, page)
        written.add(name)
    for name in claimed(root) - written:  # Of an earlier, larger cohort.
        if name.startswith("report_") and name.endswith(".html"):
            (root / name).unlink(missing_ok=True)
