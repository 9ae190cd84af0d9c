"""Inputs that contradict themselves: people under one number, files under another's name, settings said twice."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.uid import generate_uid

from builders import AFFINE, SHAPE, ellipsoid, save
from corpus.dicom import Change, _every, _folder, _zip, _zipped
from corpus.images import no_volume, unmeasured
from corpus.registry import Place, Variant


def _second(change: Callable[[pydicom.Dataset], object]) -> Change:
    """Each image once more with other values, changed."""

    def add(folder: Path) -> None:
        (folder / "second").mkdir()
        for file in sorted(folder.glob("*.dcm")):
            dataset = pydicom.dcmread(file)
            dataset.PixelData = (dataset.pixel_array // 2).astype(np.uint16).tobytes()
            change(dataset)
            dataset.save_as(folder / "second" / file.name)

    return add


def _new_uid(dataset: pydicom.Dataset) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()


def _set(keyword: str, value: str) -> Change:
    def change(file: Path) -> None:
        dataset = pydicom.dcmread(file)
        setattr(dataset, keyword, value)
        dataset.save_as(file)

    return _every(change)


PEOPLE: dict[str, tuple[Change, str]] = {
    "two-people-under-one-uid": (_second(lambda _: None), "under the same UID"),
    "two-people-under-one-number": (_second(_new_uid), "under the same number"),
    "another-date-of-birth": (_set("PatientBirthDate", "19010101"), "date of birth"),
    "another-maker": (_set("Manufacturer", "another"), "two scanners"),
    "serial-number-of-one": (_set("DeviceSerialNumber", "2"), ""),
}


def _zip_in_zip(folder: Path, target: Path) -> None:
    _zip(folder, folder / "inner.zip")
    _zip(folder, target)


def _one_name_twice(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    with zipfile.ZipFile(target, "a") as archive:
        archive.filelist.append(archive.filelist[0])
        archive._didModify = True  # type: ignore[attr-defined]


def _no_dicom(_: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("b0.nii.gz", b"no DICOM")


ZIPPED = {
    "in-zip": (_zip_in_zip, "another zip file"),
    "one-name-twice": (_one_name_twice, "two files named"),
    "without-dicom": (_no_dicom, "no slices of MR images"),
}
SUBJECTS = {
    "of-another-subject": ("sub-02", "sub-03", "lies in a folder"),
    "in-capitals": ("SUB-02", "SUB-02", "small letters"),
}
SETTINGS = {
    "key-twice": ("prepare: {kfolds: 3}\nprepare: {seed: 1}\n", "stands twice"),
    "truth-for-a-number": ("prepare: {kfolds: true}\n", "kfolds"),
    "sixties": ("prepare: {kfolds: 1:30}\n", "kfolds"),
}


def variants() -> Iterator[Variant]:
    """DICOM, zip files, BIDS, NIfTI, names, then settings."""
    for name, (change, says) in PEOPLE.items():
        outcome, also = ("failure", unmeasured) if says else ("success", None)
        yield Variant(f"predict-dicom-{name}", "predict", _folder(change), outcome, says, also=also)
    for name, (pack, says) in ZIPPED.items():
        yield Variant(f"predict-zip-{name}", "predict", _zipped(pack), "failure", says, also=unmeasured)
    yield Variant(
        "predict-bids-of-another-subject", "predict", _bids("sub-02", "sub-03"), "failure", "lies in a folder"
    )
    yield Variant("predict-bids-in-capitals", "predict", _bids("SUB-02", "SUB-02"), "failure", "small letters")
    yield Variant("predict-phantom", "predict", _phantom, "not assessable", "a phantom?", also=no_volume)
    yield Variant("predict-slice-copied", "predict", _copied, "warning", "neighbouring slices are one image")
    yield Variant("predict-named-as-a-table", "predict", _named_as_a_table, "error", "of the whole run")
    for name, (text, says) in SETTINGS.items():
        yield Variant(f"prepare-settings-{name}", "prepare", _settings(text), "error", says)
    yield Variant("prepare-persons-of-one-number", "prepare", _persons("1", "01"), "error", "the same number")
    yield Variant("prepare-persons-of-a-spreadsheet", "prepare", _persons("1.2E+05", "x"), "error", "lost its digits")
    yield Variant("predict-threads-without-end", "predict", _threads, "success", "2 patients")


def _predict(place: Place, *words: str) -> list[str]:
    return ["predict", str(place.new), "-m", str(place.models), "-o", str(place.out), "--device", "cpu", *words]


def _bids(folder: str, name: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        images = [np.asarray(nib.load(place.new / "n0" / f"{image}.nii.gz").dataobj) for image in ("b0", "b1000")]
        root = place.root / "bids"
        for where, stem in (("sub-01", "sub-01"), (folder, name)):
            save(root / where / "dwi" / f"{stem}_dwi.nii.gz", np.stack(images, axis=-1))
            (root / where / "dwi" / f"{stem}_dwi.bval").write_text("0 1000")
        return ["predict", str(root), "-m", str(place.models), "-o", str(place.out), "--device", "cpu"]

    return build


def _phantom(place: Place) -> list[str]:
    """Water in a bottle; noise, so that the grey levels are many."""
    rng = np.random.default_rng(1)
    bottle = ellipsoid(SHAPE, (31.5, 31.5, 4.5), (18.0, 20.0, 30.0))
    for name, level in (("b0", 1000.0), ("b1000", 130.0)):
        save(place.new / "n1" / f"{name}.nii.gz", np.where(bottle, level, 10.0) + rng.normal(0, 4, SHAPE), AFFINE)
        (place.new / "n1" / "mask.nii.gz").unlink(missing_ok=True)
    return _predict(place)


def _copied(place: Place) -> list[str]:
    for name in ("b0", "b1000"):
        array = np.asarray(nib.load(place.new / "n1" / f"{name}.nii.gz").dataobj).copy()
        array[..., 5] = array[..., 4]
        save(place.new / "n1" / f"{name}.nii.gz", array)
    return _predict(place)


def _named_as_a_table(place: Place) -> list[str]:
    (place.new / "n1").rename(place.new / "failures.csv")
    return _predict(place)


def _settings(text: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        (place.root / "settings.yaml").write_text(text)
        return ["prepare", "-i", str(place.cohort), "-o", str(place.out), "-c", "settings.yaml"]

    return build


def _persons(one: str, other: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        rows = [("p0", one), ("p1", other), ("p2", "y"), ("p3", "z")]
        table = "participant_id\tpatient_id\n" + "".join("\t".join(row) + "\n" for row in rows)
        (place.cohort / "participants.tsv").write_text(table)
        return ["prepare", "-i", str(place.cohort), "-o", str(place.out), "-k", "2", "--workers", "1"]

    return build


def _threads(place: Place) -> list[str]:
    return _predict(place, "--threads", "1000000", "--workers", "1000000")
