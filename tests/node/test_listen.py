"""The whole node in this process, with real workers: what is sent comes back answered, once."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from builders import head, write_onnx
from dicom_builders import image, save_dicom, write_patient, write_series
from fvv.config import ListenConfig, PredictConfig, load_config
from fvv.errors import ConfigError, FvvError, InputError
from fvv.node import listen as listening
from fvv.node.listen import Node
from fvv.node.send import Pause
from fvv.node.spool import DONE, FAILED, RECEIVED, SENDING, STATES
from fvv.node.status import status
from node_peers import Archive, associate, send

PREDICT = PredictConfig(compute={"device": "cpu", "threads": 1})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_onnx(folder / "model1.onnx", whole_volume=False, biases=(1.5, -2.0, -3.0))
    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fvv.node.send.FIRST_PAUSE_S", 0.2)
    monkeypatch.setattr("fvv.node.send._LOOK_S", 0.05)
    monkeypatch.setattr("fvv.node.listen._TICK_S", 0.05)
    monkeypatch.setattr("fvv.node.listen._HEALTH_S", 0.1)


@contextmanager
def running(root: Path, models: Path, *send_to: str, **settings: Any) -> Iterator[tuple[Node, int]]:
    settings = {"quiet_s": 0.5, "min_free_mb": 0, **settings}
    config = ListenConfig(send_to=send_to, **settings).model_copy(update={"port": 0})
    node, there = Node(root, models, config, PREDICT), threading.Event()
    ports: list[int] = []
    real = listening.Receiver

    def kept(*about: Any) -> Any:
        receiver = real(*about)
        ports.append(receiver.port)
        there.set()
        return receiver

    listening.Receiver = kept  # type: ignore[assignment,misc]
    thread = threading.Thread(target=node.run, daemon=True)
    thread.start()
    try:
        assert there.wait(240)
        yield node, ports[0]
    finally:
        listening.Receiver = real  # type: ignore[misc]
        node.stop()
        thread.join(30)


def until(check: Any, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "too late"
        time.sleep(0.1)


def patient(folder: Path, rng: np.random.Generator, name: str, *, swapped: bool = False) -> list[Path]:
    images = {key: array[::-1, ::-1] for key, array in head(rng).items()}
    write_patient(folder, {"b0": images["b1000"], "b1000": images["b0"]} if swapped else images)
    files = sorted(folder.rglob("*.dcm"))
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.PatientID = name
        save_dicom(dataset, file)
    return files


def kinds(archive: Archive, person: str) -> Counter[str]:
    return Counter(one.Modality for one in archive.objects.values() if one.PatientID == person)


def text(report: Any) -> str:
    return " ".join(str(element.value) for element in report.iterall() if element.keyword == "TextValue")


def test_studies_come_back_answered_once(
    tmp_path: Path, rng: np.random.Generator, models: Path, archive: Archive
) -> None:
    sound = patient(tmp_path / "a", rng, "sound")
    refused = patient(tmp_path / "b", rng, "refused", swapped=True)
    write_series(tmp_path / "c", image(100), b_value=None, vendor="standard", number=1, study=generate_uid())
    silent = sorted((tmp_path / "c").rglob("*.dcm"))
    with running(tmp_path / "spool", models, archive.address) as (node, port):
        for files in (sound, refused, silent):
            assert set(send(port, files)) == {0}
        until(lambda: len(node.spool.studies(DONE)) == 3)
        assert kinds(archive, "sound") == {"SEG": 1, "SR": 1, "OT": 1}
        assert kinds(archive, "refused") == {"SR": 1, "OT": 1}
        assert kinds(archive, "id") == {"SR": 1}
        said = {one.PatientID: text(one) for one in archive.objects.values() if one.Modality == "SR"}
        assert "not assessable" in said["refused"]
        assert "no b0 among its series" in said["id"]
        assert str(tmp_path) not in "".join(said.values())
        studies = {one.PatientID: one.StudyInstanceUID for one in archive.objects.values()}
        assert studies["sound"] == pydicom.dcmread(sound[0]).StudyInstanceUID
        # Again: nothing is run, nothing is sent.
        for files in (sound, refused, silent):
            send(port, files)
        until(lambda: node.spool.studies(RECEIVED) == [])
        time.sleep(0.5)
        assert set(archive.times.values()) == {1}
        assert len(node.spool.studies(DONE)) == 3
        # The diffusion images of a study come when its results were sent: they are joined with what came before.
        for file in (late := patient(tmp_path / "d", rng, "id")):
            dataset = pydicom.dcmread(file)
            dataset.StudyInstanceUID = pydicom.dcmread(silent[0]).StudyInstanceUID
            save_dicom(dataset, file)
        send(port, late)
        until(lambda: kinds(archive, "id") == {"SEG": 1, "SR": 2, "OT": 1})
        until(lambda: len(node.spool.studies(DONE)) == 3)
        assert set(archive.times.values()) == {1}
    lines = status(tmp_path / "spool").summary()
    assert "done 3" in lines
    assert "pacs: takes results" in lines


STUB = """
import json, shutil, sys
from pathlib import Path
from fvv.io.sealed import write_sealed
from fvv.schemas.node import StudyRecord
job = json.loads(sys.stdin.readline())
folder = Path(job["folder"])
outcome, reason = job["instead"]
if outcome == "open" and "crash" in sys.argv:
    sys.exit(1)
objects = sorted(file.name for file in (folder / folder.name).iterdir())
(folder / "outbox").mkdir(exist_ok=True)
shutil.copy(folder / folder.name / objects[0], folder / "outbox" / "result.dcm")
outcome = "answered" if outcome == "open" else outcome
record = StudyRecord(outcome=outcome, reason=reason, objects=objects, made_from=job["made_from"])
write_sealed(folder / "record.json", record)
"""
"""A worker that sends the first object back."""


@pytest.fixture
def _stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fvv.node.listen._WORKER", [sys.executable, "-c", STUB])


@pytest.fixture
def held_up(
    tmp_path: Path, study: list[Path], models: Path, archive: Archive, _stub: None
) -> Iterator[tuple[Node, str]]:
    """A node whose destination is down, and the study whose result waits for it."""
    archive.close()
    with running(tmp_path / "spool", models, archive.address) as (node, port):
        send(port, study)
        until(lambda: node.senders[0].health.failures > 1)
        (name,) = node.spool.studies(SENDING)
        yield node, name


def test_a_destination_that_is_down_gets_all_of_it_later(held_up: tuple[Node, str], archive: Archive) -> None:
    node, _ = held_up
    again = Archive(archive.port)
    try:
        again.status = 0xA700
        until(lambda: "0xA700" in node.senders[0].health.last_error)
        again.status = 0
        until(lambda: node.spool.studies(DONE) != [])
        assert list(again.times.values()) == [1]
        assert node.senders[0].health.failures == 0
    finally:
        again.close()


def test_a_result_that_a_loss_of_power_emptied_is_made_again(held_up: tuple[Node, str], archive: Archive) -> None:
    node, name = held_up
    (result,) = node.spool.outbox(name)
    result.write_bytes(b"")
    until(lambda: "is made again" in node.last_error)
    again = Archive(archive.port)
    try:
        until(lambda: node.spool.studies(DONE) != [])
        assert list(again.times.values()) == [1]
    finally:
        again.close()


@pytest.mark.usefixtures("_stub")
def test_an_image_that_comes_again_with_other_pixels_replaces_none(
    tmp_path: Path, study: list[Path], models: Path
) -> None:
    """The study is answered again, with both: the reader refuses two versions of one image."""
    with running(tmp_path / "spool", models) as (node, port):
        send(port, study)
        until(lambda: node.spool.studies(DONE) != [])
        (name,) = node.spool.studies(DONE)
        dataset = pydicom.dcmread(study[0])
        dataset.PixelData = dataset.PixelData[::-1]
        save_dicom(dataset, study[0])
        send(port, study[:1])
        until(lambda: len(node.spool.record(DONE, name).objects) == len(study) + 1)


@pytest.mark.usefixtures("_stub")
def test_a_result_that_nobody_takes_for_days_has_failed(tmp_path: Path, study: list[Path], models: Path) -> None:
    with running(tmp_path / "spool", models, "pacs=NOBODY@127.0.0.1:1", send_days=1e-5) as (node, port):
        send(port, study)
        until(lambda: node.spool.studies(FAILED) != [])
        assert "did not take its results in time" in node.last_error


@pytest.mark.usefixtures("_stub")
def test_a_cut_off_transfer_is_incomplete_until_it_is_repeated(
    tmp_path: Path, study: list[Path], models: Path, archive: Archive
) -> None:
    with running(tmp_path / "spool", models, archive.address, aborted_s=1.0) as (node, port):
        association = associate(port)
        for file in study:
            association.send_c_store(pydicom.dcmread(file))
        association.abort()
        until(lambda: node.spool.studies(DONE) != [])
        (name,) = node.spool.studies(DONE)
        assert node.spool.record(DONE, name).outcome == "incomplete"
        send(port, study)
        until(lambda: node.spool.record(DONE, name).outcome == "answered")


def test_a_study_that_ends_its_workers_fails_with_a_report(
    tmp_path: Path, study: list[Path], models: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fvv.node.listen._WORKER", [sys.executable, "-c", STUB, "crash"])
    with running(tmp_path / "spool", models, archive.address) as (node, port):
        send(port, study)
        until(lambda: node.spool.studies(FAILED) != [])
        (name,) = node.spool.studies(FAILED)
        assert node.spool.record(FAILED, name).outcome == "failed"
        assert len(archive.objects) == 1
        assert "worker ended with 1" in node.last_error


@pytest.mark.usefixtures("_stub")
@pytest.mark.parametrize(("setting", "state"), [("keep_days", DONE), ("keep_failed_days", FAILED)])
def test_studies_are_forgotten_in_time(
    tmp_path: Path, study: list[Path], models: Path, setting: str, state: str
) -> None:
    send_to = ("pacs=NOBODY@127.0.0.1:1",) if state == FAILED else ()
    with running(tmp_path / "spool", models, *send_to, send_days=1e-5) as (node, port):
        send(port, study)
        until(lambda: node.spool.studies(state) != [])
        node.config = node.config.model_copy(update={setting: 0.0})  # Its time comes once it has been seen.

        def is_forgotten() -> bool:
            node._clean_due = 0.0
            return not any(node.spool.studies(state) for state in STATES)

        until(is_forgotten)


@pytest.mark.usefixtures("_stub")
def test_a_pause_within_an_association_gives_no_answer_of_half_a_study(
    tmp_path: Path, study: list[Path], models: Path
) -> None:
    with running(tmp_path / "spool", models, quiet_s=0.2, silent_s=600.0) as (node, port):
        association = associate(port)
        for number, file in enumerate(study):
            assert association.send_c_store(pydicom.dcmread(file)).Status == 0
            if number == len(study) // 2:
                time.sleep(2)
                assert len(node.spool.studies(RECEIVED)) == 1
        # Its sender never ends it, and is silent for long enough.
        node.config = node.config.model_copy(update={"silent_s": 0.2})
        until(lambda: node.spool.studies(DONE) != [])
        (name,) = node.spool.studies(DONE)
        assert len(node.spool.record(DONE, name).objects) == len(study)
        assert association.is_established
        association.release()


@pytest.mark.parametrize("text", ["nonsense", "a=b@c", "a=b@c:0", "a=b@c:99999", "=b@c:1", "a=@c:1"])
def test_a_destination_that_is_none_is_told_its_form(text: str) -> None:
    with pytest.raises(ConfigError, match="expected NAME=AET@HOST:PORT, such as"):
        load_config(overrides={"listen.send_to": [text]})


def test_no_warning_of_a_library_with_the_value_of_an_element_reaches_the_log(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Node, "run", lambda _: warnings.warn("Invalid value for VR PN: 'Doe^Jane'", stacklevel=1))
    listening.listen(tmp_path / "spool", models, ListenConfig(), PREDICT)
    assert "Doe" not in capsys.readouterr().err
    assert warnings.filters[0][0] == "ignore"


def test_one_node_holds_a_spool(tmp_path: Path, models: Path) -> None:
    with running(tmp_path / "spool", models), pytest.raises(FvvError, match="another fvv process"):
        Node(tmp_path / "spool", models, ListenConfig(), PREDICT).run()


def test_there_is_no_status_without_a_spool(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no spool"):
        status(tmp_path)


def test_a_spool_of_another_user_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(InputError, match="only the user of the node"):
        status(tmp_path)


def test_pauses_grow_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fvv.node.send.FIRST_PAUSE_S", 5.0)
    pause = Pause()
    assert pause.over
    for wait_s in (5, 10, 20, 40, 80, 160, 320, 640, 900, 900):
        before = time.monotonic()
        pause.fail()
        assert before + wait_s <= pause.until <= time.monotonic() + wait_s
    assert not pause.over
