"""DICOM images that came twice, or claim to be what they are not: copies count once, contradictions are refused."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom")

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_builders import read_one, write_series
from fvv.errors import InputError
from fvv.io.dicom.index import examinations_of, index_place
from fvv.io.inputs import find_examinations

Change = Callable[[Dataset], object]


def write(folder: Path, value: float, number: int = 1, change: Change | None = None, series: str = "7.7") -> None:
    """b0 and b1000 of constant slices."""
    for b_value, name in ((0, f"{series}.{number}"), (1000, f"{series}.{number + 1}")):
        image = np.full((8, 6, 4), value + b_value / 10) + np.arange(4)
        about = {"vendor": "siemens", "number": number, "study": "1.2.3", "series": name}
        write_series(folder, image, b_value=b_value, change=change, **about)  # type: ignore[arg-type]
        number += 1


def _one_uid(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = f"7.8.{dataset.SeriesNumber}.{dataset.InstanceNumber}"


def _send_again(folder: Path, target: Path, factor: float = 1.0, pattern: str = "*.dcm") -> None:
    """The same series under new SOPInstanceUIDs, as some archives send it."""
    target.mkdir(exist_ok=True)
    for file in sorted(folder.glob(pattern)):
        dataset = pydicom.dcmread(file)
        dataset.PixelData = (dataset.pixel_array * factor).astype(np.uint16).tobytes()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(target / f"again_{file.name}")


@pytest.mark.parametrize("change", [_one_uid, None], ids=["one UID", "one number"])
def test_two_people_under_the_same_uids_are_never_averaged_nor_dropped(tmp_path: Path, change: Change | None) -> None:
    write(tmp_path / "a", 100, change=change)
    write(tmp_path / "b", 300, change=change)
    with pytest.raises(InputError, match="not the image that"):
        read_one(tmp_path)


def test_a_series_sent_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path, 100)
    _send_again(tmp_path, tmp_path, pattern="s002*_00[01].dcm")
    case, _ = read_one(tmp_path)
    assert case.b1000.array.min() == 200
    assert not case.warnings
    assert "1 images a slice); b1000" in case.notes[0]


def test_other_versions_of_some_slices_are_said(tmp_path: Path) -> None:
    write(tmp_path, 100)
    _send_again(tmp_path, tmp_path, 1.5, "s002*_00[01].dcm")
    case, _ = read_one(tmp_path)
    assert [said.partition(":")[2][:27] for said in case.warnings] == [
        " the number of images a sli",
        " 2 different images of one ",
    ]


def test_another_date_of_birth_is_another_person(tmp_path: Path) -> None:
    write(tmp_path / "in", 100, change=lambda d: setattr(d, "PatientBirthDate", f"195{d.SeriesNumber}0101"))
    with pytest.raises(InputError, match="another date of birth"):
        read_one(tmp_path / "in")
    write(tmp_path / "derived", 100, change=lambda d: d.SeriesNumber == 2 and setattr(d, "PatientBirthDate", ""))
    read_one(tmp_path / "derived")


@pytest.mark.parametrize("keyword", ["Manufacturer", "DeviceSerialNumber"])
def test_b0_and_b1000_come_from_one_scanner(tmp_path: Path, keyword: str) -> None:
    write(tmp_path, 100, change=lambda d: setattr(d, keyword, f"maker{d.SeriesNumber} of scanners"))
    with pytest.raises(InputError, match="two scanners"):
        read_one(tmp_path)
    read_one(tmp_path, series=(1, 2))


def test_software_does_not_make_another_scanner(tmp_path: Path) -> None:
    write(
        tmp_path,
        100,
        change=lambda d: setattr(d, "Manufacturer", ("SIEMENS", "Siemens Healthineers")[d.SeriesNumber - 1]),
    )
    read_one(tmp_path)


def test_images_without_modality_are_known_by_their_class(tmp_path: Path) -> None:
    write(tmp_path, 100, change=lambda d: d.pop("Modality"))
    assert read_one(tmp_path)[0].b1000.array.min() == 200


def _zipped(folder: Path, target: Path, name: Callable[[Path], str]) -> None:
    with zipfile.ZipFile(target, "w") as archive, pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # Of the name that is there.
        for file in sorted(folder.rglob("*.*")):
            if file.is_file():
                archive.write(file, name(file))


def test_files_of_one_name_in_a_zip_file(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a", 100)
    write(tmp_path / "in" / "b", 300)
    _zipped(tmp_path / "in", tmp_path / "x.zip", lambda file: file.name)
    with pytest.raises(InputError, match="two files named"):
        read_one(tmp_path / "x.zip")


def test_zip_files_in_zip_files(tmp_path: Path) -> None:
    write(tmp_path / "in", 100)
    _zipped(tmp_path / "in", tmp_path / "inner.zip", lambda file: file.name)
    shutil.copy(tmp_path / "inner.zip", tmp_path / "in")
    _zipped(tmp_path / "in", tmp_path / "outer.zip", lambda file: file.name)
    with pytest.raises(InputError, match="another zip file"):
        read_one(tmp_path / "outer.zip")
    with zipfile.ZipFile(tmp_path / "in" / "inner.zip", "w") as viewer:
        viewer.writestr("viewer.js", "no images")
    _zipped(tmp_path / "in", tmp_path / "viewer.zip", lambda file: file.name)
    read_one(tmp_path / "viewer.zip")


def test_a_zip_file_without_images_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("b0.nii.gz", b"no DICOM")
    (one,) = find_examinations(tmp_path / "x.zip")
    (found,) = examinations_of(tmp_path / "x.zip", index_place(tmp_path / "x.zip"))
    assert found == one.dicom
    with pytest.raises(InputError, match="no slices of MR images"):
        read_one(tmp_path / "x.zip")


@pytest.mark.filterwarnings("ignore:The value length")
def test_a_long_description_is_shown_in_part(tmp_path: Path) -> None:
    write(tmp_path, 100, change=lambda d: d.__setattr__("SeriesDescription", "x" * 60 + "y" * 40))
    assert "yyyy..." in read_one(tmp_path)[0].notes[0]
