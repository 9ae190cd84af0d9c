"""DICOM folders and zip files that are damaged, hostile or odd."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom

import fvv.io.dicom.write  # noqa: F401 - loaded once, before a child gives up its rights
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


def _every(other: Change) -> Change:
    """Change the b1000 files alone."""

    def change(folder: Path) -> None:
        for file in sorted(folder.glob("s002*")):
            other(file)

    return change


def _of_another(file: Path) -> None:
    dataset = pydicom.dcmread(file)
    dataset.PatientID, dataset.StudyInstanceUID = "another", "1.2.4"
    dataset.save_as(file)


def _second_person(folder: Path) -> None:
    """Complete, in the same folder, with a directory file as a CD has it."""
    for number, file in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(file)
        dataset.PatientID, dataset.StudyInstanceUID = "another", "1.2.4"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.9.{number}"
        dataset.save_as(folder / f"other_{file.name}")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(100))


def _second_answer(place: Place) -> None:
    assert (place.out / "n1_2" / "results.json").exists()
    assert not (place.out / "n1").exists()


def _no_mark(folder: Path) -> None:
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[132:])


def _no_image_among_them(folder: Path) -> None:
    dataset = pydicom.dcmread(sorted(folder.iterdir())[0])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.9"
    del dataset.ImagePositionPatient
    dataset.save_as(folder / "screen.dcm")


def _another_shell(folder: Path) -> None:
    for number, file in enumerate(sorted(folder.glob("s002*"))):
        dataset = pydicom.dcmread(file)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.9.{number}"
        dataset.DiffusionBValue = 800.0
        dataset.save_as(folder / f"shell_{file.name}")


def _shell_of_1000(place: Place) -> None:
    assert "(b = 1000 s/mm^2, 10 slices, 1 images a slice)" in (place.out / "n1" / "results.json").read_text()


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe.dcm")


def _links_into_nowhere(folder: Path) -> None:
    for file in folder.glob("*_009.dcm"):  # The uppermost slices: nothing else shows that they are gone.
        file.unlink()
        file.symlink_to(folder / "annex" / file.name)


def _deflated_bomb(folder: Path) -> None:
    file = sorted(folder.iterdir())[0]
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(file)
    data = file.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    deflate = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    parts = [deflate.compress(zlib.decompress(data[start:], -zlib.MAX_WBITS))]
    parts += [deflate.compress(bytes(2**24)) for _ in range(6 * 2**30 // 2**24)]
    file.write_bytes(data[:start] + b"".join([*parts, deflate.flush()]))


def _anonymised(dataset: pydicom.Dataset) -> None:
    for keyword in ("PatientSex", "PatientBirthDate", "AccessionNumber", "StudyID", "FrameOfReferenceUID"):
        dataset.pop(keyword, None)


def _with_dicom(place: Place) -> None:
    assert len(list((place.out / "n1" / "dicom").glob("*.dcm"))) == 3


PEOPLE_AND_KINDS: dict[str, tuple[Change, str, str, Callable[[Place], None]]] = {
    "b0-of-another-person": (_every(_of_another), "failure", "never mixed", unmeasured),
    "two-people": (_second_person, "success", "n1_1", _second_answer),
    "no-preamble": (_no_mark, "success", "n1", _with_dicom),
    "screen-save": (_no_image_among_them, "success", "n1", _with_dicom),
    "shells-800-1000": (_another_shell, "success", "n1", _shell_of_1000),
    "anonymised": (_all(_anonymised), "success", "n1", _with_dicom),
    "pipe": (_pipe, "success", "n1", _with_dicom),
    "link-into-nowhere": (_links_into_nowhere, "failure", "a broken link", unmeasured),
    "deflated-bomb": (_deflated_bomb, "failure", "unpacks to more than", unmeasured),
}


def variants() -> Iterator[Variant]:
    """Folders, then zip files."""
    for name, (change, outcome, says, also) in PEOPLE_AND_KINDS.items():
        yield Variant(f"predict-dicom-{name}", "predict", _folder(change), outcome, says, also=also)
    for name, (change, says) in BROKEN.items():
        yield Variant(f"predict-dicom-{name}", "predict", _folder(change), "failure", says, also=unmeasured)
    locked = _folder(lambda folder: sorted(folder.iterdir())[-1].chmod(0))
    yield Variant(
        "predict-dicom-locked-image", "predict", locked, "failure", "permission", also=unmeasured, as_user=True
    )
    yield Variant("predict-zip-sound", "predict", _zipped(_zip), "success", "n1")
    yield Variant("predict-zip-paths-that-climb", "predict", _zipped(_climbing), "success", "n1", also=_nothing_outside)
    yield Variant("predict-zip-of-nothing", "predict", _zipped(_empty), "failure", "n1")
    yield Variant("predict-zip-cut", "predict", _zipped(_cut_zip), "failure", "n1")
    yield Variant("predict-zip-of-text", "predict", _zipped(_text), "failure", "n1")
    yield Variant("predict-zip-bomb", "predict", _zipped(_bomb), "failure", "n1")
    yield Variant("predict-zip-encrypted", "predict", _zipped(_encrypted), "failure", "n1")
    yield Variant("predict-zip-name-with-escape-code", "predict", _zipped(_forged_name), "failure", "rename it")
    yield Variant("predict-zip-checksum-wrong", "predict", _zipped(_flipped), "failure", "n1")


def _folder(change: Change) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        shutil.rmtree(place.new / "n1")
        _series(place.new / "n1")
        change(place.new / "n1")
        return ["predict", str(place.new), "-m", str(place.models), "-o", str(place.out), "--device", "cpu"]

    return build


def _zipped(pack: Callable[[Path, Path], object]) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        shutil.rmtree(place.new / "n1")
        series = place.root / "series"
        _series(series)
        pack(series, place.new / "n1.zip")
        return ["predict", str(place.new), "-m", str(place.models), "-o", str(place.out), "--device", "cpu"]

    return build


def _forged_name(folder: Path, target: Path) -> None:
    _zip(folder, target.with_name("n1\x1b[31m\n.zip"))


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
