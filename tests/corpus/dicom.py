"""DICOM folders and zip files that are damaged, hostile or odd."""

from __future__ import annotations

import io
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom

from builders import head
from corpus.images import unmeasured
from corpus.registry import Place, Variant
from dicom_builders import write_series

Change = Callable[[Path], object]


def _series(folder: Path) -> None:
    """b0 and b1000 of one patient, 40 small files."""
    folder.mkdir(parents=True)
    images = head(np.random.default_rng(3))
    for number, (b_value, name) in enumerate(((0, "b0"), (1000, "b1000")), start=1):
        image = images[name][::-1, ::-1].astype(np.uint16)
        write_series(folder, image, b_value=b_value, vendor="standard", number=number, study="1.2.3")


def _zip(folder: Path, target: Path, names: Callable[[str], str] = str) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, names(file.name))


def _all(change: Callable[[pydicom.Dataset], object]) -> Change:
    def change_all(folder: Path) -> None:
        for file in sorted(folder.iterdir()):
            dataset = pydicom.dcmread(file)
            change(dataset)
            dataset.save_as(file)

    return change_all


def _cut(folder: Path) -> None:
    file = sorted(folder.iterdir())[3]
    file.write_bytes(file.read_bytes()[:-1000])


def _header_alone(folder: Path) -> None:
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:200])


def _one_lost(folder: Path) -> None:
    sorted(folder.iterdir())[4].unlink()


def _only_b0(folder: Path) -> None:
    for file in folder.glob("s002*"):
        file.unlink()


def _rows_of_thousands(dataset: pydicom.Dataset) -> None:
    dataset.Rows = dataset.Columns = 60_000


BROKEN: dict[str, tuple[Change, str]] = {
    "pixels-cut": (_cut, "n1"),
    "headers-alone": (_header_alone, "n1"),
    "slice-lost": (_one_lost, "n1"),
    "b1000-lost": (_only_b0, "n1"),
    "no-pixels": (_all(lambda d: d.pop("PixelData")), "n1"),
    "sixty-thousand-rows": (_all(_rows_of_thousands), "n1"),
    "no-position": (_all(lambda d: d.pop("ImagePositionPatient")), "n1"),
    "spacing-of-zero": (_all(lambda d: setattr(d, "PixelSpacing", [0, 0])), "n1"),
    "orientation-of-zeros": (_all(lambda d: setattr(d, "ImageOrientationPatient", [0] * 6)), "n1"),
}


def variants() -> Iterator[Variant]:
    """Folders, then zip files."""
    for name, (change, says) in BROKEN.items():
        yield Variant(f"predict-dicom-{name}", "predict", _folder(change), "failure", says, also=unmeasured)
    yield Variant("predict-zip-sound", "predict", _zipped(_zip), "success", "n1")
    yield Variant("predict-zip-paths-that-climb", "predict", _zipped(_climbing), "success", "n1", also=_nothing_outside)
    yield Variant("predict-zip-of-nothing", "predict", _zipped(_empty), "failure", "n1")
    yield Variant("predict-zip-cut", "predict", _zipped(_cut_zip), "failure", "n1")
    yield Variant("predict-zip-of-text", "predict", _zipped(_text), "failure", "n1")
    yield Variant("predict-zip-bomb", "predict", _zipped(_bomb), "failure", "n1")
    yield Variant("predict-zip-encrypted", "predict", _zipped(_encrypted), "failure", "n1")
    yield Variant("predict-zip-checksum-wrong", "predict", _zipped(_flipped), "failure", "n1")


def _folder(change: Change) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        shutil.rmtree(place.new / "n1")
        _series(place.new / "n1")
        change(place.new / "n1")
        return ["predict", str(place.new), "-m", str(place.models), "-o", str(place.out), "-f", "CPU"]

    return build


def _zipped(pack: Callable[[Path, Path], object]) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        shutil.rmtree(place.new / "n1")
        series = place.root / "series"
        _series(series)
        pack(series, place.new / "n1.zip")
        return ["predict", str(place.new), "-m", str(place.models), "-o", str(place.out), "-f", "CPU"]

    return build


def _climbing(folder: Path, target: Path) -> None:
    _zip(folder, target, lambda name: f"../../climbed/{name}")


def _nothing_outside(place: Place) -> None:
    assert not list(place.root.rglob("climbed"))
    assert not (place.root.parent / "climbed").exists()


def _empty(_: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w"):
        pass


def _cut_zip(folder: Path, target: Path) -> None:
    _zip(folder, target)
    target.write_bytes(target.read_bytes()[: target.stat().st_size // 2])


def _text(_: Path, target: Path) -> None:
    target.write_text("no zip file")


def _bomb(folder: Path, target: Path) -> None:
    """A file that begins as DICOM does and goes on for six gigabytes of zeros."""
    start = sorted(folder.iterdir())[0].read_bytes()
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.dcm", "w", force_zip64=True) as stream,
    ):
        stream.write(start)
        zeros = bytes(2**24)
        for _ in range(6 * 2**30 // len(zeros)):
            stream.write(zeros)


def _encrypted(folder: Path, target: Path) -> None:
    """Marked as encrypted, as a password would."""
    _zip(folder, target)
    data = bytearray(target.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            struct.pack_into("<H", data, at + offset, 1)
            at = data.find(mark, at + 4)
    target.write_bytes(bytes(data))


def _flipped(folder: Path, target: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    data = bytearray(stream.getvalue())
    data[len(data) // 2] ^= 8
    target.write_bytes(bytes(data))
