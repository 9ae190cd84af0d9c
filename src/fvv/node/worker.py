"""A process that answers one study, on the path of `fvv predict`, and fills its outbox.

It ends when its standard input does, so that none outlives the node that started it. Memory that a study takes goes
with the process.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from fvv.config import PredictConfig
from fvv.data import DecisionState
from fvv.errors import FvvError, InputError, as_fvv_error
from fvv.io.atomic import atomic_write
from fvv.io.dicom.find import DicomFile, DicomReader
from fvv.io.dicom.reason import write_reason
from fvv.io.lock import only_writer
from fvv.io.result_files import DICOM_FILES, DICOM_FOLDER, DICOM_REPORT
from fvv.io.sealed import read_record, write_sealed
from fvv.node.spool import OUTBOX, RECORD, sync
from fvv.schemas.node import Outcome, StudyRecord
from fvv.stages.predict import predict
from fvv.system.cores import refuse_little_memory
from fvv.system.fingerprint import fingerprint
from fvv.system.terminal import set_up_logging

_PATIENCE_S = 30.0
"""For the worker of a node that was killed to end."""
_PARENT_GONE = 3


@dataclass(frozen=True, slots=True)
class Job:
    """What the node tells a worker.

    Attributes:
        folder: of the study.
        made_from: fingerprint of software, models and settings.
        report_unanswered: whether a study without an answer gets a report of the reason.
        instead: outcome and reason that stand without looking at the images; ("open", ""): look at them.
    """

    folder: Path
    models: Path
    config: PredictConfig
    made_from: str
    report_unanswered: bool
    instead: tuple[Outcome, str] = ("open", "")

    def to_json(self) -> bytes:
        """One line."""
        return TypeAdapter(Job).dump_json(self) + b"\n"


def answer(job: Job) -> StudyRecord:
    """Fill the outbox of a study, then write its record: with an outcome in it, the outbox is whole."""
    images = job.folder / job.folder.name
    objects = sorted(file.name for file in images.glob("*.dcm"))
    outcome, reason = job.instead
    files: Sequence[Path] = ()
    if outcome == "open":
        outcome, reason, files = _predicted(job, images)
    with atomic_write(job.folder / OUTBOX) as outbox:
        outbox.mkdir()
        for file in files if outcome == "answered" or job.report_unanswered else ():
            shutil.copyfile(file, outbox / file.name)
        if not files and (job.report_unanswered or outcome == "answered"):
            seed = fingerprint(objects=objects, made_from=job.made_from, outcome=outcome)
            headers = _one_of_each_series(images, objects)
            write_reason(outbox / DICOM_REPORT, headers, [reason or "no result could be written"], seed=seed)
        for place in (*outbox.iterdir(), outbox):
            sync(place)
    sync(job.folder)
    attempts = _attempts(job.folder)
    record = StudyRecord(
        outcome=outcome, reason=reason, attempts=attempts, objects=tuple(objects), made_from=job.made_from
    )
    write_sealed(job.folder / RECORD, record)
    return record


def _predicted(job: Job, images: Path) -> tuple[Outcome, str, Sequence[Path]]:
    """Outcome, reason and DICOM results; without results where none could be made."""
    output = job.folder / "results"
    config = job.config.model_copy(update={"overwrite": True})
    try:
        result = predict(images, job.models, output, config)
    except InputError as error:
        return "not readable", str(error).replace(str(job.folder), ""), ()
    if result.failures or len(result.predictions) != 1:
        reasons = [failure.reason.replace(str(job.folder), "") for failure in result.failures]
        return "not readable", "; ".join(reasons) or "several examinations in one study of one person", ()
    (prediction,) = result.predictions
    dicom = output / prediction.examination_id / DICOM_FOLDER
    files = [file for file in (dicom / name for name in DICOM_FILES) if file.is_file()]
    found, refused = prediction.decision.reasons, prediction.decision.state is DecisionState.NOT_ASSESSABLE
    # Of an answer whose results cannot be written the report says that alone: no volume beside "not assessable".
    stated = [finding.message for finding in found if refused or finding.code == "dicom-output"]
    said = "; ".join(stated).replace(str(job.folder), "")
    return ("not assessable", said, files) if refused else ("answered", "" if files else said, files)


def _one_of_each_series(images: Path, objects: Sequence[str]) -> list[Any]:
    """A header of each series; the report refers to these."""
    found: dict[str, Any] = {}
    with DicomReader() as reader:
        for name in objects:
            dataset = reader.read(DicomFile(images / name), pixels=False)
            found.setdefault(str(dataset.get("SeriesInstanceUID")), dataset)
    return list(found.values())


def _attempts(folder: Path) -> int:
    try:
        return read_record(folder / RECORD, StudyRecord).attempts
    except InputError:
        return 0


def _end_with_parent() -> None:
    # Not through `sys.stdin.buffer`: its lock, held here while this waits, ends Python with a fault at its normal end.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(_PARENT_GONE)


def main() -> int:
    """Answer the study that the first line of the standard input names."""
    set_up_logging(logging.INFO)
    refuse_little_memory()
    job = TypeAdapter(Job).validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with only_writer(job.folder / ".worker", patience_s=_PATIENCE_S):
            record = answer(job)
    except (FvvError, OSError, MemoryError) as error:
        sys.stderr.write(f"{as_fvv_error(error)}\n")
        return 1
    sys.stderr.write(f"{json.dumps({'outcome': record.outcome})}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
