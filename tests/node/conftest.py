"""These tests need the `dicom` extra."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
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
def certificates(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Makes a certificate for localhost and 127.0.0.1 that is its own authority; gives it and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")

    def make(name: str) -> tuple[Path, Path]:
        certificate, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        words += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)]
        subprocess.run(words, check=True, capture_output=True)
        return certificate, key

    return make


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[object]:
    """A destination that keeps what it is sent, by UID, and can be told to refuse."""
    from node_peers import Archive  # noqa: PLC0415

    made = Archive()
    yield made
    made.close()
