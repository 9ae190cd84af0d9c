"""These tests need the `dicom` extra."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore_glob = [] if find_spec("pynetdicom") else ["test_*.py"]


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    """The objects of a small study: b0 and b1000 of four slices each."""
    from dicom_builders import write  # noqa: PLC0415

    write(tmp_path / "study", 100, 0)
    write(tmp_path / "study", 200, 1000)
    return sorted((tmp_path / "study").rglob("*.dcm"))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[object]:
    """A destination that keeps what it is sent, by UID, and can be told to refuse."""
    from node_peers import Archive  # noqa: PLC0415

    made = Archive()
    yield made
    made.close()
