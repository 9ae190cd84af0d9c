"""DICOM files that are damaged, or that would fill the memory: read, or refused in a sentence."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pydicom
import pytest

from dicom_builders import both, read_one, write, write_series
from fvv.errors import InputError

IMAGE_TYPE, ROWS, STUDY = b"\x08\x00\x08\x00CS", b"\x28\x00\x10\x00US", b"\x20\x00\x0d\x00UI"


@pytest.fixture
def series(tmp_path: Path) -> Path:
    for number, b_value in enumerate((0.0, 1000.0), start=1):
        image = np.full((8, 8, 2), 9, dtype=np.uint16)
        write_series(tmp_path / "in", image, b_value=b_value, vendor="standard", number=number, study="1.2.3")
    return tmp_path / "in"


def change(series: Path, old: bytes, new: bytes) -> None:
    for file in series.iterdir():
        data = file.read_bytes()
        assert data.count(old) == 1
        file.write_bytes(data.replace(old, new))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "type of an element unknown": lambda series: change(series, IMAGE_TYPE, IMAGE_TYPE[:4] + b"ZZ"),
    "number of a wrong length": lambda series: change(series, ROWS + b"\x02\x00", ROWS + b"\x01\x00"),
    "element of 64 kB in a file of 1": lambda series: change(series, STUDY + b"\x06\x00", STUDY + b"\xf0\xff"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_headers_are_refused(series: Path, damage: Callable[[Path], None]) -> None:
    damage(series)
    with pytest.raises(InputError, match="p"):
        read_one(series)


def test_an_element_of_gigabytes_takes_no_memory(series: Path) -> None:
    resource = pytest.importorskip("resource")
    for file in series.iterdir():
        data = bytearray(file.read_bytes())
        at = data.rfind(b"\xe0\x7f\x10\x00OW")  # Pixels come last, their length is 4 bytes.
        data[at + 8 : at + 12] = struct.pack("<I", 2**32 - 16)
        file.write_bytes(data)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**30, hard))
    try:
        case, _ = read_one(series)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert (case.b1000.array == 9).all()  # All of the pixels are there: the length alone is wrong.


def test_a_damaged_stream_in_a_zip_file_is_refused(series: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(series.iterdir()):
            archive.write(file, file.name)
        starts = [info.header_offset + 30 + len(info.filename) for info in archive.infolist()]
    data = bytearray(path.read_bytes())
    data[starts[1]] = 0xFF  # A block of a kind that there is not.
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a readable zip file"):
        read_one(path)


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("meta", [True, False])
def test_files_without_preamble(tmp_path: Path, *, implicit: bool, meta: bool) -> None:
    write(tmp_path / "in", 100, 0)
    write(tmp_path / "in", 200, 1000)
    for file in (tmp_path / "in").rglob("*.dcm"):
        dataset = pydicom.dcmread(file)
        stream = io.BytesIO()
        syntax = pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
        if meta:
            dataset.file_meta.TransferSyntaxUID = syntax
        else:
            del dataset.file_meta
        dataset.preamble = None
        pydicom.dcmwrite(stream, dataset, implicit_vr=implicit, little_endian=True)
        assert stream.getvalue()[128:132] != b"DICM"
        file.write_bytes(stream.getvalue())
    assert both(tmp_path / "in") == (100, 200)


def test_a_deflated_object_and_a_deflated_bomb(tmp_path: Path) -> None:
    write(tmp_path / "in", 100, 0)
    write(tmp_path / "in", 200, 1000)
    for file in (tmp_path / "in").rglob("*.dcm"):
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        pydicom.dcmwrite(file, dataset)
    assert both(tmp_path / "in") == (100, 200)
    one = sorted((tmp_path / "in").rglob("*.dcm"))[0]
    data = one.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    inside = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    parts = [deflate.compress(inside)] + [deflate.compress(bytes(2**24)) for _ in range(80)] + [deflate.flush()]
    one.write_bytes(data[:start] + b"".join(parts))
    assert one.stat().st_size < 3 * 2**20
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**28, hard))
    try:
        with pytest.raises(InputError, match="unpacks to more than"):
            read_one(tmp_path / "in")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
