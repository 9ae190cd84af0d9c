"""Results on their way to destinations as they are: with warnings, with blanks in their titles, with certificates."""

from __future__ import annotations

import logging
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from fvv.config import ListenConfig
from fvv.node.send import Destination, Sender
from fvv.node.spool import OUTBOX, SENDING, Spool
from fvv.node.tls import tls_context
from node_peers import Archive


def waiting(root: Path, results: list[Path]) -> Spool:
    """A spool with one study whose results are to be sent."""
    spool = Spool(root)
    spool.open()
    outbox = spool.folder(SENDING, "s") / OUTBOX
    outbox.mkdir(parents=True)
    for file in results:
        shutil.copy(file, outbox / file.name)
    return spool


def sender(spool: Spool, config: ListenConfig) -> Sender:
    return Sender(spool, Destination.parse(config.send_to[0]), config.aet, tls_context(config, server=False))


def test_a_warning_of_the_destination_means_taken(
    tmp_path: Path, study: list[Path], archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    """0xB000: some elements were coerced (PS3.4, table B.2-1)."""
    archive.status = 0xB000
    one = sender(waiting(tmp_path, study[:1]), ListenConfig(send_to=(archive.address,)))
    with caplog.at_level(logging.INFO, logger="fvv"):
        one.look()
        one.look()
    assert one.has_all("s")
    assert list(archive.times.values()) == [1]
    assert one.health.failures == 0
    assert "0xB000" in caplog.text


def test_a_title_with_a_blank(tmp_path: Path, study: list[Path]) -> None:
    there = Archive(aet="THE ARCHIVE 1")
    one = sender(waiting(tmp_path, study[:1]), ListenConfig(aet="FVV 1", send_to=(there.address,)))
    one.look()
    there.close()
    assert one.has_all("s")


def test_results_go_to_no_destination_with_a_wrong_certificate(
    tmp_path: Path, study: list[Path], certificates: Callable[[str], tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fvv.node.send.FIRST_PAUSE_S", 0.0)
    right, wrong = certificates("right"), certificates("wrong")
    spool = waiting(tmp_path / "spool", study[:1])
    for (certificate, key), taken in ((wrong, False), (right, True)):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        there = Archive(tls=context)
        config = ListenConfig(send_to=(there.address,), send_tls=True, tls_authorities=str(right[0]))
        one = sender(spool, config)
        one.look()
        there.close()
        assert one.has_all("s") is taken
        assert ("certificate" in one.health.last_error) is not taken
