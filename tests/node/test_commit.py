"""Storage commitment: what is on disk is said, on the association that its sender awaits it on."""

from __future__ import annotations

import queue
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, evt

from dicom_builders import write
from fvv.config import ListenConfig
from fvv.node.commit import PUSH_MODEL
from fvv.node.objects import facts_of
from fvv.node.receive import SUCCESS, Receiver
from fvv.node.spool import RECEIVED, Spool

INSTANCE = f"{PUSH_MODEL}.1"


class Asker:
    """A sender that asks for commitment, and keeps the reports."""

    def __init__(self) -> None:
        self.reports: queue.Queue[tuple[int, Dataset]] = queue.Queue()
        self.handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, self._taken)]
        self.association: Any = None

    def _taken(self, event: Any) -> tuple[int, None]:
        self.reports.put((event.event_type, event.event_information))
        return SUCCESS, None

    def send(self, port: int, files: list[Path], *, calling: str = "SCANNER") -> None:
        entity = AE(ae_title=calling)
        entity.requested_contexts = AllStoragePresentationContexts[:120]
        entity.add_requested_context("1.2.840.10008.5.1.4.1.1.4")
        entity.add_requested_context(PUSH_MODEL)
        self.association = entity.associate("127.0.0.1", port, ae_title="FVV", evt_handlers=self.handlers)
        for file in files:
            assert self.association.send_c_store(pydicom.dcmread(file)).Status == SUCCESS

    def ask(self, uids: list[str]) -> int:
        about = Dataset()
        about.TransactionUID, items = "1.2.3", []
        for uid in uids:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", uid
            items.append(item)
        about.ReferencedSOPSequence = items
        return self.say(about)

    def say(self, about: Dataset) -> int:
        status, _ = self.association.send_n_action(about, 1, PUSH_MODEL, INSTANCE)
        return int(status.Status)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[Spool, Any]]:
    """A spool, and a function that has a node listen for it and gives its port."""
    spool = Spool(tmp_path / "spool")
    spool.open()
    nodes: list[Receiver] = []

    def listen(*send_to: str) -> int:
        config = ListenConfig(min_free_mb=0, send_to=send_to).model_copy(update={"port": 0})
        nodes.append(Receiver(spool, config))
        return nodes[0].port

    yield spool, listen
    for node in nodes:
        node.close()


def uids(files: list[Path]) -> list[str]:
    return [str(pydicom.dcmread(file).SOPInstanceUID) for file in files]


def referenced(items: Any) -> list[str]:
    return [str(item.ReferencedSOPInstanceUID) for item in items]


@pytest.mark.parametrize("lost", [[], ["1.2.3.4"]])
def test_the_report_says_what_is_here_and_a_study_that_is_all_here_is_complete(
    tmp_path: Path, study: list[Path], listening: tuple[Spool, Any], lost: list[str]
) -> None:
    spool, listen = listening
    asker = Asker()
    asker.send(listen(), study)
    (name,) = spool.studies(RECEIVED)
    assert not spool.is_asked_for(name)
    assert asker.ask([*uids(study), *lost]) == SUCCESS
    assert spool.is_asked_for(name) is not bool(lost)  # An image is missing: its sender sends it again.
    kind, report = asker.reports.get(timeout=240)
    assert (kind, report.TransactionUID) == (2 if lost else 1, "1.2.3")
    assert referenced(report.ReferencedSOPSequence) == uids(study)
    failed = report.get("FailedSOPSequence") or []
    assert referenced(failed) == lost
    assert all(item.FailureReason == 0x0112 for item in failed)
    # A further object: it goes on.
    write(tmp_path / "more", 300, 1000)
    (more, *_) = sorted((tmp_path / "more").rglob("*.dcm"))
    assert asker.association.send_c_store(pydicom.dcmread(more)).Status == SUCCESS
    assert not spool.is_asked_for(name)
    asker.association.release()


def test_a_request_about_a_part_of_a_study_does_not_complete_it(tmp_path: Path, study: list[Path]) -> None:
    spool = Spool(tmp_path / "spool")
    spool.open()
    spool.begin("a")
    for file in study:
        incoming = spool.incoming()
        shutil.copyfile(file, incoming)
        spool.put(incoming, facts_of(incoming, ListenConfig()), "a")
    spool.end("a", well=False)
    (name,) = spool.studies(RECEIVED)
    every = uids(study)
    assert spool.commit(every[:4], every[:4]) == set(every[:4])
    assert not spool.is_asked_for(name)
    # A report that is no image was not kept; the images are all here, also where their sender aborted after the last.
    assert spool.commit([*every, "1.2.3"], every) == set(every)
    assert spool.is_asked_for(name)
    assert not spool.is_cut_off(name)


def test_a_sender_that_is_a_destination_gets_the_report_there(study: list[Path], listening: tuple[Spool, Any]) -> None:
    _, listen = listening
    asker, entity = Asker(), AE(ae_title="ARCHIVE")
    entity.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)
    there: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=asker.handlers)
    asker.send(listen(f"pacs=ARCHIVE@127.0.0.1:{there.socket.getsockname()[1]}"), study, calling="ARCHIVE")
    assert asker.ask(uids(study)) == SUCCESS
    asker.association.release()
    kind, _ = asker.reports.get(timeout=240)
    assert kind == 1
    there.shutdown()


def test_a_request_without_objects_is_refused(study: list[Path], listening: tuple[Spool, Any]) -> None:
    _, listen = listening
    asker, about = Asker(), Dataset()
    about.TransactionUID = generate_uid()
    asker.send(listen(), study[:1])
    assert asker.say(about) == 0x0115
    asker.association.release()
