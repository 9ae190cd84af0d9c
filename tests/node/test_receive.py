"""The storage service, spoken to over the loopback interface."""

from __future__ import annotations

import contextlib
import errno
import shutil
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import MRImageStorage, RawDataStorage
from pynetdicom.dsutils import encode

from dicom_builders import save_dicom
from fvv.config import ListenConfig
from fvv.errors import ConfigError
from fvv.node.receive import (
    CANNOT_UNDERSTAND,
    OUT_OF_RESOURCES,
    SUCCESS,
    Receiver,
)
from fvv.node.spool import RECEIVED, Spool
from fvv.node.tls import tls_context
from node_peers import Memory, RawPeer, associate, send


@contextmanager
def receiving(root: Path, **settings: Any) -> Iterator[tuple[Spool, int]]:
    config = ListenConfig(min_free_mb=0, **settings)
    spool = Spool(root / "spool")
    spool.open()
    # The settings have no port 0: the system chooses a free one.
    receiver = Receiver(spool, config.model_copy(update={"port": 0}), tls_context(config, server=True))
    try:
        yield spool, receiver.port
    finally:
        receiver.close()


def soon(check: Any) -> None:
    """The other end learns of what happened here a moment later."""
    until = time.monotonic() + 240
    while not check():
        assert time.monotonic() < until
        time.sleep(0.02)


def names(spool: Spool) -> list[int]:
    """Number of objects in each received study."""
    return sorted(len(list(spool.images(RECEIVED, study).iterdir())) for study in spool.studies(RECEIVED))


def test_echo(tmp_path: Path) -> None:
    with receiving(tmp_path) as (_, port):
        association = associate(port)
        assert association.send_c_echo().Status == SUCCESS
        association.release()


def test_what_is_confirmed_lies_on_disk_as_it_was_sent(tmp_path: Path, study: list[Path]) -> None:
    with receiving(tmp_path) as (spool, port):
        assert send(port, study) == [SUCCESS] * len(study)
        assert names(spool) == [len(study)]
        (name,) = spool.studies(RECEIVED)
        kept = {pydicom.dcmread(file).SOPInstanceUID: file for file in spool.images(RECEIVED, name).iterdir()}
        sent = pydicom.dcmread(study[0])
        assert pydicom.dcmread(kept[sent.SOPInstanceUID]).PixelData == sent.PixelData
        soon(lambda: not spool.is_cut_off(name))
    assert list((tmp_path / "spool" / "incoming").iterdir()) == []


def test_other_objects_of_a_study_are_accepted_and_left_alone(tmp_path: Path, study: list[Path]) -> None:
    dataset = pydicom.dcmread(study[0])
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"  # CT
    save_dicom(dataset, study[0])
    with receiving(tmp_path) as (spool, port):
        assert send(port, study[:1]) == [SUCCESS]
        assert names(spool) == []


def test_a_private_object_does_not_end_the_transfer(tmp_path: Path) -> None:
    from pynetdicom import AE  # noqa: PLC0415

    with receiving(tmp_path) as (spool, port):
        entity = AE()
        entity.add_requested_context("1.3.12.2.1107.5.9.1")
        association = entity.associate("127.0.0.1", port, ae_title="FVV")
        assert [context.abstract_syntax for context in association.accepted_contexts] == ["1.3.12.2.1107.5.9.1"]
        association.release()
        assert names(spool) == []


@pytest.mark.parametrize(("calling", "called"), [("STRANGER", "FVV"), ("SCANNER", "OTHER")])
def test_an_unknown_title_is_refused(tmp_path: Path, calling: str, called: str) -> None:
    with receiving(tmp_path, peers=("SCANNER",)) as (_, port):
        assert associate(port, calling="SCANNER").is_established
        association = associate(port, calling=calling, called=called)
        assert association.is_rejected


def test_titles_with_blanks(tmp_path: Path, study: list[Path]) -> None:
    """Those at the ends do not count (PS3.5 6.2); those inside do."""
    with receiving(tmp_path, aet="FVV 1", peers=("MR ROOM 2",)) as (_, port):
        assert send(port, study, calling="  MR ROOM 2  ", called="FVV 1 ") == [SUCCESS] * len(study)
        assert associate(port, calling="MR ROOM", called="FVV 1").is_rejected


def test_an_aborted_association_leaves_a_study_that_waits(tmp_path: Path, study: list[Path]) -> None:
    with receiving(tmp_path) as (spool, port):
        association = associate(port)
        assert association.send_c_store(pydicom.dcmread(study[0])).Status == SUCCESS
        association.abort()
        (name,) = spool.studies(RECEIVED)
        soon(lambda: spool.is_cut_off(name))
        assert send(port, study) == [SUCCESS] * len(study)
        soon(lambda: not spool.is_cut_off(name))
        assert names(spool) == [len(study)]


def test_a_truncated_object_is_refused_and_the_next_is_taken(tmp_path: Path, study: list[Path]) -> None:
    with receiving(tmp_path) as (spool, port):
        association = associate(port)
        dataset = pydicom.dcmread(study[0])
        dataset.PixelData = dataset.PixelData[:10]
        assert association.send_c_store(dataset).Status == CANNOT_UNDERSTAND
        assert association.send_c_store(pydicom.dcmread(study[1])).Status == SUCCESS
        association.release()
        assert names(spool) == [1]


def test_an_object_of_another_person_in_a_study_lies_apart(tmp_path: Path, study: list[Path]) -> None:
    dataset = pydicom.dcmread(study[0])
    dataset.PatientID, dataset.PatientName = "someone else", "someone^else"
    save_dicom(dataset, study[0])
    with receiving(tmp_path) as (spool, port):
        assert send(port, study) == [SUCCESS] * len(study)
        assert names(spool) == [1, len(study) - 1]


def test_a_full_disk_is_said_and_then_it_goes_on(
    tmp_path: Path, study: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving(tmp_path) as (spool, port):
        association = associate(port)

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("fvv.node.spool.os.fsync", full)
            assert association.send_c_store(pydicom.dcmread(study[0])).Status == OUT_OF_RESOURCES
        assert names(spool) == []
        assert association.send_c_store(pydicom.dcmread(study[0])).Status == SUCCESS
        association.release()
        assert names(spool) == [1]


def test_a_disk_that_is_nearly_full_is_not_filled(
    tmp_path: Path, study: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving(tmp_path) as (spool, port):
        usage = shutil._ntuple_diskusage(10, 10, -1)  # type: ignore[attr-defined]
        with monkeypatch.context() as patch:
            patch.setattr("fvv.node.receive.shutil.disk_usage", lambda _: usage)
            assert send(port, study[:1]) == [OUT_OF_RESOURCES]
        assert send(port, study[:1]) == [SUCCESS]
        assert names(spool) == [1]


def incoming(root: Path) -> list[Path]:
    return list((root / "spool" / "incoming").iterdir())


def test_a_disk_that_fills_up_within_an_object_refuses_this_one(
    tmp_path: Path, study: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    (tmp_path / "full").symlink_to("/dev/full")
    with receiving(tmp_path) as (spool, port):
        association = associate(port)
        with monkeypatch.context() as patch:
            patch.setattr(spool, "incoming", lambda: tmp_path / "full")
            assert association.send_c_store(pydicom.dcmread(study[0])).Status == OUT_OF_RESOURCES
        assert association.send_c_store(pydicom.dcmread(study[1])).Status == SUCCESS
        association.release()
        assert names(spool) == [1]
        assert incoming(tmp_path) == []


@pytest.mark.parametrize("sop_class", [MRImageStorage, RawDataStorage])
def test_an_object_beyond_the_bound_is_refused_alone_and_takes_no_memory(
    tmp_path: Path, study: list[Path], sop_class: str
) -> None:
    """What would be left alone anyway does no harm. Two gigabytes: tests/hospital."""
    with receiving(tmp_path, max_object_mb=1) as (spool, port):
        peer, memory = RawPeer(port, sop_class), Memory()
        status = peer.store(memory.over([bytes(2**19)] * 2**6))
        assert status == (CANNOT_UNDERSTAND if sop_class == MRImageStorage else SUCCESS)
        assert incoming(tmp_path) == []
        assert peer.store([study[0].read_bytes()]) == (CANNOT_UNDERSTAND if sop_class == MRImageStorage else SUCCESS)
        peer.close()
        assert send(port, study) == [SUCCESS] * len(study)
        assert names(spool) == [len(study)]
    assert memory.growth_mb < 24


def test_a_large_object_is_taken_without_being_held_in_memory(tmp_path: Path, study: list[Path]) -> None:
    dataset = pydicom.dcmread(study[0])
    dataset.Rows, dataset.Columns, dataset.PixelData = 2**12, 2**12 * 2, bytes(2**26)
    content = encode(dataset, False, True)
    assert content is not None
    del dataset
    with receiving(tmp_path) as (spool, port):
        peer, memory = RawPeer(port, MRImageStorage), Memory()
        parts = (content[start : start + 2**19] for start in range(0, len(content), 2**19))
        assert peer.store(memory.over(parts)) == SUCCESS
        (name,) = spool.studies(RECEIVED)
        (file,) = spool.images(RECEIVED, name).iterdir()
        assert memory.growth_mb < 32
        assert file.read_bytes().endswith(content)


def test_a_sender_that_does_not_wait_for_replies(tmp_path: Path, study: list[Path]) -> None:
    with receiving(tmp_path) as (spool, port):
        peer = RawPeer(port, MRImageStorage)
        for file in study:
            content = encode(pydicom.dcmread(file), False, True)
            assert content is not None
            peer.object([content[:100], content[100:]])
        assert [peer.status() for _ in study] == [SUCCESS] * len(study)
        assert names(spool) == [len(study)]
        assert incoming(tmp_path) == []
        peer.close()


def test_an_association_that_breaks_off_within_an_object_leaves_nothing(tmp_path: Path, study: list[Path]) -> None:
    with receiving(tmp_path) as (spool, port):
        peer = RawPeer(port, MRImageStorage)
        peer.begin()
        peer.part(bytes(2**16))
        soon(lambda: len(incoming(tmp_path)) == 1)
        peer.close()
        soon(lambda: incoming(tmp_path) == [])
        assert send(port, study[:1]) == [SUCCESS]
        assert names(spool) == [1]


def test_one_association_too_many_is_refused_and_finds_a_place_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fvv.node.receive.MOST_ASSOCIATIONS", 4)
    with receiving(tmp_path) as (_, port):
        peers = [RawPeer(port, MRImageStorage) for _ in range(4)]
        assert all(one.is_established for one in peers)
        assert not RawPeer(port, MRImageStorage).is_established
        for one in peers:
            one.close()
        soon(lambda: RawPeer(port, MRImageStorage).is_established)


@pytest.mark.parametrize("endless", ["unit", "command"])
def test_no_message_fills_the_memory(tmp_path: Path, study: list[Path], endless: str) -> None:
    """A unit of 4 GB is announced; a command never ends."""
    with receiving(tmp_path) as (_, port):
        peer, memory = RawPeer(port, MRImageStorage), Memory()
        with contextlib.suppress(OSError):
            if endless == "unit":
                peer.send(struct.pack(">BBL", 4, 0, 2**32 - 1))
            for part in memory.over([bytes(2**16)] * 2**10):
                peer.send(part) if endless == "unit" else peer.part(part, control=1)
        assert peer.is_closed
        assert memory.growth_mb < 32
        assert send(port, study[:1]) == [SUCCESS]


def test_noise_on_the_port_ends_nothing(tmp_path: Path, study: list[Path]) -> None:
    import socket  # noqa: PLC0415

    with receiving(tmp_path) as (_, port):
        with socket.create_connection(("127.0.0.1", port)) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
        assert send(port, study[:1]) == [SUCCESS]


def test_tls(tmp_path: Path, study: list[Path], certificates: Callable[[str], tuple[Path, Path]]) -> None:
    certificate, key = certificates("node")
    files = {"tls_certificate": str(certificate), "tls_key": str(key), "tls_authorities": str(certificate)}
    with receiving(tmp_path, **files) as (spool, port):
        plain = associate(port)
        assert not plain.is_established
        anybody = ssl.create_default_context(cafile=str(certificate))
        anybody.check_hostname = False
        with_certificate = ssl.create_default_context(cafile=str(certificate))
        with_certificate.check_hostname = False
        with_certificate.load_cert_chain(certificate, key)
        assert not associate(port, tls=(anybody, None)).is_established
        stranger = ssl.create_default_context(cafile=str(certificate))
        stranger.check_hostname = False
        stranger.load_cert_chain(*certificates("stranger"))
        assert not associate(port, tls=(stranger, None)).is_established
        assert send(port, study, tls=(with_certificate, None)) == [SUCCESS] * len(study)
        assert names(spool) == [len(study)]


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with receiving(tmp_path) as (spool, port), pytest.raises(ConfigError, match="cannot listen"):
        Receiver(spool, ListenConfig(port=port))


def test_a_missing_certificate_is_said() -> None:
    with pytest.raises(ConfigError, match="TLS cannot be set up"):
        tls_context(ListenConfig(tls_certificate="nowhere.pem"), server=True)


def test_no_identifier_is_logged(tmp_path: Path, study: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    dataset = pydicom.dcmread(study[0])
    dataset.PatientID = dataset.PatientName = "Secret^Person"
    del dataset.PixelData
    with receiving(tmp_path) as (_, port), caplog.at_level("DEBUG", logger="fvv"):
        association = associate(port)
        assert association.send_c_store(dataset).Status == CANNOT_UNDERSTAND
        association.release()
    assert "refused" in caplog.text
    assert "Secret" not in caplog.text
