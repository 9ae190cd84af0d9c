"""What a worker leaves for sending, in this process; the node itself starts it as another."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from builders import head, write_onnx
from dicom_builders import image, say, write_patient, write_series
from fvv.config import PredictConfig
from fvv.errors import FvvError
from fvv.io.sealed import read_record
from fvv.node.worker import Job, answer
from fvv.schemas.node import StudyRecord

DCIODVFY = shutil.which("dciodvfy")


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    """A study without diffusion images, in the spool."""
    folder = tmp_path / "running" / "abc"
    for number in (1, 2):
        images = {"b_value": None, "vendor": "standard", "study": "1.2.3", "description": "T2"}
        write_series(folder / "abc", image(100), number=number, change=say(PatientID="id"), **images)
    return folder


def job(folder: Path, **changes: Any) -> Job:
    write_onnx(folder.parent / "models" / "model1.onnx", whole_volume=False)
    about = {"config": PredictConfig(compute={"device": "cpu"}), "made_from": "m", "report_unanswered": True, **changes}
    return Job(folder, folder.parent / "models", **about)


def test_no_diffusion_images_give_a_report_of_the_reason_and_no_volume(silent: Path) -> None:
    record = answer(job(silent))
    assert record.outcome == "not readable"
    assert "no b0 among its series" in record.reason
    assert len(record.objects) == 8
    (file,) = (silent / "outbox").iterdir()
    report = pydicom.dcmread(file)
    assert report.StudyInstanceUID == "1.2.3"
    assert report.PatientID == "id"
    items = {element.value for element in report.iterall() if element.keyword in {"TextValue", "CodeMeaning"}}
    assert "Not assessable" in items
    assert record.reason in items
    assert not any(element.keyword == "NumericValue" for element in report.iterall())
    assert read_record(silent / "record.json", StudyRecord) == record


def test_an_answer_that_cannot_be_written_as_dicom_is_reported_without_a_volume(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path, *_: Any, **__: Any) -> None:
        raise FvvError("no DICOM results could be made", file=folder)

    monkeypatch.setattr("fvv.io.dicom.write.write_dicom_results", refuse)
    folder = tmp_path / "running" / "abc"
    write_patient(folder / "received", {key: array[::-1, ::-1] for key, array in head(rng).items()})
    (folder / "abc").mkdir()
    for number, file in enumerate(sorted((folder / "received").rglob("*.dcm"))):
        file.rename(folder / "abc" / f"{number}.dcm")
    about = job(folder)
    write_onnx(about.models / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    record = answer(about)
    assert record.outcome == "answered"
    assert record.reason.startswith("DICOM results not written")
    (file,) = (folder / "outbox").iterdir()
    texts = [str(element.value) for element in pydicom.dcmread(file).iterall() if element.keyword == "TextValue"]
    assert not any(word in text for text in texts for word in (" mL", str(tmp_path)))


def test_the_same_study_gives_the_same_object_again_and_other_models_another(silent: Path) -> None:
    def uid(**changes: Any) -> str:
        answer(job(silent, **changes))
        (file,) = (silent / "outbox").iterdir()
        return str(pydicom.dcmread(file).SOPInstanceUID)

    assert uid() == uid()
    assert uid() != uid(made_from="other")
    assert uid() != uid(instead=("incomplete", "cut off"))


def test_reports_can_be_left_out(silent: Path) -> None:
    assert answer(job(silent, report_unanswered=False)).outcome == "not readable"
    assert list((silent / "outbox").iterdir()) == []


def test_what_stands_already_is_said_without_a_look_at_the_images(
    silent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fvv.node.worker.predict", None)
    record = answer(job(silent, instead=("incomplete", "the transfer was cut off")))
    assert (record.outcome, record.reason) == ("incomplete", "the transfer was cut off")
    assert len(list((silent / "outbox").iterdir())) == 1


def test_missing_models_are_no_fault_of_the_study(silent: Path) -> None:
    from fvv.errors import ModelError  # noqa: PLC0415

    asked = job(silent)
    shutil.rmtree(asked.models)
    with pytest.raises(ModelError):
        answer(asked)
    assert not (silent / "record.json").exists()


def test_a_worker_ends_with_its_node(silent: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "fvv.node.worker"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(job(silent).to_json())
    process.stdin.close()
    assert process.wait(600) in {0, 3}


def test_a_worker_ends_well_while_its_node_goes_on(silent: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "fvv.node.worker"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(job(silent).to_json())
        process.stdin.flush()
        assert process.wait(600) == 0
        assert b"Fatal" not in process.stderr.read()


@pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy is not here")
def test_dciodvfy_finds_no_error_in_a_report_of_a_reason(silent: Path) -> None:
    answer(job(silent))
    (file,) = (silent / "outbox").iterdir()
    said = subprocess.run([DCIODVFY, file], capture_output=True, text=True, check=False)
    errors = [line for line in f"{said.stdout}{said.stderr}".splitlines() if line.startswith("Error")]
    assert errors == []


def test_uids_are_unlike_those_of_another_study(tmp_path: Path, silent: Path) -> None:
    other = tmp_path / "running" / "def"
    write_series(other / "def", image(100), b_value=None, vendor="standard", number=1, study=generate_uid())
    answer(job(silent))
    answer(job(other))
    uids = {pydicom.dcmread(next((one / "outbox").iterdir())).SOPInstanceUID for one in (silent, other)}
    assert len(uids) == 2
