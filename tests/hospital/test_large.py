"""Two gigabytes in one object, and as many associations as there may be: their memory is bounded, and printed."""

from __future__ import annotations

import itertools
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from fvv.config import ListenConfig

if not find_spec("pynetdicom"):
    pytest.skip("needs the dicom extra", allow_module_level=True)

from pydicom.uid import MRImageStorage, RawDataStorage

from fvv.node.receive import CANNOT_UNDERSTAND, MOST_ASSOCIATIONS, SUCCESS, Receiver
from fvv.node.spool import Spool
from node_peers import Memory, RawPeer

pytestmark = pytest.mark.slow
PART = bytes(2**20 - 16)


def receiver(root: Path) -> Receiver:
    spool = Spool(root)
    spool.open()
    return Receiver(spool, ListenConfig(min_free_mb=0).model_copy(update={"port": 0}))


@pytest.mark.parametrize("sop_class", [MRImageStorage, RawDataStorage])
def test_an_object_of_two_gigabytes(tmp_path: Path, sop_class: str) -> None:
    """Refused where it is an image, accepted and left alone where it is none."""
    node = receiver(tmp_path)
    peer, memory, started = RawPeer(node.port, sop_class), Memory(), time.monotonic()
    status = peer.store(memory.over(itertools.repeat(PART, 2**11 + 1)))
    print(f"2 GB of {sop_class}: 0x{status:04X}, {memory.growth_mb:.0f} MB, {time.monotonic() - started:.0f} s")
    node.close()
    assert status == (CANNOT_UNDERSTAND if sop_class == MRImageStorage else SUCCESS)
    assert list((tmp_path / "incoming").iterdir()) == []
    assert memory.growth_mb < 64


def test_as_many_associations_as_there_may_be(tmp_path: Path) -> None:
    """Each has sent 8 MB of an object that does not end."""
    node = receiver(tmp_path)
    peers = [RawPeer(node.port, MRImageStorage) for _ in range(MOST_ASSOCIATIONS)]
    assert all(one.is_established for one in peers)
    memory = Memory()
    for peer in peers:
        peer.begin()
        for part in memory.over([PART] * 8):
            peer.part(part)
    until = time.monotonic() + 300
    while sum(file.stat().st_size for file in (tmp_path / "incoming").iterdir()) < MOST_ASSOCIATIONS * 8 * len(PART):
        assert time.monotonic() < until
        memory.look()
        time.sleep(0.1)
    print(f"{MOST_ASSOCIATIONS} associations with 8 MB each under way: {memory.growth_mb:.0f} MB")
    for peer in peers:
        peer.close()
    node.close()
    assert memory.growth_mb < 4 * MOST_ASSOCIATIONS
