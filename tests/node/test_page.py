"""The page with the queue: for this machine alone, without a patient, whatever a destination replies."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fvv.errors import ConfigError
from fvv.node.objects import ObjectFacts
from fvv.node.page import Page, page_html
from fvv.node.spool import Spool
from fvv.node.status import health_of
from fvv.schemas.node import DestinationHealth


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """With one study of two objects."""
    made = Spool(tmp_path / "spool")
    made.open()
    for name in ("1", "2"):
        file = made.incoming()
        file.write_bytes(b"Doe^Jane")
        made.put(file, ObjectFacts("0123abcd", f"{name}.dcm", wanted=True), "a")
    return made


@pytest.fixture
def page(spool: Spool) -> Iterator[Page]:
    served = Page(0, spool, lambda: health_of(spool, "", {}))
    yield served
    served.close()


def test_it_shows_what_waits_and_escapes_what_others_say(spool: Spool) -> None:
    there = {"pacs": DestinationHealth(failures=3, last_error="<script>alert(1)</script>")}
    html = page_html(spool, health_of(spool, "study 0123abcd: failed", there))
    for text in ("0123abcd</code></td><td>received</td><td>2</td>", "3 failures", "study 0123abcd: failed"):
        assert text in html
    assert "<script" not in html
    assert "Doe" not in html


def test_it_is_served_to_this_machine_alone(page: Page) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{page.port}/", timeout=240) as reply:
        assert "0123abcd" in reply.read().decode()
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    foreign = urllib.request.Request(f"http://127.0.0.1:{page.port}/", headers={"Host": "evil.example"})
    for request in (foreign, f"http://127.0.0.1:{page.port}/../record.json"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(request, timeout=240)  # noqa: S310 - of this test


def test_a_port_in_use_is_said(page: Page, spool: Spool) -> None:
    with pytest.raises(ConfigError, match="no page on port"):
        Page(page.port, spool, lambda: health_of(spool, "", {}))
