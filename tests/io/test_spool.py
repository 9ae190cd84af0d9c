"""Values that wait in a temporary file."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest

from fvv.io.spool import Spool, Spooled


def test_values_come_back_as_they_were_in_any_order() -> None:
    spool: Spool[list[int]] = Spool()
    value = [0]
    for number in range(5):
        value[0] = number
        assert spool.add(value) == number
    chosen = Spooled(spool, [3, 1, 4])
    assert [*chosen] == [[3], [1], [4]]
    assert (len(chosen), chosen[1], chosen[-1], [*chosen[1:]]) == (3, [1], [4], [[1], [4]])
    assert spool.add([9]) == 5  # After a look at others.
    assert [spool.get(number) for number in (5, 0)] == [[9], [0]]


def test_what_does_not_fit_into_memory_goes_to_a_file_that_nobody_sees(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    arrays = [rng.integers(0, 256, 2**19).astype(np.uint8) for _ in range(5)]
    kept = Spooled.of(iter(arrays))
    assert all(map(np.array_equal, kept, arrays))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("room", [None, 0, 2**20 + 7, 2**21])
def test_without_room_in_the_temporary_folder_nothing_is_lost(
    room: int | None, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """None: the folder is not there. The disk takes what fits, as systems do."""

    class Disk(io.FileIO):
        def write(self, content: bytes) -> int:
            return super().write(content[: max(0, (room or 0) - self.tell())])

    if room is None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    else:
        monkeypatch.setattr("fvv.io.spool.TemporaryFile", lambda buffering: Disk(tmp_path / "file", "w+"))
    arrays = [rng.integers(0, 256, 2**19).astype(np.uint8) for _ in range(5)]
    kept = Spooled.of(iter(arrays))
    assert all(map(np.array_equal, kept, arrays))
    assert [record.message.partition(":")[0] for record in caplog.records] == ["results wait in memory"]


def test_no_value_is_no_error() -> None:
    assert [*Spooled.of(())] == []
